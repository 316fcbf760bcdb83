"""Several processes on one document, killed at any moment."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
import time

import pytest

import waypost
from tests.seeds import SEED
from tests.store.support import WF, change, directory_store
from waypost.store.directory import compaction
from waypost.store.directory.document import Document


def start(path, name, first, count, mode="shared"):
    command = [sys.executable, "-m", "tests.store.worker", str(path), name, str(first), str(count), mode]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)


def acknowledged(process):
    """What it acknowledged from now to its end, which is waited for."""
    lines = process.stdout.read().split()
    process.wait()
    process.stdout.close()
    return [int(line) for line in lines]


def kill_in_the_middle(processes, rng, most):
    """Kill each process, in random order, once it has acknowledged a random number of changes.

    Returns, for each, the numbers that it acknowledged.
    """
    told = {name: [] for name in processes}
    for name in rng.sample(sorted(processes), len(processes)):
        process = processes[name]
        for _ in range(rng.randrange(1, most)):
            line = process.stdout.readline()
            assert line, f"{name} ended by itself"
            told[name].append(int(line))
        process.send_signal(signal.SIGKILL)
    for name, process in processes.items():
        told[name] += acknowledged(process)
    return told


def check_at_rest(path):
    """Everything is sound, and no lock, lease or temporary file of the dead is left after one open."""
    store = directory_store(path)
    # the file of a checkpoint whose remover died goes at the next compaction
    may_stay = ("note", "leftover")
    findings = store.verify().findings
    assert [found for found in findings if found.severity not in may_stay] == []
    assert [found for found in findings if found.severity == "leftover" and "checkpoints/" not in found.file] == []
    store.submit(change(WF, lambda tx: tx.put("after", b"1"))).result()
    store.close()
    with (path / "workflows" / "wf.state").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    left = directory_store(path, read_only=True).verify().findings
    assert [found for found in left if found.severity != "leftover" or "checkpoints/" not in found.file] == []


@pytest.mark.parametrize("mode", ["apart", "shared", "tidy"])
def test_trap_07_four_processes_killed_at_random_lose_no_acknowledged_update(tmp_path, mode):
    """Four processes on one document, killed with SIGKILL and started again, lose nothing acknowledged and leave no
    lock.

    Repeat a failure with WAYPOST_TEST_SEED set to the seed that it prints.
    """
    print(f"WAYPOST_TEST_SEED={SEED}")
    rng = random.Random(SEED)
    path = tmp_path / "store"
    directory_store(path).close()
    last = dict.fromkeys("abcd", -1)
    acks = commits = 0
    for _ in range(6):
        running = {name: start(path, name, number + 1, 100_000, mode) for name, number in last.items()}
        told = kill_in_the_middle(running, rng, 60)
        store = directory_store(path)
        for name, numbers in told.items():
            acks += len(numbers)
            found = int(store.view(WF).get(name) or -1)
            reached = numbers[-1] if numbers else last[name]
            assert found in (reached, reached + 1), f"{name}: acknowledged {reached}, found {found}"
            assert numbers == list(range(last[name] + 1, reached + 1))
            commits += found - last[name]
            last[name] = found
        if mode != "apart":
            assert int(store.view(WF).get("total") or 0) == commits
        store.close()
    assert acks >= 24, "each process was killed after it had acknowledged something"
    check_at_rest(path)


def test_trap_07_four_processes_on_different_steps_of_one_workflow_lose_nothing(tmp_path):
    """Four processes on different steps, killed at random and started again: each acknowledged step is completed.

    A step that was running when its process died is taken over by the next one.
    """
    print(f"WAYPOST_TEST_SEED={SEED}")
    rng = random.Random(SEED)
    path, each = tmp_path / "store", 1500
    with waypost.open(path) as wp:
        wp.create_workflow("wf", "W", None, [f"{name}.{n}" for name in "abcd" for n in range(each)]).unwrap()
    done = dict.fromkeys("abcd", 0)
    for _ in range(4):
        running = {name: start(path, name, done[name], each - done[name], "steps") for name in "abcd"}
        for name, numbers in kill_in_the_middle(running, rng, 40).items():
            done[name] += len(numbers)
    with waypost.open(path) as wp:
        state = wp.load_workflow_state("wf").unwrap()
        for name, count in done.items():
            for number in range(count):
                assert state.step(f"{name}.{number}").status == "completed"
                assert state.outputs[f"{name}.{number}"].output == {"number": number}
        finished = sum(step.status == "completed" for step in state.workflow.steps)
        assert sum(done.values()) <= finished <= sum(done.values()) + 4 * 4
        assert wp.validate_workflow_state("wf").errors == []
    assert min(done.values()) >= 4
    check_at_rest(path)


def test_c09_a_stopped_process_keeps_its_lock_and_harms_nobody_when_it_goes_on(tmp_path):
    """A process stopped and continued at any moment goes on; nothing it did meanwhile is lost or doubled."""
    path = tmp_path / "store"
    directory_store(path).close()
    first, second = start(path, "a", 0, 400), start(path, "b", 0, 400)
    for _ in range(10):
        time.sleep(0.05)
        first.send_signal(signal.SIGSTOP)
        time.sleep(0.02)
        first.send_signal(signal.SIGCONT)
    assert (len(acknowledged(first)), len(acknowledged(second))) == (400, 400)
    assert (first.returncode, second.returncode) == (0, 0)
    view = directory_store(path, read_only=True).view(WF)
    assert (view.get("a"), view.get("b"), view.get("total")) == (b"399", b"399", b"800")
    check_at_rest(path)


def test_c06_readers_see_whole_commits_in_order_while_others_write_and_compact(tmp_path):
    """A reader never sees an older version than before, nor a commit in part, also while logs are replaced."""
    path = tmp_path / "store"
    directory_store(path).close()
    writers = [start(path, name, 0, 1500, "tidy") for name in "ab"]
    reader = directory_store(path, read_only=True)
    version = looks = 0
    while any(process.poll() is None for process in writers):
        view = reader.view(WF)
        assert view.version >= version
        version, looks = view.version, looks + 1
        counted = sum(int(view.get(name) or -1) + 1 for name in "ab")
        assert int(view.get("total") or 0) == counted == version
    reader.close()
    for process in writers:
        assert len(acknowledged(process)) == 1500
        assert process.returncode == 0
    assert looks > 50
    check_at_rest(path)


def test_c07_creating_a_store_at_once_gives_one_store(tmp_path):
    """Eight processes that open a store that is not there yet all end up in the same one."""
    path = tmp_path / "store"
    processes = [start(path, f"w{number}", 0, 5) for number in range(8)]
    assert [len(acknowledged(process)) for process in processes] == [5] * 8
    assert [process.returncode for process in processes] == [0] * 8
    assert directory_store(path, read_only=True).view(WF).get("total") == b"40"
    check_at_rest(path)


def test_trap_09_leftovers_of_dead_writers_are_swept(tmp_path):
    """A file that a dead process was writing goes at the next open for writing; a living writer's stays."""
    path = tmp_path / "store"
    directory_store(path).close()
    (path / "temp" / "0123456789abcdef.new").write_bytes(b"half")
    with (path / "temp" / "fedcba9876543210.new").open("wb") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        directory_store(path).close()
        assert [entry.name for entry in (path / "temp").iterdir()] == ["fedcba9876543210.new"]
    directory_store(path).close()
    assert list((path / "temp").iterdir()) == []


@pytest.mark.parametrize("meanwhile", ["commit", "snapshot", "large", "compact"])
def test_d13_what_others_add_during_a_compaction_is_carried_over(tmp_path, monkeypatch, meanwhile):
    """Commits that others make while a log is rewritten are in the new one; their snapshots, which name old offsets,
    are not.
    """
    path = tmp_path / "store"
    ours, theirs = directory_store(path, chunk_size=4096), directory_store(path, chunk_size=4096)
    for number in range(12):
        ours.submit(change(WF, lambda tx, n=number: tx.put(f"k{n % 5}", b"%d" % n * 50))).result()
    real = compaction.rewrite

    def rewrite(*args):
        out = real(*args)
        for number in range(5):
            value = b"large " * 2000 if meanwhile == "large" else b"theirs %d" % number
            theirs.submit(change(WF, lambda tx, n=number, value=value: tx.put(f"t{n}", value))).result()
        if meanwhile in ("snapshot", "compact"):
            monkeypatch.setattr(compaction, "rewrite", real)
            assert theirs.tidy(WF, meanwhile) or meanwhile == "snapshot"
            theirs.submit(change(WF, lambda tx: tx.put("behind", b"it"))).result()
        return out

    monkeypatch.setattr(compaction, "rewrite", rewrite)
    monkeypatch.setattr(Document, "snapshot_is_due", staticmethod(lambda state: True))
    assert ours.tidy(WF, "compact") is (meanwhile != "compact")
    monkeypatch.undo()
    expected = theirs.view(WF)
    for store in (ours, directory_store(path, read_only=True)):
        view = store.view(WF)
        assert {key: view.get(key) for key in view.keys()} == {key: expected.get(key) for key in expected.keys()}
        assert view.version == expected.version >= 17
    theirs.close()
    ours.close()
    assert directory_store(path, read_only=True).verify().findings == []
