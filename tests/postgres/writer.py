"""A process that commits until it is told to stop, and says what was acknowledged.

    python -m tests.postgres.writer URL NAME

Appends its name and a number to a list of its own and to one that all writers share, and prints the number once both
are acknowledged, or that it was told that they are not. Ends when its input does.
"""

from __future__ import annotations

import select
import sys

import waypost
from waypost import WorkflowTransaction


def main(url: str, name: str) -> None:
    with waypost.open(url, config={"postgres": {"lock_timeout": 20_000, "pool_size": 2}}) as wp:
        number = 0
        while not select.select([sys.stdin], [], [], 0)[0]:
            number += 1
            said = f"{name}.{number}"

            def both(tx: WorkflowTransaction, said: str = said) -> None:
                for document in (name, "shared"):
                    there = tx.load_workflow_state(document).context.variables["said"]
                    tx.update_context(document, variables={"said": [*there, said]})

            if number % 2:
                result = wp.transact(both, operation_id=said)
            else:
                result = wp.update_context(name, variables={said: number}, operation_id=said)
            outcome = "done" if result.error is None else result.status
            print(said, outcome, result.error or "", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
