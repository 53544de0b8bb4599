"use strict";
// Users one by one. Every text goes in by textContent, so nothing of a title is read as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const which = document.getElementById("which"), place = document.getElementById("place"), find = document.getElementById("find");
let shown = [], at = 0;

function element(kind, style, text) {
  const made = document.createElement(kind);
  if (style) made.className = style;
  if (text !== undefined) made.textContent = text;
  return made;
}

function list(rows, targets, start) {
  const made = element("ol");
  if (start > 1) made.start = start;
  for (const row of rows) made.append(element("li", targets.includes(row) ? "hit" : "", data.items[row]));
  return made;
}

function card(title, style, ...inside) {
  const made = element("div", `card ${style}`);
  made.append(element("h3", "", title), ...inside);
  return made;
}

function differs(user) {
  return user.ranks.some((rank) => rank > 0) && user.ranks.some((rank) => rank === 0);
}

function draw() {
  const target = document.getElementById("user");
  target.replaceChildren();
  if (!shown.length) {
    place.textContent = "No such user among those on this page.";
    return;
  }
  const user = shown[at];
  place.textContent = `${at + 1} of ${shown.length}: user ${user.user}`;
  const history = card("History, oldest first", "history", list(user.history, [], user.earlier + 1));
  history.append(element("p", "", `Taken next: ${user.targets.map((row) => data.items[row]).join(", ")}`));
  target.append(history);
  data.names.forEach((name, number) => {
    const rank = user.ranks[number];
    target.append(card(rank ? `${name}: place ${rank}` : `${name}: missed`, data.styles[number], list(user.lists[number], user.targets, 1)));
  });
}

function holds(user, words) {
  if (!words || String(user.user) === words) return true;
  const rows = [user.history, user.targets, ...user.lists].flat();
  return rows.some((row) => data.items[row].toLowerCase().includes(words));
}

function choose() {
  const value = which.value, words = find.value.trim().toLowerCase();
  shown = data.users.filter((user) => {
    if (!holds(user, words)) return false;
    if (value === "all") return true;
    if (value === "differ") return differs(user);
    return user.ranks[Number(value)] > 0 && (data.names.length === 1 || differs(user));
  });
  at = 0;
  draw();
}

function step(by) {
  if (!shown.length) return;
  at = (at + by + shown.length) % shown.length;
  draw();
}

which.addEventListener("change", choose);
find.addEventListener("input", choose);
document.getElementById("back").addEventListener("click", () => step(-1));
document.getElementById("next").addEventListener("click", () => step(1));
choose();
