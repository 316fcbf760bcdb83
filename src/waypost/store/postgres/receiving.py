"""Documents that arrive with their past: rows that are written in one transaction, under a name that nobody looks for,
and renamed by the commit that has them arrive. Until that transaction ends nobody sees any of it, and what is cut off
is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar
from uuid import uuid4

import psycopg
from psycopg.sql import Composed

from waypost.codec.bodies import CommitBody
from waypost.errors import DocumentDamaged, InvalidInput, LockTimeout, StoreUnavailable
from waypost.store import commits, parts
from waypost.store.contract import Change, Receipt
from waypost.store.kinds import DocumentId
from waypost.store.pasts import Commit, Past
from waypost.store.postgres import appending, drafts, staged
from waypost.store.postgres.connections import Connection, Parameters, Pinned
from waypost.store.postgres.context import Context
from waypost.store.postgres.documents import DocumentView, Head, Part
from waypost.store.postgres.refusals import is_lost
from waypost.store.postgres.told import tell
from waypost.store.staging import StagedTransaction
from waypost.store.values import Pieces
from waypost.store.views import OperationRecord, View

T = TypeVar("T")
_HIDDEN, _VERSION = "receiving", "version"


class Received:
    """Fulfils `contract.Reception`. Holds a connection from the first document on. Not for use by several threads."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stack = ExitStack()
        self._connection: Connection | None = None
        self._taken: dict[DocumentId, Head] = {}

    @property
    def documents(self) -> list[DocumentId]:
        return list(self._taken)

    def take(self, document: DocumentId, past: Past, change: Change | None) -> View:
        with self.refusing():
            connection = self._begun()
            head = write_past(self._context, connection, document, past)
            view = self._view(connection, document, head)
            if change is not None:
                transaction = StagedTransaction(view)
                change.work(transaction)
                if transaction.staged.changes_anything or change.repeatable:
                    draft = drafts.draft(change, transaction.staged, self._context.chunk_bytes, drafts.now_us())
                    head = appending.append(self._context, connection, head.doc, draft)
                    view = self._view(connection, document, head)
        if not head.version:
            raise InvalidInput(f"{document.kind} {document.id!r} has no version that could be taken in")
        self._taken[document] = head
        return view

    def _view(self, connection: Connection, document: DocumentId, head: Head) -> DocumentView:
        return self._context.view(_Refusing(self, Pinned(self._context.connections, connection)), document, head)

    def _begun(self) -> Connection:
        if self._connection is None:
            connections = self._context.connections
            self._connection = self._stack.enter_context(connections.connection())
            self._stack.callback(self._end)
            connections.begin(self._connection)
            self._context.make_durable(self._connection)
        return self._connection

    def _end(self) -> None:
        connection, self._connection = self._connection, None
        try:
            if connection is not None and not connection.closed:
                connection.execute("ROLLBACK")
        except psycopg.Error:
            pass  # it is lost, and what it did with it

    @contextmanager
    def refusing(self) -> Generator[None]:
        """What the server, or the way to it, fails with becomes an error of the store."""
        try:
            yield
        except psycopg.Error as error:
            raise self._context.refused("an import", error, None) from error

    def arrive(self, act: Callable[[Connection], Receipt | None]) -> Receipt | None:
        """Commit, with what `act` does in a savepoint of the same transaction; go on where that gives None."""
        connection = self._begun()
        try:
            receipt = act(connection)
            if receipt is None:
                return None
            connection.execute("COMMIT")
        except psycopg.Error as error:
            if is_lost(error) and self._is_there():
                return Receipt(0, changed=True)
            raise self._context.refused("an import", error, None) from error
        return receipt

    def _is_there(self) -> bool:
        """Whether what was to arrive did, after the connection was lost. Locking waits for whoever still commits."""

        def look(connection: Connection) -> bool:
            is_there = True
            for document, head in sorted(self._taken.items()):
                with self._context.connections.transaction(connection):
                    found = self._context.look_with(connection, document).head
                    is_there = is_there and found.doc == head.doc  # others may have committed to it since
                    connection.execute(self._context.connections.statements["drop_unwritten"], document)
            return is_there

        try:
            return self._context.connections.again(look)
        except (StoreUnavailable, LockTimeout) as error:  # also while the first attempt may still be carried out
            lost = psycopg.OperationalError(str(error))
            raise self._context.refused("an import", lost, lost) from error

    def rename(self, connection: Connection) -> None:
        """Give what was taken in its names, which nobody has."""
        statements = self._context.connections.statements
        for document, head in self._taken.items():
            connection.execute(statements["drop_unwritten"], document)
            connection.execute(statements["arrive"], (*document, head.doc))

    def close(self) -> None:
        self._stack.close()


class _Refusing:
    """Reads what was taken in for whoever looks at it before it arrives."""

    def __init__(self, received: Received, pinned: Pinned) -> None:
        self.location = pinned.location
        self._received = received
        self._pinned = pinned

    def read(self, name: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        with self._received.refusing():
            return self._pinned.read(name, parameters)


# --- writing a past ---


def write_past(context: Context, connection: Connection, document: DocumentId, past: Past) -> Head:
    """Write a document with all that is known of it, under a hidden name, checking every id and sum. Its head."""
    statements = context.connections.statements
    row = connection.execute(statements["new_document"], (_HIDDEN, uuid4().hex)).fetchone()
    assert row is not None
    doc: int = row[0]
    head = _begin(context, connection, doc, document, past)
    for commit in past.commits(oldest_first=True):
        if commit.version != head.version + 1:
            raise DocumentDamaged(f"version {head.version + 1} of {document.id!r} is missing")
        head = append_told(context, connection, document, head, commit)
    return head


def _begin(context: Context, connection: Connection, doc: int, document: DocumentId, past: Past) -> Head:
    """The oldest version that is known, with the ids of those before it."""
    start, first = past.start(), past.first
    head = _put_parts(context, connection, doc, start)
    if (head.version, head.size_bytes, head.checksum) != (first, start.size_bytes, start.checksum):
        raise DocumentDamaged(f"version {first} of {document.id!r} is not what its sums say")
    statement = context.connections.statements["put_commit_id"]
    remembered = {record.version: record for record in past.remembered()}
    for version in range(1, first + 1):
        _put_id(connection, statement, doc, version, past.dropped_id(version), remembered.get(version), start)
    return head


def put_version(context: Context, connection: Connection, version: View) -> Head:
    """Write a version alone, as a document of its own that nobody looks for."""
    row = connection.execute(context.connections.statements["new_document"], (_VERSION, uuid4().hex)).fetchone()
    assert row is not None
    return _put_parts(context, connection, row[0], version)


def _put_parts(context: Context, connection: Connection, doc: int, version: View) -> Head:
    statements, size, checksum = context.connections.statements, 0, 0
    for key in version.keys():
        part = _put(
            context,
            connection,
            key,
            version.erased(key),
            version.size_of(key) or 0,
            version.get,
            version.pieces,
        )
        size += parts.part_size(key.encode(), part.length)
        checksum += part.digest
        values = (doc, key.encode(), version.version, part.length, part.digest, part.value, part.content)
        connection.execute(statements["put_part"], values)
    head = Head(
        *(doc, version.version, version.version, version.time_us, size),
        parts.add_to_checksum(bytes(32), checksum),
        version.commit_id,
    )
    asked = head._asdict() | {"arrived": head.first, "checksum": int.from_bytes(head.checksum, "big")}
    connection.execute(statements["begin_document"], asked)
    return head


def _put_id(
    connection: Connection,
    statement: Composed,
    doc: int,
    version: int,
    commit_id: bytes | None,
    record: OperationRecord | None,
    start: View,
) -> None:
    time_us, sums = None, (None, None)
    if version == start.version:
        time_us, sums = start.time_us, (start.size_bytes, int.from_bytes(start.checksum, "big"))
    told = None
    if record is not None:
        time_us = record.time_us
        told = tell(CommitBody(record.operation_id, record.operation, None, None, record.projection, False, {}, []))
    names = (None, None) if record is None else (record.operation_id, record.operation)
    connection.execute(statement, (doc, version, commit_id, time_us, *names, told, *sums))


def append_told(context: Context, connection: Connection, document: DocumentId, head: Head, commit: Commit) -> Head:
    """Append a commit as it was made elsewhere; its version here is the next one.

    Raises DocumentDamaged where it is not what its id and its sums say, or not later than the one before it.
    """
    if commit.time_us <= head.time_us:
        raise DocumentDamaged(f"version {commit.version} of {document.id!r} is older than the one before")
    lost: Mapping[str, tuple[int, bytes]] = {} if commit.erased is None else commit.erased[1]
    puts = {
        key: _put(
            context,
            connection,
            key,
            lost[key][1] if key in lost else None,
            length,
            commit.read,
            commit.pieces,
        )
        for key, length in commit.puts.items()
    }
    draft = drafts.draft_of(commit, puts)
    commit_id = commits.id_of(head.commit_id, commits.body_of(commit))
    made = appending.append(context, connection, head.doc, draft, commit_id)
    told = (commit.commit_id, commit.size_bytes, commit.checksum)
    if told != (made.commit_id, made.size_bytes, made.checksum) or commit.time_us <= head.time_us:
        raise DocumentDamaged(f"version {commit.version} of {document.id!r} is not what its ids and sums say")
    return made


def _put(
    context: Context,
    connection: Connection,
    key: str,
    erased: bytes | None,
    length: int,
    read: Callable[[str], bytes | None],
    pieces: Callable[[str], Pieces | None],
) -> Part:
    """A part of another store, its value taken in if that is large."""
    if erased is not None:
        return Part(length, int.from_bytes(erased, "big"), None, None, is_erased=True)
    if length > context.chunk_bytes:
        found = pieces(key)
        assert found is not None
        content, digest = staged.put_pieces(
            context.connections, connection, key, length, _each(found), context.chunk_bytes
        )
        return Part(length, digest, None, content)
    value = read(key)
    assert value is not None
    return Part(len(value), parts.part_checksum(key.encode(), value), value, None)


def _each(pieces: Pieces) -> Iterable[bytes]:
    return (pieces.read(number) for number in range(len(pieces.starts)))
