"""Each comparison is needed: without any one of them one of these tests fails.

`make mutants` removes them one by one; those that no other test guards are guarded here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.needed import calm, closed_soundly, die, log_file, path
from tests.store.support import WF, TestedStore, change, directory_store, putting
from waypost.codec import bodies, frame
from waypost.store import DocumentId, JointChange
from waypost.store.directory import compaction, document
from waypost.store.directory.log import NOTHING, Log

__all__ = ["calm", "path"]


@pytest.mark.parametrize("fill", [b"\xff", b"Z"])
@pytest.mark.parametrize("kept", [1, 2, 3])
def test_d09_a_torn_magic_before_other_bytes_is_a_torn_tail(path: Path, kept: int, fill: bytes) -> None:
    """A file grew by ones or old bytes, and the first bytes of a frame reached it: no frame of a newer format."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    store.close()
    with log_file(path).open("ab") as log:
        log.write(frame.MAGIC[:kept] + fill * 500)
    reader = directory_store(path, read_only=True)
    assert reader.view(WF).get("a") == b"1"
    reader.close()
    store = directory_store(path)
    store.submit(putting(b=b"2")).result()
    store.close()
    assert directory_store(path, read_only=True).verify().sound


def compacted_by_another(path: Path, **parts: bytes) -> tuple[TestedStore, TestedStore]:
    """Two stores; one has looked at the document, the other committed and put a new file in the log's place."""
    ours, theirs = directory_store(path), directory_store(path)
    theirs.submit(putting(a=b"1")).result()
    assert ours.view(WF, durable=False).get("a") == b"1"  # without a sync, so that it is open for reading only
    theirs.submit(putting(before=b"it")).result()
    assert theirs.tidy(WF, "compact")
    theirs.submit(putting(**parts)).result()
    return ours, theirs


def test_c04_a_reader_looks_at_the_file_that_the_name_stands_for(path: Path) -> None:
    """A log that was replaced under an open descriptor is not read on."""
    ours, theirs = compacted_by_another(path, a=b"2")
    assert ours.view(WF).get("a") == b"2"
    closed_soundly(path, ours, theirs, a=b"2", before=b"it")


def test_c04_an_earlier_version_is_looked_at_in_the_file_that_the_name_stands_for(path: Path) -> None:
    """What a file held that was replaced by hand says nothing of the versions that there are."""
    other, ours = directory_store(path.with_name("other")), directory_store(path)
    other.submit(putting(a=b"theirs")).result()
    other.close()
    ours.submit(putting(a=b"ours")).result()
    os.replace(path.with_name("other") / "workflows" / "wf.state", path / "workflows" / "wf.state")
    found = ours.view_at(WF, 1)
    assert found is not None and found.get("a") == b"theirs"


def test_c04_a_reader_who_becomes_a_writer_opens_the_file_anew(path: Path) -> None:
    """What was known of the old file counts for nothing in the new one."""
    ours, theirs = compacted_by_another(path, a=b"2", filler=b"x" * 500)
    assert ours.submit(putting(b=b"3")).result().version == 4
    closed_soundly(path, ours, theirs, a=b"2", b=b"3", before=b"it", filler=b"x" * 500)


def test_c04_a_writer_looks_whether_the_name_still_stands_for_its_file(path: Path) -> None:
    """A commit goes into the file that others find."""
    ours, theirs = directory_store(path), directory_store(path)
    ours.submit(putting(a=b"1")).result()
    theirs.submit(putting(a=b"2")).result()
    assert theirs.tidy(WF, "compact")
    assert ours.submit(putting(b=b"3")).result().version == 3
    closed_soundly(path, ours, theirs, a=b"2", b=b"3")


def test_c04_nothing_is_concluded_from_a_file_that_was_replaced(path: Path) -> None:
    """A change that changes nothing in the old file changes something in the new one."""
    ours, theirs = compacted_by_another(path, a=b"2")
    assert ours.submit(putting(a=b"1")).result().version == 4
    closed_soundly(path, ours, theirs, a=b"1", before=b"it")


def test_c04_a_log_that_became_shorter_is_read_again(path: Path) -> None:
    """Somebody put an older copy in its place, into the same file: no commit is written behind a gap."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    older = log_file(path).read_bytes()[: store._document(WF)._log.end]  # type: ignore[union-attr]
    for number in range(50):
        store.submit(putting(a=b"%d" % number * 5000)).result()
    with log_file(path).open("r+b") as log:
        log.truncate(len(older))
    assert store.submit(putting(b=b"2")).result().version == 2
    closed_soundly(path, store, a=b"1", b=b"2")


def test_d13_content_that_was_written_ahead_goes_with_its_file(path: Path) -> None:
    """When another file takes the log's place on the way, and is open already, all of it is written again."""
    store = directory_store(path, enabled=False)
    store.submit(putting(a=b"1")).result()
    value = os.urandom(7 << 20)
    tidied: list[bool] = []

    def pieces(size: int) -> Iterator[bytes]:
        for at in range(0, len(value), size):
            if at > 5 << 20 and not tidied:
                tidied.append(store.tidy(WF, "compact"))
                store.submit(putting(b=b"2")).result()
            yield value[at : at + size]

    content = store.stage(WF, "large", len(value), pieces)
    assert tidied == [True]
    store.submit(change(WF, lambda tx: tx.put("large", content))).result()
    closed_soundly(path, store, a=b"1", b=b"2", large=value)


def test_d10_frames_of_another_file_behind_the_end_are_no_damage(path: Path, tmp_path: Path) -> None:
    """Old bytes of a longer file, at their own places and whole in themselves, say nothing about this one."""
    logs: list[bytes] = []
    for name, commits in (("long", 30), ("short", 2)):
        store = directory_store(tmp_path / name)
        for number in range(commits):
            store.submit(putting(a=b"%d" % number)).result()
        logs.append(log_file(tmp_path / name).read_bytes() if commits == 2 else b"")
        die(store) if commits == 2 else store.close()
        logs[-1] = logs[-1] or log_file(tmp_path / name).read_bytes()
    long, short = logs[0], logs[1].rstrip(b"\0")
    at = long.index(frame.MAGIC, len(short) + 8)
    log_file(tmp_path / "short").write_bytes(short.ljust(at, b"\0") + long[at:])
    reader = directory_store(tmp_path / "short", read_only=True)
    assert (reader.view(WF).version, reader.view(WF).get("a")) == (2, b"1")
    assert [found.severity for found in reader.verify().findings if found.file.endswith(".state")] == ["torn tail"]
    reader.close()


def test_d10_the_first_frame_follows_no_other(path: Path) -> None:
    """A file frame that links to another frame begins no log."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    log = store._document(WF)._log
    assert log is not None and log.body is not None
    body = bodies.file_draft(log.body)
    for link, is_one in ((0, True), (7, False)):
        data, _ = frame.assemble(body, frame.Place(0, 99, link, 0, 0), NOTHING)
        (path / "workflows" / "other.state").write_bytes(data)
        made = store._context.open_log(store.layout.documents("workflow"), "other.state", write=False)
        assert made is not None
        assert (made.first(len(data)) is not None) is is_one
    (path / "workflows" / "other.state").unlink()
    store.close()


def large_commit_without_sync(path: Path) -> tuple[bytes, int]:
    """A log whose last commit, with a large part in blocks, no sync is on record for; and where that part stands."""
    store = directory_store(path, enabled=False, chunk_size=4096)
    store.submit(putting(a=b"1")).result()
    large = b"".join(b"%06d." % number for number in range(3000))
    store.submit(putting(large=large)).result()
    die(store)
    data = log_file(path).read_bytes()
    return data, data.index(b"002000.")


def test_d07_a_commit_whose_blocks_are_torn_is_a_torn_tail(path: Path) -> None:
    """The header of its frame is whole, its blocks did not all reach the medium: it was never acknowledged."""
    data, at = large_commit_without_sync(path)
    log_file(path).write_bytes(data[:at] + bytes(512) + data[at + 512 :])
    reader = directory_store(path, read_only=True)
    assert (reader.view(WF).version, list(reader.view(WF).keys())) == (1, ["a"])
    reader.close()
    store = directory_store(path)
    assert store.submit(putting(b=b"2")).result().version == 2
    closed_soundly(path, store, a=b"1", b=b"2")


def test_d07_a_snapshot_whose_blocks_are_torn_is_passed_over(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs time: the log is read from its start."""
    monkeypatch.setattr(document, "SNAPSHOT_FRAMES", 1)
    store = directory_store(path, enabled=False)
    for number in range(4):
        store.submit(putting(**{f"k{number}": b"v%d" % number * 50})).result()
    assert store.tidy(WF, "snapshot")
    end = store._document(WF)._log.end  # type: ignore[union-attr]
    die(store)
    data = bytearray(log_file(path).read_bytes())
    data[data.rindex(b"v2v2", 0, end)] ^= 1
    log_file(path).write_bytes(data)
    reader = directory_store(path, read_only=True)
    assert [reader.view(WF).get(f"k{number}") for number in range(4)] == [b"v%d" % number * 50 for number in range(4)]
    reader.close()


def test_d12_a_decision_that_comes_back_after_a_compaction_changes_nothing(path: Path) -> None:
    """Its frames belong into a generation of the file that is no more."""
    store = directory_store(path)
    other = DocumentId("workflow", "other")
    for document_id in (WF, other):
        for number in range(20):
            store.submit(change(document_id, lambda tx, n=number: tx.put("a", b"%d" % n * 200))).result()
    joint = store.begin()
    joint.document(WF).put("a", b"decided")
    joint.document(other).put("a", b"decided")
    assert store.commit(joint, JointChange("op", "test", repeatable=False))
    (name,) = os.listdir(path / "transactions")
    kept = (path / "transactions" / name).read_bytes()
    store._settle()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "DAY_US", -1)
        assert all(store.tidy(each, "compact") for each in (WF, other))
    store.close()
    (path / "transactions" / name).write_bytes(kept)
    store = directory_store(path)
    assert [store.view(each).get("a") for each in (WF, other)] == [b"decided"] * 2
    store.submit(putting(a=b"2")).result()
    store.close()
    assert os.listdir(path / "transactions") == []


def test_c10_a_new_log_that_a_commit_was_written_to_is_not_taken_away(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt behind the write of a transaction's only commit leaves what others may have read by now."""
    store = directory_store(path)
    other = DocumentId("workflow", "other")
    joint = store.begin()
    joint.document(other).get("a")
    joint.document(WF).put("a", b"1")
    real = Log.put

    def put(self: Log, data: bytes, size: int) -> None:
        real(self, data, size)
        raise KeyboardInterrupt

    monkeypatch.setattr(Log, "put", put)
    with pytest.raises(KeyboardInterrupt):
        store.commit(joint, JointChange("op", "test", repeatable=False))
    monkeypatch.undo()
    assert store.view(WF).get("a") == b"1"
    closed_soundly(path, store, a=b"1")


def test_derived_data_that_is_torn_is_as_good_as_not_there(path: Path) -> None:
    """The checksum stands in front of what it covers."""
    store = directory_store(path)
    store.keep("rows", b"derived" * 50)
    assert store.recall("rows") == b"derived" * 50
    place = path / "index" / "rows"
    data = bytearray(place.read_bytes())
    data[-1] ^= 1
    place.write_bytes(data)
    assert store.recall("rows") is None
    store.close()
