"""`waypost log`, `diff` and `blame`: what people and programs are shown of a workflow's past."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests import test_cli as shared
from tests.conftest import make_config
from waypost import blocking, clock
from waypost.models import WorkflowStep
from waypost.store import DocumentId
from waypost.store.directory import compaction, upkeep

here, wp, call, call_json = shared.here, shared.wp, shared.call, shared.call_json
NASTY = shared.NASTY


@pytest.fixture
def past(wp: blocking.Waypost) -> blocking.Waypost:
    """A workflow with some commits by several, one of them together with another workflow."""
    wp.create_workflow("survey", "Survey", "s1", ["fetch", "a.b"]).unwrap()
    wp.update_step_status("survey", "fetch", "completed", {"rows": [{"price": 1}]}, agent_id="scout").unwrap()
    wp.add_step_output("survey", "fetch", {"rows": [{"price": 2}], "n": 1}, session_id="s2").unwrap()

    def work(tx: Any) -> None:
        tx.create_workflow("report", "Report")
        tx.update_context("survey", variables={"x": None})

    wp.transact(work).unwrap()
    return wp


def test_log_shows_commits_newest_first(call, past: blocking.Waypost) -> None:
    """A row for each commit: its version, operation, who made it and what it changed; transactions are marked."""
    shown = call("log", "sur")
    header, *rows = [re.split(r"\s{2,}", line.strip()) for line in shown.out.splitlines()]
    assert header == ["version", "commit", "when", "by", "what"]
    assert [row[0] for row in rows] == ["*─", "*", "*", "*"] and [row[1] for row in rows] == ["4", "3", "2", "1"]
    joint, added, done, _ = shown.out.splitlines()[1:]
    assert "transact  context.variables.x  with report@1" in joint
    assert re.search(r"  s2 +add_step_output  steps.fetch, outputs.fetch$", added)
    assert re.search(r"  scout +fetch: completed$", done)
    assert past.history("survey")[0].commit_id[:12] in joint


@pytest.fixture
def parted(wp: blocking.Waypost) -> blocking.Waypost:
    """A workflow that went back twice to one checkpoint, and another that was forked from it."""
    wp.create_workflow("paper", "Paper", steps=["draft", "review"]).unwrap()
    kept = wp.create_checkpoint("paper").unwrap()
    for error in ("the network is down", "the disk is full"):
        wp.update_step_status("paper", "draft", "failed", error=error).unwrap()
        wp.restore_from_checkpoint(kept.id).unwrap()
    wp.update_step_status("paper", "draft", "completed").unwrap()
    wp.fork_workflow(kept.id, "other").unwrap()
    return wp


def test_log_draws_where_histories_part(call, parted: blocking.Waypost) -> None:
    """What was gone back from stands on a line of its own, which ends where both meet."""
    lines = call("log", "paper", "--graph").out.splitlines()
    assert [line[:5].rstrip() for line in lines[1:]] == ["*", "*", "│ *", "│ *", "│ │ *", "├─╯ │", "├───╯", "*", "*"]
    assert lines[5].endswith("draft: failed  the network is down")
    assert re.search(r"restore_from_checkpoint  from paper@c\w+$", lines[2])
    cut = call("log", "paper", "--graph", "--limit", "4").out.splitlines()
    assert len(cut) == 6 and cut[-1] == "… and older ones: --before 4"


def test_log_goes_on_with_what_a_fork_came_from(call, call_json, parted: blocking.Waypost) -> None:
    """Below a fork stand the versions up to the checkpoint that it was made from, as far as the limit reaches."""
    lines = call("log", "other", "--graph", "--oneline").out.splitlines()
    assert [line.split()[2] for line in lines] == ["1", "2", "1"] and "fork_workflow  from paper@c" in lines[0]
    assert [line.split()[1] for line in call("log", "other", "--graph").out.splitlines()[1:]] == [
        "1",
        "paper@2",
        "paper@1",
    ]
    assert len(call("log", "other", "--graph", "--oneline", "--limit", "2").out.splitlines()) == 2
    assert len(call("log", "other").out.splitlines()) == 2
    assert [each["version"] for each in call_json("log", "other", "--graph")["commits"]] == [1]


def test_log_on_one_line(call, past: blocking.Waypost) -> None:
    """--oneline gives the id that `diff` and `show` print, the version and what was done."""
    newest = past.history("survey")[0].commit_id[:12]
    first, *_, last = call("log", "survey", "--oneline").out.splitlines()
    assert first == f"*─  {newest}  4  transact  context.variables.x  with report@1"
    assert re.fullmatch(r"\*   \w{12}  1  create_workflow  2 steps", last)


def test_log_has_pages(call, call_json, past: blocking.Waypost) -> None:
    """--limit and --before give a page, and the page says how to go on."""
    shown = call("log", "survey", "--limit", "3")
    assert shown.out.splitlines()[-1] == "… and older ones: --before 2"
    assert len(call("log", "survey", "--before", "2").out.splitlines()) == 2
    assert call("log", "survey", "--before", "1").out == "no commits of so early a version\n"
    page = call_json("log", "survey", "--limit", "3")
    assert ([each["version"] for each in page["commits"]], page["next_before"]) == ([4, 3, 2], 2)
    whole = call_json("log", "survey")
    assert ([each["version"] for each in whole["commits"]], whole["next_before"]) == ([4, 3, 2, 1], None)
    newest = whole["commits"][0]
    assert (newest["together_with"], bool(newest["transaction_id"]), newest["kept"]) == (["report@1"], True, True)
    assert datetime.fromisoformat(newest["at"]).tzinfo is not None
    assert (whole["commits"][3]["session_id"], whole["commits"][3]["operation"]) == ("s1", "create_workflow")


def test_log_of_a_deleted_workflow(call, past: blocking.Waypost) -> None:
    """What was deleted has a log, whose newest commit removed all."""
    past.delete_workflow("survey").unwrap()
    assert "delete_workflow" in call("log", "survey").out.splitlines()[1]
    assert "all, but for tombstone" in call("log", "survey").out
    assert call("log", "nothing").status == 3


def test_log_says_where_history_begins(call, call_json, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions that are no longer kept are one line, and entries with their ids in JSON."""
    now = clock.now_us()
    with blocking.open(".claude/state", config=make_config()) as wp:
        monkeypatch.setattr(clock, "now_us", lambda: now - 2 * 30 * compaction.DAY_US)
        wp.create_workflow("w", "W").unwrap()
        for number in range(200):
            wp.update_context("w", variables={"n": number}).unwrap()
        monkeypatch.undo()
        monkeypatch.chdir(here)
        wp.update_context("w", variables={"last": 1}).unwrap()
        store: Any = wp.definitions.store
        assert upkeep.compact(store._document(DocumentId("workflow", "w")), store._context)
    lines = call("log", "w", "--limit", "500").out.splitlines()
    assert len(lines) == 3 and re.match(r"^: +1 to 201 +no longer kept", lines[2])
    assert "no longer kept" in call("log", "w", "--limit", "500", "--oneline").out
    last = call_json("log", "w", "--limit", "500")["commits"][-1]
    assert (last["version"], last["kept"], last["operation"], len(last["commit_id"])) == (1, False, None, 64)
    assert "at or before version 201" in call("blame", "w", "workflow.name").out
    assert call_json("blame", "w", "workflow.name")["or_before"] is True
    refused = call("diff", "w@5", "w")
    assert refused.status == 3 and "its history begins with version 201" in refused.err


def test_diff_shows_signs_and_paths(call, call_json, past: blocking.Waypost) -> None:
    """Added is +, removed -, changed ~ with both values; ids may be shortened, also with a version."""
    shown = call("diff", "survey@2", "sur")
    assert shown.out.splitlines() == [
        "survey@2 to survey@4: 4 differences",
        "~ steps.fetch.output_version  1 -> 2",
        "~ outputs.fetch.rows[0].price  1 -> 2",
        "+ outputs.fetch.n  1",
        "+ context.variables.x  null",
    ]
    assert "- outputs.fetch.n  1" in call("diff", "sur", "sur@2").out
    kept = past.create_checkpoint("survey").unwrap()
    assert call("diff", kept.id[:-2], "survey").out == "survey@5 to survey@5: no differences\n"
    assert call("diff", "survey@c0", "survey").status == 3
    document = call_json("diff", "sur@2", "survey@4")
    assert (document["before"], document["after"]) == ("survey@2", "survey@4")
    assert document["changes"][1] == {
        "kind": "changed", "path": "outputs.fetch.rows[0].price", "before": 1, "after": 2
    }  # fmt: skip
    assert document["changes"][3] == {"kind": "added", "path": "context.variables.x", "after": None}
    assert call_json("diff", "survey", "survey@4")["changes"] == []
    assert (call("diff", "survey@9", "survey").status, call("diff", "s@x", "survey").status) == (3, 3)


def test_diff_takes_ids_that_look_like_references(call, wp: blocking.Waypost) -> None:
    """A workflow whose id reads like a version or a checkpoint is found, whole, shortened, and with a version."""
    for name in ("team@core", "team"):
        wp.create_workflow(name, "W").unwrap()
        wp.pause_workflow(name).unwrap()
    kept = wp.create_checkpoint("team@core").unwrap()
    for before in ("team@core@1", "team@co@1", "team@cor@1"):
        assert call("diff", before, "team@co").out.splitlines()[0] == "team@core@1 to team@core@3: 1 difference"
    assert call("diff", kept.id[:-1], "team@core@2").out == "team@core@3 to team@core@2: no differences\n"
    assert "no checkpoint" in call("diff", f"{kept.id}0", "team").err


def test_diff_cuts_long_values_unless_asked(call, wp: blocking.Waypost) -> None:
    """A long value is cut for people, and whole with --all; a large output is told by its size."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    wp.update_context("w", variables={"long": "x" * 5000}).unwrap()
    wp.add_step_output("w", "a", b"y" * 3_000_000).unwrap()
    (line,) = [line for line in call("diff", "w@1", "w@2").out.splitlines() if "long" in line]
    assert len(line) < 300 and line.endswith("…")
    assert "x" * 5000 in call("diff", "w@1", "w@2", "--all").out
    assert "2.9 MB, not loaded" in call("diff", "w@2", "w@3").out
    assert "2.9 MB, not loaded" in call("blame", "w", "outputs.a").out


def test_blame_says_who_and_from_what(call, call_json, past: blocking.Waypost) -> None:
    """The commit that set a value is told with its version, session and agent, and with the value before."""
    shown = call("blame", "sur", "outputs.fetch.rows[0].price")
    assert re.search(r"^  value +2$", shown.out, re.MULTILINE)
    assert re.search(r"^  set +just now|^  set .* by add_step_output, in version 3$", shown.out, re.MULTILINE)
    assert re.search(r"^  session +s2$", shown.out, re.MULTILINE)
    assert re.search(r"^  before +1, since version 2$", shown.out, re.MULTILINE)
    assert re.search(r"^  with +report@1$", call("blame", "sur", "context.variables.x").out, re.MULTILINE)
    found = call_json("blame", "survey", "outputs.fetch.rows[0].price")
    assert (found["value"], found["before"], found["before_since"], found["or_before"]) == (2, 1, 2, False)
    assert (found["commit"]["version"], found["commit"]["session_id"]) == (3, "s2")
    assert "before" not in call_json("blame", "survey", "context.variables.x")
    assert call_json("blame", "survey", 'steps["a.b"].status')["value"] == "pending"
    missing = call("blame", "survey", "outputs.fetch.rows[7]")
    assert missing.status == 3 and "the nearest that is there is outputs.fetch.rows" in missing.err
    assert call("blame", "survey", "no way").status == 2
    assert call_json("blame", "survey", "outputs.x", status=3)["error"]["details"]["nearest"] == "outputs"


@pytest.fixture
def nasty(wp: blocking.Waypost) -> blocking.Waypost:
    """A workflow whose past holds what a terminal would act on wherever it may."""
    steps = ["[red]markup[/red]", WorkflowStep("c", name=NASTY, max_retries=3)]
    wp.create_workflow("[bold]w[/bold]", NASTY, "[red]s[/red]", steps).unwrap()
    for value in (NASTY, f"{NASTY}\n{NASTY}"):
        wp.update_step_status("[bold]w[/bold]", "c", "running").unwrap()
        wp.update_step_status("[bold]w[/bold]", "c", "failed", {NASTY: [value]}, error=NASTY).unwrap()
    wp.update_context("[bold]w[/bold]", variables={"v": NASTY, "[/red]": "\x7f"}).unwrap()
    return wp


@pytest.mark.parametrize(
    "arguments",
    [
        ["log", "[bold]"],
        ["log", "[bold]", "--graph", "--oneline"],
        ["diff", "[bold]w[/bold]@1", "[bold]"],
        ["diff", "[bold]w[/bold]@3", "[bold]w[/bold]@5", "--all"],
        ["blame", "[bold]", "outputs.c"],
        ["blame", "[bold]", "steps"],
        ["blame", "[bold]", "context.variables", "--all"],
        ["blame", "[bold]", NASTY],
        ["blame", "[bold]", f"outputs.c.{NASTY}"],
        ["log", NASTY],
        ["diff", NASTY, NASTY],
        ["diff", f"{NASTY}@1", "[bold]"],
        ["log", "[bold]", "--before", NASTY],
    ],
)
def test_x21_the_past_cannot_reach_the_terminal(call, nasty: blocking.Waypost, arguments: list[str]) -> None:
    """Whatever the past holds, only line ends and printable text come out, also in errors and JSON."""
    for more in ([], ["--json"]):
        shown = call(*arguments, *more)
        assert shown.out + shown.err and shared.hostile(shown.out + shown.err) == []
        if more:
            shared.strict_json(shown.out)


def test_x21_paths_that_are_shown_can_be_given_again(call_json, call, nasty: blocking.Waypost) -> None:
    """What `diff` prints for a path is what `blame` takes, whatever is in its keys."""
    shown = call("diff", "[bold]w[/bold]@1", "[bold]", "--all").out.splitlines()[1:]
    changes = call_json("diff", "[bold]w[/bold]@1", "[bold]")["changes"]
    assert len(shown) == len(changes) > 5
    for line, change in zip(shown, changes, strict=True):
        path = line[2:].split("  ")[0]
        assert path == change["path"]
        assert call_json("blame", "[bold]", path)["path"] == path


def test_x21_colours_are_those_of_the_commands(nasty: blocking.Waypost) -> None:
    """In a terminal there are the colours of the command itself, and no other sequence."""
    for arguments in (["log", "[bold]"], ["diff", "[bold]w[/bold]@1", "[bold]"], ["blame", "[bold]", "outputs.c"]):
        printed = shared.on_terminal(*arguments)
        assert re.search("\x1b\\[", printed)
        assert shared.hostile(re.sub("\x1b\\[[0-9;]*m", "", printed).replace("\r\n", "\n")) == []


def test_log_tells_what_a_checkpoint_came_with(call, wp: blocking.Waypost) -> None:
    """The checkpoint that a step leaves is named only where nothing else was changed; --json has all of it."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    wp.update_step_status("w", "a", "completed").unwrap()
    kept = wp.create_checkpoint("w").unwrap()
    lines = call("log", "w").out.splitlines()
    assert kept.id in lines[1] and lines[2].endswith("a: completed")
    assert "checkpoints[" in call("log", "w", "--json").out
