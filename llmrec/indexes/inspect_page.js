"use strict";
// The code tree. Every text goes in by textContent, so nothing of a title is read as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const items = data.items; // [code, title, id, category], in the order of the tree
const STEP = 200; // lines that are added at once

function element(kind, style, text) {
  const made = document.createElement(kind);
  if (style) made.className = style;
  if (text !== undefined) made.textContent = text;
  return made;
}

function written(code, level) {
  if (data.pieces) return data.pieces[code].replace(/[\u0120\u2581]/g, "\u2423");
  return `<${data.letters[level]}_${code}>`;
}

function writtenFrom(code, depth) {
  return code.slice(depth).map((number, place) => written(number, depth + place)).join("");
}

// The branches and items right under the items `from` to `to`, which share their first `depth` numbers.
function children(from, to, depth) {
  const found = [];
  for (let start = from; start < to; ) {
    const number = items[start][0][depth];
    let stop = start + 1;
    while (number !== undefined && stop < to && items[stop][0][depth] === number) stop++;
    const whole = depth + 1 >= data.whole;
    found.push({ start, stop, depth, item: number === undefined || (whole && stop === start + 1) });
    start = stop;
  }
  return found;
}

// Numbers that all items of a branch share, where the branch is complete: words of a title need no line each.
function sharedDepth(branch) {
  const [first] = items[branch.start], [last] = items[branch.stop - 1];
  let depth = branch.depth + 1;
  while (data.pieces && depth >= data.whole && depth < first.length && first[depth] === last[depth]) depth++;
  return depth;
}

function hint(branch) {
  const counts = new Map();
  for (let place = branch.start; place < branch.stop; place++) {
    const category = items[place][3];
    if (data.categories[category]) counts.set(category, (counts.get(category) || 0) + 1);
  }
  let best = -1;
  for (const [category, count] of counts) if (best < 0 || count > counts.get(best)) best = category;
  if (best < 0) return items[branch.start][1];
  const name = data.categories[best];
  const short = name.length > 70 ? "\u2026 " + name.slice(-70).replace(/^\S+\s/, "") : name; // paths differ at the end
  return `${Math.round((100 * counts.get(best)) / (branch.stop - branch.start))}% ${short}`;
}

function itemLine(place, depth) {
  const [code, title, id] = items[place];
  const line = element("div", "item");
  if (!data.pieces && code.length > depth) line.append(element("code", "", writtenFrom(code, depth)));
  line.append(element("span", "title", title));
  if (id !== "" && id !== title) line.append(element("span", "id", id));
  return line;
}

function branchLine(branch) {
  const depth = sharedDepth(branch);
  const [code] = items[branch.start];
  const folder = element("details"), line = element("summary"), inside = element("div");
  const shown = branch.stop - branch.start;
  const total = data.totals[code.slice(0, depth).join("/")] || shown;
  const count = total === 1 ? "1 item" : `${total.toLocaleString("en")} items`;
  line.append(element("code", "", code.slice(branch.depth, depth).map((n, p) => written(n, branch.depth + p)).join("")));
  line.append(element("span", "count", total > shown ? `${count}, ${shown.toLocaleString("en")} here` : count));
  line.append(element("span", "hint", hint(branch)));
  folder.append(line, inside);
  folder.addEventListener("toggle", () => {
    if (folder.open && !inside.hasChildNodes()) fill(inside, branch.start, branch.stop, depth);
  });
  return folder;
}

function fill(place, from, to, depth) {
  const found = children(from, to, depth);
  addSome(place, found.length, (n) => (found[n].item ? itemLine(found[n].start, depth) : branchLine(found[n])));
}

// Lines 0 to `count`, some at first and the others at a button.
function addSome(place, count, make, start = 0) {
  const stop = Math.min(start + STEP, count);
  for (let number = start; number < stop; number++) place.append(make(number));
  if (stop === count) return;
  const more = element("button", "more", `${(count - stop).toLocaleString("en")} more`);
  more.type = "button";
  more.addEventListener("click", () => {
    more.remove();
    addSome(place, count, make, stop);
  });
  place.append(more);
}

function matches([code, title, id], words, numbers) {
  if (numbers && numbers.every((number, level) => code[level] === number)) return true;
  if (id === words || title.toLowerCase().includes(words)) return true;
  return !data.pieces && words.startsWith("<") && writtenFrom(code, 0).includes(words);
}

const tree = document.getElementById("tree"), results = document.getElementById("results");
const search = document.getElementById("search"), status = document.getElementById("found");

function find() {
  const words = search.value.trim().toLowerCase();
  tree.hidden = words !== "";
  results.hidden = words === "";
  status.textContent = "";
  if (!words) return;
  const numbers = /^\d+([\s,./-]+\d+)*$/.test(words) ? words.split(/[\s,./-]+/).map(Number) : null;
  const found = [...items.keys()].filter((place) => matches(items[place], words, numbers));
  status.textContent = found.length === 1 ? "1 item" : `${found.length.toLocaleString("en")} items`;
  results.replaceChildren();
  addSome(results, found.length, (n) => itemLine(found[n], 0));
}

let waiting = 0;
search.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(find, 120);
});
document.getElementById("fold").addEventListener("click", () => {
  search.value = "";
  find();
  for (const folder of tree.querySelectorAll("details[open]")) folder.open = false;
});
fill(tree, 0, items.length, 0);
