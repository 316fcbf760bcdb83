"""T10, the operations: the blocking face gives the same results over the memory store and over a directory.

Every call goes to both, and what it gives is compared: data, error, whether it was a repetition. Between calls logs are
compacted, stores reopened, processes forked and killed, and the clock moves. States that were loaded earlier are kept
and looked at, changed and saved later, when their version is long past. Checkpoints are made as steps go, and old ones
go; at the end history goes too, and then logs, and each checkpoint that is listed still comes back to the byte.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.conftest import make_config
from tests.crash import machine as m
from tests.crash.sweeps import Alike
from tests.crash.test_model import OPTIONS, run_machine
from tests.store.support import TestedStore, directory_store
from tests.totals import Totals, ring_size
from waypost import checkpoint_ids, clock, retention
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import WaypostError
from waypost.models import StateMetadata, WorkflowStep
from waypost.operations import Failure, Success
from waypost.queries import StateQuery
from waypost.store import DocumentId
from waypost.store.directory import compaction
from waypost.store.directory.document import Document
from waypost.store.directory.upkeep import Upkeep
from waypost.store.memory import MemoryStore

PARTS = ring_size(2, 100)
STEPS_OF_A_PART = 1_500

CONFIG = make_config({"retention": {"max_checkpoints": 3, "min_checkpoints": 2}})
_TWO_DAYS_US = 2 * 24 * 3600 * 1_000_000
WORKFLOWS = ["wf", "../Wf é", "long " * 40]
STEPS = ["s0", "s1", "s2", "s é"]
OUTPUTS: list[Any] = [None, 0, "", {"n": [1, 2.5, (3,)], 7: b"\xff"}, "large " * 1500, list(range(3000))]
STATUSES = ["running", "completed", "failed", "skipped", "pending", "no such status"]
_NOT_COMPARED = {
    Success: {"operation_id", "duration_ms", "durability", "counters"},
    StateMetadata: {"id", "compressed"},  # the name of a commit, and whether it is compressed, are a store's own
}
_PLAIN = {int, str, bytes, type(None)}


def plain(value: Any) -> Any:
    """A result as plain data: what any two stores must agree on."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Failure):
        return "failed", value.error.code, value.status
    if isinstance(value, msgspec.Struct):
        left_out = _NOT_COMPARED.get(type(value), set())
        found = {name: plain(getattr(value, name)) for name in value.__struct_fields__ if name not in left_out}
        if hasattr(type(value), "output"):
            found["output"] = plain(value.output)
        return type(value).__name__, found
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(each) for each in value]
    return value


def result_of(call: Callable[[Waypost], Any], wp: Waypost) -> Any:
    try:
        return plain(call(wp))
    except WaypostError as error:
        return "raised", error.code


workflows = st.sampled_from(WORKFLOWS)
step_ids = st.sampled_from(STEPS)
outputs = st.integers(0, len(OUTPUTS) - 1)
operation_ids = st.none() | st.sampled_from([f"op{n}" for n in range(6)])
new_steps = st.lists(st.tuples(step_ids, st.lists(step_ids, max_size=1), st.integers(0, 1)), max_size=3)
keys = st.sampled_from(["x", "y", "é"])
writes = st.one_of(
    st.tuples(st.just("create"), workflows, new_steps, st.sampled_from(["error", "open"])),
    st.tuples(st.just("add"), workflows, new_steps),
    st.tuples(st.just("step"), workflows, step_ids, st.sampled_from(STATUSES), outputs | st.none()),
    st.tuples(st.just("step"), workflows, step_ids, st.sampled_from(STATUSES[:2]), outputs | st.none()),
    st.tuples(st.just("output"), workflows, step_ids, outputs),
    st.tuples(st.just("context"), workflows, keys, outputs),
    st.tuples(st.just("agent"), workflows, keys, st.integers(0, 3)),
    st.tuples(st.just("reset"), workflows, step_ids, st.booleans()),
    st.tuples(st.sampled_from(["pause", "resume"]), workflows),
    st.tuples(st.just("delete"), workflows),
    st.tuples(st.just("checkpoint"), workflows, st.sampled_from([(), ("x",), ("stable",)]), st.booleans()),
    st.tuples(st.just("back"), workflows, st.integers(0, 5)),
    st.tuples(st.just("fork"), workflows, workflows, st.integers(0, 5)),
)


def made(given: list[tuple[str, list[str], int]]) -> list[WorkflowStep]:
    return [WorkflowStep(each, dependencies=needs, max_retries=retries) for each, needs, retries in given]


def checkpoint_of(wp: Waypost, workflow: str, number: int) -> str:
    """One of the checkpoints of a workflow, or an id that leads nowhere where it has none."""
    ids = [one.id for one in wp.list_checkpoints(workflow, 1000)]
    return ids[number % len(ids)] if ids else f"{workflow}@cnone"


def call_of(asked: tuple[Any, ...], operation_id: str | None) -> Callable[[Waypost], Any]:
    """The call of an operation, for any handle."""
    name, workflow, *rest = asked
    once: dict[str, Any] = {"operation_id": operation_id}
    calls: dict[str, Callable[[Waypost], Any]] = {
        "create": lambda wp: wp.create_workflow(workflow, "W", "session", made(rest[0]), if_exists=rest[1], **once),
        "add": lambda wp: wp.add_steps(workflow, made(rest[0]), **once),
        "step": lambda wp: wp.update_step_status(
            workflow, rest[0], rest[1], *([] if rest[2] is None else [OUTPUTS[rest[2]]]), agent_id="agent", **once
        ),
        "output": lambda wp: wp.add_step_output(workflow, rest[0], OUTPUTS[rest[1]], **once),
        "context": lambda wp: wp.update_context(workflow, variables={rest[0]: OUTPUTS[rest[1]]}, **once),
        "agent": lambda wp: wp.update_agent_state(workflow, rest[0], {"task_queue": ["t"] * rest[1]}, **once),
        "reset": lambda wp: wp.reset_step(workflow, rest[0], cascade=rest[1], **once),
        "pause": lambda wp: wp.pause_workflow(workflow, **once),
        "resume": lambda wp: wp.resume_workflow(workflow, **once),
        "delete": lambda wp: wp.delete_workflow(workflow, **once),
        "checkpoint": lambda wp: wp.create_checkpoint(
            workflow, "made", rest[0], type="automatic" if rest[1] else "manual", **once
        ),
        "back": lambda wp: wp.restore_from_checkpoint(checkpoint_of(wp, workflow, rest[0]), **once),
        "fork": lambda wp: wp.fork_workflow(checkpoint_of(wp, rest[0], rest[1]), workflow, **once),
    }
    return calls[name]


class OperationsMachine(RuleBasedStateMachine):
    """The public operations: over a dictionary, and over two handles of one directory."""

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.now, self.days = 1_750_000_000_000_000, 0
        self.patch.setattr(clock, "now_us", lambda: self.now)
        self.patch.setattr(Upkeep, "ask", lambda self, document: None)
        self.patch.setattr(checkpoint_ids, "_PROCESS", Alike())  # both give the same ids
        self.patch.setattr(retention, "_KNOWN_FOR_S", -1.0)  # neither is behind
        self.path = os.path.join(tempfile.mkdtemp(prefix="waypost-model-", dir=m.SCRATCH), "store")
        self.memory = Waypost(Definitions(MemoryStore(), CONFIG, verbose=False))
        self.handles: list[Waypost] = []
        self.loaded: list[tuple[int, Any, Any]] = []

    @initialize(first=st.integers(0, len(OPTIONS) - 2), second=st.integers(0, len(OPTIONS) - 2))
    def open(self, first: int, second: int) -> None:
        self.handles = [self.opened(OPTIONS[first]), self.opened(OPTIONS[second])]

    def opened(self, options: dict[str, Any]) -> Waypost:
        return Waypost(Definitions(directory_store(self.path, **options), CONFIG, verbose=False))

    def store(self, at: int) -> TestedStore:
        return self.handles[at].definitions.store  # type: ignore[return-value]

    def both(self, at: int, call: Callable[[Waypost], Any]) -> None:
        self.now += 1000
        found, expected = result_of(call, self.handles[at]), result_of(call, self.memory)
        assert found == expected, (found, expected)

    # --- the operations ---

    @rule(at=st.integers(0, 1), asked=writes, operation_id=operation_ids)
    def write(self, at: int, asked: tuple[Any, ...], operation_id: str | None) -> None:
        self.both(at, call_of(asked, operation_id))

    @rule(at=st.integers(0, 1), asked=writes)
    def write_again(self, at: int, asked: tuple[Any, ...]) -> None:
        self.both(at, call_of(asked, None))

    @rule(
        at=st.integers(0, 1),
        sort_by=st.sampled_from(["created", "updated"]),
        limit=st.integers(1, 3),
        status=st.sampled_from([(), ("running",), ("pending", "completed")]),
    )
    def list_workflows(self, at: int, sort_by: Any, limit: int, status: Any) -> None:
        query = StateQuery(sort_by=sort_by, limit=limit, status=status)
        self.both(at, lambda wp: wp.list_workflows(query))

    @rule(at=st.integers(0, 1), workflow=workflows, step=step_ids, version=st.none() | st.integers(1, 3))
    def read(self, at: int, workflow: str, step: str, version: int | None) -> None:
        self.both(at, lambda wp: wp.get_step_output(workflow, step, version))
        self.both(at, lambda wp: wp.validate_workflow_state(workflow))

    @rule(at=st.integers(0, 1), number=st.integers(0, 5))
    def outcome(self, at: int, number: int) -> None:
        holders = [id for id in WORKFLOWS if self.view(self.memory, id).operation(f"op{number}") is not None]
        if len(holders) <= 1:  # an id that was given to several is found in any of them
            self.both(at, lambda wp: wp.get_outcome(f"op{number}"))

    # --- states that are kept ---

    @rule(at=st.integers(0, 1), workflow=workflows)
    def load(self, at: int, workflow: str) -> None:
        found, expected = (wp.load_workflow_state(workflow) for wp in (self.handles[at], self.memory))
        assert bool(found) == bool(expected)
        if expected:
            self.loaded.append((at, found.unwrap(), expected.unwrap()))

    @precondition(lambda self: self.loaded)
    @rule(number=st.integers(0, 5))
    def look_at_what_was_loaded(self, number: int) -> None:
        _, found, expected = self.loaded[number % len(self.loaded)]
        assert plain(found) == plain(expected)

    @precondition(lambda self: self.loaded)
    @rule(number=st.integers(0, 5), key=keys, value=outputs, step=step_ids, order=st.booleans())
    def save(self, number: int, key: str, value: int, step: str, order: bool) -> None:
        """Change a state in place and save it: others' changes of other parts stay, of the same part are a conflict."""
        at, found, expected = self.loaded.pop(number % len(self.loaded))
        self.now += 1000
        results = []
        for wp, state in ((self.handles[at], found), (self.memory, expected)):
            state.context.variables[key] = OUTPUTS[value]
            state.workflow.name += "+" if order else ""
            for each in state.workflow.steps:
                if each.id == step:
                    each.output = OUTPUTS[value]
            if order and len(state.workflow.steps) > 1:
                state.workflow.steps.append(state.workflow.steps.pop(0))
            results.append(result_of(lambda wp, state=state: wp.save_workflow_state(state), wp))
        assert results[0] == results[1], results

    # --- checkpoints ---

    @rule(at=st.integers(0, 1), workflow=workflows, number=st.integers(0, 5))
    def look_at_checkpoints(self, at: int, workflow: str, number: int) -> None:
        self.both(at, lambda wp: wp.list_checkpoints(workflow, 1000))
        self.both(at, lambda wp: wp.get_checkpoint(checkpoint_of(wp, workflow, number)).state)
        self.both(at, lambda wp: wp.validate_checkpoint(checkpoint_of(wp, workflow, number)))

    @rule(at=st.integers(0, 1), workflow=workflows, times=st.integers(1, 6), value=outputs, keep=st.booleans())
    def work(self, at: int, workflow: str, times: int, value: int, keep: bool) -> None:
        """Steps are completed again and again, each time with a checkpoint, and the oldest go; their files come later
        than the next one, or before it.
        """
        self.both(at, lambda wp: wp.create_workflow(workflow, "W", steps=STEPS, if_exists="open"))
        for number in range(times):
            step = STEPS[number % len(STEPS)]
            self.both(at, lambda wp, step=step: wp.reset_step(workflow, step))
            self.both(at, lambda wp, step=step: wp.update_step_status(workflow, step, "completed", OUTPUTS[value]))
            if keep:
                self.keep(at, workflow, True)

    @rule(at=st.integers(0, 1), workflow=workflows)
    def forget(self, at: int, workflow: str) -> None:
        """A log is compacted without its history, where no result stands in that."""
        view = self.view(self.memory, workflow)
        if all(view.operation(f"op{number}") is None for number in range(6)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(compaction, "DAY_US", -1)
                self.store(at).tidy(DocumentId("workflow", workflow), "compact")

    @rule(at=st.integers(0, 1))
    def clean_up(self, at: int) -> None:
        self.both(at, lambda wp: wp.cleanup().unwrap().deleted_checkpoints)

    @rule(at=st.integers(0, 1), workflow=workflows, newest_only=st.booleans())
    def keep(self, at: int, workflow: str, newest_only: bool) -> None:
        """Checkpoints are written out of the log."""
        document = self.store(at)._document(DocumentId("workflow", workflow))
        document.keep_checkpoints(newest_only=newest_only)

    def checkpoints_come_back(self, wp: Waypost) -> None:
        """Each that is listed is what it was, part by part."""
        for workflow in WORKFLOWS:
            document = DocumentId("workflow", workflow)
            for one in self.memory.list_checkpoints(workflow, 1000):
                found, expected = (each.definitions.store.checkpoint(document, one.id) for each in (wp, self.memory))
                assert found is not None and expected is not None
                m.assert_equal_views(expected, found)

    # --- what happens between them ---

    @rule(at=st.integers(0, 1), workflow=workflows, what=st.sampled_from(["snapshot", "compact"]))
    def upkeep(self, at: int, workflow: str, what: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Document, "snapshot_is_due", staticmethod(lambda state: state.frames > 0))
            self.store(at).tidy(DocumentId("workflow", workflow), what)

    @rule(back=st.booleans())
    def jump(self, back: bool) -> None:
        """The wall clock moves by two days, within bounds in which nothing is forgotten."""
        if abs(self.days + (-2 if back else 2)) <= 2:
            self.days += -2 if back else 2
            self.now += -_TWO_DAYS_US if back else _TWO_DAYS_US

    @rule(at=st.integers(0, 1), options=st.sampled_from(OPTIONS[:-1]), cleanly=st.booleans())
    def reopen(self, at: int, options: dict[str, Any], cleanly: bool) -> None:
        self.handles[at].close() if cleanly else m.abandon(self.store(at))
        self.handles[at] = self.opened(options)
        self.loaded = [each for each in self.loaded if each[0] != at]

    @rule(
        inherits=st.integers(0, 1) | st.none(),
        calls=st.lists(writes, min_size=1, max_size=4),
        at=st.integers(1, 120),
        torn=st.integers(0, 2),
    )
    def kill(self, inherits: int | None, calls: list[tuple[Any, ...]], at: int, torn: int) -> None:
        """A process makes some calls and is killed, or ends without a word; what it ran is then anybody's."""

        def act(report: Callable[[bytes], None]) -> None:
            report(json.dumps(clock.process_identity()).encode() + b"\n")
            wp = self.opened(OPTIONS[0]) if inherits is None else self.handles[inherits]
            for asked in calls:
                result_of(call_of(asked, None), wp)
                report(b".")

        self.now += 1000
        ended = m.killed_child(act, at, torn)
        assert ended.killed or ended.status == 0, ended.report.decode(errors="replace")
        line, _, told = ended.report.partition(b"\n")
        identity = clock.ProcessIdentity(*json.loads(line))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(clock, "process_identity", lambda: identity)
            for asked in calls[: len(told)]:
                result_of(call_of(asked, None), self.memory)
            if len(told) < len(calls) and not self.equal_versions(calls[len(told)][1]):
                result_of(call_of(calls[len(told)], None), self.memory)

    def view(self, wp: Waypost, workflow: str) -> Any:
        return wp.definitions.store.view(DocumentId("workflow", workflow))

    def equal_versions(self, workflow: str) -> bool:
        return self.view(self.handles[0], workflow).version == self.view(self.memory, workflow).version

    # --- comparing ---

    @invariant()
    def agrees(self) -> None:
        OperationsMachine.steps += 1
        for workflow in WORKFLOWS:
            for wp in self.handles:
                m.assert_equal_views(self.view(self.memory, workflow), self.view(wp, workflow))

    def teardown(self) -> None:
        try:
            for at in range(len(self.handles)):
                for workflow in WORKFLOWS:
                    self.both(at, lambda wp, workflow=workflow: wp.load_workflow_state(workflow))
            for _, found, expected in self.loaded:
                assert plain(found) == plain(expected)
            for wp in self.handles:
                self.checkpoints_come_back(wp)
            for workflow in WORKFLOWS:  # what a killed process left gets its files from whoever writes next
                self.both(0, lambda wp, workflow=workflow: wp.update_context(workflow, variables={"end": self.now}))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(compaction, "DAY_US", -1)
                for workflow in WORKFLOWS:
                    self.store(0).tidy(DocumentId("workflow", workflow), "compact")
            self.checkpoints_come_back(self.handles[1])
            for wp in self.handles:
                wp.close()
            for name in os.listdir(os.path.join(self.path, "workflows")):
                os.remove(os.path.join(self.path, "workflows", name))
            with self.opened(OPTIONS[0]) as wp:
                self.checkpoints_come_back(wp)
        finally:
            self.loaded.clear()
            self.patch.undo()
            shutil.rmtree(os.path.dirname(self.path))


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("part", range(PARTS))
def test_t10_every_operation_gives_the_same_over_memory_and_directory(part: int, totals: Totals) -> None:
    """Whatever is called in whatever order, with kills, upkeep and reopening in between, both faces give the same."""
    totals("model steps", run_machine(OperationsMachine, part, STEPS_OF_A_PART))
