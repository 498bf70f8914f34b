// What is shown to those who need a token, or may not come in at all.

import { setToken } from "./api.js";
import { h, put } from "./dom.js";
import { t } from "./words.js";

// Ask for a token, or say why none can help.
export function show(main, problem, enter) {
  if (problem.code === "protected_mode") {
    put(
      main,
      h("h1", null, t("protected")),
      h("p", null, t("protected_why")),
      h("ol", null, h("li", null, t("protected_make"), h("pre", null, h("code", null, t("protected_command")))), h("li", null, t("protected_start")), h("li", null, t("protected_open"))),
    );
    return;
  }
  const field = h("input", { id: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false" });
  const wrong = problem.status === 401 && show.tried;
  put(
    main,
    h("h1", null, t("sign_in")),
    h(
      "form",
      {
        class: "stack", on: {
          submit: (event) => {
            event.preventDefault();
            show.tried = true;
            setToken(field.value.trim());
            enter();
          },
        },
      },
      h("label", { for: "token" }, t("token")),
      field,
      wrong && h("p", { class: "bad", role: "alert" }, t("token_wrong")),
      h("p", { class: "hint" }, t("token_kept")),
      h("button", { class: "main" }, t("sign_in")),
    ),
  );
  field.focus();
}
