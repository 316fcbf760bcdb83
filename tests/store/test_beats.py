"""Signs of life as bytes: nothing but what was written is believed, and nothing fails on what was not."""

from __future__ import annotations

import json
import os
import random
from typing import Any

import pytest

from waypost.store.claims import Beat
from waypost.store.directory import claims


def test_t09_only_what_was_written_is_a_sign_of_life() -> None:
    """Every bit that is flipped, every cut and whatever else JSON can hold is no sign of life, and raises nothing."""
    beat = Beat(7, "boot", "time:[4026531834]", 123_456_789, 10_000)
    text = claims._text(beat)
    assert claims.parse(text) == beat and len(text) == 512
    for at in range(len(text) * 8):
        flipped = bytearray(text)
        flipped[at // 8] ^= 1 << at % 8
        assert claims.parse(bytes(flipped)) is None
    for length in range(len(text)):
        assert claims.parse(text[:length]) is None
        assert claims.parse(text[length + 1 :]) is None
    assert claims.parse(text + b" ") is None


SEED = int(os.environ.get("WAYPOST_TEST_SEED", "0")) or 11


def test_t09_hostile_files_of_owners_are_no_sign_of_life() -> None:
    """Fields of other kinds, huge numbers, deep nesting and bytes of any kind are refused without an error."""
    print(f"WAYPOST_TEST_SEED={SEED} pytest tests/store/test_beats.py")
    rng = random.Random(SEED)
    odd: list[Any] = [None, True, -1, 1.5, 1e400, 1 << 80, "", "\ud800", [], {}, [[1]], "x" * 600]
    for _ in range(3000):
        fields: dict[str, Any] = dict(zip(Beat._fields, (1, "boot", "clocks", 2, 3), strict=True))
        for name in rng.sample(Beat._fields, rng.randrange(1, 5)):
            fields[name] = rng.choice(odd)
        found = claims.parse(json.dumps(fields).rjust(512).encode())
        assert found is None
        assert claims.parse(rng.randbytes(rng.choice([0, 1, 511, 512]))) is None
    for hostile in (b"[" * 100_000, b"9" * 100_000, b'{"number":' * 50_000, b"\xff" * 512, bytes(512), b'{"a":1}' * 9):
        assert claims.parse(hostile) is None


@pytest.mark.parametrize("odd", [None, True, -1, 1.5, "1", [1], {"a": 1}, 1 << 80])
@pytest.mark.parametrize("field", Beat._fields)
def test_t09_a_field_of_another_kind_is_no_sign_of_life(field: str, odd: Any) -> None:
    """Also with a right checksum: whoever could write it could write anything, and nothing may fail on it."""
    if isinstance(odd, str) and field in ("boot", "clocks"):
        return
    beat = Beat(1, "boot", "clocks", 2, 3)._replace(**{field: odd})
    assert claims.parse(claims._text(beat)) is None
