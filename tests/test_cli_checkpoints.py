"""The commands that keep workflows and go back to what is kept."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ON_REQUEST, make_config
from tests.test_cli import NASTY, Shown, call, call_json, here, wp
from waypost import blocking
from waypost.blocking import Waypost

__all__ = ["call", "call_json", "here", "wp"]  # fixtures

Call = Callable[..., Shown]
CallJson = Callable[..., Any]


@pytest.fixture
def made(wp: Waypost) -> Waypost:
    wp.create_workflow("survey", "Survey", steps=["fetch", "parse"]).unwrap()
    wp.update_step_status("survey", "fetch", "completed", {"rows": 3}).unwrap()
    return wp


def test_a_workflow_is_kept_and_listed(made: Waypost, call: Call, call_json: CallJson) -> None:
    """By the beginning of its id, with a description and tags; what is listed is what was made."""
    shown = call("checkpoint", "sur", "-m", "before parsing", "--tag", "stable", "--tag", "x")
    kept = made.list_checkpoints("survey")[0]
    assert shown.status == 0 and kept.id in shown.out
    assert (kept.description, kept.tags) == ("before parsing", ("stable", "x"))
    second = call_json("checkpoint", "survey")
    assert second["parent_id"] == kept.id and second["workflow_id"] == "survey"
    listed = call("checkpoint", "--list")
    assert [line.split()[0] for line in listed.out.splitlines()[1:3]] == [second["checkpoint_id"], kept.id]
    assert call_json("checkpoint", "survey", "--list", "--tag", "stable")["total"] == 1
    more = made.list_checkpoints("survey").total - 1
    assert f"… and {more} more" in call("checkpoint", "--list", "--limit", "1").out
    with blocking.open(".claude/state", config=make_config({"checkpoints": ON_REQUEST})) as quiet:
        quiet.create_workflow("other", "Other").unwrap()
    assert call("checkpoint", "other", "--list").out.strip() == "no checkpoints"


def test_a_fork_is_another_workflow(made: Waypost, call: Call, call_json: CallJson) -> None:
    """It has what was kept, by as much of the checkpoint's id as tells it from others."""
    kept = made.create_checkpoint("survey").unwrap()
    assert "survey2" in call("fork", kept.id[:-2], "survey2").out
    assert made.load_workflow_state("survey2").unwrap().step("fetch").output == {"rows": 3}
    assert call_json("fork", kept.id, "survey3")["checkpoint_id"] == kept.id
    assert call("fork", kept.id, "survey2").status == 4


def test_going_back_shows_what_changes_and_asks(made: Waypost, call: Call, call_json: CallJson) -> None:
    """Without a terminal it wants --yes; the differences are those of `waypost diff`."""
    kept = made.create_checkpoint("survey").unwrap()
    made.update_context("survey", variables={"rows": 4}).unwrap()
    refused = call("restore", kept.id)
    assert refused.status == 2 and "1 difference" in refused.err and "--yes" in refused.err
    assert "rows" in made.load_workflow_state("survey").unwrap().context.variables
    assert "- context.variables.rows" in call("diff", "survey", kept.id[:-3]).out
    shown = call("restore", kept.id[:-3], "--yes")
    assert shown.status == 0 and kept.id in shown.out
    assert "rows" not in made.load_workflow_state("survey").unwrap().context.variables
    made.update_context("survey", variables={"rows": 5}).unwrap()
    found = call_json("restore", kept.id, "--yes")
    assert [each["path"] for each in found["changes"]] == ["context.variables.rows"] and found["id"] == "survey"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("checkpoint",), 2),
        (("checkpoint", "nobody"), 3),
        (("checkpoint", "nobody", "--list"), 3),
        (("fork", "survey@c", "other"), 2),
        (("fork", "nobody@c1", "other"), 3),
        (("fork", "nonsense", "other"), 3),
        (("restore", "survey@c", "--yes"), 2),
        (("restore", "nonsense", "--yes"), 3),
        (("diff", "survey", "survey@c0"), 3),
    ],
)
def test_what_cannot_be_done_is_told(made: Waypost, call: Call, arguments: tuple[str, ...], status: int) -> None:
    """Nothing to keep, nothing of that name, a beginning of several ids."""
    for _ in range(2):
        made.create_checkpoint("survey").unwrap()
    shown = call(*arguments)
    assert shown.status == status and shown.err.startswith("error: ") and not shown.out


def test_where_there_is_no_store_none_is_made(here: Any, call: Call) -> None:
    """A command that keeps something needs something to keep."""
    assert call("checkpoint", "w").status == 3
    assert call("fork", "w@c1", "v").status == 3
    assert not list(here.iterdir())


def test_what_was_given_is_shown_harmlessly(made: Waypost, call: Call) -> None:
    """A description cannot act on the terminal."""
    made.create_checkpoint("survey", NASTY).unwrap()
    shown = call("checkpoint", "--list")
    assert "\x1b" not in shown.out and "\u202e" not in shown.out


def test_checkpoints_of_a_lost_workflow_are_listed(made: Waypost, call: Call, here: Any) -> None:
    """Its log is gone, and what is kept of it is found."""
    kept = made.create_checkpoint("survey", "all that is left").unwrap()
    made.close()
    (here / ".claude/state/workflows/survey.state").unlink()
    assert kept.id in call("checkpoint", "survey", "--list").out
    assert call("restore", kept.id, "--yes").status == 0 and call("show", "survey").status == 0
    assert call("fork", kept.id, "again").status == 0


def test_what_a_damaged_log_costs_is_said_once(made: Waypost, call: Call, call_json: CallJson, here: Any) -> None:
    """One warning in each command, however often the log is asked; resume says what can be done."""
    kept = made.create_checkpoint("survey", "whole").unwrap()
    made.close()
    log = here / ".claude/state/workflows/survey.state"
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    for arguments in (["checkpoint", "survey", "--list"], ["fork", kept.id, "again"], ["resume"]):
        shown = call(*arguments)
        assert (shown.status, shown.err.count("looked for without its log")) == (0, 1)
    assert "go on with  waypost store repair --dry-run" in shown.out
    assert call_json("resume")["go_on"] == "waypost store repair --dry-run"
    assert call("store", "repair", "--yes").status == 0
    assert call("restore", kept.id, "--yes").status == 0


# --- carrying ---


def test_a_checkpoint_is_carried_to_another_store(
    made: Waypost, call: Call, call_json: CallJson, here: Any, tmp_path: Path
) -> None:
    """One file holds it; what is imported is listed there and can be gone back to; doing it twice changes nothing."""
    kept = made.create_checkpoint("survey", "as it was", ["t"]).unwrap()
    exported = call_json("checkpoint", "export", kept.id[:-2], "--output", "kept.bin")
    data = (here / "kept.bin").read_bytes()
    assert (exported["checkpoint_id"], exported["file"]) == (kept.id, "kept.bin")
    assert (exported["size_bytes"], exported["sha256"]) == (len(data), sha256(data).hexdigest())
    assert (here / "kept.bin").stat().st_mode & 0o777 == 0o600
    other = str(tmp_path / "other")
    shown = call("checkpoint", "import", "kept.bin", "--state", other)
    assert shown.status == 0 and kept.id in shown.out and "survey" in shown.out
    for _ in range(2):
        assert call_json("checkpoint", "--state", other, "import", "kept.bin")["checkpoint_id"] == kept.id
    assert call_json("checkpoint", "--list", "--state", other)["total"] == 1
    assert call("restore", kept.id, "--yes", "--state", other).status == 0
    again = call_json("checkpoint", "import", "--as", "survey2", "kept.bin", "--state", other)
    assert again["workflow_id"] == "survey2" and again["description"] == "as it was"
    assert call("checkpoint", "import", "kept.bin", "--as", "survey2", "--state", other).status == 4


def test_an_export_has_a_name_of_its_own_and_takes_no_others_place(made: Waypost, call: Call, here: Any) -> None:
    """Without --output it is named by the id; what is there stays, unless --yes is said."""
    kept = made.create_checkpoint("survey").unwrap()
    assert call("checkpoint", "export", kept.id).status == 0
    (name,) = [each.name for each in here.iterdir() if each.name.endswith(".checkpoint")]
    whole = (here / name).read_bytes()
    (here / name).write_bytes(b"mine")
    refused = call("checkpoint", "export", kept.id)
    assert refused.status == 2 and "--yes" in refused.err and (here / name).read_bytes() == b"mine"
    assert call("checkpoint", "export", kept.id, "--yes").status == 0
    assert len((here / name).read_bytes()) == len(whole)
    assert not [each for each in here.iterdir() if each.name.startswith(".waypost-")]
    nowhere = call("checkpoint", "export", kept.id, "-o", "nowhere/file")
    assert nowhere.status == 5 and "nowhere/file" in nowhere.err


def test_an_export_goes_through_a_pipe(made: Waypost, call_json: CallJson, here: Any) -> None:
    """From one process to the next: `waypost checkpoint export ID -o - | waypost checkpoint import - --state OTHER`."""
    kept = made.create_checkpoint("survey").unwrap()
    assert call_json("checkpoint", "export", kept.id, "-o", "-", status=2)["error"]["code"] == "usage"
    made.close()
    waypost = [sys.executable, "-m", "waypost", "checkpoint"]
    data = subprocess.run([*waypost, "export", kept.id, "-o", "-"], capture_output=True, check=True).stdout
    told = subprocess.run(
        [*waypost, "import", "-", "--state", "other", "--json"], input=data, capture_output=True, check=True
    )
    assert json.loads(told.stdout)["checkpoint_id"] == kept.id


def test_a_workflow_may_be_called_like_a_command(made: Waypost, call: Call, call_json: CallJson) -> None:
    """Behind `--` it is meant, and nothing else is."""
    for name in ("export", "import"):
        made.create_workflow(name, name).unwrap()
        before = made.list_checkpoints(name).total
        assert call("checkpoint", "-m", "x", "--", name).status == 0
        assert made.list_checkpoints(name).total == before + 1
        assert call("checkpoint", "--list", name).status == 0
    assert "export" in call("checkpoint", "--help").out and "FILE" in call("checkpoint", "import", "--help").out


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("checkpoint", "export"), 2),
        (("checkpoint", "import"), 2),
        (("checkpoint", "export", "survey@c"), 2),
        (("checkpoint", "export", "survey@c0"), 3),
        (("checkpoint", "export", "nonsense"), 3),
        (("checkpoint", "import", "missing"), 2),
        (("checkpoint", "import", "."), 2),
        (("checkpoint", "import", "a\0b"), 2),
        (("checkpoint", "import", "text"), 2),
        (("checkpoint", "import", "cut"), 6),
        (("checkpoint", "import", "newer"), 6),
        (("checkpoint", "import", "whole", "--as", ""), 2),
        (("checkpoint", "import", "whole", "--as", "survey"), 4),
        (("checkpoint", "import", "whole", "more"), 2),
    ],
)
def test_what_cannot_be_carried_is_told(
    made: Waypost, call: Call, here: Any, arguments: tuple[str, ...], status: int
) -> None:
    """Files that are not there, no exports, damaged or newer; ids that name nothing, or too much."""
    for _ in range(2):
        kept = made.create_checkpoint("survey").unwrap()
    whole = made.export_checkpoint(kept.id)
    files = {"whole": whole, "cut": whole[:-9], "newer": b"WPF\2" + whole[4:], "text": b"some text"}
    for name, data in files.items():
        (here / name).write_bytes(data)
    before = made.list_checkpoints().total
    shown = call(*arguments)
    assert shown.status == status and shown.err.startswith("error: ") and not shown.out
    assert made.list_checkpoints().total == before


def test_where_there_is_no_store_an_import_makes_one(made: Waypost, call: Call, here: Any, tmp_path: Path) -> None:
    """And not before what is to be imported was read."""
    place = str(tmp_path / "new")
    assert call("checkpoint", "import", "missing", "--state", place).status == 2
    assert not (tmp_path / "new").exists()
    kept = made.create_checkpoint("survey").unwrap()
    assert call("checkpoint", "export", kept.id, "-o", "file").status == 0
    assert call("checkpoint", "import", "file", "--state", place).status == 0
    assert call("checkpoint", "export", kept.id, "--state", str(tmp_path / "none")).status == 3
