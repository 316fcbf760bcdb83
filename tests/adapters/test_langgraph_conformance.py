"""The public conformance suite of LangGraph's checkpointers, over each kind of store."""

from __future__ import annotations

from collections.abc import AsyncIterator

from langgraph.checkpoint.conformance import checkpointer_test, validate

from waypost.adapters.langgraph import WaypostSaver
from waypost.store import Store

TESTS = {
    "put": 17,
    "put_writes": 10,
    "get_tuple": 10,
    "list": 16,
    "delete_thread": 5,
    "delete_for_runs": 7,
    "copy_thread": 8,
    "prune": 8,
}
"""Each capability by its name, since the suite leaves out what a saver does not have, and calls the rest complete."""


async def test_all_eight_capabilities_pass(store: Store) -> None:
    """The 81 tests of the suite pass over every store."""

    @checkpointer_test(name="WaypostSaver")
    async def registered() -> AsyncIterator[WaypostSaver]:
        yield WaypostSaver(store)

    report = await validate(registered)
    found = {name: (result.tests_passed, result.failures) for name, result in report.results.items()}
    assert found == {name: (number, []) for name, number in TESTS.items()}
    assert report.passed_all() and sum(TESTS.values()) == 81
    assert [each for each in store.verify().findings if each.severity != "note"] == []
