"""The example of an agent that loses its process, run as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from waypost.adapters.langgraph import WaypostSaver, pages

PAGE = (Path(__file__).parents[2] / "docs" / "langgraph.md").read_text(encoding="utf-8")
EXAMPLE = Path(__file__).parents[2] / "examples" / "langgraph_agent.py"


def test_a_killed_agent_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Killed with SIGKILL in the middle, it finishes in another process; at most the module at hand is read again."""
    command = [sys.executable, "-W", "error", str(EXAMPLE), str(tmp_path / "store")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = [line.strip() for line in ran.stdout.splitlines()]
    going_on = next(line for line in lines if line.startswith("going on behind"))
    recorded = int(going_on.split()[3])
    assert recorded == 4
    read = [line for line in lines if line.startswith("read ")]
    assert len(set(read)) == 12 and len(read) == 12 + 5 - recorded
    assert any(line.startswith("12 modules; argparse defines most") for line in lines)
    with WaypostSaver.open(tmp_path / "store") as saver:
        assert [each for each in saver._store.verify().findings if each.severity != "note"] == []
        found = saver.get_tuple({"configurable": {"thread_id": "survey"}})
    assert found is not None and len(found.checkpoint["channel_values"]["findings"]) == 12


def test_the_page_shows_what_works_and_says_what_is_so(tmp_path: Path) -> None:
    """Its example runs twice, and goes on the second time; sizes are those of the source."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (said,) = re.findall(r"print\(.*\) +# (.*)", code)
    environment = {name: value for name, value in os.environ.items() if name != "WAYPOST_STATE"}
    command = [sys.executable, "-W", "error", "-c", code]
    for expected in (said, "['hello', '1 so far', 'hello', '3 so far']"):
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert (ran.returncode, ran.stderr, ran.stdout) == (0, "", f"{expected}\n")
    assert f"holds {pages.PAGE_BYTES >> 10} KB, or eight times" in PAGE and pages.STATES == 8
