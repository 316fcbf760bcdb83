"""What the write-ahead log and commits over several documents promise, wherever a process is killed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.crash.oracle import Story, key_of, open_store
from tests.crash.recording import Killed, Recorder
from tests.crash.simulated import BASE, Machine, Tree, running_on
from tests.crash.stories import OTHER, PLAIN, Run
from tests.store.support import WF, change, directory_store, putting, system_calls
from tests.totals import RING, Totals
from waypost.store import DocumentId

COMMITS = 6
CHANGES = frozenset({"pwrite", "ftruncate", "fdatasync", "fsync", "rename", "link", "unlink", "mkdir", "open", "flock"})


def parts_in(path: Path | str) -> list[int]:
    """Which of the numbered parts are there."""
    store = directory_store(path)
    view = store.view(WF)
    found = [number for number in range(1, COMMITS + 1) if view.get(key_of(number)) is not None]
    assert view.version == len(found)
    store.close()
    return found


class Child(NamedTuple):
    acknowledged: int
    was_killed: bool


def commit_in_child(path: Path, call: int) -> Child:
    """Commit one after the other in a process that is killed before its n-th call that changes or locks anything."""
    receiving, sending = os.pipe()
    pid = os.fork()
    if pid == 0:
        seen = count(1)

        def die(name: str, _count: int, _args: tuple[Any, ...]) -> None:
            if name in CHANGES and next(seen) == call:
                os.kill(os.getpid(), signal.SIGKILL)

        with system_calls() as calls:
            calls.fault = die
            store = directory_store(path)
            for number in range(1, COMMITS + 1):
                store.submit(putting(**{key_of(number): b"x" * 2000})).result()
                os.write(sending, b".")
            store.close()
        os._exit(0)
    os.close(sending)
    with open(receiving, "rb") as told:
        acknowledged = len(told.read())
    return Child(acknowledged, os.WIFSIGNALED(os.waitpid(pid, 0)[1]))


def test_trap_03_killed_anywhere_reopening_gives_what_was_acknowledged_and_at_most_one_more(
    tmp_path: Path, totals: Totals
) -> None:
    """SIGKILL before each call, until the work completes: no acknowledged commit is missing, and of those that were not
    only the one under way may be there.
    """
    for call in count(1):
        path = tmp_path / f"{call}"
        child = commit_in_child(path, call)
        found = parts_in(path)
        assert found == list(range(1, len(found) + 1)), f"call {call}"
        assert child.acknowledged <= len(found) <= child.acknowledged + 1, f"call {call}"
        shutil.rmtree(path)
        if not child.was_killed:
            break
    assert child.acknowledged == COMMITS
    assert call > 4 * COMMITS
    totals("kill points", call)


def test_trap_03_the_log_is_the_only_file_that_a_state_is_in(tmp_path: Path) -> None:
    """After a kill without closing, the log of the workflow and the FORMAT file alone give everything: nothing else is
    written beside it that would have to be replayed.
    """
    child = commit_in_child(tmp_path / "s", 10**9)
    assert child == Child(COMMITS, False)
    copy = tmp_path / "copy"
    (copy / "workflows").mkdir(parents=True)
    shutil.copy(tmp_path / "s" / "FORMAT", copy)
    shutil.copy(tmp_path / "s" / "workflows" / "wf.state", copy / "workflows")
    assert parts_in(copy) == list(range(1, COMMITS + 1))


@pytest.mark.parametrize(("enable_wal", "syncs"), [(True, ["pwrite", "fdatasync"]), (False, ["pwrite"])])
def test_trap_03_with_the_log_enabled_a_commit_is_acknowledged_after_its_sync(
    tmp_path: Path, enable_wal: bool, syncs: list[str]
) -> None:
    """`enable_wal` decides whether the acknowledgement waits for the sync; the write is the same."""
    store = directory_store(tmp_path / "s", enable_wal=enable_wal, sync_frequency=3_600_000)
    store.submit(putting(a=b"1")).result()
    with system_calls() as calls:
        store.submit(putting(a=b"2")).result()
        assert [name for name, _, _ in calls.trace if name in ("pwrite", "fdatasync", "fsync")] == syncs
    store.close()


# --- several documents, cut at every call, also within recovery ---

ALL = (WF, OTHER, DocumentId("session", "a session"))


class Cut(NamedTuple):
    """A machine on which a process died, and what it had said."""

    tree: Tree
    story: Story
    promised: set[int]


def _commit_to_all(run: Run) -> None:
    store = run.open()
    run.commit(store, WF)
    run.commit(store, *ALL)
    run.commit(store, WF, OTHER)
    run.close(store)


def _go_on(run: Run) -> None:
    store = run.open()
    run.look(store, *ALL)
    store.submit(change(OTHER, lambda tx: tx.delete("nothing"))).result()
    run.settle(store)
    run.close(store)


def killed_at(tree: Tree, change_number: int, work: Callable[[Run], None], story: Story) -> Cut | None:
    """Do work in a process that dies before its n-th change; None when it makes fewer."""
    system = Recorder(Machine(tree.copy()))
    system.die_before = change_number
    run = Run(system, PLAIN, BASE, story)
    with running_on(system):
        try:
            work(run)
            return None
        except Killed:
            system.die_before = None
            system.kill_all()
    marks = [(event.kind, event.number) for event in system.events if hasattr(event, "kind")]
    return Cut(system.tree, run.story, {number for kind, number in marks if kind == "promised"})


def halves(tree: Tree, story: Story) -> set[int]:
    """The attempts that are there, each of them in all of its documents; fails where one is there in part."""
    with running_on(Machine(tree.copy())):
        found: set[int] = set()
        for read_only in (True, False):
            found = _halves(story, read_only)
    return found


def _halves(story: Story, read_only: bool) -> set[int]:
    store = open_store(f"{BASE}/above/store", PLAIN, read_only=read_only)
    seen = {document: story.present(document, store.view(document)) for document in ALL}
    store.close()
    for number, changes in story.attempts.items():
        assert len({number in seen[document] for document in changes}) == 1, (number, seen)
    return set().union(*seen.values())


def cuts(tree: Tree, work: Callable[[Run], None], story: Callable[[], Story], step: int = 1) -> Iterator[Cut]:
    for point in count(1, step):
        cut = killed_at(tree, point, work, story())
        if cut is None:
            return
        yield cut


@pytest.mark.usefixtures("quiet")
def test_trap_06_d12_cut_at_every_call_also_within_recovery_it_is_all_there_or_none(totals: Totals) -> None:
    """A commit over three documents, and one over two, killed before each change; and again at each change of whoever
    comes next, until that one completes. What was promised stays, and what is there is there in all documents.
    """
    points, deeper = 0, 0
    for cut in cuts(Tree(), _commit_to_all, Story):
        points += 1
        if not cut.promised:
            continue  # there need not be a store yet
        before = halves(cut.tree, cut.story)
        assert cut.promised <= before | {0}
        for again in cuts(cut.tree, _go_on, lambda cut=cut: cut.story, 1 if RING == "N" else 2):
            deeper += 1
            assert before <= halves(again.tree, cut.story), "what was seen once is not taken back"
    assert points > 25
    assert deeper > 100
    totals("kill points", points + deeper)


@pytest.mark.usefixtures("quiet")
def test_trap_06_the_check_finds_a_half() -> None:
    """A transaction of which one log has a part and another has not is told."""
    tree, story = Tree(), Story()
    run = Run(Recorder(Machine(tree)), PLAIN, BASE, story)
    with running_on(run.system):
        store = run.open()
        run.commit(store, WF)
        store.close()
    story.attempts[1] = {document: {key_of(1): b"x"} for document in (WF, OTHER)}
    with pytest.raises(AssertionError, match="workflow"):
        halves(run.system.tree, story)
