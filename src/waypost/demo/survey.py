"""Looking at Python sources: what a module holds and imports, and what a whole library says about itself.

Every function here is pure: from text or earlier results to plain data (dictionaries, lists, texts, numbers).
"""

from __future__ import annotations

import ast
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Any

TOP = 5
_LEAST_PUBLIC = 10
"""Modules with fewer public names are left out of the ranking by documentation."""


# --- one module ---


@dataclass
class _Scope:
    """A module, class or function while its tree is walked."""

    kind: str
    name: str
    public: bool
    node: ast.AST
    complexity: int = 1
    lazy: bool = False


@dataclass
class _Found:
    """What was found in a module so far."""

    functions: list[_Scope] = field(default_factory=list[_Scope])
    classes: int = 0
    documentable: int = 1
    documented: int = 0
    imports: set[str] = field(default_factory=set[str])
    lazy_imports: set[str] = field(default_factory=set[str])


def measure(name: str, source: bytes, *, is_package: bool) -> dict[str, Any]:
    """What a module holds: sizes, functions with their length and complexity, documentation, imports.

    `imports` are done when the module is imported, `lazy_imports` inside functions. Raises SyntaxError.
    """
    tree = ast.parse(source)
    found = _Found(documented=int(ast.get_docstring(tree, clean=False) is not None))
    _walk(tree, name if is_package else name.rpartition(".")[0], found)
    return {
        "module": name,
        "bytes": len(source),
        "lines": source.count(b"\n"),
        "functions": len(found.functions),
        "classes": found.classes,
        "complexity": sum(scope.complexity for scope in found.functions),
        "documentable": found.documentable,
        "documented": found.documented,
        "longest": [_of_function(name, scope) for scope in nlargest(TOP, found.functions, key=_length)],
        "most_complex": [_of_function(name, scope) for scope in nlargest(TOP, found.functions, key=_complexity)],
        "imports": sorted(found.imports),
        "lazy_imports": sorted(found.lazy_imports - found.imports),
    }


def _of_function(module: str, scope: _Scope) -> dict[str, Any]:
    line: int = getattr(scope.node, "lineno", 0)
    return {
        "function": f"{module}.{scope.name}",
        "lines": _length(scope),
        "complexity": scope.complexity,
        "at": line,
    }


def _length(scope: _Scope) -> int:
    node = scope.node
    return getattr(node, "end_lineno", 0) - getattr(node, "lineno", 0) + 1


def _complexity(scope: _Scope) -> int:
    return scope.complexity


def _walk(tree: ast.Module, package: str, found: _Found) -> None:
    """Visit every node once, with the scope it stands in; without recursion, since trees may be deep."""
    stack: list[tuple[ast.AST, _Scope]] = [(tree, _Scope("module", "", True, tree))]
    while stack:
        node, scope = stack.pop()
        scope.complexity += _decisions(node)
        for child in ast.iter_child_nodes(node):
            stack.append((child, _enter(child, scope, package, found)))


def _enter(node: ast.AST, scope: _Scope, package: str, found: _Found) -> _Scope:
    """The scope that a node opens, or the one it stands in."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return _define(node, scope, found)
    if isinstance(node, ast.Import | ast.ImportFrom):
        (found.lazy_imports if scope.lazy else found.imports).update(_names(node, package))
    if isinstance(node, ast.If) and scope.kind == "module" and _is_not_for_importers(node.test):
        return _Scope(scope.kind, scope.name, scope.public, node, lazy=True)
    return scope


def _is_not_for_importers(test: ast.expr) -> bool:
    """Whether what follows is for type checkers or for a module run as a program, so not done at import."""
    shown = ast.dump(test)
    return "'TYPE_CHECKING'" in shown or "'__main__'" in shown


def _define(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, scope: _Scope, found: _Found) -> _Scope:
    is_class = isinstance(node, ast.ClassDef)
    public = scope.public and scope.kind != "function" and not node.name.startswith("_")
    name = f"{scope.name}.{node.name}" if scope.name else node.name
    made = _Scope("class" if is_class else "function", name, public, node, lazy=scope.lazy or not is_class)
    if is_class:
        found.classes += 1
    else:
        found.functions.append(made)
    if public:
        found.documentable += 1
        found.documented += ast.get_docstring(node, clean=False) is not None
    return made


_BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.IfExp, ast.comprehension, ast.match_case)


def _decisions(node: ast.AST) -> int:
    """How many more ways there are through the code because of a node (McCabe)."""
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    return int(isinstance(node, _BRANCHES))


def _names(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[str]:
    """The absolute names that a statement imports; of `from a import b` both `a:b`, as it may be either."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        parts = package.split(".")
        above = ".".join(parts[: len(parts) - node.level + 1])
        base = f"{above}.{base}".rstrip(".")
    yield from (f"{base}:{alias.name}" for alias in node.names)


# --- a group of modules ---


def digest(group: str, measured: Sequence[Mapping[str, Any]], known: Iterable[str]) -> dict[str, Any]:
    """What the modules of a group come to, with what they import of the modules that are known."""
    known = frozenset(known)
    return {
        "group": group,
        "modules": len(measured),
        **{name: sum(one[name] for one in measured) for name in _SUMMED},
        "longest": nlargest(TOP, _all(measured, "longest"), key=lambda one: one["lines"]),
        "most_complex": nlargest(TOP, _all(measured, "most_complex"), key=lambda one: one["complexity"]),
        "imports": {one["module"]: resolve(one["imports"], one["module"], known) for one in measured},
        "lazy_imports": {one["module"]: resolve(one["lazy_imports"], one["module"], known) for one in measured},
        "documentation": [
            {"module": one["module"], "documented": one["documented"], "documentable": one["documentable"]}
            for one in measured
            if one["documentable"] >= _LEAST_PUBLIC
        ],
    }


_SUMMED = ("bytes", "lines", "functions", "classes", "documentable", "documented")


def _all(parts: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    return [item for part in parts for item in part[name]]


def resolve(imports: Iterable[str], module: str, known: frozenset[str]) -> list[str]:
    """Which known modules are meant by what `measure` found a module to import."""
    found: set[str] = set()
    for name in imports:
        base, _, item = name.partition(":")
        target = next((way for way in (f"{base}.{item}", base, base.partition(".")[0]) if way in known), None)
        if target is not None and target != module:
            found.add(target)
    return sorted(found)


# --- the whole library ---


def rank_imports(digests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Which modules are imported by most others, at import time or later."""
    importers: dict[str, set[str]] = {}
    for one in digests:
        for kind in ("imports", "lazy_imports"):
            for module, targets in one[kind].items():
                for target in targets:
                    importers.setdefault(target, set()).add(module)
    counted = Counter({target: len(modules) for target, modules in importers.items()})
    return {"most_imported": [{"module": name, "importers": n} for name, n in _ranked(counted)[:TOP]]}


def _ranked(counted: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counted.items(), key=lambda entry: (-entry[1], entry[0]))


def rank_cycles(digests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Modules that import each other in a circle while they are imported."""
    graph: dict[str, list[str]] = {}
    for one in digests:
        graph.update(one["imports"])
    knots = [sorted(knot) for knot in strongly_connected(graph) if len(knot) > 1]
    knots.sort(key=lambda knot: (-len(knot), knot))
    examples = sorted((shortest_circle(graph, knot) for knot in knots), key=lambda circle: (len(circle), circle))
    return {
        "knots": len(knots),
        "modules_in_knots": sum(map(len, knots)),
        "largest": knots[0] if knots else [],
        "examples": examples[:TOP],
    }


def strongly_connected(graph: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The groups in which each node leads to each other one (Tarjan, without recursion)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    open_: list[str] = []
    is_open: set[str] = set()
    groups: list[list[str]] = []
    for root in graph:
        work = [] if root in index else [(root, iter(graph[root]))]
        for name, _ in work:
            _open(name, index, low, open_, is_open)
        while work:
            name, targets = work[-1]
            target = next((one for one in targets if one in graph), None)
            if target is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == index[name]:
                    groups.append(_close(name, open_, is_open))
            elif target not in index:
                _open(target, index, low, open_, is_open)
                work.append((target, iter(graph[target])))
            elif target in is_open:
                low[name] = min(low[name], index[target])
    return groups


def _open(name: str, index: dict[str, int], low: dict[str, int], open_: list[str], is_open: set[str]) -> None:
    index[name] = low[name] = len(index)
    open_.append(name)
    is_open.add(name)


def _close(name: str, open_: list[str], is_open: set[str]) -> list[str]:
    start = open_.index(name)
    group = open_[start:]
    del open_[start:]
    is_open.difference_update(group)
    return group


def shortest_circle(graph: Mapping[str, Sequence[str]], knot: Sequence[str]) -> list[str]:
    """The shortest way round within a knot; the first module stands at both ends."""
    inside = set(knot)
    ways = (_way_back(graph, start, inside) for start in sorted(knot))
    return min(filter(None, ways), key=len)


def _way_back(graph: Mapping[str, Sequence[str]], start: str, inside: set[str]) -> list[str]:
    queue: deque[list[str]] = deque([[start]])
    seen = {start}
    while queue:
        way = queue.popleft()
        for target in graph[way[-1]]:
            if target == start:
                return [*way, start]
            if target in inside and target not in seen:
                seen.add(target)
                queue.append([*way, target])
    return []


def rank_longest(digests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The longest functions."""
    return {"longest": nlargest(TOP, _all(digests, "longest"), key=lambda one: one["lines"])}


def rank_complexity(digests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The functions with the most ways through them."""
    return {"most_complex": nlargest(TOP, _all(digests, "most_complex"), key=lambda one: one["complexity"])}


def rank_documentation(digests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How much of what is public has a docstring, and where that is least."""
    modules = _all(digests, "documentation")
    modules.sort(key=lambda one: (one["documented"] / one["documentable"], -one["documentable"], one["module"]))
    documentable = sum(one["documentable"] for one in digests)
    documented = sum(one["documented"] for one in digests)
    return {"share": documented / max(1, documentable), "documentable": documentable, "least": modules[:TOP]}


def report(digests: Sequence[Mapping[str, Any]], rankings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All of it: the totals, and each ranking."""
    totals = {name: sum(one[name] for one in digests) for name in ("modules", *_SUMMED)}
    return {"totals": totals, **{name: dict(found) for name, found in rankings.items()}}
