"""A recording of what a store asked the system to do, and what it promised meanwhile.

`Recorder` stands in for `os`, passes each call on to the real one (or to a `Machine`), and keeps those that change
a file system as events, in which descriptors and paths are resolved to inodes of its own tree. A recording whose tree
is not the one that really came about is refused by `check`. Between the events stand marks: what was attempted,
acknowledged, and given up.

It also makes things go wrong: a process that is killed before its n-th change or within a write, a sync that fails, and
what another process does while a sync is under way.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.crash.simulated import BASE, Descriptor, Machine, Tree, new_descriptor, refused

OUTSIDE = 0
"""In place of an inode: something above the directory that is recorded."""


class Made(NamedTuple):
    """A new, empty file or directory, and its name."""

    directory: int
    name: str
    inode: int
    is_directory: bool


class Wrote(NamedTuple):
    inode: int
    offset: int
    data: bytes


class Cut(NamedTuple):
    inode: int
    length: int


class Linked(NamedTuple):
    directory: int
    name: str
    inode: int


class Removed(NamedTuple):
    directory: int
    name: str


class Renamed(NamedTuple):
    directory: int
    name: str
    to: int
    new_name: str


class Synced(NamedTuple):
    """A sync of a file or directory ended. It covers the events before `since`, or after a failure loses them."""

    inode: int
    since: int
    full: bool
    failed: bool


class Mark(NamedTuple):
    """No event: `kind` is `tried`, `failed` (nobody knows whether it is there), `kept` (survives the end of the
    process) or `promised` (survives a power cut).
    """

    kind: str
    number: int


Event = Made | Wrote | Cut | Linked | Removed | Renamed | Synced | Mark


class Killed(BaseException):
    """The process is gone. Whatever it still tries changes nothing."""


def apply(tree: Tree, event: Event) -> None:
    """What an event does to a tree."""
    match event:
        case Made(directory, name, inode, is_directory):
            if is_directory:
                tree.directories[inode] = {}
            else:
                tree.files[inode] = b""
            tree.directories[directory][name] = inode
        case Wrote(inode, offset, data):
            tree.write(inode, offset, data)
        case Cut(inode, length):
            tree.cut(inode, length)
        case Linked(directory, name, inode):
            tree.directories[directory][name] = inode
        case Removed(directory, name):
            del tree.directories[directory][name]
        case Renamed(directory, name, to, new_name):
            tree.directories[to][new_name] = tree.directories[directory].pop(name)
        case Synced() | Mark():
            pass


def tree_of(path: Path) -> list[tuple[str, bytes | None]]:
    """What `Tree.contents` gives, of a real directory."""
    found = {str(each.relative_to(path)): each.read_bytes() if each.is_file() else None for each in path.rglob("*")}
    return sorted(found.items(), key=lambda each: each[0].split("/"))


class Opened(NamedTuple):
    """A descriptor of the recorder: the one behind it, what it is open on, and which process opened it."""

    real: int
    inode: int
    process: str


class Recorder:
    """Records what is done below a directory: of the real system, or of a simulated machine."""

    def __init__(self, below: Path | Machine) -> None:
        self._below = below
        self._calls: Any = below if isinstance(below, Machine) else os
        self._base = BASE if isinstance(below, Machine) else str(below)
        self.tree = below.tree.copy() if isinstance(below, Machine) else Tree()
        self.before = self.tree.copy()
        self.fcntl = _Locks(self)
        self.events: list[Event] = []
        self.process = "first"
        self.syncs = 0
        self.changes = 0
        self.die_before: int | None = None
        """The number of the change before which the process dies."""
        self.die_within: int | None = None
        """How many bytes of a write the system takes before the process dies: of the next but `writes_before`."""
        self.writes_before = 0
        self.failing_sync: int | None = None
        """The number of the sync that fails."""
        self.during_sync: list[tuple[str, Callable[[], None]]] = []
        """What happens while the next syncs are under way, one for each, and who does it."""
        self._in_sync: list[str] = []
        self._open: dict[int, Opened] = {}
        self._dead: set[str] = set()
        self._untold: set[int] = set()

    def check(self) -> None:
        """Refuse a recording from which something is missing."""
        really = list(self._below.tree.contents()) if isinstance(self._below, Machine) else tree_of(self._below)
        replayed = self.before.copy()
        for event in self.events:
            apply(replayed, event)
        assert sorted(replayed.contents()) == sorted(really), "the recording is not what happened"

    def mark(self, kind: str, number: int) -> None:
        self.events.append(Mark(kind, number))

    @contextmanager
    def acting_as(self, process: str) -> Iterator[None]:
        before, self.process = self.process, process
        try:
            yield
        finally:
            self.process = before

    def is_alive(self, process: str) -> bool:
        return process not in self._dead

    def kill(self, process: str) -> None:
        """End a process: the system closes what it had open, which frees its locks."""
        self._dead.add(process)
        for descriptor in [each for each, opened in self._open.items() if opened.process == process]:
            self._calls.close(self._open.pop(descriptor).real)

    def kill_all(self) -> None:
        for process in {opened.process for opened in self._open.values()}:
            self.kill(process)

    # --- the calls ----------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._calls, name)
        if not callable(real) or isinstance(real, type):
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._pass_on(name, args, kwargs)

        return call

    def real(self, value: Any) -> Any:
        """A descriptor of the system below in place of ours."""
        if not isinstance(value, Descriptor):
            return value
        if value not in self._open:
            raise refused(errno.EBADF)
        return self._open[value].real

    def _pass_on(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._check_alive()
        given = [self.real(each) for each in args]
        return getattr(self._calls, name)(*given, **{key: self.real(each) for key, each in kwargs.items()})

    def _check_alive(self) -> None:
        if self.process in self._dead:
            raise Killed

    def _change(self) -> None:
        """A change is about to be made."""
        self._check_alive()
        self.changes += 1
        if self.die_before == self.changes:
            self._dead.add(self.process)
            raise Killed

    def _note(self, event: Event) -> None:
        self.events.append(event)
        apply(self.tree, event)

    def _place(self, path: str, dir_fd: int | None) -> tuple[int, str]:
        if dir_fd is not None:
            return self._open[dir_fd].inode, "" if path == "." else path
        above, _, name = path.removeprefix(self._base).rpartition("/")
        inode = self.tree.find(above)
        if inode is None:
            raise refused(errno.ENOENT, path)
        return inode, name

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        self._check_alive()
        if dir_fd is None and not path.startswith(self._base):
            return self._opened(self._pass_on("open", (path, flags, mode), {}), OUTSIDE)
        directory, name = self._place(path, dir_fd)
        inode = self.tree.directories[directory].get(name) if name else directory
        is_new = inode is None and flags & os.O_CREAT
        if is_new:
            self._change()
        real = self._pass_on("open", (path, flags, mode), {"dir_fd": dir_fd})
        if is_new:
            inode = self.tree.new_inode()
            self._note(Made(directory, name, inode, False))
        assert inode is not None
        return self._opened(real, inode)

    def _opened(self, real: int, inode: int) -> Descriptor:
        descriptor = new_descriptor()
        self._open[descriptor] = Opened(real, inode, self.process)
        return descriptor

    def close(self, descriptor: int) -> None:
        opened = self._open.pop(descriptor, None)
        self._untold.discard(descriptor)
        if opened is not None:
            self._calls.close(opened.real)

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        self._change()
        data = bytes(data)
        dies = self.die_within is not None and self.writes_before == 0
        self.writes_before = max(0, self.writes_before - 1)
        taken = data[: self.die_within] if dies else data
        written = self._pass_on("pwrite", (descriptor, taken, offset), {})
        self._note(Wrote(self._open[descriptor].inode, offset, taken[:written]))
        if dies:
            self.die_within = None
            self._dead.add(self.process)
            raise Killed
        return written

    def ftruncate(self, descriptor: int, length: int) -> None:
        self._change()
        self._pass_on("ftruncate", (descriptor, length), {})
        self._note(Cut(self._open[descriptor].inode, length))

    def fdatasync(self, descriptor: int) -> None:
        self._sync("fdatasync", descriptor)

    def fsync(self, descriptor: int) -> None:
        self._sync("fsync", descriptor)

    def _sync(self, name: str, descriptor: int) -> None:
        if self._open[descriptor].inode == OUTSIDE:
            return
        self._change()
        since = len(self.events)
        self._happen_meanwhile()
        self.syncs += 1
        inode = self._open[descriptor].inode
        if self.syncs == self.failing_sync:
            # everyone who has the file open is told once, at the next sync; who opens it later is not told
            self._untold |= {each for each, opened in self._open.items() if opened.inode == inode}
        if descriptor in self._untold:
            self._untold.discard(descriptor)
            self._note(Synced(inode, since, name == "fsync", True))
            raise refused(errno.EIO)
        self._pass_on(name, (descriptor,), {})
        self._note(Synced(inode, since, name == "fsync", False))

    def _happen_meanwhile(self) -> None:
        """What is to happen during this sync; a process that acts during the sync of another waits for its own."""
        if self.during_sync and self.during_sync[0][0] not in self._in_sync:
            process, act = self.during_sync.pop(0)
            self._in_sync.append(process)
            try:
                with self.acting_as(process):
                    act()
            finally:
                self._in_sync.remove(process)

    def mkdir(self, path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        directory, name = self._place(path, dir_fd)
        if name not in self.tree.directories[directory]:
            self._change()
        self._pass_on("mkdir", (path, mode), {"dir_fd": dir_fd})
        self._note(Made(directory, name, self.tree.new_inode(), True))

    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        directory, name = self._place(path, dir_fd)
        if name in self.tree.directories[directory]:
            self._change()
        self._pass_on("unlink", (path,), {"dir_fd": dir_fd})
        self._note(Removed(directory, name))

    def rmdir(self, path: str, *, dir_fd: int | None = None) -> None:
        directory, name = self._place(path, dir_fd)
        if name in self.tree.directories[directory]:
            self._change()
        self._pass_on("rmdir", (path,), {"dir_fd": dir_fd})
        self._note(Removed(directory, name))

    def rename(self, name: str, new_name: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        self._change()
        self._pass_on("rename", (name, new_name), {"src_dir_fd": src_dir_fd, "dst_dir_fd": dst_dir_fd})
        self._note(Renamed(self._open[src_dir_fd].inode, name, self._open[dst_dir_fd].inode, new_name))

    def link(self, name: str, new_name: str, *, src_dir_fd: int, dst_dir_fd: int, follow_symlinks: bool = True) -> None:
        self._change()
        places = {"src_dir_fd": src_dir_fd, "dst_dir_fd": dst_dir_fd, "follow_symlinks": follow_symlinks}
        self._pass_on("link", (name, new_name), places)
        inode = self.tree.directories[self._open[src_dir_fd].inode][name]
        self._note(Linked(self._open[dst_dir_fd].inode, new_name, inode))


class _Locks:
    """Stands in for `fcntl`."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(fcntl, name)

    def flock(self, descriptor: int, operation: int) -> None:
        recorder = self._recorder
        below: Any = recorder._below if isinstance(recorder._below, Machine) else fcntl
        below.flock(recorder.real(descriptor), operation)
