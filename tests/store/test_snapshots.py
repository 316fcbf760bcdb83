"""Snapshots and compaction: what they cost, what they keep, and what a reader makes of them."""

from __future__ import annotations

import os
import random
import time
from contextlib import closing

import pytest

from tests.store.support import WF, change, directory_store, putting, system_calls
from waypost import clock
from waypost.codec import bodies
from waypost.codec.frame import FrameType
from waypost.errors import DocumentDamaged
from waypost.store import DocumentId
from waypost.store.directory import compaction, document, snapshots, state
from waypost.store.directory.upkeep import Upkeep


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


def fill(store, count):
    values = [b"%05d " % number * 10 + os.urandom(100).hex().encode() for number in range(count)]

    def work(tx):
        for number in range(count):
            tx.put(f"k{number:05}", values[number])

    store.submit(change(WF, work)).result()


def contents(view):
    return {key: view.get(key) for key in view.keys()}


def snapshot_of(store):
    state = store._document(WF).state_now()
    return state.base


def take_snapshot(store):
    """Have a snapshot of the present version, whoever takes it."""
    store.tidy(WF, "snapshot")
    settle(lambda: snapshot_of(store).standing.version == store.view(WF).version)


@pytest.fixture
def snapshot_now(monkeypatch):
    """Takes a snapshot of the present version, and else there is none."""
    due = []
    monkeypatch.setattr(document.Document, "snapshot_is_due", staticmethod(lambda state: bool(due)))

    def take(store):
        due.append(True)
        take_snapshot(store)
        due.clear()

    return take


def settle(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "upkeep did not come"
        time.sleep(0.01)


def test_d25_a_snapshot_copies_the_blocks_in_which_nothing_changed(path, monkeypatch):
    """A second snapshot holds the unchanged blocks of the first to the byte, and the changed parts as they are now."""
    store = directory_store(path)
    fill(store, 3000)
    take_snapshot(store)
    first = snapshot_of(store)
    before = [first.stored(row) for row in range(len(first.body.keys))]
    rng = random.Random(3)
    for number in range(60):
        key = f"k{rng.randrange(1500):05}"
        store.submit(change(WF, lambda tx, key=key, n=number: tx.put(key, b"changed %d" % n))).result()
    store.submit(change(WF, lambda tx: tx.delete("k00007"))).result()
    store.submit(change(WF, lambda tx: tx.put("a first", b"1"))).result()
    store.submit(change(WF, lambda tx: tx.put("z last", b"2"))).result()
    expected = contents(store.view(WF))
    monkeypatch.setattr(document.Document, "snapshot_is_due", staticmethod(lambda state: True))
    assert store.tidy(WF, "snapshot")
    monkeypatch.undo()
    second = snapshot_of(store)
    after = [second.stored(row) for row in range(len(second.body.keys))]
    assert second is not first
    assert len(set(before) & set(after)) >= len(before) // 3
    assert contents(store.view(WF)) == expected
    store.close()
    reader = directory_store(path, read_only=True)
    assert contents(reader.view(WF)) == expected
    assert reader.verify().findings == []


def test_d25_a_snapshot_comes_after_about_a_hundred_commits(path):
    """Many small commits bring a snapshot on by themselves, off the commit path, and loading starts from it."""
    store = directory_store(path)
    for number in range(250):
        store.submit(change(WF, lambda tx, n=number: tx.put(f"k{n % 20}", b"%d" % n))).result()
    settle(lambda: snapshot_of(store).standing.version > 90)
    store.close()
    reader = directory_store(path, read_only=True)
    assert reader.view(WF).version == 250
    assert snapshot_of(reader).standing.version > 90


def test_d25_a_log_is_left_with_little_to_replay(path, snapshot_now):
    """Before a log is closed it gets a snapshot for a quarter of the bytes, and only from who has written to it. That
    costs one sync.
    """
    at_rest, syncs = [], []
    for count, is_due in ((120, True), (60, False)):
        at = path.with_name(f"store{count}")
        store = directory_store(at)
        fill(store, 300)
        snapshot_now(store)
        for number in range(count):
            store.submit(change(WF, lambda tx, n=number: tx.put(f"k{n:05}", os.urandom(40)))).result()
        behind = store._document(WF).state_now().frame_bytes
        assert snapshot_of(store).length / 4 < behind < snapshot_of(store).length or not is_due
        other = directory_store(at)
        other.view(WF)
        other.close()
        assert not store._document(WF).log_if_usable().news(), "who only read has written nothing"
        expected = contents(store.view(WF))
        with system_calls() as calls:
            store.close()
        syncs.append(calls.count("fsync") + calls.count("fdatasync"))
        reader = directory_store(at, read_only=True)
        assert contents(reader.view(WF)) == expected
        at_rest.append(reader._document(WF).state_now().frames)
        assert reader.verify().findings == []
    assert at_rest == [0, 60]
    assert syncs[0] == syncs[1] + 1


def test_a_snapshot_at_rest_that_has_no_memory_keeps_no_log_from_being_sealed(path, monkeypatch, caplog):
    """Closing goes on without it, for this document and for those that come behind it."""
    monkeypatch.setattr(Upkeep, "ask", lambda self, document: None)
    store = directory_store(path)
    others = [DocumentId("workflow", name) for name in ("a", "b")]
    for each in others:
        for number in range(101):
            store.submit(change(each, lambda tx, n=number: tx.put("k", b"%d" % n))).result()

    def refuse(*args):
        raise MemoryError("no room for a snapshot")

    monkeypatch.setattr(snapshots, "build_on", refuse)
    store.close()
    assert caplog.text.count("was not put in order: no room for a snapshot") == 2
    reader = directory_store(path, read_only=True)
    for each in others:
        assert reader.view(each).get("k") == b"100"
        assert reader._document(each)._log.last_type == FrameType.SEAL
    assert reader.verify().findings == []


def test_loading_does_not_read_what_stands_before_the_snapshot(path):
    """The bytes read to open a document do not grow with the length of its log."""
    read = []
    for commits in (300, 3000):
        at = path.with_name(f"store{commits}")
        store = directory_store(at)
        fill(store, 50)
        for number in range(commits):
            store.submit(change(WF, lambda tx, n=number: tx.put(f"k{n % 50:05}", os.urandom(100)))).result()
        store.close()
        reader = directory_store(at, read_only=True)
        with system_calls() as calls:
            view = reader.view(WF)
            read.append(reader._document(WF)._log.file.tally.bytes_read)
            assert calls.count("pread") < 20
        assert view.version == commits + 1
    assert read[1] < read[0] + 200_000, read


def test_what_a_write_made_is_read_without_what_was_ever_committed(path, monkeypatch):
    """Operations answer with the version that they made; reading it costs no more in a log of thousands of commits.

    Each took 80 ms in a log of five thousand, which was read from its start each time.
    """
    store = directory_store(path)
    monkeypatch.setattr(document.Document, "snapshot_is_due", staticmethod(lambda state: False))
    for number in range(2000):
        store.submit(change(WF, lambda tx, n=number: tx.put(f"k{n % 20}", b"%d" % n))).result()
        if number == 1990:
            monkeypatch.setattr(document.Document, "snapshot_is_due", staticmethod(lambda state: True))
            assert store.tidy(WF, "snapshot")
            monkeypatch.setattr(document.Document, "snapshot_is_due", staticmethod(lambda state: False))
    made = [store.submit(change(WF, lambda tx, n=n: tx.put("own", b"%d" % n))).result().version for n in range(9)]
    with system_calls() as calls:
        assert store.view_at(WF, made[-1]).get("own") == b"8"
        assert calls.count("pread") <= 1, "the block of the snapshot at most"
    with system_calls() as calls:
        opened = []
        calls.fault = lambda name, _, args: opened.append(args[0]) if name == "open" else None
        for number, version in enumerate(made):
            assert store.view_at(WF, version).get("own") == b"%d" % number
        assert set(opened) <= {"."}, "what was decided is looked for"
        assert calls.count("pread") <= 3 * len(made)


def test_versions_since_the_snapshot_are_what_they_were(path, monkeypatch):
    """Each version is read as it was made: before and since a snapshot, beside another writer, after a compaction."""
    store, other = directory_store(path), directory_store(path)
    monkeypatch.setattr(document.Document, "snapshot_is_due", staticmethod(lambda state: state.frames >= 40))
    made = {}
    for number in range(330):
        writer = other if number % 7 == 3 else store
        if number % 50 == 0:
            store.tidy(WF, "snapshot")
        if number == 200:
            store.tidy(WF, "compact")
        work = (lambda tx: tx.clear()) if number == 300 else (lambda tx, n=number: tx.put(f"k{n % 13}", b"%d" % n))
        version = writer.submit(change(WF, work)).result().version
        made[version] = contents(writer.view(WF))
        assert contents(store.view_at(WF, version)) == made[version]
    for version, expected in made.items():
        for reader in (store, other):
            assert contents(reader.view_at(WF, version)) == expected, version
    assert store.view_at(WF, 331) is None


def test_trap_29_parts_are_read_when_they_are_asked_for(path):
    """Looking at one part of a large document reads its block and no other."""
    store = directory_store(path)
    fill(store, 8000)
    take_snapshot(store)
    store.close()
    reader = directory_store(path, read_only=True)
    view = reader.view(WF)
    with system_calls() as calls:
        assert view.get("k04711").startswith(b"04711")
        assert calls.count("pread") == 1


def test_a_large_value_is_read_in_chunks_when_it_is_asked_for(path):
    """Opening a document with a large value reads little of it; the value comes back whole."""
    value = os.urandom(3_000_000)
    store = directory_store(path, chunk_size=65536)
    store.submit(change(WF, lambda tx: tx.put("large", value))).result()
    store.submit(change(WF, lambda tx: tx.put("small", b"1"))).result()
    store.tidy(WF, "compact")
    store.close()
    reader = directory_store(path, read_only=True)
    view = reader.view(WF)
    assert view.size_of("large") == len(value)
    assert reader._document(WF)._log.file.tally.bytes_read < 400_000
    assert view.get("large") == value
    assert reader.verify().findings == []


def test_a_torn_snapshot_costs_time_and_no_data(path):
    """A snapshot that no sync is on record for, and whose blocks are not whole, is passed over."""
    store = directory_store(path)
    fill(store, 1000)
    before = contents(store.view(WF))
    take_snapshot(store)
    found = snapshot_of(store).frame
    store._lease.abandon()
    file = path / "workflows" / "wf.state"
    data = bytearray(file.read_bytes())
    data[found.end - 50 : found.end] = bytes(50)  # the end of its last block never reached the medium
    file.write_bytes(data)
    reader = directory_store(path, read_only=True)
    assert contents(reader.view(WF)) == before
    again = directory_store(path)
    again.submit(change(WF, lambda tx: tx.put("more", b"1"))).result()
    again.close()
    assert contents(directory_store(path, read_only=True).view(WF)) == {**before, "more": b"1"}
    assert directory_store(path, read_only=True).verify().sound


def test_a_flipped_bit_in_a_block_is_damage_when_it_is_read(path):
    """`reliability.checksum_validation`: a damaged block is refused; without the option it is taken as it stands."""
    store = directory_store(path, enabled=False)
    fill(store, 1000)
    take_snapshot(store)
    found = snapshot_of(store).frame
    store.close()
    file = path / "workflows" / "wf.state"
    data = bytearray(file.read_bytes())
    at = data.index(b"00003 00003 ", found.blocks_at)
    data[at] = ord("9")
    file.write_bytes(data)
    with pytest.raises(DocumentDamaged, match=str(found.blocks_at)):
        directory_store(path, read_only=True).view(WF).get("k00003")
    trusting = directory_store(path, read_only=True, checksum_validation=False)
    assert trusting.view(WF).get("k00003").startswith(b"90003 00003")
    assert not trusting.verify().sound, "verify looks all the same"


def test_compaction_drops_superseded_snapshots_and_keeps_every_version(path):
    """A compacted log is smaller, opens at the same state, and still shows each version."""
    store = directory_store(path)
    for number in range(400):
        store.submit(change(WF, lambda tx, n=number: tx.put(f"k{n % 9}", b"%d " % n * 30))).result()
    settle(lambda: snapshot_of(store).standing.version > 300)
    file = path / "workflows" / "wf.state"
    before, expected = file.stat().st_size, contents(store.view(WF))
    assert store.tidy(WF, "compact")
    assert file.stat().st_size < before
    assert contents(store.view(WF)) == expected
    assert contents(store.view_at(WF, 123)) == {f"k{n % 9}": b"%d " % n * 30 for n in range(114, 123)}
    store.close()
    report = directory_store(path, read_only=True).verify()
    assert (report.findings, report.commits, report.snapshots) == ([], 400, 1)


def test_history_is_bounded_and_what_goes_is_kept_as_a_generation(path):
    """`performance.max_file_size` bounds history, `reliability.backup_retention` how many earlier logs are kept."""
    store = directory_store(path, max_file_size=1, enabled=False, backup_retention=2)
    for number in range(300):
        store.submit(change(WF, lambda tx, n=number: tx.put(f"k{n % 5}", os.urandom(8000)))).result()
        if number % 40 == 39:
            store.tidy(WF, "compact")
    view = store.view(WF)
    assert view.version == 300
    assert store.view_at(WF, 1) is None
    assert store.view_at(WF, 290) is not None
    store.close()
    report = directory_store(path, read_only=True).verify()
    assert report.findings == []
    assert (path / "workflows" / "wf.state").stat().st_size < 1 << 20
    assert len(list((path / "backups").iterdir())) == 2


def test_compaction_starts_before_the_bound_is_reached(path):
    """Commits go on past the bound of a file, since history is shortened before it is full."""
    store = directory_store(path, max_file_size=1, enabled=False)
    for number in range(400):
        store.submit(change(WF, lambda tx, n=number: tx.put(f"k{n % 5}", os.urandom(8000)))).result()
    assert store.view(WF).version == 400
    store.close()
    assert directory_store(path, read_only=True).verify().findings == []


def test_operations_are_remembered_through_snapshots_and_compaction(path):
    """An operation id acts once however often the log was rewritten; the oldest beyond the bounds are forgotten."""
    store = directory_store(path)
    first = change(WF, lambda tx: tx.put("a", b"1"), operation_id="first", repeatable=True)
    store.submit(first).result()
    for number in range(250):
        store.submit(change(WF, lambda tx, n=number: tx.put("a", b"%d" % n))).result()
    for action in ("snapshot", "compact", "compact"):
        store.tidy(WF, action)
    assert store.submit(first).result().repeated.version == 1
    store.close()
    again = directory_store(path)
    assert again.submit(first).result().repeated.version == 1
    again.close()


def test_asking_for_writes_does_not_read_what_is_remembered_again(path, monkeypatch, snapshot_now):
    """Versions at hand and writers ask one reading of it, which snapshots take over; each knows its own past."""
    store = directory_store(path)
    reads = []
    decode = bodies.read_operations
    monkeypatch.setattr(bodies, "read_operations", lambda data: reads.append(1) or decode(data))
    views = []
    for number in range(40):
        store.submit(change(WF, lambda tx, n=number: tx.put("a", b"%d" % n), operation_id=f"op-{number}")).result()
        views.append(store.view(WF))
        assert views[-1].operation(f"op-{number + 1}") is None
        if number % 10 == 9:
            snapshot_now(store)
    once = len(reads)
    for turn in range(50):
        assert store.view(WF).operation(f"unknown-{turn}") is None
    assert len(reads) == once <= 8  # each snapshot looks at the runs of the last one
    for number, view in enumerate(views):
        known = [other for other in range(40) if view.operation(f"op-{other}") is not None]
        assert known == list(range(number + 1))
        assert [view.operation(f"op-{other}").version for other in known] == [other + 1 for other in known]
    with closing(directory_store(path, read_only=True)) as reader:
        assert [reader.view(WF).operation(f"op-{number}").version for number in range(40)] == list(range(1, 41))


def test_no_more_is_remembered_than_there_is_room_for(path, monkeypatch, snapshot_now):
    """What is known of writes is read anew from the snapshot once it has grown, without what that has forgotten."""
    monkeypatch.setattr(state, "_MOST_REMEMBERED", 25)
    monkeypatch.setattr(snapshots, "KEPT_OPERATIONS", 10)
    store = directory_store(path)
    for number in range(60):
        store.submit(change(WF, lambda tx, n=number: tx.put("a", b"%d" % n), operation_id=f"op-{number}")).result()
        if number % 10 == 9:
            snapshot_now(store)
            assert store.view(WF).operation("unknown") is None
            assert len(snapshot_of(store)._remembered) <= 25 + 10
    assert store.view(WF).operation("op-0") is None and store.view(WF).operation("op-59") is not None


@pytest.mark.parametrize("how", ["compact", "snapshot"])
def test_operations_more_than_seven_days_before_the_newest_are_forgotten(path, monkeypatch, snapshot_now, how):
    """What is remembered of writes beyond the last thousand is bounded by age, counted from the newest commit."""
    monkeypatch.setattr(snapshots, "SURE_OPERATIONS", 1)
    store = directory_store(path)
    store.submit(change(WF, lambda tx: tx.put("a", b"1"), operation_id="first", repeatable=True)).result()
    snapshot_now(store)
    real = clock.now_us
    monkeypatch.setattr(clock, "now_us", lambda: real() + snapshots.KEPT_OPERATIONS_US + 60_000_000)
    store.submit(change(WF, lambda tx: tx.put("a", b"2"), operation_id="second", repeatable=True)).result()
    if how == "compact":
        assert store.tidy(WF, "compact")
    else:
        snapshot_now(store)
    with closing(directory_store(path, read_only=True)) as reader:  # who has it open may know more
        view = reader.view(WF)
        assert (view.operation("first"), view.operation("second").version) == (None, 2)
    store.close()


@pytest.mark.parametrize("commits", [False, True], ids=["upkeep", "a commit"])
@pytest.mark.parametrize("how", ["compact", "snapshot"])
def test_a_clock_that_jumps_ahead_makes_no_operation_forgotten(path, monkeypatch, snapshot_now, how, commits):
    """Upkeep, or a commit and upkeep, while the clock is far ahead forgets none of the last writes."""
    store = directory_store(path)
    once = change(WF, lambda tx: tx.put("a", b"1"), operation_id="first", repeatable=True)
    store.submit(once).result()
    snapshot_now(store)
    store.submit(putting(b=b"1")).result()
    with monkeypatch.context() as patch:
        real = clock.now_us
        patch.setattr(clock, "now_us", lambda: real() + 2 * snapshots.KEPT_OPERATIONS_US)
        if commits:
            store.submit(putting(b=b"2")).result()
        if how == "compact":
            assert store.tidy(WF, "compact")
        else:
            snapshot_now(store)
    assert store.submit(once).result().repeated is not None
    store.close()
    with closing(directory_store(path)) as again:
        assert again.submit(once).result().repeated is not None


@pytest.mark.parametrize("days", [30, 2])
def test_history_older_than_the_bound_goes_at_compaction(path, monkeypatch, days):
    """Commits older than `history.max_age_days` leave the log; their ids stay, and the version number goes on."""
    store = directory_store(path, max_age_days=days)
    for number in range(5):
        store.submit(change(WF, lambda tx, n=number: tx.put("a", b"%d" % n))).result()
    ids = [store.view_at(WF, version).commit_id for version in range(1, 6)]
    real = clock.now_us
    monkeypatch.setattr(clock, "now_us", lambda: real() + days * compaction.DAY_US - 60_000_000)
    assert store.submit(change(WF, lambda tx: tx.put("a", b"5"))).result().version == 6
    assert store.tidy(WF, "compact") and store.view_at(WF, 1) is not None
    monkeypatch.setattr(clock, "now_us", lambda: real() + days * compaction.DAY_US + 1)
    assert store.submit(change(WF, lambda tx: tx.put("a", b"new"))).result().version == 7
    assert store.tidy(WF, "compact")
    assert (store.view_at(WF, 3), store.view_at(WF, 5).get("a")) == (None, b"4")
    store.close()
    reader = directory_store(path, read_only=True)
    reader.view(WF)
    body = reader._document(WF)._log.body
    assert body.dropped == b"".join(ids)
    assert reader.verify().findings == []


@pytest.mark.parametrize("is_committed_to", [False, True])
def test_a_clock_that_is_ahead_for_a_moment_takes_no_history(path, monkeypatch, is_committed_to):
    """Age is told by the newest commit, as far as that is not of a time that is still to come."""
    store = directory_store(path)
    for number in range(5):
        store.submit(putting(a=b"%d" % number)).result()
    real = clock.now_us
    with monkeypatch.context() as patch:
        patch.setattr(clock, "now_us", lambda: real() + 400 * compaction.DAY_US)
        if is_committed_to:
            store.submit(putting(a=b"ahead")).result()
        else:
            assert store.tidy(WF, "compact")
    assert store.tidy(WF, "compact") is is_committed_to  # the log of the other was just written anew
    assert [store.view_at(WF, version).get("a") for version in range(1, 6)] == [b"%d" % each for each in range(5)]
    store.close()


def test_e11_a_closed_log_has_no_fill(path):
    """Zeros written ahead are given back at close, and the log ends with a seal."""
    store = directory_store(path)
    fill(store, 10)
    file = path / "workflows" / "wf.state"
    assert file.stat().st_size >= 64 * 1024
    store.close()
    assert file.stat().st_size < 8 * 1024
    reader = directory_store(path, read_only=True)
    reader.view(WF)
    assert reader._document(WF)._log.last_type == FrameType.SEAL


def test_a_handle_goes_on_from_the_snapshot_of_another(path, monkeypatch):
    """After another process took a snapshot this one stands on it, and takes the next one when that is due."""
    monkeypatch.setattr(Upkeep, "ask", lambda self, document: None)
    ours, theirs = directory_store(path), directory_store(path)

    def commit(store, count):
        for number in range(count):
            store.submit(change(WF, lambda tx, n=number: tx.put(f"k{n % 9}", b"%d" % n))).result()

    commit(ours, 60)
    commit(theirs, 60)
    assert theirs.tidy(WF, "snapshot")
    commit(ours, 2)
    assert not ours.tidy(WF, "snapshot"), "theirs is fresh"
    assert snapshot_of(ours).standing.version == snapshot_of(theirs).standing.version > 100
    assert contents(ours.view(WF)) == contents(theirs.view(WF))
    commit(ours, 150)
    assert ours.tidy(WF, "snapshot")
    assert snapshot_of(ours).standing.version == ours.view(WF).version > 250
    ours.close()
    theirs.close()
    assert directory_store(path, read_only=True).verify().findings == []


def test_a_sealed_log_is_read_without_a_sync(path):
    """Opening a store that was closed cleanly asks the disk for no sync, since the seal tells that all is there."""
    store = directory_store(path)
    fill(store, 3)
    store.close()
    reader = directory_store(path, read_only=True)
    with system_calls() as calls:
        assert len(contents(reader.view(WF))) == 3
        assert calls.count("fdatasync") == 0


def test_own_commits_follow_those_of_others_that_were_not_decoded_yet(path):
    """Commits of two handles that touch different parts come out in their order, whoever looks at them."""
    ours, theirs = directory_store(path), directory_store(path)
    for number in range(40):
        theirs.submit(change(WF, lambda tx, n=number: (tx.put("t", b"%d" % n), tx.put("both", b"t%d" % n)))).result()
        if number % 3 == 0:
            ours.submit(change(WF, lambda tx, n=number: tx.put("o", b"%d" % n))).result()
    ours.submit(change(WF, lambda tx: tx.put("both", b"ours"))).result()
    expected = {"t": b"39", "o": b"39", "both": b"ours"}
    assert contents(ours.view(WF)) == contents(theirs.view(WF)) == expected
    ours.close()
    theirs.close()
    assert directory_store(path, read_only=True).verify().findings == []


def test_d07_no_snapshot_covers_what_is_not_synced(path, monkeypatch):
    """A snapshot stands behind a sync of all it covers: a reader after a crash would not look at that again."""
    store = directory_store(path, enable_wal=False, chunk_size=4096)
    store.submit(putting(big=os.urandom(20_000))).result()
    monkeypatch.setattr(document.Document, "snapshot_is_due", lambda _document, _state: True)
    with system_calls() as calls:
        assert store.tidy(WF, "snapshot")
        names = [name for name, _, _ in calls.trace if name in ("pwrite", "fdatasync")]
    assert names == ["fdatasync", "pwrite"]


def test_of_several_writers_the_one_whose_commit_made_it_due_takes_a_snapshot(path, monkeypatch):
    """The others ask for one only when a quarter more has come, be it that he died: all would take the same one."""
    monkeypatch.setattr(document, "SNAPSHOT_FRAMES", 20)
    asked = []
    monkeypatch.setattr(Upkeep, "ask", lambda self, document: asked.append(self))
    stores = [directory_store(path, enabled=False) for _ in range(3)]
    askers = []
    for number in range(30):
        store = stores[number % 3]
        asked.clear()
        store.submit(putting(n=b"%d" % number)).result()
        askers.append((number, [each is store._upkeep for each in asked]))
    # each asks behind a commit of its own; the twentieth, of the second store, made it due
    assert [number for number, found in askers if found] == [19, 22, *range(24, 30)]
    assert all(found == [True] for number, found in askers if found)
    assert stores[0].tidy(WF, "snapshot")
    assert not stores[1].tidy(WF, "snapshot")  # it goes on from that of the other
    for store in stores:
        store.close()
    assert directory_store(path, read_only=True).verify().findings == []
