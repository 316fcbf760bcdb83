// What differs between two versions, row by row: the rows of a step together, under what became of it.

import { h } from "../dom.js";
import { clock, count, day, moment, plural, value } from "../format.js";
import { empty, name } from "../parts.js";
import { badge } from "../status.js";

const SIGNS = { added: "+", removed: "−", changed: "~" };
const SHOWN = 500;
const OPEN = 60; // with more rows than that those of a step are folded away under its heading

// `steps.build.status`, `outputs["unit tests"].rows[3]`: which group, which step, and what of it
const OF_STEP = /^(steps|outputs)(?:\.([^.[\]]+)|\["((?:[^"\\]|\\.)*)"\])(.*)$/s;
const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/;

/** Rows {path, change, before, after}, as the server tells them; `isCut` says that there are more. */
export function drawChanges(rows, isCut, label = "Changes") {
  if (!rows.length) return empty("Nothing differs");
  const shown = rows.slice(0, SHOWN);
  const { steps, rest } = byStep(shown);
  const more = isCut || rows.length > SHOWN;
  return [
    h(
      "p",
      { class: "dim" },
      `${plural(rows.length, "difference")}${more ? `; the first ${count(shown.length)} are shown` : ""}`,
    ),
    rest.length > 0 &&
      h(
        "ul",
        { class: "diff", "aria-label": label, "data-key": "rest" },
        rest.map((row) => drawRow(row, row.path)),
      ),
    [...steps].map(([step, group]) => drawStep(step, group, shown.length <= OPEN)),
  ];
}

function byStep(rows) {
  const steps = new Map();
  const rest = [];
  for (const row of rows) {
    const found = OF_STEP.exec(row.path);
    if (!found) {
      rest.push(row);
      continue;
    }
    const [, group, plain, quoted, below] = found;
    const step = plain ?? quoted.replace(/\\(.)/g, "$1");
    if (!steps.has(step)) steps.set(step, []);
    steps
      .get(step)
      .push({ row, group, label: `${group === "outputs" ? "output" : ""}${below}`.replace(/^\./, "") || "step" });
  }
  return { steps, rest };
}

function drawStep(step, group, isOpen) {
  const status = group.find((each) => each.group === "steps" && each.label === "status")?.row;
  const others = group.filter((each) => each.row !== status);
  return h(
    "details",
    { class: "diff-step", "data-key": step, "data-changed-step": step, open: isOpen },
    h(
      "summary",
      {},
      h("b", {}, name(step)),
      status &&
        h("span", { class: "diff-status", "data-change": status.change, "data-path": status.path }, ends(status)),
      others.length > 0 &&
        h("span", { class: "dim" }, status ? ` and ${count(others.length)} more` : plural(others.length, "difference")),
    ),
    others.length > 0 &&
      h(
        "ul",
        { class: "diff" },
        others.map((each) => drawRow(each.row, each.label)),
      ),
  );
}

/** The status before and after. */
function ends({ change, before, after }) {
  return [
    change !== "added" && badge(String(before)),
    change === "changed" && h("span", { class: "dim" }, "→"),
    change !== "removed" && badge(String(after)),
  ];
}

function drawRow(row, label) {
  return h(
    "li",
    { class: `diff-row is-${row.change}`, "data-key": row.path, "data-change": row.change, "data-path": row.path },
    h("span", { class: "diff-sign", "aria-hidden": "true" }, SIGNS[row.change] ?? "~"),
    h("span", { class: "hidden" }, `${row.change}: `),
    h("code", { class: "diff-path", title: row.path }, name(label)),
    h("span", { class: "diff-values" }, sides(row)),
  );
}

function sides(row) {
  const isMade = row.change === "changed" && row.before === null;
  const isGone = row.change === "changed" && row.after === null;
  const before = row.change !== "added" && !isMade && h("del", {}, shown(row.before));
  const after = row.change !== "removed" && !isGone && h("ins", {}, shown(row.after));
  return [before, before && after && h("span", { class: "dim" }, " → "), after];
}

/** A value; a moment as people say it, with the exact one as its title. */
function shown(given) {
  const isMoment = typeof given === "string" && MOMENT.test(given) && given.length < 40;
  const time = isMoment ? Date.parse(given) : NaN;
  if (Number.isNaN(time)) return h("bdi", {}, value(given));
  return h("time", { datetime: given, title: `${given} (${moment(given)})` }, `${day(time)}, ${clock(time)}`);
}
