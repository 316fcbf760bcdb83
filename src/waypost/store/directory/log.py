"""One log: finding its end, checking its frames, and putting new ones behind them.

`Log` knows frames and places, not parts. What it has checked it remembers: where the valid frames
end, the checksum that the next one links to, how far the file is known to be synced *in this boot by
this process*. It never trusts that memory against the file: under the lock it looks whether the name still
stands for the same file and what others have added since.

Not thread-safe by itself: whoever uses a log holds the lock of its document. Only `sync_to` may be called
without, since syncs must not stop others from appending.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial

from waypost.codec import frame
from waypost.codec.bodies import FileBody, read_file
from waypost.codec.compression import Undecodable
from waypost.codec.frame import Draft, FrameType, Place, Standing
from waypost.errors import (
    DocumentDamaged,
    DocumentTooLarge,
    StorePoisoned,
    StoreUnavailable,
    UnsupportedFormat,
)
from waypost.store import parts
from waypost.store.directory import statx
from waypost.store.directory.files import Directory, File, Identity, locked_too_long
from waypost.store.directory.frames import Frame, Tail, is_blank

_LOG = logging.getLogger("waypost")
_WINDOW = 64 * 1024
_PEEK = 4096
_PIECE = 1024 * 1024
_FILL_LEAST, _FILL_MOST = 64 * 1024, 1024 * 1024
# said of media that cannot be written to, where a reader has nothing to wait for
_NOTHING_TO_SYNC = ("EROFS", "EINVAL")
LOCK_TIMEOUT_S = 10.0
LACKS_BASE = "the snapshot that stands for the dropped versions is missing"
NOTHING = Standing(0, 0, 0, parts.EMPTY_CHECKSUM, parts.NO_COMMIT)


class Log:
    """An open log and what is known about it. Offsets are bytes from the start of the file.

    `limit` bounds what is appended (what is there is read whatever its length); `prewrite` says to fill ahead;
    `keep(name, offset, pieces)` keeps a torn tail.
    """

    def __init__(
        self,
        folder: Directory,
        name: str,
        file: File,
        *,
        limit: int,
        prewrite: bool,
        keep: Callable[[str, int, Iterable[bytes]], None],
    ) -> None:
        self.folder = folder
        self.name = name
        self.file = file
        self.writable = False
        self.thorough = False
        self.limit = limit
        self._keep = keep
        self._prewrite = prewrite
        self.end = 0
        self.data_end = 0
        """Where the last frame ends that is not a seal: what a reader must know to be synced."""
        self.link = 0
        self.file_id = 0
        self.body: FileBody | None = None
        self.base = 0
        self.history_start: int | None = None
        """Where its commits begin, once that was looked for; see `compaction.history_start`."""
        self.last_type: int | None = None
        self.ahead_bytes = 0
        """What this process has written ahead of commits that are not made yet, or never will be."""
        self.ahead_us = 0
        """When anyone last wrote something ahead."""
        self.recorded_synced = 0
        self.synced = 0
        self.decided = 0
        """Up to where this process has written what a decision holds: that is durable there, be it here or not."""
        self.poisoned: str | None = None
        self._sync_lock = threading.Lock()
        self._ready_to_append = False
        self._named = False

    # --- reading ------------------------------------------------------------------------------

    def frame_at(self, offset: int, size: int, window: bytes = b"", window_at: int = 0) -> Frame | None:
        """The frame at an offset when it is intact in itself (its link and version are not looked at).

        `window` may hold bytes of the file from `window_at` on, to save a read.
        """
        at = offset - window_at
        if not 0 <= at <= len(window) - frame.HEADER_BYTES:
            window, at = self.file.read(_PEEK, offset), 0
        header = frame.read_header(window, at)
        if header is None or not frame.fits(header, size - offset):
            return None
        if self.file_id and header.file_id != self.file_id:
            return None
        if len(window) - at < header.blocks_offset:
            window, at = self.file.read(header.blocks_offset, offset), 0
        if not frame.intact(header, window, at, offset):
            return None
        if not frame.is_known(header):
            raise self.newer(offset, f"a frame of type {header.type}")
        return Frame(header, offset, window[at : at + header.blocks_offset])

    def hop(self, offset: int, link: int, size: int) -> Iterator[Frame]:
        """The valid frames from an offset on, each linked to the one before it."""
        window, window_at, ahead = b"", offset, _PEEK
        while True:
            if offset + frame.HEADER_BYTES > window_at + len(window):
                # what others have just added is a few frames, with fill behind them
                window, window_at = self.file.read(min(ahead, max(0, size - offset)), offset), offset
                ahead = min(4 * ahead, _WINDOW)
            found = self.frame_at(offset, size, window, window_at)
            if found is None or found.header.link != link or not self.blocks_whole(found):
                head = window[offset - window_at :][: len(frame.MAGIC)]
                if frame.is_newer(head) and self.despite_magic(offset, size):
                    raise self.damage(offset, f"a frame that is whole says that it is of format {head[3]}")
                return
            yield found
            offset, link = found.end, found.header.checksum

    def row(self, offset: int, link: int, end: int) -> Iterator[Frame]:
        """As `hop`, up to an end to which all frames were whole. Raises DocumentDamaged where one is so no more."""
        for found in self.hop(offset, link, end):
            yield found
            offset = found.end
        if offset < end:
            raise self.damage(offset, "a frame that was whole is so no more")

    def despite_magic(self, offset: int, size: int) -> Frame | None:
        """The frame at an offset that is ours, and says that it is of a later format: no checksum covers the magic.

        Raises UnsupportedFormat for one that is: what cannot be checked here is neither passed over nor cleared.
        """
        head = self.file.read(frame.HEADER_BYTES, offset)
        if not frame.is_newer(head):
            return None
        found = self.frame_at(offset, size, frame.MAGIC + head[len(frame.MAGIC) :], offset)
        if found is None:
            raise self.newer(offset, f"a frame of format {head[3]}")
        return found

    def blocks_whole(self, found: Frame, *, thorough: bool = False) -> bool:
        """Whether a frame's blocks hold what its table says; where a sync is on record that is only asked when
        `thorough`, since blocks are checked again when they are read.
        """
        header, thorough = found.header, thorough or self.thorough
        if header.length == header.blocks_offset or (found.end <= self.recorded_synced and not thorough):
            return True
        try:
            _, table = found.content()
        except Undecodable:
            return False
        end = found.blocks_at
        for block in table:
            if block.offset < found.blocks_at:
                continue  # written ahead: it was checked with the frame that it stands in
            end += block.stored
            stored = self.file.read(block.stored, block.offset) if end <= found.end else b""
            if len(stored) != block.stored or frame.block_checksum(stored) != block.checksum:
                return False
        return end == found.end

    def first(self, size: int) -> Frame | None:
        """The file frame, with what it says noted; None when the log has none that is valid."""
        self.file_id = 0
        found = self.frame_at(0, size)
        if found is None or found.header.type != FrameType.FILE or found.header.link != 0:
            return None
        self.file_id = found.header.file_id
        try:
            self.body = read_file(bytes(found.content()[0]))
        except Undecodable as error:
            raise self.damage(0, f"its first frame cannot be read: {error}") from error
        return found

    @property
    def dropped_versions(self) -> int:
        """How many versions compactions have dropped. They were durable, so a log that stands at an earlier one has
        lost the snapshot that takes their place.
        """
        return 0 if self.body is None else len(self.body.dropped) // len(parts.NO_COMMIT)

    def take_note(self, found: Frame) -> None:
        """Remember a checked frame as the last one."""
        header = found.header
        self.end, self.link, self.last_type = found.end, header.checksum, header.type
        self.recorded_synced = max(self.recorded_synced, header.synced)
        if header.type != FrameType.SEAL:
            self.data_end = found.end
        if header.type == FrameType.SNAPSHOT:
            self.base = found.offset
        if header.type == FrameType.DATA:
            self.ahead_us = max(self.ahead_us, header.time_us)

    def tail(self, size: int) -> Tail:
        """What stands behind the log end, judged by whether a later valid frame knew it to be synced."""
        offset, torn, damaged, end = self.end, 0, self.recorded_synced > self.end, self.end
        while offset < size:
            data = self.file.read(_WINDOW, offset)
            if not data:
                break
            if not is_blank(data):
                torn += len(data) - data.count(0)
                end = offset + len(data.rstrip(b"\0"))
                damaged = damaged or self._synced_behind(data, offset, size)
            offset += len(data)
        return Tail(torn, damaged, end)

    def _synced_behind(self, data: bytes, data_at: int, size: int) -> bool:
        at = data.find(frame.MAGIC[:1])
        data += self.file.read(frame.HEADER_BYTES, data_at + len(data))
        at = data.find(frame.MAGIC)
        while at >= 0:
            found = self.frame_at(data_at + at, size)
            if found is not None and found.header.synced > self.end:
                return True
            at = data.find(frame.MAGIC, at + 1)
        return False

    def too_large(self, length: int) -> DocumentTooLarge:
        return DocumentTooLarge(
            f"{self.file.name}: {length:,} bytes are more than performance.max_file_size allows ({self.limit:,})",
            file=self.file.name,
            limit_bytes=self.limit,
        )

    def damage(self, offset: int, why: str) -> DocumentDamaged:
        return DocumentDamaged(
            f"{self.file.name}: damaged at byte {offset}: {why}; nothing was changed "
            "(waypost verify shows all of it, waypost store repair keeps what is whole)",
            file=self.file.name,
            offset=offset,
            reason=why,
        )

    def lacks(self, file_id: int, offset: int, end: int) -> bool:
        """Whether frames that were decided for that place of that file are still to be written, or some of them: of a
        new log a crash may have left the first frame alone.

        They are not in another file either: a log is compacted only after they were written. Raises DocumentDamaged
        when the log does not reach to the place.
        """
        if self.end == 0 or self.file_id == file_id:
            if self.end < offset:
                raise self.damage(
                    self.end, f"a transaction was decided whose frame stands at {offset}, and nothing here"
                )
            return self.end < end
        return False

    def newer(self, offset: int, what: str) -> UnsupportedFormat:
        return UnsupportedFormat(
            f"{self.file.name}: byte {offset} begins {what} of a newer release of waypost; nothing was changed",
            file=self.file.name,
            offset=offset,
        )

    def news(self, size: int | None = None) -> list[Frame]:
        """The frames that others added since the last look, checked; they are noted as read.

        A frame that is just being written is not there yet.
        """
        if self.end_is_blank():
            return []
        found: list[Frame] = []
        for each in self.hop(self.end, self.link, self.file.identity().size if size is None else size):
            self.take_note(each)
            found.append(each)
        return found

    def end_is_blank(self) -> bool:
        """Whether nothing, or fill, stands where the next frame would begin."""
        return not self.file.read(frame.HEADER_BYTES, self.end).strip(b"\0")

    @property
    def may_hold_lost_pages(self) -> bool:
        """Whether the sync of another process may have failed for what stands here: then ours would cover nothing."""
        return not self._ready_to_append

    def settled_news(self, size: int) -> list[Frame]:
        """As `news`, with the lock held: what is left behind the end then is nobody's, and is cleared.

        Raises DocumentDamaged when a frame there was recorded as synced.
        """
        if self._ready_to_append and self.end_is_blank():
            return []
        found = self.news(size)
        if not self._ready_to_append:
            self._prepare_to_append(size)
        elif not self.end_is_blank():
            self._clear_tail(size)
        return found

    # --- locks --------------------------------------------------------------------------------

    def lock(self, *, wait: bool = True) -> Identity | None:
        """Take the lock; the identity of the file, or None when it is not the file that is known: its name stands for
        another by now, or it is shorter than it was.
        """
        if self.file.descriptor < 0:
            return None
        statx.load()
        self.file.lock(LOCK_TIMEOUT_S if wait else 0, partial(locked_too_long, self.file, LOCK_TIMEOUT_S))
        try:
            named = self.folder.identity(self.name)
            here = self.file.identity()
        except BaseException:
            self.file.unlock()
            raise
        if named is None or named[:2] != here[:2] or here.size < self.end:
            self.file.unlock()
            return None
        return here

    def is_current(self) -> bool:
        """Whether the name still stands for the open file."""
        named = self.folder.identity(self.name)
        return named is not None and named[:2] == self.file.identity()[:2]

    # --- appending (with the lock held) -------------------------------------------------------

    def begin(self, body: FileBody, size: int) -> None:
        """Start a log that has no first frame yet, with the lock held; what a making cut short left is moved aside."""
        self._clear_tail(size)
        self.file_id, self.body = frame.new_file_id(), body
        self._ready_to_append = True

    def _prepare_to_append(self, size: int) -> None:
        """Once for each opened log, with the lock held: clear what is behind its end, and make sure of what is before
        it.

        Bytes that no recorded sync covers are written again, identically: had their own sync failed, the
        kernel would take them for clean, and no later sync would cover them.
        """
        self._clear_tail(size)
        start = min(self.recorded_synced, self.end)
        for offset, data in self._pieces(start, self.end):
            self.file.write_all(data, offset)
        self._ready_to_append = True

    def _clear_tail(self, size: int) -> None:
        """Move what a dead writer left behind the log end aside, and put zeros in its place, durably."""
        tail = self.tail(size)
        if tail.damaged:
            raise self.damage(self.end, "a frame that was synced is no longer whole")
        if tail.torn_bytes:
            self._set_aside(tail.end)

    def _pieces(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """What stands there, with its offsets, a piece at a time: it may be more than fits into memory."""
        for offset in range(start, end, _PIECE):
            yield offset, self.file.read(min(_PIECE, end - offset), offset)

    def _set_aside(self, end: int) -> None:
        said = "%s: %d bytes behind byte %d were never acknowledged and are moved aside"
        _LOG.warning(said, self.file.name, end - self.end, self.end)
        self._keep(self.name, self.end, (data for _, data in self._pieces(self.end, end)))
        for offset, data in self._pieces(self.end, end):
            self.file.write_all(bytes(len(data)), offset)
        self._sync_at_once()

    def append(self, drafts: list[tuple[Draft, Standing]], size: int) -> list[Frame]:
        """Write frames behind the log end; see `put`."""
        frames, data = self.compose(drafts)
        self.put(data, size)
        for each in frames:
            self.take_note(each)
        return frames

    def compose(self, drafts: list[tuple[Draft, Standing]]) -> tuple[list[Frame], bytes]:
        """Frames as they will stand behind the log end, and all their bytes."""
        frames: list[Frame] = []
        pieces: list[bytes] = []
        offset, link, base, synced = self.end, self.link, self.base, self.known_synced
        for draft, standing in drafts:
            if draft.type == FrameType.SNAPSHOT:
                base = offset
            data, header = frame.assemble(draft, Place(offset, self.file_id, link, synced, base), standing)
            frames.append(Frame(header, offset, data))
            pieces.append(data)
            offset, link = offset + len(data), header.checksum
        return frames, b"".join(pieces) if len(pieces) > 1 else pieces[0]

    @property
    def known_synced(self) -> int:
        """How far the log is known to be synced: by this process, or by what frames record."""
        return max(self.synced, self.recorded_synced)

    @property
    def known_durable(self) -> int:
        """The same, or by a decision that holds the bytes."""
        return max(self.known_synced, self.decided)

    def put(self, data: bytes, size: int) -> None:
        """Write behind the log end with one positioned write, and zeros ahead when it reaches the end of the file.

        On any failure the file is cut back to the frames that are whole, or poisoned when that fails too; where a
        commit may be among them, the error says that the outcome is unknown.
        """
        end = self.end + len(data)
        if end > size and self._prewrite and len(data) < _FILL_MOST:
            fill = min(_FILL_MOST, max(_FILL_LEAST, size // 2))
            with suppress(StoreUnavailable):  # there may be room for the frames alone
                if self.file.write(data + bytes(fill - end % _PEEK), self.end) >= len(data):
                    return
        try:
            self.file.write_all(data, self.end)
        except StoreUnavailable as error:
            # an interrupt leaves what was written: others may have read it by now
            if self._cut_back(end):
                error.details["outcome"] = "unknown"
            raise

    def _cut_back(self, end: int) -> bool:
        """Undo a write that came short, durably, before anything else is appended; whether a commit of it stays.

        A frame that is whole is not taken away: others may have read it by now, and go on from it.
        """
        stays = True
        try:
            whole = list(self.hop(self.end, self.link, min(end, self.file.identity().size)))
            stays = any(found.header.type == FrameType.COMMIT for found in whole)
            self.file.truncate(whole[-1].end if whole else self.end)
            self._sync_at_once()
        except StoreUnavailable as error:
            self.poison(f"a write came short and could not be undone: {error}")
        return stays

    def trim(self) -> None:
        """Give back the zeros behind the log end (with the lock held)."""
        self.file.truncate(self.end)

    # --- syncing (without the lock) -----------------------------------------------------------

    def _sync_at_once(self) -> None:
        """Sync what is no commit. It waits its turn too, and when it fails, so has the sync of all who wait: the kernel
        tells of a page that it could not write once for each open file, and takes it for written from then on.
        """
        with self._sync_lock:
            self.check_poison()
            try:
                self.file.sync()
            except StoreUnavailable as error:
                self.poison(str(error))
                raise

    def sync_to(self, offset: int) -> int:
        """Return once everything up to an offset is synced; how many syncs that took (0 or 1).

        Syncs of one file follow one another, and one that began after a frame was written covers it, so
        a caller that waited its turn often finds its work done.
        """
        if self.known_synced >= offset and self.poisoned is None:
            return 0
        with self._sync_lock:
            self.check_poison()
            if self.known_synced >= offset:
                return 0
            mark = self.end
            try:
                self.file.sync()
                if not self._named:
                    # whoever made the file, or put it in another's place, may not have come to it yet, or died before
                    self.folder.sync()
                    self._named = True
            except StoreUnavailable as error:
                if self.writable or error.details.get("errno") not in _NOTHING_TO_SYNC:
                    self.poison(str(error))
                    self.check_poison()
            self.synced = max(self.synced, mark)
            return 1

    def poison(self, why: str) -> None:
        self.poisoned = why
        _LOG.error("%s: %s; nothing more is written to it until it is reopened", self.file.name, why)

    def check_poison(self) -> None:
        if self.poisoned is not None:
            raise StorePoisoned(
                f"{self.file.name}: {self.poisoned}; whether the last commits are on disk is not known: "
                "close the store, open it again, and ask get_outcome",
                file=self.file.name,
                outcome="unknown",
            )
