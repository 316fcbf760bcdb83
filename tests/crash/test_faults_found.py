"""What the sweeps of faults found, each with the smallest case that shows it."""

from __future__ import annotations

import errno
import os
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.crash.faults import Call, Fault, Shim, installed, no_fault
from tests.crash.runs import handle, open_store
from tests.crash.sweeps import standing_still
from tests.store.support import directory_store
from waypost.codec import compression
from waypost.codec.compression import Compressor, unpack
from waypost.config import PRESETS
from waypost.errors import DocumentDamaged


def _refuse_length(number: int) -> Fault:
    """The n-th question for the length of a file from now on fails."""
    calls = count(1)

    def fault(call: Call) -> None:
        if call.name == "lseek" and next(calls) == number:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    return fault


def _two(tx: Any) -> str:
    tx.create_workflow("first", "First", None, ["a"])
    tx.create_workflow("second", "Second", None, ["a"])
    return "both"


def test_e01_a_repeated_transaction_whose_result_cannot_be_read_fails_and_does_not_raise(tmp_path: Path) -> None:
    """It is committed, so its failure says `unknown`, and it can be asked for again."""
    with standing_still(), installed(Shim()) as shim:
        store = open_store(tmp_path / "store", "chunked")
        wp = handle(store, "chunked")
        for _ in range(2):  # so that the decision is looked at before
            wp.transact(_two, operation_id="once").unwrap()
        statuses: set[str] = set()
        for number in range(1, 9):
            shim.fault = _refuse_length(number)
            with shim.active():
                result = wp.transact(_two, operation_id="once")
            statuses.add("repeated" if result else result.status)
        shim.fault = no_fault
        again = wp.transact(_two, operation_id="once")
        assert again.unwrap() == "both"
        assert again.repeated
        assert statuses >= {"unknown", "repeated"}
        store.close()


def test_d12_e01_a_decision_that_may_stand_and_cannot_be_taken_back_is_unknown(tmp_path: Path) -> None:
    """Its renaming fails and happens all the same, and the look for what was renamed fails too: `rolled_back` would be
    wrong, and whoever opens the store next finds both documents.
    """

    def fault(call: Call) -> None:
        if call.name == "rename" and str(call.args[0]).endswith(".new"):
            call.make()
        elif call.name != "unlink":
            return
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with standing_still(), installed(Shim(fault)) as shim:
        store = open_store(tmp_path / "store", "chunked")
        wp = handle(store, "chunked")
        with shim.active():
            result = wp.transact(_two, operation_id="once")
        assert not result
        assert result.status == "unknown"
        assert wp.get_outcome("once").data == "both"
        store.close()


@pytest.mark.parametrize(
    "plan", [b"", b"[", b"\xff", b'[{"workflows": []}, "../above"]', b'[{"..": []}, "before-restore.1"]']
)
def test_n07_a_damaged_plan_of_a_restore_is_refused_and_leads_nowhere(tmp_path: Path, plan: bytes) -> None:
    """What was decided is not carried out by a plan that no restore writes; nothing outside of the store is touched."""
    place = tmp_path / "store"
    directory_store(place).close()
    (place / "restoring" / "workflows").mkdir(parents=True)
    (place / "restoring" / "plan.json").write_bytes(plan)
    with pytest.raises(DocumentDamaged, match="its plan is damaged"):
        directory_store(place)
    assert os.listdir(tmp_path) == ["store"]
    assert (place / "restoring" / "plan.json").read_bytes() == plan


def test_e01_a_lack_of_memory_for_a_lock_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library says RuntimeError then, where it is about to read what is whole."""
    packed = Compressor(PRESETS["production"].compression).pack(b"whole " * 1000)

    def starved(**_: object) -> None:
        raise RuntimeError("Unable to allocate lock")

    monkeypatch.setattr(compression._zstd(), "ZstdDecompressor", starved)
    with pytest.raises(MemoryError):
        unpack(*packed, 6000)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_c01_a_child_has_a_dictionary_of_its_own() -> None:
    """That of its parent has a lock, which another thread may have held in the moment of the fork."""
    before = compression._dictionary()
    child = os.fork()
    if not child:
        os._exit(compression._dictionary() is before)
    assert os.waitpid(child, 0)[1] == 0 and compression._dictionary() is before
