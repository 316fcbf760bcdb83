"""What the system refuses: each error at each call, once and from then on, and interrupts at each call."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from tests.crash import sweeps
from tests.crash.faults import CHANGING, ERRNOS, NO_ROOM, Call, Fault, can_give, done_and_refused, fail_at, interrupt_at
from tests.crash.runs import Run
from tests.crash.sweeps import (
    FOR_SEQUENCES,
    FOR_STORES,
    Bench,
    Told,
    bench,
    check_errors,
    count_calls,
    descriptors_into,
    examine,
    play,
    write_beside,
)
from tests.crash.workloads import WORKLOADS, Workload
from tests.totals import RING, Totals, ring_size
from waypost import checkpoint_ids, clock
from waypost.errors import StorePoisoned, StoreUnavailable
from waypost.records import CHECKPOINT, RESTORED
from waypost.store import DocumentId, Transaction
from waypost.store.directory import decisions

MOST_EQUAL = 3
"""So many calls of one place are broken in a workload: those of ten documents, or forty blocks, fail alike."""


@pytest.fixture(autouse=True)
def _ids_by_number(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Checkpoints are named by how many there were, in the store and in the model that it is compared with. Where the
    clock stands still they would be named by the newest commit, and a handle that was told that its outcome is unknown
    has not read that one yet.
    """
    give = checkpoint_ids.new

    def new(tx: Transaction, *, passing: bool = False) -> tuple[str, int]:
        given = [name.removeprefix(kind) for kind in (CHECKPOINT, RESTORED) for name in tx.unwatched_keys(kind)]
        now_us = max(map(checkpoint_ids.time_us, given), default=clock.now_us()) + 1_000
        with monkeypatch.context() as patch:
            patch.setattr(clock, "now_us", lambda: now_us)
            return give(tx, passing=passing)

    monkeypatch.setattr(checkpoint_ids, "new", new)
    sweeps._expected.cache_clear()  # what other tests expect has other names
    yield
    sweeps._expected.cache_clear()


@pytest.fixture(autouse=True)
def _waits_shortly_for_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the bench leaves alone: one that is busy from then on is asked for again until the time is over."""
    monkeypatch.setattr(decisions, "LOCK_TIMEOUT_S", 0.02)


def unlike(trace: list[Call]) -> list[Call]:
    """The calls, with a few of each place of the store that makes them. At night all of them."""
    places, chosen = Counter[int](), list[Call]()
    for call in trace:
        places[call.place] += 1
        if RING == "N" or places[call.place] <= MOST_EQUAL:
            chosen.append(call)
    return chosen


def telling(workload: Workload, trace: list[Call]) -> Sequence[Call]:
    """Of the calls that many workloads share each takes other ones, in turns: those of opening a document, which come
    before its lock is taken, and all of a plain write. At night each takes all of them.
    """
    if RING == "N" or "open" in workload.phases:
        return workload.some(unlike(trace))
    locked = next((call.number for call in trace if call.name == "flock"), 0)
    shared = len(trace) if workload.is_plain else locked - 1
    turn = WORKLOADS.index(workload)
    calls = unlike([call for call in trace if call.number > shared or (call.number + turn) % 3 == 0])
    return workload.some(calls, turn)


def cases_of(calls: Sequence[Call], position: int) -> Iterator[tuple[int, str, bool]]:
    """(call, error, from then on): with each change one error for each call, in turns, at night one in six."""
    for call in calls:
        kinds = [kind for kind in ERRNOS if can_give(call, kind, any_call=RING == "N")]
        if not kinds:
            continue
        turn = call.number + position
        if RING == "N":  # all of them at each call would be ten times what is asked for, and take hours
            for at, kind in enumerate(kinds, turn):
                if at % 6 == 0:
                    yield call.number, kind, bool(at // 6 % 2)
        else:
            yield call.number, kinds[turn // 2 % len(kinds)], bool(turn % 2)


def reading_goes_on(run: Run) -> None:
    """Nothing can be written any more, and what is there is read all the same.

    What is to be passed on as durable may be refused: where no sync is on record, a frame is written again before it is
    synced, since a sync of it may have failed elsewhere.
    """
    store = run.wp.definitions.store
    with run.shim.active():
        for identifier in list(store.documents("workflow")):
            document = DocumentId("workflow", identifier)
            shown = store.view(document, durable=False)
            try:
                assert store.view(document).version == shown.version
            except (StoreUnavailable, StorePoisoned):
                store.view(document, durable=False)


def try_fault(place: Bench, workload: Workload, fault: Fault, where: str, *, reads: bool) -> bool:
    """One run with a fault, and all that is asked of it; whether the fault was met."""

    def beside(run: Run) -> None:
        if reads and run.shim.met:  # else it comes when the store is closed, and would hit what is read here
            reading_goes_on(run)
        write_beside(run)

    with place.broken(workload) as path:
        lines: list[str] = []
        try:
            shim = play(workload, path, fault, lines.append, beside)
            told = Told.of(lines)
            check_errors(told, FOR_STORES | FOR_SEQUENCES)
            if "beside-1" in told.attempted:
                assert "beside-1" in told.acknowledged, "a document that had no part in it cannot be written"
            assert not descriptors_into(path), descriptors_into(path)
        except BaseException as error:
            error.add_note(f"{workload.name}, {where}; told: {lines}")
            raise
        examine(workload, path, lines, where)
        return shim.met


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_e01_t05_every_error_at_every_call_is_told_and_harms_nothing(workload: Workload, totals: Totals) -> None:
    """Each error gives a documented error whose status is true; the rest of the store goes on; nothing is lost."""
    with bench() as place:
        trace = count_calls(place, workload).trace
        met, turn = 0, WORKLOADS.index(workload)
        step = ring_size(13, 1)  # odd, so that a workload meets errors once as well as from then on
        for number, kind, onwards in list(cases_of(telling(workload, trace), turn))[turn % step :: step]:
            fault = fail_at(number, kind, onwards=onwards, any_call=RING == "N")
            where = f"{kind} at call {number} ({trace[number - 1].name}){' and from then on' if onwards else ''}"
            met += try_fault(place, workload, fault, where, reads=onwards and kind in NO_ROOM)
        assert met
        totals("faults", met)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_e01_t05_what_is_done_and_said_to_have_failed_harms_nothing(workload: Workload, totals: Totals) -> None:
    """A call that changes something, does it, and fails, as file systems of a network do, is told as truly."""
    with bench() as place:
        trace = count_calls(place, workload).trace
        step = ring_size(17, 1)
        calls = [call for call in unlike(trace) if call.name in CHANGING]
        points = workload.some(calls[WORKLOADS.index(workload) % step :: step])
        for turn, call in enumerate(points):
            kind = ("EIO", "EINTR", "ESTALE")[turn % 3]
            where = f"{kind} at call {call.number} ({call.name}), which was carried out"
            try_fault(place, workload, done_and_refused(call.number, kind), where, reads=False)
        totals("faults", len(points))


@pytest.fixture
def _drops_what_dying_objects_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python does; the tests' runner would keep it, and with it the frames and files that it passed through."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)


@pytest.mark.usefixtures("_drops_what_dying_objects_raise")
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_c10_an_interrupt_at_any_call_leaves_the_store_usable(workload: Workload, totals: Totals) -> None:
    """A handler of a signal that raises before a call loses nothing, and the same handle goes on or is poisoned."""
    with bench() as place:
        trace = count_calls(place, workload).trace
        step = ring_size(31, 1)
        numbers = [call.number for call in unlike(trace) if call.name != "close"]
        points = workload.some(numbers[WORKLOADS.index(workload) % step :: step])
        for number in points:
            where = f"interrupted at call {number} ({trace[number - 1].name})"
            try_fault(place, workload, interrupt_at(number), where, reads=False)
        totals("faults", len(points))
