"""Those who are told of hook events once these are committed: each in order, and none at another's cost.

Invariants:

* Nobody waits for a listener: neither who emits, nor another listener, nor the end of the process.
* Each is told of one event at a time, and has a time limit for it. A plain function runs in a thread of its own, which
  cannot be stopped, and a coroutine may refuse to be: while one goes on after its limit it is not called, and that
  counts as failures.
* What a listener emits is counted by how deep it lies, and refused at a bound.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from inspect import isawaitable, iscoroutinefunction
from typing import Any, Protocol, cast

from waypost.hooks.payloads import HookEvent

logger = logging.getLogger("waypost")

Function = Callable[[HookEvent], Awaitable[Any] | Any]

MOST_WAITING = 1000
"""Events that wait for one listener; of more it is not told."""
_GRACE_S = 0.1
DEEPEST = 8
"""How far events may follow from one another, each emitted by a listener of the one before."""

_depth: contextvars.ContextVar[int] = contextvars.ContextVar("waypost_hook_depth", default=0)


def depth() -> int:
    """How many events, each of which a listener has emitted, led to where this runs."""
    return _depth.get()


class Home(Protocol):
    """Whoever has listeners."""

    listener_failures: int

    def forget(self, listener: HookListener) -> None: ...


class HookListener:
    """One function that is told of events. `remove` ends that; what it is being told of at the time is finished."""

    def __init__(self, event: str | None, function: Function, limit_s: float, home: Home) -> None:
        self.event = event
        self.function = function
        self._limit_s = limit_s
        self._home = home
        self._waiting: deque[tuple[HookEvent, contextvars.Context]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._given_up: asyncio.Task[None] | None = None
        self._ended: threading.Event | None = None
        """Set once the plain function that was called last has come to its end."""

    def remove(self) -> None:
        """Tell it of nothing any more. May be called twice."""
        self._waiting.clear()
        self._home.forget(self)

    def tell(self, event: HookEvent) -> None:
        """Have it told of an event, in the loop that runs."""
        if len(self._waiting) >= MOST_WAITING:
            self._failed(event, "too many events wait for it")
            return
        context = contextvars.copy_context()
        context.run(_depth.set, depth() + 1)
        self._waiting.append((event, context))
        if not self.is_at_work:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    @property
    def is_at_work(self) -> bool:
        """Whether there is something that it has not been told of yet, or is being told of."""
        return self._worker is not None and not self._worker.done()

    async def settle(self) -> None:
        """Wait until it was told of all that waits."""
        if self._worker is not None:
            await asyncio.wait([self._worker])

    async def _work(self) -> None:
        while self._waiting:
            event, context = self._waiting.popleft()
            if self._is_busy():
                self._failed(event, "it is still busy with an earlier one")
                continue
            call = asyncio.get_running_loop().create_task(self._call(event), context=context)
            done, _ = await asyncio.wait([call], timeout=self._limit_s)
            if not done:
                self._failed(event, f"it took longer than {self._limit_s:g} s")
                await self._give_up(call)
            elif call.cancelled():
                self._failed(event, "it was cancelled")
            elif (error := call.exception()) is not None:
                self._failed(event, f"{type(error).__name__}: {error}")

    async def _give_up(self, call: asyncio.Task[None]) -> None:
        """Cancel a call. It may refuse, and then is not waited for."""
        call.add_done_callback(_look_at)
        call.cancel()
        self._given_up = call
        await asyncio.wait([call], timeout=_GRACE_S)

    def _is_busy(self) -> bool:
        """Whether what was given up goes on all the same."""
        if self._given_up is not None and not self._given_up.done():
            return True
        return self._ended is not None and not self._ended.is_set()

    async def _call(self, event: HookEvent) -> None:
        if iscoroutinefunction(self.function):
            await self.function(event)
            return
        made = await self._in_thread(event)
        if isawaitable(made):  # a lambda or a partial may hide a coroutine function
            await made

    def _in_thread(self, event: HookEvent) -> asyncio.Future[Any]:
        """Call it in a daemon thread, which keeps no process from ending."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()
        ended = self._ended = threading.Event()

        def call() -> None:
            try:
                value, error = context.run(self.function, event), None
            except BaseException as raised:
                value, error = None, raised
            ended.set()
            try:
                loop.call_soon_threadsafe(_settle, future, value, error)
            except RuntimeError:
                pass  # the loop is closed, and nobody waits any more

        threading.Thread(target=call, name="waypost-hook-listener", daemon=True).start()
        return future

    def _failed(self, event: HookEvent, why: str) -> None:
        self._home.listener_failures += 1
        name = getattr(self.function, "__qualname__", repr(self.function))
        logger.error("the listener %s was not told of %s: %s", name, event.event, why)


def _look_at(call: asyncio.Task[None]) -> None:
    """What becomes of one that was given up was told already."""
    if not call.cancelled():
        call.exception()


def _settle(future: asyncio.Future[Any], value: object, error: BaseException | None) -> None:
    if future.cancelled():
        _close_unawaited(value)
    elif error is None:
        future.set_result(value)
    else:
        # an interrupt in that thread, or its exit, must not become one of the loop
        future.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))


def _close_unawaited(value: object) -> None:
    if isinstance(value, Coroutine):
        cast("Coroutine[Any, Any, Any]", value).close()
