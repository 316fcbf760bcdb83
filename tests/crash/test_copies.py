"""Copies of a store in use, made with the tools that people use, and with `backup`.

Writers append to several documents, take snapshots and compact, while `cp -r`, `rsync`, `tar` or `backup` copies the
directory. Whatever comes out must open at some commit of each document, or be refused with a documented error; a value
that was not committed together with the others is never read. Each commit puts the same number into all of its parts
and a sum over them, so that a mixture of two commits is seen.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import waypost
from tests.seeds import SEED
from tests.store.support import change, directory_store
from tests.totals import Totals, ring_size
from waypost.errors import DocumentDamaged, StoreNotFound, StoreUnavailable, UnsupportedFormat, WaypostError
from waypost.store import DocumentId, Transaction, View

SAID = f"repeat it with WAYPOST_TEST_SEED={SEED}"
NAMES = ("one", "two", "three")
DOCUMENTED = (DocumentDamaged, StoreNotFound, StoreUnavailable, UnsupportedFormat)

WRITER = """
import os, random, sys
from tests.crash.test_copies import NAMES, numbered
from tests.store.support import directory_store
from waypost.store import DocumentId
path, seed = sys.argv[1], int(sys.argv[2])
rng, store = random.Random(seed), directory_store(path, chunk_size=4096, max_file_size=8)
os.write(1, b"ready\\n")
while os.getppid() == int(sys.argv[3]):
    document = DocumentId("workflow", rng.choice(NAMES))
    store.submit(numbered(document, rng.randrange(1 << 40), rng.choice((10, 300, 9000)))).result()
    if rng.randrange(40) == 0:
        store.tidy(document, rng.choice(("compact", "snapshot")))
"""


def numbered(document: DocumentId, number: int, length: int):
    """A commit all of whose parts say the same number."""

    def work(tx: Transaction) -> None:
        for name in ("a", "b", "c"):
            tx.put(name, b"%d" % number)
        tx.put("large", b"%d " % number * (length // 8))
        tx.put("sum", hashlib.sha256(tx.get("large") or b"").digest())
        tx.put("count", b"%d" % (int(tx.get("count") or 0) + 1))

    return change(document, work)


def check_view(view: View) -> None:
    """One commit's parts and no other's."""
    if view.version == 0:
        assert list(view.keys()) == []
        return
    numbers = {view.get(name) for name in ("a", "b", "c")}
    assert len(numbers) == 1, f"parts of different commits: {numbers}; {SAID}"
    large = view.get("large") or b""
    assert {large.split(b" ")[0]} <= numbers or not large, SAID
    assert view.get("sum") == hashlib.sha256(large).digest(), SAID
    assert int(view.get("count") or 0) == view.version, SAID


def cp(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-r", str(source), str(target)], check=False, capture_output=True, timeout=60)


def tar(source: Path, target: Path) -> None:
    archive = target.with_suffix(".tar")
    command = ["tar", "--warning=none", "-C", str(source.parent), "-cf", str(archive), source.name]
    subprocess.run(command, check=False, capture_output=True, timeout=60)  # it ends with 1 for a file that changed
    target.mkdir()
    subprocess.run(["tar", "-C", str(target), "--strip-components=1", "-xf", str(archive)], check=True, timeout=60)


def rsync(source: Path, target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
    for _ in range(2):  # the second time over what the first one left
        command = ["rsync", "-a", "--inplace", "--delete", f"{source}/", f"{target}/"]
        subprocess.run(command, check=False, capture_output=True, timeout=60)


def backup(source: Path, target: Path) -> None:
    store = directory_store(source, read_only=True)
    store.backup(str(target))
    store.close()


def backup_by_command(source: Path, target: Path) -> None:
    command = [sys.executable, "-m", "waypost", "store", "backup", str(target), "--state", str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


PARTS = pytest.mark.parametrize("busy", range(ring_size(1, 8)), indirect=True, ids="part{}".format)
"""How often it begins with a new store, since one that is written to without a pause soon takes seconds to copy."""


@contextmanager
def writing(path: Path, program: str, processes: int, part: int = 0) -> Iterator[None]:
    """Processes write to a store without a pause, and must still be at it when the block ends."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path), str(SEED + part * processes + number), str(os.getpid())],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])},
        )
        for number in range(processes)
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
        yield
        assert [writer.poll() for writer in writers] == [None] * processes, f"a writer ended by itself; {SAID}"
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()


@pytest.fixture
def busy(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A store that two processes write to without a pause."""
    path = tmp_path / "store"
    store = directory_store(path, chunk_size=4096)
    for name in NAMES:
        store.submit(numbered(DocumentId("workflow", name), 0, 100)).result()
    store.close()
    with writing(path, WRITER, 2, getattr(request, "param", 0)):
        yield path


def examine(copy: Path, *, may_be_refused: bool) -> int:
    """Open a copy, check each document, and write to it; how many documents were refused."""
    refused = 0
    try:
        store = directory_store(copy, create=False)
    except DOCUMENTED:
        assert may_be_refused, SAID
        return len(NAMES)
    for name in NAMES:
        document = DocumentId("workflow", name)
        try:
            view = store.view(document)
            check_view(view)
            receipt = store.submit(numbered(document, 7, 100)).result()
            assert receipt.version == view.version + 1, SAID
            check_view(store.view(document))
        except DOCUMENTED:
            assert may_be_refused, SAID
            refused += 1
    store.close()
    return refused


COPIES: dict[str, Callable[[Path, Path], None]] = {
    "cp": cp,
    "tar": tar,
    "rsync": rsync,
    "backup": backup,
    "backup by command": backup_by_command,
}


@PARTS
@pytest.mark.parametrize("name", COPIES)
@pytest.mark.timeout(ring_size(120, 7200))
def test_t16_e05_a_copy_of_a_store_in_use_is_at_some_commit_or_refused(
    busy: Path, tmp_path: Path, totals: Totals, name: str
) -> None:
    """However a busy store was copied, what opens is one commit of each document, and can be written to; a backup is
    never refused.
    """
    if name == "rsync" and not shutil.which("rsync"):
        pytest.skip("rsync is not installed")
    print(SAID)
    is_ours = name.startswith("backup")
    cases = ring_size(3 if name == "backup by command" else 6, 20)
    refused = 0
    for number in range(cases):
        copy = tmp_path / f"copy{number}"
        COPIES[name](busy, copy)
        assert is_ours or (copy / "workflows").exists()
        refused += examine(copy, may_be_refused=not is_ours)
        if refused and not is_ours:
            waypost.repair(copy)
            assert examine(copy, may_be_refused=False) == 0
        check_verified(copy)
        shutil.rmtree(copy)
    totals("copies of a live store", cases)


def check_verified(copy: Path) -> None:
    store = directory_store(copy, read_only=True)
    found = [each for each in store.verify().findings if each.severity in ("damage", "torn tail")]
    store.close()
    assert found == [], SAID


def test_e06_a_copy_on_another_machine_waits_for_its_lease(busy: Path, tmp_path: Path, call_as_elsewhere) -> None:
    """A copy brings the lease along: on another machine it is refused until the lease is taken over by hand."""
    copy = tmp_path / "copy"
    cp(busy, copy)
    assert (copy / "lease").exists()
    with call_as_elsewhere(), pytest.raises(WaypostError, match="take-lease"):
        directory_store(copy, create=False)
    with call_as_elsewhere():
        from waypost import cli

        assert cli.call(["store", "doctor", "--take-lease", "--yes", "--state", str(copy)]) in (0, 1)
        assert examine(copy, may_be_refused=True) <= len(NAMES)


@pytest.fixture
def call_as_elsewhere(monkeypatch: pytest.MonkeyPatch):
    """What is done in its block is done on another machine, as far as the store can tell."""
    from contextlib import contextmanager

    from waypost import clock

    @contextmanager
    def pretending() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(clock, "host", lambda: "elsewhere/1")
            patch.setattr(clock, "boot_id", lambda: "another-boot")
            yield

    return pretending
