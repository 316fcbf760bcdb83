"""The operations that look back, beside the rest in `definitions`: what became of a workflow, and who made it so."""

from __future__ import annotations

from waypost import blame as blame_
from waypost import delta, references
from waypost import history as history_
from waypost.blame import Blame
from waypost.delta import WorkflowDiff
from waypost.history import HistoryEntry
from waypost.operations import Request
from waypost.requests import Requests


class LookingBack(Requests):
    """Operations over the past of the workflows of a store. They change nothing."""

    def history(
        self, workflow_id: str, *, limit: int | None = history_.LIMIT, before: int | None = None
    ) -> Request[list[HistoryEntry]]:
        """The commits of a workflow, the newest first: at most `limit` of them, of versions below `before`.

        A deleted workflow has a history too. Of versions that history no longer holds, number and commit id are left.

        Raises WorkflowNotFound, InvalidId, InvalidInput.
        """
        return self._read("history", lambda: history_.history(self.store, workflow_id, limit, before))

    def diff(self, a: str, b: str) -> Request[WorkflowDiff]:
        """What leads from one version to another: what was added, removed and changed, with paths into the values.

        Each is the id of a workflow, for its newest version, `workflow@version`, or the id of a checkpoint.

        Raises WorkflowNotFound, VersionNotFound, CheckpointNotFound, InvalidId, InvalidInput.
        """

        def read() -> WorkflowDiff:
            before, after = references.resolve(self.store, a), references.resolve(self.store, b)
            changes = delta.compare(before, after)
            return WorkflowDiff(before=references.written(before), after=references.written(after), changes=changes)

        return self._read("diff", read)

    def blame(self, workflow_id: str, path: str) -> Request[Blame]:
        """Which commit made what is at a path what it is now, and what was there before.

        Paths are those of `diff`: `outputs.fetch.rows[3].price`, `steps.fetch.status`. That of a group, as in `outputs`
        or `context.variables`, stands for all that is below it.

        Raises WorkflowNotFound, PathNotFound (which names the nearest place that is there), InvalidId, InvalidInput.
        """
        return self._read("blame", lambda: blame_.blame(self.store, workflow_id, path))
