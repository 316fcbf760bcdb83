"""Hostile bytes for every reader: only documented errors, no hang, no memory to speak of (T9)."""

from __future__ import annotations

import hashlib
import logging
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.fuzzing import DOCUMENTED, Reader, damaged, readers
from tests.crash.machine import SCRATCH
from tests.seeds import SEED
from tests.totals import Totals, ring_size

CORPUS = Path(__file__).parents[1] / "corpus"
INPUTS = ring_size(160_000, 1_100_000)
SLOWEST_S = 5.0
MOST_MORE_KB = 64 * 1024
NAMES = ("values", "records", "parts", "bodies", "packed", "lease", "environment", "log", "log-written", "index",
         "configuration", "run-file", "command-line", "decision", "backup", "plan", "checkpoint", "import",
         "session", "event")  # fmt: skip


@pytest.fixture(scope="module")
def by_name() -> Iterator[dict[str, Reader]]:
    with tempfile.TemporaryDirectory(prefix="waypost-fuzz-", dir=SCRATCH, ignore_cleanup_errors=True) as place:
        yield {reader.name: reader for reader in readers(Path(place))}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Nobody reads what is said about a hundred thousand damaged files."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def resident_kb() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(row.split()[1]) for row in status if row.startswith("VmRSS"))


def give(reader: Reader, data: bytes) -> float:
    """Give a reader an input; how long it took. Raises AssertionError for what is not documented."""
    started = time.thread_time()
    try:
        reader.read(data)
    except DOCUMENTED:
        pass
    except Exception as error:
        name = f"{reader.name}/{hashlib.sha256(data).hexdigest()[:12]}"
        kept = Path("build/fuzz") / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(data)
        raise AssertionError(
            f"{error!r} for build/fuzz/{name}; put it into tests/corpus; WAYPOST_TEST_SEED={SEED}"
        ) from error
    return time.thread_time() - started


def test_t09_every_reader_is_fuzzed(by_name: dict[str, Reader]) -> None:
    assert tuple(by_name) == NAMES
    assert {folder.name for folder in CORPUS.iterdir()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_t09_q02_what_was_found_before_is_refused_properly(by_name: dict[str, Reader], name: str) -> None:
    """Each input of the corpus, past failures among them, ends in a result or a documented error."""
    inputs = sorted((CORPUS / name).iterdir())
    assert inputs
    for path in inputs:
        give(by_name[name], path.read_bytes())


@pytest.mark.timeout(ring_size(600, 3600))
@pytest.mark.parametrize("name", NAMES)
def test_t09_hostile_bytes_end_in_documented_errors(by_name: dict[str, Reader], name: str, totals: Totals) -> None:
    """Damaged input of every kind, with sums that are right again, is read or refused: quickly, and within memory."""
    reader = by_name[name]
    rng = random.Random(f"{SEED}{name}")
    number = INPUTS * reader.weight // sum(each.weight for each in by_name.values())
    for data in reader.valid:
        give(reader, data)
    before = resident_kb()
    for _ in range(number):
        assert give(reader, damaged(rng, reader)) < SLOWEST_S, f"WAYPOST_TEST_SEED={SEED}"
    assert resident_kb() - before < MOST_MORE_KB, f"WAYPOST_TEST_SEED={SEED}"
    totals("fuzz inputs", number)
