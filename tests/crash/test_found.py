"""Failures that the sweeps found, each with the smallest input that shows it."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from pathlib import Path

import pytest

from tests.crash.faults import Call, Fault, Shim, installed
from tests.crash.sweeps import descriptors_into
from tests.store.support import WF, TestedStore, change, directory_store, putting
from waypost.codec import compression
from waypost.errors import LockTimeout, StorePoisoned, StoreUnavailable
from waypost.store.directory import layout, lease


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(path: Path) -> TestedStore:
    opened = directory_store(path)
    opened.submit(putting(a=b"1")).result()
    return opened


def refuse(name: str, kind: int, *, onwards: bool = True, when: int = 1, only: int | None = None) -> Shim:
    """Calls of a name fail from the n-th on, or only the n-th; of `flock`, those with the operation `only`."""
    seen = 0

    def fault(call: Call) -> None:
        nonlocal seen
        if call.name == name and (only is None or call.args[1] == only):
            seen += 1
            if seen == when or (onwards and seen > when):
                raise OSError(kind, os.strerror(kind))

    return Shim(fault)


def test_n05_a_lease_whose_maker_died_leaves_no_second_name(path: Path, store: TestedStore) -> None:
    """A process that is killed between giving the lease its name and removing the temporary one: the next removes it,
    though it shares the lease, and with it the lock of that file.
    """
    os.link(path / "lease", path / "temp" / "0123456789abcdef.new")
    directory_store(path).close()
    assert not list((path / "temp").glob("*.new"))
    store.close()


@pytest.mark.parametrize("kind", [errno.ENOLCK, errno.EINTR])
def test_e01_a_lock_that_is_not_given_back_once_fails_nothing(path: Path, store: TestedStore, kind: int) -> None:
    """When giving a lock back is refused once, the commit is made, the next one too, and nobody else is kept out."""
    with installed(refuse("flock", kind, onwards=False, only=fcntl.LOCK_UN)) as shim, shim.active():
        store.submit(putting(a=b"2")).result()
        other = directory_store(path)
        assert other.submit(putting(a=b"3")).result().version == 3
        store.submit(putting(a=b"4")).result()
    assert shim.met
    other.close()
    store.close()
    assert descriptors_into(path) == []


def test_e01_a_lock_that_is_never_given_back_is_freed_with_its_descriptor(path: Path, store: TestedStore) -> None:
    """When giving locks back is always refused, the file is closed, which frees its lock, and opened again."""
    other = directory_store(path)
    with installed(refuse("flock", errno.EIO, only=fcntl.LOCK_UN)) as shim, shim.active():
        assert store.submit(putting(a=b"2")).result().version == 2
    assert shim.met
    assert other.submit(putting(a=b"3")).result().version == 3
    other.close()
    store.close()
    assert descriptors_into(path) == []


def test_d04_the_outcome_is_unknown_when_reading_fails_behind_a_failed_sync(store: TestedStore) -> None:
    """A sync fails, and so does every read behind it: the commit, which may be on disk, is not said to be rolled
    back; and neither is its repetition.
    """

    def broken(call: Call) -> None:
        if call.name in ("fdatasync", "pread"):
            raise OSError(errno.EIO, "Input/output error")

    store.submit(putting(a=b"2")).result()
    commit = change(WF, lambda tx: tx.put("a", b"3"), operation_id="op-3", repeatable=True)
    shim = Shim(_from_the_sync_on(broken))
    with installed(shim), shim.active():
        with pytest.raises(StorePoisoned) as caught:
            store.submit(commit).result()
        assert caught.value.details["outcome"] == "unknown"
        with pytest.raises(StorePoisoned):
            store.submit(commit).result()
    assert store.view(WF).get("a") == b"2"
    store.close()


def _from_the_sync_on(broken: Fault) -> Fault:
    failed = False

    def fault(call: Call) -> None:
        nonlocal failed
        failed = failed or call.name == "fdatasync"
        if failed:
            broken(call)

    return fault


def test_c05_waiting_for_the_lease_ends_and_names_the_holder(
    path: Path, store: TestedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was stopped while it held the lease alone keeps nobody waiting for ever."""
    store.close()
    monkeypatch.setattr(lease, "LOCK_TIMEOUT_S", 0.05)
    holder = directory_store(path)
    holder._lease._file.try_lock()
    with pytest.raises(LockTimeout, match=str(os.getpid())):
        directory_store(path)
    holder.close()


def test_c05_a_temporary_file_that_cannot_be_locked_is_an_error(path: Path, store: TestedStore) -> None:
    """Where locks are never free, making a file ends."""
    with installed(refuse("flock", errno.EAGAIN)) as shim, shim.active(), pytest.raises(LockTimeout):
        layout.new_file(store.layout)
    store.close()


def test_closing_lets_go_of_everything_although_the_lease_cannot_be_released(
    path: Path, store: TestedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing stays open when the lease cannot be looked at in closing."""
    # what the runner keeps of the log keeps the error, and that the frames which it passed through
    monkeypatch.setattr(logging.getLogger("waypost"), "disabled", True)
    with installed(refuse("stat", errno.EIO)) as shim, shim.active(), pytest.raises(StoreUnavailable):
        store.close()
    store.close()
    assert descriptors_into(path) == []


def test_c03_a_store_that_could_not_be_opened_does_not_keep_the_lease(path: Path, store: TestedStore) -> None:
    """Opening fails after the lease is taken: the lease is let go at once, so another machine may write."""
    store.close()
    with installed(refuse("listdir", errno.EIO)) as shim, shim.active(), pytest.raises(StoreUnavailable):
        directory_store(path)
    assert not (path / "lease").exists()
    assert descriptors_into(path) == []


def test_t19_running_out_of_memory_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decompressor that gets no memory raises MemoryError, and what it was to read is not said to be damaged."""

    def starved(stored: bytes | memoryview, raw: int) -> bytes:
        raise MemoryError

    monkeypatch.setitem(compression._READERS, compression.ZSTD, starved)
    with pytest.raises(MemoryError):
        compression.unpack(compression.ZSTD, b"stored", 7)


def test_c10_an_interrupt_while_a_lock_is_given_back_in_closing_leaks_nothing(path: Path, store: TestedStore) -> None:
    """The descriptor is closed all the same."""
    file = store.layout.root.open("FORMAT")
    assert file is not None and file.try_lock()
    shim = Shim(lambda call: (_ for _ in ()).throw(KeyboardInterrupt) if call.name == "flock" else None)
    with installed(shim), shim.active(), pytest.raises(KeyboardInterrupt):
        file.close()
    assert not [name for name in descriptors_into(path) if name.endswith("FORMAT")]
    store.close()
