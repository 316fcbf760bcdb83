"""Decisions that several processes carry out at once: nothing of them is lost, and none comes back.

Two stores of one process on one directory stand for two processes; where one of them is stopped, the other goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.store.support import TestedStore, directory_store
from tests.store.test_receiving import A, B, arrive, here, opened, same, source, take, unsettled
from waypost.errors import LockTimeout, StoreUnavailable
from waypost.store import Store
from waypost.store.directory import decisions, files
from waypost.store.memory import MemoryStore

__all__ = ["source"]


@pytest.fixture
def two(tmp_path: Path, source: MemoryStore) -> tuple[TestedStore, TestedStore]:
    """A store in which the arrival of two documents was decided, whose logs are still to get their places, and another
    that knows nothing of it yet.
    """
    store = unsettled(tmp_path)
    received = take(store, source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decisions.Whole, "put_in_place", _cannot)
        assert arrive(store, received)
    received.close()
    return store, unsettled(tmp_path)


def _cannot(*_: object) -> None:
    raise StoreUnavailable("it cannot be put there")


def pending(store: TestedStore) -> list[str]:
    return os.listdir(store.layout.folder(decisions.FOLDER).path)


def meanwhile(patch: pytest.MonkeyPatch, store: TestedStore, method: str, act: Callable[[], object]) -> None:
    """Something happens once, right before a method of a store's decisions."""
    ours = store._context.decisions
    real = getattr(ours, method)

    def first(*args: Any, **kwargs: Any) -> Any:
        patch.setattr(ours, method, real)
        act()
        return real(*args, **kwargs)

    patch.setattr(ours, method, first)


# --- decisions ---


@pytest.mark.parametrize("way", ["view", "backup"])
def test_d12_a_decision_that_was_carried_out_does_not_come_back(
    two: tuple[TestedStore, TestedStore], tmp_path: Path, source: MemoryStore, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Who has found one, and is stopped before he makes sure of it, looks again: what it names is gone by then."""
    store, other = two
    meanwhile(monkeypatch, other, "confirm", store._settle)
    seen: Store = other
    if way == "backup":
        other.backup(str(tmp_path / "backup"))
        seen = directory_store(tmp_path / "backup", read_only=True)
    assert same(seen, source, A) and same(seen, source, B)
    assert pending(store) == []
    for each in {seen, store, other}:
        each.close()
    third = opened(tmp_path)
    assert here(third) == [A, B] and third.verify().sound
    third.close()


def test_d12_no_decision_is_removed_while_it_is_written_again(
    two: tuple[TestedStore, TestedStore], source: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would come back right behind its removal."""
    store, other = two
    (body,) = store._context.decisions.pending().values()
    monkeypatch.setattr(decisions, "LOCK_TIMEOUT_S", 0)

    def remove() -> None:
        with pytest.raises(LockTimeout):
            store._context.decisions.remove(body.transaction_id, body.folder)

    meanwhile(monkeypatch, other, "_put", remove)
    assert same(other, source, A)
    assert pending(store) == [body.transaction_id]
    store._settle()
    assert pending(store) == [] and same(other, source, B)
    store.close()
    other.close()


def test_c06_who_makes_sure_of_a_decision_does_not_wait_for_another_who_does(
    two: tuple[TestedStore, TestedStore], source: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be it that he was stopped while he wrote it again."""
    store, other = two
    third = unsettled(tmp_path)
    monkeypatch.setattr(decisions, "LOCK_TIMEOUT_S", 0)
    meanwhile(monkeypatch, other, "_put", lambda: third.view(A))
    assert same(other, source, A) and same(third, source, A)
    assert len(pending(store)) == 1
    for each in (store, other, third):
        each.close()


# --- directories of logs that arrive ---


def test_c01_a_child_keeps_no_directory_locked_that_its_parent_imports_into(
    tmp_path: Path, source: MemoryStore
) -> None:
    """What its parent was taking in when it died is a leftover, however long the child lives."""
    store = opened(tmp_path)
    received: Any = take(store, source)
    is_up, may_end = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(may_end[1])
        os.write(is_up[1], b"!")
        os.read(may_end[0], 1)
        os._exit(0)
    os.close(may_end[0])
    os.read(is_up[0], 1)
    os.close(received._folder.descriptor)  # as the kernel does for one that is killed
    received._folder.descriptor = -1
    left = files.open_path(str(tmp_path / "store" / "temp" / received.name))
    assert left.try_lock()
    os.close(may_end[1])
    os.waitpid(child, 0)
    left.close()
    store.close()
