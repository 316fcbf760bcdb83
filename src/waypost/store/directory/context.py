"""What the documents of one open store share: configuration, directories, caches."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from copy import copy
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from waypost.codec.compression import Compressor
from waypost.config import Config
from waypost.store.directory.blocks import BlockCache
from waypost.store.directory.decisions import Decisions, Piece, laid_over
from waypost.store.directory.files import Directory, File, mount_of
from waypost.store.directory.hopped import Hopped
from waypost.store.directory.layout import Layout
from waypost.store.directory.log import Log
from waypost.store.kinds import DocumentId

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_LOG = logging.getLogger("waypost")
_MEGABYTE = 1024 * 1024
_COPY_ON_WRITE = frozenset({"btrfs", "zfs", "bcachefs", "apfs"})


class Waiting(Protocol):
    """One who waits, until he is told that the store is closed."""

    def wake(self) -> None: ...


class Context:
    """Shared by all documents of one open store."""

    def __init__(self, layout: Layout, config: Config) -> None:
        self.layout = layout
        self.config = config
        self.durable = config.durability == "power"
        self.limit_bytes = config.performance.max_file_size * _MEGABYTE
        self.memory_bytes = config.performance.max_memory_usage * _MEGABYTE
        self.chunk_bytes = config.compression.chunk_size
        self.verify = config.reliability.checksum_validation
        self.cache = BlockCache(self.memory_bytes // 2)
        # filling ahead spares a journal commit with each sync; where blocks are never written in place it does not
        self.prewrite = mount_of(layout.path)[0] not in _COPY_ON_WRITE
        self.decisions = Decisions(layout)
        self.restores = 0
        """How often all documents were replaced since the store was opened."""
        self.checkpoints_changed = False
        """Whether this process wrote or removed files of checkpoints since their index was written."""
        self.stuck_until = float("-inf")
        """Until when somebody is known to hold the folder of checkpoints, who may not let it go."""
        self.placed: dict[str, int] = {}
        """Checkpoints whose files got their names, and no sync since is known to cover that; with each, how often
        writing such files had failed by then.
        """
        self.keeping_failures = 0
        self.told: set[tuple[DocumentId | str, str]] = set()
        """What was said of documents in warnings that need be seen once."""
        self.hopped = Hopped()
        self.listeners: WeakSet[Waiting] = WeakSet()
        """Those who wait for commits."""
        self._compressors: list[Compressor] = []

    def apart(self, cache_bytes: int = 0) -> Context:
        """The same with a cache of its own, or none: for a look at much that is not looked at again soon."""
        twin = copy(self)
        twin.cache = BlockCache(cache_bytes)
        return twin

    def new_pool(self, name: str = "") -> ThreadPoolExecutor:
        """Threads, as many as the options say, whose names begin so."""
        from concurrent.futures import ThreadPoolExecutor  # seven modules that a short command need not load

        return ThreadPoolExecutor(self.config.performance.parallel_operations, name)

    def take_compressor(self) -> Compressor:
        """A compressor that nobody else uses until it is given back."""
        try:
            return self._compressors.pop()
        except IndexError:
            return Compressor(self.config.compression)

    def quick_compressor(self) -> Compressor:
        """For what is soon superseded: snapshots that are taken beside the work."""
        return Compressor(self.config.compression, most_effort=1)

    def give_back(self, compressor: Compressor) -> None:
        self._compressors.append(compressor)

    def set_aside(self, name: str, offset: int, pieces: Iterable[bytes]) -> None:
        """Keep the bytes of a torn tail in `temp` before they are cleared."""
        folder = self.layout.folder("temp")
        kept = f"{name}.{offset}.torn"
        file = folder.open(kept, write=True, create=True)
        if file is not None:
            file.truncate(0)
            end = 0
            for data in pieces:
                file.write_all(data, end)
                end += len(data)
            file.sync_all()
            folder.sync()

    def keep_generation(self, log: Log) -> None:
        """Keep a log whose history is about to be shortened; only the newest few of each are kept."""
        if self.config.reliability.backup_retention:
            folder = self.layout.folder("backups")
            generation = log.body.generation if log.body else 0
            log.folder.link(log.name, folder, f"{log.name}.{generation}")
        self.drop_backups(log.name, "")

    def put_backup(self, name: str, backup: str) -> None:
        """Give a file in `temp` its place among the backups, durably."""
        folder = self.layout.folder("backups")
        self.layout.folder("temp").move(name, folder, backup)
        folder.sync()

    def drop_backups(self, name: str, mark: str) -> None:
        """Remove all but the newest backups of a log: those whose numbers stand behind `mark`."""
        folder = self.layout.folder("backups")
        numbers = [
            int(number)
            for base, _, ending in (each.rpartition(".") for each in folder.names())
            if base == name and (number := ending.removeprefix(mark)).isdecimal() and ending == mark + number
        ]
        keep = self.config.reliability.backup_retention
        for number in sorted(numbers)[: max(0, len(numbers) - keep)]:
            folder.remove(f"{name}.{mark}{number}")
        folder.sync()

    def open_log(self, folder: Directory, name: str, *, write: bool, decided: list[Piece] | None = None) -> Log | None:
        """Open a log; None where there is none and it is only to be read. What is `decided` is read as if it was
        written already, unless the log was compacted since, which it is only once that is in it.
        """
        file = folder.open(name, write=write, create=write)
        log = None if file is None else self._log(folder, name, file)
        if decided and (
            log is None or log.first(log.file.identity().size) is None or log.file_id == decided[0].file_id
        ):
            log = self._log(folder, name, laid_over(file, f"{folder.path}/{name}", decided))
        if log is not None:
            log.writable = write
        return log

    def _log(self, folder: Directory, name: str, file: File) -> Log:
        return Log(folder, name, file, limit=self.limit_bytes, prewrite=self.prewrite, keep=self.set_aside)
