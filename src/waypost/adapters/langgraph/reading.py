"""Finding checkpoints: one, the newest, or all of them, the newest first, a page at a time.

What is found is undecoded until somebody wants it: `Found` has a checkpoint's record and the page with its values.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any, NamedTuple

from waypost.adapters.langgraph import naming, rows, writing
from waypost.adapters.langgraph.layout import Layout, behind
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
    pages: Sequence[View]
    """The pages that may hold writes of it, from the lowest ids on."""

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
            (task_id, row.channel, serde.loads_typed((row.type, row.data)))
            for task_id, row in writing.pending(self.pages, self.place)
            if channels is None or row.channel in channels
        ]


def _loaded(serde: Serializer, value: ValueRecord) -> Any:
    return serde.loads_typed((value.type, value.data))


def one(known: Pages, place: Place) -> Found | None:
    """The checkpoint of an id. Raises what the store raises."""
    views = known.holding(place.name, place.checkpoint_id)
    key = naming.saved(place.checkpoint_id, place.namespace)
    for view in views:
        record = rows.SAVED.get(view, key)
        if record is not None:
            return Found(place, record, view, views[::-1])
    return None


def in_namespaces(known: Pages, thread_id: str, checkpoint_id: str) -> Iterator[Found]:
    """The checkpoints of an id in all namespaces of a thread."""
    views = known.holding(naming.name_of(thread_id), checkpoint_id)
    told: set[str] = set()
    for view in views:
        for key in view.keys(f"{naming.SAVED}{checkpoint_id}{naming.SEPARATOR}"):
            record = rows.SAVED.get(view, key)
            if record is not None and key not in told:
                told.add(key)
                yield Found(Place(thread_id, record.namespace, checkpoint_id), record, view, views[::-1])


def newest(known: Pages, thread_id: str, namespace: str) -> Found | None:
    """The newest checkpoint of a namespace."""
    name = naming.name_of(thread_id)
    found = writing.newest(known, name, naming.component(namespace))
    if found is None:
        return None
    checkpoint_id, view = found
    record = rows.SAVED.get(view, naming.saved(checkpoint_id, namespace))
    pages = _with_writes(known, name, known.known(name) or known.look(name), checkpoint_id, view)
    return None if record is None else Found(Place(thread_id, namespace, checkpoint_id), record, view, pages)


def _with_writes(known: Pages, name: str, found: Layout, checkpoint_id: str, view: View) -> Sequence[View]:
    """The pages that may hold writes of a checkpoint that is in one of them, from the lowest ids on."""
    others = found.others(checkpoint_id)
    if not others:
        return (view,)
    return [known.view(name, row.number) for row in (*others[::-1], found.belongs(checkpoint_id))]


# --- many ---


def of_thread(known: Pages, thread_id: str, namespace: str | None = None, before: str | None = None) -> Iterator[Found]:
    """The checkpoints of a thread, of one namespace or of all, with ids below `before`, the highest id first."""
    name = naming.name_of(thread_id)
    component = None if namespace is None else naming.component(namespace)
    found = known.current(name)
    told = ""
    for key, view in _from_the_highest(known, name, found, component, before):
        record = None if key == told else rows.SAVED.get(view, key)
        if record is not None:
            told = key
            checkpoint_id, _ = naming.of_key(key)
            pages = _with_writes(known, name, found, checkpoint_id, view)
            yield Found(Place(thread_id, record.namespace, checkpoint_id), record, view, pages)


def _from_the_highest(
    known: Pages, name: str, found: Layout, component: str | None, before: str | None
) -> Iterator[tuple[str, View]]:
    """The keys of checkpoints, the highest first, each with its page. Pages that overlap are gone through side by side;
    no page is looked at before its turn.
    """
    waiting = [row for row in reversed(found.highest_first) if before is None or row.low < before]
    going: list[_Going] = []
    while waiting or going:
        while waiting and (not going or waiting[-1].end is None or naming.of_key(going[0].key)[0] < waiting[-1].end):
            view = known.view(name, waiting.pop().number)
            keys = _keys_of(view, component, before)
            if keys:
                heappush(going, _Going(keys[-1], view, keys))
        if going:
            _, view, keys = going[0]
            yield keys.pop(), view
            if keys:
                heapreplace(going, _Going(keys[-1], view, keys))
            else:
                heappop(going)


class _Going(NamedTuple):
    """A page that is gone through: the highest key that is left, and all that are. The highest sorts first."""

    key: str
    view: View
    keys: list[str]

    def __lt__(self, other: tuple[Any, ...]) -> bool:
        return self.key > other[0]


def _keys_of(view: View, component: str | None, before: str | None) -> list[str]:
    """The keys of the checkpoints in a page, of a namespace where one is given, with ids below `before`."""
    found: list[str] = []
    for key in view.keys(naming.SAVED):
        checkpoint_id, inside = naming.of_key(key)
        if (component is None or inside == component) and (before is None or checkpoint_id < before):
            found.append(key)
    return found


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
        while self._waiting:
            wanted = heappop(self._waiting)
            going = self._open.pop(wanted.thread_id, None)
            if going is None:
                going = self._begun_at(wanted)
            found = next(going, None)  # it is what was wanted, unless that was removed since
            if found is None:
                continue
            after = next(going, None)
            if after is not None:
                heappush(self._waiting, _next_of(after))
                self._open[wanted.thread_id] = _with(after, going)
                if len(self._open) > _MOST_OPEN:
                    self._open.popitem(last=False)
            return found
        return None

    def _begun_at(self, wanted: _Next) -> Iterator[Found]:
        place = wanted.checkpoint_id, wanted.component
        for found in of_thread(self._known, wanted.thread_id, self._namespace, behind(wanted.checkpoint_id)):
            if (found.place.checkpoint_id, naming.component(found.place.namespace)) <= place:
                return _with(found, of_thread_from(self._known, found, self._namespace))
        return iter(())


def of_thread_from(known: Pages, start: Found, namespace: str | None) -> Iterator[Found]:
    """The checkpoints of a thread behind one."""
    place = start.place.checkpoint_id, naming.component(start.place.namespace)
    for found in of_thread(known, start.place.thread_id, namespace, behind(start.place.checkpoint_id)):
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
