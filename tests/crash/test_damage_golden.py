"""Every byte of a release's logs cut off, and every bit flipped: an error or an earlier commit, no wrong value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.test_damage import NOTICED, Parts, Reading
from tests.store.support import directory_store
from tests.totals import Totals, ring_size
from waypost.errors import DocumentDamaged, UnsupportedFormat
from waypost.store import DocumentId
from waypost.store.directory import files, loading
from waypost.store.directory.blocks import BlockCache
from waypost.store.directory.log_check import check_log
from waypost.store.directory.state import DocumentView

GOLDEN = Path(__file__).parents[1] / "golden"
LONGEST = ring_size(12_000, 100_000)
"""The longest log whose every bit is flipped. At night all of them; with each change one of 90 KB is left out, which
alone would cost as much as all others ten times over."""
LONG = ring_size(9_000, LONGEST)
"""Of a log of that many bytes each third byte is left as it is with each change: it costs more than all that are
shorter together.
"""


def logs() -> Iterator[tuple[str, DocumentId]]:
    """(release, document) of each log that was closed."""
    for release in sorted(GOLDEN.iterdir()):
        for name in json.loads((release / "closed.json").read_text("utf-8"))["documents"]:
            kind, identifier = name.split(" ", 1)
            document = DocumentId(kind, identifier)
            folder = release / "closed" / f"{kind}s"
            if (folder / loading.file_name(document)).stat().st_size <= LONGEST:
                yield release.name, document


class Golden:
    """One log of a release, with all versions that can be read of it."""

    def __init__(self, release: str, document: DocumentId) -> None:
        path = GOLDEN / release / "closed"
        self.document = document
        self.name = loading.file_name(document)
        self.data = (path / f"{document.kind}s" / self.name).read_bytes()
        self.store = directory_store(path, read_only=True)
        self.reading = Reading(self.name)
        newest = self.store.view(document, durable=False)
        self.versions: dict[int, Parts] = {0: {}, newest.version: _parts(newest)}
        for version in range(1, newest.version):
            view = self.store.view_at(document, version)
            if view is not None:
                self.versions[version] = _parts(view)

    def examine(self, data: bytes | bytearray) -> set[str]:
        """Look at the log with these bytes in it; what `verify` says. Fails on any value that never was."""
        self.reading.data = data
        self.store._documents.clear()
        self.store._context.cache = BlockCache(1 << 20)
        try:
            view = self.store.view(self.document, durable=False)
            assert _parts(view) == self.versions.get(view.version), f"version {view.version} was never that"
        except (DocumentDamaged, UnsupportedFormat):
            pass
        folder = self.store.layout.documents(self.document.kind)
        report = check_log(folder, self.name, self.document.kind, self.store._context)
        return {found.severity for found in report.findings}


def _parts(view: DocumentView) -> Parts:
    return {key: view.get(key) for key in view.keys()}


@pytest.fixture(params=list(logs()), ids=lambda each: f"{each[0]}-{each[1].id[:16]}")
def golden(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Golden]:
    made = Golden(*request.param)
    monkeypatch.setattr(files, "os", made.reading)
    assert made.examine(made.data) <= {"note"}
    yield made
    made.store.close()


@pytest.mark.timeout(ring_size(300, 7200))
def test_t08_t17_a_golden_log_cut_off_anywhere_is_refused_or_an_earlier_commit(golden: Golden, totals: Totals) -> None:
    """Whatever is cut off, nothing is read that never was, and `verify` says that the log was not closed."""
    for length in range(len(golden.data)):
        assert golden.examine(golden.data[:length]), f"{length} of {len(golden.data)} bytes pass as a closed log"
    totals("damaged logs", len(golden.data))


@pytest.mark.timeout(ring_size(600, 7200))
@pytest.mark.parametrize("bits", [range(4), range(4, 8)], ids=["lower", "upper"])
def test_t08_t17_any_flipped_bit_of_a_golden_log_is_refused_or_changes_nothing_but_the_end(
    golden: Golden, bits: range, totals: Totals
) -> None:
    """Whatever bit is flipped, nothing is read that never was, and `verify` finds it."""
    data = bytearray(golden.data)
    places = [at for at in range(len(data)) if len(data) < LONG or at % 3]
    for at in places:
        for bit in bits:
            data[at] ^= 1 << bit
            assert golden.examine(data) & NOTICED, f"bit {bit} of byte {at} passes unnoticed"
            data[at] ^= 1 << bit
    totals("damaged logs", len(bits) * len(places))
