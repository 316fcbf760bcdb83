"""What was committed since somewhere, and what is committed next: events of all workflows, in order, each once.

Invariants:

* Nothing is buffered but what is being told: events are read from history, from the version behind the one that was
  told last. So nothing is missed, whatever happens between two looks.
* A position moves when its event is handed out, and only then. What fails in between is read again.
* What was told is compared with history by its commit id: a history that was exchanged is never taken for the next
  part of the old one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heapify, heappop, heapreplace
from typing import Any, NamedTuple, cast

from msgspec import structs

from waypost import history, records
from waypost.cursors import BEGINNING, MARK_BYTES, START, Position, Positions, read
from waypost.errors import DocumentDamaged, StoreClosed
from waypost.history import HistoryEntry
from waypost.store import Commit, DocumentId, Past, Store

logger = logging.getLogger("waypost")

_WAIT_S, _INTAKE_S = 60.0, 0.5
"""How long it waits at once, also where events of other programs may come in."""
_MOST_AT_ONCE, _LEAST_AT_ONCE = 4096, 8
"""So many events of all workflows that changed are read ahead, but not fewer than that of one."""
_REMEMBERED = 64


class CommitEvent(HistoryEntry, frozen=True, kw_only=True, dict=True):
    """What a watch tells of: a commit, as an entry of `history()`, and the statuses of the steps that it wrote.

    With `kept` false it is a version that history no longer holds. With `taken_back_from` it is no commit: of what was
    told of the workflow, the versions after `version`, up to that one, are no longer there. `cursor` is a text from
    which `watch` goes on behind this event.
    """

    workflow_id: str
    statuses: Mapping[str, str] = {}
    taken_back_from: int | None = None

    @property
    def cursor(self) -> str:
        """Where a watch goes on behind this event."""
        made = vars(self)
        if "_cursor" not in made:
            made["_cursor"] = cast("Callable[[], str]", made.pop("_here"))()
        return made["_cursor"]


class _Told(NamedTuple):
    """An event that is to be handed out: when it happened, and the position behind it."""

    time_us: int
    event: CommitEvent
    position: Position


class _Follower:
    """What is still to be told of one workflow in one round: all up to the version that it has when it is first read.

    Without a position it begins at the oldest version that history holds.
    """

    def __init__(
        self, store: Store, workflow_id: str, at: Position | None, known: Iterable[Position], most: int
    ) -> None:
        self.document = DocumentId("workflow", workflow_id)
        self.at = at
        """The position behind all that was read."""
        self.began = at
        self._store = store
        self._known = known
        self._most = most
        self._target: int | None = None
        self._time_us = 0
        self._read: deque[_Told] = deque()

    def next(self) -> _Told | None:
        """The next event; None when there is no more."""
        if not self._read and (self.at is None or self._target is None or self.at.version < self._target):
            self._read_on()
        return self._read.popleft() if self._read else None

    def _read_on(self) -> None:
        past = self._store.past(self.document)
        if self.at is None:
            self.at = self.began = _oldest(past)
        at = self.at
        found, here = _since(past, at.version, self._most)
        if not _is_so(past, at, here):
            self._tell_taken_back(past, at)
            return
        if self._target is None:
            self._target = past.version
        for version in range(at.version + 1, min(past.first, at.version + self._most) + 1):
            entry = history.dropped(past, version)
            self._tell(structs.asdict(entry), Position(version, _mark(past.dropped_id(version))))
        for commit in found:
            if commit.version == self.at.version + 1 and commit.version <= self._target:
                self._time_us = max(self._time_us, commit.time_us)
                entry = structs.asdict(history.entry(self.document, commit))
                self._tell(
                    {**entry, "statuses": history.statuses(commit)}, Position(commit.version, _mark(commit.commit_id))
                )

    def _tell_taken_back(self, past: Past, told: Position) -> None:
        """Begin where what was told and what is there part."""
        known = (each for each in self._known if each.mark and each.version < told.version)
        parting = next((each for each in known if _is_so(past, each, None)), _oldest(past))
        self._target = past.version
        entry = HistoryEntry(version=parting.version, kept=parting.version > past.first)
        self._tell({**structs.asdict(entry), "taken_back_from": told.version}, parting)

    def _tell(self, fields: Mapping[str, Any], position: Position) -> None:
        event = CommitEvent(workflow_id=self.document.id, **fields)
        self._read.append(_Told(self._time_us, event, position))
        self.at = position


def _oldest(past: Past) -> Position:
    """The position in front of the oldest commit that is kept."""
    return Position(past.first, _mark(past.dropped_id(past.first)) if past.first else b"")


def _mark(commit_id: bytes | None) -> bytes:
    return b"" if commit_id is None else commit_id[:MARK_BYTES]


def _since(past: Past, version: int, most: int) -> tuple[list[Commit], Commit | None]:
    """The next commits behind a version, at most so many, the oldest first; and that of the version itself."""
    found: list[Commit] = []
    for commit in past.commits(before=max(version, past.first) + most + 1):
        if commit.version <= version:
            return found[::-1], commit
        found.append(commit)
    return found[::-1], None


def _is_so(past: Past, position: Position, commit: Commit | None) -> bool:
    """Whether a document was, at that version, what it was told to be. What is not known is believed."""
    if position.version > past.version:
        return False
    if not position.version or not position.mark:
        return True
    if commit is None and position.version > past.first:
        commit = next(past.commits(before=position.version + 1), None)
    commit_id = past.dropped_id(position.version) if commit is None else commit.commit_id
    return commit_id is None or _mark(commit_id) == position.mark


class Watch:
    """What is committed, event by event, for `with` and `for`: it waits for the next one, until it or its handle is
    closed. One thread at a time is given an event; `close` may be called from any.
    """

    def __init__(
        self,
        store: Store,
        workflow_id: str | None,
        cursor: str | None,
        take_in: Callable[[], None] | None = None,
    ) -> None:
        """`take_in` makes commits of what other programs left, and is called before each look."""
        self._take_in = take_in
        self._only = None if workflow_id is None else records.validate_id(workflow_id, "workflow id")
        self._store = store
        given = None if cursor is None or cursor == START else read(cursor, self._only)
        self._lock = threading.Lock()
        self._ended = False
        self._stamps: dict[str, bytes] = {}
        self._known: dict[str, deque[Position]] = {}
        self._unread: dict[str, str] = {}
        """Workflows that could not be read, and why."""
        self._round: Iterator[CommitEvent] | None = None
        self._is_due = True
        # before the positions are taken, so that no commit comes in between
        document = None if self._only is None else DocumentId("workflow", self._only)
        self._listener = store.listen(document)
        self._from_start = cursor == START
        try:
            self._positions = Positions(self._only, self._now() if cursor is None else given or {})
        except BaseException:
            self._listener.close()
            raise

    @property
    def cursor(self) -> str:
        """Where a watch goes on behind the last event that was handed out; at first, where this one began."""
        return self._positions.here()()

    def get(self, timeout_s: float | None = None) -> CommitEvent | None:
        """The next event; None when there is none within that time, or the watch has ended.

        Raises DocumentDamaged for the only workflow that is watched, StoreUnavailable; it may be called again.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        if not self._lock.acquire(timeout=-1 if timeout_s is None else timeout_s):
            return None
        try:
            return self._next_event(until)
        except StoreClosed:
            self.close()
            return None
        finally:
            self._lock.release()

    def _next_event(self, until: float | None) -> CommitEvent | None:
        most = _WAIT_S if self._take_in is None else _INTAKE_S
        while not self._ended:
            if self._take_in is not None and self._round is None:
                self._take_in()
            event = self._take() if self._is_due else None
            if event is not None:
                return event
            left = most if until is None else max(0.0, min(most, until - time.monotonic()))
            if self._listener.wait(left):
                self._is_due = True
            elif until is not None and time.monotonic() >= until:
                return None
        return None

    @property
    def has_ended(self) -> bool:
        """Whether it, or its handle, was closed: then there are no more events."""
        return self._ended

    def close(self) -> None:
        """End it, and what waits for it in another thread. May be called twice."""
        self._ended = True
        self._listener.close()

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> CommitEvent:
        event = self.get()
        if event is None:
            raise StopIteration
        return event

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- rounds ---

    def _take(self) -> CommitEvent | None:
        """The next event of this round; None at its end."""
        if self._round is None:
            self._round = self._tell()
        try:
            event = next(self._round, None)
        except BaseException:
            self._round = None
            raise
        if event is None:
            self._round = None
            self._is_due = False
        return event

    def _now(self) -> dict[str, Position]:
        """The position of each workflow as it is now. What cannot be read is told of from its beginning."""
        if self._only is not None:
            view = self._store.view(DocumentId("workflow", self._only))
            return {self._only: Position(view.version, _mark(view.commit_id) if view.version else b"")}
        found: dict[str, Position] = {}
        for workflow_id, stamp in self._store.glance("workflow"):
            try:
                view = self._store.peek(DocumentId("workflow", workflow_id))
            except DocumentDamaged as error:
                self._leave_out(workflow_id, error)
                continue
            found[workflow_id] = Position(view.version, _mark(view.commit_id))
            self._stamps[workflow_id] = stamp
        return found

    def _tell(self) -> Iterator[CommitEvent]:
        """All that was committed since, sorted by time as far as the order of versions lets it."""
        heads: list[tuple[int, str, _Told, _Follower, bytes]] = []
        for follower, stamp in self._followers():
            told = self._more(follower, stamp)
            if told is not None:
                heads.append((told.time_us, follower.document.id, told, follower, stamp))
        self._from_start = False
        heapify(heads)
        while heads:
            _, workflow_id, told, follower, stamp = heads[0]
            self._positions.move(workflow_id, told.position)
            self._known[workflow_id].appendleft(told.position)
            vars(told.event)["_here"] = self._positions.here()
            yield told.event
            following = self._more(follower, stamp)
            if following is None:
                heappop(heads)
            else:
                heapreplace(heads, (following.time_us, workflow_id, following, follower, stamp))

    def _followers(self) -> list[tuple[_Follower, bytes]]:
        """One for each workflow that may have changed, with the stamp that it had before it is read."""
        changed = [(workflow_id, stamp) for workflow_id, stamp in self._changed() if self._is_news(workflow_id, stamp)]
        most = max(_LEAST_AT_ONCE, _MOST_AT_ONCE // max(1, len(changed)))
        made: list[tuple[_Follower, bytes]] = []
        for workflow_id, stamp in changed:
            at = self._positions.told.get(workflow_id, None if self._from_start else BEGINNING)
            known = self._known.setdefault(workflow_id, deque([at] if at else [], _REMEMBERED))
            made.append((_Follower(self._store, workflow_id, at, known, most), stamp))
        return made

    def _changed(self) -> Iterator[tuple[str, bytes]]:
        """The workflows whose stamps differ from those of their last look, or say nothing, and those that are gone."""
        if self._only is not None:
            yield self._only, b""
            return
        gone = {workflow_id for workflow_id, told in self._positions.told.items() if told.version}
        for workflow_id, stamp in self._store.glance("workflow"):
            gone.discard(workflow_id)
            if not stamp or self._stamps.get(workflow_id) != stamp:
                yield workflow_id, stamp
        for workflow_id in sorted(gone):
            yield workflow_id, b""

    def _is_news(self, workflow_id: str, stamp: bytes) -> bool:
        """Whether a workflow is another than it was told to be. This only spares a look into its history."""
        told = self._positions.told.get(workflow_id)
        if told is None:
            return True
        try:
            view = self._store.peek(DocumentId("workflow", workflow_id))
        except DocumentDamaged:
            return True
        if view.version != told.version or (told.version and _mark(view.commit_id) != told.mark):
            return True
        self._stamps[workflow_id] = stamp
        return False

    def _more(self, follower: _Follower, stamp: bytes) -> _Told | None:
        """The next event of a workflow, None where there is no more; then it is known to be as its stamp says."""
        workflow_id = follower.document.id
        try:
            told = follower.next()
        except DocumentDamaged as error:
            if self._only is not None:
                raise
            self._leave_out(workflow_id, error)
            return None
        self._unread.pop(workflow_id, None)
        if follower.began is not None and workflow_id not in self._positions.told:
            self._positions.move(workflow_id, follower.began)
        if told is None:
            self._stamps[workflow_id] = stamp
        return told

    def _leave_out(self, workflow_id: str, error: DocumentDamaged) -> None:
        """Say why nothing is told of a workflow, once."""
        if self._unread.get(workflow_id) != str(error):
            self._unread[workflow_id] = str(error)
            logger.warning("workflow %r is not told of until it can be read: %s", workflow_id, error)
