"""Stores of very many workflows: what a list costs, and that it is right while others write."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.store.many import copies
from tests.store.support import directory_store, putting

FIRST_US = 1_750_000_000_000_000


def test_c06_lists_taken_at_the_same_time_miss_nothing(tmp_path: Path) -> None:
    """Threads that list the documents of one store at once each see all of them."""
    store = directory_store(tmp_path / "s")
    store.submit(putting(a=b"1")).result()
    store.close()
    copies(tmp_path / "s", "wf", [f"w{number}" for number in range(2_999)], FIRST_US)
    store = directory_store(tmp_path / "s", read_only=True)
    seen: list[int] = []
    threads = [
        threading.Thread(target=lambda: seen.extend(len(set(store.documents("workflow"))) for _ in range(20)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    assert set(seen) == {3_000}
