"""Fixtures of the crash tests."""

from tests.crash.stories import quiet

__all__ = ["quiet"]
