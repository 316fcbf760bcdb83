"""Bundles as bytes: what is read is what was written, and nothing that was cut, flipped or forged is taken in."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.conftest import make_config
from tests.seeds import SEED
from waypost import clock
from waypost.blocking import Waypost
from waypost.codec import bodies, frame
from waypost.codec.bodies import FileBody
from waypost.codec.compression import Compressor
from waypost.codec.frame import FORMAT_VERSION, Draft, FrameType, new_file_id
from waypost.definitions import Definitions
from waypost.errors import (
    DocumentDamaged,
    DocumentTooLarge,
    InvalidId,
    InvalidInput,
    SessionNotFound,
    UnsupportedFormat,
    WaypostError,
)
from waypost.store import Change, DocumentId, Whole, open_store, read_bundle, write_bundle
from waypost.store.directory import bundle
from waypost.store.directory.bundle import _Listed, _Section, _Sink
from waypost.store.directory.compaction import Rewriter
from waypost.store.directory.log import NOTHING
from waypost.store.directory.transcript import Transcript
from waypost.store.memory import MemoryStore

CONFIG = make_config({"compression": {"chunk_size": 4096}})
S, W = DocumentId("session", "s"), DocumentId("workflow", "w")
REFUSALS = (DocumentDamaged, InvalidInput, UnsupportedFormat)
LARGE = random.Random(5).randbytes(9000)


def handle(location: str = "memory:") -> Waypost:
    return Waypost(Definitions(open_store(location, CONFIG), CONFIG, verbose=False))


@pytest.fixture(scope="module")
def source() -> Waypost:
    wp = handle()
    wp.start_session(session_id="s")
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    wp.add_step_output("w", "a", LARGE).unwrap()
    wp.create_checkpoint("w").unwrap()
    wp.update_context("w", variables={"n": 1}).unwrap()
    return wp


@pytest.fixture(scope="module")
def data(source: Waypost) -> bytes:
    return exported(source)


def exported(wp: Waypost, **options: Any) -> bytes:
    found = wp.export_session("s", **options)
    assert isinstance(found, bytes)
    return found


def read(data: bytes) -> Any:
    return read_bundle(lambda length, offset: data[offset : offset + length], len(data), lambda done, of: None, 1 << 30)


def refused(data: bytes, kinds: tuple[type[WaypostError], ...] = REFUSALS) -> WaypostError:
    """What an import of these bytes fails with; the store holds nothing afterwards."""
    wp = handle()
    error = wp.import_session(data).error
    assert isinstance(error, kinds), error
    store = wp.definitions.store
    assert [*store.documents("workflow"), *store.documents("session")] == []
    return error


def wholes(wp: Waypost, *documents: DocumentId) -> list[Whole]:
    store = wp.definitions.store
    return [Whole(each, store.past(each), {}, lambda version: None) for each in documents]


def forged(
    documents: list[Whole],
    *,
    session_id: str = "s",
    listed: Callable[[list[_Listed]], list[_Listed]] = lambda listed: listed,
    digest: Callable[[bytes], bytes] = lambda digest: digest,
    closing: Callable[[Rewriter], None] = lambda whole: None,
    kind: str = bundle.KIND,
    transcript: type[Transcript] = Transcript,
) -> bytes:
    """A bundle whose frames have the right checksums, made by somebody who knows the format."""
    held: list[bytes] = []
    sink, compressor = _Sink(held.append), Compressor(CONFIG.compression)
    whole = Rewriter(_Section(sink), new_file_id(), 1 << 40, compressor)
    whole.put(bodies.file_draft(FileBody(FORMAT_VERSION, kind, session_id, 0, clock.now_us(), b"")), NOTHING)
    rows: list[_Listed] = []
    for each in documents:
        made = transcript(Rewriter(_Section(sink), new_file_id(), 1 << 40, compressor), compressor, 4096)
        made.write(each.document, each.past)
        made.seal()
        rows.append(_Listed(*each.document, made.standing.version, made.standing.commit_id))
    content = msgspec.msgpack.encode((listed(rows), digest(sink.digest.digest())))
    whole.end = sink.length
    closing(whole)
    whole.put(Draft(FrameType.SEAL, 0, content, len(content), (), ()), NOTHING)
    return b"".join(held)


# --- whole ones ---


def test_a_bundle_is_read_back(source: Waypost, data: bytes) -> None:
    """Its session, its documents in their order, and what each of them is."""
    found = read(data)
    assert (found.session_id, [each.document for each in found.documents]) == ("s", [S, W])
    for each in found.documents:
        view = source.definitions.store.view(each.document)
        assert (each.past.version, view.commit_id) == (view.version, next(each.past.commits()).commit_id)
        assert each.version_at(1).version == 1 and each.version_at(view.version).checksum == view.checksum
    assert handle().import_session(forged(wholes(source, S, W)))


# --- cut, flipped ---


def test_x19_many_checkpoints_take_the_time_of_as_many(source: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of those before is not copied for each of them, which took hours for those of a large bundle."""
    store, real, made = source.definitions.store, bundle._whole, list[Whole]()

    def whole(*args: Any) -> Whole:
        made.append(real(*args))
        return made[-1]

    names = [f"w@{number}" for number in range(300)]
    session, workflow = wholes(source, S, W)
    workflow = workflow._replace(kept={name: partial(store.view, W) for name in names})
    held: list[bytes] = []
    write_bundle(held.append, "s", iter([session, workflow]), CONFIG.compression)
    monkeypatch.setattr(bundle, "_whole", whole)
    found = read(b"".join(held))
    assert list(found.documents[1].kept) == names
    assert found.documents[1] is made[1]


def test_t08_a_bundle_that_is_cut_anywhere_is_refused(data: bytes) -> None:
    for length in range(len(data)):
        with pytest.raises(REFUSALS):
            read(data[:length])
    refused(data[:-1])
    refused(data + b"\0")


def test_t08_every_flipped_bit_is_told(data: bytes) -> None:
    """One bit of each byte; the seed is printed."""
    print(f"WAYPOST_TEST_SEED={SEED}")
    rng = random.Random(SEED)
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 1 << rng.randrange(8)
        with pytest.raises(REFUSALS):
            read(bytes(broken))
    refused(bytes(broken))


def test_what_is_something_else_is_said_to_be_that(source: Waypost, data: bytes, tmp_path: Path) -> None:
    kept = source.export_checkpoint(source.list_checkpoints("w").items[0].id)
    assert "a checkpoint" in str(refused(kept, (InvalidInput,)))
    with handle(str(tmp_path / "store")) as wp:
        wp.create_workflow("w", "W").unwrap()
    log = (tmp_path / "store" / "workflows" / "w.state").read_bytes()
    assert "the log of a workflow" in str(refused(log, (InvalidInput,)))
    assert "an export of a session" in str(source.import_checkpoint(data).error)
    refused(b"PK\x03\x04" + data, (InvalidInput,))


def test_a_newer_format_is_refused_as_such(data: bytes) -> None:
    for at in (3, data.index(frame.MAGIC, 10) + 3):
        broken = bytearray(data)
        broken[at] = 2
        assert "newer" in str(refused(bytes(broken), (UnsupportedFormat,)))


# --- forged ---


class _Unsealed(Transcript):
    def seal(self) -> None:
        """It goes on for ever."""


class _Unlinked(Transcript):
    def seal(self) -> None:
        self.out.link ^= 1
        super().seal()


class _Bomb(Transcript):
    """A frame whose body is said to hold four thousand million bytes."""

    def seal(self) -> None:
        packed = Compressor(CONFIG.compression).pack(bytes(1 << 20))
        self.out.put(Draft(FrameType.SNAPSHOT, packed[0], packed[1], 0xFFFFFFFF, (), ()), self.standing)
        super().seal()


class _Inflated(Transcript):
    """A commit of a version that is said to be so large that any bomb would fit into it."""

    def seal(self) -> None:
        packed = Compressor(CONFIG.compression).pack(bytes(1 << 20))
        said = self.standing._replace(version=self.standing.version + 1, size_bytes=1 << 40)
        self.out.put(Draft(FrameType.COMMIT, packed[0], packed[1], 0x7FFFFFFF, (), ()), said)
        self.standing = said
        super().seal()


def _foreign(whole: Rewriter) -> None:
    whole.file_id ^= 1


def _unlinked(whole: Rewriter) -> None:
    whole.link ^= 1


def _alone(whole: Rewriter) -> None:
    whole.file = _Section(whole.file._sink)  # type: ignore[attr-defined]
    whole.end = whole.link = 0
    whole.file_id ^= 1


FORGED: dict[str, dict[str, Any]] = {
    "another digest": {"digest": lambda digest: bytes(32)},
    "a document left out of the list": {"listed": lambda listed: listed[:-1]},
    "another version in the list": {"listed": lambda listed: [listed[0], listed[1]._replace(version=1)]},
    "another order in the list": {"listed": lambda listed: listed[::-1]},
    "a closing of another bundle": {"closing": _foreign},
    "a closing that is not linked": {"closing": _unlinked},
    "a closing that is a file of its own": {"closing": _alone},
    "another session": {"session_id": "t"},
    "a log without a seal": {"transcript": _Unsealed},
    "a log whose frames do not belong together": {"transcript": _Unlinked},
    "a bomb": {"transcript": _Bomb},
    "another kind of file": {"kind": "workflow"},
}


@pytest.mark.parametrize("how", FORGED.values(), ids=list(FORGED))
def test_x19_right_checksums_do_not_make_a_bundle_sound(source: Waypost, how: dict[str, Any]) -> None:
    """Each frame is whole and summed up; what they say together is still compared."""
    assert "\n" not in str(refused(forged(wholes(source, S, W), **how)))


@pytest.mark.parametrize("documents", [(S, W, W), (S, S), (W, S), (W,), ()], ids=str)
def test_x19_a_bundle_holds_one_session_and_each_workflow_once(source: Waypost, documents: Any) -> None:
    refused(forged(wholes(source, *documents)))


HOSTILE = ("../../../escaped", "/etc/passwd", "a/../../b", "..", "con", "x" * 500, "\u0001", "a\x1fb", "\ud800", "")


@pytest.mark.parametrize("name", HOSTILE)
def test_trap_32_no_name_in_a_bundle_leads_out_of_the_store(name: str, source: Waypost, tmp_path: Path) -> None:
    """It becomes a document under that id, in the file that such an id has, or it is refused."""
    session, workflow = wholes(source, S, W)
    try:
        data = forged([session, workflow._replace(document=W._replace(id=name))])
    except (UnicodeEncodeError, msgspec.EncodeError):
        return  # no text at all
    with handle(str(tmp_path / "deep" / "store")) as wp:
        result = wp.import_session(data)
        assert result or isinstance(result.error, (InvalidId, InvalidInput, DocumentDamaged))
        if result:
            assert wp.load_workflow_state(name).unwrap().workflow.name == "W"
    assert [each.name for each in tmp_path.iterdir()] == ["deep"]
    assert [each.name for each in (tmp_path / "deep").iterdir()] == ["store"]
    names = [each.name for each in (tmp_path / "deep" / "store" / "workflows").iterdir()]
    assert len(names) == bool(result) and all("/" not in each and each.endswith(".state") for each in names)


class _Lying(Transcript):
    """Commits that say something else than their ids and sums."""

    field = "checksum"

    def write(self, document: DocumentId, past: Any) -> None:
        super().write(document, _Told(past, self.field))


class _Told:
    def __init__(self, past: Any, field: str) -> None:
        self._past, self._field = past, field

    def __getattr__(self, name: str) -> Any:
        return getattr(self._past, name)

    def commits(self, before: int | None = None, *, oldest_first: bool = False) -> Iterator[Any]:
        for each in self._past.commits(before, oldest_first=oldest_first):
            yield each._replace(**{self._field: {"operation": "x", "checksum": bytes(32)}[self._field]})


@pytest.mark.parametrize("field", ["operation", "checksum"])
@pytest.mark.parametrize("place", ["memory", "directory"])
def test_x19_what_ids_and_sums_do_not_say_is_not_taken_in(
    source: Waypost, field: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Lying, "field", field)
    data = forged(wholes(source, S, W), transcript=_Lying)
    with handle("memory:" if place == "memory" else str(tmp_path / "store")) as wp:
        assert isinstance(wp.import_session(data).error, DocumentDamaged)
        assert list(wp.definitions.store.documents("workflow")) == []


UNSOUND: dict[str, bytes] = {
    "nonsense": b"1",
    "workflow": b"1",
    "step\x1f../x": b"\xc0",
    "variable\x1fx": b"\xc1",
    "session\x1fq": b"\xa1x",
}


@pytest.mark.parametrize("key", UNSOUND)
def test_x19_a_workflow_that_is_not_sound_is_not_taken_in(key: str) -> None:
    """Every sum of it is right, and no operation would ever have made it."""
    wp = handle()
    wp.start_session(session_id="s")
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    wp.definitions.store.submit(Change(W, lambda tx: tx.put(key, UNSOUND[key]), "op", "x")).result()
    refused(forged(wholes(wp, S, W)), (InvalidInput, DocumentDamaged, UnsupportedFormat))


def test_x19_what_a_version_is_said_to_weigh_opens_no_door(source: Waypost) -> None:
    """How much may come out of compressed bytes is bounded by what a file of the store may hold, whatever they say."""
    refused(forged(wholes(source, S, W), transcript=_Inflated), (DocumentTooLarge,))


def test_a_session_that_is_none_is_not_taken_in(source: Waypost) -> None:
    store = MemoryStore()
    store.submit(Change(S, lambda tx: tx.put("x", b"1"), "op", "x")).result()
    data = forged([Whole(S, store.past(S), {}, lambda version: None)])
    refused(data, (InvalidInput, SessionNotFound))


def test_what_is_larger_than_the_store_takes_is_refused(source: Waypost, tmp_path: Path) -> None:
    """And nothing of it is left."""
    wp = handle()
    wp.start_session(session_id="s")
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    for _ in range(3):
        wp.add_step_output("w", "a", random.Random(1).randbytes(600_000)).unwrap()
    config = make_config({"performance": {"max_file_size": 1}})
    with Waypost(Definitions(open_store(str(tmp_path / "store"), config), config, verbose=False)) as small:
        assert isinstance(small.import_session(exported(wp)).error, DocumentTooLarge)
        assert list(small.definitions.store.documents("session")) == []
        assert list((tmp_path / "store" / "temp").iterdir()) == []
