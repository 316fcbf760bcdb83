"""Sessions that go on elsewhere, while somebody who cannot be seen from there was at their steps."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import waypost
from tests.conftest import Pretend, opened
from waypost import Waypost, tenures
from waypost.errors import StepBusy, StoreUnavailable


def at_work(wp: Waypost, as_unseen_process: Pretend, as_living_process: Pretend | None = None) -> None:
    """A session on another machine, and a step that is being done there; and one here, where a process is given."""
    with as_unseen_process():
        wp.start_session(session_id="s")
        wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
        wp.update_step_status("w", "a", "running").unwrap()
    if as_living_process is not None:
        with as_living_process():
            wp.update_step_status("w", "b", "running").unwrap()


def is_free(wp: Waypost, step_id: str) -> bool:
    return wp.update_step_status("w", step_id, "running").success


def test_a_session_that_was_carried_by_a_file_goes_on_with_the_step_it_was_at(
    tmp_path: Path, as_unseen_process: Pretend, as_living_process: Pretend
) -> None:
    """Who was at a step on the other machine is not at it here. Who is alive and seen stays at his."""
    with opened(tmp_path / "there") as there:
        at_work(there, as_unseen_process, as_living_process)
        there.export_session("s", tmp_path / "carried")
        with as_unseen_process():
            there.pause_session("s").unwrap()
    with opened(tmp_path / "here") as here:
        here.import_session(tmp_path / "carried").unwrap()
        assert not is_free(here, "a")  # nobody has said that it goes on here
        assert here.resume_session("s").status == "active"
        assert here.update_step_status("w", "a", "running").unwrap().interruptions == 1
        assert isinstance(here.update_step_status("w", "b", "running").error, StepBusy)
        here.pause_session("s").unwrap()
        with as_unseen_process():
            here.create_workflow("v", "V", steps=["c"], session_id="label").unwrap()
            here.update_step_status("v", "c", "running", session_id="label").unwrap()
        here.resume_session("s")
        here.update_context("v", variables={"n": 1}).unwrap()
        here.pause_session("s").unwrap()
        here.resume_session("s")  # it has arrived by now, and who is at a step here is at it
        assert isinstance(here.update_step_status("v", "c", "running").error, StepBusy)


def test_a_backup_goes_on_elsewhere_by_hand(tmp_path: Path, as_unseen_process: Pretend) -> None:
    """Nothing tells a restored store from one that both machines see, so that somebody has to say it."""
    with opened(tmp_path / "there") as there:
        at_work(there, as_unseen_process)
        with as_unseen_process():
            there.pause_session("s").unwrap()
    shutil.copytree(tmp_path / "there", tmp_path / "here")
    with opened(tmp_path / "here") as here:
        here.resume_session("s")
        assert not is_free(here, "a")
        here.resume_session("s", take_over=True)
        assert is_free(here, "a")


def test_a_takeover_leaves_the_steps_of_who_has_another_session(tmp_path: Path, as_unseen_process: Pretend) -> None:
    """He is at work elsewhere, and nobody has said that he is gone."""
    with opened(tmp_path / "state") as wp:
        at_work(wp, as_unseen_process)
        wp.definitions.session_id = None
        wp.start_session(session_id="mine")
        wp.update_context("w", variables={"n": 1}).unwrap()
        wp.resume_session("mine", take_over=True)
        assert not is_free(wp, "a")
        wp.resume_session("s", take_over=True)
        assert is_free(wp, "a")


def test_a_takeover_that_was_cut_short_is_finished_by_the_next_one(
    tmp_path: Path, as_unseen_process: Pretend, as_dead_process: Pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before it reached the workflows: who had the session before is at none of its steps after the next one."""
    with opened(tmp_path / "state") as wp:
        at_work(wp, as_unseen_process)
        with as_dead_process(), monkeypatch.context() as patch:
            patch.setattr(tenures, "put_numbers", refuse)
            with pytest.raises(StoreUnavailable):
                wp.resume_session("s", take_over=True)
    with opened(tmp_path / "state") as wp:
        wp.resume_session("s")
        assert is_free(wp, "a")


def test_an_imported_checkpoint_brings_nobody_who_cannot_be_seen(
    tmp_path: Path, as_unseen_process: Pretend, as_living_process: Pretend
) -> None:
    """Where it makes its workflow anew, who was at a step of it on another machine is not at it here."""
    with opened(tmp_path / "there") as there:
        at_work(there, as_unseen_process, as_living_process)
        exported = there.export_checkpoint(there.create_checkpoint("w").unwrap().id)
    with opened(tmp_path / "here") as here:
        here.import_checkpoint(exported).unwrap()
        assert here.update_step_status("w", "a", "running").unwrap().interruptions == 1
        assert isinstance(here.update_step_status("w", "b", "running").error, StepBusy)


@pytest.mark.parametrize("place", ["memory", "directory"])
def test_nobody_is_at_the_steps_of_an_imported_workflow_that_was_renamed(
    tmp_path: Path, as_living_process: Pretend, place: str
) -> None:
    """It is another workflow, and whoever is at a step of the one that is here is not at its step."""
    with opened(tmp_path / "there") as there:
        there.start_session(session_id="s")
        there.create_workflow("w", "W", steps=["a"]).unwrap()
        with as_living_process():
            there.update_step_status("w", "a", "running").unwrap()
        there.export_session("s", tmp_path / "carried")
    with waypost.open("memory:" if place == "memory" else tmp_path / "here") as here:
        here.create_workflow("w", "Another", steps=["a"]).unwrap()
        assert here.import_session(tmp_path / "carried", on_clash="rename").unwrap().made == ["w-2"]
        assert here.update_step_status("w-2", "a", "running").unwrap().interruptions == 1


def refuse(*_: object) -> object:
    raise StoreUnavailable("killed")
