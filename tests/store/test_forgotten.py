"""Checkpoints whose files are whole, and of which their document's log has lost the part that speaks of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.store.needed import calm, path
from tests.store.support import WF, directory_store
from tests.store.test_checkpoints import commit, contents, make, name_of, put, remove, without_history
from tests.store.test_checkpoints_found import by_files, closed_with, dying_before_its_files_go, file_of, flip
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


def test_what_a_log_has_lost_survives_what_it_stands_on(path: Path) -> None:
    """Who works on before a repair removes checkpoints, and by that what others stand on."""
    made = closed_with(path, 2)
    older = (path / "workflows" / "wf.state").read_bytes()
    with closing(directory_store(path)) as store:
        made |= {number: make(store, number, a=b"%d" % number) for number in (2, 3)}
    (path / "workflows" / "wf.state").write_bytes(older)
    with closing(directory_store(path)) as store:
        remove(store, 0, 1)
        store.tidy(WF, "compact")
    assert not file_of(path, 1).exists()
    del made[0], made[1]
    assert by_files(path) == made
    assert mended(path) == [(f"checkpoints/{file_of(path, number).name}", "adopted") for number in (2, 3)]
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


@pytest.mark.parametrize("make_it", [os.mkfifo, os.mkdir, lambda name: os.symlink("/etc/hostname", name)])
def test_n04_what_is_no_file_hides_no_checkpoints_beside_it(
    path: Path, make_it: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Checkpoints are listed all the same, once it is said what is left out; `verify` calls it damage, as a repair does
    that moves it aside.
    """
    made = closed_with(path, 3)
    (path / "workflows" / "wf.state").unlink()
    strange = path / "checkpoints" / "strange.checkpoint"
    make_it(strange)
    with closing(directory_store(path, read_only=True)) as store:
        for _ in range(2):
            assert store.left("workflow") == {"wf": [name_of(number) for number in range(3)]}
        assert [each.getMessage() for each in caplog.records] == [
            f"a checkpoint is left out: {strange}: is no file of a store (waypost store repair keeps what is whole)"
        ]
        found = {each.file: (each.severity, each.text) for each in store.verify().findings}
    assert found[str(strange)] == ("damage", "is no file of a store")
    assert by_files(path) == made
    waypost.repair(path)
    assert not os.path.lexists(strange) and os.path.lexists(path / "damaged" / "strange.checkpoint.1")


def broken(path: Path, number: int, harm: str) -> None:
    if harm == "gone":
        file_of(path, number).unlink()  # as a repair leaves it that was killed behind moving it aside
    else:
        flip(file_of(path, number))


def done_as_said(path: Path) -> set[tuple[str, str]]:
    """What a repair does with which file of `checkpoints`, which is what a dry run says before."""
    before = {each: each.is_file() and each.read_bytes() for each in path.rglob("*")}
    said = {(each.file, each.action) for each in waypost.repair(path, dry_run=True).repaired}
    assert before == {each: each.is_file() and each.read_bytes() for each in path.rglob("*")}
    assert {(each.file, each.action) for each in waypost.repair(path).repaired} == said
    assert waypost.repair(path).repaired == []
    return {(file.removeprefix("checkpoints/"), action) for file, action in said}


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_d14_what_stood_on_a_file_that_a_killed_repair_moved_aside_is_mended_by_the_next(path: Path, harm: str) -> None:
    """A dry run says so, and history gives all of them their files again."""
    made = closed_with(path, 3)
    broken(path, 0, harm)
    expected = {(file_of(path, number).name, "written anew") for number in (1, 2)}
    if harm == "damaged":  # what is told of it says enough
        expected = {(file_of(path, 0).name, "moved aside")}
    assert severities(path) == {"damage"}
    assert done_as_said(path) == expected
    assert by_files(path) == known(path) == made and severities(path) == set()


@pytest.mark.parametrize("harm", ["gone", "damaged", "all gone"])
def test_a_checkpoint_that_is_in_no_file_and_not_in_history_is_forgotten(
    path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    """A dry run says what its document has to forget, and what stood on it goes aside; the store is sound again."""
    with closing(directory_store(path)) as store:
        put(store, base=b"x" * 20_000)
        for number in range(3):
            make(store, number, a=b"%d" % number)
        without_history(store, monkeypatch)
        made = make(store, 3, a=b"3")
    if harm == "all gone":
        shutil.rmtree(path / "checkpoints")
        expected = {(file_of(path, number).name, "taken out") for number in (0, 1, 2)}
    else:
        broken(path, 1, harm)
        expected = {(file_of(path, 1).name, "taken out"), (file_of(path, 2).name, "moved aside")}
        if harm == "damaged":
            expected.add((file_of(path, 1).name, "moved aside"))
    assert severities(path) == {"damage"}
    done = done_as_said(path)
    assert done >= expected and {action for _, action in done - expected} <= {"written anew"}
    assert severities(path) == set() and known(path)[3] == made
    assert set(known(path)) == ({3} if harm == "all gone" else {0, 3})


@pytest.mark.parametrize("harm", ["gone", "damaged"])
@pytest.mark.parametrize("log", ["gone", "damaged"])
def test_e10_what_stands_on_a_lost_one_goes_aside_where_the_log_is_lost_too(path: Path, harm: str, log: str) -> None:
    """Nobody can go back to it, and `verify` would tell of it for ever."""
    made = closed_with(path, 4)
    broken(path, 2, harm)
    file = path / "workflows" / "wf.state"
    if log == "gone":
        file.unlink()
    else:
        file.write_bytes(b"?" * file.stat().st_size)
    said = {(each.file, each.action) for each in waypost.repair(path, dry_run=True).repaired}
    report = waypost.repair(path)
    assert {(each.file, each.action) for each in report.repaired} == said
    assert (f"checkpoints/{file_of(path, 3).name}", "moved aside") in said
    assert by_files(path) == {number: made[number] for number in (0, 1)}
    again = waypost.repair(path).repaired
    assert [each.action for each in again] == (["left"] if log == "gone" else [])
    assert severities(path) == ({"damage"} if log == "gone" else set())


def a_pipe_for_a_checkpoint(path: Path) -> None:
    os.mkfifo(path / "checkpoints" / "x.checkpoint")


def a_directory_for_a_checkpoint(path: Path) -> None:
    (path / "checkpoints" / "x.checkpoint").mkdir()


def a_directory_for_the_log(path: Path) -> None:
    (path / "workflows" / "wf.state").unlink()
    (path / "workflows" / "wf.state").mkdir()


def a_file_for_the_logs(path: Path) -> None:
    shutil.rmtree(path / "workflows")
    (path / "workflows").touch()


def a_file_for_the_checkpoints(path: Path) -> None:
    shutil.rmtree(path / "checkpoints")
    (path / "checkpoints").touch()


STRANGE = [
    a_pipe_for_a_checkpoint,
    a_directory_for_a_checkpoint,
    a_directory_for_the_log,
    a_file_for_the_logs,
    a_file_for_the_checkpoints,
]


@pytest.mark.parametrize("harm", STRANGE)
def test_e10_a_dry_run_tells_what_is_no_file_of_a_store_and_checkpoints_beside_it(
    path: Path, harm: Callable[[Path], None]
) -> None:
    """It ends with a plan, in which what it would move aside is in nobody's way; what a repair leaves can be opened."""
    closed_with(path, 2)
    harm(path)
    assert severities(path) == {"damage"}
    (said, *_) = waypost.repair(path, dry_run=True).repaired
    assert said.action == "moved aside"
    (done, *_) = waypost.repair(path).repaired
    assert (done.file, done.action, done.found) == (said.file, said.action, said.found)
    with closing(directory_store(path)) as store:
        put(store, b=b"1")


def test_a_linked_folder_of_logs_is_left_beside_its_checkpoints(path: Path, tmp_path: Path) -> None:
    """A repair and a dry run end with that, and nothing goes."""
    closed_with(path, 2)
    (path / "workflows").rename(tmp_path / "disk")
    (path / "workflows").symlink_to(tmp_path / "disk")
    for dry_run in (True, False):
        report = waypost.repair(path, dry_run=dry_run)
        assert {each.action for each in report.repaired} == {"left"} and not report.is_complete
    assert (tmp_path / "disk" / "wf.state").exists() and file_of(path, 0).exists()
