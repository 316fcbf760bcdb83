"""One run of a workload: the writes it tries, and what it tells of each."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ON_REQUEST
from tests.crash.faults import Fault, Shim, Tell, in_child, installed
from tests.store.support import TestedStore
from waypost import config
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import WaypostError
from waypost.operations import OperationResult, Write, status_of
from waypost.store import DocumentId, Store
from waypost.store.directory import upkeep

WF = DocumentId("workflow", "wf")
NOW_US = 1_790_000_000_000_000
LARGE = random.Random(7).randbytes(9_000)
"""A value that does not compress, longer than two chunks."""

_CHUNKED: dict[str, object] = {"chunk_size": 4096}
OPTIONS: dict[str, dict[str, dict[str, object]]] = {
    "chunked": {"compression": _CHUNKED, "checkpoints": ON_REQUEST},
    "plain": {"compression": {**_CHUNKED, "enabled": False}, "checkpoints": ON_REQUEST},
    "relaxed": {"reliability": {"enable_wal": False, "sync_frequency": 3_600_000}, "checkpoints": ON_REQUEST},
    "keeping": {"compression": _CHUNKED, "retention": {"max_checkpoints": 2, "min_checkpoints": 1}},
}
"""The configurations that workloads run under, by name; `keeping` makes and removes checkpoints as steps go."""


@cache
def configuration(options: str) -> config.Config:
    return config.load("production", OPTIONS[options], environment={})


def open_store(path: Path, options: str, *, read_only: bool = False) -> TestedStore:
    """A directory store, made where there is none unless it is only to be read."""
    store = TestedStore.open(str(path), configuration(options), create=not read_only, read_only=read_only)
    assert isinstance(store, TestedStore)
    return store


def handle(store: Store, options: str) -> Waypost:
    return Waypost(Definitions(store, configuration(options), verbose=False))


def _nothing(_: str) -> None:
    pass


class Run:
    """One run of a workload: each write is told before it is tried, and what became of it after.

    With `only`, as over the memory store that serves as the model, writes that are not among them are left out.
    """

    def __init__(
        self,
        wp: Waypost,
        options: str,
        *,
        path: Path | None = None,
        shim: Shim | None = None,
        tell: Tell = _nothing,
        only: frozenset[str] | None = None,
        prefix: str = "act",
    ) -> None:
        self.wp = wp
        self.options = options
        self.path = path
        self.shim = shim or Shim()
        self.tell = tell
        self.only = only
        self.prefix = prefix
        self.count = 0
        self.operations: set[str] = set()

    @property
    def is_model(self) -> bool:
        return self.path is None

    def group(self, prefix: str) -> None:
        """Name the next writes anew, so that their names do not depend on whether those before were tried."""
        self.prefix, self.count = prefix, 0

    def attempt(self, operation: str) -> str | None:
        """The operation id of the next write, which is told; None when it is to be left out."""
        self.count += 1
        self.operations.add(operation)
        name = f"{self.prefix}-{self.count}"
        if self.only is not None and name not in self.only:
            return None
        self.tell(f"attempt {name}")
        return name

    def repeat(
        self,
        operation: str,
        act: Callable[[Waypost, str], OperationResult[Any]],
        *by: AbstractContextManager[Waypost],
    ) -> None:
        """Try one write by each of several in turn, under one operation id, as after answers that were lost."""
        name = self.attempt(operation)
        if name is None:
            return
        for turn, one in enumerate(by):
            if turn:
                self.tell(f"attempt {name}")
            with one as wp:
                self.settle(name, act(wp, name))

    def settle(self, name: str, result: OperationResult[Any]) -> None:
        """Tell what became of a write."""
        if result:
            self.tell(f"{'repeated' if result.repeated else 'acknowledged'} {name}")
        else:
            self.tell(f"{result.status} {name} {type(result.error).__name__}: {result.error}")

    def write(self, operation: str, *args: Any, by: Waypost | None = None, **kwargs: Any) -> None:
        """Try one public write, and tell what became of it."""
        name = self.attempt(operation)
        if name is not None:
            self.settle(name, getattr(by or self.wp, operation)(*args, operation_id=name, **kwargs))

    def edit(self, workflow_id: str, change: Callable[[Any], None]) -> None:
        """Load a state, change it in place, and save it."""
        name = self.attempt("save_workflow_state")
        if name is None:
            return
        loaded = self.wp.load_workflow_state(workflow_id)
        if not loaded:
            self.tell(f"rolled_back {name} {type(loaded.error).__name__}: {loaded.error}")
            return
        state = loaded.unwrap()
        change(state)
        self.settle(name, self.wp.save_workflow_state(state, operation_id=name))

    def transact(self, work: Callable[[Any], Any], *, times: int = 1, by: Waypost | None = None) -> None:
        """Try one transaction; with `times`, again under the same operation id, as after an answer that was lost."""
        callers = [nullcontext(by or self.wp)] * times
        self.repeat("transact", lambda wp, name: wp.transact(work, operation_id=name), *callers)

    def transact_and_die(self, work: Callable[[Any], Any], fault: Callable[[], Fault]) -> None:
        """Another process tries a transaction, decides it, and is killed by a fault that comes behind the decision."""
        if self.path is None:
            self.transact(work)
            return
        name, path, shim = self.attempt("transact"), self.path, Shim(fault())

        def act(_: Tell) -> None:
            with installed(shim):
                store = open_store(path, self.options)
                with shim.active():
                    handle(store, self.options).transact(work, operation_id=name)

        ended = in_child(act)
        assert ended.killed, ended

    def carry_out(self) -> None:
        """What was decided and is not carried out yet is carried out and forgotten, as upkeep does by and by."""
        if not self.is_model:
            store = self.wp.definitions.store
            assert isinstance(store, TestedStore)
            store._settle()

    def write_together(self, *writes: tuple[str, tuple[Any, ...]]) -> None:
        """Hand several writes in before any is waited for, so that one batch commits them."""
        store, tickets = self.wp.definitions.store, []
        for operation, args in writes:
            name = self.attempt(operation)
            if name is None:
                continue
            request = getattr(self.wp.definitions, operation)(*args, operation_id=name)
            assert isinstance(request, Write)
            try:
                tickets.append((name, request, store.submit(request.change())))
            except WaypostError as error:
                self.settle(name, request.failed(error))
        for name, request, ticket in tickets:
            try:
                receipt = ticket.result()
            except WaypostError as error:
                self.settle(name, request.failed(error, status_of(error)))
            else:
                self.settle(name, request.done(receipt))

    def upkeep(self, action: str, *, by: Waypost | None = None, of: str = WF.id) -> None:
        """A snapshot or a compaction, now. What it fails with harms nobody."""
        if self.is_model:
            return
        store = (by or self.wp).definitions.store
        assert isinstance(store, TestedStore)
        try:
            self.tell(f"upkeep {action} {'done' if store.tidy(DocumentId('workflow', of), action) else 'left'}")
        except WaypostError as error:
            self.tell(f"upkeep {action} {type(error).__name__}: {error}")

    @contextmanager
    def elsewhere(self) -> Iterator[Waypost]:
        """Another process of this machine, whom no fault hits."""
        if self.path is None:
            yield self.wp
            return
        with self.shim.paused():
            store = open_store(self.path, self.options)
            try:
                yield handle(store, self.options)
            finally:
                store.close()


@contextmanager
def frequent_snapshots() -> Iterator[None]:
    """A snapshot is due after every commit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upkeep.Document, "snapshot_is_due", staticmethod(lambda _: True))
        yield
