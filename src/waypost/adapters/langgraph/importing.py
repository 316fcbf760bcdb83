"""Importing what LangGraph's own checkpointers have written: each thread as a whole or not at all, and read back.

A digest is taken of all that a thread is to have, and of all that it has afterwards: by it the two are compared, and a
thread that is there already is told to be the same or another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal, NamedTuple

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from waypost.adapters.langgraph import building, naming, reading, removing, rows, sources
from waypost.adapters.langgraph.building import Content
from waypost.adapters.langgraph.pages import PAGE_BYTES, STATES, Pages
from waypost.adapters.langgraph.rows import (
    Blobs,
    ChannelRow,
    NewestRecord,
    SavedRecord,
    Serializer,
    WriteRow,
    WritesRecord,
)
from waypost.adapters.langgraph.sources import ReadCheckpoint
from waypost.adapters.langgraph.writing import Place
from waypost.errors import DocumentDamaged, InvalidInput, Refused, WaypostError
from waypost.records import encode
from waypost.store import Progress


class ImportedThread(NamedTuple):
    """What became of a thread: it is there now, was there before, or was not taken, and why."""

    thread_id: str
    checkpoints: int
    outcome: Literal["imported", "same", "failed"]
    error: str = ""


class Report(NamedTuple):
    """What became of a database."""

    threads: list[ImportedThread]

    def of(self, outcome: str) -> list[ImportedThread]:
        return [each for each in self.threads if each.outcome == outcome]


def look(location: str) -> None:
    """Have a database be one that can be imported, before a store is made for it. Raises as `import_database` does."""
    with sources.opened(location, JsonPlusSerializer()) as source:
        source.threads()


def import_database(known: Pages, location: str, serde: Serializer, progress: Progress) -> Report:
    """Import all threads of a database of SqliteSaver or PostgresSaver; `progress(done, of)` is told of checkpoints.

    What keeps one from being imported is in the report. Raises StoreNotFound, UnsupportedFormat, StoreUnavailable.
    """
    report, done = Report([]), 0
    with sources.opened(location, serde) as source:
        threads = source.threads()
        total = sum(number for _, number in threads)
        progress(0, total)
        for thread_id, number in threads:
            began = done

            def count(_: ReadCheckpoint, began: int = began) -> None:
                nonlocal done
                done += 1
                progress(done, total)

            try:
                outcome = _import(known, thread_id, lambda name=thread_id: source.checkpoints(name), serde, count)
            except WaypostError as error:
                report.threads.append(ImportedThread(thread_id, number, "failed", error.message))
            else:
                report.threads.append(ImportedThread(thread_id, number, outcome))
            done = began + number
            progress(done, total)
    return report


def _import(
    known: Pages,
    thread_id: str,
    checkpoints: Callable[[], Iterator[ReadCheckpoint]],
    serde: Serializer,
    count: Callable[[ReadCheckpoint], None],
) -> Literal["imported", "same"]:
    thread_id = naming.thread_id_of(thread_id)
    if next(reading.of_thread(known, thread_id), None) is not None:
        wanted = _Digest()
        for _ in _pages_of(checkpoints(), serde, wanted, count):
            pass
        if wanted.value != _digest_of(known, thread_id):
            raise Refused(f"thread {thread_id!a:.80} is here, with other checkpoints: nothing of it was imported")
        return "same"
    wanted = _Digest()
    building.build(known, thread_id, _pages_of(checkpoints(), serde, wanted, count))
    if wanted.value != _digest_of(known, thread_id):
        removing.delete_thread(known, thread_id)
        raise DocumentDamaged(f"thread {thread_id!a:.80} did not come back as it was written, and was removed again")
    return "imported"


# --- pages out of checkpoints ---


class _Digest:
    """The digest of a thread: the sum of those of its checkpoints, in whatever order it is told of them."""

    def __init__(self) -> None:
        self.value = 0

    def add(
        self, place: Place, record: SavedRecord, values: Mapping[str, bytes], writes: Sequence[WritesRecord]
    ) -> None:
        found = sha256()
        told = [place.checkpoint_id.encode(), encode(record)]
        told += [part for name, data in sorted(values.items()) for part in (name.encode(), data)]
        told += [encode(each) for each in writes]
        for each in told:
            found.update(len(each).to_bytes(8, "big"))
            found.update(each)
        self.value += int.from_bytes(found.digest(), "big")


class _Page:
    """A page that is being filled."""

    def __init__(self, low: str) -> None:
        self.content: dict[str, bytes] = {}
        self.low = low
        self.size = 0
        self.last = ""

    def put(self, key: str, data: bytes) -> None:
        self.size += len(key) + len(data)
        self.content[key] = data


def _pages_of(
    found: Iterator[ReadCheckpoint], serde: Serializer, digest: _Digest, count: Callable[[ReadCheckpoint], None]
) -> Iterator[Content]:
    """Checkpoints as pages, each of which has the values of its own. `digest` is told of all that they have."""
    page = _Page("")
    for each in found:
        place, record, blobs = _record_of(each, serde)
        state = sum(map(len, blobs.parts.values()))
        if page.size >= max(PAGE_BYTES, STATES * state) and place.checkpoint_id > page.last:
            yield Content(page.low, page.content)
            page = _Page(place.checkpoint_id)
        page.last = place.checkpoint_id
        for name, data in sorted(blobs.parts.items()):
            if naming.VALUE + name not in page.content:
                page.put(naming.VALUE + name, data)
        writes = _writes_of(each)
        page.put(naming.saved(place.checkpoint_id, place.namespace), encode(record))
        page.put(naming.newest(place.namespace), encode(NewestRecord(place.checkpoint_id)))
        for record_ in writes:
            page.put(naming.writes(place.checkpoint_id, place.namespace, record_.task_id), encode(record_))
        digest.add(place, record, blobs.parts, writes)
        count(each)
    yield Content(page.low, page.content)


def _record_of(each: ReadCheckpoint, serde: Serializer) -> tuple[Place, SavedRecord, Blobs]:
    what = f"checkpoint {each.checkpoint_id!a:.80}"
    checkpoint_id = naming.checkpoint_id_of(each.checkpoint_id)
    place = Place("", naming.text_of(each.namespace, "checkpoint namespace"), checkpoint_id)
    versions: Any = each.checkpoint.get("channel_versions") or {}
    blobs = Blobs()
    channels: list[ChannelRow] = []
    for name in {**dict.fromkeys(each.values), **versions}:
        version = versions.get(name)
        if version is not None and (isinstance(version, bool) or not isinstance(version, int | float | str)):
            raise InvalidInput(f"{what}: the version of channel {name!a:.80} is no number and no text")
        typed = each.values.get(name)
        digest = None if typed is None else blobs.add(typed)
        channels.append((naming.text_of(name, "channel"), version, digest))
    kept = {name: value for name, value in each.checkpoint.items() if name != "channel_versions"}
    run_id = each.metadata.get("run_id")
    record = SavedRecord(
        place.namespace,
        None if each.parent is None else naming.checkpoint_id_of(each.parent),
        None if run_id is None else str(run_id),
        rows.dumped(serde, kept, what),
        rows.dumped(serde, dict(each.metadata), f"{what}: metadata"),
        tuple(channels),
    )
    return place, record, blobs


def _writes_of(each: ReadCheckpoint) -> list[WritesRecord]:
    tasks: dict[str, list[WriteRow]] = {}
    for write in each.writes:
        row = WriteRow(
            write.number,
            naming.text_of(write.channel, "channel"),
            naming.text_of(write.task_path, "task path"),
            write.type,
            bytes(write.data),
        )
        tasks.setdefault(naming.text_of(write.task_id, "task id"), []).append(row)
    return [
        WritesRecord(task, tuple(sorted(found, key=lambda row: row.index))) for task, found in sorted(tasks.items())
    ]


# --- pages read back ---


def _digest_of(known: Pages, thread_id: str) -> int:
    """The digest of what is there of a thread, every byte of it read."""
    digest, name = _Digest(), naming.name_of(thread_id)
    for row in known.look(name).rows:
        view = known.view(name, row.number)
        for key in view.keys(naming.SAVED):
            checkpoint_id, _ = naming.of_key(key)
            record = rows.SAVED.get(view, key)
            assert record is not None
            place = Place(thread_id, record.namespace, checkpoint_id)
            values: dict[str, bytes] = {}
            for channel in record.channels:
                data = None if channel[2] is None else view.get(naming.VALUE + channel[2])
                if channel[2] is not None and data is not None:
                    values[channel[2]] = data
            keys = view.keys(naming.writes(place.checkpoint_id, place.namespace))
            tasks = [task for each in keys if (task := rows.WRITES.get(view, each)) is not None]
            digest.add(place, record, values, sorted(tasks, key=lambda task: task.task_id))
    return digest.value
