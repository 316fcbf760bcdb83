"""What another process does with a store, for the tests of two writers: `python -m waypost.testing.programs`.

It is told on its standard input, as JSON, where to find the class of the tests, whose `open` it uses, and what to do.
It says a line on its standard output for each thing that is done.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from waypost.store import Store, Transaction
from waypost.testing.base import WF, A, B, Kit, change, joint_change, putting
from waypost.testing.claims import SESSION


def say(word: object) -> None:
    """Tell the one who waits for it, at once."""
    os.write(1, f"{word}\n".encode())


def add(store: Store, many: int) -> None:
    """Add one to a counter, so many times; each is said once it is acknowledged."""
    for _ in range(many):

        def work(tx: Transaction) -> None:
            tx.put("n", b"%d" % (int(tx.get("n") or 0) + 1))

        say(store.submit(change(work)).result().version)


def write(store: Store, many: int) -> None:
    """Put the same number in two parts, and in two documents at once, from where the last one left off."""
    begin = int(store.view(WF).get("a") or 0) + 1
    for number in range(begin, begin + many):
        value = b"%d" % number
        padded = value + b" " * (number % 7 * 40_000)
        once = change(putting({"a": value, "b": padded}), once=f"op-{number}")
        store.submit(once).result()
        say(number)
        joint = store.begin()
        for document in (A, B):
            joint.document(document).put("x", value)
        assert store.commit(joint, joint_change()) is not None
        say(-number)


def hold(store: Store, many: int) -> None:
    """Hold the session until the process is killed."""
    claim = store.claim(SESSION)
    say(claim is not None)
    assert many == 0 and claim is not None
    sys.stdin.read()


PROGRAMS: dict[str, Callable[[Store, int], None]] = {"add": add, "write": write, "hold": hold}


def class_of(module: str, file: str, name: str) -> type[Kit]:
    """A class by the module that it is in, which may be one that only pytest can import by its name."""
    try:
        loaded = importlib.import_module(module)
    except ImportError:
        spec = importlib.util.spec_from_file_location(module, file)
        assert spec is not None and spec.loader is not None, file
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[module] = loaded
        spec.loader.exec_module(loaded)
    found: Any = loaded
    for part in name.split("."):
        found = getattr(found, part)
    return found


def main() -> None:
    """Do what is asked for."""
    told = json.loads(sys.stdin.readline())
    sys.path[:] = told["path"]
    kit = class_of(told["module"], told["file"], told["name"])()
    store = kit.open(Path(told["place"]))
    say("open")
    PROGRAMS[told["program"]](store, told["many"])
    store.close()
    say("closed")


if __name__ == "__main__":
    main()
