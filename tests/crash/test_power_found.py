"""Each failure that the simulated power loss has found, with the smallest input that shows it."""

from __future__ import annotations

import errno

import pytest

from tests.store.support import WF, change, directory_store, failing, putting, system_calls
from waypost.errors import StorePoisoned, StoreUnavailable
from waypost.store import DocumentId
from waypost.store.directory import document, keeping, log, upkeep

THREAD = DocumentId("thread", "t")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


@pytest.fixture(autouse=True)
def _no_upkeep(monkeypatch):
    """Snapshots are taken when a test asks for one."""
    monkeypatch.setattr(upkeep.Upkeep, "ask", lambda self, document: None)


def log_file(path):
    return path / "workflows" / "wf.state"


def die(store):
    """Let go of a store as the end of its process does."""
    for each in store._documents.values():
        if each._log is not None:
            each._log.file.disown()
            each._log = None
        each._wrote = False
    store._lease.abandon()


@pytest.mark.parametrize("large", [b"", b"large " * 3000], ids=["small", "large"])
def test_d07_a_snapshot_does_not_stand_in_for_commits_that_a_crash_took(path, monkeypatch, large):
    """A snapshot that reached the medium before the unsynced commits it holds is passed over with them."""
    monkeypatch.setattr(document, "SNAPSHOT_FRAMES", 1)
    store = directory_store(path, enabled=False, chunk_size=4096, enable_wal=False)
    store.submit(putting(a=b"1")).result()
    end = store._document(WF)._log.end
    store.submit(putting(a=b"2", large=large)).result()
    behind = store._document(WF)._log.end
    with monkeypatch.context() as patch:
        patch.setattr(log.Log, "sync_to", lambda self, offset: 0)  # as another that takes snapshots might leave it out
        assert store.tidy(WF, "snapshot")
    die(store)
    data = log_file(path).read_bytes()
    log_file(path).write_bytes(data[:end] + bytes(behind - end) + data[behind:])

    for read_only in (True, False):
        store = directory_store(path, read_only=read_only)
        assert (store.view(WF).version, store.view(WF).get("a")) == (1, b"1")
        assert not [found for found in store.verify().findings if found.severity == "damage"]
        if not read_only:
            store.submit(putting(b=b"3")).result()
            store.submit(putting(b=b"4")).result()
        store.close()
    assert directory_store(path, read_only=True).verify().sound


def test_d02_who_shows_a_commit_of_another_syncs_the_name_of_its_log(path):
    """The process that made a log may have died between its sync and that of the directory: a reader, and who repeats
    the operation, sync the directory before they pass the commit on.
    """
    for read_only in (True, False):
        target = path / str(read_only)
        first = directory_store(target)
        with system_calls() as calls:
            calls.fault = failing("fsync", 1)
            with pytest.raises(StorePoisoned):
                first.submit(change(WF, lambda tx: tx.put("a", b"1"), operation_id="once", repeatable=True)).result()
        die(first)
        second = directory_store(target, read_only=read_only)
        with system_calls() as calls:
            if read_only:
                assert second.view(WF).get("a") == b"1"
            else:
                again = change(WF, lambda tx: tx.put("a", b"1"), operation_id="once", repeatable=True)
                assert second.submit(again).result().repeated is not None
            assert calls.count("fsync") == 1
        second.close()


def test_d02_the_names_that_a_dead_maker_of_the_store_left_unsynced_are_synced(path):
    """Whoever finds directories, or a store, that another process made syncs their names before anything else."""
    (path / "deep").mkdir(parents=True)
    with system_calls() as calls:
        directory_store(path / "deep").close()
        first = next(at for at, each in enumerate(calls.trace) if each[0] in ("mkdir", "pwrite"))
        assert [name for name, _, _ in calls.trace[:first]].count("fsync") >= 2
    with system_calls() as calls:
        directory_store(path / "deep").close()
        changes = [name for name, _, _ in calls.trace if name in ("fsync", "pwrite")]
        assert changes[0] == "fsync"
    with system_calls() as calls:
        calls.fault = failing("fsync", 1)
        with pytest.raises(StoreUnavailable):
            directory_store(path / "deep")


def _syncs_of_root(store, calls):
    """How often the store's directory was synced."""
    return [(name, where) for name, where, _ in calls.trace].count(("fsync", store.layout.root.descriptor))


@pytest.mark.parametrize("name", ["threads", "checkpoints"])
def test_d02_a_folder_of_a_dead_maker_is_synced_before_anything_in_it_is_promised(path, name):
    """Who writes into a folder that came after he opened the store syncs its name first, once, also where somebody
    else made it.
    """
    directory_store(path).close()
    store = directory_store(path, enabled=False)
    (path / name).mkdir(mode=0o700)
    with system_calls() as calls:
        for number in (b"1", b"2"):
            if name == "threads":
                store.submit(change(THREAD, lambda tx, number=number: tx.put("a", number))).result()
            else:
                with keeping.alone(store._context):
                    pass
        assert _syncs_of_root(store, calls) == 1
    store.close()


def test_d02_a_folder_whose_name_failed_to_become_durable_is_synced_by_the_next_call(path):
    """When the sync behind the making of a folder fails, nothing in it is promised before one succeeds."""
    directory_store(path).close()
    store = directory_store(path)
    with system_calls() as calls:
        calls.fault = failing("fsync", 1)
        with pytest.raises(StoreUnavailable):
            store.submit(change(THREAD, lambda tx: tx.put("a", b"1"))).result()
        calls.fault = None
        store.submit(change(THREAD, lambda tx: tx.put("a", b"1"))).result()
        assert _syncs_of_root(store, calls) == 1
    store.close()


@pytest.mark.parametrize("error", [errno.EACCES, errno.EROFS])
def test_d02_directories_above_that_are_not_ours_are_left_alone(path, error):
    """A directory above that this process may not read, or on media that cannot be synced, stops nobody."""
    path.mkdir()
    with system_calls() as calls:
        calls.fault = lambda name, _count, args: (
            _refuse(error) if name == "open" and args[0] == str(path.parent) else None
        )
        directory_store(path).close()
    assert (path / "FORMAT").exists()


def _refuse(error):
    raise OSError(error, "refused")


@pytest.mark.parametrize("how", ["view", "repeat"])
def test_d04_what_a_failed_sync_lost_is_written_again_before_it_is_shown(path, how):
    """After a failed sync of another process a store that is opened for writing writes the frames again before it
    shows them or answers a repeated operation, since its own sync covers nothing else.
    """
    first = directory_store(path)
    first.submit(putting(z=b"0")).result()
    with system_calls() as calls:
        calls.fault = failing("fdatasync", 1)
        with pytest.raises(StorePoisoned):
            first.submit(change(WF, lambda tx: tx.put("a", b"1"), operation_id="once", repeatable=True)).result()
    second = directory_store(path)
    with system_calls() as calls:
        if how == "view":
            assert second.view(WF).get("a") == b"1"
        else:
            again = change(WF, lambda tx: tx.put("a", b"1"), operation_id="once", repeatable=True)
            assert second.submit(again).result().repeated is not None
        assert [name for name, _, _ in calls.trace if name in ("pwrite", "fdatasync")] == ["pwrite", "fdatasync"]
        second.view(WF)
        assert calls.count("pwrite") == 1
    first.close()
    second.close()


@pytest.mark.parametrize("head", [b"\xff" * 4, b"\xffPF\x01", b"WPF\xff", b"W\xff\xff\xff", b"\0\0F\xff"])
def test_d09_a_new_log_that_grew_without_its_bytes_is_no_document(path, head):
    """Ones in place of the first bytes are a making that was cut short, as zeros are, and no foreign file."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    data = log_file(path).read_bytes()
    die(store)
    log_file(path).write_bytes(head + data[4:100] + b"\xff" * 5000)
    store = directory_store(path)
    assert store.view(WF).version == 0
    assert store.submit(putting(b=b"2")).result().version == 1
    store.close()
    assert directory_store(path, read_only=True).verify().sound


def test_the_row_before_a_snapshot_is_read_only_where_no_sync_is_on_record(path, monkeypatch):
    """Opening a long log costs the same as before: two commits after a snapshot it is not looked behind."""
    monkeypatch.setattr(document, "SNAPSHOT_FRAMES", 1)
    store = directory_store(path, enabled=False)
    for number in range(300):
        store.submit(putting(a=b"%d" % number, b=b"%d" % number * 200)).result()
    assert store.tidy(WF, "snapshot")
    for number in range(2):
        store.submit(putting(a=b"%d" % number)).result()
    end = store._document(WF)._log.end
    die(store)
    reader = directory_store(path, read_only=True)
    assert reader.view(WF).version == 302
    assert reader._document(WF)._log.file.tally.bytes_read < end
