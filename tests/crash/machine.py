"""What the stateful model is made of: works that every store can run, comparisons with the memory store, and children
of a fork that do something and report it, or are killed before a certain system call.
"""

from __future__ import annotations

import errno
import os
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.store.support import SystemCalls, TestedStore, system_calls
from waypost.errors import IllegalTransition, WaypostError
from waypost.store import Change, DocumentId, JointChange, Receipt, Store, Transaction, View
from waypost.store.directory.forks import _OPEN_STORES
from waypost.store.memory import MemoryStore

SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()
"""Where stores are made that no power cut will ever see: in memory, if the system has such a place."""

CHUNK = 4096


class _Known(DocumentId):
    """An id that is short to read in what a failure prints."""

    def __repr__(self) -> str:
        return f"DOCUMENTS[{DOCUMENTS.index(self)}]"


DOCUMENTS: list[DocumentId] = [
    _Known("workflow", "wf"),
    _Known("workflow", "../Wf\n\x00 é"),
    _Known("workflow", "e\u0301" + "long " * 60),  # its name is cut
    _Known("session", "con"),
]
KEYS = ["a", "b", "b\x1fc", "d/é", "\x00operation\x00op0", "z" * 300]
VALUES = [
    b"",
    b"1",
    b"two",
    bytes(range(256)) * 2,
    b"large " * 1500,
    bytes((n * n * 2654435761 >> 7) % 256 for n in range(2 * CHUNK + 17)),
    b"\0" * CHUNK,
    b"W" * (CHUNK + 1),
]

Action = tuple[str, int, int]
"""A verb, and the places of its key and its value in the lists above."""


def work_of(actions: list[Action]) -> Callable[[Transaction], Any]:
    """The work that does these actions, and gives what it read."""

    def work(tx: Transaction) -> list[Any]:
        seen: list[Any] = []
        for verb, key_at, value_at in actions:
            key, value = KEYS[key_at], VALUES[value_at]
            if verb == "put":
                tx.put(key, value)
            elif verb == "add":
                tx.put(key, (tx.get(key) or b"")[-200:] + b"+%d" % value_at)
            elif verb == "delete":
                tx.delete(key)
            elif verb == "clear":
                tx.clear()
            elif verb == "read":
                seen += [tx.get(key), tx.size_of(key)]
            elif verb == "list":
                seen.append(list(tx.keys(key[:1] if value_at else "")))
            elif verb == "fail":
                raise IllegalTransition("a work of a test")
        tx.project(["seen", len(seen)])
        return seen

    return work


class Outcome(NamedTuple):
    """What a change came to: of the receipt what every store must agree on, or the kind of the error."""

    error: type[WaypostError] | None
    version: int = 0
    changed: bool = False
    data: Any = None
    repeated: Any = None
    unknown: bool = False


AGAIN = Outcome(None, repeated="again")
"""Of a transaction whose work would have to run again."""


class Joint(NamedTuple):
    """A change of several documents: what is done to each, in this order."""

    plan: tuple[tuple[DocumentId, list[Action]], ...]
    change: JointChange

    def start(self, store: Store) -> Callable[[], Outcome]:
        """Run the work; what is returned commits it, and says what came of both."""
        joint = store.begin()
        try:
            data = [work_of(actions)(joint.document(document)) for document, actions in self.plan]
        except WaypostError as error:
            failed = Outcome(type(error))
            return lambda: failed

        def commit() -> Outcome:
            try:
                receipt = store.commit(joint, self.change)
            except WaypostError as error:
                return Outcome(type(error), unknown=error.details.get("outcome") == "unknown")
            return AGAIN if receipt is None else Outcome(None, 0, receipt.changed, data)

        return commit


Asked = Change | Joint


def documents_of(asked: Asked) -> list[DocumentId]:
    return [asked.document] if isinstance(asked, Change) else [document for document, _ in asked.plan]


def outcome_of(wait: Callable[[], Receipt]) -> Outcome:
    try:
        receipt = wait()
    except WaypostError as error:
        return Outcome(type(error))
    return Outcome(None, receipt.version, receipt.changed, receipt.data, receipt.repeated)


def submit(store: Store, asked: Asked) -> Outcome:
    if isinstance(asked, Joint):
        return asked.start(store)()
    return outcome_of(lambda: store.submit(asked).result())


# --- comparing ---


def contents(view: View) -> dict[str, bytes | None]:
    return {key: view.get(key) for key in view.keys()}


def assert_equal_views(expected: View, found: View) -> None:
    assert (found.version, found.size_bytes, found.checksum.hex(), found.time_us) == (
        expected.version,
        expected.size_bytes,
        expected.checksum.hex(),
        expected.time_us,
    )
    assert contents(found) == contents(expected)
    assert [found.size_of(key) for key in KEYS] == [expected.size_of(key) for key in KEYS]


def assert_lists(store: Store, memory: MemoryStore) -> None:
    """The store lists what was written; beside it at most names of which nothing was ever acknowledged."""
    for kind in ("workflow", "session"):
        written, listed = set(memory.documents(kind)), list(store.documents(kind))
        assert len(listed) == len(set(listed))
        assert written <= set(listed)
        for extra in set(listed) - written:
            assert store.view(DocumentId(kind, extra)).version == 0


# --- processes ---


def abandon(store: TestedStore) -> None:
    """Leave a store as a process does that is killed between two calls: nothing is said to anybody, and the kernel
    closes what was open.
    """
    _OPEN_STORES.discard(store)
    store._upkeep.close()
    for document in store._documents.values():
        log = document._log
        if log is not None:
            log.file.disown()
    if store._lease is not None:
        store._lease.abandon()
    store.layout.close()


class Ended(NamedTuple):
    """How a child ended, and what it reported until then."""

    killed: bool
    status: int
    report: bytes


def in_child(act: Callable[[Callable[[bytes], None]], None], *, limit_s: int = 60) -> Ended:
    """Do something in a child of a fork, which may report bytes; an exception there is its report and status 1."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(limit_s)
            act(lambda said: os.write(theirs, said) and None)
            status = 0
        except BaseException:
            os.write(theirs, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(theirs)
    with open(ours, "rb") as pipe:
        report = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, 1, -signal.SIGKILL), f"the child ended with {code}: {report.decode(errors='replace')}"
    return Ended(code == -signal.SIGKILL, code, report)


def kill_before(calls: SystemCalls, at: int, torn: int) -> None:
    """Have this process killed before its `at`-th call; of a write, `torn` thirds are done by then."""
    seen = 0

    def fault(name: str, _count: int, args: tuple[Any, ...]) -> None:
        nonlocal seen
        seen += 1
        if seen == at:
            if name == "pwrite" and torn:
                os.pwrite(args[0], bytes(args[1])[: len(args[1]) * torn // 3], args[2])
            os.kill(os.getpid(), signal.SIGKILL)

    calls.fault = fault


def killed_child(act: Callable[[Callable[[bytes], None]], None], at: int, torn: int) -> Ended:
    """As `in_child`, killed before its `at`-th system call."""

    def watched(report: Callable[[bytes], None]) -> None:
        with system_calls() as calls:
            kill_before(calls, at, torn)
            act(report)

    return in_child(watched)


# --- faults ---

FAULTS = [
    ("pwrite", errno.ENOSPC),
    ("pwrite", errno.EIO),
    ("fdatasync", errno.EIO),
    ("fsync", errno.EIO),
    ("ftruncate", errno.EIO),
    ("open", errno.EMFILE),
    ("pread", errno.EIO),
    ("fstat", errno.EIO),
    ("lseek", errno.EIO),
    ("stat", errno.EACCES),
    ("rename", errno.EACCES),
    ("short", errno.ENOSPC),
]


def fault_of(name: str, number: int, at: int, onwards: bool) -> Callable[[str, int, tuple[Any, ...]], Any]:
    """A fault: the `at`-th call of a name fails, with `onwards` all later ones too; `short` is a write that is taken
    in part before the next one fails.
    """
    counts: Iterator[int] = iter(range(1, 1_000_000))

    def fault(called: str, _count: int, args: tuple[Any, ...]) -> Any:
        if called != ("pwrite" if name == "short" else name):
            return None
        seen = next(counts)
        if name == "short" and seen == at:
            return os.pwrite(args[0], bytes(args[1])[: len(args[1]) // 2], args[2])
        if seen == at or (onwards and seen > at) or (name == "short" and seen == at + 1):
            raise OSError(number, os.strerror(number))
        return None

    return fault
