"""Fixtures of the crash tests."""

import pytest

from tests.crash.stories import quiet

__all__ = ["quiet"]


@pytest.fixture(autouse=True)
def seed_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seed that a run is repeated with is read when a module is imported; as an option of Waypost it is refused."""
    monkeypatch.delenv("WAYPOST_TEST_SEED", raising=False)
