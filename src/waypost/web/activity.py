"""How much happened when: commits and ended steps per ten seconds of the last hour, for charts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from waypost.watching import CommitEvent

SLICE_S = 10
SLICES = 360


class Activity:
    """Counts of what every process did, since this one watches. Safe to use from any thread."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._slices: dict[int, list[int]] = {}
        self.totals = [0, 0, 0]
        """Commits, steps completed, steps failed, all since the start."""

    def count(self, event: CommitEvent) -> None:
        """Count a commit when it was made; one of another hour only among the totals."""
        if event.at is None:
            return
        statuses = list(event.statuses.values())
        found = (1, statuses.count("completed"), statuses.count("failed"))
        number = int(event.at.timestamp()) // SLICE_S
        with self._lock:
            self.totals = [before + each for before, each in zip(self.totals, found, strict=True)]
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
