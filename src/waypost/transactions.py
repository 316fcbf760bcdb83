"""Commits over any number of workflows, of one store or of two: all of it or nothing.

When the work of a transaction is done its stores compare what it read with what is there now; where that changed
meanwhile the work runs again.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from waypost import across, clock, prepared, records
from waypost.attempts import Attempt, Repeated, WorkflowTransaction
from waypost.definitions import Definitions
from waypost.errors import InvalidInput, VersionConflict, WaypostError
from waypost.operations import OperationResult, Request, outcome_of
from waypost.store import Counters, JointChange, place_of
from waypost.syncing import Handle

T = TypeVar("T")

TRIES = 16
"""How often work runs before a conflict is reported."""


class _Transact(Request[OperationResult[T]]):
    """Work over several workflows, of each of the stores, run until nobody else was faster."""

    def __init__(
        self,
        definitions: list[Definitions],
        work: Callable[..., T],
        operation_id: str | None,
        session_id: str | None,
    ) -> None:
        super().__init__(definitions[0].store, "transact", operation_id, definitions[0].observer)
        self._definitions = definitions
        self._work = work
        self._repeatable = operation_id is not None
        self._session_id = session_id

    def run(self) -> OperationResult[T]:
        try:
            return self._run([self._change_of(each) for each in self._definitions])
        except Repeated as seen:
            return self._repeated(seen)
        except WaypostError as error:
            return self.failed(error)

    def _change_of(self, definitions: Definitions) -> JointChange:
        session_id = definitions.session_id if self._session_id is None else self._session_id
        return _change("transact", self.operation_id, session_id, repeatable=self._repeatable)

    def _repeated(self, seen: Repeated) -> OperationResult[T]:
        try:
            if len(self._definitions) > 1:
                across.complete(seen, [each.store for each in self._definitions])
            return self._success(outcome_of(seen.store, seen.document, seen.record), Counters(), repeated=True)
        except WaypostError as error:
            # it is committed, and only what became of it could not be read
            return self.failed(error, "unknown")

    def _run(self, changes: list[JointChange]) -> OperationResult[T]:
        for tries in range(1, TRIES + 1):
            attempts = list(map(Attempt, self._definitions, changes))
            try:
                data = self._work(*[each.face for each in attempts])
            except Exception:
                if all(each.was_consistent() for each in attempts):
                    raise
                continue  # it may have failed over what never stood side by side
            receipt = attempts[0].commit(data) if len(attempts) == 1 else across.commit(attempts, data)
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
    work: Callable[..., T],
    *,
    also: Handle | None = None,
    operation_id: str | None = None,
    session_id: str | None = None,
) -> Request[OperationResult[T]]:
    """Do work over any number of workflows: all that it changes is committed, or nothing. Gives what the work returns.

    `work` gets a transaction, whose operations give their data or raise, and may run several times; whatever it raises
    undoes all of it. It must not use the handle itself. With an `operation_id` its result is kept, and must be a value
    that can be. With `also`, an open Waypost of another store, it gets a second transaction, over that: what is changed
    in either is committed in both (docs/two-stores.md).

    Fails with what the work raised, if that is an error of Waypost, and with VersionConflict when others changed the
    same parts again and again; over two stores with TransactionPending when another such transaction is not decided.
    """
    if also is None:
        return _Transact([self], work, operation_id, session_id)
    other = getattr(also, "definitions", None)
    if not isinstance(other, Definitions):
        raise InvalidInput(f"a transaction is also over an open Waypost, not {type(also).__name__}")
    if any(name(other.store) == name(self.store) for name in (prepared.name_of, place_of)):
        raise InvalidInput(f"{self.store.location} is this store itself: one transaction reaches all of it")
    return _Transact([self, other], work, operation_id, session_id)


class _Commit(Request[None]):
    """The commit of a transaction in a block. Raises VersionConflict and what committing raises."""

    def __init__(self, definitions: Definitions, attempt: Attempt) -> None:
        super().__init__(definitions.store, "transaction", attempt.change.operation_id, definitions.observer)
        self._attempt = attempt

    def run(self) -> None:
        try:
            receipt = self._attempt.commit(None)
            if receipt is None:
                raise VersionConflict("another commit changed what the transaction read: do it again")
        except WaypostError as error:
            self._ended(error, None, error)
            raise
        self._ended("done", receipt.counters)


class TransactionBlock:
    """A transaction for `with`: committed at its end, undone when the block raises. The block cannot run again, so
    VersionConflict is raised when another commit changed what it read.
    """

    def __init__(self, definitions: Definitions, operation_id: str | None, session_id: str | None) -> None:
        name = clock.new_id("op") if operation_id is None else operation_id
        session_id = definitions.session_id if session_id is None else session_id
        change = _change("transaction", name, session_id, repeatable=operation_id is not None)
        self._definitions = definitions
        self._attempt = Attempt(definitions, change)

    def __enter__(self) -> WorkflowTransaction:
        return self._attempt.face

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None:
            _Commit(self._definitions, self._attempt).run()
        return isinstance(error, Repeated)  # then it was committed before, and changes nothing
