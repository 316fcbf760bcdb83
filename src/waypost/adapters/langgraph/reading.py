"""Finding checkpoints: one, the newest, or all of them, the newest first, a page at a time.

What is found is undecoded until somebody wants it: `Found` has a checkpoint's record and the page with its values.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

from waypost.adapters.langgraph import naming, rows, writing
from waypost.adapters.langgraph.pages import Pages
from waypost.adapters.langgraph.rows import SavedRecord, Serializer, ValueRecord
from waypost.adapters.langgraph.writing import Place
from waypost.errors import DocumentDamaged
from waypost.store import View

_MOST_OPEN = 64
"""So many threads are gone through side by side; of the others only the place is known."""


class Found(NamedTuple):
    """A checkpoint: where it is, its record, and the version of the page that it was found in."""

    place: Place
    record: SavedRecord
    view: View

    @property
    def parent(self) -> Place | None:
        return None if self.record.parent is None else self.place.beside(self.record.parent)

    def metadata(self, serde: Serializer) -> dict[str, Any]:
        return serde.loads_typed(self.record.metadata)

    def value(self, digest: str) -> ValueRecord:
        """The value of that digest, undecoded. Raises DocumentDamaged where it is not there."""
        found = rows.VALUES.get(self.view, naming.VALUE + digest)
        if found is None:
            raise DocumentDamaged(
                f"thread {self.view.document.id!r}: checkpoint {self.place.checkpoint_id} lacks a value"
            )
        return found

    def checkpoint(self, serde: Serializer) -> dict[str, Any]:
        """The checkpoint with all of its values."""
        values = {
            name: _loaded(serde, self.value(digest)) for name, _, digest in self.record.channels if digest is not None
        }
        return {
            **serde.loads_typed(self.record.checkpoint),
            "channel_values": values,
            "channel_versions": dict(rows.versions_of(self.record.channels)),
        }

    def pending_writes(self, serde: Serializer, channels: frozenset[str] | None = None) -> list[tuple[str, str, Any]]:
        """(task id, channel, value) of the pending writes in their order; of some channels, where these are given."""
        return [
            (task.task_id, row.channel, serde.loads_typed((row.type, row.data)))
            for task, row in writing.pending(self.view, self.place)
            if channels is None or row.channel in channels
        ]


def _loaded(serde: Serializer, value: ValueRecord) -> Any:
    return serde.loads_typed((value.type, value.data))


def one(known: Pages, place: Place) -> Found | None:
    """The checkpoint of an id. Raises what the store raises."""
    return next((found for view in _pages(known, place) if (found := _found(view, place)) is not None), None)


def _pages(known: Pages, place: Place) -> Iterator[View]:
    """The page that a checkpoint is in, and the one before it: in two stores that were synced, one may have put into a
    page what the other one began the next with.
    """
    row, view = known.page_of(place.name, place.checkpoint_id)
    yield view
    before = known.before(place.name, row) if row.number else None
    if before is not None:
        yield before


def in_namespaces(known: Pages, thread_id: str, checkpoint_id: str) -> Iterator[Found]:
    """The checkpoints of an id in all namespaces of a thread."""
    place = Place(thread_id, "", checkpoint_id)
    for view in _pages(known, place):
        for key in view.keys(f"{naming.SAVED}{checkpoint_id}{naming.SEPARATOR}"):
            record = rows.SAVED.get(view, key)
            if record is not None:
                yield Found(place._replace(namespace=record.namespace), record, view)


def newest(known: Pages, thread_id: str, namespace: str) -> Found | None:
    """The checkpoint of the highest id of a namespace."""
    name, highest = naming.name_of(thread_id), None
    for number, (_, view) in enumerate(known.with_namespace(name, namespace)):
        if number >= 2 and highest is not None:
            break  # only the newest two may overlap, as in `one`
        checkpoint_id = rows.newest_of(view, naming.newest(namespace))
        if checkpoint_id is not None and (highest is None or checkpoint_id > highest[0]):
            highest = checkpoint_id, view
    return None if highest is None else _found(highest[1], Place(thread_id, namespace, highest[0]))


def _found(view: View, place: Place) -> Found | None:
    record = rows.SAVED.get(view, naming.saved(place.checkpoint_id, place.namespace))
    return None if record is None else Found(place, record, view)


# --- many ---


def of_thread(known: Pages, thread_id: str, namespace: str | None = None, before: str | None = None) -> Iterator[Found]:
    """The checkpoints of a thread, of one namespace or of all, with ids below `before`, the highest id first."""
    name = naming.name_of(thread_id)
    component = None if namespace is None else naming.component(namespace)
    for _, view in known.newest_first(name, before):
        if namespace is not None and view.size_of(naming.newest(namespace)) is None:
            continue
        for key in reversed(list(view.keys(naming.SAVED))):
            checkpoint_id, inside = naming.of_key(key)
            if (component is None or inside == component) and (before is None or checkpoint_id < before):
                record = rows.SAVED.get(view, key)
                if record is not None:
                    yield Found(Place(thread_id, record.namespace, checkpoint_id), record, view)


def of_all(known: Pages, namespace: str | None = None, before: str | None = None) -> Iterator[Found]:
    """The checkpoints of all threads, the highest id first. Holds a few texts for each thread."""
    merged = _Merged(known, namespace, before)
    while (found := merged.next()) is not None:
        yield found


class _Next(NamedTuple):
    """The next checkpoint of a thread; the highest sorts first."""

    checkpoint_id: str
    component: str
    thread_id: str

    def __lt__(self, other: tuple[object, ...]) -> bool:
        return tuple(self) > tuple(other)


class _Merged:
    """Threads gone through side by side. Those not looked at lately are begun anew where they were."""

    def __init__(self, known: Pages, namespace: str | None, before: str | None) -> None:
        self._known = known
        self._namespace = namespace
        self._open: OrderedDict[str, Iterator[Found]] = OrderedDict()
        self._waiting: list[_Next] = []
        for _, thread_id in known.heads():
            first = next(of_thread(known, thread_id, namespace, before), None)
            if first is not None:
                self._waiting.append(_next_of(first))
        heapify(self._waiting)

    def next(self) -> Found | None:
        if not self._waiting:
            return None
        wanted = heappop(self._waiting)
        going = self._open.pop(wanted.thread_id, None)
        if going is None:
            going = self._begun_at(wanted)
        found = next(going, None)  # it is what was wanted, unless that was removed since
        if found is None:
            return self.next()
        after = next(going, None)
        if after is not None:
            heappush(self._waiting, _next_of(after))
            self._open[wanted.thread_id] = _with(after, going)
            if len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
        return found

    def _begun_at(self, wanted: _Next) -> Iterator[Found]:
        place = wanted.checkpoint_id, wanted.component
        # what sorts right behind an id is the id with the lowest character that there is
        for found in of_thread(self._known, wanted.thread_id, self._namespace, f"{wanted.checkpoint_id}\0"):
            if (found.place.checkpoint_id, naming.component(found.place.namespace)) <= place:
                return _with(found, of_thread_from(self._known, found, self._namespace))
        return iter(())


def of_thread_from(known: Pages, start: Found, namespace: str | None) -> Iterator[Found]:
    """The checkpoints of a thread behind one."""
    place = start.place.checkpoint_id, naming.component(start.place.namespace)
    for found in of_thread(known, start.place.thread_id, namespace, f"{start.place.checkpoint_id}\0"):
        if (found.place.checkpoint_id, naming.component(found.place.namespace)) < place:
            yield found


def _with(first: Found, others: Iterator[Found]) -> Iterator[Found]:
    yield first
    yield from others


def _next_of(found: Found) -> _Next:
    return _Next(found.place.checkpoint_id, naming.component(found.place.namespace), found.place.thread_id)


# --- the past of delta channels ---


def delta_history(
    known: Pages, start: Found | None, channels: Sequence[str], serde: Serializer
) -> Mapping[str, dict[str, Any]]:
    """For each channel the writes of the ancestors of a checkpoint, the oldest first, back to the nearest ancestor that
    has a value of the channel: its `seed`, which its own writes follow.
    """
    writes: dict[str, list[tuple[str, str, Any]]] = {channel: [] for channel in channels}
    seeds: dict[str, Any] = {}
    remaining = set(channels)
    place = None if start is None else start.parent
    while place is not None and remaining:
        ancestor = one(known, place)
        if ancestor is None:
            break
        for write in reversed(ancestor.pending_writes(serde, frozenset(remaining))):
            writes[write[1]].append(write)
        for name, _, digest in ancestor.record.channels:
            if digest is not None and name in remaining:
                seeds[name] = _loaded(serde, ancestor.value(digest))
                remaining.discard(name)
        place = ancestor.parent
    return {
        channel: {"writes": writes[channel][::-1], **({"seed": seeds[channel]} if channel in seeds else {})}
        for channel in channels
    }
