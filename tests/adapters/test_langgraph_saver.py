"""LangGraph's checkpointer: what the public suite does not ask."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from tests.adapters.support import checkpoint, config, fill, ids
from tests.conftest import StoreFactory
from waypost.adapters.langgraph import WaypostSaver, building, naming, pages
from waypost.blocking import Waypost
from waypost.errors import InvalidId, InvalidInput, InvalidValue, Refused, StoreClosed, VersionConflict, WaypostError
from waypost.store import Store

LOOP: Any = {"source": "loop", "step": 0, "parents": {}}


@pytest.fixture
def saver(store: Store) -> WaypostSaver:
    return WaypostSaver(store)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of some twenty checkpoints."""
    monkeypatch.setattr("waypost.adapters.langgraph.writing.PAGE_BYTES", 16 * 1024)


def versions_of(store: Store) -> int:
    """How many commits there are."""
    return sum(store.view(naming.page(name, 0)).version for name in store.documents("thread"))


def test_a_path_is_no_store_and_the_error_says_what_is() -> None:
    """`WaypostSaver.open` opens one; what else is given has to be open."""
    with pytest.raises(InvalidInput, match="stands on an open Waypost"):
        WaypostSaver("state")  # pyright: ignore[reportArgumentType]


# --- both faces ---


async def test_each_method_has_an_asynchronous_twin_that_does_the_same(store_factory: StoreFactory) -> None:
    """What one face writes and removes, the other one reads and misses, and both tell the same."""
    one, other = WaypostSaver(store_factory()), WaypostSaver(store_factory())
    same: Callable[[Any], Any] = lambda found: [(each.checkpoint, each.metadata, each.pending_writes) for each in found]  # noqa: E731
    at, at_other = config(), config()
    for number in range(3):
        made = checkpoint({"a": [number]}, {"a": number + 1}, number)
        metadata: Any = {**LOOP, "step": number, "run_id": f"r{number}"}
        at = one.put(at, made, metadata, {"a": number + 1})
        at_other = await other.aput(at_other, made, metadata, {"a": number + 1})
        one.put_writes(at, [("a", number), ("__interrupt__", "wait")], "task", "path")
        await other.aput_writes(at_other, [("a", number), ("__interrupt__", "wait")], "task", "path")
    assert at == at_other
    told = one.get_tuple(at)
    assert told is not None and told == await one.aget_tuple(at) == await other.aget_tuple(at_other)
    assert told.pending_writes == [("task", "__interrupt__", "wait"), ("task", "a", 2)]
    listed = list(one.list(config(), filter={"source": "loop"}, limit=2))
    assert listed == [each async for each in one.alist(config(), filter={"source": "loop"}, limit=2)]
    assert ids(listed) == ["00000002", "00000001"] and one.get(at) == told.checkpoint
    history = one.get_delta_channel_history(config=at, channels=["a"])
    assert history == await other.aget_delta_channel_history(config=at, channels=["a"])
    assert history == {"a": {"writes": [("task", "a", 1)], "seed": [1]}}
    one.copy_thread("t", "u")
    await other.acopy_thread("t", "u")
    one.delete_for_runs(["r0"])
    await other.adelete_for_runs(["r0"])
    one.prune(["u"])
    await other.aprune(["u"])
    assert same(one.list(None)) == [item for each in [other.alist(None)] async for item in _same(each)]
    assert ids(one.list(config())) == ["00000002", "00000001"] and ids(one.list(config("u"))) == ["00000002"]
    one.delete_thread("t")
    await other.adelete_thread("t")
    assert ids(one.list(None)) == ids([each async for each in other.alist(None)]) == ["00000002"]


async def _same(found: Any) -> Any:
    async for each in found:
        yield each.checkpoint, each.metadata, each.pending_writes


def test_it_is_opened_and_closed_by_itself_or_stands_on_what_is_open(tmp_path: Any, wp: Waypost) -> None:
    """`open` gives a saver that closes its store; one over a handle leaves that open."""
    with WaypostSaver.open(tmp_path / "store") as saver:
        fill(saver, 1)
    with pytest.raises(StoreClosed):
        saver.get_tuple(config())
    with WaypostSaver.open(tmp_path / "store") as saver:
        assert saver.get_tuple(config()) is not None
    with WaypostSaver(wp) as saver:
        fill(saver, 1)
    assert WaypostSaver(wp).get_tuple(config()) is not None


def test_the_core_does_not_import_it_and_its_absence_is_told() -> None:
    """Without the framework its import names the extra, and Waypost works as ever."""
    code = """
import sys
sys.modules["langgraph"] = None
sys.modules["langgraph.checkpoint"] = None
import waypost, waypost.cli
wp = waypost.open("memory:")
wp.create_workflow("w", "W").unwrap()
try:
    import waypost.adapters.langgraph
except ImportError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == (
        "waypost.adapters.langgraph needs the package langgraph-checkpoint: pip install 'waypost[langgraph]'\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", "import sys, waypost, waypost.cli; print([m for m in sys.modules if 'lang' in m])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "[]\n"


async def test_no_method_blocks_the_event_loop(store: Store, saver: WaypostSaver) -> None:
    """While the store takes its time, the loop goes on; a change is handed in, and never waited for in the loop."""
    at = fill(saver, 2)[-1]
    go_on = threading.Event()
    view, submit = store.view, store.submit
    waits = store.durability != "none"  # what is in memory is at hand

    def slow(*args: Any, **kwargs: Any) -> Any:
        assert not waits or go_on.wait(30)
        return view(*args, **kwargs)

    def handed_in(change: Any, on_done: Any = None) -> Any:
        assert on_done is not None
        return submit(change, on_done)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "view", slow)
        patch.setattr(store, "submit", handed_in)
        calls = [
            asyncio.ensure_future(each)
            for each in (
                saver.aget_tuple(config()),
                _first(saver.alist(config())),
                saver.aput_writes(at, [("a", 1)], "task"),
                saver.aput(at, checkpoint({"a": 1}, {"a": 1}, 7), LOOP, {"a": 1}),
            )
        ]
        for _ in range(3):
            await asyncio.sleep(0)
        go_on.set()
        found = await asyncio.gather(*calls)
    assert found[0] is not None and found[3]["configurable"]["checkpoint_id"] == "00000007"


async def _first(found: Any) -> Any:
    return await anext(found)


# --- what a put costs ---


def test_a_put_is_one_commit_and_one_sync(tmp_path: Any) -> None:
    """So is what is written of a task, and the first put of a thread has only the making of its log besides."""
    with WaypostSaver.open(tmp_path / "store") as saver:
        store: Any = saver._store
        at = fill(saver, 3)[-1]
        costs: list[Any] = []
        submit = store.submit

        def counted(change: Any, on_done: Any = None) -> Any:
            ticket = submit(change, on_done)
            costs.append(ticket.result())
            return ticket

        store.submit = counted
        saver.put(at, checkpoint({"a": 1}, {"a": 1}, 7), LOOP, {"a": 1})
        saver.put_writes(at, [("a", 1), ("b", 2)], "task")
        assert [(each.version, each.counters.syncs) for each in costs] == [(4, 1), (5, 1)]


def test_a_channel_that_did_not_change_is_not_written_again(store: Store, saver: WaypostSaver) -> None:
    """What a put writes does not depend on how large the channels are that it leaves alone; each is read back."""
    large = "x" * 100_000
    at = saver.put(config(), checkpoint({"large": large, "n": 0}, {"large": 1, "n": 1}, 0), LOOP, {"large": 1, "n": 1})
    document = naming.page("langgraph/t", 0)
    before = store.view(document).size_bytes
    for number in range(1, 4):
        values = {"large": large, "n": number}
        made = checkpoint(values, {"large": 1, "n": number + 1}, number)
        at = saver.put(at, made, LOOP, {"n": number + 1})
        found = saver.get_tuple(at)
        assert found is not None and found.checkpoint["channel_values"] == values
    assert store.view(document).size_bytes - before < 3 * 1500
    # nor is one that is the same as an earlier one, whatever its version
    saver.put(at, checkpoint({"large": large}, {"large": 2}, 9), LOOP, {"large": 2})
    assert store.view(document).size_bytes - before < 4 * 1500


def test_no_more_than_a_page_is_held_whatever_the_length_of_the_thread(
    store: Store, saver: WaypostSaver, small_pages: None
) -> None:
    """Pages are bounded, and grow in number; each has the values of its checkpoints."""
    fill(saver, 300)
    found = pages.Pages(store).look("langgraph/t").rows
    assert len(found) > 8
    sizes = [store.view(naming.page("langgraph/t", row.number)).size_bytes for row in found]
    assert max(sizes) < 2 * 16 * 1024 + 100 * len(found)  # the head lists the others
    values = [each.checkpoint["channel_values"] for each in saver.list(config())]
    assert [each["step"] for each in values] == list(range(299, -1, -1))
    assert {each["same"] for each in values} == {"never changed"}


# --- many ---


def test_lists_go_through_all_pages_lazily(saver: WaypostSaver, small_pages: None, monkeypatch: Any) -> None:
    """The newest come first, across more than 1,024 checkpoints and both namespaces; no page is read in vain."""
    monkeypatch.setattr("waypost.adapters.langgraph.writing.PAGE_BYTES", 128 * 1024)
    made = fill(saver, 1100, size=5, first={"seed": ["of the first"]})
    for number in (0, 1050):
        saver.put_writes(made[number], [("seed", number)], "task")
    fill(saver, 3, namespace="child:1")
    assert ids(saver.list(config(), limit=3)) == ["00001099", "00001098", "00001097"]
    assert ids(saver.list(config(), before=made[2])) == ["00000001", "00000000"]
    assert ids(saver.list(config(), filter={"step": 5})) == ["00000005"]
    assert ids(saver.list(config(checkpoint_id="00000007"))) == ["00000007"]
    everything: Any = {"configurable": {"thread_id": "t"}}
    assert ids(saver.list(everything, before=made[2])) == ["00000001", "00000001", "00000000", "00000000"]
    assert len(ids(saver.list(everything))) == 1103
    seen: list[str] = []
    view = saver._pages.view
    monkeypatch.setattr(saver._pages, "view", lambda name, number: seen.append(name) or view(name, number))
    assert next(iter(saver.list(config()))).metadata["step"] == 1099 and len(seen) < 4
    # the seed of a delta channel may be 1,099 ancestors away
    history = saver.get_delta_channel_history(config=made[-1], channels=["absent", "seed"])
    assert history == {
        "absent": {"writes": []},
        "seed": {"writes": [("task", "seed", 0), ("task", "seed", 1050)], "seed": ["of the first"]},
    }


def test_all_threads_are_listed_by_the_order_of_ids(saver: WaypostSaver, monkeypatch: Any) -> None:
    """Also where there are more threads than are gone through side by side."""
    monkeypatch.setattr("waypost.adapters.langgraph.reading._MOST_OPEN", 2)
    for number in range(24):
        thread_id = f"t{number % 6}"
        saver.put(config(thread_id), checkpoint({}, {}, number), LOOP, {})
    saver.put(config("t3", "child:1"), checkpoint({}, {}, 9), LOOP, {})
    found = list(saver.list(None))
    assert ids(found) == [f"{number:08d}" for number in sorted([*range(24), 9], reverse=True)]
    assert {each.config["configurable"]["thread_id"] for each in found} == {f"t{number}" for number in range(6)}
    assert ids(saver.list(None, before=config(checkpoint_id="00000002"))) == ["00000001", "00000000"]
    assert ids(saver.list(None, limit=0)) == []


def test_a_list_of_all_threads_goes_on_behind_any_number_that_were_removed(saver: WaypostSaver) -> None:
    for number in range(1200):
        saver.put(config(f"t{number}"), checkpoint({}, {}, number), LOOP, {})
    going = saver.list(None)
    assert ids([next(going)]) == ["00001199"]
    for number in range(1, 1199):
        saver._store.submit(
            pages.change(naming.page(naming.name_of(f"t{number}"), 0), "clear", lambda tx: tx.clear())
        ).result()
    assert ids(going) == ["00000000"]


def test_namespaces_that_come_and_go_are_found_in_their_pages(saver: WaypostSaver, small_pages: None) -> None:
    """One that was last written to many pages ago has its newest checkpoint; one that never was has none."""
    saver.put(config("t", "early:1"), checkpoint({"a": 1}, {"a": 1}, 0), LOOP, {"a": 1})
    fill(saver, 60)
    saver.put(config("t", "middle:1"), checkpoint({"a": 2}, {"a": 1}, 60), LOOP, {"a": 1})
    at = config(checkpoint_id="00000059")
    for number in range(100, 300):
        at = saver.put(at, checkpoint({"a": number, "b": "b" * 500}, {"a": number, "b": number}, number), LOOP, {})
    assert len(saver._pages.look("langgraph/t")) > 5
    for namespace, expected in (("early:1", 1), ("middle:1", 2), ("", 299)):
        found = saver.get_tuple(config("t", namespace))
        assert found is not None and found.checkpoint["channel_values"]["a"] == expected
    assert saver.get_tuple(config("t", "never:1")) is None
    # one that comes late into a page that was sealed long ago
    saver.put(config("t", "late:1"), checkpoint({"a": 3}, {"a": 1}, 61), LOOP, {"a": 1})
    found = saver.get_tuple(config("t", "late:1"))
    assert found is not None and found.checkpoint["channel_values"] == {"a": 3}


# --- two writers ---


def test_two_writers_lose_nothing_and_the_later_one_is_told(store: Store, saver: WaypostSaver) -> None:
    """Both read the same newest checkpoint; the second is refused, with both ids, and may go on from the first's."""
    fill(saver, 2)
    other = WaypostSaver(store)
    for each in (saver, other):
        assert each.get_tuple(config()) is not None
    at = config(checkpoint_id="00000001")
    saver.put(at, checkpoint({"who": "saver"}, {"who": 1}, 10), LOOP, {"who": 1})
    before = store.view(naming.page("langgraph/t", 0)).commit_id
    with pytest.raises(
        VersionConflict, match=r"read checkpoint 00000001 as the newest.* another put 00000010"
    ) as caught:
        other.put(at, checkpoint({"who": "other"}, {"who": 1}, 11), LOOP, {"who": 1})
    assert caught.value.retryable and caught.value.details["newest"] == "00000010"
    assert store.view(naming.page("langgraph/t", 0)).commit_id == before
    found = other.get_tuple(config())
    assert found is not None and found.checkpoint["channel_values"] == {"who": "saver"}
    other.put(found.config, checkpoint({"who": "both"}, {"who": 2}, 12), LOOP, {"who": 2})
    assert ids(saver.list(config())) == ["00000012", "00000010", "00000001", "00000000"]


def test_two_calls_of_one_saver_are_two_writers(saver: WaypostSaver) -> None:
    """As when a graph is invoked twice on one thread at once."""
    assert saver.get_tuple(config()) is None
    saver.put(config(), checkpoint({"a": 1}, {"a": 1}, 1), LOOP, {"a": 1})
    with pytest.raises(VersionConflict, match="read that there was no checkpoint"):
        saver.put(config(), checkpoint({"a": 2}, {"a": 1}, 2), LOOP, {"a": 1})


WRITER = """
import sys
from tests.adapters.support import checkpoint, config
from waypost.adapters.langgraph import WaypostSaver
from waypost.errors import VersionConflict
conflicts = 0
with WaypostSaver.open(sys.argv[1]) as saver:
    sys.stdin.readline()
    for number in range(25):
        while True:
            at = saver.get_tuple(config())
            values = [] if at is None else at.checkpoint["channel_values"]["log"]
            made = checkpoint({"log": [*values, f"{sys.argv[2]}{number}"]}, {"log": len(values) + 1})
            try:
                saver.put(config() if at is None else at.config, made, {"source": "loop", "step": 0, "parents": {}},
                          {"log": len(values) + 1})
                break
            except VersionConflict:
                conflicts += 1
print(conflicts)
"""


def test_processes_that_write_one_thread_lose_nothing(tmp_path: Any) -> None:
    """Each goes on from what the other wrote: in the end there is one line, with all that was acknowledged in it."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "store")]
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    writers = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
        for name in "ab"
    ]
    for each in writers:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    assert [each.communicate()[1] for each in writers] == [None, None] and {each.returncode for each in writers} == {0}
    with WaypostSaver.open(tmp_path / "store") as saver:
        found = list(saver.list(config()))
    log = found[0].checkpoint["channel_values"]["log"]
    assert len(found) == len(log) == 50
    assert [each for each in log if each[0] == "a"] == [f"a{number}" for number in range(25)]
    parents = [each.parent_config and each.parent_config["configurable"]["checkpoint_id"] for each in found]
    assert parents == [*ids(found)[1:], None]


def test_forks_are_no_conflicts(saver: WaypostSaver) -> None:
    """From a checkpoint that was asked for by its id, and of what says that it is a fork."""
    first, last = fill(saver, 3)[::2]
    assert saver.get_tuple(config()) is not None and saver.get_tuple(first) is not None
    made = saver.put(first, checkpoint({"a": 1}, {"a": 1}, 7), LOOP, {"a": 1})
    saver.put(last, checkpoint({"a": 2}, {"a": 1}, 8), {**LOOP, "source": "fork"}, {"a": 1})
    found = saver.get_tuple(made)
    assert found is not None and found.parent_config == first


def test_a_writer_whose_clock_is_behind_is_told(saver: WaypostSaver) -> None:
    """What it puts would sort before what it follows, and never be the newest."""
    at = fill(saver, 3)[-1]
    with pytest.raises(VersionConflict, match="the clock here is behind"):
        saver.put(at, checkpoint({"a": 1}, {"a": 1}, 1) | {"id": "00000001x"}, LOOP, {"a": 1})


class Masking:
    """As little of a cipher as is needed: its bytes are others each time."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        mask = os.urandom(1)
        return "masking", mask + bytes(byte ^ mask[0] for byte in plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        assert ciphername == "masking"
        return bytes(byte ^ ciphertext[0] for byte in ciphertext[1:])


def test_a_writer_behind_a_page_that_another_began_is_told(
    store: Store, saver: WaypostSaver, small_pages: None
) -> None:
    """Its checkpoint would come between what it read and what the other one put, into the page before."""
    last = fill(saver, 30)[-1]
    other = WaypostSaver(store)
    assert other.get_tuple(config()) is not None
    at = last
    for number in range(200, 260):  # begins pages
        made = checkpoint({"n": number, "text": "x" * 900}, {"n": number, "text": number}, number)
        at = saver.put(at, made, LOOP, {"n": number, "text": number})
    with pytest.raises(VersionConflict, match="another put 00000259"):
        other.put(last, checkpoint({"n": 1}, {"n": 1}, 100), LOOP, {"n": 1})
    assert other.get_tuple(config()) is not None
    saver.delete_thread("t")
    with pytest.raises(VersionConflict, match="meanwhile it was deleted"):
        other.put(at, checkpoint({"n": 1}, {"n": 1}, 300), LOOP, {"n": 1})
    assert ids(saver.list(config())) == []


def test_what_a_parent_no_longer_has_is_taken_from_what_is_given(
    store: Store, saver: WaypostSaver, small_pages: None
) -> None:
    """A channel that did not change has its value also where the parent was pruned, or its page is another one."""
    made = fill(saver, 60)
    saver.prune(["t"])
    values = {"step": 10, "text": "x", "same": "never changed"}
    at = WaypostSaver(store).put(
        made[10], checkpoint(values, {"step": 11, "text": 99, "same": 1}, 500), LOOP, {"text": 99}
    )
    found = saver.get_tuple(at)
    assert found is not None and found.checkpoint["channel_values"] == values


@pytest.mark.parametrize("is_sealed", [False, True])
def test_the_same_id_is_a_repetition_or_a_conflict(store: Store, is_sealed: bool) -> None:
    """By its content and not its bytes, which a cipher makes anew each time."""
    saver = WaypostSaver(store, serde=EncryptedSerializer(Masking()) if is_sealed else None)
    made = checkpoint({"a": [1, 2]}, {"a": 1}, 1)
    at = saver.put(config(), made, LOOP, {"a": 1})
    version = store.view(naming.page("langgraph/t", 0)).version
    assert saver.put(config(), made, LOOP, {"a": 1}) == at
    assert store.view(naming.page("langgraph/t", 0)).version == version
    for other in (checkpoint({"a": [1, 3]}, {"a": 1}, 1), checkpoint({"a": [1, 2]}, {"a": 2}, 1)):
        with pytest.raises(VersionConflict, match="has another checkpoint 00000001"):
            saver.put(config(), other, LOOP, {"a": 1})
    found = saver.get_tuple(at)
    assert found is not None and found.checkpoint["channel_values"] == {"a": [1, 2]}


def test_writes_are_kept_or_replaced_as_the_interface_says(saver: WaypostSaver) -> None:
    """The first of a task and index stays, special channels take the last; the order is that of paths."""
    at = fill(saver, 1)[0]
    saver.put_writes(at, [("a", 1), ("b", 2)], "task", "z")
    saver.put_writes(at, [("a", 3), ("b", 4), ("c", 5)], "task", "z")
    saver.put_writes(at, [("__resume__", 1)], "task", "y")
    saver.put_writes(at, [("__resume__", 2)], "task", "y")
    saver.put_writes(at, [("a", 9)], "zzz", "a")
    found = saver.get_tuple(at)
    assert found is not None and found.pending_writes == [
        ("zzz", "a", 9),
        ("task", "__resume__", 2),
        ("task", "a", 1),
        ("task", "b", 2),
        ("task", "c", 5),
    ]


def test_writes_may_come_before_their_checkpoint(saver: WaypostSaver, small_pages: None) -> None:
    """And are with it also when it would have begun a page."""
    fill(saver, 40)
    saver.put_writes(config(checkpoint_id="00000500"), [("a", 1)], "task")
    for number in range(400, 440):
        made = checkpoint({"a": number, "text": "x" * 900}, {"a": number, "text": number}, number)
        saver.put(config(), made, LOOP, {"a": number, "text": number})
    saver.put(config(), checkpoint({"a": 1}, {"a": 1}, 500), LOOP, {"a": 1})
    found = saver.get_tuple(config())
    assert found is not None and found.pending_writes == [("task", "a", 1)]


# --- what is given ---


@pytest.mark.parametrize(
    "thread_id",
    [
        "",
        ".",
        "..",
        "/",
        "../../etc/passwd",
        "a/1",
        "~",
        "nul",
        "x\0y",
        "a\x1fb",
        "t" * 10_000,
        "Ünïcode ☃",
        "T",
        7,
        uuid.UUID(int=5),
        "'; DROP TABLE checkpoints; --",
        "\u202eevil",
        "a\nb",
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_any_text_is_a_thread_id_and_reaches_no_other_thread(saver: WaypostSaver, thread_id: Any) -> None:
    """It is written, found, listed, copied and deleted like any other."""
    fill(saver, 1, "t")
    at = saver.put(config(thread_id), checkpoint({"a": 1}, {"a": 1}, 1), LOOP, {"a": 1})
    assert at["configurable"]["thread_id"] == str(thread_id)
    saver.put_writes(at, [("a", 1)], "task")
    found = saver.get_tuple(config(thread_id))
    assert found is not None and found.checkpoint["channel_values"] == {"a": 1}
    assert ids(saver.list(config(thread_id))) == ["00000001"] and len(ids(saver.list(None))) == 2
    saver.copy_thread(thread_id, f"copy of {thread_id}")
    saver.delete_thread(thread_id)
    assert ids(saver.list(config(thread_id))) == [] and ids(saver.list(config(f"copy of {thread_id}"))) == ["00000001"]
    saver.put(config(thread_id), checkpoint({"a": 2}, {"a": 1}, 0), {**LOOP, "source": "fork"}, {"a": 1})
    found = saver.get_tuple(config(thread_id))
    assert found is not None and found.checkpoint["channel_values"] == {"a": 2} and found.pending_writes == []
    assert ids(saver.list(config("t"))) == ["00000000"]


BAD: list[tuple[Callable[[WaypostSaver], Any], type[WaypostError], str]] = [
    (lambda saver: saver.get_tuple({"configurable": {}}), InvalidInput, "configurable.thread_id"),
    (lambda saver: saver.get_tuple({}), InvalidInput, "configurable.thread_id"),
    (lambda saver: saver.get_tuple(config("\ud800")), InvalidId, "lone surrogate.* at 0"),
    (lambda saver: saver.get_tuple(config(b"x")), InvalidId, "not bytes"),
    (lambda saver: saver.get_tuple(config("t", "\udfff")), InvalidId, "namespace"),
    (lambda saver: saver.get_tuple(config("t", "", "a\x1fb")), InvalidId, "control character"),
    (lambda saver: saver.get_tuple(config("t", "", "x" * 300)), InvalidId, "1 to 256 bytes"),
    (lambda saver: saver.delete_thread("\ud800"), InvalidId, "thread id"),
    (lambda saver: saver.prune(["t"], strategy="all"), InvalidInput, "keep_latest or delete"),
    (lambda saver: saver.put_writes(config(), [("a", 1)], "task"), InvalidInput, "checkpoint_id is missing"),
    (
        lambda saver: saver.put(config(), checkpoint({"a": 1, "b": object()}, {"a": 1, "b": 1}), LOOP, {"b": 1}),
        InvalidValue,
        "channel_values.b cannot be stored",
    ),
    (
        lambda saver: saver.put(config(), checkpoint({}, {}), {**LOOP, "x": object()}, {}),  # type: ignore[typeddict-unknown-key]
        InvalidValue,
        "metadata cannot be stored",
    ),
    (
        lambda saver: saver.put(config(), checkpoint({}, {"a": [1]}), LOOP, {}),
        InvalidInput,
        "channel_versions.a is a number or a text",
    ),
    (
        lambda saver: saver.put_writes(config(checkpoint_id="1"), [("a", 1), ("b", object())], "task"),
        InvalidValue,
        r"writes\[1\].b cannot be stored",
    ),
    (lambda saver: saver.get_next_version("x", None), InvalidInput, "no version"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_what_cannot_be_taken_is_refused_and_nothing_is_written(store: Store, saver: WaypostSaver, number: int) -> None:
    """The error says what and where."""
    call, kind, text = BAD[number]
    with pytest.raises(kind, match=text):
        call(saver)
    assert versions_of(store) == 0


def test_versions_of_channels_go_on_from_those_of_other_savers() -> None:
    """Numbers of its own, and texts that sort behind those that others made."""
    saver, other = WaypostSaver.open("memory:"), InMemorySaver()
    assert saver.get_next_version(None, None) == 1 and saver.get_next_version(4, None) == 5
    current = other.get_next_version(None, None)
    for _ in range(12):
        following = saver.get_next_version(current, None)
        assert following > current
        current = following
    assert other.get_next_version(current, None) > current
    saver.close()


def test_the_serializers_allow_list_is_taken_over(saver: WaypostSaver) -> None:
    """A clone stands on the same store."""
    saver.serde = JsonPlusSerializer(allowed_msgpack_modules=[("tests.adapters.support", "Something")])
    fill(saver, 1)
    clone = saver.with_allowlist([("tests.adapters.support", "Nothing")])
    assert clone is not saver and clone.get_tuple(config()) == saver.get_tuple(config())


# --- removing and copying ---


def test_a_deleted_thread_is_gone_from_the_medium(tmp_path: Any, small_pages: None) -> None:
    """From all pages and their history; the id may be used again, and others are as they were."""
    with WaypostSaver.open(tmp_path / "store") as saver:
        fill(saver, 100)
        fill(saver, 2, "other")
        secret = b"never changed"
        files = sorted((tmp_path / "store" / "threads").iterdir())
        saver.delete_thread("t")
        assert saver.get_tuple(config()) is None and ids(saver.list(None)) == ["00000001", "00000000"]
        fill(saver, 100)
        assert len(ids(saver.list(config()))) == 100
        saver.delete_thread("t")
        saver.delete_thread("t")
    assert len(files) > 4
    for file in (tmp_path / "store" / "threads").iterdir():
        assert (secret in file.read_bytes()) <= ("other" in file.name)


def test_a_thread_is_deleted_in_one_commit_wherever_that_is_cut_off(
    store: Store, saver: WaypostSaver, small_pages: None, monkeypatch: Any
) -> None:
    """What is left then is invisible, and goes with the next deletion; no late writer writes into it."""
    fill(saver, 100)
    late = WaypostSaver(store)
    at = late.get_tuple(config())
    assert at is not None
    monkeypatch.setattr("waypost.adapters.langgraph.removing.clear_leaving", _cut_off)
    with pytest.raises(KeyboardInterrupt):
        saver.delete_thread("t")
    monkeypatch.undo()
    assert saver.get_tuple(config()) is None and ids(saver.list(None)) == []
    with pytest.raises(VersionConflict):
        late.put(at.config, checkpoint({"a": 1}, {"a": 1}, 500), LOOP, {"a": 1})
    saver.put(config(), checkpoint({"a": 1}, {"a": 1}, 501), LOOP, {"a": 1})
    assert ids(late.list(config())) == ["00000501"]
    saver.delete_thread("t")
    assert all(not list(store.view(naming.page(name, 0)).keys(naming.SAVED)) for name in store.documents("thread"))


def _cut_off(*_: object) -> None:
    raise KeyboardInterrupt


def test_pruning_keeps_what_comes_in_and_what_is_pending(store: Store, saver: WaypostSaver, small_pages: None) -> None:
    """Of each namespace the newest with its interrupts stays; values that it shares with what goes stay with it."""
    at = fill(saver, 100)[-1]
    child = fill(saver, 5, namespace="child:1")[-1]
    for each in (at, child):
        saver.put_writes(each, [("__interrupt__", "ask"), ("a", 1)], "task")
    saver.prune(["t", "missing"])
    for each in (at, child):
        found = saver.get_tuple(each)
        assert found is not None and found.checkpoint["channel_values"]["same"] == "never changed"
        assert found.pending_writes == [("task", "__interrupt__", "ask"), ("task", "a", 1)]
    assert len(ids(saver.list({"configurable": {"thread_id": "t"}}))) == 2
    at = saver.put(at, checkpoint({"same": "never changed"}, {"same": 1}, 900), LOOP, {})
    found = saver.get_tuple(at)
    assert found is not None and found.checkpoint["channel_values"] == {"same": "never changed"}
    saver.prune(["t"], strategy="delete")
    assert ids(saver.list(None)) == []


def test_a_copy_of_a_thread_that_is_deleted_meanwhile_is_not_there(
    saver: WaypostSaver, small_pages: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never the first pages of it alone."""
    fill(saver, 100)
    read = building._parts
    seen: list[object] = []

    def deleted_then(view: Any) -> Any:
        found = read(view)
        if not seen:
            saver.delete_thread("t")
        seen.append(view)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(building, "_parts", deleted_then)
        with pytest.raises(VersionConflict):
            saver.copy_thread("t", "u")
    assert len(seen) > 1 and ids(saver.list(config("u"))) == []
    saver.copy_thread("t", "u")
    assert saver.get_tuple(config("u")) is None


def test_a_thread_that_was_pruned_is_copied(saver: WaypostSaver, small_pages: None) -> None:
    """Also where nothing is left in its first page."""
    at = fill(saver, 100)[-1]
    saver.prune(["t"])
    saver.copy_thread("t", "copy")
    assert ids(saver.list(config("copy"))) == ids(saver.list(config())) == ["00000099"]
    assert saver.get_tuple(config("copy")).checkpoint == saver.get_tuple(at).checkpoint  # pyright: ignore[reportOptionalMemberAccess]


def test_a_copy_is_whole_or_is_not_there(
    store: Store, saver: WaypostSaver, small_pages: None, monkeypatch: Any
) -> None:
    """Cut off anywhere, nothing of it is seen, and it can be made then; one over other checkpoints is refused."""
    fill(saver, 100)
    written = 0
    submit = store.submit

    def fails(change: Any, on_done: Any = None) -> Any:
        nonlocal written
        written += change.operation == "langgraph.build_page"
        if written == 3 and change.operation == "langgraph.build_page":
            raise OSError("no more")
        return submit(change, on_done)

    monkeypatch.setattr(store, "submit", fails)
    with pytest.raises(OSError, match="no more"):
        saver.copy_thread("t", "u")
    monkeypatch.undo()
    monkeypatch.setattr("waypost.adapters.langgraph.writing.PAGE_BYTES", 16 * 1024)
    assert saver.get_tuple(config("u")) is None and len(ids(saver.list(None))) == 100
    saver.copy_thread("t", "u")
    assert [each.checkpoint for each in saver.list(config("u"))] == [each.checkpoint for each in saver.list(config())]
    with pytest.raises(Refused, match="'u' has checkpoints"):
        saver.copy_thread("t", "u")
    at = config("u", "", "00000099")
    for number in range(100, 140):
        made = checkpoint({"step": number, "text": "y" * 500}, {"step": number, "text": number}, number)
        at = saver.put(at, made, LOOP, {"step": number, "text": number})
    assert len(ids(saver.list(config("u")))) == 140 and len(ids(saver.list(config()))) == 100
