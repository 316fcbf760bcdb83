"""Power loss, simulated: every workload is recorded, and the store opened in the states that a crash could leave.

One core checks some 400 states in a second, since neither the recording's replay nor the opening touches a disk. A
failure prints the seed, the recording and which operations were on the medium.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import count, islice
from pathlib import Path

import pytest

from tests.crash.campaign import SEED, Campaign, Moment, check_replay
from tests.crash.plots import WORKLOADS
from tests.crash.simulated import Machine, Tree
from tests.crash.stories import (
    CutShort,
    Recording,
    Workload,
    record,
    record_recovery,
    record_with_a_failed_sync,
    record_with_a_kill,
)
from tests.totals import Totals, ring_size

pytestmark = [pytest.mark.usefixtures("quiet"), pytest.mark.timeout(ring_size(600, 3600))]
PARTS = range(ring_size(1, 4))
"""Each with a seed of its own, so that a night is spread over the cores."""
each_workload = pytest.mark.parametrize("chosen", WORKLOADS.values(), ids=list(WORKLOADS))


@pytest.fixture(autouse=True)
def _no_warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "waypost")


def recorded(chosen: Workload) -> Recording:
    return record(chosen, Machine(Tree()))


@each_workload
def test_t02_the_recording_is_what_happens_on_a_disk(tmp_path: Path, chosen: Workload) -> None:
    """On a real directory the recording, replayed, gives the tree that is there, and so does each model when
    all of it reached the medium; the simulated machine is asked for the same changes.
    """
    real = record(chosen, tmp_path)
    check_replay(real)
    assert [type(each) for each in real.events] == [type(each) for each in recorded(chosen).events]


@pytest.mark.parametrize("part", PARTS)
@each_workload
def test_t02_a_crash_loses_nothing_that_was_promised(chosen: Workload, part: int, totals: Totals) -> None:
    """At each moment of each workload, in each model: what was promised is there, and the rest is as attempted."""
    recording = recorded(chosen)
    for model, wanted in (("kill", 1_000), ("ordered", 1_000), ("weak", ring_size(1_080, 15_000))):
        if model == "weak" or part == 0:
            campaign = Campaign(recording, model, seed=SEED + 1_000_003 * part, title=f"workload {chosen.name}")
            totals("crash states", campaign.run(chosen.some(wanted)))
            assert campaign.tried > 20


@each_workload
def test_t03_after_the_end_of_all_processes_others_go_on_and_the_power_goes(chosen: Workload, totals: Totals) -> None:
    """All processes die before any one change; what they left unsynced in the page cache is what others build on."""
    states = _cut_short(chosen, record_with_a_kill, ring_size(5, 100), "died before change", ring_size(3, 1))
    totals("crash states within recovery", states)


@each_workload
def test_d14_a_crash_within_recovery_and_one_within_that(chosen: Workload, totals: Totals) -> None:
    """From states that a crash left, through a recovery that is cut off by a crash, through another such recovery."""
    first = Campaign(recorded(chosen), "weak", title=f"workload {chosen.name}")
    several = chosen.some(ring_size(4, 40))
    for number, (moment, _, tree) in enumerate(_spread(first, several)):
        recovery = record_recovery(tree, first.recording.story, moment.standing, chosen.options)
        second = Campaign(recovery, "weak", seed=SEED + number, title=f"workload {chosen.name}, recovery {number}")
        totals("crash states within recovery", second.run(ring_size(8, 100)))
        deeper = Campaign(recovery, "weak", seed=SEED + number)
        for inner, (again, _, left) in enumerate(_spread(deeper, 2)):
            last = record_recovery(left, recovery.story, again.standing, chosen.options)
            title = f"workload {chosen.name}, recovery {number}, recovery {inner} of that"
            third = Campaign(last, "weak", seed=SEED + inner, title=title)
            totals("crash states within recovery", third.run(ring_size(6, 60)))


@each_workload
def test_t06_after_a_failed_sync_nothing_acknowledged_is_lost(chosen: Workload, totals: Totals) -> None:
    """Each sync fails in turn, and its data is lost for good unless it is written again; others go on after it."""
    states = _cut_short(chosen, record_with_a_failed_sync, ring_size(32, 260), "failed sync")
    totals("crash states after a failed sync", states)


def _cut_short(
    chosen: Workload, record_cut: Callable[[Workload, int], CutShort | None], wanted: int, what: str, apart: int = 1
) -> int:
    """Cut a workload short at points so far apart, and try states of what follows; how many states."""
    states = 0
    for point in count(1, max(apart, chosen.share // 4)):  # where there is much to look at, not at each point either
        cut = record_cut(chosen, point)
        if cut is None:
            break
        # the making of the store is the same in each workload
        if chosen.name == "first commit" or any(cut.recording.standing(cut.at).promised):
            title = f"workload {chosen.name}, {what} {point}"
            states += Campaign(cut.recording, "weak", seed=SEED + point, title=title).run(chosen.some(wanted), cut.at)
    assert states > 10 // apart
    return states


def _spread(campaign: Campaign, wanted: int) -> list[tuple[Moment, object, Tree]]:
    """Some states from all over a recording."""
    found = list(islice(campaign.states(wanted * 40), wanted * 40))
    return found[:: max(1, len(found) // wanted)][:wanted]
