"""T13: who reads without a lock sees one version of a document, whatever writers do to its log meanwhile.

Two processes commit, take snapshots, compact, close (which trims) and open again; threads and processes read. Each part
says by which commit it was written, and an index, written with each commit, says which commit that must be: a view
made of two versions shows. Versions never go back, nor behind what a writer was acknowledged before the read began,
and views that are kept stay as they were.
"""

from __future__ import annotations

import itertools
import mmap
import os
import random
import shutil
import signal
import struct
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from tests.crash.machine import SCRATCH, Ended, in_child
from tests.seeds import SEED
from tests.store.support import WF, TestedStore, change, directory_store
from tests.totals import Totals, ring_size
from waypost import clock
from waypost.store import DocumentId, JointChange, Transaction, View
from waypost.store.directory.log import Log

ROUNDS = ring_size(2, 200)
READERS = 4
READS = 8_200
VERSIONS = 150
PARTS = 7
FEW = 5
LARGE = 6
OPTIONS: dict[str, Any] = {"chunk_size": 4096, "max_file_size": 1}


@lru_cache(1000)
def value_of(part: int, commit: int) -> bytes:
    """What a commit puts into a part; one of them is long enough to be stored in blocks of its own."""
    stamp = b"part %d of commit %d;" % (part, commit)
    return stamp * (600 if part == LARGE else 1 + commit % 5)


def write(parts: list[int], tx: Transaction) -> int:
    """Put some parts, and say in the index by which commit each part was put last."""
    commit = tx.version + 1
    index = [int(each) for each in (tx.get("index") or b"0 " * PARTS).split()]
    for part in parts:
        index[part] = commit
        tx.put(f"p{part}", value_of(part, commit))
    tx.put("index", b" ".join(b"%d" % each for each in index))
    return commit


def check_view(view: View) -> None:
    """All parts are of the commits that the index of this version names. Raises AssertionError."""
    index = [int(each) for each in (view.get("index") or b"0 " * PARTS).split()]
    assert max(index) == view.version, f"version {view.version} has an index of {index}"
    for part, commit in enumerate(index):
        expected = value_of(part, commit) if commit else None
        found = view.get(f"p{part}")
        assert found == expected, f"version {view.version}: p{part} is {found and found[:30]!r}, of commit {commit}"


class Acknowledged:
    """The newest version that a writer was told of, in memory that the children of a fork share."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 8 * 2)

    def tell(self, writer: int, version: int) -> None:
        struct.pack_into("q", self._shared, 8 * writer, version)

    def newest(self) -> int:
        return max(struct.unpack_from("2q", self._shared))


def read_on(store: TestedStore, acknowledged: Acknowledged, reads: int, rng: random.Random) -> int:
    """Read until there were enough reads of enough versions; how many versions were seen."""
    last = versions = done = 0
    kept: deque[View] = deque(maxlen=8)
    while done < reads or versions < VERSIONS:
        at_least = max(acknowledged.newest(), last)
        view = store.view(WF, durable=rng.random() < 0.5)
        assert view.version >= at_least, f"version {view.version} was read after {at_least}"
        check_view(view)
        done += 1
        if view.version > last:
            last, versions = view.version, versions + 1
            kept.append(view)
        if done % 50 == 0 and kept:
            check_view(rng.choice(kept))
        if done % 200 == 0:
            earlier = store.view_at(WF, rng.randrange(last + 1))
            if earlier is not None:
                check_view(earlier)
    return versions


def write_on(
    path: Path, writer: int, acknowledged: Acknowledged, stopped: Callable[[], bool], rng: random.Random
) -> int:
    """Commit and do all that shortens or replaces a log until told to stop, and a few times at least; how often."""
    store, rewritten = directory_store(path, **OPTIONS), 0
    while not stopped() or rewritten <= FEW:
        parts = rng.sample(range(PARTS), rng.randrange(1, 4))
        receipt = store.submit(change(WF, lambda tx, parts=parts: write(parts, tx))).result()
        acknowledged.tell(writer, receipt.version)
        act = rng.random()
        if act < 0.06:
            rewritten += store.tidy(WF, "compact" if act < 0.03 else "snapshot")
        elif act < 0.08:
            store.close()
            store = directory_store(path, **OPTIONS)
            rewritten += 1
    store.close()
    return rewritten


def writing(path: Path, writer: int, acknowledged: Acknowledged, rng: random.Random) -> int:
    """Start a writer process, which ends at SIGTERM; its id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            stop = threading.Event()
            signal.signal(signal.SIGTERM, lambda *_: stop.set())
            status = 0 if write_on(path, writer, acknowledged, stop.is_set, rng) > FEW else 3
        finally:
            os._exit(status)
    return pid


@pytest.fixture
def path() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="waypost-readers-", dir=SCRATCH))
    yield made / "store"
    shutil.rmtree(made)


def all_at_once(acts: list[Callable[[], None]]) -> None:
    """Run each in a thread of its own; what one of them raises is raised."""
    errors: list[BaseException] = []

    def guarded(act: Callable[[], None]) -> None:
        try:
            act()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("number", range(ROUNDS))
def test_t13_c06_readers_see_one_version_while_logs_grow_and_are_replaced(
    path: Path, totals: Totals, number: int
) -> None:
    """Two processes with read-only stores and two threads of one handle read beside two writers."""
    print(f"WAYPOST_TEST_SEED={SEED}, round {number}")
    rng = random.Random(SEED + number)
    directory_store(path, **OPTIONS).close()
    acknowledged = Acknowledged()
    seeds = [random.Random(rng.random()) for _ in range(2 + READERS)]
    writers = [writing(path, writer, acknowledged, seeds[writer]) for writer in range(2)]

    def in_process(draw: random.Random) -> Callable[[], None]:
        def act() -> None:
            reader = directory_store(path, read_only=True)
            ended: Ended = in_child(lambda _: read_on(reader, acknowledged, READS, draw) and None, limit_s=240)
            reader.close()
            assert ended.status == 0, ended.report.decode(errors="replace")

        return act

    shared = directory_store(path, **OPTIONS)
    try:
        all_at_once(
            [in_process(draw) for draw in seeds[2:4]]
            + [lambda draw=draw: read_on(shared, acknowledged, READS, draw) and None for draw in seeds[4:]]
        )
    finally:
        for pid in writers:
            os.kill(pid, signal.SIGTERM)
        ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in writers]
        shared.close()
    assert ends == [0, 0]
    assert directory_store(path, read_only=True).verify().sound
    totals("reads beside writers", READS * READERS)


# --- commits over several documents ---

PAIR = [DocumentId("workflow", name) for name in "ab"]
LEAST = 20
"""So many transactions have to have been made while they were read."""
JOINT_READS = ring_size(10_000, 200_000)


def count_of(view: View) -> int:
    return int(view.get("count") or b"0")


def raise_both(store: TestedStore) -> bool:
    """Commit the next count to both documents, in one transaction."""
    joint = store.begin()
    count = count_of(joint.document(PAIR[0])) + 1
    for document in PAIR:
        joint.document(document).put("count", b"%d" % count)
    return store.commit(joint, JointChange(clock.new_id("op"), "test")) is not None


def transact_on(path: Path, stopped: Callable[[], bool], rng: random.Random) -> None:
    store = directory_store(path, **OPTIONS)
    while not stopped():
        raise_both(store)
        act = rng.random()
        if act < 0.05:
            store.tidy(rng.choice(PAIR), "compact" if act < 0.03 else "snapshot")
        elif act < 0.07:
            store.close()
            store = directory_store(path, **OPTIONS)
    store.close()


def both_at_one_moment(store: TestedStore) -> list[int]:
    """The counts as a transaction that only reads saw them."""
    while True:
        joint = store.begin()
        counts = [count_of(joint.document(document)) for document in PAIR]
        if store.commit(joint, JointChange(clock.new_id("op"), "test")) is not None:
            return counts


def read_pairs(store: TestedStore, reads: int, rng: random.Random) -> None:
    """One after the other, in any order: what one document shows of a transaction the other shows from then on."""
    newest = 0
    for number in itertools.count():
        if number >= reads and newest > LEAST:
            return
        if number % 4 == 0 and not store.layout.read_only:
            one, other = both_at_one_moment(store)
            assert one == other, f"one transaction saw {one} and {other}"
            assert one >= newest
            newest = one
        for document in rng.sample(PAIR, 2):
            found = count_of(store.view(document, durable=rng.random() < 0.5))
            assert found >= newest, f"{found} was read after {newest}"
            newest = found


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_t13_c06_readers_see_all_of_a_transaction_or_nothing(path: Path, totals: Totals) -> None:
    """Two processes commit over two documents, compact and reopen; who saw a commit in one sees it in the other."""
    print(f"WAYPOST_TEST_SEED={SEED}")
    rng = random.Random(SEED)
    directory_store(path, **OPTIONS).close()
    draws = [random.Random(rng.random()) for _ in range(4)]
    pids = [forked(lambda stopped, draw=draw: transact_on(path, stopped, draw)) for draw in draws[:2]]
    stores = [directory_store(path, **OPTIONS), directory_store(path, read_only=True)]
    try:
        all_at_once(
            [
                lambda store=store, draw=draw: read_pairs(store, JOINT_READS, draw)
                for store, draw in zip(stores, draws[2:], strict=True)
            ]
        )
        counts = both_at_one_moment(stores[0])
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        for store in stores:
            store.close()
    assert ends == [0, 0]
    assert counts[0] == counts[1] > LEAST
    totals("reads beside writers", 2 * 2 * JOINT_READS)


def forked(act: Callable[[Callable[[], bool]], None]) -> int:
    """Start a process that does something until SIGTERM; its id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            stop = threading.Event()
            signal.signal(signal.SIGTERM, lambda *_: stop.set())
            act(stop.is_set)
            status = 0
        finally:
            os._exit(status)
    return pid


# --- the check is checked ---


class Mixed:
    """A view whose index is of one version and whose parts are of another."""

    def __init__(self, one: View, other: View) -> None:
        self.version = one.version
        self.get = lambda key: one.get(key) if key == "index" else other.get(key)


def test_q05_a_view_of_two_versions_is_found(path: Path) -> None:
    """Parts of one version under the index of another fail the check, and each version alone passes it."""
    store = directory_store(path, **OPTIONS)
    views = [store.view(WF)]
    for _ in range(3):
        store.submit(change(WF, lambda tx: write([0, 3, LARGE], tx))).result()
        views.append(store.view(WF))
    for one in views:
        check_view(one)
        for other in views:
            if one is not other:
                with pytest.raises(AssertionError):
                    check_view(Mixed(one, other))  # type: ignore[arg-type]
    store.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_q05_a_reader_that_does_not_notice_a_compaction_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who goes on reading the old file of a log falls behind what was acknowledged."""
    acknowledged = Acknowledged()
    reader, writer = directory_store(path, **OPTIONS), directory_store(path, **OPTIONS)
    monkeypatch.setattr(Log, "is_current", lambda self: True)
    for number in range(4):
        acknowledged.tell(0, writer.submit(change(WF, lambda tx: write([1], tx))).result().version)
        if number == 1:
            check_view(reader.view(WF))
            assert writer.tidy(WF, "compact")
    with pytest.raises(AssertionError, match="was read after"):
        read_on(reader, acknowledged, 10, random.Random(1))
    reader.close()
    writer.close()
