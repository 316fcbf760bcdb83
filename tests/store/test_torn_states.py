"""What comes of a state in memory whose change is broken off: by an interrupt, for want of memory, by a failing read.

Each was found by a review of the commit path. The document is read again from disk, and nobody sees what was half done.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.store.support import WF, TestedStore, breaking, change, directory_store, putting, system_calls
from waypost import clock
from waypost.codec import bodies
from waypost.errors import DocumentDamaged, DocumentTooLarge, StoreUnavailable
from waypost.store import DocumentId, JointChange
from waypost.store.contract import CHECKPOINT
from waypost.store.directory import document, state
from waypost.store.directory.recent import Recent
from waypost.store.views import Transaction, View


@pytest.fixture
def here(tmp_path: Path) -> Iterator[TestedStore]:
    store = directory_store(tmp_path / "s")
    yield store
    store.close()


@pytest.fixture
def other(tmp_path: Path, here: TestedStore) -> Iterator[TestedStore]:
    store = directory_store(tmp_path / "s")
    yield store
    store.close()


def put(store: TestedStore, **values: bytes) -> None:
    store.submit(putting(**values)).result()


def held(view: View | None) -> dict[str, bytes | None]:
    assert view is not None
    return {key: view.get(key) for key in view.keys()}


def amiss(store: TestedStore) -> list[str]:
    return [found.text for found in store.verify().findings if found.severity != "note"]


@pytest.mark.parametrize(("place", "name"), [(bodies, "read_commit"), (Recent, "note"), (state, "Undecoded")])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_interrupted_read_shows_no_other_past(
    here: TestedStore, other: TestedStore, place: Any, name: str, at: int
) -> None:
    """Commits that were laid over when it came are not laid over twice: earlier versions are what they were."""
    put(here, x=b"x1", y=b"y1")
    other.view(WF)
    put(here, x=b"x2")
    put(here, y=b"y3")
    put(here, x=b"x4")
    with breaking(place, name, at, KeyboardInterrupt):
        try:
            other.view(WF)
        except KeyboardInterrupt:
            pass
    assert held(other.view(WF)) == {"x": b"x4", "y": b"y3"}
    for version in (1, 2, 3):
        assert held(other.view_at(WF, version)) == held(here.view_at(WF, version))


def test_an_own_commit_is_not_stale_behind_an_interrupt(here: TestedStore, other: TestedStore) -> None:
    """What this process put behind commits of others goes with these, and hides nothing that it puts later."""
    put(here, k=b"0", j=b"0", i=b"0")
    put(other, i=b"1")
    put(here, j=b"1")
    put(other, k=b"own and old")  # behind a commit of another that is not decoded
    with breaking(state, "Undecoded", 1, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        other.view(WF)
    put(other, k=b"own and new")
    put(here, j=b"2")
    put(other, i=b"2")
    seen: list[bytes | None] = []

    def work(tx: Transaction) -> None:
        seen.append(tx.get("k"))
        tx.put("k", b"last")

    other.submit(change(WF, work)).result()
    assert seen == [b"own and new"] and amiss(here) == []


@pytest.mark.parametrize("at", range(1, 9))
def test_a_snapshot_that_memory_runs_out_for_leaves_every_part(
    here: TestedStore, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`stand_on` is broken off at each name it sets: what was laid over the snapshot before is still there."""
    for number in range(100):
        put(here, **{f"k{number % 7}": b"%d" % number})
    expected = held(here.view(WF))
    left = iter(range(at, -1, -1))

    def stand_on(self: state.DocumentState, *given: Any) -> bool:
        def setting(each: state.DocumentState, name: str, value: object) -> None:
            if each is self and next(left, 1) == 0:
                raise MemoryError
            object.__setattr__(each, name, value)

        monkeypatch.setattr(state.DocumentState, "__setattr__", setting, raising=False)
        try:
            return real(self, *given)
        finally:
            monkeypatch.delattr(state.DocumentState, "__setattr__")

    real = state.DocumentState.stand_on
    with monkeypatch.context() as patch:
        patch.setattr(state.DocumentState, "stand_on", stand_on)
        try:
            here.tidy(WF, "snapshot")
        except MemoryError:
            pass
    assert held(here.view(WF)) == expected
    put(here, k1=b"more")
    assert held(here.view(WF)) == {**expected, "k1": b"more"} and amiss(here) == []


def test_a_work_that_memory_runs_out_in_commits_nothing_of_its_batch(
    here: TestedStore, other: TestedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work's own failure would leave the state half changed for the others, which are not committed on it."""
    put(here, x=b"1", y=b"1")
    other.view(WF)
    put(here, x=b"2")
    put(here, y=b"2")
    put(other, z=b"1")

    def reads(tx: Transaction) -> None:
        with breaking(Recent, "note", 2, MemoryError):
            tx.get("x")

    def adds(tx: Transaction) -> None:
        tx.put("x", (tx.get("x") or b"") + b"+")

    opened = other._document(WF)
    tickets = [opened.submit(change(WF, work), None) for work in (reads, adds)]
    for ticket in tickets:
        with pytest.raises(MemoryError):
            ticket.result()
    assert held(other.view(WF)) == {"x": b"2", "y": b"2", "z": b"1"} == held(here.view(WF))
    other.submit(change(WF, adds)).result()
    assert held(here.view(WF))["x"] == b"2+" and amiss(here) == []


@pytest.mark.parametrize("key", [CHECKPOINT, "k0500"])
def test_a_clearing_commit_that_cannot_read_what_it_hides_is_not_made(here: TestedStore, key: str) -> None:
    """A block of the snapshot is unreadable: the commit is refused before a write, and the next is sound."""
    for number in range(130):
        values = {f"k{number * 10 + each:04}": os.urandom(400).hex().encode() for each in range(10)}
        put(here, **values, **{f"{chr(97 + number % 26)}{number}": b"x" * 400})
    here.close()
    store = directory_store(here.location, max_memory_usage=16)
    base = store._document(WF).state_now().base
    (row,) = [row for row, first in enumerate(base.body.keys) if first <= key][-1:]
    bad = base.offset(row)

    def fault(name: str, _: int, given: tuple[Any, ...]) -> None:
        if name == "pread" and given[2] <= bad < given[2] + given[1] and given[1] != 4096:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def clears(tx: Transaction) -> None:
        tx.clear()
        tx.put("only", b"1")

    before = store._document(WF).state_now().standing.version
    with system_calls() as calls:
        calls.fault = fault
        with pytest.raises(StoreUnavailable) as caught:
            store.submit(change(WF, clears)).result()
        assert "outcome" not in caught.value.details
        put(store, next=b"acknowledged")
    assert store.view(WF).version == before + 1 and store.view(WF).get("next") == b"acknowledged"
    reader = directory_store(here.location, read_only=True)
    assert reader.view(WF).version == before + 1 and reader.view(WF).get("next") == b"acknowledged"
    assert amiss(store) == []
    reader.close()
    store.close()


def test_what_fails_behind_the_write_is_of_an_unknown_outcome(
    here: TestedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frame is in the log: the document is read again, with it, and the next commit stands behind it."""
    put(here, a=b"1")

    def fails(*_: object) -> None:
        raise StoreUnavailable("the disk does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(document.Document, "note_made", fails)
        with pytest.raises(StoreUnavailable) as caught:
            put(here, b=b"2")
    assert caught.value.details["outcome"] == "unknown"
    put(here, c=b"3")
    assert held(here.view(WF)) == {"a": b"1", "b": b"2", "c": b"3"} and here.view(WF).version == 3
    assert amiss(here) == []


def test_of_a_batch_that_is_done_one_by_one_each_is_told_what_came_of_it(tmp_path: Path) -> None:
    """One change is too large, one the disk refuses: what was committed before is synced and acknowledged."""
    store = directory_store(tmp_path / "s", max_file_size=1, enabled=False)
    put(store, a=b"0")
    opened = store._document(WF)
    large = {"large": os.urandom(3 << 20)}
    tickets = [opened.submit(each, None) for each in (putting(one=b"1"), putting(**large), putting(two=b"2"))]
    refused: list[int] = []

    def fault(name: str, _: int, given: tuple[Any, ...]) -> None:
        if name == "pwrite" and b"two" in bytes(given[1]):
            refused.append(len(calls.trace))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with system_calls() as calls:
        calls.fault = fault
        assert tickets[0].result().version == 2
        with pytest.raises(DocumentTooLarge):
            tickets[1].result()
        with pytest.raises(StoreUnavailable):
            tickets[2].result()
        assert refused and "fdatasync" in [name for name, _, _ in calls.trace[: refused[0]]]
    assert held(store.view(WF)) == {"a": b"0", "one": b"1"}
    store.close()


def test_a_compaction_gives_the_old_file_back(here: TestedStore) -> None:
    """No descriptor of it stays open, also in the process whose commit made its last snapshot due."""
    for number in range(130):
        put(here, **{f"k{number % 7}": os.urandom(3000)})
    here.tidy(WF, "snapshot")
    assert here.tidy(WF, "compact")
    put(here, z=b"1")
    here.view(WF)
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    names = [os.readlink(link) for link in links if os.path.islink(link)]
    assert not [name for name in names if name.startswith(here.location) and name.endswith("(deleted)")]


V = DocumentId("workflow", "v")


def putting_jointly(store: TestedStore) -> None:
    """Clear one workflow and change another, in one commit."""
    joint = store.begin()
    cleared = joint.document(WF)
    cleared.clear()
    cleared.put("only", b"new")
    joint.document(V).put("x", b"joint")
    store.commit(joint, JointChange(clock.new_id("op"), "test"))


def test_a_joint_commit_that_cannot_read_what_it_hides_is_not_decided(tmp_path: Path) -> None:
    """Neither workflow is changed, and no decision is left."""
    store = directory_store(tmp_path / "s")
    for number in range(130):
        put(store, **{f"k{number}": os.urandom(700)})
    store.submit(change(V, lambda tx: tx.put("x", b"1"))).result()
    store.close()
    store = directory_store(tmp_path / "s")
    base = store._document(WF).state_now().base
    (log,) = tmp_path.glob("s/workflows/wf.*")
    with log.open("r+b") as file:
        file.seek(base.offset(0) + 9)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0xFF]))
    store._context.cache.clear()
    with pytest.raises(DocumentDamaged):
        putting_jointly(store)
    assert held(store.view(V)) == {"x": b"1"} and not os.listdir(tmp_path / "s" / "transactions")
    store.close()


@pytest.mark.parametrize("error", [StoreUnavailable, DocumentDamaged])
def test_what_was_decided_has_happened_whatever_fails_behind_it(
    here: TestedStore, error: type[StoreUnavailable | DocumentDamaged], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame that could not be written or taken in is there by the decision."""
    put(here, a=b"1")
    here.submit(change(V, lambda tx: tx.put("x", b"1"))).result()

    def fails(*_: object) -> None:
        raise error("cannot be read")

    with monkeypatch.context() as patch:
        patch.setattr(document.Document, "note_made", fails)
        putting_jointly(here)
    assert (held(here.view(WF)), held(here.view(V))) == ({"only": b"new"}, {"x": b"joint"})
    assert amiss(here) == []
