"""Threads of LangGraph that went on apart in two stores, and were united by a sync, held against a model."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.adapters.support import checkpoint, config, ids
from tests.synced import synced
from waypost.adapters.langgraph import WaypostSaver
from waypost.blocking import Waypost
from waypost.sync_models import StateConflict

NAMESPACES = ("", "child:1")
TASKS = ("task 0", "task 1"), ("task 2", "task 3")
"""Each is of one side, so that what is written of them is never in conflict."""
SMALL_PAGE = 3000


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waypost.adapters.langgraph.writing.PAGE_BYTES", SMALL_PAGE)


def put(saver: WaypostSaver, numbers: Any, size: int = 400, namespace: str = "") -> Any:
    """Put checkpoints, each behind the newest; the config of the last one."""
    at: Any = None
    for number in numbers:
        found = saver.get_tuple(config("t", namespace))
        at = config("t", namespace) if found is None else found.config
        made = checkpoint({"n": number, "text": "x" * size}, {"n": number, "text": number}, number)
        versions: Any = {"n": number, "text": number}
        at = saver.put(at, made, {"source": "loop", "step": number, "parents": {}}, versions)
    return at


def says(answer: str) -> Any:
    """Answers each conflict so."""

    def resolve(_: StateConflict) -> str:
        return answer

    return resolve


def number_of(saver: WaypostSaver, at: Any = None) -> int | None:
    found = saver.get_tuple(config() if at is None else at)
    return None if found is None else found.checkpoint["channel_values"]["n"]


def pages_of(saver: WaypostSaver) -> int:
    return len(saver._pages.look("langgraph/t"))


@pytest.mark.parametrize("answer", ["ours", "theirs"])
@pytest.mark.parametrize("begun", [3, 30], ids=["one page", "several pages"])
def test_lines_over_several_pages_are_found_listed_and_gone_on_with(answer: str, begun: int) -> None:
    """Whatever was said of a conflict, and whichever line holds the newest checkpoint."""
    with waypost.open("memory:") as one, waypost.open("memory:") as two:
        ours, theirs = WaypostSaver(one), WaypostSaver(two)
        put(ours, range(8))
        one.sync(two).unwrap()
        put(ours, [100])  # which begins a page
        put(theirs, range(200, 200 + begun))
        at = put(ours, [900])
        synced(one, two, on_conflict="user_intervention", resolve=says(answer))
        expected = [900, *reversed(range(200, 200 + begun)), 100, *reversed(range(8))]
        for saver in (ours, theirs, WaypostSaver(one)):
            assert ids(saver.list(config())) == ids(saver.list(None)) == [f"{each:08d}" for each in expected]
            assert ids(saver.list(config(), limit=3)) == [f"{each:08d}" for each in expected[:3]]
            assert [number_of(saver, config("t", "", f"{each:08d}")) for each in expected] == expected
            assert number_of(saver) == 900
        ours.put_writes(at, [("x", "acknowledged")], "task")
        assert WaypostSaver(one).get_tuple(at).pending_writes == [("task", "x", "acknowledged")]  # pyright: ignore[reportOptionalMemberAccess]
        put(ours, [901])
        assert number_of(WaypostSaver(one)) == 901
        ours.prune(["t"])
        assert ids(ours.list(config())) == ["00000901"]


@pytest.mark.parametrize("answer", ["ours", "theirs"])
def test_a_page_that_one_store_filled_on_and_the_other_sealed_is_read_whole(answer: str) -> None:
    """However many pages the other one began behind it: the heads say how far it reaches before it is merged."""
    with waypost.open("memory:") as one, waypost.open("memory:") as two:
        ours, theirs = WaypostSaver(one), WaypostSaver(two)
        put(ours, range(12))
        one.sync(two).unwrap()
        before = pages_of(theirs)
        put(theirs, range(200, 230))
        at = put(ours, [100, 900], size=0)
        assert before == pages_of(ours) == 2
        assert pages_of(theirs) > before + 2
        put(ours, [500], size=0, namespace="child:1")
        synced(one, two, on_conflict="user_intervention", resolve=says(answer))
        for store in (one, two):
            saver = WaypostSaver(store)
            assert ids(saver.list(config("t", ""), limit=2)) == ["00000900", "00000229"]
            assert number_of(saver, at) == 900
            assert number_of(saver) == (900 if answer == "ours" else 229)
            assert number_of(saver, config("t", "child:1")) == 500


@pytest.mark.parametrize("answer", ["ours", "theirs"])
def test_pruning_leaves_what_a_sync_was_told_is_the_newest(answer: str) -> None:
    """That stays so for as long as its checkpoint stays."""
    with waypost.open("memory:") as one, waypost.open("memory:") as two:
        ours, theirs = WaypostSaver(one), WaypostSaver(two)
        put(ours, [1])
        one.sync(two).unwrap()
        put(ours, [2])
        put(theirs, [3])
        synced(one, two, on_conflict="user_intervention", resolve=says(answer))
        newest = 2 if answer == "ours" else 3
        assert number_of(ours) == number_of(theirs) == newest
        ours.prune(["t"])
        assert number_of(ours) == newest
        assert ids(ours.list(config())) == [f"{newest:08d}"]
        ours.delete_for_runs(["nobody's"])
        assert number_of(ours) == newest


# --- a random walk ---


class Side:
    """A store, a saver over it, and what it should hold: by namespace and id the number, and the writes."""

    def __init__(self, location: str) -> None:
        self.wp: Waypost = waypost.open(location)
        self.saver = WaypostSaver(self.wp)
        self.kept: dict[str, dict[str, tuple[int, dict[tuple[str, int], Any]]]] = {each: {} for each in NAMESPACES}
        self.newest: dict[str, str | None] = dict.fromkeys(NAMESPACES)


class Walk:
    def __init__(self, seed: int, locations: list[str]) -> None:
        self.random = random.Random(seed)
        self.sides = [Side(each) for each in locations]
        self.number = 0
        self.syncs = 0

    def put(self) -> None:
        """Behind the newest checkpoint, or a fork behind any other."""
        side, namespace = self.random.choice(self.sides), self.random.choice(NAMESPACES)
        self.number += 1
        kept = side.kept[namespace]
        is_fork = bool(kept) and self.random.random() < 0.2
        at = config("t", namespace, self.random.choice(sorted(kept)) if is_fork else None)
        found = side.saver.get_tuple(at)
        text = "x" * self.random.choice((0, 400))
        values = {"n": self.number, "text": text, "same": "never changed"}
        made = checkpoint(values, {"n": self.number, "text": self.number, "same": 1}, self.number)
        new: Any = {"n": self.number, "text": self.number, **({} if found else {"same": 1})}
        metadata: Any = {"source": "fork" if is_fork else "loop", "step": self.number % 3, "parents": {}}
        side.saver.put(at if found is None else found.config, made, metadata, new)
        kept[made["id"]] = self.number, {}
        side.newest[namespace] = made["id"]

    def put_writes(self) -> None:
        at = self.random.randrange(2)
        side, namespace = self.sides[at], self.random.choice(NAMESPACES)
        if not side.kept[namespace]:
            return
        checkpoint_id = self.random.choice(sorted(side.kept[namespace])[-6:])
        task = self.random.choice(TASKS[at])
        self.number += 1
        where = config("t", namespace, checkpoint_id)
        side.saver.put_writes(where, [("a", self.number), ("__interrupt__", self.number)], task)
        writes = side.kept[namespace][checkpoint_id][1]
        writes.setdefault((task, 0), ("a", self.number))
        writes[task, -3] = "__interrupt__", self.number

    def sync(self) -> None:
        """Unite them by one of the answers; which one is the newest is either side's word."""
        one, two = self.sides
        answer = self.random.choice(["last_writer_wins", "rollback", "ours", "theirs", "any"])

        def resolve(_: StateConflict) -> Any:
            return self.random.choice(["ours", "theirs"]) if answer == "any" else answer

        if answer == "rollback":  # where there is nothing to go back to the conflict stays
            one.wp.sync(two.wp, on_conflict=answer).unwrap()
        if answer in ("rollback", "last_writer_wins"):
            synced(one.wp, two.wp, on_conflict="last_writer_wins")
        else:
            synced(one.wp, two.wp, on_conflict="user_intervention", resolve=resolve)
        for namespace, kept in one.kept.items():
            for checkpoint_id, (number, writes) in two.kept[namespace].items():
                here = kept.setdefault(checkpoint_id, (number, {}))[1]
                here.update((key, write) for key, write in writes.items() if key not in here or key[0] in TASKS[1])
            told = self._newest(one, namespace)
            assert told == self._newest(two, namespace)
            assert told in {one.newest[namespace], two.newest[namespace]} or answer == "rollback"
            one.newest[namespace] = told
        two.kept, two.newest = copy.deepcopy(one.kept), dict(one.newest)
        self.syncs += 1
        if self.random.random() < 0.5:
            for side in self.sides:
                side.saver = WaypostSaver(side.wp)  # the others know of old pages

    def prune(self) -> None:
        """On one side, once they are the same, and the other follows."""
        self.sync()
        side = self.random.choice(self.sides)
        side.saver.prune(["t"])
        for namespace, kept in side.kept.items():
            newest = side.newest[namespace]
            for each in [each for each in kept if newest is not None and each != newest]:
                del kept[each]
        self.look(side)
        synced(self.sides[0].wp, self.sides[1].wp)
        for each in self.sides:
            each.kept = copy.deepcopy(side.kept)

    def _newest(self, side: Side, namespace: str) -> str | None:
        found = side.saver.get_tuple(config("t", namespace))
        return None if found is None else found.config["configurable"]["checkpoint_id"]  # pyright: ignore[reportTypedDictNotRequiredAccess]

    def look(self, side: Side) -> None:
        """All that is told of a side is what it should hold."""
        for namespace, kept in side.kept.items():
            wanted = sorted(kept, reverse=True)
            told = list(side.saver.list(config("t", namespace)))
            assert ids(told) == wanted
            assert self._newest(side, namespace) == side.newest[namespace]
            for each in [*told, *(side.saver.get_tuple(config("t", namespace, each)) for each in wanted)]:
                assert each is not None
                number, writes = kept[each.config["configurable"]["checkpoint_id"]]  # pyright: ignore[reportTypedDictNotRequiredAccess]
                values = each.checkpoint["channel_values"]
                assert (values["n"], values["same"]) == (number, "never changed")
                assert each.pending_writes == [(task, *writes[task, index]) for task, index in sorted(writes)]
            before = self.random.choice(wanted) if wanted else None
            below = [each for each in wanted if before is None or (each < before and kept[each][0] % 3 == 1)]
            options: Any = {"filter": {"step": 1}, "before": config("t", "", before), "limit": 4} if before else {}
            assert ids(side.saver.list(config("t", namespace), **options)) == below[:4]
        both = sorted((each for kept in side.kept.values() for each in kept), reverse=True)
        assert ids(side.saver.list(None)) == ids(side.saver.list({"configurable": {"thread_id": "t"}})) == both


@pytest.mark.parametrize("seed", range(10))
def test_threads_that_go_on_apart_and_are_synced_are_what_a_model_says(seed: int, tmp_path: Path) -> None:
    """Over pages that overlap: reading, putting, pruning and copying, with savers that know of old pages."""
    walk = Walk(seed, ["memory:", "memory:"] if seed else [str(tmp_path / "one"), str(tmp_path / "two")])
    most = 0
    for call in walk.random.choices([walk.put, walk.put_writes, walk.sync, walk.prune], [60, 20, 6, 1], k=130):
        call()
        most = max(most, *(len(side.saver._pages.look("langgraph/t").overlapping) for side in walk.sides))
    for side in walk.sides:
        walk.look(side)
    walk.sync()
    side = walk.sides[0]
    walk.look(side)
    side.saver.copy_thread("t", "copy")
    for namespace in NAMESPACES:
        copied, told = (list(side.saver.list(config(each, namespace))) for each in ("copy", "t"))
        assert [(each.checkpoint, each.pending_writes) for each in copied] == [
            (each.checkpoint, each.pending_writes) for each in told
        ]
    assert walk.syncs > 2 and most > 0
    for each in walk.sides:
        assert [found for found in each.wp.definitions.store.verify().findings if found.severity != "note"] == []
        each.wp.close()
