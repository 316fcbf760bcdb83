"""Noticing commits: what a listener says, when, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import opened
from tests.store.support import change
from waypost.blocking import Waypost
from waypost.errors import StoreClosed
from waypost.store import DocumentId, JointChange, Listener, Store
from waypost.store.directory import listening

DOCUMENT = DocumentId("workflow", "w")
LONG = 60.0


def quiet(listener: Listener) -> None:
    """Wait until it says no more of what happened before."""
    while listener.wait(0.5):
        pass


@pytest.fixture(autouse=True)
def quick_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that not every test waits for the coarsest clock."""
    monkeypatch.setattr(listening, "SETTLED_NS", 200_000_000)


@pytest.mark.parametrize("document", [None, DOCUMENT])
def test_a_listener_tells_of_a_commit_since_it_was_made(store: Store, document: DocumentId | None) -> None:
    """A commit between the making of a listener and its first wait is told of at once."""
    listener = store.listen(document)
    store.submit(change(DOCUMENT, lambda tx: tx.put("key", b"value"))).result()
    assert listener.wait(LONG)
    listener.close()


def test_a_listener_wakes_for_a_commit_of_another_thread(store: Store) -> None:
    """Who waits is woken by a commit, and who is told of it looks when it is there."""
    listener = store.listen()
    quiet(listener)
    commit = threading.Timer(0.1, lambda: store.submit(change(DOCUMENT, lambda tx: tx.put("key", b"1"))).result())
    commit.start()
    while not store.view(DOCUMENT).version:
        assert listener.wait(LONG)
    commit.join()
    listener.close()


def test_a_listener_tells_of_a_commit_over_several_documents(store: Store) -> None:
    """Who waits hears of each document that such a commit brings on."""
    listener = store.listen()
    quiet(listener)
    joint = store.begin()
    for name in ("a", "b"):
        joint.document(DocumentId("workflow", name)).put("key", b"value")
    assert store.commit(joint, JointChange("op", "test")) is not None
    assert listener.wait(LONG)
    listener.close()


def test_a_listener_says_nothing_of_a_store_at_rest(store: Store) -> None:
    """A wait in which nothing is committed ends after its time with False."""
    store.submit(change(DOCUMENT, lambda tx: tx.put("key", b"value"))).result()
    listener = store.listen()
    quiet(listener)
    assert not listener.wait(0)
    listener.close()


@pytest.mark.parametrize("end", ["listener", "store"])
def test_what_waits_ends_with_the_listener_and_with_the_store(store: Store, end: str) -> None:
    """Closing the listener from another thread ends a wait with False; closing the store ends it with StoreClosed."""
    listener = store.listen()
    quiet(listener)
    outcome: list[object] = []

    def wait() -> None:
        try:
            outcome.append(listener.wait(LONG))
        except StoreClosed as error:
            outcome.append(type(error))

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.1)
    (listener if end == "listener" else store).close()
    waiting.join(LONG / 2)
    assert outcome == [False if end == "listener" else StoreClosed]
    listener.close()


def test_a_listener_tells_of_commits_of_another_process(tmp_path: Path) -> None:
    """In a directory, commits of other processes are noticed."""
    wp = opened(tmp_path / "store")
    listener = wp.definitions.store.listen()
    quiet(listener)
    code = "import sys, waypost; waypost.open(sys.argv[1]).create_workflow('w', 'w').unwrap()"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "store")], check=True)
    assert listener.wait(LONG)
    listener.close()
    wp.close()


def test_a_commit_within_one_tick_of_the_clock_is_noticed(tmp_path: Path, frozen: Callable[[Listener], None]) -> None:
    """Where the file system shows no difference, a listener still says once more that there may have been one."""
    wp = opened(tmp_path / "store")
    listener = wp.definitions.store.listen()
    quiet(listener)
    wp.create_workflow("w", "w").unwrap()
    assert listener.wait(LONG)
    frozen(listener)
    next_look, settled = vars(listener)["_doubts"]
    vars(listener)["_doubts"] = [next_look, settled + LONG]  # however slow this is, it does not come to both at once
    assert listener.wait(LONG / 2), "at the next look"
    vars(listener)["_doubts"] = [settled]
    assert listener.wait(LONG), "when the coarsest clock has gone on"
    assert not listener.wait(0.2)
    listener.close()
    wp.close()


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Callable[[Listener], None]:
    """From now on a listener sees what it saw last."""

    def freeze(listener: Listener) -> None:
        seen = vars(listener)["_seen"]
        monkeypatch.setattr(listener, "_ends", lambda: seen)

    return freeze


def beside(wait: Callable[[float], bool], timeout_s: float) -> bool:
    """What a wait in another thread says: in the main one the system is not asked."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(wait, timeout_s).result()


def resting(wp: Waypost) -> listening.Listener:
    """A listener that looks at the ends of logs in an hour only, and is told of changes by the system."""
    listener = wp.definitions.store.listen()
    assert isinstance(listener, listening.Listener)
    quiet(listener)
    listener._pause_s, listener._next_s = listening.MOST_S, time.monotonic() + 3600
    assert not beside(listener.wait, 0.2)
    return listener


def test_the_system_ends_the_pause_between_two_looks(tmp_path: Path) -> None:
    """With `watchfiles` a commit is noticed at once, however long the pause is."""
    wp = opened(tmp_path / "store")
    listener = resting(wp)
    wp.create_workflow("w", "w").unwrap()
    assert beside(listener.wait, LONG)
    listener.close()
    assert not beside(listener.wait, LONG)
    assert listener._hints is None
    wp.close()


@pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError, StopIteration])
def test_without_the_system_the_ends_of_logs_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Where `watchfiles` is not installed, or cannot watch, commits are noticed all the same."""

    def fail(*_: object) -> object:
        raise error("no such thing")

    monkeypatch.setattr(listening, "_hints", fail)
    wp = opened(tmp_path / "store")
    listener = wp.definitions.store.listen()
    quiet(listener)
    vars(listener)["_pause_s"] = listening.MOST_S
    beside(listener.wait, 0.1)
    assert not vars(listener)["_may_hint"]
    wp.create_workflow("w", "w").unwrap()
    assert beside(listener.wait, LONG)
    listener.close()
    wp.close()


def test_a_store_that_closes_before_the_system_is_asked_ends_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever looking for its folders then comes to, it is told as that."""
    wp = opened(tmp_path / "store")
    listener = wp.definitions.store.listen()
    quiet(listener)
    given = listening._hints

    def closing(*arguments: Any) -> object:
        wp.close()
        return given(*arguments)

    monkeypatch.setattr(listening, "_hints", closing)
    vars(listener).update(_pause_s=listening.MOST_S, _next_s=time.monotonic() + 3600, _may_hint=True, _hints=None)
    with pytest.raises(StoreClosed):
        beside(listener.wait, LONG)


def test_what_a_handler_of_a_signal_raises_reaches_who_waits(tmp_path: Path) -> None:
    """A program that is ended by an exception of its handler while it waits sees that exception, and no other."""

    class Ended(Exception):
        pass

    def end(*_: object) -> None:
        raise Ended

    wp = opened(tmp_path / "store")
    listener = wp.definitions.store.listen()
    quiet(listener)
    before = signal.signal(signal.SIGUSR1, end)
    ending = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1))
    ending.start()
    try:
        with pytest.raises(Ended):
            listener.wait(LONG)
    finally:
        ending.join()
        signal.signal(signal.SIGUSR1, before)
    listener.close()
    wp.close()


def test_closing_the_store_wakes_what_would_look_much_later(tmp_path: Path) -> None:
    """However long the pause between two looks is, nobody waits for a store that is closed."""
    wp = opened(tmp_path / "store")
    listener = resting(wp)
    listener._may_hint = False
    closing = threading.Timer(0.1, wp.close)
    closing.start()
    with pytest.raises(StoreClosed):
        listener.wait(LONG)
    closing.join()
