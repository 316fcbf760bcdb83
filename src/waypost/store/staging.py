"""What a piece of work reads and changes, recorded while it runs.

A `StagedTransaction` lies over a view: reading sees its own changes first and notes which parts were
asked for, writing stays in memory. What it read is what a store compares with other commits to know
whether the work has to run again; what it staged is what becomes a commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from waypost.errors import InvalidId, TransactionPending
from waypost.store.contract import PREPARED, SETTLED
from waypost.store.kinds import DocumentId
from waypost.store.values import Content, Pieces
from waypost.store.views import OperationRecord, View

MAX_KEY_BYTES = 4096


class Staged:
    """The changes of one transaction: parts put, parts removed, or everything cleared first."""

    __slots__ = ("cleared", "projection", "puts", "removed")

    def __init__(self) -> None:
        self.puts: dict[str, bytes | Content] = {}
        self.removed: set[str] = set()
        self.cleared = False
        self.projection: Any = None

    def copy(self) -> Staged:
        """The same changes, which go their own way from here."""
        copied = Staged()
        copied.puts, copied.removed = dict(self.puts), set(self.removed)
        copied.cleared, copied.projection = self.cleared, self.projection
        return copied

    @property
    def changes_anything(self) -> bool:
        return bool(self.puts or self.removed or self.cleared)

    @property
    def raw_bytes(self) -> int:
        return sum(len(key) + length_of(value) for key, value in self.puts.items())


def length_of(value: bytes | Content) -> int:
    return len(value) if isinstance(value, bytes) else value.length


def bytes_of(value: bytes | Content) -> bytes:
    return value if isinstance(value, bytes) else value.read()


class StagedTransaction:
    """A transaction over a view; fulfils `views.Transaction`.

    `read` holds the keys whose value or absence the work depends on; `read_prefixes` the prefixes
    it listed. A key that is only written is not read, but `put` of a value that is there
    already changes nothing and therefore depends on it.

    All changes of a document are staged here, so here one that another transaction has prepared is kept as it is.
    """

    __slots__ = ("_may_change", "_view", "read", "read_prefixes", "staged")

    def __init__(self, view: View) -> None:
        self._view = view
        self._may_change = False
        self.staged = Staged()
        self.read: set[str] = set()
        self.read_prefixes: set[str] = set()

    @property
    def view(self) -> View:
        """What it lies over."""
        return self._view

    def savepoint(self) -> Staged:
        return self.staged.copy()

    def roll_back(self, savepoint: object) -> None:
        self.staged = savepoint.copy() if isinstance(savepoint, Staged) else Staged()

    def as_it_is(self) -> StagedTransaction:
        frozen = StagedTransaction(self._view)
        frozen.staged = self.staged.copy()
        frozen.read, frozen.read_prefixes = self.read, self.read_prefixes
        return frozen

    @property
    def document(self) -> DocumentId:
        return self._view.document

    @property
    def version(self) -> int:
        return self._view.version

    @property
    def time_us(self) -> int:
        return self._view.time_us

    @property
    def size_bytes(self) -> int:
        return self._view.size_bytes

    @property
    def checksum(self) -> bytes:
        return self._view.checksum

    @property
    def commit_id(self) -> bytes:
        return self._view.commit_id

    @property
    def compressed(self) -> bool:
        return self._view.compressed

    def get(self, key: str) -> bytes | None:
        staged = self.staged
        if key in staged.puts:
            return bytes_of(staged.puts[key])
        if staged.cleared or key in staged.removed:
            return None
        self.read.add(key)
        return self._view.get(key)

    def pieces(self, key: str) -> Pieces | None:
        value = self.get(key)
        return None if value is None else Pieces.of(value)

    def size_of(self, key: str) -> int | None:
        staged = self.staged
        if key in staged.puts:
            return length_of(staged.puts[key])
        if staged.cleared or key in staged.removed:
            return None
        self.read.add(key)
        return self._view.size_of(key)

    def erased(self, key: str) -> bytes | None:
        staged = self.staged
        if key in staged.puts or staged.cleared or key in staged.removed:
            return None
        self.read.add(key)
        return self._view.erased(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        if not self.staged.cleared:
            self.read_prefixes.add(prefix)
        return self.unwatched_keys(prefix)

    def unwatched_keys(self, prefix: str) -> Iterator[str]:
        staged = self.staged
        found = {key for key in staged.puts if key.startswith(prefix)}
        if not staged.cleared:
            found.update(key for key in self._view.keys(prefix) if key not in staged.removed)
        return iter(sorted(found))

    def differing(self, other: View) -> set[str]:
        if self.staged.cleared:
            return {*self.keys(), *other.keys()}
        self.read_prefixes.add("")
        return {*self.staged.puts, *self.staged.removed, *self._view.differing(other)}

    def operation(self, operation_id: str) -> OperationRecord | None:
        return self._view.operation(operation_id)

    def put(self, key: str, value: bytes | Content) -> None:
        if not key or len(key.encode()) > MAX_KEY_BYTES:
            raise InvalidId(f"a part key has 1 to {MAX_KEY_BYTES} bytes, this one has {len(key.encode())}")
        if not isinstance(value, bytes):
            if value.key != key:
                raise ValueError(f"content for {value.key!r} cannot be put as {key!r}")
        elif key not in self.staged.puts and self.size_of(key) == len(value) and self.get(key) == value:
            return
        self._check_may_change()
        self.staged.puts[key] = value
        self.staged.removed.discard(key)

    def delete(self, key: str) -> None:
        if key == PREPARED:
            self._may_change = True
        if key in self.staged.puts:
            del self.staged.puts[key]
        if not self.staged.cleared and key not in self.staged.removed:
            self.read.add(key)
            if self._view.size_of(key) is not None:
                self._check_may_change()
                self.staged.removed.add(key)

    def clear(self) -> None:
        self._check_may_change()
        settled = {key: value for key in self.keys(SETTLED) if (value := self.get(key)) is not None}
        self.staged.puts.clear()
        self.staged.removed.clear()
        self.staged.cleared = True
        self.staged.puts.update(settled)

    def _check_may_change(self) -> None:
        if not self._may_change:
            self.read.add(PREPARED)
            if self._view.size_of(PREPARED) is not None:
                kind, name = self._view.document
                raise TransactionPending(
                    f"{kind} {name!r} is prepared for a transaction over two stores that is not settled yet",
                    kind=kind,
                    id=name,
                )
            self._may_change = True

    def project(self, projection: Any) -> None:
        self.staged.projection = projection


class JointStaging:
    """A transaction for each document that the work asks for; fulfils `views.JointTransaction`.

    `open_view` gives the newest version of a document.
    """

    def __init__(self, open_view: Callable[[DocumentId], View]) -> None:
        self._open_view = open_view
        self.opened: dict[DocumentId, StagedTransaction] = {}

    def document(self, document: DocumentId) -> StagedTransaction:
        found = self.opened.get(document)
        if found is None:
            found = self.opened[document] = StagedTransaction(self._open_view(document))
        return found
