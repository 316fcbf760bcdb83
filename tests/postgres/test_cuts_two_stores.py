"""Connections that are cut at every message of a transaction over two servers' stores (T15, C12)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.postgres.conftest import open_at
from tests.postgres.proxy import Proxy, Where
from tests.servers import Server
from tests.test_two_stores import Pair
from tests.totals import Totals, ring_size

pytestmark = pytest.mark.timeout(ring_size(120, 3600))


@pytest.fixture
def pair(server: Server, proxy: Proxy) -> Iterator[Pair]:
    schemas = [f"t{uuid.uuid4().hex}" for _ in range(2)]
    handles = [open_at(server, schema, proxy.port) for schema in schemas]
    yield Pair(*[each.definitions.store for each in handles])
    proxy.cut_once(0, "before")
    for handle, schema in zip(handles, schemas, strict=True):
        handle.close()
        server.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


def moved(pair: Pair, proxy: Proxy, number: int, where: Where) -> bool:
    """Move once, cut at the n-th message; whether that message came."""
    before = pair.amounts()[1]
    operation_id, cuts = f"op-{number}-{where}", proxy.cuts
    proxy.cut_once(number, where)
    done = pair.move(operation_id=operation_id)
    was_cut = proxy.cuts > cuts
    proxy.cut_once(0, "before")
    left, there = pair.amounts()
    assert (left, there) in ((-before, before), (-before - 1, before + 1)), "in one of them only"
    assert not done or there > before, "acknowledged, and not there"
    assert done or done.status != "rolled_back" or there == before, f"said to be rolled back, and there: {done.error}"
    assert pair.move(operation_id=operation_id).unwrap() == -before - 1
    assert pair.amounts() == (-before - 1, before + 1)
    return was_cut


def test_t15_c12_a_cut_at_any_message_moves_in_both_stores_or_in_neither(
    pair: Pair, proxy: Proxy, totals: Totals
) -> None:
    """Whichever message a connection is lost at, both stores tell the same, and an operation id moves once."""
    assert not moved(pair, proxy, 10**9, "before")
    proxy.cut_once(0, "before")
    pair.move(operation_id="counted").unwrap()
    messages = proxy.passed
    step = max(1, messages // ring_size(20, 100_000))
    cut = sum(moved(pair, proxy, each, where) for each in range(1, messages + 1, step) for where in ("before", "after"))
    assert cut >= messages // step
    pair.move().unwrap()
    assert pair.is_clean()
    totals("connection cuts", cut)
