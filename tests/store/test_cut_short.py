"""A write that comes short behind a frame that is whole, and syncs that are no commit's."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.store.support import WF, TestedStore, directory_store, putting, system_calls
from tests.store.test_needed_locks import held_by_another
from waypost.errors import StorePoisoned, StoreUnavailable
from waypost.store.contract import Ticket
from waypost.store.directory.log import Log

FILE_FRAME = 300
"""More than the first frame of a log takes, and less than that and a commit."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


def short_by(length: int, meanwhile: Callable[[], Any], *, cut_fails: bool = False) -> Callable[..., Any]:
    """A fault: the disk is full so many bytes before the end of the next write; then something happens elsewhere."""
    full = False

    def fault(name: str, _count: int, args: tuple[Any, ...]) -> int | None:
        nonlocal full
        if name == "ftruncate" and cut_fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if name != "pwrite":
            return None
        descriptor, data, offset = args
        if not full:
            full = True
            return os.pwrite(descriptor, bytes(data)[:-length], offset)
        meanwhile()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return fault


def two(store: TestedStore) -> list[Ticket]:
    """Two changes that are handed in at once, and so written at once."""
    return [store.submit(putting(x=b"A" * 50)), store.submit(putting(z=b"B" * 50))]


def outcomes(tickets: list[Ticket]) -> list[object]:
    found: list[object] = []
    for each in tickets:
        with pytest.raises(StoreUnavailable, match="ENOSPC") as told:
            each.result()
        found.append(told.value.details.get("outcome"))
    return found


def test_d05_a_commit_that_others_have_read_is_not_cut_off_again(path: Path) -> None:
    """Of two commits written at once the first is whole and seen as durable when the disk is full: it stays, both are
    said to be of unknown outcome, and what others commit behind it stands.
    """
    store = directory_store(path)
    store.submit(putting(x=b"0")).result()
    other = directory_store(path)
    other.submit(putting(y=b"0")).result()
    seen: list[int] = []
    with system_calls() as calls:
        calls.fault = short_by(30, lambda: seen.append(other.view(WF).version))
        assert outcomes(two(store)) == ["unknown", "unknown"]
    assert seen == [3]
    assert store.view(WF).version == other.view(WF).version == 3
    assert other.submit(putting(q=b"behind it")).result().version == 4
    assert store.submit(putting(x=b"N")).result().version == 5
    other.close()
    store.close()
    with_all = directory_store(path)
    assert with_all.verify().sound
    view = with_all.view(WF)
    assert (view.version, view.get("q"), view.get("x"), view.get("z")) == (5, b"behind it", b"N", None)
    with_all.close()


def test_d05_the_first_frame_of_a_log_that_others_have_read_stays(path: Path) -> None:
    """The first commit of a document comes short behind the frame that names its file: who has read that, and commits
    later, takes nothing away.
    """
    store, other = directory_store(path), directory_store(path)
    with system_calls() as calls:
        begun: list[int] = []

        def fault(name: str, _count: int, args: tuple[Any, ...]) -> int | None:
            if name != "pwrite":
                return None
            begun.append(len(args[1]))
            if len(begun) <= 2:  # with fill behind it, and without
                return os.pwrite(args[0], bytes(args[1])[:FILE_FRAME], args[2])
            other.view(WF, durable=False)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        calls.fault = fault
        with pytest.raises(StoreUnavailable) as told:
            store.submit(putting(x=b"first" * 100)).result()
        assert "outcome" not in told.value.details
    assert store.submit(putting(x=b"first" * 100)).result().version == 1
    assert store.submit(putting(y=b"second")).result().version == 2
    assert other.submit(putting(q=b"other")).result().version == 3
    other.close()
    store.close()
    again = directory_store(path, read_only=True)
    assert sorted(again.view(WF).keys()) == ["q", "x", "y"]
    assert again.verify().sound


def test_d05_where_a_commit_that_is_whole_cannot_be_cut_off_the_outcome_is_unknown(path: Path) -> None:
    """The first of two commits is whole and the cut behind it fails: nobody is told that it had no effect."""
    store = directory_store(path)
    store.submit(putting(x=b"0")).result()
    with system_calls() as calls:
        calls.fault = short_by(30, lambda: None, cut_fails=True)
        assert outcomes(two(store)) == ["unknown", "unknown"]
    with pytest.raises(StorePoisoned):
        store.submit(putting(x=b"2")).result()
    store.close()
    again = directory_store(path)
    assert again.view(WF).version == 2
    again.close()


def test_d04_who_waits_for_a_sync_learns_of_one_that_failed_as_a_tail_was_cleared(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit is written and not synced yet when another, through the same handle, meets what a dead writer left, and
    the sync of clearing that fails. The kernel tells of a failure once: both are told that their outcome is unknown.
    """
    store = directory_store(path)
    store.submit(putting(x=b"0")).result()
    written, go_on = threading.Event(), threading.Event()
    real = Log.sync_to

    def sync_to(log: Log, offset: int) -> int:
        if threading.current_thread().name == "first":
            written.set()
            assert go_on.wait(60)
        return real(log, offset)

    monkeypatch.setattr(Log, "sync_to", sync_to)
    told: list[BaseException] = []

    def commit_first() -> None:
        try:
            store.submit(putting(x=b"first")).result()
        except StorePoisoned as error:
            told.append(error)

    first = threading.Thread(target=commit_first, name="first")
    first.start()
    assert written.wait(60)
    log = store._document(WF)._log
    assert log is not None
    with open(path / "workflows" / "wf.state", "r+b") as file:  # a writer that was killed
        file.seek(log.end)
        file.write(b"WPF\x01" + bytes(range(1, 200)))
    held: list[bool] = []

    def fail_once(name: str, _count: int, _args: tuple[Any, ...]) -> None:
        if name == "fdatasync" and not held:
            held.append(held_by_another(log._sync_lock))
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with system_calls() as calls:
        calls.fault = fail_once
        with pytest.raises(StoreUnavailable):
            store.submit(putting(y=b"second")).result()
        go_on.set()
        first.join()
    assert held == [True]
    assert [error.details["outcome"] for error in told if isinstance(error, StorePoisoned)] == ["unknown"]
    store.close()
