"""Ids of checkpoints: the workflow's, `@c`, and letters and digits that sort by time.

Behind the mark stand when it was made (11 digits, microseconds since the epoch), the process that made it (3),
and whether it may go when there are too many (1): what retention has to know of each checkpoint
of a workflow, in each commit that makes one, is read from ids alone.
"""

from __future__ import annotations

import os

from waypost import clock
from waypost.records import CHECKPOINT
from waypost.store import Transaction

MARK = "@c"
"""Stands between the id of a workflow and what is a checkpoint's own; versions are named by `@` and a number."""
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_AS_PYTHON_READS = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")
_TIME_DIGITS, _PROCESS_DIGITS = 11, 3
_PASSING, _LASTING = "a", "m"
_OWN_DIGITS = _TIME_DIGITS + _PROCESS_DIGITS + 1
_MOST_OWN = 32


class _Process:
    """Three digits that tell most processes apart: those that write at the same time need not clear up the same."""

    def __init__(self) -> None:
        self.digits = _digits(int.from_bytes(os.urandom(2), "big"), _PROCESS_DIGITS)


def _digits(number: int, length: int) -> str:
    return "".join([_ALPHABET[number >> shift & 31] for shift in range(5 * length - 5, -1, -5)])


_PROCESS = _Process()
os.register_at_fork(after_in_child=_PROCESS.__init__)


def new(tx: Transaction, *, passing: bool = False) -> tuple[str, int]:
    """(id, µs): behind those that were given in this workflow before, also where the clock was put back. Retention may
    take those that are `passing`.
    """
    given_us = max(clock.now_us(), tx.time_us + 1)
    while True:
        own = f"{_digits(given_us, _TIME_DIGITS)}{_PROCESS.digits}{_PASSING if passing else _LASTING}"
        checkpoint_id = f"{tx.document.id}{MARK}{own}"
        if tx.size_of(CHECKPOINT + checkpoint_id) is None:
            return checkpoint_id, given_us
        given_us += 1  # several in one commit, of a clock that stands still


def is_passing(checkpoint_id: str) -> bool:
    """Whether retention may take it."""
    return checkpoint_id.endswith(_PASSING) and _own(checkpoint_id) is not None


def is_of_this_process(checkpoint_id: str) -> bool:
    """Whether this process made it, or one that drew the same digits."""
    return checkpoint_id[-1 - _PROCESS_DIGITS : -1] == _PROCESS.digits


def time_us(checkpoint_id: str) -> int:
    """When it was made; 0 for an id that tells no time."""
    own = _own(checkpoint_id)
    return 0 if own is None else int(own[:_TIME_DIGITS].translate(_AS_PYTHON_READS), 32)


def _own(checkpoint_id: str) -> str | None:
    """What of an id is the checkpoint's own; None where it was not made by `new`."""
    own = checkpoint_id.rpartition(MARK)[2]
    return own if len(own) == _OWN_DIGITS and not own.strip(_ALPHABET) else None


def is_of(workflow_id: str, checkpoint_id: str) -> bool:
    """Whether an id is one that checkpoints of that workflow are given."""
    own = checkpoint_id.removeprefix(workflow_id + MARK)
    return own != checkpoint_id and 0 < len(own) <= _MOST_OWN and not own.strip(_ALPHABET)
