"""Decisions over several documents: the files in `transactions/` (docs/durability.md, section 4).

A decision holds the bytes of every frame of a commit over several documents, and their places. From the moment its
name is durable the commit has happened: whoever reads lays the frames over the logs that lack them, whoever takes the
lock of such a log writes them there, and the file goes once all logs are synced.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

from waypost import clock
from waypost.codec import bodies, frame
from waypost.codec.bodies import DecidedFrames, DecisionBody
from waypost.codec.compression import Undecodable
from waypost.codec.frame import FrameType, Place, Standing
from waypost.errors import DocumentDamaged, StoreUnavailable
from waypost.store.directory.files import Directory, File, Identity
from waypost.store.directory.layout import Layout, new_file
from waypost.store.directory.log import NOTHING, Frame, Log, new_file_id
from waypost.store.kinds import DocumentId

FOLDER = "transactions"
_NAME = re.compile(r"[0-9a-f]{32}")
# two changes within one tick of the file system's clock leave the same time; none has a coarser one than this
_TICK_NS = 2_000_000_000


class Piece(NamedTuple):
    """What one decision says of one document."""

    transaction_id: str
    file_id: int
    offset: int
    frames: bytes

    @property
    def end(self) -> int:
        return self.offset + len(self.frames)


class Overlaid(File):
    """A file as it will be once what was decided is written to it; there need not be one yet. For reading only.

    It ends where that ends: what stands behind it in a file that lacks it was never synced, and whoever writes what
    was decided clears it away. Not so (`ends_there`) for a repair, which does not know whether it is there already.
    """

    __slots__ = ("_ends_there", "_file", "_pieces")

    def __init__(self, file: File | None, name: str, pieces: list[Piece], *, ends_there: bool = True) -> None:
        super().__init__(-1, file.name if file else name)
        self._file = file
        self._pieces = pieces
        self._ends_there = ends_there

    def identity(self) -> Identity:
        below = self._file.identity() if self._file else Identity(0, 0, 0)
        end = max(piece.end for piece in self._pieces)
        return below._replace(size=end if self._ends_there else max(end, below.size))

    def read(self, length: int, offset: int) -> bytes:
        size = self.identity().size
        data = bytearray(max(0, min(length, size - offset)))
        below = self._file.read(len(data), offset) if self._file and data else b""
        data[: len(below)] = below
        for piece in self._pieces:
            start, end = max(offset, piece.offset), min(offset + len(data), piece.end)
            if start < end:
                data[start - offset : end - offset] = piece.frames[start - piece.offset : end - piece.offset]
        return bytes(data)


class Decisions:
    """The decisions of a store that are being carried out. Safe to use from any thread.

    They are durable at every level: were a frame flushed by chance and its decision not, half of a commit were there.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lock = Lock()
        self._folder: Directory | None = None
        self._trusted_ns: int | None = None
        self._pending: dict[str, DecisionBody] = {}
        self._confirmed: set[str] = set()
        self.when_pending: Callable[[], None] = _do_nothing
        """Called whenever decisions are found that are not known to be carried out."""

    def after_fork(self) -> None:
        """In the child: the lock may be held by a thread that is not there."""
        self._lock = Lock()

    # --- looking ------------------------------------------------------------------------------

    def pending(self) -> dict[str, DecisionBody]:
        """All decisions that are not known to be carried out. Raises DocumentDamaged for one that cannot be read."""
        with self._lock:
            folder = self._opened()
            if folder is None:
                return {}
            changed_ns = folder.changed_ns()
            if changed_ns != self._trusted_ns:
                looked_ns = time.time_ns()
                self._look(folder)
                self._trusted_ns = changed_ns if looked_ns - changed_ns > _TICK_NS else None
            pending = self._pending
        if pending:
            self.when_pending()
        return pending

    def _opened(self) -> Directory | None:
        if self._folder is None:
            if self._layout.read_only:
                self._folder = self._layout.root.open_directory(FOLDER)
            else:
                self._folder = self._layout.folder(FOLDER)
        return self._folder

    def _look(self, folder: Directory) -> None:
        found: dict[str, DecisionBody] = {}
        for name in sorted(folder.names()):
            if is_name(name):
                body = self._pending.get(name) or read(folder, name)
                if body is not None:  # else it was carried out meanwhile
                    found[name] = body
        self._pending = found
        self._confirmed &= found.keys()

    def pieces_for(self, document: DocumentId) -> list[Piece]:
        """What pending decisions say of a document, in the order of their places."""
        pieces = [
            Piece(body.transaction_id, each.file_id, each.offset, each.frames)
            for body in self.pending().values()
            for each in body.participants
            if (each.kind, each.id) == document
        ]
        return sorted(pieces, key=lambda piece: piece.offset)

    # --- deciding -----------------------------------------------------------------------------

    def decide(self, transaction_id: str, participants: list[DecidedFrames]) -> None:
        """Write a decision; once this returns, the commit has happened.

        Raises StoreUnavailable; with `outcome: unknown` when it may be that it has.
        """
        self._put(DecisionBody(transaction_id, participants))

    def confirm(self, transaction_id: str) -> None:
        """Make sure of a decision that another made, before anything rests on it.

        It is written again, identically: had the sync of its name failed, the kernel would take that for clean, and no
        later sync would cover it.
        """
        if transaction_id in self._confirmed:
            return
        body = self._pending.get(transaction_id)
        if self._layout.read_only:
            if self._folder is not None:
                _sync_if_possible(self._folder)
        elif body is not None:
            self._put(body)

    def _put(self, body: DecisionBody) -> None:
        draft = bodies.decision_draft(body)
        standing = Standing(0, clock.now_us(), 0, NOTHING.checksum, NOTHING.commit_id)
        data, _ = frame.assemble(draft, Place(0, new_file_id(), 0, 0, 0), standing)
        folder, temp = self._layout.folder(FOLDER), self._layout.folder("temp")
        name, file = new_file(self._layout)
        try:
            file.write_all(data, 0)
            file.sync_all()
            temp.move(name, folder, body.transaction_id)
        except StoreUnavailable as error:
            if not _took_back(temp, name):  # it was refused, and happened all the same
                raise _unsure(error) from error
            raise
        try:
            folder.sync()
        except StoreUnavailable as error:
            raise _unsure(error) from error
        self._confirmed.add(body.transaction_id)

    def carry_out(self, document: DocumentId, log: Log, size: int) -> list[Frame]:
        """Write what was decided for a document and is not in its log yet, with the log's lock held; the new frames.

        `size` is the length of the file.
        """
        news: list[Frame] = []
        for piece in self.pieces_for(document):
            if log.lacks(piece.file_id, piece.offset, piece.end):
                self.confirm(piece.transaction_id)
                log.file_id = piece.file_id
                log.put(piece.frames[log.end - piece.offset :], size)
                news += log.news()
                if log.end != piece.end:
                    raise log.damage(log.end, f"what transaction {piece.transaction_id} decided is no row of frames")
                log.decided = log.end
        return news

    def remove(self, transaction_id: str) -> None:
        """Forget a decision that was carried out, durably. Were the removal lost, it would be carried out again, which
        changes nothing.
        """
        self._layout.folder(FOLDER).remove(transaction_id)
        self._confirmed.discard(transaction_id)


def is_name(name: str) -> bool:
    """Whether a file of that name is a decision."""
    return _NAME.fullmatch(name) is not None


def _do_nothing() -> None:
    pass


def _took_back(temp: Directory, name: str) -> bool:
    """Whether a file was there still and is gone now, so that nothing was decided by it."""
    try:
        return temp.remove(name)
    except StoreUnavailable:
        return False


def _unsure(error: StoreUnavailable) -> StoreUnavailable:
    details = error.details | {"outcome": "unknown"}
    return StoreUnavailable(f"{error}; whether the transaction was decided is not known: ask get_outcome", **details)


def _sync_if_possible(folder: Directory) -> None:
    try:
        folder.sync()
    except StoreUnavailable as error:
        if error.details.get("errno") not in ("EROFS", "EINVAL"):
            raise


def read(folder: Directory, name: str) -> DecisionBody | None:
    """A decision; None where it is gone. Raises DocumentDamaged."""
    file = folder.open(name)
    if file is None:
        return None
    data = file.read(file.identity().size, 0)
    header = frame.read_header(data)
    try:
        if header is None or header.type != FrameType.DECISION or header.length != len(data):
            raise Undecodable("it is not a decision")
        if not (frame.fits(header, len(data)) and frame.intact(header, data, 0, 0)):
            raise Undecodable("its checksum does not match")
        body = bodies.read_decision(memoryview(data)[header.body_offset : header.blocks_offset])
        if body.transaction_id != name:
            raise Undecodable(f"it is that of transaction {body.transaction_id}")
    except Undecodable as error:
        raise DocumentDamaged(
            f"{file.name}: a decision over several documents is damaged: {error}; nothing is read or written until "
            "this file is moved away",
            file=file.name,
            offset=0,
        ) from error
    return body


def new_transaction_id() -> str:
    """A random name for a transaction."""
    return os.urandom(16).hex()


def missing_from(log: Log | None, pieces: list[Piece]) -> list[Piece]:
    """Those pieces that a log does not hold yet. Raises DocumentDamaged where it does not reach to one."""
    return [piece for piece in pieces if log is None or log.lacks(piece.file_id, piece.offset, piece.end)]
