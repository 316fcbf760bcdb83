"""Looking for workflows and checkpoints: what is asked, and the page of what was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Generic, Literal, TypeVar

from msgspec import Meta, Struct

from waypost.folding import WorkflowStatus
from waypost.models import Count, Moment

T = TypeVar("T")


class TimeRange(Struct, frozen=True):
    """From `start` to `end`, both included; None leaves that side open."""

    start: Moment | None = None
    end: Moment | None = None


class StateQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which workflows, or which checkpoints, to list. What is None or empty does not narrow the list.

    `time_range` is compared with the time of the last change, or of the checkpoint; `limit` is a number of them. `tags`
    are for checkpoints alone: those that have all of them.
    """

    workflow_id: str | None = None
    session_id: str | None = None
    time_range: TimeRange | None = None
    status: Sequence[WorkflowStatus] = ()
    tags: Sequence[str] = ()
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100
    offset: Count = 0
    sort_by: Literal["created", "updated", "size"] = "updated"
    sort_order: Literal["asc", "desc"] = "desc"


class StateQueryResult(Struct, Generic[T], frozen=True, kw_only=True):
    """One page of a list; `total` counts all that the query found."""

    items: Sequence[T]
    total: int
    has_more: bool
    next_offset: int | None

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> T:
        return self.items[index]
