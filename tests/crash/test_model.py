"""T10: the directory store equals a dictionary, whatever happens to the programs that use it.

The machine hands every change to the memory store and to one of several handles of a directory store; between changes
it takes snapshots, compacts, kills, forks, reopens, moves the clock and fails system calls. After each rule all handles
must show what the memory store shows: what was acknowledged is there, what is there was asked for, and a change of
which nobody heard happened whole or not at all.

Repeat a failing part with WAYPOST_TEST_SEED set to the seed that is printed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.crash import machine as m
from tests.crash.machine import (
    DOCUMENTS,
    KEYS,
    VALUES,
    Action,
    Asked,
    Joint,
    Outcome,
    documents_of,
    outcome_of,
    submit,
    work_of,
)
from tests.seeds import SEED
from tests.store.support import TestedStore, directory_store, system_calls
from tests.totals import Totals, ring_size
from waypost import clock
from waypost.errors import (
    DocumentTooLarge,
    StoreNotFound,
    StorePoisoned,
    StoreReadOnly,
    StoreUnavailable,
    WaypostError,
)
from waypost.store import Change, DocumentId, JointChange, View
from waypost.store.directory.document import Document
from waypost.store.directory.upkeep import Upkeep
from waypost.store.memory import MemoryStore

PARTS = ring_size(8, 120)
STEPS_OF_A_PART = ring_size(1_900, 2_200)

_DAY_US = 24 * 3600 * 1_000_000
_TEN_YEARS_US = 3653 * _DAY_US
_SMALL: dict[str, Any] = {"max_file_size": 1, "enabled": False, "chunk_size": m.CHUNK}
OPTIONS: list[dict[str, Any]] = [
    {"chunk_size": m.CHUNK},
    {},
    {"chunk_size": m.CHUNK, "enabled": False},
    {"chunk_size": 2 * m.CHUNK, "algorithm": "gzip"},
    {"enable_wal": False, "chunk_size": m.CHUNK},
    _SMALL,
]

any_document = st.sampled_from(DOCUMENTS)
any_handle = st.integers(0, 1)
any_operation = st.integers(0, 5)
verbs = st.sampled_from(["put", "put", "put", "add", "delete", "delete", "read", "list", "clear", "fail"])
any_action = st.tuples(verbs, st.integers(0, len(KEYS) - 1), st.integers(0, len(VALUES) - 1))
any_actions = st.lists(any_action, min_size=1, max_size=4)
some_actions = st.lists(st.lists(any_action, min_size=1, max_size=2), min_size=1, max_size=3)
any_upkeep = st.sampled_from(["snapshot", "compact"])
any_plan = st.lists(st.tuples(any_document, any_actions), min_size=1, max_size=3, unique_by=lambda each: each[0])
"""What a transaction does to several documents."""
Plan = list[tuple[DocumentId, list[Action]]]


class StoreMachine(RuleBasedStateMachine):
    """Stores of opaque parts: a dictionary, and two handles and a reader of one directory."""

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.now = 1_750_000_000_000_000
        self.patch.setattr(clock, "now_us", lambda: self.now)
        self.patch.setattr(Upkeep, "ask", lambda self, document: None)  # upkeep is a rule, and repeats
        self.patch.setattr(Upkeep, "ask_to_settle", lambda self: None)
        self.path = os.path.join(tempfile.mkdtemp(prefix="waypost-model-", dir=m.SCRATCH), "store")
        self.memory = MemoryStore()
        self.handles: list[TestedStore] = []
        self.reader: TestedStore | None = None
        self.touched: set[DocumentId] = set()
        self.number = 0
        self.forgettable: set[tuple[DocumentId, str]] = set()
        self.cut: dict[DocumentId, int] = {}
        self.bounded = False

    # --- the two sides ---

    @initialize(first=st.integers(0, len(OPTIONS) - 1), second=st.integers(0, len(OPTIONS) - 1))
    def open(self, first: int, second: int) -> None:
        self.handles = [self.opened(OPTIONS[first]), self.opened(OPTIONS[second])]

    def opened(self, options: dict[str, Any]) -> TestedStore:
        self.bounded |= "max_file_size" in options
        return directory_store(self.path, **options)

    def change(self, document: DocumentId, actions: list[Action], operation: int | None = None) -> Change:
        self.number += 1
        self.now += 1000
        self.touched.add(document)
        name = f"once-{self.number}" if operation is None else f"op{operation}"
        return Change(document, work_of(actions), name, "test", repeatable=operation is not None)

    def joint(self, plan: Plan, operation: int | None = None) -> Joint:
        self.number += 1
        self.now += 1000
        self.touched.update(document for document, _ in plan)
        name = f"once-{self.number}" if operation is None else f"op{operation}"
        return Joint(tuple(plan), JointChange(name, "test", repeatable=operation is not None))

    def asked(self, document: DocumentId, what: Any) -> Asked:
        """A change of a document by actions, or of several by a plan, which begins with a document's."""
        return self.joint(what) if isinstance(what[0][0], DocumentId) else self.change(document, what)

    def mirror(self, asked: Asked, found: Outcome) -> None:
        """Do to the model what a store says that it has done, and compare."""
        if found.error is DocumentTooLarge and self.bounded:
            return
        # the work of a transaction runs, and may fail, before anybody looks for its operation id
        keeps = found.repeated is not None or (isinstance(asked, Joint) and found.error is not None)
        expected = self.do(asked, repeats=keeps)
        assert found == expected, (found, expected)

    def do(self, asked: Asked, *, repeats: bool) -> Outcome:
        self.forget(asked, repeats=repeats)
        return submit(self.memory, asked)

    def forget(self, asked: Asked, *, repeats: bool) -> None:
        """Of what was long ago the store may have forgotten the operation ids, and so the model does where it did."""
        change = asked.change if isinstance(asked, Joint) else asked
        for document in documents_of(asked) if change.repeatable and not repeats else []:
            if (document, change.operation_id) in self.forgettable:
                self.forgettable.discard((document, change.operation_id))
                self.memory._history[document][-1].operations.pop(change.operation_id)

    def versions(self, store: Any, asked: Asked) -> list[int]:
        return [store.view(document).version for document in documents_of(asked)]

    def resolve(self, asked: Asked, store: TestedStore) -> None:
        """The outcome of a change is unknown: it happened, or it did not."""
        versions = self.versions(store, asked)
        if versions != self.versions(self.memory, asked):
            self.do(asked, repeats=False)
        assert versions == self.versions(self.memory, asked)

    # --- changes ---

    @rule(at=any_handle, document=any_document, actions=any_actions)
    def commit(self, at: int, document: DocumentId, actions: list[Action]) -> None:
        asked = self.change(document, actions)
        self.mirror(asked, submit(self.handles[at], asked))

    @rule(at=any_handle, document=any_document, actions=any_actions)
    def commit_elsewhere(self, at: int, document: DocumentId, actions: list[Action]) -> None:
        asked = self.change(document, actions)
        self.mirror(asked, submit(self.handles[at], asked))

    @rule(at=any_handle, document=any_document, actions=any_actions, operation=any_operation)
    def repeat(self, at: int, document: DocumentId, actions: list[Action], operation: int) -> None:
        asked = self.change(document, actions, operation)
        self.mirror(asked, submit(self.handles[at], asked))

    @rule(
        at=any_handle,
        document=any_document,
        ours=some_actions,
        theirs=some_actions,
        operation=any_operation | st.none(),
    )
    def queue_while_others_commit(
        self, at: int, document: DocumentId, ours: list[Any], theirs: list[Any], operation: int | None
    ) -> None:
        """Changes wait together, the last of them twice, while another handle commits."""
        asked = [self.change(document, actions) for actions in ours[:-1]]
        asked += [self.change(document, ours[-1], operation)] * 2
        tickets = [self.handles[at].submit(each) for each in asked]
        for actions in theirs:
            one = self.change(document, actions)
            self.mirror(one, submit(self.handles[1 - at], one))
        for each, ticket in zip(asked, tickets, strict=True):
            self.mirror(each, outcome_of(ticket.result))

    @rule(at=any_handle, batch=st.lists(st.tuples(any_document, any_actions), min_size=1, max_size=6))
    def batch(self, at: int, batch: list[tuple[DocumentId, list[Action]]]) -> None:
        """Changes of several documents are carried out by the store's own threads, and each is told once."""
        asked = [self.change(document, actions) for document, actions in batch]
        told: list[list[Outcome]] = [[] for _ in asked]
        left = threading.Semaphore(0)

        def finished(number: int) -> Callable[[Any], None]:
            def on_done(tickets: Any) -> None:
                for ticket in tickets:
                    told[number].append(outcome_of(ticket.result))
                    left.release()

            return on_done

        for number, each in enumerate(asked):
            self.handles[at].submit(each, finished(number))
        for _ in asked:
            assert left.acquire(timeout=60)
        self.let_drivers_end(at)
        for each, outcomes in zip(asked, told, strict=True):
            (outcome,) = outcomes
            self.mirror(each, outcome)

    def let_drivers_end(self, at: int) -> None:
        """Wait for the threads that carried out a batch: one that is not done yet would take what is queued next."""
        until = time.monotonic() + 60
        while any(document.driver_is_due for document in tuple(self.handles[at]._documents.values())):
            assert time.monotonic() < until
            time.sleep(0.0005)

    @rule(at=any_handle, plan=any_plan, operation=any_operation | st.none())
    def transact(self, at: int, plan: Plan, operation: int | None) -> None:
        asked = self.joint(plan, operation)
        self.mirror(asked, submit(self.handles[at], asked))

    @rule(at=any_handle, plan=any_plan, theirs=any_plan)
    def transact_while_others_do(self, at: int, plan: Plan, theirs: Plan) -> None:
        """Both stores say the same of whether what a transaction has read was changed since by another."""
        asked, other = self.joint(plan), self.joint(theirs)
        found, expected = asked.start(self.handles[at]), asked.start(self.memory)
        self.mirror(other, submit(self.handles[1 - at], other))
        outcome = found()
        if not (outcome.error is DocumentTooLarge and self.bounded):
            assert outcome == expected()

    @rule(at=any_handle)
    def settle(self, at: int) -> None:
        """What was decided is carried out to the end."""
        self.handles[at]._settle()
        self.touched.update(DOCUMENTS)

    # --- upkeep, time, opening and closing ---

    def tidy(self, store: TestedStore, document: DocumentId, what: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Document, "snapshot_is_due", staticmethod(lambda state: state.frames > 0))
            store.tidy(document, what)
        self.touched.add(document)

    @rule(at=any_handle, document=any_document, what=any_upkeep)
    def upkeep(self, at: int, document: DocumentId, what: str) -> None:
        self.tidy(self.handles[at], document, what)

    @rule(years=st.sampled_from([1, -1]))
    def jump(self, years: int) -> None:
        """The wall clock goes ten years ahead or back; then what is old may be forgotten at any time.

        Not behind 1970, to which no clock can be set: `clock_settime` refuses negative seconds.
        """
        self.now = max(self.now + years * _TEN_YEARS_US, 0)
        for document, versions in self.memory._history.items():
            for record in versions[-1].operations.values():
                if record.time_us < self.now - 7 * _DAY_US:
                    self.forgettable.add((document, record.operation_id))
            old = [each.version for each in versions if each.time_us < self.now - 30 * _DAY_US]
            self.cut[document] = max(self.cut.get(document, 0), *old, 0)

    @rule(at=any_handle, options=st.sampled_from(OPTIONS), cleanly=st.booleans())
    def reopen(self, at: int, options: dict[str, Any], cleanly: bool) -> None:
        self.handles[at].close() if cleanly else m.abandon(self.handles[at])
        self.handles[at] = self.opened(options)
        self.touched.update(DOCUMENTS)

    @rule()
    def read_only(self) -> None:
        if self.reader is not None:
            self.reader.close()
        self.reader = directory_store(self.path, read_only=True)
        with pytest.raises(StoreReadOnly):
            self.reader.submit(Change(DOCUMENTS[0], work_of([]), "refused", "test"))
        self.touched.update(DOCUMENTS)

    # --- processes ---

    @rule(at=any_handle, document=any_document, what=any_actions | any_plan, closes=st.booleans())
    def fork(self, at: int, document: DocumentId, what: Any, closes: bool) -> None:
        """A child goes on with all that the parent has open, and so does the parent."""
        asked = self.asked(document, what)

        def act(_report: Callable[[bytes], None]) -> None:
            self.compare(DOCUMENTS)
            self.mirror(asked, submit(self.handles[at], asked))
            self.compare(documents_of(asked))
            if closes:
                self.handles[at].close()

        before = self.versions(self.memory, asked)
        ended = m.in_child(act)
        assert ended.status == 0, ended.report.decode(errors="replace")
        if not (self.bounded and self.versions(self.handles[at], asked) == before):
            self.do(asked, repeats=False)

    @rule(
        document=any_document,
        plan=st.lists(
            any_upkeep | any_actions | any_plan | st.sampled_from(["close", "settle"]), min_size=1, max_size=4
        ),
        at=st.integers(1, 60),
        torn=st.integers(0, 2),
        inherits=any_handle | st.none(),
        options=st.sampled_from(OPTIONS),
    )
    def kill(
        self, document: DocumentId, plan: list[Any], at: int, torn: int, inherits: int | None, options: dict[str, Any]
    ) -> None:
        """A process is killed before one of its system calls, or within a write."""
        steps = [each if isinstance(each, str) else self.asked(document, each) for each in plan]
        self.touched.add(document)
        self.bounded |= "max_file_size" in options

        def act(report: Callable[[bytes], None]) -> None:
            store = directory_store(self.path, **options) if inherits is None else self.handles[inherits]
            for step in steps:
                if not isinstance(step, str):
                    report(b"L" if submit(store, step).error is DocumentTooLarge else b".")
                elif step == "close":
                    store.close()
                    return
                elif step == "settle":
                    store._settle()
                else:
                    self.tidy(store, document, step)

        ended = m.killed_child(act, at, torn)
        assert ended.killed or ended.status == 0, ended.report.decode(errors="replace")
        changes = [step for step in steps if not isinstance(step, str)]
        for step, told in zip(changes, ended.report.decode(), strict=False):
            if told == ".":
                self.do(step, repeats=False)
        if ended.killed and len(ended.report) < len(changes):
            self.resolve(changes[len(ended.report)], self.handles[0])

    # --- refused system calls ---

    @rule(
        at=any_handle,
        document=any_document,
        actions=any_actions | any_plan | any_upkeep | st.sampled_from(["reopen", "settle"]),
        what=st.sampled_from(m.FAULTS),
        call=st.integers(1, 4),
        onwards=st.booleans(),
    )
    def fail(
        self, at: int, document: DocumentId, actions: Any, what: tuple[str, int], call: int, onwards: bool
    ) -> None:
        """Calls are refused: a change happens, or nothing was changed, or its outcome is said to be unknown."""
        asked = None if isinstance(actions, str) else self.asked(document, actions)
        found = Outcome(None)
        with system_calls() as calls:
            calls.fault = m.fault_of(*what, call, onwards)
            try:
                if asked is not None:
                    found = submit(self.handles[at], asked)
                elif actions == "reopen":
                    m.abandon(self.handles[at])
                    self.handles[at] = directory_store(self.path, **OPTIONS[0])
                elif actions == "settle":
                    self.handles[at]._settle()
                else:
                    self.tidy(self.handles[at], document, actions)
            except WaypostError as error:
                found = Outcome(type(error))
        raised = found.error
        poisoned = any(each.is_poisoned for each in self.handles[at]._documents.values())
        if raised is StoreNotFound or poisoned or (actions == "reopen" and raised is not None):
            m.abandon(self.handles[at])
            self.handles[at] = self.opened(OPTIONS[call % len(OPTIONS)])
        assert raised in (None, StoreUnavailable, StorePoisoned) or asked is not None or actions == "reopen", raised
        if asked is not None and (raised is StorePoisoned or found.unknown):
            self.resolve(asked, self.handles[at])
        elif asked is not None and raised is not StoreUnavailable:
            self.mirror(asked, found)
        self.touched.update(DOCUMENTS)

    # --- comparing ---

    @invariant()
    def agrees(self) -> None:
        StoreMachine.steps += 1
        self.compare(self.touched)
        self.touched.clear()

    def compare(self, documents: Any) -> None:
        for store in [*self.handles, *([self.reader] if self.reader else [])]:
            for document in documents:
                expected, found = self.memory.view(document), store.view(document)
                m.assert_equal_views(expected, found)
                self.compare_operation(document, f"op{self.number % 6}", expected, found)
                self.compare_version(store, document, self.number * 7919 % (expected.version + 2))

    def compare_operation(self, document: DocumentId, operation: str, expected: View, found: View) -> None:
        remembered = expected.operation(operation)
        if found.operation(operation) is not None or (document, operation) not in self.forgettable:
            assert found.operation(operation) == remembered

    def compare_version(self, store: TestedStore, document: DocumentId, version: int) -> None:
        expected, found = self.memory.view_at(document, version), store.view_at(document, version)
        if expected is None:
            assert found is None
        elif found is not None:
            m.assert_equal_views(expected, found)
        else:
            newest = self.memory.view(document).version
            assert version < self.cut.get(document, 0) or (self.bounded and version < newest)

    def teardown(self) -> None:
        try:
            if self.handles:
                self.compare_all()
        finally:
            self.patch.undo()
            shutil.rmtree(os.path.dirname(self.path))

    def compare_all(self) -> None:
        self.compare(DOCUMENTS)
        m.assert_lists(self.handles[0], self.memory)
        for store in [*self.handles, *([self.reader] if self.reader else [])]:
            store.close()
        directory_store(self.path).close()  # which removes what the killed were writing
        last = directory_store(self.path, read_only=True)
        self.handles, self.reader = [last], None
        for document in DOCUMENTS:
            for version in range(self.memory.view(document).version + 1):
                self.compare_version(last, document, version)
            expected, found = self.memory.view(document), last.view(document)
            for number in range(6):
                self.compare_operation(document, f"op{number}", expected, found)
        m.assert_lists(last, self.memory)
        findings = [found for found in last.verify().findings if found.severity in ("damage", "leftover")]
        assert findings == [], findings
        last.close()


def run_machine(machine: Any, part: int, steps: int) -> int:
    """Run a machine for so many steps at least, from seeds that follow from the printed one; how many it did."""
    print(f"WAYPOST_TEST_SEED={SEED}, part {part}")
    before = machine.steps
    for number in range(1000):
        seed(SEED * 1_000_000 + part * 1000 + number)(machine)
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=5,
                stateful_step_count=50,
                deadline=None,
                print_blob=True,
                database=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            ),
        )
        if machine.steps - before >= steps:
            return machine.steps - before
    raise AssertionError(f"the machine did {machine.steps - before} steps")


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("part", range(PARTS))
def test_t10_the_directory_store_equals_the_memory_store_whatever_happens(part: int, totals: Totals) -> None:
    """Changes, batches, repetitions, upkeep, kills, forks, clock jumps and failing calls leave both stores equal."""
    totals("model steps", run_machine(StoreMachine, part, STEPS_OF_A_PART))
