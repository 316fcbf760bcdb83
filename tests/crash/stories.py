"""A store at work while it is recorded: what is done to it, what that promises, and how it is cut short.

A `Run` opens stores, commits, and sets the marks for what was attempted and promised; what is done stands in `plots`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any, NamedTuple

import pytest

from tests.crash.oracle import MADE, Changes, Parts, Standing, Story, after_reboot, imported, key_of, open_store
from tests.crash.recording import Event, Killed, Mark, Recorder, Synced
from tests.crash.simulated import BASE, Machine, Tree, running_on
from tests.store.support import WF, TestedStore, change
from waypost.errors import StoreError, StoreNotFound, WaypostError
from waypost.store import DocumentId, JointChange, Transaction
from waypost.store.contract import ADOPTED, CHECKPOINT
from waypost.store.directory import claims, context, decisions, document, log, upkeep
from waypost.store.memory import MemoryStore

OTHER, THIRD = DocumentId("workflow", "other"), DocumentId("workflow", "third")
PATH = "/above/store"
"""Where the store is: two directories deep, which it makes itself."""
PLAIN = {"compression.enabled": False, "compression.chunk_size": 4096}

Work = Callable[["Run"], None]


class Workload(NamedTuple):
    name: str
    options: dict[str, Any]
    work: Work
    share: int = 1
    """Of the states that a crash may leave, one in so many is tried: there is more to look at in each."""

    def some(self, wanted: int) -> int:
        return max(1, wanted // self.share)


class Run:
    """A workload under way: opens stores, commits to them, and notes what that promises."""

    def __init__(self, system: Recorder, options: dict[str, Any], base: str, story: Story | None = None) -> None:
        self.system = system
        self.options = options
        self.story = story or Story()
        self.path = base + PATH
        self._random = random.Random(5)
        self._under_way: list[int] = []
        self._arriving: dict[int, tuple[DocumentId, ...]] = {}
        self._stores: list[tuple[str, TestedStore]] = []

    @property
    def is_durable(self) -> bool:
        return self.options.get("reliability.enable_wal", True)

    def acting_as(self, process: str) -> AbstractContextManager[None]:
        return self.system.acting_as(process)

    def open(self) -> TestedStore:
        store = open_store(self.path, self.options)
        self._stores.append((self.system.process, store))
        self.promise(MADE)
        return store

    def promise(self, *numbers: int) -> None:
        for number in numbers:
            self.system.mark("promised", number)

    def commit(
        self,
        store: TestedStore,
        *documents: DocumentId,
        large: int = 0,
        again: int | None = None,
        checkpoint: bool = False,
        imports: bool = False,
        without: tuple[int, ...] = (),
        arriving: tuple[DocumentId, ...] = (),
    ) -> int:
        """Commit to documents (to `WF` when none is named), or repeat an attempt; the number of the attempt.

        With a `checkpoint`, which gets that number, or imports one as that, and `without` those of earlier attempts.
        Those that are `arriving` come from another store, with a past of one commit.
        """
        number = again or max(self.story.attempts, default=0) + 1
        if again is None:
            parts: dict[str, bytes | None] = {key_of(number): b"%d " % number * 5, "last": b"%d" % number}
            if large:
                parts[f"large{number % 2}"] = self._random.randbytes(large)
            if checkpoint:
                parts[f"{CHECKPOINT}{number:06}"] = b"%d" % number
            if imports:
                parts[f"{ADOPTED}{number:06}"] = b"%d" % number
            parts.update({f"{kind}{each:06}": None for each in without for kind in (CHECKPOINT, ADOPTED)})
            self._arriving[number] = arriving
            self.attempt(number, dict.fromkeys((*documents, *arriving) or (WF,), parts))
        try:
            self._submit(store, number)
        except WaypostError:
            self.system.mark("failed", number)
            raise
        self.system.mark("promised" if self.is_durable else "kept", number)
        if number in self._under_way:
            self._under_way.remove(number)
        return number

    def attempt(self, number: int, changes: Changes) -> None:
        self.story.attempts[number] = changes
        self.system.mark("tried", number)
        self._under_way.append(number)

    def _submit(self, store: TestedStore, number: int) -> None:
        changes, name = self.story.attempts[number], f"operation-{number}"
        if arriving := self._arriving.get(number):
            _let_arrive(store, changes, arriving, name)
            return
        if len(changes) > 1:
            _commit_jointly(store, changes, name)
            return
        ((target, parts),) = changes.items()
        adopted = [key.removeprefix(ADOPTED) for key in parts if key.startswith(ADOPTED) and parts[key]]
        checks = [store.take_in(imported(target, each), each) for each in adopted]

        def work(tx: Transaction) -> None:
            for check in checks:
                check()
            _put(tx, parts)

        store.submit(change(target, work, operation_id=name, repeatable=True)).result()

    def look(self, store: TestedStore, *documents: DocumentId) -> None:
        """Read, which promises what is shown."""
        for each in documents or (WF,):
            shown = self.story.present(each, store.view(each))
            if self.is_durable:
                self.promise(*sorted(shown))

    def tidy(self, store: TestedStore, action: str, document: DocumentId = WF) -> None:
        if not store.tidy(document, action):
            raise StoreError(f"there was nothing to do for {action}")

    def keep(self, store: TestedStore, *, newest_only: bool = False) -> None:
        """Have the files of checkpoints written and removed, as upkeep does."""
        store._document(WF).keep_checkpoints(newest_only=newest_only)

    def settle(self, store: TestedStore) -> None:
        """Have what was decided carried out to the end, as upkeep does by and by."""
        store._settle()

    def close(self, store: TestedStore) -> None:
        """Close, after which even a store that waits for no sync keeps everything, unless a sync has failed."""
        store.close()
        events = self.system.events
        if not any(isinstance(event, Synced) and event.failed for event in events):
            self.promise(*(event.number for event in events if isinstance(event, Mark) and event.kind == "kept"))

    def kill(self, process: str) -> None:
        self.system.kill(process)
        self.give_up()

    def give_up(self) -> None:
        """What was under way may or may not be there."""
        for number in self._under_way:
            self.system.mark("failed", number)
        self._under_way.clear()

    def close_all(self) -> None:
        """Close what a workload that was cut short left open."""
        for process, store in self._stores:
            if self.system.is_alive(process):
                with self.acting_as(process):
                    store.close()

    def meanwhile(self, act: Callable[[], Any], process: str | None = None) -> None:
        """Have something done, by a process, while the next sync is under way; when that fails, it is not the sync
        that does.
        """

        def acting() -> None:
            with suppress(WaypostError):
                act()

        self.system.during_sync.append((process or self.system.process, acting))

    def die_within_a_write(self, taken: int, act: Callable[[], Any], writes: int = 0) -> None:
        """Do something in a process that dies when so many bytes of its next write, but `writes`, are taken."""
        self.system.die_within, self.system.writes_before = taken, writes
        with pytest.raises(Killed):
            act()
        self.kill(self.system.process)


def _put(tx: Transaction, parts: Parts) -> None:
    for key, value in parts.items():
        if value is None:
            tx.delete(key)
        else:
            tx.put(key, value)


def _commit_jointly(store: TestedStore, changes: Changes, operation_id: str) -> None:
    """A commit over several documents, unless it was made already."""
    while True:
        joint = store.begin()
        opened = {document: joint.document(document) for document in changes}
        if any(tx.operation(operation_id) for tx in opened.values()):
            return
        for each, parts in changes.items():
            _put(opened[each], parts)
        if store.commit(joint, JointChange(operation_id, "test", repeatable=True)) is not None:
            return


def _let_arrive(store: TestedStore, changes: Changes, arriving: tuple[DocumentId, ...], operation_id: str) -> None:
    """A commit with which documents arrive, unless it was made already."""
    source = MemoryStore()
    for each in arriving:
        source.submit(change(each, partial(_put, parts=changes[each]), operation_id=operation_id)).result()
    while not all(store.view(each).operation(operation_id) for each in changes):
        received = store.receive()
        try:
            for each in arriving:
                received.take(each, source.past(each), None)
            joint = store.begin()
            for each, parts in changes.items():
                if each not in arriving:
                    _put(joint.document(each), parts)
            if store.commit(joint, JointChange(operation_id, "test"), received) is not None:
                return
        finally:
            received.close()


class Recording(NamedTuple):
    """What came about, from which tree, and what it was about."""

    before: Tree
    events: list[Event]
    story: Story
    options: dict[str, Any]

    def standing(self, count: int, kind: str = "promised") -> Standing:
        """What held when the first `count` events were over."""
        numbers: dict[str, set[int]] = {"tried": set(), "failed": set(), "promised": set(), "kept": set()}
        for event in self.events[:count]:
            if isinstance(event, Mark):
                numbers[event.kind].add(event.number)
        promised = numbers["promised"] | (numbers["kept"] if kind == "kept" else set())
        return Standing(*map(frozenset, (numbers["tried"], numbers["failed"], promised)))


def recording_of(system: Recorder, run: Run) -> Recording:
    system.check()
    return Recording(system.before, system.events, run.story, run.options)


def inherit(run: Run, *, after_failed_sync: bool = False) -> None:
    """What comes after a failure: somebody reads, another repeats what was under way, goes on, and closes.

    Who may only read cannot make up for a failed sync of another process, and is not told of it.
    """
    documents = sorted({document for changes in run.story.attempts.values() for document in changes})
    with run.acting_as("reader"), suppress(StoreNotFound):
        reader = open_store(run.path, run.options, read_only=True)
        if not after_failed_sync:
            run.look(reader, *documents)
        reader.close()
    with run.acting_as("heir"):
        store = run.open()
        run.look(store, *documents)
        if run.story.attempts:
            run.commit(store, again=max(run.story.attempts))
        run.commit(store, *documents)
        run.close(store)


def record_recovery(tree: Tree, story: Story, standing: Standing, options: dict[str, Any]) -> Recording:
    """What an heir does on a machine that was started again after a crash."""
    system = Recorder(Machine(tree))
    for kind, numbers in (("tried", standing.tried), ("failed", standing.tried), ("promised", standing.promised)):
        for number in sorted(numbers):
            system.mark(kind, number)
    run = Run(system, options, BASE, story.up_to(standing))
    with running_on(system), after_reboot():
        inherit(run)
    return recording_of(system, run)


class CutShort(NamedTuple):
    """A recording in which something went wrong, and how many events there were then."""

    recording: Recording
    at: int


def record_with_a_kill(chosen: Workload, change: int) -> CutShort | None:
    """All processes die before the n-th change, and an heir goes on; None when there are fewer changes."""
    system = Recorder(Machine(Tree()))
    system.die_before = change
    run = Run(system, chosen.options, BASE)
    with running_on(system):
        try:
            chosen.work(run)
            return None
        except Killed:
            pass
        at = _stop(system, run)
        inherit(run)
    return CutShort(recording_of(system, run), at)


def record_with_a_failed_sync(chosen: Workload, sync: int) -> CutShort | None:
    """The n-th sync fails, and an heir goes on where that ended the workload; None when there are fewer syncs."""
    system = Recorder(Machine(Tree()))
    system.failing_sync = sync
    run = Run(system, chosen.options, BASE)
    with running_on(system):
        try:
            chosen.work(run)
        except WaypostError:
            system.during_sync.clear()
            system.die_within = None
            run.close_all()
            _stop(system, run)
            inherit(run, after_failed_sync=True)
    failures = [at for at, event in enumerate(system.events) if isinstance(event, Synced) and event.failed]
    return CutShort(recording_of(system, run), failures[0]) if failures else None


def _stop(system: Recorder, run: Run) -> int:
    system.die_before = None
    system.during_sync.clear()
    system.kill_all()
    run.give_up()
    return len(system.events)


def record(chosen: Workload, below: Any) -> Recording:
    """Run a workload to its end, on a real directory or a simulated machine."""
    system = Recorder(below)
    run = Run(system, chosen.options, str(below) if hasattr(below, "rglob") else BASE)
    with running_on(system):
        chosen.work(run)
    return recording_of(system, run)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing happens by chance or by the clock: random numbers come in order, upkeep only when it is asked for.

    Logs grow in smaller steps and snapshots come sooner, so that few operations tell as much as many.
    """
    clock_us = iter(range(1_700_000_000_000_000, 1_800_000_000_000_000, 1000))
    monkeypatch.setattr("os.urandom", random.Random(7).randbytes)
    monkeypatch.setattr("waypost.clock.now_us", lambda: next(clock_us))
    monkeypatch.setattr(upkeep.Upkeep, "ask", lambda self, document: None)
    monkeypatch.setattr(upkeep.Upkeep, "ask_to_settle", lambda self: None)
    monkeypatch.setattr(upkeep.Upkeep, "start_ticking", lambda self: None)
    monkeypatch.setattr(claims.Claims, "_beat", lambda self, done: None)
    monkeypatch.setattr(claims, "_PATIENCE_S", 0)
    monkeypatch.setattr(context, "mount_of", lambda path: ("ext4", "/"))
    monkeypatch.setattr(document, "SNAPSHOT_FRAMES", 2)
    monkeypatch.setattr(decisions, "_TICK_NS", 1 << 62)
    monkeypatch.setattr(log, "_FILL_LEAST", 8192)
    monkeypatch.setattr(log, "LOCK_TIMEOUT_S", 0)  # whoever holds it waits for us, so it is never given back
    new_pool = context.Context.new_pool  # of which the one that carries queues on has a name, and stays
    pools = {"waypost": new_pool, "": lambda self, name: _InOrder()}
    monkeypatch.setattr(context.Context, "new_pool", lambda self, name="": pools[name](self, name))


class _InOrder:
    """An executor without threads."""

    def __enter__(self) -> _InOrder:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, act: Callable[..., Any], *args: Any) -> _InOrder:
        self._result = act(*args)
        done = _InOrder()
        done._result = self._result
        return done

    def result(self) -> Any:
        return self._result
