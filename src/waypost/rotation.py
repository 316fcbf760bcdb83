"""Sealing anew, with the current key, what workflows have sealed with older ones.

Each workflow is one commit, in which only the bytes of secrets change. What was sealed before stays so in history and
in checkpoints: they are versions, and versions do not change.
"""

from __future__ import annotations

from functools import partial

from msgspec import Struct

from waypost import clock, prepared, records, sealing, secrecy
from waypost.errors import SealBroken, SecretsNotSealed, StoreClosed, StoreReadOnly, WaypostError
from waypost.keys import Keys, how_to_give_one
from waypost.records import SECRET
from waypost.store import Change, DocumentId, Store, Transaction, View


class WorkflowRotation(Struct, frozen=True, kw_only=True):
    """What became of the secrets of one workflow. `error` says why they are left as they were, all of them."""

    workflow_id: str
    resealed: int = 0
    error: str | None = None


class RotationReport(Struct, frozen=True, kw_only=True):
    """What a rotation did. `key_id` is of the current key; `current` workflows had nothing that another key sealed."""

    key_id: str
    workflows: list[WorkflowRotation]
    current: int

    @property
    def resealed(self) -> int:
        """How many secrets were sealed anew."""
        return sum(each.resealed for each in self.workflows)

    @property
    def failed(self) -> list[WorkflowRotation]:
        return [each for each in self.workflows if each.error is not None]


def rotate(store: Store) -> RotationReport:
    """Seal every workflow's secrets with the current key. One that cannot be is reported, and the others go on.

    Raises SecretsNotSealed where there is no key, InvalidConfiguration, StoreReadOnly, StoreClosed.
    """
    keys = store.keys()
    if not len(keys):
        raise SecretsNotSealed(f"there is no key to seal with: {how_to_give_one()}")
    found: list[WorkflowRotation] = []
    current = 0
    for workflow_id in sorted(store.documents("workflow")):
        one = _rotate(store, DocumentId("workflow", workflow_id), keys)
        if one is None:
            current += 1
        else:
            found.append(one)
    return RotationReport(key_id=keys.current.id, workflows=found, current=current)


def _rotate(store: Store, document: DocumentId, keys: Keys) -> WorkflowRotation | None:
    try:
        prepared.settle(store, document)  # it may be to put a secret
        if not _outdated(store.view(document), keys):
            return None
        change = Change(document, partial(_reseal_all, keys=keys), clock.new_id("op"), "rotate_secrets")
        resealed: int = prepared.submit(store, change).data
    except (StoreReadOnly, StoreClosed):
        raise
    except WaypostError as error:
        return WorkflowRotation(workflow_id=document.id, error=str(error))
    return WorkflowRotation(workflow_id=document.id, resealed=resealed) if resealed else None


def _outdated(view: View, keys: Keys) -> list[str]:
    """The names of secrets that another key has sealed, or that cannot be told."""
    return [name for name in records.names(view, SECRET) if _key_of(view, name) != keys.current.id]


def _key_of(view: View, name: str) -> str | None:
    try:
        return sealing.key_id_of(view.get(SECRET + name) or b"")
    except SealBroken:
        return None


def _reseal_all(tx: Transaction, keys: Keys) -> int:
    """Seal anew what is not sealed with the current key; how many that were. Raises KeyMissing, SealBroken."""
    record = tx.get(records.WORKFLOW)
    if record is not None:
        records.versions_in(record).refuse_unknown(f"workflow {tx.document.id!r}")
    tx.project(["context"])
    outdated = _outdated(tx, keys)
    for name in outdated:
        tx.put(SECRET + name, secrecy.reseal(name, tx.get(SECRET + name) or b"", keys))
    return len(outdated)
