"""What rows rest on, taken out of the process that is measured: it replaces a function of the store, or a bound.

Nothing of this is an option of Waypost. Which, a process is told by a variable, so that all else is the same to the
last argument.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

from msgspec import structs

from waypost import loading
from waypost.store.directory import recent, upkeep
from waypost.store.directory.context import Context
from waypost.store.directory.document import Document

VARIABLE = "BENCH_WITHOUT"


class Optimisation(NamedTuple):
    """Something that rows rest on; `remove` takes it out of the process that calls it."""

    rows: tuple[int, ...]
    what: str
    remove: Callable[[], None]


def remove() -> None:
    """In a process that is measured: take out what its variable names, if it names something."""
    name = os.environ.get(VARIABLE)
    if name:
        OPTIMISATIONS[name].remove()


def is_removed(name: str) -> bool:
    return os.environ.get(VARIABLE) == name


@contextmanager
def removed(name: str | None) -> Generator[None]:
    """Processes that are started within do without it, if it is any."""
    os.environ[VARIABLE] = name or ""
    try:
        yield
    finally:
        del os.environ[VARIABLE]


def _filling() -> None:
    _with_context(lambda context: _replace(context, "prewrite", False))


def _kept_state() -> None:
    drive = Document.drive

    def driven(self: Document) -> None:
        with self.lock:
            self.forget()
        drive(self)

    _replace(Document, "drive", driven)


def _own_locks() -> None:
    drive = Document.drive

    def driven(self: Document) -> None:
        path = os.path.join(self._context.layout.path, "temp", "one-lock")
        lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            drive(self)
        finally:
            os.close(lock)

    _replace(Document, "drive", driven)


def _upkeep_beside() -> None:
    _replace(upkeep, "_APART_S", 0)
    _replace(upkeep, "_SHARE", 0)
    _replace(upkeep.Upkeep, "ask", upkeep.Upkeep._look_after)


def _lazy_loading() -> None:
    load = loading.load

    def loaded(*arguments: Any, **named: Any) -> Any:
        state = load(*arguments, **named)
        for step in state.workflow.steps:
            _ = step.output
        return state

    _replace(loading, "load", loaded)


def _recent_versions() -> None:
    _replace(recent, "_MOST_COMMITS", 0)


def _batches() -> None:
    _with_context(lambda context: _configure(context, "performance", batch_size=1))


def _compression() -> None:
    _with_context(lambda context: _configure(context, "compression", enabled=False))


def _bare_interpreter() -> None:
    """Row 9 starts no worker: it looks for itself."""


def _with_context(change: Callable[[Context], None]) -> None:
    begin = Context.__init__

    def begun(self: Context, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **named)
        change(self)

    _replace(Context, "__init__", begun)


def _configure(context: Context, section: str, **options: Any) -> None:
    changed = structs.replace(getattr(context.config, section), **options)
    _replace(context, "config", structs.replace(context.config, **{section: changed}))


def _replace(owner: Any, name: str, value: object) -> None:
    """Replace what is there: what has another name by now must not be missed."""
    getattr(owner, name)
    setattr(owner, name, value)


OPTIMISATIONS = {
    "filling": Optimisation((1,), "logs are filled ahead, so that a sync has no size to write", _filling),
    "kept-state": Optimisation((1, 3, 7), "the newest state stays in memory", _kept_state),
    "upkeep-beside": Optimisation((2,), "checkpoints are written out beside commits", _upkeep_beside),
    "lazy-loading": Optimisation((4,), "a step is decoded when it is touched", _lazy_loading),
    "recent-versions": Optimisation((5,), "what the last commits laid over stays in memory", _recent_versions),
    "own-locks": Optimisation((6,), "each workflow has a lock of its own", _own_locks),
    "batches": Optimisation((8,), "commits that wait go into one sync", _batches),
    "bare-interpreter": Optimisation((9,), "the hook does without site and packages", _bare_interpreter),
    "compression": Optimisation((10,), "frames are compressed", _compression),
}
