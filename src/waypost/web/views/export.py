"""One workflow as one page to keep or send: it stands alone, runs nothing and loads nothing.

What is stored is filled in as text, which the template escapes. Its only style is named by a hash in the page's own
policy, so that nothing else in it could count as one.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from itertools import islice
from typing import Any

import msgspec
from starlette.responses import Response

from waypost import checkpoints, loading
from waypost.cli import describe
from waypost.cli.invocation import Reading
from waypost.cli.overview import condition
from waypost.cli.text import cut, duration, listing, size
from waypost.errors import WaypostError
from waypost.models import WorkflowState
from waypost.store import View
from waypost.web import answers, pages
from waypost.web.query import Asked, Id
from waypost.web.site import Site
from waypost.web.views import outputs, versions

MOST_STEPS = 10_000
MOST_OF_ONE, MOST_TOGETHER = 64 * 1024, 4 * 1024 * 1024
"""Characters of an output, and of all of them."""

_LARGEST_DECODED = 1024 * 1024
_MOST_CHECKPOINTS, _MOST_AGENTS = 200, 1_000
_NEEDS = 10
_NO_NAME = re.compile(r"[^A-Za-z0-9._-]+")


class Exported(Asked, frozen=True, kw_only=True):
    """The workflow."""

    workflow: Id


def export(site: Site, asked: Exported) -> Response:
    """The page, as a file."""
    with site.source.reading() as store:
        view = versions.view_of(store, asked.workflow)
        state = loading.load(view, keys=store.store.keys, inert=True)
        text = pages.templates().get_template("export.html").render(_filled_in(store, view, state))
    name = _NO_NAME.sub("-", asked.workflow).strip(".-")[:80] or "workflow"
    headers = {"content-disposition": f'attachment; filename="{name}.html"', "content-type": "text/html; charset=utf-8"}
    return Response(text.encode("utf-8", "backslashreplace"), headers=headers)


@cache
def _policy() -> str:
    style = pages.templates().get_template("export.css").render()
    digest = b64encode(sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _filled_in(store: Reading, view: View, state: WorkflowState) -> dict[str, Any]:
    told = msgspec.to_builtins({**describe.state(state), "condition": condition(state)})
    told["error"] = None if told["error"] is None else cut(told["error"], answers.LONGEST_TEXT)
    steps = answers.filled(map(_step, islice(state.workflow.steps, MOST_STEPS)))
    shown = list(_outputs(view, state))
    total = len(state.workflow.steps)
    return {
        "policy": _policy(),
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "state": told,
        "counts": ", ".join(f"{number:,} {status}" for status, number in told["step_counts"].items() if number),
        "steps": steps,
        "steps_total": total,
        "steps_left_out": len(steps) < total,
        "agents": [_agent(each) for each in islice(told["agents"].values(), _MOST_AGENTS)],
        "context": list(_context(told["context"])),
        "outputs": [each for each in shown if each is not None],
        "outputs_left_out": shown.count(None),
        "most_outputs": size(MOST_TOGETHER),
        "checkpoints": [
            _checkpoint(each) for each in islice(checkpoints.every(store.store, view.document), _MOST_CHECKPOINTS)
        ],
    }


def _step(given: Any) -> dict[str, Any]:
    row = describe.step(given)
    return {
        **{name: row[name] for name in ("id", "name", "status", "agent_id")},
        "error": None if row["error"] is None else cut(row["error"], answers.LONGEST_TEXT),
        "took": "" if row["duration_ms"] is None else duration(row["duration_ms"]),
        "needs": listing(row["dependencies"], _NEEDS),
    }


def _agent(given: dict[str, Any]) -> dict[str, Any]:
    row = answers.shortened({**given}, name=answers.LONGEST_WORD, current_task=answers.LONGEST_TEXT)
    return {**row, "done": row["performance"]["tasks_completed"]}


def _checkpoint(given: Any) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(describe.checkpoint(given))
    return row


def _context(given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values as text; of secrets that they are sealed."""
    for group in ("variables", "configuration", "features"):
        for name, value in answers.values(given[group]).items():
            yield name, describe.value_text(value) if not isinstance(value, str) else value
    for name in given["secrets"]:
        yield name, "sealed"


def _outputs(view: View, state: WorkflowState) -> Iterator[dict[str, Any] | None]:
    """The newest output of each step; None for one that there was no room for any more."""
    room = MOST_TOGETHER
    for step in islice(state.workflow.steps, MOST_STEPS):
        if not step.output_version:
            continue
        if room <= 0:
            yield None
            continue
        found = _output(view, step.id, min(room, MOST_OF_ONE))
        room -= len(found["text"] or "")
        yield found


def _output(view: View, step_id: str, most: int) -> dict[str, Any]:
    found: dict[str, Any] = {"step": step_id, "version": "", "size": "", "cut": False, "text": None, "why": ""}
    try:
        output = outputs.read(view, step_id)
        found.update(version=output.version, size=size(output.size_bytes))
        text = outputs.beginning(view, output, most + 1, _LARGEST_DECODED)
    except WaypostError as error:
        return {**found, "why": str(error)}
    return {**found, "text": text[:most], "cut": len(text) > most}
