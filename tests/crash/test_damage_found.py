"""Each failure that damaged files of a store have brought about, with the smallest input that shows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import waypost
from tests.store.support import directory_store, putting
from waypost.errors import DocumentDamaged


def cut_off_restore(path: Path, plan: bytes) -> None:
    """A store with a document, and a restore that was cut off right after its decision."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    store.close()
    (path / "restoring" / "workflows").mkdir(parents=True)
    (path / "restoring" / "plan.json").write_bytes(plan)


@pytest.mark.parametrize(
    "plan",
    [
        b"",
        b'[{"workflows":[]},"before-restor',
        b'[{"workflows":[""',
        b'[{"..":[]},"before-restore.1"]',
        b'[{"temp":[]},"before-restore.1"]',
        b'[{"workflows":[]},"../.."]',
        b'[{"workflows":[]},"before-restore.1/x"]',
    ],
)
def test_t09_a_damaged_plan_of_a_restore_is_refused_and_repaired(tmp_path: Path, plan: bytes) -> None:
    """A plan that is none, or that names other places than those of a restore, is damage; nothing is moved by it, and a
    repair takes it away, as a dry run says it would.
    """
    path = tmp_path / "store"
    cut_off_restore(path, plan)
    with pytest.raises(DocumentDamaged):
        directory_store(path)
    assert (path / "workflows" / "wf.state").exists()
    planned = waypost.repair(path, dry_run=True)
    assert (path / "restoring" / "plan.json").read_bytes() == plan
    report = waypost.repair(path)
    assert [replace(each, original=None) for each in report.repaired] == planned.repaired
    assert [(each.file, each.action) for each in report.repaired] == [("restoring", "moved aside")]
    assert (path / "damaged" / "restoring.1" / "plan.json").read_bytes() == plan
    store = directory_store(path)
    assert store.view(putting().document).get("a") == b"1"
    assert store.verify().sound
    store.close()
