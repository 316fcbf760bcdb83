"""Watching while many processes write, also with a watcher that is killed and goes on: each commit is told once."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.seeds import SEED
from waypost.blocking import Waypost

WRITERS, COMMITS = 4, 150
WORKFLOWS = ["a", "b", "c"]

WRITER = """
import sys, waypost
location, writer, commits, *workflows = sys.argv[1:]
with waypost.open(location) as wp:
    for number in range(int(commits)):
        workflow = workflows[(number + int(writer)) % len(workflows)]
        wp.update_context(
            workflow, variables={f"w{writer}": number}, operation_id=f"{writer}-{number}"
        ).unwrap()
"""

WATCHER = """
import json, sys, time, waypost
location, path, cursor, most = sys.argv[1:]
with waypost.open(location) as wp, open(path, "a") as out, wp.watch(cursor=cursor) as watch:
    for number, event in enumerate(watch, 1):
        out.write(json.dumps([event.workflow_id, event.version, event.operation_id, event.cursor]) + chr(10))
        out.flush()
        if number == int(most):
            time.sleep(3600)  # until it is killed, however fast it is
"""

Line = tuple[str, int, str, str]


def told(path: Path) -> list[Line]:
    """What a watcher has written whole; a line that its death cut off is taken away, as if it had not been told."""
    text = path.read_text() if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return [tuple(json.loads(line)) for line in whole.splitlines()]


@contextmanager
def _writing(wp: Waypost) -> Iterator[None]:
    """Lets several others write meanwhile: processes, and in a store that is memory, threads."""
    if wp.durability == "none":
        threads = [threading.Thread(target=_write, args=(wp, writer)) for writer in range(WRITERS)]
        for thread in threads:
            thread.start()
        yield
        for thread in threads:
            thread.join()
        return
    arguments = [str(COMMITS), *WORKFLOWS]
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, wp.location, str(writer), *arguments])
        for writer in range(WRITERS)
    ]
    yield
    assert [process.wait() for process in processes] == [0] * WRITERS


def _write(wp: Waypost, writer: int) -> None:
    for number in range(COMMITS):
        workflow = WORKFLOWS[(number + writer) % len(WORKFLOWS)]
        wp.update_context(workflow, variables={f"w{writer}": number}, operation_id=f"{writer}-{number}").unwrap()


def check(wp: Waypost, lines: list[Line]) -> None:
    """Each commit that history knows was told once, in order, and each write of each writer is among them."""
    for workflow in WORKFLOWS:
        history = [(entry.version, entry.operation_id) for entry in reversed(wp.history(workflow, limit=None))]
        assert [(version, operation) for name, version, operation, _ in lines if name == workflow] == history
    operations = [operation for _, _, operation, _ in lines]
    assert {f"{writer}-{number}" for writer in range(WRITERS) for number in range(COMMITS)} <= set(operations)
    assert len(set(operations)) == len(operations)


@pytest.fixture
def seeded() -> random.Random:
    print(f"repeat with: WAYPOST_TEST_SEED={SEED} make test ARGS='-q tests/test_watch_processes.py'")
    return random.Random(SEED)


def test_each_commit_is_told_once_however_often_the_watcher_is_closed(wp: Waypost, seeded: random.Random) -> None:
    """While four others write, a watch that is closed at any event and made anew from its cursor tells all, once."""
    for workflow in WORKFLOWS:
        wp.create_workflow(workflow, workflow).unwrap()
    lines: list[Line] = []
    wanted = WRITERS * COMMITS + len(WORKFLOWS)
    cursor, makings = "start", 0
    with _writing(wp):
        while len(lines) < wanted:
            makings += 1
            with wp.watch(cursor=cursor) as watch:
                for _ in range(seeded.randrange(1, 60)):
                    event = watch.get(60)
                    assert event is not None and event.kept and event.taken_back_from is None
                    cursor = event.cursor
                    lines.append((event.workflow_id, event.version, event.operation_id or "", cursor))
                    if len(lines) == wanted:
                        break
    assert makings > 5
    check(wp, lines)


@pytest.mark.timeout(300)
def test_each_commit_is_told_once_however_often_the_watcher_is_killed(
    wp: Waypost, seeded: random.Random, tmp_path: Path
) -> None:
    """While four processes write, one that watches is killed at any moment, and the next goes on from what it left."""
    if wp.durability == "none":
        return  # what is memory ends with its process
    for workflow in WORKFLOWS:
        wp.create_workflow(workflow, workflow).unwrap()
    path = tmp_path / "told"
    wanted = WRITERS * COMMITS + len(WORKFLOWS)
    kills = 0
    with _writing(wp):
        while len(lines := told(path)) < wanted:
            cursor = lines[-1][3] if lines else "start"
            watcher = subprocess.Popen([sys.executable, "-c", WATCHER, wp.location, str(path), cursor, "100"])
            least = min(wanted, len(lines) + seeded.randrange(1, 80))
            until = time.monotonic() + 60
            while path.read_text().count("\n") < least if path.exists() else True:
                assert watcher.poll() is None and time.monotonic() < until
                time.sleep(seeded.random() * 0.02)
            watcher.send_signal(signal.SIGKILL)
            watcher.wait()
            kills += 1
    assert kills > 3
    check(wp, told(path))
