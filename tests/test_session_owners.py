"""Sessions whose owners die, stand still and come back, with real processes."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import waypost
from tests.conftest import opened
from tests.owners import owner
from waypost import clock, ownership, session_records
from waypost.blocking import Waypost
from waypost.errors import SessionBusy, SessionExists, SessionFenced, StepBusy
from waypost.models import StepOwner
from waypost.ownership import Watch
from waypost.store import DocumentId
from waypost.store.claims import Lease, Sight
from waypost.store.directory.layout import encode_id


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state"


def state_of(wp: Waypost, session_id: str) -> tuple[str, str]:
    """A session's status, and what is seen of its owner."""
    seen = wp.get_session(session_id)
    return seen.status, "nobody" if seen.presence is None else seen.presence.state


# --- found dead, and not ---


def test_trap_18_a_killed_owner_is_found_at_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After SIGKILL of the owner the next open reports the session crashed, with its evidence, at once."""
    with owner(path) as process:
        session_id = process.start_session()
        with opened(path) as wp:
            assert state_of(wp, session_id) == ("active", "alive")
            process.kill()
            assert state_of(wp, session_id) == ("crashed", "crashed")
        with caplog.at_level(logging.WARNING, "waypost"), waypost.open(path) as wp:
            told = [record.getMessage() for record in caplog.records]
            assert len(told) == 1
            assert session_id in told[0]
            assert f"process {process.process.pid} " in told[0]
            assert "no such process" in told[0]
            assert [each.session_id for each in wp.list_sessions(waypost.SessionQuery(status=["crashed"]))]


def test_trap_18_a_stopped_owner_is_alive(path: Path) -> None:
    """SIGSTOP is no death, though no sign of life comes for many periods: the kernel keeps the lock."""
    with owner(path, beat_ms=20) as process, opened(path) as wp:
        session_id = process.start_session()
        process.stop()
        time.sleep(0.2)  # ten periods
        assert state_of(wp, session_id) == ("active", "alive")
        assert wp.detect_and_recover_crashed_sessions() == []
        with pytest.raises(SessionBusy, match="holds the session's lock"):
            wp.resume_session(session_id)
        process.wake()
        assert process.ask("wp.update_step_status('w', 'b', 'completed').success") == "True"


def test_s01_a_pid_that_is_used_again_is_no_life(path: Path) -> None:
    """A living process of the owner's pid that started at another time is not the owner."""
    with owner(path) as process, opened(path) as wp:
        session_id = process.start_session()
        process.kill()
        with subprocess.Popen(["sleep", "60"]) as other:
            document = DocumentId("session", session_id)
            record = session_records.expect(wp.definitions.store.view(document))
            assert record.owner is not None
            reused = StepOwner(*record.owner.identity._replace(pid=other.pid))
            seen = ownership.presence(wp.definitions.store, document, reused, Watch())
            assert (seen.state, "started at another time" in seen.evidence) == ("crashed", True)
            genuine = clock.start_ticks(other.pid)
            assert genuine is not None
            there = StepOwner(*reused.identity._replace(start=genuine))
            assert ownership.presence(wp.definitions.store, document, there, Watch()).state == "suspect"
            other.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes a pid namespace")
def test_s02_an_owner_in_another_container_is_known_by_its_lock(path: Path) -> None:
    """Containers that share a directory see by each other's locks whose owner lives, though no pid tells them."""
    with owner(path, before=["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]) as process:
        session_id = process.start_session()
        with opened(path) as wp:
            seen = wp.get_session(session_id)
            assert (seen.owner is not None and seen.owner.namespace) != clock.process_identity().namespace
            assert state_of(wp, session_id) == ("active", "alive")
            process.kill()
            wait_until(lambda: state_of(wp, session_id) == ("crashed", "crashed"))
            (plan,) = wp.detect_and_recover_crashed_sessions()
            assert "another container" in plan.evidence
            assert plan.workflows[0].ambiguous == ["b"]
            wp.resume_session(session_id)
            assert wp.update_step_status("w", "b", "running").unwrap().interruptions == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes a pid namespace")
def test_s02_a_takeover_that_was_killed_does_not_make_a_living_owner_dead(path: Path) -> None:
    """Whoever dies between taking the lock file by hand and taking the session leaves its owner, whom no pid tells of,
    suspect at most.
    """
    with owner(path, before=["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]) as process:
        session_id = process.start_session()
        with owner(path) as taker:
            taker.ask(
                "wp.definitions.store.claim("
                f"__import__('waypost.store').store.DocumentId('session', {session_id!r}), by_force=True)"
            )
            taker.kill()
        with opened(path) as wp:
            assert state_of(wp, session_id) == ("active", "suspect")
            assert wp.detect_and_recover_crashed_sessions() == []
            assert process.ask("wp.update_step_status('w', 'b', 'completed').success") == "True"
            assert wp.resume_session(session_id, take_over=True).status == "active"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes a pid namespace")
def test_s05_steps_of_an_owner_that_cannot_be_seen_go_with_a_takeover_by_hand(path: Path) -> None:
    """Who takes a session from an owner in another container can go on with the steps that he was at: nobody could ever
    show here that he is dead.
    """
    with owner(path, before=["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]) as process:
        session_id = process.start_session()
        with opened(path) as wp:
            assert isinstance(wp.update_step_status("w", "b", "running").error, StepBusy)
            wp.resume_session(session_id, take_over=True)
            process.kill()
            assert wp.update_step_status("w", "b", "running").unwrap().interruptions == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes a pid namespace")
def test_s02_steps_of_a_dead_owner_that_cannot_be_seen_come_back_without_him(path: Path) -> None:
    """A workflow that was lost as its session was recovered has forgotten him once it is back, and is gone on with."""
    with owner(path, before=["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]) as process:
        session_id = process.start_session()
        kept = process.ask("wp.create_checkpoint('w').unwrap().id").strip("'")
        wait_until(lambda: (path / "checkpoints" / f"{encode_id(kept)}.checkpoint").exists())
        process.kill()
        with opened(path) as wp:
            wait_until(lambda: state_of(wp, session_id) == ("crashed", "crashed"))
        (path / "workflows" / "w.state").unlink()
        with opened(path) as wp:
            (plan,) = wp.detect_and_recover_crashed_sessions(accept_loss=True)
            assert plan.workflows[0].ambiguous == ["b"]
            wp.resume_session(session_id)
            assert wp.update_step_status("w", "b", "running").unwrap().interruptions == 1


def wait_until(holds: Any) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_e06_a_copy_of_the_store_does_not_take_the_session_with_it(path: Path, tmp_path: Path) -> None:
    """In a copy of a store that is in use the session is suspect, and neither recovered nor resumed by itself."""
    with owner(path) as process:
        session_id = process.start_session()
        shutil.copytree(path, tmp_path / "copy", ignore=shutil.ignore_patterns("lease"))
        with opened(tmp_path / "copy") as wp:
            assert state_of(wp, session_id) == ("active", "suspect")
            assert wp.detect_and_recover_crashed_sessions() == []
            with pytest.raises(SessionBusy, match="is this a copy"):
                wp.resume_session(session_id)
            assert wp.resume_session(session_id, take_over=True).status == "active"
        assert process.ask("wp.update_step_status('w', 'b', 'completed').success") == "True"


def test_c01_a_fork_leaves_the_session_to_its_parent(path: Path) -> None:
    """The child of an owner holds nothing: it does not end what the parent has, nor keep what the parent left."""
    with owner(path) as process, opened(path) as wp:
        session_id = process.start_session()
        process.tell("(lambda pid: pid if pid else (wp.close(), __import__('os')._exit(0)))(__import__('os').fork())")
        child = int(process.answer())
        process.ask(f"__import__('os').waitpid({child}, 0)")
        assert state_of(wp, session_id) == ("active", "alive")
        process.tell("__import__('os').fork() or (print('child', flush=True), __import__('time').sleep(60))")
        # it has let go of what it was born with; both say something, and their lines may run into each other
        assert "child" in process.answer() + process.answer()
        process.kill()
        try:
            assert state_of(wp, session_id) == ("crashed", "crashed")
        finally:
            subprocess.run(["pkill", "-f", str(path)], check=False)


def test_s02_starting_a_session_that_is_there_leaves_the_evidence(path: Path) -> None:
    """A start that is refused, or repeated, takes nothing away that tells of a dead owner."""
    with owner(path) as process, opened(path) as wp:
        session_id = process.ask("wp.start_session(operation_id='op').session_id").strip("'")
        process.kill()
        left = list((path / "owners").iterdir())
        with pytest.raises(SessionExists):
            wp.start_session(session_id=session_id)
        assert wp.start_session(operation_id="op").session_id == session_id
        assert list((path / "owners").iterdir()) == left != []
        assert state_of(wp, session_id) == ("crashed", "crashed")


# --- taking over ---


def test_s05_a_stopped_owner_that_was_taken_over_from_writes_no_more(path: Path) -> None:
    """By hand a session is taken from a stopped process; woken up it is refused, and nothing of it is half there."""
    with owner(path) as process, opened(path) as wp:
        session_id = process.start_session()
        process.stop()
        process.tell("wp.update_step_status('w', 'b', 'completed', 'late').error.code")
        assert wp.resume_session(session_id, take_over=True).status == "active"
        version = wp.load_workflow_state("w").unwrap().metadata.version
        process.wake()
        assert process.answer() == "'session_fenced'"
        assert process.ask("wp.create_workflow('other', 'W').error.code") == "'session_fenced'"
        assert process.ask("wp.end_session(wp.session_id).error.code") == "'session_busy'"
        state = wp.load_workflow_state("w").unwrap()
        assert (state.metadata.version, state.step("b").status) == (version, "running")
        assert [each.id for each in wp.list_workflows()] == ["w"]


def test_s05_who_restored_a_backup_is_in_no_session_of_before(path: Path, tmp_path: Path) -> None:
    """Numbers are given out again from where the backup stands, and never to two owners: who restored it has let go of
    all sessions, those that it does not hold as well, and writes in the name of none.
    """
    with opened(path) as wp:
        wp.create_workflow("w", "W", steps=["a", "b", "c"]).unwrap()
        session_id = wp.start_session().session_id
        wp.update_step_status("w", "a", "running").unwrap()
        wp.pause_session(session_id).unwrap()
        wp.backup(tmp_path / "backup").unwrap()
        wp.resume_session(session_id)
        wp.update_step_status("w", "a", "completed").unwrap()
        wp.start_session(session_id="later")
        assert not wp.restore_backup(tmp_path / "backup").success
        assert wp.session_id == "later"
        wp.restore_backup(tmp_path / "backup", allow_older=True).unwrap()
        assert wp.session_id is None
        assert list((path / "owners").iterdir()) == []
        with owner(path) as process:
            assert process.ask(f"wp.resume_session({session_id!r}).status") == "'active'"
            assert process.ask("wp.update_step_status('w', 'b', 'running').success") == "True"
            held = wp.definitions.sessions.held
            assert (held.number_of(session_id), held.has_entered(session_id, "w")) == (None, False)
            wp.update_step_status("w", "c", "running").unwrap()
            assert wp.history("w")[0].session_id is None
        wp.start_session(session_id="later")


def test_s07_of_those_who_find_a_dead_session_one_resumes_it(path: Path) -> None:
    """Eight processes that resume the same crashed session at once: one has it, seven are told who."""
    with owner(path) as process:
        session_id = process.start_session()
        process.kill()
    others = [owner(path) for _ in range(8)]
    processes = [each.__enter__() for each in others]
    try:
        for each in processes:
            assert each.ask("1") == "1"
        for each in processes:
            each.tell(f"wp.resume_session({session_id!r}).session_id")
        answers = [each.answer() for each in processes]
        assert sorted(set(answers)) == sorted([repr(session_id), "session_busy"])
        assert answers.count(repr(session_id)) == 1
        winner = processes[answers.index(repr(session_id))]
        assert winner.ask("wp.update_step_status('w', 'b', 'running').unwrap().interruptions") == "1"
    finally:
        for each in others:
            each.__exit__(None, None, None)


def test_trap_21_an_ended_session_stays_ended(path: Path) -> None:
    """A process that had the session before does not bring it back, by writing, pausing, closing or resuming it."""
    with owner(path) as process, opened(path) as wp:
        session_id = process.start_session()
        process.stop()
        wp.resume_session(session_id, take_over=True)
        ended = wp.end_session(session_id).unwrap()
        process.wake()
        for refused in ("update_step_status('w', 'b', 'completed')", f"pause_session({session_id!r})"):
            assert process.ask(f"wp.{refused}.error.code") in ("'session_fenced'", "'session_ended'")
        assert process.ask(f"wp.resume_session({session_id!r}).status") == "'completed'"
        process.ask("wp.close()")
        assert wp.get_session(session_id) == ended
        assert wp.detect_and_recover_crashed_sessions() == []


# --- recovering ---


def test_trap_19_recovery_changes_no_state_that_loads(path: Path) -> None:
    """Steps are sorted into done, never started and ambiguous; what is there stays, and all of it is recorded."""
    with owner(path) as process, opened(path) as wp:
        session_id = process.start_session()
        process.kill()
        before = wp.load_workflow_state("w").unwrap()
        (dry,) = wp.detect_and_recover_crashed_sessions(dry_run=True)
        assert (dry.is_carried_out, wp.get_session(session_id).crash_recovery_data) == (False, None)
        (plan,) = wp.detect_and_recover_crashed_sessions()
        (found,) = plan.workflows
        assert (found.done, found.ambiguous, found.never_started, found.failed) == (["a"], ["b"], ["c", "d"], [])
        assert (plan.strategy, plan.estimated_data_loss, plan.is_carried_out) == ("full_recovery", 0.0, True)
        assert (plan.recoverable_workflows, plan.corrupted_workflows) == (["w"], [])
        assert any("'b'" in warning for warning in plan.warnings)
        after = wp.load_workflow_state("w").unwrap()
        assert (after.workflow, after.outputs, after.context) == (before.workflow, before.outputs, before.context)
        session = wp.get_session(session_id)
        data = session.crash_recovery_data
        assert data is not None
        assert (session.status, session.owner, data.recovery_strategy, data.data_loss) == (
            "crashed", None, "full_recovery", 0.0
        )  # fmt: skip
        assert data.error == plan.evidence
        assert data.ambiguous_steps == {"w": ["b"]}
        assert wp.get_checkpoint(data.last_valid_checkpoint or "").workflow_id == "w"
        assert wp.detect_and_recover_crashed_sessions() == [plan]  # it stays in the list until it is resumed
        assert wp.resume_session(session_id).status == "active"
        assert wp.detect_and_recover_crashed_sessions() == []


def test_s07_two_that_recover_at_once_agree(path: Path) -> None:
    """Several processes recover the same sessions at the same time: all come to the same plans, recorded once."""
    with owner(path) as process:
        session_id = process.start_session()
        process.kill()
    others = [owner(path) for _ in range(4)]
    processes = [each.__enter__() for each in others]
    try:
        for each in processes:
            assert each.ask("1") == "1"
        for each in processes:
            each.tell("wp.detect_and_recover_crashed_sessions()[0].workflows[0].ambiguous")
        assert [each.answer() for each in processes] == ["['b']"] * 4
        with opened(path) as wp:
            history = wp.definitions.store.past(DocumentId("session", session_id)).commits()
            operations = [commit.operation for commit in history]
            assert (operations.count("record_crash"), operations.count("record_recovery")) == (1, 1)
            assert [each.operation for each in wp.history("w")].count("take_over_session") == 1
    finally:
        for each in others:
            each.__exit__(None, None, None)


def _recover(wp: Waypost, session_id: str) -> None:
    """By whoever looks after crashed sessions."""
    (plan,) = wp.detect_and_recover_crashed_sessions()
    assert (plan.strategy, plan.is_carried_out, plan.workflows[0].ambiguous) == ("full_recovery", True, ["b"])


def _resume(wp: Waypost, session_id: str) -> None:
    """By whoever goes on with it."""
    assert wp.resume_session(session_id).status == "active"


@pytest.mark.parametrize("finish", [_recover, _resume])
@pytest.mark.parametrize("cut", range(1, 4))
def test_d14_a_recovery_that_was_cut_short_is_finished(
    path: Path, cut: int, finish: Callable[[Waypost, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut before any of its commits, a recovery is done again by the next, with the same result."""
    with owner(path) as process, opened(path) as wp:
        session_id = process.start_session()
        process.kill()
        store = wp.definitions.store
        submit, calls = type(store).submit, itertools.count(1)

        def failing(self: Any, change: Any, on_done: Any = None) -> Any:
            if next(calls) == cut:
                raise waypost.StoreUnavailable("cut")
            return submit(self, change, on_done)

        with monkeypatch.context() as patch:
            patch.setattr(type(store), "submit", failing)
            with pytest.raises(waypost.StoreUnavailable):
                wp.detect_and_recover_crashed_sessions()
            assert next(calls) == cut + 1
    with opened(path) as wp:
        finish(wp, session_id)
        data = wp.get_session(session_id).crash_recovery_data
        assert data is not None
        assert "no such process" in data.error


def test_trap_19_a_workflow_that_does_not_load_waits_for_consent(path: Path) -> None:
    """What would lose anything is not done by itself; with consent it is, and the loss was counted before."""
    with owner(path) as process:
        session_id = process.start_session("lost")
        process.ask("wp.create_workflow('whole', 'W', steps=['x']).unwrap() and None")
        kept = process.ask("wp.create_checkpoint('lost').unwrap().id").strip("'")
        wait_until(lambda: (path / "checkpoints" / f"{encode_id(kept)}.checkpoint").exists())
        process.ask("wp.update_step_status('lost', 'b', 'completed').unwrap() and None")
        process.kill()
    (path / "workflows" / "lost.state").unlink()
    with opened(path) as wp:
        (plan,) = wp.detect_and_recover_crashed_sessions()
        assert (plan.strategy, plan.is_carried_out) == ("partial_recovery", False)
        assert (plan.recoverable_workflows, plan.corrupted_workflows) == (["whole"], ["lost"])
        assert plan.suggested_checkpoints[0].startswith("lost@")
        lost = next(each for each in plan.workflows if each.workflow_id == "lost")
        assert plan.estimated_data_loss == pytest.approx(100 * lost.data_loss / 2)
        assert 0 < lost.data_loss <= 0.75
        assert wp.load_workflow_state("lost").error is not None
        (done,) = wp.detect_and_recover_crashed_sessions(accept_loss=True)
        assert (done.strategy, done.is_carried_out) == ("full_recovery", True)
        assert wp.load_workflow_state("lost").unwrap().step("a").status == "completed"
        assert kept in [each.id for each in wp.list_checkpoints("lost")]
        assert set(wp.resume_session(session_id).active_workflows) == {"lost", "whole"}


def test_trap_19_a_damaged_workflow_is_told_and_left_alone(path: Path) -> None:
    """A damaged log is named with what to do, and its bytes stay; a session without workflows is a fresh start."""
    with owner(path) as process:
        process.start_session("bad")
        process.ask("wp.load_workflow_state('bad').unwrap() and None")
        process.kill()
    file = path / "workflows" / "bad.state"
    damaged = bytearray(file.read_bytes())
    damaged[200] ^= 1
    file.write_bytes(damaged)
    with owner(path) as process:
        assert process.ask("wp.start_session('x').user_id") == "'x'"
        process.kill()
    with opened(path) as wp:
        plans = {plan.workflows[0].workflow_id if plan.workflows else "": plan for plan in (
            wp.detect_and_recover_crashed_sessions(accept_loss=True)
        )}  # fmt: skip
        assert (plans["bad"].corrupted_workflows, plans["bad"].is_carried_out) == (["bad"], False)
        assert any("waypost store repair" in step for step in plans["bad"].recovery_steps)
        assert plans[""].strategy == "fresh_start"
        assert plans[""].estimated_data_loss == 0
        assert any("no workflows" in warning for warning in plans[""].warnings)
    assert file.read_bytes() == bytes(damaged)


def test_a_leftover_of_a_start_that_was_cut_short_is_swept(path: Path) -> None:
    """The lock of a session that was never made goes when the store is opened next; that of a dead owner stays."""
    with owner(path) as process:
        session_id = process.start_session()
        process.kill()
    (path / "owners" / "never.session").write_bytes(b"")
    with opened(path) as wp:
        assert sorted(each.name for each in (path / "owners").iterdir()) == [
            f"{session_id.replace('_', '_5f')}.session"
        ]
        wp.detect_and_recover_crashed_sessions()
        wp.definitions.store.claim(DocumentId("session", session_id))
    with waypost.open(path):
        assert list((path / "owners").iterdir()) == []


# --- signs of life, and copies ---


def test_s03_beats_come_while_a_session_is_held(path: Path) -> None:
    """A holder leaves a sign of life every `sync_frequency`, and none once it has let go."""
    with opened(path, reliability={"sync_frequency": 20}) as wp:
        session_id = wp.start_session().session_id
        document, store = DocumentId("session", session_id), wp.definitions.store

        def beats() -> int:
            seen = store.holder(document)
            return 0 if seen is None or seen.beat is None else seen.beat.number

        wait_until(lambda: beats() >= 3)
        wp.pause_session(session_id).unwrap()
        assert store.holder(document) is None
        wait_until(lambda: not any(each.name == "waypost-heartbeat" for each in threading.enumerate()))


def test_s06_two_copies_of_one_process_do_not_share_a_session(path: Path) -> None:
    """A machine that was copied while it ran has two processes of one identity that believe to hold one session: once
    one of them takes it, under another number, the other writes no more.
    """
    with opened(path) as original, opened(path) as twin:
        session_id = original.start_session().session_id
        original.create_workflow("w", "W", steps=["a"]).unwrap()
        claim = twin.definitions.store.claim(DocumentId("session", "none"))
        assert claim is not None
        twin.definitions.sessions.held.hold(session_id, 1, claim)
        twin.update_step_status("w", "a", "running", session_id=session_id).unwrap()
        original.resume_session(session_id, take_over=True)
        original.add_step_output("w", "a", 1).unwrap()
        refused = twin.update_step_status("w", "a", "completed", session_id=session_id)
        assert isinstance(refused.error, SessionFenced)


def test_s04_a_reboot_ends_all_sessions_of_its_host(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a boot of this machine began that is over is crashed at once, whoever has its pid now."""
    before = clock.process_identity()._replace(boot="a boot that is over")
    with opened(path) as wp:
        with monkeypatch.context() as patch:
            patch.setattr(clock, "process_identity", lambda: before)
            session_id = wp.start_session().session_id
            wp.create_workflow("w", "W").unwrap()
        (path / "owners").joinpath(f"{session_id.replace('_', '_5f')}.session").unlink()
        assert state_of(wp, session_id) == ("crashed", "crashed")
        assert "boot of this machine that is over" in wp.detect_and_recover_crashed_sessions()[0].evidence


@pytest.mark.parametrize(("age_ms", "verdict"), [(200, "alive"), (30_001, "crashed")])
def test_s04_a_clone_of_this_machine_that_renews_its_lease_is_alive(age_ms: int, verdict: str) -> None:
    """An owner of another boot under this machine's name and id is given up when his lease has run out, not before."""
    sight = Sight(age_ms <= 30_000, None, Lease(age_ms, 30_000, "somebody"))
    store = SimpleNamespace(holder=lambda document: sight)
    clone = StepOwner(*clock.process_identity()._replace(boot="another boot"))
    seen = ownership.presence(store, DocumentId("session", "s"), clone, Watch())  # type: ignore[arg-type]
    assert (seen.state, "another machine" in seen.evidence) == (verdict, verdict == "alive")
