"""Repairs meet versions that were taken in: what a document has adopted stays, and what nobody has goes aside."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.store.needed import calm, die, log_file, path
from tests.store.support import directory_store, system_calls
from tests.store.test_arriving import NAME, adopt, arrivals, foreign, is_whole
from tests.store.test_checkpoints import put
from waypost.store import View
from waypost.store.directory import checkpoints, keeping

__all__ = ["calm", "path"]

pytestmark = pytest.mark.usefixtures("calm")
ARRIVAL = checkpoints.arrival_name(NAME)


def killed(path: Path, *, adopted: bool) -> View:
    """What was taken in by a process that died before it gave it its place."""
    version, store = foreign(), directory_store(path)
    put(store, a=b"1")
    check = store.take_in(version, NAME)
    if adopted:
        adopt(store, check)
    store.layout.folder("checkpoints")
    die(store)
    return version


def aside(path: Path) -> list[str]:
    folder = path / "damaged"
    return sorted(os.listdir(folder)) if folder.exists() else []


# --- what keeps a repair from giving it its place ---


@contextmanager
def a_stopped_process_that_holds_the_folder(path: Path) -> Generator[None]:
    descriptor = os.open(path / "checkpoints" / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def a_bad_disk(call: str) -> Callable[[Path], AbstractContextManager[None]]:
    """That call fails wherever it has to do with what arrives."""

    def fault(name: str, _count: int, args: tuple[Any, ...]) -> None:
        if name == call and args[0] == ARRIVAL:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    @contextmanager
    def failing(_: Path) -> Generator[None]:
        with system_calls() as calls:
            calls.fault = fault
            yield

    return failing


@contextmanager
def a_log_of_a_newer_release(path: Path) -> Generator[None]:
    """The older release that repairs it cannot read what the document has adopted."""
    whole = log_file(path).read_bytes()
    log_file(path).write_bytes(b"WPF\x02" + bytes(range(1, 200)))
    yield
    log_file(path).write_bytes(whole)


OBSTACLES = {
    "held": a_stopped_process_that_holds_the_folder,
    "no second name": a_bad_disk("link"),
    "not read": a_bad_disk("open"),
    "newer": a_log_of_a_newer_release,
}
each_obstacle = pytest.mark.parametrize("obstacle", OBSTACLES.values(), ids=OBSTACLES)


@each_obstacle
def test_d14_a_repair_leaves_what_was_adopted_and_cannot_get_its_place(
    path: Path, obstacle: Callable[[Path], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An acknowledged import is read where it is, and has its place once nothing is in the way."""
    monkeypatch.setattr(keeping, "LOCK_TIMEOUT_S", 0.0)
    version = killed(path, adopted=True)
    with obstacle(path):
        report = waypost.repair(path)
    assert not report.is_complete and {each.action for each in report.repaired} == {"left"}
    assert (arrivals(path), aside(path)) == ([ARRIVAL], [])
    assert waypost.repair(path).repaired == [] and not arrivals(path)
    is_whole(path, version)


def test_d14_a_repair_leaves_what_stands_in_its_place_already(path: Path) -> None:
    """Its process died before the first of the two names went; a dry run has nothing to tell of it either."""
    version = killed(path, adopted=True)
    os.link(path / "temp" / ARRIVAL, path / "checkpoints" / checkpoints.file_name(NAME))
    for dry_run in (True, False):
        assert waypost.repair(path, dry_run=dry_run).repaired == []
    assert aside(path) == []
    is_whole(path, version)


@each_obstacle
def test_e10_a_repair_leaves_what_it_cannot_tell_to_be_unwanted(
    path: Path, obstacle: Callable[[Path], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was adopted is not guessed; the next repair, which can tell, moves it aside."""
    monkeypatch.setattr(keeping, "LOCK_TIMEOUT_S", 0.0)
    killed(path, adopted=False)
    if obstacle is not OBSTACLES["no second name"]:  # which it was not to get anyway
        with obstacle(path):
            report = waypost.repair(path)
        assert (f"temp/{ARRIVAL}", "left") in [(each.file, each.action) for each in report.repaired]
        assert (arrivals(path), aside(path)) == ([ARRIVAL], [])
    assert waypost.repair(path).is_complete
    assert (arrivals(path), aside(path)) == ([], [f"{ARRIVAL}.1"])


# --- what nobody wants ---


def not_adopted(path: Path) -> None:
    killed(path, adopted=False)


def of_another_name(path: Path) -> None:
    killed(path, adopted=True)
    (path / "temp" / ARRIVAL).rename(path / "temp" / "renamed.arriving")


def damaged(path: Path) -> None:
    killed(path, adopted=True)
    (path / "temp" / ARRIVAL).write_bytes(b"damaged")


def without_a_log(path: Path) -> None:
    killed(path, adopted=True)
    log_file(path).unlink()


UNWANTED = {not_adopted: "died", of_another_name: "has another name", damaged: "not whole", without_a_log: "died"}


@pytest.mark.parametrize(("make", "named"), UNWANTED.items(), ids=lambda each: getattr(each, "__name__", ""))
def test_e10_a_repair_moves_aside_what_was_taken_in_and_is_no_checkpoint(
    path: Path, make: Callable[[Path], None], named: str
) -> None:
    """A dry run says so, its bytes are kept, and repairs come to an end."""
    make(path)
    (name,) = arrivals(path)
    data = (path / "temp" / name).read_bytes()
    for dry_run in (True, False):
        report = waypost.repair(path, dry_run=dry_run)
        (told,) = [each for each in report.repaired if each.file == f"temp/{name}"]
        assert told.action == "moved aside" and named in told.found
        assert arrivals(path) == ([name] if dry_run else [])
    assert told.original is not None and (path / told.original).read_bytes() == data
    waypost.repair(path)  # where it had been adopted, its document is told now that it is lost
    assert waypost.repair(path).repaired == []
    with closing(directory_store(path, read_only=True)) as store:
        assert store.verify().sound


def test_e10_a_dry_repair_does_not_guess_what_a_damaged_log_will_have(path: Path) -> None:
    """What was adopted gets its place once the log is written anew, and nothing is said of it before."""
    version = killed(path, adopted=True)
    with log_file(path).open("r+b") as file:
        file.write(b"\xff")
    for dry_run in (True, False):
        (told,) = waypost.repair(path, dry_run=dry_run).repaired
        assert (told.file, told.action) == ("workflows/wf.state", "written anew")
    assert not arrivals(path)
    is_whole(path, version)


# --- who else is at work ---


def test_c09_a_repair_leaves_what_a_living_process_took_in(path: Path) -> None:
    """It may still be adopted, and then it is whole."""
    version = foreign()
    with closing(directory_store(path)) as store:
        put(store, a=b"1")
        check = store.take_in(version, NAME)
        for dry_run in (True, False):
            assert waypost.repair(path, dry_run=dry_run).repaired == []
        assert arrivals(path) == [ARRIVAL]
        adopt(store, check)
    is_whole(path, version)


def test_c07_nothing_takes_the_name_of_what_a_repair_looks_at(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever imports under the same id waits for the folder, and so his own is not what is moved aside."""
    killed(path, adopted=False)
    real, free = checkpoints.names_now, list[bool]()
    with closing(directory_store(path, read_only=True)) as other:

        def looked_at(*args: Any, **kwargs: Any) -> set[str]:
            with keeping.alone_if_free(other._context) as is_free:
                free.append(is_free)
            return real(*args, **kwargs)

        monkeypatch.setattr(checkpoints, "names_now", looked_at)
        waypost.repair(path)
    assert free == [False] and aside(path) == [f"{ARRIVAL}.1"]
