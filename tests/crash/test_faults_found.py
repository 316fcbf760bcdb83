"""What the sweeps of faults found, each with the smallest case that shows it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from tests.crash.faults import Call, Shim, installed
from tests.crash.runs import handle, open_store
from tests.crash.sweeps import standing_still


def _two(tx: Any) -> str:
    tx.create_workflow("first", "First", None, ["a"])
    tx.create_workflow("second", "Second", None, ["a"])
    return "both"


def test_e01_a_repeated_transaction_whose_result_cannot_be_read_fails_and_does_not_raise(tmp_path: Path) -> None:
    """It is committed, so its failure says `unknown`, and it can be asked for again."""
    calls = 0

    def fault(call: Call) -> None:
        nonlocal calls
        if call.name == "fstat":
            calls += 1
            if calls == refused:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    with standing_still(), installed(Shim(fault)) as shim:
        store = open_store(tmp_path / "store", "chunked")
        wp = handle(store, "chunked")
        wp.transact(_two, operation_id="once").unwrap()
        statuses: set[str] = set()
        for refused in range(1, 9):
            calls = 0
            with shim.active():
                result = wp.transact(_two, operation_id="once")
            statuses.add("repeated" if result else result.status)
        again = wp.transact(_two, operation_id="once")
        assert again.unwrap() == "both"
        assert again.repeated
        assert statuses >= {"unknown", "repeated"}
        store.close()
