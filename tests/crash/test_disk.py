"""Which states of a disk a power cut may leave: what needs something else is not there without it."""

from __future__ import annotations

from itertools import islice, takewhile

from tests.crash.disk import Choice, Crash, Operation
from tests.crash.simulated import Tree


def crash(*operations: Operation, durable: frozenset[int] = frozenset()) -> Crash:
    return Crash(0, Tree(), operations, durable, is_weak=False)


def chain() -> tuple[Operation, Operation, Operation]:
    """Each needs the one before it, as in the order of a journal."""
    first = Operation("name", 0, names=((0, "a", 1),))
    second = Operation("name", 1, names=((0, "b", 2),), needs=(first,))
    return first, second, Operation("name", 2, names=((0, "c", 3),), needs=(second,))


def test_q05_what_needs_what_is_not_there_falls_with_all_that_needs_it() -> None:
    """Of a row that is taken without its first nothing is left, and what needs nothing stays."""
    alone = Operation("name", 3, names=((0, "d", 4),))
    found = crash(*chain(), alone)
    assert found.legal(frozenset({1, 2, 3})) == {3}
    assert found.legal(frozenset({0, 2})) == {0}
    assert found.legal(frozenset({0, 1, 2})) == {0, 1, 2}


def test_q05_what_is_durable_or_was_before_is_there_for_those_that_need_it() -> None:
    """It need not be taken: it is on the medium in each state."""
    first, second, third = chain()
    assert crash(first, second, durable=frozenset({0})).legal(frozenset({1})) == {1}
    assert crash(second, third).legal(frozenset({0, 1})) == {0, 1}


def test_q05_each_legal_state_is_told_once_before_samples_are() -> None:
    """Of a row of three that is each beginning of it; samples come without end after these."""
    choices = crash(*chain()).choices(seed=1)
    telling = [choice for _, choice in takewhile(lambda each: not each[0], choices)]
    assert telling == [Choice(frozenset(range(length))) for length in range(4)]
    assert all(is_sample for is_sample, _ in islice(choices, 50))
