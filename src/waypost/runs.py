"""Runs on the blocking face: the state of a workflow as a tool for doing its steps, and for resuming them.

    with wp.run("survey", steps=["fetch", "parse", "report"]) as run:
        for step_id in run.ready():
            run.do(step_id, analyse, step_id)

It is a thin layer on the operations: whatever a run does can be seen, and done, with those.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

from waypost.errors import StepFailed
from waypost.operations import Request
from waypost.runner import Call, Effects, Pause, RunLogic, StepWork

T = TypeVar("T")


class Run:
    """A run on the blocking face. Its methods may be called by many threads at once."""

    def __init__(self, logic: RunLogic) -> None:
        self._logic = logic

    @property
    def missing(self) -> list[str]:
        """Ids of steps that are stored, and were not given to this run. They are kept."""
        return list(self._logic.missing)

    def ready(self) -> Iterator[str]:
        """The ids of steps to be done, each once, as soon as what it depends on is finished.

        Finished steps are left out, and what a dead process left running is taken over. While nothing is ready and
        others are at work, in this process or elsewhere, it waits. Raises StepFailed when it comes to its end and
        a step that failed before this run has no retries left, and InvalidInput where the run has ended before.
        """
        self._logic.check_goes_on()
        while (step_id := self._drive(self._logic.next_ready())) is not None:
            yield step_id

    def do(self, step_id: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call the function and record what it returns as the step's output; a finished step gives its output.

        A function that raises is called again while the step has retries left; then StepFailed is raised from its
        error. An output that cannot be stored is returned all the same, and the step says why it is not recorded.

        Raises StepFailed, StepNotFound, StepBusy, DependencyUnfinished, WorkflowPaused, RetriesExhausted, and
        OutputNotFound for a finished step whose output could not be recorded.
        """
        return self._drive(self._logic.do(step_id, Call(function, args, kwargs)))

    def map(self, function: Callable[[str], T], workers: int = 4) -> dict[str, T]:
        """Call the function with the id of each step that is ready, in threads, until there are no more.

        Gives the outputs by step id. What does not depend on a step that failed is done; then the first StepFailed
        is raised. Any other error ends the run: another one goes on from there, and this one raises InvalidInput.
        """
        self._logic.check_goes_on()
        from concurrent.futures import ThreadPoolExecutor

        results: dict[str, T] = {}
        failures: list[StepFailed] = []
        with ThreadPoolExecutor(workers, "waypost-run") as pool:
            jobs = [pool.submit(self._drive, self._logic.work(function, results, failures)) for _ in range(workers)]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                self._logic.stop()
                raise
        raise_first(failures)
        return results

    @contextmanager
    def step(self, step_id: str) -> Generator[StepWork]:
        """Do a step in a `with` block; what `output` of the object it gives is set to is recorded at its end.

        An exception fails the step and goes on. Raises IllegalTransition for a finished step.
        """
        work = self._drive(self._logic.begin_step(step_id))
        try:
            yield work
        except BaseException as error:
            self._drive(self._logic.end_step(work, error))
            raise
        self._drive(self._logic.end_step(work, None))

    def __enter__(self) -> Self:
        self._drive(self._logic.begin())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._logic.stop()

    def _drive(self, effects: Effects[T]) -> T:
        """Do what the logic asks for until it is done."""
        try:
            effect = next(effects)
            while True:
                try:
                    outcome = self._perform(effect)
                except BaseException as error:
                    effect = effects.throw(error)
                else:
                    effect = effects.send(outcome)
        except StopIteration as stop:
            return stop.value

    def _perform(self, effect: Request[Any] | Call | Pause) -> Any:
        if isinstance(effect, Request):
            return effect.run()
        if isinstance(effect, Call):
            return refuse_awaitable(effect.function(*effect.args, **effect.kwargs))
        changed = self._logic.changed
        with changed:
            if self._logic.changes == effect.changes:
                changed.wait(effect.seconds)
        return None


def refuse_awaitable(value: T) -> T:
    """What a function returned, unless it has yet to be awaited, which nobody here does."""
    if hasattr(value, "__await__"):
        close: Callable[[], None] | None = getattr(value, "close", None)
        if close is not None:
            close()
        raise TypeError("the function is asynchronous: use a run of the asynchronous face")
    return value


def raise_first(failures: list[StepFailed]) -> None:
    """Raise the first failure, with a note on the others."""
    if failures:
        for other in failures[1:]:
            failures[0].add_note(f"also: {other}")
        raise failures[0]
