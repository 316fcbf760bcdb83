"""Each comparison and each lock is needed: without any one of them one of these tests fails.

`make mutants` removes them one by one; those that no other test guards are guarded here.
"""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.store.many import read_frames
from tests.store.support import WF, TestedStore, change, directory_store, putting, system_calls
from waypost import clock
from waypost.codec import bodies, frame
from waypost.errors import LockTimeout, StoreLeased
from waypost.store import DocumentId, JointChange
from waypost.store.directory import compaction, document, layout, lease, upkeep
from waypost.store.directory.log import NOTHING, Log


@pytest.fixture(autouse=True)
def _no_upkeep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep.Upkeep, "ask", lambda self, document: None)
    monkeypatch.setattr(upkeep.Upkeep, "ask_to_settle", lambda self: None)


def die(store: TestedStore) -> None:
    """Let go of everything as a process that is killed does."""
    for each in store._documents.values():
        each._log = each._state = None
    if store._lease is not None:
        store._lease.abandon()
        store._lease = None
    store._documents.clear()
    store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


def log_file(path: Path) -> Path:
    return path / "workflows" / "wf.state"


@pytest.mark.parametrize("fill", [b"\xff", b"Z"])
@pytest.mark.parametrize("kept", [1, 2, 3])
def test_d09_a_torn_magic_before_other_bytes_is_a_torn_tail(path: Path, kept: int, fill: bytes) -> None:
    """A file grew by ones or old bytes, and the first bytes of a frame reached it: that is no frame of a newer format."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    store.close()
    with log_file(path).open("ab") as log:
        log.write(frame.MAGIC[:kept] + fill * 500)
    reader = directory_store(path, read_only=True)
    assert reader.view(WF).get("a") == b"1"
    reader.close()
    store = directory_store(path)
    store.submit(putting(b=b"2")).result()
    store.close()
    assert directory_store(path, read_only=True).verify().sound


def test_d09_a_repair_takes_three_bytes_of_a_magic_for_nothing_newer(path: Path) -> None:
    """A log of which no frame is whole is moved aside, also where ones stand behind the first bytes of its magic."""
    directory_store(path).close()
    log_file(path).write_bytes(frame.MAGIC[:3] + b"\xff" * 500)
    (told,) = waypost.repair(path).repaired
    assert told.action == "moved aside"


# --- which file a name stands for ---


def compacted_by_another(path: Path, **parts: bytes) -> tuple[TestedStore, TestedStore]:
    """Two stores; one has looked at the document, the other committed and put a new file in the log's place."""
    ours, theirs = directory_store(path), directory_store(path)
    theirs.submit(putting(a=b"1")).result()
    assert ours.view(WF, durable=False).get("a") == b"1"  # without a sync, so that it is open for reading only
    theirs.submit(putting(before=b"it")).result()
    assert theirs.tidy(WF, "compact")
    theirs.submit(putting(**parts)).result()
    return ours, theirs


def closed_soundly(path: Path, *stores: TestedStore, **parts: bytes) -> None:
    for store in stores:
        store.close()
    reader = directory_store(path, read_only=True)
    view = reader.view(WF)
    assert {key: view.get(key) for key in view.keys()} == parts
    assert reader.verify().sound
    reader.close()


def test_c04_a_reader_looks_at_the_file_that_the_name_stands_for(path: Path) -> None:
    """A log that was replaced under an open descriptor is not read on."""
    ours, theirs = compacted_by_another(path, a=b"2")
    assert ours.view(WF).get("a") == b"2"
    closed_soundly(path, ours, theirs, a=b"2", before=b"it")


def test_c04_a_reader_who_becomes_a_writer_opens_the_file_anew(path: Path) -> None:
    """What was known of the old file counts for nothing in the new one."""
    ours, theirs = compacted_by_another(path, a=b"2", filler=b"x" * 500)
    assert ours.submit(putting(b=b"3")).result().version == 4
    closed_soundly(path, ours, theirs, a=b"2", b=b"3", before=b"it", filler=b"x" * 500)


def test_c04_a_writer_looks_whether_the_name_still_stands_for_its_file(path: Path) -> None:
    """A commit goes into the file that others find."""
    ours, theirs = directory_store(path), directory_store(path)
    ours.submit(putting(a=b"1")).result()
    theirs.submit(putting(a=b"2")).result()
    assert theirs.tidy(WF, "compact")
    assert ours.submit(putting(b=b"3")).result().version == 3
    closed_soundly(path, ours, theirs, a=b"2", b=b"3")


def test_c04_nothing_is_concluded_from_a_file_that_was_replaced(path: Path) -> None:
    """A change that changes nothing in the old file changes something in the new one."""
    ours, theirs = compacted_by_another(path, a=b"2")
    assert ours.submit(putting(a=b"1")).result().version == 4
    closed_soundly(path, ours, theirs, a=b"1", before=b"it")


def test_c04_a_log_that_became_shorter_is_read_again(path: Path) -> None:
    """Somebody put an older copy in its place, into the same file: no commit is written behind a gap."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    older = log_file(path).read_bytes()[: store._document(WF)._log.end]  # type: ignore[union-attr]
    for number in range(50):
        store.submit(putting(a=b"%d" % number * 5000)).result()
    with log_file(path).open("r+b") as log:
        log.truncate(len(older))
    assert store.submit(putting(b=b"2")).result().version == 2
    closed_soundly(path, store, a=b"1", b=b"2")


def test_d13_content_that_was_written_ahead_goes_with_its_file(path: Path) -> None:
    """When another file takes the log's place on the way, and is open already, all of it is written again."""
    store = directory_store(path, enabled=False)
    store.submit(putting(a=b"1")).result()
    value = os.urandom(7 << 20)
    tidied: list[bool] = []

    def pieces(size: int) -> Iterator[bytes]:
        for at in range(0, len(value), size):
            if at > 5 << 20 and not tidied:
                tidied.append(store.tidy(WF, "compact"))
                store.submit(putting(b=b"2")).result()
            yield value[at : at + size]

    content = store.stage(WF, "large", len(value), pieces)
    assert tidied == [True]
    store.submit(change(WF, lambda tx: tx.put("large", content))).result()
    closed_soundly(path, store, a=b"1", b=b"2", large=value)


def test_t21_a_torn_tail_is_cleared_and_synced_before_a_frame_stands_in_its_place(path: Path) -> None:
    """What stands there is moved aside, durably, cleared and synced; then comes the frame, and its sync."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    store.close()
    with log_file(path).open("ab") as log:
        log.write(b"torn" * 99)
    store = directory_store(path)
    store.view(WF)
    with system_calls() as calls:
        store.submit(putting(b=b"2")).result()
    changes = [name for name, _, _ in calls.trace if name in ("pwrite", "fsync", "fdatasync")]
    aside, cleared = ["pwrite", "fsync", "fsync"], ["pwrite", "fdatasync"]
    assert changes[:5] == aside + cleared
    assert changes[-3:] == ["pwrite", "fdatasync", "fsync"], "the frame, its sync, and that of its name"
    closed_soundly(path, store, a=b"1", b=b"2")


# --- which frame belongs where ---


def test_d10_frames_of_another_file_behind_the_end_are_no_damage(path: Path, tmp_path: Path) -> None:
    """Old bytes of a longer file, at their own places and whole in themselves, say nothing about this one."""
    logs: list[bytes] = []
    for name, commits in (("long", 30), ("short", 2)):
        store = directory_store(tmp_path / name)
        for number in range(commits):
            store.submit(putting(a=b"%d" % number)).result()
        logs.append(log_file(tmp_path / name).read_bytes() if commits == 2 else b"")
        die(store) if commits == 2 else store.close()
        logs[-1] = logs[-1] or log_file(tmp_path / name).read_bytes()
    long, short = logs[0], logs[1].rstrip(b"\0")
    at = long.index(frame.MAGIC, len(short) + 8)
    log_file(tmp_path / "short").write_bytes(short.ljust(at, b"\0") + long[at:])
    reader = directory_store(tmp_path / "short", read_only=True)
    assert (reader.view(WF).version, reader.view(WF).get("a")) == (2, b"1")
    assert [found.severity for found in reader.verify().findings if found.file.endswith(".state")] == ["torn tail"]
    reader.close()


def test_d10_the_first_frame_follows_no_other(path: Path) -> None:
    """A file frame that links to another frame begins no log."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    log = store._document(WF)._log
    assert log is not None and log.body is not None
    body = bodies.file_draft(log.body)
    for link, is_one in ((0, True), (7, False)):
        data, _ = frame.assemble(body, frame.Place(0, 99, link, 0, 0), NOTHING)
        (path / "workflows" / "other.state").write_bytes(data)
        made = store._context.open_log(store.layout.documents("workflow"), "other.state", write=False)
        assert made is not None
        assert (made.first(len(data)) is not None) is is_one
    (path / "workflows" / "other.state").unlink()
    store.close()


def large_commit_without_sync(path: Path) -> tuple[bytes, int]:
    """A log whose last commit, with a large part in blocks, no sync is on record for; and where that part stands."""
    store = directory_store(path, enabled=False, chunk_size=4096)
    store.submit(putting(a=b"1")).result()
    large = b"".join(b"%06d." % number for number in range(3000))
    store.submit(putting(large=large)).result()
    die(store)
    data = log_file(path).read_bytes()
    return data, data.index(b"002000.")


def test_d07_a_commit_whose_blocks_are_torn_is_a_torn_tail(path: Path) -> None:
    """The header of its frame is whole, its blocks did not all reach the medium: it was never acknowledged."""
    data, at = large_commit_without_sync(path)
    log_file(path).write_bytes(data[:at] + bytes(512) + data[at + 512 :])
    reader = directory_store(path, read_only=True)
    assert (reader.view(WF).version, list(reader.view(WF).keys())) == (1, ["a"])
    reader.close()
    store = directory_store(path)
    assert store.submit(putting(b=b"2")).result().version == 2
    closed_soundly(path, store, a=b"1", b=b"2")


def test_d07_a_snapshot_whose_blocks_are_torn_is_passed_over(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs time: the log is read from its start."""
    monkeypatch.setattr(document, "SNAPSHOT_FRAMES", 1)
    store = directory_store(path, enabled=False)
    for number in range(4):
        store.submit(putting(**{f"k{number}": b"v%d" % number * 50})).result()
    assert store.tidy(WF, "snapshot")
    end = store._document(WF)._log.end  # type: ignore[union-attr]
    die(store)
    data = bytearray(log_file(path).read_bytes())
    data[data.rindex(b"v2v2", 0, end)] ^= 1
    log_file(path).write_bytes(data)
    reader = directory_store(path, read_only=True)
    assert [reader.view(WF).get(f"k{number}") for number in range(4)] == [b"v%d" % number * 50 for number in range(4)]
    reader.close()


# --- decisions and transactions ---


def test_d12_a_decision_that_comes_back_after_a_compaction_changes_nothing(path: Path) -> None:
    """Its frames belong into a generation of the file that is no more."""
    store = directory_store(path)
    other = DocumentId("workflow", "other")
    for document_id in (WF, other):
        for number in range(20):
            store.submit(change(document_id, lambda tx, n=number: tx.put("a", b"%d" % n * 200))).result()
    joint = store.begin()
    joint.document(WF).put("a", b"decided")
    joint.document(other).put("a", b"decided")
    assert store.commit(joint, JointChange("op", "test", repeatable=False))
    (name,) = os.listdir(path / "transactions")
    kept = (path / "transactions" / name).read_bytes()
    store._settle()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "HISTORY_US", 1)
        assert all(store.tidy(each, "compact") for each in (WF, other))
    store.close()
    (path / "transactions" / name).write_bytes(kept)
    store = directory_store(path)
    assert [store.view(each).get("a") for each in (WF, other)] == [b"decided"] * 2
    store.submit(putting(a=b"2")).result()
    store.close()
    assert os.listdir(path / "transactions") == []


def test_c10_a_new_log_that_a_commit_was_written_to_is_not_taken_away(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt behind the write of a transaction's only commit leaves what others may have read by now."""
    store = directory_store(path)
    other = DocumentId("workflow", "other")
    joint = store.begin()
    joint.document(other).get("a")
    joint.document(WF).put("a", b"1")
    real = Log.put

    def put(self: Log, data: bytes, size: int) -> None:
        real(self, data, size)
        raise KeyboardInterrupt

    monkeypatch.setattr(Log, "put", put)
    with pytest.raises(KeyboardInterrupt):
        store.commit(joint, JointChange("op", "test", repeatable=False))
    monkeypatch.undo()
    assert store.view(WF).get("a") == b"1"
    closed_soundly(path, store, a=b"1")


# --- what lies beside the logs ---


def test_derived_data_that_is_torn_is_as_good_as_not_there(path: Path) -> None:
    """The checksum stands in front of what it covers."""
    store = directory_store(path)
    store.keep("rows", b"derived" * 50)
    assert store.recall("rows") == b"derived" * 50
    place = path / "index" / "rows"
    data = bytearray(place.read_bytes())
    data[-1] ^= 1
    place.write_bytes(data)
    assert store.recall("rows") is None
    store.close()


def test_e10_an_unreadable_lease_that_a_living_process_holds_is_left(path: Path) -> None:
    """Somebody writes to the store: a repair must not."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    (path / "lease").write_bytes(b"torn")
    with pytest.raises(LockTimeout, match="living process"):
        waypost.repair(path)
    assert (path / "lease").read_bytes() == b"torn"


def test_e10_a_repair_leaves_what_a_living_process_is_writing(path: Path) -> None:
    """A file in `temp` that is locked is no leftover, unless it is a second name of the lease."""
    store = directory_store(path)
    name, file = layout.new_file(store.layout)
    os.link(path / "lease", path / "temp" / "0123456789abcdef.new")
    waypost.repair(path)
    assert os.listdir(path / "temp") == [name]
    assert not (path / "damaged").exists()
    file.close()
    store.close()


def test_e10_a_repair_that_was_cut_off_keeps_a_file_once(path: Path) -> None:
    """The second name that it gave is found; another file of that name is not taken for it."""
    store = directory_store(path)
    store.close()
    (path / "FORMAT").write_bytes(b"first")
    (path / "damaged").mkdir(mode=0o700)
    (path / "damaged" / "FORMAT.1").write_bytes(b"another")
    os.link(path / "FORMAT", path / "damaged" / "FORMAT.2")
    waypost.repair(path)
    kept = {each.name: each.read_bytes() for each in (path / "damaged").iterdir()}
    assert kept == {"FORMAT.1": b"another", "FORMAT.2": b"first"}


def test_e10_a_repair_takes_no_other_file_for_the_one_that_it_keeps(path: Path) -> None:
    """A name that is taken in `damaged` is taken by another file, unless it is the same one."""
    directory_store(path).close()
    (path / "FORMAT").write_bytes(b"first")
    (path / "damaged").mkdir(mode=0o700)
    (path / "damaged" / "FORMAT.1").write_bytes(b"another")
    waypost.repair(path)
    kept = {each.name: each.read_bytes() for each in (path / "damaged").iterdir()}
    assert kept == {"FORMAT.1": b"another", "FORMAT.2": b"first"}


def test_e10_a_log_under_a_wrong_name_is_kept_where_another_has_its_own(path: Path) -> None:
    """Two logs of one document: the one that bears its name stays, the other is moved aside."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    store.close()
    older = log_file(path).read_bytes()
    store = directory_store(path)
    store.submit(putting(a=b"2")).result()
    store.close()
    newer = log_file(path).read_bytes()
    log_file(path).write_bytes(older)
    (path / "workflows" / "mistaken.state").write_bytes(newer)
    (told,) = waypost.repair(path).repaired
    assert told.action == "moved aside"
    assert (path / "damaged" / "mistaken.state.1").read_bytes() == newer
    closed_soundly(path, a=b"1")


def test_e10_a_frame_that_belongs_behind_another_one_is_not_salvaged(path: Path) -> None:
    """Directly behind a whole frame stands one that is whole in itself and links to another: it is no commit."""
    store = directory_store(path, enabled=False)
    store.submit(putting(a=b"1")).result()
    store.submit(putting(a=b"2")).result()
    log = store._document(WF)._log
    assert log is not None
    frames = read_frames(log_file(path))
    die(store)
    last = frames[-1]
    body = last.data[last.header.body_offset : last.header.blocks_offset]
    draft = frame.Draft(frame.FrameType.COMMIT, last.header.codec, body, last.header.raw, None, ())
    place = frame.Place(last.offset, log.file_id, frames[-2].header.checksum ^ 1, last.end, 0)
    forged, _ = frame.assemble(draft, place, last.standing)
    log_file(path).write_bytes(log_file(path).read_bytes()[: last.offset] + forged)
    assert waypost.repair(path).repaired
    closed_soundly(path, a=b"1")


def overwritten_large_part(path: Path) -> int:
    """A closed log in which a large part was replaced, and a block of its old value is damaged; where that stands."""
    store = directory_store(path, enabled=False, chunk_size=4096)
    store.submit(putting(large=b"".join(b"%06d." % number for number in range(3000)))).result()
    store.submit(putting(large=b"small")).result()
    store.submit(putting(a=b"1")).result()
    store.close()
    data = bytearray(log_file(path).read_bytes())
    at = data.index(b"002000.")
    data[at] ^= 1
    log_file(path).write_bytes(data)
    return at


def test_e10_a_commit_whose_old_blocks_are_damaged_is_not_copied(path: Path) -> None:
    """The newest version is whole, and history begins behind the damage, which is named."""
    at = overwritten_large_part(path)
    (told,) = waypost.repair(path).repaired
    assert told.is_exact and told.kept_version == 3
    assert any(start <= at < end for start, end in told.lost_bytes)
    closed_soundly(path, large=b"small", a=b"1")


def test_e10_a_renaming_that_was_cut_off_is_done_by_the_next_repair(path: Path) -> None:
    """A log that has its own name already, beside another one, is not moved aside."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    store.close()
    os.link(log_file(path), path / "workflows" / "mistaken.state")
    (told,) = waypost.repair(path).repaired
    assert told.action == "renamed"
    closed_soundly(path, a=b"1")


def test_e04_a_repair_that_closes_a_store_to_others_makes_that_durable(path: Path) -> None:
    """The mode is synced after it was changed."""
    directory_store(path).close()
    path.chmod(0o777)
    with system_calls() as calls:
        waypost.repair(path)
    names = [name for name, _, _ in calls.trace]
    (changed,) = [at for at, name in enumerate(names) if name == "fchmod" and calls.trace[at + 1][0] != "openat"][:1]
    assert names[changed + 1] == "fsync" and calls.trace[changed + 1][1] == calls.trace[changed][1]
    assert path.stat().st_mode & 0o777 == 0o700


# --- when it is synced ---


def test_t21_what_a_snapshot_covers_is_synced_before_it_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then a reader need not look behind it."""
    monkeypatch.setattr(document, "SNAPSHOT_FRAMES", 1)
    store = directory_store(path, enable_wal=False)
    for number in range(4):
        store.submit(putting(a=b"%d" % number)).result()
    with system_calls() as calls:
        assert store.tidy(WF, "snapshot")
    assert [name for name, _, _ in calls.trace if name in ("pwrite", "fdatasync")] == ["fdatasync", "pwrite"]
    store.close()


def test_t21_a_compacted_log_is_synced_before_and_under_the_lock_and_its_name_behind_it(path: Path) -> None:
    """Most of it while others may go on; what came meanwhile with the lock held, which is given back at the end."""
    store = directory_store(path)
    for number in range(4):
        store.submit(putting(a=b"%d" % number)).result()
    told: list[tuple[str, bool]] = []

    def fault(name: str, _count: int, _args: object) -> None:
        if name in ("fsync", "rename"):
            with (path / "workflows" / "wf.state").open("rb") as log:
                try:
                    fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    told.append((name, False))
                except BlockingIOError:
                    told.append((name, True))

    with system_calls() as calls:
        calls.fault = fault
        assert store.tidy(WF, "compact")
    assert told == [("fsync", False), ("fsync", True), ("rename", True), ("fsync", True)]
    store.close()


def test_d19_what_was_acknowledged_before_its_sync_is_synced_every_so_often(path: Path) -> None:
    """Each turn syncs the logs that were written to."""
    store = directory_store(path, enable_wal=False)
    with system_calls() as calls:
        store.submit(putting(a=b"1")).result()
        assert calls.count("fdatasync") == 0
        store._sync_all()
        assert calls.count("fdatasync") == 1
    store.close()


def test_d16_macos_syncs_through_the_drive_and_falls_back_where_that_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There `fsync` leaves data in the drive's cache."""
    monkeypatch.setattr(sys, "platform", "darwin")
    spec = importlib.util.find_spec("waypost.store.directory.files")
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    asked: list[object] = []

    class Fcntl:
        F_FULLFSYNC = 51
        error: int | None = None

        def fcntl(self, descriptor: int, command: int) -> None:
            asked.append(command)
            if self.error is not None:
                raise OSError(self.error, "refused")

    class Os:
        def fsync(self, descriptor: int) -> None:
            asked.append("fsync")

    module.fcntl, module.os = Fcntl(), Os()
    module._sync_data(3)
    assert asked == [51]
    module.fcntl.error = errno.ENOTSUP
    module._sync_full(3)
    assert asked == [51, 51, "fsync"]
    module.fcntl.error = errno.EIO
    with pytest.raises(OSError, match="refused"):
        module._sync_data(3)


def test_c03_a_lease_whose_bytes_changed_is_not_believed(path: Path) -> None:
    """A lease that reads well, and yet is not what was written, may be another machine's."""
    directory_store(path).close()
    text = lease._text(lease.Holder(clock.host(), clock.boot_id(), "2026-01-01"))
    (path / "lease").write_bytes(text.replace(b"2026-01-01", b"2026-01-02"))
    with pytest.raises(StoreLeased, match="cannot be read"):
        directory_store(path)
    (path / "lease").write_bytes(text)
    directory_store(path).close()
