"""A change on its way through a document: queued, taken by whoever has the lock, settled once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock

from waypost.errors import StoreError, WaypostError
from waypost.store.contract import Change, Counters, OnDone, Receipt

_LOG = logging.getLogger("waypost")
_INTERRUPTED = StoreError("the commit was interrupted", outcome="unknown")


class Submission:
    """A change on its way; fulfils `contract.Ticket`. `drive` carries out a batch of what is queued."""

    __slots__ = ("_done", "_drive", "change", "counters", "is_new", "on_done", "outcome", "queued_ns", "taken")

    def __init__(self, drive: Callable[[], None], change: Change, on_done: OnDone | None) -> None:
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

    def result(self) -> Receipt:
        try:
            while self.outcome is None and not self.taken:
                self._drive()
        except BaseException:
            if not self.taken:
                self.taken = True  # nobody waits for it any more, and nobody else is to carry it out later
                self.settle(_INTERRUPTED)
            raise
        if self.outcome is None:
            self._done.acquire()
            self._done.release()
        assert self.outcome is not None
        if self.outcome is _INTERRUPTED:  # one for all: whoever raises it has an error of his own
            raise StoreError(_INTERRUPTED.message, **_INTERRUPTED.details)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def see_off(batch: Sequence[Submission], flying: set[Submission]) -> None:
    """Settle what nobody has settled, and tell of all of the batch, also where an interrupt comes in between."""
    try:
        finish(batch, flying)
        tell(batch)
    except BaseException:
        finish(batch, flying)
        tell(batch)  # who was told is not told again
        raise


def finish(batch: Sequence[Submission], flying: set[Submission]) -> None:
    """Settle what nobody has settled. It asks for no memory, since that may be out, and others wait."""
    number = 0
    while number < len(batch):
        submission = batch[number]
        if submission.outcome is None:  # an interrupt belongs to the thread that it hit, and nobody else waits for ever
            submission.settle(_INTERRUPTED)
        flying.discard(submission)
        number += 1


def tell(batch: Sequence[Submission]) -> None:
    """Tell that the submissions of a batch are done, whoever asked for it: in one call for all of his.

    Everyone is told once, whatever comes of telling others; an interrupt is raised when all were.
    """
    try:
        told = _by_callback(batch)
    except MemoryError:
        told = None
    escaped: BaseException | None = None
    number = 0  # and no iterators, which need memory
    while number < len(batch if told is None else told):
        try:
            if told is not None:
                on_done, tickets = told[number]
                _be_silent(tickets)
                on_done(tickets)
            elif (alone := batch[number].on_done) is not None:
                batch[number].on_done = None
                alone((batch[number],))
        except Exception:  # it is the caller's, and others wait
            with suppress(MemoryError):
                _LOG.exception("a callback of a commit failed")
        except BaseException as error:
            escaped = error
        number += 1
    if escaped is not None:
        raise escaped


def _be_silent(tickets: Sequence[Submission]) -> None:
    number = 0
    while number < len(tickets):
        tickets[number].on_done = None
        number += 1


def _by_callback(batch: Sequence[Submission]) -> Sequence[tuple[OnDone, Sequence[Submission]]]:
    told: dict[int, tuple[OnDone, list[Submission]]] = {}
    for each in batch:
        if each.on_done is not None:  # by which one it is, since not each can be hashed
            told.setdefault(id(each.on_done), (each.on_done, []))[1].append(each)
    return list(told.values())


Outcomes = list[tuple[Submission, Receipt | Exception]]
