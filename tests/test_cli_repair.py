"""The commands that check and mend a store: what they tell people who can mend it, and people who cannot."""

from __future__ import annotations

import errno
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.store.support import system_calls
from tests.test_cli import Shown, call, call_json, here, wp
from waypost.blocking import Waypost
from waypost.cli import repair as repairing
from waypost.maintenance import RepairReport
from waypost.store.directory import checkpoints

__all__ = ["call", "call_json", "here", "wp"]  # fixtures

Call = Callable[..., Shown]
CallJson = Callable[..., Any]


def test_what_may_not_be_read_is_no_damage(call: Call, call_json: CallJson, here: Path, wp: Waypost) -> None:
    """Nobody is told to repair a file that is somebody else's; it ends with 5, and repair touches nothing."""
    for name in ("good", "closed"):
        wp.create_workflow(name, name, steps=["a"]).unwrap()
    wp.close()

    def refuse(called: str, _count: int, arguments: tuple[Any, ...]) -> None:
        if called == "open" and str(arguments[0]).endswith("closed.state"):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    with system_calls() as calls:
        calls.fault = refuse
        document = call_json("verify", status=5)
        assert [found["severity"] for found in document["findings"]] == ["unreadable"] and not document["sound"]
        shown = call("verify")
        assert shown.status == 5 and "repair" not in shown.out and "Permission denied" in shown.out
        assert call("store", "repair", "--yes").status == 5
        shown = call("status")
        assert "Permission denied" in shown.line("closed") and "waypost verify" not in shown.out
    assert call("verify").status == 0 and not (here / ".claude/state/damaged").exists()


def test_a_store_without_its_format_is_called_one(call: Call, here: Path, wp: Waypost) -> None:
    """Nobody hears that there is no store where his workflows are, nor that one was created."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    wp.close()
    mark = here / ".claude/state/FORMAT"
    mark.unlink()
    for command in (["status"], ["verify"], ["restore", "w@c1"]):
        shown = call(*command)
        assert shown.status == 3 and "there is no store" not in shown.err
        command = re.search(r"FORMAT is missing: `waypost (store repair --state [^`]+)` makes it", shown.err)
        assert command is not None
    assert call(*shlex.split(command[1]), "--yes").status == 0
    assert call("verify").status == 0 and "w" in call("status").out
    mark.unlink()
    (here / "two.toml").write_text('name = "two"\n[steps.a]\nrun = "true"\n')
    shown = call("run", "two.toml")
    assert shown.status == 0 and "created a store" not in shown.err and "had lost its file FORMAT" in shown.err


def test_verify_says_of_a_damaged_checkpoint_that_it_is_not_whole(
    call: Call, call_json: CallJson, here: Path, wp: Waypost
) -> None:
    """Its row names the file, so the text need not, nor a place that is not known, nor the command that says it."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    kept = wp.create_checkpoint("w").unwrap().id
    wp.close()
    file = here / ".claude/state/checkpoints" / checkpoints.file_name(kept)
    data = bytearray(file.read_bytes())
    data[60] ^= 1
    file.write_bytes(data)
    found = next(each for each in call_json("verify", status=6)["findings"] if each["severity"] == "damage")
    assert found == {"severity": "damage", "file": str(file), "offset": None, "text": "is not whole"}
    data[60] ^= 1
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    found = next(each for each in call_json("verify", status=6)["findings"] if each["severity"] == "damage")
    assert found["file"] == str(file) and str(file) not in found["text"] and "waypost" not in found["text"]


def harm_what_others_stand_on(here: Path, wp: Waypost) -> None:
    """A store in which a checkpoint's file is gone, and that of another stands on it."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    first = wp.create_checkpoint("w").unwrap().id
    wp.update_context("w", variables={"x": 1}).unwrap()
    wp.create_checkpoint("w").unwrap()
    wp.close()
    files = sorted((here / ".claude/state/checkpoints").glob("*.checkpoint"))
    for file in files[: [each.name for each in files].index(checkpoints.file_name(first)) + 1]:
        file.unlink()


def test_repair_mends_what_is_amiss_with_checkpoints_alone(call: Call, here: Path, wp: Waypost) -> None:
    """Nobody hears from `verify` that something is amiss, and from `repair` that there is nothing to do."""
    harm_what_others_stand_on(here, wp)
    assert call("verify").status == 6
    shown = call("store", "repair", "--dry-run")
    assert shown.status == 6 and "nothing to repair" not in shown.out
    assert call("store", "repair", "--yes").status == 0
    assert call("verify").status == 0
    shown = call("store", "repair", "--yes")
    assert shown.status == 0 and "nothing to repair" in shown.out


def test_repair_says_nothing_to_repair_only_where_verify_finds_nothing(
    call: Call, here: Path, wp: Waypost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no dry run sees is mended all the same, after the same question."""
    harm_what_others_stand_on(here, wp)
    real = repairing.repair_store

    def blind(location: str, dry_run: bool) -> RepairReport:
        return RepairReport(location, True) if dry_run else real(location, dry_run)

    monkeypatch.setattr(repairing, "repair_store", blind)
    shown = call("store", "repair", "--dry-run")
    assert shown.status == 6 and "nothing to repair" not in shown.out and "waypost verify" in shown.out
    shown = call("store", "repair")
    assert shown.status != 0 and "Say --yes" in shown.err
    assert call("store", "repair", "--yes").status == 0 and call("verify").status == 0
