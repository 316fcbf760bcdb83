"""Completions are counted once, and then known, however a workflow changes in between."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.hooks.support import emit, flat, tags
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.hooks import tallies


def test_steps_are_not_counted_for_each_event(wp_with: Callable[..., Waypost], monkeypatch: pytest.MonkeyPatch) -> None:
    """While only events change a workflow its steps are looked at once, whichever events these are."""
    wp = wp_with(hooks={"checkpoint_frequency": 2})
    counted: list[int] = []
    count = tallies.count
    monkeypatch.setattr(tallies, "count", lambda view: counted.append(view.version) or count(view))
    emit(wp, "workflow_start", flat(steps=[str(number) for number in range(6)]))
    for number in range(6):
        emit(wp, "step_start", flat(step_id=str(number)))
        emit(wp, "agent_complete", flat(agent_id="a"))
        emit(wp, "step_complete", flat(step_id=str(number)))
    assert len(counted) == 1
    assert len(tags(wp)) == 3


@pytest.mark.parametrize("seed", range(3))
def test_the_count_is_right_whoever_changes_the_workflow(wp_with: Callable[..., Waypost], seed: int) -> None:
    """Completions by events of two handles, by updates, and resets in any order: each event that completes a step is
    kept exactly if then a multiple of the frequency are completed.
    """
    # to repeat one: make test ARGS="tests/hooks/test_tallies.py -k 'right and <seed>'"
    chance = random.Random(seed)
    first = wp_with(hooks={"checkpoint_frequency": 3}, checkpoints={"post_step": True, "error": False})
    quiet = first.definitions.config
    second = Waypost(Definitions(first.definitions.store, quiet, verbose=False))
    ids = [str(number) for number in range(12)]
    first.create_workflow("w", "W", steps=ids).unwrap()
    made = 0
    for _ in range(60):
        step_id = chance.choice(ids)
        done = {
            each.id for each in first.load_workflow_state("w").unwrap().workflow.steps if each.status == "completed"
        }
        kind = chance.choice(["event", "event", "other handle", "reset", "context"])
        if kind == "reset":
            first.reset_step("w", step_id).unwrap()
        elif kind == "context":
            second.update_context("w", variables={"x": chance.random()}).unwrap()
        else:
            handle = first if kind == "event" else second
            emit(handle, "step_complete", flat(step_id=step_id))
            made += step_id not in done and (len(done) + 1) % 3 == 0
        assert len(tags(first)) == made, f"seed {seed}"


def test_x27_tallies_are_bounded(wp: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many workflows the tallies of those that were quiet longest go."""
    monkeypatch.setattr(tallies, "_MOST_WORKFLOWS", 3)
    for name in ("a", "b", "c", "a", "d"):
        emit(wp, "step_complete", flat(name, step_id="s"))
    assert list(tallies.of(wp.definitions.store)._kept) == ["c", "a", "d"]
