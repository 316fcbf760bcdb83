"""What a power cut can leave of the changes that were made: the states of a disk after a crash.

A `Disk` follows a recording. It splits each change into operations: data in pieces of 4 KiB, growth, cuts, names. What
a finished sync covers is there after a crash; of the rest any part may be. Three models say which parts:

* `kill`: the process died and the system lives, so everything is there;
* `ordered`, as ext4 and XFS behave: names and cuts in their order, a file's length only with the data up to it, pages
  whole but for the sectors of one;
* `weak`, all that POSIX allows: each operation for itself, growth without data (what stands there then is zeros, ones
  or old bytes), a rename whose two names go different ways, one piece of data torn at any of several bytes.

A failed sync loses the data that it should have covered: a later one does not make up for it, unless the bytes were
written again. Names that a failed sync of a directory left behind are covered by the next one, since a file system
whose journal fails stops. The length of a file is part of what `fdatasync` covers, its name is not.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Literal, NamedTuple

from tests.crash.recording import Cut, Event, Linked, Made, Removed, Renamed, Synced, Wrote
from tests.crash.simulated import Tree

PIECE = 4096
SECTOR = 512
TORN_AT = (1, 2, 3, 4, 7, 8, 12, 16)
FILLS = ("zeros", "ones", "old bytes")
_ALL_SUBSETS = 8

Model = Literal["kill", "ordered", "weak"]
Name = tuple[int, str, int | None]
"""(directory, name, the inode that it stands for from now on)."""


class Operation:
    """A small part of a change, which a power cut leaves whole, or not at all, or torn where it is data."""

    __slots__ = ("data", "durable", "event", "inode", "kind", "lost", "names", "needs", "offset")

    def __init__(
        self,
        kind: Literal["data", "grow", "extend", "cut", "name"],
        event: int,
        *,
        inode: int = 0,
        offset: int = 0,
        data: bytes = b"",
        names: tuple[Name, ...] = (),
        needs: tuple[Operation, ...] = (),
    ) -> None:
        self.kind = kind
        self.event = event
        self.inode = inode
        self.offset = offset
        self.data = data
        self.names = names
        self.needs = needs
        self.durable = False
        self.lost = False

    def __str__(self) -> str:
        if self.kind == "name":
            return f"[{self.event}] " + ", ".join(f"{folder}/{name} -> {inode}" for folder, name, inode in self.names)
        end = f"..{self.offset + len(self.data)} {self.data[:8].hex()}" if self.kind in ("data", "extend") else ""
        return f"[{self.event}] {self.kind} of {self.inode} at {self.offset}{end}{' (lost)' if self.lost else ''}"

    def objects(self) -> list[object]:
        """What it changes: a file, or names."""
        return [self.inode] if not self.names else [name[:2] for name in self.names]

    def is_names_of(self, directory: int) -> bool:
        return any(name[0] == directory for name in self.names)


class Choice(NamedTuple):
    """Which of the optional operations are on the medium; which of them is torn, and what is left of it; what
    stands where a file grew without its data.
    """

    taken: frozenset[int]
    torn: tuple[int, int, int] | None = None
    fill: str = "zeros"


@dataclass(frozen=True)
class Crash:
    """A moment at which the power may go: what is on the medium for sure, and which operations may be."""

    event: int
    base: Tree
    operations: tuple[Operation, ...]
    durable: frozenset[int]
    """Which of the operations are there for sure, but stand behind others of the same file that are not."""
    is_weak: bool

    def optional(self) -> list[int]:
        return [at for at in range(len(self.operations)) if at not in self.durable]

    def legal(self, taken: frozenset[int]) -> frozenset[int]:
        """Without those that cannot be there since what they need is not."""
        there = taken | self.durable
        gone: set[int] = set()
        for at, needs in self._needing:
            if at in taken and not all(need in there and need not in gone for need in needs):
                gone.add(at)
        return taken - gone if gone else taken

    @cached_property
    def _needing(self) -> list[tuple[int, list[int]]]:
        """The operations that need others which are open, in their order, and which these are."""
        places = {id(each): at for at, each in enumerate(self.operations)}
        needs = ([places[id(need)] for need in each.needs if id(need) in places] for each in self.operations)
        return [(at, needed) for at, needed in enumerate(needs) if needed]

    def state(self, choice: Choice) -> Tree:
        """What the medium holds then."""
        tree = self.base.copy()
        for at, operation in enumerate(self.operations):
            if at in choice.taken or at in self.durable:
                _put(tree, operation, choice, at)
        return tree

    def everything(self) -> Choice:
        return Choice(frozenset(self.optional()))

    def choices(self, seed: int) -> Iterator[tuple[bool, Choice]]:
        """Legal choices: the telling ones first, then samples (True) without end, some of which come twice."""
        rng = random.Random(seed)
        optional = self.optional()
        found: dict[frozenset[int], None] = {}
        for each in map(self.legal, _subsets(optional)):
            if each not in found:
                found[each] = None
                yield False, Choice(each)
        subsets = list(found)
        if not optional:
            return
        tears = [(at, *tear) for at in optional for tear in self._tears(self.operations[at])]
        fills = FILLS if self.is_weak else FILLS[:1]
        while True:
            taken = rng.choice(subsets)
            if rng.random() < 0.3:
                taken = self.legal(frozenset(at for at in optional if rng.random() < 0.6))
            torn = rng.choice(tears) if tears and rng.random() < 0.6 else None
            if torn is not None:
                taken = self.legal(taken | {torn[0]})
            yield True, Choice(taken, torn if torn is not None and torn[0] in taken else None, rng.choice(fills))

    def _tears(self, operation: Operation) -> Iterator[tuple[int, int]]:
        """Which part of a piece of data may be there alone."""
        if operation.kind != "data":
            return
        length = len(operation.data)
        first = -operation.offset % SECTOR
        cuts = set(range(first, length, SECTOR))
        if self.is_weak:
            cuts |= {*TORN_AT, length // 2, length - 1}
        for cut in sorted(cuts):
            if 0 < cut < length:
                yield 0, cut
                yield cut, length


def _subsets(optional: Sequence[int]) -> Iterator[frozenset[int]]:
    """All when they are few; otherwise those that tell most."""
    whole = frozenset(optional)
    if len(optional) <= _ALL_SUBSETS:
        for count in range(len(optional) + 1):
            yield from map(frozenset, combinations(optional, count))
        return
    for at in range(len(optional) + 1):
        yield frozenset(optional[:at])
        yield frozenset(optional[at:])
    for each in optional:
        yield whole - {each}
        yield frozenset({each})
    for pair in combinations(optional, 2):
        yield frozenset(pair)
        yield whole - frozenset(pair)


def _put(tree: Tree, operation: Operation, choice: Choice | None = None, at: int = -1) -> None:
    """Do an operation to a tree."""
    if operation.kind == "name":
        for directory, name, inode in operation.names:
            if inode is None:
                tree.directories[directory].pop(name, None)
            else:
                tree.directories[directory][name] = inode
        return
    held = tree.files[operation.inode]
    if operation.kind == "grow":
        fill = choice.fill if choice is not None else FILLS[0]
        grown = operation.offset - len(held)
        if grown > 0:
            old = operation.data[-grown:]
            tree.files[operation.inode] = held + (
                bytes(grown) if fill == "zeros" else b"\xff" * grown if fill == "ones" else old
            )
    elif operation.kind == "cut":
        tree.cut(operation.inode, operation.offset)
    else:
        start, end = 0, len(operation.data)
        if choice is not None and choice.torn is not None and choice.torn[0] == at:
            _, start, end = choice.torn
        if operation.kind == "data":  # nothing is seen beyond the length
            end = min(end, len(held) - operation.offset)
        if start < end:
            tree.write(operation.inode, operation.offset + start, operation.data[start:end])


class Disk:
    """Follows a recording, and says what may be on the medium at each moment."""

    def __init__(self, tree: Tree, model: Model) -> None:
        self._is_weak = model == "weak"
        self._keeps_all = model == "kill"
        self._base = tree.copy()
        self._operations: list[Operation] = []
        self._seen = dict(tree.files)
        self._length = {inode: len(data) for inode, data in tree.files.items()}
        self._last_in_journal: Operation | None = None
        self._last_of_file: dict[int, Operation] = {}
        self._last_of_page: dict[tuple[int, int], Operation] = {}

    def crash(self, event: int) -> Crash:
        """The power goes now."""
        durable = frozenset(at for at, each in enumerate(self._operations) if each.durable)
        return Crash(event, self._base.copy(), tuple(self._operations), durable, self._is_weak)

    def follow(self, at: int, event: Event) -> None:
        match event:
            case Made(directory, name, inode, is_directory):
                if is_directory:
                    self._base.directories[inode] = {}
                else:
                    self._base.files[inode] = b""
                    self._seen[inode], self._length[inode] = b"", 0
                self._name(at, (directory, name, inode))
            case Linked(directory, name, inode):
                self._name(at, (directory, name, inode))
            case Removed(directory, name):
                self._name(at, (directory, name, None))
            case Renamed(directory, name, to, new_name):
                self._rename(at, (directory, name), (to, new_name))
            case Wrote(inode, offset, data):
                (self._write_weakly if self._is_weak else self._write_in_order)(at, inode, offset, data)
            case Cut(inode, length):
                self._cut(at, inode, length)
            case Synced():
                self._sync(event)
            case _:
                return
        if self._keeps_all:
            for operation in self._operations:
                operation.durable = True
        self._fold()

    # --- changes ------------------------------------------------------------------------------

    def _add(self, operation: Operation) -> Operation:
        self._operations.append(operation)
        return operation

    def _in_journal(self, operation: Operation) -> None:
        if not self._is_weak and self._last_in_journal is not None:
            operation.needs += (self._last_in_journal,)
        self._last_in_journal = self._add(operation)

    def _name(self, at: int, *names: Name) -> None:
        self._in_journal(Operation("name", at, names=names))

    def _rename(self, at: int, old: tuple[int, str], new: tuple[int, str]) -> None:
        inode = self._now(*old)
        if self._is_weak:
            self._name(at, (*new, inode))
            self._name(at, (*old, None))
        else:
            self._name(at, (*new, inode), (*old, None))

    def _now(self, directory: int, name: str) -> int | None:
        """What a name stands for in the system that runs."""
        for operation in reversed(self._operations):
            for each in operation.names:
                if each[:2] == (directory, name):
                    return each[2]
        return self._base.directories[directory].get(name)

    def _pieces(self, offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
        while data:
            room = PIECE - offset % PIECE
            yield offset, data[:room]
            offset, data = offset + room, data[room:]

    def _write_weakly(self, at: int, inode: int, offset: int, data: bytes) -> None:
        end = offset + len(data)
        if end > self._surely(inode):
            self._add(Operation("grow", at, inode=inode, offset=end, data=self._old_bytes(inode, end)))
        for start, piece in self._pieces(offset, data):
            self._add(Operation("data", at, inode=inode, offset=start, data=piece))
        self._length[inode] = max(self._length[inode], end)
        self._see(inode, offset, data)

    def _surely(self, inode: int) -> int:
        """How long the file is on the medium at least."""
        length = len(self._base.files[inode])
        for operation in self._operations:
            if operation.inode == inode and operation.durable and operation.kind in ("grow", "cut"):
                length = max(length, operation.offset) if operation.kind == "grow" else operation.offset
            elif operation.inode == inode and operation.kind == "cut":
                length = min(length, operation.offset)
        return length

    def _write_in_order(self, at: int, inode: int, offset: int, data: bytes) -> None:
        for start, piece in self._pieces(offset, data):
            inside = max(0, min(len(piece), self._length[inode] - start))
            if inside:
                self._add_data(at, inode, start, piece[:inside])
            if inside < len(piece):
                needs = (self._last_of_file[inode],) if inode in self._last_of_file else ()
                extend = Operation("extend", at, inode=inode, offset=start + inside, data=piece[inside:], needs=needs)
                self._last_of_file[inode] = self._add(extend)
                self._length[inode] = start + len(piece)
        self._see(inode, offset, data)

    def _add_data(self, at: int, inode: int, offset: int, data: bytes) -> None:
        page = inode, offset // PIECE
        needs = [last[key] for last, key in ((self._last_of_file, inode), (self._last_of_page, page)) if key in last]
        self._last_of_page[page] = self._add(
            Operation("data", at, inode=inode, offset=offset, data=data, needs=tuple(needs))
        )

    def _cut(self, at: int, inode: int, length: int) -> None:
        operation = Operation("cut", at, inode=inode, offset=length)
        if not self._is_weak and inode in self._last_of_file:
            operation.needs = (self._last_of_file[inode],)
        self._in_journal(operation)
        self._last_of_file[inode] = operation
        self._length[inode] = length

    def _see(self, inode: int, offset: int, data: bytes) -> None:
        """Remember what stood in a file at any time: its old bytes may turn up again."""
        before = self._seen[inode].ljust(offset, b"\0")
        self._seen[inode] = before[:offset] + data + before[offset + len(data) :]

    def _old_bytes(self, inode: int, end: int) -> bytes:
        """What may stand in blocks that a file was given: what it held there before, or another file did.

        Not at the start of a new file. There the store takes old bytes for somebody else's file, and refuses it.
        """
        if not self._seen[inode]:
            return bytes(4).ljust(end, b"\x5a")
        other = max((data for each, data in self._seen.items() if each != inode), key=len, default=b"")
        mine = self._seen[inode][:end]
        return (mine + other[len(mine) : end]).ljust(end, b"\x5a")

    # --- syncs --------------------------------------------------------------------------------

    def _sync(self, event: Synced) -> None:
        covered = [
            each
            for each in self._operations
            if each.event < event.since and (each.inode == event.inode or each.is_names_of(event.inode))
        ]
        if event.failed:
            for each in covered:
                each.lost = each.lost or (not each.durable and not each.names)
            return
        covered = [each for each in covered if not each.lost]
        if not self._is_weak and (event.full or any(each.kind in ("extend", "cut") for each in covered)):
            covered += [each for each in self._operations if each.names and each.event < event.since]
        for each in covered:
            self._make_durable(each)

    def _make_durable(self, operation: Operation) -> None:
        if not operation.durable:
            operation.durable = True
            for need in operation.needs:
                self._make_durable(need)

    def _fold(self) -> None:
        """Take into the base what is durable and stands behind nothing that is not."""
        kept: list[Operation] = []
        blocked: set[object] = set()
        for operation in self._operations:
            if operation.durable and blocked.isdisjoint(operation.objects()):
                _put(self._base, operation)
            else:
                blocked.update(operation.objects())
                kept.append(operation)
        self._operations = kept
