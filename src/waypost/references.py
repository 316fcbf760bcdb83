"""References: texts that name one version of a workflow.

    survey          its newest version
    survey@17       version 17
    survey@c…       that of a checkpoint, by its id or by as much of it as tells it from others

An id that there is counts as a whole, whatever it holds; only where there is none does the last `@` divide.
"""

from __future__ import annotations

from waypost import checkpoints, migrations, records
from waypost.errors import VersionNotFound
from waypost.store import DocumentId, Store, View


def resolve(store: Store, text: str) -> View:
    """The version that a reference names, as this release reads it.

    Raises InvalidId, InvalidInput, WorkflowNotFound, VersionNotFound, CheckpointNotFound, DocumentDamaged.
    """
    document = DocumentId("workflow", records.validate_id(text, "reference"))
    view = store.view(document)
    if view.version:
        return migrations.current(view)
    workflow_id, separator, name = text.rpartition("@")
    if separator and workflow_id and is_number(name):
        return version(store, DocumentId("workflow", workflow_id), int(name))
    if is_checkpoint(text):
        return checkpoints.version_of(store, *checkpoints.find(store, text))
    raise records.no_such_workflow(view)


def is_number(name: str) -> bool:
    """Whether what stands behind the `@` is the number of a version."""
    return name.isascii() and name.isdecimal() and len(name) < 20


def is_checkpoint(text: str) -> bool:
    """Whether a reference is by a checkpoint's id."""
    workflow_id, separator, name = text.rpartition("@")
    return bool(workflow_id) and (separator + name).startswith(checkpoints.MARK)


def version(store: Store, document: DocumentId, number: int) -> View:
    """A version of a workflow, as this release reads it; none that a crash could take back.

    Raises WorkflowNotFound, VersionNotFound.
    """
    newest = store.view(document)
    if not newest.version:
        raise records.no_such_workflow(newest)
    view = newest if number == newest.version else None
    if number < newest.version:
        view = store.view_at(document, number)
    if view is not None:
        return migrations.current(view)
    named, first = f"workflow {document.id!r}", None
    if number > newest.version:
        why = f"{named} has no version {number:,}: its newest is {newest.version:,}"
    else:
        first = store.past(document).first
        why = f"version {number:,} of {named} is no longer kept: its history begins with version {first:,}"
    raise VersionNotFound(why, workflow_id=document.id, version=number, first=first, newest=newest.version)


def written(view: View) -> str:
    """The reference that names a version."""
    return f"{view.document.id}@{view.version}"
