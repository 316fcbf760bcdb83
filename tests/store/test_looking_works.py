"""Works that look at their own document while they run, through the store and not by their transaction."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.needed import path
from tests.store.support import WF, change, directory_store, putting
from waypost.store import Transaction
from waypost.store.directory.document import PATIENCE

__all__ = ["path"]


@pytest.mark.parametrize("times", [1, PATIENCE + 5])
def test_c01_what_a_work_takes_in_by_looking_is_not_written_over(path: Path, times: int) -> None:
    """It is run again, as where others were faster, however often that is: in the end nobody can be."""
    ours, other = directory_store(path), directory_store(path)
    other.submit(putting(x=b"0")).result()
    ran = 0

    def add_one(tx: Transaction) -> None:
        nonlocal ran
        ran += 1
        value = int(tx.get("x") or b"")
        if ran <= times and ran <= PATIENCE:  # behind that the log is locked for it
            other.submit(putting(x=b"%d" % (value + 10))).result()
        ours.view(WF)
        tx.put("x", b"%d" % (value + 1))

    ours.submit(change(WF, add_one)).result()
    assert ours.view(WF).get("x") == b"%d" % (10 * min(times, PATIENCE) + 1)
    assert ran == min(times, PATIENCE) + 1
    assert other.view(WF).get("x") == ours.view(WF).get("x")
    other.close()
    ours.close()


def test_c01_a_work_that_looks_and_writes_nothing_tells_of_one_version(path: Path) -> None:
    """Where others committed as it ran, it runs again."""
    ours, other = directory_store(path), directory_store(path)
    other.submit(putting(x=b"0", y=b"0")).result()
    ran = 0

    def compare(tx: Transaction) -> bool:
        nonlocal ran
        ran += 1
        first = tx.get("x")
        if ran == 1:
            other.submit(putting(x=b"1", y=b"1")).result()
        ours.view(WF)
        return first == tx.get("y")

    assert ours.submit(change(WF, compare)).result().data is True
    assert ran == 2
    other.close()
    ours.close()


def test_c01_a_work_that_looks_at_a_document_that_is_not_there_makes_it(path: Path) -> None:
    """What it finds then is as good as what there was before it looked."""
    store = directory_store(path)

    def make(tx: Transaction) -> None:
        assert store.view(WF).version == 0
        tx.put("x", b"1")

    receipt = store.submit(change(WF, make)).result()
    assert receipt.counters.attempts == 1
    store.submit(putting(y=b"2")).result()
    assert store.view(WF).version == 2
    store.close()
