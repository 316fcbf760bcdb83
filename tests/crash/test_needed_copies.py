"""Each sync of backups, restores, repairs and maintenance is needed: the power goes, and nothing of theirs is lost.

What they did is there once they returned, also what they moved aside; `make mutants` removes their syncs one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import count

import pytest

from tests.crash.needed import (
    DONE,
    STORE,
    A,
    B,
    a_store,
    changed,
    commit_over,
    contents,
    dying_before,
    lose_power,
    promised_from,
    put,
    told,
    tree_after,
)
from tests.crash.oracle import Standing, Wrong, configuration, open_store
from tests.crash.recording import Killed, Removed, Renamed, apply
from tests.crash.simulated import BASE, Tree
from tests.crash.stories import PATH, PLAIN, Recording, Run
from waypost.store import DocumentId
from waypost.store.directory import compaction, restoring, upkeep
from waypost.store.directory.layout import Layout
from waypost.store.directory.repair import repair

pytestmark = pytest.mark.usefixtures("quiet")
BACKUP = f"{BASE}/backups/of/today"
S = DocumentId("session", "s")


@pytest.fixture(autouse=True)
def _calm(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.CRITICAL, "waypost")
    monkeypatch.setattr(upkeep.Upkeep, "ask_to_settle", lambda self: None)


def two_documents() -> None:
    with a_store() as store:
        put(store, A, x=b"1")
        put(store, B, x=b"1")


def x_of(path: str, *documents: DocumentId, read_only: bool = True) -> list[bytes | None]:
    with a_store(read_only=read_only, path=path) as store:
        found = [store.view(document).get("x") for document in documents]
        wrong = [each for each in store.verify().findings if each.severity in ("damage", "torn tail")]
    if wrong:
        raise Wrong(f"{wrong}")
    return found


def expect(found: object, *expected: object) -> None:
    if found not in expected:
        raise Wrong(f"{found} in place of {expected}")


# --- backups ---


def test_t20_a_backup_that_has_its_name_is_whole_and_one_that_was_told_of_is_there() -> None:
    """Its files, their names, its own name and those of the directories above it that it made."""

    def work(run: Run) -> None:
        store = run.open()
        store.backup(BACKUP)
        run.promise(DONE)

    def judge(tree: Tree, standing: Standing) -> None:
        if DONE in standing.promised or tree.find(BACKUP.removeprefix(BASE)) is not None:
            expect(x_of(BACKUP, A, B), [b"1", b"1"])
            manifest = tree.find(f"{BACKUP}/backup.json".removeprefix(BASE))
            expect(tree.files[manifest][:1] if manifest else None, b"{")

    recording = told(work, before=tree_after(two_documents))
    lose_power(recording, judge, title="a backup", start=renamed_at(recording, "today"))
    lose_power(recording, judge, title="a backup, at its end", start=promised_from(recording))


def renamed_at(recording: Recording, name: str) -> int:
    """When something first gets a name."""
    return next(
        at for at, event in enumerate(recording.events) if isinstance(event, Renamed) and event.new_name == name
    )


def test_t20_a_backup_passes_on_nothing_that_the_store_could_still_lose() -> None:
    """What it holds of a commit whose writer died before its sync stays in the store."""

    def work(run: Run) -> None:
        with run.acting_as("second"):
            second = run.open()
            put(second, A, x=b"2")
        run.system.die_before = run.system.changes + 2  # its write is the first
        with pytest.raises(Killed), run.acting_as("second"):
            put(second, A, x=b"3")
        run.kill("second")
        run.system.die_before = None
        with run.acting_as("third"):
            store = open_store(run.path, run.options, read_only=True)
            store.backup(BACKUP)
        run.promise(DONE)

    def judge(tree: Tree, standing: Standing) -> None:
        expect(x_of(BACKUP, A), [b"3"])
        expect(x_of(STORE, A), [b"3"])

    recording = told(work, before=tree_after(two_documents))
    lose_power(recording, judge, title="a backup of what is not synced", start=promised_from(recording))


def test_t20_a_backup_passes_on_no_decision_that_the_store_could_still_lose() -> None:
    """Its maker may have died before its name was durable; what the backup holds of it stays in the store."""
    for change in count(1):
        died = False

        def work(run: Run, change: int = change) -> None:
            nonlocal died
            with run.acting_as("second"):
                second = run.open()
            died = dying_before(run, "second", change, lambda: commit_over(run, second, A, B))
            with run.acting_as("third"):
                open_store(run.path, run.options, read_only=True).backup(BACKUP)
            run.promise(DONE)

        def judge(tree: Tree, standing: Standing) -> None:
            expect(attempt_in(STORE), attempt_in(BACKUP))

        recording = told(work, before=tree_after(two_documents))
        title = f"a backup behind a maker that died before change {change}"
        lose_power(recording, judge, title=title, states=30, start=promised_from(recording))
        if not died:
            break
    assert change > 5


def attempt_in(path: str) -> list[bytes | None]:
    with a_store(read_only=True, path=path) as store:
        return [store.view(document).get("attempt1") for document in (A, B)]


# --- restores ---


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


# --- repairs ---


def damaged(what: str) -> Tree:
    """A store with something amiss that a repair mends."""
    tree = tree_after(two_documents)
    log = contents(tree)["workflows/a.state"]
    two = tree_after(two_commits, tree)
    longer = contents(two)["workflows/a.state"]
    match what:
        case "a byte":
            at = len(log) + 100
            return changed(two, "workflows/a.state", longer[:at] + bytes([longer[at] ^ 1]) + longer[at + 1 :])
        case "a torn tail":
            return changed(two, "workflows/a.state", longer + b"WPF\x01 torn" * 9)
        case "nothing whole":
            return changed(two, "workflows/a.state", b"nothing" * 99)
        case "a foreign file":
            return changed(tree, "workflows/foreign", b"foreign" * 9)
        case "another's name":
            return changed(changed(tree, "workflows/a.state", None), "workflows/c.state", log)
        case "another's folder":
            return changed(changed(tree, "workflows/a.state", None), "sessions/c.session", log)
        case "FORMAT":
            return changed(tree, "FORMAT", b"waypost one, perhaps")
        case "no FORMAT":
            return changed(tree, "FORMAT", None)
        case "the lease":
            return changed(tree, "lease", b"{torn" * 9)
        case "a leftover":
            return changed(tree, "temp/00.new", b"leftover" * 9)
        case _:
            raise AssertionError(what)


def two_commits() -> None:
    with a_store() as store:
        put(store, A, x=b"2")
        put(store, A, x=b"3", more=b"more" * 50)


REPAIRS = [
    *("a byte", "a torn tail", "nothing whole", "a foreign file", "another's name", "another's folder"),
    *("FORMAT", "no FORMAT", "the lease", "a leftover"),
]


@pytest.mark.parametrize("what", REPAIRS)
def test_t20_a_repair_is_durable_and_so_is_what_it_moved_aside(what: str) -> None:
    """Once it returned the store is sound and holds what was kept, and each byte that it replaced is in `damaged`."""
    before = damaged(what)

    def work(run: Run) -> None:
        repair(STORE, configuration(tuple(run.options.items())), dry_run=False)
        run.promise(DONE)

    recording = told(work, before=before)
    kept = {path: data for path, data in contents(last_tree(recording)).items() if path.startswith("damaged/")}
    assert what in ("another's name", "another's folder", "no FORMAT") or kept

    def judge(tree: Tree, standing: Standing) -> None:
        found = contents(tree)
        for path, data in kept.items():
            if found.get(path) != data:
                raise Wrong(f"{path} is not kept")
        with a_store(read_only=True) as store:
            # that a file of its own went again need not be durable
            wrong = [
                each
                for each in store.verify().findings
                if each.severity != "note" and (each.severity != "leftover" or each.file.endswith("/00.new"))
            ]
            shown = [store.view(each).get("x") for each in (A, B)]
        if wrong:
            raise Wrong(f"{wrong}")
        expect(shown, holds_after(recording))

    lose_power(recording, judge, title=f"a repair of {what}", start=promised_from(recording))
    lose_power(recording, mends_again(holds_after(recording)), title=f"a repair of {what}", model="ordered")


def last_tree(recording: Recording) -> Tree:
    tree = recording.before.copy()
    for event in recording.events:
        apply(tree, event)
    return tree


def holds_after(recording: Recording) -> list[bytes | None]:
    found: list[bytes | None] = []
    tree_after(lambda: found.extend(x_of(STORE, A, B)), last_tree(recording))
    return found


def mends_again(expected: list[bytes | None]) -> Callable[[Tree, Standing], None]:
    """What a crash cut off is done by the next repair."""

    def judge(tree: Tree, standing: Standing) -> None:
        repair(STORE, configuration(tuple(PLAIN.items())), dry_run=False)
        expect(x_of(STORE, A, B), expected)

    return judge


# --- maintenance ---


def test_t20_a_log_whose_history_is_shortened_is_kept_durably(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the shortened log is in its place, the old one has its name in `backups`."""

    def work(run: Run) -> None:
        store = run.open()
        put(store, A, x=b"0")
        monkeypatch.setattr(compaction, "HISTORY_US", 1)
        assert store.tidy(A, "compact")
        run.promise(DONE)

    before = tree_after(two_documents)
    log = contents(before)["workflows/a.state"]

    def judge(tree: Tree, standing: Standing) -> None:
        kept = [data[:300] for path, data in contents(tree).items() if path.startswith(("workflows/", "backups/"))]
        if log[:300] not in kept:
            raise Wrong("the old log is gone")
        expect(x_of_loosely(), [b"0", b"1"], *([] if DONE in standing.promised else [[b"1", b"1"]]))

    recording = told(work, before=before)
    lose_power(recording, judge, title="a shortened history")


@pytest.mark.parametrize("retention", [1, 2])
def test_t20_a_copy_before_a_migration_is_durable(retention: int) -> None:
    """Once it was made it is there and whole, and before an older one goes."""
    options = {"reliability.backup_retention": retention}

    def first(run: Run) -> None:
        store = run.open()
        assert store.keep_generation(A, 1)
        run.promise(DONE)

    def again(run: Run) -> None:
        first(run)
        store = run.open()
        put(store, A, x=b"2")
        run.system.mark("promised", DONE + 1)
        assert store.keep_generation(A, 2)
        run.system.mark("promised", DONE + 2)

    before = tree_after(two_documents)
    log = contents(before)["workflows/a.state"]

    def judge(tree: Tree, standing: Standing) -> None:
        kept = {path: data for path, data in contents(tree).items() if path.startswith("backups/")}
        whole = [path for path, data in kept.items() if data.startswith(log[:300])]
        if len(whole) != len(kept) or not whole:
            raise Wrong(f"of {list(kept)} only {whole} are whole")
        if DONE + 2 in standing.promised and "backups/a.state.v2" not in whole:
            raise Wrong("the copy is not there")

    recording = told(again, before=before, options=options)
    lose_power(recording, judge, title="copies before migrations", start=promised_from(recording))


def test_t20_bytes_that_are_moved_aside_are_durable_before_they_are_cleared() -> None:
    """A torn tail stands in the log or in `temp`, at each moment; and cleared is cleared."""
    torn = b"WPF\x01" + b"this was torn" * 30
    before = tree_after(two_documents)
    log = contents(before)["workflows/a.state"]
    before = changed(before, "workflows/a.state", log + torn)

    def work(run: Run) -> None:
        store = run.open()
        put(store, A, x=b"2")
        run.promise(DONE)

    def judge(tree: Tree, standing: Standing) -> None:
        found = contents(tree)
        pieces = [torn[at : at + 13] for at in range(100, 300, 40)]
        for piece in pieces:
            if not any(piece in data for path, data in found.items() if path.startswith(("work", "temp/"))):
                raise Wrong("the torn bytes are nowhere")
        expect(x_of_loosely(), [b"1", b"1"], [b"2", b"1"])

    recording = told(work, before=before)
    lose_power(recording, judge, title="a torn tail", states=800)


def x_of_loosely() -> list[bytes | None]:
    with a_store(read_only=True) as store:
        return [store.view(document).get("x") for document in (A, B)]
