"""Each sync of a restore is needed: the power goes, and either nothing happened or all of it, and nothing is lost.

`make mutants` removes them one by one.
"""

from __future__ import annotations

import logging
from itertools import count

import pytest

from tests.crash.needed import (
    BACKUP,
    DONE,
    STORE,
    A,
    B,
    a_store,
    changed,
    commit_over,
    contents,
    dying_before,
    expect,
    last_tree,
    lose_power,
    promised_from,
    put,
    renamed_at,
    told,
    tree_after,
    two_documents,
    x_of,
)
from tests.crash.oracle import Standing, Wrong, open_store
from tests.crash.recording import Removed
from tests.crash.simulated import Tree
from tests.crash.stories import PATH, PLAIN, Recording, Run
from tests.store.support import TestedStore
from waypost.store import DocumentId
from waypost.store.directory import restoring, upkeep
from waypost.store.directory.layout import Layout

pytestmark = pytest.mark.usefixtures("quiet")
S = DocumentId("session", "s")


@pytest.fixture(autouse=True)
def _calm(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.CRITICAL, "waypost")
    monkeypatch.setattr(upkeep.Upkeep, "ask_to_settle", lambda self: None)
    # decisions are carried out first where that can be; here they cannot, and go aside
    monkeypatch.setattr(TestedStore, "_settle", lambda self: frozenset())


def to_be_restored() -> Tree:
    """A store that went on after its backup: A and B changed, and a session came."""

    def work() -> None:
        two_documents()
        with a_store() as store:
            store.backup(BACKUP)
            put(store, A, x=b"2")
            put(store, B, x=b"2")
            put(store, S, x=b"2")

    return tree_after(work)


def restored(run: Run) -> None:
    store = run.open()
    store.restore_backup(BACKUP, allow_older=True)
    run.promise(DONE)


def test_t20_a_restore_that_was_decided_has_all_that_it_needs() -> None:
    """From the decision on the new logs and the plan are durable, up to the first that takes its place."""
    recording = told(restored, before=to_be_restored())
    decided = renamed_at(recording, "restoring")
    first = renamed_at(recording, "a.state")
    early = Recording(recording.before, recording.events[:first], recording.story, recording.options)

    def judge(tree: Tree, standing: Standing) -> None:
        found = x_of(STORE, A, B, S, read_only=False)
        expect(found, *(() if DONE in standing.promised else [[b"2", b"2", b"2"]]), [b"1", b"1", None])

    def is_decided(tree: Tree, standing: Standing) -> None:
        held = contents(tree)
        replaced = [name for name in ("a", "b") if held[f"workflows/{name}.state"] != old[f"workflows/{name}.state"]]
        if replaced and tree.find(f"{PATH}/restoring") is None:
            raise Wrong(f"{replaced} are new, and nothing says that the others should be")

    old = contents(recording.before)
    over = next(
        at for at, each in enumerate(recording.events) if isinstance(each, Removed) and each.name == "restoring"
    )
    most = early._replace(events=recording.events[:over])
    lose_power(early, judge, title="a restore that was decided", start=decided)
    lose_power(most, is_decided, title="a restore that is being carried out", start=decided)
    lose_power(recording, judge, title="a restore", model="ordered")


def test_t20_a_restore_is_durable_and_so_is_what_it_replaced() -> None:
    """Once it returned readers find the new logs, and the old ones are kept."""
    before = to_be_restored()
    old = {path: data for path, data in contents(before).items() if path.endswith((".state", ".session"))}
    recording = told(restored, before=before)

    def judge(tree: Tree, standing: Standing) -> None:
        kept = contents(tree)
        for path in old:
            end = old[path].rstrip(b"\0")
            if not kept.get(f"backups/before-restore.1/{path}", b"").startswith(end[:-200]):
                raise Wrong(f"{path} of before is not kept")
        expect(x_of(STORE, A, B, S), [b"1", b"1", None])

    lose_power(recording, judge, title="a restore that was told of", start=promised_from(recording))


def kept_logs() -> list[str]:
    with a_store(read_only=True) as store:
        backups = store.layout.existing("backups")
        kept = None if backups is None else backups.open_directory("before-restore.1")
        folder = None if kept is None else kept.open_directory("workflows")
        return sorted(folder.names()) if folder is not None else []


@pytest.mark.parametrize("is_new", [False, True], ids=["over what there was", "into a new store"])
def test_t20_a_restore_is_carried_out_whole_whichever_names_outlive_the_power(is_new: bool) -> None:
    """A rename is two names, of which a power cut may keep neither: no new log is lost that was to take a place."""
    before = to_be_restored()
    if is_new:
        for path in ("workflows/a.state", "workflows/b.state", "sessions/s.session"):
            before = changed(before, path, None)
    recording = told(restored, before=before)
    nothing_happened = [None, None, None] if is_new else [b"2", b"2", b"2"]

    def judge(tree: Tree, standing: Standing) -> None:
        found = x_of(STORE, A, B, S, read_only=False)
        expect(found, *([] if DONE in standing.promised else [nothing_happened]), [b"1", b"1", None])
        if found != nothing_happened:  # and what came is not taken for what it replaces
            expect(kept_logs(), [] if is_new else ["a.state", "b.state"])

    lose_power(recording, judge, title="a restore", start=renamed_at(recording, "restoring"))


def decided_restore(monkeypatch: pytest.MonkeyPatch) -> Tree:
    """A store whose restore was decided, and cut off before anything of it was carried out."""

    def work() -> None:
        store = open_store(STORE, dict(PLAIN))
        with monkeypatch.context() as patch:
            patch.setattr(restoring, "finish", lambda _: True)
            store.restore_backup(BACKUP, allow_older=True)

    return tree_after(work, to_be_restored())


def test_t20_a_restore_that_was_carried_out_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process commits, who found it over just before its last sync, is not taken for what it replaces."""
    before = decided_restore(monkeypatch)
    real = restoring.finish
    for change in count(1):
        died = False

        def work(run: Run, change: int = change) -> None:
            nonlocal died

            def finish(layout: Layout) -> bool:
                nonlocal died
                monkeypatch.setattr(restoring, "finish", real)
                died = dying_before(run, "another", change, lambda: open_store(run.path, run.options))
                return real(layout)

            monkeypatch.setattr(restoring, "finish", finish)
            with run.acting_as("second"):
                put(run.open(), S, x=b"3")
                run.promise(DONE)

        def judge(tree: Tree, standing: Standing) -> None:
            expect(x_of(STORE, S, read_only=False), [b"3"])

        recording = told(work, before=before)
        title = f"after a restore whose process died before change {change}"
        lose_power(recording, judge, title=title, states=30, start=promised_from(recording))
        if not died:
            break
    assert change > 15


def with_a_decision() -> Tree:
    """What a process leaves that dies before it has written what it had decided over A and B."""
    for change in count(1):

        def work(run: Run, change: int = change) -> None:
            with run.acting_as("second"):
                second = run.open()
            assert dying_before(run, "second", change, lambda: commit_over(run, second, A, B))

        tree = last_tree(told(work, before=to_be_restored()))
        if decisions_in(tree):
            return tree
    raise AssertionError


def decisions_in(tree: Tree) -> dict[str, bytes]:
    return {path: data for path, data in contents(tree).items() if "transactions/" in path}


def test_t20_what_a_restore_replaces_is_there_at_each_moment() -> None:
    """Each log, and each decision that speaks of one: in its place, or kept. In the end it is kept and nowhere else."""
    before = with_a_decision()
    logs = {path: data.rstrip(b"\0") for path, data in contents(before).items() if path.startswith("workflows/")}
    (decision,) = decisions_in(before)
    recording = told(restored, before=before)

    def judge(tree: Tree, standing: Standing) -> None:
        found = contents(tree)
        for path in (*logs, decision):
            expected = contents(before)[path].rstrip(b"\0")
            kept = found.get(f"backups/before-restore.1/{path}", b"")
            if not kept.startswith(expected) and not found.get(path, b"").startswith(expected):
                raise Wrong(f"{path} of before is gone")
        if DONE in standing.promised:
            expect(list(decisions_in(tree)), [f"backups/before-restore.1/{decision}"])
            expect(x_of(STORE, A, B, S), [b"1", b"1", None])

    lose_power(recording, judge, title="a restore over a decision", start=renamed_at(recording, "restoring"))
