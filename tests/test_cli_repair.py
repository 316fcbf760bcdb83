"""The commands that check and mend a store: what they tell people who can mend it, and people who cannot."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.store.support import system_calls
from tests.test_cli import Shown, call, call_json, here, wp
from waypost.blocking import Waypost

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
