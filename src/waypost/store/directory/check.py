"""Verifying a store: every byte of every file against what the format says about it.

Nothing is changed and no lock is taken. Each log is read from its first frame to its last byte: checksums of frames
and blocks, links, versions, commit ids, and the size and checksum of the document at every commit and snapshot, all
computed anew from the parts themselves. The same function stands at the end of every crash test.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from waypost.codec import bodies
from waypost.codec.bodies import CommitBody, Extent, Part
from waypost.codec.compression import Undecodable
from waypost.codec.frame import FrameType, touched_parts
from waypost.errors import DocumentDamaged, StoreUnavailable, WaypostError
from waypost.store import commits
from waypost.store import parts as sums
from waypost.store.contract import CHECKPOINT
from waypost.store.directory import (
    checkpoints,
    compaction,
    decisions,
    forgotten,
    lease,
    participants,
    register,
    spooled,
)
from waypost.store.directory.blocks import Blocks
from waypost.store.directory.checkpoints import check_extent
from waypost.store.directory.context import Context
from waypost.store.directory.files import Directory
from waypost.store.directory.forgotten import Unknown
from waypost.store.directory.layout import FOLDERS, FORMAT_TEXT, IGNORE_TEXT, SUFFIXES, Layout, encode_id, file_name
from waypost.store.directory.log import LACKS_BASE, Frame, Log
from waypost.store.directory.participants import Marks, Place, Torn
from waypost.store.directory.state import Snapshot
from waypost.store.erasures import ERASED
from waypost.store.kinds import DocumentId, Kind
from waypost.store.reports import Finding, Severity, Verification

_MODULUS = 1 << 256
_AT_A_TIME = 256
_NOT_ALLOWED = ("EACCES", "EPERM")
_HIDING: tuple[Severity, ...] = ("damage", "unreadable")
"""Of what was found in a file, or of it, after which there may be more that was not seen."""


class _Kept(NamedTuple):
    """What was seen of the files of checkpoints: those that are whole, those that their documents do not speak of, and
    documents of such that have no log, or none that could be checked.
    """

    found: set[str]
    unknown: dict[DocumentId, list[Unknown]]
    unchecked: set[DocumentId]


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
    refused: list[StoreUnavailable] = field(default_factory=list[StoreUnavailable])
    """Why something could not be read, which may be found whole another time."""

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
        severity: Severity = "unreadable" if error.details.get("errno") in _NOT_ALLOWED else "damage"
        self.findings.append(Finding(severity, file, found if isinstance(found, int) else None, _told(file, error)))
        if isinstance(error, StoreUnavailable):
            self.refused.append(error)


def verify(layout: Layout, context: Context) -> Report:
    """Check the whole store. Raises only when the directory itself cannot be read."""
    report = Report(layout.path)
    _check_fixed_files(layout, report)
    tasks: list[tuple[Directory, str, Kind]] = []
    for kind, suffix in SUFFIXES.items():
        folder = _existing(layout, FOLDERS[kind])
        for name in sorted(folder.names()) if folder else []:
            if folder and name.endswith(suffix):
                tasks.append((folder, name, kind))
            else:
                report.findings.append(Finding("damage", _shown(layout, kind, name), None, "is no file of a store"))
    with context.new_pool() as pool:
        # some at a time, since a hundred thousand that wait would take more memory than they do
        for start in range(0, len(tasks), _AT_A_TIME):
            some = [pool.submit(check_log, *task, context) for task in tasks[start : start + _AT_A_TIME]]
            for checked in some:
                report.add(checked.result())
    _check_transactions(layout, report)
    _check_participants(report, context)
    _check_checkpoints(layout, report, context)
    _check_temp(layout, report)
    _check_spool(layout, report)
    amiss = register.finding(layout)
    if amiss is not None:
        text = f"{amiss}; it is derived, and written anew when the store is closed"
        report.findings.append(Finding("note", f"{layout.path}/{register.NAME}", None, text))
    return report


def _told(file: str, error: WaypostError) -> str:
    """What is wrong, without what the finding says already; an error may be about a file that this one stands on."""
    reason = error.details.get("reason")
    return str(reason) if reason is not None and error.details.get("file") == file else str(error)


def _check_checkpoints(layout: Layout, report: Report, context: Context) -> None:
    """Each file of a checkpoint on its own and with those that it stands on, and whether one is missing."""
    folder = layout.existing(checkpoints.FOLDER)
    kept = _Kept(set(), {}, set())
    found = kept.found
    _check_arrivals(layout, report, context, found)  # first, since they may get their places meanwhile
    for file in sorted(folder.names()) if folder else []:
        if folder and file != checkpoints.LOCK:
            _check_checkpoint(folder, file, report, context, kept)
    for document, files in kept.unknown.items():
        _tell_unknown(document, files, report, context)
    for document in kept.unchecked:
        _tell_gone(layout, document, report, context)
    for name, missed in report.checkpoints.items():
        if missed is not None and name not in found and forgotten.is_missing(context, missed[0], name):
            text = f"checkpoint {name!r} has no file, and history does not reach back to it"
            report.findings.append(Finding("damage", *missed[1], text))


def _check_arrivals(layout: Layout, report: Report, context: Context, found: set[str]) -> None:
    """What was taken in, and is a checkpoint of a document by now; what is not is told of as a leftover."""
    temp = _existing(layout, "temp")
    for file in sorted(temp.names()) if temp else []:
        if temp and file.endswith(checkpoints.ARRIVING):
            shown = f"{temp.path}/{file}"
            try:
                layer = checkpoints.read_file(context, temp, file)
                if layer is None:
                    continue
                checkpoints.check_layer(layer)
                name = layer.name
            except WaypostError as error:
                report.findings.append(Finding("leftover", shown, None, f"was taken in, and is not whole: {error}"))
                continue
            if name in report.checkpoints:
                found.add(name)
                report.findings.append(Finding("note", shown, None, "was imported, and is still to get its place"))
            else:
                report.findings.append(Finding("leftover", shown, None, "is being imported, or its writer died"))


def _check_checkpoint(folder: Directory, file: str, report: Report, context: Context, kept: _Kept) -> None:
    shown = f"{folder.path}/{file}"
    if not file.endswith(checkpoints.SUFFIX):
        report.findings.append(Finding("damage", shown, None, "is no file of a store"))
        return
    try:
        layer = checkpoints.read_file(context, folder, file)
        if layer is None:
            return
        if file != checkpoints.file_name(layer.name):
            report.findings.append(Finding("damage", shown, 0, f"holds {layer.name!r}, whose file has another name"))
            return
        if layer.name not in report.checkpoints and layer.document in report.checked:
            # what it stands on may have been removed before it
            kept.unknown.setdefault(layer.document, []).append(Unknown(shown, layer.name, layer.standing))
            return
        checkpoints.check_layer(layer)
        checkpoints.read(context, layer.name)  # with all that it stands on
    except WaypostError as error:
        report.cannot_read(shown, error)
        return
    kept.found.add(layer.name)
    if layer.document not in report.checked:
        kept.unchecked.add(layer.document)


def _tell_unknown(document: DocumentId, files: list[Unknown], report: Report, context: Context) -> None:
    """Tell checkpoints that a document has removed from those that its log has lost."""
    told = None
    with suppress(WaypostError):
        told = forgotten.told_by_log(context, document)  # after their files were read, which are never ahead of it
    for each in files:
        text = forgotten.told_of_file(document, told, each)
        if told is None or each.name not in told.names:
            report.findings.append(Finding("leftover", each.file, None, text))
            continue
        try:
            checkpoints.verify(context, each.name)  # it was made just now
        except WaypostError as error:
            report.cannot_read(each.file, error)


def _tell_gone(layout: Layout, document: DocumentId, report: Report, context: Context) -> None:
    """A log that is gone was there: a document that is deleted keeps its own."""
    # looked at again, since a restore may have taken both away
    names = sorted(checkpoints.names_of(context, document)) if forgotten.is_gone(context, document) else []
    if names:
        # a repair that moved it aside has told of it
        severity: Severity = "note" if forgotten.is_aside(layout, document) else "damage"
        shown = f"{layout.path}/{FOLDERS[document.kind]}/{file_name(document)}"
        report.findings.append(Finding(severity, shown, None, forgotten.told_of_gone(document, names)))


def _check_participants(report: Report, context: Context) -> None:
    """Whether each transaction is there as a whole. What cannot be read is told as damage, and not once more here."""
    if any(found.severity in _HIDING for found in report.findings):
        return
    for each in report.marks.torn():
        torn = participants.still_torn(each, context)
        if torn is not None:
            report.torn.append(torn)
            _report_torn(torn, report)


def _report_torn(torn: Torn, report: Report) -> None:
    lacking = ", ".join(f"version {version} of {document.kind} {document.id!r}" for document, version in torn.missing)
    for (_, version), place in torn.there.items():
        text = f"version {version} was committed together with {lacking}, which is not there: was a log copied alone?"
        report.findings.append(Finding("damage", *place, text))


def _check_transactions(layout: Layout, report: Report) -> None:
    folder = _existing(layout, decisions.FOLDER)
    for name in sorted(folder.names()) if folder else []:
        shown = f"{layout.path}/{decisions.FOLDER}/{name}"
        if not decisions.is_name(name):
            report.findings.append(Finding("damage", shown, None, "is no file of a store"))
            continue
        try:
            body = decisions.read(folder, name) if folder else None
        except WaypostError as error:
            report.cannot_read(shown, error, 0)
            continue
        if body is not None:
            text = f"decides a commit over {len(body.participants)} documents, which is still to be carried out"
            report.findings.append(Finding("note", shown, None, text))


def _shown(layout: Layout, kind: Kind, name: str) -> str:
    return f"{layout.path}/{kind}s/{name}"


def _existing(layout: Layout, name: str) -> Directory | None:
    return layout.root.open_directory(name)


def _check_fixed_files(layout: Layout, report: Report) -> None:
    for name, content in (("FORMAT", FORMAT_TEXT), (".gitignore", IGNORE_TEXT)):
        file = layout.root.open(name)
        if file is None or file.read(len(content) + 1, 0) != content:
            report.findings.append(Finding("damage", f"{layout.path}/{name}", 0, "does not say what it should"))
    file = layout.root.open("lease")
    if file is not None:
        holder = lease.parse(file.read(4096, 0))
        if holder is None:
            report.findings.append(Finding("damage", file.name, 0, "the lease cannot be read"))
        else:
            report.findings.append(Finding("note", file.name, None, f"in use by {holder.host} since {holder.since}"))
    if _existing(layout, "workflows") is None:
        report.findings.append(Finding("damage", f"{layout.path}/workflows", None, "is missing"))


def _check_temp(layout: Layout, report: Report) -> None:
    folder = _existing(layout, "temp")
    for name in sorted(folder.names()) if folder else []:
        shown = f"{layout.path}/temp/{name}"
        if name.endswith(".torn"):
            report.findings.append(Finding("note", shown, None, "bytes of a torn tail, moved aside"))
        elif not name.endswith(checkpoints.ARRIVING):
            report.findings.append(Finding("leftover", shown, None, "is being written, or its writer died"))


def _check_spool(layout: Layout, report: Report) -> None:
    """What waits was acknowledged, and is in no document yet; what was refused never will be."""
    folder = _existing(layout, spooled.FOLDER)
    if folder is None:
        return
    if waiting := len(spooled.events(folder)):
        text = f"holds {waiting:,} events of other programs, which whoever opens the store for writing folds in"
        report.findings.append(Finding("note", folder.path, None, text))
    for each in spooled.refused(folder):
        text = f"is an event that could not be used: it {each.reason}"
        report.findings.append(Finding("note", f"{layout.path}/{spooled.FOLDER}/{each.name}", None, text))


def check_log(folder: Directory, name: str, kind: Kind, context: Context) -> Report:
    """Check one log, to its last byte."""
    report = Report("")
    shown = f"{folder.path}/{name}"
    try:
        log = context.open_log(folder, name, write=False)
        if log is not None:
            _LogCheck(log, kind, context, report).run()
    except WaypostError as error:
        report.cannot_read(shown, error)
    return report


class _LogCheck:
    """Follows a log and keeps, of each part, what it adds to size and checksum."""

    def __init__(self, log: Log, kind: Kind, context: Context, report: Report) -> None:
        self._log = log
        self._kind: Kind = kind
        self._report = report
        self._blocks = Blocks(log.file, 0, context.cache, True)
        self._start_from({})
        self._extents: dict[str, Extent] = {}
        self._checkpoints: set[str] = set()
        self._version = 0
        self._commit_id = sums.NO_COMMIT
        log.thorough = True

    def _found(self, severity: Severity, offset: int, text: str) -> None:
        self._report.findings.append(Finding(severity, self._log.file.name, offset, text))

    def run(self) -> None:
        log = self._log
        size = log.file.identity().size
        self._report.size_bytes += size
        first = log.first(size)
        if first is None:
            self._check_end(size)
            return
        self._report.documents += 1
        self._check_name()
        log.take_note(first)
        self._report.frames += 1
        self._blocks.file_id = log.file_id
        for found in log.hop(first.end, first.header.checksum, size):
            log.take_note(found)
            self._report.frames += 1
            try:
                self._check_frame(found)
            except Undecodable as error:
                self._found("damage", found.offset, str(error))
                return
        self._check_end(size)
        self._note_checkpoints()
        self._note_erasures()
        self._report.marks.note_history(self._document, log.dropped_versions)
        if self._version < log.dropped_versions:
            self._found("damage", log.end, LACKS_BASE)

    def _note_checkpoints(self) -> None:
        if all(each.severity not in _HIDING for each in self._report.findings):  # else there may be checkpoints unseen
            self._report.checked.add(self._document)
        for name in checkpoints.names_among(self._parts):
            place = Place(self._log.file.name, self._log.end)
            self._report.checkpoints[name] = None if CHECKPOINT + name in self._checkpoints else (self._document, place)

    def _note_erasures(self) -> None:
        names = {key.removeprefix(ERASED) for key in self._parts if key.startswith(ERASED)}
        if not names <= set(compaction.erased_before(self._log)):
            text = (
                "something is to be erased, and not gone yet: erase it again, or open the store and change the workflow"
            )
            self._found("note", self._log.end, text)

    @property
    def _document(self) -> DocumentId:
        return DocumentId(self._kind, self._log.body.id if self._log.body is not None else "")

    def _check_name(self) -> None:
        body, name = self._log.body, self._log.name
        if body is not None and (body.kind != self._kind or encode_id(body.id) + SUFFIXES[self._kind] != name):
            self._found("damage", 0, f"holds {body.kind} {body.id!r}, whose file has another name")

    def _check_end(self, size: int) -> None:
        log = self._log
        tail = log.tail(size)
        if tail.damaged:
            self._found("damage", log.end, "a frame that was synced is not whole")
        elif tail.torn_bytes:
            self._found("torn tail", log.end, f"{tail.torn_bytes} bytes that belong to no whole frame")
        elif log.last_type != FrameType.SEAL:
            self._found("note", log.end, "is open, or was not closed cleanly; nothing is missing")
        elif log.end != size:
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
