// The statuses: how each is called and marked. Never by colour alone: each has a shape too, and bars have patterns.

import { h, s } from "./dom.js";
import { visible } from "./format.js";

// paths in a field of 16 × 16, drawn with strokes
const MARKS = {
  completed: "M3.5 8.5l3 3 6-7",
  failed: "M4 4l8 8M12 4l-8 8",
  running: "M5 3.5l7 4.5-7 4.5z",
  active: "M5 3.5l7 4.5-7 4.5z",
  busy: "M5 3.5l7 4.5-7 4.5z",
  pending: "M8 3.5a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9z",
  idle: "M8 3.5a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9z",
  skipped: "M3.5 4l4 4-4 4M8.5 4l4 4-4 4",
  paused: "M5.5 3.5v9M10.5 3.5v9",
  interrupted: "M9.5 2.5L5 8.5h6L6.5 13.5",
  crashed: "M8 2.5l6 11H2zM8 6.5v3M8 11.4v.3",
  suspect: "M8 2.5l6 11H2zM8 6.5v3M8 11.4v.3",
  error: "M4 4l8 8M12 4l-8 8",
  damaged: "M8 2.5l6 11H2zM8 6.5v3M8 11.4v.3",
  unfinished: "M8 3.5a4.5 4.5 0 1 1-4.5 4.5M3.5 8h4.5v-4.5",
  alive: "M2.5 8.5h3l2-4.5 2 8 1.5-3.5h2.5",
};

const WORDS = { pending: "not started" };

/** The kinds that a stylesheet knows; whatever else the server says is shown as it is. */
export function kind(status) {
  return status in MARKS ? status : "idle";
}

export function word(status) {
  return WORDS[status] ?? visible(String(status).replaceAll("_", " "));
}

/** The mark alone; whoever uses it says the word beside it, or in a label. */
export function mark(status) {
  const known = kind(status);
  return s(
    "svg",
    { class: `mark is-${known}`, viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" },
    s("path", { d: MARKS[known] }),
  );
}

/** A mark with its word. */
export function badge(status) {
  return h("span", { class: `badge is-${kind(status)}`, "data-status": status }, mark(status), word(status));
}

/** The path of a mark, for drawings that set it at a place of their own. */
export const markPath = (status) => MARKS[kind(status)];

/** A step that is recorded as running in a process that is gone is not running. */
export function stepStatus(step) {
  return step.status === "running" && step.owner?.liveness === "dead" ? "interrupted" : step.status;
}

/** How long a step took, or has been running; null where nobody knows when it ended. */
export const took = (step) => (stepStatus(step) === "interrupted" ? null : step.duration_ms);

export const STEP_STATUSES = ["completed", "skipped", "running", "interrupted", "failed", "pending"];
