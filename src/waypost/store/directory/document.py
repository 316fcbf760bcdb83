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
from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import RLock

from waypost import clock
from waypost.codec.bodies import file_draft
from waypost.codec.frame import Draft, FrameType, seal_draft
from waypost.errors import (
    DocumentTooLarge,
    LockTimeout,
    StoreClosed,
    StorePoisoned,
    StoreUnavailable,
    WaypostError,
)
from waypost.store.contract import Change, OnDone, Receipt
from waypost.store.directory.batch import Prepared, Ran, compose, conflicts, run
from waypost.store.directory.blocks import Blocks
from waypost.store.directory.checkpointed import CheckpointedDocument
from waypost.store.directory.content import Ahead
from waypost.store.directory.context import Context
from waypost.store.directory.log import NOTHING, Frame, Log
from waypost.store.directory.state import DocumentState, Snapshot
from waypost.store.directory.submission import Outcomes, Submission, see_off
from waypost.store.kinds import DocumentId
from waypost.store.values import ContentLost

_LOG = logging.getLogger("waypost")
PATIENCE = 16
_SEAL_TRIES = 2
_MOST_AT_HAND = 8
SNAPSHOT_FRAMES, SNAPSHOT_BYTES = 100, 64 * 1024
_SHARE_AT_REST, _LAST_RESORT = 4, 1.25
_MUCH_NEWS = 8 * 1024 * 1024


class Document(CheckpointedDocument):
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
        super().__init__(context, identifier)
        self._make_room = make_room
        self._ask_for_upkeep = ask_for_upkeep
        self._queue: deque[Submission] = deque()
        self._flying: set[Submission] = set()
        self.driver_is_due = False
        self.users = 0
        """How many calls are about it; counted with the lock of the list in which it is."""
        self._brought_due: tuple[int, int] | None = None
        """The place of the snapshot that a commit of this process left too far behind."""

    # --- changes ------------------------------------------------------------------------------

    def submit(self, change: Change, on_done: OnDone | None) -> Submission:
        submission = Submission(self.drive, change, on_done)
        self._queue.append(submission)
        return submission

    @property
    def has_work(self) -> bool:
        return bool(self._queue)

    @property
    def is_in_use(self) -> bool:
        """Whether something is being done with it, or queued."""
        return bool(self.users or self._queue or self._flying)

    def drive(self) -> None:
        """Carry out one batch of what is queued."""
        batch: list[Submission] = []
        try:
            with self.lock:
                self._take(batch)
                if not batch:
                    return
                try:
                    outcomes, log, covered = self._commit(batch)
                except DocumentTooLarge:
                    if len(batch) == 1:
                        raise
                    self._commit_each(batch)
                    return
            self._acknowledge(outcomes, log, covered)
        except Exception as error:
            if not batch:
                raise
            for submission in batch:
                submission.fail(_copy_of(error))
        finally:
            try:
                see_off(batch, self._flying)
            finally:
                self.let_go_of_lock()
                if batch:
                    self.look_after()

    def _take(self, batch: list[Submission]) -> None:
        """Take what is queued into a batch. What is there already was taken, or given up, and is only to be left out.

        Whatever interrupts it, what is in the batch is settled, and carried out by nobody later.
        """
        try:
            while self._queue and len(batch) < self._context.config.performance.batch_size:
                submission = self._queue[0]
                if not submission.taken:
                    batch.append(submission)
                    self._flying.add(submission)
                    submission.taken = True
                self._queue.popleft()
        except BaseException:
            if batch:
                batch[-1].taken = True
            raise

    def _acknowledge(self, outcomes: Outcomes, log: Log | None, covered: int) -> None:
        """Settle what was committed, once a sync covers it."""
        syncs = 0
        if log is not None and self._context.durable:
            syncs = self.sync_to(log, covered)
        for submission, outcome in outcomes:
            if isinstance(outcome, Receipt):
                outcome.counters.syncs += syncs
                submission.settle(outcome)
            else:
                submission.fail(outcome)

    def _commit(self, batch: list[Submission]) -> tuple[Outcomes, Log | None, int]:
        """Run and append a batch; what came of each, and how far the log must be synced for it."""
        self._check_open()
        try:
            return self._commit_or_fail(batch)
        except (DocumentTooLarge, StoreUnavailable, LockTimeout, StorePoisoned):
            raise  # they leave file and state as they were
        except BaseException:
            self.forget()
            raise

    def _commit_each(self, batch: list[Submission]) -> None:
        """One by one, so that a change that does not fit fails alone. Each is synced before the next is begun: what
        comes of that one must not say anything of those that were committed.
        """
        for submission in batch:
            try:
                self._acknowledge(*self._commit([submission]))
            except Exception as error:
                submission.fail(_copy_of(error))

    def _commit_or_fail(self, batch: list[Submission]) -> tuple[Outcomes, Log | None, int]:
        attempts, made_room = 0, False
        while True:
            attempts += 1
            if self._log is not None:
                self._log.check_poison()  # first: what cannot be read either is still of an unknown outcome
            state = self._current()
            ran = self._run(batch, state, attempts)
            if not ran.prepared:
                if attempts <= PATIENCE and self._was_behind(ran):
                    continue
                return ran.settled, self._log, self._log.data_end if self._log else 0
            state, log = self._current(), self.open_for_writing()
            try:
                done = self._append_unless_beaten(log, state, batch, ran, patient=attempts <= PATIENCE)
            except DocumentTooLarge:
                if made_room or not self._make_room(self):
                    raise
                made_room = True
                continue
            if done is not None:
                return done, log, log.end

    def _run(self, batch: list[Submission], state: DocumentState, attempts: int) -> Ran:
        before = state.standing.commit_id
        ran = run(batch, state, self._context, attempts)
        if state.is_torn:  # what one of them met as it read was taken for its own failure, and others went on reading
            raise MemoryError("memory ran out as a document was read")
        return ran._replace(is_overtaken=self._current().standing.commit_id != before)

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
            is_much = log.end and identity.size - log.end > _MUCH_NEWS
            if patient and is_much and not log.end_is_blank():
                # others wrote much ahead: it is checked while they can go on
                log.file.unlock()
                if conflicts(ran, self.catch_up(log)):
                    return None
                identity = log.lock()  # what is left is little, or what a dead writer left, cleared under the lock
                if identity is None:
                    self.forget()
                    return None
            news = self.catch_up(log, identity.size) if log.end else []
            if conflicts(ran, news):
                if patient:
                    return None
                state = self._current()
                ran = self._run(batch, state, PATIENCE + 1)
            if ran.prepared:
                self._append(log, state, ran.prepared, identity.size)
            return ran.settled + [(each.submission, each.receipt) for each in ran.prepared]
        finally:
            log.file.unlock()

    def _append(self, log: Log, state: DocumentState, prepared: list[Prepared], size: int) -> None:
        check_what_is_hidden(prepared, state)
        frames, data = compose(prepared, state, log)
        self.put(log, state, prepared, frames, data, size)

    def put(
        self, log: Log, state: DocumentState, prepared: list[Prepared], frames: list[Frame], data: bytes, size: int
    ) -> None:
        """Write composed frames, and bring the state to the version that they make.

        What fails behind the write has the document read again from disk, and says that its outcome is unknown.
        """
        log.put(data, size)
        try:
            self._take_in(log, state, prepared, frames)
        except BaseException as error:
            self.forget()
            if isinstance(error, WaypostError):
                error.details["outcome"] = "unknown"
            raise

    def _take_in(self, log: Log, state: DocumentState, prepared: list[Prepared], frames: list[Frame]) -> None:
        for found in frames:
            log.take_note(found)
        self._wrote = True
        before = state.frames, state.frame_bytes
        for each, found in zip(prepared, frames[-len(prepared) :], strict=True):
            self.note_removed(each, state)
            each.publish(found, state)
            self.note_made(each, state)
            log.ahead_bytes = max(0, log.ahead_bytes - sum(ahead.frame_bytes for ahead in each.ahead.values()))
        if _is_due(state.base, state.frames, state.frame_bytes) and not _is_due(state.base, *before):
            self._brought_due = state.base.place

    def append_ahead(self, draft: Draft, file_id: int, coming: Ahead) -> tuple[Frame, Blocks]:
        """Append blocks that a commit to come refers to; see `content.Append`. Nothing is synced."""
        with self.lock:
            self._check_open()
            try:
                return self._append_ahead(draft, file_id, coming)
            except DocumentTooLarge:
                # what was written ahead would be lost with the file, so room is made before the first of it
                size = self._current().standing.size_bytes + coming.length
                if file_id or size > self._context.limit_bytes or not self._make_room(self):
                    raise
                return self._append_ahead(draft, file_id, coming)
            finally:
                self.let_go_of_lock()  # not taken back, or an interrupt came right behind it

    def _append_ahead(self, draft: Draft, file_id: int, coming: Ahead) -> tuple[Frame, Blocks]:
        state = self._current()
        log = self.open_for_writing()
        log.check_poison()
        identity = log.lock()
        try:
            if identity is None or (log.end == 0 and not self._begin(log, state, identity.size)):
                self.forget()
                raise ContentLost(f"{log.file.name} was replaced")
            if log.end:
                self.catch_up(log, identity.size)
            if file_id not in (0, log.file_id):
                raise ContentLost(f"{log.file.name} was replaced")
            needed = max(log.end + coming.room, state.standing.size_bytes + coming.length)
            if needed > log.limit:
                raise log.too_large(needed)
            drafts = [(draft, state.standing._replace(time_us=clock.now_us()))]
            if log.end == 0 and log.body is not None:
                drafts.insert(0, (file_draft(log.body), NOTHING))
            found = log.append(drafts, identity.size)[-1]
        finally:
            log.file.unlock()
        self._wrote = True
        log.ahead_bytes += found.header.length
        return found, state.base.blocks

    # --- upkeep -------------------------------------------------------------------------------

    def look_after(self) -> None:
        """Ask for upkeep when there is some to do. It is nobody's commit that fails when none can be had."""
        state = self._state
        if state is not None and (self.is_to_keep or self.snapshot_is_due(state)):
            with suppress(MemoryError):
                self._ask_for_upkeep(self)

    def snapshot_is_due(self, state: DocumentState) -> bool:
        """Whether replay would cost more than a snapshot: about 100 frames, and as many bytes as the last one had.

        Whoever's commit it was that made it so takes it. Others wait for a quarter more: all who write the document
        would take the same one at once, which of eight took two fifths of the processor.
        """
        share = 1.0 if self._brought_due == state.base.place else _LAST_RESORT
        return _is_due(state.base, state.frames / share, state.frame_bytes / share)

    def snapshot_is_due_at_rest(self, state: DocumentState) -> bool:
        """The same before the document is let go of, for a quarter of the bytes: whoever opens it next would replay
        all of that at once, while nobody waits for this.
        """
        is_much = state.frames >= SNAPSHOT_FRAMES or state.frame_bytes >= SNAPSHOT_BYTES
        return self._wrote and is_much and _SHARE_AT_REST * state.frame_bytes >= state.base.length

    # --- coming to rest ---------------------------------------------------------------------------

    def release(self) -> None:
        """Seal and trim the log when this process wrote to it, and let go of file and memory; it can be used again."""
        if self._wrote and not self.is_poisoned:
            self.keep_checkpoints_if_possible()
        with self.lock:
            try:
                if self._wrote and (self._log is None or self._log.poisoned is None):
                    self._seal()
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
        try:
            with self.lock:
                while self.enter(wait=False) is None:
                    pass  # each time another has put a file in its place
                log = self.open_for_writing()
                self._context.decisions.place_for_good(self.id, log)
                log.file.unlock()
                covered = log.end
        except BaseException:
            self.let_go_of_lock()  # an interrupt can come right behind the lock
            raise
        self.sync_to(log, covered)

    def close(self) -> None:
        """As `release`, for good."""
        try:
            self.release()
        finally:
            self._closed = True

    def let_go(self) -> None:
        """Let go of file and memory for good, sealed or not. What is under way in another thread comes to its end."""
        self._closed = True
        with self.lock:
            self.forget()
            self._log, self._state = None, None  # also what is poisoned: nobody opens it here any more

    def after_fork(self) -> None:
        """In the child: locks may be held by threads that are not there, and queued changes belong to the parent."""
        self.lock = RLock()
        for submission in (*self._queue, *self._flying):
            submission.on_done = None
            submission.settle(StoreClosed("the change was handed in before a fork, and belongs to the parent"))
        self._queue.clear()
        self._flying.clear()
        self._wrote = self.driver_is_due = self.keeping_is_due = self.keeping_is_put_off = False
        self._log, self._state = None, None

    def _seal(self) -> None:
        for _ in range(_SEAL_TRIES):  # while others go on writing it is theirs to seal
            self._current()
            log = self.open_for_writing()
            if not log.end:
                continue  # another file was put in its place since it was read: that is read before it is locked
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


def check_what_is_hidden(prepared: Iterable[Prepared], state: DocumentState) -> None:
    """Read what a commit that clears everything will hide: what cannot be read is to be met before the write."""
    if any(each.body.cleared for each in prepared):
        for _ in state.view().keys():
            pass


def _is_due(base: Snapshot, frames: float, frame_bytes: float) -> bool:
    return (frames >= SNAPSHOT_FRAMES or frame_bytes >= SNAPSHOT_BYTES) and frame_bytes >= base.length


def _copy_of(error: BaseException) -> BaseException:
    """The same error for each waiter, so that their tracebacks do not grow into each other."""
    if not isinstance(error, WaypostError):
        return error
    again = type(error)(error.message, **error.details)
    again.__cause__ = error.__cause__
    return again
