"""Hostile input for the files of a store beside its logs: decisions, backups, and restores that were cut off.

See `fuzzing`, which lists these readers with the others.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from unittest.mock import patch
from zlib import crc32

import waypost
from tests.conftest import make_config, opened
from tests.store.support import TestedStore, change, directory_store
from waypost.blocking import Waypost
from waypost.codec import frame
from waypost.definitions import Definitions
from waypost.errors import WaypostError
from waypost.store import DocumentId, JointChange, Transaction
from waypost.store.contract import CHECKPOINT
from waypost.store.directory.blocks import BlockCache
from waypost.store.directory.upkeep import Upkeep
from waypost.store.memory import MemoryStore

A, B = DocumentId("workflow", "a"), DocumentId("workflow", "b")


def merged_log(path: Path) -> bytes:
    """The log of a workflow that was changed in two stores, which were synced since."""
    with opened(path, compression={"enabled": False}) as wp, waypost.open("memory:") as other:
        wp.create_workflow("wf", "Wf", steps=["a"]).unwrap()
        wp.sync(other).unwrap()
        for number, each in enumerate((wp, other)):
            each.update_context("wf", variables={f"of {number}": number}).unwrap()
        assert wp.sync(other).unwrap().is_complete
    return (path / "workflows" / "wf.state").read_bytes()


def _together(store: TestedStore, value: bytes) -> None:
    joint = store.begin()
    for document in (A, B):
        joint.document(document).put("x", value)
    assert store.commit(joint, JointChange(value.decode(), "test")) is not None


def _with_a_decision(path: Path) -> Path:
    """A store in which a second transaction was decided, of which one log lacks its half; the decision."""
    with patch.object(Upkeep, "ask_to_settle", lambda self: None):
        store = directory_store(path / "made")
        _together(store, b"1")
        store._settle()
        before = (path / "made" / "workflows" / "b.state").read_bytes()
        _together(store, b"2")
        shutil.copytree(path / "made", path / "store")
        store.close()
    (path / "store" / "lease").unlink()
    (path / "store" / "workflows" / "b.state").write_bytes(before)
    (decision,) = (path / "store" / "transactions").iterdir()
    return decision


def decision(folder: Path) -> tuple[Callable[[bytes], object], list[bytes]]:
    """What reads a decision, and a valid one: all logs, `verify`, and in a copy who carries it out."""
    place = _with_a_decision(folder)
    store_path = folder / "store"

    def read(data: bytes) -> None:
        place.write_bytes(data)
        store = directory_store(store_path, read_only=True)
        try:
            for document in (A, B):
                with suppress(WaypostError):
                    store.view(document)
            store.verify()
        finally:
            store.close()
        shutil.rmtree(folder / "again", ignore_errors=True)
        shutil.copytree(store_path, folder / "again")
        store = directory_store(folder / "again", enable_wal=False)
        try:
            store.submit(change(B, lambda tx: tx.put("new", b"1"))).result()
        finally:
            store.close()

    return read, [place.read_bytes()]


def backup(folder: Path) -> tuple[Callable[[bytes], object], list[bytes]]:
    """What reads the manifest of a backup, and a valid one."""
    store = directory_store(folder / "store")
    store.submit(change(A, lambda tx: tx.put("x", b"1"))).result()
    store.backup(str(folder / "saved"))
    place = folder / "saved" / "backup.json"
    valid = place.read_bytes()

    def read(data: bytes) -> None:
        place.write_bytes(data)
        store.restore_backup(str(folder / "saved"), allow_older=True)

    return read, [valid]


def plan(folder: Path) -> tuple[Callable[[bytes], object], list[bytes]]:
    """What carries out the plan of a restore that was cut off, and a valid one."""
    directory_store(folder / "store").close()
    decided = folder / "store" / "restoring"
    outside = folder / "outside"
    outside.mkdir()

    def read(data: bytes) -> None:
        for name in ("workflows", "sessions"):
            (decided / name).mkdir(parents=True, exist_ok=True)
        (decided / "plan.json").write_bytes(data)
        try:
            directory_store(folder / "store").close()
        finally:
            shutil.rmtree(decided, ignore_errors=True)
            assert not list(outside.iterdir())
            assert {each.name for each in folder.iterdir()} == {"store", "outside"}

    names = b'{"files":{"workflows":["a.state"],"sessions":[]},"kept_in":'
    return read, [names + b'"before-restore.1"}']


def checkpoint(folder: Path) -> tuple[Callable[[bytes], object], list[bytes]]:
    """What reads the file of a checkpoint, and one that stands on it, their log being lost; valid ones."""
    with patch.object(Upkeep, "ask", lambda self, document: None):
        store = directory_store(folder / "store", chunk_size=4096)
        for number in range(3):
            value = {"x": b"%d" % number, "large": bytes(range(256)) * 20 if number else b"", f"gone{number}": b""}

            def work(tx: Transaction, number: int = number, value: dict[str, bytes] = value) -> None:
                for key, data in value.items():
                    tx.put(key, data)
                tx.delete(f"gone{number - 1}")
                tx.put(f"{CHECKPOINT}a@{number}", b"")

            store.submit(change(A, work)).result()
        store.close()
    valid = [(folder / "store" / "checkpoints" / f"a_40{number}.checkpoint").read_bytes() for number in range(3)]
    (folder / "store" / "workflows" / "a.state").unlink()
    store = directory_store(folder / "store", read_only=True, checksum_validation=False)

    def read(data: bytes) -> None:
        (folder / "store" / "checkpoints" / "a_401.checkpoint").write_bytes(data)
        store._context.cache = BlockCache(1 << 20)
        for each in ("a@1", "a@2"):
            with suppress(WaypostError):
                view = store.checkpoint(A, each)
                for key in view.keys() if view else ():
                    view.get(key) if view else None
        with suppress(WaypostError):
            store.verify_checkpoint(A, "a@1")
        store.checkpoints(A)

    return read, valid


def imported(folder: Path) -> tuple[Callable[[bytes], object], list[bytes]]:
    """What reads an export that is to be imported, and valid ones; what is taken must be all there, and sound."""
    del folder
    config = make_config({"compression": {"chunk_size": 4096}})
    plain = make_config({"compression": {"chunk_size": 4096, "enabled": False}})
    valid: list[bytes] = []
    for options in (config, plain):
        wp = Waypost(Definitions(MemoryStore(), options, verbose=False))
        wp.create_workflow("w", "W", "s", ["a", "b"]).unwrap()
        wp.update_step_status("w", "a", "completed", {"rows": [1, 2]}).unwrap()
        valid.append(wp.export_checkpoint(wp.create_checkpoint("w", "small", ["t"]).unwrap().id))
        wp.add_step_output("w", "b", bytes(range(256)) * 24).unwrap()
        wp.update_context("w", variables={"x": "text " * 30}).unwrap()
        valid.append(wp.export_checkpoint(wp.create_checkpoint("w").unwrap().id))

    def read(data: bytes) -> None:
        store = MemoryStore()
        wp = Waypost(Definitions(store, config, verbose=False))
        result = wp.import_checkpoint(data)
        if not result:
            assert result.status == "rolled_back" and not list(store.documents("workflow"))
            result.unwrap()
        kept = result.unwrap()
        assert wp.validate_workflow_state(kept.workflow_id).is_valid and wp.validate_checkpoint(kept.id).is_valid
        assert repr(kept) and repr(kept.state) and wp.import_checkpoint(data, "again")
        assert wp.restore_from_checkpoint(kept.id) and wp.import_checkpoint(wp.export_checkpoint(kept.id))

    return read, valid


def closed(data: bytes) -> bytes:
    """An exported session whose frames have the checksums and links, and whose end the digest, of what is there now."""
    out, offset = bytearray(data), 0
    start = link = file_id = opening = 0
    while (header := frame.read_header(out, offset)) is not None and header.length >= frame.HEADER_BYTES:
        is_closing = bool(offset) and header.type == frame.FrameType.SEAL and header.file_id == opening_id(out)
        if header.type == frame.FrameType.FILE:
            start, link, file_id = offset, 0, header.file_id
        if is_closing:
            start, link, file_id = 0, opening, header.file_id
            out[offset + header.length - 32 : offset + header.length] = sha256(out[:offset]).digest()
        struct.pack_into("<QI", out, offset + 56, file_id, link)
        checked = bytes(out[offset + 8 : offset + header.blocks_offset])
        link = crc32(checked, frame.seed(file_id, offset - start))
        struct.pack_into("<I", out, offset + 4, link)
        opening = opening or link
        offset += header.length
    return bytes(out)


def opening_id(data: bytes | bytearray) -> int:
    header = frame.read_header(data)
    return -1 if header is None else header.file_id


def travelling(folder: Path) -> tuple[Callable[[bytes], object], list[bytes]]:
    """What reads an exported session, and valid ones; what is taken in must be all there, and sound."""
    del folder
    config = make_config({"compression": {"chunk_size": 4096}})
    plain = make_config({"compression": {"chunk_size": 4096, "enabled": False}})
    valid: list[bytes] = []
    for options in (config, plain):
        wp = Waypost(Definitions(MemoryStore(), options, verbose=False))
        wp.start_session("me", {"x": 1}, session_id="s")
        wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
        wp.add_step_output("w", "b", bytes(range(256)) * 24).unwrap()
        wp.create_checkpoint("w", "kept").unwrap()
        for history in (True, False):
            data = wp.export_session("s", include_history=history)
            assert isinstance(data, bytes)
            valid.append(data)

    def read(data: bytes) -> None:
        store = MemoryStore()
        wp = Waypost(Definitions(store, config, verbose=False))
        result = wp.import_session(data)
        if not result:
            assert result.status == "rolled_back" and not list(store.documents("workflow"))
            result.unwrap()
        done = result.unwrap()
        assert repr(wp.get_session(done.session_id))
        for each in done.workflows:
            assert wp.validate_workflow_state(each).is_valid and wp.list_checkpoints(each)
        assert wp.import_session(data).unwrap().made == []

    return read, valid
