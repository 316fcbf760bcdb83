"""What was moved aside, whole or in pieces, holds nothing of what is erased: also where it takes a look to tell."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.files import files_with
from tests.store.support import TestedStore, change, directory_store
from tests.store.test_erasing import CANARY, PLAIN, WF, erase, filled, put
from waypost.errors import StoreUnavailable
from waypost.store import DocumentId, JointChange
from waypost.store.directory import restoring, upkeep

OTHERS = (DocumentId("workflow", "other"), DocumentId("workflow", "another"))


def copied(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
    return target


def test_an_erasure_goes_into_the_directories_that_were_moved_aside(tmp_path: Path) -> None:
    """What was to arrive or to be restored is moved aside whole: of that the document's files go, and no other's."""
    path = tmp_path / "s"
    store = directory_store(path, **PLAIN)
    filled(store)
    store.tidy(WF, "keep")
    log, checkpoint = path / "workflows" / "wf.state", next((path / "checkpoints").glob("*.checkpoint"))
    going = {
        copied(log, path / "damaged" / name)
        for name in (
            "0123456789abcdef.import.1/wf.state",
            "0123456789abcdef.import.1/wf.state.placing",
            "restoring.1/workflows/wf.state",
            "restore.1/workflows/wf.state",
            "odd.1/deeper/still/named-otherwise",
        )
    }
    going.add(copied(checkpoint, path / "damaged" / "restoring.1" / "checkpoints" / checkpoint.name))
    going.add(copied(log, path / "backups" / "before-restore.1" / "workflows" / "odd.state" / "wf.state"))
    kept = path / "damaged" / "0123456789abcdef.import.1" / "wf2.state"
    kept.write_bytes(b"another's")
    assert set(erase(store, "secret", "big\x1f")) == {str(each.relative_to(path)) for each in going}
    assert kept.exists()
    store.close()
    assert files_with(path, CANARY) == []


def staged_before_it_was_killed(store: TestedStore, backup: Path) -> None:
    """What a restore leaves in `temp` that is killed before it is decided."""
    source, found = restoring.read(str(backup), store._context)
    restoring.stage(store.layout, store._context, source, found)


def test_an_erasure_reaches_what_a_killed_restore_was_copying(tmp_path: Path) -> None:
    """Logs and checkpoints that were staged and never decided on are copies like those in `backups` and `damaged`."""
    path = tmp_path / "s"
    store = directory_store(path, **PLAIN)
    filled(store)
    store.submit(change(OTHERS[0], lambda tx: tx.put("a", b"1"))).result()
    store.tidy(WF, "keep")
    store.backup(str(tmp_path / "backup"))
    staged_before_it_was_killed(store, tmp_path / "backup")
    files = [
        "workflows/wf.state",
        *(f"checkpoints/{each.name}" for each in (path / "checkpoints").glob("*.checkpoint")),
    ]
    assert sorted(erase(store, "secret", "big\x1f")) == sorted(f"temp/restore/{each}" for each in files)
    assert (path / "temp" / "restore" / "workflows" / "other.state").exists()
    store.close()
    assert files_with(path, CANARY) == []


def test_what_a_killed_restore_was_copying_goes_when_the_store_is_opened(tmp_path: Path) -> None:
    """It may hold what was erased before that: what is in the backup is no copy that the store keeps."""
    store = directory_store(tmp_path / "s", **PLAIN)
    filled(store)
    store.backup(str(tmp_path / "backup"))
    erase(store, "secret", "big\x1f")
    staged_before_it_was_killed(store, tmp_path / "backup")
    store.close()
    directory_store(tmp_path / "s").close()
    assert files_with(tmp_path / "s", CANARY) == [] and not (tmp_path / "s" / "temp" / "restore").exists()


@pytest.mark.parametrize("moment", ["a log is read back", "all is copied"])
def test_a_restore_of_which_something_is_erased_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Another thread takes a copy away that the restore has made: nothing is restored, and it can be done again."""
    store = directory_store(tmp_path / "s", **PLAIN)
    filled(store)
    store.backup(str(tmp_path / "backup"))
    name = "stage" if moment == "all is copied" else "check_log"
    real = getattr(restoring, name)

    def acting(*args: Any) -> Any:
        done = real(*args)
        monkeypatch.setattr(restoring, name, real)
        assert "temp/restore/workflows/wf.state" in erase(store, "secret", "big\x1f")
        return done

    monkeypatch.setattr(restoring, name, acting)
    with pytest.raises(StoreUnavailable, match="restore it again"):
        store.restore_backup(str(tmp_path / "backup"), allow_older=True)
    assert store.view(WF).get("a") == b"4" and files_with(tmp_path / "s", CANARY) == []
    store.restore_backup(str(tmp_path / "backup"), allow_older=True)
    assert store.view(WF).get("secret") == CANARY + b"2"
    store.close()


def decided(store: TestedStore, path: Path, *documents: DocumentId) -> Path:
    """The decision of a transaction over documents, which is on disk still."""
    joint = store.begin()
    for document in documents:
        joint.document(document).put("secret", CANARY if document == WF else b"of %d" % len(documents))
    before = set((path / "transactions").iterdir())
    assert store.commit(joint, JointChange("both", "test")) is not None
    (made,) = set((path / "transactions").iterdir()) - before
    return made


def test_an_erasure_takes_away_decisions_that_were_moved_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision holds frames: one that speaks of the document goes, and one that cannot be read, as does what died
    while it was written; those of others stay.
    """
    monkeypatch.setattr(upkeep.Upkeep, "ask_to_settle", lambda self: None)
    path = tmp_path / "s"
    store = directory_store(path, **PLAIN)
    put(store, a=b"1")
    ours, theirs = decided(store, path, WF, *OTHERS), decided(store, path, *OTHERS)
    aside = path / "damaged"
    going = {
        copied(ours, aside / f"{ours.name}.1"),
        copied(ours, aside / f"{'0' * 32}.2"),  # it cannot be that
        copied(ours, aside / "0123456789abcdef.new.1"),
        copied(ours, aside / "restoring.1" / "transactions" / ours.name),
    }
    draft = aside / "0123456789abcdef.new.2"
    draft.write_bytes(CANARY)
    kept = {
        copied(theirs, aside / f"{theirs.name}.1"),
        copied(path / "workflows" / "another.state", aside / "0123456789abcdef.new.3"),
    }
    assert set(erase(store, "secret")) == {str(each.relative_to(path)) for each in (*going, draft)}
    assert all(each.exists() for each in kept)
    store.close()
    assert files_with(path, CANARY) == []
