"""A secret that can be recognized wherever it turns up: what it looks like in other writings, and who has seen what."""

from __future__ import annotations

import io
import logging
import pprint
import traceback
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import rich.console
import rich.pretty

from tests.files import contents
from waypost.errors import WaypostError
from waypost.operations import Failure

CANARY = "canary-5b1f9c02"
KEY = "7a1d" * 16
OLD_KEY = "9e42" * 16
SECRETS: dict[str, Any] = {
    "token": CANARY,
    "deep": {CANARY: [CANARY.encode(), (CANARY, {CANARY})], "n": 1},
    "large": CANARY * 20_000,  # longer than what is cut into chunks
}
CONTROL = "this-may-be-seen"
"""Stands in the same workflow in clear, so that a search which finds nothing is known to be able to find."""


def writings(data: bytes) -> set[bytes]:
    """How bytes look in hex, in both alphabets of base64 wherever they begin, as a repr, and in UTF-16."""
    found = {data, data.hex().encode(), data.hex().upper().encode(), repr(data)[2:-1].encode()}
    for before in range(3):
        for write in (b64encode, urlsafe_b64encode):
            # the first and last characters also depend on what stands beside it
            found.add(write(b"\0" * before + data)[4 if before else 0 :][: len(data) * 4 // 3 - 6])
    return found | ({data.decode().encode("utf-16-le")} if data.isascii() else set())


def forbidden() -> set[bytes]:
    keys = [bytes.fromhex(each) for each in (KEY, OLD_KEY)]
    return writings(CANARY.encode()).union(*(writings(each) for each in keys))


class Watch:
    """Everything that was shown, logged, raised or written; `check` searches all of it."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, bytes]] = []
        self.carried: list[tuple[str, bytes]] = []
        """Bytes in which sealed ones may stand."""
        self.sealed: set[bytes] = set()
        """Sealed bytes, which may stand in files, and are nothing to be shown."""

    def text(self, where: str, text: str | bytes) -> None:
        self.shown.append((where, text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")))

    def value(self, where: str, value: Any) -> None:
        """What a value looks like when somebody prints it, by any of the usual ways."""
        if isinstance(value, Failure):
            self.error(where, value.error)
        console = rich.console.Console(file=io.StringIO(), width=200)
        console.print(rich.pretty.Pretty(value, max_depth=8))
        printed: Any = console.file
        for text in (repr(value), str(value), pprint.pformat(value), printed.getvalue()):
            self.text(where, text)

    def error(self, where: str, error: BaseException) -> None:
        """An error, all that hangs on it, and how it is printed."""
        self.text(where, "".join(traceback.format_exception(error)))
        seen: list[BaseException] = [error]
        while seen:
            one = seen.pop()
            self.text(where, f"{one} {one!r} {one.args!r}")
            if isinstance(one, WaypostError):
                self.text(where, msgspec.json.encode(one.details, enc_hook=repr))
            seen += [each for each in (one.__cause__, one.__context__) if each is not None]

    def records(self, given: Iterable[logging.LogRecord]) -> None:
        for record in given:
            self.text(f"log of {record.name}", f"{record.getMessage()} {record.__dict__!r}")
            if record.exc_info and record.exc_info[1] is not None:
                self.error(f"log of {record.name}", record.exc_info[1])

    def check(self) -> None:
        """Nothing that was shown holds the secret, the key, or sealed bytes."""
        words = forbidden()
        sealed = set[bytes]().union(*(writings(each[12:44]) for each in self.sealed))
        found = {where for where, text in [*self.shown, *self.carried] for word in words if word in text}
        found |= {f"{where} (sealed)" for where, text in self.shown for word in sealed if word in text}
        assert not found, f"a secret is in {', '.join(sorted(found))}"
        assert self.shown


def check_files(*roots: Path) -> int:
    """No file below a directory holds the secret or the key, nor does any name; how many files there were."""
    words = forbidden()
    files = contents(*roots)
    seen = False
    for file, data in files.items():
        assert not any(word in data + str(file).encode() for word in words), f"a secret is in {file}"
        seen = seen or CONTROL.encode() in data
    assert seen, "the files hold nothing in clear, so the search proves nothing"
    return len(files)
