"""What the sweeps over sessions have found, each with the smallest input that shows it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Pretend, opened
from waypost import blocking, clock, prepared, recovery, tenures, triage
from waypost.blocking import Waypost
from waypost.errors import SessionEnded, SessionFenced, StorePoisoned, StoreUnavailable
from waypost.models import StepOwner
from waypost.store import Change, DocumentId
from waypost.store.directory import claims

S = DocumentId("session", "s")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def wp(path: Path) -> Iterator[Waypost]:
    """A handle over a store with a session `s`, held by it, that has written to a workflow `w`."""
    made = opened(path)
    made.start_session(session_id="s")
    made.create_workflow("w", "W", steps=["a"]).unwrap()
    yield made
    made.close()


def refuse(*_: Any, **__: Any) -> Any:
    raise StoreUnavailable("refused", errno="EIO")


def owners(path: Path) -> list[str]:
    return os.listdir(path / "owners")


@pytest.mark.parametrize("operation", ["pause_session", "end_session"])
def test_e01_what_was_committed_is_not_told_to_have_failed_for_a_file_that_stays(
    wp: Waypost, path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """A session that was left is left, though its owner's file cannot be removed; who opens the store next does."""
    with monkeypatch.context() as patch:
        patch.setattr(claims.Directory, "remove", refuse)
        getattr(wp, operation)("s").unwrap()
    assert owners(path) == ["s.session"]
    wp.close()
    blocking.open(path).close()
    assert owners(path) == []


def test_e01_an_end_that_cannot_be_read_afterwards_is_not_told_to_have_failed(
    wp: Waypost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can be read any more after the commit that ended a session, it has ended all the same."""
    store = wp.definitions.store
    commit = store.commit

    def and_no_more(*args: Any) -> Any:
        receipt = commit(*args)
        monkeypatch.setattr(store, "view", refuse)
        return receipt

    monkeypatch.setattr(store, "commit", and_no_more)
    wp.end_session("s").unwrap()
    monkeypatch.undo()
    assert wp.get_session("s").status == "completed"


def test_s05_a_resumption_that_was_cut_short_is_repeated_by_the_same_process(
    wp: Waypost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner is this process by then, which holds nothing: it may go on without taking over from itself."""
    wp.pause_session("s").unwrap()
    with monkeypatch.context() as patch:
        patch.setattr(tenures, "put_numbers", refuse)
        with pytest.raises(StoreUnavailable):
            wp.resume_session("s")
    assert wp.definitions.sessions.held.held() == []
    assert wp.resume_session("s").status == "active"
    wp.update_context("w", variables={"n": 1}).unwrap()


def test_s07_what_another_handle_of_this_process_holds_is_not_taken_from_it(wp: Waypost, path: Path) -> None:
    """To have the owner's identity is not enough: the lock tells that somebody has the session."""
    other = opened(path)
    with pytest.raises(Exception, match="holds the session's lock"):
        other.resume_session("s")
    other.close()


@pytest.mark.parametrize("operation", ["start_session", "resume_session"])
def test_e01_a_session_that_cannot_be_shown_is_not_held(
    wp: Waypost, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """Who got an error in place of a session holds none, and what he writes is in no session's name."""
    wp.pause_session("s").unwrap()
    given = {"session_id": "t" if operation == "start_session" else "s"}
    with monkeypatch.context() as patch:
        patch.setattr(wp.definitions.sessions, "state", refuse)
        with pytest.raises(StoreUnavailable):
            getattr(wp, operation)(**given)
    assert wp.definitions.sessions.held.held() == [] and wp.session_id is None
    assert wp.resume_session(given["session_id"]).status == "active"


def test_e01_a_session_that_is_held_stays_held_where_it_cannot_be_shown(
    wp: Waypost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To resume what one holds, and not to get it shown, changes nothing."""
    with monkeypatch.context() as patch:
        patch.setattr(wp.definitions.sessions, "state", refuse)
        with pytest.raises(StoreUnavailable):
            wp.resume_session("s")
    assert wp.definitions.sessions.held.held() == ["s"] and wp.session_id == "s"


def test_d04_a_failed_sync_is_told_and_not_what_letting_go_failed_with(
    wp: Waypost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That nobody knows what is on disk is the error of a start, though its owner's file cannot be removed either."""

    def poisoned(*_: Any, **__: Any) -> Any:
        raise StorePoisoned("a sync failed")

    wp.pause_session("s").unwrap()
    with monkeypatch.context() as patch:
        patch.setattr(wp.definitions.store, "submit", poisoned)
        patch.setattr(claims.Directory, "remove", refuse)
        with pytest.raises(StorePoisoned):
            wp.start_session(session_id="t")
        with pytest.raises(StorePoisoned):
            wp.resume_session("s")


def test_trap_21_a_worker_that_was_about_to_write_cannot_after_the_end(wp: Waypost, path: Path) -> None:
    """Between the announcement of a workflow and the first write to it the session ends: the write is refused."""
    worker = opened(path)
    held = worker.definitions.sessions.held
    assert held.enter(worker.definitions.store, "s", "late") == 1
    wp.end_session("s").unwrap()
    written = worker.create_workflow("late", "Late", "s")
    assert isinstance(written.error, SessionFenced | SessionEnded), written
    worker.close()


def dead_session(path: Path, as_dead_process: Pretend) -> None:
    with as_dead_process():
        wp = opened(path)
        wp.start_session(session_id="s")
        wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
        wp.definitions.store.close()


def test_e01_a_refusal_that_passes_is_not_recorded_as_a_loss(
    path: Path, as_dead_process: Pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workflow that the system refuses to read once is in doubt: nothing is recorded of it, and none is gone back to;
    the next recovery finds that nothing is lost.
    """
    dead_session(path, as_dead_process)
    wp = opened(path)
    with monkeypatch.context() as patch:
        patch.setattr(triage.migrations, "load", refuse)
        (plan,) = wp.detect_and_recover_crashed_sessions(accept_loss=True)
        assert plan.workflows[0].in_doubt and not plan.is_carried_out
    assert wp.get_session("s").crash_recovery_data is None
    (plan,) = wp.detect_and_recover_crashed_sessions()
    assert plan.strategy == "full_recovery" and plan.is_carried_out and not plan.workflows[0].in_doubt
    found = wp.get_session("s").crash_recovery_data
    assert found is not None and found.data_loss == 0 and found.corrupted_files == []
    wp.close()


def test_e01_a_refusal_that_passes_does_not_hide_a_checkpoint(
    path: Path, as_dead_process: Pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it could not be looked for the newest checkpoint, a recovery fails, and records nothing."""
    dead_session(path, as_dead_process)
    wp = opened(path)
    with monkeypatch.context() as patch:
        patch.setattr(triage.checkpoints, "suggestions", refuse)
        with pytest.raises(StoreUnavailable):
            wp.detect_and_recover_crashed_sessions()
    wp.detect_and_recover_crashed_sessions()
    found = wp.get_session("s").crash_recovery_data
    assert found is not None and found.last_valid_checkpoint is not None
    wp.close()


def test_e01_a_session_that_cannot_be_recovered_now_keeps_no_other_from_it(
    path: Path, as_dead_process: Pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a workflow cannot be written to, the recovery of its session fails, and is told; the others are recovered,
    whichever comes first.
    """
    for session_id in ("r", "s", "t"):
        with as_dead_process():
            wp = opened(path)
            wp.start_session(session_id=session_id)
            wp.create_workflow(f"w-{session_id}", "W", steps=["a"]).unwrap()
            wp.definitions.store.close()
    wp = opened(path)
    submit = prepared.submit

    def refuse_one(store: Any, change: Change, *args: Any) -> Any:
        return refuse() if change.document.id == "w-s" else submit(store, change, *args)

    with monkeypatch.context() as patch:
        patch.setattr(prepared, "submit", refuse_one)
        with pytest.raises(StoreUnavailable):
            wp.detect_and_recover_crashed_sessions()
    found = {each.session_id: each.crash_recovery_data is not None for each in wp.list_sessions().items}
    assert found == {"r": True, "s": False, "t": True}
    assert len(wp.detect_and_recover_crashed_sessions()) == 3
    wp.close()


def test_n04_a_spoiled_file_of_one_owner_hides_no_other_session(
    path: Path, as_dead_process: Pretend, caplog: pytest.LogCaptureFixture
) -> None:
    """A session whose owner's file is a directory is suspect, and the others are listed and recovered."""
    caplog.set_level(logging.CRITICAL, "waypost")
    dead_session(path, as_dead_process)
    with as_dead_process():
        wp = opened(path)
        wp.start_session(session_id="t")
        wp.definitions.store.close()
    (path / "owners" / "t.session").mkdir(parents=True)
    with blocking.open(path) as wp:
        assert [each.session_id for each in wp.detect_and_recover_crashed_sessions()] == ["s"]
        seen = wp.get_session("t").presence
        assert seen is not None and seen.state == "suspect" and "t.session" in seen.evidence
        assert {each.session_id for each in wp.list_sessions().items} == {"s", "t"}


def test_d14_the_file_of_an_owner_whose_session_has_an_empty_log_goes(path: Path) -> None:
    """Who died between the making of the log and its first frame leaves nothing that stays."""
    opened(path).close()
    (path / "sessions" / "s.session").write_bytes(b"")
    (path / "owners").mkdir()
    (path / "owners" / "s.session").write_bytes(b"")
    with blocking.open(path) as wp:
        assert owners(path) == []
        assert wp.start_session(session_id="s").status == "active"


def test_c03_a_store_that_cannot_be_opened_is_let_go_of(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where looking at the owners fails, opening fails, and keeps nobody else out."""
    monkeypatch.setattr(recovery, "report", refuse)
    with pytest.raises(StoreUnavailable) as told:
        blocking.open(path)
    assert told.value.__traceback__ is not None and not (path / "lease").exists()


def test_t19_an_interrupt_before_a_session_is_made_leaves_no_claim(
    wp: Waypost, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is made up for a session is so before it is claimed: else it would be said to be there, and never was."""
    for module, name in ((clock, "now_us"), (StepOwner, "this_process")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, interrupt)
            with pytest.raises(KeyboardInterrupt):
                wp.start_session(session_id="t")
        assert owners(path) == ["s.session"]
    assert wp.start_session(session_id="t").status == "active"


def interrupt() -> Any:
    raise KeyboardInterrupt


def test_t19_a_session_that_was_not_given_for_want_of_memory_is_not_held(
    wp: Waypost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is the question for what is held that finds none: whoever was told of a failure may try again."""
    wp.pause_session("s").unwrap()
    held, asked = tenures.Tenures.held, iter([0])

    def starved(self: tenures.Tenures) -> list[str]:
        if next(asked, None) is None:
            raise MemoryError
        return held(self)

    with monkeypatch.context() as patch:
        patch.setattr(tenures.Tenures, "held", starved)
        with pytest.raises(MemoryError):
            wp.resume_session("s")
    assert wp.definitions.sessions.held.held() == []
    assert wp.resume_session("s").status == "active"


class Starved(set[tuple[str, str]]):
    """What is in it cannot be looked through, for want of memory."""

    def __iter__(self) -> Iterator[tuple[str, str]]:
        raise MemoryError


def test_t19_a_session_that_could_not_be_noted_as_held_is_held_by_nobody(path: Path, wp: Waypost) -> None:
    """Neither the handle nor the disk keep it for a caller who was told that he does not have it."""
    wp.pause_session("s").unwrap()
    sessions = wp.definitions.sessions
    announced, sessions.held._announced = sessions.held._announced, Starved()
    with pytest.raises(MemoryError):
        wp.resume_session("s")
    sessions.held._announced = announced
    assert sessions.held.held() == []
    with opened(path) as other:
        assert other.resume_session("s").status == "active"


def test_t19_a_session_that_was_entered_is_given_also_where_there_is_no_memory_to_tell_of_it(
    wp: Waypost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is counted and logged of an operation fails none, as little as a commit."""
    wp.pause_session("s").unwrap()

    def starved(*_: object) -> None:
        raise MemoryError

    assert wp.definitions.observer.instruments is not None
    monkeypatch.setattr(type(wp.definitions.observer.instruments), "note", starved)
    assert wp.resume_session("s").status == "active"
    result = wp.update_step_status("w", "a", "running")
    assert result.unwrap().status == "running" and result.duration_ms == 0


def test_t19_a_session_that_could_not_be_forgotten_is_held_still(wp: Waypost) -> None:
    """Else its claim would be in nobody's hands, and never let go of."""
    held = wp.definitions.sessions.held
    announced, held._announced = held._announced, Starved()
    with pytest.raises(MemoryError):
        held.forget("s")
    held._announced = announced
    assert held.held() == ["s"]
