"""A document in memory: the newest snapshot, and what was committed since.

`Snapshot` reads a block when a part in it is asked for; `DocumentState` lays the frames behind it over that, decoding
them when a part they touch is asked for; `DocumentView` is one version, which later commits leave alone. A state is
changed only under the lock of its document; views are free.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple, Protocol
from weakref import ref

from waypost.codec import bodies
from waypost.codec.bodies import Block, Extent, Part, SnapshotBody
from waypost.codec.compression import PLAIN, Undecodable
from waypost.codec.frame import FrameType, Standing
from waypost.store.directory.blocks import Blocks, Held, damaged
from waypost.store.directory.log import NOTHING, Frame
from waypost.store.directory.recent import Later, Recent
from waypost.store.directory.standing import Stands, in_order, is_surely_same
from waypost.store.directory.undecoded import Laying, Undecoded
from waypost.store.kinds import DocumentId
from waypost.store.values import Pieces
from waypost.store.views import OperationRecord, View

_DECODE_AT_BYTES = 1 << 20


class Snapshot:
    """A snapshot frame, its blocks read on demand. Without a frame it is the empty document."""

    def __init__(self, blocks: Blocks, found: Frame | None = None) -> None:
        self.blocks = blocks
        self.frame = found
        self.body = SnapshotBody(0, 0, 0, False, [], [])
        self.standing: Standing = NOTHING
        self.operation_blocks: list[Block] = []
        self._rows: list[Block] = []
        self._held: list[Held | None] = []
        """Of each row where the cache held it, so that what it still holds is found at once."""
        self._remembered: dict[str, OperationRecord] | None = None
        if found is not None:
            self.standing = found.standing
            self._read(found)

    def _read(self, found: Frame) -> None:
        try:
            content, table = found.content()
            self.body = bodies.read_snapshot(content)
        except Undecodable as error:
            raise damaged(self.blocks.file, found.offset, error) from error
        if len(self.body.keys) > len(table):
            raise damaged(self.blocks.file, found.offset, Undecodable("a snapshot lacks blocks"))
        self._rows = table[: len(self.body.keys)]
        self._held = [None] * len(self._rows)
        self.operation_blocks = table[len(self.body.keys) :]

    @property
    def length(self) -> int:
        return self.frame.header.length if self.frame else 0

    @property
    def place(self) -> tuple[int, int]:
        """Which file it stands in, and at which byte: what tells snapshots apart without holding one."""
        return self.blocks.file_id, self.frame.offset if self.frame else 0

    def block(self, row: int) -> Block | None:
        """The entry block of a row; None beyond the last."""
        return self._rows[row] if row < len(self._rows) else None

    def stored(self, row: int) -> bytes:
        """The bytes of an entry block as they stand in the file."""
        block = self._rows[row]
        return self.blocks.file.read(block.stored, block.offset)

    def offset(self, row: int) -> int:
        """Where an entry block begins in the file."""
        return self._rows[row].offset

    def entries(self, row: int) -> dict[str, Part]:
        held = self._held[row]
        if held is not None:
            found = held.entries
            if found is not None:
                held.used = True
                return found
        found, self._held[row] = self.blocks.entries(self._rows[row])
        return found

    def get(self, key: str) -> Part | None:
        row = bisect_right(self.body.keys, key) - 1
        return None if row < 0 else self.entries(row).get(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        for row in range(max(0, bisect_right(self.body.keys, prefix) - 1), len(self._rows)):
            if row and self.body.keys[row] > prefix and not self.body.keys[row].startswith(prefix):
                return
            yield from (key for key in self.entries(row) if key.startswith(prefix))

    def parts(self) -> Iterator[tuple[str, Part]]:
        """All parts, in the order of their keys. Raises DocumentDamaged where `get` would not find one."""
        last: str | None = None
        for row, first in enumerate(self.body.keys):
            entries = self.entries(row)
            if min(entries, default=None) != first or (last is not None and first <= last):
                raise damaged(self.blocks.file, self.offset(row), Undecodable("its keys are not in their order"))
            yield from entries.items()
            last = max(entries)

    def operations(self) -> Iterator[OperationRecord]:
        """What is remembered of earlier writes, oldest first."""
        for block in (*(run.block for run in self.body.operations), *self.operation_blocks):
            yield from self.read_operations(block)

    def operation(self, operation_id: str) -> OperationRecord | None:
        """What is remembered of a write, also of a later one. The first question reads all that is remembered."""
        if self._remembered is None:
            self._remembered = {record.operation_id: record for record in self.operations()}
        return self._remembered.get(operation_id)

    def take_over(self, earlier: Snapshot, between: list[OperationRecord]) -> None:
        """Need not read again what was read of the snapshot before; `between` are the writes that came in between."""
        known = earlier._remembered
        if known is not None and len(known) < _MOST_REMEMBERED:
            known.update((record.operation_id, record) for record in between)
            self._remembered = known

    def read_operations(self, block: Block) -> list[OperationRecord]:
        """A run of remembered operations, oldest first."""
        data = self.blocks.data(block)
        try:
            return [OperationRecord(*row) for row in bodies.read_operations(data)]
        except Undecodable as error:
            raise damaged(self.blocks.file, block.offset, error) from error


class Source(View, Protocol):
    """A version whose parts can be copied as they are kept."""

    @property
    def standing(self) -> Standing: ...
    def located(self, key: str) -> tuple[Part | None, Blocks]: ...


class Kinds:
    """The keys of an overlay by what stands before their first U+001F, so that asking for those of one kind does not
    look at all. Keys are only added, so that views of earlier versions share it: it may name more than they have.
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._keys: dict[str, dict[str, None]] = {}
        for key in keys:
            self.add(key)

    def add(self, key: str) -> None:
        """Take in a key."""
        self._keys.setdefault(key.partition(_SEPARATOR)[0], {})[key] = None

    def among(self, overlay: Mapping[str, Part | None], prefix: str) -> Iterable[str]:
        """Those keys of an overlay that may begin with a prefix, and it may be others."""
        kind, separator, _ = prefix.partition(_SEPARATOR)
        if not separator:
            return overlay
        return list(self._keys.get(kind, ()))  # at once, since a commit may add to it meanwhile


class DocumentView(Stands):
    """One version of a document; fulfils `views.View`."""

    __slots__ = ("_base", "_compared", "_kinds", "_later", "_since", "compressed", "document", "overlay", "standing")

    def __init__(
        self,
        document: DocumentId,
        base: Snapshot,
        overlay: dict[str, Part | None],
        standing: Standing,
        compressed: bool,
        since: dict[str, OperationRecord],
        kinds: Kinds,
        later: Later | None = None,
    ) -> None:
        self.document = document
        self._base = base
        self._kinds = kinds
        self._later = later
        self._compared: tuple[ref[Stands], set[str]] | None = None
        """What differs from a version that stands in other files, which takes long to tell."""
        self.overlay = overlay
        self.standing = standing
        self.compressed = compressed
        self._since = since  # writes since the snapshot, later ones than this version's too

    def stands_on(self, base: Snapshot, overlay: dict[str, Part | None], standing: Standing) -> bool:
        """Whether it is made of the very same objects."""
        return self._base is base and self.overlay is overlay and self.standing is standing

    def part(self, key: str) -> Part | None:
        """The part as it is kept: its bytes, or where they are."""
        if key in self.overlay:
            return self.overlay[key]
        return self._base.get(key)

    def located(self, key: str) -> tuple[Part | None, Blocks]:
        """The part as it is kept, and who reads its blocks."""
        return self.part(key), self._base.blocks

    def get(self, key: str) -> bytes | None:
        part = self.part(key)
        return self._base.blocks.value(part) if isinstance(part, Extent) else part

    def pieces(self, key: str) -> Pieces | None:
        part = self.part(key)
        return None if part is None else self._base.blocks.pieces(part)

    def size_of(self, key: str) -> int | None:
        part = self.part(key)
        return None if part is None else len(part) if isinstance(part, bytes) else part.length

    def keys(self, prefix: str = "") -> Iterator[str]:
        overlay = self.overlay
        laid = self._kinds.among(overlay, prefix)
        added = sorted(key for key in laid if key.startswith(prefix) and overlay.get(key) is not None)
        kept = (key for key in self._base.keys(prefix) if key not in overlay)
        return in_order(kept, added)

    def differing(self, other: View) -> set[str]:
        if not isinstance(other, Stands):
            return {*self.keys(), *other.keys()}
        changed = self._may_differ(other) if isinstance(other, DocumentView) else None
        if changed is not None:
            # in order, since neighbours stand in one block
            return {key for key in sorted(changed) if self.part(key) != other.located(key)[0]}
        compared = self._compared  # looked at once: another thread may be comparing this view with something else
        if compared is not None and compared[0]() is other:
            return compared[1].copy()
        every = sorted({*self.keys(), *other.keys()})
        found = {key for key in every if not is_surely_same(self.part(key), other.located(key)[0])}
        if not isinstance(other, DocumentView):
            self._compared = ref(other), found.copy()
        return found

    def _may_differ(self, other: DocumentView) -> set[str] | None:
        """The keys of the parts that are to be compared; None where those are all."""
        changed = self._touched_until(other)
        if changed is None:
            changed = other._touched_until(self)
        if changed is None:
            changed = self._touched_beside(other)
        if changed is None and other._base is self._base:  # the rest stands in the snapshot that both stand on
            changed = {*self.overlay, *other.overlay}
        return changed

    def _touched_until(self, other: DocumentView) -> set[str] | None:
        """What the commits between this version and a later one touched; None where that is not at hand, or where they
        stand in two files: what was erased between these is gone from the one, and no commit of them tells it.
        """
        later = self._later
        if later is None or self._base.blocks.file_id != other._base.blocks.file_id:
            return None
        return later.touched if later.commit_id == other.commit_id else None

    def _touched_beside(self, other: DocumentView) -> set[str] | None:
        """What commits between two versions touched, and some more, where both know those up to the same later one."""
        mine, its = self._later, other._later
        if mine is None or its is None or mine.commit_id != its.commit_id:
            return None
        return mine.touched | its.touched if self._base.blocks.file_id == other._base.blocks.file_id else None

    def note_next(self, view: DocumentView, touched: set[str]) -> None:
        """Remember what the commits from here to a later version touched: all that may differ between the two."""
        self._later = Later(view.commit_id, touched)

    def operation(self, operation_id: str) -> OperationRecord | None:
        found = self._since.get(operation_id)
        if found is None or found.version > self.version:
            found = self._base.operation(operation_id)
        return None if found is None or found.version > self.version else found


class Mark(NamedTuple):
    """What a state had taken in since its snapshot at some moment."""

    operations: int
    frames: int
    frame_bytes: int
    clears: int


_ABSENT = object()
_SEPARATOR = "\x1f"
_MOST_REMEMBERED = 20_000
"""So many writes are known of before what is remembered is read anew, without those that are long ago."""


class DocumentState:
    """The newest version that this process knows of, and how it came about since the last snapshot."""

    def __init__(self, document: DocumentId, base: Snapshot) -> None:
        self.document = document
        self.base = base
        self.standing = base.standing
        self._overlay: dict[str, Part | None] = {}
        self._overlay_shared = False
        self._kinds = Kinds()
        self._view: DocumentView | None = None
        self._compressed = base.body.compressed
        self._compressed_at = 0
        self._recent = Recent()
        self._laid_compressed = base.body.compressed
        self._clears = 0
        self._operations: list[OperationRecord] = []
        self._since: dict[str, OperationRecord] = {}
        self._undecoded = Undecoded()
        self.is_torn = False
        """Whether a change of it was broken off, by an interrupt or for want of memory: it is to be read again."""
        self.frames = 0
        self.frame_bytes = 0

    # --- following the log --------------------------------------------------------------------

    def follow(self, found: Frame) -> None:
        """Take in a checked frame that stands behind those taken in so far.

        Raises DocumentDamaged when it is a commit of another version than the next.
        """
        header = found.header
        if header.type != FrameType.COMMIT:
            return
        if header.version != self.standing.version + 1:
            raise damaged(
                self.base.blocks.file,
                found.offset,
                Undecodable(f"version {header.version} stands behind version {self.standing.version}"),
            )
        self.standing = found.standing
        if header.codec != PLAIN:
            self._note_compressed(header.version)
        self.frames += 1
        self.frame_bytes += header.length
        self._undecoded.add(found)
        if self._undecoded.bytes >= _DECODE_AT_BYTES:
            self.decode()

    def decode(self) -> None:
        """Lay what was only taken note of over the rest, in its order.

        Raises DocumentDamaged and what reading raises, and leaves the state as it was then.
        """
        if self.is_torn:
            raise MemoryError("a change of this state was broken off")
        if not self._undecoded.commits:
            return
        commits = self._undecoded.decoded(self.base.blocks.file)
        hidden = self._hidden_by(commits)
        self.is_torn = True
        for commit in commits:
            if commit.compressed:
                self._note_compressed(commit.standing.version)
            self._lay_over(commit, hidden)
        self._undecoded = Undecoded()
        self.is_torn = False

    def apply(
        self, found: Frame, parts: dict[str, Part], removed: list[str], cleared: bool, record: OperationRecord
    ) -> None:
        """Take in a commit of this process, whose parts are at hand."""
        header = found.header
        compressed = header.codec != PLAIN or any(
            block.codec != PLAIN for part in parts.values() if isinstance(part, Extent) for block in part.table
        )
        commit = Laying(parts, removed, cleared, record, found.standing, compressed)
        hidden = self._hidden_by((commit,))
        self.is_torn = True
        self.standing = found.standing
        self.frames += 1
        self.frame_bytes += header.length
        if compressed:
            self._note_compressed(header.version)
        if self._undecoded.commits:  # frames of others come before it, and this is no time to decode them
            self._undecoded.add_own(commit, header.length)
        else:
            self._lay_over(commit, hidden)
        self.is_torn = False

    def _hidden_by(self, commits: Iterable[Laying]) -> list[str]:
        """The keys of the snapshot where one of the commits hides them: to be read before anything is changed."""
        return list(self.base.keys()) if any(commit.cleared for commit in commits) else []

    def _lay_over(self, commit: Laying, hidden: list[str]) -> None:
        parts, removed = commit.parts, commit.removed
        if self._overlay_shared:
            self._overlay = dict(self._overlay)
            self._overlay_shared = False
        if commit.cleared:
            self._clears += 1
            self._overlay = dict.fromkeys(hidden)
            self._kinds = Kinds(self._overlay)
            self._recent.forget()
        self._laid_compressed |= commit.compressed
        self._recent.note(self._overlay, self.base, chain(parts, removed), commit.standing, self._laid_compressed)
        for key in chain(parts, removed):
            if key not in self._overlay:  # else it is among them
                self._kinds.add(key)
        for key in removed:
            self._overlay[key] = None
        self._overlay.update(parts)
        self._operations.append(commit.record)
        self._since[commit.record.operation_id] = commit.record

    def _note_compressed(self, version: int) -> None:
        self._compressed, self._compressed_at = True, max(self._compressed_at, version)

    # --- reading ------------------------------------------------------------------------------

    def part(self, key: str) -> Part | None:
        undecoded = self._undecoded
        if undecoded.commits:
            if undecoded.touches(key):
                self.decode()
            elif key in undecoded.own:  # no commit of others that is not decoded touches it, before or behind ours
                return undecoded.own[key]
        if key in self._overlay:
            return self._overlay[key]
        return self.base.get(key)

    def view(self) -> DocumentView:
        """The present version, which stays as it is."""
        self.decode()
        view = self._view
        if view is None or not view.stands_on(self.base, self._overlay, self.standing):
            view = self._view = DocumentView(
                self.document, self.base, self._overlay, self.standing, self._compressed, self._since, self._kinds
            )
        self._overlay_shared = True
        return view

    def earlier(self, version: int) -> DocumentView | None:
        """One of the last versions, if it is at hand."""
        self.decode()
        found = self._recent.earlier(self._overlay, self.base, version)
        if found is None:
            return None
        overlay, standing, compressed, later = found
        return DocumentView(self.document, self.base, overlay, standing, compressed, self._since, self._kinds, later)

    def touched_since(self, version: int) -> set[str] | None:
        """The keys that the commits behind one of the last versions touched; None where it is not at hand."""
        self.decode()
        return self._recent.touched_since(version)

    def version_that_put(self, key: str) -> int | None:
        """The version whose commit put a part that is there; None where that is too long ago."""
        return None if self.part(key) is None else self._recent.version_touching(key)

    def operation(self, operation_id: str) -> OperationRecord | None:
        """What is remembered of a write. The first question reads all that is remembered."""
        self.decode()
        return self._since.get(operation_id) or self.base.operation(operation_id)

    @property
    def operations_since_base(self) -> list[OperationRecord]:
        self.decode()
        return self._operations

    def stand_on(self, base: Snapshot, view: DocumentView, mark: Mark) -> bool:
        """Stand on a new snapshot of `view`, which was this state's when `mark` was set.

        False when everything was cleared since: what is laid over then hides parts of the old snapshot only.
        """
        self.decode()
        if self._clears != mark.clears:
            return False
        then = view.overlay
        # a part that is still the same object is in the snapshot
        left = {key: part for key, part in self._overlay.items() if then.get(key, _ABSENT) is not part}
        kinds = Kinds(chain(left, self._recent.touched()))
        operations = self._operations[mark.operations :]
        since = {record.operation_id: record for record in operations}
        base.take_over(self.base, self._operations[: mark.operations])
        self.is_torn = True  # until all of it is said of the new snapshot
        self._kinds, self._overlay, self._overlay_shared = kinds, left, False
        self._operations, self._since = operations, since
        self._compressed = self._laid_compressed = base.body.compressed or self._compressed_at > view.version
        self.frames -= mark.frames
        self.frame_bytes -= mark.frame_bytes
        self.base = base
        self.is_torn = False
        return True

    def mark(self) -> Mark:
        """How far this state is from its snapshot now."""
        self.decode()
        return Mark(len(self._operations), self.frames, self.frame_bytes, self._clears)
