"""Migrations that met what they did not expect: values that came as files, and what was erased."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest

from tests.outdated import W
from waypost import records
from waypost.blocking import Waypost
from waypost.codec import values
from waypost.migrating import MigratingDocument
from waypost.schema import register_migration
from waypost.store import Store

pytestmark = pytest.mark.usefixtures("registry")

FILE = b"z" * 200_000


def value_parts(store: Store) -> list[str]:
    return list(store.view(W).keys(records.VALUE))


def test_v08_a_value_that_came_as_a_file_is_looked_at_and_keeps_its_bytes(wp: Waypost, store: Store) -> None:
    """A step reads an output that was given as a large file, and what it only looked at is as it was."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    wp.add_step_output("w", "a", BytesIO(FILE)).unwrap()
    (named,), seen = value_parts(store), list[Any]()
    assert named != records.value_key("a", 1)
    register_migration("1.0.0", "1.1.0", lambda document: seen.append(document.outputs["a", 1]), application="app")
    wp.load_workflow_state("w").unwrap()
    assert (seen, value_parts(store)) == ([FILE], [named])
    assert wp.get_step_output("w", "a").output == FILE


@pytest.mark.parametrize("size", [10, 300_000])
def test_a_value_that_came_as_a_file_is_replaced_whole(wp: Waypost, store: Store, size: int) -> None:
    """What a step puts in its place is what is read from then on, also by the next step, and no part of the old one
    stays.
    """
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    wp.add_step_output("w", "a", BytesIO(FILE)).unwrap()

    def put(document: MigratingDocument) -> None:
        document.outputs["a", 1] = b"q" * size

    def append(document: MigratingDocument) -> None:
        document.outputs["a", 1] += b"!"

    register_migration("1.0.0", "1.1.0", put, application="app")
    register_migration("1.1.0", "1.2.0", append, application="app")
    wp.load_workflow_state("w").unwrap()
    wanted = b"q" * size + b"!"
    found = wp.get_step_output("w", "a")
    assert (found.output, found.size_bytes) == (wanted, len(values.encode(wanted)))
    assert value_parts(store) == [records.value_key("a", 1)]
    assert wp.open_step_output("w", "a").read() == wanted
    assert wp.validate_workflow_state("w").is_valid


def test_a_checkpoint_with_something_erased_is_migrated_without_it(wp: Waypost, store: Store) -> None:
    """What was erased is not there for a step, so that it can go through all there is, and the checkpoint is read,
    forked and restored as before.
    """
    wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
    wp.update_step_status("w", "a", "completed", {"password": "x"}).unwrap()
    wp.update_step_status("w", "b", "completed", {"n": 1}).unwrap()
    wp.update_context("w", variables={"secret": "y", "made": "z", "ok": 1}).unwrap()
    checkpoint_id = wp.create_checkpoint("w").unwrap().id
    for path in ("outputs.a", "context.variables.secret", "context.variables.made"):
        wp.erase("w", path).unwrap()

    def upgrade(document: MigratingDocument) -> None:
        gone = f"{records.VARIABLE}secret"
        assert gone not in document and gone not in list(document) and len(dict(document)) == len(document)
        assert dict(document.outputs) == {("b", 1): {"n": 1}}
        assert ("a", 1) not in document.outputs and "secret" not in document.variables
        assert dict(document.variables) == {"ok": 1}
        document.outputs["b", 1]["n"] = 2
        document.variables["made"] = "anew"

    register_migration("1.0.0", "1.1.0", upgrade, application="app")
    report = wp.validate_checkpoint(checkpoint_id)
    assert report.is_valid, report
    assert wp.get_checkpoint(checkpoint_id).state.context.variables["ok"] == 1
    fork = wp.fork_workflow(checkpoint_id, "fork").unwrap()
    assert wp.get_step_output("fork", "b").output == {"n": 2} and "secret" not in fork.context.variables
    wp.restore_from_checkpoint(checkpoint_id).unwrap()
    assert wp.get_step_output("w", "b").output == {"n": 2}
    assert wp.validate_workflow_state("w").is_valid and wp.validate_workflow_state("fork").is_valid
    assert store.view(W).erased(f"{records.VARIABLE}secret") is None
