"""`checkpoint-index.json`: true after each repair, and each close where files are few; and nothing rests on it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_config, opened
from tests.store.needed import die
from tests.store.support import WF, TestedStore, directory_store, failing, system_calls
from tests.store.test_checkpoints import contents, make, name_of, put, remove
from waypost.errors import StoreUnavailable
from waypost.store.directory import keeping, register, upkeep
from waypost.store.directory.files import Directory
from waypost.store.directory.log_check import Report
from waypost.store.directory.repair import repair
from waypost.store.directory.upkeep import Upkeep


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Upkeep, "ask", lambda self, document: None)


def index_of(path: Path) -> dict[str, Any]:
    """The index, as anybody may read it."""
    return json.loads((path / register.NAME).read_text(encoding="utf-8"))


def ids(path: Path) -> list[str]:
    return [row["id"] for row in index_of(path)["checkpoints"]]


def is_true(path: Path) -> bool:
    """Whether `verify` finds nothing amiss with it, and it names the files that there are."""
    with closing(directory_store(path, read_only=True)) as store:
        assert {each.severity for each in store.verify().findings} <= {"note", "leftover"}
        amiss = [each for each in store.verify().findings if each.file.endswith(register.NAME)]
    named = sorted(row["file"] for row in index_of(path)["checkpoints"])
    files = sorted(each.name for each in (path / "checkpoints").iterdir() if each.name != "lock")
    return not amiss and named == files


def test_the_index_tells_people_what_is_kept(path: Path) -> None:
    """Of each file: whose it is, type, tags, description, when it was made, its size, and what it stands on."""
    with opened(path, checkpoints={"initial": False, "post_step": False}) as wp:
        wp.create_workflow("w", "W", steps=["a"]).unwrap()
        wp.definitions.store._upkeep.close()  # type: ignore[attr-defined]
        wp.add_step_output("w", "a", os.urandom(50_000)).unwrap()
        first = wp.create_checkpoint("w", "größer\n\x1b[2J", ["t", "u"]).unwrap()
        wp.update_context("w", variables={"x": 1}).unwrap()
        second = wp.create_checkpoint("w").unwrap()
        version = second.state.metadata.version
        carried = wp.import_checkpoint(wp.export_checkpoint(first.id), "v").unwrap()
    rows = {row["id"]: row for row in index_of(path)["checkpoints"]}
    assert set(rows) == {first.id, second.id, carried.id}
    row = rows[first.id]
    assert (row["workflow"], row["type"], row["tags"]) == ("w", "manual", ["t", "u"])
    assert (row["description"], row["created"]) == (first.description, first.created_at.isoformat())
    assert row["size_bytes"] == (path / "checkpoints" / row["file"]).stat().st_size > 50_000
    assert (row["stands_on"], rows[second.id]["stands_on"]) == (None, first.id)
    assert rows[second.id]["version"] == version and rows[carried.id]["workflow"] == "v"
    assert "\x1b" not in (path / register.NAME).read_text() and (path / register.NAME).stat().st_mode & 0o777 == 0o600
    assert is_true(path)


@pytest.mark.usefixtures("calm")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:-40]),
        lambda file: file.write_bytes(file.read_bytes().replace(b"wf@000001", b"wf@000009")),
        lambda file: file.write_bytes(b'{"format": 2, "folder_ns": 1, "checkpoints": [], "checksum": "00000000"}\n'),
        lambda file: file.write_bytes(b"\xff" * 100),
    ],
    ids=["missing", "empty", "torn", "changed", "foreign", "noise"],
)
def test_it_is_told_when_it_is_amiss_and_written_anew(path: Path, spoil: Callable[[Path], object]) -> None:
    """`verify` notes it and changes nothing; the next change of checkpoints, and `repair`, write it anew."""
    with closing(directory_store(path)) as store:
        make(store, 1, a=b"1")
    whole = (path / register.NAME).read_bytes()
    for mend in ("change", "repair"):
        spoil(path / register.NAME)
        before = (path / register.NAME).read_bytes() if (path / register.NAME).exists() else None
        with closing(directory_store(path, read_only=True)) as store:
            (note,) = store.verify().findings
            assert note.severity == "note" and store.verify().sound
            assert contents(store.checkpoint(WF, name_of(1))) is not None  # which no index has a part in
        assert before == ((path / register.NAME).read_bytes() if (path / register.NAME).exists() else None)
        if mend == "change":
            with closing(directory_store(path)) as store:
                make(store, 2, a=b"2")
                store._document(WF).keep_checkpoints(newest_only=False)
                remove(store, 2)
        else:
            report = repair(str(path), make_config(), dry_run=True)
            assert report.repaired == [] and not is_whole_file(path, whole)
            assert repair(str(path), make_config(), dry_run=False).repaired == []
        assert is_true(path) and ids(path) == [name_of(1)]


def is_whole_file(path: Path, whole: bytes) -> bool:
    return (path / register.NAME).exists() and (path / register.NAME).read_bytes() == whole


@pytest.mark.usefixtures("calm")
def test_whoever_closes_writes_what_others_left_undone(path: Path) -> None:
    """A process died after it had written files; another opens the store and closes it, and does nothing else."""
    for number in (1, 2):
        store = directory_store(path)
        make(store, number, a=b"1")
        store._document(WF).keep_checkpoints(newest_only=False)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(register.Register, "close", lambda self: None)
            die(store)
        assert not (path / register.NAME).exists() if number == 1 else ids(path) == [name_of(1)]
        directory_store(path).close()
        assert is_true(path) and ids(path) == [name_of(each) for each in range(1, number + 1)]


@pytest.mark.usefixtures("calm")
def test_it_costs_a_commit_nothing_and_a_close_without_changes_next_to_nothing(path: Path) -> None:
    """No call for it in a commit; at close one look at the beginning of the index, and no file is read."""
    with closing(directory_store(path)) as store:
        for number in range(20):
            make(store, number, a=b"%d" % number)
    with system_calls() as calls:
        store = directory_store(path)
        put(store, b=b"1")
        assert not [each for each in calls.trace if register.NAME in str(each[1])]
        calls.trace.clear()
        store.close()
        names = [str(name) for called, name, _ in calls.trace if called == "open"]
        assert names.count(register.NAME) == 1 and not any(name.endswith(".checkpoint") for name in names)


@pytest.mark.usefixtures("calm")
def test_only_files_that_are_new_are_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the index knows by inode, size and time is taken from it."""
    with closing(directory_store(path)) as store:
        for number in range(5):
            make(store, number, a=b"%d" % number)
    read: list[str] = []
    real = register._row
    monkeypatch.setattr(
        register,
        "_row",
        lambda context, folder, name, stamp: (read.append(name), real(context, folder, name, stamp))[1],
    )
    with closing(directory_store(path)) as store:
        make(store, 7, a=b"7")
        put(store, b=b"1")
    assert read == ["wf_40000007.checkpoint"] and is_true(path) and len(ids(path)) == 6


@pytest.mark.usefixtures("calm")
@pytest.mark.parametrize("spoil", ["copied", "lost"])
def test_files_that_the_index_does_not_know_are_read_while_others_go_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    """In a copy of a store, where each file has another stamp, as where there is no index: few are read with the folder
    locked, and each is read once.
    """
    with closing(directory_store(path)) as store:
        for number in range(6):
            make(store, number, a=b"%d" % number)
    if spoil == "copied":
        shutil.copytree(path, path.with_name("copied"))
        path = path.with_name("copied")
    else:
        (path / register.NAME).unlink()
    monkeypatch.setattr(register, "_FEW", 2)
    read: dict[bool, list[str]] = {True: [], False: []}
    with closing(directory_store(path)) as store:
        make(store, 7, a=b"7")
        store._document(WF).keep_checkpoints(newest_only=False)
        real, locked = register._row, (path / "checkpoints" / "lock").open("rb")

        def noted(context: Any, folder: Any, name: str, stamp: Any) -> Any:
            try:
                fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(locked, fcntl.LOCK_UN)
                read[False].append(name)
            except BlockingIOError:
                read[True].append(name)
            return real(context, folder, name, stamp)

        monkeypatch.setattr(register, "_row", noted)
        assert register.refresh(store._context)
        locked.close()
    assert (len(read[False]), read[True]) == (7, []) and is_true(path)


def test_upkeep_writes_it_now_and_then(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a store stays open, at most every few seconds, and less often where it takes long."""
    monkeypatch.setattr(register, "_APART_S", 0.05)
    monkeypatch.setattr(register, "_SHARE", 0)
    monkeypatch.setattr(upkeep, "_APART_S", 0.05)
    with closing(directory_store(path)) as store:
        deadline, number = time.monotonic() + 30, 0
        while not ((path / register.NAME).exists() and len(ids(path)) > 1):
            assert time.monotonic() < deadline, "upkeep did not write it"
            number += 1
            make(store, number, a=b"%d" % number)
            time.sleep(0.02)
    assert is_true(path)


@pytest.mark.usefixtures("calm")
def test_it_is_not_written_oftener_than_it_is_worth(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it was written some time has to pass, and fifty times as long as the writing took."""
    with closing(directory_store(path)) as store:
        make(store, 1, a=b"1")
        written: list[int] = []
        monkeypatch.setattr(register, "refresh", lambda context: written.append(1) or True)
        now = [995.0]
        monkeypatch.setattr(register.time, "monotonic", lambda: now[0])
        kept = register.Register(store._context)
        for moment in (995.1, 999.9, 1000.1, 1001.0, 1004.9, 1005.2, 1006.0):
            now[0] = moment
            store._context.checkpoints_changed = True
            kept.look_after()
        assert len(written) == 2
        monkeypatch.setattr(register, "refresh", lambda context: now.__setitem__(0, now[0] + 1) or True)
        now[0] = 2000.0
        kept.look_after()
        assert kept._next_at == 2050.0


@pytest.mark.usefixtures("calm")
def test_closing_tells_of_no_more_files_than_are_soon_told_of(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are very many it is left to upkeep and `repair`, and closing reads and writes none of it."""
    with closing(directory_store(path)) as store:
        make(store, 1, a=b"1")
    monkeypatch.setattr(register, "_MOST_AT_CLOSE_BYTES", 100)
    monkeypatch.setattr(register, "_MOST_AT_CLOSE", 1)
    with system_calls() as calls, closing(directory_store(path)) as store:
        make(store, 2, a=b"2")
        store._document(WF).keep_checkpoints(newest_only=False)
        calls.trace.clear()
        store.close()
        assert [str(name) for called, name, _ in calls.trace].count(register.NAME) <= 1
    assert ids(path) == [name_of(1)]
    monkeypatch.setattr(register, "_MOST_AT_CLOSE_BYTES", 1 << 20)
    directory_store(path).close()
    assert ids(path) == [name_of(1)], "what a short index does not know may be very many"
    (path / register.NAME).unlink()
    directory_store(path).close()
    assert not (path / register.NAME).exists()
    with closing(directory_store(path)) as store:
        kept = register.Register(store._context)
        make(store, 3, a=b"3")
        store._document(WF).keep_checkpoints(newest_only=False)
        monkeypatch.setattr(kept, "_next_at", 0.0)
        kept.look_after()
        assert is_true(path) and ids(path) == [name_of(each) for each in (1, 2, 3)]
        monkeypatch.setattr(register, "_MOST_FILES", 3)
        make(store, 4, a=b"4")
        store._document(WF).keep_checkpoints(newest_only=False)
        kept._next_at = 0.0
        kept.look_after()
        assert len(ids(path)) == 3


@pytest.mark.usefixtures("calm")
def test_closing_does_not_even_list_a_long_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every process is soon gone, nobody writes an index: each would list a hundred thousand files."""
    with closing(directory_store(path)) as store:
        make(store, 1, a=b"1")
    (path / register.NAME).unlink()
    length = (path / "checkpoints").stat().st_size
    listed: list[str] = []
    names = Directory.names
    monkeypatch.setattr(Directory, "names", lambda given: listed.append(given.path) or names(given))
    for most, is_told in (length - 1, False), (length, True):
        monkeypatch.setattr(register, "_MOST_AT_CLOSE_BYTES", most)
        listed.clear()
        directory_store(path).close()
        assert any(each.endswith("checkpoints") for each in listed) == (path / register.NAME).exists() == is_told
    assert ids(path) == [name_of(1)]


@pytest.mark.usefixtures("calm")
def test_c07_who_finds_the_folder_locked_leaves_it_to_others(path: Path) -> None:
    """It waits for nobody, and whoever has the lock writes the index when it closes."""
    with closing(directory_store(path)) as store:
        make(store, 1, a=b"1")
        store._document(WF).keep_checkpoints(newest_only=False)
        with keeping.alone(store._context):
            assert not register.refresh(store._context)
            began = time.monotonic()
            directory_store(path).close()
            assert time.monotonic() - began < 5 and not (path / register.NAME).exists()
    assert is_true(path)


@pytest.mark.usefixtures("calm")
def test_c04_the_folder_is_locked_by_the_file_that_has_the_name(path: Path) -> None:
    """A lock on a file that has lost its name keeps nobody out, so nothing is written under it."""
    with closing(directory_store(path)) as store:
        make(store, 1, a=b"1")
        store._document(WF).keep_checkpoints(newest_only=False)
        real = register.keeping.File.try_lock

        def too_late(file: Any) -> bool:
            (path / "checkpoints" / "lock").unlink()
            (path / "checkpoints" / "lock").touch()
            return real(file)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(register.keeping.File, "try_lock", too_late)
            with keeping.alone_if_free(store._context) as is_alone:
                assert not is_alone
    assert is_true(path)


def test_c07_many_who_write_leave_it_true(path: Path) -> None:
    """Several open stores make, remove and write out checkpoints at once, and close one after the other."""
    stores = [directory_store(path) for _ in range(3)]

    def work(store: TestedStore, at: int) -> None:
        for number in range(12):
            make(store, at * 100 + number, a=b"%d" % number)
            if number % 3 == 2:
                remove(store, at * 100 + number - 1)
            store._document(WF).keep_checkpoints(newest_only=bool(number % 2))
            register.refresh(store._context)
        store.close()

    threads = [threading.Thread(target=work, args=(each, at)) for at, each in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert is_true(path)


@pytest.mark.usefixtures("calm")
def test_e06_that_it_cannot_be_written_is_nobodys_error(path: Path) -> None:
    """The disk is full as it is written: closing goes well, what was there stays, and the next close writes it."""
    with closing(directory_store(path)) as store:
        make(store, 1, a=b"1")
    before = (path / register.NAME).read_bytes()
    store = directory_store(path)
    make(store, 2, a=b"2")
    store._document(WF).keep_checkpoints(newest_only=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(register, "new_file", _refused)
        store.close()
    assert (path / register.NAME).read_bytes() == before and not list((path / "temp").iterdir())
    directory_store(path).close()
    assert is_true(path)
    with system_calls() as calls:
        store = directory_store(path)
        make(store, 3, a=b"3")
        calls.fault = failing("rename", 2, onwards=True)
        store.close()
    directory_store(path).close()
    assert is_true(path)


def _refused(_: object) -> None:
    raise StoreUnavailable("No space left on device", errno="ENOSPC")


@pytest.mark.usefixtures("calm")
def test_hostile_files_and_rows_harm_nothing(path: Path) -> None:
    """A damaged file has a row that says so; one whose checkpoint says odd things is told as far as it can be."""
    with closing(directory_store(path)) as store:
        make(store, 1, a=b"1")
        make(store, 2, a=b"2")
    file = path / "checkpoints" / "wf_40000002.checkpoint"
    file.write_bytes(file.read_bytes()[:-3])
    with closing(directory_store(path)) as store:
        make(store, 3, a=b"3")
    rows = {row["file"]: row for row in index_of(path)["checkpoints"]}
    assert "damaged" in rows[file.name]["problem"] and rows["wf_40000001.checkpoint"]["id"] == name_of(1)
    assert "type" not in rows["wf_40000001.checkpoint"]  # what these checkpoints say of themselves is no record
    for data in (
        b"",
        b"{}",
        b"[" * 50_000,
        b'{"checkpoints": 1}',
        b'{"format": 1, "folder_ns": 1, "checkpoints": [1]}',
        b'{"format": 1, "folder_ns": 1, "checkpoints": [\n1\n]}',
        b'{"format": 1, "folder_ns": 1, "checkpoints": [\n{"file": "a", "stamp": [1, 2, 3]} x\n]}',
        b'{"format": 1, "folder_ns": 1, "checkpoints": [\n{"file": "a", "stamp": [1, 2, 3], "b": nul}\n]}',
        b'{"format": 1, "folder_ns": 1, "checkpoints": [\n{"file": "a", "stamp": [1, 2, 3], "b": %s}\n]}'
        % (b"[" * 50_000),
    ):
        text = data.rstrip(b"}")
        assert register.parse(data) is None
        assert register.parse(text + b', "checksum": "%08x"}\n' % register.crc32(text)) is None


@pytest.mark.usefixtures("calm")
def test_a_name_that_is_not_utf_8_is_not_told_of(path: Path) -> None:
    """What another system left there is no checkpoint of ours; the index stays whole, and tells of the others."""
    with closing(directory_store(path)) as store:
        make(store, 1, a=b"1")
    (path / "checkpoints" / os.fsdecode(b"\xe9t\xe9.checkpoint")).write_bytes(b"foreign")
    with closing(directory_store(path)) as store:
        make(store, 2, a=b"2")
    assert ids(path) == [name_of(1), name_of(2)]
    with closing(directory_store(path, read_only=True)) as store:
        assert register.recall(store._context.layout) is not None
        assert register.finding(store._context.layout) is None


def test_a_copy_and_a_backup_need_none(path: Path, tmp_path: Path) -> None:
    """A backup has no index, is whole, and gets one where it is used."""
    with closing(directory_store(path)) as store:
        make(store, 1, a=b"1")
        store.backup(str(tmp_path / "saved"))
    assert not (tmp_path / "saved" / register.NAME).exists()
    directory_store(tmp_path / "saved").close()
    assert is_true(tmp_path / "saved")
    shutil.copytree(path, tmp_path / "copied")
    with closing(directory_store(tmp_path / "copied")) as store:
        make(store, 2, a=b"2")
    assert is_true(tmp_path / "copied") and Report("").sound


def test_a_store_without_checkpoints_has_no_index(path: Path) -> None:
    """Nothing is made for it."""
    with closing(directory_store(path)) as store:
        put(store, a=b"1")
    assert not (path / register.NAME).exists() and not (path / "checkpoints").exists()
    with closing(directory_store(path, read_only=True)) as store:
        assert store.verify().findings == []
