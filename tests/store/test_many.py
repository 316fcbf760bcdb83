"""Stores of very many workflows: what a list costs, and that it is right while others write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.store.many import copies
from tests.store.support import directory_store, system_calls
from tests.totals import ring_size
from waypost import loading
from waypost.blocking import Waypost
from waypost.config import PRESETS
from waypost.definitions import Definitions
from waypost.queries import StateQuery
from waypost.store import DocumentId
from waypost.store.directory import DirectoryStore, blocks, files, index
from waypost.store.directory.document import Document

FIRST_US = 1_750_000_000_000_000
MANY = ring_size(5_000, 100_000)


def opened(path: Path, *, read_only: bool = False) -> tuple[DirectoryStore, Waypost]:
    store = directory_store(path, read_only=read_only)
    return store, Waypost(Definitions(store, PRESETS["production"], verbose=False))


def make_many(path: Path, number: int) -> list[str]:
    """A store of completed, idle and deleted workflows, one in ten deleted; the ids of those that are there."""
    store, wp = opened(path)
    for name in ("idle", "completed", "deleted"):
        wp.create_workflow(name, name, "s1" if name == "idle" else None, steps=["a"]).unwrap()
    wp.update_step_status("completed", "a", "completed").unwrap()
    wp.delete_workflow("deleted").unwrap()
    store.close()
    kinds = {"completed": number * 6 // 10, "idle": number * 3 // 10, "deleted": number // 10}
    names = {kind: [f"{kind}-{at:06d}" for at in range(count)] for kind, count in kinds.items()}
    for kind in kinds:
        copies(path, kind, names[kind], FIRST_US)
    return ["idle", "completed", *names["idle"], *names["completed"]]


def let_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what was written until now count as written a while ago."""
    monkeypatch.setattr(index, "SETTLED_NS", 20_000_000)
    until = time.time_ns() + 40_000_000
    while time.time_ns() < until:
        time.sleep(0.01)


def shown(wp: Waypost, **query: Any) -> list[Any]:
    return list(wp.list_workflows(StateQuery(limit=10_000, **query)))


def test_c06_lists_taken_at_the_same_time_miss_nothing(tmp_path: Path) -> None:
    """Threads that list the documents of one store at once each see all of them."""
    make_many(tmp_path / "s", 3_000)
    store = directory_store(tmp_path / "s", read_only=True)
    seen: list[int] = []
    threads = [
        threading.Thread(target=lambda: seen.extend(len(set(store.documents("workflow"))) for _ in range(20)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    assert set(seen) == {3_003}


LISTER = """
import json, os, resource, sys
from tests.store.test_many import opened
from waypost.queries import StateQuery
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
store, wp = opened(sys.argv[1])
def resident():
    with open("/proc/self/status") as status:
        return next(int(row.split()[1]) for row in status if row.startswith("VmHWM")) // 1024
before = resident()
totals = [
    wp.list_workflows(StateQuery(limit=50)).total,
    wp.list_workflows(StateQuery(limit=50, status=["idle"])).total,
    wp.list_workflows(StateQuery(limit=50, session_id="s1")).total,
]
print(json.dumps([totals, resident() - before, len(os.listdir("/proc/self/fd")), len(store._documents)]))
"""


@pytest.mark.timeout(600)
def test_x27_a_list_of_many_workflows_stays_within_bounds(tmp_path: Path) -> None:
    """With 100 descriptors, 64 MB more and no document kept open, a list sees all workflows, in a new process and in
    one that has the index.
    """
    there = make_many(tmp_path / "s", MANY)
    idle = MANY * 3 // 10 + 1
    for _ in range(2):
        command = [sys.executable, "-c", LISTER, str(tmp_path / "s")]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
        assert ran.returncode == 0, ran.stderr
        totals, megabytes, descriptors, held = json.loads(ran.stdout)
        assert totals == [len(there), idle, idle]
        assert megabytes <= 64
        assert descriptors <= 20 and held == 0


@pytest.mark.timeout(600)
def test_x27_a_page_reads_only_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a store was listed, a page opens as many logs as changed since, also in another handle; so do filters."""
    make_many(tmp_path / "s", MANY)
    let_settle(monkeypatch)
    store, wp = opened(tmp_path / "s")
    wp.list_workflows()
    store.close()
    store, wp = opened(tmp_path / "s", read_only=True)
    with system_calls() as calls:
        first = wp.list_workflows(StateQuery(limit=50))
        assert calls.count("open") <= 16, "the directories, and the index"
        assert calls.count("pread") <= 2
    queries = [StateQuery(limit=50, status=["idle"]), StateQuery(limit=50, sort_by="size", session_id="s1")]
    with system_calls() as calls:
        pages = [wp.list_workflows(query) for query in queries]
        assert calls.count("open") <= 16 and calls.count("pread") == 0
    other, writer = opened(tmp_path / "s")
    for number in range(3):
        writer.update_context(f"idle-00000{number}", variables={"x": number}).unwrap()
    other.close()
    with system_calls() as calls:
        second = wp.list_workflows(StateQuery(limit=50))
        assert calls.count("open") <= 16
    store.close()
    assert [one.id for one in second][:3] == ["idle-000002", "idle-000001", "idle-000000"]
    assert [one.id for one in second][3:] == [one.id for one in first][:47]
    assert all(one.status == "idle" for page in pages for one in page)


def test_x27_no_answer_depends_on_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torn, foreign, of another boot, out of date or gone: the list is the same."""
    make_many(tmp_path / "s", 1_000)
    let_settle(monkeypatch)
    store, wp = opened(tmp_path / "s")
    wp.list_workflows()
    old = (tmp_path / "s" / "index" / "workflows").read_bytes()
    for number in range(0, 300, 2):
        wp.update_step_status(f"idle-{number:06d}", "a", "completed").unwrap()
    wp.delete_workflow("idle-000001").unwrap()
    wp.create_workflow("deleted-000001", "again", steps=["a", "b"]).unwrap()
    expected = {one.id: wp.load_workflow_state(one.id).unwrap() for one in shown(wp)}
    store.close()
    place = tmp_path / "s" / "index" / "workflows"
    flipped = bytearray(old)
    flipped[len(old) // 2] ^= 1
    for content in (old, b"", old[:40], old[:-1], bytes(flipped), bytes(len(old)), None):
        place.unlink(missing_ok=True)
        if content is not None:
            place.write_bytes(content)
        store, wp = opened(tmp_path / "s", read_only=True)
        found = shown(wp)
        assert [one.id for one in found] == [one.id for one in sorted(found, key=lambda one: (one.updated_at, one.id))][
            ::-1
        ]
        assert {one.id: (one.version, one.status) for one in found} == {
            name: (state.metadata.version, state.workflow.status) for name, state in expected.items()
        }
        assert store.verify().sound
        store.close()
    place.write_bytes(old)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("waypost.clock.boot_id", lambda: "another")
        store, wp = opened(tmp_path / "s", read_only=True)
        assert wp.definitions.store.recall("workflows") is None
        store.close()


def test_c06_a_list_shows_a_commit_made_in_the_same_tick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits that follow each other faster than the file system's clock, and do not change the file's length, show."""
    real = files.Directory.states

    def coarse(folder: files.Directory, suffix: str) -> Iterator[tuple[str, Any]]:
        for name, found in real(folder, suffix):
            second = 1_000_000_000
            written, changed = found.st_mtime_ns // second * second, found.st_ctime_ns // second * second
            shown_as = {"st_ino": found.st_ino, "st_size": found.st_size}
            yield name, SimpleNamespace(st_mtime_ns=written, st_ctime_ns=changed, **shown_as)

    monkeypatch.setattr(files.Directory, "states", coarse)
    store, wp = opened(tmp_path / "s")
    other, looking = opened(tmp_path / "s", read_only=True)
    wp.create_workflow("w", "w").unwrap()
    for number in range(100):
        wp.update_context("w", variables={"x": number}).unwrap()
        (one,) = looking.list_workflows()
        assert one.version == number + 2
    store.close()
    other.close()


def test_c06_pages_stay_what_they_are_while_others_write(tmp_path: Path) -> None:
    """Pages by time of creation hold each workflow once, while another handle changes them all the time."""
    there = make_many(tmp_path / "s", 120)
    store, wp = opened(tmp_path / "s")
    other, looking = opened(tmp_path / "s", read_only=True)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            wp.update_context(there[number * 7 % len(there)], variables={"x": number}).unwrap()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for order in ("asc", "desc"):
            found: list[str] = []
            offset: int | None = 0
            while offset is not None:
                page = looking.list_workflows(StateQuery(sort_by="created", sort_order=order, limit=19, offset=offset))
                found += [one.id for one in page]
                assert page.total == len(there)
                offset = page.next_offset
            assert sorted(found) == sorted(there)
    finally:
        stop.set()
        writer.join()
    store.close()
    other.close()


def test_x27_a_list_lets_go_of_nothing_that_is_in_use(tmp_path: Path) -> None:
    """The documents that a handle has open stay open through a list of many more."""
    make_many(tmp_path / "s", 500)
    store, wp = opened(tmp_path / "s")
    for number in range(100):
        wp.update_context(f"idle-{number:06d}", variables={"x": number}).unwrap()
    held = len(os.listdir("/proc/self/fd"))
    before = list(store._documents)
    wp.list_workflows()
    assert list(store._documents) == before
    assert len(os.listdir("/proc/self/fd")) <= held + 1, "the directory of the index"
    store.close()


def test_n01_one_log_that_is_no_log_does_not_hide_the_others(tmp_path: Path) -> None:
    """A link, a pipe or rubbish under a name that tells no id leaves the list of the rest as it is."""
    there = make_many(tmp_path / "s", 20)
    folder = tmp_path / "s" / "workflows"
    (folder / f"{'a' * 72}__{'0' * 40}.state").symlink_to("/dev/null")
    os.mkfifo(folder / f"{'b' * 72}__{'0' * 40}.state")
    (folder / f"{'c' * 72}__{'0' * 40}.state").write_bytes(b"WPF\x01" + bytes(300))
    (folder / "UPPER.state").mkdir()
    store, wp = opened(tmp_path / "s", read_only=True)
    assert {one.id for one in shown(wp)} == set(there)
    store.close()


def test_a_list_unpacks_each_block_of_a_long_workflow_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever order the steps have: that of their keys, in which they stand, is another one."""
    store, wp = opened(tmp_path / "s")
    wp.create_workflow("w", "W", steps=[f"{'abcdefgh'[at % 8]}-{at:04}" for at in range(2_000)]).unwrap()
    monkeypatch.setattr(Document, "snapshot_is_due_at_rest", staticmethod(lambda state: True))
    store.close()
    monkeypatch.undo()
    unpacked: list[int] = []
    real = blocks.bodies.read_entries
    monkeypatch.setattr(blocks.bodies, "read_entries", lambda data: (unpacked.append(len(data)), real(data))[1])
    store, wp = opened(tmp_path / "s")
    (one,) = wp.list_workflows()
    assert one.step_counts["pending"] == 2_000 and 4 < len(unpacked) < 40
    state = wp.load_workflow_state("w").unwrap()
    assert [
        step.id for step in loading.every_step(store.view(DocumentId("workflow", "w")))
    ] == state.workflow.steps.ids()
    store.close()
