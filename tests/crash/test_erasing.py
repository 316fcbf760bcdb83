"""An erasure that is killed, refused by the system, or cut by a loss of power: promised only when no byte is left.

Until then each version reads as it was, or says that a part was erased; whoever comes next finishes it.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec
import pytest

from tests.crash import disk
from tests.crash.faults import CHANGING, Fault, Shim, done_and_refused, fail_at, in_child, installed, kill_at, no_fault
from tests.crash.needed import (
    DONE,
    STORE,
    A,
    a_store,
    contents,
    expect,
    lose_power,
    promised_from,
    put,
    told,
    tree_after,
)
from tests.crash.oracle import Standing, Wrong, open_store
from tests.crash.simulated import Tree
from tests.crash.stories import PLAIN as NEEDED
from tests.crash.stories import Run
from tests.crash.sweeps import bench, descriptors_into, no_collection
from tests.crash.test_errno import cases_of, unlike
from tests.crash.test_kill import is_worth_a_kill
from tests.files import files_with
from tests.store.support import WF, TestedStore, change, directory_store
from tests.totals import RING, Totals, ring_size
from waypost.errors import WaypostError
from waypost.store import JointChange, Store, Transaction, View
from waypost.store.contract import CHECKPOINT
from waypost.store.directory import compaction
from waypost.store.erasures import ERASED, Erasures

CANARY = b"canary-91bb-secret"
LARGE = CANARY * 500
PLAIN = {"enabled": False, "chunk_size": 4096}
KEYS = ("secret", "big\x1f")
HELD = {"a": b"1", "secret": CANARY, "big\x1f1": LARGE, f"{CHECKPOINT}wf@1": b"first"}
"""What the second version holds, which is kept as a checkpoint."""


def decide(store: Store) -> None:
    """Commit that they are erased, if that is not said yet."""

    def work(tx: Transaction) -> None:
        for key in list(tx.keys()):
            if key.startswith(KEYS):
                tx.delete(key)
        for key in KEYS:
            tx.put(ERASED + key, msgspec.msgpack.encode([tx.time_us]))

    store.submit(change(WF, work, operation_id="erase", repeatable=True)).result()


def erase(store: Store) -> list[str]:
    decide(store)
    return store.erase(WF)


def fill(store: TestedStore) -> None:
    """Four versions, two checkpoints of which one stands on the other, a snapshot, and history behind it."""
    put(store, a=b"1", secret=CANARY)
    put(store, **{"big\x1f1": LARGE, f"{CHECKPOINT}wf@1": b"first"})
    store.tidy(WF, "keep")
    put(store, **{"secret": CANARY + b"2", f"{CHECKPOINT}wf@2": b"second"})
    store.tidy(WF, "keep")
    put(store, b=b"2")


def is_right(view: View | None, expected: dict[str, bytes]) -> bool:
    """Whether a version holds what it held, or says of it that it was erased; all of it or nothing."""
    assert view is not None
    assert {key: view.size_of(key) for key in view.keys()} == {key: len(value) for key, value in expected.items()}
    gone = {key for key in expected if view.erased(key) is not None}
    assert gone in (set(), {key for key in expected if key.startswith(KEYS)}), gone
    assert all(view.get(key) == value for key, value in expected.items() if key not in gone)
    return bool(gone)


def judge_versions(store: Store) -> bool:
    """Everything reads as it did, or says that it was erased; whether that is decided."""
    view = store.view(WF)
    decided = bool(Erasures.of(view))
    if decided:
        assert {key: view.get(key) for key in view.keys() if not key.startswith(ERASED)} == {
            "a": b"1", "b": b"2", f"{CHECKPOINT}wf@1": b"first", f"{CHECKPOINT}wf@2": b"second",
        }  # fmt: skip
    seen = [is_right(store.view_at(WF, 2), HELD), is_right(store.checkpoint(WF, "wf@1"), HELD)]
    assert decided or not any(seen)
    return decided


# --- with faults in its way ---


@pytest.fixture(scope="module")
def filled() -> Iterator[Path]:
    """A closed store, with copies of the log beside it, and the torn tail of a process that died."""
    with bench() as place:
        path = place.root / "filled"
        store = directory_store(path, **PLAIN)
        fill(store)
        store.close()
        log = path / "workflows" / "wf.state"
        for name in ("backups/wf.state.0", "damaged/wf.state.1", "temp/wf.state.99.torn"):
            (path / name).parent.mkdir(exist_ok=True)
            (path / name).write_bytes(log.read_bytes())
        yield path


def run(path: Path, fault: Fault) -> tuple[Shim, bool]:
    """Erase with a fault in the way, and close; whether it was promised."""
    shim, promised = Shim(fault), False
    with installed(shim), no_collection():
        store = directory_store(path, **PLAIN)
        try:
            with shim.active():
                try:
                    erase(store)
                    promised = True
                except WaypostError:
                    pass
            if promised:
                assert files_with(path, CANARY) == [], "it was promised, and is there"
        finally:
            store.close()
    return shim, promised


def examine(path: Path) -> None:
    """Nothing is amiss; decided or not, it can be done, and then no file holds it."""
    store = directory_store(path, **PLAIN)
    judge_versions(store)
    erase(store)
    assert files_with(path, CANARY) == []
    assert judge_versions(store)
    store.close()
    reader = directory_store(path, read_only=True, **PLAIN)
    findings = [each for each in reader.verify().findings if each.severity != "note"]
    assert findings == [] and judge_versions(reader)
    reader.close()
    assert files_with(path, CANARY) == [] and os.listdir(path / "temp") == []


def test_t01_an_erasure_that_is_killed_is_finished(filled: Path, totals: Totals) -> None:
    """SIGKILL before each call that changes what others see."""
    with bench() as place:
        trace = run(shutil.copytree(filled, place.root / "whole"), no_fault)[0].trace
        examine(place.root / "whole")
        points = [call.number for call in trace if is_worth_a_kill(call)]
        assert len(points) > 20
        for point in points:
            copy = shutil.copytree(filled, place.root / f"killed{point}")
            ended = in_child(lambda _, copy=copy, point=point: run(copy, kill_at(point)) and None)
            assert ended.killed, ended
            examine(copy)
            shutil.rmtree(copy)
    totals("kill points", len(points))


def test_t01_whoever_writes_next_finishes_what_was_killed(filled: Path, totals: Totals) -> None:
    """Nobody asks for it again: another process writes to the document, and closes it."""
    met = 0
    with bench() as place:
        trace = run(shutil.copytree(filled, place.root / "whole"), no_fault)[0].trace
        points = [call.number for call in trace if is_worth_a_kill(call)]
        for point in points[:: ring_size(3, 1)]:
            copy = shutil.copytree(filled, place.root / f"killed{point}")
            in_child(lambda _, copy=copy, point=point: run(copy, kill_at(point)) and None)
            store = directory_store(copy, **PLAIN)
            decided = judge_versions(store)
            put(store, more=b"1")
            store.close()
            assert (files_with(copy, CANARY) == []) == decided, point
            met += decided
            shutil.rmtree(copy)
    assert met > 5
    totals("kill points", met)


def test_e01_an_erasure_that_is_refused_is_not_promised(filled: Path, totals: Totals) -> None:
    """Each error at each call, once and from then on, and each that is carried out and said to have failed."""
    met = 0
    with bench() as place:
        trace = run(shutil.copytree(filled, place.root / "whole"), no_fault)[0].trace
        faults = [
            fail_at(number, kind, onwards=onwards, any_call=RING == "N")
            for number, kind, onwards in list(cases_of(trace, 0))[:: ring_size(8, 1)]
        ]
        done = [call.number for call in unlike(trace) if call.name in CHANGING]
        faults += [done_and_refused(number, "EIO") for number in done[:: ring_size(2, 1)]]
        for fault in faults:
            copy = shutil.copytree(filled, place.root / f"refused{met}")
            run(copy, fault)
            assert not descriptors_into(copy)
            examine(copy)
            shutil.rmtree(copy)
            met += 1
    assert met > 20
    totals("faults", met)


# --- while the power goes ---


@pytest.fixture
def _no_old_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that grew without its data may show what freed blocks held: what is on the medium below the file system
    is no part of the promise (docs/durability.md, section 9).
    """
    monkeypatch.setattr(disk, "FILLS", ("zeros", "ones"))


@cache
def before() -> Tree:
    """The tree of a closed store, with a copy of the log that a compaction has put by."""

    def work() -> None:
        with a_store() as store:
            fill(store)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(compaction, "DAY_US", -1)
                store.tidy(WF, "compact")
            put(store, secret=CANARY + b"3")

    return tree_after(work)


def _erase(run: Run) -> None:
    store = run.open()
    erase(store)
    run.promise(DONE)
    run.close(store)


def _is_there(tree: Tree) -> list[str]:
    return [path for path, data in contents(tree).items() if CANARY in data]


def judge(tree: Tree, standing: Standing) -> None:
    """What was promised is gone from every file; what was not is whole, and is gone once somebody has finished it."""
    if DONE in standing.promised:
        expect(_is_there(tree), [])
    for read_only in (True, False):
        with a_store(read_only=read_only) as store:
            kept = store.checkpoint(WF, "wf@1")
            try:
                is_right(kept, HELD)
                decided = bool(Erasures.of(store.view(WF)))
            except AssertionError as error:
                raise Wrong(str(error)) from None
            damage = [each for each in store.verify().findings if each.severity == "damage"]
            expect(damage, [])
    if DONE in standing.promised and not decided:
        raise Wrong("it was promised, and is not said")

    def go_on() -> None:
        with a_store() as store:
            put(store, more=b"1")

    if decided:
        expect(_is_there(tree_after(go_on, tree)), [])


@pytest.mark.usefixtures("quiet", "_no_old_blocks")
@pytest.mark.parametrize("model", ["ordered", "weak"])
def test_t02_an_erasure_is_promised_when_no_loss_of_power_brings_it_back(
    model: str, caplog: pytest.LogCaptureFixture, totals: Totals
) -> None:
    """In the states that a power cut may leave at each moment: the value is gone where that was promised, and where it
    was not, every version reads as it was, or says that it was erased.
    """
    caplog.set_level(logging.CRITICAL, "waypost")
    assert _is_there(before())
    recording = told(_erase, before=before())
    states = ring_size(250, 5_000)
    lose_power(recording, judge, title="an erasure", model=model, states=states)  # type: ignore[arg-type]
    start = promised_from(recording)
    lose_power(recording, judge, title="an erasure, promised", model=model, states=states, start=start)  # type: ignore[arg-type]
    totals("crash states", states)


def _decided() -> None:
    """A transaction over two documents put it, and its decision is there still."""
    store = open_store(STORE, NEEDED)
    fill(store)
    joint = store.begin()
    joint.document(WF).put("secret", CANARY + b"3")
    joint.document(A).put("x", b"1")
    assert store.commit(joint, JointChange("both", "test")) is not None


@pytest.mark.usefixtures("quiet", "_no_old_blocks")
def test_t02_a_decision_that_held_it_does_not_come_back(caplog: pytest.LogCaptureFixture) -> None:
    """The file of a transaction holds the frames that it decided: it is gone for good before anything is promised."""
    caplog.set_level(logging.CRITICAL, "waypost")
    tree = tree_after(_decided)
    assert any(path.startswith("transactions/") for path in _is_there(tree))
    recording = told(_erase, before=tree)
    start = promised_from(recording)
    lose_power(recording, judge, title="an erasure", states=ring_size(200, 2_000), start=start)
