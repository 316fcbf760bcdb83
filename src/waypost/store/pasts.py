"""How a document came to a version: its commits, told in terms that every store shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from waypost.store.kinds import DocumentId
from waypost.store.values import Pieces
from waypost.store.views import OperationRecord, View


class JointCommit(NamedTuple):
    """Of what a commit was one: a commit over several documents, each of which it brought to a version."""

    transaction_id: str
    participants: Sequence[tuple[DocumentId, int]]


class Merge(NamedTuple):
    """Which two commits a commit brings together (the smaller id first), which others it may follow, since it puts all
    that was changed after them, and which further ones are known to whoever has it. All are ids.
    """

    parents: Sequence[bytes]
    behind: Sequence[bytes]
    contains: Sequence[bytes]


class Commit(NamedTuple):
    """One commit of a document, and what it changed. `session` and `agent` are None where none was named.

    With `cleared` all parts were removed before any was put. `puts` tells the length of each value that was put, and
    `read(key)` gives it, `pieces(key)` a piece at a time. Where the commit's content names a value by its digest alone,
    that is in `digests`. `size_bytes` and `checksum` are the document's after it.
    """

    version: int
    commit_id: bytes
    time_us: int
    operation_id: str
    operation: str
    session: str | None
    agent: str | None
    cleared: bool
    puts: Mapping[str, int]
    removed: Sequence[str]
    joint: JointCommit | None
    read: Callable[[str], bytes]
    pieces: Callable[[str], Pieces]
    digests: Mapping[str, bytes]
    projection: Any
    size_bytes: int
    checksum: bytes
    erased: tuple[bytes, Mapping[str, tuple[int, bytes]]] | None = None
    """Where some of it was erased: the hash of its content before, and length and digest of each part that it put."""
    merge: Merge | None = None
    """Where it is one of two lines that parted: its id is then one of both parents, and the same behind either line."""


class Past(Protocol):
    """What is still known of how a document came to a version. It stays as it is, whatever is committed or dropped
    later, and is read piece by piece.
    """

    @property
    def version(self) -> int:
        """The newest version, 0 when the document does not exist."""
        ...

    @property
    def first(self) -> int:
        """The oldest version that is kept: the first commit that is follows it. 0 when nothing was dropped."""
        ...

    def commits(self, before: int | None = None, *, oldest_first: bool = False) -> Iterator[Commit]:
        """The commits that are kept, of versions below `before`, the newest first or the other way round."""
        ...

    def dropped_id(self, version: int) -> bytes | None:
        """The commit id of a version from 1 to `first`; None where that is lost, too."""
        ...

    def start(self) -> View:
        """The document as it was at `first`."""
        ...

    def remembered(self) -> Iterator[OperationRecord]:
        """What is remembered of writes up to `first`, the oldest first."""
        ...
