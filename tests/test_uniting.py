"""What becomes of orders and records that both sides have changed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from waypost import lines
from waypost.uniting import merge_fields, merge_orders


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "merged"),
    [
        ("abc", "abc", "abcd", "abcd"),
        ("abc", "abcx", "abcy", "abcyx"),
        ("abc", "axbc", "aybc", "ayxbc"),
        ("abc", "ac", "abcd", "acd"),
        ("abc", "bc", "xabc", "xbc"),
        ("abc", "cab", "abcd", "cdab"),
        ("abc", "abcd", "cab", "cdab"),
        ("abc", "cab", "cab", "cab"),
        ("abc", "cab", "bac", None),
        ("", "ab", "cd", "cdab"),
        ("abc", "", "abc", ""),
    ],
)
def test_orders_are_merged(base: str, ours: str, theirs: str, merged: str | None) -> None:
    """What one side has added stands behind what it stands behind there; what one has removed is gone."""
    found = merge_orders(list(base), list(ours), list(theirs))
    assert (None if found is None else "".join(found)) == merged


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "merged"),
    [
        ([1, 2, 3], [9, 2, 3], [1, 2, 8], [9, 2, 8]),
        ([1, 2], [9, 2], [8, 2], None),
        ([1], [1, 5], [1], [1, 5]),
        ([1, 5], [1], [2, 5], [2]),
        ([1], [1, 5], [1, 6], None),
        ({"a": 1}, {"a": 1, "b": 2}, {"a": 3}, {"a": 3, "b": 2}),
        ({"a": 1, "b": 1}, {"a": 1}, {"a": 2, "b": 1}, {"a": 2}),
        ({"a": 1}, {"a": 2}, {"a": True}, None),
        ([1], {"a": 1}, [2], None),
    ],
)
def test_records_are_merged_field_by_field(base: Any, ours: Any, theirs: Any, merged: Any) -> None:
    """Each field as the side that changed it has it; one that both have changed is a conflict."""
    found = merge_fields(*map(msgspec.msgpack.encode, (base, ours, theirs)))
    assert (None if found is None else msgspec.msgpack.decode(found)) == merged


@pytest.mark.parametrize(
    "said",
    [
        *(None, 1, [], ["merged"], ["merged", [], {"x": 0}], ["other", [[1, "00", "op", "sync", None]], {"x": 0}]),
        *(["merged", [row], {"x": 0}] for row in ([1], ["1", "00", "o", "s", None], [1, "0", "o", "s", None])),
        *(["merged", [[1, "00", 2, "s", None]], {"x": 0}], ["merged", [[1, "00", "o", "s", None]], {"x": "0"}]),
    ],
)
def test_t09_what_a_merge_does_not_say_is_not_believed(said: Any) -> None:
    """Whose changes it took over is told by whoever made it: what cannot be is nobody's."""
    assert lines._taken_over(said) == {}
    touch = lines.Touch(1, b"\1", "op", "sync", None)
    assert lines._taken_over(lines.projection({"x": touch, "y": touch})) == {"x": touch, "y": touch}
