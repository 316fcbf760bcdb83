"""Checkpoints whose files are whole, and of which their document's log has lost the part that speaks of them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.store.needed import calm, path
from tests.store.support import WF, directory_store
from tests.store.test_checkpoints import commit, contents, make, name_of, put, remove, without_history
from tests.store.test_checkpoints_found import by_files, closed_with, dying_before_its_files_go, file_of
from waypost.store.contract import ADOPTED, CHECKPOINT
from waypost.store.directory import compaction, keeping, loading
from waypost.store.directory.recollecting import CheckpointMender
from waypost.testing import erasing
from waypost.testing.checkpoints import adopt

__all__ = ["calm", "path"]

pytestmark = pytest.mark.usefixtures("calm")


def mended(path: Path) -> list[tuple[str, str]]:
    """What a repair does, which is what a dry run says before."""
    said = waypost.repair(path, dry_run=True).repaired
    done = waypost.repair(path).repaired
    assert [(each.file, each.action, each.found) for each in done] == [
        (each.file, each.action, each.found) for each in said
    ]
    return [(each.file, each.action) for each in done]


def taken_back(path: Path, version: int) -> None:
    """Damage the log of `wf` behind a version, so that a repair keeps that one."""
    with closing(directory_store(path, read_only=True)) as store:
        log, _ = loading.load(store._context, WF)
        assert log is not None
        (found,) = [each for each in compaction.commits(log, log.end) if each.header.version == version + 1]
    file = path / "workflows" / "wf.state"
    data = bytearray(file.read_bytes())
    data[found.offset + 200] ^= 1
    file.write_bytes(data)


def known(path: Path) -> dict[int, Any]:
    """The checkpoints that the document speaks of, as the store gives them."""
    with closing(directory_store(path, read_only=True)) as store:
        return {int(name[3:]): contents(store.checkpoint(WF, name)) for name in store.checkpoints(WF)}


def severities(path: Path) -> set[str]:
    with closing(directory_store(path, read_only=True)) as store:
        return {each.severity for each in store.verify().findings} - {"note"}


def test_a_repair_has_checkpoints_adopted_that_their_log_has_lost(path: Path) -> None:
    """Each comes back to the byte, none is taken for what a dead process left, and new ones stand beside them."""
    made = closed_with(path, 5)
    taken_back(path, 3)
    assert mended(path) == [
        ("workflows/wf.state", "written anew"),
        *((f"checkpoints/{file_of(path, number).name}", "adopted") for number in (2, 3, 4)),
    ]
    assert known(path) == made and severities(path) == set()
    with closing(directory_store(path)) as store:
        assert store.sweep() == 0
        for number in (5, 6):
            made[number] = make(store, number, b=b"%d" % number)
    assert mended(path) == []
    assert {number: {"a": each["a"]} for number, each in known(path).items()} == {
        number: {"a": each["a"]} for number, each in made.items() if each is not None
    }


def test_d14_a_repair_that_is_killed_before_it_adopts_is_done_by_the_next(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is lost is told by the log that was written anew and the files, not by what the one who died knew."""
    made = closed_with(path, 5)
    taken_back(path, 3)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointMender, "_submit", die)
        with pytest.raises(KeyboardInterrupt):
            waypost.repair(path)
    assert set(known(path)) == {0, 1}
    assert mended(path) == [(f"checkpoints/{file_of(path, number).name}", "adopted") for number in (2, 3, 4)]
    assert known(path) == made


def test_what_may_have_been_lost_from_the_version_that_is_kept_is_adopted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a block of the only snapshot is gone, nobody can tell whether the part was in it: nobody removed it."""
    closed_with(path, 3)
    with closing(directory_store(path)) as store:
        commit(store, lambda tx: [tx.put(f"k{each:04}", b"%d" % each * 100) for each in range(2000)])
        without_history(store, monkeypatch)
    with closing(directory_store(path, read_only=True)) as store:
        log, state = loading.load(store._context, WF)
        assert log is not None
        base = state.base
        row = max(each for each, key in enumerate(base.body.keys) if key <= CHECKPOINT)
        offset = base.offset(row)
    file = path / "workflows" / "wf.state"
    data = bytearray(file.read_bytes())
    data[offset] ^= 1
    file.write_bytes(data)
    report = waypost.repair(path)
    assert report.repaired[0].lost_keys
    assert {int(name[3:]) for name in known_names(path)} == {0, 1, 2}


def known_names(path: Path) -> list[str]:
    with closing(directory_store(path, read_only=True)) as store:
        return store.checkpoints(WF)


def test_cleanup_leaves_what_a_log_has_lost_before_any_repair(path: Path) -> None:
    """As where an older copy of the log took its place: verify says what mends that."""
    store = directory_store(path)
    made = {0: make(store, 0, a=b"0")}
    store.close()
    older = (path / "workflows" / "wf.state").read_bytes()
    with closing(directory_store(path)) as store:
        made[1] = make(store, 1, a=b"1")
    (path / "workflows" / "wf.state").write_bytes(older)
    with closing(directory_store(path)) as store:
        (found,) = [each for each in store.verify().findings if each.severity != "note"]
        assert "has lost" in found.text and "waypost store repair" in found.text
        assert store.sweep() == 0
        put(store, b=b"another version 2")
    assert by_files(path) == made
    assert mended(path) == [(f"checkpoints/{file_of(path, 1).name}", "adopted")]
    assert known(path) == made


@pytest.mark.parametrize("has_history", [True, False])
def test_what_was_removed_in_a_version_that_is_kept_stays_away(
    path: Path, monkeypatch: pytest.MonkeyPatch, has_history: bool
) -> None:
    """Its log knows that it was there, or the commit that it was made in; what was removed in a lost one is back."""
    made = closed_with(path, 3)
    dying_before_its_files_go(directory_store(path), 1)
    if not has_history:
        with closing(directory_store(path)) as store:
            monkeypatch.setattr(keeping, "let_go_alone", lambda *_: None)
            put(store, a=b"more")
            without_history(store, monkeypatch)
    with closing(directory_store(path)) as store:
        last = store.view(WF).version
        monkeypatch.setattr(keeping, "let_go_alone", lambda *_: None)
        remove(store, 0)
        put(store, a=b"more")
    monkeypatch.undo()
    assert file_of(path, 1).exists()
    taken_back(path, last)
    assert mended(path) == [("workflows/wf.state", "written anew")]
    assert known(path) == {0: made[0], 2: made[2]}


def test_what_is_erased_is_not_in_what_is_adopted(path: Path) -> None:
    """The log that is kept says so, whatever was put again in versions that are lost."""
    store = directory_store(path)
    make(store, 0, secret=b"erased value")
    commit(store, lambda tx: tx.delete("secret"))
    erasing.erase(store, "secret")
    kept = store.view(WF).version
    make(store, 1, secret=b"value that came again")
    store.close()
    taken_back(path, kept)
    assert mended(path)[-1] == (f"checkpoints/{file_of(path, 1).name}", "adopted")
    data = b"".join(each.read_bytes() for each in (path / "checkpoints").iterdir())
    assert b"erased value" not in data and b"value that came again" not in data
    with closing(directory_store(path, read_only=True)) as store:
        view = store.checkpoint(WF, name_of(1))
        assert view is not None and view.erased("secret") is not None
        assert store.verify().sound


def test_what_later_ones_say_of_an_import_is_said_again(path: Path) -> None:
    """A checkpoint that was imported in a lost version comes back as one that was imported."""
    store = directory_store(path)
    make(store, 0, a=b"0")
    other = directory_store(path.with_name("other"))
    make(other, 7, a=b"elsewhere")
    version = other.checkpoint(WF, name_of(7))
    assert version is not None
    kept = store.view(WF).version
    adopt(store, version, name_of(7))
    make(store, 8, a=b"8")
    store.close()
    other.close()
    taken_back(path, kept)
    mended(path)
    assert set(known(path)) == {0, 7, 8}
    with closing(directory_store(path, read_only=True)) as store:
        assert store.view(WF).get(ADOPTED + name_of(7)) == b"said of it"
        assert store.view(WF).get(ADOPTED + name_of(8)) == b"8"


def test_one_that_lacks_what_it_stood_on_goes_aside(path: Path) -> None:
    closed_with(path, 4)
    taken_back(path, 3)
    file_of(path, 2).unlink()
    done = waypost.repair(path).repaired
    assert [(each.file, each.action) for each in done[1:]] == [(f"checkpoints/{file_of(path, 3).name}", "moved aside")]
    assert set(known(path)) == {0, 1} and severities(path) == set()


@pytest.mark.parametrize("harm", ["gone", "empty"])
def test_checkpoints_whose_log_is_gone_are_told_of(path: Path, harm: str) -> None:
    """A document that is deleted keeps its log, so something is amiss; a repair says what brings it back."""
    made = closed_with(path, 3)
    log = path / "workflows" / "wf.state"
    log.unlink()
    if harm == "empty":
        log.touch()
    text = (
        f"the log of workflow 'wf' is gone or empty, and 3 checkpoints of it are whole: `waypost restore {name_of(2)}`"
    )
    with closing(directory_store(path, read_only=True)) as store:
        report = store.verify()
        (found,) = [each for each in report.findings if each.severity != "note"]
        assert (found.severity, found.file) == ("damage", str(log)) and found.text.startswith(text)
        assert not report.sound
    for dry_run in (True, False):
        told = waypost.repair(path, dry_run=dry_run)
        (each,) = told.repaired
        assert (each.file, each.action, told.is_complete) == ("workflows/wf.state", "left", False)
        assert each.found == found.text
    assert by_files(path) == made


def test_what_a_repair_moved_aside_is_not_amiss_once_more(path: Path) -> None:
    """It was told of, and the checkpoints are there to go back to."""
    made = closed_with(path, 3)
    log = path / "workflows" / "wf.state"
    log.write_bytes(b"?" * log.stat().st_size)
    assert mended(path) == [("workflows/wf.state", "moved aside")]
    assert mended(path) == []
    with closing(directory_store(path, read_only=True)) as store:
        report = store.verify()
        assert report.sound and ["is gone" in each.text for each in report.findings] == [True]
    assert known(path) == made
