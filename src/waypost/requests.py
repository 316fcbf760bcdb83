"""How an operation becomes a request: what every definition stands on."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeVar

from waypost import clock, loading, migrations, prepared, records
from waypost.automatic import Automatic
from waypost.catalogue import Catalogue
from waypost.config import Config
from waypost.errors import StoreClosed, StoreError
from waypost.instruments import Instruments
from waypost.loading import Viewer
from waypost.models import WorkflowContext, WorkflowState
from waypost.operations import Observer, OperationResult, Read, Request, Work, Write
from waypost.records import Value
from waypost.redaction import Redaction
from waypost.retention import Retention
from waypost.sessions import Sessions
from waypost.store import ContentLost, Counters, DocumentId, Store, Transaction, View
from waypost.streams import Source
from waypost.tenures import Tenures

T = TypeVar("T")


def done_before(tx: Transaction) -> NoReturn:
    """The work of an operation that was found to be done before, and so does not run."""
    raise ContentLost("what was remembered of the operation is gone")


@contextmanager
def _looking_for(operation_id: str | None) -> Generator[None]:
    """What keeps the store from looking for an operation leaves open whether it was carried out before."""
    try:
        yield
    except StoreError as error:
        if operation_id is not None:
            error.details.setdefault("outcome", "unknown")
        raise


class Ending:
    """Tells what works beside a handle that this is closed, before anything is let go of."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], None]] = []
        self._has_ended = False

    def tell(self, call: Callable[[], None]) -> None:
        """Have a function called when the handle is closed, once. Raises StoreClosed where it is."""
        if call not in self._calls:
            self._calls.append(call)
        if self._has_ended:
            self.end()
            raise StoreClosed("the handle is closed")

    def forget(self, call: Callable[[], None]) -> None:
        """Have it called no more."""
        with suppress(ValueError):
            self._calls.remove(call)

    def end(self) -> None:
        """Call them all."""
        self._has_ended = True
        for call in tuple(self._calls):
            call()


class Requests:
    """An open store, and how requests over it are made.

    States that are loaded belong to `home`, the store itself unless it is another's stand-in.
    """

    def __init__(
        self, store: Store, config: Config, verbose: bool, home: Store | None = None, held: Tenures | None = None
    ) -> None:
        self.store = store
        self._home = store if home is None else home
        self.session_id: str | None = None
        """The session in whose name is written what names no other."""
        self.ending = Ending()
        """Of the handle, and so of those in a session's name as well."""
        self._is_bound = False
        """Whether another owns the store."""
        self.config = config
        # what is done within a transaction counts as the transaction, and nobody could ask for a count of its own
        measures = home is None and config.monitoring.enable_metrics
        self.observer = Observer(Instruments() if measures else None, is_verbose=verbose)
        self.catalogue = Catalogue(store)
        self._chunk_size = config.compression.chunk_size
        self._enforce_dependencies = config.steps.enforce_dependencies
        self.retention = Retention(config.retention, store.checkpoint_bytes)
        self.redaction = Redaction(config.security.redact)
        if home is None:
            prepared.introduce(store)
        held = Tenures(self._home) if held is None else held
        self.sessions = Sessions(self._home, self.catalogue, self.retention, held)

    def _read(self, operation: str, read: Callable[[], T]) -> Request[T]:
        return Read(self.store, operation, read, self.observer)

    def _write(
        self,
        operation: str,
        workflow_id: str,
        prepare: Callable[[], Work[Any]],
        finish: Callable[[Any, Viewer], T],
        operation_id: str | None,
        session_id: str | None,
        agent_id: str | None = None,
        *,
        stages: bool = False,
    ) -> Request[OperationResult[T]]:
        return Write(
            self.store,
            self.sessions.held,
            operation,
            workflow_id,
            prepare,
            finish,
            operation_id=operation_id,
            session_id=self._session(session_id),
            agent_id=agent_id,
            observer=self.observer,
            stages=stages,
        )

    def _automatic(self, session_id: str | None) -> Automatic:
        return Automatic(self.config.checkpoints, self.retention, self._session(session_id))

    def _session(self, session_id: str | None) -> str | None:
        """In whose name an operation is done."""
        return self.session_id if session_id is None else session_id

    @staticmethod
    def _operation_id(operation_id: str | None) -> tuple[str, bool]:
        """An operation's id, and whether it may have been seen before. Raises InvalidId."""
        if operation_id is None:
            return clock.new_id("op"), False
        return records.validate_id(operation_id, "operation id"), True

    def _state(self, _: None, viewer: Viewer) -> WorkflowState:
        return loading.load(viewer(), self._home, self.store.keys)

    def _context(self, _: None, viewer: Viewer) -> WorkflowContext:
        return loading.load_context(viewer(), self.store.keys)

    def _view(self, workflow_id: str, counters: Counters | None = None) -> View:
        document = DocumentId("workflow", records.validate_id(workflow_id, "workflow id"))
        return migrations.load(self.store, document, counters)

    def _source(self, output: object, step_id: str) -> Source | None:
        """Where an output is read from that was given as a file. One that is redacted whole is not read."""
        if self.redaction.covers("outputs", step_id):
            return None
        return Source.of(output, f"outputs.{step_id}", self.store.scratch)

    def _staged(
        self, source: Source, workflow_id: str, step_id: str, operation_id: str | None, check: Callable[[View], object]
    ) -> Value | None:
        """Take in what a file holds, unless it is refused; None where the operation was done before."""
        with _looking_for(operation_id):
            view = self._view(workflow_id)
            if operation_id is not None and view.operation(operation_id) is not None:
                return None
        check(view)
        return Value.staged(source, self.store, view.document, step_id, self._chunk_size)

    def _was_done(self, document: DocumentId, operation_id: str | None) -> bool:
        """Whether a document remembers an operation, so that what it needs may be gone by now."""
        with _looking_for(operation_id):
            return operation_id is not None and self.store.view(document).operation(operation_id) is not None

    @property
    def _large_bytes(self) -> int:
        """From which size on a value is taken in ahead of a commit; 0 within a transaction, where none can be."""
        return self._chunk_size if self.store is self._home else 0
