"""Where the commits of logs stand, so that whoever looks into the past of a log again need not hop over all of it.

It is derived, and believed only for the same generation of a log, in which the last commit is still what it was: its id
names all commits before it.
"""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from typing import NamedTuple

from waypost.store.kinds import DocumentId

_MOST_LOGS = 64


class Places(NamedTuple):
    """Where the commits of one generation of a log stand, from the oldest that it holds on, and the id of the last."""

    file_id: int
    commit_id: bytes
    offsets: array[int]


class Hopped:
    """The places in the logs that were looked into last. Safe to use from any thread; what it gives is not changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logs: OrderedDict[DocumentId, Places] = OrderedDict()

    def get(self, document: DocumentId) -> Places | None:
        return self._logs.get(document)

    def keep(self, document: DocumentId, places: Places) -> None:
        with self._lock:
            self._logs[document] = places
            self._logs.move_to_end(document)
            while len(self._logs) > _MOST_LOGS:
                self._logs.popitem(last=False)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
