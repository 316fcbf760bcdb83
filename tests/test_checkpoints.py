"""Checkpoints of workflows: each comes back as what it was made from, and nothing else goes for it."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import waypost
from tests.conftest import ON_REQUEST, Pretend
from tests.conftest import opened as opened_with
from tests.store.support import change
from waypost import checkpoints, clock, records
from waypost.blocking import Waypost
from waypost.errors import (
    CheckpointNotFound,
    InvalidId,
    InvalidInput,
    StepBusy,
    WaypostError,
    WorkflowExists,
    WorkflowNotFound,
)
from waypost.models import StateMetadata, Workflow, WorkflowState, WorkflowStep
from waypost.queries import StateQuery, TimeRange
from waypost.store import DocumentId, View

LARGE = os.urandom(400_000)


def opened(path: Path) -> Waypost:
    return opened_with(path, checkpoints=ON_REQUEST)


@pytest.fixture
def wp(wp_with: Callable[..., Waypost]) -> Waypost:
    """A handle that makes no checkpoint of its own accord."""
    return wp_with(checkpoints=ON_REQUEST)


def view_of(wp: Waypost, workflow_id: str = "w") -> View:
    return wp.definitions.store.view(DocumentId("workflow", workflow_id))


def own_parts(view: View) -> dict[str, bytes | None]:
    """What a version holds, but for what tells of the workflow's past."""
    past = (records.CHECKPOINT, records.ADOPTED, records.RESTORED, records.SESSION)
    return {key: view.get(key) for key in view.keys() if not key.startswith(past)}


@pytest.fixture
def made(wp: Waypost) -> Waypost:
    """A workflow with something of everything in it."""
    wp.create_workflow("w", "W", "s1", ["a", "b", WorkflowStep("c", dependencies=["a"])]).unwrap()
    wp.update_step_status("w", "a", "completed", {"rows": [1]}).unwrap()
    wp.update_context("w", variables={"x": 1, "gone": 2}).unwrap()
    return wp


def test_a_list_of_twice_as_many_checkpoints_takes_twice_as_many_calls() -> None:
    """No checkpoint is looked for among all the others when they are listed."""
    calls: list[int] = []
    with waypost.open("memory:") as wp:
        wp.create_workflow("w", "W", steps=["a"]).unwrap()
        for _ in range(2):
            for number in range(100):
                wp.create_checkpoint("w", str(number)).unwrap()
            called = [0]

            def count(frame: object, event: str, argument: object, called: list[int] = called) -> None:
                called[0] += 1

            before = sys.getprofile()
            sys.setprofile(count)
            try:
                assert wp.list_checkpoints("w", limit=5).total == 100 * (len(calls) + 1) + 1
            finally:
                sys.setprofile(before)
            calls.append(called[0])
    assert calls[1] < 2.2 * calls[0]


def test_trap_13_a_workflow_goes_back_to_what_it_was(made: Waypost) -> None:
    """Parts that changed, came and went since are as they were; the version goes on, and history stays."""
    kept = made.create_checkpoint("w", "Milestone reached", ["milestone"]).unwrap()
    then, version = own_parts(view_of(made)), view_of(made).version
    assert (kept.type, kept.description, kept.tags, kept.parent_id) == (
        "manual",
        "Milestone reached",
        ("milestone",),
        None,
    )
    assert kept.state.step("a").output == {"rows": [1]} and kept.state.metadata.version == version
    made.update_step_status("w", "b", "completed", LARGE).unwrap()
    made.add_steps("w", ["d"]).unwrap()
    made.update_context("w", variables={"x": 2, "new": 3}).unwrap()
    made.add_step_output("w", "a", LARGE[1:]).unwrap()
    state = made.restore_from_checkpoint(kept.id).unwrap()
    assert own_parts(view_of(made)) == then
    assert state.metadata.version == view_of(made).version == version + 5
    assert [step.status for step in state.workflow.steps] == ["completed", "pending", "pending"]
    assert made.validate_workflow_state("w").is_valid
    assert made.get_checkpoint(kept.id) == kept


@pytest.mark.parametrize("reused", [LARGE[::-1], LARGE[:9]], ids=["same size", "other size"])
def test_a_large_output_comes_back_though_another_took_its_place(made: Waypost, reused: bytes) -> None:
    """After going back, the next output has the version of one that was taken back; both checkpoints stay apart."""
    empty = made.create_checkpoint("w").unwrap()
    made.update_step_status("w", "b", "completed", LARGE).unwrap()
    first = made.create_checkpoint("w").unwrap()
    made.restore_from_checkpoint(empty.id).unwrap()
    made.update_step_status("w", "b", "completed", reused).unwrap()
    second = made.create_checkpoint("w").unwrap()
    for checkpoint, output in ((first, LARGE), (second, reused), (first, LARGE)):
        assert made.restore_from_checkpoint(checkpoint.id).unwrap().step("b").output == output
        assert made.validate_workflow_state("w").is_valid
    assert made.restore_from_checkpoint(empty.id).unwrap().step("b").output is None


@pytest.mark.parametrize("when", ["within a transaction", "meanwhile"])
def test_a_large_output_comes_back_though_another_takes_its_place_as_it_does(
    made: Waypost, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same size, where the value was not taken in ahead: what its output says is put before it."""
    empty = made.create_checkpoint("w").unwrap()
    made.update_step_status("w", "b", "completed", LARGE).unwrap()
    first = made.create_checkpoint("w").unwrap()

    def take_its_place() -> None:
        made.restore_from_checkpoint(empty.id).unwrap()
        made.update_step_status("w", "b", "completed", LARGE[::-1]).unwrap()

    if when == "meanwhile":
        prepare = checkpoints.prepare_version

        def prepare_and_wait(*given: Any) -> Any:
            wanted = prepare(*given)
            monkeypatch.undo()
            take_its_place()
            return wanted

        monkeypatch.setattr(checkpoints, "prepare_version", prepare_and_wait)
        made.restore_from_checkpoint(first.id).unwrap()
    else:
        take_its_place()
        made.transact(lambda tx: [tx.restore_from_checkpoint(first.id)][1:]).unwrap()
    assert made.load_workflow_state("w").unwrap().step("b").output == LARGE
    assert made.validate_workflow_state("w").is_valid


def test_going_back_writes_no_large_value_that_is_there(made: Waypost) -> None:
    """Whether the store tells which parts differ or not, those that are as they were are not among what it changed."""
    made.update_context("w", variables={"large": LARGE, "other": LARGE}).unwrap()
    kept = made.create_checkpoint("w").unwrap()
    made.update_context("w", variables={"other": LARGE[::-1]}).unwrap()
    made.restore_from_checkpoint(kept.id).unwrap()
    changed = made.history("w")[0].changed
    assert [path for path in changed if not path.startswith("restored")] == ["context.variables.other"]


def test_a_fork_begins_where_a_checkpoint_stands(made: Waypost) -> None:
    """It is another workflow with the same steps, outputs and context; neither feels what becomes of the other."""
    made.update_step_status("w", "b", "completed", LARGE).unwrap()
    kept = made.create_checkpoint("w").unwrap()
    then = own_parts(view_of(made))
    made.update_context("w", variables={"x": 2}).unwrap()
    state = made.fork_workflow(kept.id, "v").unwrap()
    assert state.workflow.id == "v" and state.step("b").output == LARGE
    assert own_parts(view_of(made, "v")) == then
    own = made.create_checkpoint("v").unwrap()
    assert own.parent_id == kept.id
    assert [one.id for one in made.list_checkpoints("v")] == [own.id]
    made.delete_workflow("w").unwrap()
    assert made.load_workflow_state("v").unwrap().step("b").output == LARGE
    with pytest.raises(WorkflowExists):
        made.fork_workflow(own.id, "v").unwrap()
    with pytest.raises(CheckpointNotFound):
        made.fork_workflow(kept.id, "u").unwrap()
    with pytest.raises(InvalidId):
        made.fork_workflow(own.id, "").unwrap()


def test_nobody_is_at_the_steps_of_a_fork(made: Waypost, as_living_process: Pretend) -> None:
    """A step that another process was at is free in what was made of its workflow, while that process lives."""
    with as_living_process():
        made.update_step_status("w", "b", "running").unwrap()
        kept = made.create_checkpoint("w").unwrap()
    assert made.fork_workflow(kept.id, "v").unwrap().step("b").owner is None
    exported = made.export_checkpoint(kept.id)
    assert made.import_checkpoint(exported, new_workflow_id="u").success
    for workflow_id in ("v", "u"):
        taken = made.update_step_status(workflow_id, "b", "running").unwrap()
        assert (taken.interruptions, taken.retry_count) == (1, 0)
    assert isinstance(made.update_step_status("w", "b", "running").error, StepBusy)


def test_going_back_gives_no_step_to_who_is_not_at_it(made: Waypost, as_living_process: Pretend) -> None:
    """A step that another process was at and has finished since is free, and one that it is at still is its own."""
    with as_living_process():
        made.add_steps("w", ["x", "y"]).unwrap()
        made.update_step_status("w", "x", "running").unwrap()
        made.update_step_status("w", "y", "running").unwrap()
        kept = made.create_checkpoint("w").unwrap()
        made.update_step_status("w", "x", "completed").unwrap()
        made.update_step_status("w", "y", "failed").unwrap()
        made.reset_step("w", "y").unwrap()
        made.update_step_status("w", "y", "running").unwrap()
    assert made.restore_from_checkpoint(kept.id).unwrap().step("x").status == "running"
    assert made.update_step_status("w", "x", "running").unwrap().interruptions == 1
    assert isinstance(made.update_step_status("w", "y", "running").error, StepBusy)


def test_what_comes_back_after_it_was_lost_is_still_his_who_was_at_it(
    made: Waypost, as_living_process: Pretend
) -> None:
    """Nothing tells that he has left it: a step of a living process is not done beside him."""
    with as_living_process():
        made.update_step_status("w", "b", "running").unwrap()
        exported = made.export_checkpoint(made.create_checkpoint("w").unwrap().id)
    made.delete_workflow("w").unwrap()
    made.import_checkpoint(exported).unwrap()
    assert isinstance(made.update_step_status("w", "b", "running").error, StepBusy)


def test_parents_tell_what_the_work_went_back_to(made: Waypost) -> None:
    """A checkpoint stands on the one before it, or on the one that was gone back to since."""
    ids = [made.create_checkpoint("w").unwrap().id for _ in range(3)]
    made.restore_from_checkpoint(ids[0]).unwrap()
    ids += [made.create_checkpoint("w").unwrap().id for _ in range(2)]
    parents = {one.id: one.parent_id for one in made.list_checkpoints("w")}
    assert [parents[one] for one in ids] == [None, ids[0], ids[1], ids[0], ids[3]]


def test_listing_takes_the_whole_query(made: Waypost) -> None:
    """By workflow, session, time, tags and status; sorted, and a page at a time."""
    made.create_workflow("v", "V").unwrap()
    ids = [made.create_checkpoint("w", tags=["even", "all"] if n % 2 == 0 else ["all"]).unwrap().id for n in range(6)]
    other = made.create_checkpoint("v", session_id="s2").unwrap()
    assert [one.id for one in made.list_checkpoints("w")] == ids[::-1]
    assert [one.id for one in made.list_checkpoints("w", 2)] == ids[:-3:-1]
    assert {one.id for one in made.list_checkpoints()} == {*ids, other.id}

    def asked(**fields: Any) -> list[str]:
        return [one.id for one in made.list_checkpoints(query=StateQuery(**fields))]

    assert asked(tags=["even", "all"], sort_order="asc") == ids[::2]
    assert asked(session_id="s2") == [other.id] and asked(workflow_id="v") == [other.id]
    assert asked(status=["idle"], workflow_id="v") == [other.id] and asked(status=["completed"]) == []
    page = made.list_checkpoints("w", query=StateQuery(limit=4, offset=4, sort_order="asc"))
    assert [one.id for one in page] == ids[4:] and (page.total, page.has_more) == (6, False)
    middle = made.get_checkpoint(ids[3]).created_at
    assert asked(time_range=TimeRange(middle, None), workflow_id="w", sort_order="asc") == ids[3:]
    assert asked(time_range=TimeRange(None, middle - timedelta(microseconds=1)), workflow_id="w") == ids[2::-1]
    assert asked(sort_by="size", workflow_id="w", sort_order="asc") == ids
    assert made.list_checkpoints("w", query=StateQuery(workflow_id="v")).total == 0
    with pytest.raises(InvalidInput):
        made.list_checkpoints(query=StateQuery(sort_by="colour"))  # type: ignore[arg-type]


def test_a_list_leaves_out_what_went_while_it_was_made(made: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process prunes between a list's look at the names and its look at each of them."""
    stays, goes = (made.create_checkpoint("w", text).unwrap().id for text in ("stays", "goes"))
    store = made.definitions.store
    names = store.checkpoints(DocumentId("workflow", "w"))
    assert {stays, goes} <= set(names)
    store.submit(change(DocumentId("workflow", "w"), lambda tx: tx.delete(records.CHECKPOINT + goes))).result()
    monkeypatch.setattr(type(store), "checkpoints", lambda *_: names)
    assert [one.id for one in made.list_checkpoints("w")] == [stays]
    with pytest.raises(CheckpointNotFound):
        made.get_checkpoint(goes)


def test_an_id_may_be_cut_short_as_long_as_it_tells_one_from_others(made: Waypost) -> None:
    """What fits several names them; what fits none, and what is no id, is told as such."""
    ids = [made.create_checkpoint("w").unwrap().id for _ in range(2)]
    assert made.get_checkpoint(ids[0][:-1]).id == ids[0]
    with pytest.raises(InvalidInput, match=ids[1]):
        made.get_checkpoint("w@c")
    for wrong in ("w@c0", "x@c0", "nonsense", "@c0", "", "w@", ids[0] + "0"):
        with pytest.raises(WaypostError):
            made.get_checkpoint(wrong)
        assert not made.restore_from_checkpoint(wrong)
        assert not made.fork_workflow(wrong, "fresh")
    with pytest.raises(WorkflowNotFound):
        made.create_checkpoint("nobody").unwrap()
    for tags, text in (("text", ""), ([""], ""), ([1], ""), ([str(n) for n in range(65)], ""), ([], "x" * 5000)):
        with pytest.raises(InvalidInput):
            made.create_checkpoint("w", text, tags).unwrap()  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="type"):
        made.create_checkpoint("w", type="odd").unwrap()
    assert view_of(made, "fresh").version == 0


def test_each_operation_happens_once(made: Waypost) -> None:
    """An operation id that was seen before gives the first result, also when the checkpoint is gone by now."""
    kept = made.create_checkpoint("w", operation_id="make").unwrap()
    made.update_context("w", variables={"x": 2}).unwrap()
    again = made.create_checkpoint("w", operation_id="make")
    assert again.repeated and again.unwrap() == kept
    version = made.restore_from_checkpoint(kept.id, operation_id="back").unwrap().metadata.version
    made.update_context("w", variables={"x": 3}).unwrap()
    repeated = made.restore_from_checkpoint(kept.id, operation_id="back")
    assert repeated.repeated and repeated.unwrap().metadata.version == version
    assert made.fork_workflow(kept.id, "v", operation_id="fork").unwrap().metadata.version == 1
    assert made.fork_workflow(kept.id, "v", operation_id="fork").repeated
    assert dict(made.load_workflow_state("w").unwrap().context.variables)["x"] == 3
    made.delete_workflow("w").unwrap()
    with pytest.raises(CheckpointNotFound):
        made.get_checkpoint(kept.id)
    assert made.restore_from_checkpoint(kept.id, operation_id="back").unwrap().metadata.version == version
    assert made.fork_workflow(kept.id, "v", operation_id="fork").repeated


def test_a_transaction_makes_and_takes_checkpoints(made: Waypost) -> None:
    """What it makes is seen within it at once, and by others when all of it is committed."""
    before = made.create_checkpoint("w").unwrap()

    def work(tx: Any) -> str:
        tx.update_context("w", variables={"x": 7})
        inner = tx.create_checkpoint("w", "inside")
        assert inner.parent_id == before.id and inner.state.context.variables["x"] == 7
        tx.restore_from_checkpoint(before.id)
        tx.fork_workflow(before.id, "v")
        return inner.id

    inner = made.transact(work).unwrap()
    assert made.load_workflow_state("w").unwrap().context.variables["x"] == 1
    assert made.get_checkpoint(inner).description == "inside"
    assert made.load_workflow_state("v").unwrap().context.variables["x"] == 1


def test_suggestions_come_from_real_checks(made: Waypost) -> None:
    """Without a checkpoint there is a warning; with one it is the newest."""
    found = made.get_recovery_suggestions("w")
    assert (found.recovery_strategy, found.recommended_recovery_point) == ("manual_selection", None)
    assert found.warnings == ["the workflow has no checkpoints"]
    ids = [made.create_checkpoint("w").unwrap().id for _ in range(2)]
    found = made.get_recovery_suggestions("w")
    assert found.recommended_recovery_point == made.get_checkpoint(ids[1])
    assert found.recovery_strategy == "latest" and not found.warnings
    assert [one.id for one in found.available_checkpoints] == ids[::-1]
    assert made.validate_checkpoint(ids[0]).is_valid
    with pytest.raises(WorkflowNotFound):
        made.get_recovery_suggestions("nobody")


def three_kept(path: Path) -> list[str]:
    with opened(path) as wp:
        wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
        wp.definitions.store._upkeep.close()  # type: ignore[attr-defined]
        ids: list[str] = []
        for number in range(3):
            wp.add_step_output("w", "a", LARGE[number:]).unwrap()
            wp.update_context("w", variables={"n": number}).unwrap()
            ids.append(wp.create_checkpoint("w", str(number)).unwrap().id)
    return ids


def file_of(path: Path, checkpoint_id: str) -> Path:
    return path / "checkpoints" / f"{checkpoint_id.replace('@', '_40')}.checkpoint"


def test_trap_14_a_damaged_checkpoint_is_never_recommended(tmp_path: Path) -> None:
    """Whatever byte of it is changed, a warning names it, and the newest that is whole is recommended."""
    path = tmp_path / "s"
    ids = three_kept(path)
    file = file_of(path, ids[2])
    whole = file.read_bytes()
    rng = random.Random(1)
    for at in [*rng.sample(range(len(whole)), 25), *range(8), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        file.write_bytes(damaged)
        with opened(path) as wp:
            found = wp.get_recovery_suggestions("w")
            assert found.recommended_recovery_point is not None
            assert (found.recommended_recovery_point.id, found.recovery_strategy) == (ids[1], "stable"), at
            assert any(ids[2] in warning for warning in found.warnings)
            assert not wp.validate_checkpoint(ids[2]).is_valid


def test_a_workflow_comes_back_when_nothing_but_its_checkpoints_is_left(tmp_path: Path) -> None:
    """They are listed and restored by their files, stay after that, and each still is what it was."""
    path = tmp_path / "s"
    ids = three_kept(path)
    (path / "workflows" / "w.state").unlink()
    with opened(path) as wp:
        assert [one.id for one in wp.list_checkpoints("w")] == ids[::-1]
        assert wp.get_recovery_suggestions("w").recovery_strategy == "latest"
        state = wp.restore_from_checkpoint(ids[2]).unwrap()
        assert state.context.variables["n"] == 2 and state.metadata.version == 1
        newest = wp.create_checkpoint("w", "after").unwrap()
        assert newest.parent_id == ids[2]
    with opened(path) as wp:
        assert [one.description for one in wp.list_checkpoints("w")] == ["after", "2", "1", "0"]
        for number in (0, 2, 1):
            state = wp.restore_from_checkpoint(ids[number]).unwrap()
            assert state.context.variables["n"] == number and state.step("a").output == LARGE[number:]
        assert wp.validate_workflow_state("w").is_valid


def test_trap_16_a_save_makes_a_checkpoint_only_when_it_is_asked_to(made: Waypost) -> None:
    """In the commit that saves, of what was saved."""
    state = made.load_workflow_state("w").unwrap()
    state.context.variables["x"] = 8
    state = made.save_workflow_state(state).unwrap()
    assert made.list_checkpoints("w").total == 0
    state.context.variables["x"] = 9
    saved = made.save_workflow_state(state, True, ["saved"], operation_id="save").unwrap()
    (kept,) = made.list_checkpoints("w")
    assert (kept.type, kept.tags, kept.state.context.variables["x"]) == ("automatic", ("saved",), 9)
    assert kept.state.metadata.version == saved.metadata.version == state.metadata.version + 1
    assert made.save_workflow_state(state, True, ["saved"], operation_id="save").repeated
    assert made.list_checkpoints("w").total == 1


def test_a_damaged_checkpoint_keeps_no_other_from_coming_back(tmp_path: Path) -> None:
    """Nothing but checkpoints is left, and one of those is damaged: the others are restored, and stay."""
    path = tmp_path / "s"
    ids = three_kept(path)
    (path / "workflows" / "w.state").unlink()
    file_of(path, ids[2]).write_bytes(b"damaged")
    with opened(path) as wp:
        assert wp.restore_from_checkpoint(ids[1]).unwrap().context.variables["n"] == 1
        assert [one.id for one in wp.list_checkpoints("w")] == [ids[1], ids[0]]
        assert wp.restore_from_checkpoint(ids[0]).unwrap().context.variables["n"] == 0
    assert file_of(path, ids[2]).read_bytes() == b"damaged"


def test_saving_a_state_made_by_hand_leaves_checkpoints_alone(made: Waypost) -> None:
    """It stands for all of the workflow, and not for what the workflow was."""
    kept = made.create_checkpoint("w").unwrap()
    state = WorkflowState(metadata=StateMetadata(version=view_of(made).version), workflow=Workflow("w", "W", ["a"]))
    made.save_workflow_state(state).unwrap()
    assert [one.id for one in made.list_checkpoints("w")] == [kept.id]
    assert len(made.restore_from_checkpoint(kept.id).unwrap().workflow.steps) == 3


def test_ids_go_on_when_the_clock_is_put_back(made: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint sorts behind those that were made before it."""
    first = made.create_checkpoint("w").unwrap()
    earlier = clock.now_us() - 3_600_000_000
    monkeypatch.setattr(clock, "now_us", lambda: earlier)
    second = made.create_checkpoint("w").unwrap()
    assert second.id > first.id and second.parent_id == first.id and second.created_at > first.created_at


actions = st.lists(
    st.one_of(
        st.tuples(st.just("output"), st.sampled_from("ab"), st.integers(0, 3)),
        st.tuples(st.just("variable"), st.sampled_from("xyz"), st.integers(0, 9)),
        st.tuples(st.just("step"), st.just(""), st.just(0)),
        st.tuples(st.just("keep"), st.just(""), st.just(0)),
        st.tuples(st.just("back"), st.just(""), st.integers(0, 9)),
        st.tuples(st.just("fork"), st.just(""), st.integers(0, 9)),
        st.tuples(st.just("reopen"), st.just(""), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(actions=actions)
def test_every_checkpoint_restores_to_the_byte_what_was_kept(tmp_path_factory: Any, actions: list[Any]) -> None:
    """Whatever is done in between: outputs, variables, new steps, going back, forking, opening again."""
    path = tmp_path_factory.mktemp("kept") / "s"
    wp = opened(path)
    wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
    kept: dict[str, Any] = {}
    for number, (kind, name, value) in enumerate(actions):
        ids = sorted(kept)
        if kind == "output":
            wp.add_step_output("w", name, LARGE[value:] if value else b"small").unwrap()
        elif kind == "variable":
            wp.update_context("w", variables={name: value}).unwrap()
        elif kind == "step":
            wp.add_steps("w", [f"s{number}"]).unwrap()
        elif kind == "keep":
            checkpoint = wp.create_checkpoint("w").unwrap()
            kept[checkpoint.id] = own_parts(view_of(wp))
        elif kind == "back" and ids:
            wp.restore_from_checkpoint(ids[value % len(ids)]).unwrap()
            assert own_parts(view_of(wp)) == kept[ids[value % len(ids)]]
        elif kind == "fork" and ids:
            wp.fork_workflow(ids[value % len(ids)], f"f{number}").unwrap()
            assert own_parts(view_of(wp, f"f{number}")) == kept[ids[value % len(ids)]]
        elif kind == "reopen":
            wp.close()
            wp = opened(path)
    wp.close()
    (path / "workflows" / "w.state").unlink()
    with opened(path) as wp:
        assert [one.id for one in wp.list_checkpoints("w", 100)] == sorted(kept, reverse=True)
        for checkpoint_id, parts in kept.items():
            wp.restore_from_checkpoint(checkpoint_id).unwrap()
            assert own_parts(view_of(wp)) == parts


def test_times_and_lazy_states(made: Waypost) -> None:
    """`created_at` is an aware time, and the state is the one that was kept, read when it is asked for."""
    before = datetime.now(UTC)
    kept = made.create_checkpoint("w").unwrap()
    made.update_context("w", variables={"x": 5}).unwrap()
    assert before <= kept.created_at <= datetime.now(UTC) + timedelta(seconds=1)
    assert made.get_checkpoint(kept.id).state.context.variables["x"] == 1
    assert waypost.StateCheckpoint is type(kept)


def test_history_and_diff_know_checkpoints(made: Waypost) -> None:
    """A checkpoint names a version to compare with, by the beginning of its id too; it is no difference itself."""
    kept = made.create_checkpoint("w").unwrap()
    made.update_context("w", variables={"x": 2}).unwrap()
    made.create_checkpoint("w").unwrap()
    found = made.diff(kept.id[:-1], "w")
    assert [(one.kind, one.path, one.before, one.after) for one in found.changes] == [
        ("changed", "context.variables.x", 1, 2)
    ]
    made.restore_from_checkpoint(kept.id).unwrap()
    assert not made.diff(kept.id, "w").changes
    (entry,) = [one for one in made.history("w") if any(kept.id in path for path in one.changed)]
    assert entry.operation == "create_checkpoint" and made.blame("w", entry.changed[0]).value["type"] == "manual"
    assert made.blame("w", "context.variables.x").commit.operation == "restore_from_checkpoint"
