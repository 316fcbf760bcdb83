"""What the tests of syncing share: a sync that leaves nothing to do, and looks at what is on a side."""

from __future__ import annotations

from typing import Any

from waypost import StateConflict, SyncReport
from waypost.blocking import Waypost
from waypost.store import DocumentId, View
from waypost.store.kinds import KINDS

WF = DocumentId("workflow", "wf")


def nobody(_: StateConflict) -> None:
    """Does not know."""


def synced(one: Waypost, two: Waypost, **options: Any) -> SyncReport:
    """Sync, and see that both are the same, and that nothing is left to do from either side."""
    report = one.sync(two, **options).unwrap()
    assert report.is_complete, report
    for kind in KINDS:
        for name in one.definitions.store.documents(kind):
            here, there = (view(each, DocumentId(kind, name)) for each in (one, two))
            assert (here.commit_id, here.checksum, here.size_bytes) == (
                there.commit_id,
                there.checksum,
                there.size_bytes,
            )
    for first, second in ((one, two), (two, one)):
        again = first.sync(second).unwrap()
        assert (again.unchanged, list(again.documents), list(again.failures)) == (again.looked_at, [], [])
    return report


def view(wp: Waypost, document: DocumentId = WF) -> View:
    return wp.definitions.store.view(document)


def variables(wp: Waypost) -> dict[str, Any]:
    return dict(wp.load_workflow_state("wf").unwrap().context.variables)


def statuses(wp: Waypost) -> dict[str, str]:
    return {step.id: step.status for step in wp.load_workflow_state("wf").unwrap().workflow.steps}
