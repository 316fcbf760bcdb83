"""Stores of others: which schemes of locations (`scheme:…`) installed packages have registered (docs/stores.md).

A package names what opens its stores in the group `waypost.stores` of its entry points, each under its scheme.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from waypost.errors import InvalidConfiguration, UnsupportedPlatform

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.metadata import EntryPoint
    from typing import Any

GROUP = "waypost.stores"
OWN = ("memory", "postgresql", "postgres")
"""Nobody else can register these."""
_LOCATION = re.compile(r"([a-z][a-z0-9+.-]+):", re.IGNORECASE)


def scheme_of(location: str) -> str:
    """What may be the scheme of a location, in small letters, or "": also a directory can have such a name."""
    found = _LOCATION.match(location)
    return "" if found is None else found[1].lower()


def is_registered(location: str) -> bool:
    """Whether a package has registered the scheme of a location. Loads nothing."""
    return bool(_registered(scheme_of(location)))


def opener(location: str) -> Callable[..., Any] | None:
    """What opens the store at a location, or None where nobody has registered its scheme.

    Raises InvalidConfiguration where several packages have, UnsupportedPlatform where what they name is not there.
    """
    scheme = scheme_of(location)
    found = _registered(scheme)
    if not found:
        return None
    if len({each.value for each in found}) > 1:
        raise InvalidConfiguration(
            f"several packages open stores of the kind {scheme}: {', '.join(map(_named, found))}"
        )
    try:
        loaded = found[0].load()
    except (ImportError, AttributeError) as error:
        raise UnsupportedPlatform(
            f"what opens stores of the kind {scheme} cannot be loaded: {_named(found[0])}: {error}"
        ) from error
    if not callable(loaded):
        raise UnsupportedPlatform(f"what opens stores of the kind {scheme} cannot be called: {_named(found[0])}")
    return loaded


def _registered(scheme: str) -> list[EntryPoint]:
    if not scheme or scheme in OWN:
        return []
    from importlib.metadata import entry_points  # reads what is installed, which takes longer than opening a store

    return [each for each in entry_points(group=GROUP) if each.name.lower() == scheme]


def _named(entry: EntryPoint) -> str:
    return f"{entry.value} ({entry.dist.name})" if entry.dist is not None else entry.value
