"""A session goes from one laptop to another, and back: here two directories stand for the two.

    python examples/moving_a_session.py

What goes is one file, with the session, its workflows, their history, checkpoints and outputs. Work that went on in
both places meanwhile is brought together by `sync`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import waypost


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        office, train = Path(folder) / "office", Path(folder) / "train"
        bundle = Path(folder) / "thesis.session"
        with waypost.open(office) as wp:
            session = wp.start_session("ann", environment={"branch": "chapter-2"})
            wp.create_workflow("thesis", "Thesis", steps=["read", "write", "print"]).unwrap()
            wp.update_step_status("thesis", "read", "running").unwrap()
            wp.update_step_status("thesis", "read", "completed", {"papers": 41}).unwrap()
            wp.create_checkpoint("thesis", "read all of it", ["milestone"]).unwrap()
            wp.pause_session(session.session_id)
            exported = wp.export_session(session.session_id, bundle)
            print(f"in the office: {exported.size_bytes:,} bytes in {bundle.name}")

        with waypost.open(train) as wp:
            wp.import_session(bundle).unwrap()
            wp.resume_session(session.session_id)
            wp.update_step_status("thesis", "write", "running").unwrap()
            wp.update_step_status("thesis", "write", "completed", {"pages": 12}).unwrap()
            wp.pause_session(session.session_id)
            print(f"on the train: {wp.load_workflow_state('thesis').unwrap().workflow.progress:.0f} % done")

        with waypost.open(office) as wp:
            report = wp.sync(train).unwrap()
            print("back in the office:", ", ".join(f"{each.kind} {each.id} {each.action}" for each in report.documents))
            state = wp.load_workflow_state("thesis").unwrap()
            print(state.step("read").output, state.step("write").output, state.step("print").status)
            print(f"{len(list(wp.list_checkpoints('thesis')))} checkpoints, {len(list(wp.history('thesis')))} commits")


if __name__ == "__main__":
    main()
