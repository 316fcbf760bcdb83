"""Commits that a state has taken note of, and lays over the rest once a part that they touch is asked for."""

from __future__ import annotations

from typing import NamedTuple

from waypost.codec import bodies
from waypost.codec.bodies import Part
from waypost.codec.compression import PLAIN, Undecodable
from waypost.codec.frame import Standing, part_hash, touched_parts
from waypost.store.directory.blocks import damaged
from waypost.store.directory.files import File
from waypost.store.directory.log import Frame
from waypost.store.views import OperationRecord


class Laying(NamedTuple):
    """A commit, as it is laid over what was there before it."""

    parts: dict[str, Part]
    removed: list[str]
    cleared: bool
    record: OperationRecord
    standing: Standing
    compressed: bool


class Undecoded:
    """The frames of others that were not decoded yet, and commits of this process behind the first of them."""

    def __init__(self) -> None:
        self.commits: list[Frame | Laying] = []
        self.bytes = 0
        self.own: dict[str, Part | None] = {}
        """What commits of this process put or removed behind those of others."""
        self._touched: set[int] = set()
        """The hashes of parts that commits of others touch."""
        self._touches_any = False

    def add(self, found: Frame) -> None:
        """A commit of others."""
        self.commits.append(found)
        touched = touched_parts(found.header, found.data)
        if touched is None:
            self._touches_any = True
        else:
            self._touched.update(touched)
        self.bytes += found.header.length

    def add_own(self, commit: Laying, length: int) -> None:
        """A commit of this process behind them, in a frame of that length."""
        self.commits.append(commit)
        self._touches_any |= commit.cleared
        self.own.update(dict.fromkeys(commit.removed))
        self.own.update(commit.parts)
        self.bytes += length

    def touches(self, key: str) -> bool:
        """Whether what stands under a key cannot be told without decoding."""
        return self._touches_any or part_hash(key.encode()) in self._touched

    def decoded(self, file: File) -> list[Laying]:
        """All of them, in their order. Raises DocumentDamaged."""
        return [each if isinstance(each, Laying) else _decode(each, file) for each in self.commits]


def _decode(found: Frame, file: File) -> Laying:
    try:
        content, table = found.content()
        body = bodies.read_commit(content)
        parts = dict(bodies.commit_parts(body, table))
    except Undecodable as error:
        raise damaged(file, found.offset, error) from error
    header = found.header
    compressed = header.codec != PLAIN or any(block.codec != PLAIN for block in table)
    record = OperationRecord(body.operation_id, header.version, header.time_us, body.operation, body.projection)
    return Laying(parts, body.removed, body.cleared, record, found.standing, compressed)
