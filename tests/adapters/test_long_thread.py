"""The command that docs/langgraph.md quotes does what it prints."""

from __future__ import annotations

from pathlib import Path

from tools.long_thread import measure


def test_a_long_thread_is_put_read_and_listed(tmp_path: Path) -> None:
    """Each tenth, both ends, and all of them; a thread that lost one ends it."""
    told = [what for what, megabytes, _ in measure(1_500, tmp_path / "state") if megabytes]
    puts = [f"put {150 * tenth:,}" for tenth in range(1, 11)]
    assert told == ["before the first", *puts, "read the newest", "read the oldest", "listed 1,500"]
    assert len(list((tmp_path / "state" / "threads").iterdir())) > 1
