"""What is the same for everybody: the shell of the page, and its files, read once from the package."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import Response

PAGES = ("/", "/workflow", "/sessions", "/session", "/storage", "/performance")
"""The addresses of views: each is answered with the same shell, which reads the address itself."""

_KINDS = {
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "html": "text/html; charset=utf-8",
}
_CACHED = "no-cache"  # kept, and asked for again each time


class Fixed:
    """A file as it is sent, and the tag by which a browser sees that it has it already."""

    def __init__(self, data: bytes, kind: str) -> None:
        self._data = data
        self._kind = _KINDS[kind]
        self._tag = f'"{sha256(data).hexdigest()[:32]}"'

    def answer(self, known: str | None) -> Response:
        headers = {"etag": self._tag, "cache-control": _CACHED}
        if known is not None and self._tag in [each.strip() for each in known.split(",")]:
            return Response(status_code=304, headers=headers)
        return Response(self._data, headers={**headers, "content-type": self._kind})


def templates() -> Environment:
    """The templates of the package; what is filled in is escaped."""
    return Environment(loader=PackageLoader("waypost.web"), autoescape=True, undefined=StrictUndefined)


def shell() -> Fixed:
    """The page without data."""
    return Fixed(templates().get_template("shell.html").render().encode(), "html")


def static() -> dict[str, Fixed]:
    """The files of the page by their addresses."""
    return dict(_below(files("waypost.web") / "static", "/static"))


def _below(folder: Traversable, address: str) -> Iterator[tuple[str, Fixed]]:
    for each in sorted(folder.iterdir(), key=lambda one: one.name):
        kind = each.name.rpartition(".")[2]
        if each.is_dir():
            yield from _below(each, f"{address}/{each.name}")
        elif kind in _KINDS:
            yield f"{address}/{each.name}", Fixed(each.read_bytes(), kind)
