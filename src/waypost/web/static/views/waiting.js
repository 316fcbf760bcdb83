// The steps that have no place in time: what has not begun, and what was skipped without having begun.

import { h } from "../dom.js";
import { count, cut, visible } from "../format.js";
import { name } from "../parts.js";
import { mark, stepStatus, word } from "../status.js";

const MANY = 60; // more than that are drawn small

/** Steps without a start, by status. */
export function drawWaiting(page, steps) {
  const groups = new Map();
  for (const step of steps) {
    const status = stepStatus(step);
    if (!groups.has(status)) groups.set(status, []);
    groups.get(status).push(step);
  }
  return [...groups].map(([status, group]) => drawGroup(page, status, group));
}

function drawGroup(page, status, steps) {
  const isSmall = steps.length > MANY;
  const title = word(status)[0].toUpperCase() + word(status).slice(1);
  return h(
    "section",
    { class: "waiting-steps", "data-key": status, "aria-label": title },
    h("h3", {}, title, h("span", { class: "number-tag" }, count(steps.length))),
    h(
      "div",
      { class: isSmall ? "dashed small" : "dashed" },
      steps.map((step) => drawChip(page, step, status, isSmall)),
    ),
  );
}

/** A step as something to press: small ones bear no name. */
export function drawChip(page, step, status, isSmall) {
  const label = visible(step.name || step.id);
  return h(
    "button",
    {
      type: "button",
      class: `chip-step is-${status}${step.id === page.step ? " is-chosen" : ""}`,
      "data-key": step.id,
      "data-step": step.id,
      "data-status": status,
      title: label,
      "aria-label": isSmall ? `${label}: ${word(status)}` : null,
      on: { click: () => page.choose(step.id) },
    },
    !isSmall && [status !== "pending" && mark(status), name(cut(label, 28))],
  );
}
