"""The contract by chance: two handles of one schema, whose histories are shortened, against the store that is memory.

A test's number is its seed, and its length is `MODEL_STEPS`:
`MODEL_STEPS=10000 pytest tests/postgres/test_contract_model.py -k "1"` goes on from where seed 1 ends here.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from tests.postgres.conftest import Opener
from tests.store.support import change
from waypost import clock
from waypost.errors import IllegalTransition, StoreUnavailable, ValueErased
from waypost.store import Change, DocumentId, JointChange, Receipt, Store, Transaction, View, postgres
from waypost.store.contract import CHECKPOINT
from waypost.store.erasures import ERASED
from waypost.store.memory import MemoryStore
from waypost.store.postgres import PostgresStore, batching

STEPS = int(os.environ.get("MODEL_STEPS", "120"))
KEYS = [*(f"part/{number:02}" for number in range(14)), "a", "b\x1fc", "'%\\é🙂", "z" * 2600]
DOCUMENTS = [DocumentId("workflow", name) for name in ("one", "quo'te \\ %s é🙂")]
CHUNK_BYTES = 64 << 10
"""That of the memory store: values that are longer stand by their digests in what a commit has its id of."""
Contents = dict[str, bytes | None]


def read(view: View, key: str) -> bytes | None:
    """A part's value; None where it was erased, too."""
    try:
        return view.get(key)
    except ValueErased:
        return None


def whole(view: View) -> tuple[Any, ...]:
    """All that a version is."""
    sums = view.commit_id, view.checksum, view.size_bytes
    return view.version, view.time_us, sums, {key: read(view, key) for key in view.keys()}


def work_of(seed: int) -> Callable[[Transaction], Any]:
    """A work that reads and writes as that number says, and fails now and then for what it has read."""

    def work(tx: Transaction) -> Any:
        chance, told = random.Random(seed), list[Any]()
        for _ in range(chance.randint(1, 4)):
            key = chance.choice(KEYS)
            act = chance.randrange(8)
            if act < 3:
                tx.put(
                    key, chance.choice([b"", b"%d" % seed, bytes([seed % 256]) * chance.choice([900, 9_000, 70_000])])
                )
            elif act == 3:
                tx.delete(key)
            elif act == 4:
                tx.put(key, (read(tx, key) or b"")[:20] + b"+")
            elif act == 5:
                found = list(tx.keys(chance.choice(["part/", "part/1", "", "b"])))
                told.append(found)
            elif act == 6:
                told.append((tx.size_of(key), hash(read(tx, key) or b"")))
            elif len(list(tx.keys("part/"))) % 3 == 0:
                raise IllegalTransition(f"no: {seed}")
        if chance.random() < 0.04:
            tx.clear()
            tx.put(KEYS[0], b"%d" % seed)
        return told

    return work


class Model:
    """What is done to both, and what has to be the same then."""

    def __init__(self, handles: Sequence[PostgresStore], seed: int) -> None:
        self.handles = handles
        self.oracle = MemoryStore()
        self.chance = random.Random(seed)
        self.views: list[tuple[View, tuple[Any, ...]]] = []
        self.documents = list(DOCUMENTS)
        self.checkpoints: dict[str, tuple[DocumentId, int]] = {}
        self.number = 0

    def step(self) -> None:
        acts = [self.submit] * 5 + [self.batch] * 6 + [self.joint] * 3 + [self.trim] * 2
        acts += [self.put_checkpoint, self.receive, self.follow, self.erase, self.look_back, self.keep_a_view]
        self.chance.choice(acts)()
        document = self.chance.choice(self.documents)
        for handle in self.handles:
            assert whole(handle.view(document)) == whole(self.oracle.view(document)), document

    def change(self, document: DocumentId) -> Change:
        self.number += 1
        is_old = self.chance.random() < 0.25
        number = self.chance.randint(1, self.number) if is_old else self.number
        return change(
            document,
            work_of(self.chance.randrange(1 << 30)),
            operation_id=f"op-{number}" if is_old else f"new-{self.number}",
            repeatable=is_old,
        )

    def submit(self) -> None:
        asked = self.change(self.chance.choice(self.documents))
        self.compare([outcome(self.chance.choice(self.handles), asked)], [outcome(self.oracle, asked)])

    def batch(self) -> None:
        document = self.chance.choice(self.documents)
        asked = [self.change(document) for _ in range(self.chance.randint(2, 6))]
        found = batching.commit_all(self.chance.choice(self.handles)._context, asked)
        self.compare(found, [outcome(self.oracle, each) for each in asked])

    def compare(self, found: Sequence[Receipt | BaseException], expected: Sequence[Receipt | BaseException]) -> None:
        assert [shown(each) for each in found] == [shown(each) for each in expected]

    def joint(self) -> None:
        """Over several documents, one of which may be changed by the other handle meanwhile."""
        works = {each: work_of(self.chance.randrange(1 << 30)) for each in self.documents if self.chance.random() < 0.7}
        between = self.change(self.chance.choice(self.documents)) if self.chance.random() < 0.3 else None
        self.number += 1
        asked, handle = JointChange(f"joint-{self.number}", "test"), self.chance.choice(self.handles)
        ends: list[object] = []
        for store in (handle, self.oracle):
            for attempt in range(3):
                joint = store.begin()
                try:
                    told = [work(joint.document(document)) for document, work in works.items()]
                except IllegalTransition as error:
                    told = [str(error)]
                    break
                if between is not None and not attempt:
                    outcome(self.handles[0] if store is handle else self.oracle, between)
                receipt = store.commit(joint, asked)
                if receipt is not None:
                    told.append(receipt.changed)
                    break
            else:
                told = ["never"]
            ends.append(told)
        assert ends[0] == ends[1]

    def trim(self) -> None:
        handle = self.chance.choice(self.handles)
        handle._context.history_bytes = self.chance.choice([0, 30_000, 300_000])
        handle.reclaim(self.chance.choice(self.documents))
        handle.sweep()

    def put_checkpoint(self) -> None:
        document, self.number = self.chance.choice(self.documents), self.number + 1
        name = f"{document.id}:{self.number:05}"
        asked = change(document, lambda tx: tx.put(CHECKPOINT + name, b"x"), operation_id=f"put-{self.number}")
        self.compare([outcome(self.handles[0], asked)], [outcome(self.oracle, asked)])
        self.checkpoints[name] = document, self.oracle.view(document).version

    def receive(self) -> None:
        source, self.number = self.chance.choice(self.documents), self.number + 1
        if not self.oracle.view(source).version or len(self.documents) > 4:
            return
        document, handle = DocumentId("workflow", f"copy{self.number}"), self.chance.choice(self.handles)
        added = (
            change(document, lambda tx: tx.put("received", b"1"), operation_id="take")
            if self.chance.random() < 0.5
            else None
        )
        past = handle.past(source)  # of a server, that is: it may have been shortened
        for store in (handle, self.oracle):
            received = store.receive()
            received.take(document, past, added)
            assert store.commit(store.begin(), JointChange(f"receive-{self.number}", "test"), received) is not None
            received.close()
        self.documents.append(document)

    def follow(self) -> None:
        """Commits that are made in the memory store alone, brought after."""
        document, handle = self.chance.choice(self.documents), self.chance.choice(self.handles)
        before = self.oracle.view(document)
        if not before.version:
            return
        for _ in range(self.chance.randint(1, 4)):
            outcome(self.oracle, self.change(document))
        new = list(self.oracle.past(document).commits(oldest_first=True))
        new = [each for each in new if each.version > before.version]
        assert handle.follow(document, before.commit_id, new) == before.version + len(new)

    def erase(self) -> None:
        document, key = self.chance.choice(self.documents), self.chance.choice(KEYS[:-1])
        until_us = self.oracle.view(document).time_us
        if not until_us:
            return

        def work(tx: Transaction) -> None:
            tx.delete(key)
            tx.put(ERASED + key, msgspec.msgpack.encode([until_us]))

        self.number += 1
        for store in (self.chance.choice(self.handles), self.oracle):
            store.submit(change(document, work, operation_id=f"erase-{self.number}")).result()
            store.erase(document)

    def look_back(self) -> None:
        """Any version is as it was, or not kept; the past is told alike; checkpoints stay whatever is dropped."""
        handle, document = self.chance.choice(self.handles), self.chance.choice(self.documents)
        for _ in range(4):
            version = self.chance.randint(0, self.oracle.view(document).version)
            found, expected = handle.view_at(document, version), self.oracle.view_at(document, version)
            if found is not None and expected is not None:
                assert whole(found) == whole(expected)
            assert found is not None or version < handle.past(document).first
        past, other = handle.past(document), self.oracle.past(document)
        told = {
            each.version: (each.commit_id, each.puts, sorted(each.removed), each.cleared) for each in other.commits()
        }
        for each in past.commits():
            assert (each.commit_id, each.puts, sorted(each.removed), each.cleared) == told.get(each.version)
        for name, (owner, version) in self.checkpoints.items():
            if self.oracle.view(owner).size_of(CHECKPOINT + name) is not None:
                found, expected = handle.checkpoint(owner, name), self.oracle.checkpoint(owner, name)
                assert found is not None and expected is not None and found.version == version
                assert whole(found) == whole(expected)

    def keep_a_view(self) -> None:
        """A version that somebody holds is what it was, or no longer kept."""
        for view, expected in self.views:
            try:
                assert whole(view) == expected or any(key.startswith(ERASED) for key in view.keys())
            except StoreUnavailable:
                pass
        document = self.chance.choice(self.documents)
        view = self.chance.choice(self.handles).view(document)
        self.views = [*self.views[-3:], (view, whole(self.oracle.view(document)))]


def outcome(store: Store, asked: Change) -> Receipt | BaseException:
    try:
        return store.submit(asked).result()
    except Exception as error:
        return error


def shown(outcome: Receipt | BaseException) -> object:
    if isinstance(outcome, Receipt):
        return outcome.version, outcome.changed, outcome.data, outcome.repeated is None
    return type(outcome), str(outcome)


@pytest.mark.parametrize("seed", range(int(os.environ.get("MODEL_SEEDS", "3"))))
def test_t10_the_store_does_what_memory_does(opened: Opener, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Whatever is done in whatever order comes out as in the memory store, and verification finds no damage."""
    started_us = clock.now_us()
    monkeypatch.setattr(postgres, "_GRACE_US", -1_000_000_000)
    monkeypatch.setattr(clock, "new_id", lambda kind: f"{kind}-same")  # ids and times of both stores are the same
    monkeypatch.setattr(clock, "now_us", lambda: started_us)
    handles = [opened(compression={"chunk_size": CHUNK_BYTES}).definitions.store for _ in range(2)]
    model = Model([each for each in handles if isinstance(each, PostgresStore)], seed)
    for _ in range(STEPS):
        model.step()
    model.look_back()
    assert model.handles[0].verify().findings == []
