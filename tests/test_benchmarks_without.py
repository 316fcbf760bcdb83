"""What rows rest on can be taken out, and it is seen that it is gone: by what is left, since no test asks for speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks import bench, hooks, machine, removals, table, without
from benchmarks.__main__ import main
from benchmarks.figures import Cost, Findings

from waypost.bench.goals import Goal

TINY = bench.Scale(rounds=1, steps=60, kept=5, hooks=2)
PROGRAM = """
import json, os, sys, threading
from benchmarks import removals
from waypost import records
from waypost.store.directory.document import Document

seen = {"steps": 0, "forgotten": 0}
def counted(owner, name, as_what):
    inner = getattr(owner, name)
    def outer(*arguments, **named):
        seen[as_what] += 1
        return inner(*arguments, **named)
    setattr(owner, name, outer)

counted(records, "step", "steps")
counted(Document, "forget", "forgotten")
removals.remove()
from benchmarks.ours import Engine
engine = Engine()
engine.open(sys.argv[1])
engine.create("w", 60)
engine.use("w", 60)
seen["forgotten"] = 0
engine.update(12)
forgotten = seen["forgotten"]
store = engine._open().definitions.store
(document,) = (each for each in store._documents.values() if each.id.kind == "workflow")
upkeep = any(thread.name == "waypost-upkeep" for thread in threading.enumerate())
filled = os.stat(sys.argv[1] + "/workflows/w.state").st_size > document.log_if_usable().end
seen["steps"] = 0
engine._open().load_workflow_state("w").unwrap()
print(json.dumps({
    "filling": filled,
    "kept-state": not forgotten,
    "upkeep-beside": upkeep,
    "lazy-loading": seen["steps"] == 0,
    "recent-versions": bool(document.state_now()._recent._laid),
    "own-locks": not os.path.exists(sys.argv[1] + "/temp/one-lock"),
    "batches": document._context.config.performance.batch_size > 1,
    "compression": document._context.config.compression.enabled,
}))
"""


def present(place: Path, name: str = "") -> dict[str, bool]:
    """Which optimisations are at work in a process that is to do without one."""
    command = [sys.executable, "-c", PROGRAM, str(place / "store")]
    environment = {**os.environ, removals.VARIABLE: name}
    root = Path(__file__).parents[1]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment, cwd=root).stdout)


def test_all_that_rows_rest_on_is_there(tmp_path: Path) -> None:
    """In a process that is to do without nothing all of it is at work, but for that of row 9, which has no worker."""
    found = present(tmp_path)
    assert all(found.values()), found
    assert {*found, "bare-interpreter"} == {*removals.OPTIMISATIONS}


@pytest.mark.parametrize("name", [name for name in removals.OPTIMISATIONS if name != "bare-interpreter"])
def test_what_is_removed_is_gone_and_nothing_else(tmp_path: Path, name: str) -> None:
    """A process that is to do without one of them has all others."""
    assert {other for other, is_there in present(tmp_path, name).items() if not is_there} == {name}


def test_the_hook_is_started_with_all_that_an_interpreter_brings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 9 without its flags runs the same script."""
    start, started = hooks._start, set[tuple[str, ...]]()
    monkeypatch.setattr(hooks, "_start", lambda command: (started.add(tuple(command[1:4])), start(command)))
    scripts: list[set[tuple[str, ...]]] = []
    for name in (None, "bare-interpreter"):
        started.clear()
        with removals.removed(name):
            hooks.measure(bench.Bench(TINY, frozenset({9}), str(tmp_path / str(name)), False, Findings({})))
        scripts.append({command for command in started if "-c" not in command})
    script = hooks.spool.script_path()
    assert [command[:3] for found in scripts for command in found] == [
        ("-I", "-S", script),
        (script, "--spool", str(tmp_path / "bare-interpreter" / "hooks" / "spool")),
    ]


def test_what_shows_nowhere_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    """Rows are measured with and without in turns; the status says whether each removal shows in one of its rows."""
    reached = {"": iter([2.0, 2.2, 10.0, 10.0]), "filling": iter([3.0, 4.0]), "batches": iter([9.9, 10.1])}

    def measured(rows: frozenset[int], *arguments: object) -> Findings:
        sense = "at most" if 1 in rows else "at least"
        name = os.environ[removals.VARIABLE]
        return Findings({}, goals=[Goal(min(rows), "what", sense, 1, " x", next(reached[name]))])

    monkeypatch.setattr(table, "measure", measured)
    monkeypatch.setattr(machine, "describe", lambda place: {})
    command = ["without", "filling", "batches", "--rounds", "2", "--json", str(tmp_path / "found.json")]
    assert main(command) == 1
    filling, batches = json.loads((tmp_path / "found.json").read_text())
    assert (filling["with_it"], filling["without"], filling["shows"]) == ([2.0, 2.2], [3.0, 4.0], True)
    assert (batches["row"], batches["without"], batches["shows"]) == (8, [9.9, 10.1], False)
    printed = capsys.readouterr().out
    assert "NOTHING SHOWS that batches was removed" in printed and "that filling" not in printed


def test_what_a_removal_costs_the_disk_is_seen_beside_the_goals() -> None:
    """Of row 1 also the writes of the disk are compared, where the system tells of them."""
    costs = [Cost(10, 900, 4_000, 1, 3.0, None, None, "strace"), Cost(60, 900, 900, 1, None, None, None, "strace")]
    (found,) = without._reached(Findings({}, costs=costs))
    assert (found[0].row, found[0].name, found[1]) == (1, "update at 10 steps, writes of the disk", 3.0)


def test_a_name_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With all that there are."""
    with pytest.raises(SystemExit) as ended:
        main(["without", "everything"])
    assert ended.value.code == 2
    assert "'everything' is none of filling, kept-state" in capsys.readouterr().err
