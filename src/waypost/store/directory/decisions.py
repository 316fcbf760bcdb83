"""Decisions over several documents: the files in `transactions/` (docs/durability.md, section 4).

A decision holds the bytes of every frame of a commit over several documents, and their places. From the moment its
name is durable the commit has happened: whoever reads lays the frames over the logs that lack them, whoever takes the
lock of such a log writes them there, and the file goes once all logs are synced.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import NamedTuple

from waypost import clock
from waypost.codec import bodies, frame
from waypost.codec.bodies import DecidedFrames, DecisionBody
from waypost.codec.compression import Undecodable
from waypost.codec.frame import FrameType, Place, Standing
from waypost.errors import DocumentDamaged, StoreUnavailable
from waypost.store.directory.files import Directory, File, Identity, locked_too_long
from waypost.store.directory.layout import Layout, file_name, new_file
from waypost.store.directory.log import LOCK_TIMEOUT_S, NOTHING, Frame, Log
from waypost.store.kinds import DocumentId

FOLDER = "transactions"
IMPORT = ".import"
"""How the names of those directories in `temp` end that hold logs which are to arrive."""
_PLACING, _PLACED = ".placing", ".placed"
_NAME = re.compile(r"[0-9a-f]{32}")
_IMPORT_NAME = re.compile(r"[0-9a-f]{16}\.import")
# two changes within one tick of the file system's clock leave the same time; none has a coarser one than this
_TICK_NS = 2_000_000_000


class Whole:
    """The bytes of a log that arrives as a whole, read from the file that it is."""

    __slots__ = ("_length", "file", "folder", "name")

    def __init__(self, folder: Directory, name: str, file: File, length: int) -> None:
        self.folder, self.name, self.file = folder, name, file
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> bytes:
        start, end, _ = part.indices(self._length)
        return self.file.read(max(0, end - start), start)

    def put_in_place(self, folder: Directory, name: str) -> None:
        """Give the log its name, over the file that whoever calls has locked, with the log's lock held as well.

        The first name stays: until the other is durable it may have to be done again.
        """
        placing = f"{self.name}{_PLACING}"
        self.folder.remove(placing)  # left by one who died
        self.folder.link(self.name, self.folder, placing)
        self.folder.move(placing, folder, name)
        self.note_place(folder)

    def note_place(self, folder: Directory) -> None:
        """Say for everybody that the log's name in a folder is there for good, once it is, with the log's lock held.
        Nobody takes that name away or gives it anew then.
        """
        folder.sync()
        self.folder.link(self.name, self.folder, f"{self.name}{_PLACED}")


class Piece(NamedTuple):
    """What one decision says of one document."""

    transaction_id: str
    file_id: int
    offset: int
    frames: bytes | Whole

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


def laid_over(file: File | None, name: str, pieces: list[Piece]) -> File:
    """A file as it will be once what was decided is carried out. A log that arrives is that file, and what others
    have added to it since stands there, too: its place may be lost with the power, and its bytes are not.
    """
    whole = next((piece.frames for piece in pieces if isinstance(piece.frames, Whole)), None)
    if whole is None:
        return Overlaid(file, name, pieces)
    rest = [piece for piece in pieces if piece.frames is not whole]
    return Overlaid(whole.file, name, rest, ends_there=False) if rest else whole.file


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
        """Called whenever decisions are found that are not known to be carried out, nor `left`."""
        self.left: frozenset[str] = frozenset()
        """Those that could not be carried out when that was last tried: they are tried again unasked."""

    def after_fork(self) -> None:
        """In the child: the lock may be held by a thread that is not there, as is the one that tries again."""
        self._lock = Lock()
        self.left = frozenset()

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
        if not pending.keys() <= self.left:
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
        pieces: list[Piece] = []
        for body in self.pending().values():
            for each in body.participants:
                if (each.kind, each.id) == document:
                    frames = self._whole(body, each, document) if each.arriving else each.frames
                    if frames is not None:
                        pieces.append(Piece(body.transaction_id, each.file_id, each.offset, frames))
        return sorted(pieces, key=lambda piece: piece.offset)

    def _whole(self, body: DecisionBody, each: DecidedFrames, document: DocumentId) -> Whole | None:
        """A log that arrives; None where its name is there for good, or the decision is gone by now. Raises
        DocumentDamaged.
        """
        name = file_name(document)
        folder = self._layout.folder("temp").open_directory(body.folder) if is_import(body.folder) else None
        if folder is not None and folder.identity(f"{name}{_PLACED}") is not None:
            return None
        file = None if folder is None else folder.open(name)
        if (
            folder is not None and file is not None and file.identity().size >= each.arriving
        ):  # more, once it has its place
            return Whole(folder, name, file, each.arriving)
        if self._folder is not None and self._folder.identity(body.transaction_id) is None:
            return None
        where = f"{self._layout.path}/temp/{body.folder}/{name}"
        raise DocumentDamaged(f"{where} was decided to be the log of {document.id!r}, and is gone", file=where)

    def folders(self) -> set[str]:
        """The directories in `temp` that decisions name which are not carried out to their end, as of now."""
        with self._lock:
            self._trusted_ns = None
        return {body.folder for body in self.pending().values() if body.folder}

    # --- deciding -----------------------------------------------------------------------------

    def decide(self, transaction_id: str, participants: list[DecidedFrames], folder: str = "") -> None:
        """Write a decision; once this returns, the commit has happened. What arrives stands in that `folder` of `temp`.

        Raises StoreUnavailable; with `outcome: unknown` when it may be that it has.
        """
        self._put(DecisionBody(transaction_id, participants, folder))

    def confirm(self, transaction_id: str) -> bool:
        """Make sure of a decision that another made, before anything rests on it. False where it is gone by now,
        carried out: then all of it is in the logs.

        It is written again, identically: had the sync of its name failed, the kernel would take that for clean, and no
        later sync would cover it.
        """
        if transaction_id in self._confirmed:
            return True
        if self._layout.read_only:
            if self._folder is not None:
                _sync_if_possible(self._folder)
            return True
        body = self._pending.get(transaction_id)
        with self._locked(shared=True) as folder:
            if body is None or folder.identity(transaction_id) is None:
                return False
            self._put(body)
        return True

    @contextmanager
    def _locked(self, *, shared: bool) -> Generator[Directory]:
        """The folder of decisions, locked by those who write them again, or by one who removes some: what was removed
        must not come back, since what it names may be gone. Raises LockTimeout.

        With this lock held nobody waits for that of a document, since whoever has that may wait for this one. Who
        decides does not take it, nor who reads what was confirmed, so that nobody waits for one who was stopped there.
        """
        folder = self._layout.folder(FOLDER).open_directory(".")  # a lock belongs to the opening
        assert folder is not None
        try:
            folder.lock(LOCK_TIMEOUT_S, partial(locked_too_long, folder, LOCK_TIMEOUT_S), shared=shared)
            yield folder
        finally:
            folder.close()

    def _put(self, body: DecisionBody) -> None:
        draft = bodies.decision_draft(body)
        standing = Standing(0, clock.now_us(), 0, NOTHING.checksum, NOTHING.commit_id)
        data, _ = frame.assemble(draft, Place(0, frame.new_file_id(), 0, 0, 0), standing)
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
            if isinstance(piece.frames, Whole):
                continue  # it has its place, or gets it from who begins the log
            if log.lacks(piece.file_id, piece.offset, piece.end):
                if not self.confirm(piece.transaction_id):
                    continue  # it goes once this log holds it, so a repair has moved it away
                log.file_id = piece.file_id
                log.put(piece.frames[log.end - piece.offset :], size)
                news += log.news()
                if log.end != piece.end:
                    raise log.damage(log.end, f"what transaction {piece.transaction_id} decided is no row of frames")
                log.decided = log.end
        return news

    def place(self, document: DocumentId, log: Log, *, wait: bool = True) -> bool:
        """Put a log that was decided to arrive in the place of an empty one whose lock is held; whether there was one.
        Then the name stands for another file. Raises LockTimeout.
        """
        for piece in self.pieces_for(document):
            if isinstance(piece.frames, Whole):
                if self.confirm(piece.transaction_id):
                    self._place(piece.frames, log, LOCK_TIMEOUT_S if wait else 0)
                return True
        return False

    def _place(self, whole: Whole, log: Log, timeout_s: float) -> None:
        # who finds the name before it is durable is neither to write there nor to put another file there
        try:  # an interrupt can come right behind the lock
            whole.file.lock(timeout_s, partial(locked_too_long, whole.file, timeout_s))
            if log.is_current():  # else another had the lock, and has put it there
                whole.put_in_place(log.folder, log.name)
        finally:
            whole.file.unlock()

    def place_for_good(self, document: DocumentId, log: Log) -> None:
        """Make sure of the name of a log that has arrived, with its lock held, before its decision goes.

        Who gave it that name may have failed to make it durable, and no later sync would cover that: it is given anew.
        In between the log has the name by which it was decided on alone. That is there as long as the decision, which
        nobody removes before he has seen, with this lock held, that the name is there for good.
        """
        for piece in self.pieces_for(document):
            whole = piece.frames
            if not isinstance(whole, Whole) or not self._stands(piece.transaction_id):
                continue
            if log.folder.identity(log.name) == whole.file.identity():
                log.folder.remove(log.name)
                whole.put_in_place(log.folder, log.name)
            else:  # it was written anew since
                whole.note_place(log.folder)

    def _stands(self, transaction_id: str) -> bool:
        """Whether a decision is there still: where it is not, what says of its logs that they have their places may be
        going, and each of them has.
        """
        return self._layout.folder(FOLDER).identity(transaction_id) is not None

    def remove(self, transaction_id: str, arrived_in: str = "") -> None:
        """Forget a decision that was carried out. Were the removal lost, it would be carried out again, which changes
        nothing; so it is made durable only before the logs go that it let arrive.
        """
        folder = self._layout.folder(FOLDER)
        with self._locked(shared=False):
            folder.remove(transaction_id)
        self._confirmed.discard(transaction_id)
        if arrived_in:
            self.remove_arrived(arrived_in)

    def remove_arrived(self, folder: str) -> None:
        """Remove a directory of logs that no decision names any more, once that is durable: one that came back would
        name what is gone. Who removed the decision may have died before that.
        """
        self._layout.folder(FOLDER).sync()
        remove_folder(self._layout.folder("temp"), folder)


def is_import(name: str) -> bool:
    """Whether a directory of that name in `temp` can hold what is to arrive: a damaged decision leads nowhere else."""
    return _IMPORT_NAME.fullmatch(name) is not None


def remove_folder(temp: Directory, name: str) -> None:
    """Remove a directory that held what was to arrive."""
    folder = temp.open_directory(name)
    for each in folder.names() if folder else []:
        if folder:
            folder.remove(each)
    temp.remove_directory(name)


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


def read(folder: Directory, name: str, transaction_id: str | None = None) -> DecisionBody | None:
    """A decision; None where it is gone. Its name is that of its transaction, unless that is given. Raises
    DocumentDamaged.
    """
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
        if body.transaction_id != (transaction_id or name):
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


def may_be_missing_from(log: Log | None, pieces: list[Piece]) -> bool:
    """Whether a log may lack some of these pieces, as far as it was read; others may have added to it since."""
    return any(
        log is None or (log.end < piece.end and (log.end == 0 or log.file_id == piece.file_id)) for piece in pieces
    )
