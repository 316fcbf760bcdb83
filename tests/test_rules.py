"""The rules are held against the tests: each has one that bears its id, or says that it is still to come."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAST = {"D": 25, "C": 15, "S": 7, "N": 7, "V": 9, "E": 12, "X": 29, "Q": 13, "T": 21}
"""How far each series goes. None was given up so far, so there are no gaps."""
TRAPS = (2, 3, 6, 24, 29)
"""Traps that have tests of their own from the work on crashes on."""
_RULE = re.compile(r"^- \*\*([A-Z]\d+)\*\* (.*(?:\n  .*)*)", re.MULTILINE)
_STILL_TO_COME = "*Still to come*"


def rules() -> dict[str, str]:
    """What docs/rules.md says under each id."""
    found = _RULE.findall((ROOT / "docs" / "rules.md").read_text(encoding="utf-8"))
    assert len(dict(found)) == len(found), "an id stands there twice"
    return dict(found)


def names_of_tests() -> list[str]:
    """Those of the tests, and of the conformance kit, which they hold the stores to."""
    files = [*sorted((ROOT / "tests").rglob("test_*.py")), *sorted((ROOT / "src/waypost/testing").glob("*.py"))]
    return [
        name
        for file in files
        for name in re.findall(r"^(?:    |async )?def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]


def ids_in(names: Iterable[str]) -> set[str]:
    """The ids that names of tests carry: of `test_t01_d05_...` these are T1 and D5."""
    series = "".join(LAST).lower()
    return {
        f"{letter.upper()}{int(number)}"
        for name in names
        for letter, number in re.findall(rf"(?<=_)([{series}])(\d\d)(?=_)", name)
    }


def complaints(said: dict[str, str], named: set[str]) -> list[str]:
    """What is wrong between the rules and the names of tests."""
    waiting = {rule for rule, text in said.items() if _STILL_TO_COME in text}
    found = [f"{rule} is named by no test" for rule in said if rule not in waiting and rule not in named]
    found += [f"{rule} is still to come, and a test names it" for rule in said if rule in waiting and rule in named]
    return found + [f"{rule} is named by a test and is no rule" for rule in sorted(named - said.keys())]


def test_q13_each_rule_is_named_by_a_test_or_still_to_come() -> None:
    """No rule is a mere intention: a test carries its id, or it says that it waits."""
    assert complaints(rules(), ids_in(names_of_tests())) == []


def test_q13_no_rule_was_lost() -> None:
    """Each series is whole and in order."""
    expected = [f"{series}{number}" for series, last in LAST.items() for number in range(1, last + 1)]
    assert list(rules()) == expected


@pytest.mark.parametrize(
    ("said", "names", "complaint"),
    [
        ({"D1": "x"}, ["test_d1_x", "test_d10_x", "test_ad01_x"], "D1 is named by no test"),
        ({"D1": "*Still to come*: x"}, ["test_trap_03_d01_x"], "D1 is still to come, and a test names it"),
        ({}, ["test_t01_d99_x"], "D99 is named by a test and is no rule"),
    ],
)
def test_q13_a_rule_without_a_test_is_found(said: dict[str, str], names: list[str], complaint: str) -> None:
    """The check itself tells each way in which rules and tests can part."""
    assert complaint in complaints(said, ids_in(names))
    assert complaints({"D1": "x", "D2": "*Still to come*: y"}, ids_in(["test_t01_d01_x"])) == [
        "T1 is named by a test and is no rule"
    ]


@pytest.mark.parametrize("trap", TRAPS)
def test_q13_each_trap_has_tests(trap: int) -> None:
    """What the traps promise is shown by tests that name them."""
    assert [name for name in names_of_tests() if f"_trap_{trap:02}_" in name]


def test_q10_each_test_has_a_time_limit() -> None:
    """A hang is a failure: there is a limit for all, and no test lifts it."""
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]
    assert 0 < float(configured["timeout"]) <= 600
    lifted = re.compile(r"mark\.timeout\((0|None|-)|--timeout[= ]0")
    assert not [
        file for file in (ROOT / "tests").rglob("*.py") if file != Path(__file__) and lifted.search(_text(file))
    ]


def test_q11_no_test_is_tried_twice() -> None:
    """Nothing that repeats a failed test is installed or asked for."""
    pins = _text(ROOT / "requirements" / "dev.txt").lower()
    assert not re.search(r"rerun|flaky|pytest-retry", pins)
    assert not [file for file in (ROOT / "tests").rglob("*.py") if re.search(r"mark\.(flaky|rerun|retry)", _text(file))]


def test_x28_the_core_needs_few_packages() -> None:
    """Who installs Waypost gets these and what they need, and nothing more."""
    project = tomllib.loads(_text(ROOT / "pyproject.toml"))["project"]
    names = [re.split(r"[^a-z.]", each)[0] for each in project["dependencies"]]
    assert names == ["msgspec", "click", "rich", "backports.zstd"]
    assert set(project["optional-dependencies"]) == {
        *("lz4", "brotli", "seal", "postgres", "watch", "mcp", "web", "all"),
        *("claude-agent", "langgraph", "openai-agents"),
    }


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")
