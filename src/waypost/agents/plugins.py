"""A plugin folder for Claude Code: the hooks, commands, and the MCP server.

It is written for this machine, since a plugin cannot say where Python and Waypost are. The commands are texts in
`plugin/`, in which `{waypost}` stands for the program.
"""

from __future__ import annotations

import json
import shlex
import sys
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from waypost.agents import installing
from waypost.errors import InvalidInput

NAME = "waypost"
_ABOUT = "Keeps what the agent does durably, and tells the next one what is unfinished."


def write(folder: Path, *, detail: bool = False, state: str | None = None) -> list[Path]:
    """Write the plugin to a folder, which must be new, empty, or one that was written here; its files.

    Raises InvalidInput for a folder of another kind, and OSError.
    """
    manifest = folder / ".claude-plugin" / "plugin.json"
    if folder.exists() and not _is_ours(manifest) and any(folder.iterdir()):
        raise InvalidInput(f"{folder} holds something else than this plugin: name a new folder", path=str(folder))
    hooks = {
        event: [{"hooks": handlers}]
        for event, handlers in installing.entries("claude-code", detail=detail, state=state).items()
    }
    waypost = [sys.executable, "-P", "-m", "waypost"]
    place = [] if state is None else ["--state", state]
    texts = {
        # first, so that a folder that was written halfway is known to be ours
        ".claude-plugin/plugin.json": _json({"name": NAME, "version": version("waypost"), "description": _ABOUT}),
        "hooks/hooks.json": _json({"description": _ABOUT, "hooks": hooks}),
        ".mcp.json": _json({"mcpServers": {NAME: {"command": waypost[0], "args": [*waypost[1:], "mcp", *place]}}}),
        **{f"commands/{name}": text.replace("{waypost}", shlex.join(waypost)) for name, text in _commands().items()},
    }
    made: list[Path] = []
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        made.append(path)
    return made


def _is_ours(manifest: Path) -> bool:
    try:
        found: Any = json.loads(manifest.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and cast("dict[str, Any]", found).get("name") == NAME


def _commands() -> dict[str, str]:
    folder = files("waypost.agents") / "plugin" / "commands"
    return {each.name: each.read_text(encoding="utf-8") for each in folder.iterdir() if each.name.endswith(".md")}


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
