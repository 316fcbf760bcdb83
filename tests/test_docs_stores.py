"""What docs/stores.md shows, run as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "stores.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A directory with the files that the page shows, and the entry points as an installation leaves them."""
    for name, content in BLOCKS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    (groups,) = tomllib.loads(BLOCKS["pyproject.toml"])["project"]["entry-points"].items()
    told = tmp_path / "my_stores-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: my-stores\nVersion: 1.0\n")
    lines = [f"[{groups[0]}]", *(f"{name} = {value}" for name, value in groups[1].items())]
    (told / "entry_points.txt").write_text("\n".join(lines))
    return tmp_path


def run(package: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Python in that directory, where the package is installed, so to speak."""
    environment = {**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{ROOT / 'src'}", **variables}
    return subprocess.run(
        [sys.executable, *command], cwd=package, env=environment, capture_output=True, text=True, timeout=110
    )


def test_a_store_of_ten_lines_is_held_to_the_promises(package: Path) -> None:
    """The class on the page collects the tests of the kit, which pass and fail by what the store does."""
    assert len(BLOCKS["tests/test_my_store.py"].splitlines()) <= 10
    chosen = "test_a_view_never_changes or test_what_was_committed_is_there"
    done = run(package, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, "tests")
    assert "1 failed, 1 passed" in done.stdout, "it is in memory, and does not say so"
    assert re.search("^FAILED .*::test_what_was_committed_is_there_when_it_is_opened_again", done.stdout, re.MULTILINE)
    file = package / "tests" / "test_my_store.py"
    file.write_text(BLOCKS["tests/test_my_store.py"] + "\n    persistent = False\n")
    done = run(package, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    count = re.search(r"^(\d+) passed in", done.stdout, re.MULTILINE)
    assert count and int(count[1]) > 90, done.stdout


def test_a_registered_store_is_opened_by_its_location(package: Path) -> None:
    """By `waypost.open`, by the variable, and by the command line."""
    code = "import waypost; wp = waypost.open(); print(wp.location, len(list(wp.list_workflows())))"
    done = run(package, "-W", "error", "-c", code, WAYPOST_STATE="mine:shelf")
    assert (done.stdout, done.stderr) == ("mine:shelf 0\n", "")
    done = run(package, "-m", "waypost", "--state", "mine:shelf", "list")
    assert done.returncode == 0, done.stderr
    for state, named in {
        "mine:shelf": "mine:shelf",
        "mine://ann:secret@host/shelf": "mine://ann:***@host/shelf",
    }.items():
        code = f"from waypost.cli.invocation import Invocation; print(Invocation(state={state!r}).flag())"
        assert run(package, "-c", code).stdout.strip().replace("'", "") == f"--state {named}"
    assert not (package / "mine:shelf").exists()


def test_the_page_names_what_a_class_can_say() -> None:
    """Each hook of the kit stands in the table, and the number of tests is about what the page says."""
    from waypost.testing.base import Kit

    hooks = [name for name in ("open", "persistent", "damage") if hasattr(Kit, name)]
    assert all(f"| `{name}" in PAGE for name in hooks) and len(hooks) == 3
