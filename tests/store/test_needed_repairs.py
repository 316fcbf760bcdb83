"""Each comparison, lock and sync of a repair is needed: without any one of them one of these tests fails.

`make mutants` removes them one by one; those that no other test guards are guarded here.
"""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest

import waypost
from tests.store.many import read_frames
from tests.store.needed import calm, closed_soundly, die, log_file, path
from tests.store.support import WF, directory_store, putting, system_calls
from waypost.codec import frame
from waypost.errors import LockTimeout, StoreLeased
from waypost.store.directory import layout, lease
from waypost.store.directory.layout import WORKED_IN

__all__ = ["calm", "path"]


def test_d09_a_repair_takes_three_bytes_of_a_magic_for_nothing_newer(path: Path) -> None:
    """A log of which no frame is whole is moved aside, also where ones stand behind the first bytes of its magic."""
    directory_store(path).close()
    log_file(path).write_bytes(frame.MAGIC[:3] + b"\xff" * 500)
    (told,) = waypost.repair(path).repaired
    assert told.action == "moved aside"


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


@pytest.mark.parametrize("name", WORKED_IN)
def test_e10_a_file_where_a_folder_of_the_store_stands_goes_aside(path: Path, name: str) -> None:
    """`verify` tells of it, and a dry run of what becomes of it; a repair leaves a sound store that can be written."""
    directory_store(path).close()
    shutil.rmtree(path / name, ignore_errors=True)
    (path / name).write_bytes(b"precious")
    with closing(directory_store(path, read_only=True)) as store:
        (found,) = [each for each in store.verify().findings if each.severity != "note"]
    assert (found.severity, found.file, found.text) == ("damage", f"{path}/{name}", "is no directory but a file")
    for dry_run in (True, False):
        (told,) = waypost.repair(path, dry_run=dry_run).repaired
        assert (told.file, told.action, told.found) == (name, "moved aside", "is no directory")
    assert told.original is not None and (path / told.original).read_bytes() == b"precious"
    assert waypost.repair(path).repaired == []
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    store.close()
    closed_soundly(path, a=b"1")


@pytest.mark.parametrize("name", WORKED_IN)
def test_e10_a_folder_of_the_store_that_is_a_link_is_left(path: Path, name: str, tmp_path: Path) -> None:
    """What it holds is not there to be judged, and what it leads to is not emptied."""
    directory_store(path).close()
    (path / name).rename(tmp_path / "disk") if (path / name).exists() else (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "precious").write_bytes(b"1")
    (path / name).symlink_to(tmp_path / "disk")
    for dry_run in (True, False):
        report = waypost.repair(path, dry_run=dry_run)
        assert (name, "left") in [(each.file, each.action) for each in report.repaired] and not report.is_complete
    assert (tmp_path / "disk" / "precious").read_bytes() == b"1" and (path / name).is_symlink()


def test_e10_a_file_where_what_is_moved_aside_would_stand_has_another_name_durably(path: Path) -> None:
    """It cannot be moved into itself; its new name is synced before anything is put there."""
    directory_store(path).close()
    (path / "damaged").write_bytes(b"precious")
    with system_calls() as calls:
        waypost.repair(path)
    names = [name for name, _, _ in calls.trace]
    moved = names.index("rename")
    assert names[moved + 1] == "fsync" and "mkdir" not in names[:moved]
    assert (path / "damaged.1").read_bytes() == b"precious"


def test_c03_nothing_goes_aside_in_a_store_of_another_machine(path: Path) -> None:
    """Also not what is no folder."""
    directory_store(path).close()
    shutil.rmtree(path / "temp")
    (path / "temp").touch()
    (path / "lease").write_bytes(
        lease._text(lease.Holder("elsewhere/123", "another-boot", "2026-01-02T03:04:05+00:00"))
    )
    with pytest.raises(StoreLeased):
        waypost.repair(path)
    assert (path / "temp").is_file()
