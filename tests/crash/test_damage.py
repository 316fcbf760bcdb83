"""Every byte of a log cut off, and every bit of it flipped: an error or an earlier commit, never a wrong value.

The log is a small one that holds everything a log can hold. Damage is made in what the store reads, not on the disk: a
stand-in for the system calls gives other bytes and another length for that one file.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import waypost
from tests.seeds import SEED
from tests.store.support import WF, TestedStore, directory_store, putting
from tests.totals import Totals, ring_size
from waypost.codec.frame import FrameType, read_header
from waypost.errors import DocumentDamaged, UnsupportedFormat
from waypost.store.directory import compaction, files
from waypost.store.directory.blocks import BlockCache
from waypost.store.directory.document import Document
from waypost.store.directory.log_check import check_log

SAID = f"repeat it with WAYPOST_TEST_SEED={SEED}"
NOTICED = {"damage", "torn tail"}

Parts = dict[str, bytes | None]


class Reading:
    """Stands in for `os` in the module that touches the disk: one file reads as other bytes than it holds."""

    def __init__(self, name: str) -> None:
        self.data: bytes | bytearray | None = None
        self._name = name
        self._open: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, name: str, *args: Any, **kwargs: Any) -> int:
        descriptor = os.open(name, *args, **kwargs)
        if name == self._name:
            self._open.add(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        self._open.discard(descriptor)
        os.close(descriptor)

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        if self.data is None or descriptor not in self._open:
            return os.pread(descriptor, length, offset)
        return bytes(self.data[offset : offset + length])

    def fstat(self, descriptor: int) -> Any:
        real = os.fstat(descriptor)
        if self.data is None or descriptor not in self._open:
            return real
        return SimpleNamespace(st_dev=real.st_dev, st_ino=real.st_ino, st_mode=real.st_mode, st_size=len(self.data))

    def lseek(self, descriptor: int, offset: int, whence: int) -> int:
        return (
            os.lseek(descriptor, offset, whence)
            if self.data is None or descriptor not in self._open
            else len(self.data)
        )


class Reference:
    """A closed store with one log, all versions that it ever had, and ways to look at it damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "workflows" / "wf.state"
        self.versions: dict[int, Parts] = {0: {}}
        self._fill(random.Random(8))
        self.data = self.file.read_bytes()
        self.store = directory_store(path, read_only=True)
        self.reading = Reading("wf.state")

    def _fill(self, rng: random.Random) -> None:
        store = directory_store(self.path, chunk_size=4096, threshold=200)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Document, "snapshot_is_due", staticmethod(lambda state: False))
            self._commit(store, a=b"1", large=b"large " * 700)
            self._commit(store, b=rng.randbytes(30))
            patch.setattr(compaction, "DAY_US", -1)  # all history goes, so the large part gets a frame of its own
            assert store.tidy(WF, "compact")
            patch.undo()
            patch.setattr(Document, "snapshot_is_due", staticmethod(lambda state: False))
            self._commit(store, c=b"text of some length, " * 12)
            self._commit(store, a=rng.randbytes(20), second=b"another " * 520)
            patch.setattr(Document, "snapshot_is_due", staticmethod(lambda state: True))
            assert store.tidy(WF, "snapshot")
            patch.setattr(Document, "snapshot_is_due", staticmethod(lambda state: False))
            self._commit(store, b=b"2", d=b"plain")
            self._commit(store, a=b"3")
            store.close()

    def _commit(self, store: TestedStore, **values: bytes) -> None:
        version = store.submit(putting(**values)).result().version
        self.versions[version] = {**self.versions[version - 1], **values}

    def kinds(self) -> set[int]:
        """The types of the frames in the log."""
        found: set[int] = set()
        at = 0
        while (header := read_header(self.data, at)) is not None:
            found.add(header.type)
            at += header.length
        assert at == len(self.data)
        return found

    def look(self) -> tuple[int, Parts]:
        """Version and parts as a reader sees them, who opens the document now."""
        self.store._documents.clear()
        self.store._context.cache = BlockCache(1 << 20)  # what was read whole before must not be remembered
        view = self.store.view(WF, durable=False)
        return view.version, {key: view.get(key) for key in view.keys()}

    def findings(self) -> set[str]:
        """What `verify` says of the log."""
        folder = self.store.layout.documents("workflow")
        report = check_log(folder, "wf.state", "workflow", self.store._context)
        return {found.severity for found in report.findings}

    def examine(self, data: bytes | bytearray) -> set[str]:
        """Look at the log with these bytes in it; what `verify` says. Fails on any value that never was."""
        self.reading.data = data
        try:
            version, parts = self.look()
            assert parts == self.versions.get(version), f"version {version} was never {parts}"
        except (DocumentDamaged, UnsupportedFormat):
            pass
        return self.findings()


@pytest.fixture
def reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reference:
    made = Reference(tmp_path / "store")
    of_other_files = {FrameType.DECISION, FrameType.DELTA}
    of_other_files.add(FrameType.ERASURES)  # of logs from which something was erased: tests/store/test_erasing.py
    assert made.kinds() == set(map(int, FrameType)) - of_other_files, "the log holds a frame of each kind"
    monkeypatch.setattr(files, "os", made.reading)
    assert made.examine(made.data) == set()
    assert made.look() == (6, made.versions[6])
    return made


def test_t08_a_log_cut_off_at_any_byte_is_refused_or_an_earlier_commit(reference: Reference, totals: Totals) -> None:
    """Whatever is cut off, nothing is read that never was, and `verify` says that the log was not closed."""
    data = reference.data
    for length in range(len(data)):
        assert reference.examine(data[:length]), f"{length} of {len(data)} bytes pass as a closed log"
    totals("damaged logs", len(data))


def test_t08_any_flipped_bit_is_refused_or_changes_nothing_but_the_end(reference: Reference, totals: Totals) -> None:
    """Whatever bit is flipped, nothing is read that never was, and `verify` finds it."""
    data = bytearray(reference.data)
    for at in range(len(data)):
        for bit in range(8):
            data[at] ^= 1 << bit
            found = reference.examine(data)
            assert found & NOTICED, f"bit {bit} of byte {at} passes unnoticed"
            data[at] ^= 1 << bit
    totals("damaged logs", 8 * len(data))


def _break(data: bytes, rng: random.Random) -> bytearray:
    """Damage of a kind that disks, copies and people do."""
    broken = bytearray(data)
    at = rng.randrange(len(data))
    length = min(rng.choice((1, 8, 64, 512, 4096)), len(data) - at)
    kind = rng.randrange(6)
    if kind == 0:
        broken[at : at + length] = bytes(length)
    elif kind == 1:
        broken[at : at + length] = b"\xff" * length
    elif kind == 2:
        broken[at : at + length] = rng.randbytes(length)
    elif kind == 3:
        del broken[at : at + length]
    elif kind == 4:
        broken[at:at] = data[at : at + length]
    else:
        other = rng.randrange(len(data) - length + 1)
        broken[at : at + length] = data[other : other + length]
    return broken


@pytest.mark.timeout(ring_size(120, 7200))
def test_t08_larger_damage_is_refused_or_an_earlier_commit(reference: Reference, totals: Totals) -> None:
    """Zeros, ones, garbage, lost, doubled and misplaced bytes give an error or an earlier commit."""
    rng, cases = random.Random(SEED), ring_size(2_000, 500_000)
    print(SAID)
    for _ in range(cases):
        broken = _break(reference.data, rng)
        if rng.randrange(3) == 0 and broken:
            broken = _break(bytes(broken), rng)
        found = reference.examine(broken)
        assert found or broken == reference.data, SAID
    totals("damaged logs", cases)


@pytest.mark.timeout(ring_size(120, 7200))
def test_e10_what_is_repaired_is_sound_and_was_there(reference: Reference, totals: Totals) -> None:
    """After a repair the store is sound, and what is kept is a version that was, or one that says what it lacks."""
    rng, cases = random.Random(SEED), ring_size(150, 20_000)
    print(SAID)
    reference.reading.data = None
    exact = 0
    for number in range(cases):
        if number % 3:
            broken = _break(reference.data, rng)
        else:
            broken = bytearray(reference.data)
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        reference.file.write_bytes(broken)
        report = waypost.repair(reference.path)
        if [each.action for each in report.repaired] == ["left"]:  # lost bytes made it look like a newer release's
            assert reference.findings() == {"unreadable"}, SAID
            assert reference.file.read_bytes() == broken, SAID
            continue
        assert not reference.findings() & NOTICED, SAID
        assert all(found.severity == "note" for found in reference.store.verify().findings), SAID
        assert waypost.repair(reference.path).repaired == [], SAID
        version, parts = reference.look()
        is_exact = all(each.is_exact for each in report.repaired) or version == 0
        exact += is_exact
        if is_exact:
            assert parts == reference.versions[version], SAID
        else:
            before, (told,) = reference.versions[version - 1], report.repaired
            assert parts.items() <= before.items(), SAID
            for key in before.keys() - parts.keys():
                ranges = [first <= key and (behind is None or key < behind) for first, behind in told.lost_keys]
                assert key in told.lost_parts or any(ranges), SAID
        reference.file.unlink(missing_ok=True)
        if number % 100 == 99:  # a repair tries the names of all that was kept before: at night 33,000 of one log
            for kept in (reference.path / "damaged").iterdir():
                kept.unlink()
    assert exact > cases // 2
    totals("damaged logs", cases)
