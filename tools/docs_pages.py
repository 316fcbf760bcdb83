"""What the site has beside the pages of `docs/`: a reference made from the source, and the documents of the root.

MkDocs calls the functions whose names begin with `on_` (mkdocs.yml). The reference is complete by construction: its
pages share out the modules of `waypost.__init__`'s table of public names, and a module that no page takes ends the
build. Options and commands are read from the tables that the program itself reads.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

import waypost
from waypost import defaults, errors
from waypost.cli.commands import Verb
from waypost.cli.commands import waypost as program

ROOT = Path(__file__).parents[1]

PAGES = {
    "blocking": ("The blocking face", "waypost.blocking waypost.runs waypost.watching waypost.attempts"),
    "async": ("The asynchronous face", "waypost.api waypost.watches"),
    "results": ("Results", "waypost.operations"),
    "workflows": ("Workflows", "msgspec waypost.models waypost.queries waypost.places waypost.codec.values"),
    "history": ("History", "waypost.history waypost.delta waypost.blame waypost.erasures"),
    "sessions": ("Sessions and syncing", "waypost.session_models waypost.sync_models"),
    "upkeep": (
        "Upkeep",
        "waypost.cleaning waypost.store waypost.maintenance waypost.rotation waypost.schema waypost.migrating "
        "waypost.migrations",
    ),
    "conduct": ("Metrics and alerts", "waypost.performance waypost.monitor waypost.alerts waypost.prometheus"),
    "hooks": ("Hook events", "waypost.integrator waypost.hooks.listeners waypost.hooks.payloads"),
    "errors": ("Errors", "waypost.errors"),
    "options": ("Options", "waypost.config"),
    "commands": ("Commands", ""),
}
"""For each page of the reference its title, and the modules whose public names stand on it."""

DOCUMENTS = {"ARCHITECTURE.md": "Architecture", "CONTRIBUTING.md": "Contributing", "SECURITY.md": "Security"}
DOCUMENTS |= {"CHANGELOG.md": "Changelog"}
"""Documents of the root that the site shows, under their names in small letters, where they are there."""

# a field is one line; of an error what its table says is left out
_FIELDS = "    options:\n      separate_signature: false\n"
_SHOWN = dict.fromkeys(("workflows", "history", "sessions", "upkeep", "conduct"), _FIELDS)
_SHOWN |= {"errors": '    options:\n      filters: ["!^_", "!^(code|retryable|exit_status)$"]\n'}
_NO_BOUND = defaults.Range(0).high
_FETCHED = re.compile(
    r"""<(?:script|img|link|iframe|source|use)\b[^>]*?\b(?:src|srcset|href)=["']?((?:https?:)?//[^"' >]+)"""
)
_LINK = re.compile(r"\[([^\]]*)\]\((?![a-z]+:)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Put what is made here into the navigation."""
    if unplaced():
        raise ValueError(f"no page of the reference takes {', '.join(sorted(unplaced()))}")
    for section in config.nav:
        if "Reference" in section:
            section["Reference"] = ["reference/index.md", *({title: _path(page)} for page, (title, _) in PAGES.items())]
        if "Project" in section:
            section["Project"] += [{DOCUMENTS[name]: name.lower()} for name in _documents()]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made here."""
    from mkdocs.structure.files import File

    made = {"reference/index.md": index(), **{_path(page): reference(page) for page in PAGES}}
    made |= {name.lower(): (ROOT / name).read_text(encoding="utf-8") for name in _documents()}
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Turn links to files of the repository into links to what the site shows of them, or into plain text."""
    here = ROOT if page.file.src_uri in {name.lower() for name in _documents()} else ROOT / "docs"
    folder = (here / page.file.src_uri).parent

    def turned(found: re.Match[str]) -> str:
        text, path, anchor = found[1], (folder / found[2]).resolve(), found[3] or ""
        if path.is_relative_to(ROOT / "docs"):
            inside = path.relative_to(ROOT / "docs").as_posix()
            if not (path.exists() or files.get_file_from_path(inside)):
                return found[0]  # which the build then complains of
        elif path.exists():
            inside = path.relative_to(ROOT).as_posix().lower()
            if files.get_file_from_path(inside) is None:
                return text
        else:
            return found[0]
        return f"[{text}]({'../' * page.file.src_uri.count('/')}{inside}{anchor})"

    return _LINK.sub(turned, markdown)


def on_post_build(*, config: Any) -> None:
    """Look at the site as it was built."""
    check_site(Path(config.site_dir))


def check_site(site: Path) -> None:
    """Refuse a site that has something fetched from elsewhere, or lacks a public name or an operation of a face."""
    anchors: set[str] = set()
    for file in sorted(site.rglob("*.html")):
        text = file.read_text(encoding="utf-8")
        fetched = sorted(set(_FETCHED.findall(text)))
        if fetched:
            raise ValueError(f"{file.name} has {', '.join(fetched)} fetched from elsewhere")
        anchors.update(re.findall(r'<h\d id="(waypost\.[\w.]+)"', text))
    faces = ("Waypost", "AsyncWaypost")
    wanted = {f"waypost.{name}" for page in PAGES for name in names_of(page)}
    wanted |= {f"waypost.{face}.{name}" for face in faces for name in vars(getattr(waypost, face)) if name[0] != "_"}
    lacking = sorted(wanted - anchors - {f"waypost.{face}.definitions" for face in faces})
    if lacking:
        raise ValueError(f"the reference lacks {', '.join(lacking)}")


def index() -> str:
    """The first page of the reference: every public name, and where it stands."""
    lines = ["# Reference\n", "What `import waypost` offers, and the command line, both made from the source.\n"]
    for page, (title, _) in PAGES.items():
        names = ", ".join(f"[`{name}`]({page}.md#waypost.{name})" for name in names_of(page))
        lines.append(f"**[{title}]({page}.md)**: {names or 'every command with its options'}\n")
    return "\n".join(lines)


def reference(page: str) -> str:
    """The text of a page of the reference."""
    title, _ = PAGES[page]
    before = {"errors": _errors, "options": _options, "commands": _commands}.get(page)
    lines = [f"# {title}\n", *(before() if before else ())]
    options = _SHOWN.get(page, "")
    return "\n".join([*lines, *(f"::: waypost.{name}\n{options}" for name in names_of(page))])


def names_of(page: str) -> list[str]:
    """The public names that stand on a page."""
    return [name for module in PAGES[page][1].split() for name in waypost._MODULES[module].split() if name != "UNSET"]


def unplaced() -> set[str]:
    """The modules with public names that no page takes. There should be none."""
    return waypost._MODULES.keys() - {"msgspec", *(name for _, modules in PAGES.values() for name in modules.split())}


def _errors() -> Iterator[str]:
    tree = (errors.__doc__ or "").partition("\n\n")[2].partition("\n\n`")
    yield f"```text\n{textwrap.dedent(tree[0])}\n```\n"
    yield f"`{tree[2]}"
    yield "| error | `code` | retryable | exit status |\n| --- | --- | --- | --- |"
    for name in names_of("errors"):
        kind: type[waypost.WaypostError] = getattr(errors, name)
        retryable = "yes" if kind.retryable else ""
        yield f"| [`{name}`](#waypost.{name}) | `{kind.code}` | {retryable} | {kind.exit_status} |"
    yield ""


def _options() -> Iterator[str]:
    yield "How they are set is told in [Configure](../how-to/configure.md). Each has a test that shows its effect.\n"
    for field in msgspec.structs.fields(waypost.Config):
        yield f"## `{field.name}`\n\n{inspect.getdoc(field.type)}\n"
        yield "| option | takes | development | production | high_throughput |\n| --- | --- | --- | --- | --- |"
        for name, option in defaults.OPTIONS.items():
            if name.startswith(f"{field.name}."):
                values = (_literal(value) for value in option[1:])
                taken = str(option.taken).replace("|", "\\|").replace(f" to {_NO_BOUND}", " up")
                yield f"| `{name}` | {taken} | {' | '.join(values)} |"
        yield ""


def _literal(value: defaults.Value) -> str:
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`" if value not in ("", ()) else "none"


def _commands() -> Iterator[str]:
    for words, command in commands(program, click.Context(program), "waypost"):
        context = click.Context(command, info_name=words)
        yield f"## `{words}`\n\n```text\n{command.get_help(context)}\n```\n"


def commands(command: click.Command, context: click.Context, words: str) -> Iterator[tuple[str, click.Command]]:
    """A command and all below it, each with the words that call it."""
    yield words, command
    for name, each in below(command, context).items():
        if not each.hidden:
            yield from commands(each, context, f"{words} {name}")


def below(command: click.Command, context: click.Context) -> dict[str, click.Command]:
    """The commands below one, by their names: of a group, and of a verb, which is a command itself."""
    if isinstance(command, Verb):
        return {name: command.make_context(name, [name], resilient_parsing=True).command for name in command._entries}
    names = command.list_commands(context) if isinstance(command, click.Group) else ()
    found = {name: command.get_command(context, name) for name in names}
    return {name: each for name, each in found.items() if each is not None}


def _documents() -> list[str]:
    return [name for name in DOCUMENTS if (ROOT / name).exists()]


def _path(page: str) -> str:
    return f"reference/{page}.md"
