"""What `waypost store doctor` finds out about a store and the machine it is on, one check at a time."""

from __future__ import annotations

import os
import platform
import stat
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.util import find_spec
from typing import Literal

from msgspec import Struct

from waypost import clock
from waypost.bench.devices import IN_MEMORY, NETWORK
from waypost.cli.text import count, size
from waypost.errors import WaypostError
from waypost.hooks import spool
from waypost.store.directory import lease
from waypost.store.directory.files import mount_of
from waypost.store.directory.layout import Layout

Verdict = Literal["good", "info", "warning", "problem"]


class Check(Struct, frozen=True):
    """One thing that was looked at. `facts` holds what the text says, for programs."""

    name: str
    verdict: Verdict
    text: str
    facts: dict[str, object] = {}


_COPY_ON_WRITE = frozenset({"btrfs", "zfs", "bcachefs", "apfs"})
_LITTLE = 100 << 20
_PRIVATE = 0o700
_NAMED = 5
"""So many refused events are named; the document of `--json` has them all."""


def examine(layout: Layout) -> list[Check]:
    """All checks. One that fails itself is a problem of its own."""
    found: list[Check] = []
    for name, check in _CHECKS:
        try:
            found.extend(check(layout))
        except (OSError, WaypostError) as error:
            found.append(Check(name, "problem", f"could not be examined: {error}"))
    return found


def _place(layout: Layout) -> Iterator[Check]:
    kind, point = mount_of(layout.path)
    where = f"{kind} at {point}" if point else "of a kind that this system does not tell"
    facts: dict[str, object] = {"type": kind, "mount_point": point}
    if kind in IN_MEMORY:
        yield Check(
            "file system", "problem", f"{where}: it is memory, and gone after the next start of the system", facts
        )
    elif kind in NETWORK:
        text = (
            f"{where}: a network file system. Syncs and locks reach as far as its server keeps them; "
            "only one machine at a time may write, and the lease sees to that"
        )
        yield Check("file system", "warning", text, facts)
    else:
        yield Check("file system", "good" if point else "info", where, facts)
    fills = kind not in _COPY_ON_WRITE
    text = (
        "files are filled ahead, so that a sync need not wait for the file system's journal"
        if fills
        else "it copies on write, so files are not filled ahead; syncs cost what its journal costs"
    )
    yield Check("filling", "info", text, {"fill_ahead": fills})


def _locks(layout: Layout) -> Iterator[Check]:
    """Whether a lock that one opening of a file holds is seen by another: the ground that several writers stand on."""
    first, second = layout.root.open("FORMAT"), layout.root.open("FORMAT")
    if first is None or second is None:
        return
    shared = not (first.try_lock() and second.try_lock())  # another process may have it for a moment, too
    text = (
        "flock is shared by all processes of this system (tried)"
        if shared
        else "flock does not exclude: one writer only"
    )
    yield Check("locks", "good" if shared else "problem", text, {"shared": shared})


def _sync(layout: Layout) -> Iterator[Check]:
    name = "F_FULLFSYNC" if sys.platform == "darwin" else "fdatasync"
    text = f"{name}, and fsync for directories; whether the disk seems to lie about flushing: waypost store bench"
    yield Check("sync", "info", text, {"call": name})


def _access(layout: Layout) -> Iterator[Check]:
    found = os.fstat(layout.root.descriptor)
    mode, ours = stat.S_IMODE(found.st_mode), found.st_uid == os.geteuid()
    facts: dict[str, object] = {"mode": f"{mode:04o}", "owner": found.st_uid, "ours": ours}
    if not ours:
        text = (
            f"belongs to user {found.st_uid}, and this is user {os.geteuid()}: whoever owns it can change what is read"
        )
        yield Check("access", "warning", text, facts)
    elif mode & 0o022:
        text = f"mode {mode:04o}: others may write to it. chmod 700 {layout.path}"
        yield Check("access", "problem", text, facts)
    elif mode != _PRIVATE:
        yield Check("access", "warning", f"mode {mode:04o}: others may read it. chmod 700 {layout.path}", facts)
    else:
        yield Check("access", "good", "yours alone (mode 0700)", facts)


def _writing(layout: Layout) -> Iterator[Check]:
    writable = os.access(layout.path, os.W_OK | os.X_OK)
    text = "this process may write here" if writable else "read-only for this process: it can look, and not change"
    yield Check("writing", "good" if writable else "warning", text, {"writable": writable})


def _lease(layout: Layout) -> Iterator[Check]:
    file = layout.root.open("lease")
    if file is None:
        yield Check("lease", "good", "held by nobody: any machine may begin to write", {"holder": None})
        return
    holder = lease.parse(file.read(4096, 0))
    if holder is None:
        text = (
            "cannot be read, so another machine may be writing; when none is: waypost store doctor --take-lease, "
            "or waypost store repair, which keeps its bytes"
        )
        yield Check("lease", "problem", text, {"holder": None})
        return
    facts: dict[str, object] = {"holder": holder._asdict()}
    name = holder.host.partition("/")[0]
    if holder.boot == clock.boot_id():
        in_use = not file.try_lock()
        facts["in_use"] = in_use
        text = f"held by this machine since {holder.since}" + ("" if in_use else ", by processes that have died since")
        yield Check("lease", "good", text, facts)
    elif holder.host == clock.host():
        yield Check("lease", "info", "left by this machine before it was last started; the next writer takes it", facts)
    else:
        text = (
            f"held by {name} since {holder.since}: writing from here is refused. If that machine is done with it: "
            "waypost store doctor --take-lease"
        )
        yield Check("lease", "warning", text, facts)


def _space(layout: Layout) -> Iterator[Check]:
    free = layout.root.free_bytes()
    yield Check("space", "good" if free >= _LITTLE else "warning", f"{size(free)} free", {"free_bytes": free})


def _spool(layout: Layout) -> Iterator[Check]:
    yield from examine_spool(layout.path)


def examine_spool(location: str) -> Iterator[Check]:
    """Events of other programs for the store at a location: how many wait, and which could not be used."""
    if spool.folder_of(location) is None:
        yield Check("spool", "info", "no program has handed an event over", {"waiting": 0, "refused": []})
        return
    waiting, refused = spool.waiting(location), spool.refused(location)
    text = f"{count(waiting, 'event')} of other programs waiting" if waiting else "no event waits"
    facts: dict[str, object] = {"waiting": waiting, "refused": [each._asdict() for each in refused]}
    yield Check("spool", "info" if waiting else "good", text, facts)
    if refused:
        named = "; ".join(f"{each.name} {each.reason}" for each in refused[-_NAMED:])
        more = f"; and {len(refused) - _NAMED:,} before them" if len(refused) > _NAMED else ""
        yield Check("spool", "warning", f"{count(len(refused), 'event')} could not be used: {named}{more}")


def _software(layout: Layout) -> Iterator[Check]:
    codecs = {name: find_spec(module) is not None for name, module in _CODECS.items()}
    has = ", ".join(name for name, there in codecs.items() if there)
    lacks = ", ".join(name for name, there in codecs.items() if not there)
    zstd = _zstd_version()
    text = f"zstd {zstd}, {has}" + (f"; not installed: {lacks}" if lacks else "")
    yield Check("codecs", "good", text, {"zstd": zstd, **codecs})
    versions = {
        "waypost": _version(),
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    yield Check(
        "software",
        "info",
        f"waypost {versions['waypost']}, Python {versions['python']}, {versions['system']}",
        {**versions},
    )


_CODECS = {"gzip": "zlib", "lz4": "lz4", "brotli": "brotli"}


def _version() -> str:
    try:
        return metadata.version("waypost")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _zstd_version() -> str:
    from importlib import import_module

    module = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    return str(module.zstd_version)


_CHECKS: list[tuple[str, Callable[[Layout], Iterator[Check]]]] = [
    ("file system", _place),
    ("locks", _locks),
    ("sync", _sync),
    ("access", _access),
    ("writing", _writing),
    ("lease", _lease),
    ("space", _space),
    ("spool", _spool),
    ("software", _software),
]
