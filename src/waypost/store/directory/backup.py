"""Backups: a copy of a store that is in use, each document at one of its commits, checked before it has its name.

A backup is a directory store itself, closed cleanly, with a manifest beside its `FORMAT` that says what is in it.
What lies below the end of a log never changes, so logs are copied without a lock, however busy they are. The copy is
made under another name beside its own, synced, read back and verified to its last byte, and only then renamed: a
backup that has its name is whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import NamedTuple

import msgspec

from waypost.codec import frame
from waypost.codec.frame import FrameType, Place, Standing
from waypost.errors import DocumentDamaged, InvalidInput, LockTimeout, StoreUnavailable
from waypost.store.contract import BackedUp, Backup, DocumentId, Kind
from waypost.store.directory import check, loading
from waypost.store.directory.context import Context
from waypost.store.directory.files import Directory, File, make_path, open_path
from waypost.store.directory.layout import FORMAT_TEXT, IGNORE_TEXT, SUFFIXES, Layout, decode_id
from waypost.store.directory.log import Log

MANIFEST = "backup.json"
FOLDERS: dict[Kind, str] = {"workflow": "workflows", "session": "sessions"}
_PIECE = 1 << 20
_TRIES = 100


class Point(NamedTuple):
    """A commit of a document, as a place in its log: all before `end` is copied."""

    document: DocumentId
    log: Log
    end: int
    standing: Standing


def write(layout: Layout, context: Context, path: str) -> Backup:
    """Copy a store to a path where nothing is yet, durably.

    Raises InvalidInput when something is there already or the path lies in the store, DocumentDamaged, LockTimeout,
    StoreUnavailable.
    """
    path = os.path.abspath(path)
    above, name = os.path.split(path)
    if os.path.commonpath([path, layout.path]) == layout.path:
        raise InvalidInput(f"{path} lies in the store that is to be backed up", path=path)
    make_path(above)
    parent = open_path(above)
    if parent.kind(name) is not None:
        raise InvalidInput(f"{path} is there already: a backup is never written over anything", path=path)
    partial = f".{name}.{os.urandom(8).hex()}.partial"
    parent.make_directory(partial)
    made = partial
    try:
        backup = _fill(parent, partial, layout, context, path)
        parent.move(partial, parent, name)
        made = name
        parent.sync()
    except BaseException:
        remove_tree(parent, made)
        raise
    return backup


def points(layout: Layout, context: Context) -> Iterator[Point]:
    """Which commit of each document is copied: the newest one when its turn comes, noted with its lock held.

    This is the one place that decides it. A point that all documents share is found by holding the locks of all of
    them in sorted order while their ends are noted; the copying itself needs none of them.
    """
    for kind, folder_name in FOLDERS.items():
        folder = layout.root.open_directory(folder_name)
        for name in sorted(folder.names()) if folder else []:
            if folder and name.endswith(SUFFIXES[kind]):
                point = _point(folder, name, kind, context)
                if point is not None:
                    yield point


def _point(folder: Directory, name: str, kind: Kind, context: Context) -> Point | None:
    for _ in range(_TRIES):
        log = context.open_log(folder, name, write=False)
        if log is None:
            return None
        identifier = decode_id(name.removesuffix(SUFFIXES[kind]))
        if identifier is None:
            log.first(log.file.identity().size)
            identifier = log.body.id if log.body is not None else ""
        document = DocumentId(kind, identifier)
        state = loading.read(log, context, document)
        identity = log.lock()
        if identity is None:
            continue  # it was compacted meanwhile, and this is the old file
        try:
            for found in log.news(identity.size) if log.end else []:
                state.follow(found)
        finally:
            log.file.unlock()
        if context.durable and log.end:
            log.sync_to(log.data_end)  # nothing is passed on that the store itself could still lose
        return Point(document, log, log.end, state.standing) if state.standing.version else None
    raise LockTimeout(f"{folder.path}/{name} was replaced again and again while it was to be copied", file=name)


def _fill(parent: Directory, partial: str, layout: Layout, context: Context, path: str) -> Backup:
    root = _opened(parent, partial)
    folders: dict[Kind, Directory] = {}
    for kind, name in FOLDERS.items():
        root.make_directory(name)
        folders[kind] = _opened(root, name)
    root.make_directory("temp")
    documents = tuple(_copied(point, folders[point.document.kind]) for point in points(layout, context))
    for folder in folders.values():
        folder.sync()
    backup = Backup(path, datetime.now(UTC).isoformat(timespec="seconds"), documents)
    _put(root, ".gitignore", IGNORE_TEXT)
    _put(root, MANIFEST, msgspec.json.format(msgspec.json.encode(backup)) + b"\n")
    _put(root, "FORMAT", FORMAT_TEXT)
    root.sync()
    _verify(Layout(f"{parent.path}/{partial}", root, read_only=True), context, len(documents))
    return backup


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
    if log.last_type != FrameType.SEAL:
        place = Place(point.end, log.file_id, log.link, point.end, log.base)
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


def _verify(layout: Layout, context: Context, documents: int) -> None:
    report = check.verify(layout, Context(layout, context.config))
    if report.findings or report.documents != documents:
        first = report.findings[0] if report.findings else None
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
    for inner in directory.names() if directory else []:
        if directory and directory.kind(inner) == "directory":
            remove_tree(directory, inner)
        elif directory:
            directory.remove(inner)
    above.remove_directory(name)
