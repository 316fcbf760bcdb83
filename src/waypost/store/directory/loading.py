"""From a file to a state: which snapshot to start from, and which frames to take in behind it.

Reading starts at the end of the file, so that it costs what was committed since the last snapshot and not what
was ever committed. When anything there is not as it should be, the log is read from its start instead, and what is
wrong is judged: a torn tail is passed over, damage is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from waypost import clock
from waypost.codec import frame
from waypost.codec.bodies import FileBody
from waypost.codec.frame import FORMAT_VERSION, FrameType
from waypost.errors import DocumentDamaged, UnsupportedFormat
from waypost.store.directory.blocks import BlockCache, Blocks
from waypost.store.directory.context import Context
from waypost.store.directory.decisions import Piece
from waypost.store.directory.frames import is_blank
from waypost.store.directory.layout import file_name
from waypost.store.directory.log import LACKS_BASE, Frame, Log
from waypost.store.directory.state import DocumentState, DocumentView, Snapshot
from waypost.store.kinds import DocumentId

_WINDOW = 64 * 1024
_NEAR_BYTES = 512 * 1024


def first_body(document: DocumentId, generation: int = 0, dropped: bytes = b"") -> FileBody:
    """What the first frame of a log says."""
    return FileBody(FORMAT_VERSION, document.kind, document.id, generation, clock.now_us(), dropped)


def load(
    context: Context, document: DocumentId, *, decided: list[Piece] | None = None
) -> tuple[Log | None, DocumentState]:
    """The log and the newest state of a document; (None, the empty state) when there is no file.

    What is `decided` counts as written. Raises DocumentDamaged, UnsupportedFormat, StoreUnavailable.
    """
    folder = context.layout.readable(document.kind)
    log = None if folder is None else context.open_log(folder, file_name(document), write=False, decided=decided)
    if log is None:
        return None, empty_state(document)
    return log, read(log, context, document)


def empty_state(document: DocumentId) -> DocumentState:
    """The state of a document that was never written."""
    return DocumentState(document, Snapshot(_NO_BLOCKS))


class _NoBlocks(Blocks):
    """Blocks of a document that has none."""

    def __init__(self) -> None:
        self.file_id = 0


_NO_BLOCKS = _NoBlocks()


class Reading(Protocol):
    """What it takes to read blocks."""

    @property
    def cache(self) -> BlockCache: ...
    @property
    def verify(self) -> bool: ...


def blocks_of(log: Log, context: Reading) -> Blocks:
    return Blocks(log.file, log.file_id, context.cache, context.verify)


def read(log: Log, context: Context, document: DocumentId, *, up_to: int | None = None) -> DocumentState:
    """The newest state in an open log, or in its first `up_to` bytes. The log remembers where its last valid frame
    ends.
    """
    size = log.file.identity().size if up_to is None else up_to
    first = log.first(size)
    if first is None:
        _check_it_is_a_beginning(log, size)
        return empty_state(document)
    _check_it_is(document, log)
    blocks = blocks_of(log, context)
    last = last_frame(log, size)
    if last is not None:
        log.recorded_synced = last.header.synced
        state = _read_from_snapshot(log, document, blocks, last, size)
        if state is not None:
            return state
    return _read_from_start(log, document, blocks, first, last, size)


def _check_it_is_a_beginning(log: Log, size: int) -> None:
    """A file without a first frame is one whose making was cut short; anything else is refused."""
    if log.tail(size).damaged:
        raise log.damage(0, "its first frame is not whole")
    head = log.file.read(8, 0)
    if frame.is_newer(head):
        raise UnsupportedFormat(f"{log.file.name} is written in a newer format ({head[3]})", file=log.file.name)
    # what a file grew by before its bytes were written may hold zeros, or ones
    if any(byte not in (magic, 0x00, 0xFF) for byte, magic in zip(head, frame.MAGIC, strict=False)):
        raise UnsupportedFormat(f"{log.file.name} is not a waypost log", file=log.file.name)


def _check_it_is(document: DocumentId, log: Log) -> None:
    body = log.body
    if body is not None and (body.kind, body.id) != document:
        raise DocumentDamaged(
            f"{log.file.name} holds {body.kind} {body.id!r}, not {document.kind} {document.id!r}: was it renamed?",
            file=log.file.name,
            offset=0,
        )


def _snapshot_at(log: Log, blocks: Blocks, offset: int, size: int) -> Snapshot | None:
    found = log.frame_at(offset, size)
    if found is None or found.header.type != FrameType.SNAPSHOT:
        return None
    return Snapshot(blocks, found)  # its blocks are checked by who follows the row from `resume` on, as it stands in it


def _read_from_snapshot(log: Log, document: DocumentId, blocks: Blocks, last: Frame, size: int) -> DocumentState | None:
    """The state by the snapshot that the last frame names; None when the row from there to it is broken."""
    base = last.header.base
    if base == 0:
        return None
    snapshot = _snapshot_at(log, blocks, base, size)
    if snapshot is None or not _row_is_whole(log, base, size):
        return None
    state = DocumentState(document, snapshot)
    log.base = base
    _follow(log, state, log.hop(snapshot.body.resume, snapshot.body.resume_link, size))
    return state if log.end >= last.end else None


def _row_is_whole(log: Log, base: int, size: int) -> bool:
    """Whether all frames before a snapshot are there. It may have reached the medium before the commits that it holds,
    when they were synced no sooner than it was, and must not stand in for them.
    """
    offset = log.recorded_synced
    first = log.frame_at(offset, size) if offset < base else None
    if first is not None:
        for found in log.hop(offset, first.header.link, size):
            offset = found.end
            if offset >= base:
                break
    return offset >= base


def restand(log: Log, document: DocumentId, context: Context) -> DocumentState:
    """The state at the log's end, on the newest snapshot that was seen in it.

    Raises DocumentDamaged when that snapshot, or what stands behind it, cannot be read.
    """
    found = log.frame_at(log.base, log.end)
    if found is None:
        raise log.damage(log.base, "a snapshot that was whole is so no more")
    state = DocumentState(document, Snapshot(blocks_of(log, context), found))
    for each in log.row(state.base.body.resume, state.base.body.resume_link, log.end):
        if each.header.version > state.standing.version:
            state.follow(each)
    return state


def _follow(log: Log, state: DocumentState, frames: Iterator[Frame]) -> None:
    for found in frames:
        log.take_note(found)
        if found.header.version > state.standing.version:  # those before stand in the snapshot
            state.follow(found)


def _read_from_start(
    log: Log, document: DocumentId, blocks: Blocks, first: Frame, last: Frame | None, size: int
) -> DocumentState:
    log.base = 0
    log.take_note(first)
    state = DocumentState(document, Snapshot(blocks))
    for found in log.hop(first.end, first.header.checksum, size):
        log.take_note(found)
        if found.header.type == FrameType.SNAPSHOT and state.standing.version == 0:
            state = DocumentState(document, Snapshot(blocks, found))  # what stands before it was dropped
        else:
            state.follow(found)
    if log.recorded_synced > log.end or (last is not None and last.end > log.end and log.tail(size).damaged):
        raise log.damage(log.end, "a frame that was synced is not whole")
    if state.standing.version < log.dropped_versions:
        raise log.damage(log.end, LACKS_BASE)
    return state


def reopen_for_writing(context: Context, document: DocumentId, known: Log | None) -> Log:
    """The same log, open for writing; what was known of it stays known when it is still the same file."""
    folder = context.layout.documents(document.kind)
    log = context.open_log(folder, file_name(document), write=True)
    assert log is not None
    if known is not None and known.file.identity()[:2] == log.file.identity()[:2]:
        known.file, log.file = log.file, known.file
        known.writable = True
        return known
    return log


def read_on(log: Log, state: DocumentState, version: int) -> DocumentView | None:
    """A version that stands on the snapshot of a state; None where the log does not reach so far. Raises
    DocumentDamaged.
    """
    earlier = DocumentState(state.document, state.base)
    for found in log.row(state.base.body.resume, state.base.body.resume_link, log.end):
        if earlier.standing.version == version:
            break
        if found.header.version > earlier.standing.version:
            earlier.follow(found)
    return earlier.view() if earlier.standing.version == version else None


def read_from_before(log: Log, state: DocumentState, context: Reading, lacking: str) -> DocumentState | None:
    """The same state as it stands on the snapshot before its own, so that it knows what the commits between them did;
    None where there is none, or it has the part `lacking`, or is so far back that other ways are shorter, or damaged.
    """
    own = state.base.frame
    before = None if own is None else last_frame(log, own.offset)
    if own is None or before is None:
        return None
    snapshot = _snapshot_at(log, blocks_of(log, context), before.header.base, own.offset)
    if snapshot is None or log.end - own.header.length - snapshot.body.resume - snapshot.length > _NEAR_BYTES:
        return None
    # no load asks for its blocks any more, so nobody else would have found out that they are damaged
    if not _are_blocks_whole(log, snapshot) or snapshot.get(lacking) is not None:
        return None
    found = DocumentState(state.document, snapshot)
    for each in log.hop(snapshot.body.resume, snapshot.body.resume_link, log.end):
        if each.header.version > found.standing.version:
            found.follow(each)
    return found if found.standing == state.standing else None


def _are_blocks_whole(log: Log, snapshot: Snapshot) -> bool:
    return snapshot.frame is not None and log.blocks_whole(snapshot.frame, thorough=True)


def load_at(
    context: Context, document: DocumentId, version: int, *, decided: list[Piece] | None = None
) -> DocumentView | None:
    """The document as it was at a version; None where its history does not reach back to it. Raises
    DocumentDamaged.
    """
    return next(versions(context, document, [version], decided=decided), None)


def versions(
    context: Context, document: DocumentId, wanted: Iterable[int], *, decided: list[Piece] | None = None
) -> Iterator[DocumentView]:
    """The document as it was at versions, given in rising order, in one reading of its log; those that history does
    not reach back to are left out. Each can be compared with the one given before it by what the commits between them
    touched, unless these are many. Raises DocumentDamaged behind those that stand before the damage.
    """
    folder = context.layout.readable(document.kind)
    reader = None if folder is None else context.open_log(folder, file_name(document), write=False, decided=decided)
    size = 0 if reader is None else reader.file.identity().size
    first = None if reader is None else reader.first(size)
    if reader is None:
        return
    if first is None:
        read(reader, context, document)  # which refuses it, unless it is one whose making was cut short
        return
    blocks = blocks_of(reader, context)
    state = DocumentState(document, Snapshot(blocks))
    asked = iter(wanted)
    sought = next(asked, -1)
    last: DocumentView | None = None
    for found in history(reader, first, size):
        header = found.header
        if header.type == FrameType.SNAPSHOT and state.standing.version <= header.version:
            state = DocumentState(document, Snapshot(blocks, found))
        elif header.version > state.standing.version:
            state.follow(found)
        while 0 <= sought <= state.standing.version:
            if sought == state.standing.version and sought:
                last = _behind(last, state)
                yield last
            sought = next(asked, -1)
        if sought < 0:
            return
    if state.standing.version < reader.dropped_versions:
        raise reader.damage(reader.end, LACKS_BASE)


def last_frame(log: Log, size: int) -> Frame | None:
    """The last intact frame of the file, searched backwards from its end."""
    end = size
    while end > 0:
        start = max(0, end - _WINDOW)
        data = log.file.read(end - start, start)
        if not is_blank(data):
            # a header may begin in this window and end in the next
            data += log.file.read(frame.HEADER_BYTES, end)
            at = data.rfind(frame.MAGIC, 0, end - start + len(frame.MAGIC) - 1)
            while at >= 0:
                found = log.frame_at(start + at, size)
                if found is not None:
                    return found
                at = data.rfind(frame.MAGIC, 0, at + len(frame.MAGIC) - 1)
        end = start
    return None


def history(log: Log, first: Frame, size: int) -> Iterator[Frame]:
    """The frames of a log that was just opened behind its first one. Raises DocumentDamaged where one that was synced
    is not whole.
    """
    last = last_frame(log, size)
    log.take_note(first)
    log.recorded_synced = 0 if last is None else last.header.synced
    while True:
        for found in log.hop(log.end, log.link, size):
            log.take_note(found)
            yield found
        if not log.tail(size).damaged:
            return
        news = log.news(size)  # what was being written when it was looked at may be known to be synced by now
        if not news:
            raise log.damage(log.end, "a frame that was synced is not whole")
        yield from news


def _behind(last: DocumentView | None, state: DocumentState) -> DocumentView:
    view = state.view()
    touched = None if last is None or last is view else state.touched_since(last.version)
    if last is not None and touched is not None:
        last.note_next(view, touched)
    return view
