"""Checkpoints that were written out of their logs (docs/format.md, section 7): reading one by the files it stands on.

A checkpoint is a base, which holds all parts of a version, or a delta on another checkpoint. What is put together is
compared with the checksum that its last file says, so that no mixture of files passes for a version.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from types import MappingProxyType
from typing import NamedTuple

from waypost.codec import bodies
from waypost.codec.bodies import Extent, Part
from waypost.codec.compression import Undecodable
from waypost.codec.frame import FrameType, Standing
from waypost.errors import DocumentDamaged, StoreUnavailable, UnsupportedFormat
from waypost.store import parts as sums
from waypost.store.contract import ADOPTED, CHECKPOINT
from waypost.store.directory import loading
from waypost.store.directory.blocks import HOW_TO_MEND, Blocks, damaged
from waypost.store.directory.context import Context
from waypost.store.directory.decisions import missing_from
from waypost.store.directory.files import Directory, File
from waypost.store.directory.layout import document_id, encode_id
from waypost.store.directory.log import Frame, Log
from waypost.store.directory.standing import Stands, in_order
from waypost.store.directory.state import DocumentView, Snapshot
from waypost.store.kinds import DocumentId, Kind
from waypost.store.values import Pieces
from waypost.store.views import OperationRecord, View

_LOG = logging.getLogger("waypost")
FOLDER = "checkpoints"
SUFFIX = ".checkpoint"
ARRIVING = ".arriving"
LOCK = "lock"
"""The file that is locked by who writes in the folder."""
LONGEST_CHAIN = 32


class Layer(NamedTuple):
    """One file: what it puts and removes, on which checkpoint; a base has a snapshot and no parent."""

    name: str
    document: DocumentId
    standing: Standing
    size_bytes: int
    blocks: Blocks
    base: Snapshot | None
    parent: str | None
    puts: dict[str, Part]
    removed: list[str]


class Kept(Stands):
    """A version of a document, put together from the files of checkpoints; fulfils `views.View`."""

    def __init__(self, layer: Layer) -> None:
        assert layer.base is not None
        self.depth = self.delta_bytes = 0
        self.base_bytes = layer.size_bytes
        self._base = layer.base
        self._over: dict[str, tuple[Part | None, Blocks]] = {}
        self._names(layer)

    def _names(self, layer: Layer) -> None:
        self.name, self.parent = layer.name, layer.parent
        self.document, self.standing = layer.document, layer.standing

    def below(self, layer: Layer) -> Kept:
        """The version of a checkpoint that stands on this one."""
        made = copy(self)
        made._names(layer)
        made.depth += 1
        made.delta_bytes += layer.size_bytes
        oldest = self._base.blocks
        made._over = {**self._over, **dict.fromkeys(layer.removed, (None, oldest))}
        for key, part in layer.puts.items():  # only those files stay open that there is more to read in
            made._over[key] = part, layer.blocks if isinstance(part, Extent) else oldest
        return made

    @property
    def compressed(self) -> bool:
        return self._base.body.compressed

    def located(self, key: str) -> tuple[Part | None, Blocks]:
        """The part as it is kept, and who reads its blocks."""
        found = self._over.get(key)
        return (self._base.get(key), self._base.blocks) if found is None else found

    def get(self, key: str) -> bytes | None:
        part, blocks = self.located(key)
        return None if part is None else blocks.value(part)

    def pieces(self, key: str) -> Pieces | None:
        part, blocks = self.located(key)
        return None if part is None else blocks.pieces(part)

    def size_of(self, key: str) -> int | None:
        part, _ = self.located(key)
        return None if part is None else len(part) if isinstance(part, bytes) else part.length

    def keys(self, prefix: str = "") -> Iterator[str]:
        over = self._over
        added = sorted(key for key, (part, _) in over.items() if part is not None and key.startswith(prefix))
        return in_order((key for key in self._base.keys(prefix) if key not in over), added)

    def differing(self, other: View) -> set[str]:
        return {*self.keys(), *other.keys()}

    def operation(self, operation_id: str) -> OperationRecord | None:
        """Files of checkpoints remember no writes."""
        del operation_id
        return None

    def is_sound(self) -> bool:
        """Whether the parts are those that the checksum and the size speak of. Values in blocks are not read."""
        return self._adds_up(sums.EMPTY_CHECKSUM, 0, *_totals(self._parts()))

    def is_sound_on(self, parent: Kept, layer: Layer) -> bool:
        """As `is_sound`, when the parent is: only what differs is looked at."""
        changed = {*layer.puts, *layer.removed}
        added, size = _totals((key, self.located(key)[0]) for key in changed)
        gone, size_gone = _totals((key, parent.located(key)[0]) for key in changed)
        return self._adds_up(parent.checksum, parent.size_bytes, added - gone, size - size_gone)

    def _parts(self) -> Iterator[tuple[str, Part | None]]:
        over = self._over
        yield from (each for each in self._base.parts() if each[0] not in over)
        yield from ((key, part) for key, (part, _) in over.items())

    def _adds_up(self, checksum: bytes, size: int, added: int, grown: int) -> bool:
        return (sums.add_to_checksum(checksum, added), size + grown) == (self.checksum, self.size_bytes)


def _totals(given: Iterable[tuple[str, Part | None]]) -> tuple[int, int]:
    """What parts add to the checksum and to the size of their document."""
    added = size = 0
    for key, part in given:
        if part is not None:
            added += summand(key, part)
            size += sums.part_size(key.encode(), len(part) if isinstance(part, bytes) else part.length)
    return added, size


def verify(context: Context, name: str) -> bool:
    """Read all that is kept of a checkpoint, with all that it stands on; False where it has no file.

    Raises what opening a log raises.
    """
    for layer in _layers(context, name, {}):
        check_layer(layer)
    return read(context, name) is not None


def check_layer(layer: Layer) -> None:
    """Read the large parts that a file holds. Raises DocumentDamaged where one is not what it was."""
    base = layer.base
    parts = layer.puts.items() if base is None else ((key, base.get(key)) for key in base.keys())
    for key, part in parts:
        if isinstance(part, Extent):
            check_extent(key, part, layer.blocks)


def check_extent(key: str, extent: Extent, blocks: Blocks) -> None:
    """Read a large part, unless it was erased. Raises DocumentDamaged when it is not the one that its digest names."""
    if bodies.is_erased(extent):
        return
    digest = sums.part_digest(key.encode())
    length = 0
    for block in extent.table:
        data = blocks.data(block)
        digest.update(data)
        length += len(data)
    if (digest.digest(), length) != (extent.digest, extent.length):
        error = Undecodable(f"part {key!r} is not the one that its digest names")
        raise damaged(blocks.file, extent.table[0].offset, error)


def summand(key: str, part: Part) -> int:
    """What a part adds to the checksum of its document."""
    return int.from_bytes(part.digest, "big") if isinstance(part, Extent) else sums.part_checksum(key.encode(), part)


def names_among(keys: Iterable[str]) -> Iterator[str]:
    """The names of the checkpoints that some of these keys stand for."""
    for key in keys:
        if key.startswith((CHECKPOINT, ADOPTED)):
            yield key.removeprefix(CHECKPOINT).removeprefix(ADOPTED)


def names_in(view: View) -> list[str]:
    """The names of the checkpoints that a document has, sorted."""
    return sorted(names_among([*view.keys(ADOPTED), *view.keys(CHECKPOINT)]))


def has_any(view: View) -> bool:
    """Whether a document has a checkpoint."""
    return any(True for prefix in (CHECKPOINT, ADOPTED) for _ in view.keys(prefix))


def has(view: View, name: str) -> bool:
    """Whether a document has a checkpoint of that name."""
    return any(view.size_of(prefix + name) is not None for prefix in (CHECKPOINT, ADOPTED))


def file_name(name: str) -> str:
    """The name of the file of a checkpoint."""
    return encode_id(name) + SUFFIX


def arrival_name(name: str) -> str:
    """The name of the file in `temp` of a version that was taken in, until it gets its place."""
    return f"{encode_id(name)}{ARRIVING}"


def read_arrival(context: Context, name: str) -> Kept | None:
    """What was taken in as the checkpoint of a name, if it has no other place yet. Raises what opening a log raises."""
    layer = _arrival(context, name)
    return None if layer is None else Kept(layer)


def _arrival(context: Context, name: str) -> Layer | None:
    temp = context.layout.existing("temp")  # a copy that is only read may lack it, being empty
    layer = None if temp is None else read_file(context, temp, arrival_name(name))
    return None if layer is None or layer.base is None or layer.name != name else layer


def read(context: Context, name: str, above: Mapping[str, Kept] = MappingProxyType({})) -> Kept | None:
    """A checkpoint by its files; None where it has none. What it stands on need not be read again where it is `above`.

    Raises what opening a log raises.
    """
    layers = _layers(context, name, above)
    if not layers:
        return None
    *deltas, oldest = layers
    parent = None if oldest.parent is None else above[oldest.parent]
    kept = Kept(oldest) if parent is None else parent.below(oldest)
    for layer in reversed(deltas):
        kept = kept.below(layer)
    if not (kept.is_sound() if parent is None or deltas else kept.is_sound_on(parent, oldest)):
        raise damaged(layers[0].blocks.file, 0, Undecodable("its parts are not what its checksum says"))
    return kept


def files_of(context: Context, name: str) -> list[tuple[str, File]]:
    """The files that a checkpoint is read from, each with its name, its own first; none where it has none. What was
    imported may be still to get its name.
    """
    arrived = _arrival(context, name)  # first, since it may get its place meanwhile
    layers = _layers(context, name, {}) or ([] if arrived is None else [arrived])
    return [(file_name(layer.name), layer.blocks.file) for layer in layers]


def _layers(context: Context, name: str, above: Mapping[str, Kept]) -> list[Layer]:
    """What a checkpoint stands on, itself first, down to a base or to what stands on one `above`."""
    folder = context.layout.existing(FOLDER)
    if folder is None:
        return []
    while True:
        layers: list[Layer] = []
        try:
            _follow_chain(context, folder, name, layers, above)
            return layers
        except DocumentDamaged:
            if all(is_current(folder, layer) for layer in layers):
                raise
            # one was written again meanwhile, because what it stood on was to go


def is_current(folder: Directory, layer: Layer) -> bool:
    """Whether a checkpoint's file is still the one that was read, which is open, so that no other has its inode."""
    return folder.identity(file_name(layer.name)) == layer.blocks.file.identity()


def _follow_chain(
    context: Context, folder: Directory, name: str, layers: list[Layer], above: Mapping[str, Kept]
) -> None:
    """Add what a checkpoint stands on to `layers`, itself first."""
    layer = read_layer(context, folder, name)
    while layer is not None:
        layers.append(layer)
        known = above.get(layer.parent or "")
        if len(layers) + (known.depth + 1 if known else 0) > LONGEST_CHAIN + 1:
            raise damaged(layers[0].blocks.file, 0, Undecodable(f"it stands on more than {LONGEST_CHAIN} others"))
        if known is not None:
            _check_parent(layer, known.name, known.document, known.version)
            return
        layer = None if layer.parent is None else _parent_of(context, folder, layer)


def _parent_of(context: Context, folder: Directory, layer: Layer) -> Layer:
    assert layer.parent is not None
    found = read_layer(context, folder, layer.parent)
    if found is None:
        raise damaged(layer.blocks.file, 0, Undecodable(f"the checkpoint {layer.parent!r} that it stands on is gone"))
    _check_parent(layer, found.name, found.document, found.standing.version)
    return found


def _check_parent(layer: Layer, name: str, document: DocumentId, version: int) -> None:
    if document != layer.document or version >= layer.standing.version:
        raise damaged(layer.blocks.file, 0, Undecodable(f"it stands on {name!r}, which is no earlier version"))


def read_layer(context: Context, folder: Directory, name: str) -> Layer | None:
    """What the file of one checkpoint holds; None where it has none. Raises what opening a log raises."""
    layer = read_file(context, folder, file_name(name))
    if layer is not None and layer.name != name:
        raise damaged(layer.blocks.file, 0, Undecodable(f"it holds {layer.name!r}, not {name!r}: was it renamed?"))
    return layer


def read_file(context: Context, folder: Directory, file: str) -> Layer | None:
    """What a file holds, whatever its name; None where there is none. Raises what opening a log raises."""
    log = _opened(context, folder, file)
    if log is None:
        return None
    size = log.file.identity().size
    first, last = log.first(size), loading.last_frame(log, size)
    if first is None or last is None or log.body is None or log.body.checkpoint is None:
        why = "is not whole"  # where it is not cannot be told
        raise DocumentDamaged(f"{log.file.name}: {why} ({HOW_TO_MEND})", file=log.file.name, reason=why)
    # it was synced before it got its name, so that only damage can end it before its seal
    if last.header.type != FrameType.SEAL or last.end != size or last.header.synced != last.offset:
        raise log.damage(last.end, "it does not end with its seal")
    log.recorded_synced = last.offset  # blocks are checked when they are read
    return _layer(context, log, log.body.checkpoint, _main_frame(log, first, size))


def _opened(context: Context, folder: Directory, file: str) -> Log | None:
    """The file of a checkpoint. Raises DocumentDamaged for what is none: waiting would not make it one."""
    try:
        return context.open_log(folder, file, write=False)
    except StoreUnavailable:
        if folder.kind(file) in ("file", None):
            raise
    name, why = f"{folder.path}/{file}", "is no file of a store"
    raise DocumentDamaged(f"{name}: {why} ({HOW_TO_MEND})", file=name, reason=why)


def _main_frame(log: Log, first: Frame, size: int) -> Frame:
    main: Frame | None = None
    end = first.end
    for found in log.hop(first.end, first.header.checksum, size):
        end = found.end
        if found.header.type in (FrameType.SNAPSHOT, FrameType.DELTA):
            main = found
    if end != size or main is None:
        raise log.damage(end, "a frame is not whole")
    return main


def _layer(context: Context, log: Log, name: str, main: Frame) -> Layer:
    assert log.body is not None
    document, size = document_id(log.body.kind, log.body.id), log.file.identity().size
    blocks = loading.blocks_of(log, context)
    if main.header.type == FrameType.SNAPSHOT:
        return Layer(name, document, main.standing, size, blocks, Snapshot(blocks, main), None, {}, [])
    try:
        delta = bodies.read_delta(main.content()[0])
    except Undecodable as error:
        raise damaged(log.file, main.offset, error) from error
    return Layer(name, document, main.standing, size, blocks, None, delta.parent, delta.puts, delta.removed)


def names_of(context: Context, document: DocumentId) -> list[str]:
    """The names of the checkpoints of a document that have a file which can be read, by the files alone."""
    return names_by_files(context, lambda each: each == document).get(document, [])


def names_by_files(context: Context, is_wanted: Callable[[DocumentId], bool]) -> dict[DocumentId, list[str]]:
    """The same for all documents that are wanted, of which there are any. What cannot be read is logged, and left."""
    folder = context.layout.existing(FOLDER)
    found: dict[DocumentId, dict[str, str | None]] = {}
    for file in folder.names() if folder else []:
        if folder and file.endswith(SUFFIX):
            try:
                owner = owner_of(context, folder, file)
                layer = read_file(context, folder, file) if owner is not None and is_wanted(owner) else None
            except (DocumentDamaged, UnsupportedFormat) as error:
                _warn_once(context, file, str(error))
                continue
            if layer is not None and layer.document == owner and file == file_name(layer.name):
                found.setdefault(layer.document, {})[layer.name] = layer.parent
    standing = {document: [name for name in parents if _stands(name, parents)] for document, parents in found.items()}
    return {document: sorted(names) for document, names in standing.items() if names}


def _warn_once(context: Context, file: str, why: str) -> None:
    if (file, why) not in context.told:
        context.told.add((file, why))
        _LOG.warning("a checkpoint is left out: %s", why)


def left(context: Context, kind: Kind, there: set[str]) -> dict[str, list[str]]:
    """The names of the checkpoints of all other documents of a kind than those that are there."""
    found = names_by_files(context, lambda each: each.kind == kind and each.id not in there)
    return {document.id: names for document, names in found.items()}


def owner_of(context: Context, folder: Directory, file: str) -> DocumentId | None:
    """The document that a file is a checkpoint of, by its beginning."""
    log = _opened(context, folder, file)
    if log is None or log.first(log.file.identity().size) is None or log.body is None:
        return None
    return document_id(log.body.kind, log.body.id)


def is_file_of(context: Context, folder: Directory, name: str, document: DocumentId) -> bool:
    """Whether the file of a checkpoint is of that document, as far as its beginning can be read."""
    try:
        return owner_of(context, folder, file_name(name)) in (document, None)
    except (DocumentDamaged, UnsupportedFormat):
        return True


def names_now(context: Context, document: DocumentId, *, durable: bool = False) -> set[str]:
    """The names of the checkpoints that a document has by its log as it is now."""
    return set(names_in(view_now(context, document, durable=durable)))


def view_now(context: Context, document: DocumentId, *, durable: bool = False) -> DocumentView:
    """A document by its log as it is now, whatever is open; no lock is taken."""
    pieces = context.decisions.pieces_for(document)
    log, state = loading.load(context.apart(), document)
    missing = missing_from(log, pieces)
    if missing:
        _, state = loading.load(context.apart(), document, decided=missing)
    if durable and log is not None and log.end:
        log.sync_to(log.data_end)
    return state.view()


def _stands(name: str, parents: dict[str, str | None]) -> bool:
    """Whether a checkpoint stands on a base, and all between are there."""
    above: str | None = name
    for _ in range(LONGEST_CHAIN + 1):
        if above is None or above not in parents:
            break
        above = parents[above]
    return above is None
