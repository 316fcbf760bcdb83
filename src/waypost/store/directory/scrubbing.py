"""Taking what was erased out of what is written again: commits, snapshots, and the files of checkpoints.

In the place of a part stays how long it was and its digest, which is what it adds to the checksum of its document; in a
commit the hash of its content as it was, which is what its id is made of. So every sum and every id stays what it was.
"""

from __future__ import annotations

from waypost.codec import bodies
from waypost.codec.bodies import Block, CommitBody, ErasedParts, Extent, Part
from waypost.store import parts as sums
from waypost.store.directory.blocks import Blocks
from waypost.store.directory.frames import Frame
from waypost.store.directory.standing import Stands
from waypost.store.directory.state import Source
from waypost.store.erasures import RESULT_ERASED, Erasures
from waypost.store.values import Pieces
from waypost.store.views import OperationRecord, View


def without_value(key: str, part: Part) -> Extent:
    """What is left of a part."""
    if isinstance(part, Extent):
        return part._replace(table=[])
    return Extent(len(part), sums.part_checksum(key.encode(), part).to_bytes(32, "big"), [])


def commit(found: Frame, erasures: Erasures) -> tuple[CommitBody, list[Block]] | None:
    """A commit without what is erased, and the rows of the blocks that are left of it; None where nothing goes.

    Raises Undecodable.
    """
    time_us = found.header.time_us
    if time_us > erasures.newest_us:
        return None
    content, table = found.content()
    body = bodies.read_commit(content)
    going = dict.fromkeys(key for key in body.puts if erasures.covers(key, time_us))
    forgets = erasures.forgets(body.projection, time_us)
    if not going and not forgets:
        return None
    held = dict(bodies.commit_parts(body, table))
    gone = dict(body.erased.parts) if body.erased else {}
    for key in going:
        gone[key] = without_value(key, held[key])[:2]
    left = body._replace(
        puts={key: value for key, value in body.puts.items() if key not in going},
        projection=RESULT_ERASED if forgets else body.projection,
        erased=ErasedParts(bodies.content_hash(body, content), gone),
    )
    rows = [row for key in left.puts if isinstance(part := held[key], Extent) for row in part.table]
    return left, rows


def operations(records: list[OperationRecord], erasures: Erasures) -> list[OperationRecord]:
    """What is remembered of writes, without results that are forgotten."""
    if not erasures:
        return records
    return [
        each._replace(projection=RESULT_ERASED) if erasures.forgets(each.projection, each.time_us) else each
        for each in records
    ]


class Scrubbed(Stands):
    """A version without what is erased of it; fulfils `state.Source`."""

    __slots__ = ("__weakref__", "_covered", "_version", "document", "standing")

    def __init__(self, version: Source, covered: frozenset[str]) -> None:
        self._version = version
        self._covered = covered
        self.document, self.standing = version.document, version.standing

    @classmethod
    def of(cls, version: Source, erasures: Erasures, time_us: int | None = None) -> Source:
        """The version, itself where nothing of it is to go. `time_us` is the time that counts, if not its own."""
        time_us = version.time_us if time_us is None else time_us
        if time_us > erasures.newest_us:
            return version
        covered = {key for each in erasures.until for key in version.keys(each) if erasures.covers(key, time_us)}
        covered = {key for key in covered if not bodies.is_erased(version.located(key)[0])}
        return cls(version, frozenset(covered)) if covered else version

    @property
    def compressed(self) -> bool:
        return self._version.compressed

    def located(self, key: str) -> tuple[Part | None, Blocks]:
        part, blocks = self._version.located(key)
        return (part if part is None or key not in self._covered else without_value(key, part)), blocks

    def get(self, key: str) -> bytes | None:
        part, blocks = self.located(key)
        return None if part is None else blocks.value(part)

    def pieces(self, key: str) -> Pieces | None:
        part, blocks = self.located(key)
        return None if part is None else blocks.pieces(part)

    def size_of(self, key: str) -> int | None:
        return self._version.size_of(key)

    def keys(self, prefix: str = ""):
        return self._version.keys(prefix)

    def differing(self, other: View) -> set[str]:
        if isinstance(other, Scrubbed):
            return self._version.differing(other._version) | self._covered | other._covered
        return self._version.differing(other) | self._covered

    def operation(self, operation_id: str) -> OperationRecord | None:
        return self._version.operation(operation_id)
