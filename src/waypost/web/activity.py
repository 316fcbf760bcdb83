"""How much happened when: commits and ended steps per ten seconds of the last hour, for charts.

What happened before is read from history once, as far as that is quick: of a store of not too many workflows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from waypost.errors import WaypostError
from waypost.history import statuses
from waypost.store import DocumentId, Store
from waypost.watching import CommitEvent

SLICE_S = 10
SLICES = 360
_MOST_WORKFLOWS, _MOST_COMMITS = 2_000, 10_000
_MICROSECONDS = 1_000_000


class Activity:
    """Counts of what every process did, since this one watches. Safe to use from any thread."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._slices: dict[int, list[int]] = {}
        self.totals = [0, 0, 0]
        """Commits, steps completed, steps failed, all since the start."""

    def look_back(self, store: Store) -> None:
        """Count what history holds of the last hour, and nothing else. The totals since the start stay as they are."""
        with self._lock:
            self._slices.clear()
        since_us = (self._now() - SLICE_S * SLICES) * _MICROSECONDS
        names = [name for name, _ in islice(store.glance("workflow"), _MOST_WORKFLOWS + 1)]
        left = _MOST_COMMITS if len(names) <= _MOST_WORKFLOWS else 0
        for name in names if left else ():
            try:
                if store.peek(DocumentId("workflow", name)).time_us < since_us:
                    continue
                for commit in islice(store.past(DocumentId("workflow", name)).commits(), left):
                    if commit.time_us < since_us:
                        break
                    left -= 1
                    self._add(commit.time_us / _MICROSECONDS, _counts(statuses(commit)))
            except WaypostError:
                continue  # a chart is no place to tell of damage

    def count(self, event: CommitEvent) -> None:
        """Count a commit when it was made; one of another hour only among the totals."""
        if event.at is None:
            return
        found = _counts(event.statuses)
        with self._lock:
            self.totals = [before + each for before, each in zip(self.totals, found, strict=True)]
        self._add(event.at.timestamp(), found)

    def _add(self, at: float, found: tuple[int, int, int]) -> None:
        number = int(at) // SLICE_S
        with self._lock:
            newest = int(self._now()) // SLICE_S
            if newest - SLICES < number <= newest + 1:
                counts = self._slices.setdefault(number, [0, 0, 0])
                counts[:] = [before + each for before, each in zip(counts, found, strict=True)]
            for old in [each for each in self._slices if each <= newest - SLICES]:
                del self._slices[old]

    def series(self) -> list[dict[str, Any]]:
        """All slices of the last hour, the oldest first, also those in which nothing happened."""
        newest = int(self._now()) // SLICE_S
        with self._lock:
            found = {number: list(counts) for number, counts in self._slices.items()}
        return [
            {
                "at": datetime.fromtimestamp(number * SLICE_S, UTC),
                **dict(zip(("commits", "steps_completed", "steps_failed"), found.get(number, (0, 0, 0)), strict=True)),
            }
            for number in range(newest - SLICES + 1, newest + 1)
        ]


def _counts(statuses: Mapping[str, str]) -> tuple[int, int, int]:
    """One commit, and how many steps it completed and failed."""
    found = list(statuses.values())
    return 1, found.count("completed"), found.count("failed")
