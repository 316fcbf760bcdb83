"""Leaving a session again, under the operation_id of the first time."""

from __future__ import annotations

from typing import Any

import pytest

import waypost
from waypost.blocking import Waypost
from waypost.store import DocumentId, Store


def test_a_pause_that_is_repeated_late_leaves_a_resumed_session_alone(wp: Waypost, store: Store) -> None:
    """A pause that comes again gives its first result, and does not let go of what was resumed since."""
    session_id = wp.start_session().session_id
    paused = wp.pause_session(session_id, operation_id="op").unwrap()
    resumed = wp.resume_session(session_id)
    assert wp.pause_session(session_id, operation_id="op").unwrap() == paused
    assert (wp.session_id, wp.get_session(session_id)) == (session_id, resumed)
    assert store.holder(DocumentId("session", session_id)) is not None
    assert wp.definitions.sessions.held.held() == [session_id]


def test_c10_an_end_that_is_repeated_after_an_error_lets_go(
    wp: Waypost, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the end was committed and could not be told, repeating it lets go of lock and session."""
    session_id = wp.start_session().session_id
    commit = type(store).commit

    def committing(*args: Any) -> None:
        commit(*args)
        raise waypost.StoreUnavailable("not told", outcome="unknown")

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "commit", committing)
        failed = wp.end_session(session_id, operation_id="end")
        assert (failed.success, getattr(failed, "status", None)) == (False, "unknown")
    assert wp.end_session(session_id, operation_id="end").unwrap().status == "completed"
    assert wp.session_id is None
    assert store.holder(DocumentId("session", session_id)) is None
    assert wp.definitions.sessions.held.held() == []
