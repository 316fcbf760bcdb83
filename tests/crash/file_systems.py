"""File systems of our own, on images with a loop device, that end as they would in a power cut; and who works on them.

The shutdown call of ext4 and XFS, told to leave the journal unwritten, stops a file system at once: each later call
fails, and what was not synced is gone when it is mounted again. `FileSystem` does that. `live` has a process work on a
store there until its n-th change, at which the file system ends. `what_no_model_explains` says what of that
which is left is in no state of the simulated power loss. All of it needs root.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import pickle
import random
import shutil
import struct
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tests.crash.disk import Crash, Disk, Operation
from tests.crash.oracle import Standing, Story
from tests.crash.recording import Event, Mark, Recorder
from tests.crash.simulated import ROOT, Tree, running_on
from tests.crash.stories import OTHER, PLAIN, THIRD, Recording, Run
from tests.store.support import WF, TestedStore
from waypost import clock
from waypost.errors import WaypostError
from waypost.store.directory import document, log, upkeep

_SHUT_DOWN = 0x8004587D
_MOST_SECONDS = 60
_LEAVE_THE_JOURNAL = 2
_DOCUMENTS = (WF, OTHER, THIRD)

Kind = Literal["ext4", "xfs"]
Ending = Literal["dies", "goes on", "meanwhile"]
"""What the process does when its file system ends: it dies with it, it goes on and is told so, or one of its calls is
under way.
"""


class FileSystem:
    """A file system on an image, mounted at a place."""

    def __init__(self, folder: Path, kind: Kind, options: str) -> None:
        self.image, self.place = folder / "image", folder / "mounted"
        self._kind, self._options = kind, options

    def make(self) -> None:
        self.place.mkdir()
        with open(self.image, "wb") as file:
            file.truncate((64 if self._kind == "ext4" else 320) << 20)
        # pages of 4 KiB, as on a disk of an ordinary size
        _run("mkfs.ext4", "-qF", "-b", "4096", self.image) if self._kind == "ext4" else _run(
            "mkfs.xfs", "-qf", self.image
        )

    def mount(self) -> None:
        _run("mount", "-t", self._kind, "-o", f"loop,{self._options}", self.image, self.place)

    def unmount(self) -> None:
        gc.collect()  # views that were let go of close their files
        _run("umount", self.place)
        deadline = time.monotonic() + _MOST_SECONDS
        while self._is_held():
            assert time.monotonic() < deadline, "somebody keeps what was unmounted"
            time.sleep(0.02)

    def _is_held(self) -> bool:
        """Whether the kernel still has it: a process with mounts of its own, as other tests start them, has a copy of
        this one too. Mounted meanwhile it would be the same file system, shut down as it is.
        """
        devices = Path("/sys/block").glob("loop*/loop/backing_file")
        return any(_told_by(device) == str(self.image) for device in devices)

    def is_mounted(self) -> bool:
        """By the table of mounts: one that was shut down may not be looked at."""
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
        return any(row.split()[1] == str(self.place) for row in mounts)

    def shut_down(self) -> None:
        """The power goes. May be asked for twice."""
        try:
            descriptor = os.open(self.place, os.O_RDONLY)
        except OSError as error:
            if error.errno == errno.EIO:  # XFS answers nothing more
                return
            raise
        try:
            fcntl.ioctl(descriptor, _SHUT_DOWN, struct.pack("I", _LEAVE_THE_JOURNAL))
        finally:
            os.close(descriptor)

    def start_again(self) -> None:
        self.shut_down()
        self.unmount()
        self.mount()

    def clear(self) -> None:
        """Remove all that is there, durably."""
        shutil.rmtree(self.place / "above", ignore_errors=True)
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{command[0]}: {done.stderr.partition(chr(10))[0]}")


@lru_cache
def what_is_missing(kind: Kind) -> str | None:
    """Why there can be no such file system here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    for tool in (f"mkfs.{kind}", "mount", "umount"):
        if shutil.which(tool) is None:
            return f"needs {tool}"
    try:
        with tempfile.TemporaryDirectory() as folder, file_system(Path(folder), kind, "defaults"):
            return None
    except OSError as error:  # root of a container, whom the kernel lets make no mounts
        return f"needs to mount {kind}: {error}"


def _told_by(device: Path) -> str:
    try:
        return device.read_text(encoding="utf-8").strip()
    except OSError:  # it was given back meanwhile
        return ""


@contextmanager
def file_system(folder: Path, kind: Kind, options: str) -> Iterator[FileSystem]:
    """A new mounted file system; unmounted at the end, whatever happens, which gives its loop device back."""
    made = FileSystem(folder, kind, options)
    made.make()
    try:
        made.mount()
        yield made
    finally:
        if made.is_mounted():
            with suppress(OSError):
                made.unmount()
        if made.is_mounted():  # somebody still has a file open: it goes with the last of them
            _run("umount", "-l", made.place)
        made.image.unlink()


# --- a process on it ------------------------------------------------------------------------------


class DyingRecorder(Recorder):
    """Records what is done on a file system that ends before its n-th change, or while that is being made."""

    def __init__(self, system: FileSystem, at: int, ending: Ending, leave: Callable[[], None]) -> None:
        super().__init__(system.place)
        self.tree = tree_below(system.place)
        self.before = self.tree.copy()
        self._system, self._at, self._ending, self._leave = system, at, ending, leave
        self.ender = threading.Thread(target=system.shut_down)
        self._heard: int | None = None

    @property
    def heard(self) -> int:
        """How many of the events came before the file system began to end, or after it had ended."""
        return len(self.events) if self._heard is None else self._heard

    def _change(self) -> None:
        super()._change()
        if self.changes != self._at:
            return
        if self._ending == "meanwhile":
            # A sync that is under way when ext4 is shut down may report success and lose its data: so it was seen with
            # nothing but writes and syncs. In a power cut nobody hears of it, so what is said from here on counts not.
            self._heard = len(self.events)
            self.ender.start()
            return
        self._system.shut_down()
        if self._ending == "dies":
            self._leave()


class Life(NamedTuple):
    """What a process did on a file system until that ended, and what went wrong with it beside that."""

    before: Tree
    events: list[Event]
    story: Story
    changes: int
    heard: int
    """How many of the events count for what was promised."""
    error: str

    def standing(self) -> Standing:
        """What was attempted and promised. Of the rest nobody knows whether it is there."""
        recording = Recording(self.before, self.events, self.story, PLAIN)
        tried, promised = recording.standing(len(self.events)).tried, recording.standing(self.heard).promised
        return Standing(tried, tried - promised, promised)


def live(system: FileSystem, story: Story, before: Standing, seed: int, at: int, ending: Ending) -> Life:
    """Have a child process work on the store there, and the file system end at its n-th change, or after its last."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        _live(system, story, before, random.Random(seed), at, ending, sending)
    os.close(sending)
    with open(receiving, "rb") as file:
        told = file.read()
    os.waitpid(child, 0)
    lived: Life = pickle.loads(told)
    return lived


def _live(
    system: FileSystem,
    story: Story,
    before: Standing,
    rng: random.Random,
    at: int,
    ending: Ending,
    sending: int,
) -> None:
    """The child. It never returns."""
    error = ""

    def leave() -> None:
        life = Life(recorder.before, recorder.events, story, recorder.changes, recorder.heard, error)
        with open(sending, "wb") as file:
            pickle.dump(life, file)
        os._exit(0)

    recorder = DyingRecorder(system, at, ending, leave)
    for kind, numbers in zip(("tried", "failed", "promised"), before, strict=True):
        for number in sorted(numbers):
            recorder.mark(kind, number)
    try:
        _leave_upkeep_to_the_process()
        with running_on(recorder):
            _work(Run(recorder, PLAIN, str(system.place), story), rng)
    except WaypostError:
        if recorder.changes < at:
            error = traceback.format_exc()
    except BaseException:
        error = traceback.format_exc()
    if recorder.ender.ident is not None:
        recorder.ender.join()
    leave()


def _leave_upkeep_to_the_process() -> None:
    """No thread beside it makes changes, so that a number names the same one each time; logs grow in small steps."""
    upkeep.Upkeep.ask = lambda self, document: None
    upkeep.Upkeep.ask_to_settle = lambda self: None
    upkeep.Upkeep.start_ticking = lambda self: None
    document.SNAPSHOT_FRAMES = 2
    log._FILL_LEAST = 8192
    boot = clock.boot_id() + os.urandom(4).hex()
    clock.boot_id = lambda: boot


def _work(run: Run, rng: random.Random) -> None:
    """Look at what is there, repeat what was under way, go on, and close."""
    store = run.open()
    known = sorted({document for changes in run.story.attempts.values() for document in changes})
    run.look(store, *known)
    if run.story.attempts:
        run.commit(store, again=max(run.story.attempts))
    for _ in range(rng.randint(3, 12)):
        store = _step(run, store, rng)
    run.close(store)


def _step(run: Run, store: TestedStore, rng: random.Random) -> TestedStore:
    one = rng.choice(_DOCUMENTS[:2])
    match rng.choice(("one", "one", "one", "two", "three", "snapshot", "compact", "settle", "reopen")):
        case "one":
            run.commit(store, one, large=rng.choice((0, 0, 3000, 9000)))
        case "two":
            run.commit(store, WF, OTHER, large=rng.choice((0, 0, 5000)))
        case "three":
            run.commit(store, *_DOCUMENTS)
        case "settle":
            run.settle(store)
        case "reopen":
            run.close(store)
            return run.open()
        case action:
            if store.view(one).version:
                store.tidy(one, action)
    return store


# --- what is left of it ---------------------------------------------------------------------------


def tree_below(path: Path) -> Tree:
    """A real directory as a tree; what the file system keeps for itself is left out."""
    tree = Tree()
    numbers: dict[int, int] = {}

    def take(folder: Path, inode: int) -> None:
        for each in sorted(folder.iterdir()):
            if each.name == "lost+found":
                continue
            known = numbers.setdefault(each.stat().st_ino, len(numbers) + 2)
            tree.directories[inode][each.name] = known
            if each.is_dir():
                tree.directories[known] = {}
                take(each, known)
            else:
                tree.files[known] = each.read_bytes()

    take(path, ROOT)
    return tree


class OnDisk:
    """As much of a `Machine` as the oracle asks for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.tree: Any = self

    def fingerprint(self) -> int:
        return tree_below(self._path).fingerprint()


def what_no_model_explains(life: Life, found: Tree) -> list[str]:
    """Names, lengths and bytes that no state of the weak model has, each looked at by itself."""
    disk = Disk(life.before, "weak")
    for at, event in enumerate(life.events):
        if not isinstance(event, Mark):
            disk.follow(at, event)
    crash = disk.crash(len(life.events))
    return list(_unexplained_names(crash, ROOT, found, ROOT, ""))


def _possible(first: Any, changes: Iterator[tuple[bool, Any]]) -> list[Any]:
    """What something may be after changes, of which those that are durable were made for sure."""
    values = [first]
    for is_durable, value in changes:
        values = [value] if is_durable else [*values, value]
    return values


def _unexplained_names(crash: Crash, inode: int, found: Tree, held: int, path: str) -> Iterator[str]:
    operations = list(enumerate(crash.operations))
    there = found.directories[held]
    changed = {name[1] for _, each in operations for name in each.names if name[0] == inode}
    for name in sorted({*there, *changed, *crash.base.directories[inode]}):
        changes = (
            (at in crash.durable, target)
            for at, each in operations
            for folder, changed_name, target in each.names
            if (folder, changed_name) == (inode, name)
        )
        possible = _possible(crash.base.directories[inode].get(name), changes)
        if name not in there:
            if None not in possible:
                yield f"{path}{name} is gone"
        elif there[name] in found.directories:
            folder = next((each for each in possible if each in crash.base.directories), None)
            if folder is None:
                yield f"{path}{name} is a directory"
            else:
                yield from _unexplained_names(crash, folder, found, there[name], f"{path}{name}/")
        else:
            files = [each for each in possible if each in crash.base.files]
            faults = [_unexplained_bytes(crash, each, found.files[there[name]]) for each in files]
            if all(faults):
                yield f"{path}{name}: {faults or 'is there'}"


def _unexplained_bytes(crash: Crash, inode: int, data: bytes) -> str | None:
    operations = [(at, each) for at, each in enumerate(crash.operations) if each.inode == inode and not each.names]
    base = crash.base.files[inode]
    ends = ((at in crash.durable and each.kind != "data", _end_of(each)) for at, each in operations)
    if len(data) not in _possible(len(base), ends):
        return f"length {len(data)}"
    for at, byte in enumerate(data):
        if at < len(base) and base[at] == byte:
            continue
        written = {
            each.data[at - each.offset]
            for _, each in operations
            if each.kind == "data" and each.offset <= at < each.offset + len(each.data)
        }
        if byte not in written and not (byte == 0 and at >= min((len(base), *map(_end_of, dict(operations).values())))):
            return f"byte {at}"
    return None


def _end_of(operation: Operation) -> int:
    """How long a file is at least when it holds what an operation wrote, or as long as it was cut to."""
    return operation.offset + (len(operation.data) if operation.kind == "data" else 0)
