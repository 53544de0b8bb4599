// Which items may come: `column = value`, several values of a column meaning any of them.

import { ask } from "./api.js";
import { button, byId, element, say } from "./dom.js";

const SAMPLE = 8; // items whose columns are looked at for examples of values

export class Filters {
  /** changed: called after every change. */
  constructor(changed) {
    this.changed = changed;
    this.chosen = []; // [column, value]
    this.seen = new Map(); // column -> Map from a value as text to the value: JSON tells 3 from "3", and so must we
  }

  get any() {
    return this.chosen.length > 0;
  }

  /** The `filters` of a request. */
  condition() {
    const values = Object.groupBy(this.chosen, ([column]) => column);
    const single = ([column, pairs]) => [column, pairs.length === 1 ? pairs[0][1] : pairs.map(([, value]) => value)];
    return Object.fromEntries(Object.entries(values).map(single));
  }

  add(column, value) {
    if (this.chosen.some(([other, same]) => other === column && same === value)) return;
    this.chosen.push([column, value]);
    this.draw(`Only items with ${column} = ${value}`);
  }

  remove(place) {
    const [[column, value]] = this.chosen.splice(place, 1);
    this.draw(`Removed the filter ${column} = ${value}`);
    (byId("filters").querySelector("button") ?? byId("value")).focus();
  }

  draw(said) {
    byId("filters").replaceChildren(
      ...this.chosen.map(([column, value], place) => {
        const name = `Remove the filter ${column} = ${value}`;
        const cross = button("remove", "\u00d7", name, () => this.remove(place));
        return element("li", "chip on", element("span", "soft", column), ` ${value} `, cross);
      }),
    );
    say(said);
    this.changed();
  }

  /** Remember an item's values as examples. */
  learn(fields) {
    for (const [column, values] of Object.entries(fields)) {
      if (!this.seen.has(column)) this.seen.set(column, new Map());
      for (const value of [values].flat()) {
        if (value !== null && typeof value !== "object") this.seen.get(column).set(String(value), value);
      }
    }
    this.suggest();
  }

  suggest() {
    const known = this.seen.get(byId("column").value) ?? new Map();
    byId("values").replaceChildren(
      ...[...known.keys()].sort().map((value) => Object.assign(element("option"), { value })),
    );
  }

  /** A typed text as a value of the column's type, as far as examples tell it. */
  parse(column, text) {
    const known = this.seen.get(column) ?? new Map();
    if (known.has(text)) return known.get(text);
    const [example] = known.values();
    if (typeof example === "number" && Number.isFinite(Number(text))) return Number(text);
    if (typeof example === "boolean" && /^(true|false)$/i.test(text)) return text.toLowerCase() === "true";
    return text;
  }

  /** Show the form. more(item): a promise of the item's columns, which also calls `learn`. */
  offer(columns, more) {
    const ordered = [...columns.filter((name) => name !== "title"), ...columns.filter((name) => name === "title")];
    byId("filter").hidden = ordered.length === 0;
    byId("column").replaceChildren(...ordered.map((name) => Object.assign(element("option", "", name), { value: name })));
    byId("column").addEventListener("change", () => this.suggest());
    let asked = null;
    const sample = () => (asked ??= lookAround(more).catch(() => (asked = null))); // without examples a value is a text
    byId("filter").addEventListener("focusin", sample);
    byId("filter").addEventListener("submit", async (event) => {
      event.preventDefault();
      const column = byId("column").value, text = byId("value").value.trim();
      await sample();
      if (text) this.add(column, this.parse(column, text));
      byId("value").value = "";
    });
  }
}

async function lookAround(more) {
  const { items } = await ask(`v1/items?limit=${SAMPLE}`);
  await Promise.all(items.map(more));
}
