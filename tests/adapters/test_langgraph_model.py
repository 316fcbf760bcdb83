"""LangGraph's checkpointer held against its own one in memory, by random calls of several savers over one store."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from tests.adapters.support import checkpoint, config, fill, ids
from waypost.adapters.langgraph import WaypostSaver, naming
from waypost.adapters.langgraph.pages import Pages
from waypost.errors import StoreUnavailable
from waypost.store import Store

FORK: Any = {"source": "fork", "parents": {}}
THREADS, NAMESPACES = ("t", "../u"), ("", "child:1", "x" * 500)


class Walk:
    """A random walk: each call goes to one of three savers, which know of each other's pages only what they see."""

    def __init__(self, store: Store, seed: int) -> None:
        self.random = random.Random(seed)
        self.savers = [WaypostSaver(store) for _ in range(3)]
        self.oracle = InMemorySaver()
        self.number = 1000
        self.known: list[Any] = []

    @property
    def saver(self) -> WaypostSaver:
        return self.random.choice(self.savers)

    def put(self) -> None:
        """Behind any checkpoint or none, mostly with an id above all others; some channels change."""
        self.number += 1
        parent = self.random.choice(self.known) if self.known and self.random.random() < 0.8 else None
        at = parent or config(self.random.choice(THREADS), self.random.choice(NAMESPACES))
        number = 10 * self.number
        if self.random.random() < 0.2:  # into the page before, or one long ago
            number -= 10 * self.random.choice((3, 8, 15, 30, 900)) - self.number % 9 - 1
            if any(each["configurable"]["checkpoint_id"] == f"{number:08d}" for each in self.known):
                return
        before = None if parent is None else self.oracle.get_tuple(parent)
        values: dict[str, Any] = {} if before is None else dict(before.checkpoint["channel_values"])
        versions: dict[str, Any] = {} if before is None else dict(before.checkpoint["channel_versions"])
        changed = self.random.sample("abcd", self.random.randint(0, 3))
        new = {name: f"{self.number}.{name}" for name in changed}  # which no other checkpoint has
        values.update((name, [self.number, "v" * self.random.choice((1, 300))]) for name in changed)
        metadata = {**FORK, "step": self.number % 3, "run_id": f"r{self.number % 5}"}
        made = checkpoint(values, {**versions, **new}, number)
        results = [each.put(at, made, metadata, new) for each in (self.saver, self.oracle)]
        assert results[0] == results[1]
        self.known.append(results[0])

    def put_writes(self) -> None:
        if self.known:
            at = self.random.choice(self.known)
            channels = self.random.sample(["a", "b", "__interrupt__", "__resume__"], self.random.randint(1, 3))
            writes = [(channel, self.random.random()) for channel in channels]
            task, path = self.random.choice(("t1", "t2", "t3")), self.random.choice(("", "p", "q"))
            for each in (self.saver, self.oracle):
                each.put_writes(at, writes, task, path)

    def look(self) -> None:
        wanted = [config(self.random.choice(THREADS), self.random.choice(NAMESPACES))]
        wanted += self.random.sample(self.known, min(2, len(self.known)))
        for each in wanted:
            assert self.saver.get_tuple(each) == self.oracle.get_tuple(each)

    def list_some(self) -> None:
        at = config(self.random.choice(THREADS), self.random.choice(NAMESPACES))
        before = self.random.choice([None, *self.known])
        told: Any = {"before": before, "filter": self.random.choice([None, {"step": 1}, {"run_id": "r2", "step": 0}])}
        limit = self.random.choice([None, 1, 3])
        listed = [list(each.list(at, limit=limit, **told)) for each in (self.saver, self.oracle)]
        assert listed[0] == listed[1]

    def delete_thread(self) -> None:
        thread_id = self.random.choice(THREADS)
        for each in (self.saver, self.oracle):
            each.delete_thread(thread_id)
        self.known = [each for each in self.known if each["configurable"]["thread_id"] != thread_id]

    def prune(self) -> None:
        thread_id = self.random.choice(THREADS)
        self.saver.prune([thread_id])
        for namespace, there in self.oracle.storage[thread_id].items():
            self._remove(thread_id, namespace, [each for each in there if each != max(there)])

    def delete_for_runs(self) -> None:
        self.saver.delete_for_runs(["r1", "r4"])
        for thread_id, namespaces in self.oracle.storage.items():
            for namespace in namespaces:
                listed = self.oracle.list(config(thread_id, namespace))
                going = [each for each in listed if each.metadata.get("run_id") in ("r1", "r4")]
                self._remove(thread_id, namespace, ids(going))

    def _remove(self, thread_id: str, namespace: str, going: list[str]) -> None:
        for each in going:
            del self.oracle.storage[thread_id][namespace][each]
            self.oracle.writes.pop((thread_id, namespace, each), None)
            self.known.remove(config(thread_id, namespace, each))


@pytest.mark.parametrize("seed", range(4))
def test_random_calls_tell_what_the_saver_in_memory_tells(
    store: Store, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forks, ids out of order, removals of all kinds, small pages, and savers that know of old pages."""
    monkeypatch.setattr("waypost.adapters.langgraph.writing.PAGE_BYTES", 3000)
    walk = Walk(store, seed)
    calls = [walk.put, walk.put_writes, walk.look, walk.list_some, walk.delete_thread, walk.prune, walk.delete_for_runs]
    most = 0
    for call in walk.random.choices(calls, [60, 20, 15, 10, 1, 1, 1], k=150):
        call()
        most = max(most, *(len(walk.savers[0]._pages.look(naming.name_of(each))) for each in THREADS))
    for each in walk.known:
        assert walk.saver.get_tuple(each) == walk.oracle.get_tuple(each)
    assert most > 3 and [each for each in store.verify().findings if each.severity != "note"] == []


@pytest.mark.parametrize("cut_off", ["seal", "_list"])
def test_a_page_is_begun_wherever_that_is_cut_off(store: Store, monkeypatch: pytest.MonkeyPatch, cut_off: str) -> None:
    """Whoever comes next goes on, and whoever reads meanwhile sees all that was put."""
    monkeypatch.setattr("waypost.adapters.langgraph.writing.PAGE_BYTES", 6000)
    saver, cuts = WaypostSaver(store), 0
    steps = getattr(Pages, cut_off)

    def fails(self: Pages, *args: Any) -> Any:
        nonlocal cuts
        cuts += 1
        if cut_off == "seal" or cuts % 2 == 0:  # the one is cut off behind its commits, the other before them
            yield from steps(self, *args)
        if cuts % 2:
            raise StoreUnavailable("cut off")

    monkeypatch.setattr(Pages, cut_off, fails)
    at, put = config(), 0
    while put < 60:
        made = checkpoint({"n": put, "text": f"{put:05d}" * 100}, {"n": put + 1, "text": put + 1}, put)
        versions: Any = {"n": put + 1, "text": put + 1}
        try:
            at = saver.put(at, made, {"source": "loop", "step": put, "parents": {}}, versions)
        except StoreUnavailable:
            saver = WaypostSaver(store)
        else:
            put += 1
        assert len(ids(WaypostSaver(store).list(config()))) == put
    assert cuts > 4 and len(saver._pages.look("langgraph/t")) > 4


async def test_a_put_that_is_cancelled_is_made_all_the_same(store: Store) -> None:
    """Once it was handed in; nothing is half there."""
    saver = WaypostSaver(store)
    at = fill(saver, 1)[0]
    put = asyncio.ensure_future(saver.aput(at, checkpoint({"a": 1}, {"a": 1}, 7), FORK, {"a": 1}))
    await asyncio.sleep(0)
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put
    await saver.aput_writes(config(checkpoint_id="00000007"), [("a", 1)], "task")  # behind it, in the same page
    found = await saver.aget_tuple(config())
    assert found is not None and found.checkpoint["channel_values"] == {"a": 1} and found.pending_writes
