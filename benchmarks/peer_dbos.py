"""DBOS on PostgreSQL as its documentation starts it: a workflow of steps whose outputs its system database records.

Compared is one durable step. A step here does nothing: what is timed is what DBOS does around it, to look whether it is
recorded and to record its output. DBOS appends the next step where the others change one that is there, so that it
costs the same in a long workflow as in a short one. Loading is listing the recorded steps; or replaying them, which
DBOS does before it goes on with a workflow.

Not compared is what DBOS has no counterpart of: a document that several processes write to. A workflow of it belongs to
one process at a time, and so each process has one of its own here, and in what it is measured beside.

Telemetry is off, as it is by default, and so is Conductor, a service that DBOS connects to when given its key.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from time import perf_counter_ns
from typing import Any

import psycopg
from dbos import DBOS, DBOSClient, SetWorkflowID

from waypost.bench import states, timing

NAME = "measured"
PATIENCE = 300
"""Seconds after which a workflow that does not answer is given up."""

Task = tuple[Callable[[], Any], Future[Any]]
"""What the workflow is to do, and where it leaves what came out."""

_tasks: SimpleQueue[Task | None] = SimpleQueue()
_replays: SimpleQueue[int] = SimpleQueue()


@DBOS.step()
def _step(output: dict[str, Any]) -> dict[str, Any]:
    return output


@DBOS.workflow()
def _measured(steps: int) -> None:
    """Have so many steps, then do what it is told to; a fork of it ends when it has replayed them."""
    made = states.make_steps(steps)
    started = perf_counter_ns()
    for step in made:
        _step(step)
    _replays.put(perf_counter_ns() - started)
    while not _is_fork() and (task := _tasks.get()) is not None:
        work, outcome = task
        try:
            outcome.set_result(work())
        except Exception as error:
            outcome.set_exception(error)


def _is_fork() -> bool:
    return not str(DBOS.workflow_id).startswith(NAME)


class Engine:
    """One running workflow. Its steps are made in the thread that DBOS runs it in."""

    def __init__(self) -> None:
        self._address: dict[str, str] = {}
        self._workflow = NAME
        self._steps = self._told = 0
        self._outputs = states.outputs()

    def open(self, path: str, schema: str, executor: str = "alone") -> str:
        """Start DBOS with its tables in a schema, and say how durable the server is.

        It goes on with unfinished workflows of an executor of the same name, so each process has a name of its own.
        """
        self._address = {"system_database_url": path, "dbos_system_schema": schema}
        self._workflow = f"{NAME}-{executor}"
        DBOS(config={"name": NAME, "executor_id": executor, "log_level": "WARNING", **self._address})
        DBOS.launch()
        with psycopg.connect(path) as connection:  # DBOS leaves both as the server has them
            return ", ".join(
                f"{name}={connection.execute(f'SHOW {name}').fetchone()[0]}" for name in ("fsync", "synchronous_commit")
            )

    def create(self, steps: int) -> None:
        """Start the workflow, and wait for its first steps."""
        with SetWorkflowID(self._workflow):
            DBOS.start_workflow(_measured, steps)
        _replays.get(timeout=PATIENCE)
        self._steps = self._told = steps

    # --- measuring ---

    def update(self, count: int) -> dict[str, Any]:
        """Durable steps, one after the other."""
        return self._let_do(partial(timing.repeat, count, self._once))

    def account(self, count: int, dry: bool = False) -> None:
        self.update(0 if dry else count)

    def rate(self, start: float, seconds: float) -> dict[str, Any]:
        """Steps from a moment of the monotonic clock on, for so long."""
        return self._let_do(partial(timing.within, start, seconds, self._once))

    def load(self, cold: bool, count: int) -> dict[str, Any]:
        """List the recorded steps and touch one; cold with a client that is made for it, without starting DBOS."""
        return timing.repeat(count, self._look_from_outside if cold else partial(timing.lasting, self._look))

    def replay(self, count: int) -> dict[str, Any]:
        """Replay the workflow's first steps in a fork of it.

        The copy that forking makes, and the wait until DBOS looks into its queue, are not counted.
        """
        return timing.repeat(count, self._replay)

    def audit(self) -> dict[str, int]:
        """The steps that this process was told are recorded, and those that are."""
        return {"told": self._told, "found": len(DBOS.list_workflow_steps(self._workflow, load_output=False))}

    def close(self) -> None:
        if self._steps:
            _tasks.put(None)
            DBOS.retrieve_workflow(self._workflow).get_result()
        DBOS.destroy()

    # --- inside ---

    def _let_do(self, work: Callable[[], Any]) -> Any:
        outcome: Future[Any] = Future()
        _tasks.put((work, outcome))
        return outcome.result(timeout=PATIENCE)

    def _once(self) -> int:
        taken = timing.lasting(partial(_step, next(self._outputs)))
        self._told += 1
        return taken

    def _replay(self) -> int:
        fork = DBOS.fork_workflow(self._workflow, self._steps + 1)
        taken = _replays.get(timeout=PATIENCE)
        fork.get_result()
        return taken

    def _look(self) -> None:
        _touch(DBOS.list_workflow_steps(self._workflow))

    def _look_from_outside(self) -> int:
        started = perf_counter_ns()
        client = DBOSClient(**self._address)
        _touch(client.list_workflow_steps(self._workflow))
        taken = perf_counter_ns() - started
        client.destroy()
        return taken


def _touch(steps: list[Any]) -> None:
    if steps[5]["output"]["output"] is None:
        raise AssertionError("a step has lost its output")
