"""One version of a document in the server: which parts of it were asked for, and what is known of the others.

A view holds what it has read. The next version begins with that, changed as its commit changed it, so that a handle
which works on a document alone asks the server for nothing twice. What a view has not read it asks for by its version,
which the server keeps; the more parts of a kind (all that comes before the separator of their keys) are asked for, the
more of those behind them come along, in whatever order it is.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from zlib import crc32

from waypost.errors import DocumentDamaged, StoreUnavailable
from waypost.store import erasures, parts
from waypost.store.kinds import DocumentId
from waypost.store.postgres.connections import Reader
from waypost.store.postgres.told import record_of
from waypost.store.values import Pieces
from waypost.store.views import OperationRecord, View

INLINE_BYTES = 64 * 1024
"""Values that are longer are not fetched before somebody reads them."""
_WHOLE_BYTES = 128 * 1024
_MOST_IN_A_RUN = 512
_KNOWN_BYTES, _NAMED_BYTES = 200, 100
"""About what it takes to know of a part without its key and value, and to have it in a listing."""


class Head(NamedTuple):
    """What a document is at a version. `doc` is its number in the server, 0 where it has none yet."""

    doc: int
    version: int
    first: int
    time_us: int
    size_bytes: int
    checksum: bytes
    commit_id: bytes

    @classmethod
    def of(cls, row: tuple[Any, ...]) -> Head:
        doc, version, first, time_us, size_bytes, checksum, commit_id = row
        return cls(doc, version, first, time_us, size_bytes, int(checksum).to_bytes(32, "big"), bytes(commit_id))


NOTHING = Head(0, 0, 0, 0, 0, parts.EMPTY_CHECKSUM, parts.NO_COMMIT)


class Part(NamedTuple):
    """A part as far as it is known: `value` may be still to be read, or is in the pieces of `content`."""

    length: int
    digest: int
    value: bytes | None
    content: int | None
    is_erased: bool = False


class DocumentView:
    """Fulfils `views.View`. Threads that read it at once may ask the server twice, and find the same: each adds to what
    is known while others go through it, so that is copied first, which no thread comes in between.
    """

    compressed = False  # what the server compresses it does below this

    def __init__(self, reader: Reader, document: DocumentId, head: Head, *, verify: bool) -> None:
        self._reader = reader
        self.document = document
        self.head = head
        self._kept = head
        """The version that the server is asked for: an earlier one, while this one is not committed yet."""
        self._verify = verify
        self._known: dict[str, Part | None] = {}
        self._listed: dict[str, tuple[str, ...]] = {} if head.version else {"": ()}
        self._runs: dict[str, int] = {}
        """How many parts of a kind come at the next question."""
        self.held_bytes = 0
        """About how much memory it takes, and the next one that knows what this one does."""
        self.grown: Callable[[DocumentView, int], None] | None = None
        """Told how many bytes it has come to know by reading."""

    @property
    def version(self) -> int:
        return self.head.version

    @property
    def time_us(self) -> int:
        return self.head.time_us

    @property
    def size_bytes(self) -> int:
        return self.head.size_bytes

    @property
    def checksum(self) -> bytes:
        return self.head.checksum

    @property
    def commit_id(self) -> bytes:
        return self.head.commit_id

    def _hold(self, key: str, part: Part | None) -> None:
        if key in self._known:
            self.held_bytes -= _weight(key, self._known[key])
        self._known[key] = part
        self.held_bytes += _weight(key, part)

    def _grow(self, size_bytes: int) -> None:
        self.held_bytes += size_bytes
        if self.grown is not None:
            self.grown(self, size_bytes)

    # --- reading ---

    def part(self, key: str) -> Part | None:
        """What is known of a part, asked for where nothing is."""
        if key in self._known:
            return self._known[key]
        if any(key.startswith(prefix) and not _holds(keys, key) for prefix, keys in tuple(self._listed.items())):
            return None
        self._fetch(key)
        if key not in self._known:
            self._known.setdefault(key, None)
            self._grow(_weight(key, None))
        return self._known[key]

    def get(self, key: str) -> bytes | None:
        part = self.part(key)
        if part is None:
            return None
        if part.is_erased:
            raise erasures.gone(part.length, part.digest.to_bytes(32, "big"))
        if part.value is None:
            pieces = self._pieces(key, part)
            return b"".join(pieces.read(number) for number in range(len(pieces.starts)))
        return part.value

    def pieces(self, key: str) -> Pieces | None:
        part = self.part(key)
        if part is None:
            return None
        if part.is_erased:
            raise erasures.gone(part.length, part.digest.to_bytes(32, "big"))
        return Pieces.of(part.value) if part.value is not None else self._pieces(key, part)

    def _pieces(self, key: str, part: Part) -> Pieces:
        if part.content is None:
            asked = {"doc": self.head.doc, "key": key.encode(), "version": self._kept.version}
            rows = self._reader.read("whole_value", asked)
            if not rows or rows[0][0] is None:
                raise self._expired()
            value = bytes(rows[0][0])
            self.check(key, value, part.digest)
            return Pieces.of(value)
        return pieces_of(self._reader, part.content, self.document)

    def size_of(self, key: str) -> int | None:
        part = self.part(key)
        return None if part is None else part.length

    def erased(self, key: str) -> bytes | None:
        part = self.part(key)
        return part.digest.to_bytes(32, "big") if part is not None and part.is_erased else None

    def keys(self, prefix: str = "") -> Iterator[str]:
        for known, found in tuple(self._listed.items()):
            if prefix.startswith(known):
                return iter([key for key in found[bisect_left(found, prefix) :] if key.startswith(prefix)])
        return iter(self._list(prefix))

    def differing(self, other: View) -> set[str]:
        if isinstance(other, DocumentView) and other.head.doc == self.head.doc and self.head.doc:
            older, newer = sorted((self.head, other.head), key=lambda head: head.version)
            are_kept = self.head is self._kept and other.head is other._kept
            if are_kept and older.version >= self.head.first:
                asked = {"doc": older.doc, "older": older.version, "older_id": older.commit_id}
                asked |= {"newer": newer.version, "newer_id": newer.commit_id}
                rows = self._reader.read("differing", asked)
                if not rows[0][0]:  # keys that were removed between them may be gone
                    raise self._expired()
                return {bytes(key).decode() for _, key in rows if key is not None}
        return {*self.keys(), *other.keys()}

    def operation(self, operation_id: str) -> OperationRecord | None:
        if not self.head.doc or "\0" in operation_id:
            return None
        asked = {"doc": self.head.doc, "operation_id": operation_id, "version": self._kept.version}
        rows = self._reader.read("operation", asked)
        return record_of(rows[0]) if rows else None

    # --- asking the server ---

    def _asked(self, **more: object) -> dict[str, object]:
        head = self._kept
        return {"doc": head.doc, "version": head.version, "commit_id": head.commit_id, "inline": INLINE_BYTES, **more}

    def _fetch(self, key: str) -> None:
        """A part, with some of its kind behind it; all of a document that is small."""
        if self._kept.size_bytes <= _WHOLE_BYTES:
            self._take(self._run_from("", "", _WHOLE_BYTES))
            known = tuple(self._known.items())
            self._listed[""] = keys = tuple(sorted(each for each, part in known if part is not None))
            self._grow(_NAMED_BYTES * len(keys))
            return
        kind, separator, _ = key.partition("\x1f")
        most = self._runs.get(kind, 1) if separator else 1
        self._runs[kind] = min(_MOST_IN_A_RUN, most * 4)
        self._take(self._run_from(key, kind + separator, most))

    def _run_from(self, start: str, kind: str, most: int) -> list[tuple[Any, ...]]:
        return self._reader.read(
            "run_of_parts", self._asked(start=start.encode(), stop=_behind(kind.encode()), most=most)
        )

    def _take(self, rows: list[tuple[Any, ...]]) -> None:
        if not rows or not rows[0][0]:
            raise self._expired()
        size_bytes = 0
        for _, key, length, digest, value, content, is_erased in rows:
            if key is not None:
                name = bytes(key).decode()
                part = self._checked(name, length, digest, value, content, is_erased)
                if self._known.setdefault(name, part) is part:
                    size_bytes += _weight(name, part)
        self._grow(size_bytes)

    def _list(self, prefix: str) -> tuple[str, ...]:
        start = prefix.encode()
        rows = self._reader.read("keys_of", self._asked(start=start, stop=_behind(start)))
        if not rows or not rows[0][0]:
            raise self._expired()
        found = {bytes(row[1]).decode() for row in rows if row[1] is not None}
        for key, part in tuple(self._known.items()):  # what changed since that version
            if key.startswith(prefix):
                (found.discard if part is None else found.add)(key)
        self._listed[prefix] = keys = tuple(sorted(found))
        self._grow(_NAMED_BYTES * len(keys) + sum(map(len, keys)))
        return keys

    def _checked(self, key: str, length: int, digest: object, value: object, content: int | None, gone: bool) -> Part:
        summand = int(digest)  # pyright: ignore[reportArgumentType]
        found = None if value is None else bytes(value)  # pyright: ignore[reportArgumentType]
        if found is not None:
            self.check(key, found, summand)
        return Part(length, summand, found, content, gone)

    def check(self, key: str, value: bytes, digest: int) -> None:
        """Raises DocumentDamaged where a value is not the one that a part has the digest of."""
        if self._verify and parts.part_checksum(key.encode(), value) != digest:
            raise DocumentDamaged(
                f"{self._reader.location.shown}: the part {key!r} of {self.document.kind} {self.document.id!r} "
                f"is not what its checksum says, at version {self.version}",
                location=self._reader.location.shown,
                part=key,
            )

    def _expired(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._reader.location.shown}: version {self.version} of {self.document.kind} {self.document.id!r} "
            "is no longer kept",
            location=self._reader.location.shown,
        )

    # --- going on ---

    def at(self, head: Head) -> DocumentView:
        """The same, of which the server has said what it is."""
        self.head = self._kept = head
        return self

    def following(
        self, head: Head, puts: Mapping[str, Part], removed: Iterable[str], *, cleared: bool, is_made: bool = True
    ) -> DocumentView:
        """The next version, which knows what this one did, but for what its commit changed. Where that is not made yet,
        all else is as it is in the version that the server has.
        """
        made = DocumentView(self._reader, self.document, head, verify=self._verify)
        made._kept = head if is_made else self._kept
        made._runs = dict(self._runs)
        if cleared:
            made._listed = {"": ()}
        else:
            made._known = dict(self._known)
            made._listed = dict(self._listed)
            made.held_bytes = self.held_bytes
        for key, part in puts.items():
            made._hold(key, part)
        for key in removed:
            made._hold(key, None)
        for prefix, keys in made._listed.items():
            made._listed[prefix] = listed = _with(keys, prefix, puts, removed)
            made.held_bytes += _NAMED_BYTES * (len(listed) - len(keys))
        return made


def _weight(key: str, part: Part | None) -> int:
    """About how much memory it takes to know of a part."""
    return _KNOWN_BYTES + len(key) + (0 if part is None or part.value is None else len(part.value))


def _holds(keys: tuple[str, ...], key: str) -> bool:
    at = bisect_left(keys, key)
    return at < len(keys) and keys[at] == key


def _with(keys: tuple[str, ...], prefix: str, puts: Iterable[str], removed: Iterable[str]) -> tuple[str, ...]:
    """A sorted listing after a commit."""
    new = [key for key in puts if key.startswith(prefix) and not _holds(keys, key)]
    gone = [key for key in removed if _holds(keys, key)]
    if not new and not gone:
        return keys
    made = list(keys)
    for key in gone:
        del made[bisect_left(made, key)]
    for key in new:
        insort(made, key)
    return tuple(made)


def _behind(prefix: bytes) -> bytes:
    """What sorts behind all keys that begin so: no UTF-8 has the byte FF."""
    return prefix + b"\xff"


def pieces_of(reader: Reader, content: int, document: DocumentId) -> Pieces:
    """A value that is kept in pieces."""

    def described() -> tuple[int, int]:
        rows = reader.read("content_of", {"content": content})
        if not rows:
            raise StoreUnavailable(f"{reader.location.shown}: a value of {document.id!r} is no longer kept")
        return rows[0][0], rows[0][1]

    length, size = described()

    def read(number: int) -> bytes:
        found = reader.read("piece", {"content": content, "number": number})
        if not found:
            described()  # it may have been dropped meanwhile
        expected = min(size, length - number * size)
        if not found or len(found[0][0]) != expected or crc32(found[0][0]) != found[0][1]:
            raise DocumentDamaged(
                f"{reader.location.shown}: piece {number} of a value of {document.kind} {document.id!r} is not "
                "what was put",
                location=reader.location.shown,
            )
        return bytes(found[0][0])

    return Pieces(length, tuple(range(0, length, size)), read)
