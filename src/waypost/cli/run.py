"""`waypost run`: do the steps of a TOML file; killed at any moment and started again, it repeats no finished step."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

import click

from waypost.cli import INTERRUPTED, messages, plan
from waypost.cli.invocation import Invocation, options
from waypost.cli.text import count, duration

if TYPE_CHECKING:
    from waypost.cli.engine import Summary

_HELP = """\
Do the steps of FILE, a TOML file, in parallel where they allow it; go on where an earlier run stopped.

\b
name = "Nightly build"          # the workflow's id is workflow = "…", else the file's name
[steps.fetch]
run = "curl -sO https://example.org/data.csv"   # for the shell, or a list of words
retries = 2                     # tried again that often
timeout = 60                    # seconds
[steps.load]
run = ["python", "load.py"]
needs = ["fetch"]               # starts when these are finished
env = { MODE = "full" }         # added to the environment
cwd = "sub"                     # relative to the file, which is the default
agent = "loader"                # who is on record as doing it

Each step's exit code, the last 64 KB of its output, and its time are kept: waypost show WORKFLOW --step ID.
A finished step is never repeated; one that failed in an earlier run is tried again. Steps that are new in the file
are added, those no longer in it are kept and named. Ctrl-C ends the commands under way and leaves their steps
pending. Commands do not outlive the run, however it dies, unless they leave their process group.
"""


@click.command(help=_HELP)
@click.argument("file", type=click.Path())
@click.option(
    "--jobs", "-j", type=click.IntRange(1, 512), metavar="N", help="Steps at once; by default one for each CPU."
)
@options
@click.pass_obj
def run(invocation: Invocation, file: str, jobs: int | None) -> int:
    wanted = plan.load(file)
    import waypost
    from waypost.cli.engine import Engine
    from waypost.cli.progress import reporter
    from waypost.config import is_directory

    place = invocation.location()
    with waypost.open(place) as wp, reporter(invocation.json) as told:
        # steps may work from elsewhere; a location that is no directory may hold a password, which `wp` does not tell
        found = os.path.abspath(wp.location) if is_directory(place) else place
        summary = Engine(wp, wanted, jobs or os.cpu_count() or 1, told, found).run()
    status = _exit_status(summary)
    if invocation.json:
        messages.print_json(_document(wanted, summary, status))
    else:
        _show(summary, wanted, file, invocation.flag())
    return status


def _exit_status(summary: Summary) -> int:
    if summary.signal:
        # as a shell says it: 130 after Ctrl-C
        return INTERRUPTED - 2 + summary.signal
    return 1 if summary.failed else 0


def _document(wanted: plan.Plan, summary: Summary, status: int) -> dict[str, Any]:
    steps: dict[str, Any] = {}
    for name, final in summary.statuses.items():
        done = summary.done.get(name)
        ended = None if done is None else done.ended
        steps[name] = {
            "status": final,
            "done_now": done is not None and done.result == "completed",
            "attempts": 0 if done is None else done.attempts,
            "exit_code": None if ended is None else ended.exit_code,
            "duration_ms": None if ended is None else ended.duration_ms,
            "error": (done.reason or None) if done is not None else None,
        }
    return {
        "workflow": wanted.workflow,
        "file": wanted.file,
        "exit_status": status,
        "duration_ms": summary.duration_ms,
        "signal": summary.signal or None,
        "steps": steps,
        "finished_before": summary.prepared.finished,
        "taken_over": summary.prepared.taken_over,
        "tried_again": summary.prepared.again,
        "added": summary.prepared.added,
        "changed": summary.prepared.changed,
        "missing": summary.prepared.missing,
    }


def _show(summary: Summary, wanted: plan.Plan, file: str, flag: str) -> None:
    from waypost.cli import screen

    results = [done.result for done in summary.done.values()]
    failed = [name for name, status in summary.statuses.items() if status == "failed"]
    left = sum(status in ("pending", "running") for status in summary.statuses.values())
    said = [(f"{count(results.count('completed'), 'step')} done", "green")]
    if summary.prepared.finished:
        said.append((f", {len(summary.prepared.finished):,} done before", "dim"))
    if failed:
        said.append((f", {len(failed):,} failed", "bold red"))
    if left:
        said.append((f", {left:,} not done", "yellow"))
    said.append((f"  in {duration(summary.duration_ms)}", "dim"))
    screen.show(screen.text(*said))
    if failed:
        screen.show(
            screen.text(
                (
                    f"look at it  waypost show {shlex.quote(wanted.workflow)} --step {shlex.quote(failed[0])}{flag}",
                    "dim",
                )
            )
        )
    elif left:
        screen.show(screen.text((f"go on with  waypost run {shlex.quote(file)}{flag}", "dim")))
