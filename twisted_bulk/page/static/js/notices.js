// Messages, and questions that need an answer.

import { h, put } from "./dom.js";
import { has, t } from "./words.js";

const SECONDS = 8; // for which a message stays
const MAX_NOTICES = 4; // at once; then the oldest goes
const place = document.getElementById("notices");

export function say(text, kind = "good") {
  const known = [...place.children].find((one) => one.firstChild.textContent === text);
  known?.remove();
  const notice = h("p", { class: `notice ${kind}` }, text, h("button", { type: "button", "aria-label": t("close"), on: { click: () => notice.remove() } }, "×"));
  place.append(notice);
  while (place.children.length > MAX_NOTICES) place.firstChild.remove();
  if (kind === "good") setTimeout(() => notice.remove(), SECONDS * 1000);
}

// What went wrong, in words.
export function fail(problem) {
  if (problem.code === "unreachable") return t("unreachable");
  const text = has(`problem_${problem.code}`) ? t(`problem_${problem.code}`) : "";
  return [text, problem.message].filter(Boolean).join(" ") || String(problem);
}

// Call `action`; say what went wrong. Returns whether all went well.
export async function attempt(action, done = "") {
  try {
    await action();
  } catch (problem) {
    if (problem.status !== 401) say(fail(problem), "bad");
    return false;
  }
  if (done) say(done);
  return true;
}

// A dialog. `content(close)` returns its elements; resolves to what `close` was called with.
export function dialog(title, content) {
  const before = document.activeElement;
  return new Promise((done) => {
    const element = h("dialog", { "aria-labelledby": "dialog-title" });
    const close = (value) => {
      element.close();
      element.remove();
      if (!before?.isConnected) document.getElementById("main").focus({ preventScroll: true });
      done(value);
    };
    element.addEventListener("cancel", (event) => {
      event.preventDefault();
      close(undefined);
    });
    put(element, h("h2", { id: "dialog-title" }, title), content(close));
    document.body.append(element);
    element.showModal();
  });
}

// Ask whether to go on; resolves to true or false.
export function confirm(title, text, label, kind = "danger") {
  return dialog(title, (close) => [
    h("p", null, text),
    h(
      "div", { class: "row end" },
      h("button", { type: "button", autofocus: true, on: { click: () => close(false) } }, t("no")),
      h("button", { type: "button", class: kind, on: { click: () => close(true) } }, label),
    ),
  ]).then(Boolean);
}
