"""The operations on sessions, as requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from waypost import recovery, session_records, session_states, sessions
from waypost.errors import WaypostError
from waypost.operations import OperationResult, Request, view_at
from waypost.queries import StateQueryResult
from waypost.requests import Requests
from waypost.session_models import SessionQuery, SessionRecoveryPlan, SessionState, SessionStatistics
from waypost.session_states import state_of
from waypost.store import Receipt

T = TypeVar("T")

Commit = Callable[[str, bool], Receipt]
"""Makes the commit of an operation, by its id and whether that may have been seen before."""


class _Result(Request[OperationResult[SessionState]]):
    """A change of a session, reported like any write."""

    def __init__(
        self, requests: Requests, operation: str, session_id: str, operation_id: str | None, commit: Commit
    ) -> None:
        super().__init__(requests.store, operation, operation_id, requests.observer)
        self._looker = requests.sessions.looker._replace(store=requests.store)
        self._session_id = session_id
        self._repeatable = operation_id is not None
        self._commit = commit

    def run(self) -> OperationResult[SessionState]:
        try:
            receipt = self._commit(self.operation_id, self._repeatable)
        except WaypostError as error:
            return self.failed(error)
        try:
            view = view_at(self.store, session_records.document_of(self._session_id), receipt.version)
            return self._success(state_of(self._looker, view), receipt.counters, receipt.repeated is not None)
        except WaypostError as error:
            # it is committed, and only what became of it could not be read
            return self.failed(error, "unknown")


class SessionDefinitions(Requests):
    """Those of the operations that are about sessions; see `definitions`."""

    def start_session(
        self,
        user_id: str | None = None,
        environment: Mapping[str, Any] | None = None,
        preferences: Mapping[str, Any] | None = None,
        *,
        session_id: str | None = None,
        operation_id: str | None = None,
    ) -> Request[SessionState]:
        """Begin a session, which this process holds until it ends it, pauses it, or dies. From here on it is the
        handle's current session, in whose name is written what names no other. Its id is made up unless one is given.

        Raises SessionExists, InvalidId, InvalidValue.
        """

        def start() -> SessionState:
            values = sessions.prepare_values(environment, preferences, self.redaction)
            user = sessions.check_user(user_id)
            operation, repeatable = self._operation_id(operation_id)
            return self._enter(lambda: self.sessions.start(session_id, user, values, operation, repeatable=repeatable))

        return self._read("start_session", start)

    def resume_session(self, session_id: str, *, take_over: bool = False) -> Request[SessionState]:
        """Go on with a session that is paused, or whose owner is dead: this process holds it then, and nobody writes in
        its name any more who was in it before. It is the handle's current session from here on.

        One that has ended is given as it ended, and not entered. `take_over` takes it also from an owner who is alive
        or cannot be seen: whatever he writes in its name from then on fails. It also frees the steps of its workflows
        that somebody is at who cannot be seen from here, and has no other session.

        Raises SessionNotFound, and SessionBusy while its owner is alive, or cannot be shown to be dead.
        """
        resume = partial(self.sessions.resume, session_id, take_over=take_over)
        return self._read("resume_session", lambda: self._enter(resume))

    def _enter(self, enter: Callable[[], str]) -> SessionState:
        """Start or resume a session. Where it cannot be shown then, it is not held: the caller has no session."""
        held = self.sessions.held
        before = held.held()
        session_id = enter()
        try:
            state = self.sessions.state(session_id)
            is_held = session_id in held.held()
        except BaseException:
            if session_id not in before:
                held.forget(session_id)
            raise
        if is_held:
            self.session_id = session_id
        return state

    def pause_session(
        self, session_id: str, *, operation_id: str | None = None
    ) -> Request[OperationResult[SessionState]]:
        """Let go of a session, so that anyone may resume it. Closing a handle does it with those that it holds.

        Fails with SessionNotFound, SessionEnded, and SessionBusy if it is another's.
        """
        commit = partial(self._leave, session_id, partial(self.sessions.pause, session_id))
        return _Result(self, "pause_session", session_id, operation_id, commit)

    def end_session(
        self, session_id: str, create_final_checkpoint: bool = True, *, operation_id: str | None = None
    ) -> Request[OperationResult[SessionState]]:
        """End a session for good. Each of its workflows that is not completed gets a checkpoint, tagged `session_end`
        and with the session's id, unless `create_final_checkpoint` is false.

        Fails with SessionNotFound, with SessionEnded if it has ended already, and with SessionBusy if it is another's.
        """

        def end(operation_id: str, *, repeatable: bool) -> Receipt:
            return self.sessions.end(
                session_id, final_checkpoint=create_final_checkpoint, operation_id=operation_id, repeatable=repeatable
            )

        return _Result(self, "end_session", session_id, operation_id, partial(self._leave, session_id, end))

    def _leave(self, session_id: str, commit: Callable[..., Receipt], operation_id: str, repeatable: bool) -> Receipt:
        if repeatable:
            self._operation_id(operation_id)
        receipt = commit(operation_id, repeatable=repeatable)
        if self.session_id == session_id and session_id not in self.sessions.held.held():
            self.session_id = None
        return receipt

    def update_session(
        self,
        session_id: str,
        *,
        environment: Mapping[str, Any] | None = None,
        preferences: Mapping[str, Any] | None = None,
        operation_id: str | None = None,
    ) -> Request[OperationResult[SessionState]]:
        """Merge into a session's environment and preferences by key; keys that are not named keep their values.

        Fails with SessionNotFound, SessionEnded, InvalidId, InvalidValue, and SessionBusy if it is another's.
        """

        def update(operation_id: str, repeatable: bool) -> Receipt:
            if repeatable:
                self._operation_id(operation_id)
            values = sessions.prepare_values(environment, preferences, self.redaction)
            return self.sessions.update(session_id, values, operation_id, repeatable=repeatable, store=self.store)

        return _Result(self, "update_session", session_id, operation_id, update)

    def get_session(self, session_id: str) -> Request[SessionState]:
        """A session as it is, with the evidence of whether its owner is alive. Raises SessionNotFound."""
        return self._read("get_session", lambda: self.sessions.state(session_id, self.store))

    def list_sessions(self, filter: SessionQuery | None = None) -> Request[StateQueryResult[SessionState]]:
        """The sessions that a filter lets through, one page of them, the last started first; by default all.

        Raises InvalidInput for a filter whose fields are of another kind or out of range.
        """
        wanted = SessionQuery() if filter is None else filter
        return self._read("list_sessions", lambda: session_states.listed(self.sessions.looker, wanted))

    def get_session_statistics(self, session_id: str) -> Request[SessionStatistics]:
        """A session in figures. Raises SessionNotFound."""

        def read() -> SessionStatistics:
            view = self.store.view(session_records.document_of(session_id))
            return session_states.statistics(self.sessions.looker, view)

        return self._read("get_session_statistics", read)

    def detect_and_recover_crashed_sessions(
        self, *, dry_run: bool = False, accept_loss: bool = False, session_id: str | None = None
    ) -> Request[list[SessionRecoveryPlan]]:
        """Find the sessions whose owners are dead, or look at the one that is named, and make a plan for each: what was
        done, what was not, and what may have been. What loses nothing is carried out: the session is recorded as
        crashed, and its owner can write no more.

        With `accept_loss` workflows whose files are gone are brought back from their newest whole checkpoints; one that
        is damaged is left as it is, for `waypost store repair`. With `dry_run` nothing is changed. A session stays in
        the list until it is resumed or ended.

        Raises SessionNotFound, InvalidId for the one that is named.
        """

        def detect() -> list[SessionRecoveryPlan]:
            return recovery.detect_and_recover(
                self.sessions.looker,
                session_id,
                dry_run=dry_run,
                accept_loss=accept_loss,
                large_bytes=self._large_bytes,
            )

        return self._read("detect_and_recover_crashed_sessions", detect)
