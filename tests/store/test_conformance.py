"""The contract of a store, over every store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.support import change, directory_store
from waypost.errors import IllegalTransition, StoreClosed
from waypost.store import DocumentId, Store, Transaction, parts
from waypost.store.memory import MemoryStore

WF = DocumentId("workflow", "wf")


@pytest.fixture(params=["memory", "directory"])
def store(request: pytest.FixtureRequest, tmp_path) -> Iterator[Store]:
    opened: Store = MemoryStore() if request.param == "memory" else directory_store(tmp_path / "store")
    yield opened
    opened.close()


def put(key: str, value: bytes) -> Callable[[Transaction], object]:
    def work(tx: Transaction) -> object:
        tx.put(key, value)
        tx.project(["part", key])
        return value

    return work


def contents(view) -> dict[str, bytes]:
    return {key: view.get(key) for key in view.keys()}


def test_a_document_that_was_never_written_is_empty(store):
    """A view of what does not exist has version 0, no parts, and the empty checksum."""
    view = store.view(WF)
    assert (view.version, list(view.keys()), view.get("a"), view.size_bytes) == (0, [], None, 0)
    assert view.checksum == parts.EMPTY_CHECKSUM
    assert list(store.documents("workflow")) == []


def test_a_change_makes_the_next_version(store):
    """Each change that changes something adds one to the version and is seen by the next view."""
    first = store.submit(change(WF, put("a", b"1"))).result()
    second = store.submit(change(WF, put("b", b"2"))).result()
    assert (first.version, second.version, second.data) == (1, 2, b"2")
    assert contents(store.view(WF)) == {"a": b"1", "b": b"2"}
    assert list(store.documents("workflow")) == ["wf"]


def test_a_change_that_changes_nothing_makes_no_version(store):
    """Putting what is there already, or removing what is not, commits nothing."""
    store.submit(change(WF, put("a", b"1"))).result()
    again = store.submit(change(WF, put("a", b"1"))).result()
    gone = store.submit(change(WF, lambda tx: tx.delete("zzz"))).result()
    assert (again.changed, gone.changed, store.view(WF).version) == (False, False, 1)


def test_a_work_that_raises_changes_nothing(store):
    """What a work staged before it raised is not there, and its ticket raises the same error."""

    def work(tx: Transaction) -> None:
        tx.put("a", b"1")
        raise IllegalTransition("no")

    with pytest.raises(IllegalTransition):
        store.submit(change(WF, work)).result()
    assert store.view(WF).version == 0


def test_reading_in_a_work_sees_its_own_changes(store):
    """A transaction shows puts, deletes and clears at once."""
    store.submit(change(WF, put("a", b"1"))).result()

    def work(tx: Transaction) -> list[object]:
        tx.put("b", b"2")
        tx.delete("a")
        seen = [tx.get("a"), tx.get("b"), tx.size_of("b"), list(tx.keys())]
        tx.clear()
        tx.put("c", b"3")
        return [*seen, list(tx.keys())]

    assert store.submit(change(WF, work)).result().data == [None, b"2", 1, ["b"], ["c"]]
    assert contents(store.view(WF)) == {"c": b"3"}


def test_a_view_never_changes(store):
    """A view taken before a commit shows the same parts after it."""
    store.submit(change(WF, put("a", b"1"))).result()
    before = store.view(WF)
    store.submit(change(WF, put("a", b"2"))).result()
    assert (before.get("a"), before.version, store.view(WF).get("a")) == (b"1", 1, b"2")


def test_an_earlier_version_can_be_seen(store):
    """`view_at` gives each version as it was, and None for those that never were."""
    for number in range(1, 8):
        store.submit(change(WF, put(f"k{number % 3}", b"%d" % number))).result()
    assert contents(store.view_at(WF, 4)) == {"k1": b"4", "k2": b"2", "k0": b"3"}
    assert store.view_at(WF, 8) is None


def test_an_operation_id_acts_once(store):
    """A repeated operation id does not run its work and leads to the version and projection of the first time."""
    once = change(WF, put("a", b"1"), operation_id="op-1", repeatable=True)
    assert store.submit(once).result().version == 1
    store.submit(change(WF, put("a", b"2"))).result()
    again = store.submit(once).result()
    assert again.repeated is not None
    assert (again.version, again.repeated.projection, store.view(WF).get("a")) == (1, ["part", "a"], b"2")
    assert store.view(WF).operation("op-1").version == 1
    assert store.view(WF).operation("other") is None


def test_an_operation_that_changed_nothing_is_remembered_when_it_may_be_repeated(store):
    """With an id of the caller's own, even a change without effect is recorded, so that its repetition has none."""
    nothing = change(WF, lambda tx: tx.delete("a"), operation_id="op-1", repeatable=True)
    assert store.submit(nothing).result().version == 1
    store.submit(change(WF, put("a", b"1"))).result()
    assert store.submit(nothing).result().repeated is not None
    assert store.view(WF).get("a") == b"1"


def test_on_done_is_called_once(store):
    """A change with `on_done` is carried out by the store, and the callback comes once, with the ticket done."""
    done: list[object] = []
    event = threading.Event()

    def finished(ticket) -> None:
        done.append(ticket.result().version)
        event.set()

    store.submit(change(WF, put("a", b"1")), finished)
    assert event.wait(20)
    assert done == [1]


def test_c11_threads_lose_no_update(store):
    """Eight threads that each add one to a counter fifty times leave four hundred."""

    def add(tx: Transaction) -> None:
        tx.put("n", b"%d" % (int(tx.get("n") or 0) + 1))

    def many() -> None:
        for _ in range(50):
            store.submit(change(WF, add)).result()

    threads = [threading.Thread(target=many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.view(WF).get("n") == b"400"


def test_a_closed_store_says_so(store):
    """After `close` every call raises StoreClosed, and closing again does nothing."""
    store.close()
    store.close()
    with pytest.raises(StoreClosed):
        store.view(WF)
    with pytest.raises(StoreClosed):
        store.submit(change(WF, put("a", b"1"))).result()


LARGE = b"large " * 1500  # more than a chunk
KEYS = st.sampled_from(["a", "b", "b\x1fc", "d/é", "z" * 300])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.binary(max_size=40) | st.just(LARGE)),
        st.tuples(st.just("delete"), KEYS, st.none()),
        st.tuples(st.just("clear"), st.none(), st.none()),
        st.tuples(st.just("reopen"), st.none(), st.none()),
        st.tuples(st.just("snapshot"), st.none(), st.none()),
        st.tuples(st.just("compact"), st.none(), st.none()),
        st.tuples(st.just("repeat"), KEYS, st.sampled_from(["op1", "op2"])),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_t10_the_directory_store_equals_the_memory_store(tmp_path_factory, steps):
    """After any series of changes, snapshots, compactions and reopenings both stores hold the same document."""
    path = tmp_path_factory.mktemp("t10") / "store"
    memory, directory = MemoryStore(), directory_store(path, chunk_size=4096)
    for action, key, value in steps:
        if action == "reopen":
            directory.close()
            directory = directory_store(path, chunk_size=4096)
        elif action in ("snapshot", "compact"):
            directory.tidy(WF, action)
        else:
            if action == "repeat":
                asked = change(WF, put(key, value.encode()), operation_id=value, repeatable=True)
            elif action == "clear":
                asked = change(WF, lambda tx: tx.clear())
            else:
                asked = change(WF, put(key, value) if action == "put" else lambda tx, key=key: tx.delete(key))
            outcomes = [each.submit(asked).result() for each in (memory, directory)]
            assert (outcomes[0].version, outcomes[0].changed) == (outcomes[1].version, outcomes[1].changed)
        expected, found = memory.view(WF), directory.view(WF)
        assert contents(found) == contents(expected)
        assert (found.version, found.size_bytes, found.checksum) == (
            expected.version,
            expected.size_bytes,
            expected.checksum,
        )
    for version in range(memory.view(WF).version + 1):
        assert contents(directory.view_at(WF, version)) == contents(memory.view_at(WF, version))
    directory.close()
    assert directory_store(path, read_only=True).verify().findings == []
