"""The logic of a run: doing the steps of a workflow once each, and picking them up where they stopped.

It stands here once, as generators: they yield what has to be waited for (a request, a call of the user's function,
a pause) and are sent what came of it. Each face drives them in its own way of waiting.

Invariants:

* A step is recorded as running before its function is called, and as finished after the function returned; what a
  dead process left running is taken over, and a finished step is never called again.
* In one process a step is done by one caller at a time, though its recorded owner is the process as a whole.
* What is ready next is kept up to date by the steps this run finishes; the whole workflow is read again only
  when nothing known is left to do.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Generator, Iterable
from functools import cached_property, partial
from itertools import takewhile
from typing import Any, NamedTuple, TypeVar

from msgspec import UNSET

from waypost import clock, loading, migrations, records
from waypost.codec import values
from waypost.definitions import Definitions
from waypost.errors import (
    DocumentTooLarge,
    IllegalTransition,
    InvalidInput,
    InvalidValue,
    InvalidWorkflow,
    OutputNotFound,
    RetriesExhausted,
    StepBusy,
    StepFailed,
)
from waypost.folding import StepStatus
from waypost.frontier import Frontier
from waypost.models import StepOwner, WorkflowStep, as_step
from waypost.operations import OperationResult, Read, Request
from waypost.store import DocumentId, View, place_of

logger = logging.getLogger("waypost")

T = TypeVar("T")

PATIENCE = 1.0
"""Seconds that a step may be handed out without anyone beginning it, before it no longer holds up the end of a run."""

SHORTEST_PAUSE = 0.02
LONGEST_PAUSE = 0.5
"""Seconds between two looks at what other processes have finished."""


class Call(NamedTuple):
    """The user's function is to be called."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Pause(NamedTuple):
    """Wait that long, unless more than `changes` changes have happened in the run."""

    seconds: float
    changes: int


Effects = Generator[Request[Any] | Call | Pause, Any, T]


# --- who is doing what in this process ---

_at_work: set[tuple[int, object, str, str]] = set()
_at_work_lock = threading.Lock()


class Recorded(NamedTuple):
    """A step, and its newest output where it is finished."""

    step: WorkflowStep
    output: Any


class StepWork:
    """A step being done in a `with` block; what `output` is set to is recorded at its end."""

    __slots__ = ("id", "output")

    def __init__(self, step_id: str) -> None:
        self.id = step_id
        self.output: Any = UNSET


class RunLogic:
    """The logic of one run, whoever drives it. Its methods may be driven by several threads at once."""

    def __init__(
        self,
        definitions: Definitions,
        workflow_id: str,
        steps: Iterable[WorkflowStep | str] | None,
        name: str | None,
        session_id: str | None,
    ) -> None:
        self.workflow_id = workflow_id
        self.missing: list[str] = []
        """Ids of steps that are stored, and were not given to this run."""
        self.changed = threading.Condition()
        self.changes = 0
        self.on_change: Callable[[], None] | None = None
        self._definitions = definitions
        self._name = workflow_id if name is None else name
        self._given = None if steps is None else [as_step(step) for step in steps]
        self._session_id = session_id
        self._frontier = Frontier()
        self._active: set[str] = set()
        self._unbegun: dict[str, int] = {}
        self._told: set[str] = set()
        self._finished: list[tuple[int, str]] = []
        """Steps that are finished, with the number of changes at which they were."""
        self._stopped = False
        self._delay = SHORTEST_PAUSE
        self._due_ns = 0

    # --- beginning ---

    def begin(self) -> Effects[None]:
        """Make the workflow, or open it and add the steps that are new. Raises WorkflowNotFound without any steps."""
        given = self._given
        if given is None:
            yield self._reading(records.workflow)
            return
        known: list[str] | None = yield self._reading(_order)
        if known is None:
            # somebody else may make it first: then it is opened, and may lack steps
            made: OperationResult[Any] = yield self._definitions.create_workflow(
                self.workflow_id, self._name, self._session_id, given, if_exists="open"
            )
            made.unwrap()
        while (yield from self._add_new(given)):
            pass

    def _add_new(self, given: list[WorkflowStep]) -> Effects[bool]:
        """Add the steps that are not there. Gives true if others were adding too, and it has to be done again."""
        known: list[str] = yield self._reading(records.order)
        is_given, is_known = {step.id for step in given}, set(known)
        self.missing = [step_id for step_id in known if step_id not in is_given]
        new = [step for step in given if step.id not in is_known]
        if not new:
            return False
        added = yield self._definitions.add_steps(self.workflow_id, new, session_id=self._session_id)
        return False if added else (yield from self._others_added(new, added))

    def _others_added(self, new: list[WorkflowStep], added: OperationResult[Any]) -> Effects[bool]:
        """Whether steps were refused because another process added some of them first; else raise what it was."""
        known: list[str] = yield self._reading(records.order)
        if isinstance(added.error, InvalidWorkflow) and not {step.id for step in new}.isdisjoint(known):
            return True
        added.unwrap()
        return False

    def _reading(self, read: Callable[[View], T]) -> Request[T]:
        store = self._definitions.store
        document = DocumentId("workflow", self.workflow_id)
        return Read(store, "run", lambda: read(migrations.load(store, document)))

    # --- what is ready ---

    def next_ready(self, begin: bool = False) -> Effects[str | None]:
        """The next step to be done, waiting for one if others' work may make one ready; None when there is no more.

        With `begin` the step counts as begun at once. Raises StepFailed when what is left waits for a step that
        failed before this run.
        """
        is_known = False
        while True:
            step_id = self._take(begin)
            if step_id is not None:
                try:
                    is_open = yield from self._is_open(step_id)
                except BaseException:
                    self._settle(step_id, offer_again=True)  # nobody was given it
                    raise
                if is_open:
                    return step_id
                is_known = False
                continue
            if self._stopped:
                return None
            pause = self._pause()
            if pause is None and is_known:
                return self._end()
            if pause is not None and pause.seconds > 0:
                yield pause
                is_known = False
            else:
                yield from self._learn()
                is_known = True

    def _take(self, begin: bool) -> str | None:
        with self.changed:
            step_id = None if self._stopped else self._frontier.take(self._active | self._recent())
            if step_id is not None:
                self._delay = SHORTEST_PAUSE
                if begin:
                    self._active.add(step_id)
                else:
                    self._unbegun[step_id] = clock.monotonic_ns()
            return step_id

    def _recent(self) -> set[str]:
        """Steps that were handed out a moment ago, and that somebody may be about to begin."""
        since = clock.monotonic_ns() - int(PATIENCE * 1e9)
        return {step_id for step_id, then in self._unbegun.items() if then > since}

    def _is_open(self, step_id: str) -> Effects[bool]:
        """Look at a step again before it is handed out: others may have finished it, or taken it."""
        step: WorkflowStep | None = yield self._reading(lambda view: records.STEPS.get(view, records.STEP + step_id))
        if step is None or step.is_finished:
            self._settle(step_id, finished=True)
        elif step.status == "running" and not self._is_free(step):
            self._settle(step_id, offer_again=True)
            with self.changed:
                self._frontier.elsewhere[step_id] = step
        else:
            return True
        return False

    def _pause(self) -> Pause | None:
        """How long until it is time to read the workflow again; None when nobody is doing anything."""
        with self.changed:
            if not self._active and not self._recent() and not self._frontier.elsewhere:
                return None
            return Pause((self._due_ns - clock.monotonic_ns()) / 1e9, self.changes)

    def _learn(self) -> Effects[None]:
        started_ns, changes = clock.monotonic_ns(), self.changes
        steps: list[WorkflowStep] = yield self._reading(lambda view: list(loading.every_step(view)))
        with self.changed:
            before = set(self._frontier.elsewhere)
            # what this run finished while the workflow was being read may stand there as unfinished
            late = takewhile(lambda entry: entry[0] >= changes, reversed(self._finished))
            self._frontier.learn(steps, {step_id for _, step_id in late}, self._is_free)
            now_ns = clock.monotonic_ns()
            # a workflow that is slow to read is read the less often
            self._due_ns = now_ns + max(int(self._delay * 1e9), 10 * (now_ns - started_ns))
            self._delay = min(2 * self._delay, LONGEST_PAUSE)
            news = [step for name, step in self._frontier.elsewhere.items() if name not in before]
        for step in news:
            owner = step.owner
            who = "somebody" if owner is None else f"process {owner.pid} on {owner.host.partition('/')[0]}"
            logger.info("run %r: %s is working on step %r", self.workflow_id, who, step.id)

    def _is_free(self, step: WorkflowStep) -> bool:
        """Whether a running step may be taken over: nobody works on it, in this process or any other."""
        if step.owner is None:
            return True
        if step.owner == StepOwner.this_process():
            return self._entry(step.id) not in _at_work
        return clock.liveness(step.owner.identity) == "dead"

    def _end(self) -> None:
        with self.changed:
            failed = [step for step in self._frontier.failed if step.id not in self._told]
            idle = sorted(self._unbegun)
        if failed:
            raise self._failed_for_good(failed[0].id, failed[0].error)
        if idle:
            logger.warning("run %r ends, and steps it handed out were not begun: %s", self.workflow_id, idle)

    def _failed_for_good(self, step_id: str, error: str | None) -> StepFailed:
        """The failure of a step that this run has not done."""
        return StepFailed(
            f"step {step_id!r} of workflow {self.workflow_id!r} has failed and has no retries left "
            f"({error or 'no error was recorded'}): reset_step makes it pending again",
            workflow_id=self.workflow_id,
            step_id=step_id,
            error=error,
        )

    def check_goes_on(self) -> None:
        """Refuse to begin what would be told that all steps are done. Raises InvalidInput."""
        if self._stopped:
            raise InvalidInput(f"this run of workflow {self.workflow_id!r} has ended: begin another one to go on")

    def stop(self) -> None:
        """Hand out no more steps."""
        with self.changed:
            self._stopped = True
        self._notify()

    def _notify(self) -> None:
        with self.changed:
            self.changes += 1
            self.changed.notify_all()
        if self.on_change is not None:
            self.on_change()

    # --- doing a step ---

    def do(self, step_id: str, call: Call) -> Effects[Any]:
        """Do a step, again while it fails and has retries left. A finished one gives its recorded output."""
        self._enter(step_id)
        finished = busy = False
        try:
            while True:
                found: Recorded = yield self._reading(lambda view: _recorded(view, step_id))
                finished = found.step.is_finished
                if finished:
                    return _output_of(found)
                try:
                    value = yield from self._try(step_id, call)
                    break
                except IllegalTransition as refused:
                    if refused.details["to_status"] != "running":
                        raise  # it was done twice at once: that is not passed over
                    # another process was faster, and has finished it: look again
            yield from self._complete(step_id, value)
            finished = True
            return value
        except StepBusy:
            # another process was faster; should it die, the step is handed out again
            busy = True
            raise
        finally:
            self._leave(step_id, finished, busy)

    def _try(self, step_id: str, call: Call) -> Effects[Any]:
        """Call the function until it returns, or has failed as often as the step allows."""
        while True:
            yield from self._update(step_id, "running")
            try:
                return (yield call)
            except Exception as error:
                step = yield from self._update(step_id, "failed", error=error)
                if step.retry_count >= step.max_retries:
                    raise StepFailed(
                        f"step {step_id!r} of workflow {self.workflow_id!r} failed: {step.error}",
                        workflow_id=self.workflow_id,
                        step_id=step_id,
                        error=step.error,
                        attempts=step.retry_count + 1,
                    ) from error

    def work(
        self, function: Callable[[str], Any], results: dict[str, Any], failures: list[StepFailed]
    ) -> Effects[None]:
        """Do ready steps until there are no more: one of several workers."""
        try:
            while (step_id := (yield from self.next_ready(begin=True))) is not None:
                try:
                    results[step_id] = yield from self.do(step_id, Call(function, (step_id,), {}))
                except StepFailed as error:
                    failures.append(error)
                except RetriesExhausted as error:
                    # somebody else was faster, and had it fail
                    step: WorkflowStep = yield self._reading(partial(records.step, step_id=step_id))
                    failure = self._failed_for_good(step_id, step.error)
                    failure.__cause__ = error
                    failures.append(failure)
                except (StepBusy, OutputNotFound):
                    continue  # somebody else does it, or has done it and could not record its output
        except BaseException:
            self.stop()
            raise

    def begin_step(self, step_id: str) -> Effects[StepWork]:
        """The beginning of the long form."""
        self._enter(step_id)
        try:
            yield from self._update(step_id, "running")
        except BaseException as error:
            self._leave(step_id, False, isinstance(error, StepBusy))
            raise
        return StepWork(step_id)

    def end_step(self, work: StepWork, error: BaseException | None) -> Effects[None]:
        """The end of the long form. An interrupt leaves the step running, to be taken up by the next run."""
        finished = False
        try:
            if error is None:
                yield from self._complete(work.id, work.output)
                finished = True
            elif isinstance(error, Exception):
                yield from self._update(work.id, "failed", error=error)
        finally:
            self._leave(work.id, finished)

    def _enter(self, step_id: str) -> None:
        """Claim a step within this process. Raises StepBusy."""
        entry = self._entry(records.validate_id(step_id, "step id"))
        is_free = False
        try:
            with _at_work_lock:
                is_free = entry not in _at_work
                _at_work.add(entry)
            with self.changed:
                if is_free:
                    self._active.add(step_id)
                    self._unbegun.pop(step_id, None)
        except BaseException:  # an interrupt: nobody in this process could do the step any more
            if is_free:
                self._leave(step_id, False, offer_again=True)
            raise
        if not is_free:
            self._settle(step_id, offer_again=True)
            raise StepBusy(f"step {step_id!r} is being done in this process already", step_id=step_id)

    def _leave(self, step_id: str, finished: bool, offer_again: bool = False) -> None:
        with _at_work_lock:
            _at_work.discard(self._entry(step_id))
        self._settle(step_id, finished, offer_again)

    def _entry(self, step_id: str) -> tuple[int, object, str, str]:
        # the child of a fork inherits the set, and none of the threads that are at work
        return (os.getpid(), self._place, self.workflow_id, step_id)

    @cached_property
    def _place(self) -> object:
        # asked once, since a step is given up by the same name, also where the store was closed meanwhile
        return place_of(self._definitions.store)

    def _settle(self, step_id: str, finished: bool = False, offer_again: bool = False) -> None:
        """A step is no longer being done by this run."""
        with self.changed:
            self._active.discard(step_id)
            self._unbegun.pop(step_id, None)
            if finished:
                self._finished.append((self.changes, step_id))
                self._frontier.finished(step_id)
            elif offer_again:
                self._frontier.offered.discard(step_id)
            else:
                self._told.add(step_id)
        self._notify()

    def _update(self, step_id: str, status: StepStatus, **changes: Any) -> Effects[WorkflowStep]:
        result: OperationResult[WorkflowStep] = yield self._definitions.update_step_status(
            self.workflow_id, step_id, status, session_id=self._session_id, **changes
        )
        return result.unwrap()

    def _complete(self, step_id: str, value: Any) -> Effects[None]:
        """Record a step as completed. What cannot be stored is left out, and the step says so."""
        try:
            yield from self._update(step_id, "completed", output=value)
        except (InvalidValue, DocumentTooLarge) as error:
            note = f"{_NOT_RECORDED}: {error}. {_HOW_TO_STORE}"
            logger.warning("run %r, step %r: %s", self.workflow_id, step_id, note)
            yield from self._update(step_id, "completed", error=note)


_NOT_RECORDED = "the output is not recorded"
_HOW_TO_STORE = (
    "Return what can be stored (JSON and its like, dates, bytes, sets, paths), write what is large to a file "
    "and return its path, or make the type storable with waypost.register_type"
)


def _order(view: View) -> list[str] | None:
    """The ids of all steps; None where there is no workflow."""
    return None if view.size_of(records.WORKFLOW) is None else records.order(view)


def _recorded(view: View, step_id: str) -> Recorded:
    records.workflow(view)
    step = records.step(view, step_id)
    # an output that stands there may be of an earlier attempt, which was reset
    has_none = step.status == "skipped" or (step.error or "").startswith(_NOT_RECORDED)
    if not step.is_finished or not step.output_version or has_none:
        return Recorded(step, UNSET)
    return Recorded(step, values.decode(records.output_bytes(view, step_id, step.output_version)))


def _output_of(found: Recorded) -> Any:
    """The output of a finished step, None for one without. Raises OutputNotFound where it could not be recorded."""
    step = found.step
    if found.output is UNSET and step.status == "completed" and step.error is not None:
        raise OutputNotFound(
            f"step {step.id!r} is completed, and {step.error}; reset_step makes it pending again", step_id=step.id
        )
    return None if found.output is UNSET else found.output
