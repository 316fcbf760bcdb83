"""Ids that are made up: what they are, and that nobody is given one twice."""

from __future__ import annotations

import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from waypost import clock


def test_an_id_is_a_uuid_of_version_7_behind_its_prefix() -> None:
    """Whoever reads ids may take them for what RFC 9562 says: time, version, variant, and all else at random."""
    before_ms = time.time_ns() // 1_000_000
    found = [uuid.UUID(clock.new_id("op").removeprefix("op_")) for _ in range(500)]
    after_ms = time.time_ns() // 1_000_000
    assert {(each.version, each.variant) for each in found} == {(7, uuid.RFC_4122)}
    assert all(before_ms <= each.int >> 80 <= after_ms for each in found)
    always_clear = always_set = (1 << 80) - 1
    for each in found:
        always_clear &= ~each.int
        always_set &= each.int
    assert always_clear | always_set == 0xF << 76 | 0x3 << 62


def test_threads_are_never_given_the_same_id() -> None:
    """No lock guards the making of ids, and none is needed."""
    with ThreadPoolExecutor(8) as pool:
        found = [
            made
            for several in pool.map(lambda _: [clock.new_id("x") for _ in range(500)], range(8))
            for made in several
        ]
    assert len(set(found)) == len(found)


def test_the_child_of_a_fork_makes_ids_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parent holds ready is the parent's."""
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    clock.new_id("x")  # the parent holds others ready from here on
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, " ".join(clock.new_id("x") for _ in range(40)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 1 << 16).decode().split()
    os.close(reading)
    os.close(writing)
    assert len(theirs) == 40
    assert not {clock.new_id("x") for _ in range(40)}.intersection(theirs)
