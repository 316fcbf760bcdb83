"""Rows of items in pages: what adapters keep of a conversation, however long it becomes.

A row is appended to in batches. Each batch is one commit of one small document, the newest *page*, so a row of a
million items costs no more to append to than one of ten, and no more memory. Rows that belong together have a *root*:
a document that says for each of them which page is the newest. It is touched when a row begins, turns a page, or goes.

Invariants:

* A page that is not the newest of its row is *closed*, and is changed only together with the root.
* Each change of a page gives it a new record, so whoever compares that knows all that he has read there.
* Items are opaque. One with a key is in its row once, whichever page it is in.

The layout is in docs/adapters.md, section 3.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, NamedTuple

import msgspec

from waypost import clock
from waypost.adapters.seen import DIGEST_BYTES, Filters, digest_of
from waypost.errors import DocumentDamaged, VersionConflict
from waypost.store import Change, DocumentId, JointChange, JointTransaction, Store, Transaction, View
from waypost.store.contract import PAGE

SEPARATOR = "\x1f"
FILTER = "filter"
ROW, BATCH, SEEN, KNOWN = f"row{SEPARATOR}", f"batch{SEPARATOR}", f"seen{SEPARATOR}", f"known{SEPARATOR}"

MOST_BYTES = 4 << 20
MOST_BATCHES = 256
"""A page that holds so much is closed by the next batch. A batch is never parted, so a page may hold more."""
_TRIES = 256
_TAG_BYTES = 8


class Item(NamedTuple):
    """`data` is a line of text without a line end. Of two items with one `key` the first stays."""

    data: bytes
    key: str | None = None


class PageRecord(msgspec.Struct, array_like=True, frozen=True):
    """What a page says of itself. `note` is the adapter's, and goes on from page to page."""

    tag: bytes
    batches: Annotated[int, msgspec.Meta(ge=0)]
    items: Annotated[int, msgspec.Meta(ge=0)]
    size_bytes: int
    is_closed: bool
    note: bytes | None


class _Page(NamedTuple):
    """A page as it was read."""

    document: DocumentId
    view: View
    raw: bytes
    record: PageRecord


class _Batch(NamedTuple):
    """What is to be appended, once it is known that it is not there yet. `known` are the keys in the newest page."""

    data: bytes
    digests: list[bytes]
    items: int
    note: bytes | None
    known: set[bytes]


class _MovedOn(Exception):
    """A page is not what the record of its row said a moment ago."""


Fold = Callable[[bytes | None, list[int]], bytes | None]
"""The next note of a row, of the one before and of the places in a batch of those items that are new."""


class RowInfo(NamedTuple):
    """What is told of a row without reading it: its last commit in µs since the epoch, and its note."""

    time_us: int
    note: bytes | None


class Row:
    """One row of items below a root. Safe to use by many threads, and by many processes at once.

    `listed` is the part that stands for the row in another document, put there when the row begins.
    """

    def __init__(self, store: Store, root: DocumentId, name: str, listed: tuple[DocumentId, str] | None = None) -> None:
        self._store = store
        self._root = root
        self._name = name
        self._listed = listed
        self._filters = Filters()
        self._known: tuple[bytes, set[bytes]] = b"", set()
        """The digests of all keys of the page with that record, so that they are not read for each batch."""

    # --- reading ---

    def read(self, newest: int | None = None) -> list[bytes] | None:
        """All items, or the newest so many, in the order in which they came; None where the row never began.

        They are those of one moment. Raises DocumentDamaged, StoreUnavailable.
        """
        for _ in range(_TRIES):
            raw = self._row_raw()
            if raw is None:
                return None
            found = self._collect(raw, newest)
            if found is not None and self._row_raw() == raw:  # else pages were turned, or are gone, meanwhile
                return found[::-1]
        raise self._conflict()

    def _collect(self, raw: bytes, newest: int | None) -> list[bytes] | None:
        """Items from the newest page back, the newest first; None where that cannot be what there was at one moment."""
        found: list[bytes] = []
        for each in range(_number(raw), -1, -1):
            page = self._page(each)
            if page is None:
                self._check_moved_on(raw, each)
                return None
            for batch in range(page.record.batches - 1, -1, -1):
                if newest is not None and len(found) >= newest:
                    return found[:newest]
                found += reversed(_lines(page, batch))
        return found if newest is None else found[:newest]

    def info(self) -> RowInfo | None:
        """What is told of the row; None where it never began."""
        for _ in range(_TRIES):
            raw = self._row_raw()
            if raw is None:
                return None
            view = self._store.peek(self._page_id(_number(raw)))
            record = view.get(PAGE)
            if record is not None:
                return RowInfo(view.time_us, _record(view.document, record).note)
            self._check_moved_on(raw, _number(raw))
        raise self._conflict()

    # --- changing ---

    def append(self, items: Sequence[Item], fold: Fold | None = None) -> None:
        """Append those items that are not there yet: all of them, or none, in one commit.

        Raises DocumentTooLarge, StoreUnavailable, StoreReadOnly, VersionConflict where others were faster too often.
        """
        for _ in range(_TRIES):
            raw = self._row_raw()
            page = None if raw is None else self._open_page(raw)
            if raw is not None and page is None:
                continue
            try:
                batch = self._batch(raw, page, items, fold)
            except _MovedOn:
                continue
            if batch is None:
                return
            is_full = page is not None and (page.record.size_bytes >= MOST_BYTES or page.record.batches >= MOST_BATCHES)
            is_done = self._turn(raw, page, batch) if page is None or is_full else self._append(page, batch)
            if is_done:
                return
        raise self._conflict()

    def pop(self) -> bytes | None:
        """Take the newest item away, in one commit; None where there is none. Its key stays known.

        Raises as `append`.
        """
        for _ in range(_TRIES):
            raw = self._row_raw()
            if raw is None:
                return None
            page = self._open_page(raw)
            if page is None:
                continue
            if page.record.items == 0 and _number(raw) == 0:
                return None
            popped = self._pop(page) if page.record.items else self._turn_back(raw, page)
            if popped is not None:
                return popped
        raise self._conflict()

    def clear(self, joint: JointTransaction) -> None:
        """Take the row away, with all of its pages, in a transaction."""
        root = joint.document(self._root)
        raw = root.get(ROW + self._name)
        if raw is None:
            return
        root.delete(ROW + self._name)
        for number in range(_number(raw), -1, -1):
            page = joint.document(self._page_id(number))
            if page.get(PAGE) is None:
                break  # it is damaged, and what may lie below is cleared by whoever begins a page there
            page.clear()
        if self._listed is not None:
            document, key = self._listed
            joint.document(document).delete(key)

    # --- the steps of these ---

    def _row_raw(self) -> bytes | None:
        return self._store.view(self._root).get(ROW + self._name)

    def _open_page(self, raw: bytes) -> _Page | None:
        """The newest page of a row; None where another one is that by now. Raises DocumentDamaged."""
        page = self._page(_number(raw))
        if page is not None and not page.record.is_closed:
            return page
        self._check_moved_on(raw, _number(raw))
        return None

    def _check_moved_on(self, raw: bytes, number: int) -> None:
        """What does not fit the record of the row was so because that has changed meanwhile. Raises DocumentDamaged."""
        if self._row_raw() == raw:
            document = self._page_id(number)
            raise DocumentDamaged(
                f"thread {document.id!r} is not what {self._root.id!r} says of it", thread=document.id
            )

    def _page_id(self, number: int) -> DocumentId:
        return DocumentId("thread", SEPARATOR.join((self._root.id, self._name, str(number))))

    def _page(self, number: int) -> _Page | None:
        document = self._page_id(number)
        view = self._store.view(document)
        raw = view.get(PAGE)
        return None if raw is None else _Page(document, view, raw, _record(document, raw))

    def _conflict(self) -> VersionConflict:
        return VersionConflict(f"thread {self._root.id!r}: others were faster {_TRIES} times", tries=_TRIES)

    def _batch(self, raw: bytes | None, page: _Page | None, items: Sequence[Item], fold: Fold | None) -> _Batch | None:
        """What is new of the items; None where nothing is."""
        known: set[bytes] = set() if page is None else self._keys_of(page)
        is_in_closed = None if raw is None else self._filters.looker(*_row_of(raw), partial(self._closed, raw))
        places: list[int] = []
        digests: dict[bytes, None] = {}
        for place, item in enumerate(items):
            if item.key is not None:
                digest = digest_of(item.key)
                if digest in digests or digest in known or (is_in_closed is not None and is_in_closed(digest)):
                    continue
                digests[digest] = None
            places.append(place)
        if not places:
            return None
        note = None if page is None else page.record.note
        data = b"\n".join(items[place].data for place in places)
        return _Batch(data, list(digests), len(places), note if fold is None else fold(note, places), known)

    def _keys_of(self, page: _Page) -> set[bytes]:
        """The digests of the keys of all items in the newest page."""
        raw, known = self._known
        if raw != page.raw:
            known = _seen_in(page)
            self._known = page.raw, known
        return known

    def _closed(self, raw: bytes, number: int) -> list[bytes]:
        """The digests of the keys of all items in a closed page, sorted. Raises _MovedOn, DocumentDamaged."""
        page = self._page(number)
        data = None if page is None else page.view.get(FILTER)
        if page is not None and not page.record.is_closed and self._row_raw() == raw:
            # it is of another store, which knew of no page behind it when the two were synced
            return sorted(_seen_in(page))
        if page is None or data is None:
            self._check_moved_on(raw, number)
            raise _MovedOn
        return _cut(page, data)

    def _append(self, page: _Page, batch: _Batch) -> bool:
        """Append to a page that is as it was read; whether it was."""
        made = _following(page.record, batch)

        def work(tx: Transaction) -> bool:
            if tx.get(PAGE) != page.raw:
                return False
            _put(tx, page.record.batches, batch, made)
            return True

        is_done = bool(self._submit(page.document, work, "append"))
        if is_done:
            batch.known.update(batch.digests)
            self._known = made, batch.known
        return is_done

    def _submit(self, document: DocumentId, work: Callable[[Transaction], Any], operation: str) -> Any:
        return self._store.submit(Change(document, work, clock.new_id("op"), operation)).result().data

    def _turn(self, raw: bytes | None, page: _Page | None, batch: _Batch) -> bool:
        """Begin a page with a batch, and close the one before; whether nobody was faster."""
        joint = self._store.begin()
        root = joint.document(self._root)
        if root.get(ROW + self._name) != raw:
            return False
        number = 0 if raw is None else _number(raw) + 1
        root.put(ROW + self._name, _row(number, _birth(raw) if raw else os.urandom(_TAG_BYTES)))
        if page is not None:
            closing = joint.document(page.document)
            if closing.get(PAGE) != page.raw:
                return False
            closing.put(PAGE, msgspec.msgpack.encode(msgspec.structs.replace(page.record, is_closed=True)))
            closing.put(FILTER, b"".join(sorted(batch.known)))
        opening = joint.document(self._page_id(number))
        if opening.get(PAGE) is not None:
            opening.clear()  # of a row that was damaged when it was cleared
        _put(opening, 0, batch, _following(PageRecord(b"", 0, 0, 0, False, None), batch))
        if self._listed is not None and raw is None:
            document, key = self._listed
            joint.document(document).put(key, b"")
        return self._store.commit(joint, JointChange(clock.new_id("op"), "append")) is not None

    def _pop(self, page: _Page) -> bytes | None:
        popped: list[bytes] = []

        def work(tx: Transaction) -> bool:
            if tx.get(PAGE) != page.raw:
                return False
            popped[:] = [_take_last(tx, page, page.record)]
            return True

        return popped[0] if self._submit(page.document, work, "pop") else None

    def _turn_back(self, raw: bytes, page: _Page) -> bytes | None:
        """Take the newest item of the page before one that is empty, and that page away."""
        number = _number(raw) - 1
        before = self._page(number)
        if before is None:
            self._check_moved_on(raw, number)
            return None
        joint = self._store.begin()
        root, empty = joint.document(self._root), joint.document(page.document)
        if root.get(ROW + self._name) != raw or empty.get(PAGE) != page.raw:
            return None
        opening = joint.document(before.document)  # closed, and so what it was when the row had this record
        root.put(ROW + self._name, _row(number, os.urandom(_TAG_BYTES)))
        empty.clear()
        opening.delete(FILTER)
        popped = _take_last(opening, before, before.record)
        is_done = self._store.commit(joint, JointChange(clock.new_id("op"), "pop")) is not None
        return popped if is_done else None


def rows(root: View) -> list[str]:
    """The names of the rows of a root, sorted."""
    return [key.removeprefix(ROW) for key in root.keys(ROW)]


def commit(store: Store, work: Callable[[JointTransaction], None], operation: str) -> None:
    """Do work over several documents, again until nobody was faster. Raises as `Row.append`."""
    for _ in range(_TRIES):
        joint = store.begin()
        work(joint)
        if store.commit(joint, JointChange(clock.new_id("op"), operation)) is not None:
            return
    raise VersionConflict(f"others were faster {_TRIES} times", tries=_TRIES)


# --- records ---


def _row(number: int, birth: bytes) -> bytes:
    """Of a row: which page is the newest, and a word that is another as soon as an earlier page is not what it was."""
    return msgspec.msgpack.encode([number, birth])


def _number(raw: bytes) -> int:
    return _row_of(raw)[0]


def _birth(raw: bytes) -> bytes:
    return _row_of(raw)[1]


def _row_of(raw: bytes) -> tuple[int, bytes]:
    try:
        return msgspec.msgpack.decode(raw, type=tuple[Annotated[int, msgspec.Meta(ge=0)], bytes])
    except msgspec.MsgspecError as error:
        raise DocumentDamaged(f"the record of a row cannot be read: {error}") from error


def _record(document: DocumentId, raw: bytes) -> PageRecord:
    try:
        return msgspec.msgpack.decode(raw, type=PageRecord)
    except msgspec.MsgspecError as error:
        raise DocumentDamaged(f"thread {document.id!r}: its record cannot be read: {error}") from error


def _batch_key(number: int) -> str:
    return f"{BATCH}{number:08d}"


def _lines(page: _Page, number: int) -> list[bytes]:
    data = page.view.get(_batch_key(number))
    if data is None:
        raise DocumentDamaged(f"thread {page.document.id!r}: batch {number} of {page.record.batches} is missing")
    return data.split(b"\n")


def _following(record: PageRecord, batch: _Batch) -> bytes:
    """The record of a page with one batch more."""
    made = PageRecord(
        tag=os.urandom(_TAG_BYTES),
        batches=record.batches + 1,
        items=record.items + batch.items,
        size_bytes=record.size_bytes + len(batch.data),
        is_closed=False,
        note=batch.note,
    )
    return msgspec.msgpack.encode(made)


def _put(tx: Transaction, number: int, batch: _Batch, made: bytes) -> None:
    tx.put(_batch_key(number), batch.data)
    if batch.digests:
        tx.put(f"{SEEN}{number:08d}", b"".join(batch.digests))
    tx.put(PAGE, made)


def _take_last(tx: Transaction, page: _Page, record: PageRecord) -> bytes:
    """Take the last item off a page, which has one and will be the newest."""
    number = record.batches - 1
    *rest, last = _lines(page, number)
    if rest:
        tx.put(_batch_key(number), b"\n".join(rest))
    else:
        tx.delete(_batch_key(number))
    made = msgspec.structs.replace(
        record,
        tag=os.urandom(_TAG_BYTES),
        batches=record.batches if rest else number,
        items=record.items - 1,
        size_bytes=record.size_bytes - len(last) - bool(rest),
        is_closed=False,
    )
    tx.put(PAGE, msgspec.msgpack.encode(made))
    return last


def _seen_in(page: _Page) -> set[bytes]:
    """The digests of the keys of all items, as the batches have them."""
    return {each for key in page.view.keys(SEEN) for each in _cut(page, page.view.get(key) or b"")}


def _cut(page: _Page, data: bytes) -> list[bytes]:
    if len(data) % DIGEST_BYTES:
        raise DocumentDamaged(f"thread {page.document.id!r}: what it says of its keys has {len(data)} bytes")
    return [data[at : at + DIGEST_BYTES] for at in range(0, len(data), DIGEST_BYTES)]
