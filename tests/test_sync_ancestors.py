"""Which version two stores have in common when others have brought together what they made."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.synced import synced, variables
from waypost.blocking import Waypost


class Stores(NamedTuple):
    """Three stores with one workflow, in which x is 0."""

    a: Waypost
    b: Waypost
    c: Waypost


@pytest.fixture
def stores(wp_with: Callable[..., Waypost]) -> Stores:
    made = Stores(wp_with(), wp_with(), wp_with())
    made.a.create_workflow("wf", "Wf", steps=["s"]).unwrap()
    put(made.a, x=0, y=0)
    synced(made.a, made.b)
    return made


def put(wp: Waypost, **variables: int) -> None:
    wp.update_context("wf", variables=variables).unwrap()


@pytest.mark.parametrize("turned", [False, True])
def test_what_a_merge_brought_elsewhere_is_in_common(stores: Stores, turned: bool) -> None:
    """A commit that one side made, and the other has by a merge that it does not know, is nearer than where they
    parted.
    """
    a, b, c = stores
    put(a, x=1)
    put(b, y=1)
    synced(a, c)
    synced(c, b)
    put(a, x=2)
    put(b, x=3)
    one, other = (b, a) if turned else (a, b)
    (conflict,) = one.sync(other).unwrap().unresolved
    assert (conflict.base.value, conflict.conflict_type) == (1, "concurrent_write")
    synced(one, other, on_conflict="rollback")
    assert variables(a) == variables(b) == {"x": 1, "y": 1}


def test_of_two_versions_that_are_equally_near_none_is_in_common(
    stores: Stores, wp_with: Callable[..., Waypost]
) -> None:
    """Where each side has what the other made, but for its last change, no version says what a part was before both:
    nothing goes back, and a later change may stand.
    """
    a, b, c = stores
    d = wp_with()
    put(a, x=1)
    put(b, y=1)
    synced(a, c)
    synced(b, d)
    synced(a, b)
    synced(c, d)
    put(a, x=2)
    put(d, x=3)
    (conflict,) = a.sync(d, on_conflict="rollback").unwrap().unresolved
    assert conflict.conflict_type == "version_mismatch"
    synced(a, d, on_conflict="last_writer_wins")
    assert variables(a) == {"x": 3, "y": 1}


@pytest.mark.parametrize("turned", [False, True])
def test_what_went_into_a_common_merge_is_in_common_with_it(stores: Stores, turned: bool) -> None:
    """A merge that both have is nearer than the commits that went into it, be they in the line of one side alone."""
    a, b, c = stores
    put(b, y=1)
    synced(b, c)
    put(a, x=1)
    synced(a, c)
    put(b, y=2)
    synced(b, c)
    put(a, x=2)
    put(b, x=3)
    one, other = (b, a) if turned else (a, b)
    (conflict,) = one.sync(other).unwrap().unresolved
    assert (conflict.base.value, conflict.conflict_type) == (1, "concurrent_write")
    synced(one, other, on_conflict="rollback")
    assert variables(a) == variables(b) == {"x": 1, "y": 2}
