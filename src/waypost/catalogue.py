"""What a list shows of each workflow, kept by the stamp of its document, so that a log is read once for each change.

A row is a stamp, the fields by which lists are narrowed and sorted, and the rest of the summary. Rows stay bytes, some
150 each, and nothing that they were made of stays open. A store may keep them from one handle to the next. No answer
depends on them: a row counts for as long as the store gives the same stamp again, and else the document is read. Where
there is no stamp, as for a moment after a change, a row counts for the commit that it was made of.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from waypost import clock, loading, migrations, records
from waypost.errors import StoreError
from waypost.folding import STEP_STATUSES, WORKFLOW_STATUSES, WorkflowStatus, fold
from waypost.models import WorkflowSummary
from waypost.store import DocumentId, Store, View

logger = logging.getLogger("waypost")

_KEPT_AS = "workflows"
_KEPT_FROM, _KEPT_SHARE = 500, 20
_LONGEST_REST = 512
_FIXED = struct.Struct("<BBqqQ")
_GONE = _FIXED.pack(0, 0, 0, 0, 0)


class _Rest(NamedTuple):
    """What a summary shows and no list is sorted by. Times in microseconds."""

    name: str
    progress: float
    current_step: str | None
    error: str | None
    counts: list[int]
    version: int
    start: int | None
    end: int | None
    sessions: list[str]


_encode = msgspec.msgpack.Encoder().encode
_decode_rest = msgspec.msgpack.Decoder(_Rest).decode
_decode_rows = msgspec.msgpack.Decoder(dict[str, bytes]).decode


class Entry(NamedTuple):
    """One workflow as a list sees it. `data` holds what else is known of it, from `rest` on."""

    id: str
    status: WorkflowStatus
    created_us: int
    updated_us: int
    size_bytes: int
    data: bytes
    rest: int


class Catalogue:
    """The workflows of one store. Safe to use from any thread: two that refresh it at once do the same work twice."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows: dict[str, bytes] | None = None
        self._unstamped: dict[str, tuple[bytes, bytes]] = {}
        """Of workflows that had no stamp the last time that all were gone through: the commit, and the row of it."""
        self.unread: dict[str, str] = {}
        """Why workflows were left out the last time that all were gone through, by id."""

    def _peek(self, workflow_id: str) -> View:
        return migrations.current(self._store.peek(DocumentId("workflow", workflow_id)))

    def entries(self) -> Iterator[Entry]:
        """All workflows that are there, as they are now. One that cannot be read is logged and left out."""
        known = self._known()
        rows: dict[str, bytes] = {}
        unread: dict[str, str] = {}
        unstamped: dict[str, tuple[bytes, bytes]] = {}
        again = 0
        for workflow_id, stamp in self._store.glance("workflow"):
            row = known.get(workflow_id) if stamp else None
            if row is None or not row.startswith(stamp) or not _is_row(row, len(stamp)):
                again += 1
                made = self._read(workflow_id, unread)
                if made is None:
                    continue
                row = stamp + made[1]
                if not stamp:
                    unstamped[workflow_id] = made
            if stamp:
                rows[workflow_id] = row
            found = _entry(workflow_id, row, len(stamp))
            if found is not None:
                yield found
        self._rows, self._unstamped, self.unread = rows, unstamped, unread
        if again > max(_KEPT_FROM, len(rows) // _KEPT_SHARE):
            self._store.keep(_KEPT_AS, _encode(rows))

    def entry(self, workflow_id: str) -> Entry | None:
        """One workflow as it is now; None where there is none."""
        made = self._read(workflow_id)
        return None if made is None else _entry(workflow_id, made[1], 0)

    def _known(self) -> Mapping[str, bytes]:
        if self._rows is None:
            kept = self._store.recall(_KEPT_AS)
            try:
                self._rows = {} if kept is None else _decode_rows(kept)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                self._rows = {}
        return self._rows

    def _read(self, workflow_id: str, unread: dict[str, str] | None = None) -> tuple[bytes, bytes] | None:
        """The newest commit, and the row of it; going through all steps for that is done once for each commit."""
        try:
            view = self._peek(workflow_id)
            known = self._unstamped.get(workflow_id)
            return known if known is not None and known[0] == view.commit_id else (view.commit_id, _row(view))
        except StoreError as error:
            leave_out(workflow_id, error)
            if unread is not None:
                unread[workflow_id] = str(error)
            return None

    def summary(self, entry: Entry) -> WorkflowSummary | None:
        """What a list shows of a workflow; None where it was deleted meanwhile. Raises StoreError.

        One that is too long to be kept is read again, and may be newer than its entry.
        """
        rest = _rest_of(entry)
        if rest is None:
            found = _entry(entry.id, _row(self._peek(entry.id), whole=True), 0)
            if found is None:
                return None
            return _summary(found, _decode_rest(memoryview(found.data)[found.rest :]))
        return _summary(entry, rest)


def leave_out(workflow_id: str, error: StoreError) -> None:
    """Say why a workflow is not in a list."""
    logger.warning("workflow %r is left out of a list: %s", workflow_id, error)


def _row(view: View, *, whole: bool = False) -> bytes:
    """A row without its stamp, and without the rest where that is long, unless the whole of it is wanted."""
    record = records.WORKFLOWS.get(view, records.WORKFLOW)
    if record is None:
        return _GONE
    folded = fold(loading.every_step(view), record.paused)
    status = WORKFLOW_STATUSES.index(folded.status)
    for time_us in (record.created_us, view.time_us):
        records.moment(time_us)  # what no clock ever showed is damage here as well
    fixed = _FIXED.pack(1, status, record.created_us, view.time_us, view.size_bytes)
    rest = _encode(
        _Rest(
            record.name,
            folded.progress,
            folded.current_step,
            folded.error,
            [folded.step_counts[each] for each in STEP_STATUSES],
            view.version,
            None if folded.start_time is None else clock.to_us(folded.start_time),
            None if folded.end_time is None else clock.to_us(folded.end_time),
            records.names(view, records.SESSION),
        )
    )
    return fixed + rest if whole or len(rest) <= _LONGEST_REST else fixed


def _is_row(row: bytes, at: int) -> bool:
    """Whether a row that was kept can be one: its file is only as good as whoever may write it."""
    return len(row) >= at + _FIXED.size and row[at] <= 1 and row[at + 1] < len(WORKFLOW_STATUSES)


def _rest_of(entry: Entry) -> _Rest | None:
    """The rest of a row; None where it was too long to be kept, or is none."""
    try:
        rest = _decode_rest(memoryview(entry.data)[entry.rest :])
    except (msgspec.MsgspecError, ValueError):
        return None
    return rest if len(rest.counts) == len(STEP_STATUSES) else None


def _entry(workflow_id: str, row: bytes, at: int) -> Entry | None:
    is_there, status, created_us, updated_us, size_bytes = _FIXED.unpack_from(row, at)
    if not is_there:
        return None
    return Entry(workflow_id, WORKFLOW_STATUSES[status], created_us, updated_us, size_bytes, row, at + _FIXED.size)


def _summary(entry: Entry, rest: _Rest) -> WorkflowSummary:
    return WorkflowSummary(
        id=entry.id,
        name=rest.name,
        status=entry.status,
        progress=rest.progress,
        current_step=rest.current_step,
        error=rest.error,
        step_counts=dict(zip(STEP_STATUSES, rest.counts, strict=True)),
        version=rest.version,
        created_at=records.moment(entry.created_us),
        updated_at=records.moment(entry.updated_us),
        start_time=None if rest.start is None else records.moment(rest.start),
        end_time=None if rest.end is None else records.moment(rest.end),
        size_bytes=entry.size_bytes,
        session_ids=rest.sessions,
    )
