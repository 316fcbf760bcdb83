"""Transactions over several workflows, as workloads: new, used, deleted and only read ones, and others meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from tests.crash.faults import Call, Fault
from tests.crash.runs import LARGE, Run, frequent_snapshots

Work = Callable[[Any], Any]


def _over_two(tx: Any) -> Any:
    tx.update_context("wf", variables={"two": 1})
    tx.create_workflow("born", "Born within a transaction", None, ["a", "b"])
    return "two"


def _over_three(tx: Any) -> Any:
    """One that is used and has a snapshot gets a value in blocks, one is made, and one is deleted."""
    tx.add_step_output("wf", "a", LARGE[1:] + b"3")
    tx.create_workflow("born", "Born within a transaction", None, ["a"])
    tx.delete_workflow("other")
    return 3


def transact_over_two(run: Run) -> None:
    run.transact(_over_two)
    run.write("update_context", "wf", variables={"n": "after"})


def transact_over_three(run: Run) -> None:
    run.transact(_over_three)
    run.write("update_step_status", "born", "a", "running")


def transact_over_ten(run: Run) -> None:
    def work(tx: Any) -> None:
        for number in range(9):
            tx.create_workflow(f"ten{number}", "One of ten", None, ["a"])
        tx.update_context("wf", variables={"ten": 10})

    run.transact(work)


def transact_reading_one(run: Run) -> None:
    """What two workflows become rests on a third, which is only read."""

    def work(tx: Any) -> None:
        seen = tx.load_workflow_state("other").context.variables.get("seen", "nothing")
        tx.update_context("wf", variables={"seen": seen})
        tx.create_workflow("born", "Born", None, ["a"])

    run.write("update_context", "other", variables={"seen": "this"})
    run.transact(work)


def transact_after_others_wrote(run: Run) -> None:
    run.write("update_context", "wf", variables={"n": "before"})
    with run.elsewhere() as other:
        run.write("update_context", "wf", variables={"other": 1}, by=other)
    run.transact(_over_two)


def transact_after_others_compacted(run: Run) -> None:
    run.write("update_context", "wf", variables={"n": "before"})
    with run.elsewhere() as other:
        run.write("update_context", "wf", variables={"other": 1}, by=other)
        run.upkeep("compact", by=other)
    run.transact(_over_two)


def transact_after_others_transacted(run: Run) -> None:
    with run.elsewhere() as other:
        run.transact(_over_two, by=other)
    run.transact(lambda tx: [tx.update_context(each, variables={"again": 1}) and None for each in ("born", "wf")])


def repeat_a_transaction(run: Run) -> None:
    run.transact(_over_two, times=2)


def repeat_what_others_transacted(run: Run) -> None:
    """Whoever repeats it has not read any of the workflows yet."""
    run.repeat(
        "transact",
        lambda wp, name: wp.transact(_over_two, operation_id=name),
        run.elsewhere(),
        nullcontext(run.wp),
    )


def transact_and_carry_out(run: Run) -> None:
    run.transact(_over_two)
    run.carry_out()
    run.transact(lambda tx: [tx.update_context(each, variables={"again": 1}) and None for each in ("born", "wf")])


def transact_and_tidy(run: Run) -> None:
    """A snapshot and a compaction while a decision is pending."""
    run.transact(_over_two)
    with frequent_snapshots():
        run.upkeep("snapshot")
    run.upkeep("compact")
    run.write("update_context", "born", variables={"n": "after"})


# --- stores with a decision that nobody carried out -----------------------------------------------


def _behind_the_decision(writes: int, torn: int | None = None) -> Fault:
    """The process dies after so many writes behind the decision; or within the next, when so much of it is written."""
    decided, left = False, writes

    def fault(call: Call) -> None:
        nonlocal decided, left
        decided |= call.name == "rename"
        if not decided or call.name != "pwrite":
            return
        if left:
            left -= 1
            return
        if torn is not None:
            descriptor, data, offset = call.args
            os.pwrite(descriptor, bytes(data)[:torn], offset)
        os.kill(os.getpid(), signal.SIGKILL)

    return fault


def die_decided(run: Run) -> None:
    run.transact_and_die(_over_three, lambda: _behind_the_decision(0))


def die_half_way(run: Run) -> None:
    """One of three logs has its frame, and another a part of it."""
    run.transact_and_die(_over_three, lambda: _behind_the_decision(1, torn=100))


SIMPLE: tuple[Callable[[Run], None], ...] = (transact_over_two, repeat_a_transaction)
"""For a new and for a used store."""
FOR_USED: tuple[Callable[[Run], None], ...] = (
    transact_over_three,
    transact_over_ten,
    transact_reading_one,
    transact_after_others_wrote,
    transact_after_others_compacted,
    transact_after_others_transacted,
    repeat_what_others_transacted,
    transact_and_carry_out,
    transact_and_tidy,
)
