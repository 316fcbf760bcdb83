"""Hook events within a program: emitted, counted, and told to those who listen; and the pair that it is opened in.

    state_api, hook_integrator = await initialize_workflow_state("development")

Invariants: what an event changes is changed by the operation `emit_hook_event`, the same on every face; listeners are
told once that is committed, and no one waits for them.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from waypost import config as configuration
from waypost import migrations, records
from waypost.api import AsyncWaypost, Opening, open_async
from waypost.definitions import Options
from waypost.errors import Refused, WaypostError
from waypost.folding import fold
from waypost.hooks.emitting import requested
from waypost.hooks.listeners import DEEPEST, Function, HookListener, depth
from waypost.hooks.payloads import HookEvent, event_name, read_event
from waypost.loading import every_step
from waypost.operations import Failure, OperationResult, Request
from waypost.options import HooksConfig
from waypost.store import DocumentId

logger = logging.getLogger("waypost")

MOST_KNOWN = 1000
"""Of so many workflows it is looked which are live still."""
SHUTDOWN_TAGS = ("shutdown", "cleanup")


class HookStatistics(Struct, frozen=True, kw_only=True):
    """How the events have fared that an integrator was given.

    `error_rate` is failed / all events. `average_response_time_ms` is that of all events, from when one was emitted
    until it was committed or refused. `active_workflows` are those that events were about, and which are there and not
    completed. `events` counts by name, those that could not be read as `invalid`.
    """

    active_workflows: int
    total_hook_events: int
    failed_hook_events: int
    average_response_time_ms: float
    error_rate: float
    listener_failures: int
    events: Mapping[str, int]


class HookIntegrator:
    """Takes events of workflows, agents and sessions, and tells listeners of them. Made by
    `create_state_hook_integrator`, and used in the event loop of its handle.
    """

    def __init__(self, state_api: AsyncWaypost, hooks: HooksConfig, listener_timeout_s: float = 30.0) -> None:
        self._state_api = state_api
        self._hooks = hooks
        self._limit_s = listener_timeout_s
        self._listeners: list[HookListener] = []
        self.listener_failures = 0
        self._under_way: set[asyncio.Future[Any]] = set()
        self._counts: Counter[str] = Counter()
        self._failed = 0
        self._total_ms = 0.0
        self._workflows: dict[str, int] = {}
        """Those that events were about, each with the number of the last of these."""
        self._most_workflows = MOST_KNOWN
        self._ending: asyncio.Task[None] | None = None

    async def emit_hook_event(
        self, event: str, payload: Mapping[str, Any], *, operation_id: str | None = None
    ) -> OperationResult[Any]:
        """Have the effects of an event, in one commit, and then have listeners told of it; see docs/hooks.md.

        Fails as the operation of that name does, and with Refused once the integrator is shut down, and where events
        that listeners emit lead to one another without end.
        """
        read: list[HookEvent] = []

        def reading() -> HookEvent:
            read.append(read_event(event, payload))
            self._check()
            return read[0]

        request = requested(self._state_api.definitions, reading, operation_id=operation_id, hooks=self._hooks)
        emitting = asyncio.ensure_future(self._carry_out(request, read[0] if read else None))
        # whoever is cancelled while he waits leaves a commit behind that goes on
        self._under_way.add(emitting)
        emitting.add_done_callback(self._under_way.discard)
        return await asyncio.shield(emitting)

    async def _carry_out(self, request: Request[OperationResult[Any]], event: HookEvent | None) -> OperationResult[Any]:
        result = await self._state_api.perform(request)
        self._count(event, result)
        if event is not None and result and not result.repeated:
            self._tell(event)
        return result

    def _check(self) -> None:
        if self._ending is not None:
            raise Refused("the hook integrator is shut down, and takes no events")
        if depth() >= DEEPEST:
            raise Refused(f"listeners emit events that lead to one another, {DEEPEST} deep: this one is not taken")

    def _count(self, event: HookEvent | None, result: OperationResult[Any]) -> None:
        self._counts["invalid" if event is None else event.event] += 1
        self._total_ms += result.duration_ms
        if isinstance(result, Failure):
            self._failed += 1
        elif event is not None and event.workflow_id is not None:
            self._workflows[event.workflow_id] = self._counts.total()
            if len(self._workflows) > self._most_workflows:
                self._most_workflows *= 2  # until it is known how many of them are live
                looking = asyncio.ensure_future(self._forget_completed())
                self._under_way.add(looking)
                looking.add_done_callback(self._under_way.discard)

    async def _forget_completed(self) -> None:
        """Forget the workflows that are not live, but for those that events came for meanwhile."""
        seen = self._workflows.copy()
        live = await asyncio.to_thread(lambda: set(filter(self._is_live, seen)))
        for each, number in seen.items():
            if each not in live and self._workflows.get(each) == number:
                del self._workflows[each]
        self._most_workflows = max(MOST_KNOWN, 2 * len(self._workflows))

    # --- listeners ---

    def register_hook_listener(self, event: str, function: Function) -> HookListener:
        """Have a function called with each `HookEvent` of that name once it is committed, or of any with "*".

        It may be asynchronous; a plain one is called in a thread. It is told of one event after the other, in order,
        for at most the time limit each. What it raises is logged and counted. `remove()` of what is given ends it.
        """
        listener = HookListener(None if event == "*" else event_name(event), function, self._limit_s, self)
        self._listeners.append(listener)
        return listener

    def unregister_hook_listener(self, event: str, function: Function) -> bool:
        """Remove a function from the listeners of an event; whether it was one."""
        name = None if event == "*" else event_name(event)
        found = [each for each in self._listeners if each.event == name and each.function == function]
        for listener in found:
            listener.remove()
        return bool(found)

    def forget(self, listener: HookListener) -> None:
        """Have a listener removed, as its `remove` does."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def _tell(self, event: HookEvent) -> None:
        for listener in list(self._listeners):
            if listener.event is None or listener.event == event.event:
                listener.tell(event)

    async def settle(self) -> None:
        """Wait until listeners were told of all events so far, and of what these led to."""
        while any(each.is_at_work for each in self._listeners):
            await asyncio.gather(*(each.settle() for each in self._listeners))

    # --- conduct ---

    def get_statistics(self) -> HookStatistics:
        """How events have fared so far."""
        total = self._counts.total()
        return HookStatistics(
            active_workflows=len(self._live()),
            total_hook_events=total,
            failed_hook_events=self._failed,
            average_response_time_ms=self._total_ms / total if total else 0.0,
            error_rate=self._failed / total if total else 0.0,
            listener_failures=self.listener_failures,
            events=dict(self._counts),
        )

    def _live(self) -> list[str]:
        """The workflows that events were about, and which are there and not completed."""
        self._workflows = {each: number for each, number in self._workflows.copy().items() if self._is_live(each)}
        return sorted(self._workflows)

    def _is_live(self, workflow_id: str) -> bool:
        try:
            view = migrations.load(self._state_api.definitions.store, DocumentId("workflow", workflow_id))
            record = records.find_workflow(view)
            return record is not None and fold(every_step(view), record.paused).status != "completed"
        except WaypostError:
            return True  # as it was when it was seen last

    async def shutdown(self) -> None:
        """Take no more events, finish what is under way, and keep each live workflow as a checkpoint with the tags
        `shutdown` and `cleanup`. The handle stays open. May be called twice: each call waits for the end of it, and one
        that is cancelled leaves it going on.
        """
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        await asyncio.gather(*self._under_way, return_exceptions=True)
        try:
            await asyncio.wait_for(self.settle(), self._limit_s)
        except TimeoutError:
            logger.warning("the hook integrator was shut down before its listeners were told of all events")
        if self._hooks.enable_auto_checkpoints:
            await self._keep_workflows()

    async def _keep_workflows(self) -> None:
        for workflow_id in await asyncio.to_thread(self._live):
            made = await self._state_api.create_checkpoint(
                workflow_id, "the hook integrator was shut down", SHUTDOWN_TAGS, type="automatic"
            )
            if not made:
                logger.warning("workflow %r was not kept at shutdown: %s", workflow_id, made.error)


# --- making them ---


async def initialize_workflow_state(
    environment: str = "development", location: str | os.PathLike[str] | None = None
) -> tuple[AsyncWaypost, HookIntegrator]:
    """Open a store with the preset of an environment ("development", "production" or "high_throughput"), and take hook
    events for it. Raises what `open_async` raises.
    """
    state_api = await open_async(location, preset=environment)
    return state_api, create_state_hook_integrator(state_api)


def create_workflow_state_api(location: str | os.PathLike[str] | None = None, config: Options | None = None) -> Opening:
    """A store to be opened with options of its own, for `await` or `async with`: `open_async`, as it is called in the
    original.
    """
    return open_async(location, config=config)


def create_state_hook_integrator(
    state_api: AsyncWaypost, config: Mapping[str, object] | None = None, *, listener_timeout_s: float = 30.0
) -> HookIntegrator:
    """What takes hook events for an open store, with options of the section `hooks` that differ from the store's.

    Raises InvalidConfiguration.
    """
    whole = state_api.definitions.config
    if config:
        whole = configuration.override(whole, {"hooks": config})
    return HookIntegrator(state_api, whole.hooks, listener_timeout_s)
