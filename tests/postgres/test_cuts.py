"""Connections that are cut at every message, before it is handed on and after: what was acknowledged is there once,
what failed is not there, and what nobody knows is settled by asking (T15, C12).
"""

from __future__ import annotations

import itertools

import pytest

from tests.postgres.acts import ACTS, Act, Told, told
from tests.postgres.conftest import Opener
from tests.postgres.proxy import Proxy, Where
from tests.servers import Server
from tests.totals import Totals, ring_size
from waypost import OperationNotFound, Waypost
from waypost.store.postgres import committing

_names = itertools.count(1)
pytestmark = pytest.mark.timeout(ring_size(120, 3600))
BY_NAME = {act.name: act for act in ACTS}


def documents_with(server: Server, schema: str, operation_id: str) -> list[int]:
    """How often each document that has the operation has it."""
    counted = f"SELECT count(*) FROM {schema}.commits WHERE operation_id = %s GROUP BY doc"
    return [times for (times,) in server.execute(counted, [operation_id])]


def check_once(server: Server, schema: str, wp: Waypost, act: Act, operation_id: str, outcome: Told) -> bool:
    """Hold what was told against what is there; whether it was done."""
    there = documents_with(server, schema, operation_id)
    assert there in ([], [1] * act.documents), (outcome, there)
    assert outcome.said != "done" or there, "acknowledged, and not there"
    assert outcome.said != "rolled_back" or not there, f"said to be rolled back, and there: {outcome.error}"
    try:
        settled = wp.get_outcome(operation_id).repeated
    except OperationNotFound:
        settled = False
    assert settled == bool(there)
    return settled


def check_again(server: Server, schema: str, wp: Waypost, act: Act, name: str, op: str, prepared: object) -> None:
    """The same operation once more, by the same handle: done now, or before, and once in all."""
    repeated = told(act, wp, name, op, prepared)
    assert repeated.said == "done", f"the handle does not go on: {repeated.error}"
    assert documents_with(server, schema, op) == [1] * act.documents


def run(server: Server, schema: str, wp: Waypost, proxy: Proxy, act: Act, number: int, where: Where) -> bool:
    """One try, cut at the n-th message; whether that message came."""
    name = f"n{next(_names)}"
    op = f"op-{name}"
    prepared = act.prepare(wp, name)
    cuts = proxy.cuts
    proxy.cut_once(number, where)
    outcome = told(act, wp, name, op, prepared)
    was_cut = proxy.cuts > cuts
    proxy.cut_once(0, "before")
    assert was_cut or outcome.said == "done", outcome
    if act.documents:
        if check_once(server, schema, wp, act, op, outcome):
            act.check(wp, name)
        check_again(server, schema, wp, act, name, op, prepared)
    else:
        assert outcome.said == "done" or told(act, wp, name, op, prepared).said == "done"
    wp.create_workflow(f"{name}.after", "after").unwrap()
    return was_cut


def points(act: Act, messages: int) -> list[int]:
    """At which messages to cut: all of them, or in ring C about so many, the last ones among them."""
    most = ring_size(8, 100_000)
    last = list(range(max(1, messages - most // 2), messages + 1))
    step = max(1, -(-(last[0] - 1) // (most // 2)))
    return [*range(1, last[0], step), *last]


def sweep(server: Server, schema: str, wp: Waypost, proxy: Proxy, act: Act) -> int:
    """Cut at all points; how many that were."""
    assert not run(server, schema, wp, proxy, act, 10**9, "before")
    name = f"n{next(_names)}"
    prepared = act.prepare(wp, name)
    proxy.cut_once(0, "before")
    assert told(act, wp, name, f"op-{name}", prepared).said == "done"
    cut = 0
    for number in points(act, proxy.passed):
        for where in ("before", "after"):
            try:
                cut += run(server, schema, wp, proxy, act, number, where)
            except AssertionError as error:
                raise AssertionError(f"{act.name}, cut {where} message {number}: {error}") from error
    return cut


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.name)
def test_t15_c12_a_cut_at_any_message_leaves_a_write_done_once_or_not_at_all(
    server: Server, schema: str, opened: Opener, proxy: Proxy, act: Act, totals: Totals
) -> None:
    """Whichever message a connection is lost at, an operation id acts once, and the handle goes on by itself."""
    wp = opened(proxy.port)
    totals("connection cuts", sweep(server, schema, wp, proxy, act))


@pytest.mark.parametrize("name", ["update", "create"])
def test_t15_c12_the_same_under_the_lock_of_the_document(
    server: Server, schema: str, opened: Opener, proxy: Proxy, name: str, totals: Totals,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A work that lost sixteen races, and runs with the row locked, is done once too."""
    monkeypatch.setattr(committing, "_TRIES", 0)
    wp = opened(proxy.port)
    totals("connection cuts", sweep(server, schema, wp, proxy, BY_NAME[name]))
