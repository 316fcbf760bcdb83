"""What the kernel is really asked to do for sessions, counted by strace."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.store.test_strace import environment

pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")

ACTS = {
    "start": "wp.start_session(session_id='s')",
    "announce": "wp.update_context('wf', variables={'n': 1}, session_id='s').unwrap()",
    "write": "wp.update_context('wf', variables={'n': 2}, session_id='s').unwrap()",
    "write in no session": "wp.update_context('wf', variables={'n': 3}).unwrap()",
    "update": "wp.update_session('s', environment={'n': 1}).unwrap()",
    "pause": "wp.pause_session('s').unwrap()",
    "resume": "wp.resume_session('s')",
    "beats": "time.sleep(0.05)",
    "recover nothing": "wp.detect_and_recover_crashed_sessions()",
    "end": "wp.end_session('s', False).unwrap()",
}
SCRIPT = f"""
import os, sys, time
import waypost
config = {{"checkpoints": {{"initial": False, "pause": False}}, "reliability": {{"sync_frequency": int(sys.argv[2])}}}}
with waypost.open(sys.argv[1], config=config) as wp:
    wp.create_workflow("wf", "A workflow").unwrap()
    wp.start_session(session_id="before")
    wp.update_context("wf", variables={{"n": 0}}, session_id="before").unwrap()
    for name, act in {ACTS!r}.items():
        wp.definitions.session_id = None
        os.write(1, f"BEGIN {{name}}.".encode())
        eval(act)
    os.write(1, b"BEGIN close.")
"""
CALLS = ("pwrite64", "fdatasync", "fsync", "ftruncate", "rename", "renameat", "renameat2", "unlinkat", "mkdirat")
_PART = re.compile(r'write\(1<[^>]*>, "BEGIN ([^.]*)\."')
_CALL = re.compile(r"^\d+ +(\w+)\((?:AT_FDCWD|\d+)<([^>]*)>", re.MULTILINE)


def traced(tmp_path: Path, beat_ms: int) -> dict[str, Counter[tuple[str, str]]]:
    """For each act how often a call was made on a file, by the last two parts of its name."""
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-y", "-qq", "-o", str(trace), "-e", f"trace={','.join(CALLS)},write"]
    interpreter = subprocess.check_output(
        [sys.executable, "-c", "import sys; print(sys.executable)"], text=True
    ).strip()
    subprocess.run(
        [*command, interpreter, "-c", SCRIPT, str(tmp_path / "store"), str(beat_ms)],
        env=environment(),
        check=True,
        stdout=subprocess.PIPE,
    )
    pieces = _PART.split(trace.read_text())
    return {
        name: Counter((call, "/".join(file.split("/")[-2:])) for call, file in _CALL.findall(text) if call in CALLS)
        for name, text in zip(pieces[1::2], pieces[2::2], strict=True)
    }


OWNER, LOG, WORKFLOW = "owners/s.session", "sessions/s.session", "workflows/wf.state"
COMMIT = {("pwrite64", LOG): 1, ("fdatasync", LOG): 1}
WRITE = {("pwrite64", WORKFLOW): 1, ("fdatasync", WORKFLOW): 1}
CLAIM = {("pwrite64", OWNER): 1}
LET_GO = {("unlinkat", "store/owners"): 1}


def test_t21_what_sessions_cost_is_counted(tmp_path: Path) -> None:
    """To start, pause, resume, change and end one is a commit each; a write that was announced costs what any does, and
    no claim and no letting go is ever synced.
    """
    calls = traced(tmp_path, 3_600_000)
    assert calls["start"] == {**CLAIM, **COMMIT, ("fsync", "store/sessions"): 1}
    assert calls["announce"] == {**COMMIT, **WRITE}
    assert calls["write"] == calls["write in no session"] == WRITE
    assert calls["update"] == COMMIT
    assert calls["pause"] == {**COMMIT, **LET_GO}
    assert calls["resume"] == {**CLAIM, **COMMIT, **WRITE}, "the new number is put into the workflow"
    assert calls["beats"] == {}
    ended = calls["end"]  # a decision, and what is carried out behind it
    assert [ended[each] for each in (("fsync", "store/transactions"), *LET_GO)] == [1, 1]
    assert calls["recover nothing"] == {}


def test_t21_a_heartbeat_makes_no_sync(tmp_path: Path) -> None:
    """A sign of life is one write to the owner's file, and nothing else."""
    beats = traced(tmp_path, 5)["beats"]
    owners = {("pwrite64", OWNER), ("pwrite64", "owners/before.session")}
    assert set(beats) == owners and min(beats.values()) >= 2
