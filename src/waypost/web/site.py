"""What is served: the store, what is told of it live, and the threads that look at it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from waypost.catalogue import Entry
from waypost.cli.invocation import Reading
from waypost.web.answers import Denied
from waypost.web.lately import Lately
from waypost.web.live import Live
from waypost.web.source import Source

T = TypeVar("T")

THREADS = 4
MOST_WAITING = 64
"""Requests that are answered or wait for a thread at once."""

LONGEST_S = 30.0
"""How long an answer may take."""

_ENTRIES_S, _ROOM_S = 5.0, 60.0
"""How old a list of all workflows may be, and what is known of the room that they take."""


class Site:
    """All that routes need. `close` ends it."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.live = Live(source)
        self.began = time.monotonic()
        self.room: Lately[tuple[list[dict[str, Any]], list[dict[str, Any]]]] = Lately(_ROOM_S)
        self._entries: Lately[tuple[list[Entry], dict[str, str]]] = Lately(_ENTRIES_S)
        self._pool = ThreadPoolExecutor(THREADS, "waypost-web")
        self._places = threading.BoundedSemaphore(MOST_WAITING)

    async def work(self, function: Callable[..., T], *arguments: Any) -> T:
        """What a function gives that is run in another thread. Raises Denied where too many wait, or it takes too long;
        it then goes on, and keeps its place till its end.
        """
        if not self._places.acquire(blocking=False):
            raise Denied(429, "busy", "too many requests wait for an answer: try again", retryable=True)
        doing: Future[T] = self._pool.submit(function, *arguments)
        doing.add_done_callback(lambda _: self._places.release())
        try:
            async with asyncio.timeout(LONGEST_S):
                return await asyncio.shield(asyncio.wrap_future(doing))
        except TimeoutError:
            if doing.done():
                raise
            raise Denied(
                503, "too_slow", f"this took longer than {LONGEST_S:.0f} s: try again", retryable=True
            ) from None

    def entries(self, store: Reading) -> tuple[list[Entry], dict[str, str]]:
        """All workflows as a list sees them, and why others cannot be read, by id."""
        catalogue = store.wp.definitions.sessions.looker.catalogue
        return self._entries.get(store, lambda: (list(catalogue.entries()), dict(catalogue.unread)))

    def close(self) -> None:
        """Nobody is waited for: what still looks at the store is told that it is closed."""
        self.live.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.source.close()
