"""What is done to a whole store, with faults in its way: a backup, putting one back, a migration of all workflows, an
import of a session, and a rotation of keys.

Each is killed before its calls, meets each of them failing, once and from then on, and meets calls that are carried
out and said to have failed. It happened or it did not, its answer is true, and doing it again ends it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from tests.crash.faults import (
    CHANGING,
    Fault,
    Shim,
    Tell,
    done_and_refused,
    fail_at,
    in_child,
    installed,
    kill_at,
    no_fault,
)
from tests.crash.importing import bring_in, is_imported, to_be_imported
from tests.crash.runs import handle, open_store
from tests.crash.sweeps import FOR_STORES, States, bench, descriptors_into, no_collection, states_of
from tests.crash.test_errno import cases_of, unlike
from tests.crash.test_kill import is_worth_a_kill
from tests.outdated import CURRENT, double, stamp
from tests.totals import RING, Totals, ring_size
from waypost import keys, records, sealing
from waypost.blocking import Waypost
from waypost.errors import StoreClosed, WaypostError
from waypost.schema import register_migration
from waypost.store import DocumentId, Store
from waypost.store.directory import restoring

OPTIONS = "chunked"
OLD_KEY, NEW_KEY = "1" * 64, "2" * 64
SECRETS = {"token": "t", "deep": [1, {"x": 2}]}
LATE = "late"
"""A workflow that is made on the same handle after what went wrong."""


# --- what is done: "done", "rolled_back" or "unknown" -------------------------------------------


def back_up(wp: Waypost, place: Path) -> str:
    """Copy the store to where nothing is."""
    result = wp.backup(place / "backup")
    return "done" if result else _checked(result.status, result.error)


def put_back(wp: Waypost, place: Path) -> str:
    """Put a backup in the place of a store that went on since."""
    result = wp.restore_backup(place / "backup", allow_older=True)
    return "done" if result else _checked(result.status, result.error)


def migrate(wp: Waypost, _: Path) -> str:
    """Bring two workflows to the newest schema."""
    try:
        return "unknown" if wp.migrate_workflows().failed else "done"
    except WaypostError as error:
        return _checked("unknown", error)


def rotate(wp: Waypost, _: Path) -> str:
    """Seal the secrets of two workflows anew."""
    try:
        return "unknown" if wp.rotate_secrets().failed else "done"
    except WaypostError as error:
        return _checked("unknown", error)


def _checked(status: str, error: WaypostError) -> str:
    assert type(error).__name__ in FOR_STORES, repr(error)
    return status


# --- before, and after --------------------------------------------------------------------------


def _fill(wp: Waypost) -> None:
    for name in ("wf", "other"):
        wp.create_workflow(name, name, None, ["a"]).unwrap()
        wp.update_context(name, variables={"count": 1}, configuration={"mode": "fast"}).unwrap()
    wp.create_checkpoint("wf").unwrap()


def to_be_backed_up(place: Path) -> None:
    store = open_store(place / "store", OPTIONS)
    _fill(handle(store, OPTIONS))
    store.close()


def to_be_put_back(place: Path) -> None:
    """The store goes on after its backup: a workflow is changed, and one is made."""
    store = open_store(place / "store", OPTIONS)
    wp = handle(store, OPTIONS)
    _fill(wp)
    wp.backup(place / "backup").unwrap()
    wp.update_context("wf", variables={"count": 2}).unwrap()
    wp.create_workflow("young", "Young", None, ["a"]).unwrap()
    store.close()


def to_be_migrated(place: Path) -> None:
    store = open_store(place / "store", OPTIONS)
    _fill(handle(store, OPTIONS))
    for name in ("wf", "other"):
        stamp(store, "0.9.0", name)
    store.close()


def seen_in(path: Path) -> States:
    """What a reader finds in a store, which is sound, but for what came late."""
    store = open_store(path, OPTIONS, read_only=True)
    try:
        damage = [found for found in store.verify().findings if found.severity in ("damage", "torn tail")]
        assert not damage, damage
        return {name: state for name, state in states_of(store).items() if name != LATE}
    finally:
        store.close()


def is_backed_up(place: Path, before: Path) -> bool:
    held = seen_in(before / "store")
    assert seen_in(place / "store") == held, "the store is not what it was"
    if not (place / "backup").exists():
        return False
    assert seen_in(place / "backup") == held, "the backup is not what the store held"
    return True


def is_put_back(place: Path, before: Path) -> bool:
    open_store(place / "store", OPTIONS).close()  # carries out what was decided
    found = seen_in(place / "store")
    if found != seen_in(before / "backup"):
        assert found == seen_in(before / "store"), "neither what was there, nor what was to be put back"
        return False
    kept = place / "store" / "backups" / "before-restore.1" / "workflows"
    assert {file.name for file in kept.iterdir()} >= {"wf.state", "other.state", "young.state"}
    assert not (place / "store" / "restoring").exists()
    return True


def is_migrated(place: Path, before: Path) -> bool:
    found, old = seen_in(place / "store"), seen_in(before / "store")
    assert found.keys() == old.keys()
    store = open_store(place / "store", OPTIONS, read_only=True)
    migrated = 0
    for name, state in old.items():
        is_new = found[name] != state
        expected = (state[0] + 1, 2, CURRENT) if is_new else (state[0], 1, "0.9.0")
        assert (found[name][0], *_count_and_schema(store, name)) == expected, name
        kept = place / "store" / "backups" / f"{name}.state.v{state[0]}"
        assert kept.exists() or not is_new, "the log of before is not kept"
        migrated += is_new
    store.close()
    return migrated == len(old)


def _count_and_schema(store: Store, name: str) -> tuple[Any, Any]:
    view = store.view(DocumentId("workflow", name))
    row, count = view.get(records.WORKFLOW), view.get(f"{records.VARIABLE}count")
    assert row is not None and count is not None
    return msgspec.msgpack.decode(count), msgspec.msgpack.decode(row)[2]


def to_be_rotated(place: Path) -> None:
    store = open_store(place / "store", OPTIONS)
    wp = handle(store, OPTIONS)
    _fill(wp)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WAYPOST_KEY", OLD_KEY)
        for name in ("wf", "other"):
            wp.update_context(name, secrets=SECRETS).unwrap()
    store.close()


def is_rotated(place: Path, before: Path) -> bool:
    """Each workflow has all of its secrets sealed with one of the keys, and they open."""
    assert seen_in(place / "store").keys() == seen_in(before / "store").keys()
    store = open_store(place / "store", OPTIONS, read_only=True)
    found: list[str] = []
    for name in ("wf", "other"):
        view = store.view(DocumentId("workflow", name))
        assert dict(handle(store, OPTIONS).load_workflow_state(name).unwrap().context.secrets) == SECRETS
        (key_id,) = {sealing.key_id_of(view.get(key) or b"") for key in view.keys(records.SECRET)}
        found.append(key_id)
    store.close()
    return set(found) == {keys.parse(NEW_KEY, "")[0].id}


class Case(NamedTuple):
    """An operation on a whole store. `judge` looks at a place and at what it was before: whether it has happened; it
    fails on what is neither.
    """

    act: Callable[[Waypost, Path], str]
    prepare: Callable[[Path], None]
    judge: Callable[[Path, Path], bool]


CASES = {
    "backup": Case(back_up, to_be_backed_up, is_backed_up),
    "restore_backup": Case(put_back, to_be_put_back, is_put_back),
    "migrate_workflows": Case(migrate, to_be_migrated, is_migrated),
    "import_session": Case(bring_in, to_be_imported, is_imported),
    "rotate_secrets": Case(rotate, to_be_rotated, is_rotated),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


# --- with faults in the way ---------------------------------------------------------------------


class Places:
    """What a case begins with, and copies of it to break."""

    def __init__(self, root: Path, case: Case) -> None:
        self.case = case
        self.before = root / "before"
        self.before.mkdir()
        case.prepare(self.before)
        self._broken = root / "broken"

    @contextmanager
    def broken(self) -> Iterator[Path]:
        shutil.copytree(self.before, self._broken)
        yield self._broken
        shutil.rmtree(self._broken)

    def play(self, place: Path, fault: Fault, tell: Tell) -> Shim:
        """Do it with a fault in the way, then make a workflow without one, on the same handle."""
        shim = Shim(fault)
        with installed(shim), no_collection():
            store = open_store(place / "store", OPTIONS)
            wp = handle(store, OPTIONS)
            try:
                with shim.active():
                    tell(self.case.act(wp, place))
                try:
                    result = wp.create_workflow(LATE, "Late", None, ["a"])
                    tell(LATE if result else f"not {LATE}")
                except StoreClosed:
                    tell(f"not {LATE}")
            finally:
                store.close()
        return shim

    def examine(self, place: Path, told: list[str]) -> None:
        """It happened or not, as was told; what was acknowledged after it is there; and done again it happens."""
        assert not descriptors_into(place), descriptors_into(place)
        happened = self.case.judge(place, self.before)
        assert happened or "done" not in told, "it is lost"
        assert not happened or "rolled_back" not in told, "it is there, and was said to be rolled back"
        store = open_store(place / "store", OPTIONS)
        late = states_of(store).keys() & {LATE}
        assert late or LATE not in told, "what was acknowledged after it is lost"
        if not happened:
            assert self.case.act(handle(store, OPTIONS), place) == "done"
        store.close()
        if not happened and not late:
            assert self.case.judge(place, self.before), "done again it did not happen"
        assert not [file.name for file in (place / "store" / "temp").iterdir()], "a temporary file is left"


@pytest.fixture
def places(case: Case, monkeypatch: pytest.MonkeyPatch, registry: None) -> Iterator[Places]:
    with bench() as place:
        monkeypatch.setattr(restoring, "LOCK_TIMEOUT_S", 0.02)
        monkeypatch.setenv("WAYPOST_KEY", f"{NEW_KEY} {OLD_KEY}")
        if case.act is migrate:
            register_migration("0.9.0", CURRENT, double)
        yield Places(place.root, case)


def try_fault(places: Places, fault: Fault, where: str) -> bool:
    """One run in this process; whether it met the fault."""
    told: list[str] = []
    with places.broken() as place:
        try:
            shim = places.play(place, fault, told.append)
            places.examine(place, told)
        except BaseException as error:
            error.add_note(f"{where}; told: {told}")
            raise
    return shim.met


@each_case
def test_t01_d14_a_kill_at_any_call_leaves_it_done_or_not(case: Case, places: Places, totals: Totals) -> None:
    """SIGKILL before each call that changes something: all of it is there or nothing, and doing it again ends it."""
    with places.broken() as place:
        trace = places.play(place, no_fault, lambda _: None).trace
    points = [call.number for call in unlike(trace) if is_worth_a_kill(call)][:: ring_size(3, 1)]
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


@each_case
def test_e01_t05_an_error_at_any_call_is_told_and_harms_nothing(case: Case, places: Places, totals: Totals) -> None:
    """Each error gives a documented one with a true status, and the handle goes on or closes."""
    with places.broken() as place:
        trace = places.play(place, no_fault, lambda _: None).trace
    changing = [call for call in trace if call.name in CHANGING]
    met = 0
    # each call fails once or from then on, and those that change something do both; with each change every ninth
    cases = [*cases_of(unlike(trace), 0), *cases_of(changing, 1)]
    for number, kind, onwards in cases[:: ring_size(9, 1)]:
        fault = fail_at(number, kind, onwards=onwards, any_call=RING == "N")
        where = f"{kind} at call {number} ({trace[number - 1].name}){' and from then on' if onwards else ''}"
        met += try_fault(places, fault, where)
    assert met
    totals("faults", met)


@each_case
def test_e01_t05_what_is_done_and_said_to_have_failed_is_told_truly(case: Case, places: Places, totals: Totals) -> None:
    """A call that changes something, does it, and fails."""
    with places.broken() as place:
        trace = places.play(place, no_fault, lambda _: None).trace
    points = [call for call in unlike(trace) if call.name in CHANGING]
    for call in points:
        where = f"EIO at call {call.number} ({call.name}), which was carried out"
        try_fault(places, done_and_refused(call.number, "EIO"), where)
    totals("faults", len(points))
