"""Make the golden stores of the format that this release writes: `tests/golden/<format>/`.

    python tools/make_golden.py [--into DIRECTORY]

Six stores and, beside each, a listing of what it holds, by which the tests know that a later release reads it:

    closed      every kind of frame, codec and value; closed cleanly
    open        as it lies there while its writer works on it: fill behind the frames, no seal
    decided     as `open`, with a commit over two workflows that was decided and is in one of their logs only
    checkpointed    a workflow with checkpoints: a base and deltas on it, one that was removed, one without its history
    erased      a workflow from which outputs and a variable were erased: from commits, a snapshot, a base and a delta
    merged      a workflow that was changed in two stores, which were synced: a merge commit, and one behind it

Clock, ids, randomness and the identity of the process are made up, so that two runs give the same content, and the same
bytes where the compressors are of the same versions. Golden stores of a format that was released never change again; a
later format gets a directory of its own. The files are also given to git, which would pass over them: stores say of
themselves that they are to be ignored.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

import waypost
from waypost import checkpoint_ids, clock, config, records
from waypost.blocking import Waypost
from waypost.codec import values
from waypost.codec.frame import FORMAT_VERSION
from waypost.definitions import Definitions
from waypost.store import Change, DocumentId, View
from waypost.store.contract import CHECKPOINT
from waypost.store.directory import DirectoryStore, compaction, upkeep
from waypost.store.directory.compaction import DAY_US

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
APPLICATION = "golden"
_START_US = 1_767_225_600_000_000  # 2026-01-01
_LISTED_BYTES = 256


class Point(NamedTuple):
    """A type of an application."""

    x: int
    y: int


VALUES: dict[str, Any] = {
    "none": None,
    "booleans": [True, False],
    "integers": [0, -1, 2**63, 2**64 - 1, -(2**63)],
    "long integers": [2**64, -(2**200), 10**50],
    "floats": [0.0, -0.0, 1.5, 5e-324, 1.7976931348623157e308, float("inf"), float("-inf"), float("nan")],
    "text": ["", "plain", "naïve ☃ 🙂", "a\tb\n"],
    "bytes": [b"", bytes(range(256))],
    "list": [1, [2, [3, []]]],
    "dict": {"a": 1, "": {"b": [None]}},
    "dict with other keys": {1: "one", "1": "text", None: 0, (1, 2): "pair"},
    "tuple": (1, ("two",), ()),
    "set": {1, "one", (1,)},
    "moments": [datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), datetime(1, 1, 1, tzinfo=UTC)],
    "datetimes": [
        datetime(2026, 10, 25, 2, 30, fold=1),  # noqa: DTZ001  (a time without a zone is a value like others)
        datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=1), "home")),
        datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Zurich")),
    ],
    "date": date(2026, 2, 28),
    "uuid": UUID("0192f0c1-2345-7678-9abc-def012345678"),
    "decimals": [Decimal("1.10"), Decimal("-0"), Decimal("1E+30"), Decimal("NaN")],
    "path": Path("some/where"),
    "registered": [Point(1, 2), {"at": Point(3, 4)}],
}
"""A value of every kind that can be stored."""

CODECS = ("zstd", "gzip", "lz4", "brotli", "none")
LONG_ID = "Straße/../" + "x" * 150
WORDS = "the quick brown fox jumps over the lazy dog while everybody else is asleep "


# --- a world that is always the same ---


class _World:
    """A clock that moves when it is looked at, and numbers in place of randomness."""

    def __init__(self) -> None:
        self.time_us = _START_US
        self._ids, self._noise = count(1), count(1)

    def now_us(self) -> int:
        self.time_us += 1_000
        return self.time_us

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{next(self._ids):032x}"

    def urandom(self, length: int) -> bytes:
        return sha256(b"golden %d" % next(self._noise)).digest()[:length]

    def text(self, length: int) -> str:
        """Text that shrinks when it is compressed, though not to nothing."""
        words = (f"{WORDS}{self.urandom(6).hex()} " for _ in count())
        made = ""
        while len(made) < length:
            made += next(words)
        return made[:length]


_WHO = clock.ProcessIdentity("golden/0", "boot", "namespace", 4242, 1)


@contextmanager
def _made_up_world() -> Iterator[_World]:
    world = _World()
    with ExitStack() as stack:
        for place, name, instead in (
            (clock, "now_us", world.now_us),
            (clock, "new_id", world.new_id),
            (clock, "process_identity", lambda: _WHO),
            (os, "urandom", world.urandom),
            # when a thread comes round to it depends on the machine, so upkeep is done where it is called for
            (upkeep.Upkeep, "ask", lambda *_: None),
            (upkeep.Upkeep, "ask_to_settle", lambda *_: None),
        ):
            stack.enter_context(patch.object(place, name, instead))
        stack.enter_context(patch.object(checkpoint_ids, "_PROCESS", checkpoint_ids._Process()))
        waypost.register_type("point", Point, list, lambda pair: Point(*pair))
        stack.callback(waypost.unregister_type, "point")
        yield world


@contextmanager
def _store(path: Path, **sections: dict[str, Any]) -> Iterator[tuple[DirectoryStore, Waypost]]:
    loaded = config.load("production", sections, environment={})
    store = DirectoryStore.open(str(path), loaded, create=True, read_only=False)
    store._context.prewrite = True  # whatever file system this runs on
    try:
        yield store, Waypost(Definitions(store, loaded, verbose=False))
    finally:
        store.close()


def _submit(store: DirectoryStore, document: DocumentId, puts: dict[str, bytes]) -> None:
    def work(tx: Any) -> None:
        for key, data in puts.items():
            tx.put(key, data)

    store.submit(Change(document, work, clock.new_id("op"), "golden", session="s1")).result()


# --- the stores ---


def _make_survey(store: DirectoryStore, wp: Waypost, world: _World) -> None:
    """Steps of every status, values of every kind, versions of outputs, a large one, two snapshots, a commit behind."""
    steps = [
        waypost.WorkflowStep("fetch", "Fetch", agent_id="ann", max_retries=2),
        waypost.WorkflowStep("parse", dependencies=["fetch"], parallel=True),
        *("skip", "fail", "run", "wait"),
    ]
    wp.create_workflow("survey", "Survey ☃", "s1", steps, operation_id="create").unwrap()
    wp.update_context(
        "survey", variables=VALUES, configuration={"mode": "fast"}, features={"new": True, "old": 0}
    ).unwrap()
    wp.update_agent_state("survey", "ann", {"name": "Ann", "status": "busy", "task_queue": ["fetch"]}).unwrap()
    wp.update_step_status("survey", "fetch", "running", operation_id="start").unwrap()
    wp.update_step_status("survey", "fetch", "completed", {"rows": 3}, operation_id="done").unwrap()
    wp.add_step_output("survey", "fetch", {"rows": 4}, "ann", session_id="s2").unwrap()
    wp.update_step_status("survey", "parse", "completed", {"report": world.text(150_000)}).unwrap()
    wp.update_step_status("survey", "skip", "skipped").unwrap()
    state = wp.load_workflow_state("survey").unwrap()
    del state.context.features["old"]
    wp.save_workflow_state(state).unwrap()
    for _ in range(2):
        wp.update_step_status("survey", "fail", "running").unwrap()
        wp.update_step_status("survey", "fail", "failed", error="it broke").unwrap()
        wp.reset_step("survey", "fail").unwrap()
    wp.update_step_status("survey", "run", "running").unwrap()
    for _ in range(2):
        for _ in range(100):
            wp.add_step_output("survey", "skip", world.text(20)).unwrap()
        assert upkeep.take_snapshot(store._document(DocumentId("workflow", "survey")), store._context)
    wp.pause_workflow("survey", operation_id="pause").unwrap()


def _make_compacted(store: DirectoryStore, wp: Waypost, world: _World) -> None:
    """A log whose first commits are gone, though a large part that one of them put is still there."""
    wp.create_workflow("compacted", "Compacted", steps=["a", "b"], operation_id="create compacted").unwrap()
    wp.update_step_status("compacted", "a", "completed", {"large": world.text(100_000)}).unwrap()
    world.time_us += 30 * DAY_US + 1
    wp.update_context("compacted", variables={"late": 1}, operation_id="late").unwrap()
    assert upkeep.compact(store._document(DocumentId("workflow", "compacted")), store._context)
    wp.update_step_status("compacted", "b", "completed", "behind it").unwrap()


def make_closed(path: Path, world: _World) -> None:
    with _store(path) as (store, wp):
        _make_survey(store, wp, world)
        _make_compacted(store, wp, world)
        wp.create_workflow("gone", "Gone", "s1", ["a"]).unwrap()
        wp.delete_workflow("gone", session_id="s1").unwrap()
        wp.create_workflow(LONG_ID, "Long").unwrap()
        waypost.register_migration("1.0.0", "2.0.0", lambda _: None, application=APPLICATION)
        wp.create_workflow("application", "Of an application").unwrap()
        waypost.unregister_migration("1.0.0", application=APPLICATION)
        _submit(store, DocumentId("session", "s1"), {"session": values.encode(["ann", None]), "note": b"\xa1x"})
    for name in CODECS:
        compression = {"algorithm": name, "level": 0 if name in ("lz4", "none") else 1}
        with _store(path, compression=compression) as (store, wp):
            wp.create_workflow(f"codec {name}", name, steps=["a"]).unwrap()
            wp.update_step_status(f"codec {name}", "a", "completed", world.text(3_000)).unwrap()


def make_open(path: Path, world: _World) -> None:
    """As `closed`, less of it, copied from under a store that is open."""
    beside = path.with_name("being written")
    with _store(beside) as (store, wp):
        wp.create_workflow("survey", "Open", "s1", ["a", "b"], operation_id="create").unwrap()
        wp.update_step_status("survey", "a", "completed", {"rows": 3}, operation_id="done").unwrap()
        wp.update_step_status("survey", "b", "running").unwrap()
        _submit(store, DocumentId("session", "s1"), {"session": values.encode(["ann", None])})
        shutil.copytree(beside, path)
    shutil.rmtree(beside)
    # it names the machine that this ran on, and would keep every other one out
    (path / "lease").unlink()


def make_decided(path: Path, world: _World) -> None:
    """Copied from under a store whose writer has decided a second transaction, and not come to write all of it."""
    beside = path.with_name("being written")

    def work(tx: Any) -> None:
        for name in ("survey", "other"):
            tx.update_context(name, variables={"together": world.text(40)})

    with _store(beside) as (store, wp):
        wp.create_workflow("survey", "Decided", "s1", ["a"], operation_id="create").unwrap()
        wp.create_workflow("other", "Another", "s1", ["b"]).unwrap()
        # git keeps no empty directory
        _submit(store, DocumentId("session", "s1"), {"session": values.encode(["ann", None])})
        wp.transact(work, operation_id="first").unwrap()
        store._settle()
        before = (beside / "workflows" / "other.state").read_bytes()
        wp.transact(work, operation_id="second").unwrap()
        shutil.copytree(beside, path)
    shutil.rmtree(beside)
    (path / "workflows" / "other.state").write_bytes(before)
    (path / "lease").unlink()


def make_checkpointed(path: Path, world: _World) -> None:
    """Checkpoints of one workflow, all but the last without the history that held them; large values, some of them the
    same in several, and a part that goes.
    """

    extra = records.VARIABLE + "extra"

    def checkpoint(number: int, said: str | None = None) -> None:
        record = records.CheckpointRecord("manual", f"Number {number}", ("golden",), world.now_us(), "s1")
        puts = {} if said is None else {extra: values.encode(said)}
        _submit(store, document, {**puts, f"{CHECKPOINT}survey@c{number:02}": records.encode(record)})

    with _store(path) as (store, wp):
        wp.create_workflow("survey", "Checkpointed", "s1", ["a", "b"], operation_id="create").unwrap()
        document = DocumentId("workflow", "survey")
        _submit(store, DocumentId("session", "s1"), {"session": values.encode(["ann", None])})
        wp.update_step_status("survey", "a", "completed", {"large": world.text(100_000)}, operation_id="done").unwrap()
        checkpoint(1, "first")
        wp.update_step_status("survey", "b", "running").unwrap()
        checkpoint(2)
        checkpoint(3, "third")

        def without_extra(tx: Any) -> None:
            tx.delete(extra)
            tx.delete(f"{CHECKPOINT}survey@c02")

        store._document(document).keep_checkpoints(newest_only=False)
        store.submit(Change(document, without_extra, clock.new_id("op"), "golden", session="s1")).result()
        wp.add_step_output("survey", "b", {"large": world.text(80_000)}).unwrap()
        checkpoint(4)
        with patch.object(compaction, "DAY_US", 1):
            assert upkeep.compact(store._document(document), store._context)
        checkpoint(5)


def make_erased(path: Path, world: _World) -> None:
    """Erased are a small and a large output, and a variable: from a snapshot with which the log begins, from commits
    behind it, and from checkpoints that stand on each other; and the result of a transaction is forgotten.
    """

    def checkpoint(number: int) -> None:
        record = records.CheckpointRecord("manual", f"Number {number}", ("golden",), world.now_us(), "s1")
        _submit(store, document, {f"{CHECKPOINT}survey@c{number:02}": records.encode(record)})

    with _store(path) as (store, wp):
        wp.create_workflow("survey", "Erased", "s1", ["a", "b"], operation_id="create").unwrap()
        document = DocumentId("workflow", "survey")
        _submit(store, DocumentId("session", "s1"), {"session": values.encode(["ann", None])})
        wp.update_step_status("survey", "a", "completed", {"secret": 1}, operation_id="done").unwrap()
        wp.update_context("survey", variables={"secret": world.text(200), "open": world.text(200)}).unwrap()
        checkpoint(1)
        wp.add_step_output("survey", "a", {"secret": world.text(100_000)}).unwrap()
        checkpoint(2)
        wp.update_context("survey", variables={"secret": world.text(100)}).unwrap()
        checkpoint(3)
        with patch.object(compaction, "DAY_US", 1):
            assert upkeep.compact(store._document(document), store._context)
        wp.add_step_output("survey", "a", {"secret": world.text(90_000)}).unwrap()
        wp.add_step_output("survey", "b", {"open": world.text(80_000)}).unwrap()
        wp.transact(lambda tx: tx.update_context("survey", variables={"secret": 2}) and "secret").unwrap()
        wp.erase("survey", "outputs.a", session_id="s2").unwrap()
        wp.erase("survey", "context.variables.secret").unwrap()
        wp.update_context("survey", variables={"secret": "another"}).unwrap()


def make_merged(path: Path, world: _World) -> None:
    """Two stores that were synced, both changed, and synced again: what each has made is in the merge, a checkpoint,
    too, and whose change it was. The other store goes.
    """
    beside = path.with_name("the other")
    with _store(path) as (store, wp), _store(beside) as (there, other):
        wp.create_workflow("survey", "Merged", "s1", ["a", "b"], operation_id="create").unwrap()
        _submit(store, DocumentId("session", "s1"), {"session": values.encode(["ann", None])})
        wp.sync(other).unwrap()
        wp.update_step_status("survey", "a", "completed", {"large": world.text(100_000)}, operation_id="done").unwrap()
        wp.update_context("survey", variables={"both": 1}).unwrap()
        other.update_step_status("survey", "b", "completed", {"large": world.text(100_000)}).unwrap()
        record = records.CheckpointRecord("manual", "There", ("golden",), world.now_us(), "s1")
        _submit(there, DocumentId("workflow", "survey"), {f"{CHECKPOINT}survey@c01": records.encode(record)})
        other.update_context("survey", variables={"both": 2}).unwrap()
        assert wp.sync(other, on_conflict="last_writer_wins").unwrap().is_complete
        wp.update_context("survey", variables={"behind": 3}).unwrap()
    shutil.rmtree(beside)


# --- what they hold ---


def _bytes(data: bytes) -> object:
    """Short bytes in hexadecimal, long ones by their length and digest."""
    return data.hex() if len(data) <= _LISTED_BYTES else {"bytes": len(data), "sha256": sha256(data).hexdigest()}


def _part(view: View, key: str) -> object:
    digest = view.erased(key)
    return _bytes(view.get(key) or b"") if digest is None else {"erased": digest.hex(), "bytes": view.size_of(key)}


def _document(store: DirectoryStore, document: DocumentId) -> dict[str, Any]:
    view = store.view(document)
    history = {
        str(version): found.commit_id.hex()
        for version in range(1, view.version + 1)
        if (found := store.view_at(document, version)) is not None
    }
    listed = {
        "version": view.version,
        "time_us": view.time_us,
        "size_bytes": view.size_bytes,
        "commit_id": view.commit_id.hex(),
        "checksum": view.checksum.hex(),
        "parts": {key: _part(view, key) for key in view.keys()},
        "history": history,
    }
    if view.size_of(records.WORKFLOW) is not None:
        listed["state"] = _state(store, view)
    kept = checkpoints_of(store, document)
    return {**listed, "checkpoints": kept} if kept else listed


def checkpoints_of(store: DirectoryStore, document: DocumentId) -> dict[str, Any]:
    """What each checkpoint of a document holds."""
    found = {name: store.checkpoint(document, name) for name in store.checkpoints(document)}
    return {
        name: {
            "version": view.version,
            "time_us": view.time_us,
            "commit_id": view.commit_id.hex(),
            "checksum": view.checksum.hex(),
            "parts": {key: _part(view, key) for key in view.keys()},
        }
        for name, view in found.items()
        if view is not None
    }


def _state(store: DirectoryStore, view: View) -> dict[str, Any]:
    """A workflow as the library gives it; the application's types are not known."""
    wp = Waypost(Definitions(store, config.load("production", {}, environment={}), verbose=False))
    name = view.document.id
    state = wp.load_workflow_state(name).unwrap()
    outputs = [key.split(records.SEPARATOR)[1:] for key in view.keys(records.OUTPUT)]
    context = state.context
    return {
        "metadata": msgspec.to_builtins(state.metadata),
        "name": state.workflow.name,
        "status": state.workflow.status,
        "steps": [msgspec.to_builtins(step) for step in state.workflow.steps],
        "agents": {agent: msgspec.to_builtins(state.agents[agent]) for agent in state.agents},
        "outputs": {
            f"{step} {int(version)}": _bytes(values.encode(wp.get_step_output(name, step, int(version)).output))
            for step, version in outputs
        },
        "context": [context.session_id, context.user_id, context.environment],
        "variables": {key: values.plain(context.variables[key]) for key in context.variables},
        "configuration": {key: values.plain(context.configuration[key]) for key in context.configuration},
        "features": {key: values.plain(context.features[key]) for key in context.features},
    }


OPERATIONS = ("create", "start", "done", "pause", "create compacted", "late")
"""Operation ids that the stores remember."""


def listing(path: Path) -> dict[str, Any]:
    """What a store holds, and of which files it consists."""
    loaded = config.load("production", {}, environment={})
    store = DirectoryStore.open(str(path), loaded, create=False, read_only=True)
    try:
        documents = [DocumentId("workflow", name) for name in store.documents("workflow")]
        documents += [DocumentId("session", name) for name in store.documents("session")]
        found = {f"{one.kind} {one.id}": _document(store, one) for one in sorted(documents)}
        operations = {
            f"{one.id} {name}": [record.version, record.time_us, record.operation, record.projection]
            for one in sorted(documents)
            for name in OPERATIONS
            if (record := store.view(one).operation(name)) is not None
        }
    finally:
        store.close()
    return {"documents": found, "operations": operations, "files": files_of(path)}


def files_of(path: Path) -> dict[str, str]:
    """The SHA-256 of each file of a store."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): sha256(file.read_bytes()).hexdigest() for file in files}


MAKERS = {
    "closed": make_closed,
    "open": make_open,
    "decided": make_decided,
    "checkpointed": make_checkpointed,
    "erased": make_erased,
    "merged": make_merged,
}


def make(into: Path) -> None:
    """Make all stores and their listings in a directory, in place of those that are there."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    for name, make_one in MAKERS.items():
        with _made_up_world() as world:
            make_one(into / name, world)
        (into / name / "checkpoint-index.json").unlink(missing_ok=True)  # derived, and full of inodes and times
        text = json.dumps(msgspec.to_builtins(listing(into / name)), indent=1, sort_keys=True)
        (into / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the golden stores of the present format.")
    parser.add_argument("--into", type=Path, help="another place than the repository's, and git is told nothing")
    given = parser.parse_args().into
    into = given or GOLDEN / str(FORMAT_VERSION)
    make(into)
    if given is None:
        subprocess.run(["git", "add", "--force", "--all", "--", str(into)], cwd=GOLDEN, check=True)  # noqa: S607
    size = sum(file.stat().st_size for file in into.rglob("*") if file.is_file())
    sys.stdout.write(f"{into}: {size:,} bytes\n")


if __name__ == "__main__":
    main()
