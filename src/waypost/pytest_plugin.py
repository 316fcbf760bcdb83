"""Fixtures for pytest: a store of a test's own. Where Waypost is installed, pytest finds them (docs/adapters.md, 4).

What a store needs is imported when a test asks for one, so that others begin no later.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from waypost.blocking import Waypost


@pytest.fixture
def waypost_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a store of this test's own, which is still to be made. `waypost.open()` and the command line find it
    in `$WAYPOST_STATE`, here and in processes that the test starts; the store of the project is out of reach.
    """
    path = tmp_path / "waypost-state"
    monkeypatch.setenv("WAYPOST_STATE", str(path))
    return path


@pytest.fixture
def open_waypost(waypost_state: Path) -> Iterator[Waypost]:
    """An open Waypost over `waypost_state`, closed after the test."""
    import waypost

    with waypost.open(waypost_state) as opened:
        yield opened
