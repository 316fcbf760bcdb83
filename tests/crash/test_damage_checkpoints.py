"""The files of a release's checkpoints, cut off and with flipped bits: refused, or nothing has changed."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.test_damage import Reading
from tests.seeds import SEED
from tests.store.support import directory_store
from tests.totals import Totals, ring_size
from waypost.errors import DocumentDamaged, UnsupportedFormat
from waypost.store import DocumentId
from waypost.store.directory import check, checkpoints, files
from waypost.store.directory.blocks import BlockCache
from waypost.store.directory.log_check import Report

GOLDEN = Path(__file__).parents[1] / "golden"
WF = DocumentId("workflow", "survey")
STORES = [each / "checkpointed" for each in sorted(GOLDEN.iterdir())]
PLACES = ring_size(150, 100_000)
"""In how many bytes of a file each bit is flipped."""


class Kept:
    """One file of a checkpoint, and the checkpoints that are read from it, whose log is lost."""

    def __init__(self, path: Path, file: str) -> None:
        self.file = file
        self.data = (path / "checkpoints" / file).read_bytes()
        self.store = directory_store(path, read_only=True)
        self.reading = Reading(file)
        self.names = [
            name
            for name in self.store.checkpoints(WF)
            if any(each == file for each, _ in checkpoints.files_of(self.store._context, name))
        ]
        self.expected = {name: self._read(name) for name in self.names}

    def _read(self, name: str) -> dict[str, Any]:
        view = self.store.checkpoint(WF, name)
        assert view is not None
        return {"version": view.version, **{key: view.get(key) for key in view.keys()}}

    def examine(self, data: bytes | bytearray) -> list[str]:
        """Look at the checkpoints with these bytes in the file; what `verify` says of it."""
        self.reading.data = data
        self.store._context.cache = BlockCache(1 << 20)
        for name in (self.names[0], self.names[-1]):
            try:
                assert self._read(name) == self.expected[name], f"{name} was never that"
            except (DocumentDamaged, UnsupportedFormat):
                pass
        report = Report("")
        folder = self.store.layout.folder(checkpoints.FOLDER)
        check._check_checkpoint(folder, self.file, report, self.store._context, check._Kept(set(), {}, set()))
        return [found.severity for found in report.findings]


def kept_files() -> Iterator[tuple[Path, str]]:
    for path in STORES:
        for file in sorted((path / "checkpoints").iterdir()):
            if file.name != checkpoints.LOCK:
                yield path, file.name


@pytest.fixture(params=list(kept_files()), ids=lambda each: f"{each[0].parent.name}-{each[1]}")
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kept]:
    path = Path(shutil.copytree(request.param[0], tmp_path / "store"))
    shutil.rmtree(path / "workflows")
    (path / "workflows").mkdir()
    made = Kept(path, request.param[1])
    monkeypatch.setattr(files, "os", made.reading)
    assert made.names and made.examine(made.data) == []
    yield made
    made.store.close()


@pytest.mark.timeout(ring_size(120, 7200))
def test_t08_trap_14_a_damaged_file_of_a_checkpoint_is_refused_or_changes_nothing(kept: Kept, totals: Totals) -> None:
    """Whatever bit is flipped and whatever is cut off, nothing is read that never was, and `verify` finds it."""
    rng = random.Random(f"{SEED}{kept.file}")
    said = f"repeat it with WAYPOST_TEST_SEED={SEED}"
    places = sorted(rng.sample(range(len(kept.data)), min(PLACES, len(kept.data))))
    data = bytearray(kept.data)
    tried = 0
    for at in places:
        assert "damage" in kept.examine(kept.data[:at]), f"{at} of {len(data)} bytes pass as a whole file; {said}"
        for bit in range(8) if at % 4 == 0 else (at % 8,):
            data[at] ^= 1 << bit
            assert "damage" in kept.examine(data), f"bit {bit} of byte {at} passes unnoticed; {said}"
            data[at] ^= 1 << bit
            tried += 1
    totals("damaged logs", len(places) + tried)
