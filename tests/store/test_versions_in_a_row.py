"""Versions that are read one behind the other know what lies between them, so that each is compared by that alone."""

from __future__ import annotations

from contextlib import closing
from itertools import chain, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.store.needed import calm, path
from tests.store.support import WF, directory_store
from tests.store.test_checkpoints import commit, make
from tests.store.test_erasing import erase
from waypost.store.directory import loading
from waypost.store.directory.state import DocumentView

__all__ = ["calm", "path"]

pytestmark = pytest.mark.usefixtures("calm")


@pytest.mark.parametrize("stride", [1, 3, 100, 300])
def test_what_differs_is_what_lies_between(path: Path, stride: int) -> None:
    """Also where something was put back, removed, or all was cleared, and where snapshots lie between."""
    with closing(directory_store(path)) as store:
        for number in range(700):
            if number == 350:
                commit(store, lambda tx: tx.clear(), WF)
            elif number % 7 == 3:
                commit(store, lambda tx, number=number: tx.delete(f"k{number - 3}"), WF)
            else:
                commit(store, lambda tx, number=number: tx.put(f"k{number % 50}", str(number // 3).encode()), WF)
        read = list(loading.versions(store._context, WF, range(1, store.view(WF).version + 1, stride)))
        assert len(read) == len(range(1, store.view(WF).version + 1, stride))
        for before, after in chain(pairwise(read), zip(read, read[2:], strict=False)):
            keys = {*before.keys(), *after.keys()}
            assert after.differing(before) == {key for key in keys if before.get(key) != after.get(key)}


def test_a_checkpoint_is_compared_with_the_one_before_by_what_lies_between(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are: each is a part of its document."""
    compared: list[int] = []
    real = DocumentView.differing

    def differing(view: DocumentView, other: Any) -> set[str]:
        located: list[str] = []
        kept = type(other).located
        with monkeypatch.context() as patch:
            patch.setattr(type(other), "located", lambda given, key: located.append(key) or kept(given, key))
            found = real(view, other)
        compared.append(len(located))
        return found

    with closing(directory_store(path)) as store:
        for number in range(800):
            make(store, number, a=b"%d" % number)
        monkeypatch.setattr(DocumentView, "differing", differing)
        store._document(WF).keep_checkpoints(newest_only=False)
    assert len(compared) > 600
    assert median(compared) == 2  # a value, and the checkpoint before
    assert sum(each > 2 * 256 for each in compared) <= 1  # where those of the last commits begin, which are in memory


def test_what_was_erased_between_differs(path: Path) -> None:
    """Versions of two files may know what was touched up to the same later one; what is erased no commit tells."""
    with closing(directory_store(path)) as store:
        commit(store, lambda tx: [tx.put("secret", b"secret" * 20), tx.put("a", b"1")], WF)
        commit(store, lambda tx: tx.put("a", b"2"), WF)
        commit(store, lambda tx: tx.put("b", b"1"), WF)
        held, _ = loading.versions(store._context, WF, [1, 3])
        assert erase(store, "secret") == []
        scrubbed, _ = loading.versions(store._context, WF, [2, 3])
        assert held._later is not None and scrubbed._later is not None
        assert held._later.commit_id == scrubbed._later.commit_id
        assert scrubbed.differing(held) == held.differing(scrubbed) == {"a", "secret"}
