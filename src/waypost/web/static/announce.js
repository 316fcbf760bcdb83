// What happened, said once: to who listens by a live region, to who looks by a note that goes by itself.

import { h } from "./dom.js";

const SHOWN_MS = 4_000;
let timer = null;

/** Say something, and show it for a moment. */
export function announce(text) {
  say(text);
  let note = document.getElementById("note");
  if (!note) {
    note = h("div", { id: "note", class: "note", "aria-hidden": "true" });
    document.body.appendChild(note);
  }
  note.textContent = text;
  note.classList.add("is-shown");
  clearTimeout(timer);
  timer = setTimeout(() => note.classList.remove("is-shown"), SHOWN_MS);
}

/** Say something to who listens only: for changes that who looks can see. */
export function say(text) {
  document.getElementById("announcements").textContent = text;
}
