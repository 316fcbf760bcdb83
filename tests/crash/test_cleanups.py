"""A cleanup that is killed, or refused by the system at any call: nothing is lost, and the next one finishes it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import make_config
from tests.crash.faults import Fault, Shim, fail_at, in_child, installed, kill_at, no_fault
from tests.crash.runs import LARGE
from tests.crash.sweeps import bench, descriptors_into, no_collection
from tests.crash.test_errno import cases_of
from tests.crash.test_kill import is_worth_a_kill
from tests.store.support import TestedStore
from tests.totals import RING, Totals, ring_size
from waypost import records
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.store import DocumentId, View
from waypost.store.directory.upkeep import Upkeep

NAMES = ("v", "w")
WIDE = make_config({"compression": {"chunk_size": 4096}})
NARROW = make_config({"compression": {"chunk_size": 4096}, "retention": {"max_checkpoints": 2, "min_checkpoints": 1}})
_PAST = (records.CHECKPOINT, records.ADOPTED, records.RESTORED)
Parts = dict[str, bytes | None]


class Known(NamedTuple):
    """What a store holds: the parts of each workflow, and of each checkpoint, by id, in its order."""

    now: dict[str, Parts]
    kept: dict[str, dict[str, Parts]]


def opened(path: Path, config: object) -> Waypost:
    store = TestedStore.open(str(path), config, create=True, read_only=False)  # type: ignore[arg-type]
    return Waypost(Definitions(store, config, verbose=False))  # type: ignore[arg-type]


def parts(view: View | None) -> Parts:
    assert view is not None
    return {key: view.get(key) for key in view.keys() if not key.startswith(_PAST)}


def known(wp: Waypost) -> Known:
    store = wp.definitions.store
    documents = {name: DocumentId("workflow", name) for name in NAMES}
    return Known(
        {name: parts(store.view(each)) for name, each in documents.items()},
        {
            name: {one: parts(store.checkpoint(each, one)) for one in store.checkpoints(each)}
            for name, each in documents.items()
        },
    )


@pytest.fixture(autouse=True)
def _no_upkeep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the cleanup: what a thread does beside it comes at other calls each time."""
    monkeypatch.setattr(Upkeep, "ask", lambda self, document: None)
    monkeypatch.setattr(Upkeep, "ask_to_settle", lambda self: None)


@pytest.fixture(scope="module")
def filled() -> Iterator[tuple[Path, Known]]:
    """A closed store whose workflows have five checkpoints each beside the first, some of them with a large value."""
    with bench() as place:
        path = place.root / "filled"
        with opened(path, WIDE) as wp:
            for name in NAMES:
                wp.create_workflow(name, "W", steps=list("abcde")).unwrap()
                for step in "abcde":
                    output = LARGE if step in "bd" else step
                    wp.update_step_status(name, step, "completed", output).unwrap()
            before = known(wp)
        yield path, before


def clean(path: Path, fault: Fault) -> Shim:
    """Open the store, clean it up with a fault in the way, and close it."""
    shim = Shim(fault)
    with installed(shim), no_collection():
        wp = opened(path, NARROW)
        try:
            with shim.active():
                bool(wp.cleanup())
        finally:
            wp.close()
    return shim


def examine(path: Path, before: Known) -> None:
    """Each workflow and each checkpoint that is listed is what it was, and the next cleanup leaves what it should."""
    with opened(path, NARROW) as wp:
        now = known(wp)
        assert now.now == before.now
        for name in NAMES:
            ids = list(before.kept[name])
            assert {ids[0], *ids[-2:]} <= now.kept[name].keys()
            assert now.kept[name] == {one: before.kept[name][one] for one in now.kept[name]}
        report = wp.cleanup().unwrap()
        assert report.problems == []
        left = known(wp)
        assert left.now == before.now
        for name in NAMES:
            ids = list(before.kept[name])
            assert list(left.kept[name]) == [ids[0], *ids[-2:]]
    store = TestedStore.open(str(path), NARROW, create=False, read_only=True)
    report = store.verify()
    store.close()
    assert [each for each in report.findings if each.severity != "note"] == []
    assert len([name for name in os.listdir(path / "checkpoints") if name != "lock"]) == 6
    assert os.listdir(path / "temp") == []


def test_t01_a_cleanup_that_is_killed_loses_nothing(filled: tuple[Path, Known], tmp_path: Path, totals: Totals) -> None:
    """SIGKILL before each call that changes what others see, from the first commit to the last file that goes."""
    path, before = filled
    with bench() as place:
        trace = clean(shutil.copytree(path, place.root / "whole"), no_fault).trace
        examine(place.root / "whole", before)
        points = [call.number for call in trace if is_worth_a_kill(call)]
        assert len(points) > 20
        for point in points:
            copy = shutil.copytree(path, place.root / f"killed{point}")
            ended = in_child(lambda _, copy=copy, point=point: clean(copy, kill_at(point)) and None)
            assert ended.killed, ended
            examine(copy, before)
            shutil.rmtree(copy)
    totals("kill points", len(points))


def test_e01_a_cleanup_that_is_refused_loses_nothing(filled: tuple[Path, Known], totals: Totals) -> None:
    """Each error at each call, once and from then on: it is told, or what could not be done is left for the next."""
    path, before = filled
    met = 0
    with bench() as place:
        trace = clean(shutil.copytree(path, place.root / "whole"), no_fault).trace
        for number, kind, onwards in list(cases_of(trace, 0))[:: ring_size(6, 1)]:
            copy = shutil.copytree(path, place.root / f"refused{met}")
            clean(copy, fail_at(number, kind, onwards=onwards, any_call=RING == "N"))
            assert not descriptors_into(copy)
            examine(copy, before)
            shutil.rmtree(copy)
            met += 1
    assert met > 20
    totals("faults", met)
