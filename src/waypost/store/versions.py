"""The versions of a document as the memory store keeps them: each whole, with the commit that made it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import copy

from waypost.codec import bodies
from waypost.errors import DocumentDamaged
from waypost.store import commits, erasures, parts
from waypost.store.contract import Change, JointChange
from waypost.store.erasures import Erasures
from waypost.store.kinds import DocumentId
from waypost.store.pasts import Commit, JointCommit
from waypost.store.staging import Staged, bytes_of
from waypost.store.values import Pieces
from waypost.store.views import OperationRecord, View

_CHUNK_BYTES = 64 * 1024
"""The content of a commit names values that are longer by their digests, as in other stores."""


class Version:
    """One version of a document: its parts and what the contract says about them."""

    __slots__ = (
        "checksum",
        "commit",
        "commit_id",
        "document",
        "gone",
        "operations",
        "parts",
        "size_bytes",
        "time_us",
        "version",
    )

    compressed = False

    def __init__(self, document: DocumentId) -> None:
        self.document = document
        self.version = 0
        self.time_us = 0
        self.size_bytes = 0
        self.checksum = parts.EMPTY_CHECKSUM
        self.commit_id = parts.NO_COMMIT
        self.parts: dict[str, bytes] = {}
        self.gone: dict[str, tuple[int, bytes]] = {}
        """Of the parts that were erased length and digest."""
        self.operations: dict[str, OperationRecord] = {}
        self.commit: Commit | None = None
        """What made it; None for the empty document."""

    def get(self, key: str) -> bytes | None:
        if key in self.gone:
            raise erasures.gone(*self.gone[key])
        return self.parts.get(key)

    def pieces(self, key: str) -> Pieces | None:
        value = self.get(key)
        return None if value is None else Pieces.of(value)

    def size_of(self, key: str) -> int | None:
        value = self.parts.get(key)
        return self.gone[key][0] if key in self.gone else None if value is None else len(value)

    def erased(self, key: str) -> bytes | None:
        return self.gone[key][1] if key in self.gone else None

    def keys(self, prefix: str = "") -> Iterator[str]:
        return iter(sorted(key for key in (*self.parts, *self.gone) if key.startswith(prefix)))

    def differing(self, other: View) -> set[str]:
        return {*self.keys(), *other.keys()}

    def operation(self, operation_id: str) -> OperationRecord | None:
        return self.operations.get(operation_id)

    def after(
        self, change: Change | JointChange, staged: Staged, time_us: int, joint: JointCommit | None = None
    ) -> Version:
        """The next version, with the change applied."""
        puts = {key: bytes_of(value) for key, value in staged.puts.items()}
        return self.following(
            Commit(
                version=self.version + 1,
                commit_id=b"",
                time_us=max(time_us, self.time_us + 1),
                operation_id=change.operation_id,
                operation=change.operation,
                session=change.session,
                agent=change.agent,
                cleared=staged.cleared,
                puts={key: len(value) for key, value in puts.items()},
                removed=sorted(staged.removed),
                joint=joint,
                read=puts.__getitem__,
                pieces=_pieces_of(puts),
                digests={key: _digest(key, value) for key, value in puts.items() if len(value) > _CHUNK_BYTES},
                projection=staged.projection,
                size_bytes=0,
                checksum=b"",
            )
        )

    def following(self, commit: Commit) -> Version:
        """The version that a commit makes of this one; its id and the sums are computed."""
        following = Version(self.document)
        following.version, following.time_us = commit.version, commit.time_us
        following.parts = {} if commit.cleared else dict(self.parts)
        following.gone = {} if commit.cleared else dict(self.gone)
        for key in commit.removed:
            following.parts.pop(key, None)
            following.gone.pop(key, None)
        lost = {} if commit.erased is None else dict(commit.erased[1])
        puts = {key: commit.read(key) for key in commit.puts if key not in lost}
        for key in commit.puts:
            following.parts.pop(key, None)
            following.gone.pop(key, None)
        following.parts.update(puts)
        following.gone.update(lost)
        following.sum_up()
        following.commit_id = commits.id_of(self.commit_id, commits.body_of(commit))
        following.operations = dict(self.operations)
        following.operations[commit.operation_id] = OperationRecord(
            commit.operation_id, commit.version, commit.time_us, commit.operation, commit.projection
        )
        following.commit = commit._replace(
            commit_id=following.commit_id,
            size_bytes=following.size_bytes,
            checksum=following.checksum,
            read=_reader(puts, lost),
            pieces=_by_pieces(_reader(puts, lost)),
        )
        return following

    def followed_by(self, commit: Commit) -> Version:
        """The version that a commit of another store makes of this one. Raises DocumentDamaged where that is not what
        the commit says.
        """
        following = self.following(commit._replace(version=self.version + 1))
        told = (commit.commit_id, commit.size_bytes, commit.checksum)
        if told != (following.commit_id, following.size_bytes, following.checksum):
            name = self.document.id
            raise DocumentDamaged(f"version {following.version} of {name!r} is not what its ids and sums say")
        if following.time_us <= self.time_us:
            raise DocumentDamaged(f"version {following.version} of {self.document.id!r} is older than the one before")
        return following

    def sum_up(self) -> None:
        """Compute size and checksum from the parts."""
        lengths = [(key, len(value)) for key, value in self.parts.items()]
        lengths += [(key, length) for key, (length, _) in self.gone.items()]
        self.size_bytes = sum(parts.part_size(key.encode(), length) for key, length in lengths)
        gone = sum(int.from_bytes(digest, "big") for _, digest in self.gone.values())
        self.checksum = parts.add_to_checksum(parts.document_checksum(self.parts.items()), gone)


def _reader(puts: Mapping[str, bytes], lost: Mapping[str, tuple[int, bytes]]) -> Callable[[str], bytes]:
    def read(key: str) -> bytes:
        if key in lost:
            raise erasures.gone(*lost[key])
        return puts[key]

    return read


def _by_pieces(read: Callable[[str], bytes]) -> Callable[[str], Pieces]:
    return lambda key: Pieces.of(read(key))


def _pieces_of(values: Mapping[str, bytes]) -> Callable[[str], Pieces]:
    return lambda key: Pieces.of(values[key])


def _digest(key: str, value: bytes) -> bytes:
    return parts.part_checksum(key.encode(), value).to_bytes(32, "big")


def without(version: Version, found: Erasures) -> Version:
    """A version as it is once something was erased: a new object, since views stay as they are."""
    left = copy(version)
    left.parts, left.gone = dict(version.parts), dict(version.gone)
    for key, value in version.parts.items():
        if found.covers(key, version.time_us):
            left.gone[key] = len(value), _digest(key, value)
            del left.parts[key]
    left.operations = {name: _forgotten(record, found) for name, record in version.operations.items()}
    commit = version.commit
    if commit is not None:
        before = {} if commit.erased is None else dict(commit.erased[1])
        going = {key: left.gone[key] for key in commit.puts if found.covers(key, commit.time_us) and key not in before}
        forgets = found.forgets(commit.projection, commit.time_us)
        if going or forgets:
            body = commits.body_of(commit)
            lost = {**before, **going}
            puts = {key: commit.read(key) for key in commit.puts if key not in lost}
            left.commit = commit._replace(
                read=_reader(puts, lost),
                pieces=_by_pieces(_reader(puts, lost)),
                digests={key: digest for key, digest in commit.digests.items() if key not in lost},
                projection=erasures.RESULT_ERASED if forgets else commit.projection,
                erased=(bodies.content_hash(body, bodies.content_of(body)), lost),
            )
    return left


def _forgotten(record: OperationRecord, found: Erasures) -> OperationRecord:
    forgets = found.forgets(record.projection, record.time_us)
    return record._replace(projection=erasures.RESULT_ERASED) if forgets else record


class Versions:
    """The versions that a document had; fulfils `pasts.Past`. Before the first of them there may have been others,
    whose ids are `dropped`.
    """

    def __init__(self, versions: list[Version], dropped: list[bytes | None]) -> None:
        self._versions = versions
        self._dropped = dropped
        self.first = versions[0].version
        self.version = versions[-1].version

    def commits(self, before: int | None = None, *, oldest_first: bool = False) -> Iterator[Commit]:
        for each in self._versions if oldest_first else reversed(self._versions):
            if each.commit is not None and (before is None or each.version < before):
                yield each.commit

    def dropped_id(self, version: int) -> bytes | None:
        return self._dropped[version - 1] if 0 < version <= len(self._dropped) else None

    def start(self) -> View:
        return self._versions[0]

    def remembered(self) -> Iterator[OperationRecord]:
        return iter(sorted(self._versions[0].operations.values(), key=lambda record: record.version))
