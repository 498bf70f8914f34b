// What changes, told to the views: by a stream that all tabs share, by one of this tab while it is
// visible, or by asking again and again.

import { getToken } from "./api.js";
import { Stream } from "./stream.js";

const PING_MS = 10000; // between two words to the shared worker
const POLL_MS = 5000; // between two questions where there is no stream

const listeners = new Set();
let state = "away";
let worker = null, stream = null, poll = null;
let isOn = false; // between a start and a stop
let isWatched = false; // whether this tab is seen

export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function liveState() {
  return state;
}

function tell(message) {
  if (message.type === "state") {
    if (message.state === "unknown") return isOn && worker?.postMessage({ type: "join", token: getToken() });
    state = message.state;
  }
  for (const listener of [...listeners]) listener(message);
}

// The URL of the worker is the only one that the page makes a script of.
function workerUrl() {
  const url = "/page/js/worker.js";
  if (!window.trustedTypes) return url;
  return window.trustedTypes.createPolicy("bulkwav", { createScriptURL: () => url }).createScriptURL(url);
}

function startWorker() {
  if (!window.SharedWorker) return false;
  try {
    const shared = new SharedWorker(workerUrl(), { type: "module", name: "bulkwav" });
    shared.addEventListener("error", () => {
      worker = null;
      startOwn();
    });
    worker = shared.port;
  } catch {
    return false;
  }
  worker.addEventListener("message", ({ data }) => tell(data));
  worker.start();
  worker.postMessage({ type: "join", token: getToken() });
  setInterval(() => isOn && worker?.postMessage({ type: "ping" }), PING_MS);
  addEventListener("pagehide", () => worker?.postMessage({ type: "leave" }));
  addEventListener("pageshow", (event) => event.persisted && isOn && worker?.postMessage({ type: "join", token: getToken() }));
  return true;
}

// A tab that nobody sees needs no stream of its own.
function startOwn() {
  if (!window.ReadableStream || !window.TextDecoderStream) {
    tell({ type: "state", state: "polling" });
    poll ??= setInterval(() => isOn && !document.hidden && tell({ type: "event", name: "full", data: {} }), POLL_MS);
    return;
  }
  if (!isWatched) document.addEventListener("visibilitychange", openOwn);
  isWatched = true;
  openOwn();
}

function openOwn() {
  stream?.stop();
  stream = isOn && !document.hidden ? new Stream(getToken(), tell) : null;
  if (stream) tell({ type: "event", name: "full", data: {} });
}

export function start() {
  isOn = true;
  if (worker) worker.postMessage({ type: "join", token: getToken() });
  else if (isWatched || poll || !startWorker()) startOwn();
}

// Hear nothing more, until the next start.
export function stop() {
  isOn = false;
  worker?.postMessage({ type: "leave" });
  stream?.stop();
  stream = null;
}
