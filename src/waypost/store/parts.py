"""Arithmetic over parts that every store shares: checksums, sizes and commit ids.

The document checksum is additive, so a commit updates it at the cost of what it changed, and anyone
who has the parts can compute it again: the sum over all parts of SHA-256(length of the key in UTF-8
as 4 bytes, key, value), modulo 2**256, written big-endian. The length in front keeps ("ab", "c")
apart from ("a", "bc").
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Protocol

MODULUS = 1 << 256
EMPTY_CHECKSUM = bytes(32)
NO_COMMIT = bytes(32)
_JOINED_UP_TO = 16 * 1024  # up to here a copy takes less time than two more calls


class Digest(Protocol):
    """A hash that is being computed."""

    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


def part_checksum(key: bytes, value: bytes) -> int:
    """The summand of one part."""
    if len(value) <= _JOINED_UP_TO:
        return int.from_bytes(sha256(len(key).to_bytes(4, "big") + key + value).digest(), "big")
    digest = part_digest(key)
    digest.update(value)
    return int.from_bytes(digest.digest(), "big")


def part_digest(key: bytes) -> Digest:
    """The hash of a part whose value is yet to come."""
    digest = sha256(len(key).to_bytes(4, "big"))
    digest.update(key)
    return digest


def part_size(key: bytes, value_length: int) -> int:
    """What one part adds to the size of its document."""
    return len(key) + value_length


def document_checksum(parts: Iterable[tuple[str, bytes]]) -> bytes:
    """The checksum of a whole document, from nothing but its parts."""
    total = sum(part_checksum(key.encode(), value) for key, value in parts)
    return (total % MODULUS).to_bytes(32, "big")


def add_to_checksum(checksum: bytes, delta: int) -> bytes:
    """The checksum after a commit whose parts changed the sum by `delta`."""
    return ((int.from_bytes(checksum, "big") + delta) % MODULUS).to_bytes(32, "big")


def repaired_id(parent: bytes, checksum: bytes) -> bytes:
    """The id of a version that a repair made since it could not keep all of the one before: by that one and by what it
    holds, so that whoever has both knows it for such.
    """
    return commit_id(parent, "repair", checksum)


def commit_id(parent: bytes, operation_id: str, body_hash: bytes) -> bytes:
    """SHA-256 over the parent's id, the operation id (length, then UTF-8) and the hash of the body."""
    name = operation_id.encode()
    return sha256(parent + len(name).to_bytes(4, "big") + name + body_hash).digest()
