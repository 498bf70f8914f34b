// Failed members in groups, by error and host: shown, and tried again.

import * as api from "./api.js";
import { button, h, own } from "./dom.js";
import { count } from "./format.js";
import { confirm, fail, say } from "./notices.js";
import { cell, ENDED, table } from "./parts.js";
import { has, t } from "./words.js";

// filter(values): shows the members that match in the list below
export function failures(batch, path, refresh, filter) {
  if (!batch.failures.length) return null;
  const may = api.may("submit") && ENDED.includes(batch.status);
  const rows = batch.failures.map((one) => h(
    "tr", null,
    h("th", { scope: "row" }, h("code", null, one.code), has(`code_${one.code}`) && h("small", null, " ", t(`code_${one.code}`))),
    cell(t("host"), one.host ? own(one.host) : one.members > 1 ? t("many_hosts") : "–"), cell(t("members"), count(one.members)),
    h("td", null, h("div", { class: "row" },
      button(t("show_these"), () => filter({ status: "failed", code: one.code, host: one.host })),
      may && button(t("retry_these"), () => retrySome(batch, path, refresh, { code: one.code, host: one.host }), { class: "main" }))),
  ));
  const titles = [t("reason_title"), t("host"), t("members"), ""];
  return [h("h2", null, t("failures")), table(t("failures"), titles.map((title) => ({ title })), rows).element];
}

// Try those failed members again that `only` means, after a question that says how many they are.
export async function retrySome(batch, path, refresh, only) {
  const body = { run: batch.run, only };
  try {
    const plan = await api.post(path("/retry?check=true"), body);
    const left = plan.left.map((one) => t(`left_${one.reason}`, { n: one.members, count: count(one.members) })).join(" ");
    const text = `${t("retry_plan", { n: plan.retried, count: count(plan.retried) })} ${left}`;
    if (!(await confirm(t("retry_these"), text, t("retry_these"), "main"))) return;
    await api.post(path("/retry"), body);
    say(t("retried"));
  } catch (problem) {
    say(fail(problem), "bad");
  }
  await refresh();
}
