"""From what a work staged to what is sent: parts with their digests, and the hash by which the commit has its id."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from waypost import clock
from waypost.codec import bodies
from waypost.codec.bodies import CommitBody, JointMark
from waypost.errors import DocumentTooLarge, InvalidId
from waypost.store import commits, parts
from waypost.store.contract import Change, JointChange
from waypost.store.pasts import Commit
from waypost.store.postgres.documents import Part
from waypost.store.postgres.staged import Held
from waypost.store.postgres.told import tell
from waypost.store.staging import Staged, StagedTransaction

MOST_KEY_BYTES = 2600
"""So long may a key be that stands in an index of the server."""
MOST_COMMIT_BYTES = 1_000_000_000
"""So many may be sent at once: the server ends a connection whose message has 2^30, and there is more in it."""


class Draft(NamedTuple):
    """A commit that is ready to be appended, whatever version it becomes."""

    operation_id: str
    operation: str
    session: str | None
    agent: str | None
    time_us: int
    cleared: bool
    puts: dict[str, Part]
    removed: list[str]
    hash: bytes
    told: bytes
    raw_bytes: int

    def parameters(self) -> tuple[object, ...]:
        """As `submit` and `append` take them, from the time on."""
        values = self.puts.values()
        return (
            self.time_us,
            self.operation_id,
            self.operation,
            self.session,
            self.agent,
            self.cleared,
            encoded(self.puts),
            [part.length for part in values],
            [part.digest for part in values],
            [part.value for part in values],
            [part.content for part in values],
            encoded(self.removed),
            self.hash,
            self.told,
        )


def encoded(keys: Iterable[str]) -> list[bytes]:
    return [key.encode() for key in keys]


def draft(
    change: Change | JointChange, staged: Staged, chunk_bytes: int, time_us: int, mark: JointMark | None = None
) -> Draft:
    """Encode what a work staged. Raises InvalidId for a key that is too long for the server, and DocumentTooLarge."""
    puts: dict[str, Part] = {}
    told: dict[str, bytes | tuple[int, bytes]] = {}
    for key, value in staged.puts.items():
        name = key.encode()
        if len(name) > MOST_KEY_BYTES:
            raise InvalidId(f"a part key has at most {MOST_KEY_BYTES} bytes in this store, this one has {len(name)}")
        if isinstance(value, bytes):
            digest = parts.part_checksum(name, value)
            puts[key] = Part(len(value), digest, value, None)
            told[key] = (len(value), digest.to_bytes(32, "big")) if len(value) > chunk_bytes else value
        else:
            assert isinstance(value, Held), "content of another store"
            puts[key] = Part(value.length, value.digest, None, value.content)
            told[key] = (value.length, value.digest.to_bytes(32, "big"))
    _check_size(puts)
    removed = sorted(staged.removed)
    body = CommitBody(
        change.operation_id,
        change.operation,
        change.session,
        change.agent,
        staged.projection,
        staged.cleared,
        told,
        removed,
        mark,
    )
    return Draft(
        change.operation_id,
        change.operation,
        change.session,
        change.agent,
        time_us,
        staged.cleared,
        puts,
        removed,
        bodies.content_hash(body, bodies.content_of(body)),
        tell(body),
        staged.raw_bytes,
    )


def _check_size(puts: dict[str, Part]) -> None:
    size_bytes = sum(len(key.encode()) + len(part.value or b"") for key, part in puts.items())
    if size_bytes > MOST_COMMIT_BYTES:
        raise DocumentTooLarge(
            f"a commit puts at most {MOST_COMMIT_BYTES:,} bytes in this store, but for what comes as a stream, and "
            f"this one {size_bytes:,}"
        )


def draft_of(commit: Commit, puts: dict[str, Part]) -> Draft:
    """The same of a commit of another store, whose values were taken in."""
    _check_size(puts)
    body = commits.body_of(commit)
    return Draft(
        commit.operation_id,
        commit.operation,
        commit.session,
        commit.agent,
        commit.time_us,
        commit.cleared,
        puts,
        list(commit.removed),
        bodies.content_hash(body, bodies.content_of(body)),
        tell(body),
        sum(part.length for part in puts.values()),
    )


def read_by(transaction: StagedTransaction) -> tuple[list[bytes], list[bytes]]:
    """The keys, and the beginnings of keys, that a work depends on."""
    return encoded(transaction.read), encoded(transaction.read_prefixes)


def now_us() -> int:
    return clock.now_us()
