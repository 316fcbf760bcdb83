"""What is said of an operation that was called before, where the store cannot look up whether it was carried out."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import make_config
from tests.store.support import TestedStore, directory_store, failing, system_calls
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.operations import Failure, OperationResult, Success
from waypost.store import DocumentId
from waypost.transactions import WorkflowTransaction

Act = Callable[[Waypost, str | None], OperationResult[object]]


def opened(path: Path) -> Waypost:
    return Waypost(Definitions(directory_store(path), make_config(), verbose=False))


def single(wp: Waypost, operation_id: str | None) -> OperationResult[object]:
    return wp.pause_workflow("w", operation_id=operation_id)


def joint(wp: Waypost, operation_id: str | None) -> OperationResult[object]:
    def work(tx: WorkflowTransaction) -> int:
        tx.pause_workflow("w")
        return 1

    return wp.transact(work, operation_id=operation_id)


@pytest.mark.parametrize("act", [single, joint])
@pytest.mark.parametrize(("operation_id", "status"), [("op", "unknown"), (None, "rolled_back")])
def test_trap_09_what_could_not_be_looked_up_is_not_called_rolled_back(
    tmp_path: Path, act: Act, operation_id: str | None, status: str
) -> None:
    """A call that was committed is not told to have been rolled back when it is repeated and the log cannot be read;
    one that nobody can have made before did not happen.
    """
    wp = opened(tmp_path / "s")
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    if operation_id:
        act(wp, operation_id).unwrap()
    wp.close()
    wp = opened(tmp_path / "s")
    with system_calls() as calls:
        calls.fault = failing("pread", 1, errno.EIO, onwards=True)
        result = act(wp, operation_id)
    assert isinstance(result, Failure)
    assert result.status == status
    wp.close()
    wp = opened(tmp_path / "s")
    again = act(wp, operation_id)
    assert isinstance(again, Success)
    assert again.repeated is (operation_id is not None)
    wp.close()


def streamed(wp: Waypost, operation_id: str | None) -> OperationResult[object]:
    return wp.add_step_output("w", "a", io.BytesIO(bytes(100_000)), operation_id=operation_id)


def returned(wp: Waypost, operation_id: str | None, checkpoint: str = "") -> OperationResult[object]:
    return wp.restore_from_checkpoint(checkpoint, operation_id=operation_id)


def forked(wp: Waypost, operation_id: str | None, checkpoint: str = "") -> OperationResult[object]:
    return wp.fork_workflow(checkpoint, "forked", operation_id=operation_id)


@pytest.mark.parametrize("act", [single, joint, streamed, returned, forked])
def test_trap_09_one_read_that_fails_does_not_make_what_was_carried_out_rolled_back(tmp_path: Path, act: Act) -> None:
    """Whatever is looked at first, and also where what the log remembers of operations stands in a block of its own, as
    after a compaction, and the reading of that alone fails.
    """
    wp = opened(tmp_path / "s")
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    made = wp.create_checkpoint("w", "first").unwrap().id
    act = partial(act, checkpoint=made) if act in (returned, forked) else act
    act(wp, "op").unwrap()
    for _ in range(2):
        wp.add_step_output("w", "a", bytes(range(256)) * 300).unwrap()
    store = wp.definitions.store
    assert isinstance(store, TestedStore)
    assert store.tidy(DocumentId("workflow", "w"), "compact")
    wp.close()
    told: list[str] = []
    while "repeated" not in told:
        wp = opened(tmp_path / "s")
        with system_calls() as calls:
            calls.fault = failing("pread", len(told) + 1, errno.EIO)
            result = act(wp, "op")
        told.append("repeated" if result else result.status)
        assert act(wp, "op").unwrap() is not None
        wp.close()
    assert set(told) == {"unknown", "repeated"}


@pytest.mark.parametrize("act", [single, joint])
def test_trap_09_what_was_looked_up_and_not_found_is_rolled_back(tmp_path: Path, act: Act) -> None:
    """Where the log says that the operation is new, a refused one did not happen, also under an id of the caller."""
    wp = opened(tmp_path / "s")
    result = act(wp, "op")
    assert isinstance(result, Failure)
    assert result.status == "rolled_back"
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    with system_calls() as calls:
        calls.fault = failing("pwrite", 1, errno.ENOSPC, onwards=True)
        result = act(wp, "op")
    assert isinstance(result, Failure)
    assert result.status == "rolled_back"
    again = act(wp, "op")
    assert isinstance(again, Success)
    assert not again.repeated
    wp.close()
