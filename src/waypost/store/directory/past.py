"""The past of a document, read from its log: the commits that history still holds, and the ids of those that are gone.

One hop over the headers tells where the commits stand; all that is held of them are their places, also for the next
look at the same log, which hops on from there. Each is then read
when it is asked for, from the file that was open at the beginning: a compaction meanwhile puts another in
its place and leaves that one alone.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator

from waypost.codec import bodies
from waypost.codec.bodies import Extent
from waypost.codec.compression import Undecodable
from waypost.codec.frame import FrameType
from waypost.store import parts
from waypost.store.directory import loading
from waypost.store.directory.blocks import damaged
from waypost.store.directory.context import Context
from waypost.store.directory.decisions import missing_from
from waypost.store.directory.hopped import Hopped, Places
from waypost.store.directory.layout import document_id
from waypost.store.directory.log import Frame, Log
from waypost.store.directory.state import DocumentState, Snapshot
from waypost.store.kinds import DocumentId
from waypost.store.pasts import Commit, JointCommit, Merge
from waypost.store.values import Pieces
from waypost.store.views import OperationRecord, View

_ID_BYTES = len(parts.NO_COMMIT)


class LogPast:
    """The past of a document in a log, up to a version; fulfils `pasts.Past`. Not for use by several threads."""

    def __init__(
        self,
        context: loading.Reading,
        document: DocumentId,
        log: Log | None,
        version: int,
        hopped: Hopped | None = None,
    ) -> None:
        self.version = version
        self._document = document
        self._log = log
        self._context = context
        body = None if log is None else log.body
        self._dropped = b"" if body is None else body.dropped
        self.first = min(version, len(self._dropped) // _ID_BYTES)
        self._places: array[int] | None = None
        self._hopped = Hopped() if hopped is None else hopped

    def dropped_id(self, version: int) -> bytes | None:
        found = self._dropped[(version - 1) * _ID_BYTES : version * _ID_BYTES]
        return found if found.strip(b"\0") else None

    def commits(self, before: int | None = None, *, oldest_first: bool = False) -> Iterator[Commit]:
        log = self._log
        if log is None or not self.version:  # a log may have been begun, and hold nothing yet
            return
        if self._places is None:
            self._places = self._find(log)
        newest = self.version if before is None else min(self.version, before - 1)
        numbers = range(newest - self.first)
        for number in numbers if oldest_first else reversed(numbers):
            offset = self._places[number]
            found = log.frame_at(offset, log.end)
            if found is None:
                raise log.damage(offset, "a commit that was whole is so no more")
            yield self._commit(log, found)

    def start(self) -> View:
        base = self._base()
        state = loading.empty_state(self._document) if base is None else DocumentState(self._document, base)
        return state.view()

    def remembered(self) -> Iterator[OperationRecord]:
        base = self._base()
        return iter(()) if base is None else base.operations()

    def _base(self) -> Snapshot | None:
        """The snapshot that stands for what was dropped. Raises DocumentDamaged where it is missing."""
        log = self._log
        if log is not None and self.first:
            for found in self._frames(log):
                if found.header.type == FrameType.SNAPSHOT and found.header.version == self.first:
                    return Snapshot(loading.blocks_of(log, self._context), found)
                if found.header.version > self.first:
                    break
            raise log.damage(0, f"the snapshot of version {self.first}, with which it begins, is missing")
        return None

    def _find(self, log: Log) -> array[int]:
        """Where the commits stand, from version `first` + 1 on. Raises DocumentDamaged where one is missing."""
        known = self._hopped.get(self._document)
        places, end = array("Q"), 0
        frames = self._frames(log)
        # of the same generation, and up to a commit whose id names all before it: whoever follows a log hops on there
        if known is not None:
            last = log.frame_at(known.offsets[-1], log.end)
            if last is not None and (log.file_id, last.header.commit_id) == known.upto:
                places, end = known.offsets[:], last.end
                frames = log.hop(last.end, last.header.checksum, log.end)
        newest: Frame | None = None
        for found in frames:
            end = found.end
            if found.header.type == FrameType.COMMIT and found.header.version > self.first:
                places.append(found.offset)
                newest = found
                if found.header.version != self.first + len(places):
                    raise log.damage(found.offset, f"version {self.first + len(places)} is missing")
        if self.first + len(places) < self.version:
            raise log.damage(end, f"a frame of version {self.first + len(places) + 1} is not whole")
        if newest is not None:
            self._hopped.keep(self._document, Places((log.file_id, newest.header.commit_id), places))
        return places

    @staticmethod
    def _frames(log: Log) -> Iterator[Frame]:
        first = log.frame_at(0, log.end)
        if first is None:
            raise log.damage(0, "its first frame is not whole")
        return log.hop(first.end, first.header.checksum, log.end)

    def _commit(self, log: Log, found: Frame) -> Commit:
        try:
            content, table = found.content()
            body = bodies.read_commit(content)
            puts = dict(bodies.commit_parts(body, table))
        except Undecodable as error:
            raise damaged(log.file, found.offset, error) from error
        mark = body.transaction
        joint = None
        if mark is not None:
            joint = JointCommit(
                mark.transaction_id, [(document_id(each.kind, each.id), each.version) for each in mark.participants]
            )
        blocks = loading.blocks_of(log, self._context)

        def read(key: str) -> bytes:
            return blocks.value(puts[key])

        def pieces(key: str) -> Pieces:
            return blocks.pieces(puts[key])

        return Commit(
            version=found.header.version,
            commit_id=found.header.commit_id,
            time_us=found.header.time_us,
            operation_id=body.operation_id,
            operation=body.operation,
            session=body.session,
            agent=body.agent,
            cleared=body.cleared,
            puts={key: len(part) if isinstance(part, bytes) else part.length for key, part in puts.items()},
            removed=body.removed,
            joint=joint,
            read=read,
            pieces=pieces,
            digests={key: part.digest for key, part in puts.items() if isinstance(part, Extent) and part.table},
            projection=body.projection,
            size_bytes=found.header.size_bytes,
            checksum=found.header.document_checksum,
            erased=body.erased,
            merge=None if body.merge is None else Merge(*body.merge),
        )


def read(context: Context, document: DocumentId, view: Callable[[DocumentId], View]) -> LogPast:
    """The past of a document up to its newest version, as `view` gives it: what others have committed since, no sync
    covers yet.
    """
    while True:
        # before the log is looked at: what is carried out by then is wholly in the log
        pieces = context.decisions.pieces_for(document)
        version = view(document).version
        log, _ = loading.load(context, document)
        missing = missing_from(log, pieces)
        if missing:
            log, _ = loading.load(context, document, decided=missing)
        if log is None or log.dropped_versions <= version:
            return LogPast(context, document, log, version, context.hopped)
        # so much was committed and dropped since that nothing is kept of what was seen: look again
