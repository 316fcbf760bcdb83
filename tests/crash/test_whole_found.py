"""What faults in the way of backups and restores found, each with the smallest case that shows it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import opened
from tests.crash.faults import Call, Shim, installed
from tests.store.needed import calm
from tests.store.support import failing, system_calls
from waypost.blocking import Waypost
from waypost.errors import StoreClosed, StoreUnavailable
from waypost.operations import Failure, OperationResult

__all__ = ["calm"]

pytestmark = pytest.mark.usefixtures("calm")  # a fault is for the call that is made here, and not for upkeep beside it


def _made(path: Path) -> Waypost:
    wp = opened(path)
    wp.create_workflow("w", "W", None, ["a"]).unwrap()
    return wp


def _back_up(wp: Waypost, path: Path) -> OperationResult[Any]:
    return wp.backup(path / "backup")


def _restore(wp: Waypost, path: Path) -> OperationResult[Any]:
    return wp.restore_backup(path / "backup", allow_older=True)


def _refused() -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO))


def _carried_out(name: str, end: str) -> Callable[[Call], None]:
    """The call of that name whose first argument ends so is carried out, and said to have failed."""

    def fault(call: Call) -> None:
        if call.name == name and str(call.args[0]).endswith(end):
            call.make()
            raise _refused()

    return fault


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
        elif errors:
            break  # what comes before the copy, such as looking for decisions, may fail without harm
        elif act is _back_up:
            shutil.rmtree(tmp_path / "backup")
    assert errors == {"StoreUnavailable"}
    wp.close()


def test_e01_a_backup_that_got_its_name_and_is_said_not_to_have_it_leaves_nothing(tmp_path: Path) -> None:
    """Its renaming fails and happens all the same, as on file systems of a network."""
    wp = _made(tmp_path / "s")
    with installed(Shim(_carried_out("rename", ".partial"))) as shim, shim.active():
        result = _back_up(wp, tmp_path)
    assert isinstance(result, Failure)
    assert (result.status, os.listdir(tmp_path)) == ("rolled_back", ["s"])
    wp.close()


def test_e01_a_backup_that_cannot_be_taken_back_is_unknown_and_whole(tmp_path: Path) -> None:
    """From its renaming on nothing goes any more: it may be there, so it is not said not to be, nor is it broken."""
    wp = _made(tmp_path / "s")
    failed = False

    def fault(call: Call) -> None:
        nonlocal failed
        if failed:
            raise _refused()
        if call.name == "rename" and str(call.args[0]).endswith(".partial"):
            failed = True
            _carried_out("rename", ".partial")(call)

    with installed(Shim(fault)) as shim, shim.active():
        result = _back_up(wp, tmp_path)
    assert isinstance(result, Failure)
    assert result.status == "unknown"
    wp.close()
    again = opened(tmp_path / "backup", read_only=True)
    assert again.load_workflow_state("w")
    again.close()


def test_d14_e01_a_restore_that_may_be_decided_is_unknown_and_closes_the_handle(tmp_path: Path) -> None:
    """From its decision on nothing goes any more, not even a look for it. Whoever next opens the store carries it out:
    nothing is written by this handle that would go with what is replaced.
    """
    wp = _made(tmp_path / "s")
    _back_up(wp, tmp_path).unwrap()
    wp.create_workflow("younger", "Younger", None, ["a"]).unwrap()
    decided = False

    def fault(call: Call) -> None:
        nonlocal decided
        if decided and call.name != "close":
            raise _refused()
        decided |= call.name == "rename" and call.args[1] == "restoring"

    with installed(Shim(fault)) as shim, shim.active():
        result = _restore(wp, tmp_path)
    assert decided
    assert isinstance(result, Failure)
    assert isinstance(result.error, StoreUnavailable)
    assert result.status == "unknown"
    late = wp.create_workflow("late", "Late", None, ["a"])
    assert isinstance(late, Failure)
    assert isinstance(late.error, StoreClosed)
    again = opened(tmp_path / "s")
    assert [each.id for each in again.list_workflows().items] == ["w"]
    again.close()
