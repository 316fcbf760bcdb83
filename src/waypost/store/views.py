"""One version of a document, and transactions that change it: reading, staging, and what is remembered of a write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from waypost.store.kinds import DocumentId
from waypost.store.values import Content, Pieces


class OperationRecord(NamedTuple):
    """What a document remembers of one write.

    `projection` is plain data (lists, texts, numbers) by which the layer above can find the
    operation's result again in the document as it stood at `version`.
    """

    operation_id: str
    version: int
    time_us: int
    operation: str
    projection: Any


class View(Protocol):
    """One version of a document; immutable, and safe to read from any thread."""

    @property
    def document(self) -> DocumentId: ...
    @property
    def version(self) -> int:
        """Number of commits so far; 0 when the document does not exist."""
        ...

    @property
    def time_us(self) -> int:
        """When the last commit was made, in microseconds since the epoch (wall clock); later than the one before."""
        ...

    @property
    def size_bytes(self) -> int:
        """Sum over the parts of the length of key and value, before compression."""
        ...

    @property
    def checksum(self) -> bytes:
        """32 bytes: the sum of `part_checksum` over all parts, modulo 2**256, big-endian."""
        ...

    @property
    def commit_id(self) -> bytes:
        """32 bytes that name this commit and, through its parents, all before it."""
        ...

    @property
    def compressed(self) -> bool:
        """Whether any of the stored bytes that make up this version are compressed."""
        ...

    def get(self, key: str) -> bytes | None:
        """The part's bytes, or None where there is no such part."""
        ...

    def pieces(self, key: str) -> Pieces | None:
        """The part's bytes, a piece at a time: what a store keeps in blocks is never in memory as a whole."""
        ...

    def size_of(self, key: str) -> int | None:
        """The length of the part's value in bytes, without reading it."""
        ...

    def erased(self, key: str) -> bytes | None:
        """The digest (`part_checksum`) of a part that was erased, which reading raises ValueErased for; else None."""
        ...

    def keys(self, prefix: str = "") -> Iterator[str]:
        """The keys that begin with `prefix`, sorted."""
        ...

    def differing(self, other: View) -> set[str]:
        """The keys of all parts in which the two versions differ, and it may be of others. Where both are versions of
        one document that lie near each other, this looks at few parts.
        """
        ...

    def operation(self, operation_id: str) -> OperationRecord | None:
        """What is remembered of a write with that id."""
        ...


class Transaction(View, Protocol):
    """A view whose changes are staged; reading sees them at once.

    `version`, `checksum` and the like are those of the version the work started from.
    """

    def put(self, key: str, value: bytes | Content) -> None: ...
    def delete(self, key: str) -> None: ...
    def unwatched_keys(self, prefix: str) -> Iterator[str]:
        """As `keys`, but it does not count as read: for work that is right whatever others put and remove there."""
        ...

    def clear(self) -> None:
        """Remove all parts."""
        ...

    def project(self, projection: Any) -> None:
        """Say how the result is found again at this version, should the operation be repeated."""
        ...


class JointPart(Transaction, Protocol):
    """The transaction over one of several documents."""

    def savepoint(self) -> object:
        """What is staged now, for `roll_back`."""
        ...

    def roll_back(self, savepoint: object) -> None:
        """Stage again what was staged then; nothing where it is None."""
        ...

    def as_it_is(self) -> View:
        """The document with what is staged now; what is read there counts as read by the transaction."""
        ...


class JointTransaction(Protocol):
    """Work over any number of documents."""

    def document(self, document: DocumentId) -> JointPart:
        """The transaction over one document, as it was when it was first asked for."""
        ...
