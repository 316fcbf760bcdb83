"""The benchmarks measure and report without the peer; what they reach is theirs to say, and no test's."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import bench, crew, figures, flush, machine, ours, report
from benchmarks.__main__ import main

import waypost
from waypost.bench import states, turns
from waypost.bench.goals import Goal

TINY = bench.Scale(
    hooks=2,
    rounds=1,
    sizes=(10, 60),
    steps=60,
    updates=2,
    beside=3,
    kept=5,
    accounted=4,
    loads=1,
    slow_loads=1,
    long_log=70,
    processes=2,
    callers=4,
    window=0.02,
    settling=0.0,
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command as if no peer were installed; gives its figures."""
    monkeypatch.setattr(machine, "has_peer", lambda saver="sqlite": False)
    monkeypatch.setattr(machine, "has_dbos", lambda: False)

    def run(*words):
        command = ["--dir", str(tmp_path), "--json", str(tmp_path / "found.json"), *words]
        assert main(command, full=TINY, quick=TINY) == 0
        return json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))

    return run


def test_a_row_is_measured_beside_the_floor_and_says_that_the_peer_is_absent(run, tmp_path, capsys):
    """A quick run of rows 1 and 3 gives figures, goals with verdicts and costs, and no column of the peer."""
    found = run("--rows", "1,3", "--quick", "--markdown", str(tmp_path / "found.md"))
    assert "not installed" in found["header"]["SqliteSaver"]
    assert "power" in found["header"]["Waypost"]
    assert [measure["name"] for measure in found["measures"]] == ["update, 10 steps", "update, 60 steps"]
    for measure in found["measures"]:
        assert measure["peer"] is None and measure["over_peer"] is None
        assert measure["waypost"]["operations"] == 2 and measure["floor"]["operations"] == 4
        assert 0 < measure["waypost"]["median_us"] <= measure["waypost"]["p99_us"]
        assert measure["to_floor"] > 0
    verdicts = {goal["name"]: goal["verdict"] for goal in found["goals"]}
    assert verdicts.pop("update at 10 steps, faster than SqliteSaver") == "not measured"
    assert set(verdicts) == {"growth of an update, 10 to 60 steps"}
    assert set(verdicts.values()) <= {"met", "not met"}
    assert [cost["steps"] for cost in found["costs"]] == [10, 60]
    for cost in found["costs"]:
        assert cost["syncs"] >= 1 and cost["frame_bytes"] > 100 and cost["peer_bytes"] is None
    printed = capsys.readouterr().out
    table = (tmp_path / "found.md").read_text(encoding="utf-8")
    for text in (printed, table):
        assert "update, 60 steps" in text and "p99" in text and "not installed" in text
        assert "Waypost is" in text and "sqlite3" in text  # which is always there
    assert list(tmp_path.glob("waypost-benchmarks-*")) == []


def test_loads_and_rates_are_measured_and_no_update_is_lost(run):
    """Rows 4, 6, 7 and 8 give each of their measures, and all commits that processes were told of are there."""
    found = run("--rows", "4,6,7,8")
    assert [measure["row"] for measure in found["measures"]] == [4] * 8 + [6, 7, 7, 8]
    for measure in found["measures"][8:]:
        assert measure["waypost"]["per_second"] > 0 and measure["floor"]["per_second"] > 0
    lost = [(goal["reached"], goal["verdict"]) for goal in found["goals"] if "lost" in goal["name"]]
    assert lost == [(0, "met")] * 2  # with checkpoints and without
    assert "costs" in found and found["costs"] == []


def test_a_server_is_started_and_measured_beside_its_own_floor(run):
    """Rows 11 to 14 start a server, measure updates, loads and processes on it, and count what it logs of an update."""
    found = run("--rows", "11,12,13,14")
    assert [measure["row"] for measure in found["measures"]] == [11, 12, 11, 12, 13, 13, 13, 14, 14]
    assert all(measure["others"] == {} for measure in found["measures"])
    assert "fsync on" in found["header"]["PostgreSQL"]
    assert "not installed" in found["header"]["DBOS"]
    verdicts = {goal["name"]: goal["verdict"] for goal in found["goals"]}
    assert verdicts["acknowledged updates that were lost on a server"] == "met"
    assert verdicts["write-ahead log of an update at 60 steps, less than PostgresSaver"] == "not measured"
    (logged,) = [note for note in found["notes"] if note.startswith("Row 11")]
    assert int(logged.split("adds ")[1].split()[0].replace(",", "")) > 100


def test_a_hook_is_measured_beside_a_bare_interpreter(run):
    """Row 9 gives a hook and its floor, and by how much the one takes longer."""
    found = run("--rows", "9")
    (measure,) = found["measures"]
    assert measure["waypost"]["operations"] == measure["floor"]["operations"] == 2 * TINY.rounds
    (goal,) = found["goals"]
    assert (goal["row"], goal["goal"], goal["verdict"] in ("met", "not met")) == (9, "at most 5 ms", True)


def test_counting_is_measured_in_pairs_of_updates(run):
    """Row 15 gives updates that are counted and as many that are not, and what counting adds in percent."""
    found = run("--rows", "15")
    assert [measure["waypost"]["operations"] for measure in found["measures"]] == [TINY.beside] * 2
    (goal,) = found["goals"]
    assert (goal["row"], goal["goal"]) == (15, "at most 2 %")
    (note,) = [note for note in found["notes"] if note.startswith("Row 15")]
    assert 0 < float(note.split("counting takes ")[1].split()[0].replace(",", "")) < 1_000_000


def test_checkpoints_are_measured_beside_updates_and_what_they_take(run):
    """Rows 2, 5 and 10 give an update with a checkpoint and without, both ways of going back, and the disk taken."""
    found = run("--rows", "2,5,10")
    names = [measure["name"] for measure in found["measures"]]
    assert names == [
        "update, 60 steps, with a checkpoint",
        "update, 60 steps, alone",
        "restore, 60 steps, hot",
        "restore, 60 steps, cold",
    ]
    goals = {(goal["row"], goal["goal"]): goal for goal in found["goals"]}
    assert goals[2, "at most 1.1 x"]["reached"] > 0
    assert goals[5, "at least 30 x"]["verdict"] == goals[5, "at least 10 x"]["verdict"] == "not measured"
    assert goals[10, "at least 1000 x"]["verdict"] == "not measured"
    (taken,) = [note for note in found["notes"] if note.startswith("Row 10")]
    assert "for 11 versions" in taken  # one as it was made, five resets, five completions


def test_an_update_alone_makes_no_checkpoint_and_others_do(tmp_path):
    """What rows 1 and 2 call an update alone leaves no checkpoint, and a completion by default leaves one."""
    found = {}
    for alone in (False, True):
        engine = ours.Engine()
        engine.open(str(tmp_path / str(alone)), alone=alone)
        engine.create("measured", 20)
        engine.use("measured", 20)
        engine.update(3)
        engine.close()
        with waypost.open(tmp_path / str(alone)) as handle:
            found[alone] = handle.list_checkpoints("measured").total
    assert found == {False: 3, True: 0}


def test_bytes_on_the_medium_are_counted_in_blocks(tmp_path):
    """A file of one byte takes what the file system gives it, and one that is all hole takes nothing."""
    empty = machine.bytes_on_medium(str(tmp_path))
    (tmp_path / "hole").touch()
    os.truncate(tmp_path / "hole", 1 << 20)
    assert machine.bytes_on_medium(str(tmp_path)) == empty
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "full").write_bytes(bytes(1 << 16))
    os.sync()
    assert machine.bytes_on_medium(str(tmp_path)) >= empty + (1 << 16)


def test_writes_of_the_disk_are_counted_where_the_system_tells(tmp_path):
    """A file that is synced is written; a file system that has no disk of its own tells nothing."""
    device = os.stat(tmp_path).st_dev
    before = machine.disk_writes(str(tmp_path))
    assert (before is not None) == os.path.exists(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    with open(tmp_path / "file", "wb") as file:
        file.write(bytes(1 << 16))
        os.fsync(file.fileno())
    assert before is None or machine.disk_writes(str(tmp_path)) > before
    assert machine.disk_writes("/proc") is None and machine.disk_writes("postgresql://server/base") is None


def test_steps_are_the_same_in_each_run_and_about_as_large_as_said():
    """States are seeded, and a step with its output is 1.2 KB give or take a tenth."""
    steps = states.make_steps(200)
    assert steps == states.make_steps(200)
    assert statistics.fmean(len(json.dumps(step)) for step in steps) == pytest.approx(1200, rel=0.1)


def test_callers_share_out_the_steps_that_may_be_updated():
    """Shares of several callers are disjoint, and leave out what other steps depend on."""
    shares = [states.own_steps(100, share, 8) for share in range(8)]
    every = [step_id for share in shares for step_id in share]
    assert len(set(every)) == len(every) == 100 - states.roots(100)
    needed = {needed for step in states.make_steps(100) for needed in step["dependencies"]}
    assert needed.isdisjoint(every)


def test_q12_a_ratio_is_taken_between_neighbouring_turns():
    """A machine that gets ten times slower between rounds leaves a ratio as it is."""
    rounds = [(10.0, 20.0), (100.0, 200.0), (10.0, 20.0)]
    floor = turns.Lane([[turns.Turn([low], [])] for low, _ in rounds])
    ours = turns.Lane([[turns.Turn([high], [])] for _, high in rounds])
    assert turns.times_as_long(ours, floor) == 2
    assert turns.growth(ours, floor, ours, floor) == 1


@pytest.mark.parametrize(
    ("kind", "of_dbos", "told"),
    [
        ("time", turns.Turn([3000.0], []), ["3,000 µs", "3,000 µs", "3.00 x faster"]),
        ("rate", turns.Turn([500.0], [2000.0]), ["2,000/s", "500 µs", "2.00 x slower"]),
    ],
)
def test_a_further_peer_has_a_line_where_it_takes_part(kind, of_dbos, told):
    """A measure with DBOS says how it fared and how many times as fast Waypost is; without, nothing is said of it."""
    ours_ = turns.Lane([[turns.Turn([1000.0], [1000.0])]])
    alone = figures.Measure(11, "update", kind, ours_, None, None)
    beside = figures.Measure(13, "load", kind, ours_, None, None, {"DBOS": turns.Lane([[of_dbos]])})
    _, sheet = report.sheets(figures.Findings({}, served=[alone, beside]))
    assert sheet.lines == [["13", "load", "DBOS", *told]]
    (without,) = report.sheets(figures.Findings({}, served=[alone]))
    assert "DBOS" not in str(without)
    assert beside.as_json()["others"]["DBOS"]["over"] == {"time": 3, "rate": 0.5}[kind]


def test_options_of_the_person_who_measures_reach_no_engine(tmp_path, monkeypatch):
    """A process of an engine sees no variable that Waypost or DBOS takes an option from."""
    for name in ("WAYPOST_PRESET", "DBOS__CLOUD", "DBOS_SYSTEM_DATABASE_URL"):
        monkeypatch.setenv(name, "from outside")
    with crew.Crew() as hired:
        (worker,) = hired.hire("floor", through=("sh", "-c", f'env > {tmp_path}/seen; exec "$@"', "sh"))
        worker.ask("open", path=str(tmp_path / "file"), frame_bytes=10)
    assert "from outside" not in (tmp_path / "seen").read_text(encoding="utf-8")


def test_p99_is_a_latency_that_was_measured():
    """The p99 of a hundred latencies is the second largest, and of few the largest."""
    assert turns.Lane([[turns.Turn([float(n) for n in range(100)], [])]]).p99_us == 98
    assert turns.Lane([[turns.Turn([3.0, 7.0], [])]]).p99_us == 7


@pytest.mark.parametrize(
    ("sense", "reached", "verdict"),
    [
        ("at most", 1.3, "met"),
        ("at most", 1.31, "not met"),
        ("at least", 1.3, "met"),
        ("at least", 1.29, "not met"),
        ("at least", None, "not measured"),
    ],
)
def test_a_goal_says_whether_it_is_met(sense, reached, verdict):
    """A goal that is reached exactly is met; one that was not measured is neither."""
    assert Goal(1, "x", sense, 1.3, " x", reached).verdict == verdict


def test_an_error_in_a_worker_ends_the_run():
    """What goes wrong in a process is told with its traceback, and not taken for a figure."""
    with pytest.raises(crew.WorkerFailed, match="no_such_thing"), crew.Crew() as hired:
        hired.hire("floor")[0].ask("no_such_thing")


@pytest.mark.parametrize("rows", ["16", "1,x", ""])
def test_a_row_that_is_not_there_is_refused(rows, capsys):
    """Only rows that the benchmarks have are taken."""
    with pytest.raises(SystemExit):
        main(["--rows", rows])
    assert "rows are 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15" in capsys.readouterr().err


def test_memory_is_never_taken_for_a_disk():
    """A file system that is memory is said to be so in the header."""
    if machine.file_system("/dev/shm") not in machine.IN_MEMORY:
        pytest.skip("no memory file system here")
    assert "MEMORY" in machine.describe("/dev/shm")["file system"]


SYNCED = """
import os, sys, time
descriptor = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
for sync in (os.fdatasync, os.fsync):
    os.write(descriptor, b"it")
    began = time.monotonic()
    sync(descriptor)
    print(time.monotonic() - began)
"""


@pytest.mark.skipif(not flush.is_possible() or not sys.platform.startswith("linux"), reason="needs Linux and cc")
def test_a_slower_flush_is_that_of_every_sync(tmp_path: Path) -> None:
    """What is added is waited for by both calls, in processes that are started within, and in none behind it."""
    command = [sys.executable, "-c", SYNCED, str(tmp_path / "file")]
    with flush.slowed(300_000):
        slow = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    assert all(float(line) >= 0.3 for line in slow.split()), slow
    assert "LD_PRELOAD" not in os.environ
    with flush.slowed(None):
        assert "LD_PRELOAD" not in os.environ


def test_what_was_made_slower_is_not_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--flush-us", "1000", "--keep"])
    assert "for the disk as it is" in capsys.readouterr().err
