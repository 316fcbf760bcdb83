"""What became of a checkpoint of which its document does not speak: it was removed, or is lost, or nobody can tell."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.store.needed import calm, path
from tests.store.support import WF, TestedStore, directory_store
from tests.store.test_checkpoints import commit, make, name_of, put, remove, without_history
from tests.store.test_checkpoints_found import closed_with, dying_before_its_files_go, file_of, flip
from tests.store.test_forgotten import known, mended, severities
from waypost import clock
from waypost.errors import UnsupportedFormat
from waypost.store.contract import ADOPTED, CHECKPOINT
from waypost.store.directory import checkpoints, compaction, forgotten, keeping, loading
from waypost.store.directory.recollecting import CheckpointMender
from waypost.testing import erasing
from waypost.testing.checkpoints import adopt

__all__ = ["calm", "path"]

pytestmark = pytest.mark.usefixtures("calm")


def flip_log(path: Path, offset: int) -> None:
    file = path / "workflows" / "wf.state"
    data = bytearray(file.read_bytes())
    data[offset] ^= 1
    file.write_bytes(data)


def hurt_commit(path: Path, *versions: int) -> None:
    with closing(directory_store(path, read_only=True)) as store:
        log, _ = loading.load(store._context, WF)
        assert log is not None
        found = [each.offset for each in compaction.commits(log, log.end) if each.header.version in versions]
    for offset in found:
        flip_log(path, offset + 120)


def hurt_row(path: Path, key: str) -> None:
    """Damage the block of the only snapshot that a key is in, if it is there."""
    with closing(directory_store(path, read_only=True)) as store:
        _, state = loading.load(store._context, WF)
        base = state.base
        offset = base.offset(max(each for each, first in enumerate(base.body.keys) if first <= key))
    flip_log(path, offset)


def filled(store: TestedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a snapshot of many blocks, and nothing before it."""
    commit(store, lambda tx: [tx.put(f"b{each:04}", b"%d" % each * 100) for each in range(2000)])
    without_history(store, monkeypatch)


def told_of(path: Path, number: int) -> list[str]:
    with closing(directory_store(path, read_only=True)) as store:
        return [each.text for each in store.verify().findings if each.file == str(file_of(path, number))]


def swept(path: Path) -> int:
    with closing(directory_store(path)) as store:
        return store.sweep()


def nothing_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have processes die before the files of removed checkpoints go."""
    monkeypatch.setattr(keeping, "let_go_alone", lambda *_: None)


def test_what_a_repair_may_have_lost_the_next_one_knows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it died before it adopted: the log is sound then, and says nothing of what it does not hold."""
    made = closed_with(path, 3)
    with closing(directory_store(path)) as store:
        filled(store, monkeypatch)
    hurt_row(path, CHECKPOINT)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointMender, "_submit", die)
        with pytest.raises(KeyboardInterrupt):
            waypost.repair(path)
    assert swept(path) == 0
    assert mended(path) == [(f"checkpoints/{file_of(path, number).name}", "adopted") for number in range(3)]
    assert known(path) == made


def test_a_block_of_imports_may_be_lost_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = closed_with(path, 3)
    with closing(directory_store(path)) as store:
        held = store.checkpoint(WF, name_of(1))
        assert held is not None
        remove(store, 1)
        adopt(store, held, name_of(1))
        filled(store, monkeypatch)
    hurt_row(path, ADOPTED + name_of(1))
    assert (f"checkpoints/{file_of(path, 1).name}", "adopted") in mended(path)
    assert swept(path) == 0 and set(known(path)) == set(made)


def test_a_removed_one_stays_away_where_the_commit_that_made_it_is_lost(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit that removed it can still be read in the damaged log. Later nobody can tell: its file stays."""
    made = closed_with(path, 3)
    dying_before_its_files_go(directory_store(path), 0)
    with monkeypatch.context() as patch:
        nothing_goes(patch)
        with closing(directory_store(path)) as store:
            put(store, a=b"more")
    hurt_commit(path, 2)
    assert mended(path) == [("workflows/wf.state", "written anew")]
    assert mended(path) == [] and swept(path) == 0
    assert known(path) == {1: made[1], 2: made[2]}
    (text,) = told_of(path, 0)
    assert "cannot be told" in text and file_of(path, 0).exists()


def test_what_nobody_can_tell_of_is_neither_adopted_nor_removed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No frame that speaks of it can be read, neither the one that made it nor the one that removed it."""
    closed_with(path, 3)
    dying_before_its_files_go(directory_store(path), 0)
    with monkeypatch.context() as patch:
        nothing_goes(patch)
        with closing(directory_store(path)) as store:
            put(store, a=b"more")
    hurt_commit(path, 2, 5)
    assert mended(path) == [("workflows/wf.state", "written anew")]
    assert mended(path) == [] and swept(path) == 0
    assert "cannot be told" in told_of(path, 0)[0] and file_of(path, 0).exists()


def test_a_removed_import_stays_away_where_history_is_cut(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commit is one of elsewhere, so ids say nothing of it; what can be read of the old log does."""
    store, other = directory_store(path), directory_store(path.with_name("other"))
    make(store, 0, a=b"0")
    make(other, 7, a=b"elsewhere")
    version = other.checkpoint(WF, name_of(7))
    assert version is not None
    adopt(store, version, name_of(7))
    put(store, q=b"1")
    store._document(WF).keep_checkpoints(newest_only=False)
    other.close()
    with monkeypatch.context() as patch:
        nothing_goes(patch)
        commit(store, lambda tx: tx.delete(ADOPTED + name_of(7)))
        store.close()  # with a snapshot
        with closing(directory_store(path)) as store:
            put(store, a=b"more")
    hurt_commit(path, 2)
    assert mended(path) == [("workflows/wf.state", "written anew")]
    assert mended(path) == []
    assert set(known(path)) == {0} and file_of(path, 7).exists()


def test_what_a_lost_version_removed_stays_away_where_that_can_be_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as the version that is kept does not have it: that one is whole, and stays what it was."""
    made = closed_with(path, 4)
    with monkeypatch.context() as patch:
        nothing_goes(patch)
        with closing(directory_store(path)) as store:
            remove(store, 0, 3)
    hurt_commit(path, 3)
    assert mended(path)[1:] == [(f"checkpoints/{file_of(path, number).name}", "adopted") for number in (1, 2)]
    assert known(path) == {number: made[number] for number in (0, 1, 2)}
    assert mended(path) == []


def test_what_stands_on_one_that_is_mended_is_adopted(path: Path) -> None:
    """History has the damaged one, so that its file is written again before others are looked at."""
    made = closed_with(path, 5)
    hurt_commit(path, 4)
    flip(file_of(path, 1))
    waypost.repair(path)
    assert known(path) == made and severities(path) == set()


def test_one_that_stands_on_a_later_format_is_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The repair goes on to its end, and says what it could not mend."""
    closed_with(path, 5)
    hurt_commit(path, 4)
    real, newer = checkpoints.read_file, file_of(path, 2).name

    def read_file(context: Any, folder: Any, file: str) -> Any:
        if file == newer:
            raise UnsupportedFormat(f"{file} is written in a newer format (9)", file=file)
        return real(context, folder, file)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "read_file", read_file)
        done = waypost.repair(path)
    assert (f"checkpoints/{file_of(path, 3).name}", "left") in [(each.file, each.action) for each in done.repaired]
    assert not done.is_complete and file_of(path, 3).exists() and file_of(path, 4).exists()


def test_an_erased_value_goes_from_lost_checkpoints_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their times may be those of another clock, which was ahead."""
    real, secret = clock.now_us, b"the secret value of all"
    other = directory_store(path.with_name("other"))
    with monkeypatch.context() as patch:
        patch.setattr(clock, "now_us", lambda: real() + 3600 * 1_000_000)
        make(other, 7, secret=secret)
    store = directory_store(path)
    make(store, 0, secret=secret)
    store.close()
    older = (path / "workflows" / "wf.state").read_bytes()
    version = other.checkpoint(WF, name_of(7))
    assert version is not None
    with closing(directory_store(path)) as store:
        adopt(store, version, name_of(7))
        store._document(WF).keep_checkpoints(newest_only=False)
    other.close()
    (path / "workflows" / "wf.state").write_bytes(older)
    with closing(directory_store(path)) as store:
        commit(store, lambda tx: tx.delete("secret"))
        erasing.erase(store, "secret")
    assert file_of(path, 7).exists()
    assert not any(secret in each.read_bytes() for each in (path / "checkpoints").iterdir())


def test_a_log_that_goes_after_a_repair_is_missed(path: Path) -> None:
    """The repair kept what was whole of it: the original in `damaged/` is not why there is none."""
    made = closed_with(path, 5)
    hurt_commit(path, 4)
    mended(path)
    log = path / "workflows" / "wf.state"
    log.unlink()
    assert severities(path) == {"damage"}
    assert mended(path) == [("workflows/wf.state", "left")]
    log.write_bytes(b"?" * 5000)
    assert mended(path) == [("workflows/wf.state", "moved aside")]
    assert severities(path) == set() and known(path) == made


def test_cleanup_asks_a_log_once_for_all_its_leftovers(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = directory_store(path)
    for number in range(8):
        make(store, number, a=b"%d" % number)
    store.close()
    dying_before_its_files_go(directory_store(path), *range(6))
    asked: list[Any] = []
    real = forgotten.told_by_log

    def told_by_log(context: Any, document: Any) -> Any:
        asked.append(document)
        return real(context, document)

    monkeypatch.setattr(forgotten, "told_by_log", told_by_log)
    assert swept(path) > 0
    assert asked == [WF] and set(known(path)) == {6, 7} and not file_of(path, 0).exists()
