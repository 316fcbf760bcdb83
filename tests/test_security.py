"""SECURITY.md and the first page are held against the rules and the tests."""

from __future__ import annotations

import re
from pathlib import Path

from tests.test_rules import ids_in, rules

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
STILL = "still to come"


def listed(page: str) -> dict[str, tuple[str, str]]:
    """What the table says: by rule, against whom, and the last column."""
    rows = re.findall(r"^\| (X\d+) \| ([a-e ]+|-) \| (.+) \|$", page, re.MULTILINE)
    assert len(dict.fromkeys(rule for rule, _, _ in rows)) == len(rows), "a rule stands there twice"
    return {rule: (against, test) for rule, against, test in rows}


def complaints(page: str, said: dict[str, str]) -> list[str]:
    """What is wrong between the table, the rules, and the tests."""
    found: list[str] = []
    table = listed(page)
    for rule, text in said.items():
        if rule not in table:
            found.append(f"{rule} is not listed")
            continue
        against, test = table[rule]
        letters = re.search(r"\(([a-e](?: [a-e])*)\)$", text)
        if against != (letters[1] if letters else "-"):
            found.append(f"{rule} is against {against} here, and not there")
        if ("*Still to come*" in text) != (test == STILL):
            found.append(f"{rule} is still to come in one place only")
        elif test != STILL and not _is_there(rule, test):
            found.append(f"{rule}: there is no such test: {test}")
    return found + [f"{rule} is no rule" for rule in table if rule not in said]


def _is_there(rule: str, shown: str) -> bool:
    match = re.fullmatch(r"`(test_\w+)` in `(tests/[\w/]+\.py)`", shown)
    if match is None or rule not in ids_in([match[1]]) or not (ROOT / match[2]).exists():
        return False
    return re.search(rf"def {match[1]}\(", (ROOT / match[2]).read_text(encoding="utf-8")) is not None


def rules_of_security() -> dict[str, str]:
    return {rule: text for rule, text in rules().items() if rule.startswith("X")}


def test_x29_each_rule_of_security_is_listed_with_a_test() -> None:
    """With the same enemies as in the rules, and a test that is there and names it."""
    assert complaints(PAGE, rules_of_security()) == []


def test_x29_a_fault_in_the_list_is_found() -> None:
    """A rule that is missing, unknown, against others, still to come in one place, or with a test that is not there."""
    row = "| X3 | c | `test_v01_x01_x03_no_format_that_runs_code` in `tests/test_tidy.py` |"
    said = {"X3": "Nothing pickles. (c)"}
    assert complaints(row, said) == []
    for page, expected in {
        "": "X3 is not listed",
        f"{row}\n| X4 | c | {STILL} |": "X4 is no rule",
        row.replace("| c |", "| c d |"): "X3 is against c d here, and not there",
        f"| X3 | c | {STILL} |": "X3 is still to come in one place only",
        row.replace("no_format", "any_format"): "there is no such test",
        row.replace("_x03_", "_"): "there is no such test",
        row.replace("test_tidy", "test_untidy"): "there is no such test",
    }.items():
        assert any(expected in found for found in complaints(page, said)), (page, expected)


def test_x11_the_first_page_says_where_trust_ends() -> None:
    """Whoever reads the README learns that what is in a store is not trusted, and where that is told in full."""
    (paragraph,) = re.findall(
        r"^\*\*Where trust ends\*\*: .*\n(?:.+\n)*", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert "nothing that stands in a store is trusted" in paragraph and "(SECURITY.md)" in paragraph
    assert "## Where trust ends" in PAGE
    assert re.findall(r"^\| ([a-e]) \|", PAGE, re.MULTILINE) == list("abcde")


def test_the_pages_lead_somewhere() -> None:
    """Each relative link, and each `make` target, is there."""
    makefile = (ROOT / "Makefile").read_text()
    for page in (ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md"):
        text = page.read_text(encoding="utf-8")
        assert [link for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text) if not (ROOT / link).exists()] == []
        targets = {*re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)}
        assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []
