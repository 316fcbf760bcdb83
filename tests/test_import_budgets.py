"""Import budgets: what the hook, `import waypost` and short commands may load, as one table.

Each is run in a process of its own, and what stands in `sys.modules` at its end, beyond a bare interpreter's, is held
against the table. So an import that somebody adds at the top of a module is noticed where it is paid for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import waypost
from tests.hooks.spooled import interpreter
from waypost.hooks import spool


def words(text: str) -> set[str]:
    return set(text.split())


# Of the standard library only what takes long to load, or has no business in a short command, is told.
HEAVY = words("""
    argparse ast asyncio bz2 concurrent csv ctypes curses dataclasses datetime decimal difflib email enum getpass
    glob gzip hashlib http inspect ipaddress json logging lzma multiprocessing os pathlib pickle platform queue random
    re secrets selectors shutil signal smtplib socket sqlite3 ssl statistics subprocess tarfile tempfile tomllib
    traceback typing unittest urllib uuid webbrowser xml zipfile
""")
OF_CLICK = words(
    "ast bz2 dataclasses datetime enum inspect json logging lzma os platform re shutil traceback typing uuid"
)
OF_STORE = OF_CLICK | words("decimal hashlib ipaddress pathlib tomllib urllib")
OF_RICH = OF_STORE | words("pickle random selectors signal subprocess")


class Budget(NamedTuple):
    """`most` modules of Waypost and of other packages; of those packages `packages` only, and of HEAVY `heavy` only.

    Packages that are part of another one's install are named too (msgspec takes typing_extensions where it is there).
    """

    arguments: list[str]
    packages: set[str]
    heavy: set[str]
    most: int


CODEC = {"backports", "msgspec", "typing_extensions"}
BUDGETS = {
    "_hook.py": Budget(["hook"], set(), set(), 0),
    "import waypost": Budget(["import"], set(), set(), 1),
    "waypost --help": Budget(["--help"], {"click"}, OF_CLICK, 22),
    "waypost status": Budget(["status"], CODEC | {"click", "rich"}, OF_RICH, 245),
    "waypost log": Budget(["log", "w"], CODEC | {"click", "rich"}, OF_RICH, 229),
    "waypost agent brief": Budget(["agent", "brief", "--hook"], CODEC | {"click"}, OF_STORE, 200),
}

HOOK = """
import posix, sys
posix._exit = lambda code: print("", *sys.modules, file=sys.stderr)
sys.argv = ["hook", "--dialect", "claude-code"]
from _frozen_importlib_external import SourceFileLoader
{planted}
main = type(sys)("__main__"); main.__file__ = {script!r}
SourceFileLoader("__main__", main.__file__).exec_module(main)
"""
IMPORT = "import sys, waypost\n{planted}\nprint('', *sys.modules, file=sys.stderr)"
COMMAND = """
import sys
from waypost import cli
{planted}
assert cli.call({arguments!r}) == 0
print("", *sys.modules, file=sys.stderr)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with a store, in which there is something to tell."""
    with waypost.open(tmp_path / ".claude" / "state") as wp:
        wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
        wp.update_step_status("w", "a", "running").unwrap()
    return tmp_path


def loaded(project: Path, budget: Budget, planted: str = "") -> set[str]:
    """The modules that a bare interpreter lacks. What is planted is done before the command."""
    kind, run = budget.arguments[0], [sys.executable]
    if kind == "hook":
        run, program = [interpreter(), "-I", "-S"], HOOK.format(script=spool.script_path(), planted=planted)
    elif kind == "import":
        program = IMPORT.format(planted=planted)
    else:
        program = COMMAND.format(arguments=budget.arguments, planted=planted)
    return in_process(project, [*run, "-c", program]) - in_process(project, [*run, "-c", BARE])


BARE = "import sys; print('', *sys.modules, file=sys.stderr)"


def in_process(project: Path, command: list[str]) -> set[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WAYPOST_")}
    environment["WAYPOST_STATE"] = str(project / ".claude" / "state")
    event = json.dumps({"session_id": "s", "hook_event_name": "Stop"}).encode()
    done = subprocess.run(command, input=event, capture_output=True, cwd=project, env=environment, check=True)
    return set(done.stderr.decode().splitlines()[-1].split())


def excess(budget: Budget, modules: set[str]) -> list[str]:
    """What goes beyond a budget, a line for each."""
    tops = {name.partition(".")[0] for name in modules}
    packages = tops - sys.stdlib_module_names - {"waypost"}
    ours = [name for name in modules if name.partition(".")[0] in {*packages, "waypost"}]
    found = [f"loads the package {name}" for name in sorted(packages - budget.packages)]
    found += [f"loads {name} of the standard library" for name in sorted((tops & HEAVY) - budget.heavy)]
    if len(ours) > budget.most:
        found.append(f"loads {len(ours)} modules of Waypost and of packages, more than {budget.most}")
    return found


@pytest.mark.parametrize("name", BUDGETS)
def test_nothing_is_loaded_beyond_the_budget(project: Path, name: str) -> None:
    """A command loads what it needs and no more: packages and heavy modules by name, and a number of modules in all."""
    modules = loaded(project, BUDGETS[name])
    assert excess(BUDGETS[name], modules) == [], sorted(modules)


@pytest.mark.parametrize("name", BUDGETS)
def test_an_import_that_is_added_is_noticed(project: Path, name: str) -> None:
    """A heavy module, a package and modules of Waypost that are planted in the process are each found."""
    budget = BUDGETS[name]
    planted = "import asyncio" if name == "_hook.py" else "import asyncio, psycopg, waypost.testing, waypost.mcp.server"
    found = excess(budget, loaded(project, budget, planted))
    assert "loads asyncio of the standard library" in found
    if name != "_hook.py":  # a bare interpreter without packages has none to load
        assert "loads the package psycopg" in found
        assert any("more than" in line for line in found), found
