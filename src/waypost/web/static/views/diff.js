// The comparison of two moments of a workflow.

import { get } from "../api.js";
import { h } from "../dom.js";
import { cut, moment, visible } from "../format.js";
import { Loaded } from "../loading.js";
import { loadedPart } from "../parts.js";
import { changed, go } from "../router.js";
import { drawChanges } from "./changes.js";

/** The comparison of two checkpoints, or of one and now, as the address says: from `compare` to `at`. */
export function makeDiff(page) {
  let asked = null;
  let revealed = "";
  const rows = new Loaded(
    (signal) => get("/api/diff", { a: page.compare, b: page.at || page.id }, signal),
    () => page.redraw(),
  );
  return {
    close: () => rows.close(),
    update() {
      const key = page.compare && page.tab === "checkpoints" ? `${page.compare} ${page.at}` : null;
      if (key === asked) return;
      asked = key;
      if (key) rows.restart();
      else rows.close();
    },
    /** Bring the comparison to where the reader is: it was asked for further down. */
    reveal() {
      if (revealed === page.compare) return;
      revealed = page.compare;
      const heading = document.getElementById("comparison");
      heading?.focus({ preventScroll: true });
      heading?.scrollIntoView({ block: "start" });
    },
    draw() {
      if (!page.compare) return null;
      return h(
        "section",
        {
          class: "card comparison",
          "aria-labelledby": "comparison",
          "data-compare": page.compare,
          "data-key": "comparison",
        },
        h(
          "div",
          { class: "card-head" },
          h("h3", { id: "comparison", tabindex: -1 }, "What changed"),
          h("a", { class: "button small", href: changed({ compare: null }) }, "Close"),
        ),
        h(
          "div",
          { class: "comparison-ends" },
          choice(page, "From", "compare", page.compare, false),
          h(
            "button",
            {
              type: "button",
              class: "small",
              "aria-label": "Swap the two",
              disabled: !page.at,
              on: { click: () => go(changed({ compare: page.at, at: page.compare })) },
            },
            "⇄",
          ),
          choice(page, "to", "at", page.at, true),
        ),
        loadedPart(rows, (data) => drawChanges(data.items, data.cut), "Comparing"),
      );
    },
  };
}

function choice(page, label, parameter, chosen, withNow) {
  const items = page.checkpoints.data?.items ?? [];
  const isKnown = !chosen || items.some((each) => each.checkpoint_id === chosen);
  return h(
    "label",
    {},
    `${label} `,
    h(
      "select",
      { name: parameter, on: { change: (event) => go(changed({ [parameter]: event.target.value })) } },
      withNow && h("option", { value: "", selected: !chosen }, "now"),
      !isKnown && h("option", { value: chosen, selected: true }, cut(chosen, 40)),
      items.map((each) =>
        h(
          "option",
          { value: each.checkpoint_id, selected: each.checkpoint_id === chosen },
          [moment(each.created_at), cut(each.description || each.type, 40), visible(each.checkpoint_id.slice(-6))].join(
            " · ",
          ),
        ),
      ),
    ),
  );
}
