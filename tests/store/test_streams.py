"""Values that are given and read as files: in pieces, whatever their size, and as safe as any other."""

from __future__ import annotations

import errno
import io
import os
import random
import signal
import subprocess
import sys
import threading
from hashlib import sha256

import pytest

import waypost
from tests.seeds import SEED
from tests.store.support import WF, change, directory_store, failing, putting, system_calls
from tests.totals import RING
from waypost import records
from waypost.codec import values
from waypost.errors import DocumentDamaged, DocumentTooLarge, IllegalTransition, InvalidInput, InvalidValue
from waypost.store import ContentLost
from waypost.store.directory import compaction, content, files, upkeep
from waypost.store.values import Content

MB = 1 << 20


def environment():
    """Of a process of its own, whose configuration the ring that runs is no part of."""
    given = {name: value for name, value in os.environ.items() if name != "CRASH_RING"}
    return {**given, "PYTHONPATH": "src:."}


class Unseekable:
    """A source that can only be read, such as a socket."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self.reads = 0

    def read(self, size: int) -> bytes:
        self.reads += 1
        return self._file.read(size)


class Endless:
    """A source that can only be read, and never ends."""

    def __init__(self) -> None:
        self.given = 0

    def read(self, size: int) -> bytes:
        self.given += size
        assert self.given < 64 << 20, "it is read on and on"
        return b"x" * size


def test_a_source_without_an_end_is_refused_before_it_fills_the_disk(wp, monkeypatch):
    """It is read no further than to where no value could hold it."""
    wp.create_workflow("wf", "W", steps=["a"]).unwrap()
    monkeypatch.setattr(values, "MOST_BYTES", 8 << 20)
    source = Endless()
    refused = wp.add_step_output("wf", "a", source)
    assert isinstance(refused.error, InvalidValue) and "more than a value may have" in str(refused.error)
    assert source.given <= 10 << 20


class Hooked(io.BytesIO):
    """A file that does something once, when so many bytes were read from it."""

    def __init__(self, data: bytes, at: int, act) -> None:
        super().__init__(data)
        self._at = at
        self._act = act
        self.begun = 0

    def read(self, size=-1):
        if self._act is not None and self.tell() >= self._at:
            act, self._act = self._act, None
            act()
        self.begun += self.tell() == 0
        return super().read(size)


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def open_waypost(path, **options):
    sections = {"chunk_size": "compression", "max_file_size": "performance", "enabled": "compression"}
    config: dict[str, dict[str, object]] = {}
    for name, value in options.items():
        config.setdefault(sections[name], {})[name] = value
    return waypost.open(str(path), config=config)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def log_file(path):
    return path / "workflows" / "wf.state"


@pytest.fixture
def wf(path):
    """A handle with a workflow `wf` of the steps a and b."""
    with open_waypost(path) as handle:
        handle.create_workflow("wf", "W", steps=["a", "b"]).unwrap()
        yield handle


def read_back(handle, step="a", version=None):
    with handle.open_step_output("wf", step, version) as file:
        return file.read()


def tidy(path, action="compact", **options):
    """Another process compacts, or takes a snapshot."""
    with_others = directory_store(path, **options)
    with_others.submit(change(WF, lambda tx: tx.put("other", os.urandom(8)))).result()  # to open it for writing
    assert with_others.tidy(WF, action) or action != "compact"
    with_others.close()


# --- what goes in comes out ---


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_530, 65_531, 65_535, 65_536, 65_537, 3 * MB, 5 * MB + 17])
def test_a_stream_is_the_same_value_as_its_bytes(wp, size):
    """A file comes back as a file and as bytes, with the size and checksum of the same bytes given whole."""
    data = noise(size)
    wp.create_workflow("wf", "W", steps=["a", "b"]).unwrap()
    made = wp.add_step_output("wf", "a", io.BytesIO(data)).unwrap()
    whole = wp.add_step_output("wf", "b", data).unwrap()
    assert (made.size_bytes, made.checksum) == (whole.size_bytes, whole.checksum)
    assert made.output == data
    assert read_back(wp, "a") == read_back(wp, "b") == data
    assert wp.get_step_output("wf", "a").output == data
    assert wp.load_workflow_state("wf").unwrap().outputs["a"].output == data
    assert wp.validate_workflow_state("wf").is_valid


def test_a_source_that_cannot_seek_is_taken_too(wp, tmp_path):
    """What can only be read once, such as a pipe, is stored like any other file."""
    data = noise(3 * MB)
    wp.create_workflow("wf", "W", steps=["a"]).unwrap()
    wp.add_step_output("wf", "a", Unseekable(data)).unwrap()
    read_end, write_end = os.pipe()

    def feed():
        with open(write_end, "wb") as pipe:
            pipe.write(data)

    feeder = threading.Thread(target=feed)
    feeder.start()
    with open(read_end, "rb") as pipe:
        wp.add_step_output("wf", "a", pipe).unwrap()
    feeder.join()
    assert read_back(wp, version=1) == read_back(wp, version=2) == data
    assert [name for name in os.listdir(tmp_path) for _ in os.listdir(tmp_path / name) if name == "temp"] == []


def test_a_file_is_read_from_where_it_stands(wf):
    """What was read before is not part of the value."""
    file = io.BytesIO(noise(200_000))
    file.seek(70_000)
    wf.add_step_output("wf", "a", file).unwrap()
    assert read_back(wf) == noise(200_000)[70_000:]


def test_a_stream_can_seek(wf):
    """Reading anywhere in a stored value gives the bytes that stand there, and nothing behind its end."""
    data = noise(300_000)
    wf.add_step_output("wf", "a", io.BytesIO(data)).unwrap()
    choose = random.Random(SEED)
    with wf.open_step_output("wf", "a") as file:
        assert file.seek(0, os.SEEK_END) == len(data)
        assert file.read() == b""
        for _ in range(300):
            at, size = choose.randrange(len(data) + 10), choose.randrange(100_000)
            file.seek(at)
            assert file.read(size) == data[at : at + size], f"WAYPOST_TEST_SEED={SEED}"
        file.seek(-10, os.SEEK_CUR)
        file.seek(5)
        assert (file.tell(), file.readable(), file.seekable(), file.writable()) == (5, True, True, False)
        with pytest.raises((ValueError, OSError)):
            file.seek(-1)
    with pytest.raises(ValueError, match="closed"):
        file.read()


def test_a_stream_may_complete_a_step(wp):
    """A status takes a file as its output; the same with an equal file changes nothing, another is refused."""
    data = noise(200_000)
    wp.create_workflow("wf", "W", steps=["a"]).unwrap()
    step = wp.update_step_status("wf", "a", "completed", io.BytesIO(data)).unwrap()
    assert (step.status, step.output) == ("completed", data)
    version = wp.load_workflow_state("wf").unwrap().metadata.version
    assert wp.update_step_status("wf", "a", "completed", io.BytesIO(data)).success
    assert wp.load_workflow_state("wf").unwrap().metadata.version == version
    refused = wp.update_step_status("wf", "a", "completed", io.BytesIO(data[1:]))
    assert isinstance(refused.error, IllegalTransition)


async def test_both_faces_take_and_give_streams(wp, awp):
    """On the asynchronous face a file is read in a thread, and the same kind of file comes back."""
    threads = set()
    data = noise(3 * MB)
    source = Hooked(data, MB, lambda: threads.add(threading.current_thread()))
    (await awp.create_workflow("wf", "W", steps=["a"])).unwrap()
    (await awp.add_step_output("wf", "a", source)).unwrap()
    with await awp.open_step_output("wf", "a") as file:
        assert file.read() == data
    assert threads and threading.main_thread() not in threads
    assert read_back(wp) == data
    refused = await awp.add_step_output("wf", "x", io.BytesIO(data))
    assert refused.error.code == "step_not_found"


def test_an_output_may_be_the_source_of_another(wf):
    """What is read from a store can be stored again without being held."""
    data = noise(3 * MB)
    wf.add_step_output("wf", "a", io.BytesIO(data)).unwrap()
    with wf.open_step_output("wf", "a") as file:
        wf.add_step_output("wf", "b", file).unwrap()
    assert read_back(wf, "b") == data


def test_a_stream_outlives_what_happens_to_the_document(path, wf):
    """An open stream goes on after a compaction, after the output is gone, and after the store is closed."""
    data = noise(3 * MB)
    wf.add_step_output("wf", "a", io.BytesIO(data)).unwrap()
    file = wf.open_step_output("wf", "a")
    start = file.read(100)
    wf.delete_workflow("wf").unwrap()
    tidy(path)
    wf.close()
    assert start + file.read() == data


@pytest.mark.parametrize("options", [{"chunk_size": 4096}, {"chunk_size": 16 * MB}, {"enabled": False}])
def test_a_stream_does_not_depend_on_options(path, options):
    """With the smallest and the largest chunks, and without compression, the same bytes come back."""
    data = noise(2 * MB) + bytes(4 * MB)
    with open_waypost(path, **options) as handle:
        handle.create_workflow("wf", "W", steps=["a"]).unwrap()
        handle.add_step_output("wf", "a", io.BytesIO(data)).unwrap()
        assert read_back(handle) == data
    with open_waypost(path) as handle:
        assert read_back(handle) == data
        assert handle.definitions.store.verify().sound


def test_zeros_are_stored_compressed(path, wf, log_file):
    """A stream is compressed block by block, like any other value."""
    performance = wf.add_step_output("wf", "a", io.BytesIO(bytes(20 * MB))).performance
    assert log_file.stat().st_size < 3 * MB
    assert performance.compression_ratio > 10
    assert performance.memory_bytes < MB


# --- what is refused ---


def log_end(handle):
    """The version, and how long the log is in steps of 100 kB (upkeep may have added a snapshot)."""
    store = handle.definitions.store
    return store.view(WF).version, store._document(WF)._log.end // 100_000


class Failing(io.BytesIO):
    def read(self, size=-1):
        if self.tell() > 5 * MB:
            raise OSError(errno.EIO, "the disk is on fire")
        return super().read(size)


class Growing(io.BytesIO):
    def seek(self, offset, whence=0):
        return super().seek(offset, whence) - (whence == os.SEEK_END)


class Shrinking(io.BytesIO):
    def seek(self, offset, whence=0):
        return super().seek(offset, whence) + (whence == os.SEEK_END)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (lambda: io.StringIO("text " * 100_000), "open it in binary mode"),
        (lambda: io.StringIO(""), "open it in binary mode"),
        (lambda: Failing(noise(6 * MB)), "cannot be read (OSError)"),
        (lambda: Growing(noise(6 * MB)), "gives more than"),
        (lambda: Shrinking(noise(6 * MB)), "ended after"),
        (lambda: [io.BytesIO(b"nested")], "outputs.a[0]"),
        (lambda: {"file": io.BytesIO(b"nested")}, "outputs.a.file"),
    ],
    ids=["text", "no text", "failing", "growing", "shrinking", "in a list", "in a dict"],
)
def test_a_source_that_cannot_be_taken_leaves_the_document_as_it_was(wp, source, why):
    """What is no file of bytes, or breaks off, is refused by name, and the document is the version it was."""
    wp.create_workflow("wf", "W", steps=["a"]).unwrap()
    refused = wp.add_step_output("wf", "a", source())
    assert isinstance(refused.error, InvalidValue)
    assert why in refused.error.message
    assert refused.error.message.startswith("outputs.a")
    assert refused.status == "rolled_back"
    state = wp.load_workflow_state("wf").unwrap()
    assert (state.metadata.version, len(state.outputs)) == (1, 0)
    assert wp.add_step_output("wf", "a", io.BytesIO(noise(3 * MB))).success
    assert read_back(wp) == noise(3 * MB)


def test_an_interrupted_source_leaves_the_document_as_it_was(wf):
    """An interrupt while a source is read goes through to the caller, and the next write is as good as ever."""

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wf.add_step_output("wf", "a", Hooked(noise(6 * MB), 5 * MB, interrupt))
    assert wf.load_workflow_state("wf").unwrap().metadata.version == 1
    wf.add_step_output("wf", "a", io.BytesIO(noise(3 * MB))).unwrap()
    assert read_back(wf) == noise(3 * MB)


def test_what_is_refused_anyway_is_not_read(wf):
    """A step that is not there or may not change, and an operation that was done, leave source and log untouched."""
    wf.update_step_status("wf", "b", "completed", 1, operation_id="once").unwrap()
    wf.add_step_output("wf", "a", io.BytesIO(noise(MB // 2)), operation_id="twice").unwrap()
    before = log_end(wf)
    source = io.BytesIO(noise(6 * MB))
    assert wf.add_step_output("wf", "x", source).error.code == "step_not_found"
    assert wf.add_step_output("nowhere", "a", source).error.code == "workflow_not_found"
    assert wf.update_step_status("wf", "b", "failed", source).error.code == "illegal_transition"
    assert wf.add_step_output("wf", "a", source, operation_id="twice").repeated
    assert (source.tell(), log_end(wf)) == (0, before)


def test_an_output_of_another_type_is_no_file(wf):
    """Only bytes are read as a file, and the error says what to do with the rest."""
    wf.add_step_output("wf", "a", {"rows": 1}).unwrap()
    with pytest.raises(InvalidInput, match="get_step_output"):
        wf.open_step_output("wf", "a")
    with pytest.raises(waypost.OutputNotFound):
        wf.open_step_output("wf", "b")


def test_a_registered_type_is_no_file(wf):
    """An object that can be stored as it is is stored so, though it has a `read`."""

    class Reader:
        def read(self, size: int = -1) -> bytes:
            raise AssertionError

    waypost.register_type("test.reader", Reader, lambda _: "reader", lambda _: Reader())
    try:
        wf.add_step_output("wf", "a", Reader()).unwrap()
        assert isinstance(wf.get_step_output("wf", "a").output, Reader)
    finally:
        values.unregister_type("test.reader")


def test_d11_a_stream_that_does_not_fit_is_refused_before_it_is_written(path):
    """Beyond `performance.max_file_size` no block is written, hardly anything is read, and the log stays as it was."""
    with open_waypost(path, max_file_size=4) as handle:
        handle.create_workflow("wf", "W", steps=["a"]).unwrap()
        before = log_end(handle)
        for size in (4 * MB, 64 * MB):
            source = io.BytesIO(noise(size))
            with system_calls() as calls:
                refused = handle.add_step_output("wf", "a", source)
                assert max((length for name, _, length in calls.trace if name == "pwrite"), default=0) < 100_000
            assert source.tell() < 3 * MB
            assert isinstance(refused.error, DocumentTooLarge), size
            assert refused.error.details["limit_bytes"] == 4 * MB
        assert log_end(handle) == before
        handle.add_step_output("wf", "a", io.BytesIO(noise(3 * MB))).unwrap()
        assert read_back(handle) == noise(3 * MB)


def test_room_for_a_stream_is_made_by_compaction(path):
    """Where the log is full of history that may go, a stream makes room for itself."""
    with open_waypost(path, max_file_size=16) as handle:
        handle.create_workflow("wf", "W", steps=["a"]).unwrap()
        for number in range(5):
            handle.add_step_output("wf", "a", io.BytesIO(noise(5 * MB, number))).unwrap()
            handle.delete_workflow("wf").unwrap()
            handle.create_workflow("wf", "W", steps=["a"]).unwrap()
        handle.add_step_output("wf", "a", io.BytesIO(noise(5 * MB))).unwrap()
        assert read_back(handle) == noise(5 * MB)
        assert handle.definitions.store.verify().sound


def test_a_stream_that_the_disk_has_no_room_for_is_refused_before_it_is_written(wf, monkeypatch):
    """A full disk is noticed before it is filled with what could not be finished."""
    before = log_end(wf)
    monkeypatch.setattr(files.Directory, "free_bytes", lambda self: 5 * MB)
    refused = wf.add_step_output("wf", "a", io.BytesIO(noise(6 * MB)))
    assert (refused.error.code, refused.error.details["errno"]) == ("store_unavailable", "ENOSPC")
    assert log_end(wf) == before
    wf.add_step_output("wf", "a", io.BytesIO(noise(4 * MB))).unwrap()


@pytest.mark.parametrize("at", [1, 2, 3])
def test_d05_a_write_that_fails_midway_leaves_the_document_as_it_was(wf, at):
    """When the disk is full after all, the stream fails, and what is committed afterwards is whole."""
    with system_calls() as calls:
        calls.fault = failing("pwrite", at, errno.ENOSPC, onwards=True)
        refused = wf.add_step_output("wf", "a", io.BytesIO(noise(5 * MB)))
    assert (refused.error.code, refused.status) == ("store_unavailable", "rolled_back")
    wf.add_step_output("wf", "a", io.BytesIO(noise(5 * MB))).unwrap()
    assert read_back(wf) == noise(5 * MB)
    assert wf.load_workflow_state("wf").unwrap().metadata.version == 2
    assert wf.definitions.store.verify().sound


# --- the commit and what is written ahead of it ---


def test_d01_one_sync_covers_a_stream_and_its_commit(wf):
    """However many frames are written ahead, they are synced once, behind the commit and before it is acknowledged."""
    wf.add_step_output("wf", "a", 1).unwrap()
    with system_calls() as calls:
        assert wf.add_step_output("wf", "a", io.BytesIO(noise(9 * MB))).performance.syncs == 1
        names = [name for name, _, _ in calls.trace if name in ("pwrite", "fdatasync", "fsync")]
    # a snapshot that is taken beside it has a sync of its own
    assert names[:6] == ["pwrite"] * 5 + ["fdatasync"] or names.count("pwrite") > 5


def test_c14_others_commit_while_a_stream_is_read(path, wf):
    """While a source is read no lock is held: other processes commit between any two reads of it."""
    committed = []

    class Interrupted(io.BytesIO):
        def read(self, size=-1):
            if self.tell() % MB == 0 and self.tell():
                others.submit(putting(**{f"k{self.tell()}": b"1"})).result()
                committed.append(self.tell())
            return super().read(size)

    others = directory_store(path)
    wf.add_step_output("wf", "a", Interrupted(noise(6 * MB))).unwrap()
    others.close()
    assert len(committed) == 6
    assert read_back(wf) == noise(6 * MB)
    assert wf.load_workflow_state("wf").unwrap().metadata.version == 8
    assert wf.definitions.store.verify().sound


def test_c14_much_that_others_wrote_ahead_is_checked_without_the_lock(path, wf, monkeypatch):
    """A writer who finds many megabytes of others checks them before it takes the lock for its own frame."""
    others = directory_store(path)
    others.submit(putting(a=b"1")).result()
    wf.add_step_output("wf", "a", io.BytesIO(noise(20 * MB))).unwrap()
    held = 0
    most = 0
    real_read, real_flock = files.File.read, files.fcntl.flock

    def flock(descriptor, operation):
        nonlocal held
        real_flock(descriptor, operation)
        held = 0 if operation == files.fcntl.LOCK_UN else 1

    def read(self, length, offset):
        nonlocal most, held
        if held:
            held += length
            most = max(most, held)
        return real_read(self, length, offset)

    monkeypatch.setattr(files.fcntl, "flock", flock)
    monkeypatch.setattr(files.File, "read", read)
    others.submit(putting(a=b"2")).result()
    monkeypatch.undo()
    others.close()
    assert 0 < most < MB
    assert read_back(wf) == noise(20 * MB)


def test_another_output_of_the_step_may_come_first(wf):
    """Whoever adds an output while a stream is on its way gets the earlier version, and both stay readable."""
    first = Hooked(noise(5 * MB, 2), 4 * MB, lambda: wf.add_step_output("wf", "a", b"faster").unwrap())
    assert wf.add_step_output("wf", "a", first).unwrap().version == 2
    second = Hooked(noise(5 * MB, 3), 4 * MB, lambda: wf.add_step_output("wf", "a", io.BytesIO(noise(MB))).unwrap())
    assert wf.add_step_output("wf", "a", second).unwrap().version == 4
    assert [read_back(wf, version=number) for number in (1, 2, 3, 4)] == [
        b"faster", noise(5 * MB, 2), noise(MB), noise(5 * MB, 3)
    ]  # fmt: skip
    assert wf.validate_workflow_state("wf").is_valid
    assert wf.definitions.store.verify().sound


def test_a_step_that_went_while_a_stream_was_read_is_reported(wf):
    """What was true when the source was opened is asked again by the commit."""
    source = Hooked(noise(5 * MB), 4 * MB, lambda: wf.update_step_status("wf", "a", "completed", 1).unwrap())
    assert wf.update_step_status("wf", "a", "failed", source).error.code == "illegal_transition"
    assert wf.get_step_output("wf", "a").output == 1


@pytest.mark.parametrize("at", [0, 3 * MB, 6 * MB])
@pytest.mark.parametrize("seekable", [True, False])
def test_a_compaction_on_the_way_has_the_stream_written_again(path, wf, at, seekable):
    """When the log is replaced before the commit, the source is read again, or taken from where it was kept."""
    times = 0

    def replace():
        nonlocal times
        times += 1
        tidy(path)

    data = noise(6 * MB)
    source = Hooked(data, at, replace)
    if seekable:
        wf.add_step_output("wf", "a", source).unwrap()
    else:
        stage = wf.definitions.store.stage

        def replaced_then_stage(document, key, length, pieces):
            made = stage(document, key, length, pieces)
            if not times:
                replace()
            return made

        wf.definitions.store.stage = replaced_then_stage
        wf.add_step_output("wf", "a", Unseekable(data)).unwrap()
    assert times == 1
    assert read_back(wf) == data
    assert wf.load_workflow_state("wf").unwrap().metadata.version == 3
    assert wf.definitions.store.verify().sound


async def test_a_lost_stream_is_staged_again_on_the_asynchronous_face(path):
    """The same when the commit is awaited."""
    async with waypost.open_async(str(path)) as awp:
        (await awp.create_workflow("wf", "W", steps=["a"])).unwrap()
        source = Hooked(noise(6 * MB), 6 * MB, lambda: tidy(path))
        (await awp.add_step_output("wf", "a", source)).unwrap()
        assert source.begun == 2
        with await awp.open_step_output("wf", "a") as file:
            assert file.read() == noise(6 * MB)


def test_a_stream_that_is_lost_again_and_again_fails(path, wf):
    """Whoever never gets through is told so, and may try again."""
    stage = wf.definitions.store.stage

    def stage_and_lose(document, key, length, pieces):
        made = stage(document, key, length, pieces)
        tidy(path)
        return made

    wf.definitions.store.stage = stage_and_lose
    refused = wf.add_step_output("wf", "a", io.BytesIO(noise(5 * MB)))
    assert (refused.error.retryable, refused.status) == (True, "rolled_back")
    assert wf.load_workflow_state("wf").unwrap().outputs.get("a") is None


def test_upkeep_waits_for_streams_that_are_on_their_way(path):
    """Compaction is not due while somebody may be writing ahead, in this process or another."""
    store, others = directory_store(path, max_file_size=4), directory_store(path, max_file_size=4)
    store.submit(putting(a=b"1")).result()
    others.submit(putting(a=b"2")).result()
    made = store.stage(WF, "big", 3 * MB, lambda size: cut(noise(3 * MB), size))
    others.submit(putting(a=b"3")).result()
    for each in (store, others):
        document = each._document(WF)
        log, state = document.log_if_usable(), document.state_now()
        log.end *= 100  # as if history had outgrown its bound
        assert not upkeep.compaction_is_due(log, state, each._context, closing=False)
        log.ahead_us -= 61_000_000
        assert upkeep.compaction_is_due(log, state, each._context, closing=False)
        log.end //= 100
    store.submit(change(WF, lambda tx: tx.put("big", made))).result()
    assert store.view(WF).get("big") == noise(3 * MB)


def cut(data, size):
    for start in range(0, len(data), size):
        yield data[start : start + size]


# --- kept, compacted, cut off ---


def test_d13_compaction_carries_streams_with_their_commits(path):
    """Commits that refer to blocks keep their ids and their content wherever compaction puts the blocks."""
    with open_waypost(path) as handle:
        handle.create_workflow("wf", "W", steps=["a", "b"]).unwrap()
        for number in range(4):
            handle.add_step_output("wf", "ab"[number % 2], io.BytesIO(noise(3 * MB + number, number))).unwrap()
        handle.add_step_output("wf", "a", noise(MB, 9)).unwrap()
        ids = [handle.definitions.store.view_at(WF, version).commit_id for version in range(1, 7)]
    store = directory_store(path)
    for round in range(3):
        store.submit(putting(other=b"%d" % round)).result()
        assert store.tidy(WF, "snapshot") or True
        assert store.tidy(WF, "compact")
        assert [store.view_at(WF, version).commit_id for version in range(1, 7)] == ids
        for version in range(2, 6):
            number = version - 2
            view = store.view_at(WF, version)
            data = records.output_bytes(view, "ab"[number % 2], number // 2 + 1)
            assert values.decode(data) == noise(3 * MB + number, number)
        assert store.verify().sound
    store.close()
    with open_waypost(path) as handle:
        assert [read_back(handle, "a", number) for number in (1, 2, 3)] == [
            noise(3 * MB, 0), noise(3 * MB + 2, 2), noise(MB, 9)
        ]  # fmt: skip


def test_compaction_keeps_a_stream_whose_commit_is_dropped(path, monkeypatch):
    """When history goes, the content that the newest version still has stays, and nothing else."""
    with open_waypost(path) as handle:
        handle.create_workflow("wf", "W", steps=["a", "b"]).unwrap()
        handle.add_step_output("wf", "a", io.BytesIO(noise(5 * MB, 1))).unwrap()
        handle.add_step_output("wf", "b", io.BytesIO(noise(5 * MB, 2))).unwrap()
        handle.update_step_status("wf", "a", "skipped").unwrap()
        monkeypatch.setattr(compaction, "DAY_US", -1)
        store = handle.definitions.store
        assert upkeep.compact(store._document(WF), store._context)
        assert read_back(handle, "a") == noise(5 * MB, 1)
        assert read_back(handle, "b") == noise(5 * MB, 2)
        assert store.view_at(WF, 2) is None
        assert store.verify().sound


def test_what_was_never_committed_goes_with_the_next_compaction(path, log_file):
    """Content whose change never came takes room only until the log is next written again; closing has it written."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    lost = store.stage(WF, "big", 5 * MB, lambda size: cut(noise(5 * MB), size))
    assert log_file.stat().st_size > 4 * MB
    store.submit(putting(a=b"2")).result()
    store.close()
    assert log_file.stat().st_size < 10_000
    store = directory_store(path)
    with pytest.raises(ContentLost):
        store.submit(change(WF, lambda tx: tx.put("big", lost))).result()
    assert (store.view(WF).version, store.view(WF).get("a"), store.verify().sound) == (2, b"2", True)


WRITER = """
import io, os, signal, sys
import waypost
from tests.store.test_streams import noise
from waypost.store.directory.document import Document

point, path = sys.argv[1:]
wp = waypost.open(path)
if point == "commit":
    Document._append = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
class Deadly(io.BytesIO):
    def read(self, size=-1):
        if point == "content" and self.tell() > 7_000_000:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(size)
wp.add_step_output("wf", "a", Deadly(noise(8_000_000)))
"""


@pytest.mark.parametrize("point", ["content", "commit"])
def test_a_process_killed_before_the_commit_leaves_the_document_as_it_was(path, log_file, point):
    """What a dead process wrote ahead is seen by nobody, hinders nobody, and goes with the next compaction."""
    with open_waypost(path) as handle:
        handle.create_workflow("wf", "W", steps=["a"]).unwrap()
    killed = subprocess.run([sys.executable, "-c", WRITER, point, str(path)], env=environment(), timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert log_file.stat().st_size > 4_000_000
    assert directory_store(path, read_only=True).verify().sound
    with open_waypost(path) as handle:
        assert handle.load_workflow_state("wf").unwrap().metadata.version == 1
        handle.add_step_output("wf", "a", io.BytesIO(noise(3 * MB))).unwrap()
        assert read_back(handle) == noise(3 * MB)
    tidy(path)
    with open_waypost(path) as handle:
        assert log_file.stat().st_size < 3 * MB + 100_000
        assert read_back(handle) == noise(3 * MB)


def test_d06_a_torn_stream_is_moved_aside_in_pieces(path, log_file):
    """Frames written ahead that reached the disk without the first of them are a torn tail, kept as it was."""
    with open_waypost(path) as handle:
        handle.create_workflow("wf", "W", steps=["a"]).unwrap()
    end = log_file.stat().st_size
    store = directory_store(path)
    store.stage(WF, "big", 9 * MB, lambda size: cut(noise(9 * MB), size))
    torn = bytearray(log_file.read_bytes()[end:])
    del store  # without closing it
    torn[200_000] ^= 1  # in a block of the first frame
    log_file.write_bytes(log_file.read_bytes()[:end] + bytes(torn))
    with system_calls() as calls, open_waypost(path) as handle:
        handle.add_step_output("wf", "a", io.BytesIO(noise(3 * MB))).unwrap()
        assert read_back(handle) == noise(3 * MB)
        assert max(size for name, _, size in calls.trace if name == "pwrite") < 3 * MB
    kept = path / "temp" / f"wf.state.{end}.torn"
    assert kept.read_bytes() == bytes(torn).rstrip(b"\0")
    assert log_file.read_bytes()[:end] and directory_store(path, read_only=True).verify().sound


def test_d04_what_no_sync_covers_is_written_again_in_pieces(path, log_file):
    """A new writer behind frames that nobody is known to have synced writes them again, a piece at a time."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    store.stage(WF, "big", 9 * MB, lambda size: cut(noise(9 * MB), size))
    before = log_file.read_bytes()
    with system_calls() as calls:
        others = directory_store(path)
        others.submit(putting(a=b"2")).result()
        written = [size for name, _, size in calls.trace if name == "pwrite"]
    assert sum(written) > 8 * MB
    assert max(written) <= 2 * MB
    assert log_file.read_bytes()[: len(before) - MB] == before[: len(before) - MB]


# --- damage ---


@pytest.mark.parametrize("verify", [True, False])
def test_a_damaged_block_is_told_with_its_place(path, log_file, verify):
    """A changed byte in a stream is found when it is read there, with file and offset; what is before it is given."""
    with open_waypost(path) as handle:
        handle.create_workflow("wf", "W", steps=["a", "b"]).unwrap()
        handle.add_step_output("wf", "b", b"sound").unwrap()
        handle.add_step_output("wf", "a", io.BytesIO(noise(6 * MB))).unwrap()
    at = log_file.read_bytes().index(noise(6 * MB)[3 * MB : 3 * MB + 100])
    with open(log_file, "r+b") as file:
        file.seek(at)
        file.write(b"\0\0\0")
    report = directory_store(path, read_only=True).verify()
    assert [found.severity for found in report.findings] == ["damage"]
    config = {"reliability": {"checksum_validation": verify}}
    with waypost.open(str(path), config=config) as handle:
        assert read_back(handle, "b") == b"sound"
        with handle.open_step_output("wf", "a") as file:
            assert file.read(MB) == noise(6 * MB)[:MB]
            with pytest.raises(DocumentDamaged) as caught:
                file.read()
    if verify:
        assert (caught.value.file, at - MB < caught.value.offset <= at) == (str(log_file), True)


def test_a_value_that_is_not_what_its_output_says_is_told_at_its_end(path):
    """The checksum of the output is compared once all of the value was read in order, from wherever one began."""
    with open_waypost(path) as handle:
        handle.create_workflow("wf", "W", steps=["a"]).unwrap()
        handle.add_step_output("wf", "a", io.BytesIO(noise(3 * MB))).unwrap()
        key = records.output_key("a", 1)

        def falsify(tx):
            record = records.OUTPUT_RECORDS.get(tx, key)
            fields = {name: getattr(record, name) for name in record.__struct_fields__}
            tx.put(key, records.encode(type(record)(**{**fields, "checksum": sha256().hexdigest()})))

        handle.definitions.store.submit(change(WF, falsify)).result()
        with handle.open_step_output("wf", "a") as file:
            assert file.read(2 * MB) == noise(3 * MB)[: 2 * MB]
            with pytest.raises(DocumentDamaged, match="checksum"):
                file.read()


# --- the contract of a store ---


def test_staged_content_is_a_part_like_any_other(store):
    """A work may read what it put, later works and views see it, and it can be removed and cleared."""
    data = noise(3 * MB)
    made: Content = store.stage(WF, "big", len(data), lambda size: cut(data, size))
    assert (made.key, made.length, store.view(WF).version) == ("big", len(data), 0)

    def work(tx):
        tx.put("big", made)
        assert (tx.size_of("big"), tx.get("big") == data, list(tx.keys())) == (len(data), True, ["big"])
        assert tx.pieces("big").length == len(data)

    store.submit(change(WF, work)).result()
    view = store.view(WF)
    assert (view.get("big"), view.size_bytes, view.pieces("x")) == (data, 3 + len(data), None)
    pieces = view.pieces("big")
    assert b"".join(map(pieces.read, range(len(pieces.starts)))) == data
    store.submit(change(WF, lambda tx: tx.delete("big"))).result()
    assert store.view(WF).checksum == bytes(32)
    with pytest.raises(ValueError, match="cannot be put"):
        store.submit(change(WF, lambda tx: tx.put("another", made))).result()


def test_works_of_one_batch_see_staged_content(path):
    """A change that clears or removes what one before it in the batch has put adds up."""
    store = directory_store(path)
    data = noise(3 * MB)
    made = store.stage(WF, "big", len(data), lambda size: cut(data, size))
    seen = []

    def look(tx):
        seen.append((tx.get("big") == data, tx.size_of("big"), tx.pieces("big").length))
        tx.delete("big")

    document = store._document(WF)
    tickets = [document.submit(change(WF, work), None) for work in (lambda tx: tx.put("big", made), look)]
    assert [ticket.result().version for ticket in tickets] == [1, 2]
    assert seen == [(True, len(data), len(data))]
    assert store.view_at(WF, 1).get("big") == data
    assert (store.view(WF).checksum, store.view(WF).size_bytes) == (bytes(32), 0)
    assert store.verify().sound


def test_a_large_table_is_bounded():
    """The number of blocks does not grow with the smallest chunks, only their size does."""
    size = content.block_bytes(4096, 1 << 30)
    assert (1 << 30) / size <= 16_384
    assert content.block_bytes(4096, MB) == 4096


# --- memory ---

PEAK = """
import sys
import waypost
from tests.store.support import WF, directory_store
from waypost.store.directory import upkeep

action, path, size = sys.argv[1], sys.argv[2], int(sys.argv[3])

class Noise:
    def __init__(self):
        self.given = 0
        self.block = __import__("random").Random(1).randbytes(1 << 20)
    def seekable(self):
        return True
    def tell(self):
        return self.given
    def seek(self, offset, whence=0):
        self.given = offset if whence == 0 else size + offset
        return self.given
    def read(self, count):
        count = min(count, size - self.given)
        start = self.given % (1 << 19)
        self.given += count
        return self.block[start : start + min(count, 1 << 19)] if count <= 1 << 19 else self.block[:count]

config = {"performance": {"max_file_size": 4095}}
if action in ("write", "spool", "read", "compact"):
    with waypost.open(path, config=config) as wp:
        if action == "write":
            wp.create_workflow("wf", "W", steps=["a"]).unwrap()
            wp.add_step_output("wf", "a", Noise()).unwrap()
        elif action == "spool":
            source = Noise()
            source.seekable = bool
            wp.add_step_output("wf", "a", source).unwrap()
        elif action == "read":
            length = 0
            with wp.open_step_output("wf", "a") as file:
                while data := file.read(1 << 16):
                    length += len(data)
            assert length == size
        else:
            wp.add_steps("wf", ["b"]).unwrap()
            store = wp.definitions.store
            assert upkeep.compact(store._document(WF), store._context)
else:
    store = directory_store(path, read_only=True, max_file_size=4095)
    if action == "verify":
        assert store.verify().sound
    else:
        assert store.view_at(WF, 2).size_bytes > size
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print(line.split()[1])
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs the kernel's count of resident memory")
@pytest.mark.timeout(900)
def test_trap_29_a_gigabyte_goes_in_and_out_in_64_mb(path):
    """Writing, reading, compacting and verifying a value takes 64 MB of resident memory, however large the value is."""
    size = 1 << 30 if RING == "N" else 100_000_000
    actions = ["write", "read", "compact", "verify", "view_at"] + (["spool"] if RING == "C" else [])
    for action in actions:
        command = [sys.executable, "-c", PEAK, action, str(path), str(size)]
        peak_kb = int(subprocess.check_output(command, env=environment(), text=True))
        print(f"{action}: {peak_kb / 1024:.1f} MB")
        assert peak_kb < 64 * 1024, action
