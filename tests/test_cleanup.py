"""Cleaning up: checkpoints beyond the bounds go, what they took is given back, and nothing else goes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import opened
from tests.test_cli import call, call_json, here, wp
from tests.test_retention import DAY_US, at, complete, kept, passing, steps
from waypost import blocking, checkpoint_ids, usage
from waypost.blocking import Waypost

__all__ = ["at", "call", "call_json", "here", "wp"]  # fixtures

MANY: dict[str, Any] = {"max_checkpoints": 100, "min_checkpoints": 1}
MEGABYTE = 1 << 20


def files_in(path: Path) -> set[str]:
    return {name for name in os.listdir(path / "checkpoints") if name != "lock"}


def filled(path: Path, *workflows: str, each_bytes: int = 0) -> None:
    """Workflows with six completed steps each, whose outputs are no smaller when they are compressed."""
    with opened(path, retention=MANY) as wp:
        for name in workflows:
            wp.create_workflow(name, "W", steps=steps(6)).unwrap()
            for step in steps(6):
                wp.update_step_status(name, step, "completed", os.urandom(each_bytes)).unwrap()
            wp.create_checkpoint(name, "mine").unwrap()


def taken(path: Path) -> int:
    return sum(entry.stat().st_blocks * 512 for entry in os.scandir(path / "checkpoints"))


def states(wp: Waypost, name: str) -> dict[str, list[str]]:
    """Of each checkpoint, the statuses of the steps that it comes back with."""
    return {one.id: [step.status for step in one.state.workflow.steps] for one in kept(wp, name)}


def test_a_cleanup_applies_bounds_that_became_narrower(tmp_path: Path) -> None:
    """The oldest made in passing go, in every workflow; the others come back as what they were, and are whole."""
    filled(tmp_path, "v", "w")
    with opened(tmp_path, retention={"max_checkpoints": 2, "min_checkpoints": 1}) as wp:
        before = {name: states(wp, name) for name in ("v", "w")}
        would = wp.cleanup(dry_run=True).unwrap()
        assert {name: states(wp, name) for name in ("v", "w")} == before
        done = wp.cleanup().unwrap()
        assert list(would.deleted_checkpoints) == list(done.deleted_checkpoints) and len(done.deleted_checkpoints) == 8
        assert (would.dry_run, done.dry_run, done.problems) == (True, False, [])
        assert (done.checkpoints, would.checkpoints) == (8, 8)
        for name in ("v", "w"):
            assert [one.description for one in passing(wp, name)] == ["s4 completed", "s5 completed"]
            left = states(wp, name)
            assert left == {one: before[name][one] for one in left}
            assert all(wp.validate_checkpoint(one).is_valid for one in left)
        again = wp.cleanup().unwrap()
        assert (list(again.deleted_checkpoints), again.freed_bytes) == ([], 0)
    assert len(files_in(tmp_path)) == 8


def test_a_cleanup_reaches_workflows_that_nobody_works_on(wp_with: Callable[..., Waypost], at: Any) -> None:
    """By age, also where no new checkpoint is made."""
    wp = wp_with(retention={"max_age_days": 1, "min_checkpoints": 2})
    wp.create_workflow("w", "W", steps=steps(5)).unwrap()
    complete(wp, steps(5))
    assert wp.cleanup().unwrap().deleted_checkpoints == []
    at(2 * DAY_US)
    assert len(wp.cleanup().unwrap().deleted_checkpoints) == 3
    assert [one.description for one in passing(wp)] == ["s3 completed", "s4 completed"]
    assert wp.history("w")[0].operation == "cleanup"


def test_retention_max_workflow_size(tmp_path: Path) -> None:
    """The files of a workflow's checkpoints stay within the bound, in the commits that make new ones and by cleanup."""
    filled(tmp_path, "w", each_bytes=400_000)
    bounds = {**MANY, "max_workflow_size": 1}
    assert taken(tmp_path) > 2 * MEGABYTE
    with opened(tmp_path, retention=bounds) as wp:
        done = wp.cleanup().unwrap()
        assert len(done.deleted_checkpoints) == 5 and len(done.problems) == 1  # the one that was asked for is larger
        assert f"{MEGABYTE:,}" in done.problems[0] and "'w'" in done.problems[0]
    filled(tmp_path, "v", each_bytes=150_000)
    with opened(tmp_path, retention={**bounds, "max_workflow_size": 2}) as wp:
        wp.add_steps("v", ["t0", "t1"]).unwrap()
        wp.update_step_status("v", "t0", "completed", os.urandom(900_000)).unwrap()
    with opened(tmp_path, retention={**bounds, "max_workflow_size": 1}) as wp:
        wp.update_step_status("v", "t1", "completed").unwrap()
        assert [one.description for one in passing(wp, "v")] == ["t0 completed", "t1 completed"]


def test_retention_max_store_size(tmp_path: Path) -> None:
    """Beyond what the store may take, the oldest of all workflows go; the newest of each stay, and those asked for."""
    filled(tmp_path, "u", "v", "w", each_bytes=100_000)
    with opened(tmp_path, retention=MANY) as wp:
        wp.cleanup().unwrap()
        everything = {name: len(passing(wp, name)) for name in "uvw"}
        size = taken(tmp_path)
    assert size > 2 * MEGABYTE - 2 * 4096 and everything == {"u": 6, "v": 6, "w": 6}
    with opened(tmp_path, retention={**MANY, "max_store_size": 2}) as wp:
        done = wp.cleanup().unwrap()
        assert taken(tmp_path) <= 2 * MEGABYTE or "store may take" in done.problems[0]
        left = {name: len(passing(wp, name)) for name in "uvw"}
        assert left["u"] < 6 and left["u"] <= left["v"] <= left["w"]
    with opened(tmp_path, retention={**MANY, "max_store_size": 1}) as wp:
        done = wp.cleanup().unwrap()
        assert {name: len(passing(wp, name)) for name in "uvw"} == {"u": 1, "v": 1, "w": 1}
        assert done.problems == [f"checkpoints take {done.checkpoint_bytes:,} bytes, more than the {MEGABYTE:,} that "
                                 f"the store may take"]  # fmt: skip


def test_what_a_cleanup_says_that_it_freed_is_free(tmp_path: Path) -> None:
    """The files are smaller by that much, and the dry run says about as much before."""
    filled(tmp_path, "w", each_bytes=200_000)
    before = taken(tmp_path)
    with opened(tmp_path, retention={"max_checkpoints": 1, "min_checkpoints": 1}) as wp:
        wp.restore_from_checkpoint(kept(wp)[0].id).unwrap()
        report = wp.cleanup().unwrap()
        assert report.checkpoint_bytes == sum(one.checkpoint_bytes for one in usage.of_store(wp.definitions.store))
        log = (tmp_path / "workflows" / "w.state").stat().st_blocks * 512
    assert before - taken(tmp_path) == pytest.approx(report.freed_bytes, abs=64 * 1024 + log)
    assert len(report.deleted_checkpoints) == 5


def test_trap_15_a_file_that_no_workflow_speaks_of_goes(tmp_path: Path) -> None:
    """Whoever removed a checkpoint may have died before its file went; those of a lost workflow are no such files."""
    filled(tmp_path, "gone", "lost", "w", each_bytes=1000)
    saved = {name: (tmp_path / "checkpoints" / name).read_bytes() for name in files_in(tmp_path)}
    with opened(tmp_path, retention={"max_checkpoints": 2, "min_checkpoints": 1}) as wp:
        wp.delete_workflow("gone").unwrap()
        wp.cleanup().unwrap()
    expected = files_in(tmp_path)
    assert not any(name.startswith("gone") for name in expected)
    for name in saved.keys() - expected:
        (tmp_path / "checkpoints" / name).write_bytes(saved[name])
    lost = [name for name in expected if name.startswith("lost")]
    for name in (name for name in saved if name.startswith("lost")):
        (tmp_path / "checkpoints" / name).write_bytes(saved[name])
    os.remove(tmp_path / "workflows" / "lost.state")
    with opened(tmp_path, retention=MANY) as wp:
        assert wp.cleanup().unwrap().freed_bytes > 0
        assert len(files_in(tmp_path)) == len(expected) - len(lost) + 8
        assert {one.workflow_id for one in wp.list_checkpoints(limit=100)} >= {"w"}
        wp.restore_from_checkpoint(kept(wp, "lost")[-1].id).unwrap()
        assert wp.load_workflow_state("lost").unwrap().workflow.status == "completed"


def test_what_was_imported_stays(tmp_path: Path) -> None:
    """Whoever imported a checkpoint wanted it, however it was made and however old it is."""
    filled(tmp_path / "one", "w")
    with opened(tmp_path / "one", retention=MANY) as wp:
        oldest = passing(wp)[0].id
        data = wp.export_checkpoint(oldest)
    filled(tmp_path / "two", "w")
    with opened(tmp_path / "two", retention={"max_checkpoints": 1, "min_checkpoints": 1}) as wp:
        wp.import_checkpoint(data).unwrap()
        assert len(wp.cleanup().unwrap().deleted_checkpoints) == 5
        assert passing(wp)[0].id == oldest and len(passing(wp)) == 2
        wp.restore_from_checkpoint(oldest).unwrap()


def test_a_damaged_workflow_is_left_as_it_is(tmp_path: Path) -> None:
    """The report names it, and the others are cleaned up."""
    filled(tmp_path, "v", "w", each_bytes=1000)
    file = tmp_path / "workflows" / "v.state"
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    file.write_bytes(data)
    before = {name for name in files_in(tmp_path) if name.startswith("v")}
    with opened(tmp_path, retention={"max_checkpoints": 2, "min_checkpoints": 1}) as wp:
        done = wp.cleanup().unwrap()
        assert len(done.deleted_checkpoints) == 4 and len(done.problems) == 1 and "'v'" in done.problems[0]
        assert len(passing(wp, "w")) == 2
    assert {name for name in files_in(tmp_path) if name.startswith("v")} == before


# --- the command line ---


@pytest.fixture
def work(wp: blocking.Waypost, monkeypatch: pytest.MonkeyPatch) -> blocking.Waypost:
    wp.create_workflow("survey", "Survey", steps=steps(6)).unwrap()
    for name in steps(6):
        wp.update_step_status("survey", name, "completed", os.urandom(3000)).unwrap()
    wp.create_workflow("other", "Other").unwrap()
    wp.close()
    monkeypatch.setenv("WAYPOST_RETENTION_MAX_CHECKPOINTS", "5")
    return wp


def test_du_tells_what_takes_how_much(work: blocking.Waypost, call: Any, call_json: Any) -> None:
    """Workflows, the largest first; of one, each checkpoint's file and each output. Sizes are those of the files."""
    shown = call("store", "du")
    assert shown.status == 0
    lines = [line.split() for line in shown.out.splitlines()]
    assert [line[0] for line in lines[1:3]] == ["survey", "other"]
    document = call_json("store", "du")
    assert document["total"] == 2 and document["total_bytes"] == sum(
        each["total_bytes"] for each in document["workflows"]
    )
    first = document["workflows"][0]
    folder = Path(".claude/state/checkpoints")
    sizes = sum(entry.stat().st_blocks * 512 for entry in os.scandir(folder) if entry.name.startswith("survey"))
    assert (first["workflow_id"], first["checkpoint_files"], first["checkpoint_bytes"]) == ("survey", 7, sizes)
    assert first["log_bytes"] == Path(".claude/state/workflows/survey.state").stat().st_blocks * 512
    one = call_json("store", "du", "sur")
    assert len(one["checkpoints"]) == 7 and sum(each["file_bytes"] for each in one["checkpoints"]) == sizes
    assert {(each["step_id"], each["version"], each["size_bytes"] > 3000) for each in one["outputs"]} == {
        (name, 1, True) for name in steps(6)
    }
    assert "… and 5 more" in call("store", "du", "survey", "--limit", "2").out
    assert call("store", "du", "nobody").status == 3


def test_cleanup_asks_before_it_removes(work: blocking.Waypost, call: Any, call_json: Any) -> None:
    """It says what would go and needs --yes where nobody can be asked; --dry-run changes nothing."""
    would = call("store", "cleanup", "--dry-run")
    assert would.status == 0 and "1 checkpoint would go" in would.out and "- survey@c" in would.out
    refused = call("store", "cleanup")
    assert refused.status == 2 and "1 checkpoint would go" in refused.err and "--yes" in refused.err
    with opened(Path(".claude/state")) as again:
        assert len(passing(again, "survey")) == 6
    done = call_json("store", "cleanup", "--yes")
    assert len(done["deleted_checkpoints"]) == 1 and done["checkpoints"] == 7
    assert checkpoint_ids.is_passing(done["deleted_checkpoints"][0])
    assert "0 checkpoints removed" in call("store", "cleanup").out
