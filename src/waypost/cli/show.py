"""`waypost show`: one workflow with its steps, agents, outputs and context, or one step with all that is known.

When steps were at work, and which waits for which, is drawn by `waypost.cli.drawings`.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import click

from waypost import loading, references
from waypost.cli import describe, drawings, messages
from waypost.cli import timeline as timelines
from waypost.cli.invocation import Invocation, Reading, one_of, options, reading, reference, workflow_argument
from waypost.cli.overview import condition, how_to_go_on
from waypost.cli.text import ago, count, cut, duration, listing, size
from waypost.errors import StepNotFound, VersionNotFound
from waypost.models import StepOutput, WorkflowState, WorkflowStep
from waypost.store import DocumentId, Store

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_MANY = 40
"""Steps that are shown without --all; of more, those at which nothing is remarkable are left out."""

_NEXT = 12
_NEEDS = 32
_ERRORS = 5

_WITH_NEEDS, _WITH_BARS, _BAR = 80, 90, 20
"""From how many columns on it is said what a step needs, there are bars for when it was at work, and their length."""

_PREVIEW = 200
_SMALL, _SHORTLY = 4096, 60
_LINES = 40


@click.command()
@workflow_argument()
@click.option("--step", metavar="ID", help="One step, with its output; the beginning of its id will do.")
@click.option("--outputs", is_flag=True, help="Preview the output of each step.")
@click.option("--timeline", is_flag=True, help="Draw when each step was at work, with all attempts.")
@click.option("--tree", is_flag=True, help="Draw which step waits for which.")
@click.option("--all", "everything", is_flag=True, help="All steps, and outputs in full.")
@options
@click.pass_obj
def show(
    invocation: Invocation,
    workflow: str,
    step: str | None,
    outputs: bool,
    timeline: bool,
    tree: bool,
    everything: bool,
) -> None:
    """Show a workflow: its steps with status, agent, duration, retries and errors, its agents and its context.

    WORKFLOW is an id, WORKFLOW@VERSION for what it was at a version, or a checkpoint; beginnings of ids will do.
    """
    with reading(invocation) as store:
        state = _state(store, reference(store, workflow))
        if step is not None:
            _show_step(invocation, state, _find_step(state, step), everything)
        elif invocation.json:
            messages.print_json(_document(state, outputs, everything))
        elif timeline or tree:
            drawings.show(store.store, state, timeline=timeline, tree=tree, everything=everything)
        else:
            _show(store.store, state, outputs, everything, invocation.flag())


def _state(store: Reading, name: str) -> WorkflowState:
    """A workflow as it is, or as it was at a version."""
    if name in store.store.documents("workflow"):
        return store.wp.load_workflow_state(name).unwrap()
    view = references.resolve(store.store, name)
    if not view.version:  # to `diff` it is the empty state
        raise VersionNotFound(f"versions of {view.document.id!r} begin at 1", given=name)
    return describe.as_of_then(loading.load(view))


def _find_step(state: WorkflowState, given: str) -> WorkflowStep:
    ids = [step.id for step in state.workflow.steps]
    found = [given] if given in ids else [name for name in ids if name.startswith(given)]
    return state.step(one_of(found, ids, given, "step", StepNotFound, f"workflow {state.workflow.id!r}"))


def _loads(output: StepOutput, everything: bool) -> bool:
    return everything or output.size_bytes <= describe.PREVIEWED_BYTES


# --- JSON ---


def _document(state: WorkflowState, outputs: bool, everything: bool) -> dict[str, Any]:
    return {
        **describe.state(state),
        "condition": condition(state),
        "steps": [_step_document(state, step, outputs, everything) for step in state.workflow.steps],
    }


def _step_document(state: WorkflowState, step: WorkflowStep, outputs: bool, everything: bool) -> dict[str, Any]:
    found = describe.step(step)
    output = state.outputs.get(step.id)
    if output is not None:
        found["output"] = describe.output(output, load=outputs and _loads(output, everything))
    elif step.output_version:
        found["output"] = {"version": step.output_version, "erased": True}
    return found


def _show_step(invocation: Invocation, state: WorkflowState, step: WorkflowStep, everything: bool) -> None:
    found = _step_document(state, step, True, everything)
    if invocation.json:
        messages.print_json({"workflow_id": state.workflow.id, **found})
        return
    from waypost.cli import screen

    title = screen.text((step.id, "bold"), (f"  of {state.workflow.id}", "dim"))
    with screen.paged():
        screen.show(title, screen.indented(screen.facts(_step_facts(step, found))))
        if "output" in found:
            _show_output(found["output"], everything)


def _step_facts(step: WorkflowStep, found: dict[str, Any]) -> list[tuple[str, str | Text]]:
    from waypost.cli import screen

    rows: list[tuple[str, str | Text]] = [("status", screen.status_text(step.status))]
    if step.name != step.id:
        rows.append(("name", step.name))
    if step.agent_id:
        rows.append(("agent", step.agent_id))
    if step.dependencies:
        rows.append(("needs", listing(step.dependencies, 20)))
    if step.start_time:
        rows.append(("started", ago(step.start_time)))
    if found["duration_ms"] is not None:
        rows.append(("took" if step.end_time else "running for", duration(found["duration_ms"])))
    if step.retry_count or step.max_retries:
        rows.append(("retries", f"{step.retry_count} of {step.max_retries}"))
    if step.interruptions:
        rows.append(("interrupted", count(step.interruptions, "time")))
    if found["owner"] is not None:
        rows.append(("at work", _owner_text(found["owner"])))
    if step.error:
        rows.append(("error", screen.prose(step.error, "red")))
    return rows


def _owner_text(owner: dict[str, Any]) -> Text:
    from waypost.cli import screen

    said = {"alive": "alive", "dead": "dead: there is no such process any more", "unknown": "cannot be seen from here"}
    liveness = owner["liveness"]
    return screen.text(f"process {owner['pid']} on {owner['host']}, ", (said[liveness], screen.STYLES[liveness][1]))


def _show_output(output: dict[str, Any], everything: bool) -> None:
    from waypost.cli import screen

    if "erased" in output:
        said = f"output  version {output['version']}, which was erased"
        screen.show(screen.blank(), screen.indented(screen.text((said, "yellow"))))
        return
    title = f"output  version {output['version']}, {size(output['size_bytes'])}"
    screen.show(screen.blank(), screen.indented(screen.text((title, "dim"))))
    if "value" not in output:
        screen.show(screen.indented(screen.text(("not loaded, since it is large: --all shows it", "yellow"))))
        return
    lines = _pretty(output["value"]).split("\n")
    shown = lines if everything else lines[:_LINES]
    screen.show(screen.indented(screen.prose("\n".join(shown))))
    if len(lines) > len(shown):
        screen.show(screen.indented(screen.text((f"… and {len(lines) - len(shown):,} more lines: --all", "dim"))))


def _pretty(value: Any) -> str:
    """A value over several lines. A text stands as it is, also in a dictionary, where it has several lines."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value)
        if items and not any(isinstance(item, dict | list) for item in items.values()):
            return "\n".join(_item(name, item) for name, item in items.items())
    return json.dumps(value, indent=2, ensure_ascii=False)


def _item(name: str, item: Any) -> str:
    if not isinstance(item, str) or "\n" not in item:
        return f"{name}: {item if isinstance(item, str) else json.dumps(item)}"
    indented = item.rstrip("\n").replace("\n", "\n    ")
    return f"{name}:\n    {indented}"


# --- a whole workflow, for people ---


def _show(store: Store, state: WorkflowState, outputs: bool, everything: bool, flag: str) -> None:
    from waypost.cli import screen

    steps = list(state.workflow.steps)
    newest = store.view(DocumentId("workflow", state.workflow.id)).version
    parts = [
        *_head(state, steps, newest),
        *_steps(store, state, steps, outputs, everything),
        *_agents(state),
        *_context(state),
    ]
    with screen.paged():
        screen.show(*parts)
        if state.metadata.version >= newest:
            _show_next(state, steps, flag)


def _show_next(state: WorkflowState, steps: Sequence[WorkflowStep], flag: str) -> None:
    """The commands that come next: to see why a step failed, and to go on."""
    from waypost.cli import screen

    failed = [step.id for step in steps if step.status == "failed"]
    commands: list[tuple[str, str]] = []
    if failed:
        words = shlex.join(["waypost", "show", state.workflow.id, "--step", failed[0]])
        commands.append(("look at it  ", words))
    if condition(state) not in ("running", "completed"):
        command = how_to_go_on(state)
        if command.startswith("waypost run"):
            commands.append(("go on with  ", command))
        elif condition(state) == "interrupted" and state.context.session_id:
            commands.append(("go on with  ", shlex.join(["waypost", "resume", state.context.session_id])))
    if commands:
        screen.show(screen.blank(), *(screen.line(said, (command + flag, "bold")) for said, command in commands))


def _head(state: WorkflowState, steps: Sequence[WorkflowStep], newest: int) -> Sequence[RenderableType]:
    from waypost.cli import screen

    workflow, metadata = state.workflow, state.metadata
    folded = workflow.fold()
    counts = folded.step_counts
    finished = counts["completed"] + counts["skipped"]
    named = "" if workflow.name == workflow.id else f"  {workflow.name}"
    then = "" if metadata.version >= newest else f"  as it was at version {metadata.version:,} of {newest:,}"
    tallied = ", ".join(f"{number:,} {status}" for status, number in counts.items() if number)
    rows: list[tuple[str, str | Text]] = [
        ("status", screen.status_text(condition(state))),
        ("progress", screen.text(screen.bar(folded.progress / 100), f"  {finished:,}/{len(steps):,}")),
        ("steps", tallied or "none"),
        ("time", _times(state)),
        ("stored", f"version {metadata.version:,}, {size(metadata.size_bytes)}, checksum {metadata.checksum[:12]}"),
    ]
    rows += _errors(steps)
    return [screen.text((workflow.id, "bold"), (named, "dim"), (then, "yellow")), screen.indented(screen.facts(rows))]


def _errors(steps: Sequence[WorkflowStep]) -> list[tuple[str, str | Text]]:
    """What the steps that failed say, in full."""
    from waypost.cli import screen

    failed = [step for step in steps if step.status == "failed" and step.error]
    said = [screen.text((f"{step.id}: ", "bold red")) + screen.prose(step.error or "", "red") for step in failed]
    for text in said:
        text.no_wrap, text.overflow = False, "fold"
    rows: list[tuple[str, str | Text]] = [("error", text) for text in said[:_ERRORS]]
    if len(said) > _ERRORS:
        rows.append(("", f"and {len(said) - _ERRORS:,} more"))
    return rows


def _times(state: WorkflowState) -> str:
    folded = state.workflow.fold()
    took = f", {duration(folded.total_execution_time_ms)} from first to last" if folded.start_time else ""
    return f"made {ago(state.metadata.created_at)}, changed {ago(state.metadata.updated_at)}{took}"


def _steps(
    store: Store, state: WorkflowState, steps: Sequence[WorkflowStep], outputs: bool, everything: bool
) -> Sequence[RenderableType]:
    from waypost.cli import screen

    if not steps:
        return []
    shown = steps if everything or len(steps) <= _MANY else _remarkable(steps)
    headers = ["step", "status", "agent", ">took", "needs", "output" if outputs else "notes"]
    rows = [_step_row(state, step, outputs, everything) for step in shown]
    if screen.width() < _WITH_NEEDS:
        at = headers.index("needs")
        headers, rows = [*headers[:at], *headers[at + 1 :]], [[*row[:at], *row[at + 1 :]] for row in rows]
    if screen.is_terminal() and screen.width() >= _WITH_BARS:
        attempts = timelines.all_attempts(store, state)
        _, bars = timelines.draw(attempts, [step.id for step in shown], _BAR)
        headers.insert(4, "when")
        for step, row in zip(shown, rows, strict=True):
            row.insert(4, bars.get(step.id, ""))
    parts = [screen.blank(), screen.table(headers, rows)]
    if len(shown) < len(steps):
        left = Counter(step.status for step in steps) - Counter(step.status for step in shown)
        said = ", ".join(f"{number:,} {status}" for status, number in left.items())
        parts.append(screen.text((f"… and {said}: --all shows them", "dim")))
    return parts


def _remarkable(steps: Sequence[WorkflowStep]) -> list[WorkflowStep]:
    """Steps at work and failed ones, the next to come, and the last that were done, in the order of the workflow."""
    done = sorted((step for step in steps if step.end_time and step.is_finished), key=lambda step: str(step.end_time))
    chosen = [
        *[step for step in steps if step.status in ("running", "failed")][:_MANY],
        *[step for step in steps if step.status == "pending"][:_NEXT],
        *done[-_NEXT:],
    ]
    ids = {step.id for step in chosen[:_MANY]}
    return [step for step in steps if step.id in ids]


def _step_row(state: WorkflowState, step: WorkflowStep, outputs: bool, everything: bool) -> list[Any]:
    from waypost.cli import screen

    found = describe.step(step)
    took = found["duration_ms"]
    owner = found["owner"]
    gone = owner is not None and owner["liveness"] == "dead"
    return [
        step.id,
        screen.status_text("interrupted" if gone else step.status),
        step.agent_id or "",
        "" if took is None or gone else duration(took),
        screen.text((cut(listing(step.dependencies, 2), _NEEDS), "dim")),
        _preview(state, step, everything) if outputs else _notes(step, found) or _shortly(state, step),
    ]


def _notes(step: WorkflowStep, found: dict[str, Any]) -> Text:
    """What is out of the ordinary about a step."""
    from waypost.cli import screen

    pieces: list[tuple[str, str]] = []
    if found["owner"] is not None:
        liveness = found["owner"]["liveness"]
        pieces.append((f"process {found['owner']['pid']} is {liveness}", screen.STYLES[liveness][1]))
    if step.retry_count:
        pieces.append(("1 retry" if step.retry_count == 1 else f"{step.retry_count:,} retries", "yellow"))
    if step.interruptions:
        pieces.append((f"interrupted {count(step.interruptions, 'time')}", "yellow"))
    if step.error:
        pieces.append((cut(step.error, _PREVIEW), "red" if step.status == "failed" else "dim"))
    made = screen.text()
    for number, piece in enumerate(pieces):
        made = screen.text(made, ", " if number else "", piece)
    return made


def _shortly(state: WorkflowState, step: WorkflowStep) -> Text:
    """The beginning of a small output, where there is nothing else to note."""
    from waypost.cli import screen

    output = state.outputs.get(step.id)
    if output is None or output.size_bytes > _SMALL:
        return screen.text("" if output is None else (size(output.size_bytes), "dim"))
    value = describe.output(output, load=True)["value"]
    return screen.text((cut(json.dumps(value, ensure_ascii=False), _SHORTLY), "dim"))


def _preview(state: WorkflowState, step: WorkflowStep, everything: bool) -> Text:
    from waypost.cli import screen

    output = state.outputs.get(step.id)
    if output is None:
        return screen.text(("erased" if step.output_version else "", "yellow"))
    if not _loads(output, everything):
        return screen.text((f"{size(output.size_bytes)}, not loaded", "yellow"))
    value = describe.output(output, load=True)["value"]
    return screen.text(cut(json.dumps(value, ensure_ascii=False), 10_000 if everything else _PREVIEW))


def _agents(state: WorkflowState) -> Sequence[RenderableType]:
    from waypost.cli import screen

    rows = [
        [
            agent.id,
            agent.status,
            agent.current_task or "",
            f"{agent.performance.tasks_completed:,}",
            duration(agent.performance.average_execution_time_ms) if agent.performance.tasks_completed else "",
        ]
        for agent in state.agents.values()
    ]
    if not rows:
        return []
    headers = ("agent", "status", "task", ">done", ">on average")
    return [screen.blank(), screen.table(headers, rows)]


def _context(state: WorkflowState) -> Sequence[RenderableType]:
    from waypost.cli import screen

    found = describe.state(state)["context"]
    rows: list[tuple[str, str | Text]] = [
        (f"{group[:-1] if group.endswith('s') else group} {name}", cut(json.dumps(value, ensure_ascii=False), _PREVIEW))
        for group in ("variables", "configuration", "features")
        for name, value in found[group].items()
    ]
    rows += [(f"secret {name}", screen.text(("sealed", "dim"))) for name in found["secrets"]]
    rows[:0] = [(name.removesuffix("_id"), found[name]) for name in ("session_id", "user_id") if found[name]]
    if not rows:
        return []
    return [screen.blank(), screen.heading("context"), screen.indented(screen.facts(rows))]
