"""Looking into the past of a log again: it goes on where the last look ended, and is never led astray by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import opened
from waypost import clock
from waypost.store import DocumentId
from waypost.store.directory.hopped import Places
from waypost.store.directory.log import Log

W = DocumentId("workflow", "w")


def versions(store: Any) -> list[int]:
    return [commit.version for commit in store.past(W).commits(oldest_first=True)]


def test_a_second_look_hops_on_where_the_first_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was hopped over is not hopped over again: only what was committed since."""
    with opened(tmp_path / "store") as wp:
        store = wp.definitions.store
        wp.create_workflow("w", "w").unwrap()
        for number in range(50):
            wp.update_context("w", variables={"n": number}).unwrap()
        assert versions(store) == list(range(1, 52))
        wp.update_context("w", variables={"n": "new"}).unwrap()
        store.view(W)
        hopped: list[int] = []
        hop = Log.hop

        def counted(self: Log, *arguments: int) -> Any:
            for found in hop(self, *arguments):
                hopped.append(found.header.version)
                yield found

        past = store.past(W)
        monkeypatch.setattr(Log, "hop", counted)
        assert [commit.version for commit in past.commits()] == list(range(52, 0, -1))
        assert hopped == [52]


def test_a_look_after_a_compaction_knows_no_place_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another generation of the log commits stand elsewhere, and some are gone."""
    with opened(tmp_path / "store", history={"max_age_days": 1}) as wp:
        store: Any = wp.definitions.store
        wp.create_workflow("w", "w").unwrap()
        for number in range(20):
            wp.update_context("w", variables={"n": number}).unwrap()
        assert versions(store) == list(range(1, 22))
        later = clock.now_us() + 3 * 24 * 3600 * 1_000_000
        monkeypatch.setattr(clock, "now_us", lambda: later)
        wp.update_context("w", variables={"n": "new"}).unwrap()
        assert store._compact(store._document(W))
        first = store.past(W).first
        assert versions(store) == list(range(first + 1, 23))
        wp.update_context("w", variables={"n": "newer"}).unwrap()
        assert versions(store) == list(range(first + 1, 24))


def test_a_log_in_which_other_commits_stand_now_is_read_from_its_beginning(tmp_path: Path) -> None:
    """A backup that was put back is the same generation, with other commits behind it."""
    with opened(tmp_path / "store") as wp:
        store = wp.definitions.store
        wp.create_workflow("w", "w").unwrap()
        wp.backup(tmp_path / "backup")
        for number in range(5):
            wp.update_context("w", variables={"n": number}).unwrap()
        assert versions(store) == [1, 2, 3, 4, 5, 6]
        wp.restore_backup(tmp_path / "backup", allow_older=True)
        assert versions(store) == [1]
        for number in range(5):
            wp.update_context("w", variables={"n": "x" * number * 10}).unwrap()
        assert versions(store) == [1, 2, 3, 4, 5, 6]
        assert [entry.operation for entry in wp.history("w")] == ["update_context"] * 5 + ["create_workflow"]


@pytest.mark.parametrize("other", [(1, b""), (0, b"\1")], ids=["generation", "commit"])
def test_places_of_another_generation_or_line_are_not_believed(tmp_path: Path, other: tuple[int, bytes]) -> None:
    """What was known under the id of another file, or up to another commit, says nothing of this log."""
    with opened(tmp_path / "store") as wp:
        store: Any = wp.definitions.store
        wp.create_workflow("w", "w").unwrap()
        for number in range(5):
            wp.update_context("w", variables={"n": number}).unwrap()
        assert versions(store) == [1, 2, 3, 4, 5, 6]
        hopped = store._context.hopped
        (file_id, commit_id), offsets = hopped.get(W)
        hopped.keep(W, Places((file_id + other[0], other[1] or commit_id), offsets[2:]))
        assert versions(store) == [1, 2, 3, 4, 5, 6]
