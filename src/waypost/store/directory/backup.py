"""Backups: a copy of a store that is in use, each document at one of its commits and each transaction whole, checked
before it has its name.

A backup is a directory store itself, closed cleanly, with a manifest beside its `FORMAT` that says what is in it.
What lies below the end of a log never changes, so logs are copied without a lock, however busy they are. The copy is
made under another name beside its own, synced, read back and verified to its last byte, and only then renamed: a
backup that has its name is whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from itertools import chain
from typing import NamedTuple

import msgspec

from waypost import clock
from waypost.codec import frame
from waypost.codec.bodies import JointMark
from waypost.codec.frame import FrameType, Place, Standing
from waypost.errors import DocumentDamaged, InvalidInput, LockTimeout, StoreError, StoreUnavailable, WaypostError
from waypost.store.copies import BackedUp, BackedUpFile, Backup
from waypost.store.directory import check, checkpoints, loading, log_check, register
from waypost.store.directory.context import Context
from waypost.store.directory.decisions import missing_from
from waypost.store.directory.files import Directory, File, Identity, lies_in, make_path, open_path
from waypost.store.directory.layout import (
    FOLDERS,
    FORMAT_TEXT,
    IGNORE_TEXT,
    ON_DEMAND,
    SUFFIXES,
    Layout,
    decode_id,
    document_id,
    file_name,
)
from waypost.store.directory.log import Frame, Log
from waypost.store.directory.participants import mark_of
from waypost.store.kinds import DocumentId, Kind
from waypost.store.values import ContentLost

MANIFEST = "backup.json"
_PIECE = 1 << 20
_TRIES = 100
_COPIES = 8


class Point(NamedTuple):
    """A commit of a document, as a place in its log: all before `end` is copied. `link` and `base` are those of the
    frame that may follow.
    """

    document: DocumentId
    log: Log
    end: int
    link: int
    base: int
    standing: Standing
    is_sealed: bool


def make(layout: Layout, context: Context, path: str, erase_due: Callable[[], None]) -> Backup:
    """Copy a store to a path where nothing is yet, durably. `erase_due` carries out what is decided to be erased, which
    no copy holds.

    Raises InvalidInput when something is there already or the path lies in the store, DocumentDamaged, LockTimeout,
    StoreUnavailable.
    """
    for _ in range(_COPIES):
        erase_due()
        with suppress(ContentLost):  # others have decided on more meanwhile
            return write(layout, context, path)
    raise StoreUnavailable(
        f"{layout.path}: something is to be erased and not gone yet, each time that it was copied: erase it again, or "
        "back it up later",
        location=layout.path,
    )


def write(layout: Layout, context: Context, path: str) -> Backup:
    """The same once. Raises ContentLost where something is to be erased."""
    path = os.path.abspath(path)
    above, name = os.path.split(path)
    if lies_in(path, layout.path):
        raise InvalidInput(f"{path} lies in the store that is to be backed up", path=path)
    make_path(above)
    parent = open_path(above)
    if parent.kind(name) is not None:
        raise InvalidInput(f"{path} is there already: a backup is never written over anything", path=path)
    partial = f".{name}.{os.urandom(8).hex()}.partial"
    parent.make_directory(partial)
    naming = False
    try:
        backup = _fill(parent, partial, layout, context, path)
        naming = True
        parent.move(partial, parent, name)
        parent.sync()
    except BaseException as error:
        try:
            if naming and parent.kind(partial) is None:
                parent.move(name, parent, partial)  # first of all, so that nobody takes what is left for a backup
            remove_tree(parent, partial)
        except StoreError:
            if naming and isinstance(error, WaypostError):
                error.details.setdefault("outcome", "unknown")
        raise
    return backup


def points(layout: Layout, context: Context) -> list[Point]:
    """Which commit of each document is copied: the newest one when its turn comes, so that nobody has to wait; then, as
    far as transactions ask for it, a newer one, so that each of them is copied with all of its commits, or not at all.

    No more than that: a transaction that a point lies behind of was decided before the point was noted, and so were
    those that the points lie behind of which are moved on for it. Raises LockTimeout where history goes too fast.
    """
    for _ in range(_TRIES):
        began_us = clock.now_us()
        found: dict[DocumentId, Point] = {}
        for kind, names in _logs(layout, context).items():
            for name in sorted(names):
                point = _point(kind, name, context)
                if point is not None:
                    found[point.document] = point
        if _move_on(found, context, began_us):
            return [found[document] for document in sorted(found)]
    raise LockTimeout(f"{layout.path}: history was dropped again and again while it was copied", file=layout.path)


def _logs(layout: Layout, context: Context) -> dict[Kind, set[str]]:
    """The names of all logs, also of those that were decided and are still to be made."""
    logs: dict[Kind, set[str]] = {}
    for kind, folder_name in FOLDERS.items():
        folder = layout.root.open_directory(folder_name)
        logs[kind] = {name for name in (folder.names() if folder else []) if name.endswith(SUFFIXES[kind])}
    for body in context.decisions.pending().values():
        for each in body.participants:
            document = document_id(each.kind, each.id)
            logs[document.kind].add(file_name(document))
    return logs


def _point(kind: Kind, name: str, context: Context) -> Point | None:
    folder = context.layout.documents(kind)
    for _ in range(_TRIES):
        log = context.open_log(folder, name, write=False)
        identifier = decode_id(name.removesuffix(SUFFIXES[kind]))
        if identifier is None and log is not None:
            log.first(log.file.identity().size)
            identifier = log.body.id if log.body is not None else ""
        document = DocumentId(kind, identifier or "")
        # before the log is looked at: what is carried out by then is wholly in the log
        pieces = context.decisions.pieces_for(document)
        if log is None and not pieces and folder.identity(name) is not None:
            continue  # it got its place in between
        if log is not None and not _read_to_its_end(log, document, context):
            continue  # it was compacted meanwhile, and this is the old file
        missing = missing_from(log, pieces)
        if missing:
            if not all(context.decisions.confirm(piece.transaction_id) for piece in missing):
                continue  # it was carried out meanwhile
            log = context.open_log(folder, name, write=False, decided=missing)
        if log is None:
            return None
        standing = loading.read(log, context, document).standing
        if not standing.version:
            return None
        return Point(document, log, log.end, log.link, log.base, standing, log.last_type == FrameType.SEAL)
    raise LockTimeout(f"{folder.path}/{name} was replaced again and again while it was to be copied", file=name)


def _read_to_its_end(log: Log, document: DocumentId, context: Context) -> bool:
    """Find the end of a log, and make sure of it; False when its name stands for another file by now."""
    loading.read(log, context, document)
    identity = log.lock()
    if identity is None:
        return False
    try:
        if log.end:
            log.news(identity.size)
    finally:
        log.file.unlock()
    if context.durable and log.end:
        log.sync_to(log.data_end)  # nothing is passed on that the store itself could still lose
    return True


def _move_on(found: dict[DocumentId, Point], context: Context, began_us: int) -> bool:
    """Move points on until each transaction lies before all of its points or behind; False where history that was made
    meanwhile has gone already, so that nobody can tell.
    """
    looked_at: dict[DocumentId, int] = {}
    waiting = list(found)
    while waiting:
        document = waiting.pop()
        point, start = found[document], looked_at.get(document, 0)
        looked_at[document] = point.end
        for each in _frames(point):
            if _took_history_since(began_us, each, point.log):
                return False
            mark = mark_of(each) if each.offset >= start else None
            waiting += _moved_on(found, mark, context) if mark is not None else []
    return True


def _took_history_since(began_us: int, found: Frame, log: Log) -> bool:
    """Whether a frame is the snapshot that takes the place of dropped versions, of which some were made since."""
    header = found.header
    is_in_their_place = header.type == FrameType.SNAPSHOT and header.version == log.dropped_versions > 0
    return is_in_their_place and header.time_us >= began_us


def _moved_on(found: dict[DocumentId, Point], mark: JointMark, context: Context) -> list[DocumentId]:
    """The documents whose points were moved on behind their commit of a transaction."""
    moved: list[DocumentId] = []
    for each in mark.participants:
        document = document_id(each.kind, each.id)
        if document not in found or found[document].standing.version < each.version:
            newer = _point_at(document, each.version, context)
            if newer is not None:
                found[document] = newer
                moved.append(document)
    return moved


def _frames(point: Point) -> Iterator[Frame]:
    first = point.log.first(point.end)
    return iter(()) if first is None else point.log.hop(first.end, first.header.checksum, point.end)


def _point_at(document: DocumentId, version: int, context: Context) -> Point | None:
    """The point behind the commit of a version; the newest one where that commit is not kept."""
    newest = _point(document.kind, file_name(document), context)
    if newest is None:
        return None
    base = 0
    for found in _frames(newest):
        if found.header.type == FrameType.SNAPSHOT:
            base = found.offset
        if found.header.type == FrameType.COMMIT and found.header.version == version:
            return newest._replace(
                end=found.end, link=found.header.checksum, base=base, standing=found.standing, is_sealed=False
            )
    return newest


def _fill(parent: Directory, partial: str, layout: Layout, context: Context, path: str) -> Backup:
    root = _opened(parent, partial)
    folders: dict[Kind, Directory] = {}
    files = _CheckpointFiles(root, context)
    files.take_all()
    found = points(layout, context)
    needed = {point.document.kind for point in found}
    for kind, name in FOLDERS.items():
        if kind not in ON_DEMAND or kind in needed:
            root.make_directory(name)
            folders[kind] = _opened(root, name)
    root.make_directory("temp")
    documents = tuple(_copied(point, folders[point.document.kind]) for point in found)
    for folder in folders.values():
        folder.sync()
    made = Context(_layout_of(parent, partial, root), context.config)
    left = _left(made, {point.document for point in found})
    kept = _keep_checkpoints(files, made, documents, left)
    backup = Backup(path, datetime.now(UTC).isoformat(timespec="seconds"), documents, kept)
    _put(root, ".gitignore", IGNORE_TEXT)
    _put(root, MANIFEST, msgspec.json.format(msgspec.json.encode(backup)) + b"\n")
    _put(root, "FORMAT", FORMAT_TEXT)
    root.sync()
    _verify(_layout_of(parent, partial, root), context, len(documents), left)
    return backup


def _layout_of(parent: Directory, partial: str, root: Directory) -> Layout:
    return Layout(f"{parent.path}/{partial}", root, read_only=True)


class _CheckpointFiles:
    """The files of checkpoints in a backup: each comes with those that it stands on, as they are at that moment."""

    def __init__(self, root: Directory, context: Context) -> None:
        root.make_directory(checkpoints.FOLDER)
        self.folder = _opened(root, checkpoints.FOLDER)
        self.copied: dict[str, BackedUpFile] = {}
        self._context = context
        self._sources: dict[str, Identity] = {}

    def take_all(self) -> None:
        """Copy what is there before a point of any log is noted: a checkpoint that is removed later may be in the log
        up to its point, and nowhere else. One that is made later has its version in history there.
        """
        folder = self._context.layout.existing(checkpoints.FOLDER)
        for file in sorted(folder.names()) if folder else []:
            if folder and file.endswith(checkpoints.SUFFIX):
                found: list[tuple[str, File]] = []
                with suppress(WaypostError):  # what a document needs is looked for again, and told of then
                    layer = checkpoints.read_file(self._context, folder, file)
                    found = [] if layer is None else checkpoints.files_of(self._context, layer.name)
                self._copy(found)

    def take(self, name: str) -> None:
        """Copy a checkpoint, where it has a file, unless that was done. Raises what opening a log raises."""
        self._copy(checkpoints.files_of(self._context, name))

    def _copy(self, found: list[tuple[str, File]]) -> None:
        for name, source in found:
            identity = source.identity()
            if self._sources.get(name) == identity:
                continue
            self.folder.remove(name)  # it was written again since, and may stand on others now
            file = new_file(self.folder, name)
            self.copied[name] = BackedUpFile(name, identity.size, copy(source, identity.size, file))
            file.sync_all()
            self._sources[name] = identity

    def keep_only(self, names: set[str]) -> tuple[BackedUpFile, ...]:
        """Remove the other files, and sync; what is left."""
        for name in self.copied.keys() - names:
            self.folder.remove(name)
        self.folder.sync()
        return tuple(self.copied[name] for name in sorted(names))


def _left(made: Context, copied: set[DocumentId]) -> dict[DocumentId, list[str]]:
    """The names of the checkpoints that are whole of all other documents than those that were copied: their logs are
    gone, so nothing else is left of them.
    """
    found = checkpoints.names_by_files(made, lambda each: each not in copied)
    whole = {document: [name for name in names if _is_whole(made, name)] for document, names in found.items()}
    return {document: names for document, names in whole.items() if names}


def _is_whole(made: Context, name: str) -> bool:
    try:
        return checkpoints.verify(made, name)
    except WaypostError:
        return False


def _keep_checkpoints(
    files: _CheckpointFiles, made: Context, documents: Iterable[BackedUp], left: dict[DocumentId, list[str]]
) -> tuple[BackedUpFile, ...]:
    """See that there are the files of the checkpoints that the copied documents have, of those that are left of others,
    and of those that they stand on, and no others. One that has no file stands in the history of its log.
    """
    needed: set[str] = set()
    for each in documents:
        _, state = loading.load(made, DocumentId(each.kind, each.id))
        for name in checkpoints.names_in(state.view()):
            files.take(name)
            needed.update(file for file, _ in checkpoints.files_of(made, name))
    for name in chain.from_iterable(left.values()):
        needed.update(file for file, _ in checkpoints.files_of(made, name))
    return files.keep_only(needed)


def _opened(above: Directory, name: str) -> Directory:
    directory = above.open_directory(name)
    if directory is None:
        raise StoreUnavailable(f"{above.path}/{name} was taken away while it was written", file=name)
    return directory


def new_file(folder: Directory, name: str) -> File:
    """Make a file in a directory that is ours alone."""
    file = folder.open(name, write=True, create=True, exclusive=True)
    assert file is not None
    return file


def _put(folder: Directory, name: str, content: bytes) -> None:
    file = new_file(folder, name)
    file.write_all(content, 0)
    file.sync_all()


def copy(source: File, end: int, target: File) -> str:
    """Copy the first `end` bytes; the SHA-256 of what was read. Raises StoreUnavailable when there are fewer."""
    digest = sha256()
    for at in range(0, end, _PIECE):
        data = source.read(min(_PIECE, end - at), at)
        if len(data) != min(_PIECE, end - at):
            raise StoreUnavailable(f"{source.name} became shorter while it was copied", file=source.name)
        digest.update(data)
        target.write_all(data, at)
    return digest.hexdigest()


def _copied(point: Point, folder: Directory) -> BackedUp:
    """Copy a log up to its point, and close the copy with a seal."""
    log, name = point.log, point.log.name
    file = new_file(folder, name)
    digest, size = copy(log.file, point.end, file), point.end
    if not point.is_sealed:
        place = Place(point.end, log.file_id, point.link, point.end, point.base)
        seal, _ = frame.assemble(frame.seal_draft(), place, point.standing)
        file.write_all(seal, point.end)
        size += len(seal)
        digest = _digest(file, size)
    file.sync_all()
    return BackedUp(
        kind=point.document.kind,
        id=point.document.id,
        version=point.standing.version,
        commit_id=point.standing.commit_id.hex(),
        generation=log.body.generation if log.body is not None else 0,
        file=name,
        size_bytes=size,
        sha256=digest,
    )


def _digest(file: File, size: int) -> str:
    digest = sha256()
    for at in range(0, size, _PIECE):
        digest.update(file.read(min(_PIECE, size - at), at))
    return digest.hexdigest()


def _verify(layout: Layout, context: Context, documents: int, left: Iterable[DocumentId]) -> None:
    report = check.verify(layout, Context(layout, context.config))
    if report.refused:
        raise report.refused[0]
    # neither the index is copied, nor the logs that are gone from the store itself
    missing = {f"{layout.path}/{FOLDERS[each.kind]}/{file_name(each)}" for each in left}
    missing.add(f"{layout.path}/{register.NAME}")
    findings = [found for found in report.findings if found.file not in missing]
    if findings and all(each.text == log_check.TO_BE_ERASED for each in findings):
        raise ContentLost(f"{findings[0].file}: {findings[0].text}", file=findings[0].file)
    if findings or report.documents != documents:
        first = findings[0] if findings else None
        raise DocumentDamaged(
            "the store cannot be backed up as it is: "
            + (f"{first.file}: {first.text}" if first else "a document was lost on the way")
            + " (waypost verify shows all of it, waypost store repair keeps what is whole)",
            file=first.file if first else "",
            offset=first.offset if first else None,
        )


def remove_tree(above: Directory, name: str) -> None:
    """Remove a directory of ours with all that is in it."""
    directory = above.open_directory(name)
    if directory is None:
        return
    for inner in directory.names():
        if directory.kind(inner) == "directory":
            remove_tree(directory, inner)
        else:
            directory.remove(inner)
    above.remove_directory(name)
