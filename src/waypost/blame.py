"""Who made a value what it is: the commits gone through backwards, for the newest that changed what is at a path.

Commits name the parts that they wrote, so only those that touched the part are looked at; what they put there is the
value until the next of them. A commit that wrote the part and left what is at the path equal is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from msgspec import UNSET, Struct, UnsetType

from waypost import delta, migrations, places, records, references
from waypost.errors import DocumentDamaged, PathNotFound, ValueErased
from waypost.history import HistoryEntry, dropped, entry, past_of
from waypost.places import ABSENT, LargeValue, Place
from waypost.store import Commit, DocumentId, Past, Store, View


class Blame(Struct, frozen=True, kw_only=True):
    """Which commit made what is at a path what it is now.

    `before` is what was there until then, and `before_since` the version that had brought that; UNSET and None where
    nothing was there. With `or_before` the history that is kept begins with the value as it is: it came with the
    version of `commit` or an earlier one, and what was before is not known. `before_since` is None also where it is
    older than that. Values are as in a `Difference`; those of a prefix (`outputs`) are dictionaries.
    """

    workflow_id: str
    path: str
    value: Any
    before: Any | UnsetType = UNSET
    before_since: int | None = None
    or_before: bool = False
    commit: HistoryEntry


def blame(store: Store, workflow_id: str, path: str) -> Blame:
    """Who last set what is at a path. Raises InvalidId, InvalidInput, WorkflowNotFound, PathNotFound."""
    document = DocumentId("workflow", records.validate_id(workflow_id, "workflow id"))
    place = places.place(path)
    view = migrations.current(store.view(document))
    past = past_of(store, document)
    if view.size_of(records.WORKFLOW) is None and place.root != places.TOMBSTONE:
        raise records.no_such_workflow(view)
    now = _at(view, place)
    if now is ABSENT:
        raise _nothing_at(view, place)
    try:
        found = _search(_quick(store, past, place, view), now)
    except _Unaccounted:
        found = _search(_thorough(store, past, place, view), now)
    return Blame(
        workflow_id=workflow_id,
        path=place.path,
        value=now,
        before=UNSET if found.before is ABSENT else found.before,
        before_since=found.before_since,
        or_before=found.commit is None,
        commit=dropped(past, past.first) if found.commit is None else entry(document, found.commit),
    )


class _Found(NamedTuple):
    commit: Commit | None
    before: Any
    before_since: int | None


Moments = Iterator[tuple[Commit | None, Any]]
"""Commits that may have changed what is at a path, the newest first, each with what was there after it. The last is
None, with what was there where the history that is kept begins.
"""


class _Unaccounted(Exception):
    """The newest commit that touched the part did not leave what is there now."""


def _search(moments: Moments, now: Any) -> _Found:
    setter, after = next(moments)
    if not _is_same(after, now):
        raise _Unaccounted
    for commit, after in moments:
        if not _is_same(after, now):
            before_since = None if after is ABSENT else _since(moments, commit, after)
            return _Found(setter, UNSET if after is _UNREADABLE else after, before_since)
        setter = commit
    return _Found(setter, ABSENT, None)


def _since(moments: Moments, since: Commit | None, before: Any) -> int | None:
    """The version that brought what was there before; None where it is older than what is kept."""
    for commit, after in moments:
        if since is None or not _is_same(after, before):
            break
        since = commit
    return None if since is None else since.version


class _Unreadable:
    """Stands for what an older layout of the workflow holds: it is not compared."""


_UNREADABLE = _Unreadable()


def _is_same(one: Any, other: Any) -> bool:
    if one is _UNREADABLE or other is _UNREADABLE:
        return False
    return one is other or not delta.differences(one, other)


def _at(view: View, place: Place) -> Any:
    """What is at a place in a version."""
    whole = places.tree(view, place.root) if place.is_section else places.value(view.get, place.root)
    return places.inside(whole, place.inner)[0]


# --- going back ---


def _quick(store: Store, past: Past, place: Place, now: View) -> Moments:
    """By what the commits themselves put."""
    for commit in past.commits(now.version + 1):
        if not commit.cleared and not any(map(place.holds, map(places.root_of, (*commit.puts, *commit.removed)))):
            continue
        if place.root == places.ORDER or place.is_section:
            yield commit, _at_version(store, commit.version, place, now)  # it is made of several parts
            continue
        key = _output_key(commit, place) if place.root[0] == "outputs" else places.key_of(place.root)
        if key is None:
            yield commit, _at_version(store, commit.version, place, now)
        else:
            yield commit, _put(commit, key, place)
    yield None, _start(past, place)


def _output_key(commit: Commit, place: Place) -> str | None:
    """The part in which a commit put the newest output of a step, if it says so by itself."""
    step = records.STEP + place.root[1]
    if step not in commit.puts:
        return None
    data = commit.read(step)
    try:
        version = records.STEPS.decode(step, data).output_version
    except DocumentDamaged:
        return None
    key = records.output_key(place.root[1], version)
    return key if key in commit.puts else None


def _put(commit: Commit, key: str, place: Place) -> Any:
    """What a commit that touched a part left at a place in it."""
    if key not in commit.puts:
        return ABSENT
    try:
        data = commit.read(key)
    except ValueErased as error:
        return places.erased_value(error)
    try:
        whole = places.output_value(key, data) if place.root[0] == "outputs" else places.decoded(key, data)
    except DocumentDamaged:
        return _UNREADABLE  # its checksum was right, so it is of an older layout
    return places.inside(whole, place.inner)[0]


def _at_version(store: Store, version: int, place: Place, now: View) -> Any:
    if version == now.version:
        return _at(now, place)
    return _at(references.version(store, now.document, version), place)


def _start(past: Past, place: Place) -> Any:
    return _at(migrations.current(past.start()), place)


def _thorough(store: Store, past: Past, place: Place, now: View) -> Moments:
    """By every version there is: for what did not come about part by part."""
    for commit in past.commits(now.version + 1):
        yield commit, _at_version(store, commit.version, place, now)
    yield None, _start(past, place)


# --- what is not there ---


def _nothing_at(view: View, place: Place) -> PathNotFound:
    whole = places.tree(view, place.root) if place.is_section else places.value(view.get, place.root)
    steps = places.inside(whole, place.inner)[1]
    nearest: str | None = None
    if whole is not ABSENT:
        nearest = Place(place.root, place.inner[:steps]).path
    else:
        above = (place.root[:length] for length in range(len(place.root) - 1, 0, -1))
        nearest = next((places.path_of(root) for root in above if places.tree(view, root) is not ABSENT), None)
    why = "" if nearest is None else f": the nearest that is there is {nearest}"
    if isinstance(whole, LargeValue):
        why += f", a value of {whole.size_bytes:,} bytes that is not looked into"
    name = view.document.id
    return PathNotFound(
        f"workflow {name!r} has nothing at {place.path}{why}", workflow_id=name, path=place.path, nearest=nearest
    )
