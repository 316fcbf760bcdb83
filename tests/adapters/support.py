"""What the tests of LangGraph's checkpointer share: checkpoints, and how a thread is filled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6

from waypost.adapters.langgraph import WaypostSaver


def config(thread_id: object = "t", namespace: str = "", checkpoint_id: str | None = None) -> Any:
    found = {"thread_id": thread_id, "checkpoint_ns": namespace}
    return {"configurable": found if checkpoint_id is None else {**found, "checkpoint_id": checkpoint_id}}


def checkpoint(values: Mapping[str, Any], versions: Mapping[str, Any], number: int | None = None) -> Any:
    """A checkpoint; with a number, one whose id sorts by it."""
    identifier = str(uuid6()) if number is None else f"{number:08d}"
    return {**empty_checkpoint(), "id": identifier, "channel_values": dict(values), "channel_versions": dict(versions)}


def fill(
    saver: WaypostSaver,
    amount: int,
    thread_id: str = "t",
    namespace: str = "",
    size: int = 200,
    first: Mapping[str, Any] | None = None,
) -> list[Any]:
    """Put so many checkpoints, each behind the one before it; their configs. The first one has more channels."""
    at, made = config(thread_id, namespace), []
    for number in range(amount):
        values: dict[str, Any] = {"step": number, "text": f"{number:05d}" * (size // 5), "same": "never changed"}
        versions = {"step": number + 1, "text": number + 1, "same": 1}
        if number == 0:
            values.update(first or {})
            versions.update(dict.fromkeys(first or {}, 1))
        new = versions if number == 0 else {"step": number + 1, "text": number + 1}
        at = saver.put(at, checkpoint(values, versions, number), {"source": "loop", "step": number, "parents": {}}, new)
        made.append(at)
    return made


def ids(found: Any) -> list[str]:
    return [each.config["configurable"]["checkpoint_id"] for each in found]
