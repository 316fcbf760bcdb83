"""What each engine does in a turn: something so often, or for so long.

`once` does it once and gives the nanoseconds that it took; what it prepares before does not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any


def lasting(work: Callable[[], object]) -> int:
    """How many nanoseconds it takes."""
    started = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - started


def turns(count: int | None, seconds: float | None = None) -> Iterator[int]:
    """The numbers from 0, so many, and none more once so many seconds have passed; one at least."""
    ends = None if seconds is None else time.monotonic() + seconds
    number = 0
    while (count is None or number < count) and (not number or ends is None or time.monotonic() < ends):
        yield number
        number += 1


def repeat(count: int, once: Callable[[], int]) -> dict[str, Any]:
    """So often, one after the other."""
    return {"latencies_ns": [once() for _ in range(count)]}


def within(start: float, seconds: float, once: Callable[[], int]) -> dict[str, Any]:
    """From a moment of the monotonic clock on, for so long."""
    latencies: list[int] = []
    time.sleep(max(0.0, start - time.monotonic()))
    began = time.monotonic()
    while not latencies or time.monotonic() < start + seconds:  # a late turn does one all the same
        latencies.append(once())
    return {"latencies_ns": latencies, "seconds": time.monotonic() - began}
