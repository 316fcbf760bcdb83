"""Which steps of a workflow may be done next: the graph as a run sees it, kept up to date step by step.

Invariants:

* A step is handed out once, however often the whole workflow is read again.
* Steps are handed out in the order of the workflow, as far as what they depend on allows.
* A step that is not `parallel` is handed out only while nothing is active, and nothing else while it is.
* Handing out and finishing cost what the step's neighbours cost, not what the whole workflow does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush

from waypost.folding import FINISHED
from waypost.models import WorkflowStep


class Frontier:
    """Which steps may be done next, as far as is known."""

    def __init__(self) -> None:
        self.offered: set[str] = set()
        """Steps that were handed out, and are not handed out again."""
        self.elsewhere: dict[str, WorkflowStep] = {}
        """Steps that others are working on."""
        self.failed: list[WorkflowStep] = []
        """Steps that have no retries left."""
        self._ready: list[tuple[int, str]] = []
        self._position: dict[str, int] = {}
        self._alone: set[str] = set()
        self._blockers: dict[str, set[str]] = {}
        self._dependents: dict[str, list[str]] = {}

    def learn(
        self, steps: Sequence[WorkflowStep], late: Iterable[str], is_free: Callable[[WorkflowStep], bool]
    ) -> None:
        """Start over from all steps.

        `late` are ids of steps known to be finished, whatever their status says. `is_free` tells of a running step
        whether it may be taken over.
        """
        finished = {step.id for step in steps if step.status in FINISHED}.union(late)
        self._position = {step.id: number for number, step in enumerate(steps)}
        self._alone = {step.id for step in steps if not step.parallel}
        self.elsewhere, self.failed, self._ready = {}, [], []
        self._blockers, self._dependents = {}, {}
        for step in steps:
            if step.id not in finished and step.id not in self.offered:
                self._sort_in(step, finished, is_free)

    def _sort_in(self, step: WorkflowStep, finished: set[str], is_free: Callable[[WorkflowStep], bool]) -> None:
        if step.status == "failed" and step.retry_count >= step.max_retries:
            self.failed.append(step)
        elif step.status == "running" and not is_free(step):
            self.elsewhere[step.id] = step
        elif blockers := set(step.dependencies).difference(finished):
            self._blockers[step.id] = blockers
            for blocker in blockers:
                self._dependents.setdefault(blocker, []).append(step.id)
        else:
            heappush(self._ready, (self._position[step.id], step.id))

    def finished(self, step_id: str) -> None:
        """A step was finished: those that waited for nothing else are ready."""
        for dependent in self._dependents.pop(step_id, ()):
            blockers = self._blockers.get(dependent, set())
            blockers.discard(step_id)
            if not blockers and self._blockers.pop(dependent, None) is not None:
                heappush(self._ready, (self._position[dependent], dependent))

    def take(self, active: Iterable[str]) -> str | None:
        """Hand out the first ready step that may be done beside the active ones."""
        active = set(active)
        if active & self._alone:
            return None
        put_back: list[tuple[int, str]] = []
        found: str | None = None
        while found is None and self._ready:
            entry = heappop(self._ready)
            if entry[1] in self._alone and active:
                put_back.append(entry)
            elif entry[1] not in self.offered:
                found = entry[1]
        for entry in put_back:
            heappush(self._ready, entry)
        if found is not None:
            self.offered.add(found)
        return found
