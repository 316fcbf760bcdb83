"""A change on its way through a document: queued, taken by whoever has the lock, settled once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Lock

from waypost.errors import WaypostError
from waypost.store.contract import Change, Counters, Receipt, Ticket

_LOG = logging.getLogger("waypost")


class Submission:
    """A change on its way; fulfils `contract.Ticket`. `drive` carries out a batch of what is queued."""

    __slots__ = ("_done", "_drive", "change", "counters", "is_new", "on_done", "outcome", "queued_ns", "taken")

    def __init__(self, drive: Callable[[], None], change: Change, on_done: Callable[[Ticket], None] | None) -> None:
        self._drive = drive
        self._done = Lock()
        self._done.acquire()
        self.change = change
        self.on_done = on_done
        self.outcome: Receipt | BaseException | None = None
        self.counters = Counters()
        self.queued_ns = time.perf_counter_ns()
        self.taken = False
        self.is_new = not change.repeatable
        """Whether no earlier call can have carried it out: its operation id was looked for, and not found."""

    def fail(self, error: BaseException) -> None:
        """Settle it with what kept it from being carried out."""
        if not self.is_new and isinstance(error, WaypostError):
            error.details.setdefault("outcome", "unknown")  # an earlier call of that id may have been committed
        self.settle(error)

    def settle(self, outcome: Receipt | BaseException) -> None:
        if self.outcome is None:
            self.outcome = outcome
            self._done.release()
            if self.on_done is not None:
                try:
                    self.on_done(self)
                except Exception:  # it is the caller's, and the others of the batch wait
                    _LOG.exception("a callback of a commit failed")

    def result(self) -> Receipt:
        while self.outcome is None and not self.taken:
            self._drive()
        if self.outcome is None:
            self._done.acquire()
            self._done.release()
        assert self.outcome is not None
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


Outcomes = list[tuple[Submission, Receipt | Exception]]
