"""Time, ids, and who this process is: the one seam through which the world outside is asked.

Wall time is for people and is only ever shown or stored; ages come from a clock that does not jump.
A process is named by boot, pid namespace, pid and start time, since a pid alone is soon used again.
Tests replace the functions of this module by attribute.
"""

from __future__ import annotations

import os
import platform
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Literal, NamedTuple

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class ProcessIdentity(NamedTuple):
    """Names one process for as long as anyone may remember it.

    `start` is in clock ticks since boot (field 22 of `stat` in proc on Linux), 0 where unknown.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    start: int


def now_us() -> int:
    """Wall time in microseconds since the epoch."""
    return time.time_ns() // 1000


def monotonic_ns() -> int:
    """A clock that never jumps and goes on in suspend where the system has one, in nanoseconds."""
    return time.clock_gettime_ns(_AGE_CLOCK)


def steady_ns() -> int:
    """A clock that never jumps and stands still in suspend, in nanoseconds: the same for all processes of one boot and
    `time_namespace`.
    """
    return time.monotonic_ns()


_AGE_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def to_datetime(time_us: int) -> datetime:
    """An aware UTC datetime of microseconds since the epoch."""
    return _EPOCH + _MICROSECOND * time_us


def to_us(moment: datetime) -> int:
    """Microseconds since the epoch of an aware datetime, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def new_id(prefix: str) -> str:
    """A new unique id that sorts by time: the prefix and 32 hex digits of a UUID of version 7 (RFC 9562)."""
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{_TAILS.draw()}"


class _Tails:
    """What stands behind the time in an id: 20 hex digits, at random but for version and variant. They are made many
    at a time, since right after a sync each call of the system costs as much as all else of making an id.
    """

    def __init__(self) -> None:
        self._held: list[str] = []

    def draw(self) -> str:
        """One that nobody else is given: popping from a list is atomic."""
        while True:
            try:
                return self._held.pop()
            except IndexError:
                self._held.extend(self._made())

    @staticmethod
    def _made() -> list[str]:
        noise = os.urandom(10 * _MADE_AT_ONCE).hex()
        starts = range(0, len(noise), 20)
        return [f"7{noise[at : at + 3]}{_VARIANT[noise[at + 3]]}{noise[at + 4 : at + 19]}" for at in starts]


_MADE_AT_ONCE = 256
_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
"""The digit in which two bits are the variant, of one in which all four are at random."""
_TAILS = _Tails()
os.register_at_fork(after_in_child=_TAILS.__init__)  # what the parent holds is the parent's


@cache
def host() -> str:
    """This machine's name and a stable id of it: the name alone is often `localhost`."""
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            machine = file.read().strip()
    except (OSError, UnicodeDecodeError):
        machine = f"{uuid.getnode():x}"
    return f"{platform.node()}/{machine[:32]}"


@cache
def boot_id() -> str:
    """Names the kernel that is running since it was started. Processes with equal ids share page cache and locks."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        pass
    if sys.platform == "darwin":
        import subprocess

        answer = subprocess.run(["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, check=False)
        if answer.returncode == 0 and answer.stdout.strip():
            return answer.stdout.strip().decode("ascii", "replace")
    return f"unknown/{host()}"


@cache
def time_namespace() -> str:
    """Names the clocks that this process sees: one of another time namespace reads others."""
    try:
        return os.readlink("/proc/self/ns/time")
    except OSError:
        return ""


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def start_ticks(pid: int) -> int | None:
    """The start time of a living process, 0 where the system does not tell it, None where there is no such process. It
    is the same for all who ask, in whatever time namespace.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # the program's name may hold blanks and brackets, so count behind the last bracket
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return _start_unseen(pid)
    except OSError:
        return 0
    if fields[0] in (b"Z", b"X"):
        return None
    shift = _boot_shift()
    return 0 if shift is None else int(fields[19]) - shift


@cache
def _boot_shift() -> int | None:
    """By how many clock ticks proc shows this process, in its time namespace, all that counts from the boot; None where
    these are no whole ones.
    """
    try:
        with open("/proc/self/timens_offsets", "rb") as file:
            offsets = {name: (int(seconds), int(ns)) for name, seconds, ns in map(bytes.split, file)}
    except OSError:
        return 0
    seconds, ns = offsets.get(b"boottime", (0, 0))
    return None if ns else seconds * _TICKS_PER_SECOND


def _start_unseen(pid: int) -> int | None:
    """The same where proc shows no such process: it may not be mounted, or hide those of others (`hidepid`)."""
    if pid <= 0:
        return None  # these stand for several processes
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        return 0
    return 0


def resident_bytes() -> int:
    """What this process has resident in memory; where the system does not tell, the most that it ever had."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
os.register_at_fork(after_in_child=_boot_shift.cache_clear)  # the child may be in another time namespace
_identity: ProcessIdentity | None = None


def process_identity() -> ProcessIdentity:
    """Who this process is. Computed once for each process, again in the child of a fork."""
    global _identity
    pid = os.getpid()
    if _identity is None or _identity.pid != pid:
        _identity = ProcessIdentity(host(), boot_id(), _pid_namespace(), pid, start_ticks(pid) or 0)
    return _identity


def liveness(owner: ProcessIdentity) -> Literal["alive", "dead", "unknown"]:
    """Whether a process is still there, as far as this one can prove.

    `dead` is said only on proof: another boot of this very host, or, in this boot and pid namespace, no
    process of that pid or one that started at another time. What cannot be seen is `unknown`.
    """
    here = process_identity()
    if owner.boot != here.boot:
        return "dead" if owner.host == here.host else "unknown"
    if owner.namespace != here.namespace:
        return "unknown"
    start = start_ticks(owner.pid)
    if start is None:
        return "dead"
    if start and owner.start and start != owner.start:
        return "dead"
    return "alive"
