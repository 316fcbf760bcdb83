"""The past of a document as a log tells it, beside the oracle; what every store tells is in `waypost.testing`."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.support import TestedStore, change, directory_store, failing, putting, system_calls
from waypost import clock
from waypost.errors import DocumentDamaged, StorePoisoned
from waypost.store import Commit, DocumentId
from waypost.store.contract import JointChange
from waypost.store.directory import compaction
from waypost.store.memory import MemoryStore

WF = DocumentId("workflow", "wf")
OTHER = DocumentId("workflow", "other")
LARGE = b"large " * 1500  # more than a chunk


def told(commit: Commit) -> tuple[object, ...]:
    """What a commit says that does not differ from store to store."""
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


# --- beside the oracle ---

KEYS = st.sampled_from(["a", "b", "b\x1fc", "d/é", "z" * 300])
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.binary(max_size=40) | st.just(LARGE)),
        st.tuples(st.just("delete"), KEYS, st.none()),
        st.tuples(st.just("clear"), st.none(), st.none()),
        st.tuples(st.just("joint"), KEYS, st.binary(max_size=5)),
        st.tuples(st.sampled_from(["reopen", "snapshot", "compact"]), st.none(), st.none()),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(actions=ACTIONS, before=st.none() | st.integers(1, 12))
def test_t10_both_stores_tell_the_same_past(tmp_path_factory, actions, before):
    """After any series of changes, snapshots, compactions and reopenings both stores name the same commits."""
    path = tmp_path_factory.mktemp("past") / "store"
    memory, directory = MemoryStore(), directory_store(path, chunk_size=4096)
    for number, (action, key, value) in enumerate(actions):
        if action == "reopen":
            directory.close()
            directory = directory_store(path, chunk_size=4096)
        elif action in ("snapshot", "compact"):
            directory.tidy(WF, action)
        elif action == "joint":
            for each in (memory, directory):
                joint = each.begin()
                joint.document(WF).put(key, value + bytes([number]))
                joint.document(OTHER).put(key, value + bytes([number]))
                assert each.commit(joint, JointChange(f"op-{number}", "transact")) is not None
        else:
            work = {
                "put": lambda tx, key=key, value=value: tx.put(key, value),
                "delete": lambda tx, key=key: tx.delete(key),
                "clear": lambda tx: tx.clear(),
            }[action]
            for each in (memory, directory):
                each.submit(change(WF, work, operation_id=f"op-{number}")).result()
    expected, found = memory.past(WF), directory.past(WF)
    assert [told(each) for each in found.commits(before)] == [told(each) for each in expected.commits(before)]
    assert [each.commit_id for each in found.commits()] == [
        directory.view_at(WF, version).commit_id for version in range(found.version, 0, -1)
    ]
    directory.close()


# --- logs ---


def shortened(path: Path, monkeypatch: pytest.MonkeyPatch, commits: int, kept: int) -> TestedStore:
    """A store whose document has so many commits, of which the last `kept` are young enough to be kept."""
    store = directory_store(path, chunk_size=4096)
    now = clock.now_us()
    for number in range(1, commits + 1):
        old = number <= commits - kept
        monkeypatch.setattr(clock, "now_us", lambda old=old: now - (2 * 30 * compaction.DAY_US if old else 0))
        store.submit(putting(n=b"%d" % number, big=LARGE if number == 1 else LARGE[:-1])).result()
    monkeypatch.undo()
    return store


def test_what_was_dropped_is_told_by_its_ids(tmp_path, monkeypatch):
    """After a compaction that shortened history, the past begins with the first version that is kept; the ids of the
    others are those that they had.
    """
    store = shortened(tmp_path / "store", monkeypatch, commits=9, kept=4)
    ids = [commit.commit_id for commit in store.past(WF).commits()][::-1]
    assert store.tidy(WF, "compact")
    past = store.past(WF)
    assert (past.first, past.version) == (5, 9)
    assert [(commit.version, commit.read("n")) for commit in past.commits()] == [
        (9, b"9"), (8, b"8"), (7, b"7"), (6, b"6")
    ]  # fmt: skip
    assert [past.dropped_id(version) for version in range(1, 6)] == ids[:5]
    assert (past.start().version, past.start().get("n"), past.start().get("big")) == (5, b"5", LARGE[:-1])
    past._dropped = bytes(32) + past._dropped[32:]  # as a repair leaves it that could not tell
    assert (past.dropped_id(1), past.dropped_id(2)) == (None, ids[1])
    store.submit(putting(n=b"10")).result()
    assert [commit.version for commit in store.past(WF).commits(8)] == [7, 6]
    store.close()
    with closing(directory_store(tmp_path / "store", read_only=True)) as reader:
        assert [commit.version for commit in reader.past(WF).commits()] == [10, 9, 8, 7, 6]


def test_c06_a_compaction_leaves_a_past_that_is_being_read_alone(tmp_path, monkeypatch):
    """Commits are read on from the file that was open when another handle compacts the log and drops them."""
    store = shortened(tmp_path / "store", monkeypatch, commits=9, kept=4)
    other = directory_store(tmp_path / "store", chunk_size=4096)
    other.submit(putting(n=b"10")).result()
    past = store.past(WF)
    commits = past.commits()
    assert next(commits).version == 10
    assert other.tidy(WF, "compact")
    other.submit(putting(n=b"11")).result()
    assert [(commit.version, commit.read("n")) for commit in commits] == [(n, b"%d" % n) for n in range(9, 0, -1)]
    assert (past.first, store.past(WF).first, store.past(WF).version) == (0, 5, 11)
    other.close()
    store.close()


def test_c06_what_others_commit_is_in_the_past_and_what_no_sync_covers_is_not(tmp_path):
    """A past reaches to the version that a durable view shows, whoever committed it."""
    store, other = (directory_store(tmp_path / "store") for _ in range(2))
    for number in range(4):
        (store, other)[number % 2].submit(putting(n=b"%d" % number)).result()
    assert [commit.version for commit in store.past(WF).commits()] == [4, 3, 2, 1]
    seen = store.view(WF)
    other.submit(putting(n=b"late")).result()
    store.view = lambda document: seen  # as if that had come behind the look at the newest version
    assert [commit.version for commit in store.past(WF).commits()] == [4, 3, 2, 1]
    del store.view
    other.close()
    store.close()


def test_d12_a_decision_that_waits_is_in_the_past(tmp_path, monkeypatch):
    """A commit over several documents that was decided and is not carried out yet is told like any other."""
    from waypost.store.directory import joint as joint_module

    store = directory_store(tmp_path / "store")
    store.submit(putting(a=b"1")).result()
    staged = store.begin()
    staged.document(WF).put("a", b"2")
    staged.document(OTHER).put("b", b"2")

    class Cut(BaseException):
        """Ends the commit behind its decision."""

    def cut(*_: object, **__: object) -> None:
        raise Cut

    monkeypatch.setattr(joint_module, "_append", cut)
    with pytest.raises(Cut):
        store.commit(staged, JointChange("op-j", "transact"))
    monkeypatch.undo()
    with closing(directory_store(tmp_path / "store", read_only=True)) as reader:
        assert [(each.version, each.joint is not None) for each in reader.past(WF).commits()] == [(2, True), (1, False)]
        assert [each.read("b") for each in reader.past(OTHER).commits()] == [b"2"]
    store.close()


def test_d07_damage_is_told_and_no_commit_is_passed_over(tmp_path):
    """A byte that changed in an old commit makes the past fail with the document's damage, never shorter."""
    store = directory_store(tmp_path / "store")
    for number in range(300):
        store.submit(putting(n=b"%d" % number)).result()
    store.tidy(WF, "snapshot")
    store.close()
    file = next((tmp_path / "store" / "workflows").iterdir())
    data = bytearray(file.read_bytes())
    place = data.index(b"WPF\x01", 3000)
    data[place + 60] ^= 1
    file.write_bytes(data)
    with closing(directory_store(tmp_path / "store", read_only=True)) as reader:
        assert reader.view(WF).version == 300  # it stands on the snapshot
        with pytest.raises(DocumentDamaged) as told_of:
            list(reader.past(WF).commits())
        assert told_of.value.offset is not None and told_of.value.offset <= place


def test_d23_what_a_failed_sync_may_have_lost_is_not_told(tmp_path):
    """The past of a document whose sync failed ends with what is known to be on disk, as its view does."""
    store = directory_store(tmp_path / "store")
    store.submit(putting(n=b"1")).result()
    with system_calls() as calls:
        calls.fault = failing("fdatasync", 1)
        with pytest.raises(StorePoisoned):
            store.submit(putting(n=b"2")).result()
    assert [commit.version for commit in store.past(WF).commits()] == [store.view(WF).version] == [1]
    store.close()


def test_a_log_that_holds_nothing_yet_has_no_past(tmp_path):
    """A file that was just made, by a process that is about to write to it or died, is no damage."""
    store = directory_store(tmp_path / "store")
    store.submit(change(OTHER, lambda tx: tx.put("a", b"1"))).result()
    (tmp_path / "store" / "workflows" / "wf.state").write_bytes(b"")
    past = store.past(WF)
    assert (past.version, list(past.commits()), list(past.start().keys())) == (0, [], [])
    store.close()


def test_c06_the_past_beside_a_writer_that_compacts(tmp_path):
    """While another process commits and compacts, each look finds every version from the newest to the first."""
    path = tmp_path / "store"
    source = (
        "import sys\n"
        "from tests.store.support import WF, directory_store, putting\n"
        "store = directory_store(sys.argv[1])\n"
        "for number in range(1, 601):\n"
        "    store.submit(putting(n=b'%d' % number)).result()\n"
        "    if number % 20 == 0:\n"
        "        store.tidy(WF, 'compact' if number % 40 else 'snapshot')\n"
        "store.close()\n"
    )
    directory_store(path).close()
    writer = subprocess.Popen([sys.executable, "-c", source, str(path)], cwd=Path(__file__).parents[2])
    reader = directory_store(path, read_only=True)
    looks, ended = 0, False
    while not ended:
        ended = writer.poll() is not None
        past = reader.past(WF)
        seen = [(commit.version, commit.read("n")) for commit in past.commits()]
        assert seen == [(number, b"%d" % number) for number in range(past.version, 0, -1)]
        looks += 1
    assert (writer.returncode, past.version) == (0, 600)
    assert looks > 1
    reader.close()


def test_a_long_past_is_never_held_as_a_whole(tmp_path):
    """Going through many commits holds some bytes for each, however much they carry."""
    store = directory_store(tmp_path / "store", enable_wal=False)
    commits = 2000
    for number in range(commits):
        store.submit(putting(n=b"%08d" % number * 100)).result()
    past = store.past(WF)
    tracemalloc.start()
    try:
        assert sum(1 for _ in past.commits()) == commits
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 600_000, f"{peak:,} bytes for {commits:,} commits of 800 bytes"
    store.close()
