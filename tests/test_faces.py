"""The two faces: the same operations with the same signatures, and how each of them waits."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.conftest import make_config
from waypost.api import AsyncWaypost, open_async
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import InvalidConfiguration, StepNotFound, StoreClosed, StoreUnavailable, WaypostError
from waypost.operations import OperationResult, Request
from waypost.store import Change, OnDone, Receipt, Store, Ticket

OPERATIONS = [
    *(name for name in dir(Definitions) if not name.startswith("_") and name not in ("close", "in_session", "spool")),
    "transact",
    "emit_hook_event",
]
REPORTED = {
    name for name in OPERATIONS if not name.startswith(("export_", "get_", "list_", "migrate_", "open_", "validate_"))
}
REPORTED -= {
    "history",
    "diff",
    "blame",
    "rotate_secrets",
    "start_session",
    "resume_session",
    "detect_and_recover_crashed_sessions",
}


# --- the same on both ---


def public(face: type) -> set[str]:
    return {name for name in vars(face) if not name.startswith("_")}


def test_both_faces_have_every_operation() -> None:
    """Each operation that is defined is on both faces, and neither has one that the other lacks."""
    assert len(OPERATIONS) >= 16
    assert set(OPERATIONS) <= public(Waypost)
    # what the asynchronous face has beside is how it performs a request
    assert public(Waypost) - {"definitions", "transaction"} == public(AsyncWaypost) - {"perform"}


@pytest.mark.parametrize("name", [*OPERATIONS, "run", "watch", "close"])
def test_signatures_are_equal(name: str) -> None:
    """An operation takes the same arguments on both faces and gives the same, awaited or not."""
    blocking, awaited = (inspect.signature(getattr(face, name)) for face in (Waypost, AsyncWaypost))
    assert blocking.parameters == awaited.parameters
    if name not in ("run", "watch"):
        assert blocking.return_annotation == awaited.return_annotation
    assert inspect.iscoroutinefunction(getattr(AsyncWaypost, name)) == (name not in ("run", "watch"))


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_documented(name: str) -> None:
    """Help on an operation shows its own signature and sentence, not those of what wraps it."""
    for face in (Waypost, AsyncWaypost):
        method = getattr(face, name)
        assert method.__name__ == name
        assert (method.__doc__ or "").strip()
        shown = inspect.signature(method)
        assert next(iter(shown.parameters)) == "self"
        assert "Request" not in str(shown.return_annotation)
        assert str(shown.return_annotation).startswith("OperationResult[") == (name in REPORTED)


def test_every_write_takes_an_operation_id_and_a_session() -> None:
    """Whatever changes something can be repeated safely, and says in which session it was done."""
    # what is done to the whole store is no commit, or is many
    for name in REPORTED - {"load_workflow_state", "backup", "restore_backup", "cleanup", "sync"}:
        parameters = inspect.signature(getattr(Waypost, name)).parameters
        assert parameters["operation_id"].default is None
        if name == "import_session":  # it says itself whose session it is
            continue
        is_of_session = name.endswith("_session")
        assert parameters["session_id"].default is (inspect.Parameter.empty if is_of_session else None)


async def test_both_faces_give_equal_results(wp: Waypost, awp: AsyncWaypost) -> None:
    """What one face writes the other reads, and both report alike."""
    made = (await awp.create_workflow("w", "W", steps=["a"])).unwrap()
    assert made == wp.load_workflow_state("w").unwrap()
    step = wp.update_step_status("w", "a", "completed", {"rows": 1}, operation_id="op").unwrap()
    again = await awp.update_step_status("w", "a", "completed", {"rows": 1}, operation_id="op")
    assert (again.unwrap(), again.success) == (step, True)
    assert (await awp.get_step_output("w", "a")).output == {"rows": 1}
    refused = await awp.update_step_status("w", "x", "running")
    assert isinstance(refused.error, StepNotFound)
    with pytest.raises(StepNotFound):
        await awp.get_step_output("w", "x")
    assert (await awp.list_workflows()).items == wp.list_workflows().items
    assert (await awp.get_outcome("op")).data == step
    assert (await awp.validate_workflow_state("w")).is_valid


# --- opening and closing ---


def test_open_is_a_context_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving the block closes the store, and a closed store refuses aloud."""
    monkeypatch.chdir(tmp_path)
    with waypost.open("memory:") as wp:
        wp.create_workflow("w", "W").unwrap()
        assert (wp.location, wp.durability) == ("memory:", "none")
    assert isinstance(wp.load_workflow_state("w").error, StoreClosed)
    assert isinstance(wp.pause_workflow("w").error, StoreClosed)
    wp.close()
    assert list(tmp_path.iterdir()) == []


async def test_open_async_can_be_entered_or_awaited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The asynchronous face opens by `async with`, and by `await` with a close of one's own."""
    monkeypatch.chdir(tmp_path)
    async with waypost.open_async("memory:") as awp:
        (await awp.create_workflow("w", "W")).unwrap()
    assert isinstance((await awp.pause_workflow("w")).error, StoreClosed)
    awp = await open_async("memory:", preset="development")
    assert (await awp.create_workflow("w", "W")).success
    await awp.close()
    await awp.close()


async def test_a_closed_handle_refuses_reads_too(awp: AsyncWaypost) -> None:
    """After closing, loading and listing are refused like writing is."""
    await awp.list_workflows()
    await awp.close()
    assert isinstance((await awp.load_workflow_state("w")).error, StoreClosed)
    with pytest.raises(StoreClosed):
        await awp.list_workflows()


def test_opening_says_when_it_makes_a_store(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A store that is made is told at INFO with its place; one that is there is opened without a word."""
    place = str(tmp_path / "state")
    with caplog.at_level(logging.INFO, "waypost"):
        waypost.open(place).close()
        assert [record.getMessage() for record in caplog.records] == [f"created a store in {place}"]
        caplog.clear()
        waypost.open(place).close()
        assert caplog.records == []


def test_trap_04_options_reach_what_they_are_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options given to `open` take effect, and one that is unknown is an error."""
    monkeypatch.chdir(tmp_path)
    with waypost.open("memory:", config={"steps": {"enforce_dependencies": False}}) as wp:
        steps: list[Any] = ["a", waypost.WorkflowStep("b", dependencies=["a"])]
        wp.create_workflow("w", "W", steps=steps).unwrap()
        assert wp.update_step_status("w", "b", "running").success
    with pytest.raises(InvalidConfiguration):
        waypost.open("memory:", config={"steps": {"enforce": False}})
    with pytest.raises(InvalidConfiguration):
        waypost.open("memory:", preset="fast")


def test_less_than_power_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Opening a store that does not survive a loss of power says so, once; development logs its operations."""
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.DEBUG, "waypost"):
        with waypost.open("memory:", preset="development") as wp:
            wp.list_workflows()
        told = [record for record in caplog.records if "durable" in record.getMessage()]
        assert [record.levelname for record in told] == ["INFO"]
        assert any(record.levelname == "DEBUG" for record in caplog.records)
        caplog.clear()
        with waypost.open("memory:") as wp:
            wp.list_workflows()
        assert [record.levelname for record in caplog.records] == ["INFO"]


# --- no lost updates in one process ---


def test_trap_07_threads_lose_no_update(wp: Waypost) -> None:
    """Of updates by many threads at once every one that was acknowledged is there."""
    wp.create_workflow("w", "W", steps=map(str, range(64))).unwrap()

    def work(number: int) -> None:
        wp.update_step_status("w", str(number), "running").unwrap()
        wp.update_step_status("w", str(number), "completed", number).unwrap()
        wp.add_step_output("w", "0", number).unwrap()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(64)))
    state = wp.load_workflow_state("w").unwrap()
    assert state.workflow.progress == 100
    assert [state.step(str(number)).output for number in range(1, 64)] == list(range(1, 64))
    assert sorted(wp.get_step_output("w", "0", version).output for version in range(1, 66)) == sorted([0, *range(64)])
    assert state.metadata.version == 1 + 3 * 64


async def test_trap_07_tasks_lose_no_update(awp: AsyncWaypost) -> None:
    """Of updates by 64 tasks at once every one that was acknowledged is there."""
    (await awp.create_workflow("w", "W", steps=map(str, range(64)))).unwrap()

    async def work(number: int) -> None:
        (await awp.update_step_status("w", str(number), "completed", number)).unwrap()
        (await awp.update_context("w", variables={str(number): number})).unwrap()

    await asyncio.gather(*(work(number) for number in range(64)))
    state = (await awp.load_workflow_state("w")).unwrap()
    assert [state.step(str(number)).output for number in range(64)] == list(range(64))
    assert state.context.variables == {str(number): number for number in range(64)}


# --- waiting without blocking ---


@dataclass(eq=False)
class Held:
    """A change that a slow store was handed; fulfils `Ticket`."""

    change: Change
    on_done: OnDone
    ticket: Ticket | None = None

    def result(self) -> Receipt:
        assert self.ticket is not None
        return self.ticket.result()


class Slow:
    """A store that commits when it is told to, in a thread of its own."""

    durability = "power"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: list[Held] = []
        self.readers: set[str] = set()

    def submit(self, change: Change, on_done: OnDone | None = None) -> Ticket:
        assert on_done is not None, "an asynchronous caller never waits in the store"
        self._held.append(Held(change, on_done))
        return self._held[-1]

    def release(self) -> None:
        held, self._held = self._held, []
        thread = threading.Thread(target=self._commit, args=(held,))
        thread.start()
        thread.join()

    def _commit(self, held: list[Held]) -> None:
        for each in held:
            each.ticket = self._store.submit(each.change)
            try:
                each.result()
            except WaypostError:
                pass  # whoever takes the ticket gets it again
            each.on_done([each])

    def view(self, *args: Any, **kwargs: Any) -> Any:
        self.readers.add(threading.current_thread().name)
        return self._store.view(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def slow(store: Store) -> Slow:
    """A slow store with a workflow of three steps."""
    Waypost(Definitions(store, make_config(), verbose=False)).create_workflow("w", "W", steps=["a", "b", "c"]).unwrap()
    return Slow(store)


@pytest.fixture
def waiting(slow: Slow) -> AsyncWaypost:
    """An asynchronous handle over the slow store."""
    store: Any = slow
    return AsyncWaypost(Definitions(store, make_config(), verbose=False))


async def test_the_loop_goes_on_while_a_commit_is_made(slow: Slow, waiting: AsyncWaypost) -> None:
    """Awaiting a write leaves the loop free until the store has made it durable."""
    task = asyncio.create_task(waiting.update_step_status("w", "a", "running"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    slow.release()
    assert (await task).unwrap().status == "running"


async def test_commits_that_finish_together_wake_the_loop_once(
    slow: Slow, waiting: AsyncWaypost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many commits one batch holds, the loop is called once for it."""
    loop = asyncio.get_running_loop()
    calls: list[Any] = []
    call = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *args: (calls.append(args), call(*args))[1])
    tasks = [asyncio.create_task(waiting.update_step_status("w", name, "running")) for name in "abc"]
    await asyncio.sleep(0)
    slow.release()
    assert [(await task).unwrap().id for task in tasks] == ["a", "b", "c"]
    assert len(calls) == 1


async def test_cancelling_does_not_undo(slow: Slow, waiting: AsyncWaypost) -> None:
    """A write whose caller was cancelled is made all the same, and its outcome can be asked for."""
    task = asyncio.create_task(waiting.update_step_status("w", "a", "running", operation_id="op"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    slow.release()
    assert (await waiting.get_outcome("op")).data.status == "running"


async def test_a_failure_after_cancelling_is_logged(
    slow: Slow, waiting: AsyncWaypost, caplog: pytest.LogCaptureFixture
) -> None:
    """A write that fails when nobody waits for it any more does not fail in silence."""
    task = asyncio.create_task(waiting.update_step_status("w", "x", "running"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    slow.release()
    await asyncio.sleep(0)
    assert any("has no step 'x'" in record.getMessage() for record in caplog.records)


async def test_reads_run_in_threads_of_the_handle(slow: Slow, waiting: AsyncWaypost) -> None:
    """What may have to read a disk is not read in the thread of the loop."""
    (await waiting.load_workflow_state("w")).unwrap()
    await waiting.list_workflows()
    assert slow.readers
    assert all(name.startswith("waypost-reader") for name in slow.readers)
    await waiting.close()


async def test_a_store_that_fails_is_a_failure(waiting: AsyncWaypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the store at handing over is reported like any other, and a bug raises."""

    def refuse(change: Change, on_done: Any = None) -> Ticket:
        raise error

    monkeypatch.setattr(waiting.definitions.store, "submit", refuse)
    error: BaseException = StoreUnavailable("disk full")
    assert (await waiting.pause_workflow("w")).error is error
    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await waiting.pause_workflow("w")


async def test_a_cancelled_opening_leaves_no_store_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gives up while a store is being opened leaves none behind."""
    closed = threading.Event()
    may_open = threading.Event()

    class Opened:
        close = closed.set

    def slowly(*args: Any) -> Any:
        may_open.wait(60)
        return Opened

    monkeypatch.setattr("waypost.api.open_definitions", slowly)
    task = asyncio.ensure_future(open_async("memory:").__aenter__())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    may_open.set()
    assert await asyncio.to_thread(closed.wait, 60)


def test_a_handle_serves_one_loop_after_another(awp: AsyncWaypost) -> None:
    """A handle outlives the loop it was first used in."""
    assert asyncio.run(awp.create_workflow("w", "W")).success
    assert asyncio.run(awp.pause_workflow("w")).unwrap().workflow.paused


def test_requests_do_nothing_until_they_are_run(wp: Waypost) -> None:
    """Defining an operation checks nothing and writes nothing, so that every refusal is reported alike."""
    request: Request[OperationResult[Any]] = wp.definitions.create_workflow("", "W", steps=["a", "a"])
    assert wp.list_workflows().total == 0
    assert not request.run()


def test_a_receipt_counts(wp: Waypost) -> None:
    """What the store counted for a commit is what the result tells."""
    wp.create_workflow("w", "W").unwrap()
    store = wp.definitions.store
    request: Any = wp.definitions.pause_workflow("w")
    receipt: Receipt = store.submit(request.change()).result()
    assert request.done(receipt).counters is receipt.counters
