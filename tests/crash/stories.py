"""What is done to a store while it is recorded. A workload is a function of a `Run`, decorated with its name.

    @workload("two commits")
    def two_commits(run: Run) -> None:
        store = run.open()
        run.commit(store)
        run.commit(store, large=20_000)
        run.close(store)

Marks for what was attempted and promised are set by the run. `run.acting_as("second")` does what follows as another
process, `run.kill("second")` ends one without a word, and `run.meanwhile(act)` has something done while the next
sync is under way.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any, NamedTuple

import pytest

from tests.crash.oracle import MADE, Changes, Standing, Story, after_reboot, key_of, open_store
from tests.crash.recording import Event, Killed, Mark, Recorder, Synced
from tests.crash.simulated import BASE, Machine, Tree, running_on
from tests.store.support import WF, TestedStore, change
from waypost.errors import StoreError, StoreNotFound, WaypostError
from waypost.store import DocumentId, Transaction
from waypost.store.directory import compaction, context, decisions, document, log, upkeep

OTHER = DocumentId("workflow", "other")
PATH = "/above/store"
"""Where the store is: two directories deep, which it makes itself."""
PLAIN = {"compression.enabled": False, "compression.chunk_size": 4096}

Work = Callable[["Run"], None]


class Workload(NamedTuple):
    name: str
    options: dict[str, Any]
    work: Work


WORKLOADS: dict[str, Workload] = {}


def workload(name: str, **options: Any) -> Callable[[Work], Work]:
    """Register a workload; options of the store with `__` for the dot."""

    def register(work: Work) -> Work:
        given = {option.replace("__", "."): value for option, value in options.items()}
        WORKLOADS[name] = Workload(name, {**PLAIN, **given}, work)
        return work

    return register


class Run:
    """A workload under way: opens stores, commits to them, and notes what that promises."""

    def __init__(self, system: Recorder, options: dict[str, Any], base: str, story: Story | None = None) -> None:
        self.system = system
        self.options = options
        self.story = story or Story()
        self.path = base + PATH
        self._random = random.Random(5)
        self._under_way: list[int] = []
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

    def commit(self, store: TestedStore, *documents: DocumentId, large: int = 0, again: int | None = None) -> int:
        """Commit to documents (to `WF` when none is named), or repeat an attempt; the number of the attempt."""
        number = again or max(self.story.attempts, default=0) + 1
        if again is None:
            parts: dict[str, bytes | None] = {key_of(number): b"%d " % number * 5, "last": b"%d" % number}
            if large:
                parts[f"large{number % 2}"] = self._random.randbytes(large)
            self.attempt(number, dict.fromkeys(documents or (WF,), parts))
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
        ((target, parts),) = self.story.attempts[number].items()

        def work(tx: Transaction) -> None:
            for key, value in parts.items():
                if value is None:
                    tx.delete(key)
                else:
                    tx.put(key, value)

        store.submit(change(target, work, operation_id=f"operation-{number}", repeatable=True)).result()

    def look(self, store: TestedStore, *documents: DocumentId) -> None:
        """Read, which promises what is shown."""
        for each in documents or (WF,):
            shown = self.story.present(each, store.view(each))
            if self.is_durable:
                self.promise(*sorted(shown))

    def tidy(self, store: TestedStore, action: str) -> None:
        if not store.tidy(WF, action):
            raise StoreError(f"there was nothing to do for {action}")

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

    def meanwhile(self, act: Callable[[], Any]) -> None:
        """Have something done while the next sync is under way; when that fails, it is not the sync that does."""

        def acting() -> None:
            with suppress(WaypostError):
                act()

        self.system.during_sync.append(acting)

    def die_within_a_write(self, taken: int, act: Callable[[], Any]) -> None:
        """Do something in a process that dies when so many bytes of its next write are taken."""
        self.system.die_within = taken
        with pytest.raises(Killed):
            act()
        self.kill(self.system.process)


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
        run.commit(store)
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
    monkeypatch.setattr(upkeep.Upkeep, "start_ticking", lambda self: None)
    monkeypatch.setattr(context, "mount_of", lambda path: ("ext4", "/"))
    monkeypatch.setattr(document, "SNAPSHOT_FRAMES", 2)
    monkeypatch.setattr(decisions, "_TICK_NS", 1 << 62)
    monkeypatch.setattr(log, "_FILL_LEAST", 8192)
    monkeypatch.setattr("waypost.store.directory.check.ThreadPoolExecutor", _InOrder)


class _InOrder:
    """An executor without threads."""

    def __init__(self, workers: int) -> None:
        pass

    def __enter__(self) -> _InOrder:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, act: Callable[..., Any], *args: Any) -> _InOrder:
        self._result = act(*args)
        done = _InOrder(0)
        done._result = self._result
        return done

    def result(self) -> Any:
        return self._result


# --- the workloads --------------------------------------------------------------------------------


@workload("first commit")
def first_commit(run: Run) -> None:
    store = run.open()
    run.commit(store)
    run.close(store)


@workload("appends")
def appends(run: Run) -> None:
    store = run.open()
    run.commit(store)
    for large in (0, 6000, 0, 9000):
        run.commit(store, large=large)
    run.commit(store, OTHER)
    run.close(store)


@workload("compressed", compression__enabled=True, compression__threshold=0)
def compressed(run: Run) -> None:
    store = run.open()
    for large in (0, 5000, 0):
        run.commit(store, large=large)
    run.tidy(store, "snapshot")
    run.commit(store)
    run.close(store)


@workload("two handles")
def two_handles(run: Run) -> None:
    """Each commits while the other's sync is under way, and reads what the other has not synced yet."""
    first = run.open()
    with run.acting_as("second"):
        second = run.open()

    def as_second(act: Callable[[], Any]) -> Callable[[], None]:
        def acting() -> None:
            with run.acting_as("second"):
                act()

        return acting

    run.commit(first)
    run.meanwhile(as_second(lambda: run.commit(second)))
    run.commit(first)
    run.meanwhile(as_second(lambda: run.look(second)))
    run.commit(first, large=5000)
    with run.acting_as("third"):
        third = run.open()
    run.meanwhile(as_second(lambda: run.commit(second)))
    run.meanwhile(lambda: run.commit(third))
    run.commit(first)
    with run.acting_as("third"):
        run.close(third)
    with run.acting_as("second"):
        run.close(second)
    run.commit(first)
    run.close(first)


@workload("snapshots")
def snapshots(run: Run) -> None:
    """Some stand on commits that are not synced yet."""
    store = run.open()
    for _ in range(2):
        run.commit(store, large=5000)
        run.commit(store)
        run.tidy(store, "snapshot")
    run.commit(store)
    run.meanwhile(lambda: run.tidy(store, "snapshot"))
    run.commit(store, large=12000)
    run.commit(store)
    run.close(store)


@workload("compaction")
def compact(run: Run) -> None:
    """All history is kept; a commit comes in while the new file is synced, and others follow."""
    store = run.open()
    for large in (0, 5000, 0):
        run.commit(store, large=large)
    run.tidy(store, "snapshot")
    run.meanwhile(lambda: run.commit(store))
    run.tidy(store, "compact")
    run.commit(store)
    run.close(store)


@workload("shortened")
def shorten(run: Run) -> None:
    """History goes, and the old file is kept as a backup."""
    store = run.open()
    for large in (5000, 0, 0):
        run.commit(store, large=large)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "HISTORY_US", 1)
        for _ in range(2):
            run.tidy(store, "compact")
            run.commit(store)
    run.close(store)


@workload("closing")
def closing(run: Run) -> None:
    for _ in range(3):
        store = run.open()
        run.commit(store)
        run.close(store)


@workload("torn tail")
def torn_tail(run: Run) -> None:
    """Writers die within a write, and the next ones clear what they left: one that lives on, and one that comes."""
    store = run.open()
    run.commit(store)
    with run.acting_as("second"):
        second = run.open()
        run.die_within_a_write(300, lambda: run.commit(second, large=5000))
    run.commit(store)
    with run.acting_as("third"):
        third = run.open()
        run.die_within_a_write(4500, lambda: run.commit(third, large=6000))
    run.kill("first")
    with run.acting_as("fourth"):
        store = run.open()
        run.commit(store)
        run.close(store)


@workload("unsynced", reliability__enable_wal=False)
def unsynced(run: Run) -> None:
    """Acknowledged before the sync: the end of the process costs nothing, the power what was not synced."""
    store = run.open()
    for large in (0, 5000, 0):
        run.commit(store, large=large)
    run.tidy(store, "snapshot")
    run.commit(store)
    run.close(store)
    store = run.open()
    run.commit(store)
    run.close(store)
