"""Removing: a whole thread, the checkpoints of runs, and what a thread's newest checkpoints do not stand on.

A thread goes in one commit, over its head and its newest page (each of them, where it went on apart); what is left in
other pages is invisible then, and is cleared and erased one by one. What goes from a page otherwise goes in one commit
of that page.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from waypost import clock
from waypost.adapters.langgraph import naming, pages, reading, rows
from waypost.adapters.langgraph.layout import Layout, Row
from waypost.adapters.langgraph.naming import GONE, NEXT, OF_PAGE, THREAD
from waypost.adapters.langgraph.pages import TRIES, Pages
from waypost.adapters.langgraph.reading import Found
from waypost.adapters.langgraph.rows import NewestRecord, SavedRecord, Serializer
from waypost.adapters.langgraph.writing import Place
from waypost.erased import ERASED, ErasureRecord
from waypost.records import encode
from waypost.store import JointChange, JointPart, Transaction

COUNTERS = "counters_since_delta_snapshot"
"""The metadata by which a checkpoint tells which of its channels stand on what came before it."""


def delete_thread(known: Pages, thread_id: str) -> None:
    """Remove all of a thread. Raises what the store raises."""
    name = naming.name_of(thread_id)
    for _ in range(TRIES):
        found = pages.run(known.store, known.for_writing(name))
        joint = known.store.begin()
        head = joint.document(naming.page(name, 0))
        if _is_empty(head):
            break
        if {row.number for row in found.rows} != {0, *map(naming.number_of, head.keys(naming.PAGE))}:
            continue  # it was changed meanwhile
        leaving = [*map(naming.number_of, head.keys(naming.LEAVING)), *(row.number for row in found.rows[1:])]
        following = head.get(NEXT)
        _clear(head)
        if following is not None:
            head.put(NEXT, following)
        for number in leaving:
            head.put(naming.leaving(number), b"")
        for number in (row.number for row in found.last if row.number):
            last = joint.document(naming.page(name, number))
            _clear(last)
            last.put(GONE, b"")
        change = JointChange(clock.new_id("op"), "langgraph.delete_thread")
        if known.store.commit(joint, change) is not None:
            break
    else:
        raise pages.faster()
    known.forget(name)
    clear_leaving(known, name)
    known.store.erase(naming.page(name, 0))


def _is_empty(head: JointPart) -> bool:
    return all(next(head.keys(each), None) is None for each in (*OF_PAGE, naming.PAGE, THREAD))


def _clear(tx: Transaction) -> None:
    """Remove all of a document, and have it say that what it held is erased."""
    there = [each for each in (*OF_PAGE, naming.IN, naming.PAGE, naming.REACH) if next(tx.keys(each), None) is not None]
    there += [THREAD] if tx.size_of(THREAD) is not None else []
    said = {key: data for key in tx.keys(ERASED) if (data := tx.get(key)) is not None}
    tx.clear()
    record = encode(ErasureRecord(tx.time_us, clock.now_us(), ""))
    said.update((ERASED + each, record) for each in there)
    for key, data in said.items():
        tx.put(key, data)


def clear_leaving(known: Pages, name: str) -> None:
    """Clear and erase the pages that a thread has no more, and forget them."""
    head = naming.page(name, 0)
    for key in list(known.store.view(head).keys(naming.LEAVING)):
        document = naming.page(name, naming.number_of(key))
        known.store.submit(pages.change(document, "clear_page", _clear_page)).result()
        known.store.erase(document)
        known.store.submit(pages.change(head, "forget_page", lambda tx, key=key: tx.delete(key))).result()


def _clear_page(tx: Transaction) -> None:
    if tx.size_of(GONE) is None and tx.version:
        _clear(tx)
        tx.put(GONE, b"")


# --- some checkpoints ---

Keep = Callable[[str, str, SavedRecord], bool]
"""Whether the checkpoint of an id, and of the namespace of that component, stays."""


class Thinned(NamedTuple):
    """What went from a page: checkpoints by id and component, and the components of which none is left."""

    removed: set[tuple[str, str]]
    without: list[str]


def thin(tx: Transaction, keep: Keep) -> Thinned:
    """Remove from a page the checkpoints that do not stay, their writes, and values that nothing has any more. Pending
    writes of a checkpoint that is not there stay: it may be about to come.
    """
    removed: set[tuple[str, str]] = set()
    values: set[str] = set()
    left: dict[str, list[str]] = {}
    for key in list(tx.keys(naming.SAVED)):
        record = rows.SAVED.get(tx, key)
        checkpoint_id, component = naming.of_key(key)
        if record is None or not keep(checkpoint_id, component, record):
            removed.add((checkpoint_id, component))
            tx.delete(key)
            continue
        left.setdefault(component, []).append(checkpoint_id)  # keys are sorted by id
        values.update(digest for _, _, digest in record.channels if digest is not None)
    if not removed:
        return Thinned(removed, [])
    _drop_writes(tx, removed)
    for key in list(tx.keys(naming.VALUE)):
        if key.removeprefix(naming.VALUE) not in values:
            tx.delete(key)
    without: list[str] = []
    for key in list(tx.keys(naming.NEWEST)):
        component, before = key.removeprefix(naming.NEWEST), rows.NEWEST.get(tx, key)
        there = left.get(component)
        if there is None:
            without.append(component)
            tx.delete(key)
        elif before is not None and (before.checkpoint_id, component) in removed:
            # else it stays, be it not the highest: a sync may have been told so
            lower = there[: bisect_left(there, before.checkpoint_id)] or there
            tx.put(key, encode(NewestRecord(lower[-1], before.is_sealed)))
    return Thinned(removed, without)


def _drop_writes(tx: Transaction, removed: Collection[tuple[str, str]]) -> None:
    for key in list(tx.keys(naming.WRITES)):
        if naming.of_key(key) in removed:
            tx.delete(key)


def _thin(known: Pages, name: str, found: Layout, row: Row, keep: Keep) -> None:
    document = naming.page(name, row.number)
    thinned: Thinned = known.store.submit(pages.change(document, "thin_page", lambda tx: thin(tx, keep))).result().data
    if not thinned.removed:
        return
    known.store.reclaim(document)
    if row.number and thinned.without:
        _forget_namespaces(known, name, row, thinned.without)
    others = {each for checkpoint_id, _ in thinned.removed for each in found.others(checkpoint_id)}
    others.update(found.belongs(checkpoint_id) for checkpoint_id, _ in thinned.removed)
    for each in others - {row}:  # writes go to where a checkpoint belongs, which need not be where it is
        change = pages.change(naming.page(name, each.number), "thin_page", lambda tx: _drop_writes(tx, thinned.removed))
        known.store.submit(change).result()


def _forget_namespaces(known: Pages, name: str, row: Row, components: Iterable[str]) -> None:
    """Have the head say no more that namespaces are in a page that has none of their checkpoints left."""
    for _ in range(TRIES):
        joint = known.store.begin()
        head, page = joint.document(naming.page(name, 0)), joint.document(naming.page(name, row.number))
        for component in components:
            if page.size_of(naming.NEWEST + component) is None:
                head.delete(naming.inside(component, row.number))
        if known.store.commit(joint, JointChange(clock.new_id("op"), "langgraph.forget_namespaces")) is not None:
            return
    # it does no harm that the head says it still


def delete_for_runs(known: Pages, run_ids: Collection[str]) -> None:
    """Remove the checkpoints of runs from all threads, with their writes."""
    wanted = frozenset(run_ids)
    if not wanted:
        return
    for name, _ in list(known.heads()):
        found = pages.run(known.store, known.for_writing(name))
        for row in found.rows:
            view = known.view(name, row.number)
            records = (rows.SAVED.get(view, key) for key in view.keys(naming.SAVED))
            if any(record is not None and record.run_id in wanted for record in records):
                _thin(known, name, found, row, lambda _id, _component, record: record.run_id not in wanted)


# --- what nothing stands on ---


def prune(known: Pages, thread_ids: Iterable[str], serde: Serializer) -> None:
    """Keep of each namespace the newest checkpoint, and what its delta channels stand on."""
    for thread_id in thread_ids:
        name = naming.name_of(thread_id)
        found = pages.run(known.store, known.for_writing(name))
        stays = _stays(known, thread_id, found, serde)
        for row in found.rows:
            _thin(known, name, found, row, stays)


class _Stays(NamedTuple):
    """Tells which checkpoints stay: by component the newest of each namespace, and those that they stand on. What has a
    higher id than the newest came in since, unless it was there before: a sync was told that it is not the newest.
    """

    newest: Mapping[str, str]
    kept: Collection[tuple[str, str]]
    passed_over: Collection[tuple[str, str]]

    def __call__(self, checkpoint_id: str, component: str, record: SavedRecord) -> bool:
        del record
        key = checkpoint_id, component
        return key in self.kept or (checkpoint_id >= self.newest.get(component, "") and key not in self.passed_over)


def _stays(known: Pages, thread_id: str, found: Layout, serde: Serializer) -> _Stays:
    name = naming.name_of(thread_id)
    highest: dict[str, tuple[str, int]] = {}
    above: set[tuple[str, str]] = set()
    for row in found.rows:
        view = known.view(name, row.number)
        here = {key.removeprefix(naming.NEWEST): rows.newest_of(view, key) or "" for key in view.keys(naming.NEWEST)}
        for component, checkpoint_id in here.items():
            highest[component] = max(highest.get(component, ("", 0)), (checkpoint_id, row.number))
        places = map(naming.of_key, view.keys(naming.SAVED))
        above.update(place for place in places if place[0] > here.get(place[1], ""))
    newest: dict[str, str] = {}
    kept: set[tuple[str, str]] = set()
    for component, (checkpoint_id, number) in highest.items():
        newest[component] = checkpoint_id
        view = known.view(name, number)
        record = rows.SAVED.get(view, f"{naming.SAVED}{checkpoint_id}{naming.SEPARATOR}{component}")
        if record is not None:
            start = Found(Place(thread_id, record.namespace, checkpoint_id), record, view, ())
            kept.update((each, component) for each in _stands_on(known, start, serde))
    return _Stays(newest, kept, {place for place in above if place[0] > newest.get(place[1], place[0])})


def _stands_on(known: Pages, start: Found, serde: Serializer) -> Iterable[str]:
    """The ids of the ancestors that the delta channels of a checkpoint are put together from."""
    counted: Mapping[str, Any] = start.metadata(serde).get(COUNTERS) or {}
    has_value = {name for name, _, digest in start.record.channels if digest is not None}
    remaining = set(counted) - has_value
    place = start.parent
    while place is not None and remaining:
        ancestor = reading.one(known, place)
        if ancestor is None:
            return
        yield place.checkpoint_id
        remaining -= {name for name, _, digest in ancestor.record.channels if digest is not None}
        place = ancestor.parent
