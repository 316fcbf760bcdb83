"""Each sync of checkpoints is needed: the power goes, and every checkpoint is there, from its file or from history.

A file that has its name is whole, with all that it stands on. `make mutants` removes the syncs one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from tests.crash.needed import (
    BACKUP,
    DONE,
    A,
    a_store,
    contents,
    expect,
    lose_power,
    promised_from,
    put,
    renamed_at,
    told,
    tree_after,
)
from tests.crash.oracle import Standing, Wrong, parts_of
from tests.crash.simulated import Tree
from tests.crash.stories import Run
from tests.store.support import TestedStore, change
from waypost.store.contract import CHECKPOINT
from waypost.store.directory import checkpoints, compaction, upkeep
from waypost.store.directory.files import Directory

pytestmark = pytest.mark.usefixtures("quiet")
LARGE = bytes(range(256)) * 40
NAMES = [f"a@{number}" for number in range(4)]


@pytest.fixture(autouse=True)
def _calm(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.CRITICAL, "waypost")
    monkeypatch.setattr(upkeep.Upkeep, "ask", lambda self, document: None)
    monkeypatch.setattr(upkeep.Upkeep, "ask_to_settle", lambda self: None)


def parts(number: int) -> dict[str, bytes]:
    """What the document holds at a checkpoint; so much that is new that one file is a base, and the others deltas."""
    return {"x": b"%d" % number, "large": LARGE if number < 2 else LARGE[:5000]}


def make(store: TestedStore, *numbers: int) -> None:
    for number in numbers:
        put(store, A, **parts(number), **{CHECKPOINT + NAMES[number]: b"%d" % number})


def remove(store: TestedStore, *numbers: int) -> None:
    store.submit(change(A, lambda tx: [tx.delete(CHECKPOINT + NAMES[number]) for number in numbers])).result()


def keep(store: TestedStore) -> None:
    store._document(A).keep_checkpoints(newest_only=False)


def compact_without_history(store: TestedStore) -> None:
    store.view(A)
    store._document(A).open_for_writing()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "DAY_US", -1)
        assert store.tidy(A, "compact")


def made(*numbers: int, after: Callable[[TestedStore], object] = lambda _: None) -> Tree:
    """A closed store with these checkpoints."""

    def work() -> None:
        with a_store() as store:
            make(store, *numbers)
            after(store)

    return tree_after(work)


def x_by_name(store: TestedStore) -> dict[str, Any]:
    """What each checkpoint of the document says; each file that has its name is whole, with all that it stands on."""
    folder = store.layout.existing(checkpoints.FOLDER)
    for file in folder.names() if folder else []:
        if folder and file != checkpoints.LOCK:
            layer = checkpoints.read_file(store._context, folder, file)
            assert layer is not None
            if checkpoints.has(store.view(A), layer.name):
                checkpoints.verify(store._context, layer.name)
    found: dict[str, Any] = {}
    for name in store.checkpoints(A):
        view = store.checkpoint(A, name)
        if view is None:
            raise Wrong(f"{name} is gone")
        held = {key: value for key, value in parts_of(view).items() if not key.startswith(CHECKPOINT)}
        if held != parts(NAMES.index(name)):
            raise Wrong(f"{name} is not what it was")
        found[name] = view.version
    return found


def judge(*promised: int, before: tuple[int, ...] | None = None) -> Callable[[Tree, Standing], None]:
    """The document has the checkpoints that it had `before`, or those that are promised, and each reads as it was."""

    def look(tree: Tree, standing: Standing) -> None:
        for read_only in (True, False):
            with a_store(read_only=read_only) as store:
                names = [NAMES[number] for number in promised]
                earlier = [] if before is None or DONE in standing.promised else [[NAMES[each] for each in before]]
                expect(list(x_by_name(store)), names, *earlier)

    return look


def test_t20_checkpoints_outlive_the_history_that_held_them() -> None:
    """Files and their names are durable, each before that of one that stands on it, and all before history goes."""

    def work(run: Run) -> None:
        store = run.open()
        compact_without_history(store)
        run.promise(DONE)

    def unwritten() -> None:
        with a_store() as store:
            make(store, 0, 1, 2, 3)
            store._document(A)._wrote = False  # so that closing writes nothing out

    recording = told(work, before=tree_after(unwritten))
    assert not any("checkpoint" in path for path in contents(recording.before))
    lose_power(recording, judge(0, 1, 2, 3), title="history that goes", states=400)
    lose_power(recording, judge(0, 1, 2, 3), title="history that went", start=promised_from(recording))


def test_t20_what_a_dead_process_kept_outlives_the_history_that_held_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever wrote the file died before he synced its name, and who compacts finds it there."""

    def work(run: Run) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Directory, "sync", lambda folder: None)  # that far he never came
            keep(run.open())
        compact_without_history(run.open())
        run.promise(DONE)

    def unwritten() -> None:
        with a_store() as store:
            make(store, 0)
            store._document(A)._wrote = False

    recording = told(work, before=tree_after(unwritten))
    lose_power(recording, judge(0), title="a name that was not synced", states=400)
    lose_power(recording, judge(0), title="history that went", start=promised_from(recording))


def test_t20_what_stood_on_a_checkpoint_that_goes_survives_it() -> None:
    """It is written again, durably, before that one goes; and what went does not come back."""

    def work(run: Run) -> None:
        store = run.open()
        remove(store, 1, 2)
        keep(store)
        run.promise(DONE)

    recording = told(work, before=made(0, 1, 2, 3, after=compact_without_history))
    lose_power(recording, judge(0, 3, before=(0, 1, 2, 3)), title="a checkpoint that goes", states=400)

    def is_gone(tree: Tree, standing: Standing) -> None:
        kept = {path for path in contents(tree) if path.endswith(checkpoints.SUFFIX)}
        expect(kept, {f"checkpoints/{checkpoints.file_name(NAMES[number])}" for number in (0, 3)})

    lose_power(recording, is_gone, title="a checkpoint that went", start=promised_from(recording))


def test_d19_no_file_is_ahead_of_the_log() -> None:
    """Where commits are acknowledged before their sync, a checkpoint is written out behind it."""
    options = {"reliability.enable_wal": False}

    def work(run: Run) -> None:
        store = run.open()
        make(store, 1)
        keep(store)
        run.promise(DONE)

    def is_known(tree: Tree, standing: Standing) -> None:
        files = [path for path in contents(tree) if path.endswith(checkpoints.SUFFIX)]
        with a_store(options, read_only=True) as store:
            expect({f"checkpoints/{checkpoints.file_name(name)}" for name in store.checkpoints(A)} >= {*files}, True)

    recording = told(work, before=made(0), options=options)
    lose_power(recording, is_known, title="a file ahead of its log", start=promised_from(recording) - 20)


def only_in_files() -> Tree:
    return made(0, 1, 2, after=compact_without_history)


def test_t20_a_backup_that_has_its_name_has_its_checkpoints() -> None:
    """Their files and names are durable before its own."""

    def work(run: Run) -> None:
        run.open().backup(BACKUP)
        run.promise(DONE)

    def look(tree: Tree, standing: Standing) -> None:
        with a_store(read_only=True, path=BACKUP) as store:
            expect(list(x_by_name(store)), NAMES[:3])

    recording = told(work, before=only_in_files())
    lose_power(recording, look, title="a backup of checkpoints", start=promised_from(recording))


def test_t20_a_restore_that_was_decided_has_the_checkpoints() -> None:
    """They are durable where they are staged, before the decision."""

    def prepared() -> None:
        with a_store() as store:
            store.backup(BACKUP)
            remove(store, 1)

    def work(run: Run) -> None:
        run.open().restore_backup(BACKUP, allow_older=True)
        run.promise(DONE)

    recording = told(work, before=tree_after(prepared, only_in_files()))
    decided, first = renamed_at(recording, "restoring"), renamed_at(recording, "a.state")
    early = recording._replace(events=recording.events[:first])
    look = judge(0, 1, 2, before=(0, 2))

    def carried_out(tree: Tree, standing: Standing) -> None:
        with a_store():
            pass
        look(tree, standing)

    lose_power(early, carried_out, title="a restore of checkpoints that was decided", start=decided)
    lose_power(recording, look, title="a restore of checkpoints", start=promised_from(recording))
