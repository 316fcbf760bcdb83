"""The workers of the benchmarks: those of `waypost.bench.crew`, and the engines of the peers."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from waypost.bench import crew
from waypost.bench.crew import Worker, WorkerFailed, ask_all, turn_of_all

__all__ = ["Crew", "Worker", "WorkerFailed", "ask_all", "turn_of_all"]


class Crew(crew.Crew):
    module: ClassVar = "benchmarks.worker"
    folder: ClassVar = str(Path(__file__).resolve().parent.parent)
    flags: ClassVar = ()  # the workers' modules are found in the folder
    hidden: ClassVar = ("WAYPOST_", "DBOS_")
