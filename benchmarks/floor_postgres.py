"""The floor on a server: one prepared INSERT of as many bytes as Waypost writes, in a transaction of its own.

It is one round trip and one sync of the server, and no store on that server can do a durable commit with less.
"""

from __future__ import annotations

import os
from typing import Any

import psycopg

from waypost.bench import timing


class Engine:
    """One connection, and a table that only grows."""

    def __init__(self) -> None:
        self._connection: Any = None
        self._frame = b""

    def open(self, path: str, frame_bytes: int) -> None:
        self._connection = psycopg.connect(path, autocommit=True, prepare_threshold=0)
        self._connection.execute("CREATE TABLE IF NOT EXISTS floor (number bigserial PRIMARY KEY, frame bytea)")
        self._frame = os.urandom(frame_bytes)

    def update(self, count: int) -> dict[str, Any]:
        return timing.repeat(count, self._once)

    def rate(self, start: float, seconds: float) -> dict[str, Any]:
        """Rows from a moment of the monotonic clock on, for so long."""
        return timing.within(start, seconds, self._once)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _once(self) -> int:
        return timing.lasting(self._append)

    def _append(self) -> None:
        self._connection.execute("INSERT INTO floor (frame) VALUES (%s)", (self._frame,))
