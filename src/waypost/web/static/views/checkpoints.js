// The checkpoints: see the state at one, compare two, go back to one, or begin another workflow from it.

import { h } from "../dom.js";
import { visible } from "../format.js";
import { copyButton, empty, id, moreButton, name, since, table } from "../parts.js";
import { changed } from "../router.js";
import { branches, drawBranch, widthOf } from "./branches.js";
import { askToFork, askToRestore } from "./going_back.js";

const COLUMNS = [
  ["Checkpoint", "wide"],
  ["Kind", ""],
  ["Made", "number"],
  ["What to do", "actions-column"],
];
const KINDS = {
  manual: "by hand",
  automatic: "automatic",
  pre_step: "before a step",
  post_step: "after a step",
  error: "at an error",
};

export function drawCheckpoints(page) {
  const { items } = page.checkpoints.data;
  if (!items.length)
    return empty(
      "No checkpoints",
      "One is made as a step ends, and by ",
      h("code", {}, `waypost checkpoint create`),
      ".",
    );
  const readOnly = page.store.data?.read_only ?? false;
  const places = branches(items, page.checkpoints.data.next_cursor !== null);
  const width = widthOf(places);
  return [
    readOnly &&
      h("p", { class: "dim" }, "The store was opened to be read only: nothing can be restored or forked from here."),
    table(
      "Checkpoints",
      COLUMNS,
      items.map((item, index) => row(page, item, readOnly, { place: places[index], width })),
    ),
    moreButton(page.checkpoints, "Older checkpoints"),
  ];
}

function row(page, item, readOnly, { place, width }) {
  const at = item.checkpoint_id;
  const isShown = at === page.at;
  const act = (action, label, run) =>
    h(
      "button",
      {
        type: "button",
        class: "small",
        "data-action": action,
        "aria-label": `${label} ${at}`,
        disabled: readOnly,
        on: { click: () => run(page, item) },
      },
      label,
    );
  return {
    key: at,
    props: { class: isShown ? "row is-chosen" : "row", "data-checkpoint": at },
    cells: [
      h(
        "div",
        { class: "branched", style: { "--columns": String(width) }, "data-column": place.column },
        drawBranch(place),
        h(
          "a",
          {
            href: changed({ at, tab: null, compare: null }),
            "data-row-link": true,
            class: "row-link",
            "aria-current": isShown ? "true" : null,
          },
          item.description ? name(item.description) : id(at),
        ),
        item.tags.map((tag) => h("span", { class: "tag", "data-key": tag }, visible(tag))),
        h("div", { class: "under" }, id(at), copyButton(at, "checkpoint id")),
      ),
      KINDS[item.type] ?? visible(item.type),
      since(item.created_at),
      h(
        "div",
        { class: "row-actions" },
        h(
          "a",
          {
            class: "button small",
            href: changed({ at, tab: null, compare: null }),
            "data-action": "show",
            "aria-label": `Show the state at ${at}`,
          },
          "Show",
        ),
        h(
          "a",
          {
            class: "button small",
            href: changed({ compare: at, tab: "checkpoints" }),
            "data-action": "compare",
            "aria-label": `Compare ${at}`,
          },
          "Compare",
        ),
        act("restore", "Restore", askToRestore),
        act("fork", "Fork", askToFork),
      ),
    ],
  };
}
