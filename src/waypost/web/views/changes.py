"""What differs between versions, what going back or forking would change, and doing it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from msgspec import UNSET

from waypost import records, references
from waypost.cli import describe
from waypost.cli.invocation import Reading
from waypost.cli.overview import condition
from waypost.delta import Difference
from waypost.errors import InvalidId, WaypostError, WorkflowNotFound
from waypost.models import StateCheckpoint, WorkflowState
from waypost.store import DocumentId
from waypost.web import answers
from waypost.web.query import Asked, CheckpointId, Id, Reference, Version
from waypost.web.site import Site
from waypost.web.views import versions

MOST_ROWS = 5_000
_LONGEST_PATH = 2_000


class Compared(Asked, frozen=True, kw_only=True):
    """Two versions, each a checkpoint or `workflow@version`; without the second one the workflow as it is."""

    a: Reference
    b: Reference | None = None


class OfCheckpoint(Asked, frozen=True, kw_only=True):
    """A checkpoint to go back to."""

    checkpoint: CheckpointId


class Restore(Asked, frozen=True, kw_only=True):
    """Going back, as long as the workflow is at the version that was looked at."""

    checkpoint: CheckpointId
    version: Version


class Fork(Asked, frozen=True, kw_only=True):
    """A checkpoint to make another workflow of, and its id."""

    checkpoint: CheckpointId
    new_id: Id


def diff(site: Site, asked: Compared) -> dict[str, Any]:
    """What leads from one version to the other."""
    with site.source.reading() as store:
        b = asked.b if asked.b is not None else references.resolve(store.store, asked.a).document.id
        found = store.wp.diff(asked.a, b)
    return {"before": found.before, "after": found.after, **_rows(found.changes)}


def _rows(changes: Iterable[Difference]) -> dict[str, Any]:
    given = list(islice(changes, MOST_ROWS + 1))
    rows = answers.filled(map(_row, given[:MOST_ROWS]))
    return {"items": rows, "cut": len(rows) < len(given)}


def _row(each: Difference) -> dict[str, Any]:
    sides = (("before", each.before), ("after", each.after))
    values = {name: answers.value(describe.at_path(value)) for name, value in sides if value is not UNSET}
    return answers.shortened({"path": each.path, "change": each.kind, **values}, path=_LONGEST_PATH)


# --- going back ---


def restore_preview(site: Site, asked: OfCheckpoint) -> dict[str, Any]:
    """What going back would change, at which version of the workflow, and what speaks against it."""
    with site.source.reading() as store:
        kept = store.wp.get_checkpoint(records.validate_id(asked.checkpoint, "checkpoint id"))
        changes, version = _changes(store, kept)
        return {
            "checkpoint": describe.checkpoint(kept),
            "summary": _summary(kept.state),
            "version": version,
            "problems": [*_damage(store, kept), *_at_work(store, kept.workflow_id)],
            **_rows(changes),
        }


def _changes(store: Reading, kept: StateCheckpoint) -> tuple[Iterable[Difference], int]:
    """What differs from the checkpoint, and from which version on; nothing where only checkpoints are left."""
    try:
        found = store.wp.diff(kept.workflow_id, kept.id)
    except WorkflowNotFound:
        return (), store.store.view(DocumentId("workflow", kept.workflow_id)).version
    return found.changes, int(found.before.rpartition("@")[2])


def _damage(store: Reading, kept: StateCheckpoint) -> list[str]:
    return list(store.wp.validate_checkpoint(kept.id).errors)


def _at_work(store: Reading, workflow_id: str) -> list[str]:
    """Whether somebody works on it now, whom going back would surprise."""
    try:
        state = versions.state_of(store, workflow_id)
    except WaypostError as error:
        return [f"the workflow as it is cannot be read: {error}"]
    running = [step.id for step in state.workflow.steps if step.status == "running"]
    if condition(state) != "running":
        return []
    return [f"{len(running)} of its steps are running now, in a process that lives or cannot be seen from here"]


def restore(site: Site, given: Restore) -> dict[str, Any]:
    """Go back, unless something was committed since the preview."""
    with site.source.writing() as store:
        name = records.validate_id(given.checkpoint, "checkpoint id")
        state = store.wp.restore_from_checkpoint(name, expected_version=given.version).unwrap()
        return {"checkpoint_id": name, "workflow": state.workflow.id, "summary": _summary(state)}


# --- forking ---


def fork_preview(site: Site, asked: Fork) -> dict[str, Any]:
    """What the other workflow would be, and what speaks against it."""
    with site.source.reading() as store:
        kept = store.wp.get_checkpoint(records.validate_id(asked.checkpoint, "checkpoint id"))
        return {
            "checkpoint": describe.checkpoint(kept),
            "summary": _summary(kept.state),
            "version": 0,
            "problems": [*_damage(store, kept), *_taken(store, asked.new_id)],
            "items": [],
            "cut": False,
        }


def _taken(store: Reading, new_id: str) -> list[str]:
    try:
        view = store.store.view(versions.document(new_id), durable=False)
    except InvalidId as error:
        return [str(error)]
    if records.find_workflow(view) is not None:
        return [f"there is a workflow {new_id!r} already: choose another id"]
    return []


def fork(site: Site, given: Fork) -> dict[str, Any]:
    """Make another workflow of a checkpoint."""
    with site.source.writing() as store:
        name = records.validate_id(given.checkpoint, "checkpoint id")
        state = store.wp.fork_workflow(name, given.new_id).unwrap()
        return {"checkpoint_id": name, "workflow": state.workflow.id, "summary": _summary(state)}


def _summary(state: WorkflowState) -> dict[str, Any]:
    """A workflow in a few words."""
    folded = state.workflow.fold()
    return {
        "id": state.workflow.id,
        "name": state.workflow.name,
        "status": folded.status,
        "progress": folded.progress,
        "step_counts": {**folded.step_counts},
        "version": state.metadata.version,
    }
