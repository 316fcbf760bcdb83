"""An agent built with LangGraph that loses its process in the middle of its work, and goes on where it stopped.

    pip install 'waypost[langgraph]' langgraph
    python examples/langgraph_agent.py [STATE]

No model is asked: what the agent decides, it decides by a rule. A first process works until it kills itself with
SIGKILL, which nothing in it learns of; a second one opens the same store, and does the rest.
"""

from __future__ import annotations

import operator
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Annotated, TypedDict

from langgraph.graph import END, START, StateGraph

from waypost.adapters.langgraph import WaypostSaver

MODULES = ["argparse", "ast", "bisect", "calendar", "cmd", "copy", "csv", "dis", "heapq", "json", "queue", "textwrap"]
KILLED_AFTER = 5
THREAD = {"configurable": {"thread_id": "survey"}}


class State(TypedDict):
    """What the agent knows. Findings are added to, not replaced."""

    to_read: list[str]
    findings: Annotated[list[tuple[str, int]], operator.add]
    report: str


def decide(state: State) -> str:
    """Stands for a model: read on while there is something to read."""
    return "read" if state["to_read"] else "summarize"


def read(state: State) -> dict[str, object]:
    """Stands for a tool: counts the definitions in a module of the standard library."""
    name, *others = state["to_read"]
    path = Path(sysconfig.get_path("stdlib"), name)
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    number = sum(line.lstrip().startswith(("def ", "class ")) for line in source.read_text().splitlines())
    print(f"read {name}", flush=True)
    if len(state["findings"]) + 1 == int(os.environ.get("KILLED_AFTER", "0")):
        os.kill(os.getpid(), signal.SIGKILL)
    return {"to_read": others, "findings": [(name, number)]}


def summarize(state: State) -> dict[str, object]:
    most, number = max(state["findings"], key=lambda found: found[1])
    return {"report": f"{len(state['findings'])} modules; {most} defines most: {number}"}


def work(state_directory: str) -> None:
    """Begin, or go on with what is there."""
    builder = StateGraph(State)
    builder.add_node("read", read)
    builder.add_node("summarize", summarize)
    builder.add_conditional_edges(START, decide)
    builder.add_conditional_edges("read", decide)
    builder.add_edge("summarize", END)
    with WaypostSaver.open(state_directory) as saver:
        graph = builder.compile(checkpointer=saver)
        known = graph.get_state(THREAD)
        if known.next:
            print(f"going on behind {len(known.values['findings'])} modules", flush=True)
        begin = None if known.next else {"to_read": MODULES, "findings": [], "report": ""}
        # "sync": a step's outcome is durable before the next one begins
        done = graph.invoke(begin, {**THREAD, "recursion_limit": 100}, durability="sync")
        print(done["report"], flush=True)


def run(state_directory: str, killed_after: int = 0) -> list[str]:
    """Have a process work, which is killed as it reads the module of that number; what it said."""
    command = [sys.executable, __file__, "--work", state_directory]
    environment = {**os.environ, "KILLED_AFTER": str(killed_after)}
    worked = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    assert worked.returncode == (-signal.SIGKILL if killed_after else 0), worked.returncode
    said = worked.stdout.splitlines()
    for line in said:
        print("  " + line)
    return said


def main(state_directory: str) -> None:
    print("a first process works, until it is killed with SIGKILL")
    first = run(state_directory, KILLED_AFTER)
    print("a second process opens the same store")
    second = run(state_directory)
    # the module that was being read at the kill may not have been recorded yet, and is read again
    again = [line for line in second if line in first]
    print(f"{len(again)} of {len(first)} modules read again; all that was recorded before the kill was kept")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2])
    elif len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as directory:
            main(directory)
