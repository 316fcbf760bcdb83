"""Writing checkpoints out of the logs, and letting go of those that a document has no more.

A checkpoint rides in the commit that makes it and costs that commit nothing; its version stands in the log's history.
Here it gets a file of its own, off the commit path: the newest one soon, the others before history is shortened and
when the document is closed. What is written is durable before it has its name, and a file that others stand on goes
only once they do not.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from typing import NamedTuple

from waypost import clock
from waypost.codec import bodies, frame
from waypost.codec.bodies import DeltaBody, Extent, FileBody, Part, SnapshotBody, SnapshotBuilder
from waypost.codec.compression import Compressor
from waypost.codec.frame import ERASED_FORMAT, FORMAT_VERSION, part_hash, touched_parts
from waypost.errors import DocumentDamaged, LockTimeout, StoreUnavailable, UnsupportedFormat
from waypost.store.contract import ADOPTED, CHECKPOINT
from waypost.store.directory import checkpoints
from waypost.store.directory.checkpoints import (
    ARRIVING,
    FOLDER,
    LOCK,
    LONGEST_CHAIN,
    SUFFIX,
    Kept,
    Layer,
    arrival_name,
    file_name,
)
from waypost.store.directory.compaction import Rewriter, commits
from waypost.store.directory.context import Context
from waypost.store.directory.files import Directory, File, locked_too_long
from waypost.store.directory.layout import names_begin, new_file
from waypost.store.directory.log import LOCK_TIMEOUT_S, NOTHING, Frame, Log
from waypost.store.directory.scrubbing import Scrubbed
from waypost.store.directory.state import Source
from waypost.store.erasures import NOTHING_ERASED, Erasures
from waypost.store.kinds import DocumentId
from waypost.store.views import View

_LOG = logging.getLogger("waypost")
AT_A_TIME = 32
"""So many files are written while the folder is locked: others wait for it."""
CACHE_BYTES = 1 << 20
"""What is read here is not what is worked with, and takes no room from that."""


def find_versions(log: Log, names: Iterable[str]) -> dict[str, int]:
    """The versions whose commits put these checkpoints, as far as history reaches back; headers tell of most commits
    that they do not. Raises DocumentDamaged where history is not whole.
    """
    keys = {CHECKPOINT + name for name in names}
    hashes = {part_hash(key.encode()) for key in keys}
    found: dict[str, int] = {}
    for each in commits(log, log.end):
        touched = touched_parts(each.header, each.data)
        if touched is not None and hashes.isdisjoint(touched):
            continue
        puts = bodies.read_commit(each.content()[0]).puts
        found.update((key.removeprefix(CHECKPOINT), each.header.version) for key in puts if key in keys)
    return found


@contextmanager
def alone(context: Context, restores: int | None = None) -> Generator[None]:
    """The folder of checkpoints while nobody else writes there: what one builds on, another must not remove.

    With the lock held nobody waits for that of a document, since whoever has that may wait for this one. `restores` is
    how often the store had been restored when the caller looked at it: what was seen before counts no more.
    """
    file = _locked(context)
    context.checkpoints_changed = True
    try:
        if restores is not None and restores != context.restores:
            raise StoreUnavailable(f"the store was restored while {file.name} was waited for", file=file.name)
        yield
    except BaseException:
        context.keeping_failures += 1
        raise
    finally:
        file.close()


def are_durable(context: Context) -> None:
    """Note that the folder was synced. What had its name when a sync failed is not covered by a later one."""
    for name in [name for name, failures in context.placed.items() if failures == context.keeping_failures]:
        del context.placed[name]


@contextmanager
def alone_if_free(context: Context) -> Generator[bool]:
    """As `alone`, without waiting: whether the folder was free."""
    file = context.layout.folder(FOLDER).open(LOCK, write=True, create=True)
    assert file is not None
    try:
        yield file.try_lock() and context.layout.folder(FOLDER).identity(LOCK) == file.identity()
    finally:
        file.close()


def _locked(context: Context) -> File:
    folder = context.layout.folder(FOLDER)
    while True:
        file = folder.open(LOCK, write=True, create=True)
        assert file is not None
        _lock(context, file)
        if folder.identity(LOCK) == file.identity():
            return file


def _lock(context: Context, file: File) -> None:
    # who has waited in vain is soon asked again, for other documents, and need not wait as long for each of them
    patience = LOCK_TIMEOUT_S if time.monotonic() >= context.stuck_until else 0.0
    try:
        file.lock(patience, partial(locked_too_long, file, patience))
    except LockTimeout:
        if patience:
            context.stuck_until = time.monotonic() + LOCK_TIMEOUT_S
        raise


class Wanted(NamedTuple):
    """What a document says about its checkpoints: all that it has, sorted by name, those that are gone, and how often
    the store had been restored before.
    """

    document: DocumentId
    names: list[str]
    gone: set[str]
    restores: int


Rounds = Iterator[Iterable[tuple[str, Source]]]
"""Versions by the names of checkpoints, as many as are written at a time. Asking for a round may wait for the lock of
the document; going through it does not, and may be done with the folder locked.
"""
Versions = Callable[[list[str]], Rounds]
"""The versions of some checkpoints, as far as history has them, in the order in which they were made."""


def write_missing(context: Context, wanted: Wanted, versions: Versions, *, newest_only: bool) -> None:
    """Give checkpoints of a document their files, or the newest that has none.

    All of it is durable when this returns; where it is cut off, each file is whole, and what stands on another stands.
    """
    if not wanted.names:
        return
    folder = context.layout.folder(FOLDER)
    _place_again(context, wanted)
    _place_arrivals(context, wanted)
    missing = (name for name in reversed(wanted.names) if folder.identity(file_name(name)) is None)
    sought = list(islice(missing, 1 if newest_only else None))  # from the newest on, which mostly is the one
    if sought:
        write_out(context, wanted, versions(sought[::-1]))


def make_durable(context: Context) -> None:
    """See that files stay which were there already: whoever gave them their names may have died before his sync."""
    folder = context.layout.existing(FOLDER)
    if folder is not None:
        folder.sync()


def _place_again(context: Context, wanted: Wanted) -> None:
    """Write files again that got their names before a sync of the folder failed: no later one covers that."""
    if context.placed.keys().isdisjoint(wanted.names):
        return
    folder = context.layout.folder(FOLDER)
    with alone(context, wanted.restores):
        for name in wanted.names:
            kept = checkpoints.read(context, name) if name in context.placed else None
            if kept is not None:
                put_in_place(context, name, kept, None)
        folder.sync()
        are_durable(context)


def _place_arrivals(context: Context, wanted: Wanted) -> None:
    """Give what was taken in, and is adopted by now, its place among the files."""
    temp, folder = context.layout.folder("temp"), context.layout.folder(FOLDER)
    files = {file for file in temp.names() if file.endswith(ARRIVING)}
    if not files:
        return
    arrived = [
        name for name in wanted.names if arrival_name(name) in files and folder.identity(file_name(name)) is None
    ]
    if arrived:
        with alone(context, wanted.restores):
            for name in arrived:
                if temp.identity(arrival_name(name)) is not None:
                    give_place(context, name)


def give_place(context: Context, name: str) -> None:
    """Put a version that was taken in, and of which there may be no other copy, among the files of checkpoints."""
    temp, folder = context.layout.folder("temp"), context.layout.folder(FOLDER)
    layer = checkpoints.read_file(context, temp, arrival_name(name))
    erasures = NOTHING_ERASED if layer is None else erasures_now(context, layer.document)
    # it keeps its first name until the second is durable
    if erasures or not temp.link(arrival_name(name), folder, file_name(name)):
        # somebody did that already, and may have failed to make it durable: then no sync of ours would cover it
        version = checkpoints.read_arrival(context, name)
        if version is not None:
            put_in_place(context, name, Scrubbed.of(version, erasures, 0), None)
    folder.sync()
    are_durable(context)
    temp.remove(arrival_name(name))


def write_out(context: Context, wanted: Wanted, rounds: Rounds, *, anew: bool = False) -> None:
    """Write files for these checkpoints, also where there are some if they are to be written `anew`."""
    folder = context.layout.folder(FOLDER)
    last: _Last | None = None
    for some in rounds:  # asked for outside of the lock, since that may wait for a document's
        versions = iter(some)
        first = next(versions)
        with alone(context, wanted.restores):
            erased = erasures_now(context, wanted.document)
            if last is not None and not checkpoints.is_current(folder, last.layer):
                last = None  # from now on nobody else writes, so that what was written last stays as it is
            stood_on = {_parent_of(context, folder, each) for each in _later(folder, wanted.names, first[0])}
            for name, read in chain([first], versions):
                version = Scrubbed.of(read, erased)  # it may be older than the decision to erase some of it
                if anew or folder.identity(file_name(name)) is None:
                    # a chain that grew longer in its middle could become too long at its end
                    parent = None if name in stood_on else _parent_for(context, wanted.names, name, version, last)
                    if parent is not None and _will_lose(parent, version, erased):
                        parent = None
                    last = put_in_place(context, name, version, parent, last)
            folder.sync()
            are_durable(context)


class _Last(NamedTuple):
    """A checkpoint that was just written, as its files have it and as the log has it."""

    kept: Kept
    version: Source
    layer: Layer


def _later(folder: Directory, names: list[str], first: str) -> list[str]:
    """The names behind one that may have files: where they are many, those that do, by one look at the folder."""
    later = names[bisect_right(names, first) :]
    if len(later) <= AT_A_TIME:
        return later
    there = set(folder.names())
    return [name for name in later if file_name(name) in there]


def _parent_for(context: Context, names: list[str], name: str, version: Source, last: _Last | None) -> Kept | None:
    """What a checkpoint is best written as a delta on; None where it is better a base."""
    for at in range(bisect_left(names, name) - 1, -1, -1):
        candidate = names[at]
        if not checkpoints.has(version, candidate):
            continue
        try:
            known = last.kept if last is not None and last.kept.name == candidate else None
            kept = known or checkpoints.read(context.apart(CACHE_BYTES), candidate)
        except DocumentDamaged as error:
            _LOG.warning("%s", error)
            continue
        if kept is not None:
            usable = kept.version < version.version and kept.document == version.document
            return kept if usable and kept.depth < LONGEST_CHAIN and kept.delta_bytes <= kept.base_bytes else None
    return None


def _will_lose(kept: Kept, version: Source, erased: Erasures) -> bool:
    """Whether something of a checkpoint, as a later version knows it, is still to be erased. What stood on it would
    lose that too, also where the version has it since again.
    """
    time_us = 0 if version.size_of(ADOPTED + kept.name) is not None else None
    return Scrubbed.of(kept, erased, time_us) is not kept


def _parent_of(context: Context, folder: Directory, name: str) -> str | None:
    """What a checkpoint stands on, as far as its file can be read."""
    try:
        layer = checkpoints.read_layer(context, folder, name)
    except DocumentDamaged as error:
        _LOG.warning("%s", error)
        return None
    return None if layer is None else layer.parent


def put_in_place(
    context: Context, name: str, version: Source, parent: Kept | None, last: _Last | None = None
) -> _Last | None:
    """Write a file and give it its name; it as it can be read back. Nothing of it is durable but its content."""
    temp, folder = context.layout.folder("temp"), context.layout.folder(FOLDER)
    temporary, file = new_file(context.layout)
    try:
        near = last.version if last is not None and parent is last.kept else None
        _write(context, file, name, version, parent, near)
        file.sync_all()
        if parent is not None:
            folder.sync()  # no name may be durable before that of what it stands on
        context.placed[name] = context.keeping_failures
        temp.move(temporary, folder, file_name(name))
    finally:
        temp.remove(temporary)
    layer = checkpoints.read_layer(context.apart(), folder, name)
    if layer is None:
        return None
    return _Last(Kept(layer) if parent is None else parent.below(layer), version, layer)


def _write(context: Context, file: File, name: str, version: Source, parent: Kept | None, near: Source | None) -> None:
    """Write a base, or a delta on `parent`, which is the version `near` where that is known."""
    compressor = context.take_compressor()
    put_checkpoint(
        Rewriter(file, frame.new_file_id(), context.limit_bytes, compressor), compressor, name, version, parent, near
    )
    context.give_back(compressor)


def put_checkpoint(
    out: Rewriter,
    compressor: Compressor,
    name: str,
    version: Source,
    parent: Kept | None,
    near: Source | None = None,
) -> None:
    """Write all that the file of a checkpoint holds, as a base or as a delta on another."""
    document = version.document
    changed = _differing(version, parent, near)
    has_erased = any(bodies.is_erased(version.located(key)[0]) for key in (changed if parent else version.keys()))
    number = ERASED_FORMAT if has_erased else FORMAT_VERSION
    first = FileBody(number, document.kind, document.id, 0, clock.now_us(), b"", name)
    out.put(bodies.file_draft(first), NOTHING)
    if parent is None:
        builder = SnapshotBuilder(compressor)
        for key in version.keys():
            builder.add(key, _copied(out, version, key))
        builder.finish([])
        draft = builder.draft(SnapshotBody(out.end, out.link, 0, version.compressed, [], []))
    else:
        puts = {key: _copied(out, version, key) for key in changed if version.size_of(key) is not None}
        removed = [key for key in changed if version.size_of(key) is None]
        draft = bodies.delta_draft(DeltaBody(parent.name, puts, removed), compressor)
    out.put(draft, version.standing)
    out.put(frame.seal_draft(), version.standing)


def _differing(version: Source, parent: Kept | None, near: Source | None) -> list[str]:
    """The keys of the parts that a delta on `parent` tells of."""
    if parent is None:
        return []
    looked_at = sorted(version.differing(parent if near is None else near))
    return [key for key in looked_at if not is_same(version.located(key)[0], parent.located(key)[0])]


def is_same(part: Part | None, other: Part | None) -> bool:
    """Whether two parts hold the same, as far as their bytes or digests tell. One that was erased holds nothing."""
    if isinstance(part, Extent) and isinstance(other, Extent):
        is_equal = (part.length, part.digest) == (other.length, other.digest)
        return is_equal and bodies.is_erased(part) == bodies.is_erased(other)
    return part == other


def _copied(out: Rewriter, version: Source, key: str) -> Part:
    part, blocks = version.located(key)
    assert part is not None
    if not isinstance(part, Extent):
        return part
    return part._replace(table=out.copy_blocks(blocks.file, part.table, version.standing))


def let_go(context: Context, wanted: Wanted) -> None:
    """Remove files of checkpoints that a document has no more, durably. Where this is cut off, some are left."""
    folder = context.layout.existing(FOLDER)
    gone = wanted.gone.difference(wanted.names)
    going = {name for name in gone if folder is not None and folder.identity(file_name(name)) is not None}
    if folder is not None and going:
        with alone(context, wanted.restores):
            let_go_alone(context, folder, wanted, going)


def let_go_alone(context: Context, folder: Directory, wanted: Wanted, going: set[str]) -> None:
    """With the folder locked. Those that are kept and stand on what goes are first written again without it."""
    going = going - checkpoints.names_now(context, wanted.document)  # one that went may have been imported again
    # a workflow that was imported under another id has a past that speaks of checkpoints of the one it was
    going = {name for name in going if checkpoints.is_file_of(context, folder, name, wanted.document)}
    parents: dict[str, str | None] = {}

    def above(name: str) -> Iterator[str]:
        """What a checkpoint stands on, the nearest first, also files that no document speaks of any more."""
        for _ in range(LONGEST_CHAIN):
            if name not in parents:
                parents[name] = _parent_of(context, folder, name)
            parent = parents[name]
            if parent is None:
                return
            yield parent
            name = parent

    staying = {*wanted.names, *_lost(context, folder, wanted)} - going
    for name in sorted(staying):
        ancestors = list(above(name))
        if going.isdisjoint(ancestors):
            continue
        try:
            kept = checkpoints.read(context, name)
            assert kept is not None
            parent = next((each for each in ancestors if each in staying), None)
            put_in_place(context, name, kept, None if parent is None else checkpoints.read(context, parent))
            parents[name] = parent
        except DocumentDamaged as error:
            _LOG.warning("%s", error)
            going = going.difference(ancestors)  # what is left of it stays as it is
    folder.sync()
    are_durable(context)
    for name in sorted(going, reverse=True):
        folder.remove(file_name(name))
    folder.sync()


def _lost(context: Context, folder: Directory, wanted: Wanted) -> Iterator[str]:
    """The checkpoints of a document that have files and of which it does not know, as where an older copy of its log
    was put in its place: a repair may have them adopted. One of an import from another workflow is not found: its name
    begins otherwise, and to read all files of a store would take long.
    """
    known = {file_name(name) for name in chain(wanted.names, wanted.gone)}
    beginning = names_begin(f"{wanted.document.id}@")
    for file in folder.names():
        if file.startswith(beginning) and file.endswith(SUFFIX) and file not in known:
            try:
                layer = checkpoints.read_file(context, folder, file)
            except (DocumentDamaged, UnsupportedFormat):  # it is not one that could be kept
                continue
            if layer is not None and layer.document == wanted.document and file == file_name(layer.name):
                yield layer.name


def unreadable(context: Context, names: Iterable[str], since: int) -> list[str]:
    """Those checkpoints of versions above `since` whose files are there and cannot be read."""
    folder = context.layout.existing(FOLDER)
    found: list[str] = []
    context = context.apart(CACHE_BYTES)
    last: dict[str, Kept] = {}
    for name in names:
        try:
            layer = None if folder is None else checkpoints.read_layer(context, folder, name)
            if layer is not None and layer.standing.version > since:
                kept = checkpoints.read(context, name, last)
                last = {} if kept is None else {name: kept}
        except DocumentDamaged as error:
            _LOG.warning("%s", error)
            found.append(name)
    return found


def erasures_now(context: Context, document: DocumentId) -> Erasures:
    """What a document says is erased, by its log as it is now."""
    return Erasures.of(checkpoints.view_now(context, document))


def once_there(log: Log, oldest: View | None) -> set[str]:
    """All checkpoints that a document had at any of the versions that its log tells of."""
    return once_among(commits(log, log.end), oldest)


def once_among(history: Iterable[Frame], oldest: View | None) -> set[str]:
    """The same by the commits themselves, and the version before them."""
    names: set[str] = set() if oldest is None else set(checkpoints.names_in(oldest))
    for each in history:
        names.update(checkpoints.names_among(bodies.read_commit(each.content()[0]).puts))
    return names
