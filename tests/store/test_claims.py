"""Claims in a directory: who holds a document, for as long as he lives, and what others see of it.

What they promise in every store stands in `waypost.testing.claims`.
"""

from __future__ import annotations

import logging
import os
import random
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.faults import in_child
from tests.store.support import TestedStore, change, directory_store, failing, system_calls
from waypost.cli import examination
from waypost.errors import LockTimeout, StoreReadOnly, StoreUnavailable
from waypost.store import DocumentId, Store
from waypost.store.claims import Beat
from waypost.store.directory import claims
from waypost.store.directory.layout import file_name

SESSION = DocumentId("session", "mine")
OTHER = DocumentId("session", "Another's Ünicode")
NAME = file_name(SESSION)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def directory(path: Path) -> Iterator[TestedStore]:
    store = directory_store(path)
    yield store
    store.close()


def make(store: Store, document: DocumentId = SESSION) -> None:
    """What is claimed is there."""
    store.submit(change(document, lambda tx: tx.put("session", b"\xc0"))).result()


def files(path: Path) -> list[str]:
    folder = path / "owners"
    return sorted(os.listdir(folder)) if folder.exists() else []


def hold_in_another_process(path: Path) -> subprocess.Popen[str]:
    """A process that holds `SESSION` until it dies."""
    script = (
        "import sys\nfrom tests.store.support import directory_store\nfrom tests.store.test_claims import SESSION\n"
        "claim = directory_store(sys.argv[1]).claim(SESSION)\nprint(claim is not None, flush=True)\ninput()\n"
    )
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None and process.stdout.readline() == "True\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_s07_a_claim_is_one_s_alone(directory: TestedStore) -> None:
    """While a claim is held nobody else gets one of that document, as the kit says of every store."""
    assert directory.holder(SESSION) is None
    first = directory.claim(SESSION)
    assert first is not None
    assert directory.claim(SESSION) is None
    sight = directory.holder(SESSION)
    assert sight is not None and sight.is_held
    other = directory.claim(OTHER)
    assert other is not None and set(directory.claimed("session")) == {SESSION.id, OTHER.id}
    assert list(directory.claimed("workflow")) == []


def test_e04_owners_are_their_owner_s_alone(path: Path, directory: TestedStore) -> None:
    """The folder and the files in it may be looked at by no other user, whatever the umask."""
    before = os.umask(0)
    try:
        assert directory.claim(SESSION) is not None
    finally:
        os.umask(before)
    assert stat.S_IMODE((path / "owners").stat().st_mode) == 0o700
    assert stat.S_IMODE((path / "owners" / NAME).stat().st_mode) == 0o600
    assert [each for each in directory.verify().findings if each.severity != "note"] == []


def test_closing_lets_go_of_everything(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever closes a store holds nothing in it any more, no file tells of it, and its signs of life end."""
    beat, ended = claims.Claims._beat, threading.Event()

    def to_its_end(self: claims.Claims, done: threading.Event) -> None:
        beat(self, done)
        ended.set()

    monkeypatch.setattr(claims.Claims, "_beat", to_its_end)
    store = directory_store(path)
    assert store.claim(SESSION) is not None and store.claim(OTHER) is not None
    assert len(files(path)) == 2 and not ended.is_set()
    store.close()
    assert files(path) == [] and ended.wait(60)


def test_s02_a_holder_that_died_holds_nothing(path: Path, directory: TestedStore) -> None:
    """The kernel frees what a killed process held; its file tells that it did not let go, until somebody claims it."""
    make(directory)
    process = hold_in_another_process(path)
    sight = directory.holder(SESSION)
    assert sight is not None and sight.is_held and sight.beat is not None and sight.beat.number == 1
    assert directory.claim(SESSION) is None
    end(process)
    sight = directory.holder(SESSION)
    assert sight is not None and not sight.is_held
    claim = directory.claim(SESSION)
    assert claim is not None
    claim.release()
    assert files(path) == []


def test_s02_by_force_from_a_process_that_lives(path: Path, directory: TestedStore) -> None:
    """What another process holds is taken from it, and its end changes nothing."""
    process = hold_in_another_process(path)
    assert directory.claim(SESSION) is None
    assert directory.claim(SESSION, by_force=True) is not None
    end(process)
    sight = directory.holder(SESSION)
    assert sight is not None and sight.is_held


def test_s02_by_force_from_one_who_comes_in_between(
    path: Path, directory: TestedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another claims the document just when its file was removed to take it by force: it is taken from him, too."""
    remove, other = claims.Directory.remove, directory_store(path)

    def and_another_claims(folder: Any, name: str) -> bool:
        monkeypatch.undo()
        removed = remove(folder, name)
        assert other.claim(SESSION) is not None
        return removed

    monkeypatch.setattr(claims.Directory, "remove", and_another_claims)
    assert directory.claim(SESSION, by_force=True) is not None
    other.close()
    assert directory.claim(SESSION) is None
    sight = directory.holder(SESSION)
    assert sight is not None and sight.is_held


def test_c01_the_child_of_a_fork_holds_nothing(path: Path, directory: TestedStore) -> None:
    """A child neither holds, nor lets go of, nor keeps what its parent holds; it may claim what is free."""
    claim = directory.claim(SESSION)
    assert claim is not None

    def child(tell: Callable[[str], None]) -> None:
        sight = directory.holder(SESSION)
        tell(f"held {sight is not None and sight.is_held}")
        claim.release()
        tell(f"got {directory.claim(SESSION) is not None} {directory.claim(OTHER) is not None}")
        directory.close()

    assert in_child(child).told == ["held True", "got False True"]
    assert files(path) == [NAME]
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:  # it lives on while the parent lets go
        os.read(reading, 1)
        os._exit(0)
    claim.release()
    assert directory.holder(SESSION) is None and directory.claim(SESSION) is not None
    os.write(writing, b".")
    os.waitpid(pid, 0)
    os.close(reading)
    os.close(writing)


def test_d14_leftovers_of_who_died_before_he_made_it_are_swept(path: Path) -> None:
    """The next who opens the store removes files of what was never made; those of what is there stay."""
    store = directory_store(path)
    make(store, OTHER)
    store.close()
    (path / "owners").mkdir(exist_ok=True)
    for name in (NAME, file_name(OTHER), "no name of ours"):
        (path / "owners" / name).write_bytes(b"")
    directory_store(path).close()
    assert files(path) == sorted([file_name(OTHER), "no name of ours"])


def test_c09_what_somebody_is_about_to_make_is_not_swept(path: Path, directory: TestedStore) -> None:
    """A claim that is held stays, though its document is not there yet."""
    process = hold_in_another_process(path)
    directory_store(path).close()
    assert files(path) == [NAME] and directory.claim(SESSION) is None
    end(process)
    directory_store(path).close()
    assert files(path) == []


def test_c07_what_was_made_while_it_was_about_to_be_swept_stays(
    path: Path, directory: TestedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes what he claimed, and dies, while another sweeps: his file still tells that he did not let go."""
    end(hold_in_another_process(path))
    try_lock = claims.File.try_lock

    def made_first(file: Any, *, shared: bool = False) -> bool:
        if not directory.view(SESSION).version and "/owners/" in file.name:
            make(directory)
        return try_lock(file, shared=shared)

    with monkeypatch.context() as patch:
        patch.setattr(claims.File, "try_lock", made_first)
        directory._claims.sweep()
    assert files(path) == [NAME]


def test_s02_whoever_sweeps_is_not_taken_for_a_holder(
    path: Path, directory: TestedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock of what is there is not tried by who opens the store: others would see a dead owner alive meanwhile."""
    make(directory)
    end(hold_in_another_process(path))
    with monkeypatch.context() as patch:
        patch.setattr(claims.File, "try_lock", lambda *_, **__: pytest.fail("it was tried"))
        directory._claims.sweep()
    assert files(path) == [NAME]


def test_s07_whoever_lets_go_takes_nobody_s_claim_away(
    path: Path, directory: TestedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is stopped while he lets go holds up whoever takes the document by force, and removes no file but his own."""
    first, second = directory_store(path), directory_store(path)
    claim, is_named = first.claim(SESSION), claims._is_named
    assert claim is not None

    def stopped_behind(folder: Any, name: str, file: Any) -> bool:
        found = is_named(folder, name, file)
        if name == NAME:
            monkeypatch.setattr(claims, "_is_named", is_named)
            monkeypatch.setattr(claims, "LOCK_TIMEOUT_S", 0.0)
            with pytest.raises(LockTimeout, match=f"process {os.getpid()}"):
                second.claim(SESSION, by_force=True)
        return found

    monkeypatch.setattr(claims, "_is_named", stopped_behind)
    claim.release()
    assert claims._is_named is is_named and files(path) == []
    assert second.claim(SESSION, by_force=True) is not None
    assert directory.claim(SESSION) is None and files(path) == [NAME]
    first.close()
    second.close()


def test_a_lock_that_somebody_has_is_one_that_excludes(directory: TestedStore) -> None:
    """`doctor` does not take the file that is locked while others let go of something for locks that do not work."""
    for _ in range(2):
        assert [each.verdict for each in examination._locks(directory.layout)] == ["good"]
    with directory._claims.alone():
        assert [each.verdict for each in examination._locks(directory.layout)] == ["good"]


@pytest.mark.parametrize("is_there", [False, True])
def test_c04_a_claim_of_a_file_that_was_swept_is_made_anew(
    path: Path, directory: TestedStore, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    """Between opening and locking its file somebody removes it, and a third claims: the claim is of a file that others
    find, or none.
    """
    locked, turns = claims._locked, iter([True, False, False])

    def gone_first(file: Any) -> bool:
        if next(turns):
            (path / "owners" / NAME).unlink()
            if is_there:
                (path / "owners" / NAME).write_bytes(b"")
        return locked(file)

    monkeypatch.setattr(claims, "_locked", gone_first)
    claim = directory.claim(SESSION)
    assert claim is not None and files(path) == [NAME]
    other = directory_store(path)
    assert other.claim(SESSION) is None
    other.close()


def test_whoever_looks_is_not_in_the_way(directory: TestedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """One who looks has the lock for a moment; who claims waits for that, and not for one who holds it."""
    claim = directory.claim(SESSION)
    assert claim is not None
    held = directory.layout.folder("owners").open(NAME)
    assert held is not None
    claim.release()
    (again := directory.layout.folder("owners").open(NAME, write=True, create=True))
    assert again is not None and again.try_lock(shared=True)
    monkeypatch.setattr(time, "sleep", lambda _: again.close())
    assert directory.claim(SESSION) is not None


def _as_bytes(place: Path) -> None:
    place.write_bytes(random.Random(3).randbytes(700))


def _as_fifo(place: Path) -> None:
    os.mkfifo(place)


def _as_link(place: Path) -> None:
    (place.parent.parent / "elsewhere").write_bytes(b"theirs")
    place.symlink_to("../elsewhere")


def _as_directory(place: Path) -> None:
    place.mkdir()


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("spoil", [_as_fifo, _as_link, _as_directory, _as_bytes])
def test_n04_a_spoiled_file_of_an_owner_hangs_nobody(
    path: Path, spoil: Callable[[Path], None], is_there: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The store opens and works, whatever stands in place of an owner's file; it is refused with one error, nothing
    is reached through it, and of random bytes nothing is believed.
    """
    caplog.set_level(logging.CRITICAL, "waypost")
    store = directory_store(path)
    if is_there:
        make(store)
    store.close()
    (path / "owners").mkdir(exist_ok=True)
    spoil(path / "owners" / NAME)
    store = directory_store(path)
    make(store, OTHER)
    if spoil is _as_bytes:
        sight = store.holder(SESSION)
        assert (sight is None) == (not is_there) and (sight is None or sight == (False, None, None))
        assert store.claim(SESSION) is not None
    else:
        for refused in (lambda: store.holder(SESSION), lambda: store.claim(SESSION)):
            with pytest.raises(StoreUnavailable):
                refused()
    store.close()
    if spoil is _as_link:
        assert (path / "elsewhere").read_bytes() == b"theirs"


def test_d15_who_only_reads_sees_holders_and_changes_nothing(path: Path, directory: TestedStore) -> None:
    """A store that is open for reading shows who holds what; it claims nothing, sweeps nothing, and makes no folder."""
    reader = directory_store(path, read_only=True)
    assert reader.holder(SESSION) is None and list(reader.claimed("session")) == [] and files(path) == []
    assert not (path / "owners").exists()
    claim = directory.claim(SESSION)
    assert claim is not None
    before = (path / "owners" / NAME).stat()
    sight = reader.holder(SESSION)
    assert sight is not None and sight.is_held and list(reader.claimed("session")) == [SESSION.id]
    with pytest.raises(StoreReadOnly):
        reader.claim(OTHER)
    with pytest.raises(StoreReadOnly):
        reader.claim(SESSION, by_force=True)
    reader.close()
    after = (path / "owners" / NAME).stat()
    assert (before.st_mtime_ns, before.st_ctime_ns, before.st_size) == (after.st_mtime_ns, after.st_ctime_ns, 512)


# --- signs of life --------------------------------------------------------------------------------


def test_s03_signs_of_life_grow_without_a_sync(path: Path) -> None:
    """A holder leaves one at each period, with a number that grows, and no sync is made for it."""
    with system_calls() as calls:
        store = directory_store(path, sync_frequency=1)
        before = [calls.count(name) for name in ("fsync", "fdatasync")]
        assert store.claim(SESSION) is not None
        folder = calls.count("fsync") - before[0]
        seen: list[Beat] = []
        while len(seen) < 5:
            sight = store.holder(SESSION)
            assert sight is not None and sight.beat is not None
            if not seen or sight.beat.number != seen[-1].number:
                seen.append(sight.beat)
        assert [calls.count("fsync") - folder, calls.count("fdatasync")] == before
        store.close()
    numbers = [each.number for each in seen]
    assert numbers == sorted(numbers) and {each.period_ms for each in seen} == {1}
    assert [each.steady_ns for each in seen] == sorted(each.steady_ns for each in seen)


def test_s03_a_sign_of_life_that_cannot_be_left_harms_nobody(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On a full disk the holder goes on holding, says so, and its signs come again with the room."""
    store = directory_store(path, sync_frequency=1)
    assert store.claim(SESSION) is not None
    with system_calls() as calls:
        calls.fault = failing("pwrite", 1, onwards=True)
        while not caplog.records:
            time.sleep(0.001)
        assert "no sign of life could be left" in caplog.text
    sight = store.holder(SESSION)
    assert sight is not None and sight.is_held and sight.beat is not None
    number = sight.beat.number
    while sight.beat is None or sight.beat.number <= number:
        sight = store.holder(SESSION)
        assert sight is not None
    store.close()
    assert files(path) == []


def test_t19_a_claim_is_one_without_a_thread_for_its_signs_of_life(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no thread can be had the lock is held all the same, which is told, and the next claim tries again."""
    store = directory_store(path, sync_frequency=1)
    with monkeypatch.context() as patch:
        patch.setattr(claims, "_thread", NoThreads)
        assert store.claim(SESSION) is not None
    assert "no sign of life can be left: can't start new thread" in caplog.text
    sight = store.holder(SESSION)
    assert sight is not None and sight.is_held and sight.beat is not None and sight.beat.number == 1
    assert store.claim(OTHER) is not None
    while sight.beat is None or sight.beat.number == 1:
        sight = store.holder(SESSION)
        assert sight is not None
    store.close()


class NoThreads:
    @staticmethod
    def start_new_thread(*_: Any) -> int:
        raise RuntimeError("can't start new thread")


def test_c11_a_claim_is_not_let_go_of_under_a_sign_of_life(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a sign is being written its file is not closed: its number might be another file's by then."""
    write_all, begun, go_on = claims.File.write_all, threading.Event(), threading.Event()
    store = directory_store(path, sync_frequency=1)
    claim = store.claim(SESSION)
    assert claim is not None

    def slowly(file: Any, data: bytes, offset: int) -> None:
        if not begun.is_set():
            begun.set()
            assert go_on.wait(60)
        write_all(file, data, offset)

    monkeypatch.setattr(claims.File, "write_all", slowly)
    assert begun.wait(60)
    releasing = threading.Thread(target=claim.release)
    releasing.start()
    releasing.join(0.1)
    assert releasing.is_alive() and files(path) == [NAME]
    go_on.set()
    releasing.join(60)
    assert not releasing.is_alive() and files(path) == []
    store.close()
