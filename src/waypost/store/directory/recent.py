"""What the last commits laid over, so that a version of a moment ago is at hand without reading its frames again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from waypost.codec.bodies import Extent, Part
from waypost.codec.frame import Standing

_MOST_COMMITS = 256
_MOST_BYTES = 1 << 20


class Base(Protocol):
    """What parts stand in that no commit has laid over since."""

    def get(self, key: str) -> Part | None: ...


class _Laid(NamedTuple):
    """A commit: the version that it made, and what was there before; the base where that is as it stands in it."""

    standing: Standing
    compressed: bool
    before: dict[str, Part | Base | None]
    bytes: int


class Later(NamedTuple):
    """What a commit and those before it, back to some version, touched: the rest is in both versions the same."""

    commit_id: bytes
    touched: set[str]


class Earlier(NamedTuple):
    """An earlier version, as what differs from the base that the newest one stands on."""

    overlay: dict[str, Part | None]
    standing: Standing
    compressed: bool
    later: Later


class Recent:
    """The last commits of a document, one behind the other. They hold only so many, and only so many bytes of parts."""

    def __init__(self) -> None:
        self._laid: deque[_Laid] = deque()
        self._bytes = 0

    def note(
        self,
        overlay: Mapping[str, Part | None],
        base: Base,
        touched: Iterable[str],
        standing: Standing,
        compressed: bool,
    ) -> None:
        """Before a commit is laid over: keep what is there now under the keys that it touches."""
        before = {key: overlay.get(key, base) for key in touched}
        size = sum(len(part) for part in before.values() if isinstance(part, bytes))
        self._laid.append(_Laid(standing, compressed, before, size))
        self._bytes += size
        while len(self._laid) > _MOST_COMMITS or self._bytes > _MOST_BYTES:
            self._bytes -= self._laid.popleft().bytes

    def forget(self) -> None:
        """Begin anew: there is no way back behind this."""
        self._laid.clear()
        self._bytes = 0

    def touched(self) -> Iterator[str]:
        """The keys that these commits touched; some more than once."""
        for laid in self._laid:
            yield from laid.before

    def touched_since(self, version: int) -> set[str] | None:
        """The keys that the commits behind one of these versions touched; None where it is none of them."""
        touched = set[str]()
        for laid in reversed(self._laid):
            if laid.standing.version == version:
                return touched
            touched.update(laid.before)
        return None

    def version_touching(self, key: str) -> int | None:
        """The last of these versions whose commit touched a part; None where none did."""
        return next((laid.standing.version for laid in reversed(self._laid) if key in laid.before), None)

    def earlier(self, overlay: Mapping[str, Part | None], base: Base, version: int) -> Earlier | None:
        """One of these versions, by taking back what was laid over since; None where it is none of them."""
        if not self._laid or not self._laid[0].standing.version <= version <= self._laid[-1].standing.version:
            return None
        found, touched = dict(overlay), set[str]()
        for laid in reversed(self._laid):
            if laid.standing.version == version:
                return Earlier(found, laid.standing, laid.compressed, Later(self._laid[-1].standing.commit_id, touched))
            touched.update(laid.before)
            for key, part in laid.before.items():
                if part is base:
                    found.pop(key, None)
                elif part is None or isinstance(part, bytes | Extent):
                    found[key] = part
                else:
                    found[key] = part.get(key)
        return None
