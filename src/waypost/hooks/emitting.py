"""Hook events as requests: read, and carried out on whatever they are about.

An event of a workflow is one commit of it; one of a session is what the operations on sessions do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import UNSET

from waypost import checkpoints, records, session_records
from waypost.definitions import Definitions
from waypost.errors import InvalidInput, SessionBusy, SessionExists, WaypostError
from waypost.hooks import effects
from waypost.hooks.effects import Owner
from waypost.hooks.payloads import HookEvent
from waypost.operations import OperationResult, Request
from waypost.options import HooksConfig
from waypost.queries import StateQuery
from waypost.sessions import FINAL_TAG
from waypost.store import Counters
from waypost.transactions import WorkflowTransaction, transact


def perform(
    definitions: Definitions, event: HookEvent, *, operation_id: str | None, owner: Owner = UNSET
) -> OperationResult[Any]:
    """Carry an event out. `owner` is the process that it speaks for: this one if unset, None where it is not known."""
    return requested(definitions, lambda: event, operation_id=operation_id, owner=owner).run()


def requested(
    definitions: Definitions,
    read: Callable[[], HookEvent],
    *,
    operation_id: str | None = None,
    session_id: str | None = None,
    hooks: HooksConfig | None = None,
    owner: Owner = UNSET,
) -> Request[OperationResult[Any]]:
    """The request that an event is; one that only fails where the event cannot be used."""
    try:
        event = read()
        operation_id = operation_id or event.id
        if event.event in _OF_SESSIONS:
            return _OfSession(definitions, event, operation_id, hooks or definitions.config.hooks, owner)
        named = session_id or event.session_id or definitions.session_id
        return effects.write(definitions, event, operation_id=operation_id, session_id=named, hooks=hooks, owner=owner)
    except WaypostError as error:
        return _Unusable(definitions, operation_id, error)


_OF_SESSIONS = ("session_start", "session_end")


class _Unusable(Request[OperationResult[Any]]):
    """An event that cannot be used, which is told when it is carried out."""

    def __init__(self, definitions: Definitions, operation_id: str | None, error: WaypostError) -> None:
        super().__init__(definitions.store, "emit_hook_event", operation_id, definitions.observer)
        self._error = error

    def run(self) -> OperationResult[Any]:
        return self.failed(self._error)


class _OfSession(Request[OperationResult[Any]]):
    """The beginning or the end of a session."""

    def __init__(
        self, definitions: Definitions, event: HookEvent, operation_id: str | None, hooks: HooksConfig, owner: Owner
    ) -> None:
        super().__init__(definitions.store, event.event, operation_id, definitions.observer)
        if event.session_id is None:
            raise InvalidInput(f"the event {event.event!r} names no session")
        self._definitions = definitions
        self._event = event
        self._session_id = event.session_id
        self._repeatable = operation_id is not None
        self._hooks = hooks
        self._owner = owner

    def run(self) -> OperationResult[Any]:
        try:
            if self._repeatable:
                records.validate_id(self.operation_id, "operation id")
            is_start = self._event.event == "session_start"
            return self._success(*(self._start() if is_start else self._end()))
        except WaypostError as error:
            return self.failed(error)

    def _start(self) -> tuple[Any, Counters, bool]:
        """Make the session where there is none. One that this process is in is held by it from then on."""
        sessions = self._definitions.sessions
        document = session_records.document_of(self._session_id)
        was_there = session_records.find(self.store.view(document)) is not None
        if not was_there:
            user = self._event.fields.get("user_id")
            user_id = None if user is None else records.validate_id(user, "user id")
            try:
                if self._owner is UNSET:
                    sessions.start(self._session_id, user_id, {}, self.operation_id, repeatable=self._repeatable)
                else:
                    sessions.start_for(self._session_id, self._owner, {}, self.operation_id)
            except SessionExists:
                was_there = True  # another process was faster
        return sessions.state(self._session_id), Counters(), was_there

    def _end(self) -> tuple[Any, Counters, bool]:
        """End the session, with a checkpoint of each workflow of it that is live; one that is another's, or no more
        than a label, only gets the checkpoints.
        """
        sessions = self._definitions.sessions
        document = session_records.document_of(self._session_id)
        record = session_records.find(self.store.view(document))
        if record is None:
            return self._keep_workflows()
        if record.status == "completed":
            return sessions.state(self._session_id), Counters(), True
        owner = None if self._owner is UNSET else self._owner
        try:
            receipt = sessions.end(
                self._session_id,
                final_checkpoint=self._hooks.enable_auto_checkpoints,
                operation_id=self.operation_id,
                repeatable=self._repeatable,
                owner=owner,
            )
        except SessionBusy:
            return self._keep_workflows()
        return sessions.state(self._session_id), receipt.counters, receipt.repeated is not None

    def _keep_workflows(self) -> tuple[Any, Counters, bool]:
        """Checkpoints of the live workflows that bear the session's name, all in one commit. Gives their ids."""
        found = self._definitions.list_workflows(StateQuery(session_id=self._session_id, limit=_MOST)).run().items
        live = [each.id for each in found if each.status != "completed"]
        if not live or not self._hooks.enable_auto_checkpoints:
            return [], Counters(), False
        tags = (FINAL_TAG, self._session_id[: checkpoints.LONGEST_TAG])

        def keep(tx: WorkflowTransaction) -> list[str]:
            return [tx.create_checkpoint(each, "the session ended", tags, type="automatic").id for each in live]

        request = transact(self._definitions, keep, operation_id=self.operation_id, session_id=self._session_id)
        done = request.run()
        return done.unwrap(), done.counters if done else Counters(), bool(done) and done.repeated


_MOST = 10_000
