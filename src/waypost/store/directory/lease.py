"""The lease: which kernel may write to the directory.

Locks and the page cache join the processes of one kernel and nothing else, so a second kernel (another
machine on a network mount, a virtual machine on a shared folder) must not write at the same time. The
first process that writes leaves a lease with its host and boot id; every writer holds a shared
lock on it, and the last to close removes it. A crash leaves it behind: the same kernel goes on with it, the
same host after a reboot takes it over, anyone else is refused until it is taken over by hand.
"""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from typing import NamedTuple
from zlib import crc32

from waypost import clock
from waypost.errors import LockTimeout, StoreLeased
from waypost.store.directory.files import File
from waypost.store.directory.layout import Layout, new_file
from waypost.store.directory.log import LOCK_TIMEOUT_S

_NAME = "lease"
_TAKING_OVER_S, _RETRY_S = 1.0, 0.001
"""Who shares a lease of before a reboot for longer than this does not do it to take it over too."""
_LOG = logging.getLogger("waypost")


class Holder(NamedTuple):
    """Who holds the lease: machine, boot, and since when (UTC, ISO text)."""

    host: str
    boot: str
    since: str


def _text(holder: Holder) -> bytes:
    body = json.dumps(holder._asdict())[:-1]
    return f'{body}, "checksum": "{crc32(body.encode()):08x}"}}\n'.encode()


def parse(data: bytes) -> Holder | None:
    """The holder that a lease file names; None when its bytes are not what was written."""
    try:
        fields = json.loads(data)
        holder = Holder(fields["host"], fields["boot"], fields["since"])
        return holder if _text(holder) == data else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def read(layout: Layout) -> Holder | None:
    """The present holder; None when nobody holds it or the file cannot be made out."""
    file = layout.root.open(_NAME)
    return None if file is None else parse(file.read(4096, 0))


class Lease:
    """A share in this kernel's lease, held from `take` to `release`."""

    def __init__(self, layout: Layout, file: File) -> None:
        self._layout = layout
        self._file = file
        self.was_shared = False

    def release(self) -> None:
        """Let go; the last holder removes the lease, so that another machine may write."""
        try:
            # nobody can share a lease that is locked alone, so nobody can come in between
            self.was_shared = not self._file.try_lock()
            if not self.was_shared and self.is_current():
                self._layout.root.remove(_NAME)
        finally:
            self._file.close()

    def try_alone(self) -> bool:
        """Make sure that nobody else shares the lease, or comes to share it until `share_again`."""
        if self._file.try_lock():
            return True
        self.share_again()
        return False

    def share_again(self) -> None:
        """Let others share the lease."""
        self._file.lock(LOCK_TIMEOUT_S, self._kept_out, shared=True)

    def _kept_out(self) -> LockTimeout:
        return LockTimeout(f"{self._file.name} is held by {self._file.lock_holder()} alone", file=self._file.name)

    def is_current(self) -> bool:
        """Whether the file that is locked is the one that others find."""
        named = self._layout.root.identity(_NAME)
        return named is not None and named[:2] == self._file.identity()[:2]

    def abandon(self) -> None:
        """In the child of a fork: leave the parent its share."""
        self._file.disown()


def take(layout: Layout, *, by_force: bool = False) -> Lease:
    """Share this kernel's lease, making it when there is none.

    Raises StoreLeased when another kernel holds it, unless `by_force`, and LockTimeout when a process of this one
    keeps it to itself (restoring a backup) for too long.
    """
    deadline = time.monotonic() + _TAKING_OVER_S
    while True:
        file = layout.root.open(_NAME)
        if file is None:
            _make(layout)
            continue
        lease = Lease(layout, file)
        holder = parse(file.read(4096, 0))
        if holder is None or holder.boot != clock.boot_id():
            _check_may_take_over(layout, holder, by_force)
            lease.release()
            if lease.was_shared:
                if time.monotonic() >= deadline:
                    raise StoreLeased(
                        f"{layout.path}: a living process of this machine holds the lease", location=layout.path
                    )
                time.sleep(_RETRY_S)
            continue
        lease.share_again()
        if lease.is_current():
            return lease


def _check_may_take_over(layout: Layout, holder: Holder | None, by_force: bool) -> None:
    if by_force:
        _LOG.warning(
            "%s: the lease of %s is taken over by hand",
            layout.path,
            holder.host if holder else "an unknown holder",
        )
        return
    if holder is None:
        raise StoreLeased(
            f"{layout.path}: the lease cannot be read, so another machine may be writing; when none is: "
            "waypost store doctor --take-lease",
            location=layout.path,
        )
    if holder.host == clock.host():
        return  # this machine, before it was started again: nothing of that boot is alive
    raise StoreLeased(
        f"{layout.path} is in use by {holder.host.partition('/')[0]} since {holder.since}; "
        "if that machine is done with it: waypost store doctor --take-lease",
        location=layout.path,
        host=holder.host,
        since=holder.since,
    )


def _make(layout: Layout) -> None:
    """Put a lease in place unless somebody else was faster."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    temporary, file = new_file(layout)
    try:
        file.write_all(_text(Holder(clock.host(), clock.boot_id(), since)), 0)
        file.sync_all()
        # its name need not be durable: after a crash of this kernel nobody is kept out any more
        layout.folder("temp").link(temporary, layout.root, _NAME)
    finally:
        layout.folder("temp").remove(temporary)
