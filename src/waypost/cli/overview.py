"""What is going on in a store: which workflows run, were interrupted, failed or wait, and how to go on with them.

A workflow whose steps are recorded as running is *interrupted* when every process that worked on them is provably
dead, and is *running* when one of them is alive or cannot be seen from here.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from waypost.cli.describe import owner
from waypost.errors import StoreError, WorkflowNotFound
from waypost.folding import WorkflowStatus
from waypost.models import StateQuery, WorkflowState, WorkflowStep, WorkflowSummary

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


def look(reading: Reading, only: str | None = None) -> list[Found]:
    """All workflows, or the one of that id; what matters most first, and then what changed last."""
    with LeftOut() as left_out:
        page = reading.wp.list_workflows(StateQuery(workflow_id=only, limit=MOST))
    found = [_look_at(reading, summary) for summary in page]
    if left_out.any or only is not None:
        names = reading.store.documents("workflow") if only is None else [only]
        found.extend(damaged(reading, names))
    return sorted(found, key=lambda one: IN_ORDER.index(one.condition))


def damaged(reading: Reading, names: Iterator[str] | Sequence[str]) -> Iterator[Found]:
    """The workflows that cannot be read, and why."""
    for name in names:
        try:
            reading.wp.definitions.load_workflow_state(name).run().unwrap().workflow.fold()
        except WorkflowNotFound:
            continue
        except StoreError as error:
            yield Found(name, "damaged", error=str(error), go_on="waypost verify")


def _look_at(reading: Reading, summary: WorkflowSummary) -> Found:
    found = Found(
        summary.id,
        "completed",
        summary.name,
        summary.progress,
        {**summary.step_counts},
        summary.updated_at,
        summary.error,
    )
    if summary.status == "completed":
        return found
    state = reading.wp.load_workflow_state(summary.id).unwrap()
    found.running = [_running_step(step) for step in state.workflow.steps if step.status == "running"]
    found.failed = [step.id for step in state.workflow.steps if step.status == "failed"]
    found.condition = _condition(summary.status, found.running)
    found.go_on = how_to_go_on(state)
    return found


def condition_of(reading: Reading, summary: WorkflowSummary) -> Condition:
    """The condition of one workflow; only one that has running steps is looked at more closely."""
    if summary.step_counts["running"]:
        return _look_at(reading, summary).condition
    return _condition(summary.status, ())


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
