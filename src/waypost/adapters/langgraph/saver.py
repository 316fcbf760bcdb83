"""`WaypostSaver`: LangGraph's interface of a checkpointer over a Waypost store, blocking and asynchronous.

What is put is serialized at the call, before anything is waited for. `put` and `put_writes` are steps that both faces
drive in their own way; everything else is done by a thread where it is awaited.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from threading import Lock
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from waypost.adapters.access import Base, store_of
from waypost.adapters.langgraph import building, importing, naming, pages, reading, removing, rows, writing
from waypost.adapters.langgraph.awaiting import run_async
from waypost.adapters.langgraph.importing import Report
from waypost.adapters.langgraph.pages import Pages, Steps
from waypost.adapters.langgraph.reading import Found
from waypost.adapters.langgraph.rows import SavedRecord, Typed, Version, WriteRow
from waypost.adapters.langgraph.writing import Draft, Place
from waypost.definitions import Options
from waypost.errors import InvalidInput, VersionConflict
from waypost.opening import open_definitions
from waypost.store import Progress

T = TypeVar("T")

_MOST_GIVEN = 10_000
_AT_A_TIME = 64
_OUTSIDE = ("channel_values", "channel_versions")


class _Given:
    """Which checkpoints a saver gave out or put: as the newest, or as one that was asked for. The last ones only."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: OrderedDict[Place, bool] = OrderedDict()

    def note(self, place: Place, *, newest: bool) -> None:
        with self._lock:
            self._known[place] = newest
            self._known.move_to_end(place)
            if len(self._known) > _MOST_GIVEN:
                self._known.popitem(last=False)

    def is_newest(self, place: Place) -> bool:
        with self._lock:
            return self._known.get(place, False)


class WaypostSaver(BaseCheckpointSaver[Any]):
    """A checkpointer over a Waypost store. Safe to use from any thread, and each method from any event loop.

    Give it a `Waypost`, an `AsyncWaypost` or a store that is open, which stays so; or have it open one: `open`.
    """

    def __init__(self, store: Base, *, serde: SerializerProtocol | None = None) -> None:
        super().__init__(serde=serde)
        self._store = store_of(store)
        self._pages = Pages(self._store)
        self._given = _Given()
        self._close: Callable[[], None] | None = None

    @classmethod
    def open(
        cls,
        location: str | os.PathLike[str] | None = None,
        *,
        preset: str | None = None,
        config: Options | None = None,
        serde: SerializerProtocol | None = None,
    ) -> Self:
        """A saver over the store at a location, made where there is none, for `with` or `async with`, or to be closed.

        Location, `preset` and `config` are those of `waypost.open`, which also says what this raises.
        """
        definitions = open_definitions(location, preset, config)
        saver = cls(definitions.store, serde=serde)
        saver._close = definitions.close
        return saver

    def close(self) -> None:
        """Close the store, if `open` opened it. May be called twice."""
        if self._close is not None:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.shield(asyncio.to_thread(self.close))

    # --- reading ---

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that is asked for by its id, or else the newest of its thread and namespace.

        Raises InvalidInput, InvalidId, DocumentDamaged and what the store and the serializer raise.
        """
        thread_id, namespace, checkpoint_id = _configured(config)
        if checkpoint_id is None:
            found = reading.newest(self._pages, thread_id, namespace)
            self._given.note(Place(thread_id, namespace, found.place.checkpoint_id if found else ""), newest=True)
        else:
            place = Place(thread_id, namespace, checkpoint_id)
            found = reading.one(self._pages, place)
            self._given.note(place, newest=False)
        return None if found is None else self._tuple(found)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As `get_tuple`."""
        return await self._in_thread(partial(self.get_tuple, config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, the newest first, read as they are asked for: of a thread, of one of its namespaces if the
        config names one, or of all threads; those whose metadata has what `filter` says, with ids below that of
        `before`, at most `limit`. No lock is held in between.

        Raises as `get_tuple`.
        """
        for number, found in enumerate(self._found(config, filter, before)):
            if limit is not None and number >= limit:
                return
            yield self._tuple(found)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As `list`."""
        going = self.list(config, filter=filter, before=before, limit=limit)
        amount = 1  # the first ones come soon, and nobody waits for more than he may want
        while some := await self._in_thread(partial(_some, going, amount)):
            for each in some:
                yield each
            amount = min(2 * amount, _AT_A_TIME)

    def _found(
        self, config: RunnableConfig | None, wanted: Mapping[str, Any] | None, before: RunnableConfig | None
    ) -> Iterator[Found]:
        below = None if before is None else _configured_id(before)
        if config is None:
            found = reading.of_all(self._pages, None, below)
        else:
            found = self._found_in_thread(config, below)
        for each in found:
            if not wanted or _matches(each.metadata(self.serde), wanted):
                yield each

    def _found_in_thread(self, config: RunnableConfig, below: str | None) -> Iterator[Found]:
        thread_id, namespace, checkpoint_id = _configured(config)
        is_one = (config.get("configurable") or {}).get("checkpoint_ns") is not None
        if checkpoint_id is None:
            yield from reading.of_thread(self._pages, thread_id, namespace if is_one else None, below)
        elif below is None or checkpoint_id < below:
            for found in reading.in_namespaces(self._pages, thread_id, checkpoint_id):
                if not is_one or found.place.namespace == namespace:
                    yield found

    def _tuple(self, found: Found) -> CheckpointTuple:
        return CheckpointTuple(
            config=_config_of(found.place),
            checkpoint=cast("Checkpoint", found.checkpoint(self.serde)),
            metadata=cast("CheckpointMetadata", found.metadata(self.serde)),
            parent_config=None if found.parent is None else _config_of(found.parent),
            pending_writes=found.pending_writes(self.serde),
        )

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """For each channel its writes by the ancestors of a checkpoint, the oldest first, back to the nearest ancestor
        with a value of it, the `seed`. Raises as `get_tuple`.
        """
        thread_id, namespace, checkpoint_id = _configured(config)
        if not channels:
            return {}
        if checkpoint_id is None:
            start = reading.newest(self._pages, thread_id, namespace)
        else:
            start = reading.one(self._pages, Place(thread_id, namespace, checkpoint_id))
        found = reading.delta_history(self._pages, start, channels, self.serde)
        return cast("Mapping[str, DeltaChannelHistory]", found)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """As `get_delta_channel_history`."""
        return await self._in_thread(partial(self.get_delta_channel_history, config=config, channels=channels))

    # --- writing ---

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Save a checkpoint behind the one that the config names: one commit, with the store's durability.

        Raises VersionConflict where another went on from there meanwhile, or saved something else under the same id;
        InvalidValue for what the serializer cannot write, InvalidInput, InvalidId, DocumentTooLarge and what the store
        raises. Then nothing was written.
        """
        draft = self._draft(config, checkpoint, metadata, new_versions)
        before = pages.run(self._store, writing.put(self._pages, draft))
        return self._is_put(draft, before, checkpoint, metadata, config)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As `put`."""
        draft = self._draft(config, checkpoint, metadata, new_versions)
        before = await run_async(self._store, writing.put(self._pages, draft))
        if before is None:
            return self._is_put(draft, before, checkpoint, metadata, config)
        return await self._in_thread(partial(self._is_put, draft, before, checkpoint, metadata, config))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Save the pending writes of a task: one commit, with the store's durability. A write of the same task and
        index stays as it was, except in a special channel. Raises as `put`, but no VersionConflict.
        """
        pages.run(self._store, self._writes(config, writes, task_id, task_path))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """As `put_writes`."""
        await run_async(self._store, self._writes(config, writes, task_id, task_path))

    def _draft(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Draft:
        thread_id, namespace, parent = _configured(config)
        place = Place(thread_id, namespace, naming.checkpoint_id_of(checkpoint["id"]))
        values: dict[str, Any] = checkpoint.get("channel_values") or {}
        kept = {name: value for name, value in checkpoint.items() if name not in _OUTSIDE}
        told: Mapping[str, Any] = get_checkpoint_metadata(config, metadata)
        run_id = told.get("run_id")

        def dump(name: str) -> Typed | None:
            return rows.dumped(self.serde, values[name], f"channel_values.{name}") if name in values else None

        draft = Draft(
            place,
            parent,
            None if run_id is None else str(run_id),
            rows.dumped(self.serde, kept, "checkpoint"),
            rows.dumped(self.serde, told, "metadata"),
            follows=told.get("source") != "fork" and self._given.is_newest(place.beside(parent or "")),
            dump=dump,
        )
        for name, version in {**dict.fromkeys(values), **checkpoint["channel_versions"]}.items():
            known = _version_of(name, version)
            if name in new_versions or version is None or parent is None:
                draft.add_value(naming.text_of(name, "channel"), known, dump(name))
            else:
                draft.add(naming.text_of(name, "channel"), known)
        return draft

    def _is_put(
        self,
        draft: Draft,
        before: SavedRecord | None,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        config: RunnableConfig,
    ) -> RunnableConfig:
        if before is not None and not self._is_the_same(draft, checkpoint, get_checkpoint_metadata(config, metadata)):
            place = draft.place
            raise VersionConflict(
                f"thread {place.thread_id!a:.80} has another checkpoint {place.checkpoint_id} than this one: "
                "nothing was written",
                thread_id=place.thread_id,
                namespace=place.namespace,
                checkpoint_id=place.checkpoint_id,
            )
        self._given.note(draft.place, newest=True)
        return _config_of(draft.place)

    def _is_the_same(self, draft: Draft, checkpoint: Checkpoint, metadata: Mapping[str, Any]) -> bool:
        """Whether what is there is what was to be put. Serialized bytes may differ, as those of a cipher do."""
        found = reading.one(self._pages, draft.place)
        if found is None or found.record.parent != draft.parent:
            return False
        there = found.checkpoint(self.serde)
        try:
            return bool(found.metadata(self.serde) == metadata) and all(
                bool(there.get(name) == value) for name, value in checkpoint.items()
            )
        except Exception:  # whatever the values make of being compared
            return False

    def _writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> Steps[None]:
        thread_id, namespace, checkpoint_id = _configured(config)
        if checkpoint_id is None:
            raise InvalidInput("pending writes are of a checkpoint: configurable.checkpoint_id is missing")
        path = naming.text_of(task_path, "task path")
        given: list[WriteRow] = []
        for index, (channel, value) in enumerate(writes):
            kind, data = rows.dumped(self.serde, value, f"writes[{index}].{channel}")
            number = WRITES_IDX_MAP.get(channel, index)
            given.append(WriteRow(number, naming.text_of(channel, "channel"), path, kind, data))
        place = Place(thread_id, namespace, checkpoint_id)
        return writing.put_writes(self._pages, place, naming.text_of(task_id, "task id"), given)

    # --- removing and copying ---

    def delete_thread(self, thread_id: str) -> None:
        """Remove all of a thread, and erase it from the store's history. Raises InvalidId and what the store raises."""
        removing.delete_thread(self._pages, naming.thread_id_of(thread_id))

    async def adelete_thread(self, thread_id: str) -> None:
        """As `delete_thread`."""
        await self._in_thread(partial(self.delete_thread, thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints of runs, and their pending writes, from all threads. Raises what the store raises."""
        removing.delete_for_runs(self._pages, [str(each) for each in run_ids])

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As `delete_for_runs`."""
        await self._in_thread(partial(self.delete_for_runs, run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all of a thread into one that has no checkpoints: all or nothing.

        Raises Refused where the target has some, VersionConflict where the source is deleted meanwhile, InvalidId and
        what the store raises.
        """
        source, target = naming.thread_id_of(source_thread_id), naming.thread_id_of(target_thread_id)
        building.copy_thread(self._pages, source, target)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As `copy_thread`."""
        await self._in_thread(partial(self.copy_thread, source_thread_id, target_thread_id))

    def prune(
        self, thread_ids: Sequence[str], *, strategy: Literal["keep_latest", "delete"] | str = "keep_latest"
    ) -> None:
        """Remove of threads what the newest checkpoint of each namespace does not stand on; with `delete`, all.

        Raises InvalidInput for another strategy, InvalidId and what the store raises.
        """
        wanted = [naming.thread_id_of(each) for each in thread_ids]
        if strategy == "keep_latest":
            removing.prune(self._pages, wanted, self.serde)
        elif strategy == "delete":
            for each in wanted:
                removing.delete_thread(self._pages, each)
        else:
            raise InvalidInput(f"the strategy of prune is keep_latest or delete, not {strategy!a:.80}")

    async def aprune(
        self, thread_ids: Sequence[str], *, strategy: Literal["keep_latest", "delete"] | str = "keep_latest"
    ) -> None:
        """As `prune`."""
        await self._in_thread(partial(self.prune, thread_ids, strategy=strategy))

    def get_next_version(self, current: Any, channel: None) -> Any:
        """The version after one: a number, and behind a text, as other savers have made them, a text that sorts behind
        it. Raises InvalidInput.
        """
        del channel
        if current is None:
            return 1
        if isinstance(current, int | float):
            return current + 1
        number, dot, rest = str(current).partition(".")
        if not (number.isascii() and number.isdecimal()):
            raise InvalidInput(f"{current!a:.80} is no version of a channel")
        return f"{int(number) + 1:0{len(number)}d}{dot}{rest}"

    def import_database(self, location: str, *, progress: Progress | None = None) -> Report:
        """Import all threads of a database of `SqliteSaver` (the path of its file) or `PostgresSaver` (`postgresql://…`),
        each as a whole or not at all, and read back. A thread that is there with the same checkpoints is passed over;
        what keeps others from being imported is in the report. `progress(done, of)` is told of checkpoints.

        The values are read by this saver's serializer. Raises StoreNotFound, UnsupportedFormat, StoreUnavailable.
        """
        return importing.import_database(self._pages, location, self.serde, progress or _nobody_looks)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._store.durability == "none":  # what is in memory is read faster than a thread is woken
            return work()
        return await asyncio.to_thread(work)


def _configured(config: RunnableConfig) -> tuple[str, str, str | None]:
    """Thread id, namespace and checkpoint id of a config. Raises InvalidInput, InvalidId."""
    given: Mapping[str, Any] = config.get("configurable") or {}
    if given.get("thread_id") is None:
        raise InvalidInput("a checkpointer needs configurable.thread_id, and the config has none")
    thread_id = naming.thread_id_of(given["thread_id"])
    namespace = naming.text_of(given.get("checkpoint_ns") or "", "checkpoint namespace")
    return thread_id, namespace, _configured_id(config)


def _configured_id(config: RunnableConfig) -> str | None:
    given = (config.get("configurable") or {}).get("checkpoint_id")
    return naming.checkpoint_id_of(given) if given else None


def _config_of(place: Place) -> RunnableConfig:
    return {
        "configurable": {
            "thread_id": place.thread_id,
            "checkpoint_ns": place.namespace,
            "checkpoint_id": place.checkpoint_id,
        }
    }


def _version_of(name: str, given: object) -> Version | None:
    if given is None or (isinstance(given, int | float | str) and not isinstance(given, bool)):
        return given
    raise InvalidInput(f"channel_versions.{name} is a number or a text, not {type(given).__name__}")


def _matches(metadata: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(metadata.get(key) == value for key, value in wanted.items())


def _nobody_looks(done: int, of: int) -> None:
    """Progress that nobody is told of."""


def _some(going: Iterator[T], amount: int) -> list[T]:
    found: list[T] = []
    for each in going:
        found.append(each)
        if len(found) == amount:
            break
    return found
