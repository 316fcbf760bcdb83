"""Threads, the documents of adapters: their folder is made with the first, and all that serves a store knows it."""

from __future__ import annotations

from pathlib import Path

import pytest

import waypost
from tests.store.support import TestedStore, change, directory_store
from waypost.store import DocumentId, JointChange

THREAD = DocumentId("thread", "a")
SECOND = DocumentId("thread", "b\x1f" + "long " * 60)
WORKFLOW = DocumentId("workflow", "a")


def put(store: TestedStore, document: DocumentId, value: bytes, key: str = "part") -> None:
    store.submit(change(document, lambda tx: tx.put(key, value))).result()


def shown(path: Path) -> dict[DocumentId, bytes | None]:
    """What a reader finds in the store of the documents that it lists."""
    store = directory_store(path, read_only=True)
    found = {
        document: store.view(document).get("part")
        for kind in ("workflow", "session", "thread")
        for document in sorted(DocumentId(kind, each) for each in store.documents(kind))  # type: ignore[arg-type]
    }
    store.close()
    return found


def test_the_folder_is_made_with_the_first_thread(tmp_path: Path) -> None:
    """A store without threads is as earlier releases made it, also once it was listed, watched and read."""
    store = directory_store(tmp_path / "s")
    put(store, WORKFLOW, b"1")
    assert list(store.documents("thread")) == list(store.glance("thread")) == []
    assert store.log_bytes(THREAD) == 0
    store.listen().close()
    store.verify()
    store.close()
    reader = directory_store(tmp_path / "s", read_only=True)
    assert (reader.view(THREAD).version, reader.view_at(THREAD, 1), reader.checkpoints(THREAD)) == (0, None, [])
    reader.close()
    assert not (tmp_path / "s" / "threads").exists()
    store = directory_store(tmp_path / "s")
    put(store, THREAD, b"2")
    put(store, SECOND, b"3")
    store.close()
    assert shown(tmp_path / "s") == {WORKFLOW: b"1", THREAD: b"2", SECOND: b"3"}
    assert len(list((tmp_path / "s" / "threads").glob("*.thread"))) == 2


def test_a_transaction_makes_threads_beside_a_workflow(tmp_path: Path) -> None:
    """Documents of several kinds are committed together, and each frame names the others."""
    store = directory_store(tmp_path / "s")
    joint = store.begin()
    for document in (WORKFLOW, THREAD, SECOND):
        joint.document(document).put("part", b"1")
    receipt = store.commit(joint, JointChange("op", "test"))
    assert receipt is not None and receipt.changed
    assert store.verify().sound
    store.close()
    assert set(shown(tmp_path / "s")) == {WORKFLOW, THREAD, SECOND}


def test_a_listener_hears_of_threads(tmp_path: Path) -> None:
    """A commit to a thread wakes whoever listens to the store."""
    store = directory_store(tmp_path / "s")
    put(store, THREAD, b"1")
    listener = store.listen()
    while listener.wait(0):
        pass
    put(store, THREAD, b"2")
    assert listener.wait(5)
    store.close()


@pytest.mark.parametrize("threads_before", [False, True])
@pytest.mark.parametrize("threads_in_backup", [False, True])
def test_a_restore_takes_threads_back_too(tmp_path: Path, threads_before: bool, threads_in_backup: bool) -> None:
    """After a restore the store has the threads of the backup and no others, and what it had is kept beside."""
    store = directory_store(tmp_path / "s")
    put(store, WORKFLOW, b"1")
    if threads_in_backup:
        put(store, THREAD, b"1")
    store.backup(str(tmp_path / "backup"))
    saved = {WORKFLOW: b"1"} | ({THREAD: b"1"} if threads_in_backup else {})
    assert shown(tmp_path / "backup") == saved
    store.close()
    other = directory_store(tmp_path / "t")
    if threads_before:
        put(other, SECOND, b"2")
    other.restore_backup(str(tmp_path / "backup"), allow_older=True)
    assert other.verify().sound
    other.close()
    assert shown(tmp_path / "t") == saved
    assert (tmp_path / "t" / "threads").exists() == (threads_before or threads_in_backup)
    kept = list((tmp_path / "t" / "backups").glob("before-restore.*/threads/*.thread"))
    assert len(kept) == threads_before


def test_damage_in_a_thread_is_found_and_repaired(tmp_path: Path) -> None:
    """`verify` reads threads, and `repair` salvages what is whole."""
    store = directory_store(tmp_path / "s")
    for number in range(4):
        put(store, THREAD, b"%d" % number)
    store.close()
    (file,) = (tmp_path / "s" / "threads").glob("*.thread")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with waypost.open(tmp_path / "s") as wp:
        assert not wp.definitions.store.verify().sound
    report = waypost.repair(tmp_path / "s")
    assert any("threads" in str(each) for each in report.repaired)
    with waypost.open(tmp_path / "s") as wp:
        assert wp.definitions.store.verify().sound


def test_threads_are_synced(tmp_path: Path) -> None:
    """A thread is taken by another store as it is, and what was changed on both sides is a conflict that is told."""
    with waypost.open(tmp_path / "s") as one, waypost.open(tmp_path / "t") as other:
        put(one.definitions.store, THREAD, b"1")  # type: ignore[arg-type]
        report = one.sync(other).unwrap()
        assert [(each.kind, each.id, each.action) for each in report.documents] == [("thread", "a", "sent")]
        assert other.definitions.store.view(THREAD).get("part") == b"1"
        put(one.definitions.store, THREAD, b"2")  # type: ignore[arg-type]
        put(other.definitions.store, THREAD, b"3")  # type: ignore[arg-type]
        report = one.sync(other).unwrap()
        assert [(each.kind, each.part) for each in report.conflicts] == [("thread", "part")]
        assert other.definitions.store.view(THREAD).get("part") == b"3"


def test_the_outcome_of_a_commit_to_a_thread_is_known(tmp_path: Path) -> None:
    """Who lost the answer to a commit can ask for it by the id of the operation."""
    with waypost.open(tmp_path / "s") as wp:
        store = wp.definitions.store
        store.submit(change(THREAD, lambda tx: tx.put("part", b"1"))).result()
        (record,) = [commit.operation_id for commit in store.past(THREAD).commits(oldest_first=True)]
        assert wp.get_outcome(record).unwrap() is None
