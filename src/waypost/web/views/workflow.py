"""One workflow: its state, its steps, what is kept of it, and what became of it."""

from __future__ import annotations

from itertools import dropwhile, islice
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from waypost import checkpoints as checkpoints_
from waypost import session_records
from waypost.cli import describe
from waypost.cli.invocation import Reading
from waypost.cli.overview import condition, how_to_go_on
from waypost.cli.text import cut
from waypost.errors import InvalidInput, WaypostError
from waypost.session_states import presence_of
from waypost.web import answers
from waypost.web.query import Asked, CheckpointId, Cursor, Id, Limit, Offset
from waypost.web.site import Site
from waypost.web.views import versions

MOST_STEPS = 10_000
_MOST_SESSIONS, _MOST_QUEUED = 50, 50
_CONTEXT = ("configuration", "variables", "features")


class One(Asked, frozen=True, kw_only=True):
    """A workflow, now or at a checkpoint."""

    id: Id
    at: CheckpointId | None = None


class Steps(Asked, frozen=True, kw_only=True):
    """Steps of a workflow, now or at a checkpoint."""

    workflow: Id
    at: CheckpointId | None = None
    offset: Offset = 0
    limit: Annotated[int, Meta(ge=1, le=MOST_STEPS)] = MOST_STEPS


class Paged(Asked, frozen=True, kw_only=True):
    """What there is of a workflow, page by page."""

    workflow: Id
    limit: Limit = 50
    cursor: Cursor | None = None


def one(site: Site, asked: One) -> dict[str, Any]:
    """The state without its steps."""
    with site.source.reading() as store:
        state = versions.state_of(store, asked.id, asked.at)
        found = describe.state(state)
        found["condition"] = condition(state)
        found["go_on"] = how_to_go_on(state) + site.source.invocation.flag()
        found["checkpoint_count"] = len(store.store.checkpoints(versions.document(asked.id)))
        found["sessions"] = _sessions(store, asked.id)
    found["at"] = asked.at
    _fit(found)
    return found


def _fit(found: dict[str, Any]) -> None:
    """Cut what is too much of a state, and say so."""
    context = found["context"]
    given = {name: len(context[name]) for name in _CONTEXT}
    context.update({name: answers.values(context[name]) for name in _CONTEXT})
    rows = answers.filled(map(_agent, found["agents"].values()), answers.ROOM // 4)
    agents = dict(zip(found["agents"], rows, strict=False))
    found["cut"] = len(agents) < len(found["agents"]) or any(len(context[name]) < given[name] for name in _CONTEXT)
    found["agents"] = agents


def _agent(row: dict[str, Any]) -> dict[str, Any]:
    """An agent, with the beginning of its queue and how long that is."""
    queue = row["task_queue"]
    shown = [cut(each, answers.LONGEST_WORD) for each in queue[:_MOST_QUEUED]]
    row = answers.shortened(row, name=answers.LONGEST_WORD, current_task=answers.LONGEST_TEXT)
    return {**row, "task_queue": shown, "queued": len(queue)}


def _sessions(store: Reading, workflow_id: str) -> list[dict[str, Any]]:
    """The sessions that wrote to a workflow, each with what is seen of its owner."""
    looker = store.wp.definitions.sessions.looker
    entry = looker.catalogue.entry(workflow_id)
    summary = None if entry is None else looker.catalogue.summary(entry)
    found: list[dict[str, Any]] = []
    for name in () if summary is None else summary.session_ids[-_MOST_SESSIONS:]:
        try:
            view = store.store.peek(session_records.document_of(name))
            record = session_records.find(view)
            seen = None if record is None else presence_of(looker, view, record)
        except WaypostError as error:
            found.append({"id": name, "status": "damaged", "evidence": str(error)})
            continue
        if record is not None:
            is_dead = seen is not None and seen.state == "crashed"
            status = "crashed" if is_dead else record.status
            found.append({"id": name, "status": status, "evidence": None if seen is None else seen.evidence})
    return found


def steps(site: Site, asked: Steps) -> dict[str, Any]:
    """Steps in the order of the workflow, without outputs."""
    with site.source.reading() as store:
        given = versions.state_of(store, asked.workflow, asked.at).workflow.steps
        chosen = given[asked.offset : asked.offset + asked.limit]
        rows = (answers.shortened(describe.step(each), error=answers.LONGEST_TEXT) for each in chosen)
        return {"items": answers.filled(rows), "offset": asked.offset, "total": len(given)}


def checkpoints(site: Site, asked: Paged) -> dict[str, Any]:
    """What is kept of a workflow, the newest first. A cursor is the id of the last one."""
    with site.source.reading() as store:
        where = versions.document(asked.workflow)
        if not store.store.checkpoints(where):
            versions.view_of(store, asked.workflow)
        every = checkpoints_.every(store.store, where)
        if asked.cursor is not None:
            begin = asked.cursor
            if begin.rpartition("@")[0] != asked.workflow:
                raise InvalidInput("that is no cursor of this list: give a next_cursor as it stands, or none")
            every = dropwhile(lambda each: each.id >= begin, every)
        found = list(islice(every, asked.limit + 1))
    rows = answers.filled([describe.checkpoint(each) for each in found[: asked.limit]])
    return {"items": rows, "next_cursor": rows[-1]["checkpoint_id"] if len(rows) < len(found) else None}


def history(site: Site, asked: Paged) -> dict[str, Any]:
    """The commits of a workflow, the newest first. A cursor is the version of the last one."""
    before = None if asked.cursor is None else _version(asked.cursor)
    with site.source.reading() as store:
        found = store.wp.history(asked.workflow, limit=asked.limit + 1, before=before)
    rows = answers.filled([_commit(each) for each in found[: asked.limit]])
    return {"items": rows, "next_cursor": str(rows[-1]["version"]) if rows and len(rows) < len(found) else None}


def _commit(entry: Any) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(entry)
    row["changed_count"] = len(row["changed"])
    row["changed"] = row["changed"][:50]
    row["together_with"] = row["together_with"][:50]
    return row


def _version(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 17 and int(cursor) > 0):
        raise InvalidInput("that is no cursor of a history: give a next_cursor as it stands, or none")
    return int(cursor)
