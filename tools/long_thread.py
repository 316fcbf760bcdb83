"""Put very many checkpoints of one LangGraph thread, and print what that takes: docs/langgraph.md quotes it.

.venv/bin/python -m tools.long_thread 1000000 DIRECTORY
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6

from waypost.adapters.langgraph import WaypostSaver

OPTIONS = {"reliability": {"enable_wal": False}, "performance": {"max_memory_usage": 64}}
"""Nobody waits for a sync, and caches hold at most 64 MB."""


def resident_mb() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(row.split()[1]) for row in status if row.startswith("VmRSS")) // 1024


def measure(count: int, place: Path) -> Iterator[tuple[str, int, float]]:
    """(what, resident MB, seconds): each tenth of the puts, two reads, and a list of all. Raises AssertionError."""
    thread: Any = {"configurable": {"thread_id": "long", "checkpoint_ns": ""}}
    with WaypostSaver.open(place, config=OPTIONS) as saver:
        yield "before the first", resident_mb(), 0.0
        at, first, began = thread, thread, time.monotonic()
        for number in range(count):
            values = {"n": number, "said": "x" * 200}
            made = {**empty_checkpoint(), "id": str(uuid6(clock_seq=number)), "channel_values": values}
            new: Any = {"n": number + 1} if number else {"n": 1, "said": 1}
            made["channel_versions"] = {"n": number + 1, "said": 1}
            at = saver.put(at, made, {"source": "loop", "step": number, "parents": {}}, new)  # pyright: ignore[reportArgumentType]
            first = at if not number else first
            if not (number + 1) % max(1, count // 10):
                yield f"put {number + 1:,}", resident_mb(), time.monotonic() - began
        for what, asked, expected in (("newest", thread, count - 1), ("oldest", first, 0)):
            began = time.monotonic()
            found = saver.get_tuple(asked)
            assert found is not None and found.checkpoint["channel_values"]["n"] == expected, what
            yield f"read the {what}", resident_mb(), time.monotonic() - began
        began = time.monotonic()
        assert sum(1 for _ in saver.list(thread)) == count
        yield f"listed {count:,}", resident_mb(), time.monotonic() - began


def main() -> None:
    place = Path(sys.argv[2])
    for what, megabytes, seconds in measure(int(sys.argv[1]), place):
        print(f"{what:24} {megabytes:6,} MB {seconds:9.3f} s", flush=True)
    pages = [file.stat().st_size for file in (place / "threads").iterdir()]
    print(f"{len(pages):,} pages, {sum(pages) / 1e6:,.0f} MB on disk")


if __name__ == "__main__":
    main()
