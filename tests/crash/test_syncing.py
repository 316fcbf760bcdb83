"""A sync of two stores with faults in its way: whatever it was cut off at, both are whole, nothing that either had
acknowledged is lost, and doing it again brings both to the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.crash.faults import CHANGING, Fault, Shim, Tell, fail_at, in_child, installed, kill_at, no_fault
from tests.crash.runs import LARGE, handle, open_store
from tests.crash.sweeps import bench, descriptors_into, no_collection
from tests.crash.test_errno import unlike
from tests.crash.test_kill import is_worth_a_kill
from tests.totals import RING, Totals
from waypost.store import DocumentId, Store
from waypost.store.kinds import KINDS

OPTIONS = "chunked"
Held = dict[DocumentId, dict[str, bytes | None]]
EVERY = 1 if RING == "N" else 5
"""Of so many calls one meets a fault; at night each of them does."""


def prepare(place: Path) -> None:
    """Of two stores each has a workflow that the other lacks; one is behind; one has parted, with a checkpoint on each
    line.
    """
    store = open_store(place / "a", OPTIONS)
    wp = handle(store, OPTIONS)
    for name in ("behind", "parted"):
        wp.create_workflow(name, name, None, ["x", "y"]).unwrap()
    store.close()
    shutil.copytree(place / "a", place / "b")
    for side, step in (("a", "x"), ("b", "y")):
        store = open_store(place / side, OPTIONS)
        wp = handle(store, OPTIONS)
        wp.create_workflow(f"only {side}", "Only", None, ["x"]).unwrap()
        wp.create_checkpoint(f"only {side}").unwrap()
        wp.update_step_status("parted", step, "running").unwrap()
        wp.add_step_output("parted", step, LARGE).unwrap()
        wp.create_checkpoint("parted", side).unwrap()
        if side == "a":
            wp.add_step_output("behind", "x", LARGE).unwrap()
            wp.create_checkpoint("behind").unwrap()
            wp.update_context("behind", variables={"more": 1}).unwrap()
        store.close()


def sync(place: Path) -> Any:
    a, b = open_store(place / "a", OPTIONS), open_store(place / "b", OPTIONS)
    try:
        return handle(a, OPTIONS).sync(handle(b, OPTIONS))
    finally:
        for store in (a, b):
            store.close()


def held_in(store: Store) -> Held:
    """The parts of all documents of a store."""
    found: Held = {}
    for kind in KINDS:
        for name in store.documents(kind):
            view = store.view(DocumentId(kind, name))
            if view.version:
                found[view.document] = {key: view.get(key) for key in view.keys()}
    return found


class Places:
    """What a sync begins with, what it comes to, and copies of it to break."""

    def __init__(self, root: Path) -> None:
        self.before, self.after, self._broken = root / "before", root / "after", root / "broken"
        self.before.mkdir()
        prepare(self.before)
        shutil.copytree(self.before, self.after)
        assert sync(self.after).unwrap().is_complete
        self.held = self.look(self.before)
        self.wanted = self.look(self.after)
        assert self.wanted[0] == self.wanted[1]

    @staticmethod
    def look(place: Path) -> list[Held]:
        found: list[Held] = []
        for side in ("a", "b"):
            store = open_store(place / side, OPTIONS, read_only=True)
            damage = [each for each in store.verify().findings if each.severity in ("damage", "torn tail")]
            assert not damage, damage
            found.append(held_in(store))
            store.close()
        return found

    @contextmanager
    def broken(self) -> Iterator[Path]:
        shutil.copytree(self.before, self._broken)
        yield self._broken
        shutil.rmtree(self._broken)

    @staticmethod
    def play(place: Path, fault: Fault, tell: Tell) -> Shim:
        shim = Shim(fault)
        with installed(shim), no_collection():
            a, b = open_store(place / "a", OPTIONS), open_store(place / "b", OPTIONS)
            try:
                with shim.active():
                    result = handle(a, OPTIONS).sync(handle(b, OPTIONS))
                    tell("done" if result and result.unwrap().is_complete else "not done")
            finally:
                for store in (a, b):
                    store.close()
        return shim

    def examine(self, place: Path, told: list[str]) -> None:
        assert not descriptors_into(place), descriptors_into(place)
        for held, now, wanted in zip(self.held, self.look(place), self.wanted, strict=True):
            for document, parts in now.items():
                # at every commit it is what it was, or on its way to what it comes to
                known = [held.get(document, {}), wanted[document]]
                assert parts.keys() >= known[0].keys() & known[1].keys(), f"something of {document} is lost"
                for key, value in parts.items():
                    assert value in [each.get(key) for each in known], f"{key!r} of {document} is what it never was"
            assert held.keys() <= now.keys(), "a document is lost"
            if "done" in told:
                assert now == wanted, "it was said to be done"
        again = sync(place)
        assert again.unwrap().is_complete, again
        a, b = self.look(place)
        assert a == b
        assert a == self.wanted[0]
        for side in ("a", "b"):
            store = open_store(place / side, OPTIONS)
            wp = handle(store, OPTIONS)
            names = [one.id for one in wp.list_checkpoints(None).items]
            assert len(names) == len([key for parts in a.values() for key in parts if key.startswith(_CHECKPOINTS)])
            assert all(wp.validate_checkpoint(name).is_valid for name in names)
            store.close()
            assert not [file.name for file in (place / side / "temp").iterdir()], "a temporary file is left"


_CHECKPOINTS = ("checkpoint\x1f", "adopted\x1f")


@pytest.fixture
def places() -> Iterator[Places]:
    with bench() as place:
        yield Places(place.root)


def test_t01_d14_a_sync_that_is_killed_at_any_call_goes_on(places: Places, totals: Totals) -> None:
    """SIGKILL before each call that changes something: both stores are whole, and the next sync ends it."""
    with places.broken() as place:
        trace = places.play(place, no_fault, lambda _: None).trace
    points = [call.number for call in unlike(trace) if is_worth_a_kill(call)][::EVERY]
    for point in points:
        with places.broken() as place:
            ended = in_child(lambda tell, place=place, point=point: _played(places, place, point, tell))
            assert ended.killed, ended
            try:
                places.examine(place, ended.told)
            except BaseException as error:
                error.add_note(f"killed at call {point} ({trace[point - 1].name})")
                raise
    totals("kill points", len(points))


def _played(places: Places, place: Path, point: int, tell: Tell) -> None:
    places.play(place, kill_at(point), tell)


def test_e01_t05_an_error_at_any_call_of_a_sync_is_told(places: Places, totals: Totals) -> None:
    """Each call that changes something fails once: what could not be synced is told, and the next sync ends it."""
    with places.broken() as place:
        trace = places.play(place, no_fault, lambda _: None).trace
    met = 0
    for call in [call for call in unlike(trace) if call.name in CHANGING][::EVERY]:
        told: list[str] = []
        with places.broken() as place:
            try:
                met += places.play(place, fail_at(call.number, "EIO"), told.append).met
                places.examine(place, told)
            except BaseException as error:
                error.add_note(f"EIO at call {call.number} ({call.name}); told: {told}")
                raise
    assert met
    totals("faults", met)
