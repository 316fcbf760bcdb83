"""LangGraph's own graphs over Waypost: interrupts, delta channels, subgraphs, a killed process; the store's tools."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from tests.adapters.support import checkpoint, config, fill, ids
from tests.conftest import StoreFactory, make_config
from waypost.adapters.langgraph import WaypostSaver
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import DocumentDamaged, VersionConflict
from waypost.store import Store, open_store


@pytest.fixture
def saver(store: Store) -> WaypostSaver:
    return WaypostSaver(store)


def _joined(values: list[str], writes: list[list[str]]) -> list[str]:
    return [*values, *(each for write in writes for each in write)]


class Deltas(TypedDict):
    log: Annotated[list[str], DeltaChannel(_joined, list, snapshot_frequency=7)]
    turn: int


def delta_graph(saver: Any) -> Any:
    """One step for each invocation, which adds to a log that is kept as deltas between snapshots."""
    builder = StateGraph(Deltas)
    builder.add_node("step", lambda state: {"log": [f"step {state['turn']}"]})
    builder.add_edge(START, "step")
    builder.add_edge("step", END)
    return builder.compile(checkpointer=saver)


def test_delta_channels_come_back_across_prune_copy_and_pages(
    saver: WaypostSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in memory, whatever lies between a snapshot and now; pruning and copying take nothing of it."""
    monkeypatch.setattr("waypost.adapters.langgraph.writing.PAGE_BYTES", 8 * 1024)
    graph, plain = delta_graph(saver), delta_graph(InMemorySaver())
    for turn in range(12):
        for each in (graph, plain):
            each.invoke({"turn": turn, "log": [f"asked {turn}"]}, config())
    expected = plain.get_state(config()).values
    assert len(expected["log"]) == 24 and graph.get_state(config()).values == expected
    assert len(saver._pages.look("langgraph/t")) > 2
    values = [each.checkpoint["channel_values"] for each in saver.list(config())]
    assert 0 < sum("log" in each for each in values) < len(values) / 2  # most stand on others
    saver.copy_thread("t", "u")
    for thread_id in ("t", "u"):
        before = len(ids(saver.list(config(thread_id))))
        saver.prune([thread_id])
        assert 1 < len(ids(saver.list(config(thread_id)))) < before
        assert graph.get_state(config(thread_id)).values == expected
        graph.invoke({"turn": 12, "log": ["asked 12"]}, config(thread_id))
        assert graph.get_state(config(thread_id)).values["log"] == [*expected["log"], "asked 12", "step 12"]
    # a fork of what was abandoned sees nothing of the other branch
    plain.invoke({"turn": 12, "log": ["asked 12"]}, config())
    for each in (graph, plain):
        earlier = list(each.get_state_history(config()))[2].config
        each.invoke({"turn": 50, "log": ["other"]}, earlier)
    assert graph.get_state(config()).values == plain.get_state(config()).values


class Asked(TypedDict):
    answer: str


def asking_graph(saver: Any) -> Any:
    """An interrupt within a subgraph."""
    inner = StateGraph(Asked)
    inner.add_node("ask", lambda state: {"answer": interrupt("well?")})
    inner.add_edge(START, "ask")
    outer = StateGraph(Asked)
    outer.add_node("inner", inner.compile())
    outer.add_edge(START, "inner")
    return outer.compile(checkpointer=saver)


async def test_an_interrupt_outlives_pruning_and_its_process(store_factory: StoreFactory) -> None:
    """Asked in a subgraph, by one saver, and answered by another one, awaited."""
    store = store_factory()
    asked = asking_graph(WaypostSaver(store)).invoke({"answer": ""}, config())
    assert asked["__interrupt__"][0].value == "well?"
    saver = WaypostSaver(store)
    saver.prune(["t"])
    assert (await asking_graph(saver).ainvoke(Command(resume="yes"), config()))["answer"] == "yes"
    assert asking_graph(saver).get_state(config()).next == ()


def test_two_graphs_on_one_thread_are_told_apart(store: Store) -> None:
    """The second one to write behind the same checkpoint fails, and nothing of the first is lost."""
    first, second = delta_graph(WaypostSaver(store)), delta_graph(WaypostSaver(store))
    first.invoke({"turn": 0, "log": []}, config())
    saver = second.checkpointer
    tried: list[object] = []
    put = saver.put

    def late(*args: Any) -> Any:
        if not tried:
            tried.append(None)
            first.invoke({"turn": 1, "log": ["of the first"]}, config())
        return put(*args)

    saver.put = late
    with pytest.raises(VersionConflict):
        second.invoke({"turn": 2, "log": ["of the second"]}, config(), durability="sync")
    assert first.get_state(config()).values["log"] == ["step 0", "of the first", "step 1"]
    second.invoke({"turn": 2, "log": ["of the second"]}, config(), durability="sync")
    assert first.get_state(config()).values["log"][-2:] == ["of the second", "step 2"]


def test_a_state_is_forked_copied_and_updated_as_in_memory(saver: WaypostSaver) -> None:
    """By hand: `update_state` behind the newest, behind an earlier one, and of a copy."""
    graphs = delta_graph(saver), delta_graph(InMemorySaver())
    told: list[Any] = []
    for graph in graphs:
        graph.invoke({"turn": 0, "log": ["a"]}, config())
        graph.update_state(config(), {"log": ["by hand"]})
        history = list(graph.get_state_history(config()))
        graph.update_state(history[1].config, {"log": ["fork"]})
        graph.invoke(None, graph.update_state(history[1].config, None, as_node="__copy__"))
        told.append(
            [
                (each.values, each.metadata["source"], each.metadata["step"])
                for each in graph.get_state_history(config())
            ]
        )
    assert told[0] == told[1]


# --- killed, and damaged ---

WRITER = """
import sys
from tests.adapters.support import checkpoint, config
from waypost.adapters.langgraph import WaypostSaver
with WaypostSaver.open(sys.argv[1]) as saver:
    at = saver.get_tuple(config())
    number = 0 if at is None else at.metadata["step"] + 1
    at = config() if at is None else at.config
    while True:
        made = checkpoint({"n": number, "text": "x" * 300}, {"n": number + 1, "text": 1}, number)
        at = saver.put(at, made, {"source": "loop", "step": number, "parents": {}}, {"n": number + 1})
        print(number, flush=True)
        saver.put_writes(at, [("n", number), ("text", "y")], f"task-{number}")
        print(number, flush=True)
        number += 1
"""


def test_what_was_acknowledged_outlives_kill_9(tmp_path: Path) -> None:
    """Killed between writes, again and again: each checkpoint and write that was told is there, whole, and no half."""
    place, saved, written = str(tmp_path / "store"), -1, set[int]()
    for _ in range(3):
        command = [sys.executable, "-c", WRITER, place]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as child:
            assert child.stdout is not None
            told = [int(child.stdout.readline()) for _ in range(15)]
            child.kill()
            told += [int(line) for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        assert told[0] == saved + 1
        # the first line of a number tells of its checkpoint, the second one of its writes
        written |= {number for number in told if told.count(number) == 2}
        with WaypostSaver.open(place) as saver:
            found = list(saver.list(config()))
            saved = len(found) - 1
            assert saved in (told[-1], told[-1] + 1)
            assert [each.checkpoint["channel_values"]["n"] for each in found] == list(range(saved, -1, -1))
            pending = {each.metadata["step"]: each.pending_writes for each in found}
            assert [number for number in written if len(pending[number] or ()) != 2] == []
            assert {len(each or ()) for each in pending.values()} <= {0, 2}
            assert [each for each in saver._store.verify().findings if each.severity != "note"] == []


def test_damaged_bytes_are_refused_with_their_place(tmp_path: Path) -> None:
    """A flipped byte is no other value; `verify` finds it, other threads are as they were."""
    place = tmp_path / "store"
    with WaypostSaver.open(place) as saver:
        fill(saver, 30, "t")
        fill(saver, 3, "whole")
    file = place / "threads" / "langgraph_2ft.thread"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)
    with WaypostSaver.open(place) as saver:
        assert len(ids(saver.list(config("whole")))) == 3
        with pytest.raises(DocumentDamaged) as caught:
            list(saver.list(config("t")))
        assert caught.value.file.endswith("langgraph_2ft.thread") and caught.value.offset is not None
        assert any("langgraph_2ft" in each.file for each in saver._store.verify().findings)


# --- the store's own tools ---


def fill_apart(saver: WaypostSaver, start: int, end: int) -> None:
    """Go on behind the newest checkpoint."""
    for number in range(start, end):
        found = saver.get_tuple(config())
        assert found is not None
        made = checkpoint({"n": number, "text": "x" * 500}, {"n": number, "text": number}, number)
        metadata: Any = {"source": "loop", "step": number, "parents": {}}
        saver.put(found.config, made, metadata, {"n": number, "text": number})


def test_threads_are_backed_up_restored_synced_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all their pages; two sides that went on apart are a conflict, and lines that only went on are not."""
    monkeypatch.setattr("waypost.adapters.langgraph.writing.PAGE_BYTES", 8 * 1024)
    locations = [str(tmp_path / name) for name in ("one", "two")]
    stores = [open_store(each, make_config()) for each in locations]
    one, two = map(WaypostSaver, stores)
    handle, other = (Waypost(Definitions(each, make_config(), verbose=False)) for each in stores)
    at = fill(one, 60)[-1]
    told = [each.checkpoint for each in one.list(config())]
    assert handle.sync(other).unwrap().failures == []
    assert [each.checkpoint for each in two.list(config())] == told and len(told) == 60
    two.put(at, checkpoint({"n": 1}, {"n": 1}, 70), {"source": "loop", "step": 70, "parents": {}}, {"n": 1})
    report = handle.sync(other).unwrap()
    assert [each.action for each in report.documents] == ["taken"] and ids(one.list(config(), limit=1)) == ["00000070"]
    # what both sides put behind the same checkpoint is a conflict; resolved, both have both
    for saver, number in ((one, 80), (two, 90)):
        at = saver.get_tuple(config()).config  # pyright: ignore[reportOptionalMemberAccess]
        made = checkpoint({"n": number}, {"n": number}, number)
        saver.put(at, made, {"source": "loop", "step": number, "parents": {}}, {"n": number})
    report = handle.sync(other).unwrap()
    assert [each.part for each in report.conflicts] == ["newest "]
    assert [ids(each.list(config(), limit=1)) for each in (one, two)] == [["00000080"], ["00000090"]]
    handle.sync(other, on_conflict="last_writer_wins").unwrap()
    for each in (one, two):
        assert ids(each.list(config(), limit=2)) == ["00000090", "00000080"]
        assert each.get_tuple(config()).checkpoint["channel_values"] == {"n": 90}  # pyright: ignore[reportOptionalMemberAccess]
    # also where one of them has begun a page
    fill_apart(two, 100, 120)
    fill_apart(one, 200, 201)
    report = handle.sync(other).unwrap()
    assert [each.part for each in report.conflicts] == ["newest "]
    handle.sync(other, on_conflict="last_writer_wins").unwrap()
    for each in (one, two):
        assert ids(each.list(config("t", "", "00000200"))) == ["00000200"]
        assert each.get_tuple(config("t", "", "00000200")) is not None
        assert len(ids(each.list(config()))) == 63 + 21
    stores[0].backup(str(tmp_path / "backup"))
    one.delete_thread("t")
    stores[0].restore_backup(str(tmp_path / "backup"), allow_older=True)
    with WaypostSaver.open(locations[0]) as restored:
        assert len(ids(restored.list(config()))) == 84
        assert [each for each in restored._store.verify().findings if each.severity != "note"] == []
    for each in stores:
        each.close()


def test_memory_is_bounded_by_its_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a thread of three times the length takes more of memory is nothing, once what may be held is held."""
    monkeypatch.setattr("waypost.adapters.langgraph.writing.PAGE_BYTES", 32 * 1024)
    monkeypatch.setattr("waypost.adapters.langgraph.saver._MOST_GIVEN", 100)
    options = {"performance": {"max_memory_usage": 1}, "reliability": {"enable_wal": False}}
    with WaypostSaver.open(tmp_path / "store", config=options) as saver:
        made = fill(saver, 300, size=1000)
        tracemalloc.start()
        try:
            held: list[int] = []
            at = made[-1]
            for number in range(300, 1300):
                values, versions = {"text": f"{number:05d}" * 200}, {"text": number}
                metadata: Any = {"source": "loop", "step": number, "parents": {}}
                at = saver.put(at, checkpoint(values, versions, number), metadata, versions)
                if number % 250 == 249:
                    assert sum(1 for _ in saver.list(config(), before=made[200])) == 200
                    held.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    assert held[-1] - held[1] < 600 * 1024, held  # 500 checkpoints hold that much as they are
