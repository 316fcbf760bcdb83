// Who works on the workflow: what each agent does now, has done, and uses.

import { h } from "../dom.js";
import { bytes, count, duration, visible } from "../format.js";
import { empty, facts, id, name, progress, since } from "../parts.js";
import { badge, stepStatus, took } from "../status.js";
import { drawChip } from "./waiting.js";

const MOST_STEPS = 120;

export function drawAgents(page, steps) {
  const agents = new Map(Object.entries(page.state.data.agents ?? {}));
  for (const step of steps) if (step.agent_id && !agents.has(step.agent_id)) agents.set(step.agent_id, null);
  if (!agents.size)
    return empty(
      "No agent has worked on this",
      "Steps that name an ",
      h("code", {}, "agent_id"),
      " are gathered here.",
    );
  const work = new Map([...agents.keys()].map((agent) => [agent, []]));
  for (const step of steps) work.get(step.agent_id)?.push(step);
  return h(
    "ul",
    { class: "cards", "aria-label": "Agents" },
    [...agents].map(([agent, told]) => card(page, agent, told, work.get(agent))),
  );
}

function card(page, agent, told, steps) {
  const counts = {};
  for (const step of steps) counts[step.status] = (counts[step.status] ?? 0) + 1;
  const busy = steps.filter((step) => step.status === "running");
  const total = steps.reduce((sum, step) => sum + (took(step) ?? 0), 0);
  const status = told?.status ?? (busy.some((step) => stepStatus(step) === "running") ? "busy" : "idle");
  return h(
    "li",
    { class: "card", "data-key": agent, "data-agent": agent },
    h("div", { class: "card-head" }, h("h3", {}, name(told?.name || agent)), badge(status)),
    told && told.name !== agent && h("p", { class: "under" }, id(agent)),
    progress(counts, { label: `Steps of ${visible(agent)}` }),
    h(
      "div",
      { class: "dashed small", role: "group", "aria-label": "Its steps" },
      steps.slice(0, MOST_STEPS).map((step) => drawChip(page, step, stepStatus(step), true)),
      steps.length > MOST_STEPS && h("span", { class: "dim" }, `and ${count(steps.length - MOST_STEPS)} more`),
    ),
    facts([
      ["At work on", busy.length > 0 ? stepLinks(page, busy) : told?.current_task && visible(told.current_task)],
      ["Waiting", told?.queued > 0 && `${count(told.queued)} in its queue`],
      ["Time at work", total > 0 && duration(total)],
      [
        "Each took",
        told?.performance.tasks_completed > 0 && `${duration(told.performance.average_execution_time_ms)} on average`,
      ],
      ["Failed", counts.failed > 0 && count(counts.failed)],
      ["Error rate", told?.performance.error_rate > 0 && `${(told.performance.error_rate * 100).toFixed(1)} %`],
      ["Memory", told?.resources.memory_usage_bytes > 0 && bytes(told.resources.memory_usage_bytes)],
      ["Processor", told?.resources.cpu_usage > 0 && `${told.resources.cpu_usage.toFixed(0)} %`],
      ["Requests", told?.resources.network_requests > 0 && count(told.resources.network_requests)],
      ["Last seen", told?.performance.last_activity && since(told.performance.last_activity)],
    ]),
  );
}

function stepLinks(page, steps) {
  return steps
    .slice(0, 3)
    .map((step, index) => [
      index > 0 && ", ",
      h("button", { type: "button", class: "link", on: { click: () => page.choose(step.id) } }, name(step.id)),
    ]);
}
