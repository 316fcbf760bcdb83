"""What faults in the way of backups and restores found, each with the smallest case that shows it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import opened
from tests.store.support import failing, system_calls
from waypost.blocking import Waypost
from waypost.operations import Failure, OperationResult


def _made(path: Path) -> Waypost:
    wp = opened(path)
    wp.create_workflow("w", "W", None, ["a"]).unwrap()
    return wp


def _back_up(wp: Waypost, path: Path) -> OperationResult[Any]:
    return wp.backup(path / "backup")


def _restore(wp: Waypost, path: Path) -> OperationResult[Any]:
    return wp.restore_backup(path / "backup", allow_older=True)


@pytest.mark.parametrize("act", [_back_up, _restore])
def test_e01_what_cannot_be_read_back_for_now_is_not_called_damaged(
    tmp_path: Path, act: Callable[[Waypost, Path], OperationResult[Any]]
) -> None:
    """Where the process has too many open files for checking a copy, the store is not said to need a repair."""
    wp = _made(tmp_path / "s")
    if act is _restore:
        _back_up(wp, tmp_path).unwrap()
    errors: set[str] = set()
    for at in range(1, 40):
        with system_calls() as calls:
            calls.fault = failing("open", at, errno.EMFILE)
            result = act(wp, tmp_path)
        if isinstance(result, Failure):
            errors.add(type(result.error).__name__)
        else:
            break
    assert errors == {"StoreUnavailable"}
    wp.close()
