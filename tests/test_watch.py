"""Watching: every commit once, in order, from any cursor, and what is told where history is not what it was."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ON_REQUEST, opened
from tests.store.support import failing, system_calls
from waypost.blocking import Waypost
from waypost.cursors import Positions
from waypost.errors import DocumentDamaged, InvalidId, InvalidInput, StoreClosed
from waypost.store import DocumentId
from waypost.store.directory import compaction
from waypost.watching import CommitEvent, Watch

A_WHILE = 0.3
"""For how long an event is waited for that must not come."""


def told(watch: Watch, count: int) -> list[CommitEvent]:
    """The next so many events, and no more."""
    found = [event for _ in range(count) if (event := watch.get(60)) is not None]
    assert watch.get(A_WHILE) is None
    assert len(found) == count
    return found


def named(events: Iterable[CommitEvent]) -> list[str]:
    return [f"{event.workflow_id}@{event.version}" for event in events]


# --- what is told ---


def test_an_event_is_an_entry_of_history_and_the_statuses_of_steps(wp: Waypost) -> None:
    """An event says of a commit all that history says, and the status of each step that it wrote."""
    with wp.watch() as watch:
        wp.create_workflow("w", "w", steps=["fetch", "parse"]).unwrap()
        wp.update_step_status("w", "fetch", "completed", output=[1], agent_id="agent").unwrap()
        wp.update_context("w", variables={"rows": 3}).unwrap()
        events = told(watch, 3)
    for event, entry in zip(events, reversed(wp.history("w")), strict=True):
        for field in entry.__struct_fields__:
            assert getattr(event, field) == getattr(entry, field)
    assert {event.workflow_id for event in events} == {"w"}
    statuses = [dict(event.statuses) for event in events]
    assert statuses == [{"fetch": "pending", "parse": "pending"}, {"fetch": "completed"}, {}]
    assert "outputs.fetch" in events[1].changed and events[2].changed == ["context.variables.rows"]


def test_without_a_cursor_it_begins_with_what_is_committed_after_the_call(wp: Waypost) -> None:
    """What was there before is not told, and what is committed before the first question is."""
    wp.create_workflow("w", "w").unwrap()
    with wp.watch() as watch:
        wp.update_context("w", variables={"a": 1}).unwrap()
        wp.create_workflow("new", "new").unwrap()
        assert sorted(named(told(watch, 2))) == ["new@1", "w@2"]


def test_from_the_start_it_tells_all_that_is_kept_and_then_goes_on(wp: Waypost) -> None:
    """`start` begins at the first commit of each workflow; several of them are told in the order of time."""
    wp.create_workflow("b", "b").unwrap()
    wp.create_workflow("a", "a").unwrap()
    wp.update_context("b", variables={"a": 1}).unwrap()
    with wp.watch(cursor="start") as watch:
        assert named(told(watch, 3)) == ["b@1", "a@1", "b@2"]
        wp.update_context("a", variables={"a": 1}).unwrap()
        assert named(told(watch, 1)) == ["a@2"]


def test_a_watch_goes_on_behind_the_event_of_any_cursor(wp: Waypost) -> None:
    """From the cursor of each event, the events behind it are told, and no other."""
    with wp.watch() as watch:
        for number in range(4):
            wp.create_workflow(f"w{number % 2}", "w", if_exists="open").unwrap()
            wp.update_context(f"w{number % 2}", variables={"n": number}).unwrap()
        events = told(watch, 6)
    for number, event in enumerate(events):
        with wp.watch(cursor=event.cursor) as again:
            assert named(told(again, 5 - number)) == named(events[number + 1 :])


def test_the_cursor_of_a_watch_is_that_of_its_last_event(wp: Waypost) -> None:
    """A watch that has told nothing yet has a cursor too, and a commit after it is told to whoever goes on there."""
    wp.create_workflow("w", "w").unwrap()
    with wp.watch() as watch:
        first = watch.cursor
        wp.update_context("w", variables={"a": 1}).unwrap()
        (event,) = told(watch, 1)
        assert watch.cursor == event.cursor != first
    with wp.watch(cursor=first) as again:
        assert named(told(again, 1)) == ["w@2"]


def test_one_workflow_is_told_of_alone_and_need_not_be_there(wp: Waypost) -> None:
    """A watch of one workflow tells of no other, and of its making."""
    with wp.watch("w") as watch:
        wp.create_workflow("other", "other").unwrap()
        wp.create_workflow("w", "w").unwrap()
        (event,) = told(watch, 1)
        assert named([event]) == ["w@1"]
        assert len(event.cursor) < 100


def test_the_cursor_of_all_serves_one_and_not_the_other_way_round(wp: Waypost) -> None:
    """From a cursor of the whole store one workflow can be followed; one of a workflow says nothing of others."""
    wp.create_workflow("w", "w").unwrap()
    cursor = wp.watch().cursor
    wp.update_context("w", variables={"a": 1}).unwrap()
    with wp.watch("w", cursor=cursor) as watch:
        (event,) = told(watch, 1)
    with pytest.raises(InvalidInput, match="'w'"):
        wp.watch(cursor=event.cursor)
    with pytest.raises(InvalidInput, match="'w'"):
        wp.watch("other", cursor=event.cursor)


def test_a_deleted_workflow_that_is_made_anew_goes_on(wp: Waypost) -> None:
    """Deleting is a commit like any other, and so is making it again."""
    with wp.watch("w") as watch:
        wp.create_workflow("w", "w").unwrap()
        wp.delete_workflow("w").unwrap()
        wp.create_workflow("w", "w").unwrap()
        events = told(watch, 3)
    assert [event.version for event in events] == [1, 2, 3]
    assert events[1].cleared


def test_what_was_erased_is_told_without_it(wp: Waypost) -> None:
    """A commit whose value was erased before it was told is an event all the same."""
    wp.create_workflow("w", "w", steps=["s"]).unwrap()
    wp.update_step_status("w", "s", "completed", output="secret").unwrap()
    wp.erase("w", "outputs.s").unwrap()
    versions = [event.version for event in told(wp.watch(cursor="start"), len(wp.history("w")))]
    assert versions == list(range(1, len(versions) + 1))


def test_commits_over_several_workflows_are_told_of_each(wp: Waypost) -> None:
    """What was committed together is an event for each workflow, which names the others."""
    with wp.watch() as watch:
        with wp.transaction() as tx:
            tx.create_workflow("a", "a")
            tx.create_workflow("b", "b")
        a, b = told(watch, 2)
    assert a.transaction_id == b.transaction_id is not None
    assert sorted([*a.together_with, *b.together_with]) == ["a@1", "b@1"]


def test_very_many_commits_are_read_a_few_at_a_time(wp: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few are read ahead, all are told in order."""
    from waypost import watching

    monkeypatch.setattr(watching, "_MOST_AT_ONCE", 3)
    monkeypatch.setattr(watching, "_LEAST_AT_ONCE", 1)
    for number in range(10):
        for name in ("a", "b"):
            if not number:
                wp.create_workflow(name, name).unwrap()
            wp.update_context(name, variables={"n": number}).unwrap()
    events = told(wp.watch(cursor="start"), 22)
    assert [event.at for event in events] == sorted(event.at for event in events if event.at)
    for name in ("a", "b"):
        assert [event.version for event in events if event.workflow_id == name] == list(range(1, 12))


# --- how it ends, and what is refused ---


@pytest.mark.parametrize("end", ["watch", "handle"])
def test_a_watch_ends_when_it_or_its_handle_is_closed(wp: Waypost, end: str) -> None:
    """Whoever waits in another thread is not left waiting, and is told of no error."""
    watch = wp.watch()
    found: list[CommitEvent] = []
    is_told = threading.Event()

    def listen() -> None:
        for event in watch:
            found.append(event)
            is_told.set()

    waiting = threading.Thread(target=listen)
    waiting.start()
    wp.create_workflow("w", "w").unwrap()
    assert is_told.wait(60)
    (watch if end == "watch" else wp).close()
    waiting.join(60)
    assert not waiting.is_alive()
    assert named(found) == ["w@1"]
    assert watch.has_ended and watch.get() is None and list(watch) == []


def test_a_watch_of_a_closed_handle_is_refused(wp: Waypost) -> None:
    """There is nothing to watch any more."""
    wp.close()
    with pytest.raises(StoreClosed):
        wp.watch()


@pytest.mark.parametrize("cursor", ["", "x", "w1", "w1!", "w1AAAA", "é", "w1" + "A" * 1000, "start ", 7, b"start"])
def test_what_is_no_cursor_is_refused(wp: Waypost, cursor: object) -> None:
    """A text that no event gave, or not all of one, is an InvalidInput and nothing else."""
    with pytest.raises(InvalidInput, match="cursor"):
        wp.watch(cursor=cursor)  # type: ignore[arg-type]


def test_a_cursor_of_which_anything_is_changed_is_refused(wp: Waypost) -> None:
    """One that was cut, or mangled on its way, never leads elsewhere."""
    wp.create_workflow("w", "w").unwrap()
    cursor = wp.watch().cursor
    for at in range(len(cursor) - 1):  # the bits of the last character are not all used
        other = "A" if cursor[at] != "A" else "B"
        for mangled in (cursor[:at], cursor[:at] + other + cursor[at + 1 :]):
            with pytest.raises(InvalidInput):
                wp.watch(cursor=mangled)


def test_an_id_that_is_none_is_refused(wp: Waypost) -> None:
    """The id of a workflow is checked as everywhere."""
    with pytest.raises(InvalidId):
        wp.watch("a\nb")


def test_cursors_of_many_moments_take_no_copy_for_each() -> None:
    """A cursor that is made late is that of its event, and an event of a large store holds no copy of all positions."""
    from waypost.cursors import Position, read

    many = {f"w{number}": Position(1, b"12345678") for number in range(5000)}
    positions = Positions(None, many)
    made = []
    for number in range(12_000):
        positions.move(f"w{number % 100}", Position(number, b"abcdefgh"))
        made.append(positions.here())
    bases = {id(each.args[1]) for each in made}
    assert len(bases) < 5
    for number in (0, 99, 4999, 5000, 11_999):
        told_by_then = read(made[number](), None)
        assert told_by_then[f"w{number % 100}"] == (number, b"abcdefgh")
        assert told_by_then[f"w{(number + 1) % 100}"].version == (number - 99 if number >= 99 else 1)


# --- where history is not what it was ---


Forget = Callable[[], None]


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[Waypost]:
    """A directory whose history is kept for a day."""
    wp = opened(tmp_path / "store", history={"max_age_days": 1}, checkpoints=ON_REQUEST)
    yield wp
    wp.close()


@pytest.fixture
def forget(forgetful: Waypost, monkeypatch: pytest.MonkeyPatch) -> Forget:
    """Has the store forget what was committed to the workflow `w` before, as if all of it were too old."""

    def compact() -> None:
        store: Any = forgetful.definitions.store
        with monkeypatch.context() as patch:
            patch.setattr(compaction, "DAY_US", -1)
            assert store._compact(store._document(DocumentId("workflow", "w")))

    return compact


def test_versions_that_history_dropped_are_told_by_number_and_id(forgetful: Waypost, forget: Forget) -> None:
    """Where history no longer reaches back to a cursor, each version that is missing is named, and none is skipped."""
    wp = forgetful
    wp.create_workflow("w", "w").unwrap()
    cursor = wp.watch("w").cursor
    for number in range(5):
        wp.update_context("w", variables={"n": number}).unwrap()
    ids = {entry.version: entry.commit_id for entry in wp.history("w")}
    forget()
    wp.update_context("w", variables={"n": "new"}).unwrap()
    with wp.watch("w", cursor=cursor) as watch:
        events = told(watch, 6)
    assert [event.version for event in events] == [2, 3, 4, 5, 6, 7]
    dropped = [event for event in events if not event.kept]
    assert dropped and events[-1].kept
    assert all(event.commit_id == ids[event.version] and event.operation is None for event in dropped)
    wp.close()


def test_from_the_start_dropped_versions_are_not_told(forgetful: Waypost, forget: Forget) -> None:
    """`start` is the oldest commit that is kept, also for the cursors of its events."""
    wp = forgetful
    wp.create_workflow("w", "w").unwrap()
    wp.update_context("w", variables={"n": 1}).unwrap()
    forget()
    for number in range(2):
        wp.update_context("w", variables={"n": f"new {number}"}).unwrap()
    first = wp.definitions.store.past(DocumentId("workflow", "w")).first
    assert first
    with wp.watch(cursor="start") as watch:
        events = told(watch, 4 - first)
    assert [event.version for event in events] == list(range(first + 1, 5))
    assert all(event.kept for event in events)
    with wp.watch(cursor=events[0].cursor) as watch:
        assert named(told(watch, 3 - first)) == named(events[1:])
    wp.close()


def test_a_compaction_while_it_watches_changes_nothing_that_is_told(forgetful: Waypost, forget: Forget) -> None:
    """What was told before a compaction is not told again after it, and what comes then is told once."""
    wp = forgetful
    wp.create_workflow("w", "w").unwrap()
    with wp.watch() as watch:
        for number in range(4):
            wp.update_context("w", variables={"n": number}).unwrap()
            assert [event.version for event in told(watch, 1)] == [number + 2]
            forget()
    wp.close()


def test_a_backup_that_is_put_back_is_told_with_the_version_where_histories_part(tmp_path: Path) -> None:
    """Of what was told, the versions that are gone are named, and what follows is told from there on, once."""
    wp = opened(tmp_path / "store")
    wp.create_workflow("w", "w").unwrap()
    with wp.watch() as watch:
        wp.update_context("w", variables={"n": 1}).unwrap()
        told(watch, 1)
        wp.backup(tmp_path / "backup")
        for number in range(3):
            wp.update_context("w", variables={"n": number}).unwrap()
        told(watch, 3)
        late = watch.cursor
        wp.restore_backup(tmp_path / "backup", allow_older=True)
        wp.update_context("w", variables={"n": "other"}).unwrap()
        back, event = told(watch, 2)
        assert (back.version, back.taken_back_from, back.operation) == (2, 5, None)
        assert (event.version, event.taken_back_from, event.operation) == (3, None, "update_context")
        assert wp.watch(cursor=back.cursor).get(60) == event
    with wp.watch(cursor=late) as again:
        events = told(again, 4)
    assert (events[0].version, events[0].taken_back_from) == (0, 5)
    assert [event.version for event in events[1:]] == [1, 2, 3]
    wp.close()


def test_a_workflow_that_is_gone_is_told_as_taken_back_to_nothing(tmp_path: Path) -> None:
    """A backup in which a workflow is not there takes it away; the rest is told on."""
    wp = opened(tmp_path / "store")
    wp.create_workflow("kept", "kept").unwrap()
    wp.backup(tmp_path / "backup")
    wp.create_workflow("gone", "gone").unwrap()
    with wp.watch() as watch:
        wp.restore_backup(tmp_path / "backup", allow_older=True)
        (back,) = told(watch, 1)
        assert (back.workflow_id, back.version, back.taken_back_from) == ("gone", 0, 1)
        wp.create_workflow("gone", "gone").unwrap()
        assert named(told(watch, 1)) == ["gone@1"]
    wp.close()


def test_a_workflow_that_cannot_be_read_hides_no_other_and_is_told_once_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A damaged log is logged; others are told, and what it holds is told from where it stood when it is mended."""
    root = tmp_path / "store"
    wp = opened(root)
    wp.create_workflow("bad", "bad").unwrap()
    wp.create_workflow("good", "good").unwrap()
    wp.close()
    wp = opened(root)
    cursor = wp.watch().cursor
    wp.update_context("bad", variables={"n": 1}).unwrap()
    wp.close()
    (log,) = root.glob("workflows/bad.*")
    whole = log.read_bytes()
    log.write_bytes(b"\0" * 100 + whole[100:])
    wp = opened(root)
    with caplog.at_level(logging.WARNING), wp.watch(cursor=cursor) as watch:
        wp.update_context("good", variables={"n": 1}).unwrap()
        assert named(told(watch, 1)) == ["good@2"]
        assert sum("'bad' is not told of" in record.message for record in caplog.records) == 1
        with pytest.raises(DocumentDamaged):
            wp.watch("bad", cursor=cursor).get(1)
        resumed = watch.cursor
    wp.close()
    log.write_bytes(whole)
    wp = opened(root)
    assert named(told(wp.watch(cursor=resumed), 1)) == ["bad@2"]
    wp.close()


def test_a_failure_of_the_store_loses_nothing(wp: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """What raises in between is raised, and the same watch then tells what it had not told."""
    from waypost.errors import StoreUnavailable

    store = wp.definitions.store
    with wp.watch() as watch:
        wp.create_workflow("a", "a").unwrap()
        wp.create_workflow("b", "b").unwrap()
        first = watch.get(60)
        past: Callable[..., object] = store.past

        def fail(document: DocumentId) -> object:
            raise StoreUnavailable("it is gone for now")

        wp.update_context("a", variables={"n": 1}).unwrap()
        monkeypatch.setattr(store, "past", fail)
        second = watch.get(60)
        with pytest.raises(StoreUnavailable):
            watch.get(60)
        monkeypatch.setattr(store, "past", past)
        events = [first, second, *told(watch, 1)]
    assert sorted(named(event for event in events if event)) == ["a@1", "a@2", "b@1"]


# --- what a crash could take back ---


def test_d23_nothing_is_told_that_no_sync_covers(tmp_path: Path) -> None:
    """Another process has committed, and nobody knows any more whether that was synced: then it is synced, and told."""
    root = tmp_path / "store"
    commit = (
        f"import os, waypost; wp = waypost.open({str(root)!r}); "
        "wp.update_context('w', variables={'n': 1}).unwrap(); os._exit(0)"
    )
    with opened(root) as wp:
        wp.create_workflow("w", "w").unwrap()
        with wp.watch() as watch, system_calls() as calls:
            subprocess.run([sys.executable, "-c", commit], check=True)
            assert watch.get(60) is not None
            assert calls.count("fdatasync")


def test_d23_a_commit_whose_sync_failed_is_not_told(tmp_path: Path) -> None:
    """It may be gone after a crash: whoever looked from before or begins now hears nothing of it, nor that it went."""
    with opened(tmp_path / "store") as wp:
        wp.create_workflow("w", "w").unwrap()
        with wp.watch() as watch, wp.watch("w") as only, system_calls() as calls:
            calls.fault = failing("fdatasync", 1)
            assert not wp.update_context("w", variables={"x": 1})
            with wp.watch() as begun, wp.watch("w") as one:
                for each in (watch, only, begun, one):
                    assert each.get(A_WHILE) is None
