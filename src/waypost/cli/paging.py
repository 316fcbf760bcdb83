"""Places in lists, as texts that mean nothing to whoever is given them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

LONGEST_CURSOR = 8_000
"""Characters of a cursor; it may hold an id, whose characters may take twelve each when they are written out."""


def cursor(*fields: str | int) -> str:
    """A place in a list, as a text."""
    return base64.urlsafe_b64encode(json.dumps(fields, ensure_ascii=False).encode()).decode().rstrip("=")


def place(given: str, kinds: Sequence[type]) -> list[Any]:
    """The fields of a cursor that was given out. Raises ValueError for any other."""
    if len(given) > LONGEST_CURSOR:
        raise ValueError("no cursor is that long")
    try:
        fields = json.loads(base64.b64decode(given + "=" * (-len(given) % 4), altchars=b"-_", validate=True))
    except RecursionError:
        raise ValueError("no cursor is that deep") from None
    if not isinstance(fields, list) or [type(field) for field in fields] != [*kinds]:  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        raise ValueError("the fields of another list")
    return fields  # pyright: ignore[reportUnknownVariableType]
