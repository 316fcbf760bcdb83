// Dialogs: modal, closed by escape, with the focus back where it was afterwards.

import { h, show } from "./dom.js";

/** Open a dialog. `draw(close)` returns its content; returns {redraw, close}. `closed` is called when it goes. */
export function openDialog(label, draw, closed = () => {}) {
  const before = document.activeElement;
  const dialog = h("dialog", { class: "dialog", "aria-label": label });
  const close = () => dialog.close();
  const redraw = () => show(dialog, draw(close));
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (before?.isConnected) before.focus();
    closed();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) close(); // beside it, on its backdrop
  });
  document.body.appendChild(dialog);
  redraw();
  dialog.showModal();
  return { redraw, close, element: dialog };
}

/** Whether a dialog has the keyboard. */
export const dialogIsOpen = () => document.querySelector("dialog[open]") !== null;

/** A dialog's heading, content and row of buttons. */
export function dialogParts(title, content, buttons) {
  return [
    h("h2", {}, title),
    h("div", { class: "dialog-content" }, content),
    h("div", { class: "dialog-buttons" }, buttons),
  ];
}
