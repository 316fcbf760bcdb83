"""True file systems are shut down under a working store, which then has lost nothing that it acknowledged.

What the simulated power loss says of file systems is held against real ones: ext4 with its modes of journalling, and
XFS where it can be made. Without root, or without loop devices, this is skipped by name.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, get_args

import pytest

from tests.crash import oracle
from tests.crash.file_systems import (
    Ending,
    FileSystem,
    Kind,
    Life,
    OnDisk,
    file_system,
    live,
    tree_below,
    what_is_missing,
    what_no_model_explains,
)
from tests.crash.oracle import Standing, Story, Wrong, after_reboot
from tests.crash.recording import Cut, Event, Mark, Renamed, Wrote
from tests.crash.stories import PATH, PLAIN
from tests.totals import Totals, WaiveFloor, ring_size
from waypost.errors import WaypostError
from waypost.store.directory import files
from waypost.store.directory.document import Document

pytestmark = pytest.mark.timeout(ring_size(120, 3600))
SEED = 20_260_201
MODES: list[tuple[Kind, str]] = [
    ("ext4", "data=ordered"),
    ("ext4", "data=writeback"),
    ("ext4", "data=ordered,commit=1"),
    ("xfs", "defaults"),
]
NOTHING = Standing(frozenset(), frozenset(), frozenset())
MADE, LAST_CHANGE = 35, 90
"""How many changes make a store, and about how many most processes make that then work on it. A file system that
outlives its process ends after it.
"""


@contextmanager
def made(kind: Kind, options: str) -> Iterator[FileSystem]:
    in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = tempfile.TemporaryDirectory(prefix="waypost-mounted-", dir=in_memory)
    with folder as path, file_system(Path(path), kind, options) as system:
        yield system


@pytest.fixture(params=MODES, ids=lambda mode: f"{mode[0]} {mode[1]}")
def system(request: pytest.FixtureRequest, waive_floor: WaiveFloor) -> Iterator[FileSystem]:
    """A new file system, or a reason why there is none."""
    kind, options = request.param
    missing = what_is_missing(kind)
    if missing and kind != "xfs":
        waive_floor("file system crashes", missing)
    if missing:
        pytest.skip(missing)
    with made(kind, options) as system:
        yield system


@pytest.fixture
def ext4() -> Iterator[FileSystem]:
    """A new file system of the kind that is there most often."""
    missing = what_is_missing("ext4")
    if missing:
        pytest.skip(missing)
    with made(*MODES[0]) as system:
        yield system


class Trial(NamedTuple):
    """One store, and the crashes that it lives through."""

    system: FileSystem
    seed: int

    def run(self) -> int:
        """How many crashes there were."""
        rng = random.Random(self.seed)
        self.system.clear()
        story, standing = Story(), NOTHING
        lives = rng.choice((1, 1, 2, 3))
        for number in range(lives):
            ending: Ending = rng.choice(get_args(Ending))
            at = self._when(rng, is_new=number == 0)
            life = live(self.system, story, standing, rng.randrange(1 << 30), at, ending)
            self.system.start_again()
            story, standing = life.story, life.standing()
            what = f"life {number + 1} of {lives}, {ending} at change {at} of {life.changes}"
            self.judge(life, what, is_last=number + 1 == lives, is_exact=ending != "meanwhile")
        return lives

    def _when(self, rng: random.Random, *, is_new: bool) -> int:
        """Before which change it ends: while the store is made, while it is worked on, or within recovery."""
        if is_new:
            return rng.randint(1, MADE) if rng.random() < 0.2 else rng.randint(MADE, LAST_CHANGE)
        return rng.randint(1, 25 if rng.random() < 0.7 else LAST_CHANGE)

    def judge(self, life: Life, what: str, *, is_last: bool, is_exact: bool) -> None:
        """Raise Wrong. A recording is not exact when a call that failed may have had its effect all the same."""
        path, standing = str(self.system.place) + PATH, life.standing()
        try:
            if life.error:
                raise Wrong(life.error)
            unexplained = is_exact and what_no_model_explains(life, tree_below(self.system.place))
            if unexplained:
                raise Wrong(f"no model has such a state: {unexplained}")
            with after_reboot():
                if is_last:
                    oracle._examine(OnDisk(self.system.place), path, life.story, standing, PLAIN)
                else:
                    oracle._look(path, life.story, standing, PLAIN, life.story.documents(standing))
        except (Wrong, WaypostError) as error:
            raise Wrong(f"seed {self.seed}, {what}: {error}\npromised {sorted(standing.promised)}") from error


def test_t04_a_file_system_that_ends_takes_nothing_that_was_acknowledged(system: FileSystem, totals: Totals) -> None:
    """Shut down at any change of any operation, while one is under way, within recovery, and within that of a
    recovery: what was promised is there, and what is there is a state that the simulated power loss knows.
    """
    crashes, trial = 0, 0
    while crashes < ring_size(34, 1_334):
        crashes += Trial(system, SEED + trial).run()
        trial += 1
    totals("file system crashes", crashes)


def _try_until_wrong(system: FileSystem) -> str:
    for trial in range(60):
        try:
            Trial(system, SEED + trial).run()
        except Wrong as error:
            return str(error)
    return "nothing was found"


def test_q05_t04_a_store_that_acknowledges_too_soon_is_found(ext4: FileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the sync before its acknowledgement a commit is gone with its file system; one of several documents is
    known not to be where it was decided to be.
    """
    monkeypatch.setattr(Document, "sync_to", lambda self, log, covered: 0)
    found = _try_until_wrong(ext4)
    assert "was promised and is lost" in found or "a transaction was decided whose frame stands at" in found


def test_q05_t04_a_failed_sync_that_is_passed_over_is_found(ext4: FileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a sync is told that the file system is gone, and the commit is acknowledged all the same."""

    def sync(self: files.File) -> None:
        with suppress(OSError):
            files._sync_data(self.descriptor)

    monkeypatch.setattr(files.File, "sync", sync)
    with pytest.raises(Wrong, match="was promised and is lost"):
        _end_at_each(ext4, range(MADE, MADE + 30))


def _end_at_each(system: FileSystem, changes: range) -> None:
    for at in changes:
        system.clear()
        life = live(system, Story(), NOTHING, 4, at, "goes on")
        system.start_again()
        Trial(system, SEED).judge(life, f"at change {at}", is_last=False, is_exact=True)


@pytest.mark.parametrize("kind", [Renamed, Wrote, Cut])
def test_q05_t04_a_state_that_no_model_knows_is_found(ext4: FileSystem, kind: type[Event]) -> None:
    """What is on the disk without having been recorded is told."""
    life = live(ext4, Story(), NOTHING, 11, 1_000, "dies")
    found = tree_below(ext4.place)
    assert not life.error
    assert what_no_model_explains(life, found) == []
    # a mark stands in for each that is left out, since syncs name others by their number
    without = [Mark("left out", 0) if isinstance(event, kind) else event for event in life.events]
    assert what_no_model_explains(life._replace(events=without), found)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_t04_a_file_system_is_unmounted_whatever_happens(tmp_path: Path, kind: Kind) -> None:
    """No mount and no loop device stays behind, even when it was shut down and a file on it is still open."""
    missing = what_is_missing(kind)
    if missing:
        pytest.skip(missing)
    held: list[int] = []
    with pytest.raises(ZeroDivisionError), file_system(tmp_path, kind, "defaults") as other:
        _fail_with_a_file_open(other, held)
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    os.close(*held)
    assert not any(str(tmp_path) in name for name in backing_files())


def _fail_with_a_file_open(system: FileSystem, held: list[int]) -> None:
    assert str(system.place) in Path("/proc/mounts").read_text()
    assert str(system.image) in backing_files()
    held.append(os.open(system.place / "held", os.O_RDWR | os.O_CREAT))
    system.shut_down()
    raise ZeroDivisionError


def backing_files() -> list[str]:
    return [each.read_text().strip() for each in Path("/sys/block").glob("loop*/loop/backing_file")]
