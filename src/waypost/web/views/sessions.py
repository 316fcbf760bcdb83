"""Sessions: who works in the store, what is known of their deaths, and how to go on. Nothing is carried out here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import field

from waypost import records, session_records, session_states
from waypost.cli import describe, paging, resume
from waypost.cli.invocation import Reading
from waypost.errors import InvalidInput
from waypost.session_models import SessionQuery, SessionRecoveryPlan, SessionState, SessionStatus
from waypost.session_states import Looker
from waypost.web import answers
from waypost.web.query import Asked, Cursor, Id, Limit
from waypost.web.site import Site

_MOST_WORKFLOWS = 50
_MOST_NAMES = 200


class Wanted(Asked, frozen=True, kw_only=True):
    """Which sessions, and behind which."""

    status: list[SessionStatus] = field(default_factory=list[SessionStatus])
    limit: Limit = 50
    cursor: Cursor | None = None


class One(Asked, frozen=True, kw_only=True):
    """One session."""

    id: Id


def listed(site: Site, asked: Wanted) -> dict[str, Any]:
    """One page of sessions, the last started first."""
    begin = None if asked.cursor is None else _begin(asked.cursor)
    with site.source.reading() as store:
        looker = _looker(store)
        every = session_states.asked_for(looker, SessionQuery(status=asked.status))
        places = [session_states.place_of(each) for each in every]
        first = next((at for at, place in enumerate(places) if begin is None or place < begin), len(every))
        chosen = every[first : first + asked.limit]
        rows = answers.filled(_row(session_states.state_of(looker, view)) for view, _ in chosen)
    end = first + len(rows)
    return {"items": rows, "next_cursor": paging.cursor(*places[end - 1]) if end < len(every) else None}


def _looker(store: Reading) -> Looker:
    return store.wp.definitions.sessions.looker._replace(inert=True)


def _begin(cursor: str) -> tuple[int, str]:
    """What the page before this one ended with. Raises InvalidInput."""
    try:
        started_us, name = paging.place(cursor, (int, str))
    except ValueError as error:
        raise InvalidInput("that is no cursor of this list: give a next_cursor as it stands, or none") from error
    return started_us, name


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
