"""Commits over several documents of a directory: all or none, whatever happens in between, and seen so by everybody.

What they promise in every store stands in `waypost.testing.joint`.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.store.support import SystemCalls, TestedStore, change, directory_store, failing, system_calls
from waypost import clock
from waypost.errors import DocumentDamaged, StoreUnavailable
from waypost.store import DocumentId, JointChange, Receipt, Store, View
from waypost.store.directory.document import Document
from waypost.store.directory.state import DocumentView
from waypost.store.directory.upkeep import Upkeep

A, B, C = (DocumentId("workflow", name) for name in "abc")


def joint_change(operation_id: str | None = None) -> JointChange:
    return JointChange(operation_id or clock.new_id("op"), "test", repeatable=operation_id is not None)


def put_in_all(store: Store, value: bytes, *documents: DocumentId) -> Receipt | None:
    joint = store.begin()
    for document in documents:
        joint.document(document).put("x", value)
    return store.commit(joint, joint_change())


def x_of(store: Store, *documents: DocumentId) -> list[bytes | None]:
    return [store.view(document).get("x") for document in documents]


def test_write_skew_is_a_conflict(tmp_path: Path) -> None:
    """Of two that each rest on what the other changes, one is committed; the kit says so of every store."""
    store = directory_store(tmp_path / "store")
    first, second = store.begin(), store.begin()
    assert first.document(A).get("x") is None
    first.document(B).put("x", b"1")
    assert second.document(B).get("x") is None
    second.document(A).put("x", b"2")
    assert store.commit(first, joint_change())
    assert store.commit(second, joint_change()) is None
    store.close()


def test_t12_what_goes_and_comes_back_is_not_read_beside_what_it_never_stood_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that only reads gives values that stood side by side, also where each that it has read is there
    again whenever it is looked at.
    """
    store, other = directory_store(tmp_path / "store"), directory_store(tmp_path / "store")
    put_in_all(other, b"1", A, B)
    joint = store.begin()
    assert joint.document(A).get("x") == b"1"
    put_in_all(other, b"2", A, B)
    assert joint.document(B).get("x") == b"2"
    put_in_all(other, b"1", A, B)
    real, looks = Document.view, iter([A, B])

    def view(self: Document, **how: bool) -> DocumentView:
        found = real(self, **how)  # type: ignore[arg-type]
        if self.id == next(looks, None) == A:
            put_in_all(other, b"2", A, B)  # between the second looks at A and B
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Document, "view", view)
        assert store.commit(joint, joint_change()) is None
    store.close()
    other.close()


def test_a_transaction_that_only_reads_is_in_nobody_s_way(tmp_path: Path) -> None:
    """What others change beside what it has read, also while it looks again, does not have it read again."""
    store, other = directory_store(tmp_path / "store"), directory_store(tmp_path / "store")
    put_in_all(other, b"1", A, B)
    joint = store.begin()
    assert [joint.document(each).get("x") for each in (A, B)] == [b"1", b"1"]
    for each in (A, B):
        other.submit(change(each, lambda tx: tx.put("y", b"1"))).result()
    assert store.commit(joint, joint_change()) == Receipt(0, changed=False)
    store.close()
    other.close()


def pending(path: Path) -> list[str]:
    return sorted(os.listdir(path / "transactions"))


def opened(path: Path) -> TestedStore:
    """A store whose logs are ready to be appended to, and synced."""
    store = directory_store(path)
    for document in (A, B):
        if store.view(document).version:
            store.submit(change(document, lambda tx: tx.put("ready", b"yes"))).result()
    return store


def die_at(path: Path, fault: Callable[[SystemCalls], None], value: bytes = b"2") -> None:
    """Commit over A and B in a child that ends, without closing anything, when the fault says so."""
    pid = os.fork()
    if pid == 0:
        store = opened(path)
        with system_calls() as calls:
            fault(calls)
            try:
                put_in_all(store, value, A, B)
            finally:
                os._exit(0)
    os.waitpid(pid, 0)


def dying(name: str, at: int) -> Callable[[SystemCalls], None]:
    def fault(calls: SystemCalls) -> None:
        seen = 0

        def die(called: str, _count: int, _args: object) -> None:
            nonlocal seen
            if called == name:
                seen += 1
                if seen == at:
                    os._exit(1)

        calls.fault = die

    return fault


def made(path: Path) -> None:
    with_store(path, lambda store: put_in_all(store, b"1", A, B))


def with_store(path: Path, use: Callable[[Store], object]) -> None:
    store = directory_store(path)
    try:
        use(store)
    finally:
        store.close()


def test_d12_a_decision_is_written_before_any_log_and_goes_after_all_are_synced(tmp_path: Path) -> None:
    made(tmp_path / "s")
    store = opened(tmp_path / "s")
    with system_calls() as calls:
        put_in_all(store, b"2", A, B)
        store.close()
    names = [name for name, _, _ in calls.trace]
    writes = [at for at, name in enumerate(names) if name == "pwrite"]
    moved = names.index("rename")
    assert names[writes[0] + 1 : moved].count("fsync") == 1, "the decision is synced before it has its name"
    assert "fsync" in names[moved : writes[1]], "its name is durable before a log is touched"
    assert writes[2] < max(at for at, name in enumerate(names) if name == "unlink")
    assert pending(tmp_path / "s") == []


@pytest.mark.parametrize("at", [2, 3])
def test_d12_a_decision_that_was_not_carried_out_is_seen_and_carried_out(tmp_path: Path, at: int) -> None:
    made(tmp_path / "s")
    die_at(tmp_path / "s", dying("pwrite", at))  # the first writes the decision
    assert len(pending(tmp_path / "s")) == 1
    reader = directory_store(tmp_path / "s", read_only=True)
    assert x_of(reader, A, B) == [b"2", b"2"]
    assert [reader.view(each).version for each in (A, B)] == [3, 3]
    assert [value.get("x") for each in (A, B) if (value := reader.view_at(each, 3))] == [b"2", b"2"]
    reader.close()
    with_store(tmp_path / "s", lambda store: put_in_all(store, b"3", B))
    after = directory_store(tmp_path / "s", read_only=True)
    assert x_of(after, A, B) == [b"2", b"3"]
    assert after.verify().sound
    after.close()


def test_d12_without_a_decision_it_never_happened(tmp_path: Path) -> None:
    made(tmp_path / "s")
    die_at(tmp_path / "s", dying("rename", 1))
    with_store(tmp_path / "s", lambda store: check(store, [b"1", b"1"]))


def check(store: Store, expected: list[bytes | None]) -> None:
    assert x_of(store, A, B) == expected


def test_d12_documents_that_a_decision_makes_are_there(tmp_path: Path) -> None:
    directory_store(tmp_path / "s").close()
    die_at(tmp_path / "s", dying("pwrite", 2))
    for log in (tmp_path / "s" / "workflows").iterdir():
        log.unlink()  # as a loss of power may leave it: their names were not synced
    reader = directory_store(tmp_path / "s", read_only=True)
    assert sorted(reader.documents("workflow")) == ["a", "b"]
    assert x_of(reader, A, B) == [b"2", b"2"]
    reader.close()
    with_store(tmp_path / "s", lambda store: put_in_all(store, b"3", A))
    with_store(tmp_path / "s", lambda store: check(store, [b"3", b"2"]))
    assert pending(tmp_path / "s") == []


def test_c06_a_reader_sees_all_or_nothing_while_the_coordinator_is_stopped(tmp_path: Path) -> None:
    made(tmp_path / "s")
    store, reader = opened(tmp_path / "s"), directory_store(tmp_path / "s")
    seen: list[list[bytes | None]] = []
    with system_calls() as calls:

        def look(_name: str, _count: int, _args: object) -> None:
            if threading.current_thread() is not threading.main_thread():
                return
            calls.fault = None  # the reader's own calls are not looked at
            seen.append(x_of(reader, A, B))
            calls.fault = look

        calls.fault = look
        put_in_all(store, b"2", A, B)
    assert all(each in ([b"1", b"1"], [b"2", b"2"]) for each in seen)
    assert [b"1", b"1"] in seen
    assert [b"2", b"2"] in seen
    store.close()
    reader.close()


def test_a_failure_before_the_decision_changes_nothing(tmp_path: Path) -> None:
    made(tmp_path / "s")
    store = opened(tmp_path / "s")
    with system_calls() as calls:
        calls.fault = failing("rename", 1, errno.ENOSPC)
        with pytest.raises(StoreUnavailable):
            put_in_all(store, b"2", A, B)
    assert x_of(store, A, B) == [b"1", b"1"]
    assert put_in_all(store, b"3", A, B)
    assert x_of(store, A, B) == [b"3", b"3"]
    store.close()
    assert os.listdir(tmp_path / "s" / "temp") == []


def test_a_failure_after_the_decision_loses_nothing(tmp_path: Path) -> None:
    made(tmp_path / "s")
    store = opened(tmp_path / "s")
    with system_calls() as calls:
        calls.fault = failing("pwrite", 3, errno.EIO)
        assert put_in_all(store, b"2", A, B)
    assert x_of(store, A, B) == [b"2", b"2"]
    store.close()
    with_store(tmp_path / "s", lambda store: check(store, [b"2", b"2"]))
    assert pending(tmp_path / "s") == []


def test_when_the_name_of_a_decision_cannot_be_synced_the_outcome_is_unknown(tmp_path: Path) -> None:
    made(tmp_path / "s")
    store = opened(tmp_path / "s")
    with system_calls() as calls:
        calls.fault = failing("fsync", 2, errno.EIO)
        with pytest.raises(StoreUnavailable) as raised:
            put_in_all(store, b"2", A, B)
    assert raised.value.details["outcome"] == "unknown"
    assert x_of(store, A, B) == [b"2", b"2"], "it is there, and made sure of by whoever looks"
    store.close()


def test_a_damaged_decision_is_refused_by_name(tmp_path: Path) -> None:
    made(tmp_path / "s")
    die_at(tmp_path / "s", dying("pwrite", 2))
    (name,) = pending(tmp_path / "s")
    place = tmp_path / "s" / "transactions" / name
    data = bytearray(place.read_bytes())
    for at in (-1, -3):  # what no longer decodes, and the last byte of a frame, which decodes like any other
        data[at] ^= 1
        place.write_bytes(data)
        reader = directory_store(tmp_path / "s", read_only=True)
        with pytest.raises(DocumentDamaged, match=name):
            reader.view(A)
        reader.close()
        data[at] ^= 1


def test_a_decision_that_comes_back_after_it_was_carried_out_changes_nothing(tmp_path: Path) -> None:
    made(tmp_path / "s")
    die_at(tmp_path / "s", dying("pwrite", 2))
    (name,) = pending(tmp_path / "s")
    kept = (tmp_path / "s" / "transactions" / name).read_bytes()
    with_store(tmp_path / "s", lambda store: put_in_all(store, b"3", A))
    (tmp_path / "s" / "transactions" / name).write_bytes(kept)
    with_store(tmp_path / "s", lambda store: check(store, [b"3", b"2"]))
    assert pending(tmp_path / "s") == []


def test_a_document_that_was_only_looked_for_leaves_no_file(tmp_path: Path) -> None:
    store = directory_store(tmp_path / "s")
    joint = store.begin()
    assert joint.document(C).get("x") is None
    joint.document(A).put("x", b"1")
    joint.document(B).put("x", b"1")
    assert store.commit(joint, joint_change())
    assert sorted(os.listdir(tmp_path / "s" / "workflows")) == ["a.state", "b.state"]
    store.close()


def test_large_parts_of_a_decision_are_read_before_they_are_in_the_log(tmp_path: Path) -> None:
    made(tmp_path / "s")
    large = bytes(range(256)) * 40_000
    die_at(tmp_path / "s", dying("pwrite", 2), large)
    reader = directory_store(tmp_path / "s", read_only=True)
    assert x_of(reader, A, B) == [large, large]
    held: View = reader.view(A)
    with_store(tmp_path / "s", lambda store: check(store, [large, large]))
    assert held.get("x") == large
    reader.close()


def test_trap_24_a_backup_holds_what_was_decided_and_is_not_written_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log lacks a version that readers see already; its copy in `backups` does not."""
    made(tmp_path / "s")
    die_at(tmp_path / "s", dying("pwrite", 2))
    assert len(pending(tmp_path / "s")) == 1
    monkeypatch.setattr(Upkeep, "ask_to_settle", lambda _: None)  # else the log may have it at any moment
    store = directory_store(tmp_path / "s")
    version = store.view(A).version
    log = tmp_path / "s" / "workflows" / "a.state"
    before = log.read_bytes()
    assert store.keep_generation(A, version)
    assert log.read_bytes() == before
    backup = (tmp_path / "s" / "backups" / f"a.state.v{version}").read_bytes()
    store.close()
    for name in pending(tmp_path / "s"):
        (tmp_path / "s" / "transactions" / name).unlink()
    log.write_bytes(backup)
    store = directory_store(tmp_path / "s", read_only=True)
    assert (store.view(A).version, store.view(A).get("x")) == (version, b"2")
    store.close()
