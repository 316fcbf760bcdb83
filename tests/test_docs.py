"""What the documents say is so: their examples run, and what they name is there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import click
import pytest
from tools import docs_pages

from tests import servers
from tests.documents import (
    PAGES,
    ROOT,
    SERVER,
    Block,
    blocks_of,
    commands_of,
    expected,
    selections_of,
    targets_of,
)
from tests.test_rules import names_of_tests
from waypost import errors
from waypost.cli.commands import waypost as program
from waypost.defaults import OPTIONS

RUN = [page for page in PAGES if page.name != "README.md" and any(block.is_run for block in blocks_of(page))]
"""The pages with something to run; README's examples are run one by one (`test_readme`)."""

# one process for examples that stand behind each other, since starting is what most of them cost
RUNNER = """
import json, os, sys
for place, text in json.load(sys.stdin):
    exec(compile(text, place, "exec"), {"__name__": "__main__"})
"""


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# --- examples ---


@pytest.mark.parametrize("page", RUN, ids=named)
def test_the_examples_of_a_page_run_in_order(tmp_path: Path, page: Path) -> None:
    """Whoever does in an empty directory what a page shows sees what it says, and nothing warns."""
    blocks = [block for block in blocks_of(page) if block.is_run or block.mark.startswith("file: ")]
    for server in where_there_is_one(blocks):
        blocks = [block._replace(text=block.text.replace(SERVER, server)) for block in blocks]
        for kind, together in groupby(blocks, lambda block: block.mark or block.language):
            if kind == "python":
                run_python(list(together), tmp_path)
            elif kind.startswith("file: "):
                file = tmp_path / kind.removeprefix("file: ")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("".join(block.text for block in together), encoding="utf-8")
            else:
                for block in together:
                    run_shell(block, tmp_path)


def where_there_is_one(blocks: list[Block]) -> Iterator[str]:
    """The server that stands for the one that the blocks name, if they name one."""
    if not any(SERVER in block.text for block in blocks):
        yield SERVER
        return
    with servers.postgres().lent() as location:
        yield location


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WAYPOST_")}
    paths = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "PYTHONPATH": str(ROOT / "src"), "PATH": paths, "NO_COLOR": "1", "COLUMNS": "100"}


def run_python(blocks: list[Block], folder: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", RUNNER]
    given = json.dumps([(block.place, "\n" * (block.line - 1) + block.text) for block in blocks])
    done = subprocess.run(
        command, input=given, cwd=folder, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert not re.search("Traceback|Exception ignored|Warning:", done.stderr), done.stderr
    for block in blocks:
        for line in expected(block.text):
            assert line in done.stdout, f"{block.place} does not print {line!r}, but {done.stdout}"


def run_shell(block: Block, folder: Path) -> None:
    status = int(block.mark.partition(": ")[2] or 0)
    done = subprocess.run(
        ["sh", "-e"],
        input=block.text,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == status, f"{block.place} ended with {done.returncode}: {done.stdout}{done.stderr}"
    for line in re.findall(r"^#> (.*)$", block.text, re.MULTILINE):
        assert line in done.stdout, f"{block.place} does not print {line!r}, but {done.stdout}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_that_is_not_run_is_python(page: Path) -> None:
    """A fragment compiles, each mark is one that means something, and no fence is left open."""
    assert len(re.findall(r"^```", page.read_text(encoding="utf-8"), re.MULTILINE)) == 2 * len(blocks_of(page))
    for block in blocks_of(page):
        assert re.fullmatch(r"|fragment|file: [\w./-]+|run(: \d+)?", block.mark), f"{block.place}: {block.mark}"
        assert block.language != "python" or not block.mark.startswith("run"), block.place
        if block.language == "python":
            compile(block.text, block.place, "exec")


def test_most_examples_are_run() -> None:
    """The test above has something to run: fragments are the exception."""
    shown = [block for page in PAGES for block in blocks_of(page) if block.language == "python"]
    fragments = [block for block in shown if block.mark == "fragment"]
    assert len(shown) >= 30
    assert len(fragments) * 4 < len(shown)


# --- names ---


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_commands_of_a_page_are_there(page: Path) -> None:
    """Each command line that a page shows names a command and options that exist."""
    assert [fault for line in commands_of(page) for fault in faults_of(line)] == []


def faults_of(line: str) -> list[str]:
    """What a command line of `waypost` names that is not there."""
    words = re.sub(r"[\[\]\"']|\.\.\.|…|--state \S+", " ", line).split()[1:]
    command: click.Command = program
    known = {"--help", "-h", *(option for each in program.params for option in each.opts)}
    while words and (at := docs_pages.below(command, click.Context(command))):
        if words[0] not in at:
            takes_arguments = command is not program and getattr(command, "invoke_without_command", True)
            if re.fullmatch(r"[a-z][a-z-]*", words[0]) and not takes_arguments:
                return [f"{line}: there is no {words[0]}"]
            break
        command, words = at[words[0]], words[1:]
    known |= {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    asked = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return [f"{line}: there is no {word}" for word in asked if word not in known]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("waypost sotre du", "there is no sotre"),
        ("waypost store clean", "there is no clean"),
        ("waypost run FILE --job 3", "there is no --job"),
        ("waypost checkpoint export ID -m x", "there is no -m"),
        ("waypost show ID --timelime", "there is no --timelime"),
    ],
)
def test_a_command_that_is_not_there_is_found(line: str, fault: str) -> None:
    """The check itself tells a misspelt command, subcommand and option."""
    assert [fault in each for each in faults_of(line)] == [True]


def test_the_commands_that_are_there_pass() -> None:
    """And it finds no fault with what is right, nor with what only stands for something."""
    for line in (
        "waypost",
        "waypost …",
        "waypost checkpoint release -m x",
        "waypost checkpoint export ID -o FILE",
        "waypost --state x list --json",
        "waypost store",
    ):
        assert faults_of(line) == []
    assert sum(len(commands_of(page)) for page in PAGES) >= 100


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_what_make_is_asked_for_is_there(page: Path) -> None:
    """Each target of the Makefile that a page names exists, and what it chooses among the tests chooses some."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert [each for each in targets_of(page) if not re.search(rf"^{re.escape(each)}:", makefile, re.MULTILINE)] == []
    for selection in selections_of(page):
        chosen = re.search(r"-k '?([\w ]+)'?", selection)
        for word in chosen[1].split(" or ") if chosen else ():
            assert any(word.split()[0] in name for name in NAMES), f"{named(page)}: {word} chooses no test"
        for path in re.findall(r"tests/[\w./]+", selection):
            assert (ROOT / path).exists()


NAMES = [*names_of_tests(), *(file.name for file in (ROOT / "tests").rglob("test_*.py"))]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_tests_that_a_page_names_are_there(page: Path) -> None:
    """What is said to be shown by a test is shown by one of that name."""
    text = page.read_text(encoding="utf-8")
    assert [name for name in re.findall(r"`(test_\w+)", text) if not any(name in each for each in NAMES)] == []


def test_each_feature_of_the_original_names_a_test() -> None:
    """All thirty-five claims of the original have a row, with what is here and at least one test."""
    rows = re.findall(r"^\| (\d+) \| (.*)$", (ROOT / "docs" / "original.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 36))
    assert [number for number, row in rows if not re.search(r"`test_\w+`", row)] == []
    assert {name for _, row in rows for name in re.findall(r"`(test_\w+)`", row)} <= set(NAMES)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_options_that_a_page_names_are_there(page: Path) -> None:
    """An option that is written as `section.name` exists, and so does each section of which all are meant."""
    text = page.read_text(encoding="utf-8")
    sections = {option.partition(".")[0] for option in OPTIONS}
    for section, rest in re.findall(r"`(\w+)\.([a-z_.]+|\*)`", text):
        option = f"{section}.{rest}"
        # an event is called so, and paths into a workflow begin with `steps` too
        if section in sections and option != "performance.threshold" and not (section == "steps" and "." in rest):
            assert rest == "*" or any(each == option or each.startswith(f"{option}.") for each in OPTIONS), option


def test_the_reference_tells_every_option_error_and_command() -> None:
    """The tables of the reference are those that the program reads."""
    options, shown, told = (docs_pages.reference(page) for page in ("options", "errors", "commands"))
    assert [option for option in OPTIONS if f"| `{option}` |" not in options] == []
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.WaypostError)]
    assert [kind for kind in kinds if f"| `{kind.code}` |" not in shown] == []
    words = [words for words, _ in docs_pages.commands(program, click.Context(program), "waypost")]
    assert len(words) >= 40 and "waypost checkpoint export" in words
    assert [each for each in words if f"## `{each}`\n" not in told] == []


def test_a_site_that_lacks_an_operation_or_fetches_something_is_refused(tmp_path: Path) -> None:
    """The build looks at what it has made."""
    page = tmp_path / "reference" / "blocking.html"
    page.parent.mkdir()
    page.write_text('<script src="https://example.org/x.js"></script>')
    with pytest.raises(ValueError, match=r"https://example.org/x.js fetched from elsewhere"):
        docs_pages.check_site(tmp_path)
    page.write_text('<a href="https://example.org">x</a> <h3 id="waypost.Waypost.create_workflow">')
    with pytest.raises(ValueError, match=r"lacks .*waypost\.Waypost\.pause_workflow"):
        docs_pages.check_site(tmp_path)


def test_the_reference_has_every_public_name() -> None:
    """A module with public names stands on a page of the reference, or the site is not built."""
    assert docs_pages.unplaced() == set()
    names = [name for page in docs_pages.PAGES for name in docs_pages.names_of(page)]
    assert len(names) == len(set(names)) > 100


def test_the_tree_of_errors_is_whole() -> None:
    """Each error stands in the tree at the top of its module, which the reference shows."""
    drawn = re.findall(r"^[│ ]*[├└]── (\w+)|^    (WaypostError)$", errors.__doc__ or "", re.MULTILINE)
    names = [name or top for name, top in drawn]
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.WaypostError)]
    assert sorted(names) == sorted(kind.__name__ for kind in kinds)
