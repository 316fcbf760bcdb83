"""Taking what was erased out of all versions: out of the rows, of what is told of commits, and of versions taken in.

The pages of the server, its log of writes and its copies keep old bytes until they are used for something else; the
tables are vacuumed, so that this may be soon (docs/postgres.md, section 8).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from hashlib import sha256

import psycopg

from waypost.codec import bodies
from waypost.codec.bodies import ErasedParts
from waypost.errors import WaypostError
from waypost.store import commits, erasures, parts
from waypost.store.erasures import Erasures
from waypost.store.kinds import DocumentId
from waypost.store.pasts import Commit
from waypost.store.postgres import queries
from waypost.store.postgres.connections import Connection, Pinned
from waypost.store.postgres.context import Context
from waypost.store.postgres.history import PostgresPast
from waypost.store.postgres.told import tell, tell_again, told

_LOG = logging.getLogger("waypost")


def is_due(context: Context, document: DocumentId) -> bool:
    """Whether a document says of something that it is erased, and some of it may be there."""
    view = context.look(document)
    found = Erasures.of(view)
    if not found:
        return False
    rows = context.connections.read("erased_so_far", {"doc": view.head.doc})
    return bool(rows) and (rows[0][0] is None or bytes(rows[0][0]) != _digest_of(found))


def _digest_of(found: Erasures) -> bytes:
    """All of it: what comes from another store may be of an earlier time than what was erased here."""
    return sha256(repr(sorted(found.until.items())).encode()).digest()


def erase(context: Context, document: DocumentId) -> None:
    """See `contract.Store.erase`."""

    def act(connection: Connection) -> bool:
        with context.connections.transaction(connection):
            view = context.look_with(connection, document)
            found = Erasures.of(view)
            if not found:
                return False
            statements, doc = context.connections.statements, view.head.doc
            past = PostgresPast(context, view, Pinned(context.connections, connection))
            for commit in past.commits():
                _retell(context, connection, doc, commit, found)
            _forget(context, connection, doc, found)
            _empty(context, connection, doc, found, is_adopted=False)
            for (adopted,) in connection.execute(statements["all_adopted"], document).fetchall():
                _empty(context, connection, adopted, found, is_adopted=True)
            connection.execute(statements["erased"], (_digest_of(found), doc))
            context.make_durable(connection)
        return True

    if context.in_transaction(f"an erasure in {document.id!r}", act):
        context.forget(document)
        _vacuum(context)


def _retell(context: Context, connection: Connection, doc: int, commit: Commit, found: Erasures) -> None:
    """Let a commit say which of what it put is gone, with the hash of its content as it was."""
    before = {} if commit.erased is None else dict(commit.erased[1])
    going = [key for key in commit.puts if key not in before and found.covers(key, commit.time_us)]
    forgets = found.forgets(commit.projection, commit.time_us)
    if not going and not forgets:
        return
    body = commits.body_of(commit)
    content_hash = bodies.content_hash(body, bodies.content_of(body))
    lost = before | {key: _digest(commit, key) for key in going}
    body = body._replace(
        puts={key: value for key, value in body.puts.items() if key not in lost},
        projection=erasures.RESULT_ERASED if forgets else commit.projection,
        erased=ErasedParts(content_hash, lost),
    )
    connection.execute(context.connections.statements["retell"], (tell(body), doc, commit.version))


def _digest(commit: Commit, key: str) -> tuple[int, bytes]:
    if key in commit.digests:
        return commit.puts[key], commit.digests[key]
    summand = parts.part_checksum(key.encode(), commit.read(key))
    return commit.puts[key], summand.to_bytes(32, "big")


def _forget(context: Context, connection: Connection, doc: int, found: Erasures) -> None:
    """Results of operations whose commits history has dropped."""
    statements = context.connections.statements
    rows: Iterable[tuple[int, int, bytes]] = connection.execute(statements["told_of_dropped"], (doc,)).fetchall()
    for version, time_us, data in rows:
        tells = told(bytes(data))
        if found.forgets(tells.projection, time_us):
            changed = tells._replace(projection=erasures.RESULT_ERASED)
            connection.execute(statements["retell"], (tell_again(changed), doc, version))


def _empty(context: Context, connection: Connection, doc: int, found: Erasures, *, is_adopted: bool) -> None:
    statements = context.connections.statements
    for key, until, time_us in connection.execute(statements["rows_of"], (doc,)).fetchall():
        name = bytes(key).decode()
        is_newest = until == (1 << 63) - 1 and not is_adopted
        if not is_newest and found.covers(name, 0 if is_adopted else time_us or 0):
            connection.execute(statements["empty_part"], (doc, until, key))


def _vacuum(context: Context) -> None:
    connections = context.connections
    try:
        with connections.connection() as connection:
            for table in ("parts", "commits", "pieces"):
                statement = queries.composed("VACUUM {schema}." + table, connections.location.schema)
                connection.execute(statement)
    except (psycopg.Error, WaypostError) as error:  # the erasure is committed, whatever becomes of this
        _LOG.info("%s: the tables could not be vacuumed: %s", connections.location.shown, type(error).__name__)
