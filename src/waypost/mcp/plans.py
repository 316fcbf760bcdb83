"""How to go on with a run: what its steps are, which can be started, what is whole to go back to, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from waypost import triage
from waypost.cli.invocation import Reading
from waypost.cli.overview import condition, how_to_go_on
from waypost.errors import WaypostError, WorkflowNotFound
from waypost.folding import FINISHED
from waypost.mcp import bounds
from waypost.mcp.results import Claim, Condition, Names, Plan, Stored
from waypost.mcp.stores import claim_of
from waypost.models import WorkflowState, WorkflowStep
from waypost.session_models import WorkflowTriage


def plan_of(store: Reading, run_id: str) -> Plan:
    """The plan for one run. Raises WorkflowNotFound, InvalidId."""
    found = triage.triage(store.store, None, run_id)
    if found is None:
        raise WorkflowNotFound(f"there is no workflow {run_id!r}", workflow_id=run_id)
    checkpoint, claim = _good_checkpoint(store, run_id) or found.checkpoint_id, claim_of(store.wp, run_id)
    state = store.wp.load_workflow_state(run_id).unwrap() if found.loads else None
    ready, waiting = ([], []) if state is None else sort_pending(list(state.workflow.steps))
    how: Condition = "damaged" if state is None else condition(state)
    return Plan(
        run_id=run_id,
        condition=how,
        progress=0.0 if state is None else state.workflow.progress,
        done=Names.of([*found.done]),
        running=Names.of([*found.running]),
        interrupted=Names.of([*found.ambiguous]),
        failed=Names.of([*found.failed]),
        next=Names.of(ready),
        waiting=Names.of(waiting),
        good_checkpoint=checkpoint,
        problem=Stored.maybe(found.problem),
        claim=claim,
        how_to_resume=[*_advice(found, state, ready, checkpoint, claim)],
        command=None if state is None else _command(state),
    )


def sort_pending(steps: Sequence[WorkflowStep]) -> tuple[list[str], list[str]]:
    """Ids of pending steps: those that can be started, and those that wait for others."""
    finished = {step.id for step in steps if step.status in FINISHED}
    pending = [step for step in steps if step.status == "pending"]
    ready = [step.id for step in pending if finished.issuperset(step.dependencies)]
    return ready, [step.id for step in pending if not finished.issuperset(step.dependencies)]


def _good_checkpoint(store: Reading, run_id: str) -> str | None:
    try:
        best = store.wp.get_recovery_suggestions(run_id).recommended_recovery_point
    except WaypostError:
        return None
    return None if best is None else best.id


def _advice(
    found: WorkflowTriage, state: WorkflowState | None, ready: Sequence[str], checkpoint: str | None, claim: Claim
) -> Iterator[str]:
    """What to do, one sentence each, in order."""
    if claim.state == "another_process":
        yield "Another process has claimed the run: leave it alone unless you know that it should no longer work on it."
    if state is None:
        yield from _mending(found, checkpoint)
        return
    if found.ambiguous:
        names = _named(found.ambiguous)
        yield f"See what {names} had done before it was interrupted, then start it again with set_step or complete it."
    if found.running:
        yield f"{_named(found.running)} may still be running in another process: do not start it."
    for step in state.workflow.steps:
        if step.status == "failed":
            yield _again(step)
            break
    if state.workflow.paused:
        yield "The run is paused, and no step can start until a program or the command line resumes it."
    elif ready:
        yield f"Start {_named(ready)} next."
    if state.workflow.status == "completed":
        yield "The run is completed: nothing is left to do."


def _command(state: WorkflowState) -> Stored | None:
    command = how_to_go_on(state)
    if state.workflow.status == "completed" or not command.startswith("waypost run"):
        return None
    return Stored.of(command)


def _again(step: WorkflowStep) -> str:
    left = step.max_retries - step.retry_count
    if left > 0:
        return f"Step {step.id!r} failed and may be started again {left} times."
    return f"Step {step.id!r} failed and has no retries left: set_step with `reset` makes it pending again."


def _mending(found: WorkflowTriage, checkpoint: str | None) -> Iterator[str]:
    if found.in_doubt:
        yield "The system refused to read the run, which may pass: try again."
    elif checkpoint is None:
        yield "The run cannot be read, and no checkpoint of it is whole: `waypost store repair` keeps what can be read."
    else:
        yield f"The run cannot be read. Its newest whole checkpoint is {checkpoint}: `waypost restore` goes back to it."


def _named(ids: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in bounds.names(ids, 5, 200))
    return shown if len(ids) <= 5 else f"{shown} and {len(ids) - 5} more"
