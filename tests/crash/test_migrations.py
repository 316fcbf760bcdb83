"""A bulk migration that is killed again and again."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

import waypost
from tests.outdated import CURRENT, check_migrated, double, handle, make_old
from tests.seeds import SEED
from tests.store.support import directory_store, system_calls
from tests.totals import Totals, ring_size
from waypost import records
from waypost.schema import register_migration
from waypost.store import DocumentId

SAID = f"repeat it with WAYPOST_TEST_SEED={SEED}"
pytestmark = pytest.mark.usefixtures("registry")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_t01_a_bulk_migration_that_is_killed_is_finished_by_the_next(path: Path, totals: Totals) -> None:
    """SIGKILL at random moments: each workflow is whole, migrated once or not yet, and running it again ends it."""
    register_migration("0.9.0", CURRENT, double)
    chance, kills = random.Random(SEED), 0
    for number in range(ring_size(2, 20)):
        kills += kill_until_done(path / str(number), chance, SAID)
    assert kills, SAID
    totals("kill points", kills)


def kill_until_done(path: Path, chance: random.Random, said: str) -> int:
    """Start migrations until one comes to its end; how many were killed on the way."""
    names = [f"w{number}" for number in range(8)]
    with waypost.open(path) as wp:
        for name in names:
            make_old(wp, name)
        version = wp.definitions.store.view(DocumentId("workflow", names[0])).version
    kills = 0
    while is_killed(path, chance.randrange(1, 40)):
        kills += 1
        check_each(path, names, version, said)
    store = directory_store(path)
    for name in names:
        check_migrated(handle(store), name)
        assert store.view(DocumentId("workflow", name)).version == version + 1, said
    assert store.verify().sound, said
    store.close()
    assert list((path / "temp").iterdir()) == [], said
    assert {entry.name for entry in (path / "backups").iterdir()} == {f"{name}.state.v{version}" for name in names}
    return kills


def is_killed(path: Path, at: int) -> bool:
    """Migrate in a child that is killed just before its n-th write, sync or change of a name, if it makes so many."""
    child = os.fork()
    if child == 0:
        left = at

        def fault(name: str, _count: int, _args: tuple[Any, ...]) -> None:
            nonlocal left
            left -= name in ("pwrite", "fdatasync", "fsync", "rename", "unlink", "link", "ftruncate")
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

        status = 1
        try:
            with system_calls() as calls:
                calls.fault = fault
                with waypost.open(path) as wp:
                    status = len(wp.migrate_workflows().failed)
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or status == 0
    return os.WIFSIGNALED(status)


def check_each(path: Path, names: list[str], version: int, said: str) -> None:
    store = directory_store(path, read_only=True)
    assert store.verify().sound, said
    for name in names:
        view = store.view(DocumentId("workflow", name))
        row = msgspec.msgpack.decode(view.get(records.WORKFLOW))
        count = msgspec.msgpack.decode(view.get(f"{records.VARIABLE}count"))
        assert (view.version - version, row[2], count) in [(0, "0.9.0", 1), (1, CURRENT, 2)], said
    store.close()
