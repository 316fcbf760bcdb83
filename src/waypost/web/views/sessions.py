"""Sessions: who works in the store, what is known of their deaths, and how to go on. Nothing is carried out here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import field

from waypost import records, session_records, session_states
from waypost.cli import describe, resume
from waypost.cli.invocation import Reading
from waypost.errors import InvalidInput
from waypost.session_models import SessionQuery, SessionRecoveryPlan, SessionState, SessionStatus
from waypost.session_states import Looker
from waypost.web import answers
from waypost.web.query import Asked, Cursor, Id, Limit
from waypost.web.site import Site

_MOST_WORKFLOWS = 50
_MOST_NAMES = 200
_LONGEST_CURSOR = 12


class Wanted(Asked, frozen=True, kw_only=True):
    """Which sessions, and how many of the last started are left out."""

    status: list[SessionStatus] = field(default_factory=list[SessionStatus])
    limit: Limit = 50
    cursor: Cursor | None = None


class One(Asked, frozen=True, kw_only=True):
    """One session."""

    id: Id


def listed(site: Site, asked: Wanted) -> dict[str, Any]:
    """One page of sessions, the last started first."""
    offset = 0 if asked.cursor is None else _offset(asked.cursor)
    with site.source.reading() as store:
        query = SessionQuery(status=asked.status, limit=asked.limit, offset=offset)
        page = session_states.listed(_looker(store), query)
        rows = answers.filled(map(_row, page))
    has_more = page.has_more or len(rows) < len(page)
    return {"items": rows, "next_cursor": str(offset + len(rows)) if has_more else None}


def _looker(store: Reading) -> Looker:
    return store.wp.definitions.sessions.looker._replace(inert=True)


def _offset(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= _LONGEST_CURSOR):
        raise InvalidInput("that is no cursor of this list: give a next_cursor as it stands, or none")
    return int(cursor)


def _row(session: SessionState) -> dict[str, Any]:
    row = describe.session(session)
    row["evidence"] = None if session.presence is None else session.presence.evidence
    for name in ("active_workflows", "completed_workflows"):
        row[f"{name.removesuffix('s')}_count"] = len(row[name])
        row[name] = row[name][:_MOST_NAMES]
    for name in ("environment", "preferences"):
        row[name] = answers.values(row[name], answers.LONGEST_VALUE)
    return row


def one(site: Site, asked: One) -> dict[str, Any]:
    """A session with its workflows' steps by what is known of them, and the plan where its owner is dead."""
    name = records.validate_id(asked.id, "session id")
    with site.source.reading() as store:
        session = session_states.state_of(_looker(store), store.store.view(session_records.document_of(name)))
        left = list(_left(store, session))
        plan = next(iter(_plan(store, session)), None)
    found = resume.Unfinished(session, left)
    told = resume.document(found)
    return {
        **_row(session),
        "workflows": told["workflows"],
        "cut": len(session.active_workflows) > _MOST_WORKFLOWS,
        "plan": None if plan is None else describe.recovery_plan(plan),
        "command": resume.command_of([found], site.source.invocation),
    }


def _left(store: Reading, session: SessionState) -> Iterator[resume.Left]:
    for name in session.active_workflows[:_MOST_WORKFLOWS]:
        found = resume.look_at(store, session.session_id, name)
        if found is not None:
            yield found


def _plan(store: Reading, session: SessionState) -> list[SessionRecoveryPlan]:
    if session.status != "crashed":
        return []
    return store.wp.detect_and_recover_crashed_sessions(dry_run=True, session_id=session.session_id)
