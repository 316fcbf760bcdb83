"""Transactions that are there in part: a copy that was not taken at one moment, a log that was replaced by hand.

Each commit of a transaction names all of its participants and the versions that it makes of them, so that one log tells
what the others must hold. What history no longer reaches back to cannot be compared, and is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from waypost.codec import bodies
from waypost.codec.bodies import TRANSACTION_MARK, JointMark
from waypost.codec.compression import Undecodable
from waypost.codec.frame import FrameType, touched_parts
from waypost.store.directory.context import Context
from waypost.store.directory.layout import document_id, file_name
from waypost.store.directory.log import Frame, Log
from waypost.store.kinds import DocumentId


class Place(NamedTuple):
    """Where a commit stands."""

    file: str
    offset: int


class Torn(NamedTuple):
    """A transaction of which some commits are there, and some are not: document and version of each."""

    transaction_id: str
    there: dict[tuple[DocumentId, int], Place]
    missing: list[tuple[DocumentId, int]]


class Marks:
    """What the commits of documents say of their transactions. Those that are whole are not kept."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[tuple[DocumentId, int], Place | None]] = {}
        self._history_from: dict[DocumentId, int] = {}

    def note(self, document: DocumentId, version: int, place: Place, mark: JointMark) -> None:
        """A commit of a transaction was found."""
        seen = self._seen.setdefault(
            mark.transaction_id,
            {(document_id(each.kind, each.id), each.version): None for each in mark.participants},
        )
        self._there(mark.transaction_id, seen, (document, version), place)

    def _there(
        self,
        transaction_id: str,
        seen: dict[tuple[DocumentId, int], Place | None],
        which: tuple[DocumentId, int],
        place: Place,
    ) -> None:
        seen[which] = place
        if None not in seen.values():
            self._seen.pop(transaction_id, None)

    def note_history(self, document: DocumentId, dropped_versions: int) -> None:
        """Of a document no commit up to that version is kept."""
        if dropped_versions:
            self._history_from[document] = dropped_versions

    def add(self, other: Marks) -> None:
        """Put together what was found in different logs."""
        self._history_from.update(other._history_from)
        for transaction_id, seen in other._seen.items():
            mine = self._seen.setdefault(transaction_id, dict.fromkeys(seen))
            for which, place in seen.items():
                if place is not None:
                    self._there(transaction_id, mine, which, place)
                else:
                    mine.setdefault(which)

    def torn(self) -> Iterator[Torn]:
        """Transactions of which not all is there, as far as history tells."""
        for transaction_id, seen in self._seen.items():
            missing = [
                (document, version)
                for (document, version), place in seen.items()
                if place is None and version > self._history_from.get(document, 0)
            ]
            if missing:
                there = {which: place for which, place in seen.items() if place is not None}
                yield Torn(transaction_id, there, missing)


def mark_of(found: Frame) -> JointMark | None:
    """What a commit says of its transaction; None where it belongs to none. Raises Undecodable."""
    if found.header.type != FrameType.COMMIT:
        return None
    touched = touched_parts(found.header, found.data)
    if touched is not None and TRANSACTION_MARK not in touched:
        return None
    return bodies.read_commit(found.content()[0]).transaction


def still_torn(torn: Torn, context: Context) -> Torn | None:
    """Look again at what was missing: it may have come meanwhile, since logs are read one after the other."""
    if torn.transaction_id in context.decisions.pending():
        return None
    missing = [which for which in torn.missing if not _holds(context, *which, torn.transaction_id)]
    return torn._replace(missing=missing) if missing else None


def _holds(context: Context, document: DocumentId, version: int, transaction_id: str) -> bool:
    folder = context.layout.existing_documents(document.kind)
    log = None if folder is None else context.open_log(folder, file_name(document), write=False)
    if log is None:
        return False
    found = commit_at(log, version)
    if found is None:
        return version <= log.dropped_versions
    try:
        mark = mark_of(found)
    except Undecodable:
        return True  # damage, which is told as such
    return mark is not None and mark.transaction_id == transaction_id


def commit_at(log: Log, version: int) -> Frame | None:
    """The commit that made a version, where the log still has it. Of the log only its first frame is noted."""
    size = log.file.identity().size
    first = log.first(size)
    if first is None or version <= log.dropped_versions:
        return None
    for found in log.hop(first.end, first.header.checksum, size):
        if found.header.type == FrameType.COMMIT and found.header.version >= version:
            return found if found.header.version == version else None
    return None
