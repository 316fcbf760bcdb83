"""What the system refuses while a document is claimed, or let go of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.support import directory_store, failing, system_calls
from tests.store.test_claims import SESSION, make
from waypost.errors import StoreUnavailable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.mark.parametrize("call", ["open", "flock", "stat", "pwrite"])
def test_e01_a_claim_that_fails_holds_nothing(path: Path, call: str) -> None:
    """Whichever call of a claim is refused, it is told, and the document is free, also while the error is looked at."""
    store, other = directory_store(path), directory_store(path)
    claim = other.claim(SESSION)
    assert claim is not None
    claim.release()
    with system_calls() as calls:
        calls.fault = failing(call, 1)
        if call == "flock":
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("waypost.store.directory.files.fcntl", _RefusedLocks())
                with pytest.raises(StoreUnavailable) as told:
                    store.claim(SESSION)
        else:
            with pytest.raises(StoreUnavailable) as told:
                store.claim(SESSION)
    assert told.value.__traceback__ is not None  # which refers to whatever was open then
    assert other.claim(SESSION) is not None
    store.close()
    other.close()


class _RefusedLocks:
    LOCK_EX, LOCK_SH, LOCK_NB, LOCK_UN = 2, 1, 4, 8

    @staticmethod
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(37, "No locks available")


def test_e01_a_file_that_cannot_be_removed_is_let_go_of_all_the_same(path: Path) -> None:
    """Where the file of a claim cannot be removed that is told, and the document is free."""
    store = directory_store(path)
    make(store)
    claim = store.claim(SESSION)
    assert claim is not None
    with system_calls() as calls:
        calls.fault = failing("unlink", 1)
        with pytest.raises(StoreUnavailable):
            claim.release()
    sight = store.holder(SESSION)
    assert sight is not None and not sight.is_held
    assert store.claim(SESSION) is not None
    store.close()
