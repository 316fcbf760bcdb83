"""Writing checkpoints out of the logs, and letting go of those that a document has no more.

A checkpoint rides in the commit that makes it and costs that commit nothing; its version stands in the log's history.
Here it gets a file of its own, off the commit path: the newest one soon, the others before history is shortened and
when the document is closed. What is written is durable before it has its name, and a file that others stand on goes
only once they do not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from waypost import clock
from waypost.codec import bodies, frame
from waypost.codec.bodies import DeltaBody, Extent, FileBody, Part, SnapshotBody, SnapshotBuilder
from waypost.codec.frame import FORMAT_VERSION, Standing, part_hash, touched_parts
from waypost.errors import DocumentDamaged, LockTimeout
from waypost.store.contract import CHECKPOINT, DocumentId, View
from waypost.store.directory import checkpoints
from waypost.store.directory.checkpoints import FOLDER, LOCK, LONGEST_CHAIN, Kept, file_name
from waypost.store.directory.compaction import Rewriter, commits
from waypost.store.directory.context import Context
from waypost.store.directory.files import Directory, File
from waypost.store.directory.layout import new_file
from waypost.store.directory.log import LOCK_TIMEOUT_S, NOTHING, Log, new_file_id
from waypost.store.directory.state import Blocks

_LOG = logging.getLogger("waypost")


class Source(View, Protocol):
    """A version whose parts can be copied as they are kept."""

    @property
    def standing(self) -> Standing: ...
    def located(self, key: str) -> tuple[Part | None, Blocks]: ...


def find_versions(log: Log, names: Iterable[str]) -> dict[str, int]:
    """The versions whose commits put these checkpoints, as far as history reaches back; headers tell of most commits
    that they do not.
    """
    keys = {CHECKPOINT + name: part_hash((CHECKPOINT + name).encode()) for name in names}
    found: dict[str, int] = {}
    for each in commits(log, log.end):
        touched = touched_parts(each.header, each.data)
        if touched is not None and not any(sought in touched for sought in keys.values()):
            continue
        puts = bodies.read_commit(each.content()[0]).puts
        found.update((key.removeprefix(CHECKPOINT), each.header.version) for key in keys if key in puts)
    return found


@contextmanager
def _alone(context: Context) -> Generator[None]:
    """The folder of checkpoints while nobody else writes there: what one builds on, another must not remove."""
    file = context.layout.folder(FOLDER).open(LOCK, write=True, create=True)
    assert file is not None
    try:
        file.lock(LOCK_TIMEOUT_S, lambda: _locked_too_long(file))
        yield
    finally:
        file.close()


def _locked_too_long(file: File) -> LockTimeout:
    holder = file.lock_holder()
    return LockTimeout(
        f"{file.name} was locked for {LOCK_TIMEOUT_S:g} seconds by {holder}", file=file.name, holder=holder
    )


def bring_up_to_date(
    context: Context,
    document: DocumentId,
    names: list[str],
    gone: Iterable[str],
    versions: Callable[[list[str]], Iterator[tuple[str, Source]]],
    *,
    newest_only: bool,
) -> None:
    """Give checkpoints of a document their files, and let go of those that it has no more.

    `names` are all that it has, sorted; `versions` gives those of some of them in the order in which they were made.
    All of it is durable when this returns; where it is cut off, each file is whole, and what stands on another stands.
    """
    folder = context.layout.folder(FOLDER)
    missing = [name for name in names if folder.identity(file_name(name)) is None]
    gone = set(gone) - set(names)
    # before the lock, since whoever has that of the document may wait for this one
    sources = [*versions(missing[-1:] if newest_only else missing)] if missing else []
    if not sources and not gone:
        return
    with _alone(context):
        for name, version in sources:
            if folder.identity(file_name(name)) is None:
                _put_in_place(context, name, version, _parent_for(context, name, version))
        folder.sync()
        _let_go(context, folder, document, gone, names)


def _parent_for(context: Context, name: str, version: Source) -> Kept | None:
    """What a checkpoint is best written as a delta on; None where it is better a base."""
    earlier = checkpoints.names_in(version)
    for candidate in sorted((each for each in earlier if each < name), reverse=True):
        try:
            kept = checkpoints.read(context, candidate)
        except DocumentDamaged as error:
            _LOG.warning("%s", error)
            continue
        if kept is not None:
            usable = kept.version < version.version and kept.document == version.document
            return kept if usable and kept.depth < LONGEST_CHAIN and kept.delta_bytes <= kept.base_bytes else None
    return None


def _put_in_place(context: Context, name: str, version: Source, parent: Kept | None) -> None:
    temp, folder = context.layout.folder("temp"), context.layout.folder(FOLDER)
    temporary, file = new_file(context.layout)
    try:
        compressor = context.take_compressor()
        out = Rewriter(file, new_file_id(), context.limit_bytes, compressor)
        document = version.document
        first = FileBody(FORMAT_VERSION, document.kind, document.id, 0, clock.now_us(), b"", name)
        out.put(bodies.file_draft(first), NOTHING)
        if parent is None:
            builder = SnapshotBuilder(compressor)
            for key in version.keys():
                builder.add(key, _copied(out, version, key))
            builder.finish([])
            draft = builder.draft(SnapshotBody(out.end, out.link, 0, version.compressed, [], []))
        else:
            puts = {key: _copied(out, version, key) for key in _changed(parent, version)}
            removed = [key for key in parent.keys() if version.size_of(key) is None]
            draft = bodies.delta_draft(DeltaBody(parent.name, puts, removed), compressor)
        out.put(draft, version.standing)
        out.put(frame.seal_draft(), version.standing)
        context.give_back(compressor)
        file.sync_all()
        temp.move(temporary, folder, file_name(name))
    finally:
        temp.remove(temporary)


def _changed(parent: Source, version: Source) -> Iterator[str]:
    for key in version.keys():
        if not is_same(version.located(key)[0], parent.located(key)[0]):
            yield key


def is_same(part: Part | None, other: Part | None) -> bool:
    """Whether two parts hold the same, as far as their bytes or digests tell."""
    if isinstance(part, Extent) and isinstance(other, Extent):
        return (part.length, part.digest) == (other.length, other.digest)
    return part == other


def _copied(out: Rewriter, version: Source, key: str) -> Part:
    part, blocks = version.located(key)
    assert part is not None
    if not isinstance(part, Extent):
        return part
    return part._replace(table=out.copy_blocks(blocks.file, part.table, version.standing))


def _let_go(
    context: Context, folder: Directory, document: DocumentId, gone: Iterable[str], kept: Iterable[str]
) -> None:
    """Remove files of checkpoints. Those that are kept and stand on them are first written again without them."""
    going = {name for name in gone if folder.identity(file_name(name)) is not None}
    if not going:
        return
    for name in kept:
        layer = checkpoints.read_layer(context, folder, name)
        if layer is not None and layer.document == document and layer.parent in going:
            _write_without(context, folder, name, going)
    folder.sync()
    for name in going:
        folder.remove(file_name(name))
    folder.sync()


def _write_without(context: Context, folder: Directory, name: str, going: set[str]) -> None:
    """Write a checkpoint again so that it stands on none of those that go."""
    kept = checkpoints.read(context, name)
    assert kept is not None
    parent = kept.parent
    while parent is not None and parent in going:
        layer = checkpoints.read_layer(context, folder, parent)
        parent = None if layer is None else layer.parent
    _put_in_place(context, name, kept, None if parent is None else checkpoints.read(context, parent))
