"""The operation that erases, beside the rest in `definitions`."""

from __future__ import annotations

from waypost import erasures
from waypost.erasures import Erasure
from waypost.loading import Viewer
from waypost.operations import OperationResult, Request, Work
from waypost.requests import Requests, done_before
from waypost.store import DocumentId


class ErasingDefinitions(Requests):
    """Taking out what should never have been stored."""

    def erase(
        self,
        workflow_id: str,
        path: str,
        *,
        operation_id: str | None = None,
        session_id: str | None = None,
    ) -> Request[OperationResult[Erasure]]:
        """Take what is at a path out of a workflow, all of its history and its checkpoints; the commits that put it
        stay, without it, and with their ids. Copies of the workflow that the store keeps beside it (backups of its log,
        what a repair put aside) are removed: the result names them.

        `outputs.fetch` stands for all versions of an output, `outputs.fetch@2` for one; `context.variables.x` (and the
        like for `configuration`, `features` and `secrets`) and `agents.writer` for all values that were ever there.

        What left the store before (backups elsewhere, exports, other workflows that were forked from this one) is out
        of reach. Where this fails after it was decided, the same operation id finishes it, or whoever closes the
        workflow.

        Fails with WorkflowNotFound, PathNotFound, InvalidId, InvalidInput, DocumentDamaged, StoreUnavailable.
        """

        session_id = self._session(session_id)

        def prepare() -> Work[None]:
            if self._was_done(DocumentId("workflow", workflow_id), operation_id):
                return done_before
            return erasures.prepare(self.store, workflow_id, path, session_id)

        def finish(_: None, viewer: Viewer) -> Erasure:
            return erasures.finish(self.store, viewer(), path)

        return self._write("erase", workflow_id, prepare, finish, operation_id, session_id, stages=True)
