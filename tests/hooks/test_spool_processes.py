"""Many hooks at once, and several processes that fold, some of each killed: what was acknowledged is there once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.hooks.spooled import QUIET, command, fold, make_store, taken
from tests.seeds import SEED
from tests.totals import Totals
from waypost.hooks import spool

HOOKS, AT_ONCE, FOLDERS = 200, 20, 3
FOLDING = """
import sys, time
from pathlib import Path
from tests.hooks.spooled import fold, make_store
while True:
    store = make_store(Path(sys.argv[1]))
    fold(store)
    store.close()
    time.sleep(0.01)
"""


def start_folder(path: Path) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[2]
    return subprocess.Popen([sys.executable, "-c", FOLDING, str(path)], cwd=root, env={**os.environ, "PYTHONPATH": "."})


class Crowd:
    """Hooks with numbers, some killed at a random moment; `acknowledged` are those that said that theirs is durable."""

    def __init__(self, path: Path, rng: random.Random) -> None:
        self._environment = {**QUIET, "WAYPOST_STATE": str(path)}
        # a hook takes some ten milliseconds, more on a machine that is busy: the moments are spread over much of that
        self._kill_after = {number: rng.random() * 0.15 for number in rng.sample(range(HOOKS), HOOKS // 4)}
        self.acknowledged: set[str] = set()
        self.killed = 0

    def run(self, number: int) -> None:
        running = subprocess.Popen(
            command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self._environment
        )
        killer = threading.Timer(self._kill_after.get(number, 60), running.kill)
        killer.start()
        said = running.communicate(b"%d" % number)
        killer.cancel()
        if running.returncode == -signal.SIGKILL:
            self.killed += 1
            return
        assert (running.returncode, said) == (0, (b"", b"")), said
        self.acknowledged.add(f"{number}")


@pytest.mark.timeout(300)
def test_d24_what_two_hundred_hooks_acknowledged_is_folded_in_once(tmp_path: Path, totals: Totals) -> None:
    """200 hooks, 20 at a time, a quarter of them killed, several folders killed among them: each acknowledged event is
    taken in once, and any other at most once.
    """
    rng = random.Random(SEED)
    path = tmp_path / "store"
    make_store(path).close()
    crowd = Crowd(path, rng)
    folders = [start_folder(path) for _ in range(FOLDERS)]
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            done = pool.map(crowd.run, range(HOOKS))
            while pool._work_queue.qsize():
                time.sleep(rng.random())
                at = rng.randrange(FOLDERS)
                folders[at].kill()
                folders[at].wait()
                folders[at] = start_folder(path)
            assert list(done)
    finally:
        for each in folders:
            each.kill()
            each.wait()
    store = make_store(path)
    fold(store)
    times = taken(store)
    hint = f"WAYPOST_TEST_SEED={SEED}"
    assert crowd.acknowledged <= set(times), hint
    assert set(times.values()) == {1}, hint
    assert len(set(times) - crowd.acknowledged) <= crowd.killed, hint
    assert spool.waiting(str(path)) == 0
    assert store.verify().sound
    assert all("not whole" in each.reason for each in spool.refused(str(path))), hint
    store.close()
    assert crowd.acknowledged, hint
    assert crowd.killed, hint
    totals("kill points", crowd.killed)


@pytest.mark.timeout(120)
def test_c09_d24_a_folder_that_is_stopped_is_not_overtaken(tmp_path: Path) -> None:
    """A stopped folder keeps its lock: others leave what waits, however long, and once it goes on all is there once."""
    path = tmp_path / "store"
    store = make_store(path)
    (path / "spool").mkdir()
    folder = start_folder(path)
    try:
        environment = {**QUIET, "WAYPOST_STATE": str(path)}
        for number in range(30):
            subprocess.run(command(), input=b"%d" % number, env=environment, check=True)
            if number == 15:
                folder.send_signal(signal.SIGSTOP)
        fold(store)
        folder.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + 60
        while spool.waiting(str(path)) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        folder.kill()
        folder.wait()
    fold(store)
    assert taken(store) == {f"{number}": 1 for number in range(30)}
    store.close()
