"""Which checkpoint of a workflow comes behind which: each has the one as its parent that was made last before it, or
the one that the workflow went back to in between.

All ids of one workflow sort by the time when they were made. Where many are asked for, all ids are sorted once and both
are found by bisection; for one alone only ids are looked at that begin as it does, since what comes last before it is
among those, if any is: first what was made within a second of it, and ever more until there is one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from waypost import records
from waypost.checkpoint_ids import MARK
from waypost.records import ADOPTED, CHECKPOINT, RESTORED
from waypost.store import View

_CUTS = (8, 9, 10, 12)
"""How much of an id's end is left out to look for what came before it: those of a second, half a minute, a quarter of
an hour, a week or two begin alike so far.
"""


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
    return parent_of(version, name)


def parent_of(view: View, name: str, way: Way | None = None) -> str | None:
    """The checkpoint made last before this one of its own, or the one that the workflow went back to since; where that
    is gone, the one before it. The way need not be that of the version; without one it is.
    """
    record = records.ADOPTIONS.get(view, ADOPTED + name)
    if record is not None and (record.imported or record.parent_id is not None):
        return record.parent_id
    earlier = _made_before(view, name, way)
    restored = _turned_before(view, name, earlier, way)
    if restored is None or (earlier is not None and restored < earlier):
        return earlier
    origin = records.TEXTS.get(view, RESTORED + restored) or ""
    is_known = is_there(view, origin) or (way is not None and origin in way.own)
    if is_known or origin.rpartition(MARK)[0] != view.document.id:
        return origin
    return _made_before(view, origin, way)


def _made_before(view: View, name: str, way: Way | None) -> str | None:
    """The last of the workflow's own checkpoints before one."""
    if way is not None:
        return _before(way.own, name)
    made = next(filter(None, (_last_before(view, CHECKPOINT, name, cut) for cut in _cuts(name))), None)
    adopted = [each for each in _between(view, ADOPTED, made, name) if not is_imported(view, each)]
    return adopted[-1] if adopted else made


def _turned_before(view: View, name: str, earlier: str | None, way: Way | None) -> str | None:
    """The last turn before a checkpoint; without a way only what lies behind the one before it."""
    if way is not None:
        return _before(way.restored, name)
    turned = _between(view, RESTORED, earlier, name)
    return turned[-1] if turned else None


def _cuts(name: str) -> Iterator[str]:
    """What ids that lie ever further before one begin with, at last any."""
    for cut in _CUTS:
        if cut < len(name):
            yield name[:-cut]
    yield ""


def _last_before(view: View, kind: str, name: str, begin: str) -> str | None:
    """The last name of a kind that begins so, and is before another."""
    found = [each for each in _names(view, kind, begin) if each < name]
    return found[-1] if found else None


def _between(view: View, kind: str, after: str | None, name: str) -> list[str]:
    """The names of a kind from one on to before another, or anywhere before that, sorted."""
    begin = next(cut for cut in _cuts(name) if (after or "").startswith(cut))
    return [each for each in _names(view, kind, begin) if each < name and (after is None or after <= each)]


def _names(view: View, kind: str, begin: str) -> Iterator[str]:
    return (key.removeprefix(kind) for key in view.keys(kind + begin))


def _before(names: Sequence[str], name: str) -> str | None:
    """The last of sorted names that is before one; None where there is none."""
    place = bisect_left(names, name)
    return names[place - 1] if place else None
