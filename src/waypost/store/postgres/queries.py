"""Named statements, from `queries.sql`: none is put together of strings, only the schema's name is filled in."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.resources import files

from psycopg.sql import SQL, Composed, Identifier, Literal

_MOST_CHANNEL_BYTES = 63
_NAME = re.compile(r"^-- name: ([a-z_]+)$", re.MULTILINE)


def channel(schema: str) -> str:
    """Where commits are announced."""
    return f"waypost.{schema}"


def may_announce(schema: str) -> bool:
    """Whether the server takes that for a channel. A commit fails that is to be announced where it does not."""
    return len(channel(schema)) <= _MOST_CHANNEL_BYTES


def composed(text: str, schema: str) -> Composed:
    """A statement over the tables of a schema."""
    return SQL(text).format(schema=Identifier(schema), channel=Literal(channel(schema)))  # pyright: ignore[reportArgumentType]


@lru_cache
def named(schema: str) -> dict[str, Composed]:
    """All statements, by name."""
    text = files("waypost.store.postgres").joinpath("queries.sql").read_text(encoding="utf-8")
    pieces = _NAME.split(text)[1:]
    return {name: composed(body.strip(), schema) for name, body in zip(pieces[::2], pieces[1::2], strict=True)}
