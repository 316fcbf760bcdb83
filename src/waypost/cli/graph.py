"""Which commit goes on from which, drawn with characters beside them.

A history is a row of versions, the newest first. Each goes on from the one before it, but for those that went back to
an older one: what lies between is then on a line of its own, which ends where both meet.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T", bound=Hashable)

_HERE, _LINE, _NOTHING = "*", "│", " "


class Drawn(NamedTuple):
    """One line of the drawing; that of a commit if `is_commit`, else one that joins lines."""

    graph: str
    is_commit: bool


def draw(commits: Sequence[tuple[T, T | None]]) -> Iterator[Drawn]:
    """Lines for commits with what each goes on from (None: nothing that is drawn), which come after all that go on
    from them. There is one line for each commit, in their order, and some between them.
    """
    awaited: list[T | None] = []
    for commit, parent in commits:
        at = [number for number, each in enumerate(awaited) if each == commit]
        for other in at[1:]:
            yield Drawn(_joined(awaited, at[0], other), False)
            awaited[other] = None
        here = at[0] if at else _free(awaited)
        awaited[here] = commit
        yield Drawn(_row(awaited, here), True)
        awaited[here] = parent
        while awaited and awaited[-1] is None:
            awaited.pop()


def _free(awaited: list[T | None]) -> int:
    """The number of a column that nobody uses; a new one, if need be."""
    if None not in awaited:
        awaited.append(None)
    return awaited.index(None)


def _row(awaited: Sequence[T | None], here: int) -> str:
    signs = [_NOTHING if each is None else _LINE for each in awaited]
    signs[here] = _HERE
    return " ".join(signs).rstrip()


def _joined(awaited: Sequence[T | None], into: int, other: int) -> str:
    """The line on which one column ends in another, which is left of it."""
    made = ""
    for number, each in enumerate(awaited):
        between = "─" if into <= number < other else _NOTHING
        sign = "├" if number == into else "╯" if number == other else _LINE if each is not None else between
        made += sign + between
    return made.rstrip()
