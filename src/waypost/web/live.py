"""What is committed, told to every stream: one thread watches the store, and keeps the last events for all of them.

Invariants:

* A stream reads the events by number, each once and in order, so one that was cut goes on where it was. Whoever asks
  for what is no longer kept, or was numbered by another start or for another store, is told so by `hello`, whose
  `resumed` is then false: what the page shows has to be read anew.
* Nothing waits for a stream. One that does not take what it is sent is dropped, and one that is left frees its place.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from starlette.types import Receive, Scope, Send

from waypost.cli.invocation import Reading
from waypost.cli.text import as_json
from waypost.errors import InvalidInput, WaypostError
from waypost.watching import CommitEvent, Watch
from waypost.web.activity import Activity
from waypost.web.answers import Denied
from waypost.web.source import Source

logger = logging.getLogger("waypost")

MOST_STREAMS = 8
KEPT = 4_096
"""Events that a stream can go back to."""

ALIVE_S = 15.0
"""How often a stream is told something."""

SLOW_S = 10.0
"""How long a stream may leave what it is sent."""

GATHER_S = 0.1
_WAIT_S, _AGAIN_S = 0.5, 1.0
_MOST_AT_ONCE = 500


class Place(NamedTuple):
    """How far a stream is: the name of a numbering, and the number of the event told last."""

    epoch: str
    number: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.number}"


def place_of(cursor: str) -> Place:
    """Raises InvalidInput."""
    epoch, dot, number = cursor.rpartition(".")
    if not dot or not epoch or not number.isascii() or not number.isdecimal() or len(number) > 15:
        raise InvalidInput("that is no cursor of a stream: give the id of an event, or none")
    return Place(epoch, int(number))


class Live:
    """The watcher, and the events that it saw last. `start` it once; `close` ends it and every stream."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.activity = Activity()
        self._lock = threading.Lock()
        self._epoch = secrets.token_hex(8)
        self._number = 0
        self._events: deque[tuple[int, bytes]] = deque(maxlen=KEPT)
        self._streams: set[Stream] = set()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._watch: Watch | None = None
        self._has_begun = False
        self._counted: object = object()
        self.problem: str | None = None
        """Why nothing is told at present."""

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, name="waypost-web-watch", daemon=True)
            self._thread.start()

    def end_streams(self) -> None:
        """Have every stream end, and the watcher. May be called in a handler of a signal."""
        self._ended.set()
        if self._watch is not None:
            self._watch.close()
        self._wake()

    def close(self) -> None:
        self.end_streams()
        if self._thread is not None:
            self._thread.join()

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    @property
    def streams(self) -> int:
        """How many there are."""
        return len(self._streams)

    # --- watching, in the thread ---

    def _follow(self) -> None:
        while not self.has_ended:
            try:
                with self._source.reading() as store:
                    self._look_back(store)
                    self._tell(store)
            except WaypostError as error:
                if self.problem is None and not self.has_ended:
                    logger.info("nothing is told live for now: %s", error)
                    self._begin_anew(str(error))
            except Exception:
                if self.problem is None:
                    logger.exception("watching the store failed, and is tried again")
                    self._begin_anew("watching the store failed")
            self._ended.wait(_AGAIN_S)

    def _look_back(self, store: Reading) -> None:
        """Count what was done of late in a store that was not counted yet, in place of what another one had."""
        which = self._source.which(store)
        if which != self._counted:
            self.activity.look_back(store.store)
            self._counted = which

    def _tell(self, store: Reading) -> None:
        """Tell what is committed, as long as the store is what is there."""
        with Watch(store.store, None, None) as watch:
            self._watch = watch
            self._begin_anew()
            while not self.has_ended and not watch.has_ended and self._source.is_current(store):
                self._publish(list(self._gather(watch)))

    def _begin_anew(self, problem: str | None = None) -> None:
        """Let every stream read anew: what was told before may have been of another store, or it is away, and what was
        committed before now is told to nobody.
        """
        with self._lock:
            self._epoch, self._number = secrets.token_hex(8), 0
            self._events.clear()
            self.problem, self._has_begun = problem, True
        self._wake()

    def _gather(self, watch: Watch) -> Iterator[CommitEvent]:
        """What happens within a moment, so that streams are woken ten times a second at most."""
        event = watch.get(_WAIT_S)
        until = time.monotonic() + GATHER_S
        for _ in range(_MOST_AT_ONCE):
            if event is None:
                return
            yield event
            event = watch.get(max(0.0, until - time.monotonic()))

    def _publish(self, events: list[CommitEvent]) -> None:
        if not events:
            return
        with self._lock:
            for event in events:
                self.activity.count(event)
                self._number += 1
                place = Place(self._epoch, self._number)
                self._events.append((self._number, written("commit", _told(event), place)))
        self._wake()

    def _wake(self) -> None:
        for stream in list(self._streams):
            stream.wake()

    # --- streams, in the loop ---

    def begin(self, cursor: str | None) -> Stream:
        """A stream behind a cursor, or from now on. Raises InvalidInput, and Denied where there are too many."""
        place = None if cursor is None else place_of(cursor)
        if len(self._streams) >= MOST_STREAMS:
            raise Denied(429, "too_many_streams", f"{MOST_STREAMS} streams are open: close one", retryable=True)
        stream = Stream(self, place, asyncio.get_running_loop())
        self._streams.add(stream)
        return stream

    def end(self, stream: Stream) -> None:
        self._streams.discard(stream)

    def behind(self, place: Place | None) -> tuple[Place, bytes | None]:
        """Where a stream is now and the events up to there; None for these where it cannot go on from its place."""
        with self._lock:
            here = Place(self._epoch, self._number)
            if place is None or place.epoch != self._epoch or place.number > self._number:
                return here, None
            missing = self._number - place.number
            if missing > len(self._events):
                return here, None
            first = len(self._events) - missing
            return here, b"".join(self._events[number][1] for number in range(first, len(self._events)))


def _told(event: CommitEvent) -> dict[str, Any]:
    """What a page needs to know to look again."""
    told = list(event.statuses.items())
    step, status = told[-1] if told else (None, None)
    return {
        "workflow": event.workflow_id,
        "session": event.session_id,
        "version": event.version,
        "operation": event.operation,
        "step": step,
        "status": status,
        "steps": len(event.statuses),
        "at": None if event.at is None else event.at.isoformat(),
    }


def written(kind: str, data: dict[str, Any], place: Place) -> bytes:
    """One server-sent event."""
    return f"event: {kind}\nid: {place}\ndata: {as_json(data, indent=None)}\n\n".encode("utf-8", "backslashreplace")


class Stream:
    """One answer that goes on until its reader leaves, is too slow, or the server ends."""

    def __init__(self, live: Live, place: Place | None, loop: asyncio.AbstractEventLoop) -> None:
        self._live = live
        self._place = place
        self._loop = loop
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Called in any thread."""
        try:
            self._loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:
            pass  # the loop has ended, and the stream with it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        leaving = asyncio.ensure_future(_left(receive))
        telling = asyncio.ensure_future(self._tell(send))
        try:
            await asyncio.wait((leaving, telling), return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                telling.result()
        except TimeoutError:
            logger.info("a page that did not take what it was sent was dropped")
        finally:
            self._live.end(self)
            for task in (leaving, telling):
                task.cancel()
            await asyncio.gather(leaving, telling, return_exceptions=True)

    async def _tell(self, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        asked = self._place
        self._place, events = self._live.behind(asked)
        await self._send(send, self._hello(asked is not None and events is not None) + (events or b""))
        while not self._live.has_ended:
            try:
                # wait_for of Python 3.11 passes over a cancellation that comes at the same turn as what it waits for
                async with asyncio.timeout(ALIVE_S):
                    await self._woken.wait()
            except TimeoutError:
                await self._send(send, b": alive\n\n")
                continue
            self._woken.clear()
            self._place, events = self._live.behind(self._place)
            if events is None:
                events = self._hello(False)
            if events:
                await self._send(send, events)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _hello(self, is_resumed: bool) -> bytes:
        assert self._place is not None
        return written("hello", {"resumed": is_resumed, "problem": self._live.problem}, self._place)

    async def _send(self, send: Send, data: bytes) -> None:
        """Raises TimeoutError where nobody takes it."""
        message = {"type": "http.response.body", "body": data, "more_body": True}
        async with asyncio.timeout(SLOW_S):
            await send(message)


async def _left(receive: Receive) -> None:
    """Ends when the reader has."""
    while (await receive())["type"] != "http.disconnect":
        pass
