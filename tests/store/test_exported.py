"""Exports: bytes that stand alone, the same from every store, and refused where anything in them was changed."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from zlib import crc32

import pytest

from tests.conftest import make_config
from tests.store.needed import calm
from tests.store.support import WF, directory_store
from tests.store.test_checkpoints import contents, make, name_of, put
from waypost.codec import bodies, frame
from waypost.codec.bodies import Extent, FileBody, SnapshotBody, SnapshotBuilder
from waypost.codec.compression import PLAIN, Compressor
from waypost.codec.frame import FORMAT_VERSION, Draft, FrameType, Standing
from waypost.errors import DocumentDamaged, DocumentTooLarge, InvalidInput, UnsupportedFormat, WaypostError
from waypost.store import Store, export_version, owner_of_export, parts, read_export
from waypost.store.directory import checkpoints, exported
from waypost.store.directory.blocks import BlockCache, Blocks
from waypost.store.directory.compaction import Rewriter
from waypost.store.directory.exported import HeldFile
from waypost.store.directory.log import NOTHING, Frame
from waypost.store.directory.state import Snapshot
from waypost.store.memory import MemoryStore

__all__ = ["calm"]

LIMIT = 1 << 26
LARGE = random.Random(3).randbytes(30_000)
NAME = name_of(1)
COMPRESSION = make_config({"compression": {"chunk_size": 4096}}).compression


@pytest.fixture(params=["memory", "directory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened: Store = MemoryStore()
    if request.param == "directory":
        opened = directory_store(tmp_path / "store", chunk_size=4096)
    yield opened
    opened.close()


def export(store: Store) -> bytes:
    view = store.checkpoint(WF, NAME)
    assert view is not None
    return export_version(view, NAME, COMPRESSION)


def small() -> bytes:
    """The export of a small version, with a value in blocks."""
    store = MemoryStore()
    make(store, 1, a=b"text " * 200, large=LARGE[:5000])
    return export(store)


def test_an_export_holds_the_version_and_whose_it_is(store: Store) -> None:
    """Every part, large ones too, with version, time, sums and commit id, whatever the store."""
    put(store, a=b"0", **{f"k{number:04}": b"%d" % number * 9 for number in range(2000)})
    made = make(store, 1, a=b"1", large=LARGE, empty=b"")
    put(store, a=b"2")
    data = export(store)
    found, kept = read_export(data, LIMIT), store.checkpoint(WF, NAME)
    assert kept is not None and contents(found) == made and owner_of_export(data) == (WF, NAME)
    for name in ("document", "version", "time_us", "size_bytes", "checksum", "commit_id"):
        assert getattr(found, name) == getattr(kept, name), name
    pieces = found.pieces("large")
    assert pieces is not None and len(pieces.starts) == 8
    assert contents(read_export(export_version(found, NAME, COMPRESSION), LIMIT)) == made


def test_an_export_is_the_file_of_a_base(tmp_path: Path) -> None:
    """What stands in `checkpoints` can be read as an export, and an export by what reads there: one format."""
    path = tmp_path / "store"
    with closing(directory_store(path, chunk_size=4096)) as store:
        made = make(store, 1, a=b"1", large=LARGE)
        data = export(store)
    file = path / "checkpoints" / checkpoints.file_name(NAME)
    assert contents(read_export(file.read_bytes(), LIMIT)) == made
    (path / "workflows" / "wf.state").unlink()
    file.write_bytes(data)
    with closing(directory_store(path, read_only=True)) as store:
        assert contents(store.checkpoint(WF, NAME)) == made
        store.verify_checkpoint(WF, NAME)


@pytest.mark.parametrize("step", [1, 7])
def test_t08_an_export_that_was_cut_is_refused(step: int) -> None:
    """At every length, with a sentence that names a byte."""
    whole = small()
    for length in range(4, len(whole), step):
        with pytest.raises(DocumentDamaged, match=r"the export is damaged at byte \d+"):
            read_export(whole[:length], LIMIT)
    for data in (b"", b"WP", whole + b"\0", whole + whole):
        with pytest.raises((InvalidInput, DocumentDamaged)):
            read_export(data, LIMIT)


def test_t08_every_flipped_bit_is_told() -> None:
    """Nothing of an export is passed over: whichever bit is changed, it is refused as damaged."""
    whole = bytearray(small())
    for at in range(len(whole)):
        for bit in range(8):
            whole[at] ^= 1 << bit
            with pytest.raises(WaypostError) as caught:
                read_export(bytes(whole), LIMIT)
            whole[at] ^= 1 << bit
            if isinstance(caught.value, UnsupportedFormat):  # as if of a later release, which nobody can tell apart
                assert whole[at - 3 : at] == b"WPF"
            elif at < 4:
                assert isinstance(caught.value, InvalidInput)
            else:
                assert isinstance(caught.value, DocumentDamaged), (at, bit)
                assert "the export is damaged at byte" in str(caught.value) and "repair" not in str(caught.value)


def test_v07_an_export_of_a_later_format_is_told() -> None:
    """By the first frame's magic, by one further on, by what the first frame says, and by a frame of another type."""
    whole = small()
    second = struct.unpack_from("<I", whole, 8)[0]
    for at in (3, second + 3):
        newer = bytearray(whole)
        newer[at] = 2
        with pytest.raises(UnsupportedFormat, match="newer format"):
            read_export(bytes(newer), LIMIT)
    with pytest.raises(UnsupportedFormat, match="format 3"):
        read_export(crafted(first=FileBody(3, "workflow", "wf", 0, 0, b"", NAME)), LIMIT)
    other = bytearray(whole)
    other[20 + second] = 99
    other[second + 4 : second + 8] = struct.pack("<I", checksum_at(other, second))
    with pytest.raises(UnsupportedFormat, match="type 99"):
        read_export(bytes(other), LIMIT)


def checksum_at(data: bytearray, offset: int) -> int:
    header = frame.read_header(bytes(data), offset)
    assert header is not None
    return crc32(data[offset + 8 : offset + header.blocks_offset], frame.seed(header.file_id, offset))


def test_d10_what_is_no_export_is_told(tmp_path: Path) -> None:
    """Some other file, a log, a checkpoint that stands on another, one of a session, and things that are no bytes."""
    path = tmp_path / "store"
    with closing(directory_store(path)) as store:
        make(store, 1, a=LARGE)
        make(store, 2, b=b"1")
        store._document(WF).keep_checkpoints(newest_only=False)
    for data in (b"", b"{}", b"PK\3\4" * 100, bytes(5000), b"\xff" * 5000):
        with pytest.raises(InvalidInput, match="no export"):
            read_export(data, LIMIT)
    with pytest.raises(InvalidInput, match="the log of workflow 'wf'"):
        read_export((path / "workflows" / "wf.state").read_bytes(), LIMIT)
    delta = (path / "checkpoints" / checkpoints.file_name(name_of(2))).read_bytes()
    with pytest.raises(InvalidInput, match="differs from another"):
        read_export(delta, LIMIT)
    with pytest.raises(InvalidInput, match="of a session"):
        read_export(crafted(first=FileBody(FORMAT_VERSION, "session", "s", 0, 0, b"", NAME)), LIMIT)


# --- sums that are right, over what is not ---

Build = Callable[[Rewriter, Compressor], Draft]


def crafted(
    *,
    first: FileBody | None = None,
    standing: Standing | None = None,
    build: Build | None = None,
    seal: Draft | None = None,
    before_seal: Callable[[Rewriter], object] = lambda _: None,
    held: dict[str, bytes] | None = None,
) -> bytes:
    """An export of a hand of another's, each of its checksums right."""
    file, compressor = HeldFile(bytearray()), Compressor(COMPRESSION)
    out = Rewriter(file, 77, frame.MAX_FRAME_BYTES, compressor)
    held = {"a": b"1"} if held is None else held
    out.put(bodies.file_draft(first or FileBody(FORMAT_VERSION, "workflow", "wf", 0, 0, b"", NAME)), NOTHING)
    size = sum(len(key) + len(value) for key, value in held.items())
    standing = standing or Standing(1, 1, size, parts.document_checksum(held.items()), b"c" * 32)
    out.put((build or _base(held))(out, compressor), standing)
    before_seal(out)
    out.put(seal or frame.seal_draft(), standing)
    return bytes(file.data)


def _base(held: dict[str, bytes], **fields: object) -> Build:
    def build(out: Rewriter, compressor: Compressor) -> Draft:
        builder = SnapshotBuilder(compressor)
        for key, value in held.items():
            builder.add(key, value)
        builder.finish(fields.get("operations", []))  # type: ignore[arg-type]
        return builder.draft(SnapshotBody(out.end, out.link, 0, False, [], []))

    return build


def _keys(*keys: str) -> Build:
    """A version whose blocks are said to begin with other keys than they do."""

    def build(out: Rewriter, compressor: Compressor) -> Draft:
        builder = SnapshotBuilder(compressor)
        builder.add("a", b"1")
        builder.finish([])
        builder.keys[:] = keys
        return builder.draft(SnapshotBody(out.end, out.link, 0, False, [], []))

    return build


def _unsorted(out: Rewriter, compressor: Compressor) -> Draft:
    builder = SnapshotBuilder(compressor)
    for key in "ba":
        builder.add(key, b"1")
    builder.finish([])
    return builder.draft(SnapshotBody(out.end, out.link, 0, False, [], []))


def _extent(length: int, *, raw: int | None = None, rows: int = 1, value: bytes = b"0" * 10) -> Build:
    """A version with one part in blocks, of which it says something else."""

    def build(out: Rewriter, compressor: Compressor) -> Draft:
        digest = parts.part_digest(b"a")
        digest.update(value)
        block, stored = bodies.pack_block(compressor, value)
        out.put(bodies.data_draft([block], [stored], compressor), Standing(1, 1, 0, b"s" * 32, b"c" * 32))
        placed = block._replace(offset=out.end - len(stored), raw=block.raw if raw is None else raw)
        builder = SnapshotBuilder(compressor)
        builder.add("a", Extent(length, digest.digest(), [placed] * rows))
        builder.finish([])
        return builder.draft(SnapshotBody(out.end, out.link, 0, False, [], []))

    return build


def _part_sums(length: int, value: bytes = b"0" * 10) -> Standing:
    return Standing(1, 1, 1 + length, parts.document_checksum([("a", value)]), b"c" * 32)


CRAFTED: dict[str, Callable[[], bytes]] = {
    "another checksum": lambda: crafted(standing=Standing(1, 1, 2, b"x" * 32, b"c" * 32)),
    "another size": lambda: crafted(standing=Standing(1, 1, 3, parts.document_checksum([("a", b"1")]), b"c" * 32)),
    "version 0": lambda: crafted(standing=Standing(0, 1, 2, parts.document_checksum([("a", b"1")]), b"c" * 32)),
    "keys of no block": lambda: crafted(build=_keys("b")),
    "more keys than blocks": lambda: crafted(build=_keys("a", "b")),
    "blocks without keys": lambda: crafted(build=_keys()),
    "keys out of order": lambda: crafted(held={"a": b"1", "b": b"1"}, build=_unsorted),
    "remembered writes": lambda: crafted(build=_base({"a": b"1"}, operations=[("op", 1, 1, "x", None)])),
    "a part longer than its blocks": lambda: crafted(standing=_part_sums(12), build=_extent(12)),
    "a part without blocks": lambda: crafted(standing=_part_sums(10), build=_extent(10, rows=0)),
    "a part of twice its blocks": lambda: crafted(standing=_part_sums(20), build=_extent(20, rows=2)),
    "a block of another length": lambda: crafted(standing=_part_sums(11), build=_extent(11, raw=11)),
    "no seal": lambda: crafted(seal=bodies.data_draft([], [], Compressor(COMPRESSION))),
    "two versions": lambda: crafted(seal=_base({"a": b"1"})(Rewriter(HeldFile(), 1, 1, None), Compressor(COMPRESSION))),  # type: ignore[arg-type]
    "a seal of another file": lambda: crafted(before_seal=lambda out: setattr(out, "file_id", 78)),
    "a seal behind something else": lambda: crafted(before_seal=lambda out: setattr(out, "link", 78)),
    "a block that nobody reads": lambda: _idle_block(),
    "no content": lambda: crafted(build=lambda out, _: Draft(FrameType.SNAPSHOT, PLAIN, b"\x90", 1, (), ())),
    "a compressed beginning": lambda: _compressed_beginning(),
}


def _idle_block() -> bytes:
    """Damage where no part of the version stands."""

    def build(out: Rewriter, compressor: Compressor) -> Draft:
        block, stored = bodies.pack_block(compressor, b"0" * 10)
        out.put(bodies.data_draft([block], [stored], compressor), Standing(1, 1, 0, b"s" * 32, b"c" * 32))
        return _base({"a": b"1"})(out, compressor)

    data = crafted(build=build)
    assert contents(read_export(data, LIMIT)) == {"a": b"1"}
    return data.replace(b"0" * 10, b"0" * 9 + b"1")


def _compressed_beginning() -> bytes:
    file, compressor = HeldFile(bytearray()), Compressor(COMPRESSION)
    out = Rewriter(file, 77, frame.MAX_FRAME_BYTES, compressor)
    body = bodies.file_draft(FileBody(FORMAT_VERSION, "workflow", "wf", 0, 0, b"d" * 4000, NAME)).body
    codec, stored = compressor.pack(body)
    assert codec != PLAIN
    out.put(Draft(FrameType.FILE, codec, stored, len(body), (), ()), NOTHING)
    return bytes(file.data)


@pytest.mark.parametrize("what", CRAFTED)
def test_x19_right_checksums_do_not_make_an_export_sound(what: str) -> None:
    """Whoever knows the format can give any bytes the right sums: what they say is compared all the same."""
    with pytest.raises(DocumentDamaged, match="the export is damaged at byte"):
        read_export(CRAFTED[what](), LIMIT)


def test_a_crafted_export_that_is_sound_is_read() -> None:
    """So that each case before is refused for its own reason."""
    assert contents(read_export(crafted(), LIMIT)) == {"a": b"1"}
    standing = _part_sums(10)
    assert contents(read_export(crafted(standing=standing, build=_extent(10)), LIMIT)) == {"a": b"0" * 10}


def _swapped(out: Rewriter, compressor: Compressor) -> Draft:
    """A version whose blocks stand in another order than their keys have."""
    builder = SnapshotBuilder(compressor)
    for key in "ba":
        builder.add(key, bytes(bodies.ENTRY_BLOCK_BYTES))
    builder.finish([])
    return builder.draft(SnapshotBody(out.end, out.link, 0, False, [], []))


def snapshot_in(data: bytes) -> Snapshot:
    """The version in an export, unchecked."""
    first = frame.read_header(data)
    assert first is not None
    header = frame.read_header(data, first.length)
    assert header is not None
    found = Frame(header, first.length, data[first.length :][: header.blocks_offset])
    return Snapshot(Blocks(HeldFile(bytearray(data)), header.file_id, BlockCache(1 << 20), True), found)


def test_all_parts_of_a_version_are_those_that_are_found_one_by_one() -> None:
    """What is summed up to tell that a file of a checkpoint is whole is what a reader of it finds."""
    held = {f"k{number:05}": bytes([number % 256]) * 200 for number in range(1000)}
    snapshot = snapshot_in(crafted(held=held))
    assert len(snapshot.body.keys) > 1
    assert dict(snapshot.parts()) == held == {key: snapshot.get(key) for key in snapshot.keys()}
    for build in (_unsorted, _swapped, _keys("0"), _keys("b")):
        with pytest.raises(DocumentDamaged, match="not in their order"):
            list(snapshot_in(crafted(build=build)).parts())


def test_v05_little_that_would_become_much_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is packed is compared with what the version says it holds, and that with the limit, before unpacking."""
    zeros = bytes(50_000_000)
    with pytest.raises(DocumentDamaged, match="packed"):
        read_export(crafted(standing=_part_sums(10), build=_base({"a": zeros})), LIMIT)
    with pytest.raises(DocumentTooLarge, match="max_file_size"):
        read_export(crafted(held={"a": zeros}), 1 << 20)
    monkeypatch.setattr(exported, "_SLACK_BYTES", 0)
    with pytest.raises(DocumentDamaged, match="packed"):
        read_export(crafted(), LIMIT)


def test_what_is_damaged_in_the_store_is_not_exported(tmp_path: Path) -> None:
    """An export is read back before it is given: a block that is damaged where it is kept is told of then."""
    path = tmp_path / "store"
    with closing(directory_store(path, chunk_size=4096)) as store:
        make(store, 1, large=LARGE)
    (path / "workflows" / "wf.state").unlink()
    file = path / "checkpoints" / checkpoints.file_name(NAME)
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    with closing(directory_store(path, read_only=True)) as store, pytest.raises(DocumentDamaged, match="exported"):
        export(store)
