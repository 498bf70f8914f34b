// One batch: how far it is, its links, what failed and why, its members, its callback.

import * as api from "./api.js";
import { askPriority } from "./bulk.js";
import { button, h, own, put, setText } from "./dom.js";
import { failures, retrySome } from "./failures.js";
import { count, duration, moment, size, speed } from "./format.js";
import { members } from "./members.js";
import { attempt, confirm, say } from "./notices.js";
import { badge, Bar, cell, ENDED, fact, situation, table } from "./parts.js";
import { t } from "./words.js";

const REFRESH_MS = 1000; // between two looks at one batch, at least
export async function show(place, [id], filter) {
  const path = (more = "") => api.batchPath(id, more);
  let batch = await api.get(path());
  const bar = new Bar();
  const state = h("span"), how = h("p"), facts = h("dl", { class: "facts" });
  const actions = h("div", { class: "actions" }), links = h("section"), groups = h("section"), callback = h("section");
  const listed = members(id, filter, api.may("submit") ? (only) => retrySome(batch, path, refresh, only) : null);
  put(
    place, h("h1", null, own(id)), h("p", { class: "row" }, state, bar.element), how, actions, facts, links, groups, listed.element, callback,
  );
  let shown = ""; // the actions and the failures that stand there, so that they are not made anew under a pointer

  function update() {
    put(state, badge(batch.status));
    bar.update(batch);
    setText(how, situation(batch));
    put(
      facts, batch.owner && fact(t("owner"), own(batch.owner)), fact(t("size"), size(batch.bytes)), fact(t("created"), moment(batch.created)),
      fact(t("started"), moment(batch.started)), fact(t("finished"), moment(batch.finished)), batch.run > 1 && fact(t("run"), count(batch.run)),
      batch.warnings > 0 && fact(t("warnings"), t("warnings_html", { n: batch.warnings, count: count(batch.warnings) })),
    );
    const now = JSON.stringify([batch.status, batch.run, batch.failures, batch.parts.map((one) => [one.status, one.download]), batch.callback]);
    if (now === shown) return;
    shown = now;
    put(actions, actionsOf(batch, path, refresh));
    put(links, linksOf(batch));
    put(groups, failures(batch, path, refresh, listed.filter));
    put(callback, callbackOf(batch, path, refresh));
  }

  async function refresh() {
    batch = await api.get(path());
    update();
  }

  update();
  await attempt(listed.load);
  let timer = null, seen = resultsOf(batch), isGone = false;
  return {
    event({ name, data }) {
      const isMine = name === "full" || (data.task_id === batch.task_id && (!data.owner || data.owner === batch.owner));
      if (!isMine || timer || isGone) return;
      timer = setTimeout(async () => {
        timer = null;
        try {
          await refresh();
        } catch (problem) {
          isGone = problem.code === "no_such_batch";
          if (isGone) {
            say(t("was_deleted"), "bad");
            put(actions);
          }
          return;
        }
        const isEnded = ENDED.includes(batch.status), results = resultsOf(batch);
        if (isEnded && results !== seen) listed.load().catch(() => {});
        else if (results !== seen) listed.isStale();
        if (isEnded) seen = results;
      }, REFRESH_MS);
    },
    close() {
      isGone = true;
      clearTimeout(timer);
    },
  };
}

// Changes whenever the list of members does.
function resultsOf(batch) {
  return `${batch.status} ${batch.run} ${batch.done} ${batch.failed}`;
}

function actionsOf(batch, path, refresh) {
  if (!api.may("submit")) return null;
  const does = (action, done) => attempt(action, done).then((well) => well && refresh());
  if (!ENDED.includes(batch.status)) {
    return [
      button(t("do_priority"), async () => {
        const priority = await askPriority();
        if (priority !== undefined) does(() => api.patch(path(), { priority }), t("saved"));
      }),
      button(t("do_cancel"), async () => {
        if (await confirm(t("do_cancel"), t("cancel_sure"), t("do_cancel"))) does(() => api.remove(path("?only=cancel")), t("cancelled"));
      }, { class: "danger" }),
    ];
  }
  return [
    batch.failed > 0 && button(t("retry_all_failed"), () => does(() => api.post(path("/retry"), { run: batch.run }), t("retried")), { class: "main" }),
    button(t("do_delete"), async () => {
      if (await confirm(t("do_delete"), t("delete_warning"), t("do_delete"))) {
        if (await attempt(() => api.remove(path("?only=delete")), t("deleted"))) location.hash = "#/batches";
      }
    }, { class: "danger" }),
  ];
}

function linksOf(batch) {
  const rows = batch.parts.map((part) => h(
    "tr", null, h("th", { scope: "row" }, part.volume > 1 ? `${part.part}.${part.volume}` : count(part.part)),
    cell(t("state"), badge(part.status)), cell(t("members"), count(part.members)),
    cell(t("size"), part.size === undefined ? "–" : size(part.size)),
    cell(t("download_time"), part.size === undefined ? "–" : downloadTime(part.size)),
    cell(t("link"), isLink(part.download) && h("a", { href: part.download, download: true, rel: "noreferrer" }, t("download"))),
    cell("SHA-256", part.sha256 && h("details", null, h("summary", null, part.sha256.slice(0, 8)), h("code", null, part.sha256))),
  ));
  const titles = [t("part"), t("state"), t("members"), t("size"), t("download_time"), t("link"), "SHA-256"];
  return [h("h2", null, t("parts")), table(t("parts"), titles.map((title) => ({ title })), rows).element];
}

function isLink(text) {
  return /^https?:\/\//.test(text);
}

// How long a download takes at the rate of one client address.
function downloadTime(bytes) {
  const { rate } = api.session;
  if (rate === null) return "–";
  return rate ? `${duration(bytes / rate)} (${speed(rate)})` : t("no_limit");
}

function callbackOf(batch, path, refresh) {
  const { callback } = batch;
  if (!callback) return null;
  const rows = callback.tries.map((one) => h("tr", null, h("th", { scope: "row" }, moment(one.at)), cell(t("answer"), one.status ?? "–"), cell(t("detail"), own(one.detail))));
  const again = ["undelivered", "waiting"].includes(callback.state) && api.may("submit") && button(t("do_notify"), () => attempt(() => api.post(path("/notify")), t("notified")).then(refresh), { class: "main" });
  return [
    h("h2", null, t("callback")),
    h("p", null, t(`callback_${callback.state}`), callback.next && [" ", t("next_try"), " ", moment(callback.next)]), again,
    rows.length > 0 && table(t("callback"), [t("when"), t("answer"), t("detail")].map((title) => ({ title })), rows).element,
  ];
}
