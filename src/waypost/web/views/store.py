"""The store as a whole: where it is, what takes room in it, and what happened of late."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.responses import Response

from waypost import metrics as names
from waypost import usage
from waypost.cli.invocation import Reading
from waypost.hooks import spool
from waypost.prometheus import gauge, prometheus_text
from waypost.store import DocumentId
from waypost.web.query import Asked
from waypost.web.site import Site

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Storage(Asked, frozen=True, kw_only=True):
    """How many of the largest."""

    limit: Annotated[int, Meta(ge=1, le=200)] = 50


def about(site: Site, asked: Asked) -> dict[str, Any]:
    """Where the store is, and what is amiss with it."""
    with site.source.reading() as store:
        durability = store.store.durability
    return {
        "location": site.source.location,
        "kind": "directory" if site.source.is_directory else "postgres",
        "durability": durability,
        "read_only": site.source.read_only,
        "version": version("waypost"),
        "problems": list(_problems(site)),
    }


def _problems(site: Site) -> Iterator[str]:
    if site.live.problem is not None:
        yield f"nothing is told live: {site.live.problem}"
    waiting = spool.waiting(site.source.directory) if site.source.directory is not None else 0
    if waiting:
        yield f"{waiting:,} events of other programs wait to be folded in by whoever writes next"


# --- room ---


def storage(site: Site, asked: Storage) -> dict[str, Any]:
    """What takes how much, the largest first."""
    with site.source.reading() as store:
        rows = site.room.get(
            store, lambda: sorted(_rows(store), key=lambda row: (-row["bytes"], row["kind"], row["id"]))
        )
    return {
        "items": rows[: asked.limit],
        "total": len(rows),
        "total_bytes": sum(row["bytes"] for row in rows),
        "free_bytes": None if site.source.directory is None else shutil.disk_usage(site.source.directory).free,
    }


def _rows(store: Reading) -> Iterator[dict[str, Any]]:
    for one in usage.of_store(store.store):
        yield _row("workflow", one.workflow_id, one.log_bytes, one.checkpoint_bytes)
    for name in store.store.documents("session"):
        yield _row("session", name, store.store.log_bytes(DocumentId("session", name)), 0)


def _row(kind: str, name: str, log_bytes: int, checkpoint_bytes: int) -> dict[str, Any]:
    total = log_bytes + checkpoint_bytes
    return {"kind": kind, "id": name, "bytes": total, "log_bytes": log_bytes, "checkpoint_bytes": checkpoint_bytes}


# --- figures ---


def metrics(site: Site, asked: Asked) -> dict[str, Any]:
    """What every process did, for charts, and how this one's handle fares."""
    with site.source.reading() as store:
        fared = store.wp.get_performance_metrics()
    uptime_s = time.monotonic() - site.began
    process = {**msgspec.to_builtins(fared), "uptime_s": uptime_s, "streams": site.live.streams}
    return {"activity": site.live.activity.series(), "process": process}


def prometheus(site: Site, asked: Asked) -> Response:
    """The counts since the start, as Prometheus reads them. Of workflows there are none: that would list them all."""
    commits, completed, failed = site.live.activity.totals
    with site.source.reading() as store:
        lines = [prometheus_text(store.wp, with_store=False).rstrip("\n")]
    for metric, value in (
        (names.SEEN_COMMITS, commits),
        (names.SEEN_COMPLETED, completed),
        (names.SEEN_FAILED, failed),
        (names.STREAMS, site.live.streams),
    ):
        lines += gauge(metric, {"": value})
    return Response("\n".join(lines) + "\n", headers={"content-type": _PROMETHEUS})
