"""What a document says was erased from it: which parts, and up to when.

A decision to erase is a part like any other, so it rides in a commit. What it covers is told by a key and a time, so
that whoever comes upon an old version, in a log, in a file beside it or in an import, can tell what must not be there
any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, cast

from msgspec import MsgspecError
from msgspec.msgpack import Decoder

from waypost.errors import DocumentDamaged, ValueErased
from waypost.store import parts
from waypost.store.kinds import DocumentId
from waypost.store.values import Pieces
from waypost.store.views import OperationRecord, View

ERASED = "erased\x1f"
"""A part under a key that begins so says that another was erased: the one whose key is the rest of it or, where that
ends with U+001F, every one whose key begins so. Its value is a MessagePack array whose first item is a time (µs): in
versions that were committed after that the part may be there. 0 says that it was gone before this document began.
"""
RESULT_ERASED = ["erased"]
"""The projection of an operation whose result was forgotten."""

_read = Decoder(list[object]).decode


class Parts(Protocol):
    """As much of a version as is needed to see what it says of erasures."""

    def get(self, key: str) -> bytes | None: ...
    def keys(self, prefix: str = "") -> Iterator[str]: ...


class Erasures:
    """What is erased of a document: for each key, or beginning of keys, up to which time (µs)."""

    __slots__ = ("newest_us", "until")

    def __init__(self, until: Mapping[str, int]) -> None:
        self.until = {key: time_us for key, time_us in until.items() if time_us}
        self.newest_us = max(self.until.values(), default=0)

    @classmethod
    def of(cls, version: Parts) -> Erasures:
        """What a version says."""
        found: dict[str, int] = {}
        for key in version.keys(ERASED):
            data = version.get(key)
            if data is not None:
                found[key.removeprefix(ERASED)] = time_of(key, data)
        return cls(found)

    def __bool__(self) -> bool:
        return bool(self.until)

    def covers(self, key: str, time_us: int) -> bool:
        """Whether a part must not be in a version of that time."""
        if time_us > self.newest_us:
            return False
        return any(
            time_us <= until and (key == each or (each.endswith("\x1f") and key.startswith(each)))
            for each, until in self.until.items()
        )

    def forgets(self, projection: object, time_us: int) -> bool:
        """Whether the result of an operation of that time goes: what holds bytes may hold what was erased."""
        return time_us <= self.newest_us and _holds_bytes(projection)


NOTHING_ERASED = Erasures({})


def time_of(key: str, data: bytes) -> int:
    """Up to when what a part speaks of was erased. Raises DocumentDamaged."""
    try:
        row = _read(data)
    except MsgspecError as error:
        raise DocumentDamaged(f"the part {key!r} cannot be decoded: {error}", part=key) from error
    if not row or type(row[0]) is not int:
        raise DocumentDamaged(f"the part {key!r} does not say up to when it counts", part=key)
    return row[0]


def gone(length: int, digest: bytes) -> ValueErased:
    """What reading an erased part is answered with."""
    return ValueErased(f"a value of {length:,} bytes was erased here", size_bytes=length, digest=digest.hex())


def _holds_bytes(value: object) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_holds_bytes, cast("Sequence[object]", value)))
    return isinstance(value, bytes)


class Masked:
    """A version of any store without what is erased of it, `time_us` being its time; fulfils `views.View`."""

    def __init__(self, version: View, found: Erasures, time_us: int) -> None:
        self.version_below = version
        self._found = found
        self._time_us = time_us

    @property
    def document(self) -> DocumentId:
        return self.version_below.document

    @property
    def version(self) -> int:
        return self.version_below.version

    @property
    def time_us(self) -> int:
        return self.version_below.time_us

    @property
    def size_bytes(self) -> int:
        return self.version_below.size_bytes

    @property
    def checksum(self) -> bytes:
        return self.version_below.checksum

    @property
    def commit_id(self) -> bytes:
        return self.version_below.commit_id

    @property
    def compressed(self) -> bool:
        return self.version_below.compressed

    def erased(self, key: str) -> bytes | None:
        digest = self.version_below.erased(key)
        if digest is not None or not self._found.covers(key, self._time_us):
            return digest
        value = self.version_below.get(key)
        return None if value is None else parts.part_checksum(key.encode(), value).to_bytes(32, "big")

    def get(self, key: str) -> bytes | None:
        digest = self.erased(key)
        if digest is not None:
            raise gone(self.size_of(key) or 0, digest)
        return self.version_below.get(key)

    def pieces(self, key: str) -> Pieces | None:
        digest = self.erased(key)
        if digest is not None:
            raise gone(self.size_of(key) or 0, digest)
        return self.version_below.pieces(key)

    def size_of(self, key: str) -> int | None:
        return self.version_below.size_of(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return self.version_below.keys(prefix)

    def differing(self, other: View) -> set[str]:
        return {*self.keys(), *other.keys()}

    def operation(self, operation_id: str) -> OperationRecord | None:
        return self.version_below.operation(operation_id)
