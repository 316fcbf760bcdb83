"""Counting what a handle does: each operation as it ends, in slices of time, at next to no cost where it ends.

Invariants:

* Where an operation ends one tuple is queued, and no lock is taken that anybody holds for long. Slices are filled when
  somebody asks, or when many wait.
* What is queued is counted once, in the slice of its own time, whenever it is filled in.
* A slice that goes is added to what is retired, so that totals never lose anything.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable
from threading import Lock
from typing import NamedTuple
from weakref import WeakSet

from waypost import clock
from waypost.metrics import OTHER
from waypost.store import Counters

SLICE_NS = 5_000_000_000
SLICES = 120
"""How long a slice is, and how many are kept."""
MOST_KINDS = 100
"""Kinds of operations, and codes of errors, that are told apart."""
_MOST_QUEUED = 256
_FINENESS = 4
"""Between two powers of two are 2**4 buckets."""


Ended = tuple[str, bool, int, int, Counters | None, str | None]
"""An operation that ended: which, whether it is a save, when by `clock.monotonic_ns`, after how many ns, at what cost,
and with the code of which error. A plain tuple, since making one of a class costs more than all else of queueing it.
"""


def bucket_of(taken_ns: int) -> int:
    """The bucket of a time. Its upper end belongs to it."""
    below = taken_ns - 1 if taken_ns > 1 << _FINENESS else 1 << _FINENESS
    shift = below.bit_length() - _FINENESS - 1
    return (shift << _FINENESS) + (below >> shift)


def end_of(bucket: int) -> int:
    """The longest time in a bucket, in ns."""
    shift = (bucket >> _FINENESS) - 1
    return (bucket - (shift << _FINENESS) + 1) << shift


class Tally:
    """What operations came to. Times in ns, bytes as stored."""

    __slots__ = (
        "buckets", "bytes_read", "bytes_written", "count", "failures", "hits", "io_operations", "is_save", "longest_ns",
        "raw_bytes", "syncs", "taken_ns"
    )  # fmt: skip

    def __init__(self, *, is_save: bool = False) -> None:
        self.is_save = is_save
        self.count = self.failures = self.hits = 0
        self.taken_ns = self.longest_ns = 0
        self.bytes_read = self.bytes_written = self.raw_bytes = 0
        self.io_operations = self.syncs = 0
        self.buckets: dict[int, int] = {}

    def add(self, taken_ns: int, counters: Counters | None, *, is_failure: bool) -> None:
        """Count an operation."""
        self.count += 1
        self.taken_ns += taken_ns
        if taken_ns > self.longest_ns:
            self.longest_ns = taken_ns
        bucket = bucket_of(taken_ns)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
        if is_failure:
            self.failures += 1
        if counters is None:
            return
        self.hits += counters.hits
        self.io_operations += counters.reads + counters.writes
        self.syncs += counters.syncs
        self.bytes_read += counters.bytes_read
        if counters.writes:
            self.bytes_written += counters.bytes_written
            self.raw_bytes += counters.raw_bytes

    def merge(self, other: Tally) -> None:
        """Count what another has counted."""
        self.count += other.count
        self.failures += other.failures
        self.hits += other.hits
        self.taken_ns += other.taken_ns
        self.longest_ns = max(self.longest_ns, other.longest_ns)
        self.bytes_read += other.bytes_read
        self.bytes_written += other.bytes_written
        self.raw_bytes += other.raw_bytes
        self.io_operations += other.io_operations
        self.syncs += other.syncs
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    def percentile_ns(self, share: float) -> int:
        """The time that such a share of the operations stayed within, by the end of its bucket; 0 without any."""
        left = share * self.count
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left <= 0:
                return min(end_of(bucket), self.longest_ns)
        return 0


Tallies = dict[str, Tally]
"""What operations came to, by their kind."""


class Seen(NamedTuple):
    """What happened between two moments of `clock.monotonic_ns`."""

    since_ns: int
    until_ns: int
    tallies: Tallies


class Instruments:
    """What one handle has counted since it was opened. Safe to use from any thread."""

    __slots__ = (
        "__weakref__", "_codes", "_finished", "_kinds", "_lock", "_newest", "_queue", "_retired", "_slices", "_steps",
        "began_ns"
    )  # fmt: skip

    def __init__(self) -> None:
        self.began_ns = clock.monotonic_ns()
        self._lock = Lock()
        self._queue: deque[Ended] = deque()
        self._steps: deque[tuple[str, int]] = deque()
        self._finished: Tallies = {}
        self._slices: dict[int, Tallies] = {}
        self._newest = self.began_ns // SLICE_NS
        self._retired: Tallies = {}
        self._kinds: set[str] = set()
        self._codes: Counter[str] = Counter()
        _ALL.add(self)

    def note(self, ended: Ended) -> None:
        """Have an operation counted."""
        self._queue.append(ended)
        if len(self._queue) >= _MOST_QUEUED and self._lock.acquire(blocking=False):
            try:
                self._count()
            finally:
                self._lock.release()

    def note_step(self, status: str, taken_ns: int) -> None:
        """Have a step counted that was finished."""
        self._steps.append((status, taken_ns))

    def window(self, window_ns: int) -> Seen:
        """What happened in the slices that the last so many ns touch, or since the beginning."""
        with self._lock:
            now_ns = self._look()
            first = max((now_ns - window_ns) // SLICE_NS, self._newest - SLICES)
            tallies = _sum(tallies for index, tallies in self._slices.items() if index >= first)
        return Seen(max(first * SLICE_NS, self.began_ns), now_ns, tallies)

    def series(self) -> list[Seen]:
        """What happened in each slice that is kept, oldest first, also where nothing did."""
        with self._lock:
            now_ns = self._look()
            first = max(self.began_ns // SLICE_NS, self._newest - SLICES + 1)
            return [
                Seen(
                    max(index * SLICE_NS, self.began_ns),
                    min((index + 1) * SLICE_NS, now_ns),
                    _sum([self._slices.get(index, {})]),
                )
                for index in range(first, self._newest + 1)
            ]

    def totals(self) -> Tallies:
        """What happened since the beginning."""
        with self._lock:
            self._look()
            return _sum([self._retired, *self._slices.values()])

    def steps(self) -> Tallies:
        """The steps that were finished since the beginning, by what they are."""
        with self._lock:
            self._look()
            return _sum([self._finished])

    def errors(self) -> dict[str, int]:
        """How often operations failed since the beginning, by the code of the error."""
        with self._lock:
            self._look()
            return dict(self._codes)

    # --- with the lock held ---

    def _look(self) -> int:
        """Count what is queued, and let go of slices that are too old; the time."""
        self._count()
        now_ns = clock.monotonic_ns()
        self._move_on(now_ns // SLICE_NS)
        return now_ns

    def _count(self) -> None:
        for _ in range(len(self._queue)):
            kind, is_save, at_ns, taken_ns, counters, code = self._queue.popleft()
            index = at_ns // SLICE_NS
            tallies = self._slices.get(index)
            if tallies is None:
                tallies = self._tallies(index)
            tally = tallies.get(kind)
            if tally is None:
                tally = self._tally(tallies, kind, is_save=is_save)
            tally.add(taken_ns, counters, is_failure=code is not None)
            if code is not None:
                known = code in self._codes or len(self._codes) < MOST_KINDS
                self._codes[code if known else OTHER] += 1

        for _ in range(len(self._steps)):
            status, taken_ns = self._steps.popleft()
            self._finished.setdefault(status, Tally()).add(taken_ns, None, is_failure=False)

    def _tallies(self, index: int) -> Tallies:
        """Those of a slice that had none, or of all that is too old for one."""
        self._move_on(index)
        return self._slices.setdefault(index, {}) if index >= self._newest - SLICES else self._retired

    def _tally(self, tallies: Tallies, kind: str, *, is_save: bool) -> Tally:
        if kind not in self._kinds and len(self._kinds) >= MOST_KINDS:
            kind = OTHER
        self._kinds.add(kind)
        return tallies.setdefault(kind, Tally(is_save=is_save and kind != OTHER))

    def _move_on(self, newest: int) -> None:
        self._newest = max(self._newest, newest)
        for index in [each for each in self._slices if each < self._newest - SLICES]:
            _add(self._retired, self._slices.pop(index))


def _sum(several: Iterable[Tallies]) -> Tallies:
    found: Tallies = {}
    for tallies in several:
        _add(found, tallies)
    return found


def _add(to: Tallies, tallies: Tallies) -> None:
    for kind, tally in tallies.items():
        if kind not in to:
            to[kind] = Tally(is_save=tally.is_save)
        to[kind].merge(tally)


_ALL: WeakSet[Instruments] = WeakSet()


def _begin_anew() -> None:
    """In the child of a fork: what the parent did is the parent's, and whoever held a lock is not here."""
    for each in list(_ALL):
        each.__init__()


os.register_at_fork(after_in_child=_begin_anew)
