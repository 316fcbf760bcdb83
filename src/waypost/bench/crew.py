"""The measuring side of the workers: start them, tell them what to do, wait for what they answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, ClassVar, Self

from waypost.bench.turns import Turn

HEAD_START = 0.05
"""Seconds from the command to the moment at which all workers begin."""


class WorkerFailed(Exception):
    """A worker has met an error, or is gone."""


class Worker:
    """One process with one engine."""

    def __init__(self, engine: str, command: Sequence[str], folder: str, hidden: tuple[str, ...]) -> None:
        # options of the person who measures must not change what is measured
        environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        self._engine = engine
        self._process = subprocess.Popen(
            [*command, engine],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # an interrupt is for us; the workers end when their input does
        )

    def send(self, do: str, **arguments: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerFailed(f"the worker for {self._engine!r} has ended") from None

    def receive(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerFailed(f"the worker for {self._engine!r} has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerFailed(f"the worker for {self._engine!r}:\n{answer['error']}")
        return answer["result"]

    def ask(self, do: str, **arguments: Any) -> Any:
        self.send(do, **arguments)
        return self.receive()

    def turn(self, do: str, **arguments: Any) -> Turn:
        """Let it measure something."""
        return Turn.of([self.ask(do, **arguments)])

    def close(self) -> None:
        """Let it close its engine and end."""
        self._process.communicate()

    def kill(self) -> None:
        """End it, if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


class Crew:
    """Workers that belong to one row; use it in a `with` block."""

    module: ClassVar = "waypost.bench.worker"
    folder: ClassVar = "/"
    """Where the workers are started: not where the person who measures is, whose options stand in files there."""
    flags: ClassVar = ("-P",)
    hidden: ClassVar = ("WAYPOST_",)
    """How the names of the variables begin that the engines take options from."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []

    def hire(self, engine: str, count: int = 1, through: tuple[str, ...] = ()) -> list[Worker]:
        """Start processes. `through` is a command that they are started by, such as strace."""
        command = (*through, sys.executable, *self.flags, "-m", self.module)
        hired: list[Worker] = []
        for _ in range(count):
            hired.append(Worker(engine, command, self.folder, self.hidden))
            self.workers.append(hired[-1])
        return hired

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            for worker in self.workers:
                if error is None:
                    worker.close()
        finally:
            # whoever is still there, since something went wrong or somebody does not want to wait
            for worker in self.workers:
                worker.kill()


def ask_all(workers: list[Worker], do: str, each: list[dict[str, Any]]) -> list[Any]:
    """Give each worker the command with its own arguments, all at once, and wait for all."""
    for worker, arguments in zip(workers, each, strict=True):
        worker.send(do, **arguments)
    return [worker.receive() for worker in workers]


def turn_of_all(workers: list[Worker], do: str, seconds: float) -> Turn:
    """Let all measure a rate in the same window of time."""
    # the monotonic clock is one for all processes of a machine
    window = {"start": time.monotonic() + HEAD_START, "seconds": seconds}
    return Turn.of(ask_all(workers, do, [window] * len(workers)))
