"""Which version of a workflow is asked for: as it is, or as it was at one of its checkpoints."""

from __future__ import annotations

from waypost import checkpoints, loading, migrations, records
from waypost.cli import describe
from waypost.cli.invocation import Reading
from waypost.errors import CheckpointNotFound
from waypost.models import WorkflowState
from waypost.store import DocumentId, View


def document(workflow_id: str) -> DocumentId:
    """Raises InvalidId."""
    return DocumentId("workflow", records.validate_id(workflow_id, "workflow id"))


def view_of(store: Reading, workflow_id: str, at: str | None = None) -> View:
    """That version. Who only looks waits for no sync. Raises WorkflowNotFound, CheckpointNotFound, DocumentDamaged."""
    where = document(workflow_id)
    if at is None:
        view = migrations.current(store.store.view(where, durable=False))
        records.workflow(view)
        return view
    found, name = checkpoints.find(store.store, records.validate_id(at, "checkpoint id"))
    if found != where:
        raise CheckpointNotFound(f"checkpoint {at!r} is not one of workflow {workflow_id!r}", checkpoint_id=at)
    return checkpoints.version_of(store.store, found, name)


def state_of(store: Reading, workflow_id: str, at: str | None = None) -> WorkflowState:
    """The workflow at that version."""
    found = loading.load(view_of(store, workflow_id, at), keys=store.store.keys, inert=True)
    return found if at is None else describe.as_of_then(found)
