"""Starting the hook script, and folding what it leaves into a store that counts how often each event came."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.conftest import make_config
from tests.store.support import WF, change
from waypost.hooks import entries, intake, script, spool
from waypost.hooks.entries import Entry
from waypost.store import Store, Transaction, open_store

QUIET = {"PATH": os.environ.get("PATH", "")}


@cache
def interpreter() -> str:
    """The interpreter itself: what stands before it in an environment may make calls of its own."""
    command = [sys.executable, "-c", "import sys; print(sys.executable)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def command(*options: str) -> list[str]:
    return [interpreter(), "-I", "-S", spool.script_path(), *options]


def hook(
    payload: bytes, *options: str, environment: Mapping[str, str] | None = None, **more: Any
) -> subprocess.CompletedProcess[bytes]:
    """One run of the script."""
    return subprocess.run(
        command(*options), input=payload, capture_output=True, env={**QUIET, **(environment or {})}, timeout=60, **more
    )


def is_acknowledged(done: subprocess.CompletedProcess[bytes]) -> bool:
    """Whether the script said that its event is durable."""
    return (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def events(folder: Path) -> list[Entry]:
    """What waits in a spool, in the order of names."""
    return [entries.read(each.stem, each.read_bytes()) for each in sorted(folder.glob(f"*{script.SUFFIX}"))]


def make_store(path: Path) -> Store:
    return open_store(str(path), make_config())


def take(definitions: Any, entry: Entry) -> None:
    """One commit, which counts how often an event was taken in, and in what order the first times were."""
    key = f"event {entry.payload.decode()}"

    def work(tx: Transaction) -> None:
        times = int((tx.get(key) or b"0").split()[0]) + 1
        number = int(tx.get("number") or 0) + 1
        tx.put(key, b"%d %d" % (times, number))
        tx.put("number", b"%d" % number)

    definitions.store.submit(change(WF, work, operation_id=entry.name, repeatable=True)).result()


def fold(store: Store, taker: Any = take, dialect: str = "waypost", folder: Path | None = None) -> intake.Folded:
    definitions: Any = SimpleNamespace(store=store)
    return intake.fold(definitions, str(folder) if folder else spool.place(store.location), {dialect: taker})


def taken(store: Store) -> dict[str, int]:
    """The payloads of the events that were taken in, the first one first, and how often each was."""
    view = store.view(WF)
    found = {key.removeprefix("event "): (view.get(key) or b"").split() for key in view.keys() if key != "number"}
    return {payload: int(found[payload][0]) for payload in sorted(found, key=lambda each: int(found[each][1]))}
