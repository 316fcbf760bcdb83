"""Each way of writing to a store, as the tests that cut connections run it: what is there before, what is done under an
operation id, and in how many documents that operation then stands.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, NamedTuple

import waypost
from waypost import Waypost, WorkflowContext
from waypost.errors import WaypostError
from waypost.store import DocumentId

LARGE = bytes(range(256)) * 100


class Act(NamedTuple):
    name: str
    prepare: Callable[[Waypost, str], object]
    """With the name of the try."""
    do: Callable[[Waypost, str, str, Any], Any]
    """With the name of the try, the operation id, and what was prepared. Gives a result, or raises."""
    documents: int
    """How many documents remember the operation; 0 for an act that is not remembered."""
    check: Callable[[Waypost, str], object] = lambda wp, name: None
    """What else holds once it is acknowledged."""


def _made(wp: Waypost, name: str) -> None:
    wp.create_workflow(name, name, steps=["a", "b"], context=WorkflowContext(variables={"n": 0})).unwrap()


def _three(wp: Waypost, name: str) -> None:
    for number in range(3):
        _made(wp, f"{name}.{number}")


def _add_to_all(tx: waypost.WorkflowTransaction, name: str) -> None:
    for number in range(3):
        n = tx.load_workflow_state(f"{name}.{number}").context.variables["n"]
        tx.update_context(f"{name}.{number}", variables={"n": n + 1})


def exported(_: Waypost, name: str) -> bytes:
    with waypost.open("memory:", config={"compression": {"chunk_size": 4096}}) as source:
        source.start_session("me", session_id=name)
        source.create_workflow(name, name, session_id=name, steps=["a"]).unwrap()
        source.update_step_status(name, "a", "running", session_id=name).unwrap()
        source.add_step_output(name, "a", LARGE, session_id=name).unwrap()
        source.end_session(name).unwrap()
        data = source.export_session(name)
    assert isinstance(data, bytes)
    return data


def _checkpointed(wp: Waypost, name: str) -> str:
    _made(wp, name)
    return wp.create_checkpoint(name, "by hand").unwrap().id


def _to_clean(wp: Waypost, name: str) -> None:
    _made(wp, name)
    for number in range(3):
        wp.create_checkpoint(name, f"number {number}").unwrap()


def _is_held(wp: Waypost, name: str) -> None:
    """Who starts a session holds it: what nobody held would be taken for crashed."""
    assert name in wp.definitions.sessions.held.held(), "nobody holds it"
    assert wp.definitions.store.holder(DocumentId("session", name)) is not None


ACTS = [
    Act("update", _made, lambda wp, name, op, _: wp.update_step_status(name, "a", "running", operation_id=op), 1),
    Act("create", lambda wp, name: None, lambda wp, name, op, _: wp.create_workflow(name, name, operation_id=op), 1),
    Act("checkpoint", _made, lambda wp, name, op, _: wp.create_checkpoint(name, operation_id=op), 1),
    Act("delete", _made, lambda wp, name, op, _: wp.delete_workflow(name, operation_id=op), 1),
    Act(
        "large value", _made,
        lambda wp, name, op, _: wp.add_step_output(name, "a", BytesIO(LARGE), operation_id=op), 1,
    ),
    Act(
        "transact", _three,
        lambda wp, name, op, _: wp.transact(lambda tx: _add_to_all(tx, name), operation_id=op), 3,
    ),
    Act(
        "start session", lambda wp, name: None,
        lambda wp, name, op, _: wp.start_session("me", session_id=name, operation_id=op), 1, _is_held,
    ),
    Act("import session", exported, lambda wp, name, op, data: wp.import_session(data, operation_id=op), 1),
    Act(
        "restore", _checkpointed,
        lambda wp, name, op, checkpoint: wp.restore_from_checkpoint(checkpoint, operation_id=op), 1,
    ),
    Act(
        "fork", _checkpointed,
        lambda wp, name, op, checkpoint: wp.fork_workflow(checkpoint, f"{name}.fork", operation_id=op), 1,
    ),
    Act("cleanup", _to_clean, lambda wp, name, op, _: wp.cleanup(), 0),
]  # fmt: skip


class Told(NamedTuple):
    """What a caller was told: that it is done, that it is not, or that nobody knows."""

    said: str
    error: WaypostError | None


def told(act: Act, wp: Waypost, name: str, operation_id: str, prepared: object) -> Told:
    try:
        result = act.do(wp, name, operation_id, prepared)
    except WaypostError as error:
        return Told("unknown" if error.details.get("outcome") == "unknown" else "rolled_back", error)
    error = getattr(result, "error", None)
    return Told("done", None) if error is None else Told(result.status, error)
