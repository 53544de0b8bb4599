// Small tools around the document. What comes from the server enters it as text only: `append` and `textContent` never
// read markup.

export const byId = (id) => document.getElementById(id);

/** A new element; strings among the content become text. */
export function element(kind, style, ...content) {
  const made = document.createElement(kind);
  if (style) made.className = style;
  made.append(...content);
  return made;
}

/** A button with an accessible name that may say more than what it shows. */
export function button(style, text, name, press) {
  const made = element("button", style, text);
  made.type = "button";
  if (name) made.ariaLabel = made.title = name;
  made.addEventListener("click", press);
  return made;
}

/** A bar filled to a share from 0 to 1; the number beside it is what a screen reader says. */
export function bar(style, share) {
  const made = element("span", `bar ${style}`, element("span"));
  made.ariaHidden = "true";
  made.firstChild.hidden = share <= 0;
  made.firstChild.style.width = `${(100 * Math.min(Math.max(share, 0), 1)).toFixed(2)}%`;
  return made;
}

export const count = (number) => number.toLocaleString("en");

export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

/** A number with a real minus sign. */
export const signed = (number, digits = 2) => number.toFixed(digits).replace("-", "\u2212");

/** 0.1234 as 12%; small ones keep two figures. */
export function percent(share) {
  const value = 100 * share;
  if (value >= 10 || value === 0) return `${value.toFixed(0)}%`;
  return value < 0.001 ? "<0.001%" : `${Number(value.toPrecision(2))}%`;
}

/** Said by screen readers, not shown. */
export function say(text) {
  byId("status").textContent = text;
}

/** Copy a text and let the button say so for a moment. */
export async function copy(text, from) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text); // there only on https and on this machine
  } catch {
    done = copySelected(text);
  }
  from.classList.toggle("copied", done);
  say(done ? `Copied ${text}` : "The browser does not let this page copy.");
  setTimeout(() => from.classList.remove("copied"), 1200);
}

function copySelected(text) {
  const field = element("textarea", "unseen", text);
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  return done;
}
