"""Several processes over one place, and processes that are killed."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from waypost.store import Store
from waypost.testing.base import WF, A, B, Kit, Open, at, outlives, put_in_all
from waypost.testing.claims import SESSION, is_held

_KILLS = (1, 4, 9, 16)
"""After how many words of the writer it is killed: between a commit of one document and one of several, and around."""


class Process:
    """Another process that does something with a store."""

    def __init__(self, kit: Kit, place: Path, program: str, many: int) -> None:
        cls = type(kit)
        told = {
            "path": sys.path,
            "module": cls.__module__,
            "file": inspect.getfile(cls),
            "name": cls.__qualname__,
            "place": str(place),
            "program": program,
            "many": many,
        }
        command = [sys.executable, "-m", "waypost.testing.programs"]
        self._popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said: list[str] = []
        self._to.write(json.dumps(told) + "\n")
        self._to.flush()

    @property
    def _to(self) -> IO[str]:
        assert self._popen.stdin is not None
        return self._popen.stdin

    def listen(self, words: int) -> None:
        """Wait until it has said so many words more."""
        assert self._popen.stdout is not None
        for _ in range(words):
            word = self._popen.stdout.readline().strip()
            assert word, f"the other process ended after {self.said}"
            self.said.append(word)

    def finish(self) -> None:
        """Wait until it ends by itself, which it must do well."""
        self._hear_the_rest()
        assert self._popen.returncode == 0, self.said

    def kill(self) -> None:
        """Kill -9, and hear what it had said."""
        self._popen.kill()
        self._hear_the_rest()

    def _hear_the_rest(self) -> None:
        assert self._popen.stdout is not None
        if not self._popen.stdout.closed:
            self.said.extend(self._popen.stdout.read().split())
            self._popen.stdout.close()
        self._popen.wait()
        self._to.close()


class WriterTests(Kit):
    """The promises to several processes. They open the store by `open`, of a new object of the class of the tests."""

    @contextmanager
    def _process(self, place: Path, program: str, many: int = 0) -> Generator[Process]:
        process = Process(self, place, program, many)
        try:
            process.listen(1)
            yield process
        finally:
            process.kill()

    @outlives
    def test_c11_two_processes_lose_no_update(self, store: Store, place: Path) -> None:
        """Two processes and this one that each add one to a counter leave all that they added."""
        with self._process(place, "add", 40) as one, self._process(place, "add", 40) as other:
            mine = Process(self, place, "add", 10)
            for process in (one, other, mine):
                process.finish()
        assert store.view(WF).get("n") == b"90"
        told = [int(word) for each in (one, other, mine) for word in each.said if word.isdigit()]
        assert sorted(told) == list(range(1, 91)), "each version was acknowledged to one of them"

    @outlives
    def test_d01_what_was_acknowledged_outlives_kill_9(self, place: Path) -> None:
        """After each kill of a writer all that it said is there, once, and nothing is there by halves."""
        self.open(place).close()
        for words in _KILLS:
            with self._process(place, "write", 1000) as process:
                process.listen(words)
                process.kill()
            self._check(place, [int(word) for word in process.said if word.lstrip("-").isdigit()])

    def _check(self, place: Path, said: list[int]) -> None:
        store = self.open(place)
        try:
            view = store.view(WF)
            number = int(view.get("a") or 0)
            assert int(view.get("b") or 0) == number, "both parts of a commit, or none"
            assert number in (max(said), max(said) + 1) and view.version == number
            assert all(store.view(WF).operation(f"op-{each}") is not None for each in said if each > 0)
            both = [int(store.view(document).get("x") or 0) for document in (A, B)]
            assert both[0] == both[1] and both[0] >= -min([*said, 0]), "both documents, or none"
            assert [commit.version for commit in store.past(WF).commits()] == list(range(number, 0, -1))
            for version in range(1, number + 1):
                assert int(at(store, version).get("a") or 0) == int(at(store, version).get("b") or 0) == version
            assert put_in_all(store, b"%d" % both[0], A, B), "and others go on"
        finally:
            store.close()

    @outlives
    def test_s02_a_claim_ends_with_its_process(self, opening: Open, place: Path) -> None:
        """What a process holds is its own while it lives; who knows that it was killed gets it at once."""
        store = opening()
        with self._process(place, "hold") as process:
            process.listen(1)
            sight = store.holder(SESSION)
            assert process.said[-1] == "True" and is_held(store)
            assert store.claim(SESSION) is None
            assert list(store.claimed("session")) == [SESSION.id]
            process.kill()
        assert store.holder(SESSION) is not None, "that it did not let go is still seen"
        assert store.claim(SESSION, instead_of=sight) is not None
