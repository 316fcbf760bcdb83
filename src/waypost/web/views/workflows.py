"""The list of workflows: read through the catalogue, page by page, without loading one that does not run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import nlargest, nsmallest
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from waypost.catalogue import Catalogue, Entry
from waypost.cli import describe, paging
from waypost.cli.invocation import Reading
from waypost.cli.overview import condition, likely
from waypost.errors import InvalidInput, StoreError, WorkflowNotFound
from waypost.folding import WORKFLOW_STATUSES, WorkflowStatus
from waypost.models import WorkflowSummary
from waypost.web import answers
from waypost.web.query import Asked, Cursor, Id, Limit
from waypost.web.site import Site
from waypost.web.views import versions

Sort = Literal[
    "updated_at", "-updated_at", "created_at", "-created_at", "size_bytes", "-size_bytes",
    "id", "-id", "status", "-status",
]  # fmt: skip

_MOST_UNREADABLE = 100

_KEYS: dict[str, Callable[[Entry], int | str]] = {
    "updated_at": lambda one: one.updated_us,
    "created_at": lambda one: one.created_us,
    "size_bytes": lambda one: one.size_bytes,
    "id": lambda one: one.id,
    "status": lambda one: WORKFLOW_STATUSES.index(one.status),
}


class Wanted(Asked, frozen=True, kw_only=True):
    """Which workflows, in which order, and behind which."""

    status: list[WorkflowStatus] = field(default_factory=list[WorkflowStatus])
    q: Annotated[str, Meta(max_length=200)] = ""
    session: Id | None = None
    sort: Sort = "-updated_at"
    limit: Limit = 50
    cursor: Cursor | None = None


def listed(site: Site, asked: Wanted) -> dict[str, Any]:
    """One page of rows, and on the first one what could not be read."""
    with site.source.reading() as store:
        catalogue = store.wp.definitions.sessions.looker.catalogue
        every, unreadable = site.entries(store)
        entries, has_more = _page(catalogue, every, asked)
        rows = answers.filled(_rows(store, catalogue, entries))
        unread = sorted(unreadable.items())[:_MOST_UNREADABLE] if asked.cursor is None else []
    shown = len(rows) if has_more or len(rows) < len(entries) else 0
    return {
        "items": [row for row in rows if row is not None],
        "next_cursor": _cursor(asked.sort, entries[shown - 1]) if shown else None,
        "unreadable": [{"id": name, "condition": "damaged", "error": error} for name, error in unread],
    }


def _page(catalogue: Catalogue, every: list[Entry], asked: Wanted) -> tuple[list[Entry], bool]:
    """The entries of a page, and whether there are more behind it."""
    key, is_falling = _KEYS[asked.sort.lstrip("-")], asked.sort.startswith("-")

    def place(entry: Entry) -> tuple[Any, str]:
        return key(entry), entry.id

    begin = None if asked.cursor is None else _begin(asked.sort, asked.cursor)
    candidates = _asked_for(catalogue, every, asked)
    if begin is not None:
        candidates = (each for each in candidates if (place(each) < begin if is_falling else place(each) > begin))
    found = (nlargest if is_falling else nsmallest)(asked.limit + 1, candidates, key=place)
    return found[: asked.limit], len(found) > asked.limit


def _asked_for(catalogue: Catalogue, every: list[Entry], asked: Wanted) -> Iterator[Entry]:
    statuses, text = frozenset(asked.status), asked.q.casefold()
    for entry in every:
        if statuses and entry.status not in statuses:
            continue
        if (text and text not in entry.id.casefold()) or asked.session is not None:
            summary = _summary(catalogue, entry)
            if summary is None or (text and text not in entry.id.casefold() and text not in summary.name.casefold()):
                continue
            if asked.session is not None and asked.session not in summary.session_ids:
                continue
        yield entry


def _summary(catalogue: Catalogue, entry: Entry) -> WorkflowSummary | None:
    try:
        return catalogue.summary(entry)
    except StoreError:
        return None  # damaged since it was listed: the next list says so


def _rows(store: Reading, catalogue: Catalogue, entries: list[Entry]) -> Iterator[dict[str, Any] | None]:
    """A row for each entry; None for one that is gone by now."""
    for entry in entries:
        summary = _summary(catalogue, entry)
        yield None if summary is None else _row(store, summary)


def _row(store: Reading, summary: WorkflowSummary) -> dict[str, Any]:
    row = describe.summary(summary)
    try:
        running = summary.step_counts["running"]
        row["condition"] = condition(versions.state_of(store, summary.id)) if running else likely(summary.status)
    except WorkflowNotFound:
        row["condition"] = summary.status
    except StoreError as error:
        row.update(condition="damaged", error=str(error))
    return answers.shortened(row, name=answers.LONGEST_WORD, error=answers.LONGEST_TEXT)


def _cursor(sort: Sort, last: Entry) -> str:
    return paging.cursor(sort, _KEYS[sort.lstrip("-")](last), last.id)


def _begin(sort: Sort, cursor: str) -> tuple[Any, str]:
    """What the page before this one ended with. Raises InvalidInput."""
    kind = str if sort.lstrip("-") == "id" else int
    try:
        of, value, name = paging.place(cursor, (str, kind, str))
    except ValueError as error:
        raise InvalidInput("that is no cursor of this list: give a next_cursor as it stands, or none") from error
    if of != sort:
        raise InvalidInput(f"that is a cursor of a list by {of}, not by {sort}")
    return value, name
