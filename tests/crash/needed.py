"""What the tests of needed syncs share: machines that know all calls, and stories with a judge of their own.

A story is recorded as in `stories`; its judge looks at the tree that a crash left, and raises `Wrong`. Marks tell the
judge what had been promised by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from tests.crash.campaign import Campaign, Moment, moments
from tests.crash.disk import Model
from tests.crash.oracle import Standing, Story, Wrong, after_reboot, open_store
from tests.crash.recording import Killed, Recorder, Removed, Renamed, apply
from tests.crash.simulated import BASE, Machine, Tree, refused, running_on
from tests.crash.stories import PATH, PLAIN, Recording, Run, recording_of
from tests.store.support import WF, TestedStore, change
from waypost.errors import WaypostError
from waypost.store import DocumentId, JointChange

STORE = BASE + PATH
BACKUP = f"{BASE}/backups/of/today"
A, B = DocumentId("workflow", "a"), DocumentId("workflow", "b")
DONE = 1000
"""The number of the promise that what the story is about was done."""


class _Room(NamedTuple):
    f_bavail: int = 1 << 30
    f_frsize: int = 4096


class FullMachine(Machine):
    """A machine that also removes directories, says how much room there is, and finds files below directories."""

    def rmdir(self, path: str, *, dir_fd: int | None = None) -> None:
        directory, name = self.place(path, dir_fd)
        inode = self.tree.directories[directory].get(name)
        if inode is None:
            raise refused(2, path)
        if self.tree.directories[inode]:
            raise refused(39, path)
        del self.tree.directories[directory][name]

    def fstatvfs(self, descriptor: int) -> _Room:
        self.inode(descriptor)
        return _Room()

    def access(self, path: str, mode: int, *, dir_fd: int | None = None) -> bool:
        return True


class FullRecorder(Recorder):
    """A recorder that also knows the removal of directories."""

    def rmdir(self, path: str, *, dir_fd: int | None = None) -> None:
        directory, name = self._place(path, dir_fd)
        self._change()
        self._pass_on("rmdir", (path,), {"dir_fd": dir_fd})
        self._note(Removed(directory, name))


Judge = Callable[[Tree, Standing], None]
Work = Callable[[Run], None]


class Judged(Campaign):
    """A campaign with a judge of its own, over some moments of a recording."""

    def __init__(self, recording: Recording, judge: Judge, model: Model, title: str) -> None:
        super().__init__(recording, model, title=title)
        self._judge = judge

    def examine(self, tree: Tree, standing: Standing) -> None:
        with running_on(FullMachine(tree.copy())), after_reboot():
            try:
                self._judge(tree, standing)
            except WaypostError as error:
                raise Wrong(f"{type(error).__name__}: {error}") from error


def told(work: Work, *, before: Tree | None = None, options: dict[str, Any] | None = None) -> Recording:
    """The recording of a story, told from a tree."""
    system = FullRecorder(FullMachine((before or Tree()).copy()))
    run = Run(system, {**PLAIN, **(options or {})}, BASE, Story())
    with running_on(system):
        work(run)
    return recording_of(system, run)


def tree_after(work: Callable[[], None], before: Tree | None = None) -> Tree:
    """The tree that something leaves when all of it reaches the medium."""
    machine = FullMachine((before or Tree()).copy())
    with running_on(machine), after_reboot():
        work()
    return machine.tree


def lose_power(
    recording: Recording, judge: Judge, *, title: str, model: Model = "weak", states: int = 600, start: int = 0
) -> None:
    """Let the power go at each moment from `start` on, and at the last one. Raises Wrong with the smallest state that
    the judge refuses.
    """
    assert Judged(recording, judge, model, title).run(states, min(start, last_moment(recording))) > 0


def last_moment(recording: Recording) -> int:
    """The event behind which everything is promised that the story promises."""
    *_, last = moments(recording, "weak")
    return last.crash.event


def promised_from(recording: Recording, number: int = DONE) -> int:
    """The first event that is over when a promise has been made."""
    found: Iterator[Moment] = (each for each in moments(recording, "weak") if number in each.standing.promised)
    return next(found).crash.event


def put(store: TestedStore, document: DocumentId = WF, **parts: bytes) -> None:
    """Commit parts."""

    def work(tx: Any) -> None:
        for key, value in parts.items():
            tx.put(key, value)

    store.submit(change(document, work)).result()


@contextmanager
def a_store(
    options: dict[str, Any] | None = None, *, read_only: bool = False, path: str = STORE
) -> Iterator[TestedStore]:
    store = open_store(path, {**PLAIN, **(options or {})}, read_only=read_only)
    try:
        yield store
    finally:
        store.close()


def commit_over(
    run: Run,
    store: TestedStore,
    *documents: DocumentId,
    reading: tuple[DocumentId, ...] = (),
    meanwhile: Callable[[], object] | None = None,
) -> int:
    """Commit to several documents at once, noted as an attempt; those of `reading` are only read, and something may
    happen `meanwhile`.
    """
    joint = store.begin()
    for document in (*reading, *documents):
        joint.document(document).get("nothing")
    if meanwhile is not None:
        meanwhile()
    number = max(run.story.attempts, default=0) + 1
    key = f"attempt{number}"
    run.attempt(number, {document: {key: b"%d " % number * 5} for document in documents})
    for document in documents:
        joint.document(document).put(key, b"%d " % number * 5)
    receipt = store.commit(joint, JointChange(f"operation-{number}", "test", repeatable=False))
    assert receipt is not None
    run.promise(number)
    return number


def dying_before(run: Run, process: str, changes: int, act: Callable[[], object]) -> bool:
    """Do something in a process that dies before its n-th change; whether it did."""
    system = run.system
    system.die_before = system.changes + changes
    try:
        with run.acting_as(process):
            act()
        return False
    except Killed:
        run.kill(process)
        return True
    finally:
        system.die_before = None


def judge_story(recording: Recording) -> Judge:
    """All that was promised is there, and of each attempt all or nothing, for readers and for who writes next."""

    def judge(tree: Tree, standing: Standing) -> None:
        documents = recording.story.documents(standing)
        try:
            reader = open_store(STORE, recording.options, read_only=True)
        except WaypostError:
            if standing.promised:
                raise
            return
        recording.story.judge({document: reader.view(document) for document in documents}, standing)
        reader.close()
        with a_store(recording.options) as store:
            recording.story.judge({document: store.view(document) for document in documents}, standing)
            for document in documents:
                put(store, document, more=b"more")
        with a_store(recording.options, read_only=True) as again:
            assert all(again.view(document).get("more") == b"more" for document in documents)
            wrong = [found for found in again.verify().findings if found.severity != "note"]
        if wrong:
            raise Wrong(f"{wrong}")

    return judge


def contents(tree: Tree) -> dict[str, bytes]:
    """Path below the store, and bytes, of each file."""
    below = f"{PATH[1:]}/"
    held = {path: data for path, data in tree.contents() if data is not None}
    return {path.removeprefix(below): data for path, data in held.items() if path.startswith(below)}


def changed(tree: Tree, path: str, data: bytes | None) -> Tree:
    """The tree with a file of the store changed, or made, or taken away."""
    tree = tree.copy()
    folder, _, name = f"{PATH}/{path}".rpartition("/")
    names = tree.directories[tree.find(folder) or 0]
    if data is None:
        del names[name]
        return tree
    if name not in names:
        names[name] = tree.new_inode()
    tree.files[names[name]] = data
    return tree


def two_documents() -> None:
    with a_store() as store:
        put(store, A, x=b"1")
        put(store, B, x=b"1")


def x_of(path: str, *documents: DocumentId, read_only: bool = True) -> list[bytes | None]:
    with a_store(read_only=read_only, path=path) as store:
        found = [store.view(document).get("x") for document in documents]
        wrong = [each for each in store.verify().findings if each.severity in ("damage", "torn tail")]
    if wrong:
        raise Wrong(f"{wrong}")
    return found


def expect(found: object, *expected: object) -> None:
    if found not in expected:
        raise Wrong(f"{found} in place of {expected}")


def renamed_at(recording: Recording, name: str) -> int:
    """When something first gets a name."""
    return next(
        at for at, event in enumerate(recording.events) if isinstance(event, Renamed) and event.new_name == name
    )


def last_tree(recording: Recording) -> Tree:
    tree = recording.before.copy()
    for event in recording.events:
        apply(tree, event)
    return tree
