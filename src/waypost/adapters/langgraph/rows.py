"""What the parts of a thread hold, and how values come there: bytes of the framework's serializer, never looked into.

Each record encodes to the same bytes whenever it holds the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Protocol

from msgspec import Struct

from waypost.errors import InvalidValue, UnsupportedFormat
from waypost.records import Record, encode
from waypost.store import View

FORMAT = 1
"""The number of the layout of threads: one that is higher is refused."""

Typed = tuple[str, bytes]
"""What a serializer makes of a value: the type that it is read back by, and bytes."""
Version = int | float | str
ChannelRow = tuple[str, Version | None, str | None]
"""A channel of a checkpoint: its name, its version, and the digest of its value; None where it has no such."""


class Serializer(Protocol):
    """The framework's."""

    def dumps_typed(self, obj: Any) -> Typed: ...
    def loads_typed(self, data: Typed) -> Any: ...


class ThreadRecord(Struct, array_like=True, frozen=True):
    format: int
    thread_id: str


class SavedRecord(Struct, array_like=True, frozen=True):
    """One checkpoint. `checkpoint` is serialized without values and versions of channels, which are in `channels`."""

    namespace: str
    parent: str | None
    run_id: str | None
    checkpoint: Typed
    metadata: Typed
    channels: tuple[ChannelRow, ...]


class ValueRecord(Struct, array_like=True, frozen=True):
    type: str
    data: bytes


class WriteRow(Struct, array_like=True, frozen=True):
    index: int
    channel: str
    task_path: str
    type: str
    data: bytes


class WritesRecord(Struct, array_like=True, frozen=True):
    """The pending writes of one task, sorted by their index."""

    task_id: str
    rows: tuple[WriteRow, ...]


class SealRecord(Struct, array_like=True, frozen=True):
    """That checkpoints from `low` on are in the page of that number, or behind it."""

    low: str
    number: int


class PageRecord(Struct, array_like=True, frozen=True):
    """How the head lists a page: the lowest id that belongs into it, and the number of the one that it follows."""

    low: str
    after: int


class NewestRecord(Struct, array_like=True, frozen=True):
    """The highest id of a namespace in a page. That a page was sealed is told here too, so that whoever put behind that
    id in another store meanwhile has changed the same part, and a sync tells of it.
    """

    checkpoint_id: str
    is_sealed: bool = False


THREADS = Record(ThreadRecord)
SAVED = Record(SavedRecord)
VALUES = Record(ValueRecord)
WRITES = Record(WritesRecord)
SEALS = Record(SealRecord)
NEWEST = Record(NewestRecord)
PAGES = Record(PageRecord)
NUMBERS = Record(int)


def checked(record: ThreadRecord) -> ThreadRecord:
    """The record of a thread. Raises UnsupportedFormat for one of a newer release."""
    if record.format > FORMAT:
        raise UnsupportedFormat(
            f"thread {record.thread_id!a:.80} is of format {record.format}, and this release knows {FORMAT}",
            format=record.format,
        )
    return record


def newest_of(view: View, key: str) -> str | None:
    """The id that a part `newest` holds."""
    found = NEWEST.get(view, key)
    return None if found is None else found.checkpoint_id


def dumped(serde: Serializer, value: Any, path: str) -> Typed:
    """What a serializer makes of a value. Raises InvalidValue, which says where the value stands."""
    try:
        kind, data = serde.dumps_typed(value)
        kind.encode()
    except MemoryError:
        raise  # which is no word about the value
    except Exception as error:  # whatever a serializer of anybody's raises
        reason = f"the serializer cannot write it: {error}"
        raise InvalidValue(f"{path} cannot be stored: {reason}", path=path, reason=reason) from error
    return kind, bytes(data)


class Blobs:
    """Values that are to be put, by their digests."""

    def __init__(self) -> None:
        self.parts: dict[str, bytes] = {}

    def add(self, typed: Typed) -> str:
        """Take in a value; its digest."""
        kind, data = typed
        name = sha256(kind.encode() + b"\0")
        name.update(data)
        digest = name.hexdigest()[:40]
        if digest not in self.parts:
            self.parts[digest] = encode(ValueRecord(kind, data))
        return digest


def versions_of(channels: tuple[ChannelRow, ...]) -> Mapping[str, Version]:
    return {name: version for name, version, _ in channels if version is not None}
