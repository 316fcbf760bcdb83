"""The spool under every crash there is a model of: each event that was acknowledged is taken in once, the others at
most once, and what cannot be used keeps its bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.crash.disk import Model
from tests.crash.spooling import UNUSABLE, Act, Scene, SpoolCampaign, record, recover
from tests.crash.stories import quiet
from tests.totals import Totals, ring_size

__all__ = ["quiet"]

pytestmark = pytest.mark.usefixtures("quiet")
STATES = ring_size(400, 20_000)
WITHIN = ring_size(40, 2_000)


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    """Nobody reads what is said about a thousand refused events."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def hooks_then_a_fold(scene: Scene) -> None:
    """Some events, folded in together, and one more that the next one finds."""
    scene.hook(1)
    scene.hook(2)
    scene.fold()
    scene.hook(3)


def one_that_cannot_be_used(scene: Scene) -> None:
    """An event that is set aside between two that are not."""
    scene.hook(1)
    scene.hook(UNUSABLE)
    scene.hook(2)
    scene.fold()
    scene.hook(UNUSABLE + 1)
    scene.fold()


def a_writer_that_dies(scene: Scene) -> None:
    """An event that is written in part, and one whose file was only made."""
    scene.hook(1)
    scene.hook(2, dies_within=30)
    scene.hook(3, dies_within=0)
    scene.fold()
    scene.hook(4)
    scene.fold()


def hooks_during_a_fold(scene: Scene) -> None:
    """Events that come while others are folded in."""
    scene.hook(1)
    scene.system.during_sync.append(("another", lambda: scene.hook(2)))
    scene.system.during_sync.append(("another", lambda: scene.hook(3)))
    scene.fold()
    scene.fold()


ACTS: list[Act] = [hooks_then_a_fold, one_that_cannot_be_used, a_writer_that_dies, hooks_during_a_fold]


@pytest.mark.parametrize("model", ["kill", "ordered", "weak"])
@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_t02_d24_a_power_cut_loses_no_event_and_doubles_none(act: Act, model: Model, totals: Totals) -> None:
    """Whatever a power cut leaves of spool, commits and removals, each acknowledged event is taken in once."""
    recording, died = record(act)
    assert not died
    totals("crash states", SpoolCampaign(recording, model, title=act.__name__).run(STATES))


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_t03_d24_d14_a_fold_that_is_cut_off_is_done_again(act: Act, totals: Totals) -> None:
    """A power cut in the fold that follows a power cut loses nothing either."""
    recording, _ = record(act)
    tried = 0
    for moment, _, tree in SpoolCampaign(recording, "weak").states(WITHIN):
        campaign = SpoolCampaign(recover(tree), "weak", title=f"{act.__name__}, recovery", standing=moment.standing)
        tried += campaign.run(10)
    totals("crash states within recovery", tried)


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_t01_d24_whoever_dies_before_any_change_leaves_an_event_or_nothing(act: Act, totals: Totals) -> None:
    """Hooks and folders killed before each change they make: what they leave is folded in once."""
    change = 0
    while True:
        change += 1
        recording, died = record(act, die_before=change)
        if not died:
            break
        campaign = SpoolCampaign(recording, "kill", title=f"{act.__name__}, killed before change {change}")
        campaign.run(1, start=max(0, len(recording.events) - 3))
    assert change > 20
    totals("kill points", change - 1)
