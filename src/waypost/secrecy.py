"""The secrets of a workflow: values that are sealed before a transaction sees them, each a part of its own.

Invariants:

* What is sealed is bound to the name of its secret, and to nothing else: see docs/secrets.md.
* A secret that has the value already is not written again; plain values are compared, by whoever has the key.
* No error, repr or chain of errors holds anything of a secret's value, nor the path within it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from waypost import records, sealing
from waypost.codec import values
from waypost.errors import (
    DocumentDamaged,
    InvalidConfiguration,
    InvalidInput,
    InvalidValue,
    KeyMissing,
    SealBroken,
    SecretsNotSealed,
    WaypostError,
)
from waypost.keys import Keys, how_to_give_one
from waypost.records import SECRET
from waypost.store import Transaction, View

_LABEL = b"waypost secret\0"

FindKeys = Callable[[], Keys]


class NewSecret:
    """A secret that is to be stored, sealed."""

    __slots__ = ("_keys", "_name", "_plain", "sealed")

    def __init__(self, name: str, plain: bytes, keys: Keys) -> None:
        self._name = name
        self._plain = plain
        self._keys = keys
        self.sealed = sealing.seal(plain, keys, _associated(name))

    def is_in(self, view: View) -> bool:
        """Whether a version has this secret with this value."""
        data = view.get(SECRET + self._name)
        try:
            return data is not None and _opened(self._name, data, self._keys) == self._plain
        except (KeyMissing, SealBroken):
            return False  # then it is put in the place of what nobody here can open

    def put(self, tx: Transaction) -> None:
        if not self.is_in(tx):
            tx.put(SECRET + self._name, self.sealed)

    def __repr__(self) -> str:
        return f"<secret {self._name!r}>"


def prepare(given: object, find: FindKeys) -> list[NewSecret]:
    """Seal what a caller gave. Raises InvalidId, InvalidInput, InvalidValue, SecretsNotSealed."""
    if not isinstance(given, Mapping):
        raise InvalidInput(f"context.secrets is a dictionary, not {type(given).__name__}")
    secrets = cast("Mapping[object, Any]", given)
    return [prepare_one(name, secrets[name], find) for name in secrets]


def prepare_one(name: object, value: Any, find: FindKeys) -> NewSecret:
    """As `prepare`, of one secret."""
    checked = records.validate_id(name, "name of a secret")
    keys = find()
    if not len(keys):
        raise SecretsNotSealed(
            f"secrets are not stored in clear, and there is no key to seal {checked!r} with: {how_to_give_one()}",
            name=checked,
        )
    return NewSecret(checked, _encoded(checked, value), keys)


def _encoded(name: str, value: Any) -> bytes:
    try:
        return values.encode(value)
    except InvalidValue as error:
        why = error.reason
    # raised out here, so that neither the path within the secret nor what a caller's type raised hangs on it
    path = f"context.secrets.{name}"
    raise InvalidValue(f"{path}: {why}", path=path, reason=why)


def read(name: str, data: bytes, find: FindKeys) -> Any:
    """The value of a secret. Raises KeyMissing, SealBroken, InvalidValue, and what its codec raises."""
    plain = _opened(name, data, find())
    try:
        return values.decode(plain)
    except WaypostError as error:
        kind, said = type(error), str(error)
    if issubclass(kind, DocumentDamaged):
        said = "what was sealed is no value"
    raise kind(f"context.secrets.{name}: {said}")


def is_same(key: str, one: View, other: View, find: FindKeys) -> bool:
    """Whether two versions have the same secret, which each sealed on its own; not so where that cannot be told."""
    name, sealed = key.removeprefix(SECRET), [view.get(key) for view in (one, other)]
    try:
        found = [_opened(name, data, find()) for data in sealed if data is not None]
    except (KeyMissing, SealBroken, InvalidConfiguration):
        return False
    return len(found) == len(sealed) and found[0] == found[1]


def reseal(name: str, data: bytes, keys: Keys) -> bytes:
    """The same secret under the current key. Raises KeyMissing, SealBroken."""
    return sealing.seal(_opened(name, data, keys), keys, _associated(name))


def _opened(name: str, data: bytes, keys: Keys) -> bytes:
    try:
        return sealing.open_sealed(data, keys, _associated(name))
    except (KeyMissing, SealBroken) as error:
        raise type(error)(f"secret {name!r}: {error}", name=name, **error.details) from None


def _associated(name: str) -> bytes:
    return _LABEL + name.encode()
