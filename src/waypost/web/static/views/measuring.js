// A view of figures that are measured anew now and then, and not with each commit.

import { h } from "../dom.js";
import { Loaded, lookAgain } from "../loading.js";
import { loadedPart } from "../parts.js";
import { go } from "../router.js";

export function openMeasured({ title, load, everyMs, draw, what, redraw }) {
  const loaded = new Loaded(load, redraw);
  const rest = lookAgain(loaded, everyMs);
  loaded.load();
  return {
    title,
    keys: { Escape: () => go("/") },
    update() {},
    close() {
      rest();
      loaded.close();
    },
    draw: () =>
      h(
        "section",
        { "aria-labelledby": "title", "data-view": title.toLowerCase() },
        h("div", { class: "heading" }, h("h1", { id: "title" }, title)),
        loadedPart(loaded, draw, what),
      ),
  };
}
