// A request in words: what is wanted, in place of what was taken.

import { byId } from "./dom.js";

export class Query {
  /** changed: called after every change. */
  constructor(changed) {
    this.changed = changed;
    this.text = ""; // empty: the history asks
  }

  /** Show the form. */
  offer() {
    byId("ask").hidden = false;
    byId("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      this.set(byId("query").value.trim());
    });
    byId("query").addEventListener("input", () => byId("query").value === "" && this.set("")); // its cross, or Escape
  }

  set(text) {
    if (!text && !this.text) return;
    this.text = text;
    this.changed();
  }

  /** The history asks. */
  drop() {
    byId("query").value = this.text = "";
  }
}
