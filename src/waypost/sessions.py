"""Starting, resuming, pausing, changing and ending sessions (docs/sessions.md).

Only its owner changes a session, or whoever takes it over from a dead one, or finds it without one. Nothing follows
its end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from typing import Any, Literal

from msgspec.structs import replace

from waypost import checkpoints, clock, loading, migrations, prepared, records, recovery, session_records, tenures
from waypost.catalogue import Catalogue
from waypost.checkpoints import NewCheckpoint
from waypost.errors import SessionBusy, SessionExists, TransactionPending, VersionConflict, WaypostError
from waypost.folding import fold
from waypost.models import StepOwner
from waypost.ownership import Watch
from waypost.redaction import Redaction
from waypost.retention import Retention
from waypost.session_models import Presence, SessionState
from waypost.session_records import ENVIRONMENT, PREFERENCE, SESSION_RECORD, TOUCHED, SessionRecord
from waypost.session_states import Looker, presence_of, state_of, views_of
from waypost.store import Change, DocumentId, JointChange, Receipt, Store, Transaction, View
from waypost.store.claims import Sight
from waypost.tenures import Tenures

logger = logging.getLogger("waypost")

_TRIES = 16
_PROJECTION = ["session"]
FINAL_TAG = "session_end"


class Sessions:
    """The sessions of a store, as one handle sees and holds them. Safe to use from any thread."""

    def __init__(self, store: Store, catalogue: Catalogue, retention: Retention, held: Tenures) -> None:
        self.looker = Looker(store, catalogue, Watch())
        self.held = held
        self._store = store
        self._retention = retention

    def state(self, session_id: str, store: Store | None = None) -> SessionState:
        """A session as it is, or as what stands in for the store shows it. Raises SessionNotFound, DocumentDamaged."""
        store = self._store if store is None else store
        view = prepared.as_settled(store, store.view(session_records.document_of(session_id)))
        return state_of(self.looker._replace(store=store), view)

    # --- beginning ---

    def start(
        self,
        session_id: str | None,
        user_id: str | None,
        values: Mapping[str, bytes],
        operation_id: str,
        *,
        repeatable: bool,
    ) -> str:
        """Make a session that this process holds; its id. Raises SessionExists, InvalidId."""
        if session_id is None:
            session_id = f"session_{sha256(operation_id.encode()).hexdigest()[:32]}" if repeatable else _new_id()
        document = session_records.document_of(session_id)
        view = self._store.view(document)
        if repeatable and view.operation(operation_id) is not None:
            return session_id
        record = SessionRecord(
            user_id, clock.now_us(), session_records.SESSION_SCHEMA, "active", 1, StepOwner.this_process()
        )
        work = partial(_make, record=record, values=values)
        # looked at first: a claim that is let go of takes with it what a dead owner has left
        claim = None if session_records.find(view) is not None else self._store.claim(document)
        if claim is None:
            raise _exists(session_id)
        try:
            receipt = self._submit(document, work, "start_session", operation_id, repeatable=repeatable)
        except BaseException:
            tenures.let_go(session_id, claim)
            raise
        if receipt.repeated is not None and not self._is_mine(document):
            tenures.let_go(session_id, claim)
        else:
            self.held.hold(session_id, 1, claim)
        return session_id

    def resume(self, session_id: str, *, take_over: bool) -> str:
        """Hold a session that nobody holds, or whose owner is dead; with `take_over` any other, too. One that has ended
        is left as it is. Raises SessionNotFound, SessionBusy, InvalidId.
        """
        document = session_records.document_of(session_id)
        for _ in range(_TRIES):
            sight = self._store.holder(document)
            view = self._store.view(document)
            record = session_records.expect(view)
            if record.status == "completed":
                logger.warning("session %r has ended: it is given as it was, and not entered", session_id)
                return session_id
            if self._holds(session_id, record) and not take_over:
                return session_id
            seen = presence_of(self.looker, view, record)
            is_dead = seen is not None and seen.state == "crashed"
            if is_dead or record.status == "crashed":
                record = self._recovered(view, record, seen)
            elif seen is not None and not take_over and not self._is_left(document, record):
                raise busy(session_id, seen.evidence)
            if self._enter(document, record, take_over=take_over, instead_of=sight if is_dead else None):
                return session_id
        raise VersionConflict(f"others were faster {_TRIES} times", tries=_TRIES)

    def start_for(
        self, session_id: str, owner: StepOwner | None, values: Mapping[str, bytes], operation_id: str
    ) -> None:
        """Make a session that another process has, which holds no lock and leaves no sign of life but itself; or, with
        None, nobody that is known. Raises SessionExists, InvalidId.
        """
        document = session_records.document_of(session_id)
        record = SessionRecord(None, clock.now_us(), session_records.SESSION_SCHEMA, "active", 1, owner)
        work = partial(_make, record=record, values=values)
        self._submit(document, work, "start_session", operation_id, repeatable=True)

    def resume_for(self, session_id: str, owner: StepOwner) -> bool:
        """Begin a tenure of another process, as `start_for` does; what its dead owner left is recovered first. False
        where somebody has the session, or may have it, or it has ended. Raises SessionNotFound.
        """
        document = session_records.document_of(session_id)
        for _ in range(_TRIES):
            view = self._store.view(document)
            record = session_records.expect(view)
            if record.status == "active" and record.owner == owner:
                return True
            seen = presence_of(self.looker, view, record)
            if record.status == "completed" or (seen is not None and seen.state != "crashed"):
                return False
            if seen is not None or record.status == "crashed":
                record = self._recovered(view, record, seen)
            work = partial(_begin, judged=record, owner=owner, unseen_left=record.unseen_left)
            number = self._submit(document, work, "resume_session", clock.new_id("op")).data
            if number is not None:
                self._put_numbers(document, number, record, free_unseen=record.unseen_left)
                self.held.enter_anew(session_id)
                return True
        raise VersionConflict(f"others were faster {_TRIES} times", tries=_TRIES)

    def _recovered(self, view: View, record: SessionRecord, seen: Presence | None) -> SessionRecord:
        """A session once what its dead owner left is recovered; a recovery that was cut short is finished."""
        recovery.recover(self._store, view, record, "" if seen is None else seen.evidence)
        return session_records.expect(self._store.view(view.document))

    def _put_numbers(self, document: DocumentId, number: int, judged: SessionRecord, *, free_unseen: bool) -> None:
        """Shut out in all workflows who had the session before; also in those that were lost or damaged as that was
        recovered, and are back. `free_unseen` frees the steps of all others that cannot be seen from here, too, but for
        those who have another session.
        """
        left_by = recovery.unseen(recovery.last_owner(self._store.view(document), judged))
        views = views_of(self._store) if free_unseen else ()
        others = {each.owner for view, each in views if view.document != document and each.status == "active"}

        def is_gone(owner: StepOwner) -> bool:
            return owner == left_by or (free_unseen and owner not in others and recovery.unseen(owner) is not None)

        looks = free_unseen or left_by is not None
        damaged = tenures.put_numbers(self._store, document.id, number, is_gone if looks else None)
        if free_unseen and not damaged:
            work = partial(_all_freed, number=number)
            self._submit(document, work, "resume_session", clock.new_id("op"))

    def _holds(self, session_id: str, record: SessionRecord) -> bool:
        is_mine = record.owner is not None and record.owner == StepOwner.this_process()
        return is_mine and session_id in self.held.held() and record.number == self.held.number_of(session_id)

    def _is_mine(self, document: DocumentId) -> bool:
        """Whether a session that was found to be made already was made by this very call, whose first attempt was
        committed and never answered. Nobody else can have it: its claim is held.
        """
        record = session_records.find(self._store.view(document))
        is_first = record is not None and (record.status, record.number) == ("active", 1)
        return is_first and record is not None and record.owner == StepOwner.this_process()

    def _is_held(self, session_id: str) -> bool:
        """Whether this handle is in the newest tenure of a session, as its owner."""
        record = session_records.find(self._store.view(session_records.document_of(session_id)))
        return record is not None and self._holds(session_id, record)

    def _is_left(self, document: DocumentId, record: SessionRecord) -> bool:
        """Whether this process had a session, or was about to, and let go of it without being able to say so."""
        return record.owner == StepOwner.this_process() and self._store.holder(document) is None

    def _enter(self, document: DocumentId, judged: SessionRecord, *, take_over: bool, instead_of: Sight | None) -> bool:
        """Become the owner of a session that is as it was judged; false where it is so no more."""
        claim = self._store.claim(document, by_force=take_over, instead_of=instead_of)
        if claim is None:
            raise busy(document.id, "another process holds it, or is about to")
        try:
            free_unseen = take_over or judged.unseen_left
            work = partial(_begin, judged=judged, owner=StepOwner.this_process(), unseen_left=free_unseen)
            number: int | None = self._submit(document, work, "resume_session", clock.new_id("op")).data
            if number is not None:
                self._put_numbers(document, number, judged, free_unseen=free_unseen)
        except BaseException:
            tenures.let_go(document.id, claim)
            raise
        if number is None:
            tenures.let_go(document.id, claim)
            return False
        self.held.hold(document.id, number, claim)
        return True

    # --- changing ---

    def update(
        self, session_id: str, values: Mapping[str, bytes], operation_id: str, *, repeatable: bool, store: Store
    ) -> Receipt:
        """Merge into a session's environment and preferences. Raises SessionNotFound, SessionEnded, SessionBusy."""

        def work(tx: Transaction, record: SessionRecord) -> None:
            del record
            _put_values(tx, values)

        return self._change(session_id, work, "update_session", operation_id, repeatable=repeatable, store=store)

    def pause(self, session_id: str, operation_id: str, *, repeatable: bool) -> Receipt:
        """Let go of a session. Raises SessionNotFound, SessionEnded, SessionBusy."""

        def work(tx: Transaction, record: SessionRecord) -> None:
            if record.status == "active":
                tx.put(SESSION_RECORD, records.encode(replace(record, status="paused", owner=None)))

        receipt = self._change(session_id, work, "pause_session", operation_id, repeatable=repeatable)
        self._let_go(session_id, receipt)
        return receipt

    def _let_go(self, session_id: str, receipt: Receipt) -> None:
        """Let go of a session that was left, but not of one that was resumed since that was done the first time."""
        if receipt.repeated is None or not self._is_held(session_id):
            self.held.forget(session_id)

    def _change(
        self,
        session_id: str,
        work: Callable[[Transaction, SessionRecord], None],
        operation: str,
        operation_id: str,
        *,
        repeatable: bool,
        store: Store | None = None,
    ) -> Receipt:
        document = session_records.document_of(session_id)
        view = (self._store if store is None else store).view(document)
        if repeatable and (seen := view.operation(operation_id)) is not None:
            return Receipt(seen.version, changed=False, repeated=seen)
        dead = self._judge(view)

        def whole(tx: Transaction) -> None:
            tx.project(_PROJECTION)
            work(tx, _own(tx, dead))

        return self._submit(document, whole, operation, operation_id, repeatable=repeatable, store=store)

    def _judge(self, view: View, owner: StepOwner | None = None) -> StepOwner | None:
        """Refuse to change what is another's; its owner, if he is dead, or the one who asks for it. Raises
        SessionEnded, SessionBusy.
        """
        record = session_records.expect(view)
        if record.status == "completed":
            raise session_records.ended(view.document.id)
        if record.owner is None or record.owner == StepOwner.this_process():
            return None
        if record.owner == owner:
            return owner
        seen = presence_of(self.looker, view, record)
        if seen is not None and seen.state != "crashed":
            raise busy(view.document.id, seen.evidence)
        return record.owner

    def _submit(
        self,
        document: DocumentId,
        work: Callable[[Transaction], Any],
        operation: str,
        operation_id: str,
        *,
        repeatable: bool = False,
        store: Store | None = None,
    ) -> Receipt:
        change = Change(document, work, operation_id, operation, repeatable, session=document.id)
        return prepared.submit(self._store if store is None else store, change)

    # --- ending ---

    def end(
        self,
        session_id: str,
        *,
        final_checkpoint: bool,
        operation_id: str,
        repeatable: bool,
        owner: StepOwner | None = None,
    ) -> Receipt:
        """End a session for good, with a checkpoint of each of its workflows that is not completed, all in one commit.
        `owner` is the process that ends it, where that is another than this one.

        Raises SessionNotFound, SessionEnded, SessionBusy.
        """
        document = session_records.document_of(session_id)
        for _ in range(_TRIES):
            view = self._store.view(document)
            if repeatable and (seen := view.operation(operation_id)) is not None:
                receipt = Receipt(seen.version, changed=False, repeated=seen)
                self._let_go(session_id, receipt)
                return receipt
            change = JointChange(operation_id, "end_session", repeatable, session_id)
            try:
                receipt = self._try_to_end(document, self._judge(view, owner), final_checkpoint, change)
            except TransactionPending as pending:
                prepared.out_of_the_way(self._store, pending)
                continue
            if receipt is not None:
                self.held.forget(session_id)
                return receipt
        raise VersionConflict(f"others were faster {_TRIES} times", tries=_TRIES)

    def _try_to_end(
        self, document: DocumentId, dead: StepOwner | None, final_checkpoint: bool, change: JointChange
    ) -> Receipt | None:
        joint = self._store.begin()
        tx = joint.document(document)
        record = _own(tx, dead)
        number = record.number + 1
        changed: list[DocumentId] = []
        for workflow_id in records.names(tx, TOUCHED):
            workflow = DocumentId("workflow", workflow_id)
            seen = self._seen(workflow, document.id)
            if seen in ("open", "announced"):
                part = joint.document(workflow)
                session_records.link(part, document.id, number)
                if final_checkpoint and seen == "open":
                    new = NewCheckpoint("automatic", "the session ended", (FINAL_TAG, document.id), document.id)
                    checkpoints.put(part, new, self._retention)
                part.project([*_PROJECTION, document.id])
                changed.append(workflow)
        ended = replace(record, status="completed", number=number, owner=None, ended_us=clock.now_us())
        tx.put(SESSION_RECORD, records.encode(ended))
        tx.project(_PROJECTION)
        receipt = self._store.commit(joint, change)
        for workflow in changed:
            self._retention.forget(workflow)
        if receipt is not None:
            receipt.version = tx.version + 1
            self._shut_out(document.id, number)
        return receipt

    def _shut_out(self, session_id: str, number: int) -> None:
        """Put the last number into the workflows that are completed or deleted, one by one: they may be very many.

        The session has ended by then, so what this fails with is told to nobody but the log.
        """
        try:
            tenures.put_numbers(self._store, session_id, number)
        except WaypostError as error:
            logger.warning("session %r has ended, and not in each of its finished workflows: %s", session_id, error)

    def _seen(self, workflow: DocumentId, session_id: str) -> Literal["open", "announced", "done", "damaged"]:
        """Whether a session has written to a workflow that is not completed, or is, or is deleted, or only announced
        that it would: a worker may be about to do it. One that is damaged is left as it is.
        """
        try:
            if tenures.is_lost(self._store, workflow):
                return "damaged"
            view = migrations.load(self._store, workflow)
            if view.size_of(records.SESSION + session_id) is None:
                return "announced"
            record = records.find_workflow(view)
            is_open = record is not None and fold(loading.every_step(view), record.paused).status != "completed"
            return "open" if is_open else "done"
        except tenures.UNREADABLE as error:
            logger.warning("session %r ends without a checkpoint of workflow %r: %s", session_id, workflow.id, error)
            return "damaged"

    def close(self) -> None:
        """Pause what is held, so that nobody takes its owner for dead; what was taken over is its new owner's."""
        for session_id in self.held.held():
            try:
                if self._is_held(session_id):
                    self.pause(session_id, clock.new_id("op"), repeatable=False)
            except WaypostError as error:
                logger.warning("session %r was not paused: %s", session_id, error)
            self.held.forget(session_id)


def prepare_values(
    environment: Mapping[str, Any] | None, preferences: Mapping[str, Any] | None, redaction: Redaction
) -> dict[str, bytes]:
    """The parts of a session's values. Raises InvalidInput and its kinds."""
    return {
        **redaction.encode_group(environment or {}, ENVIRONMENT, "environment"),
        **redaction.encode_group(preferences or {}, PREFERENCE, "preferences"),
    }


def check_user(user_id: object) -> str | None:
    """Raises InvalidId."""
    return None if user_id is None else records.validate_id(user_id, "user id")


def busy(session_id: str, evidence: str) -> SessionBusy:
    return SessionBusy(f"session {session_id!r} is in use: {evidence}", session_id=session_id, evidence=evidence)


def _exists(session_id: str) -> SessionExists:
    return SessionExists(f"there is a session {session_id!r} already", session_id=session_id)


def _new_id() -> str:
    return clock.new_id("session")


def _own(tx: Transaction, dead: StepOwner | None) -> SessionRecord:
    """The record of a session that this process may change: its own, nobody's, or of an owner known to be dead."""
    record = session_records.expect(tx)
    if record.status == "completed":
        raise session_records.ended(tx.document.id)
    if record.owner not in (None, dead, StepOwner.this_process()):
        raise busy(tx.document.id, "another process has it by now")
    return record


def _make(tx: Transaction, record: SessionRecord, values: Mapping[str, bytes]) -> None:
    tx.project(_PROJECTION)
    if session_records.find(tx) is not None:
        raise _exists(tx.document.id)
    tx.put(SESSION_RECORD, records.encode(record))
    _put_values(tx, values)


def _put_values(tx: Transaction, values: Mapping[str, bytes]) -> None:
    for key, data in values.items():
        tx.put(key, data)


def _begin(tx: Transaction, judged: SessionRecord, owner: StepOwner, unseen_left: bool) -> int | None:
    """Begin a tenure, under a number of its own; None where the session is not as it was judged any more."""
    record = session_records.expect(tx)
    if record != judged or record.status == "completed":
        return None
    recovered = session_records.recovery(tx)
    has_number = record.status == "crashed" and recovered is not None and recovered.number == record.number
    number = record.number if has_number else record.number + 1
    begun = replace(record, status="active", number=number, owner=owner, unseen_left=unseen_left)
    tx.put(SESSION_RECORD, records.encode(begun))
    return number


def _all_freed(tx: Transaction, number: int) -> None:
    """Say that the steps of all who cannot be seen are free, for as long as that tenure goes on."""
    record = session_records.expect(tx)
    if record.number == number and record.unseen_left:
        tx.put(SESSION_RECORD, records.encode(replace(record, unseen_left=False)))
