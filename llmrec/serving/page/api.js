// Requests to the server that gave this page, its errors, and the key that it may want.

import { byId } from "./dom.js";

const KEY = "llmrec-key"; // in sessionStorage: gone with the tab, never in a file of the browser's profile

/** What the server, or the way to it, had against a request. */
export class ServerError extends Error {
  /** status: that of HTTP, 0 where nothing answered. retryAfter: seconds, or null. */
  constructor(status, message, param = null, retryAfter = null) {
    super(message);
    Object.assign(this, { status, param, retryAfter });
  }
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;

/** The JSON that a route answers. Asks for a key, and again, until the server takes it or the person gives up. */
export async function ask(path, { body, signal } = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const response = await send(path, key, body, signal);
    const content = await response.json().catch(() => null);
    if (response.ok && content !== null) return content;
    const said = content?.error;
    const message = said?.message ?? `The server answered with status ${response.status} and no explanation.`;
    const newKey = response.status === 401 && (await askKey(key, message, signal));
    if (!newKey) {
      const seconds = Number.parseInt(response.headers.get("Retry-After"), 10);
      throw new ServerError(response.status, message, said?.param, seconds > 0 ? seconds : null);
    }
  }
}

async function send(path, key, body, signal) {
  const headers = { Accept: "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  const options = { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal };
  try {
    return await fetch(path, options);
  } catch (failure) {
    if (failure.name === "AbortError") throw failure;
    throw new ServerError(0, "The server cannot be reached. Is it still running?");
  }
}

let asking = null; // requests that are refused together share one dialog

/** Whether there is a key now other than the refused one. */
async function askKey(refused, message, signal) {
  if (sessionStorage.getItem(KEY) !== refused) return true; // given meanwhile, for another request
  asking ??= openDialog(refused === null ? "" : message).finally(() => (asking = null));
  const given = await asking;
  signal?.throwIfAborted();
  return given;
}

function openDialog(reason) {
  const dialog = byId("key-dialog"), field = byId("key");
  let given = false;
  byId("key-reason").textContent = reason;
  byId("key-cancel").onclick = () => dialog.close();
  dialog.querySelector("form").onsubmit = () => {
    sessionStorage.setItem(KEY, field.value);
    given = true;
  };
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      field.value = "";
      resolve(given);
    };
  });
}
