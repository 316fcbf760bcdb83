"""Compaction: a log written again without what is no longer needed, in place of the old one.

What goes: snapshots that a newer one supersedes, and history beyond its bounds (half of the file's limit, 30 days);
of versions that go, the commit ids stay. The new file is written beside the store's life, without a lock; then, with
the old file locked, what was appended meanwhile is carried over, the new file is synced and takes the old
one's name. A crash at any point leaves one of the two whole. The new file is locked from its making on, so nobody can
append to it before the switch is durable.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from waypost import clock
from waypost.codec import bodies, frame
from waypost.codec.bodies import Block, Content, Extent, Part, SnapshotBody
from waypost.codec.compression import Compressor, Undecodable
from waypost.codec.frame import ERASED_FORMAT, FORMAT_VERSION, Draft, FrameType, Place, Standing
from waypost.errors import DocumentTooLarge
from waypost.store.directory import scrubbing, snapshots
from waypost.store.directory.blocks import damaged
from waypost.store.directory.context import Context
from waypost.store.directory.files import File
from waypost.store.directory.log import NOTHING, Frame, Log
from waypost.store.directory.scrubbing import Scrubbed
from waypost.store.directory.state import DocumentView, Mark, Snapshot, Source
from waypost.store.erasures import NOTHING_ERASED, Erasures
from waypost.store.views import OperationRecord, View

DAY_US = 24 * 3600 * 1_000_000
CARRIED_BYTES = 2 * 1024 * 1024
"""Blocks are read and written in about this many bytes at a time, whatever the size of a part."""
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
    """Which commits are kept: those behind version `cut`, to be gone through once; the ids of the others."""

    cut: int
    dropped: bytes
    kept: Iterable[Frame]


class Rewriter:
    """Writes frames one behind the other into a new file. All of it is durable before anyone sees it, so each
    frame records everything before it as synced.
    """

    def __init__(
        self, file: File, file_id: int, limit: int, compressor: Compressor, erasures: Erasures = NOTHING_ERASED
    ) -> None:
        self.file = file
        self.file_id = file_id
        self.end = 0
        self.link = 0
        self.base = 0
        self.shortened = False
        """Whether history went that the old file still had."""
        self._limit = limit
        self._compressor = compressor
        self._erasures = erasures
        self._moved: dict[int, int] = {}
        """Where each block stands now, by where it stood in the old file."""

    def put(self, draft: Draft, standing: Standing, block_bytes: int | None = None) -> None:
        """Append a frame. Where `block_bytes` is given, the caller appends that many bytes of blocks."""
        follow = sum(map(len, draft.blocks)) if block_bytes is None else block_bytes
        if self.end + draft.length + (block_bytes or 0) > self._limit:
            raise DocumentTooLarge(f"{self.file.name}: what must be kept exceeds {self._limit:,} bytes")
        if draft.type == FrameType.SNAPSHOT:
            self.base = self.end
        place = Place(self.end, self.file_id, self.link, self.end, self.base)
        head, header = frame.assemble_head(draft, place, standing, follow)
        self.link = header.checksum
        self._write(b"".join((*head, *draft.blocks)))

    def _write(self, data: bytes) -> None:
        self.file.write_all(data, self.end)
        self.end += len(data)

    def copy(self, log: Log, found: Frame) -> None:
        """Append a commit of the old log with its content as it is, but for what is erased."""
        header = found.header
        touched = frame.touched_parts(header, found.data)
        body = found.data[header.body_offset : header.blocks_offset]
        draft = Draft(FrameType(header.type), header.codec, body, header.raw, touched, ())
        scrubbed = _scrubbed(log, found, self._erasures)
        content, table = scrubbed if scrubbed is not None else _content_with_blocks(found)
        ahead = [block for block in table if block.offset < found.blocks_at]
        if ahead or scrubbed is not None:
            self.carry(log, ahead, found.standing)
            rows = [
                block._replace(offset=0 if block.offset >= found.blocks_at else self._moved[block.offset])
                for block in table
            ]
            draft = bodies.commit_draft(Content(content, rows, []), touched, self._compressor)
        here = [block for block in table if block.offset >= found.blocks_at]
        self.put(draft, found.standing, sum(block.stored for block in here))
        for block in here:
            self._moved[block.offset] = self.end
            self._write(_stored(log.file, block))

    def carry(self, log: Log, table: list[Block], standing: Standing) -> None:
        """Put those blocks of the old log that are not in this file yet into frames of their own."""
        missing = [block for block in table if block.offset not in self._moved]
        for block, copied in zip(missing, self.copy_blocks(log.file, missing, standing), strict=True):
            self._moved[block.offset] = copied.offset

    def copy_blocks(self, source: File, table: list[Block], standing: Standing) -> list[Block]:
        """Put blocks of another file into frames of their own; the rows with their places here."""
        copied: list[Block] = []
        rows: list[Block] = []
        blocks: list[bytes] = []
        held = 0
        for block in table:
            rows.append(block)
            blocks.append(_stored(source, block))
            held += block.stored
            if held >= CARRIED_BYTES:
                copied += self.put_data(rows, blocks, standing)
                rows, blocks, held = [], [], 0
        return copied + self.put_data(rows, blocks, standing) if rows else copied

    def put_data(self, rows: list[Block], blocks: list[bytes], standing: Standing) -> list[Block]:
        """Put blocks that the caller has at hand into a frame of their own; the rows with their places."""
        table = [block._replace(offset=0) for block in rows]
        self.put(bodies.data_draft(table, blocks, self._compressor), standing)
        return bodies.placed(table, self.end - sum(map(len, blocks)))

    def moved(self, part: Part) -> Part:
        """The part as it stands in this file, to which it must have been carried."""
        if not isinstance(part, Extent):
            return part
        return part._replace(table=[block._replace(offset=self._moved[block.offset]) for block in part.table])


def _content_with_blocks(found: Frame) -> tuple[bytes, list[Block]]:
    """Content and table of a commit that has blocks; nothing of another."""
    if found.header.length == found.header.blocks_offset:
        return b"", []
    content, table = found.content()
    return bytes(content), table


def _scrubbed(log: Log, found: Frame, erasures: Erasures) -> tuple[bytes, list[Block]] | None:
    """Content and table of a commit of which something is to go; None of another."""
    try:
        left = scrubbing.commit(found, erasures)
    except Undecodable as error:
        raise damaged(log.file, found.offset, error) from error
    return None if left is None else (bodies.content_of(left[0]), left[1])


def _stored(source: File, block: Block) -> bytes:
    stored = source.read(block.stored, block.offset)
    if len(stored) != block.stored:
        raise damaged(source, block.offset, Undecodable("the file ends within a block"))
    return stored


def choose_history(origin: Origin, context: Context) -> History:
    """Which commits of a log are within the bounds of history: age, half of the limit, and what the state leaves."""
    log, body = origin.log, origin.log.body
    assert body is not None
    weights = array("Q")  # all that is held for each commit: there may be a hundred thousand
    room = min(context.limit_bytes // 2, context.limit_bytes - 2 * origin.view.size_bytes - _SLACK_BYTES)
    # by the newest commit: a clock that is ahead for a moment must not cost all of it, also where it was committed by
    newest_us = min(clock.now_us(), origin.view.standing.time_us)
    oldest_us = newest_us - context.config.history.max_age_days * DAY_US
    expired = 0
    for found in commits(log, origin.end):
        weights.append(_weight(found))
        if found.header.time_us < oldest_us:
            expired = len(weights)
    start = len(weights)
    while start > expired and weights[start - 1] <= room:
        start -= 1
        room -= weights[start]
    ids = b"".join(found.header.commit_id for found in islice(commits(log, origin.end), start))
    dropped = body.dropped + ids
    return History(len(dropped) // _SEEN_BYTES, dropped, islice(commits(log, origin.end), start, None))


def commits(log: Log, end: int) -> Iterator[Frame]:
    """The commits of a log from its start on. Raises DocumentDamaged where they are not all whole up to its end."""
    first = log.frame_at(0, end)
    if first is None:
        raise log.damage(0, "its first frame is not whole")
    for found in log.row(first.end, first.header.checksum, end):
        if found.header.type == FrameType.COMMIT:
            yield found


def history_start(log: Log) -> int:
    """Where the commits begin in a log: behind the snapshot that stands for the versions that went, and behind all that
    it refers to. 0 where none went. Raises DocumentDamaged.
    """
    if log.history_start is None:
        log.history_start = _history_start(log) if log.dropped_versions else 0
    return log.history_start


def _history_start(log: Log) -> int:
    first = log.frame_at(0, log.end)
    if first is None:
        raise log.damage(0, "its first frame is not whole")
    for found in log.row(first.end, first.header.checksum, log.end):
        if found.header.type == FrameType.SNAPSHOT:
            return found.end
        if found.header.type == FrameType.COMMIT:
            return found.offset
    return log.end


def _weight(found: Frame) -> int:
    """What a commit takes with the blocks that were written ahead of it."""
    header = found.header
    ahead = found.content()[1] if header.length > header.blocks_offset else ()
    return header.length + sum(block.stored for block in ahead if block.offset < found.blocks_at)


def rewrite(
    origin: Origin,
    context: Context,
    file: File,
    past: DocumentView | None,
    history: History,
    carried_out: Mapping[str, int] | None = None,
) -> Rewriter:
    """Write what is kept of a log into a new file, without what is erased. `past` is the document at version
    `history.cut`, if any went. `carried_out` are the erasures that nothing else is left of; None for those that the old
    log says it of.
    """
    log = origin.log
    assert log.body is not None
    compressor = Compressor(context.config.compression)
    erasures = Erasures.of(origin.view)
    out = Rewriter(file, frame.new_file_id(), context.limit_bytes, compressor, erasures)
    out.shortened = len(history.dropped) > len(log.body.dropped)
    number = max(log.body.format, ERASED_FORMAT if erasures else FORMAT_VERSION)
    body = log.body._replace(
        format=number, generation=log.body.generation + 1, made_us=clock.now_us(), dropped=history.dropped
    )
    out.put(bodies.file_draft(body), NOTHING)
    carried_out = erased_before(log) if carried_out is None else carried_out
    if carried_out:
        out.put(bodies.erasures_draft(dict(carried_out)), NOTHING)
    operations = scrubbing.operations(remembered(origin), erasures)
    if past is not None:
        # a reader who has to start here must know what was done before as well
        earlier = [record for record in operations if record.version <= past.version]
        _put_snapshot(out, log, Scrubbed.of(past, erasures), earlier, compressor)
    found = None
    for found in history.kept:
        out.copy(log, found)
    if found is not None:
        _put_snapshot(out, log, origin.view, operations, compressor)
    return out


def erased_before(log: Log) -> dict[str, int]:
    """The erasures that were carried out before a log was written."""
    size = log.file.identity().size
    first = log.frame_at(0, size)
    found = None if first is None else log.frame_at(first.end, size)
    if found is None or found.header.type != FrameType.ERASURES:
        return {}
    try:
        return bodies.read_erasures(found.content()[0])
    except Undecodable as error:
        raise damaged(log.file, found.offset, error) from error


def erasing_is_due(log: Log, version: View) -> bool:
    """Whether a document says of something that it is erased, and that is not carried out."""
    erasures = Erasures.of(version)
    return bool(erasures) and erased_before(log) != erasures.until


def remembered(origin: Origin) -> list[OperationRecord]:
    """What a rewritten log remembers of writes."""
    oldest_us = origin.view.standing.time_us - snapshots.KEPT_OPERATIONS_US
    known = [*origin.base.operations(), *origin.operations][-snapshots.KEPT_OPERATIONS :]
    older = known[: -snapshots.SURE_OPERATIONS]
    return [record for record in older if record.time_us >= oldest_us] + known[len(older) :]


def _put_snapshot(
    out: Rewriter, log: Log, view: Source, operations: list[OperationRecord], compressor: Compressor
) -> None:
    for key in view.keys():
        part = view.located(key)[0]
        if isinstance(part, Extent):  # its commit may not be kept
            out.carry(log, part.table, view.standing)
    builder, compressed = snapshots.build_anew(view, operations, compressor, out.moved)
    body = SnapshotBody(out.end, out.link, 0, compressed, [], [])
    out.put(builder.draft(body), view.standing)
