"""What is done to a store as a whole while nobody has it open: repairing it."""

from __future__ import annotations

import os

from waypost import config as configuration
from waypost.errors import InvalidInput
from waypost.store.directory.mending import RepairReport
from waypost.store.directory.repair import repair as repair_directory


def repair(location: str | os.PathLike[str] | None = None, dry_run: bool = False) -> RepairReport:
    """Keep what is whole of a damaged store, and move the rest aside into its directory `damaged`; nothing is deleted.

    The location is found as `waypost.open` finds it. With `dry_run` nothing is changed, and the report says what
    would be. Afterwards `waypost verify` finds nothing amiss, and each workflow of which anything is left can be
    opened; where not (`is_complete`), the report says what is left to do. It may be run again at any time, also
    after it was killed.

    Raises InvalidInput for a store in memory, StoreNotFound, StoreLeased, LockTimeout, StoreUnavailable, and
    UnsupportedFormat for a store of a newer release.
    """
    place = configuration.find_location(location)
    if place == "memory:":
        raise InvalidInput("a store in memory has no files to repair: name a directory")
    if not configuration.is_directory(place):
        raise InvalidInput("a store on a server has no files to repair here: its server keeps them, and its backups")
    config = configuration.load(None, None, place)
    return repair_directory(os.path.abspath(place), config, dry_run=dry_run)
