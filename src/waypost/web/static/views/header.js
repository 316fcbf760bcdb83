// The head of a workflow: its name, how it stands and why, and what can be done with it.

import { h } from "../dom.js";
import { count, duration, plural, visible } from "../format.js";
import { command, copyButton, figure, id, name, progress, since, size, tally } from "../parts.js";
import { to } from "../router.js";
import { badge, mark, stepStatus } from "../status.js";

const SESSIONS = 3;

export function drawHeader(page, state) {
  const condition = page.at ? state.status : (state.condition ?? state.status);
  const counts = asSeen(state.step_counts, page.steps.data?.items ?? []);
  return h(
    "header",
    { class: "head" },
    h(
      "p",
      { class: "crumbs" },
      h("a", { href: "/" }, "Workflows"),
      " / ",
      id(state.id, 80),
      copyButton(state.id),
      drawSessions(state.sessions ?? []),
    ),
    h(
      "div",
      { class: "heading" },
      h("h1", { id: "title" }, name(state.name || state.id)),
      badge(condition),
      h(
        "div",
        { class: "actions" },
        h(
          "button",
          {
            type: "button",
            "data-action": "export",
            title: "One page to keep or send",
            on: { click: () => page.export() },
          },
          "Export",
        ),
      ),
    ),
    !page.at && drawEvidence(page, state, condition),
    h(
      "div",
      { class: "figures" },
      h(
        "div",
        { class: "figure grow", "data-key": "progress" },
        h("span", { class: "figure-label" }, "Progress"),
        progress(counts),
        h(
          "ul",
          { class: "tallies" },
          tally(counts),
          state.current_step &&
            condition === "running" &&
            h("li", { "data-key": "now", class: "dim" }, "at work on ", name(state.current_step)),
        ),
      ),
      figure("Duration", duration(state.duration_ms)),
      figure("Version", count(state.metadata.version)),
      figure("Size", size(state.metadata.size_bytes)),
      state.error_count > 0 && figure("Failed attempts", count(state.error_count)),
      state.start_time && figure("Started", since(state.start_time)),
      state.end_time ? figure("Ended", since(state.end_time)) : figure("Changed", since(state.metadata.updated_at)),
    ),
  );
}

/** Numbers of steps by status; those that run in a process that is gone are interrupted. */
function asSeen(counts, steps) {
  const interrupted = steps.filter((step) => stepStatus(step) === "interrupted").length;
  return interrupted ? { ...counts, running: Math.max(0, counts.running - interrupted), interrupted } : counts;
}

/** The sessions that write in it, the newest first. */
function drawSessions(sessions) {
  const shown = sessions.slice(-SESSIONS).reverse();
  return (
    shown.length > 0 &&
    h(
      "span",
      { class: "of-sessions", "data-key": "sessions" },
      sessions.length === 1 ? "session " : `${plural(sessions.length, "session")} `,
      shown.map((each) =>
        h(
          "a",
          {
            href: to("/session", { id: each.id }),
            "data-key": each.id,
            "data-session": each.id,
            class: "spaced",
            title: visible(each.evidence ?? each.id),
          },
          each.status && mark(each.status),
          id(each.id, 22),
        ),
      ),
      sessions.length > SESSIONS && h("a", { href: "/sessions" }, `and ${count(sessions.length - SESSIONS)} more`),
    )
  );
}

/** Why it stands as it does, where it does not go well, in a sentence, and with what is known. */
function drawEvidence(page, state, condition) {
  const steps = page.steps.data?.items ?? [];
  const left = steps.filter((step) => stepStatus(step) === "interrupted");
  const pieces = [];
  if (left.length) pieces.push(interrupted(page, left));
  const dead = (state.sessions ?? []).filter((each) => each.status === "crashed");
  if (dead.length && condition !== "completed") pieces.push(crashed(dead));
  if (state.error) pieces.push(failed(page, state, steps));
  if (condition === "damaged")
    pieces.push(h("p", {}, "It cannot be read as it is. ", h("code", {}, "waypost verify"), " says more."));
  if (state.paused) pieces.push(h("p", {}, "It is paused: no step is begun until it is resumed."));
  // `waypost show` is what is told where nothing better is known, and shows what is here
  if (state.go_on && condition !== "completed" && !state.go_on.startsWith("waypost show "))
    pieces.push(h("p", {}, "To go on: ", command(state.go_on)));
  return (
    pieces.length > 0 &&
    h("div", { class: `evidence is-${left.length ? "interrupted" : condition}`, "data-evidence": condition }, pieces)
  );
}

function interrupted(page, left) {
  const owners = new Map(left.map((step) => [`${step.owner.pid}@${step.owner.host}`, step.owner]));
  const who = [...owners.values()]
    .slice(0, 3)
    .map((owner) => `process ${owner.pid} on ${visible(owner.host)}`)
    .join(", ");
  return h(
    "p",
    {},
    h("b", {}, `Interrupted: ${plural(left.length, "step")} ${left.length === 1 ? "was" : "were"} running`),
    ` in ${who}, which is there no more. `,
    links(page, left),
    " may have had effects, or not.",
  );
}

function crashed(sessions) {
  const shown = sessions.at(-1);
  return h(
    "p",
    {},
    h("b", {}, "Its session has crashed: "),
    h("a", { href: to("/session", { id: shown.id }) }, id(shown.id, 28)),
    ". ",
    visible(shown.evidence ?? ""),
  );
}

function failed(page, state, steps) {
  const failures = steps.filter((step) => step.status === "failed");
  return h(
    "p",
    {},
    h("b", {}, "Failed: "),
    name(state.error),
    failures.length > 0 && [" (", links(page, failures), ")"],
  );
}

function links(page, steps) {
  const shown = steps
    .slice(0, 3)
    .map((step, index) => [
      index > 0 && ", ",
      h(
        "button",
        { type: "button", class: "link", "data-step": step.id, on: { click: () => page.choose(step.id) } },
        name(step.id),
      ),
    ]);
  return [shown, steps.length > 3 && ` and ${count(steps.length - 3)} more`];
}
