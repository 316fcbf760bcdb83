"""A byte that changed on the medium."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from waypost.errors import DocumentDamaged, StoreError
from waypost.store import DocumentId, Store, View
from waypost.store.contract import CHECKPOINT
from waypost.testing.base import LARGE, WF, Kit, outlives, put

T = TypeVar("T")
_OTHER = DocumentId("workflow", "other")
_VERSIONS = 6


def fill(store: Store) -> list[dict[str, bytes]]:
    """Several versions of two documents; those of `wf` as they must be read, if they are."""
    versions: list[dict[str, bytes]] = [{}]
    for number in range(1, _VERSIONS + 1):
        changed = {"n": b"%d" % number, f"k{number % 2}": LARGE[number:]}
        if number == 3:
            changed[f"{CHECKPOINT}wf@1"] = b"kept"
        put(store, changed)
        versions.append({**versions[-1], **changed})
    put(store, {"n": b"other", "large": LARGE}, _OTHER)
    return versions


class Reading:
    """Reads, and counts how often damage was told."""

    def __init__(self) -> None:
        self.told = 0

    def __call__(self, call: Callable[[], T]) -> T | None:
        try:
            return call()
        except DocumentDamaged:
            self.told += 1
            return None

    def compare(self, view: View | None, expected: dict[str, bytes]) -> None:
        """Each part of a version is what it was, or its damage is told."""
        before = self.told
        if view is None:
            return
        for key, value in expected.items():
            found = self(partial(view.get, key))
            assert found == value or self.told > before, f"a wrong value of {key!r}"


class DamageTests(Kit):
    """The promise that what is read is never wrong. `damage` says how a byte is changed."""

    @contextmanager
    def _damaged(self, place: Path) -> Generator[tuple[Store, list[dict[str, bytes]]] | None]:
        store = self.open(place)
        try:
            versions = fill(store)
        finally:
            store.close()
        if not self.damage(place):
            yield None
            return
        try:
            store = self.open(place)
        except StoreError:  # that it cannot be opened is told, too
            yield None
            return
        try:
            yield store, versions
        finally:
            store.close()

    def _read_all(self, read: Reading, store: Store, versions: list[dict[str, bytes]]) -> None:
        for number, expected in enumerate(versions):
            read.compare(read(partial(store.view_at, WF, number)), expected)
        read.compare(read(partial(store.view, WF)), versions[-1])
        read.compare(read(partial(store.checkpoint, WF, "wf@1")), versions[3])
        past = read(lambda: [(each.version, each.read("n")) for each in store.past(WF).commits()])
        assert past is None or past == [(number, b"%d" % number) for number in range(_VERSIONS, 0, -1)]

    @outlives
    def test_d07_a_changed_byte_is_told_and_never_read_as_if_it_were_right(self, place: Path) -> None:
        """Every part of every version is what it was, or DocumentDamaged is raised, which it is somewhere."""
        with self._damaged(place) as damaged:
            if damaged is not None:
                read = Reading()
                self._read_all(read, *damaged)
                assert read.told, "nothing was told"
                assert not damaged[0].verify().sound, "verify reads every byte"

    @outlives
    def test_d07_damage_is_in_no_other_document_s_way(self, place: Path) -> None:
        """Other documents are read and written as before."""
        with self._damaged(place) as damaged:
            if damaged is not None:
                store, _ = damaged
                assert (store.view(_OTHER).get("n"), store.view(_OTHER).get("large")) == (b"other", LARGE)
                assert put(store, {"n": b"on"}, _OTHER) == 2
