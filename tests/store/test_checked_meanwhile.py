"""Verifying checkpoints while their documents change: what is seen of a log and of files is never of one moment."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.store.needed import calm, path
from tests.store.support import WF, TestedStore, directory_store
from tests.store.test_checkpoints import commit, make, remove
from tests.store.test_checkpoints_found import closed_with, file_of
from tests.store.test_fates import filled
from waypost.errors import StoreUnavailable
from waypost.store.directory import check, checkpoints, files
from waypost.store.directory import log as logs
from waypost.store.kinds import DocumentId
from waypost.store.reports import Finding

__all__ = ["calm", "path"]

pytestmark = pytest.mark.usefixtures("calm")


def damage(store: TestedStore) -> list[str]:
    return [each.text for each in store.verify().findings if each.severity not in ("note", "leftover")]


def test_a_restore_that_is_carried_out_is_no_damage_to_who_reads(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Logs have been exchanged then, and checkpoints have not."""
    closed_with(path, 3)
    with closing(directory_store(tmp_path / "else")) as empty:
        commit(empty, lambda tx: tx.put("a", b"1"), DocumentId("workflow", "else"))
        empty.backup(str(tmp_path / "backup"))
    store, reader = directory_store(path), directory_store(path, read_only=True)
    real = files.Directory.remove_directory
    said: list[list[str]] = []

    def remove_directory(folder: Any, name: str) -> None:
        real(folder, name)
        if name == "workflows":
            said.append(damage(reader))

    with monkeypatch.context() as patch:
        patch.setattr(files.Directory, "remove_directory", remove_directory)
        store.restore_backup(str(tmp_path / "backup"), allow_older=True)
    assert said == [[]] and damage(reader) == []
    reader.close()
    store.close()


def verified_after(store: TestedStore, monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]) -> list[Finding]:
    """What verify finds where something is changed between its looks at logs and at files of checkpoints."""
    real = check._check_checkpoints

    def look(*given: Any) -> None:
        change()
        real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(check, "_check_checkpoints", look)
        return [each for each in store.verify().findings if each.severity != "note"]


def test_a_checkpoint_that_is_removed_meanwhile_is_not_missed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed_with(path, 3)
    with closing(directory_store(path)) as store:
        filled(store, monkeypatch)

        def change() -> None:
            remove(store, 0)
            store._document(WF).keep_checkpoints(newest_only=False)
            assert not file_of(path, 0).exists()

        assert verified_after(store, monkeypatch, change) == []


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_checkpoint_that_is_made_meanwhile_is_checked(
    path: Path, monkeypatch: pytest.MonkeyPatch, is_whole: bool
) -> None:
    closed_with(path, 2)
    with closing(directory_store(path)) as store:

        def change() -> None:
            make(store, 5, a=b"5")
            store._document(WF).keep_checkpoints(newest_only=False)
            if not is_whole:
                data = bytearray(file_of(path, 5).read_bytes())
                data[-20] ^= 1
                file_of(path, 5).write_bytes(data)

        found = [each.severity for each in verified_after(store, monkeypatch, change)]
    assert found == ([] if is_whole else ["damage"])


def test_a_file_that_may_not_be_read_is_not_missed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed_with(path, 3)
    with closing(directory_store(path)) as store:
        filled(store, monkeypatch)
    real, closed = checkpoints.read_file, file_of(path, 2).name

    def read_file(context: Any, folder: Any, file: str) -> Any:
        if file == closed:
            raise StoreUnavailable(f"{file}: Permission denied", file=file, errno="EACCES")
        return real(context, folder, file)

    monkeypatch.setattr(checkpoints, "read_file", read_file)
    with closing(directory_store(path, read_only=True)) as store:
        found = [(each.severity, each.file) for each in store.verify().findings if each.severity != "note"]
    assert found == [("unreadable", str(file_of(path, 2)))]


def written_meanwhile(path: Path, monkeypatch: pytest.MonkeyPatch, cut: int, lost: bool) -> list[Finding]:
    """What verify finds where somebody who writes to a log has the lock, and has `cut` the last but one of its frames;
    it is written to its end before the lock is given back, unless that writer is `lost`.
    """
    with closing(directory_store(path)) as store:
        for number in range(3):
            commit(store, lambda tx, number=number: tx.put("a", bytes(range(200)) * (number + 1)), WF)
        log = store._document(WF)._log
        assert log is not None
        file = Path(log.file.name)
        frames = list(log.hop(0, 0, log.end))
        place = frames[-2].offset + cut
        whole = file.read_bytes()
    with file.open("r+b") as writing:
        writing.truncate(place)
        fcntl.flock(writing, fcntl.LOCK_EX)
        real = files.File.lock

        def lock(given: Any, *arguments: Any, **options: Any) -> None:
            if given.name == str(file):
                if not lost:
                    writing.seek(place)
                    writing.write(whole[place:])
                    writing.flush()
                fcntl.flock(writing, fcntl.LOCK_UN)
            real(given, *arguments, **options)

        monkeypatch.setattr(files.File, "lock", lock)
        with closing(directory_store(path, read_only=True)) as reader:
            return [each for each in reader.verify().findings if each.severity != "note"]


@pytest.mark.parametrize("cut", [1, 40, 100, 150])
def test_c06_what_is_being_written_is_no_torn_tail(path: Path, monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    """A log of a live store is read on under the lock, where it does not end with a whole frame."""
    assert written_meanwhile(path, monkeypatch, cut, lost=False) == []


def test_c06_what_is_written_behind_the_lock_is_none_either(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands behind the last frame is judged while no write is under way."""
    real = files.File.unlock

    def unlock(given: Any) -> None:
        real(given)
        if tidied:
            with open(given.name, "ab") as writing:
                writing.write(b"the beginning of another frame")

    tidied: list[str] = []
    monkeypatch.setattr(check, "_check_fixed_files", lambda *_: tidied.append("all that was to be written is"))
    monkeypatch.setattr(files.File, "unlock", unlock)
    assert written_meanwhile(path, monkeypatch, 100, lost=False) == []


def test_c06_what_nobody_writes_to_its_end_is_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [each.severity for each in written_meanwhile(path, monkeypatch, 100, lost=True)] == ["torn tail"]


def test_c06_a_writer_that_stopped_in_a_write_is_not_waited_for_without_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is seen is told then."""
    with closing(directory_store(path)) as store:
        commit(store, lambda tx: tx.put("a", b"1" * 400), WF)
        commit(store, lambda tx: tx.put("a", b"2" * 400), WF)
    file = next((path / "workflows").glob("*.state"))
    monkeypatch.setattr(logs, "LOCK_TIMEOUT_S", 0.05)
    with file.open("r+b") as writing:
        writing.truncate(file.stat().st_size - 100)
        fcntl.flock(writing, fcntl.LOCK_EX)
        with closing(directory_store(path, read_only=True)) as reader:
            assert [each.severity for each in reader.verify().findings if each.severity != "note"] == ["torn tail"]
