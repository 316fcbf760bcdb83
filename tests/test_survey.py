"""The analysis behind the demo: what is measured in a module, and what is told of a whole library."""

from __future__ import annotations

import ast
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.demo import survey, work
from waypost.errors import NotFound

SOURCE = b'''"""A module."""
import os, xml.dom as dom
from . import sibling
from .other import name
from ..up import thing
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import only_for_types
try:
    import fast
except ImportError:
    fast = None

def outer(a):
    """Documented."""
    import late, os
    for x in a:
        if x and a or x:
            pass
    def inner():
        while True:
            break
    return [y for y in a if y]

class Public(object):
    def method(self):
        return 1 if self else 2
    def _private(self): pass
    class Inner:
        """Documented."""

class _Hidden:
    def method(self): pass

async def later():
    pass

if __name__ == "__main__":
    import only_as_a_program
'''


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    return survey.measure("pkg.sub.mod", SOURCE, is_package=False)


def test_sizes_are_counted(measured: dict[str, Any]) -> None:
    """Bytes, lines, functions and classes are those of the source, nested ones included."""
    assert (measured["bytes"], measured["lines"]) == (len(SOURCE), 39)
    assert (measured["functions"], measured["classes"]) == (6, 3)


def test_ways_through_a_function_are_counted(measured: dict[str, Any]) -> None:
    """Each decision adds a way, and what an inner function decides is its own."""
    ways = {one["function"].removeprefix("pkg.sub.mod."): one["complexity"] for one in measured["most_complex"]}
    # for, if, and, or, a comprehension; its condition is part of it
    assert ways["outer"] == 1 + 5
    assert ways["outer.inner"] == 1 + 1
    assert ways["Public.method"] == 1 + 1
    assert measured["most_complex"][0]["function"] == "pkg.sub.mod.outer"


def test_the_longest_function_is_found(measured: dict[str, Any]) -> None:
    """A function's length is from its first line to its last, and it is named with its line."""
    longest = measured["longest"][0]
    assert (longest["function"], longest["lines"], longest["at"]) == ("pkg.sub.mod.outer", 10, 14)


def test_what_is_public_may_be_documented(measured: dict[str, Any]) -> None:
    """The module, its public classes, functions and methods count; private and local ones do not."""
    # the module, outer, Public, Public.method, Public.Inner, later
    assert (measured["documentable"], measured["documented"]) == (6, 3)


def test_imports_are_told_from_later_ones(measured: dict[str, Any]) -> None:
    """What a module imports while it is imported is apart from what functions, type checkers and programs import."""
    assert measured["imports"] == [
        *("fast", "os", "pkg.sub.other:name", "pkg.sub:sibling", "pkg.up:thing", "typing:TYPE_CHECKING", "xml.dom"),
    ]
    assert measured["lazy_imports"] == ["late", "only_as_a_program", "only_for_types"]


def test_a_package_imports_relative_to_itself() -> None:
    """In `__init__`, one dot is the package."""
    found = survey.measure("pkg", b"from . import a\nfrom .b import c", is_package=True)
    assert found["imports"] == ["pkg.b:c", "pkg:a"]


def test_a_deep_tree_is_walked() -> None:
    """A module that is nested thousands deep does not end in a recursion error."""
    deep: ast.expr = ast.Constant(1)
    for _ in range(5000):
        deep = ast.IfExp(ast.Constant(1), deep, ast.Constant(1))
    function = ast.parse("def f(): pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    function.body = [ast.Expr(deep)]
    found = survey._Found()
    survey._walk(ast.Module([function], []), "", found)
    assert [scope.complexity for scope in found.functions] == [5001]


def test_imports_lead_to_known_modules() -> None:
    """`from a import b` means the module a.b where there is one, else a; what is not known is left out."""
    known = frozenset({"a", "a.b", "c", "me"})
    found = survey.resolve(["a:b", "a:function", "c", "c.unknown", "me", "strange", "d:e"], "me", known)
    assert found == ["a", "a.b", "c"]


# --- graphs ---


def circle_of(graph: dict[str, list[str]], start: str, target: str) -> bool:
    seen, todo = set(), [start]
    while todo:
        for name in graph.get(todo.pop(), []):
            if name not in seen:
                seen.add(name)
                todo.append(name)
    return target in seen


NAMES = "abcdefg"
GRAPHS = st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), unique=True))


@given(GRAPHS)
def test_knots_are_what_leads_to_each_other(graph: dict[str, list[str]]) -> None:
    """Two modules are in one knot exactly when each leads to the other."""
    knots = survey.strongly_connected(graph)
    assert sorted(name for knot in knots for name in knot) == sorted(graph)
    of = {name: number for number, knot in enumerate(knots) for name in knot}
    for one in graph:
        for other in graph:
            inside = {name: [target for target in graph[name] if target in graph] for name in graph}
            together = one == other or (circle_of(inside, one, other) and circle_of(inside, other, one))
            assert (of[one] == of[other]) is together


@given(GRAPHS)
def test_the_shortest_circle_is_one(graph: dict[str, list[str]]) -> None:
    """An example of a knot is a way along imports that ends where it began, and passes no module twice."""
    for knot in survey.strongly_connected(graph):
        if len(knot) > 1:
            way = survey.shortest_circle(graph, knot)
            assert way[0] == way[-1] and len(set(way)) == len(way) - 1 and set(way) <= set(knot)
            assert all(after in graph[before] for before, after in pairwise(way))


def test_a_long_chain_of_imports_is_no_danger() -> None:
    """Thousands of modules in a row do not end in a recursion error."""
    graph = {str(number): [str(number + 1)] for number in range(5000)}
    assert len(survey.strongly_connected(graph)) == 5000


# --- a library ---


@pytest.fixture(scope="module")
def library() -> dict[str, Any]:
    """The report on a library of four modules."""
    sources = {
        "a": b"import b\ndef long():\n" + b"    pass\n" * 30,
        "b": b"import a, sys\n",
        "c": b"import sys\ndef f(x):\n    if x: import a\n" + b"def g(): pass\n" * 12,
        "d": b'"""Documented."""\n' + b'def h(): "Documented."\n' * 12,
    }
    parts = [survey.measure(name, source, is_package=False) for name, source in sources.items()]
    digests = [survey.digest("one", parts[:2], [*sources, "sys"]), survey.digest("two", parts[2:], [*sources, "sys"])]
    json.dumps(digests, allow_nan=False)
    rankings = {
        "imports": survey.rank_imports(digests),
        "cycles": survey.rank_cycles(digests),
        "longest": survey.rank_longest(digests),
        "complexity": survey.rank_complexity(digests),
        "documentation": survey.rank_documentation(digests),
    }
    return survey.report(digests, rankings)


def test_a_library_is_summed_and_ranked(library: dict[str, Any]) -> None:
    """Totals add up over groups, and each ranking has the right one first."""
    assert (library["totals"]["modules"], library["totals"]["functions"]) == (4, 1 + 13 + 12)
    assert library["imports"]["most_imported"][:2] == [
        {"module": "a", "importers": 2},
        {"module": "sys", "importers": 2},
    ]
    assert library["cycles"]["largest"] == ["a", "b"] and library["cycles"]["examples"] == [["a", "b", "a"]]
    assert library["longest"]["longest"][0]["function"] == "a.long"
    assert library["complexity"]["most_complex"][0]["function"] == "c.f"
    assert [one["module"] for one in library["documentation"]["least"]] == ["c", "d"]
    assert library["documentation"]["share"] == (1 + 12) / (2 + 1 + 14 + 13)


# --- the steps of the demo ---


def test_the_workflow_is_large_and_in_order() -> None:
    """There are at least 200 steps by several agents; each depends only on steps before it, and the report on all."""
    sources = work.find_sources()
    steps = work.steps(sources)
    assert len(steps) >= 200
    assert {step.agent_id for step in steps} == set(work.AGENTS)
    seen: set[str] = set()
    for step in steps:
        assert seen.issuperset(step.dependencies)
        seen.add(step.id)
    assert len(seen) == len(steps)
    needed = {need for step in steps for need in step.dependencies}
    assert seen - needed == {"report"}


def test_without_sources_the_demo_says_so(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the standard library has no sources, the error says where they were looked for."""
    monkeypatch.setattr(work.sysconfig, "get_path", lambda name: str(tmp_path / "python.zip"))
    with pytest.raises(NotFound, match=r"no sources in .*python\.zip"):
        work.find_sources()
