"""What workflows take on the medium."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from waypost import records
from waypost.models import StepOutput
from waypost.store import DocumentId, Store


class WorkflowUsage(NamedTuple):
    """Bytes of the medium that a workflow takes: its log, with its history, and the files of its checkpoints by id.

    Checkpoints without a file stand in the log. One that others stand on holds what they share.
    """

    workflow_id: str
    log_bytes: int
    checkpoints: dict[str, int]

    @property
    def checkpoint_bytes(self) -> int:
        return sum(self.checkpoints.values())

    @property
    def total_bytes(self) -> int:
        return self.log_bytes + self.checkpoint_bytes


def of_store(store: Store) -> Iterator[WorkflowUsage]:
    """What each workflow takes, in no particular order."""
    for each in store.documents("workflow"):
        yield of_workflow(store, each)


def of_threads(store: Store) -> tuple[int, int]:
    """How many documents adapters keep, and what their logs take."""
    sizes = [store.log_bytes(DocumentId("thread", each)) for each in store.documents("thread")]
    return len(sizes), sum(sizes)


def of_workflow(store: Store, workflow_id: str) -> WorkflowUsage:
    """What one workflow takes."""
    document = DocumentId("workflow", workflow_id)
    return WorkflowUsage(workflow_id, store.log_bytes(document), store.checkpoint_bytes(store.checkpoints(document)))


def outputs(store: Store, workflow_id: str) -> Sequence[StepOutput]:
    """All versions of all outputs of a workflow as it is, without their values; sizes are before compression.

    Raises WorkflowNotFound, DocumentDamaged.
    """
    view = store.view(DocumentId("workflow", workflow_id), durable=False)
    records.workflow(view)
    found = [records.OUTPUTS.get(view, key) for key in view.keys(records.OUTPUT)]
    return [each for each in found if each is not None]
