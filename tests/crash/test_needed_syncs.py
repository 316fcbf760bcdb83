"""Each sync is needed: without any one of them one of these stories loses something when the power goes.

`make mutants` removes the syncs one by one and shows that a test fails each time; those that no other test guards
are guarded here.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from itertools import count

import pytest

from tests.crash.needed import (
    DONE,
    A,
    B,
    a_store,
    commit_over,
    dying_before,
    judge_story,
    lose_power,
    promised_from,
    put,
    told,
)
from tests.crash.oracle import Standing, Wrong, open_store
from tests.crash.recording import Cut, Mark, Synced
from tests.crash.simulated import Tree
from tests.crash.stories import Run
from waypost.errors import StoreNotFound, StoreUnavailable
from waypost.store.directory import files, upkeep

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture(autouse=True)
def _calm(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.CRITICAL, "waypost")
    monkeypatch.setattr(upkeep.Upkeep, "ask_to_settle", lambda self: None)


# --- commits over several documents ---


def begun(run: Run) -> None:
    """A store with two documents of the first process."""
    store = run.open()
    run.commit(store, A)
    run.commit(store, B)
    run.close(store)


def test_t20_a_commit_over_two_documents_needs_its_syncs() -> None:
    """What was decided is there after any crash, in both documents, also when its decision went already."""

    def work(run: Run) -> None:
        begun(run)
        store = run.open()
        commit_over(run, store, A, B)
        commit_over(run, store, A, B)
        run.commit(store, A)
        run.close(store)
        store = run.open()
        commit_over(run, store, A, B)
        run.close(store)

    recording = told(work)
    lose_power(recording, judge_story(recording), title="a commit over two documents", states=700)


def test_t20_a_commit_over_two_documents_that_changes_one_is_synced() -> None:
    """Without a decision it is the sync of its log that makes it durable."""

    def work(run: Run) -> None:
        begun(run)
        store = run.open()
        commit_over(run, store, A, reading=(B,))

    recording = told(work)
    lose_power(recording, judge_story(recording), title="a commit that read another document")


def test_t20_logs_are_synced_up_to_where_decided_frames_will_stand() -> None:
    """What a process wrote after the work had looked, and did not sync before it died, would leave a gap."""

    def work(run: Run) -> None:
        begun(run)
        store = run.open()
        run.commit(store, A)
        run.commit(store, B)
        with run.acting_as("second"):
            second = run.open()
            run.commit(second, A)

        def die_unsynced() -> None:
            assert dying_before(run, "second", 2, lambda: run.commit(second, A))  # its write is the first

        commit_over(run, store, A, B, meanwhile=die_unsynced)

    recording = told(work)
    lose_power(recording, judge_story(recording), title="unsynced frames before decided ones", states=400)


@pytest.mark.parametrize("next_one", ["reader", "looks", "commits", "closes"])
def test_t20_who_finds_a_decision_makes_sure_of_it(next_one: str) -> None:
    """Its maker may have died before its name was durable; what rests on it must not go with it."""
    for change in count(1):
        died = False
        begins_at = 0

        def work(run: Run, change: int = change) -> None:
            nonlocal died, begins_at
            begun(run)
            with run.acting_as("second"):
                second = run.open()
            died = dying_before(run, "second", change, lambda: commit_over(run, second, A, B))
            begins_at = len(run.system.events)
            with run.acting_as("third"):
                store = open_store(run.path, run.options, read_only=next_one == "reader")
                if next_one in ("reader", "looks"):
                    run.look(store, A, B)
                elif next_one == "commits":
                    run.commit(store, A)
                    run.look(store, B)
                if next_one != "reader":
                    run.close(store)

        recording = told(work)
        title = f"the next one {next_one}, after a maker that died before change {change}"
        lose_power(recording, judge_story(recording), title=title, states=40, start=begins_at)
        if not died:
            break
    assert change > 5


# --- closing, and what is synced later ---


def test_t20_closing_makes_all_of_it_durable_and_says_so() -> None:
    """Also where commits were acknowledged before their sync: then the log is sealed, and holds them."""
    options = {"reliability.enable_wal": False}

    def work(run: Run) -> None:
        store = run.open()
        put(store, A, x=b"1")
        put(store, A, x=b"2")
        run.close(store)
        run.promise(DONE)

    def judge(tree: Tree, standing: Standing) -> None:
        with a_store(options, read_only=True) as store:
            findings = store.verify().findings
            shown = store.view(A).get("x")
        if shown != b"2" or any("open" in found.text for found in findings):
            raise Wrong(f"{shown}, {findings}")

    recording = told(work, options=options)
    lose_power(recording, judge, title="closing", start=promised_from(recording))


def test_t20_a_seal_never_says_that_something_is_synced_which_is_not() -> None:
    """It may reach the medium before what stands before it, so that is synced first."""
    options = {"reliability.enable_wal": False}

    def work(run: Run) -> None:
        store = run.open()
        put(store, A, x=b"1")
        run.close(store)
        run.promise(DONE)
        store = run.open()
        put(store, A, x=b"2")
        run.close(store)

    def judge(tree: Tree, standing: Standing) -> None:
        with a_store(options) as store:
            if store.view(A).get("x") not in (b"1", b"2"):
                raise Wrong("what was closed is gone")

    recording = told(work, options=options)
    lose_power(recording, judge, title="closing again", start=promised_from(recording))


def test_t20_what_is_shown_is_synced_first() -> None:
    """A reader, and who repeats an operation, may see what a dead writer left in the page cache."""

    def work(run: Run) -> None:
        begun(run)
        with run.acting_as("second"):
            second = run.open()
            run.commit(second, A)
        assert dying_before(run, "second", 2, lambda: run.commit(second, A))
        with run.acting_as("third"):
            run.look(open_store(run.path, run.options, read_only=True), A)

    recording = told(work)
    lose_power(recording, judge_story(recording), title="a look at what is not synced")


# --- snapshots and compaction ---


def test_t20_snapshots_and_compaction_lose_nothing() -> None:
    """What a snapshot covers is synced before it; a compacted log is synced before it takes its place, and so is the
    name.
    """

    def work(run: Run) -> None:
        store = run.open()
        for _ in range(2):
            run.commit(store, large=6000)
            run.commit(store)
            run.tidy(store, "snapshot")
        run.commit(store)
        run.meanwhile(lambda: run.commit(store))
        run.tidy(store, "compact")

    recording = told(work)
    lose_power(recording, judge_story(recording), title="snapshots and compaction", states=500)


def test_t20_a_short_write_that_is_cut_back_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cut is durable before anything is written there again."""

    def work(run: Run) -> None:
        store = run.open()
        run.commit(store)
        real = files.File.write
        monkeypatch.setattr(files.File, "write", lambda self, data, offset: real(self, data[:2000], offset) and 0)
        with pytest.raises(StoreUnavailable):
            run.commit(store, large=6000)
        monkeypatch.setattr(files.File, "write", real)
        run.give_up()
        last = [event for event in run.system.events if not isinstance(event, Mark)][-2:]
        assert [type(event) for event in last] == [Cut, Synced], "the cut is synced before anything else happens"
        run.commit(store)

    recording = told(work)
    lose_power(recording, judge_story(recording), title="a short write", states=400)


# --- stores that are made ---


def test_t20_a_store_below_directories_that_it_made_is_found_again() -> None:
    """The names above it are durable, whoever made them."""

    def work(run: Run) -> None:
        store = run.open()
        run.commit(store, A)

    for change in (None, *range(1, 40)):

        def with_a_maker_that_dies(run: Run, change: int | None = change) -> None:
            if change is not None:
                with suppress(StoreNotFound):
                    dying_before(run, "maker", change, lambda: open_store(run.path, run.options))
            with run.acting_as("second"):
                work(run)

        recording = told(with_a_maker_that_dies)
        title = f"a store whose maker died before change {change}"
        lose_power(recording, judge_story(recording), title=title, states=30)
