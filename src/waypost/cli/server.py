"""What `waypost store doctor` finds out about a PostgreSQL server and the store in it."""

from __future__ import annotations

from collections.abc import Iterator

from waypost.cli.examination import Check
from waypost.cli.text import size
from waypost.store.postgres.facts import ServerFacts

_MOST_AHEAD_MS = 60_000


def examine(found: ServerFacts) -> list[Check]:
    """All checks, of what a server said."""
    facts = found._asdict()
    return [
        Check("server", "good", f"PostgreSQL {found.version}, tables of version {found.tables}", facts),
        *_durability(found),
        *_rights(found),
        *_connection(found),
        Check("space", "info", f"the tables take {size(found.size_bytes)}"),
    ]


def _durability(found: ServerFacts) -> Iterator[Check]:
    if not found.fsync:
        yield Check("durability", "problem", "fsync is off: a loss of power loses commits, and may damage the database")
    elif not found.full_page_writes:
        yield Check("durability", "warning", "full_page_writes is off: safe only where pages are written whole")
    else:
        text = "commits are synced"
        if found.synchronous_commit == "off":
            text += "; synchronous_commit is off, and is turned on for each commit"
        elif found.synchronous_commit != "on":
            text += f" (synchronous_commit = {found.synchronous_commit})"
        yield Check("durability", "good", text)
    if found.data_checksums:
        yield Check("checksums", "good", "pages have checksums, and so have parts and commits")
    else:
        yield Check("checksums", "info", "pages have no checksums (initdb -k); parts and commits have")


def _rights(found: ServerFacts) -> Iterator[Check]:
    if found.is_replica:
        yield Check("writing", "warning", "the server is a replica: it can only be read")
    elif not found.may_write:
        yield Check("writing", "warning", f"role {found.role} may read, and not write (docs/postgres.md, section 8)")
    else:
        yield Check("writing", "good", f"role {found.role} may read and write")
    if found.is_superuser:
        yield Check("role", "warning", f"role {found.role} is a superuser, which Waypost does not need")
    elif not found.may_change_tables:
        yield Check("tables", "info", "the schema is another role's: it has to open the store once after an upgrade")


def _connection(found: ServerFacts) -> Iterator[Check]:
    if found.tls:
        yield Check("connection", "good", f"encrypted: {found.tls}")
    else:
        yield Check(
            "connection", "info", "not encrypted, which suits a socket of this machine (else: sslmode=verify-full)"
        )
    if found.is_pooled:
        yield Check("pooler", "info", "a pooler stands in between: commits are noticed by asking, within a second")
    if abs(found.clock_ahead_ms) > _MOST_AHEAD_MS:
        text = f"the server's clock is {found.clock_ahead_ms / 1000:+.0f} s off this machine's: times of commits differ"
        yield Check("clock", "warning", text)
    yield Check("round trip", "info", f"{found.round_trip_ms:.1f} ms")
