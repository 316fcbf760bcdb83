"""Blame: who made a value what it is; and looking back where history was shortened, shared, or is damaged."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from tests.conftest import make_config, opened
from tests.outdated import CURRENT, double, make_old
from tests.store.support import failing, system_calls
from tests.test_history import changes
from waypost import clock, records, register_migration
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import (
    CheckpointNotFound,
    DocumentDamaged,
    InvalidInput,
    PathNotFound,
    VersionNotFound,
    WorkflowNotFound,
)
from waypost.models import WorkflowStep
from waypost.store import Change, DocumentId, Store, Transaction, open_store
from waypost.store.directory import compaction, upkeep

WF = DocumentId("workflow", "w")


def test_blame_tells_who_set_a_value_and_from_what(wp: Waypost) -> None:
    """Of a value the commit is named that made it what it is, what was there before, and since when."""
    wp.create_workflow("w", "W", steps=["fetch"]).unwrap()
    wp.add_step_output("w", "fetch", {"rows": [1, 2], "n": 0}).unwrap()
    wp.add_step_output("w", "fetch", {"rows": [1, 2], "n": 1}).unwrap()
    wp.add_step_output("w", "fetch", {"rows": [1, 5], "n": 2}, "agent", session_id="s").unwrap()
    wp.add_step_output("w", "fetch", {"rows": [1, 5], "n": 3}).unwrap()
    found = wp.blame("w", "outputs.fetch.rows[1]")
    assert (found.value, found.before, found.before_since, found.or_before) == (5, 2, 2, False)
    assert (found.commit.version, found.commit.agent_id, found.commit.session_id) == (4, "agent", "s")
    assert found.commit == wp.history("w")[1]
    first = wp.blame("w", "outputs.fetch.rows[0]")
    assert (first.value, first.commit.version, first.before, first.before_since) == (1, 2, UNSET, None)
    assert wp.blame("w", "outputs.fetch").commit.version == 5
    assert wp.blame("w", "outputs").before == {"fetch": {"rows": [1, 5], "n": 2}}


def test_blame_passes_over_commits_that_left_the_value_equal(wp: Waypost) -> None:
    """Writing the part again with an equal value at the path is not setting it."""
    wp.create_workflow("w", "W", steps=[WorkflowStep("a", max_retries=5)]).unwrap()
    wp.update_step_status("w", "a", "running").unwrap()
    wp.update_step_status("w", "a", "failed", error="no").unwrap()
    wp.update_step_status("w", "a", "running").unwrap()
    assert wp.blame("w", "steps.a.max_retries").commit.version == 1
    assert wp.blame("w", "steps.a.retry_count").commit.version == 4
    status = wp.blame("w", "steps.a.status")
    assert (status.commit.version, status.before, status.before_since) == (4, "failed", 3)


def test_blame_of_what_was_removed_and_came_again(wp: Waypost) -> None:
    """A value that was gone in between was set by the commit that brought it back."""
    wp.create_workflow("w", "W").unwrap()
    wp.update_context("w", variables={"x": {"a": 1}}).unwrap()
    wp.update_context("w", variables={"x": {"b": 1}}).unwrap()
    wp.update_context("w", variables={"x": {"a": 1}}).unwrap()
    found = wp.blame("w", "context.variables.x.a")
    assert (found.commit.version, found.before, found.before_since) == (4, UNSET, None)
    wp.delete_workflow("w").unwrap()
    with pytest.raises(WorkflowNotFound, match="was deleted"):
        wp.blame("w", "context.variables.x")
    assert wp.blame("w", "tombstone").commit.operation == "delete_workflow"
    wp.create_workflow("w", "W again", steps=["a"]).unwrap()
    assert wp.blame("w", "workflow.name").commit.version == 6
    assert wp.blame("w", "order").commit.version == 6


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("outputs.fetch.rows[9]", "outputs.fetch.rows"),
        ("outputs.fetch.rows[01]", "outputs.fetch.rows"),
        ("outputs.fetch.rows.x", "outputs.fetch.rows"),
        ("outputs.fetch.rows[0].deep.er", "outputs.fetch.rows[0]"),
        ("outputs.nope", "outputs"),
        ("steps.nope.status", "steps"),
        ("steps.fetch.nope", "steps.fetch"),
        ("steps[1]", "steps"),
        ("context.variables.y", "context"),
        ("context.nope", "context"),
        ("agents", None),
        ("tombstone", None),
    ],
)
def test_a_path_that_leads_nowhere_names_the_nearest_place(wp: Waypost, path: str, nearest: str | None) -> None:
    """The error says how far the path leads to something."""
    wp.create_workflow("w", "W", "s", ["fetch"]).unwrap()
    wp.add_step_output("w", "fetch", {"rows": [1]}).unwrap()
    with pytest.raises(PathNotFound) as told:
        wp.blame("w", path)
    assert told.value.details["nearest"] == nearest
    if nearest is not None:
        assert str(told.value).endswith(f"is {nearest}")
        assert wp.blame("w", nearest).path == nearest


@pytest.mark.parametrize(
    "path", ["", ".", "steps.", "steps..a", "steps[", 'steps["a]', "steps]a", 'steps["\\x"]', "no.such", 7]
)
def test_what_is_no_path_is_refused(wp: Waypost, path: Any) -> None:
    """A path that cannot be read, or that begins with no part of a workflow, is an error of its own."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    with pytest.raises(InvalidInput):
        wp.blame("w", path)


def test_every_path_of_a_diff_can_be_blamed(wp: Waypost) -> None:
    """Keys with dots, brackets, quotes, controls, other scripts or types, and empty ones lead back to their value."""
    odd = ["", ".", "a.b", "[0]", '"', "\\", "\x7f\x1b[2J", "é", "名前", "\u202e", " ", "x" * 300, "0", "None", "💥"]
    keys: list[Any] = [*odd, 0, -7, 10**30, None, True, 1.5, float("inf")]
    wp.create_workflow("w", "W", steps=["a.b", "[x]", "fetch-all"]).unwrap()
    wp.add_step_output("w", "a.b", {key: {key: number} for number, key in enumerate(keys)}).unwrap()
    wp.add_step_output("w", "a.b", {key: {key: -1 - number} for number, key in enumerate(keys)}).unwrap()
    wp.update_context("w", variables={"a.b": 1, "[0]": 2, '"': 3}).unwrap()
    found = [each for each in wp.diff("w@1", "w") if not each.path.startswith("steps")]
    inner = [each for each in wp.diff("w@2", "w@3") if each.path.startswith("outputs")]
    assert len(inner) == len(keys) and len({each.path for each in inner}) == len(keys)
    for each in (*found, *inner):
        blamed = wp.blame("w", each.path)
        assert (blamed.path, blamed.value) == (each.path, each.after)
    assert all(wp.blame("w", each.path).before == each.before for each in inner)
    assert not any(character in each.path for each in inner for character in "\x1b\x7f\u202e")
    assert wp.blame("w", "steps.fetch-all.status").path == 'steps["fetch-all"].status'


def test_what_has_no_path_is_compared_as_one(wp: Waypost) -> None:
    """A set, or a dictionary with a key that has no notation, is one value; a tuple has places."""
    wp.create_workflow("w", "W").unwrap()
    dated = {date(2026, 1, 1): 1}
    wp.update_context("w", variables={"d": dated, "s": {1, 2}, "t": (1, 2)}).unwrap()
    wp.update_context("w", variables={"d": {**dated, "x": 2}, "s": {2, 3}, "t": (1, 3)}).unwrap()
    assert set(changes(wp, "w@2", "w@3")) == {"context.variables.d", "context.variables.s", "context.variables.t[1]"}


def test_blame_follows_a_step_to_the_output_it_points_to(wp: Waypost) -> None:
    """A commit that has a step point to an earlier output, and keeps or removes the later one, set the value to it."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    wp.add_step_output("w", "a", {"n": 1}).unwrap()
    wp.add_step_output("w", "a", {"n": 2}).unwrap()

    def point_back(tx: Transaction, *, remove: bool) -> None:
        step = records.step(tx, "a")
        step.output_version = 1
        records.put_step(tx, step)
        if remove:
            tx.delete(records.output_key("a", 2))

    store = wp.definitions.store
    store.submit(Change(WF, partial(point_back, remove=False), "op-1", "restore")).result()
    found = wp.blame("w", "outputs.a.n")
    assert (found.value, found.commit.version, found.before, found.before_since) == (1, 4, 2, 3)
    assert "outputs.a.n" in changes(wp, "w@3", "w@4")
    wp.update_step_status("w", "a", "completed").unwrap()
    assert wp.blame("w", "outputs.a.n").commit.version == 4
    wp.add_step_output("w", "a", {"n": 3}).unwrap()
    wp.add_step_output("w", "a", {"n": 4}).unwrap()
    store.submit(Change(WF, partial(point_back, remove=True), "op-2", "restore")).result()
    found = wp.blame("w", "outputs.a.n")
    assert (found.value, found.commit.version, found.before, found.before_since) == (1, 8, 4, 7)


def test_looking_back_over_checkpoints(wp: Waypost) -> None:
    """A checkpoint's id is a reference, whole or shortened; what was gone back to it does not differ from it, and the
    commit that went back is blamed for what it brought.
    """
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    wp.add_step_output("w", "a", {"n": 1}).unwrap()
    kept = wp.create_checkpoint("w", "one").unwrap()
    (name,) = wp.history("w")[0].changed
    assert wp.blame("w", name).value["description"] == "one"
    wp.add_step_output("w", "a", {"n": 2}, session_id="s").unwrap()
    assert changes(wp, kept.id, "w") == changes(wp, kept.id[:-2], "w@4") == changes(wp, "w@2", "w")
    assert changes(wp, kept.id, "w")["outputs.a.n"] == ("changed", 1, 2)
    assert set(changes(wp, "w@2", "w@3")) == set(), "a checkpoint is no change of the workflow"
    wp.restore_from_checkpoint(kept.id).unwrap()
    assert set(changes(wp, kept.id, "w")) == set()
    found = wp.blame("w", "outputs.a.n")
    assert (found.value, found.commit.operation, found.before, found.before_since) == (
        1,
        "restore_from_checkpoint",
        2,
        4,
    )
    wp.fork_workflow(kept.id, "other").unwrap()
    assert "outputs.a" not in changes(wp, "w", "other")
    for wrong in (f"{kept.id}0", "x@c123"):
        with pytest.raises(CheckpointNotFound):
            wp.diff(wrong, "w")


# --- history that was shortened ---


def shorten(wp: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workflow of twelve versions, of which history holds the last four after a close."""
    now = clock.now_us()
    monkeypatch.setattr(clock, "now_us", lambda: now - 2 * 30 * compaction.DAY_US)
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    for number in range(7):
        wp.update_context("w", variables={"n": number, "old": 1}).unwrap()
    monkeypatch.setattr(clock, "now_us", lambda: now)
    for number in range(4):
        wp.update_context("w", variables={"n": number % 2, "new": number}).unwrap()
    monkeypatch.undo()


def test_after_history_was_shortened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions that are gone keep their ids; blame says `or_before`; a diff with one says where history begins."""
    config = make_config()

    def opened() -> Waypost:
        return Waypost(Definitions(open_store(str(tmp_path / "store"), config), config, verbose=False))

    with opened() as wp:
        shorten(wp, monkeypatch)
        before = {each.version: each.commit_id for each in wp.history("w")}
        name, new = wp.blame("w", "workflow.name"), wp.blame("w", "context.variables.new")
        assert (name.commit.version, name.or_before) == (1, False)
        store: Any = wp.definitions.store
        assert upkeep.compact(store._document(WF), store._context)
        after = wp.history("w")
        assert {each.version: each.commit_id for each in after} == before
        assert [each.kept for each in after] == [True] * 4 + [False] * 8
        assert (after[-1].operation, after[-1].at, list(after[-1].changed)) == (None, None, [])
        assert [each.version for each in wp.history("w", limit=2, before=6)] == [5, 4]
        assert [each.version for each in wp.history("w", limit=6)] == [12, 11, 10, 9, 8, 7]
        gone = wp.blame("w", "workflow.name")
        assert (gone.value, gone.or_before, gone.commit.version, gone.commit.kept) == ("W", True, 8, False)
        assert (gone.before, gone.before_since) == (UNSET, None)
        assert wp.blame("w", "context.variables.new") == new
        n = wp.blame("w", "context.variables.n")
        assert (n.value, n.commit.version, n.before, n.before_since) == (1, 12, 0, 11)
        old = wp.blame("w", "context.variables.old")
        assert (old.or_before, old.commit.commit_id) == (True, before[8])
        with pytest.raises(VersionNotFound, match="its history begins with version 8") as told:
            wp.diff("w@3", "w")
        assert told.value.details["first"] == 8
        assert set(changes(wp, "w@8", "w")) == {"context.variables.n", "context.variables.new"}


def test_two_processes_see_each_others_history(tmp_path: Path) -> None:
    """What another process commits is in the history, and blamed on its session."""
    with opened(tmp_path / "store") as wp:
        wp.create_workflow("w", "W", steps=["a"]).unwrap()
        source = (
            "import waypost\n"
            f"with waypost.open({str(tmp_path / 'store')!r}) as wp:\n"
            "    wp.update_step_status('w', 'a', 'completed', {'n': 1}, session_id='theirs').unwrap()\n"
        )
        subprocess.run([sys.executable, "-c", source], check=True, cwd=tmp_path, timeout=60)
        wp.update_context("w", variables={"x": 1}, session_id="ours").unwrap()
        assert [each.session_id for each in wp.history("w")] == ["ours", "theirs", None]
        assert wp.blame("w", "outputs.a.n").commit.session_id == "theirs"
        assert "outputs.a" in changes(wp, "w@1", "w")


def test_d23_a_diff_shows_nothing_that_a_failed_sync_may_have_lost(tmp_path: Path) -> None:
    """The version whose sync failed is none that could be compared or blamed."""
    with opened(tmp_path / "store") as wp:
        wp.create_workflow("w", "W").unwrap()
        with system_calls() as calls:
            calls.fault = failing("fdatasync", 1)
            assert not wp.update_context("w", variables={"x": 1})
        with pytest.raises(VersionNotFound, match="its newest is 1"):
            wp.diff("w", "w@2")
        with pytest.raises(PathNotFound):
            wp.blame("w", "context.variables.x")
        assert [each.version for each in wp.history("w")] == [1]


def test_looking_back_over_a_migration(wp: Waypost, store: Store, registry: None) -> None:
    """A migration is a commit like others: it is in the history, and blamed for what it made. A diff reads both sides
    as they would be now.
    """
    make_old(wp)
    old = store.view(WF).version
    register_migration("0.9.0", CURRENT, double)
    assert set(changes(wp, f"w@{old}", f"w@{old}")) == set()
    not_yet = wp.blame("w", "context.variables.count")
    assert (not_yet.value, not_yet.commit.version, not_yet.before) == (2, old, 1)
    wp.load_workflow_state("w").unwrap()
    assert wp.history("w")[0].operation == "migrate"
    assert "context.variables.count" in wp.history("w")[0].changed
    assert set(changes(wp, f"w@{old}", "w")) == set()
    found = wp.blame("w", "context.variables.count")
    assert (found.value, found.commit.operation, found.before) == (2, "migrate", 1)
    assert wp.blame("w", "context.variables.keep").commit.operation == "update_context"


def test_d07_damage_is_told_by_all_three(tmp_path: Path) -> None:
    """Where an old commit is damaged, history and blame raise DocumentDamaged in place of telling less."""
    with opened(tmp_path / "store") as wp:
        wp.create_workflow("w", "W", steps=["a"]).unwrap()
        for number in range(400):
            wp.update_context("w", variables={"n": number}).unwrap()
        store: Any = wp.definitions.store
        upkeep.take_snapshot(store._document(WF), store._context)
    file = next((tmp_path / "store" / "workflows").iterdir())
    data = bytearray(file.read_bytes())
    data[data.index(b"WPF\x01", 4000) + 60] ^= 1
    file.write_bytes(data)
    with opened(tmp_path / "store", read_only=True) as wp:
        assert wp.load_workflow_state("w").success
        for ask in (lambda: wp.history("w"), lambda: wp.blame("w", "workflow.name")):
            with pytest.raises(DocumentDamaged):
                ask()
