"""Compression of frame bodies and blocks; the codec is recorded with each, so a store may mix them.

Small bodies gain nothing from a compressor that starts cold, so below `DICTIONARY_UP_TO` bytes zstd is
primed with a dictionary that ships with the library. A dictionary is part of the format: it has a
number, its bytes never change, and frames that used it are readable for ever.

Compressed lengths bound nothing (zeros shrink a thousandfold), so decompression is given the length that
the frame declares, stops there, and refuses anything that is not exactly that long.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from functools import cache
from io import FileIO
from typing import TYPE_CHECKING, Any

from waypost.errors import InvalidConfiguration, UnsupportedFormat

if TYPE_CHECKING:
    from waypost.options import CompressionConfig

PLAIN, ZSTD, ZSTD_DICTIONARY_1, GZIP, LZ4, BROTLI = range(6)
CODEC_NAMES = ("plain", "zstd", "zstd with dictionary 1", "gzip", "lz4", "brotli")
DICTIONARY_UP_TO = 16 * 1024
SMALL_EFFORT = 2
"""With the dictionary, steps and outputs get a little smaller than at 3 (70.6 against 71.7 % of an output), at half the
time: 3 us hot and 9 us behind a sync, against 6 and 18.
"""
WINDOW_LOG = 17
"""What is compressed looks back 128 KiB at most: blocks are shorter, but for large chunks that somebody asked for."""
DICTIONARY_FILE = "dictionary_1.zstd"


class Undecodable(Exception):
    """Stored bytes do not decompress to the length that was declared; the caller knows file and offset."""


@cache
def _zstd() -> Any:
    return importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


def _extra(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UnsupportedFormat(
            f"{extra} compression is not installed: pip install 'waypost[{extra}]'", codec=extra
        ) from error


@cache
def _dictionary() -> Any:
    # a plain text for a path and no buffer: where memory runs out while either is made, Python tells something else
    with FileIO(os.path.join(os.path.dirname(__file__), DICTIONARY_FILE)) as file:
        data = file.readall()
    return _made(lambda: _zstd().ZstdDict(data))


def _made(make: Callable[[], Any]) -> Any:
    """An object of zstd. Raises MemoryError also for want of memory for its lock, of which zstd says something else."""
    try:
        return make()
    except (RuntimeError, _zstd().ZstdError) as error:
        if "allocate" in str(error):
            raise MemoryError(str(error)) from error
        raise


# it has a lock, which another thread may hold as a process is forked; the child takes one of its own
os.register_at_fork(after_in_child=_dictionary.cache_clear)

Squeeze = Callable[[bytes], bytes]


def _zstd_with(level: int, dictionary: bool) -> Squeeze:
    zstd = _zstd()
    parameter = zstd.CompressionParameter
    # length, checksum and dictionary number stand in the frame already
    options = {
        parameter.compression_level: level,
        parameter.content_size_flag: 0,
        parameter.checksum_flag: 0,
        parameter.dict_id_flag: 0,
        # what is compressed is told piece by piece, so that else it would be taken for endless, and get 2 MB of room
        parameter.window_log: WINDOW_LOG,
    }
    primed = {"zstd_dict": _dictionary().as_digested_dict} if dictionary else {}
    compressor = _made(lambda: zstd.ZstdCompressor(options=options, **primed))
    whole_frame = zstd.ZstdCompressor.FLUSH_FRAME
    return lambda data: compressor.compress(data, whole_frame)


def _gzip_with(level: int) -> Squeeze:
    import gzip

    return lambda data: gzip.compress(data, level, mtime=0)


def _lz4_with(level: int) -> Squeeze:
    compress = _extra("lz4.frame", "lz4").compress
    return lambda data: compress(data, compression_level=level)


def _brotli_with(level: int) -> Squeeze:
    compress = _extra("brotli", "brotli").compress
    return lambda data: compress(data, quality=level)


class Compressor:
    """Compresses as configured. Not shared between threads: compressor objects keep state while they work.

    `most_effort` bounds the level of zstd. Small bodies are compressed at `SMALL_EFFORT` at most: with a dictionary a
    higher level costs six times as much for a tenth of the bytes, and a commit waits for it.
    """

    def __init__(self, config: CompressionConfig, most_effort: int = 22) -> None:
        self._threshold = config.threshold
        self._small: Squeeze | None = None
        self._large: Squeeze | None = None
        self._codec = PLAIN
        algorithm = config.algorithm if config.enabled else "none"
        if algorithm == "zstd":
            level = min(config.level, most_effort)
            self._codec, self._large = ZSTD, _zstd_with(level, dictionary=False)
            self._small = _zstd_with(min(level, SMALL_EFFORT), dictionary=True)
        elif algorithm == "gzip":
            self._codec, self._large = GZIP, _gzip_with(config.level)
        elif algorithm == "lz4":
            self._codec, self._large = LZ4, _lz4_with(config.level)
        elif algorithm == "brotli":
            self._codec, self._large = BROTLI, _brotli_with(config.level)
        elif algorithm != "none":
            raise InvalidConfiguration(f"compression.algorithm: {algorithm!r} is not known", value=algorithm)

    def pack(self, data: bytes) -> tuple[int, bytes]:
        """(codec, stored bytes): compressed only where that makes it smaller."""
        if self._small is not None and len(data) < DICTIONARY_UP_TO:
            return _smaller(ZSTD_DICTIONARY_1, self._small(data), data)
        if self._large is not None and len(data) >= self._threshold:
            return _smaller(self._codec, self._large(data), data)
        return PLAIN, data


def _smaller(codec: int, packed: bytes, data: bytes) -> tuple[int, bytes]:
    return (codec, packed) if len(packed) < len(data) else (PLAIN, data)


def unpack(codec: int, stored: bytes | memoryview, raw: int) -> bytes:
    """The `raw` bytes that were stored.

    Raises Undecodable when they are not exactly that many, UnsupportedFormat for a codec that is not known or not
    installed.
    """
    if codec == PLAIN:
        data = bytes(stored)
    else:
        reader = _READERS.get(codec)
        if reader is None:
            raise UnsupportedFormat(f"codec {codec} is not known to this release of waypost", codec=codec)
        try:
            data = reader(stored, raw)
        except (UnsupportedFormat, MemoryError, RecursionError):
            raise  # none of them calls itself for what it reads, so no stack is left for the caller
        except Exception as error:  # each library has errors of its own, and none of them is ours to name
            raise Undecodable(f"{CODEC_NAMES[codec]}: {error}") from error
    if len(data) != raw:
        raise Undecodable(f"{len(data)} bytes where {raw} were declared")
    return data


def _read_zstd(stored: bytes | memoryview, raw: int) -> bytes:
    return _finished(_decompressor(), stored, raw)


def _read_zstd_primed(stored: bytes | memoryview, raw: int) -> bytes:
    return _finished(_decompressor(zstd_dict=_dictionary()), stored, raw)


def _decompressor(**options: Any) -> Any:
    return _made(lambda: _zstd().ZstdDecompressor(**options))


def _finished(decompressor: Any, stored: bytes | memoryview, raw: int) -> bytes:
    data: bytes = decompressor.decompress(stored, raw + 1)
    if not decompressor.eof or decompressor.unused_data:
        raise Undecodable("the compressed data does not end where it should")
    return data


def _read_gzip(stored: bytes | memoryview, raw: int) -> bytes:
    import zlib

    reader = zlib.decompressobj(wbits=31)
    data = reader.decompress(stored, raw + 1)
    if not reader.eof or reader.unused_data:
        raise Undecodable("the compressed data does not end where it should")
    return data


def _read_lz4(stored: bytes | memoryview, raw: int) -> bytes:
    return _finished(_extra("lz4.frame", "lz4").LZ4FrameDecompressor(), bytes(stored), raw)


def _read_brotli(stored: bytes | memoryview, raw: int) -> bytes:
    reader = _extra("brotli", "brotli").Decompressor()
    data: bytes = reader.process(bytes(stored), output_buffer_limit=raw + 1)
    if not reader.is_finished():
        raise Undecodable("the compressed data does not end where it should")
    return data


_READERS: dict[int, Callable[[bytes | memoryview, int], bytes]] = {
    ZSTD: _read_zstd,
    ZSTD_DICTIONARY_1: _read_zstd_primed,
    GZIP: _read_gzip,
    LZ4: _read_lz4,
    BROTLI: _read_brotli,
}
