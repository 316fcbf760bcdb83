"""The life of a step: which status may follow which, who may start it, and what is recorded on the way.

    pending ──→ running ──→ completed | failed | skipped
       └──────────────────→ completed | failed | skipped
    failed ──→ running          a retry, counted, up to `max_retries`
    running ──→ running         a takeover, from an owner that is provably dead
    completed | failed | skipped ──→ pending    only by `reset`

Invariants:

* An update reads and writes parts of the step, the steps it depends on and the workflow's own record: its cost does
  not depend on how many steps there are, and updates of different steps do not conflict.
* The same status again, with no output or an equal one, succeeds and changes nothing.
* A step that is completed without having been running was started in that moment: what forbids a start forbids it.
* Work gets values encoded and clocks read, since it may run several times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from msgspec import UNSET, UnsetType

from waypost import clock, graph, records
from waypost.errors import (
    DependencyUnfinished,
    IllegalTransition,
    InvalidInput,
    InvalidWorkflow,
    RetriesExhausted,
    StepBusy,
    WorkflowPaused,
)
from waypost.folding import FINISHED, STEP_STATUSES, StepStatus
from waypost.loading import every_step
from waypost.models import StepOutput, StepOwner, WorkflowStep, as_step
from waypost.records import Value
from waypost.redaction import Redaction
from waypost.store import Transaction, View

_FOLLOWING: dict[StepStatus, tuple[StepStatus, ...]] = {
    "pending": ("running", "completed", "failed", "skipped"),
    "running": ("completed", "failed", "skipped"),
    "failed": ("running",),
    "completed": (),
    "skipped": (),
}


# --- moving a step ---


class Move(NamedTuple):
    """What is said about a step, checked and encoded. Who does not work on it, or is not known to, is no owner."""

    step_id: str
    status: StepStatus
    value: Value | None
    error: str | None
    agent_id: str | None
    time_us: int
    owner: StepOwner | None


def prepare_move(
    step_id: str,
    status: StepStatus,
    output: Any | UnsetType,
    error: str | BaseException | None,
    agent_id: str | None,
    redaction: Redaction,
) -> Move:
    """Check and encode. Raises InvalidId, InvalidInput, InvalidValue."""
    records.validate_id(step_id, "step id")
    if status not in STEP_STATUSES:
        raise InvalidInput(f"{status!r} is no status of a step: it is one of {', '.join(STEP_STATUSES)}")
    if error is not None and status == "running":
        raise InvalidInput("a step that is running has no error: record it as failed")
    return Move(
        step_id,
        status,
        None if output is UNSET else Value.of(redaction.encode(output, "outputs", step_id)),
        None if error is None else redaction.text(error_text(error), "steps", step_id, "error"),
        None if agent_id is None else records.validate_id(agent_id, "agent id"),
        clock.now_us(),
        StepOwner.this_process() if status == "running" else None,
    )


def error_text(error: str | BaseException) -> str:
    """An error as it is recorded. What is no text in it is escaped: a failure must not fail to be recorded."""
    if isinstance(error, BaseException):
        error = f"{type(error).__name__}: {error}".removesuffix(": ")
    return error.encode("utf-8", "backslashreplace").decode()


def move(
    tx: Transaction,
    wanted: Move,
    chunk_size: int,
    enforce_dependencies: bool,
    moved: Callable[[Transaction, WorkflowStep], object],
) -> WorkflowStep:
    """Give a step another status. Returns the step as it is then; `moved` is told of it when that is a change."""
    tx.project(["step", wanted.step_id])
    paused = records.workflow(tx).paused
    step = records.step(tx, wanted.step_id)
    if step.status == wanted.status and (wanted.status != "running" or step.owner == wanted.owner):
        _require_equal(tx, step, wanted)
        return step
    _check_move(tx, step, wanted, paused, enforce_dependencies)
    _apply(step, wanted)
    if wanted.value is not None:
        records.add_output(tx, step, wanted.value, wanted.agent_id, wanted.time_us, chunk_size)
    records.put_step(tx, step)
    moved(tx, step)
    return step


def check_move(view: View, wanted: Move, enforce_dependencies: bool) -> None:
    """Refuse what `move` would refuse of a version whatever the output is, before a large one is taken in."""
    paused = records.workflow(view).paused
    step = records.step(view, wanted.step_id)
    if step.status != wanted.status or wanted.status == "running":
        _check_move(view, step, wanted, paused, enforce_dependencies)


def _check_move(view: View, step: WorkflowStep, wanted: Move, paused: bool, enforce_dependencies: bool) -> None:
    _check_transition(step, wanted.status)
    if wanted.status == "running" or (step.status == "pending" and wanted.status == "completed"):
        _check_start(view, step, paused, enforce_dependencies)


def _apply(step: WorkflowStep, wanted: Move) -> None:
    now = clock.to_datetime(wanted.time_us)
    if wanted.status == "running":
        step.retry_count += step.status == "failed"
        step.interruptions += step.status == "running"
        step.start_time, step.end_time = now, None
        step.owner = wanted.owner
        step.agent_id = wanted.agent_id or step.agent_id
    else:
        step.end_time = now
        step.owner = None
    step.error = wanted.error
    step.status = wanted.status


def _require_equal(tx: Transaction, step: WorkflowStep, wanted: Move) -> None:
    """The same status may be said again, but not with something else in it."""
    if wanted.error is not None and wanted.error != step.error:
        raise _illegal(step, wanted.status, "with another error")
    if wanted.value is None:
        return
    version = step.output_version
    if not version or records.output(tx, step.id, version).checksum != wanted.value.checksum:
        raise _illegal(step, wanted.status, "with another output: add_step_output adds one")


def _check_transition(step: WorkflowStep, wanted: StepStatus) -> None:
    if step.status == wanted == "running":
        _check_owner(step)
    elif wanted not in _FOLLOWING[step.status]:
        raise _illegal(step, wanted)
    elif step.status == "failed" and step.retry_count >= step.max_retries:
        raise RetriesExhausted(
            f"step {step.id!r} has failed and may be retried {step.max_retries} times: "
            f"reset_step makes it pending again",
            step_id=step.id,
            retry_count=step.retry_count,
            max_retries=step.max_retries,
        )


def _illegal(step: WorkflowStep, wanted: StepStatus, how: str = "") -> IllegalTransition:
    allowed = _FOLLOWING[step.status]
    after = f"only {', '.join(allowed)} may follow" if allowed else "reset_step makes it pending again"
    if how:
        message = f"step {step.id!r} is {step.status} already, and cannot become so {how}"
    else:
        message = f"step {step.id!r} is {step.status} and cannot become {wanted}: {after}"
    return IllegalTransition(message, step_id=step.id, from_status=step.status, to_status=wanted, allowed=list(allowed))


def _check_owner(step: WorkflowStep) -> None:
    """A running step is taken over only from an owner that is provably dead, or was never recorded."""
    owner = step.owner
    if owner is None:
        return
    state = clock.liveness(owner.identity)
    if state != "dead":
        host = owner.host.partition("/")[0]
        seen = "is working on it" if state == "alive" else "may be working on it, as far as can be seen from here"
        raise StepBusy(
            f"step {step.id!r} is running: process {owner.pid} on {host} {seen}",
            step_id=step.id,
            host=owner.host,
            pid=owner.pid,
            liveness=state,
        )


def _check_start(view: View, step: WorkflowStep, paused: bool, enforce_dependencies: bool) -> None:
    if paused:
        name = view.document.id
        raise WorkflowPaused(
            f"workflow {name!r} is paused, so step {step.id!r} may not start", workflow_id=name, step_id=step.id
        )
    if not enforce_dependencies:
        return
    waiting = {
        dependency: status for dependency in step.dependencies if (status := _status(view, dependency)) not in FINISHED
    }
    if waiting:
        named = ", ".join(f"{dependency!r} ({status or 'missing'})" for dependency, status in waiting.items())
        raise DependencyUnfinished(
            f"step {step.id!r} cannot start before what it depends on: {named}", step_id=step.id, waiting=waiting
        )


def _status(view: View, step_id: str) -> StepStatus | None:
    step = records.STEPS.get(view, records.STEP + step_id)
    return None if step is None else step.status


# --- adding, resetting ---


def prepare_new(given: Iterable[WorkflowStep | str], redaction: Redaction) -> list[WorkflowStep]:
    """Copies of new steps, each with lawful fields. Raises InvalidId, InvalidWorkflow."""
    if isinstance(given, str):
        raise InvalidWorkflow(f"steps are a list, and {given!a:.80} is one text")
    return [redaction.step(_prepare_new(as_step(step))) for step in given]


def _prepare_new(given: WorkflowStep) -> WorkflowStep:
    step = records.check_step(given)
    if step.status != "pending" or "_output" in vars(given):
        has = step.status if step.status != "pending" else "has an output"
        raise InvalidWorkflow(
            f"step {step.id!r} is new and {has}: save_workflow_state takes steps that are not pending",
            step_id=step.id,
        )
    step.output_version = 0
    return step


def add(tx: Transaction, new: Sequence[WorkflowStep]) -> list[WorkflowStep]:
    """Put new steps behind those that are there. Raises InvalidWorkflow."""
    tx.project(["steps", [step.id for step in new]])
    records.workflow(tx)

    def is_known(step_id: str) -> bool:
        return tx.size_of(records.STEP + step_id) is not None

    for step in new:
        if is_known(step.id):
            raise InvalidWorkflow(f"workflow {tx.document.id!r} has a step {step.id!r} already", step_id=step.id)
    graph.check(new, is_known)
    for step in new:
        records.put_step(tx, step)
    if new:
        records.append_to_order(tx, [step.id for step in new])
    return list(new)


def reset(tx: Transaction, step_id: str, cascade: bool) -> list[WorkflowStep]:
    """Make a step pending again, with `cascade` also those after it. Returns the steps that changed.

    Outputs stay, and the next one continues their versions. Raises StepNotFound, and IllegalTransition if
    one of them is running.
    """
    records.workflow(tx)
    targets = [records.step(tx, step_id)]
    if cascade:
        targets.extend(records.step(tx, other) for other in graph.after(step_id, every_step(tx)))
    changed = [step for step in targets if step.status != "pending"]
    tx.project(["steps", [step.id for step in changed]])
    for step in changed:
        if step.status == "running":
            raise _illegal(step, "pending")
        step.status = "pending"
        step.start_time = step.end_time = step.error = None
        step.retry_count = 0
        records.put_step(tx, step)
    return changed


# --- outputs ---


def prepare_output(step_id: str, output: Any | UnsetType, agent_id: str | None, redaction: Redaction) -> Value | None:
    """Check and encode. Raises InvalidId, InvalidValue."""
    records.validate_id(step_id, "step id")
    if agent_id is not None:
        records.validate_id(agent_id, "agent id")
    return None if output is UNSET else Value.of(redaction.encode(output, "outputs", step_id))


def expect(view: View, step_id: str) -> WorkflowStep:
    """The step that an output is for. Raises WorkflowNotFound, StepNotFound."""
    records.workflow(view)
    return records.step(view, step_id)


def add_output(
    tx: Transaction, step_id: str, value: Value, agent_id: str | None, time_us: int, chunk_size: int
) -> StepOutput:
    """Add the next version of a step's output, whatever its status. Raises StepNotFound."""
    step = expect(tx, step_id)
    made = records.add_output(tx, step, value, agent_id, time_us, chunk_size)
    records.put_step(tx, step)
    tx.project(["output", step_id, made.version])
    return made
