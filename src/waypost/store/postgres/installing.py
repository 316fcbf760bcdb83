"""The tables of a store: made, and brought to the version that this release knows, all or nothing.

Each file in `migrations/` makes one version out of the one before. Who finds an older one carries the missing ones out,
in one transaction, under an advisory lock that ends with it; whoever comes meanwhile waits and finds them done.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

import psycopg
from psycopg.sql import Composed

from waypost.errors import StoreNotFound, StoreReadOnly, UnsupportedFormat
from waypost.store.postgres import queries
from waypost.store.postgres.connections import Connection, Connections
from waypost.store.postgres.refusals import refusal

_BEGUN = """
CREATE TABLE IF NOT EXISTS {schema}.about (
    is_one   boolean PRIMARY KEY DEFAULT true CHECK (is_one),
    version  integer NOT NULL,
    made     timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
_UNLIMITED = """
SELECT pg_catalog.set_config('lock_timeout', '0', true), pg_catalog.set_config('statement_timeout', '0', true),
    pg_catalog.set_config('search_path', 'pg_catalog,pg_temp', true)
"""
# The catalog itself and not to_regclass, which remembers that there was no such schema before a lock was waited for.
_BEGUN_ALREADY = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = 'about'
)
"""
_DONE = """
INSERT INTO {schema}.about (version) VALUES (%s) ON CONFLICT (is_one) DO UPDATE SET version = EXCLUDED.version
"""


@lru_cache
def migrations(schema: str) -> list[Composed]:
    """What makes version 1, 2, … of the tables."""
    found = sorted(
        each.name
        for each in files("waypost.store.postgres").joinpath("migrations").iterdir()
        if each.name.endswith(".sql")
    )
    folder = files("waypost.store.postgres").joinpath("migrations")
    return [queries.composed(folder.joinpath(name).read_text(encoding="utf-8"), schema) for name in found]


def install(connections: Connections, *, create: bool, read_only: bool) -> bool:
    """See that the tables are there, as this release knows them; whether they were made now.

    Raises StoreNotFound, UnsupportedFormat for those of a newer release, StoreReadOnly, StoreError without the rights.
    """
    location = connections.location
    wanted = len(migrations(location.schema))
    with connections.connection() as connection:
        try:
            found = _version(connections, connection)
            if found is None and (read_only or not create):
                raise StoreNotFound(f"there is no store at {location.shown}", location=location.shown)
            _refuse_newer(connections, found or 0)
            if found != wanted:
                if read_only or not connections.takes_writes:
                    raise StoreReadOnly(
                        f"{location.shown} has tables of version {found}, and this release works with {wanted}: open "
                        "it for writing once",
                        location=location.shown,
                    )
                _carry_out(connections, connection)
        except psycopg.Error as error:
            raise refusal(error, location) from error
    return found is None


def _refuse_newer(connections: Connections, found: int) -> None:
    location = connections.location
    wanted = len(migrations(location.schema))
    if found > wanted:
        raise UnsupportedFormat(
            f"{location.shown} has tables of version {found}: this release of Waypost knows them to {wanted}",
            location=location.shown,
        )


def _version(connections: Connections, connection: Connection) -> int | None:
    schema = connections.location.schema
    row = connection.execute(_BEGUN_ALREADY, (schema,)).fetchone()
    if row is None or not row[0]:
        return None
    row = connection.execute(queries.composed("SELECT version FROM {schema}.about", schema)).fetchone()
    return None if row is None else row[0]


def _carry_out(connections: Connections, connection: Connection) -> None:
    schema = connections.location.schema
    with connection.heard_within(None), connection.transaction():
        connection.execute(_UNLIMITED)
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"waypost {schema}",))
        found = _version(connections, connection) or 0
        _refuse_newer(connections, found)  # again: a newer release may have been the one that was waited for
        if found == len(migrations(schema)):
            return  # it takes no right to make tables to find them done
        row = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone()
        if row is None:  # else the right to make schemas is not needed
            connection.execute(queries.composed("CREATE SCHEMA {schema}", schema))
        connection.execute(queries.composed(_BEGUN, schema))
        for statement in migrations(schema)[found:]:
            connection.execute(statement)
        connection.execute(queries.composed(_DONE, schema), (len(migrations(schema)),))
