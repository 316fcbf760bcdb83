"""How operations are run and reported: results, failures nobody looked at, repeated operation ids, outcomes."""

from __future__ import annotations

import gc
import logging
import pickle
import warnings
from typing import Any

import pytest

from tests.conftest import StoreFactory, make_config
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import (
    OperationNotFound,
    StepNotFound,
    StorePoisoned,
    StoreUnavailable,
    WaypostError,
    WorkflowExists,
    WorkflowNotFound,
)
from waypost.models import WorkflowStep
from waypost.operations import Failure, Success, UnhandledFailureWarning, status_of
from waypost.store import Change, Counters, DocumentId, Receipt, Store, Ticket


@pytest.fixture
def one(wp: Waypost) -> Waypost:
    """A store with a workflow of one step that may be retried."""
    wp.create_workflow("w", "W", steps=[WorkflowStep("a", max_retries=5)]).unwrap()
    return wp


# --- results ---


def test_a_success_says_what_happened(one: Waypost) -> None:
    """A success is true, carries the data, and says how long it took and how durable it is."""
    result = one.update_step_status("w", "a", "running")
    assert isinstance(result, Success)
    assert result
    assert (result.success, result.error, result.repeated) == (True, None, False)
    assert result.data is result.unwrap()
    assert result.data.status == "running"
    assert result.durability == one.durability
    assert result.duration_ms > 0
    assert result.operation_id.startswith("op_")


def test_a_failure_says_what_went_wrong(one: Waypost) -> None:
    """A failure is false, has no data, and carries the error with code, message and details."""
    result = one.update_step_status("w", "x", "running")
    assert isinstance(result, Failure)
    assert not result
    assert (result.success, result.data, result.status) == (False, None, "rolled_back")
    assert (result.error.code, result.error.retryable) == ("step_not_found", False)
    assert str(result.error) == result.error.message
    assert result.error.details == {"workflow_id": "w", "step_id": "x"}
    with pytest.raises(StepNotFound) as caught:
        result.unwrap()
    assert caught.value is result.error


def test_trap_09_a_rolled_back_failure_changed_nothing(one: Waypost) -> None:
    """After a failure that says so, the workflow is at the same version with the same content."""
    before = one.load_workflow_state("w").unwrap()
    assert one.update_step_status("w", "a", "completed", object()).status == "rolled_back"  # type: ignore[union-attr]
    assert one.load_workflow_state("w").unwrap() == before


def test_what_an_operation_cost_is_counted(one: Waypost) -> None:
    """A result names bytes, operations, syncs and waiting of this one operation."""
    cost = one.update_step_status("w", "a", "completed", "x" * 1000).performance
    assert cost.memory_bytes > 1000
    written = Counters(bytes_read=1, bytes_written=50, reads=2, writes=3, syncs=1, raw_bytes=100, queue_wait_us=1500)
    cost = Success(
        data=None, operation_id="op", duration_ms=1.0, durability="power", counters=written
    ).performance  # fmt: skip
    assert (cost.bytes_read, cost.bytes_written, cost.io_operations, cost.syncs) == (1, 50, 5, 1)
    assert (cost.compression_ratio, cost.queue_wait_ms, cost.memory_bytes) == (2.0, 1.5, 100)


class Broken:
    """A store whose commits and views fail as told."""

    location = "broken:"
    durability = "power"

    def __init__(self, store: Store, error: BaseException, fail_views: bool = False) -> None:
        self._store = store
        self._error = error
        self._fail_views = fail_views

    def submit(self, change: Change, on_done: Any = None) -> Ticket:
        if self._fail_views:
            return self._store.submit(change, on_done)
        raise self._error

    def view_at(self, document: DocumentId, version: int) -> Any:
        raise self._error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def broken(store: Store, error: BaseException, fail_views: bool = False) -> Waypost:
    store_: Any = Broken(store, error, fail_views)
    return Waypost(Definitions(store_, make_config(), verbose=False))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StorePoisoned("sync failed"), "unknown"),
        (StoreUnavailable("lost", outcome="unknown"), "unknown"),
        (StoreUnavailable("disk full"), "rolled_back"),
        (WaypostError("no"), "rolled_back"),
    ],
)
def test_a_failure_says_whether_it_is_known_what_is_on_disk(one: Waypost, error: WaypostError, status: str) -> None:
    """Only an error after which the outcome is open makes a failure `unknown`."""
    assert status_of(error) == status
    result = broken(one.definitions.store, error).pause_workflow("w")
    assert isinstance(result, Failure)
    assert result.status == status


def test_a_commit_whose_result_cannot_be_read_is_not_called_rolled_back(one: Waypost) -> None:
    """If reading fails after the commit, the failure does not claim that nothing happened."""
    result = broken(one.definitions.store, StoreUnavailable("no descriptors"), fail_views=True).pause_workflow("w")
    assert isinstance(result, Failure)
    assert result.status == "unknown"
    assert one.load_workflow_state("w").unwrap().workflow.paused


@pytest.mark.parametrize("error", [ZeroDivisionError("bug"), KeyboardInterrupt()])
def test_bugs_and_interrupts_raise(one: Waypost, error: BaseException) -> None:
    """Only what Waypost itself refuses becomes a failure."""
    with pytest.raises(type(error)):
        broken(one.definitions.store, error).pause_workflow("w")


def test_misuse_raises(one: Waypost) -> None:
    """A call with arguments that no operation takes is a TypeError."""
    with pytest.raises(TypeError):
        one.update_step_status("w", "a", "running", stats=3)  # type: ignore[call-arg]


def test_reads_raise(one: Waypost) -> None:
    """Operations that give values raise their errors; loading gives a result."""
    with pytest.raises(WorkflowNotFound):
        one.get_step_output("x", "a")
    assert isinstance(one.load_workflow_state("x").error, WorkflowNotFound)


def test_errors_can_be_sent_between_processes(one: Waypost) -> None:
    """An error comes back from another process with its message and details."""
    error = one.load_workflow_state("x").error
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.details) == (type(error), str(error), error.details)  # type: ignore[union-attr]


# --- failures nobody looked at ---


def test_a_failure_nobody_looked_at_is_told(one: Waypost, caplog: pytest.LogCaptureFixture) -> None:
    """Dropping a failed result warns and logs, with the error and the operation id."""

    def drop() -> None:
        one.update_step_status("w", "x", "running", operation_id="my-op")
        gc.collect()

    with pytest.warns(UnhandledFailureWarning, match="has no step 'x'"):
        drop()
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.name == "waypost"
    assert "has no step 'x'" in record.getMessage()
    assert "my-op" in record.getMessage()


def unwrapped(result: Any) -> None:
    with pytest.raises(StepNotFound):
        result.unwrap()


@pytest.mark.parametrize(
    "look",
    [
        bool,
        repr,
        lambda result: result.error,
        lambda result: result.success,
        lambda result: result.status,
        lambda result: result.data,
        lambda result: unwrapped(result),
    ],
)
def test_a_failure_somebody_looked_at_is_not_told(one: Waypost, look: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Looking at a failure in any way is enough to keep it quiet."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        look(one.update_step_status("w", "x", "running"))
        gc.collect()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_success_may_be_dropped(one: Waypost) -> None:
    """Nobody has to look at what went well."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one.update_step_status("w", "a", "running")
        gc.collect()


# --- exactly once ---


def test_a_repeated_operation_gives_the_first_result(one: Waypost) -> None:
    """The same id again changes nothing, and gives the step as it was then, not as it is now."""
    first = one.update_step_status("w", "a", "running", operation_id="op1").unwrap()
    one.update_step_status("w", "a", "completed", 5).unwrap()
    version = one.load_workflow_state("w").unwrap().metadata.version
    again = one.update_step_status("w", "a", "running", operation_id="op1")
    assert isinstance(again, Success)
    assert again.repeated
    assert again.data == first
    assert again.data.status == "running"
    assert again.data.output is None
    assert one.load_workflow_state("w").unwrap().metadata.version == version


def test_every_write_can_be_repeated(wp: Waypost) -> None:
    """Each operation that writes does so once per operation id, and gives an equal result the second time."""
    writes: list[Any] = [
        lambda op: wp.create_workflow("w", "W", "s", ["a", "b"], operation_id=op),
        lambda op: wp.add_steps("w", ["c"], operation_id=op),
        lambda op: wp.update_step_status("w", "a", "completed", {"x": 1}, operation_id=op),
        lambda op: wp.add_step_output("w", "a", {"x": 2}, operation_id=op),
        lambda op: wp.update_agent_state("w", "agent", {"status": "busy"}, operation_id=op),
        lambda op: wp.update_context("w", variables={"v": 1}, operation_id=op),
        lambda op: wp.pause_workflow("w", operation_id=op),
        lambda op: wp.resume_workflow("w", operation_id=op),
        lambda op: wp.reset_step("w", "a", operation_id=op),
        lambda op: wp.save_workflow_state(wp.load_workflow_state("w").unwrap(), operation_id=op),
        lambda op: wp.delete_workflow("w", operation_id=op),
    ]
    first: list[Any] = []
    for number, write in enumerate(writes):
        first.append(write(f"op{number}").unwrap())
        version = wp.definitions.store.view(DocumentId("workflow", "w")).version
        again = write(f"op{number}")
        assert again.repeated
        assert again.data == first[-1]
        assert wp.definitions.store.view(DocumentId("workflow", "w")).version == version == number + 1
    for number, result in enumerate(first):
        if number != 9:  # saving would load a state first, and there is none any more
            assert writes[number](f"op{number}").unwrap() == result
    assert first[2].output == {"x": 1}
    assert wp.create_workflow("w", "W", operation_id="op0").unwrap().metadata.version == 1


def test_an_operation_that_changed_nothing_is_remembered(one: Waypost) -> None:
    """A repeated id is recognised even if the first time nothing had to be changed."""
    one.resume_workflow("w", operation_id="op").unwrap()
    one.pause_workflow("w").unwrap()
    again = one.resume_workflow("w", operation_id="op")
    assert isinstance(again, Success)
    assert again.repeated
    assert one.load_workflow_state("w").unwrap().workflow.paused


def test_a_failed_operation_may_be_tried_again_under_its_id(wp: Waypost) -> None:
    """What failed left nothing behind, its operation id included."""
    assert not wp.pause_workflow("w", operation_id="op")
    wp.create_workflow("w", "W").unwrap()
    assert not wp.create_workflow("w", "W", operation_id="other")
    result = wp.pause_workflow("w", operation_id="op")
    assert isinstance(result, Success)
    assert not result.repeated


# --- outcomes ---


def test_an_outcome_is_the_first_result(one: Waypost) -> None:
    """Whoever does not know whether an operation happened gets its first result, in whatever workflow it was."""
    one.create_workflow("v", "V").unwrap()
    made = one.update_step_status("w", "a", "running", operation_id="op1").unwrap()
    given = one.update_step_status("w", "a", "completed", 5)
    found = one.get_outcome("op1")
    assert (found.success, found.data, found.operation_id) == (True, made, "op1")
    assert one.get_outcome(given.operation_id).data.output == 5


def test_the_outcome_of_nothing_raises(one: Waypost) -> None:
    """An operation that failed, or never was, has no outcome."""
    refused = one.create_workflow("w", "W", operation_id="op1")
    assert isinstance(refused.error, WorkflowExists)
    for operation_id in ("op1", "never"):
        with pytest.raises(OperationNotFound):
            one.get_outcome(operation_id)


def test_an_outcome_is_not_denied_while_something_cannot_be_read(one: Waypost, store_factory: StoreFactory) -> None:
    """If a workflow cannot be read, it is not said that the operation never happened."""

    class Unreadable(Broken):
        def view(self, document: DocumentId, **_: Any) -> Any:
            raise self._error

    store: Any = Unreadable(one.definitions.store, StoreUnavailable("no descriptors"))
    with pytest.raises(StoreUnavailable):
        Waypost(Definitions(store, make_config(), verbose=False)).get_outcome("op1")


# --- whose commit ---


def test_a_commit_names_session_agent_and_operation(one: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write hands the store its operation, operation id, session and agent."""
    seen: list[Change] = []
    store = one.definitions.store
    submit = store.submit

    def spy(change: Change, on_done: Any = None) -> Ticket:
        seen.append(change)
        return submit(change, on_done)

    monkeypatch.setattr(store, "submit", spy)
    one.update_step_status("w", "a", "running", agent_id="agent", session_id="s", operation_id="op").unwrap()
    one.add_step_output("w", "a", 1, "agent").unwrap()
    one.update_agent_state("w", "x", {}).unwrap()
    assert [(one.operation, one.session, one.agent, one.repeatable) for one in seen] == [
        ("update_step_status", "s", "agent", True),
        ("add_step_output", None, "agent", False),
        ("update_agent_state", None, "x", False),
    ]
    assert seen[0].operation_id == "op"
    assert one.load_workflow_state("w").unwrap().step("a").agent_id == "agent"


def test_operations_are_logged_when_asked(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A verbose handle logs each operation with its outcome at DEBUG, and a quiet one logs nothing."""
    with caplog.at_level(logging.DEBUG, "waypost"):
        Waypost(Definitions(store, make_config(), verbose=False)).create_workflow("w", "W").unwrap()
        assert caplog.records == []
        loud = Waypost(Definitions(store, make_config(), verbose=True))
        loud.pause_workflow("w").unwrap()
        assert not loud.pause_workflow("x")
        loud.list_workflows()
    logged = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    assert [text.split(":")[0] for text in logged] == ["pause_workflow", "pause_workflow", "list_workflows"]
    assert "there is no workflow 'x'" in logged[1]


def test_a_receipt_of_a_change_that_was_seen_before_is_enough(one: Waypost) -> None:
    """A result is made of a receipt alone, so that it does not matter who waited for it, and where."""
    request: Any = one.definitions.update_step_status("w", "a", "running", operation_id="op")
    receipt: Receipt = one.definitions.store.submit(request.change()).result()
    assert request.done(receipt).unwrap().status == "running"
