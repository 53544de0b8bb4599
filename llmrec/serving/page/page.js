// The page at `/`: pick a user or items, see what is recommended and why. This file brings the parts together.

import { legend, lines } from "./answer.js";
import { ask, hasKey } from "./api.js";
import { byId, copy, count, element, plural, say } from "./dom.js";
import { Filters } from "./filters.js";
import { finder } from "./finder.js";
import { History } from "./history.js";
import { hideProblem, showProblem } from "./problem.js";
import { Query } from "./query.js";

const PAUSE = 200; // milliseconds after a change before the server is asked

let model = null; // the entry of /v1/models
const history = new History(taken), filters = new Filters(changed), query = new Query(changed);

const itemUrl = (id) => `v1/items/${encodeURIComponent(id)}`;
const searchUrl = (what, text) => `v1/${what}?${new URLSearchParams({ search: text, limit: 20 })}`;

// ---- what is asked

/** The route and its body: by the words where there are some, by the history otherwise. */
function request() {
  const k = byId("k").valueAsNumber, unseen = byId("exclude-seen").checked;
  const more = filters.any ? { filters: filters.condition() } : {};
  if (!query.text) {
    return ["v1/recommend", { history: history.ids, k, exclude_seen: unseen, ...more, explain: "scores" }];
  }
  const left = unseen && history.ids.length ? { exclude: history.ids } : {};
  return ["v1/search", { query: query.text, k, ...left, ...more }];
}

/** The same as a command for a shell; the key stays out of it. */
function command() {
  const [route, asked] = request();
  const body = JSON.stringify(asked).replaceAll("'", "'\\''");
  const key = hasKey() ? ' \\\n  -H "Authorization: Bearer $LLMREC_API_KEY"' : "";
  const url = new URL(route, document.baseURI);
  return `curl -s '${url}' \\\n  -H 'Content-Type: application/json'${key} \\\n  -d '${body}'`;
}

async function findItems(text, signal) {
  const { items } = await ask(searchUrl("items", text), { signal });
  const found = items.map((item) => ({ label: item.title || item.item_id, note: item.item_id, value: item }));
  const itself = { label: `Use \u201c${text}\u201d as an item id`, last: true, value: { item_id: text, title: null } };
  return text ? [...found, itself] : found;
}

async function addFound(item) {
  if (item.title !== null) return history.add(item);
  const known = await ask(itemUrl(item.item_id)).catch(() => ({})); // an unknown id is sent too, and then marked
  history.add({ ...item, title: known.title });
}

async function findUsers(text, signal) {
  const { users } = await ask(searchUrl("users", text), { signal });
  return users.map((user) => ({ label: user, value: user }));
}

async function takeUser(user) {
  try {
    const taken = await ask(`v1/users/${encodeURIComponent(user)}`);
    history.set(taken.history, `${plural(taken.history.length, "item")} of user ${user}`, user);
  } catch (failure) {
    showFailure(failure, () => takeUser(user));
  }
}

// ---- what comes back

let waiting = 0, running = null;

/** Whoever changes the history asks by it. */
function taken() {
  query.drop();
  changed();
}

function changed() {
  running?.abort();
  clearTimeout(waiting);
  hideProblem();
  byId("answer").ariaBusy = "true";
  byId("command").textContent = command();
  waiting = setTimeout(recommend, PAUSE);
}

async function recommend() {
  const mine = (running = new AbortController());
  hideProblem();
  byId("answer").ariaBusy = "true";
  if (!byId("k").checkValidity()) return showFailure(new Error(`Ask for 1 to ${count(model.max_k)} items.`), null);
  const started = performance.now();
  try {
    const [route, body] = request();
    const answer = await ask(route, { body, signal: mine.signal });
    showAnswer(answer, performance.now() - started);
  } catch (failure) {
    if (!mine.signal.aborted) showFailure(failure, recommend);
  }
}

function showAnswer(answer, milliseconds) {
  const { items, unknown_items: unknown, price } = answer;
  history.mark(unknown);
  byId("answer-title").textContent = query.text ? "Found" : "Recommendations";
  byId("about").replaceChildren(
    answer.exact
      ? fact("exact", "proven", "Proven: no other item scores higher than these")
      : fact("not proven", "open", "The search passed over beginnings of codes that might have led to a better item"),
    ...(price ? [fact(price, "", "The price that was read out of the request; no other item may come")] : []),
    fact(`catalog ${answer.catalog_version}`, "", "Version of the catalog that answered"),
    fact(`${count(Math.round(milliseconds))} ms`, "", "From the request to its answer, as this page saw it"),
  );
  byId("unknown").hidden = unknown.length === 0;
  byId("unknown").textContent = `Not in the catalog, and left out: ${unknown.join(", ")}`;
  byId("nothing").hidden = items.length > 0;
  byId("nothing").textContent = nothing(price);
  const act = { add: (item) => history.add(item), filter: (column, value) => filters.add(column, value) };
  byId("items").replaceChildren(...lines(answer, model.kind, more, act));
  byId("legend").hidden = items.length === 0;
  byId("legend").textContent = legend(items, model.kind, query.text ? "request" : "history");
  byId("answer").ariaBusy = "false";
  const noun = query.text ? "item" : "recommendation", said = [plural(items.length, noun), price];
  say([...said, answer.exact && "exact"].filter(Boolean).join(", "));
}

function nothing(price) {
  if (!filters.any && !price) return "No item is left to recommend.";
  return `No item passes ${[filters.any && "the filter", price].filter(Boolean).join(" and ")}.`;
}

function showFailure(failure, again) {
  byId("about").replaceChildren();
  byId("items").replaceChildren(); // what was recommended for another request must not stand under this one
  for (const id of ["unknown", "nothing", "legend"]) byId(id).hidden = true;
  byId("answer").ariaBusy = "false";
  showProblem(failure, again);
}

function fact(text, style = "", title = "") {
  const made = element("li", style, text);
  made.title = title;
  return made;
}

/** An item's columns, which are examples for the filter as well. */
async function more({ item_id: id }) {
  const { fields } = await ask(itemUrl(id));
  filters.learn(fields);
  return fields;
}

// ---- at the start

function showModel() {
  document.title = `${model.id} \u00b7 llmrec`;
  byId("model").textContent = model.id;
  const all = plural(model.items, "item");
  const items = model.in_stock < model.items ? `${count(model.in_stock)} of ${all} in stock` : all;
  byId("facts").replaceChildren(...[model.kind, model.engine, items].map((text) => fact(text)));
  byId("k").max = model.max_k;
  byId("k").value = Math.min(byId("k").valueAsNumber, model.max_k);
  history.limit = model.max_history;
}

function listen() {
  byId("clear").addEventListener("click", () => history.clear());
  byId("k").addEventListener("input", changed);
  byId("exclude-seen").addEventListener("change", changed);
  byId("copy-command").addEventListener("click", (event) => copy(command(), event.currentTarget));
  finder(byId("item"), byId("item-options"), "item", findItems, addFound);
  finder(byId("user"), byId("user-options"), "user", findUsers, takeUser);
  filters.offer(model.columns, more);
  if (model.searches) query.offer();
}

try {
  model = (await ask("v1/models")).data[0];
  byId("user-search").hidden = (await findUsers("")).length === 0;
  showModel();
  listen();
  changed();
} catch (failure) {
  showFailure(failure, () => location.reload());
}
