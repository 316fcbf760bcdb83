"""What the store tests share: changes, directory stores, and system calls that fail on purpose."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from waypost import clock, config
from waypost.store import Change, DocumentId, Transaction
from waypost.store.directory import DirectoryStore, files, statx, upkeep

WF = DocumentId("workflow", "wf")


def change(
    document: DocumentId,
    work: Callable[[Transaction], Any],
    *,
    operation_id: str | None = None,
    repeatable: bool = False,
) -> Change:
    return Change(document, work, operation_id or clock.new_id("op"), "test", repeatable=repeatable)


def putting(**values: bytes) -> Change:
    """A change that puts parts into the document `wf`."""

    def work(tx: Transaction) -> None:
        for key, value in values.items():
            tx.put(key, value)

    return change(WF, work)


class TestedStore(DirectoryStore):
    """A directory store whose upkeep a test can ask for."""

    __test__ = False

    def tidy(self, document: DocumentId, action: str) -> bool:
        opened = self._document(document)
        if action == "keep":
            opened.keep_checkpoints(newest_only=False)
            return True
        act = upkeep.compact if action == "compact" else upkeep.take_snapshot
        return act(opened, self._context)


_SECTIONS = {
    "compression": ("enabled", "algorithm", "level", "threshold", "chunk_size"),
    "performance": ("max_memory_usage", "max_file_size", "batch_size", "parallel_operations"),
    "reliability": ("enable_wal", "sync_frequency", "backup_retention", "checksum_validation"),
    "history": ("max_age_days",),
}


@lru_cache
def _config(_place: str, *options: frozenset[tuple[str, Any]]) -> config.Config:
    """The options of a store that is opened in a directory, whose files are read for them once."""
    given = dict(zip(_SECTIONS, map(dict, options), strict=True))
    return config.load("production", given, environment={})


def directory_store(path: Path | str, *, read_only: bool = False, create: bool = True, **options: Any) -> TestedStore:
    """Open a directory store; options by their short name (`chunk_size=4096`)."""
    given: dict[str, dict[str, Any]] = {}
    for section, names in _SECTIONS.items():
        given[section] = {name: options.pop(name) for name in names if name in options}
    assert not options, options
    loaded = _config(os.getcwd(), *(frozenset(each.items()) for each in given.values()))
    store = TestedStore.open(str(path), loaded, create=create and not read_only, read_only=read_only)
    assert isinstance(store, TestedStore)
    return store


class SystemCalls:
    """Stands in for `os` in the one module that touches the disk: counts calls, and lets chosen ones fail.

    `trace` holds (name, descriptor or path, length) in order.
    """

    def __init__(self) -> None:
        self.trace: list[tuple[str, object, int]] = []
        self.fault: Callable[[str, int, tuple[Any, ...]], Any] | None = None
        self._counts: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if not callable(real) or isinstance(real, type):
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            self._counts[name] = self._counts.get(name, 0) + 1
            if self.fault is not None:
                instead = self.fault(name, self._counts[name], args)
                if instead is not None:
                    return instead
            size = len(args[1]) if name == "pwrite" else 0
            self.trace.append((name, args[0] if args else None, size))
            return real(*args, **kwargs)

        return call

    def count(self, name: str) -> int:
        return sum(1 for each in self.trace if each[0] == name)


@contextmanager
def system_calls() -> Iterator[SystemCalls]:
    """Watch, and where asked break, the system calls of the storage core."""
    calls = SystemCalls()
    files.os = files.statx = calls  # type: ignore[assignment]
    try:
        yield calls
    finally:
        files.os, files.statx = os, statx


def failing(name: str, at: int, error: int = errno.EIO, *, onwards: bool = False) -> Callable[..., Any]:
    """A fault: the n-th call of that name from now on raises; with `onwards` all later ones too."""
    seen = 0

    def fault(called: str, _count: int, _args: tuple[Any, ...]) -> None:
        nonlocal seen
        if called == name:
            seen += 1
            if seen == at or (onwards and seen > at):
                raise OSError(error, os.strerror(error))

    return fault


@contextmanager
def breaking(place: Any, name: str, at: int, error: type[BaseException]) -> Iterator[None]:
    """The n-th call of a function from now on is broken off before it does anything."""
    real: Callable[..., Any] = getattr(place, name)
    calls = iter(range(1, 1_000_000))

    def broken(*arguments: Any) -> Any:
        if next(calls) == at:
            raise error
        return real(*arguments)

    setattr(place, name, broken)
    try:
        yield
    finally:
        setattr(place, name, real)
