"""What a fork means for the stores that are open: no lock of a file, and no descriptor, may serve two processes.

Before a fork all appends under way are waited for; the child keeps nothing that its parent has open.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

from waypost.store.directory.files import detach_all


class Forked(Protocol):
    """An open store, as a fork sees it."""

    def before_fork(self) -> None: ...
    def after_fork_in_parent(self) -> None: ...
    def after_fork_in_child(self) -> None: ...


_OPEN_STORES: weakref.WeakSet[Forked] = weakref.WeakSet()
_forking = threading.RLock()
"""Held while a process forks, so that no store is opened or closed, and no other thread forks, between the hooks."""
_waiting: list[Forked] = []
"""Those whose locks are held for a fork."""


def opened(store: Forked) -> None:
    with _forking:
        _OPEN_STORES.add(store)


def closed(store: Forked) -> None:
    with _forking:
        _OPEN_STORES.discard(store)


def _before_fork() -> None:
    _forking.acquire()
    for store in list(_OPEN_STORES):
        store.before_fork()
        _waiting.append(store)


def _after_fork_in_parent() -> None:
    try:
        while _waiting:
            _waiting.pop().after_fork_in_parent()
    finally:
        _forking.release()


def _after_fork_in_child() -> None:
    global _forking
    _forking = threading.RLock()
    _waiting.clear()
    for store in list(_OPEN_STORES):
        store.after_fork_in_child()
    detach_all()  # the rest, which views still read


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
