// A search field with a list of what the server found: the combobox pattern of WAI-ARIA, for mouse and keyboard.

import { element, plural, say } from "./dom.js";

const PAUSE = 180; // milliseconds without a key before the server is asked

/**
 * Let a field search.
 *
 * find(text, signal): a promise of options `{label, note, value, last}`; `last` is said apart, under the others.
 * choose(value): what happens with the chosen one; the field is empty again by then.
 */
export function finder(field, list, noun, find, choose) {
  let options = [], active = -1, waiting = 0, running = null;
  Object.entries({
    role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": list.id,
  }).forEach(([name, value]) => field.setAttribute(name, value));

  function close() {
    clearTimeout(waiting);
    running?.abort();
    list.hidden = true;
    options = [];
    field.setAttribute("aria-expanded", "false");
    field.removeAttribute("aria-activedescendant");
  }

  function open(...lines) {
    list.replaceChildren(...lines);
    list.hidden = lines.length === 0;
    list.scrollTop = 0;
    field.setAttribute("aria-expanded", String(!list.hidden));
  }

  function line(option, place) {
    const made = element("li", option.last ? "last" : "", element("span", "title", option.label));
    made.id = `${list.id}-${place}`;
    made.role = "option";
    if (option.note) made.append(element("span", "id", option.note));
    made.addEventListener("pointerdown", (event) => event.preventDefault()); // the field keeps the focus
    made.addEventListener("click", () => take(place));
    return made;
  }

  function mark(place) {
    active = place;
    [...list.children].forEach((option, other) => option.setAttribute("aria-selected", String(other === place)));
    if (place < 0) return field.removeAttribute("aria-activedescendant");
    field.setAttribute("aria-activedescendant", list.children[place].id);
    list.children[place].scrollIntoView({ block: "nearest" });
  }

  function take(place) {
    const { value } = options[place];
    close();
    field.value = "";
    choose(value);
  }

  async function search() {
    running?.abort();
    const mine = (running = new AbortController());
    const text = field.value.trim();
    try {
      const found = await find(text, mine.signal);
      if (mine.signal.aborted) return;
      options = found;
      if (options.length) open(...options.map(line));
      else open(element("li", "none", `No ${noun} found.`));
      mark(text && options.length && !options[0].last ? 0 : -1);
      say(plural(options.filter((option) => !option.last).length, noun));
    } catch (failure) {
      if (mine.signal.aborted) return;
      options = [];
      open(element("li", "none", failure.message));
      say(failure.message);
    }
  }

  function later(pause) {
    clearTimeout(waiting);
    waiting = setTimeout(search, pause);
  }

  field.addEventListener("input", () => later(PAUSE));
  field.addEventListener("click", () => list.hidden && later(0));
  field.addEventListener("blur", close);
  field.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden) return later(0);
      const step = event.key === "ArrowDown" ? 1 : -1;
      const places = options.length;
      if (places) mark(active < 0 && step < 0 ? places - 1 : (active + step + places) % places);
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (active >= 0 && options[active]) take(active);
    } else if (event.key === "Escape" && !list.hidden) {
      event.preventDefault();
      close();
    }
  });
}
