"""A transaction over two stores that is cut off at every step ends in both, or in neither, and in both where that was
acknowledged.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
import pytest

import waypost.store
from tests import servers
from tests.crash.faults import CHANGING, Call, Fault, Shim, Tell, fail_at, in_child, installed, kill_at, no_fault
from tests.crash.runs import LARGE, configuration, handle, open_store
from tests.crash.sweeps import bench, no_collection
from tests.crash.test_errno import unlike
from tests.crash.test_kill import is_worth_a_kill
from tests.totals import Totals, ring_size
from waypost import WorkflowTransaction, prepared
from waypost.store import DocumentId, Store
from waypost.store.kinds import KINDS

OPTIONS = "chunked"
LOCAL = ring_size(8, 1)
"""At so many of a directory's calls beside a server it is killed; two directories have each."""
NAMES = [["a1", "a2"], ["b1", "b2"]]


def both(mine: WorkflowTransaction, theirs: WorkflowTransaction) -> str:
    """Two workflows are changed and one is made in each store; one is deleted, and one gets a value in blocks."""
    for tx, (one, other) in zip((mine, theirs), NAMES, strict=True):
        tx.update_context(one, variables={"both": 1})
        tx.add_step_output(one, "x", LARGE)
        tx.delete_workflow(other)
        tx.create_workflow(f"born {one}", "Born", steps=["x"])
        tx.create_checkpoint(one, "within")
    return "both"


class Two:
    """Two stores by their locations: begun, worked on, and looked at."""

    def __init__(self, locations: Sequence[str]) -> None:
        self.locations = locations

    @contextmanager
    def opened(self) -> Iterator[list[Store]]:
        with ExitStack() as stack:
            stores: list[Store] = []
            for location in self.locations:
                stores.append(_open(location))
                stack.callback(stores[-1].close)
            yield stores

    def begin(self) -> None:
        with self.opened() as stores:
            for store, names in zip(stores, NAMES, strict=True):
                for name in names:
                    handle(store, OPTIONS).create_workflow(name, name, None, ["x", "y"]).unwrap()

    def play(self, fault: Fault, tell: Tell) -> Shim:
        """The transaction, each call of either store shown to the fault."""
        shim = Shim(fault)
        with installed(shim), _commits(shim), no_collection(), self.opened() as stores:
            here, there = (handle(store, OPTIONS) for store in stores)
            with shim.active():
                done = here.transact(both, also=there, operation_id="once")
                tell("done" if done else done.status)
        return shim

    def examine(self, told: Sequence[str]) -> bool:
        """Whether it happened; that it did so in both or in neither, and that it goes on from there."""
        with self.opened() as stores:
            handles = [handle(store, OPTIONS) for store in stores]
            happened = [
                [wp.load_workflow_state(name).success for name in (*names, f"born {names[0]}")]
                for wp, names in zip(handles, NAMES, strict=True)
            ]
            assert happened in ([[True, True, False]] * 2, [[True, False, True]] * 2), happened
            is_done = happened[0][2]
            for wp, (one, _) in zip(handles, NAMES, strict=True):
                assert wp.load_workflow_state(one).unwrap().context.variables.get("both") == (1 if is_done else None)
                assert wp.validate_workflow_state(one).is_valid
            assert is_done or "done" not in told, "it was acknowledged, and is not there"
            assert not is_done or "rolled_back" not in told, "it was said that it did not happen"
            again = handles[0].transact(both, also=handles[1], operation_id="once")
            assert again.unwrap() == "both"
            assert again.repeated == is_done
            handles[0].transact(_touch, also=handles[1]).unwrap()
            for store, wp, (one, _) in zip(stores, handles, NAMES, strict=True):
                assert wp.get_step_output(one, "x").output == LARGE
                assert wp.validate_checkpoint(wp.list_checkpoints(one).items[0].id).is_valid
                assert not list(_left_in(store))
                damage = [each for each in store.verify().findings if each.severity in ("damage", "torn tail")]
                assert not damage, damage
        return is_done


def _open(location: str) -> Store:
    if "://" in location:
        return waypost.store.open_store(location, configuration(OPTIONS))
    return open_store(Path(location), OPTIONS)


def _touch(mine: WorkflowTransaction, theirs: WorkflowTransaction) -> None:
    """A transaction over the same, which clears away what others left."""
    for tx, (one, _) in zip((mine, theirs), NAMES, strict=True):
        tx.update_context(one, variables={"after": 1})


def _left_in(store: Store) -> Iterator[str]:
    for kind in KINDS:
        for name in store.documents(kind):
            keys = store.view(DocumentId(kind, name)).keys()
            yield from (key for key in keys if key.startswith((prepared.PREPARED, prepared.SETTLED)))


@contextmanager
def _commits(shim: Shim) -> Iterator[None]:
    """What commits in a server is a call like any other: the end of a transaction, and the statement of a change."""
    execute, leave = psycopg.Connection.execute, psycopg.Transaction.__exit__

    def counted(*args: Any, **kwargs: Any) -> Any:
        is_submit = "submit" in str(args[1])
        return shim.call("submit", execute, args, kwargs) if is_submit else execute(*args, **kwargs)

    def left(*args: Any) -> Any:
        return shim.call("commit", leave, args, {})

    with (
        mock.patch.multiple(psycopg.Connection, execute=counted),
        mock.patch.object(psycopg.Transaction, "__exit__", left),
    ):
        yield


IN_SERVER = ("submit", "commit")


def kill_behind(number: int) -> Fault:
    """The server carries out the n-th call, and nobody hears of it."""

    def fault(call: Call) -> None:
        if call.number == number:
            call.make()
            os.kill(os.getpid(), signal.SIGKILL)

    return fault


# --- two directories ---


class Places:
    """Two directories as they were before, and copies of them to break."""

    def __init__(self, root: Path) -> None:
        self._before, self._broken = root / "before", root / "broken"
        self._before.mkdir()
        Two([str(self._before / side) for side in ("a", "b")]).begin()

    @contextmanager
    def broken(self) -> Iterator[Two]:
        shutil.copytree(self._before, self._broken)
        yield Two([str(self._broken / side) for side in ("a", "b")])
        shutil.rmtree(self._broken)

    def trace(self) -> list[Call]:
        with self.broken() as two:
            return two.play(no_fault, lambda _: None).trace


@pytest.fixture
def places() -> Iterator[Places]:
    with bench() as place:
        yield Places(place.root)


def test_t01_d12_killed_at_any_call_it_is_in_both_directories_or_in_neither(places: Places, totals: Totals) -> None:
    """SIGKILL before each call that changes something, in either store."""
    trace = places.trace()
    points = [call.number for call in unlike(trace) if is_worth_a_kill(call)]
    ends: set[bool] = set()
    for point in points:
        with places.broken() as two:
            ended = in_child(lambda tell, two=two, point=point: _played(two, kill_at(point), tell))
            assert ended.killed, ended
            try:
                ends.add(two.examine(ended.told))
            except BaseException as error:
                error.add_note(f"killed at call {point} ({trace[point - 1].name}); told {ended.told}")
                raise
    assert ends == {True, False}
    totals("kill points", len(points))


def _played(two: Two, fault: Fault, tell: Tell) -> None:
    two.play(fault, tell)


def test_e01_t05_an_error_at_any_call_leaves_it_in_both_directories_or_in_neither(
    places: Places, totals: Totals
) -> None:
    """Each call that changes something fails once; what is said of the outcome is so."""
    met = 0
    for call in [call for call in unlike(places.trace()) if call.name in CHANGING]:
        told: list[str] = []
        with places.broken() as two:
            try:
                met += two.play(fail_at(call.number, "EIO"), told.append).met
                two.examine(told)
            except BaseException as error:
                error.add_note(f"EIO at call {call.number} ({call.name}); told: {told}")
                raise
    assert met
    totals("faults", met)


# --- servers ---


@pytest.mark.timeout(ring_size(300, 1200))
@pytest.mark.parametrize("kinds", ["directory-postgres", "postgres-postgres"])
def test_t15_killed_at_any_step_it_is_in_both_stores_or_in_neither(kinds: str, tmp_path: Path, totals: Totals) -> None:
    """SIGKILL before and behind each statement, and before each call of a directory that changes something."""
    with _new(kinds, tmp_path / "trace") as two:
        trace = two.play(no_fault, lambda _: None).trace
    local = [call for call in unlike(trace) if is_worth_a_kill(call) and call.name not in IN_SERVER][::LOCAL]
    in_server = [call for call in trace if call.name in IN_SERVER]
    assert len(in_server) >= 2
    faults = [(call, kill_at) for call in (*local, *in_server)] + [(call, kill_behind) for call in in_server]
    ends: set[bool] = set()
    killed = 0
    for number, (call, kill) in enumerate(faults):
        with _new(kinds, tmp_path / f"{number}") as two:
            fault = kill(call.number)
            ended = in_child(lambda tell, two=two, fault=fault: _played(two, fault, tell))
            killed += ended.killed
            assert ended.killed or ended.told == ["done"], ended  # to a server it may be one call more or less
            try:
                ends.add(two.examine(ended.told))
            except BaseException as error:
                error.add_note(f"{kill.__name__} call {call.number} ({call.name}); told {ended.told}")
                raise
    assert ends == {True, False}
    assert killed > len(faults) / 2
    totals("kill points", killed)


@contextmanager
def _new(kinds: str, path: Path) -> Iterator[Two]:
    with ExitStack() as stack:
        locations = [
            str(path / str(number)) if kind == "directory" else stack.enter_context(servers.postgres().lent())
            for number, kind in enumerate(kinds.split("-"))
        ]
        two = Two(locations)
        two.begin()
        yield two
