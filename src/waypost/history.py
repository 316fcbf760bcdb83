"""What became of a workflow, commit by commit."""

from __future__ import annotations

from collections.abc import Container, Sequence
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from msgspec import Struct

from waypost import places, records
from waypost.errors import InvalidInput, WaypostError
from waypost.models import WorkflowStep
from waypost.store import Commit, DocumentId, Past, Store

LIMIT = 100
"""How many commits are listed unless the caller says otherwise."""


class HistoryEntry(Struct, frozen=True, kw_only=True):
    """One commit. Of a version that history no longer holds only `version` and, mostly, `commit_id` are known.

    `changed` are the paths of the parts that it wrote or removed; when it `cleared` the workflow, it removed all parts
    before. `transaction_id` is there when it was part of a commit over several workflows; `together_with` names the
    others as `workflow@version`.
    """

    version: int
    commit_id: str | None = None
    kept: bool = True
    at: datetime | None = None
    operation: str | None = None
    operation_id: str | None = None
    session_id: str | None = None
    agent_id: str | None = None
    changed: Sequence[str] = ()
    cleared: bool = False
    transaction_id: str | None = None
    together_with: Sequence[str] = ()


class Told(NamedTuple):
    """A version, and the commit that made it; None where that is no longer kept."""

    entry: HistoryEntry
    commit: Commit | None


def history(store: Store, workflow_id: str, limit: int | None, before: int | None) -> list[HistoryEntry]:
    """The commits of a workflow, the newest first. Raises InvalidId, InvalidInput, WorkflowNotFound."""
    return [each.entry for each in told(store, workflow_id, limit, before)]


def told(store: Store, workflow_id: str, limit: int | None, before: int | None) -> list[Told]:
    """The same with the commits themselves, which are read while the store is open."""
    for name, number in (("limit", limit), ("before", before)):
        if number is not None and (type(number) is not int or number < 1):
            raise InvalidInput(f"{name} is a number from 1 on, or None", **{name: number})
    document = DocumentId("workflow", records.validate_id(workflow_id, "workflow id"))
    past = past_of(store, document)
    found = [Told(entry(document, commit), commit) for commit in islice(past.commits(before), limit)]
    oldest = past.first if before is None else min(past.first, before - 1)
    gone = (Told(dropped(past, version), None) for version in range(oldest, 0, -1))
    found.extend(islice(gone, None if limit is None else limit - len(found)))
    return found


def past_of(store: Store, document: DocumentId) -> Past:
    """The past of a workflow, deleted or not. Raises WorkflowNotFound."""
    past = store.past(document)
    if not past.version:
        raise records.no_such_workflow(store.view(document))
    return past


def entry(document: DocumentId, commit: Commit) -> HistoryEntry:
    """What is told of a commit."""
    roots = {places.root_of(key) for key in (*commit.puts, *commit.removed)}
    transaction_id, participants = commit.joint or (None, ())
    others = [f"{each.id}@{version}" for each, version in participants if each.kind == "workflow" and each != document]
    return HistoryEntry(
        version=commit.version,
        commit_id=commit.commit_id.hex(),
        at=records.moment(commit.time_us),
        operation=commit.operation,
        operation_id=commit.operation_id,
        session_id=commit.session,
        agent_id=commit.agent,
        changed=[places.path_of(root) for root in sorted(roots, key=places.position)],
        cleared=commit.cleared,
        transaction_id=transaction_id,
        together_with=others,
    )


def steps(commit: Commit, only: Container[str] | None = None) -> dict[str, WorkflowStep]:
    """The steps that a commit wrote, as it left them, or some of them. One that cannot be read, since it was erased, is
    left out.
    """
    found: dict[str, WorkflowStep] = {}
    for key in commit.puts:
        name = key.removeprefix(records.STEP)
        if name != key and (only is None or name in only):
            try:
                found[name] = records.STEPS.decode(key, commit.read(key))
            except WaypostError:
                continue
    return found


def statuses(commit: Commit) -> dict[str, str]:
    """The statuses of those steps."""
    return {name: step.status for name, step in steps(commit).items()}


def origin(commit: Commit) -> str | None:
    """The checkpoint that a commit went back to, or forked a workflow from; None of any other."""
    for key in commit.puts:
        if key.startswith(records.RESTORED):
            try:
                return records.TEXTS.decode(key, commit.read(key))
            except WaypostError:
                return None
    return None


def dropped(past: Past, version: int) -> HistoryEntry:
    """What is told of a version that history no longer holds."""
    commit_id = past.dropped_id(version)
    return HistoryEntry(version=version, commit_id=None if commit_id is None else commit_id.hex(), kept=False)
