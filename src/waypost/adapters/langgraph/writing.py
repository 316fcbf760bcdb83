"""Putting checkpoints and pending writes: one commit each, of one page.

What is put was serialized before, so that nothing that changes later leaks in. The work looks at the page only; when
that does not tell enough, it changes nothing and says what is missing, and runs again with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from waypost.adapters.langgraph import naming, pages, rows
from waypost.adapters.langgraph.layout import Layout, Row
from waypost.adapters.langgraph.pages import PAGE_BYTES, STATES, TRIES, Pages, Steps
from waypost.adapters.langgraph.rows import (
    Blobs,
    ChannelRow,
    NewestRecord,
    SavedRecord,
    Typed,
    Version,
    WriteRow,
    WritesRecord,
)
from waypost.errors import DocumentTooLarge, VersionConflict
from waypost.records import encode
from waypost.store import Receipt, Transaction, View
from waypost.thread_pages import highest


class Place(NamedTuple):
    """Names a checkpoint."""

    thread_id: str
    namespace: str
    checkpoint_id: str

    @property
    def name(self) -> str:
        return naming.name_of(self.thread_id)

    def beside(self, checkpoint_id: str) -> Place:
        """Another checkpoint of the same namespace."""
        return self._replace(checkpoint_id=checkpoint_id)


class Draft:
    """A checkpoint that is to be put.

    `carried` are the channels that did not change: their values are those of the parent, where it has that version, and
    else what `dump` makes of them (None where there is no value).
    """

    def __init__(
        self,
        place: Place,
        parent: str | None,
        run_id: str | None,
        checkpoint: Typed,
        metadata: Typed,
        *,
        follows: bool,
        dump: Callable[[str], Typed | None],
    ) -> None:
        self.place = place
        self.parent = parent
        self.follows = follows
        """Whether its parent has to be the newest checkpoint."""
        self.channels: list[tuple[str, Version | None]] = []
        self.digests: dict[str, str | None] = {}
        self.blobs = Blobs()
        self.run_id = run_id
        self.checkpoint = checkpoint
        self.metadata = metadata
        self._dump = dump
        self.parent_there: tuple[SavedRecord, View] | None = None
        """The parent, and the page that it is in, where that is another one; None before it was looked for."""
        self.looked_for_parent = parent is None
        self.newest: str | None = None
        """The newest checkpoint of the other pages, "" where there is none; None before it was looked for."""
        self.listed_in: set[int] = set()
        """The pages of which the head was had to say that the namespace is in them."""

    def add(self, name: str, version: Version | None) -> None:
        """A channel whose value has yet to be found."""
        self.channels.append((name, version))

    def add_value(self, name: str, version: Version | None, typed: Typed | None) -> None:
        """A channel and its value."""
        self.channels.append((name, version))
        self.digests[name] = None if typed is None else self.blobs.add(typed)

    def dump(self, name: str) -> None:
        """Take a channel's value from what was given, since no parent has it."""
        typed = self._dump(name)
        self.digests[name] = None if typed is None else self.blobs.add(typed)


class Saved(NamedTuple):
    """It is saved, or was before, as `before`."""

    before: SavedRecord | None = None


class Missing(NamedTuple):
    """What the work has to know, and its page does not tell: the parent, values by their digest, with the channels that
    have them, the values of channels that no parent has, the newest of all pages.
    """

    parent: bool = False
    digests: Mapping[str, Sequence[str]] = {}
    undumped: Sequence[str] = ()
    newest: bool = False
    namespace: bool = False
    """The head has to say first that the namespace is in the page: whoever sealed that did so of those it had then."""


MOVED, FULL = "moved", "full"


def put(known: Pages, draft: Draft) -> Steps[SavedRecord | None]:
    """Save a checkpoint; the one that was there under its id, if there was one.

    Raises VersionConflict, DocumentTooLarge and what the store raises.
    """
    place, name = draft.place, draft.place.name
    found = known.known(name) or (yield from known.for_writing(name))
    for _ in range(TRIES):
        row = found.belongs(place.checkpoint_id)
        if found.others(place.checkpoint_id):
            there: SavedRecord | None = yield lambda found=found: _elsewhere(known, found, place)
            if there is not None:
                return there
        is_ahead = found.is_ahead(row)
        try:
            receipt: Receipt = yield pages.change(
                naming.page(name, row.number),
                "put",
                lambda tx, row=row, is_ahead=is_ahead: _put(tx, draft, row, is_ahead=is_ahead),
            )
            outcome = receipt.data
        except DocumentTooLarge:
            if not (yield lambda row=row: _may_be_sealed(known, name, row, place.checkpoint_id)):
                raise
            outcome = FULL
        if isinstance(outcome, Saved):
            return outcome.before
        if isinstance(outcome, Missing):
            if outcome.namespace:
                key = naming.inside(naming.component(place.namespace), row.number)
                yield pages.change(naming.page(name, 0), "list_namespace", lambda tx, key=key: tx.put(key, b""))
                draft.listed_in.add(row.number)
            yield lambda row=row, outcome=outcome: _look_for(known, draft, row, outcome)
            continue
        if outcome == FULL:
            yield from known.seal(name, row, place.checkpoint_id)
        found = yield from known.mend(name, row)
        draft.newest = None
    raise pages.faster()


def _elsewhere(known: Pages, found: Layout, place: Place) -> SavedRecord | None:
    """The checkpoint as it stands in a page that it does not belong to."""
    key = naming.saved(place.checkpoint_id, place.namespace)
    views = (known.view(place.name, row.number) for row in found.others(place.checkpoint_id))
    return next((record for view in views if (record := rows.SAVED.get(view, key)) is not None), None)


def _may_be_sealed(known: Pages, name: str, row: Row, checkpoint_id: str) -> bool:
    view = known.view(name, row.number)
    return "" < highest(view) < checkpoint_id and view.size_of(naming.SEALED) is None


def _put(tx: Transaction, draft: Draft, row: Row, *, is_ahead: bool) -> Saved | Missing | str:
    place = draft.place
    if pages.has_moved(tx, place.checkpoint_id):
        return MOVED
    key = naming.saved(place.checkpoint_id, place.namespace)
    before = rows.SAVED.get(tx, key)
    if before is not None:
        return Saved(before)
    newest_key = naming.newest(place.namespace)
    newest_here = rows.newest_of(tx, newest_key)
    is_sealed = tx.size_of(naming.SEALED) is not None
    if newest_here is None and row.number and is_sealed and row.number not in draft.listed_in:
        return Missing(namespace=True)
    if draft.follows:
        is_told_here = is_ahead and not is_sealed and (newest_here is not None or not row.number)
        if not is_told_here and draft.newest is None:
            return Missing(newest=True)
        _check_follows(draft, max(newest_here or "", "" if is_told_here else draft.newest or ""))
    channels = _channels(tx, draft)
    if isinstance(channels, Missing):
        return channels
    if _is_full(tx, draft, channels):
        return FULL
    for digest in {digest for _, _, digest in channels if digest is not None}:
        if digest in draft.blobs.parts:
            tx.put(naming.VALUE + digest, draft.blobs.parts[digest])
    if not row.number:
        pages.introduce(tx, place.thread_id)
    record = SavedRecord(place.namespace, draft.parent, draft.run_id, draft.checkpoint, draft.metadata, tuple(channels))
    tx.put(key, encode(record))
    if newest_here is None or newest_here < place.checkpoint_id:
        tx.put(newest_key, encode(NewestRecord(place.checkpoint_id)))
    return Saved()


def _check_follows(draft: Draft, newest: str) -> None:
    place, parent = draft.place, draft.parent or ""
    if newest != parent:
        read = f"checkpoint {parent} as the newest" if parent else "that there was no checkpoint"
        raise VersionConflict(
            f"thread {place.thread_id!a:.80}, namespace {place.namespace!a:.80}: this writer read {read}, and "
            f"meanwhile {f'another put {newest}' if newest else 'it was deleted'}; nothing was written, invoke the "
            "graph again to go on from there",
            thread_id=place.thread_id,
            namespace=place.namespace,
            read=parent,
            newest=newest,
        )
    if place.checkpoint_id <= parent:
        raise VersionConflict(
            f"thread {place.thread_id!a:.80}: checkpoint {place.checkpoint_id} sorts before {parent}, which it follows "
            "and would stay the newest: the clock here is behind that of whoever put that one",
            thread_id=place.thread_id,
            namespace=place.namespace,
            read=parent,
            newest=newest,
        )


def _channels(tx: Transaction, draft: Draft) -> list[ChannelRow] | Missing:
    """The channels of a checkpoint with the digests of their values, all of which are in the page or in the draft."""
    carried = [(name, version) for name, version in draft.channels if name not in draft.digests]
    of_parent: Mapping[tuple[str, Version | None], str | None] = {}
    if carried:
        parent = None if draft.parent is None else rows.SAVED.get(tx, naming.saved(draft.parent, draft.place.namespace))
        if parent is None and not draft.looked_for_parent:
            return Missing(parent=True)
        if parent is None and draft.parent_there is not None:
            parent = draft.parent_there[0]
        of_parent = {(name, version): digest for name, version, digest in parent.channels} if parent else {}
    undumped = [name for name, version in carried if (name, version) not in of_parent]
    if undumped:
        return Missing(undumped=undumped)
    found = [
        (name, version, draft.digests[name] if name in draft.digests else of_parent[name, version])
        for name, version in draft.channels
    ]
    absent: dict[str, list[str]] = {}
    for name, _, digest in found:
        if digest is not None and digest not in draft.blobs.parts and tx.size_of(naming.VALUE + digest) is None:
            absent.setdefault(digest, []).append(name)
    return Missing(digests=absent) if absent else found


def _is_full(tx: Transaction, draft: Draft, channels: list[ChannelRow]) -> bool:
    """Whether another page is to begin with this checkpoint."""
    if tx.size_bytes < PAGE_BYTES or tx.size_of(naming.SEALED) is not None:
        return False
    held = draft.blobs.parts
    state = sum(
        len(held[digest]) if digest in held else tx.size_of(naming.VALUE + digest) or 0
        for digest in {digest for _, _, digest in channels if digest is not None}
    )
    return tx.size_bytes >= STATES * state and highest(tx) < draft.place.checkpoint_id


def _look_for(known: Pages, draft: Draft, row: Row, missing: Missing) -> None:
    place = draft.place
    if missing.newest:
        found = newest(known, place.name, naming.component(place.namespace), but=row.number)
        draft.newest = "" if found is None else found[0]
    if missing.parent and draft.parent is not None:
        key = naming.saved(draft.parent, place.namespace)
        for view in known.holding(place.name, draft.parent):
            record = rows.SAVED.get(view, key)
            if record is not None:
                draft.parent_there = record, view
                break
        draft.looked_for_parent = True
    for name in missing.undumped:
        draft.dump(name)
    for digest, names in missing.digests.items():
        data = None if draft.parent_there is None else draft.parent_there[1].get(naming.VALUE + digest)
        if data is not None:
            draft.blobs.parts[digest] = data
        else:  # it was removed with the parent
            for name in names:
                draft.dump(name)


def newest(known: Pages, name: str, component: str, but: int | None = None) -> tuple[str, View] | None:
    """The newest checkpoint of a namespace, and the page with it: the highest of those that its pages, but for one of
    them, name as theirs.
    """
    highest_yet: tuple[str, View] | None = None
    for row, view in known.with_namespace(name, component):
        if highest_yet is not None and row.end is not None and row.end <= highest_yet[0]:
            break  # all that follow end there, or before
        checkpoint_id = None if row.number == but else rows.newest_of(view, naming.NEWEST + component)
        if checkpoint_id is not None and (highest_yet is None or checkpoint_id > highest_yet[0]):
            highest_yet = checkpoint_id, view
    return highest_yet


# --- pending writes ---


def put_writes(known: Pages, place: Place, task_id: str, given: Sequence[WriteRow]) -> Steps[None]:
    """Add the pending writes of a task to those of a checkpoint, which need not be there yet."""
    name = place.name
    key = naming.writes(place.checkpoint_id, place.namespace, task_id)

    def work(tx: Transaction, row: Row) -> bool:
        if pages.has_moved(tx, place.checkpoint_id):
            return False
        before = rows.WRITES.get(tx, key)
        held = {} if before is None else {each.index: each for each in before.rows}
        for each in given:
            if each.index < 0 or each.index not in held:
                held[each.index] = each
        if held:
            if not row.number:
                pages.introduce(tx, place.thread_id)
            tx.put(key, encode(WritesRecord(task_id, tuple(held[index] for index in sorted(held)))))
        return True

    found = known.known(name) or (yield from known.for_writing(name))
    for _ in range(TRIES):
        row = found.belongs(place.checkpoint_id)
        receipt: Receipt = yield pages.change(
            naming.page(name, row.number), "put_writes", lambda tx, row=row: work(tx, row)
        )
        if receipt.data:
            return
        found = yield from known.mend(name, row)
    raise pages.faster()


def pending(views: Iterable[View], place: Place) -> list[tuple[str, WriteRow]]:
    """The pending writes of a checkpoint with the ids of their tasks, ordered by (task_path, task_id, index). They may
    stand in several pages, given from the lowest ids on: writers put them where the checkpoint belongs by now.
    """
    found: dict[tuple[str, int], WriteRow] = {}
    for view in views:
        for key in view.keys(naming.writes(place.checkpoint_id, place.namespace)):
            record = rows.WRITES.get(view, key)
            if record is None:
                continue
            for row in record.rows:
                if row.index < 0 or (record.task_id, row.index) not in found:
                    found[record.task_id, row.index] = row
    return sorted(((task_id, row) for (task_id, _), row in found.items()), key=_order)


def _order(found: tuple[str, WriteRow]) -> tuple[str, str, int]:
    task_id, row = found
    return row.task_path, task_id, row.index
