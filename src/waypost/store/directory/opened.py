"""A document that is open: its log and the state in memory, read, brought up to date, and made ready to be written.

The state is exactly the frames up to `log.end`: both move together, and whatever interrupts that has the document read
again from disk. `document` commits through it.
"""

from __future__ import annotations

from threading import RLock

from waypost.errors import StoreClosed, StoreUnavailable
from waypost.store.contract import Counters
from waypost.store.directory import loading
from waypost.store.directory.context import Context
from waypost.store.directory.decisions import Piece, may_be_missing_from, missing_from
from waypost.store.directory.log import Frame, Log
from waypost.store.directory.state import DocumentState, DocumentView
from waypost.store.kinds import DocumentId


class OpenDocument:
    """The log of a document and its newest state. `view`, `view_at` and `sync_to` may be called from any thread."""

    def __init__(self, context: Context, identifier: DocumentId) -> None:
        self._context = context
        self.id = identifier
        self.lock = RLock()
        self._log: Log | None = None
        self._state: DocumentState | None = None
        self._wrote = False
        self._closed = False

    # --- reading ------------------------------------------------------------------------------

    def view(self, *, durable: bool, counters: Counters | None = None) -> DocumentView:
        """The newest version. Raises what opening and syncing raise."""
        with self.lock:
            self._check_open()
            # before the log is looked at: what is carried out by then is wholly in the log
            pieces = self._context.decisions.pieces_for(self.id)
            self._doubt_absence()
            self._rewind()
            held, known = self._log, self._state
            before = held.file.tally.bytes_read if held else 0
            state = self._current()
            log = self._log
            if log is not None and log.poisoned is None and log.end:
                if not log.is_current():
                    self.forget()
                    state, log = self._current(), self._log
                if log is not None:
                    self.catch_up(log)
            view: DocumentView | None = state.view()
            if self.is_poisoned and log is not None:  # it may not reach to where the newest of them stand
                pieces = [piece for piece in pieces if piece.offset <= log.end]
            if pieces:
                view = self._with_decided(state.view(), log, pieces, durable=durable)
            covered = log.data_end if log else 0
            if counters is not None and log is not None:
                counters.reads += 1
                counters.hits += known is self._state
                counters.bytes_read += log.file.tally.bytes_read - (before if log is held else 0)
        if view is None:
            return self.view(durable=durable, counters=counters)
        # poisoned since it was read, it is refused; what was so before is at what is known to be durable
        if durable and log is not None and self._context.durable and (not log.poisoned or covered > log.known_durable):
            syncs = self.sync_to(log, covered)
            if counters is not None:
                counters.syncs += syncs
        return view

    def _with_decided(
        self, view: DocumentView, log: Log | None, pieces: list[Piece], *, durable: bool
    ) -> DocumentView | None:
        """The version that was decided on, also where the log lacks it still; None where it lacks it no more."""
        missing = missing_from(log, pieces)
        if not missing:
            return view
        for piece in missing:
            if durable and not self._context.decisions.confirm(piece.transaction_id):
                return None
        return loading.load(self._context, self.id, decided=missing)[1].view()

    def view_at(self, version: int) -> DocumentView | None:
        """An earlier version, rebuilt from the log; None where its history is gone."""
        with self.lock:
            self._check_open()
            if version == 0:
                return loading.empty_state(self.id).view()
            pieces = self._context.decisions.pieces_for(self.id)
            self._doubt_absence()
            self._rewind()
            recent = self._recent(version)
            if recent is not None:
                return recent
            if self.is_poisoned and version > self._current().standing.version:
                return None  # the file may hold it, and nobody knows whether the disk does
            if pieces and not self.is_poisoned:
                if self._log is not None and self._log.end:
                    self.catch_up(self._log)
                pieces = missing_from(self._log, pieces)
            return loading.load_at(self._context, self.id, version, decided=pieces)

    # --- the state and its file (with the lock held) --------------------------------------------

    def _recent(self, version: int) -> DocumentView | None:
        """A version of the last commits, or since the newest snapshot; None for others, and where the log is another
        by now.

        Each write asks for the version that it made, and must not pay for all that was ever committed.
        """
        state, log = self._current(), self._log
        if version > state.standing.version:
            return None
        if log is None or not log.end or log.poisoned is not None or not log.is_current():
            return None
        if version == state.standing.version:
            return state.view()
        earlier = state.earlier(version)
        if earlier is None and version >= state.base.standing.version:
            earlier = loading.read_on(log, state, version)
        return earlier

    def _rewind(self) -> None:
        """After a failed sync, whoever's it was, have what is known to be on disk read again, and nothing newer.

        By who looks, and with the lock held: who is writing by then goes on from what he has.
        """
        log = self._log
        if log is not None and log.poisoned is not None and log.end > log.known_durable:
            self._state = None

    def _doubt_absence(self) -> None:
        """Look again whether there is a document: somebody may have made it since."""
        if self._state is not None and self._state.standing.version == 0:
            self.forget()

    def _current(self) -> DocumentState:
        """The state in memory, read from disk when there is none."""
        if self._state is not None and self._state.is_torn:
            self.forget()
            self._state = None
        log = self._log
        if self._state is not None and self._state.standing.version and log is not None and not log.end:
            self.forget()  # another file was opened in the log's place, and its lock could not be had
        if self._state is None:
            if self._log is not None:  # poisoned: what is known to be on disk, and nothing newer
                self._log.synced = self._log.known_durable  # the frames that are read again may record less
                self._log.end = self._log.data_end = 0
                self._state = loading.read(self._log, self._context, self.id, up_to=self._log.synced)
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

    def turn_to_new_file(self) -> None:
        """Another file was put in the log's place, and is to be closed by whoever put it there."""
        self._wrote = True
        self.forget()

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
        """The log, when it was written to and can be written to again, and what is known of it can be gone on from."""
        if self._state is not None and self._state.is_torn:
            self.forget()
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

    def catch_up(self, log: Log, locked_size: int | None = None) -> list[Frame]:
        """Take in what others added; with the file's lock held, `locked_size` is the length of the file.

        Log and state move together: whatever interrupts this has the document read again from disk. Raises
        StoreUnavailable where it had to be read again before: with the log that was known went its lock.
        """
        state = self._current()
        if self._log is not log:
            raise StoreUnavailable(f"{log.file.name} had to be read again, and nothing was changed", file=log.file.name)
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
        self._doubt_absence()  # a log that could not be begun, its lock not being had, is not read yet
        if not may_be_missing_from(self._log, self._context.decisions.pieces_for(self.id)):
            return False
        if self.enter() is not None:
            self.open_for_writing().file.unlock()
        return True

    def missing(self) -> list[Piece]:
        """What was decided for this document and is not in its log yet."""
        pieces = self._context.decisions.pieces_for(self.id)  # before the log is looked at
        with self.lock:
            self._current()
            if pieces and self._log is not None and self._log.end and not self.is_poisoned:
                self.catch_up(self._log)  # else it need not reach to where the pieces stand
            return missing_from(self._log, pieces)

    def enter(self, *, wait: bool = True) -> int | None:
        """Take the file's lock and take in what others have added; the length of the file.

        None when that is to be tried again: another file has the name by now, or another made the log first.
        Raises StorePoisoned, LockTimeout; the latter at once when it is not to `wait`.
        """
        if self._log is not None:
            self._log.check_poison()
        state = self._current()
        log = self.open_for_writing()
        identity = log.lock(wait=wait)
        if identity is None:
            self.forget()
            return None
        try:
            if log.end:
                self.catch_up(log, identity.size)
            elif not self._begin(log, state, identity.size, wait=wait):
                self.forget()  # and with it the lock
                return None
        except BaseException:
            log.file.unlock()
            raise
        return identity.size

    def _begin(self, log: Log, state: DocumentState, size: int, *, wait: bool = True) -> bool:
        """Start a log that is still empty; False when another process did so first."""
        if size and log.first(size) is not None:
            return False
        if self._context.decisions.place(self.id, log, wait=wait):
            return False  # it was decided that it arrives whole
        log.begin(loading.first_body(self.id), size)
        if self._context.decisions.carry_out(self.id, log, size):
            return False  # it was decided that another made it
        state.base.blocks = loading.blocks_of(log, self._context)
        return True

    def sync_to(self, log: Log, covered: int) -> int:
        """Return once a log is synced so far; how many syncs that took. Raises StorePoisoned."""
        if covered > log.known_synced and log.may_hold_lost_pages and not self._context.layout.read_only:
            self._rewrite_unsynced(log)
        return log.sync_to(covered)

    def _rewrite_unsynced(self, log: Log) -> None:
        """Before the first sync of a log that others wrote: write what no sync is on record for once more, as one who
        appends does. What a failed sync has lost is not covered by another.
        """
        with self.lock:
            self._current()
            if self._log is not log or log.poisoned is not None:
                return
            opened = self.open_for_writing()
            try:
                identity = opened.lock() if opened is log else None
                if identity is None:
                    self.forget()  # compacted by now, and with that written anew
                    return
                self.catch_up(opened, identity.size)
                opened.file.unlock()
            except BaseException:
                self.let_go_of_lock()  # an interrupt can come right behind the lock
                raise
