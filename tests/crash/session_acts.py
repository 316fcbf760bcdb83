"""Workloads of sessions.

Their operations make commits that no caller named, one after the other, and may be cut between any two: each gets a
name here, by which it is found on disk, and the model is cut where one of them is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
from msgspec.structs import replace

from tests.crash.runs import Run, handle, open_store
from waypost import clock, session_records, session_states
from waypost.blocking import Waypost
from waypost.errors import SessionEnded, WaypostError
from waypost.operations import OperationResult, status_of
from waypost.session_records import TOUCHED
from waypost.store import Change, DocumentId, JointChange, Store
from waypost.store.memory import MemoryStore

HERE = clock.process_identity()  # also in forks of this process
DEAD = HERE._replace(pid=1 << 23, start=1)
"""No system has that pid."""
NEXT = HERE._replace(start=HERE.start + 1)
"""Who has the pid of this process when it is dead."""


@contextmanager
def being(who: clock.ProcessIdentity) -> Iterator[None]:
    """What is done meanwhile is done by that process; as `NEXT` by one that has the pid of this one, which is dead."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "process_identity", lambda: who)
        if who == NEXT:
            starts = clock.start_ticks
            patch.setattr(clock, "start_ticks", lambda pid: NEXT.start if pid == NEXT.pid else starts(pid))
        yield


# --- commits within operations --------------------------------------------------------------------


class Cut(BaseException):
    """The process that the model stands for had come no further."""


class _Watched:
    """A ticket that tells what became of its change."""

    def __init__(self, run: Run, name: str, ticket: Any) -> None:
        self._run, self._name, self._ticket = run, name, ticket

    def result(self) -> Any:
        try:
            receipt = self._ticket.result()
        except WaypostError as error:
            self._run.tell(f"{status_of(error)} {self._name} {type(error).__name__}: {error}")
            raise
        if receipt.changed:
            self._run.tell(f"acknowledged {self._name}")
        elif receipt.repeated is None:
            self._run.tell(f"unchanged {self._name}")
        return receipt


@contextmanager
def _naming(run: Run, store: Store, name: str) -> Iterator[None]:
    """The commits that are made meanwhile are named after an operation and what they are for, and told."""
    numbers = Counter[str]()
    left = {each for each in run.only or () if each == name or each.startswith(name + ".")}
    submit, commit = store.submit, store.commit

    def submit_told(change: Change, on_done: Any = None) -> Any:
        if not change.repeatable:
            purpose = f"{name}.{change.operation}:{change.document.id}"
            numbers[purpose] += 1
            change = replace(change, operation_id=f"{purpose}:{numbers[purpose]}")
        if run.is_model:
            return submit(replace(change, work=_cut_unless(run, change, left)), on_done)
        run.tell(f"attempt {change.operation_id}")
        return _Watched(run, change.operation_id, submit(change, on_done))

    def commit_told(joint: Any, change: JointChange) -> Any:
        if run.is_model and run.only is not None and change.operation_id not in run.only:
            raise Cut
        run.tell(f"attempt {change.operation_id}")
        return commit(joint, change)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "submit", submit_told)
        patch.setattr(store, "commit", commit_told)
        yield


def _cut_unless(run: Run, change: Change, left: set[str]) -> Callable[[Any], Any]:
    """The work of a change that is on disk, or that changes nothing. Where it is not and later ones are, it was left
    out; else it is where the operation came to its end.
    """

    def work(tx: Any) -> Any:
        before = tx.savepoint()
        data = change.work(tx)
        is_there = run.only is None or change.operation_id in run.only
        left.discard(change.operation_id)
        if not is_there and (change.repeatable or tx.staged.changes_anything):
            if not left:
                raise Cut
            tx.roll_back(before)
        return data

    return work


def _named(run: Run, operation: str) -> str | None:
    """The next operation's name; None where the model need not do it, since nothing of it is there."""
    run.count += 1
    run.operations.add(operation)
    name = f"{run.prefix}-{run.count}"
    if run.only is not None and not any(each == name or each.startswith(name + ".") for each in run.only):
        return None
    return name


def change(run: Run, operation: str, *args: Any, by: Waypost | None = None, **kwargs: Any) -> bool:
    """A write in a session's name, or of a session; others that have no name may come before it. Whether it is done."""
    wp, name = by or run.wp, _named(run, operation)
    if name is None:
        return False
    with _naming(run, wp.definitions.store, name), _by(run, by):
        try:
            result: OperationResult[Any] = getattr(wp, operation)(*args, operation_id=name, **kwargs)
        except Cut:
            return False
    run.settle(name, result)
    return bool(result)


def _by(run: Run, other: Waypost | None) -> AbstractContextManager[None]:
    return nullcontext() if other is None else run.shim.paused()


def refused(run: Run, session_id: str, *, by: Waypost | None = None) -> None:
    """A write in a session's name by one who may not write in it any more: it fails, whatever goes wrong beside."""
    with _by(run, by):
        result = (by or run.wp).update_context("wf", variables={"refused": 1}, session_id=session_id)
    assert not result, "he writes still"


def enter(run: Run, operation: str, *args: Any, by: Waypost | None = None, **kwargs: Any) -> bool:
    """Start or resume a session. Whether that was done: where it was not, nothing is held."""
    wp, name = by or run.wp, _named(run, operation)
    if name is None:
        return False
    held, entered = set(wp.definitions.sessions.held.held()), None
    if operation == "start_session":
        kwargs["operation_id"] = name
    try:
        with _naming(run, wp.definitions.store, name), _by(run, by):
            entered = getattr(wp, operation)(*args, **kwargs)
    except BaseException as error:
        if entered is None:  # else it was done, and only what stands around it was broken off
            with run.shim.paused():
                assert held >= set(wp.definitions.sessions.held.held()), "what was not entered is held"
        if isinstance(error, WaypostError):
            run.tell(f"failed {operation} {type(error).__name__}: {error}")
        elif not isinstance(error, Cut):
            raise
        return False
    finally:
        wp.definitions.session_id = None  # each write says in whose name it is
    return entered.status == "active"


def recover(run: Run, *, by: Waypost | None = None) -> None:
    wp, name = by or run.wp, _named(run, "detect_and_recover_crashed_sessions")
    if name is None:
        return
    with _naming(run, wp.definitions.store, name):
        try:
            wp.detect_and_recover_crashed_sessions()
        except WaypostError as error:
            run.tell(f"failed recovery {type(error).__name__}: {error}")
        except Cut:
            pass


@contextmanager
def _another(run: Run) -> Iterator[Waypost]:
    """Another process of this machine, whom no fault hits."""
    if run.is_model:
        yield handle(run.wp.definitions.store, run.options)
        return
    assert run.path is not None
    with run.shim.paused():
        store = open_store(run.path, run.options)
    try:
        yield handle(store, run.options)
    finally:
        with run.shim.paused():
            store.close()


# --- what was there before ------------------------------------------------------------------------


def owned_store(run: Run) -> None:
    """A process has died that held a session, in which it wrote to two workflows and announced a third."""
    steps = ["a", "b", "c"]
    with being(DEAD):
        run.write("create_workflow", "wf", "A workflow", None, steps)
        run.write("create_workflow", "other", "Another", None, ["x"])
        assert enter(run, "start_session", "user", {"e": 1}, {"p": 2}, session_id="s")
        assert change(run, "update_step_status", "wf", "a", "running", session_id="s")
        assert change(run, "update_context", "other", variables={"n": 1}, session_id="s")
        assert change(run, "create_workflow", "gone", "Gone", "s", ["a"])
        assert change(run, "delete_workflow", "gone", session_id="s")


def paused_store(run: Run) -> None:
    """The same, and the session was let go of before."""
    owned_store(run)
    with being(DEAD):
        assert change(run, "pause_session", "s")


# --- what is done ---------------------------------------------------------------------------------


def _write(run: Run, session_id: str, workflow_id: str = "wf", **kwargs: Any) -> None:
    change(run, "update_context", workflow_id, variables={"n": run.count}, session_id=session_id, **kwargs)


def start_a_session(run: Run) -> None:
    """The first write to a workflow is announced in a commit of its own, the second is not."""
    if enter(run, "start_session", "user", {"e": 1}, {"p": "x" * 50}, session_id="t"):
        _write(run, "t")
        _write(run, "t")
        change(run, "update_session", "t", environment={"e": 2, "f": 3})


def go_on_when_paused(run: Run) -> None:
    if enter(run, "resume_session", "s"):
        _write(run, "s")


def go_on_when_dead(run: Run) -> None:
    if enter(run, "resume_session", "s"):
        _write(run, "s")
        _write(run, "s", "other")


def take_over(run: Run) -> None:
    """From one who is alive; what he writes afterwards is refused."""
    with _another(run) as old:
        if enter(run, "resume_session", "s", by=old):
            _write(run, "s", by=old)
            if enter(run, "resume_session", "s", take_over=True):
                _write(run, "s")
                refused(run, "s", by=old)


def pause_a_session(run: Run) -> None:
    if enter(run, "start_session", session_id="t"):
        _write(run, "t")
        if change(run, "pause_session", "t"):
            refused(run, "t")
        enter(run, "resume_session", "t")


def end_a_session(run: Run) -> None:
    """Of a dead owner: one commit over it and its two workflows."""
    if change(run, "end_session", "s"):
        refused(run, "s")


def end_without_checkpoints(run: Run) -> None:
    if enter(run, "start_session", session_id="t"):
        _write(run, "t")
        if change(run, "end_session", "t", False):
            refused(run, "t")


def recover_sessions(run: Run) -> None:
    recover(run)
    recover(run)


def let_go_of_sessions(run: Run) -> None:
    """As closing a handle does."""
    if enter(run, "start_session", session_id="t"):
        name = _named(run, "pause_session")
        if name is not None:
            try:
                with _naming(run, run.wp.definitions.store, name):
                    run.wp.definitions.sessions.close()
            except Cut:
                pass


# --- what must hold -------------------------------------------------------------------------------


def sessions_of(store: Store) -> list[str]:
    """The sessions that were made."""
    found = [each for each in store.documents("session") if store.view(DocumentId("session", each)).version]
    return sorted(found)


def check_sessions(store: Store) -> None:
    """What holds of sessions, wherever what made them was cut."""
    for session_id in sessions_of(store):
        view = store.view(session_records.document_of(session_id))
        record, recovered = session_records.expect(view), session_records.recovery(view)
        assert (record.status == "active") == (record.owner is not None), record
        assert (record.status == "completed") == (record.ended_us is not None), record
        assert record.number >= 1
        if record.status == "crashed":
            assert recovered is not None and recovered.number == record.number, (record, recovered)
        announced = set(view.keys(TOUCHED))
        for workflow_id in store.documents("workflow"):
            workflow = store.view(DocumentId("workflow", workflow_id))
            number = session_records.number_in(workflow, session_id)
            assert number <= record.number, f"{workflow_id} knows the number {number} of {record}"
            is_linked = number > 0  # else it was a label, before there was a session of that name
            assert not is_linked or TOUCHED + workflow_id in announced, f"{workflow_id} was not announced"
            if recovered is not None and recovered.found is not None:
                assert not is_linked or number >= recovered.number, f"{workflow_id} was not fenced"


def let_owners_die(store: Store) -> None:
    """What the model's processes held is free, as the kernel has it."""
    assert isinstance(store, MemoryStore)
    store._claims.clear()


def go_on(wp: Waypost) -> None:
    """The owners are dead, and another process goes on: it recovers, twice to the same end, and resumes."""
    with being(NEXT):
        store = wp.definitions.store
        sessions = sessions_of(store)
        dry = wp.detect_and_recover_crashed_sessions(dry_run=True)
        plans = [wp.detect_and_recover_crashed_sessions() for _ in range(2)]
        versions = [_versions(store)]
        plans.append(wp.detect_and_recover_crashed_sessions())
        assert versions == [_versions(store)], "a recovery that was done is done again"
        assert plans[0] == plans[1] == plans[2]
        assert [each.session_id for each in dry] == [each.session_id for each in plans[0]]
        check_sessions(store)
        for session_id in sessions:
            _resume(wp, session_id)
        check_sessions(store)


def _versions(store: Store) -> list[int]:
    kinds = ("workflow", "session")
    return [store.view(DocumentId(kind, each)).version for kind in kinds for each in sorted(store.documents(kind))]


def _resume(wp: Waypost, session_id: str) -> None:
    store = wp.definitions.store
    before = session_records.expect(store.view(session_records.document_of(session_id)))
    state = wp.resume_session(session_id)
    wp.definitions.session_id = None
    written = wp.update_context("wf", variables={"go on": 1}, session_id=session_id, operation_id=f"go-on-{session_id}")
    if before.status == "completed":
        assert state.status == "completed" and isinstance(written.error, SessionEnded), written
        return
    written.unwrap()
    view = store.view(session_records.document_of(session_id))
    record = session_records.expect(view)
    assert record.number > before.number or before.status == "crashed", (before, record)
    looker = wp.definitions.sessions.looker
    for summary in session_states.workflows_of(looker, view):
        workflow = store.view(DocumentId("workflow", summary.id))
        assert session_records.number_in(workflow, session_id) == record.number, "the old tenure may write here"
