"""Two people and a nightly job work on the same state in a PostgreSQL server.

    python examples/team_on_postgres.py postgresql://ann@db.example.org/work

Any of them may be on another machine. Both change one workflow at once and lose nothing, somebody watches, and what
began in a directory on a laptop goes to the server with all of its history.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from pathlib import Path

import waypost

WORKFLOW = "release"


def person(location: str, name: str, steps: list[str]) -> None:
    """Does some of the steps, in a session of their own."""
    with waypost.open(location) as wp:
        session = wp.start_session(name)
        for step_id in steps:
            wp.update_step_status(WORKFLOW, step_id, "running").unwrap()
            wp.update_step_status(WORKFLOW, step_id, "completed", f"{name} did it").unwrap()
        wp.end_session(session.session_id).unwrap()


def main(location: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        laptop = Path(folder) / "state"
        with waypost.open(laptop) as wp:
            steps = [f"ann-{number}" for number in range(5)] + [f"bob-{number}" for number in range(5)]
            wp.create_workflow(WORKFLOW, "Release", steps=steps).unwrap()
            report = wp.sync(location).unwrap()
            print("to the server:", ", ".join(f"{each.id} {each.action}" for each in report.documents))
    with waypost.open(location) as wp, wp.watch(WORKFLOW) as events:
        people = [
            threading.Thread(target=person, args=(location, name, [f"{name}-{number}" for number in range(5)]))
            for name in ("ann", "bob")
        ]
        for each in people:
            each.start()
        for seen, event in enumerate(events, 1):
            if wp.load_workflow_state(WORKFLOW).unwrap().workflow.status == "completed":
                print(f"seen as it happened: {seen} events, the last of them version {event.version}")
                break
        for each in people:
            each.join()
        state = wp.load_workflow_state(WORKFLOW).unwrap()
        print(state.workflow.status, state.step("ann-4").output, state.step("bob-4").output)


if __name__ == "__main__":
    if len(sys.argv) < 2 and "WAYPOST_STATE" not in os.environ:
        sys.exit("usage: python examples/team_on_postgres.py postgresql://…")
    main(sys.argv[1] if len(sys.argv) > 1 else os.environ["WAYPOST_STATE"])
