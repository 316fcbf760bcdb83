"""True file systems are shut down under a working store, which then has lost nothing that it acknowledged.

What the simulated power loss says of file systems is held against real ones: ext4 with its modes of journalling, and
XFS where it can be made. Without root, or without loop devices, this is skipped by name.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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
from waypost.store.directory.document import Document

pytestmark = pytest.mark.timeout(ring_size(120, 3600))
SEED = 20_260_201
MODES: list[tuple[Kind, str]] = [
    ("ext4", "data=ordered"),
    ("ext4", "data=writeback"),
    ("ext4", "data=ordered,commit=1"),
    ("xfs", "defaults"),
]
LAST_CHANGE = 90
"""About as many changes as most processes make; a file system that outlives its process ends after it."""


@contextmanager
def made(kind: Kind, options: str) -> Iterator[FileSystem]:
    in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=in_memory) as folder, file_system(Path(folder), kind, options) as system:
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
        story, standing = Story(), Standing(frozenset(), frozenset(), frozenset())
        lives = rng.choice((1, 1, 2, 3))
        for number in range(lives):
            ending: Ending = rng.choice(get_args(Ending))
            # a later process first recovers, which is where it is cut short most often
            at = rng.randint(1, LAST_CHANGE if number == 0 or rng.random() < 0.3 else 25)
            life = live(self.system, story, standing, rng.randrange(1 << 30), at, ending)
            self.system.start_again()
            story, standing = life.story, life.standing()
            what = f"life {number + 1} of {lives}, {ending} at change {at} of {life.changes}"
            self.judge(life, what, is_last=number + 1 == lives, is_exact=ending != "meanwhile")
        return lives

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
    """Without the sync before its acknowledgement a commit is gone with its file system."""
    monkeypatch.setattr(Document, "sync_to", lambda self, log, covered: 0)
    assert "was promised and is lost" in _try_until_wrong(ext4)


@pytest.mark.parametrize("kind", [Renamed, Wrote, Cut])
def test_q05_t04_a_state_that_no_model_knows_is_found(ext4: FileSystem, kind: type[Event]) -> None:
    """What is on the disk without having been recorded is told."""
    life = live(ext4, Story(), Standing(frozenset(), frozenset(), frozenset()), 11, 1_000, "dies")
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
