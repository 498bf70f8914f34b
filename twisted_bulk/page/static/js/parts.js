// Pieces that several views show: a state, a bar, a table, a batch as a row.

import { session } from "./api.js";
import { h, own, put, setText } from "./dom.js";
import { clock, count, duration, moment, size, speed } from "./format.js";
import { codes, has, t } from "./words.js";

export const STATES = ["queued", "running", "done", "partial", "failed", "cancelled", "expired"];
export const ENDED = STATES.slice(2);

export function badge(state) {
  return h("span", { class: "badge", "data-state": state }, t(`state_${state}`));
}

// A progress bar with its numbers in words.
export class Bar {
  constructor() {
    this.bar = h("progress", { max: "100", "aria-label": t("progress") });
    this.text = h("span", { class: "numbers" });
    this.element = h("div", { class: "bar" }, this.bar, this.text);
  }

  update(batch) {
    this.bar.value = batch.schedule;
    this.element.dataset.state = batch.status;
    const failed = batch.failed ? `, ${t("n_failed", { n: count(batch.failed) })}` : "";
    setText(this.text, `${count(batch.done)} / ${count(batch.total)}${failed}`);
  }
}

// What a batch waits for, or how it goes on.
export function situation(batch) {
  if (batch.status === "running" && !batch.waits_for) return batch.eta === null ? speed(batch.rate) : `${speed(batch.rate)}, ${t("time_left", { time: duration(batch.eta) })}`;
  if (batch.status === "queued" || batch.status === "running") {
    const why = batch.waits_for ? t("waits_for", { what: waitsFor(batch.waits_for) }) : "";
    const place = batch.position ? t("position", { n: count(batch.position) }) : "";
    const eta = batch.eta === null || batch.status === "running" ? "" : t("time_left", { time: duration(batch.eta) });
    return [place, why, eta].filter(Boolean).join(", ");
  }
  const worst = batch.failures?.[0];
  if (!worst || worst.code === batch.status) return size(batch.bytes);
  return `${has(`code_${worst.code}`) ? t(`code_${worst.code}`) : worst.code}${worst.host ? ` (${worst.host})` : ""}`;
}

const WAITS = [
  [/^slots$/, "wait_slots"], [/^paused$/, "wait_paused"], [/^stopped$/, "wait_stopped"], [/^a worker$/, "wait_worker"],
  [/^room on the disk$/, "wait_disk"], [/^its sources/, "wait_sources"], [/^hours until (?<time>.*)$/, "wait_hours"],
  [/^(?<host>.*), which asked for a pause until (?<time>.*)$/, "wait_pause"], [/^(?<host>.*), away since (?<time>.*)$/, "wait_away"],
];

// What the server says that a batch waits for, in the viewer's language and zone.
export function waitsFor(what) {
  for (const [pattern, key] of WAITS) {
    const found = pattern.exec(what);
    if (found) return t(key, Object.fromEntries(Object.entries(found.groups || {}).map(([name, text]) => [name, name === "time" ? clock(text) : text])));
  }
  return what;
}

// A table. Columns: {title, class}. Its rows show the titles where the screen is narrow.
export function table(caption, columns, rows) {
  const body = h("tbody", null, rows);
  const head = h("tr", null, columns.map((one) => h("th", { scope: "col", class: one.class }, one.title)));
  const element = h("table", null, h("caption", { class: "hidden" }, caption), h("thead", null, head), body);
  return { element: h("div", { class: "scroll" }, element), body };
}

export function cell(title, ...content) {
  return h("td", { "data-title": title }, content);
}

// One batch as a row of a table; `update` changes only what is another.
export class BatchRow {
  constructor(batch, select) {
    this.box = select && h("input", { type: "checkbox", "aria-label": t("select_one", { name: batch.task_id }), on: { change: () => select(this) } });
    this.state = h("td", { "data-title": t("state") });
    this.bar = new Bar();
    this.how = cell(t("how"));
    const link = h("a", { href: `#/batch/${encodeURIComponent(keyOf(batch))}` }, own(batch.task_id));
    this.element = h(
      "tr", null,
      this.box && h("td", { class: "box" }, this.box),
      h("th", { scope: "row" }, link, batch.owner && h("small", null, " ", own(batch.owner))),
      this.state, cell(t("progress"), this.bar.element), this.how, cell(t("created"), moment(batch.created)),
    );
    this.update(batch);
  }

  // The batch was deleted; its row stays until the list is shown anew.
  markGone() {
    this.element.classList.add("gone");
    setText(this.how, t("was_deleted"));
  }

  update(batch) {
    if (this.batch?.status !== batch.status) put(this.state, badge(batch.status));
    this.batch = batch;
    this.bar.update(batch);
    setText(this.how, situation(batch));
  }
}

export const BATCH_COLUMNS = () => [t("batch"), t("state"), t("progress"), t("how"), t("created")].map((title) => ({ title }));

// The id by which a viewer asks for a batch, whoever's it is: with a token, an id alone means one's own.
export function keyOf(batch) {
  return batch.owner || session.name ? `${batch.owner}:${batch.task_id}` : batch.task_id;
}

// A field for an error code, which names those that there are.
export function codeField(properties) {
  const list = h("datalist", { id: "codes" }, codes().map((code) => h("option", { value: code }, t(`code_${code}`))));
  return [h("input", { ...properties, list: "codes", spellcheck: "false" }), list];
}

export function fact(label, ...value) {
  return h("div", { class: "fact" }, h("dt", null, label), h("dd", null, value));
}
