"""Backups: what is in one, what is refused as one, and that restoring is all or nothing."""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.conftest import make_config
from tests.store.support import WF, SystemCalls, TestedStore, change, directory_store, putting, system_calls
from tests.totals import ring_size
from waypost.api import open_async
from waypost.errors import (
    DocumentDamaged,
    InvalidInput,
    LockTimeout,
    Refused,
    StoreReadOnly,
    StoreUnavailable,
    WaypostError,
)
from waypost.store import DocumentId
from waypost.store.directory.upkeep import Upkeep

OTHER = DocumentId("workflow", "Other/ÄÖ")
LONG = DocumentId("workflow", "long " * 60)
SESSION = DocumentId("session", "s")
ALL = (WF, OTHER, LONG, SESSION)


def put(store: TestedStore, document: DocumentId, value: bytes) -> int:
    return store.submit(change(document, lambda tx: tx.put("a", value))).result().version


def filled(path: Path) -> TestedStore:
    store = directory_store(path, chunk_size=4096)
    for document in ALL:
        put(store, document, b"1")
    store.submit(putting(large=os.urandom(20_000))).result()
    return store


def state(path: Path) -> dict[DocumentId, tuple[int, dict[str, bytes | None]]]:
    """All documents of a store as a reader sees them."""
    store = directory_store(path, read_only=True)
    try:
        found = {}
        for document in ALL:
            view = store.view(document)
            found[document] = view.version, {key: view.get(key) for key in view.keys()}
        return found
    finally:
        store.close()


def every_file(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "directory"
        for path in sorted(root.rglob("*"))
    }


# --- making one ---


def test_e05_a_backup_of_an_open_store_is_a_store(tmp_path: Path) -> None:
    """It holds every document at its newest commit, is closed and sound, and says in its manifest what is in it."""
    store = filled(tmp_path / "store")
    backup = store.backup(str(tmp_path / "new" / "backup"))
    assert state(tmp_path / "new" / "backup") == state(tmp_path / "store")
    copy = directory_store(tmp_path / "new" / "backup", read_only=True)
    assert copy.verify().findings == []
    written = json.loads((tmp_path / "new" / "backup" / "backup.json").read_text())
    assert written["documents"] == [
        {name: getattr(each, name) for name in each.__dataclass_fields__} for each in backup.documents
    ]
    assert {DocumentId(each.kind, each.id): each.version for each in backup.documents} == {
        WF: 2, OTHER: 1, LONG: 1, SESSION: 1
    }  # fmt: skip
    for each in backup.documents:
        file = tmp_path / "new" / "backup" / f"{each.kind}s" / each.file
        assert each.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert put(store, WF, b"2") == 3
    store.close()


def test_e05_a_backup_has_a_file_of_each_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of one that was made a moment ago, and of those that upkeep has put off: in the backup nobody else would
    write them out before the workflow is written to again.
    """
    monkeypatch.setattr(Upkeep, "ask", lambda self, document: None)  # it is late
    with waypost.open(tmp_path / "store") as wp:
        wp.create_workflow("w", "W", steps=["a"]).unwrap()
        for number in range(3):
            wp.create_checkpoint("w", f"number {number}").unwrap()
        wp.definitions.store.backup(str(tmp_path / "backup"))
    (tmp_path / "backup" / "workflows" / "w.state").unlink()
    with waypost.open(tmp_path / "backup") as copy:
        found = [checkpoint.description for checkpoint in copy.list_checkpoints("w").items]
    assert [text for text in found if text.startswith("number")] == ["number 2", "number 1", "number 0"]


def test_e06_a_backup_does_not_share_the_lease(tmp_path: Path) -> None:
    """A copy is another store: it holds no lease, and can be written to beside its origin."""
    store = filled(tmp_path / "store")
    store.backup(str(tmp_path / "backup"))
    assert (tmp_path / "store" / "lease").exists() and not (tmp_path / "backup" / "lease").exists()
    other = directory_store(tmp_path / "backup")
    assert (put(other, WF, b"theirs"), put(store, WF, b"ours"), put(store, WF, b"again")) == (3, 3, 4)
    other.close()
    store.close()


def test_d15_backing_up_changes_nothing_in_the_store(tmp_path: Path) -> None:
    """A store that is open for reading only can be backed up, and stays as it is to the byte."""
    filled(tmp_path / "store").close()
    before = every_file(tmp_path / "store")
    directory_store(tmp_path / "store", read_only=True).backup(str(tmp_path / "backup"))
    assert every_file(tmp_path / "store") == before


def test_d02_a_backup_is_synced_before_it_has_its_name(tmp_path: Path) -> None:
    """Its files, its directories, then its name, then the directory that holds the name."""
    store = filled(tmp_path / "store")
    with system_calls() as calls:
        store.backup(str(tmp_path / "backup"))
    names = [name for name, _, _ in calls.trace if name in ("pwrite", "fsync", "rename")]
    assert names.count("rename") == 1 and names[-2:] == ["rename", "fsync"]
    last_write = len(names) - names[::-1].index("pwrite")
    assert names[last_write : last_write + 2] == ["fsync", "fsync"]
    assert names.count("fsync") >= len(ALL) + 3 + 3
    store.close()


def test_a_backup_is_never_written_over_anything(tmp_path: Path) -> None:
    """A target that is there, whatever it is, and one inside the store are refused; nothing is changed."""
    store = filled(tmp_path / "store")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("precious")
    (tmp_path / "nowhere").symlink_to(tmp_path / "nothing")
    before = every_file(tmp_path)
    for target in ("empty", "file", "nowhere", "store", "store/backups/inner"):
        with pytest.raises(InvalidInput):
            store.backup(str(tmp_path / target))
    assert every_file(tmp_path) == before
    store.close()


def test_a_damaged_store_is_not_backed_up_as_if_it_were_whole(tmp_path: Path) -> None:
    """Damage in the store ends a backup with an error that names the repair, also damage that no reader has met."""
    filled(tmp_path / "store").close()
    file = tmp_path / "store" / "workflows" / "wf.state"
    data = bytearray(file.read_bytes())
    data[-3_000] ^= 1  # in a block of the large part
    file.write_bytes(data)
    store = directory_store(tmp_path / "store", read_only=True)
    assert store.view(WF).version == 2
    with pytest.raises(DocumentDamaged, match="waypost store repair"):
        store.backup(str(tmp_path / "backup"))
    assert [each.name for each in tmp_path.iterdir()] == ["store"]


def test_e01_a_backup_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """When the disk is full, or anything else refuses, there is an error and no backup, whole or half."""
    store = filled(tmp_path / "store")
    for at in range(1, 40, 2):
        with system_calls() as calls:
            calls.fault = _failing_once(at)
            try:
                store.backup(str(tmp_path / "backup"))
            except WaypostError:
                assert sorted(each.name for each in tmp_path.iterdir()) == ["store"], at
            else:
                shutil.rmtree(tmp_path / "backup", ignore_errors=True)
    store.close()


def _failing_once(at: int) -> Callable[[str, int, tuple[Any, ...]], None]:
    seen = 0

    def fault(name: str, _count: int, _args: tuple[Any, ...]) -> None:
        nonlocal seen
        if name in ("pwrite", "fsync", "mkdir", "rename", "fdatasync"):
            seen += 1
            if seen == at:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return fault


# --- restoring one ---


def test_restoring_takes_the_place_of_all_and_keeps_what_was_there(tmp_path: Path) -> None:
    """Every document is as in the backup, one that came since is gone, and the state before is kept."""
    store = filled(tmp_path / "store")
    store.backup(str(tmp_path / "backup"))
    saved = state(tmp_path / "backup")
    put(store, WF, b"2")
    put(store, DocumentId("workflow", "new"), b"1")
    with pytest.raises(Refused, match="something that is not in it"):
        store.restore_backup(str(tmp_path / "backup"))
    assert store.view(WF).version == 3
    restored = store.restore_backup(str(tmp_path / "backup"), allow_older=True)
    assert restored.taken_back == ("new", "wf") and restored.documents == 4
    assert state(tmp_path / "store") == saved
    assert (store.view(WF).version, list(store.view(DocumentId("workflow", "new")).keys())) == (2, [])
    kept = tmp_path / "store" / restored.replaced / "workflows"
    assert sorted(each.name for each in kept.iterdir())[0].startswith("_4fther") and (kept / "new.state").exists()
    assert put(store, WF, b"other") == 3
    store.close()
    clean = directory_store(tmp_path / "store", read_only=True)
    assert clean.verify().findings == []
    assert store_names(tmp_path / "store") == {
        *("FORMAT", ".gitignore", "workflows", "sessions", "temp", "transactions", "backups")
    }


def store_names(path: Path) -> set[str]:
    return {each.name for each in path.iterdir()}


def test_restoring_makes_a_store_where_there_is_none(tmp_path: Path) -> None:
    """A backup can be restored to a new place; nothing is taken back there."""
    filled(tmp_path / "store").backup(str(tmp_path / "backup"))
    other = directory_store(tmp_path / "other")
    assert other.restore_backup(str(tmp_path / "backup")).taken_back == ()
    other.close()
    assert state(tmp_path / "other") == state(tmp_path / "backup")


def test_a_restore_forward_needs_no_leave(tmp_path: Path) -> None:
    """Where the store holds nothing newer than the backup, restoring loses nothing and is not asked about."""
    store = filled(tmp_path / "store")
    store.backup(str(tmp_path / "early"))
    put(store, WF, b"2")
    store.backup(str(tmp_path / "late"))
    store.restore_backup(str(tmp_path / "early"), allow_older=True)
    assert store.restore_backup(str(tmp_path / "late")).taken_back == ()
    assert store.view(WF).get("a") == b"2"
    store.close()


def test_restoring_over_a_damaged_log_is_what_it_is_for(tmp_path: Path) -> None:
    """A document that cannot be read is no reason against restoring it."""
    store = filled(tmp_path / "store")
    store.backup(str(tmp_path / "backup"))
    store.close()
    (tmp_path / "store" / "workflows" / "wf.state").write_bytes(b"gone")
    store = directory_store(tmp_path / "store")
    assert store.restore_backup(str(tmp_path / "backup")).taken_back == ()
    assert store.view(WF).version == 2
    store.close()


def test_c03_no_restore_while_another_process_writes(tmp_path: Path) -> None:
    """While the store is open for writing elsewhere a restore is refused, and whoever has it open goes on."""
    store, other = filled(tmp_path / "store"), directory_store(tmp_path / "store")
    store.backup(str(tmp_path / "backup"))
    with pytest.raises(LockTimeout, match="open for writing elsewhere"):
        store.restore_backup(str(tmp_path / "backup"))
    assert (put(store, WF, b"2"), put(other, WF, b"3")) == (3, 4)
    other.close()
    store.restore_backup(str(tmp_path / "backup"), allow_older=True)
    store.close()
    assert not (tmp_path / "store" / "lease").exists()


def test_c05_who_opens_the_store_during_a_restore_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease is held alone meanwhile: another process waits its time, then is told so, and spins no processor."""
    monkeypatch.setattr("waypost.store.directory.lease.LOCK_TIMEOUT_S", 0.2)
    store = filled(tmp_path / "store")
    with store._alone(), pytest.raises(LockTimeout, match="alone"):
        directory_store(tmp_path / "store")
    directory_store(tmp_path / "store").close()
    store.close()


def test_a_reader_may_not_restore(tmp_path: Path) -> None:
    """A store that is open for reading only refuses."""
    filled(tmp_path / "store").backup(str(tmp_path / "backup"))
    with pytest.raises(StoreReadOnly):
        directory_store(tmp_path / "store", read_only=True).restore_backup(str(tmp_path / "backup"))


def _edit(backup: Path, number: int, **fields: Any) -> None:
    manifest = json.loads((backup / "backup.json").read_text())
    manifest["documents"][number].update(fields)
    (backup / "backup.json").write_text(json.dumps(manifest))


def _link(backup: Path) -> None:
    target = backup / "workflows" / "wf.state"
    target.rename(backup.parent / "elsewhere")
    target.symlink_to(backup.parent / "elsewhere")


def _pipe(backup: Path) -> None:
    (backup / "workflows" / "wf.state").unlink()
    os.mkfifo(backup / "workflows" / "wf.state")


def _linked_folder(backup: Path) -> None:
    (backup / "workflows").rename(backup.parent / "folder")
    (backup / "workflows").symlink_to(backup.parent / "folder")


def _number_of_wf(backup: Path) -> int:
    documents = json.loads((backup / "backup.json").read_text())["documents"]
    return next(number for number, each in enumerate(documents) if each["id"] == "wf")


def _longer(backup: Path) -> None:
    file = backup / "workflows" / "wf.state"
    with file.open("r+b") as opened:
        opened.truncate(300 << 20)
    _edit(backup, _number_of_wf(backup), size_bytes=300 << 20)


def _doubled(backup: Path) -> None:
    manifest = json.loads((backup / "backup.json").read_text())
    manifest["documents"].append(manifest["documents"][0])
    (backup / "backup.json").write_text(json.dumps(manifest))


def _flipped(backup: Path) -> None:
    file = backup / "workflows" / "wf.state"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _flipped_with_its_sum(backup: Path) -> None:
    _flipped(backup)
    digest = hashlib.sha256((backup / "workflows" / "wf.state").read_bytes()).hexdigest()
    _edit(backup, _number_of_wf(backup), sha256=digest)


def _outside(backup: Path) -> None:
    """A log that is all that the manifest says, but for where it stands."""
    shutil.copy(backup / "workflows" / "wf.state", backup.parent / "outside.state")
    _edit(backup, _number_of_wf(backup), file="../../outside.state")


BAD: dict[str, Callable[[Path], object]] = {
    "a link": _link,
    "a pipe": _pipe,
    "a linked folder": _linked_folder,
    "a path that leaves": lambda backup: _edit(backup, 0, file="../../etc/passwd"),
    "a path that leaves to a whole log": _outside,
    "a sum that is not its own": lambda backup: _edit(backup, 0, sha256="00" * 32),
    "an absolute path": lambda backup: _edit(backup, 0, file="/etc/passwd"),
    "an id of another file": lambda backup: _edit(backup, 0, id="another"),
    "an id that is no text": lambda backup: _edit(backup, 0, id="\ud800"),
    "another kind": lambda backup: _edit(backup, 0, kind="table"),
    "a document twice": _doubled,
    "a size beyond bounds": _longer,
    "a size that is not its own": lambda backup: _edit(backup, 0, size_bytes=10),
    "a negative size": lambda backup: _edit(backup, 0, size_bytes=-1),
    "a foreign file": lambda backup: (backup / "workflows" / "x.txt").write_text("x"),
    "a foreign file above": lambda backup: (backup / "x.txt").write_text("x"),
    "a log that is not named": lambda backup: shutil.copy(
        backup / "workflows" / "wf.state", backup / "workflows" / "w2.state"
    ),
    "a missing log": lambda backup: (backup / "workflows" / "wf.state").unlink(),
    "a flipped bit": _flipped,
    "a flipped bit, summed": _flipped_with_its_sum,
    "another version": lambda backup: _edit(backup, 0, version=77),
    "another commit": lambda backup: _edit(backup, 0, commit_id="00" * 32),
    "no manifest": lambda backup: (backup / "backup.json").unlink(),
    "half a manifest": lambda backup: (backup / "backup.json").write_text('{"location": "x", "docu'),
    "another manifest": lambda backup: (backup / "backup.json").write_text("[1]"),
}


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD.keys())
def test_n07_what_is_no_whole_backup_is_refused_and_nothing_is_changed(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    """Links, special files, names that lead elsewhere, sizes beyond bounds, foreign files, and bytes that are not
    those that were written: an error, a store as it was, and no file anywhere else.
    """
    store = filled(tmp_path / "store")
    store.backup(str(tmp_path / "backup"))
    spoil(tmp_path / "backup")
    before = every_file(tmp_path)
    with pytest.raises((InvalidInput, DocumentDamaged)):
        store.restore_backup(str(tmp_path / "backup"), allow_older=True)
    assert every_file(tmp_path) == before
    assert put(store, WF, b"2") == 3
    store.close()


# --- cut off ---


class Killed(BaseException):
    """The process is dead."""


CHANGING = {"open", "pwrite", "ftruncate", "rename", "link", "unlink", "mkdir", "rmdir", "fsync", "fdatasync"}


def dying(calls: SystemCalls, at: int) -> Callable[[], bool]:
    """Die before the n-th call that changes something, and do nothing after; whether it came to that."""
    seen = 0

    def fault(name: str, _count: int, _args: tuple[Any, ...]) -> None:
        nonlocal seen
        seen += name in CHANGING
        if seen >= at and name in CHANGING:
            raise Killed

    calls.fault = fault
    return lambda: seen >= at


def test_d14_a_restore_that_is_killed_anywhere_is_all_or_nothing(tmp_path: Path) -> None:
    """Killed before any of its calls, and the next opening killed as well: the store holds all of the backup, or all
    that it held before; a reader is told to wait in between.
    """
    store = filled(tmp_path / "made")
    store.backup(str(tmp_path / "backup"))
    put(store, WF, b"2")
    put(store, DocumentId("workflow", "new"), b"1")
    store.close()
    both = {"old": state(tmp_path / "made"), "new": state(tmp_path / "backup")}
    outcomes: set[str] = set()
    at, reached = 1, True
    while reached:
        path = tmp_path / f"store{at}"
        shutil.copytree(tmp_path / "made", path)
        reached = _kill_a_restore(path, tmp_path / "backup", at)
        _kill_an_opening(path, 1 + at % 9)
        found = _now(path)
        if found is not None:
            assert found in both.values(), at
        directory_store(path).close()
        found = _now(path)
        (outcome,) = [name for name, each in both.items() if each == found]
        outcomes.add(outcome)
        assert (path / "workflows" / "new.state").exists() is (outcome == "old")
        assert directory_store(path, read_only=True).verify().sound
        assert not (path / "restoring").exists()
        shutil.rmtree(path)
        at += ring_size(7, 1)
    assert outcomes == {"old", "new"} and at > 50


def _kill_a_restore(path: Path, backup: Path, at: int) -> bool:
    store = directory_store(path)
    with system_calls() as calls:
        was_reached = dying(calls, at)
        try:
            store.restore_backup(str(backup), allow_older=True)
        except Killed:
            pass
        reached = was_reached()
        store.after_fork_in_child()  # a dead process gives up its locks and closes nothing
        calls.fault = None
    gc.collect()
    return reached


def _kill_an_opening(path: Path, at: int) -> None:
    with system_calls() as calls:
        dying(calls, at)
        try:
            directory_store(path).after_fork_in_child()
        except Killed:
            pass
        calls.fault = None
    gc.collect()


def _now(path: Path) -> Any:
    try:
        return state(path)
    except StoreUnavailable as error:
        if "a restore was cut off" not in str(error):
            raise
        return None


def test_d14_a_restore_that_the_disk_cuts_off_is_carried_out_by_the_next(tmp_path: Path) -> None:
    """When a decided restore cannot be carried out, the handle closes, and the next one that opens finishes it."""
    store = filled(tmp_path / "store")
    store.backup(str(tmp_path / "backup"))
    put(store, WF, b"2")

    def fault(name: str, _count: int, _args: tuple[Any, ...]) -> None:
        if name == "link":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with system_calls() as calls:
        calls.fault = fault
        with pytest.raises(StoreUnavailable):
            store.restore_backup(str(tmp_path / "backup"), allow_older=True)
    with pytest.raises(waypost.StoreClosed):
        store.view(WF)
    assert _now(tmp_path / "store") is None
    directory_store(tmp_path / "store").close()
    assert state(tmp_path / "store") == state(tmp_path / "backup")


# --- by the faces ---


def test_both_faces_back_up_and_restore(tmp_path: Path) -> None:
    """As operations: a result each, whose failures are failures."""
    with waypost.open(tmp_path / "store", config=make_config()) as wp:
        wp.create_workflow("w", "W", steps=["a"]).unwrap()
        backup = wp.backup(tmp_path / "backup").unwrap()
        assert [(each.id, each.version) for each in backup.documents] == [("w", 1)]
        assert isinstance(wp.backup(tmp_path / "backup").error, InvalidInput)
        wp.update_step_status("w", "a", "completed").unwrap()
        refused = wp.restore_backup(tmp_path / "backup")
        assert isinstance(refused.error, Refused) and refused.status == "rolled_back"
        assert wp.restore_backup(tmp_path / "backup", allow_older=True).unwrap().taken_back == ("w",)
        assert wp.load_workflow_state("w").unwrap().step("a").status == "pending"


async def test_the_asynchronous_face_too(tmp_path: Path) -> None:
    """The same, awaited."""
    async with open_async(tmp_path / "store", config=make_config()) as wp:
        (await wp.create_workflow("w", "W", steps=["a"])).unwrap()
        (await wp.backup(tmp_path / "backup")).unwrap()
        assert (await wp.restore_backup(tmp_path / "backup")).unwrap().documents == 1


def test_memory_has_nothing_to_back_up(tmp_path: Path) -> None:
    """A store in memory says so."""
    with waypost.open("memory:") as wp:
        assert isinstance(wp.backup(tmp_path / "backup").error, InvalidInput)
        assert isinstance(wp.restore_backup(tmp_path).error, InvalidInput)


def test_a_restore_in_another_process_is_seen_by_readers(tmp_path: Path) -> None:
    """A reader that has the store open sees the restored documents at its next look."""
    store = filled(tmp_path / "store")
    store.backup(str(tmp_path / "backup"))
    put(store, WF, b"2")
    store.close()
    reader = directory_store(tmp_path / "store", read_only=True)
    assert reader.view(WF).version == 3
    program = (
        "import sys, waypost\n"
        "with waypost.open(sys.argv[1]) as wp: wp.restore_backup(sys.argv[2], allow_older=True).unwrap()"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "store"), str(tmp_path / "backup")], check=True, timeout=60
    )
    assert reader.view(WF).version == 2
    reader.close()
