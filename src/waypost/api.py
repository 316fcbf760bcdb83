"""The asynchronous face: each operation is awaited, and no sync ever blocks the event loop.

Invariants:

* A write is handed to the store, which does it in a thread of its own; what finished together wakes the loop once.
* Cancelling whoever awaits a write does not undo it: the commit goes on, and a failure of it is logged. While it
  still reads a file that it was given, it is not made.
* Reads run in a small pool of threads, except in a store that is memory.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from functools import partial, wraps
from inspect import isawaitable, iscoroutinefunction
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from waypost import migrations, prepared, transactions
from waypost.definitions import Definitions, Options, signature_of
from waypost.errors import SchemaOutdated, StepFailed, TransactionPending, WaypostError
from waypost.hooks.operation import emit_hook_event
from waypost.models import WorkflowStep
from waypost.opening import intake_of, open_definitions
from waypost.operations import TRIES, OperationResult, Request, Write
from waypost.performance import StoreMetrics
from waypost.runner import Call, Effects, Pause, RunLogic, StepWork
from waypost.runs import raise_first
from waypost.store import Change, ContentLost, Durability, Store, Ticket
from waypost.watches import AsyncWatch
from waypost.watching import Watch

logger = logging.getLogger("waypost")

P = ParamSpec("P")
R = TypeVar("R")

READERS = 4
"""Threads of a handle that read."""


def _awaits(
    define: Callable[Concatenate[Definitions, P], Request[R]],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]:
    """The coroutine function that performs what a definition requests."""

    @wraps(define)
    async def operation(self: AsyncWaypost, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self.perform(define(self.definitions, *args, **kwargs))

    operation.__signature__ = signature_of(define)  # type: ignore[attr-defined]
    return operation


def open_async(
    location: str | os.PathLike[str] | None = None, *, preset: str | None = None, config: Options | None = None
) -> Opening:
    """Open a store as `waypost.open` does, for `async with` or `await`."""
    return Opening(partial(open_definitions, location, preset, config))


class Opening:
    """A store that is being opened: `async with` it, or `await` it and close the handle later."""

    __slots__ = ("_handle", "_open")

    def __init__(self, open_: Callable[[], Definitions]) -> None:
        self._open = open_
        self._handle: AsyncWaypost | None = None

    async def _opened(self) -> AsyncWaypost:
        opening = asyncio.ensure_future(asyncio.to_thread(self._open))
        try:
            return AsyncWaypost(await asyncio.shield(opening))
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unused)
            raise

    def __await__(self) -> Generator[Any, Any, AsyncWaypost]:
        return self._opened().__await__()

    async def __aenter__(self) -> AsyncWaypost:
        self._handle = await self
        return self._handle

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._handle is not None:
            await self._handle.close()


def _close_unused(opening: asyncio.Future[Definitions]) -> None:
    """Close a store that nobody waits for any more."""
    if not opening.cancelled() and opening.exception() is None:
        threading.Thread(target=opening.result().close).start()


_TRIES, _TRY_AGAIN_S = 100, 0.01


class _Completions:
    """Brings tickets from the threads that finished them to the loop that waits, a batch for each wake-up."""

    __slots__ = ("_done", "_is_due", "_lock", "_waiting", "loop", "on_done")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.on_done = self._put
        """What tickets are to be handed in with: one object, so that those of a batch are told together."""
        self._lock = threading.Lock()
        self._done: list[Ticket] = []
        self._is_due = False
        self._waiting: dict[Ticket, asyncio.Future[Ticket]] = {}
        """Only the loop's own thread looks in here."""

    def submit(self, store: Store, change: Change) -> asyncio.Future[Ticket]:
        """Hand a change in, in the loop's thread; gives its ticket once it is done."""
        future = self.loop.create_future()  # first: where none can be had, nothing is handed in
        self._waiting[store.submit(change, self.on_done)] = future
        return future

    def _put(self, tickets: Sequence[Ticket]) -> None:
        """Called in a thread of the store. Where memory runs out it tries again: nobody else would."""
        tries_left, is_added = _TRIES, False
        while True:
            try:
                if not is_added:
                    with self._lock:
                        self._done += tickets
                        is_added = True
                        if self._is_due:
                            return
                        self._is_due = True
                self.loop.call_soon_threadsafe(self._deliver)
                return
            except RuntimeError:
                # the loop is closed, and nobody waits any more; the commits are made all the same
                self._deliver()
                return
            except MemoryError:
                tries_left -= 1
                if not tries_left:
                    self._is_due = False  # whoever comes next wakes for these as well
                    raise
                time.sleep(_TRY_AGAIN_S)
            except BaseException:
                self._is_due = False
                raise

    def _deliver(self) -> None:
        with self._lock:
            done, self._done = self._done, []
            self._is_due = False
        for ticket in done:
            future = self._waiting.pop(ticket, None)  # None: memory ran out as it was handed in, and told its caller so
            if future is None or future.cancelled() or self.loop.is_closed():
                _log_failure(ticket)
            else:
                future.set_result(ticket)


def _log_failure(ticket: Ticket) -> None:
    try:
        ticket.result()
    except Exception as error:
        logger.error("an operation failed after its caller was cancelled: %s", error)


class AsyncWaypost:
    """An open store. Use it in an `async with` block of `open_async`, or close it."""

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self._completions: _Completions | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._closed = False

    create_workflow = _awaits(Definitions.create_workflow)
    save_workflow_state = _awaits(Definitions.save_workflow_state)
    load_workflow_state = _awaits(Definitions.load_workflow_state)
    pause_workflow = _awaits(Definitions.pause_workflow)
    resume_workflow = _awaits(Definitions.resume_workflow)
    delete_workflow = _awaits(Definitions.delete_workflow)
    list_workflows = _awaits(Definitions.list_workflows)
    validate_workflow_state = _awaits(Definitions.validate_workflow_state)
    update_step_status = _awaits(Definitions.update_step_status)
    add_steps = _awaits(Definitions.add_steps)
    reset_step = _awaits(Definitions.reset_step)
    add_step_output = _awaits(Definitions.add_step_output)
    get_step_output = _awaits(Definitions.get_step_output)
    open_step_output = _awaits(Definitions.open_step_output)
    update_agent_state = _awaits(Definitions.update_agent_state)
    update_context = _awaits(Definitions.update_context)
    create_checkpoint = _awaits(Definitions.create_checkpoint)
    list_checkpoints = _awaits(Definitions.list_checkpoints)
    get_checkpoint = _awaits(Definitions.get_checkpoint)
    validate_checkpoint = _awaits(Definitions.validate_checkpoint)
    get_recovery_suggestions = _awaits(Definitions.get_recovery_suggestions)
    restore_from_checkpoint = _awaits(Definitions.restore_from_checkpoint)
    fork_workflow = _awaits(Definitions.fork_workflow)
    cleanup = _awaits(Definitions.cleanup)
    export_checkpoint = _awaits(Definitions.export_checkpoint)
    import_checkpoint = _awaits(Definitions.import_checkpoint)
    export_session = _awaits(Definitions.export_session)
    import_session = _awaits(Definitions.import_session)
    start_session = _awaits(Definitions.start_session)
    resume_session = _awaits(Definitions.resume_session)
    pause_session = _awaits(Definitions.pause_session)
    end_session = _awaits(Definitions.end_session)
    update_session = _awaits(Definitions.update_session)
    get_session = _awaits(Definitions.get_session)
    list_sessions = _awaits(Definitions.list_sessions)
    get_session_statistics = _awaits(Definitions.get_session_statistics)
    detect_and_recover_crashed_sessions = _awaits(Definitions.detect_and_recover_crashed_sessions)
    migrate_workflows = _awaits(Definitions.migrate_workflows)
    rotate_secrets = _awaits(Definitions.rotate_secrets)
    erase = _awaits(Definitions.erase)
    history = _awaits(Definitions.history)
    diff = _awaits(Definitions.diff)
    blame = _awaits(Definitions.blame)
    backup = _awaits(Definitions.backup)
    restore_backup = _awaits(Definitions.restore_backup)
    sync = _awaits(Definitions.sync)
    get_outcome = _awaits(Definitions.get_outcome)
    transact = _awaits(transactions.transact)
    emit_hook_event = _awaits(emit_hook_event)

    @property
    def location(self) -> str:
        """Where the store is."""
        return self.definitions.store.location

    @property
    def durability(self) -> Durability:
        """What a commit survives once it is acknowledged."""
        return self.definitions.store.durability

    @property
    def session_id(self) -> str | None:
        """The current session: the last that this handle started or resumed, unless it has left it."""
        return self.definitions.session_id

    def in_session(self, session_id: str) -> AsyncWaypost:
        """A handle on the same open store that writes in a session's name, as on the blocking face."""
        return AsyncWaypost(self.definitions.in_session(session_id))

    def run(
        self,
        workflow_id: str,
        steps: Iterable[WorkflowStep | str] | None = None,
        *,
        name: str | None = None,
        session_id: str | None = None,
    ) -> AsyncRun:
        """Do a workflow's steps, for `async with`: as on the blocking face, awaited."""
        return AsyncRun(self, RunLogic(self.definitions, workflow_id, steps, name, session_id))

    def watch(self, workflow_id: str | None = None, *, cursor: str | None = None) -> AsyncWatch:
        """What is committed from when it is entered or first asked, for `async with` and `async for`: as on the
        blocking face, awaited.
        """
        return AsyncWatch(partial(Watch, self.definitions.store, workflow_id, cursor, intake_of(self.definitions)))

    def get_performance_metrics(self, window_s: float = 60) -> StoreMetrics:
        """How the operations of this handle fared in the last so many seconds, from 1 to 600, and in all; asks nobody
        but this process, and waits for nothing (docs/monitoring.md). Raises InvalidInput.
        """
        return self.definitions.observer.metrics(window_s)

    async def close(self) -> None:
        """Finish what is under way and let go of the store. May be called twice."""
        await asyncio.shield(asyncio.to_thread(self.definitions.close))
        self._closed = True
        if self._readers is not None:
            self._readers.shutdown(wait=False)

    def perform(self, request: Request[R]) -> Coroutine[Any, Any, R]:
        """Wait for a request in the way that it needs."""
        if isinstance(request, Write):
            return cast("Coroutine[Any, Any, R]", self._commit(cast("Write[Any]", request)))
        return self._in_reader(request.run)

    async def _in_reader(self, work: Callable[[], R]) -> R:
        if self._closed or self.definitions.store.durability == "none":
            # what is in memory is read faster than a thread is woken, and a closed store only refuses
            return work()
        if self._readers is None:
            self._readers = ThreadPoolExecutor(READERS, "waypost-reader")
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    async def _commit(self, write: Write[R], tries_left: int = TRIES) -> OperationResult[R]:
        try:
            change = await asyncio.to_thread(write.change) if write.stages else write.change()
            try:
                receipt = (await self._submit(change)).result()
            except SchemaOutdated:
                await self._in_reader(partial(migrations.bring_up_to_date, write.store, change.document))
                receipt = (await self._submit(change)).result()
            except TransactionPending as pending:
                if tries_left == 1:
                    raise
                await self._in_reader(partial(prepared.out_of_the_way, write.store, pending))
                return await self._commit(write, tries_left - 1)
        except ContentLost as error:
            return write.failed(error) if tries_left == 1 else await self._commit(write, tries_left - 1)
        except WaypostError as error:
            return write.failed(error)
        if receipt.repeated is not None or write.stages:
            # the first result may have to be read from the disk, and what is large takes its time
            return await self._in_reader(partial(write.done, receipt))
        return write.done(receipt)

    def _submit(self, change: Change) -> asyncio.Future[Ticket]:
        loop = asyncio.get_running_loop()
        completions = self._completions
        if completions is None or completions.loop is not loop:
            completions = self._completions = _Completions(loop)
        return completions.submit(self.definitions.store, change)

    def __repr__(self) -> str:
        return f"<AsyncWaypost at {self.location}>"


# --- runs ---


class AsyncRun:
    """A run on the asynchronous face. Functions may be asynchronous; plain ones are called in threads.

    Cancelling stops an asynchronous function. A plain one goes on in its thread: until it has returned its step is
    busy, and what it gives then is dropped. Either way the step stays running, to be done again by the next run.
    """

    def __init__(self, handle: AsyncWaypost, logic: RunLogic) -> None:
        self._handle = handle
        self._logic = logic
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        logic.on_change = self._wake

    @property
    def missing(self) -> list[str]:
        """Ids of steps that are stored, and were not given to this run. They are kept."""
        return list(self._logic.missing)

    async def ready(self) -> AsyncIterator[str]:
        """The ids of steps to be done, each once, as soon as what it depends on is finished; see `Run.ready`."""
        self._logic.check_goes_on()
        while (step_id := await self._drive(self._logic.next_ready())) is not None:
            yield step_id

    async def do(self, step_id: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call the function and record its result as the step's output; see `Run.do`, and above for cancelling it."""
        return await self._drive(self._logic.do(step_id, Call(function, args, kwargs)))

    async def map(self, function: Callable[[str], Any], workers: int = 4) -> dict[str, Any]:
        """Call the function with the id of each step that is ready, in tasks; see `Run.map`."""
        self._logic.check_goes_on()
        if workers < 1:
            raise ValueError("a map needs at least one worker")
        results: dict[str, Any] = {}
        failures: list[StepFailed] = []
        jobs = [
            asyncio.ensure_future(self._drive(self._logic.work(function, results, failures))) for _ in range(workers)
        ]
        try:
            await asyncio.gather(*jobs)
        except BaseException:
            self._logic.stop()
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            raise
        raise_first(failures)
        return results

    @asynccontextmanager
    async def step(self, step_id: str) -> AsyncGenerator[StepWork]:
        """Do a step in an `async with` block; see `Run.step`."""
        work = await self._drive(self._logic.begin_step(step_id))
        try:
            yield work
        except BaseException as error:
            await self._drive(self._logic.end_step(work, error))
            raise
        await self._drive(self._logic.end_step(work, None))

    async def __aenter__(self) -> Self:
        await self._drive(self._logic.begin())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._logic.stop()

    async def _drive(self, effects: Effects[R]) -> R:
        """Do what the logic asks for until it is done."""
        self._loop = asyncio.get_running_loop()
        try:
            effect = next(effects)
            while True:
                called: Future[Any] | None = None
                try:
                    if isinstance(effect, Call) and not iscoroutinefunction(effect.function):
                        called = _in_thread(effect)
                        outcome = await asyncio.wrap_future(called)
                        # a lambda or a partial may hide a coroutine function
                        outcome = await outcome if isawaitable(outcome) else outcome
                    else:
                        outcome = await self._perform(effect)
                except BaseException as error:
                    if called is not None and not (called.cancel() or called.done()):
                        # nothing can stop it: the step is let go of when it has returned
                        called.add_done_callback(lambda _: effects.close())
                        raise
                    effect = effects.throw(error)
                else:
                    effect = effects.send(outcome)
        except StopIteration as stop:
            return stop.value

    async def _perform(self, effect: Request[Any] | Call | Pause) -> Any:
        if isinstance(effect, Request):
            return await self._handle.perform(effect)
        if isinstance(effect, Call):
            return await effect.function(*effect.args, **effect.kwargs)
        if self._logic.changes == effect.changes:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), effect.seconds)
            except TimeoutError:
                pass  # time to look at what others have done
        return None

    def _wake(self) -> None:
        """Called in the loop, or in the thread of a function that nobody waited for any more."""
        try:
            is_in_loop = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            is_in_loop = False
        if is_in_loop or self._loop is None:
            self._changed.set()
            return
        with suppress(RuntimeError):  # the loop is closed, and nobody waits there
            self._loop.call_soon_threadsafe(self._changed.set)


def _in_thread(call: Call) -> Future[Any]:
    """Call a plain function in a thread. As long as it has not begun it can be cancelled."""
    future: Future[Any] = Future()
    context = copy_context()

    def work() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            value = context.run(call.function, *call.args, **call.kwargs)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(value)

    asyncio.get_running_loop().run_in_executor(None, work)
    return future
