// The steps as a table, with a filter of its own.

import { h } from "../dom.js";
import { count, duration, visible } from "../format.js";
import { empty, id, name, table, timeOf } from "../parts.js";
import { badge, mark, stepStatus, STEP_STATUSES, took, word } from "../status.js";

const COLUMNS = [
  ["Step", "wide"],
  ["Status", ""],
  ["Agent", ""],
  ["Started", "number"],
  ["Took", "number"],
  ["Retries", "number"],
  ["Output", "number"],
];
const SHOWN = 200;

export function drawSteps(page, items) {
  const filter = (page.filter ??= { text: "", statuses: new Set(), shown: SHOWN });
  if (!items.length) return empty("This workflow has no steps");
  const found = items.filter((step) => matches(step, filter));
  const type = (event) => {
    filter.text = event.target.value.toLowerCase();
    filter.shown = SHOWN;
    page.redraw();
  };
  const more = () => {
    filter.shown += 5 * SHOWN;
    page.redraw();
  };
  return [
    h(
      "div",
      { class: "filters", role: "search" },
      h("input", {
        type: "search",
        "data-filter": true,
        "aria-label": "Step, agent or error",
        placeholder: "Step, agent or error",
        value: filter.text,
        autocomplete: "off",
        spellcheck: "false",
        on: { input: type },
      }),
      drawStatuses(page, items, filter),
    ),
    found.length
      ? table(
          "Steps",
          COLUMNS,
          found.slice(0, filter.shown).map((step) => row(page, step)),
        )
      : empty("No step is like that"),
    found.length > filter.shown &&
      h(
        "p",
        { class: "more" },
        h(
          "button",
          { type: "button", "data-more": true, on: { click: more } },
          `${count(found.length - filter.shown)} more`,
        ),
      ),
  ];
}

function matches(step, { text, statuses }) {
  if (statuses.size && !statuses.has(stepStatus(step))) return false;
  return !text || [step.id, step.name, step.agent_id, step.error].some((each) => each?.toLowerCase().includes(text));
}

function drawStatuses(page, items, filter) {
  const numbers = {};
  for (const step of items) numbers[stepStatus(step)] = (numbers[stepStatus(step)] ?? 0) + 1;
  const toggle = (status) => () => {
    if (!filter.statuses.delete(status)) filter.statuses.add(status);
    page.redraw();
  };
  return h(
    "div",
    { class: "chips", role: "group", "aria-label": "Status" },
    STEP_STATUSES.filter((status) => numbers[status]).map((status) =>
      h(
        "button",
        {
          type: "button",
          class: `chip is-${status}`,
          "data-key": status,
          "data-status": status,
          "aria-pressed": String(filter.statuses.has(status)),
          on: { click: toggle(status) },
        },
        mark(status),
        word(status),
        h("span", { class: "number-tag" }, count(numbers[status])),
      ),
    ),
  );
}

function row(page, step) {
  return {
    key: step.id,
    props: {
      class: step.id === page.step ? "row is-chosen" : "row",
      "data-step": step.id,
      "data-status": stepStatus(step),
    },
    cells: [
      [
        h(
          "button",
          {
            type: "button",
            class: "link row-link",
            "data-row-link": true,
            "aria-expanded": String(step.id === page.step),
            on: { click: () => page.choose(step.id) },
          },
          name(step.name || step.id),
        ),
        step.name !== step.id && h("div", { class: "under" }, id(step.id)),
        step.error && h("div", { class: "error-text clamp" }, name(step.error)),
      ],
      badge(stepStatus(step)),
      step.agent_id ? visible(step.agent_id) : "",
      step.start_time ? timeOf(step.start_time) : "",
      duration(took(step)),
      step.retry_count ? `${count(step.retry_count)}/${count(step.max_retries)}` : "",
      step.output_version ? `v${count(step.output_version)}` : "",
    ],
  };
}
