// One action on many batches: the server says what would be done, then does it in portions.

import * as api from "./api.js";
import { button, h, put, setText } from "./dom.js";
import { count } from "./format.js";
import { dialog, fail } from "./notices.js";
import { has, t } from "./words.js";

const LOOK_MS = 700;

// action: cancel, retry, delete, priority, notify. meant: {filter} or {batches}.
// Resolves to whether something was begun.
export async function bulk(action, meant) {
  let priority;
  if (action === "priority") {
    priority = await askPriority();
    if (priority === undefined) return false;
  }
  let isBegun = false;
  await dialog(t(`do_${action}`), (close) => {
    const place = h("div", { "aria-live": "polite" }, h("p", null, t("looking")));
    run(place, close, { action, priority, ...meant }, () => {
      isBegun = true;
    });
    return place;
  });
  return isBegun;
}

export function askPriority() {
  return dialog(t("do_priority"), (close) => {
    const field = h("input", { id: "priority", type: "number", min: "-1000", max: "1000", value: "0", required: true });
    return h(
      "form", { class: "stack", on: { submit: (event) => {
        event.preventDefault();
        close(Number(field.value));
      } } },
      h("label", { for: "priority" }, t("priority_label")), field,
      h("div", { class: "row end" }, button(t("no"), () => close(undefined)), h("button", { class: "main" }, t("go_on"))),
    );
  });
}

async function run(place, close, order, begun) {
  let plan;
  try {
    plan = await api.post("/v1/bulk", order);
  } catch (problem) {
    put(place, h("p", { class: "bad" }, fail(problem)), h("div", { class: "row end" }, button(t("close"), () => close(false))));
    return;
  }
  const start = button(t(`do_${order.action}`), begin, { class: ["delete", "cancel"].includes(order.action) ? "danger" : "main", disabled: !plan.eligible });
  put(
    place, h("p", null, t("plan", { n: plan.eligible, count: count(plan.eligible), total: count(plan.total) })), reasons(plan),
    order.action === "delete" && h("p", { class: "bad" }, t("delete_warning")),
    h("div", { class: "row end" }, button(t("no"), () => close(false), { autofocus: true }), start),
  );

  async function begin() {
    const bar = h("progress", { max: plan.total, value: 0, "aria-label": t("progress") });
    const text = h("p"), left = h("div");
    const stop = button(t("stop"), () => api.post(`/v1/bulk/${plan.id}/stop`).catch(() => {}), { class: "danger" });
    const leave = button(t("go_on_behind"), () => close(true));
    put(place, bar, text, left, h("div", { class: "row end" }, stop, leave));
    try {
      let now = await api.post(`/v1/bulk/${plan.id}/start`);
      begun();
      for (;;) {
        bar.value = now.done + now.left.reduce((sum, one) => sum + one.batches, 0);
        setText(text, t("bulk_done", { n: now.done, count: count(now.done), total: count(now.eligible) }));
        if (now.state !== "running") break;
        if (!place.isConnected) return; // it goes on without being watched
        await new Promise((done) => setTimeout(done, LOOK_MS));
        now = await api.get(`/v1/bulk/${plan.id}`);
      }
      put(left, now.state === "stopped" && h("p", null, t("bulk_stopped")), reasons(now));
    } catch (problem) {
      put(left, h("p", { class: "bad" }, fail(problem)));
    }
    stop.remove();
    setText(leave, t("close"));
    leave.focus();
  }
}

// Why some are left as they are.
function reasons(plan) {
  if (!plan.left.length) return null;
  return [
    h("p", null, t("left_alone")),
    h("ul", null, plan.left.map((one) => h("li", null, t("reason", { n: one.batches, count: count(one.batches), why: has(`why_${one.reason}`) ? t(`why_${one.reason}`) : one.reason })))),
  ];
}
