"""References: texts that name one version of a workflow.

    survey          its newest version
    survey@17       version 17

An id that there is counts as a whole, whatever it holds; only where there is none does the last `@` divide.
"""

from __future__ import annotations

from waypost import migrations, records
from waypost.errors import VersionNotFound
from waypost.store import DocumentId, Store, View


def resolve(store: Store, text: str) -> View:
    """The version that a reference names, as this release reads it.

    Raises InvalidId, WorkflowNotFound, VersionNotFound.
    """
    document = DocumentId("workflow", records.validate_id(text, "reference"))
    view = store.view(document)
    if view.version:
        return migrations.current(view)
    workflow_id, separator, name = text.rpartition("@")
    if separator and workflow_id and is_number(name):
        return version(store, DocumentId("workflow", workflow_id), int(name))
    raise records.no_such_workflow(view)


def is_number(name: str) -> bool:
    """Whether what stands behind the `@` is the number of a version."""
    return name.isascii() and name.isdecimal() and len(name) < 20


def version(store: Store, document: DocumentId, number: int) -> View:
    """A version of a workflow, as this release reads it. Raises WorkflowNotFound, VersionNotFound."""
    view = store.view_at(document, number)
    if view is not None and (number or store.view(document).version):
        return migrations.current(view)
    past = store.past(document)
    if not past.version:
        raise records.no_such_workflow(store.view(document))
    named = f"workflow {document.id!r}"
    if number > past.version:
        why = f"{named} has no version {number:,}: its newest is {past.version:,}"
    else:
        why = f"version {number:,} of {named} is no longer kept: its history begins with version {past.first:,}"
    raise VersionNotFound(why, workflow_id=document.id, version=number, first=past.first, newest=past.version)


def written(view: View) -> str:
    """The reference that names a version."""
    return f"{view.document.id}@{view.version}"
