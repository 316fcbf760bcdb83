"""Threads that are stepped one system call at a time, in an order that a function chooses and that can be repeated.

While a `Scheduler` runs its programs, every call of the module that touches the disk, every lock and every pause is a
point at which another thread may be let on; only one runs at a time. A lock that is waited for is a thread that cannot
be chosen until something was given back, so nothing ever sleeps and no time passes. Whoever reaches a point chooses who
is next, so that a thread which goes on costs no switch.
"""

from __future__ import annotations

import fcntl
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from waypost.store import directory
from waypost.store.directory import decisions, document, files, joint, log, opened, submission

Choose = Callable[[Sequence[int], int], int]
"""Which of the threads that can run is let on at a step: both by number."""

_MOST_STEPS = 20_000
_MOST_SECONDS = 120


class Stuck(AssertionError):
    """No thread can run, or they never end."""


class Task:
    """One thread and where it stands."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.go = threading.Lock()
        self.go.acquire()
        self.may_run: Callable[[], bool] = lambda: True
        self.at = "start"
        self.done = False
        self.error: BaseException | None = None


class Scheduler:
    """Runs programs side by side as `choose` says. `trace` is who was let on, to which point."""

    def __init__(self, choose: Choose) -> None:
        self._choose = choose
        self._all: list[Task] = []
        self._tasks: dict[int, Task] = {}
        self._over = threading.Lock()
        self._over.acquire()
        self._stuck: list[tuple[int, str]] = []
        self.released = 0
        self.now = 0
        self.trace: list[tuple[int, str]] = []

    # --- called by the threads ---

    def point(self, name: str, may_run: Callable[[], bool] = lambda: True) -> None:
        """Wait until this thread is chosen again, not before `may_run`. Other threads than the stepped ones go on."""
        task = self._tasks.get(threading.get_ident())
        if task is None:
            return
        task.at, task.may_run = name, may_run
        self._let_on_next(task)

    def _let_on_next(self, task: Task | None) -> None:
        left = [each for each in self._all if not each.done]
        ready = [each.number for each in left if each.may_run()]
        if not ready or len(self.trace) > _MOST_STEPS:
            self._stuck = [(each.number, each.at) for each in left]
            self._over.release()
            chosen = None
        else:
            chosen = self._all[self._choose(ready, len(self.trace))]
            self.trace.append((chosen.number, chosen.at))
        if chosen is not task:
            if chosen is not None:
                chosen.go.release()
            if task is not None and not task.done:
                task.go.acquire()

    def pause(self, _seconds: float) -> None:
        """Stands in for sleeping until a lock may be free."""
        before = self.released
        self.point("sleep", lambda: self.released != before)

    def tick(self) -> int:
        """A moment: later ones are greater."""
        self.now += 1
        return self.now

    # --- running ---

    def run(self, programs: Sequence[Callable[[], None]]) -> None:
        self._all = [Task(number) for number in range(len(programs))]
        threads = [
            threading.Thread(target=self._live, args=(task, program), daemon=True)
            for task, program in zip(self._all, programs, strict=True)
        ]
        for thread in threads:
            thread.start()
        self._let_on_next(None)
        if not self._over.acquire(timeout=_MOST_SECONDS):
            raise Stuck(f"waits outside of what is stepped: {[(task.number, task.at) for task in self._all]}")
        if self._stuck:
            raise Stuck(self._stuck)
        for thread in threads:
            thread.join()
        for task in self._all:
            if task.error is not None:
                raise task.error

    def _live(self, task: Task, program: Callable[[], None]) -> None:
        task.go.acquire()
        self._tasks[threading.get_ident()] = task
        try:
            program()
        except BaseException as error:
            task.error = error
        finally:
            del self._tasks[threading.get_ident()]
            task.done = True
            self.released += 1
            if all(each.done for each in self._all):
                self._over.release()
            else:
                self._let_on_next(task)


class SteppedLock:
    """A lock on which a thread waits by not being chosen. `reentrant` as `RLock` is."""

    def __init__(self, scheduler: Scheduler, *, reentrant: bool) -> None:
        self._scheduler = scheduler
        self._reentrant = reentrant
        self._owner: int | None = None
        self._depth = 0

    def acquire(self) -> bool:
        here = threading.get_ident()
        if not (self._reentrant and self._owner == here):
            self._scheduler.point("lock", lambda: self._depth == 0)
            assert self._depth == 0, "a lock is held outside of what is stepped"
        self._owner = here
        self._depth += 1
        return True

    def release(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._owner = None
            self._scheduler.released += 1

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class _Calls:
    """Stands in for `os`: each call is a point."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if not callable(real) or isinstance(real, type):
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            self._scheduler.point(name)
            if name == "close":
                self._scheduler.released += 1  # with a descriptor goes the lock on it
            return real(*args, **kwargs)

        setattr(self, name, call)
        return call


@contextmanager
def stepping(scheduler: Scheduler) -> Iterator[None]:
    """Within it the storage core, and the locks of stores that are opened, belong to a scheduler."""

    def flock(descriptor: int, operation: int) -> None:
        scheduler.point("unlock" if operation == fcntl.LOCK_UN else "flock")
        fcntl.flock(descriptor, operation)
        scheduler.released += operation == fcntl.LOCK_UN

    def lock() -> SteppedLock:
        return SteppedLock(scheduler, reentrant=False)

    numbers = count()
    names = {name: getattr(fcntl, name) for name in ("LOCK_EX", "LOCK_SH", "LOCK_NB", "LOCK_UN")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "os", _Calls(scheduler))
        patch.setattr(files, "statx", SimpleNamespace(stat=_Calls(scheduler).stat))
        patch.setattr(files, "fcntl", SimpleNamespace(flock=flock, **names))
        patch.setattr(files, "time", SimpleNamespace(sleep=scheduler.pause, monotonic=lambda: 0.0))
        for module in (opened, document):
            patch.setattr(module, "RLock", lambda: SteppedLock(scheduler, reentrant=True))
        patch.setattr(decisions, "Lock", lock)
        # whether a look at the decisions is trusted must not depend on time, nor their order on chance
        patch.setattr(decisions, "time", SimpleNamespace(time_ns=lambda: 0))
        patch.setattr(joint, "new_transaction_id", lambda: f"{next(numbers):032x}")
        patch.setattr(log, "threading", SimpleNamespace(Lock=lock))
        patch.setattr(submission, "Lock", lock)
        patch.setattr(directory, "threading", SimpleNamespace(Lock=lock))
        patch.setattr(time, "sleep", scheduler.pause)
        gc.disable()  # what is collected closes its files at any point
        try:
            yield
        finally:
            gc.enable()
