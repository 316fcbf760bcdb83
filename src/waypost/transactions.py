"""Commits over any number of workflows: all of it or nothing.

The work of a transaction sees each workflow as it was when it was first asked for, and its own changes over that. Its
operations are those of a handle, defined once: here they run over a store whose documents are staged. When all is
done the store compares what was read with what is there now; where that changed meanwhile the work runs again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from inspect import BoundArguments, signature
from types import TracebackType
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

from waypost import clock, records
from waypost.definitions import Definitions
from waypost.errors import InvalidInput, InvalidValue, VersionConflict, WaypostError
from waypost.keys import Keys
from waypost.operations import Failure, OperationResult, Request, Success, outcome_of
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
from waypost.store.contract import ADOPTED, CHECKPOINT
from waypost.store.kinds import Kind

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

TRIES = 16
"""How often work runs before a conflict is reported."""


class _Repeated(BaseException):
    """A document remembers the operation: the work need not go on. Not an Exception, so that no work catches it."""

    def __init__(self, document: DocumentId, record: OperationRecord) -> None:
        super().__init__()
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
                raise _Repeated(document, seen)
        return found

    def submit(self, change: Change, on_done: Callable[[Ticket], None] | None = None) -> Ticket:
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
        self._store = home.store
        self._retention = home.retention
        self._redaction = home.redaction
        self._change = change
        self._staged = _StagedStore(home.store, change)
        definitions = Definitions(self._staged, home.config, False, home.store, home.sessions.held)
        self.face = WorkflowTransaction(definitions, change.session)

    def was_consistent(self) -> bool:
        """Whether all that was read so far was so at one moment, and still is; what was staged is dropped."""
        for part in self._staged.opened.values():
            part.roll_back(None)
        return self._store.commit(self._staged.joint, JointChange("", self._change.operation)) is not None

    def commit(self, data: object) -> Receipt | None:
        """Commit; None where the work has to run again."""
        projection = ["transaction", self._stored(data)]
        for part in self._staged.opened.values():
            part.project(projection)
        receipt = self._store.commit(self._staged.joint, self._change)
        for document in self._staged.opened:
            self._retention.forget(document)
        return receipt

    def _stored(self, data: object) -> bytes | None:
        """The result of the work as it is remembered, for when the operation is repeated or asked about."""
        try:
            return self._redaction.encode(data, "result")
        except InvalidValue as error:
            if not self._change.repeatable:
                return None
            raise InvalidInput(
                f"with an operation_id the result of the work is kept, and must be a value that can be: {error}"
            ) from error


class _Transact(Request[OperationResult[T]]):
    """Work over several workflows, run until nobody else was faster."""

    def __init__(
        self,
        definitions: Definitions,
        work: Callable[[WorkflowTransaction], T],
        operation_id: str | None,
        session_id: str | None,
    ) -> None:
        super().__init__(definitions.store, "transact", operation_id, definitions.verbose)
        self._definitions = definitions
        self._work = work
        self._repeatable = operation_id is not None
        self._session_id = definitions.session_id if session_id is None else session_id

    def run(self) -> OperationResult[T]:
        try:
            return self._run(_change("transact", self.operation_id, self._session_id, repeatable=self._repeatable))
        except _Repeated as seen:
            return self._repeated(seen)
        except WaypostError as error:
            return self.failed(error)

    def _repeated(self, seen: _Repeated) -> OperationResult[T]:
        try:
            return self._success(outcome_of(self.store, seen.document, seen.record), Counters(), repeated=True)
        except WaypostError as error:
            # it is committed, and only what became of it could not be read
            return self.failed(error, "unknown")

    def _run(self, change: JointChange) -> OperationResult[T]:
        for tries in range(1, TRIES + 1):
            attempt = Attempt(self._definitions, change)
            try:
                data = self._work(attempt.face)
            except Exception:
                if attempt.was_consistent():
                    raise
                continue  # it may have failed over what never stood side by side
            receipt = attempt.commit(data)
            if receipt is not None:
                receipt.counters.attempts = tries
                return self._success(data, receipt.counters)
        raise VersionConflict(f"others were faster {TRIES} times", tries=TRIES)


def _change(operation: str, operation_id: str, session_id: str | None, *, repeatable: bool) -> JointChange:
    if repeatable:
        records.validate_id(operation_id, "operation id")
    if session_id is not None:
        records.validate_id(session_id, "session id")
    return JointChange(operation_id, operation, repeatable, session_id)


def transact(
    self: Definitions,
    work: Callable[[WorkflowTransaction], T],
    *,
    operation_id: str | None = None,
    session_id: str | None = None,
) -> Request[OperationResult[T]]:
    """Do work over any number of workflows: all that it changes is committed, or nothing. Gives what the work returns.

    `work` gets a transaction, whose operations give their data or raise, and may run several times; whatever it raises
    undoes all of it. It must not use the handle itself. With an `operation_id` its result is kept, and must be a value
    that can be.

    Fails with what the work raised, if that is an error of Waypost, and with VersionConflict when others changed the
    same parts again and again.
    """
    return _Transact(self, work, operation_id, session_id)


class TransactionBlock:
    """A transaction for `with`: committed at its end, undone when the block raises. The block cannot run again, so
    VersionConflict is raised when another commit changed what it read.
    """

    def __init__(self, definitions: Definitions, operation_id: str | None, session_id: str | None) -> None:
        name = clock.new_id("op") if operation_id is None else operation_id
        session_id = definitions.session_id if session_id is None else session_id
        change = _change("transaction", name, session_id, repeatable=operation_id is not None)
        self._attempt = Attempt(definitions, change)

    def __enter__(self) -> WorkflowTransaction:
        return self._attempt.face

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None and self._attempt.commit(None) is None:
            raise VersionConflict("another commit changed what the transaction read: do it again")
        return isinstance(error, _Repeated)  # then it was committed before, and changes nothing
