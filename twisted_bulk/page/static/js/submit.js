// A new batch: URLs that are pasted or come in a file, looked at by the server before they are sent.

import * as api from "./api.js";
import { button, h, own, put, setText } from "./dom.js";
import { count } from "./format.js";
import { attempt, fail, say } from "./notices.js";
import { parse } from "./order.js";
import { fact } from "./parts.js";
import { has, t } from "./words.js";

export async function show(place) {
  let isSending = false; // a second click would hand the batch in twice
  let given = null; // what a file had, as an order
  const text = h("textarea", { id: "urls", rows: "10", spellcheck: "false", placeholder: "https://…", "aria-describedby": "urls-hint" });
  const file = h("input", { id: "file", type: "file", accept: ".txt,.csv,.tsv,.json,text/plain,text/csv,application/json", on: { change: () => file.files[0] && take(file.files[0]) } });
  const source = h("p", { role: "status" });
  const fields = {
    task_id: h("input", { id: "task_id", pattern: "[A-Za-z0-9._~\\-]{1,128}", spellcheck: "false" }),
    filename: h("input", { id: "filename", maxlength: "100" }),
    url: h("input", { id: "url", type: "url", spellcheck: "false" }),
    priority: h("input", { id: "priority", type: "number", min: "-1000", max: "1000" }),
  };
  const found = h("div", { "aria-live": "polite" });
  const more = h("details", null, h("summary", null, t("options")), h("div", { class: "stack" }, Object.entries(fields).map(([name, field]) => [h("label", { for: name }, t(`order_${name}`)), field])));
  const form = h(
    "form", { class: "stack submit", on: { submit: (event) => {
      event.preventDefault();
      if (!isSending) send();
    } } },
    h("label", { for: "urls" }, t("paste_urls")), text, h("p", { class: "hint", id: "urls-hint" }, t("paste_hint")),
    h("label", { for: "file" }, t("or_file")), file, source,
    more, h("div", { class: "row" }, button(t("check"), check), h("button", { class: "main" }, t("submit"))), found,
  );
  put(place, h("h1", null, t("new_batch")), form);
  // A field that is wrong must be seen.
  form.addEventListener("invalid", () => {
    more.open = true;
  }, true);
  form.addEventListener("input", () => put(found));
  form.addEventListener("dragover", (event) => {
    event.preventDefault();
    form.classList.add("over");
  });
  form.addEventListener("dragleave", () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
  text.addEventListener("input", () => {
    given = null;
    file.value = "";
    setText(source, "");
  });

  async function take(one) {
    try {
      given = parse(await one.text(), one.name);
      if (!given.download.length) throw new Error(t("no_urls"));
      text.value = "";
      source.className = "";
      const others = Object.keys(given).filter((name) => name !== "download" && !(name in fields));
      const rest = others.length ? ` ${t("also_sets", { names: others.join(", ") })}` : "";
      setText(source, t("from_file", { n: given.download.length, count: count(given.download.length), name: one.name }) + rest);
      for (const [name, field] of Object.entries(fields)) {
        if (given[name] === undefined || given[name] === null) continue;
        field.value = given[name];
        more.open = true; // what the file says of the batch is seen
      }
    } catch (problem) {
      given = null;
      source.className = "bad";
      setText(source, t("bad_file", { why: problem.message }));
    }
  }

  // The order, as the API takes it. Raises an error if there is none.
  function order() {
    const made = { ...(given || parse(text.value, "")) };
    if (!made.download.length) throw new Error(t("no_urls"));
    for (const [name, field] of Object.entries(fields)) {
      if (field.value) made[name] = name === "priority" ? Number(field.value) : field.value;
    }
    return made;
  }

  async function check() {
    put(found, h("p", null, t("looking")));
    try {
      put(found, findings(await api.post("/v1/batches?check=true", order())));
    } catch (problem) {
      put(found, h("p", { class: "bad", role: "alert" }, fail(problem)));
    }
  }

  async function send() {
    let made;
    try {
      made = order();
    } catch (problem) {
      put(found, h("p", { class: "bad", role: "alert" }, problem.message));
      return;
    }
    isSending = true;
    await attempt(async () => {
      const taken = await api.post("/v1/batches", made);
      say(t(taken.status === "queued" ? "submitted" : "known_batch"));
      location.hash = `#/batch/${encodeURIComponent(taken.owner ? `${taken.owner}:${taken.task_id}` : taken.task_id)}`;
    });
    isSending = false;
  }
}

function findings(plan) {
  const list = (title, some) => some.length > 0 && [
    h("h3", null, title),
    h("ul", null, some.map((one) => h("li", null, t("finding", { n: one.members, count: count(one.members), what: has(`code_${one.code}`) ? t(`code_${one.code}`) : one.code }), one.detail && one.detail !== t(`code_${one.code}`) && ` (${one.detail})`, h("ul", { class: "examples" }, one.examples.map((text) => h("li", null, own(text)))))))
  ];
  const isFine = !plan.callback && !plan.refused.length && !plan.duplicates.length && !plan.renamed.length;
  return [
    h("h2", null, t("check_result")),
    h("dl", { class: "facts" }, fact(t("members"), count(plan.total)), fact(t("parts"), count(plan.parts)), fact(t("hosts"), plan.hosts.slice(0, 5).map((one) => `${one.host || "?"} (${count(one.members)})`).join(", "))),
    isFine && h("p", { class: "good" }, t("check_fine")),
    plan.callback && h("p", { class: "bad" }, t("check_callback"), " ", plan.callback.detail),
    list(t("check_refused"), plan.refused), list(t("check_duplicates"), plan.duplicates), list(t("check_renamed"), plan.renamed),
  ];
}
