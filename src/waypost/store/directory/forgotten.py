"""Checkpoints that a log has lost: files that are whole, and of which nothing in the log of their document speaks.

A file of a checkpoint is never ahead of the log, so one that the log does not know says that the log went back: it was
repaired, or an older copy took its place. That is told from a checkpoint which was removed, and whose file a dead
process left: there the log knows the version that it was made in, or its history the checkpoint itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from waypost.codec.frame import Standing
from waypost.errors import WaypostError
from waypost.store import parts
from waypost.store.directory import checkpoints, compaction, keeping, loading
from waypost.store.directory.context import Context
from waypost.store.directory.layout import Layout, file_name
from waypost.store.directory.salvage import Kept
from waypost.store.kinds import DocumentId


class Told(NamedTuple):
    """What a log tells of the checkpoints of its document: those that it has, those that it has or had as far as
    history says, and the ids of its commits, the first being that of version 1.
    """

    names: set[str]
    once_there: set[str]
    commit_ids: list[bytes]

    def has_lost(self, name: str, standing: Standing) -> bool:
        """Whether a checkpoint that was made in that commit was lost, and not removed. What cannot be told is lost."""
        if name in self.once_there:
            return False
        return standing.commit_id not in self.commit_ids[standing.version - 1 : standing.version]


def told_by_log(context: Context, document: DocumentId) -> Told | None:
    """By the log as it is now; None where there is none. Raises what opening a log raises."""
    view = checkpoints.view_now(context, document)
    log, _ = loading.load(context.apart(), document)
    if not view.version or log is None or log.body is None:
        return None
    names = set(checkpoints.names_in(view))
    oldest = loading.load_at(context.apart(), document, log.dropped_versions) if log.dropped_versions else None
    behind = [found.header.commit_id for found in compaction.commits(log, log.end)]
    return Told(names, names | keeping.once_there(log, oldest), [*_ids(log.body.dropped), *behind])


def is_gone(context: Context, document: DocumentId) -> bool:
    """Whether a document has no log, or one that holds nothing; one that cannot be read is not gone."""
    try:
        return not checkpoints.view_now(context, document).version
    except WaypostError:
        return False


def is_aside(layout: Layout, document: DocumentId) -> bool:
    """Whether a repair has moved a log of a document out of the way."""
    folder, name = layout.existing("damaged"), file_name(document)
    return folder is not None and any(each.rpartition(".")[0] == name for each in folder.names())


def told_of_gone(document: DocumentId, names: Collection[str]) -> str:
    """What there is to say of a document of which only checkpoints are left."""
    whole = "a checkpoint of it is whole" if len(names) == 1 else f"{len(names):,} checkpoints of it are whole"
    text = f"the log of {document.kind} {document.id!r} is gone or empty, and {whole}"
    return f"{text}: `waypost restore {max(names)}` brings it back" if document.kind == "workflow" else text


def told_of_lost(document: DocumentId, standing: Standing) -> str:
    """What there is to say of a checkpoint that a log has lost."""
    whose = f"the log of {document.kind} {document.id!r}"
    return (
        f"is a checkpoint of version {standing.version:,}, which {whose} has lost or never had: "
        "`waypost store repair` has it adopted"
    )


def told_by_kept(kept: Kept) -> Told:
    """By what a repair keeps of a log."""
    names = set(checkpoints.names_in(kept.view))
    frames = list(kept.history.kept)
    once_there = names | keeping.once_among(frames, kept.past)
    return Told(names, once_there, [*_ids(kept.history.dropped), *(found.header.commit_id for found in frames)])


def _ids(dropped: bytes) -> Iterable[bytes]:
    length = len(parts.NO_COMMIT)
    return (dropped[at : at + length] for at in range(0, len(dropped), length))
