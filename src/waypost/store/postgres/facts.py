"""What a server says of itself that the promises of a store depend on."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from waypost.store.postgres.connections import Connections


class ServerFacts(NamedTuple):
    """`version` is as the server says it, `tables` that of the schema; `clock_ahead_ms` is how far the server's clock
    is ahead of this machine's, give or take half of `round_trip_ms`.
    """

    version: str
    tables: int
    role: str
    is_superuser: bool
    may_change_tables: bool
    may_write: bool
    fsync: bool
    full_page_writes: bool
    synchronous_commit: str
    data_checksums: bool
    is_replica: bool
    is_pooled: bool
    tls: str
    size_bytes: int
    clock_ahead_ms: float
    round_trip_ms: float


_TOLD = [each for each in ServerFacts._fields if each not in ("is_pooled", "clock_ahead_ms", "round_trip_ms")]
"""As `server_facts` gives them."""


def facts(connections: Connections) -> ServerFacts:
    """Ask a server. Raises StoreError."""
    asked_s, started = time.time(), time.monotonic()
    (now,) = connections.read("server_time", ())[0]
    round_trip_ms = (time.monotonic() - started) * 1000
    row = connections.read("server_facts", {"schema": connections.location.schema})[0]
    ahead_ms = (float(now) - asked_s) * 1000 - round_trip_ms / 2
    told: dict[str, Any] = dict(zip(_TOLD, row, strict=True))
    return ServerFacts(**told, is_pooled=connections.is_pooled, clock_ahead_ms=ahead_ms, round_trip_ms=round_trip_ms)
