"""Holding a document for as long as a process lives, and what others can see of that (docs/sessions.md, section 3)."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Beat(NamedTuple):
    """A sign of life. `number` grows with each; `steady_ns` is `clock.steady_ns` of its writer, which means something
    in the same boot and with the same `clocks` only; the next one is due after `period_ms`.
    """

    number: int
    boot: str
    clocks: str
    steady_ns: int
    period_ms: int


class Lease(NamedTuple):
    """How long ago a claim was renewed, by the clock of the store itself, for how long that holds, and whose it is."""

    age_ms: int
    lease_ms: int
    holder: str

    @property
    def has_run_out(self) -> bool:
        return self.age_ms > self.lease_ms


class Sight(NamedTuple):
    """What is seen of whoever claimed a document and did not let go of it: whether he holds it still, and his last
    sign of life, None where it cannot be read. A kernel frees what its holder held; where there is none, what is held
    has a lease, which also one who is dead holds until it runs out.
    """

    is_held: bool
    beat: Beat | None
    lease: Lease | None = None


class Claim(Protocol):
    """A document that this process holds. The child of a fork holds nothing."""

    def release(self) -> None:
        """Let go of it. May be called twice."""
        ...
