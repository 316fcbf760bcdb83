"""A process that changes one document until it is killed, and tells each acknowledged change on standard output.

    python -m tests.store.worker STORE NAME FIRST COUNT [MODE]

It puts `NAME` = FIRST, FIRST + 1, … and adds one to the shared part `total` in the same commit, so that a lost
or a doubled update shows in both. MODE `tidy` also takes snapshots and compacts now and then. MODE `steps` completes
the steps NAME.FIRST, NAME.FIRST+1, … of the workflow through the public operations instead.
"""

from __future__ import annotations

import os
import sys

import waypost
from tests.store.support import WF, change, directory_store
from waypost.store import Transaction


def main(path: str, name: str, first: int, count: int, mode: str) -> None:
    store = directory_store(path, max_file_size=100)
    for number in range(first, first + count):

        def work(tx: Transaction, number: int = number) -> None:
            tx.put(name, b"%d" % number)
            if mode != "apart":
                tx.put("total", b"%d" % (int(tx.get("total") or 0) + 1))

        store.submit(change(WF, work)).result()
        os.write(1, b"%d\n" % number)
        if mode == "tidy" and number % 37 == 0:
            store.tidy(WF, "compact" if number % 2 else "snapshot")
    store.close()


def complete_steps(path: str, name: str, first: int, count: int) -> None:
    with waypost.open(path) as wp:
        for number in range(first, first + count):
            step = f"{name}.{number}"
            started = wp.update_step_status("wf", step, "running")
            if started or started.error.code != "illegal_transition":  # completed, and killed before it was told
                started.unwrap()
                wp.update_step_status("wf", step, "completed", {"number": number}).unwrap()
            os.write(1, b"%d\n" % number)


if __name__ == "__main__" and sys.argv[5] == "steps":
    complete_steps(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
elif __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
