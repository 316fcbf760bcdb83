"""Every damage that `verify` and `doctor` can name: it is made, named, and mended by a repair that deletes nothing."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

import waypost
from tests.store.support import WF, SystemCalls, change, directory_store, failing, putting, system_calls
from tests.totals import RING, ring_size
from waypost.cli.examination import examine
from waypost.codec import bodies, frame
from waypost.codec.frame import Draft, FrameType, Header, Place, Standing
from waypost.errors import DocumentDamaged, LockTimeout, StoreLeased, StoreNotFound, StoreUnavailable, UnsupportedFormat
from waypost.store import DocumentId
from waypost.store.directory import compaction, lease, salvage
from waypost.store.directory.document import Document
from waypost.store.directory.layout import open_layout
from waypost.store.directory.mending import Repaired

OTHER = DocumentId("workflow", "other")
Parts = dict[str, bytes | None]


# --- a store to damage ---


class Intact(NamedTuple):
    """A closed store, and what `wf` held at each version; version 4 put the large part, a snapshot stands at 6."""

    path: Path
    versions: dict[int, Parts]

    @property
    def log(self) -> Path:
        return self.path / "workflows" / "wf.state"


@pytest.fixture
def intact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Intact:
    return _make(tmp_path / "store", monkeypatch)


def _make(path: Path, monkeypatch: pytest.MonkeyPatch) -> Intact:
    versions: dict[int, Parts] = {0: {}}
    store = directory_store(path, enabled=False, chunk_size=4096)

    def commit(**values: bytes) -> None:
        version = store.submit(putting(**values)).result().version
        versions[version] = {**versions[version - 1], **values}

    commit(a=b"1", b=b"1")
    commit(b=b"2")
    commit(c=b"3" * 40)
    commit(large=b"large " * 1500)
    commit(a=b"5")
    commit(d=b"6")
    with monkeypatch.context() as patch:
        patch.setattr(Document, "snapshot_is_due", staticmethod(lambda state: True))
        assert store.tidy(WF, "snapshot")
    commit(b=b"7")
    commit(e=b"8")
    store.submit(change(OTHER, lambda tx: tx.put("n", b"other"))).result()
    store.close()
    return Intact(path, versions)


def look(path: Path, document: DocumentId = WF) -> tuple[int, Parts]:
    store = directory_store(path, read_only=True)
    try:
        view = store.view(document)
        return view.version, {key: view.get(key) for key in view.keys()}
    finally:
        store.close()


def texts(path: Path) -> str:
    """What `verify` finds amiss."""
    store = directory_store(path, read_only=True)
    try:
        return "; ".join(found.text for found in store.verify().findings if found.severity != "note")
    finally:
        store.close()


def contents(path: Path) -> list[bytes]:
    return [each.read_bytes() for each in path.rglob("*") if each.is_file() and not each.is_symlink()]


# --- forging: frames that are whole, and say what no writer would ---


class Piece(NamedTuple):
    """A frame of a log, taken apart."""

    header: Header
    body: bytes
    blocks: bytes

    @property
    def standing(self) -> Standing:
        header = self.header
        return Standing(header.version, header.time_us, header.size_bytes, header.document_checksum, header.commit_id)


def _pieces(data: bytes) -> Iterator[Piece]:
    at = 0
    while (header := frame.read_header(data, at)) is not None:
        body = data[at + header.body_offset : at + header.blocks_offset]
        yield Piece(header, body, data[at + header.blocks_offset : at + header.length])
        at += header.length


def forge(file: Path, kind: FrameType, number: int, edit: Callable[[Piece], tuple[Piece, Standing]]) -> None:
    """Let the n-th frame of a kind say something else, and all behind it link to that."""
    written, link, seen = b"", 0, 0
    data = file.read_bytes()
    for piece in _pieces(data):
        at = len(written)
        standing = piece.standing
        if piece.header.type == kind:
            seen += 1
            if seen == number:
                piece, standing = edit(piece)
        header = piece.header
        draft = Draft(FrameType(header.type), header.codec, piece.body, header.raw, None, [piece.blocks])
        draft = draft._replace(touched=frame.touched_parts(header, data, at))
        place = Place(len(written), header.file_id, link, header.synced, header.base)
        forged, made = frame.assemble(draft, place, standing)
        assert len(forged) == header.length, "nothing may move"
        written, link = written + forged, made.checksum
    assert seen >= number
    file.write_bytes(written)


def _with_block(piece: Piece, edit: Callable[[bytes], bytes]) -> Piece:
    """Another first block of the same length, with a checksum that fits."""
    (length,) = bodies._TABLE_LENGTH.unpack_from(piece.body)
    table = msgspec.msgpack.decode(piece.body[4 : 4 + length], type=list[bodies.Block])
    first = edit(piece.blocks[: table[0].stored])
    assert len(first) == table[0].stored
    table[0] = table[0]._replace(checksum=frame.block_checksum(first))
    encoded = msgspec.msgpack.encode(table)
    assert len(encoded) == length, "choose another edit: the table became longer"
    body = piece.body[:4] + encoded + piece.body[4 + length :]
    return piece._replace(body=body, blocks=first + piece.blocks[table[0].stored :])


# --- damages ---


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def frame_at(file: Path, number: int) -> int:
    """Where the n-th frame of a log begins."""
    return sum(piece.header.length for piece in list(_pieces(file.read_bytes()))[:number])


def a_flipped_bit(store: Intact) -> None:
    flip(store.log, frame_at(store.log, 2) + 150)


def a_flipped_bit_behind_the_snapshot(store: Intact) -> None:
    flip(store.log, frame_at(store.log, 8) + 150)


def a_broken_first_frame(store: Intact) -> None:
    flip(store.log, 145)


def a_flipped_bit_in_a_large_part(store: Intact) -> None:
    flip(store.log, frame_at(store.log, 5) - 100)


def a_flipped_bit_in_a_snapshot(store: Intact) -> None:
    flip(store.log, frame_at(store.log, 8) - 10)


def a_flipped_bit_in_the_seal(store: Intact) -> None:
    flip(store.log, store.log.stat().st_size - 20)


def another_format_in_a_magic(store: Intact) -> None:
    data = bytearray(store.log.read_bytes())
    data[frame_at(store.log, 2) + 3] = 3
    store.log.write_bytes(data)


def a_torn_tail(store: Intact) -> None:
    with store.log.open("ab") as file:
        file.write(b"half a frame" + bytes(3000) + b"and more")


def a_name_that_is_not_its_own(store: Intact) -> None:
    store.log.rename(store.log.with_name("elsewhere.state"))


def a_name_that_another_has(store: Intact) -> None:
    shutil.copy(store.log, store.log.with_name("elsewhere.state"))


def a_folder_that_is_not_its_own(store: Intact) -> None:
    store.log.rename(store.path / "sessions" / "wf.session")


def a_foreign_file(store: Intact) -> None:
    (store.path / "workflows" / "notes.txt").write_text("precious")


def a_foreign_log(store: Intact) -> None:
    store.log.with_name("strange.state").write_text('{"json": true}')


def a_link(store: Intact) -> None:
    (store.path / "workflows" / "linked.state").symlink_to("/etc/hostname")


def a_pipe(store: Intact) -> None:
    os.mkfifo(store.path / "workflows" / "pipe.state")


def a_directory_for_a_log(store: Intact) -> None:
    (store.path / "sessions" / "folder.session").mkdir()


def another_ignore_file(store: Intact) -> None:
    (store.path / ".gitignore").write_text("*.log\n")


def no_ignore_file(store: Intact) -> None:
    (store.path / ".gitignore").unlink()


def an_unreadable_lease(store: Intact) -> None:
    (store.path / "lease").write_text('{"host": "half a li')


def a_leftover(store: Intact) -> None:
    (store.path / "temp" / "0123456789abcdef.new").write_bytes(b"half a log")


def a_foreign_leftover(store: Intact) -> None:
    (store.path / "temp" / "notes.txt").write_bytes(b"something")


def no_workflows(store: Intact) -> None:
    shutil.rmtree(store.path / "workflows")


def a_seal_that_covers_nothing(store: Intact) -> None:
    def edit(piece: Piece) -> tuple[Piece, Standing]:
        return piece._replace(header=piece.header._replace(synced=1)), piece.standing

    forge(store.log, FrameType.SEAL, 1, edit)


def a_version_out_of_order(store: Intact) -> None:
    def edit(piece: Piece) -> tuple[Piece, Standing]:
        return piece, piece.standing._replace(version=11)

    forge(store.log, FrameType.COMMIT, 8, edit)
    store.versions[11] = store.versions[8]  # the parts at hand are all that its sum speaks of


def a_foreign_commit_id(store: Intact) -> None:
    def edit(piece: Piece) -> tuple[Piece, Standing]:
        return piece, piece.standing._replace(commit_id=b"\1" * 32)

    forge(store.log, FrameType.COMMIT, 3, edit)


def a_wrong_sum(store: Intact) -> None:
    def edit(piece: Piece) -> tuple[Piece, Standing]:
        return piece, piece.standing._replace(checksum=b"\1" * 32)

    forge(store.log, FrameType.COMMIT, 2, edit)


def a_body_that_does_not_decode(store: Intact) -> None:
    def edit(piece: Piece) -> tuple[Piece, Standing]:
        return piece._replace(body=b"\xc1" + piece.body[1:]), piece.standing

    forge(store.log, FrameType.COMMIT, 2, edit)


def a_large_part_of_another_value(store: Intact) -> None:
    def edit(piece: Piece) -> tuple[Piece, Standing]:
        return _with_block(piece, lambda block: b"L" + block[1:]), piece.standing

    forge(store.log, FrameType.COMMIT, 4, edit)


def a_snapshot_out_of_order(store: Intact) -> None:
    def edit(piece: Piece) -> tuple[Piece, Standing]:
        def turn(block: bytes) -> bytes:
            return msgspec.msgpack.encode(dict(reversed(msgspec.msgpack.decode(block).items())))

        return _with_block(piece, turn), piece.standing

    forge(store.log, FrameType.SNAPSHOT, 1, edit)


class Case(NamedTuple):
    """A damage, words of what `verify` says of it, and the version that is kept (None: it is no matter of `wf`)."""

    make: Callable[[Intact], None]
    named: str
    version: int | None = 8
    is_exact: bool = True
    lost_parts: tuple[str, ...] = ()


CASES = [
    Case(a_flipped_bit, "a frame that was synced is not whole"),
    Case(a_flipped_bit_behind_the_snapshot, "a frame that was synced is not whole", 6),
    Case(a_broken_first_frame, "a frame that was synced is not whole"),
    Case(a_flipped_bit_in_a_large_part, "a frame that was synced is not whole", 9, False, ("large",)),
    Case(a_flipped_bit_in_a_snapshot, "a frame that was synced is not whole"),
    Case(a_flipped_bit_in_the_seal, "bytes that belong to no whole frame"),
    Case(another_format_in_a_magic, "a frame that is whole says that it is of format 3"),
    Case(a_torn_tail, "bytes that belong to no whole frame"),
    Case(a_name_that_is_not_its_own, "whose file has another name"),
    Case(a_name_that_another_has, "whose file has another name"),
    Case(a_folder_that_is_not_its_own, "whose file has another name"),
    Case(a_foreign_file, "is no file of a store"),
    Case(a_foreign_log, "bytes that belong to no whole frame"),
    Case(a_link, "cannot open"),
    Case(a_pipe, "is not a regular file"),
    Case(a_directory_for_a_log, "is not a regular file"),
    Case(another_ignore_file, "does not say what it should"),
    Case(no_ignore_file, "does not say what it should"),
    Case(an_unreadable_lease, "the lease cannot be read"),
    Case(a_leftover, "is being written, or its writer died"),
    Case(a_foreign_leftover, "is being written, or its writer died"),
    Case(no_workflows, "is missing", 0),
    Case(a_seal_that_covers_nothing, "a seal does not cover what stands before it"),
    Case(a_version_out_of_order, "version 11 stands behind version 7", 11),
    Case(a_foreign_commit_id, "its commit id is not that of its parent and content"),
    Case(a_wrong_sum, "version 2 is not what its checksum says"),
    Case(a_body_that_does_not_decode, ""),
    Case(a_large_part_of_another_value, "is not the one that its digest names", 9, False, ("large",)),
    Case(a_snapshot_out_of_order, "the keys of a snapshot are out of order"),
]
each_case = pytest.mark.parametrize("case", CASES, ids=[case.make.__name__ for case in CASES])


def check_mended(store: Intact, case: Case, before: list[bytes]) -> None:
    """The store is sound, holds what the case says, can be written to, and no byte of before is gone."""
    assert texts(store.path) == ""
    version, parts = look(store.path)
    assert version == case.version
    if case.is_exact:
        assert parts == store.versions[version]
    else:
        kept = store.versions[version - 1]
        assert parts == {key: value for key, value in kept.items() if key not in case.lost_parts}
    after = b"\0\0\0".join(contents(store.path))
    cuts = [int(each.name.split(".")[2]) for each in store.path.glob("damaged/*.torn*")]
    for content in before:
        content = content.rstrip(b"\0")
        is_kept = content in after or any(content[:cut] in after and content[cut:] in after for cut in cuts)
        assert is_kept, "what a repair takes away it keeps in damaged/"
    if case.make is not no_workflows:
        assert look(store.path, OTHER) == (1, {"n": b"other"})
    written = directory_store(store.path)
    assert written.submit(putting(new=b"1")).result().version == version + 1
    written.close()
    assert texts(store.path) == ""


@each_case
def test_e10_each_damage_is_named_and_mended(intact: Intact, case: Case) -> None:
    """`verify` names it; a dry run says what would be done and changes nothing; a repair leaves a sound store, and
    another one has nothing to do.
    """
    case.make(intact)
    assert case.named in texts(intact.path) != ""
    before = contents(intact.path)
    names = sorted(map(str, intact.path.rglob("*")))
    planned = waypost.repair(intact.path, dry_run=True)
    assert planned.dry_run and planned.repaired
    assert (contents(intact.path), sorted(map(str, intact.path.rglob("*")))) == (before, names)
    done = waypost.repair(intact.path)
    assert [_plain(each) for each in planned.repaired] == [_plain(each) for each in done.repaired]
    assert done.is_complete
    assert waypost.repair(intact.path).repaired == []
    (told,) = done.repaired
    assert told.is_exact is case.is_exact and told.lost_parts == case.lost_parts
    if told.original is not None:
        assert (intact.path / told.original).exists() or (intact.path / told.original).is_symlink()
    check_mended(intact, case, before)


def _plain(each: Repaired) -> Repaired:
    return replace(each, original=None)


class Killed(BaseException):
    """The process is dead."""


CHANGING = {"open", "pwrite", "ftruncate", "rename", "link", "unlink", "mkdir", "rmdir", "fsync", "fdatasync", "fchmod"}


def dying(calls: SystemCalls, at: int) -> Callable[[], bool]:
    """Die before the n-th call that changes something, and do nothing after; whether it came to that."""
    seen = 0

    def fault(name: str, _count: int, _args: tuple[Any, ...]) -> None:
        nonlocal seen
        seen += name in CHANGING
        if seen >= at and name in CHANGING:
            raise Killed

    calls.fault = fault
    return lambda: seen >= at


EVERY = ring_size(10, 1)
"""Of so many calls a repair is killed before one."""


@each_case
def test_d14_a_repair_that_is_killed_anywhere_is_done_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    """Killed before any of its calls and run again, twice killed at that, a repair comes to the same end."""
    made = _make(tmp_path / "made", monkeypatch)
    case.make(made)
    before = contents(made.path)
    # each case begins elsewhere, so that with every change all points are met by some
    at, reached, killed = 1 if RING == "N" else 1 + CASES.index(case) % EVERY, True, 0
    while reached:
        store = made._replace(path=tmp_path / f"store{at}")
        shutil.copytree(made.path, store.path, symlinks=True) if case.make is not a_pipe else _copy_with_pipe(
            made, store
        )
        for _ in range(2):
            with system_calls() as calls:
                was_reached = dying(calls, at)
                try:
                    waypost.repair(store.path)
                except Killed:
                    pass
                reached = was_reached()
            killed += reached
            gc.collect()  # a dead process has nothing open, and so no lock
        waypost.repair(store.path)
        assert waypost.repair(store.path).repaired == [], at
        kept = [each.lstat().st_ino for each in store.path.glob("damaged/*")]
        assert len(kept) == len(set(kept)), "what a killed repair has kept already is kept once"
        check_mended(store, case, before)
        shutil.rmtree(store.path)
        at += EVERY
    assert killed


def _copy_with_pipe(made: Intact, store: Intact) -> None:
    shutil.copytree(made.path, store.path, ignore=shutil.ignore_patterns("pipe.state"))
    a_pipe(store)


# --- what a repair can tell, and what it leaves alone ---


def test_e10_doctors_problems_are_mended_too(intact: Intact) -> None:
    """A store that others may write to is closed to them, and an unreadable lease goes out of the way."""
    intact.path.chmod(0o777)
    an_unreadable_lease(intact)
    problems = {"access", "lease"}

    def named() -> set[str]:
        layout, _ = open_layout(str(intact.path), create=False, read_only=True)
        return {check.name for check in examine(layout) if check.verdict == "problem"} & problems

    assert named() == problems
    assert {each.action for each in waypost.repair(intact.path).repaired} == {"moved aside", "closed to others"}
    assert named() == set()
    assert intact.path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("content", [None, b"waypost", b"waypost 1", b"Waypost 1\n", b"\0" * 10])
def test_e10_a_store_without_its_format_is_a_store_again(intact: Intact, content: bytes | None) -> None:
    """A FORMAT that is gone or says nothing is written again; a store is known by its logs."""
    marker = intact.path / "FORMAT"
    if content is None:
        marker.unlink()
    else:
        marker.write_bytes(content)
    with pytest.raises((UnsupportedFormat, StoreNotFound)):
        directory_store(intact.path, read_only=True)
    (told,) = waypost.repair(intact.path).repaired
    assert told.file == "FORMAT" and told.action == ("made" if content is None else "written anew")
    assert look(intact.path) == (8, intact.versions[8])
    if content is not None:
        assert (intact.path / "damaged" / "FORMAT.1").read_bytes() == content


def test_v07_a_store_or_log_of_a_newer_release_is_left_alone(intact: Intact) -> None:
    """What a newer release wrote is refused or left, and no byte of it changed."""
    log = intact.log.with_name("newer.state")
    log.write_bytes(b"WPF\x02" + bytes(range(1, 200)))
    report = waypost.repair(intact.path)
    (told,) = report.repaired
    assert told.action == "left" and "newer release" in told.found and not report.is_complete
    assert log.read_bytes() == b"WPF\x02" + bytes(range(1, 200))
    (intact.path / "FORMAT").write_text("waypost 2\n")
    with pytest.raises(UnsupportedFormat, match="only a newer release"):
        waypost.repair(intact.path)
    assert (intact.path / "FORMAT").read_text() == "waypost 2\n"


@pytest.mark.parametrize("harm", [None, a_flipped_bit])
def test_v07_commits_that_a_newer_release_appended_are_left_alone(
    intact: Intact, harm: Callable[[Intact], None] | None
) -> None:
    """`verify` tells of them and not of damage, and a repair leaves their log as it is, whatever else is amiss."""
    intact.log.write_bytes(intact.log.read_bytes() + b"WPF\x02" + bytes(range(1, 200)))
    store = directory_store(intact.path, read_only=True)
    (found,) = [each for each in store.verify().findings if each.severity != "note"]
    assert found.severity == "unreadable" and "newer release" in found.text and not store.verify().sound
    store.close()
    if harm is not None:
        harm(intact)
    before = intact.log.read_bytes()
    report = waypost.repair(intact.path)
    assert [(each.action, each.file) for each in report.repaired] == [("left", "workflows/wf.state")]
    assert "newer release" in report.repaired[0].found and not report.is_complete
    assert intact.log.read_bytes() == before and not (intact.path / "damaged").exists()


def test_a_linked_folder_is_left_and_told(intact: Intact, tmp_path: Path) -> None:
    """A folder of logs that is a link is not emptied by moving it aside."""
    (intact.path / "workflows").rename(tmp_path / "disk")
    (intact.path / "workflows").symlink_to(tmp_path / "disk")
    (told,) = waypost.repair(intact.path).repaired
    assert told.action == "left" and "is a link" in told.found
    assert (tmp_path / "disk" / "wf.state").exists()


def test_a_directory_that_is_no_store_is_not_repaired(tmp_path: Path) -> None:
    """Nothing is made of somebody's folder."""
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StoreNotFound):
        waypost.repair(tmp_path)
    with pytest.raises(waypost.InvalidInput):
        waypost.repair("memory:")
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]


def test_c03_a_store_of_another_machine_is_not_repaired(intact: Intact) -> None:
    """Where another kernel may be writing nothing is mended, and looking is allowed."""
    a_flipped_bit(intact)
    held = lease._text(lease.Holder("elsewhere/123", "another-boot", "2026-01-02T03:04:05+00:00"))
    (intact.path / "lease").write_bytes(held)
    before = contents(intact.path)
    with pytest.raises(StoreLeased):
        waypost.repair(intact.path)
    assert len(waypost.repair(intact.path, dry_run=True).repaired) == 1
    assert contents(intact.path) == before


def test_c07_two_repairs_do_not_meet(intact: Intact) -> None:
    """While one repair is at work another one is refused."""
    a_flipped_bit(intact)
    descriptor = os.open(intact.path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(LockTimeout, match="another process"):
        waypost.repair(intact.path)
    os.close(descriptor)
    assert waypost.repair(intact.path).repaired


def test_a_living_writer_goes_on_behind_a_repair(intact: Intact) -> None:
    """Another process that has the store open finds the mended log, and commits to it."""
    store = directory_store(intact.path)
    store.submit(change(OTHER, lambda tx: tx.put("n", b"2"))).result()
    a_flipped_bit_behind_the_snapshot(intact)
    with pytest.raises(DocumentDamaged, match="waypost store repair"):
        store.view(WF)
    (told,) = waypost.repair(intact.path).repaired
    assert (told.id, told.kept_version, told.newest_version) == ("wf", 6, 8)
    assert store.submit(putting(new=b"1")).result().version == 7
    assert store.submit(change(OTHER, lambda tx: tx.put("n", b"3"))).result().version == 3
    store.close()
    assert texts(intact.path) == ""


def test_a_repair_says_what_was_kept_and_lost(intact: Intact) -> None:
    """Document, versions, parts, bytes, and where the original is: in the report, and in a file beside the original."""
    a_flipped_bit_behind_the_snapshot(intact)
    start = frame_at(intact.log, 8)
    (told,) = waypost.repair(intact.path).repaired
    assert (told.file, told.kind, told.id, told.action) == ("workflows/wf.state", "workflow", "wf", "written anew")
    assert (told.kept_version, told.newest_version, told.history_from, told.kept_parts) == (6, 8, 0, 5)
    assert told.lost_changes == ("e",) and told.lost_bytes[0][0] == start
    assert told.original == "damaged/wf.state.1"
    kept = msgspec.json.decode((intact.path / "damaged" / "wf.state.1.json").read_bytes())
    assert (kept["kept_version"], kept["lost_changes"], kept["original"]) == (6, ["e"], "damaged/wf.state.1")


def test_history_before_a_break_is_given_up_and_its_ids_are_kept(intact: Intact) -> None:
    """Behind a break that a snapshot bridges, history begins anew; of the versions before, those ids stay that are
    known.
    """
    ids = _ids(intact.log.read_bytes())
    a_flipped_bit(intact)
    (told,) = waypost.repair(intact.path).repaired
    assert told.kept_version == told.newest_version == 8
    store = directory_store(intact.path, read_only=True)
    kept_from = told.history_from or 0
    assert 2 <= kept_from <= 6
    for version in range(9):
        view = store.view_at(WF, version)
        if version >= kept_from or version == 0:
            assert view is not None
            assert {key: view.get(key) for key in view.keys()} == intact.versions[version]
            assert version == 0 or view.commit_id == ids[version]
        else:
            assert view is None
    store.close()
    dropped = bodies.read_file(next(_pieces(intact.log.read_bytes())).body).dropped
    known = [dropped[at : at + 32] for at in range(0, len(dropped), 32)]
    assert known == [ids[version] if version != 2 else bytes(32) for version in range(1, kept_from + 1)]


def _ids(data: bytes) -> dict[int, bytes]:
    return {piece.header.version: piece.header.commit_id for piece in _pieces(data)}


def test_a_lost_commit_that_was_written_over_is_not_missed(tmp_path: Path) -> None:
    """Where later commits replace all that a lost one held, the newest version is proven by its sum, and kept."""
    path = tmp_path / "store"
    store = directory_store(path, enabled=False)
    for value in (b"1", b"2", b"3"):
        store.submit(putting(a=value)).result()
    store.close()
    log = path / "workflows" / "wf.state"
    flip(log, frame_at(log, 2) + 150)
    (told,) = waypost.repair(path).repaired
    assert (told.kept_version, told.is_exact) == (3, True)
    assert look(path) == (3, {"a": b"3"})


def test_whole_blocks_of_a_snapshot_are_kept_where_nothing_else_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the only snapshot of a compacted log damaged, what stands in its whole blocks and in the commits behind it
    is kept as a new version, and the range of keys that may be missing is told.
    """
    path = tmp_path / "store"
    store = directory_store(path, enabled=False)
    parts = {f"k{number:03}": os.urandom(1000) for number in range(100)}
    store.submit(putting(**parts)).result()
    monkeypatch.setattr(compaction, "DAY_US", -1)
    assert store.tidy(WF, "compact")
    store.submit(putting(k000=b"new", z=b"last")).result()
    store.close()
    log = path / "workflows" / "wf.state"
    flip(log, frame_at(log, 2) - 60_000)
    (told,) = waypost.repair(path).repaired
    assert not told.is_exact and told.kept_version == 3 and told.newest_version == 2
    ((first, behind),) = told.lost_keys
    version, kept = look(path)
    assert version == 3
    expected = {**parts, "k000": b"new", "z": b"last"}
    assert behind is not None
    assert kept == {key: value for key, value in expected.items() if not first <= key < behind}
    assert 30 <= len(kept) <= 90


def test_d04_a_repair_that_finds_no_room_leaves_all_as_it_was(intact: Intact) -> None:
    """A full disk ends a repair with the documented error; the damaged log stands where it stood."""
    a_flipped_bit(intact)
    before = intact.log.read_bytes()
    with system_calls() as calls:

        def full(name: str, _count: int, _args: tuple[Any, ...]) -> None:
            if name == "pwrite" and len(_args[1]) > 100:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        calls.fault = full
        with pytest.raises(waypost.StoreUnavailable):
            waypost.repair(intact.path)
    assert intact.log.read_bytes() == before
    assert waypost.repair(intact.path).repaired


# --- what keeps a sound log from being read ---


@pytest.mark.parametrize("error", ["EMFILE", "ENFILE", "ENOMEM", "EIO"])
@pytest.mark.parametrize("call", ["open", "pread"])
def test_e10_a_log_that_a_repair_could_not_read_is_not_taken_for_damaged(intact: Intact, call: str, error: str) -> None:
    """Whichever of its calls is refused once, nothing of a sound store is written anew or moved aside."""
    before, number = intact.log.read_bytes(), 0
    for number in count(1):
        with system_calls() as calls:
            calls.fault = failing(call, number, getattr(errno, error))
            try:
                assert {each.action for each in waypost.repair(intact.path).repaired} <= {"left"}
            except StoreUnavailable:
                continue
            finally:
                assert intact.log.read_bytes() == before
                assert not (intact.path / "damaged").exists() or not os.listdir(intact.path / "damaged")
        if calls.count(call) < number:
            break  # it went through without a refusal
    assert number > 10


@pytest.mark.parametrize("error", ["EMFILE", "ENFILE", "ENOMEM"])
def test_e10_a_log_that_there_is_no_room_to_open_is_not_told_damaged(intact: Intact, error: str) -> None:
    """That this process has too much open says nothing of the file."""

    def fault(name: str, _count: int, args: tuple[Any, ...]) -> None:
        if name == "open" and args[0] == intact.log.name:
            raise OSError(getattr(errno, error), os.strerror(getattr(errno, error)))

    store = directory_store(intact.path, read_only=True)
    with system_calls() as calls:
        calls.fault = fault
        report = store.verify()
    store.close()
    assert [each.severity for each in report.findings if each.file == str(intact.log)] == ["unreadable"]
    assert not report.sound


@pytest.mark.parametrize("name", [".gitignore", "FORMAT", "lease"])
@pytest.mark.parametrize("kind", ["directory", "link"])
def test_e10_what_is_no_file_where_one_has_to_be_is_found_with_all_else(intact: Intact, kind: str, name: str) -> None:
    """Verifying tells of it and goes on: the logs are read all the same."""
    store = directory_store(intact.path, read_only=True)
    place = intact.path / name
    place.unlink(missing_ok=True)
    place.mkdir() if kind == "directory" else place.symlink_to("elsewhere")
    report = store.verify()
    store.close()
    assert [(each.severity, each.file) for each in report.findings] == [("damage", str(place))]
    assert report.documents == 2
    waypost.repair(intact.path)
    assert look(intact.path)[1] == intact.versions[8]
    assert directory_store(intact.path, read_only=True).verify().sound


def test_parts_that_are_lost_are_left_out_in_the_time_that_they_take() -> None:
    """They are gone through once, and not once for each part that there is."""

    class Lost(list[str]):
        looks = 0

        def __iter__(self) -> Iterator[str]:
            self.looks += 1
            return super().__iter__()

    lost = Lost(f"part {number}" for number in range(3))
    parts: dict[str, bodies.Part] = dict.fromkeys(["part 0", "kept", "part 1", "also"], b"")
    best = salvage._Version(parts, salvage.NOTHING, ({}, salvage.NOTHING), [])
    assert sorted(salvage._as_new_version(best, lost, {}).parts) == ["also", "kept"]
    assert lost.looks == 1
