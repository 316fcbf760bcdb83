"""Checkpoints: versions that are kept for as long as they are wanted, whatever becomes of history and log."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.store.support import WF, TestedStore, change, directory_store, system_calls
from waypost.errors import DocumentDamaged, StoreUnavailable
from waypost.store import DocumentId, Store, Transaction, View
from waypost.store.contract import CHECKPOINT
from waypost.store.directory import checkpoints, compaction, keeping, upkeep
from waypost.store.directory.document import Document
from waypost.store.directory.files import File
from waypost.store.directory.log import Log
from waypost.store.directory.state import DocumentState
from waypost.store.memory import MemoryStore

LARGE = bytes(range(256)) * 64


@pytest.fixture(params=["memory", "directory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened: Store = MemoryStore() if request.param == "memory" else directory_store(tmp_path / "store")
    yield opened
    opened.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


def contents(view: View | None) -> dict[str, bytes | None] | None:
    return None if view is None else {key: view.get(key) for key in view.keys()}


def commit(store: Store, work: Callable[[Transaction], Any], document: DocumentId = WF) -> View:
    version = store.submit(change(document, work)).result().version
    view = store.view_at(document, version)
    assert view is not None
    return view


def name_of(number: int) -> str:
    return f"wf@{number:06}"


def make(store: Store, number: int, **values: bytes) -> dict[str, bytes | None] | None:
    """Commit values together with a checkpoint; what the document holds then."""

    def work(tx: Transaction) -> None:
        for key, value in values.items():
            tx.put(key, value)
        tx.put(CHECKPOINT + name_of(number), b"%d" % number)

    return contents(commit(store, work))


def put(store: Store, **values: bytes) -> None:
    commit(store, lambda tx: [tx.put(key, value) for key, value in values.items()])


def remove(store: Store, *numbers: int) -> None:
    commit(store, lambda tx: [tx.delete(CHECKPOINT + name_of(number)) for number in numbers])


def files(path: Path) -> set[str]:
    return {each.name for each in (path / "checkpoints").iterdir()} - {"lock"}


def written(path: Path, *numbers: int) -> bool:
    """Whether these checkpoints have their files, and there are no others."""
    return files(path) == {checkpoints.file_name(name_of(number)) for number in numbers}


def settle(condition: Callable[[], bool], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "upkeep did not come"
        time.sleep(0.01)


def without_history(store: TestedStore, monkeypatch: pytest.MonkeyPatch, document: DocumentId = WF) -> None:
    """Compact the log so that it holds its newest version and nothing before it."""
    real = compaction.choose_history

    def choose(origin: compaction.Origin, context: Any) -> compaction.History:
        ids = b"".join(found.header.commit_id for found in real(origin, context).kept)
        assert origin.log.body is not None
        return compaction.History(origin.view.version, origin.log.body.dropped + ids, [])

    monkeypatch.setattr(compaction, "choose_history", choose)
    assert store.tidy(document, "compact")
    monkeypatch.undo()


def test_a_checkpoint_is_the_version_whose_commit_put_it(store: Store) -> None:
    """Every store gives it as it was, for as long as its part is there."""
    put(store, a=b"0")
    first = make(store, 1, a=b"1", b=b"1")
    put(store, a=b"2")
    second = make(store, 2, a=b"3")
    commit(store, lambda tx: tx.delete("b"))
    assert store.checkpoints(WF) == [name_of(1), name_of(2)]
    found = store.checkpoint(WF, name_of(1))
    assert found is not None and found.version == 2
    assert contents(found) == first and first is not None and first["a"] == b"1"
    assert contents(store.checkpoint(WF, name_of(2))) == second
    assert store.checkpoint(WF, name_of(3)) is None
    remove(store, 1)
    assert store.checkpoint(WF, name_of(1)) is None
    assert store.checkpoints(WF) == [name_of(2)]
    commit(store, lambda tx: tx.clear())
    assert store.checkpoints(WF) == [] and store.checkpoint(WF, name_of(2)) is None
    assert store.checkpoints(DocumentId("workflow", "never")) == []
    assert store.checkpoint(DocumentId("workflow", "never"), name_of(2)) is None


def test_versions_that_lie_near_each_other_are_compared_by_few_parts(store: Store) -> None:
    """`differing` names every part that differs, in a view and within a transaction that has changed some."""
    views = [commit(store, lambda tx: [tx.put(f"k{number:03}", b"0") for number in range(300)])]
    views += [commit(store, lambda tx, n=number: tx.put(f"k{n:03}", b"1")) for number in range(3)]
    views += [commit(store, lambda tx: [tx.delete("k200"), tx.put("new", b"2")]), commit(store, lambda tx: tx.clear())]
    for one in views:
        for other in views:
            keys = {*one.keys(), *other.keys()}
            assert one.differing(other) >= {key for key in keys if one.get(key) != other.get(key)}
    if not isinstance(store, MemoryStore):
        assert views[1].differing(views[4]) == {"k001", "k002", "k200", "new"}
    commit(store, lambda tx: tx.put("k001", b"again"))

    def work(tx: Transaction) -> set[str]:
        tx.put("k005", b"staged")
        return tx.differing(views[0])

    found = store.submit(change(WF, work)).result().data
    assert {"k001", "k005", "k299"} <= found


def test_the_newest_checkpoint_is_written_out_soon_and_the_others_at_the_end(path: Path) -> None:
    """Nobody waits for it: the commit that makes it is synced once, as any other."""
    store = directory_store(path)
    put(store, a=b"0")
    with system_calls() as calls:
        receipt = store.submit(change(WF, lambda tx: tx.put(CHECKPOINT + name_of(1), b"1"))).result()
        assert receipt.counters.syncs == 1
        assert calls.count("fdatasync") >= 1
    settle(lambda: (path / "checkpoints").exists() and written(path, 1))
    for number in (2, 3, 4):
        make(store, number, a=b"%d" % number)
    settle(lambda: checkpoints.file_name(name_of(4)) in files(path))
    store.close()
    assert written(path, 1, 2, 3, 4)


@pytest.mark.parametrize("lost", ["nothing", "history", "log"])
@pytest.mark.parametrize("chunk_size", [4096, 1 << 20])
def test_trap_13_every_checkpoint_comes_back_whatever_is_lost(
    path: Path, monkeypatch: pytest.MonkeyPatch, lost: str, chunk_size: int
) -> None:
    """Values in blocks and small ones, put, replaced and removed; over more than one chain of deltas."""
    store = directory_store(path, chunk_size=chunk_size)
    rng = random.Random(1)
    expected: dict[int, Any] = {}
    for number in range(80):
        values = {f"k{rng.randrange(40)}": b"%d" % number * rng.randrange(60) for _ in range(3)}
        if number % 9 == 2:
            values["large"] = LARGE[number:]
        expected[number] = make(store, number, **values)
        if number % 7 == 3:
            commit(store, lambda tx: tx.delete(f"k{rng.randrange(40)}"))
    if lost == "history":
        without_history(store, monkeypatch)
    store.close()
    assert len(files(path)) == 80
    if lost == "log":
        (path / "workflows" / "wf.state").unlink()
    for read_only in (True, False):
        again = directory_store(path, read_only=read_only, chunk_size=chunk_size)
        assert again.checkpoints(WF) == [name_of(number) for number in expected]
        for number, held in expected.items():
            found = again.checkpoint(WF, name_of(number))
            assert contents(found) == held, number
            assert found is not None and [*found.keys("k1")] == [key for key in held if key.startswith("k1")]
        amiss = [found.file for found in again.verify().findings if found.severity != "note"]
        assert amiss == ([str(path / "workflows" / "wf.state")] if lost == "log" else [])
        again.close()


def test_trap_12_checkpoints_cost_what_has_changed(path: Path) -> None:
    """A hundred of a document of a thousand parts, one changed before each, take less than half a megabyte."""
    store = directory_store(path)
    rng = random.Random(2)

    def step(number: int) -> bytes:
        text = f'{{"id": "step-{number}", "name": "Analyse part {number} of the survey", "status": "completed", '
        return (
            text + f'"output": {{"rows": {rng.randrange(10**6)}, "digest": "{rng.randbytes(40).hex()}"}}}}'
        ).encode()

    commit(store, lambda tx: [tx.put(f"step{number:04}", step(number)) for number in range(1000)])
    for number in range(100):
        make(store, number, **{f"step{number:04}": step(number)})
    store.close()
    taken = sum((path / "checkpoints" / name).stat().st_size for name in files(path))
    assert len(files(path)) == 100 and taken < 500_000, taken


def test_what_a_removed_checkpoint_was_built_upon_is_written_again(path: Path) -> None:
    """Checkpoints that go take their files with them, and those that stood on them stand without them."""
    store = directory_store(path, chunk_size=4096)
    expected = {number: make(store, number, a=b"%d" % number, large=LARGE[number % 3 :]) for number in range(40)}
    store.close()
    store = directory_store(path, chunk_size=4096)
    left = list(expected)
    for going in ([0], [1, 2, 3], [39], [10, 12, 14, 16], list(range(20, 38))):
        remove(store, *going)
        left = [number for number in left if number not in going]
        settle(lambda left=left: written(path, *left))
        for number in left:
            found = checkpoints.read(store._context, name_of(number))
            assert contents(found) == expected[number], number
    commit(store, lambda tx: tx.clear())
    settle(lambda: files(path) == set())
    store.close()


def closed_with_three(path: Path) -> list[Any]:
    store = directory_store(path, chunk_size=4096)
    store._upkeep.close()  # so that all are written at the end, each on the one before it
    made = [make(store, number, a=b"%d" % number, large=LARGE[number:]) for number in range(3)]
    store.close()
    return made


def test_trap_14_a_damaged_checkpoint_is_never_taken_for_a_whole_one(path: Path) -> None:
    """Any changed byte of its files is refused when it is read, or the version is taken from the log's history."""
    made = closed_with_three(path)
    log = (path / "workflows" / "wf.state").read_bytes()
    rng = random.Random(3)
    for number in (0, 1, 2):
        file = path / "checkpoints" / checkpoints.file_name(name_of(number))
        whole = file.read_bytes()
        for at in sorted(rng.sample(range(len(whole)), 60)):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << rng.randrange(8)
            file.write_bytes(damaged)
            with closing(directory_store(path, read_only=True)) as store, suppress(DocumentDamaged):
                assert not store.verify().sound, at
                assert contents(store.checkpoint(WF, name_of(number))) == made[number], at
            (path / "workflows" / "wf.state").unlink()
            with closing(directory_store(path, read_only=True)) as store, pytest.raises(DocumentDamaged):
                contents(store.checkpoint(WF, name_of(number)))
            (path / "workflows" / "wf.state").write_bytes(log)
        file.write_bytes(whole)


def _swap(first: Path, second: Path) -> None:
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


@pytest.mark.parametrize(
    "harm",
    [
        lambda files: files[0].unlink(),
        lambda files: files[0].write_bytes(files[0].read_bytes()[:-1]),
        lambda files: files[0].write_bytes(b""),
        lambda files: _swap(files[0], files[1]),
        lambda files: files[0].write_bytes(files[2].read_bytes()),
        lambda files: files[1].write_bytes(files[2].read_bytes()),
    ],
    ids=["parent gone", "parent cut", "parent empty", "exchanged", "a cycle", "its own parent"],
)
def test_a_broken_chain_is_an_error_with_its_place(path: Path, harm: Callable[[list[Path]], object]) -> None:
    """Where the log is lost too, what stands on a file that is gone or another one is refused, and nothing else."""
    made = closed_with_three(path)
    there = [path / "checkpoints" / checkpoints.file_name(name_of(number)) for number in range(3)]
    harm(there)
    with closing(directory_store(path, read_only=True)) as store:
        assert [contents(store.checkpoint(WF, name_of(number))) for number in range(3)] == made
    (path / "workflows" / "wf.state").unlink()
    with closing(directory_store(path, read_only=True)) as store, pytest.raises(DocumentDamaged) as told:
        store.checkpoint(WF, name_of(2))
    assert told.value.details["file"].endswith(".checkpoint")


def test_verify_names_checkpoints_that_are_missing_or_too_many(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has neither file nor history is damage; a file that no document speaks of any more is a leftover."""
    store = directory_store(path)
    for number in range(3):
        make(store, number, a=b"%d" % number)
    without_history(store, monkeypatch)
    store.close()
    kept = path / "checkpoints" / checkpoints.file_name(name_of(2))
    whole = kept.read_bytes()
    kept.unlink()
    with closing(directory_store(path, read_only=True)) as store:
        (found,) = [each for each in store.verify().findings if each.severity != "note"]
        assert found.severity == "damage" and name_of(2) in found.text
        with pytest.raises(DocumentDamaged, match=name_of(2)):
            store.checkpoint(WF, name_of(2))
    kept.write_bytes(whole)
    with closing(directory_store(path)) as store:
        monkeypatch.setattr(keeping, "let_go_alone", lambda *_: None)
        remove(store, 2)
    monkeypatch.undo()
    with closing(directory_store(path, read_only=True)) as store:
        assert store.checkpoint(WF, name_of(2)) is None
        assert [(each.severity, each.file) for each in store.verify().findings] == [("leftover", str(kept))]


def test_a_backup_holds_the_checkpoints_and_a_restore_brings_them_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those whose versions history no longer holds; what a restore replaces is kept."""
    store = directory_store(path, chunk_size=4096)
    expected = [make(store, number, a=b"%d" % number, large=LARGE[number:]) for number in range(5)]
    without_history(store, monkeypatch)
    expected += [make(store, number, a=b"%d" % number) for number in (5, 6)]
    backup = store.backup(str(path.with_name("backup")))
    assert {each.file for each in backup.checkpoints} == {checkpoints.file_name(name_of(number)) for number in range(7)}
    with closing(directory_store(path.with_name("backup"), read_only=True)) as copy:
        assert [contents(copy.checkpoint(WF, name)) for name in copy.checkpoints(WF)] == expected
    remove(store, 0, 3)
    make(store, 7, a=b"newer")
    store.close()
    gone = files(path)
    store = directory_store(path, chunk_size=4096)
    store.restore_backup(str(path.with_name("backup")), allow_older=True)
    assert [contents(store.checkpoint(WF, name)) for name in store.checkpoints(WF)] == expected
    store.close()
    assert written(path, *range(7)), "the last two had no file before the backup was made"
    (replaced,) = (path / "backups").glob("before-restore.*")
    assert {each.name for each in (replaced / "checkpoints").iterdir()} - {"lock"} == gone
    with closing(directory_store(path, read_only=True)) as store:
        assert not [found for found in store.verify().findings if found.severity != "note"]


def test_commits_with_checkpoints_do_not_wake_upkeep_each(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is time for one to be written out, commits go on alone; then the newest is written, and all at close."""
    looks: list[object] = []
    look_after = upkeep.Upkeep._look_after
    monkeypatch.setattr(upkeep, "_APART_S", 3600.0)
    monkeypatch.setattr(
        upkeep.Upkeep, "_look_after", lambda self, document: looks.append(document) or look_after(self, document)
    )
    store = directory_store(path)
    document = store._document(WF)
    made = [make(store, 0, value=b"0")]
    settle(lambda: document.keeping_is_put_off)
    made += [make(store, number, value=b"%d" % number) for number in range(1, 60)]
    assert len(looks) <= 4
    assert not any(checkpoints.read(store._context, name_of(number)) for number in (0, 59))
    later = store._upkeep._later
    with store._upkeep._wake:
        later[document] = document.keep_again_at = 0.0
        store._upkeep._wake.notify()
    settle(lambda: checkpoints.read(store._context, name_of(59)) is not None)
    make(store, 60)
    settle(lambda: document.keeping_is_put_off)
    store.close()
    reader = directory_store(path, read_only=True)
    for number in (0, 59, 60):
        kept = checkpoints.read(reader._context, name_of(number))
        assert kept is not None
        assert number == 60 or contents(kept) == made[number]


def test_c01_a_child_of_a_fork_waits_for_no_upkeep_of_its_parent(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parent's upkeep has put off the child's knows nothing of, and is asked for again."""
    monkeypatch.setattr(upkeep, "_APART_S", 3600.0)
    store = directory_store(path)
    make(store, 0)
    document = store._document(WF)
    settle(lambda: document.keeping_is_put_off)
    make(store, 1)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            document.keep_again_at = 0.0
            make(store, 2)
            settle(lambda: checkpoints.read(store._context, name_of(2)) is not None, within_s=10)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    store.close()


def test_large_parts_in_files_and_in_the_log_are_told_apart_by_their_digests(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What differs between a checkpoint's file and the log is found without reading what is the same."""
    store = directory_store(path)
    make(store, 0, same=LARGE * 16, other=LARGE * 16, small=b"1", left=b"2")
    make(store, 1, other=LARGE[::-1] * 16, small=b"3")
    without_history(store, monkeypatch)
    kept = store.checkpoint(WF, name_of(0))
    assert isinstance(kept, checkpoints.Kept)
    for _ in range(2):
        assert store.view(WF).differing(kept) == {"other", "small", CHECKPOINT + name_of(1)}
    store.close()


@pytest.mark.parametrize("place", ["commit", "snapshot", "large part", "unreadable"])
def test_damage_before_the_newest_snapshot_leaves_a_checkpoint_its_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """The log is the shorter way to it, and not the only one: be a commit damaged, a block of the snapshot that no load
    looks at any more, or a large part that was replaced since; or all of that unreadable.
    """
    rng = random.Random(7)
    before, value, replaced = rng.randbytes(300), rng.randbytes(300), rng.randbytes(9000)
    with closing(directory_store(path, enabled=False, chunk_size=4096)) as store:
        several_blocks = {f"d{number:02}": rng.randbytes(2000) for number in range(40)}
        put(store, **several_blocks, d20x=before)
        store.tidy(WF, "compact")
        large = {"large": replaced} if place == "large part" else {}
        kept = make(store, 1, a=value, **large)
        put(store, a=b"later", large=b"now small")
        monkeypatch.setattr(Document, "snapshot_is_due", staticmethod(lambda state: state.frames > 0))
        store.tidy(WF, "snapshot")
        store.reclaim(WF)
    log = path / "workflows" / "wf.state"
    data = bytearray(log.read_bytes())
    commit, snapshot, newest = (found.start() for found in re.finditer(re.escape(before), data))
    assert commit < snapshot < data.index(value) < newest
    place_of = {"commit": data.index(value), "snapshot": snapshot, "large part": data.find(replaced[:4096])}
    data[place_of.get(place, newest - 1)] ^= place in place_of
    log.write_bytes(data)
    monkeypatch.undo()
    with closing(directory_store(path, enabled=False, chunk_size=4096)) as store:
        assert store.view(WF).version == 3
        if place == "unreadable":
            document = store._document(WF)
            frame = document.state_now().base.frame
            assert document._log is not None and frame is not None
            _cannot_be_read_before(monkeypatch, document._log, frame.offset)
        assert contents(store.checkpoint(WF, name_of(1))) == kept


def _cannot_be_read_before(monkeypatch: pytest.MonkeyPatch, log: Log, end: int) -> None:
    """The medium has lost the first `end` bytes of a log."""
    read = File.read

    def refuse(file: File, length: int, offset: int) -> bytes:
        if file is log.file and offset < end:
            raise StoreUnavailable("cannot read it: Input/output error (EIO)", file=file.name, errno="EIO")
        return read(file, length, offset)

    monkeypatch.setattr(File, "read", refuse)


def test_a_checkpoint_from_before_the_snapshot_before_is_not_looked_for_in_commits(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the snapshot before has already was put before it: its file is nearer than all that follows."""
    with closing(directory_store(path)) as store:
        kept = make(store, 1, a=b"1")
        store.tidy(WF, "compact")
        later = make(store, 2, a=b"2")
        monkeypatch.setattr(Document, "snapshot_is_due", staticmethod(lambda state: state.frames > 0))
        store.tidy(WF, "snapshot")
    with closing(directory_store(path)) as store:
        assert store.view(WF).version == 2
        followed: list[object] = []
        follow = DocumentState.follow
        monkeypatch.setattr(
            DocumentState, "follow", lambda state, found: followed.append(found) or follow(state, found)
        )
        assert contents(store.checkpoint(WF, name_of(1))) == kept and not followed
        assert contents(store.checkpoint(WF, name_of(2))) == later and followed
