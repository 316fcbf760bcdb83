"""Versions of the last commits are at hand, and the same as the log tells."""

from __future__ import annotations

import random
from unittest.mock import patch
from weakref import ref

import msgspec
import pytest

from tests.seeds import SEED
from tests.store.support import WF, change, directory_store
from waypost.store.contract import CHECKPOINT
from waypost.store.directory import checkpoints, loading
from waypost.store.directory.document import Document
from waypost.store.directory.state import DocumentView
from waypost.store.directory.upkeep import Upkeep
from waypost.store.erasures import ERASED

KEYS = [f"{('even', 'odd')[number % 2]}\x1fkey-{number:02}" for number in range(40)]
PREFIXES = ("even\x1f", "odd\x1f", "odd\x1fkey-0", "ev", "other\x1f")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def store(path):
    made = directory_store(path)
    yield made
    made.close()


def _said(view):
    begun = [list(view.keys(prefix)) for prefix in PREFIXES]
    return view.standing, view.compressed, {key: view.get(key) for key in view.keys()}, begun


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
        with store._document(WF).lock:  # a snapshot may be taken meanwhile
            state = store._document(WF).state_now()
            version = max(1, state.standing.version - rng.randrange(12))
            found, now = state.earlier(version), state.view()
            if found is None:
                continue
            at_hand += 1
            behind += version < state.base.standing.version
        expected = _from_log(store, version)
        assert _said(found) == _said(expected)
        for operation in (f"op-{version - 1}", f"op-{number}"):
            assert found.operation(operation) == expected.operation(operation)
        differing = now.differing(found)
        assert differing >= {key for key in {*found.keys(), *now.keys()} if found.get(key) != now.get(key)}
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


@pytest.mark.parametrize("commits", [12, 400])
def test_a_checkpoint_just_before_the_newest_snapshot_is_found_in_the_log(path, monkeypatch, commits):
    """A handle that was opened since asks for no file, and knows what was touched since the checkpoint; where many
    commits lie between two snapshots, its file is nearer.
    """
    monkeypatch.setattr(Upkeep, "ask", lambda self, document: None)
    monkeypatch.setattr(loading, "_NEAR_BYTES", 40_000)
    store = directory_store(path)
    store.submit(change(WF, lambda tx: [tx.put(f"plain\x1f{each}", b"%d" % each) for each in range(900)])).result()
    with patch.object(Document, "snapshot_is_due", staticmethod(lambda state: True)):
        assert store.tidy(WF, "snapshot")
        for number in range(commits):
            store.submit(change(WF, lambda tx, n=number: tx.put(f"plain\x1f{n % 50}", b"new %d" % n))).result()
        store.submit(change(WF, lambda tx: tx.put(CHECKPOINT + "wf@c1", b"x"))).result()
        store.submit(change(WF, lambda tx: tx.put("plain\x1f7", b"newest"))).result()
        version = store.view(WF).version - 1
        assert store.tidy(WF, "snapshot")
    expected = _said(_from_log(store, version))
    store.close()
    store = directory_store(path)
    assert store._document(WF).state_now().base.standing.version == version + 1
    with patch("waypost.store.directory.checkpoints.read", wraps=checkpoints.read) as read:
        found = store.checkpoint(WF, "wf@c1")
    assert (found.version, _said(found)[2:]) == (version, expected[2:])
    looked = []
    part = DocumentView.part
    monkeypatch.setattr(DocumentView, "part", lambda view, key: looked.append(key) or part(view, key))
    assert store.view(WF).differing(found) == {"plain\x1f7"}
    assert (read.call_count, len(looked)) == (0, 2) if commits == 12 else (1, 901)
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


def test_what_differs_from_a_moment_ago_is_told_by_what_was_touched_since(store, monkeypatch):
    """Comparing with a version of a moment ago looks at the parts that were touched since, however many there are, and
    asking for keys of one kind at those of that kind; also where a snapshot came between.
    """
    looked, costs = [], []
    part = DocumentView.part
    monkeypatch.setattr(DocumentView, "part", lambda view, key: looked.append(key) or part(view, key))
    for count in (50, 500):
        store.submit(change(WF, lambda tx, n=count: [tx.put(f"plain\x1f{each}", b"x") for each in range(n)])).result()
        version = store.view(WF).version
        for number in range(10):
            store.submit(change(WF, lambda tx, n=number, c=count: tx.put(f"rare\x1f{n}", b"%d" % c))).result()
            if number == 5 and count == 500:
                with patch.object(Document, "snapshot_is_due", staticmethod(lambda state: True)):
                    assert store.tidy(WF, "snapshot")
        now, then = store.view(WF), store.view_at(WF, version)
        looked.clear()
        assert now.differing(then) == then.differing(now) == {f"rare\x1f{number}" for number in range(10)}
        costs.append(len(looked))
        assert len(list(now._kinds.among(now.overlay, "rare\x1f"))) <= 10
        store.submit(change(WF, lambda tx, n=count: tx.put("plain\x1f0", b"%d" % n))).result()
        assert store.view(WF).differing(then) == {"plain\x1f0", *now.differing(then)}
    assert costs[0] == costs[1] == 40


def test_c06_commits_before_a_snapshot_that_cannot_be_followed_tell_nothing(path, monkeypatch):
    """Where a frame before the newest snapshot is damaged, what stands before it is not taken for the last word."""
    monkeypatch.setattr(Upkeep, "ask", lambda self, document: None)
    store = directory_store(path)
    name, key = "wf@c1", CHECKPOINT + "wf@c1"
    places = []
    with patch.object(Document, "snapshot_is_due", staticmethod(lambda state: True)):
        store.submit(change(WF, lambda tx: tx.put("a", b"1"))).result()
        assert store.tidy(WF, "snapshot")
        for work in (lambda tx: tx.put(key, b"x"), lambda tx: tx.delete(key), lambda tx: tx.put(key, b"y")):
            places.append(store._document(WF)._log.end)
            store.submit(change(WF, work)).result()
        assert store.tidy(WF, "snapshot")
    store.close()
    with open(path / "workflows" / "wf.state", "r+b") as file:
        file.seek(places[1] + 140)
        byte = file.read(1)[0]
        file.seek(places[1] + 140)
        file.write(bytes([byte ^ 1]))
    store = directory_store(path)
    assert store.checkpoint(WF, name).version == 4
    store.close()


def test_two_threads_compare_a_view_with_two_checkpoints(store, monkeypatch):
    """What one comparison leaves for the next is never taken for what another has left meanwhile."""
    for number in range(3):
        name = f"{CHECKPOINT}wf@c{number}"
        store.submit(change(WF, lambda tx, n=number, name=name: [tx.put(f"k{n}", b"x"), tx.put(name, b"x")])).result()
    store._document(WF).keep_checkpoints(newest_only=False)
    one, other = (checkpoints.read(store._context, f"wf@c{number}") for number in range(2))
    view = store.view(WF)
    expected = {id(one): set(view.differing(one)), id(other): set(view.differing(other))}
    assert expected[id(one)] != expected[id(other)]

    class Interrupted(ref):
        """Another thread compares the view whenever this one looks what is there."""

        def __call__(self):
            view._compared = (ref(other), expected[id(other)])
            return super().__call__()

    monkeypatch.setattr("waypost.store.directory.state.ref", Interrupted)
    for _ in range(3):
        assert view.differing(one) == expected[id(one)]


def test_a_version_that_was_held_while_something_was_erased_differs_in_it(store):
    """What was touched between two versions tells what differs only within one file: erasing writes another."""
    value = b"secret" * 20
    store.submit(change(WF, lambda tx: [tx.put("secret", value), tx.put("a", b"1")])).result()
    store.submit(change(WF, lambda tx: tx.put("a", b"2"))).result()
    held, newest = store.view_at(WF, 1), store.view(WF)
    assert newest.differing(held) == {"a"}
    told = msgspec.msgpack.encode([newest.time_us, "told"])
    store.submit(change(WF, lambda tx: [tx.delete("secret"), tx.put(f"{ERASED}secret", told)])).result()
    store.erase(WF)
    scrubbed = store.view_at(WF, 2)
    assert scrubbed.commit_id == newest.commit_id and held.get("secret") == value
    assert scrubbed.erased("secret") is not None
    assert held.differing(scrubbed) == {"a", "secret"}
