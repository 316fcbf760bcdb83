// Keys for who would rather not use the pointer. A view adds its own by `keys()`.

import { dialogIsOpen, dialogParts, openDialog } from "./dialog.js";
import { h } from "./dom.js";
import { toggleTheme } from "./theme.js";

const HELP = [
  ["/", "filter"],
  ["j  k", "next and previous row"],
  ["Enter", "open"],
  ["Escape", "back: close what is open, then to the list"],
  ["[  ]", "older and newer checkpoint"],
  ["← → ↑ ↓", "from step to step, in timeline and graph"],
  ["+  −  0", "zoom in, out, and to fit, in timeline and graph"],
  ["y", "copy the id"],
  ["t", "light or dark"],
  ["?", "this help"],
];

/** Listen for keys. `view()` is what is shown: its `keys` are functions by key. */
export function startKeys(view, redraw) {
  const general = {
    "/": () => focusFilter(),
    j: () => move(1),
    k: () => move(-1),
    t: () => {
      toggleTheme();
      redraw();
    },
    "?": showHelp,
  };
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.metaKey || event.ctrlKey || event.altKey || dialogIsOpen()) return;
    if (event.key === "Escape" && isTyping(event.target)) return event.target.blur();
    if (isTyping(event.target)) return;
    const act = view()?.keys?.[event.key] ?? general[event.key];
    if (!act) return;
    event.preventDefault();
    act(event);
  });
}

function isTyping(element) {
  if (element.isContentEditable || element.nodeName === "TEXTAREA" || element.nodeName === "SELECT") return true;
  return element.nodeName === "INPUT" && !["checkbox", "radio", "range", "button"].includes(element.type);
}

function focusFilter() {
  const field = document.querySelector("[data-filter]");
  field?.focus();
  field?.select();
}

function move(by) {
  const rows = [...document.querySelectorAll("[data-row-link]")];
  if (!rows.length) return;
  const at = rows.indexOf(document.activeElement.closest("[data-row-link]"));
  const next = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by));
  rows[next].focus();
  rows[next].scrollIntoView({ block: "nearest" });
}

export function showHelp() {
  openDialog("Keys", (close) =>
    dialogParts(
      "Keys",
      h(
        "dl",
        { class: "keys" },
        HELP.map(([key, what]) =>
          h(
            "div",
            {},
            h(
              "dt",
              {},
              key.split("  ").map((each) => h("kbd", {}, each)),
            ),
            h("dd", {}, what),
          ),
        ),
      ),
      h("button", { type: "button", class: "primary", autofocus: true, on: { click: close } }, "Close"),
    ),
  );
}
