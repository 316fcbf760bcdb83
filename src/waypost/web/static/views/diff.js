// What differs between two moments of a workflow.

import { get } from "../api.js";
import { h } from "../dom.js";
import { cut, moment, plural, value, visible } from "../format.js";
import { Loaded } from "../loading.js";
import { empty, loadedPart, name } from "../parts.js";
import { changed, go } from "../router.js";

const SIGNS = { added: "+", removed: "−", changed: "~" };
const SHOWN = 500;

/** Rows {path, change, before, after}, as the server tells them; `cut` says that there are more. */
export function drawRows(rows, isCut, label = "Changes") {
  if (!rows.length) return empty("Nothing differs");
  return [
    h("p", { class: "dim" }, `${plural(rows.length, "difference")}${isCut ? ", and more that are not shown" : ""}`),
    h(
      "ul",
      { class: "diff", "aria-label": label },
      rows.slice(0, SHOWN).map((row) =>
        h(
          "li",
          {
            class: `diff-row is-${row.change}`,
            "data-key": row.path,
            "data-change": row.change,
            "data-path": row.path,
          },
          h("span", { class: "diff-sign", "aria-hidden": "true" }, SIGNS[row.change] ?? "~"),
          h("span", { class: "hidden" }, `${row.change}: `),
          h("code", { class: "diff-path" }, name(row.path)),
          h("span", { class: "diff-values" }, sides(row)),
        ),
      ),
    ),
    rows.length > SHOWN && h("p", { class: "dim" }, `The first ${SHOWN} are shown.`),
  ];
}

function sides(row) {
  const before = row.change !== "added" && h("del", {}, h("bdi", {}, value(row.before)));
  const after = row.change !== "removed" && h("ins", {}, h("bdi", {}, value(row.after)));
  return [before, before && after && h("span", { class: "dim" }, " → "), after];
}

/** The comparison of two checkpoints, or of one and now, as the address says: from `compare` to `at`. */
export function makeDiff(page) {
  let asked = null;
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
          h("h3", { id: "comparison" }, "What changed"),
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
        loadedPart(rows, (data) => drawRows(data.items, data.cut), "Comparing"),
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
