"""The only module that touches the disk, but for the one call of `statx`.

Every system call of the storage core is made here, as `os.name(...)`, `fcntl.name(...)` or `statx.stat(...)`, so that
a test can stand in front of each. Paths are never joined: a file is a name in an open directory, must be a
regular file, and is never reached through a link. Whatever the system refuses becomes
`StoreUnavailable` with the call, the file and the reason.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal, NamedTuple, TypeVar
from weakref import WeakSet

from waypost.errors import LockTimeout, StoreError, StoreNotFound, StoreUnavailable
from waypost.store.contract import Counters
from waypost.store.directory import statx

F = TypeVar("F")
FileKind = Literal["file", "directory", "link", "other"]
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FILE_MODE, _DIRECTORY_MODE = 0o600, 0o700
_WRITE_AT_MOST, _READ_UNASKED, _LAST_OFFSET = 1 << 26, 1 << 22, (1 << 63) - 1
_STAT_BLOCK = 512  # the unit of st_blocks, whatever that of the file system is
_KINDS: dict[int, FileKind] = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
_NOT_OURS = ("EACCES", "EPERM", "EROFS", "EINVAL")  # said of directories that may not be read, or cannot be synced
_LOCK_RETRY_S = (0.00002, 0.001)


class Identity(NamedTuple):
    """Which file a descriptor or name stands for, and how long it is."""

    device: int
    inode: int
    size: int


def unavailable(error: OSError, doing: str, name: str) -> StoreUnavailable:
    """The documented error for a refused system call."""
    kind = errno.errorcode.get(error.errno or 0, "unknown error")
    return StoreUnavailable(f"cannot {doing} {name}: {error.strerror} ({kind})", file=name, errno=kind)


_OPEN: WeakSet[_Opened] = WeakSet()


def detach_all() -> None:
    """In the child of a fork: share nothing that is open with the parent."""
    for each in list(_OPEN):
        each.detach()


class _Opened:
    """An open descriptor, and the lock that belongs to it. Closed when it is no longer referred to."""

    __slots__ = ("__weakref__", "_locked", "descriptor", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        _OPEN.add(self)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the descriptor. What an error here could tell, the syncs before it have told."""
        descriptor, self.descriptor = self.descriptor, -1
        locked, self._locked = self._locked, False
        if descriptor < 0:
            return
        try:
            if locked:  # a child of a fork may hold a copy of the descriptor, and with it the lock
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        except OSError:
            pass
        finally:
            try:
                os.close(descriptor)
            except OSError:
                pass

    def disown(self) -> None:
        """In the child of a fork: close the descriptor and leave the parent its lock."""
        self._locked = False
        self.close()

    def detach(self) -> None:
        """In the child of a fork: what views still read gets an opening of its own. A lock belongs to the opening, so
        the parent's would outlive the parent with ours. Systems without these names leave it shared.
        """
        self._locked = False
        with suppress(OSError):
            own = os.open(f"/proc/self/fd/{self.descriptor}", os.O_RDONLY | os.O_CLOEXEC)
            os.dup2(own, self.descriptor, inheritable=False)
            os.close(own)

    def try_lock(self, *, shared: bool = False) -> bool:
        """Take the lock if it is free."""
        self._locked = True  # noted first: an interrupt may come right behind the call
        try:
            fcntl.flock(self.descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            self._locked = False
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise unavailable(error, "lock", self.name) from error
        return True

    def lock(self, timeout_s: float, timed_out: Callable[[], StoreError], *, shared: bool = False) -> None:
        """Take the lock, waiting at most `timeout_s`; then raise what `timed_out` gives."""
        if self.try_lock(shared=shared):
            return
        pause, longest = _LOCK_RETRY_S
        deadline = time.monotonic() + timeout_s
        while not self.try_lock(shared=shared):
            if time.monotonic() >= deadline:
                raise timed_out()
            time.sleep(pause)
            pause = min(pause * 1.5, longest)

    @property
    def is_locked(self) -> bool:
        """Whether the lock is held, be it that it could not be given back."""
        return self._locked

    def unlock(self) -> None:
        """Give the lock back. Where the system refuses, what was done under it stands, and `let_go` has to follow."""
        if self.descriptor < 0:
            return
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
            self._locked = False
        except OSError:
            pass  # the descriptor is needed still: what was written has to be synced

    def let_go(self) -> None:
        """Give the lock back if something left it held, with the descriptor if it must be."""
        if self._locked:
            self.unlock()
        if self._locked:
            self.close()

    def lock_holder(self) -> str:
        """Who holds the lock, as far as the system tells (on Linux the lock table in proc)."""
        try:
            inode = str(os.fstat(self.descriptor).st_ino)
            with open("/proc/locks", encoding="ascii") as table:
                rows = [line.split() for line in table if "FLOCK" in line and "->" not in line]
            return next(f"process {row[4]}" for row in rows if row[5].rpartition(":")[2] == inode)
        except (OSError, IndexError, StopIteration):
            return "another process"


def locked_too_long(what: _Opened, waited_s: float) -> LockTimeout:
    """The error of who has waited for a lock."""
    holder = what.lock_holder()
    why = f"{what.name} was locked for {waited_s:g} seconds by {holder}"
    return LockTimeout(why, file=what.name, holder=holder)


class File(_Opened):
    """An open regular file, so that a view can outlive a compaction."""

    __slots__ = ("_place", "tally")

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor, self._locked = descriptor, False  # what closing looks at, should there be no memory for more
        self._place: tuple[int, int] | None = None
        super().__init__(name)
        self.tally = Counters()

    def identity(self) -> Identity:
        """Device and inode, which a descriptor keeps, and the length now, which is asked as `statx` says."""
        try:
            if self._place is None:
                found = os.fstat(self.descriptor)
                self._place = found.st_dev, found.st_ino
            return Identity(*self._place, os.lseek(self.descriptor, 0, os.SEEK_END))
        except OSError as error:
            raise unavailable(error, "examine", self.name) from error

    def read(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes; fewer only at the end of the file."""
        if offset > _LAST_OFFSET:  # nothing stands there, and the system does not know such numbers
            return b""
        if length > _READ_UNASKED:  # a length that bytes on disk declare is not to be believed
            length = min(length, max(0, self.identity().size - offset))
        try:
            data = os.pread(self.descriptor, length, offset)
            while data and len(data) < length:
                more = os.pread(self.descriptor, length - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise unavailable(error, "read", self.name) from error
        self.tally.reads += 1
        self.tally.bytes_read += len(data)
        return data

    def write(self, data: bytes, offset: int) -> int:
        """One positioned write; returns how many bytes the system took."""
        try:
            written = os.pwrite(self.descriptor, data, offset)
        except OSError as error:
            raise unavailable(error, "write", self.name) from error
        self.tally.writes += 1
        self.tally.bytes_written += written
        return written

    def write_all(self, data: bytes, offset: int) -> None:
        """Write everything, or raise."""
        written = self.write(data, offset)
        while written < len(data):
            more = self.write(data[written : written + _WRITE_AT_MOST], offset + written)
            if not more:
                raise StoreUnavailable(f"cannot write {self.name}: the system takes no more bytes", file=self.name)
            written += more

    def sync(self) -> None:
        """Wait until the bytes, and what is needed to find them, are on the medium."""
        try:
            _sync_data(self.descriptor)
        except OSError as error:
            raise unavailable(error, "sync", self.name) from error
        self.tally.syncs += 1

    def sync_all(self) -> None:
        """As `sync`, with all metadata: for files that take another's place."""
        try:
            _sync_full(self.descriptor)
        except OSError as error:
            raise unavailable(error, "sync", self.name) from error
        self.tally.syncs += 1

    def truncate(self, length: int) -> None:
        try:
            os.ftruncate(self.descriptor, length)
        except OSError as error:
            raise unavailable(error, "cut", self.name) from error


if sys.platform == "darwin":

    def _sync_full(descriptor: int) -> None:
        # fsync on macOS leaves data in the drive's cache; not every file system knows F_FULLFSYNC
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL):
                raise
            os.fsync(descriptor)

    _sync_data = _sync_full
else:

    def _sync_data(descriptor: int) -> None:
        os.fdatasync(descriptor)

    def _sync_full(descriptor: int) -> None:
        os.fsync(descriptor)


class Directory(_Opened):
    """An open directory; files in it are reached by name only."""

    __slots__ = ("path",)

    def __init__(self, descriptor: int, path: str) -> None:
        self.descriptor, self._locked = descriptor, False  # as that of a file
        self.path = path
        super().__init__(path)

    def _shown(self, name: str) -> str:
        return f"{self.path}/{name}"

    def open(self, name: str, *, write: bool = False, create: bool = False, exclusive: bool = False) -> File | None:
        """Open a regular file; None where there is none of that name (never with `create`)."""
        flags = _FLAGS | (os.O_RDWR if write else os.O_RDONLY)
        flags |= (os.O_CREAT if create else 0) | (os.O_EXCL if exclusive else 0)
        try:
            descriptor = os.open(name, flags, _FILE_MODE, dir_fd=self.descriptor)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unavailable(error, "open", self._shown(name)) from error
        file = File(descriptor, self._shown(name))
        try:
            found = os.fstat(descriptor)
            if create and stat.S_IMODE(found.st_mode) != _FILE_MODE:
                os.fchmod(descriptor, _FILE_MODE)  # whatever the umask took away
        except OSError as error:
            raise unavailable(error, "examine", file.name) from error
        if not stat.S_ISREG(found.st_mode):
            raise StoreUnavailable(f"{file.name} is not a regular file", file=file.name, errno="EINVAL")
        return file

    def open_directory(self, name: str) -> Directory | None:
        try:
            descriptor = os.open(name, _FLAGS | os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.descriptor)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unavailable(error, "open", self._shown(name)) from error
        return Directory(descriptor, self._shown(name))

    def make_directory(self, name: str) -> bool:
        """Make a directory for the owner alone; False where the name is taken already."""
        try:
            os.mkdir(name, _DIRECTORY_MODE, dir_fd=self.descriptor)
            os.chmod(name, _DIRECTORY_MODE, dir_fd=self.descriptor)
        except FileExistsError:
            return False
        except OSError as error:
            raise unavailable(error, "make", self._shown(name)) from error
        return True

    def _look(self, name: str, call: Callable[..., F]) -> F | None:
        try:
            return call(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unavailable(error, "examine", self._shown(name)) from error

    def identity(self, name: str) -> Identity | None:
        """Which file the name stands for now."""
        found = self._look(name, statx.stat)
        return None if found is None else Identity(found.st_dev, found.st_ino, found.st_size)

    def allocated(self, name: str) -> int | None:
        """How many bytes of the medium the file takes; None where there is none."""
        found = self._look(name, os.stat)
        return None if found is None else found.st_blocks * _STAT_BLOCK

    def _itself(self) -> os.stat_result:
        try:
            return os.fstat(self.descriptor)
        except OSError as error:
            raise unavailable(error, "examine", self.path) from error

    def place(self) -> tuple[int, int]:
        """Which directory this is, by whatever path it was reached."""
        found = self._itself()
        return found.st_dev, found.st_ino

    def changed_ns(self) -> int:
        """When a name in this directory last came or went, by the file system's clock."""
        return self._itself().st_mtime_ns

    def kind(self, name: str) -> FileKind | None:
        """What the name itself stands for, links not followed; None where there is nothing of that name."""
        found = self._look(name, os.stat)
        return None if found is None else _KINDS.get(stat.S_IFMT(found.st_mode), "other")

    def make_private(self) -> None:
        """Take from others what they may do here."""
        try:
            os.fchmod(self.descriptor, _DIRECTORY_MODE)
        except OSError as error:
            raise unavailable(error, "change the mode of", self.path) from error

    def states(self, suffix: str) -> Iterator[tuple[str, os.stat_result]]:
        """Each name that ends so, and what the system says about its file now."""
        for name in self.names():
            if name.endswith(suffix) and (found := self._look(name, os.stat)) is not None:
                yield name, found

    def names(self) -> list[str]:
        """What is in the directory, read through a descriptor of its own: two listings through one, of threads or of a
        fork, would share how far they have read, and each would miss names.
        """
        try:
            descriptor = os.open(".", _FLAGS | os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.descriptor)
            try:
                return os.listdir(descriptor)
            finally:
                with suppress(OSError):  # nothing was written through it
                    os.close(descriptor)
        except OSError as error:
            raise unavailable(error, "list", self.path) from error

    def remove(self, name: str) -> bool:
        """Remove a file; False where there is none of that name."""
        return self._take_away(os.unlink, name)

    def remove_directory(self, name: str) -> bool:
        """Remove an empty directory; False where there is none of that name."""
        return self._take_away(os.rmdir, name)

    def _take_away(self, call: Callable[..., None], name: str) -> bool:
        try:
            call(name, dir_fd=self.descriptor)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise unavailable(error, "remove", self._shown(name)) from error
        return True

    def move(self, name: str, to: Directory, new_name: str) -> None:
        """Rename a file, over one that may be there."""
        try:
            os.rename(name, new_name, src_dir_fd=self.descriptor, dst_dir_fd=to.descriptor)
        except OSError as error:
            raise unavailable(error, "rename", self._shown(name)) from error

    def link(self, name: str, to: Directory, new_name: str) -> bool:
        """Give a file a second name; False where that name is taken already."""
        try:
            os.link(name, new_name, src_dir_fd=self.descriptor, dst_dir_fd=to.descriptor, follow_symlinks=False)
        except FileExistsError:
            return False
        except OSError as error:
            raise unavailable(error, "link", self._shown(name)) from error
        return True

    def sync(self) -> None:
        """Make the names in this directory durable."""
        try:
            _sync_full(self.descriptor)
        except OSError as error:
            raise unavailable(error, "sync", self.path) from error

    def mode(self) -> int:
        """The permission bits, for `doctor`."""
        return stat.S_IMODE(self._itself().st_mode)

    def writable(self) -> bool:
        """Whether this process may make files here."""
        return os.access(".", os.W_OK | os.X_OK, dir_fd=self.descriptor)

    def free_bytes(self) -> int:
        try:
            found = os.fstatvfs(self.descriptor)
        except OSError as error:
            raise unavailable(error, "examine", self.path) from error
        return found.f_bavail * found.f_frsize


def open_path(path: str) -> Directory:
    """Open the directory at a path; links on the way to it are followed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise StoreNotFound(f"there is no directory at {path}", location=path) from error
    except OSError as error:
        raise unavailable(error, "open", path) from error
    return Directory(descriptor, path)


def lies_in(path: str, folder: str) -> bool:
    """Whether a path leads to a directory or below it, whatever links are on the way."""
    return os.path.commonpath([os.path.realpath(path), real := os.path.realpath(folder)]) == real


def make_path(path: str) -> None:
    """Make a directory and those above it, each durable in the one that holds it."""
    if os.path.isdir(path):
        return
    above, name = os.path.split(os.path.abspath(path))
    make_path(above)
    parent = open_path(above)
    parent.make_directory(name)
    parent.sync()


def sync_above(path: str) -> None:
    """Make the name of a directory durable, and those of the directories above it, as far as they may be looked at."""
    above = os.path.dirname(path)
    while True:
        try:
            open_path(above).sync()
        except StoreUnavailable as error:
            if error.details.get("errno") not in _NOT_OURS:
                raise
        if above == os.path.dirname(above):
            return
        above = os.path.dirname(above)


def mount_of(path: str) -> tuple[str, str]:
    """(file system type, mount point) of a path, from the mount table; ("unknown", "") where there is none."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            rows = [line.split() for line in table]
    except OSError:
        return "unknown", ""
    real, best = os.path.realpath(path), ("unknown", "")
    for row in rows:
        point = row[4].replace("\\040", " ")
        if len(point) >= len(best[1]) and (real == point or real.startswith(point.rstrip("/") + "/")):
            best = (row[row.index("-") + 1], point)
    return best
