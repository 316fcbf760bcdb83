"""Each lock and comparison around the lease, and around files in `temp`, is needed.

`make mutants` removes them one by one; those that no other test guards are guarded here.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.store.needed import calm, path
from tests.store.support import directory_store, putting
from waypost import clock
from waypost.errors import LockTimeout, StoreLeased
from waypost.store.directory import layout, lease

__all__ = ["calm", "path"]


def test_c03_a_lease_whose_bytes_changed_is_not_believed(path: Path) -> None:
    """A lease that reads well, and yet is not what was written, may be another machine's."""
    directory_store(path).close()
    text = lease._text(lease.Holder(clock.host(), clock.boot_id(), "2026-01-01"))
    (path / "lease").write_bytes(text.replace(b"2026-01-01", b"2026-01-02"))
    with pytest.raises(StoreLeased, match="cannot be read"):
        directory_store(path)
    (path / "lease").write_bytes(text)
    directory_store(path).close()


def test_c03_the_lease_stays_while_one_process_has_the_store_open(path: Path) -> None:
    """Who closes first leaves it to the others, also one that asked in vain to be alone."""
    first, second = directory_store(path), directory_store(path)
    second.close()
    assert (path / "lease").exists()
    second = directory_store(path)
    first.backup(str(path.parent / "backup"))
    with pytest.raises(LockTimeout):
        first.restore_backup(str(path.parent / "backup"))
    second.close()
    assert (path / "lease").exists()
    first.close()
    assert not (path / "lease").exists()


def test_c03_a_lease_that_another_made_meanwhile_is_left_to_him(path: Path) -> None:
    """The file that goes at closing is the one that was shared, and no other of its name."""
    store = directory_store(path)
    text = (path / "lease").read_bytes()
    (path / "lease").unlink()
    (path / "lease").write_bytes(text)
    store.close()
    assert (path / "lease").exists()


def test_c03_a_lease_that_went_before_it_was_shared_is_made_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening the file and locking it its last holder may have removed it."""
    directory_store(path).close()
    real, gone = lease.Lease.share_again, []

    def share_again(self: lease.Lease) -> None:
        if not gone:
            gone.append((path / "lease").unlink())
        real(self)

    monkeypatch.setattr(lease.Lease, "share_again", share_again)
    store = directory_store(path)
    assert gone
    assert (path / "lease").exists()
    store.close()


def test_c03_who_lost_the_lease_while_asking_to_be_alone_takes_it_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock goes for a moment when it cannot be had alone, and the others may close just then."""
    first, second = directory_store(path), directory_store(path)
    first.submit(putting(a=b"1")).result()
    first.backup(str(path.parent / "backup"))
    real = lease.Lease.share_again

    def share_again(self: lease.Lease) -> None:
        monkeypatch.setattr(lease.Lease, "share_again", real)
        second.close()
        real(self)

    monkeypatch.setattr(lease.Lease, "share_again", share_again)
    with pytest.raises(LockTimeout):
        first.restore_backup(str(path.parent / "backup"))
    assert not (path / "lease").exists()
    first.submit(putting(a=b"2")).result()
    assert (path / "lease").exists()
    first.close()


@pytest.fixture
def of_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> layout.File:
    """The lease of a store that was open as the machine went down."""
    directory_store(path).close()
    with monkeypatch.context() as patch:
        patch.setattr(clock, "boot_id", lambda: "before")
        dead = directory_store(path)
    assert dead._lease is not None
    dead._lease._file.unlock()
    dead._lease, file = None, dead._lease._file
    return file


def test_c07_two_who_take_over_a_lease_of_before_the_reboot_both_succeed(
    path: Path, of_before: layout.File, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One finds it locked by the other for a moment: then it is there still, and a moment later it is gone."""
    assert of_before.try_lock()
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            (path / "lease").unlink()
            of_before.unlock()

    monkeypatch.setattr(lease.time, "sleep", sleep)
    store = directory_store(path)
    assert len(looks) == 3
    assert lease.read(store.layout) is not None
    store.close()


def test_c03_a_lease_of_before_the_reboot_that_somebody_shares_is_left_to_him(
    path: Path, of_before: layout.File, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert of_before.try_lock(shared=True)
    monkeypatch.setattr(lease, "_TAKING_OVER_S", 0.0)
    with pytest.raises(StoreLeased, match="living process"):
        directory_store(path)
    assert (path / "lease").exists()
    of_before.close()
    directory_store(path).close()


def test_n05_a_new_file_that_is_swept_before_it_is_locked_is_made_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who opens the store just then takes it for a leftover."""
    store = directory_store(path)
    real = layout.File.try_lock

    def try_lock(self: layout.File, *, shared: bool = False) -> bool:
        if self.name.endswith(".new"):
            monkeypatch.setattr(layout.File, "try_lock", real)
            os.unlink(self.name)
        return real(self, shared=shared)

    monkeypatch.setattr(layout.File, "try_lock", try_lock)
    name, file = layout.new_file(store.layout)
    assert (path / "temp" / name).stat().st_ino == file.identity().inode
    file.close()
    store.close()
