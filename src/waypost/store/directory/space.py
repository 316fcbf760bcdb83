"""What documents take on the medium, and giving back what they need no more."""

from __future__ import annotations

import logging
from collections.abc import Callable

from waypost.errors import WaypostError
from waypost.store.directory import checkpoints, forgotten, keeping, spooled, upkeep
from waypost.store.directory.checkpoints import FOLDER, SUFFIX, Layer, file_name
from waypost.store.directory.context import Context
from waypost.store.directory.document import Document
from waypost.store.directory.forgotten import Told
from waypost.store.kinds import DocumentId

_LOG = logging.getLogger("waypost")


def reclaim(context: Context, document: Document) -> None:
    """Remove files of checkpoints that a document has no more, and compact its log where that pays."""
    document.keep_checkpoints(newest_only=True)
    upkeep.compact_if_due(document, context, closing=True)


def sweep(context: Context, open_: Callable[[DocumentId], Document]) -> int:
    """Remove files of checkpoints that their documents have no more: whoever removed one died before its file went.

    Gives how many bytes they took, and what was refused of the spool long ago. Those of documents that are lost stay,
    being all that is left of these, and so do those that only their log has lost.
    """
    folder = context.layout.existing(FOLDER)
    spool = context.layout.existing(spooled.FOLDER)
    freed = 0 if spool is None else spooled.keep_bounds(spool, by_age=True)
    told: dict[tuple[DocumentId, int], Told | None] = {}
    for file in folder.names() if folder else []:
        try:
            layer = checkpoints.read_file(context, folder, file) if folder and file.endswith(SUFFIX) else None
            if folder is None or layer is None or file != file_name(layer.name):
                continue
            restores, size = context.restores, folder.allocated(file) or 0
            view = open_(layer.document).view(durable=True)  # newer than the file, which follows its commit
            names = checkpoints.names_in(view)
            if not view.version or layer.name in names:
                continue
            asked = layer.document, restores
            if asked not in told:  # once, since it takes going through the log; what is made later counts as lost
                told[asked] = forgotten.told_by_log(context, layer.document)
            if _was_removed(told[asked], layer):
                keeping.let_go(context, keeping.Wanted(layer.document, names, {layer.name}, restores))
                freed += size
        except WaypostError as error:
            _LOG.warning("%s", error)  # whose it is cannot be told, or is told wrongly: repair sees to it
    return freed


def _was_removed(told: Told | None, layer: Layer) -> bool:
    return told is not None and told.fate(layer.name, layer.standing) == "removed"
