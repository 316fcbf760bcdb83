"""The style of the house as tests: the order of imports, sizes, what no module may do, and the lists of pins.

Each rule is a function from a house (the modules of a source tree) to its findings, one line each. It is held
over `src/waypost`, and over small planted houses that break it, so that no rule is one that cannot fail.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "waypost"

# A module imports only from its own line or one above it.
# A package stands for all of its modules, and `waypost` for the public names.
ORDER = """
    errors
    clock schema
    folding graph
    models
    queries
    session_models
    options patterns schemes
    defaults
    config
    keys
    sealing
    codec
    metrics
    store
    instruments
    performance
    alerts
    maintenance ownership
    streams erased thread_pages
    records
    session_records prepared
    redaction secrecy
    loading
    frontier
    steps
    saving validation
    migrating
    migrations
    catalogue places checkpoint_ids tenures
    session_states retention
    lineage
    checkpoints
    triage
    recovery
    sealed_bundles
    sessions bundles merging sync_models
    lines
    uniting
    unions settling
    automatic cleaning usage rotation
    workflows carrying delta references history erasures
    importing synchronization
    cursors
    watching
    blame operations watches
    requests
    checkpointing erasing lookback sessioning bundling syncing
    definitions
    attempts
    across
    transactions
    runner
    runs
    _hook
    hooks
    agents
    opening
    api blocking
    integrator
    monitor prometheus
    waypost
    bench
    adapters pytest_plugin
    cli demo mcp web testing
"""
LAYERS = {name: number for number, line in enumerate(ORDER.strip().splitlines()) for name in line.split()}

# These gather what the package offers, so they import from anywhere, and need nobody to import them.
DOORS = {"waypost", "waypost.__main__", "waypost.testing"}
# These are imported by whoever uses the framework that they are for.
ADAPTERS = {
    "waypost.adapters",
    "waypost.adapters.claude_agent",
    "waypost.adapters.langgraph",
    "waypost.adapters.openai_agents",
}

MOST_LINES_OF_A_FILE = 500
MOST_LINES_OF_A_FUNCTION = 70

# Formats that run code while they are read; multiprocessing since its payloads are pickles.
UNSAFE_MODULES = {
    *("pickle", "_pickle", "cPickle", "pickletools", "dill", "cloudpickle", "jsonpickle", "joblib"),
    *("marshal", "shelve", "yaml", "ruamel", "multiprocessing"),
}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}

# The one module of the store that may touch the disk, and what in `os` does not touch it.
STORE = "waypost.store"
DISK = "waypost.store.directory.files"
DISK_CALLS = {DISK, "waypost.store.directory.statx"}
HARMLESS_IN_OS = {
    *("PathLike", "error", "fsdecode", "fsencode", "fspath", "linesep", "name", "path", "sep", "stat_result"),
    *("cpu_count", "environ", "getenv", "register_at_fork", "sched_getaffinity", "strerror", "urandom"),
    *("getegid", "geteuid", "getgid", "getpid", "getppid", "getuid"),
}
HARMLESS_IN_OS_PATH = {
    *("abspath", "basename", "commonpath", "commonprefix", "dirname", "isabs", "join", "normpath", "relpath"),
    *("sep", "split", "splitext"),
}
DISK_MODULES = {"ctypes", "fcntl", "glob", "io", "mmap", "pathlib", "shutil", "sqlite3", "tempfile"}
HARMLESS_IN_DISK_MODULES = {"BytesIO", "PurePath", "PurePosixPath", "StringIO"}


# --- a house and what its modules import ---


class Module(NamedTuple):
    """One module: its dotted name, its path for messages, whether it is a package, and what it says."""

    name: str
    path: str
    is_package: bool
    source: str
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.name if self.is_package else self.name.rpartition(".")[0]

    def at(self, node: ast.AST, finding: str) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}: {finding}"


House = Mapping[str, Module]
Rule = Callable[[House], list[str]]


def build_house(sources: Mapping[str, str]) -> dict[str, Module]:
    """The modules of a package `waypost`, given as text by their paths below it."""
    house: dict[str, Module] = {}
    for path, source in sorted(sources.items()):
        parts = ["waypost", *path.removesuffix(".py").split("/")]
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        house[name] = Module(name, f"src/waypost/{path}", is_package, source, ast.parse(source))
    return house


class Import(NamedTuple):
    """An import statement, or a call that imports: `target` is `foreign.module`, or a module of the house."""

    target: str
    node: ast.AST


def is_of_house(name: str) -> bool:
    return name == "waypost" or name.startswith("waypost.")


def imports_of(module: Module, house: House) -> Iterator[Import]:
    """All that a module imports: also in functions, for types only, and by a call with a fixed name."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.package.rsplit(".", node.level - 1)[0]
                base = f"{above}.{base}".rstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                is_module = inner in house or (base == "waypost" and alias.name in LAYERS)
                yield Import(inner if is_module else base, node)
        elif isinstance(node, ast.Call) and name_of(node.func).endswith("import_module"):
            names = (argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant))
            yield from (Import(name, node) for name in names if isinstance(name, str))


def name_of(node: ast.expr) -> str:
    """`a.b.c` of a chain of attributes, and an empty string of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = name_of(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def part_of(name: str) -> str:
    """The part of the house that a module belongs to: the first name below `waypost`, or `waypost` itself."""
    return name.split(".")[1] if "." in name else name


# --- the rules ---


def out_of_order(house: House) -> list[str]:
    """A module imports only from its own layer or an earlier one."""
    findings: list[str] = []
    for module in house.values():
        if module.name in DOORS:
            continue
        layer = LAYERS.get(part_of(module.name))
        if layer is None:
            findings.append(module.at(module.tree, f"{part_of(module.name)} has no place in ORDER: give it one"))
            continue
        for target, node in dict.fromkeys(imports_of(module, house)):
            if not is_of_house(target):
                continue
            theirs = LAYERS.get(part_of(target))
            if theirs is None or theirs > layer:
                findings.append(module.at(node, f"{module.name} imports {target}, which stands below it"))
    return findings


def import_cycles(house: House) -> list[str]:
    """No module imports itself, by whatever way round."""
    graph = {
        module.name: {target for target, _ in imports_of(module, house) if target in house} for module in house.values()
    }
    findings = [f"{house[name].path}: {name} imports itself" for name, targets in graph.items() if name in targets]
    try:
        TopologicalSorter({name: targets - {name} for name, targets in graph.items()}).prepare()
    except CycleError as error:
        findings.append("import cycle: " + " imports ".join(reversed(error.args[1])))
    return findings


def too_long(house: House) -> list[str]:
    """A file has at most 500 lines, and a function at most 70."""
    findings: list[str] = []
    for module in house.values():
        lines = len(module.source.splitlines())
        if lines > MOST_LINES_OF_A_FILE:
            findings.append(f"{module.path}: {lines} lines, more than {MOST_LINES_OF_A_FILE}")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                lines = node.end_lineno - node.lineno + 1
                if lines > MOST_LINES_OF_A_FUNCTION:
                    findings.append(
                        module.at(node, f"{node.name} has {lines} lines, more than {MOST_LINES_OF_A_FUNCTION}")
                    )
    return findings


def entry_points() -> set[str]:
    """The modules that the project file names as commands or plugins."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project.get("scripts", {}), *project.get("entry-points", {}).values()]
    return {target.partition(":")[0] for group in groups for target in group.values()}


def without_user(house: House) -> list[str]:
    """Each module is imported by another one, or is an entry point."""
    used = DOORS | ADAPTERS | entry_points()
    for module in house.values():
        for target in {target for target, _ in imports_of(module, house)} | lazily_named(module):
            while is_of_house(target) and target != module.name:
                # a package is used with its modules, but not by them
                if not module.name.startswith(f"{target}."):
                    used.add(target)
                target = target.rpartition(".")[0]
    return [f"{module.path}: nobody imports {name}" for name, module in house.items() if name not in used]


def lazily_named(module: Module) -> set[str]:
    """Modules named in strings like `waypost.cli.show` and `waypost.cli:main`: tables of lazy imports."""
    found: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            match = re.fullmatch(r"(waypost(?:\.\w+)+)(?::\w+)?", node.value)
            if match:
                found.add(match[1])
    return found


def unsafe_formats(house: House) -> list[str]:
    """No module imports or calls what runs code while it reads data."""
    findings: list[str] = []
    for module in house.values():
        for target, node in dict.fromkeys(imports_of(module, house)):
            if UNSAFE_MODULES & set(target.split(".")):
                findings.append(module.at(node, f"imports {target}"))
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom | ast.Import):
                names = {part for alias in node.names for part in alias.name.split(".")}
                if isinstance(node, ast.ImportFrom) and UNSAFE_MODULES & names:
                    findings.append(module.at(node, f"imports {', '.join(sorted(UNSAFE_MODULES & names))}"))
            elif isinstance(node, ast.Attribute) and node.attr in UNSAFE_MODULES:
                findings.append(module.at(node, f"reaches for {node.attr}"))
            elif isinstance(node, ast.Name) and node.id in UNSAFE_CALLS:
                findings.append(module.at(node, f"uses {node.id}"))
            elif (
                isinstance(node, ast.Attribute) and name_of(node).startswith("builtins.") and node.attr in UNSAFE_CALLS
            ):
                findings.append(module.at(node, f"uses {node.attr}"))
    return findings


def prints(house: House) -> list[str]:
    """Only the command line and the demo print."""
    return [
        module.at(node, "prints")
        for module in house.values()
        if part_of(module.name) not in {"cli", "demo"}
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Name) and node.id == "print"
    ]


def nameless_errors(house: House) -> list[str]:
    """Each class of `waypost.errors` has a docstring that is a sentence, and a code that no other has."""
    findings: list[str] = []
    codes: dict[str, str] = {}
    module = house["waypost.errors"]
    for node in module.tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        if not (ast.get_docstring(node) or "").strip().endswith((".", ")")):
            findings.append(module.at(node, f"{node.name} has no docstring that is a sentence"))
        code = code_of(node)
        if code is None:
            findings.append(module.at(node, f"{node.name} has no code of its own"))
        elif code in codes:
            findings.append(module.at(node, f"{node.name} has the code of {codes[code]}: {code}"))
        elif not re.fullmatch(r"[a-z]+(_[a-z]+)*", code):
            findings.append(module.at(node, f"the code of {node.name} is not words in lower case: {code!r}"))
        else:
            codes[code] = node.name
    return findings


def code_of(node: ast.ClassDef) -> str | None:
    """The text that the class itself gives to `code`."""
    for statement in node.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        value = getattr(statement, "value", None)
        if any(isinstance(target, ast.Name) and target.id == "code" for target in targets):
            return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
    return None


def unfinished(house: House) -> list[str]:
    """Nothing in the source waits to be written."""
    words = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    return [
        f"{module.path}:{number}: {match[0]}"
        for module in house.values()
        for number, line in enumerate(module.source.splitlines(), 1)
        for match in words.finditer(line)
    ]


def disk_outside_files(house: House) -> list[str]:
    """In the store, only `directory/files.py`, and the one call of `directory/statx.py`, touch the disk.

    Within `os` the list is of what is harmless, so that a call nobody thought of is found too; naming a
    function counts like calling it.
    """
    findings: list[str] = []
    for module in house.values():
        if module.name in DISK_CALLS or not f"{module.name}.".startswith(f"{STORE}."):
            continue
        findings.extend(
            module.at(node, f"{touch} belongs in {DISK}") for node in ast.walk(module.tree) for touch in touches(node)
        )
    return findings


def touches(node: ast.AST) -> Iterator[str]:
    """What a node names of the functions and modules that reach the disk."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] in DISK_MODULES)
    elif isinstance(node, ast.ImportFrom) and not node.level:
        names = {alias.name for alias in node.names}
        if node.module == "os":
            yield from (f"os.{name}" for name in sorted(names - HARMLESS_IN_OS) if not name.isupper())
        elif node.module == "os.path":
            yield from (f"os.path.{name}" for name in sorted(names - HARMLESS_IN_OS_PATH))
        elif node.module in DISK_MODULES:
            yield from (f"{node.module}.{name}" for name in sorted(names - HARMLESS_IN_DISK_MODULES))
    elif isinstance(node, ast.Attribute):
        base = name_of(node.value)
        if base == "os" and node.attr not in HARMLESS_IN_OS and not node.attr.isupper():
            yield f"os.{node.attr}"
        elif base == "os.path" and node.attr not in HARMLESS_IN_OS_PATH:
            yield f"os.path.{node.attr}"
    elif isinstance(node, ast.Name) and node.id == "open":
        yield "open"


# --- the rules held over the source ---


@pytest.fixture(scope="module")
def house() -> dict[str, Module]:
    found = build_house(
        {str(path.relative_to(SOURCE)): path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")}
    )
    assert "waypost.errors" in found, f"the source was not found at {SOURCE}"
    return found


def assert_none(findings: list[str]) -> None:
    if findings:
        pytest.fail("\n".join(findings), pytrace=False)


def test_modules_import_only_from_above(house: House) -> None:
    """A module imports only from its own layer of the house or an earlier one, in functions too."""
    assert_none(out_of_order(house))


def test_no_import_cycle(house: House) -> None:
    """No module imports itself by way of others."""
    assert_none(import_cycles(house))


def test_files_and_functions_are_short(house: House) -> None:
    """A file of the source has at most 500 lines and a function at most 70."""
    assert_none(too_long(house))


def test_each_module_has_a_user(house: House) -> None:
    """No module of the source lies there unused."""
    assert_none(without_user(house))


def test_v01_x01_x03_no_format_that_runs_code(house: House) -> None:
    """No module uses pickle, marshal, shelve, YAML, eval or exec."""
    assert_none(unsafe_formats(house))


def test_only_the_command_line_prints(house: House) -> None:
    """A library says nothing on standard output."""
    assert_none(prints(house))


def test_each_error_has_a_sentence_and_a_code(house: House) -> None:
    """Programs can tell errors apart by code, and people by a sentence."""
    assert_none(nameless_errors(house))


def test_nothing_is_left_unfinished(house: House) -> None:
    """No marker of unfinished work stands in the source."""
    assert_none(unfinished(house))


def test_q08_one_module_of_the_store_touches_the_disk(house: House) -> None:
    """Whoever asks what the store does to the disk has one file to read."""
    assert_none(disk_outside_files(house))


# --- the rules on planted houses ---

# One house a line, as `path: source | path: source`, and what the finding must say behind the arrow.
FAULTS: dict[Rule, str] = {
    out_of_order: """
        store/memory.py: import waypost.api                             -> imports waypost.api
        models.py: from waypost.config import Config                    -> imports waypost.config
        codec/frame.py: from waypost import store                       -> imports waypost.store
        codec/frame.py: from ..store.contract import Change             -> imports waypost.store.contract
        store/a/b.py: from ...api import f                              -> imports waypost.api
        clock.py: def f(): from waypost import api                      -> imports waypost.api
        clock.py: if TYPE_CHECKING: import waypost.models               -> imports waypost.models
        api.py: import_module("waypost.cli")                            -> imports waypost.cli
        runs.py: import waypost.cli.show | cli/show.py:                 -> imports waypost.cli.show
        records.py: from waypost import open                            -> imports waypost,
        misc.py: x = 1                                                  -> misc has no place
        errors.py: import waypost.misc                                  -> imports waypost.misc
    """,
    import_cycles: """
        api.py: import waypost.runs | runs.py: from waypost import api  -> import cycle: waypost.
        api.py: import waypost.runs | runs.py: def f(): import waypost.api -> import cycle: waypost.
        store/a.py: from . import b | store/b.py: from .c import x | store/c.py: from .a import y  -> cycle
        store/__init__.py: from . import a | store/a.py: from waypost.store import x -> cycle
        api.py: from waypost.api import x                               -> waypost.api imports itself
    """,
    without_user: """
        api.py: import waypost.runs | runs.py:                          -> nobody imports waypost.api
        store/__init__.py: from . import a | store/a.py:                -> nobody imports waypost.store
        api.py: NAME = "see waypost.runs" | runs.py:                    -> nobody imports waypost.runs
        api.py: import waypost.api                                      -> nobody imports waypost.api
    """,
    unsafe_formats: """
        api.py: import pickle                                           -> imports pickle
        api.py: def f(): from pickle import loads                       -> imports pickle
        api.py: from multiprocessing.reduction import pickle            -> imports pickle
        api.py: importlib.import_module("pickle")                       -> imports pickle
        api.py: import os, marshal                                      -> imports marshal
        api.py: import shelve as s                                      -> imports shelve
        api.py: import yaml                                             -> imports yaml
        api.py: from msgspec import yaml                                -> imports yaml
        api.py: msgspec.yaml.decode(x)                                  -> reaches for yaml
        api.py: from multiprocessing import Pool                        -> imports multiprocessing
        api.py: x = eval("1")                                           -> uses eval
        api.py: run = exec                                              -> uses exec
        api.py: builtins.exec("1")                                      -> uses exec
    """,
    prints: """
        api.py: print("x")                                              -> prints
        store/memory.py: say = print                                    -> prints
    """,
    nameless_errors: """
        errors.py: class A(Exception): code = "a"                       -> A has no docstring
        errors.py: class A(Exception): "No sentence"; code = "a"        -> A has no docstring
        errors.py: class A(Exception): "It broke."                      -> A has no code
        errors.py: class A(Exception): "It broke."; code = 3            -> A has no code
        errors.py: class A(Exception): "It broke."; code = "Bad Code"   -> not words in lower case
        errors.py: class A(Exception): "It broke."; code = "a" ⏎ class B(A): "It broke." -> B has no code
        errors.py: class A(OSError): "One."; code = "a" ⏎ class B(A): "Two."; code = "a" -> the code of A: a
    """,
    unfinished: """
        api.py: x = 1  # TODO: more                                     -> :1: TODO
        api.py: x = 1 ⏎ # FIXME                                         -> :2: FIXME
        api.py: "XXX"                                                   -> :1: XXX
        api.py: def f(): raise NotImplementedError                      -> :1: NotImplementedError
    """,
    disk_outside_files: """
        store/memory.py: open("x")                                      -> open belongs
        store/directory/log.py: os.fsync(3)                             -> os.fsync belongs
        store/directory/log.py: sync = os.fdatasync                     -> os.fdatasync belongs
        store/__init__.py: from os import replace, getpid               -> os.replace belongs
        store/__init__.py: os.path.exists(p)                            -> os.path.exists belongs
        store/__init__.py: from os.path import exists                   -> os.path.exists belongs
        store/directory/lease.py: import fcntl                          -> fcntl belongs
        store/directory/lease.py: from fcntl import flock               -> fcntl.flock belongs
        store/directory/lease.py: from pathlib import Path              -> pathlib.Path belongs
    """,
}  # fmt: skip

SOUND: dict[Rule, str] = {
    out_of_order: """
        __init__.py: from waypost import cli, api
        __main__.py: from waypost.cli import main
        api.py: import os; from waypost import blocking, errors; from waypost.store.contract import Store
        cli/__init__.py: from waypost import open; import waypost.demo
        store/contract.py: from waypost.codec.frame import Frame; from . import parts | store/parts.py:
        store/a/b.py: from ..contract import Store; from ...codec import frame
    """,
    import_cycles: """
        store/__init__.py: from . import a | store/a.py: from waypost.store.b import c | store/b.py:
        api.py: import waypost.runs, waypost.store | runs.py: import waypost.store | store/__init__.py:
    """,
    without_user: """
        __init__.py: NAMES = {"open": "waypost.blocking"} | blocking.py:
        __main__.py: import waypost.store.memory | store/__init__.py: | store/memory.py:
        cli/__init__.py: COMMANDS = {"show": "waypost.cli.show:command"} | cli/show.py:
    """,
    unsafe_formats: """
        api.py: re.compile("x"); self.exec(y); pickled = "pickle"
    """,
    prints: """
        cli/show.py: print(1) | demo.py: print(1) | api.py: self.print(pprint)
    """,
    nameless_errors: """
        errors.py: class A(OSError): "One."; code = "a" ⏎ class B(A): "Two (2)."; code: ClassVar[str] = "b_c"
    """,
    unfinished: """
        api.py: todo = NotImplemented; prefix = "XXXL"
    """,
    disk_outside_files: """
        store/directory/files.py: import fcntl, os; os.fsync(3); open("x") | clock.py: open("y")
        store/directory/log.py: os.path.join(a, os.fspath(b)); os.O_RDONLY; files.open(x); self.rename(y)
    """,
}


def planted(houses: Mapping[Rule, str]) -> list[tuple[Rule, str]]:
    return [(rule, line.strip()) for rule, lines in houses.items() for line in lines.strip().splitlines()]


def build_planted(line: str) -> dict[str, Module]:
    files = (part.partition(":") for part in line.split(" | "))
    return build_house({path.strip(): source.strip().replace(" ⏎ ", "\n") for path, _, source in files})


@pytest.mark.parametrize(("rule", "line"), planted(FAULTS))
def test_a_planted_fault_is_found(rule: Rule, line: str) -> None:
    """Each rule finds the fault that it is there for, and says which."""
    sources, _, expected = line.rpartition("->")
    findings = rule(build_planted(sources))
    assert any(expected.strip() in finding for finding in findings), findings


@pytest.mark.parametrize(("rule", "line"), planted(SOUND))
def test_sound_code_is_left_alone(rule: Rule, line: str) -> None:
    """No rule finds fault with what only looks like one."""
    assert rule(build_planted(line)) == []


def test_sizes_are_counted() -> None:
    """A file or function at the limit passes, and one line more is found."""
    function, method = "def f():\n" + "    x = 1\n" * 69, "class A:\n  async def g():\n" + "    x = 1\n" * 69
    assert too_long(build_house({"api.py": function + method, "runs.py": "x = 1\n" * 500})) == []
    findings = too_long(build_house({"api.py": f"{function}    x = 1\n{method}    x = 1", "runs.py": "x = 1\n" * 501}))
    assert [finding.partition(": ")[2] for finding in findings] == [
        "f has 71 lines, more than 70",
        "g has 71 lines, more than 70",
        "501 lines, more than 500",
    ]


# --- the lists of pins ---


def faulty_pins(lists: Mapping[str, str]) -> list[str]:
    """Lists of pins hold exact versions only and agree; what the core needs is in dev.txt too."""
    findings: list[str] = []
    pins: dict[str, dict[str, str]] = {}
    for file, text in lists.items():
        pins[file] = {}
        for line in text.splitlines():
            match = re.fullmatch(r'([A-Za-z0-9._-]+)==([A-Za-z0-9.+!]+)(; python_version < "3\.\d+")?', line)
            if match:
                pins[file][re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
            elif line and not line.startswith("#"):
                findings.append(f"{file}: not an exact version: {line}")
    for one, other in combinations(pins, 2):
        findings.extend(
            f"{one} and {other} differ about {name}"
            for name in sorted(pins[one].keys() & pins[other].keys())
            if pins[one][name] != pins[other][name]
        )
    findings.extend(f"dev.txt lacks {name}" for name in sorted(pins["runtime.txt"].keys() - pins["dev.txt"].keys()))
    return findings


def test_versions_are_locked_and_agree() -> None:
    """Every environment that the Makefile makes has the same versions, on every day."""
    folder = ROOT / "requirements"
    assert_none(faulty_pins({file.name: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.txt"))}))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"dev.txt": "click>=8"}, "not an exact version"),
        ({"dev.txt": "--index-url x\nclick==8"}, "not an exact version"),
        ({"dev.txt": "click==9"}, "differ about click"),
        ({"bench.txt": "Click==9"}, "differ about click"),
        ({"dev.txt": "rich==1"}, "dev.txt lacks click"),
    ],
)
def test_a_planted_pin_is_found(changed: dict[str, str], expected: str) -> None:
    """A loose, foreign, differing or missing pin is found."""
    sound = {
        "runtime.txt": "# pins\nclick==8",
        "dev.txt": "click==8\nruff==1",
        "bench.txt": 'idna==3; python_version < "3.14"',
    }
    assert faulty_pins(sound) == []
    assert any(expected in finding for finding in faulty_pins(sound | changed))
