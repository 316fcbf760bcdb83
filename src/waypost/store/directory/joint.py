"""Commits over several documents (docs/durability.md, section 4): all of it is there after any crash, or none.

With the locks of all documents held, in the order of their ids, what was read is compared with what is there now. Then
one file decides, the frames go into the logs, and the locks are given back. What changed one document only needs no
decision. Whatever fails after the decision is carried out by whoever comes next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

from waypost.codec.bodies import DecidedFrames, DecisionBody, Extent, JointMark, Part, Participant
from waypost.errors import (
    DocumentDamaged,
    DocumentTooLarge,
    LockTimeout,
    StoreClosed,
    StoreUnavailable,
    WaypostError,
)
from waypost.store.contract import Change, Counters, JointChange, Receipt, Reception
from waypost.store.directory import loading
from waypost.store.directory.batch import Prepared, Tentative, compose
from waypost.store.directory.context import Context
from waypost.store.directory.decisions import FOLDER, new_transaction_id
from waypost.store.directory.document import Document, check_what_is_hidden
from waypost.store.directory.held import give_back, take
from waypost.store.directory.layout import document_id
from waypost.store.directory.log import Frame, Log
from waypost.store.directory.receiving import Arriving, Received
from waypost.store.directory.state import DocumentState, DocumentView
from waypost.store.directory.submission import Submission
from waypost.store.kinds import DocumentId
from waypost.store.staging import JointStaging, StagedTransaction
from waypost.store.views import JointTransaction, Transaction

_LOG = logging.getLogger("waypost")
_TRIES = 16


class Opened(NamedTuple):
    """A document that the work touched: what it read and staged over which version."""

    document: Document
    view: DocumentView
    transaction: StagedTransaction
    arriving: Arriving | None = None
    """The log that is to arrive as this document, of which there is nothing yet."""


class Entered(NamedTuple):
    """A document whose locks are held."""

    opened: Opened
    log: Log
    state: DocumentState
    size: int


class Composed(NamedTuple):
    """A commit of one of the documents, ready to be written."""

    entered: Entered
    prepared: Prepared
    frames: list[Frame]
    data: bytes


def commit(
    joint: JointTransaction,
    received: Reception | None,
    change: JointChange,
    context: Context,
    open_: Callable[[DocumentId], Document],
) -> Receipt | None:
    """Commit what was staged, or nothing; see `contract.Store.commit`."""
    assert isinstance(joint, JointStaging), "a transaction of another store"
    assert received is None or isinstance(received, Received), "taken in by another store"
    touched = _touched(joint, received, open_)
    if not any(each.arriving or _is_written(each, change) for each in touched):
        return _read_at_one_moment(touched)
    held: list[Generator[Entered | None]] = []
    try:
        return _commit(touched, change, context, received, held)
    finally:
        give_back(held)
        for each in touched:  # left by an interrupt right behind a lock, or by a system that did not take it back
            each.document.let_go_of_lock()


def _commit(
    touched: Sequence[Opened],
    change: JointChange,
    context: Context,
    received: Received | None,
    held: list[Generator[Entered | None]],
) -> Receipt | None:
    made_room = False
    for _ in range(_TRIES):
        try:
            try:
                entered = _enter(touched, held)
                if entered is None:
                    continue  # a file was replaced while its lock was waited for
                if not all(_is_as_read(each.opened, each.state, change) for each in entered):
                    return None
                commits = _write(entered, change, context, received)
            finally:
                give_back(held)
        except DocumentTooLarge:
            room = [each.document.make_room() for each in touched]
            if made_room or not any(room):
                raise
            made_room = True
            continue
        decided = len(commits) > 1 or any(each.arriving is not None for each in touched)
        return _acknowledge(commits, context, decided=decided)
    return None


def _touched(joint: JointStaging, received: Received | None, open_: Callable[[DocumentId], Document]) -> list[Opened]:
    """All documents of a commit in the order of their ids, also those that are to arrive."""
    touched: list[Opened] = []
    for identifier, transaction in joint.opened.items():
        assert isinstance(transaction.view, DocumentView)
        touched.append(Opened(open_(identifier), transaction.view, transaction))
    for identifier, log in received.logs.items() if received is not None else ():
        nothing = loading.empty_state(identifier).view()
        touched.append(Opened(open_(identifier), nothing, StagedTransaction(nothing), log))
    return sorted(touched, key=lambda each: each.document.id)


def _is_written(opened: Opened, change: JointChange) -> bool:
    if opened.arriving is not None:
        return False
    # what may be repeated leaves a trace, so that it is found
    return opened.transaction.staged.changes_anything or change.repeatable


def _read_at_one_moment(touched: Sequence[Opened]) -> Receipt | None:
    """Where none of them was changed between two looks at all, they stood side by side in between. The reading is the
    first look; where others have committed since, what was read must stand there still, and they are looked at again.
    """
    before = [each.view for each in touched]
    for look in range(_TRIES):
        # what is not the version that was read is passed on with it, and so must not be lost
        now = [each.document.view(durable=look > 0) for each in touched]
        if all(one.commit_id == other.commit_id for one, other in zip(before, now, strict=True)):
            return Receipt(0, changed=False)
        if not all(_is_same(each, view) for each, view in zip(touched, now, strict=True)):
            return None
        before = now
    return None


def _is_as_read(opened: Opened, state: DocumentState, change: JointChange) -> bool:
    if opened.arriving is not None:
        return state.standing.version == 0
    if change.repeatable and state.operation(change.operation_id) is not None:
        return False
    # not by its number, which another version has once a backup has taken the place of the store
    return state.standing.commit_id == opened.view.commit_id or _is_same(opened, state.view())


def _is_same(opened: Opened, now: DocumentView) -> bool:
    """Whether all that the work has read stands in the document as it is now."""
    then, transaction = opened.view, opened.transaction
    if then.commit_id == now.commit_id:
        return True
    # what is cleared without being read is replaced by nothing, whatever it is by now
    return all(_identity(then.part(key)) == _identity(now.part(key)) for key in transaction.read) and all(
        list(then.keys(prefix)) == list(now.keys(prefix)) for prefix in transaction.read_prefixes
    )


def _identity(part: Part | None) -> bytes | tuple[int, bytes] | None:
    return (part.length, part.digest) if isinstance(part, Extent) else part


def _enter(touched: Sequence[Opened], held: list[Generator[Entered | None]]) -> list[Entered] | None:
    """Take all locks; None when one of the files was replaced meanwhile. They are given back with what is held."""
    entered: list[Entered] = []
    for each in touched:
        one = take(held, _entering(each))
        if one is None:
            return None
        entered.append(one)
    return entered


def _entering(each: Opened) -> Generator[Entered | None]:
    """Hold the locks of one document; see `held`."""
    with each.document.lock:
        size = each.document.enter()
        if size is None:
            yield None
            return
        log = each.document.open_for_writing()
        try:
            if each.arriving is not None and log.end and not each.document.state_now().standing.version:
                # it was begun by what was written ahead of a commit that was not made; who makes it begins again
                log.folder.remove(log.name)
                each.document.forget()
                yield None
                return
            yield Entered(each, log, each.document.state_now(), size)
        finally:
            _leave(each.document, log)


def _leave(document: Document, log: Log) -> None:
    """Give the lock back. A file that was made only to be locked goes again."""
    _remove_if_empty(log)
    if log.end == 0:
        document.forget()
    log.file.unlock()


def _remove_if_empty(log: Log) -> None:
    # without the lock it may be the file that another has just begun, and the name a log's that was put in its place
    try:
        if log.file.is_locked and log.end == 0 and log.file.identity().size == 0 and log.is_current():
            log.folder.remove(log.name)
    except StoreUnavailable as error:
        _LOG.warning("%s: an empty file is left: %s", log.file.name, error)


def _write(
    entered: Sequence[Entered], change: JointChange, context: Context, received: Received | None
) -> list[Composed]:
    """Decide where more than one document changes, or one arrives, and write. When it raises nothing has happened, or
    it says so.
    """
    written = [each for each in entered if _is_written(each.opened, change)]
    arriving = [each for each in entered if each.opened.arriving is not None]
    decided = False
    try:
        for each in written:
            each.log.check_poison()
        composed = _compose(written, change, context)
        for each in composed:
            check_what_is_hidden([each.prepared], each.entered.state)
        if len(composed) > 1 or arriving:
            _decide(composed, arriving, context, received)
            decided = True
        for each in composed:
            _append(each, decided=decided)
        for each in arriving:
            _place(each, context)
    except BaseException:
        for each in (*written, *arriving):
            _remove_if_empty(each.log)
            each.opened.document.forget()
        raise
    return composed


def _compose(written: Sequence[Entered], change: JointChange, context: Context) -> list[Composed]:
    mark: JointMark | None = None
    if len(written) > 1:
        participants = [Participant(*each.opened.document.id, each.state.standing.version + 1) for each in written]
        mark = JointMark(new_transaction_id(), participants)
    composed: list[Composed] = []
    for each in written:
        prepared = _prepare(each, change, context, mark)
        frames, data = compose([prepared], each.state, each.log)
        composed.append(Composed(each, prepared, frames, data))
    return composed


def _prepare(entered: Entered, change: JointChange, context: Context, mark: JointMark | None) -> Prepared:
    document = entered.opened.document.id
    single = Change(
        document, _not_run, change.operation_id, change.operation, change.repeatable, change.session, change.agent
    )
    before = Tentative(entered.state)
    return Prepared(Submission(_not_driven, single, None), entered.opened.transaction, before, context, None, mark)


def _not_run(_: Transaction) -> None:
    """The work was done before the locks were taken."""


def _not_driven() -> None:
    """The commit is not in a queue."""


def _decide(
    composed: Sequence[Composed], arriving: Sequence[Entered], context: Context, received: Received | None
) -> None:
    for each in composed:
        # each log must reach to where its frame will stand, whatever happens
        each.entered.opened.document.sync_to(each.entered.log, each.entered.log.end)
    participants = [
        DecidedFrames(*each.entered.opened.document.id, each.entered.log.file_id, each.entered.log.end, each.data)
        for each in composed
    ]
    for each in arriving:
        log = each.opened.arriving
        assert log is not None
        participants.append(DecidedFrames(*each.opened.document.id, log.file_id, 0, b"", log.length))
    mark = composed[0].prepared.body.transaction if composed else None
    transaction_id = new_transaction_id() if mark is None else mark.transaction_id
    if received is not None:
        received.sync()
    context.decisions.decide(transaction_id, participants, received.name if received is not None and arriving else "")


def _append(composed: Composed, *, decided: bool) -> None:
    log, state = composed.entered.log, composed.entered.state
    document = composed.entered.opened.document
    try:
        document.put(log, state, [composed.prepared], composed.frames, composed.data, composed.entered.size)
        if decided:
            log.decided = log.end
    except (StoreUnavailable, DocumentDamaged) as error:
        if not decided:
            raise
        # it has happened: readers see it by the decision, and the next writer writes it
        _LOG.warning("%s: a frame that was decided is still to be written: %s", log.file.name, error)
        document.forget()


def _place(entered: Entered, context: Context) -> None:
    """Put a log that arrives in the place of the empty file whose lock is held."""
    document, log = entered.opened.document, entered.log
    try:
        context.decisions.place(document.id, log)
        document.turn_to_new_file()
        document.keeping_is_due = True  # checkpoints may have been taken in with it
    except WaypostError as error:
        # it has happened, as above
        _LOG.warning("%s: a log that was decided on is still to get its place: %s", log.file.name, error)
    document.forget()


def _acknowledge(composed: Sequence[Composed], context: Context, *, decided: bool) -> Receipt:
    """The receipt, once what was written is durable: by the decision, or by a sync where one frame needed none."""
    counters = Counters(attempts=1)
    for each in composed:
        counts = each.prepared.receipt.counters
        counters.bytes_written += counts.bytes_written
        counters.raw_bytes += counts.raw_bytes
        counters.writes += counts.writes
    if not decided:
        log, document = composed[0].entered.log, composed[0].entered.opened.document
        if context.durable:
            counters.syncs += document.sync_to(log, log.end)
    else:
        counters.syncs += 2  # of the decision and of its name
    for each in composed:
        each.entered.opened.document.look_after()
    return Receipt(0, changed=True, counters=counters)


def settle(context: Context, open_: Callable[[DocumentId], Document]) -> frozenset[str]:
    """Carry out pending decisions to the end, and forget them; those that are left. Why one cannot be carried out is
    told once, since it is tried again and again.
    """
    left: set[str] = set()
    for transaction_id, body in _pending(context).items():
        try:
            for each in body.participants:
                open_(document_id(each.kind, each.id)).settle()
            context.decisions.remove(transaction_id, body.folder)
        except WaypostError as error:  # what is in its way may not be in that of others
            left.add(transaction_id)
            if not isinstance(error, LockTimeout | StoreClosed):  # whoever holds the lock, or comes next, sees to it
                _tell_once(context, transaction_id, error)
    return frozenset(left)


def _pending(context: Context) -> dict[str, DecisionBody]:
    try:
        return dict(context.decisions.pending())
    except WaypostError as error:  # it says of which file, and whoever reads or writes is told as well
        _tell_once(context, FOLDER, error)
        return {}


def _tell_once(context: Context, about: str, error: WaypostError) -> None:
    if (about, str(error)) not in context.told:
        context.told.add((about, str(error)))
        _LOG.warning("%s: a transaction is still to be carried out: %s", context.layout.path, error)
