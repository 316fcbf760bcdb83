"""What the API promises over every store."""

from __future__ import annotations

import io
import random
import threading
from typing import Any

import pytest

from waypost.blocking import Waypost
from waypost.errors import (
    CheckpointNotFound,
    IllegalTransition,
    SessionBusy,
    ValueErased,
    WorkflowExists,
    WorkflowNotFound,
)
from waypost.models import WorkflowState
from waypost.store import Store
from waypost.store.memory import MemoryStore
from waypost.testing.base import Kit, Open, handle, outlives
from waypost.watching import CommitEvent, Watch

_STEPS = [f"s{number}" for number in range(8)]


def statuses(wp: Waypost, workflow_id: str = "w") -> list[str]:
    """Of each step."""
    return [step.status for step in wp.load_workflow_state(workflow_id).unwrap().workflow.steps]


def complete(wp: Waypost, *steps: str, workflow_id: str = "w") -> None:
    """Complete steps, each with its name as its output."""
    for step in steps:
        wp.update_step_status(workflow_id, step, "completed", {"of": step}).unwrap()


def completed(state: WorkflowState) -> list[str]:
    """Which steps are completed."""
    return [step.id for step in state.workflow.steps if step.status == "completed"]


def next_of(watch: Watch) -> CommitEvent:
    """What is told next, which must come."""
    event = watch.get(60)
    assert event is not None, "a commit was not told"
    return event


def made(wp: Waypost) -> Waypost:
    """With a workflow `w` of eight steps."""
    wp.create_workflow("w", "W", steps=_STEPS).unwrap()
    return wp


class WorkflowTests(Kit):
    """The promises of the operations."""

    def test_a_workflow_is_loaded_as_it_was_made(self, wp: Waypost) -> None:
        """With its steps, variables and outputs; it is listed, and made once."""
        made(wp)
        wp.update_context("w", variables={"rows": 3, "tuple": (1, b"\0")}).unwrap()
        complete(wp, "s0")
        state = wp.load_workflow_state("w").unwrap()
        assert [step.id for step in state.workflow.steps] == _STEPS and completed(state) == ["s0"]
        assert state.context.variables["rows"] == 3 and state.context.variables["tuple"] == (1, b"\0")
        assert wp.get_step_output("w", "s0").output == {"of": "s0"}
        assert [each.id for each in wp.list_workflows()] == ["w"]
        with pytest.raises(WorkflowExists):
            wp.create_workflow("w", "again").unwrap()
        with pytest.raises(WorkflowNotFound):
            wp.load_workflow_state("none").unwrap()
        assert wp.validate_workflow_state("w").is_valid

    def test_what_is_not_allowed_changes_nothing(self, wp: Waypost) -> None:
        """A step that is completed does not run again, and the version stays."""
        complete(made(wp), "s0")
        before = wp.load_workflow_state("w").unwrap().metadata.version
        with pytest.raises(IllegalTransition):
            wp.update_step_status("w", "s0", "running").unwrap()
        assert wp.load_workflow_state("w").unwrap().metadata.version == before

    def test_a_repeated_operation_has_its_first_result(self, wp: Waypost) -> None:
        """A repetition has the first result, whatever has come after it, and its outcome can be asked for."""
        made(wp)
        first = wp.add_step_output("w", "s0", {"n": 1}, operation_id="once")
        wp.add_step_output("w", "s0", {"n": 2}).unwrap()
        again = wp.add_step_output("w", "s0", {"n": 3}, operation_id="once")
        assert first.unwrap().version == again.unwrap().version == 1 and again.repeated  # type: ignore[union-attr]
        assert wp.get_step_output("w", "s0").output == {"n": 2}
        assert wp.get_outcome("once").operation_id == "once"

    def test_trap_07_threads_lose_no_update(self, wp: Waypost) -> None:
        """Of threads that complete steps of one workflow at once none takes back what another did."""
        made(wp)
        threads = [threading.Thread(target=complete, args=(wp, step)) for step in _STEPS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses(wp) == ["completed"] * 8

    def test_a_state_that_others_changed_is_a_conflict_of_that_part_alone(self, wp: Waypost) -> None:
        """Saving an edited state keeps what others did to other parts meanwhile."""
        made(wp)
        state = wp.load_workflow_state("w").unwrap()
        complete(wp, "s0")
        state.context.variables["mine"] = 1
        saved = wp.save_workflow_state(state).unwrap()
        assert saved.context.variables["mine"] == 1 and completed(saved) == ["s0"]

    def test_a_stream_comes_back_as_it_went_in(self, wp: Waypost) -> None:
        """A file is an output, of any size, and is read as a file."""
        made(wp)
        data = random.Random(1).randbytes(3_000_001)  # noqa: S311
        wp.update_step_status("w", "s0", "completed", io.BytesIO(data)).unwrap()
        with wp.open_step_output("w", "s0") as file:
            assert file.read() == data and file.seek(2_999_999) == 2_999_999 and file.read() == data[-2:]

    def test_restoring_goes_back_and_forgets_nothing(self, wp: Waypost) -> None:
        """The state of the checkpoint is the newest version, and what came in between stays in history."""
        complete(made(wp), "s0")
        kept = wp.create_checkpoint("w", "here").unwrap()
        complete(wp, "s1", "s2")
        assert completed(wp.restore_from_checkpoint(kept.id).unwrap()) == ["s0"]
        versions = [entry.version for entry in wp.history("w")]
        assert versions == list(range(versions[0], 0, -1)) and wp.history("w")[0].operation == "restore_from_checkpoint"
        assert wp.validate_checkpoint(kept.id).is_valid
        with pytest.raises(CheckpointNotFound):
            wp.restore_from_checkpoint("w@c999").unwrap()

    def test_a_difference_and_its_author_are_told(self, wp: Waypost) -> None:
        """What two versions differ in, and which commit made a value what it is."""
        complete(made(wp), "s0")
        before = wp.history("w")[0].version
        wp.update_context("w", variables={"x": 1}).unwrap()
        assert [each.path for each in wp.diff(f"w@{before}", "w")] == ["context.variables.x"]
        assert wp.blame("w", "context.variables.x").commit.version == before + 1

    def test_a_transaction_is_done_in_all_workflows_or_in_none(self, wp: Waypost) -> None:
        """What a block over several workflows does is there at once, and nothing of it when the block raises."""
        made(wp)
        wp.create_workflow("v", "V", steps=["s0"]).unwrap()
        with wp.transaction() as tx:
            tx.update_step_status("w", "s0", "completed", 1)
            tx.update_step_status("v", "s0", "completed", 2)
        try:
            with wp.transaction() as tx:
                tx.update_step_status("w", "s1", "completed", 1)
                raise KeyError("of the block")
        except KeyError:
            pass
        assert statuses(wp)[:2] == ["completed", "pending"] and statuses(wp, "v") == ["completed"]

    def test_a_session_is_one_s_alone(self, wp: Waypost) -> None:
        """A session that is entered is entered by nobody else until it is left; its workflows know it."""
        session = wp.start_session("me")
        bound = wp.in_session(session.session_id)
        bound.create_workflow("w", "W", steps=["a"]).unwrap()
        assert wp.get_session(session.session_id).session_id == session.session_id
        other = handle(wp.definitions.store)
        with pytest.raises(SessionBusy):
            other.resume_session(session.session_id)
        wp.end_session(session.session_id).unwrap()
        assert [each.session_id for each in wp.list_sessions()] == [session.session_id]

    def test_a_session_goes_to_another_store(self, wp: Waypost) -> None:
        """With its workflows, their history and their checkpoints: a bundle of any store is taken in by any other."""
        session = wp.start_session("me").session_id
        made(wp.in_session(session))
        complete(wp.in_session(session), "s0", "s1")
        kept = wp.create_checkpoint("w", "here").unwrap()
        told = [(entry.version, entry.operation) for entry in wp.history("w")]
        bundle: Any = wp.export_session(session)
        elsewhere = handle(MemoryStore())
        elsewhere.import_session(bundle).unwrap()
        assert [(entry.version, entry.operation) for entry in elsewhere.history("w")][-len(told) :] == told
        assert elsewhere.validate_checkpoint(kept.id).is_valid and statuses(elsewhere) == statuses(wp)
        for summary in elsewhere.list_workflows():
            elsewhere.load_workflow_state(summary.id).unwrap()

    def test_a_watch_tells_each_commit_once_and_goes_on_from_its_cursor(self, wp: Waypost) -> None:
        """Commits of all workflows are told in their order, none is missed, and any cursor goes on behind its event."""
        with wp.watch() as watch:
            made(wp)
            complete(wp, *_STEPS[:3])
            wp.create_workflow("v", "V").unwrap()
            events = [next_of(watch) for _ in range(5)]
        told = [(event.workflow_id, event.version) for event in events]
        assert sorted(told) == [("v", 1), *(("w", version) for version in range(1, 5))]
        assert [version for name, version in told if name == "w"] == [1, 2, 3, 4]
        for number, event in enumerate(events):
            with wp.watch(cursor=event.cursor) as again:
                rest = [next_of(again) for _ in events[number + 1 :]]
            assert [(each.workflow_id, each.version) for each in rest] == told[number + 1 :]

    def test_a_sync_makes_two_stores_the_same(self, wp: Waypost) -> None:
        """What parted is merged part by part, with one newest commit on both sides; syncing again finds nothing."""
        other = handle(MemoryStore())
        complete(made(wp), "s0")
        wp.create_checkpoint("w", "here").unwrap()
        assert wp.sync(other).unwrap().is_complete
        complete(wp, "s1")
        complete(other, "s2")
        other.create_workflow("theirs", "T").unwrap()
        assert wp.sync(other).unwrap().is_complete
        assert completed(wp.load_workflow_state("w").unwrap()) == ["s0", "s1", "s2"]
        assert statuses(wp) == statuses(other)
        ids = [each.history(name)[0].commit_id for each in (wp, other) for name in ("w", "theirs")]
        assert ids[:2] == ids[2:]
        assert [each.id for each in wp.list_checkpoints("w")] == [each.id for each in other.list_checkpoints("w")]
        again = wp.sync(other).unwrap()
        assert (again.unchanged, list(again.documents)) == (again.looked_at, [])

    def test_a_deleted_workflow_is_gone_and_its_id_is_free(self, wp: Waypost) -> None:
        """It is neither loaded nor listed, and another may have its id."""
        complete(made(wp), "s0")
        wp.delete_workflow("w").unwrap()
        with pytest.raises(WorkflowNotFound):
            wp.load_workflow_state("w").unwrap()
        assert list(wp.list_workflows()) == []
        assert statuses(made(wp)) == ["pending"] * 8

    def test_what_is_erased_is_in_no_version(self, wp: Waypost) -> None:
        """Neither in the state, nor in checkpoints, nor in history."""
        made(wp)
        wp.update_context("w", variables={"secret": "canary"}).unwrap()
        kept = wp.create_checkpoint("w", "here").unwrap()
        wp.erase("w", "context.variables.secret").unwrap()
        state = wp.restore_from_checkpoint(kept.id).unwrap()
        try:
            found = state.context.variables.get("secret")
        except ValueErased:
            found = None
        assert "canary" not in repr(found)

    def test_prune_x_fork_what_retention_takes_is_in_no_fork_s_way(self, store: Store, wp: Waypost) -> None:
        """A fork stands by itself: what cleanup takes from its origin, and deleting that, leave it whole."""
        complete(made(wp), *_STEPS[:4])
        kept = wp.create_checkpoint("w", "here").unwrap()
        complete(wp, _STEPS[4])
        fork = wp.fork_workflow(kept.id, "fork").unwrap()
        assert completed(fork) == _STEPS[:4]
        narrow = handle(store, max_checkpoints=1, min_checkpoints=1)
        complete(narrow, *_STEPS[5:])
        narrow.cleanup().unwrap()
        wp.delete_workflow("w").unwrap()
        narrow.cleanup().unwrap()
        store.sweep()
        assert statuses(wp, "fork") == ["completed"] * 4 + ["pending"] * 4
        assert wp.get_step_output("fork", "s3").output == {"of": "s3"}
        for one in wp.list_checkpoints("fork"):
            assert wp.validate_checkpoint(one.id).is_valid
            assert wp.restore_from_checkpoint(one.id)
        complete(wp, *_STEPS[4:], workflow_id="fork")

    def test_prune_x_fork_at_once_each_has_it_whole_or_not_at_all(self, store: Store, wp: Waypost) -> None:
        """While another prunes, forking and restoring give what the checkpoint was, or say that it is gone."""
        made(wp)
        narrow = handle(store, max_checkpoints=2, min_checkpoints=1)
        ended = threading.Event()

        def prune() -> None:
            try:
                for step in _STEPS:
                    complete(narrow, step)
                    narrow.cleanup().unwrap()
            finally:
                ended.set()

        pruning = threading.Thread(target=prune)
        pruning.start()
        forks = number = 0
        try:
            while not ended.is_set():
                for one in wp.list_checkpoints("w"):
                    number += 1
                    forks += self._fork(wp, one.id, f"fork{number}")
        finally:
            pruning.join()
        assert all(self._fork(wp, one.id, f"{one.id}.fork") for one in wp.list_checkpoints("w"))
        assert number >= forks

    def _fork(self, wp: Waypost, checkpoint_id: str, name: str) -> bool:
        """Whether the checkpoint was still there; then the fork must be what it was."""
        forked = wp.fork_workflow(checkpoint_id, name)
        if not forked:
            assert isinstance(forked.error, CheckpointNotFound)
            return False
        steps = completed(forked.unwrap())
        assert steps == _STEPS[: len(steps)] == completed(wp.load_workflow_state(name).unwrap())
        assert [wp.get_step_output(name, step).output for step in steps] == [{"of": step} for step in steps]
        return True

    @outlives
    def test_a_workflow_is_there_when_it_is_opened_again(self, opening: Open) -> None:
        """With its outputs, checkpoints and history."""
        wp = handle(opening())
        complete(made(wp), "s0", "s1")
        kept = wp.create_checkpoint("w", "here").unwrap()
        told = [(entry.version, entry.operation_id) for entry in wp.history("w")]
        wp.close()
        again = handle(opening())
        assert completed(again.load_workflow_state("w").unwrap()) == ["s0", "s1"]
        assert [(entry.version, entry.operation_id) for entry in again.history("w")] == told
        assert completed(again.restore_from_checkpoint(kept.id).unwrap()) == ["s0", "s1"]
