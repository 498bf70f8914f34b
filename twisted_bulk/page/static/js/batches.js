// The list of batches: a filter that stands in the address, pages by cursor, and actions on those
// that are selected or on all that the filter finds.

import * as api from "./api.js";
import { bulk } from "./bulk.js";
import { button, h, put, setText } from "./dom.js";
import { howMany } from "./format.js";
import { BATCH_COLUMNS, BatchRow, codeField, keyOf, STATES, table } from "./parts.js";
import { t } from "./words.js";

const LIMIT = 50;
const FIELDS = ["id", "owner", "code", "since", "before"];
const ACTIONS = ["cancel", "retry", "delete", "priority", "notify"];

export async function show(place, rest, filter) {
  const rows = new Map();
  const chosen = new Set();
  let all = false; // all that the filter finds are chosen, not only those on the page
  let cursor = null;
  let newest = ""; // when the newest batch was created that is shown
  const may = api.may("submit");
  const columns = BATCH_COLUMNS();
  const every = h("input", { type: "checkbox", "aria-label": t("select_page"), on: { change: () => choosePage(every.checked) } });
  const list = table(t("batches"), may ? [{ title: every, class: "box" }, ...columns] : columns, []);
  const total = h("p", { class: "count", role: "status" });
  const news = h("div");
  const bar = h("div", { class: "actions", role: "group", "aria-label": t("actions") });
  const more = button(t("more"), () => load(), { class: "more" });
  put(place, h("h1", null, t("batches")), form(filter), total, may && bar, news, list.element, more);

  function path(extra = {}) {
    return `/v1/batches${api.query({ ...filter, limit: LIMIT, ...extra })}`;
  }

  async function load() {
    more.disabled = true; // a second page meanwhile would be the same one
    try {
      await loadPage();
    } finally {
      more.disabled = false;
    }
  }

  async function loadPage() {
    const isFirst = cursor === null;
    let found = await api.get(path({ cursor, count: isFirst }));
    if (isFirst) setText(total, t("found", { n: found.count?.at_least ?? 0, count: howMany(found.count) }));
    let batches = found.batches;
    // A page may be empty though more follow.
    while (!batches.length && found.cursor) {
      found = await api.get(path({ cursor: found.cursor }));
      batches = found.batches;
    }
    for (const batch of batches) {
      add(batch);
      if (batch.created > newest) newest = batch.created;
    }
    cursor = found.cursor;
    more.hidden = !cursor;
    list.element.hidden = !rows.size;
    showActions();
  }

  function add(batch) {
    const key = keyOf(batch);
    if (rows.has(key)) return rows.get(key).update(batch);
    const row = new BatchRow(batch, may && ((one) => choose(key, one.box.checked)));
    rows.set(key, row);
    if (all) row.box.checked = true;
    list.body.append(row.element);
  }

  function choose(key, on) {
    if (all) for (const [one, row] of rows) if (row.box.checked) chosen.add(one);
    if (on) chosen.add(key);
    else chosen.delete(key);
    all = false;
    showActions();
  }

  function choosePage(on) {
    all = false;
    for (const [key, row] of rows) {
      row.box.checked = on;
      if (on) chosen.add(key);
      else chosen.delete(key);
    }
    showActions();
  }

  function showActions() {
    if (!may) return;
    every.checked = rows.size > 0 && chosen.size === rows.size;
    every.indeterminate = chosen.size > 0 && chosen.size < rows.size;
    const some = all ? total.textContent : t("n_selected", { n: chosen.size });
    const act = (action) => bulk(action, all ? { filter: asFilter() } : { batches: [...chosen] }).then((done) => done && refresh());
    put(
      bar,
      h("span", null, chosen.size || all ? some : t("select_hint")),
      !all && rows.size > 0 && button(t("select_page"), () => choosePage(true), { class: "narrow" }),
      !all && rows.size > 0 && button(t("select_all"), () => {
        all = true;
        for (const row of rows.values()) row.box.checked = true;
        showActions();
      }),
      (chosen.size > 0 || all) && ACTIONS.map((action) => button(t(`do_${action}`), () => act(action), { class: ["delete", "cancel"].includes(action) && "danger" })),
      all && button(t("select_none"), () => choosePage(false)),
    );
  }

  function asFilter() {
    return Object.fromEntries(Object.entries(filter).filter(([name]) => ["status", "callback", ...FIELDS].includes(name)));
  }

  // Show anew what is on the page, at the same place.
  async function refresh() {
    const shown = Math.max(rows.size, LIMIT);
    choosePage(false);
    rows.clear();
    put(list.body);
    cursor = null;
    do await load();
    while (cursor && rows.size < shown);
  }

  await load();
  let isWaiting = false; // there are new batches that are not shown yet

  // The rows stay where they are until the viewer wants them to move.
  function announce() {
    if (isWaiting) return;
    isWaiting = true;
    put(news, button(t("news"), () => {
      isWaiting = false;
      put(news);
      refresh();
    }, { class: "main" }));
  }

  // Bring the rows up to date where events were missed; none moves.
  async function lookAgain() {
    let from = null, left = rows.size;
    do {
      const found = await api.get(path({ cursor: from }));
      for (const batch of found.batches) {
        if (rows.has(keyOf(batch))) rows.get(keyOf(batch)).update(batch);
        else if (isNew(batch)) announce();
      }
      left -= found.batches.length;
      from = found.cursor;
    } while (from && left > 0);
  }

  function isNew(batch) {
    const fits = batch.task_id.startsWith(filter.id || "") && (!filter.owner || batch.owner === filter.owner)
      && (!filter.status || filter.status.split(",").includes(batch.status)) && !filter.code && !filter.callback && !filter.before;
    return fits && batch.run === 1 && batch.created > newest;
  }

  return {
    event({ name, data }) {
      if (name === "full") return lookAgain().catch(() => {});
      if (name === "deleted") return rows.forEach((row) => row.batch.task_id === data.task_id && row.markGone());
      const row = name === "batch" && rows.get(keyOf(data));
      if (row) return row.update(data);
      if (name === "batch" && isNew(data)) announce();
    },
  };
}

// The filter. Its fields are written into the address, which makes the view anew.
function form(filter) {
  const states = new Set((filter.status || "").split(","));
  const boxes = STATES.map((state) => h("label", { class: "check" }, h("input", { type: "checkbox", name: state, checked: states.has(state) }), t(`state_${state}`)));
  const field = (name, type = "text") => h("label", null, t(`filter_${name}`), name === "code" ? codeField({ name, value: filter.code || "" }) : h("input", { name, type, value: local(name, filter[name] || ""), spellcheck: "false" }));
  const callback = h("select", { name: "callback" }, ["", "undelivered", "waiting"].map((one) => h("option", { value: one, selected: one === (filter.callback || "") }, t(one ? `filter_${one}` : "any_callback"))));
  const isUsed = Object.values(filter).some(Boolean);
  const element = h(
    "form", { "aria-label": t("filter"), on: { submit: (event) => {
      event.preventDefault();
      apply(element);
    } } },
    h("fieldset", { class: "states" }, h("legend", null, t("state")), boxes),
    field("id"), api.session.everybody && field("owner"), field("code"), field("since", "datetime-local"), field("before", "datetime-local"),
    h("label", null, t("callback"), callback),
    h("div", { class: "row" }, h("button", { class: "main" }, t("filter_apply")), h("a", { class: "button", href: "#/batches" }, t("filter_clear"))),
  );
  // On a phone the list comes first.
  return h("details", { class: "filter", open: isUsed || innerWidth > 720 }, h("summary", null, t("filter")), element);
}

// Times are entered in the viewer's zone, and asked for in UTC.
function local(name, text) {
  if (!text || !["since", "before"].includes(name)) return text;
  const date = new Date(/Z|[+-]\d\d:?\d\d$/.test(text) ? text : `${text.length === 13 ? `${text}:00` : text}Z`);
  if (Number.isNaN(date.getTime())) return "";
  return new Date(date.getTime() - date.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
}

function apply(element) {
  const fields = element.elements;
  const values = { status: STATES.filter((state) => fields[state].checked).join(","), callback: fields.callback.value };
  for (const name of FIELDS) {
    const text = fields[name]?.value.trim() || "";
    values[name] = text && ["since", "before"].includes(name) ? new Date(text).toISOString() : text;
  }
  const address = `#/batches${api.query(values)}`;
  if (location.hash === address) dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = address;
}
