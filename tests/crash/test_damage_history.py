"""What damage in the history of a log costs: what stands behind it is refused, and nothing of it is dropped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.needed import calm, die, path
from tests.store.support import WF, TestedStore, change, directory_store, putting
from waypost.errors import DocumentDamaged
from waypost.store.contract import CHECKPOINT
from waypost.store.directory import keeping, loading, upkeep

CHECKPOINT_VERSION, VERSIONS = 50, 150


__all__ = ["calm", "path"]


def flip(path: Path, version: int) -> int:
    """Flip a bit in the commit that made a version, of a log that is whole; where."""
    reader = directory_store(path, read_only=True)
    log, _ = loading.load(reader._context, WF)
    assert log is not None
    first = log.frame_at(0, log.end)
    assert first is not None
    found = next(each for each in log.hop(first.end, first.header.checksum, log.end) if each.header.version == version)
    reader.close()
    flip_at(path, found.end - 1)
    return found.end - 1


def flip_at(path: Path, offset: int) -> None:
    with open(path / "workflows" / "wf.state", "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def damaged_history(path: Path, at: int) -> TestedStore:
    """A store that is open, in whose document a snapshot stands behind some versions, one of which is damaged; one has
    a checkpoint, which has no file.
    """
    store = directory_store(path, enabled=False)
    for number in range(1, VERSIONS + 1):
        parts = {f"k{number}": b"%d" % number * 500}
        if number == CHECKPOINT_VERSION:
            parts[f"{CHECKPOINT}wf@c1"] = b""
        store.submit(change(WF, lambda tx, parts=parts: [tx.put(*each) for each in parts.items()])).result()
    assert store.tidy(WF, "snapshot")
    store.submit(putting(z=b"1")).result()
    die(store)
    flip(path, at)
    store = directory_store(path, enabled=False)
    assert store.view(WF).version == VERSIONS + 1
    return store


def test_d13_a_compaction_drops_nothing_that_stands_behind_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """History that is not whole is refused by a compaction, which leaves the log as it is: what is behind the damage
    can still be had.
    """
    monkeypatch.setattr(upkeep.Document, "keep_checkpoints", lambda self, **_: None)
    store = damaged_history(path, 60)
    before = (path / "workflows" / "wf.state").read_bytes()
    with pytest.raises(DocumentDamaged):
        store.tidy(WF, "compact")
    assert (path / "workflows" / "wf.state").read_bytes() == before
    assert not store.verify().sound
    log = store._document(WF)._log
    assert log is not None
    with pytest.raises(DocumentDamaged):
        keeping.once_there(log, None)


@pytest.mark.parametrize("read_only", [False, True], ids=["writing", "reading"])
def test_d10_a_version_behind_damage_is_refused_and_not_said_to_be_gone(path: Path, *, read_only: bool) -> None:
    """What history cannot be read for is `DocumentDamaged`; None is said of versions that are not there."""
    die(damaged_history(path, 60))
    store = directory_store(path, enabled=False, read_only=read_only)
    for version in (60, 61, VERSIONS - 1):
        with pytest.raises(DocumentDamaged):
            store.view_at(WF, version)
    found = store.view_at(WF, 59)
    assert found is not None and found.get("k59") == b"59" * 500 and found.get("k60") is None
    flip_at(path, 20)  # in the first frame
    with pytest.raises(DocumentDamaged):
        loading.load_at(store._context, WF, 1)


def test_d10_a_checkpoint_behind_damage_is_refused_and_not_said_to_be_lost(path: Path) -> None:
    """Where the log says that it is damaged, `checkpoint` names that place; nothing else says that history is gone."""
    store = damaged_history(path, 20)
    with pytest.raises(DocumentDamaged) as refused:
        store.checkpoint(WF, "wf@c1")
    assert "offset" in refused.value.details
    log = store._document(WF)._log
    assert log is not None
    with pytest.raises(DocumentDamaged):
        keeping.find_versions(log, ["wf@c1"])
    store.submit(change(WF, lambda tx: tx.put(f"{CHECKPOINT}wf@c2", b""))).result()
    with pytest.raises(DocumentDamaged):
        store.tidy(WF, "keep")
    made = store.checkpoint(WF, "wf@c2")
    assert made is not None and made.version == VERSIONS + 2


def test_d13_what_is_damaged_while_a_log_is_compacted_is_not_left_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits that were appended meanwhile are carried over, or the log stays as it is."""
    store = directory_store(path, enabled=False)
    store.submit(putting(a=b"1")).result()
    real = upkeep._copy_commits
    rewrite = upkeep.compaction.rewrite

    def rewriting(*given: object) -> object:
        out = rewrite(*given)  # type: ignore[arg-type]
        for number in range(3):
            store.submit(putting(b=b"%d" % number)).result()
        return out

    flipped: list[int] = []

    def copying(*given: object) -> None:
        if not flipped:
            flipped.append(flip(path, 3))
        real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(upkeep.compaction, "rewrite", rewriting)
    monkeypatch.setattr(upkeep, "_copy_commits", copying)
    with pytest.raises(DocumentDamaged):
        store.tidy(WF, "compact")
    monkeypatch.undo()
    for offset in flipped:
        flip_at(path, offset)
    assert [each.version for each in directory_store(path).past(WF).commits()] == [4, 3, 2, 1]


def test_d10_no_older_version_comes_of_damage_behind_a_snapshot_of_others(path: Path) -> None:
    """Who goes on from a snapshot that others have taken, and finds damage behind it, has no older version then."""
    ours, theirs = directory_store(path, enabled=False), directory_store(path, enabled=False)
    for number in range(120):
        theirs.submit(putting(a=b"%d" % number)).result()
    ours.view(WF)
    assert theirs.tidy(WF, "snapshot")
    for number in range(5):
        theirs.submit(putting(b=b"%d" % number)).result()
    assert ours.view(WF).version == 125
    log = ours._document(WF)._log
    assert log is not None
    flip_at(path, log.end - 1)
    with pytest.raises(DocumentDamaged):
        ours.tidy(WF, "snapshot")
    assert ours.view(WF).version == 125
