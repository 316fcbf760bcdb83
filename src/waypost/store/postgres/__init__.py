"""The PostgreSQL store: documents and parts as rows, with the versions that are kept (docs/postgres.md).

`locations` reads connection strings, `connections` and `pooling` keep connections, `refusals` says what the
server refuses,
`queries` and `installing` hold statements and tables, `documents` is a version as it is read, `context` what is known
of all of them, `drafts`, `batching`, `committing`, `appending` and `joint` commit, `told` says what stands in a row of
a commit, `history` goes back, `staged` takes in large values, `receiving`, `following` and `adopting` what comes from
elsewhere, `leases` holds documents, `erasing` takes out of them, `listening` notices commits, `facts` asks the server
about itself.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from waypost import clock
from waypost.errors import InvalidInput, StoreClosed, StoreReadOnly, WaypostError
from waypost.keys import KeyFinder
from waypost.store import verifying
from waypost.store.claims import Sight
from waypost.store.contract import (
    ADOPTED,
    CHECKPOINT,
    Change,
    Counters,
    Durability,
    JointChange,
    OnDone,
    Receipt,
    Reception,
    Ticket,
)
from waypost.store.copies import Backup, Restored
from waypost.store.kinds import DocumentId, Kind
from waypost.store.pasts import Commit, Past
from waypost.store.postgres import (
    adopting,
    erasing,
    facts,
    following,
    history,
    installing,
    leases,
    locations,
    receiving,
    staged,
)
from waypost.store.postgres.batching import Queues, Waiting
from waypost.store.postgres.connections import Connection, Connections
from waypost.store.postgres.context import Context
from waypost.store.postgres.facts import ServerFacts
from waypost.store.postgres.joint import commit as commit_over
from waypost.store.postgres.listening import Listening
from waypost.store.postgres.staged import Held
from waypost.store.reports import Verification
from waypost.store.staging import JointStaging
from waypost.store.values import HeldScratch
from waypost.store.views import JointTransaction, View

if TYPE_CHECKING:
    from waypost.config import Config

_LOG = logging.getLogger("waypost")
_TRIM_EVERY = 256
_GRACE_US = 60_000_000


class _Ticket:
    """A change in a queue; fulfils `contract.Ticket`."""

    def __init__(self, store: PostgresStore, waiting: Waiting) -> None:
        self._store = store
        self._waiting: Waiting | None = waiting
        self._result = waiting.result

    def result(self) -> Receipt:
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return self._result()
        return self._store.waited_for(waiting)


class PostgresStore:
    """Documents in a server; fulfils `contract.Store`. Safe to use from any thread, and after a fork."""

    def __init__(self, connections: Connections, config: Config, *, made: bool, read_only: bool) -> None:
        self.made = made
        self.keys = KeyFinder(config)
        self._connections = connections
        self._config = config
        self._context = Context(connections, config)
        self._queues = Queues(self._context)
        self._leases = leases.Leases(connections, config.reliability.sync_frequency)
        self._read_only = read_only
        self._threads: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._closed = False
        _EVERY.add(self)

    def after_fork(self) -> None:
        """In the child of a fork: nothing of the parent's threads and connections is used."""
        self._lock = threading.Lock()
        self._threads = None
        self._queues = Queues(self._context)
        self._connections.after_fork()
        self._context.after_fork()
        self._leases.after_fork()

    @classmethod
    def open(cls, location: str, config: Config, *, create: bool, read_only: bool) -> PostgresStore:
        """Open or make the store at a location. See `waypost.store.open_store`."""
        connections = Connections(locations.parse(location), config.postgres)
        try:
            connections.look_around()
            made = installing.install(connections, create=create, read_only=read_only)
        except BaseException:
            connections.close()
            raise
        return cls(connections, config, made=made, read_only=read_only)

    @property
    def location(self) -> str:
        return self._connections.location.shown

    @property
    def durability(self) -> Durability:
        return self._config.durability if self._connections.syncs else "process"

    # --- committing ---

    def submit(self, change: Change, on_done: OnDone | None = None) -> Ticket:
        self._check_writable()
        waiting = self._queues.add(change, on_done)
        ticket = _Ticket(self, waiting)
        if on_done is None:
            return ticket
        try:
            self._driver().submit(self._drive, ticket)
        except RuntimeError as error:  # no thread can be had; it is handed in, so others might commit it all the same
            _LOG.warning("a change is committed in the thread that hands it in: %s", error)
            self._drive(ticket)
        return waiting

    def waited_for(self, waiting: Waiting) -> Receipt:
        """The outcome of a change, which is committed now unless it was."""
        try:
            return waiting.result()
        finally:
            self._queues.used(waiting.change.document)
            self._trim_when_due(waiting.change.document)

    def _drive(self, ticket: _Ticket) -> None:
        try:
            ticket.result()
        except Exception as error:  # whoever asks for the result is told
            _LOG.debug("a change failed: %s", error)

    def _driver(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self._config.postgres.pool_size, "waypost-postgres")
            return self._threads

    def begin(self) -> JointStaging:
        self._check_open()
        return JointStaging(self.view)

    def commit(self, joint: JointTransaction, change: JointChange, received: Reception | None = None) -> Receipt | None:
        self._check_writable()
        assert isinstance(joint, JointStaging), "a transaction of another store"
        assert received is None or isinstance(received, receiving.Received), "taken in by another store"
        receipt = commit_over(self._context, joint.opened, change, received)
        for document in joint.opened:
            self._trim_when_due(document)
        return receipt

    def receive(self) -> receiving.Received:
        self._check_writable()
        return receiving.Received(self._context)

    def stage(self, document: DocumentId, key: str, length: int, pieces: Callable[[int], Iterable[bytes]]) -> Held:
        self._check_writable()
        context = self._context
        return staged.stage(self._connections, document, key, length, pieces, context.chunk_bytes, context.limit_bytes)

    def scratch(self) -> HeldScratch:
        return HeldScratch()

    # --- reading ---

    def view(self, document: DocumentId, *, durable: bool = True, counters: Counters | None = None) -> View:
        del durable  # what others see is committed, and synced if that was asked for
        self._check_open()
        return self._context.look(document, counters)

    def peek(self, document: DocumentId) -> View:
        return self.view(document)

    def view_at(self, document: DocumentId, version: int) -> View | None:
        self._check_open()
        return history.at(self._context, document, version)

    def checkpoint(self, document: DocumentId, name: str) -> View | None:
        self._check_open()
        return adopting.checkpoint(self._context, document, name)

    def checkpoints(self, document: DocumentId) -> list[str]:
        view = self.view(document)
        return sorted(key.removeprefix(prefix) for prefix in (CHECKPOINT, ADOPTED) for key in view.keys(prefix))

    def verify_checkpoint(self, document: DocumentId, name: str) -> None:
        view = self.checkpoint(document, name)
        if view is not None:
            verifying.check_version(view)

    def take_in(self, version: View, name: str) -> Callable[[], None]:
        self._check_writable()
        return adopting.take_in(self._context, version, name)

    def left(self, kind: Kind) -> dict[str, list[str]]:
        del kind  # checkpoints are versions of their document, and go with nothing else
        return {}

    def follow(
        self, document: DocumentId, head: bytes, commits: Iterable[Commit], checks: Sequence[Callable[[], None]] = ()
    ) -> int:
        self._check_writable()
        return following.follow(self._context, document, head, commits, checks)

    def past(self, document: DocumentId) -> Past:
        self._check_open()
        return history.PostgresPast(self._context, self._context.look(document))

    def documents(self, kind: Kind) -> Iterator[str]:
        self._check_open()
        return iter([row[0] for row in self._connections.read("documents", (kind,))])

    def listen(self, document: DocumentId | None = None) -> Listening:
        self._check_open()
        return Listening(self._connections, document)

    def glance(self, kind: Kind) -> Iterator[tuple[str, bytes]]:
        self._check_open()
        return iter([(row[0], bytes(row[1])) for row in self._connections.read("glance", (kind,))])

    # --- what is kept ---

    def erase(self, document: DocumentId) -> list[str]:
        self._check_open()
        if erasing.is_due(self._context, document):
            self._check_writable()
            erasing.erase(self._context, document)
        return []

    def log_bytes(self, document: DocumentId) -> int:
        rows = self._connections.read("document_bytes", document)
        return int(rows[0][0])

    def checkpoint_bytes(self, names: Iterable[str]) -> dict[str, int]:
        keys = [(CHECKPOINT + name).encode() for name in names]
        return {name: int(size) for name, size in self._connections.read("checkpoint_bytes", {"keys": keys})}

    def reclaim(self, document: DocumentId) -> None:
        self._check_writable()
        context = self._context
        context.written.pop(document, None)
        # by the newest commit, which stays itself: a clock that is ahead for a moment must not cost all of it
        before_us = min(clock.now_us(), self.view(document).time_us) - context.history_us
        self._connections.write("trim", (*document, before_us, context.history_bytes, _GRACE_US))

    def _trim_when_due(self, document: DocumentId) -> None:
        if self._context.written.get(document, 0) >= _TRIM_EVERY:
            try:
                self.reclaim(document)
            except WaypostError as error:  # the commit before it is made, whatever becomes of this
                _LOG.warning("the history of %s %r was not shortened: %s", *document, error)

    def sweep(self) -> int:
        self._check_writable()
        again = self._connections.again
        return sum(again(partial(self._sweep, what=what)) for what in ("adopted", "contents"))

    def _sweep(self, connection: Connection, what: str) -> int:
        """Whoever commits that one is used holds its row. Once we have it nobody does, and a statement that begins then
        sees what was committed before: one alone would look first and wait afterwards.
        """
        statements, freed = self._connections.statements, 0
        with self._connections.transaction(connection):
            unused = [number for (number,) in connection.execute(statements[f"unused_{what}"])]
            freed += sum(int(size) for (size,) in connection.execute(statements[f"sweep_{what}"], (unused,)))
        return freed

    def keep_generation(self, document: DocumentId, version: int) -> bool:
        self._check_writable()
        return adopting.keep_version(self._context, document, version, self._config.reliability.backup_retention)

    def recall(self, name: str) -> bytes | None:
        rows = self._connections.read("recall", (name,))
        return bytes(rows[0][0]) if rows else None

    def keep(self, name: str, data: bytes) -> None:
        if not self._read_only and self._connections.takes_writes:
            self._connections.write("keep", (name, data))

    # --- who is there ---

    def claim(
        self, document: DocumentId, *, by_force: bool = False, instead_of: Sight | None = None
    ) -> leases.Held | None:
        self._check_writable()
        return self._leases.claim(document, by_force=by_force, instead_of=instead_of)

    def holder(self, document: DocumentId) -> Sight | None:
        return self._leases.sight(document)

    def claimed(self, kind: Kind) -> Iterator[str]:
        return self._leases.documents(kind)

    def facts(self) -> ServerFacts:
        """What the server says of itself. Raises StoreError."""
        return facts.facts(self._connections)

    # --- copies ---

    def verify(self) -> Verification:
        return verifying.verify(self)

    def backup(self, path: str) -> Backup:
        del path
        raise InvalidInput(
            "a store on a server is backed up by the server's means (pg_dump), or copied into a directory: "
            "waypost store sync"
        )

    def restore_backup(self, path: str, *, allow_older: bool = False) -> Restored:
        del path, allow_older
        raise InvalidInput(
            "a backup is of a directory: open a directory to restore it, and copy it here by waypost store sync"
        )

    # --- conduct ---

    def close(self) -> None:
        with self._lock:
            was_closed, self._closed = self._closed, True
            threads, self._threads = self._threads, None
        if was_closed:
            return
        if threads is not None:
            threads.shutdown(wait=True)
        try:
            self._leases.close()
        finally:
            self._connections.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed(f"the store {self.location} is closed")

    def _check_writable(self) -> None:
        self._check_open()
        if self._read_only:
            raise StoreReadOnly(f"{self.location} is open for reading only", location=self.location)


_EVERY: weakref.WeakSet[PostgresStore] = weakref.WeakSet()


def _after_fork() -> None:
    for each in list(_EVERY):
        each.after_fork()


os.register_at_fork(after_in_child=_after_fork)
