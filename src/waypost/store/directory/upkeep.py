"""Upkeep of a document, off the commit path: snapshots, compaction, relaxed syncs.

One thread for a store, started when there is something to do and gone when there is not. Whatever it does may be
cut off at any point, or fail, without anyone noticing but the log.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from waypost import clock
from waypost.codec.bodies import SnapshotBody
from waypost.codec.frame import Draft, FrameType
from waypost.errors import DocumentTooLarge
from waypost.store.directory import beside, checkpoints, compaction, loading, register, snapshots
from waypost.store.directory.compaction import Origin
from waypost.store.directory.context import Context
from waypost.store.directory.decisions import missing_from
from waypost.store.directory.document import Document
from waypost.store.directory.layout import new_file
from waypost.store.directory.log import Log
from waypost.store.directory.state import DocumentState, DocumentView, Snapshot
from waypost.store.erasures import Erasures
from waypost.store.kinds import DocumentId

_LOG = logging.getLogger("waypost")
_LINGER_S, _AGAIN_S = 0.5, 0.01
_APART_S = 1.0
_SHARE = 20
_COMPACT_FROM = 128 * 1024
_CLOSING_SHARE = 10
_OUTGROWN = 8
_COPY_BYTES = 1 << 20
_STAGING_US = 60 * 1_000_000


def take_snapshot(document: Document, context: Context, *, closing: bool = False) -> bool:
    """Append a snapshot if one is still due; whether one was appended."""
    _stand_on_newest(document, context)
    origin = _origin_of(document)
    is_due = document.snapshot_is_due_at_rest if closing else document.snapshot_is_due
    if origin is None or not is_due(document.state_now()):
        return False
    base = origin.base
    builder, compressed = snapshots.build_on(base, origin.view, origin.operations, context.quick_compressor())
    runs = snapshots.remembered(base, len(origin.operations), origin.view.standing.time_us)
    body = SnapshotBody(origin.end, origin.link, base.body.superseded + base.length, compressed, [], runs)
    draft = builder.draft(body)
    # a reader after a crash does not look at what a snapshot covers, so none may reach the disk before that
    origin.log.sync_to(origin.end)
    try:
        return _append_snapshot(document, context, origin, draft)
    finally:
        document.let_go_of_lock()


def _append_snapshot(document: Document, context: Context, origin: Origin, draft: Draft) -> bool:
    base = origin.base
    with document.lock:
        log = document.log_if_same(origin.log)
        if log is None or log.end + draft.length > log.limit:
            return False
        identity = log.lock()
        if identity is None:
            return False
        try:
            document.catch_up(log, identity.size)
            if log.base != (base.frame.offset if base.frame else 0):
                return False  # somebody else was faster
            (appended,) = log.append([(draft, origin.view.standing)], identity.size)
        finally:
            log.file.unlock()
        found = appended._replace(data=appended.data[: appended.header.blocks_offset])
        snapshot = Snapshot(loading.blocks_of(log, context), found)
        if not document.state_now().stand_on(snapshot, origin.view, origin.mark):
            document.adopt(loading.restand(log, document.id, context))
    return True


def _stand_on_newest(document: Document, context: Context) -> None:
    """When another process has taken a snapshot since this one's, go on from that."""
    with document.lock:
        log = document.log_if_usable()
        if log is None:
            return
        base = document.state_now().base
        if log.base and (base.frame is None or base.frame.offset != log.base):
            document.adopt(loading.restand(log, document.id, context))


def _origin_of(document: Document) -> Origin | None:
    with document.lock:
        log = document.log_if_usable()
        if log is None or log.end == 0:
            return None
        state = document.state_now()
        operations = list(state.operations_since_base)
        return Origin(log, state.view(), log.end, log.link, state.base, operations, state.mark())


def compaction_is_due(
    log: Log, state: DocumentState, context: Context, *, closing: bool, superseding: bool = False
) -> bool:
    """Whether what is no longer needed takes more than half of the file (a tenth when closing), or history outgrew
    its bound by an eighth; when `superseding`, the newest snapshot is no longer needed either. Not while somebody may
    be writing a value ahead, which compaction would make him begin again.
    """
    if not closing and clock.now_us() - log.ahead_us < _STAGING_US:
        return False
    superseded = state.base.body.superseded + log.ahead_bytes + (state.base.length if superseding else 0)
    if superseded > _COMPACT_FROM and superseded * (_CLOSING_SHARE if closing else 2) > log.end:
        return True
    history = log.end - superseded - (0 if superseding else state.base.length)
    bound = context.limit_bytes // 2
    most = bound + bound // _OUTGROWN  # compaction leaves up to the bound: the next commit must not make it due again
    # what stands for the versions that went may be far more than the state by now, and is none of history
    return history - state.standing.size_bytes > most and history - compaction.history_start(log) > most


def compact_if_due(document: Document, context: Context, *, closing: bool, superseding: bool = False) -> None:
    """Compact a log of which enough is no longer needed."""
    with document.lock:
        log = document.log_if_usable()
        is_due = log is not None and compaction_is_due(
            log, document.state_now(), context, closing=closing, superseding=superseding
        )
        erases = log is not None and compaction.erasing_is_due(log, document.state_now().view())
    if is_due or erases:
        compact(document, context, [] if erases else None)


def come_to_rest(document: Document, context: Context) -> None:
    """Leave a log, before it is let go of, as whoever opens it next reads it soonest and in the least bytes."""
    with document.lock:
        log = document.log_if_usable()
        # the snapshot before is not needed once there is another: then that is made by writing the log again
        superseded = log is not None and document.snapshot_is_due_at_rest(document.state_now())
    compact_if_due(document, context, closing=True, superseding=superseded)
    take_snapshot(document, context, closing=True)


def compact(document: Document, context: Context, removed: list[str] | None = None) -> bool:
    """Write the log again without what is no longer needed; whether it was replaced.

    Where `removed` is given all else that holds what is erased is seen to first, so that nothing does once the log is
    replaced; the files that went are added to it.
    """
    origin = _origin_of(document)
    if origin is None:
        return False
    # before the versions that they stand for may go
    document.keep_checkpoints(newest_only=False, dropping=origin.log.dropped_versions)
    erasing: _Erasing | None = None
    if removed is not None:
        if context.decisions.pieces_for(document.id):
            return False  # which hold frames of it, and go once they are carried out
        erasing = _begin_erasing(document, context, origin, removed)
    history = compaction.choose_history(origin, context)
    past: DocumentView | None = None
    if history.cut:
        past = loading.load_at(context, document.id, history.cut)
        if past is None:
            return False
    temp = context.layout.folder("temp")
    name, file = new_file(context.layout)
    try:
        out = compaction.rewrite(origin, context, file, past, history, erasing and erasing.until)
        behind = _carry_over(document, origin, out)
        file.sync_all()
        with document.lock:
            replaced = behind is not None and _switch(document, context, origin, out, name, behind, erasing)
    except DocumentTooLarge as error:
        _LOG.warning("%s %r cannot be made smaller: %s", document.id.kind, document.id.id, error)
        replaced = False
    finally:
        file.close()  # and with it the lock of the log that it is now, whoever may still refer to it
        document.let_go_of_lock()
        temp.remove(name)
    return replaced


class _Erasing(NamedTuple):
    """What a compaction carries out, and what it has to do before its log takes the old one's place."""

    until: dict[str, int]
    remove_leftovers: Callable[[], None]


def _begin_erasing(document: Document, context: Context, origin: Origin, removed: list[str]) -> _Erasing:
    """Take what is erased out of the files of checkpoints."""
    erasures = Erasures.of(origin.view)
    known = document.once_there(origin.log.dropped_versions) | set(checkpoints.names_in(origin.view))
    beside.scrub_checkpoints(context, origin.view, erasures, known)

    def remove_leftovers() -> None:
        removed.extend(beside.remove_leftovers(context, document.id, known))

    return _Erasing(erasures.until, remove_leftovers)


def _carry_over(document: Document, origin: Origin, out: compaction.Rewriter) -> tuple[int, int] | None:
    """Carry over what was appended meanwhile, without a lock while it is copied, so that little is left for the
    switch; where the rest begins, and what it links to. None when the log is another one by now.
    """
    with document.lock:
        log = document.log_if_same(origin.log)
        identity = log.lock() if log is not None else None
        if log is None or identity is None:
            return None
        try:
            document.catch_up(log, identity.size)  # under the file's lock, so that none of it is taken back
            behind = log.end, log.link
        finally:
            log.file.unlock()
    _copy_commits(origin, out, origin.end, origin.link, behind[0])
    return behind


def _copy_commits(origin: Origin, out: compaction.Rewriter, start: int, link: int, end: int) -> None:
    for found in origin.log.row(start, link, end):
        # a snapshot that came meanwhile speaks of offsets in the old file
        if found.header.type == FrameType.COMMIT and found.header.version > origin.view.version:
            out.copy(origin.log, found)


def _switch(
    document: Document,
    context: Context,
    origin: Origin,
    out: compaction.Rewriter,
    name: str,
    behind: tuple[int, int],
    erasing: _Erasing | None,
) -> bool:
    """Carry over the rest, and let the new file take the old one's place."""
    log = document.log_if_same(origin.log)
    identity = log.lock() if log is not None else None
    if log is None or identity is None:
        return False
    try:
        document.catch_up(log, identity.size)
        _copy_commits(origin, out, *behind, log.end)
        out.file.sync_all()
        if erasing is not None:
            erasing.remove_leftovers()  # with the lock held nobody keeps the old log, or bytes of it, elsewhere
        elif out.shortened:
            context.keep_generation(log)
        context.layout.folder("temp").move(name, log.folder, log.name)
        log.folder.sync()
    finally:
        log.file.unlock()
    document.turn_to_new_file()
    return True


def back_up(identifier: DocumentId, context: Context, version: int) -> bool:
    """Copy the log of a document as it is at a version into `backups`, durably; False when it is at another by now."""
    # what was decided and is still to be written belongs to that version
    pieces = context.decisions.pieces_for(identifier)
    log, state = loading.load(context, identifier)
    missing = missing_from(log, pieces)
    if missing:
        log, state = loading.load(context, identifier, decided=missing)
    if log is None or state.standing.version != version:
        return False
    if context.config.reliability.backup_retention:
        name, file = new_file(context.layout)
        try:
            # what stands before the end never changes, so no lock is needed
            for offset in range(0, log.end, _COPY_BYTES):
                file.write_all(log.file.read(min(_COPY_BYTES, log.end - offset), offset), offset)
            file.sync_all()
            if not _put_backup(context, log, name, f"{log.name}.v{version}"):
                return False
        finally:
            context.layout.folder("temp").remove(name)
    context.drop_backups(log.name, "v")
    return True


def _put_backup(context: Context, log: Log, name: str, backup: str) -> bool:
    """Give a copy of a log its place; False where the log was replaced meanwhile: something may be erased."""
    try:  # an interrupt can come right behind the lock
        if log.lock() is None:
            return False
        context.put_backup(name, backup)
    finally:
        log.file.unlock()
    return True


class _Ended(Exception):
    """A thread has nothing to do any more."""


class Upkeep:
    """Runs upkeep for the documents of a store in a thread of its own, which ends when it has nothing to do.

    `settle` carries decisions out, and says which are left. `period_s` is how often `tick` is called while the store is
    open; None for never.
    """

    def __init__(
        self, context: Context, tick: Callable[[], None], settle: Callable[[], frozenset[str]], period_s: float | None
    ) -> None:
        self._context = context
        self._register = register.Register(context)
        self._tick = tick
        self._settle = settle
        self._period_s = period_s
        self._wake = threading.Condition()
        self._due: dict[Document, None] = {}
        self._later: dict[Document, float] = {}
        self._unsettled = False
        self._settle_at = 0.0
        """Not before this are decisions carried out."""
        self._settle_pause_s = _AGAIN_S
        self._thread: threading.Thread | None = None
        self._closing = False

    def ask(self, document: Document) -> None:
        """Have a document looked after soon."""
        if document in self._due and self._thread is not None:
            return
        with self._wake:
            if self._closing:
                return
            self._due[document] = None
            self._start()
            self._wake.notify()

    def ask_to_settle(self) -> None:
        """Have decisions over several documents carried out soon."""
        if self._unsettled and self._thread is not None and not self._settle_at:
            return
        with self._wake:
            if self._closing:
                return
            self._unsettled, self._settle_at = True, 0.0
            self._start()
            self._wake.notify()

    def start_ticking(self) -> None:
        """Start the thread for its periodic work, if there is any."""
        if self._period_s is not None:
            with self._wake:
                if not self._closing:
                    self._start()

    def _start(self) -> None:
        """Have a thread for it. It is nobody's call that fails when none can be had: the next that asks tries again."""
        if self._thread is None:
            try:
                self._thread = threading.Thread(target=self._run, name="waypost-upkeep", daemon=True)
                self._thread.start()
            except (RuntimeError, MemoryError) as error:
                self._thread = None
                with suppress(MemoryError):
                    _LOG.warning("no upkeep for want of a thread: %s", error)
            except BaseException:
                self._thread = None  # one that was started all the same sees that it is not the one, and ends
                raise

    def _run(self) -> None:
        next_tick = time.monotonic() + (self._period_s or 0)
        try:
            while True:
                try:
                    next_tick = self._turn(next_tick)
                except MemoryError:
                    time.sleep(_AGAIN_S)  # it may be had by then
        except _Ended:
            pass
        finally:
            if self._thread is threading.current_thread():  # whoever asks next has another
                self._thread = None

    def _turn(self, next_tick: float) -> float:
        """Do what is due, or wait until something is; when to tick next. Raises _Ended when there is nothing to do."""
        with self._wake:
            if self._thread is not threading.current_thread():
                raise _Ended  # an interrupt came as it was started, and another may be at work
            if not self._due and not self._may_settle() and not self._closing:
                self._wake.wait(self._pause_s(next_tick))
            self._waken()
            if self._closing or not (self._due or self._later or self._unsettled or self._period_s is not None):
                self._thread = None
                raise _Ended
            document = next(iter(self._due), None)
            if document is not None:
                del self._due[document]
            settles = self._may_settle()
        if document is not None:
            self._look_after(document)
        if settles:
            self._carry_out()
        if self._period_s is not None and time.monotonic() >= next_tick:
            _attempt("syncing what was acknowledged", self._tick)
            return time.monotonic() + self._period_s
        return next_tick

    def _pause_s(self, next_tick: float) -> float:
        """How long to wait when there is nothing to do: until something is, or for the thread's end."""
        pause = _LINGER_S if self._period_s is None else next_tick - time.monotonic()
        later = [*self._later.values(), *([self._settle_at] if self._unsettled else [])]
        return max(0.0, min([pause, *(at - time.monotonic() for at in later)]))

    def _may_settle(self) -> bool:
        return self._unsettled and time.monotonic() >= self._settle_at

    def _carry_out(self) -> None:
        """Carry decisions out. What is left is tried again, after a moment first, since readers take longer until it is
        done, and ever later while it is the same, since what is in its way may stay there. New ones are not put off.
        """
        self._unsettled = False
        decisions, left = self._context.decisions, self._context.decisions.left

        def act() -> None:
            decisions.left = self._settle()

        is_done = _attempt("carrying decisions out", act)
        if is_done and not decisions.left:
            return
        is_same = not is_done or decisions.left == left
        self._settle_pause_s = min(2 * self._settle_pause_s, _APART_S) if is_same else _AGAIN_S
        with self._wake:
            self._unsettled, self._settle_at = True, time.monotonic() + self._settle_pause_s

    def _look_after(self, document: Document) -> None:
        def act() -> None:
            if document.is_to_keep:
                self._keep_checkpoints(document)
            take_snapshot(document, self._context)
            compact_if_due(document, self._context, closing=False)

        _attempt(f"upkeep of {document.id.kind} {document.id.id!r}", act)

    def _keep_checkpoints(self, document: Document) -> None:
        """Write the newest checkpoint out, a moment after the first was made or another was written out: whoever has a
        store open for no longer writes all of them as it is closed, and what that takes is taken once.
        """
        began = time.monotonic()
        if document.keep_again_at is None:
            document.keep_again_at = began + _APART_S
        if began < document.keep_again_at:
            self._later[document] = document.keep_again_at
            document.keeping_is_put_off = True
            return
        document.keep_again_at = began + _APART_S
        document.keep_checkpoints(newest_only=True)
        # where many checkpoints come and go each second, it must not slow the commits that make them
        document.keep_again_at = began + max(_APART_S, _SHARE * (time.monotonic() - began))
        self._register.look_after()

    def _waken(self) -> None:
        """Take up what was put off until now."""
        for document, at in list(self._later.items()):
            if time.monotonic() >= at:
                del self._later[document]
                document.keeping_is_put_off = False
                self._due[document] = None

    def close(self) -> None:
        """Finish what is being done, and do nothing more."""
        with self._wake:
            self._closing = True
            thread = self._thread
            self._wake.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._context.cache.clear()  # what is still to be written at closing has its room

    def after_fork(self) -> None:
        """In the child: the thread was not copied."""
        self.__init__(self._context, self._tick, self._settle, self._period_s)


def _attempt(what: str, act: Callable[[], None]) -> bool:
    """Do what harms nobody when it fails, and must not end the thread then; whether it did not."""
    try:
        act()
        return True
    except Exception as error:
        with suppress(MemoryError):
            _LOG.warning("%s failed: %s", what, error)
        return False
