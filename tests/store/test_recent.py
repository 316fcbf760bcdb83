"""Versions of the last commits are at hand, and the same as the log tells."""

from __future__ import annotations

import random
from unittest.mock import patch

import pytest

from tests.seeds import SEED
from tests.store.support import WF, change, directory_store
from waypost.store.contract import CHECKPOINT
from waypost.store.directory import loading

KEYS = [f"key-{number:02}" for number in range(40)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def store(path):
    made = directory_store(path)
    yield made
    made.close()


def _said(view):
    return view.standing, view.compressed, {key: view.get(key) for key in view.keys()}


def _from_log(store, version):
    return loading.load_at(store._context, WF, version)


def _work(rng):
    clears = rng.random() < 0.02
    # some are long enough to be kept as extents, some that the frame is compressed
    puts = {rng.choice(KEYS): rng.randbytes(rng.choice((3, 400, 70_000))) for _ in range(rng.randrange(4))}
    puts |= {rng.choice(KEYS): bytes(2000) for _ in range(rng.randrange(2))}
    removed = rng.sample(KEYS, rng.randrange(3))

    def work(tx):
        if clears:
            tx.clear()
        for key in removed:
            tx.delete(key)
        for key, value in puts.items():
            tx.put(key, value)

    return work


def test_a_version_of_a_moment_ago_is_what_the_log_says_of_it(store):
    """However commits put, remove and clear, and snapshots come between, what is taken back leads to what was there."""
    print(f"repeat with: WAYPOST_TEST_SEED={SEED} make test ARGS='-k moment_ago tests/store/test_recent.py'")
    rng = random.Random(SEED)
    at_hand = behind = 0
    for number in range(120):
        store.submit(change(WF, _work(rng), operation_id=f"op-{number}")).result()
        if rng.random() < 0.1:
            store.tidy(WF, "snapshot")
        state = store._document(WF).state_now()
        version = max(1, state.standing.version - rng.randrange(12))
        found = state.earlier(version)
        if found is None:
            continue
        at_hand += 1
        behind += version < state.base.standing.version
        expected = _from_log(store, version)
        assert _said(found) == _said(expected)
        for operation in (f"op-{version - 1}", f"op-{number}"):
            assert found.operation(operation) == expected.operation(operation)
        differing = state.view().differing(found)
        assert differing >= {
            key for key in {*found.keys(), *state.view().keys()} if found.get(key) != state.view().get(key)
        }
    assert at_hand > 40
    assert behind > 0, "no snapshot came between"


def test_a_checkpoint_is_found_after_opening_without_its_files(path):
    """A handle that did not make a checkpoint finds its version by what it read of the log, and asks for no file."""
    store = directory_store(path)
    store.submit(change(WF, lambda tx: tx.put("a", b"1"))).result()
    store.submit(change(WF, lambda tx: tx.put(CHECKPOINT + "wf@c1", b"x"))).result()
    store.submit(change(WF, lambda tx: tx.put("a", b"2"))).result()
    store.close()
    store = directory_store(path)
    with patch("waypost.store.directory.checkpoints.read", side_effect=AssertionError("a file was read")):
        found = store.checkpoint(WF, "wf@c1")
    assert (found.version, found.get("a")) == (2, b"1")
    store.submit(change(WF, lambda tx: tx.delete(CHECKPOINT + "wf@c1"))).result()
    assert store.checkpoint(WF, "wf@c1") is None
    store.close()


def test_only_so_many_bytes_are_held_of_what_is_gone(store):
    """What was there before is let go of beyond a bound, and a version behind it is read from the log."""
    for number in range(40):
        value = number.to_bytes(1, "big") * 60_000
        store.submit(change(WF, lambda tx, value=value: tx.put("a", value))).result()
    state = store._document(WF).state_now()
    assert state._recent._bytes <= 1 << 20
    assert state.earlier(40 - 10) is not None
    assert state.earlier(5) is None
    assert store.view_at(WF, 5).get("a") == b"\4" * 60_000
