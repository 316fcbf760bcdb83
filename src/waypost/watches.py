"""A watch on the asynchronous face: the blocking one, driven by a thread of its own.

Invariants:

* Cancelling whoever awaits an event loses none: what the thread has found by then is the answer to the next question.
* One at a time awaits an event: of several tasks each is given others, and none is cancelled with another.
* The thread waits for a second at most before it asks whether anybody still wants an event, so it ends soon after the
  watch was let go of, in whatever way; `close` ends it at once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from waypost.watching import CommitEvent, Watch

_SLICE_S = 1.0


class _Driver:
    """The blocking watch, and the thread that asks it."""

    def __init__(self, make: Callable[[], Watch]) -> None:
        self._make = make
        self._lock = threading.RLock()  # it may be collected in any thread, at any moment
        self._watch: Watch | None = None
        self._thread: ThreadPoolExecutor | None = None
        self.ended = False

    def ask(self, timeout_s: float | None) -> Future[CommitEvent | None]:
        """Have the thread wait for the next event, or without a time only begin the watch."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "waypost-watch")
        return self._thread.submit(self._get, timeout_s)

    def _get(self, timeout_s: float | None) -> CommitEvent | None:
        watch = self._begun()
        event = None if watch is None or timeout_s is None else watch.get(timeout_s)
        if watch is None or watch.has_ended:
            self.ended = True
        return event

    def _begun(self) -> Watch | None:
        if self._watch is None and not self.ended:
            made = self._make()
            with self._lock:
                if not self.ended:
                    self._watch = made
                    return made
            made.close()
        return self._watch

    @property
    def cursor(self) -> str | None:
        return None if self._watch is None else self._watch.cursor

    def end(self, *, wait: bool) -> None:
        with self._lock:
            self.ended = True
            watch = self._watch
        if watch is not None:
            watch.close()
        if self._thread is not None:
            self._thread.shutdown(wait=wait)


class AsyncWatch:
    """What is committed, event by event, for `async with` and `async for`; see `Watch`. Awaiting an event may be
    cancelled, also by a timeout: it is there the next time. One task at a time is given an event.
    """

    def __init__(self, make: Callable[[], Watch]) -> None:
        self._driver = _Driver(make)
        self._turn = asyncio.Lock()
        self._asked: Future[CommitEvent | None] | None = None

    @property
    def cursor(self) -> str | None:
        """Where a watch goes on behind the last event; None before this one has begun."""
        return self._driver.cursor

    async def get(self, timeout_s: float | None = None) -> CommitEvent | None:
        """The next event; None when there is none within that time, or the watch has ended.

        Raises DocumentDamaged for the only workflow that is watched, StoreUnavailable; it may be called again.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._turn.acquire()
        except TimeoutError:
            return None
        try:
            return await self._get(until)
        finally:
            self._turn.release()

    async def _get(self, until: float | None) -> CommitEvent | None:
        while True:
            left = _SLICE_S if until is None else max(0.0, min(_SLICE_S, until - time.monotonic()))
            event = await self._ask(left)
            if event is not None or self._driver.ended:
                return event
            if until is not None and time.monotonic() >= until:
                return None

    async def _ask(self, timeout_s: float | None) -> CommitEvent | None:
        if self._asked is None and self._driver.ended:
            return None
        earlier = self._asked
        asked = self._asked = earlier or self._driver.ask(timeout_s)
        try:
            # what was found for somebody who gave up is handed out at once, so that no timeout is too short for it
            event = await asyncio.wrap_future(asked) if earlier is None or not asked.done() else asked.result()
        except asyncio.CancelledError:
            if asked.cancelled():
                self._asked = None  # else whoever asks next is given what it finds
            raise
        except BaseException:
            self._asked = None
            raise
        self._asked = None
        if self._driver.ended:
            self._driver.end(wait=False)
        return event

    async def close(self) -> None:
        """End it, and its thread. May be called twice."""
        await asyncio.shield(asyncio.to_thread(self._driver.end, wait=True))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> CommitEvent:
        event = await self.get()
        if event is None:
            raise StopAsyncIteration
        return event

    async def __aenter__(self) -> Self:
        try:
            await self._ask(None)
        except BaseException:
            self._driver.end(wait=False)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __del__(self) -> None:
        if hasattr(self, "_driver"):
            self._driver.end(wait=False)
