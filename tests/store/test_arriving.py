"""Versions that are taken in: nobody sees one before it is adopted, and from then on nothing loses it."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.store.needed import calm, die, path
from tests.store.support import WF, TestedStore, change, directory_store, failing, system_calls
from tests.store.test_checkpoints import contents, files, make, name_of, put, remove
from waypost.errors import DocumentDamaged, LockTimeout, StoreUnavailable
from waypost.store import ContentLost, DocumentId, JointChange, Store, View
from waypost.store.contract import ADOPTED
from waypost.store.directory import arriving, checkpoints, keeping, log
from waypost.store.memory import MemoryStore

__all__ = ["calm", "path"]

pytestmark = pytest.mark.usefixtures("calm")
LARGE = os.urandom(200_000)
NAME = name_of(7)
Check = Callable[[], None]


@pytest.fixture(params=["memory", "directory"])
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[Store]:
    opened: Store = MemoryStore() if request.param == "memory" else directory_store(path, chunk_size=4096)
    yield opened
    opened.close()


def foreign(document: DocumentId = WF, value: bytes = b"elsewhere", number: int = 7) -> View:
    """A version of a document as another store has it."""
    other = MemoryStore()
    for each in range(3):
        other.submit(change(document, lambda tx, each=each: tx.put("n", b"%d" % each))).result()
    other.submit(change(document, lambda tx: [tx.put("a", value), tx.put("large", LARGE)])).result()
    make(other, number, b=b"made there") if document == WF else None
    return other.view(document)


def adopt(store: Store, check: Check, name: str = NAME, document: DocumentId = WF) -> None:
    def work(tx) -> None:
        check()
        tx.put(ADOPTED + name, b"said of it")

    store.submit(change(document, work)).result()


def arrivals(path: Path) -> list[str]:
    return sorted(each.name for each in (path / "temp").iterdir() if each.name.endswith(".arriving"))


def is_whole(path: Path, version: View) -> None:
    """The checkpoint is that version, whoever opens the store, and nothing is amiss."""
    with closing(directory_store(path)) as store:
        assert contents(store.checkpoint(WF, NAME)) == contents(version)
    with closing(directory_store(path, read_only=True)) as store:
        assert {each.severity for each in store.verify().findings} <= {"note"}
    assert not arrivals(path)
    (path / "workflows" / "wf.state").unlink()
    with closing(directory_store(path, read_only=True)) as store:
        assert contents(store.checkpoint(WF, NAME)) == contents(version)


def test_what_is_taken_in_is_seen_once_it_is_adopted(store: Store) -> None:
    """By its name, with the version, sums and commit id that it had; what the document is stays as it is."""
    put(store, a=b"here")
    version = foreign()
    check = store.take_in(version, NAME)
    assert (store.checkpoint(WF, NAME), store.checkpoints(WF)) == (None, [])
    adopt(store, check)
    found = store.checkpoint(WF, NAME)
    assert found is not None and contents(found) == contents(version)
    assert (found.version, found.checksum, found.commit_id) == (5, version.checksum, version.commit_id)
    assert store.checkpoints(WF) == [NAME] and store.view(WF).get("a") == b"here"
    assert contents(store.view(WF)) == {"a": b"here", ADOPTED + NAME: b"said of it"}
    store.verify_checkpoint(WF, NAME)
    store.submit(change(WF, lambda tx: tx.delete(ADOPTED + NAME))).result()
    assert (store.checkpoint(WF, NAME), store.checkpoints(WF)) == (None, [])


def test_checkpoints_of_both_kinds_stand_side_by_side(store: Store) -> None:
    """What was made here and what was taken in are one list, sorted, and neither is in the other's way."""
    made = {number: make(store, number, a=b"%d" % number) for number in (3, 9)}
    version = foreign()
    adopt(store, store.take_in(version, NAME))
    made[12] = make(store, 12, a=b"after")
    assert store.checkpoints(WF) == [name_of(number) for number in (3, 7, 9, 12)]
    remove(store, 9)
    assert contents(store.checkpoint(WF, NAME)) == contents(version)
    assert all(contents(store.checkpoint(WF, name_of(number))) == made[number] for number in (3, 12))


def test_d01_it_is_durable_before_it_is_adopted(path: Path) -> None:
    """File and name are synced before taking it in returns, and adopting it is a commit like any other."""
    with closing(directory_store(path)) as store:
        put(store, a=b"1")
        store.layout.folder("checkpoints")
        with system_calls() as calls:
            check = store.take_in(foreign(), NAME)
            names = [name for name, _, _ in calls.trace]
            assert [name for name in names if name in ("pwrite", "fsync", "rename")][-3:] == [
                "fsync",
                "rename",
                "fsync",
            ]
            calls.trace.clear()
            adopt(store, check)
            assert calls.count("fsync") + calls.count("fdatasync") == 1


@pytest.mark.parametrize("moment", ["taken in", "adopted", "given its place"])
def test_d14_whoever_dies_leaves_all_of_it_or_nothing(path: Path, moment: str) -> None:
    """Before the commit nothing was there, and what was taken in is removed; after it, it gets its place."""
    version, store = foreign(), directory_store(path)
    put(store, a=b"1")
    check = store.take_in(version, NAME)
    if moment != "taken in":
        adopt(store, check)
    if moment == "given its place":
        store._document(WF).keep_checkpoints(newest_only=True)
    die(store)
    del check
    with closing(directory_store(path, read_only=True)) as reader:  # which may change nothing
        found = reader.checkpoint(WF, NAME)
        assert contents(found) == (None if moment == "taken in" else contents(version))
        severities = {each.severity for each in reader.verify().findings}
        assert severities == ({"leftover", "note"} if moment == "taken in" else {"note"})
    assert arrivals(path) == ([] if moment == "given its place" else [checkpoints.arrival_name(NAME)])
    if moment == "taken in":
        directory_store(path).close()
        assert not arrivals(path) and NAME not in str(files(path))
    else:
        is_whole(path, version)


def test_d14_what_a_dead_process_was_giving_its_place_has_it(path: Path) -> None:
    """It died between the two names, and of neither is anything lost."""
    version, store = foreign(), directory_store(path)
    put(store, a=b"1")
    adopt(store, store.take_in(version, NAME))
    store.layout.folder("checkpoints")
    with system_calls() as calls:
        calls.fault = failing("fsync", 1)
        with pytest.raises(StoreUnavailable):
            keeping.give_place(store._context, NAME)
    die(store)
    assert arrivals(path) and files(path)
    is_whole(path, version)


def test_d23_it_gets_its_place_once_the_commit_is_durable(path: Path) -> None:
    """Its writer died, and nobody else knows whether the commit that adopts it was synced."""
    store = directory_store(path)
    put(store, a=b"1")
    adopt(store, store.take_in(foreign(), NAME))
    die(store)
    with system_calls() as calls:
        directory_store(path).close()
        names = [name for name, _, _ in calls.trace]
        assert "fdatasync" in names[: names.index("link")]


def test_what_is_adopted_gets_its_place_beside_its_log(path: Path) -> None:
    """Upkeep and closing give it, as they write the files of others; then the log may be lost."""
    version = foreign()
    with closing(directory_store(path)) as store:
        put(store, a=b"1")
        adopt(store, store.take_in(version, NAME))
        assert store._document(WF).keeping_is_due
        store._document(WF).keep_checkpoints(newest_only=True)
        assert files(path) == {checkpoints.file_name(NAME)} and not arrivals(path)
    is_whole(path, version)


def test_a_living_process_keeps_what_it_took_in(path: Path) -> None:
    """Whoever opens the store meanwhile, or takes something else in, leaves it; once it is let go of, it goes."""
    with closing(directory_store(path)) as store:
        put(store, a=b"1")
        check = store.take_in(foreign(), NAME)
        directory_store(path).close()
        other = store.take_in(foreign(value=b"other", number=8), name_of(8))
        assert len(arrivals(path)) == 2
        adopt(store, check)
        del check, other
        directory_store(path).close()
        assert not arrivals(path) and files(path) == {checkpoints.file_name(NAME)}


def test_c09_a_commit_that_comes_late_finds_what_it_adopts(path: Path) -> None:
    """Whether it is adopted is looked at only once nobody can adopt it any more: it was, between lock and look."""
    version, store = foreign(), directory_store(path)
    put(store, a=b"1")
    check = store.take_in(version, NAME)
    real = checkpoints.names_now

    def late(*args, **kwargs):
        adopt(store, lambda: None)
        return real(*args, **kwargs)

    del check
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "names_now", late)
        arriving.settle(store._context)
    store.close()
    is_whole(path, version)


def test_another_import_under_the_same_id_has_to_wait(path: Path) -> None:
    """The same version may be taken in twice at once; another one is refused, and nothing of the first is lost."""
    version = foreign()
    with closing(directory_store(path)) as store:
        put(store, a=b"1")
        first = store.take_in(version, NAME)
        with pytest.raises(LockTimeout, match="being imported"):
            store.take_in(foreign(value=b"forged"), NAME)
        second = store.take_in(version, NAME)
        adopt(store, first)
        del first, second
    assert not [each for each in (path / "temp").iterdir() if each.name.endswith(".new")]
    is_whole(path, version)


def test_what_another_process_gave_its_place_meanwhile_has_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waited for the folder finds nothing to do."""
    version = foreign()
    with closing(directory_store(path)) as store, closing(directory_store(path)) as other:
        put(store, a=b"1")
        adopt(store, store.take_in(version, NAME))
        real = keeping.alone

        def after_the_other(*args):
            monkeypatch.undo()
            other._document(WF).keep_checkpoints(newest_only=False)
            return real(*args)

        monkeypatch.setattr(keeping, "alone", after_the_other)
        store._document(WF).keep_checkpoints(newest_only=False)
    is_whole(path, version)


def test_what_was_removed_can_be_imported_again(path: Path) -> None:
    """Files of what is gone are removed late, and by then it may be there again: it stays."""
    version = foreign()
    with closing(directory_store(path)) as store:
        put(store, a=b"1")
        for _ in range(2):
            adopt(store, store.take_in(version, NAME))
            store._document(WF).keep_checkpoints(newest_only=False)
            if store.view(WF).version == 2:
                store.submit(change(WF, lambda tx: tx.delete(ADOPTED + NAME))).result()
                store._document(WF).keep_checkpoints(newest_only=False)
                assert not files(path)
        late = keeping.Wanted(WF, [], {NAME}, store._context.restores)
        keeping.let_go(store._context, late)  # by a process that had looked at the document in between
        assert contents(store.checkpoint(WF, NAME)) == contents(version)
    is_whole(path, version)


def test_what_a_restore_took_away_is_taken_in_again(path: Path, tmp_path: Path) -> None:
    """A work that adopts it after that fails with ContentLost, and so prepares again."""
    with closing(directory_store(path)) as store:
        put(store, a=b"1")
        store.backup(str(tmp_path / "saved"))
        check = store.take_in(foreign(), NAME)
        store.restore_backup(str(tmp_path / "saved"))
        with pytest.raises(ContentLost):
            adopt(store, check)
        assert store.checkpoints(WF) == []


def test_a_backup_has_what_is_still_to_get_its_place(path: Path, tmp_path: Path) -> None:
    """Under the name that it will have."""
    version, store = foreign(), directory_store(path)
    put(store, a=b"1")
    adopt(store, store.take_in(version, NAME))
    assert [each.file for each in store.backup(str(tmp_path / "saved")).checkpoints] == [checkpoints.file_name(NAME)]
    store.close()
    is_whole(tmp_path / "saved", version)


def test_a_transaction_adopts_it_or_does_not(path: Path) -> None:
    """A commit over several documents names it; where its process dies behind the decision, it is there."""
    version, other = foreign(), DocumentId("workflow", "other")
    store = directory_store(path)
    put(store, a=b"1")
    check = store.take_in(version, NAME)
    joint = store.begin()
    joint.document(WF).put(ADOPTED + NAME, b"x")
    joint.document(other).put("a", b"1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log.Log, "put", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.commit(joint, JointChange("op", "test"))
    check()
    del check
    die(store)
    is_whole(path, version)


def test_e06_a_full_disk_leaves_nothing_of_it(path: Path) -> None:
    """Whichever call fails: the store is as before, also for others, and the same works once there is room."""
    version, store = foreign(), directory_store(path)
    put(store, a=b"1")
    for name in ("pwrite", "fsync", "rename"):
        with system_calls() as calls:
            calls.fault = failing(name, 1, errno.ENOSPC, onwards=True)
            with pytest.raises(StoreUnavailable):
                store.take_in(version, NAME)
        assert (store.checkpoint(WF, NAME), store.checkpoints(WF)) == (None, [])
        assert not [each for each in (path / "temp").iterdir() if each.name.endswith(".new")]
    adopt(store, store.take_in(version, NAME))
    store.close()
    is_whole(path, version)


def test_a_damaged_arrival_is_in_nobodys_way(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is told of, and a whole one takes its place."""
    version, store = foreign(), directory_store(path)
    put(store, a=b"1")
    store.close()
    place = path / "temp" / checkpoints.arrival_name(NAME)
    place.write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING), closing(directory_store(path)) as store:
        assert "damaged" in caplog.text and place.exists()
        assert {each.severity for each in store.verify().findings} == {"leftover", "note"}
        adopt(store, store.take_in(version, NAME))
    is_whole(path, version)


def test_two_processes_take_in_the_same_at_once(path: Path) -> None:
    """Whoever is first adopts it, the others find it adopted, and it is whole."""
    version = foreign()
    stores = [directory_store(path) for _ in range(3)]
    put(stores[0], a=b"1")

    def work(store: TestedStore) -> None:
        for _ in range(5):
            check = store.take_in(version, NAME)
            adopt(store, check)
            store._document(WF).keep_checkpoints(newest_only=False)

    threads = [threading.Thread(target=work, args=(each,)) for each in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(contents(each.checkpoint(WF, NAME)) == contents(version) for each in stores)
    for each in stores:
        each.close()
    is_whole(path, version)


def test_documents_of_which_nothing_else_is_left_are_told(store: Store, path: Path) -> None:
    """With the names of their checkpoints; those that have a log are not among them, nor is what was only taken in."""
    make(store, 1, a=b"1")
    other = DocumentId("workflow", "other")
    for each in ("other@1", "other@2"):
        adopt(store, store.take_in(foreign(other), each), each, other)
    check = store.take_in(foreign(DocumentId("workflow", "third")), "third@1")
    assert store.left("workflow") == {}
    if not isinstance(store, TestedStore):
        return
    store.close()
    check()
    (path / "workflows" / "other.state").unlink()
    (path / "checkpoints" / "other_402.checkpoint").write_bytes(b"damaged")
    with closing(directory_store(path)) as again:
        assert again.left("workflow") == {"other": ["other@1"]} and again.left("session") == {}
        with pytest.raises(DocumentDamaged):
            again.checkpoint(other, "other@2")


def test_what_came_too_late_to_be_removed_is_not_read_for_what_is_adopted_next(path: Path) -> None:
    """Whoever saw the first one adopted gives it its place when it has gone already, and nobody looks after that."""
    with closing(directory_store(path)) as store:
        put(store, a=b"here")
        first, second = foreign(value=b"first"), foreign(value=b"second")
        adopt(store, store.take_in(first, NAME))
        store.reclaim(WF)
        place = path / "checkpoints" / checkpoints.file_name(NAME)
        late = place.read_bytes()
        store.submit(change(WF, lambda tx: tx.delete(ADOPTED + NAME))).result()
        store.reclaim(WF)
        assert not place.exists()
        place.write_bytes(late)
        adopt(store, store.take_in(second, NAME))
        assert contents(store.checkpoint(WF, NAME)) == contents(second)
    is_whole(path, second)
