"""Stores: where documents live. `contract` says what a store is; `open_store` opens one by its location."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from waypost import schemes
from waypost.errors import UnsupportedPlatform
from waypost.store.bundles import Bundle, Progress, Whole, Written
from waypost.store.contract import (
    Change,
    Counters,
    Durability,
    JointChange,
    Listener,
    OnDone,
    Receipt,
    Reception,
    Store,
    Ticket,
)
from waypost.store.copies import BackedUp, BackedUpFile, Backup, Restored
from waypost.store.kinds import DocumentId
from waypost.store.pasts import Commit, Past
from waypost.store.values import Content, ContentLost, Pieces, Scratch
from waypost.store.views import JointPart, JointTransaction, OperationRecord, Transaction, View

if TYPE_CHECKING:
    from waypost.config import Config
    from waypost.options import CompressionConfig

__all__ = [
    "BackedUp",
    "BackedUpFile",
    "Backup",
    "Bundle",
    "Change",
    "Commit",
    "Content",
    "ContentLost",
    "Counters",
    "DocumentId",
    "Durability",
    "JointChange",
    "JointPart",
    "JointTransaction",
    "Listener",
    "OnDone",
    "OperationRecord",
    "Past",
    "Pieces",
    "Progress",
    "Receipt",
    "Reception",
    "Restored",
    "Scratch",
    "Store",
    "Ticket",
    "Transaction",
    "View",
    "Whole",
    "Written",
    "export_version",
    "open_store",
    "owner_of_export",
    "place_of",
    "read_bundle",
    "read_export",
    "write_bundle",
]


def open_store(location: str, config: Config, *, create: bool = True, read_only: bool = False) -> Store:
    """Open the store at a location: `memory:`, the path of a directory, `postgresql://…`, or one whose scheme a package
    has registered (docs/stores.md).

    With `create` a missing directory store is made. A store that is open for reading only
    changes nothing on disk: it takes no lease and makes no file.

    Raises StoreNotFound, StoreLeased, StoreUnavailable, UnsupportedFormat, UnsupportedPlatform, InvalidConfiguration.
    """
    if location == "memory:":
        from waypost.store.memory import MemoryStore

        return MemoryStore(config)
    if location.partition("://")[0].lower() in ("postgresql", "postgres") and "://" in location:
        return _open_postgres(location, config, create=create, read_only=read_only)
    if (opens := schemes.opener(location)) is not None:
        return opens(location, config, create=create, read_only=read_only)
    from waypost.store.directory import DirectoryStore

    return DirectoryStore.open(location, config, create=create, read_only=read_only)


def place_of(store: Store) -> object:
    """What tells an open store from others within this process: a directory is the same by whatever path it was opened,
    be it by a link or a mount.
    """
    if store.durability == "none":
        return id(store)
    if "://" in store.location:
        return store.location
    from waypost.store.directory import DirectoryStore

    return store.place if isinstance(store, DirectoryStore) else store.location


def _open_postgres(location: str, config: Config, *, create: bool, read_only: bool) -> Store:
    try:
        from waypost.store.postgres import PostgresStore
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "psycopg":
            raise
        raise UnsupportedPlatform(
            "a PostgreSQL store needs the package psycopg: pip install 'waypost[postgres]'"
        ) from error
    except ImportError as error:  # psycopg is there, and finds no libpq
        raise UnsupportedPlatform(f"psycopg cannot be loaded ({error}): pip install 'waypost[postgres]'") from error
    return PostgresStore.open(location, config, create=create, read_only=read_only)


def export_version(version: View, name: str, compression: CompressionConfig) -> bytes:
    """A version as it is exported, as the checkpoint of that name. Raises DocumentDamaged."""
    from waypost.store.directory import exported

    return exported.write(version, name, compression)


def owner_of_export(data: bytes) -> tuple[DocumentId, str]:
    """The document and the name of the checkpoint that an export is of, by its beginning. Raises as `read_export`."""
    from waypost.store.directory import exported

    return exported.owner(data)


def read_export(data: bytes, limit_bytes: int) -> View:
    """The version that an export holds, every byte of it checked.

    Raises InvalidInput, UnsupportedFormat, DocumentTooLarge beyond `limit_bytes`, DocumentDamaged.
    """
    from waypost.store.directory import exported

    return exported.read(data, limit_bytes)


def write_bundle(
    put: Callable[[bytes], object], session_id: str, documents: Iterator[Whole], compression: CompressionConfig
) -> Written:
    """Write a session and its workflows as a bundle, handed to `put` piece by piece."""
    from waypost.store.directory import bundle

    return bundle.write(put, session_id, documents, compression)


def read_bundle(read: Callable[[int, int], bytes], length: int, progress: Progress, limit_bytes: int) -> Bundle:
    """What a bundle holds, of which `read(length, offset)` gives the bytes; no piece of it may unpack to more than
    `limit_bytes`.

    Raises InvalidInput, UnsupportedFormat, DocumentTooLarge, DocumentDamaged.
    """
    from waypost.store.directory import bundle

    return bundle.read(bundle.Handed(read, length), progress, limit_bytes)
