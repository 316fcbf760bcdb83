"""Checking recorded histories of transactions that read lists and append to them.

Each value is appended once, by one transaction, so the last state of a list is the order of all that wrote to it, and a
read says by its length where it stands in that order. From this follow the edges of a graph: who wrote behind
whom (ww), who read what from whom (wr), who read what somebody replaced later (rw), and who ended before whom began.
A history is right when it has no cycle and when lists and reads fit together. The names of the findings are
Adya's: G0 is a cycle of writes, G1a a read of what was aborted, G1b of what was intermediate, G1c a cycle of writes and
reads, G2 one with an anti-dependency; `order` is one that needs the order in time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple

Value = str


class Append(NamedTuple):
    """A value was put behind a document's list."""

    document: str
    value: Value


class Read(NamedTuple):
    """A document's list as the transaction saw it."""

    document: str
    seen: Sequence[Value]


@dataclass(slots=True)
class Txn:
    """One transaction: who ran it, from when to when (any clock that all share), what it did, and what became of it.

    `unknown` is one whose process died before it was told; its `end` means nothing.
    """

    process: str
    start: int
    end: int
    ops: list[Append | Read]
    outcome: Literal["ok", "failed", "unknown"] = "ok"


@dataclass(slots=True)
class _Graph:
    """Edges between transactions by their number, of each kind."""

    nodes: int
    edges: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def add(self, kind: str, start: int, end: int) -> None:
        if start != end:
            self.edges.setdefault(kind, []).append((start, end))

    def cycle(self, *kinds: str) -> list[int]:
        """Nodes that lie on cycles of these kinds of edges; the first such group."""
        following: dict[int, list[int]] = {}
        for kind in kinds:
            for start, end in self.edges.get(kind, []):
                following.setdefault(start, []).append(end)
        return next((group for group in _components(self.nodes, following) if len(group) > 1), [])


def _components(nodes: int, following: Mapping[int, Sequence[int]]) -> Iterable[list[int]]:
    """The strongly connected components of a graph (Tarjan's, without recursion)."""
    index, low = [-1] * nodes, [0] * nodes
    on_stack = [False] * nodes
    stack: list[int] = []
    count = 0
    for root in range(nodes):
        if index[root] >= 0:
            continue
        path = [(root, 0)]
        while path:
            node, at = path.pop()
            if at == 0:
                index[node] = low[node] = count
                count += 1
                stack.append(node)
                on_stack[node] = True
            targets = following.get(node, ())
            if at:
                low[node] = min(low[node], low[targets[at - 1]])
            while at < len(targets) and index[targets[at]] >= 0:
                if on_stack[targets[at]]:
                    low[node] = min(low[node], index[targets[at]])
                at += 1
            if at < len(targets):
                path += [(node, at + 1), (targets[at], 0)]
            elif low[node] == index[node]:
                group: list[int] = []
                while not group or group[-1] != node:
                    group.append(stack.pop())
                    on_stack[group[-1]] = False
                yield group


def check(history: Sequence[Txn], final: Mapping[str, Sequence[Value]]) -> list[str]:
    """What is wrong with a history whose lists ended as `final`; nothing when it is right."""
    writers = {op.value: (at, op) for at, txn in enumerate(history) for op in txn.ops if isinstance(op, Append)}
    findings = _check_lists(history, final, writers)
    findings += [finding for txn in history for finding in _check_reads(txn, final)]
    if findings:
        return findings  # without one order of writes there is no graph
    findings += _check_intermediate(history, final, writers)
    happened = {at for at, txn in enumerate(history) if txn.outcome == "ok"}
    happened |= {writers[value][0] for values in final.values() for value in values}
    graph = _graph_of(history, final, writers, happened)
    dependencies: list[str] = []
    for name, kind in (("G0", "ww"), ("G1c", "wr"), ("G2", "rw"), ("order", "time")):
        dependencies.append(kind)
        group = graph.cycle(*dependencies)
        if group:
            shown = [history[at] for at in sorted(group) if at < len(history)]
            findings.append(f"{name}: these cannot be put into one order: {shown[:6]}")
            break
    return findings


def _check_lists(
    history: Sequence[Txn], final: Mapping[str, Sequence[Value]], writers: Mapping[Value, tuple[int, Append]]
) -> list[str]:
    findings: list[str] = []
    found = {value: document for document, values in final.items() for value in values}
    for document, values in final.items():
        findings += [f"duplicate: {value} is in {document} twice" for value, n in Counter(values).items() if n > 1]
        for value in values:
            if value not in writers or writers[value][1].document != document:
                findings.append(f"invented: nobody appended {value} to {document}")
            elif history[writers[value][0]].outcome == "failed":
                findings.append(f"G1a: {value} is in {document}, and its transaction failed")
    for value, (at, op) in writers.items():
        if history[at].outcome == "ok" and found.get(value) != op.document:
            findings.append(f"lost: {value} was acknowledged and is not in {op.document}")
    torn = {at for value, (at, _) in writers.items() if value in found}
    for value, (at, op) in writers.items():
        if at in torn and history[at].outcome == "unknown" and value not in found:
            findings.append(f"torn: of a transaction {value} is missing in {op.document}, and other values are there")
    return findings


def _check_reads(txn: Txn, final: Mapping[str, Sequence[Value]]) -> list[str]:
    """Each read is a prefix of the final list, behind which stands what the transaction itself has appended before."""
    findings: list[str] = []
    own: dict[str, list[Value]] = {}
    for op in txn.ops:
        if isinstance(op, Append):
            own.setdefault(op.document, []).append(op.value)
            continue
        mine = own.get(op.document, [])
        theirs = list(op.seen[: len(op.seen) - len(mine)])
        values = final.get(op.document, ())
        if list(op.seen[len(theirs) :]) != mine or theirs != list(values[: len(theirs)]):
            findings.append(f"read: {txn.process} saw in {op.document} what never was: …{list(op.seen[-5:])}")
    return findings


def _check_intermediate(
    history: Sequence[Txn], final: Mapping[str, Sequence[Value]], writers: Mapping[Value, tuple[int, Append]]
) -> list[str]:
    findings: list[str] = []
    for at, txn in enumerate(history):
        for op in txn.ops:
            if isinstance(op, Read) and 0 < len(op.seen) < len(final.get(op.document, ())):
                last, following = (writers[final[op.document][len(op.seen) - back]][0] for back in (1, 0))
                if last == following != at:
                    findings.append(f"G1b: {txn.process} saw a transaction in part, up to {op.seen[-1]}")
    return findings


def _graph_of(
    history: Sequence[Txn],
    final: Mapping[str, Sequence[Value]],
    writers: Mapping[Value, tuple[int, Append]],
    happened: set[int],
) -> _Graph:
    graph = _Graph(len(history))
    order = {document: [writers[value][0] for value in values] for document, values in final.items()}
    for row in order.values():
        for one, other in pairwise(row):
            graph.add("ww", one, other)
    for at in happened:
        appended: Counter[str] = Counter()
        for op in history[at].ops:
            if isinstance(op, Append):
                appended[op.document] += 1
                continue
            row, length = order.get(op.document, []), len(op.seen) - appended[op.document]
            if length:
                graph.add("wr", row[length - 1], at)
            if length < len(row) and row[length] != at:
                graph.add("rw", at, row[length])
    _add_time(graph, history, happened)
    return graph


def _add_time(graph: _Graph, history: Sequence[Txn], happened: set[int]) -> None:
    """Who ended before whom began, by way of a row of moments, since edges for all pairs would be too many."""
    events = [(history[at].start, 0, at) for at in happened]
    events += [(history[at].end, 1, at) for at in happened if history[at].outcome == "ok"]
    for _, ends, at in sorted(events):
        if not ends and graph.nodes > len(history):
            graph.add("time", graph.nodes - 1, at)
        elif ends:
            graph.nodes += 1
            moment = graph.nodes - 1
            graph.add("time", at, moment)
            if moment > len(history):
                graph.add("time", moment - 1, moment)
