"""`transact` and `transaction`: changes of several workflows, all of them or none."""

from __future__ import annotations

import inspect
import threading
from pathlib import Path
from typing import Any

import pytest

import waypost
from waypost import StepNotFound, VersionConflict, WorkflowExists, WorkflowNotFound, WorkflowTransaction
from waypost.api import AsyncWaypost
from waypost.blocking import Waypost
from waypost.errors import InvalidInput


@pytest.fixture
def two(wp: Waypost) -> Waypost:
    """A handle over the workflows `from`, with 3 in hand, and `to`, with nothing."""
    for name, amount in (("from", 3), ("to", 0)):
        context = waypost.WorkflowContext(variables={"amount": amount})
        wp.create_workflow(name, name, steps=["a", "b"], context=context).unwrap()
    return wp


def amount(handle: Waypost | WorkflowTransaction, name: str) -> int:
    loaded = handle.load_workflow_state(name)
    state = loaded if isinstance(loaded, waypost.WorkflowState) else loaded.unwrap()
    return state.context.variables["amount"]


def move(tx: WorkflowTransaction, by: int = 1) -> int:
    taken = amount(tx, "from") - by
    if taken < 0:
        raise StepNotFound("nothing is left")
    tx.update_context("from", variables={"amount": taken})
    tx.update_context("to", variables={"amount": amount(tx, "to") + by})
    return taken


def test_all_changes_are_committed_together(two: Waypost) -> None:
    assert two.transact(move).unwrap() == 2
    assert (amount(two, "from"), amount(two, "to")) == (2, 1)


async def test_the_awaited_face_does_the_same(two: Waypost, awp: AsyncWaypost) -> None:
    assert (await awp.transact(move)).unwrap() == 2
    assert amount(two, "to") == 1


def test_what_the_work_raises_undoes_all_of_it(two: Waypost) -> None:
    def half_way(tx: WorkflowTransaction) -> None:
        tx.update_context("from", variables={"amount": 0})
        tx.create_workflow("new", "New")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        two.transact(half_way)
    failed = two.transact(lambda tx: (move(tx), tx.load_workflow_state("none")))
    assert failed.error is not None
    assert (failed.error.code, failed.status) == ("workflow_not_found", "rolled_back")
    assert (amount(two, "from"), amount(two, "to")) == (3, 0)
    assert two.load_workflow_state("new").error is not None


def test_an_operation_that_fails_is_taken_back_alone(two: Waypost) -> None:
    def go_on(tx: WorkflowTransaction) -> None:
        tx.update_step_status("from", "a", "completed", 1)
        with pytest.raises(WorkflowExists):
            tx.create_workflow("to", "To")
        with pytest.raises(StepNotFound):
            tx.update_step_status("from", "z", "completed")
        tx.update_step_status("to", "a", "completed", 2)

    two.transact(go_on).unwrap()
    assert [two.get_step_output(name, "a").output for name in ("from", "to")] == [1, 2]


def test_a_state_that_was_loaded_shows_the_moment_it_was_loaded_at(two: Waypost) -> None:
    def look(tx: WorkflowTransaction) -> list[str]:
        before = tx.load_workflow_state("from")
        tx.update_step_status("from", "a", "completed")
        return [before.workflow.steps[0].status, tx.load_workflow_state("from").workflow.steps[0].status]

    assert two.transact(look).unwrap() == ["pending", "completed"]


def test_a_state_can_be_loaded_changed_and_saved(two: Waypost) -> None:
    outside = two.load_workflow_state("to").unwrap()
    outside.context.variables["note"] = "outside"

    def save(tx: WorkflowTransaction) -> None:
        state = tx.load_workflow_state("from")
        state.context.variables["note"] = "inside"
        tx.save_workflow_state(state)
        tx.save_workflow_state(outside)

    two.transact(save).unwrap()
    notes = [two.load_workflow_state(name).unwrap().context.variables["note"] for name in ("from", "to")]
    assert notes == ["inside", "outside"]


def test_an_operation_id_gives_the_first_result(two: Waypost) -> None:
    first, again = (two.transact(move, operation_id="once") for _ in range(2))
    assert (first.unwrap(), again.unwrap()) == (2, 2)
    assert (first.repeated, again.repeated) == (False, True)  # type: ignore[union-attr]
    assert two.get_outcome("once").data == 2
    assert amount(two, "from") == 2


def test_with_an_operation_id_the_result_must_be_storable(two: Waypost) -> None:
    refused = two.transact(lambda tx: object(), operation_id="once")
    assert isinstance(refused.error, InvalidInput)
    assert two.transact(lambda tx: move(tx) and object()).success


def test_each_workflow_is_linked_to_the_session(two: Waypost) -> None:
    two.transact(move, session_id="s1").unwrap()
    listed = two.list_workflows(waypost.StateQuery(session_id="s1"))
    assert {each.id for each in listed.items} == {"from", "to"}


def test_trap_06_nobody_sees_a_half_and_nothing_is_lost(two: Waypost) -> None:
    """Many move and many look at once: what is in both hands together is always the same."""
    stop = threading.Event()
    sums: list[int] = []

    def done(work: Any) -> Any:
        """What the work gives. How often it has to run beside three others is chance, and who gives up is told so."""
        while not (result := two.transact(work)):
            assert (result.error.code, result.status) == (VersionConflict.code, "rolled_back"), result
        return result.unwrap()

    def look() -> None:
        while not stop.is_set():
            sums.append(done(lambda tx: amount(tx, "from") + amount(tx, "to")))

    def there_and_back() -> None:
        for by in (1, -1) * 10:
            done(lambda tx, by=by: move(tx, by))

    looking = threading.Thread(target=look)
    moving = [threading.Thread(target=there_and_back) for _ in range(3)]
    for each in (looking, *moving):
        each.start()
    for each in moving:
        each.join()
    stop.set()
    looking.join()
    assert set(sums) <= {3}
    assert (amount(two, "from"), amount(two, "to")) == (3, 0)


def test_a_transaction_block_commits_at_its_end(two: Waypost) -> None:
    with two.transaction() as tx:
        move(tx)
        assert amount(two, "from") == 3
    assert (amount(two, "from"), amount(two, "to")) == (2, 1)


def test_a_transaction_block_that_raises_changes_nothing(two: Waypost) -> None:
    def block() -> None:
        with two.transaction() as tx:
            move(tx)
            tx.load_workflow_state("none")

    with pytest.raises(WorkflowNotFound):
        block()
    assert (amount(two, "from"), amount(two, "to")) == (3, 0)


def test_a_transaction_block_cannot_run_again(two: Waypost) -> None:
    def block() -> None:
        with two.transaction() as tx:
            move(tx)
            two.update_context("from", variables={"amount": 30}).unwrap()

    with pytest.raises(VersionConflict):
        block()
    assert (amount(two, "from"), amount(two, "to")) == (30, 0)


def test_a_transaction_block_of_a_known_operation_changes_nothing(two: Waypost) -> None:
    for _ in range(2):
        with two.transaction(operation_id="once") as tx:
            move(tx)
    assert (amount(two, "from"), amount(two, "to")) == (2, 1)


def test_work_that_changes_what_it_reads_by_itself_is_a_conflict_in_the_end(two: Waypost) -> None:
    def quarrel(tx: WorkflowTransaction) -> None:
        two.update_context("from", variables={"amount": move(tx) + 10}).unwrap()

    assert two.transact(quarrel).error.code == "version_conflict"  # type: ignore[union-attr]


def test_operations_of_a_transaction_are_those_of_a_handle_without_what_is_the_transactions() -> None:
    for name, method in vars(WorkflowTransaction).items():
        if name.startswith("_") or name == "perform":
            continue
        inside, outside = (inspect.signature(getattr(each, name)) for each in (WorkflowTransaction, Waypost))
        assert set(outside.parameters) - set(inside.parameters) <= {"operation_id", "session_id"}
        assert "operation_id" not in inside.parameters
        assert "OperationResult" not in str(inside.return_annotation)
        assert method.__doc__


def test_operation_ids_within_a_transaction_are_refused(two: Waypost) -> None:
    with pytest.raises(TypeError, match="given to the transaction"):
        two.transact(lambda tx: tx.pause_workflow("from", operation_id="x"))


def test_several_workflows_survive_reopening(tmp_path: Path) -> None:
    with waypost.open(tmp_path / "s") as handle:
        handle.transact(lambda tx: [tx.create_workflow(name, name) for name in "abc"] and None).unwrap()
    with waypost.open(tmp_path / "s") as handle:
        assert handle.list_workflows().total == 3
