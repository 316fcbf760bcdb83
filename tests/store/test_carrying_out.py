"""Decisions that several processes carry out at once: nothing of them is lost, and none comes back.

Two stores of one process on one directory stand for two processes; where one of them is stopped, the other goes on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.store.support import TestedStore, directory_store
from tests.store.test_receiving import A, B, arrive, cannot, here, opened, putting, same, source, take, unsettled
from waypost.errors import LockTimeout, StoreUnavailable
from waypost.store import Store
from waypost.store.directory import decisions, files, receiving
from waypost.store.directory.repair import repair
from waypost.store.directory.transactions import TransactionMender
from waypost.store.memory import MemoryStore

__all__ = ["source"]


@pytest.fixture
def two(tmp_path: Path, source: MemoryStore) -> tuple[TestedStore, TestedStore]:
    """A store in which the arrival of two documents was decided, whose logs are still to get their places, and another
    that knows nothing of it yet.
    """
    store = unsettled(tmp_path)
    received = take(store, source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decisions.Whole, "put_in_place", cannot)
        assert arrive(store, received)
    received.close()
    return store, unsettled(tmp_path)


def pending(store: TestedStore) -> list[str]:
    return os.listdir(store.layout.folder(decisions.FOLDER).path)


def meanwhile(patch: pytest.MonkeyPatch, store: TestedStore, method: str, act: Callable[[], object]) -> None:
    """Something happens once, right before a method of a store's decisions."""
    ours = store._context.decisions
    real = getattr(ours, method)

    def first(*args: Any, **kwargs: Any) -> Any:
        patch.setattr(ours, method, real)
        act()
        return real(*args, **kwargs)

    patch.setattr(ours, method, first)


# --- decisions ---


@pytest.mark.parametrize("way", ["view", "backup"])
def test_d12_a_decision_that_was_carried_out_does_not_come_back(
    two: tuple[TestedStore, TestedStore], tmp_path: Path, source: MemoryStore, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Who has found one, and is stopped before he makes sure of it, looks again: what it names is gone by then."""
    store, other = two
    meanwhile(monkeypatch, other, "confirm", store._settle)
    seen: Store = other
    if way == "backup":
        other.backup(str(tmp_path / "backup"))
        seen = directory_store(tmp_path / "backup", read_only=True)
    assert same(seen, source, A) and same(seen, source, B)
    assert pending(store) == []
    for each in {seen, store, other}:
        each.close()
    third = opened(tmp_path)
    assert here(third) == [A, B] and third.verify().sound
    third.close()


def test_d12_no_decision_is_removed_while_it_is_written_again(
    two: tuple[TestedStore, TestedStore], source: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would come back right behind its removal."""
    store, other = two
    (body,) = store._context.decisions.pending().values()
    monkeypatch.setattr(decisions, "LOCK_TIMEOUT_S", 0)

    def remove() -> None:
        with pytest.raises(LockTimeout):
            store._context.decisions.remove(body.transaction_id, body.folder)

    meanwhile(monkeypatch, other, "_put", remove)
    assert same(other, source, A)
    assert pending(store) == [body.transaction_id]
    store._settle()
    assert pending(store) == [] and same(other, source, B)
    store.close()
    other.close()


def test_c06_who_makes_sure_of_a_decision_does_not_wait_for_another_who_does(
    two: tuple[TestedStore, TestedStore], source: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be it that he was stopped while he wrote it again."""
    store, other = two
    third = unsettled(tmp_path)
    monkeypatch.setattr(decisions, "LOCK_TIMEOUT_S", 0)
    meanwhile(monkeypatch, other, "_put", lambda: third.view(A))
    assert same(other, source, A) and same(third, source, A)
    assert len(pending(store)) == 1
    for each in (store, other, third):
        each.close()


# --- names of logs that arrive ---


def test_d12_a_log_that_arrived_keeps_its_name_while_two_carry_it_out(
    tmp_path: Path, source: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has been through all logs, and removes the decision and what it names while the other is at one of them."""
    store, other = unsettled(tmp_path), unsettled(tmp_path)
    received = take(store, source)
    assert arrive(store, received)
    received.close()
    theirs, real = other._context.decisions, other._context.decisions.pieces_for
    monkeypatch.setattr(theirs, "place_for_good", _looking_then(theirs, store._settle))
    other._settle()
    assert pending(store) == [] and real(A) == []
    assert sorted(os.listdir(tmp_path / "store" / "workflows")) == ["a.state"]
    store.close()
    other.close()
    third = opened(tmp_path)
    assert here(third) == [A, B] and third.verify().sound
    third.close()


def _looking_then(ours: decisions.Decisions, act: Callable[[], object]) -> Callable[..., None]:
    """`place_for_good` of one who is stopped behind his look at decisions, with the log's lock held: whoever carries
    them out was through with that log before.
    """
    real = ours.place_for_good

    def place_for_good(document: Any, log: Any) -> None:
        found = ours.pieces_for(document)
        log.file.unlock()
        act()
        assert log.lock() is not None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ours, "pieces_for", lambda _: found)
            patch.setattr(ours, "_stands", lambda _: True, raising=False)
            real(document, log)

    return place_for_good


def _placed_without_word(store: TestedStore, document: Any) -> Path:
    """A log gets its name, and its maker dies before that is durable; the name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decisions.Whole, "note_place", cannot)
        with pytest.raises(StoreUnavailable):
            store._document(document).settle()
    return Path(store.layout.documents(document.kind).path) / decisions.file_name(document)


def test_d12_a_name_that_is_not_known_to_be_durable_is_given_anew_before_the_decision_goes(
    two: tuple[TestedStore, TestedStore], source: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where who gave it anew died in between, when it was gone: then all of that is done again."""
    store, other = two
    named = _placed_without_word(store, A)
    assert named.exists()
    with monkeypatch.context() as patch:
        patch.setattr(decisions.Whole, "put_in_place", cannot)
        with pytest.raises(StoreUnavailable):
            other._document(A).settle()
    assert not named.exists() and same(other, source, A)
    store._settle()
    assert named.exists() and pending(store) == []
    assert same(store, source, A) and same(other, source, A)
    store.close()
    other.close()


def test_d12_who_finds_a_decision_gone_takes_no_name_away(
    two: tuple[TestedStore, TestedStore], source: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What said that the log has its place may be gone before the log's first name is."""
    store, other = two
    theirs = other._context.decisions
    body = next(iter(theirs.pending().values()))
    store._document(A).settle()
    store._document(B).settle()
    folder = store.layout.folder("temp").open_directory(body.folder)
    assert folder is not None and folder.remove("a.state.placed")  # the removal is cut off behind this one
    store.layout.folder(decisions.FOLDER).remove(body.transaction_id)
    monkeypatch.setattr(theirs, "pending", lambda: {body.transaction_id: body})  # as it was looked at before
    monkeypatch.setattr(decisions.Whole, "put_in_place", cannot)
    other._document(A).settle()
    assert same(store, source, A)
    store.close()
    other.close()


def test_d12_a_backup_holds_what_got_its_place_while_it_was_looked_for(
    two: tuple[TestedStore, TestedStore], tmp_path: Path, source: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a look at its name, which was free, and one at decisions, of which there were none any more."""
    store, other = two
    for document in (A, B):
        store.layout.documents(document.kind).remove(decisions.file_name(document))  # an empty file
    meanwhile(monkeypatch, other, "pieces_for", store._settle)
    other.backup(str(tmp_path / "backup"))
    copy = directory_store(tmp_path / "backup", read_only=True)
    assert same(copy, source, A) and same(copy, source, B)
    for each in (copy, store, other):
        each.close()


def test_c08_nobody_gives_a_log_its_name_while_another_does(
    two: tuple[TestedStore, TestedStore], source: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds the name free while it is given anew waits for the lock of the log that is to have it."""
    store, other = two
    named = _placed_without_word(store, A)
    held = store.layout.documents(A.kind).open(named.name)
    assert held is not None and held.try_lock()
    named.unlink()  # as who gives it anew does
    monkeypatch.setattr(decisions, "LOCK_TIMEOUT_S", 0)
    with pytest.raises(LockTimeout):
        other.submit(putting(A, "x", b"1")).result()
    assert not named.stat().st_size
    held.unlock()
    other.submit(putting(A, "x", b"1")).result()
    assert store.view(A).get("x") == b"1"
    store.close()
    other.close()


def test_c04_who_has_waited_to_give_a_log_its_name_sees_that_another_did(
    two: tuple[TestedStore, TestedStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is another file by now, or the same with more in it, and stays."""
    store, other = two
    ours, placed = store._context.decisions, []

    def compacted_meanwhile(whole: decisions.Whole, log: Any, timeout_s: float) -> None:
        if placed:
            real(whole, log, timeout_s)
            return
        (Path(log.folder.path) / log.name).unlink()
        other.submit(putting(A, "x", b"1")).result()
        assert other.tidy(A, "compact")
        placed.append(log.folder.identity(log.name))
        real(whole, log, timeout_s)
        assert log.folder.identity(log.name) == placed[0]

    real = ours._place
    monkeypatch.setattr(ours, "_place", compacted_meanwhile)
    store.submit(putting(A, "y", b"2")).result()
    assert placed and (store.view(A).get("x"), store.view(A).get("y")) == (b"1", b"2")
    store.close()
    other.close()


# --- directories of logs that arrive ---


def test_c01_a_child_keeps_no_directory_locked_that_its_parent_imports_into(
    tmp_path: Path, source: MemoryStore
) -> None:
    """What its parent was taking in when it died is a leftover, however long the child lives."""
    store = opened(tmp_path)
    received: Any = take(store, source)
    is_up, may_end = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(may_end[1])
        os.write(is_up[1], b"!")
        os.read(may_end[0], 1)
        os._exit(0)
    os.close(may_end[0])
    os.read(is_up[0], 1)
    os.close(received._folder.descriptor)  # as the kernel does for one that is killed
    received._folder.descriptor = -1
    left = files.open_path(str(tmp_path / "store" / "temp" / received.name))
    assert left.try_lock()
    os.close(may_end[1])
    os.waitpid(child, 0)
    left.close()
    store.close()


# --- a repair beside them ---


def test_n05_a_repair_leaves_alone_what_a_living_process_takes_in(tmp_path: Path, source: MemoryStore) -> None:
    """Or has just decided on: what was acknowledged would be gone with it."""
    store = unsettled(tmp_path)
    received = take(store, source)
    assert repair(store.location, store._config, dry_run=False).repaired == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decisions.Whole, "put_in_place", cannot)
        patch.setattr(TransactionMender, "carry_out", lambda _: [arrive(store, received), received.close()][2:])
        patch.setattr(TransactionMender, "mend_torn", lambda _: None)
        assert all(
            each.action != "moved aside" for each in repair(store.location, store._config, dry_run=False).repaired
        )
    assert here(store) == [A, B]
    store.close()


def test_d12_a_repair_removes_a_decision_for_good_before_what_it_names(
    two: tuple[TestedStore, TestedStore], source: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were its removal lost with the power, it would name what is not there any more."""
    store, other = two
    synced: list[str] = []
    real = files.Directory.sync

    def sync(self: files.Directory) -> None:
        real(self)
        if not pending(store) and len(os.listdir(os.path.join(store.location, "temp"))):
            synced.append(os.path.basename(self.path))

    monkeypatch.setattr(files.Directory, "sync", sync)
    assert repair(store.location, store._config, dry_run=False).repaired == []
    assert synced == [decisions.FOLDER] and os.listdir(os.path.join(store.location, "temp")) == []
    assert same(store, source, A) and same(other, source, B)
    store.close()
    other.close()


def test_d12_what_a_decision_named_goes_only_once_that_is_gone_for_good(
    two: tuple[TestedStore, TestedStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who removed the decision died before he made that durable: it could come back, and name what is not there."""
    store, other = two
    with monkeypatch.context() as patch:
        patch.setattr(decisions.Decisions, "remove_arrived", lambda *_: None)
        store._settle()
    assert pending(store) == [] and len(os.listdir(os.path.join(store.location, "temp"))) == 1
    synced: list[str] = []
    real = files.Directory.sync
    monkeypatch.setattr(
        files.Directory, "sync", lambda self: (synced.append(os.path.basename(self.path)), real(self))[1]
    )
    receiving.sweep(other._context)
    assert synced[0] == decisions.FOLDER and os.listdir(os.path.join(store.location, "temp")) == []
    store.close()
    other.close()


def _first_log(store: TestedStore) -> Path:
    return next(Path(store.location, "temp").glob("*.import/*.state"))


def test_e10_a_log_that_was_decided_on_and_is_gone_is_told(two: tuple[TestedStore, TestedStore]) -> None:
    """Though nothing has its place yet: what was acknowledged is missing."""
    store, other = two
    _first_log(store).unlink()
    report = other.verify()
    assert not report.sound
    assert [(each.severity, "and is gone" in each.text) for each in report.findings if each.severity == "damage"] == [
        ("damage", True)
    ]


def test_e10_a_damaged_log_that_was_decided_on_is_told_and_mended(
    two: tuple[TestedStore, TestedStore], source: MemoryStore
) -> None:
    """One repair is enough: it mends it once it has its place."""
    store, other = two
    log = _first_log(store)
    data = bytearray(log.read_bytes())
    at = data.index(b"WPF", 200)  # its first commit, before which is nothing to lose
    data[at + 100] ^= 1
    log.write_bytes(data)
    report = other.verify()
    assert {each.severity for each in report.findings} >= {"damage"} and not report.sound
    assert {each.file for each in report.findings if each.severity == "damage"} == {str(log)}
    assert "leftover" not in {each.severity for each in report.findings}
    (mended,) = repair(store.location, store._config, dry_run=False).repaired
    assert (mended.action, mended.id, mended.kept_version) == ("written anew", "a", 6)
    for each in (store, other):
        each.close()
    with_it = unsettled(Path(store.location).parent)
    assert with_it.verify().sound and same(with_it, source, B)
    with_it.close()


@pytest.mark.parametrize("frame", [0, -2])
def test_e10_a_log_that_was_decided_on_and_cannot_be_read_is_salvaged(
    two: tuple[TestedStore, TestedStore], source: MemoryStore, frame: int
) -> None:
    """Its first frame or its newest snapshot is damaged, so the decision cannot be carried out to its end:
    the log gets its place all the same, and one repair keeps all of it.
    """
    store, other = two
    log = _first_log(store)
    data = bytearray(log.read_bytes())
    frames = [found.start() for found in re.finditer(b"WPF\x01", data)]
    data[frames[frame] + 50] ^= 1
    log.write_bytes(data)
    done = repair(store.location, store._config, dry_run=False).repaired
    assert [(each.action, each.kept_version) for each in done if each.id == "a"] == [("written anew", 6)]
    assert repair(store.location, store._config, dry_run=False).repaired == []
    for each in (store, other):
        each.close()
    with_it = unsettled(Path(store.location).parent)
    assert with_it.verify().sound and same(with_it, source, A) and same(with_it, source, B)
    with_it.close()
