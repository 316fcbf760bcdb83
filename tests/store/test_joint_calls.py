"""What a transaction over two documents asks the system for, call by call (T21, C14, D12)."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from tests.crash.faults import Call, Shim, installed
from tests.store.support import TestedStore, change, directory_store
from waypost.store import DocumentId, JointChange
from waypost.store.directory import decisions, upkeep

A, B = DocumentId("workflow", "a"), DocumentId("workflow", "b")
TOLD = {"pwrite", "fdatasync", "fsync", "rename", "unlink", "ftruncate", "link", "mkdir"}
LOCKS = {fcntl.LOCK_EX | fcntl.LOCK_NB: "lock", fcntl.LOCK_UN: "unlock"}


def place_of(descriptor: int, store: Path) -> str:
    return os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), store)


def described(call: Call, store: Path) -> str | None:
    """A call that others could notice, with the file that it is made on; names of temporary files left out."""
    if call.name == "flock":
        told, place = LOCKS[call.args[1]], place_of(call.args[0], store)
    elif call.name in ("rename", "unlink"):
        return f"{call.name} in transactions" if "decision" in _kind(call) else f"{call.name} in temp"
    elif call.name in TOLD:
        told, place = call.name, place_of(call.args[0], store)
    else:
        return None
    folder, name = os.path.split(place)
    return f"{told} {place if name.endswith('.state') else folder or name}"


def _kind(call: Call) -> str:
    return "decision" if decisions.is_name(str(call.args[-1])) else "temporary"


def put_in_both(store: TestedStore, value: bytes) -> None:
    joint = store.begin()
    for document in (B, A):
        joint.document(document).put("x", value)
    assert store.commit(joint, JointChange("op", "test")) is not None


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions are looked for every time, and carried out when that is asked for."""
    monkeypatch.setattr(decisions, "_TICK_NS", 1 << 62)
    monkeypatch.setattr(upkeep.Upkeep, "ask_to_settle", lambda self: None)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to tell files by their descriptors")
@pytest.mark.usefixtures("quiet")
def test_t21_c05_c14_d12_a_transaction_makes_these_calls_and_no_other(tmp_path: Path) -> None:
    """Locks in the order of ids; the decision written, synced, renamed, its directory synced; then one write into each
    log, and the locks given back. No other sync; the logs are synced, and the decision removed, when it is carried out.
    """
    store = directory_store(tmp_path)
    for document in (A, B):
        store.submit(change(document, lambda tx: tx.put("x", b"0"))).result()
    seen: list[str] = []

    def note(call: Call) -> Any:
        told = described(call, tmp_path)
        if told is not None:
            seen.append(told)

    with installed(Shim(note)) as shim:
        with shim.active():
            put_in_both(store, b"1")
        assert seen == [
            "lock workflows/a.state",
            "lock workflows/b.state",
            "lock temp",
            "pwrite temp",
            "fsync temp",
            "rename in transactions",
            "fsync transactions",
            "unlock transactions",  # of the decision, which was made as a temporary file
            "pwrite workflows/a.state",
            "pwrite workflows/b.state",
            "unlock workflows/b.state",
            "unlock workflows/a.state",
        ]
        seen.clear()
        with shim.active():
            store._settle()
        assert seen == [
            "lock workflows/a.state",
            "unlock workflows/a.state",
            "fdatasync workflows/a.state",
            "lock workflows/b.state",
            "unlock workflows/b.state",
            "fdatasync workflows/b.state",
            "lock transactions",
            "unlink in transactions",
            "unlock transactions",
        ]
    store.close()
