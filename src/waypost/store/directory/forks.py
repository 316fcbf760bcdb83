"""What a fork means for the stores that are open: no lock of a file, and no descriptor, may serve two processes.

Before a fork all appends under way are waited for; the child keeps nothing that its parent has open. Python
forks also where an interrupt ends that waiting; what was taken by then is given back all the same.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from itertools import repeat
from operator import methodcaller
from typing import Protocol

from waypost.store.directory.files import detach_all


class Lock(Protocol):
    """A lock of threads."""

    def acquire(self) -> bool: ...
    def release(self) -> None: ...


class Forked(Protocol):
    """An open store, as a fork sees it."""

    def locks_for_fork(self) -> Iterator[Lock]: ...
    def after_fork_in_child(self) -> None: ...


_OPEN_STORES: weakref.WeakSet[Forked] = weakref.WeakSet()
_forking = threading.RLock()
"""Held while a process forks, so that no store is opened or closed, and no other thread forks, between the hooks."""


class _Held(threading.local):
    """The locks that a thread has taken for a fork, in their order. Another may be about to fork as well."""

    def __init__(self) -> None:
        self.locks: list[Lock] = []


_held = _Held()
_acquire, _release = methodcaller("acquire"), methodcaller("release")


def opened(store: Forked) -> None:
    with _forking:
        _OPEN_STORES.add(store)


def closed(store: Forked) -> None:
    with _forking:
        _OPEN_STORES.discard(store)


def _locks() -> Iterator[Lock]:
    yield _forking
    for store in list(_OPEN_STORES):
        yield from store.locks_for_fork()


def _before_fork() -> None:
    # all in C but the choice of the next: an interrupt never comes between the taking of a lock and the note of it
    _held.locks.extend(filter(_acquire, _locks()))


def _after_fork_in_parent() -> None:
    locks = _held.locks
    deque(map(_release, map(locks.pop, repeat(-1, len(locks)))), maxlen=0)  # as above; the last are the first to go


def _after_fork_in_child() -> None:
    global _forking
    _forking = threading.RLock()
    _held.locks.clear()
    for store in list(_OPEN_STORES):
        store.after_fork_in_child()
    detach_all()  # the rest, which views still read


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
os.register_at_fork(after_in_parent=_after_fork_in_parent)  # once more: one that came during the fork ends the first
