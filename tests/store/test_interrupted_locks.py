"""Several locks at once, and an interrupt between any two lines of those by which they are taken and given back."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.store.support import TestedStore, directory_store
from tests.store.test_joint import A, B, C, put_in_all, x_of
from waypost.store import directory
from waypost.store.directory import held, joint

FILES = {each.__file__ for each in (contextlib, directory, held, joint)}
TAKING = {"enter_context", "_push_cm_exit", "_push_exit_callback", "callback", "take", "_lock_all", "_enter"}
GIVING_BACK = {"commit", "_commit", "give_back"}


def interrupted_at(step: int, names: set[str], act: Callable[[], object]) -> KeyboardInterrupt | None:
    """The interrupt, with all that its traceback keeps; None where there are no more lines of these functions."""
    steps = count(1)

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in FILES or frame.f_code.co_name not in names:
            return None
        if event in ("call", "line") and next(steps) == step:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    except KeyboardInterrupt as interrupt:
        return interrupt
    finally:
        sys.settrace(before)
    return None


def held_of(store: TestedStore) -> list[str]:
    """The documents whose locks are held, as another thread finds them."""
    found: list[str] = []

    def look() -> None:
        for document in store._documents.values():
            if document.lock.acquire(blocking=False):
                document.lock.release()
            else:
                found.append(document.id.id)
        found.extend(each.id.id for each in store._documents.values() if each._log and each._log.file.is_locked)

    looker = threading.Thread(target=look)
    looker.start()
    looker.join()
    return found


def left_behind_in(store: TestedStore) -> list[str]:
    """The documents whose locks nobody gives back: the store's own upkeep holds them for moments."""
    deadline = time.monotonic() + 20
    while (found := held_of(store)) and time.monotonic() < deadline:
        time.sleep(0.001)
    return found


@pytest.fixture
def store(tmp_path: Path) -> TestedStore:
    store = directory_store(tmp_path / "store")
    put_in_all(store, b"0", A, B, C)
    return store


def test_c10_an_interrupted_commit_over_several_documents_leaves_no_lock_behind(store: TestedStore) -> None:
    """Others go on, and so does the handle, wherever it came; and all of the commit is there, or nothing."""
    step, value = 0, b""
    for step in count(1):
        value = b"%d" % step
        interrupt = interrupted_at(step, TAKING | GIVING_BACK, lambda value=value: put_in_all(store, value, A, B, C))
        assert left_behind_in(store) == [], step
        assert len(set(x_of(store, A, B, C))) == 1
        if interrupt is None:
            break
    assert step > 30
    assert x_of(store, A, B, C) == [value] * 3
    store.close()


def test_c10_an_interrupted_restore_leaves_no_lock_behind(store: TestedStore) -> None:
    """Others go on, wherever it came as the documents were locked."""

    def come_to_rest() -> None:
        with store._at_rest():
            assert set(held_of(store)) == {"a", "b", "c"}

    step = 0
    for step in count(1):
        put_in_all(store, b"1", A, B, C)
        interrupt = interrupted_at(step, TAKING, come_to_rest)
        assert left_behind_in(store) == [], step
        assert not store._lock.locked()
        if interrupt is None:
            break
    assert step > 10
    store.close()


def test_c10_what_cannot_be_given_back_keeps_nothing_else_held() -> None:
    """All are given back, the last first, also where two of them fail."""
    given_back: list[int] = []

    def hold(number: int) -> Any:
        try:
            yield number
        finally:
            given_back.append(number)
            if number % 2:
                raise OSError(number)

    all_held: list[Any] = []
    assert [held.take(all_held, hold(number)) for number in range(5)] == list(range(5))
    with pytest.raises(OSError, match="1"):
        held.give_back(all_held)
    assert given_back == [4, 3, 2, 1, 0]
