"""A document with its past, written anew as a log: what is told of it in neutral terms becomes frames of this store.

Nothing is copied as it stands elsewhere, so a log holds only what its own writer would write. What is told is not
believed either: whoever gives the log a name verifies it first, down to the id and the sums of every commit.
"""

from __future__ import annotations

from collections.abc import Iterator

from waypost import clock
from waypost.codec import bodies, frame
from waypost.codec.bodies import Block, CommitBody, Extent, FileBody, Part, SnapshotBody, SnapshotBuilder
from waypost.codec.compression import Compressor
from waypost.codec.frame import ERASED_FORMAT, FORMAT_VERSION, Standing
from waypost.store import commits
from waypost.store import parts as sums
from waypost.store.directory import content
from waypost.store.directory.compaction import CARRIED_BYTES, Rewriter
from waypost.store.directory.following import cut
from waypost.store.directory.log import NOTHING
from waypost.store.kinds import DocumentId
from waypost.store.pasts import Commit, Past
from waypost.store.values import Pieces
from waypost.store.views import View


class Transcript:
    """Writes one document into a new file, frame behind frame, holding a few MiB of it at a time."""

    def __init__(self, out: Rewriter, compressor: Compressor, chunk_bytes: int) -> None:
        self.out = out
        self.standing = NOTHING
        self._compressor = compressor
        self._chunk_bytes = chunk_bytes

    def write(self, document: DocumentId, past: Past) -> None:
        """All that is known of a document, but for the seal."""
        dropped = b"".join(past.dropped_id(version + 1) or sums.NO_COMMIT for version in range(past.first))
        number = ERASED_FORMAT if _lacks_something(past) else FORMAT_VERSION
        first = FileBody(number, document.kind, document.id, 0, clock.now_us(), dropped, arrived=past.version)
        self.out.put(bodies.file_draft(first), NOTHING)
        if past.first:
            self._start(past)
        for commit in past.commits(oldest_first=True):
            self._commit(commit)

    def seal(self) -> None:
        self.out.put(frame.seal_draft(), self.standing)

    def _start(self, past: Past) -> None:
        """The snapshot that stands for the versions of which only the ids are known."""
        view = past.start()
        self.standing = standing_of(view)
        builder = SnapshotBuilder(self._compressor)
        compressed = False
        for key in view.keys():
            part = self._part(view, key)
            compressed |= isinstance(part, Extent) and any(block.codec for block in part.table)
            builder.add(key, part)
        builder.finish(list(past.remembered()))
        body = SnapshotBody(self.out.end, self.out.link, 0, compressed, [], [])
        self.out.put(builder.draft(body), self.standing)

    def _part(self, view: View, key: str) -> Part:
        gone = view.erased(key)
        if gone is not None:
            return Extent(view.size_of(key) or 0, gone, [])
        length, pieces = view.size_of(key), view.pieces(key)
        assert length is not None and pieces is not None
        if length <= self._chunk_bytes:
            return b"".join(map(pieces.read, range(len(pieces.starts))))
        digest = sums.part_digest(key.encode())
        for piece in _read(pieces):
            digest.update(piece)
        return Extent(length, digest.digest(), self._blocks(pieces, length)[0])

    def _commit(self, commit: Commit) -> None:
        self.standing = Standing(commit.version, commit.time_us, commit.size_bytes, commit.checksum, commit.commit_id)
        body: CommitBody = commits.body_of(commit)
        ahead: dict[str, tuple[list[Block], list[bytes]]] = {}
        last = [*commit.digests][-1:]
        for key in commit.digests:
            # those of a frame that has none of its own would not be looked for
            ahead[key] = self._blocks(commit.pieces(key), commit.puts[key], keep_last=key in last)
        made = bodies.commit_content(body, {}, ahead, self._compressor, self._chunk_bytes)
        self.out.put(bodies.commit_draft(made, bodies.touched_by(body), self._compressor), self.standing)

    def _blocks(self, pieces: Pieces, length: int, *, keep_last: bool = False) -> tuple[list[Block], list[bytes]]:
        """Put the blocks of a large part into frames of their own, but for the last few if those are to be kept for
        another; the rows, with their places where they have any, and what was kept.
        """
        size = content.block_bytes(self._chunk_bytes, length)
        placed: list[Block] = []
        rows: list[Block] = []
        blocks: list[bytes] = []
        held = 0
        for piece in cut(pieces, size):
            if held >= CARRIED_BYTES:
                placed += self.out.put_data(rows, blocks, self.standing)
                rows, blocks, held = [], [], 0
            row, stored = bodies.pack_block(self._compressor, piece)
            rows.append(row)
            blocks.append(stored)
            held += len(stored)
        if keep_last:
            return placed + rows, blocks
        return placed + self.out.put_data(rows, blocks, self.standing), []


def _lacks_something(past: Past) -> bool:
    """Whether something was erased from what is told of a document."""
    view = past.start()
    return any(view.erased(key) is not None for key in view.keys()) or any(each.erased for each in past.commits())


def standing_of(view: View) -> Standing:
    return Standing(view.version, view.time_us, view.size_bytes, view.checksum, view.commit_id)


def _read(pieces: Pieces) -> Iterator[bytes]:
    return map(pieces.read, range(len(pieces.starts)))
