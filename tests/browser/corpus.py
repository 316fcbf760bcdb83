"""A store in which every text that can be stored is a trap for a page, and what traps leave where they work."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from waypost import AgentState, Workflow, WorkflowContext, WorkflowState, WorkflowStep
from waypost.blocking import Waypost

TRAPS = (
    "<script>document.title='trapped'</script>",
    "<img src=https://elsewhere.example/i onerror=alert(1)>",
    '"><svg onload=alert(2)>',
    "'autofocus onfocus=alert(3) x='",
    "</title></style></textarea></script><iframe src=javascript:alert(4)></iframe>",
    "javascript:alert(5)",
    "//elsewhere.example/j",
    "https://elsewhere.example/k",
    "<style>@import 'https://elsewhere.example/l';</style>",
    "<base href=https://elsewhere.example/><form action=https://elsewhere.example/m>",
    "<meta http-equiv=refresh content='0;url=https://elsewhere.example/n'>",
    "<a href=https://elsewhere.example/o ping=https://elsewhere.example/p>q</a>",
    "{{constructor.constructor('alert(6)')()}}${alert(7)}",
    "<!--><template><x is=y>]]>&lt;b&gt;&#60;",
    "x' || alert(8) || '",
    "../../etc/passwd?a=b&c=d#e%2f",
)
KEYS = ("__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "length", "null", "undefined", "0", " ")
"""Names that mean something to JavaScript itself."""

WORKFLOW = TRAPS[1]
OF_KEYS = "keys"
SESSION = TRAPS[2]

HIDDEN = "\u202egnp.exe\u200b\u2066"
"""Turns the direction of writing, and what cannot be seen: allowed in texts, if not in ids."""


def fill(wp: Waypost) -> str:
    """Make it. Gives the id of a checkpoint of WORKFLOW."""
    wp.start_session(
        TRAPS[0],
        environment={trap: trap for trap in (*TRAPS, *KEYS)} | {"resume_command": TRAPS[4]},
        preferences={trap: {trap: [trap]} for trap in TRAPS},
        session_id=SESSION,
    )
    _trapped(wp, WORKFLOW, TRAPS)
    _trapped(wp, OF_KEYS, KEYS)
    for number, trap in enumerate(TRAPS):
        wp.create_workflow(trap if trap != WORKFLOW else f"{trap}{number}", f"{trap}{HIDDEN}", steps=[trap]).unwrap()
    kept = wp.create_checkpoint(WORKFLOW, f"{TRAPS[1]}{HIDDEN}", list(TRAPS))
    wp.update_step_status(WORKFLOW, TRAPS[0], "failed", error=f"{TRAPS[3]}{HIDDEN}\n{TRAPS[4]}").unwrap()
    wp.add_step_output(
        WORKFLOW, TRAPS[2], {trap: [trap, {trap: trap}] for trap in TRAPS}, operation_id=TRAPS[2]
    ).unwrap()
    wp.update_context(WORKFLOW, variables={TRAPS[5]: f"{TRAPS[6]}{HIDDEN}"}).unwrap()
    return kept.unwrap().id


def _trapped(wp: Waypost, name: str, traps: tuple[str, ...]) -> None:
    """A workflow with a step, an agent, an output, and entries of its context for each trap."""
    began = datetime(2026, 3, 1, tzinfo=UTC)
    steps: list[WorkflowStep] = []
    for number, trap in enumerate(traps):
        step = WorkflowStep(trap, f"{trap}{HIDDEN}", agent_id=trap, dependencies=[traps[number - 1]] if number else [])
        step.status = "running" if number == 0 else "pending" if number == len(traps) - 1 else "completed"
        if step.status != "pending":
            step.start_time = began + timedelta(seconds=number)
            step.end_time = None if number == 0 else step.start_time + timedelta(seconds=1)
        if step.status == "completed":
            step.output = f"{trap}{HIDDEN}"
        steps.append(step)
    entries: dict[str, Any] = {trap: {trap: f"{trap}{HIDDEN}"} for trap in traps}
    agents = {trap: AgentState(trap, f"{trap}{HIDDEN}", "busy", trap, [trap]) for trap in traps}
    context = WorkflowContext(user_id=traps[0], configuration=entries, variables=entries, features=entries)
    workflow = Workflow(name, f"{traps[0]}{HIDDEN}", steps=steps)
    wp.save_workflow_state(WorkflowState(workflow=workflow, agents=agents, context=context)).unwrap()


TRACES = """() => {
  const never = ["SCRIPT", "IFRAME", "IMG", "BASE", "META", "OBJECT", "EMBED", "STYLE", "LINK", "FORM", "TEMPLATE"];
  const own = "head > meta[charset], head > meta[name], head > link[href^='/static/'], head > script[src^='/static/'], "
    + "form[role=search], form.lock";
  const leads = ["href", "src", "action", "xlink:href"];
  const isTrap = (one) => one.name.startsWith("on") || ["srcdoc", "ping"].includes(one.name)
    || leads.includes(one.name) && new URL(one.value, location.href).origin !== location.origin;
  return [...document.querySelectorAll("*")]
    .filter((each) => never.includes(each.nodeName) && !each.matches(own) || [...each.attributes].some(isTrap))
    .map((each) => each.outerHTML.slice(0, 200));
}"""
"""Elements and attributes that the page itself never makes; where a trap worked, there are some."""
