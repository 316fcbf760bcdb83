"""One document of the store: changes go in as tickets, come out as frames, and are synced.

The story of a commit: a ticket joins the queue; whoever gets the document's lock takes a batch, runs each work on
the newest state known (`batch.run`), takes the file's lock, looks at what others have added since, and when that
touches what a work has read, lets go and runs the batch again. Then the frames are written with one positioned write,
the locks are released, and one sync covers the batch. Work that lost this race `PATIENCE` times is run with the file's
lock held, so that nobody starves.

Invariants: no user code under a lock, and no sync but to settle what a dead or failed writer left; the state in memory
is exactly the frames up to `log.end`; whatever interrupts a commit leaves no state behind but what is on disk, since
then the document is read again from there.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from threading import RLock

from waypost.codec.frame import FrameType, seal_draft
from waypost.errors import (
    DocumentTooLarge,
    LockTimeout,
    StoreClosed,
    StoreError,
    StorePoisoned,
    StoreUnavailable,
    WaypostError,
)
from waypost.store.contract import Change, Counters, DocumentId, Receipt, Ticket
from waypost.store.directory import loading
from waypost.store.directory.batch import Prepared, Ran, compose, conflicts, run
from waypost.store.directory.context import Context
from waypost.store.directory.decisions import Piece, missing_from
from waypost.store.directory.log import Frame, Log
from waypost.store.directory.state import DocumentState, DocumentView
from waypost.store.directory.submission import Outcomes, Submission

_LOG = logging.getLogger("waypost")
PATIENCE = 16
_SEAL_TRIES = 2
SNAPSHOT_FRAMES, SNAPSHOT_BYTES = 100, 64 * 1024


class Document:
    """An open document of a directory store. Safe to use from any thread.

    `ask_for_upkeep` has it looked after soon; `make_room` compacts it now, and says whether it did.
    """

    def __init__(
        self,
        context: Context,
        identifier: DocumentId,
        ask_for_upkeep: Callable[[Document], None],
        make_room: Callable[[Document], bool],
    ) -> None:
        self._context = context
        self._make_room = make_room
        self._ask_for_upkeep = ask_for_upkeep
        self.id = identifier
        self.lock = RLock()
        self._queue: deque[Submission] = deque()
        self._flying: set[Submission] = set()
        self._log: Log | None = None
        self._state: DocumentState | None = None
        self._wrote = False
        self._closed = False
        self.driver_is_due = False

    # --- changes ------------------------------------------------------------------------------

    def submit(self, change: Change, on_done: Callable[[Ticket], None] | None) -> Submission:
        submission = Submission(self.drive, change, on_done)
        self._queue.append(submission)
        return submission

    @property
    def has_work(self) -> bool:
        return bool(self._queue)

    def drive(self) -> None:
        """Carry out one batch of what is queued."""
        batch: list[Submission] = []
        try:
            with self.lock:
                while self._queue and len(batch) < self._context.config.performance.batch_size:
                    # in this order an interrupt in between leaves no submission that nobody settles
                    batch.append(self._queue[0])
                    self._flying.add(self._queue[0])
                    self._queue.popleft().taken = True
                if not batch:
                    return
                outcomes, log, covered = self._commit(batch)
            self._acknowledge(outcomes, log, covered)
        except Exception as error:
            for submission in batch:
                submission.settle(_copy_of(error))
        finally:
            for submission in batch:  # an interrupt belongs to the thread that it hit, and nobody else waits for ever
                submission.settle(StoreError("the commit was interrupted", outcome="unknown"))
                self._flying.discard(submission)
            self.let_go_of_lock()
        self.look_after()

    def _acknowledge(self, outcomes: Outcomes, log: Log | None, covered: int) -> None:
        """Settle what was committed, once a sync covers it."""
        syncs = 0
        if log is not None and self._context.durable:
            syncs = self.sync_to(log, covered)
        for submission, outcome in outcomes:
            if isinstance(outcome, Receipt):
                outcome.counters.syncs += syncs
            submission.settle(outcome)

    def sync_to(self, log: Log, covered: int) -> int:
        """Return once a log is synced so far; how many syncs that took. Raises StorePoisoned."""
        if covered > log.known_synced and log.may_hold_lost_pages and not self._context.layout.read_only:
            self._rewrite_unsynced(log)
        try:
            return log.sync_to(covered)
        except StorePoisoned:
            try:
                self._rewind(log)
            except WaypostError as error:  # it is read when it is needed; the caller must learn of the sync
                _LOG.warning("%s cannot be read either: %s", log.file.name, error)
            raise

    def _rewrite_unsynced(self, log: Log) -> None:
        """Before the first sync of a log that others wrote: write what no sync is on record for once more, as one who
        appends does. What a failed sync has lost is not covered by another.
        """
        with self.lock:
            if self._log is not log or log.poisoned is not None:
                return
            opened = self.open_for_writing()
            identity = opened.lock()
            if identity is None:
                return  # compacted by now, and with that written anew
            try:
                self.catch_up(opened, identity.size)
            finally:
                opened.file.unlock()

    def _commit(self, batch: list[Submission]) -> tuple[Outcomes, Log | None, int]:
        """Run and append a batch; what came of each, and how far the log must be synced for it."""
        self._check_open()
        try:
            return self._commit_or_fail(batch)
        except DocumentTooLarge:
            if len(batch) == 1:
                raise
            return self._commit_each(batch)
        except (StoreUnavailable, LockTimeout, StorePoisoned):
            raise  # they leave file and state as they were
        except BaseException:
            self.forget()
            raise

    def _commit_each(self, batch: list[Submission]) -> tuple[Outcomes, Log | None, int]:
        """One by one, so that a change that does not fit fails alone."""
        outcomes: Outcomes = []
        for submission in batch:
            try:
                outcomes += self._commit([submission])[0]
            except DocumentTooLarge as error:
                outcomes.append((submission, error))
        return outcomes, self._log, self._log.end if self._log else 0

    def _commit_or_fail(self, batch: list[Submission]) -> tuple[Outcomes, Log | None, int]:
        attempts, made_room = 0, False
        while True:
            attempts += 1
            if self._log is not None:
                self._log.check_poison()  # first: what cannot be read either is still of an unknown outcome
            state = self._current()
            ran = run(batch, state, self._context, attempts)
            if not ran.prepared:
                if attempts <= PATIENCE and self._was_behind(ran):
                    continue
                return ran.settled, self._log, self._log.data_end if self._log else 0
            log = self.open_for_writing()
            try:
                done = self._append_unless_beaten(log, state, batch, ran, patient=attempts <= PATIENCE)
            except DocumentTooLarge:
                if made_room or not self._make_room(self):
                    raise
                made_room = True
                continue
            if done is not None:
                return done, log, log.end

    def _was_behind(self, ran: Ran) -> bool:
        """Whether others have committed something that touches what a batch without commits has read."""
        if self._carried_out_what_was_decided():
            return True
        log = self._log
        if log is None or log.end == 0:
            self.forget()
            return self._current().standing.version > 0
        if not log.is_current():
            self.forget()
            return True
        return conflicts(ran, self.catch_up(log))

    def catch_up(self, log: Log, locked_size: int | None = None) -> list[Frame]:
        """Take in what others added; with the file's lock held, `locked_size` is the length of the file.

        Log and state move together: whatever interrupts this has the document read again from disk.
        """
        state = self._current()
        try:
            news = log.news() if locked_size is None else log.settled_news(locked_size)
            if locked_size is not None:
                decided = self._context.decisions.carry_out(self.id, log, locked_size)
                self._wrote |= bool(decided)
                news += decided
            for found in news:
                state.follow(found)
        except BaseException:
            self.forget()
            raise
        return news

    def _carried_out_what_was_decided(self) -> bool:
        """Whether something was decided for this document that its log lacked until now."""
        if not missing_from(self._log, self._context.decisions.pieces_for(self.id)):
            return False
        if self.enter() is not None:
            self.open_for_writing().file.unlock()
        return True

    def enter(self, *, wait: bool = True) -> int | None:
        """Take the file's lock and take in what others have added; the length of the file.

        None when that is to be tried again: another file has the name by now, or another made the log first.
        Raises LockTimeout; at once when it is not to `wait`.
        """
        state = self._current()
        log = self.open_for_writing()
        identity = log.lock(wait=wait)
        if identity is None:
            self.forget()
            return None
        try:
            if log.end:
                self.catch_up(log, identity.size)
            elif not self._begin(log, state, identity.size):
                self.forget()  # and with it the lock
                return None
        except BaseException:
            log.file.unlock()
            raise
        return identity.size

    def _append_unless_beaten(
        self, log: Log, state: DocumentState, batch: list[Submission], ran: Ran, *, patient: bool
    ) -> Outcomes | None:
        """Append what was prepared; None when others were faster and the works have to run again."""
        identity = log.lock()
        if identity is None:
            self.forget()
            return None
        try:
            if log.end == 0 and not self._begin(log, state, identity.size):
                self.forget()
                return None
            news = self.catch_up(log, identity.size) if log.end else []
            if news and conflicts(ran, news):
                if patient:
                    return None
                ran = run(batch, state, self._context, PATIENCE + 1)
            if ran.prepared:
                self._append(log, state, ran.prepared, identity.size)
            return ran.settled + [(each.submission, each.receipt) for each in ran.prepared]
        finally:
            log.file.unlock()

    def _begin(self, log: Log, state: DocumentState, size: int) -> bool:
        """Start a log that is still empty; False when another process did so first."""
        if size and log.first(size) is not None:
            return False
        log.begin(loading.first_body(self.id), size)
        if self._context.decisions.carry_out(self.id, log, size):
            return False  # it was decided that another made it
        state.base.blocks = loading.blocks_of(log, self._context)
        return True

    def _rewind(self, log: Log) -> None:
        """After a failed sync, show what is known to be on disk and nothing newer."""
        with self.lock:
            if self._log is log:
                self._state = None
                self._current()

    def _append(self, log: Log, state: DocumentState, prepared: list[Prepared], size: int) -> None:
        frames, data = compose(prepared, state, log)
        self.put(log, state, prepared, frames, data, size)

    def put(
        self, log: Log, state: DocumentState, prepared: list[Prepared], frames: list[Frame], data: bytes, size: int
    ) -> None:
        """Write composed frames, and bring the state to the version that they make."""
        log.put(data, size)
        for found in frames:
            log.take_note(found)
        self._wrote = True
        for each, found in zip(prepared, frames[-len(prepared) :], strict=True):
            each.publish(found, state)

    # --- reading ------------------------------------------------------------------------------

    def view(self, *, durable: bool, counters: Counters | None = None) -> DocumentView:
        """The newest version. Raises what opening and syncing raise."""
        with self.lock:
            self._check_open()
            # before the log is looked at: what is carried out by then is wholly in the log
            pieces = self._context.decisions.pieces_for(self.id)
            self._doubt_absence()
            state = self._current()
            log = self._log
            before = log.file.tally.bytes_read if log else 0
            if log is not None and log.poisoned is None and log.end:
                if not log.is_current():
                    self.forget()
                    state, log = self._current(), self._log
                if log is not None:
                    self.catch_up(log)
            view = state.view()
            if pieces and not self.is_poisoned:
                view = self._with_decided(view, log, pieces, durable=durable)
            covered = log.data_end if log else 0
            if counters is not None and log is not None:
                counters.reads += 1
                counters.bytes_read += log.file.tally.bytes_read - before
        if durable and log is not None and self._context.durable and log.poisoned is None:
            syncs = self.sync_to(log, covered)
            if counters is not None:
                counters.syncs += syncs
        return view

    def _with_decided(self, view: DocumentView, log: Log | None, pieces: list[Piece], *, durable: bool) -> DocumentView:
        """The version that was decided on, also where the log lacks it still."""
        missing = missing_from(log, pieces)
        if not missing:
            return view
        for piece in missing:
            if durable:
                self._context.decisions.confirm(piece.transaction_id)
        return loading.load(self._context, self.id, decided=missing)[1].view()

    def view_at(self, version: int) -> DocumentView | None:
        """An earlier version, rebuilt from the log; None where its history is gone."""
        with self.lock:
            self._check_open()
            if version == 0:
                return loading.empty_state(self.id).view()
            pieces = self._context.decisions.pieces_for(self.id)
            self._doubt_absence()
            self._current()
            if pieces and not self.is_poisoned:
                if self._log is not None and self._log.end:
                    self.catch_up(self._log)
                pieces = missing_from(self._log, pieces)
            return loading.load_at(self._context, self.id, version, decided=pieces)

    # --- the state and its file (with the lock held) --------------------------------------------

    def _doubt_absence(self) -> None:
        """Look again whether there is a document: somebody may have made it since."""
        if self._state is not None and self._state.standing.version == 0:
            self.forget()

    def _current(self) -> DocumentState:
        """The state in memory, read from disk when there is none."""
        if self._state is None:
            if self._log is not None:  # poisoned: what is known to be on disk, and nothing newer
                self._state = loading.read(self._log, self._context, self.id, up_to=self._log.known_synced)
            else:
                self._log, self._state = loading.load(self._context, self.id)
        return self._state

    def open_for_writing(self) -> Log:
        """The log, open for writing."""
        if self._log is None or not self._log.writable:
            self._log = loading.reopen_for_writing(self._context, self.id, self._log)
        return self._log

    def forget(self) -> None:
        """Drop what is in memory; the next use reads it from disk. What is poisoned stays so."""
        if self._log is not None:
            if self._log.poisoned is not None:
                return
            self._log.file.let_go()
        self._log, self._state = None, None

    def let_go_of_lock(self) -> None:
        """Give up the file when its lock could not be given back, since others wait for it."""
        log = self._log
        if log is not None and log.file.is_locked:
            with self.lock:
                if self._log is log and log.file.is_locked:
                    self.forget()

    @property
    def is_poisoned(self) -> bool:
        return self._log is not None and self._log.poisoned is not None

    def state_now(self) -> DocumentState:
        """The state as it is known, for upkeep."""
        with self.lock:
            return self._current()

    def log_if_usable(self) -> Log | None:
        """The log, when it was written to and can be written to again."""
        log = self._log
        return log if log is not None and log.writable and log.poisoned is None and not self._closed else None

    def log_if_same(self, log: Log) -> Log | None:
        """The log, when it still is the one that was known before."""
        return log if self.log_if_usable() is log else None

    def adopt(self, state: DocumentState) -> None:
        """Take the same version, as it stands on a newer snapshot."""
        self._state = state

    def memory_bytes(self) -> int:
        """About how much the state holds, not counting blocks in the shared cache."""
        state = self._state
        return 0 if state is None else 4096 + 3 * state.frame_bytes

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed(f"the store of {self.id.kind} {self.id.id!r} is closed")

    # --- upkeep -------------------------------------------------------------------------------

    def look_after(self) -> None:
        """Ask for upkeep when a snapshot is due. It is nobody's commit that fails when none can be had."""
        state = self._state
        if state is not None and self.snapshot_is_due(state):
            try:
                self._ask_for_upkeep(self)
            except RuntimeError as error:
                _LOG.warning("%s %r: no upkeep: %s", self.id.kind, self.id.id, error)

    @staticmethod
    def snapshot_is_due(state: DocumentState) -> bool:
        """Whether replay would cost more than a snapshot: about 100 frames, and as many bytes as the last one had."""
        behind = state.frame_bytes
        return (state.frames >= SNAPSHOT_FRAMES or behind >= SNAPSHOT_BYTES) and behind >= state.base.length

    def sync(self) -> None:
        """Sync what was appended so far (for stores that acknowledge before the sync)."""
        log = self._log
        if log is not None and log.poisoned is None and self._wrote:
            log.sync_to(log.end)

    def release(self) -> None:
        """Seal and trim the log when this process wrote to it, and let go of file and memory; it can be used again."""
        with self.lock:
            try:
                if self._wrote and (self._log is None or self._log.poisoned is None):
                    self._current()
                    self._seal(self.open_for_writing())
            finally:
                self._wrote = False
                self.forget()

    def make_room(self) -> bool:
        """Have the log compacted now; whether that was done."""
        return self._make_room(self)

    def settle(self) -> None:
        """Write what was decided for this document, and sync it.

        Raises LockTimeout at once when another holds the lock: whoever does sees to it, and readers here must not wait.
        """
        with self.lock:
            while self.enter(wait=False) is None:
                pass  # each time another has put a file in its place
            log = self.open_for_writing()
            log.file.unlock()
            covered = log.end
        if self._context.durable:
            self.sync_to(log, covered)

    def close(self) -> None:
        """As `release`, for good."""
        try:
            self.release()
        finally:
            self._closed = True

    def after_fork(self) -> None:
        """In the child: locks may be held by threads that are not there, and queued changes belong to the parent."""
        self.lock = RLock()
        for submission in (*self._queue, *self._flying):
            submission.on_done = None
            submission.settle(StoreClosed("the change was handed in before a fork, and belongs to the parent"))
        self._queue.clear()
        self._flying.clear()
        self._wrote = False
        self.driver_is_due = False
        self._log, self._state = None, None

    def _seal(self, log: Log) -> None:
        for _ in range(_SEAL_TRIES):  # while others go on writing it is theirs to seal
            log.sync_to(log.end)
            identity = log.lock()
            if identity is None:
                return
            try:
                self.catch_up(log, identity.size)
                is_sealed = log.last_type == FrameType.SEAL
                if log.known_synced < log.end and not is_sealed:
                    continue  # somebody appended after the sync
                if not is_sealed:
                    log.append([(seal_draft(), self._current().standing)], identity.size)
                log.trim()
            finally:
                log.file.unlock()
            log.file.sync_all()
            return


def _copy_of(error: BaseException) -> BaseException:
    """The same error for each waiter, so that their tracebacks do not grow into each other."""
    if not isinstance(error, WaypostError):
        return error
    again = type(error)(error.message, **error.details)
    again.__cause__ = error.__cause__
    return again
