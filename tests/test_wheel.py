"""What is published works by itself: wheel and source archive, built, installed and used without the source tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

USED = """
import importlib.metadata, os, signal, sys
import waypost

assert os.path.dirname(waypost.__file__).startswith(sys.prefix), waypost.__file__
assert waypost.__version__ == importlib.metadata.version("waypost")

def work(step_id):
    if "--die" in sys.argv and step_id == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    return step_id

with waypost.open() as wp, wp.run("survey", steps=["a", "b", "c"]) as run:
    for step_id in run.ready():
        print(run.do(step_id, work, step_id))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with both archives; the wheel is built from the source archive, so that holds what is needed."""
    to = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(to), str(ROOT), cwd=to)
    return to


@pytest.fixture(scope="module")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the wheel in it, and what that needs: the packages of this one."""
    environment = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", "--without-pip", str(environment), cwd=environment)
    (wheel,) = built.glob("*.whl")
    call(
        sys.executable,
        *("-m", "pip", "--disable-pip-version-check", "--python", str(environment / "bin" / "python"), "install"),
        *("--quiet", "--no-deps", "--no-index", "--no-compile", str(wheel)),
        cwd=environment,
    )
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    # behind the wheel on the path, and without what makes this tree's own package importable: an editable install
    (packages / "needed").mkdir()
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if not package.name.startswith(("waypost", "_editable", "__editable__")) and package.suffix != ".pth":
            (packages / "needed" / package.name).symlink_to(package)
    (packages / "needed.pth").write_text("needed\n")
    return environment / "bin" / "python"


def call(*command: str, cwd: Path, status: int = 0) -> str:
    """What a command prints, run without anything of this tree in its environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "WAYPOST_"))}
    done = subprocess.run(command, cwd=cwd, env=kept, capture_output=True, text=True, timeout=200)
    assert done.returncode == status, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def test_the_wheel_works_without_the_source(python: Path, tmp_path: Path) -> None:
    """Installed in a fresh environment, a run that is killed goes on, and the commands see what became of it."""
    call(str(python), "-I", "-c", USED, "--die", cwd=tmp_path, status=-9)
    assert call(str(python), "-I", "-W", "error", "-c", USED, cwd=tmp_path).split() == ["b", "c"]
    waypost = str(python.with_name("waypost"))
    assert "completed" in call(waypost, "show", "survey", cwd=tmp_path)
    assert "sound" in call(waypost, "verify", cwd=tmp_path)
    assert call(waypost, "--version", cwd=tmp_path).startswith("waypost ")


def test_the_tests_of_the_source_archive_pass_against_the_wheel(built: Path, python: Path, tmp_path: Path) -> None:
    """Tests are run as they were packed, where the package can only be the installed one: its source is taken away."""
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    (root,) = tmp_path.iterdir()
    shutil.rmtree(root / "src")
    chosen = ("tests/test_public.py", "tests/test_steps.py")
    told = call(str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not postgres", *chosen, cwd=root)
    count = re.search(r"(\d+) passed", told)
    assert count is not None and int(count[1]) > 100, told


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    """Each file of the source is in it, those that are no Python too, and no test, cache or key is."""
    (wheel,) = built.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    source = {
        file.relative_to(ROOT / "src").as_posix()
        for file in (ROOT / "src" / "waypost").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert held == source
    metadata = next(name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("METADATA"))
    told = zipfile.ZipFile(wheel).read(metadata).decode()
    assert re.search(r"^License-Expression: MIT$", told, re.MULTILINE)
    assert "make demo" in told, "the description is the README"


def test_the_source_archive_holds_what_building_and_testing_needs(built: Path) -> None:
    """Whoever has it alone has the tests, the tools, the documents and the pins."""
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = [name.partition("/")[2] for name in opened.getnames()]
    for needed in (
        *(
            "src/waypost/__init__.py",
            "tests/conftest.py",
            "tools/docs_pages.py",
            "docs/index.md",
            "docs/how-to/index.md",
        ),
        *("Makefile", "mkdocs.yml", "requirements/docs.txt", "README.md", "LICENSE", "pyproject.toml", ".ci/run"),
        "benchmarks/__main__.py",
    ):
        assert needed in names, needed
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", "build/", "dist/"))]
