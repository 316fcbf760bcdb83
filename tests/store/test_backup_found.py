"""What was found broken in backups and restores: what takes something back, what is left out, and where one may lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.support import WF
from tests.store.test_backup import filled, put
from tests.store.test_checkpoints import without_history
from waypost.errors import Refused


def test_e06_what_went_another_way_is_not_taken_back_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that was restored and went on has commits that no later copy of before has, whatever its versions: not
    one of the same version, nor a longer one, nor one that only knows the ids of what it has dropped.
    """
    store = filled(tmp_path / "store")
    store.backup(str(tmp_path / "early"))
    put(store, WF, b"2")
    store.backup(str(tmp_path / "same"))
    put(store, WF, b"3")
    store.backup(str(tmp_path / "longer"))
    without_history(store, monkeypatch)
    store.backup(str(tmp_path / "shortened"))
    store.restore_backup(str(tmp_path / "early"), allow_older=True)
    put(store, WF, b"another")
    for name in ("same", "longer", "shortened"):
        with pytest.raises(Refused) as caught:
            store.restore_backup(str(tmp_path / name))
        assert caught.value.details["documents"] == ["wf"]
    assert store.view(WF).get("a") == b"another"
    store.close()


def test_a_restore_over_a_log_that_was_written_anew_takes_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How often either log was compacted says nothing: what counts are the commits, also those that history dropped."""
    store = filled(tmp_path / "store")
    store.backup(str(tmp_path / "first"))
    assert store.tidy(WF, "compact")
    store.backup(str(tmp_path / "second"))
    assert store.restore_backup(str(tmp_path / "first")).taken_back == ()
    put(store, WF, b"2")
    without_history(store, monkeypatch)
    store.backup(str(tmp_path / "third"))
    store.restore_backup(str(tmp_path / "second"), allow_older=True)
    assert store.restore_backup(str(tmp_path / "third")).taken_back == ()
    store.close()
