"""Paths: how the place of a value within others is written (`outputs.fetch.rows[3].price`), and read again.

A path is a row of *steps*. A key of a dictionary that is a name is `.name`, any other text `["odd key"]` as in JSON;
`[3]` is a place in a list or tuple, and also a key that is no text: `[7]`, `[None]`, `[True]`, `[1.5]`. The first step
of a path goes without its dot. A step leads to one key only, and keys of other types (`key_step`) have none.

Reading is more lenient than writing: a name may hold anything but dots and brackets, so `steps.fetch-all` is
`steps["fetch-all"]`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, cast

from waypost.codec.registry import type_name
from waypost.errors import InvalidInput

_LONGEST_INT_BITS = 128

_PLACE = re.compile(r"\[(0|[1-9][0-9]{0,18})\]")

_STEP = re.compile(r"""\.(?P<name>[^.\[\]"]+)|\[(?P<text>"(?:[^"\\]|\\.)*")\]|\[(?P<other>[^\]"]+)\]""")


def key_step(key: object, most: int | None = None) -> str | None:
    """The step that leads to a key of a dictionary; None for a key that no step stands for.

    With `most`, a text that is longer is cut, and leads nowhere any more.
    """
    if type(key) is str:
        if key.isidentifier() and (most is None or len(key) <= most):
            return f".{key}"
        return f"[{json.dumps(key if most is None or len(key) <= most else key[: most - 1] + '…')}]"
    if key is None or type(key) in (bool, float) or (type(key) is int and key.bit_length() <= _LONGEST_INT_BITS):
        return f"[{key!r}]"
    return None


def shown_step(key: object) -> str:
    """The step of a key as an error shows it: cut where it is long, the type where the key has none."""
    return key_step(key, 80) or f"[<{type_name(type(key))}>]"


def written(steps: Sequence[str]) -> str:
    """The path that consists of these steps."""
    return "".join(steps).removeprefix(".")


def of_keys(*keys: str) -> list[str]:
    """The steps that lead to texts, one within the other."""
    return [cast("str", key_step(key)) for key in keys]


def parse(path: str) -> list[str]:
    """The steps of a path, as `key_step` writes them. Raises InvalidInput, which says where it cannot be read."""
    text = path if path.startswith("[") else f".{path}"
    steps: list[str] = []
    at = 0
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            raise _unreadable(path, at - (len(text) - len(path)))
        steps.append(_step_of(found, path, at - (len(text) - len(path))))
        at = found.end()
    if not steps:
        raise InvalidInput("a path is not empty: outputs.fetch.rows[3] is one", path=path)
    return steps


def _step_of(found: re.Match[str], path: str, at: int) -> str:
    if (name := found["name"]) is not None:
        return cast("str", key_step(name))
    if (other := found["other"]) is not None:
        return f"[{other}]"
    try:
        return cast("str", key_step(json.loads(found["text"])))
    except ValueError:
        raise _unreadable(path, at) from None


def _unreadable(path: str, at: int) -> InvalidInput:
    at = max(0, at)
    return InvalidInput(
        f"{path!a:.200} is no path: what stands at {at} cannot be read "
        '(a path is like outputs.fetch.rows[3], and steps["a.b"] where a name is none)',
        path=path,
        position=at,
    )


def text_of(step: str) -> str | None:
    """The text that a step stands for; None where it is of another key."""
    if step.startswith("."):
        return step[1:]
    return cast("str", json.loads(step[1:-1])) if step.startswith('["') else None


def child(value: Any, step: str) -> tuple[Any] | None:
    """What a step leads to in a value; None where that is nothing."""
    if type(value) is dict:
        entries = cast("dict[object, Any]", value)
        text = text_of(step)
        if text is not None:
            return (entries[text],) if text in entries else None
        return next(((item,) for key, item in entries.items() if key_step(key) == step), None)
    if type(value) is list or type(value) is tuple:
        items = cast("list[Any]", value)
        place = int(step[1:-1]) if _PLACE.fullmatch(step) else -1
        return (items[place],) if 0 <= place < len(items) else None
    return None


def children(value: Any) -> dict[str, Any] | None:
    """What stands in a container, by the steps that lead there; None for what is compared and shown as one.

    That is every other value, and a dictionary with a key that no step stands for.
    """
    if type(value) is dict:
        found: dict[str, Any] = {}
        for key, item in cast("dict[object, Any]", value).items():
            step = key_step(key)
            if step is None:
                return None
            found[step] = item
        return found
    if type(value) is list or type(value) is tuple:
        return {f"[{place}]": item for place, item in enumerate(cast("list[Any]", value))}
    return None
