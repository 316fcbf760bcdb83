"""Whoever hands a change in and is called back is called back, whatever comes of others' callbacks and of threads.

Each was found by a review of the commit path.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.store.support import WF, TestedStore, breaking, directory_store, putting
from waypost import api, open_async
from waypost.errors import StoreError, StoreUnavailable
from waypost.store.contract import Ticket
from waypost.store.directory import submission
from waypost.store.directory.document import Document

WAIT_S = 30


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TestedStore]:
    opened = directory_store(tmp_path / "s")
    opened.submit(putting(a=b"0")).result()
    yield opened
    opened.close()


@dataclass
class Notified:
    """A callback that cannot be hashed, and keeps what it was told."""

    told: list[Ticket] = field(default_factory=list[Ticket])
    came: threading.Event = field(default_factory=threading.Event)

    def __call__(self, tickets: Sequence[Ticket]) -> None:
        self.told += tickets
        self.came.set()


def handed_in(store: TestedStore, **values: bytes) -> Notified:
    """Hand a change in that the store drives itself."""
    told = Notified()
    store.submit(putting(**values), told)
    return told


def raises(error: type[BaseException]) -> Callable[[Sequence[Ticket]], None]:
    def on_done(_: Sequence[Ticket]) -> None:
        raise error

    return on_done


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError])
def test_all_of_a_batch_are_told_though_one_callback_fails(store: TestedStore, error: type[BaseException]) -> None:
    """What is no Exception is raised once all were told, in the thread that it hit."""
    opened = store._document(WF)
    first, told = opened.submit(putting(b=b"1"), raises(error)), Notified()
    second = opened.submit(putting(c=b"1"), told)
    if issubclass(error, Exception):
        second.result()
    else:
        with pytest.raises(error):
            second.result()
    assert told.told == [second] and first.result().version == 2 and second.result().version == 3


def test_a_callback_need_not_be_hashable_and_is_told_once_for_its_batch(store: TestedStore) -> None:
    """Tickets of one callback are told together."""
    opened, told, other = store._document(WF), Notified(), Notified()
    tickets = [opened.submit(putting(**{f"k{number}": b"1"}), told) for number in range(3)]
    alone = opened.submit(putting(b=b"1"), other)
    alone.result()
    assert told.told == tickets and other.told == [alone]


def test_all_are_told_though_memory_runs_out_as_they_are_sorted(
    store: TestedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then each is told by itself."""

    def fails(_: object) -> Any:
        raise MemoryError

    monkeypatch.setattr(submission, "_by_callback", fails)
    assert handed_in(store, b=b"1").came.wait(WAIT_S)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_a_document_is_driven_on_though_its_thread_was_disturbed(
    store: TestedStore, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes in later is carried out by another turn of the same thread."""
    disturbed = threading.Event()
    real = Document.look_after

    def look_after(document: Document) -> None:
        if not disturbed.is_set():
            disturbed.set()
            raise error
        real(document)

    monkeypatch.setattr(Document, "look_after", look_after)
    assert handed_in(store, b=b"1").came.wait(WAIT_S) and disturbed.wait(WAIT_S)
    assert handed_in(store, c=b"1").came.wait(WAIT_S)
    assert handed_in(store, d=b"1").came.wait(WAIT_S)


def test_without_a_thread_a_change_is_refused_and_not_made(store: TestedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once threads can be had again, what comes later is told."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        refused = Notified()
        with pytest.raises(StoreUnavailable, match="can't start new thread"):
            store.submit(putting(refused=b"1"), refused)
    assert handed_in(store, b=b"1").came.wait(WAIT_S)
    store.submit(putting(c=b"1")).result()
    assert sorted(store.view(WF).keys()) == ["a", "b", "c"] and not refused.told


@pytest.mark.parametrize("relaxed", [False, True])
def test_without_a_thread_for_upkeep_a_change_is_made_and_the_next_asks_again(
    tmp_path: Path, relaxed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody's call fails for it, and what is due is done once a thread can be had."""
    store = directory_store(tmp_path / "upkept", enable_wal=not relaxed, sync_frequency=3_600_000)

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        for number in range(120):
            store.submit(putting(a=b"%d" % number)).result()
    looked = threading.Event()
    monkeypatch.setattr(store._upkeep, "_look_after", lambda _: looked.set())
    store.submit(putting(b=b"1")).result()
    assert looked.wait(WAIT_S)
    store.close()


@pytest.mark.parametrize("name", ["_settle", "_pause_s"])
def test_upkeep_goes_on_though_memory_ran_out_in_its_thread(
    store: TestedStore, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread goes on, or another is made when one is asked for."""
    upkeep, failed, settled = store._upkeep, threading.Event(), threading.Event()
    real = getattr(upkeep, name)

    def settle() -> frozenset[str]:
        settled.set()
        return frozenset()

    def fails(*_: Any) -> Any:
        setattr(upkeep, name, real if name == "_pause_s" else settle)
        failed.set()
        raise MemoryError

    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    setattr(upkeep, name, fails)
    if name == "_pause_s":
        upkeep._settle = settle
        upkeep._period_s = 3600.0
        upkeep.start_ticking()
    else:
        upkeep.ask_to_settle()
    assert failed.wait(WAIT_S)
    deadline = time.monotonic() + WAIT_S
    while not settled.is_set() and time.monotonic() < deadline:
        upkeep.ask_to_settle()
        settled.wait(0.01)
    assert settled.is_set()


def test_a_change_whose_caller_was_interrupted_is_not_made_later(store: TestedStore) -> None:
    """Before anybody took it: the next commit is made without it."""
    opened = store._document(WF)
    ticket = opened.submit(putting(late=b"1"), None)
    with breaking(Document, "_take", 1, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        ticket.result()
    store.submit(putting(b=b"1")).result()
    assert sorted(store.view(WF).keys()) == ["a", "b"] and store.view(WF).version == 2


def test_a_change_that_memory_ran_out_for_as_it_was_taken_is_not_made_later(store: TestedStore) -> None:
    """Its caller is told so, once."""
    opened = store._document(WF)

    class Full(set[Any]):
        def add(self, _: Any) -> None:
            raise MemoryError

    real, opened._flying = opened._flying, Full()
    ticket = opened.submit(putting(late=b"1"), None)
    with pytest.raises(MemoryError):
        ticket.result()
    opened._flying = real
    store.submit(putting(b=b"1")).result()
    assert sorted(store.view(WF).keys()) == ["a", "b"]


def test_who_was_interrupted_and_asks_again_learns_that_nothing_is_known(store: TestedStore) -> None:
    """A ticket that was given up answers at once."""
    ticket = store._document(WF).submit(putting(late=b"1"), None)
    with breaking(Document, "_take", 1, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        ticket.result()
    for _ in range(2):
        with pytest.raises(StoreError, match="interrupted") as caught:
            ticket.result()
        assert caught.value.details["outcome"] == "unknown"


def test_a_thread_of_upkeep_that_is_not_the_one_ends(store: TestedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt can come as one is started: the next that is asked for is the only one that works on."""
    upkeep = store._upkeep
    real, started = threading.Thread.start, []

    def start(thread: threading.Thread) -> None:
        real(thread)
        started.append(thread)
        if len(started) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", start)
    upkeep._period_s = 3600.0
    with pytest.raises(KeyboardInterrupt):
        upkeep.start_ticking()
    upkeep.start_ticking()
    upkeep.ask_to_settle()
    started[0].join(WAIT_S)
    assert not started[0].is_alive() and started[1].is_alive() and upkeep._thread is started[1]


class _Loop:
    """An event loop of which one method fails as often as a test says."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, times: int) -> None:
        self._loop, self._name, self._left = loop, name, times

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._loop, name)
        if name != self._name or not self._left:
            return real

        def fails(*given: Any) -> Any:
            if not self._left:
                return real(*given)
            self._left -= 1
            raise MemoryError

        return fails


class _Full(list[Ticket]):
    """Tickets that are done, to which none can be added the first times."""

    left = 3

    def __iadd__(self, other: Any) -> Any:  # type: ignore[override]
        if self.left:
            self.left -= 1
            raise MemoryError
        return super().__iadd__(other)


async def updates(path: Path, name: str, times: int, count: int, patch: pytest.MonkeyPatch) -> list[Any]:
    """What comes of updates at once, the first ones of which memory runs out for."""
    async with open_async(path) as wp:
        (await wp.create_workflow("w", "W", steps=["a"])).unwrap()
        loop = _Loop(asyncio.get_running_loop(), name, times)
        with patch.context() as within:
            within.setattr(api.asyncio, "get_running_loop", lambda: loop)
            every = [wp.update_context("w", variables={f"n{number}": number}) for number in range(count)]
            found = await asyncio.wait_for(asyncio.gather(*every, return_exceptions=True), WAIT_S)
        variables = (await wp.load_workflow_state("w")).unwrap().context.variables
    assert len(variables) == sum(not isinstance(each, BaseException) for each in found)
    return found


def test_a_loop_that_could_not_be_woken_is_woken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory runs out as it is woken, three times: every caller is told all the same."""
    found = asyncio.run(updates(tmp_path / "s", "call_soon_threadsafe", 3, 6, monkeypatch))
    assert len(found) == 6 and not [each for each in found if isinstance(each, BaseException)]


def test_a_ticket_that_could_not_be_noted_is_delivered(tmp_path: Path) -> None:
    """Memory runs out as it is, three times: its caller is told all the same."""

    async def act() -> None:
        async with open_async(tmp_path / "s") as wp:
            (await wp.create_workflow("w", "W", steps=["a"])).unwrap()
            assert wp._completions is not None
            wp._completions._done = full = _Full()
            await asyncio.wait_for(wp.update_context("w", variables={"n": 1}), WAIT_S)
            assert not full.left

    asyncio.run(act())


def test_who_cannot_wait_hands_nothing_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory runs out as one of several calls prepares to wait: it fails and is not made, the others are told."""
    found = asyncio.run(updates(tmp_path / "s", "create_future", 1, 6, monkeypatch))
    assert [type(each) for each in found if isinstance(each, BaseException)] == [MemoryError]
