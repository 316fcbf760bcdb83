"""Ids that are made up, of which nobody is given one twice; and whether a process is still there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from waypost import clock


def test_an_id_is_a_uuid_of_version_7_behind_its_prefix() -> None:
    """Whoever reads ids may take them for what RFC 9562 says: time, version, variant, and all else at random."""
    before_ms = time.time_ns() // 1_000_000
    found = [uuid.UUID(clock.new_id("op").removeprefix("op_")) for _ in range(500)]
    after_ms = time.time_ns() // 1_000_000
    assert {(each.version, each.variant) for each in found} == {(7, uuid.RFC_4122)}
    assert all(before_ms <= each.int >> 80 <= after_ms for each in found)
    always_clear = always_set = (1 << 80) - 1
    for each in found:
        always_clear &= ~each.int
        always_set &= each.int
    assert always_clear | always_set == 0xF << 76 | 0x3 << 62


def test_threads_are_never_given_the_same_id() -> None:
    """No lock guards the making of ids, and none is needed."""
    with ThreadPoolExecutor(8) as pool:
        found = [
            made
            for several in pool.map(lambda _: [clock.new_id("x") for _ in range(500)], range(8))
            for made in several
        ]
    assert len(set(found)) == len(found)


def test_the_child_of_a_fork_makes_ids_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parent holds ready is the parent's."""
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    clock.new_id("x")  # the parent holds others ready from here on
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, " ".join(clock.new_id("x") for _ in range(40)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 1 << 16).decode().split()
    os.close(reading)
    os.close(writing)
    assert len(theirs) == 40
    assert not {clock.new_id("x") for _ in range(40)}.intersection(theirs)


@pytest.fixture
def ended() -> int:
    """The pid of a process that is no more."""
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


@pytest.mark.parametrize(
    ("answer", "expected"), [(None, 0), (PermissionError, 0), (ProcessLookupError, None), (OverflowError, None)]
)
def test_s01_a_process_that_proc_does_not_show_is_gone_only_if_no_signal_reaches_it(
    ended: int, monkeypatch: pytest.MonkeyPatch, answer: type[Exception] | None, expected: int | None
) -> None:
    """Absence from proc is no proof of death: it may hide the processes of others."""
    asked: list[tuple[int, int]] = []

    def kill(pid: int, number: int) -> None:
        asked.append((pid, number))
        if answer is not None:
            raise answer

    monkeypatch.setattr(os, "kill", kill)
    assert clock.start_ticks(ended) == expected
    owner = clock.process_identity()._replace(pid=ended, start=7)
    assert clock.liveness(owner) == ("dead" if expected is None else "alive")
    assert asked == [(ended, 0)] * 2


@pytest.mark.parametrize("pid", [0, -1, -(2**70), 2**70])
def test_s01_a_pid_that_is_none_is_nobody(pid: int) -> None:
    """A stored number that names no single process is asked of nobody, and is of nobody alive."""
    assert clock.start_ticks(pid) is None


HIDDEN = """
import os, subprocess, sys
from waypost import clock
subprocess.run(["mount", "-t", "proc", "-o", "hidepid=2", "proc", "/proc"], check=True)
here = clock.process_identity()
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
pid, start, ended = map(int, sys.argv[1:])
assert not os.path.exists(f"/proc/{pid}")
print(*(clock.liveness(here._replace(pid=each, start=start)) for each in (pid, ended)))
"""


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="needs root: mounts proc anew")
def test_s01_a_living_process_that_proc_hides_is_not_dead(ended: int) -> None:
    """Under `hidepid` another user's process is there, and one that has ended is not."""
    with subprocess.Popen(["sleep", "60"]) as other:
        arguments = map(str, (other.pid, clock.start_ticks(other.pid), ended))
        command = ["unshare", "--mount", sys.executable, "-c", HIDDEN, *arguments]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        other.kill()
    assert said.split() == ["alive", "dead"]


ELSEWHEN = """
import sys
from waypost import clock
from waypost.hooks import script
starts = clock.start_ticks(int(sys.argv[1])), script._start_ticks(sys.argv[1])
print(*starts, *clock.process_identity(), sep="\\n", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="needs root: makes a time namespace")
def test_s01_a_living_process_in_another_time_namespace_is_not_dead() -> None:
    """There proc tells other start times, and each finds the other alive all the same: nobody was born again."""
    command = ["unshare", "--time", "--boottime", "100000", "--fork", sys.executable, "-c", ELSEWHEN, str(os.getpid())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None and other.stdout is not None
        start, told_by_hook, host, boot, namespace, pid, own_start = (next(other.stdout).strip() for _ in range(7))
        identity = clock.ProcessIdentity(host, boot, namespace, int(pid), int(own_start))
        assert clock.liveness(identity) == "alive"
        assert clock.liveness(identity._replace(start=int(own_start) + 1)) == "dead"
        assert (int(start), told_by_hook) == (clock.process_identity().start, "0")
        other.stdin.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads proc")
def test_s01_start_times_that_are_shifted_by_a_part_of_a_tick_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounded, the same start may be told as two: then only the pid counts."""
    monkeypatch.setattr(clock, "_boot_shift", lambda: None)
    assert clock.start_ticks(os.getpid()) == 0
