"""All readers for hostile input: those of `fuzzing`, and those of the files that stand beside the logs."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import pytest

from tests.conftest import make_config
from tests.crash.fuzzing import EXIT_STATUSES, WF, Reader, a_workflow, readers_of_logs, summed
from tests.store.support import change, directory_store
from waypost import cli, clock, config, records
from waypost.blocking import Waypost
from waypost.catalogue import Catalogue
from waypost.cli import plan
from waypost.definitions import Definitions
from waypost.errors import WaypostError
from waypost.store import DocumentId, JointChange
from waypost.store.directory import index, lease, restoring, upkeep

# --- files beside the logs ---


def _index_reader(folder: Path) -> Reader:
    """The rows of the index, whose sum is right."""
    store = directory_store(folder / "indexed")
    a_workflow(store)
    catalogue = Catalogue(store)
    settled, index.SETTLED_NS = index.SETTLED_NS, -(10**12)
    try:
        (entry,) = catalogue.entries()
    finally:
        index.SETTLED_NS = settled
    rows = catalogue._rows
    assert rows is not None and entry.id == "wf"
    valid = records.encode(rows)

    def read(data: bytes) -> None:
        settled, index.SETTLED_NS = index.SETTLED_NS, -(10**12)
        try:
            store.keep("workflows", data)
            for one in Waypost(Definitions(store, make_config(), verbose=False)).list_workflows():
                repr(one)
        finally:
            index.SETTLED_NS = settled

    return Reader("index", read, [valid], weight=2)


def _lease_text(data: bytes) -> bytes:
    body = data.partition(b', "checksum"')[0]
    return body + b', "checksum": "%08x"}\n' % crc32(body)


def _read_lease(data: bytes) -> None:
    holder = lease.parse(data)
    assert holder is None or json.loads(data)["host"] == holder.host


def _config_reader(folder: Path) -> Reader:
    place = folder / "configured"
    place.mkdir()

    def read(data: bytes) -> None:
        (place / "waypost.toml").write_bytes(data)
        config.load(None, None, place, {})

    valid = [
        b'[compression]\nenabled = true\nalgorithm = "zstd"\nlevel = 3\n[performance]\nmax_file_size = 5\n',
        b"[steps]\nenforce_dependencies = false\n[reliability]\nsync_frequency = 20\n",
    ]
    words = (
        b"a = " + b"[" * 3000,
        b"1" * 5000,
        b"inf",
        b"nan",
        b"1e400",
        b'"""',
        b"\xff",
        b"2024-01-01T00:00:00Z",
        b"[[a]]",
    )
    return Reader("configuration", read, valid, weight=5, words=words)


def _read_environment(data: bytes) -> None:
    pairs = (line.partition(b"=") for line in data.split(b"\n"))
    config.load(
        None,
        None,
        None,
        {name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape") for name, _, value in pairs},
    )


def _plan_reader(folder: Path) -> Reader:
    place = folder / "plan.toml"

    def read(data: bytes) -> None:
        place.write_bytes(data)
        plan.load(str(place))

    valid = [
        b'name = "N"\nworkflow = "w"\n[steps.a]\nrun = "true"\n'
        b'retries = 2\ntimeout = 1.5\n[steps.b]\nrun = ["a", "b"]\n'
        b'needs = ["a"]\nenv = {A = "1"}\ncwd = "x"\nagent = "g"\n'
    ]
    words = (
        b"x = " + b"[" * 3000,
        b"1" * 5000,
        b"1" * 400,
        b"inf",
        b"nan",
        b"-0",
        b'"\\u0000"',
        b"~root",
        b"~\xff",
        b"[steps]",
        b"{a.b.c = 1}",
        b"a." * 2000,
        b"1979-05-27",
    )
    return Reader("run-file", read, valid, weight=5, words=words)


def _command_line_reader(folder: Path) -> Reader:
    """Words of a command line, apart by NUL, over a store that has a workflow. What runs commands is left out."""
    store = directory_store(folder / "seen")
    a_workflow(store)
    store.close()
    place = str(folder / "seen").encode()

    def read(data: bytes) -> None:
        words = [word.decode("utf-8", "surrogateescape") for word in data.split(b"\0")]
        if not {"run", "demo"} & set(words):
            status = cli.call(words)
            assert status in EXIT_STATUSES, (status, words)

    commands = [
        [b"list"],
        [b"status"],
        [b"show", b"wf"],
        [b"verify"],
        [b"store", b"doctor"],
        [b"store", b"config"],
        [b"--help"],
        [b"list", b"--status", b"failed", b"--limit", b"5", b"--sort", b"size"],
        [b"show", b"wf", b"a"],
        [b"--version"],
    ]
    valid = [b"\0".join([*words, b"--state", place, *json_]) for words in commands for json_ in ([], [b"--json"])]
    return Reader(
        "command-line",
        read,
        valid,
        weight=1,
        words=(b"\0", b"--", b"\x1b[2J", b"\xff", b"-", b"\0--json\0", b"9" * 5000),
    )


def _decision_reader(folder: Path) -> Reader:
    """A decision over two workflows, whose sum is right, that nobody has carried out: it is read, and carried out."""
    place = folder / "decided"
    logs, (name, valid) = _decided(place)
    transactions, workflows = place / "transactions", place / "workflows"

    def look() -> None:
        store = directory_store(place, read_only=True)
        try:
            for see in (store.verify, lambda: store.view_at(WF, 3), lambda: list(store.glance("workflow"))):
                with suppress(WaypostError):
                    see()
            for identifier in list(store.documents("workflow")):
                with suppress(WaypostError):
                    view = store.view(DocumentId("workflow", identifier))
                    for key in view.keys():
                        view.get(key)
        finally:
            store.close()

    def read(data: bytes) -> None:
        for left in (*transactions.iterdir(), *(place / "temp").iterdir(), *workflows.iterdir()):
            left.unlink()
        for log, content in logs.items():
            (workflows / log).write_bytes(content)
        (transactions / name).write_bytes(data)
        with suppress(WaypostError):
            look()
        store = directory_store(place)
        try:
            with suppress(WaypostError):
                store.submit(change(WF, lambda tx: tx.put("new", b"1"))).result()
            store._settle()
        finally:
            store.close()
        assert not [left for left in (place / "temp").iterdir() if left.name.endswith(".new")]

    return Reader("decision", read, [valid], weight=1, mend=summed, words=(b"../../wf", b"session", b"\xd9\x03wf\x00"))


def _decided(place: Path) -> tuple[dict[str, bytes], tuple[str, bytes]]:
    """A store with two workflows; their logs, and name and content of a decision that they lack: with the same ids each
    time, so that what is kept in the corpus gets far.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.urandom", random.Random(9).randbytes)
        ids = itertools.count()
        patch.setattr(clock, "new_id", lambda prefix: f"{prefix}-{next(ids)}")
        patch.setattr(clock, "now_us", lambda: 1_790_000_000_000_000)
        patch.setattr(upkeep.Upkeep, "ask_to_settle", lambda self: None)
        return _decide(place)


def _decide(place: Path) -> tuple[dict[str, bytes], tuple[str, bytes]]:
    store = directory_store(place)
    a_workflow(store)
    store.submit(change(DocumentId("workflow", "other"), lambda tx: tx.put("x", b"1"))).result()
    store.close()
    logs = {log.name: log.read_bytes() for log in (place / "workflows").iterdir()}
    store = directory_store(place)
    joint = store.begin()
    for identifier in ("wf", "other", "born"):
        joint.document(DocumentId("workflow", identifier)).put("x", b"decided")
    store.commit(joint, JointChange("op", "test"))
    (decision,) = (place / "transactions").iterdir()
    found = decision.name, decision.read_bytes()
    store.close()
    return logs, found


def _manifest_reader(folder: Path) -> Reader:
    """What a backup says that it holds."""
    store = directory_store(folder / "store")
    a_workflow(store)
    store.backup(str(folder / "backup"))
    manifest = folder / "backup" / restoring.MANIFEST

    def read(data: bytes) -> None:
        manifest.write_bytes(data)
        restoring.read(str(folder / "backup"), store._context)

    words = (b"../", b"/etc", b"wf.state", b"9" * 400, b"\\ud800", b"null", b'"kind": "session"')
    return Reader("manifest", read, [manifest.read_bytes()], weight=4, words=words)


def _restore_reader(folder: Path) -> Reader:
    """The plan of a restore that was cut off: it is carried out within the store, or refused."""
    place, decided = folder / "above" / "store", folder / "above" / "store" / "restoring"
    store = directory_store(place)
    a_workflow(store)
    store.close()
    log = (place / "workflows" / "wf.state").read_bytes()

    def read(data: bytes) -> None:
        for left in (decided, place / "backups"):
            shutil.rmtree(left, ignore_errors=True)
        (decided / "workflows").mkdir(parents=True)
        (decided / "workflows" / "wf.state").write_bytes(log)
        (decided / "plan.json").write_bytes(data)
        try:
            directory_store(place).close()
        finally:
            assert [left.name for left in (folder / "above").iterdir()] == ["store"]

    valid = json.dumps([{"workflows": ["wf.state"], "sessions": []}, "before-restore.1"]).encode()
    return Reader("restore", read, [valid], weight=1, words=(b"../", b"../../", b"/", b"temp", b"\\ud800", b"\\u0000"))


def readers(folder: Path) -> Iterator[Reader]:
    """All readers; `folder` is empty, and theirs."""
    folder.mkdir(parents=True, exist_ok=True)
    yield from readers_of_logs(folder)
    yield Reader("lease", _read_lease, [lease._text(lease.Holder("h", "b", "s"))], weight=10, mend=_lease_text)
    yield Reader("environment", _read_environment, [b"WAYPOST_COMPRESSION_LEVEL=3\nWAYPOST_PRESET=testing"], weight=5)
    for make in (
        _index_reader,
        _config_reader,
        _plan_reader,
        _command_line_reader,
        _decision_reader,
        _manifest_reader,
        _restore_reader,
    ):
        (folder / make.__name__).mkdir()
        yield make(folder / make.__name__)
