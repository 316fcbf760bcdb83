"""Transactions and their decisions when a store is verified, repaired, backed up and restored."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.conftest import make_config
from tests.store.support import TestedStore, change, directory_store
from waypost.errors import DocumentDamaged
from waypost.store import DocumentId, JointChange
from waypost.store.directory import backup, compaction, loading
from waypost.store.directory.context import Context
from waypost.store.directory.decisions import Piece
from waypost.store.directory.document import Document
from waypost.store.directory.log_check import Report
from waypost.store.directory.mending import RepairReport
from waypost.store.directory.repair import repair
from waypost.store.directory.upkeep import Upkeep

A, B, C, D = (DocumentId("workflow", name) for name in "abcd")


@pytest.fixture(autouse=True)
def _no_upkeep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions are carried out when a test asks for it, or by closing."""
    monkeypatch.setattr(Upkeep, "ask", lambda self, document: None)
    monkeypatch.setattr(Upkeep, "ask_to_settle", lambda self: None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


def put(store: TestedStore, value: bytes, *documents: DocumentId) -> None:
    if len(documents) == 1:
        store.submit(change(documents[0], lambda tx: tx.put("x", value))).result()
        return
    joint = store.begin()
    for document in documents:
        joint.document(document).put("x", value)
    assert store.commit(joint, JointChange(value.decode(), "test")) is not None


def x_of(path: Path, *documents: DocumentId) -> list[bytes | None]:
    store = directory_store(path, read_only=True)
    try:
        return [store.view(document).get("x") for document in documents]
    finally:
        store.close()


def log_of(path: Path, document: DocumentId) -> Path:
    return path / "workflows" / f"{document.id}.state"


def verified(path: Path) -> Report:
    store = directory_store(path, read_only=True)
    try:
        return store.verify()
    finally:
        store.close()


def mended(path: Path, *, dry_run: bool = False) -> RepairReport:
    return repair(str(path), make_config(), dry_run=dry_run)


def undecided_frames(monkeypatch: pytest.MonkeyPatch, *documents: DocumentId) -> None:
    """Frames of these documents are decided on, and not written: as if the process died in between."""
    real = Document.put

    def refuse(self: Document, *args: Any) -> None:
        if self.id not in documents:
            real(self, *args)

    monkeypatch.setattr(Document, "put", refuse)


def with_pending(path: Path, *lacking: DocumentId) -> None:
    """A store whose process died before it wrote what it had decided into some logs of three."""
    store = directory_store(path)
    put(store, b"1", A, B)
    store._settle()
    with pytest.MonkeyPatch.context() as patch:
        undecided_frames(patch, *lacking)
        put(store, b"2", A, B, C)
        for each in store._documents.values():
            each.forget()
            each._wrote = False
    store._lease.abandon()


def damage(report: Report) -> list[str]:
    return [f"{Path(found.file).name}: {found.text}" for found in report.findings if found.severity == "damage"]


def half_a_transaction(path: Path) -> None:
    """B's log is put back to where it was before the last transaction."""
    store = directory_store(path)
    put(store, b"1", A, B)
    store.close()
    shutil.copy(log_of(path, B), path.parent / "before")
    store = directory_store(path)
    put(store, b"2", A, B, C)
    put(store, b"3", A)
    store.close()
    assert not damage(verified(path))
    shutil.copy(path.parent / "before", log_of(path, B))


def test_d12_e05_half_a_transaction_is_damage_with_its_place(path: Path) -> None:
    """Logs that were copied at different moments are told by what their commits say of each other."""
    half_a_transaction(path)
    found = damage(verified(path))
    assert len(found) == 2, found
    assert all("version 2 of workflow 'b'" in each for each in found)
    assert {each[:7] for each in found} == {"a.state", "c.state"}


@pytest.mark.parametrize("others", [(B,), (B, D)], ids=["alone", "in another transaction"])
def test_d12_another_commit_at_that_version_is_no_counterpart(path: Path, others: tuple[DocumentId, ...]) -> None:
    """A log that went another way since then does not hold its half, though it has that version."""
    half_a_transaction(path)
    store = directory_store(path)
    put(store, b"other", *others)
    store.close()
    assert len(damage(verified(path))) == 2


def test_d12_what_history_has_dropped_is_not_missed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a compaction has dropped one half's commit, the other half says nothing against it."""
    store = directory_store(path)
    put(store, b"1", A, B)
    put(store, b"2", B)
    store._settle()
    monkeypatch.setattr(compaction, "DAY_US", -1)
    assert store.tidy(B, "compact")
    store.close()
    assert verified(path).sound


def test_e10_half_a_transaction_is_mended_by_dropping_the_history_that_names_it(path: Path) -> None:
    """What is there stays as it is, the log as it was is kept, and the store is sound and can be backed up again."""
    half_a_transaction(path)
    assert [each.file for each in mended(path, dry_run=True).repaired] == ["workflows/a.state", "workflows/c.state"]
    before = log_of(path, A).read_bytes()
    report = mended(path)
    assert [(each.file, each.action, each.kept_version, each.history_from) for each in report.repaired] == [
        ("workflows/a.state", "written anew", 3, 2),
        ("workflows/c.state", "written anew", 1, 1),
    ]
    assert (path / "damaged" / "a.state.1").read_bytes() == before
    assert verified(path).sound
    assert x_of(path, A, B, C) == [b"3", b"1", b"2"]
    assert not mended(path).repaired
    store = directory_store(path)
    put(store, b"4", A, B)
    store.backup(str(path.parent / "saved"))
    assert store.view_at(A, 3) is not None
    store.close()


def test_e10_half_a_transaction_is_mended_in_one_run_with_what_else_is_amiss(path: Path) -> None:
    """What `verify` does not look for while anything is damaged, a repair looks for once nothing else is."""
    half_a_transaction(path)
    (path / ".gitignore").write_bytes(b"?")
    assert len(damage(verified(path))) == 1
    done = [each.file for each in mended(path).repaired]
    assert done == [".gitignore", "workflows/a.state", "workflows/c.state"]
    assert verified(path).sound and not mended(path).repaired


@pytest.mark.parametrize("lacking", [(A,), (B, C), (A, B, C)], ids=str)
def test_d12_a_decision_in_flight_is_sound(path: Path, lacking: tuple[DocumentId, ...]) -> None:
    """Verifying says that it waits, and misses nothing of it."""
    with_pending(path, *lacking)
    report = verified(path)
    assert report.sound
    assert any("decides a commit over 3 documents" in found.text for found in report.findings)
    assert x_of(path, A, B, C) == [b"2", b"2", b"2"]


def test_e10_a_decision_that_cannot_be_read_is_moved_aside(path: Path) -> None:
    """Nothing can be read while it is there; afterwards what it had decided and was not written is told as missing."""
    with_pending(path, B, C)
    (decision,) = (path / "transactions").iterdir()
    data = bytearray(decision.read_bytes())
    data[len(data) // 2] ^= 1
    decision.write_bytes(data)
    (path / "transactions" / "stray").write_bytes(b"?")
    with pytest.raises(DocumentDamaged, match="a decision over several documents is damaged"):
        x_of(path, A)
    assert len(damage(verified(path))) == 2
    assert mended(path, dry_run=True).repaired
    report = mended(path)
    assert [(each.file, each.action) for each in report.repaired] == [
        (f"transactions/{decision.name}", "moved aside"),
        ("transactions/stray", "moved aside"),
        ("workflows/a.state", "written anew"),
    ]
    assert (path / "damaged" / f"{decision.name}.1").read_bytes() == bytes(data)
    assert x_of(path, A, B, C) == [b"2", b"1", None]
    assert verified(path).sound


def test_e10_a_decision_under_the_name_of_another_is_refused(path: Path) -> None:
    """A copy of a decision under a second name is none, or one transaction would be decided twice."""
    with_pending(path, A)
    (decision,) = (path / "transactions").iterdir()
    shutil.copy(decision, path / "transactions" / ("0" * 32))
    with pytest.raises(DocumentDamaged, match=f"it is that of transaction {decision.name}"):
        x_of(path, A)
    assert [(each.file, each.action) for each in mended(path).repaired] == [
        (f"transactions/{'0' * 32}", "moved aside"),
    ]
    assert x_of(path, A, B, C) == [b"2", b"2", b"2"]


def test_d12_what_was_decided_is_not_laid_over_a_log_that_was_compacted_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader who found that a log lacks it opens that log again; by then it may be in, and the log another."""
    with_pending(path, A)
    large = Random(1).randbytes(4000)
    real, done = loading.load, []

    def load(context: Context, document: DocumentId, *, decided: list[Piece] | None = None) -> Any:
        if decided and not done:
            done.append(True)
            writer = directory_store(path)
            writer._settle()
            put(writer, large, A)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(compaction, "DAY_US", -1)
                assert writer.tidy(A, "compact")
            writer.close()
        return real(context, document, decided=decided)

    monkeypatch.setattr(loading, "load", load)
    assert x_of(path, A, B, C) == [large, b"2", b"2"]
    assert done


def test_d12_a_repair_carries_out_what_was_decided(path: Path) -> None:
    """Also into a log that is damaged before the place: the decision holds what belongs there."""
    with_pending(path, A, C)
    assert not mended(path).repaired
    assert not list((path / "transactions").iterdir())
    assert x_of(path, A, B, C) == [b"2", b"2", b"2"]
    assert verified(path).sound


def test_d12_a_repair_of_a_damaged_log_keeps_what_was_decided_for_it(path: Path) -> None:
    """A log that is written anew from its salvage holds the commit that was decided and not written yet."""
    with_pending(path, A)
    data = bytearray(log_of(path, A).read_bytes())
    data[60] ^= 1  # in the first frame, so that the log cannot be read as it is
    log_of(path, A).write_bytes(data)
    (entry,) = mended(path).repaired
    assert (entry.file, entry.action, entry.kept_version) == ("workflows/a.state", "written anew", 2)
    assert x_of(path, A, B, C) == [b"2", b"2", b"2"]
    assert verified(path).sound
    assert not list((path / "transactions").iterdir())


def test_d12_a_decision_that_was_carried_out_before_a_compaction_stays_out_of_a_repair(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its frames belong into a file that is no more, and would hide what is whole in the one that is there."""
    with_pending(path, A)
    (decision,) = (path / "transactions").iterdir()
    decided = decision.read_bytes()
    large = Random(1).randbytes(4000)
    store = directory_store(path)
    store._settle()
    put(store, large, A)
    monkeypatch.setattr(compaction, "DAY_US", -1)
    assert store.tidy(A, "compact")
    store.close()
    data = bytearray(log_of(path, A).read_bytes())
    data[60] ^= 1  # in the first frame, so that the log cannot be read as it is
    log_of(path, A).write_bytes(data)
    decision.write_bytes(decided)
    (entry,) = mended(path).repaired
    assert (entry.action, entry.is_exact, entry.kept_version) == ("written anew", True, 3)
    assert x_of(path, A, B, C) == [large, b"2", b"2"]
    assert verified(path).sound


def test_e10_a_decision_over_a_log_that_is_gone_is_moved_aside(path: Path) -> None:
    """The others get what was decided for them; what cannot be written anywhere is kept in the decision."""
    with_pending(path, A, B)
    log_of(path, B).unlink()
    report = mended(path)
    assert [each.action for each in report.repaired] == ["moved aside", "written anew", "written anew"]
    assert "nothing here" in report.repaired[0].found
    assert x_of(path, A, B, C) == [b"2", None, b"2"]
    assert verified(path).sound


# --- backups ---


def test_e05_a_backup_holds_each_transaction_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that comes between the points of two documents is copied with both of its commits."""
    store = directory_store(path)
    put(store, b"0", B, C)
    put(store, b"1", A)
    real, done = backup._point, []

    def point(*args: Any) -> Any:
        found = real(*args)
        if found is not None and found.document == A and not done:
            done.append(True)
            put(store, b"2", A, C)
            put(store, b"3", C, B)
            put(store, b"4", A)
        return found

    monkeypatch.setattr(backup, "_point", point)
    store.backup(str(path.parent / "saved"))
    store.close()
    assert x_of(path.parent / "saved", A, B, C) == [b"2", b"3", b"3"]
    assert verified(path.parent / "saved").sound


@pytest.mark.parametrize("lacking", [(A,), (B, C), (A, B, C)], ids=str)
def test_e05_a_backup_holds_what_was_decided_and_not_written(path: Path, lacking: tuple[DocumentId, ...]) -> None:
    """Also of a document that has no log yet."""
    with_pending(path, *lacking)
    store = directory_store(path, read_only=True)
    store.backup(str(path.parent / "saved"))
    store.close()
    assert x_of(path.parent / "saved", A, B, C) == [b"2", b"2", b"2"]
    assert verified(path.parent / "saved").sound


def test_e05_a_backup_starts_over_when_history_goes_meanwhile(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what was committed meanwhile has been dropped already nobody could tell what belongs together."""
    store = directory_store(path)
    put(store, b"1", A)
    put(store, b"1", C)
    real, points = backup._point, []

    def point(*args: Any) -> Any:
        found = real(*args)
        points.append(found)
        if len(points) == 1:
            put(store, b"2", A, C)
            put(store, b"3", C)
            store._settle()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(compaction, "DAY_US", -1)
                assert store.tidy(C, "compact")
        return found

    monkeypatch.setattr(backup, "_point", point)
    store.backup(str(path.parent / "saved"))
    store.close()
    assert x_of(path.parent / "saved", A, C) == [b"2", b"3"]


def test_d12_a_restore_puts_decisions_aside_with_the_logs_that_they_speak_of(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was decided over the logs that go, and could not be carried out first, is not in those that come."""
    saved = path.parent / "saved"
    with_pending(path, A, B, C)
    store = directory_store(path, read_only=True)
    store.backup(str(saved))
    store.close()
    other = path.parent / "other"
    with_pending(other, A, C)
    (decision,) = (other / "transactions").iterdir()
    store = directory_store(other)
    monkeypatch.setattr(TestedStore, "_settle", lambda self: frozenset())
    told = store.restore_backup(str(saved), allow_older=True)
    store.close()
    assert (other / told.replaced / "transactions" / decision.name).exists()
    assert not list((other / "transactions").iterdir())
    assert x_of(other, A, B, C) == [b"2", b"2", b"2"]
    assert verified(other).sound
