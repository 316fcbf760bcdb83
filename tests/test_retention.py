"""Checkpoints that nobody asks for: when they are made, in which commit, and which of them go again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tests.conftest import make_config, opened
from waypost import checkpoint_ids, clock, retention
from waypost.api import AsyncWaypost
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.models import StateCheckpoint, WorkflowStep
from waypost.records import CHECKPOINT, VARIABLE
from waypost.store import Change, DocumentId, Transaction

Handles = Callable[..., Waypost]
DAY_US = 24 * 3600 * 1_000_000


def steps(count: int) -> list[str]:
    return [f"s{number}" for number in range(count)]


def kept(wp: Waypost, workflow_id: str = "w") -> list[StateCheckpoint]:
    """The checkpoints of a workflow, oldest first."""
    return list(wp.list_checkpoints(workflow_id, 10_000))[::-1]


def passing(wp: Waypost, workflow_id: str = "w") -> list[StateCheckpoint]:
    return [one for one in kept(wp, workflow_id) if one.type != "manual"]


def version_of(wp: Waypost, workflow_id: str = "w") -> int:
    return wp.definitions.store.view(DocumentId("workflow", workflow_id)).version


def complete(wp: Waypost, names: list[str], workflow_id: str = "w") -> None:
    for name in names:
        wp.update_step_status(workflow_id, name, "completed").unwrap()


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the clock, to so many microseconds from now."""
    start = clock.now_us()
    return lambda later_us: monkeypatch.setattr(clock, "now_us", lambda: start + later_us)


# --- when they are made ---


def test_trap_16_checkpoints_come_at_the_documented_moments_and_no_others(wp_with: Handles) -> None:
    """One for each of: made, started (if asked for), completed, skipped, failed, paused; each in the commit of what it
    is for, whose state it has. Nothing else makes one.
    """
    wp = wp_with(checkpoints={"pre_step": True})
    moves: list[tuple[Callable[[], Any], str | None]] = [
        (lambda: wp.create_workflow("w", "W", "s1", ["a", "b", "c"], if_exists="open"), "manual"),
        (lambda: wp.create_workflow("w", "W", "s1", ["a", "b", "c"], if_exists="open"), None),
        (lambda: wp.update_step_status("w", "a", "running", session_id="s2"), "pre_step"),
        (lambda: wp.update_step_status("w", "a", "running"), None),
        (lambda: wp.update_step_status("w", "a", "completed", {"rows": 1}), "post_step"),
        (lambda: wp.update_step_status("w", "a", "completed"), None),
        (lambda: wp.update_step_status("w", "b", "skipped"), "post_step"),
        (lambda: wp.update_step_status("w", "c", "failed", error="no"), "error"),
        (lambda: wp.pause_workflow("w"), "automatic"),
        (lambda: wp.pause_workflow("w"), None),
        (lambda: wp.resume_workflow("w"), None),
        (lambda: wp.reset_step("w", "c"), None),
        (lambda: wp.add_steps("w", ["d"]), None),
        (lambda: wp.add_step_output("w", "d", 1), None),
        (lambda: wp.update_context("w", variables={"x": 1}), None),
        (lambda: wp.update_agent_state("w", "g", {"status": "busy"}), None),
        (lambda: wp.save_workflow_state(wp.load_workflow_state("w").unwrap()), None),
        (lambda: wp.restore_from_checkpoint(kept(wp)[0].id), None),
    ]
    seen: list[str] = []
    for move, expected in moves:
        move().unwrap()
        new = [one for one in kept(wp) if one.id not in seen]
        assert [one.type for one in new] == ([expected] if expected else [])
        seen += [one.id for one in new]
        for one in new:
            assert one.state.metadata.version == version_of(wp)
    descriptions = [(one.description, one.tags, one.session_id) for one in kept(wp)]
    assert descriptions == [
        ("as it was made", ("initial",), "s1"),
        ("a running", (), "s2"),
        ("a completed", (), None),
        ("b skipped", (), None),
        ("c failed", (), None),
        ("paused", (), None),
    ]


@pytest.mark.parametrize("option", ["initial", "pre_step", "post_step", "error", "pause"])
def test_each_moment_has_an_option(wp_with: Handles, option: str) -> None:
    """Each kind of them is made where `checkpoints.initial`, `checkpoints.pre_step`, `checkpoints.post_step`,
    `checkpoints.error` or `checkpoints.pause` says so, and no other.
    """
    names = ("initial", "pre_step", "post_step", "error", "pause")
    made: dict[bool, set[str]] = {}
    for value in (True, False):
        wp = wp_with(checkpoints={name: (name == option) == value for name in names})
        wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
        wp.update_step_status("w", "a", "running").unwrap()
        wp.update_step_status("w", "a", "completed").unwrap()
        wp.update_step_status("w", "b", "failed").unwrap()
        wp.pause_workflow("w").unwrap()
        types = {"manual": "initial", "automatic": "pause"}
        made[value] = {types.get(one.type, one.type) for one in kept(wp)}
    assert made == {True: {option}, False: {*names} - {option}}


def test_a_transaction_makes_them_too(wp: Waypost) -> None:
    """One for each workflow that it changes, at the version that the transaction made; what fails makes none."""

    def work(tx: Any) -> None:
        for name in ("v", "w"):
            tx.create_workflow(name, "W", steps=["a", "b"])
            tx.update_step_status(name, "a", "completed")

    wp.transact(work).unwrap()
    for name in ("v", "w"):
        assert [one.type for one in kept(wp, name)] == ["manual", "post_step"]
        assert {one.state.metadata.version for one in kept(wp, name)} == {1}
        assert kept(wp, name)[1].state.step("a").status == "completed"
    assert not wp.update_step_status("w", "a", "running")
    assert len(kept(wp)) == 2


def test_a_repeated_operation_makes_no_second_one(wp: Waypost) -> None:
    """The same operation id again changes nothing, checkpoints included."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    for _ in range(2):
        wp.update_step_status("w", "a", "completed", operation_id="once").unwrap()
    assert [one.type for one in kept(wp)] == ["manual", "post_step"]


# --- which go ---


def test_trap_15_of_many_completed_steps_the_newest_checkpoints_stay(wp: Waypost) -> None:
    """120 completed steps leave 50, the newest; what was asked for, or tagged to stay, is there beside them."""
    wp.create_workflow("w", "W", steps=steps(120)).unwrap()
    mine: list[str] = []
    for number, name in enumerate(steps(120)):
        wp.update_step_status("w", name, "completed").unwrap()
        if number == 10:
            mine.append(wp.create_checkpoint("w", "mine").unwrap().id)
            state = wp.load_workflow_state("w").unwrap()
            for tag in ("milestone", "release", "backup", "stable"):
                state.context.variables[tag] = 1
                state = wp.save_workflow_state(state, True, [tag, "other"]).unwrap()
            wp.create_checkpoint("w", "passing", ["other"], type="automatic").unwrap()
        assert len(passing(wp)) <= 54
    left = [one for one in kept(wp) if checkpoint_ids.is_passing(one.id)]
    assert [one.description for one in left] == [f"{name} completed" for name in steps(120)[70:]]
    tags = [one.tags[0] for one in kept(wp) if one.type == "automatic"]
    assert tags == ["milestone", "release", "backup", "stable"]
    assert [one.id for one in kept(wp) if one.type == "manual"][1:] == mine and kept(wp)[0].tags == ("initial",)
    for one in kept(wp):
        assert wp.validate_checkpoint(one.id).is_valid and one.state.workflow.id == "w"


def test_one_commit_makes_the_new_one_and_takes_the_old_one(wp: Waypost) -> None:
    """Retention makes no commit of its own."""
    wp.create_workflow("w", "W", steps=steps(60)).unwrap()
    complete(wp, steps(60))
    assert version_of(wp) == 61 and len(passing(wp)) == 50


def test_retention_max_checkpoints(wp_with: Handles) -> None:
    """The newest stay, as many as the option says."""
    wp = wp_with(retention={"max_checkpoints": 3, "min_checkpoints": 1})
    wp.create_workflow("w", "W", steps=steps(6)).unwrap()
    complete(wp, steps(6))
    assert [one.description for one in passing(wp)] == [f"{name} completed" for name in steps(6)[3:]]


def test_retention_min_checkpoints(wp_with: Handles, at: Callable[[int], None]) -> None:
    """The newest `retention.min_checkpoints` stay, be they too many or too old."""
    wp = wp_with(retention={"max_checkpoints": 2, "min_checkpoints": 4})
    wp.create_workflow("w", "W", steps=steps(8)).unwrap()
    complete(wp, steps(6))
    assert [one.description for one in passing(wp)] == [f"{name} completed" for name in steps(6)[2:]]
    at(400 * DAY_US)
    complete(wp, ["s6"])
    assert [one.description for one in passing(wp)] == [f"s{number} completed" for number in (3, 4, 5, 6)]


def test_retention_max_age_days(wp_with: Handles, at: Callable[[int], None]) -> None:
    """What is older than the option says goes with the next one made."""
    wp = wp_with(retention={"max_age_days": 2, "min_checkpoints": 0})
    wp.create_workflow("w", "W", steps=steps(4)).unwrap()
    for number in range(3):
        at(number * DAY_US)
        complete(wp, [f"s{number}"])
    assert [one.description[:2] for one in passing(wp)] == ["s0", "s1", "s2"]
    at(3 * DAY_US + 1)
    complete(wp, ["s3"])
    assert [one.description[:2] for one in passing(wp)] == ["s2", "s3"]


async def test_callers_that_wait_together_keep_to_the_number(awp: AsyncWaypost) -> None:
    """64 updates at once are one batch or a few; in each commit the oldest goes."""
    import asyncio

    (await awp.create_workflow("w", "W", steps=steps(128))).unwrap()
    for half in (steps(128)[:64], steps(128)[64:]):
        for done in await asyncio.gather(*(awp.update_step_status("w", name, "completed") for name in half)):
            done.unwrap()
    page = await awp.list_checkpoints("w", 10_000)
    assert len([one for one in page if one.type == "post_step"]) == 50


def test_transactions_and_single_updates_keep_to_the_number(wp_with: Handles) -> None:
    """Whoever makes one counts those that the other made."""
    wp = wp_with(retention={"max_checkpoints": 3, "min_checkpoints": 1})
    wp.create_workflow("w", "W", steps=steps(12)).unwrap()
    for number in range(0, 12, 2):
        wp.transact(lambda tx, number=number: tx.update_step_status("w", f"s{number}", "completed")).unwrap()
        complete(wp, [f"s{number + 1}"])
        assert len(passing(wp)) <= 3
    assert [one.description for one in passing(wp)] == ["s9 completed", "s10 completed", "s11 completed"]


def test_what_failed_is_not_counted(wp_with: Handles, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that came to nothing made no checkpoint: none that is there goes for it."""
    wp = wp_with(retention={"max_checkpoints": 3, "min_checkpoints": 1})
    wp.create_workflow("w", "W", steps=[*steps(3), WorkflowStep("last")]).unwrap()
    complete(wp, steps(2))

    def refused(*_: Any) -> None:
        raise RuntimeError("not now")

    with monkeypatch.context() as patch:
        patch.setattr(retention.Retention, "make_room", _then(retention.Retention.make_room, refused))
        for _ in range(4):
            with pytest.raises(RuntimeError):
                wp.update_step_status("w", "last", "completed")
    complete(wp, ["s2"])
    assert [one.description[:2] for one in passing(wp)] == ["s0", "s1", "s2"]


def test_what_a_commit_that_failed_took_away_goes_with_the_next(
    wp_with: Handles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there still, and counts."""
    monkeypatch.setattr(retention, "time", SimpleNamespace(monotonic=lambda: 1000.0))  # there is no look at all of them
    wp = wp_with(retention={"max_checkpoints": 3, "min_checkpoints": 1})
    wp.create_workflow("w", "W", steps=steps(8)).unwrap()
    complete(wp, steps(3))

    def refused(*_: Any) -> None:
        raise RuntimeError("not now")

    with monkeypatch.context() as patch:
        patch.setattr(retention.Retention, "make_room", _then(retention.Retention.make_room, refused))
        for _ in range(4):
            with pytest.raises(RuntimeError):
                wp.update_step_status("w", "s7", "completed")
    complete(wp, ["s3"])
    assert [one.description[:2] for one in passing(wp)] == ["s1", "s2", "s3"]
    complete(wp, ["s4"])
    assert [one.description[:2] for one in passing(wp)] == ["s2", "s3", "s4"]


def test_what_a_batch_that_lost_its_race_took_away_goes_as_it_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two commits of one batch took one each: the two oldest go, and neither is left for good."""
    monkeypatch.setattr(retention, "time", SimpleNamespace(monotonic=lambda: 1000.0))  # there is no look at all of them
    document, made = DocumentId("workflow", "w"), list[str]()
    with opened(tmp_path / "s") as wp, opened(tmp_path / "s") as other:
        wp.create_workflow("w", "W", steps=steps(4)).unwrap()
        complete(wp, steps(4))
        store = wp.definitions.store
        before = sorted(name for name in store.checkpoints(document) if checkpoint_ids.is_passing(name))
        limits = msgspec.structs.replace(
            make_config().retention, max_checkpoints=len(before), min_checkpoints=1, max_workflow_size=1000
        )
        ours = retention.Retention(limits, lambda _: {})

        def making(tx: Transaction) -> None:
            tx.get(VARIABLE + "x")
            made.append(checkpoint_ids.new(tx, passing=True)[0])
            tx.put(CHECKPOINT + made[-1], b"c")
            ours.make_room(tx, made[-1])
            if len(made) == 2:  # another commits before this batch does
                other.update_context("w", variables={"x": 1}).unwrap()

        tickets = [store.submit(Change(document, making, clock.new_id("op"), "test")) for _ in range(2)]
        for ticket in tickets:
            ticket.result()
        after = sorted(name for name in store.checkpoints(document) if checkpoint_ids.is_passing(name))
        assert len(made) == 4 and after == [*before[2:], *made[2:]]


def _then(first: Callable[..., Any], second: Callable[..., Any]) -> Callable[..., Any]:
    def both(*args: Any) -> None:
        first(*args)
        second(*args)

    return both


def test_a_workflow_made_anew_starts_anew(wp_with: Handles) -> None:
    """What a deleted workflow of that id had does not count."""
    wp = wp_with(retention={"max_checkpoints": 3, "min_checkpoints": 1})
    for _ in range(2):
        wp.create_workflow("w", "W", steps=steps(3)).unwrap()
        complete(wp, steps(3))
        assert [one.description[:2] for one in passing(wp)] == ["s0", "s1", "s2"]
        wp.delete_workflow("w").unwrap()


def test_several_processes_keep_to_about_the_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint of another process is left to it for two seconds, and then goes with the next one made."""
    config = {"max_checkpoints": 3, "min_checkpoints": 1}
    with opened(tmp_path / "s", retention=config) as one, opened(tmp_path / "s", retention=config) as two:
        one.create_workflow("w", "W", steps=steps(12)).unwrap()
        complete(one, steps(5))
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint_ids, "_PROCESS", checkpoint_ids._Process())
            complete(two, ["s5", "s6"])
            assert [each.description[:2] for each in passing(two)] == ["s2", "s3", "s4", "s5", "s6"]
        now = clock.now_us()
        monkeypatch.setattr(clock, "now_us", lambda: now + 3_000_000)
        monkeypatch.setattr(retention, "_KNOWN_FOR_S", -1.0)
        complete(two, ["s7", "s8"])
        assert [each.description[:2] for each in passing(two)] == ["s6", "s7", "s8"]


def test_the_number_holds_where_the_clock_was_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: Callable[[int], None]
) -> None:
    """What processes made while the clock was a year ahead goes as what is old does, and not in a year."""
    config = {"max_checkpoints": 3, "min_checkpoints": 1}
    for number in range(4):
        monkeypatch.setattr(checkpoint_ids, "_PROCESS", checkpoint_ids._Process())
        at(0 if number else 365 * 24 * 3600 * 1_000_000)
        with opened(tmp_path / "s", retention=config) as wp:
            wp.create_workflow("w", "W", steps=steps(8), if_exists="open").unwrap()
            complete(wp, steps(8)[2 * number : 2 * number + 2])
            assert len(passing(wp)) == min(3, 2 * number + 2)
            assert passing(wp)[-1].description[:2] == f"s{2 * number + 1}"


def test_ids_tell_when_and_whether_they_may_go(wp: Waypost) -> None:
    """As the records do."""
    wp.create_workflow("w@c1", "W", steps=["a"]).unwrap()
    wp.update_step_status("w@c1", "a", "completed").unwrap()
    first, second = kept(wp, "w@c1")
    assert [checkpoint_ids.is_passing(one.id) for one in (first, second)] == [False, True]
    for one in (first, second):
        assert checkpoint_ids.time_us(one.id) == clock.to_us(one.created_at)
        assert checkpoint_ids.is_of_this_process(one.id)
    assert first.id < second.id and second.parent_id == first.id
    for strange in ("w", "w@c", "w@c1", f"{first.id}0", f"{first.id[:-1]}i", ""):
        assert checkpoint_ids.time_us(strange) == 0 and not checkpoint_ids.is_passing(strange)


def test_ids_follow_each_other_though_the_clock_does_not(wp: Waypost, at: Callable[[int], None]) -> None:
    """Put back and standing still, it gives no two checkpoints one id, and none before another."""
    wp.create_workflow("w", "W", steps=steps(80)).unwrap()
    at(-3_600_000_000)
    complete(wp, steps(40))
    wp.transact(lambda tx: [tx.update_step_status("w", name, "completed") for name in steps(80)[40:]]).unwrap()
    assert [one.description for one in passing(wp)] == [f"{name} completed" for name in steps(80)[30:]]
    versions = [one.state.metadata.version for one in passing(wp)]
    assert versions == sorted(versions)


def test_a_checkpoint_whose_parent_went_stands_on_the_one_before(wp_with: Handles) -> None:
    """Also one that was made after going back to a checkpoint that is gone by now."""
    wp = wp_with(retention={"max_checkpoints": 2, "min_checkpoints": 1})
    wp.create_workflow("w", "W", steps=steps(6)).unwrap()
    complete(wp, steps(2))
    wp.restore_from_checkpoint(passing(wp)[0].id).unwrap()
    complete(wp, steps(6)[1:4])
    ids = {one.id for one in kept(wp)}
    first, *others = kept(wp)
    assert first.parent_id is None and all(one.parent_id in ids for one in others)


def test_a_handle_remembers_few_workflows(tmp_path: Path) -> None:
    """What is remembered for retention does not grow with the number of workflows."""
    config = make_config()
    from waypost.store import open_store

    with Waypost(Definitions(open_store("memory:", config), config, verbose=False)) as wp:
        for number in range(100):
            wp.create_workflow(f"w{number}", "W", steps=["a"]).unwrap()
            complete(wp, ["a"], f"w{number}")
            assert 0 < len(wp.definitions.retention._known) <= 64


RACER = """
import sys
import waypost
with waypost.open(sys.argv[1], config={"retention": {"max_checkpoints": 6, "min_checkpoints": 2}}) as wp:
    for number in range(12):
        wp.update_step_status("w", f"{sys.argv[2]}-{number}", "completed", {"by": sys.argv[2]}).unwrap()
"""


def test_trap_17_the_index_may_be_anything_and_eight_processes_lose_nothing(tmp_path: Path) -> None:
    """Eight processes make checkpoints at once while the index is removed, cut and written over: each completed step is
    there, listing is complete and each that is listed comes back; then the index tells the truth again.
    """
    path = tmp_path / "s"
    names = [f"{who}-{number}" for who in range(8) for number in range(12)]
    with opened(path) as wp:
        wp.create_workflow("w", "W", steps=names).unwrap()
    command = [sys.executable, "-c", RACER, str(path)]
    racers = [subprocess.Popen([*command, str(who)]) for who in range(8)]
    index = path / "checkpoint-index.json"
    spoiled = 0
    while any(racer.poll() is None for racer in racers):
        with suppress(OSError):
            data = index.read_bytes()
            index.unlink() if spoiled % 3 == 0 else index.write_bytes(data[: len(data) // 2 if spoiled % 3 == 1 else 2])
            spoiled += 1
        time.sleep(0.01)
    assert [racer.wait() for racer in racers] == [0] * 8
    index.write_bytes(b"not an index")
    with opened(path, retention={"max_checkpoints": 6, "min_checkpoints": 2}) as wp:
        assert wp.load_workflow_state("w").unwrap().workflow.status == "completed"
        shown = kept(wp)
        assert [one.id for one in shown] == wp.definitions.store.checkpoints(DocumentId("workflow", "w"))
        assert all(one.state.workflow.id == "w" and wp.validate_checkpoint(one.id).is_valid for one in shown)
        wp.create_checkpoint("w", "after").unwrap()
        wp.cleanup().unwrap()
        assert [one.id for one in passing(wp)] == [one.id for one in shown if one.type != "manual"][-6:]
        expected = {one.id for one in kept(wp)}
    rows = json.loads(index.read_text(encoding="utf-8"))["checkpoints"]
    assert {row["id"] for row in rows} == expected


def test_it_is_looked_for_what_may_go_for_a_fiftieth_of_the_time(
    wp_with: Handles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a look at all checkpoints takes 70 ms the next one comes 3.5 s later, though more are made all the while;
    where it took long, be it for a stall of the medium, five seconds later.
    """
    now, looked, takes = [1000.0], list[float](), iter([0.07, 0.07, 1000.0, 0.07, 0.07])
    wp = wp_with()
    wp.create_workflow("w", "W", steps=steps(200)).unwrap()

    def slow(_: object) -> dict[str, int]:
        looked.append(round(now[0], 2))
        now[0] += next(takes)
        return {}

    monkeypatch.setattr(retention, "time", SimpleNamespace(monotonic=lambda: now[0]))
    held = wp.definitions.retention
    held.forget(DocumentId("workflow", "w"))
    monkeypatch.setattr(held, "_sizes", slow)
    for name in steps(20):
        complete(wp, [name])
        now[0] += 1
    assert looked == [1000, 1004.07, 1008.14, 2013.14, 2017.21]
