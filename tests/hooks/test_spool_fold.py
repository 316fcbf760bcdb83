"""Folding: what waits is taken in once, in order of arrival; what cannot be used keeps its bytes, and says why."""

from __future__ import annotations

import logging
import os
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.crash.faults import Shim, fail_at, installed
from tests.hooks.spooled import fold, make_store, take, taken
from waypost import clock
from waypost.errors import (
    DependencyUnfinished,
    DocumentDamaged,
    InvalidInput,
    SessionBusy,
    StepBusy,
    StoreUnavailable,
    TransactionPending,
    VersionConflict,
    WaypostError,
    WorkflowNotFound,
)
from waypost.hooks import entries, script, spool
from waypost.hooks.entries import Entry
from waypost.store import Store
from waypost.store.directory import spooled
from waypost.store.directory.files import Directory


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = make_store(tmp_path / "store")
    yield made
    made.close()


@pytest.fixture
def folder(store: Store) -> Path:
    made = Path(store.location) / "spool"
    made.mkdir()
    return made


def put(folder: Path, payload: bytes, *, at: int = 0, boot: str | None = None, **fields: str) -> Path:
    """An event as the script leaves it."""
    boot = clock.boot_id() if boot is None else boot
    name = script.new_name(boot, at or clock.monotonic_ns())
    header = {"name": name, "dialect": "waypost", "time_us": "1", "boot": boot, "length": str(len(payload)), **fields}
    path = folder / (name + script.SUFFIX)
    path.write_bytes(script.encode(header, payload))
    return path


# --- order ---


def test_s03_d24_a_jump_of_the_wall_clock_changes_no_order(store: Store, folder: Path) -> None:
    """Events of one boot are taken in by its own clock, whatever the wall clock said."""
    for number, year in enumerate((50, 10, 90, 1)):
        put(folder, b"%d" % number, at=number + 1, time_us=str(year * 10**13))
    assert fold(store) == (4, 0, 0)
    assert list(taken(store)) == ["0", "1", "2", "3"]


def test_s03_d24_earlier_boots_come_first(store: Store, folder: Path) -> None:
    """Boots are taken in by their wall time, and the present one last, however small its clock still is."""
    put(folder, b"now 1", at=5, time_us="1")
    put(folder, b"now 2", at=6, time_us="1")
    put(folder, b"old 2", at=9_000, boot="ffffffff-x", time_us="2000")
    put(folder, b"old 1", at=10_000, boot="eeeeeeee-x", time_us="1000")
    assert fold(store) == (4, 0, 0)
    assert list(taken(store)) == ["old 1", "old 2", "now 1", "now 2"]


# --- once ---


def test_d24_what_comes_back_after_a_fold_changes_nothing(store: Store, folder: Path) -> None:
    """A file whose removal was lost is folded again, and its commit is known."""
    path = put(folder, b"a")
    data = path.read_bytes()
    assert fold(store) == (1, 0, 0)
    path.write_bytes(data)
    assert fold(store) == (1, 0, 0)
    assert taken(store) == {"a": 1}
    assert not path.exists()


def test_c07_d24_one_process_folds_at_a_time(store: Store, folder: Path) -> None:
    """While somebody folds, another one leaves what waits to him, and waits for nothing."""
    put(folder, b"a")
    inside: list[object] = []

    def taker(definitions: Any, entry: Entry) -> None:
        inside.append(fold(store))
        take(definitions, entry)

    assert fold(store, taker) == (1, 0, 0)
    assert inside == [(0, 0, 1)]
    assert taken(store) == {"a": 1}


@pytest.mark.parametrize("moment", ["openat", "flock", "pwrite", "fsync"])
def test_d24_a_fold_in_the_middle_of_a_hook_takes_nothing_away(
    store: Store, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever somebody folds while an event is being made, it is there once afterwards, and no part of it is aside."""

    opened: list[int] = []
    folded: list[object] = []

    class During:
        """Stands in for `os` and `fcntl`: folds before one of the calls."""

        def __init__(self, module: Any) -> None:
            self._module = module

        def __getattr__(self, name: str) -> Any:
            return getattr(self._module, name)

        def open(self, *args: Any, **more: Any) -> int:
            opened.append(os.open(*args, **more))
            return opened[-1]

        def close(self, descriptor: int) -> None:
            opened.remove(descriptor)  # its number may be another file's next
            os.close(descriptor)

        def flock(self, *args: Any) -> None:
            self._fold_at("openat")  # the file was made, and is not locked
            self._module.flock(*args)
            self._fold_at("flock")

        def pwrite(self, *args: Any) -> int:
            self._fold_at("pwrite")
            return self._module.pwrite(*args)

        def fsync(self, *args: Any) -> None:
            self._fold_at("fsync")
            self._module.fsync(*args)

        @staticmethod
        def _fold_at(here: str) -> None:
            if here == moment and not folded:
                folded.append(fold(store))

    monkeypatch.setattr(script, "posix", During(script.posix))
    monkeypatch.setattr(script, "fcntl", During(script.fcntl))
    fields = {"dialect": "waypost", "time_us": "1", "length": "1"}
    script.append((store.location, "spool"), clock.boot_id(), 1, fields, b"a")
    monkeypatch.undo()
    for descriptor in opened:  # as the end of the process does
        os.close(descriptor)
    assert folded
    fold(store)
    assert taken(store) == {"a": 1}
    assert spool.refused(store.location) == []


def test_x27_ten_thousand_events_are_folded_in_bounded_memory(store: Store, folder: Path) -> None:
    """What waits is read one at a time."""
    payload = b"x" * 2000
    for number in range(10_000):
        put(folder, payload, at=number + 1)
    seen: list[int] = []
    tracemalloc.start()
    try:
        assert fold(store, lambda _, entry: seen.append(len(entry.payload))) == (10_000, 0, 0)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert len(seen) == 10_000
    assert list(folder.glob("*.event")) == []


# --- what the store cannot take now ---


def test_d24_what_the_store_cannot_take_now_stays_with_all_behind_it(store: Store, folder: Path) -> None:
    """A full disk ends the fold: the event and those behind it wait, and the next fold takes them in order."""
    for number in range(4):
        put(folder, b"%d" % number, at=number + 1)

    def refusing(definitions: Any, entry: Entry) -> None:
        if entry.payload == b"1":
            raise StoreUnavailable("no room", errno="ENOSPC")
        take(definitions, entry)

    assert fold(store, refusing) == (1, 0, 3)
    assert spool.waiting(store.location) == 3
    assert fold(store) == (3, 0, 0)
    assert list(taken(store)) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("error", [DocumentDamaged, VersionConflict, TransactionPending])
def test_d24_what_another_try_can_do_waits_alone(store: Store, folder: Path, error: type[WaypostError]) -> None:
    """An event for a document that is to be mended, that others were faster than, or that meets an open transaction
    waits; others are taken in.
    """
    for number in range(2):
        put(folder, b"%d" % number, at=number + 1)

    def busy(definitions: Any, entry: Entry) -> None:
        if entry.payload == b"0":
            raise error("not yet")
        take(definitions, entry)

    assert fold(store, busy) == (1, 0, 1)
    assert fold(store) == (1, 0, 0)
    assert list(taken(store)) == ["1", "0"]


@pytest.mark.parametrize("error", [DependencyUnfinished, StepBusy, SessionBusy])
def test_d24_what_is_not_ready_in_its_time_is_refused(store: Store, folder: Path, error: type[WaypostError]) -> None:
    """An event for what waits for something else, or is somebody's, is set aside with its reason: it is not taken in
    at a later time, over what was done meanwhile.
    """
    put(folder, b"0")

    def refusing(definitions: Any, entry: Entry) -> None:
        raise error("not ready")

    assert fold(store, refusing) == (0, 1, 0)
    assert spool.waiting(store.location) == 0
    assert [each.reason for each in spool.refused(store.location)] == [f"is refused: not ready ({error.code})"]
    assert fold(store) == (0, 0, 0)
    assert taken(store) == {}


@pytest.mark.parametrize("kind", ["EIO", "ENOSPC", "EACCES", "EMFILE"])
def test_e01_d24_a_refused_call_in_a_fold_costs_no_event(store: Store, folder: Path, kind: str) -> None:
    """Whatever call of a fold the system refuses, it raises nothing, and afterwards all is taken in once."""
    number = 0
    expected: dict[str, int] = {}
    while True:
        number += 1
        for name in ("a", "b"):
            put(folder, f"{name}{number}".encode())
            expected[f"{name}{number}"] = 1
        (folder / "00000000-0000000000000000-0000000000000000.event").write_bytes(b"torn")
        shim = Shim(fail_at(number, kind, any_call=True))
        with installed(shim), shim.active():
            fold(store, partial(aside, shim))
        fold(store)
        assert taken(store) == expected
        assert spool.waiting(store.location) == 0
        if not shim.met:
            break
    assert number > 20


def aside(shim: Shim, definitions: Any, entry: Entry) -> None:
    """Takes an event in; the faults are not about the commit."""
    with shim.paused():
        take(definitions, entry)


# --- what cannot be used ---


def spoil(folder: Path, how: str) -> None:
    """An event that is amiss in some way."""
    path = put(folder, b"spoilt")
    data = path.read_bytes()
    match how:
        case "torn":
            path.write_bytes(data[:-1])
        case "zeros":
            path.write_bytes(bytes(len(data)))
        case "flipped":
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        case "longer":
            path.write_bytes(data + b"\0")
        case "renamed":
            path.rename(folder / (script.new_name(clock.boot_id(), 7) + script.SUFFIX))
        case "newer":
            path.write_bytes(data.replace(b"waypost-event 1 ", b"waypost-event 2 "))
        case "link":
            path.unlink()
            path.symlink_to("/etc/passwd")
        case "fifo":
            path.unlink()
            os.mkfifo(path)
        case "directory":
            path.unlink()
            path.mkdir()
        case "huge":
            os.truncate(path, entries.MOST_BYTES + 1)
        case "dialect":
            path.unlink()
            put(folder, b"spoilt", dialect="klingon")
        case "no time":
            path.unlink()
            put(folder, b"spoilt", time_us="x")
        case "length":
            path.unlink()
            put(folder, b"spoilt", length="7")
        case _:
            raise AssertionError(how)


REASONS = {
    **dict.fromkeys(("torn", "zeros", "flipped", "longer"), "not whole"),
    "renamed": "under another name", "newer": "format 2", "huge": "more than an event may", "length": "says that it",
    **dict.fromkeys(("link", "fifo", "directory"), "no regular file"), "dialect": "'klingon'", "no time": "no time_us",
}  # fmt: skip


@pytest.mark.parametrize("how", REASONS)
def test_d24_n04_what_is_amiss_is_set_aside_with_a_reason(store: Store, folder: Path, how: str) -> None:
    """An event that cannot be used keeps no other from being taken in; its bytes are kept, and why is told."""
    put(folder, b"a", at=1)
    spoil(folder, how)
    put(folder, b"b", at=1 << 62)
    (spoilt,) = set(folder.glob("*.event")) - {each for each in folder.glob("*.event") if is_sound(each)}
    data = spoilt.read_bytes() if spoilt.is_file() and not spoilt.is_symlink() else None
    assert fold(store) == (2, 1, 0)
    assert list(taken(store)) == ["a", "b"]
    (refused,) = spool.refused(store.location)
    assert REASONS[how] in refused.reason
    kept = folder / refused.name
    assert kept.name == spoilt.name
    assert data is None or kept.read_bytes() == data
    assert fold(store) == (0, 0, 0)


def is_sound(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    try:
        return entries.read(path.stem, path.read_bytes()).dialect == "waypost"
    except (entries.NotWhole, entries.Unusable):
        return False


def test_d24_a_file_that_was_only_made_goes(store: Store, folder: Path) -> None:
    """Of an event without a byte nothing can be kept."""
    (folder / (script.new_name(clock.boot_id(), 1) + script.SUFFIX)).touch()
    assert fold(store) == (0, 0, 0)
    assert list(folder.glob("*.event")) == []
    assert spool.refused(store.location) == []


def test_d24_an_event_that_is_being_written_is_left_alone(store: Store, folder: Path) -> None:
    """What its writer has locked is neither taken nor set aside."""
    import fcntl

    path = put(folder, b"a")
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert fold(store) == (0, 0, 1)
    assert fold(store) == (1, 0, 0)


def failing(error: Exception) -> Callable[[Any, Entry], None]:
    def taker(definitions: Any, entry: Entry) -> None:
        raise error

    return taker


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (WorkflowNotFound("there is no workflow 'x'"), "is refused: there is no workflow 'x' (workflow_not_found)"),
        (InvalidInput("bad\n\x1b[31mline\ud800"), "is refused: bad \x1b[31mline? (invalid_input)"),
        (TypeError("oops"), "met an error of Waypost's own: TypeError: oops"),
        (RecursionError(), "met an error of Waypost's own: RecursionError:"),
    ],
)
def test_d24_an_event_that_is_refused_is_kept_with_its_reason(
    store: Store, folder: Path, error: Exception, reason: str
) -> None:
    """What a taker refuses, or fails at, is set aside; opening the store again does not meet it."""
    data = put(folder, b"a").read_bytes()
    assert fold(store, failing(error)) == (0, 1, 0)
    (refused,) = spool.refused(store.location)
    assert refused.reason == reason
    assert (folder / refused.name).read_bytes() == data
    assert fold(store) == (0, 0, 0)


def test_x27_what_is_refused_is_bounded(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number and a size the oldest refused events go, with their reasons."""
    monkeypatch.setattr(spooled, "REFUSED_MOST", 5)
    monkeypatch.setattr(spooled, "REFUSED_MOST_BYTES", 2000)
    for number in range(8):
        os.utime(put(folder, b"%d" % number, at=number + 1, dialect="?"), (number, number))
    assert fold(store) == (0, 8, 0)
    assert [kept_payload(folder, each) for each in spool.refused(store.location)] == [b"3", b"4", b"5", b"6", b"7"]
    put(folder, b"x" * 1000, at=100, dialect="?")
    fold(store)
    assert sum(each.size_bytes for each in spool.refused(store.location)) <= 2000
    assert len(list((folder / "refused").iterdir())) == 2 * len(spool.refused(store.location))


def test_x27_a_removal_of_what_was_refused_leaves_no_reason_behind(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between an event and its reason: the next removal takes what is left, for nobody else would."""
    put(folder, b"0", dialect="?")
    assert fold(store) == (0, 1, 0)
    monkeypatch.setattr(spooled, "REFUSED_MOST", 0)
    spooled_in = spool.folder_of(store.location)
    assert spooled_in is not None
    remove = Directory.remove

    def killed(directory: Directory, name: str) -> None:
        remove(directory, name)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Directory, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            spooled.keep_bounds(spooled_in)
    spooled.keep_bounds(spooled_in)
    assert list((folder / "refused").iterdir()) == []


def kept_payload(folder: Path, refused: spooled.Refused) -> bytes:
    return entries.read(Path(refused.name).stem, (folder / refused.name).read_bytes()).payload


def test_x27_a_cleanup_removes_what_was_refused_long_ago(store: Store, folder: Path) -> None:
    """After thirty days a refused event goes with a cleanup, and counts as freed."""
    day = 24 * 3600
    now = clock.now_us() // 1_000_000
    for number, age in enumerate((31, 29)):
        os.utime(put(folder, b"%d" % number, at=number + 1, dialect="?"), (now - age * day, now - age * day))
    fold(store)
    size = spool.refused(store.location)[0].size_bytes
    assert store.sweep() == size
    assert [kept_payload(folder, each) for each in spool.refused(store.location)] == [b"1"]


def test_x21_what_is_told_of_a_refused_event_is_logged_once(
    store: Store, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever opens the store is told which event was refused, and not again."""
    path = put(folder, b"a", dialect="?")
    with caplog.at_level(logging.WARNING, "waypost"):
        fold(store)
        fold(store)
    assert [path.name in record.getMessage() for record in caplog.records] == [True]
