"""Doing the commands of a run file: in parallel where they allow it, each finished one once, whatever is killed.

The main thread hands out steps and waits; each step is done in a thread of a pool, from its record as running to its
record as ended. Signals and ended steps arrive in one inbox.

Invariants:

* A command runs only after its step is recorded as running, and its dependents only after it is recorded as ended.
* A step that is finished in the store is never run; one that another process works on is waited for.
* After a signal nothing new starts; commands under way are ended, and their steps are pending again.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Literal, NamedTuple, Protocol

from waypost import clock
from waypost.blocking import Waypost
from waypost.cli.guard import GRACE_S
from waypost.cli.overview import FILE_KEY
from waypost.cli.plan import Command, Plan
from waypost.cli.process import Ended, Guard, Process, await_end_of_earlier
from waypost.errors import (
    DependencyUnfinished,
    IllegalTransition,
    RetriesExhausted,
    StepBusy,
    VersionConflict,
    WorkflowPaused,
)
from waypost.frontier import Frontier
from waypost.models import WorkflowState, WorkflowStep

_LOOK_EVERY_S = 0.3
"""How often the workflow is read again while others work on it."""

_TRIES = 20

Result = Literal["completed", "failed", "interrupted", "taken", "blocked"]


class Reporter(Protocol):
    """Whoever is told how a run goes. Called from several threads."""

    def prepared(self, run: Prepared) -> None: ...
    def started(self, step_id: str) -> None: ...
    def retrying(self, step_id: str, error: str, retry: int, of: int) -> None: ...
    def ended(self, done: Done) -> None: ...
    def waiting(self, steps: Mapping[str, WorkflowStep]) -> None: ...
    def stopping(self, commands: int) -> None: ...


@dataclass
class Prepared:
    """What a run begins with: ids of steps of each kind."""

    workflow: str
    total: int
    finished: list[str] = field(default_factory=list[str])
    taken_over: list[str] = field(default_factory=list[str])
    again: list[str] = field(default_factory=list[str])
    added: list[str] = field(default_factory=list[str])
    changed: list[str] = field(default_factory=list[str])
    missing: list[str] = field(default_factory=list[str])


class Done(NamedTuple):
    """What became of a step. `error` is an exception where it is the run that cannot go on."""

    step_id: str
    result: Result
    ended: Ended | None = None
    reason: str = ""
    attempts: int = 0
    error: BaseException | None = None


@dataclass
class Summary:
    """What became of a run. `done` has the steps that were done now; `signal` is what stopped it, or 0."""

    prepared: Prepared
    done: dict[str, Done]
    statuses: dict[str, str]
    duration_ms: float
    signal: int

    @property
    def failed(self) -> bool:
        return any(status not in ("completed", "skipped") for status in self.statuses.values())


class Engine:
    """One run of a plan."""

    def __init__(self, wp: Waypost, plan: Plan, jobs: int, reporter: Reporter, location: str) -> None:
        self._wp = wp
        self._plan = plan
        self._jobs = jobs
        self._reporter = reporter
        self._environment = {**os.environ, "WAYPOST_STATE": location}
        self._inbox: SimpleQueue[Done | int] = SimpleQueue()
        self._frontier = Frontier()
        self._active: set[str] = set()
        self._done: dict[str, Done] = {}
        self._lock = threading.Lock()
        self._processes: dict[str, Process] = {}
        self._signal = 0
        self._kill_at = float("inf")
        self._error: BaseException | None = None

    def run(self) -> Summary:
        """Do all that can be done. Raises what kept the store from going on."""
        started_ns = clock.monotonic_ns()
        prepared = self._prepare()
        self._reporter.prepared(prepared)
        with self._guarded(), self._listening(), ThreadPoolExecutor(self._jobs, "waypost-step") as pool:
            self._work(pool)
        if self._error is not None:
            raise self._error
        statuses = {name: step.status for name, step in self._read().items()}
        duration_ms = (clock.monotonic_ns() - started_ns) / 1e6
        return Summary(prepared, self._done, {**statuses}, duration_ms, self._signal)

    # --- before ---

    def _prepare(self) -> Prepared:
        """Bring the workflow and the file together."""
        plan, steps = self._plan, [command.as_step() for command in self._plan.commands.values()]
        known = self._known()
        with self._wp.run(plan.workflow, steps, name=plan.name) as run:
            missing = run.missing
        state = self._wp.load_workflow_state(plan.workflow).unwrap()
        if state.context.configuration.get(FILE_KEY) != plan.file:
            self._wp.update_context(plan.workflow, configuration={FILE_KEY: plan.file}).unwrap()
        prepared = Prepared(plan.workflow, len(steps), missing=missing)
        prepared.added = [step.id for step in steps if known and step.id not in known]
        prepared.changed = self._update_definitions()
        for name, step in self._read().items():
            if step.is_finished:
                prepared.finished.append(name)
            elif step.status == "failed" and step.retry_count >= step.max_retries:
                # whoever starts a run again wants what failed to be tried again
                self._wp.reset_step(plan.workflow, name).unwrap()
                prepared.again.append(name)
            elif step.status == "running" and _is_free(step):
                prepared.taken_over.append(name)
        return prepared

    def _known(self) -> set[str]:
        """The steps that were there before."""
        loaded = self._wp.load_workflow_state(self._plan.workflow)
        return {step.id for step in loaded.data.workflow.steps} if loaded else set()

    def _update_definitions(self) -> list[str]:
        """Give unfinished steps the needs, retries and agents that the file has now."""
        for _ in range(_TRIES):
            state = self._wp.load_workflow_state(self._plan.workflow).unwrap()
            changed = [name for name, command in self._plan.commands.items() if _redefine(state, command)]
            saved = self._wp.save_workflow_state(state) if changed else None
            if saved is None or saved:
                return changed
            if not isinstance(saved.error, VersionConflict):
                saved.unwrap()
        raise VersionConflict(f"workflow {self._plan.workflow!r} changes too often for its steps to be redefined")

    def _read(self) -> dict[str, WorkflowStep]:
        """The steps of the plan as they are now, in the order of the workflow."""
        state = self._wp.load_workflow_state(self._plan.workflow).unwrap()
        return {step.id: step for step in state.workflow.steps if step.id in self._plan.commands}

    # --- the main thread ---

    def _work(self, pool: ThreadPoolExecutor) -> None:
        self._learn()
        try:
            while True:
                self._hand_out(pool)
                if not self._active and (self._is_stopping() or not self._frontier.elsewhere):
                    return
                self._take_event()
        except BaseException:
            self._end_processes(signal.SIGKILL)
            raise

    def _is_stopping(self) -> bool:
        """Whether nothing new starts."""
        return bool(self._signal) or self._error is not None

    def _is_ending(self) -> bool:
        """Whether what is under way is to end, too. In a workflow that is paused it may finish."""
        return bool(self._signal) or not isinstance(self._error, WorkflowPaused | None)

    def _learn(self) -> None:
        self._frontier.learn(list(self._read().values()), (), _is_free)
        if self._frontier.elsewhere and not self._active:
            self._reporter.waiting(self._frontier.elsewhere)

    def _hand_out(self, pool: ThreadPoolExecutor) -> None:
        while len(self._active) < self._jobs and not self._is_stopping():
            name = self._frontier.take(self._active)
            if name is None:
                return
            self._active.add(name)
            pool.submit(self._do, self._plan.commands[name])

    def _take_event(self) -> None:
        try:
            event = self._inbox.get(timeout=self._patience())
        except Empty:
            if time.monotonic() >= self._kill_at:
                self._kill_at = time.monotonic() + GRACE_S  # again, should one have begun just now
                self._end_processes(signal.SIGKILL)
            elif not self._is_stopping():
                self._learn()
            return
        if isinstance(event, Done):
            self._settle(event)
        else:
            self._stop(event)

    def _patience(self) -> float | None:
        if self._is_stopping():
            left = self._kill_at - time.monotonic()
            return None if left == float("inf") else max(0.0, left)
        return _LOOK_EVERY_S if self._frontier.elsewhere else None

    def _settle(self, done: Done) -> None:
        self._active.discard(done.step_id)
        if done.error is not None:
            if self._error is None or isinstance(self._error, WorkflowPaused):
                self._error = done.error
            if self._is_ending():
                self._begin_to_end()
        elif done.result == "taken":
            self._frontier.offered.discard(done.step_id)
            self._learn()
        else:
            self._done[done.step_id] = done
            self._reporter.ended(done)
            if done.result == "completed":
                self._frontier.finished(done.step_id)

    def _stop(self, number: int) -> None:
        """The first signal asks what is under way to end, the next one does not ask."""
        if self._signal:
            self._end_processes(signal.SIGKILL)
        else:
            self._signal = number
            self._reporter.stopping(len(self._active))
            self._begin_to_end()

    def _begin_to_end(self) -> None:
        self._kill_at = time.monotonic() + GRACE_S
        self._end_processes(signal.SIGTERM)

    def _end_processes(self, number: int) -> None:
        with self._lock:
            processes = list(self._processes.values())
        for process in processes:
            process.interrupt(number)

    @contextmanager
    def _listening(self) -> Generator[None]:
        """Bring signals to the inbox, which a handler may put into at any moment."""
        # nohup, and the & of a shell, have a run ignore what the terminal sends
        sent_by_terminal = (signal.SIGINT, signal.SIGHUP)
        numbers = [each for each in sent_by_terminal if signal.getsignal(each) != signal.SIG_IGN] + [signal.SIGTERM]
        before = [signal.signal(number, lambda number, _: self._inbox.put(number)) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    @contextmanager
    def _guarded(self) -> Generator[None]:
        self._guard = Guard()
        try:
            yield
        finally:
            self._guard.close()

    # --- the thread of a step ---

    def _do(self, command: Command) -> None:
        try:
            done = self._attempts(command)
        except (StepBusy, DependencyUnfinished, IllegalTransition, RetriesExhausted):
            # another process was faster, or made a step pending again: what is so now is read anew
            done = Done(command.id, "taken")
        except BaseException as error:
            done = Done(command.id, "failed", error=error)
        self._inbox.put(done)

    def _attempts(self, command: Command) -> Done:
        """Run a command until it succeeds, or has failed as often as it may."""
        # since it was handed out another run may have begun it, and died
        step = self._wp.load_workflow_state(self._plan.workflow).unwrap().step(command.id)
        if step.status == "running" and _is_free(step):
            try:
                await_end_of_earlier(step)
            except StepBusy as error:
                return Done(command.id, "blocked", reason=str(error))
        self._reporter.started(command.id)
        attempts = 0
        while True:
            if self._is_stopping():
                return Done(command.id, "interrupted", attempts=attempts)
            attempts += 1
            ended, recorded = self._attempt(command)
            if ended.succeeded:
                return Done(command.id, "completed", ended, "", attempts)
            reason = ended.error(command)
            if ended.reason == "interrupted" or self._is_stopping():
                return self._give_back(command, ended, reason, attempts)
            if recorded.retry_count >= recorded.max_retries:
                return Done(command.id, "failed", ended, reason, attempts)
            self._reporter.retrying(command.id, reason, recorded.retry_count + 1, recorded.max_retries)

    def _give_back(self, command: Command, ended: Ended, reason: str, attempts: int) -> Done:
        """A run that was stopped leaves the steps it was at pending, for the next one to begin anew."""
        if ended.reason != "interrupted":
            return Done(command.id, "failed", ended, reason, attempts)
        self._wp.reset_step(self._plan.workflow, command.id).unwrap()
        return Done(command.id, "interrupted", ended, reason, attempts)

    def _attempt(self, command: Command) -> tuple[Ended, WorkflowStep]:
        try:
            process = Process(command, self._environment)
        except (OSError, ValueError) as error:
            self._update(command, "running", {})
            ended = Ended(None, "", _explain(error), 0.0, "not started")
        else:
            ended = self._run(command, process)
        if ended.succeeded:
            return ended, self._update(command, "completed", ended.as_output())
        return ended, self._update(command, "failed", ended.as_output(), ended.error(command))

    def _run(self, command: Command, process: Process) -> Ended:
        try:
            self._update(command, "running", process.record())
        except BaseException:
            process.discard()
            raise
        self._guard.watch(process.pid)
        with self._lock:
            self._processes[command.id] = process
        process.go()
        if self._is_ending():
            process.interrupt(signal.SIGTERM)
        ended = process.wait(command.timeout)
        with self._lock:
            del self._processes[command.id]
        self._guard.forget(process.pid)
        return ended

    def _update(self, command: Command, status: Any, output: Any, error: str | None = None) -> WorkflowStep:
        return self._wp.update_step_status(
            self._plan.workflow, command.id, status, output, error, agent_id=command.agent
        ).unwrap()


def _explain(error: OSError | ValueError) -> str:
    """Why a command could not be started."""
    return f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else str(error)


def _is_free(step: WorkflowStep) -> bool:
    """Whether a step that is recorded as running may be taken over."""
    return step.owner is None or clock.liveness(step.owner.identity) == "dead"


def _redefine(state: WorkflowState, command: Command) -> bool:
    """Give a step what the file says of it now; whether that changed anything."""
    step, wanted = state.step(command.id), command.as_step()
    if step.is_finished:
        return False
    now = (step.dependencies, step.max_retries, command.agent and step.agent_id)
    if now == (wanted.dependencies, wanted.max_retries, wanted.agent_id):
        return False
    step.dependencies, step.max_retries = wanted.dependencies, wanted.max_retries
    step.agent_id = wanted.agent_id or step.agent_id
    return True
