"""Real limits in place of the shim: file size, a full disk, no more inodes, read-only media, somebody else's store."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.faults import Tell, in_child, no_fault
from tests.crash.runs import handle, open_store
from tests.crash.sweeps import (
    FOR_SEQUENCES,
    FOR_STORES,
    Bench,
    Told,
    bench,
    check_errors,
    descriptors_into,
    examine,
    play,
    states_of,
)
from tests.crash.workloads import (
    ALL,
    WORKLOADS,
    Workload,
    add_a_large_output,
    compact,
    create_workflow,
    leftovers,
    new_store,
    start_and_complete_a_step,
    torn_tail,
    used_store,
    write_one,
)
from tests.totals import Totals, ring_size
from waypost.errors import StoreReadOnly, StoreUnavailable, WaypostError

LIMITED = [
    Workload("small", start_and_complete_a_step, used_store),
    Workload("large", add_a_large_output, used_store),
    Workload("first", create_workflow, new_store),
    Workload("compaction", compact, used_store),
    Workload("recovery", write_one, used_store, torn_tail, phases=ALL, killed=True),
]


@pytest.mark.parametrize("workload", LIMITED, ids=lambda workload: workload.name)
def test_e03_t07_under_a_file_size_limit_writes_come_short_and_harm_nothing(workload: Workload, totals: Totals) -> None:
    """The kernel itself cuts writes at a limit and then gives EFBIG, in every place a file may grow to."""
    with bench() as place:
        template = place.template(workload)
        assert template is not None
        # a log with fill does not grow: so the limit is in turn below, within and beyond it
        sizes = [entry.stat().st_size for entry in template.rglob("*.state")]
        limits = {size + step for size in (0, *sizes) for step in range(1, 9000, ring_size(797, 53))}
        for limit in sorted(limits):
            with place.broken(workload) as path:
                ended = in_child(lambda tell, path=path, limit=limit: _play_limited(workload, path, limit, tell))
                assert ended.status == 0, ended
                check_errors(Told.of(ended.told), FOR_STORES | FOR_SEQUENCES)
                examine(workload, path, ended.told, f"no file beyond {limit} bytes")
        totals("faults", len(limits))


def _play_limited(workload: Workload, path: Path, limit: int, tell: Tell) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    play(workload, path, no_fault, tell)


# --- file systems of our own ------------------------------------------------------------------

_NEW_MOUNTS, _NEW_USERS = 0x00020000, 0x10000000


def _in_own_mounts(act: Callable[[Tell], None]) -> Callable[[Tell], None]:
    """In a child: mounts that nobody else sees and that end with it; as root, or with a user namespace."""

    def alone(tell: Tell) -> None:
        uid, gid = os.getuid(), os.getgid()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_NEW_MOUNTS) != 0:
            if libc.unshare(_NEW_MOUNTS | _NEW_USERS) != 0:
                tell("impossible")
                return
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        if subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, check=False).returncode != 0:
            tell("impossible")
            return
        act(tell)

    return alone


def _with_mounts(act: Callable[[Tell], None]) -> None:
    """Do it with mounts of its own; where there can be none the test is skipped, and in CI fails."""
    if not hasattr(ctypes.CDLL(None), "unshare") or shutil.which("mount") is None:
        pytest.skip("this system has no mounts for one process")
    ended = in_child(_in_own_mounts(act))
    if "impossible" in ended.told and not os.environ.get("CI"):
        pytest.skip("mounting needs root or user namespaces")
    assert ended.status == 0, "\n".join(ended.told)
    assert "impossible" not in ended.told


def _mount(place: Path, options: str) -> None:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)


def _fill(place: Path, room: int) -> None:
    """Leave so many bytes of a file system free."""
    with (place / "filler").open("wb") as filler:
        free = os.statvfs(place)
        filler.write(bytes(max(0, free.f_bavail * free.f_frsize - room)))


def test_e01_e08_on_a_full_disk_writes_fail_and_reads_go_on(tmp_path: Path, totals: Totals) -> None:
    """A disk with 0 to 24 pages of room: documented errors, reading goes on, and with room again everything works."""
    pages = range(0, 25, ring_size(3, 1))

    def act(tell: Tell) -> None:
        with bench() as place:
            for number, page in enumerate(pages):
                disk = tmp_path / f"disk{number}"
                _mount(disk, "size=2m")
                for workload in LIMITED[:4]:
                    _on_a_full_disk(place, workload, disk, page * 4096)

    _with_mounts(act)
    totals("faults", len(pages) * 4)


def _on_a_full_disk(place: Bench, workload: Workload, disk: Path, room: int) -> None:
    template = place.template(workload)
    assert template is not None
    path = disk / "store"
    shutil.copytree(template, path)
    _fill(disk, room)
    lines: list[str] = []

    def beside(run) -> None:
        assert states_of(run.wp.definitions.store), "nothing can be read"

    play(workload, path, no_fault, lines.append, beside)
    check_errors(Told.of(lines), FOR_STORES | FOR_SEQUENCES)
    reader = open_store(path, workload.options, read_only=True)
    assert states_of(reader)
    reader.close()
    (disk / "filler").unlink()
    examine(workload, path, lines, f"{room} bytes of room")
    shutil.rmtree(path)


def test_e02_without_inodes_making_a_workflow_fails_and_the_others_go_on(tmp_path: Path, totals: Totals) -> None:
    """Inodes run out before bytes do: nothing new can be made, and what is there is read and written."""

    def act(tell: Tell) -> None:
        disk = tmp_path / "disk"
        _mount(disk, "size=4m,nr_inodes=40")
        with bench() as place:
            template = place.template(LIMITED[0])
            assert template is not None
            shutil.copytree(template, disk / "store")
            store = open_store(disk / "store", "chunked")
            while os.statvfs(disk).f_ffree:
                (disk / f"filler{os.statvfs(disk).f_ffree}").touch()
            wp = handle(store, "chunked")
            failed = wp.create_workflow("made", "Made", None, ["a"])
            assert not failed
            assert (type(failed.error), failed.status) == (StoreUnavailable, "rolled_back")
            wp.update_context("wf", variables={"n": 1}).unwrap()
            assert sorted(states_of(store)) == ["other", "wf"]
            store.close()
            (disk / "filler1").unlink()
            store = open_store(disk / "store", "chunked")
            handle(store, "chunked").create_workflow("made", "Made", None, ["a"]).unwrap()
            store.close()
            assert open_store(disk / "store", "chunked", read_only=True).verify().findings == []

    _with_mounts(act)
    totals("faults", 1)


READ_ONLY = [
    Workload("closed", write_one, used_store),
    Workload("killed", write_one, used_store, killed=True),
    Workload("torn", write_one, used_store, torn_tail, killed=True),
    Workload("leftovers", write_one, new_store, leftovers),
    next(each for each in WORKLOADS if each.name == "open_after_a_torn_beginning"),
]


def tree(path: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every name below a path, with mode, time of change, and content."""
    entries: dict[str, tuple[int, int, bytes]] = {}
    for entry in [path, *path.rglob("*")]:
        found = entry.stat()
        entries[str(entry)] = found.st_mode, found.st_mtime_ns, entry.read_bytes() if entry.is_file() else b""
    return entries


def read_everything(path: Path) -> int:
    """Each way of reading a store; how many workflows it has."""
    store = open_store(path, "chunked", read_only=True)
    wp = handle(store, "chunked")
    found = wp.list_workflows()
    for each in found.items:
        state = wp.load_workflow_state(each.id).unwrap()
        assert None not in [output.output for output in state.outputs.values()]
        assert wp.validate_workflow_state(each.id).is_valid
    assert not [each for each in store.verify().findings if each.severity == "damage"]
    with pytest.raises(StoreReadOnly):
        wp.update_context("wf", variables={"n": 1}).unwrap()
    store.close()
    return len(found.items)


@pytest.mark.parametrize("workload", READ_ONLY, ids=lambda workload: workload.name)
def test_d15_reading_changes_no_byte_name_or_time(workload: Workload) -> None:
    """Reading a store in whatever condition leaves it as it is: no repair, no lease, no new file."""
    with bench() as place, place.broken(workload) as path:
        before = tree(path)
        assert read_everything(path) >= 1
        assert tree(path) == before


def test_d15_e08_on_read_only_media_reading_works_and_writing_is_refused(tmp_path: Path) -> None:
    """A store in whatever condition on a read-only mount: all of it is read, and opening for writing says EROFS."""

    def act(tell: Tell) -> None:
        with bench() as place:
            for workload in READ_ONLY:
                with place.broken(workload) as path:
                    subprocess.run(["mount", "--bind", str(path), str(path)], check=True)
                    subprocess.run(["mount", "-o", "remount,ro,bind", str(path)], check=True)
                    before = tree(path)
                    assert read_everything(path) >= 1
                    with pytest.raises(StoreUnavailable, match="EROFS"):
                        open_store(path, "chunked").close()
                    assert tree(path) == before
                    assert descriptors_into(path) == []
                    subprocess.run(["umount", "-l", str(path)], check=True)

    _with_mounts(act)


def test_e01_e08_a_mount_that_turns_read_only_fails_writes_and_not_reads(tmp_path: Path) -> None:
    """The file system goes read-only under an open store, as after an error of its disk; later it is writable again."""

    def act(tell: Tell) -> None:
        disk = tmp_path / "disk"
        _mount(disk, "size=4m")
        with bench() as place:
            template = place.template(LIMITED[0])
            assert template is not None
            shutil.copytree(template, disk / "store")
            store = open_store(disk / "store", "chunked")
            wp = handle(store, "chunked")
            wp.load_workflow_state("wf").unwrap()
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            failed = wp.update_context("wf", variables={"n": 1})
            assert not failed
            assert (type(failed.error), failed.status) == (StoreUnavailable, "rolled_back")
            wp.load_workflow_state("wf").unwrap()
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
            wp.update_context("wf", variables={"n": 2}).unwrap()
            store.close()

    _with_mounts(act)


@pytest.mark.skipif(os.geteuid() != 0, reason="a store of somebody else needs root")
def test_e08_a_store_of_somebody_else_who_lets_us_read_is_read() -> None:
    """Another user who may read, and not write, reads all of a store, and is told that writing is refused."""
    with bench() as place, place.broken(READ_ONLY[1]) as path:
        place.root.chmod(0o755)
        for entry in [path, *path.rglob("*")]:
            entry.chmod(0o755 if entry.is_dir() else 0o644)

        def act(tell: Tell) -> None:
            os.setgid(65534)
            os.setuid(65534)
            assert read_everything(path) == 2
            with pytest.raises(WaypostError, match="EACCES"):
                handle(open_store(path, "chunked"), "chunked").update_context("wf", variables={"n": 1}).unwrap()

        ended = in_child(act)
        assert ended.status == 0, "\n".join(ended.told)
