"""Checking one log, from its first frame to its last byte, and what a check of a store reports.

Nothing is changed. Checksums of frames and blocks, links, versions, commit ids, and the size and checksum of the
document at every commit and snapshot are computed anew from the parts themselves. A lock is taken only where a log of
a live store does not end with a whole frame, since somebody may be writing one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from waypost.codec import bodies
from waypost.codec.bodies import CommitBody, Extent, Part
from waypost.codec.compression import Undecodable
from waypost.codec.frame import FrameType, touched_parts
from waypost.errors import DocumentDamaged, StoreError, StoreUnavailable, UnsupportedFormat, WaypostError
from waypost.store import commits
from waypost.store import parts as sums
from waypost.store.contract import CHECKPOINT
from waypost.store.directory import checkpoints, compaction
from waypost.store.directory.blocks import Blocks
from waypost.store.directory.checkpoints import check_extent
from waypost.store.directory.context import Context
from waypost.store.directory.files import Directory
from waypost.store.directory.frames import Tail
from waypost.store.directory.layout import SUFFIXES, encode_id
from waypost.store.directory.log import LACKS_BASE, Frame, Log
from waypost.store.directory.participants import Marks, Place, Torn
from waypost.store.directory.state import Snapshot
from waypost.store.erasures import ERASED
from waypost.store.kinds import DocumentId, Kind
from waypost.store.reports import Finding, Severity, Verification

_MODULUS = 1 << 256
_NOT_OF_THE_FILE = ("EACCES", "EPERM", "EMFILE", "ENFILE", "ENOMEM")
"""Refusals that tell of who reads, and nothing of what is read."""
TO_BE_ERASED = "something is to be erased, and not gone yet: erase it again, or open the store and change the workflow"
HIDING: tuple[Severity, ...] = ("damage", "unreadable")
"""Of what was found in a file, or of it, after which there may be more that was not seen."""


@dataclass(slots=True)
class Report(Verification):
    """What was read, and what was found.

    `marks` is what commits said of their transactions; `torn` those of which only a half is there.
    """

    marks: Marks = field(default_factory=Marks)
    torn: list[Torn] = field(default_factory=list[Torn])
    checkpoints: dict[str, tuple[DocumentId, Place] | None] = field(
        default_factory=dict[str, "tuple[DocumentId, Place] | None"]
    )
    """Those that documents have, each with whose it is and the place where it is missed if it has no file."""
    checked: set[DocumentId] = field(default_factory=set[DocumentId])
    refused: list[StoreUnavailable | UnsupportedFormat] = field(
        default_factory=list["StoreUnavailable | UnsupportedFormat"]
    )
    """Why something could not be read, which may be found whole another time, or by another release."""

    def add(self, other: Report) -> None:
        self.documents += other.documents
        self.frames += other.frames
        self.commits += other.commits
        self.snapshots += other.snapshots
        self.size_bytes += other.size_bytes
        self.findings += other.findings
        self.marks.add(other.marks)
        self.checkpoints.update(other.checkpoints)
        self.checked |= other.checked
        self.refused += other.refused

    def cannot_read(self, file: str, error: WaypostError, offset: int | None = None) -> None:
        """Note what kept a file from being read to its end."""
        found = error.details.get("offset", offset)
        is_barred = isinstance(error, UnsupportedFormat) or error.details.get("errno") in _NOT_OF_THE_FILE
        severity: Severity = "unreadable" if is_barred else "damage"
        self.findings.append(Finding(severity, file, found if isinstance(found, int) else None, _told(file, error)))
        if isinstance(error, (StoreUnavailable, UnsupportedFormat)):
            self.refused.append(error)


def _told(file: str, error: WaypostError) -> str:
    """What is wrong, without what the finding says already; an error may be about a file that this one stands on."""
    reason = error.details.get("reason")
    return str(reason) if reason is not None and error.details.get("file") == file else str(error)


def check_log(folder: Directory, name: str, kind: Kind, context: Context, *, alone: bool = True) -> Report:
    """Check one log, to its last byte. Who is not `alone` with it may meet others that are writing to it."""
    report = Report("")
    shown = f"{folder.path}/{name}"
    try:
        log = context.open_log(folder, name, write=False)
        if log is not None:
            _LogCheck(log, kind, context, report, alone).run()
    except WaypostError as error:
        report.cannot_read(shown, error)
    return report


class _LogCheck:
    """Follows a log and keeps, of each part, what it adds to size and checksum."""

    def __init__(self, log: Log, kind: Kind, context: Context, report: Report, alone: bool) -> None:
        self._log = log
        self._alone = alone
        self._kind: Kind = kind
        self._report = report
        self._blocks = Blocks(log.file, 0, context.cache, True)
        self._start_from({})
        self._extents: dict[str, Extent] = {}
        self._checkpoints: set[str] = set()
        self._version = 0
        self._commit_id = sums.NO_COMMIT
        self._size_bytes = 0
        self._tail = Tail(0, False, 0)
        log.thorough = True

    def _found(self, severity: Severity, offset: int, text: str) -> None:
        self._report.findings.append(Finding(severity, self._log.file.name, offset, text))

    def run(self) -> None:
        is_whole = self._read_on()
        if is_whole and not self._alone and (self._tail.damaged or self._tail.torn_bytes):
            is_whole = self._read_what_was_being_written()
        self._report.size_bytes += self._size_bytes
        if self._log.end == 0:
            self._check_end()
            return
        if not is_whole:
            return
        self._check_end()
        self._note_checkpoints()
        self._note_erasures()
        self._report.marks.note_history(self._document, self._log.dropped_versions)
        if self._version < self._log.dropped_versions:
            self._found("damage", self._log.end, LACKS_BASE)

    def _read_on(self) -> bool:
        """Check the frames from the last one on that was whole, and look at what stands behind them; False behind one
        that says what cannot be.
        """
        log = self._log
        size = self._size_bytes = log.file.identity().size
        for found in log.hop(log.end, log.link, size) if log.end or self._begin(size) else ():
            log.take_note(found)
            self._report.frames += 1
            try:
                self._check_frame(found)
            except Undecodable as error:
                self._found("damage", found.offset, str(error))
                return False
        self._tail = log.tail(size)
        return True

    def _begin(self, size: int) -> bool:
        first = self._log.first(size)
        if first is None:
            self._log.despite_magic(0, size)
            return False
        self._report.documents += 1
        self._check_name()
        self._log.take_note(first)
        self._report.frames += 1
        self._blocks.file_id = self._log.file_id
        return True

    def _read_what_was_being_written(self) -> bool:
        """Read on with the lock, so that no write is under way: what is no frame then is none."""
        log = self._log
        try:
            identity = log.lock()  # None where the name stands for another file by now, in which nobody writes any more
        except StoreError:
            return True  # what was seen is told
        try:
            return self._read_on()
        finally:
            if identity is not None:
                log.file.unlock()

    def _note_checkpoints(self) -> None:
        if all(each.severity not in HIDING for each in self._report.findings):  # else there may be checkpoints unseen
            self._report.checked.add(self._document)
        for name in checkpoints.names_among(self._parts):
            place = Place(self._log.file.name, self._log.end)
            self._report.checkpoints[name] = None if CHECKPOINT + name in self._checkpoints else (self._document, place)

    def _note_erasures(self) -> None:
        names = {key.removeprefix(ERASED) for key in self._parts if key.startswith(ERASED)}
        if not names <= set(compaction.erased_before(self._log)):
            self._found("note", self._log.end, TO_BE_ERASED)

    @property
    def _document(self) -> DocumentId:
        return DocumentId(self._kind, self._log.body.id if self._log.body is not None else "")

    def _check_name(self) -> None:
        body, name = self._log.body, self._log.name
        if body is not None and (body.kind != self._kind or encode_id(body.id) + SUFFIXES[self._kind] != name):
            self._found("damage", 0, f"holds {body.kind} {body.id!r}, whose file has another name")

    def _check_end(self) -> None:
        log, tail = self._log, self._tail
        if tail.damaged:
            self._found("damage", log.end, "a frame that was synced is not whole")
        elif tail.torn_bytes:
            self._found("torn tail", log.end, f"{tail.torn_bytes} bytes that belong to no whole frame")
        elif log.last_type != FrameType.SEAL:
            self._found("note", log.end, "is open, or was not closed cleanly; nothing is missing")
        elif log.end != self._size_bytes:
            self._found("note", log.end, "is closed, but not trimmed")

    def _check_frame(self, found: Frame) -> None:
        header = found.header
        if header.type == FrameType.COMMIT:
            self._check_commit(found)
        elif header.type == FrameType.SNAPSHOT:
            self._check_snapshot(found)
        elif header.type == FrameType.SEAL and header.synced != found.offset:
            self._found("damage", found.offset, "a seal does not cover what stands before it")

    def _check_commit(self, found: Frame) -> None:
        header = found.header
        self._report.commits += 1
        content, table = found.content()
        body = bodies.read_commit(content)
        if header.version != self._version + 1:
            raise Undecodable(f"version {header.version} stands behind version {self._version}")
        if not _is_named_right(self._commit_id, header.commit_id, body, bodies.content_hash(body, content)):
            self._found("damage", found.offset, "its commit id is not that of its parent and content")
        self._version, self._commit_id = header.version, header.commit_id
        arrived = self._log.body.arrived if self._log.body is not None else 0
        touched = touched_parts(header, found.data)
        followed = touched is not None and bodies.FOLLOWED_MARK in touched
        if body.transaction is not None and header.version > arrived and not followed:
            place = Place(self._log.file.name, found.offset)
            self._report.marks.note(self._document, header.version, place, body.transaction)
        if body.cleared:
            self._start_from({})
        self._checkpoints.update(key for key in body.puts if key.startswith(CHECKPOINT))
        for key in body.removed:
            self._exchange(key, None)
        for key, measure in self._measured(bodies.commit_parts(body, table)):
            self._exchange(key, measure)
        self._check_sums(found, self._checksum, self._size)

    def _start_from(self, parts: dict[str, tuple[int, int]]) -> None:
        self._parts = parts
        self._checksum = sum(summand for summand, _ in parts.values())
        self._size = sum(size for _, size in parts.values())

    def _exchange(self, key: str, measure: tuple[int, int] | None) -> None:
        summand, size = self._parts.pop(key, (0, 0))
        self._checksum -= summand
        self._size -= size
        if measure is not None:
            self._parts[key] = measure
            self._checksum += measure[0]
            self._size += measure[1]

    def _measured(self, parts: Iterable[tuple[str, Part]]) -> Iterator[tuple[str, tuple[int, int]]]:
        for key, part in parts:
            name = key.encode()
            if isinstance(part, Extent):
                self._check_extent(key, part)
                yield key, (int.from_bytes(part.digest, "big"), sums.part_size(name, part.length))
            else:
                yield key, (sums.part_checksum(name, part), sums.part_size(name, len(part)))

    def _check_extent(self, key: str, extent: Extent) -> None:
        """Read a large part, unless it stands where it stood when it was last read."""
        if self._extents.get(key) == extent:
            return
        check_extent(key, extent, self._blocks)
        self._extents[key] = extent

    def _check_sums(self, found: Frame, checksum: int, size: int) -> None:
        header = found.header
        if (checksum % _MODULUS).to_bytes(32, "big") != header.document_checksum or size != header.size_bytes:
            self._found("damage", found.offset, f"version {header.version} is not what its checksum says")

    def _check_snapshot(self, found: Frame) -> None:
        self._report.snapshots += 1
        snapshot = Snapshot(self._blocks, found)
        keys = list(snapshot.keys())
        if keys != sorted(set(keys)):
            raise Undecodable("the keys of a snapshot are out of order")
        for _ in snapshot.operations():
            pass  # reading them is the check
        present = ((key, part) for key in keys if (part := snapshot.get(key)) is not None)
        measured = dict(self._measured(present))
        values = measured.values()
        self._check_sums(found, sum(summand for summand, _ in values), sum(size for _, size in values))
        if self._version == 0:  # the versions before it were dropped
            self._start_from(measured)
            self._version = found.header.version
            self._commit_id = found.header.commit_id


def _is_named_right(parent: bytes, commit_id: bytes, body: CommitBody, content_hash: bytes) -> bool:
    try:
        return commits.id_behind(parent, body, content_hash) == commit_id
    except DocumentDamaged:
        return False
