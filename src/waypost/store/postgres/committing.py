"""Committing to one document: run the work over what is known, send what it staged, and see whether that still fits.

Nothing is asked before: the work runs over the version that this handle knows, and the server compares what it read
with what others have committed since, with the document's row locked. So a change is one statement, its own transaction
and one wait for the server's sync. What a work says of an older version than the newest is not believed before the
newest one was looked at.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import psycopg

from waypost.errors import StoreUnavailable, WaypostError
from waypost.store.contract import Change, Counters, Receipt
from waypost.store.postgres import drafts
from waypost.store.postgres.appending import adopted_by, append, hold_adopted
from waypost.store.postgres.connections import Connection
from waypost.store.postgres.context import Context, Pauses
from waypost.store.postgres.documents import DocumentView, Head
from waypost.store.postgres.drafts import Draft
from waypost.store.postgres.refusals import AGAIN, is_lost
from waypost.store.postgres.told import record_of
from waypost.store.staging import StagedTransaction
from waypost.store.views import OperationRecord

_TRIES = 16


class _Answer(NamedTuple):
    """`was_lost` where the first attempt was lost with its connection, and may be carried out later."""

    outcome: str
    head: Head
    seen: tuple[Any, ...] | None
    was_lost: bool


def submit(context: Context, change: Change) -> Receipt:
    """Commit a change. Raises what its work raises."""
    counters = Counters()
    view = context.known(change.document)
    is_sure = False
    for _ in range(_TRIES):
        if view is None:
            view, is_sure = context.look(change.document, counters), True
        receipt = _attempt(context, change, view, counters, is_sure=is_sure)
        if receipt is not None:
            return receipt
        view = None
    return _under_lock(context, change, counters)


def _attempt(
    context: Context, change: Change, view: DocumentView, counters: Counters, *, is_sure: bool
) -> Receipt | None:
    """One run of the work; None when it has to run again, over the newest version."""
    counters.attempts += 1
    transaction = StagedTransaction(view)
    try:
        data = change.work(transaction)
    except Exception:  # of whatever kind: what was read may be out of date
        if not is_sure:
            return None
        seen = _remembered(view, change) if change.repeatable else None
        if seen is None:
            raise
        return seen
    staged = transaction.staged
    if not staged.changes_anything and not change.repeatable:
        return Receipt(view.version, changed=False, data=data, counters=counters) if is_sure else None
    draft = drafts.draft(change, staged, context.chunk_bytes, drafts.now_us())
    if adopted_by(draft):  # which is to be held until it is committed
        return _under_lock(context, change, counters)
    answer = _send(context, change, view, transaction, draft, counters)
    if answer.outcome == "conflict":  # looked at once more under the lock, where an earlier attempt may have come late
        return _under_lock(context, change, counters, data) if answer.was_lost else None
    if answer.outcome == "repeated":
        assert answer.seen is not None
        version, time_us, operation, told = answer.seen
        seen = record_of((change.operation_id, version, time_us, operation, told))
        context.forget(change.document)
        if change.repeatable:
            return Receipt(version, changed=False, repeated=seen, counters=counters)
        return Receipt(version, changed=True, data=data, counters=counters)  # this call's, sent before it was lost
    if answer.head.version == view.version + 1:
        following = view.following(answer.head, draft.puts, draft.removed, cleared=draft.cleared)
        context.remember(following)
    else:
        context.forget(change.document)
    context.committed(change.document)
    return Receipt(answer.head.version, changed=True, data=data, counters=counters)


def _remembered(view: DocumentView, change: Change) -> Receipt | None:
    seen = view.operation(change.operation_id)
    return None if seen is None else Receipt(seen.version, changed=False, repeated=seen)


def _send(
    context: Context,
    change: Change,
    view: DocumentView,
    transaction: StagedTransaction,
    draft: Draft,
    counters: Counters,
) -> _Answer:
    """Send a draft until there is an answer. Where a connection is lost the server may have committed it or not: then
    it is sent again, to be committed unless the document remembers its operation.
    """
    reads, prefixes = drafts.read_by(transaction)
    lost: psycopg.Error | None = None
    pauses = Pauses()
    while True:
        parameters = (
            *(*change.document, view.version, view.commit_id, change.repeatable or lost is not None, reads, prefixes),
            *draft.parameters(),
            *(context.limit_bytes, context.durable, context.connections.patience),
        )
        try:
            row = _call(context, parameters)
        except psycopg.Error as error:
            is_again = error.sqlstate in AGAIN
            if not is_again and not is_lost(error):
                raise context.refused(change.operation_id, error, lost) from error
            lost = lost if is_again else error
            if not context.wait(pauses):
                raise context.refused(change.operation_id, error, lost) from error
        except StoreUnavailable as error:  # there is no connection to be had
            if lost is None or not context.wait(pauses):
                raise context.refused(change.operation_id, error, lost) from error
        else:
            counters.writes += 1
            counters.syncs += context.durable
            counters.raw_bytes += draft.raw_bytes
            counters.bytes_written += sum(part.length for part in draft.puts.values())
            seen = tuple(row[8:12]) if row[0] == "repeated" else None
            return _Answer(row[0], Head.of(row[1:8]), seen, lost is not None)


def _call(context: Context, parameters: tuple[object, ...]) -> tuple[Any, ...]:
    connections = context.connections
    with connections.connection() as connection, connections.limited(connection):
        row = connection.execute(connections.statements["submit"], parameters, binary=True).fetchone()
    assert row is not None
    return row


def _under_lock(context: Context, change: Change, counters: Counters, data: Any = None) -> Receipt:
    """Run a work that was overtaken too often, or adopts a checkpoint, with the document's row locked: it is ours, and
    takes microseconds. `data` is what it gave when it was sent before, if that was lost.
    """

    def act(connection: Connection) -> Receipt:
        nonlocal data
        with context.connections.transaction(connection):
            connection.execute(context.connections.statements["locked"], change.document)
            view = context.look_with(connection, change.document)
            seen = _remembered(view, change)
            if seen is not None:  # this call's, unless the id is its caller's: committed before its connection was lost
                return seen if change.repeatable else Receipt(seen.version, changed=True, data=data, counters=counters)
            transaction = StagedTransaction(view)
            data = change.work(transaction)
            staged = transaction.staged
            if not staged.changes_anything and not change.repeatable:
                return Receipt(view.version, changed=False, data=data, counters=counters)
            draft = drafts.draft(change, staged, context.chunk_bytes, drafts.now_us())
            hold_adopted(context, connection, change.document, draft)
            head = append(context, connection, view.head.doc, draft)
        counters.attempts += 1
        counters.writes += 1
        counters.syncs += context.durable
        return Receipt(head.version, changed=True, data=data, counters=counters)

    context.forget(change.document)
    return context.in_transaction(change.operation_id, act)


def version_of(context: Context, change: Change) -> int | None:
    """The version that a change of this handle became, which may have been committed or not. Locking waits for whoever
    still commits it. Raises StoreUnavailable with an unknown outcome where that cannot be said.
    """

    def act(connection: Connection) -> int | None:
        seen: OperationRecord | None = None
        with context.connections.transaction(connection):
            view = context.look_with(connection, change.document)
            seen = view.operation(change.operation_id)
            if not view.version:
                raise psycopg.Rollback
        return None if seen is None else seen.version

    try:
        return context.in_transaction(change.operation_id, act)
    except WaypostError as error:
        lost = psycopg.OperationalError(str(error))
        raise context.refused(change.operation_id, lost, lost) from error


def is_as_read(
    context: Context, connection: Connection, transaction: StagedTransaction, known: DocumentView, head: Head
) -> bool:
    """Whether what a work read is as it was in the version `known`, in a document whose row is locked."""
    if head.version == known.version:
        return head.commit_id == known.commit_id
    if known.version < head.first or known.head.doc not in (0, head.doc):
        return False
    reads, prefixes = drafts.read_by(transaction)
    asked = (*(head.doc, known.version, reads, prefixes), known.version, head.doc, known.version, known.commit_id)
    row = connection.execute(context.connections.statements["untouched"], asked).fetchone()
    return row is not None and row[0]
