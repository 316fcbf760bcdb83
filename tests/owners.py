"""Processes that own sessions, to be stopped, killed and watched: each does what it is told, a line at a time."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_SCRIPT = """
import sys
import waypost
config = {"reliability": {"sync_frequency": int(sys.argv[2])}}
wp = waypost.open(sys.argv[1], config=config)
for line in sys.stdin:
    try:
        print(repr(eval(line)), flush=True)
    except waypost.WaypostError as error:
        print(error.code, flush=True)
"""


class Owner:
    """A process with an open handle `wp`."""

    def __init__(self, path: Path, *, beat_ms: int, before: Sequence[str]) -> None:
        command = [*before, sys.executable, "-c", _SCRIPT, str(path), str(beat_ms)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, expression: str) -> None:
        """Have it evaluate an expression, and do not wait."""
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        """What came of the last one: its representation, or the code of an error."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def ask(self, expression: str) -> str:
        self.tell(expression)
        return self.answer()

    def start_session(self, workflow_id: str = "w") -> str:
        """Have it start a session with a workflow of four steps: one done, one running, two not begun; its id."""
        session_id: str = self.ask("wp.start_session('owner').session_id").strip("'")
        self.ask(f"wp.create_workflow({workflow_id!r}, 'W', steps=['a', 'b', 'c', 'd']).unwrap() and None")
        self.ask(f"wp.update_step_status({workflow_id!r}, 'a', 'completed', 1).unwrap() and None")
        assert self.ask(f"wp.update_step_status({workflow_id!r}, 'b', 'running').unwrap() and None") == "None"
        return session_id

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def owner(path: Path, *, beat_ms: int = 10_000, before: Sequence[str] = ()) -> Iterator[Owner]:
    """A process for the block; killed at its end if it is there still. `before` are words before its command."""
    made = Owner(path, beat_ms=beat_ms, before=before)
    try:
        yield made
    finally:
        made.wake()
        made.kill()
        for pipe in (made.process.stdin, made.process.stdout):
            if pipe is not None:
                pipe.close()
