"""Where the commits of logs stand, so that whoever looks into the past of a log again need not hop over all of it.

It is derived, and believed only for the same generation of a log, in which the last commit is still what it was: its id
names all commits before it.
"""

from __future__ import annotations

from array import array
from typing import NamedTuple

from waypost.store.kinds import DocumentId

_MOST_LOGS = 64


class Places(NamedTuple):
    """Where the commits of one generation of a log stand, from the oldest that it holds on. `upto` names that
    generation by the id of its file, and the last of them.
    """

    upto: tuple[int, bytes]
    offsets: array[int]


class Hopped:
    """The places in the logs that were looked into last. Safe to use from any thread, since each step stands alone, and
    what it gives is not changed.
    """

    def __init__(self) -> None:
        self._logs: dict[DocumentId, Places] = {}

    def get(self, document: DocumentId) -> Places | None:
        return self._logs.get(document)

    def keep(self, document: DocumentId, places: Places) -> None:
        self._logs.pop(document, None)
        self._logs[document] = places
        for oldest in list(self._logs)[:-_MOST_LOGS]:
            self._logs.pop(oldest, None)
