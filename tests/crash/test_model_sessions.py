"""T10 over sessions: two processes that start, resume, take over, write, pause, end, recover and die, in any order, do
the same over a directory as over a dictionary.

Both have two handles on one store, each of a process of its own as far as anyone can see. A process that dies lets go
of its locks and of nothing else, and another one comes in its place.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.crash import machine as m
from tests.crash.runs import handle, open_store
from tests.crash.session_acts import HERE, check_sessions
from tests.crash.sweeps import standing_still, states_of
from tests.crash.test_model import run_machine
from tests.totals import Totals, ring_size
from waypost import clock
from waypost.blocking import Waypost
from waypost.errors import WaypostError
from waypost.operations import Failure
from waypost.queries import StateQueryResult
from waypost.session_models import SessionState
from waypost.store.memory import MemoryStore

PARTS = ring_size(1, 50)
STEPS_OF_A_PART = ring_size(800, 9_000)
FIRST_PID = 1 << 23
at = st.integers(0, 1)
sessions = st.sampled_from(["s", "S"])
workflows = st.sampled_from(["w", "x"])


def result_of(call: Callable[[Waypost], Any], wp: Waypost) -> Any:
    """What an operation gave, as far as it is told alike over each store."""
    try:
        result = call(wp)
    except WaypostError as error:
        return error.code
    finally:
        wp.definitions.session_id = None
    if isinstance(result, Failure):
        return result.error.code
    data = getattr(result, "data", result)
    if isinstance(data, list):
        return sorted((each.session_id, each.strategy, each.is_carried_out) for each in data)
    if isinstance(data, StateQueryResult):
        return [_shown(each) for each in data.items]
    return _shown(data) if isinstance(data, SessionState) else "done"


def _shown(state: Any) -> tuple[Any, ...]:
    seen = None if state.presence is None else state.presence.state
    lists = sorted(state.active_workflows), sorted(state.completed_workflows)
    return state.session_id, state.status, seen, lists, dict(state.environment), state.owner


class SessionMachine(RuleBasedStateMachine):
    """Two processes, twice: over a directory and over a dictionary."""

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.still = pytest.MonkeyPatch(), standing_still()
        self.still.__enter__()
        self.pids, self.last_pid, self.here = [FIRST_PID, FIRST_PID + 1], FIRST_PID + 1, 0
        start_ticks = clock.start_ticks
        self.patch.setattr(clock, "process_identity", lambda: HERE._replace(pid=self.pids[self.here], start=5))
        self.patch.setattr(clock, "start_ticks", lambda pid: 5 if pid in self.pids else start_ticks(pid))
        self.path = Path(tempfile.mkdtemp(prefix="waypost-model-", dir=m.SCRATCH)) / "store"
        self.memory = MemoryStore()
        self.models = [handle(self.memory, "chunked") for _ in range(2)]
        self.handles = [handle(open_store(self.path, "chunked"), "chunked") for _ in range(2)]
        for name in ("w", "x"):
            self.both(0, lambda wp, name=name: wp.create_workflow(name, name, None, ["a"]))

    @contextmanager
    def acting_as(self, number: int) -> Iterator[None]:
        self.here = number
        yield

    def both(self, number: int, call: Callable[[Waypost], Any]) -> None:
        SessionMachine.steps += 1
        with self.acting_as(number):
            found, expected = result_of(call, self.handles[number]), result_of(call, self.models[number])
            assert found == expected, (found, expected)
            held = [wp.definitions.sessions.held.held() for wp in (self.handles[number], self.models[number])]
            assert held[0] == held[1]

    @rule(at=at, session=sessions)
    def start(self, at: int, session: str) -> None:
        self.both(at, lambda wp: wp.start_session("user", {"by": at}, session_id=session))

    @rule(at=at, session=sessions, take_over=st.sampled_from([False, False, True]))
    def resume(self, at: int, session: str, take_over: bool) -> None:
        self.both(at, lambda wp: wp.resume_session(session, take_over=take_over))

    @rule(at=at, session=sessions)
    def pause(self, at: int, session: str) -> None:
        self.both(at, lambda wp: wp.pause_session(session))

    @rule(at=at, session=sessions, checkpoint=st.booleans(), sure=st.integers(0, 3))
    def end(self, at: int, session: str, checkpoint: bool, sure: int) -> None:
        if not sure:  # nothing follows it, so it comes seldom
            self.both(at, lambda wp: wp.end_session(session, checkpoint))

    @rule(at=at, session=sessions, value=st.integers(0, 2))
    def update(self, at: int, session: str, value: int) -> None:
        self.both(at, lambda wp: wp.update_session(session, environment={"v": value}))

    @rule(at=at, session=sessions, workflow=workflows, value=st.integers(0, 5))
    def write(self, at: int, session: str, workflow: str, value: int) -> None:
        self.both(at, lambda wp: wp.update_context(workflow, variables={"v": value}, session_id=session))

    @rule(at=at, session=sessions, workflow=workflows)
    def transact(self, at: int, session: str, workflow: str) -> None:
        def work(tx: Any) -> None:
            tx.update_context("w", variables={"t": 1})
            tx.update_context("x", variables={"t": workflow})

        self.both(at, lambda wp: wp.transact(work, session_id=session))

    @rule(at=at, dry_run=st.booleans())
    def recover(self, at: int, dry_run: bool) -> None:
        self.both(at, lambda wp: wp.detect_and_recover_crashed_sessions(dry_run=dry_run))

    @rule(at=at)
    def look(self, at: int) -> None:
        self.both(at, lambda wp: wp.list_sessions())

    @rule(at=at, session=sessions)
    def enter_anew(self, at: int, session: str) -> None:
        """A worker takes the number that there is by now."""
        self.both(at, lambda wp: wp.in_session(session) and None)

    @rule(at=at)
    def close(self, at: int) -> None:
        """A process ends as it should."""
        with self.acting_as(at):
            self.handles[at].definitions.sessions.close()
            self.models[at].definitions.sessions.close()
        self.crash(at)

    @rule(at=at)
    def crash(self, at: int) -> None:
        """A process dies: the kernel frees its locks, and the files stay."""
        store = self.handles[at].definitions.store
        store._claims.after_fork()  # type: ignore[attr-defined]
        store.close()
        for _, claim in list(self.models[at].definitions.sessions.held._claims.values()):
            claim.release()
        self.last_pid += 1
        self.pids[at] = self.last_pid
        self.handles[at] = handle(open_store(self.path, "chunked"), "chunked")
        self.models[at] = handle(self.memory, "chunked")

    def teardown(self) -> None:
        try:
            if hasattr(self, "handles"):
                check_sessions(self.memory)
                assert states_of(self.handles[0].definitions.store) == states_of(self.memory)
                for wp in self.handles:
                    wp.definitions.store.close()
                last = open_store(self.path, "chunked", read_only=True)
                assert states_of(last) == states_of(self.memory)
                assert [each for each in last.verify().findings if each.severity != "note"] == []
                last.close()
        finally:
            self.patch.undo()
            self.still.__exit__(None, None, None)
            shutil.rmtree(os.path.dirname(self.path), ignore_errors=True)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(PARTS))
def test_t10_sessions_are_the_same_over_memory_and_directory(part: int, totals: Totals) -> None:
    """Each operation gives the same, holds the same, and leaves the same documents, whoever died before."""
    totals("model steps", run_machine(SessionMachine, part, STEPS_OF_A_PART))
