"""A workflow as plain data, for the steps of a migration: part by part, and by name where that is what is meant.

    document["step␟fetch"]                     any part, decoded: lists, texts, numbers (docs/format.md, section 8)
    document.variables["rows"]                 the context: also `configuration` and `features`
    document.outputs["fetch", 2]               the value of one version of an output

Invariants:

* No object of an application is built: what was registered with `register_type` is an `Unregistered` here.
* A change made in place counts: what was handed out is encoded again and held against what it was.
* What was only looked at keeps its bytes.
* What was erased is not there, though an older version lists its part. It may be written anew.
* Secrets are as they are sealed, bytes that may be removed and are otherwise left as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from hashlib import sha256
from typing import Any, NamedTuple, cast

from waypost import records
from waypost.codec import values
from waypost.errors import InvalidInput
from waypost.store import View

_INLINE_BYTES = 64 * 1024
"""Up to this size the value of an output stands in the output's own part."""

_SIZE, _CHECKSUM, _VALUE, _NAME = 3, 4, 6, 7


class Changes(NamedTuple):
    """The parts that a migration puts and removes."""

    puts: dict[str, bytes]
    removed: set[str]


class MigratingDocument(MutableMapping[str, Any]):
    """A workflow that is being migrated: its parts by their keys, as plain data that may be changed in place."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._held: dict[str, Any] = {}
        self._seen: dict[str, bytes] = {}
        self._removed: set[str] = set()
        self.outputs = MigratingOutputs(self)
        self.variables = MigratingGroup(self, records.VARIABLE)
        self.configuration = MigratingGroup(self, records.CONFIGURATION)
        self.features = MigratingGroup(self, records.FEATURE)

    @property
    def workflow_id(self) -> str:
        return self._view.document.id

    def __getitem__(self, key: str) -> Any:
        if key in self._held:
            return self._held[key]
        data = None if key in self._removed else self._view.get(key)
        if data is None:
            raise KeyError(key)
        is_sealed = key.startswith(records.SECRET)
        found = self._held[key] = data if is_sealed else values.decode(data, inert=True)
        self._seen[key] = data if is_sealed else values.encode(found)
        return found

    def __setitem__(self, key: str, value: Any) -> None:
        self._held[key] = value
        self._removed.discard(key)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self._held.pop(key, None)
        self._removed.add(key)

    def __contains__(self, key: object) -> bool:
        if key in self._held:
            return True
        return isinstance(key, str) and key not in self._removed and self._is_stored(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names(""))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def names(self, prefix: str) -> list[str]:
        """What stands behind a prefix, sorted."""
        stored = self._view.keys(prefix)
        kept = {key for key in stored if key not in self._removed and self._view.erased(key) is None}
        kept.update(key for key in self._held if key.startswith(prefix))
        return sorted(key[len(prefix) :] for key in kept)

    def changes(self) -> Changes:
        """What differs from the stored workflow. Raises InvalidValue, which names the part."""
        self.outputs.settle()
        puts: dict[str, bytes] = {}
        for key, value in self._held.items():
            data = self._sealed(key, value) if key.startswith(records.SECRET) else values.encode(value, _path(key))
            if data != self._seen.get(key) and not (self._is_stored(key) and data == self._view.get(key)):
                puts[key] = data
        return Changes(puts, {key for key in self._removed if self._is_stored(key)})

    def _is_stored(self, key: str) -> bool:
        return self._view.size_of(key) is not None and self._view.erased(key) is None

    def _sealed(self, key: str, value: Any) -> bytes:
        if type(value) is not bytes or not self._is_stored(key) or value != self._view.get(key):
            raise InvalidInput(f"{_path(key)} is sealed: a migration may remove a secret, and not write one")
        return value


def _path(key: str) -> str:
    return key.replace(records.SEPARATOR, ".")


class MigratingGroup(MutableMapping[str, Any]):
    """The values of one kind by their names: variables, configuration or features."""

    def __init__(self, document: MigratingDocument, prefix: str) -> None:
        self._document = document
        self._prefix = prefix

    def __getitem__(self, name: str) -> Any:
        try:
            return self._document[self._prefix + name]
        except KeyError:
            raise KeyError(name) from None

    def __setitem__(self, name: str, value: Any) -> None:
        self._document[self._prefix + records.validate_id(name, "name")] = value

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        del self._document[self._prefix + name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._prefix + name in self._document

    def __iter__(self) -> Iterator[str]:
        return iter(self._document.names(self._prefix))

    def __len__(self) -> int:
        return len(self._document.names(self._prefix))


class MigratingOutputs(Mapping[tuple[str, int], Any]):
    """The values of outputs by step and version. One may be replaced, and keeps its version, agent and time; size and
    checksum follow.
    """

    def __init__(self, document: MigratingDocument) -> None:
        self._document = document
        self._held: dict[tuple[str, int], Any] = {}
        self._seen: dict[tuple[str, int], bytes] = {}

    def __getitem__(self, key: tuple[str, int]) -> Any:
        if key not in self._held:
            data = self._stored(key)
            self._held[key] = values.decode(data, inert=True)
            self._seen[key] = data
        return self._held[key]

    def __setitem__(self, key: tuple[str, int], value: Any) -> None:
        if key not in self._seen:
            self._seen[key] = self._stored(key)
        self._held[key] = value

    def _record(self, key: tuple[str, int]) -> list[Any]:
        try:
            return self._document[records.output_key(*key)]
        except KeyError:
            raise KeyError(key) from None

    def _stored(self, key: tuple[str, int]) -> bytes:
        row = self._record(key)
        found = row[_VALUE]
        # bytes as they were handed in, so that what was only looked at does not change
        return cast("bytes", found) if found is not None else values.encode(self._document[_value_key(key, row)])

    def __iter__(self) -> Iterator[tuple[str, int]]:
        for name in self._document.names(records.OUTPUT):
            step_id, _, version = name.rpartition(records.SEPARATOR)
            yield step_id, int(version)

    def __len__(self) -> int:
        return len(self._document.names(records.OUTPUT))

    def settle(self) -> None:
        """Put what was changed into the parts that it belongs to. Raises InvalidValue."""
        for key, value in self._held.items():
            data = values.encode(value, f"outputs.{key[0]}[{key[1]}]")
            if data != self._seen[key]:
                self._put(key, value, data)
                self._seen[key] = data

    def _put(self, key: tuple[str, int], value: Any, data: bytes) -> None:
        if records.output_key(*key) not in self._document:
            raise InvalidInput(f"version {key[1]} of the output of step {key[0]!r} was changed and removed")
        row = self._record(key)
        is_apart = row[_VALUE] is None or len(data) > _INLINE_BYTES
        self._forget_name(key, row)
        row[_SIZE], row[_CHECKSUM], row[_VALUE] = len(data), sha256(data).hexdigest(), None if is_apart else data
        if is_apart:
            self._document[records.value_key(*key)] = value

    def _forget_name(self, key: tuple[str, int], row: list[Any]) -> None:
        """Remove the part of a value that came as a file: what takes its place is named after its version."""
        named = _value_key(key, row)
        if named != records.value_key(*key):
            self._document.pop(named, None)
            row[_NAME] = None


def _value_key(key: tuple[str, int], row: list[Any]) -> str:
    """The part that an output's value is in when it is not in the output's own."""
    return records.value_key(*key, name=row[_NAME] if len(row) > _NAME else None)
