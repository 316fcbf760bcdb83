"""Golden stores: what a release wrote is read, verified, written to, compacted and led back by this one.

They lie in `tests/golden/<format>/` with a listing beside each, and are made by `tools/make_golden.py`.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

import waypost
from tests.store.support import directory_store
from waypost import records
from waypost.codec import bodies, values
from waypost.codec.frame import FORMAT_VERSION, FrameType
from waypost.schema import register_migration
from waypost.store import DocumentId
from waypost.store.directory.blocks import BlockCache, Blocks
from waypost.store.directory.log import Log
from waypost.store.directory.state import Snapshot
from waypost.store.erasures import RESULT_ERASED

ROOT = Path(__file__).parent.parent.parent
GOLDEN = ROOT / "tests" / "golden"
FORMATS = sorted(entry.name for entry in GOLDEN.iterdir())
STORES = sorted(
    f"{name}/{store}" for name in FORMATS for store in ("closed", "open", "decided", "checkpointed", "erased")
)


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_golden", ROOT / "tools" / "make_golden.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


tool = _tool()


@pytest.fixture(params=STORES)
def golden(request: pytest.FixtureRequest) -> Path:
    """Each golden store in turn."""
    return GOLDEN / request.param


@pytest.fixture
def copied(golden: Path, tmp_path: Path) -> Path:
    """A copy of a golden store, to be written to."""
    return Path(shutil.copytree(golden, tmp_path / "store"))


def listed(golden: Path) -> dict[str, Any]:
    return json.loads(golden.with_suffix(".json").read_text(encoding="utf-8"))


def held_by(path: Path) -> dict[str, Any]:
    return json.loads(msgspec.json.encode(tool.listing(path)))


def documents(path: Path) -> list[DocumentId]:
    """The documents that a listing names."""
    return [DocumentId(*name.split(" ", 1)) for name in listed(path)["documents"]]


def lacking(expected: Any, found: Any, place: str = "") -> Iterator[str]:
    """Where `found` does not hold what is expected. A later release may have more to say, and nothing else."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key, value in expected.items():
            yield from (
                lacking(value, found.get(key), f"{place}/{key}") if key in found else [f"{place}/{key} is missing"]
            )
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for number, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from lacking(one, other, f"{place}/{number}")
    elif expected != found:
        yield f"{place}: {found!r:.200} in place of {expected!r:.200}"


def test_v07_there_are_golden_stores_of_this_format() -> None:
    """Each format that was ever written has its golden stores, the present one too."""
    assert str(FORMAT_VERSION) in FORMATS
    for name in FORMATS:
        made = {entry.name for entry in (GOLDEN / name).iterdir()}
        assert made == {f"{store}{end}" for store in tool.MAKERS for end in ("", ".json")}


def test_v07_golden_files_are_all_there(golden: Path) -> None:
    """Each file has the bytes that its listing names, no other file lies there, and git keeps every one of them."""
    files = listed(golden)["files"]
    assert tool.files_of(golden) == files
    assert len(files) >= 4
    if (ROOT / ".git").exists():
        asked = ["git", "ls-files", "-z", "--", f"{golden}", f"{golden}.json"]
        tracked = subprocess.run(asked, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
        expected = {str((golden / name).relative_to(ROOT)) for name in files}
        assert {*tracked} - {""} == {*expected, str(golden.with_suffix(".json").relative_to(ROOT))}


def test_t17_golden_stores_are_read(golden: Path) -> None:
    """Every part, version, value and remembered operation is what the release that wrote it said; no byte changes."""
    expected = listed(golden)
    assert list(lacking(expected, held_by(golden))) == []
    assert expected["documents"] and expected["operations"]
    for name, document in expected["documents"].items():
        assert set(document["parts"]) == set(held_by(golden)["documents"][name]["parts"])


def test_t17_golden_values_come_back_exactly() -> None:
    """A value of every kind decodes to what it was, registered types too, and encodes to the bytes that stand there."""
    waypost.register_type("point", tool.Point, list, lambda pair: tool.Point(*pair))
    store = directory_store(GOLDEN / "1" / "closed", read_only=True)
    try:
        view = store.view(DocumentId("workflow", "survey"))
        names = records.names(view, records.VARIABLE)
        assert set(names) == set(tool.VALUES)
        for name in names:
            data = view.get(records.VARIABLE + name)
            found = values.decode(data)
            assert values.encode(found) == data == values.encode(tool.VALUES[name]), name
            assert repr(found) == repr(tool.VALUES[name]) or isinstance(found, set), name
    finally:
        store.close()
        waypost.unregister_type("point")


def test_t17_golden_stores_verify(golden: Path) -> None:
    """Every byte is as the format says; a store that was closed gives no finding, an open one only says that it is."""
    store = directory_store(golden, read_only=True)
    report = store.verify()
    assert report.sound and report.documents == len(documents(golden))
    said = {finding.text for finding in report.findings}
    open_ones = {"is open, or was not closed cleanly; nothing is missing"}
    waiting = {"decides a commit over 2 documents, which is still to be carried out"}
    derived = {"is missing; it is derived, and written anew when the store is closed"}
    expected = {"closed": set(), "open": open_ones, "decided": open_ones | waiting}
    expected |= {"checkpointed": derived, "erased": derived, "merged": derived}
    assert said == expected[golden.name]
    store.close()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("has_log", [True, False])
def test_t17_golden_checkpoints_are_read(name: str, has_log: bool, tmp_path: Path) -> None:
    """Each is what the release that wrote it said, also when all else of the workflow is lost."""
    path = Path(shutil.copytree(GOLDEN / name / "checkpointed", tmp_path / "store"))
    if not has_log:
        (path / "workflows" / "survey.state").unlink()
    expected = listed(GOLDEN / name / "checkpointed")["documents"]["workflow survey"]["checkpoints"]
    store = directory_store(path, read_only=True)
    found = json.loads(msgspec.json.encode(tool.checkpoints_of(store, DocumentId("workflow", "survey"))))
    assert list(lacking(expected, found)) == [] and found.keys() == expected.keys() and len(found) == 4
    store.close()


def test_t17_golden_stores_are_written_to(golden: Path, copied: Path) -> None:
    """Work goes on in them: an operation of then is not repeated, new ones are added, and it all verifies."""
    with waypost.open(copied) as wp:
        again = wp.create_workflow("survey", "Again", operation_id="create")
        assert again.success and again.repeated
        wp.resume_workflow("survey").unwrap()
        wp.add_steps("survey", ["new"]).unwrap()
        wp.update_step_status("survey", "new", "completed", {"rows": [1, 2]}).unwrap()
        wp.update_context("survey", variables={"new": "x" * 100_000}).unwrap()
        assert wp.validate_workflow_state("survey").is_valid
    expected, found = listed(golden)["documents"]["workflow survey"], held_by(copied)["documents"]["workflow survey"]
    assert list(lacking(expected["history"], found["history"])) == []
    kept = {key: data for key, data in expected["parts"].items() if not key.startswith(("workflow", "order"))}
    assert list(lacking(kept, found["parts"])) == []
    store = directory_store(copied, read_only=True)
    assert store.verify().sound
    store.close()


def test_t17_golden_stores_are_compacted(golden: Path, copied: Path) -> None:
    """Written anew by this release, each document has the parts, sums and ids that it had."""
    store = directory_store(copied)
    for document in documents(golden):
        store.view(document)
        store._document(document).open_for_writing()
        assert store.tidy(document, "compact")
    store.close()
    expected, found = listed(golden)["documents"], held_by(copied)["documents"]
    for name, document in expected.items():
        for what in ("version", "size_bytes", "checksum", "commit_id", "parts"):
            assert found[name][what] == document[what], (name, what)
    store = directory_store(copied, read_only=True)
    assert store.verify().sound
    store.close()


@pytest.mark.usefixtures("registry")
def test_t17_golden_stores_are_led_back(golden: Path, copied: Path) -> None:
    """A workflow of an application's later version goes back to the earlier one, and forward, and is what it was."""
    register_migration("1.0.0", "2.0.0", lambda _: None, lambda _: None, application=tool.APPLICATION)
    before = listed(golden)["documents"]
    for version in ("2.0.0", "1.0.0"):
        with waypost.open(copied) as wp:
            report = wp.migrate_workflows(to=version, application=tool.APPLICATION)
            assert report.failed == []
        store = directory_store(copied, read_only=True)
        for document in documents(golden):
            view, name = store.view(document), f"{document.kind} {document.id}"
            assert set(view.keys()) == set(before[name]["parts"])
            data = view.get(records.WORKFLOW)
            if data is not None:
                assert records.versions_in(data).get(tool.APPLICATION) == version
        assert store.verify().sound
        store.close()


def frames_of(path: Path) -> Iterator[tuple[Log, Any]]:
    """Every frame of every log of a store, and of every file of a checkpoint."""
    store = directory_store(path, read_only=True)
    for folder_name, suffix in (("workflows", ".state"), ("sessions", ".session"), ("checkpoints", ".checkpoint")):
        folder = store.layout.existing(folder_name)
        for name in sorted({*folder.names()} - {"lock"}) if folder else []:
            log = store._context.open_log(folder, name, write=False)
            assert log is not None and name.endswith(suffix)
            size = log.file.identity().size
            first = log.first(size)
            assert first is not None
            yield log, first
            for found in log.hop(first.end, first.header.checksum, size):
                yield log, found
    store.close()


def test_v07_golden_stores_hold_everything_that_the_format_has() -> None:
    """Every type of frame, codec and extension, dropped history, extents, remembered operations: all is there."""
    types, codecs, tags, beyond = set(), set(), set(), set()
    for log, found in chain(
        *(frames_of(GOLDEN / "1" / name) for name in ("closed", "checkpointed", "erased", "merged"))
    ):
        types.add(FrameType(found.header.type))
        codecs.add(found.header.codec)
        content, table = found.content()
        codecs.update(block.codec for block in table)
        if log.body is not None and log.body.dropped:
            beyond.add("dropped history")
        if found.header.type == FrameType.COMMIT:
            body = bodies.read_commit(content)
            beyond.update(what for what in ("cleared", "removed", "session", "agent") if getattr(body, what))
            if any(not isinstance(part, bytes) for part in body.puts.values()):
                beyond.add("large part")
            if body.merge is not None and body.merge.behind:
                beyond.add("merge")
            if body.erased is not None:
                beyond.add("erased from a commit")
            if body.projection == RESULT_ERASED:
                beyond.add("forgotten result")
            tags.update(code for key, data in body.puts.items() for code in extensions(key, data))
        if found.header.type == FrameType.DELTA:
            delta = bodies.read_delta(content)
            beyond.update(f"delta {what}" for what in ("puts", "removed") if getattr(delta, what))
            if any(not isinstance(part, bytes) for part in delta.puts.values()):
                beyond.add("delta large part")
            if any(map(bodies.is_erased, delta.puts.values())):
                beyond.add("erased from a delta")
        if found.header.type == FrameType.SNAPSHOT:
            snapshot = Snapshot(Blocks(log.file, log.file_id, BlockCache(1 << 20), True), found)
            if any(not isinstance(snapshot.get(key), bytes) for key in snapshot.keys()):
                beyond.add("extent")
            if any(bodies.is_erased(snapshot.get(key)) for key in snapshot.keys()):
                beyond.add("erased from a snapshot")
            if snapshot.operation_blocks:
                beyond.add("operations")
            if snapshot.body.operations:
                beyond.add("earlier operations")
            if snapshot.body.superseded:
                beyond.add("superseded")
    # a decision stands in `transactions/`, and in no log
    assert types == set(FrameType) - {FrameType.DECISION}
    assert codecs == {0, 1, 2, 3, 4, 5}
    assert tags == {-1, *range(1, 11)}
    assert beyond == {
        "dropped history", "cleared", "removed", "session", "agent", "large part", "extent", "operations",
        "earlier operations", "superseded", "delta puts", "delta removed", "delta large part",
        "erased from a commit", "erased from a delta", "erased from a snapshot", "forgotten result", "merge",
    }  # fmt: skip


def extensions(key: str, data: Any) -> set[int]:
    """The extension types that the bytes of a variable hold."""
    found: set[int] = set()
    if not key.startswith(records.VARIABLE):
        return found

    def note(code: int, raw: memoryview) -> None:
        found.add(code)
        if code in (2, 3, 4, 5, 10):
            decode(bytes(raw))

    decode = msgspec.msgpack.Decoder(ext_hook=note).decode
    decode(data)
    if b"\xd6\xff" in data or b"\xd7\xff" in data or b"\xc7\x0c\xff" in data:
        found.add(-1)  # msgspec makes times of these itself
    return found


def test_golden_stores_are_made_the_same_each_time(tmp_path: Path) -> None:
    """Two runs of the tool give the same files, to the byte."""
    for name in ("first", "second"):
        subprocess.run([sys.executable, ROOT / "tools" / "make_golden.py", "--into", tmp_path / name], check=True)
    first, second = (tool.files_of(tmp_path / name) for name in ("first", "second"))
    assert first == second and len(first) > 10
