"""How the demo goes: start the worker, kill it in the middle, look at what it left, let another go on, check it all.

Nothing here is assumed: whether a finished step ran again is counted in the worker's journal, whether the owner is
dead is asked of the system, and every figure is measured in this run.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import waypost.demo.worker as worker
from waypost import clock
from waypost.blocking import Waypost
from waypost.config import PRESETS
from waypost.definitions import Definitions
from waypost.demo import work
from waypost.errors import InvalidInput, StepFailed, StoreNotFound, WorkflowNotFound
from waypost.models import WorkflowState
from waypost.store.directory import DirectoryStore

_LOOK_EVERY_S = 0.1
_SAMPLES = 200
_BLOCK = 512
_LONGEST_S = 300.0


@dataclass
class RunningStep:
    """A step that was recorded as running when its process died."""

    id: str
    agent: str | None
    pid: int
    liveness: str


@dataclass
class Wreck:
    """What the store holds after the kill: `finished` are ids, `version` is that of the last commit.

    `acknowledged` is how many steps the worker had been told to be recorded, `lost` those of them that are not there.
    """

    pid: int
    finished: list[str]
    running: list[RunningStep]
    pending: int
    version: int
    acknowledged: int
    lost: list[str]
    whole: bool
    session: str
    evidence: str
    """The status of the worker's session, and why it is that."""

    @property
    def intact(self) -> bool:
        return self.whole and not self.lost


@dataclass
class Latencies:
    """Milliseconds."""

    count: int
    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Latencies:
        ranked = sorted(samples)
        return cls(len(ranked), ranked[len(ranked) // 2], ranked[min(len(ranked) - 1, len(ranked) * 99 // 100)])


@dataclass
class Story:
    """All that happened and was measured. Times are seconds since the first worker was started."""

    location: str
    steps: int
    agents: list[str]
    modules: int
    kill_at: int
    wreck: Wreck
    killed_s: float
    resumed_s: float
    ended_s: float
    executions: int = 0
    run_twice: list[str] = field(default_factory=list[str])
    repeated_finished: list[str] = field(default_factory=list[str])
    spans: list[tuple[str, str, float, float, bool]] = field(default_factory=list[tuple[str, str, float, float, bool]])
    """(agent, step, begin, end, whether it was cut) of every execution."""
    updates: Latencies | None = None
    updates_alone: Latencies | None = None
    raw_syncs: Latencies | None = None
    load_ms: float = 0.0
    bytes_written: int = 0
    syncs: int = 0
    state_bytes: int = 0
    files: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    verified: dict[str, Any] = field(default_factory=dict[str, Any])
    report: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def kept_its_word(self) -> bool:
        return not self.repeated_finished and self.wreck.intact and bool(self.verified.get("sound"))


Watcher = Callable[[int, dict[str, int]], None]
"""Told how many steps are finished, in all and by agent."""


class Demo:
    """One performance, in a directory of its own."""

    def __init__(self, folder: str, kill_at: int | None) -> None:
        self.folder = folder
        self.location = os.path.join(folder, "state")
        self.sources = work.find_sources()
        self.steps = work.steps(self.sources)
        self.kill_at = len(self.steps) // 2 if kill_at is None else kill_at
        latest = len(self.steps) * 9 // 10  # later than that it may be finished before it is killed
        if self.kill_at > latest:
            raise InvalidInput(f"--kill-at takes at most {latest}: there are {len(self.steps)} steps")
        self._journal = os.path.join(folder, "journal")
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    # --- the three acts ---

    def run_until_killed(self, watcher: Watcher) -> Wreck:
        """The first act: a worker at work, killed once enough steps are finished."""
        self._started = time.time()
        process = self._start()
        self._watch(process, watcher, self.kill_at)
        process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            raise StepFailed(f"the worker ended by itself before it could be killed{_last_words(process)}")
        self.killed_s = time.time() - self._started
        return self._look_at_wreck(process.pid)

    def resume(self, watcher: Watcher) -> None:
        """The second act: another worker, which knows only what is in the store."""
        self.resumed_s = time.time() - self._started
        process = self._start()
        self._watch(process, watcher, len(self.steps))
        if process.wait():
            raise StepFailed(f"the second worker failed{_last_words(process)}")
        self.ended_s = time.time() - self._started

    def take_stock(self, wreck: Wreck) -> Story:
        """The third act: what really ran, what it cost, and whether every byte is right."""
        story = Story(
            self.location,
            len(self.steps),
            list(work.AGENTS),
            len(self.sources),
            self.kill_at,
            wreck,
            self.killed_s,
            self.resumed_s,
            self.ended_s,
        )
        self._count(story)
        self._look_at_result(story)
        story.updates_alone, story.raw_syncs = self._measure_alone()
        return story

    def stop(self) -> None:
        """End the worker, whatever it is doing."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    # --- the worker ---

    def _start(self) -> subprocess.Popen[bytes]:
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(worker.__file__))))
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", worker.__name__, self.location, self._journal],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl-C is for the demo, which then ends the worker
        )
        return self._process

    def _watch(self, process: subprocess.Popen[bytes], watcher: Watcher, until: int) -> None:
        """Look at the store, as anybody may, until that many steps are finished or the worker has ended."""
        deadline = time.monotonic() + _LONGEST_S
        while process.poll() is None and time.monotonic() < deadline:
            finished = self._finished_by_agent()
            total = sum(finished.values())
            watcher(total, finished)
            if until <= total < len(self.steps):
                return
            time.sleep(_LOOK_EVERY_S)
        watcher(sum((finished := self._finished_by_agent()).values()), finished)

    def _finished_by_agent(self) -> dict[str, int]:
        try:
            store = self._open()
        except StoreNotFound:
            return {}
        try:
            steps = _load(store).workflow.steps
            return Counter(step.agent_id or "" for step in steps if step.is_finished)
        except WorkflowNotFound:
            return {}
        finally:
            store.close()

    def _open(self) -> DirectoryStore:
        return DirectoryStore.open(self.location, PRESETS["production"], create=False, read_only=True)

    # --- what is there ---

    def _look_at_wreck(self, pid: int) -> Wreck:
        store = self._open()
        try:
            state = _load(store)
            steps = list(state.workflow.steps)
            running = [
                RunningStep(step.id, step.agent_id, step.owner.pid, clock.liveness(step.owner.identity))
                for step in steps
                if step.status == "running" and step.owner is not None
            ]
            finished = [step.id for step in steps if step.is_finished]
            session = _wp(store).get_session(work.SESSION)
            acknowledged = {entry["step"] for entry in self._entries() if entry["event"] == "end"}
            return Wreck(
                pid,
                finished,
                running,
                sum(step.status == "pending" for step in steps),
                state.metadata.version,
                len(acknowledged),
                sorted(acknowledged.difference(finished)),
                all(found.severity != "damage" for found in store.verify().findings),
                session.status,
                "" if session.presence is None else session.presence.evidence,
            )
        finally:
            store.close()

    def _entries(self) -> list[dict[str, Any]]:
        with open(self._journal, encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def _count(self, story: Story) -> None:
        """What the journal says: every execution, by which process, and what its updates cost."""
        entries = self._entries()
        begun = [entry for entry in entries if entry["event"] == "begin"]
        ended = {(entry["pid"], entry["step"]): entry for entry in entries if entry["event"] == "end"}
        times = Counter(entry["step"] for entry in begun)
        after = {entry["step"] for entry in begun if entry["pid"] != story.wreck.pid}
        story.executions = len(begun)
        story.run_twice = sorted(step for step, number in times.items() if number > 1)
        story.repeated_finished = sorted(after.intersection(story.wreck.finished))
        for entry in begun:
            end = ended.get((entry["pid"], entry["step"]))
            until = story.killed_s if end is None else end["at"] - self._started
            story.spans.append((entry["agent"], entry["step"], entry["at"] - self._started, until, end is None))
        updates = [update for entry in ended.values() for update in entry["updates"]]
        story.updates = Latencies.of([update["ms"] for update in updates])
        story.bytes_written = sum(update["bytes"] for update in updates)
        story.syncs = sum(update["syncs"] for update in updates)

    def _look_at_result(self, story: Story) -> None:
        store = self._open()
        try:
            started_ns = time.perf_counter_ns()
            state = _load(store)
            for step in state.workflow.steps:
                _ = step.output
            story.load_ms = (time.perf_counter_ns() - started_ns) / 1e6
            story.state_bytes = state.metadata.size_bytes
            story.report = state.step("report").output
            found = store.verify()
            story.verified = {
                "sound": found.sound,
                "commits": found.commits,
                "frames": found.frames,
                "size_bytes": found.size_bytes,
                "findings": [finding._asdict() for finding in found.findings],
            }
        finally:
            store.close()
        story.files = sorted(_files(self.location))

    # --- yardsticks ---

    def _measure_alone(self) -> tuple[Latencies, Latencies]:
        """Step updates of one caller, in a workflow of as many steps, and bare syncs of the same disk in between."""
        path = os.path.join(self.folder, "yardstick")
        updates: list[float] = []
        syncs: list[float] = []
        names = [step.id for step in self.steps if not step.dependencies][: _SAMPLES // 2]
        with Waypost(Definitions(_make(path), PRESETS["production"], False)) as wp, _Disk(path + ".raw") as disk:
            wp.create_workflow("yardstick", "Yardstick", steps=self.steps).unwrap()
            for name in names:
                began = wp.update_step_status("yardstick", name, "running")
                syncs.append(disk.sync_ms())
                ended = wp.update_step_status("yardstick", name, "completed", {"lines": 1234, "functions": 56})
                syncs.append(disk.sync_ms())
                began.unwrap()
                ended.unwrap()
                updates += [began.duration_ms, ended.duration_ms]
        shutil.rmtree(path)
        return Latencies.of(updates), Latencies.of(syncs)


class _Disk:
    """A file in which bare writes and their syncs are timed; it is written in place, and goes at the end."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.pwrite(self._descriptor, bytes(_BLOCK), 0)
        os.fsync(self._descriptor)
        self._sync = getattr(os, "fdatasync", os.fsync)

    def sync_ms(self) -> float:
        started_ns = time.perf_counter_ns()
        os.pwrite(self._descriptor, os.urandom(_BLOCK), 0)
        self._sync(self._descriptor)
        return (time.perf_counter_ns() - started_ns) / 1e6

    def __enter__(self) -> _Disk:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        os.unlink(self._path)


def _load(store: DirectoryStore) -> WorkflowState:
    return _wp(store).load_workflow_state(work.WORKFLOW).unwrap()


def _wp(store: DirectoryStore) -> Waypost:
    return Waypost(Definitions(store, PRESETS["production"], False))


def _make(path: str) -> DirectoryStore:
    return DirectoryStore.open(path, PRESETS["production"], create=True, read_only=False)


def _files(root: str) -> list[tuple[str, int]]:
    return [
        (os.path.relpath(path, root), os.path.getsize(path))
        for folder, _, names in os.walk(root)
        for path in (os.path.join(folder, name) for name in names)
    ]


def _last_words(process: subprocess.Popen[bytes]) -> str:
    said = b"" if process.stderr is None else process.stderr.read()
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return f": {lines[-1]}" if lines else ""
