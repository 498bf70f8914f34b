// The page: who the viewer is, which view the address asks for, and what keeps it fresh.

import * as api from "./api.js";
import { h, put, setText } from "./dom.js";
import * as live from "./live.js";
import { show as login } from "./login.js";
import { fail } from "./notices.js";
import { show as batch } from "./batch.js";
import { show as batches } from "./batches.js";
import { show as overview } from "./overview.js";
import { show as submit } from "./submit.js";
import { choose, language, names, t } from "./words.js";

const VIEWS = { "": overview, batches, batch, new: submit };
const main = document.getElementById("main");
let view = null; // what is shown: {event, close}
let turn = 0; // of the views that were begun, the number of the last one
let isIn = false;
let isBroken = false; // the view could not be shown
let hasMoved = false; // from one view to another: a screen reader is told by the focus

// The parts of an address such as `#/batch/ID?status=failed`.
function route() {
  const [path, search] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/").map(decoded);
  return { name, rest, query: Object.fromEntries(new URLSearchParams(search || "")) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // somebody wrote the address by hand
  }
}

function header(current) {
  const links = [["", t("overview")], ["batches", t("batches")]];
  if (api.may("submit")) links.push(["new", t("new_batch")]);
  put(
    document.getElementById("nav"),
    isIn && links.map(([name, text]) => h("a", { href: `#/${name}`, "aria-current": name === current && "page" }, text)),
  );
}

function tools() {
  const select = h(
    "select",
    { "aria-label": t("language"), on: { change: () => choose(select.value) } },
    Object.entries(names).map(([key, name]) => h("option", { value: key, selected: key === language, lang: key }, name)),
  );
  const out = h("button", { type: "button", on: { click: signOut } }, t("sign_out"));
  put(document.getElementById("tools"), h("span", { id: "live", class: "live" }), isIn && api.session.name && h("span", { class: "live" }, api.session.name), api.getToken() && out, select);
  showState();
}

function showState() {
  const element = document.getElementById("live");
  if (!element) return;
  const state = isIn ? live.liveState() : "";
  element.dataset.state = state;
  setText(element, state ? t(`live_${state}`) : "");
}

function signOut() {
  api.setToken("");
  live.stop();
  isIn = false;
  start();
}

// Say what went wrong, and offer to do it again.
function broken(place, problem, again) {
  put(place, h("h1", null, t("does_not_work")), h("p", null, fail(problem)), h("button", { type: "button", on: { click: again } }, t("try_again")));
}

async function open() {
  if (!isIn) return;
  const { name, rest, query } = route();
  const mine = ++turn;
  isBroken = false;
  view?.close?.();
  view = null;
  header(name === "batch" ? "batches" : name);
  const make = (name !== "new" || api.may("submit")) && Object.hasOwn(VIEWS, name) && (name !== "batch" || rest[0]) ? VIEWS[name] : overview;
  const place = h("div");
  put(main, place);
  try {
    const made = await make(place, rest, query);
    if (mine === turn) view = made;
    else made?.close?.();
  } catch (problem) {
    isBroken = mine === turn;
    if (mine === turn) broken(place, problem, open);
  }
  const heading = place.querySelector("h1");
  if (mine === turn && heading) {
    document.title = `${heading.textContent} – bulkwav`;
    if (hasMoved) main.focus({ preventScroll: true });
    hasMoved = true;
  }
}

function ask(problem) {
  isIn = false;
  view?.close?.();
  view = null;
  live.stop();
  header("");
  tools();
  login(main, problem, start);
}

async function start() {
  try {
    Object.assign(api.session, await api.get("/v1/session"));
  } catch (problem) {
    if (!["unauthorized", "protected_mode"].includes(problem.code)) broken(main, problem, start);
    return;
  }
  if (!api.may("read")) {
    tools();
    put(main, h("h1", null, t("does_not_work")), h("p", null, t("no_read")));
    return;
  }
  isIn = true;
  tools();
  live.start();
  await open();
}

document.documentElement.lang = language;
setText(document.getElementById("skip"), t("skip"));
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address belongs to the view
  main.focus();
});
api.whenUnauthorized(ask);
addEventListener("hashchange", open);
live.listen((message) => {
  if (message.type === "state") {
    showState();
    if (message.state === "live" && isIn && !view && isBroken) open();
    if (message.state === "refused" && isIn) start();
  } else view?.event?.(message);
});
tools();
start();
