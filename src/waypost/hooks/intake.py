"""Folding: events that wait become commits, in order of arrival, each once.

Invariants:

* One process folds at a time, whoever holds the lock of the spool. Another one waits for nothing and leaves it to him.
* An event's file goes only once its commits are made. What is folded again after a crash has the same operation ids,
  and so changes nothing; the removals of so many events as `_SYNC_EVERY` says are not durable yet, well within what a
  store remembers.
* What cannot be used is set aside durably. What the store cannot take now stays, with all behind it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

from waypost import clock
from waypost.definitions import Definitions
from waypost.errors import (
    DocumentDamaged,
    LockTimeout,
    MigrationFailed,
    StoreClosed,
    StoreError,
    StoreLeased,
    StorePoisoned,
    StoreReadOnly,
    StoreUnavailable,
    TransactionPending,
    UnsupportedFormat,
    VersionConflict,
    WaypostError,
)
from waypost.hooks import entries
from waypost.hooks.entries import Entry, NotWhole, Unusable
from waypost.store.directory import spooled
from waypost.store.directory.files import Directory, File

_LOG = logging.getLogger("waypost")
_SYNC_EVERY = 64

_NOT_NOW = (StoreUnavailable, StorePoisoned, LockTimeout, StoreLeased, StoreClosed, StoreReadOnly)
"""What every event would meet now: the fold ends."""
_NOT_HERE = (DocumentDamaged, UnsupportedFormat, MigrationFailed)
"""What this document meets until somebody mends it: the event stays, and others go on."""
_SOON = (VersionConflict, TransactionPending)
"""What another try soon can do: as above. An event for a step that is not ready, or is somebody's, is refused in its
time like any call: were it to wait, it would speak of work that was done anew since.
"""

Taker = Callable[[Definitions, Entry], None]
"""Makes the commits of an event, under operation ids that follow from it. Raises WaypostError if it cannot be used."""


class Folded(NamedTuple):
    """How many events became commits, were set aside, and still wait."""

    taken: int
    refused: int
    left: int


def fold(definitions: Definitions, spool: str | None, takers: Mapping[str, Taker]) -> Folded:
    """Fold in what waits at that path, each event by the taker of its dialect. What fails is told in the log."""
    try:
        folder = None if spool is None else spooled.open_folder(spool)
        if spool is None or folder is None:
            return Folded(0, 0, 0)
        names = spooled.events(folder)
        if not names:
            return Folded(0, 0, 0)
        lock = _lock(spool, folder)
        if lock is None:
            return Folded(0, 0, len(names))
        try:
            return _Fold(definitions, folder, takers).run()
        finally:
            lock.close()
    except StoreError as error:
        _LOG.warning("%s: events wait, and cannot be folded in: %s", spool, error)
        return Folded(0, 0, 0)


def _lock(spool: str, folder: Directory) -> File | None:
    """The right to fold, None where somebody else has it."""
    file = folder.open(spooled.LOCK)
    if file is None:
        # its file says that the spool's own name is durable
        spooled.open_above(spool).sync()
        file = folder.open(spooled.LOCK, write=True, create=True)
    return file if file is not None and file.try_lock() else None


class _Fold:
    """One pass over what waits."""

    def __init__(self, definitions: Definitions, folder: Directory, takers: Mapping[str, Taker]) -> None:
        self._definitions = definitions
        self._folder = folder
        self._takers = takers
        self._taken = self._refused = self._left = 0
        self._removed = 0
        """Names that were removed, and are not durably so."""

    def run(self) -> Folded:
        names = self._in_order(spooled.events(self._folder))
        try:
            for number, name in enumerate(names):
                try:
                    self._take(name)
                except _NOT_NOW as error:
                    self._left += len(names) - number
                    _LOG.warning("%s: %d events wait until the store can take them: %s", self._path, self._left, error)
                    break
        finally:
            self._end()
        if self._taken or self._refused:
            _LOG.info("%s: %d events folded in, %d refused", self._path, self._taken, self._refused)
        return Folded(self._taken, self._refused, self._left)

    @property
    def _path(self) -> str:
        return self._folder.path

    def _end(self) -> None:
        try:
            if self._removed:
                self._folder.sync()
            if self._refused:
                spooled.keep_bounds(self._folder)
        except StoreError as error:  # what was removed may come back, and changes nothing then
            _LOG.warning("%s: %s", self._path, error)

    def _in_order(self, names: list[str]) -> list[str]:
        """By arrival: within a boot by the clock of that boot, boots by wall time, and this one last."""
        boots: dict[str, list[str]] = {}
        for name in names:
            boots.setdefault(spooled.boot_of(name), []).append(name)
        here = clock.boot_id().replace("-", "")[:8]
        if len(boots) > 1:
            began = {boot: (boot == here, self._time_of(some[0])) for boot, some in boots.items()}
            return [name for boot in sorted(boots, key=began.__getitem__) for name in boots[boot]]
        return names

    def _time_of(self, name: str) -> int:
        try:
            return self._read(name, self._folder.open(name)).time_us
        except (NotWhole, Unusable, StoreUnavailable):
            return 0

    def _read(self, name: str, file: File | None) -> Entry:
        if file is None:
            raise NotWhole
        size = file.identity().size
        if size > entries.MOST_BYTES:
            raise Unusable(f"has {size:,} bytes, more than an event may have")
        return entries.read(name.removesuffix(spooled.EVENT), file.read(size, 0))

    # --- one event ---

    def _take(self, name: str) -> None:
        kind = self._folder.kind(name)
        if kind != "file":
            if kind is not None:
                self._set_aside(name, "is no regular file")
            return
        try:
            file = self._folder.open(name)
        except StoreUnavailable as error:
            self._leave(name, error)
            return
        if file is None:
            return
        try:
            self._take_file(name, file)
        finally:
            file.close()  # whoever keeps an error that is raised here would keep the lock as well

    def _take_file(self, name: str, file: File) -> None:
        if not file.try_lock():
            self._left += 1  # it is being written
            return
        try:
            self._hand_over(self._read(name, file))
        except NotWhole:
            self._clear(name, file)
        except Unusable as error:
            self._set_aside(name, str(error))
        except (*_NOT_HERE, *_SOON) as error:
            self._leave(name, error)
        except _NOT_NOW:
            raise
        except WaypostError as error:
            self._set_aside(name, f"is refused: {error} ({error.code})")
        else:
            self._remove(name)
            self._taken += 1

    def _hand_over(self, entry: Entry) -> None:
        taker = self._takers.get(entry.dialect)
        if taker is None:
            raise Unusable(f"is of the dialect {entry.dialect[:80]!r}, which nobody speaks")
        try:
            taker(self._definitions, entry)
        except (WaypostError, Unusable, MemoryError):
            raise
        except Exception as error:  # one event must not keep a store from being opened, nor any other from being taken
            _LOG.exception("%s: the event %s met an error of Waypost's own", self._path, entry.name)
            raise Unusable(f"met an error of Waypost's own: {type(error).__name__}: {error}") from error

    def _leave(self, name: str, error: WaypostError) -> None:
        self._left += 1
        _LOG.warning("%s: the event %s waits: %s", self._path, name, error)

    def _clear(self, name: str, file: File) -> None:
        """What nobody acknowledged: its writer died, or was only about to lock it and takes another name then."""
        if file.identity().size:
            self._set_aside(name, "is not whole: its writer died, and acknowledged nothing")
        else:
            self._remove(name)

    def _set_aside(self, name: str, reason: str) -> None:
        reason = " ".join(reason.split()).encode("utf-8", "replace").decode()  # it may repeat what the event says
        spooled.set_aside(self._folder, name, reason)
        self._remove(name)
        self._refused += 1
        _LOG.warning("%s: the event %s cannot be used: it %s", self._path, name, reason)

    def _remove(self, name: str) -> None:
        self._folder.remove(name)
        self._removed += 1
        if self._removed >= _SYNC_EVERY:
            self._folder.sync()
            self._removed = 0
