"""Stores that change at random and are synced in any order, held against what each of them was told."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

import waypost
from tests.conftest import make_config
from waypost.blocking import Waypost
from waypost.store import DocumentId

STORES = 4
WF = DocumentId("workflow", "wf")
ACTIONS = ("own", "shared", "step", "add", "checkpoint", "output", "remove", "compact", "sync", "sync", "sync")

Action = tuple[str, int, int]


class World:
    """Some stores, what was acknowledged by each, and the checkpoints that were made."""

    def __init__(self, stack: ExitStack, path: Path) -> None:
        self.stores: list[Waypost] = []
        for number in range(STORES):
            location = "memory:" if number % 2 else str(path / str(number))
            opened = waypost.open(location, config=make_config({"reliability": {"enable_wal": False}}))
            self.stores.append(stack.enter_context(opened))
        self.stores[0].create_workflow("wf", "Wf", steps=[f"s{number}" for number in range(STORES)]).unwrap()
        self.sync(0, 1)
        self.variables: dict[str, Any] = {}
        self.steps: dict[str, str] = {f"s{number}": "pending" for number in range(STORES)}
        self.outputs: dict[str, int] = {}
        self.kept: dict[str, str] = {}
        self.count = 0

    def view(self, number: int) -> Any:
        return self.stores[number].definitions.store.view(WF)

    def sync(self, one: int, other: int) -> None:
        report = self.stores[one].sync(self.stores[other], on_conflict="last_writer_wins").unwrap()
        assert report.is_complete, report
        assert self.view(one).commit_id == self.view(other).commit_id
        assert self.view(one).checksum == self.view(other).checksum

    def act(self, action: str, one: int, other: int) -> None:
        wp = self.stores[one]
        if action == "sync":
            if one != other:
                self.sync(one, other)
            return
        if not self.view(one).version:
            return
        self.count += 1
        own = f"s{one}"
        if action == "own":
            self.variables[f"own{one}"] = self.count
            wp.update_context("wf", variables={f"own{one}": self.count, f"new{self.count}": one}).unwrap()
            self.variables[f"new{self.count}"] = one
        elif action == "shared":
            wp.update_context("wf", variables={"shared": self.count}).unwrap()
        elif action == "step" and self.steps[own] != "completed":
            status = {"pending": "running", "running": "completed"}[self.steps[own]]
            wp.update_step_status("wf", own, status).unwrap()  # type: ignore[arg-type]
            self.steps[own] = status
        elif action == "add":
            wp.add_steps("wf", [f"n{self.count}"]).unwrap()
            self.steps[f"n{self.count}"] = "pending"
        elif action == "checkpoint":
            made = wp.create_checkpoint("wf", str(self.count)).unwrap()
            self.kept[made.id] = made.state.metadata.checksum
        elif action == "output":
            wp.add_step_output("wf", own, b"x" * 70_000 + str(self.count).encode()).unwrap()
            self.outputs[own] = self.count
        elif action == "remove":
            state = wp.load_workflow_state("wf").unwrap()
            found = [name for name in state.context.variables if name.startswith("new")]
            if found and self.variables.get(found[-1]) == one:
                del state.context.variables[found[-1]]
                wp.save_workflow_state(state).unwrap()
                del self.variables[found[-1]]
        elif action == "compact" and one % 2 == 0:
            wp.definitions.store.reclaim(WF)

    def settle(self) -> None:
        """Sync all pairs until nothing is left to do."""
        for _ in range(STORES):
            for one, other in combinations(range(STORES), 2):
                self.sync(one, other)
        assert len({self.view(number).commit_id for number in range(STORES)}) == 1
        assert len({self.view(number).checksum for number in range(STORES)}) == 1

    def check(self) -> None:
        for wp in self.stores:
            state = wp.load_workflow_state("wf").unwrap()
            found = {name: value for name, value in state.context.variables.items() if name != "shared"}
            assert found == self.variables
            assert {step.id: step.status for step in state.workflow.steps} == self.steps
            for name, count in self.outputs.items():
                assert wp.get_step_output("wf", name).output == b"x" * 70_000 + str(count).encode()
            report = wp.validate_workflow_state("wf")
            assert report.is_valid, report.errors
            kept = {one.id: one.state.metadata.checksum for one in wp.list_checkpoints("wf").items}
            assert {name: kept.get(name) for name in self.kept} == self.kept
            assert all(wp.validate_checkpoint(name).is_valid for name in self.kept)


actions = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.integers(0, STORES - 1), st.integers(0, STORES - 1)), min_size=5, max_size=40
)


MERGED_ELSEWHERE: list[Action] = [
    *(("sync", 0, 3), ("own", 0, 0), ("own", 3, 0), ("sync", 0, 1), ("sync", 3, 1), ("add", 0, 0), ("add", 3, 0)),
]
"""What 0 and 3 have in common is a merge that 3 has, and that 0 only knows the parts of."""
MERGED_TWICE: list[Action] = [
    *(("sync", 0, 2), ("sync", 0, 3), ("own", 0, 0), ("own", 1, 0), ("sync", 0, 2), ("sync", 1, 3), ("sync", 0, 1)),
    *(("sync", 2, 3), ("own", 0, 0), ("own", 1, 0), ("add", 0, 0), ("add", 3, 0), ("checkpoint", 2, 0), ("sync", 0, 2)),
]
"""Two merges of the same two lines: each side has taken over what the other has, by another commit."""


@settings(max_examples=800, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(actions)
@example(MERGED_ELSEWHERE)
@example(MERGED_TWICE)
def test_stores_that_are_synced_in_any_order_become_the_same(done: list[Action]) -> None:
    """Whatever was changed where, and synced in whichever order: at the end all are one document with the same
    newest commit, no change that only one store made is lost, and every checkpoint is kept by all.
    """
    with TemporaryDirectory() as path, ExitStack() as stack:
        world = World(stack, Path(path))
        for action in done:
            world.act(*action)
        world.settle()
        world.check()
        for number, wp in enumerate(world.stores):
            if number % 2 == 0:
                report = wp.definitions.store.verify()  # type: ignore[attr-defined]
                assert [each.text for each in report.findings if each.severity == "damage"] == []
