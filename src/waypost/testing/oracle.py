"""Random changes: after any of them the store holds what the memory store does, which is a dictionary."""

from __future__ import annotations

import random
from typing import Any

import pytest

from waypost.store import Commit, JointChange, Store
from waypost.store.memory import MemoryStore
from waypost.testing.base import A, B, Kit, Open, Work, at, change, contents, outlives, putting, sums

_KEYS = ["a", "b", "b\x1fc", "d/é", "z" * 300]
_VALUES = [b"", b"1", b"2", b"large " * 1500]
_STEPS = 40


def told(commit: Commit) -> tuple[Any, ...]:
    """What a commit says that is the same in every store."""
    return (
        commit.version,
        commit.operation_id,
        commit.operation,
        commit.session,
        commit.agent,
        commit.cleared,
        {key: (length, commit.read(key)) for key, length in commit.puts.items()},
        sorted(commit.removed),
        None if commit.joint is None else list(commit.joint.participants),
    )


def random_work(chance: random.Random) -> Work:
    """A work that puts, removes, or clears and puts."""
    key, value = chance.choice(_KEYS), chance.choice(_VALUES)
    works: list[Work] = [
        putting({key: value}),
        lambda tx: tx.delete(key),
        lambda tx: [tx.clear(), tx.put(key, value)],
        lambda tx: [tx.put(other, value) for other in _KEYS if other > key],
        lambda tx: tx.put(key, (tx.get(key) or b"") [:20] + b"+"),
    ]  # fmt: skip
    return chance.choice(works)


def step(stores: list[Store], chance: random.Random, number: int) -> None:
    """The same random change of both stores, which must come out alike."""
    if chance.random() < 0.2:
        value = b"%d" % number
        for store in stores:
            joint = store.begin()
            for document in (A, B):
                joint.document(document).put(_KEYS[number % 5], value)
            assert store.commit(joint, JointChange(f"op-{number}", "transact")) is not None
        return
    once = f"op-{chance.randrange(number + 1)}" if chance.random() < 0.3 else None
    asked = change(random_work(chance), chance.choice([A, B]), once=once)
    one, other = (store.submit(asked).result() for store in stores)
    assert (one.version, one.changed, one.repeated is None) == (other.version, other.changed, other.repeated is None)


def compare(store: Store, oracle: Store) -> None:
    """Both documents in all of their versions, and how they came to be."""
    for document in (A, B):
        newest = oracle.view(document).version
        for version in range(newest + 1):
            found, expected = at(store, version, document), at(oracle, version, document)
            assert contents(found) == contents(expected), f"version {version} of {document.id}"
            assert (found.version, found.size_bytes, found.checksum) == (
                expected.version, expected.size_bytes, expected.checksum,
            )  # fmt: skip
        assert sums(store.view(document)) == sums(at(store, newest, document))
        assert [told(each) for each in store.past(document).commits()] == [
            told(each) for each in oracle.past(document).commits()
        ]


class OracleTests(Kit):
    """The promises of a store, tried by chance. The number of a test is its seed: `-k "oracle and 3"` runs it again."""

    @pytest.mark.parametrize("seed", range(4))
    def test_t10_random_changes_leave_what_they_leave_in_the_oracle(self, store: Store, seed: int) -> None:
        """After any series of changes the store holds the versions of the memory store, and tells the same past."""
        oracle, chance = MemoryStore(), random.Random(seed)  # noqa: S311
        for number in range(_STEPS):
            step([store, oracle], chance, number)
        compare(store, oracle)

    @outlives
    @pytest.mark.parametrize("seed", range(4, 6))
    def test_t10_random_changes_outlive_closing_in_the_oracle_s_way(self, opening: Open, seed: int) -> None:
        """The same where the store is closed and opened again at any time, and looked after as it is asked to be."""
        oracle, chance, store = MemoryStore(), random.Random(seed), opening()  # noqa: S311
        for number in range(_STEPS):
            step([store, oracle], chance, number)
            if chance.random() < 0.1:
                store.reclaim(A)
                store.sweep()
            if chance.random() < 0.1:
                store.close()
                store = opening()
        store.close()
        compare(opening(), oracle)
