"""The past of a document: its commits, as far as they are kept, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from waypost.codec.bodies import JointMark
from waypost.errors import DocumentDamaged, StoreUnavailable
from waypost.store import erasures
from waypost.store.kinds import DocumentId
from waypost.store.pasts import Commit, JointCommit, Merge
from waypost.store.postgres.connections import Reader
from waypost.store.postgres.context import Context
from waypost.store.postgres.documents import INLINE_BYTES, DocumentView, Head, pieces_of
from waypost.store.postgres.told import record_of, told
from waypost.store.values import Pieces
from waypost.store.views import OperationRecord, View

_BATCH = 64

Value = Callable[[str], Pieces]


class PostgresPast:
    """Fulfils `pasts.Past`. What history drops meanwhile cannot be told any more, and is an error."""

    def __init__(self, context: Context, view: DocumentView, reader: Reader | None = None) -> None:
        self._context = context
        self._reader: Reader = reader or context.connections
        self._view = view
        self._dropped: dict[int, bytes] | None = None
        self.document: DocumentId = view.document
        self.version = view.version
        self.first = view.head.first

    def commits(self, before: int | None = None, *, oldest_first: bool = False) -> Iterator[Commit]:
        behind = self.version + 1 if before is None else min(before, self.version + 1)
        at = self.first if oldest_first else behind
        while True:
            if oldest_first:
                asked = {"doc": self._view.head.doc, "after": at, "before": behind, "most": _BATCH}
                rows = self._reader.read("commits_after", asked)
            else:
                asked = {"doc": self._view.head.doc, "first": self.first, "before": at, "most": _BATCH}
                rows = self._reader.read("commits_before", asked)
            values = self._values([row[0] for row in rows if row[8]])
            for row in rows:
                yield self._commit(row, values)
            if len(rows) < _BATCH:
                return
            at = rows[-1][0]

    def _values(self, versions: list[int]) -> dict[tuple[int, str], tuple[Any, ...]]:
        """What commits put, short values with it."""
        if not versions:
            return {}
        asked = {"doc": self._view.head.doc, "versions": versions, "inline": INLINE_BYTES}
        rows = self._reader.read("put_values", asked)
        return {(row[0], bytes(row[1]).decode()): row[2:] for row in rows}

    def _commit(self, row: tuple[Any, ...], values: dict[tuple[int, str], tuple[Any, ...]]) -> Commit:
        (
            version,
            commit_id,
            time_us,
            operation_id,
            operation,
            session,
            agent,
            cleared,
            puts,
            removed,
            data,
            size,
            sums,
        ) = row
        if puts is None:
            raise self._dropped_meanwhile(version)
        tells = told(bytes(data))
        names = [bytes(key).decode() for key in puts]
        lost = {} if tells.erased is None else dict(tells.erased.parts)
        try:
            lengths = {key: lost[key][0] if key in lost else values[version, key][0] for key in names}
        except KeyError as error:
            if self._is_dropped(version):  # after its row was read, and before its values were
                raise self._dropped_meanwhile(version) from None
            raise DocumentDamaged(
                f"{self._reader.location.shown}: version {version} of {self.document.kind} {self.document.id!r} put "
                f"{error.args[0][1]!r}, which is not there",
                location=self._reader.location.shown,
            ) from None

        def pieces(key: str) -> Pieces:
            if key in lost:
                raise erasures.gone(*lost[key])
            _, digest, value, content, is_erased = values[version, key]
            if is_erased:
                raise erasures.gone(lengths[key], int(digest).to_bytes(32, "big"))
            if content is not None:
                return pieces_of(self._reader, content, self.document)
            whole = self._long_value(version, key) if value is None else bytes(value)
            self._view.check(key, whole, int(digest))
            return Pieces.of(whole)

        def read(key: str) -> bytes:
            found = pieces(key)
            return b"".join(found.read(number) for number in range(len(found.starts)))

        return Commit(
            version=version,
            commit_id=bytes(commit_id),
            time_us=time_us,
            operation_id=operation_id,
            operation=operation,
            session=session,
            agent=agent,
            cleared=cleared,
            puts=lengths,
            removed=[bytes(key).decode() for key in removed],
            joint=_joint(tells.transaction),
            read=read,
            pieces=pieces,
            digests={key: digest for key, digest in tells.digests.items() if key not in lost},
            projection=tells.projection,
            size_bytes=size,
            checksum=int(sums).to_bytes(32, "big"),
            erased=None if tells.erased is None else (tells.erased.content_hash, lost),
            merge=None if tells.merge is None else Merge(*tells.merge),
        )

    def _is_dropped(self, version: int) -> bool:
        rows = self._reader.read("head_of", {"doc": self._view.head.doc})
        return not rows or version <= rows[0][2]

    def _dropped_meanwhile(self, version: int) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._reader.location.shown}: version {version} of {self.document.id!r} is no longer kept",
            location=self._reader.location.shown,
        )

    def _long_value(self, version: int, key: str) -> bytes:
        asked = {"doc": self._view.head.doc, "key": key.encode(), "version": version}
        rows = self._reader.read("whole_value", asked)
        if not rows or rows[0][0] is None:
            raise StoreUnavailable(f"{self._reader.location.shown}: {key!r} of version {version} is no longer kept")
        return bytes(rows[0][0])

    def dropped_id(self, version: int) -> bytes | None:
        if not 0 < version <= self.first:
            return None
        if self._dropped is None:
            rows = self._reader.read("commit_ids", {"doc": self._view.head.doc, "first": self.first})
            self._dropped = {number: bytes(commit_id) for number, commit_id in rows if commit_id is not None}
        return self._dropped.get(version)

    def start(self) -> View:
        start = at(self._context, self.document, self.first)
        if start is None:
            raise StoreUnavailable(
                f"{self._reader.location.shown}: version {self.first} of {self.document.id!r} is no longer kept",
                location=self._reader.location.shown,
            )
        return start

    def remembered(self) -> Iterator[OperationRecord]:
        rows = self._reader.read("remembered", {"doc": self._view.head.doc, "first": self.first})
        return iter([record_of(row) for row in rows])


def _joint(mark: JointMark | None) -> JointCommit | None:
    if mark is None:
        return None
    participants = [(DocumentId(each.kind, each.id), each.version) for each in mark.participants]  # pyright: ignore[reportArgumentType]
    return JointCommit(mark.transaction_id, participants)


def at(context: Context, document: DocumentId, version: int) -> DocumentView | None:
    """A version of a document, or None where it is not kept."""
    if "\0" in document.id:
        return None
    if version == 0:
        return context.view(context.connections, document, Head(*(0, 0, 0, 0, 0), bytes(32), bytes(32)))
    rows = context.connections.read("head_at", {**document._asdict(), "version": version})
    return context.view(context.connections, document, Head.of(rows[0])) if rows else None
