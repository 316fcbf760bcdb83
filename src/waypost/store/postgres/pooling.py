"""Connections that are kept for the next use, and how many of them there may be.

There are no threads behind it: who needs a connection makes it, and is told why there is none. A thread that has one
and needs another meanwhile never waits for it, since all might wait for each other then.
"""

from __future__ import annotations

import math
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus

RV = TypeVar("RV")
_LONGEST_IDLE_S = 600.0


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """One that is closed, and so lost, where nothing comes from the server for too long. Whatever stands in between may
    acknowledge what is sent and never hand it on, so that neither the server nor TCP finds that out.
    """

    silence_s: float | None = None
    """How long nothing may come while an answer is waited for; None where that is as long as it takes."""
    fell_silent = False

    def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        return super().wait(self._heard(gen), *args, **kwargs)

    def _heard(self, gen: PQGen[RV]) -> PQGen[RV]:
        """The steps of something that waits: the driver goes on with them at least every tenth of a second."""
        heard = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                now = time.monotonic()
                if ready:
                    heard = now
                elif self.silence_s is not None and now - heard > self.silence_s:
                    self.fell_silent = True
                    self.close()
                    raise psycopg.OperationalError(f"nothing came from the server for {self.silence_s:.1f} s")
                wanted = gen.send(ready)
        except StopIteration as done:
            return done.value

    @contextmanager
    def heard_within(self, silence_s: float | None) -> Generator[None]:
        """Another limit for a while."""
        before, self.silence_s = self.silence_s, silence_s
        try:
            yield
        finally:
            self.silence_s = before


class PoolBusy(Exception):
    """All connections were in use for too long."""


class Pool:
    """At most `size` connections, and what threads need beside one that they have. Safe to use from any thread."""

    def __init__(self, connect: Callable[[float | None], Connection], size: int) -> None:
        self._connect = connect
        self._size = size
        self._slots = threading.BoundedSemaphore(size)
        self._idle: deque[tuple[float, Connection]] = deque()
        self._mine = threading.local()
        self._is_closed = False

    @contextmanager
    def connection(self, timeout_s: float, made_within_s: float | None = None) -> Generator[Connection]:
        """A connection, in no transaction. Raises PoolBusy, and psycopg.Error where none can be made.

        With `made_within_s`, for who cannot wait: beside those that are in use, and made in that time if none is idle.
        """
        depth: int = getattr(self._mine, "depth", 0)
        if not depth and made_within_s is None and not self._slots.acquire(timeout=timeout_s):
            raise PoolBusy
        self._mine.depth = depth + 1
        try:
            connection = self._taken() or self._connect(made_within_s)
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._mine.depth = depth
            if not depth and made_within_s is None:
                self._slots.release()

    def _taken(self) -> Connection | None:
        """One that lies idle, the last used first."""
        while True:
            try:
                _, connection = self._idle.pop()
            except IndexError:
                return None
            if _is_alive(connection):
                return connection
            connection.close()

    def _give_back(self, connection: Connection) -> None:
        if connection.info.transaction_status not in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN):
            try:
                connection.rollback()
            except psycopg.Error:
                pass  # it is lost, and closed below
        if connection.fell_silent:  # so have those that go the same way, and each would be waited for
            self._close_those_before(math.inf)
        is_idle = connection.info.transaction_status == TransactionStatus.IDLE
        if not is_idle or self._is_closed or len(self._idle) >= self._size:
            connection.close()
            return
        now = time.monotonic()
        self._idle.append((now, connection))
        self._close_those_before(now - _LONGEST_IDLE_S)

    def _close_those_before(self, moment: float) -> None:
        while True:
            try:
                since, connection = self._idle.popleft()
            except IndexError:
                return
            if since >= moment and not self._is_closed:
                self._idle.appendleft((since, connection))
                return
            connection.close()

    def close(self) -> None:
        """Close what lies idle, and from now on what is given back."""
        self._is_closed = True
        self._close_those_before(time.monotonic())


def _is_alive(connection: Connection) -> bool:
    """Whether the server has said nothing to a connection that lay idle: then it has not ended it."""
    poll = select.poll()
    try:
        poll.register(connection.fileno(), select.POLLIN)
        for _ in range(3):  # what it says last, and the end
            if not poll.poll(0):
                return not connection.closed
            connection.pgconn.consume_input()
    except psycopg.Error:
        pass
    return False
