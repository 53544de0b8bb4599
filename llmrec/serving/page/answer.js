// What the server recommended: rank, title, bar and number, and behind each item why.

import { bar, button, copy, element, percent, plural, signed } from "./dom.js";

const IN_NATS = ["llm", "item_head"]; // kinds of recommenders whose scores are log-probabilities

/**
 * The list's lines, best first.
 *
 * answer: of /v1/recommend or /v1/search. kind: of the recommender.
 * more(item): a promise of the item's columns. act: `{add(item), filter(column, value)}`.
 */
export function lines(answer, kind, more, act) {
  const best = answer.items[0]?.score, logs = areLogs(answer.items);
  const share = (score) => (logs ? Math.exp(score - best) : score / best);
  return answer.items.map((item, place) => line(item, place, share(item.score), kind, more, act));
}

/** What bars and numbers mean; given: what the items fit. */
export function legend(items, kind, given) {
  const bars = areLogs(items) ? "probability" : "score";
  const numbers = IN_NATS.includes(kind) ? `log p(item | ${given}) in nats` : `score of the ${kind} recommender`;
  return `Bar: ${bars} beside the first. Number: ${numbers}. Press a title for ${given === "history" ? "why" : "more"}.`;
}

/** Log-probabilities are never above 0; counts are. */
const areLogs = (items) => items.every((item) => item.score <= 0);

function line(item, place, share, kind, more, act) {
  const made = element("li", "item"), why = element("div", "why");
  why.hidden = true;
  why.id = `why-${place}`;
  const title = button("title", item.title || item.item_id, "", async () => {
    const open = why.hidden;
    why.hidden = !open;
    title.ariaExpanded = String(open);
    made.classList.toggle("open", open);
    if (open && !why.hasChildNodes()) why.append(...reasons(item, kind, more, act));
  });
  title.ariaExpanded = "false";
  title.setAttribute("aria-controls", why.id);
  title.title = item.explanation ? "Why this item" : "More about this item";
  const id = button("id copy", item.item_id, `Copy the id ${item.item_id}`, () => copy(item.item_id, id));
  const relative = bar("score", share);
  relative.title = `${percent(share)} of the first`;
  const number = element("span", "number", signed(item.score));
  if (IN_NATS.includes(kind)) number.title = `probability ${percent(Math.exp(item.score))}`;
  const names = element("div", "names", title, id);
  made.append(element("div", "line", element("span", "rank", String(place + 1)), names, relative, number), why);
  return made;
}

function reasons(item, kind, more, act) {
  if (!item.explanation) return [details(item, more, act)]; // a search has none
  const { levels, nearest } = item.explanation;
  const parts = [];
  if (levels.length) parts.push(path(levels, item.score));
  else parts.push(element("p", "small", `A ${kind} recommender has no item codes, so there is no path to show.`));
  if (nearest.length) parts.push(neighbours(nearest, levels.length));
  parts.push(details(item, more, act));
  return parts;
}

/** The code, token by token, each with how sure the model was of it after those before. */
function path(levels, score) {
  const steps = levels.map(({ token, log_p: logP }) =>
    element(
      "li",
      "step",
      element("code", "", token),
      bar("p", Math.exp(logP)),
      element("span", "values", element("b", "", percent(Math.exp(logP))), element("span", "", signed(logP))),
    ),
  );
  const total = element("li", "step total", element("span", "", "together"));
  total.append(element("b", "", percent(Math.exp(score))), element("span", "", `${signed(score)} nats`));
  const list = element("ol", "path", ...steps, total);
  list.ariaLabel = "Code path: probability and log-probability of each level";
  return element("div", "", element("h4", "", "Code path"), list);
}

/** The items of the history that are most like this one. */
function neighbours(nearest, levels) {
  const list = element("ul", "nearest");
  for (const other of nearest) {
    const entry = element("li", "", element("span", "title", other.title || other.item_id));
    if (levels) entry.append(dots(other.shared_levels, levels));
    if (typeof other.similarity === "number") {
      entry.append(bar("alike", other.similarity), element("span", "number", signed(other.similarity)));
    }
    list.append(entry);
  }
  const key = levels ? "dots: levels that both codes begin with; bar: alike titles" : "bar: alike titles";
  return element("div", "", element("h4", "", "Nearest in the history", element("span", "key", key)), list);
}

function dots(shared, levels) {
  const made = element("span", "dots");
  for (let level = 0; level < levels; level++) made.append(element("i", level < shared ? "on" : ""));
  made.role = "img";
  made.ariaLabel = made.title = `${shared} of ${plural(levels, "level")} shared`;
  return made;
}

/** The item's columns, each value a button that filters by it. */
function details(item, more, act) {
  const fields = element("div", "chips"), place = element("div", "", element("h4", "", "About the item"), fields);
  const add = button("", "Add to the history", `Add ${item.title} to the history`, () => act.add(item));
  place.append(element("div", "buttons", add));
  more(item).then(
    (columns) => fields.append(...chips(columns, act)),
    (failure) => fields.append(element("p", "small", failure.message)),
  );
  return place;
}

function chips(columns, act) {
  const made = [];
  for (const [column, values] of Object.entries(columns)) {
    if (column === "title" || column === "item_id") continue;
    for (const value of [values].flat()) {
      if (value === null || value === "" || typeof value === "object") continue;
      const press = () => act.filter(column, value);
      const chip = button("chip", "", `Only items with ${column} = ${value}`, press);
      chip.append(element("span", "soft", column), ` ${value}`);
      made.push(chip);
    }
  }
  return made;
}
