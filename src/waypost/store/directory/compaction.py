"""Compaction: a log written again without what is no longer needed, in place of the old one.

What goes: snapshots that a newer one supersedes, and history beyond its bounds (half of the file's limit, 30 days);
of versions that go, the commit ids stay. The new file is written beside the store's life, without a lock; then, with
the old file locked, what was appended meanwhile is carried over, the new file is synced and takes the old
one's name. A crash at any point leaves one of the two whole. The new file is locked from its making on, so nobody can
append to it before the switch is durable.
"""

from __future__ import annotations

from typing import NamedTuple

from waypost import clock
from waypost.codec import bodies, frame
from waypost.codec.bodies import Extent, Part, SnapshotBody
from waypost.codec.compression import Compressor
from waypost.codec.frame import Draft, FrameType, Place, Standing
from waypost.errors import DocumentTooLarge
from waypost.store.contract import OperationRecord
from waypost.store.directory import snapshots
from waypost.store.directory.context import Context
from waypost.store.directory.files import File
from waypost.store.directory.log import NOTHING, Frame, Log, new_file_id
from waypost.store.directory.state import DocumentView, Mark, Snapshot

HISTORY_US = 30 * 24 * 3600 * 1_000_000
_SEEN_BYTES = 32
_SLACK_BYTES = 64 * 1024


class Origin(NamedTuple):
    """What of the old log is rewritten: its newest version, where it ended then, and what it remembers."""

    log: Log
    view: DocumentView
    end: int
    link: int
    base: Snapshot
    operations: list[OperationRecord]
    mark: Mark


class History(NamedTuple):
    """Which commits are kept: those behind version `cut`; the ids of the others."""

    cut: int
    dropped: bytes
    kept: list[Frame]


class Rewriter:
    """Writes frames one behind the other into a new file. All of it is durable before anyone sees it, so each
    frame records everything before it as synced.
    """

    def __init__(self, file: File, file_id: int, limit: int) -> None:
        self.file = file
        self.file_id = file_id
        self.end = 0
        self.link = 0
        self.base = 0
        self.shortened = False
        """Whether history went that the old file still had."""
        self._limit = limit
        self._moved: list[tuple[int, int, int]] = []

    def put(self, draft: Draft, standing: Standing) -> int:
        """Append a frame; where its blocks begin."""
        if self.end + draft.length > self._limit:
            raise DocumentTooLarge(f"{self.file.name}: what must be kept exceeds {self._limit:,} bytes")
        if draft.type == FrameType.SNAPSHOT:
            self.base = self.end
        place = Place(self.end, self.file_id, self.link, self.end, self.base)
        data, header = frame.assemble(draft, place, standing)
        self.link = header.checksum
        self.file.write_all(data, self.end)
        self.end += len(data)
        return self.end - sum(map(len, draft.blocks))

    def copy(self, log: Log, found: Frame) -> None:
        """Append a frame of the old log with its content as it is."""
        header = found.header
        blocks: list[bytes] = []
        if header.length > header.blocks_offset:
            blocks = [log.file.read(header.length - header.blocks_offset, found.blocks_at)]
        body = found.data[header.body_offset : header.blocks_offset]
        touched = frame.touched_parts(header, found.data)
        draft = Draft(FrameType(header.type), header.codec, body, header.raw, touched, blocks)
        at = self.put(draft, found.standing)
        if blocks:
            self._moved.append((found.blocks_at, found.end, at))

    def note_move(self, start: int, end: int, at: int) -> None:
        """Blocks that stood from `start` to `end` in the old file stand at `at` in this one."""
        self._moved.append((start, end, at))

    def moved(self, part: Part) -> Part:
        """The part as it stands in this file."""
        if not isinstance(part, Extent):
            return part
        offset = self.new_offset(part.offset)
        assert offset is not None, "large parts are carried over before they are referred to"
        return part._replace(offset=offset)

    def new_offset(self, offset: int) -> int | None:
        """Where the block stands now that stood at `offset` in the old file; None when it was not carried over."""
        for start, end, at in self._moved:
            if start <= offset < end:
                return at + offset - start
        return None


def choose_history(origin: Origin, context: Context) -> History:
    """Which commits of a log are within the bounds of history: age, half of the limit, and what the state leaves."""
    log, end = origin.log, origin.end
    first = log.frame_at(0, end)
    assert first is not None
    assert log.body is not None
    commits = [
        found for found in log.hop(first.end, first.header.checksum, end) if found.header.type == FrameType.COMMIT
    ]
    room = min(context.limit_bytes // 2, context.limit_bytes - 2 * origin.view.size_bytes - _SLACK_BYTES)
    oldest_us = clock.now_us() - HISTORY_US
    start = len(commits)
    while start and commits[start - 1].header.time_us >= oldest_us:
        room -= commits[start - 1].header.length
        if room < 0:
            break
        start -= 1
    dropped = log.body.dropped + b"".join(found.header.commit_id for found in commits[:start])
    return History(len(dropped) // _SEEN_BYTES, dropped, commits[start:])


def rewrite(origin: Origin, context: Context, file: File, past: DocumentView | None, history: History) -> Rewriter:
    """Write what is kept of a log into a new file. `past` is the document at version `history.cut`, if any went."""
    log = origin.log
    assert log.body is not None
    out = Rewriter(file, new_file_id(), context.limit_bytes)
    out.shortened = len(history.dropped) > len(log.body.dropped)
    body = log.body._replace(generation=log.body.generation + 1, made_us=clock.now_us(), dropped=history.dropped)
    out.put(bodies.file_draft(body), NOTHING)
    compressor = Compressor(context.config.compression)
    operations = _remembered(origin)
    if past is not None:
        # a reader who has to start here must know what was done before as well
        earlier = [record for record in operations if record.version <= past.version]
        _put_snapshot(out, log, past, earlier, compressor)
    for found in history.kept:
        out.copy(log, found)
    if history.kept:
        _put_snapshot(out, log, origin.view, operations, compressor)
    return out


def _remembered(origin: Origin) -> list[OperationRecord]:
    oldest_us = clock.now_us() - snapshots.KEPT_OPERATIONS_US
    known = [*origin.base.operations(), *origin.operations][-snapshots.KEPT_OPERATIONS :]
    return [record for record in known if record.time_us >= oldest_us]


def _put_snapshot(
    out: Rewriter, log: Log, view: DocumentView, operations: list[OperationRecord], compressor: Compressor
) -> None:
    _carry_large_parts(out, log, view, compressor)
    builder, compressed = snapshots.build_anew(view, operations, compressor, out.moved)
    body = SnapshotBody(out.end, out.link, 0, compressed, [], [])
    out.put(builder.draft(body), view.standing)


def _carry_large_parts(out: Rewriter, log: Log, view: DocumentView, compressor: Compressor) -> None:
    """Put the blocks of large parts whose commits are not kept into frames of their own."""
    for key in view.keys():
        part = view.part(key)
        if isinstance(part, Extent) and out.new_offset(part.offset) is None:
            length = sum(block.stored for block in part.table)
            stored = log.file.read(length, part.offset)
            at = out.put(bodies.data_draft(part.table, [stored], compressor), view.standing)
            out.note_move(part.offset, part.offset + length, at)
