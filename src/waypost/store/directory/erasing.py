"""Carrying out an erasure: what a document says is erased goes from everything that is kept of it.

The decision is a commit like any other. What follows is a compaction that leaves out what is erased, and before it lets
the new log take its place sees to all other files: so a log that says an erasure was carried out is the last thing to
change, and wherever this is cut off, it is due again, for the caller who repeats it or whoever closes the log next.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from waypost.errors import StoreReadOnly, StoreUnavailable, WaypostError
from waypost.store.contract import Store
from waypost.store.directory import compaction, loading, upkeep
from waypost.store.directory.context import Context
from waypost.store.directory.document import Document
from waypost.store.erasures import ERASED
from waypost.store.kinds import DocumentId

_TRIES = 16


def carry_out(context: Context, document: Document, settle: Callable[[], object]) -> list[str]:
    """Take out what a document says is erased; the names of the files that went with it. Raises what writing raises.

    `settle` has decisions over several documents carried out, which hold frames of theirs.
    """
    removed: list[str] = []
    if context.layout.read_only:
        _check_nothing_is_due(context, document)
        return removed
    for _ in range(_TRIES):
        if not _is_due(document):
            return removed
        settle()
        upkeep.compact(document, context, removed)  # which others may have been faster to do
    raise StoreUnavailable(
        f"what was erased of {document.id.kind} {document.id.id!r} is not gone yet: others replace its log all the time"
    )


def carry_out_all(store: Store) -> None:
    """The same of all that a store holds."""
    for document in [DocumentId("workflow", name) for name in store.documents("workflow")]:
        due = False
        with suppress(WaypostError):  # of what is damaged others tell
            due = next(store.view(document).keys(ERASED), None) is not None
        if due:
            store.erase(document)


def _check_nothing_is_due(context: Context, document: Document) -> None:
    """Raise StoreReadOnly where something is still to be done, which only who writes can do."""
    log, _ = loading.load(context.apart(), document.id)
    if log is not None and log.end and compaction.erasing_is_due(log, document.view(durable=False)):
        raise StoreReadOnly(
            f"something of {document.id.kind} {document.id.id!r} is to be erased and not gone yet: erase it again, "
            "since the store is open for reading only here",
            location=context.layout.path,
        )


def _is_due(document: Document) -> bool:
    """Whether something is still to be done; the log is open for writing then."""
    with document.lock:
        if not document.view(durable=True).version:
            return False
        log = document.open_for_writing()
        return compaction.erasing_is_due(log, document.state_now().view())
