"""Sessions as states: what their documents say, what their workflows say of them, and whether their owners live."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from waypost import clock, loading, records, session_records
from waypost.catalogue import Catalogue
from waypost.errors import StoreError
from waypost.models import StateMetadata, WorkflowSummary
from waypost.ownership import Watch, presence
from waypost.queries import StateQueryResult
from waypost.session_models import Presence, SessionQuery, SessionState, SessionStatistics
from waypost.session_records import ENVIRONMENT, PREFERENCE, TOUCHED, SessionRecord
from waypost.store import DocumentId, Store, View

logger = logging.getLogger("waypost")

_QUERIES = records.Record(SessionQuery)


class Looker(NamedTuple):
    """With what sessions are looked at; `inert` says that they are to be shown, and no object is to be rebuilt."""

    store: Store
    catalogue: Catalogue
    watch: Watch
    inert: bool = False


def presence_of(looker: Looker, view: View, record: SessionRecord) -> Presence | None:
    """Whether the owner of a session is there; None where nobody holds it."""
    if record.status != "active" or record.owner is None:
        return None
    return presence(looker.store, view.document, record.owner, looker.watch)


def state_of(looker: Looker, view: View) -> SessionState:
    """A session as it is. Raises SessionNotFound, DocumentDamaged."""
    record = session_records.expect(view)
    session_id = view.document.id
    seen = presence_of(looker, view, record)
    recovered = session_records.recovery(view)
    summaries = list(workflows_of(looker, view))
    return SessionState(
        metadata=_metadata(view, record),
        session_id=session_id,
        user_id=record.user_id,
        status="crashed" if seen is not None and seen.state == "crashed" else record.status,
        start_time=records.moment(record.started_us),
        end_time=None if record.ended_us is None else records.moment(record.ended_us),
        active_workflows=[each.id for each in summaries if each.status != "completed"],
        completed_workflows=[each.id for each in summaries if each.status == "completed"],
        environment=values_of(view, ENVIRONMENT, inert=looker.inert),
        preferences=values_of(view, PREFERENCE, inert=looker.inert),
        last_checkpoint_id=_last_checkpoint(looker.store, session_id, [each.id for each in summaries]),
        crash_recovery_data=None if recovered is None else recovered.found,
        owner=record.owner,
        presence=seen,
    )


def values_of(view: View, prefix: str, *, inert: bool = False) -> Mapping[str, Any]:
    return dict((loading.InertValues if inert else loading.LazyValues)(lambda: view, prefix))


def _metadata(view: View, record: SessionRecord) -> StateMetadata:
    return StateMetadata(
        id=view.document.id,
        version=view.version,
        schema_version=record.schema_version,
        created_at=records.moment(record.started_us),
        updated_at=records.moment(view.time_us),
        checksum=view.checksum.hex(),
        size_bytes=view.size_bytes,
        compressed=view.compressed,
    )


def workflows_of(looker: Looker, view: View) -> Iterator[WorkflowSummary]:
    """The workflows in which a session has written: what it announced, and they confirm."""
    session_id = view.document.id
    for name in records.names(view, TOUCHED):
        entry = looker.catalogue.entry(name)
        try:
            summary = None if entry is None else looker.catalogue.summary(entry)
        except StoreError as error:
            logger.warning("workflow %r is left out of session %r: %s", name, session_id, error)
            continue
        if summary is not None and session_id in summary.session_ids:
            yield summary


def _last_checkpoint(store: Store, session_id: str, workflow_ids: Iterable[str]) -> str | None:
    """The newest checkpoint that was made in a session."""
    found: tuple[int, str] | None = None
    for workflow_id in workflow_ids:
        view = store.peek(DocumentId("workflow", workflow_id))
        for name in reversed(records.names(view, records.CHECKPOINT)):
            record = records.CHECKPOINTS.get(view, records.CHECKPOINT + name)
            if record is not None and record.session_id == session_id:
                found = max(found or (0, ""), (record.created_us, name))
                break
    return None if found is None else found[1]


# --- several ---


def views_of(store: Store) -> Iterator[tuple[View, SessionRecord]]:
    """All sessions, each as it is. One that cannot be read is logged and left out."""
    for session_id in store.documents("session"):
        try:
            view = store.peek(DocumentId("session", session_id))
            record = session_records.find(view)
        except StoreError as error:
            logger.warning("session %r is left out: %s", session_id, error)
            continue
        if record is not None:
            yield view, record


def listed(looker: Looker, query: SessionQuery) -> StateQueryResult[SessionState]:
    """The sessions that a query asks for, the last started first."""
    query, _ = _QUERIES.check(query, "a query")
    asked = asked_for(looker, query)
    end = query.offset + query.limit
    has_more = end < len(asked)
    return StateQueryResult(
        items=[state_of(looker, view) for view, _ in asked[query.offset : end]],
        total=len(asked),
        has_more=has_more,
        next_offset=end if has_more else None,
    )


def asked_for(looker: Looker, query: SessionQuery) -> list[tuple[View, SessionRecord]]:
    """All that a checked query asks for, whatever its page, the last started first: by time of start, and id."""
    asked = [each for each in views_of(looker.store) if _is_asked_for(looker, query, *each)]
    return sorted(asked, key=place_of, reverse=True)


def place_of(each: tuple[View, SessionRecord]) -> tuple[int, str]:
    """Where a session stands in that order."""
    view, record = each
    return record.started_us, view.document.id


def _is_asked_for(looker: Looker, query: SessionQuery, view: View, record: SessionRecord) -> bool:
    if query.user_id is not None and record.user_id != query.user_id:
        return False
    wanted = query.time_range
    if wanted is not None:
        start = -math.inf if wanted.start is None else clock.to_us(wanted.start)
        end = math.inf if wanted.end is None else clock.to_us(wanted.end)
        if not start <= record.started_us <= end:
            return False
    if not query.status:
        return True
    seen = presence_of(looker, view, record)
    return ("crashed" if seen is not None and seen.state == "crashed" else record.status) in query.status


def statistics(looker: Looker, view: View) -> SessionStatistics:
    """A session in figures. Raises SessionNotFound."""
    record = session_records.expect(view)
    summaries = list(workflows_of(looker, view))
    completed = sum(each.status == "completed" for each in summaries)
    end_us = clock.now_us() if record.ended_us is None else record.ended_us
    return SessionStatistics(
        session_id=view.document.id,
        workflow_count=len(summaries),
        active_workflows=len(summaries) - completed,
        completed_workflows=completed,
        session_duration_ms=max(0, end_us - record.started_us) / 1000,
        last_activity=max([records.moment(view.time_us), *(each.updated_at for each in summaries)]),
    )
