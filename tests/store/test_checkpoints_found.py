"""What reviews of the checkpoint layer found: each with the smallest case that shows it."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import random
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.store.needed import calm, die, path
from tests.store.support import WF, TestedStore, change, directory_store, system_calls
from tests.store.test_checkpoints import (
    commit,
    contents,
    files,
    make,
    name_of,
    put,
    remove,
    without_history,
    written,
)
from waypost import config
from waypost.errors import DocumentDamaged, LockTimeout, StoreUnavailable
from waypost.store import DocumentId
from waypost.store.contract import CHECKPOINT
from waypost.store.directory import checkpoints, keeping, loading, recent, upkeep
from waypost.store.directory.document import Document
from waypost.store.directory.files import Directory
from waypost.store.directory.repair import repair

__all__ = ["calm", "path"]

pytestmark = pytest.mark.usefixtures("calm")


def file_of(path: Path, number: int) -> Path:
    return path / "checkpoints" / checkpoints.file_name(name_of(number))


def keep(store: TestedStore) -> None:
    store._document(WF).keep_checkpoints(newest_only=False)


def by_files(path: Path) -> dict[int, Any]:
    """Each checkpoint as its files alone give it."""
    with closing(directory_store(path, read_only=True)) as store:
        numbers = [int(name[3:]) for name in checkpoints.names_of(store._context, WF)]
        return {number: contents(checkpoints.read(store._context, name_of(number))) for number in numbers}


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def closed_with(path: Path, count: int) -> dict[int, Any]:
    """A closed store with so many checkpoints, each on the one before it; what they hold."""
    store = directory_store(path)
    put(store, base=random.Random(1).randbytes(20_000))  # else a base is soon cheaper than another delta
    made = {number: make(store, number, a=b"%d" % number) for number in range(count)}
    store.close()
    return made


def dying_before_its_files_go(store: TestedStore, *numbers: int) -> None:
    """Remove checkpoints, and die."""
    remove(store, *numbers)
    die(store)


def test_a_checkpoint_on_one_that_a_dead_process_left_survives_what_that_one_stood_on(path: Path) -> None:
    """The file of 1 is left though no document speaks of it; 2 stands on it, and 0, which it stands on, goes."""
    made = closed_with(path, 3)
    dying_before_its_files_go(directory_store(path), 1)
    store = directory_store(path)
    remove(store, 0)
    store.close()
    assert written(path, 1, 2)
    assert by_files(path)[2] == made[2]


def test_what_is_removed_while_files_are_written_goes_the_next_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version that was looked at has it still; it is not forgotten over that."""
    closed_with(path, 2)
    store = directory_store(path)
    make(store, 2)
    real = Document.sync

    def remove_meanwhile(document: Document) -> None:
        monkeypatch.setattr(Document, "sync", real)
        remove(store, 0)

    monkeypatch.setattr(Document, "sync", remove_meanwhile)
    keep(store)
    keep(store)
    assert written(path, 1, 2)
    store.close()


def test_c06_a_reader_meets_files_that_are_written_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two files of the chain that it reads, the next one goes, and those that stand on it are written anew."""
    made = closed_with(path, 4)
    store = directory_store(path)
    reader = directory_store(path, read_only=True)
    real = checkpoints.read_layer

    def with_others(context: Any, folder: Any, name: str) -> Any:
        found = real(context, folder, name)
        if context is reader._context and name == name_of(2):
            monkeypatch.setattr(checkpoints, "read_layer", real)
            remove(store, 1)
            keep(store)
        return found

    monkeypatch.setattr(checkpoints, "read_layer", with_others)
    assert contents(checkpoints.read(reader._context, name_of(3))) == made[3]
    assert written(path, 0, 2, 3)
    reader.close()
    store.close()


def test_one_that_is_written_in_the_middle_of_a_chain_does_not_lengthen_it(path: Path) -> None:
    """Where the base of a full chain was moved aside and history has it, it is a base again."""
    made = closed_with(path, 2 * checkpoints.LONGEST_CHAIN + 2)
    with closing(directory_store(path, read_only=True)) as store:
        layers = [
            checkpoints.read_file(store._context, store.layout.folder("checkpoints"), each) for each in files(path)
        ]
        bases = sorted(layer.name for layer in layers if layer is not None and layer.parent is None)
    assert len(bases) == 2
    (path / "checkpoints" / checkpoints.file_name(bases[1])).unlink()
    with closing(directory_store(path)) as store:
        put(store, a=b"more")
    assert by_files(path) == made


@pytest.mark.parametrize("number", [0, 1, 2])
def test_d13_a_damaged_file_is_written_again_before_history_goes(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    """A checkpoint that only history still holds must not go with it."""
    made = closed_with(path, 3)
    flip(file_of(path, number))
    store = directory_store(path)
    put(store, a=b"more")
    without_history(store, monkeypatch)
    assert [contents(store.checkpoint(WF, name_of(each))) for each in range(3)] == list(made.values())
    store.close()
    assert by_files(path) == made


def test_compaction_removes_what_a_dead_process_left(path: Path) -> None:
    """History tells which checkpoints the document had; files of others, and of other documents, stay."""
    closed_with(path, 3)
    other = DocumentId("workflow", "other")
    store = directory_store(path)
    commit(store, lambda tx: tx.put(CHECKPOINT + "other@1", b""), other)
    store._document(other).keep_checkpoints(newest_only=False)
    remove(store, 1)
    commit(store, lambda tx: tx.delete(CHECKPOINT + "other@1"), other)
    die(store)
    store = directory_store(path)
    put(store, a=b"more")
    assert {found.severity for found in store.verify().findings} == {"note", "leftover"}
    assert store.tidy(WF, "compact")
    assert files(path) == {file_of(path, 0).name, file_of(path, 2).name, checkpoints.file_name("other@1")}
    store.close()


def test_what_a_left_file_stood_on_may_go_first(path: Path) -> None:
    """Whoever removes several may die in between; what is left of them is no damage."""
    closed_with(path, 3)
    dying_before_its_files_go(directory_store(path), 0, 1, 2)
    file_of(path, 0).unlink()
    with closing(directory_store(path, read_only=True)) as store:
        assert {found.severity for found in store.verify().findings} == {"note", "leftover"}
        assert store.checkpoints(WF) == []
    (path / "workflows" / "wf.state").unlink()
    with closing(directory_store(path, read_only=True)) as store:
        assert store.checkpoints(WF) == []


def test_trap_13_a_damaged_log_does_not_take_its_checkpoints_along(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They are read by their files alone, as where the log is gone."""
    caplog.set_level(logging.CRITICAL, "waypost")
    made = closed_with(path, 3)
    flip(path / "workflows" / "wf.state")
    with closing(directory_store(path, read_only=True)) as store:
        assert {int(name[3:]): contents(store.checkpoint(WF, name)) for name in store.checkpoints(WF)} == made


def test_a_damaged_file_does_not_keep_others_from_going(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What stands on the damaged one stays as it is, with all that it stands on; the rest goes."""
    caplog.set_level(logging.CRITICAL, "waypost")
    made = closed_with(path, 5)
    flip(file_of(path, 2))
    store = directory_store(path)
    remove(store, 0, 4)
    keep(store)
    assert not file_of(path, 4).exists()
    assert contents(checkpoints.read(store._context, name_of(1))) == made[1]
    assert [contents(store.checkpoint(WF, name_of(number))) for number in (1, 2, 3)] == [made[1], made[2], made[3]]
    store.close()


@pytest.fixture
def held(path: Path) -> Callable[[], int]:
    """Somebody who holds the folder of checkpoints and does not let it go, as a stopped process does."""

    def hold() -> int:
        descriptor = os.open(path / "checkpoints" / "lock", os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor

    return hold


def test_c05_c09_a_stopped_process_that_holds_the_folder_costs_one_wait_and_nothing_else(
    path: Path,
    held: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Commits go on; who wants to write there waits once, and closing many documents does not wait for each of them."""
    caplog.set_level(logging.CRITICAL, "waypost")
    monkeypatch.setattr(keeping, "LOCK_TIMEOUT_S", 0.5)
    waits: list[float] = []
    real = keeping.File.lock

    def noted(file: Any, timeout_s: float, *args: Any, **kwargs: Any) -> None:
        if file.name.endswith("checkpoints/lock"):
            waits.append(timeout_s)
        real(file, timeout_s, *args, **kwargs)

    monkeypatch.setattr(keeping.File, "lock", noted)
    made = closed_with(path, 1)
    descriptor = held()
    waits.clear()
    store = directory_store(path)
    made[1] = make(store, 1, a=b"1")
    with pytest.raises(LockTimeout, match="checkpoints/lock"):
        keep(store)
    monkeypatch.setattr(keeping, "LOCK_TIMEOUT_S", 3600.0)
    store._context.stuck_until = time.monotonic() + 3600
    for number in range(5):
        commit(
            store,
            lambda tx, number=number: tx.put(f"{CHECKPOINT}w{number}@1", b""),
            DocumentId("workflow", f"w{number}"),
        )
    store.close()
    assert waits == [0.5, *[0.0] * 6]
    os.close(descriptor)
    with closing(directory_store(path, read_only=True)) as store:
        assert {number: contents(store.checkpoint(WF, name_of(number))) for number in made} == made
        assert store.verify().sound


def test_what_waited_for_the_folder_through_a_restore_writes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was gone before may be there again."""
    made = closed_with(path, 3)
    store = directory_store(path)
    store.backup(str(path.with_name("backup")))
    remove(store, 1)
    make(store, 3)
    real = keeping.alone

    def through_a_restore(*args: Any) -> Any:
        monkeypatch.setattr(keeping, "alone", real)
        store.restore_backup(str(path.with_name("backup")), allow_older=True)
        return real(*args)

    monkeypatch.setattr(keeping, "alone", through_a_restore)
    with pytest.raises(StoreUnavailable, match="restored"):
        keep(store)
    keep(store)
    assert by_files(path) == made
    store.close()


def test_c04_the_folder_is_locked_by_the_file_that_has_the_name(path: Path) -> None:
    """Whoever waited for one that was replaced meanwhile takes the other."""
    closed_with(path, 1)
    store = directory_store(path)
    real = keeping._lock

    def replaced(context: Any, file: Any) -> None:
        keeping._lock = real
        (path / "checkpoints" / "lock").unlink()
        real(context, file)

    keeping._lock = replaced
    other = directory_store(path)
    other._context.stuck_until = time.monotonic() + 3600
    with keeping.alone(store._context), pytest.raises(LockTimeout):
        keeping._locked(other._context)
    other.close()
    store.close()


def test_many_are_written_out_some_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others get their turn in between, and not all versions are in memory at once."""
    locked: list[int] = []
    real = keeping.alone

    def counted(*args: Any) -> Any:
        locked.append(len(files(path)) if path.joinpath("checkpoints").exists() else 0)
        return real(*args)

    monkeypatch.setattr(keeping, "alone", counted)
    made = closed_with(path, 70)
    assert locked == [0, 32, 64]
    assert by_files(path) == made


def test_upkeep_looks_for_the_newest_file_and_not_for_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are: what was made before has its file mostly, and is looked for as the document is closed."""
    closed_with(path, 40)
    looked_for: list[str] = []
    real = Directory.identity
    monkeypatch.setattr(Directory, "identity", lambda self, name: (looked_for.append(name), real(self, name))[1])
    with closing(directory_store(path)) as store:
        make(store, 40, a=b"40")
        looked_for.clear()
        store._document(WF).keep_checkpoints(newest_only=True)
        assert checkpoints.read(store._context, name_of(40))
        assert len({name for name in looked_for if name.endswith(".checkpoint")}) <= 2


def test_the_log_is_read_for_no_version_that_is_at_hand(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing reads it once for what a dead process left without files; what was made a moment ago is in memory."""
    store = directory_store(path)
    made = {number: make(store, number, value=b"%d" % number) for number in range(3)}
    die(store)
    read: list[list[int]] = []
    real = loading.versions
    monkeypatch.setattr(recent, "_MOST_COMMITS", 4)
    monkeypatch.setattr(
        loading, "versions", lambda *given, **named: (read.append(list(given[2])), real(*given, **named))[1]
    )
    for numbers in (range(3, 6), range(6, 9)):
        with closing(directory_store(path)) as store:
            made |= {number: make(store, number, value=b"%d" % number) for number in numbers}
        assert by_files(path) == made
    assert read == [[1, 2]]


def test_e06_what_cannot_be_written_stays_in_history(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk a compaction fails, and takes nothing that has no file."""
    store = directory_store(path)
    made = {number: make(store, number, a=b"%d" % number) for number in range(3)}

    def full(*_: Any) -> None:
        raise StoreUnavailable("No space left on device", errno="ENOSPC")

    monkeypatch.setattr(keeping, "_write", full)
    with pytest.raises(StoreUnavailable):
        store.tidy(WF, "compact")
    assert {number: contents(store.checkpoint(WF, name_of(number))) for number in made} == made
    store.submit(change(WF, lambda tx: tx.put("b", b"1"))).result()
    monkeypatch.undo()
    store.close()
    assert by_files(path) == made


def test_d10_a_file_of_another_store_is_no_part_of_a_checkpoint(path: Path) -> None:
    """It has the right name, document and version, and is whole; only the checksum tells that it is another one."""
    made = closed_with(path, 2)
    other = path.with_name("other")
    with closing(directory_store(other)) as store:
        put(store, base=b"another")
        make(store, 0, a=b"0")
    file_of(path, 0).write_bytes(file_of(other, 0).read_bytes())
    with closing(directory_store(path, read_only=True)) as store:
        assert contents(store.checkpoint(WF, name_of(1))) == made[1]
        assert not store.verify().sound
    (path / "workflows" / "wf.state").unlink()
    with closing(directory_store(path, read_only=True)) as store, pytest.raises(DocumentDamaged, match="checksum"):
        store.checkpoint(WF, name_of(1))


def test_c05_who_has_nothing_to_remove_does_not_wait_for_the_folder(
    path: Path, held: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removed checkpoints whose files are gone already are no reason to lock it."""
    closed_with(path, 3)
    store = directory_store(path)
    remove(store, 1)
    keep(store)
    descriptor = held()
    monkeypatch.setattr(keeping, "LOCK_TIMEOUT_S", 0.0)
    taken: list[object] = []
    monkeypatch.setattr(keeping, "locked_too_long", lambda *args: taken.append(args) or LockTimeout("held"))
    assert store.tidy(WF, "compact") and not taken
    os.close(descriptor)
    store.close()


def mended(path: Path) -> list[tuple[str, str]]:
    """Repair the store; what was done to which file."""
    report = repair(str(path), config.load("production", {}, environment={}), dry_run=False)
    assert repair(str(path), config.load("production", {}, environment={}), dry_run=False).repaired == []
    with closing(directory_store(path, read_only=True)) as store:
        assert [found for found in store.verify().findings if found.severity not in ("note", "leftover")] == []
    return [(each.file, each.action) for each in report.repaired]


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("has_history", [True, False])
def test_e10_repair_moves_a_damaged_file_of_a_checkpoint_aside(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, has_history: bool
) -> None:
    """History gives what is in it another file. Else what stood on it is lost too, and nobody speaks of it any more."""
    made = closed_with(path, 3)
    if not has_history:
        with closing(directory_store(path)) as store:
            put(store, a=b"more")
            without_history(store, monkeypatch)
    flip(file_of(path, number))
    shown = f"checkpoints/{file_of(path, number).name}"
    done = mended(path)
    assert done[0] == (shown, "moved aside") and (path / "damaged" / f"{file_of(path, number).name}.1").exists()
    expected = made if has_history else {each: made[each] for each in range(number)}
    assert len(done) == 1 + (0 if has_history else 3 - number), done
    assert by_files(path) == expected
    with closing(directory_store(path, read_only=True)) as store:
        assert {int(name[3:]): contents(store.checkpoint(WF, name)) for name in store.checkpoints(WF)} == expected


def test_e10_repair_takes_away_what_is_no_file_of_a_checkpoint(path: Path) -> None:
    """A foreign file, and one with the name of another."""
    made = closed_with(path, 2)
    (path / "checkpoints" / "foreign").write_bytes(b"foreign")
    (path / "checkpoints" / "other.checkpoint").write_bytes(file_of(path, 1).read_bytes())
    assert mended(path) == [("checkpoints/foreign", "moved aside"), ("checkpoints/other.checkpoint", "moved aside")]
    assert by_files(path) == made


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_c01_a_child_does_not_hold_the_folder_that_its_parent_had_locked(path: Path) -> None:
    """A fork may come while another thread writes files; the lock is free when that thread is done."""
    closed_with(path, 1)
    store = directory_store(path)
    told, wait = os.pipe()
    with keeping.alone(store._context):
        pid = os.fork()
        if pid == 0:
            os.close(wait)
            os.read(told, 1)
            os._exit(0)
    other = directory_store(path)
    other._context.stuck_until = time.monotonic() + 3600
    try:
        keeping._locked(other._context).close()
    finally:
        os.close(wait)
        os.close(told)
        os.waitpid(pid, 0)
    other.close()
    store.close()


def test_n01_names_that_are_too_long_for_a_file_stay_apart(path: Path) -> None:
    """Such as those of a workflow with a long id; also by their files alone."""
    names = [f"{'ü/' * 100}@{number}" for number in range(3)]
    store = directory_store(path)
    for name in names:
        commit(store, lambda tx, name=name: [tx.put("x", name.encode()), tx.put(CHECKPOINT + name, b"")])
    store.close()
    (path / "workflows" / "wf.state").unlink()
    with closing(directory_store(path, read_only=True)) as store:
        assert store.checkpoints(WF) == names
        found = [store.checkpoint(WF, name) for name in names]
        assert [view.get("x") for view in found if view] == [name.encode() for name in names]


def test_two_checkpoints_of_one_commit_are_both_kept(path: Path) -> None:
    """A transaction may make several; each gets its file."""
    store = directory_store(path)
    commit(store, lambda tx: [tx.put("x", b"1"), *[tx.put(CHECKPOINT + name_of(number), b"") for number in (1, 2)]])
    store.close()
    assert written(path, 1, 2)
    assert by_files(path)[1] == by_files(path)[2]


def test_d16_a_file_whose_name_was_not_synced_is_written_again_before_history_goes(path: Path) -> None:
    """The sync of the folder failed once. Later ones do not cover what was lost then, so that the file gets its name a
    second time, as another one, before what else holds its version may go.
    """
    store = directory_store(path)
    made = {number: make(store, number, a=b"%d" % number) for number in range(2)}
    folder = (path / "checkpoints").absolute()

    def inodes() -> dict[str, int]:
        return {each.name: each.stat().st_ino for each in folder.iterdir() if each.name != "lock"}

    def fault(name: str, *_: Any) -> None:
        if name == "fsync" and calls.count("rename") == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with system_calls() as calls:
        calls.fault = fault
        with pytest.raises(StoreUnavailable):
            keep(store)
        before, calls.fault = inodes(), None
        assert len(before) == 2
        calls.trace.clear()
        keep(store)
        done = [name for name, *_ in calls.trace if name in ("rename", "fsync")]
    assert done[-2:] == ["rename", "fsync"] and done.count("rename") == 2
    assert all(inode != before[name] for name, inode in inodes().items())
    with system_calls() as calls:
        keep(store)
        assert "rename" not in [name for name, *_ in calls.trace]
    store.close()
    assert by_files(path) == made


def test_the_newest_is_written_out_for_a_twentieth_of_the_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing begins a second late; where it takes two, not again for forty, though checkpoints come all the while."""
    now, began = [100.0], list[float]()

    def slow(_: Document, *, newest_only: bool) -> None:
        assert newest_only
        began.append(now[0])
        now[0] += 2

    monkeypatch.setattr(upkeep, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with closing(directory_store(path)) as store, monkeypatch.context() as patch:
        patch.setattr(Document, "keep_checkpoints", slow)
        while now[0] < 200:
            store._upkeep._keep_checkpoints(store._document(WF))
            now[0] += 1
        store._upkeep._later.clear()
    assert began == [101, 141, 181]
