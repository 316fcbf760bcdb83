"""A store with something in it, of each kind that a server can serve."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests import servers
from tests.conftest import make_config
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.models import WorkflowStep
from waypost.store import open_store


@pytest.fixture
def here(tmp_path: Path) -> str:
    """Where a directory store may be made."""
    return str(tmp_path / "store")


@pytest.fixture(params=["directory", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a store of each kind may be made."""
    if request.param == "directory":
        yield str(tmp_path / "store")
        return
    with servers.postgres().lent() as location:
        yield location


def handle(location: str) -> Waypost:
    """What a program of the user's has: a handle that writes."""
    config = make_config({"checkpoints": {"initial": False, "post_step": False, "error": False, "pause": False}})
    return Waypost(Definitions(open_store(location, config), config, verbose=False))


@pytest.fixture
def wp(here: str) -> Iterator[Waypost]:
    """A program over the directory store."""
    with closing(handle(here)) as made:
        yield made


def fill(wp: Waypost) -> str:
    """A run of four steps: done, failed, ready, waiting; with a checkpoint, whose id is given."""
    steps = [
        WorkflowStep("fetch"),
        WorkflowStep("parse", dependencies=["fetch"], max_retries=2),
        WorkflowStep("count", dependencies=["fetch"]),
        WorkflowStep("report", dependencies=["parse", "count"]),
    ]
    wp.create_workflow("survey", "A survey", steps=steps).unwrap()
    wp.update_step_status("survey", "fetch", "running", agent_id="robot").unwrap()
    wp.update_step_status("survey", "fetch", "completed", output={"rows": 3}, agent_id="robot").unwrap()
    kept = wp.create_checkpoint("survey", "fetched", tags=["good"]).unwrap().id
    wp.update_step_status("survey", "parse", "running").unwrap()
    wp.update_step_status("survey", "parse", "failed", error="no such column").unwrap()
    wp.update_context("survey", variables={"depth": 2}, configuration={"fast": True}).unwrap()
    wp.update_agent_state("survey", "robot", {"status": "busy", "current_task": "parsing"}).unwrap()
    return kept
