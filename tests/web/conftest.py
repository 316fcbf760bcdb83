"""A store with something in it, of each kind that is shown in the browser, and the application over it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.mcp.conftest import fill, handle
from tests.web.asking import Page, page_of
from waypost.blocking import Waypost


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Where a directory store is."""
    return tmp_path / "store"


@pytest.fixture
def wp(here: Path) -> Iterator[Waypost]:
    """A program over it, which has made one workflow, `survey`."""
    with closing(handle(str(here))) as made:
        fill(made)
        yield made


@pytest.fixture
def kept(wp: Waypost) -> str:
    """The checkpoint of that workflow."""
    return wp.list_checkpoints("survey")[0].id


@pytest.fixture
def page(wp: Waypost, here: Path) -> Iterator[Page]:
    with page_of(here) as made:
        yield made


@pytest.fixture
def filled(place: str) -> Iterator[tuple[Page, Waypost, str]]:
    """The application over a store of each kind, a program over it, and a checkpoint."""
    with closing(handle(place)) as wp:
        kept = fill(wp)
        with page_of(place) as page:
            yield page, wp, kept
