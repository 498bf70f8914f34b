// Settings of the queue that an administrator changes while it runs.

import * as api from "./api.js";
import { button, h } from "./dom.js";
import { attempt } from "./notices.js";
import { t } from "./words.js";

// Pause and resume, how many parts run at once, the rate of downloads.
export function controls(parts, port, changed) {
  const { settings } = parts;
  const set = (body, done) => attempt(() => api.patch("/v1/queue", body), done).then((well) => well && changed());
  const isPaused = settings.paused || settings.stop;
  const pause = button(isPaused ? t("resume") : t("pause"), () => set({ paused: isPaused ? null : true, stop: isPaused ? null : undefined }, t(isPaused ? "resumed" : "paused")), { class: isPaused && "main" });
  return h(
    "div", { class: "row" }, pause,
    number("max_doing", t("max_doing"), settings.max_doing ?? "", { min: "1", placeholder: t("no_limit") }, (value) => set({ max_doing: value }, t("saved"))),
    port && number("rate", t("rate_kb"), port.rate / 1000, { min: "0", step: "any", required: true }, (value) => attempt(() => api.patch("/v1/files", { rate: Math.round(value * 1000) }), t("saved")).then((well) => well && changed())),
  );
}

function number(id, label, value, properties, save) {
  const field = h("input", { id, type: "number", value, ...properties });
  return h(
    "form", { class: "row", on: { submit: (event) => {
      event.preventDefault();
      save(field.value === "" ? null : Number(field.value));
    } } },
    h("label", { for: id }, label), field, h("button", { "aria-label": `${t("save")}: ${label}`, id: `save-${id}` }, t("save")),
  );
}
