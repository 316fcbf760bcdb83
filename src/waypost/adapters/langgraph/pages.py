"""The pages of a thread: which there are, reading them, and beginning a new one.

Invariants:

* The lowest id of a page never changes once the page is there.
* A page whose `sealed` part names another that the head does not list yet is one whose writer was cut off: readers take
  it as listed, and the next writer lists it.
* What is known of a thread is checked by what the page itself says, so that it may be out of date.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

from waypost import clock
from waypost.adapters.langgraph import naming, rows
from waypost.adapters.langgraph.layout import Layout, Row
from waypost.adapters.langgraph.naming import GONE, NEXT, SEALED, THREAD
from waypost.adapters.langgraph.rows import NewestRecord, PageRecord, SealRecord, ThreadRecord
from waypost.errors import VersionConflict
from waypost.records import encode
from waypost.store import Change, DocumentId, Receipt, Store, Transaction, View
from waypost.thread_pages import highest

T = TypeVar("T")

PAGE_BYTES = 512 * 1024
"""What a page holds before the next checkpoint begins another; eight times the state, if that is more."""
STATES = 8
TRIES = 16
_MOST_KNOWN = 1024

Effect = Change | Callable[[], Any]
"""What has to be waited for: a change of the store, or something that reads."""
Steps = Generator[Effect, Any, T]


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
        self._known: dict[str, Layout] = {}

    # --- which there are ---

    def known(self, name: str) -> Layout | None:
        """The pages of a thread as they were when they were last looked at; None where they never were."""
        return self._known.get(name)

    def forget(self, name: str) -> None:
        self._known.pop(name, None)

    def look(self, name: str) -> Layout:
        """The pages of a thread, looked at now; a thread that is not there has its first page only."""
        head = self.view(name, 0)
        record = rows.THREADS.get(head, THREAD)
        if record is not None:
            rows.checked(record)
        listed = _listed(head)
        reaches = {0: highest(head)} if listed else {}
        for number, checkpoint_id in map(naming.of_reach, head.keys(naming.REACH)):
            reaches[number] = max(reaches.get(number, ""), checkpoint_id)
        found = Layout(head.commit_id, listed, reaches)
        there = {row.number for row in listed}
        for row in found.last:
            seal = rows.SEALS.get(self.view(name, row.number), SEALED)
            if seal is not None and seal.number not in there:
                listed.append(Row(seal.low, seal.number, row.number))
        if len(listed) > len(there):
            found = Layout(head.commit_id, listed, reaches)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[name] = found
        return found

    def current(self, name: str) -> Layout:
        """The pages of a thread, looked at now where what was known of them no longer holds."""
        found = self._known.get(name)
        if found is None or self.view(name, 0).commit_id != found.stamp:
            return self.look(name)
        for row in found.last:
            view = self.view(name, row.number)
            if view.size_of(SEALED) is not None or view.size_of(GONE) is not None:
                return self.look(name)
        return found

    def view(self, name: str, number: int) -> View:
        return self.store.view(naming.page(name, number))

    # --- which one holds what ---

    def holding(self, name: str, checkpoint_id: str) -> list[View]:
        """The pages that may hold anything of a checkpoint, as they are now: first the one that it belongs to. Raises
        VersionConflict.
        """
        found = self.current(name)
        for _ in range(TRIES):
            row = found.belongs(checkpoint_id)
            view = self.view(name, row.number)
            if has_moved(view, checkpoint_id):
                found = self.look(name)
                if found.belongs(checkpoint_id).number != row.number:
                    continue
                # else it is a cleared page that the head still lists
            return [view, *(self.view(name, each.number) for each in found.others(checkpoint_id))]
        raise faster()

    def with_namespace(self, name: str, component: str) -> Iterator[tuple[Row, View]]:
        """The pages that may hold checkpoints of a namespace, those first that may hold the highest ids."""
        found = self.current(name)
        prefix = f"{naming.IN}{component}{naming.SEPARATOR}"
        inside: set[int] | None = None
        untold = found.untold()
        for row in found.highest_first:
            if row.number not in untold:
                if inside is None:
                    inside = {naming.number_of(key) for key in self.view(name, 0).keys(prefix)}
                if row.number not in inside:
                    continue
            yield row, self.view(name, row.number)

    def heads(self) -> Iterator[tuple[str, str]]:
        """Name and id of each thread that has anything saved, in no particular order."""
        for identifier in self.store.documents("thread"):
            if naming.is_head(identifier):
                record = rows.THREADS.get(self.store.peek(naming.page(identifier, 0)), THREAD)
                if record is not None:
                    yield identifier, rows.checked(record).thread_id

    # --- beginning another ---

    def for_writing(self, name: str) -> Steps[Layout]:
        """The pages of a thread, looked at now; what a writer who was cut off left undone is done."""
        found: Layout = yield lambda: self.look(name)
        for row in found.last:
            if row.number:
                is_listed: bool = yield lambda row=row: self._is_listed(name, row.number)
                if not is_listed:
                    yield from self._list(name, row)
        return found

    def mend(self, name: str, row: Row) -> Steps[Layout]:
        """As `for_writing`, where a page had another behind it that was not known."""
        seal: SealRecord | None = yield lambda: rows.SEALS.get(self.view(name, row.number), SEALED)
        if seal is not None:
            is_listed: bool = yield lambda: self._is_listed(name, seal.number)
            if not is_listed:
                yield from self._list(name, Row(seal.low, seal.number, row.number))
        return (yield from self.for_writing(name))

    def _is_listed(self, name: str, number: int) -> bool:
        return self.view(name, 0).size_of(naming.listed(number)) is not None

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
                tx.put(naming.listed(made.number), encode(PageRecord(low, 0)))
            return made

        sealed: Receipt = yield change(naming.page(name, row.number), "seal_page", work)
        if sealed.data is not None and row.number:
            yield from self._list(name, Row(sealed.data.low, sealed.data.number, row.number))

    def _list(self, name: str, new: Row) -> Steps[None]:
        """Have the head list a page that the one before it names, and say which namespaces that one has."""
        namespaces: list[str] = yield lambda: [
            key.removeprefix(naming.NEWEST) for key in self.view(name, new.after).keys(naming.NEWEST)
        ]

        def work(tx: Transaction) -> None:
            if not new.after or tx.size_of(naming.listed(new.after)) is not None:  # else the thread was deleted
                tx.put(naming.listed(new.number), encode(PageRecord(new.low, new.after)))
                for each in namespaces if new.after else ():
                    tx.put(naming.inside(each, new.after), b"")

        yield change(naming.page(name, 0), "list_page", work)


def has_moved(view: View, checkpoint_id: str) -> bool:
    """Whether a checkpoint does not belong into a page, or no more."""
    if view.size_of(GONE) is not None:
        return True
    seal = rows.SEALS.get(view, SEALED)
    return seal is not None and checkpoint_id >= seal.low


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
    found = ((key, rows.PAGES.get(head, key)) for key in head.keys(naming.PAGE))
    return [Row(each.low, naming.number_of(key), each.after) for key, each in found if each is not None]
