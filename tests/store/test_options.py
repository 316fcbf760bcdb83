"""Each option of the configuration does what it says."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import re
import threading
from pathlib import Path

import pytest

import waypost
from tests.store.support import WF, change, directory_store, putting, system_calls
from waypost import codec, config
from waypost.codec import compression
from waypost.codec.frame import FrameType
from waypost.errors import UnsupportedFormat
from waypost.store import parts

TEXT = b"the quick brown fox jumps over the lazy dog; " * 60


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


def commits(path):
    """The headers of the commits in a log, in order."""
    store = directory_store(path, read_only=True)
    store.view(WF)
    log = store._document(WF)._log
    size = log.file.identity().size
    first = log.first(size)
    frames = log.hop(first.end, first.header.checksum, size)
    found = [each.header for each in frames if each.header.type == FrameType.COMMIT]
    store.close()
    return found


def codecs(path):
    return [header.codec for header in commits(path)]


def commit_once(path, value=TEXT, **options):
    store = directory_store(path, **options)
    before = store.view(WF).version
    store.submit(putting(**{f"k{before}": value})).result()
    store.close()


def test_trap_30_a_store_may_mix_every_algorithm(path):
    """Each `compression.algorithm` follows another in one log; each is recorded, and all of it reads."""
    for algorithm in ("zstd", "gzip", "lz4", "brotli", "none"):
        commit_once(path, TEXT * 10, algorithm=algorithm)
    assert codecs(path) == [compression.ZSTD, compression.GZIP, compression.LZ4, compression.BROTLI, compression.PLAIN]
    view = directory_store(path, read_only=True).view(WF)
    assert [view.get(f"k{number}") for number in range(5)] == [TEXT * 10] * 5
    assert view.compressed


def test_trap_30_a_codec_that_is_missing_is_named(path, monkeypatch):
    """Reading a frame whose codec is not installed is UnsupportedFormat with the extra that brings it."""
    commit_once(path, algorithm="brotli")
    monkeypatch.setattr(compression.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(UnsupportedFormat, match=r"waypost\[brotli\]"):
        directory_store(path, read_only=True).view(WF)


def test_compression_enabled(path):
    """`compression.enabled = false` stores bodies plain, and the metadata says so."""
    commit_once(path, enabled=False)
    assert codecs(path) == [compression.PLAIN]
    assert not directory_store(path, read_only=True).view(WF).compressed
    assert TEXT in (path / "workflows" / "wf.state").read_bytes()


def test_compression_level(tmp_path):
    """A higher `compression.level` stores the same value in fewer bytes."""
    rng = random.Random(1)
    words = [rng.randbytes(rng.randrange(2, 5)).hex().encode() for _ in range(900)]
    value = b" ".join(rng.choice(words) for _ in range(60_000))
    sizes = []
    for level in (1, 19):
        commit_once(tmp_path / str(level), value, level=level, chunk_size=1 << 20)
        sizes.append(commits(tmp_path / str(level))[0].stored)
    assert sizes[1] < sizes[0]


def test_compression_threshold(path):
    """Below `compression.threshold` bytes a body is stored plain; with zstd, by the dictionary where it helps."""
    commit_once(path, TEXT, algorithm="gzip", threshold=100_000)
    commit_once(path, TEXT, algorithm="gzip", threshold=100)
    commit_once(path, TEXT, algorithm="zstd", threshold=100_000)
    assert codecs(path) == [compression.PLAIN, compression.GZIP, compression.ZSTD_DICTIONARY_1]


def test_compression_chunk_size(path):
    """A value above `compression.chunk_size` stands in pieces of at most that size, read when it is asked for."""
    value = os.urandom(100_000)
    commit_once(path, value, chunk_size=8192)
    view = directory_store(path, read_only=True).view(WF)
    part = view.part("k0")
    assert [block.raw for block in part.table] == [8192] * 12 + [100_000 - 12 * 8192]
    assert view.get("k0") == value


def test_performance_max_memory_usage(path):
    """Beyond `performance.max_memory_usage` documents not used lately are let go, and read again when asked."""

    def documents_held(limit):
        store = directory_store(path.with_name(f"m{limit}"), max_memory_usage=limit, enabled=False)
        for number in range(90):
            store.submit(change(WF._replace(id=f"d{number}"), lambda tx: tx.put("v", os.urandom(20_000)))).result()
        held = len(store._documents)
        assert all(len(store.view(WF._replace(id=f"d{number}")).get("v")) == 20_000 for number in range(90))
        store.close()
        return held

    assert documents_held(1) < 70 < documents_held(256)


def test_performance_batch_size(path):
    """Commits that wait together share one write and one sync, at most `performance.batch_size` of them."""
    for most, syncs in ((10, 4), (40, 1)):
        store = directory_store(path.with_name(f"b{most}"), batch_size=most)
        store.submit(putting(first=b"1")).result()
        document = store._document(WF)
        tickets = [document.submit(putting(**{f"k{number}": b"1"}), None) for number in range(40)]
        with system_calls() as calls:
            for ticket in tickets:
                ticket.result()
            assert (calls.count("pwrite"), calls.count("fdatasync")) == (syncs, syncs)
        assert store.view(WF).version == 41
        store.close()


def test_performance_parallel_operations(path):
    """`performance.parallel_operations` is how many threads verify and commit for callers that do not wait."""
    store = directory_store(path, parallel_operations=3)
    for number in range(8):
        store.submit(change(WF._replace(id=f"d{number}"), lambda tx: tx.put("a", b"1"))).result()
    seen, gate = set(), threading.Barrier(3)

    def work(tx):
        seen.add(threading.current_thread().name)
        gate.wait(60)
        tx.put("a", b"2")

    done = threading.Semaphore(0)
    for number in range(6):
        store.submit(change(WF._replace(id=f"d{number}"), work), lambda ticket: done.release())
    for _ in range(6):
        assert done.acquire(timeout=60)
    assert len(seen) == 3
    store.close()


def test_reliability_enable_wal(path):
    """With `enable_wal` each commit is synced before it is acknowledged; without it none is until close."""
    durable = directory_store(path.with_name("power"))
    relaxed = directory_store(path.with_name("process"), enable_wal=False, sync_frequency=3_600_000)
    for store, level, syncs in ((durable, "power", 10), (relaxed, "process", 0)):
        store.submit(putting(a=b"first")).result()
        with system_calls() as calls:
            for number in range(10):
                store.submit(putting(a=b"%d" % number)).result()
            assert calls.count("fdatasync") == syncs
        assert store.durability == level
    durable.close()
    with system_calls() as calls:
        relaxed.close()
        assert calls.count("fdatasync") >= 1


def test_reliability_sync_frequency(path):
    """Without `enable_wal` what was acknowledged is synced every `sync_frequency` milliseconds."""
    synced = threading.Event()
    with system_calls() as calls:
        calls.fault = lambda name, _count, _args: synced.set() if name == "fdatasync" else None
        store = directory_store(path, enable_wal=False, sync_frequency=20)
        store.submit(putting(a=b"1")).result()
        assert synced.wait(60)
        store.close()


def test_d19_a_level_below_power_is_said_at_open(path, caplog):
    """Opening a store that acknowledges before its sync says so once."""
    with caplog.at_level(logging.INFO, "waypost"):
        waypost.open(path, preset="development").close()
    assert caplog.text.count("process durable") == 1


def test_trap_04_presets_differ_on_disk(tmp_path):
    """The three presets write what they say: plain and unsynced, or compressed and synced."""
    sizes, syncs = {}, {}
    for preset in ("development", "production", "high_throughput"):
        with system_calls() as calls, waypost.open(tmp_path / preset, preset=preset) as wp:
            wp.create_workflow("wf", "W", None, ["a"]).unwrap()
            before = calls.count("fdatasync")
            wp.update_step_status("wf", "a", "completed", {"text": "word " * 300}).unwrap()
            syncs[preset] = calls.count("fdatasync") - before
        sizes[preset] = (tmp_path / preset / "workflows" / "wf.state").stat().st_size
    assert syncs == {"development": 0, "production": 1, "high_throughput": 1}
    assert sizes["production"] < sizes["development"] > sizes["high_throughput"]


def test_trap_04_trap_29_every_option_has_a_test():
    """No option is read by nobody: a test of its effect bears its name, or names it in what it promises."""
    here = Path(__file__).parent
    shown_in = (
        Path(__file__),
        here / "test_snapshots.py",
        here.parent / "test_steps.py",
        here.parent / "test_retention.py",
        here.parent / "test_cleanup.py",
        here.parent / "test_secrets.py",
        here.parent / "test_redaction.py",
        here.parent / "postgres" / "test_limits.py",
        here.parent / "hooks" / "test_hook_options.py",
        here.parent / "monitor" / "test_monitoring_options.py",
    )
    told = "".join(file.read_text() for file in shown_in)
    for row in config.describe(config.load_with_sources("production", environment={})):
        name = row.option.replace(".", "_")
        assert re.search(rf"def test_{name}\(|^    .*`{row.option}`", told, re.MULTILINE), row.option


def test_trap_10_the_checksum_covers_every_value(tmp_path):
    """Workflows that differ in one value, deep down, differ in checksum; equal parts give the equal, recomputed one."""
    sums = set()
    for number, output in enumerate([{"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, {"a": [1, {"c": 2}]}, {}]):
        store = directory_store(tmp_path / str(number))
        store.submit(putting(name=repr(output).encode())).result()
        view = store.view(WF)
        assert view.checksum == parts.document_checksum((key, view.get(key)) for key in view.keys())
        sums.add(view.checksum)
        store.close()
    assert len(sums) == 4


def test_v09_the_shipped_dictionary_never_changes():
    """Frames on people's disks need the very bytes of dictionary 1."""
    data = (Path(codec.__file__).parent / compression.DICTIONARY_FILE).read_bytes()
    assert hashlib.sha256(data).hexdigest() == "b37d548e1a1087f530b32fda88dfbb2299597f8bc75977181b4caa81e5380ba5"


def test_v05_x19_decompression_stops_at_the_declared_length():
    """A bomb is not inflated beyond the length that its frame declares, with any codec."""
    bomb = bytes(50_000_000)
    for algorithm, level in (("zstd", 1), ("gzip", 1), ("lz4", 0), ("brotli", 1)):
        loaded = config.load("production", {"compression": {"algorithm": algorithm, "level": level}}, environment={})
        codec_number, packed = compression.Compressor(loaded.compression).pack(bomb)
        assert len(packed) < 300_000
        with pytest.raises(compression.Undecodable):
            compression.unpack(codec_number, packed, 1000)
        assert compression.unpack(codec_number, packed, len(bomb)) == bomb
        with pytest.raises(compression.Undecodable):
            compression.unpack(codec_number, packed[:-3], len(bomb))
