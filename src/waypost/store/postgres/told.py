"""What a commit tells beside its values, as it stands in a row: a MessagePack array."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from waypost.codec.bodies import CommitBody, ErasedParts, JointMark, MergeMark
from waypost.errors import DocumentDamaged
from waypost.store.views import OperationRecord


class Told(NamedTuple):
    """The fields are those of `CommitBody`; `digests` of the values that its content names by them."""

    projection: Any
    digests: dict[str, bytes]
    transaction: JointMark | None = None
    erased: ErasedParts | None = None
    merge: MergeMark | None = None


_read = msgspec.msgpack.Decoder(Told).decode
_encode = msgspec.msgpack.Encoder().encode


def tell(body: CommitBody) -> bytes:
    digests = {key: value[1] for key, value in body.puts.items() if not isinstance(value, bytes)}
    return _encode(Told(body.projection, digests, body.transaction, body.erased, body.merge))


def tell_again(tells: Told) -> bytes:
    return _encode(tells)


def told(data: bytes) -> Told:
    """Raises DocumentDamaged."""
    try:
        return _read(data)
    except msgspec.MsgspecError as error:
        raise DocumentDamaged(f"what is told of a commit cannot be decoded: {error}") from error


def record_of(row: tuple[Any, ...]) -> OperationRecord:
    operation_id, version, time_us, operation, data = row
    return OperationRecord(operation_id, version, time_us, operation, told(bytes(data)).projection)
