"""Each sync of backups, repairs and maintenance is needed: the power goes, and nothing of theirs is lost.

What they did is there once they returned, also what they moved aside; `make mutants` removes their syncs one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
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
from tests.crash.oracle import Standing, Wrong, configuration, open_store
from tests.crash.recording import Killed
from tests.crash.simulated import BASE, Tree
from tests.crash.stories import PLAIN, Recording, Run
from waypost.store.directory import compaction, upkeep
from waypost.store.directory.repair import repair

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture(autouse=True)
def _calm(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.CRITICAL, "waypost")
    monkeypatch.setattr(upkeep.Upkeep, "ask_to_settle", lambda self: None)


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


@pytest.mark.parametrize("what", ["nothing whole", "a foreign file", "the lease", "a leftover"])
def test_t20_what_a_repair_moves_aside_is_somewhere_whichever_names_outlive_the_power(what: str) -> None:
    """A rename is two names, of which a power cut may keep neither, and a repair deletes nothing."""
    before = damaged(what)
    recording = told(lambda run: repair(STORE, configuration(tuple(run.options.items())), dry_run=False), before=before)
    after = contents(last_tree(recording))
    moved = [data for path, data in after.items() if path.startswith("damaged/") and not path.endswith(".json")]
    assert moved

    def judge(tree: Tree, standing: Standing) -> None:
        if not set(moved) <= set(contents(tree).values()):
            raise Wrong("what was moved aside is gone")
        mends_again(holds_after(recording))(tree, standing)

    lose_power(recording, judge, title=f"what a repair of {what} moves aside")


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
        monkeypatch.setattr(compaction, "DAY_US", -1)
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
