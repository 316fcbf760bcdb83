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

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec
import msgspec.structs

from waypost import patterns, schemes
from waypost.errors import InvalidConfiguration
from waypost.options import Config

if TYPE_CHECKING:
    from os import PathLike

# --- what each option takes -------------------------------------------------------------------------------------------


class _Flag:
    def __str__(self) -> str:
        return "true or false"

    def allows(self, value: object) -> bool:
        return type(value) is bool

    def parse(self, text: str) -> object:
        """The value that a variable's text stands for, or the text where it stands for none."""
        lowered = text.strip().lower()
        return True if lowered in _YES else False if lowered in _NO else text


class _Choice(NamedTuple):
    names: tuple[str, ...]

    def __str__(self) -> str:
        return "one of " + ", ".join(self.names)

    def allows(self, value: object) -> bool:
        return type(value) is str and value in self.names

    def parse(self, text: str) -> object:
        return text.strip()


class _Range(NamedTuple):
    low: int
    high: int = 10**12  # for what has no bound of its own: far beyond use, and no clock or codec overflows

    def __str__(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def allows(self, value: object) -> bool:
        # a boolean is an int to Python and never what is meant here
        return type(value) is int and self.low <= value <= self.high

    def parse(self, text: str) -> object:
        return int(text) if _NUMBER.fullmatch(text.strip()) else text


class _Text:
    def __str__(self) -> str:
        return "a text of at most 200 printable characters"

    def allows(self, value: object) -> bool:
        return type(value) is str and (value == "" or (value.isprintable() and len(value) <= 200))

    def parse(self, text: str) -> object:
        return text


class _Path:
    def __str__(self) -> str:
        return "the path of a file, absolute or beginning with ~/"

    def allows(self, value: object) -> bool:
        # one from the working directory would lead elsewhere for each that opens the store
        return type(value) is str and (value == "" or (value.startswith(("/", "~/")) and "\0" not in value))

    def parse(self, text: str) -> object:
        return text


class _Patterns:
    def __str__(self) -> str:
        return patterns.TAKEN

    def allows(self, value: object) -> bool:
        if not isinstance(value, (list, tuple)):
            return False
        return all(type(each) is str and patterns.parse(each) is not None for each in cast("list[object]", value))

    def parse(self, text: str) -> object:
        """Patterns parted by commas, which stand in no name; in brackets an array of JSON, in which they may."""
        if not text.lstrip().startswith("["):
            return tuple(each.strip() for each in text.split(","))
        try:
            return json.loads(text)
        except ValueError:
            return text


_YES = frozenset({"true", "1", "yes", "on"})
_NO = frozenset({"false", "0", "no", "off"})
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)

_LEVELS: dict[str, _Range] = {
    "zstd": _Range(-7, 22),
    "gzip": _Range(0, 9),
    "lz4": _Range(0, 16),
    "brotli": _Range(0, 11),
    "none": _Range(-7, 22),
}


Value = bool | int | str | tuple[str, ...]
"""What an option may be."""


class _Option(NamedTuple):
    """What an option takes, and what it is in each preset."""

    taken: _Flag | _Choice | _Range | _Text | _Path | _Patterns
    development: Value
    production: Value
    high_throughput: Value


_OPTIONS: dict[str, _Option] = {
    "compression.enabled": _Option(_Flag(), False, True, True),
    "compression.algorithm": _Option(_Choice(tuple(_LEVELS)), "zstd", "zstd", "zstd"),
    "compression.level": _Option(_LEVELS["none"], 1, 6, 1),
    "compression.threshold": _Option(_Range(0), 10_240, 1024, 512),
    "compression.chunk_size": _Option(_Range(4 << 10, 16 << 20), 32 << 10, 64 << 10, 128 << 10),
    "performance.max_memory_usage": _Option(_Range(1), 128, 512, 1024),
    "performance.max_file_size": _Option(_Range(1, 4095), 50, 200, 500),
    "performance.batch_size": _Option(_Range(1, 10_000), 25, 100, 200),
    "performance.parallel_operations": _Option(_Range(1, 256), 2, 8, 16),
    "reliability.enable_wal": _Option(_Flag(), False, True, True),
    "reliability.sync_frequency": _Option(_Range(1), 60_000, 10_000, 5_000),
    "reliability.backup_retention": _Option(_Range(0), 3, 20, 10),
    "reliability.checksum_validation": _Option(_Flag(), False, True, False),
    "steps.enforce_dependencies": _Option(_Flag(), True, True, True),
    "checkpoints.initial": _Option(_Flag(), True, True, True),
    "checkpoints.pre_step": _Option(_Flag(), False, False, False),
    "checkpoints.post_step": _Option(_Flag(), True, True, True),
    "checkpoints.error": _Option(_Flag(), True, True, True),
    "checkpoints.pause": _Option(_Flag(), True, True, True),
    "hooks.enable_auto_checkpoints": _Option(_Flag(), True, True, True),
    "hooks.checkpoint_frequency": _Option(_Range(1, 100_000), 10, 5, 5),
    "hooks.enable_performance_tracking": _Option(_Flag(), True, True, True),
    "hooks.enable_crash_recovery": _Option(_Flag(), False, True, True),
    "retention.max_checkpoints": _Option(_Range(1, 100_000), 50, 50, 50),
    "retention.min_checkpoints": _Option(_Range(0, 100_000), 5, 5, 5),
    "retention.max_age_days": _Option(_Range(1, 36_500), 30, 30, 30),
    "retention.max_workflow_size": _Option(_Range(1), 1024, 1024, 1024),
    "retention.max_store_size": _Option(_Range(1), 10_240, 10_240, 10_240),
    "history.max_age_days": _Option(_Range(1, 36_500), 30, 30, 30),
    "security.key_file": _Option(_Path(), "", "", ""),
    "security.keyring": _Option(_Text(), "", "", ""),
    "security.redact": _Option(_Patterns(), (), (), ()),
    "postgres.pool_size": _Option(_Range(1, 1000), 4, 10, 20),
    "postgres.lock_timeout": _Option(_Range(1, 3_600_000), 10_000, 10_000, 10_000),
    "postgres.statement_timeout": _Option(_Range(1, 3_600_000), 60_000, 60_000, 60_000),
}
_SECTIONS = tuple(dict.fromkeys(name.partition(".")[0] for name in _OPTIONS))

_PREFIX = "WAYPOST_"
_PRESET_VARIABLE = "WAYPOST_PRESET"
_STATE_VARIABLE = "WAYPOST_STATE"
_VARIABLES: dict[str, str] = {_PREFIX + name.replace(".", "_").upper(): name for name in _OPTIONS}
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
    nested: dict[str, dict[str, object]] = {section: {} for section in _SECTIONS}
    for option, value in values.items():
        section, _, name = option.partition(".")
        nested[section][name] = value
    return msgspec.convert(nested, Config)


PRESETS: Final[Mapping[str, Config]] = MappingProxyType(
    {
        "development": _build({name: option.development for name, option in _OPTIONS.items()}),
        "production": _build({name: option.production for name, option in _OPTIONS.items()}),
        "high_throughput": _build({name: option.high_throughput for name, option in _OPTIONS.items()}),
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
    return [
        Setting(f"{section}.{name}", value, loaded.sources[f"{section}.{name}"])
        for section, options in _tables(loaded.config).items()
        for name, value in options.items()
    ]


def _tables(config: Config) -> dict[str, dict[str, Any]]:
    sections = msgspec.structs.asdict(config).items()
    return {name: msgspec.structs.asdict(given) if _is_section(given) else given for name, given in sections}


def _is_section(given: object) -> bool:
    # nothing checks what a Config is constructed with, before this does
    return isinstance(given, msgspec.Struct)


def _of_preset(preset: str | None, environment: Mapping[str, str]) -> Iterator[Setting]:
    source = "argument"
    if preset is None:
        preset, source = environment.get(_PRESET_VARIABLE) or "production", _PRESET_VARIABLE
    if preset not in PRESETS:
        raise _invalid("preset", preset, "one of " + ", ".join(PRESETS), source, _suggestion(preset, PRESETS))
    return _of_nested(_tables(PRESETS[preset]), f"preset {preset}")


def _of_nested(nested: object, source: str) -> Iterator[Setting]:
    """The settings of nested tables, each checked by itself."""
    for section, options in _table("configuration", nested, source).items():
        if section not in _SECTIONS:
            raise _unknown(str(section), source)
        for name, value in _table(section, options, source).items():
            yield _setting(f"{section}.{name}", value, source)


def _table(name: str, given: object, source: str) -> Mapping[Any, Any]:
    if not isinstance(given, Mapping):
        raise _invalid(name, given, "a table of options", source)
    return cast("Mapping[Any, Any]", given)


def _setting(option: str, value: Any, source: str) -> Setting:
    known = _OPTIONS.get(option)
    if known is None:
        raise _unknown(option, source)
    if not known.taken.allows(value):
        raise _invalid(option, value, str(known.taken), source)
    return Setting(option, tuple(cast("list[str]", value)) if isinstance(value, list) else value, source)


def _check_level(settings: Mapping[str, Setting]) -> None:
    """The level's range depends on another option, which may come from another source: known after merging only."""
    algorithm, level = settings["compression.algorithm"], settings["compression.level"]
    taken = _LEVELS[str(algorithm.value)]
    if not taken.allows(level.value):
        allowed = f"{taken} with {algorithm.value} (set by {algorithm.source})"
        raise _invalid(level.option, level.value, allowed, level.source)


def _of_environment(environment: Mapping[str, str]) -> Iterator[Setting]:
    for variable, text in environment.items():
        if not variable.startswith(_PREFIX) or variable in _OTHER_VARIABLES:
            continue
        option = _VARIABLES.get(variable)
        if option is None:
            hint = _suggestion(variable, [*_VARIABLES, *_OTHER_VARIABLES])
            raise InvalidConfiguration(f"unknown variable {variable}{hint}", option=variable, source=variable)
        if text:  # set to nothing is the shell's way to unset for one command
            yield _setting(option, _OPTIONS[option].taken.parse(text), variable)


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
        if needle not in data:
            return {}
        import tomllib

        return tomllib.loads(data.decode())
    except OSError as error:
        raise InvalidConfiguration(f"{path} cannot be read: {error.strerror}", source=path) from error
    except (ValueError, RecursionError) as error:
        raise InvalidConfiguration(f"{path} is not valid TOML: {error}", source=path) from error


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
    hint = nested if option in _OPTIONS else _suggestion(option, [*_OPTIONS, *_SECTIONS])
    return InvalidConfiguration(f"unknown option {option:.80} ({source}){hint}", option=option, source=source)


def _suggestion(name: str, known: Iterable[str]) -> str:
    """`: did you mean ...?`, or nothing where no name is near."""
    from difflib import get_close_matches

    names = list(known)
    same_ending = [other for other in names if other.endswith("." + name)]
    nearest = (same_ending or get_close_matches(name, names, 1))[:1]
    return f": did you mean {nearest[0]}?" if nearest else ""


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
