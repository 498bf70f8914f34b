// One stream for all tabs of a browser that have the same token: over HTTP/1.1 a browser opens six
// connections to a server, and the seventh tab would hang.

import { Stream } from "./stream.js";

const SILENT_MS = 40000; // without a word a tab is gone: a port does not tell that it is closed

const streams = new Map(); // token -> {stream, state, ports: Map of port -> when it was heard}

function join(port, token) {
  let shared = streams.get(token);
  if (!shared) {
    shared = { ports: new Map(), state: null };
    streams.set(token, shared);
    shared.stream = new Stream(token, (message) => {
      if (message.type === "state") shared.state = message;
      for (const one of shared.ports.keys()) one.postMessage(message);
      if (message.state === "refused") streams.delete(token);
    });
  }
  shared.ports.set(port, Date.now());
  // It may have missed events before it came.
  port.postMessage({ type: "event", name: "full", data: {} });
  if (shared.state) port.postMessage(shared.state);
}

function leave(port) {
  for (const [token, shared] of streams) {
    if (shared.ports.delete(port) && !shared.ports.size) {
      shared.stream.stop();
      streams.delete(token);
    }
  }
}

self.addEventListener("connect", (connection) => {
  const port = connection.ports[0];
  port.addEventListener("message", ({ data }) => {
    if (data.type === "join") {
      leave(port);
      join(port, data.token);
    } else if (data.type === "leave") leave(port);
    else {
      const known = [...streams.values()].find((shared) => shared.ports.has(port));
      if (known) known.ports.set(port, Date.now());
      else port.postMessage({ type: "state", state: "unknown" });
    }
  });
  port.start();
});

setInterval(() => {
  for (const shared of streams.values()) {
    for (const [port, heard] of shared.ports) if (Date.now() - heard > SILENT_MS) leave(port);
  }
}, 10000);
