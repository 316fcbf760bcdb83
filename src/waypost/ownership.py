"""Whether the owner of a session is alive: what is seen, and what follows from it (docs/sessions.md, section 3).

A held lock is the first evidence, a dead process the second, signs of life the last. Whoever cannot be seen is
`suspect` at most, and no wall clock is asked.
"""

from __future__ import annotations

from typing import NamedTuple

from waypost import clock
from waypost.errors import StoreUnavailable
from waypost.models import StepOwner
from waypost.session_models import Presence
from waypost.store import DocumentId, Store
from waypost.store.claims import Beat, Lease, Sight

LATE_AFTER = 3
"""A sign of life is late after this many of its periods."""


class _Seen(NamedTuple):
    number: int
    since_ns: int
    has_changed: bool


class Watch:
    """The signs of life that this handle has seen, for owners whose clocks mean nothing here. Of two threads that look
    at once, either may be the one that is remembered.
    """

    def __init__(self) -> None:
        self._seen: dict[DocumentId, _Seen] = {}

    def fresh_for_ns(self, document: DocumentId, beat: Beat) -> int | None:
        """How long ago a new sign of life was first seen here; None when none has come since the first look."""
        now = clock.steady_ns()
        seen = self._seen.get(document)
        if seen is None or seen.number != beat.number:
            seen = self._seen[document] = _Seen(beat.number, now, seen is not None)
        return now - seen.since_ns if seen.has_changed else None


def presence(store: Store, document: DocumentId, owner: StepOwner, watch: Watch) -> Presence:
    """Whether a session's owner is there."""
    who = f"process {owner.pid} on {owner.host.partition('/')[0]}"
    try:
        sight = store.holder(document)
    except StoreUnavailable as error:
        return Presence("suspect", f"{who}: its lock cannot be looked at: {error}")
    here = clock.process_identity()
    lease = None if sight is None else sight.lease
    if sight is not None and sight.is_held and lease is None:
        return Presence("alive", f"{who} holds the session's lock")
    if owner.boot != here.boot:
        # a clone of this machine has its name and its id, and lives: its lease tells
        is_renewed = lease is not None and not lease.has_run_out
        if owner.host == here.host and not is_renewed:
            return Presence("crashed", f"{who} belongs to a boot of this machine that is over")
        who = f"{who} is of another machine"
        return _by_lease(lease, who) if lease else _by_beats(document, sight, watch, who)
    if owner.namespace == here.namespace:
        return _by_process(owner, who, lock_is_free=sight is not None and lease is None)
    if lease is not None:
        return _by_lease(lease, f"{who} is in another container")
    if sight is not None and sight.beat is not None:  # else it is of one who was about to take the session over
        return Presence("crashed", f"{who}, in another container, holds the session's lock no more: it was freed")
    return _by_beats(document, sight, watch, f"{who} is in another container")


def _by_lease(lease: Lease, who: str) -> Presence:
    """Of somebody who cannot be seen, and whose lease runs by the clock of the store: he agreed to lose what he holds
    when it runs out, and what he writes after somebody else took it over is refused.
    """
    renewed = f"{who}, and renewed its lease {lease.age_ms / 1000:.1f} s ago by the clock of the store"
    if lease.has_run_out:
        return Presence("crashed", f"{renewed}: it ran out after {lease.lease_ms / 1000:.1f} s")
    return Presence("alive", renewed)


def _by_process(owner: StepOwner, who: str, *, lock_is_free: bool) -> Presence:
    start = clock.start_ticks(owner.pid)
    if start is None:
        return Presence("crashed", f"{who}: there is no such process any more")
    if start and owner.start and start != owner.start:
        return Presence("crashed", f"{who}: that pid is of another process by now, which started at another time")
    if not lock_is_free:
        return Presence("alive", f"{who} is there")
    if start and owner.start:
        return Presence("suspect", f"{who} is there, and does not hold the session's lock: is this a copy?")
    return Presence("crashed", f"{who} holds the session's lock no more: it was freed")


def _by_beats(document: DocumentId, sight: Sight | None, watch: Watch, who: str) -> Presence:
    """Of somebody who cannot be seen."""
    beat = None if sight is None else sight.beat
    if beat is None:
        return Presence("suspect", f"{who}, cannot be seen from here, and has left no sign of life")
    if beat.boot == clock.boot_id() and beat.clocks == clock.time_namespace():
        age_ns: int | None = clock.steady_ns() - beat.steady_ns
    else:
        age_ns = watch.fresh_for_ns(document, beat)
    if age_ns is None:
        return Presence("suspect", f"{who}, cannot be seen from here, and has left no sign of life since it is watched")
    if age_ns <= LATE_AFTER * beat.period_ms * 1_000_000:
        return Presence("alive", f"{who}, left a sign of life {age_ns / 1e9:.1f} s ago")
    return Presence("suspect", f"{who}, cannot be seen from here, and left its last sign {age_ns / 1e9:.0f} s ago")
