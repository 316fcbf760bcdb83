"""What the parts of a PostgreSQL store share: its connections and options, and the versions that it knows.

What is known of a document is a view of its newest version, as far as this handle has seen. It may be out of date at
any time: whoever commits has it compared by the server, and whoever reads looks first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

import psycopg

from waypost.config import Config
from waypost.errors import StoreUnavailable, WaypostError
from waypost.store.contract import Counters
from waypost.store.kinds import DocumentId
from waypost.store.postgres.connections import Connection, Connections, Pinned, Reader
from waypost.store.postgres.documents import INLINE_BYTES, NOTHING, DocumentView, Head, Part
from waypost.store.postgres.refusals import AGAIN, is_lost, refusal

T = TypeVar("T")
_LOG = logging.getLogger("waypost")

_MEGABYTE = 1 << 20
_MOST_KNOWN, _FEWEST_WRITTEN = 4096, 256
_MOST_BEHIND = 64
"""So many commits behind, a view is read anew in place of being brought up to date."""
_LONGEST_PAUSE_S = 1.0


class Pauses:
    """Until when something is tried again, from its first failure on, and how long to wait before that."""

    deadline: float | None = None
    wait_s = 0.0


class Context:
    """Shared by all threads of a handle."""

    def __init__(self, connections: Connections, config: Config) -> None:
        self.connections = connections
        self.chunk_bytes = config.compression.chunk_size
        self.limit_bytes = config.performance.max_file_size * _MEGABYTE
        self.durable = config.reliability.enable_wal
        self.batch_size = config.performance.batch_size
        self.history_us = config.history.max_age_days * 86_400_000_000
        self.history_bytes = self.limit_bytes // 2
        self._verify = config.reliability.checksum_validation
        self._patience_s = config.postgres.lock_timeout / 1000
        self._most_known_bytes = config.performance.max_memory_usage * _MEGABYTE // 2
        self._known: OrderedDict[DocumentId, tuple[DocumentView, int]] = OrderedDict()
        """With each version how many bytes of it are counted in `_known_bytes`."""
        self._known_bytes = 0
        self._lock = threading.Lock()
        self.written: OrderedDict[DocumentId, int] = OrderedDict()
        """How many commits this handle has made of a document since its history was last trimmed: of those that it
        wrote to last, as many as fit beside what is known.
        """
        self._most_written = max(_FEWEST_WRITTEN, self._most_known_bytes // 2048)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        # another thread of the parent may have been about to count one
        self._known_bytes = sum(size_bytes for _, size_bytes in self._known.values())

    # --- what is known ---

    def known(self, document: DocumentId) -> DocumentView | None:
        known = self._known.get(document)
        return None if known is None else known[0]

    def remember(self, view: DocumentView) -> None:
        with self._lock:
            before = self.known(view.document)
            if before is not None and before.head.doc == view.head.doc and before.version > view.version:
                return
            view.grown = self._grown
            self._count(view, view.held_bytes)

    def _grown(self, view: DocumentView, size_bytes: int) -> None:
        with self._lock:
            known = self._known.get(view.document)
            if known is not None and known[0] is view:
                self._count(view, known[1] + size_bytes)

    def _count(self, view: DocumentView, size_bytes: int) -> None:
        """Know a version, as the last one used, and forget those used before it, and it, where they take too much."""
        self._forget(view.document)
        self._known[view.document] = (view, size_bytes)
        self._known_bytes += size_bytes
        while self._known and (self._known_bytes > self._most_known_bytes or len(self._known) > _MOST_KNOWN):
            self._forget(next(iter(self._known)))

    def _forget(self, document: DocumentId) -> None:
        _, size_bytes = self._known.pop(document, (None, 0))
        self._known_bytes = self._known_bytes - size_bytes if self._known else 0

    def forget(self, document: DocumentId) -> None:
        with self._lock:
            self._forget(document)

    # --- looking ---

    def view(self, reader: Reader, document: DocumentId, head: Head) -> DocumentView:
        return DocumentView(reader, document, head, verify=self._verify)

    def look(self, document: DocumentId, counters: Counters | None = None) -> DocumentView:
        """The newest version, which is looked up."""
        known = self.known(document)  # before, so that the server cannot be behind it
        head = self._head(self.connections, document, counters)
        if known is not None and known.version:
            if known.head == head:
                return _hit(known, counters)
            if known.head.doc != head.doc or known.version >= head.version:
                if known.version != head.version or known.commit_id != head.commit_id:
                    self._tell_of_an_older_copy(known, head)
            elif head.first <= known.version and head.version <= known.version + _MOST_BEHIND:
                view = self._brought_up(known, head)
                if view is not None:
                    return _hit(view, counters)
            elif self._is_of_another_line(known):
                self._tell_of_an_older_copy(known, head)
        view = self.view(self.connections, document, head)
        self.remember(view)
        return view

    def _is_of_another_line(self, known: DocumentView) -> bool:
        """Whether the server knows a version that was seen before as another one."""
        rows = self.connections.read("commit_id_at", {"doc": known.head.doc, "version": known.version})
        return not rows or (rows[0][0] is not None and bytes(rows[0][0]) != known.commit_id)

    def _tell_of_an_older_copy(self, known: DocumentView, head: Head) -> None:
        _LOG.warning(
            "%s: %s %r is at version %d (%s), and was at version %d (%s) before: an older copy of the server has taken "
            "its place, and commits are lost",
            self.connections.location.shown,
            *known.document,
            head.version,
            head.commit_id.hex()[:12],
            known.version,
            known.commit_id.hex()[:12],
        )
        self.forget(known.document)

    def look_with(self, connection: Connection, document: DocumentId) -> DocumentView:
        """The newest version as a transaction sees it, for as long as that is open."""
        reader = Pinned(self.connections, connection)
        rows = reader.read("locked", document)
        return self.view(reader, document, Head.of((*rows[0][0:1], *rows[0][3:5], *rows[0][6:10])))

    def _head(self, reader: Reader, document: DocumentId, counters: Counters | None) -> Head:
        if "\0" in document.id:
            return NOTHING
        rows = reader.read("head", document._asdict())
        if counters is not None:
            counters.reads += 1
        return Head.of(rows[0]) if rows else NOTHING

    def _brought_up(self, known: DocumentView, head: Head) -> DocumentView | None:
        """A view that goes on from what is known; None where that is no earlier version of it that is kept."""
        asked = {"doc": head.doc, "since": known.version, "since_id": known.commit_id, "inline": INLINE_BYTES}
        asked |= {"version": head.version, "commit_id": head.commit_id}
        puts: dict[str, Part] = {}
        gone: set[str] = set()
        rows = self.connections.read("changed_since", asked)
        if not rows[0][0]:
            if self._is_of_another_line(known):
                self._tell_of_an_older_copy(known, head)
            return None
        for _, key, length, digest, value, content, is_erased, is_put in rows:
            if key is None:
                continue  # nothing was changed
            name = bytes(key).decode()
            if is_put:
                found = None if value is None else bytes(value)
                puts[name] = Part(length, int(digest), found, content, is_erased)
            else:
                gone.add(name)
        view = known.following(head, puts, gone - puts.keys(), cleared=False)
        self.remember(view)
        return view

    # --- waiting and refusing ---

    def wait(self, pauses: Pauses) -> bool:
        """Whether there is time left, after a pause that is longer each time."""
        if pauses.deadline is None:  # a connection that fell silent has taken long already
            pauses.deadline = time.monotonic() + self._patience_s
        left = pauses.deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(left, pauses.wait_s))
        pauses.wait_s = min(_LONGEST_PAUSE_S, pauses.wait_s * 2 or 0.02)
        return True

    def refused(self, what: object, error: Exception, lost: psycopg.Error | None) -> WaypostError:
        """The error for the caller. Where a connection was lost in a commit nobody knows what became of that."""
        said = error if isinstance(error, WaypostError) else refusal(error, self.connections.location)
        if lost is None:
            return said
        location = self.connections.location
        return StoreUnavailable(
            f"{location.shown}: the connection was lost while {what} was committed, and it cannot be said yet whether "
            f"that was done: ask get_outcome later ({location.without_secrets(str(said))})",
            location=location.shown,
            outcome="unknown",
        )

    def in_transaction(self, what: object, act: Callable[[Connection], T]) -> T:
        """What `act` gives, which opens one transaction, and looks first whether it was done already."""
        lost: psycopg.Error | None = None
        pauses = Pauses()
        while True:
            try:
                with self.connections.connection() as connection:
                    return act(connection)
            except psycopg.Error as error:
                is_again = error.sqlstate in AGAIN
                if not is_again and not is_lost(error):
                    raise self.refused(what, error, lost) from error
                lost = lost if is_again else error
                if not self.wait(pauses):
                    raise self.refused(what, error, lost) from error
            except StoreUnavailable as error:
                if lost is None or not self.wait(pauses):
                    raise self.refused(what, error, lost) from error

    def make_durable(self, connection: Connection) -> None:
        """Have the open transaction synced as commits are, in which there may be none."""
        if self.durable:
            connection.execute(self.connections.statements["durable"])

    def committed(self, document: DocumentId) -> None:
        """Count a commit, for the trimming of history."""
        with self._lock:
            self.written[document] = self.written.pop(document, 0) + 1
            if len(self.written) > self._most_written:
                self.written.popitem(last=False)


def _hit(view: DocumentView, counters: Counters | None) -> DocumentView:
    if counters is not None:
        counters.hits += 1
    return view
