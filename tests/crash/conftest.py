"""Fixtures of the crash tests."""

from tests.crash.workloads import quiet

__all__ = ["quiet"]
