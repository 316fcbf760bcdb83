"""Made-up steps as agents leave them: about 1.2 KB of prose, ids, hashes, numbers and paths, the same in each run.

Engines are given the same plain data, and turn it into what they store outside the time that is measured.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import cycle
from typing import Any

SEED = 20_240

TEXT = """
    about above accept account across after again against agreed almost already although among another answer
    appears around assumed because become before behind below between both branch broken builds called cannot
    careful caused certain changed checked choose clearly closed column common compared complete concern
    confirmed contains correct customer decided default depends despite detail differs directly document during
    earlier either empty enough entries error every evidence except expected explains export failing features
    figures final finished first follow found further given grouped happens headers however impact includes
    indexes inside instead invoice issue keeps known largest later leaves length library likely limits listed
    looks maintainer margin matches means measure merged method middle missing module monthly mostly needed
    neither nothing noticed number older opened order other outside parser partly passes pattern people perhaps
    placed possible present prices problem produced proposal quite quoted rather reached reasons recent records
    reduced regions release remains removed repeated report request result returned review rounds running sample
    schema second section seems separate several shipped shorter should similar simple since single slower small
    sources staging started still stored suggests summary supplier table taken their therefore these though
    three through together totals toward traced turned under unless until update usually values version warning
    where which while whole within without worked written yesterday
"""
WORDS = TEXT.split()
VERBS = ("collect", "read", "compare", "draft", "review", "test", "revise", "publish")
AGENTS = ("researcher", "writer-1", "writer-2", "reviewer", "planner")
FOLDERS = ("src", "services", "billing", "docs", "reports", "ingest", "tests", "web", "shared")
SUFFIXES = (".py", ".md", ".sql", ".tsx", ".parquet", ".json")


def step_id(index: int) -> str:
    return f"{VERBS[index % len(VERBS)]}-{index:05}"


def roots(steps: int) -> int:
    """How many steps, the first ones, the others depend on. They stay as they are, so that any other step may start."""
    return max(1, steps // 50)


def own_steps(steps: int, share: int = 0, shares: int = 1) -> list[str]:
    """Ids of the steps that one of several callers may update."""
    return [step_id(index) for index in range(roots(steps), steps) if index % shares == share]


def make_steps(steps: int, seed: int = SEED) -> list[dict[str, Any]]:
    """Steps as plain data; all are completed and have their output."""
    rng = random.Random(seed)  # noqa: S311 - the same in each run is what it is for
    return [_step(rng, index, roots(steps)) for index in range(steps)]


def outputs(seed: int = SEED + 1, pool: int = 256) -> Iterator[dict[str, Any]]:
    """New outputs for updates, without end: a few, over and over, since making one takes long beside a commit."""
    rng = random.Random(seed)  # noqa: S311 - the same in each run is what it is for
    made = [_output(rng) for _ in range(pool)]
    return cycle(made)


def _step(rng: random.Random, index: int, roots_: int) -> dict[str, Any]:
    day, end = f"2026-05-{1 + index % 28:02}", f"{rng.randrange(60):02}.{rng.randrange(10**6):06}+00:00"
    minute = rng.randrange(60)
    return {
        "id": step_id(index),
        "name": _prose(rng, 4),
        "agent_id": rng.choice(AGENTS),
        "status": "completed",
        "start_time": f"{day}T09:{minute:02}:{end}",
        "end_time": f"{day}T10:{minute:02}:{end}",
        "dependencies": [step_id(index % roots_)] if index >= roots_ else [],
        "max_retries": 3,
        "output": _output(rng),
    }


def _output(rng: random.Random) -> dict[str, Any]:
    return {
        "summary": f"{_prose(rng, 24)} {_prose(rng, 18)}",
        "files": [
            {"path": _path(rng), "sha256": rng.randbytes(32).hex(), "bytes": rng.randrange(1 << 20)} for _ in range(2)
        ],
        "tool_call_id": f"call_{rng.randbytes(12).hex()}",
        "trace_id": rng.randbytes(16).hex(),
        "usage": {"input_tokens": rng.randrange(60_000), "output_tokens": rng.randrange(4000)},
        "duration_ms": round(rng.random() * 90_000, 3),
        "score": round(rng.random(), 4),
        "log": f"/{_path(rng)}.{rng.randrange(100)}",
        "next": [_prose(rng, 5)],
    }


def _prose(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words)).capitalize() + "."


def _path(rng: random.Random) -> str:
    return "/".join(rng.sample(FOLDERS, 2)) + f"/{rng.choice(WORDS)}_{rng.choice(WORDS)}{rng.choice(SUFFIXES)}"
