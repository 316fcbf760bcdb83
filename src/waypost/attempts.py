"""One run of the work of a transaction: the store as the work sees it, what it works with, and its commit.

Each workflow is seen as it was when it was first asked for, and the work's own changes over that. The operations are
those of a handle, defined once: here they run over a store whose documents are staged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from inspect import BoundArguments, signature
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

from waypost import prepared
from waypost.definitions import Definitions
from waypost.errors import InvalidInput, InvalidValue, VersionConflict, WaypostError
from waypost.keys import Keys
from waypost.operations import Failure, Request, Success
from waypost.store import (
    Change,
    Commit,
    Counters,
    DocumentId,
    Durability,
    JointChange,
    JointPart,
    JointTransaction,
    OperationRecord,
    Receipt,
    Reception,
    Store,
    Ticket,
    View,
)
from waypost.store.claims import Sight
from waypost.store.contract import ADOPTED, CHECKPOINT, PREPARED, OnDone
from waypost.store.kinds import Kind

P = ParamSpec("P")
R = TypeVar("R")


class Repeated(BaseException):
    """A document remembers the operation: the work need not go on. Not an Exception, so that no work catches it."""

    def __init__(self, store: Store, document: DocumentId, record: OperationRecord) -> None:
        super().__init__()
        self.store = store
        self.document = document
        self.record = record


class _Done:
    """A change that was staged; fulfils `contract.Ticket`."""

    def __init__(self, receipt: Receipt) -> None:
        self._receipt = receipt

    def result(self) -> Receipt:
        return self._receipt


class _StagedStore:
    """A store as the work of a transaction sees it: what it changes is staged. Fulfils `contract.Store`.

    What fails is taken back whole, so that work may catch an error and go on.
    """

    def __init__(self, home: Store, change: JointChange) -> None:
        self.home = home
        self.joint: JointTransaction = home.begin()
        self.opened: dict[DocumentId, JointPart] = {}
        self._change = change
        self._taken_in: dict[tuple[DocumentId, str], View] = {}
        self._kept: list[Callable[[], None]] = []

    @property
    def location(self) -> str:
        return self.home.location

    @property
    def durability(self) -> Durability:
        return "none"

    def keys(self) -> Keys:
        return self.home.keys()

    @property
    def takes_in_checkpoints(self) -> bool:
        return bool(self._kept)

    def _document(self, document: DocumentId) -> JointPart:
        found = self.opened.get(document)
        if found is None:
            try:
                found = self.opened[document] = self.joint.document(document)
                seen = found.operation(self._change.operation_id) if self._change.repeatable else None
            except WaypostError as error:
                if self._change.repeatable:  # an earlier call of that id may have been committed
                    error.details.setdefault("outcome", "unknown")
                raise
            if seen is not None:
                raise Repeated(self.home, document, seen)
            if found.size_of(PREPARED) is not None:
                prepared.settle(self.home, document)
                raise VersionConflict("a transaction over two stores was in the way, and is settled: do it again")
        return found

    def submit(self, change: Change, on_done: OnDone | None = None) -> Ticket:
        del on_done  # nobody waits for what is only staged
        part = self._document(change.document)
        savepoint = part.savepoint()
        try:
            data = change.work(part)
        except BaseException:
            part.roll_back(savepoint)
            raise
        return _Done(Receipt(part.version, changed=True, data=data))

    def view(self, document: DocumentId, *, durable: bool = True, counters: Counters | None = None) -> View:
        del durable, counters
        return self._document(document).as_it_is()

    def view_at(self, document: DocumentId, version: int) -> View | None:
        del version  # that of what is staged is not known yet
        return self.view(document)

    def log_bytes(self, document: DocumentId) -> int:
        return self.home.log_bytes(document)

    def checkpoint_bytes(self, names: Iterable[str]) -> dict[str, int]:
        return self.home.checkpoint_bytes(names)

    def reclaim(self, document: DocumentId) -> NoReturn:
        del document
        self.sweep()

    def sweep(self) -> NoReturn:
        raise InvalidInput("space is given back outside of transactions")

    def past(self, document: DocumentId) -> NoReturn:
        raise InvalidInput(f"the history of {document.kind} {document.id!r} is read outside of transactions")

    def follow(
        self, document: DocumentId, head: bytes, commits: Iterable[Commit], checks: Sequence[Callable[[], None]] = ()
    ) -> NoReturn:
        del document, head, commits, checks
        raise InvalidInput("stores are synced outside of transactions")

    def listen(self, document: DocumentId | None = None) -> NoReturn:
        del document
        raise InvalidInput("commits are watched outside of transactions")

    def verify(self) -> NoReturn:
        raise InvalidInput("a store is verified outside of transactions")

    def begin(self) -> NoReturn:
        raise InvalidInput("a transaction cannot hold another")

    def commit(self, joint: JointTransaction, change: JointChange, received: Reception | None = None) -> NoReturn:
        del joint, change, received
        self.begin()

    def receive(self) -> NoReturn:
        raise InvalidInput("sessions are imported outside of transactions")

    def documents(self, kind: Kind) -> Iterator[str]:
        raise InvalidInput(f"a transaction reads {kind}s by their ids: look for them outside of it")

    def stage(self, document: DocumentId, key: str, length: int, pieces: Callable[[int], Iterable[bytes]]) -> NoReturn:
        del document, key, length, pieces
        self.scratch()

    def scratch(self) -> NoReturn:
        raise InvalidInput("within a transaction an output cannot be given as a file: add it before, or give its bytes")

    def glance(self, kind: Kind) -> Iterator[tuple[str, bytes]]:
        return ((identifier, b"") for identifier in self.documents(kind))

    def peek(self, document: DocumentId) -> View:
        return self.view(document)

    def recall(self, name: str) -> bytes | None:
        return self.home.recall(name)

    def keep(self, name: str, data: bytes) -> None:
        self.home.keep(name, data)

    def checkpoint(self, document: DocumentId, name: str) -> View | None:
        view = self.view(document)
        if view.size_of(ADOPTED + name) is not None:
            return self._taken_in.get((document, name)) or self.home.checkpoint(document, name)
        if not view.version and view.size_of(CHECKPOINT + name) is None:
            return self.home.checkpoint(document, name)
        if view.size_of(CHECKPOINT + name) is None:
            return None
        # of one that is made here the version is what is staged by now
        return self.home.checkpoint(document, name) or view

    def checkpoints(self, document: DocumentId) -> list[str]:
        view = self.view(document)
        if not view.version:  # nothing is there but what is staged, and what outlived its workflow
            return sorted({*_names_in(view), *self.home.checkpoints(document)})
        return _names_in(view)

    def take_in(self, version: View, name: str) -> Callable[[], None]:
        check = self.home.take_in(version, name)
        self._taken_in[version.document, name] = version
        self._kept.append(check)  # for as long as the transaction may still be committed
        return check

    def left(self, kind: Kind) -> NoReturn:
        raise InvalidInput(f"a transaction reads {kind}s by their ids: look for what is left of them outside of it")

    def verify_checkpoint(self, document: DocumentId, name: str) -> None:
        self.home.verify_checkpoint(document, name)

    def erase(self, document: DocumentId) -> NoReturn:
        raise InvalidInput(f"{document.kind} {document.id!r} is erased from outside of transactions")

    def keep_generation(self, document: DocumentId, version: int) -> bool:
        del version  # workflows are migrated outside of transactions
        raise InvalidInput(f"{document.kind} {document.id!r} cannot be migrated within a transaction")

    def backup(self, path: str) -> NoReturn:
        raise InvalidInput(f"a transaction cannot be backed up to {path}")

    def restore_backup(self, path: str, *, allow_older: bool = False) -> NoReturn:
        del allow_older
        raise InvalidInput(f"a transaction cannot restore {path}")

    def claim(self, document: DocumentId, *, by_force: bool = False, instead_of: Sight | None = None) -> NoReturn:
        del by_force, instead_of
        raise InvalidInput(f"{document.kind} {document.id!r} is claimed outside of transactions")

    def holder(self, document: DocumentId) -> Sight | None:
        return self.home.holder(document)

    def claimed(self, kind: Kind) -> Iterator[str]:
        return self.home.claimed(kind)

    def close(self) -> None:
        """There is nothing to let go of."""


def _names_in(view: View) -> list[str]:
    return sorted(key.removeprefix(prefix) for prefix in (CHECKPOINT, ADOPTED) for key in view.keys(prefix))


def _within(define: Callable[Concatenate[Definitions, P], Request[R]]) -> Callable[..., Any]:
    """The method that does an operation within a transaction, and gives its data or raises."""
    shape = signature(define)
    of_the_whole = [
        name
        for name in ("operation_id", "session_id")
        if (found := shape.parameters.get(name)) and found.kind is found.KEYWORD_ONLY
    ]

    @wraps(define)
    def operation(self: WorkflowTransaction, /, *args: Any, **kwargs: Any) -> Any:
        for name in of_the_whole:
            if name in kwargs:
                raise TypeError(f"{define.__name__}() takes no {name} here: it is given to the transaction")
        return self.perform(define, shape.bind(None, *args, **kwargs))

    kept = [each for name, each in shape.parameters.items() if name not in of_the_whole]
    given = str(shape.return_annotation).removeprefix("Request[")[:-1]
    operation.__signature__ = shape.replace(  # type: ignore[attr-defined]
        parameters=kept, return_annotation=given.removeprefix("OperationResult[").removesuffix("]")
    )
    return operation


class WorkflowTransaction:
    """What the work of a transaction works with: the operations of a handle, which give their data or raise.

    Nothing that is done here is seen by others before the transaction is committed; the work itself sees it at once.
    """

    def __init__(self, definitions: Definitions, session_id: str | None) -> None:
        self._definitions = definitions
        self._session_id = session_id

    def perform(self, define: Callable[..., Request[Any]], bound: BoundArguments) -> Any:
        """Do an operation; its data."""
        if "session_id" in bound.signature.parameters:
            bound.arguments.setdefault("session_id", self._session_id)
        _, *args = bound.args
        outcome: Any = define(self._definitions, *args, **bound.kwargs).run()
        return outcome.unwrap() if isinstance(outcome, (Success, Failure)) else outcome  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

    create_workflow = _within(Definitions.create_workflow)
    save_workflow_state = _within(Definitions.save_workflow_state)
    load_workflow_state = _within(Definitions.load_workflow_state)
    pause_workflow = _within(Definitions.pause_workflow)
    resume_workflow = _within(Definitions.resume_workflow)
    delete_workflow = _within(Definitions.delete_workflow)
    validate_workflow_state = _within(Definitions.validate_workflow_state)
    update_step_status = _within(Definitions.update_step_status)
    add_steps = _within(Definitions.add_steps)
    reset_step = _within(Definitions.reset_step)
    add_step_output = _within(Definitions.add_step_output)
    get_step_output = _within(Definitions.get_step_output)
    update_agent_state = _within(Definitions.update_agent_state)
    update_context = _within(Definitions.update_context)
    create_checkpoint = _within(Definitions.create_checkpoint)
    get_checkpoint = _within(Definitions.get_checkpoint)
    restore_from_checkpoint = _within(Definitions.restore_from_checkpoint)
    fork_workflow = _within(Definitions.fork_workflow)
    import_checkpoint = _within(Definitions.import_checkpoint)
    get_session = _within(Definitions.get_session)
    update_session = _within(Definitions.update_session)


class Attempt:
    """One run of the work of a transaction, and its commit."""

    def __init__(self, home: Definitions, change: JointChange) -> None:
        self.store = home.store
        self.change = change
        self.limit_bytes = home.config.performance.max_file_size << 20
        self._retention = home.retention
        self._redaction = home.redaction
        self._staged = _StagedStore(home.store, change)
        definitions = Definitions(self._staged, home.config, False, home.store, home.sessions.held)
        self.face = WorkflowTransaction(definitions, change.session)

    @property
    def opened(self) -> Mapping[DocumentId, JointPart]:
        """The documents that the work has touched."""
        return self._staged.opened

    @property
    def takes_in_checkpoints(self) -> bool:
        """Whether it commits checkpoints whose versions come from elsewhere."""
        return self._staged.takes_in_checkpoints

    def was_consistent(self) -> bool:
        """Whether all that was read so far was so at one moment, and still is; what was staged is dropped."""
        for part in self._staged.opened.values():
            part.roll_back(None)
        return self.commit_as(JointChange("", self.change.operation)) is not None

    def commit(self, data: object) -> Receipt | None:
        """Commit; None where the work has to run again."""
        projection = self.projection(data)
        for part in self.opened.values():
            part.project(projection)
        return self.commit_as(self.change)

    def commit_as(self, change: JointChange) -> Receipt | None:
        """Commit what is staged as another change than its own."""
        receipt = self.store.commit(self._staged.joint, change)
        for document in self._staged.opened:
            self._retention.forget(document)
        return receipt

    def projection(self, data: object) -> list[object]:
        """The result of the work as it is remembered, for when the operation is repeated or asked about."""
        try:
            return ["transaction", self._redaction.encode(data, "result")]
        except InvalidValue as error:
            if not self.change.repeatable:
                return ["transaction", None]
            raise InvalidInput(
                f"with an operation_id the result of the work is kept, and must be a value that can be: {error}"
            ) from error
