"""Versions of what a workflow holds, and the registered steps that lead from one to the next.

A workflow carries a version of Waypost's own schema (how its parts are laid out), and beside it one for each
application that has registered steps (what it keeps in outputs and context). The two never meet: a program that knows
nothing of an application reads its workflows whatever their version of it is.

Invariants:

* A version is three numbers. A step leads to a higher one, and one step at most leads on from a version, so there is
  one way from a version to the newest, and none in a circle.
* What is malformed or newer than what is known here is refused, never guessed at.
* A workflow without a version of an application stands at the beginning of that application's steps.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from waypost.errors import InvalidConfiguration, MigrationFailed, UnsupportedFormat

SCHEMA_VERSION = "1.0.0"
"""How this release lays a workflow out (docs/format.md, section 8)."""

_VERSION = re.compile(r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})")
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


def parse(version: object) -> tuple[int, ...] | None:
    """The numbers of a version; None for what is none."""
    found = _VERSION.fullmatch(version) if isinstance(version, str) else None
    return None if found is None else tuple(map(int, found.groups()))


class Step(NamedTuple):
    """A registered step. Without `application` it is one of Waypost's own schema."""

    application: str | None
    from_version: str
    to_version: str
    upgrade: Callable[[Any], object]
    downgrade: Callable[[Any], object] | None
    validate: Callable[[Any], object] | None

    def __str__(self) -> str:
        return f"{_of(self.application)}{self.from_version} to {self.to_version}"


def _of(application: str | None) -> str:
    return "" if application is None else f"{application} "


_lock = threading.Lock()
_steps: dict[str | None, dict[str, Step]] = {}
_newest: dict[str, str] = {}
"""For each application the newest version that its steps lead to."""


# --- registering ---


def register_migration(
    from_version: str,
    to_version: str,
    upgrade: Callable[[Any], object],
    downgrade: Callable[[Any], object] | None = None,
    validate: Callable[[Any], object] | None = None,
    *,
    application: str | None = None,
) -> None:
    """Register a step that brings workflows from one version to a higher one.

    `upgrade` and `downgrade` get a `MigratingDocument` and change it in place; they may run more than once, and nothing
    is stored before all steps are done. `validate` gets it at `to_version`, and refuses it by raising or by returning
    False. With `application` the versions are that application's own, kept beside Waypost's: a workflow that has none
    yet stands at the lowest version that a step leads on from. The same registration again does nothing.

    Raises InvalidConfiguration when a version is not three numbers, when `to_version` is not higher, when another step
    leads on from the same version, and for versions of Waypost's own schema that this release does not know.
    """
    step = Step(application, from_version, to_version, upgrade, downgrade, validate)
    _check(step)
    with _lock:
        known = _steps.setdefault(application, {})
        if known.get(from_version, step) != step:
            raise InvalidConfiguration(
                f"two migrations lead on from {_of(application)}{from_version}: "
                f"{known[from_version]} is registered, and {step} cannot be"
            )
        known[from_version] = step
        _note(application)


def unregister_migration(from_version: str, *, application: str | None = None) -> None:
    """Forget the step that leads on from a version. Raises InvalidConfiguration where there is none."""
    with _lock:
        if _steps.get(application, {}).pop(from_version, None) is None:
            raise InvalidConfiguration(f"no migration leads on from {_of(application)}{from_version!r:.80}")
        _note(application)


def _note(application: str | None) -> None:
    known = _steps[application]
    if not known:
        del _steps[application]
    if application is not None:
        _newest.pop(application, None)
        if known:
            _newest[application] = max((step.to_version for step in known.values()), key=_numbers)


def _numbers(version: str) -> tuple[int, ...]:
    return parse(version) or ()


def _check(step: Step) -> None:
    numbers = [parse(step.from_version), parse(step.to_version)]
    for version, found in zip((step.from_version, step.to_version), numbers, strict=True):
        if found is None:
            raise InvalidConfiguration(f"{version!r:.80} is no version: it is three numbers, such as 1.0.0")
    if _numbers(step.to_version) <= _numbers(step.from_version):
        raise InvalidConfiguration(
            f"a migration leads to a higher version, and {step} does not: the way back is its `downgrade`"
        )
    if step.application is None and _numbers(step.to_version) > _numbers(SCHEMA_VERSION):
        raise InvalidConfiguration(
            f"{step.to_version} is newer than the schema of this release ({SCHEMA_VERSION}); "
            "the versions of an application are registered with application="
        )
    if step.application is not None and not _NAME.fullmatch(step.application):
        raise InvalidConfiguration(f"the name {step.application!r:.80} does not match {_NAME.pattern}")
    for name in ("upgrade", "downgrade", "validate"):
        given = getattr(step, name)
        if not callable(given) and (given is not None or name == "upgrade"):
            raise InvalidConfiguration(f"the {name} of {step} has to be a function")


# --- asking ---


def is_current(schema_version: str, applications: Mapping[str, str]) -> bool:
    """Whether a workflow of these versions needs no migration."""
    return schema_version == SCHEMA_VERSION and (
        not _newest or all(applications.get(name) == newest for name, newest in list(_newest.items()))
    )


def newest(application: str | None) -> str:
    """The highest version that is known here. Raises InvalidConfiguration for an application without steps."""
    if application is None:
        return SCHEMA_VERSION
    found = _newest.get(application)
    if found is None:
        raise InvalidConfiguration(f"no migration of an application {application!r:.80} is registered")
    return found


def newest_applications() -> dict[str, str]:
    """The newest version of each application that has registered steps, sorted by name."""
    return dict(sorted(_newest.items()))


def targets() -> dict[str | None, str]:
    """Where migrating leads unless it is told: the newest version of everything."""
    return {None: SCHEMA_VERSION, **newest_applications()}


def check_target(application: str | None, version: str) -> None:
    """Raise InvalidConfiguration for a version that no registered step leads to or from."""
    newest_known = newest(application)
    with _lock:
        steps = list(_steps.get(application, {}).values())
    known = {newest_known, *(step.from_version for step in steps), *(step.to_version for step in steps)}
    if version not in known:
        there = ", ".join(sorted(known, key=_numbers))
        raise InvalidConfiguration(f"no migration leads to {_of(application)}{version!r:.80}: there are {there}")


class Versions(NamedTuple):
    """What a workflow says of its versions; as it stands there, so nothing is certain of it."""

    schema: object
    applications: Mapping[object, object]

    @classmethod
    def of(cls, schema: object, applications: object) -> Versions:
        is_mapping = isinstance(applications, Mapping)
        return cls(schema, cast("Mapping[object, object]", applications) if is_mapping else {})

    def get(self, application: str | None) -> object:
        """The version of the schema, or of an application; without one that is the lowest of its steps."""
        if application is None:
            return self.schema
        with _lock:
            lowest = min(_steps.get(application, {}), key=_numbers, default=None)
        return self.applications.get(application, lowest)

    def stored(self, application: str | None) -> object:
        """The version as it stands there; None where there is none."""
        return self.schema if application is None else self.applications.get(application)

    def refuse_unknown(self, named: str) -> None:
        """Raise UnsupportedFormat for what is malformed, or newer than what is known here. `named` is the workflow."""
        for application in targets():
            version, known = self.get(application), newest(application)
            found, whose = parse(version), "schema version" if application is None else f"version of {application!r}"
            if found is None:
                said = f"has no {whose}" if version is None else f"has {version!r:.80} for its {whose}"
                raise UnsupportedFormat(f"{named} {said}: that is three numbers, such as {known}", found=str(version))
            if found > _numbers(known):
                knows = "this release of waypost knows" if application is None else "the registered migrations know"
                raise UnsupportedFormat(
                    f"{named} is of {whose} {version}, which is newer than what {knows} ({known})",
                    found=str(version),
                    known=known,
                )


def path(named: str, application: str | None, version: str, target: str) -> list[Step]:
    """The steps between two versions, in the order in which they are taken: back, when `target` is the lower one.

    Raises MigrationFailed where one is missing.
    """
    low, high = sorted((version, target), key=_numbers)
    with _lock:
        known = dict(_steps.get(application, {}))
    found: list[Step] = []
    at = low
    while at != high:
        step = known.get(at)
        if step is None or _numbers(step.to_version) > _numbers(high):
            reason = f"no registered migration leads on from {_of(application)}{at}"
            if step is not None:
                reason = f"the migration from {_of(application)}{at} leads to {step.to_version}, past {high}"
            raise MigrationFailed(
                f"{named} cannot be brought from {_of(application)}{version} to {target}: {reason}",
                from_version=version,
                to_version=target,
                application=application,
                reason=reason,
            )
        found.append(step)
        at = step.to_version
    return found if low == version else found[::-1]


def validator(application: str | None, version: str) -> Callable[[Any], object] | None:
    """What checks a workflow that went back to a version: the `validate` of the step that leads to it."""
    with _lock:
        for step in _steps.get(application, {}).values():
            if step.to_version == version:
                return step.validate
    return None
