"""Running a workload with a fault in its way, and the oracle that stands behind each run.

What must be there is told by the memory store: the writes that are found on disk are done over it, and each document
must have the version and the checksum that it has there. Time stands still meanwhile, so equal writes make equal bytes.
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.crash.faults import Ended, Fault, Shim, Tell, in_child, installed
from tests.crash.runs import NOW_US, Run, handle, open_store
from tests.crash.session_acts import HERE, check_sessions, go_on, let_owners_die, sessions_of
from tests.crash.workloads import Workload, no_store
from waypost import checkpoint_ids, clock, recovery
from waypost.blocking import Waypost
from waypost.errors import OperationNotFound, StoreNotFound, WaypostError
from waypost.store import DocumentId, Store
from waypost.store import open_store as open_any
from waypost.store.directory import checkpoints as checkpoint_files
from waypost.store.directory import claims, decisions, keeping, lease, log, upkeep
from waypost.store.reports import Finding

States = dict[str, tuple[int, bytes]]
"""Of each document: its version, and the checksum over all its parts. The names of sessions begin with `SESSION`."""
SESSION = "session "

FOR_STORES = frozenset({"StoreUnavailable", "StorePoisoned", "LockTimeout", "StoreLeased"})
"""What a write, or opening, may fail with when the system refuses a call."""
FOR_SEQUENCES = frozenset(
    {"WorkflowNotFound", "WorkflowExists", "StepNotFound", "IllegalTransition", "CheckpointNotFound", "PathNotFound"}
    | {"SessionExists", "SessionBusy", "SessionEnded", "SessionFenced", "SessionPaused"}
)
"""What a write may fail with when the one before it failed."""
NO_FAULT = "no fault"
_FAST_MEMORY = "/dev/shm"


class Alike:
    """A process whose checkpoints have the same ids as those of any other at that time."""

    digits = "000"


@contextmanager
def standing_still() -> Iterator[None]:
    """Time and process do not change, waiting for locks is short, decisions are carried out only when that is
    asked for, and what the store logs is not kept."""
    logger = logging.getLogger("waypost")
    level = logger.level
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now_us", lambda: NOW_US)
        patch.setattr(clock, "process_identity", lambda: HERE)
        patch.setattr(log, "LOCK_TIMEOUT_S", 0.02)
        patch.setattr(lease, "LOCK_TIMEOUT_S", 0.02)
        patch.setattr(keeping, "LOCK_TIMEOUT_S", 0.02)
        patch.setattr(claims, "_PATIENCE_S", 0.0)
        patch.setattr(claims.Claims, "_beat", lambda self, done: None)  # one sign of life each, by who claims
        patch.setattr(checkpoint_ids, "_PROCESS", Alike())  # ids are compared with the model's
        # decisions are looked for every time, so that the calls do not depend on the time that passed
        patch.setattr(decisions, "_TICK_NS", 1 << 62)
        patch.setattr(upkeep.Upkeep, "ask", lambda self, document: None)
        patch.setattr(upkeep.Upkeep, "ask_to_settle", lambda self: None)
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)


class Bench:
    """A place for stores, in memory where that is possible: prepared ones, and copies to break."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._templates: dict[object, Path | None] = {}
        self._copies = 0

    def template(self, workload: Workload) -> Path | None:
        """The store that a workload begins with; None where it begins with none."""
        key = workload.condition
        if key not in self._templates:
            self._templates[key] = None if workload.prepare is no_store else self._prepare(workload)
        return self._templates[key]

    def _prepare(self, workload: Workload) -> Path:
        path = self.root / f"template{len(self._templates)}"
        live = self.root / "live" if workload.killed else path
        store = open_store(live, workload.options)
        told: list[str] = []
        workload.prepare(
            Run(handle(store, workload.options), workload.options, path=live, tell=told.append, prefix="prep")
        )
        bad = [line for line in told if line.startswith(("rolled_back", "unknown")) or line.endswith("left")]
        assert not bad, bad
        if workload.killed:
            shutil.copytree(live, path)
        store.close()
        if workload.killed:
            shutil.rmtree(live)
        workload.disturb(path)
        return path

    def copy(self, workload: Workload) -> Path:
        """The store that a workload begins with, to be broken; no directory where it begins with none."""
        self._copies += 1
        path = self.root / f"store{self._copies}"
        template = self.template(workload)
        if template is not None:
            shutil.copytree(template, path)
        return path

    @contextmanager
    def again(self, store: Path) -> Iterator[Path]:
        """A copy of a store, removed when it was looked at."""
        self._copies += 1
        path = self.root / f"store{self._copies}"
        shutil.copytree(store, path)
        yield path
        shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def broken(self, workload: Workload) -> Iterator[Path]:
        """As `copy`, and removed when it was looked at."""
        path = self.copy(workload)
        yield path
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def bench() -> Iterator[Bench]:
    """A bench, gone when it was used."""
    memory = _FAST_MEMORY if os.access(_FAST_MEMORY, os.W_OK) else None
    root = Path(tempfile.mkdtemp(prefix="waypost-crash-", dir=memory))
    gc.freeze()  # what the tests' runner holds need not be looked at before each run, nor be copied for a child
    try:
        with standing_still():
            yield Bench(root)
    finally:
        gc.unfreeze()
        shutil.rmtree(root, ignore_errors=True)


# --- running ----------------------------------------------------------------------------------


@dataclass
class Told:
    """What a run told: what it attempted, in order, and what it was told of each. What it says nothing of died."""

    attempted: list[str] = field(default_factory=list[str])
    acknowledged: set[str] = field(default_factory=set[str])
    rolled_back: set[str] = field(default_factory=set[str])
    unknown: set[str] = field(default_factory=set[str])
    errors: list[str] = field(default_factory=list[str])
    upkeep: list[str] = field(default_factory=list[str])

    @classmethod
    def of(cls, lines: list[str]) -> Told:
        told, words = cls(), dict[str, list[str]]()
        for line in lines:
            kind, _, rest = line.partition(" ")
            name, _, details = rest.partition(" ")
            if kind in ("attempt", "acknowledged", "repeated", "rolled_back", "unknown"):
                words.setdefault(name, []).append(kind)
            elif kind == "unchanged":
                del words[name]
            elif kind == "upkeep":
                told.upkeep.append(rest)
            if kind in ("rolled_back", "unknown", "failed") or (kind == "upkeep" and ":" in rest):
                told.errors.append(details)
        told.attempted = list(words)
        told.acknowledged = {name for name, said in words.items() if {"acknowledged", "repeated"} & set(said)}
        told.rolled_back = {name for name, said in words.items() if _is_rolled_back(said)}
        told.unknown = {name for name, said in words.items() if said[-1] in ("attempt", "unknown")}
        return told


def _is_rolled_back(said: list[str]) -> bool:
    """Of a write that was tried again under its operation id the last word holds. One that is told to be `repeated`
    was there before: then nothing but `rolled_back` before that was wrong, which shows, since it is there.
    """
    return said[-1] == "rolled_back" or (said[-1] == "repeated" and set(said[:-1]) <= {"attempt", "rolled_back"})


@contextmanager
def no_collection() -> Iterator[None]:
    """Files of earlier runs are not closed, and so counted, in the middle of this one."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def check_errors(told: Told, allowed: frozenset[str]) -> None:
    """Only documented errors were reported."""
    kinds = {error.partition(":")[0] for error in told.errors}
    assert kinds <= allowed, f"reported {sorted(kinds - allowed)}"


Beside = Callable[[Run], None]


def play(workload: Workload, path: Path, fault: Fault, tell: Tell, beside: Beside | None = None) -> Shim:
    """Open the store, do the workload, close it; the fault is in the way of those parts that the workload names.

    `beside` is done with the fault gone, before closing.
    """
    shim = Shim(fault)

    @contextmanager
    def part(name: str) -> Iterator[None]:
        if name in workload.phases:
            with shim.active():
                yield
        else:
            yield

    with installed(shim), no_collection():
        try:
            with part("open"):
                store = open_store(path, workload.options)
        except KeyboardInterrupt:
            return shim
        except WaypostError as error:
            tell(f"failed open {type(error).__name__}: {error}")
            return shim
        try:
            run = Run(handle(store, workload.options), workload.options, path=path, shim=shim, tell=tell)
            try:
                with part("act"):
                    workload.act(run)
            except KeyboardInterrupt:
                pass  # the program goes on with the same handle
            if beside is not None:
                beside(run)
        finally:
            try:
                with part("close"):
                    store.close()
            except KeyboardInterrupt:
                pass
            except WaypostError as error:
                tell(f"failed close {type(error).__name__}: {error}")
            finally:
                store.close()
    return shim


def play_in_child(workload: Workload, path: Path, fault: Fault) -> Ended:
    """As `play`, in a fork of this process, which the fault may kill."""

    def act(tell: Tell) -> None:
        shim = play(workload, path, fault, tell)
        tell(f"calls {len(shim.trace)}")

    return in_child(act)


def count_calls(bench: Bench, workload: Workload) -> Shim:
    """The calls that a workload makes when nothing is in its way."""
    with bench.broken(workload) as path:
        told: list[str] = []
        shim = play(workload, path, lambda _: None, told.append)
        report = Told.of(told)
        assert not report.errors and not [line for line in report.upkeep if not line.endswith("done")], told
        examine(workload, path, told, NO_FAULT)
        return shim


# --- what must be there -------------------------------------------------------------------------


@cache
def _expected(workload: Workload, present: frozenset[str], finished: bool) -> States:
    store, wp = model(workload)
    run = Run(wp, workload.options, only=present)
    workload.act(run)
    write_beside(run)
    if finished:
        let_owners_die(store)
        finish(handle(store, workload.options), workload)
    return states_of(store)


def model(workload: Workload) -> tuple[Store, Waypost]:
    """A store in memory in the condition of a workload, and who comes after those that prepared it."""
    store = open_any("memory:", None)  # type: ignore[arg-type]
    if workload.prepare is not no_store:
        workload.prepare(Run(handle(store, workload.options), workload.options, prefix="prep"))
    let_owners_die(store)
    return store, handle(store, workload.options)


def states_of(store: Store) -> States:
    """What stands in a store, document by document."""
    states: States = {}
    for kind, before in (("workflow", ""), ("session", SESSION)):
        for identifier in store.documents(kind):
            view = store.view(DocumentId(kind, identifier))
            if view.version:
                states[before + identifier] = view.version, view.checksum
    return states


def write_beside(run: Run) -> None:
    """A write to a document that had no part in what went wrong, and one to a document that had."""
    run.group("beside")
    run.write("create_workflow", "beside", "Beside", None, ["a"])
    run.write("update_context", "wf", variables={"beside": 1})


def finish(wp: Waypost, workload: Workload) -> None:
    """A write to each document that the workload has to do with, and a new one: all of them work."""
    for identifier in sorted(_ids(workload) | {"beside"}):
        result = wp.update_context(identifier, variables={"finish": 1}, operation_id="finish-1")
        if not result and result.error.code == "workflow_not_found":  # deleted, or never made
            result = wp.create_workflow(identifier, "Finish", operation_id="finish-1")
        result.unwrap()
    wp.create_workflow("finish", "Finish", operation_id="finish-1").unwrap()
    if sessions_of(wp.definitions.store):
        go_on(wp)


@cache
def _ids(workload: Workload) -> set[str]:
    """The workflows that are there when all of a workload is done."""
    store, wp = model(workload)
    workload.act(Run(wp, workload.options))
    return {each for each in states_of(store) if not each.startswith(SESSION)}


def examine(workload: Workload, path: Path, lines: list[str], where: str, *, killed: bool = False) -> None:
    """The oracle: what was acknowledged is there, nothing else but what was attempted, and the store works."""
    told = Told.of(lines)
    try:
        present = _look(workload, path, told, killed=killed)
        _go_on(workload, path, told, present)
        _look_at_the_end(workload, path, present, went_well=where == NO_FAULT)
    except BaseException as error:
        error.add_note(f"{workload.name}, {where}; told: {lines}")
        raise


def _look(workload: Workload, path: Path, told: Told, *, killed: bool) -> frozenset[str]:
    """Read the store without changing it; which of the attempted writes are there."""
    try:
        store = open_store(path, workload.options, read_only=True)
    except StoreNotFound:
        assert not told.acknowledged, "the store is gone"
        assert "open" in workload.phases, "the store is gone"
        return frozenset()
    try:
        present = frozenset(name for name in told.attempted if _is_there(store, name))
        assert told.acknowledged <= present, f"lost: {sorted(told.acknowledged - present)}"
        assert not present & told.rolled_back, f"said to be rolled back: {sorted(present & told.rolled_back)}"
        if killed:
            assert present == set(told.attempted[: len(present)]), f"a hole: {sorted(present)}"
        assert states_of(store) == _expected(workload, present, finished=False), f"not what {sorted(present)} make"
        check_sessions(store)
        damage = [found for found in store.verify().findings if found.severity == "damage"]
        assert not [found for found in damage if not _is_of_a_half_made_store(workload, found.file)], damage
        return present
    finally:
        store.close()


def _is_of_a_half_made_store(workload: Workload, file: str) -> bool:
    return "open" in workload.phases and file.endswith((".gitignore", "FORMAT"))


def _is_there(store: Store, operation_id: str) -> bool:
    kinds = ("workflow", "session")
    return any(
        store.view(DocumentId(kind, identifier)).operation(operation_id) is not None
        for kind in kinds
        for identifier in store.documents(kind)
    )


def _go_on(workload: Workload, path: Path, told: Told, present: frozenset[str]) -> None:
    """Open the store for writing: the same is there, what was unknown is settled, and writing works."""
    store = open_store(path, workload.options)
    try:
        wp = handle(store, workload.options)
        assert states_of(store) == _expected(workload, present, finished=False), "opening it again gives something else"
        for name in {each for each in told.unknown | told.rolled_back if "." not in each}:
            try:
                wp.get_outcome(name)
                found = True
            except OperationNotFound:
                found = False
            assert found == (name in present), f"the outcome of {name} is told wrong"
        finish(wp, workload)
        recovery.report(wp.definitions.sessions.looker)
    finally:
        store.close()


def _look_at_the_end(workload: Workload, path: Path, present: frozenset[str], *, went_well: bool) -> None:
    """After a clean close nothing is left of what went wrong, and everything is there."""
    store = open_store(path, workload.options, read_only=True)
    try:
        assert states_of(store) == _expected(workload, present, finished=True), "writes after it went wrong"
    finally:
        store.close()
    _start_what_was_never_made(path, workload)
    findings = _found_in(path, workload)
    if not went_well and any(_is_of_a_checkpoint_that_is_gone(each) for each in findings):
        _compact_all(path, workload)  # that is when they go
        findings = _found_in(path, workload)
    assert not findings, findings
    assert not (path / "lease").exists(), "a lease is left"
    assert not list((path / "owners").glob("*")), "an owner is left"
    assert not list((path / "temp").glob("*.new")), "a temporary file is left"


def _start_what_was_never_made(path: Path, workload: Workload) -> None:
    """A session of which there is nothing but an empty log, or a torn one, is begun like any other."""
    if not list((path / "sessions").glob("*")):
        return
    store = open_store(path, workload.options)
    try:
        for identifier in set(store.documents("session")) - set(sessions_of(store)):
            handle(store, workload.options).start_session(session_id=identifier)
    finally:
        store.close()


def _found_in(path: Path, workload: Workload) -> list[Finding]:
    store = open_store(path, workload.options, read_only=True)
    try:
        return [found for found in store.verify().findings if not _may_stay(found)]
    finally:
        store.close()


def _may_stay(found: Finding) -> bool:
    """What was moved aside stays, and a session that has ended, or was never made, is not written to any more."""
    is_unsealed = found.severity == "note" and found.file.endswith(".session")
    return is_unsealed or found.text.startswith("bytes of a torn tail")


def _is_of_a_checkpoint_that_is_gone(found: Finding) -> bool:
    """Whoever removed the checkpoint came to an end before its file was."""
    return found.severity == "leftover" and found.file.endswith(checkpoint_files.SUFFIX)


def _compact_all(path: Path, workload: Workload) -> None:
    store = open_store(path, workload.options)
    try:
        for identifier in list(store.documents("workflow")):
            document = DocumentId("workflow", identifier)
            store.view(document)
            store._document(document).open_for_writing()
            assert store.tidy(document, "compact")
    finally:
        store.close()


def descriptors_into(path: Path) -> list[str]:
    """The files below a path that this process has open."""

    def found() -> list[str]:
        links: list[str] = []
        for number in os.listdir("/proc/self/fd"):
            try:
                links.append(os.readlink(f"/proc/self/fd/{number}"))
            except OSError:
                pass
        return [link for link in links if link.startswith(str(path))]

    if not os.path.isdir("/proc/self/fd"):
        return []
    left = found()
    if left:
        gc.collect()  # the traceback of an error keeps what it passed through for a while
        left = found()
    return left


def numbered(shim: Shim, wanted: Callable[[Any], bool]) -> list[int]:
    """The numbers of the calls that are wanted."""
    return [call.number for call in shim.trace if wanted(call)]
