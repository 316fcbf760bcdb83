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
from waypost.errors import DocumentDamaged, StoreUnavailable, UnsupportedFormat
from waypost.hooks import spool
from waypost.prometheus import gauge, prometheus_text
from waypost.store import DocumentId
from waypost.web.query import Asked
from waypost.web.site import Site

_MOST_UNREADABLE = 100
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
        rows, unreadable = site.room.get(store, lambda: _measured(site, store))
    return {
        "items": rows[: asked.limit],
        "unreadable": unreadable[:_MOST_UNREADABLE],
        "total": len(rows) + len(unreadable),
        "total_bytes": sum(row["bytes"] for row in rows),
        "free_bytes": None if site.source.directory is None else shutil.disk_usage(site.source.directory).free,
    }


def _measured(site: Site, store: Reading) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A row for each document, the largest first, and what cannot be measured, with why."""
    rows: list[dict[str, Any]] = []
    unreadable: list[dict[str, Any]] = []
    for kind in ("workflow", "session"):
        for name in store.store.documents(kind):
            try:
                rows.append(_row(store, DocumentId(kind, name)))
            except (DocumentDamaged, UnsupportedFormat, StoreUnavailable) as error:
                if isinstance(error, StoreUnavailable) and not site.source.is_directory:
                    raise  # a server that is away is so for all of them
                unreadable.append({"kind": kind, "id": name, "error": str(error)})
    return sorted(rows, key=lambda row: (-row["bytes"], row["kind"], row["id"])), unreadable


def _row(store: Reading, document: DocumentId) -> dict[str, Any]:
    kind, name = document
    if kind == "workflow":
        found = usage.of_workflow(store.store, name)
        log_bytes, checkpoint_bytes = found.log_bytes, found.checkpoint_bytes
    else:
        log_bytes, checkpoint_bytes = store.store.log_bytes(document), 0
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
