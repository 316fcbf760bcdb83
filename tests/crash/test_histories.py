"""T12: what eight processes under SIGKILL, SIGSTOP and SIGCONT did to shared lists can be put into one order.

Each process reads lists and appends values of its own to them, one at a time or several in one transaction, and writes
down when it asked and when it was answered. Now and then one stops or kills itself between the decision of a
transaction and the frames.
Afterwards `histories.check` looks for lost, doubled and invented values and for cycles. Repeat a failing round with
WAYPOST_TEST_SEED set to the seed that it prints; when each process runs is the system's choice, so it may take several.
"""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.crash.histories import Append, Read, Txn, check
from tests.crash.machine import SCRATCH
from tests.seeds import SEED
from tests.store.support import change, directory_store, system_calls
from tests.totals import Totals, ring_size
from waypost import clock
from waypost.errors import LockTimeout
from waypost.store import DocumentId, JointChange, Receipt, Transaction

ROUNDS = ring_size(4, 200)
OPERATIONS_OF_A_ROUND = 5_200
WRITERS = 8
DOCUMENTS = [DocumentId("workflow", f"list{number}") for number in range(12)]
LIST = "list"


def values_of(stored: bytes | None) -> list[str]:
    return (stored or b"").decode().split()


# --- one writer ---


class Writer:
    """Reads and appends until it is killed or told to stop; each line of its log is a call, or what came of it."""

    def __init__(self, path: str, name: str, log: int, ticks: int, rng: random.Random) -> None:
        self.name, self.log, self.ticks, self.rng = name, log, ticks, rng
        self.store = directory_store(path, chunk_size=4096)
        self.number = 0
        self.stopped = False
        signal.signal(signal.SIGTERM, self.stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def stop(self, *_: Any) -> None:
        self.stopped = True

    def run(self) -> None:
        while not self.stopped:
            document, act = self.rng.choice(DOCUMENTS), self.rng.random()
            try:
                if act < 0.35:
                    self.tell([document])
                    self.answer({document.id: self.store.view(document).get(LIST)})
                elif act < 0.6:
                    value = self.next_value()
                    self.tell([document], {document.id: value})
                    seen = self.store.submit(change(document, self.appending(value))).result().data
                    self.answer({document.id: seen})
                else:
                    self.transact(self.rng.sample(DOCUMENTS, self.rng.randrange(2, 4)))
            except LockTimeout:
                self.put(["failed", time.monotonic_ns()])
            if self.rng.random() < 0.01:
                with suppress(LockTimeout):  # of one who was stopped
                    self.store.tidy(document, self.rng.choice(["compact", "snapshot"]))
        self.store.close()

    def transact(self, documents: list[DocumentId]) -> None:
        """Read lists and append to some of them, or to none, in one transaction; again until nothing comes between."""
        appended = documents[: self.rng.randrange(len(documents) + 1)]
        values = {document.id: self.next_value() for document in appended}
        self.tell(documents, values)
        with self.struck_by_chance() if len(values) > 1 else nullcontext():
            receipt: Receipt | None = None
            while receipt is None:
                joint, seen = self.store.begin(), dict[str, bytes | None]()
                for document in documents:
                    part = joint.document(document)
                    seen[document.id] = part.get(LIST)
                    if document.id in values:
                        part.put(LIST, (seen[document.id] or b"") + b" " + values[document.id].encode())
                receipt = self.store.commit(joint, JointChange(clock.new_id("op"), "test"))
        self.answer(seen)

    @contextmanager
    def struck_by_chance(self) -> Iterator[None]:
        """Now and then this process stops, or is killed, at one of the first calls behind a decision's rename."""
        strike = self.rng.choices([None, signal.SIGSTOP, signal.SIGKILL], [90, 6, 4])[0]
        at, behind = self.rng.randrange(1, 7), 0

        def fault(name: str, _count: int, _args: tuple[Any, ...]) -> None:
            nonlocal behind
            behind += bool(behind) or name == "rename"
            if behind == at + 1 and strike is not None and not self.stopped:
                os.write(self.ticks, b"!" if strike == signal.SIGSTOP else b"?")
                os.kill(os.getpid(), strike)

        if strike is None:
            yield
            return
        with system_calls() as calls:
            calls.fault = fault
            yield

    def next_value(self) -> str:
        self.number += 1
        return f"{self.name}.{self.number}"

    @staticmethod
    def appending(value: str) -> Any:
        def work(tx: Transaction) -> bytes | None:
            before = tx.get(LIST)
            tx.put(LIST, (before or b"") + b" " + value.encode())
            return before

        return work

    def tell(self, reads: list[DocumentId], appends: dict[str, str] | None = None) -> None:
        self.put(["asked", [document.id for document in reads], appends or {}, time.monotonic_ns()])

    def answer(self, stored: dict[str, bytes | None]) -> None:
        self.put(["ok", {name: (value or b"").decode() for name, value in stored.items()}, time.monotonic_ns()])
        os.write(self.ticks, self.name[:1].encode())

    def put(self, line: list[Any]) -> None:
        os.write(self.log, json.dumps(line).encode() + b"\n")


# --- all of them ---


class Round:
    """Eight writers on one store, each with its log, and a pipe on which each answer is one byte."""

    def __init__(self, place: Path, rng: random.Random) -> None:
        self.place, self.rng = place, rng
        self.ticks, self.theirs = os.pipe()
        self.running: dict[str, int] = {}
        self.stopped: set[str] = set()
        self.lives = dict.fromkeys("abcdefgh"[:WRITERS], 0)
        self.answers = dict.fromkeys(self.lives, 0)
        self.killed = self.paused = 0
        self.struck: Counter[str] = Counter()

    def start(self, slot: str) -> None:
        self.lives[slot] += 1
        name, draw = f"{slot}{self.lives[slot]}", random.Random(self.rng.random())
        # told to stop before it can listen, it stops once it can
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                log = os.open(self.place / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                Writer(str(self.place / "store"), name, log, self.theirs, draw).run()
                status = 0
            except BaseException:
                (self.place / f"{slot}.failed").write_text(traceback.format_exc())
            finally:
                os._exit(status)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        self.running[slot] = pid

    def kill(self, slot: str) -> int:
        pid = self.running.pop(slot)
        self.stopped.discard(slot)
        os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def replace_the_dead(self) -> None:
        """Start others in the place of those who killed themselves."""
        for slot, pid in list(self.running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self.running[slot]
                assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, self.why(slot)
                self.stopped.discard(slot)
                self.start(slot)

    def disturb(self) -> None:
        """Kill one and start another in its place, stop one, or let one go on."""
        slot = self.rng.choice(sorted(self.running))
        act = self.rng.random()
        if act < 0.2:
            assert self.kill(slot) == -signal.SIGKILL, self.why(slot)
            self.killed += 1
            self.start(slot)
        elif act < 0.6 and len(self.stopped) < WRITERS // 2:
            os.kill(self.running[slot], signal.SIGSTOP)
            self.stopped.add(slot)
            self.paused += 1
        else:
            self.go_on()

    def go_on(self) -> None:
        for pid in self.running.values():
            os.kill(pid, signal.SIGCONT)
        self.stopped.clear()

    def run(self, operations: int) -> None:
        for slot in self.lives:
            self.start(slot)
        until, seen, wake = 0, 0, operations
        while seen < operations:
            if not select.select([self.ticks], [], [], 0.1)[0]:
                self.replace_the_dead()
                self.go_on()  # who is stopped may hold the lock that all others wait for
                continue
            for slot in os.read(self.ticks, 4096).decode():
                if slot in self.answers:
                    self.answers[slot] += 1
                    seen += 1
                else:
                    self.struck[slot] += 1
                    wake = min(wake, seen + 20)  # the others go on for a while beside what was decided
            self.replace_the_dead()
            if seen >= wake:
                self.go_on()
                wake = operations
            if seen >= until:
                until = seen + self.rng.randrange(5, 60)
                self.disturb()
        self.end_all()

    def end_all(self) -> None:
        """Tell all to stop, and see each go on until it has: one that stopped itself may hold the others' locks."""
        for pid in self.running.values():
            os.kill(pid, signal.SIGTERM)
        while self.running:
            self.go_on()
            for slot, pid in list(self.running.items()):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    del self.running[slot]
                    # it may have been about to kill itself
                    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL), self.why(slot)
            time.sleep(0.005)

    def why(self, slot: str) -> str:
        failed = self.place / f"{slot}.failed"
        return failed.read_text() if failed.exists() else "it ended without a word"

    def close(self) -> None:
        for slot in list(self.running):
            self.kill(slot)
        os.close(self.ticks)
        os.close(self.theirs)

    def history(self) -> Iterator[Txn]:
        for log in sorted(self.place.glob("*.log")):
            rows = [json.loads(line) for line in log.read_bytes().split(b"\n") if line.endswith(b"]")]
            for at, row in enumerate(rows):
                if row[0] == "asked":
                    answer = rows[at + 1] if at + 1 < len(rows) else ["unknown", 0]
                    yield txn_of(log.stem, row, answer)


def txn_of(process: str, asked: list[Any], answer: list[Any]) -> Txn:
    """A transaction as it was written down: documents that it read, values that it appended, and what it saw."""
    _, documents, appends, start = asked
    ops: list[Append | Read] = []
    for name in documents:
        if answer[0] == "ok":
            ops.append(Read(name, values_of(answer[1][name].encode())))
        if name in appends:
            ops.append(Append(name, appends[name]))
    return Txn(process, start, answer[-1], ops, answer[0])


@pytest.fixture
def place() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="waypost-histories-", dir=SCRATCH))
    yield made
    shutil.rmtree(made)


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("number", range(ROUNDS))
def test_t12_what_eight_disturbed_processes_did_can_be_put_into_one_order(
    place: Path, totals: Totals, number: int
) -> None:
    """Nothing acknowledged is lost, nothing is there twice, every read is of its time, and no writer starves."""
    print(f"WAYPOST_TEST_SEED={SEED}, round {number}")
    running = Round(place, random.Random(SEED + number))
    try:
        running.run(OPERATIONS_OF_A_ROUND)
    finally:
        running.close()
    store = directory_store(place / "store")
    final = {document.id: values_of(store.view(document).get(LIST)) for document in DOCUMENTS}
    assert store.verify().sound
    store.close()
    assert not list((place / "store" / "transactions").iterdir())
    history = list(running.history())
    print(f"answers {running.answers}, killed {running.killed}, paused {running.paused}, struck {running.struck}")
    print(f"outcomes {Counter(txn.outcome for txn in history)}")
    assert check(history, final) == []
    assert running.killed >= 5 and running.paused >= 5
    assert running.struck["!"] >= 3 and running.struck["?"] >= 3
    answered = sum(txn.outcome == "ok" for txn in history)
    assert answered >= OPERATIONS_OF_A_ROUND
    fair = OPERATIONS_OF_A_ROUND / WRITERS
    assert min(running.answers.values()) >= fair / 8, f"a writer starved: {running.answers}"
    totals("history operations", answered)


# --- the checker is checked ---


def of(process: str, start: int, end: int, *ops: Append | Read, outcome: Any = "ok") -> Txn:
    return Txn(process, start, end, list(ops), outcome)


def a(document: str, value: str) -> Append:
    return Append(document, value)


def r(document: str, *seen: str) -> Read:
    return Read(document, seen)


BAD: dict[str, tuple[list[Txn], dict[str, list[str]]]] = {
    "lost": ([of("p", 0, 1, a("x", "1"))], {"x": []}),
    "duplicate": ([of("p", 0, 1, a("x", "1"))], {"x": ["1", "1"]}),
    "invented": ([of("p", 0, 1, a("x", "1"))], {"x": ["1", "2"]}),
    "G1a": ([of("p", 0, 1, a("x", "1"), outcome="failed")], {"x": ["1"]}),
    "torn": ([of("p", 0, 1, a("x", "1"), a("y", "2"), outcome="unknown")], {"x": ["1"], "y": []}),
    "read": ([of("p", 0, 1, a("x", "1")), of("q", 2, 3, r("x", "7"))], {"x": ["1"]}),
    "G1b": ([of("p", 0, 9, a("x", "1"), a("x", "2")), of("q", 0, 9, r("x", "1"))], {"x": ["1", "2"]}),
    "G0": (
        [of("p", 0, 9, a("x", "1"), a("y", "2")), of("q", 0, 9, a("x", "3"), a("y", "4"))],
        {"x": ["1", "3"], "y": ["4", "2"]},
    ),
    "G1c": (
        [of("p", 0, 9, a("x", "1"), r("y", "2")), of("q", 0, 9, r("x", "1"), a("y", "2"))],
        {"x": ["1"], "y": ["2"]},
    ),
    "G2": ([of("p", 0, 9, r("y"), a("x", "1")), of("q", 0, 9, r("x"), a("y", "2"))], {"x": ["1"], "y": ["2"]}),
    "order": ([of("p", 0, 1, a("x", "1")), of("q", 2, 3, r("x"))], {"x": ["1"]}),
}
"""Histories with one fault each, and how they ended."""


@pytest.mark.parametrize("fault", BAD)
def test_q05_the_checker_finds_each_fault(fault: str) -> None:
    """A planted fault is found and called by its name."""
    findings = check(*BAD[fault])
    assert findings[0].partition(":")[0] == fault, findings


def test_q05_a_lost_update_is_a_cycle() -> None:
    """Two that read the same list and both append to it: one of them has not seen the other."""
    history = [of("p", 0, 9, r("x"), a("x", "1")), of("q", 0, 9, r("x"), a("x", "2"))]
    assert check(history, {"x": ["1", "2"]})[0].startswith("G2")


def test_q05_the_order_in_time_holds_over_others() -> None:
    """A reader that begins after a reader of something newer has ended does not see less."""
    history = [of("p", 0, 9, a("x", "1")), of("q", 1, 2, r("x", "1")), of("s", 3, 4), of("t", 5, 6, r("x"))]
    assert check(history, {"x": ["1"]})[0].startswith("order")


def test_q05_a_right_history_is_found_right() -> None:
    """Concurrent transactions in any order, unknown and failed ones, and reads of their own writes are no fault."""
    rng = random.Random(5)
    final: dict[str, list[str]] = {"x": [], "y": [], "z": []}
    history = [
        of("lost", 0, 0, a("x", "never"), outcome="failed"),
        of("killed", 0, 0, a("y", "nor"), outcome="unknown"),
    ]
    for number in range(500):  # each happens at 10 times its number, and begins and ends some time around
        ops: list[Append | Read] = []
        for document in rng.sample(sorted(final), 2):
            ops += [Read(document, list(final[document])), Append(document, f"{document}{number}")]
            final[document].append(f"{document}{number}")
            ops.append(Read(document, list(final[document])))
        at = number * 10
        history.append(Txn(f"p{number % 8}", at - rng.randrange(30), at + rng.randrange(30), ops))
    rng.shuffle(history)
    assert check(history, final) == []
