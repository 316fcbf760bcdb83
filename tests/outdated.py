"""Workflows of an older schema, a step that brings them up to date, and processes that take it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from tests.conftest import make_config
from tests.store.support import change
from waypost import records, schema
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.migrating import MigratingDocument
from waypost.store import DocumentId, Store

W = DocumentId("workflow", "w")
CURRENT = schema.SCHEMA_VERSION


def handle(store: Store) -> Waypost:
    return Waypost(Definitions(store, make_config(), verbose=False))


def stamp(store: Store, version: object, workflow_id: str = "w") -> None:
    """Make a stored workflow one of another schema version."""

    def work(tx: Any) -> None:
        row: list[Any] = msgspec.msgpack.decode(tx.get(records.WORKFLOW))
        row[2] = version
        tx.put(records.WORKFLOW, msgspec.msgpack.encode(row[:2] if version is None else row))

    store.submit(change(DocumentId("workflow", workflow_id), work)).result()


def make_old(wp: Waypost, workflow_id: str = "w", version: object = "0.9.0") -> None:
    """A workflow of an older schema, with something of each kind in it."""
    wp.create_workflow(workflow_id, "Old", "s", ["a", "b"]).unwrap()
    wp.update_step_status(workflow_id, "a", "completed", {"rows": 3}).unwrap()
    wp.add_step_output(workflow_id, "a", {"rows": 4, "pad": "x" * 200_000}).unwrap()
    wp.update_context(workflow_id, variables={"count": 1, "keep": (1, 2)}, configuration={"mode": "fast"}).unwrap()
    wp.update_agent_state(workflow_id, "ann", {"name": "Ann"}).unwrap()
    stamp(wp.definitions.store, version, workflow_id)


def double(document: MigratingDocument) -> None:
    """A step that is told apart when it is taken twice, and that changes outputs of both kinds."""
    document.variables["count"] *= 2
    document.variables["made"] = {"by": "step"}
    del document.configuration["mode"]
    for key in document.outputs:
        document.outputs[key]["rows"] += 100


def halve(document: MigratingDocument) -> None:
    document.variables["count"] //= 2
    del document.variables["made"]
    document.configuration["mode"] = "fast"
    for key in document.outputs:
        document.outputs[key]["rows"] -= 100


def add_two(document: MigratingDocument) -> None:
    document.variables["count"] += 2


def is_whole(document: MigratingDocument) -> bool:
    return document.variables["count"] % 2 == 0


def parts_of(store: Store, workflow_id: str = "w") -> dict[str, bytes | None]:
    view = store.view(DocumentId("workflow", workflow_id))
    return {key: view.get(key) for key in view.keys()}


def check_migrated(wp: Waypost, workflow_id: str = "w") -> None:
    state = wp.load_workflow_state(workflow_id).unwrap()
    assert state.metadata.schema_version == CURRENT
    assert dict(state.context.variables) == {"count": 2, "keep": (1, 2), "made": {"by": "step"}}
    assert dict(state.context.configuration) == {}
    assert wp.get_step_output(workflow_id, "a", 1).output == {"rows": 103}
    assert wp.get_step_output(workflow_id, "a").output == {"rows": 104, "pad": "x" * 200_000}
    report = wp.validate_workflow_state(workflow_id)
    assert report.is_valid, report


WORKER = """
import os, sys
import waypost
from tests.outdated import CURRENT, double
waypost.register_migration("0.9.0", CURRENT, double)
if len(sys.argv) > 3:  # wait for the others
    os.write(1, b"ready")
    os.read(0, 1)
with waypost.open(sys.argv[1]) as wp:
    if sys.argv[2] == "load":
        wp.load_workflow_state("w").unwrap()
    else:
        report = wp.migrate_workflows()
        assert not report.failed, report
        print(sum(1 for one in report.workflows))
"""


def start(path: Path, mode: str, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(path), mode, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
    )
