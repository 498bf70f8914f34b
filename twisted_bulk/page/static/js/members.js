// The members of a batch: filtered and paged by the server.

import * as api from "./api.js";
import { button, h, own, put, setText } from "./dom.js";
import { count, howMany, size } from "./format.js";
import { badge, cell, codeField, table } from "./parts.js";
import { attempt } from "./notices.js";
import { has, t } from "./words.js";

const LIMIT = 50;
const STATES = ["", "failed", "done", "unverified", "waiting"];

// id: of the batch. wanted: the filter that the address has. retry(only): tries those members again
// that failed and match; null: the viewer may not.
export function members(id, wanted, retry) {
  const filter = { status: wanted.status || "", code: wanted.code || "", host: wanted.host || "", text: wanted.text || "" };
  const before = []; // the cursors of the pages before this one
  let cursor = null, next = null;
  const total = h("span", { class: "count", role: "status" });
  const titles = [t("number"), t("state"), t("name_url"), t("reason_title"), t("size"), ""];
  const list = table(t("members"), titles.map((title) => ({ title })), []);
  const again = button(t("retry_these"), () => retry(only()), { class: "main" });
  const stale = h("div");
  const missing = h("div", { class: "warn" });
  const back = button(t("previous"), () => turn(() => {
    cursor = before.pop() ?? null;
  }));
  const on = button(t("next"), () => turn(() => {
    before.push(cursor);
    cursor = next;
  }));
  const fields = {};
  const element = h("section", { id: "members" }, h("h2", null, t("members")), form(), h("div", { class: "row" }, again), stale, missing, list.element, h("div", { class: "row" }, back, on, total));
  let asked = 0;

  function form() {
    fields.status = h("select", { name: "status" }, STATES.map((state) => h("option", { value: state }, state ? t(`state_${state}`) : t("any"))));
    const [code, list] = codeField({ name: "code" });
    fields.code = code;
    for (const name of ["host", "text"]) fields[name] = h("input", { name, type: name === "text" ? "search" : "text", spellcheck: "false" });
    const rows = Object.entries(fields).map(([name, field]) => h("label", null, t(`filter_${name === "status" ? "state" : name}`), field, name === "code" && list));
    return h("div", { class: "filter" }, h("form", { on: { submit: (event) => {
      event.preventDefault();
      apply(Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.value.trim()])));
    } } }, rows, h("div", { class: "row" }, h("button", { class: "main" }, t("filter_apply")))));
  }

  function only() {
    return Object.fromEntries(["code", "host", "text"].map((name) => [name, filter[name]]));
  }

  function apply(values) {
    Object.assign(filter, { code: "", host: "", text: "", status: "" }, values);
    history.replaceState(null, "", `#/batch/${encodeURIComponent(id)}${api.query(filter)}`);
    before.length = 0;
    cursor = null;
    turn(() => {});
  }

  function turn(change) {
    change();
    attempt(load).then((well) => {
      if (!well) back.disabled = on.disabled = false; // it may be tried again
    });
  }

  async function load() {
    const mine = ++asked;
    back.disabled = on.disabled = true;
    for (const [name, field] of Object.entries(fields)) if (document.activeElement !== field) field.value = filter[name];
    let page = await api.get(api.batchPath(id, `/members${api.query({ ...filter, limit: LIMIT, cursor, count: !cursor })}`));
    const counted = page.count;
    // A page may be empty though more follow.
    while (!page.members.length && page.cursor && mine === asked) {
      setText(total, t("searching"));
      page = await api.get(api.batchPath(id, `/members${api.query({ ...filter, limit: LIMIT, cursor: page.cursor })}`));
    }
    if (mine !== asked) return;
    next = page.cursor;
    put(stale);
    again.hidden = !retry || filter.status !== "failed" || !page.members.length || !(filter.code || filter.host || filter.text);
    put(list.body, page.members.map(row));
    back.disabled = !before.length && !cursor;
    on.disabled = !next;
    if (counted) setText(total, t("found_members", { n: counted.at_least, count: howMany(counted) }));
    else if (!cursor) setText(total, page.members.length ? "" : t("no_members"));
    put(
      missing,
      page.missing.length > 0 && h("p", null, t("elsewhere", { parts: page.missing.map((one) => `${one.part} (${one.node || "?"})`).join(", ") })),
      page.whole.map((one) => h("p", null, t("whole_part", { part: one.part, n: one.members, count: count(one.members) }), " ", h("code", null, one.code), " ", own(one.detail))),
    );
  }

  function row(member) {
    const text = h("td", { class: "url", "data-title": t("name_url") }, own(member.name), h("br"), h("small", null, own(member.url)));
    const why = cell(t("reason_title"), member.code && [h("code", { title: has(`code_${member.code}`) ? t(`code_${member.code}`) : null }, member.code), " ", own(member.detail)], member.warning && h("small", { class: "warn" }, t("warning_html")), member.attempts > 1 && h("small", null, " ", t("n_attempts", { n: member.attempts })));
    const whole = member.cut && button(t("show_all"), async () => {
      const status = member.status === "waiting" ? "waiting" : "";
      const [one] = (await api.get(api.batchPath(id, `/members${api.query({ full: true, status, cursor: member.member - 1 })}`))).members;
      put(text, own(one.name), h("br"), h("small", null, own(one.url)), h("br"), h("small", null, own(one.detail || "")));
      whole.remove();
    });
    return h("tr", null, h("th", { scope: "row" }, count(member.member)), cell(t("state"), badge(member.status)), text, why, cell(t("size"), member.status === "waiting" ? "–" : size(member.bytes)), h("td", null, whole));
  }

  return {
    element, load,
    // There are other results than those that are shown; they do not move by themselves.
    isStale() {
      if (!stale.firstChild) put(stale, button(t("new_results"), () => turn(() => {})));
    },
    filter(values) {
      apply(values);
      element.scrollIntoView();
    },
  };
}
