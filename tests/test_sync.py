"""Two stores that are synced: what travels, what is merged, and what becomes of conflicts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.conftest import opened
from tests.store.support import change, directory_store
from tests.store.test_checkpoints import without_history
from tests.synced import WF, nobody, statuses, synced, variables, view
from waypost import (
    InvalidInput,
    Resolution,
    StateConflict,
    ValueErased,
    WorkflowNotFound,
)
from waypost.blocking import Waypost
from waypost.codec import bodies
from waypost.records import ADOPTED, CHECKPOINT
from waypost.store.directory import loading


@pytest.fixture(params=["memory", "directory"])
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Waypost]:
    with waypost.open("memory:") if request.param == "memory" else opened(tmp_path / "other") as wp:
        yield wp


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Waypost]:
    with opened(tmp_path / "here") as wp:
        wp.create_workflow("wf", "Wf", steps=["a", "b", "c"]).unwrap()
        wp.update_context("wf", variables={"x": 0, "y": 0}).unwrap()
        yield wp


@pytest.fixture
def parted(here: Waypost, other: Waypost) -> tuple[Waypost, Waypost]:
    """Two stores with one workflow, in which both have changed x, here before there."""
    synced(here, other)
    here.update_context("wf", variables={"x": "ours", "only here": 1}).unwrap()
    other.update_context("wf", variables={"x": "theirs", "only there": 2}).unwrap()
    return here, other


# --- what travels ---


def test_a_store_and_an_empty_one_become_the_same(here: Waypost, other: Waypost) -> None:
    """A document that is new travels with its history, times, operations and checkpoints, also of lost history."""
    first = here.create_checkpoint("wf", "first").unwrap()
    here.update_step_status("wf", "a", "running", operation_id="mine").unwrap()
    report = synced(other, here)
    assert [(each.action, each.is_new) for each in report.documents] == [("taken", True)]
    assert [(each.version, each.operation, each.at) for each in other.history("wf")] == [
        (each.version, each.operation, each.at) for each in here.history("wf")
    ]
    assert other.restore_from_checkpoint(first.id).unwrap().workflow.steps[0].status == "pending"
    assert other.get_outcome("mine").data.id == "a"


def test_only_what_is_missing_travels(here: Waypost, other: Waypost) -> None:
    """A side that is behind takes the commits that it lacks, and no others; large values too."""
    synced(here, other)
    here.add_step_output("wf", "a", b"x" * 300_000).unwrap()
    here.update_step_status("wf", "a", "running").unwrap()
    report = synced(other, here)
    assert [(each.action, each.is_new, each.commits) for each in report.documents] == [("taken", False, 2)]
    assert other.get_step_output("wf", "a").output == b"x" * 300_000
    other.update_step_status("wf", "a", "completed").unwrap()
    assert [(each.action, each.commits) for each in synced(other, here).documents] == [("sent", 1)]


def test_a_dry_run_tells_and_changes_nothing(parted: tuple[Waypost, Waypost], tmp_path: Path) -> None:
    """What would be done is told, also of a store that is not there, and no store is changed or made."""
    here, other = parted
    before = view(here).commit_id, view(other).commit_id
    report = here.sync(other, on_conflict="last_writer_wins", dry_run=True).unwrap()
    assert [each.action for each in report.documents] == ["merged"]
    assert not report.is_complete
    assert (view(here).commit_id, view(other).commit_id) == before
    told = here.sync(tmp_path / "nowhere", dry_run=True).unwrap()
    assert [(each.action, each.is_new) for each in told.documents] == [("sent", True)]
    assert not (tmp_path / "nowhere").exists()


def test_a_damaged_document_does_not_stop_the_others(here: Waypost, other: Waypost, tmp_path: Path) -> None:
    """What cannot be synced is reported with its error, and all else is synced."""
    here.create_workflow("broken", "Broken", steps=["a"]).unwrap()
    here.close()
    log = tmp_path / "here" / "workflows" / "broken.wplog"
    log = next((tmp_path / "here" / "workflows").glob("broken*"))
    data = bytearray(log.read_bytes())
    data[200] ^= 1
    log.write_bytes(data)
    with opened(tmp_path / "here") as again:
        report = again.sync(other).unwrap()
    assert [(each.id, each.code) for each in report.failures] == [("broken", "document_damaged")]
    assert [each.id for each in report.documents] == ["wf"]
    assert statuses(other) == {"a": "pending", "b": "pending", "c": "pending"}


def lose(large: bytes, path: Path) -> str:
    """Damage a large value in the log of a store that is closed, and have it repaired, which cannot keep that part."""
    log = path / "workflows" / "wf.state"
    data = bytearray(log.read_bytes())
    data[data.index(large[100_000:100_100])] ^= 1
    log.write_bytes(data)
    (repaired,) = waypost.repair(path).repaired
    (lost,) = repaired.lost_parts
    return lost


@pytest.mark.parametrize("turned", [False, True])
def test_e10_a_value_that_a_repair_could_not_keep_comes_back_from_the_other_store(
    here: Waypost, other: Waypost, tmp_path: Path, turned: bool
) -> None:
    """And is not taken for one that was removed: the store that still has it would lose it, too."""
    large = random.Random(1).randbytes(300_000)
    here.add_step_output("wf", "a", large).unwrap()
    synced(here, other)
    here.close()
    lose(large, tmp_path / "here")
    other.update_context("wf", variables={"x": 1}).unwrap()
    with opened(tmp_path / "here") as again:
        synced(*((other, again) if turned else (again, other)))
        for each in (again, other):
            assert each.get_step_output("wf", "a").output == large
            assert variables(each) == {"x": 1, "y": 0}


@pytest.mark.parametrize("answer", ["ours", "theirs"])
def test_e10_no_answer_about_its_step_takes_a_value_away_that_a_repair_could_not_keep(
    here: Waypost, other: Waypost, tmp_path: Path, answer: str
) -> None:
    """The output is the same on both sides, and has its value as the other side has it."""
    large = random.Random(1).randbytes(300_000)
    here.update_step_status("wf", "a", "running").unwrap()
    here.add_step_output("wf", "a", large).unwrap()
    synced(here, other)
    here.close()
    lose(large, tmp_path / "here")
    with opened(tmp_path / "here") as again:
        again.update_step_status("wf", "a", "failed").unwrap()
        other.update_step_status("wf", "a", "completed").unwrap()
        synced(again, other, on_conflict="user_intervention", resolve=lambda _: answer)
        for each in (again, other):
            assert statuses(each)["a"] == {"ours": "failed", "theirs": "completed"}[answer]
            assert each.get_step_output("wf", "a").output == large


def test_e10_what_a_repair_may_have_lost_is_a_conflict(here: Waypost, other: Waypost, tmp_path: Path) -> None:
    """Whether it was removed or lost nobody can tell, so no store loses it unasked; what is removed later is gone."""
    large = random.Random(1).randbytes(300_000)
    here.update_context("wf", variables={"large": large, "larger": large[::-1]}).unwrap()
    synced(here, other)
    here.close()
    assert lose(large, tmp_path / "here") == "variable\x1flarge"
    with opened(tmp_path / "here") as again:
        again.update_context("wf", variables={"y": 1}).unwrap()
        again.definitions.store.submit(change(WF, lambda tx: tx.delete("variable\x1flarger"))).result()
        report = again.sync(other).unwrap()
        assert [(each.path, each.resolution) for each in report.conflicts] == [("context.variables.large", None)]
        assert variables(other) == {"x": 0, "y": 0, "large": large, "larger": large[::-1]}
        again.sync(other, on_conflict="user_intervention", resolve=lambda _: "theirs").unwrap()
        for each in (again, other):
            assert variables(each) == {"x": 0, "y": 1, "large": large}
        assert again.sync(other).unwrap().is_complete


def test_e10_a_checkpoint_that_a_repair_may_have_lost_stays_where_it_is(
    here: Waypost, other: Waypost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And comes back from there; one that was removed since is gone."""
    names = [here.create_checkpoint("wf", text).unwrap().id for text in ("first", "second")]
    here.update_context("wf", variables={"x": 1}).unwrap()
    synced(here, other)
    here.close()
    monkeypatch.setattr(bodies, "ENTRY_BLOCK_BYTES", 1)  # each part is in a block of its own
    with closing(directory_store(tmp_path / "here")) as store:
        store.submit(change(WF, lambda tx: tx.put("variable\x1fy", b"\x05"))).result()
        without_history(store, monkeypatch)
        log, state = loading.load(store._context, WF)
        assert log is not None
        keys = state.base.body.keys
        offset = state.base.offset(keys.index(CHECKPOINT + names[0]))
    file = tmp_path / "here" / "workflows" / "wf.state"
    data = bytearray(file.read_bytes())
    data[offset] ^= 1
    file.write_bytes(data)
    for each in (tmp_path / "here" / "checkpoints").glob("*.checkpoint"):
        each.unlink()
    assert len(waypost.repair(tmp_path / "here").repaired[0].lost_keys) == 1
    with opened(tmp_path / "here") as again:
        assert names[0] not in [each.id for each in again.list_checkpoints("wf")]
        synced(again, other)
        for each in (again, other):
            assert names[0] in [found.id for found in each.list_checkpoints("wf")]
            assert each.validate_checkpoint(names[0]).is_valid
        again.definitions.store.submit(change(WF, lambda tx: tx.delete(ADOPTED + names[0]))).result()
        synced(again, other)
        assert names[0] not in [found.id for found in other.list_checkpoints("wf")]


def test_a_store_is_not_synced_with_itself(here: Waypost, tmp_path: Path) -> None:
    """Nor with what is no store, nor with a store in memory that nobody could have opened."""
    (tmp_path / "link").symlink_to(tmp_path / "here")
    for given in (here, tmp_path / "here", tmp_path / "x" / ".." / "here", tmp_path / "link", "memory:", 7, ""):
        assert isinstance(here.sync(given).error, InvalidInput)  # type: ignore[arg-type]
    with opened(tmp_path / "link") as again:
        assert isinstance(here.sync(again).error, InvalidInput)
        assert isinstance(here.sync(again, dry_run=True).error, InvalidInput)
    assert isinstance(here.sync(tmp_path / "other", on_conflict="guess").error, InvalidInput)  # type: ignore[arg-type]
    assert isinstance(here.sync(tmp_path / "other", resolve=nobody).error, InvalidInput)
    assert not (tmp_path / "other").exists()


# --- merging ---


def test_disjoint_changes_merge_without_a_conflict(here: Waypost, other: Waypost) -> None:
    """What both sides have changed in different places is on both afterwards, in one document that is the same."""
    synced(here, other)
    here.update_step_status("wf", "a", "running").unwrap()
    here.update_context("wf", variables={"x": 1}).unwrap()
    here.add_steps("wf", ["d"]).unwrap()
    other.update_step_status("wf", "b", "running").unwrap()
    other.add_step_output("wf", "b", b"y" * 200_000).unwrap()
    other.update_context("wf", variables={"y": 2}).unwrap()
    other.add_steps("wf", ["e"]).unwrap()
    report = synced(here, other)
    assert [each.action for each in report.documents] == ["merged"]
    for wp in (here, other):
        assert statuses(wp) == {"a": "running", "b": "running", "c": "pending", "d": "pending", "e": "pending"}
        assert variables(wp) == {"x": 1, "y": 2}
        assert wp.get_step_output("wf", "b").output == b"y" * 200_000
        assert wp.validate_workflow_state("wf").is_valid
    assert len(view(here).commit_id) == 32


def test_different_fields_of_a_record_merge(here: Waypost, other: Waypost) -> None:
    """Of one step one side changed the status and the other the name: the step has both."""
    synced(here, other)
    here.update_step_status("wf", "a", "running").unwrap()
    state = other.load_workflow_state("wf").unwrap()
    state.workflow.steps[0].name = "First"
    other.save_workflow_state(state).unwrap()
    synced(here, other)
    step = other.load_workflow_state("wf").unwrap().workflow.steps[0]
    assert (step.status, step.name) == ("running", "First")


def test_checkpoints_of_both_lines_are_kept_by_both(here: Waypost, other: Waypost) -> None:
    """After a merge each side can go back to the checkpoints of the other, and a third store to all of them."""
    synced(here, other)
    here.update_step_status("wf", "a", "running").unwrap()
    ours = here.create_checkpoint("wf", "ours").unwrap()
    other.update_step_status("wf", "b", "running").unwrap()
    theirs = other.create_checkpoint("wf", "theirs").unwrap()
    synced(here, other)
    with waypost.open("memory:") as third:
        synced(other, third)
        for wp in (here, other, third):
            kept = {one.description: one for one in wp.list_checkpoints("wf").items}
            assert (kept["ours"].id, kept["theirs"].id) == (ours.id, theirs.id)
            assert [step.status for step in kept["ours"].state.workflow.steps] == ["running", "pending", "pending"]
            assert [step.status for step in kept["theirs"].state.workflow.steps] == ["pending", "running", "pending"]
            assert wp.validate_checkpoint(theirs.id).is_valid
    assert [step.status for step in here.restore_from_checkpoint(theirs.id).unwrap().workflow.steps] == [
        "pending", "running", "pending"
    ]  # fmt: skip


def test_a_third_store_that_stands_in_the_middle_takes_the_merge(here: Waypost, other: Waypost) -> None:
    """Whoever stands at any commit of one of the lines follows, and needs no merge of its own."""
    synced(here, other)
    with waypost.open("memory:") as third:
        here.update_context("wf", variables={"a": 1}).unwrap()
        synced(here, third)
        here.update_context("wf", variables={"b": 2}).unwrap()
        other.update_context("wf", variables={"c": 3}).unwrap()
        synced(here, other)
        report = synced(other, third)
        assert [(each.action, each.commits) for each in report.documents] == [("sent", 1)]
        assert variables(third) == {"x": 0, "y": 0, "a": 1, "b": 2, "c": 3}


def test_a_sync_that_was_cut_off_goes_on(here: Waypost, other: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only one side got the merge, the other takes it next time: there is no second merge."""
    synced(here, other)
    here.update_context("wf", variables={"a": 1}).unwrap()
    other.update_context("wf", variables={"b": 2}).unwrap()

    def interrupted(*_: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(here.definitions.store, "follow", interrupted)
        with pytest.raises(KeyboardInterrupt):
            here.sync(other)
    merged = view(other).commit_id
    report = synced(here, other)
    assert [(each.action, each.commits) for each in report.documents] == [("taken", 1)]
    assert view(here).commit_id == merged


def test_what_would_not_be_sound_is_a_conflict(here: Waypost, other: Waypost) -> None:
    """Two changes that fit each on its own, and not together, are a conflict of the whole workflow."""
    synced(here, other)
    for wp, step, dependency in ((here, 0, "b"), (other, 1, "a")):
        state = wp.load_workflow_state("wf").unwrap()
        state.workflow.steps[step].dependencies.append(dependency)
        wp.save_workflow_state(state).unwrap()
    report = here.sync(other).unwrap()
    assert [(each.conflict_type, each.part) for each in report.unresolved] == [("data_corruption", "")]
    synced(here, other, on_conflict="last_writer_wins")
    assert [step.dependencies for step in here.load_workflow_state("wf").unwrap().workflow.steps] == [[], ["a"], []]


# --- trap 8: each of the four resolutions does what it says ---


def test_trap_08_merge_leaves_a_conflict_alone_and_tells_both_sides(parted: tuple[Waypost, Waypost]) -> None:
    """A true conflict comes out with both sides, their times and operations, and changes neither store."""
    here, other = parted
    before = view(here).commit_id, view(other).commit_id
    report = here.sync(other).unwrap()
    (conflict,) = report.conflicts
    assert (conflict.conflict_type, conflict.document_id, conflict.path) == (
        *("concurrent_write", "wf", "context.variables.x"),
    )
    assert (conflict.base.value, conflict.ours.value, conflict.theirs.value) == (0, "ours", "theirs")
    assert conflict.ours.time is not None
    assert conflict.theirs.time is not None
    assert conflict.ours.time < conflict.theirs.time
    assert conflict.operation_1 == here.history("wf")[0].operation_id
    assert conflict.operation_2 == other.history("wf")[0].operation_id
    assert (conflict.resolution, conflict.resolved_by, conflict.resolved_at) == (None, None, None)
    assert (view(here).commit_id, view(other).commit_id) == before
    assert not report.is_complete


@pytest.mark.parametrize("turned", [False, True])
def test_trap_08_last_writer_wins_takes_the_later_change(parted: tuple[Waypost, Waypost], turned: bool) -> None:
    """The change that was committed later stands, whichever side syncs; all else is merged."""
    here, other = reversed(parted) if turned else parted
    report = synced(here, other, on_conflict="last_writer_wins")
    assert [(each.resolution, each.resolved_by) for each in report.conflicts] == [("last_writer_wins",) * 2]
    assert report.conflicts[0].resolved_at is not None
    for wp in parted:
        assert variables(wp) == {"x": "theirs", "y": 0, "only here": 1, "only there": 2}


def test_trap_08_rollback_goes_back_to_the_common_version(parted: tuple[Waypost, Waypost]) -> None:
    """On both sides the part is what it was before both changes, and all else is merged."""
    here, other = parted
    report = synced(here, other, on_conflict="rollback")
    assert [each.resolution for each in report.conflicts] == ["rollback"]
    for wp in (here, other):
        assert variables(wp) == {"x": 0, "y": 0, "only here": 1, "only there": 2}


@pytest.mark.parametrize(
    ("answer", "value"), [("ours", "ours"), ("theirs", "theirs"), ("base", 0), (Resolution([1, "own"]), [1, "own"])]
)
def test_trap_08_user_intervention_asks(parted: tuple[Waypost, Waypost], answer: Any, value: Any) -> None:
    """What the application answers stands, be it a side, what was before, or a value of its own."""
    here, other = parted
    asked: list[Any] = []

    def resolve(conflict: Any) -> Any:
        asked.append((conflict.ours.value, conflict.theirs.value))
        return answer

    report = synced(here, other, on_conflict="user_intervention", resolve=resolve)
    assert asked == [("ours", "theirs")]
    assert [(each.resolution, each.resolved_by) for each in report.conflicts] == [("user_intervention", "resolve")]
    for wp in (here, other):
        assert variables(wp) == {"x": value, "y": 0, "only here": 1, "only there": 2}


def test_trap_08_who_does_not_answer_leaves_it(parted: tuple[Waypost, Waypost]) -> None:
    """Without an answer, or without anyone to ask, the conflict stays and can be resolved by another call."""
    here, other = parted
    for resolve in (None, nobody):
        assert len(here.sync(other, on_conflict="user_intervention", resolve=resolve).unwrap().unresolved) == 1
    for wrong in ("x", Resolution(object())):

        def answer(_: StateConflict, wrong: Any = wrong) -> Any:
            return wrong

        (failure,) = here.sync(other, on_conflict="user_intervention", resolve=answer).unwrap().failures
        assert failure.code in ("invalid_input", "invalid_value")
    synced(here, other, on_conflict="rollback")


def test_trap_08_one_conflict_of_two_keeps_the_document_as_it_is(parted: tuple[Waypost, Waypost]) -> None:
    """A document is merged as a whole, or not at all."""
    here, other = parted
    here.update_context("wf", variables={"y": "ours"}).unwrap()
    other.update_context("wf", variables={"y": "theirs"}).unwrap()
    report = here.sync(
        other, on_conflict="user_intervention", resolve=lambda each: "ours" if each.path.endswith("x") else None
    ).unwrap()
    assert [each.resolution for each in report.conflicts] == [None, None]
    assert variables(other)["x"] == "theirs"


def test_trap_08_a_step_with_two_outputs_is_one_answer(here: Waypost, other: Waypost) -> None:
    """Where both sides have done a step, step, output and value come from one of them."""
    synced(here, other)
    for wp, mark in ((here, b"o"), (other, b"t")):
        wp.update_step_status("wf", "a", "running").unwrap()
        wp.update_step_status("wf", "a", "completed", output=mark * 100_000).unwrap()
    assert [each.path for each in here.sync(other).unwrap().unresolved] == ["steps.a"]
    synced(here, other, on_conflict="last_writer_wins")
    for wp in (here, other):
        assert wp.get_step_output("wf", "a").output == b"t" * 100_000
        assert wp.validate_workflow_state("wf").is_valid


@pytest.mark.parametrize("answer", ["last_writer_wins", "ours", "theirs"])
def test_trap_08_a_step_goes_to_one_side_and_all_else_is_united(here: Waypost, other: Waypost, answer: Any) -> None:
    """A step that has one output more on one side than on the other comes from one side with its outputs, and nothing
    that is not of that step is lost with it.
    """
    synced(here, other)
    here.update_step_status("wf", "b", "completed", output="of b").unwrap()
    here.update_context("wf", variables={"x": "ours"}).unwrap()
    for number in (1, 2):
        here.add_step_output("wf", "a", number).unwrap()
    other.update_step_status("wf", "a", "completed", output="theirs").unwrap()
    other.update_context("wf", variables={"y": "theirs"}).unwrap()
    how: Any = {"on_conflict": answer}
    if answer != "last_writer_wins":
        how = {"on_conflict": "user_intervention", "resolve": lambda _: answer}
    assert [each.path for each in synced(here, other, **how).conflicts] == ["steps.a"]
    for wp in (here, other):
        assert statuses(wp) == {"a": "pending" if answer == "ours" else "completed", "b": "completed", "c": "pending"}
        assert wp.get_step_output("wf", "a").output == (2 if answer == "ours" else "theirs")
        assert wp.get_step_output("wf", "b").output == "of b"
        assert variables(wp) == {"x": "ours", "y": "theirs"}
        assert wp.validate_workflow_state("wf").is_valid


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("answer", ["last_writer_wins", "rollback"])
def test_trap_08_a_step_that_was_removed_and_changed_is_one_answer(
    here: Waypost, other: Waypost, answer: Any, last: bool
) -> None:
    """Whether it stays or goes, the order of the steps says so too, and nothing else is lost."""
    synced(here, other)

    def remove() -> None:
        state = here.load_workflow_state("wf").unwrap()
        del state.workflow.steps[1]
        here.save_workflow_state(state).unwrap()

    deeds = [remove, lambda: other.update_step_status("wf", "b", "completed", output=1).unwrap()]
    for deed in deeds[::-1] if last else deeds:
        deed()
    here.update_context("wf", variables={"x": "ours"}).unwrap()
    other.update_context("wf", variables={"y": "theirs"}).unwrap()
    assert [each.path for each in synced(here, other, on_conflict=answer).conflicts] == ["steps.b"]
    for wp in (here, other):
        found = "pending" if answer == "rollback" else None if last else "completed"
        expected = {"a": "pending", "b": found, "c": "pending"}
        assert list(statuses(wp).items()) == [each for each in expected.items() if each[1] is not None]
        assert variables(wp) == {"x": "ours", "y": "theirs"}
        assert wp.validate_workflow_state("wf").is_valid


# --- deletions and erasures ---


def test_a_deletion_travels(here: Waypost, other: Waypost) -> None:
    """A workflow that was deleted on one side is deleted on the other."""
    synced(here, other)
    here.delete_workflow("wf").unwrap()
    synced(other, here)
    with pytest.raises(WorkflowNotFound, match="deleted"):
        other.load_workflow_state("wf").unwrap()


@pytest.mark.parametrize(("how", "is_there"), [("last_writer_wins", True), ("rollback", True)])
def test_trap_08_deleted_here_and_changed_there(here: Waypost, other: Waypost, how: Any, is_there: bool) -> None:
    """A deletion and a change are a conflict of the whole document, and one of its versions stands whole."""
    synced(here, other)
    here.delete_workflow("wf").unwrap()
    other.update_context("wf", variables={"x": 1}).unwrap()
    (conflict,) = here.sync(other).unwrap().unresolved
    assert (conflict.part, conflict.path) == ("", "")
    synced(here, other, on_conflict=how)
    assert variables(here)["x"] == (1 if how == "last_writer_wins" else 0)
    assert here.validate_workflow_state("wf").is_valid is is_there


def test_what_is_erased_is_erased_on_the_other_side(here: Waypost, other: Waypost) -> None:
    """An erasure takes the value out of the history of the other side, also where that has changed meanwhile."""
    secret = "a canary that sings"
    here.update_context("wf", variables={"leak": secret}).unwrap()
    synced(here, other)
    other.update_context("wf", variables={"x": 5}).unwrap()
    here.erase("wf", "context.variables.leak").unwrap()
    synced(here, other)
    for wp in (here, other):
        for version in range(1, view(wp).version):
            old = wp.definitions.store.view_at(WF, version)
            if old is not None and old.size_of("variable\x1fleak") is not None:
                with pytest.raises(ValueErased):
                    old.get("variable\x1fleak")
        assert "leak" not in variables(wp)
        assert variables(wp)["x"] == 5


# --- sessions ---


def test_sessions_travel_and_their_numbers_never_go_down(here: Waypost, other: Waypost) -> None:
    """A session that ended is known on both sides, with the workflows that it has written to."""
    session = here.start_session().session_id
    here.update_context("wf", variables={"x": 1}, session_id=session).unwrap()
    here.pause_session(session).unwrap()
    synced(here, other)
    assert [*other.get_session(session).active_workflows] == ["wf"]
    other.resume_session(session)
    other.update_context("wf", variables={"x": 2}, session_id=session).unwrap()
    other.end_session(session).unwrap()
    synced(here, other)
    assert here.get_session(session).status == "completed"


def test_an_owner_that_is_alive_is_not_shut_out(here: Waypost, other: Waypost) -> None:
    """While somebody is in a session, what another store knows of it and of its workflows waits."""
    session = here.start_session().session_id
    here.update_context("wf", variables={"x": 1}, session_id=session).unwrap()
    synced(here, other)
    other.resume_session(session, take_over=True)
    other.update_context("wf", variables={"y": 2}, session_id=session).unwrap()
    report = here.sync(other).unwrap()
    assert {each.code for each in report.failures} == {"session_busy"}
    here.update_context("wf", variables={"x": 3}, session_id=session).unwrap()
    here.pause_session(session).unwrap()
    other.pause_session(session).unwrap()
    synced(here, other)
    assert variables(here) == {"x": 3, "y": 2}
