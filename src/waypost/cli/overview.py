"""What is going on in a store: which workflows run, were interrupted, failed or wait, and how to go on with them.

A workflow whose steps are recorded as running is *interrupted* when every process that worked on them is provably
dead, and is *running* when one of them is alive or cannot be seen from here.
"""

from __future__ import annotations

import logging
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from waypost.cli.describe import owner
from waypost.cli.text import count
from waypost.errors import StoreError, StoreUnavailable, WorkflowNotFound
from waypost.folding import WorkflowStatus
from waypost.models import WorkflowState, WorkflowStep, WorkflowSummary
from waypost.queries import StateQuery

if TYPE_CHECKING:
    from waypost.cli.invocation import Reading

Condition = Literal["running", "interrupted", "failed", "paused", "unfinished", "idle", "completed", "damaged"]

IN_ORDER: tuple[Condition, ...] = (
    "running", "interrupted", "failed", "damaged", "paused", "unfinished", "idle", "completed"
)  # fmt: skip

MOST = 10_000
FILE_KEY = "run_file"
"""The key of a workflow's configuration under which `waypost run` keeps the file that it was made from."""


@dataclass
class RunningStep:
    """A step that is recorded as running, and whether the process that works on it is there."""

    id: str
    agent_id: str | None
    pid: int | None
    host: str | None
    liveness: Literal["alive", "dead", "unknown"]
    since: datetime | None


@dataclass
class Found:
    """One workflow in the overview."""

    id: str
    condition: Condition
    name: str = ""
    progress: float = 0.0
    step_counts: Mapping[str, int] = field(default_factory=dict[str, int])
    updated_at: datetime | None = None
    error: str | None = None
    running: Sequence[RunningStep] = ()
    failed: Sequence[str] = ()
    go_on: str | None = None

    @property
    def finished(self) -> int:
        return self.step_counts.get("completed", 0) + self.step_counts.get("skipped", 0)

    @property
    def total(self) -> int:
        return sum(self.step_counts.values())


class LeftOut(logging.Filter):
    """Takes note of, and keeps back, what the library says about workflows that it leaves out of a list."""

    def __init__(self) -> None:
        super().__init__()
        self.any = False

    def filter(self, record: logging.LogRecord) -> bool:
        is_left_out = "left out of a list" in record.msg
        self.any |= is_left_out
        return not is_left_out

    def __enter__(self) -> LeftOut:
        logging.getLogger("waypost").addFilter(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("waypost").removeFilter(self)


@dataclass
class Overview:
    """The workflows of a store, what matters most first; of a status that more than `MOST` have, those changed last.

    `beyond` counts the rest; of those that are neither idle nor completed, the condition is not known then.
    """

    found: list[Found]
    beyond: Counter[Condition | None]


def look(reading: Reading, only: str | None = None, *, closely: int = MOST) -> Overview:
    """All workflows, or the one of that id; what matters most first, and then what changed last.

    So many of each condition are looked at closely, for what failed in them and how to go on.
    """
    with LeftOut() as left_out:
        pages = [reading.wp.list_workflows(StateQuery(workflow_id=only, limit=MOST))]
        if pages[0].has_more:
            pages = [reading.wp.list_workflows(StateQuery(status=[*group], limit=MOST)) for group in _GROUPS.values()]
    seen: Counter[Condition] = Counter()
    found: list[Found] = []
    for summary in (one for page in pages for one in page):
        guess = likely(summary.status)
        is_near = summary.step_counts["running"] > 0 or (guess != "completed" and seen[guess] < closely)
        one = _look_at(reading, summary) if is_near else _from_afar(summary, guess)
        if one is None:
            continue
        found.append(one)
        seen[one.condition] += 1
    if left_out.any or only is not None:
        names = reading.store.documents("workflow") if only is None else [only]
        found.extend(damaged(reading, names))
    found.sort(key=lambda one: IN_ORDER.index(one.condition))
    beyond: Counter[Condition | None] = Counter()
    beyond.update({group: page.total - len(page) for group, page in zip(_GROUPS, pages, strict=False)})
    return Overview(found, beyond)


_GROUPS: dict[Condition | None, tuple[WorkflowStatus, ...]] = {
    None: ("running", "failed", "paused"),
    "idle": ("idle",),
    "completed": ("completed",),
}
"""What is asked for apart in a large store, so that none hides another."""


def damaged(reading: Reading, names: Iterator[str] | Sequence[str]) -> Iterator[Found]:
    """The workflows that cannot be read, and why."""
    for name in names:
        try:
            reading.wp.definitions.load_workflow_state(name).run().unwrap().workflow.fold()
        except WorkflowNotFound:
            continue
        except StoreError as error:
            # of what may not be read, verify would say no more
            go_on = None if isinstance(error, StoreUnavailable) else "waypost verify"
            yield Found(name, "damaged", error=str(error), go_on=go_on)


def _from_afar(summary: WorkflowSummary, condition: Condition) -> Found:
    return Found(
        summary.id,
        condition,
        summary.name,
        summary.progress,
        {**summary.step_counts},
        summary.updated_at,
        summary.error,
    )


def _look_at(reading: Reading, summary: WorkflowSummary) -> Found | None:
    """A workflow from nearby; None where it was deleted since it was listed."""
    found = _from_afar(summary, "completed")
    if summary.status == "completed":
        return found
    try:
        state = reading.wp.load_workflow_state(summary.id).unwrap()
    except WorkflowNotFound:
        return None
    found.running = [_running_step(step) for step in state.workflow.steps if step.status == "running"]
    found.failed = [step.id for step in state.workflow.steps if step.status == "failed"]
    found.condition = _condition(summary.status, found.running)
    found.go_on = how_to_go_on(state)
    return found


def condition_of(reading: Reading, summary: WorkflowSummary) -> Condition:
    """The condition of one workflow; one that has running steps is looked at more closely, while it is there."""
    found = _look_at(reading, summary) if summary.step_counts["running"] else None
    return likely(summary.status) if found is None else found.condition


def likely(status: WorkflowStatus) -> Condition:
    """The condition of a workflow of which no step runs."""
    return _condition(status, ())


def condition(state: WorkflowState) -> Condition:
    """The condition of a workflow that was loaded."""
    running = [_running_step(step) for step in state.workflow.steps if step.status == "running"]
    return _condition(state.workflow.status, running)


def _condition(status: WorkflowStatus, running: Sequence[RunningStep]) -> Condition:
    # of a failed or paused workflow too, what still runs matters most
    if running:
        return "interrupted" if all(step.liveness == "dead" for step in running) else "running"
    return "unfinished" if status == "running" else status


def _running_step(step: WorkflowStep) -> RunningStep:
    held = owner(step)
    if held is None:
        return RunningStep(step.id, step.agent_id, None, None, "unknown", step.start_time)
    return RunningStep(step.id, step.agent_id, held["pid"], held["host"], held["liveness"], step.start_time)


def how_to_go_on(state: WorkflowState) -> str:
    """The command that goes on with a workflow, or that shows what to do."""
    file = state.context.configuration.get(FILE_KEY)
    if isinstance(file, str):
        return f"waypost run {shlex.quote(file)}"
    return f"waypost show {shlex.quote(state.workflow.id)}"


def show_next(command: str) -> None:
    """Tell people which command goes on. Where none is known, `how_to_go_on` is one that only shows what there is."""
    from waypost.cli import screen

    screen.show(screen.blank())
    if command.startswith("waypost show "):
        screen.show(screen.text(("it goes on when its program is started again", "dim")))
        screen.show(screen.line("look at it  ", (command, "bold")))
    else:
        screen.show(screen.line("go on with  ", (command, "bold")))


def show_waiting(events: int, flag: str) -> None:
    """Tell people that what they see is not all that happened, where events of other programs wait. `flag` names the
    store in a command, where it is not the default one.
    """
    if events:
        from waypost.cli import screen

        verb = "waits" if events == 1 else "wait"
        told = f"{count(events, 'event')} of other programs {verb} to be folded in by whoever writes next: "
        screen.show(screen.blank(), screen.text((told, "dim"), f"waypost agent fold{flag}"))
