"""The pager: `$PAGER`, or `less` where it is not set, for what is longer than the screen.

Invariant: what was to be shown is shown: where no pager can be run, the caller is told so, and prints it himself.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager

_DEFAULT = "less"
_NO_PAGER = ("", "cat")
_CANNOT_RUN = (126, 127)

# as git has it: end where all fits on the screen, show colours, leave the screen as it is
_SETTINGS = {"LESS": "FRX", "LV": "-c"}


def page(printed: str) -> bool:
    """Show a text in the pager, and wait until it is left. False where there is none, and nothing was shown."""
    words = _words()
    if not words:
        return False
    sys.stdout.flush()
    try:
        process = subprocess.Popen(words, stdin=subprocess.PIPE, env={**_SETTINGS, **os.environ})
    except OSError:
        return False
    with _interrupts_left_to_it():
        # it may be left before it has read all
        try:
            process.communicate(printed.encode(sys.stdout.encoding or "utf-8", "backslashreplace"))
        except BrokenPipeError:
            pass
        return process.wait() not in _CANNOT_RUN


def _words() -> list[str]:
    """The pager's command line, without a shell; empty where there is to be none."""
    asked = os.environ.get("PAGER")
    if asked is None:
        return [_DEFAULT] if shutil.which(_DEFAULT) else []
    try:
        words = shlex.split(asked)
    except ValueError:  # a quote that does not end
        return []
    return [] if " ".join(words) in _NO_PAGER else words


@contextmanager
def _interrupts_left_to_it() -> Generator[None]:
    """While the pager runs, Ctrl-C is its own affair: it stops a search, and ends nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
