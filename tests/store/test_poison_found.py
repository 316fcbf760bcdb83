"""What is shown once a sync has failed, whoever asked for it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.store.support import WF, TestedStore, directory_store, putting, system_calls
from waypost.errors import StorePoisoned, StoreUnavailable
from waypost.store.directory import document
from waypost.store.directory.log import Log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


def no_sync(called: str, _count: int, _args: tuple[Any, ...]) -> None:
    if called == "fdatasync":
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def no_room_either(called: str, count: int, args: tuple[Any, ...]) -> None:
    no_sync(called, count, args)
    if called == "pwrite":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def with_unsynced(path: Path) -> TestedStore:
    """A store that has read, beside what is durable, a version that another process could not sync."""
    store, other = directory_store(path), directory_store(path)
    store.submit(putting(a=b"1")).result()
    store.submit(putting(a=b"2")).result()
    with system_calls() as calls:
        calls.fault = no_sync
        with pytest.raises(StorePoisoned):
            other.submit(putting(a=b"3")).result()
    assert store.view(WF, durable=False).version == 3
    other.close()
    return store


FAILS: dict[str, Callable[[TestedStore], object]] = {
    "of a snapshot": lambda store: store.tidy(WF, "snapshot"),
    "now and then": lambda store: store._document(WF).sync(),
    "of a reader": lambda store: store.view(WF),
    "behind a cut": lambda store: store.submit(putting(a=b"4")).result(),
}


@pytest.mark.parametrize("fails", FAILS)
def test_d04_whichever_sync_has_failed_nothing_newer_is_shown(
    path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """What is known to be on disk is shown behind every sync that can fail, and the same again and again."""
    store = with_unsynced(path)
    monkeypatch.setattr(document, "SNAPSHOT_FRAMES", 1)
    with system_calls() as calls:
        calls.fault = no_room_either if fails == "behind a cut" else no_sync
        with pytest.raises((StorePoisoned, StoreUnavailable)):
            FAILS[fails](store)
    assert store._document(WF).is_poisoned
    for durable in (True, False, True):
        view = store.view(WF, durable=durable)
        assert (view.version, view.get("a")) == (2, b"2")
        assert store.view_at(WF, 3) is None
        earlier = store.view_at(WF, 2)
        assert earlier is not None and earlier.get("a") == b"2"
    store.close()


def test_d04_what_only_frames_tell_to_be_synced_is_shown_again_and_again(path: Path) -> None:
    """A reader whose own sync failed knows of syncs by what frames record: of that he loses nothing as he reads on."""
    store, writer = directory_store(path, enable_wal=False), directory_store(path)
    for value in (b"1", b"2", b"3"):
        writer.submit(putting(a=value)).result()
    assert store.view(WF).version == 3
    opened = store._document(WF)
    log = opened._log
    assert log is not None
    with system_calls() as calls:
        calls.fault = no_sync
        with pytest.raises(StorePoisoned):
            opened.sync_to(log, log.end)
    assert [store.view(WF).version for _ in range(4)] == [2, 2, 2, 2]
    writer.close()
    store.close()


def test_d04_what_was_read_as_a_sync_failed_is_not_shown(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the sync of another thread fails between reading and showing, the reader is told."""
    store, real = with_unsynced(path), Log.is_current

    def is_current(log: Log) -> bool:
        log.poison("a sync of another thread failed")
        return real(log)

    with monkeypatch.context() as patch:
        patch.setattr(Log, "is_current", is_current)
        with pytest.raises(StorePoisoned):
            store.view(WF)
    assert store.view(WF).version == 2
    store.close()
