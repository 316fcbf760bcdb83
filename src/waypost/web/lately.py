"""What takes long to find out in a large store: found out by one at a time, and kept for a while that depends on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from waypost.web.answers import Denied

T = TypeVar("T")

_TIMES = 2
_QUICK_S = 0.2
_WAIT_S = 2.0


class Lately(Generic[T]):
    """The last answer to one question. What was quick to find is found anew each time; else it is kept for twice as
    long as that took, and at most for `most_s`: it takes a third of the time at most. Safe to use from any thread.
    """

    def __init__(self, most_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_s = most_s
        self._clock = clock
        self._lock = threading.Lock()
        self._found: tuple[object, T] | None = None
        self._until = 0.0

    def get(self, of: object, find: Callable[[], T]) -> T:
        """What is found of something. Raises what `find` does, and Denied where another is at it for long."""
        if not self._lock.acquire(timeout=_WAIT_S):
            said = "there is much to look through, and it is being done: try again"
            raise Denied(503, "too_slow", said, retryable=True)
        try:
            began = self._clock()
            if self._found is None or self._found[0] is not of or began >= self._until:
                self._found = (of, find())
                ended = self._clock()
                took = ended - began
                self._until = ended if took < _QUICK_S else ended + min(self._most_s, _TIMES * took)
            return self._found[1]
        finally:
            self._lock.release()
