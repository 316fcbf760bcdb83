// One step, beside whatever is shown: all that is known of it, and the way to its output and its neighbours.

import { h } from "../dom.js";
import { count, duration, moment, visible } from "../format.js";
import { copyButton, facts, id, name, since } from "../parts.js";
import { changed } from "../router.js";
import { badge, mark, stepStatus, took } from "../status.js";

const LIVENESS = { alive: "alive", dead: "there no more", unknown: "cannot be seen from here", then: "at work then" };
const MOST_NEIGHBOURS = 12;

export function drawStep(page, step) {
  const all = page.steps.data.items;
  const byId = new Map(all.map((each) => [each.id, each]));
  const next = all.filter((each) => each.dependencies.includes(step.id));
  return h(
    "aside",
    { class: "side", "aria-label": `Step ${visible(step.id)}`, "data-step-panel": step.id },
    h(
      "div",
      { class: "side-head" },
      h("h2", {}, name(step.name || step.id)),
      h(
        "button",
        {
          type: "button",
          class: "quiet",
          "aria-label": "Close",
          title: "Close (Escape)",
          on: { click: () => page.choose(step.id) },
        },
        "×",
      ),
    ),
    h("p", { class: "under" }, id(step.id), copyButton(step.id, "step id")),
    h("p", {}, badge(stepStatus(step))),
    step.error && h("pre", { class: "error-box", tabindex: 0, "aria-label": "Error" }, step.error),
    facts([
      ["Agent", step.agent_id && name(step.agent_id)],
      ["Started", step.start_time && [since(step.start_time), h("div", { class: "dim" }, moment(step.start_time))]],
      ["Ended", step.end_time && since(step.end_time)],
      ["Took", took(step) !== null && duration(took(step))],
      [
        "Retries",
        (step.retry_count > 0 || step.max_retries > 0) &&
          `${count(step.retry_count)} of at most ${count(step.max_retries)}`,
      ],
      ["Interruptions", step.interruptions > 0 && count(step.interruptions)],
      ["Process", step.owner && owner(step)],
      [
        "Output",
        step.output_version > 0 &&
          h("a", { href: changed({ tab: "outputs", step: step.id }) }, `version ${count(step.output_version)}`),
      ],
      [
        "Needs",
        step.dependencies.length > 0 &&
          neighbours(
            page,
            step.dependencies.map((each) => byId.get(each) ?? { id: each, status: "pending" }),
          ),
      ],
      ["Needed by", next.length > 0 && neighbours(page, next)],
    ]),
  );
}

function owner(step) {
  const { pid, host, liveness } = step.owner;
  return [
    `${pid} on ${visible(host)}: `,
    h("span", { class: `is-${liveness === "dead" ? "interrupted" : "idle"}` }, LIVENESS[liveness] ?? liveness),
  ];
}

function neighbours(page, steps) {
  return h(
    "ul",
    { class: "plain" },
    steps
      .slice(0, MOST_NEIGHBOURS)
      .map((each) =>
        h(
          "li",
          { "data-key": each.id },
          h(
            "button",
            { type: "button", class: "link", on: { click: () => page.choose(each.id) } },
            mark(stepStatus(each)),
            name(each.id),
          ),
        ),
      ),
    steps.length > MOST_NEIGHBOURS && h("li", { class: "dim" }, `and ${count(steps.length - MOST_NEIGHBOURS)} more`),
  );
}
