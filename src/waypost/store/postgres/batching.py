"""Commits to one document that wait together: their works run one after the other, each seeing what those before it
staged, and go to the server in one transaction, with one wait for its sync.

One thread at a time commits to a document, for all that wait; the others find themselves done, or are next.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import psycopg
from msgspec.structs import replace

from waypost.errors import LockTimeout, StoreError, StoreUnavailable, WaypostError
from waypost.store import parts
from waypost.store.contract import Change, Counters, OnDone, Receipt
from waypost.store.kinds import DocumentId
from waypost.store.postgres import committing, drafts
from waypost.store.postgres.appending import append, hold_adopted
from waypost.store.postgres.connections import Connection
from waypost.store.postgres.context import Context
from waypost.store.postgres.documents import DocumentView, Head
from waypost.store.postgres.drafts import Draft
from waypost.store.staging import StagedTransaction
from waypost.store.views import OperationRecord, Transaction

_LOG = logging.getLogger("waypost")
_TRIES = 4


class Waiting:
    """A change that waits for its commit; fulfils `contract.Ticket`."""

    def __init__(self, queue: Queue, change: Change, on_done: OnDone | None) -> None:
        self._queue = queue
        self._work = change.work
        self.change = replace(change, work=self._run)
        self.may_be_done = False
        """Whether somebody was interrupted who committed it, perhaps."""
        self._data: Any = None
        self._on_done = on_done
        self._outcome: Receipt | BaseException | None = None

    def _run(self, transaction: Transaction) -> Any:
        self._data = self._work(transaction)
        return self._data

    @property
    def is_done(self) -> bool:
        return self._outcome is not None

    def result(self) -> Receipt:
        try:
            while self._outcome is None:
                self._queue.drive(self)
        except BaseException:
            if self._outcome is None:  # nobody waits for it any more, and nobody else is to commit it later
                self.finish(StoreError("the commit was interrupted", outcome="unknown"))
            raise
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def settle(self, context: Context) -> None:
        """Be done where the document remembers the change: its work ran last for that."""
        if self.change.repeatable:
            return  # looked up whenever it is committed
        try:
            version = committing.version_of(context, self.change)
        except WaypostError as error:
            self.finish(error)
            return
        self.may_be_done = False
        if version is not None:
            self.finish(Receipt(version, changed=True, data=self._data))

    def finish(self, outcome: Receipt | BaseException) -> None:
        if self._outcome is not None:
            return  # its waiter was interrupted while another thread committed it
        self._outcome = outcome
        if self._on_done is not None:
            try:
                self._on_done((self,))
            except Exception:  # it is the caller's, and others are committed with it
                _LOG.exception("a callback of a commit failed")


class Queue:
    """What waits for one document."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: deque[Waiting] = deque()
        self._turn = threading.Lock()

    def add(self, change: Change, on_done: OnDone | None) -> Waiting:
        waiting = Waiting(self, change, on_done)
        self._waiting.append(waiting)
        return waiting

    def drive(self, waited_for: Waiting) -> None:
        """Commit what waits, until that is done; or see that another thread has done it."""
        with self._turn:
            while not waited_for.is_done:
                batch = self._next()
                try:
                    self._commit(batch)
                except BaseException as error:  # an interrupt of this thread is no concern of the others
                    for waiting in batch:
                        waiting.may_be_done = True
                    waited_for.finish(error)
                    raise

    def _next(self) -> list[Waiting]:
        """What is to be committed now. It goes from the queue once it is done, so that no interrupt loses any."""
        while self._waiting and self._waiting[0].is_done:
            self._waiting.popleft()
        first = [self._waiting[number] for number in range(min(len(self._waiting), self._context.batch_size))]
        return [waiting for waiting in first if not waiting.is_done]

    def _commit(self, batch: Sequence[Waiting]) -> None:
        for waiting in batch:
            if waiting.may_be_done:
                waiting.settle(self._context)
        left = [waiting for waiting in batch if not waiting.is_done]
        outcomes = commit_all(self._context, [waiting.change for waiting in left])
        for waiting, outcome in zip(left, outcomes, strict=True):
            waiting.finish(outcome)


class Queues:
    """A queue for each document that is being committed to."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._queues: dict[DocumentId, tuple[Queue, int]] = {}

    def add(self, change: Change, on_done: OnDone | None) -> Waiting:
        """Hand in a change; `used` has to be told when its result was waited for."""
        with self._lock:
            queue, users = self._queues.get(change.document, (None, 0))
            queue = queue or Queue(self._context)
            self._queues[change.document] = (queue, users + 1)
            return queue.add(change, on_done)

    def used(self, document: DocumentId) -> None:
        with self._lock:
            queue, users = self._queues[document]
            if users == 1:
                del self._queues[document]
            else:
                self._queues[document] = (queue, users - 1)


# --- several changes at once ---


def commit_all(context: Context, changes: Sequence[Change]) -> Sequence[Receipt | BaseException]:
    """Commit changes of one document in their order. What one of them fails with is its outcome."""
    if len(changes) > 1 and len({change.operation_id for change in changes}) == len(changes):
        for _ in range(_TRIES):
            try:
                outcomes = _attempt(context, changes)
            except WaypostError as error:
                is_of_the_server = isinstance(error, StoreUnavailable | LockTimeout) and "sqlstate" in error.details
                if is_of_the_server or error.details.get("outcome") == "unknown":
                    return [error] * len(changes)  # it would be waited for by each, one after the other
                break  # one of them cannot be committed: the others are not to suffer
            if outcomes is not None:
                return outcomes
    return [_alone(context, change) for change in changes]


def _alone(context: Context, change: Change) -> Receipt | BaseException:
    try:
        return committing.submit(context, change)
    except BaseException as error:
        if not isinstance(error, Exception):
            raise
        return error


class _Run(NamedTuple):
    """A work that was run: what it came to, and what it staged over which version, if anything."""

    outcome: Receipt | Exception
    draft: Draft | None
    transaction: StagedTransaction


def _attempt(context: Context, changes: Sequence[Change]) -> Sequence[Receipt | BaseException] | None:
    """One run of all works; None when they have to run again."""
    view = known = context.look(changes[0].document)
    runs: list[_Run] = []
    for change in changes:
        run = _run(context, view, known, change)
        if run is None:
            return [_alone(context, each) for each in changes]
        runs.append(run)
        if run.draft is not None:
            view = _after(view, run.draft)
    staged = [run for run in runs if run.draft is not None]
    if not staged:
        return [run.outcome for run in runs]
    sent = _send(context, known, runs)
    if sent is None:
        return None
    heads, were_there = sent
    if heads and heads[-1].commit_id == view.commit_id:
        context.remember(view.at(heads[-1]))
    else:
        context.forget(known.document)
    versions = iter(heads)
    outcomes = [run.outcome if run.draft is None else _receipt(context, run, next(versions)) for run in runs]
    if were_there:  # what may be repeated may have been done by another, with another outcome
        now = context.look(known.document)
        known_by_id = ((now.operation(each.operation_id) if each.repeatable else None) for each in changes)
        outcomes = [_repeated(outcome, seen) for outcome, seen in zip(outcomes, known_by_id, strict=True)]
    return outcomes


def _repeated(outcome: Receipt | Exception, seen: OperationRecord | None) -> Receipt | Exception:
    return outcome if seen is None else Receipt(seen.version, changed=False, repeated=seen)


def _receipt(context: Context, run: _Run, head: Head) -> Receipt:
    receipt, draft = run.outcome, run.draft
    assert isinstance(receipt, Receipt) and draft is not None
    context.committed(run.transaction.document)
    counters = Counters(
        raw_bytes=draft.raw_bytes,
        bytes_written=sum(part.length for part in draft.puts.values()),
        writes=1,
        syncs=int(context.durable),
        attempts=1,
    )
    return Receipt(head.version, changed=True, data=receipt.data, counters=counters)


def _run(context: Context, view: DocumentView, known: DocumentView, change: Change) -> _Run | None:
    """Run a work; None for one that does not go with others."""
    transaction = StagedTransaction(view)
    if change.repeatable and (seen := known.operation(change.operation_id)) is not None:
        return _Run(Receipt(seen.version, changed=False, repeated=seen), None, transaction)
    try:
        data = change.work(transaction)
    except Exception as error:
        return _Run(error, None, transaction)
    staged = transaction.staged
    if staged.cleared:
        return None
    receipt = Receipt(view.version, changed=False, data=data, counters=Counters(attempts=1))
    if not staged.changes_anything and not change.repeatable:
        return _Run(receipt, None, transaction)
    try:
        draft = drafts.draft(change, staged, context.chunk_bytes, max(drafts.now_us(), view.time_us + 1))
    except WaypostError as error:
        return _Run(error, None, transaction)
    return _Run(receipt, draft, transaction)


def _after(view: DocumentView, draft: Draft) -> DocumentView:
    """The version as it would be after a commit that nobody comes before."""
    size, checksum = view.size_bytes, 0
    for key in (*draft.puts, *draft.removed):
        old, new = view.part(key), draft.puts.get(key)
        for part, sign in ((old, -1), (new, 1)):
            if part is not None:
                size += sign * parts.part_size(key.encode(), part.length)
                checksum += sign * part.digest
    head = view.head._replace(
        version=view.version + 1,
        time_us=draft.time_us,
        size_bytes=size,
        checksum=parts.add_to_checksum(view.checksum, checksum),
        commit_id=parts.commit_id(view.commit_id, draft.operation_id, draft.hash),
    )
    return view.following(head, draft.puts, draft.removed, cleared=False, is_made=False)


def _send(context: Context, known: DocumentView, runs: Sequence[_Run]) -> tuple[list[Head], bool] | None:
    """Append all drafts, or none: the versions that they became, and whether all of them were there before. None when
    another commit touched what one of the works read.
    """
    drafted = [run.draft for run in runs if run.draft is not None]

    def act(connection: Connection) -> tuple[list[Head], bool] | None:
        with context.connections.transaction(connection):
            head = context.look_with(connection, known.document).head
            if head.commit_id != known.commit_id:
                done = _done(context, connection, head, drafted)
                if len(done) == len(drafted):
                    return done, True  # by an earlier attempt, whose connection was lost, or by another
                if done or not all(
                    committing.is_as_read(context, connection, run.transaction, known, head) for run in runs
                ):
                    raise psycopg.Rollback
            for draft in drafted:
                hold_adopted(context, connection, known.document, draft)
            return [append(context, connection, head.doc, draft) for draft in drafted], False
        return None

    return context.in_transaction(f"a batch of {len(drafted)} changes", act)


def _done(context: Context, connection: Connection, head: Head, drafted: Sequence[Draft]) -> list[Head]:
    """The versions that drafts became which were committed before, under their operation ids."""
    heads: list[Head] = []
    for draft in drafted:
        asked = {"doc": head.doc, "operation_id": draft.operation_id, "version": head.version}
        row = connection.execute(context.connections.statements["operation"], asked).fetchone()
        if row is not None:
            heads.append(head._replace(version=row[1]))
    return heads
