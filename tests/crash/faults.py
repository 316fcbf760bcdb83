"""System calls that fail on purpose: each call of the storage core is counted, and may kill, fail or come short.

`Shim` stands in for `os` and `fcntl` in the one module that touches the disk. Calls are numbered from 1 over both, so
that a sweep goes from n = 1 until the workload ends without having met its fault. A fault is a function that is shown
each call before it is made, and may kill the process, raise, do the call in part, or do nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

from waypost.store.directory import files, statx

ERRNOS = (
    *("ENOSPC", "EDQUOT", "EIO", "EROFS", "EMFILE", "ENFILE"),
    *("EACCES", "ENOMEM", "EINTR", "ENOLCK", "EAGAIN", "ESTALE"),
)
"""Every error that a call of the store is made to fail with."""

_FULL = ("ENOSPC", "EDQUOT", "EROFS", "EIO", "EACCES", "ENOMEM", "EINTR", "ESTALE")
_SYNC = ("EIO", "ENOSPC", "EDQUOT", "EROFS", "EINTR", "ENOMEM", "ESTALE")
_LOOK = ("EIO", "EACCES", "ENOMEM", "EINTR", "ESTALE")
LIKELY: dict[str, tuple[str, ...]] = {
    "open": ("EMFILE", "ENFILE", *_FULL),
    "pwrite": (*_FULL, "EAGAIN"),
    "pread": (*_LOOK, "EAGAIN"),
    "ftruncate": _FULL,
    "fdatasync": _SYNC,
    "fsync": _SYNC,
    "flock": ("ENOLCK", "EINTR", "EAGAIN", "EIO", "ENOMEM", "ESTALE"),
    "close": ("EIO", "EINTR", "ENOSPC", "EDQUOT", "ESTALE"),
    "mkdir": _FULL,
    "chmod": _FULL,
    "fchmod": _FULL,
    "rename": _FULL,
    "link": _FULL,
    "unlink": _FULL,
    "listdir": ("EMFILE", "ENFILE", *_LOOK),
    "fstat": _LOOK,
    "lseek": _LOOK,
    "stat": _LOOK,
}
"""Which errors a call is known to give on some system; the ring of a night gives every call all of `ERRNOS`."""

NO_ROOM = frozenset({"ENOSPC", "EDQUOT", "EROFS"})
"""Errors of a file system that cannot be written to, and can be read."""

MOST_CALLS = 20_000
"""A run that makes more calls is stuck: waiting without a limit shows as this, whatever the machine's speed."""

_KILLED_BY_ALARM_S = 60
_NOT_CALLS = frozenset({"fspath", "fsencode", "fsdecode", "urandom", "strerror", "getpid", "access", "fstatvfs"})


class Call(NamedTuple):
    """One call that is about to be made. `number` counts from 1 over all calls of a run, and `place` is where the store
    makes it, and what for.
    """

    number: int
    name: str
    args: tuple[Any, ...]
    make: Callable[[], Any]
    place: int


Fault = Callable[[Call], Any]
"""Shown each call; anything but None is given back in place of making it."""


class Stuck(BaseException):
    """The store went on making calls without an end; no handler of errors is to catch it."""


def no_fault(_: Call) -> None:
    """Lets everything pass."""


def _place() -> int:
    """The lines of the store, and of what stands on it, that are under way."""
    place, frame = 0, sys._getframe()
    while frame is not None:
        if frame.f_globals["__name__"].startswith("waypost."):
            place = hash((place, frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return place


class Shim:
    """Counts the calls, and shows each to the fault. `trace` holds what was called, in order."""

    def __init__(self, fault: Fault = no_fault) -> None:
        self.fault = fault
        self.trace: list[Call] = []
        self.is_paused = True
        self.met = False

    def call(self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.is_paused:
            return function(*args, **kwargs)
        call = Call(len(self.trace) + 1, name, args, lambda: function(*args, **kwargs), _place())
        self.trace.append(call)
        if call.number > MOST_CALLS:
            raise Stuck(f"{MOST_CALLS:,} calls, the last ones {[each.name for each in self.trace[-6:]]}")
        try:
            instead = self.fault(call)
        except BaseException:
            self.met = True
            raise
        if instead is not None:
            self.met = True
            return instead
        return call.make()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Calls made inside are counted, and may fail."""
        self.is_paused = False
        try:
            yield
        finally:
            self.is_paused = True

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Calls made inside are those of somebody else."""
        before, self.is_paused = self.is_paused, True
        try:
            yield
        finally:
            self.is_paused = before


class _Standin:
    """A module whose functions go through a shim."""

    def __init__(self, shim: Shim, module: Any, prefix: str = "") -> None:
        self._shim = shim
        self._module = module
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._module, name)
        if name == "path":
            return _Standin(self._shim, real, "path.")
        if not callable(real) or isinstance(real, type) or name in _NOT_CALLS or name in _PURE_PATHS:
            return real
        return lambda *args, **kwargs: self._shim.call(self._prefix + name, real, args, kwargs)


_PURE_PATHS = frozenset({"split", "join", "abspath", "basename", "dirname"})


@contextmanager
def installed(shim: Shim) -> Iterator[Shim]:
    """The storage core makes its calls through the shim, which counts them while it is active."""
    files.os, files.fcntl = _Standin(shim, os), _Standin(shim, fcntl)  # type: ignore[assignment]
    files.statx = _Standin(shim, statx)  # type: ignore[assignment]
    try:
        yield shim
    finally:
        files.os, files.fcntl, files.statx = os, fcntl, statx


# --- faults -----------------------------------------------------------------------------------


def kill_at(number: int) -> Fault:
    """The process dies before its n-th call."""

    def fault(call: Call) -> None:
        if call.number == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return fault


def tear_at(number: int, taken: int) -> Fault:
    """The process dies in its n-th call, a write, when so many bytes are written."""

    def fault(call: Call) -> None:
        if call.number == number:
            descriptor, data, offset = call.args
            os.pwrite(descriptor, bytes(data)[:taken], offset)
            os.kill(os.getpid(), signal.SIGKILL)

    return fault


def can_give(call: Call, kind: str, *, any_call: bool = False) -> bool:
    """Whether a call is made to fail with an error: with those it is known to give, or with any."""
    if call.name.startswith("path."):  # these answer no, and never raise
        return False
    if call.name == "open" and kind in NO_ROOM and not any_call:
        return bool(call.args[1] & os.O_CREAT) or (kind == "EROFS" and bool(call.args[1] & os.O_RDWR))
    return any_call or kind in LIKELY.get(call.name, ())


def fail_at(number: int, kind: str, *, onwards: bool = False, any_call: bool = False) -> Fault:
    """The n-th call fails with an error; with `onwards` all later ones too that can give it."""

    def fault(call: Call) -> None:
        is_hit = call.number == number and can_give(call, kind, any_call=any_call)
        if is_hit or (onwards and call.number > number and can_give(call, kind)):
            if call.name == "close":
                call.make()  # the descriptor is gone all the same
            code = getattr(errno, kind)
            raise OSError(code, os.strerror(code))

    return fault


CHANGING = frozenset({"rename", "unlink", "link", "mkdir", "ftruncate", "pwrite", "fdatasync", "fsync"})


def done_and_refused(number: int, kind: str) -> Fault:
    """The n-th call, or the next one behind it that changes something, is carried out, and fails all the same."""
    is_due = True

    def fault(call: Call) -> None:
        nonlocal is_due
        if is_due and call.number >= number and call.name in CHANGING:
            is_due = False
            call.make()
            code = getattr(errno, kind)
            raise OSError(code, os.strerror(code))

    return fault


def interrupt_at(number: int) -> Fault:
    """A signal's handler raises before the n-th call, or before the next one that closes nothing: most descriptors are
    closed while an object dies, and Python drops what is raised there.
    """
    is_due = True

    def fault(call: Call) -> None:
        nonlocal is_due
        if is_due and call.number >= number and call.name != "close":
            is_due = False
            raise KeyboardInterrupt

    return fault


def short_write(number: int, taken: int, kind: str = "ENOSPC") -> Fault:
    """The n-th call, a write, takes so many bytes; every write behind it fails, as on a full disk."""

    def fault(call: Call) -> int | None:
        if call.name != "pwrite" or call.number < number:
            return None
        if call.number == number and taken:
            descriptor, data, offset = call.args
            return os.pwrite(descriptor, bytes(data)[:taken], offset)
        code = getattr(errno, kind)
        raise OSError(code, os.strerror(code))

    return fault


# --- processes --------------------------------------------------------------------------------


class Ended(NamedTuple):
    """How a forked process ended: its exit status (negative for a signal), and the lines that it told."""

    status: int
    told: list[str]

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL


Tell = Callable[[str], None]


def in_child(act: Callable[[Tell], None]) -> Ended:
    """Do something in a fork of this process, which tells lines through a pipe until it ends or dies."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # the child makes no use of the threads that the test's runner may have
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.close(reading)
        _live(act, writing)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        told = pipe.read().splitlines()
    return Ended(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), told)


def _live(act: Callable[[Tell], None], writing: int) -> NoReturn:
    status = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_KILLED_BY_ALARM_S)  # a hang ends as a signal that no fault sends
        act(lambda line: (os.write(writing, line.encode() + b"\n"), None)[1])
        status = 0
    except BaseException:
        os.write(writing, traceback.format_exc().encode())
    finally:
        os._exit(status)
