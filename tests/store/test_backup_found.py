"""What was found broken in backups and restores: what takes something back, what is left out, and where one may lie."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.store.support import WF, directory_store
from tests.store.test_backup import filled, put
from tests.store.test_checkpoints import contents, make, name_of, remove, without_history, written
from tests.store.test_checkpoints_found import by_files, file_of, flip, keep
from waypost.errors import InvalidInput, Refused
from waypost.store.directory import backup
from waypost.store.reports import Finding


def test_e06_what_went_another_way_is_not_taken_back_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that was restored and went on has commits that no later copy of before has, whatever its versions: not
    one of the same version, nor a longer one, nor one that only knows the ids of what it has dropped.
    """
    store = filled(tmp_path / "store")
    store.backup(str(tmp_path / "early"))
    put(store, WF, b"2")
    store.backup(str(tmp_path / "same"))
    put(store, WF, b"3")
    store.backup(str(tmp_path / "longer"))
    without_history(store, monkeypatch)
    store.backup(str(tmp_path / "shortened"))
    store.restore_backup(str(tmp_path / "early"), allow_older=True)
    put(store, WF, b"another")
    for name in ("same", "longer", "shortened"):
        with pytest.raises(Refused) as caught:
            store.restore_backup(str(tmp_path / name))
        assert caught.value.details["documents"] == ["wf"]
    assert store.view(WF).get("a") == b"another"
    store.close()


def test_a_restore_over_a_log_that_was_written_anew_takes_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How often either log was compacted says nothing: what counts are the commits, also those that history dropped."""
    store = filled(tmp_path / "store")
    store.backup(str(tmp_path / "first"))
    assert store.tidy(WF, "compact")
    store.backup(str(tmp_path / "second"))
    assert store.restore_backup(str(tmp_path / "first")).taken_back == ()
    put(store, WF, b"2")
    without_history(store, monkeypatch)
    store.backup(str(tmp_path / "third"))
    store.restore_backup(str(tmp_path / "second"), allow_older=True)
    assert store.restore_backup(str(tmp_path / "third")).taken_back == ()
    store.close()


def test_e05_a_checkpoint_that_is_removed_meanwhile_is_in_the_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log is copied as it was before: the files are there that it needs, with what they stand on, and no others."""
    path = tmp_path / "store"
    store = directory_store(path)
    made = {number: make(store, number, a=b"%d" % number, **{f"k{number}": b"1"}) for number in range(4)}
    keep(store)
    left = file_of(path, 3).read_bytes()
    remove(store, 3)
    without_history(store, monkeypatch)
    assert written(path, 0, 1, 2)
    file_of(path, 3).write_bytes(left)  # a dead process did not come to removing it
    real = backup.points

    def points(*args: Any) -> list[backup.Point]:
        found = real(*args)
        remove(store, 0, 1)
        without_history(store, monkeypatch)
        return found

    monkeypatch.setattr(backup, "points", points)
    store.backup(str(tmp_path / "backup"))
    assert not {name_of(0), name_of(1)} & set(store.checkpoints(WF))
    store.close()
    assert written(tmp_path / "backup", 0, 1, 2)
    copy = directory_store(tmp_path / "backup", read_only=True)
    assert {number: contents(copy.checkpoint(WF, name_of(number))) for number in range(3)} == {
        number: made[number] for number in range(3)
    }
    assert copy.verify().sound
    copy.close()


def _looked_into(path: Path) -> None:
    """All that opening a backup for writing, and doing nothing, may leave there."""
    with waypost.open(path) as wp:
        assert wp.list_workflows().total == 1
    for name in ("transactions", "owners", "index"):
        (path / name).mkdir(exist_ok=True)
    for name in ("index/workflows", "checkpoints/lock", "lease", "checkpoint-index.json"):
        (path / name).touch()


def test_a_backup_that_somebody_has_looked_into_can_be_restored(tmp_path: Path) -> None:
    """Opening it for writing makes folders and derived files; its documents are what they were."""
    with waypost.open(tmp_path / "store") as wp:
        wp.create_workflow("w", "W", steps=["a"]).unwrap()
        wp.create_checkpoint("w", "one").unwrap()
        wp.backup(tmp_path / "backup").unwrap()
        _looked_into(tmp_path / "backup")
        assert wp.restore_backup(tmp_path / "backup").unwrap().documents == 1
        assert "one" in [each.description for each in wp.list_checkpoints("w").items]


@pytest.mark.parametrize(
    "name",
    ["transactions/" + "0" * 32, "owners/w.state", "index/inner/x", "checkpoints/lock/x", "lease/x", "backups/x"],
)
def test_n07_what_opening_a_backup_does_not_make_is_refused_in_it(tmp_path: Path, name: str) -> None:
    """A decision that is still to be carried out, a claim, another kind of file: then it is no whole backup."""
    store = filled(tmp_path / "store")
    store.backup(str(tmp_path / "backup"))
    made = tmp_path / "backup" / name
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_bytes(b"x")
    with pytest.raises(InvalidInput, match="does not belong into a backup"):
        store.restore_backup(str(tmp_path / "backup"))
    store.close()


def test_a_backup_is_refused_in_its_store_by_whatever_path(tmp_path: Path) -> None:
    """Through a link to the store, or where the store itself was opened through one: it would be no file of a store."""
    filled(tmp_path / "store").close()
    (tmp_path / "link").symlink_to(tmp_path / "store")
    (tmp_path / "above").symlink_to(tmp_path)
    for opened, named in (("store", "link"), ("link", "store"), ("store", "above/store"), ("above/store", "link")):
        store = directory_store(tmp_path / opened)
        for inner in ("copy", "workflows/copy", "new/copy"):
            with pytest.raises(InvalidInput, match="lies in the store"):
                store.backup(str(tmp_path / named / inner))
        store.backup(str(tmp_path / "above" / f"copy of {opened} {named}".replace("/", " ")))  # beside it
        store.close()
    assert {"new", "copy"}.isdisjoint(each.name for each in (tmp_path / "store").iterdir())


def test_e06_a_restore_takes_no_last_checkpoint_away_unasked(tmp_path: Path) -> None:
    """Of a document whose log is lost its checkpoints are all that is left: one that the backup lacks is told of."""
    path = tmp_path / "store"
    store = directory_store(path)
    make(store, 1, a=b"1")
    keep(store)
    store.backup(str(tmp_path / "first"))
    make(store, 2, a=b"2")
    keep(store)
    store.close()
    (path / "workflows" / "wf.state").unlink()
    store = directory_store(path)
    with pytest.raises(Refused) as caught:
        store.restore_backup(str(tmp_path / "first"))
    assert caught.value.details["documents"] == ["wf"]
    assert store.checkpoints(WF) == [name_of(1), name_of(2)]
    file_of(path, 2).unlink()
    assert store.restore_backup(str(tmp_path / "first")).taken_back == ()
    store.close()


def test_e05_a_backup_holds_what_is_left_of_a_document_whose_log_is_gone(tmp_path: Path) -> None:
    """Its checkpoints, of which each that is whole can be read there; so restoring the backup takes nothing away."""
    path = tmp_path / "store"
    store = filled(path)
    made = {number: make(store, number, a=b"%d" % number) for number in range(3)}
    keep(store)
    store.close()
    (path / "workflows" / "wf.state").unlink()
    flip(file_of(path, 2))  # in a backup it would be damage that nobody knows of
    store = directory_store(path)
    found = store.backup(str(tmp_path / "backup"))
    assert "wf" not in {each.id for each in found.documents}
    assert [each.file for each in found.checkpoints] == [file_of(path, number).name for number in (0, 1)]
    assert store.restore_backup(str(tmp_path / "backup")).taken_back == ()
    store.close()
    assert by_files(tmp_path / "backup") == by_files(path) == {number: made[number] for number in (0, 1)}
    assert [each.text.split(",")[0] for each in verified(tmp_path / "backup")] == [
        "the log of workflow 'wf' is gone or empty"
    ]


def verified(path: Path) -> list[Finding]:
    with closing(directory_store(path, read_only=True)) as store:
        return [each for each in store.verify().findings if each.severity != "note"]
