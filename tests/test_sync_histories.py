"""Stores that are synced after their histories, or their checkpoints, were cut short."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest

import waypost
from tests.conftest import opened
from tests.synced import WF, synced, variables, view
from waypost import clock, retention
from waypost.blocking import Waypost
from waypost.store.directory import DirectoryStore, compaction, upkeep
from waypost.store.memory import MemoryStore
from waypost.store.postgres import PostgresStore


def test_automatic_checkpoints_of_both_lines_are_bounded_together(tmp_path: Path) -> None:
    """What came with a merge counts among those that may go when there are too many; what was imported does not."""
    limits = {"max_checkpoints": 4, "min_checkpoints": 1}
    with opened(tmp_path / "a", retention=limits) as a, opened(tmp_path / "b", retention=limits) as b:
        a.create_workflow("wf", "Wf", steps=["x"]).unwrap()
        synced(a, b)
        for number in range(3):
            for wp in (a, b):
                for _ in range(3):
                    wp.create_checkpoint("wf", type="automatic").unwrap()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(retention, "_OTHERS_US", 0)
                synced(a, b)
                for wp in (a, b):
                    wp.definitions.retention.forget(WF)
                wp = (a, b)[number % 2]
                wp.create_checkpoint("wf", type="automatic").unwrap()
                assert len([one for one in wp.list_checkpoints("wf").items if one.type == "automatic"]) == 4
                synced(a, b)
        assert {one.id for one in a.list_checkpoints("wf").items} == {one.id for one in b.list_checkpoints("wf").items}


# --- histories that were shortened ---


def shortened(wp: Waypost, path: Path) -> Waypost:
    """The store, opened again with what history there was dropped."""
    wp.close()
    with pytest.MonkeyPatch.context() as patch:
        now = clock.now_us()
        patch.setattr(clock, "now_us", lambda: now + 400 * 24 * 3600 * 1_000_000)
        again = opened(path, history={"max_age_days": 1})
        again.update_context("wf", variables={"late": 1}).unwrap()
        store = again.definitions.store
        assert isinstance(store, DirectoryStore)
        assert upkeep.compact(store._document(WF), store._context)
        again.close()
    again = opened(path)
    assert again.definitions.store.past(WF).first > 1
    return again


def test_a_side_whose_history_was_shortened_is_merged(tmp_path: Path) -> None:
    """Where the commits that lead from one side to the other are gone, one merge of the two newest versions does it;
    checkpoints of lost history come along.
    """
    here, other = opened(tmp_path / "here"), waypost.open("memory:")
    here.create_workflow("wf", "Wf", steps=["a", "b", "c"]).unwrap()
    here.update_context("wf", variables={"x": 0, "y": 0}).unwrap()
    kept = here.create_checkpoint("wf", "kept").unwrap()
    synced(here, other)
    here.update_step_status("wf", "a", "running").unwrap()
    late = here.create_checkpoint("wf", "late").unwrap()
    again = shortened(here, tmp_path / "here")
    try:
        report = synced(other, again)
        assert [each.action for each in report.documents] == ["merged"]
        assert variables(other) == {"x": 0, "y": 0, "late": 1}
        for wp in (again, other):
            assert wp.get_checkpoint(kept.id).state.workflow.steps[0].status == "pending"
            assert wp.get_checkpoint(late.id).state.workflow.steps[0].status == "running"
        with waypost.open("memory:") as third:
            synced(again, third)
            assert third.get_checkpoint(late.id).state.workflow.steps[0].status == "running"
            assert third.get_checkpoint(kept.id).state.workflow.steps[0].status == "pending"
    finally:
        again.close()


def test_where_the_common_version_is_gone_differing_parts_conflict(tmp_path: Path) -> None:
    """Equal parts pass, differing ones are conflicts, and cannot be rolled back."""
    with opened(tmp_path / "a") as first:
        first.create_workflow("wf", "Wf", steps=["a"]).unwrap()
        first.update_context("wf", variables={"x": 0, "same": 1}).unwrap()
        with opened(tmp_path / "b") as second:
            synced(first, second)
            first.update_context("wf", variables={"x": 1}).unwrap()
            second.update_context("wf", variables={"x": 2}).unwrap()
            a, b = shortened(first, tmp_path / "a"), shortened(second, tmp_path / "b")
    for how in ("merge", "rollback"):
        report = a.sync(b, on_conflict=how).unwrap()  # type: ignore[arg-type]
        assert [(each.conflict_type, each.path) for each in report.unresolved] == [
            ("version_mismatch", "context.variables.x")
        ]
    synced(a, b, on_conflict="last_writer_wins")
    assert variables(a)["same"] == 1
    for wp in (a, b):
        wp.close()


@pytest.mark.parametrize("turned", [False, True])
def test_the_common_version_is_read_where_it_is_kept(tmp_path: Path, turned: bool) -> None:
    """A side that knows it by its id alone, since its history was shortened, goes back to what the other keeps."""
    with opened(tmp_path / "a") as first, waypost.open("memory:") as other:
        first.create_workflow("wf", "Wf", steps=["a"]).unwrap()
        first.update_context("wf", variables={"x": 0}).unwrap()
        synced(first, other)
        first.update_context("wf", variables={"x": 1}).unwrap()
        other.update_context("wf", variables={"x": 2}).unwrap()
        with shortened(first, tmp_path / "a") as again:
            one, two = (other, again) if turned else (again, other)
            synced(one, two, on_conflict="rollback")
            assert variables(again) == variables(other) == {"x": 0, "late": 1}


def test_what_two_merges_took_over_from_one_line_is_the_same_change(tmp_path: Path) -> None:
    """Where two merges have joined the same two lines, a change that was made behind one of them is newer than what
    the other took over: there is no conflict, and it is not lost.
    """
    with opened(tmp_path / "a") as a, opened(tmp_path / "b") as b, waypost.open("memory:") as c:
        with waypost.open("memory:") as d:
            a.create_workflow("wf", "Wf", steps=["x"]).unwrap()
            synced(a, b)
            a.update_context("wf", variables={"a": 1}).unwrap()
            b.update_context("wf", variables={"b": 1}).unwrap()
            synced(a, c)
            synced(b, d)
            synced(a, b)
            synced(c, d)
        a.update_context("wf", variables={"b": 2}).unwrap()
        c.update_context("wf", variables={"a": 3}).unwrap()
        assert list(synced(c, a).conflicts) == []
        assert variables(a) == variables(c) == {"a": 3, "b": 2}


def drop_history(wp: Waypost) -> None:
    """Have a store that keeps nothing of any age shorten a history; memory keeps it."""
    store = wp.definitions.store
    if isinstance(store, DirectoryStore):
        assert upkeep.compact(store._document(WF), store._context)
    store.reclaim(WF)
    past = store.past(WF)
    assert isinstance(store, MemoryStore) or past.first >= past.version - 1


def test_three_stores_that_keep_no_history_come_to_rest(
    wp_with: Callable[..., Waypost], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stores that sync in turns, and whose history is dropped behind each sync, are the same after one round: the merge
    that a store was left with leads the others to where it stands.
    """
    monkeypatch.setattr(compaction, "DAY_US", 0)  # so that all but the newest commit is too old
    stores = [wp_with() for _ in range(3)]
    for wp in stores:
        if isinstance(wp.definitions.store, PostgresStore):
            monkeypatch.setattr(wp.definitions.store._context, "history_us", 0)
    stores[0].create_workflow("wf", "Wf", steps=["a"]).unwrap()
    for wp in stores[1:]:
        synced(stores[0], wp)
    for number, wp in enumerate(stores):
        wp.update_context("wf", variables={f"of {number}": number}).unwrap()
    for is_at_rest in (False, True):
        for one, other in combinations(stores, 2):
            assert is_at_rest <= (not synced(one, other).documents)
            for wp in (one, other):
                drop_history(wp)
    assert len({view(wp).commit_id for wp in stores}) == 1
    assert [variables(wp) for wp in stores] == [{"of 0": 0, "of 1": 1, "of 2": 2}] * 3


def test_an_erasure_reaches_a_side_that_only_follows(tmp_path: Path) -> None:
    """A side that has changed nothing since takes the erasure, and the value is gone from its history."""
    with opened(tmp_path / "a") as a, opened(tmp_path / "b") as b:
        a.create_workflow("wf", "Wf", steps=["x"]).unwrap()
        a.update_context("wf", variables={"leak": "a canary that sings"}).unwrap()
        synced(a, b)
        a.erase("wf", "context.variables.leak").unwrap()
        assert [each.action for each in synced(b, a).documents] == ["taken"]
        old = b.definitions.store.view_at(WF, 2)
        assert old is not None
        assert old.erased("variable\x1fleak") is not None
