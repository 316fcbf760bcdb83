"""The log as bytes: what is valid, what is torn, what is damage."""

from __future__ import annotations

import json
import os
import random
import zlib

import pytest

from tests.store.support import WF, change, directory_store, putting
from waypost.codec import frame
from waypost.codec.frame import Draft, FrameType, Place, new_file_id
from waypost.errors import DocumentDamaged, StoreUnavailable, UnsupportedFormat
from waypost.store.directory import compaction
from waypost.store.directory.layout import decode_id, encode_id, names_begin
from waypost.store.directory.log import NOTHING


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


def log_file(path):
    return path / "workflows" / "wf.state"


def filled(path, commits=20, **options):
    """A closed store with some commits; returns the log's bytes."""
    store = directory_store(path, **options)
    for number in range(commits):
        store.submit(putting(**{f"k{number % 7}": b"value %d " % number * 9})).result()
    store.close()
    return log_file(path).read_bytes()


def read_all(path):
    store = directory_store(path, read_only=True)
    try:
        view = store.view(WF)
        return view.version, {key: view.get(key) for key in view.keys()}
    finally:
        store.close()


def expected(version):
    return {f"k{number % 7}": b"value %d " % number * 9 for number in range(version)}


def test_the_layout_of_a_frame_is_the_one_in_the_format():
    """The header's fields stand at the documented offsets."""
    draft = Draft(FrameType.COMMIT, 0, b"body", 4, (7, 9), ())
    standing = NOTHING._replace(version=3, time_us=4, size_bytes=5, checksum=b"\1" * 32, commit_id=b"\2" * 32)
    data, header = frame.assemble(draft, Place(1000, 77, 88, 99, 111), standing)
    checksum = header.checksum
    assert frame.read_header(data) == header
    number = lambda at, size: int.from_bytes(data[at : at + size], "little")  # noqa: E731 - a short name for a table
    assert data[:4] == b"WPF\x01"
    assert [number(4, 4), number(8, 4), number(12, 4), number(16, 4)] == [checksum, 140 + 8 + 4, 4, 4]
    assert [data[20], data[21], number(22, 2)] == [2, 0, 2]
    assert [number(at, 8) for at in (24, 32, 40, 48, 56)] == [3, 4, 99, 111, 77]
    assert [number(64, 4), number(68, 8)] == [88, 5]
    assert (data[76:108], data[108:140], data[140:148]) == (b"\1" * 32, b"\2" * 32, b"\7\0\0\0\x09\0\0\0")
    binding = zlib.crc32((77).to_bytes(8, "little") + (1000).to_bytes(8, "little"), 0x5750)
    assert checksum == zlib.crc32(data[8:], binding)


def test_d09_blank_bytes_are_never_a_frame():
    """A stretch of zeros or of 0xFF is no frame at any length and offset."""
    for byte in (b"\x00", b"\xff"):
        for length in (0, 1, 139, 140, 4096):
            assert frame.read_header(byte * length) is None


def test_d10_a_frame_is_bound_to_its_file_and_place():
    """The same bytes at another offset, or with another file's id, are no valid frame."""
    data, _ = frame.assemble(frame.seal_draft(), Place(500, 42, 0, 0, 0), NOTHING)
    header = frame.read_header(data)
    assert header is not None and frame.intact(header, data, 0, 500)
    assert not frame.intact(header, data, 0, 501)
    assert not frame.intact(header._replace(file_id=43), data, 0, 500)


def test_d10_a_copied_frame_is_not_replayed(path):
    """A commit frame appended once more behind the log is a torn tail, not a commit."""
    data = filled(path, 3)
    at = data.index(frame.MAGIC, 4)
    header = frame.read_header(data, at)
    with log_file(path).open("ab") as file:
        file.write(data[at : at + header.length])
    assert read_all(path) == (3, expected(3))


def test_d10_a_frame_that_links_to_another_is_not_replayed(path):
    """A whole frame of this file and place, whose link is not the checksum of the frame before it, is no commit."""
    data = filled(path, 3)
    at = data.index(frame.MAGIC, 4)
    header = frame.read_header(data, at)
    body = data[at + header.body_offset : at + header.blocks_offset]
    draft = Draft(FrameType.COMMIT, header.codec, body, header.raw, None, ())
    standing = NOTHING._replace(version=4)
    last = frame.read_header(data, data.rindex(frame.MAGIC))
    for link, version in ((last.checksum ^ 1, 3), (last.checksum, 4)):
        forged, _ = frame.assemble(draft, Place(len(data), header.file_id, link, 0, 0), standing)
        log_file(path).write_bytes(data + forged)
        assert read_all(path)[0] == version


def test_d11_a_length_beyond_the_file_is_refused_before_anything_is_allocated():
    """A header that declares more than is there, or than the bound allows, does not fit."""
    data, _ = frame.assemble(frame.seal_draft(), Place(0, 1, 0, 0, 0), NOTHING)
    header = frame.read_header(data)
    assert frame.fits(header, len(data)) and not frame.fits(header, len(data) - 1)
    assert not frame.fits(header, 1 << 40, limit=len(data) - 1)
    assert not frame.fits(header._replace(stored=header.length), 1 << 40)


def test_t08_every_truncation_gives_an_earlier_commit_or_an_error(path):
    """Cut at any byte, a log shows a prefix of what was committed, or is refused; never anything else."""
    data = filled(path, 8)
    seen = set()
    for length in range(0, len(data), 7):
        log_file(path).write_bytes(data[:length])
        try:
            version, parts = read_all(path)
        except DocumentDamaged:
            continue
        assert parts == expected(version)
        seen.add(version)
    assert seen == set(range(9))


def test_t08_a_flipped_bit_never_gives_a_wrong_value(path):
    """With any single bit of a closed log flipped, reading gives what was committed (but for the seal), or an error."""
    data = filled(path, 12)
    rng = random.Random(20)
    for _ in range(400):
        at, bit = rng.randrange(len(data)), 1 << rng.randrange(8)
        broken = bytearray(data)
        broken[at] ^= bit
        log_file(path).write_bytes(broken)
        try:
            version, parts = read_all(path)
        except (DocumentDamaged, UnsupportedFormat):
            continue
        assert (version, parts) == (12, expected(12)), f"bit {bit} of byte {at}"


@pytest.mark.parametrize("options", [{}, {"enabled": False}], ids=["compressed", "plain"])
def test_trap_11_verify_finds_every_flipped_bit_of_a_closed_store(path, options):
    """Of 1,000 random single-bit flips anywhere in a closed store, `verify` finds 1,000."""
    store = directory_store(path, chunk_size=4096, **options)
    for number in range(150):
        store.submit(putting(**{f"k{number % 40}": os.urandom(60) + b"text " * 40})).result()
    store.submit(putting(large=b"large " * 4000)).result()
    store.tidy(WF, "snapshot")
    store.submit(putting(last=b"1")).result()
    store.close()
    files = [file for file in path.rglob("*") if file.is_file()]
    clean = directory_store(path, read_only=True)
    report = clean.verify()
    assert report.findings == [] and report.snapshots >= 1
    rng, missed = random.Random(1000), []
    sizes = [file.stat().st_size for file in files]
    for _ in range(1000):
        (file,) = rng.choices(files, sizes)
        data = file.read_bytes()
        at, bit = rng.randrange(len(data)), 1 << rng.randrange(8)
        with file.open("r+b") as out:
            out.seek(at)
            out.write(bytes([data[at] ^ bit]))
        if clean.verify().sound:
            missed.append((file.name, at, bit))
        with file.open("r+b") as out:
            out.seek(at)
            out.write(data[at : at + 1])
    assert missed == []
    assert clean.verify().findings == []


def test_d07_damage_below_a_synced_offset_is_refused_with_its_offset(path):
    """A bad frame that a later frame knows to be synced is damage: the error names file and offset, nothing is
    changed.
    """
    data = filled(path, 5)
    at = data.index(frame.MAGIC, 300)
    log_file(path).write_bytes(data[: at + 30] + b"!" + data[at + 31 :])
    for read_only in (True, False):
        store = directory_store(path, read_only=read_only)
        with pytest.raises(DocumentDamaged) as caught:
            store.view(WF)
        assert (caught.value.offset, caught.value.file) == (at, str(log_file(path)))
        if not read_only:
            with pytest.raises(DocumentDamaged):
                store.submit(putting(k0=b"new")).result()
        store.close()
    assert log_file(path).read_bytes() == data[: at + 30] + b"!" + data[at + 31 :]


def test_d06_bytes_behind_the_end_are_moved_aside_before_a_new_frame(path, caplog):
    """What a dead writer left is reported, kept in `temp`, and cleared, so that no old frame comes back to life."""
    data = filled(path, 3)
    with log_file(path).open("ab") as file:
        file.write(b"WPF\x01 half a frame" + bytes(300) + b"more of it")
    store = directory_store(path)
    assert store.view(WF).version == 3
    store.submit(putting(new=b"1")).result()
    store.close()
    assert "moved aside" in caplog.text
    (kept,) = (path / "temp").iterdir()
    assert kept.read_bytes().endswith(b"more of it") and kept.name == f"wf.state.{len(data)}.torn"
    assert b"half a frame" not in log_file(path).read_bytes()
    assert read_all(path)[0] == 4


def test_a_making_that_was_cut_short_is_no_document(path):
    """Every prefix of a new log's first write is an absent document, which can be made again."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    data = log_file(path).read_bytes()
    first = data[: data.index(frame.MAGIC, 4)]
    store.close()
    for length in (0, 1, 4, 50, len(first) - 1, len(first)):
        log_file(path).write_bytes(first[:length])
        store = directory_store(path)
        assert store.view(WF).version == 0
        assert store.submit(putting(b=b"2")).result().version == 1
        store.close()
        assert read_all(path) == (1, {"b": b"2"})


def test_foreign_and_newer_files_are_refused(path):
    """A file that is no log, or one of a newer format, gives UnsupportedFormat and is left alone."""
    filled(path, 1)
    for content in (b'{"json": true}', b"WPF\x02" + bytes(500)):
        log_file(path).write_bytes(content)
        store = directory_store(path)
        with pytest.raises(UnsupportedFormat):
            store.view(WF)
        with pytest.raises(UnsupportedFormat):
            store.submit(putting(a=b"1")).result()
        store.close()
        assert log_file(path).read_bytes() == content


def of_next_format(data: bytes, place: Place, standing: frame.Standing) -> bytes:
    """A frame as a release with another layout may write it: only how it begins is known here, and no sum is ours."""
    return b"WPF\x02" + bytes(4) + data[8:]


def of_unknown_type(data: bytes, place: Place, standing: frame.Standing) -> bytes:
    """A frame of this layout, whole and linked, of a type that only a later release knows."""
    return frame.assemble(Draft(99, 0, b"\x90", 1, (), ()), place, standing)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [of_next_format, of_unknown_type])
@pytest.mark.parametrize("snapshot", [False, True])
def test_v07_a_frame_of_a_newer_release_is_refused(path, make, snapshot):
    """It is no torn tail: readers refuse, and writers that find it behind their own frames; nothing is cleared."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    if snapshot:
        assert store.tidy(WF, "compact")
        store.submit(putting(a=b"2")).result()
    log = store._document(WF).log_if_usable()
    place = Place(log.end, log.file_id, log.link, log.end, log.base)
    standing = store._document(WF).state_now().standing
    data, _ = frame.assemble(Draft(FrameType.COMMIT, 0, b"\x90", 1, (), ()), place, standing)
    with log_file(path).open("r+b") as file:
        file.seek(log.end)
        file.write(make(data, place, standing))
    before = log_file(path).read_bytes()
    other = directory_store(path)
    for each in (store, other):
        with pytest.raises(UnsupportedFormat, match="newer release") as raised:
            each.view(WF)
        assert raised.value.details["offset"] == place.offset
        with pytest.raises(UnsupportedFormat, match="newer release"):
            each.submit(putting(a=b"3")).result()
    assert not other.verify().sound
    other.close()
    store.close()
    assert log_file(path).read_bytes() == before


def test_a_store_of_a_newer_format_is_refused(path):
    """A FORMAT that this release does not know is an error that names it, and nothing is touched."""
    filled(path, 1)
    (path / "FORMAT").write_text("waypost 2\n")
    with pytest.raises(UnsupportedFormat, match="waypost 2"):
        directory_store(path)


def test_a_directory_with_other_files_is_not_made_a_store(tmp_path):
    """Opening somebody's folder as a store is refused and adds nothing to it."""
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UnsupportedFormat, match=r"thesis\.tex"):
        directory_store(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_renamed_log_is_refused(path):
    """A log under another document's name is noticed, since the full id stands in the file."""
    filled(path, 2)
    log_file(path).rename(path / "workflows" / "other.state")
    store = directory_store(path, read_only=True)
    with pytest.raises(DocumentDamaged, match="renamed"):
        store.view(WF._replace(id="other"))
    assert not store.verify().sound


IDS = ["wf", "WF", "é", "e\u0301", "con", "nul", "a.", "a ", "-x", "../../etc/passwd", "/", "x" * 600, "x" * 599 + "y",
       "a/../z", "z", "_", "__", "_61", "a", "日本語" * 50, "\u202e", "🙂", "."]  # fmt: skip


def test_trap_32_n01_n02_ids_become_safe_names(path):
    """Any id gives a file of its own inside the store, with a name that every file system takes."""
    names = [encode_id(each) for each in IDS]
    assert len({name.casefold() for name in names}) == len(IDS)
    for name in names:
        assert len(name) <= 120 and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-") and name[0] != "-"
    assert all(decode_id(name) in (each, None) for name, each in zip(names, IDS, strict=True))
    store = directory_store(path)
    for number, each in enumerate(IDS):
        store.submit(change(WF._replace(id=each), lambda tx, n=number: tx.put("n", b"%d" % n))).result()
    store.close()
    store = directory_store(path, read_only=True)
    assert sorted(store.documents("workflow")) == sorted(IDS)
    assert [store.view(WF._replace(id=each)).get("n") for each in IDS] == [b"%d" % n for n in range(len(IDS))]
    assert {entry.name for entry in path.parent.iterdir()} == {"store"}


@pytest.mark.parametrize("identifier", IDS)
@pytest.mark.parametrize("rest", ["@", "@c0", "@" + "x" * 60, "@" + "y" * 600])
def test_names_of_longer_ids_begin_as_their_beginning_says(identifier, rest):
    """Also where one of the two is cut; and no shorter than they must be."""
    beginning = names_begin(identifier)
    assert encode_id(identifier + rest).startswith(beginning)
    assert len(beginning) >= min(len(encode_id(identifier)) - 2, 72)


def test_n04_x08_nothing_in_the_store_is_reached_through_a_link(path, tmp_path):
    """A symlink, a FIFO or a directory in a log's place is refused, and a FIFO does not hang the reader."""
    filled(path, 1)
    log_file(path).unlink()
    outside = tmp_path / "outside"
    outside.write_bytes(b"")
    for make in (
        lambda: log_file(path).symlink_to(outside),
        lambda: os.mkfifo(log_file(path)),
        lambda: log_file(path).mkdir(),
    ):
        make()
        store = directory_store(path)
        with pytest.raises(StoreUnavailable):
            store.view(WF)
        with pytest.raises(StoreUnavailable):
            store.submit(putting(a=b"1")).result()
        store.close()
        log_file(path).rmdir() if log_file(path).is_dir() and not log_file(path).is_symlink() else log_file(
            path
        ).unlink()
    assert outside.read_bytes() == b""


def test_e04_x23_files_are_for_the_owner_alone(path):
    """Directories are 0700 and files 0600, whatever the umask."""
    for mask in (0o000, 0o077, 0o277):
        target = path.with_name(f"store{mask:o}")
        before = os.umask(mask)
        try:
            filled(target, 2)
        finally:
            os.umask(before)
        for entry in [target, *target.rglob("*")]:
            assert entry.stat().st_mode & 0o777 == (0o700 if entry.is_dir() else 0o600), entry


def test_the_lease_is_one_line_of_json(path):
    """While a writer has the store open the lease names this machine; a clean close takes it away."""
    store = directory_store(path)
    fields = json.loads((path / "lease").read_text())
    assert set(fields) == {"host", "boot", "since", "checksum"}
    store.close()
    assert not (path / "lease").exists()


def test_file_ids_differ():
    """Two generations of a file never share an id by construction of the generator."""
    assert len({new_file_id() for _ in range(1000)}) == 1000


def test_d07_a_compacted_log_without_its_snapshot_is_refused(path, monkeypatch):
    """Versions that a compaction dropped were durable: a log cut off before the snapshot that stands for them is
    damaged, and not a document that was never written.
    """
    store = directory_store(path)
    for number in range(9):
        store.submit(putting(**{f"k{number}": b"value"})).result()
    monkeypatch.setattr(compaction, "DAY_US", -1)
    assert store.tidy(WF, "compact")
    store.close()
    data = log_file(path).read_bytes()
    log_file(path).write_bytes(data[: data.index(frame.MAGIC, 4)])
    store = directory_store(path)
    with pytest.raises(DocumentDamaged, match="dropped versions"):
        store.view(WF)
    with pytest.raises(DocumentDamaged):
        store.submit(putting(k0=b"new")).result()
    assert not store.verify().sound
    store.close()
