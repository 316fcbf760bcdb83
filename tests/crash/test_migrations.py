"""A bulk migration that is killed again and again."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

import waypost
from tests.outdated import CURRENT, check_migrated, double, handle, make_old
from tests.store.support import directory_store, system_calls
from tests.totals import Totals, ring_size
from waypost import records
from waypost.schema import register_migration
from waypost.store import DocumentId

pytestmark = pytest.mark.usefixtures("registry")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_t01_a_bulk_migration_that_is_killed_is_finished_by_the_next(path: Path, totals: Totals) -> None:
    """SIGKILL at random moments: each workflow is whole, migrated once or not yet, and running it again ends it."""
    names = [f"w{number}" for number in range(12)]
    with waypost.open(path) as wp:
        for name in names:
            make_old(wp, name)
        version = wp.definitions.store.view(DocumentId("workflow", names[0])).version
    register_migration("0.9.0", CURRENT, double)
    seed = int(os.environ.get("WAYPOST_SEED", time.time_ns() % 1_000_000))
    chance, kills = random.Random(seed), ring_size(8, 100)
    for _ in range(kills):
        kill_in_bulk(path, chance)
        check_each(path, names, version, seed)
    with waypost.open(path) as wp:
        assert wp.migrate_workflows().failed == []
    store = directory_store(path)
    for name in names:
        check_migrated(handle(store), name)
        assert store.view(DocumentId("workflow", name)).version == version + 1, f"WAYPOST_SEED={seed}"
    assert store.verify().sound
    store.close()
    assert list((path / "temp").iterdir()) == []
    totals("kill points", kills)


def kill_in_bulk(path: Path, chance: random.Random) -> None:
    """Kill a migration just before one of its writes, syncs or renames, like a power switch would."""
    child = os.fork()
    if child == 0:
        left = chance.randrange(1, 25)

        def fault(name: str, _count: int, _args: tuple[Any, ...]) -> None:
            nonlocal left
            left -= name in ("pwrite", "fdatasync", "fsync", "rename", "unlink", "link")
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        with system_calls() as calls:
            calls.fault = fault
            with waypost.open(path) as wp:
                wp.migrate_workflows()
        os._exit(0)
    os.waitpid(child, 0)
    chance.random()


def check_each(path: Path, names: list[str], version: int, seed: int) -> None:
    store = directory_store(path, read_only=True)
    assert store.verify().sound, f"WAYPOST_SEED={seed}"
    for name in names:
        view = store.view(DocumentId("workflow", name))
        row = msgspec.msgpack.decode(view.get(records.WORKFLOW))
        count = msgspec.msgpack.decode(view.get(f"{records.VARIABLE}count"))
        assert (view.version - version, row[2], count) in [(0, "0.9.0", 1), (1, CURRENT, 2)], f"WAYPOST_SEED={seed}"
    store.close()
