"""Noticing commits: the server tells of them while somebody listens, and is asked from time to time all the same.

Telling makes commits wait for each other, so it is done only while a listener has said that it is there; one that is
lost is forgotten after a minute. A commit that began before that, or a pooler that swallows what the server tells, is
found by the next question, within a second.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from uuid import uuid4

import psycopg
from psycopg.sql import SQL, Identifier

from waypost.errors import StoreClosed, StoreError
from waypost.store.kinds import DocumentId
from waypost.store.postgres import queries
from waypost.store.postgres.connections import Connection, Connections
from waypost.store.postgres.refusals import is_lost

_SHORTEST_S, _LONGEST_S = 0.05, 1.0
_SLICE_S = 0.1
_RENEW_S = 20.0
_OF_PARENTS: list[Connection] = []
"""In the child of a fork: nobody may close what the parent uses."""


class Listening:
    """Fulfils `contract.Listener`."""

    def __init__(self, connections: Connections, document: DocumentId | None) -> None:
        self._connections = connections
        self._document = document
        self._listener = uuid4()
        self._pid = os.getpid()
        self._connection: Connection | None = None
        self._ended = threading.Event()
        self._renewed = 0.0
        self._pause_s = _SHORTEST_S
        self._seen = self._count()

    def wait(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not self._ended.is_set():
            if self._connections.is_closed:
                raise StoreClosed(f"{self._connections.location.shown} is closed")
            if self._is_told(min(self._pause_s, max(0.0, deadline - time.monotonic()))) or self._has_grown():
                self._seen = self._count()
                self._pause_s = _SHORTEST_S
                return True
            self._pause_s = min(_LONGEST_S, self._pause_s * 2)
            if time.monotonic() >= deadline:
                return False
        return False

    def _has_grown(self) -> bool:
        return self._count() != self._seen

    def _count(self) -> object:
        """A number that grows with each commit of what is listened for."""
        if self._document is None:
            return self._connections.read("all_versions", ())[0][0]
        rows = self._connections.read("head", self._document._asdict())
        return rows[0][1] if rows else 0

    def _is_told(self, patience_s: float) -> bool:
        """Whether the server tells of a commit within a time."""
        deadline = time.monotonic() + patience_s
        while not self._ended.is_set() and not self._connections.is_closed:
            left = min(_SLICE_S, deadline - time.monotonic())
            if left <= 0:
                return False
            connection = self._listened()
            if connection is None:
                self._ended.wait(left)
                continue
            try:
                if any(True for _ in connection.notifies(timeout=left, stop_after=1)):
                    return True
            except psycopg.Error:
                self._drop()
                # what it was told meanwhile is not known
                return not self._ended.is_set() and not self._connections.is_closed
        return False

    def _listened(self) -> Connection | None:
        """The connection that the server tells of commits; None where there is none to be had."""
        schema = self._connections.location.schema
        if self._connections.is_pooled or not queries.may_announce(schema):
            return None
        if not self._is_of_this_process():  # the child of a fork listens for itself
            self._drop()
            self._pid, self._listener = os.getpid(), uuid4()
        try:
            connection = self._connection
            if connection is None:
                connection = self._connection = self._connections.dedicated()
                channel = Identifier(queries.channel(schema))
                connection.execute(SQL("LISTEN {}").format(channel))
            if time.monotonic() - self._renewed > _RENEW_S:
                connection.execute(self._connections.statements["listen"], (self._listener,))
                self._renewed = time.monotonic()
        except psycopg.Error as error:
            if is_lost(error):
                self._drop()
            else:
                self._renewed = time.monotonic()  # who may not write there has to ask
        if self._ended.is_set():  # by another thread, before all of that was there to be ended
            self._let_go()
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self._renewed = 0.0
        if connection is None:
            return
        if self._is_of_this_process():
            connection.close()
        else:
            _OF_PARENTS.append(connection)

    def _is_of_this_process(self) -> bool:
        return self._pid == os.getpid()

    def __del__(self) -> None:
        # of one that nobody closed: what it told the server runs out by itself
        if not self._ended.is_set():
            self._drop()

    def close(self) -> None:
        was_ended = self._ended.is_set()
        self._ended.set()
        if not was_ended:
            self._let_go()

    def _let_go(self) -> None:
        if self._is_of_this_process():  # else the parent listens on
            with suppress(StoreError):  # else it is forgotten in a minute
                self._connections.write("unlisten", (self._listener,))
        self._drop()
