"""How often the server is asked for what a workflow holds."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

import waypost
from tests.postgres.conftest import OPTIONS
from tests.servers import Server
from waypost import Waypost, WorkflowState, WorkflowTransaction

STEPS = 600


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that is sent from here on."""
    sent: list[str] = []
    execute = psycopg.Connection.execute

    def counted(self: Any, statement: Any, *args: Any, **kwargs: Any) -> Any:
        sent.append(str(statement))
        return execute(self, statement, *args, **kwargs)

    monkeypatch.setattr(psycopg.Connection, "execute", counted)
    return sent


def fill(tx: WorkflowTransaction) -> None:
    names = [f"s{number}" for number in range(STEPS)]
    tx.create_workflow("w", "W", steps=names)
    for name in names:
        tx.update_step_status("w", name, "completed", {"of": name, "text": "x" * 300})


@pytest.fixture
def opened(server: Server, schema: str) -> Callable[[], Waypost]:
    """Opens handles that know nothing of the workflow yet."""

    def open_() -> Waypost:
        return waypost.open(server.url(schema), config=OPTIONS)

    with open_() as wp:
        wp.transact(fill).unwrap()
    return open_


def in_order(state: WorkflowState) -> list[Any]:
    return [step.output["of"] for step in state.workflow.steps]


def in_any_order(state: WorkflowState) -> list[Any]:
    random.Random(7).shuffle(names := [f"s{number}" for number in range(STEPS)])
    outputs = state.outputs
    return sorted(outputs[name].output["of"] for name in names)


@pytest.mark.parametrize("read", [in_order, in_any_order])
def test_a_whole_workflow_is_read_in_few_questions(
    opened: Callable[[], Waypost], questions: list[str], read: Callable[[WorkflowState], list[Any]]
) -> None:
    """Steps and outputs by turns, in an order that is not that of their keys: still a few for hundreds of parts."""
    with opened() as wp:
        state = wp.load_workflow_state("w").unwrap()
        questions.clear()
        assert set(read(state)) == {f"s{number}" for number in range(STEPS)}
        assert 2 <= len(questions) <= 40


def test_one_step_is_changed_without_reading_the_rest(opened: Callable[[], Waypost], questions: list[str]) -> None:
    with opened() as wp:
        questions.clear()
        wp.reset_step("w", "s300").unwrap()
        assert len(questions) <= 10
        view = wp.definitions.store.view(waypost.store.DocumentId("workflow", "w"))
        assert len(view._known) < 20  # type: ignore[attr-defined]
