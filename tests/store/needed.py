"""What the tests share that guard single syncs, locks and comparisons: a store at rest, and one whose process died."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.support import WF, TestedStore, directory_store
from waypost.store.directory import upkeep


@pytest.fixture(autouse=True)
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upkeep happens only when it is asked for."""
    monkeypatch.setattr(upkeep.Upkeep, "ask", lambda self, document: None)
    monkeypatch.setattr(upkeep.Upkeep, "ask_to_settle", lambda self: None)


def die(store: TestedStore) -> None:
    """Let go of everything as a process that is killed does."""
    for each in store._documents.values():
        each._log = each._state = None
    if store._lease is not None:
        store._lease.abandon()
        store._lease = None
    store._documents.clear()
    store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


def log_file(path: Path) -> Path:
    return path / "workflows" / "wf.state"


def closed_soundly(path: Path, *stores: TestedStore, **parts: bytes) -> None:
    for store in stores:
        store.close()
    reader = directory_store(path, read_only=True)
    view = reader.view(WF)
    assert {key: view.get(key) for key in view.keys()} == parts
    assert reader.verify().sound
    reader.close()
