"""Opening a store for the operations, and taking in what other processes left for it.

Where nothing waits this costs the opening of one directory, or its listing; what folds is imported only where
something does.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from waypost import config as configuration_
from waypost import recovery
from waypost.definitions import Definitions, Options
from waypost.hooks import spool
from waypost.store import open_store

if TYPE_CHECKING:
    from waypost.hooks.intake import Taker

logger = logging.getLogger("waypost")


def open_definitions(
    location: str | os.PathLike[str] | None, preset: str | None, config: Options | None
) -> Definitions:
    """Open a store, making it where there is none, and say so; what waits in its spool is folded in.

    Raises InvalidConfiguration, StoreLeased, StoreUnavailable, UnsupportedFormat, UnsupportedPlatform.
    """
    place = configuration_.find_location(location)
    is_directory = configuration_.is_directory(place)
    loaded = configuration_.load_with_sources(preset, config, place if is_directory else None)
    is_new = is_directory and not os.path.exists(os.path.join(place, "FORMAT"))
    store = open_store(place, loaded.config)
    if is_new and next(iter(store.documents("workflow")), None) is not None:
        logger.warning("the store %s had lost its file FORMAT, which is there again", place)
    elif is_new:
        logger.info("created a store in %s", place)
    if store.durability != "power":
        logger.info("the store %s is %s durable: a loss of power may take commits back", place, store.durability)
    definitions = Definitions(store, loaded.config, "preset development" in loaded.sources.values())
    try:
        take_part(definitions, place)
        recovery.report(definitions.sessions.looker)
    except BaseException:
        store.close()
        raise
    return definitions


def fold_in(definitions: Definitions) -> None:
    """Fold in what waits for a store that was opened for it. What cannot be is told in the log, and never raised."""
    if definitions.spool is not None and spool.waiting_in(definitions.spool):
        from waypost.hooks.intake import fold

        fold(definitions, definitions.spool, takers())


def take_part(definitions: Definitions, location: str) -> None:
    """Have a store that is open for writing take in what waits now, and what comes while it is watched."""
    if definitions.store.durability != "none":  # what is in memory would forget what it took
        definitions.spool = spool.place(location)
        fold_in(definitions)


def intake_of(definitions: Definitions) -> Callable[[], None] | None:
    """What whoever watches a store calls now and then; None where nothing can come in."""
    return None if definitions.spool is None else partial(fold_in, definitions)


def takers() -> Mapping[str, Taker]:
    """Who makes commits of events, by their dialect."""
    from waypost.agents import dialects
    from waypost.agents import taking as agents_taking
    from waypost.hooks import taking

    return {"waypost": taking.take, **dict.fromkeys((*dialects.DIALECTS, dialects.AUTO), agents_taking.take)}
