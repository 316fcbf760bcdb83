"""The files of the page as tests: what they may not do, their sizes, and who imports whom.

Each rule is a function from files, by their paths below `web/static`, to its findings. It is held over the real ones,
and over small planted ones that break it, so that no rule is one that cannot fail.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from posixpath import dirname, join, normpath

import pytest

WEB = Path(__file__).resolve().parent.parent / "src" / "waypost" / "web"
SHELL = "shell.html"

MOST_LINES_OF_A_FILE = 500
LONGEST_LINE = 120

Files = Mapping[str, str]
Rule = Callable[[Files], list[str]]

# What parses text as HTML or runs it; the page's policy forbids most of it, and other browsers some.
SINKS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|setHTML|document\.write|DOMParser|createContextualFragment|srcdoc"
    r"|\beval\(|\bFunction\(|javascript:|\.cookie\b|set(?:Timeout|Interval)\(\s*[\"'`]|setAttribute\(\s*[\"']style"
    r"|cssText\s*\+?=\s*[\"'`]|\bimport\("
)
MAKERS = re.compile(r"createElement|\.cloneNode")
ELSEWHERE = re.compile(r"[a-z]*://[^\s\"'`]+|@import\b|\burl\((?![\"']?#)|[\"'`(]//\w", re.IGNORECASE)
NAMESPACE = "http://www.w3.org/2000/svg"
KEPT = {"localStorage": "theme.js", "sessionStorage": "token.js"}

IMPORT = re.compile(r'import (?:\{([^}]*)\} from )?"([^"]+)";')
EXPORT = re.compile(r"^export (?:async )?(?:function|const|class) (\w+)", re.MULTILINE)


def real() -> dict[str, str]:
    """The files of the page, and its shell."""
    found = {
        p.relative_to(WEB / "static").as_posix(): p.read_text() for p in (WEB / "static").rglob("*") if p.is_file()
    }
    return {**found, SHELL: (WEB / "templates" / SHELL).read_text()}


def modules(files: Files) -> dict[str, str]:
    return {path: text for path, text in files.items() if path.endswith(".js")}


def imports(path: str, text: str) -> Iterator[tuple[str, list[str]]]:
    """What a module imports: the path of another, and names of it."""
    for names, target in IMPORT.findall(text):
        yield normpath(join(dirname(path), target)), [each.strip() for each in names.split(",") if each.strip()]


def matches(files: Files, pattern: re.Pattern[str], allowed: Callable[[str, str], bool]) -> list[str]:
    return [
        f"{path}:{number}: {found.group()}"
        for path, text in files.items()
        for number, line in enumerate(text.splitlines(), 1)
        for found in pattern.finditer(line)
        if not allowed(path, found.group())
    ]


# --- rules ---


def short(files: Files) -> list[str]:
    """Files and lines have bounds."""
    long = [
        f"{path}:{number}: {len(line)} characters"
        for path, text in files.items()
        for number, line in enumerate(text.splitlines(), 1)
        if len(line) > LONGEST_LINE
    ]
    lengths = {path: len(text.splitlines()) for path, text in files.items()}
    return long + [f"{path}: {number} lines" for path, number in lengths.items() if number > MOST_LINES_OF_A_FILE]


def nothing_is_parsed(files: Files) -> list[str]:
    """No text becomes HTML, a style or a program."""
    return matches(files, SINKS, lambda path, found: False)


def one_maker(files: Files) -> list[str]:
    """Elements are made in one place."""
    return matches(modules(files), MAKERS, lambda path, found: path == "dom.js")


def nothing_from_elsewhere(files: Files) -> list[str]:
    """Nothing is loaded from another place, and no other place is named."""
    return matches(files, ELSEWHERE, lambda path, found: found == NAMESPACE)


def nothing_else_is_kept(files: Files) -> list[str]:
    """The browser keeps the theme, and for one tab the token: each is written in one module."""
    pattern = re.compile("|".join([*KEPT, "indexedDB", r"caches\b", "serviceWorker"]))
    return matches(modules(files), pattern, lambda path, found: KEPT.get(found) == path)


def shell_is_bare(files: Files) -> list[str]:
    """The shell holds no style, no program and no data: the policy would refuse the first two."""
    pattern = re.compile(r"\sstyle=|\son\w+=|<style|<script(?![^>]*\ssrc=)|\{\{|\{%", re.IGNORECASE)
    return matches({SHELL: files[SHELL]}, pattern, lambda path, found: False)


def each_is_used(files: Files) -> list[str]:
    """Each file is reached from the shell, and what is imported is there, used, and in no circle."""
    found: list[str] = []
    graph: dict[str, set[str]] = {}
    for path, text in modules(files).items():
        graph[path] = {target for target, _ in imports(path, text)}
        found += [f"{path}: there is no {target}" for target in graph[path] if target not in files]
    asked = re.findall(r'(?:href|src)="/static/([^"]+)"', files[SHELL])
    found += [f"{SHELL}: there is no {path}" for path in asked if path not in files]
    reached = {SHELL}
    while asked:
        path = asked.pop()
        if path not in reached:
            reached.add(path)
            asked.extend(graph.get(path, ()))
    found += [f"{path}: nobody asks for it" for path in files if path not in reached]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f"a circle: {' → '.join(error.args[1])}")
    return found


def names_are_used(files: Files) -> list[str]:
    """Each name that is imported is there and used, and each that is exported is imported by somebody."""
    found: list[str] = []
    exported = {path: set(EXPORT.findall(text)) for path, text in modules(files).items()}
    taken: set[tuple[str, str]] = set()
    for path, text in modules(files).items():
        rest = IMPORT.sub("", text)
        for target, names in imports(path, text):
            taken.update((target, name) for name in names)
            found += [f"{path}: {target} has no {name}" for name in names if name not in exported.get(target, ())]
            found += [f"{path}: {name} is not used" for name in names if not re.search(rf"\b{name}\b", rest)]
    for path, names in exported.items():
        found += [f"{path}: nobody imports {name}" for name in sorted(names) if (path, name) not in taken]
    return found


RULES: dict[Rule, list[dict[str, str]]] = {
    short: [{"a.js": "x" * 121}, {"a.css": "x\n" * 501}],
    nothing_is_parsed: [
        {"a.js": "x.innerHTML = y"},
        {"a.js": "setTimeout('x()', 1)"},
        {"a.js": 'x.setAttribute("style", y)'},
        {"a.js": "const f = new Function(x)"},
        {"a.js": "await import(x)"},
    ],
    one_maker: [{"parts.js": "document.createElement('a')"}, {"a.js": "x.cloneNode(true)"}],
    nothing_from_elsewhere: [
        {"a.js": 'get("https://example.org/x")'},
        {"a.css": "@import 'b.css';"},
        {"a.css": "src: url(/x.woff)"},
        {"a.js": 'get("//example.org")'},
    ],
    nothing_else_is_kept: [
        {"api.js": "sessionStorage.x = 1"},
        {"theme.js": "sessionStorage.x = 1"},
        {"a.js": "indexedDB"},
    ],
    shell_is_bare: [
        {SHELL: '<p style="x">'},
        {SHELL: "<script>x</script>"},
        {SHELL: "<p onclick=x>"},
        {SHELL: "{{ x }}"},
    ],
    each_is_used: [
        {"alone.js": ""},
        {SHELL: '<script src="/static/gone.js">'},
        {SHELL: '<script src="/static/a.js">', "a.js": 'import { b } from "./gone.js";'},
        {
            SHELL: '<script src="/static/a.js">',
            "a.js": 'import { b } from "./b.js";',
            "b.js": 'import { a } from "./a.js";',
        },
    ],
    names_are_used: [
        {"a.js": 'import { b } from "./b.js";\nb()', "b.js": ""},
        {"a.js": 'import { b } from "./b.js";', "b.js": "export function b() {}"},
        {"b.js": "export const b = 1;"},
    ],
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_page_keeps_a_rule(rule: Rule) -> None:
    """The files of the page break none of the rules."""
    assert rule(real()) == []


@pytest.mark.parametrize(
    ("rule", "planted"),
    [
        pytest.param(rule, planted, id=f"{rule.__name__}-{number}")
        for rule, those in RULES.items()
        for number, planted in enumerate(those)
    ],
)
def test_a_rule_finds_what_breaks_it(rule: Rule, planted: dict[str, str]) -> None:
    """Each rule finds what was planted to break it."""
    assert rule({SHELL: "", **planted})


def test_the_rules_have_files_to_look_at() -> None:
    """There is a page, with styles, modules, a picture and a shell."""
    assert {path.rpartition(".")[2] for path in real()} == {"css", "html", "js", "svg"}
    assert len(modules(real())) > 30
