// The overview: what needs a person, the queue, what runs, nodes, downloads.

import * as api from "./api.js";
import { chart } from "./chart.js";
import { h, put } from "./dom.js";
import { count, duration, size, speed } from "./format.js";
import { liveState } from "./live.js";
import { controls } from "./queue.js";
import { BATCH_COLUMNS, BatchRow, cell, fact, keyOf, table, waitsFor } from "./parts.js";
import { t } from "./words.js";

const REFRESH_MS = 15000; // between two looks at the queue and at the node
const CHANGE_MS = 2000; // after a batch began or ended, before a look
const LIST_LOOKS = 3; // of these, to one look at the list while changes come by events
const RECENT_MS = 86400000; // for which a batch that failed is told of
const MAX_ROWS = 20;
const GONE_SECONDS = 30; // without a heartbeat; then a worker without parts is not shown

export async function show(place) {
  const alerts = h("ul", { class: "alerts" }), figures = h("dl", { class: "facts" }), setting = h("div");
  const minutes = h("div"), nodes = h("div"), files = h("div");
  const running = table(t("active_batches"), BATCH_COLUMNS(), []);
  const rows = new Map(), none = h("p", { class: "hint" }, t("none_active"));
  const isAdmin = api.may("admin");
  put(
    place, h("h1", null, t("overview")), !api.session.everybody && h("p", { class: "hint" }, t("own_only", { name: api.session.name })),
    section(t("needs_you"), alerts),
    isAdmin && section(t("queue"), figures, setting, minutes),
    section(t("active_batches"), none, running.element, h("p", null, h("a", { href: "#/batches" }, t("all_batches")))),
    isAdmin && section(t("nodes"), nodes), isAdmin && section(t("downloads"), files),
  );

  async function batches() {
    const found = await api.get(`/v1/batches${api.query({ status: "running,queued", limit: MAX_ROWS, count: true })}`);
    const known = new Set(found.batches.map(keyOf));
    for (const [key, row] of rows) {
      if (known.has(key)) continue;
      row.element.remove();
      rows.delete(key);
    }
    for (const batch of [...found.batches].reverse()) {
      const key = keyOf(batch);
      if (rows.has(key)) rows.get(key).update(batch);
      else {
        rows.set(key, new BatchRow(batch));
        running.body.prepend(rows.get(key).element);
      }
    }
    running.element.hidden = !rows.size;
    none.hidden = rows.size > 0;
  }

  let settings = ""; // that are shown: the fields stay as they are until these change
  async function state() {
    const since = new Date(Date.now() - RECENT_MS).toISOString();
    const [undelivered, waiting, failed, stats, port] = await Promise.all([
      api.get(`/v1/batches${api.query({ callback: "undelivered", limit: 1, count: true })}`),
      api.get(`/v1/batches${api.query({ callback: "waiting", limit: 1, count: true })}`),
      api.get(`/v1/batches${api.query({ status: "failed,partial,expired", since: since.slice(0, 13), limit: 1, count: true })}`),
      isAdmin ? api.get("/v1/stats?minutes=60") : null,
      isAdmin ? api.get("/v1/files").catch(() => null) : null,
    ]);
    put(alerts, alertsOf(undelivered, waiting, failed, stats, since.slice(0, 13)));
    if (!stats) return;
    put(figures, figuresOf(stats));
    const now = JSON.stringify([stats.parts.settings, port?.rate]);
    if (now !== settings) put(setting, controls(stats.parts, port, state));
    settings = now;
    put(minutes, chart(stats.parts.minutes));
    put(nodes, nodesOf(stats));
    put(files, port ? filesOf(port) : h("p", null, t("no_file_port")));
  }

  let looks = 0;
  const look = () => {
    if (document.hidden) return;
    looks += 1;
    const isDue = liveState() !== "live" || looks % LIST_LOOKS === 0;
    Promise.all([state(), isDue && batches()]).catch(() => {});
  };
  await Promise.all([state(), batches()]);
  const timer = setInterval(look, REFRESH_MS);
  let late = null;
  return {
    event({ name, data }) {
      const row = name === "batch" && rows.get(keyOf(data));
      if (row) row.update(data);
      // One that begins or ends changes the list; of those that it has no room for nothing is shown.
      const isMissing = name === "batch" && !row && !data.finished && rows.size < MAX_ROWS;
      if (name !== "batch" || isMissing || (row && data.finished)) late ??= setTimeout(() => {
        late = null;
        Promise.all([batches(), state()]).catch(() => {});
      }, CHANGE_MS);
    },
    close() {
      clearInterval(timer);
      clearTimeout(late);
    },
  };
}

function section(title, ...content) {
  return h("section", null, h("h2", null, title), content);
}

function alertsOf(undelivered, waiting, failed, stats, since) {
  const found = [];
  const add = (text, link, kind = "bad") => found.push(h("li", { class: kind }, link ? h("a", { href: link }, text) : text));
  if (stats) {
    const { parts, node } = stats;
    if (parts.waits_for === "stopped") add(t("alert_stopped"));
    if (parts.waits_for === "paused") add(t("alert_paused"), null, "warn");
    if (parts.waits_for === "a worker") add(t("alert_no_worker"));
    if (node.disk && node.disk.state !== "ok") add(t(`alert_disk_${node.disk.state}`, { free: size(node.disk.free) }));
    if (parts.suspects) add(t("alert_suspects", { n: count(parts.suspects) }), null, "warn");
  }
  if (undelivered.count.at_least) add(t("alert_undelivered", { n: undelivered.count.at_least }), "#/batches?callback=undelivered");
  if (waiting.count.at_least) add(t("alert_waiting", { n: waiting.count.at_least }), "#/batches?callback=waiting", "warn");
  if (failed.count.at_least) add(t("alert_failed", { n: failed.count.at_least }), `#/batches?status=failed,partial,expired&since=${since}`, "warn");
  return found.length ? found : [h("li", { class: "good" }, t("alert_none"))];
}

function figuresOf({ parts, node }) {
  const last = parts.minutes.slice(1, 6).reduce((sum, one) => sum + one.done, 0) / 5;
  return [
    fact(t("waiting_parts"), count(parts.counts.waiting + parts.counts.delayed)),
    fact(t("running_parts"), count(parts.counts.doing)),
    fact(t("left_members"), count(parts.backlog)),
    fact(t("parts_a_minute"), count(Math.round(last * 10) / 10)),
    fact(t("eta"), ["", "slots"].includes(parts.waits_for) ? duration(parts.eta) : "–"),
    node.disk && fact(t("disk_free"), t("of", { part: size(node.disk.free), whole: size(node.disk.total) })),
  ];
}

// Workers by node: a worker's id is the host's name, its process and digits.
function nodesOf({ parts, node }) {
  const found = new Map();
  for (const worker of parts.workers.filter((one) => one.silent < GONE_SECONDS || one.holds)) {
    const name = worker.id.replace(/-\d+-[0-9a-f]+$/, "");
    found.set(name, [...(found.get(name) || []), worker]);
  }
  if (!found.size) return h("p", null, t("no_nodes"));
  const rows = [...found].map(([name, workers]) => h(
    "tr", null, h("th", { scope: "row" }, name, name === node.name.replace(/-[0-9a-f]{6}$/, "") && h("small", null, ` ${t("this_node")}`)),
    cell(t("processes"), count(workers.length)),
    cell(t("running_parts"), count(workers.reduce((sum, one) => sum + one.holds, 0))),
    cell(t("how"), [...new Set(workers.map((one) => (one.silent > 5 ? t("silent_for", { time: duration(one.silent) }) : one.waits_for ? t("waits_for", { what: waitsFor(one.waits_for) }) : t("works"))))].join(", ")),
    cell(t("holds"), holdsOf(workers)),
  ));
  return table(t("nodes"), [t("node"), t("processes"), t("running_parts"), t("how"), t("holds")].map((title) => ({ title })), rows).element;
}

function holdsOf(workers) {
  const jobs = workers.flatMap((one) => one.jobs || []);
  const shown = jobs.slice(0, 5).map((job) => job.replace(/@[^/]*/, ""));
  return shown.join(", ") + (jobs.length > 5 ? ` +${count(jobs.length - 5)}` : "");
}

function filesOf(port) {
  const limit = (rate) => (rate ? speed(rate) : t("no_limit"));
  const rows = port.addresses.slice(0, MAX_ROWS).map((one) => h(
    "tr", null, h("th", { scope: "row" }, one.address), cell(t("speed"), speed(one.speed)), cell(t("connections"), count(one.connections)),
  ));
  return [
    h("dl", { class: "facts" }, fact(t("speed"), speed(port.speed)), fact(t("per_address"), limit(port.rate)), fact(t("transfers"), count(port.transfers)), fact(t("sent"), size(port.bytes))),
    rows.length > 0 && table(t("downloads"), [t("address"), t("speed"), t("connections")].map((title) => ({ title })), rows).element,
  ];
}
