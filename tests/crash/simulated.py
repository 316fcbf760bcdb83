"""A file system in memory that stands in for `os` and `fcntl` in the module that touches the disk.

`Tree` is what a file system holds: bytes, and names. `Machine` is a kernel over a tree: descriptors, locks, and
those system calls that the store makes, with the errors it relies on. A new machine over the tree that a crash left
is a machine that was started again. It is some hundred times cheaper than a directory.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from waypost.store.directory import files

ROOT = 1
BASE = "/simulated"
_numbers = itertools.count(1 << 30)


class Descriptor(int):
    """The number of an open file. No machine gives one out twice, and the real system has none so large: a file that
    is closed late, by the collector, closes nobody else's.
    """


def new_descriptor() -> Descriptor:
    return Descriptor(next(_numbers))


def refused(error: int, name: object = None) -> OSError:
    return OSError(error, os.strerror(error), name)


class Status(NamedTuple):
    """As much of a `stat_result` as the store asks for."""

    st_dev: int
    st_ino: int
    st_size: int
    st_mode: int
    st_mtime_ns: int = 0


class Tree:
    """Files and directories by inode; the root is inode 1."""

    def __init__(self) -> None:
        self.files: dict[int, bytes] = {}
        self.directories: dict[int, dict[str, int]] = {ROOT: {}}

    def copy(self) -> Tree:
        tree = Tree.__new__(Tree)
        tree.files = dict(self.files)
        tree.directories = {inode: dict(names) for inode, names in self.directories.items()}
        return tree

    def find(self, path: str) -> int | None:
        """The inode at a path below the root."""
        inode: int | None = ROOT
        for name in path.split("/"):
            if name and inode is not None:
                inode = self.directories.get(inode, {}).get(name)
        return inode

    def new_inode(self) -> int:
        return max(*self.files, *self.directories, ROOT) + 1 if self.files else max(self.directories) + 1

    def write(self, inode: int, offset: int, data: bytes) -> None:
        old = self.files[inode]
        if len(old) < offset:
            old += bytes(offset - len(old))
        self.files[inode] = old[:offset] + data + old[offset + len(data) :]

    def cut(self, inode: int, length: int) -> None:
        self.files[inode] = self.files[inode][:length].ljust(length, b"\0")

    def contents(self, inode: int = ROOT, path: str = "") -> Iterator[tuple[str, bytes | None]]:
        """(path, bytes) of every file that has a name; None in place of bytes for a directory."""
        for name, each in sorted(self.directories[inode].items()):
            if each in self.directories:
                yield f"{path}{name}", None
                yield from self.contents(each, f"{path}{name}/")
            else:
                yield f"{path}{name}", self.files[each]

    def fingerprint(self) -> int:
        """Equal for trees that nobody can tell apart."""
        return hash(tuple(self.contents()))


class _Path:
    """Stands in for `os.path`."""

    split = staticmethod(os.path.split)
    abspath = staticmethod(os.path.abspath)
    dirname = staticmethod(os.path.dirname)
    commonpath = staticmethod(os.path.commonpath)
    realpath = staticmethod(os.path.abspath)  # there are no links

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def isdir(self, path: str) -> bool:
        inode = self._machine.tree.find(path.removeprefix(BASE))
        return path == "/" or inode in self._machine.tree.directories


class Machine:
    """Stands in for `os`, and as `machine.fcntl` for `fcntl`."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.path = _Path(self)
        self.fcntl = self
        self._open: dict[int, int] = {}
        self._locks: dict[int, dict[int, bool]] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("LOCK_"):
            return getattr(fcntl, name)
        if name.isupper():
            return getattr(os, name)
        raise AttributeError(f"no simulated call {name}")

    def inode(self, descriptor: int) -> int:
        try:
            return self._open[descriptor]
        except KeyError:
            raise refused(errno.EBADF) from None

    def place(self, path: str, dir_fd: int | None) -> tuple[int, str]:
        """(inode of the directory, name in it)."""
        if dir_fd is not None:
            return self.inode(dir_fd), "" if path == "." else path
        above, _, name = path.removeprefix(BASE).rpartition("/")
        inode = self.tree.find(above)
        if inode is None:
            raise refused(errno.ENOENT, path)
        return inode, name

    def _at(self, path: str, dir_fd: int | None) -> int | None:
        directory, name = self.place(path, dir_fd)
        return self.tree.directories[directory].get(name) if name else directory

    # --- descriptors --------------------------------------------------------------------------

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        inode = self._at(path, dir_fd)
        if inode is None:
            if not flags & os.O_CREAT:
                raise refused(errno.ENOENT, path)
            directory, name = self.place(path, dir_fd)
            inode = self.tree.new_inode()
            self.tree.files[inode] = b""
            self.tree.directories[directory][name] = inode
        elif flags & os.O_EXCL:
            raise refused(errno.EEXIST, path)
        elif flags & os.O_DIRECTORY and inode not in self.tree.directories:
            raise refused(errno.ENOTDIR, path)
        elif flags & os.O_RDWR and inode in self.tree.directories:
            raise refused(errno.EISDIR, path)
        descriptor = new_descriptor()
        self._open[descriptor] = inode
        return descriptor

    def close(self, descriptor: int) -> None:
        self.flock(descriptor, fcntl.LOCK_UN)
        del self._open[descriptor]

    def flock(self, descriptor: int, operation: int) -> None:
        holders = self._locks.setdefault(self.inode(descriptor), {})
        if operation & fcntl.LOCK_UN:
            holders.pop(descriptor, None)
            return
        alone = bool(operation & fcntl.LOCK_EX)
        if any(alone or others_alone for holder, others_alone in holders.items() if holder != descriptor):
            raise refused(errno.EWOULDBLOCK)
        holders[descriptor] = alone

    # --- bytes --------------------------------------------------------------------------------

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        return self.tree.files[self.inode(descriptor)][offset : offset + length]

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        self.tree.write(self.inode(descriptor), offset, bytes(data))
        return len(data)

    def ftruncate(self, descriptor: int, length: int) -> None:
        self.tree.cut(self.inode(descriptor), length)

    def fsync(self, descriptor: int) -> None:
        self.inode(descriptor)

    fdatasync = fsync

    # --- names --------------------------------------------------------------------------------

    def _status(self, inode: int) -> Status:
        if inode in self.tree.directories:
            return Status(1, inode, 0, stat.S_IFDIR | 0o700)
        return Status(1, inode, len(self.tree.files[inode]), stat.S_IFREG | 0o600)

    def fstat(self, descriptor: int) -> Status:
        return self._status(self.inode(descriptor))

    def lseek(self, descriptor: int, offset: int, whence: int) -> int:
        """From the end only, which tells how long a file is."""
        assert (offset, whence) == (0, os.SEEK_END)
        return self.fstat(descriptor).st_size

    def stat(self, path: str, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> Status:
        inode = self._at(path, dir_fd)
        if inode is None:
            raise refused(errno.ENOENT, path)
        return self._status(inode)

    def chmod(self, path: str, mode: int, *, dir_fd: int | None = None) -> None:
        self.stat(path, dir_fd=dir_fd)

    def listdir(self, descriptor: int) -> list[str]:
        return list(self.tree.directories[self.inode(descriptor)])

    def mkdir(self, path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        directory, name = self.place(path, dir_fd)
        if name in self.tree.directories[directory]:
            raise refused(errno.EEXIST, path)
        inode = self.tree.new_inode()
        self.tree.directories[inode] = {}
        self.tree.directories[directory][name] = inode

    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        directory, name = self.place(path, dir_fd)
        if self.tree.directories[directory].pop(name, None) is None:
            raise refused(errno.ENOENT, path)

    def rmdir(self, path: str, *, dir_fd: int | None = None) -> None:
        inode = self._at(path, dir_fd)
        if inode is not None and self.tree.directories[inode]:
            raise refused(errno.ENOTEMPTY, path)
        self.unlink(path, dir_fd=dir_fd)

    def rename(self, name: str, new_name: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        source, target = (self.tree.directories[self.inode(each)] for each in (src_dir_fd, dst_dir_fd))
        if name not in source:
            raise refused(errno.ENOENT, name)
        target[new_name] = source.pop(name)

    def link(self, name: str, new_name: str, *, src_dir_fd: int, dst_dir_fd: int, follow_symlinks: bool = True) -> None:
        source, target = (self.tree.directories[self.inode(each)] for each in (src_dir_fd, dst_dir_fd))
        if name not in source:
            raise refused(errno.ENOENT, name)
        if new_name in target:
            raise refused(errno.EEXIST, new_name)
        target[new_name] = source[name]


@contextmanager
def running_on(system: Any) -> Iterator[None]:
    """Have the store make its system calls to something that has the calls of `os`, and as `fcntl` those of that."""
    before = files.os, files.fcntl, files.statx
    files.os, files.fcntl, files.statx = system, system.fcntl, system
    try:
        yield
    finally:
        files.os, files.fcntl, files.statx = before
