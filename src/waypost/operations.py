"""Run one operation and report it: the code path that both faces share.

A *request* is one operation with its arguments. It knows how to be run in the calling thread; a write can also be
taken apart into the change for the store and what makes a result of the store's answer, so that the
asynchronous face waits in its own way and does nothing else differently.

Invariants:

* Only a WaypostError becomes a `Failure`. Bugs, cancellation, interrupts and misuse raise.
* A `Failure` is `rolled_back` when nothing of the operation happened, and `unknown` when that cannot be said.
* A repeated operation id gives the result of the first time, from the version at which it happened.
* A `Failure` that nobody looked at is not lost: it is logged and warned about when it is collected.
"""

from __future__ import annotations

import logging
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar, Generic, Literal, NoReturn, TypeVar

from msgspec import Struct

from waypost import clock, migrations, prepared, records, session_records, workflows
from waypost.errors import (
    OperationNotFound,
    Refused,
    SchemaOutdated,
    StorePoisoned,
    TransactionPending,
    WaypostError,
)
from waypost.instruments import Instruments
from waypost.models import WorkflowStep
from waypost.performance import StoreMetrics, metrics_of
from waypost.store import (
    Change,
    ContentLost,
    Counters,
    DocumentId,
    Durability,
    OperationRecord,
    Receipt,
    Store,
    Transaction,
    View,
)
from waypost.store.kinds import KINDS
from waypost.tenures import Tenures

logger = logging.getLogger("waypost")

T = TypeVar("T")
R = TypeVar("R")

Status = Literal["rolled_back", "unknown"]


# --- results ---


class UnhandledFailureWarning(RuntimeWarning):
    """An operation failed, and nobody looked at its result."""


class OperationPerformance(Struct, frozen=True, kw_only=True):
    """What one operation cost.

    Bytes are as stored. `compression_ratio` is bytes before / after compression, None where nothing was written.
    `memory_bytes` is what the operation held of parts before compression, streamed ones left out.
    """

    bytes_read: int
    bytes_written: int
    io_operations: int
    syncs: int
    compression_ratio: float | None
    queue_wait_ms: float
    memory_bytes: int

    @classmethod
    def of(cls, counters: Counters) -> OperationPerformance:
        written = counters.bytes_written
        return cls(
            bytes_read=counters.bytes_read,
            bytes_written=written,
            io_operations=counters.reads + counters.writes,
            syncs=counters.syncs,
            compression_ratio=counters.raw_bytes / written if written else None,
            queue_wait_ms=counters.queue_wait_us / 1000,
            memory_bytes=counters.raw_bytes - counters.streamed_bytes,
        )


class Success(Struct, Generic[T], frozen=True, kw_only=True):
    """The operation happened, with the durability that is named.

    `repeated` says that it had happened before, under the same operation id, and `data` is of that time.
    """

    data: T
    operation_id: str
    duration_ms: float
    durability: Durability
    counters: Counters
    repeated: bool = False

    success: ClassVar[Literal[True]] = True
    error: ClassVar[None] = None

    @property
    def performance(self) -> OperationPerformance:
        return OperationPerformance.of(self.counters)

    def __bool__(self) -> Literal[True]:
        return True

    def unwrap(self) -> T:
        """The data."""
        return self.data


class Failure:
    """The operation did not happen, or (`status` "unknown") it cannot be said whether it did.

    `error` is the exception: it has `code`, `message`, `retryable` and `details`, and its text is the message.
    `get_outcome(operation_id)` settles what is unknown.
    """

    __slots__ = ("_error", "_seen", "_status", "durability", "duration_ms", "operation_id")

    def __init__(
        self, error: WaypostError, status: Status, operation_id: str, duration_ms: float, durability: Durability
    ) -> None:
        self._seen = False
        self._error = error
        self._status: Status = status
        self.operation_id = operation_id
        self.duration_ms = duration_ms
        self.durability: Durability = durability

    @property
    def success(self) -> Literal[False]:
        self._seen = True
        return False

    @property
    def data(self) -> None:
        self._seen = True

    @property
    def error(self) -> WaypostError:
        self._seen = True
        return self._error

    @property
    def status(self) -> Status:
        self._seen = True
        return self._status

    @property
    def performance(self) -> OperationPerformance:
        return OperationPerformance.of(Counters())

    def __bool__(self) -> Literal[False]:
        self._seen = True
        return False

    def unwrap(self) -> NoReturn:
        """Raise the original exception."""
        self._seen = True
        raise self._error

    def __repr__(self) -> str:
        self._seen = True
        return f"Failure({self._error!r}, status={self._status!r}, operation_id={self.operation_id!r})"

    def __del__(self) -> None:
        # an object whose making was cut short has no `_seen`
        if getattr(self, "_seen", True) or sys.is_finalizing():
            return
        message = f"an operation failed ({self._status}) and nobody looked at its result: {self._error}"
        logger.error("%s [%s]", message, self.operation_id)
        warnings.warn(message, UnhandledFailureWarning, stacklevel=2, source=self)


OperationResult = Success[T] | Failure


def status_of(error: WaypostError) -> Status:
    """What is true on disk after an error: nothing happened, or that cannot be said."""
    is_open = isinstance(error, StorePoisoned) or error.details.get("outcome") == "unknown"
    return "unknown" if is_open else "rolled_back"


# --- requests ---


class Observer:
    """Told of each operation as it ends: counts it, and logs it where the handle is verbose."""

    __slots__ = ("instruments", "is_verbose")

    def __init__(self, instruments: Instruments | None, *, is_verbose: bool) -> None:
        self.instruments = instruments
        self.is_verbose = is_verbose

    def metrics(self, window_s: float, *, with_series: bool = True) -> StoreMetrics:
        """How the operations of the last so many seconds fared; see `metrics_of`."""
        return metrics_of(self.instruments, window_s, with_series=with_series)


UNOBSERVED = Observer(None, is_verbose=False)


class Request(ABC, Generic[R]):
    """One operation with its arguments, not yet run."""

    __slots__ = ("_observer", "_started_ns", "counted_as", "operation", "operation_id", "store")

    is_save: ClassVar[bool] = False
    """Whether it commits to one workflow, and does nothing beside that takes its time."""

    def __init__(self, store: Store, operation: str, operation_id: str | None, observer: Observer) -> None:
        self.store = store
        self.operation = operation
        self.operation_id = clock.new_id("op") if operation_id is None else operation_id
        self.counted_as = operation
        self._observer = observer
        self._started_ns = clock.monotonic_ns()

    @abstractmethod
    def run(self) -> R:
        """Run it in this thread."""

    def _ended(self, outcome: object, counters: Counters | None, error: WaypostError | None = None) -> float:
        """Tell that the operation has ended; how many ms it took, 0 where there is no memory to tell it: what was done
        does not become a failure by that.
        """
        try:
            now_ns = clock.monotonic_ns()
            taken_ns = now_ns - self._started_ns
            observer = self._observer
            if observer.instruments is not None:
                code = None if error is None else error.code
                observer.instruments.note((self.counted_as, self.is_save, now_ns, taken_ns, counters, code))
            taken_ms = taken_ns / 1_000_000
            if observer.is_verbose:
                logger.debug("%s: %s in %.3f ms [%s]", self.operation, outcome, taken_ms, self.operation_id)
        except MemoryError:
            return 0.0
        return taken_ms

    def _success(self, data: T, counters: Counters, repeated: bool = False) -> Success[T]:
        return Success(
            data=data,
            operation_id=self.operation_id,
            duration_ms=self._ended("repeated" if repeated else "done", counters),
            durability=self.store.durability,
            counters=counters,
            repeated=repeated,
        )

    def failed(self, error: WaypostError, status: Status | None = None) -> Failure:
        duration_ms = self._ended(error, None, error)
        status = status_of(error) if status is None else status
        return Failure(error, status, self.operation_id, duration_ms, self.store.durability)


class Read(Request[R]):
    """An operation that gives a value, and raises."""

    __slots__ = ("_read",)

    def __init__(self, store: Store, operation: str, read: Callable[[], R], observer: Observer = UNOBSERVED) -> None:
        super().__init__(store, operation, None, observer)
        self._read = read

    def run(self) -> R:
        try:
            value = self._read()
        except WaypostError as error:
            self._ended(error, None, error)
            raise
        self._ended("done", None)
        return value


class Load(Request[OperationResult[T]]):
    """A read that is reported like a write."""

    __slots__ = ("_load",)

    def __init__(self, store: Store, operation: str, load: Callable[[Counters], T], observer: Observer) -> None:
        super().__init__(store, operation, None, observer)
        self._load = load

    def run(self) -> OperationResult[T]:
        counters = Counters()
        try:
            return self._success(self._load(counters), counters)
        except WaypostError as error:
            return self.failed(error)


TRIES = 8
"""How often content is staged when the store gives it up before it is put."""

Work = Callable[[Transaction], T]


class Write(Request[OperationResult[T]]):
    """A change of one workflow.

    `prepare` checks and encodes the arguments and gives the work; it runs once, outside any transaction. `finish`
    makes the result of what the work returned; the function it gets finds the version that the work made.
    """

    __slots__ = ("_agent_id", "_finish", "_held", "_prepare", "_session_id", "is_repeatable", "stages", "workflow_id")

    is_save = True

    def __init__(
        self,
        store: Store,
        held: Tenures,
        operation: str,
        workflow_id: str,
        prepare: Callable[[], Work[Any]],
        finish: Callable[[Any, Callable[[], View]], T],
        *,
        operation_id: str | None,
        session_id: str | None,
        agent_id: str | None = None,
        observer: Observer = UNOBSERVED,
        stages: bool = False,
    ) -> None:
        super().__init__(store, operation, operation_id, observer)
        self.workflow_id = workflow_id
        self.stages = stages or (session_id is not None and not held.has_entered(session_id, workflow_id))
        """Whether preparing reads or writes files, and takes its time."""
        self.is_repeatable = operation_id is not None
        self._held = held
        self._prepare = prepare
        self._finish = finish
        self._session_id = session_id
        self._agent_id = agent_id

    def run(self) -> OperationResult[T]:
        try:
            receipt = self._receipt()
        except WaypostError as error:
            return self.failed(error)
        return self.done(receipt)

    def _receipt(self) -> Receipt:
        for _ in range(TRIES - 1):
            change = self.change()
            try:
                return self.store.submit(change).result()
            except ContentLost:
                pass  # another file took the log's place
            except SchemaOutdated:
                migrations.bring_up_to_date(self.store, change.document)
            except TransactionPending as pending:
                prepared.out_of_the_way(self.store, pending)
        return self.store.submit(self.change()).result()

    def change(self) -> Change:
        """The change for the store. Raises what the arguments are refused with."""
        document = DocumentId("workflow", records.validate_id(self.workflow_id, "workflow id"))
        if self.is_repeatable:
            records.validate_id(self.operation_id, "operation id")
        work = self._prepare()
        if self._session_id is not None:
            work = partial(_linking, work, self._session_id, self._enter(document, self._session_id))
        return Change(
            document,
            work,
            self.operation_id,
            self.operation,
            self.is_repeatable,
            self._session_id,
            self._agent_id,
        )

    def _enter(self, document: DocumentId, session_id: str) -> int | None:
        """Under which number the session writes; see `Tenures.enter`."""
        try:
            return self._held.enter(self.store, session_id, document.id)
        except Refused:
            if self.is_repeatable and self.store.view(document).operation(self.operation_id) is not None:
                return None  # it was done before, and is not done now
            raise

    def done(self, receipt: Receipt) -> OperationResult[T]:
        """The result of a commit."""
        store, workflow_id, version = self.store, self.workflow_id, receipt.version

        def viewer() -> View:
            return view_at(store, DocumentId("workflow", workflow_id), version)

        try:
            if receipt.repeated is not None:
                data: T = workflows.render(viewer(), receipt.repeated.projection, viewer, self.store)
            else:
                data = self._finish(receipt.data, viewer)
        except WaypostError as error:
            # it is committed, and only what became of it could not be read
            return self.failed(error, "unknown")
        instruments = self._observer.instruments
        if instruments is not None and isinstance(data, WorkflowStep) and receipt.changed:
            _note_step(instruments, data)
        return self._success(data, receipt.counters, receipt.repeated is not None)


def _note_step(instruments: Instruments, step: WorkflowStep) -> None:
    """Count a step that has just been written, if it is finished by now and was begun."""
    if step.status in ("completed", "failed") and step.start_time is not None and step.end_time is not None:
        taken_us = (step.end_time - step.start_time) // timedelta(microseconds=1)
        instruments.note_step(step.status, max(0, taken_us) * 1000)


def _linking(work: Work[T], session_id: str, number: int | None, tx: Transaction) -> T:
    """Do the work unless the session was taken over, and remember the session in what it wrote to."""
    session_records.check_number(tx, session_id, number)
    data = work(tx)
    if tx.size_of(records.WORKFLOW) is not None:
        session_records.link(tx, session_id, number)
    return data


def view_at(store: Store, document: DocumentId, version: int) -> View:
    """A version, or the current one where that is no longer kept, as this release reads it."""
    view = store.view_at(document, version)
    return migrations.current(store.view(document, durable=False) if view is None else view)


# --- settling what is unknown ---


def find_outcome(store: Store, operation_id: str) -> Success[Any]:
    """The first result of an operation. Raises OperationNotFound, and what kept a workflow from being read."""
    records.validate_id(operation_id, "operation id")
    started_ns = clock.monotonic_ns()
    unread: WaypostError | None = None
    for document in _documents(store):
        try:
            found = store.view(document).operation(operation_id)
        except WaypostError as error:
            unread = error
            continue
        if found is not None:
            return Success(
                data=outcome_of(store, document, found),
                operation_id=operation_id,
                duration_ms=(clock.monotonic_ns() - started_ns) / 1_000_000,
                durability=store.durability,
                counters=Counters(),
                repeated=True,
            )
    if unread is not None:
        # it may stand where nothing could be read, and "not found" would say that it did not happen
        raise unread
    raise OperationNotFound(f"no commit of operation {operation_id!r} is known", operation_id=operation_id)


def _documents(store: Store) -> Iterator[DocumentId]:
    for kind in KINDS:
        for name in store.documents(kind):
            yield DocumentId(kind, name)


def outcome_of(store: Store, document: DocumentId, found: OperationRecord) -> Any:
    """The first result of an operation that a document remembers; None for one of an adapter, which returns nothing."""
    if document.kind == "thread":
        return None

    def viewer() -> View:
        return view_at(store, document, found.version)

    return workflows.render(viewer(), found.projection, viewer, store)
