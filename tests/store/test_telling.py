"""Whoever waits for a commit hears of it, also where the thread that carried it out is interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.store.support import WF, directory_store, putting
from waypost.store import Ticket
from waypost.store.directory import submission


@pytest.mark.parametrize("place", ["finish", "tell", "_by_callback", "_be_silent"])
def test_c10_an_interrupt_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Two others handed changes in with callbacks of their own, and each is told once."""
    store = directory_store(tmp_path / "s")
    document = store._document(WF)
    told: dict[str, list[Sequence[Ticket]]] = {"one": [], "other": []}
    waiting = {name: document.submit(putting(**{name: b"1"}), told[name].append) for name in told}
    real = getattr(submission, place)

    def interrupted(*args: Any) -> None:
        monkeypatch.setattr(submission, place, real)
        raise KeyboardInterrupt

    monkeypatch.setattr(submission, place, interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.submit(putting(own=b"1")).result()
    assert told == {name: [[ticket]] for name, ticket in waiting.items()}
    assert [ticket.result().version for ticket in waiting.values()] == [1, 2]
    assert not document.is_in_use
    store.close()
