"""Every public write operation as a workload: what was there before, and what is done.

A workload is written against the public operations alone, so the same functions run over a directory store with faults
in its way, and over the memory store, which tells what must be there. To add an operation: write a function that does
it by `run.write(...)`, and name it in `OPERATIONS`; it is then swept over a new and a used store by every fault.
`test_every_write_operation_has_a_workload` fails until that is done.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.crash.importing import import_session
from tests.crash.returning import RETURNING, carry_in, complete_steps, make_checkpoints
from tests.crash.runs import LARGE, NOW_US, Run, frequent_snapshots
from tests.crash.session_acts import (
    end_a_session,
    end_without_checkpoints,
    go_on_when_dead,
    go_on_when_paused,
    let_go_of_sessions,
    owned_store,
    pause_a_session,
    paused_store,
    recover_sessions,
    start_a_session,
    take_over,
)
from tests.crash.transacting import FOR_USED, SIMPLE, die_decided, die_half_way, transact_over_two
from tests.totals import ring_size
from waypost import clock
from waypost.models import WorkflowContext, WorkflowStep
from waypost.store.directory import lease, upkeep

T = TypeVar("T")

DAY_US = 24 * 3600 * 1_000_000

Act = Callable[[Run], None]
Disturb = Callable[[Path], None]


# --- what was there before --------------------------------------------------------------------


def no_store(_: Run) -> None:
    """Nothing at all."""


def empty_store(run: Run) -> None:
    """A store without any workflow."""


def new_store(run: Run) -> None:
    """A workflow that was just made."""
    steps = [WorkflowStep(id=name, name=name, agent_id="agent") for name in "abc"]
    run.write("create_workflow", "wf", "A workflow", "session", steps, context=WorkflowContext(variables={"n": 0}))
    run.write("update_step_status", "wf", "a", "running")
    run.write("update_step_status", "wf", "a", "completed", {"rows": 1})


def used_store(run: Run) -> None:
    """Two workflows, one of them with history, a compaction, snapshots, and a value in blocks."""
    new_store(run)
    run.write("create_workflow", "other", "Another workflow", None, ["x", "y"])
    run.write("add_step_output", "wf", "a", LARGE)
    run.write("update_agent_state", "wf", "agent", {"status": "busy"})
    for number in range(12):
        run.write("update_context", "wf", variables={f"v{number % 5}": "text " * number})
    run.upkeep("compact")
    for number in range(6):
        run.write("add_step_output", "wf", "a", {"rows": number})
    with frequent_snapshots():
        run.upkeep("snapshot")
    for number in range(4):
        run.write("update_context", "wf", variables={"n": number})


def aged_store(run: Run) -> None:
    """As a used one, whose first half was written 40 days ago."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now_us", lambda: NOW_US - 40 * DAY_US)
        used_store(run)
    for number in range(4):
        run.write("update_context", "wf", variables={"young": number})


def decided_store(run: Run) -> None:
    """As a used one; a transaction over three workflows was decided, and its process died before it wrote a frame."""
    used_store(run)
    die_decided(run)


def half_decided_store(run: Run) -> None:
    """As a used one; of a transaction over three workflows one log has its frame, and another a torn one."""
    used_store(run)
    die_half_way(run)


# --- what other processes left behind -----------------------------------------------------------


def untouched(_: Path) -> None:
    pass


def log_end(data: bytes) -> int:
    """Where the last frame of a log ends, by the lengths alone."""
    offset = 0
    while data[offset : offset + 4] == b"WPF\x01":
        offset += struct.unpack_from("<I", data, offset + 8)[0]
    return offset


def torn_tail(path: Path) -> None:
    """A writer died in the middle of a frame, with fill behind it."""
    log = path / "workflows" / "wf.state"
    data = bytearray(log.read_bytes())
    end = log_end(data)
    torn = bytes(data[:1]) and bytes(data[end - 300 : end - 20])
    data[end : end + 4 + len(torn)] = b"WPF\x01" + torn
    log.write_bytes(bytes(data) + bytes(5000))


def torn_beginning(path: Path) -> None:
    """A writer died in the middle of the first write of a workflow."""
    log = path / "workflows" / "wf.state"
    (path / "workflows" / "born.state").write_bytes(log.read_bytes()[:77] + bytes(4096))


def leftovers(path: Path) -> None:
    """A compaction died, and so did somebody who was making a lease."""
    (path / "temp" / "0123456789abcdef.new").write_bytes((path / "workflows" / "wf.state").read_bytes()[:1000])
    (path / "temp" / "fedcba9876543210.new").write_bytes(b"")


def lease_of_an_earlier_boot(path: Path) -> None:
    """This machine went down while somebody was writing."""
    holder = lease.Holder(clock.host(), "an-earlier-boot", "2026-01-01T00:00:00+00:00")
    (path / "lease").write_bytes(lease._text(holder))


def half_made(path: Path) -> None:
    """Whoever made the store died before it was one."""
    (path / "FORMAT").unlink()
    (path / ".gitignore").unlink()


# --- what is done -----------------------------------------------------------------------------


def create_workflow(run: Run) -> None:
    steps = [WorkflowStep(id="one", name="one"), WorkflowStep(id="two", name="two", dependencies=["one"])]
    run.write("create_workflow", "made", "Made", "session", steps, context=WorkflowContext(variables={"k": "v"}))
    run.write("update_step_status", "made", "one", "running")


def start_and_complete_a_step(run: Run) -> None:
    run.write("update_step_status", "wf", "b", "running")
    run.write("update_step_status", "wf", "b", "completed", {"rows": 12, "text": "done"})


def fail_a_step(run: Run) -> None:
    run.write("update_step_status", "wf", "b", "running")
    run.write("update_step_status", "wf", "b", "failed", error="it broke")


def add_a_small_output(run: Run) -> None:
    run.write("add_step_output", "wf", "a", {"small": True})
    run.write("add_step_output", "wf", "a", [1, 2, 3])


def add_a_large_output(run: Run) -> None:
    run.write("add_step_output", "wf", "a", LARGE[::-1])
    run.write("add_step_output", "wf", "a", {"after": "it"})


def stream_outputs(run: Run) -> None:
    """From a file that can seek, and from one that is spooled first; their blocks are written ahead of the commits."""
    with _equal_names():
        run.write("add_step_output", "wf", "a", BytesIO(LARGE[::-1]))
        run.write("update_step_status", "wf", "b", "running")
        run.write("update_step_status", "wf", "b", "completed", Pipe(LARGE[1:]))


def repeat_a_stream_of_others(run: Run) -> None:
    """Whoever repeats it has not read the workflow yet, and takes nothing in."""
    with _equal_names():
        run.repeat(
            "add_step_output",
            lambda wp, name: wp.add_step_output("wf", "a", BytesIO(LARGE[::-1]), operation_id=name),
            run.elsewhere(),
            nullcontext(run.wp),
        )


class Pipe(BytesIO):
    """A file that cannot seek."""

    def seekable(self) -> bool:
        return False


@contextmanager
def _equal_names() -> Iterator[None]:
    """The part of a value that is taken in ahead has a name that is drawn; here it is the model's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "new_id", lambda prefix: f"{prefix}_equal")
        yield


def save_a_state(run: Run) -> None:
    def change(state: Any) -> None:
        state.context.variables["saved"] = "by hand"
        state.workflow.name = "Renamed"

    run.edit("wf", change)
    run.write("update_context", "wf", variables={"n": "then"})


def change_agent_and_context(run: Run) -> None:
    run.write("update_agent_state", "wf", "agent", {"status": "idle", "current_task": "none"})
    run.write("update_context", "wf", variables={"n": 1}, configuration={"c": 2}, features={"f": True})


def add_and_reset_steps(run: Run) -> None:
    run.write("add_steps", "wf", ["d", WorkflowStep(id="e", name="e", dependencies=["a"])])
    run.write("reset_step", "wf", "a", cascade=True)


def pause_and_resume(run: Run) -> None:
    run.write("pause_workflow", "wf")
    run.write("resume_workflow", "wf")


def delete_and_make_anew(run: Run) -> None:
    run.write("delete_workflow", "wf")
    run.write("create_workflow", "wf", "Anew", None, ["a", "b"])


def commit_a_batch(run: Run) -> None:
    run.write_together(
        ("update_step_status", ("wf", "b", "running")),
        ("add_step_output", ("wf", "a", {"batch": 1})),
        ("add_step_output", ("wf", "c", LARGE[:5000])),
    )


def repeat_an_operation(run: Run) -> None:
    """The same operation id twice, as after an answer that was lost."""
    run.repeat("add_step_output", _add_once, nullcontext(run.wp), nullcontext(run.wp))


def repeat_what_others_did(run: Run) -> None:
    """Whoever repeats it has not read the workflow yet."""
    run.repeat("add_step_output", _add_once, run.elsewhere(), nullcontext(run.wp))


def _add_once(wp: Any, name: str) -> Any:
    return wp.add_step_output("wf", "a", "once", operation_id=name)


def take_a_snapshot(run: Run) -> None:
    run.write("update_context", "wf", variables={"n": "before"})
    with frequent_snapshots():
        run.upkeep("snapshot")
    run.write("update_context", "wf", variables={"n": "after"})


def compact(run: Run) -> None:
    run.write("update_context", "wf", variables={"n": "before"})
    run.upkeep("compact")
    run.write("update_context", "wf", variables={"n": "after"})


def compact_while_others_commit(run: Run) -> None:
    """Another process commits between the writing of the new log and the switch, which carries it over."""
    run.write("update_context", "wf", variables={"n": "before"})
    switch = upkeep._switch

    def others_first(*args: Any) -> bool:
        _others_commit(run)
        return switch(*args)

    run.group("others")
    if run.is_model:
        _others_commit(run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upkeep, "_switch", others_first)
        run.upkeep("compact")
    run.group("late")
    run.write("update_context", "wf", variables={"n": "after"})


def _others_commit(run: Run) -> None:
    with run.elsewhere() as other:
        run.write("update_context", "wf", variables={"meanwhile": LARGE[:5000]}, by=other)


def write_after_others_compacted(run: Run) -> None:
    run.write("update_context", "wf", variables={"n": "before"})
    with run.elsewhere() as other:
        run.write("update_context", "wf", variables={"other": 1}, by=other)
        run.upkeep("compact", by=other)
    run.write("update_context", "wf", variables={"n": "after"})


def write_after_others_wrote(run: Run) -> None:
    run.write("update_context", "wf", variables={"n": "before"})
    with run.elsewhere() as other:
        run.write("update_context", "wf", variables={"other": 1}, by=other)
    run.write("update_context", "wf", variables={"n": "after"})


def write_one(run: Run) -> None:
    run.write("update_context", "wf", variables={"n": "one"})


def transact_over_what_was_decided(run: Run) -> None:
    def work(tx: Any) -> None:
        tx.update_context("born", variables={"again": 1})
        tx.create_workflow("other", "Deleted within a transaction, and made anew", None, ["a"])

    run.transact(work)


def make_the_first(run: Run) -> None:
    run.write("create_workflow", "born", "Born", None, ["a"])


def do_nothing(_: Run) -> None:
    pass


# --- the table --------------------------------------------------------------------------------


ACT = frozenset({"act"})
CLOSE = frozenset({"close"})
ALL = frozenset({"open", "act", "close"})


@dataclass(frozen=True, eq=False)
class Workload:
    """What is done, in which condition, and which parts of it faults hit.

    `killed` says that the process that prepared the store died: no seal, a lease, fill.
    """

    name: str
    act: Act
    prepare: Act = new_store
    disturb: Disturb = untouched
    options: str = "chunked"
    phases: frozenset[str] = ACT
    killed: bool = False
    share: int = 1
    """With each change, of the calls that could be broken, one in so many is: there is more to look at in each case."""

    def some(self, cases: Sequence[T], turn: int = 0) -> Sequence[T]:
        """Its share of cases; of one in so many which one, by turns. At night all of them."""
        share = ring_size(self.share, 1)
        return cases[turn % share :: share]

    @property
    def is_plain(self) -> bool:
        """Whether it makes the calls of any other write, and no more."""
        return self.act in PLAIN and self.phases == ACT and self.options == "chunked"

    @property
    def condition(self) -> tuple[str, str, bool, str]:
        """Workloads of one condition begin with equal stores."""
        return self.prepare.__name__, self.disturb.__name__, self.killed, self.options


PLAIN: tuple[Act, ...] = (
    start_and_complete_a_step,
    fail_a_step,
    add_a_small_output,
    add_a_large_output,
    change_agent_and_context,
    add_and_reset_steps,
    pause_and_resume,
    delete_and_make_anew,
)
"""The calls of these are alike: a document is opened, and twice or three times one frame is written to it."""
OPERATIONS: tuple[Act, ...] = (
    *PLAIN,
    create_workflow,
    save_a_state,
    commit_a_batch,
    repeat_an_operation,
    take_a_snapshot,
    compact,
    compact_while_others_commit,
    write_after_others_compacted,
    write_after_others_wrote,
    *SIMPLE,
)
"""Each is swept over a new and over a used store."""


def _table() -> Iterator[Workload]:
    for act in OPERATIONS:
        for prepare in (new_store, used_store):
            yield Workload(f"{act.__name__}-{prepare.__name__}", act, prepare)
    yield Workload("stream_outputs", stream_outputs, used_store)
    yield Workload("repeat_a_stream_of_others", repeat_a_stream_of_others, used_store)
    yield Workload("repeat_what_others_did", repeat_what_others_did, used_store)
    for act in FOR_USED:
        yield Workload(act.__name__, act, used_store)
    for prepare in (decided_store, half_decided_store):
        yield Workload(f"open_a_{prepare.__name__}", write_one, prepare, phases=ALL, killed=True)
        yield Workload(f"close_a_{prepare.__name__}", do_nothing, prepare, phases=CLOSE, killed=True)
        yield Workload(f"transact_in_a_{prepare.__name__}", transact_over_what_was_decided, prepare, killed=True)
    for act in (*RETURNING, import_session):
        yield Workload(act.__name__, act, new_store)
    for act in (start_a_session, pause_a_session, end_without_checkpoints, let_go_of_sessions):
        yield Workload(act.__name__, act, new_store, share=4)
    for act in (go_on_when_paused, take_over):
        yield Workload(act.__name__, act, paused_store, share=8)
    for act in (go_on_when_dead, end_a_session, recover_sessions):
        yield Workload(act.__name__, act, owned_store, killed=True, share=8)
    yield Workload("complete_steps_and_let_go", complete_steps, new_store, options="keeping", phases=ACT | CLOSE)
    yield Workload("close_with_pending_checkpoints", make_checkpoints, used_store, phases=CLOSE)
    yield Workload("close_after_an_import", carry_in, used_store, phases=CLOSE)
    yield Workload("close_after_a_transaction", transact_over_two, used_store, phases=CLOSE)
    yield Workload("make_a_store", make_the_first, no_store, phases=ALL)
    yield Workload("finish_a_half_made_store", make_the_first, empty_store, half_made, phases=ALL)
    yield Workload("open_write_close-new_store", write_one, new_store, phases=ALL)
    yield Workload("open_write_close-used_store", write_one, used_store, phases=ALL)
    yield Workload("open_after_a_kill", write_one, used_store, phases=ALL, killed=True)
    yield Workload("open_after_a_torn_tail", write_one, used_store, torn_tail, phases=ALL, killed=True)
    yield Workload("open_after_a_torn_beginning", make_the_first, new_store, torn_beginning, phases=ALL)
    yield Workload("open_with_leftovers", write_one, new_store, leftovers, phases=ALL)
    yield Workload("take_a_lease_over", write_one, new_store, lease_of_an_earlier_boot, phases=ALL)
    yield Workload("compact_shortening_history", compact, aged_store)
    yield Workload("close_after_work", change_agent_and_context, used_store, phases=CLOSE)
    yield Workload("close_without_work", do_nothing, new_store, phases=CLOSE)
    yield Workload("relaxed_durability", start_and_complete_a_step, used_store, options="relaxed", phases=ACT | CLOSE)
    yield Workload("without_compression", add_a_large_output, used_store, options="plain")


WORKLOADS: tuple[Workload, ...] = tuple(_table())
