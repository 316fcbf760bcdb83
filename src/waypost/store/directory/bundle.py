"""Bundles: documents with their past in one file that stands alone (docs/format.md, section 7).

A bundle is a row of logs and checkpoints as this store writes them, so that one reader serves all. What is read may
come from anywhere: nothing of it is believed before its frames and its digest were checked, no id in it becomes a path,
and what its documents hold is verified once more by whoever takes them in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from hashlib import sha256
from typing import NamedTuple

import msgspec

from waypost import clock
from waypost.codec import bodies, frame
from waypost.codec.bodies import FileBody
from waypost.codec.compression import PLAIN, Compressor, Undecodable
from waypost.codec.frame import FORMAT_VERSION, Draft, FrameType, Standing
from waypost.errors import DocumentDamaged, DocumentTooLarge, InvalidInput, UnsupportedFormat
from waypost.options import CompressionConfig
from waypost.store.bundles import Bundle, Progress, Whole, Written
from waypost.store.directory import exported, keeping, loading
from waypost.store.directory.blocks import BlockCache
from waypost.store.directory.compaction import Rewriter
from waypost.store.directory.files import Directory, File, Identity
from waypost.store.directory.frames import Frame
from waypost.store.directory.layout import document_id
from waypost.store.directory.log import NOTHING, Log
from waypost.store.directory.past import LogPast
from waypost.store.directory.state import DocumentState, Snapshot
from waypost.store.directory.transcript import Transcript
from waypost.store.kinds import DocumentId
from waypost.store.views import View

KIND = "bundle"
_NAME = exported.NAME
_NO_LIMIT = 1 << 62
_PIECE_BYTES = 1 << 20
_TIMES, _SLACK_BYTES = 4, 16 << 20
"""So much may come out of compressed bytes, of a document of a size: keys and values, and what is remembered."""
_CACHE_BYTES = 1 << 20


class _Listed(NamedTuple):
    """What the closing says of a document."""

    kind: str
    id: str
    version: int
    commit_id: bytes


_read_closing = msgspec.msgpack.Decoder(tuple[list[_Listed], bytes]).decode


# --- writing ---


class _Sink:
    """Takes bytes one behind the other, and sums them up."""

    def __init__(self, put: Callable[[bytes], object]) -> None:
        self._put = put
        self.length = 0
        self.digest = sha256()

    def write(self, data: bytes) -> None:
        self._put(data)
        self.digest.update(data)
        self.length += len(data)


class _Section(File):
    """What goes to a sink, as a file that begins where the sink has arrived."""

    __slots__ = ("_base", "_sink")

    def __init__(self, sink: _Sink) -> None:
        super().__init__(-1, _NAME)
        self._sink = sink
        self._base = sink.length

    def write(self, data: bytes, offset: int) -> int:
        assert self._base + offset == self._sink.length
        self._sink.write(data)
        return len(data)


def write(
    put: Callable[[bytes], object], session_id: str, documents: Iterator[Whole], compression: CompressionConfig
) -> Written:
    """Write a bundle piece by piece. Raises what reading the documents raises, and what `put` does."""
    sink, compressor = _Sink(put), Compressor(compression)
    whole = Rewriter(_Section(sink), frame.new_file_id(), _NO_LIMIT, compressor)
    whole.put(bodies.file_draft(FileBody(FORMAT_VERSION, KIND, session_id, 0, clock.now_us(), b"")), NOTHING)
    listed: list[_Listed] = []
    for each in documents:
        transcript = Transcript(
            Rewriter(_Section(sink), frame.new_file_id(), _NO_LIMIT, compressor), compressor, compression.chunk_size
        )
        transcript.write(each.document, each.past)
        transcript.seal()
        listed.append(_Listed(*each.document, transcript.standing.version, transcript.standing.commit_id))
        for name, version in each.kept.items():
            out = Rewriter(_Section(sink), frame.new_file_id(), _NO_LIMIT, compressor)
            source = exported.as_source(version(), compressor, compression.chunk_size)
            keeping.put_checkpoint(out, compressor, name, source, None)
    closing = msgspec.msgpack.encode((listed, sink.digest.digest()))
    whole.end = sink.length
    whole.put(Draft(FrameType.SEAL, PLAIN, closing, len(closing), (), ()), NOTHING)
    return Written(sink.length, sink.digest.hexdigest())


# --- reading ---


class Handed(File):
    """A bundle that is read, wherever it is: `read(length, offset)` gives its bytes."""

    __slots__ = ("_length", "_read")

    def __init__(self, read: Callable[[int, int], bytes], length: int) -> None:
        super().__init__(-1, _NAME)
        self._read = read
        self._length = length

    def identity(self) -> Identity:
        return Identity(0, 0, self._length)

    def read(self, length: int, offset: int) -> bytes:
        length = min(length, self._length - offset)
        return self._read(length, offset) if length > 0 else b""


class _Part(NamedTuple):
    """One of the files in a bundle: where it stands, what it says of itself, and the version that it ends with."""

    offset: int
    length: int
    body: FileBody
    standing: Standing


def read(file: Handed, progress: Progress, limit_bytes: int) -> Bundle:
    """What a bundle holds, all of its bytes checked; its documents are read piece by piece, and are not checked yet.

    Raises InvalidInput for what is no bundle, UnsupportedFormat for that of a newer release, DocumentTooLarge where
    more than `limit_bytes` are packed in one piece, and DocumentDamaged.
    """
    walk = _Walk(file, progress, limit_bytes)
    try:
        parts = walk.parts()
        return _bundle(file, walk.session_id, parts, progress, limit_bytes)
    except Undecodable as error:
        raise damaged(walk.offset, str(error)) from error


def damaged(offset: int, why: str) -> DocumentDamaged:
    return DocumentDamaged(f"{_NAME} is damaged at byte {offset}: {why}", file=_NAME, offset=offset)


class _Walk:
    """One way through a bundle, frame by frame."""

    def __init__(self, file: Handed, progress: Progress, limit_bytes: int) -> None:
        self._file = file
        self._limit = limit_bytes
        self._size = file.identity().size
        self._progress = progress
        self._digest = sha256()
        self._most_bytes = 0
        self.offset = 0
        self.session_id = ""

    def parts(self) -> list[_Part]:
        """The files in it. Raises as `read` does."""
        opening, body = self._opening()
        self.session_id = body.id
        parts: list[_Part] = []
        while True:
            digest = self._digest.digest()
            found = self._frame(0, 0, 0, (opening.header.file_id, opening.header.checksum))
            if found.header.type == FrameType.FILE:
                parts.append(self._part(found))
                continue
            if found.header.file_id != opening.header.file_id or found.header.type != FrameType.SEAL:
                raise damaged(found.offset, "no file begins there")
            if self.offset != self._size:
                raise damaged(self.offset, "there is something behind its end")
            self._close(found, digest, parts)
            return parts

    def _opening(self) -> tuple[Frame, FileBody]:
        head = self._file.read(8, 0)
        if frame.is_newer(head):
            raise UnsupportedFormat(f"{_NAME} is written in a newer format ({head[3]})", format=head[3])
        if head[: len(frame.MAGIC)] != frame.MAGIC:
            raise InvalidInput("this is no export of a session: it does not begin like one")
        found = self._frame(0, 0, 0, None)
        if found.header.type != FrameType.FILE:
            raise InvalidInput("this is no export of a session: its first frame says of no file what it is")
        body = _body(found)
        if body.kind != KIND:
            what = "a checkpoint" if body.checkpoint is not None else f"the log of a {body.kind}"
            raise InvalidInput(f"this is {what}, and no export of a session")
        return found, body

    def _part(self, first: Frame) -> _Part:
        """Go through one of the files, to its seal."""
        start, body = first.offset, _body(first)
        self._most_bytes = 0
        found = first
        while found.header.type != FrameType.SEAL:
            found = self._frame(start, found.header.file_id, found.header.checksum, None)
            if found.header.type in (FrameType.FILE, FrameType.DECISION):
                raise damaged(found.offset, "a frame stands there that does not belong there")
        if found.header.synced != found.offset - start or found.header.length != found.header.blocks_offset:
            raise damaged(found.offset, "a seal is of something else")
        return _Part(start, self.offset - start, body, found.standing)

    def _frame(self, start: int, file_id: int, link: int, closing: tuple[int, int] | None) -> Frame:
        """The next frame, of the file that begins at `start`; or, where it is 0 and a file could begin, the closing,
        whose file id and link are given.
        """
        at, file = self.offset, self._file
        head = file.read(frame.HEADER_BYTES, at)
        if frame.is_newer(head):
            raise UnsupportedFormat(f"{_NAME}: byte {at} begins a frame of a newer format", offset=at)
        header = frame.read_header(head)
        if header is None:
            raise damaged(at, "no frame begins there, or it ends within one")
        if not frame.fits(header, self._size - at):
            raise damaged(at, "a frame is longer than what is there, or its lengths do not add up")
        is_closing = closing is not None and header.file_id == closing[0]
        if not start and not is_closing:
            start = at
        data = file.read(header.blocks_offset, at)
        if not frame.intact(header, data, 0, at - start):
            raise damaged(at, "the checksum of a frame does not match")
        expected = (file_id or header.file_id, closing[1] if is_closing and closing else link)
        if (header.file_id, header.link) != expected:
            raise damaged(at, "a frame does not belong behind the one before it")
        if not frame.is_known(header):
            raise UnsupportedFormat(f"{_NAME}: byte {at} begins a frame of type {header.type}", offset=at)
        self._take(data, at + header.length)
        found = Frame(header, at - start, data)
        self._check_room(found)
        return found._replace(offset=at)

    def _take(self, data: bytes, end: int) -> None:
        """Sum up a frame and the blocks behind it."""
        self._digest.update(data)
        self.offset += len(data)
        while self.offset < end:
            data = self._file.read(min(_PIECE_BYTES, end - self.offset), self.offset)
            if not data:
                raise damaged(self.offset, "it ends within a frame")
            self._digest.update(data)
            self.offset += len(data)
        self._progress(self.offset, 2 * self._size)

    def _check_room(self, found: Frame) -> None:
        """Whether no more is packed in a frame than a document of its size can need."""
        header = found.header
        most = _TIMES * max(header.size_bytes, self._most_bytes) + _SLACK_BYTES
        self._most_bytes = max(self._most_bytes, header.size_bytes)
        if header.codec != PLAIN and header.raw > most:
            raise Undecodable(f"{header.raw:,} bytes are said to be packed in a document of {header.size_bytes:,}")
        self._check_limit(header.raw if header.codec != PLAIN else 0)
        if header.length > header.blocks_offset:
            _, table = found.content()
            if any(block.raw > most for block in table):
                raise Undecodable("a block is said to hold more than its document")
            self._check_limit(max((block.raw for block in table), default=0))

    def _check_limit(self, raw: int) -> None:
        """What a document is said to weigh is not believed: no bytes at hand are more than a file here may have."""
        if raw > self._limit:
            raise DocumentTooLarge(
                f"{_NAME} has {raw:,} bytes in one piece, more than performance.max_file_size allows ({self._limit:,})",
                limit_bytes=self._limit,
            )

    def _close(self, closing: Frame, digest: bytes, parts: list[_Part]) -> None:
        try:
            content, _ = closing.content()
            listed, told = _read_closing(content)
        except (msgspec.DecodeError, ValueError) as error:
            raise damaged(closing.offset, f"its closing cannot be read: {error}") from error
        if told != digest:
            raise damaged(closing.offset, "its digest does not match")
        logs = [each for each in parts if each.body.checkpoint is None]
        if listed != [
            _Listed(log.body.kind, log.body.id, log.standing.version, log.standing.commit_id) for log in logs
        ]:
            raise damaged(closing.offset, "it does not hold what its closing says")


def _body(found: Frame) -> FileBody:
    if found.header.codec != PLAIN or found.header.length != found.header.blocks_offset:
        raise damaged(found.offset, "the first frame of a file is compressed, or has blocks")
    try:
        return bodies.read_file(bytes(found.content()[0]))
    except Undecodable as error:
        raise damaged(found.offset, str(error)) from error


# --- what it holds ---


class _Reading:
    """What reading logs needs of a store; fulfils `loading.Reading`."""

    def __init__(self) -> None:
        self.cache = BlockCache(_CACHE_BYTES)
        self.verify = True


def _bundle(file: Handed, session_id: str, parts: list[_Part], progress: Progress, limit_bytes: int) -> Bundle:
    documents: list[Whole] = []
    kept: dict[str, Callable[[], View]] = {}
    reading = _Reading()
    for part in parts:
        body = part.body
        if body.kind not in ("workflow", "session"):
            raise damaged(part.offset, f"it holds a {body.kind!a:.20}, which is no kind of document")
        document = document_id(body.kind, body.id)
        inner = _inner(file, part, progress)
        if body.checkpoint is None:
            kept = {}
            documents.append(_whole(document, part, inner, reading, kept))
        elif not documents or documents[-1].document != document or body.checkpoint in kept:
            raise damaged(part.offset, f"checkpoint {body.checkpoint!a:.80} does not belong there")
        else:
            kept[body.checkpoint] = partial(exported.read_file, inner, limit_bytes)
    ids = [each.document for each in documents]
    expected = [DocumentId("session", session_id), *(each for each in ids[1:] if each.kind == "workflow")]
    if ids != expected or len(set(ids)) < len(ids):
        raise damaged(0, "it does not hold one session and its workflows, each once")
    return Bundle(session_id, documents)


def _inner(file: Handed, part: _Part, progress: Progress) -> Handed:
    """One of the files in a bundle, as a file."""
    size = file.identity().size

    def read_there(length: int, offset: int) -> bytes:
        data = file.read(length, part.offset + offset)
        progress(size + part.offset + offset + len(data), 2 * size)
        return data

    return Handed(read_there, part.length)


def _whole(
    document: DocumentId, part: _Part, inner: Handed, reading: _Reading, kept: Mapping[str, Callable[[], View]]
) -> Whole:
    """A document by its log. What is `kept` beside it may be still to come."""
    log = Log(Directory(-1, _NAME), _NAME, inner, limit=_NO_LIMIT, prewrite=False, keep=_keep_nothing)
    first = log.first(part.length)
    assert first is not None
    log.end = log.recorded_synced = part.length  # blocks are checked when they are read
    past = LogPast(reading, document, log, part.standing.version)

    def version_at(version: int) -> View | None:
        state = loading.empty_state(document)
        state.base.blocks = loading.blocks_of(log, reading)
        for found in log.hop(first.end, first.header.checksum, log.end):
            if found.header.type == FrameType.SNAPSHOT and not state.standing.version:
                state = DocumentState(document, Snapshot(loading.blocks_of(log, reading), found))
            elif found.header.version > state.standing.version:
                state.follow(found)
            if state.standing.version == version:
                return state.view()
        return None

    return Whole(document, past, kept, version_at)


def _keep_nothing(*_: object) -> None:
    """Nothing is ever cut off."""
