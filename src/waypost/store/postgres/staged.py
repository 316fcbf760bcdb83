"""Values that are taken in ahead of the commit that puts them, in pieces.

They are rows of their own, which the commit points to. What no commit points to after a day is swept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from zlib import crc32

from waypost.errors import DocumentTooLarge
from waypost.store import parts
from waypost.store.kinds import DocumentId
from waypost.store.postgres.connections import Connection, Connections
from waypost.store.postgres.documents import pieces_of


class Held:
    """Fulfils `values.Content`."""

    def __init__(
        self, connections: Connections, document: DocumentId, key: str, length: int, content: int, digest: int
    ) -> None:
        self._connections = connections
        self._document = document
        self.key = key
        self.length = length
        self.content = content
        self.digest = digest

    def read(self) -> bytes:
        pieces = pieces_of(self._connections, self.content, self._document)
        return b"".join(pieces.read(number) for number in range(len(pieces.starts)))


def stage(
    connections: Connections,
    document: DocumentId,
    key: str,
    length: int,
    pieces: Callable[[int], Iterable[bytes]],
    chunk_bytes: int,
    limit_bytes: int,
) -> Held:
    """See `contract.Store.stage`."""
    check_size(document, length, limit_bytes)

    def put(connection: Connection) -> tuple[int, int]:
        with connections.transaction(connection):
            return put_pieces(connections, connection, key, length, pieces(chunk_bytes), chunk_bytes)

    content, digest = connections.again(put)
    return Held(connections, document, key, length, content, digest)


def check_size(document: DocumentId, length: int, limit_bytes: int) -> None:
    if length > limit_bytes:
        raise DocumentTooLarge(
            f"a value of {length:,} bytes does not fit into {document.kind} {document.id!r}: "
            f"performance.max_file_size allows {limit_bytes:,}"
        )


def put_pieces(
    connections: Connections, connection: Connection, key: str, length: int, pieces: Iterable[bytes], chunk_bytes: int
) -> tuple[int, int]:
    """Write pieces in the transaction that is open: the number of the content, and its digest as a part of that key."""
    statements = connections.statements
    row = connection.execute(statements["new_content"], (length, chunk_bytes)).fetchone()
    assert row is not None
    content: int = row[0]
    digest, written = parts.part_digest(key.encode()), 0
    for number, piece in enumerate(_of_size(pieces, chunk_bytes)):
        connection.execute(statements["put_piece"], (content, number, crc32(piece), piece))
        digest.update(piece)
        written += len(piece)
    assert written == length, "pieces that do not add up"
    return content, int.from_bytes(digest.digest(), "big")


def _of_size(pieces: Iterable[bytes], size: int) -> Iterable[bytes]:
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)
