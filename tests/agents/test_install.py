"""Putting hooks into an agent's settings, and taking them out: nothing of anybody else's is touched."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.test_cli import Shown, call, call_json, here, hostile
from waypost.agents import installing, settings
from waypost.hooks import spool

__all__ = ["call", "call_json", "here"]  # fixtures

Call = Callable[..., Shown]
CallJson = Callable[..., Any]

SETTINGS = ".claude/settings.local.json"
DEFAULT = [
    *("PostToolBatch", "PreCompact", "SessionEnd", "SessionStart", "Stop", "StopFailure", "SubagentStart"),
    *("SubagentStop", "TaskCompleted", "TaskCreated", "UserPromptExpansion", "UserPromptSubmit"),
]
OTHERS = """{
    "permissions": {"allow": ["Bash(git *)"]},
    "hooks": {
        "Stop": [{"hooks": [{"type": "command", "command": "say done"}]}],
        "PreToolUse": [{"matcher": "Bash", "hooks": [{"type": "command", "command": "/x/y/_hook.py"}]}],
        "Setup": []
    },
    "größe": 1.0
}"""


def put(path: Path, text: str | bytes) -> bytes:
    data = text if isinstance(text, bytes) else text.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return data


def handlers(found: dict[str, Any], event: str) -> list[dict[str, Any]]:
    return [handler for group in found["hooks"][event] for handler in group["hooks"]]


def test_install_makes_settings_and_store(here: Path, call: Call) -> None:
    """Twelve events, each with the hook; the brief at the start, the fold beside the agent; and a store."""
    shown = call("agent", "install", "claude-code", "--yes")
    assert (shown.status, "12 events" in shown.out) == (0, True)
    found = json.loads((here / SETTINGS).read_text())
    assert sorted(found["hooks"]) == DEFAULT
    hook = {
        "type": "command",
        "command": sys.executable,
        "args": ["-I", "-S", spool.script_path(), "--dialect", "claude-code"],
        "timeout": 5,
    }
    for event in DEFAULT:
        assert handlers(found, event)[0] == hook
    assert [each["args"][2:] for each in handlers(found, "SessionStart")[1:]] == [
        ["waypost", "agent", "brief", "--hook"]
    ]
    (fold,) = handlers(found, "Stop")[1:]
    assert (fold["args"][2:], fold["async"]) == (["waypost", "agent", "fold", "--quiet"], True)
    assert (here / ".claude/state/FORMAT").exists()


def test_detail_takes_each_call(call: Call, here: Path) -> None:
    """With --detail each call is told by its beginning and its end, in place of the batch."""
    assert call("agent", "install", "claude-code", "--detail", "--yes").status == 0
    found = json.loads((here / SETTINGS).read_text())
    assert sorted(found["hooks"]) == sorted(
        [*(set(DEFAULT) - {"PostToolBatch"}), "PreToolUse", "PostToolUse", "PostToolUseFailure"]
    )
    assert call("agent", "install", "claude-code", "--yes").status == 0
    assert sorted(json.loads((here / SETTINGS).read_text())["hooks"]) == DEFAULT


def test_installing_twice_changes_nothing(call: Call, here: Path) -> None:
    """The second time the file keeps its very bytes, whoever has formatted it meanwhile."""
    put(here / SETTINGS, OTHERS)
    assert call("agent", "install", "claude-code", "--yes").status == 0
    reformatted = json.dumps(json.loads((here / SETTINGS).read_bytes())).encode()
    put(here / SETTINGS, reformatted)
    shown = call("agent", "install", "claude-code", "--yes")
    assert (shown.status, "has them already" in shown.out) == (0, True)
    assert (here / SETTINGS).read_bytes() == reformatted


def test_what_is_others_stays(call: Call, here: Path) -> None:
    """Entries that others wrote stay as they are, in their order, with one that only looks like ours."""
    put(here / SETTINGS, OTHERS)
    call("agent", "install", "claude-code", "--yes")
    found, before = json.loads((here / SETTINGS).read_text()), json.loads(OTHERS)
    assert {name: found[name] for name in found if name != "hooks"} == {
        name: before[name] for name in before if name != "hooks"
    }
    assert handlers(found, "Stop")[0] == {"type": "command", "command": "say done"}
    assert found["hooks"]["PreToolUse"] == before["hooks"]["PreToolUse"]
    assert (here / SETTINGS).read_text().splitlines()[1].startswith('    "permissions"')


@pytest.mark.parametrize("text", ["", "{}", OTHERS, OTHERS.replace("    ", "\t"), '{"hooks": {}}\r\n', '\n\n{"a":1}'])
def test_uninstall_gives_back_the_bytes(call: Call, here: Path, text: str) -> None:
    """Where nothing else has changed since, the file is byte for byte what it was."""
    before = put(here / SETTINGS, text)
    assert call("agent", "install", "claude-code", "--status-line", "--yes").status == 0
    assert (here / SETTINGS).read_bytes() != before
    assert call("agent", "uninstall", "claude-code", "--yes").status == 0
    if text:
        assert (here / SETTINGS).read_bytes() == before
    assert [each.name for each in (here / ".claude").iterdir() if each.name != "state"] == (
        ["settings.local.json"] if text else []
    )


def test_uninstall_takes_a_file_away_that_was_made(call: Call, here: Path) -> None:
    """Where there were no settings, there are none again; the store stays."""
    call("agent", "install", "claude-code", "--yes")
    call("agent", "uninstall", "claude-code", "--yes")
    assert [each.name for each in (here / ".claude").iterdir()] == ["state"]


def test_uninstall_keeps_what_changed_since(call: Call, here: Path) -> None:
    """What somebody has added after installing stays when the hooks go."""
    put(here / SETTINGS, OTHERS)
    call("agent", "install", "claude-code", "--yes")
    found = json.loads((here / SETTINGS).read_text())
    found["model"] = "opus"
    found["hooks"]["Stop"].append({"hooks": [{"type": "command", "command": "later"}]})
    put(here / SETTINGS, json.dumps(found))
    call("agent", "uninstall", "claude-code", "--yes")
    wanted = json.loads(OTHERS)
    wanted["model"] = "opus"
    wanted["hooks"]["Stop"].append({"hooks": [{"type": "command", "command": "later"}]})
    assert json.loads((here / SETTINGS).read_text()) == wanted
    shown = call("agent", "uninstall", "claude-code")
    assert (shown.status, "has none of them" in shown.out) == (0, True)


@pytest.mark.parametrize(
    "text",
    ['{"a": 1', "[]", "null", '{"a": NaN}', '{"a": 1, "a": 2}', '{"hooks": []}', '{"hooks": {"Stop": {}}}',
     '{"hooks": {"Stop": [1]}}', '{"hooks": {"Stop": [{"matcher": "x"}]}}', "\xff".encode("latin-1"), "[" * 100_000],
    ids=lambda text: repr(text[:40]),
)  # fmt: skip
def test_settings_that_are_none_are_left_alone(call: Call, here: Path, text: str | bytes) -> None:
    """What is no JSON, or has another shape, is refused with the file's name, and not touched."""
    before = put(here / SETTINGS, text)
    for verb in ("install", "uninstall"):
        shown = call("agent", verb, "claude-code", "--yes")
        assert (shown.status, "are left as they are" in shown.err) == (2, True)
    assert (here / SETTINGS).read_bytes() == before


def test_nothing_is_changed_without_a_yes(call: Call, here: Path) -> None:
    """Without a terminal and --yes nothing happens, and the error says so."""
    shown = call("agent", "install", "claude-code")
    assert (shown.status, "Say --yes" in shown.err) == (2, True)
    assert not (here / ".claude").exists()


def test_the_change_is_shown(here: Path) -> None:
    """The difference that is asked about names what comes in, and nothing of what stays far from it."""
    put(here / SETTINGS, json.dumps(json.loads(OTHERS), indent=4, ensure_ascii=False) + "\n")
    change = installing.plan_install(here / SETTINGS, installing.entries("claude-code"))
    added = [line for line in change.diff().splitlines() if line.startswith("+")]
    assert any(spool.script_path() in line for line in added)
    assert not any("git" in line for line in added)


def test_a_file_that_changed_meanwhile_is_not_overwritten(here: Path) -> None:
    """Between the look and the write somebody else may write: then it is refused."""
    put(here / SETTINGS, "{}")
    change = installing.plan_install(here / SETTINGS, installing.entries("claude-code"))
    put(here / SETTINGS, '{"new": 1}')
    with pytest.raises(installing.Refused, match="changed meanwhile"):
        installing.carry_out(change, keep=True)
    assert (here / SETTINGS).read_bytes() == b'{"new": 1}'


def test_links_and_modes_stay(call: Call, here: Path) -> None:
    """A link to settings that are kept elsewhere stays a link, and the file keeps its mode."""
    target = here / "dotfiles" / "settings.json"
    put(target, "{}")
    target.chmod(0o640)
    (here / ".claude").mkdir()
    (here / SETTINGS).symlink_to(target)
    call("agent", "install", "claude-code", "--yes")
    assert (here / SETTINGS).is_symlink()
    assert "hooks" in json.loads(target.read_text())
    assert target.stat().st_mode & 0o777 == 0o640
    call("agent", "uninstall", "claude-code", "--yes")
    assert ((here / SETTINGS).is_symlink(), target.read_bytes()) == (True, b"{}")


def test_scopes_have_their_files(call: Call, here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each scope has its file; for all projects no store is made."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    call("agent", "install", "claude-code", "--user", "--yes")
    assert (tmp_path / "home/.claude/settings.json").exists()
    assert not (here / ".claude").exists()
    call("agent", "install", "claude-code", "--project", "--yes")
    assert (here / ".claude/settings.json").exists()
    call("agent", "install", "codex", "--yes")
    codex = json.loads((here / ".codex/hooks.json").read_text())
    assert {"PreToolUse", "PostToolUse", "Stop", "SessionStart"} <= set(codex["hooks"])
    (command,) = [each["command"] for each in handlers(codex, "Stop")]
    assert shlex.split(command) == [sys.executable, "-I", "-S", spool.script_path(), "--dialect", "codex"]
    call("agent", "uninstall", "codex", "--yes")
    assert not (here / ".codex/hooks.json").exists()


def test_a_named_store_is_named_to_the_hooks(call: Call, here: Path) -> None:
    """Where the store is another than the project's own, the hooks are told which."""
    call("agent", "install", "claude-code", "--yes", "--state", "elsewhere")
    found = json.loads((here / SETTINGS).read_text())
    assert handlers(found, "Stop")[0]["args"][-2:] == ["--spool", str(here / "elsewhere" / "spool")]
    assert handlers(found, "SessionStart")[1]["args"][-2:] == ["--state", str(here / "elsewhere")]
    assert (here / "elsewhere/FORMAT").exists()


# --- the status line ---


def test_a_status_line_is_chained_and_restored(call: Call, here: Path) -> None:
    """The status line that is there is shown before ours, and is what stays when ours goes."""
    put(here / SETTINGS, '{"statusLine": {"type": "command", "command": "printf \'a b\'", "refreshInterval": 2}}')
    call("agent", "install", "claude-code", "--status-line", "--yes")
    line = json.loads((here / SETTINGS).read_text())["statusLine"]
    assert line["refreshInterval"] == 2
    done = subprocess.run(line["command"], shell=True, input=b"{}", capture_output=True, check=True, cwd=here)
    assert done.stdout.decode() == "a b · waypost: recording\n"
    spooled = here / ".claude/state/spool"
    spooled.mkdir(exist_ok=True)
    (spooled / "x.event").write_bytes(b"")
    shown = [sys.executable, "-m", "waypost", "agent", "status-line", "--then", "echo x"]
    done = subprocess.run(shown, input=b"{}", capture_output=True, check=True, cwd=here)
    assert done.stdout.decode() == "x · waypost: 1 waiting\n"
    changed = json.loads((here / SETTINGS).read_text())
    changed["x"] = 1
    put(here / SETTINGS, json.dumps(changed))
    call("agent", "uninstall", "claude-code", "--yes")
    assert json.loads((here / SETTINGS).read_text())["statusLine"]["command"] == "printf 'a b'"


def test_a_status_line_tells_that_there_is_no_store(tmp_path: Path) -> None:
    """Outside of projects with a store the line says so, and never fails, whatever it is told."""
    command = shlex.split(installing.status_line_command("exit 3"))
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(command, input=b"\xff", capture_output=True, check=False, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"waypost: no store here\n", b"")


# --- the plugin ---


def test_a_plugin_is_whole(call: Call, here: Path) -> None:
    """A plugin folder has its manifest, the hooks that installing puts in, the commands, and the MCP server."""
    call("agent", "plugin", "made")
    found = json.loads((here / "made/hooks/hooks.json").read_text())
    assert found["hooks"] == {event: [{"hooks": each}] for event, each in installing.entries("claude-code").items()}
    assert json.loads((here / "made/.claude-plugin/plugin.json").read_text())["name"] == "waypost"
    assert json.loads((here / "made/.mcp.json").read_text())["mcpServers"]["waypost"]["args"][-1] == "mcp"
    commands = sorted((here / "made/commands").iterdir())
    assert [each.stem for each in commands] == ["checkpoint", "resume", "status"]
    for each in commands:
        text = each.read_text()
        assert text.startswith("---\ndescription: ")
        assert "{waypost}" not in text
        assert f"{sys.executable} -P -m waypost" in text
    assert call("agent", "plugin", "made").status == 0
    (here / "other").mkdir()
    (here / "other/file").touch()
    assert call("agent", "plugin", "other").status == 2


def test_own_entries_are_known_by_their_commands() -> None:
    """Handlers of any release and place are ours by script or module; others are not, whatever they look like."""
    ours = [
        {"command": "/old/python", "args": ["-I", "-S", "/old/lib/waypost/_hook.py"]},
        {"command": "'/a b/python' -I -S '/a b/waypost/_hook.py' --dialect codex"},
        {"command": "python3 -m waypost agent brief"},
    ]
    others: list[Any] = [
        {"command": "cat /x/waypost/_hook.py.txt"},
        {"command": "/x/_hook.py"},
        {"command": "python -m waypost status"},
        {"command": "it's"},
        {"type": "prompt"},
        {"command": 3},
        None,
    ]
    assert [settings.is_own(each) for each in [*ours, *others]] == [True] * 3 + [False] * 7


def test_x21_the_settings_that_change_cannot_reach_the_terminal(
    here: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings come with a project, which others write: what they would tell a terminal is written out."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda *_, **__: False)
    put(here / SETTINGS, '{"model": "\x9b2J\u202elive", "hooks": {}}')
    shown = call("agent", "install", "claude-code")
    assert shown.status == 1 and hostile(shown.out) == [] and "\\x9b2J\\u202elive" in shown.out
