"""Commits over several documents that were once wrong; what they promise stands in `test_joint.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.support import WF, directory_store, putting
from tests.store.test_joint import A, joint_change
from waypost.store import Receipt


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.mark.parametrize("writes_what_it_read", [True, False])
def test_c15_a_version_that_was_taken_back_is_not_known_by_its_number(path: Path, *, writes_what_it_read: bool) -> None:
    """A transaction that read what a restore has taken back runs again, also where as many versions stand there since:
    else what it took from the one that is gone would be committed.
    """
    store, backup = directory_store(path), str(path.with_name("backup"))
    store.submit(putting(x=b"0")).result()
    store.backup(backup)
    store.submit(putting(x=b"before")).result()
    joint = store.begin()
    read = joint.document(WF)
    (read if writes_what_it_read else joint.document(A)).put("y", read.get("x") or b"")
    store.restore_backup(backup, allow_older=True)
    store.submit(putting(x=b"after")).result()
    assert store.view(WF).version == 2
    assert store.commit(joint, joint_change()) is None
    assert [store.view(each).get("y") for each in (WF, A)] == [None, None]
    store.close()


def test_c15_what_a_restore_leaves_as_it_was_is_no_conflict(path: Path) -> None:
    """A transaction whose values a restore has put back to what they were when it read them is committed."""
    store, backup = directory_store(path), str(path.with_name("backup"))
    store.submit(putting(x=b"0")).result()
    store.backup(backup)
    joint = store.begin()
    joint.document(A).put("y", joint.document(WF).get("x") or b"")
    store.submit(putting(x=b"1")).result()
    store.restore_backup(backup, allow_older=True)
    assert isinstance(store.commit(joint, joint_change()), Receipt)
    assert store.view(A).get("y") == b"0"
    store.close()
