"""What LangGraph's own checkpointers have written: databases of `SqliteSaver` and `PostgresSaver`, thread by thread.

Each is read in one transaction, which changes nothing, and one checkpoint at a time. What they say is taken as it
stands: a serialized value is passed on as bytes where the database has it by itself.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, NamedTuple, Protocol

from langgraph.checkpoint.serde.types import TASKS

from waypost.adapters.langgraph import rows
from waypost.adapters.langgraph.rows import Serializer, Typed
from waypost.errors import InvalidInput, StoreNotFound, StoreUnavailable, UnsupportedFormat, UnsupportedPlatform


class ReadWrite(NamedTuple):
    """A pending write as a database has it."""

    task_id: str
    number: int
    channel: str
    type: str
    data: bytes
    task_path: str


class ReadCheckpoint(NamedTuple):
    """A checkpoint as a database has it: `checkpoint` is without the values of channels, which are in `values`."""

    checkpoint_id: str
    namespace: str
    parent: str | None
    checkpoint: Mapping[str, Any]
    values: Mapping[str, Typed]
    metadata: Mapping[str, Any]
    writes: Sequence[ReadWrite]


class Source(Protocol):
    """A database that is open."""

    def threads(self) -> Sequence[tuple[str, int]]:
        """The ids of all threads, sorted, and how many checkpoints each has."""
        ...

    def checkpoints(self, thread_id: str) -> Iterator[ReadCheckpoint]:
        """The checkpoints of a thread, sorted by id, and by namespace where ids are the same."""
        ...


@contextmanager
def opened(location: str, serde: Serializer) -> Generator[Source]:
    """Open a database: `postgresql://…`, or the path of a file of SQLite.

    Raises StoreNotFound, UnsupportedFormat where its tables are not those that are known, StoreUnavailable.
    """
    if location.partition("://")[0].lower() in ("postgresql", "postgres") and "://" in location:
        with _postgres(location, serde) as source:
            yield source
        return
    if not os.path.isfile(location):
        raise StoreNotFound(f"there is no database {location}", location=location)
    try:
        with closing(sqlite3.connect(f"file:{_quoted(os.path.abspath(location))}?mode=ro", uri=True)) as connection:
            connection.isolation_level = None
            connection.execute("BEGIN")
            yield SqliteSource(connection, location, serde)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorname in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
            raise UnsupportedFormat(f"{location} is no whole database of SQLite: {error}", location=location) from error
        raise StoreUnavailable(f"{location} cannot be read: {error}", location=location) from error


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _decoded(serde: Serializer, typed: Typed, what: str) -> Any:
    try:
        return serde.loads_typed(typed)
    except Exception as error:  # whatever a serializer of anybody's raises
        raise InvalidInput(f"{what}, serialized as {typed[0]!a:.40}, cannot be read: {error}") from error


def _metadata(given: Any, what: str) -> Mapping[str, Any]:
    try:
        found = json.loads(given) if isinstance(given, bytes | str) else given
    except ValueError as error:
        raise InvalidInput(f"the metadata of {what} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"the metadata of {what} is no object")
    return found  # pyright: ignore[reportUnknownVariableType]


def _write(row: Sequence[Any]) -> ReadWrite:
    task_id, number, channel, kind, data, task_path = row
    return ReadWrite(task_id, number, channel, kind or "null", bytes(data or b""), task_path)


# --- SQLite ---

_SQLITE: Mapping[str, Sequence[frozenset[str]]] = {
    "checkpoints": [
        frozenset(
            ("thread_id", "checkpoint_ns", "checkpoint_id", "parent_checkpoint_id", "type", "checkpoint", "metadata")
        )
    ],
    "writes": [
        frozenset(
            ("thread_id", "checkpoint_ns", "checkpoint_id", "task_id", "task_path", "idx", "channel", "type", "value")
        ),
        # before 3.1
        frozenset(("thread_id", "checkpoint_ns", "checkpoint_id", "task_id", "idx", "channel", "type", "value")),
    ],
}


class SqliteSource:
    """A database of `SqliteSaver`, where a checkpoint is one value with all that is in it."""

    def __init__(self, connection: sqlite3.Connection, location: str, serde: Serializer) -> None:
        self._connection = connection
        self._serde = serde
        columns = frozenset[str]()
        for table, known in _SQLITE.items():
            columns = frozenset(str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})"))
            if columns not in known:
                told = f"has the columns {', '.join(sorted(columns))}" if columns else "is not there"
                raise UnsupportedFormat(
                    f"{location} is no database of a SqliteSaver that this release knows: the table {table} {told}",
                    location=location,
                    table=table,
                )
        self._path = "task_path" if "task_path" in columns else "''"

    def threads(self) -> Sequence[tuple[str, int]]:
        query = "SELECT thread_id, count(*) FROM checkpoints GROUP BY thread_id ORDER BY thread_id"
        return [(str(thread_id), int(number)) for thread_id, number in self._connection.execute(query)]

    def checkpoints(self, thread_id: str) -> Iterator[ReadCheckpoint]:
        # only ids are sorted: a checkpoint may be large
        keys = self._connection.execute(
            "SELECT checkpoint_id, checkpoint_ns FROM checkpoints WHERE thread_id = ? ORDER BY 1, 2", (thread_id,)
        )
        for checkpoint_id, namespace in keys:
            yield self._checkpoint(thread_id, namespace, checkpoint_id)

    def _checkpoint(self, thread_id: str, namespace: str, checkpoint_id: str) -> ReadCheckpoint:
        key = thread_id, namespace, checkpoint_id
        what = f"checkpoint {checkpoint_id!a:.80} of thread {thread_id!a:.80}"
        where = "WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?"
        parent, kind, data, metadata = self._connection.execute(
            f"SELECT parent_checkpoint_id, type, checkpoint, metadata FROM checkpoints {where}",  # noqa: S608 - a constant
            key,
        ).fetchone()
        checkpoint: dict[str, Any] = dict(_decoded(self._serde, (kind, data), what))
        values: Mapping[str, Any] = checkpoint.pop("channel_values", None) or {}
        writes = self._connection.execute(
            f"SELECT task_id, idx, channel, type, value, {self._path} FROM writes {where}",  # noqa: S608 - constants
            key,
        )
        return ReadCheckpoint(
            checkpoint_id,
            namespace,
            parent or None,
            checkpoint,
            {name: rows.dumped(self._serde, value, f"{what}: {name}") for name, value in values.items()},
            _metadata(metadata, what),
            [_write(row) for row in writes],
        )


# --- PostgreSQL ---

_MIGRATION = 9
"""The number of the last change of the tables that `PostgresSaver.setup` of langgraph-checkpoint-postgres 3.2 makes."""


@contextmanager
def _postgres(location: str, serde: Serializer) -> Generator[Source]:
    try:
        import psycopg
    except ImportError as error:
        raise UnsupportedPlatform(
            "a PostgreSQL database needs the package psycopg: pip install 'waypost[postgres]'"
        ) from error
    try:
        with psycopg.connect(location) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            yield PostgresSource(connection, serde)
    except (psycopg.OperationalError, psycopg.ProgrammingError) as error:
        # psycopg's words name no password
        raise StoreUnavailable(f"the database cannot be read: {str(error).splitlines()[0]}") from error


class PostgresSource:
    """A database of `PostgresSaver`, where values that are no plain ones stand in a table of their own."""

    def __init__(self, connection: Any, serde: Serializer) -> None:
        self._connection = connection
        self._serde = serde
        found: Any = self._one("SELECT to_regclass('checkpoint_migrations')")[0]
        version: Any = None if found is None else self._one("SELECT max(v) FROM checkpoint_migrations")[0]
        if version != _MIGRATION:
            told = "it has no table checkpoint_migrations" if found is None else f"its tables are of version {version}"
            raise UnsupportedFormat(
                f"this is no database of a PostgresSaver that this release knows: {told}, and {_MIGRATION} is known; "
                "where it is older, `PostgresSaver.setup()` brings it up to date",
                version=version,
            )

    def _one(self, query: str, *args: object) -> Sequence[Any]:
        return self._connection.execute(query, args).fetchone()

    def threads(self) -> Sequence[tuple[str, int]]:
        return self._connection.execute(
            'SELECT thread_id, count(*) FROM checkpoints GROUP BY thread_id ORDER BY thread_id COLLATE "C"'
        ).fetchall()

    def checkpoints(self, thread_id: str) -> Iterator[ReadCheckpoint]:
        with self._connection.cursor("waypost_import") as keys:
            keys.execute(
                "SELECT checkpoint_id, checkpoint_ns FROM checkpoints WHERE thread_id = %s "
                'ORDER BY checkpoint_id COLLATE "C", checkpoint_ns COLLATE "C"',
                (thread_id,),
            )
            for checkpoint_id, namespace in keys:
                yield self._checkpoint(thread_id, namespace, checkpoint_id)

    def _checkpoint(self, thread_id: str, namespace: str, checkpoint_id: str) -> ReadCheckpoint:
        what = f"checkpoint {checkpoint_id!a:.80} of thread {thread_id!a:.80}"
        key = thread_id, namespace, checkpoint_id
        parent, given, metadata = self._one(
            "SELECT parent_checkpoint_id, checkpoint, metadata FROM checkpoints "
            "WHERE thread_id = %s AND checkpoint_ns = %s AND checkpoint_id = %s",
            *key,
        )
        checkpoint: dict[str, Any] = dict(given)
        plain: Mapping[str, Any] = checkpoint.pop("channel_values", None) or {}
        versions: dict[str, Any] = checkpoint.setdefault("channel_versions", {})
        blobs = self._connection.execute(
            "SELECT channel, type, blob FROM checkpoint_blobs b "
            "JOIN unnest(%s::text[], %s::text[]) AS v(name, version) ON b.channel = v.name AND b.version = v.version "
            "WHERE thread_id = %s AND checkpoint_ns = %s",
            ([*versions], [str(each) for each in versions.values()], thread_id, namespace),
        )
        values = {name: rows.dumped(self._serde, value, f"{what}: {name}") for name, value in plain.items()}
        values.update((name, (kind, bytes(blob or b""))) for name, kind, blob in blobs if kind != "empty")
        if checkpoint.get("v", 1) < 4 and parent:
            self._move_sends(thread_id, parent, checkpoint, values)
        return ReadCheckpoint(
            checkpoint_id, namespace, parent or None, checkpoint, values, _metadata(metadata, what), self._writes(*key)
        )

    def _writes(self, *key: str) -> Sequence[ReadWrite]:
        found = self._connection.execute(
            "SELECT task_id, idx, channel, type, blob, task_path FROM checkpoint_writes "
            "WHERE thread_id = %s AND checkpoint_ns = %s AND checkpoint_id = %s",
            key,
        )
        return [_write(row) for row in found]

    def _move_sends(self, thread_id: str, parent: str, checkpoint: dict[str, Any], values: dict[str, Typed]) -> None:
        """Before version 4 of checkpoints, what a step had sent stood in its writes, and is a channel now."""
        found = self._connection.execute(
            "SELECT type, blob FROM checkpoint_writes WHERE thread_id = %s AND checkpoint_id = %s AND channel = %s "
            "ORDER BY task_path, task_id, idx",
            (thread_id, parent, TASKS),
        )
        sends = [_decoded(self._serde, (kind, bytes(blob)), f"what {parent!a:.80} sent") for kind, blob in found]
        if sends:
            values[TASKS] = rows.dumped(self._serde, sends, TASKS)
            versions = checkpoint["channel_versions"]
            versions[TASKS] = max(versions.values()) if versions else 1
