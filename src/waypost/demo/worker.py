"""The process that the demo kills: agents that survey the standard library, each step recorded in a store.

    python -m waypost.demo.worker STORE JOURNAL

It knows nothing of being killed or resumed: it does what is not finished yet. The journal lies outside the store,
and gets one line when a step is begun and one when it is done, so that the demo can count what really ran.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any

from waypost import blocking
from waypost.blocking import Waypost
from waypost.config import PRESETS
from waypost.demo import work
from waypost.errors import SessionNotFound
from waypost.models import WorkflowStep
from waypost.operations import OperationResult


class Journal:
    """A file that lines are only ever added to, each by one write."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, event: str, step: WorkflowStep, **more: Any) -> None:
        entry = {"event": event, "step": step.id, "agent": step.agent_id, "pid": os.getpid(), "at": time.time(), **more}
        os.write(self._descriptor, (json.dumps(entry) + "\n").encode())


class Board:
    """Which steps are finished; agents wait here for what their next step needs."""

    def __init__(self, finished: Iterable[str]) -> None:
        self._finished = set(finished)
        self._changed = threading.Condition()
        self.error: BaseException | None = None

    def is_finished(self, step_id: str) -> bool:
        return step_id in self._finished

    def put(self, step_id: str) -> None:
        with self._changed:
            self._finished.add(step_id)
            self._changed.notify_all()

    def give_up(self, error: BaseException) -> None:
        with self._changed:
            self.error = self.error or error
            self._changed.notify_all()

    def wait_for(self, needs: Iterable[str]) -> bool:
        """Wait until all of these are finished; False when another agent has failed."""
        needs = set(needs)
        with self._changed:
            self._changed.wait_for(lambda: self.error is not None or needs <= self._finished)
            return self.error is None


class Agent(threading.Thread):
    """Does its own steps in order, each as soon as what it needs is finished."""

    def __init__(
        self, name: str, wp: Waypost, steps: list[WorkflowStep], board: Board, desk: work.Desk, journal: Journal
    ):
        super().__init__(name=name)
        self._wp = wp
        self._steps = steps
        self._board = board
        self._desk = desk
        self._journal = journal
        self._took_ms: list[float] = []

    def run(self) -> None:
        try:
            for step in self._steps:
                if not self._board.is_finished(step.id):
                    if not self._board.wait_for(step.dependencies):
                        return
                    self._do(step)
            self._sign_off()
        except BaseException as error:
            self._board.give_up(error)

    def _sign_off(self) -> None:
        """Say what was done, over all runs."""
        performance: dict[str, Any] = {"tasks_completed": len(self._steps)}
        if self._took_ms:
            performance["average_execution_time_ms"] = sum(self._took_ms) / len(self._took_ms)
        change = {"status": "idle", "performance": performance}
        self._wp.update_agent_state(work.WORKFLOW, self.name, change).unwrap()

    def _do(self, step: WorkflowStep) -> None:
        began = self._wp.update_step_status(work.WORKFLOW, step.id, "running", agent_id=self.name)
        began.unwrap()
        self._journal.add("begin", step)
        started_ns = time.perf_counter_ns()
        output = self._desk.do(step.id)
        self._took_ms.append((time.perf_counter_ns() - started_ns) / 1e6)
        ended = self._wp.update_step_status(work.WORKFLOW, step.id, "completed", output, agent_id=self.name)
        ended.unwrap()
        self._board.put(step.id)
        self._journal.add("end", step, updates=[_cost(began), _cost(ended)])


def _cost(result: OperationResult[Any]) -> dict[str, Any]:
    used = result.performance
    return {"ms": result.duration_ms, "bytes": used.bytes_written, "syncs": used.syncs}


def main(location: str, journal_path: str) -> None:
    sources = work.find_sources()
    journal = Journal(journal_path)
    with blocking.open(location, config=PRESETS["production"]) as wp:
        enter_session(wp)
        steps = work.steps(sources)
        wp.create_workflow(work.WORKFLOW, work.NAME, steps=steps, if_exists="open").unwrap()
        state = wp.load_workflow_state(work.WORKFLOW).unwrap()
        board = Board(step.id for step in state.workflow.steps if step.is_finished)
        desk = work.Desk(sources, lambda step_id: wp.get_step_output(work.WORKFLOW, step_id).output)
        agents = [
            Agent(name, wp, [step for step in steps if step.agent_id == name], board, desk, journal)
            for name in work.AGENTS
        ]
        for agent in agents:
            wp.update_agent_state(work.WORKFLOW, agent.name, {"status": "active"}).unwrap()
            agent.start()
        for agent in agents:
            agent.join()
        if board.error is not None:
            raise board.error
        wp.end_session(work.SESSION).unwrap()


def enter_session(wp: Waypost) -> None:
    """Start the survey's session, or take it up where whoever had it died."""
    try:
        wp.resume_session(work.SESSION)
    except SessionNotFound:
        wp.start_session("librarian", session_id=work.SESSION)


if __name__ == "__main__":
    main(*sys.argv[1:])
