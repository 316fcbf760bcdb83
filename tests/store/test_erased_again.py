"""A value that was erased and put again is a new one, which no file of a checkpoint takes for the one that went."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.store.support import WF, TestedStore, directory_store
from tests.store.test_erasing import CANARY, LARGE, PLAIN, decide, erase, findings, held, put
from waypost.store.contract import ADOPTED, CHECKPOINT
from waypost.store.directory import checkpoints

FIRST, SECOND = (f"{CHECKPOINT}wf@{number}" for number in (1, 2))
BESIDE = bytes(range(256)) * 12


def kept(store: TestedStore, name: str) -> dict[str, bytes | None]:
    """What the files of a checkpoint say, whatever history has."""
    found = checkpoints.read(store._context, name)
    assert found is not None
    return {key: value for key, value in held(found).items() if key in "xy"}


def parent(store: TestedStore, name: str) -> str | None:
    layer = checkpoints.read_layer(store._context, store.layout.folder(checkpoints.FOLDER), name)
    assert layer is not None
    return layer.parent


@pytest.mark.parametrize("value", [CANARY, LARGE], ids=["small", "large"])
def test_what_is_put_again_is_kept(tmp_path: Path, value: bytes) -> None:
    """It has the length and the digest of what was erased below."""
    with closing(directory_store(tmp_path / "s", **PLAIN)) as store:
        put(store, x=value, y=BESIDE, **{FIRST: b"first"})
        store.tidy(WF, "keep")
        erase(store, "x")
        put(store, x=value, **{SECOND: b"second"})
        store.tidy(WF, "keep")
        assert kept(store, "wf@1") == {"x": None, "y": BESIDE}
        assert kept(store, "wf@2") == {"x": value, "y": BESIDE}
        assert parent(store, "wf@2") == "wf@1"
        assert findings(store) == []


@pytest.mark.parametrize("value", [CANARY, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("kind", [CHECKPOINT, ADOPTED], ids=["own", "adopted"])
def test_what_is_put_again_before_the_erasure_is_carried_out_is_kept(tmp_path: Path, value: bytes, kind: str) -> None:
    """Nothing stands on a file that is still to lose something."""
    with closing(directory_store(tmp_path / "s", **PLAIN)) as store:
        put(store, x=value, y=BESIDE, **{FIRST: b"first"})
        store.tidy(WF, "keep")
        if kind == ADOPTED:
            put(store, **{f"{ADOPTED}wf@1": b"first"})
        decide(store, "x")
        put(store, x=value, **{SECOND: b"second"})
        store.tidy(WF, "keep")
        store.erase(WF)
        assert kept(store, "wf@1") == {"x": None, "y": BESIDE}
        assert kept(store, "wf@2") == {"x": value, "y": BESIDE}
        assert parent(store, "wf@2") is None
        assert findings(store) == []
