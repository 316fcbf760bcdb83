"""Repairing a store: what is whole is kept, the rest is moved aside into `damaged/`, and nothing is deleted.

Every damage that `check` can name, and what `doctor` finds amiss with files, is mended here or moved out of
the way, one file after the other, under the file's lock. A damaged log is written anew from what `salvage` can
prove, as the next generation of the file; the original stays whole in `damaged/`, with a report beside it. So a
repair may be killed at any point and run again: either a file is still as it was, or it is sound.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

from waypost.codec import frame
from waypost.codec.bodies import FileBody, read_file
from waypost.codec.compression import Undecodable
from waypost.config import Config
from waypost.errors import DocumentDamaged, LockTimeout, StoreNotFound, UnsupportedFormat
from waypost.store.directory import compaction, forgotten, lease, loading, register, restoring
from waypost.store.directory.checkpoints import ARRIVING
from waypost.store.directory.compaction import Origin
from waypost.store.directory.context import Context
from waypost.store.directory.files import Directory, File, open_path
from waypost.store.directory.forgotten import Told
from waypost.store.directory.layout import (
    FOLDERS,
    FORMAT_TEXT,
    IGNORE_TEXT,
    SUFFIXES,
    WORKED_IN,
    Layout,
    decode_id,
    encode_id,
    file_name,
    replace,
)
from waypost.store.directory.log import Log
from waypost.store.directory.log_check import check_log
from waypost.store.directory.mending import ASIDE, LEFT_BEHIND, Mender, Repaired, RepairReport
from waypost.store.directory.recollecting import CheckpointMender
from waypost.store.directory.salvage import Kept, Salvage, find_frames, salvage
from waypost.store.directory.state import Mark, Snapshot
from waypost.store.directory.transactions import TransactionMender
from waypost.store.kinds import DocumentId, Kind

_IS_LINK = "is a link: nothing in a store may be one. Put the directory in its place"
_NEWER = re.compile(rb"waypost ([2-9]|[1-9][0-9]+)\n")
_NEEDED = (ASIDE, "temp", "transactions")
_NO_LIMIT = 1 << 40  # what there is fits, whatever the configured size of a file


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


class _Repair(Mender):
    """One run over one store."""

    def run(self) -> None:
        self._salvaged: dict[DocumentId, Told | None] = {}
        self._mend_lease()
        is_held = self.layout.root.kind("lease") is not None
        if not is_held and not self._clear_ways():  # before the lease is taken, which is made in `temp`
            return
        with self._leased():
            if is_held and not self._clear_ways():
                return
            self._finish_restore()
            self._mend_mode()
            self._decisions = TransactionMender(self.layout, self.context, self.report)
            self._decisions.move_unreadable_aside()
            for kind, folder_name in FOLDERS.items():
                folder = self._folder(folder_name)
                for name in sorted(folder.names()) if folder else []:
                    if folder:
                        self._mend_entry(folder, name, kind)
            for arrived in self._decisions.carry_out():
                folder = self.layout.documents(arrived.kind)
                if folder.kind(file_name(arrived)) is not None:
                    self._mend_entry(folder, file_name(arrived), arrived.kind)
            self._mend_fixed("FORMAT", FORMAT_TEXT)
            self._mend_fixed(".gitignore", IGNORE_TEXT)
            self._checkpoints = CheckpointMender(self.layout, self.context, self.report, self._salvaged)
            self._checkpoints.mend()
            self._decisions.mend_torn()  # behind all else, since damage hides what is torn
            self._clear_temp()
            self._mend_index()

    def _mend_index(self) -> None:
        """What is derived is derived again, which is no repair to tell of."""
        if not self.is_dry and register.finding(self.layout) is not None:
            register.refresh(self.context)

    def _finish_restore(self) -> None:
        """Carry out a restore that was cut off; of one whose plan is gone, what is left goes aside."""
        try:
            if self.is_dry:
                restoring.check_plan(self.layout)
            else:
                restoring.finish(self.layout)
        except DocumentDamaged as error:
            self.move_aside(self.layout.root, restoring.DECIDED, str(error))

    @contextmanager
    def _leased(self) -> Generator[None]:
        """Write as this kernel; what is only looked at needs no leave."""
        if self.is_dry:
            yield
            return
        held = lease.take(self.layout)
        try:
            yield
        finally:
            held.release()

    # --- what is not a log --------------------------------------------------------------------

    def _clear_ways(self) -> bool:
        """Move aside what stands where a folder does; whether there is all that a repair works with."""
        root, is_clear = self.layout.root, True
        for name in WORKED_IN:
            kind = root.kind(name)
            if kind == "link":
                self.note(root, name, _IS_LINK, "left")
            elif kind not in (None, "directory"):
                self._clear_way(name)
            if name in _NEEDED:
                is_clear &= root.kind(name) in (None, "directory")
        return is_clear

    def _clear_way(self, name: str) -> None:
        root, number = self.layout.root, 1
        if name != ASIDE or self.is_dry:
            self.move_aside(root, name, "is no directory")
            return
        while root.kind(f"{name}.{number}") is not None:
            number += 1
        root.move(name, root, f"{name}.{number}")
        root.sync()
        self.note(root, name, "is no directory", "moved aside", f"{name}.{number}")

    def _mend_mode(self) -> None:
        root = self.layout.root
        if root.mode() & 0o022:
            if not self.is_dry:
                root.make_private()
                root.sync()
            self.note(root, "", f"others may write to it (mode {root.mode():04o})", "closed to others")

    def _mend_lease(self) -> None:
        root = self.layout.root
        kind = root.kind("lease")
        if kind is None:
            return
        if kind != "file":
            self.move_aside(root, "lease", f"is no file but a {kind}")
            return
        file = root.open("lease")
        if file is not None and lease.parse(file.read(4096, 0)) is None:
            if not file.try_lock():
                raise LockTimeout(f"{file.name} cannot be read, and a living process holds it", file=file.name)
            self.move_aside(root, "lease", "the lease cannot be read")

    def _folder(self, name: str) -> Directory | None:
        """A directory of logs; made where it has to be there and is not."""
        root = self.layout.root
        kind = root.kind(name)
        if kind == "link":
            self.note(root, name, _IS_LINK, "left")
            return None
        if kind == "directory":
            return self.layout.folder(name)
        if kind is not None:
            self.move_aside(root, name, "is no directory")
        elif name == FOLDERS["workflow"]:
            self.note(root, name, "is missing", "made")
        else:
            return None
        return None if self.is_dry else self.layout.folder(name)

    def _mend_fixed(self, name: str, content: bytes) -> None:
        root = self.layout.root
        kind = root.kind(name)
        file = root.open(name) if kind == "file" else None
        if file is not None and file.read(len(content) + 1, 0) == content:
            return
        if file is not None:
            original = None if self.is_dry else f"{ASIDE}/{self.keep(root, name)}"
            self.note(root, name, "does not say what it should", "written anew", original)
        elif kind is not None:
            self.move_aside(root, name, "is no file")
        else:
            self.note(root, name, "is missing", "made")
        if not self.is_dry:
            replace(self.layout, root, name, content)

    def _clear_temp(self) -> None:
        if self.layout.root.kind("temp") != "directory":
            return
        folder = self.layout.folder("temp")
        for name in sorted(folder.names()):
            if name.endswith(".torn"):
                continue
            here, held = folder.identity(name), self.layout.root.identity("lease")
            if not self.is_dry and here is not None and held is not None and here[:2] == held[:2]:
                folder.remove(name)  # only a second name of the lease, whose maker died before it took this one away
                continue
            kind = folder.kind(name)
            if kind == "file" and name.endswith(ARRIVING):
                self._checkpoints.clear_arrival(folder, name)
                continue
            opened = folder.open(name) if kind == "file" else None
            opened = folder.open_directory(name) if kind == "directory" else opened
            if opened is not None and not opened.try_lock():
                continue  # its writer is alive
            if not self.is_dry and name in self.context.decisions.folders():
                continue  # its writer has decided on what is in it since decisions were carried out
            self.move_aside(folder, name, LEFT_BEHIND)

    # --- logs ---------------------------------------------------------------------------------

    def _mend_entry(self, folder: Directory, name: str, kind: Kind) -> None:
        if not name.endswith(SUFFIXES[kind]):
            self.move_aside(folder, name, "is no file of a store")
        elif folder.kind(name) != "file":
            self.move_aside(folder, name, f"is no file but a {folder.kind(name)}")
        else:
            self._mend_log(folder, name, kind)

    def _mend_log(self, folder: Directory, name: str, kind: Kind) -> None:
        while True:
            log = self.context.open_log(folder, name, write=False)
            if log is None:
                return
            identity = log.lock()
            if identity is not None:
                break  # else somebody has replaced it meanwhile
        try:
            checked = check_log(folder, name, kind, self.context)
            if checked.refused:
                raise checked.refused[0]  # what cannot be read here, or only now, is not known to be damaged
            texts = [found.text for found in checked.findings if found.severity == "damage"]
            torn = [found.text for found in checked.findings if found.severity == "torn tail"]
            if texts or torn:
                self._mend_damaged(log, kind, identity.size, "; ".join(texts or torn), torn_only=not texts)
        except UnsupportedFormat as error:
            self.note(folder, name, str(error), "left")
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
            self.move_aside(log.folder, log.name, f"{found}; no frame in it is whole")
        else:
            self._salvage(log, kind, size, body, found)

    def _mend_name(self, log: Log, body: FileBody, found: str) -> None:
        """Give a log the name of its document, where that is free; then look at what it holds."""
        kinds: list[Kind] = [each for each in SUFFIXES if each == body.kind]
        kind = kinds[0] if kinds else None
        if kind is None:
            self.move_aside(log.folder, log.name, found)
            return
        name = loading.file_name(DocumentId(kind, body.id))
        folder = log.folder
        if not self.is_dry or self.layout.root.kind(FOLDERS[kind]) == "directory":
            folder = self.layout.documents(kind)
        there, here = folder.identity(name), log.folder.identity(log.name)
        is_same = there is not None and here is not None and there[:2] == here[:2]
        if there is not None and not is_same:
            self.move_aside(log.folder, log.name, f"{found}, and that one is there already")
            return
        if not self.is_dry:
            log.folder.link(log.name, folder, name)
            folder.sync()
            log.folder.remove(log.name)
            log.folder.sync()
        self.note(log.folder, log.name, f"{found}: it is {FOLDERS[kind]}/{name} now", "renamed")
        if not self.is_dry:
            log.file.unlock()
            self._mend_log(folder, name, kind)

    def _cut_tail(self, log: Log, size: int, found: str) -> None:
        """Take the bytes behind the last whole frame out of the log, and keep them."""
        original = None
        if not self.is_dry:
            tail = log.file.read(size - log.end, log.end).rstrip(b"\0")
            kept, number = f"{log.name}.{log.end}.torn", 1
            while (there := self.aside().open(kept)) is not None and there.read(len(tail) + 1, 0) != tail:
                number += 1
                kept = f"{log.name}.{log.end}.torn.{number}"
            replace(self.layout, self.aside(), kept, tail)
            writable = self.context.open_log(log.folder, log.name, write=True)
            assert writable is not None
            writable.end = log.end
            writable.trim()
            writable.file.sync_all()
            original = f"{ASIDE}/{kept}"
        self.note(log.folder, log.name, found, "cut", original)

    def _salvage(self, log: Log, kind: Kind, size: int, body: FileBody | None, found: str) -> None:
        identifier = body.id if body is not None else _id_of(log)
        if identifier is None:
            self.move_aside(log.folder, log.name, f"{found}; whose log it is cannot be told")
            return
        document = DocumentId(kind, identifier)
        source = self._decisions.with_decided(log, document)
        if source is not log:
            size = source.file.identity().size
        result = salvage(source, loading.blocks_of(source, self.context), document, body, size)
        kept = result.kept
        loss = None if kept is None else forgotten.loss_of(result, kept)
        self._salvaged[document] = forgotten.told_by_kept(self.layout, kept, loss) if kept and loss else None
        entry = _described(log, document, result, found, self.layout.path)
        source.body = body or loading.first_body(document)
        if kept is None:
            self.put_in_place(log, entry, None)
        else:
            gone = [] if loss is None else sorted(loss.removed)
            self.put_in_place(log, entry, partial(_write_kept, source, kept, self.context), removed_checkpoints=gone)


def _write_kept(log: Log, kept: Kept, context: Context, file: File) -> None:
    """Write what is kept of a log as its next generation."""
    base = Snapshot(loading.blocks_of(log, context))
    origin = Origin(log, kept.view, 0, 0, base, kept.operations, Mark(0, 0, 0, 0))
    out = compaction.rewrite(origin, context, file, kept.past, kept.history)
    out.put(frame.seal_draft(), kept.view.standing)


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
