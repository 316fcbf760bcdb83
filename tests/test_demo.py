"""The demo, performed for real: a process is killed in the middle of hundreds of steps, and nothing is done twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from waypost import cli
from waypost.demo import show, work
from waypost.demo.conduct import Demo, Latencies, Story

KILL_AT = 25


class Performance:
    """What the demo printed with --json, and what it left in the directory that it kept."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "waypost", "demo", "--json", "--keep", str(folder), "--kill-at", str(KILL_AT)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        self.document: dict[str, Any] = json.loads(done.stdout)
        self.story: dict[str, Any] = self.document["story"]
        self.state = folder / "state"
        self.journal = [json.loads(line) for line in (folder / "journal").read_text().splitlines()]

    def begun(self, *, before: bool) -> set[str]:
        """Steps that were begun before the kill, or after it."""
        killed = self.story["wreck"]["pid"]
        return {one["step"] for one in self.journal if one["event"] == "begin" and (one["pid"] == killed) is before}


@pytest.fixture(scope="module")
def performance(tmp_path_factory: pytest.TempPathFactory) -> Performance:
    return Performance(tmp_path_factory.mktemp("demo") / "kept")


def test_the_process_is_killed_in_the_middle(performance: Performance) -> None:
    """The worker dies after the steps that were asked for, with some done, some at work, and most never started."""
    wreck = performance.story["wreck"]
    assert len(wreck["finished"]) >= KILL_AT
    assert len(wreck["finished"]) + len(wreck["running"]) + wreck["pending"] == performance.story["steps"] >= 200
    assert wreck["pending"] > 0
    assert wreck["whole"] is True and wreck["lost"] == []
    assert KILL_AT - len(work.AGENTS) <= wreck["acknowledged"] <= len(wreck["finished"])
    assert {(step["pid"], step["liveness"]) for step in wreck["running"]} <= {(wreck["pid"], "dead")}
    assert wreck["session"] == "crashed"
    assert f"process {wreck['pid']} " in wreck["evidence"]


def test_no_finished_step_is_done_again(performance: Performance) -> None:
    """The journal, which the store has no part in, shows no step that was finished at the kill begun after it."""
    finished = set(performance.story["wreck"]["finished"])
    assert finished <= performance.begun(before=True)
    assert performance.begun(before=False).isdisjoint(finished)
    assert performance.story["repeated_finished"] == []
    assert performance.document["kept_its_word"] is True


def test_what_was_cut_off_is_done_once_more(performance: Performance) -> None:
    """A step that ran twice is one that was at work when the process died; every step is done in the end."""
    times = Counter(one["step"] for one in performance.journal if one["event"] == "begin")
    twice = {step for step, number in times.items() if number > 1}
    assert twice == set(performance.story["run_twice"])
    assert twice <= {step["id"] for step in performance.story["wreck"]["running"]}
    assert max(times.values()) <= 2 and len(times) == performance.story["steps"]
    assert performance.story["executions"] == sum(times.values())


def test_the_store_that_is_kept_holds_all_of_it(performance: Performance, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands that the demo names at its end show a finished workflow and a sound store."""
    assert cli.call(["show", work.WORKFLOW, "--json", "--outputs", "--state", str(performance.state)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["status"] == "completed" and shown["progress"] == 100
    assert {step["status"] for step in shown["steps"]} == {"completed"}
    interrupted = {step["id"] for step in shown["steps"] if step["interruptions"]}
    assert interrupted == {step["id"] for step in performance.story["wreck"]["running"]}
    (report,) = [step for step in shown["steps"] if step["id"] == "report"]
    assert report["output"]["value"] == performance.story["report"]
    assert set(shown["agents"]) == set(work.AGENTS)
    assert cli.call(["verify", "--json", "--state", str(performance.state)]) == 0
    verified = json.loads(capsys.readouterr().out)
    assert verified["commits"] == performance.story["verified"]["commits"] and verified["findings"] == []


def test_every_figure_is_measured(performance: Performance) -> None:
    """Bytes, syncs and latencies are sums and ranks over what the workers noted of each update."""
    story = performance.story
    updates = [update for one in performance.journal if one["event"] == "end" for update in one["updates"]]
    assert story["syncs"] == sum(update["syncs"] for update in updates) > 0
    assert story["bytes_written"] == sum(update["bytes"] for update in updates) > 0
    assert story["updates"]["count"] == len(updates)
    assert min(update["ms"] for update in updates) <= story["updates"]["p50_ms"] <= story["updates"]["p99_ms"]
    for name in ("updates_alone", "raw_syncs"):
        assert 0 < story[name]["p50_ms"] <= story[name]["p99_ms"]
    assert story["load_ms"] > 0
    assert dict(story["files"])[f"workflows/{work.WORKFLOW}.state"] > 100_000
    assert 0 < story["killed_s"] < story["resumed_s"] < story["ended_s"]


def test_the_survey_is_of_this_python(performance: Performance) -> None:
    """The report is about the modules that are there."""
    report = performance.story["report"]
    assert report["totals"]["modules"] == performance.story["modules"] == len(work.find_sources())
    assert "sys" in [one["module"] for one in report["imports"]["most_imported"]]
    assert report["totals"]["lines"] > 50_000 and 0 < report["documentation"]["share"] < 1


def test_people_see_the_same(performance: Performance, capsys: pytest.CaptureFixture[str]) -> None:
    """What people are shown is plain text with the figures of the story, and harmless to a terminal."""
    from waypost.cli import screen

    story = msgspec.convert(performance.story, Story)
    screen.show(*show.after_the_kill(story.wreck), *show.closing(story))
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert f"✓ of the {len(story.wreck.finished):,} steps finished before the kill, none ran again" in printed
    assert f"crashed: process {story.wreck.pid} on " in printed
    assert f"✓ every byte verified: {story.verified['commits']:,} commits" in printed
    assert "save: 500 ms" in printed and "load: 200 ms" in printed
    rows = [line for line in printed.splitlines() if line.strip().startswith(work.AGENTS)]
    assert len(rows) == len(work.AGENTS) and all(row.count("✗") == 1 for row in rows)


def test_a_broken_promise_is_told(performance: Performance) -> None:
    """Should a finished step ever be done again, or a byte be lost, the demo says so and does not end with 0."""
    story = msgspec.convert(performance.story, Story)
    assert story.kept_its_word
    story.repeated_finished = ["parse:os"]
    assert not story.kept_its_word
    story = msgspec.convert(performance.story, Story)
    story.verified["sound"] = False
    assert not story.kept_its_word
    story = msgspec.convert(performance.story, Story)
    story.wreck.lost = ["parse:os"]
    assert not story.kept_its_word


def test_a_repeated_step_would_be_found(performance: Performance, tmp_path: Path) -> None:
    """The demo counts what the journal says: a finished step that was begun after the kill is reported."""
    story = msgspec.convert(performance.story, Story)
    performed = Demo(str(tmp_path), None)
    entries = [
        *performance.journal,
        {"event": "begin", "step": story.wreck.finished[0], "agent": "x", "pid": 1, "at": 0},
    ]
    (tmp_path / "journal").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    performed._count(story)
    assert story.repeated_finished == [story.wreck.finished[0]] and not story.kept_its_word


def test_a_directory_in_use_is_not_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--keep takes a new or empty directory only, and touches nothing in another."""
    (tmp_path / "mine").write_text("x")
    assert cli.call(["demo", "--keep", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_kill_that_comes_too_late_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A kill is asked for while there is enough left to do."""
    assert cli.call(["demo", "--keep", str(tmp_path / "new"), "--kill-at", "100000"]) == 2
    assert "--kill-at takes at most" in capsys.readouterr().err


def test_an_interrupted_demo_leaves_no_process(tmp_path: Path) -> None:
    """Whoever stops the demo stops its worker too."""
    performed = Demo(str(tmp_path), 100)

    def interrupt(finished: int, by_agent: dict[str, int]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        performed.run_until_killed(interrupt)
    process = performed._process
    assert process is not None and process.poll() is None
    performed.stop()
    assert process.poll() is not None
    assert process.stderr is not None
    process.stderr.close()


def test_ranks_are_of_the_samples() -> None:
    """The median and the 99th percentile are values that were measured."""
    samples = [float(number) for number in range(1000, 0, -1)]
    assert Latencies.of(samples) == Latencies(1000, 501.0, 991.0)
    assert Latencies.of([5.0]) == Latencies(1, 5.0, 5.0)
