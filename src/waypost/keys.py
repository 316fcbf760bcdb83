"""Keys that seal and open what is secret: where they come from, and how each is told from others.

A key is 32 random bytes, written as 64 hex digits or in base64. A source may give several, parted by blanks or lines;
in a key file a line that begins with `#` says nothing. Sources, in this order:

1. `$WAYPOST_KEY`
2. the file that `security.key_file` names, which nobody else may read
3. the system's keyring, under the service that `security.keyring` names, user `waypost`

Invariants:

* The first key of the first source that has any seals; all others only open, so that keys can be replaced.
* A key's id is derived from the key, so nobody has to name keys, and the id tells nothing of the key.
* No key is in a repr, an error, a pickle or an argument of a process.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as BinasciiError
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from importlib import import_module
from typing import Any, NoReturn

from waypost.errors import InvalidConfiguration, KeyMissing
from waypost.options import Config

KEY_VARIABLE = "WAYPOST_KEY"
KEYRING_USER = "waypost"
KEY_BYTES = 32
ID_BYTES = 8

_LABEL = b"waypost key id 1\0"
_MOST_FILE_BYTES = 64 << 10
_HEX = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{43}=?", re.ASCII)
_MAKE_ONE = "`waypost secret new-key` makes one"


class Key:
    """One key. Its bytes are for the cipher alone."""

    __slots__ = ("_data", "cipher", "id")

    def __init__(self, data: bytes) -> None:
        if len(data) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes")
        self._data = data
        self.id = sha256(_LABEL + data).digest()[:ID_BYTES].hex()
        self.cipher: Any = None
        """What `sealing` has made of it, so that it is made once."""

    def reveal(self) -> bytes:
        """The bytes of the key."""
        return self._data

    def __repr__(self) -> str:
        return f"<key {self.id}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled: it would stand somewhere in clear")


class Keys:
    """The keys that are at hand, the one that seals first."""

    __slots__ = ("_by_id", "_keys")

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._by_id: dict[str, Key] = {}
        for key in keys:
            self._by_id.setdefault(key.id, key)
        self._keys = list(self._by_id.values())

    @property
    def current(self) -> Key:
        """The key that seals. Raises KeyMissing where there is none."""
        if not self._keys:
            raise KeyMissing(f"there is no key to seal with: {how_to_give_one()}")
        return self._keys[0]

    def by_id(self, key_id: str) -> Key:
        """The key of an id. Raises KeyMissing."""
        found = self._by_id.get(key_id)
        if found is None:
            at_hand = f"at hand: {', '.join(self._by_id)}" if self._keys else "none is at hand"
            raise KeyMissing(
                f"this is sealed with the key {key_id}, and {at_hand}. Give that key too: {_sources()}", key_id=key_id
            )
        return found

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"<keys {', '.join(self._by_id) or 'none'}>"


def _sources() -> str:
    return f"in ${KEY_VARIABLE}, in the file that security.key_file names, or in the keyring (security.keyring)"


def how_to_give_one() -> str:
    """What to do where there is no key, for the end of a sentence."""
    return f"{_MAKE_ONE}, and it is given {_sources()}"


def new_key() -> str:
    """A new random key, as text."""
    return urlsafe_b64encode(os.urandom(KEY_BYTES)).decode().rstrip("=")


def parse(text: str, source: str) -> list[Key]:
    """The keys that a text holds, in its order. Raises InvalidConfiguration, which repeats none of it."""
    found: list[Key] = []
    for place, word in enumerate(text.split(), 1):
        data = _decoded(word)
        if data is None:
            raise InvalidConfiguration(
                f"the {_nth(place)} word of {source} is no key: a key is {KEY_BYTES} bytes as 64 hex digits or in "
                f"base64, and {_MAKE_ONE}",
                source=source,
            )
        found.append(Key(data))
    return found


def _decoded(word: str) -> bytes | None:
    if _HEX.fullmatch(word):
        return bytes.fromhex(word)
    if not _BASE64.fullmatch(word):
        return None
    try:
        return urlsafe_b64decode(word.replace("+", "-").replace("/", "_").rstrip("=") + "=")
    except BinasciiError:
        return None


def _nth(place: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(place, f"{place}th")


# --- where they come from ---


class KeyFinder:
    """Finds the keys when they are first needed, and keeps what it found; the environment counts as it is then."""

    __slots__ = ("_config", "_found", "_lock")

    def __init__(self, config: Config | None) -> None:
        self._config = config
        self._found: Keys | None = None
        self._lock = threading.Lock()

    def __call__(self) -> Keys:
        """The keys. Raises as `find_keys`."""
        with self._lock:  # a keyring may ask its user
            if self._found is None:
                found = find_keys(self._config)
                if not len(found):
                    return found  # one may be given yet
                self._found = found
            return self._found


def find_keys(config: Config | None, environment: Mapping[str, str] = os.environ) -> Keys:
    """The keys of all sources. Raises InvalidConfiguration for what is no key, or a file that others may read."""
    found = parse(environment.get(KEY_VARIABLE, ""), f"${KEY_VARIABLE}")
    security = None if config is None else config.security
    if security is None:
        return Keys(found)
    if security.key_file:
        path = os.path.expanduser(security.key_file)
        found += parse(without_comments(read_key_file(path)), path)
    if security.keyring:
        found += parse(_in_keyring(security.keyring), f"the keyring's {security.keyring!r}")
    return Keys(found)


def without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def read_key_file(path: str) -> str:
    """What a key file holds. Raises InvalidConfiguration where it cannot be read, or is not its owner's alone."""
    try:
        # a fifo must not be waited for
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        hint = f": `waypost secret new-key --file {path}` makes it" if isinstance(error, FileNotFoundError) else ""
        raise InvalidConfiguration(f"the key file {path} cannot be read: {error.strerror}{hint}", source=path) from None
    try:
        _check_is_private(path, os.fstat(descriptor))
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(_MOST_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidConfiguration(f"the key file {path} cannot be read: {error.strerror}", source=path) from None
    finally:
        os.close(descriptor)
    if len(data) > _MOST_FILE_BYTES or not data.isascii():
        raise InvalidConfiguration(f"the key file {path} is no text of at most {_MOST_FILE_BYTES:,} bytes", source=path)
    return data.decode("ascii")


def add_key(path: str) -> Key:
    """Put a new key first in a key file, which is made where there is none; the file is replaced as a whole.

    Raises InvalidConfiguration for a file that is none, or that others may open.
    """
    path = os.path.realpath(os.path.expanduser(path))
    made = f"{path}.{os.urandom(4).hex()}.new"
    text = new_key()
    try:
        with _alone_in(os.path.dirname(path)) as folder:
            before = read_key_file(path) if os.path.lexists(path) else ""
            parse(without_comments(before), path)
            _write_private(made, f"{text}\n{before}")
            os.replace(made, path)
            os.fsync(folder)  # what the new key seals must not be without it after a loss of power
    except OSError as error:
        why = error.strerror
    else:
        return parse(text, path)[0]
    _remove(made)
    raise InvalidConfiguration(f"the key file {path} cannot be written: {why}", source=path)


@contextmanager
def _alone_in(folder: str) -> Generator[int]:
    """Add a key while nobody else adds one there: of two that read the same file, one would replace the other's."""
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # not every file system has locks of directories
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _write_private(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)  # whatever the umask takes away
        with open(descriptor, "w", encoding="ascii", closefd=False) as file:
            file.write(text)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # it was not made, or has its name already


def _check_is_private(path: str, found: os.stat_result) -> None:
    """What is opened is looked at, and not a name that may lead elsewhere by then."""
    if not stat.S_ISREG(found.st_mode):
        raise InvalidConfiguration(f"the key file {path} is no regular file", source=path)
    if found.st_uid not in (0, os.geteuid()):
        raise InvalidConfiguration(f"the key file {path} belongs to another user ({found.st_uid})", source=path)
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise InvalidConfiguration(
            f"the key file {path} may be opened by others (mode {mode:04o}): chmod 600 it, and take its keys for known",
            source=path,
        )


def _in_keyring(service: str) -> str:
    try:
        keyring: Any = import_module("keyring")
    except ImportError:
        raise InvalidConfiguration("security.keyring needs the package keyring, which is not installed") from None
    try:
        found = keyring.get_password(service, KEYRING_USER)
    except Exception as error:  # it talks to whatever the system has, and raises what that raises
        why = type(error).__name__
    else:
        return found or ""
    raise InvalidConfiguration(f"the keyring cannot be asked for {service!r}: {why}", source="keyring")
