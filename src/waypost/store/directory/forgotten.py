"""Checkpoints that a log has lost: files that are whole, and of which nothing in the log of their document speaks.

A file of a checkpoint is never ahead of the log, so one that the log does not know says that the log went back: it was
repaired, or an older copy took its place. That is told from a checkpoint which was removed, and whose file a dead
process left: there the log knows the version that it was made in, or its history the checkpoint itself. What a repair
may have lost of a log, and what it saw removed there, the report beside the original says to all that come later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Literal, NamedTuple

import msgspec

from waypost.codec.frame import Standing
from waypost.errors import WaypostError
from waypost.store import parts
from waypost.store.contract import ADOPTED, CHECKPOINT
from waypost.store.directory import checkpoints, compaction, keeping, loading
from waypost.store.directory.context import Context
from waypost.store.directory.files import Directory
from waypost.store.directory.layout import RESTORING, Layout, file_name
from waypost.store.directory.salvage import UNKNOWN_ID, Kept, KeyRange, Salvage, is_within
from waypost.store.directory.state import Snapshot
from waypost.store.kinds import DocumentId

Fate = Literal["there", "removed", "lost", "cannot be told"]
_ASIDE = "damaged"


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """What the report of a repair says of a log that it wrote anew, or moved aside: names of checkpoints that the old
    one told to be removed, and which parts of the version that is kept it may have lost.
    """

    action: str
    kind: str | None = None
    id: str | None = None
    kept_version: int | None = None
    removed: frozenset[str] = msgspec.field(name="removed_checkpoints", default=frozenset())
    lost_parts: tuple[str, ...] = ()
    lost_keys: tuple[KeyRange, ...] = ()

    def may_have_lost(self, name: str, version: int) -> bool:
        """Whether the part that speaks of a checkpoint, which was made in that version, may be among what was lost."""
        return version <= (self.kept_version or 0) and self.may_have_lost_any(CHECKPOINT + name, ADOPTED + name)

    def may_have_lost_any(self, *keys: str) -> bool:
        """The same of keys."""
        return any(key in self.lost_parts or any(is_within(key, each) for each in self.lost_keys) for key in keys)


class Unknown(NamedTuple):
    """The file of a checkpoint that its document does not speak of."""

    file: str
    name: str
    standing: Standing


class Told(NamedTuple):
    """What a log tells of the checkpoints of its document: those that it has, those that it has or had as far as
    history says, the ids of its commits, the first being that of version 1, and what repairs may have lost of it, the
    newest first.
    """

    names: set[str]
    once_there: set[str]
    commit_ids: list[bytes]
    losses: list[Loss]

    def fate(self, name: str, standing: Standing) -> Fate:
        """What became of a checkpoint that was made in that commit."""
        if name in self.names:
            return "there"
        if name in self.once_there:
            return "removed"
        for each in self.losses:
            if name in each.removed:
                return "cannot be told"  # it was removed then, and may have come back since
            if each.may_have_lost(name, standing.version):
                return "lost"
        known = self.commit_ids[standing.version - 1 : standing.version]
        if known == [UNKNOWN_ID]:
            return "cannot be told"
        return "removed" if known == [standing.commit_id] else "lost"


def told_by_log(context: Context, document: DocumentId) -> Told | None:
    """By the log as it is now; None where there is none. Raises what opening a log raises."""
    view = checkpoints.view_now(context, document)
    log, _ = loading.load(context.apart(), document)
    if not view.version or log is None or log.body is None:
        return None
    names = set(checkpoints.names_in(view))
    oldest = loading.load_at(context.apart(), document, log.dropped_versions) if log.dropped_versions else None
    behind = [found.header.commit_id for found in compaction.commits(log, log.end)]
    return Told(
        names,
        names | keeping.once_there(log, oldest),
        [*_ids(log.body.dropped), *behind],
        losses(context.layout, document),
    )


def is_gone(context: Context, document: DocumentId) -> bool:
    """Whether a document has no log, or one that holds nothing; one that cannot be read is not gone, and none is
    during a restore.
    """
    try:
        if checkpoints.view_now(context, document).version:
            return False
    except WaypostError:
        return False
    return context.layout.root.kind(RESTORING) is None


def is_missing(context: Context, document: DocumentId, name: str) -> bool:
    """Whether a document still has a checkpoint, and there is no file of it, also none that cannot be read."""
    with suppress(WaypostError):
        if not checkpoints.has(checkpoints.view_now(context, document), name):
            return False  # it was removed just now
    folder = context.layout.existing(checkpoints.FOLDER)
    is_there = folder is not None and folder.kind(checkpoints.file_name(name)) is not None
    return not is_there and context.layout.root.kind(RESTORING) is None


def is_aside(layout: Layout, document: DocumentId) -> bool:
    """Whether the last repair that found the log of a document not whole moved it out of the way, with none instead."""
    folder, name = layout.existing(_ASIDE), file_name(document)
    found = [each.rpartition(".") for each in folder.names()] if folder else []
    numbers = [int(number) for stem, _, number in found if stem == name and number.isdecimal()]
    if folder is None or not numbers:
        return False
    report = f"{name}.{max(numbers)}.json"
    loss = _read_loss(folder, report)
    # what holds nothing that is whole goes aside without a report
    return folder.kind(report) is None or (loss is not None and loss.action == "moved aside")


def told_of_gone(document: DocumentId, names: Collection[str]) -> str:
    """What there is to say of a document of which only checkpoints are left."""
    whole = "a checkpoint of it is whole" if len(names) == 1 else f"{len(names):,} checkpoints of it are whole"
    text = f"the log of {document.kind} {document.id!r} is gone or empty, and {whole}"
    return f"{text}: `waypost restore {max(names)}` brings it back" if document.kind == "workflow" else text


def told_of_file(document: DocumentId, told: Told | None, file: Unknown) -> str:
    """What there is to say of the file of a checkpoint that a document does not have."""
    fate = "cannot be told" if told is None else told.fate(file.name, file.standing)
    if fate == "removed":
        return "is a checkpoint that its document has no more"
    what, whose = f"is a checkpoint of version {file.standing.version:,}", f"the log of {document.kind} {document.id!r}"
    if fate == "lost":
        return f"{what}, which {whose} has lost or never had: `waypost store repair` has it adopted"
    return f"{what}; whether it was removed or {whose} has lost it cannot be told, so nothing removes its file"


def losses(layout: Layout, document: DocumentId) -> list[Loss]:
    """What the reports of repairs say of the logs of a document, the newest first."""
    folder, found = layout.existing(_ASIDE), list[tuple[int, Loss]]()
    for name in folder.names() if folder else []:
        stem, _, number = name.removesuffix(".json").rpartition(".")
        if folder and stem == file_name(document) and name.endswith(".json") and number.isdecimal():
            loss = _read_loss(folder, name)
            if loss is not None and (loss.kind, loss.id) == document:
                found.append((int(number), loss))
    return [loss for _, loss in sorted(found, key=lambda each: each[0], reverse=True)]


def _read_loss(folder: Directory, name: str) -> Loss | None:
    file = folder.open(name) if folder.kind(name) == "file" else None
    try:
        return None if file is None else msgspec.json.decode(file.read(file.identity().size, 0), type=Loss)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # not as a repair wrote it


def loss_of(result: Salvage, kept: Kept) -> Loss:
    """What a repair may lose of a log, and what all frames that can still be read tell to be removed."""
    version = kept.view.version
    loss = Loss(
        action="written anew",
        kept_version=version,
        lost_parts=tuple(result.lost_parts),
        lost_keys=tuple(result.lost_keys),
    )
    there: dict[str, int] = {}
    removed: set[str] = set()
    for at, is_cleared, puts, gone in _changes(result):
        gone = {*gone, *there} if is_cleared else gone
        removed = (removed | gone) - puts
        there = {**{name: each for name, each in there.items() if name not in gone}, **dict.fromkeys(puts, at)}
    # what was put by the version that is kept, and is not in it, was removed by a commit that cannot be read
    removed.update(name for name, at in there.items() if at <= version and not loss.may_have_lost(name, at))
    return msgspec.structs.replace(loss, removed=frozenset(removed.difference(checkpoints.names_in(kept.view))))


def _changes(result: Salvage) -> Iterable[tuple[int, bool, set[str], set[str]]]:
    """The versions in which checkpoints were put or removed, or of which a snapshot speaks, in order."""
    reading, names = result.reading, checkpoints.names_among
    found = [
        (at, 0, each.body.cleared, set(names(each.parts)), set(names(each.body.removed)))
        for at, each in reading.commits.items()
    ]
    for each in reading.snapshots:
        held, _ = reading.whole_rows(Snapshot(reading.blocks, each))
        found.append((each.header.version, 1, False, set(names(held)), set()))
    for at, _, is_cleared, puts, gone in sorted(found, key=lambda each: each[:2]):
        yield at, is_cleared, puts, gone


def told_by_kept(layout: Layout, kept: Kept, loss: Loss) -> Told:
    """By what a repair keeps of a log."""
    names = set(checkpoints.names_in(kept.view))
    frames = list(kept.history.kept)
    once_there = names | keeping.once_among(frames, kept.past)
    ids = [*_ids(kept.history.dropped), *(found.header.commit_id for found in frames)]
    return Told(names, once_there, ids, [loss, *losses(layout, kept.view.document)])


def _ids(dropped: bytes) -> Iterable[bytes]:
    length = len(parts.NO_COMMIT)
    return (dropped[at : at + length] for at in range(0, len(dropped), length))
