"""Patterns of paths: paths into a workflow in which `*` stands for one element, or for any part of it.

    outputs.*.password                 in the output of any step
    context.variables.*_token          a variable whose name ends so
    outputs.fetch.rows.*.email         in any row; rows[*].email is the same
    outputs["fetch-all"].password      an element that is no name
    context.variables["key[ab]"]       key followed by a or b

An element is compared as a whole, upper and lower case apart, by the rules of a shell: `*` is any text, `?` one
character, and in quotes `[ab]` one of those. A place in a list is its number. Out of quotes brackets hold a place, or
another key that is no text, and a pattern in which they hold anything else is none: it was meant to redact something.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from fnmatch import translate
from typing import NamedTuple

_ELEMENT = re.compile(r"""\.([^.\[\]"]+)|\[("(?:[^"\\]|\\.)*")\]|\[([^\[\]"]+)\]""")
_NO_TEXT = re.compile(r"-?(\d+(\.\d+)?(e[+-]?\d+)?|inf)|nan|None|True|False|.*[*?].*", re.ASCII | re.DOTALL)
_CONTEXT = ("variables", "configuration", "features")
TAKEN = (
    "a list of patterns that begin with outputs, context.variables, context.configuration, context.features, agents, "
    "steps, result, environment or preferences, such as outputs.*.password"
)


class Pattern(NamedTuple):
    """A pattern, taken apart."""

    text: str
    elements: tuple[re.Pattern[str], ...]

    def matches(self, element: str, depth: int) -> bool:
        return self.elements[depth].fullmatch(element) is not None


def parse(text: str) -> Pattern | None:
    """The pattern that a text is; None where it is none, or could never match."""
    given = f".{text}"
    elements: list[str] = []
    at = 0
    while at < len(given):
        found = _ELEMENT.match(given, at)
        element = None if found is None else _element(found)
        if found is None or element is None:
            return None
        elements.append(element)
        at = found.end()
    if not _leads_somewhere(elements):
        return None
    return Pattern(text, tuple(re.compile(translate(element), re.DOTALL) for element in elements))


def _element(found: re.Match[str]) -> str | None:
    name, quoted, place = found.groups()
    if quoted is None:
        return name or (place if _NO_TEXT.fullmatch(place) else None)
    try:
        return json.loads(quoted)
    except ValueError:
        return None


def _leads_somewhere(elements: Sequence[str]) -> bool:
    """Whether values may stand there. A root has no wildcards: what cannot be meant is better refused."""
    if elements[0] in ("outputs", "result", "environment", "preferences"):
        return len(elements) > 1
    if elements[0] == "context":
        return len(elements) > 2 and elements[1] in _CONTEXT
    return elements[0] in ("agents", "steps") and len(elements) > 2
