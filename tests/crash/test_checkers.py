"""The checker is checked: faults planted in the store are found by the simulated power loss."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from tests.crash.campaign import Campaign
from tests.crash.oracle import Wrong
from tests.crash.plots import WORKLOADS
from tests.crash.simulated import Machine, Tree
from tests.crash.stories import record, record_with_a_failed_sync
from waypost.store.directory import document, files, log, upkeep

pytestmark = pytest.mark.usefixtures("quiet")
Plant = Callable[[pytest.MonkeyPatch], None]


def acknowledge_before_the_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(document.Document, "sync_to", lambda self, log, covered: 0)


def sync_no_directory(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(files.Directory, "sync", lambda self: None)


def sync_no_temporary_file(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(files.File, "sync_all", lambda self: None)


def remove_the_old_log_too_soon(patch: pytest.MonkeyPatch) -> None:
    real = upkeep._switch

    def switch(document: Any, context: Any, origin: Any, out: Any, *place: Any) -> bool:
        origin.log.folder.remove(origin.log.name)
        origin.log.folder.sync()
        (origin.log.folder.open(origin.log.name, write=True, create=True)).close()
        return real(document, context, origin, out, *place)

    patch.setattr(log.Log, "lock", lambda self, **_: self.file.lock(1, TimeoutError) or self.file.identity())
    patch.setattr(upkeep, "_switch", switch)


PLANTED = [
    (acknowledge_before_the_sync, "appends"),
    (sync_no_directory, "first commit"),
    (sync_no_temporary_file, "shortened"),
    (remove_the_old_log_too_soon, "compaction"),
]


@pytest.fixture(autouse=True)
def _no_warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "waypost")


@pytest.mark.parametrize(("plant", "name"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_q05_a_planted_fault_is_found(monkeypatch: pytest.MonkeyPatch, plant: Plant, name: str) -> None:
    """A fault of the kinds that cost a store its data shows within a campaign of the ordinary size."""
    plant(monkeypatch)
    recording = record(WORKLOADS[name], Machine(Tree()))
    with pytest.raises(Wrong, match=f"workload {name}, model weak, seed"):
        Campaign(recording, "weak", title=f"workload {name}").run(2_200)


def sync_again_after_a_failure(patch: pytest.MonkeyPatch) -> None:
    def sync(self: files.File) -> None:
        try:
            os_of_the_store().fdatasync(self.descriptor)
        except OSError:
            os_of_the_store().fdatasync(self.descriptor)

    patch.setattr(files.File, "sync", sync)


def os_of_the_store() -> Any:
    return files.os


def rewrite_nothing_on_reopening(patch: pytest.MonkeyPatch) -> None:
    def prepare(self: log.Log, size: int) -> None:
        self._clear_tail(size)
        self._ready_to_append = True

    patch.setattr(log.Log, "_prepare_to_append", prepare)


@pytest.mark.parametrize("plant", [sync_again_after_a_failure, rewrite_nothing_on_reopening])
def test_q05_a_fault_in_what_follows_a_failed_sync_is_found(monkeypatch: pytest.MonkeyPatch, plant: Plant) -> None:
    """A second try in place of poison, and frames that are not written again, lose what was acknowledged."""
    plant(monkeypatch)
    with pytest.raises(Wrong, match="was promised and is lost"):
        _fail_each_sync()


def _fail_each_sync() -> None:
    for sync in count(1):
        cut = record_with_a_failed_sync(WORKLOADS["appends"], sync)
        if cut is None:
            return
        Campaign(cut.recording, "weak", title=f"failed sync {sync}").run(65, cut.at)


def test_q05_nothing_is_found_where_nothing_is_planted() -> None:
    """Shorter campaigns of the same kind pass on the store as it is; `test_power_loss.py` runs them at full length."""
    for name in sorted({name for _, name in PLANTED}):
        assert Campaign(record(WORKLOADS[name], Machine(Tree())), "weak").run(250) == 250
