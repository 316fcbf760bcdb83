"""Options, their limits and the three presets; and where the state directory is.

Invariants: an option that is not known here is an error, wherever it was written; every value is of the kind and within
the range that its option takes, and the error names option, value, what is allowed and where it came from; what was
merged is frozen; importing this module reads nothing.

Sources, each overriding single options of those before it:

1. the preset: the one that code names, else `WAYPOST_PRESET`, else production
2. `[tool.waypost]` of the nearest `pyproject.toml`, from the working directory upwards: what the project wants
3. `waypost.toml` in the state directory: what this one store needs, such as a codec that every machine using it has
4. `WAYPOST_<SECTION>_<OPTION>`: what this run needs, for a person or a container that cannot edit files
5. what code gave: last, because the code that opens a store may rely on it for being correct (a program that promised
   its users power durability must not lose it to a variable that somebody exported), and code that wants to be
   overridden can leave the option out, while nothing could win one back from the environment

A whole `Config` given by code is taken as it is, and nothing else is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec
import msgspec.structs

from waypost import schemes
from waypost.defaults import LEVELS, OPTIONS, Value
from waypost.errors import InvalidConfiguration
from waypost.options import Config

if TYPE_CHECKING:
    from os import PathLike

_SECTIONS = tuple(dict.fromkeys(name[:end] for name in OPTIONS for end, letter in enumerate(name) if letter == "."))

_PREFIX = "WAYPOST_"
_PRESET_VARIABLE = "WAYPOST_PRESET"
_STATE_VARIABLE = "WAYPOST_STATE"
_VARIABLES: dict[str, str] = {_PREFIX + name.replace(".", "_").upper(): name for name in OPTIONS}
# variables of our prefix that are no options
_OTHER_VARIABLES = frozenset({_PRESET_VARIABLE, _STATE_VARIABLE, "WAYPOST_KEY", "WAYPOST_SPOOL"})


class Setting(NamedTuple):
    """One option: its value, and where that came from (a preset, the path of a file, a variable, or the argument)."""

    option: str
    value: Value
    source: str


class Loaded(NamedTuple):
    """A configuration, and the source of each of its options."""

    config: Config
    sources: Mapping[str, str]


def _build(values: Mapping[str, object]) -> Config:
    nested: dict[str, Any] = {}
    for option, value in values.items():
        *sections, name = option.split(".")
        table = nested
        for section in sections:
            table = table.setdefault(section, {})
        table[name] = value
    return msgspec.convert(nested, Config)


PRESETS: Final[Mapping[str, Config]] = MappingProxyType(
    {
        "development": _build({name: option.development for name, option in OPTIONS.items()}),
        "production": _build({name: option.production for name, option in OPTIONS.items()}),
        "high_throughput": _build({name: option.high_throughput for name, option in OPTIONS.items()}),
    }
)
"""Whole configurations by name."""


# --- loading ----------------------------------------------------------------------------------------------------------


def load(
    preset: str | None = None,
    config: Mapping[str, Mapping[str, object]] | Config | None = None,
    directory: str | PathLike[str] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Config:
    """The configuration merged of all sources, in the order that the module tells.

    `config` is nested, such as `{"compression": {"level": 3}}`, or a `Config`. `directory` is the state directory,
    which need not exist.

    Raises InvalidConfiguration.
    """
    return load_with_sources(preset, config, directory, environment).config


def load_with_sources(
    preset: str | None = None,
    config: Mapping[str, Mapping[str, object]] | Config | None = None,
    directory: str | PathLike[str] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Loaded:
    """As `load`, with the source of each option."""
    settings: dict[str, Setting] = {}
    if isinstance(config, Config):
        layers = [_of_nested(_tables(config), "argument")]
    else:
        layers = [
            _of_preset(preset, environment),
            _of_pyproject(),
            _of_directory(directory),
            _of_environment(environment),
            _of_nested({} if config is None else config, "argument"),
        ]
    for layer in layers:
        settings.update((setting.option, setting) for setting in layer)
    _check_level(settings)
    made = _build({option: setting.value for option, setting in settings.items()})
    return Loaded(made, {option: setting.source for option, setting in settings.items()})


def override(config: Config, options: Mapping[str, Mapping[str, object]]) -> Config:
    """A configuration with single options changed, which are nested. Raises InvalidConfiguration."""
    settings = [*_of_nested(_tables(config), "argument"), *_of_nested(options, "argument")]
    return _build({each.option: each.value for each in settings})


def describe(loaded: Loaded) -> list[Setting]:
    """Every option with its value and source, in the order of the sections: what `waypost store config` shows."""
    settings = _of_nested(_tables(loaded.config), "")
    return [each._replace(source=loaded.sources[each.option]) for each in settings]


def _tables(config: msgspec.Struct) -> dict[str, Any]:
    # nothing checks what a Config is constructed with, before this does
    given = msgspec.structs.asdict(config).items()
    return {name: _tables(each) if isinstance(each, msgspec.Struct) else each for name, each in given}


def _of_preset(preset: str | None, environment: Mapping[str, str]) -> Iterator[Setting]:
    source = "argument"
    if preset is None:
        preset, source = environment.get(_PRESET_VARIABLE) or "production", _PRESET_VARIABLE
    if preset not in PRESETS:
        raise _invalid("preset", preset, "one of " + ", ".join(PRESETS), source, _suggestion(preset, PRESETS))
    return _of_nested(_tables(PRESETS[preset]), f"preset {preset}")


def _of_nested(nested: object, source: str, section: str = "") -> Iterator[Setting]:
    """The settings of nested tables, each checked by itself."""
    for name, value in _table(section or "configuration", nested, source).items():
        option = f"{section}.{name}" if section else str(name)
        if option in _SECTIONS and "." not in str(name):
            yield from _of_nested(value, source, option)
        elif section and "." not in str(name):
            yield _setting(option, value, source)
        else:
            raise _unknown(option, source)


def _table(name: str, given: object, source: str) -> Mapping[Any, Any]:
    if not isinstance(given, Mapping):
        raise _invalid(name, given, "a table of options", source)
    return cast("Mapping[Any, Any]", given)


def _setting(option: str, value: Any, source: str) -> Setting:
    known = OPTIONS.get(option)
    if known is None:
        raise _unknown(option, source)
    if not known.taken.allows(value):
        raise _invalid(option, value, str(known.taken), source)
    return Setting(option, tuple(cast("list[str]", value)) if isinstance(value, list) else value, source)


def _check_level(settings: Mapping[str, Setting]) -> None:
    """The level's range depends on another option, which may come from another source: known after merging only."""
    algorithm, level = settings["compression.algorithm"], settings["compression.level"]
    taken = LEVELS[str(algorithm.value)]
    if not taken.allows(level.value):
        allowed = f"{taken} with {algorithm.value} (set by {algorithm.source})"
        raise _invalid(level.option, level.value, allowed, level.source)


def _of_environment(environment: Mapping[str, str]) -> Iterator[Setting]:
    for variable, text in environment.items():
        if not variable.startswith(_PREFIX) or variable in _OTHER_VARIABLES:
            continue
        option = _VARIABLES.get(variable)
        if option is None:
            known = [name.removeprefix(_PREFIX) for name in (*_VARIABLES, *_OTHER_VARIABLES)]
            hint = _suggestion(variable.removeprefix(_PREFIX), known, _PREFIX)
            raise InvalidConfiguration(f"unknown variable {variable}{hint}", option=variable, source=variable)
        if text:  # set to nothing is the shell's way to unset for one command
            yield _setting(option, OPTIONS[option].taken.parse(text), variable)


def _of_directory(directory: str | PathLike[str] | None) -> Iterator[Setting]:
    if directory is None:
        return iter(())
    path = os.path.join(directory, "waypost.toml")
    return _of_nested(_read_toml(path) if os.path.isfile(path) else {}, path)


def _of_pyproject() -> Iterator[Setting]:
    start = _working_directory()
    path = None if start is None else _upwards(start, "pyproject.toml", os.path.isfile)
    if path is None:
        return iter(())
    source = f"[tool.waypost] in {path}"
    tools = _table("tool", _read_toml(path, needle=b"waypost").get("tool", {}), source)
    return _of_nested(tools.get("waypost", {}), source)


def _read_toml(path: str, needle: bytes = b"") -> dict[str, Any]:
    """The tables of a file; none when the bytes of `needle` are not in it, which spares parsing what is not for us."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        return _parse_toml(data.decode()) if needle in data else {}
    except OSError as error:
        raise InvalidConfiguration(f"{path} cannot be read: {error.strerror}", source=path) from error
    except (ValueError, RecursionError) as error:
        raise InvalidConfiguration(f"{path} is not valid TOML: {error}", source=path) from error


@lru_cache(maxsize=4)
def _parse_toml(text: str) -> dict[str, Any]:
    """The tables of a text, which whoever reads them leaves as they are. A store that is opened anew finds the same
    text again, and parsing it takes longer than all else about its options.
    """
    import tomllib

    return tomllib.loads(text)


# --- what went wrong --------------------------------------------------------------------------------------------------


def _invalid(option: str, value: object, allowed: str, source: str, hint: str = "") -> InvalidConfiguration:
    shown = _shown(value)
    return InvalidConfiguration(
        f"{option} is {shown} ({source}), and takes {allowed}{hint}",
        option=option,
        value=shown,
        allowed=allowed,
        source=source,
    )


def _shown(value: object) -> str:
    try:
        shown = f'"{value}"' if isinstance(value, str) else repr(value)
    except Exception:  # an integer beyond the digits that Python writes, or an object of the caller's
        return f"<{type(value).__name__}>"
    return shown if len(shown) <= 80 else shown[:79] + "…"


def _unknown(option: str, source: str) -> InvalidConfiguration:
    nested = ": options stand in the table of their section"
    section, _, name = option.rpartition(".")
    if option in OPTIONS:
        hint = nested
    elif section in _SECTIONS:
        names = [each.removeprefix(f"{section}.") for each in OPTIONS if each.startswith(f"{section}.")]
        hint = _suggestion(name, names, f"{section}.") or f": {section} has {', '.join(names)}"
    else:
        hint = _suggestion(option, [*OPTIONS, *_SECTIONS])
    return InvalidConfiguration(f"unknown option {option:.80} ({source}){hint}", option=option, source=source)


def _suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    """`: did you mean ...?`, or nothing where no name is near; what stands before all of them makes none near."""
    from difflib import get_close_matches

    names = list(known)
    section, dot, last = name.rpartition(".")
    same_ending = [other for other in names if other.endswith(f".{last}") and other.startswith(section + dot)]
    nearest = (same_ending or get_close_matches(name, names, 1))[:1]
    return f": did you mean {prefix}{nearest[0]}?" if nearest else ""


# --- the location -----------------------------------------------------------------------------------------------------

_STATE = os.path.join(".claude", "state")
SERVERS = ("postgresql", "postgres")


def is_directory(location: str) -> bool:
    """Whether a location is the path of a directory."""
    if location == "memory:" or location.partition("://")[0].lower() in SERVERS:
        return False
    return not schemes.is_registered(location)


def find_location(
    argument: str | PathLike[str] | None = None,
    environment: Mapping[str, str] = os.environ,
    start: str | PathLike[str] | None = None,
) -> str:
    """Where the store is: `memory:`, the path of a directory, which need not exist, `postgresql://…`, or a location
    whose scheme a package has registered.

    The argument, else `$WAYPOST_STATE`, else the nearest `.claude/state` from `start` (the working directory)
    upwards, else `.claude/state` there.

    Raises InvalidConfiguration for what is no location.
    """
    if argument is not None:
        return _checked_location(os.fspath(argument), "argument")
    if given := environment.get(_STATE_VARIABLE):
        return _checked_location(given, _STATE_VARIABLE)
    base = _working_directory() if start is None else os.path.abspath(start)
    if base is None:
        raise InvalidConfiguration("the working directory is gone: say where the state is")
    return _upwards(base, _STATE, os.path.isdir) or os.path.join(base, _STATE)


def _checked_location(location: str, source: str) -> str:
    if not location or "\0" in location:
        raise _invalid("location", location, "the path of a directory, or memory:", source)
    scheme = location.partition("://")[0].lower() if "://" in location else ""
    # the location may hold a password, so it is not repeated
    if (
        scheme
        and scheme not in SERVERS
        and scheme == schemes.scheme_of(location)
        and not schemes.is_registered(location)
    ):
        raise InvalidConfiguration(
            f"there is no store of the kind {scheme}://: give a directory, memory:, postgresql://…, or install the "
            "package that registers it"
        )
    return location


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _upwards(start: str, name: str, is_there: Callable[[str], bool]) -> str | None:
    """The first path called `name` that is there, in a directory or one of those above it."""
    while True:
        path = os.path.join(start, name)
        if is_there(path):
            return path
        parent = os.path.dirname(start)
        if parent == start:
            return None
        start = parent
