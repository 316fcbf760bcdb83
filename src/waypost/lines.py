"""Two histories of one document: which goes on behind the other, and where they part.

All of it is told by commit ids. A *line* is what one side has behind the last of its commits that the other side knows,
be it that it has that commit, or that it has taken it in by a merge or an import.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from waypost import merging
from waypost.store import Commit, DocumentId, Past, Store, View


class Side(NamedTuple):
    """A document in one of the two stores, as it was looked at."""

    store: Store
    view: View
    past: Past

    @classmethod
    def of(cls, store: Store, document: DocumentId) -> Side:
        """The document with all that is told of it. The view is of the version that the past ends with, or a newer one:
        then nothing can be appended behind it.
        """
        past = store.past(document)
        view = store.view(document)
        return cls(store, view, past)

    @property
    def head(self) -> bytes:
        return self.view.commit_id


class Touch(NamedTuple):
    """Who changed a part last. A merge that took over what one line had made of it is not who did."""

    time_us: int
    commit_id: bytes
    operation_id: str
    operation: str
    session: str | None


class Line(NamedTuple):
    """What a side has that the other does not know. `common` is the last version that it does, 0 where there is none;
    `ids` are of the commits behind that, `contains` of those that they have brought together. It is whole where no
    commit of it is known by its id alone; then `touched` names every part that it has changed.
    """

    common: int
    common_id: bytes | None
    ids: list[bytes]
    contains: set[bytes]
    touched: dict[str, Touch]
    is_whole: bool
    may_lack: bool = False
    """Whether its history begins with a version that a repair made: what is not there may be what that could not keep.
    """
    erased: frozenset[tuple[str, bytes]] = frozenset()
    """The values that were erased on that side, by their keys and digests, as far as its history tells of them."""


def commits_behind(past: Past, head: bytes) -> list[Commit] | None:
    """The commits of a history that can be appended behind a commit, the oldest first; None where there is no way: then
    the histories have parted, or those that lead there are not kept.
    """
    found: list[Commit] = []
    length = 0
    for commit in past.commits():
        if commit.commit_id == head:
            return found[::-1]
        found.append(commit)
        if commit.merge is not None and head in (*commit.merge.parents, *commit.merge.behind):
            length = len(found)
    if past.first and past.dropped_id(past.first) == head:
        return found[::-1]
    return found[:length][::-1] if length else None


def line_of(side: Side, known: set[bytes]) -> Line:
    """What a side has behind the last of its commits that is among those."""
    past = side.past
    common = merging.last_known(past, known)
    ids = [past.dropped_id(version) or b"" for version in range(common + 1, past.first + 1)]
    is_whole = common >= past.first
    contains: set[bytes] = set()
    touched: dict[str, Touch] = {}
    common_id = past.dropped_id(common) if 0 < common <= past.first else None
    for commit in past.commits(oldest_first=True):
        if commit.version == common:
            common_id = commit.commit_id
        if commit.version <= common:
            continue
        ids.append(commit.commit_id)
        if commit.merge is not None:
            contains.update(*commit.merge)
        keys = {*commit.puts, *commit.removed}
        if commit.cleared:
            before = _before(side, commit)
            is_whole = is_whole and before is not None
            keys.update(before.keys() if before is not None else ())
        touch = Touch(commit.time_us, commit.commit_id, commit.operation_id, commit.operation, commit.session)
        touched.update(dict.fromkeys(keys, touch))
        if commit.merge is not None:
            touched.update(_taken_over(commit.projection))
    lacking, gone = merging.may_lack(past, common), merging.erased_values(side.view, past)
    return Line(common, common_id, ids, contains, touched, is_whole, lacking, gone)


def projection(origins: Mapping[str, Touch]) -> list[object]:
    """What a merge remembers: whose changes it took over."""
    touches = list(dict.fromkeys(origins.values()))
    rows = [[touch.time_us, touch.commit_id.hex(), *touch[2:]] for touch in touches]
    return [_MARK, rows, {key: touches.index(touch) for key, touch in origins.items()}]


def _taken_over(found: Any) -> dict[str, Touch]:
    """The same, read back; nothing where it says something else."""
    try:
        mark, rows, places = msgspec.convert(found, _Projection)
        touches = [Touch(row[0], bytes.fromhex(row[1]), *row[2:]) for row in rows]
        return {key: touches[place] for key, place in places.items()} if mark == _MARK else {}
    except (msgspec.ValidationError, ValueError, IndexError):
        return {}


_Projection = tuple[str, list[tuple[int, str, str, str, str | None]], dict[str, int]]
_MARK = "merged"


def _before(side: Side, commit: Commit) -> View | None:
    if commit.version - 1 == side.past.first:
        return side.past.start()
    return side.store.view_at(side.view.document, commit.version - 1)


def common_version(ours: tuple[Side, Line], theirs: tuple[Side, Line]) -> View | None:
    """The last version that both sides have in common, by whichever of them keeps it; None where none does, or several
    are equally near. Where the two were never one, that is the empty document.
    """
    if not ours[1].common and not theirs[1].common:
        return ours[0].store.view_at(ours[0].view.document, 0)
    candidates = [(side, line, other) for (side, line), (other, _) in ((ours, theirs), (theirs, ours)) if line.common]
    ids = {line.common_id for _, line, _ in candidates}
    for side, line, other in candidates:
        if ids <= _known_up_to(side.past, line.common):
            return _kept(side, line.common_id) or _kept(other, line.common_id)
    return None


def _known_up_to(past: Past, version: int) -> set[bytes | None]:
    """The ids of all commits that stand at a version, or have gone into it."""
    found: set[bytes | None] = {past.dropped_id(each) for each in range(1, min(version, past.first) + 1)}
    for commit in past.commits(version + 1):
        found.add(commit.commit_id)
        if commit.merge is not None:
            found.update(*commit.merge)
    return found


_NOWHERE = 1 << 62


def _version(past: Past, commit_id: bytes) -> int:
    for version in range(1, past.first + 1):
        if past.dropped_id(version) == commit_id:
            return version
    return next((commit.version for commit in past.commits() if commit.commit_id == commit_id), _NOWHERE)


def _kept(side: Side, commit_id: bytes | None) -> View | None:
    if commit_id is None:
        return None
    version = _version(side.past, commit_id)
    if version == _NOWHERE:
        return None
    view = side.past.start() if version == side.past.first else side.store.view_at(side.view.document, version)
    return view if view is not None and view.commit_id == commit_id else None
