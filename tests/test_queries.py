"""Queries over every store: a closed set of fields, and what they find is what a plain filter of everything finds."""

from __future__ import annotations

import ast
import random
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

from tests.seeds import SEED
from waypost.blocking import Waypost
from waypost.folding import WorkflowStatus
from waypost.models import WorkflowSummary
from waypost.queries import StateQuery, TimeRange

IDS = ["plain", "a'; DROP TABLE documents; --", 'say "so"', "100%", "under_score", "back\\slash", "ÄÖ", "A", "a", "$1"]
SESSIONS = ["s", "S", "s' OR '1'='1", "%", "s_"]


def fill(wp: Waypost, rng: random.Random) -> None:
    """Workflows of all kinds of ids, in any state, of up to three sessions each."""
    for number, name in enumerate([*IDS, *(f"w{number}" for number in range(12))]):
        wp.create_workflow(name, name, rng.choice(SESSIONS), ["a", "b"][: number % 3]).unwrap()
        for step in ["a", "b"][: number % 3]:
            status = rng.choice(["pending", "running", "completed", "failed"])
            if status == "pending":
                continue
            session = rng.choice([None, *SESSIONS])
            wp.update_step_status(name, step, "running", session_id=session).unwrap()
            if status != "running":
                error = "no network" if status == "failed" else None
                wp.update_step_status(name, step, status, error=error, session_id=session).unwrap()
        if rng.random() < 0.2:
            wp.pause_workflow(name).unwrap()


def draw(rng: random.Random, known: Sequence[WorkflowSummary]) -> StateQuery:
    """A query of any fields, whose values mostly are those of some workflow."""

    def or_none(choices: Sequence[Any]) -> Any:
        return rng.choice(choices) if rng.random() < 0.5 else None

    moments = [one.updated_at for one in known]
    moments += [moment + timedelta(microseconds=rng.choice([-1, 1])) for moment in moments]
    return StateQuery(
        workflow_id=or_none([*IDS, "nobody"]) if rng.random() < 0.2 else None,
        session_id=or_none([*SESSIONS, "nobody"]),
        time_range=or_none([TimeRange(start=or_none(moments), end=or_none(moments))]),
        status=rng.sample(get_args(WorkflowStatus), rng.choice([0, 0, 1, 2, 3])),
        limit=rng.choice([1, 3, 10_000]),
        offset=rng.choice([0, 0, 1, 5, 50]),
        sort_by=rng.choice(["created", "updated", "size"]),
        sort_order=rng.choice(["asc", "desc"]),
    )


def plain(known: Sequence[WorkflowSummary], query: StateQuery) -> list[str]:
    """The ids that a query finds, told as simply as can be."""
    times = query.time_range or TimeRange()
    found = [
        one
        for one in known
        if (query.workflow_id is None or one.id == query.workflow_id)
        and (query.session_id is None or query.session_id in one.session_ids)
        and (not query.status or one.status in query.status)
        and (times.start is None or times.start <= one.updated_at)
        and (times.end is None or one.updated_at <= times.end)
    ]
    key = {"created": "created_at", "updated": "updated_at", "size": "size_bytes"}[query.sort_by]
    found.sort(key=lambda one: (getattr(one, key), one.id), reverse=query.sort_order == "desc")
    return [one.id for one in found]


def test_x05_a_query_finds_what_a_plain_filter_finds(wp: Waypost) -> None:
    """Over every store, whatever stands in ids and sessions."""
    rng = random.Random(SEED)
    fill(wp, rng)
    known = [*wp.list_workflows(StateQuery(limit=10_000))]
    assert {one.id for one in known} >= set(IDS)
    sizes: set[int] = set()
    for _ in range(400):
        query = draw(rng, known)
        page, expected = wp.list_workflows(query), plain(known, query)
        assert page.total == len(expected), (SEED, query)
        assert [one.id for one in page] == expected[query.offset :][: query.limit], (SEED, query)
        sizes.add(len(expected))
    assert len(sizes) > 5  # they did narrow the list


def test_x05_no_store_is_handed_a_query() -> None:
    """What narrows a list is in one place, above all stores: none has a language of its own to be spoken to in."""
    source = Path(__file__).parents[1] / "src" / "waypost"
    users: set[str] = set()
    for file in source.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "waypost.queries":
                users.add(file.relative_to(source).parts[0])
    assert "workflows.py" in users
    assert "store" not in users
