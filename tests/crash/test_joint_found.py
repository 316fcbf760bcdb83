"""Each failure of commits over several documents that the crash tests have found, with the smallest input that shows
it.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.crash.test_power_found import die
from tests.store.support import SystemCalls, TestedStore, change, directory_store, failing, system_calls
from tests.store.test_checkpoints import without_history
from waypost.codec.frame import MAGIC
from waypost.errors import StorePoisoned
from waypost.store import DocumentId, JointChange, Receipt
from waypost.store.directory import joint
from waypost.store.directory.upkeep import Upkeep

A, B = DocumentId("workflow", "a"), DocumentId("workflow", "b")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is carried out but by a test that asks for it."""
    monkeypatch.setattr(Upkeep, "ask", lambda self, document: None)
    monkeypatch.setattr(Upkeep, "ask_to_settle", lambda self: None)
    return tmp_path / "store"


def log_of(path: Path, document: DocumentId) -> Path:
    return path / "workflows" / f"{document.id}.state"


def put(store: TestedStore, value: bytes, *documents: DocumentId) -> None:
    staged = store.begin()
    for document in documents:
        staged.document(document).put("x", value)
    assert store.commit(staged, JointChange(value.decode(), "test")) is not None


def x_of(store: TestedStore) -> list[bytes | None]:
    return [store.view(document).get("x") for document in (A, B)]


def is_sound(path: Path) -> bool:
    store = directory_store(path, read_only=True)
    try:
        return store.verify().sound
    finally:
        store.close()


def test_d07_three_bytes_of_a_magic_before_ones_are_a_torn_tail(path: Path) -> None:
    """What a power cut left of a frame is not taken for a frame of a newer release, whatever stands behind it."""
    store = directory_store(path)
    put(store, b"1", A)
    end = store._document(A)._log.end
    die(store)
    data = log_of(path, A).read_bytes()
    log_of(path, A).write_bytes(data[:end] + MAGIC[:3] + b"\xff" * 500)
    store = directory_store(path)
    assert store.view(A).get("x") == b"1"
    put(store, b"2", A)
    store.close()
    assert is_sound(path)


def test_d12_what_stands_behind_a_decided_frame_that_is_lost_is_shown_by_nobody(path: Path) -> None:
    """Of a decided frame and one behind it only the second reached the disk: it was never synced, so a reader must not
    show what the next writer clears away.
    """
    store = directory_store(path)
    put(store, b"1", A, B)
    put(store, b"2", A, B)
    log = store._document(A)._log
    start, end = log.synced, log.end
    store.submit(change(A, lambda tx: tx.put("y", b"lost"))).result()
    die(store)
    data = bytearray(log_of(path, A).read_bytes())
    data[start:end] = bytes(end - start)
    log_of(path, A).write_bytes(data)

    for read_only in (True, False):
        store = directory_store(path, read_only=read_only)
        assert x_of(store) == [b"2", b"2"]
        assert store.view(A).get("y") is None
        if not read_only:
            put(store, b"3", A)
            assert (store.view(A).get("y"), store.view(A).version) == (None, 3)
        store.close()
    assert is_sound(path)


def test_d12_a_new_log_that_holds_its_first_frame_only_gets_the_rest(path: Path) -> None:
    """A crash in the first write of a log that a transaction made leaves its first frame whole and the commit torn."""
    store = directory_store(path)
    put(store, b"1", A, B)
    first = store._document(A)._log.first(1 << 20)
    die(store)
    log_of(path, A).write_bytes(log_of(path, A).read_bytes()[: first.end + 50])
    for read_only in (True, False):
        store = directory_store(path, read_only=read_only)
        assert x_of(store) == [b"1", b"1"]
        store.close()
    assert directory_store(path, read_only=True).view(A).version == 1
    assert is_sound(path)


def test_d12_a_decision_is_durable_at_every_level(path: Path) -> None:
    """Where commits wait for no sync a decision does: a frame that is flushed by chance must not be there alone, and
    the decision stays until the logs are synced.
    """
    store = directory_store(path, enable_wal=False)
    put(store, b"1", A)
    with system_calls() as calls:
        put(store, b"2", A, B)
        names = [name for name, _, _ in calls.trace if name in ("fdatasync", "fsync", "rename")]
        assert names == ["fdatasync", "fsync", "fsync", "rename", "fsync"]  # the log and its name, the decision and its
        calls.trace.clear()
        store._settle()
        names = [name for name, _, _ in calls.trace if name in ("fdatasync", "unlink")]
        assert names == ["fdatasync", "fdatasync", "unlink"]
    store.close()


def _failing_syncs_of(calls: SystemCalls, store: TestedStore, document: DocumentId) -> None:
    descriptor = store._document(document)._log.file.descriptor

    def fault(name: str, _: int, args: tuple[object, ...]) -> None:
        if name == "fdatasync" and args[0] == descriptor:
            raise OSError(errno.EIO, "no")

    calls.fault = fault


def test_d04_a_transaction_stays_visible_when_a_log_of_it_cannot_be_synced(path: Path) -> None:
    """It is durable by its decision, so that a log that is poisoned later shows it all the same, also when another
    process has carried it out.
    """
    store, other = directory_store(path), directory_store(path)
    put(store, b"1", A, B)
    with system_calls() as calls:
        _failing_syncs_of(calls, store, A)
        store._settle()
        assert x_of(store) == [b"1", b"1"]
    with pytest.raises(StorePoisoned):
        put(store, b"2", A, B)
    other._settle()
    assert not list((path / "transactions").iterdir())
    assert x_of(store) == [b"1", b"1"]
    store.close()
    other.close()
    assert is_sound(path)


def test_d04_a_store_with_a_poisoned_log_and_a_decision_closes(path: Path) -> None:
    """Closing carries out what it can, and leaves the rest to whoever comes next."""
    store = directory_store(path)
    with system_calls() as calls:
        calls.fault = failing("fdatasync", 1)
        with pytest.raises(StorePoisoned):
            put(store, b"1", A)
    other = directory_store(path)
    put(other, b"2", A, B)
    store.close()
    other.close()
    assert is_sound(path)


def behind_a_decision(path: Path) -> TestedStore:
    """A store that knows a log as it was before another commit, and a decided frame behind that."""
    one, other = directory_store(path), directory_store(path)
    put(one, b"1", A)
    assert other.view(A).get("x") == b"1"
    put(one, b"2", A)
    put(one, b"3", A, B)
    assert one._context.decisions.pending()
    return other


def test_d12_a_change_without_effect_behind_a_decision_of_others_is_not_told_of_damage(path: Path) -> None:
    """Others have committed, and then decided over several documents, since its log was looked at: that does not reach
    to the decided frame, and is whole all the same.
    """
    other = behind_a_decision(path)
    assert other.submit(change(A, lambda tx: tx.get("x"))).result().data == b"3"


def test_d12_a_change_without_effect_sees_what_was_decided_and_is_in_no_log_yet(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever decided it was stopped before he wrote it: it has happened, and is carried out by who meets it."""
    one, other = directory_store(path), directory_store(path)
    put(one, b"1", A, B)
    assert other.view(A).get("x") == b"1"
    with monkeypatch.context() as patch:
        patch.setattr(joint, "_append", lambda composed, decided: None)
        patch.setattr(joint, "_acknowledge", lambda composed, context, decided: Receipt(0, changed=True))
        put(one, b"2", A, B)
    assert other.submit(change(A, lambda tx: tx.get("x"))).result().data == b"2"


def test_d12_checkpoints_are_written_behind_a_decision_of_others(path: Path) -> None:
    """As above, where a log is read for the checkpoints that others have made."""
    document = behind_a_decision(path)._document(A)
    assert list(document._checkpoints_in_log(["none"])) == []
    document = behind_a_decision(path.with_name("another"))._document(A)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document, "_is_at_hand", lambda version: False)
        rounds = document._rounds({1: ["first"], 3: ["third"]})
        assert [[(name, view.get("x")) for name, view in each] for each in rounds] == [
            [("first", b"1"), ("third", b"3")]
        ]


def test_d12_a_log_that_was_written_anew_since_a_decision_is_not_taken_to_lack_it(path: Path) -> None:
    """It is shorter than where the decided frame stood, and a change without effect is settled by one run."""
    store = directory_store(path)
    for _ in range(20):
        store.submit(change(A, lambda tx: tx.put("y", os.urandom(10_000)))).result()
    store.tidy(A, "snapshot")
    store.submit(change(A, lambda tx: tx.put("y", b""))).result()
    put(store, b"1", A, B)
    end = store._document(A)._log.end
    with pytest.MonkeyPatch.context() as patch:
        without_history(store, patch, A)
    store.view(A)
    assert store._document(A)._log.end < end
    assert store._context.decisions.pending()
    receipt = store.submit(change(A, lambda tx: tx.get("x"))).result()
    assert (receipt.data, receipt.counters.attempts) == (b"1", 1)
