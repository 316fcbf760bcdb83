"""A command as a process group of its own, which cannot begin before it is recorded and does not outlive its runner.

1. `Process(...)` starts a shell that waits at a gate; its process id is known, and nothing of the command has run.
2. The runner records that id with the step, tells the guard of it, and opens the gate; the shell becomes the command.
3. A runner that dies before that leaves a shell that reads the end of its input and goes. One that dies later leaves
   a guard that ends the group, and a record by which the next runner waits until nothing of the group is left.

So at no moment can a command run of which nobody knows, or run twice beside itself. Out of reach is only what leaves
its process group on purpose (`setsid`, a daemon, a container).
"""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import IO, Any, Literal, NamedTuple, cast

from waypost import clock
from waypost.cli import guard
from waypost.cli.guard import GRACE_S, signal_group
from waypost.cli.plan import Command
from waypost.errors import StepBusy
from waypost.models import WorkflowStep
from waypost.redaction import REDACTED

TAIL_BYTES = 64 * 1024
"""How much of the end of each output stream is kept."""

_GATE = 'read -r waypost_gate && exec "$@" </dev/null; exit 125'
_GATE_IN_PYTHON = """
import os, signal, sys
if os.read(0, 3) != b"go\\n":
    sys.exit(125)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
for number in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(number, signal.SIG_DFL)  # Python has them ignored
try:
    os.environ["PWD"] = os.getcwd()  # as a shell does
    os.execvp(sys.argv[1], sys.argv[1:])
except OSError as error:
    sys.stderr.write(f"{sys.argv[1]}: {error.strerror}\\n")
    sys.exit(127 if isinstance(error, FileNotFoundError) else 126)
"""
_KEPT_BY_A_SHELL = re.compile(r"(?!(IFS|OPTIND|PPID|waypost_gate)$)[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
"""The names of variables that a shell hands on as they are: others it leaves out, or sets for itself."""
_LINGER_S = 0.3
_LOOK_EVERY_S = 0.05
_PATIENCE_S = GRACE_S + 2
"""How long a dead runner's guard is given to end a command."""

Reason = Literal["timeout", "interrupted", "not started"]


class Ended(NamedTuple):
    """How a command ended. `exit_code` is negative for a signal, None where it could not be started."""

    exit_code: int | None
    stdout: str
    stderr: str
    duration_ms: float
    reason: Reason | None = None

    @property
    def succeeded(self) -> bool:
        return self.exit_code == 0 and self.reason is None

    def as_output(self) -> dict[str, Any]:
        return {
            "exit_code": self.exit_code,
            "stdout": self.stdout,
            "stderr": self.stderr,
            "duration_ms": round(self.duration_ms, 3),
        }

    def error(self, command: Command) -> str:
        """Why it failed, in a few words."""
        if self.reason == "timeout":
            return f"timed out after {command.timeout:g} s"
        if self.reason == "interrupted":
            return "interrupted"
        if self.exit_code is None:
            return f"could not be started: {self.stderr}"
        return f"exit status {self.exit_code}" if self.exit_code >= 0 else f"ended by {_signal_name(-self.exit_code)}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# --- output ---


class _Tail:
    """The end of a stream."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0

    def add(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        while self._size - len(self._chunks[0]) >= TAIL_BYTES:
            self._size -= len(self._chunks.popleft())

    def text(self) -> str:
        return b"".join(self._chunks)[-TAIL_BYTES:].decode("utf-8", "replace")


class _Collector(threading.Thread):
    """Reads both streams of a command, until they end or nobody cares any more."""

    def __init__(self, streams: list[IO[bytes]]) -> None:
        super().__init__(name="waypost-output", daemon=True)
        self._streams = streams
        self._enough = threading.Event()
        self.tails = [_Tail() for _ in streams]

    def run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for stream, tail in zip(self._streams, self.tails, strict=True):
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ, tail)
            while selector.get_map() and not self._enough.is_set():
                for key, _ in selector.select(_LOOK_EVERY_S):
                    data = os.read(key.fd, 1 << 16)
                    if data:
                        key.data.add(data)
                    else:
                        selector.unregister(key.fileobj)
        for stream in self._streams:
            stream.close()

    def finish(self) -> list[str]:
        """What was read. A process that the command left behind may hold a stream open, and is not waited for."""
        self.join(_LINGER_S)
        self._enough.set()
        self.join()
        return [tail.text() for tail in self.tails]


# --- a command ---


def _gate(environment: Mapping[str, str]) -> list[str]:
    """What becomes the command once it may: the shell, which is there in no time, unless it would lose a variable."""
    if all(map(_KEPT_BY_A_SHELL.fullmatch, environment)):
        return ["/bin/sh", "-c", _GATE, "waypost-step"]
    return [sys.executable, "-I", "-S", "-c", _GATE_IN_PYTHON]


class Process:
    """A command that waits at the gate until `go`. Raises OSError when it cannot be started at all."""

    def __init__(self, command: Command, environment: Mapping[str, str]) -> None:
        environment = {**environment, **command.env}
        self._popen = subprocess.Popen(
            [*_gate(environment), *command.argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=command.cwd,
            env=environment,
            start_new_session=True,
        )
        self.pid = self._popen.pid
        assert self._popen.stdin and self._popen.stdout and self._popen.stderr
        self._gate = self._popen.stdin
        self._collector = _Collector([self._popen.stdout, self._popen.stderr])
        self._collector.start()
        self._reason: Reason | None = None
        self._started_ns = 0

    def record(self) -> dict[str, Any]:
        """What the next runner needs to know of this process, should this one die."""
        return {"process_group": self.pid, "start_ticks": clock.start_ticks(self.pid) or 0}

    def go(self) -> None:
        """Open the gate."""
        self._started_ns = clock.monotonic_ns()
        try:
            self._gate.write(b"go\n")
            self._gate.close()
        except BrokenPipeError:
            pass  # it was killed at the gate; `wait` tells

    def discard(self) -> None:
        """Send it away from the gate: it is not to run."""
        self._gate.close()
        self._popen.wait()
        self._collector.finish()

    def wait(self, timeout: float | None) -> Ended:
        """Wait until the command has ended, at most for its timeout. What failed takes its whole group along."""
        try:
            code = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self._reason = "timeout"
            code = self._end()
        duration_ms = (clock.monotonic_ns() - self._started_ns) / 1e6
        if code or self._reason is not None:
            signal_group(self.pid, signal.SIGKILL)
        stdout, stderr = self._collector.finish()
        return Ended(code, stdout, stderr, duration_ms, self._reason)

    def _end(self) -> int:
        signal_group(self.pid, signal.SIGTERM)
        try:
            return self._popen.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            signal_group(self.pid, signal.SIGKILL)
            return self._popen.wait()

    def interrupt(self, number: int) -> None:
        """Send a signal to the group, because the run is to stop. A command that has ended by itself has done so, and
        what it left behind, which may still hold its output open, is none of this.
        """
        if self._popen.poll() is not None:
            return
        self._reason = "interrupted"
        signal_group(self.pid, number)


class Guard:
    """The process that ends the commands of this one when this one dies; see `guard`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._popen = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, str(GRACE_S)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            start_new_session=True,
        )

    def watch(self, group: int) -> None:
        with self._lock:
            self._groups.add(group)
            self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        with self._lock:
            self._groups.discard(group)
            self._tell(f"-{group}\n")

    def _tell(self, line: str) -> None:
        try:
            self._write(line)
        except BrokenPipeError:
            # somebody killed it: a new one is told of all that is at work
            self.close()
            self._popen = self._start()
            self._write("".join(f"+{group}\n" for group in self._groups))

    def _write(self, text: str) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.write(text.encode())

    def close(self) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        self._popen.wait()


# --- what a dead runner left behind ---


class _Seen(NamedTuple):
    """A process as the system shows it."""

    is_there: bool
    group: int


def _look_at(pid: int) -> _Seen:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return _Seen(False, 0)
    return _Seen(fields[0] not in (b"Z", b"X"), int(fields[2]))


def _has_members(group: int) -> bool:
    """Whether a living process is in the group; one that has ended and that nobody waited for is not alive."""
    if not signal_group(group, 0):
        return False
    if not os.path.isdir("/proc/self"):
        return True
    seen = (_look_at(int(name)) for name in os.listdir("/proc") if name.isdecimal())
    return any(process.is_there and process.group == group for process in seen)


def await_end_of_earlier(step: WorkflowStep) -> None:
    """Wait until nothing is left of the command that a dead runner left at work on a step.

    Its guard ends it. Where that is gone too, the group is killed here, if its first process is provably the one on
    record; else StepBusy is raised, since killing what may be somebody else's is worse than asking. Where the record is
    redacted, its guard is given the time that it takes.
    """
    found = _recorded(step)
    if found is None:
        if _is_redacted(step):
            time.sleep(_PATIENCE_S)
        return
    group, identity = found
    if _is_gone(group, _PATIENCE_S):
        return
    # alive is also what cannot be seen, which proves nothing
    if clock.liveness(identity) == "alive" and clock.start_ticks(group) == identity.start != 0:
        signal_group(group, signal.SIGKILL)
        if _is_gone(group, _PATIENCE_S + GRACE_S):
            return
    raise StepBusy(
        f"step {step.id!r}: the runner is dead, but processes of its group {group} are not; "
        f"when they are not needed: kill -9 -- -{group}, and run again",
        step_id=step.id,
        process_group=group,
    )


def _recorded(step: WorkflowStep) -> tuple[int, clock.ProcessIdentity] | None:
    """The process group of the attempt that is on record, if it may still be there."""
    owner, output = step.owner, step.output
    if owner is None or owner.boot != clock.boot_id() or not isinstance(output, dict):
        return None
    record = cast("dict[str, object]", output)
    group, start = record.get("process_group"), record.get("start_ticks")
    if not isinstance(group, int) or not isinstance(start, int) or group < 2:
        return None
    return group, owner.identity._replace(pid=group, start=start)


def _is_redacted(step: WorkflowStep) -> bool:
    """Whether there was an attempt in this boot whose process group was not to be written."""
    owner, output = step.owner, step.output
    record = cast("dict[str, object]", output) if isinstance(output, dict) else {"process_group": output}
    is_of_this_boot = owner is not None and owner.boot == clock.boot_id()
    return is_of_this_boot and REDACTED in (record.get("process_group"), record.get("start_ticks"))


def _is_gone(group: int, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while _has_members(group):
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_EVERY_S)
    return True
