"""Servers that are stopped at once, and processes of theirs that are killed, under load: no acknowledged commit is
lost, and none is there twice (T15).
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.postgres.conftest import open_at
from tests.servers import Server
from tests.totals import Totals, ring_size
from waypost import OperationNotFound

ROOT = Path(__file__).parents[2]
NAMES = ["one", "two", "three"]

pytestmark = pytest.mark.timeout(ring_size(180, 3600))


@contextmanager
def writing(server: Server) -> Iterator[list[list[str]]]:
    """Writers at work; afterwards what they said, line by line, as words."""
    said: list[list[str]] = []
    with open_at(server, "s") as wp:
        for name in [*NAMES, "shared"]:
            wp.create_workflow(name, name).unwrap()
            wp.update_context(name, variables={"said": []}).unwrap()
    command = [sys.executable, "-m", "tests.postgres.writer", server.url("s", loopback=True)]
    with ExitStack() as stack:
        writers = [
            subprocess.Popen(
                [*command, name],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name in NAMES
        ]
        for writer in writers:
            stack.callback(writer.kill)
        started = "SELECT count(*) FROM s.commits WHERE operation_id LIKE '%.2'"
        until = time.monotonic() + 60
        while server.execute(started)[0][0] < len(NAMES):
            assert time.monotonic() < until, "the writers do not begin"
            time.sleep(0.05)
        yield said
        for writer in writers:
            out, error = writer.communicate(timeout=60)
            assert writer.returncode == 0, error
            said += [line.split(maxsplit=2) for line in out.splitlines()]


def wait_for_commits(server: Server, more: int) -> None:
    """Until so many more were made than there are now, however long a server takes to recover, and its writers."""
    until, there = time.monotonic() + 60, None
    while True:
        try:
            now = server.execute("SELECT count(*) FROM s.commits")[0][0]
            there = now if there is None else there
            if now >= there + more:
                return
        except psycopg.OperationalError:
            pass  # it recovers
        assert time.monotonic() < until, "the writers do not go on"
        time.sleep(0.02)


def disturb(server: Server, how: str, seed: random.Random) -> None:
    if how == "stop":
        server.stop("immediate")
        server.start()
        return
    until = time.monotonic() + 30
    while True:
        try:
            pids = server.backends()
            if how == "kill" and pids:
                server.kill_backend(seed.choice(pids))
            for pid in seed.sample(pids, min(2, len(pids))) if how == "terminate" else ():
                server.execute("SELECT pg_terminate_backend(%s)", [pid])
            return
        except psycopg.OperationalError:  # it recovers from the last time
            assert time.monotonic() < until
            time.sleep(0.05)


@pytest.mark.parametrize("how", ["stop", "kill", "terminate"])
def test_t15_what_was_acknowledged_survives_a_server_that_is_killed(
    own_server: Server, how: str, totals: Totals
) -> None:
    """Through crashes of the server what was acknowledged is there once, and all else is as it was said to be."""
    seed = random.Random(15)
    times = ring_size(5, 300)
    with writing(own_server) as said:
        for _ in range(times):
            wait_for_commits(own_server, 4)
            time.sleep(seed.random() / 3)
            disturb(own_server, how, seed)
        wait_for_commits(own_server, 4)
    outcomes = {words[0]: words[1] for words in said}
    assert len(outcomes) > 2 * times, said[-5:]
    own_server.stop("immediate")
    own_server.start()
    with open_at(own_server, "s") as wp:
        there = {name: wp.load_workflow_state(name).unwrap().context.variables for name in [*NAMES, "shared"]}
        for operation, outcome in outcomes.items():
            name, _, number = operation.partition(".")
            counts = (
                [Counter(there[each]["said"])[operation] for each in (name, "shared")]
                if int(number) % 2
                else [int(there[name].get(operation) == int(number))]
            )
            assert counts in ([0] * len(counts), [1] * len(counts)), (operation, outcome, counts)
            assert outcome != "done" or counts[0] == 1, f"{operation} was acknowledged, and is lost ({how}, seed 15)"
            assert outcome != "rolled_back" or counts[0] == 0, f"{operation} was rolled back, and is there"
            if outcome == "unknown":
                try:
                    settled = wp.get_outcome(operation).repeated
                except OperationNotFound:
                    settled = False
                assert settled == bool(counts[0])
        twice = own_server.execute(
            "SELECT operation_id FROM s.commits WHERE operation_id LIKE '%.%' GROUP BY doc, operation_id"
            " HAVING count(*) > 1"
        )
        assert twice == []
    totals("connection cuts", times)
