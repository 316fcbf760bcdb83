// One session: what is seen of its owner, what is known of its work, and how to go on with it.

import { get } from "../api.js";
import { h } from "../dom.js";
import { count, cut, moment, plural, value, visible } from "../format.js";
import { keepFresh, Loaded, lookAgain } from "../loading.js";
import { command, copyButton, copyText, empty, facts, id, loadedPart, name, since } from "../parts.js";
import { go, to } from "../router.js";
import { badge, mark } from "../status.js";

const GROUPS = [
  ["done", "done", "completed"],
  ["ambiguous", "were running: they may have had effects, or not", "interrupted"],
  ["running", "may still run", "running"],
  ["failed", "failed", "failed"],
  ["never_started", "never started", "pending"],
];
const ONE = { ambiguous: "was running: it may have had effects, or not" };
const SHOWN = 30;

export function openSession({ query, redraw }) {
  const given = query.get("id") ?? "";
  const loaded = new Loaded((signal) => get("/api/session", { id: given }, signal), redraw);
  const stop = keepFresh(loaded, (commit) => concerns(commit));
  const rest = lookAgain(loaded, 10_000);
  const concerns = ({ session, workflow }) => session === given || loaded.data?.active_workflows.includes(workflow);
  loaded.load();
  return {
    title: `Session ${given}`,
    keys: { y: () => copyText(given, "id"), Escape: () => go("/sessions") },
    update() {},
    close() {
      stop();
      rest();
      loaded.close();
    },
    draw: () =>
      h(
        "article",
        { class: "session", "aria-labelledby": "title", "data-view": "session", "data-session": given },
        h("p", { class: "crumbs" }, h("a", { href: "/sessions" }, "Sessions")),
        h(
          "div",
          { class: "heading" },
          h("h1", { id: "title" }, "Session ", id(given)),
          copyButton(given),
          loaded.data && badge(loaded.data.status),
        ),
        loadedPart(loaded, drawSession, "Looking at the session"),
      ),
  };
}

function drawSession(data) {
  const session = data;
  const { evidence, workflows } = data;
  return [
    evidence &&
      h(
        "div",
        { class: `evidence is-${session.status}`, "data-evidence": session.status },
        h("p", {}, h("b", {}, HEADS[session.status] ?? ""), visible(evidence)),
      ),
    facts([
      ["Started", [since(session.start_time), h("span", { class: "dim" }, ` ${moment(session.start_time)}`)]],
      ["Ended", session.end_time && since(session.end_time)],
      ["User", session.user_id && visible(session.user_id)],
      ["Last checkpoint", session.last_checkpoint_id && id(session.last_checkpoint_id)],
    ]),
    data.plan && drawPlan(data.plan, data.command),
    !data.plan && data.command && goOn(data.command),
    drawWorkflows(session, workflows),
    session.crash_recovery_data && drawCrash(session.crash_recovery_data),
    drawEnvironment(session.environment),
  ];
}

const HEADS = { crashed: "Its owner is dead: ", active: "Its owner is at work: ", paused: "Paused: ", completed: "" };

function goOn(given) {
  return h("p", { class: "command" }, "To go on: ", command(given));
}

function drawPlan(plan, given) {
  return h(
    "section",
    { class: "card plan", "aria-labelledby": "plan", "data-plan": plan.strategy },
    h("h2", { id: "plan" }, "How to go on"),
    h("p", { class: "dim" }, "This is what a recovery would do; nothing has been done."),
    facts([
      ["Recovery", visible(plan.strategy.replaceAll("_", " "))],
      ["May be lost", `${plan.estimated_data_loss.toFixed(plan.estimated_data_loss % 1 ? 1 : 0)} %`],
      ["Can be recovered", plural(plan.recoverable_workflows.length, "workflow")],
      ["Cannot be read", plan.corrupted_workflows.length > 0 && plan.corrupted_workflows.map((each) => name(each))],
    ]),
    h(
      "ol",
      { class: "plan-steps" },
      plan.recovery_steps.map((each) => h("li", {}, visible(each))),
    ),
    plan.warnings.length > 0 &&
      h(
        "ul",
        { class: "warnings" },
        plan.warnings.map((each) => h("li", {}, mark("crashed"), visible(each))),
      ),
    given && goOn(given),
  );
}

function drawWorkflows(session, workflows) {
  const told = new Set(workflows.map((each) => each.workflow_id));
  const rest = [...session.active_workflows, ...session.completed_workflows].filter((each) => !told.has(each));
  return h(
    "section",
    { "aria-labelledby": "workflows", "data-key": "workflows" },
    h("h2", { id: "workflows" }, "Its workflows"),
    !workflows.length && !rest.length && empty("It has written in no workflow"),
    h("ul", { class: "cards" }, workflows.map(drawTriage)),
    rest.length > 0 &&
      h(
        "ul",
        { class: "plain" },
        rest.map((each) =>
          h(
            "li",
            { "data-key": each },
            workflowLink(each),
            session.completed_workflows.includes(each) && h("span", { class: "dim" }, " finished"),
          ),
        ),
      ),
  );
}

const workflowLink = (each) => h("a", { href: to("/workflow", { id: each }), "data-row-link": true }, name(each));

function drawTriage(one) {
  return h(
    "li",
    { class: "card", "data-key": one.workflow_id, "data-workflow": one.workflow_id },
    h("div", { class: "card-head" }, h("h3", {}, workflowLink(one.workflow_id))),
    one.go_on &&
      !one.go_on.startsWith("waypost show ") &&
      h(
        "p",
        { class: "command dim" },
        "To go on: ",
        command(one.go_on),
      ),
    one.problem &&
      h(
        "p",
        { class: "error-text" },
        visible(one.problem),
        one.checkpoint_id && [" Its newest whole checkpoint: ", id(one.checkpoint_id)],
      ),
    GROUPS.filter(([key]) => one[key]?.length).map(([key, label, status]) =>
      h(
        "details",
        { "data-key": key, "data-group": key, open: key === "ambiguous" },
        h(
          "summary",
          {},
          mark(status),
          h("b", {}, count(one[key].length)),
          ` ${one[key].length === 1 ? (ONE[key] ?? label) : label}`,
        ),
        h(
          "ul",
          { class: "ids" },
          one[key]
            .slice(0, SHOWN)
            .map((step) =>
              h(
                "li",
                { "data-key": step },
                h("a", { href: to("/workflow", { id: one.workflow_id, step }) }, name(cut(step, 50))),
              ),
            ),
          one[key].length > SHOWN && h("li", { class: "dim" }, `and ${count(one[key].length - SHOWN)} more`),
        ),
      ),
    ),
  );
}

function drawCrash(crash) {
  return h(
    "section",
    { "data-key": "crash" },
    h("h2", {}, "Its last crash"),
    facts([
      ["Found out", since(crash.timestamp)],
      ["Evidence", visible(crash.error)],
      ["Recovery", visible(crash.recovery_strategy.replaceAll("_", " "))],
      ["Lost", `${crash.data_loss} %`],
    ]),
  );
}

function drawEnvironment(environment) {
  const entries = Object.entries(environment ?? {});
  return (
    entries.length > 0 &&
    h(
      "section",
      { "data-key": "environment" },
      h("h2", {}, "Environment"),
      facts(entries.map(([key, each]) => [visible(key), h("code", {}, value(each, 200))])),
    )
  );
}
