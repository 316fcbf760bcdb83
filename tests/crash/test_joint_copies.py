"""Copies of a store in which transactions run: of each transaction all is there or nothing, or it is told.

Two processes commit to two workflows together, and to each alone in between. Each transaction puts the same number and
the same count into both, so a copy that holds half of one is seen by comparing them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import waypost
from tests.crash.test_copies import DOCUMENTED, PARTS, SAID, backup, backup_by_command, cp, tar, writing
from tests.store.support import TestedStore, change, directory_store
from tests.totals import Totals, ring_size
from waypost import clock
from waypost.store import DocumentId, JointChange, Receipt

LEFT, RIGHT = DocumentId("workflow", "left"), DocumentId("workflow", "right")

WRITER = """
import os, random, sys
from tests.crash.test_joint_copies import LEFT, RIGHT, put_alone, put_in_both
from tests.store.support import directory_store
path, seed = sys.argv[1], int(sys.argv[2])
rng, store = random.Random(seed), directory_store(path, chunk_size=4096)
os.write(1, b"ready\\n")
while os.getppid() == int(sys.argv[3]):
    put_in_both(store, rng.randrange(1 << 40), rng.choice((10, 300)))
    if rng.randrange(4) == 0:
        put_alone(store, rng.choice((LEFT, RIGHT)), rng.randrange(1 << 40))
    if rng.randrange(60) == 0:
        store.tidy(rng.choice((LEFT, RIGHT)), rng.choice(("compact", "snapshot")))
"""


def put_in_both(store: TestedStore, number: int, length: int) -> Receipt | None:
    """One transaction; None where another was faster."""
    joint = store.begin()
    for document in (LEFT, RIGHT):
        tx = joint.document(document)
        tx.put("count", b"%d" % (int(tx.get("count") or 0) + 1))
        tx.put("number", b"%d" % number)
        tx.put("text", b"%d " % number * (length // 8))
    return store.commit(joint, JointChange(clock.new_id("op"), "test"))


def put_alone(store: TestedStore, document: DocumentId, number: int) -> None:
    store.submit(change(document, lambda tx: tx.put("own", b"%d" % number))).result()


@pytest.fixture
def busy(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A store in which two processes make transactions without a pause."""
    path = tmp_path / "store"
    store = directory_store(path, chunk_size=4096)
    assert put_in_both(store, 0, 10)
    store.close()
    with writing(path, WRITER, 2, getattr(request, "param", 0)):
        yield path


def last_of(store: TestedStore, document: DocumentId) -> tuple[bytes | None, bytes | None]:
    """Count and number of the last transaction that a document holds, whose parts belong together."""
    view = store.view(document)
    number = view.get("number")
    assert set((view.get("text") or b"").split()) <= {number}, f"parts of different commits; {SAID}"
    return view.get("count"), number


def examine(copy: Path) -> tuple[bool, bool]:
    """Whether a copy could be opened with both documents, and whether it holds half of a transaction: never without
    `verify` saying so.
    """
    try:
        store = directory_store(copy, read_only=True)
    except DOCUMENTED:
        return False, False
    try:
        report = store.verify()
        left, right = last_of(store, LEFT), last_of(store, RIGHT)
    except DOCUMENTED:
        return False, False
    finally:
        store.close()
    is_torn = left != right
    assert not (is_torn and report.sound), f"half of a transaction passes as sound: {left}, {right}; {SAID}"
    assert is_torn or report.torn == [], f"what is whole is told to be torn: {report.torn}; {SAID}"
    return True, is_torn


def check_repaired(copy: Path) -> None:
    """A repair leaves a store that is sound and can be read."""
    waypost.repair(copy)
    store = directory_store(copy, read_only=True)
    report = store.verify()
    assert report.sound and report.torn == [], f"{report.findings}; {SAID}"
    for document in (LEFT, RIGHT):
        last_of(store, document)
    store.close()


@PARTS
@pytest.mark.parametrize("tool", [cp, tar], ids=["cp", "tar"])
@pytest.mark.timeout(ring_size(120, 7200))
def test_t16_d12_a_copy_made_during_transactions_is_whole_or_says_that_it_is_not(
    busy: Path, tmp_path: Path, totals: Totals, tool: Callable[[Path, Path], None]
) -> None:
    """Whatever a tool copies while transactions run, each document is at some commit or refused; half of a transaction
    is told by `verify`, and a repair makes a sound store of it.
    """
    print(SAID)
    cases = ring_size(8, 20)
    for number in range(cases):
        copy = tmp_path / f"copy{number}"
        tool(busy, copy)
        is_opened, is_torn = examine(copy)
        if is_torn or not is_opened:
            check_repaired(copy)
        shutil.rmtree(copy)
    totals("copies of a live store", cases)


def wait_for_another(path: Path) -> None:
    """Until a transaction has been made that was not there before."""
    store = directory_store(path, read_only=True)
    before, until = last_of(store, RIGHT), time.monotonic() + 60
    while last_of(store, RIGHT) == before:
        assert time.monotonic() < until, f"no transaction in a minute; {SAID}"
        time.sleep(0.001)
    store.close()


def test_t16_d12_a_copy_that_took_longer_than_a_transaction_is_told(busy: Path, tmp_path: Path, totals: Totals) -> None:
    """One log copied before a transaction and one behind it: refused, or `verify` says that half of it is missing."""
    print(SAID)
    cases, torn = ring_size(8, 100), 0
    for number in range(cases):
        copy = tmp_path / f"copy{number}"
        cp(busy, copy)
        wait_for_another(busy)
        wait_for_another(busy)  # one that was only decided is shown, and stands in the log before the next one is
        shutil.copy(busy / "workflows" / "right.state", copy / "workflows" / "right.state")
        shutil.rmtree(copy / "transactions")
        is_opened, is_torn = examine(copy)
        assert is_torn or not is_opened, f"the logs are of different moments; {SAID}"
        torn += is_torn
        check_repaired(copy)
        shutil.rmtree(copy)
    assert torn, SAID
    totals("copies of a live store", cases)


@PARTS
@pytest.mark.parametrize("tool", [backup, backup_by_command], ids=["backup", "backup by command"])
@pytest.mark.timeout(ring_size(120, 7200))
def test_e05_d12_a_backup_made_during_transactions_holds_each_of_them_whole(
    busy: Path, tmp_path: Path, totals: Totals, tool: Callable[[Path, Path], None]
) -> None:
    """A backup is never refused and never torn: nothing is found amiss in it, and both documents hold the same last
    transaction.
    """
    print(SAID)
    cases = ring_size(6 if tool is backup else 3, 20)
    for number in range(cases):
        copy = tmp_path / f"backup{number}"
        tool(busy, copy)
        store = directory_store(copy, read_only=True)
        assert store.verify().findings == [], SAID
        assert last_of(store, LEFT) == last_of(store, RIGHT), SAID
        store.close()
        shutil.rmtree(copy)
    totals("copies of a live store", cases)
