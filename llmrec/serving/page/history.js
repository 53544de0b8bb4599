// The history: items oldest first, which a person adds, moves and removes.

import { button, byId, count, element, plural, say } from "./dom.js";

export class History {
  /** changed: called after every change. */
  constructor(changed) {
    this.changed = changed;
    this.items = []; // {item_id, title}
    this.limit = Infinity; // items that the server takes
    this.unknown = new Set(); // ids that the last answer did not know
    this.owner = ""; // whose history it is, until it is changed
  }

  /** What is sent: the newest ones, where there are more than the server takes. */
  get ids() {
    return this.items.slice(-this.limit).map((item) => item.item_id);
  }

  set(items, said, owner = "") {
    this.owner = owner;
    this.items = items.map(({ item_id: id, title }) => ({ item_id: id, title: title || id }));
    this.draw();
    say(said);
    this.changed();
  }

  add(item) {
    const length = plural(this.items.length + 1, "item");
    this.set([...this.items, item], `Added ${item.title || item.item_id}. ${length} in the history`);
  }

  clear() {
    this.set([], "The history is empty");
    byId("item").focus();
  }

  move(from, to, kind) {
    const [item, length] = [this.items[from], this.items.length];
    const others = this.items.toSpliced(from, 1);
    this.inPlace(() => this.set(others.toSpliced(to, 0, item), `${item.title} is now ${to + 1} of ${length}`));
    const line = byId("history").children[to];
    (line.querySelector(`.${kind}:enabled`) ?? line.querySelector(".move:enabled")).focus();
  }

  remove(place) {
    const { title } = this.items[place];
    this.inPlace(() => this.set(this.items.toSpliced(place, 1), `Removed ${title}`));
    const next = byId("history").children[Math.min(place, this.items.length - 1)];
    (next?.querySelector(".remove") ?? byId("item")).focus();
  }

  inPlace(change) {
    const kept = byId("history").scrollTop;
    change();
    byId("history").scrollTop = kept;
  }

  /** Mark the items that an answer did not know. */
  mark(unknown) {
    this.unknown = new Set(unknown);
    this.items.forEach(({ item_id: id }, place) => {
      byId("history").children[place].classList.toggle("unknown", this.unknown.has(id));
    });
  }

  draw() {
    const list = byId("history"), length = this.items.length;
    list.replaceChildren(...this.items.map((item, place) => this.line(item, place)));
    list.scrollTop = list.scrollHeight; // the newest ones count most
    list.hidden = byId("clear").hidden = length === 0;
    byId("history-empty").hidden = length > 0;
    byId("history-count").textContent = length ? plural(length, "item") + (this.owner && ` of user ${this.owner}`) : "";
    byId("history-cut").hidden = length <= this.limit;
    byId("history-cut").textContent = `The newest ${count(this.limit)} are sent, as many as the server takes.`;
  }

  line({ item_id: id, title }, place) {
    const up = button("move up", "\u2191", `Move ${title} earlier`, () => this.move(place, place - 1, "up"));
    const down = button("move down", "\u2193", `Move ${title} later`, () => this.move(place, place + 1, "down"));
    up.disabled = place === 0;
    down.disabled = place === this.items.length - 1;
    const names = element("span", "names", element("span", "title", title), element("span", "id", id));
    const cross = button("remove", "\u00d7", `Remove ${title}`, () => this.remove(place));
    return element("li", this.unknown.has(id) ? "unknown" : "", names, element("span", "tools", up, down, cross));
  }
}
