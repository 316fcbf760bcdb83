"""Counting: slices, windows, percentiles, bounds, and what threads and forks may do to them."""

from __future__ import annotations

import os
import random
import threading
from itertools import pairwise

import pytest

from tests.monitor.conftest import SECOND, Clock
from waypost.instruments import MOST_KINDS, SLICE_NS, SLICES, Instruments, Tally, bucket_of, end_of
from waypost.metrics import OTHER
from waypost.store import Counters

LIMIT_S = 20


def note(instruments: Instruments, time: Clock, taken_ns: int = 1000, kind: str = "save", **more: object) -> None:
    code = more.get("code")
    counters = more.get("counters", Counters())
    instruments.note((kind, kind == "save", time.now_ns, taken_ns, counters, code))  # type: ignore[arg-type]


@pytest.mark.parametrize("taken_ns", [0, 1, 15, 16, 17, 31, 32, 33, 1000, 1024, 1025, 10**6, 2**30, 2**30 + 1, 10**13])
def test_a_bucket_holds_a_time_and_is_narrow(taken_ns: int) -> None:
    """A time is within its bucket, and the bucket's end is at most a sixteenth above it."""
    bucket = bucket_of(taken_ns)
    assert taken_ns <= end_of(bucket) <= max(17, taken_ns * 17 / 16)
    assert taken_ns <= 17 or end_of(bucket - 1) < taken_ns


def test_buckets_follow_one_another_without_a_gap() -> None:
    """Each bucket begins right behind the one before it, and ends of powers of two are among them."""
    ends = [end_of(bucket) for bucket in range(bucket_of(16), bucket_of(1 << 40) + 1)]
    assert ends == sorted(set(ends))
    for before, here in pairwise(ends):
        assert bucket_of(before + 1) == bucket_of(here) == bucket_of(before) + 1
    assert {1 << power for power in range(14, 41)} <= set(ends)


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
def test_a_percentile_is_never_below_the_true_one_and_hardly_above(share: float) -> None:
    """Against a sorted list of the same times: by at most a sixteenth too high."""
    rng = random.Random(7)
    times = [int(rng.lognormvariate(13, 1.5)) + 1 for _ in range(997)]
    tally = Tally()
    for taken_ns in times:
        tally.add(taken_ns, None, is_failure=False)
    true = sorted(times)[-(-int(share * 1000) * len(times) // 1000) - 1]
    assert true <= tally.percentile_ns(share) <= true * 17 / 16 + 1


def test_a_percentile_is_never_above_the_longest_time() -> None:
    """Of one operation each percentile is its time; of none it is 0."""
    tally = Tally()
    assert tally.percentile_ns(0.99) == 0
    tally.add(1_000_001, None, is_failure=False)
    assert [tally.percentile_ns(share) for share in (0.5, 0.99)] == [1_000_001] * 2


def test_trap_27_a_window_agrees_with_an_independent_count(time: Clock) -> None:
    """Random operations over twenty minutes: counts, failures, sums and rates of each window are those of a list."""
    rng = random.Random(11)
    instruments = Instruments()
    began = time.now_ns
    seen: list[tuple[int, str, int, bool]] = []
    for _ in range(3000):
        time.pass_by(rng.choice([0, 0.001, 0.1, 0.9, 3]))
        kind, taken_ns, fails = rng.choice("abc"), rng.randrange(1, 10**9), rng.random() < 0.1
        note(instruments, time, taken_ns, kind, code="x" if fails else None)
        seen.append((time.now_ns, kind, taken_ns, fails))
        if rng.random() < 0.03:
            window_ns = rng.randrange(1, 600) * SECOND
            found = instruments.window(window_ns)
            assert found.until_ns == time.now_ns
            assert found.since_ns == began or window_ns <= found.until_ns - found.since_ns < window_ns + SLICE_NS
            inside = [each for each in seen if each[0] >= found.since_ns]
            for name in "abc":
                tally, own = found.tallies.get(name, Tally()), [each for each in inside if each[1] == name]
                assert tally.count == len(own)
                assert tally.taken_ns == sum(each[2] for each in own)
                assert tally.failures == sum(each[3] for each in own)
                assert tally.longest_ns == max((each[2] for each in own), default=0)
    totals = instruments.totals()
    assert sum(tally.count for tally in totals.values()) == 3000
    assert sum(sum(tally.buckets.values()) for tally in totals.values()) == 3000


def test_what_is_retired_stays_in_the_totals(time: Clock) -> None:
    """An operation of an hour ago is in no window and no slice, and still in the totals with all that it cost."""
    instruments = Instruments()
    note(instruments, time, 500, counters=Counters(1, 2, 3, 4, 5, raw_bytes=6, hits=1))
    instruments.window(SECOND)
    time.pass_by(3600)
    note(instruments, time, 700)
    assert instruments.window(600 * SECOND).tallies["save"].count == 1
    assert len(instruments._slices) == 1
    total = instruments.totals()["save"]
    assert (total.count, total.taken_ns, total.longest_ns) == (2, 1200, 700)
    assert (total.bytes_read, total.bytes_written, total.raw_bytes, total.hits) == (1, 2, 6, 1)
    assert (total.io_operations, total.syncs) == (7, 5)


def test_what_is_counted_late_is_counted_in_its_own_time(time: Clock) -> None:
    """Operations that nobody asked about for long go to the slices in which they ended, or to the totals."""
    instruments = Instruments()
    note(instruments, time, kind="old")
    time.pass_by(1000)
    note(instruments, time, kind="earlier")
    time.pass_by(30)
    note(instruments, time, kind="now")
    assert set(instruments.window(5 * SECOND).tallies) == {"now"}
    assert set(instruments.window(60 * SECOND).tallies) == {"now", "earlier"}
    assert set(instruments.totals()) == {"now", "earlier", "old"}


def test_the_series_has_a_point_for_each_slice_and_a_bound(time: Clock) -> None:
    """Slices in which nothing happened are there as well, and never more than are kept."""
    instruments = Instruments()
    time.pass_by(12)
    note(instruments, time)
    series = instruments.series()
    assert [sum(each.count for each in seen.tallies.values()) for seen in series] == [0, 0, 1]
    assert (series[0].since_ns, series[-1].until_ns) == (instruments.began_ns, time.now_ns)
    assert all(one.until_ns == other.since_ns for one, other in pairwise(series))
    time.pass_by(7200)
    assert len(instruments.series()) == SLICES
    assert not any(seen.tallies for seen in instruments.series())


def test_x27_kinds_and_codes_are_bounded(time: Clock) -> None:
    """However many names there are, so many are told apart, and the rest counts as one."""
    instruments = Instruments()
    for number in range(3 * MOST_KINDS):
        note(instruments, time, kind=f"kind{number}", code=f"code{number}")
    totals, errors = instruments.totals(), instruments.errors()
    assert len(totals) == len(errors) == MOST_KINDS + 1
    assert totals[OTHER].count == errors[OTHER] == 2 * MOST_KINDS
    assert totals["kind0"].count == 1


def test_threads_lose_nothing() -> None:
    """Eight threads note while another one asks all the time: each operation is counted once."""
    instruments = Instruments()
    done = threading.Event()

    def work(kind: str) -> None:
        for _ in range(2000):
            instruments.note((kind, True, instruments.began_ns, 1000, None, None))

    def ask() -> None:
        while not done.is_set():
            instruments.totals()

    asking = threading.Thread(target=ask)
    threads = [threading.Thread(target=work, args=(f"k{number}",)) for number in range(8)]
    for thread in (asking, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    asking.join()
    assert {kind: tally.count for kind, tally in instruments.totals().items()} == {f"k{n}": 2000 for n in range(8)}


def test_nobody_waits_for_who_asks(time: Clock) -> None:
    """While the counts are held by somebody else, operations end all the same, and are counted later."""
    instruments = Instruments()
    with instruments._lock:
        noting = threading.Thread(target=lambda: [note(instruments, time) for _ in range(1000)], daemon=True)
        noting.start()
        noting.join(LIMIT_S)
        assert not noting.is_alive()
    assert instruments.totals()["save"].count == 1000


def test_what_is_queued_is_counted_before_it_is_much(time: Clock) -> None:
    """Also where nobody ever asks."""
    instruments = Instruments()
    for _ in range(1000):
        note(instruments, time)
        assert len(instruments._queue) < 256


def test_the_child_of_a_fork_begins_anew(time: Clock) -> None:
    """It counts for itself, also where the parent was counting at the time and held the lock."""
    instruments = Instruments()
    note(instruments, time)
    instruments._lock.acquire()
    pid = os.fork()
    if pid == 0:
        ok = instruments.totals() == {} and instruments.window(SECOND).tallies == {}
        os._exit(0 if ok else 1)
    instruments._lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert instruments.totals()["save"].count == 1
