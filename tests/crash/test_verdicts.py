"""Who is dead and who only seems so (T14): what may happen to an owner in any order, and what must be said of him.

The machine is made up here, so that it can be started again, copied and left alone for a night; real processes are in
tests/test_session_owners.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.totals import Totals, ring_size
from waypost import clock, ownership
from waypost.models import StepOwner
from waypost.ownership import Watch
from waypost.store import DocumentId
from waypost.store.claims import Beat, Sight


class World:
    """A machine with an owner on it, as far as `ownership` can look at it."""

    PERIOD_MS = 1000

    def __init__(self) -> None:
        here = clock.process_identity()
        self.owner = StepOwner(*here._replace(pid=4_000_000, start=77))
        self.host, self.boot, self.namespace, self.clocks = here.host, here.boot, here.namespace, "time:1"
        self.is_alive = True
        self.start_now: int | None = 77
        self.steady_ns = 50_000_000_000
        self.wall_us = 1_700_000_000_000_000
        self.beats, self.beat_at = 1, self.steady_ns
        self.stopped = False
        self.is_left = True
        """Whether the owner's file is there."""

    # what may happen

    def kill(self) -> None:
        self.is_alive, self.start_now = False, None

    def stop(self) -> None:
        self.stopped = True
        self.pass_time(10)

    def reboot(self) -> None:
        self.kill()
        self.boot = "another boot"

    def reuse_pid(self) -> None:
        self.kill()
        self.start_now = 99

    def jump_forward(self) -> None:
        self.wall_us += 10 * 365 * 86_400_000_000

    def jump_back(self) -> None:
        self.wall_us -= 10 * 365 * 86_400_000_000

    def suspend(self) -> None:
        """For a night: the steady clock stands still meanwhile."""
        self.wall_us += 8 * 3600 * 1_000_000

    def move(self) -> None:
        """The one who looks is on another machine, with a lock of its own."""
        self.host, self.boot, self.namespace, self.clocks = "elsewhere/1", "boot elsewhere", "pid:[9]", "time:9"

    def enter_container(self) -> None:
        """The one who looks is in another container of the same kernel."""
        self.namespace = "pid:[2]"

    def lose_file(self) -> None:
        self.is_left = False

    def pass_time(self, periods: int) -> None:
        for _ in range(periods):
            self.steady_ns += self.PERIOD_MS * 1_000_000
            if self.is_alive and not self.stopped:
                self.beats, self.beat_at = self.beats + 1, self.steady_ns

    # what is seen

    @property
    def sees_lock(self) -> bool:
        return self.boot == self.owner.boot

    def holder(self, document: DocumentId) -> Sight | None:
        if not self.is_left:
            return None
        beat = Beat(self.beats, self.owner.boot, "time:1", self.beat_at, self.PERIOD_MS)
        return Sight(self.is_alive and self.sees_lock, beat)

    @property
    def can_be_proven_dead(self) -> bool:
        """Whether the one who looks is on the owner's machine, and sees that its boot is over, his pid, or his lock."""
        if self.host != self.owner.host:
            return False
        return self.boot != self.owner.boot or self.namespace == self.owner.namespace or self.is_left

    def verdict(self, watch: Watch) -> str:
        document = DocumentId("session", "s")
        return ownership.presence(self, document, self.owner, watch).state  # type: ignore[arg-type]


Event = Callable[[World], None]
EVENTS: list[Event] = [
    World.kill, World.stop, World.reboot, World.reuse_pid, World.jump_forward, World.jump_back, World.suspend,
    World.move, World.enter_container, World.lose_file,
]  # fmt: skip


@contextmanager
def looking_at(world: World) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "process_identity", lambda: clock.ProcessIdentity(
            world.host, world.boot, world.namespace, 1, 1
        ))  # fmt: skip
        patch.setattr(clock, "boot_id", lambda: world.boot)
        patch.setattr(clock, "time_namespace", lambda: world.clocks)
        patch.setattr(clock, "steady_ns", lambda: world.steady_ns)
        patch.setattr(clock, "now_us", lambda: world.wall_us)
        patch.setattr(clock, "start_ticks", lambda pid: world.start_now)
        yield


def test_t14_no_one_alive_is_given_up_and_no_one_dead_is_missed(totals: Totals) -> None:
    """A living owner is never called crashed, whatever happens in whatever order; a dead one is, within two heartbeats,
    where the kernel that he ran on can be asked. Elsewhere he is suspect as soon as his last beat is late.
    """
    for count in range(1, ring_size(3, 4) + 1):
        for events in itertools.permutations(EVENTS, count):
            totals("verdicts on owners", _judge(events))


def _judge(events: tuple[Event, ...]) -> int:
    """Let all of it happen, and look after each; how often was looked."""
    world, watch = World(), Watch()
    names = [each.__name__ for each in events]
    with looking_at(world):
        world.verdict(watch)
        for event in events:
            event(world)
            assert not (world.verdict(watch) == "crashed" and world.is_alive), names
        world.pass_time(2)
        seen = world.verdict(watch)
        if world.is_alive:
            assert seen != "crashed", names
        elif world.can_be_proven_dead:
            assert seen == "crashed", names
        else:
            assert seen != "crashed", names
            world.pass_time(ownership.LATE_AFTER)
            assert world.verdict(watch) == "suspect", names
    return len(events) + 2


def test_s03_beats_of_another_machine_are_watched() -> None:
    """Where the clocks cannot be compared, a beat that comes while somebody watches is fresh, and old ones are not."""
    world, watch = World(), Watch()
    world.move()
    with looking_at(world):
        assert world.verdict(watch) == "suspect"  # the first look tells nothing
        world.pass_time(1)
        assert world.verdict(watch) == "alive"
        world.kill()
        world.pass_time(ownership.LATE_AFTER)
        assert world.verdict(watch) == "alive"
        world.pass_time(1)
        assert world.verdict(watch) == "suspect"
