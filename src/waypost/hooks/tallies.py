"""How many steps of a workflow are completed, known without looking at all of them while only events change it.

A tally belongs to one version, by its number and its checksum, so it is never that of another; where there is none for
a version the steps are counted.
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

from waypost.loading import every_step
from waypost.store import Store, View

_MOST_WORKFLOWS = 256


class _Tally(NamedTuple):
    version: int
    checksum: bytes
    completed: int


class Tallies:
    """Those of one store, as this process knows them. Safe to use from any thread."""

    def __init__(self) -> None:
        self._kept: dict[str, _Tally] = {}

    def at(self, view: View) -> int | None:
        """The tally of a version, or of what a transaction began with; None where it is not known."""
        kept = self._kept.get(view.document.id)
        if kept is None or (kept.version, kept.checksum) != (view.version, view.checksum):
            return None
        return kept.completed

    def keep(self, view: View, completed: int) -> None:
        """Remember that of a version in the place of an earlier one, or of the workflow that has been quiet longest."""
        self._kept.pop(view.document.id, None)
        self._kept[view.document.id] = _Tally(view.version, view.checksum, completed)
        while len(self._kept) > _MOST_WORKFLOWS:
            self._kept.pop(next(iter(self._kept)), None)


def count(view: View) -> int:
    """How many steps are completed, by looking at each."""
    return sum(step.status == "completed" for step in every_step(view))


def of(store: Store) -> Tallies:
    """Those of a store, for as long as it is there."""
    return _OF_STORES.setdefault(store, Tallies())


_OF_STORES: WeakKeyDictionary[Store, Tallies] = WeakKeyDictionary()
