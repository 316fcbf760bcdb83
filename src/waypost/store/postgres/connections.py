"""Connections: opened when needed, given back to a pool, replaced when they are lost, and none used after a fork.

Nothing rests on the state of a connection, so that a pooler in transaction mode may stand in between: time limits are
set when a connection begins where the server keeps them, else in each transaction.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from typing import Any, Protocol, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from waypost.errors import StoreClosed, StoreError, StoreUnavailable, WaypostError
from waypost.options import PostgresConfig
from waypost.store.postgres import queries
from waypost.store.postgres.locations import Location
from waypost.store.postgres.pooling import Connection, Pool, PoolBusy
from waypost.store.postgres.refusals import AGAIN, is_lost, refusal

T = TypeVar("T")
Parameters = Sequence[object] | Mapping[str, object]

OLDEST_SERVER = 140_000
_LOG = logging.getLogger("waypost")
_PAUSES_S = (0.0, 0.02, 0.1, 0.3, 1.0)
_MOST_AGAIN = 16
SEARCHED = "pg_catalog,pg_temp"
"""`search_path`, in which what stands in `pg_temp` comes last."""
_SET = """
SELECT pg_catalog.set_config(%s, %s, true), pg_catalog.set_config(%s, %s, true),
    pg_catalog.set_config(%s, %s, true), pg_catalog.set_config(%s, %s, true)
"""
_LEVEL = ("default_transaction_isolation", r"read\ committed")
"""So that what was committed while a lock was waited for is seen, whatever the server's default."""
_READ_AS_PUT = (("standard_conforming_strings", "on"), ("array_nulls", "on"))
"""The driver writes bytes by the first, and the server reads NULL in a list by the second."""
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5
_PREPARED_AFTER = 5
_NOTICING: dict[str, str | int] = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""How libpq, or TCP for it, finds out that nobody is there any more, where the location says nothing else."""
_ELSEWHERE = ("PGOPTIONS", "PGSERVICE")
_ABANDONED: list[Pool] = []
"""Pools of the parent, in the child of a fork: nobody may close what the parent uses."""


class Reader(Protocol):
    """Whoever gives the rows of a named statement that changes nothing."""

    @property
    def location(self) -> Location: ...
    def read(self, name: str, parameters: Parameters) -> list[tuple[Any, ...]]: ...


class Pinned:
    """Reads by one connection, and so in its transaction."""

    def __init__(self, connections: Connections, connection: Connection) -> None:
        self.location = connections.location
        self._statements = connections.statements
        self._connection = connection

    def read(self, name: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        return self._connection.execute(self._statements[name], parameters, binary=True).fetchall()


class Connections:
    """The connections of one handle; fulfils `Reader`."""

    def __init__(self, location: Location, config: PostgresConfig) -> None:
        self.location = location
        self.statements = queries.named(location.schema)
        self.is_pooled = False
        """Whether a pooler stands in between, which hands a connection to others after each transaction."""
        self.syncs = True
        self.takes_writes = True
        self._config = config
        self._options = str(conninfo_to_dict(location.conninfo).get("options") or "")
        """Of a session, as they are given: what is set at connecting would else take their place."""
        self._pool: Pool | None = None
        self._lock = threading.Lock()
        self._closed = False

    # --- opening ---

    def look_around(self) -> None:
        """Connect once, and see what server that is. Raises StoreError, StoreNotFound, StoreUnavailable."""
        try:
            try:
                self._options = self._given_options()
                connection = self._connect(self._with_limits())
            except psycopg.OperationalError as error:
                if "startup parameter" not in str(error):
                    raise
                self.is_pooled = True
                connection = self._connect(self.location.conninfo)
            with connection:
                self._examine(connection)
            return
        except psycopg.Error as error:
            refused = self._not_connected(error)
        raise refused  # here, so that the driver's error, which may repeat the location, is not its context

    def _examine(self, connection: Connection) -> None:
        if connection.info.server_version < OLDEST_SERVER:
            version = connection.info.parameter_status("server_version")
            raise StoreError(
                f"{self.location.shown} is PostgreSQL {version}: Waypost needs 14 or later",
                location=self.location.shown,
            )
        row = connection.execute(
            "SELECT pg_catalog.current_setting('fsync'), pg_catalog.current_setting('transaction_read_only'),"
            " pg_catalog.current_setting('search_path'), pg_catalog.pg_is_in_recovery()"
        ).fetchone()
        assert row is not None
        self.syncs = row[0] == "on"
        self.takes_writes = row[1] == "off" and not row[3]
        self.is_pooled = self.is_pooled or row[2] != SEARCHED
        if not self.syncs:
            _LOG.warning("%s runs with fsync=off: commits do not survive the loss of its power", self.location.shown)

    def _connect(
        self, conninfo: str, prepare_threshold: int | None = None, within_s: float | None = None
    ) -> Connection:
        """A new connection, made within a time, or in that which the location says, or `lock_timeout`."""
        given = _NOTICING | {"connect_timeout": max(2, -(-self._config.lock_timeout // 1000))}
        given |= conninfo_to_dict(conninfo)
        given["client_encoding"] = "UTF8"  # whatever the location or the environment say: ids may be any text
        if within_s is not None:
            given["connect_timeout"] = math.ceil(within_s)
        made = Connection.connect(make_conninfo("", **given), autocommit=True, prepare_threshold=prepare_threshold)
        if self.is_pooled:
            made.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        made.silence_s = (self._config.statement_timeout + self._config.lock_timeout) / 1000
        return made

    def _given_options(self) -> str:
        """By the location, or else by a service or the environment, which libpq alone can tell."""
        given = conninfo_to_dict(self.location.conninfo)
        if "options" in given or ("service" not in given and os.environ.keys().isdisjoint(_ELSEWHERE)):
            return self._options
        with self._connect(self.location.conninfo) as connection:
            return connection.info.options

    def _with_limits(self) -> str:
        limits = " ".join(f"-c {name}={value}" for name, value in [*self._limits(), _LEVEL, *_READ_AS_PUT])
        return make_conninfo(self.location.conninfo, options=f"{self._options} {limits}".strip())

    def _limits(self) -> list[tuple[str, str]]:
        """In ms: for a lock, a statement, and a transaction in which nothing happens. And where names are looked for:
        nobody's functions come in between, however well they fit.
        """
        config = self._config
        return [
            ("lock_timeout", str(config.lock_timeout)),
            ("statement_timeout", str(config.statement_timeout)),
            ("idle_in_transaction_session_timeout", str(config.statement_timeout)),
            ("search_path", SEARCHED),
        ]

    @property
    def patience(self) -> str:
        """How long a lock is waited for, in ms."""
        return str(self._config.lock_timeout)

    def _not_connected(self, error: psycopg.Error) -> WaypostError:
        # libpq gives the SQLSTATE of a refused connection only within its text
        refused = refusal(error, self.location)
        text = str(error)
        if 'database "' in text and "does not exist" in text:
            return refusal(_told("3D000", refused.message), self.location)
        if "password" in text or "authentication" in text or "no pg_hba.conf entry" in text or "role " in text:
            return refusal(_told("28000", refused.message), self.location)
        return refused

    # --- using ---

    def _opened(self) -> Pool:
        with self._lock:
            if self._closed:
                raise StoreClosed(f"{self.location.shown} is closed")
            if self._pool is None:
                threshold = None if self.is_pooled else _PREPARED_AFTER
                connect = partial(self._connect, self._conninfo(), threshold)
                self._pool = Pool(connect, self._config.pool_size)
            return self._pool

    @contextmanager
    def connection(self) -> Generator[Connection]:
        """A connection, in no transaction. Raises StoreUnavailable when there is none to be had for `lock_timeout`."""
        with ExitStack() as stack:
            yield self._taken(stack)

    def _taken(self, stack: ExitStack) -> Connection:
        pool, pause_s = self._opened(), _SHORTEST_PAUSE_S
        deadline = time.monotonic() + self._config.lock_timeout / 1000
        while True:
            left = deadline - time.monotonic()
            try:
                return stack.enter_context(pool.connection(max(0.0, left)))
            except PoolBusy:
                raise StoreUnavailable(
                    f"{self.location.shown}: all {self._config.pool_size} connections of this handle were busy for "
                    f"{self._config.lock_timeout:,} ms (postgres.pool_size, postgres.lock_timeout)",
                    location=self.location.shown,
                    sqlstate="53300",
                ) from None
            except psycopg.Error as error:
                if left <= 0:
                    raise self._not_connected(error) from None
            time.sleep(min(pause_s, max(0.0, left)))
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    @contextmanager
    def transaction(self, connection: Connection, *, snapshot: bool = False) -> Generator[None]:
        """A transaction on a connection, with time limits; with `snapshot` all of it sees one moment. One that is left
        by psycopg.Rollback is taken back, also where the connection is lost in that.
        """
        with suppress(psycopg.Rollback), connection.transaction():
            if snapshot:
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self._limit(connection)
            yield

    def begin(self, connection: Connection) -> None:
        """Begin a transaction that its caller ends."""
        connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED" if self.is_pooled else "BEGIN")
        self._limit(connection)

    def _limit(self, connection: Connection) -> None:
        if self.is_pooled:
            words = [word for limit in self._limits() for word in limit]
            connection.execute(_SET, words)

    def limited(self, connection: Connection) -> AbstractContextManager[None]:
        """For one statement, which is a transaction of its own, unless limits have to be set for it."""
        return self.transaction(connection) if self.is_pooled else nullcontext()

    def read(self, name: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        """The rows of a statement that changes nothing; asked again where a connection is lost."""
        statement = self.statements[name]

        def act(connection: Connection) -> list[tuple[Any, ...]]:
            with self.limited(connection):
                return connection.execute(statement, parameters, binary=True).fetchall()

        return self.again(act)

    def write(self, name: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        """The rows of a statement that may be run twice without harm; none where it gives no rows."""
        statement = self.statements[name]

        def act(connection: Connection) -> list[tuple[Any, ...]]:
            with self.limited(connection):
                cursor = connection.execute(statement, parameters)
                return cursor.fetchall() if cursor.description is not None else []

        return self.again(act)

    def write_within(self, name: str, parameters: Parameters, limit_s: float) -> list[tuple[Any, ...]]:
        """The rows of a statement that gives some, for who cannot wait: asked once, beside the connections that are in
        use, and given up where the server cannot be reached, or says nothing, within a time. Raises StoreError.
        """
        try:
            with (
                self._opened().connection(0, limit_s) as connection,
                connection.heard_within(limit_s),
                self.limited(connection),
            ):
                return connection.execute(self.statements[name], parameters).fetchall()
        except psycopg.Error as error:
            raise refusal(error, self.location) from error

    def again(self, act: Callable[[Connection], T]) -> T:
        """What `act` gives, which may be run several times: where a connection is lost, or another was preferred."""
        pauses = iter(_PAUSES_S)
        for left in reversed(range(_MOST_AGAIN)):
            try:
                with self.connection() as connection:
                    return act(connection)
            except psycopg.Error as error:
                is_again = error.sqlstate in AGAIN
                pause = 0.01 if is_again else next(pauses, None) if is_lost(error) else None
                if pause is None or not left:
                    raise refusal(error, self.location) from error
                time.sleep(pause)
        raise AssertionError("unreachable")

    def dedicated(self) -> Connection:
        """A connection of its own, outside of the pool. Raises psycopg.Error."""
        return self._connect(self._conninfo())

    def _conninfo(self) -> str:
        return self.location.conninfo if self.is_pooled else self._with_limits()

    def after_fork(self) -> None:
        """In the child: what the parent uses is left alone."""
        if self._pool is not None:
            _ABANDONED.append(self._pool)
        self._pool, self._lock = None, threading.Lock()

    @property
    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        with self._lock:
            pool, self._pool, self._closed = self._pool, None, True
        if pool is not None:
            pool.close()


def _told(state: str, message: str) -> psycopg.Error:
    error = psycopg.OperationalError(message)
    error.sqlstate = state
    return error
