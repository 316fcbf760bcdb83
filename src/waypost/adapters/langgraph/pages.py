"""The pages of a thread: which there are, which one a checkpoint belongs to, and beginning a new one.

Invariants:

* A page's range follows from the lowest ids of the pages, and never changes once the page is there; so where a
  checkpoint belongs is the same for every writer, whatever it knew before.
* A page whose `sealed` part names another that the head does not list yet is one whose writer was cut off: readers take
  it as listed, and the next writer lists it.
* What is known of a thread is checked by what the page itself says, so that it may be out of date.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from waypost import clock
from waypost.adapters.langgraph import naming, rows
from waypost.adapters.langgraph.naming import GONE, NEXT, SEALED, THREAD
from waypost.adapters.langgraph.rows import NewestRecord, SealRecord, ThreadRecord
from waypost.errors import VersionConflict
from waypost.records import encode
from waypost.store import Change, DocumentId, Receipt, Store, Transaction, View

T = TypeVar("T")

PAGE_BYTES = 512 * 1024
"""What a page holds before the next checkpoint begins another; eight times the state, if that is more."""
STATES = 8
TRIES = 16
_MOST_KNOWN = 1024

Effect = Change | Callable[[], Any]
"""What has to be waited for: a change of the store, or something that reads."""
Steps = Generator[Effect, Any, T]


class Row(NamedTuple):
    """A page: the lowest id that belongs into it, and its number."""

    low: str
    number: int


FIRST = Row("", 0)


def change(document: DocumentId, operation: str, work: Callable[[Transaction], Any]) -> Change:
    return Change(document, work, clock.new_id("op"), f"langgraph.{operation}")


def run(store: Store, steps: Steps[T]) -> T:
    """Do steps one after the other, waiting for each in the calling thread."""
    try:
        effect = next(steps)
        while True:
            try:
                outcome = store.submit(effect).result() if isinstance(effect, Change) else effect()
            except Exception as error:
                effect = steps.throw(error)
            else:
                effect = steps.send(outcome)
    except StopIteration as stop:
        return stop.value


def faster() -> VersionConflict:
    return VersionConflict(f"others changed the pages of the thread {TRIES} times meanwhile", tries=TRIES)


class Pages:
    """The pages of all threads of a store, as far as they are known. Safe to use from any thread."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: dict[str, tuple[Row, ...]] = {}

    # --- which there are ---

    def known(self, name: str) -> tuple[Row, ...] | None:
        """The pages of a thread as they were when they were last looked at; None where they never were."""
        return self._known.get(name)

    def forget(self, name: str) -> None:
        self._known.pop(name, None)

    def of(self, name: str) -> tuple[Row, ...]:
        """The pages of a thread, from the lowest ids on; a thread that is not there has its first page only."""
        return self._known.get(name) or self.look(name)

    def look(self, name: str) -> tuple[Row, ...]:
        """As `of`, looked at now."""
        head = self.view(name, 0)
        record = rows.THREADS.get(head, THREAD)
        if record is not None:
            rows.checked(record)
        found = [FIRST, *_listed(head)]
        seal = rows.SEALS.get(self.view(name, found[-1].number), SEALED)
        if seal is not None:
            found.append(Row(seal.low, seal.number))
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[name] = tuple(found)
        return tuple(found)

    def view(self, name: str, number: int) -> View:
        return self.store.view(naming.page(name, number))

    # --- which one holds what ---

    def page_of(self, name: str, checkpoint_id: str) -> tuple[Row, View]:
        """The page that a checkpoint belongs to, as it is now. Raises VersionConflict."""
        found = self.of(name)
        for _ in range(TRIES):
            row = row_of(found, checkpoint_id)
            view = self.view(name, row.number)
            if not has_moved(view, checkpoint_id):
                return row, view
            found = self.look(name)
            if row_of(found, checkpoint_id) == row:
                return row, view  # a cleared page that the head still lists
        raise faster()

    def before(self, name: str, row: Row) -> View | None:
        """The page before one; None where there is none."""
        found = self.of(name)
        at = bisect_right(found, row.low, key=lambda each: each.low) - 2
        return self.view(name, found[at].number) if at >= 0 else None

    def newest_first(self, name: str, upto: str | None = None) -> Iterator[tuple[Row, View]]:
        """The pages of a thread from the newest on, or from the one that `upto` belongs to."""
        found = self.current(name)
        start = len(found) if upto is None else found.index(row_of(found, upto)) + 1
        for row in reversed(found[:start]):
            yield row, self.view(name, row.number)

    def with_namespace(self, name: str, namespace: str) -> Iterator[tuple[Row, View]]:
        """The pages that may hold checkpoints of a namespace, the newest first."""
        found = self.current(name)
        for row in reversed(found[-2:]):
            yield row, self.view(name, row.number)
        prefix = f"{naming.IN}{naming.component(namespace)}{naming.SEPARATOR}"
        inside = {0, *(naming.number_of(key) for key in self.view(name, 0).keys(prefix))}
        for row in reversed(found[:-2]):
            if row.number in inside:
                yield row, self.view(name, row.number)

    def current(self, name: str) -> tuple[Row, ...]:
        """The pages, where the newest one that is known is still that."""
        found = self.of(name)
        last = self.view(name, found[-1].number)
        if last.size_of(SEALED) is not None or last.size_of(GONE) is not None:
            return self.look(name)
        return found

    def heads(self) -> Iterator[tuple[str, str]]:
        """Name and id of each thread that has anything saved, in no particular order."""
        for identifier in self.store.documents("thread"):
            if naming.is_head(identifier):
                record = rows.THREADS.get(self.store.peek(naming.page(identifier, 0)), THREAD)
                if record is not None:
                    yield identifier, rows.checked(record).thread_id

    # --- beginning another ---

    def for_writing(self, name: str) -> Steps[tuple[Row, ...]]:
        """The pages of a thread, looked at now; what a writer who was cut off left undone is done."""
        found: tuple[Row, ...] = yield lambda: self.look(name)
        if len(found) > 1:
            before, last = found[-2:]
            is_listed: bool = yield lambda: self.view(name, 0).size_of(naming.listed(last.number)) is not None
            if not is_listed:
                yield from self._list(name, before, last)
        return found

    def mend(self, name: str, row: Row) -> Steps[tuple[Row, ...]]:
        """As `for_writing`, where a page had another behind it that was not known."""
        seal: SealRecord | None = yield lambda: rows.SEALS.get(self.view(name, row.number), SEALED)
        if seal is not None:
            new = Row(seal.low, seal.number)
            is_listed: bool = yield lambda: self.view(name, 0).size_of(naming.listed(new.number)) is not None
            if not is_listed:
                yield from self._list(name, row, new)
        return (yield from self.for_writing(name))

    def seal(self, name: str, row: Row, low: str) -> Steps[None]:
        """Have a page end before `low`, if nothing in it is behind that, and begin the next one there."""
        self.forget(name)
        if row.number:
            reserved: Receipt = yield change(naming.page(name, 0), "begin_page", reserve)
            number = reserved.data
        else:
            number = None

        def work(tx: Transaction) -> SealRecord | None:
            if tx.size_of(GONE) is not None or tx.size_of(SEALED) is not None or highest(tx) >= low:
                return None
            made = SealRecord(low, _reserve(tx) if number is None else number)
            tx.put(SEALED, encode(made))
            for key in list(tx.keys(naming.NEWEST)):
                tx.put(key, encode(NewestRecord(rows.newest_of(tx, key) or "", is_sealed=True)))
            if not row.number:
                tx.put(naming.listed(made.number), encode(low))
            return made

        sealed: Receipt = yield change(naming.page(name, row.number), "seal_page", work)
        if sealed.data is not None and row.number:
            yield from self._list(name, row, Row(sealed.data.low, sealed.data.number))

    def _list(self, name: str, before: Row, new: Row) -> Steps[None]:
        """Have the head list a page that the one before it names, and say which namespaces that one has."""
        namespaces: list[str] = yield lambda: [
            key.removeprefix(naming.NEWEST) for key in self.view(name, before.number).keys(naming.NEWEST)
        ]

        def work(tx: Transaction) -> None:
            if before == FIRST or before in _listed(tx):  # else the thread was deleted
                tx.put(naming.listed(new.number), encode(new.low))
                for each in namespaces if before.number else ():
                    tx.put(naming.inside(each, before.number), b"")

        yield change(naming.page(name, 0), "list_page", work)


def row_of(found: Sequence[Row], checkpoint_id: str) -> Row:
    """The page in whose range an id is."""
    return found[max(0, bisect_right(found, checkpoint_id, key=lambda row: row.low) - 1)]


def has_moved(view: View, checkpoint_id: str) -> bool:
    """Whether a checkpoint does not belong into a page, or no more."""
    if view.size_of(GONE) is not None:
        return True
    seal = rows.SEALS.get(view, SEALED)
    return seal is not None and checkpoint_id >= seal.low


def highest(view: View) -> str:
    """The highest id of which there is anything in a page."""
    keys = [max(view.keys(prefix), default="") for prefix in (naming.SAVED, naming.WRITES)]
    return max(naming.of_key(key)[0] if key else "" for key in keys)


def introduce(tx: Transaction, thread_id: str) -> None:
    """Have a head say whose it is."""
    if tx.size_of(THREAD) is None:
        tx.put(THREAD, encode(ThreadRecord(rows.FORMAT, thread_id)))


def reserve(tx: Transaction) -> int:
    """Take the next number of a page in a head."""
    return _reserve(tx)


def _reserve(tx: Transaction) -> int:
    # by time, so that two stores that begin a page of the same thread, and are synced later, have two pages
    number = max(rows.NUMBERS.get(tx, NEXT) or 1, clock.now_us())
    tx.put(NEXT, encode(number + 1))
    return number


def _listed(head: View) -> list[Row]:
    found = ((key, rows.TEXTS.get(head, key)) for key in head.keys(naming.PAGE))
    return sorted(Row(low, naming.number_of(key)) for key, low in found if low is not None)
