"""Building a thread aside, out of checkpoints in the order of their ids, and letting it be there all at once.

Pages are written under numbers that the head has set aside for them, as pages that leave; the last commit lists them in
place of that. Cut off before it, nobody sees them, and whoever next removes or builds something there clears them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from waypost.adapters.langgraph import naming, pages, removing
from waypost.adapters.langgraph.naming import OF_PAGE, SEALED
from waypost.adapters.langgraph.pages import Pages
from waypost.adapters.langgraph.rows import PageRecord, SealRecord
from waypost.errors import Refused, VersionConflict
from waypost.records import encode
from waypost.store import Transaction, View

_OF_IDS = naming.SAVED, naming.WRITES


class Content(NamedTuple):
    """A page that is to be: where its range begins, and its parts."""

    low: str
    parts: Mapping[str, bytes]

    @property
    def highest(self) -> str:
        """The highest id of which there is anything."""
        return max((naming.of_key(key)[0] for key in self.parts if key.startswith(_OF_IDS)), default="")


def copy_thread(known: Pages, source: str, target: str) -> None:
    """Copy all of a thread. Raises Refused where the target has checkpoints, VersionConflict where the source is
    deleted meanwhile.
    """
    name = naming.name_of(source)
    pages.run(known.store, known.for_writing(name))
    build(known, target, _pages_of(known, name))


def _pages_of(known: Pages, name: str) -> Iterator[Content]:
    copied = known.look(name).rows
    for row in copied:
        view = known.view(name, row.number)
        yield Content(row.low, _parts(view))
    # a page is cleared when the head lists it no more
    if not {row.number for row in known.look(name).rows}.issuperset(row.number for row in copied):
        raise VersionConflict("the thread was deleted while it was copied: nothing of it was written")


def _parts(view: View) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for prefix in OF_PAGE:
        for key in view.keys(prefix):
            data = view.get(key)
            if data is not None:
                found[key] = data
    return found


def build(known: Pages, thread_id: str, contents: Iterator[Content]) -> None:
    """Make a thread of pages, all or nothing; the first one begins where the thread does. Holds two of them at a time.

    Raises Refused where the thread has anything, VersionConflict where somebody else wrote to it meanwhile, and what
    `contents` and the store raise.
    """
    name = naming.name_of(thread_id)
    _check_empty(known.view(name, 0), thread_id)
    removing.clear_leaving(known, name)
    try:
        _build(known, name, thread_id, contents)
    except BaseException:
        removing.clear_leaving(known, name)
        raise
    finally:
        known.forget(name)


def _build(known: Pages, name: str, thread_id: str, contents: Iterator[Content]) -> None:
    first, second, held = next(contents, None), next(contents, None), None
    if first is None or not (first.parts or second):  # of one that was pruned the first page may be empty
        return
    numbers: list[int] = []
    lows: list[str] = []
    namespaces: list[list[str]] = []
    reaches: dict[int, str] = {}
    for content in chain(() if second is None else (second,), contents):
        number = _set_aside(known, name, thread_id)
        if held is not None:
            _write(known, name, numbers[-1], held, SealRecord(content.low, number))
            if held.highest >= content.low:  # it is a copy of one that overlaps others
                reaches[numbers[-1]] = held.highest
        held = content
        numbers.append(number)
        lows.append(content.low)
        namespaces.append([key.removeprefix(naming.NEWEST) for key in content.parts if key.startswith(naming.NEWEST)])
    if held is not None:
        _write(known, name, numbers[-1], held, None)

    def work(tx: Transaction) -> None:
        _check_empty(tx, thread_id)
        pages.introduce(tx, thread_id)
        for key, data in first.parts.items():
            tx.put(key, data)
        if numbers:
            tx.put(SEALED, encode(SealRecord(lows[0], numbers[0])))
        for number, low, before in zip(numbers, lows, [0, *numbers], strict=False):
            if tx.size_of(naming.leaving(number)) is None:
                raise VersionConflict(f"thread {thread_id!a:.80}: somebody else cleared what was to become its pages")
            tx.delete(naming.leaving(number))
            tx.put(naming.listed(number), encode(PageRecord(low, before)))
        for number, inside in zip(numbers[:-1], namespaces, strict=False):
            for component in inside:
                tx.put(naming.inside(component, number), b"")
        for number, checkpoint_id in reaches.items():
            tx.put(naming.reach(number, checkpoint_id), b"")

    known.store.submit(pages.change(naming.page(name, 0), "build_thread", work)).result()


def _check_empty(head: View, thread_id: str) -> None:
    if any(next(head.keys(each), None) is not None for each in (naming.SAVED, naming.WRITES, naming.PAGE)):
        raise Refused(f"thread {thread_id!a:.80} has checkpoints: nothing was written", thread_id=thread_id)


def _set_aside(known: Pages, name: str, thread_id: str) -> int:
    """Take a number for a page that is to be."""

    def work(tx: Transaction) -> int:
        _check_empty(tx, thread_id)
        number = pages.reserve(tx)
        tx.put(naming.leaving(number), b"")
        return number

    return known.store.submit(pages.change(naming.page(name, 0), "begin_page", work)).result().data


def _write(known: Pages, name: str, number: int, content: Content, seal: SealRecord | None) -> None:
    def work(tx: Transaction) -> None:
        for key, data in content.parts.items():
            tx.put(key, data)
        if seal is not None:
            tx.put(SEALED, encode(seal))

    known.store.submit(pages.change(naming.page(name, number), "build_page", work)).result()
