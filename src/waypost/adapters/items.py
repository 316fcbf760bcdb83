"""Items of other frameworks as lines of JSON: each comes back equal to what it was, or is refused."""

from __future__ import annotations

import json
from typing import Any

from waypost.errors import DocumentDamaged, InvalidValue


def encode(item: Any, what: str, at: int | None = None) -> bytes:
    """An item as one line of ASCII; `what` and `at` name it in an error, as in "entry 3". Raises InvalidValue."""
    try:
        line = json.dumps(item, separators=(",", ":"), allow_nan=False)  # lone surrogates are escaped, and come back
        is_same = json.loads(line) == item
    except (TypeError, ValueError, RecursionError) as error:
        raise _refused(what, at, str(error)) from error
    if not is_same:
        raise _refused(what, at, "it would come back as something else: tuples and keys that are no text do not")
    return line.encode("ascii")


def _refused(what: str, at: int | None, reason: str) -> InvalidValue:
    path = what if at is None else f"{what} {at}"
    return InvalidValue(f"{path} cannot be kept as JSON: {reason}", path=path)


def decode(line: bytes, what: str) -> Any:
    """An item again. Raises DocumentDamaged."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DocumentDamaged(f"what is kept of {what} is no JSON: {error}") from error
