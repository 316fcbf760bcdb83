"""Row 10: what the files take on the medium after many updates, every version kept, once they are closed.

An update of Waypost needs its step reset before, which is a commit as well, and each completion makes a checkpoint:
all of that counts. Blocks of the file system are counted, of everything in the directory.
"""

from __future__ import annotations

from typing import Any

from benchmarks.bench import Bench
from benchmarks.crew import Crew
from waypost.bench.goals import Goal

AT_LEAST_LESS = 1_000


def measure(bench: Bench) -> None:
    scale = bench.scale
    with Crew() as crew:
        bench.say(f"row 10: {scale.kept:,} updates")
        peer = crew.hire("peer")[0] if bench.with_peer else None
        (worker,) = crew.hire("ours")
        worker.ask("open", path=bench.place("disk", "store"))
        worker.ask("create", workflow="measured", steps=scale.steps)
        worker.ask("use", workflow="measured", steps=scale.steps)
        worker.ask("update", count=scale.kept)
        ours = worker.ask("occupy")
        theirs: dict[str, Any] | None = None
        if peer is not None:
            bench.say(f"row 10: {scale.kept:,} saves of SqliteSaver")
            peer.ask("open", path=bench.place("disk", "peer", "saver.sqlite"))
            peer.ask("use", steps=scale.steps)
            peer.ask("create", steps=scale.steps)
            peer.ask("update", count=scale.kept)
            theirs = peer.ask("occupy")
    name = f"disk after {scale.kept:,} updates of {scale.steps:,} steps, less than SqliteSaver"
    reached = None if theirs is None else theirs["bytes"] / ours["bytes"]
    bench.findings.goals.append(Goal(10, name, "at least", AT_LEAST_LESS, " x", reached))
    bench.findings.notes.append(
        f"Row 10: after {scale.kept:,} updates Waypost takes {ours['bytes']:,} bytes for {ours['versions']:,} versions"
        + ("." if theirs is None else f", SqliteSaver {theirs['bytes']:,} for {theirs['versions']:,}.")
    )
