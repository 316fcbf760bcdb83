"""T11: whatever the order of their system calls, threads and handles on one directory do what could be done in a row.

Two to four threads, with a handle each or one for all, are stepped one system call at a time; each appends to lists,
reads them, compacts, takes snapshots, commits over both documents, carries that out, opens or closes. What they were
told, and in which order, goes through the checker of histories. A failing schedule prints its name: repeat it with
WAYPOST_SCHEDULE set to that.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.crash.histories import Append, Read, Txn, check
from tests.crash.machine import SCRATCH
from tests.crash.scheduling import Choose, Scheduler, Stuck, stepping
from tests.seeds import SEED
from tests.store.support import TestedStore, change, directory_store
from tests.totals import Totals, ring_size
from waypost.store import DocumentId, JointChange, Receipt, Transaction
from waypost.store.directory import forks
from waypost.store.directory.document import Document
from waypost.store.directory.upkeep import Upkeep


@pytest.fixture(autouse=True)
def _nobody_waits_for_what_is_stuck() -> Iterator[None]:
    """A schedule that gets stuck, as some are made to, leaves stores whose locks nobody gives back. The fork of a later
    test must not wait for them.
    """
    before = set(forks._OPEN_STORES)
    yield
    for store in set(forks._OPEN_STORES) - before:
        forks._OPEN_STORES.discard(store)


ONLY = os.environ.get("WAYPOST_SCHEDULE")
DOCUMENTS = {name: DocumentId("workflow", name) for name in "xy"}

Program = list[str]
"""What a thread does: verbs with a document, such as `append x`, `read x` or `compact x`, and verbs alone: `move` and
`both` are transactions that append to both documents, or only read them, `skew x` one that reads the other and appends
to this; `settle`, `open` and `close`.
"""

RACES: dict[str, list[Program]] = {
    "commit beside commit": [["append x", "append x"], ["append x", "append x"]],
    "commit beside blind commit": [["append x", "put x"], ["put x", "append x"]],
    "commit beside compaction": [["append x", "append x"], ["compact x", "append x"]],
    "compaction beside compaction": [["append x", "compact x"], ["compact x", "append x"]],
    "snapshot beside commit": [["snapshot x", "append x"], ["append x", "append x"]],
    "snapshot beside compaction": [["append x", "snapshot x", "append x"], ["append x", "compact x", "read x"]],
    "snapshot beside snapshot": [["append x", "snapshot x", "append x"], ["append x", "snapshot x", "read x"]],
    "close beside commit": [["append x", "close"], ["append x", "append x", "read x"]],
    "close beside close": [["append x", "close"], ["append x", "close"]],
    "close beside compaction": [["append x", "close"], ["append x", "compact x", "append x"]],
    "open and close beside commit": [["close", "open", "append x"], ["append x", "close"]],
    "read beside everything": [["read x", "read x", "read x"], ["append x", "compact x", "append x", "close"]],
    "earlier versions beside compaction": [["append x", "earlier x", "earlier x"], ["append x", "compact x"]],
    "first commits": [["append y", "read y"], ["append y", "read y"]],
    "reading before the first commit": [["read y", "append y"], ["append y", "read y", "close"]],
    "transaction beside transaction": [["move", "move"], ["move", "move"]],
    "transaction beside commits": [["move", "append x"], ["append y", "append x"]],
    "transaction beside readers": [["move", "move"], ["both", "read x", "read y", "both"]],
    "transaction beside compaction": [["move", "compact x", "read y"], ["move", "compact y", "both"]],
    "transaction beside snapshot": [["move", "snapshot x", "move"], ["move", "snapshot x", "both"]],
    "transactions that read what the other writes": [["skew x", "skew x"], ["skew y", "both"]],
    "settling beside transaction": [["move", "settle", "move"], ["move", "settle", "both"]],
    "settling beside compaction": [["move", "settle", "read x"], ["compact x", "earlier x", "compact x", "both"]],
    "transaction beside close": [["move", "close"], ["move", "both"]],
}
SHARED = [name for name, programs in RACES.items() if not any("close" in program for program in programs)]
"""Races that threads with one handle can run as well."""

CROWDS: list[Program] = [
    ["append x", "append y", "read x"],
    ["append x", "compact x", "append x"],
    ["read x", "read y", "append y"],
    ["snapshot x", "append x", "close"],
    ["put x", "append x", "earlier x"],
    ["close", "open", "append x", "read x"],
    ["append y", "compact y", "snapshot y"],
    ["move", "append x", "read y"],
    ["both", "move", "settle"],
    ["skew x", "compact y", "move"],
    ["skew y", "read x", "settle", "close"],
]


class Actor:
    """A thread with a handle, and what it was told."""

    def __init__(self, name: str, path: Path, store: TestedStore, scheduler: Scheduler, told: list[Txn]) -> None:
        self.name, self.path, self.store, self.scheduler, self.told = name, path, store, scheduler, told
        self.number = 0

    def run(self, program: Program) -> Callable[[], None]:
        def act() -> None:
            for each in program:
                verb, _, document = each.partition(" ")
                if verb == "open":
                    self.store = directory_store(self.path, chunk_size=4096)
                elif verb == "close":
                    self.store.close()
                    self.store = directory_store(self.path, read_only=True)
                elif verb in ("compact", "snapshot"):
                    self.store.tidy(DOCUMENTS[document], verb)
                elif verb == "settle":
                    self.store._settle()
                else:
                    getattr(self, verb)(*([DOCUMENTS[document]] if document else []))

        return act

    def tell(self, start: int, *ops: Append | Read) -> None:
        self.told.append(Txn(self.name, start, self.scheduler.tick(), list(ops)))

    def append(self, document: DocumentId) -> None:
        value, start = self.next_value(), self.scheduler.tick()

        def work(tx: Transaction) -> bytes:
            before = tx.get("list") or b""
            tx.put("list", before + b" " + value.encode())
            return before

        if self.store.layout.read_only:
            self.store = directory_store(self.path)
        seen = self.store.submit(change(document, work)).result().data
        self.tell(start, Read(document.id, seen.decode().split()), Append(document.id, value))

    def move(self) -> None:
        self.transact(list("xy"), list("xy"))

    def both(self) -> None:
        self.transact(list("xy"), [])

    def skew(self, document: DocumentId) -> None:
        self.transact(["y" if document.id == "x" else "x"], [document.id])

    def transact(self, reads: list[str], appends: list[str]) -> None:
        """One transaction, run again until nothing came in between; its values differ with each document."""
        start, value = self.scheduler.tick(), self.next_value()
        if self.store.layout.read_only:
            self.store = directory_store(self.path)
        receipt: Receipt | None = None
        while receipt is None:
            joint = self.store.begin()
            ops: list[Append | Read] = []
            for name in sorted({*reads, *appends}):
                part = joint.document(DOCUMENTS[name])
                before = part.get("list") or b""
                ops.append(Read(name, before.decode().split()))
                if name in appends:
                    part.put("list", before + f" {value}{name}".encode())
                    ops.append(Append(name, value + name))
            receipt = self.store.commit(joint, JointChange(value, "test"))
        self.tell(start, *ops)

    def put(self, document: DocumentId) -> None:
        """A commit of a part that nobody else touches, in which each version is a value of a list of its own."""
        value, start = self.next_value(), self.scheduler.tick()
        self.store.submit(change(document, lambda tx: tx.put(f"own {value}", b"1"))).result()
        self.tell(start, Append(f"{document.id} {value}", value))

    def read(self, document: DocumentId) -> None:
        start = self.scheduler.tick()
        view = self.store.view(document)
        self.tell(start, Read(document.id, (view.get("list") or b"").decode().split()))

    def earlier(self, document: DocumentId) -> None:
        """The version that is there now is found, whole, though others go on and replace the file."""
        now = self.store.view(document)
        found = self.store.view_at(document, now.version)
        assert found is not None and found.checksum == now.checksum
        assert [found.get(key) for key in found.keys()] == [now.get(key) for key in now.keys()]

    def next_value(self) -> str:
        self.number += 1
        return f"{self.name}.{self.number}"


def run_schedule(place: Path, programs: Sequence[Program], choose: Choose, *, shared: bool) -> Scheduler:
    """Run programs in the order that `choose` gives, and check what came of it."""
    path = place / "store"
    shutil.rmtree(path, ignore_errors=True)
    scheduler, told = Scheduler(choose), []
    with stepping(scheduler):
        first = directory_store(path, chunk_size=4096)
        main = Actor("m", path, first, scheduler, told)
        for _ in range(2):
            main.append(DOCUMENTS["x"])
        actors = [
            Actor(name, path, first if shared else directory_store(path, chunk_size=4096), scheduler, told)
            for name in "abcd"[: len(programs)]
        ]
        scheduler.run([actor.run(program) for actor, program in zip(actors, programs, strict=True)])
        for actor in [*actors, main]:
            actor.store.close()
    check_result(path, told)
    return scheduler


def check_result(path: Path, told: list[Txn]) -> None:
    reader = directory_store(path, read_only=True)
    final: dict[str, list[str]] = {}
    for name, document in DOCUMENTS.items():
        view = reader.view(document)
        final[name] = (view.get("list") or b"").decode().split()
        for key in view.keys("own "):
            final[f"{name} {key[4:]}"] = [key[4:]]
        commits = sum(op.document.split()[0] == name for txn in told for op in txn.ops if isinstance(op, Append))
        assert view.version == commits
    assert check(told, final) == []
    assert reader.verify().findings == []
    assert not list((path / "transactions").glob("*"))
    reader.close()


# --- orders ---


def one_after_the_other(plan: Sequence[tuple[int, int]]) -> Choose:
    """Each (thread, steps) of a plan in its turn, as far as it can run; then each thread as long as it can."""
    turns = list(plan)

    def choose(ready: Sequence[int], _step: int) -> int:
        while turns:
            thread, left = turns[0]
            if left and thread in ready:
                turns[0] = thread, left - 1
                return thread
            turns.pop(0)
        return ready[0]

    return choose


def at_random(rng: random.Random) -> Choose:
    """Threads at random, each for a random number of steps."""
    turn = [0, 0]

    def choose(ready: Sequence[int], _step: int) -> int:
        if turn[1] == 0 or turn[0] not in ready:
            turn[:] = rng.choice(ready), rng.choice([1, 1, 2, 4, 8, 30])
        turn[1] -= 1
        return turn[0]

    return choose


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(Upkeep, "ask", lambda self, document: None)
    monkeypatch.setattr(Upkeep, "ask_to_settle", lambda self: None)
    monkeypatch.setattr(Document, "snapshot_is_due", staticmethod(lambda state: state.frames > 0))
    made = Path(tempfile.mkdtemp(prefix="waypost-schedules-", dir=SCRATCH))
    yield made
    shutil.rmtree(made)


def try_schedule(
    place: Path, name: str, programs: Sequence[Program], choose: Choose, *, shared: bool
) -> Scheduler | None:
    if ONLY is not None and name != ONLY:
        return None
    try:
        return run_schedule(place, programs, choose, shared=shared)
    except BaseException as error:
        error.add_note(f"WAYPOST_TEST_SEED={SEED} WAYPOST_SCHEDULE={name!r} pytest tests/crash/test_schedules.py")
        raise


CASES = [(name, False) for name in RACES] + [(name, True) for name in SHARED]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "shared"), CASES)
def test_t11_one_thread_interrupted_at_every_call(place: Path, totals: Totals, name: str, shared: bool) -> None:
    """Each of two threads is stopped before each of its calls, while the other one does all that it can.

    At night the other one is stopped as well, at a random call, for the first to end.
    """
    rng = random.Random(f"{SEED}{name}")
    ran = 0
    for thread in (0, 1):
        for again in range(ring_size(1, 5)):
            at, length = 0, 1
            while at < length:
                turns = [(thread, at), (1 - thread, rng.randrange(1, 120) if again else 10_000), (thread, 10_000)]
                shown = f"{name}, shared {shared}, {thread} {at} {again}"
                done = try_schedule(place, shown, RACES[name], one_after_the_other(turns), shared=shared)
                ran += done is not None
                length = sum(who == thread for who, _ in done.trace) if done else 400
                at += ring_size(3, 1)
    totals("schedules", ran)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(4))
def test_t11_threads_in_random_order(place: Path, totals: Totals, part: int) -> None:
    """Two to four threads, with a handle each or one for all, are stepped in a random order."""
    ran = 0
    for number in range(ring_size(150, 2_000)):
        rng = random.Random(f"{SEED}.{part}.{number}")
        shared = rng.random() < 0.3
        programs = [each for each in CROWDS if not (shared and "close" in each)]
        chosen = [rng.choice(programs) for _ in range(rng.randrange(2, 5))]
        name = f"random {part}.{number}"
        ran += try_schedule(place, name, chosen, at_random(rng), shared=shared) is not None
    totals("schedules", ran)


# --- the scheduler is checked ---


def test_q05_t20_a_lock_that_is_left_out_is_found(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the lock of the file some order of two commits loses one of them, and is found."""
    monkeypatch.setattr("waypost.store.directory.files.File.try_lock", lambda self, shared=False: True)
    caught = 0
    for at in range(40):
        try:
            plan = [(0, at), (1, 10_000)]
            run_schedule(place, RACES["commit beside commit"], one_after_the_other(plan), shared=False)
        except Exception:
            caught += 1
    assert caught


def test_q05_a_lock_that_is_never_given_back_is_found(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that wait for ever are not waited for."""
    monkeypatch.setattr("waypost.store.directory.files.File.unlock", lambda self: None)
    monkeypatch.setattr(Document, "let_go_of_lock", lambda self: None)  # which gives up the file instead
    with pytest.raises(Stuck):
        run_schedule(place, RACES["commit beside commit"], at_random(random.Random(1)), shared=False)


def test_q01_a_schedule_is_repeated_by_its_seed(place: Path) -> None:
    """The same seed gives the same order of the same calls."""
    programs = [CROWDS[0], CROWDS[1], CROWDS[4]]
    traces = [run_schedule(place, programs, at_random(random.Random(7)), shared=False).trace for _ in range(2)]
    assert traces[0] == traces[1]
    assert len({thread for thread, _ in traces[0]}) == 3
