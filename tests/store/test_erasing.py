"""What a document says is erased goes from every version of it, in every store, and from every file of a directory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.files import files_with
from tests.store.support import WF, TestedStore, change, directory_store
from waypost import clock
from waypost.codec import bodies
from waypost.codec.frame import ERASED_FORMAT, FORMAT_VERSION, FrameType, read_header
from waypost.errors import DocumentDamaged, StoreUnavailable, UnsupportedFormat, ValueErased
from waypost.maintenance import repair
from waypost.store import DocumentId, JointChange, Store, Transaction, parts
from waypost.store.contract import ADOPTED, CHECKPOINT
from waypost.store.directory import backup, checkpoints, compaction, erasing, keeping, upkeep
from waypost.store.directory.checkpoints import file_name
from waypost.store.directory.log import Log
from waypost.store.erasures import ERASED
from waypost.store.memory import MemoryStore

CANARY = b"canary-8d20-secret"
LARGE = CANARY * 1000
PLAIN = {"enabled": False, "chunk_size": 4096}


@pytest.fixture(params=["memory", "directory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened: Store = MemoryStore() if request.param == "memory" else directory_store(tmp_path / "store", **PLAIN)
    yield opened
    opened.close()


def put(store: Store, **values: bytes) -> int:
    def work(tx: Transaction) -> None:
        for key, value in values.items():
            tx.put(key, value)

    return store.submit(change(WF, work)).result().version


def decide(store: Store, *keys: str) -> None:
    """Commit that these parts are erased, or all whose keys begin so."""

    def work(tx: Transaction) -> None:
        for each in list(tx.keys()):
            if any(each == key or (key.endswith("\x1f") and each.startswith(key)) for key in keys):
                tx.delete(each)
        for key in keys:
            tx.put(ERASED + key, msgspec.msgpack.encode([tx.time_us, "told"]))

    store.submit(change(WF, work)).result()


def erase(store: Store, *keys: str) -> list[str]:
    decide(store, *keys)
    return store.erase(WF)


def filled(store: Store) -> None:
    """Six versions: small and large parts that hold the canary, and two checkpoints."""
    put(store, a=b"1", secret=CANARY)
    put(store, **{"big\x1f1": LARGE, "b": b"2"})
    put(store, **{f"{CHECKPOINT}wf@1": b"first"})
    put(store, secret=CANARY + b"2", c=b"3")
    put(store, **{"big\x1f2": LARGE + b"2", f"{CHECKPOINT}wf@2": b"second"})
    put(store, a=b"4")


def sums_of(store: Store) -> list[tuple[bytes, bytes, int]]:
    views = [store.view_at(WF, number) for number in range(1, store.view(WF).version + 1)]
    return [(view.commit_id, view.checksum, view.size_bytes) for view in views if view is not None]


def held(view: Any) -> dict[str, bytes | None]:
    return {key: None if view.erased(key) is not None else view.get(key) for key in view.keys()}


def findings(store: TestedStore) -> list[Any]:
    return [each for each in store.verify().findings if each.severity != "note"]


# --- over every store ---


def test_an_erased_part_is_refused_in_every_version(store: Store) -> None:
    """It keeps its key and its length, reading it raises, and its digest is what it adds to the checksum."""
    filled(store)
    erase(store, "secret", "big\x1f")
    for number in range(1, 7):
        view = store.view_at(WF, number)
        assert view is not None and view.size_of("secret") == len(CANARY) + (number > 3)
        value = CANARY + (b"2" if number > 3 else b"")
        digest = parts.part_checksum(b"secret", value).to_bytes(32, "big")
        assert (view.erased("secret"), view.erased("a"), view.erased("none")) == (digest, None, None)
        for read in (view.get, view.pieces):
            with pytest.raises(ValueErased) as caught:
                read("secret")
            assert (caught.value.size_bytes, caught.value.digest) == (len(value), digest.hex())
    assert held(store.view_at(WF, 5)) == {
        "a": b"1", "b": b"2", "c": b"3", "secret": None, "big\x1f1": None, "big\x1f2": None,
        f"{CHECKPOINT}wf@1": b"first", f"{CHECKPOINT}wf@2": b"second",
    }  # fmt: skip
    now = store.view(WF)
    assert list(now.keys("secret")) == [] and now.erased("secret") is None and now.get("secret") is None


def test_commits_keep_their_ids_and_tell_what_they_put(store: Store) -> None:
    """Ids, versions, checksums and sizes stay; a commit still names the part, and reading it from there raises."""
    filled(store)
    before = sums_of(store)
    erase(store, "secret", "big\x1f")
    assert sums_of(store)[:-1] == before
    commits = {commit.version: commit for commit in store.past(WF).commits()}
    assert dict(commits[4].puts) == {"secret": len(CANARY) + 1, "c": 1}
    assert commits[4].read("c") == b"3"
    with pytest.raises(ValueErased):
        commits[4].read("secret")
    assert [commits[number].commit_id for number in range(1, 7)] == [each[0] for each in before]


def test_checkpoints_lose_it_too(store: Store) -> None:
    """Each reads as before but for what was erased, those that stand on others included."""
    filled(store)
    store.reclaim(WF)
    erase(store, "secret", "big\x1f")
    first, second = store.checkpoint(WF, "wf@1"), store.checkpoint(WF, "wf@2")
    assert held(first) == {"a": b"1", "b": b"2", "secret": None, "big\x1f1": None, f"{CHECKPOINT}wf@1": b"first"}
    assert held(second) == held(store.view_at(WF, 5))
    for name in ("wf@1", "wf@2"):
        store.verify_checkpoint(WF, name)


def test_a_view_of_before_stays_as_it_is(store: Store) -> None:
    """Who has looked at a version before it was erased can still read it: a view never changes."""
    filled(store)
    before, then = store.view(WF), store.view_at(WF, 2)
    assert then is not None
    erase(store, "secret", "big\x1f")
    assert (before.get("secret"), then.get("big\x1f1")) == (CANARY + b"2", LARGE)


def test_erasing_nothing_does_nothing(store: Store) -> None:
    """A document that says of nothing that it is erased stays as it is, and so does one that there is not."""
    assert store.erase(WF) == []
    filled(store)
    before = sums_of(store)
    assert store.erase(WF) == [] and sums_of(store) == before


def test_what_comes_later_is_not_covered(store: Store) -> None:
    """A part that is put again is another one, and erasing something else leaves it alone."""
    filled(store)
    erase(store, "secret")
    number = put(store, secret=b"new")
    erase(store, "big\x1f")
    assert store.view(WF).get("secret") == b"new"
    assert store.view_at(WF, number).get("secret") == b"new"  # type: ignore[union-attr]
    assert store.view_at(WF, 4).erased("secret")  # type: ignore[union-attr]


def test_a_key_that_begins_like_an_erased_one_is_another(store: Store) -> None:
    """Only a key that ends with the separator stands for all that begin so."""
    put(store, secret=CANARY, secret2=b"2")
    erase(store, "secret")
    view = store.view_at(WF, 1)
    assert view is not None and view.get("secret2") == b"2" and view.erased("secret")


def test_an_adopted_version_loses_it_whatever_its_time(store: Store) -> None:
    """A version that was taken in has the times of another clock: all that is there loses what is erased."""
    elsewhere = MemoryStore()
    elsewhere.submit(change(WF, lambda tx: tx.put("secret", CANARY))).result()
    version = elsewhere.view(WF)
    version.time_us += 10**12  # type: ignore[misc]
    put(store, a=b"1")
    check = store.take_in(version, "wf@9")
    store.submit(change(WF, lambda tx: (check(), tx.put(f"{ADOPTED}wf@9", b"")))).result()
    assert store.checkpoint(WF, "wf@9").get("secret") == CANARY  # type: ignore[union-attr]
    erase(store, "secret")
    kept = store.checkpoint(WF, "wf@9")
    assert kept is not None and kept.erased("secret") and kept.checksum == version.checksum


# --- on disk ---


def test_no_file_holds_it_and_all_is_sound(tmp_path: Path) -> None:
    """Before and after closing; with snapshots, compactions and files of checkpoints before and behind."""
    store = directory_store(tmp_path / "s", **PLAIN)
    filled(store)
    store.tidy(WF, "snapshot")
    store.tidy(WF, "keep")
    assert len(files_with(tmp_path, CANARY)) == 3
    erase(store, "secret", "big\x1f")
    assert files_with(tmp_path, CANARY) == [] and findings(store) == []
    put(store, d=b"5")
    store.tidy(WF, "snapshot")
    store.tidy(WF, "compact")
    expected = held(store.view_at(WF, 5)), sums_of(store)
    store.close()
    again = directory_store(tmp_path / "s", **PLAIN)
    assert (held(again.view_at(WF, 5)), sums_of(again)) == expected and findings(again) == []
    again.close()
    assert files_with(tmp_path, CANARY) == []


def test_v07_only_files_without_what_was_erased_are_of_a_new_format(tmp_path: Path, monkeypatch: Any) -> None:
    """A release that does not know erased parts refuses such files, and reads all others, which are as they were."""
    store = directory_store(tmp_path / "s", **PLAIN)
    filled(store)
    store.tidy(WF, "keep")
    log = tmp_path / "s" / "workflows" / "wf.state"
    assert _format_of(store, log) == FORMAT_VERSION == 1
    erase(store, "big\x1f")
    put(store, **{f"{CHECKPOINT}wf@3": b"third"})
    store.tidy(WF, "keep")
    store.close()
    store = directory_store(tmp_path / "s", **PLAIN)
    folder = tmp_path / "s" / "checkpoints"
    numbers = {name: _format_of(store, folder / file_name(name)) for name in ("wf@1", "wf@2", "wf@3")}
    store.close()
    assert numbers == {"wf@1": 2, "wf@2": 2, "wf@3": 1}
    monkeypatch.setattr(bodies, "ERASED_FORMAT", 1)
    old = directory_store(tmp_path / "s", read_only=True, **PLAIN)
    with pytest.raises(UnsupportedFormat, match="format 2"):
        old.view(WF)
    with pytest.raises(UnsupportedFormat, match="format 2"):
        old.checkpoint(WF, "wf@1")
    assert ERASED_FORMAT == 2


def _format_of(store: TestedStore, path: Path) -> int:
    folder = store.layout.folder(path.parent.name)
    log = store._context.open_log(folder, path.name, write=False)
    assert log is not None and log.first(path.stat().st_size) is not None and log.body is not None
    return log.body.format


def test_a_log_without_erasures_is_as_it_was(tmp_path: Path) -> None:
    """Compaction writes no erasures frame, and a commit has nine items, where nothing was ever erased."""
    store = directory_store(tmp_path / "s", **PLAIN)
    filled(store)
    store.tidy(WF, "compact")
    log = _log(store)
    assert compaction.erased_before(log) == {} and FrameType.ERASURES not in _types(log)
    contents = [found.content()[0] for found in compaction.commits(log, log.end)]
    assert {len(msgspec.msgpack.decode(each)) for each in contents} == {9}
    store.close()


def _log(store: TestedStore) -> Log:
    document = store._document(WF)
    document.view(durable=False)
    assert document._log is not None
    return document._log


def _types(log: Log) -> list[int]:
    first = log.frame_at(0, log.end)
    assert first is not None
    return [found.header.type for found in log.hop(first.end, first.header.checksum, log.end)]


def test_a_decision_that_was_not_carried_out_is_by_whoever_closes_next(tmp_path: Path) -> None:
    """Its process died behind the commit: a reader leaves it, and who has written carries it out when he closes."""
    store = directory_store(tmp_path / "s", **PLAIN)
    filled(store)
    store.tidy(WF, "keep")
    decide(store, "secret", "big\x1f")
    store._documents.clear()  # nothing is closed
    store.close()
    reader = directory_store(tmp_path / "s", read_only=True, **PLAIN)
    assert reader.view(WF).get("secret") is None and held(reader.view_at(WF, 2))["secret"] == CANARY
    reader.close()
    assert len(files_with(tmp_path, CANARY)) == 3
    (tmp_path / "s" / "backups").mkdir()
    (tmp_path / "s" / "backups" / "wf.state.4").write_bytes(CANARY)
    writer = directory_store(tmp_path / "s", **PLAIN)
    put(writer, e=b"5")
    writer.close()
    assert files_with(tmp_path, CANARY) == []
    again = directory_store(tmp_path / "s", **PLAIN)
    assert findings(again) == [] and not compaction.erasing_is_due(_log(again), again.view(WF))
    again.close()


def test_an_erasure_that_another_decided_is_carried_out_when_it_is_asked_for_again(tmp_path: Path) -> None:
    """Also by a process that has only read the document, and writes nothing to it."""
    store = directory_store(tmp_path / "s", **PLAIN)
    filled(store)
    decide(store, "secret", "big\x1f")
    other = directory_store(tmp_path / "s", **PLAIN)
    other.view(WF)
    assert other.erase(WF) == [] and files_with(tmp_path, CANARY) == []
    other.close()
    store.close()


def test_an_unreadable_checkpoint_keeps_an_erasure_from_being_acknowledged(tmp_path: Path) -> None:
    """Nobody can take anything out of it: it is told, repair moves it aside, and the erasure removes it there."""
    store = directory_store(tmp_path / "s", **PLAIN)
    filled(store)
    store.tidy(WF, "keep")
    put(store, **{f"{CHECKPOINT}wf@3": b"third"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "DAY_US", -1)
        store.tidy(WF, "compact")
    store.close()
    damaged = tmp_path / "s" / "checkpoints" / file_name("wf@1")
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(bytes(data))
    store = directory_store(tmp_path / "s", **PLAIN)
    with pytest.raises(DocumentDamaged):
        erase(store, "secret", "big\x1f")
    store.close()
    repair(tmp_path / "s")
    store = directory_store(tmp_path / "s", **PLAIN)
    assert f"damaged/{file_name('wf@1')}.1" in store.erase(WF)
    store.close()
    assert files_with(tmp_path, CANARY) == []


def test_a_repair_keeps_what_was_erased_erased(tmp_path: Path) -> None:
    """A damaged log with erased parts is written anew, of the same version, and nothing is due again."""
    store = directory_store(tmp_path / "s", **PLAIN)
    filled(store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "DAY_US", -1)
        store.tidy(WF, "compact")
    put(store, f=b"6")
    erase(store, "secret", "big\x1f")
    put(store, late=b"x" * 300)
    put(store, late=b"y")
    expected = held(store.view_at(WF, 7))
    store.close()
    log = tmp_path / "s" / "workflows" / "wf.state"
    data = bytearray(log.read_bytes())
    data[data.index(b"x" * 300)] ^= 1
    log.write_bytes(bytes(data))
    report = repair(tmp_path / "s")
    assert [each.action for each in report.repaired if each.kind] == ["written anew"]
    store = directory_store(tmp_path / "s", **PLAIN)
    assert findings(store) == [] and store.view(WF).get("late") == b"y"
    assert store.view(WF).get(f"{ERASED}secret") and store.erase(WF) == []
    first = store.checkpoint(WF, "wf@1")
    assert first is not None and first.erased("secret")
    assert expected["secret"] is None
    assert list((tmp_path / "s" / "damaged").iterdir())
    store.close()


def test_d09_every_flipped_bit_of_a_log_with_erased_parts_is_found(tmp_path: Path) -> None:
    """It is closed, so whatever byte is changed is told; and no value that was erased comes of it."""
    store = directory_store(tmp_path / "s", **PLAIN)
    put(store, a=b"1", secret=CANARY)
    put(store, **{f"{CHECKPOINT}wf@1": b"first"})
    erase(store, "secret")
    store.close()
    log = tmp_path / "s" / "workflows" / "wf.state"
    whole = log.read_bytes()
    for at in range(len(whole)):
        log.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        reader = directory_store(tmp_path / "s", read_only=True, **PLAIN)
        report = reader.verify()
        assert not report.sound, at
        reader.close()
    log.write_bytes(whole)


def test_files_of_checkpoints_stand_on_each_other_as_before(tmp_path: Path) -> None:
    """A delta stays one on the same file: erasing does not make each of them as large as all of the document."""
    store = directory_store(tmp_path / "s", **PLAIN)
    filled(store)
    put(store, many=os.urandom(4000), **{f"{CHECKPOINT}wf@3": b"third"})
    store.tidy(WF, "keep")

    def parents() -> dict[str, str | None]:
        folder = store.layout.folder("checkpoints")
        layers = [checkpoints.read_layer(store._context, folder, f"wf@{number}") for number in (1, 2, 3)]
        return {layer.name: layer.parent for layer in layers if layer is not None}

    before = parents()
    assert before["wf@3"] == "wf@2"
    for key in ("secret", "big\x1f"):
        erase(store, key)
        assert parents() == before
    store.close()


# --- beside others ---


@contextmanager
def before_the_folder_is_locked(act: Any) -> Generator[None]:
    """Do something once, just before somebody takes the lock of the folder of checkpoints."""
    real, pending = keeping.alone, [act]

    @contextmanager
    def alone(context: Any, restores: int | None = None) -> Generator[None]:
        if pending:
            pending.pop()()
        with real(context, restores):
            yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeping, "alone", alone)
        yield


def test_a_checkpoint_that_is_written_from_an_older_look_is_without_it(tmp_path: Path) -> None:
    """Another process has read a version, and writes its file behind the erasure: the decision counts for it."""
    store, other = directory_store(tmp_path / "s", **PLAIN), directory_store(tmp_path / "s", **PLAIN)
    filled(store)
    other.view(WF)
    with before_the_folder_is_locked(lambda: erase(store, "secret", "big\x1f")):
        other.tidy(WF, "keep")
    assert files_with(tmp_path, CANARY) == []
    assert held(other.checkpoint(WF, "wf@1"))["secret"] is None
    other.close()
    store.close()
    assert files_with(tmp_path, CANARY) == []


def test_a_damaged_checkpoint_that_is_written_anew_is_without_it(tmp_path: Path) -> None:
    """Another process has found a file damaged, and writes it again from the history that it has open."""
    store, other = directory_store(tmp_path / "s", **PLAIN), directory_store(tmp_path / "s", **PLAIN)
    filled(store)
    store.tidy(WF, "keep")
    damaged = tmp_path / "s" / "checkpoints" / file_name("wf@1")
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    put(other, x=b"1")
    with before_the_folder_is_locked(lambda: erase(store, "secret", "big\x1f")):
        assert not other.tidy(WF, "compact")
    assert files_with(tmp_path, CANARY) == [] and findings(store) == []
    other.close()
    store.close()


def test_an_import_of_before_is_without_it_from_the_beginning(tmp_path: Path) -> None:
    """What is taken in once something is erased is written without it."""
    elsewhere = MemoryStore()
    elsewhere.submit(change(WF, lambda tx: tx.put("secret", CANARY))).result()
    store = directory_store(tmp_path / "s", **PLAIN)
    put(store, a=b"1", secret=CANARY)
    erase(store, "secret")
    taken = store.take_in(elsewhere.view(WF), "wf@9")
    assert files_with(tmp_path, CANARY) == []
    del taken
    store.close()


def test_a_backup_carries_out_what_is_decided_and_copies_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what others decide while it copies; the store is sound, and whoever decided may have died."""
    store = directory_store(tmp_path / "store", **PLAIN)
    put(store, a=CANARY, b=b"other", c=CANARY)
    decide(store, "a")
    store.backup(str(tmp_path / "first"))
    real = backup.points
    late = iter([True])

    def points(*args: Any) -> Any:
        if next(late, False):
            decide(store, "c")
        return real(*args)

    monkeypatch.setattr(backup, "points", points)
    store.backup(str(tmp_path / "second"))
    assert files_with(tmp_path / "second", CANARY) == []
    with closing(directory_store(tmp_path / "second", read_only=True)) as copy:
        assert copy.verify().sound and copy.view(WF).get("b") == b"other"
    store.close()


def test_verify_tells_of_an_erasure_that_is_not_carried_out(tmp_path: Path) -> None:
    """What was decided and cut off is a note of the log until it is gone; carrying it out ends that."""
    store = directory_store(tmp_path / "store", **PLAIN)
    put(store, a=CANARY, b=b"other")
    assert isinstance(store, TestedStore)

    def told() -> list[str]:
        return [found.text for found in store.verify().findings if "to be erased" in found.text]

    assert told() == []
    decide(store, "a")
    assert len(told()) == 1
    assert store.verify().sound
    erasing.carry_out(store._context, store._document(WF), lambda: None)
    assert told() == []
    store.close()


def test_trap_11_any_flipped_bit_of_what_says_that_it_was_carried_out_is_found(tmp_path: Path) -> None:
    """The frame that says which erasures were carried out is below a checksum like any other."""
    path = tmp_path / "store"
    store = directory_store(path, **PLAIN)
    put(store, a=CANARY, b=b"other")
    decide(store, "a")
    store.erase(WF)
    store.close()
    log = path / "workflows" / "wf.state"
    data, at = bytearray(log.read_bytes()), 0
    while (header := read_header(data, at)) is not None and header.type != FrameType.ERASURES:
        at += header.length
    assert header is not None
    for place in range(at, at + header.length):
        for bit in range(8):
            data[place] ^= 1 << bit
            log.write_bytes(data)
            reading = directory_store(path, read_only=True)
            assert any(found.severity == "damage" for found in reading.verify().findings), (place - at, bit)
            reading.close()
            data[place] ^= 1 << bit


def test_an_erasure_waits_for_decisions_that_hold_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as a transaction that put it has its decision on disk nothing is acknowledged."""
    monkeypatch.setattr(upkeep.Upkeep, "ask_to_settle", lambda self: None)
    store = directory_store(tmp_path / "s", **PLAIN)
    joint = store.begin()
    joint.document(WF).put("secret", CANARY)
    joint.document(DocumentId("workflow", "other")).put("x", b"1")
    assert store.commit(joint, JointChange("both", "test")) is not None
    decide(store, "secret")
    with pytest.raises(StoreUnavailable, match="not gone yet"):
        erasing.carry_out(store._context, store._document(WF), lambda: None)
    assert any(each.parent.name == "transactions" for each in files_with(tmp_path, CANARY))
    assert store.erase(WF) == [] and files_with(tmp_path, CANARY) == []
    store.close()


def test_an_import_under_way_is_without_it(tmp_path: Path) -> None:
    """A version that was taken in before the erasure, and is adopted behind it, gets its place without it."""
    elsewhere = MemoryStore()
    elsewhere.submit(change(WF, lambda tx: tx.put("secret", CANARY))).result()
    store, other = directory_store(tmp_path / "s", **PLAIN), directory_store(tmp_path / "s", **PLAIN)
    put(store, a=b"1", secret=CANARY)
    check = other.take_in(elsewhere.view(WF), "wf@9")
    erase(store, "secret")
    other.submit(change(WF, lambda tx: (check(), tx.put(f"{ADOPTED}wf@9", b"")))).result()
    other.tidy(WF, "keep")
    kept = other.checkpoint(WF, "wf@9")
    assert kept is not None and kept.erased("secret")
    other.close()
    store.close()
    assert files_with(tmp_path, CANARY) == []


def test_a_copy_for_a_migration_does_not_outlive_the_erasure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the log that is given its place behind the erasure is none of what the document is, and goes."""
    store, other = directory_store(tmp_path / "s", **PLAIN), directory_store(tmp_path / "s", **PLAIN)
    filled(store)
    version = other.view(WF).version
    real = upkeep._put_backup

    def late(*args: Any) -> bool:
        erase(store, "secret", "big\x1f")
        return real(*args)

    monkeypatch.setattr(upkeep, "_put_backup", late)
    assert not other.keep_generation(WF, version)
    assert files_with(tmp_path, CANARY) == []
    other.close()
    store.close()


def test_a_compaction_of_another_does_not_outlive_the_erasure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has written the log anew, with the value, when the erasure takes the log's place first."""
    store, other = directory_store(tmp_path / "s", **PLAIN), directory_store(tmp_path / "s", **PLAIN)
    filled(store)
    put(other, x=b"1")
    real = upkeep._switch
    pending = [True]

    def late(*args: Any) -> bool:
        if pending:
            pending.pop()
            erase(store, "secret", "big\x1f")
        return real(*args)

    monkeypatch.setattr(upkeep, "_switch", late)
    assert not other.tidy(WF, "compact")
    assert files_with(tmp_path, CANARY) == [] and other.view(WF).get("x") == b"1"
    other.close()
    store.close()
    assert files_with(tmp_path, CANARY) == []


def test_c06_another_process_writes_and_compacts_meanwhile(tmp_path: Path) -> None:
    """All that it was told is committed is there in the end, and nothing that was erased."""
    store = directory_store(tmp_path / "s", enabled=False)
    filled(store)
    command = [sys.executable, "-m", "tests.store.worker", str(tmp_path / "s"), "n", "1", "300", "tidy"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        for number in range(6):
            for _ in range(20):
                assert process.stdout.readline()
            put(store, secret=CANARY + b"%d" % number)
            erase(store, "secret", "big\x1f")
        lines = process.stdout.read().split()
    assert process.returncode == 0 and lines[-1] == b"300"
    assert (store.view(WF).get("total"), store.view(WF).get("n")) == (b"300", b"300")
    assert findings(store) == []
    store.close()
    assert files_with(tmp_path, CANARY) == []


def test_names_of_logs_are_told_apart(tmp_path: Path) -> None:
    """The copies of a document whose name begins like another's are not taken for its own."""
    store = directory_store(tmp_path / "s", **PLAIN)
    filled(store)
    (tmp_path / "s" / "backups").mkdir()
    for name in ("wf2.state.1", "wf.stat", "wf_2e.state.1"):
        (tmp_path / "s" / "backups" / name).write_bytes(b"another's")
    assert erase(store, "secret") == []
    assert len(list((tmp_path / "s" / "backups").iterdir())) == 3
    store.close()


def test_e10_what_was_put_again_outlives_a_repair_whose_clock_is_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version that a repair makes is later than the one it is made of, so that no erasure before that covers it."""
    store = directory_store(tmp_path, **PLAIN)
    put(store, secret=CANARY, big=bytes(range(256)) * 60)
    erase(store, "secret")
    erased_us = store.view(WF).time_us
    put(store, secret=b"new")
    newest_us = store.view(WF).time_us
    store.close()
    log = tmp_path / "workflows" / "wf.state"
    damaged = bytearray(log.read_bytes())
    damaged[damaged.index(bytes(range(256)) * 4)] ^= 1
    log.write_bytes(damaged)
    monkeypatch.setattr(clock, "now_us", lambda: erased_us - 3_600_000_000)
    (repaired,) = repair(str(tmp_path)).repaired
    assert repaired.lost_parts == ("big",)
    reader = directory_store(tmp_path, read_only=True)
    assert reader.view(WF).get("secret") == b"new"
    assert reader.view(WF).time_us > newest_us
    reader.close()
