"""Documents that arrive with their past: whole or not at all, whatever is in the way, and what they are then."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.store.support import TestedStore, change, directory_store, failing, system_calls
from waypost import clock
from waypost.errors import DocumentDamaged, StoreUnavailable
from waypost.store import Change, ContentLost, DocumentId, JointChange, Past, Reception, Store, View
from waypost.store.contract import CHECKPOINT
from waypost.store.directory import decisions, receiving, upkeep
from waypost.store.memory import MemoryStore

A, B = DocumentId("workflow", "a"), DocumentId("session", "b")
LARGE = os.urandom(9000)


def putting(document: DocumentId, key: str, value: bytes) -> Change:
    return change(document, lambda tx: tx.put(key, value))


@pytest.fixture
def source() -> MemoryStore:
    store = MemoryStore()
    for document in (A, B):
        for number in range(5):
            store.submit(putting(document, f"k{number % 2}", LARGE * number)).result()
        store.submit(change(document, lambda tx: (tx.clear(), tx.put("last", b"1")))).result()
    return store


@pytest.fixture(params=["memory", "directory"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store: Store = MemoryStore() if request.param == "memory" else opened(tmp_path)
    yield store
    store.close()


def opened(path: Path) -> TestedStore:
    return directory_store(path / "store", chunk_size=4096)


def unsettled(path: Path) -> TestedStore:
    """A store that carries out nothing of what was decided before it is asked to, or closed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upkeep.Upkeep, "ask_to_settle", lambda _: None)
        store = opened(path)
    store._context.decisions.when_pending = lambda: None
    return store


def take(store: Store, source: Store, *documents: DocumentId, work: Change | None = None) -> Reception:
    received = store.receive()
    for document in documents or (A, B):
        received.take(document, source.past(document), work)
    return received


def arrive(store: Store, received: Reception) -> bool:
    return store.commit(store.begin(), JointChange(clock.new_id("op"), "test"), received) is not None


def here(store: Store) -> list[DocumentId]:
    return [each for each in (A, B) if store.view(each).version]


def same(store: Store, source: Store, document: DocumentId) -> bool:
    one, other = store.view(document), source.view(document)
    return (one.commit_id, one.checksum, one.version) == (other.commit_id, other.checksum, other.version)


def imports(store: TestedStore) -> list[str]:
    """What is in `temp` of documents that are to arrive."""
    return [name for name in store.layout.folder("temp").names() if name.endswith(decisions.IMPORT)]


# --- over both stores ---


def test_what_was_taken_in_is_not_seen_before_it_arrives(target: Store, source: MemoryStore) -> None:
    """And then all of it is, with its versions, ids and sums; what did not arrive is given up."""
    received = take(target, source)
    assert here(target) == []
    assert arrive(target, received)
    received.close()
    assert all(same(target, source, each) for each in (A, B))
    given_up = take(target, source, DocumentId("workflow", "other")._replace(id="a"))
    given_up.close()
    assert target.past(A).commits


def test_what_came_to_be_meanwhile_is_a_conflict(target: Store, source: MemoryStore) -> None:
    received = take(target, source)
    target.submit(putting(A, "x", b"mine")).result()
    assert not arrive(target, received)
    received.close()
    assert here(target) == [A] and target.view(A).get("x") == b"mine"


def test_it_arrives_with_what_is_staged_elsewhere_or_not_at_all(target: Store, source: MemoryStore) -> None:
    third = DocumentId("workflow", "third")
    for beaten in (True, False):
        received = take(target, source)
        joint = target.begin()
        joint.document(third).get("x")
        joint.document(third).put("y", b"1")
        if beaten:
            target.submit(putting(third, "x", b"faster")).result()
        done = target.commit(joint, JointChange(clock.new_id("op"), "test"), received)
        received.close()
        assert (done is None, here(target)) == (beaten, [] if beaten else [A, B])
    assert target.view(third).get("y") == b"1"


def test_a_change_rides_behind_the_past(target: Store, source: MemoryStore) -> None:
    """Its work sees the newest version, and what it stages is one commit more."""
    work = Change(A, lambda tx: tx.put("seen", tx.get("last") or b""), "op", "arrive")
    received = take(target, source, A, work=work)
    assert arrive(target, received)
    received.close()
    newest, before, *_ = target.past(A).commits()
    assert (before.commit_id, newest.operation) == (source.view(A).commit_id, "arrive")
    assert target.view(A).get("seen") == b"1"
    assert target.view(A).operation("op")


def test_it_can_have_another_id(target: Store, source: MemoryStore) -> None:
    received = target.receive()
    received.take(DocumentId("workflow", "Other Ünder"), source.past(A), None)
    assert arrive(target, received)
    received.close()
    assert target.view(DocumentId("workflow", "Other Ünder")).commit_id == source.view(A).commit_id


class _Forged:
    """A past that tells one commit otherwise than it was."""

    def __init__(self, past: Past, forge: Callable[[Any], Any]) -> None:
        self._past = past
        self._forge = forge

    def __getattr__(self, name: str) -> Any:
        return getattr(self._past, name)

    def commits(self, before: int | None = None, *, oldest_first: bool = False) -> Iterator[Any]:
        for each in self._past.commits(before, oldest_first=oldest_first):
            yield self._forge(each) if each.version == 3 else each


@pytest.mark.parametrize(
    "forged",
    [
        {"commit_id": bytes(32)},
        {"checksum": bytes(32)},
        {"size_bytes": 3},
        {"operation_id": "another"},
        {"operation": "another"},
        {"session": "s"},
        {"projection": ["x"]},
        {"removed": ["k1"]},
        {"version": 4},
        {"puts": {"k0": 3}, "read": lambda _: b"abc", "digests": {}},
    ],
    ids=lambda forged: next(iter(forged)),
)
def test_a_past_that_is_not_what_its_ids_and_sums_say_is_refused(
    target: Store, source: MemoryStore, forged: dict[str, Any]
) -> None:
    received = target.receive()
    past: Any = _Forged(source.past(A), lambda commit: commit._replace(**forged))
    with pytest.raises(DocumentDamaged):
        received.take(A, past, None)
    received.close()
    assert here(target) == []


# --- in a directory ---


def test_d12_a_decision_comes_after_all_that_it_names_is_durable(tmp_path: Path, source: MemoryStore) -> None:
    """Each log, the directory that holds them and the one above it are synced before the decision has its name."""
    store = opened(tmp_path)
    with system_calls() as calls:
        received = take(store, source)
        synced = calls.count("fsync")
        assert synced == 2, "each log"
        arrive(store, received)
        names = [name for name, *_ in calls.trace]
        decided = names.index("rename")
        assert names[:decided].count("fsync") == synced + 3  # the two directories, and the decision itself
        assert "fsync" in names[decided:]
    received.close()
    store.close()


def test_c05_what_a_living_process_takes_in_is_left_alone(tmp_path: Path, source: MemoryStore) -> None:
    store = opened(tmp_path)
    received = take(store, source)
    assert len(imports(store)) == 1
    opened(tmp_path).close()
    assert len(imports(store)) == 1 and arrive(store, received)
    received.close()
    store.close()
    store = opened(tmp_path)
    assert (here(store), imports(store)) == ([A, B], [])
    store.close()


def test_d14_what_a_dead_process_took_in_is_removed(tmp_path: Path) -> None:
    """By whoever opens the store for writing next, since no decision names it."""
    program = (
        "import os, sys; from pathlib import Path; from tests.store.test_receiving import *\n"
        "store, source = opened(Path(sys.argv[1])), MemoryStore()\n"
        "source.submit(putting(A, 'x', LARGE)).result()\n"
        "received = take(store, source, A); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, cwd=Path(__file__).parents[2])
    reader = directory_store(tmp_path / "store", read_only=True)
    assert here(reader) == [] and len(list((tmp_path / "store" / "temp").iterdir())) == 1
    reader.close()
    store = opened(tmp_path)
    assert (here(store), imports(store)) == ([], [])
    store.close()


def test_d12_what_was_decided_is_seen_before_it_has_its_place(tmp_path: Path, source: MemoryStore) -> None:
    """By this process, by others, by readers; whoever writes to it puts it in place."""
    store = unsettled(tmp_path)
    received = take(store, source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decisions.Whole, "put_in_place", cannot)
        assert arrive(store, received)
        received.close()
        reader = directory_store(tmp_path / "store", read_only=True)
        for each in (store, reader):
            assert all(same(each, source, one) for one in (A, B))
            assert [*each.documents("workflow"), *each.documents("session")] == ["a", "b"]
            assert [one.commit_id for one in each.past(A).commits()] == [
                one.commit_id for one in source.past(A).commits()
            ]
        reader.close()
    store.submit(putting(A, "x", b"later")).result()
    assert (store.view(A).get("x"), store.view(A).version) == (b"later", source.view(A).version + 1)
    store.close()
    store = opened(tmp_path)
    assert store.view(A).get("x") == b"later" and same(store, source, B)
    assert store.verify().sound and imports(store) == []
    store.close()


def cannot(*_: object) -> None:
    raise StoreUnavailable("it cannot be put there")


def test_a_checkpoint_of_a_workflow_that_was_only_decided_on_is_read(tmp_path: Path) -> None:
    """It was looked for in the log alone, where it is still to be written, and said to be damaged."""
    source = MemoryStore()
    source.submit(putting(A, f"{CHECKPOINT}a@c1", b"\xc0")).result()
    source.submit(putting(A, "x", b"after")).result()
    store = unsettled(tmp_path)
    received = take(store, source, A)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decisions.Whole, "put_in_place", cannot)
        assert arrive(store, received)
        received.close()
        reader = directory_store(tmp_path / "store", read_only=True)
        for each in (store, reader):
            found = each.checkpoint(A, "a@c1")
            assert found is not None and found.get("x") is None
        reader.close()
    store.close()


def test_what_is_appended_before_the_decision_goes_is_no_damage(tmp_path: Path, source: MemoryStore) -> None:
    """The log grows under its first name, too, which the decision still names."""
    store = unsettled(tmp_path)
    received = take(store, source)
    assert arrive(store, received)
    received.close()
    store.submit(putting(A, "x", LARGE)).result()
    assert store.view(A).get("x") == LARGE
    reader = directory_store(tmp_path / "store", read_only=True)
    assert reader.view(A).get("x") == LARGE
    reader.close()
    store.close()


def test_a_log_that_was_only_written_ahead_gives_way(tmp_path: Path, source: MemoryStore) -> None:
    """There is no document before its first commit; what was staged for one has to be staged again."""
    store = opened(tmp_path)
    content = store.stage(A, "big", 16 << 20, lambda size: (os.urandom(size) for _ in range((16 << 20) // size)))
    assert (tmp_path / "store" / "workflows" / "a.state").stat().st_size
    received = take(store, source)
    assert arrive(store, received)
    received.close()
    with pytest.raises(ContentLost):
        store.submit(change(A, lambda tx: tx.put("big", content))).result()
    assert same(store, source, A) and store.verify().sound
    store.close()


def test_a_restore_in_between_gives_up_what_was_taken_in(tmp_path: Path, source: MemoryStore) -> None:
    store = opened(tmp_path)
    store.submit(putting(DocumentId("workflow", "x"), "x", b"1")).result()
    store.backup(str(tmp_path / "backup"))
    received = take(store, source)
    store.restore_backup(str(tmp_path / "backup"))
    with pytest.raises(ContentLost):
        arrive(store, received)
    received.close()
    assert here(store) == []
    store.close()


def test_a_backup_holds_what_was_decided_to_arrive(tmp_path: Path, source: MemoryStore) -> None:
    store = unsettled(tmp_path)
    received = take(store, source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decisions.Whole, "put_in_place", cannot)
        assert arrive(store, received)
        received.close()
        store.backup(str(tmp_path / "backup"))
    store.close()
    copy = directory_store(tmp_path / "backup", read_only=True)
    assert all(same(copy, source, each) for each in (A, B)) and copy.verify().sound
    copy.close()


def test_d01_a_log_whose_sync_fails_never_arrives(tmp_path: Path, source: MemoryStore) -> None:
    store = opened(tmp_path)
    with system_calls() as calls:
        calls.fault = failing("fsync", 1)
        received = store.receive()
        with pytest.raises(StoreUnavailable):
            received.take(A, source.past(A), None)
        calls.fault = None
        received.close()
    assert (here(store), imports(store)) == ([], [])
    store.close()


def test_a_directory_that_another_takes_for_a_leftover_is_not_used(
    tmp_path: Path, source: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its making and its lock it may be swept; then another is made."""
    store = opened(tmp_path)
    swept: list[str] = []
    real = receiving.Directory.try_lock

    def swept_first(self: Any, **how: bool) -> bool:
        if not swept and self.path.endswith(decisions.IMPORT):
            swept.append(self.path)
            os.rmdir(self.path)
        return real(self, **how)

    monkeypatch.setattr(receiving.Directory, "try_lock", swept_first)
    received = take(store, source)
    assert swept and arrive(store, received)
    received.close()
    assert here(store) == [A, B]
    store.close()


def test_the_newest_version_is_read_without_reading_all_of_it(tmp_path: Path, source: MemoryStore) -> None:
    """What arrives has a snapshot at its end, which whoever opens it begins with."""
    store = opened(tmp_path)
    received = take(store, source)
    arrive(store, received)
    received.close()
    view: View = store.view(A)
    log: Any = store._document(A)._log
    assert view.version and log.base
    store.close()


def test_d12_who_puts_it_in_place_makes_sure_of_the_decision(tmp_path: Path, source: MemoryStore) -> None:
    """Another process finds a decision whose sync it knows nothing of: it is written again first."""
    store = unsettled(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decisions.Whole, "put_in_place", cannot)
        received = take(store, source)
        assert arrive(store, received)
        received.close()
        store.close()
    placed: list[int] = []
    with pytest.MonkeyPatch.context() as patch, system_calls() as calls:
        second = unsettled(tmp_path)
        real = decisions.Whole.put_in_place

        def counted(self: Any, *args: Any) -> None:
            placed.append(calls.count("rename"))
            real(self, *args)

        patch.setattr(decisions.Whole, "put_in_place", counted)
        second.submit(putting(A, "x", b"1")).result()
        assert placed == [1], "the decision was not written again before"
        second.close()


def test_d12_the_decision_is_gone_for_good_before_what_it_names(tmp_path: Path, source: MemoryStore) -> None:
    """Were its removal lost with the power, it would name what is not there any more."""
    store = unsettled(tmp_path)
    received = take(store, source)
    assert arrive(store, received)
    received.close()
    with system_calls() as calls:
        store._settle()
        names = [(name, where) for name, where, _ in calls.trace if name in ("unlink", "fsync", "rmdir")]
        gone = next(at for at, (name, _) in enumerate(names) if name == "unlink")
        assert [name for name, _ in names[gone : gone + 3]] == ["unlink", "fsync", "unlink"]
        assert names[-1][0] == "rmdir"
    assert imports(store) == []
    store.close()


def test_d02_the_name_of_a_log_is_durable_once_it_has_its_place(tmp_path: Path, source: MemoryStore) -> None:
    store = unsettled(tmp_path)
    with system_calls() as calls:
        received = take(store, source)
        assert arrive(store, received)
        names = [name for name, *_ in calls.trace if name in ("rename", "fsync")]
        assert names[-4:] == ["rename", "fsync", "rename", "fsync"]
        received.close()
    store.close()


def test_what_was_carried_out_while_it_was_looked_for_is_no_damage(tmp_path: Path, source: MemoryStore) -> None:
    """A decision that is remembered, and was carried out by another since, has its logs in place."""
    store = unsettled(tmp_path)
    received = take(store, source)
    assert arrive(store, received)
    received.close()
    reader = directory_store(tmp_path / "store", read_only=True)
    pending = reader._context.decisions.pending()
    store.close()  # which carries it out, and removes what it names
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader._context.decisions, "pending", lambda: pending)
        assert same(reader, source, A)
    reader.close()


@pytest.mark.parametrize("is_settled", [False, True])
def test_c10_an_interrupt_behind_its_arrival_does_not_take_a_log_away(
    tmp_path: Path, source: MemoryStore, monkeypatch: pytest.MonkeyPatch, is_settled: bool
) -> None:
    """A log that has its place keeps it when its writer is interrupted right behind that, be it that others have
    committed to it and removed the decision by then.
    """
    store, other = unsettled(tmp_path), unsettled(tmp_path)
    real = decisions.Decisions._place

    def place(self: decisions.Decisions, *what: Any) -> None:
        real(self, *what)
        monkeypatch.undo()
        if is_settled:
            other.submit(putting(A, "new", b"1")).result()
            other._settle()
        raise KeyboardInterrupt

    monkeypatch.setattr(decisions.Decisions, "_place", place)
    received = take(store, source, A)
    with pytest.raises(KeyboardInterrupt):
        arrive(store, received)
    assert os.listdir(tmp_path / "store" / "workflows") == ["a.state"]
    received.close()
    store.close()
    other.close()
    reader = directory_store(tmp_path / "store", read_only=True)
    assert reader.view(A).version == source.view(A).version + is_settled
    reader.close()


def _placed_in_vain(path: Path, source: MemoryStore) -> TestedStore:
    """A store whose logs have arrived, and the sync of their names has failed; what was decided is still pending."""
    store = unsettled(path)
    received = take(store, source, A)
    with pytest.MonkeyPatch.context() as patch:
        real, syncs = decisions.Directory.sync, []

        def failing_sync(self: Any) -> None:
            if self.path.endswith("workflows"):
                syncs.append(self.path)
                raise StoreUnavailable("it cannot be synced")
            real(self)

        patch.setattr(decisions.Directory, "sync", failing_sync)
        assert arrive(store, received)
        assert syncs
    received.close()
    return store


def test_d04_a_name_whose_sync_failed_is_given_anew_before_the_decision_goes(
    tmp_path: Path, source: MemoryStore
) -> None:
    """A later sync would not cover it, and without the decision the log could be gone with the power."""
    store = _placed_in_vain(tmp_path, source)
    store.submit(putting(A, "x", b"1")).result()
    with system_calls() as calls:
        store._settle()
        names = [name for name, *_ in calls.trace if name in ("unlink", "link", "rename", "fsync")]
        assert names[:5] == ["unlink", "unlink", "link", "rename", "fsync"], names
    assert store.view(A).get("x") == b"1" and imports(store) == []
    store.close()


def test_d13_a_log_that_was_written_anew_since_keeps_its_place(tmp_path: Path, source: MemoryStore) -> None:
    """What arrived is not put over what a compaction has made of it."""
    store = _placed_in_vain(tmp_path, source)
    for number in range(3):
        store.submit(putting(A, "x", LARGE * number)).result()
    assert store.tidy(A, "compact")
    store.submit(putting(A, "y", b"1")).result()
    store._settle()
    assert (store.view(A).get("x"), store.view(A).get("y")) == (LARGE * 2, b"1")
    store.close()


def test_d04_what_was_added_to_a_log_that_lost_its_place_is_read(tmp_path: Path, source: MemoryStore) -> None:
    """It stands where the log was made, as long as the decision does."""
    store = _placed_in_vain(tmp_path, source)
    store.submit(putting(A, "x", b"1")).result()
    (tmp_path / "store" / "workflows" / "a.state").unlink()  # as after a loss of power
    reader = directory_store(tmp_path / "store", read_only=True)
    assert reader.view(A).get("x") == b"1"
    reader.close()
    second = opened(tmp_path)
    second.submit(putting(A, "y", b"2")).result()
    assert (second.view(A).get("x"), second.view(A).get("y")) == (b"1", b"2")
    second.close()
    store.close()
