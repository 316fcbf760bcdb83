"""Hooks and folders at work on a spool while they are recorded, and what a crash may leave of that.

The script's own function makes an event, and the fold takes it in; of each event the document keeps how often it was.
An event is a number: promised when its script was done with it. Those from `UNUSABLE` on are of a dialect that nobody
speaks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from tests.crash.campaign import Campaign
from tests.crash.oracle import Standing, Story, Wrong, after_reboot, open_store
from tests.crash.recording import Killed, Recorder
from tests.crash.simulated import BASE, Machine, Tree, running_on
from tests.crash.stories import PATH, PLAIN, Recording
from tests.store.support import WF, TestedStore, change
from waypost import clock
from waypost.hooks import intake, script
from waypost.hooks.entries import Entry
from waypost.store import Transaction
from waypost.store.reports import Finding

UNUSABLE = 100
SPOOL = f"{BASE}{PATH}/spool"
Act = Callable[["Scene"], None]


class _Calls:
    """Stands in for `posix` in the script: chance is that of the tests."""

    def __init__(self, system: Any) -> None:
        self._system = system

    def __getattr__(self, name: str) -> Any:
        import os

        return getattr(os if name == "urandom" else self._system, name)


@contextmanager
def scripts_on(system: Any) -> Iterator[None]:
    """Have the script make its system calls to something else, and the store as well."""
    before = script.posix, script.fcntl
    script.posix, script.fcntl = _Calls(system), system.fcntl  # type: ignore[assignment]
    try:
        with running_on(system):
            yield
    finally:
        script.posix, script.fcntl = before


class Scene:
    """Hooks and folders, each a process of its own."""

    def __init__(self, system: Recorder) -> None:
        self.system = system
        self._processes = 0

    def hook(self, number: int, *, dies_within: int | None = None) -> None:
        """One process hands an event over; it may die when so many bytes are written."""
        self._processes += 1
        name = f"hook{self._processes}"
        with self.system.acting_as(name):
            self.system.mark("tried", number)
            self.system.die_within = dies_within
            try:
                hand_over(number)
                self.system.mark("promised", number)
            except Killed:
                if dies_within is None or self.system.die_within is not None:
                    raise  # of another cause
        self.system.kill(name)

    def fold(self) -> None:
        """One process opens the store, folds in what waits, and closes it."""
        self._processes += 1
        with self.system.acting_as(f"folder{self._processes}"):
            store = open_store(BASE + PATH, PLAIN)
            fold(store)
            store.close()


def hand_over(number: int) -> None:
    """What the script does once it has read an event."""
    fields = {"dialect": "unknown" if number >= UNUSABLE else "test", "time_us": "1", "length": str(len(f"{number}"))}
    script.append((BASE + PATH, "spool"), clock.boot_id(), number, fields, f"{number}".encode())


def fold(store: TestedStore) -> intake.Folded:
    definitions: Any = SimpleNamespace(store=store)
    return intake.fold(definitions, SPOOL, {"test": take})


def take(definitions: Any, entry: Entry) -> None:
    """One commit, which counts how often an event was taken in."""
    key = f"event{int(entry.payload)}"

    def work(tx: Transaction) -> None:
        tx.put(key, b"%d" % (int(tx.get(key) or 0) + 1))

    definitions.store.submit(change(WF, work, operation_id=entry.name, repeatable=True)).result()


def new_store() -> Tree:
    """A disk with an empty store."""
    machine = Machine(Tree())
    with running_on(machine):
        open_store(BASE + PATH, PLAIN).close()
    return machine.tree


def record(act: Act, tree: Tree | None = None, *, die_before: int | None = None) -> tuple[Recording, bool]:
    """What comes about, and whether the processes died before that change."""
    system = Recorder(Machine((tree or new_store()).copy()))
    system.die_before = die_before
    died = False
    with scripts_on(system):
        try:
            act(Scene(system))
        except Killed:
            died = True
        system.die_before = None
        system.kill_all()
    system.check()
    return Recording(system.before, system.events, Story(), PLAIN), died


def recover(tree: Tree) -> Recording:
    """What the next one does, recorded: to be cut off as well."""
    system = Recorder(Machine(tree.copy()))
    with scripts_on(system), after_reboot():
        Scene(system).fold()
        system.kill_all()
    return Recording(system.before, system.events, Story(), PLAIN)


class SpoolCampaign(Campaign):
    """Tries what a crash leaves of a spool: those who come after it have each promised event once."""

    def __init__(self, *args: Any, standing: Standing | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._standing = standing
        """Of a recovery: what had been promised before it."""

    def examine(self, tree: Tree, standing: Standing) -> None:
        standing = self._standing or standing
        machine = Machine(tree.copy())
        with scripts_on(machine), after_reboot():
            store = open_store(BASE + PATH, PLAIN)
            folded, again = fold(store), fold(store)
            counts = counted(store)
            bad = _found(store, "damage")
            # a snapshot at rest may be torn where nothing is left to fold in: whoever writes next clears it
            store.submit(change(WF, lambda tx: tx.put("more", b"more"))).result()
            bad += _found(store, "damage", "torn tail")
            store.close()
        aside = dict(set_aside(machine.tree))
        _judge(counts, {each for each in aside.values() if each is not None}, standing)
        untold = [path for path in aside if not reason_of(machine.tree, path).startswith(b"is ")]
        if untold:
            raise Wrong(f"nothing says why {untold} cannot be used")
        if bad:
            raise Wrong(f"verify finds {bad}")
        if folded.left or again != (0, 0, 0):
            raise Wrong(f"what waits is not folded in at once: {folded}, then {again}")


def _found(store: TestedStore, *severities: str) -> list[Finding]:
    return [found for found in store.verify().findings if found.severity in severities]


def counted(store: TestedStore) -> Mapping[int, int]:
    view = store.view(WF)
    return {int(key.removeprefix("event")): int(view.get(key) or 0) for key in view.keys() if key.startswith("event")}


def set_aside(tree: Tree) -> Iterator[tuple[str, int | None]]:
    """The events in `refused/`: their names, and which they are, None of those that are not whole."""
    for path, data in tree.contents():
        if "/spool/refused/" in path and path.endswith(script.SUFFIX):
            header, _, payload = (data or b"").partition(b"\n")
            yield path, int(payload) if header.startswith(script.MAGIC) and payload.isdigit() else None


def reason_of(tree: Tree, path: str) -> bytes:
    return dict(tree.contents()).get(path.removesuffix(script.SUFFIX) + ".reason") or b""


def _judge(counts: Mapping[int, int], aside: set[int], standing: Standing) -> None:
    for number in standing.promised:
        there = number in aside if number >= UNUSABLE else counts.get(number) == 1
        if not there:
            raise Wrong(f"event {number} was acknowledged, and is there {counts.get(number, 0)} times; aside {aside}")
    for number, times in counts.items():
        if times != 1 or number not in standing.tried or number >= UNUSABLE:
            raise Wrong(f"event {number} is there {times} times")
