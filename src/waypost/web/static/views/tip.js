// A note beside what the pointer or the focus is on.

import { h, show } from "../dom.js";

const GAP = 8;

export class Tip {
  constructor() {
    this.element = h("div", { class: "tip", role: "tooltip", hidden: true });
    document.body.appendChild(this.element);
  }

  /** Hide it when what it stood beside is gone. */
  check() {
    if (!this.beside?.isConnected) this.hide();
  }

  /** Show it beside an element, within the window. */
  show(beside, content) {
    this.beside = beside;
    show(this.element, content);
    this.element.hidden = false;
    const box = beside.getBoundingClientRect();
    const own = this.element.getBoundingClientRect();
    const left = Math.min(
      Math.max(box.left + Math.min(box.width, 200) / 2 - own.width / 2, GAP),
      innerWidth - own.width - GAP,
    );
    const above = box.top - own.height - GAP;
    this.element.style.setProperty("left", `${left}px`);
    this.element.style.setProperty("top", `${above > GAP ? above : box.bottom + GAP}px`);
  }

  hide() {
    this.element.hidden = true;
  }

  close() {
    this.element.remove();
  }
}
