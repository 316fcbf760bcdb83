"""The directory store beside its oracle; the promises of every store are in `waypost.testing`."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.support import change, directory_store
from waypost.store import DocumentId, Transaction
from waypost.store.memory import MemoryStore

WF = DocumentId("workflow", "wf")


def put(key: str, value: bytes) -> Callable[[Transaction], object]:
    def work(tx: Transaction) -> object:
        tx.put(key, value)
        tx.project(["part", key])
        return value

    return work


def contents(view) -> dict[str, bytes]:
    return {key: view.get(key) for key in view.keys()}


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
