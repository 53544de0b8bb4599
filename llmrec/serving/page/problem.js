// What went wrong, in the server's own words, and when it is tried again.

import { button, byId, element } from "./dom.js";

const HEADINGS = {
  0: "No answer",
  401: "A key is needed",
  413: "Too much at once",
  422: "The server did not take this",
  429: "The server is busy",
  503: "The server is not available",
  504: "That took too long",
};

let countdown = 0;

/** Show a failure; again: what a press on the button, or the end of the time that the server asked for, does. */
export function showProblem({ status, message, param = null, retryAfter = null }, again = null) {
  hideProblem();
  const place = byId("problem"), wait = element("span", "soft");
  wait.ariaHidden = "true"; // an alert that counts would be read out every second
  place.replaceChildren(element("b", "", HEADINGS[status] ?? "That did not work"), element("p", "", message));
  if (param && !message.includes(param)) place.append(element("p", "soft", "Concerns ", element("code", "", param)));
  if (again) place.append(element("div", "buttons", button("", "Try again", "", again), wait));
  place.hidden = false;
  if (again && retryAfter !== null) countDown(retryAfter, wait, again);
}

export function hideProblem() {
  clearInterval(countdown);
  byId("problem").hidden = true;
}

function countDown(seconds, place, again) {
  const tick = () => {
    place.textContent = `by itself in ${seconds} s`;
    if (seconds-- > 0) return;
    clearInterval(countdown);
    again();
  };
  countdown = setInterval(tick, 1000);
  tick();
}
