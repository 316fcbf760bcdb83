"""Row 15: what it costs that operations are counted.

One handle makes durable step updates in pairs: one is counted and one is not, the order turned round from pair to pair.
A disk's times differ by far more than what is looked for, so the processor's time of the calling thread is compared,
which no disk is part of. Every 256th operation also sorts those before it into slices, which no median shows: the whole
cost of counting is measured by itself as well, and added.
"""

from __future__ import annotations

import statistics

from benchmarks.bench import Bench
from benchmarks.crew import Crew
from benchmarks.figures import Measure
from waypost.bench.goals import Goal
from waypost.bench.turns import Lane, Turn

MOST_PERCENT = 2.0
NOTES = 20_000


def measure(bench: Bench) -> None:
    scale = bench.scale
    counted, uncounted, more_ns = Lane(), Lane(), list[float]()
    with Crew() as crew:
        bench.say("row 15: updates, counted and not")
        (worker,) = crew.hire("ours")
        worker.ask("open", path=bench.place("measuring", "store"), alone=True)
        worker.ask("create", workflow="measured", steps=scale.steps)
        worker.ask("use", workflow="measured", steps=scale.steps)
        worker.ask("update_in_pairs", count=scale.beside)  # to warm up
        for _ in range(scale.rounds):
            found = worker.ask("update_in_pairs", count=scale.beside)
            counted.rounds.append([Turn.of([found["counted"]])])
            uncounted.rounds.append([Turn.of([found["uncounted"]])])
            busy = [statistics.median(found[name]["cpu_ns"]) for name in ("counted", "uncounted")]
            more_ns.append(busy[0] - busy[1])
        counting_ns = worker.ask("count_operations", count=NOTES)
    bench.findings.measures += [
        Measure(15, f"update, {scale.steps:,} steps, counted", "time", counted, None, None),
        Measure(15, f"update, {scale.steps:,} steps, not counted", "time", uncounted, None, None),
    ]
    seen_ns = statistics.median(more_ns)
    reached = (seen_ns + counting_ns) / 1000 / uncounted.median_us * 100
    name = "counting an operation, as a share of an update"
    bench.findings.goals.append(Goal(15, name, "at most", MOST_PERCENT, " %", reached))
    bench.findings.notes.append(
        f"Row 15: an update that is counted has its thread at work for {seen_ns:+,.0f} ns (median), and counting takes "
        f"{counting_ns:,.0f} ns by itself."
    )
