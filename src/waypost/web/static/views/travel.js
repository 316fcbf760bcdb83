// Going through a workflow's checkpoints: a trail of them, the banner that says that what is shown is past, and steps.

import { h } from "../dom.js";
import { count, moment, visible } from "../format.js";
import { id, since } from "../parts.js";
import { changed, go } from "../router.js";
import { askToFork, askToRestore } from "./going_back.js";

const SLIDING_MS = 120; // what is passed over is not asked for
let sliding = null;

/** The checkpoint that is `by` further into the past (or, negative, nearer to now); "" for now, null where none is.
 *
 * `items` are the checkpoints, the newest first. */
export function neighbour(items, at, by) {
  const index = at ? items.findIndex((each) => each.checkpoint_id === at) : -1;
  if (at && index < 0) return null;
  const next = index + by;
  if (next === -1 && at) return "";
  return items[next]?.checkpoint_id ?? null;
}

/** The trail of checkpoints; where the state of one is shown, as a banner. */
export function drawTravel(page) {
  const items = page.checkpoints.data?.items ?? [];
  if (!items.length && !page.at) return null;
  const older = neighbour(items, page.at, 1);
  const newer = neighbour(items, page.at, -1);
  const button = (target, label, title, sign) =>
    h(
      "button",
      {
        type: "button",
        "aria-label": label,
        title,
        disabled: target === null,
        on: { click: () => go(changed({ at: target })) },
      },
      sign,
    );
  return h(
    "section",
    { class: page.at ? "travel is-past" : "travel", "aria-label": "Time travel", "data-at": page.at || "now" },
    page.at && drawBanner(page, items),
    h(
      "div",
      { class: "trail" },
      button(older, "Older checkpoint", "Older checkpoint ([)", "‹"),
      drawSlider(page, items),
      button(newer, "Newer checkpoint", "Newer checkpoint (])", "›"),
      page.at && h("a", { class: "button primary", href: changed({ at: null }), "data-action": "now" }, "Back to now"),
    ),
  );
}

function drawBanner(page, items) {
  const shown = items.find((each) => each.checkpoint_id === page.at);
  const told = h(
    "p",
    { role: "status" },
    h("b", {}, "You see the past. "),
    "This is the workflow as it was ",
    shown
      ? [
          since(shown.created_at),
          ", at ",
          moment(shown.created_at),
          " (",
          visible(shown.description || shown.type),
          ") ",
        ]
      : "at ",
    id(page.at),
    ". Nothing has been changed.",
  );
  return h("div", { class: "banner" }, told, drawWays(page, shown ?? { checkpoint_id: page.at }));
}

/** What can be done from here: compare with now, go back, begin another workflow. */
function drawWays(page, checkpoint) {
  const act = (action, label, run) =>
    h(
      "button",
      {
        type: "button",
        class: "small",
        "data-action": action,
        disabled: page.store.data?.read_only ?? false,
        on: { click: () => run(page, checkpoint) },
      },
      label,
    );
  const compare = changed({ compare: page.at, at: null, tab: "checkpoints" });
  return h(
    "div",
    { class: "row-actions" },
    h("a", { class: "button small", href: compare, "data-action": "compare-now" }, "Compare with now"),
    act("restore-here", "Restore …", askToRestore),
    act("fork-here", "Fork …", askToFork),
  );
}

/** From the oldest checkpoint that is loaded, on the left, to now. */
function drawSlider(page, items) {
  const last = items.length;
  const index = page.at ? items.findIndex((each) => each.checkpoint_id === page.at) : -1;
  const position = page.at && index < 0 ? 0 : last - (index + 1);
  const slide = (event) => {
    const chosen = items[last - 1 - Number(event.target.value)];
    clearTimeout(sliding);
    sliding = setTimeout(() => go(changed({ at: chosen?.checkpoint_id ?? null }), { replace: true }), SLIDING_MS);
  };
  const told =
    position === last
      ? "now"
      : `checkpoint ${count(position + 1)} of ${count(last)}, ${moment(items[last - 1 - position]?.created_at)}`;
  return h(
    "div",
    { class: "slider" },
    h("input", {
      type: "range",
      min: 0,
      max: last,
      step: 1,
      value: position,
      "aria-label": "Checkpoint",
      "aria-valuetext": told,
      list: last <= 60 ? "trail" : null,
      style: { "--done": last ? String(position / last) : "1" },
      on: { input: slide },
    }),
    last <= 60 &&
      h(
        "datalist",
        { id: "trail" },
        Array.from({ length: last + 1 }, (_, each) => h("option", { value: each })),
      ),
    h(
      "span",
      { class: "slider-text" },
      page.at ? `${count(last - Math.max(position, 0))} back from now` : h("b", {}, "Now"),
      h("span", { class: "dim" }, ` · ${count(page.state.data.checkpoint_count ?? last)} checkpoints`),
    ),
  );
}
