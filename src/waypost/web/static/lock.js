// The form that asks for the token, when the server knows none or another.

import { openDialog } from "./dialog.js";
import { h } from "./dom.js";
import { keep } from "./token.js";

let isOpen = false;

/** Ask for the token, once at a time; `unlocked` is called when one was given. */
export function askForToken(unlocked) {
  if (isOpen) return;
  isOpen = true;
  const field = h("input", {
    type: "password",
    name: "token",
    id: "token",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    autofocus: true,
  });
  const { close } = openDialog(
    "Token",
    (shut) =>
      h(
        "form",
        { class: "lock", on: { submit: (event) => given(event, shut) } },
        h("h2", {}, "This page needs its token"),
        h(
          "p",
          {},
          "It stands behind ",
          h("code", {}, "#token="),
          " in the address that ",
          h("code", {}, "waypost serve"),
          " has printed, and is another one each time that it starts.",
        ),
        h("label", { for: "token" }, "Token"),
        field,
        h("div", { class: "dialog-buttons" }, h("button", { class: "primary", type: "submit" }, "Open")),
      ),
    () => (isOpen = false),
  );

  function given(event) {
    event.preventDefault();
    // who pastes the whole address means what stands in it
    const text = field.value.trim();
    keep(text.includes("#token=") ? text.slice(text.indexOf("#token=") + 7) : text);
    close();
    unlocked();
  }
}
