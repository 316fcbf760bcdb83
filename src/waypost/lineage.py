"""Which checkpoint of a workflow comes behind which: each has the one as its parent that was made last before it, or
the one that the workflow went back to in between.

All ids of one workflow sort by the time when they were made, so both are found by bisection.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from waypost import records
from waypost.checkpoint_ids import MARK
from waypost.records import ADOPTED, CHECKPOINT, RESTORED
from waypost.store import View


class Way(NamedTuple):
    """The checkpoints that a workflow came by itself, and the marks of where it went back, both in their order."""

    own: list[str]
    restored: list[str]


def way(view: View | None, names: Sequence[str]) -> Way:
    """That of a version, with checkpoints of these names. What was imported was never on the way of the workflow."""
    if view is None:
        return Way(sorted(names), [])
    imported = {name for name in records.names(view, ADOPTED) if is_imported(view, name)}
    return Way(sorted(name for name in names if name not in imported), turns(view))


def turns(view: View) -> list[str]:
    """The marks of where a workflow went back, in their order."""
    return sorted(records.names(view, RESTORED))


def names_in(view: View) -> list[str]:
    """The checkpoints that a version knows."""
    return [*records.names(view, ADOPTED), *records.names(view, CHECKPOINT)]


def is_there(view: View, name: str) -> bool:
    """Whether a version knows a checkpoint of that very name."""
    return any(view.size_of(prefix + name) is not None for prefix in (CHECKPOINT, ADOPTED))


def is_imported(view: View, name: str) -> bool:
    """Whether a checkpoint of a workflow was made elsewhere, and imported."""
    record = records.ADOPTIONS.get(view, ADOPTED + name)
    return record is not None and record.imported


def parent_in(version: View, name: str) -> str | None:
    """The checkpoint made last before the one of a version, as that version tells it."""
    return parent_of(version, name, way(version, names_in(version)))


def parent_of(view: View, name: str, way: Way) -> str | None:
    """The checkpoint made last before this one of its own, or the one that the workflow went back to since; where that
    is gone, the one before it.
    """
    record = records.ADOPTIONS.get(view, ADOPTED + name)
    if record is not None and (record.imported or record.parent_id is not None):
        return record.parent_id
    restored, earlier = _before(way.restored, name), _before(way.own, name)
    if restored is None or (earlier is not None and restored < earlier):
        return earlier
    origin = records.TEXTS.get(view, RESTORED + restored) or ""
    if is_there(view, origin) or origin in way.own or origin.rpartition(MARK)[0] != view.document.id:
        return origin
    return _before(way.own, origin)


def _before(names: Sequence[str], name: str) -> str | None:
    """The last of sorted names that is before one; None where there is none."""
    place = bisect_left(names, name)
    return names[place - 1] if place else None
