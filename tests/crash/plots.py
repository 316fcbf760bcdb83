"""The workloads that are recorded: each is a function of a `Run`, decorated with its name.

    @workload("two commits")
    def two_commits(run: Run) -> None:
        store = run.open()
        run.commit(store)
        run.commit(store, large=20_000)
        run.close(store)

`run.acting_as("second")` does what follows as another process, `run.kill("second")` ends one without a word, and
`run.meanwhile(act)` has something done while the next sync is under way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.crash.stories import OTHER, PLAIN, THIRD, Run, Work, Workload
from tests.store.support import WF
from waypost.store import DocumentId
from waypost.store.directory import compaction

FOURTH, FIFTH, SIXTH = (DocumentId("session", name) for name in ("fourth", "fifth", "sixth"))
WORKLOADS: dict[str, Workload] = {}
SESSION, LEFT = DocumentId("session", "s"), DocumentId("session", "left")


def workload(name: str, *, share: int = 1, **options: Any) -> Callable[[Work], Work]:
    """Register a workload; options of the store with `__` for the dot."""

    def register(work: Work) -> Work:
        given = {option.replace("__", "."): value for option, value in options.items()}
        WORKLOADS[name] = Workload(name, {**PLAIN, **given}, work, share)
        return work

    return register


@workload("first commit")
def first_commit(run: Run) -> None:
    store = run.open()
    run.commit(store)
    run.close(store)


@workload("appends")
def appends(run: Run) -> None:
    store = run.open()
    run.commit(store)
    for large in (0, 6000, 0, 9000):
        run.commit(store, large=large)
    run.commit(store, OTHER)
    run.close(store)


@workload("compressed", compression__enabled=True, compression__threshold=0)
def compressed(run: Run) -> None:
    store = run.open()
    for large in (0, 5000, 0):
        run.commit(store, large=large)
    run.tidy(store, "snapshot")
    run.commit(store)
    run.close(store)


@workload("two handles")
def two_handles(run: Run) -> None:
    """Each commits while the other's sync is under way, and reads what the other has not synced yet."""
    first = run.open()
    with run.acting_as("second"):
        second = run.open()
    run.commit(first)
    run.meanwhile(lambda: run.commit(second), "second")
    run.commit(first)
    run.meanwhile(lambda: run.look(second), "second")
    run.commit(first, large=5000)
    with run.acting_as("third"):
        third = run.open()
    run.meanwhile(lambda: run.commit(second), "second")
    run.meanwhile(lambda: run.commit(third))
    run.commit(first)
    with run.acting_as("third"):
        run.close(third)
    with run.acting_as("second"):
        run.close(second)
    run.commit(first)
    run.close(first)


@workload("snapshots")
def snapshots(run: Run) -> None:
    """Some are taken by another process, of commits that are not synced yet."""
    store = run.open()
    with run.acting_as("second"):
        second = run.open()
    for _ in range(2):
        run.commit(store, large=5000)
        run.commit(store)
        run.tidy(store, "snapshot")
    with run.acting_as("second"):
        run.commit(second)
    run.meanwhile(lambda: run.tidy(second, "snapshot"), "second")
    run.commit(store, large=12000)
    run.commit(store)
    run.close(store)
    with run.acting_as("second"):
        run.close(second)


@workload("compaction")
def compact(run: Run) -> None:
    """All history is kept; a commit comes in while the new file is synced, and others follow."""
    store = run.open()
    for large in (0, 5000, 0):
        run.commit(store, large=large)
    run.tidy(store, "snapshot")
    run.meanwhile(lambda: run.commit(store))
    run.tidy(store, "compact")
    run.commit(store)
    run.close(store)


@workload("shortened")
def shorten(run: Run) -> None:
    """History goes, and the old file is kept as a backup."""
    store = run.open()
    for large in (5000, 0, 0):
        run.commit(store, large=large)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "DAY_US", -1)
        for _ in range(2):
            run.tidy(store, "compact")
            run.commit(store)
    run.close(store)


@workload("closing")
def closing(run: Run) -> None:
    for _ in range(3):
        store = run.open()
        run.commit(store)
        run.close(store)


@workload("torn tail")
def torn_tail(run: Run) -> None:
    """Writers die within a write, and the next ones clear what they left: one that lives on, and one that comes."""
    store = run.open()
    run.commit(store)
    with run.acting_as("second"):
        second = run.open()
        run.die_within_a_write(300, lambda: run.commit(second, large=5000))
    run.commit(store)
    with run.acting_as("third"):
        third = run.open()
        run.die_within_a_write(4500, lambda: run.commit(third, large=6000))
    run.kill("first")
    with run.acting_as("fourth"):
        store = run.open()
        run.commit(store)
        run.close(store)


@workload("unsynced", reliability__enable_wal=False)
def unsynced(run: Run) -> None:
    """Acknowledged before the sync: the end of the process costs nothing, the power what was not synced."""
    store = run.open()
    for large in (0, 5000, 0):
        run.commit(store, large=large)
    run.tidy(store, "snapshot")
    run.commit(store)
    run.close(store)
    store = run.open()
    run.commit(store)
    run.close(store)


@workload("transactions", share=2)
def transactions(run: Run) -> None:
    """Over documents that are there or new, with commits to one document before, between and behind them."""
    store = run.open()
    run.commit(store)
    run.commit(store, WF, OTHER)
    run.commit(store, OTHER, large=5000)
    run.settle(store)
    run.commit(store, WF, OTHER, THIRD)
    run.commit(store, WF, THIRD, large=6000)
    run.commit(store)
    run.close(store)


@workload("transactions of two", share=2)
def transactions_of_two(run: Run) -> None:
    """Another process reads, and is told of, what the first is deciding, and goes on from there."""
    first = run.open()
    with run.acting_as("second"):
        second = run.open()
        run.commit(second, OTHER)
    for reads in range(4):
        for _ in range(reads):
            run.meanwhile(lambda: run.look(second, OTHER), "second")
        run.meanwhile(lambda: run.look(second, OTHER, WF), "second")
        run.commit(first, WF, OTHER)
    with run.acting_as("second"):
        run.look(second, WF, OTHER)
        run.commit(second, WF, OTHER)
        run.commit(second, OTHER)
    run.settle(first)
    run.commit(first)
    run.close(first)
    with run.acting_as("second"):
        run.close(second)


@workload("transactions and upkeep", share=2)
def transactions_and_upkeep(run: Run) -> None:
    """Logs are compacted, and snapshots taken, while decisions over them are still to be carried out."""
    store = run.open()
    run.commit(store, WF, OTHER, large=5000)
    run.commit(store)
    run.tidy(store, "snapshot")
    run.commit(store, WF, OTHER)
    run.tidy(store, "compact")
    run.meanwhile(lambda: run.commit(store, WF, OTHER))
    run.tidy(store, "compact", OTHER)
    run.settle(store)
    run.commit(store, WF, OTHER)
    run.close(store)


@workload("torn transactions", share=2)
def torn_transactions(run: Run) -> None:
    """Coordinators die within the decision, and within the writing of what was decided."""
    store = run.open()
    run.commit(store, WF, OTHER)
    for process, writes, taken in (("second", 0, 300), ("third", 1, 200), ("fourth", 2, 100)):
        with run.acting_as(process):
            dying = run.open()
            run.die_within_a_write(taken, lambda dying=dying: run.commit(dying, OTHER, WF, large=4000), writes)
        run.look(store, OTHER)
        run.commit(store)
    run.kill("first")
    with run.acting_as("fifth"):
        store = run.open()
        run.commit(store, WF, OTHER)
        run.close(store)


@workload("unsynced transactions", share=2, reliability__enable_wal=False)
def unsynced_transactions(run: Run) -> None:
    """Acknowledged before the sync: the end of the process costs nothing, the power what was not synced."""
    for large in (0, 5000):
        store = run.open()
        run.commit(store, WF, OTHER)
        run.commit(store)
        run.commit(store, WF, OTHER, large=large)
        run.close(store)


@workload("checkpoints", share=16)
def checkpoints(run: Run) -> None:
    """Written out one by one, removed under those that stand on them, pending when history goes and when it closes."""
    store = run.open()
    first = run.commit(store, large=9000, checkpoint=True)
    run.keep(store, newest_only=True)
    second = run.commit(store, checkpoint=True)
    run.commit(store, checkpoint=True)
    run.keep(store)
    run.commit(store, without=(first, second))
    run.keep(store)
    run.commit(store, checkpoint=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "DAY_US", -1)
        run.meanwhile(lambda: run.commit(store, checkpoint=True))
        run.tidy(store, "compact")
    run.commit(store, large=5000, checkpoint=True)
    run.close(store)


@workload("checkpoints of two", share=16)
def checkpoints_of_two(run: Run) -> None:
    """One process writes files while the other makes and removes checkpoints, and each what the other stands on."""
    store = run.open()
    with run.acting_as("second"):
        second = run.open()
    numbers = [run.commit(store, large=9000, checkpoint=True)]
    run.keep(store)
    for _ in range(2):
        run.meanwhile(lambda: numbers.append(run.commit(second, checkpoint=True)), "second")
        numbers.append(run.commit(store, checkpoint=True))
        run.keep(store)
        with run.acting_as("second"):
            run.commit(second, without=tuple(numbers[-3:-1]))
        run.meanwhile(lambda: run.commit(second, checkpoint=True), "second")
        run.commit(store, without=(numbers[0],))
        run.keep(store)
        with run.acting_as("second"):
            run.keep(second)
    run.close(store)
    with run.acting_as("second"):
        run.close(second)


@workload("imports", share=8)
def imports(run: Run) -> None:
    """Taken in and adopted, in a document that there is and in a new one; removed; left where their process died."""
    store = run.open()
    run.commit(store, checkpoint=True)
    first = run.commit(store, imports=True)
    run.keep(store)
    run.commit(store, OTHER, imports=True)
    run.commit(store, without=(first,))
    run.meanwhile(lambda: run.open().close(), "beside")
    run.commit(store, imports=True)
    with run.acting_as("second"):
        dying = run.open()
        run.die_within_a_write(200, lambda: run.commit(dying, imports=True), 1)
    with run.acting_as("third"):
        last = run.open()
        run.commit(last, imports=True)
        run.kill("third")
    with run.acting_as("fourth"):
        heir = run.open()
        run.commit(heir)
        run.close(heir)
    run.keep(store)
    run.close(store)


@workload("arrivals", share=16)
def arrivals(run: Run) -> None:
    """Documents arrive with their past, alone and with a commit to one that is there; it is carried out at once, later,
    and by whoever comes after a process that died.
    """
    store = run.open()
    run.commit(store)
    run.commit(store, arriving=(OTHER,))
    run.commit(store, OTHER)
    run.settle(store)
    run.commit(store, arriving=(THIRD, FOURTH))
    run.meanwhile(lambda: run.commit(store, THIRD))
    run.commit(store, FOURTH, large=5000)
    run.settle(store)
    with run.acting_as("second"):
        second = run.open()
        run.commit(second, WF, arriving=(FIFTH,))
        run.kill("second")
    run.look(store, FIFTH, WF)
    run.commit(store, FIFTH)
    with run.acting_as("third"):
        dying = run.open()
        run.die_within_a_write(100, lambda: run.commit(dying, arriving=(SIXTH,)), 3)
    with run.acting_as("fourth"):
        last = run.open()
        run.commit(last, SIXTH)
        run.close(last)
    run.close(store)


@workload("sessions", share=8)
def sessions(run: Run) -> None:
    """One is begun, announces a workflow, writes to it, and ends in one commit over both; the holder of another dies
    before he has made it, and that of a third after.
    """
    store = run.open()
    claim = store.claim(SESSION)
    assert claim is not None
    run.commit(store, SESSION)
    run.commit(store, SESSION)
    run.commit(store)
    run.commit(store, SESSION, WF)
    claim.release()
    with run.acting_as("second"):
        second = run.open()
        assert second.claim(DocumentId("session", "never made")) is not None
        assert second.claim(LEFT) is not None
        run.commit(second, LEFT)
        run.kill("second")
    with run.acting_as("third"):
        third = run.open()
        claim = third.claim(LEFT)
        assert claim is not None
        run.commit(third, LEFT)
        claim.release()
        run.close(third)
    run.close(store)
