"""Documents that are held: a row with a lease, which runs by the server's clock, and is renewed while its holder lives.

A holder that ends without letting go is found out at once where his process can be seen, and elsewhere when the lease
has run out. The number of signs of life and the holder's own clock stand in the row, too, as in the directory store.
"""

from __future__ import annotations

import _thread
import logging
import threading
from collections.abc import Iterator
from uuid import UUID, uuid4

from waypost import clock
from waypost.errors import WaypostError
from waypost.store.claims import Beat, Lease, Sight
from waypost.store.kinds import DocumentId, Kind
from waypost.store.postgres.connections import Connections

_LOG = logging.getLogger("waypost")
_LONGEST_PERIOD_MS = 10_000
_PERIODS = 3
_PAUSES = 4
"""A beat that fails is followed by the next one after a part of a period."""


class Held:
    """Fulfils `claims.Claim`."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self.holder = uuid4()

    def release(self) -> None:
        if self._leases.dropped(self.holder):
            self._leases.connections.write("release", (self.holder,))


class Leases:
    """What an open store holds, with a thread that renews it while it holds anything."""

    def __init__(self, connections: Connections, period_ms: int) -> None:
        self.connections = connections
        self._period_ms = min(period_ms, _LONGEST_PERIOD_MS)
        self._held: set[UUID] = set()
        self._lock = threading.Lock()
        self._done = threading.Event()
        """Set while there is no thread."""
        self._done.set()

    def claim(self, document: DocumentId, *, by_force: bool, instead_of: Sight | None) -> Held | None:
        """See `contract.Store.claim`."""
        held = Held(self)
        parameters = {
            **document._asdict(),
            "holder": held.holder,
            "boot": clock.boot_id(),
            "clocks": clock.time_namespace(),
            "steady_ns": clock.steady_ns(),
            "period_ms": self._period_ms,
            "lease_ms": self._period_ms * _PERIODS,
            "by_force": by_force,
            "instead_of": None if instead_of is None or instead_of.lease is None else UUID(instead_of.lease.holder),
        }
        if not self.connections.write("claim", parameters):
            return None
        with self._lock:
            self._held.add(held.holder)
            if self._done.is_set():
                self._start()
        return held

    def _start(self) -> None:
        done = threading.Event()
        try:
            _thread.start_new_thread(self._beat, (done,))
        except RuntimeError as error:
            _LOG.warning("no lease can be renewed: %s", error)
            return
        self._done = done

    def sight(self, document: DocumentId) -> Sight | None:
        """See `contract.Store.holder`."""
        rows = self.connections.read("holder", document)
        if not rows:
            return None
        number, boot, clocks, steady_ns, period_ms, age_ms, lease_ms, holder = rows[0]
        beat = Beat(number, boot, clocks, steady_ns, period_ms)
        lease = Lease(age_ms, lease_ms, str(holder))
        return Sight(not lease.has_run_out, beat, lease)

    def documents(self, kind: Kind) -> Iterator[str]:
        return iter([row[0] for row in self.connections.read("claimed", (kind,))])

    def dropped(self, holder: UUID) -> bool:
        """Renew it no more; whether it was held until now."""
        with self._lock:
            if holder not in self._held:
                return False
            self._held.discard(holder)
            if not self._held:
                self._done.set()
            return True

    def _beat(self, done: threading.Event) -> None:
        period_s = pause_s = self._period_ms / 1000
        renewed = clock.monotonic_ns()
        is_running = True
        while not done.wait(pause_s):
            asked = clock.monotonic_ns()
            if self._renew(period_s):
                pause_s, renewed, is_running = period_s, asked, True
                continue
            pause_s = period_s / _PAUSES  # there is time for another beat while they run
            if is_running and clock.monotonic_ns() - renewed > period_s * _PERIODS * 1e9:
                is_running = False
                _LOG.warning("leases have run out: others may take over what this process holds")

    def _renew(self, limit_s: float) -> bool:
        """Whether the server answers within a time. Then it says what is held still, and the rest is told as lost."""
        with self._lock:
            held = set(self._held)
        try:
            rows = self.connections.write_within("beat", (clock.steady_ns(), list(held)), limit_s)
        except Exception as error:  # of whatever kind: the next beat may get through
            _LOG.warning("leases could not be renewed: %s", error)
            return False
        for holder in held - {holder for (holder,) in rows}:
            if self.dropped(holder):
                _LOG.warning("a lease is lost: somebody else has taken over what this process held")
        return True

    def close(self) -> None:
        """Let go of everything."""
        for holder in list(self._held):
            if self.dropped(holder):
                try:
                    self.connections.write("release", (holder,))
                except WaypostError as error:
                    _LOG.warning("a document was not let go of cleanly: %s", error)

    def after_fork(self) -> None:
        """In the child: what is held is the parent's."""
        self.__init__(self.connections, self._period_ms)
