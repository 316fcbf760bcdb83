"""What can still be proven of a damaged log: the newest version that is whole, and how far its history reaches back.

Nothing is guessed. Each frame carries the sum of its document's parts at its version, so a state is *proven*
when the parts at hand add up to it, whatever was lost on the way: a commit that later ones wrote over entirely is
not missed, and a snapshot takes up where the row is broken. Values whose bytes are gone are left out and named. Where
no version at all is proven, what stands in the whole blocks of the newest snapshot is kept; that is a version of its
own then, never passed off as one that was committed. Reading only: `repair` carries out what is found here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from waypost import clock
from waypost.codec import frame
from waypost.codec.bodies import (
    Block,
    CommitBody,
    Extent,
    FileBody,
    Part,
    commit_parts,
    content_hash,
    is_erased,
    read_commit,
)
from waypost.codec.compression import Undecodable
from waypost.codec.frame import FrameType, Header, Standing, block_checksum
from waypost.errors import DocumentDamaged
from waypost.store import commits
from waypost.store import parts as sums
from waypost.store.directory.blocks import Blocks
from waypost.store.directory.compaction import History
from waypost.store.directory.log import NOTHING, Frame, Log, is_blank
from waypost.store.directory.state import DocumentView, Kinds, Snapshot
from waypost.store.kinds import DocumentId
from waypost.store.views import OperationRecord

_WINDOW = 1 << 20
UNKNOWN_ID = bytes(32)

Span = tuple[int, int]
KeyRange = tuple[str, str | None]


class Kept(NamedTuple):
    """The version that is kept, with what is needed to write its log anew."""

    view: DocumentView
    past: DocumentView | None
    history: History
    operations: list[OperationRecord]


class Salvage(NamedTuple):
    """What came of a damaged log. `kept` is None where no part of the document is left.

    `newest` is the newest version that left a trace. `lost_parts` are keys of the kept version whose values are
    gone; `lost_keys` are ranges of keys (from, up to but without) of which nothing is known; `lost_changes` are keys
    that commits behind the kept version changed; `lost_bytes` are the stretches of the file that hold nothing whole;
    `reading` has all frames that can be read.
    """

    kept: Kept | None
    newest: int
    is_exact: bool
    lost_parts: list[str]
    lost_keys: list[KeyRange]
    lost_changes: list[str]
    lost_bytes: list[Span]
    reading: _Reading


def salvage(log: Log, blocks: Blocks, document: DocumentId, body: FileBody | None, size: int) -> Salvage:
    """See what is left of a log. `body` is what its first frame says, where that is whole.

    Raises UnsupportedFormat when some of it can be read only by another release, or with a codec not installed.
    """
    frames = find_frames(log, size)
    doubted: set[int] = set()
    while True:
        reading = _Reading(log, blocks, frames, doubted)
        doubtful = reading.run()
        if doubtful is None:
            return _judge(reading, document, body, size)
        doubted.add(doubtful)  # intact, and yet not what it says: read all of it again without this frame


# --- frames ---


def find_frames(log: Log, size: int) -> list[Frame]:
    """All frames that are whole in themselves and at their place, in order, also behind a break. One of a later format
    that stands at the start, or directly behind another frame, is UnsupportedFormat.
    """
    frames: list[Frame] = []
    offset = 0
    while offset < size:
        found = log.frame_at(offset, size)
        last = frames[-1] if frames else None
        if found is None and offset == (last.end if last else 0):
            found = log.despite_magic(offset, size)
        if found is not None and last is not None and last.end == offset and found.header.link != last.header.checksum:
            found = None
        if found is None:
            offset = _next_magic(log, offset + 1, size)
            continue
        log.file_id = found.header.file_id
        frames.append(found)
        offset = found.end
    return frames


def _next_magic(log: Log, offset: int, size: int) -> int:
    while offset < size:
        data = log.file.read(_WINDOW, offset)
        at = data.find(frame.MAGIC)
        if at >= 0:
            return offset + at
        if len(data) < _WINDOW:
            break
        offset += _WINDOW - len(frame.MAGIC) + 1
    return size


def _between(log: Log, frames: Iterable[Frame], size: int) -> list[Span]:
    """The stretches that belong to no frame; fill at the end is none."""
    spans: list[Span] = []
    end = 0
    for found in frames:
        if found.offset > end:
            spans.append((end, found.offset))
        end = found.end
    last = end
    for at in range(end, size, _WINDOW):
        data = log.file.read(_WINDOW, at)
        if not is_blank(data):
            last = at + len(data.rstrip(b"\0"))
    return [*spans, (end, last)] if last > end else spans


def _not_whole(log: Log, frames: Iterable[Frame]) -> list[Span]:
    """What in frames whose header is whole cannot be read: blocks, or a body that does not decode."""
    spans: list[Span] = []
    for found in frames:
        try:
            table = found.content()[1]
        except Undecodable:
            spans.append((found.offset, found.end))
            continue
        at = found.blocks_at
        for block in table:
            if block_checksum(log.file.read(block.stored, at)) != block.checksum:
                spans.append((at, at + block.stored))
            at += block.stored
    return spans


# --- states ---


class _Parts:
    """Parts, and what they add up to."""

    def __init__(self, held: dict[str, Part]) -> None:
        self.held: dict[str, Part] = {}
        self._measures: dict[str, Span] = {}
        self._checksum = 0
        self.size = 0
        for key, part in held.items():
            self.put(key, part)

    @property
    def checksum(self) -> bytes:
        return (self._checksum % sums.MODULUS).to_bytes(32, "big")

    def put(self, key: str, part: Part) -> None:
        self.remove(key)
        name = key.encode()
        if isinstance(part, Extent):
            measure = int.from_bytes(part.digest, "big"), sums.part_size(name, part.length)
        else:
            measure = sums.part_checksum(name, part), sums.part_size(name, len(part))
        self.held[key], self._measures[key] = part, measure
        self._checksum += measure[0]
        self.size += measure[1]

    def remove(self, key: str) -> None:
        if key in self.held:
            checksum, size = self._measures.pop(key)
            self._checksum -= checksum
            self.size -= size
            del self.held[key]

    def apply(self, commit: _Commit) -> None:
        if commit.body.cleared:
            self.__init__({})
        for key in commit.body.removed:
            self.remove(key)
        for key, part in commit.parts.items():
            self.put(key, part)

    def are(self, header: Header) -> bool:
        """Whether these are the parts of the document at a frame's version."""
        return self.size == header.size_bytes and self.checksum == header.document_checksum


class _Commit(NamedTuple):
    found: Frame
    body: CommitBody
    parts: dict[str, Part]


class _Version(NamedTuple):
    """A version that is proven: its parts, and the commits behind `past` that lead to it and can be copied."""

    parts: dict[str, Part]
    standing: Standing
    past: tuple[dict[str, Part], Standing]
    commits: list[Frame]


class _Reading:
    """One reading of the frames of a log, from the first to the last."""

    def __init__(self, log: Log, blocks: Blocks, frames: list[Frame], doubted: set[int]) -> None:
        self.log = log
        self.blocks = blocks
        self.frames = frames
        self.operations: dict[str, OperationRecord] = {}
        self.ids: dict[int, bytes] = {}
        self.newest = 0
        self.snapshots: list[Frame] = []
        self.commits: dict[int, _Commit] = {}
        self._doubted = doubted
        self._parts = _Parts({})
        self._standing = NOTHING
        self._proven = True
        self._past: tuple[dict[str, Part], Standing] = ({}, NOTHING)
        self._run: list[Frame] = []
        self._best: _Version | None = None

    def run(self) -> int | None:
        """Read all frames; the offset of one that must be doubted, else None."""
        for found in self.frames:
            header = found.header
            self.newest = max(self.newest, header.version)
            if found.offset in self._doubted:
                continue
            if header.version:
                self.ids[header.version] = header.commit_id
            doubtful: int | None = None
            if header.type == FrameType.COMMIT:
                doubtful = self._commit(found)
            elif header.type == FrameType.SNAPSHOT:
                doubtful = self._snapshot(found)
            if doubtful is not None:
                return doubtful
        return None

    def best(self) -> _Version | None:
        """The newest version that is proven; None when that is the empty document."""
        found = [each for each in (self._best, self._now() if self._proven else None) if each is not None]
        best = max(found, key=lambda each: each.standing.version)
        return best if best.standing.version else None

    def changed_behind(self, version: int) -> list[str]:
        """The keys that commits behind a version changed, of those that can be read."""
        later = [commit for each, commit in self.commits.items() if each > version]
        return sorted({key for commit in later for key in (*commit.parts, *commit.body.removed)})

    def _now(self) -> _Version:
        return _Version(self._parts.held, self._standing, self._past, list(self._run))

    def _commit(self, found: Frame) -> int | None:
        commit = self._read(found)
        if commit is not None:
            self.commits[found.header.version] = commit
        if found.header.version <= self._standing.version:
            return None  # a snapshot that was built later has it already
        return self._follow(found, commit)

    def _follow(self, found: Frame, commit: _Commit | None) -> int | None:
        """Go on to a commit's version; where it stands if it does not make of a proven version what it says."""
        follows = commit is not None and self._proven and found.header.version == self._standing.version + 1
        if not follows:
            self._put_by()
        may_be_copied = commit is not None and follows and self._may_be_copied(commit)
        if commit is not None:
            self._parts.apply(commit)
        self._standing = found.standing
        self._proven = self._parts.are(found.header)
        if follows and not self._proven:
            return found.offset
        if may_be_copied:
            self._run.append(found)
        elif self._proven:
            self._begin_anew()
        return None

    def _put_by(self) -> None:
        """Keep the proven version that is left behind now."""
        if self._proven:
            self._best = self._now()._replace(parts=dict(self._parts.held))

    def _begin_anew(self) -> None:
        """History that can be copied begins here."""
        self._past, self._run = (dict(self._parts.held), self._standing), []

    def _may_be_copied(self, commit: _Commit) -> bool:
        found, body = commit.found, commit.body
        content, table = found.content()
        try:
            expected = commits.id_behind(self._standing.commit_id, body, content_hash(body, content))
        except DocumentDamaged:
            return False
        return expected == found.header.commit_id and all(map(self._is_whole, table))

    def _is_whole(self, block: Block) -> bool:
        stored = self.log.file.read(block.stored, block.offset)
        return len(stored) == block.stored and block_checksum(stored) == block.checksum

    def _read(self, found: Frame) -> _Commit | None:
        try:
            content, table = found.content()
            body = read_commit(content)
            parts = dict(commit_parts(body, table))
        except Undecodable:
            return None
        header = found.header
        self._remember(
            OperationRecord(body.operation_id, header.version, header.time_us, body.operation, body.projection)
        )
        return _Commit(found, body, parts)

    def _remember(self, record: OperationRecord) -> None:
        self.operations.setdefault(record.operation_id, record)

    # --- snapshots ---

    def _snapshot(self, found: Frame) -> int | None:
        """Stand on a snapshot, where what stands before it does not lead to a proven version."""
        try:
            snapshot = Snapshot(self.blocks, found)
        except DocumentDamaged:
            return None
        self.snapshots.append(found)
        self._read_operations(snapshot)
        if self._proven and self._standing.version >= found.header.version:
            return None
        self._put_by()
        held, missing = self.whole_rows(snapshot)
        for key, part in self._parts.held.items():
            if any(is_within(key, gap) for gap in missing):
                held[key] = part  # as it was before; whether it still is so the sum will tell
        self._parts, self._standing = _Parts(held), found.standing
        self._proven = self._parts.are(found.header)
        if self._proven:
            self._begin_anew()
        # others went on committing while it was built
        for version in sorted(version for version in self.commits if version > found.header.version):
            doubtful = self._follow(self.commits[version].found, self.commits[version])
            if doubtful is not None:
                return doubtful
        return None

    def whole_rows(self, snapshot: Snapshot) -> tuple[dict[str, Part], list[KeyRange]]:
        """The parts in a snapshot's whole blocks, and the ranges of keys of the others."""
        held: dict[str, Part] = {}
        missing: list[KeyRange] = []
        keys = snapshot.body.keys
        for row in range(len(keys)):
            try:
                held.update(snapshot.entries(row))
            except DocumentDamaged:
                missing.append((keys[row] if row else "", keys[row + 1] if row + 1 < len(keys) else None))
        return held, missing

    def _read_operations(self, snapshot: Snapshot) -> None:
        runs = [run.block for run in snapshot.body.operations]
        for block in [*runs, *snapshot.operation_blocks]:
            try:
                for record in snapshot.read_operations(block):
                    self._remember(record)
            except DocumentDamaged:
                pass  # its bytes are among those that are named as lost


def is_within(key: str, keys: KeyRange) -> bool:
    """Whether a key is in a range of them."""
    first, behind = keys
    return key >= first and (behind is None or key < behind)


# --- the verdict ---


def _judge(reading: _Reading, document: DocumentId, body: FileBody | None, size: int) -> Salvage:
    best, lost_keys, is_exact = reading.best(), [], True
    if best is None:
        best, lost_keys = _remains(reading)
        is_exact = False
    lost_bytes = _merged(_between(reading.log, reading.frames, size) + _not_whole(reading.log, reading.frames))
    if best is None:
        return Salvage(None, reading.newest, False, [], lost_keys, reading.changed_behind(0), lost_bytes, reading)
    lost_changes = reading.changed_behind(best.standing.version)
    lost_parts = _without_value(reading, best.parts)
    ids = {number + 1: at for number, at in enumerate(_cut(body.dropped))} if body is not None else {}
    ids.update(reading.ids)
    operations = sorted(
        (record for record in reading.operations.values() if record.version <= best.standing.version),
        key=lambda record: record.version,
    )
    if lost_parts or not is_exact:
        is_exact = False
        best = _as_new_version(best, lost_parts, ids)
    kept = _with_history(reading, document, best, ids, operations)
    return Salvage(kept, reading.newest, is_exact, lost_parts, lost_keys, lost_changes, lost_bytes, reading)


def _cut(dropped: bytes) -> list[bytes]:
    return [dropped[at : at + 32] for at in range(0, len(dropped), 32)]


def _remains(reading: _Reading) -> tuple[_Version | None, list[KeyRange]]:
    """What stands in the whole blocks of the newest snapshot, and the commits that follow it without a gap."""
    if not reading.snapshots:
        return None, []
    found = max(reading.snapshots, key=lambda each: each.header.version)
    held, missing = reading.whole_rows(Snapshot(reading.blocks, found))
    parts, standing = _Parts(held), found.standing
    while (commit := reading.commits.get(standing.version + 1)) is not None:
        parts.apply(commit)
        standing = commit.found.standing
    if not parts.held:
        return None, missing
    return _Version(parts.held, standing, (parts.held, standing), []), missing


def _without_value(reading: _Reading, parts: dict[str, Part]) -> list[str]:
    """The keys of large parts whose bytes are not what they were."""
    lost: list[str] = []
    for key in sorted(parts):
        part = parts[key]
        if not isinstance(part, Extent) or is_erased(part):
            continue
        try:
            value = reading.blocks.value(part)
            if sums.part_checksum(key.encode(), value).to_bytes(32, "big") == part.digest:
                continue
        except DocumentDamaged:
            pass
        lost.append(key)
    return lost


def _as_new_version(best: _Version, lost: list[str], ids: dict[int, bytes]) -> _Version:
    """What is left of a version, as the version behind it: it never was what the document held."""
    parts = _Parts({key: best.parts[key] for key in sorted(best.parts.keys() - set(lost))})
    version = best.standing.version + 1
    named = sums.repaired_id(best.standing.commit_id, parts.checksum)
    ids[version] = named
    time_us = max(clock.now_us(), best.standing.time_us + 1)  # else an erasure would cover what was put again since
    standing = Standing(version, time_us, parts.size, parts.checksum, named)
    return _Version(parts.held, standing, (parts.held, standing), [])


def _with_history(
    reading: _Reading,
    document: DocumentId,
    best: _Version,
    ids: dict[int, bytes],
    operations: list[OperationRecord],
) -> Kept:
    past_parts, past_standing = best.past
    commits = best.commits
    if _without_value(reading, past_parts):
        commits = []  # the version that history begins with cannot be written any more
    if not commits:
        past_parts, past_standing = best.parts, best.standing
    remembered = {record.operation_id: record for record in operations}

    def view(parts: dict[str, Part], standing: Standing) -> DocumentView:
        return DocumentView(document, Snapshot(reading.blocks), dict(parts), standing, False, remembered, Kinds(parts))

    cut = past_standing.version
    dropped = b"".join(ids.get(version, UNKNOWN_ID) for version in range(1, cut + 1))
    history = History(cut, dropped, commits)
    return Kept(view(best.parts, best.standing), view(past_parts, past_standing) if cut else None, history, operations)


def _merged(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
