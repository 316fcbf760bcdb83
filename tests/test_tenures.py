"""What a handle remembers of the sessions that it writes for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import opened
from waypost import Waypost, tenures
from waypost.errors import SessionEnded, SessionFenced

MOST = 16


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenures, "MOST_KNOWN", MOST)


@pytest.mark.usefixtures("few")
def test_sessions_that_have_ended_are_forgotten(wp: Waypost) -> None:
    """A handle that is open for months writes for any number of them, and what it remembers stays small."""
    held = wp.definitions.sessions.held
    for number in range(6 * MOST):
        name = f"s{number}"
        wp.definitions.sessions.start_for(name, None, {}, f"start-{number}")
        wp.create_workflow("w", "W", if_exists="open", session_id=name).unwrap()
        # as another process does it: this one is not told
        end_elsewhere(wp, name)
        assert len(held._numbers) + len(held._announced) <= 2 * MOST
    assert isinstance(wp.update_context("w", variables={"n": 1}, session_id="s0").error, SessionEnded)


def end_elsewhere(wp: Waypost, session_id: str) -> None:
    sessions = type(wp.definitions.sessions)(
        wp.definitions.store,
        wp.definitions.sessions.looker.catalogue,
        wp.definitions.retention,
        tenures.Tenures(wp.definitions.store),
    )
    sessions.end(session_id, final_checkpoint=False, operation_id=f"end-{session_id}", repeatable=True)


@pytest.mark.usefixtures("few")
def test_a_session_that_goes_on_is_not_forgotten(tmp_path: Path) -> None:
    """Else a worker that was shut out would find the new number, and go on unnoticed."""
    with opened(tmp_path / "state") as worker, opened(tmp_path / "state") as owner:
        owner.start_session(session_id="s")
        worker.create_workflow("w", "W", session_id="s").unwrap()
        owner.resume_session("s", take_over=True)
        for number in range(3 * MOST):
            worker.definitions.sessions.start_for(f"t{number}", None, {}, f"start-{number}")
            worker.create_workflow("v", "V", if_exists="open", session_id=f"t{number}").unwrap()
        assert isinstance(worker.update_context("w", variables={"n": 1}, session_id="s").error, SessionFenced)


@pytest.mark.usefixtures("few")
def test_a_session_of_many_workflows_does_not_make_a_handle_grow(wp: Waypost) -> None:
    wp.start_session(session_id="s")
    held = wp.definitions.sessions.held
    for number in range(6 * MOST):
        wp.create_workflow(f"w{number}", "W").unwrap()
        assert len(held._numbers) + len(held._announced) <= 2 * MOST
    wp.update_context("w0", variables={"n": 1}).unwrap()
