// Settings of the queue that an administrator changes while it runs.

import * as api from "./api.js";
import { button, h } from "./dom.js";
import { attempt } from "./notices.js";
import { t } from "./words.js";

// Pause and resume, how many parts run at once, the rate of downloads.
export function controls(parts, port, changed) {
  const { settings } = parts;
  const set = (body, done) => attempt(() => api.patch("/v1/queue", body), done).then(changed);
  const isPaused = settings.paused || settings.stop;
  const pause = button(isPaused ? t("resume") : t("pause"), () => set({ paused: isPaused ? null : true, stop: isPaused ? null : undefined }, t(isPaused ? "resumed" : "paused")), { class: isPaused && "main" });
  return h(
    "div", { class: "row controls" }, pause,
    number("max_doing", t("max_doing"), settings.max_doing ?? "", t("no_limit"), (value) => set({ max_doing: value }, t("saved"))),
    port && number("rate", t("rate_kb"), port.rate / 1000, "", (value) => attempt(() => api.patch("/v1/files", { rate: (value ?? 0) * 1000 }), t("saved")).then(changed)),
  );
}

function number(id, label, value, empty, save) {
  const field = h("input", { id, type: "number", min: "0", value, placeholder: empty, size: "8" });
  return h(
    "form", { class: "row", on: { submit: (event) => {
      event.preventDefault();
      field.blur();
      event.submitter?.blur();
      save(field.value === "" ? null : Number(field.value));
    } } },
    h("label", { for: id }, label), field, h("button", null, t("save")),
  );
}
