"""Recovering sessions whose owners are dead (docs/sessions.md, section 5).

What is on disk is whole, so nothing is rolled back: the session is recorded as crashed, its old owner fenced off, and
what he left is looked at. Each piece may be cut short and done again, by anyone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from operator import eq

from msgspec.structs import replace

from waypost import checkpoints, clock, prepared, records, session_records, tenures, triage
from waypost.errors import StoreError, WaypostError
from waypost.models import StepOwner
from waypost.session_models import CrashRecoveryData, SessionRecoveryPlan
from waypost.session_records import RECOVERY, SESSION_RECORD, RecoveryRecord, SessionRecord
from waypost.session_states import Looker, presence_of, views_of
from waypost.store import Change, DocumentId, Store, Transaction, View

logger = logging.getLogger("waypost")


def crashed(looker: Looker) -> Iterator[tuple[View, SessionRecord, str]]:
    """The sessions whose owners are dead, recorded or not, each with the evidence."""
    for view, record in views_of(looker.store):
        if record.status == "crashed":
            yield view, record, triage.evidence_of(view)
            continue
        seen = presence_of(looker, view, record)
        if seen is not None and seen.state == "crashed":
            yield view, record, seen.evidence


def detect_and_recover(
    looker: Looker, session_id: str | None, *, dry_run: bool, accept_loss: bool, large_bytes: int
) -> list[SessionRecoveryPlan]:
    """A plan for each session whose owner is dead. What loses nothing is carried out, unless it is a `dry_run`.

    One that cannot be recovered now keeps no other from it; what the first of those failed with is raised at the end.
    """
    plans: list[SessionRecoveryPlan] = []
    failed: WaypostError | None = None
    if session_id is not None:
        session_records.expect(looker.store.view(session_records.document_of(session_id)))
    for view, record, evidence in crashed(looker):
        if session_id not in (None, view.document.id):
            continue
        if dry_run:
            plans.append(triage.plan(looker.store, view, evidence, last_owner(view, record), is_carried_out=False))
            continue
        try:
            recovered = recover(looker.store, view, record, evidence)
            if recovered is not None and accept_loss and recovered.corrupted_workflows:
                recovered = _go_back(looker.store, recovered, large_bytes)
        except WaypostError as error:
            logger.warning("session %r was not recovered: %s", view.document.id, error)
            failed = failed or error
            continue
        if recovered is not None:
            plans.append(recovered)
    if failed is not None:
        raise failed
    return plans


def last_owner(view: View, record: SessionRecord) -> StepOwner | None:
    """Who has, or had, a session; where nobody has it, who died in it last."""
    begun = session_records.recovery(view)
    return record.owner if record.owner is not None or begun is None else begun.owner


def recover(store: Store, view: View, record: SessionRecord, evidence: str) -> SessionRecoveryPlan | None:
    """Carry a recovery out, or finish one that was cut short; None where somebody is in the session by now."""
    document = view.document
    if record.status == "active":
        work = partial(_give_up, judged=record, evidence=evidence, time_us=clock.now_us())
        _submit(store, document, work, "record_crash", document.id)
    now = store.view(document)
    record = session_records.expect(now)
    begun = session_records.recovery(now)
    if record.status != "crashed" or begun is None:
        return None
    if begun.found is None:
        dead = unseen(begun.owner)
        tenures.put_numbers(store, document.id, record.number, None if dead is None else partial(eq, dead))
    plan = triage.plan(store, now, begun.evidence, begun.owner, is_carried_out=True)
    if begun.found is None and not any(each.in_doubt for each in plan.workflows):
        found = _found(store, now, plan, begun)
        _submit(store, document, partial(_finish, begun=begun, found=found), "record_recovery", document.id)
    return plan


def unseen(owner: StepOwner | None) -> StepOwner | None:
    """An owner who is dead, or shut out by hand, if nobody could ever show that by his pid: as of another container."""
    return owner if owner is not None and clock.liveness(owner.identity) == "unknown" else None


def _submit(store: Store, document: DocumentId, work: partial[None], operation: str, session_id: str) -> None:
    prepared.submit(store, Change(document, work, clock.new_id("op"), operation, session=session_id))


def _give_up(tx: Transaction, judged: SessionRecord, evidence: str, time_us: int) -> None:
    """Record that the owner is dead, unless somebody did, or took the session over."""
    record = session_records.expect(tx)
    if record == judged:
        number = record.number + 1
        tx.put(SESSION_RECORD, records.encode(replace(record, status="crashed", number=number, owner=None)))
        tx.put(RECOVERY, records.encode(RecoveryRecord(number, time_us, evidence, record.owner)))


def _finish(tx: Transaction, begun: RecoveryRecord, found: CrashRecoveryData) -> None:
    if session_records.recovery(tx) == begun:
        tx.put(RECOVERY, records.encode(replace(begun, found=found)))


def _found(store: Store, view: View, plan: SessionRecoveryPlan, begun: RecoveryRecord) -> CrashRecoveryData:
    return CrashRecoveryData(
        timestamp=records.moment(begun.time_us),
        error=begun.evidence,
        recovery_strategy=plan.strategy,
        data_loss=plan.estimated_data_loss,
        corrupted_files=plan.corrupted_workflows,
        last_valid_checkpoint=triage.last_valid_checkpoint(store, view),
        ambiguous_steps={each.workflow_id: each.ambiguous for each in plan.workflows if each.ambiguous},
    )


# --- with consent ---


def _go_back(store: Store, plan: SessionRecoveryPlan, large_bytes: int) -> SessionRecoveryPlan:
    """Bring the workflows that do not load back from their checkpoints, as far as that goes; the plan as it is then."""
    document = session_records.document_of(plan.session_id)
    number = session_records.expect(store.view(document)).number
    for each in plan.workflows:
        if not each.loads and not each.in_doubt and each.checkpoint_id is not None:
            try:
                wanted = checkpoints.prepare_return(store, each.checkpoint_id, None, large_bytes)
                work = partial(_restore, session_id=plan.session_id, number=number, wanted=wanted)
                _submit(store, DocumentId("workflow", each.workflow_id), work, "restore_from_checkpoint", document.id)
            except WaypostError as error:
                logger.warning("workflow %r was not brought back: %s", each.workflow_id, error)
    view = store.view(document)
    owner = last_owner(view, session_records.expect(view))
    return triage.plan(store, view, plan.evidence, owner, is_carried_out=True)


def _restore(tx: Transaction, session_id: str, number: int, wanted: checkpoints.Wanted) -> None:
    if records.find_workflow(tx) is None:  # else somebody has brought it back meanwhile
        checkpoints.restore(tx, wanted)
        session_records.link(tx, session_id, number)


# --- at opening ---


def report(looker: Looker) -> None:
    """Say whose owners are dead, by the locks that were left behind; clear away those of sessions that nobody is in."""
    store = looker.store
    for session_id in store.claimed("session"):
        document = DocumentId("session", session_id)
        try:
            view = store.peek(document)
            record = session_records.find(view)
            seen = None if record is None else presence_of(looker, view, record)
            if seen is not None and seen.state == "crashed":
                logger.warning("session %r was left by a dead owner: %s; see waypost resume", session_id, seen.evidence)
            elif record is None or record.status != "active":
                claim = store.claim(document)
                if claim is not None:
                    claim.release()
        except StoreError as error:
            logger.warning("session %r cannot be looked at: %s", session_id, error)
