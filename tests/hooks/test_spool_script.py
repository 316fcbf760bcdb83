"""The hook script as agents start it: what it stores, what it never does, and what it asks of the kernel."""

from __future__ import annotations

import hashlib
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.hooks.spooled import command, events, fold, hook, interpreter, is_acknowledged, make_store, taken
from tests.totals import Totals
from waypost import clock
from waypost.hooks import entries, script
from waypost.hooks.entries import Entry, NotWhole
from waypost.store.directory import spooled

CANARY = "canary-7f3a9c"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def given(state: Path, **more: str) -> dict[str, str]:
    return {"WAYPOST_STATE": str(state), **more}


def test_d24_an_event_is_one_file_that_holds_what_was_given(state: Path) -> None:
    """The payload is kept as it came, byte for byte, with dialect and time."""
    before_us = clock.now_us()
    payload = bytes(range(256)) + '{"ünicode": "\n"}'.encode()
    assert is_acknowledged(hook(payload, "--dialect", "claude-code", environment=given(state)))
    (entry,) = events(state / "spool")
    assert (entry.payload, entry.dialect, entry.cut) == (payload, "claude-code", None)
    assert before_us - 1000 <= entry.time_us <= clock.now_us()
    assert entry.variables == {"boot": clock.boot_id()}


def test_d24_names_sort_by_arrival(state: Path) -> None:
    """Within one boot the order of names is the order in which hooks were started, one after the other."""
    for number in range(5):
        assert is_acknowledged(hook(b"%d" % number, environment=given(state)))
    assert [entry.payload for entry in events(state / "spool")] == [b"0", b"1", b"2", b"3", b"4"]


def test_e12_the_script_imports_nothing_heavy(state: Path) -> None:
    """After a run nothing is loaded but what a bare interpreter has, C modules, and the loader of the script."""
    program = (
        "import sys, posix; before = set(sys.modules)\n"
        "posix._exit = lambda code: print(*sorted(set(sys.modules) - before))\n"
        f"sys.argv = ['x', '--dialect', 'claude-code']\n"
        "from _frozen_importlib_external import SourceFileLoader\n"
        f"main = type(sys)('__main__'); main.__file__ = {command()[3]!r}\n"
        "SourceFileLoader('__main__', main.__file__).exec_module(main)\n"
    )
    run = [interpreter(), "-I", "-S", "-c", program]
    environment = given(state, CLAUDE_PID=str(os.getpid()))
    for payload in (b"{}", b"x" * (script.PAYLOAD_MOST + 1)):
        done = subprocess.run(run, input=payload, capture_output=True, env=environment, check=True)
        loaded = set(done.stdout.decode().split())
        assert loaded <= {"binascii", "fcntl", "time", "_signal", "_sha2", "_sha256"}, loaded
    assert len(events(state / "spool")) == 2


@pytest.mark.parametrize("payload", [b"", b"no json", b'{"cut": "sho', b"\xff\xfe\0", b"[" * 100_000], ids=range(5))
def test_d24_whatever_is_given_is_kept(state: Path, payload: bytes) -> None:
    """What is no JSON, cut short, or no text, is kept for whoever folds it; the hook ends with 0 and prints nothing."""
    assert is_acknowledged(hook(payload, environment=given(state)))
    assert [entry.payload for entry in events(state / "spool")] == [payload]


def test_x27_a_payload_beyond_the_limit_is_cut_and_says_so(state: Path) -> None:
    """Of a longer payload the beginning is kept, with its whole length and SHA-256; one of just the limit is whole."""
    most = script.PAYLOAD_MOST
    for length in (most, most + 1, most + 300_000):
        payload = os.urandom(1000) * (length // 1000 + 1)
        payload = payload[:length]
        assert is_acknowledged(hook(payload, environment=given(state)))
        entry = events(state / "spool")[-1]
        assert entry.payload == payload[:most]
        assert entry.cut == (None if length == most else (length, hashlib.sha256(payload).hexdigest()))


def test_x22_nothing_of_the_environment_is_kept_but_named_variables(state: Path) -> None:
    """Tokens in the environment reach no file; of the named variables one that is too long is left out."""
    secrets = {"ANTHROPIC_API_KEY": CANARY, "CLAUDE_CODE_MESSAGING_TOKEN": CANARY, "CLAUDE_PID_X": CANARY}
    named = {
        "CLAUDE_CODE_SESSION_ID": "a b%=\n\x1bé",
        "CLAUDE_EFFORT": "high",
        "CLAUDE_CODE_ENTRYPOINT": "x" * (script.VALUE_MOST + 1),
    }
    assert is_acknowledged(hook(b"{}", environment=given(state, **secrets, **named)))
    (entry,) = events(state / "spool")
    assert entry.variables == {
        "boot": clock.boot_id(), "CLAUDE_CODE_SESSION_ID": "a b%=\n\x1bé", "CLAUDE_EFFORT": "high"
    }  # fmt: skip
    assert not [path for path in state.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]


def test_s01_the_agent_is_named_for_as_long_as_anyone_may_remember_it(state: Path) -> None:
    """What is kept of the agent's process makes the identity that this process gives itself."""
    assert is_acknowledged(hook(b"{}", environment=given(state, CLAUDE_PID=str(os.getpid()))))
    kept = events(state / "spool")[0].variables
    identity = clock.ProcessIdentity(
        kept["host"], kept["boot"], kept["pid_namespace"], int(kept["CLAUDE_PID"]), int(kept["agent_start"])
    )
    assert identity == clock.process_identity()
    assert clock.liveness(identity) == "alive"


@pytest.mark.parametrize("pid", ["0", "99999999", "x", "../1", ""])
def test_s01_a_pid_that_is_none_keeps_no_hook_from_its_work(state: Path, pid: str) -> None:
    """A variable that names no process is kept as text, and no start is told of it."""
    assert is_acknowledged(hook(b"{}", environment=given(state, CLAUDE_PID=pid)))
    assert events(state / "spool")[0].variables.get("agent_start", "") == ""


# --- where to ---


@pytest.mark.parametrize("given_as", ["spool", "spool//", "./spool", "spool/below/..", "../here/spool", "spool/."])
def test_d24_a_path_may_be_written_in_any_way(tmp_path: Path, given_as: str) -> None:
    """Relative to where the hook is started, with dots and with slashes at its end."""
    (tmp_path / "here" / "spool" / "below").mkdir(parents=True)
    for options, variables in (["--spool", given_as], {}), ([], {"WAYPOST_SPOOL": given_as}):
        assert is_acknowledged(hook(b"{}", *options, environment=variables, cwd=tmp_path / "here"))
    assert len(events(tmp_path / "here" / "spool")) == 2


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_d24_a_path_that_is_no_text_is_found(tmp_path: Path, locale: str) -> None:
    """Names are bytes to the system, whatever the locale makes of them."""
    place = os.fsencode(tmp_path) + b"/caf\xe9 \xc3\xa9"
    os.mkdir(place)
    environment = {"LC_ALL": locale, "WAYPOST_SPOOL": os.fsdecode(place + b"/spool")}
    assert is_acknowledged(hook(b"{}", environment=environment))
    assert len([name for name in os.listdir(place + b"/spool") if name.endswith(b".event")]) == 1


def test_d24_the_spool_is_found_from_what_is_said_most_clearly(tmp_path: Path) -> None:
    """The option, $WAYPOST_SPOOL, the store of $WAYPOST_STATE, the project's, the nearest upwards: in that order."""
    project, below = tmp_path / "project", tmp_path / "project/a/b"
    below.mkdir(parents=True)
    places = {name: tmp_path / name for name in ("option", "variable")}
    state, nearest, other = tmp_path / "store", project / ".claude/state", tmp_path / "other/.claude/state"
    for each in (state, nearest, other):
        each.mkdir(parents=True)
    said = {
        "WAYPOST_SPOOL": str(places["variable"]),
        "WAYPOST_STATE": str(state),
        "CLAUDE_PROJECT_DIR": str(tmp_path / "other"),
    }
    expected = [places["option"], places["variable"], state / "spool", other / "spool", nearest / "spool"]
    for number, folder in enumerate(expected):
        left = dict(list(said.items())[max(0, number - 1) :])
        options = ["--spool", str(places["option"])] if number == 0 else []
        assert is_acknowledged(hook(b"%d" % number, *options, environment=left, cwd=below))
        assert [entry.payload for entry in events(folder)] == [b"%d" % number], folder


@pytest.mark.parametrize("missing", ["state", "project", "nothing", "server"])
def test_d24_without_a_store_nothing_is_made_and_nothing_is_said(tmp_path: Path, missing: str) -> None:
    """A project opts in by having a store: where there is none the hook ends with 0, silently, and leaves no file."""
    environment = {
        "state": {"WAYPOST_STATE": str(tmp_path / "gone")},
        "project": {"CLAUDE_PROJECT_DIR": str(tmp_path)},
        "nothing": {},
        "server": {"WAYPOST_STATE": "postgresql://somewhere/x"},
    }[missing]
    assert is_acknowledged(hook(b"{}", environment=environment, cwd=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_e04_files_and_directories_are_private_whatever_the_umask(state: Path) -> None:
    """The spool is 0700 and what is in it 0600, from their making on."""
    for mask in (0o000, 0o277):
        assert is_acknowledged(hook(b"{}", environment=given(state), preexec_fn=lambda mask=mask: os.umask(mask)))
    modes = {stat.S_IMODE(each.stat().st_mode) for each in (state / "spool").iterdir()}
    assert (modes, stat.S_IMODE((state / "spool").stat().st_mode)) == ({0o600}, 0o700)


def test_n04_a_spool_that_is_a_link_is_not_followed(tmp_path: Path, state: Path) -> None:
    """A link in the place of the spool is refused aloud, and nothing is written where it leads."""
    (tmp_path / "elsewhere").mkdir()
    (state / "spool").symlink_to(tmp_path / "elsewhere")
    assert_refused(hook(b"{}", environment=given(state)))
    assert list((tmp_path / "elsewhere").iterdir()) == []


# --- what fails ---


def assert_refused(done: subprocess.CompletedProcess[bytes]) -> None:
    """It ended with 0, printed nothing, and said in one line that nothing was stored."""
    assert (done.returncode, done.stdout) == (0, b"")
    assert re.fullmatch(rb"waypost: the event was not stored: .+\n", done.stderr), done.stderr


def limited(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("taken", [0, 1, 100, 150, 4096, 9000])
def test_t07_e03_a_write_that_is_cut_short_is_told_and_leaves_nothing(state: Path, taken: int) -> None:
    """Where the system takes only some bytes, then none, the hook says so, and no part of the event stays."""
    assert is_acknowledged(hook(b"first", environment=given(state)))
    assert_refused(hook(b"x" * 10_000, environment=given(state), preexec_fn=limited(taken)))
    assert [entry.payload for entry in events(state / "spool")] == [b"first"]


def test_e01_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    """On a file system without room the hook says so, and a smaller event is stored afterwards."""
    if os.geteuid() != 0:
        pytest.skip("needs root for a file system of its own")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount")
    try:
        assert_refused(hook(b"x" * 100_000, environment=given(disk)))
        assert events(disk / "spool") == []
        assert is_acknowledged(hook(b"small", environment=given(disk)))
        assert [entry.payload for entry in events(disk / "spool")] == [b"small"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


CALLS = "openat,mkdirat,fchmodat,newfstatat,flock,pwrite64,fsync,fcntl"
Faulty = tuple[subprocess.CompletedProcess[bytes], str]


def with_faults(tmp_path: Path, fault: str, *, used: bool) -> Iterator[Faulty]:
    """A run of the script for each of its calls that are about the state, with a fault in that call."""
    for place in points(tmp_path, used=used):
        state = prepared(tmp_path, used=used)
        call, number = place.split()
        run = ["strace", "-qq", "-o", str(tmp_path / "trace"), "-e", f"trace={call}"]
        yield (
            subprocess.run(
                [*run, "-e", f"inject={call}:{fault}:when={number}", *command()],
                input=b"{}", capture_output=True, env=given(state), timeout=60,
            ),
            place,
        )  # fmt: skip
        assert "(INJECTED)" in (tmp_path / "trace").read_text() or "KILL" in fault, place


def prepared(tmp_path: Path, *, used: bool) -> Path:
    """A state directory; a used one has a spool, with an event that waits."""
    state = tmp_path / "state"
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir()
    if used:
        assert is_acknowledged(hook(b"before", environment=given(state)))
    return state


def points(tmp_path: Path, *, used: bool) -> list[str]:
    """The calls that are about the state: the name of each, and how many of that name the process had made by then."""
    state = prepared(tmp_path, used=used)
    trace, counts, found = tmp_path / "points", Counter[str](), list[str]()
    run = ["strace", "-y", "-qq", "-o", str(trace), "-e", f"trace={CALLS}"]
    done = subprocess.run([*run, *command()], input=b"{}", capture_output=True, env=given(state), timeout=60)
    assert is_acknowledged(done)
    for line in trace.read_text().splitlines():
        name = line.partition("(")[0]
        counts[name] += 1
        if str(state) in line:
            found.append(f"{name} {counts[name]}")
    assert len(found) >= 10, found
    return found


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_e01_whatever_call_is_refused_the_agent_goes_on(tmp_path: Path, used: bool, error: str, totals: Totals) -> None:
    """Each call of the script refused in turn: it ends with 0, prints nothing, and is silent only if it stored it."""
    tried = 0
    for done, place in with_faults(tmp_path, f"error={error}", used=used):
        assert (done.returncode, done.stdout) == (0, b""), (place, done)
        waits = b"{}" in [entry.payload for entry in whole(tmp_path / "state/spool")]
        assert waits if done.stderr == b"" else done.stderr.count(b"\n") == 1, (place, done)
        tried += 1
    totals("faults", tried)


@pytest.mark.parametrize("used", [False, True])
def test_t01_d24_a_hook_killed_at_any_call_leaves_an_event_or_nothing(
    tmp_path: Path, used: bool, totals: Totals
) -> None:
    """SIGKILL before each call: what waits is whole, or is set aside by whoever folds; what was there stays."""
    tried = 0
    for done, place in with_faults(tmp_path, "signal=KILL", used=used):
        assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), (place, done)
        store = make_store(tmp_path / "state")
        assert is_acknowledged(hook(b"after", environment=given(tmp_path / "state")))
        folded = fold(store)
        expected = ["before"] * used + ["{}"] * (folded.taken - used - 1) + ["after"]
        assert taken(store) == dict.fromkeys(expected, 1), place
        assert fold(store) == (0, 0, 0)
        store.close()
        tried += 1
    totals("kill points", tried)


def whole(folder: Path) -> list[Entry]:
    """The events that are whole, of those that wait."""
    found: list[Entry] = []
    for each in sorted(folder.glob("*.event")):
        with suppress(NotWhole):
            found.append(entries.read(each.stem, each.read_bytes()))
    return found


def test_e01_a_closed_standard_input_is_told(state: Path) -> None:
    """A hook that is given nothing to read says so."""
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *command()], capture_output=True, env=given(state), timeout=60
    )
    assert_refused(done)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_d24_a_signal_ends_the_wait_for_an_event(state: Path, number: signal.Signals) -> None:
    """A hook that is stopped while it reads ends with 0 and says that nothing was stored."""
    running = subprocess.Popen(
        command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=given(state)
    )
    deadline = time.monotonic() + 30
    while not handles(running.pid, number) and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(number)
    running.wait(30)
    assert running.stdin and running.stdout and running.stderr
    done = subprocess.CompletedProcess(running.args, running.returncode, running.stdout.read(), running.stderr.read())
    for each in (running.stdin, running.stdout, running.stderr):
        each.close()
    assert_refused(done)


def handles(pid: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal, and Python's start is over."""
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(int(row.split()[1], 16) for row in rows if row.startswith("SigCgt"))
    return all(caught >> (each - 1) & 1 for each in (number, signal.SIGTERM))


# --- what it asks of the kernel ---


def calls(tmp_path: Path, state: Path) -> list[str]:
    """The calls of a run that change or sync something, with the files that they are about."""
    trace = tmp_path / "trace"
    names = "pwrite64,write,fsync,fdatasync,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,ftruncate,flock"
    run = ["strace", "-f", "-y", "-qq", "-o", str(trace), "-e", f"trace={names},openat"]
    done = subprocess.run([*run, *command()], input=b"{}", capture_output=True, env=given(state), timeout=60)
    assert is_acknowledged(done)
    found: list[str] = []
    for line in trace.read_text().splitlines():
        if str(state) not in line or " = -1 ENOENT" in line:
            continue
        name = re.split(r"[ (]+", line)[1]
        if name == "openat" and "O_CREAT" not in line:
            continue
        about = (
            "event" if ".event" in line else "lock" if '"lock"' in line else "spool" if "/spool" in line else "state"
        )
        found.append(f"{name} {about}")
    return found


def test_t21_d24_the_calls_of_a_hook_are_exactly_these(tmp_path: Path, state: Path) -> None:
    """One write, one sync of the file, one of the spool; the first one of all makes the spool, and its name durable."""
    for _ in range(2):  # the first run writes the interpreter's cache
        hook(b"{}", environment=given(tmp_path))
    event = ["openat event", "flock event", "pwrite64 event", "fsync event", "fsync spool"]
    assert calls(tmp_path, state) == ["mkdirat state", "fsync state", "openat lock", *event]
    assert calls(tmp_path, state) == event


def test_d24_the_script_and_the_store_agree_on_names() -> None:
    """What the script makes is what the fold looks for."""
    name = script.new_name(clock.boot_id(), clock.monotonic_ns()) + script.SUFFIX
    assert (script.SUFFIX, script.LOCK) == (spooled.EVENT, spooled.LOCK)
    assert spooled.boot_of(name) == clock.boot_id()[:8]
    assert script.new_name("", 1).startswith("00000000-")
