"""Shows the operations of both faces in the reference.

The faces take their methods from `definitions` when Waypost is imported, and the reference is made without importing
what it describes. So this looks up, for each `name = _waits(Definitions.name)`, what is defined there, and puts it in
its place as a method that gives what its request gives. Beside that, a docstring's `docs/x.md` becomes a link.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe

_FACES = {"_waits": "blocking.Waypost", "_awaits": "api.AsyncWaypost"}
_TAKEN = re.compile(r"(_waits|_awaits)\((?:(Definitions|transactions)\.)?(\w+)\)")
_PAGE = re.compile(r"\bdocs/([\w-]+\.md)")


class Faces(griffe.Extension):
    """The extension that mkdocstrings loads."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Complete the package once all of it was read."""
        if pkg.name != "waypost":
            return
        for path in _FACES.values():
            face = pkg[path]
            for internal in ("__init__", "definitions"):  # a face is made by opening a store, and not by what is in it
                face.del_member(internal)
            for member in list(face.members.values()):
                found = _TAKEN.fullmatch(str(member.value)) if member.is_attribute else None
                if found is not None:
                    method = _method(_defined(pkg, found[2], found[3]), found[1] == "_awaits")
                    method.lineno = member.lineno  # by which members are sorted
                    face.set_member(member.name, method)
        for each in _all(pkg):
            if each.is_attribute and "property" not in each.labels:
                each.labels.clear()  # which say of a field that it is one
            if each.docstring is not None:
                each.docstring.value = _PAGE.sub(r"[docs/\1](../\1)", each.docstring.value)


def _defined(pkg: griffe.Module, place: str | None, name: str) -> griffe.Function:
    if place == "Definitions":
        member = pkg["definitions.Definitions"].all_members[name]
        return member.final_target if member.is_alias else member
    return pkg["transactions" if place else "hooks.operation"][name]


def _method(defined: griffe.Function, awaited: bool) -> griffe.Function:
    given = defined.returns
    if not (isinstance(given, griffe.ExprSubscript) and str(given.left) == "Request"):
        raise ValueError(f"{defined.path} gives {given}, and no request")
    method = griffe.Function(
        defined.name,
        parameters=griffe.Parameters(*list(defined.parameters)[1:]),
        returns=given.slice,
        docstring=None if defined.docstring is None else griffe.Docstring(defined.docstring.value),
    )
    if awaited:
        method.labels.add("async")
    return method


def _all(thing: griffe.Object) -> Iterator[griffe.Object]:
    yield thing
    for member in thing.members.values():
        if not member.is_alias:
            yield from _all(member)
