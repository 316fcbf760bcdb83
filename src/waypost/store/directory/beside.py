"""What is kept of a document beside its log, and what becomes of it when something is erased.

Files of checkpoints are written again without it. Everything else is a copy of what was: logs that compactions,
migrations and restores have put by, bytes that were moved aside, files that a repair found. Those go: a copy that may
hold what was erased is worth less than the promise that none does.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from waypost.errors import DocumentDamaged, UnsupportedFormat, WaypostError
from waypost.store.contract import ADOPTED, CHECKPOINT
from waypost.store.directory import arriving, checkpoints, decisions, keeping, receiving
from waypost.store.directory.checkpoints import FOLDER, SUFFIX
from waypost.store.directory.context import Context
from waypost.store.directory.files import Directory
from waypost.store.directory.layout import STAGED, sweep
from waypost.store.directory.loading import file_name
from waypost.store.directory.scrubbing import Scrubbed
from waypost.store.erasures import Erasures
from waypost.store.kinds import DocumentId
from waypost.store.views import View

_BEFORE_RESTORE = "before-restore."
# as they are named where they stand, or with the number that who moves them aside puts behind it
_DECISION_OR_DRAFT = re.compile(r"([0-9a-f]{32}|[0-9a-f]{16}\.new)(\.[0-9]+)?")


def scrub_checkpoints(context: Context, version: View, erasures: Erasures, known: set[str]) -> None:
    """Write the files of checkpoints of a document again that hold something of what is erased, durably. `known` are
    names of checkpoints that it has or had. What dead processes took in gets its place first, or goes.

    What does not stand in the document's own line, being imported, adopted or lost, counts as older than any erasure:
    its times are those of another clock. Raises DocumentDamaged
    for a file that cannot be read.
    """
    arriving.settle(context)

    def is_own(name: str) -> bool:
        key, document = CHECKPOINT + name, version.document
        if version.size_of(key) is not None or version.size_of(ADOPTED + name) is not None:
            return version.size_of(key) is not None
        return checkpoints.view_now(context, document).size_of(key) is not None  # it may have been made just now

    scrub_files(context, erasures, is_own, lambda folder, file: _is_of(context, folder, file, version.document, known))


def scrub_files(
    context: Context,
    erasures: Erasures,
    is_own: Callable[[str], bool],
    is_wanted: Callable[[Directory, str], bool],
) -> None:
    """The same of all files that are wanted, by their times those that are in the document's own line."""
    folder = context.layout.existing(FOLDER)
    if folder is None:
        return
    with keeping.alone(context):
        for file in sorted(folder.names()):  # so each comes behind what it stands on
            if file.endswith(SUFFIX) and is_wanted(folder, file):
                _scrub(context, folder, file, erasures, is_own)
        folder.sync()
        keeping.are_durable(context)


def _scrub(context: Context, folder: Directory, file: str, erasures: Erasures, is_own: Callable[[str], bool]) -> None:
    layer = checkpoints.read_file(context.apart(), folder, file)
    kept = None if layer is None else checkpoints.read(context.apart(), layer.name)
    if layer is None or kept is None:
        return
    scrubbed = Scrubbed.of(kept, erasures, None if is_own(layer.name) else 0)
    if scrubbed is not kept:
        parent = None if layer.parent is None else checkpoints.read(context.apart(), layer.parent)
        keeping.put_in_place(context, layer.name, scrubbed, parent)


def remove_leftovers(context: Context, document: DocumentId, known: set[str]) -> list[str]:
    """Remove all copies of a document, or of some of it, that are put by in its store, durably; their names. `known` is
    as above.
    """
    layout, log_name = context.layout, file_name(document)
    removed: list[str] = []

    def is_of(name: str) -> bool:
        return name.startswith(f"{log_name}.")

    def was_of(folder: Directory, name: str) -> bool:
        return name == log_name or is_of(name) or _is_of(context, folder, name, document, known)

    sweep(layout)
    receiving.sweep(context)
    layout.folder(decisions.FOLDER).sync()  # where a decision was removed, that lasts
    staged = layout.folder("temp").open_directory(STAGED)
    removed += _remove_below(staged, f"temp/{STAGED}", was_of)
    for name in ("temp", "backups"):
        removed += _remove(layout.existing(name), name, lambda _, each: is_of(each))
    removed += _remove_below(layout.existing("damaged"), "damaged", was_of)
    backups = layout.existing("backups")
    for kept_in in sorted(backups.names()) if backups else []:
        kept = backups.open_directory(kept_in) if backups and kept_in.startswith(_BEFORE_RESTORE) else None
        removed += _remove_below(kept, f"backups/{kept_in}", was_of)
    return removed


def _remove(folder: Directory | None, shown: str, is_going: Callable[[Directory, str], bool]) -> list[str]:
    if folder is None:
        return []
    going = [name for name in sorted(folder.names()) if folder.kind(name) == "file" and is_going(folder, name)]
    for name in going:
        folder.remove(name)
    folder.sync()  # also where nothing is left to go: whoever removed it may have died before that
    return [f"{shown}/{name}" for name in going]


def _remove_below(folder: Directory | None, shown: str, is_going: Callable[[Directory, str], bool]) -> list[str]:
    """The same in all directories that are in it, too: what was to arrive, or to be restored, is moved aside whole."""
    removed = _remove(folder, shown, is_going)
    for name in sorted(folder.names()) if folder else []:
        if folder and folder.kind(name) == "directory":
            removed += _remove_below(folder.open_directory(name), f"{shown}/{name}", is_going)
    return removed


def _speaks_of(folder: Directory, name: str, document: DocumentId) -> bool:
    """Whether a decision that was put by holds frames of a document, or cannot be read."""
    try:
        body = decisions.read(folder, name, name.partition(".")[0])
    except WaypostError:
        return True
    return body is not None and any((each.kind, each.id) == document for each in body.participants)


def _is_of(context: Context, folder: Directory, name: str, document: DocumentId, known: set[str]) -> bool:
    """Whether a file is a log or a checkpoint of a document, or a decision that speaks of it: by what it says, or else
    by its name. Of what died while it was written nobody may be able to tell.
    """
    try:
        owner = checkpoints.owner_of(context, folder, name)
    except (DocumentDamaged, UnsupportedFormat):
        owner = None
    if owner is not None:
        return owner == document
    if _DECISION_OR_DRAFT.fullmatch(name):
        return _speaks_of(folder, name, document)
    files = {checkpoints.file_name(each) for each in known}
    return name in files or name.rpartition(".")[0] in files
