"""A month of work in a short time, in a process of its own, which at the end tells what it leaves behind.

    python -m tests.crash.soaker STORE SEED ROUNDS          the whole, reported as JSON on standard output
    python -m tests.crash.soaker STORE SEED victim PREFIX   one writer, until it is killed; tells each commit

Two writers with a handle each make, step, compact and delete more workflows than a handle keeps open, by themselves and
two in a transaction. In each round a process that was forked off writes and is killed, and now and then one that was
started is, and a handle is reopened. A workflow that is through makes room for a new one, as they do in a month.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.store.many import read_frames
from tests.store.support import TestedStore, directory_store
from waypost.blocking import Waypost
from waypost.codec.frame import FrameType
from waypost.config import PRESETS
from waypost.definitions import Definitions
from waypost.queries import StateQuery
from waypost.store import DocumentId
from waypost.transactions import WorkflowTransaction

WORKFLOWS = 500
LIFE_STEPS = 30
COMMITS_OF_A_ROUND = 120
VALUE = bytes(range(256)) * 12


class Writer:
    """One writer: a handle, and what it was told of each workflow: completed steps, and the size of what was put."""

    def __init__(self, path: str, prefix: str, seed: int | str, *, say: bool = False) -> None:
        self.path, self.prefix, self.say = path, prefix, say
        self.rng = random.Random(seed)
        self.model: dict[str, dict[str, Any]] = {}
        self.commits = 0
        self.open()

    def open(self) -> None:
        self.store: TestedStore = directory_store(self.path, chunk_size=4096, max_memory_usage=16)
        self.wp = Waypost(Definitions(self.store, PRESETS["production"], verbose=False))

    def told(self, *what: object) -> None:
        self.commits += 1
        if self.say:
            os.write(1, json.dumps(what).encode() + b"\n")

    def fill(self) -> None:
        """Make all workflows."""
        for number in range(WORKFLOWS):
            self._make(f"{self.prefix}-{number}")

    def _make(self, name: str) -> None:
        self.wp.create_workflow(name, name, steps=["s0"], if_exists="open").unwrap()
        self.model[name] = {"done": 0, "size": None}
        self.told(name, 0)

    def step(self) -> None:
        """One or a few commits on a workflow, oftener on those made first."""
        name = self._any()
        known = self.model.get(name)
        kind = self.rng.random()
        if known is None:
            self._make(name)
        elif known["done"] == LIFE_STEPS or kind < 0.02:
            self.wp.delete_workflow(name).unwrap()
            del self.model[name]
            self.told(name, None)
        elif kind < 0.07:
            self.store.tidy(DocumentId("workflow", name), self.rng.choice(["compact", "snapshot"]))
        elif kind < 0.4:
            size = self.rng.randrange(len(VALUE))
            self.wp.update_context(name, variables={"x": VALUE[:size].hex()}).unwrap()
            known["size"] = size
            self.told(name, known["done"])
        elif kind < 0.5:
            self._put_in_two(name)
        else:
            self._complete(name, known)

    def _any(self) -> str:
        return f"{self.prefix}-{int(WORKFLOWS * self.rng.random() ** 3)}"

    def _put_in_two(self, name: str) -> None:
        """The same for two workflows in one transaction."""
        size = self.rng.randrange(64)
        names = sorted({name, self._any()} & self.model.keys())

        def put(tx: WorkflowTransaction) -> None:
            for one in names:
                tx.update_context(one, variables={"x": VALUE[:size].hex()})

        self.wp.transact(put).unwrap()
        for one in names:
            self.model[one]["size"] = size
            self.told(one, self.model[one]["done"])

    def _complete(self, name: str, known: dict[str, Any]) -> None:
        step = f"s{known['done']}"
        self.wp.update_step_status(name, step, "running").unwrap()
        self.wp.update_step_status(name, step, "completed", {"n": known["done"]}).unwrap()
        self.wp.add_steps(name, [f"s{known['done'] + 1}"]).unwrap()
        known["done"] += 1
        self.commits += 2
        self.told(name, known["done"])

    def round(self) -> None:
        until = self.commits + COMMITS_OF_A_ROUND
        while self.commits < until:
            self.step()
        self.wp.update_context("shared", variables={self.prefix: self.commits}).unwrap()
        self.commits += 1

    def check(self) -> None:
        """Everything that was told is there."""
        found = {one.id for one in self.wp.list_workflows(StateQuery(limit=10_000))}
        assert {name for name in found if name.startswith(f"{self.prefix}-")} == set(self.model), "workflows"
        for name, known in self.model.items():
            state = self.wp.load_workflow_state(name).unwrap()
            done = sum(step.status == "completed" for step in state.workflow.steps)
            put = None if known["size"] is None else VALUE[: known["size"]].hex()
            assert (done, state.context.variables.get("x")) == (known["done"], put), name


def forked(writer: Writer) -> None:
    """A child that goes on with its parent's handle for a moment, and is killed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            writer.wp.update_context("shared", variables={"child": os.getpid()}).unwrap()
            os.write(write, b"1")
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(write)
    assert os.read(read, 1) == b"1", "the child did not get to write"
    os.close(read)
    os.waitpid(child, 0)


def killed(path: str, prefix: str, rng: random.Random) -> int:
    """Start a writer, kill it after some commits, and check that what it told is there, but for one more commit."""
    command = [sys.executable, "-m", "tests.crash.soaker", path, str(rng.random()), "victim", prefix]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(rng.randrange(5, 60))]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines()
    told: dict[str, int | None] = dict(map(json.loads, lines))
    store = directory_store(path, read_only=True)
    wp = Waypost(Definitions(store, PRESETS["production"], verbose=False))
    there = {one.id: one.step_counts["completed"] for one in wp.list_workflows(StateQuery(limit=10_000))}
    store.close()
    unlike = [name for name, done in told.items() if there.get(name) != done]
    assert len(unlike) <= 1, (unlike, told, there)
    for name in unlike:
        done = told[name]
        assert there.get(name) in (None, 0 if done is None else done + 1), name
    return len(lines)


def resident_kb() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(row.split()[1]) for row in status if row.startswith("VmRSS"))


class _InUse(ctypes.Structure):
    """What `mallinfo2` of glibc gives."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ["arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "used"]
    ] + [("rest", ctypes.c_size_t * 2)]


def in_use(writers: list[Writer]) -> tuple[int, int]:
    """(objects, KB of larger memory) in use when the handles hold no workflow: what a leak adds to for ever.

    Resident memory tells less: it grows with the largest workflow, and by what the allocator cannot give back.
    """
    for writer in writers:
        with writer.store._at_rest():
            writer.store._documents.clear()
        cache = writer.store._context.cache
        cache._held.clear()
        cache.bytes = 0
        # what is counted grows for ten minutes, and has bounds of its own
        instruments = writer.wp.definitions.observer.instruments
        if instruments is not None:
            instruments.__init__()
    gc.collect()
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return sys.getallocatedblocks(), 0
    mallinfo.restype = _InUse
    found = mallinfo()
    return sys.getallocatedblocks(), (found.used + found.hblkhd) // 1024


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def measure(path: Path) -> tuple[bool, int, int]:
    """(closed cleanly, needed, taken): bytes of a log without superseded snapshots, and of its file."""
    frames = read_frames(path)
    if not frames:
        return False, 0, path.stat().st_size
    snapshots = [found.header.length for found in frames if found.header.type == FrameType.SNAPSHOT]
    superseded = sum(snapshots[:-1])
    return frames[-1].header.type == FrameType.SEAL, frames[-1].end - superseded, path.stat().st_size


def soak(path: str, seed: int, rounds: int) -> dict[str, Any]:
    directory_store(path).close()
    # what is loaded once for a process is no leak
    at_start = descriptors()
    rng = random.Random(seed)
    writers = [Writer(path, prefix, rng.randrange(1 << 30)) for prefix in ("a", "b")]
    writers[0].wp.create_workflow("shared", "shared").unwrap()
    for writer in writers:
        writer.fill()
    resident: list[int] = []
    at_rest: list[tuple[int, int]] = []
    most_open = victims = 0
    for number in range(rounds):
        threads = [threading.Thread(target=writer.round) for writer in writers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        forked(writers[number % 2])
        if number % 6 == 5:
            victims += killed(path, f"v{number}", rng)
        if number % 8 == 5:
            writers[1].store.close()
            writers[1].open()
        most_open = max(most_open, descriptors() - at_start)
        gc.collect()
        resident.append(resident_kb())
        if number % 3 == 1:
            at_rest.append(in_use(writers))
    for writer in writers:
        writer.check()
        writer.store.close()
    store = directory_store(path)
    store.sweep()  # who is killed while he removes a checkpoint leaves its file, which cleanup removes
    report = store.verify()
    store.close()
    sizes = [measure(log) for log in sorted(Path(path, "workflows").iterdir())]
    return {
        "commits": sum(writer.commits for writer in writers) + rounds + victims,
        "resident_kb": resident,
        "at_rest": at_rest,
        "most_open": most_open,
        "left_open": descriptors() - at_start,
        "threads": [thread.name for thread in threading.enumerate()],
        "children": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
        "temp": [name for name in os.listdir(Path(path, "temp")) if name.endswith(".new")],
        "lease": Path(path, "lease").exists(),
        "findings": [str(found) for found in report.findings if found.severity not in ("note",)],
        "closed": [(needed, taken) for closed, needed, taken in sizes if closed],
        "open": [(needed, taken) for closed, needed, taken in sizes if not closed],
    }


def main() -> None:
    path, seed = sys.argv[1], sys.argv[2]
    if sys.argv[3] == "victim":
        writer = Writer(path, sys.argv[4], seed, say=True)
        while True:
            writer.step()
    print(json.dumps(soak(path, int(seed), int(sys.argv[3]))))


if __name__ == "__main__":
    main()
