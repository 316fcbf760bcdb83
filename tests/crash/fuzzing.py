"""Hostile input for everything that reads bytes: what readers there are, valid input for each, and how it is damaged.

A reader is a function of bytes that may raise only documented errors. To add one, write it with a few valid inputs into
`readers`. `mend`, where a reader has one, makes sums right again after the damage, so that what lies behind them is
reached.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zlib import crc32

from tests.conftest import make_config
from tests.crash import fuzzing_events, fuzzing_stores
from tests.store.support import change, directory_store
from waypost import cli, config, records
from waypost.blocking import Waypost
from waypost.catalogue import Catalogue
from waypost.cli import plan
from waypost.codec import bodies, compression, frame, values
from waypost.codec.bodies import (
    Block,
    CommitBody,
    DecidedFrames,
    DecisionBody,
    Extent,
    FileBody,
    JointMark,
    MergeMark,
    Participant,
    Remembered,
    SnapshotBody,
)
from waypost.codec.compression import Undecodable
from waypost.definitions import Definitions
from waypost.errors import WaypostError
from waypost.models import AgentState, WorkflowContext, WorkflowStep
from waypost.options import CompressionConfig
from waypost.store import DocumentId
from waypost.store.directory import index, lease
from waypost.store.memory import MemoryStore

WF = DocumentId("workflow", "wf")
EXIT_STATUSES = {0, 1, 2, 3, 4, 5, 6}
DOCUMENTED = (WaypostError, Undecodable)


@dataclass
class Reader:
    """`read` takes any bytes, and raises nothing but `DOCUMENTED`. `weight` says how many inputs it gets."""

    name: str
    read: Callable[[bytes], object]
    valid: list[bytes]
    weight: int = 10
    mend: Callable[[bytes], bytes] | None = None
    words: tuple[bytes, ...] = ()


# --- damage ---

_WORDS = (
    b"\xff" * 4,
    b"\x00" * 8,
    b"\x80",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\x91" * 300,
    b"\xc7\x02\x03",
    b"\xd9\xff",
    b"\xcf" + b"\xff" * 8,
    b"\xd3\x80" + bytes(7),
    b"WPF\x01",
    b"[" * 5000,
)


def damaged(rng: random.Random, reader: Reader) -> bytes:
    """A valid input with a few things wrong."""
    data = bytearray(rng.choice(reader.valid))
    for _ in range(1 if rng.random() < 0.5 else rng.randrange(1, 6)):
        _damage(rng, data, reader)
    made = bytes(data)
    return reader.mend(made) if reader.mend is not None and rng.random() < 0.9 else made


def _damage(rng: random.Random, data: bytearray, reader: Reader) -> None:
    at, end = (rng.randrange(len(data) + 1) for _ in range(2))
    kind = rng.randrange(9)
    if kind <= 1 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 2 and at < len(data):
        data[at] = rng.choice((0, 0x7F, 0x80, 0xFF, 0xC0, 0xC1, rng.randrange(256)))
    elif kind == 3:
        data[at:] = b""
    elif kind == 4:
        data[at:at] = data[at : at + rng.randrange(1, 40)]
    elif kind == 5:
        del data[at : at + rng.randrange(1, 20)]
    elif kind == 6:
        other = rng.choice(reader.valid)
        start = rng.randrange(len(other) + 1)
        data[at : at + rng.randrange(40)] = other[start : start + rng.randrange(1, 60)]
    elif kind == 7:
        word = rng.choice(reader.words + _WORDS)
        data[at : at + rng.choice((0, len(word)))] = word
    else:
        for width, code in ((4, "<I"), (8, "<Q")):
            if end + width <= len(data):
                (number,) = struct.unpack_from(code, data, end)
                number = rng.choice((number + 1, number - 1, number * 2, 1 << (8 * width - 1), 0, rng.getrandbits(31)))
                struct.pack_into(code, data, end, number % (1 << (8 * width)))
                break


# --- values and records ---

_VALUES: list[Any] = [
    None,
    True,
    1,
    -1,
    1 << 63,
    1 << 200,
    -(1 << 70),
    1.5,
    float("nan"),
    "text",
    b"bytes",
    [1, [2, [3]]],
    {"a": {"b": 1}},
    (1, "a"),
    {1, 2},
    {"x", "y"},
    {1: 2, "1": 3},
    {(1, 2): [3]},
    datetime(2024, 1, 2, tzinfo=UTC),
    datetime(2024, 1, 2, 3, tzinfo=None),  # noqa: DTZ001
    datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=2), "X")),
    date(2024, 1, 2),
    UUID(int=5),
    Decimal("1.50"),
    Path("a/b"),
]


def _read_value(data: bytes) -> None:
    value = values.decode(data)
    values.plain(value)
    assert values.encode(value) is not None
    values.decode(data, inert=True)


_RECORDS = (
    records.WORKFLOWS,
    records.CONTEXTS,
    records.STEPS,
    records.AGENTS,
    records.OUTPUTS,
    records.OUTPUT_RECORDS,
    records.TOMBSTONES,
    records.PAGES,
)


def _read_records(data: bytes) -> None:
    for record in _RECORDS:
        with suppress(WaypostError):
            record.decode("key", data)


def _workflow(store: Any) -> dict[str, bytes]:
    """A workflow that has something of everything; its parts."""
    wp = Waypost(Definitions(store, make_config(), verbose=False))
    context = WorkflowContext(user_id="u", variables={"v": [1]}, configuration={"c": {2}}, features={"f": True})
    wp.create_workflow(
        "wf", "W", "s", steps=[WorkflowStep("a"), WorkflowStep("b", dependencies=["a"])], context=context
    )
    wp.update_step_status("wf", "a", "running", agent_id="g").unwrap()
    wp.update_step_status("wf", "a", "completed", {"x": (1, 2)}).unwrap()
    wp.update_step_status("wf", "b", "failed", error="no luck").unwrap()
    wp.update_agent_state("wf", "g", AgentState("g")).unwrap()
    view = store.view(WF)
    return {key: value for key in view.keys() if (value := view.get(key)) is not None}


def _look_at_all(wp: Waypost) -> None:
    for act in (
        lambda: [repr(one) for one in wp.list_workflows()],
        lambda: wp.validate_workflow_state("wf"),
        lambda: wp.update_step_status("wf", "b", "running").unwrap(),
        lambda: wp.reset_step("wf", "a").unwrap(),
        lambda: wp.add_steps("wf", ["c"]).unwrap(),
        lambda: wp.update_context("wf", variables={"v": 2}).unwrap(),
    ):
        with suppress(WaypostError):
            act()
    state = wp.load_workflow_state("wf").unwrap()
    for look in (
        lambda: [(step.output, repr(step)) for step in state.workflow.steps],
        lambda: [output.output for output in state.outputs.values()],
        lambda: [dict(group) for group in (state.context.variables, state.context.configuration, state.agents)],
        lambda: (state.workflow.status, state.performance, state.workflow.progress),
    ):
        with suppress(WaypostError):
            look()


def _parts_reader() -> Reader:
    """One part of a workflow is other bytes: `key NUL bytes`."""
    parts = _workflow(MemoryStore())

    def read(data: bytes) -> None:
        key, _, value = data.partition(b"\0")
        store = MemoryStore()
        given = {**parts, key.decode("utf-8", "replace"): value}

        def work(tx: Any) -> None:
            for each, content in given.items():
                tx.put(each, content)

        store.submit(change(WF, work)).result()
        _look_at_all(Waypost(Definitions(store, make_config(), verbose=False)))

    return Reader("parts", read, [key.encode() + b"\0" + value for key, value in parts.items()], weight=4)


# --- bodies, codecs, frames ---

_BLOCK = Block(3, 3, 0, 7, 9)
_MERGE = MergeMark([bytes(32), b"\1" * 32], [b"\2" * 32], [b"\3" * 32])
_BODIES: dict[str, tuple[Callable[[Any], object], list[Any]]] = {
    "file": (bodies.read_file, [FileBody(1, "workflow", "wf", 2, 3, bytes(32))]),
    "commit": (
        lambda data: list(bodies.commit_parts(bodies.read_commit(memoryview(data)), [_BLOCK])),
        [
            CommitBody("op", "test", "s", None, ["state"], False, {"a": b"1", "b": (3, bytes(32))}, ["c"]),
            CommitBody(
                "op", "test", None, None, None, True, {}, [], JointMark("t", [Participant("workflow", "wf", 3)])
            ),
            CommitBody("op", "sync", None, None, None, False, {"a": b"1"}, [], merge=_MERGE),
        ],
    ),
    "decision": (
        lambda data: bodies.read_decision(memoryview(data)),
        [DecisionBody("t", [DecidedFrames("workflow", "wf", 7, 0, b"WPF")])],
    ),
    "snapshot": (bodies.read_snapshot, [SnapshotBody(9, 1, 5, True, ["a", "b"], [Remembered(_BLOCK, 2, 3)])]),
    "entries": (bodies.read_entries, [{"a": b"1", "b": Extent(3, bytes(32), [_BLOCK])}]),
    "operations": (bodies.read_operations, [[("op", 1, 2, "test", ["state"])]]),
    "table": (lambda data: bodies.split_content(data, True), []),
}


def _read_body(data: bytes) -> None:
    for read, _ in _BODIES.values():
        with suppress(*DOCUMENTED):
            read(data)


def _bodies() -> list[bytes]:
    found = [records.encode(given) for _, valid in _BODIES.values() for given in valid]
    table = records.encode([_BLOCK, _BLOCK])
    return [*found, len(table).to_bytes(4, "little") + table + b"\x90"]


def _packed() -> list[bytes]:
    """`codec, raw length, stored`: also of what grows a thousandfold."""
    found: list[bytes] = []
    for algorithm in ("zstd", "gzip", "none"):
        squeeze = compression.Compressor(
            CompressionConfig(enabled=True, algorithm=algorithm, level=3, threshold=10, chunk_size=65536)
        )
        for data in (b"abc" * 30, bytes(100_000), bytes(5_000_000)):
            codec, stored = squeeze.pack(data)
            if len(stored) < 200_000:
                found += [struct.pack("<BI", codec, raw) + stored for raw in (len(data), 5_000)]
    return found


def _read_packed(data: bytes) -> None:
    if len(data) >= 5:
        codec, raw = struct.unpack_from("<BI", data)
        # a frame declares no more than its limit
        assert len(compression.unpack(codec, data[5:], raw % (8 << 20))) == raw % (8 << 20)


def summed(data: bytes) -> bytes:
    """A log whose frames have the checksums and links that belong to what they hold now."""
    out, offset, link, file_id = bytearray(data), 0, 0, None
    while (header := frame.read_header(out, offset)) is not None:
        file_id = header.file_id if file_id is None else file_id
        struct.pack_into("<QI", out, offset + 56, file_id, link)
        header = header._replace(file_id=file_id, link=link)
        checked = memoryview(out)[offset + 8 : offset + header.blocks_offset]
        link = crc32(checked, frame.seed(file_id, offset))
        del checked
        struct.pack_into("<I", out, offset + 4, link)
        offset += header.length
        if header.length < frame.HEADER_BYTES:
            break
    return bytes(out)


def _logs(folder: Path) -> list[bytes]:
    """Logs of several kinds: with and without compression, snapshots, large parts, a compacted history, and a merge."""
    found = [fuzzing_stores.merged_log(folder / "merged")]
    for number, algorithm in enumerate(("none", "zstd")):
        for closed in (True, False):
            path = folder / f"seed{number}{closed}"
            store = directory_store(path, algorithm=algorithm, chunk_size=4096)
            _workflow(store)
            store.submit(change(WF, lambda tx: tx.put("large", bytes(range(256)) * 40))).result()
            store.tidy(WF, "snapshot")
            store.submit(change(WF, lambda tx: tx.put("after", b"1"))).result()
            place = path / "workflows" / "wf.state"
            if closed:
                store.close()
            data = place.read_bytes()
            found.append(data.rstrip(b"\0") if closed else data[: len(data.rstrip(b"\0")) + 300])
            store.close()
            assert summed(data) == data, "the sums of a log that nobody touched stay as they are"
    return found


def _log_reader(folder: Path) -> Reader:
    directory_store(folder / "log").close()
    place = folder / "log" / "workflows" / "wf.state"

    def read(data: bytes) -> None:
        place.write_bytes(data)
        store = directory_store(folder / "log", read_only=True, checksum_validation=False)
        try:
            for look in (store.verify, lambda: store.view_at(WF, 3), lambda: list(store.glance("workflow"))):
                with suppress(WaypostError):
                    look()
            view = store.peek(WF)
            for key in view.keys():
                view.get(key)
            view.operation("none")
        finally:
            store.close()

    return Reader("log", read, _logs(folder), weight=2, mend=summed)


def _writing_reader(folder: Path) -> Reader:
    """A log that is opened for writing, committed to, tidied and closed."""
    read_only = _log_reader(folder / "logs")
    place = folder / "written"

    def read(data: bytes) -> None:
        directory_store(place).close()
        for left in (place / "temp").iterdir():
            left.unlink()
        (place / "workflows" / "wf.state").write_bytes(data)
        store = directory_store(place, enable_wal=False)
        try:
            for act in (
                lambda: store.submit(
                    change(WF, lambda tx: tx.put("new", b"1"), operation_id="x", repeatable=True)
                ).result(),
                lambda: store.tidy(WF, "snapshot"),
                lambda: store.tidy(WF, "compact"),
            ):
                with suppress(WaypostError):
                    act()
        finally:
            store.close()

    return Reader("log-written", read, read_only.valid, weight=1, mend=summed)


# --- files beside the logs ---


def _index_reader(folder: Path) -> Reader:
    """The rows of the index, whose sum is right."""
    store = directory_store(folder / "indexed")
    _workflow(store)
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
    _workflow(store)
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


_PATHS = (
    b'"../outside"',
    b'"/"',
    b'"..',
    b"before-restore.1/../../..",
    b"[" * 3000,
    b"{" * 3000,
    b"1" * 5000,
    b"\\ud800",
)


def _store_readers(folder: Path) -> Iterator[Reader]:
    for name, make in (
        ("decision", fuzzing_stores.decision),
        ("backup", fuzzing_stores.backup),
        ("plan", fuzzing_stores.plan),
        ("checkpoint", fuzzing_stores.checkpoint),
        ("import", fuzzing_stores.imported),
        ("session", fuzzing_stores.travelling),
    ):
        (folder / name).mkdir()
        read, valid = make(folder / name)
        if name == "session":
            yield Reader(name, read, valid, weight=2, mend=fuzzing_stores.closed)
        elif name in ("decision", "checkpoint", "import"):
            yield Reader(name, read, valid, weight=3 if name == "import" else 1, mend=summed)
        else:
            yield Reader(name, read, valid, weight=1, words=_PATHS)


def readers(folder: Path) -> Iterator[Reader]:
    """All readers; `folder` is empty, and theirs."""
    folder.mkdir(parents=True, exist_ok=True)
    yield Reader("values", _read_value, [values.encode(value) for value in [*_VALUES, _VALUES]], weight=15)
    yield Reader("records", _read_records, list(_workflow(MemoryStore()).values()), weight=10)
    yield _parts_reader()
    yield Reader("bodies", _read_body, _bodies(), weight=15)
    yield Reader("packed", _read_packed, _packed(), weight=3)
    yield Reader("lease", _read_lease, [lease._text(lease.Holder("h", "b", "s"))], weight=10, mend=_lease_text)
    yield Reader("environment", _read_environment, [b"WAYPOST_COMPRESSION_LEVEL=3\nWAYPOST_PRESET=testing"], weight=5)
    for make in (_log_reader, _writing_reader, _index_reader, _config_reader, _plan_reader, _command_line_reader):
        (folder / make.__name__).mkdir()
        if make is _writing_reader:
            (folder / make.__name__ / "logs").mkdir()
        yield make(folder / make.__name__)
    yield from _store_readers(folder)
    yield Reader("event", fuzzing_events.read, fuzzing_events.valid(), weight=8, mend=fuzzing_events.mended)
