"""The tools that read: each opens the store for reading, looks, and lets go of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar

from msgspec import UNSET
from pydantic import Field

from waypost.cli import describe, overview, paging
from waypost.errors import InvalidInput, StoreNotFound
from waypost.folding import WorkflowStatus
from waypost.mcp import bounds, rows
from waypost.mcp.outputs import output_text
from waypost.mcp.plans import plan_of
from waypost.mcp.results import (
    Change,
    CheckpointPage,
    DiffPage,
    OutputText,
    Plan,
    RunDetail,
    RunPage,
    SessionRow,
    Status,
    StepPage,
    Stored,
    Unfinished,
)
from waypost.mcp.stores import Stores
from waypost.models import WorkflowStep
from waypost.queries import StateQuery, TimeRange
from waypost.session_models import SessionQuery

T = TypeVar("T")

RunId = Annotated[str, Field(min_length=1, max_length=512, description="The id of a run, exactly as it was given.")]
StepId = Annotated[str, Field(min_length=1, max_length=512, description="The id of a step of that run.")]
CheckpointId = Annotated[str, Field(min_length=1, max_length=600, description="The id of a checkpoint.")]
Limit = Annotated[int, Field(ge=1, le=100, description="Rows at most; fewer where they would be too long.")]
Cursor = Annotated[
    str, Field(max_length=400, description="The next_cursor of the page before this one, to go on behind it.")
]
Offset = Annotated[int, Field(ge=0, le=2**53)]
Reference = Annotated[
    str,
    Field(
        min_length=1,
        max_length=600,
        description="A run id (its newest version), run_id@version as in survey@17, or a checkpoint id.",
    ),
]

_PLAIN = "waypost run FILE.toml, or a program that calls waypost.open()"
_MOST_UNFINISHED = 20
_MOST_SESSIONS = 10


class ReadTools:
    """What can be asked of a store."""

    def __init__(self, stores: Stores, allowed: Sequence[str]) -> None:
        self._stores = stores
        self._allowed = allowed

    def status(self) -> Status:
        """What is going on in the store: how many runs there are in each condition, which of them are unfinished, and
        sessions whose owners are dead. Ask this first.
        """
        said = Status(
            location=Stored.of(self._stores.location),
            exists=False,
            may_write="write" in self._allowed,
            may_restore="restore" in self._allowed,
            may_delete="delete" in self._allowed,
        )
        try:
            with self._stores.reading() as store:
                found = overview.look(store, closely=_MOST_UNFINISHED)
                query = SessionQuery(status=("crashed",), limit=_MOST_SESSIONS)
                sessions = [_session(each) for each in store.wp.list_sessions(query)]
                durability = store.store.durability
        except StoreNotFound:
            maker = "start_run" if said.may_write else _PLAIN
            said.hint = f"There is no store yet. It is made by {maker}."
            return said
        unfinished = [one for one in found.found if one.condition not in ("completed", "idle")]
        counts = Counter(one.condition for one in found.found)
        said.exists, said.durability = True, durability
        said.run_counts = {name: counts[name] + found.beyond[name] for name in overview.IN_ORDER}
        said.unfinished = bounds.filled(map(_unfinished, unfinished[:_MOST_UNFINISHED]), bounds.ROOM // 2)
        said.unfinished_total = len(unfinished) + found.beyond[None]
        said.abandoned_sessions = sessions
        said.hint = "resume_plan tells how to go on with a run." if unfinished else "Nothing is unfinished."
        return said

    def list_runs(
        self,
        status: Annotated[
            list[WorkflowStatus] | None, Field(description="Only runs of these statuses; all by default.")
        ] = None,
        since: Annotated[
            datetime | None, Field(description="Only runs that were changed since then; UTC where it names no zone.")
        ] = None,
        limit: Limit = 20,
        cursor: Cursor = "",
    ) -> RunPage:
        """List runs, the last changed first. A run that is changed while you page moves to the top of a new list."""
        start = None if since is None else _aware(since)
        end, skip = _moment(cursor)
        query = StateQuery(status=status or (), time_range=TimeRange(start, end), limit=limit, offset=skip)
        with self._stores.reading() as store:
            page = store.wp.list_workflows(query)
            found = bounds.filled(rows.of_summary(store, each) for each in page)
        times = [each.updated_at for each in page.items[: len(found)]]
        return RunPage(runs=found, total=page.total - skip, next_cursor=_next(times, end, skip, page.total - skip))

    def get_run(
        self,
        run_id: RunId,
        depth: Annotated[
            Literal["summary", "steps", "full"],
            Field(description="summary: the run alone; steps: and its steps; full: and its agents and its context."),
        ] = "steps",
    ) -> RunDetail:
        """Show one run: status, progress, steps, and at the depth `full` agents and context. Secrets stay out."""
        with self._stores.reading() as store:
            state = store.wp.load_workflow_state(run_id).unwrap()
            detail = RunDetail(run=rows.of_state(state), paused=state.workflow.paused, checksum=state.metadata.checksum)
            if depth != "summary":
                room = bounds.ROOM // 2 if depth == "full" else bounds.ROOM
                detail.steps = rows.steps(islice(state.workflow.steps, 100), room)
                if len(detail.steps) < len(state.workflow.steps):
                    detail.next_cursor = paging.cursor("steps", len(detail.steps))
            if depth == "full":
                detail.agents = rows.agents(state, bounds.ROOM // 8)
                detail.context = rows.context(state.context, bounds.ROOM // 4)
            return detail

    def list_steps(
        self,
        run_id: RunId,
        status: Annotated[
            list[Literal["pending", "running", "completed", "failed", "skipped"]] | None,
            Field(description="Only steps of these statuses; all by default."),
        ] = None,
        limit: Limit = 50,
        cursor: Cursor = "",
    ) -> StepPage:
        """List the steps of a run in its order: status, worker, retries, error, what each depends on."""
        first = _place(cursor, "steps")
        with self._stores.reading() as store:
            state = store.wp.load_workflow_state(run_id).unwrap()
            total = len(state.workflow.steps)
            asked = _asked_for(state.workflow.steps, status, first)
            found = [(at, rows.of_step(step)) for at, step in islice(asked, limit)]
            kept = bounds.filled(row for _, row in found)
            last = found[len(kept) - 1][0] + 1 if kept else total
            has_more = next(iter(_asked_for(state.workflow.steps, status, last)), None) is not None
        following = paging.cursor("steps", last) if has_more else None
        return StepPage(run_id=run_id, steps=kept, total=total, next_cursor=following)

    def get_output(
        self,
        run_id: RunId,
        step_id: StepId,
        version: Annotated[int | None, Field(ge=1, le=2**31, description="The newest by default.")] = None,
        offset: Annotated[Offset, Field(description="Where to go on: the next_offset of the piece before.")] = 0,
        limit: Annotated[int, Field(ge=1, le=60_000, description="Characters, or bytes, at most.")] = 20_000,
    ) -> OutputText:
        """Read a step's output, piece by piece: text as it is, bytes that are no text as base64, all else as JSON."""
        with self._stores.reading() as store:
            return output_text(store.wp, run_id, step_id, version, offset, limit)

    def list_checkpoints(
        self,
        run_id: Annotated[str, Field(max_length=512, description="Of all runs by default.")] = "",
        limit: Limit = 20,
        cursor: Cursor = "",
    ) -> CheckpointPage:
        """List the checkpoints of a run, or of all, newest first."""
        end, skip = _moment(cursor)
        query = StateQuery(time_range=TimeRange(None, end), limit=limit, offset=skip, sort_by="created")
        with self._stores.reading() as store:
            page = store.wp.list_checkpoints(run_id or None, query=query)
            found = bounds.filled(map(rows.of_checkpoint, page))
        following = _next([each.created_at for each in found], end, skip, page.total - skip)
        return CheckpointPage(checkpoints=found, total=page.total - skip, next_cursor=following)

    def diff(self, a: Reference, b: Reference, limit: Limit = 50, cursor: Cursor = "") -> DiffPage:
        """Tell what leads from one version to another: what was added, removed and changed, with paths."""
        first = _place(cursor, "diff")
        with self._stores.reading() as store:
            found = store.wp.diff(a, b)
            kept = bounds.filled(map(_change, found.changes[first : first + limit]))
        last, total = first + len(kept), len(found.changes)
        following = paging.cursor("diff", last) if last < total else None
        return DiffPage(before=found.before, after=found.after, changes=kept, total=total, next_cursor=following)

    def resume_plan(self, run_id: RunId) -> Plan:
        """Tell how to go on with a run: what is done, running, interrupted, failed and next, which checkpoint is whole,
        and what to do. Changes nothing.
        """
        with self._stores.reading() as store:
            return plan_of(store, run_id)


def _unfinished(one: overview.Found) -> Unfinished:
    return Unfinished(
        run_id=one.id,
        name=one.name,
        condition=one.condition,
        progress=one.progress,
        updated_at=one.updated_at,
        running=bounds.names([each.id for each in one.running], 10),
        failed=bounds.names(one.failed, 10),
        error=Stored.maybe(one.error, 500),
    )


def _session(each: Any) -> SessionRow:
    evidence = None if each.presence is None else each.presence.evidence
    unfinished = len(each.active_workflows)
    return SessionRow(session_id=each.session_id, state=each.status, evidence=evidence, unfinished_runs=unfinished)


def _change(each: Any) -> Change:
    before, after = (
        None if value is UNSET else Stored.value(describe.at_path(value)) for value in (each.before, each.after)
    )
    return Change(kind=each.kind, path=Stored.of(each.path, 1_000), before=before, after=after)


def _asked_for(
    steps: Iterable[WorkflowStep], status: Sequence[str] | None, first: int
) -> Iterable[tuple[int, WorkflowStep]]:
    numbered = islice(enumerate(steps), first, None)
    return ((at, step) for at, step in numbered if not status or step.status in status)


# --- places in lists ---


def _given(cursor: str, kinds: Sequence[type]) -> list[Any]:
    try:
        return paging.place(cursor, kinds)
    except ValueError as error:
        raise InvalidInput("that is no cursor of this list: give a next_cursor as it stands, or none") from error


def _place(cursor: str | None, of: str) -> int:
    """The number of the row that a page begins with."""
    if not cursor:
        return 0
    kind, number = _given(cursor, (str, int))
    if kind != of or not 0 <= number < 2**53:
        raise InvalidInput(f"that is a cursor of another list than {of}")
    return number


def _moment(cursor: str) -> tuple[datetime | None, int]:
    """The time that a page goes back from, and how many of exactly that time were shown before."""
    if not cursor:
        return None, 0
    text, skip = _given(cursor, (str, int))
    try:
        end = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput("that is no cursor of this list") from error
    if end.tzinfo is None or not 0 <= skip <= 10_000:
        raise InvalidInput("that is no cursor of this list")
    return end, skip


def _next(times: Sequence[datetime], end: datetime | None, skip: int, total: int) -> str | None:
    """The cursor behind rows of these times, of `total` that there are from here on."""
    if not times or len(times) >= total:
        return None
    last = times[-1]
    same = sum(each == last for each in times)
    return paging.cursor(last.isoformat(), same + (skip if last == end else 0))


def _aware(given: datetime) -> datetime:
    return given if given.tzinfo is not None else given.replace(tzinfo=UTC)
