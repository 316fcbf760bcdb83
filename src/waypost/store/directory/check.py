"""Verifying a store: every byte of every file against what the format says about it.

Nothing is changed. Each log is read from its first frame to its last byte (`log_check`), each checkpoint with those
that it stands on, and what logs and files say of each other is compared. The same function stands at the end of every
crash test.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import NamedTuple

from waypost.codec.bodies import DecisionBody
from waypost.errors import WaypostError
from waypost.store.directory import (
    checkpoints,
    decisions,
    forgotten,
    lease,
    participants,
    register,
    spooled,
)
from waypost.store.directory.context import Context
from waypost.store.directory.files import Directory, File
from waypost.store.directory.forgotten import Unknown
from waypost.store.directory.layout import (
    FOLDERS,
    FORMAT_TEXT,
    IGNORE_TEXT,
    SUFFIXES,
    WORKED_IN,
    Layout,
    document_id,
    file_name,
)
from waypost.store.directory.log_check import HIDING, Report, check_log
from waypost.store.directory.participants import Torn
from waypost.store.kinds import DocumentId, Kind
from waypost.store.reports import Finding, Severity

_AT_A_TIME = 256


class _Kept(NamedTuple):
    """What was seen of the files of checkpoints: those that are whole, those that their documents do not speak of, and
    documents of such that have no log, or none that could be checked.
    """

    found: set[str]
    unknown: dict[DocumentId, list[Unknown]]
    unchecked: set[DocumentId]


def verify(layout: Layout, context: Context) -> Report:
    """Check the whole store. Raises only when the directory itself cannot be read."""
    report = Report(layout.path)
    _check_fixed_files(layout, report)
    are_there = _check_folders(layout, report)
    tasks: list[tuple[Directory, str, Kind]] = []
    for kind, suffix in SUFFIXES.items():
        folder = _existing(layout, FOLDERS[kind])
        for name in sorted(folder.names()) if folder else []:
            if folder and name.endswith(suffix):
                tasks.append((folder, name, kind))
            else:
                report.findings.append(Finding("damage", _shown(layout, kind, name), None, "is no file of a store"))
    check_live = partial(check_log, alone=False)
    with context.new_pool() as pool:
        # some at a time, since a hundred thousand that wait would take more memory than they do
        for start in range(0, len(tasks), _AT_A_TIME):
            some = [pool.submit(check_live, *task, context) for task in tasks[start : start + _AT_A_TIME]]
            for checked in some:
                report.add(checked.result())
    _check_transactions(layout, report, context)
    _check_participants(report, context)
    if are_there:
        _check_checkpoints(layout, report, context)
    _check_temp(layout, report, context)
    _check_spool(layout, report)
    amiss = register.finding(layout) if are_there else None
    if amiss is not None:
        text = f"{amiss}; it is derived, and written anew when the store is closed"
        report.findings.append(Finding("note", f"{layout.path}/{register.NAME}", None, text))
    return report


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
    if any(found.severity in HIDING for found in report.findings):
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


def _check_transactions(layout: Layout, report: Report, context: Context) -> None:
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
            _check_arriving(shown, body, report, context)


def _check_arriving(shown: str, decision: DecisionBody, report: Report, context: Context) -> None:
    """The logs that a decision lets arrive: those that have their place already were checked there."""
    for each in decision.participants:
        try:
            pieces = context.decisions.pieces_for(document_id(each.kind, each.id)) if each.arriving else []
        except WaypostError as error:
            report.cannot_read(shown, error)
            continue
        for whole in (piece.frames for piece in pieces if isinstance(piece.frames, decisions.Whole)):
            report.add(check_log(whole.folder, whole.name, document_id(each.kind, each.id).kind, context, alone=False))


def _shown(layout: Layout, kind: Kind, name: str) -> str:
    return f"{layout.path}/{kind}s/{name}"


def _existing(layout: Layout, name: str) -> Directory | None:
    return layout.root.open_directory(name) if layout.root.kind(name) == "directory" else None


def _check_fixed_files(layout: Layout, report: Report) -> None:
    for name, content in (("FORMAT", FORMAT_TEXT), (".gitignore", IGNORE_TEXT)):
        file = _file(layout, name)
        if file is None or file.read(len(content) + 1, 0) != content:
            report.findings.append(Finding("damage", f"{layout.path}/{name}", 0, "does not say what it should"))
    if layout.root.kind("lease") not in ("file", None):
        report.findings.append(Finding("damage", f"{layout.path}/lease", None, "is no file"))
    file = _file(layout, "lease")
    if file is not None:
        holder = lease.parse(file.read(4096, 0))
        if holder is None:
            report.findings.append(Finding("damage", file.name, 0, "the lease cannot be read"))
        else:
            report.findings.append(Finding("note", file.name, None, f"in use by {holder.host} since {holder.since}"))
    if layout.root.kind("workflows") is None:
        report.findings.append(Finding("damage", f"{layout.path}/workflows", None, "is missing"))


def _file(layout: Layout, name: str) -> File | None:
    """A file of the store's own directory; None where something else has its name, which is told and not opened."""
    return layout.root.open(name) if layout.root.kind(name) == "file" else None


def _check_folders(layout: Layout, report: Report) -> bool:
    """Whether nothing else stands where the folders do: without them logs and files are not held against each other."""
    kinds = {name: layout.root.kind(name) for name in (*FOLDERS.values(), checkpoints.FOLDER, *WORKED_IN)}
    wrong = [name for name, kind in kinds.items() if kind not in (None, "directory")]
    for name in wrong:
        text = f"is no directory but a {kinds[name]}"
        report.findings.append(Finding("damage", f"{layout.path}/{name}", None, text))
    return not wrong


def _check_temp(layout: Layout, report: Report, context: Context) -> None:
    folder = _existing(layout, "temp")
    try:
        decided = context.decisions.folders()
    except WaypostError:
        decided = set[str]()  # it is told of already
    for name in sorted(folder.names()) if folder else []:
        shown = f"{layout.path}/temp/{name}"
        if name.endswith(".torn"):
            report.findings.append(Finding("note", shown, None, "bytes of a torn tail, moved aside"))
        elif not name.endswith(checkpoints.ARRIVING) and name not in decided:
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
