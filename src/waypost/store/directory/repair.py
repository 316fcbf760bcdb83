"""Repairing a store: what is whole is kept, the rest is moved aside into `damaged/`, and nothing is deleted.

Every damage that `check` can name, and what `doctor` finds amiss with files, is mended here or moved out of
the way, one file after the other, under the file's lock. A damaged log is written anew from what `salvage` can
prove, as the next generation of the file; the original stays whole in `damaged/`, with a report beside it. So a
repair may be killed at any point and run again: either a file is still as it was, or it is sound.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Literal

from waypost.codec import frame
from waypost.codec.bodies import FileBody, read_file
from waypost.codec.compression import Undecodable
from waypost.config import Config
from waypost.errors import DocumentDamaged, LockTimeout, StoreNotFound, UnsupportedFormat
from waypost.store.contract import DocumentId, Kind
from waypost.store.directory import check, compaction, lease, loading, restoring
from waypost.store.directory.compaction import Origin
from waypost.store.directory.context import Context
from waypost.store.directory.files import Directory, open_path
from waypost.store.directory.layout import (
    FORMAT_TEXT,
    IGNORE_TEXT,
    SUFFIXES,
    Layout,
    decode_id,
    encode_id,
    new_file,
    replace,
)
from waypost.store.directory.log import Log
from waypost.store.directory.salvage import Kept, KeyRange, Salvage, Span, find_frames, salvage
from waypost.store.directory.state import Mark, Snapshot

Action = Literal["written anew", "cut", "renamed", "moved aside", "made", "closed to others", "left"]
_ASIDE = "damaged"
_FOLDERS: dict[Kind, str] = {"workflow": "workflows", "session": "sessions"}
_NEWER = re.compile(rb"waypost ([2-9]|[1-9][0-9]+)\n")
_NO_LIMIT = 1 << 40  # what there is fits, whatever the configured size of a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """One file that was not as it should be: what was found, what became of it, and where its bytes are now.

    For a log: `kept_version` is the version that its document has afterwards; `newest_version` the newest that left
    a trace in the log, so that those behind the kept one are lost. With `is_exact` the kept version is one that was
    committed; else it is a new one that lacks `lost_parts` (keys whose values are gone) and whatever was in
    `lost_keys` (ranges: from, up to but without). `lost_changes` are the keys that lost commits changed, as far as
    those can still be read in the original. Versions before `history_from` cannot be looked at any more.
    `lost_bytes` are the stretches of the original file in which nothing is whole.
    """

    file: str
    found: str
    action: Action
    original: str | None = None
    kind: Kind | None = None
    id: str | None = None
    kept_version: int | None = None
    newest_version: int | None = None
    history_from: int | None = None
    is_exact: bool = True
    kept_parts: int = 0
    lost_parts: tuple[str, ...] = ()
    lost_keys: tuple[KeyRange, ...] = ()
    lost_changes: tuple[str, ...] = ()
    lost_bytes: tuple[Span, ...] = ()


@dataclass(slots=True)
class RepairReport:
    """What a repair did, or with `dry_run` would do, file by file; empty where there was nothing to mend."""

    location: str
    dry_run: bool
    repaired: list[Repaired] = field(default_factory=list[Repaired])

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left that this release cannot mend."""
        return all(each.action != "left" for each in self.repaired)


def repair(path: str, config: Config, *, dry_run: bool) -> RepairReport:
    """Repair the store at a path; with `dry_run` say what would be done and change nothing.

    Raises StoreNotFound, StoreLeased, LockTimeout, StoreUnavailable, and UnsupportedFormat for a store of a newer
    release.
    """
    root = open_path(path)
    _check_it_is_a_store(root, path)
    layout = Layout(path, root, read_only=dry_run)
    context = Context(layout, config)
    context.limit_bytes = _NO_LIMIT
    report = RepairReport(path, dry_run)
    try:
        if not root.try_lock():
            raise LockTimeout(f"{path} is being repaired by another process", location=path)
        _Repair(layout, context, report).run()
    finally:
        layout.close()
    return report


def _check_it_is_a_store(root: Directory, path: str) -> None:
    marker = root.open("FORMAT") if root.kind("FORMAT") == "file" else None
    if marker is None:
        if root.kind("workflows") is None:
            raise StoreNotFound(f"{path} is not a store: it has neither FORMAT nor workflows", location=path)
        return
    text = marker.read(64, 0)
    if _NEWER.fullmatch(text):
        shown = text.decode("ascii").strip()
        raise UnsupportedFormat(
            f"{path} says that it holds a store of format {shown!r}, which only a newer release can repair; if that "
            f"file alone is damaged, write {FORMAT_TEXT.decode().strip()!r} into {path}/FORMAT",
            location=path,
        )


class _Repair:
    """One run over one store."""

    def __init__(self, layout: Layout, context: Context, report: RepairReport) -> None:
        self._layout = layout
        self._context = context
        self._report = report
        self._dry = report.dry_run

    def run(self) -> None:
        self._mend_lease()
        with self._leased():
            if not self._dry:
                restoring.finish(self._layout)
            self._mend_mode()
            for kind, folder_name in _FOLDERS.items():
                folder = self._folder(folder_name)
                for name in sorted(folder.names()) if folder else []:
                    if folder:
                        self._mend_entry(folder, name, kind)
            self._mend_fixed("FORMAT", FORMAT_TEXT)
            self._mend_fixed(".gitignore", IGNORE_TEXT)
            self._clear_temp()

    @contextmanager
    def _leased(self) -> Generator[None]:
        """Write as this kernel; what is only looked at needs no leave."""
        if self._dry:
            yield
            return
        held = lease.take(self._layout)
        try:
            yield
        finally:
            held.release()

    def _note(self, folder: Directory, name: str, found: str, action: Action, original: str | None = None) -> None:
        shown = f"{folder.path}/{name}".removeprefix(f"{self._layout.path}/")
        self._report.repaired.append(Repaired(file=shown, found=found, action=action, original=original))

    # --- moving aside -------------------------------------------------------------------------

    def _aside(self) -> Directory:
        return self._layout.folder(_ASIDE)

    def _move_aside(self, folder: Directory, name: str, found: str) -> None:
        """Take an entry out of the way, whatever it is."""
        original = None
        if not self._dry:
            aside, number = self._aside(), 1
            while aside.kind(f"{name}.{number}") is not None:
                number += 1
            folder.move(name, aside, f"{name}.{number}")
            aside.sync()
            folder.sync()
            original = f"{_ASIDE}/{name}.{number}"
        self._note(folder, name, found, "moved aside", original)

    def _keep(self, folder: Directory, name: str) -> str:
        """Give a file that is about to be replaced a second name in `damaged`; the name."""
        aside, number = self._aside(), 1
        here = folder.identity(name)
        while not folder.link(name, aside, f"{name}.{number}"):
            there = aside.identity(f"{name}.{number}")
            if there is not None and here is not None and there[:2] == here[:2]:
                break  # a repair that was cut off has kept it already
            number += 1
        aside.sync()
        return f"{name}.{number}"

    # --- what is not a log --------------------------------------------------------------------

    def _mend_mode(self) -> None:
        root = self._layout.root
        if root.mode() & 0o022:
            if not self._dry:
                root.make_private()
                root.sync()
            self._note(root, "", f"others may write to it (mode {root.mode():04o})", "closed to others")

    def _mend_lease(self) -> None:
        root = self._layout.root
        kind = root.kind("lease")
        if kind is None:
            return
        if kind != "file":
            self._move_aside(root, "lease", f"is no file but a {kind}")
            return
        file = root.open("lease")
        if file is not None and lease.parse(file.read(4096, 0)) is None:
            if not file.try_lock():
                raise LockTimeout(f"{file.name} cannot be read, and a living process holds it", file=file.name)
            self._move_aside(root, "lease", "the lease cannot be read")

    def _folder(self, name: str) -> Directory | None:
        """A directory of logs; made where it has to be there and is not."""
        root = self._layout.root
        kind = root.kind(name)
        if kind == "link":
            self._note(root, name, "is a link: nothing in a store may be one. Put the directory in its place", "left")
            return None
        if kind == "directory":
            return self._layout.folder(name)
        if kind is not None:
            self._move_aside(root, name, "is no directory")
        elif name == _FOLDERS["workflow"]:
            self._note(root, name, "is missing", "made")
        else:
            return None
        return None if self._dry else self._layout.folder(name)

    def _mend_fixed(self, name: str, content: bytes) -> None:
        root = self._layout.root
        kind = root.kind(name)
        file = root.open(name) if kind == "file" else None
        if file is not None and file.read(len(content) + 1, 0) == content:
            return
        if file is not None:
            original = None if self._dry else f"{_ASIDE}/{self._keep(root, name)}"
            self._note(root, name, "does not say what it should", "written anew", original)
        elif kind is not None:
            self._move_aside(root, name, "is no file")
        else:
            self._note(root, name, "is missing", "made")
        if not self._dry:
            replace(self._layout, root, name, content)

    def _clear_temp(self) -> None:
        if self._layout.root.kind("temp") != "directory":
            return
        folder = self._layout.folder("temp")
        for name in sorted(folder.names()):
            if name.endswith(".torn"):
                continue
            here, held = folder.identity(name), self._layout.root.identity("lease")
            if not self._dry and here is not None and held is not None and here[:2] == held[:2]:
                folder.remove(name)  # only a second name of the lease, whose maker died before it took this one away
                continue
            file = folder.open(name) if folder.kind(name) == "file" else None
            if file is not None and not file.try_lock():
                continue  # its writer is alive
            self._move_aside(folder, name, "was being written by a process that died")

    # --- logs ---------------------------------------------------------------------------------

    def _mend_entry(self, folder: Directory, name: str, kind: Kind) -> None:
        if not name.endswith(SUFFIXES[kind]):
            self._move_aside(folder, name, "is no file of a store")
        elif folder.kind(name) != "file":
            self._move_aside(folder, name, f"is no file but a {folder.kind(name)}")
        else:
            self._mend_log(folder, name, kind)

    def _mend_log(self, folder: Directory, name: str, kind: Kind) -> None:
        while True:
            log = self._context.open_log(folder, name, write=False)
            if log is None:
                return
            identity = log.lock()
            if identity is not None:
                break  # else somebody has replaced it meanwhile
        try:
            findings = check.check_log(folder, name, kind, self._context).findings
            texts = [found.text for found in findings if found.severity == "damage"]
            torn = [found.text for found in findings if found.severity == "torn tail"]
            if texts or torn:
                self._mend_damaged(log, kind, identity.size, "; ".join(texts or torn), torn_only=not texts)
        except UnsupportedFormat as error:
            self._note(folder, name, str(error), "left")
        finally:
            log.file.unlock()

    def _mend_damaged(self, log: Log, kind: Kind, size: int, found: str, *, torn_only: bool) -> None:
        try:
            first = log.first(size)
        except DocumentDamaged:
            first = None
        body = log.body if first is not None else None
        if body is not None and (body.kind, encode_id(body.id) + SUFFIXES[kind]) != (kind, log.name):
            self._mend_name(log, body, found)
        elif first is not None and torn_only:
            log.take_note(first)
            log.thorough = True
            for each in log.hop(first.end, first.header.checksum, size):
                log.take_note(each)
            self._cut_tail(log, size, found)
        elif first is None and not find_frames(log, size):
            _check_it_is_not_newer(log)
            self._move_aside(log.folder, log.name, f"{found}; no frame in it is whole")
        else:
            self._salvage(log, kind, size, body, found)

    def _mend_name(self, log: Log, body: FileBody, found: str) -> None:
        """Give a log the name of its document, where that is free; then look at what it holds."""
        kinds: list[Kind] = [each for each in SUFFIXES if each == body.kind]
        kind = kinds[0] if kinds else None
        if kind is None:
            self._move_aside(log.folder, log.name, found)
            return
        name = loading.file_name(DocumentId(kind, body.id))
        folder = log.folder
        if not self._dry or self._layout.root.kind(_FOLDERS[kind]) == "directory":
            folder = self._layout.documents(kind)
        there, here = folder.identity(name), log.folder.identity(log.name)
        is_same = there is not None and here is not None and there[:2] == here[:2]
        if there is not None and not is_same:
            self._move_aside(log.folder, log.name, f"{found}, and that one is there already")
            return
        if not self._dry:
            log.folder.link(log.name, folder, name)
            folder.sync()
            log.folder.remove(log.name)
            log.folder.sync()
        self._note(log.folder, log.name, f"{found}: it is {_FOLDERS[kind]}/{name} now", "renamed")
        if not self._dry:
            log.file.unlock()
            self._mend_log(folder, name, kind)

    def _cut_tail(self, log: Log, size: int, found: str) -> None:
        """Take the bytes behind the last whole frame out of the log, and keep them."""
        original = None
        if not self._dry:
            tail = log.file.read(size - log.end, log.end).rstrip(b"\0")
            kept, number = f"{log.name}.{log.end}.torn", 1
            while (there := self._aside().open(kept)) is not None and there.read(len(tail) + 1, 0) != tail:
                number += 1
                kept = f"{log.name}.{log.end}.torn.{number}"
            replace(self._layout, self._aside(), kept, tail)
            writable = self._context.open_log(log.folder, log.name, write=True)
            assert writable is not None
            writable.end = log.end
            writable.trim()
            writable.file.sync_all()
            original = f"{_ASIDE}/{kept}"
        self._note(log.folder, log.name, found, "cut", original)

    def _salvage(self, log: Log, kind: Kind, size: int, body: FileBody | None, found: str) -> None:
        identifier = body.id if body is not None else _id_of(log)
        if identifier is None:
            self._move_aside(log.folder, log.name, f"{found}; whose log it is cannot be told")
            return
        document = DocumentId(kind, identifier)
        result = salvage(log, loading.blocks_of(log, self._context), document, body, size)
        entry = _described(log, document, result, found, self._layout.path)
        original: str | None = None
        if not self._dry:
            original = self._replace(log, document, body, result.kept, entry)
        self._report.repaired.append(dataclasses.replace(entry, original=original))

    def _replace(
        self, log: Log, document: DocumentId, body: FileBody | None, kept: Kept | None, entry: Repaired
    ) -> str:
        """Put the next generation of a log in its place, and the old one aside with its report."""
        temp = self._layout.folder("temp")
        temporary, file = new_file(self._layout)
        try:
            if kept is not None:
                log.body = body or loading.first_body(document)
                origin = Origin(
                    log,
                    kept.view,
                    0,
                    0,
                    Snapshot(loading.blocks_of(log, self._context)),
                    kept.operations,
                    Mark(0, 0, 0, 0),
                )
                out = compaction.rewrite(origin, self._context, file, kept.past, kept.history)
                out.put(frame.seal_draft(), kept.view.standing)
                file.sync_all()
            original = self._keep(log.folder, log.name)
            told = json.dumps(
                asdict(dataclasses.replace(entry, original=f"{_ASIDE}/{original}")), indent=2, sort_keys=True
            )
            replace(self._layout, self._aside(), f"{original}.json", told.encode() + b"\n")
            if kept is not None:
                temp.move(temporary, log.folder, log.name)
            else:
                log.folder.remove(log.name)  # its other name is the one in `damaged`
            log.folder.sync()
        finally:
            temp.remove(temporary)
        return f"{_ASIDE}/{original}"


def _check_it_is_not_newer(log: Log) -> None:
    head = log.file.read(len(frame.MAGIC), 0)
    if frame.is_newer(head):
        raise UnsupportedFormat(f"{log.file.name} is written in a newer format ({head[3]})", file=log.file.name)


def _id_of(log: Log) -> str | None:
    """The id of the document whose log has lost its first frame: by its name, or by a body that fits its name."""
    stem = log.name.rpartition(".")[0]
    identifier = decode_id(stem)
    if identifier is not None:
        return identifier
    header = frame.read_header(log.file.read(frame.HEADER_BYTES, 0))
    length = header.stored if header is not None else 0
    try:
        body = read_file(log.file.read(min(length, 1 << 20), frame.HEADER_BYTES))
    except (Undecodable, UnsupportedFormat):
        return None
    return body.id if encode_id(body.id) == stem else None


def _described(log: Log, document: DocumentId, result: Salvage, found: str, root: str) -> Repaired:
    kept = result.kept
    return Repaired(
        file=log.file.name.removeprefix(f"{root}/"),
        found=found,
        action="moved aside" if kept is None else "written anew",
        kind=document.kind,
        id=document.id,
        kept_version=None if kept is None else kept.view.version,
        newest_version=result.newest,
        history_from=None if kept is None else kept.history.cut,
        is_exact=result.is_exact,
        kept_parts=0 if kept is None else len(kept.view.overlay),
        lost_parts=tuple(result.lost_parts),
        lost_keys=tuple(result.lost_keys),
        lost_changes=tuple(result.lost_changes),
        lost_bytes=tuple(result.lost_bytes),
    )
