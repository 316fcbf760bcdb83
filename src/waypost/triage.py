"""What a dead owner has left: his steps sorted by what is known of them, and a plan to go on.

Nothing is changed here. Two processes that look at the same state come to the same plan.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence

from waypost import checkpoints, clock, migrations, records, session_records, validation
from waypost.errors import WaypostError
from waypost.folding import FINISHED
from waypost.loading import every_step
from waypost.models import StateCheckpoint, StepOwner, WorkflowStep
from waypost.session_models import RecoveryStrategy, SessionRecoveryPlan, WorkflowTriage
from waypost.session_records import TOUCHED
from waypost.store import DocumentId, Store, View

_GONE = "its file is gone"


def plan(
    store: Store, view: View, evidence: str, owner: StepOwner | None, *, is_carried_out: bool
) -> SessionRecoveryPlan:
    """How to go on with a session whose owner is dead."""
    sorted_ = list(_triage_all(store, view, owner))
    lost = [each for each in sorted_ if not each.loads]
    loss = 100 * sum(each.data_loss for each in sorted_) / len(sorted_) if sorted_ else 0.0
    return SessionRecoveryPlan(
        session_id=view.document.id,
        evidence=evidence,
        strategy=_strategy(sorted_),
        recoverable_workflows=[each.workflow_id for each in sorted_ if each.loads],
        corrupted_workflows=[each.workflow_id for each in lost],
        suggested_checkpoints=[each.checkpoint_id for each in lost if each.checkpoint_id is not None],
        estimated_data_loss=loss,
        recovery_steps=list(_steps_to_take(view.document.id, sorted_)),
        warnings=list(_warnings(sorted_)),
        workflows=sorted_,
        is_carried_out=is_carried_out and not lost,
    )


def _strategy(sorted_: Sequence[WorkflowTriage]) -> RecoveryStrategy:
    if not sorted_ or all(each.data_loss == 1 for each in sorted_):
        return "fresh_start"
    return "full_recovery" if all(each.loads for each in sorted_) else "partial_recovery"


# --- sorting ---


def _triage_all(store: Store, view: View, dead: StepOwner | None) -> Iterator[WorkflowTriage]:
    """The workflows of a session, but for those that were deleted or never written."""
    for workflow_id in records.names(view, TOUCHED):
        found = triage(store, view.document.id, workflow_id, dead)
        if found is not None:
            yield found


def triage(
    store: Store, session_id: str | None, workflow_id: str, dead: StepOwner | None = None
) -> WorkflowTriage | None:
    """The steps of a workflow by what is known of them; None where the session, if one is named, never wrote to it, and
    where it is deleted. `dead` is an owner who is known to be so, also where his process cannot be seen.
    """
    document = DocumentId("workflow", workflow_id)
    try:
        now = migrations.load(store, document)
        if not now.version and store.checkpoints(document):
            return _lost(store, workflow_id, _GONE, dead)
        is_linked = session_id is None or now.size_of(records.SESSION + session_id) is not None
        if records.find_workflow(now) is None or not is_linked:
            return None
        report = validation.validate(now)
        if not report.is_valid:
            return _lost(store, workflow_id, "; ".join(report.errors), dead)
        return _sorted(now, dead)
    except WaypostError as error:
        return _lost(store, workflow_id, str(error), dead, in_doubt=error.retryable)


def _lost(
    store: Store, workflow_id: str, problem: str, dead: StepOwner | None, *, in_doubt: bool = False
) -> WorkflowTriage:
    """Of a workflow that cannot be read: as its newest whole checkpoint has it."""
    try:
        best = checkpoints.suggestions(store, workflow_id).recommended_recovery_point
        if best is None:
            return WorkflowTriage(workflow_id=workflow_id, problem=problem, in_doubt=in_doubt)
        version = checkpoints.version_of(store, DocumentId("workflow", workflow_id), best.id)
        return _sorted(version, dead, problem, best.id, in_doubt=in_doubt)
    except WaypostError as error:
        return WorkflowTriage(workflow_id=workflow_id, problem=problem, in_doubt=in_doubt or error.retryable)


def _sorted(
    view: View,
    dead: StepOwner | None,
    problem: str | None = None,
    checkpoint_id: str | None = None,
    *,
    in_doubt: bool = False,
) -> WorkflowTriage:
    names: defaultdict[str, list[str]] = defaultdict(list)
    for step in every_step(view):
        names[_kind_of(step, dead)].append(step.id)
    return WorkflowTriage(
        workflow_id=view.document.id,
        version=view.version,
        done=names["done"],
        failed=names["failed"],
        never_started=names["pending"],
        ambiguous=names["ambiguous"],
        running=names["running"],
        problem=problem,
        checkpoint_id=checkpoint_id,
        in_doubt=in_doubt,
    )


def _kind_of(step: WorkflowStep, dead: StepOwner | None) -> str:
    if step.status in FINISHED:
        return "done"
    if step.status != "running":
        return step.status
    is_dead = step.owner in (None, dead) or clock.liveness(step.owner.identity) == "dead"
    return "ambiguous" if is_dead else "running"


# --- saying it ---


def _steps_to_take(session_id: str, sorted_: Sequence[WorkflowTriage]) -> Iterator[str]:
    """Each is a command, which may be followed by options, or says something."""
    lost = [each for each in sorted_ if not each.loads]
    if any(each.problem != _GONE or each.checkpoint_id is None for each in lost):
        yield "waypost store repair"
    for each in lost:
        if each.checkpoint_id is None:
            yield f"workflow {each.workflow_id!r} has no checkpoint that is whole: what the repair keeps is all of it"
            continue
        if each.problem != _GONE:
            yield f"where the repair keeps less of workflow {each.workflow_id!r} than its newest whole checkpoint has:"
        yield f"waypost restore {shlex.quote(each.checkpoint_id)}"
    for each in sorted_:
        if each.ambiguous:
            yield f"see what {_named(each.ambiguous)} of workflow {each.workflow_id!r} had done before running it again"
    if any(each.loads for each in sorted_):
        yield f"resume_session({session_id!r}), and run what is left"


def _warnings(sorted_: Sequence[WorkflowTriage]) -> Iterator[str]:
    if not sorted_:
        yield "the session had no workflows: there is nothing to recover"
    for each in sorted_:
        if each.problem is not None:
            yield f"workflow {each.workflow_id!r} cannot be read: {each.problem}"
        if each.ambiguous:
            count = len(each.ambiguous)
            yield (
                f"workflow {each.workflow_id!r}: {count} {'step was' if count == 1 else 'steps were'} running when the "
                f"owner died, and may have had effects: {_named(each.ambiguous)}"
            )
        if each.running:
            yield f"workflow {each.workflow_id!r}: {_named(each.running)} may still be running in another process"


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def last_valid_checkpoint(store: Store, view: View) -> str | None:
    """The newest whole checkpoint of a session's workflows."""
    found: StateCheckpoint | None = None
    for workflow_id in records.names(view, TOUCHED):
        try:
            best = checkpoints.suggestions(store, workflow_id).recommended_recovery_point
        except WaypostError as error:
            if error.retryable:
                raise
            continue
        if best is not None and (found is None or best.created_at > found.created_at):
            found = best
    return None if found is None else found.id


def evidence_of(view: View) -> str:
    """Why a session that is recorded as crashed is so."""
    recovery = session_records.recovery(view)
    return "its owner died" if recovery is None else recovery.evidence
