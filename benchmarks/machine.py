"""What is measured on: the machine, the file system, the versions; and where measuring leaves its files meanwhile."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import tempfile
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from waypost.bench.devices import IN_MEMORY
from waypost.store.directory.files import mount_of

PEER = "langgraph-checkpoint-sqlite"
PEER_POSTGRES = "langgraph-checkpoint-postgres"
DBOS = "dbos"
BURR = "apache-burr"
PACKAGES = ("waypost", "msgspec", "backports.zstd", "psycopg", PEER, PEER_POSTGRES, DBOS, BURR)
QUIET_SHARE = 0.5
"""The most load on a quiet machine, for each processor: what a run just before this one leaves behind is less."""


def find_directory() -> str:
    """A place for temporary files that is on a disk; one that is not where there is no other."""
    places = [tempfile.gettempdir(), "/var/tmp", str(Path.cwd())]
    usable = [place for place in places if os.access(place, os.W_OK)]
    return next((place for place in usable if file_system(place) not in IN_MEMORY), usable[0])


def file_system(path: str) -> str:
    """The type of the file system that a path lies on, "unknown" where the system does not tell."""
    return mount_of(path)[0]


def bytes_handed_over() -> int:
    """Bytes that this process has given to write calls so far, also those of its threads; 0 where nobody counts."""
    try:
        counts = Path("/proc/self/io").read_text(encoding="ascii")
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in counts.splitlines() if line.startswith("wchar:"))


def bytes_on_medium(directory: str) -> int:
    """What all files below a directory take on the medium, itself included: blocks, not lengths."""
    found = os.lstat(directory).st_blocks
    for above, folders, files in os.walk(directory):
        found += sum(os.lstat(os.path.join(above, name)).st_blocks for name in [*folders, *files])
    return 512 * found


def disk_writes(path: str) -> int | None:
    """Writes that the disk below a path has carried out so far, of all processes; None where the system does not tell,
    or nothing is there, as of a server.

    The third figure of iostat(1): those of a file system's journal are among them, and no call that tells of them.
    """
    try:
        device = os.stat(path).st_dev
        counts = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text(encoding="ascii").split()
        return int(counts[4])
    except (OSError, IndexError, ValueError):
        return None


def has_peer(saver: str = "sqlite") -> bool:
    """Whether the peer is installed, without importing it."""
    return find_spec("langgraph") is not None and find_spec(f"langgraph.checkpoint.{saver}") is not None


def has_dbos() -> bool:
    """Whether DBOS is installed, without importing it."""
    return find_spec(DBOS) is not None


def sqlite_durability(connection: sqlite3.Connection) -> str:
    """The settings that a connection really has."""
    levels = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    (level,) = connection.execute("PRAGMA synchronous").fetchone()
    return f"journal_mode={mode}, synchronous={levels.get(level, level)}"


def describe(directory: str) -> dict[str, str]:
    """The header of a report: what has to be known to compare it with another one."""
    kind = file_system(directory)
    if kind in IN_MEMORY:
        kind += ": THIS IS MEMORY, nothing here is durable and no ratio says anything about a disk"
    return {
        "measured": f"{datetime.now(UTC):%Y-%m-%d}, commit {_commit()}",
        "machine": f"{_processor()}, {_usable_processors()} processors usable, load {_load()} at the start",
        "system": f"{platform.system()} {platform.release()}",
        "file system": kind,
        "Python": f"{platform.python_implementation()} {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        "packages": ", ".join(_versions(*PACKAGES)),
    }


def disturbance() -> str | None:
    """What to say when others use the processors too; None on a machine that has nothing else to do."""
    try:
        load = os.getloadavg()[0]
    except OSError:
        return None
    if load < _usable_processors() * QUIET_SHARE:
        return None
    return (
        f"OTHERS WERE USING THE MACHINE: the load was {load:.1f} on {_usable_processors()} processors before anything "
        "was measured. A sync then waits for a processor more than for the disk, and hides what else a commit costs."
    )


def _commit() -> str:
    """The commit of the source that the benchmarks stand in, and whether it was changed since."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=, changed since"]
    try:
        found = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or 'processor unknown'} ({platform.machine()})"


def _usable_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _load() -> str:
    try:
        return f"{os.getloadavg()[0]:.1f}"
    except OSError:
        return "unknown"


def _versions(*names: str) -> list[str]:
    found: list[str] = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} absent")
    return found
