"""What the command line says beside its results: errors, warnings and notes, on standard error.

With `--json` an error is a document on standard output, since that is where a program looks.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from waypost.cli.text import as_json, escape
from waypost.errors import StoreError

if TYPE_CHECKING:
    import click

    from waypost.errors import WaypostError

USAGE = 2


def prepare_streams() -> None:
    """What an encoding does not have is written out, in place of ending in an error; what is closed leads nowhere."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:  # else the next file that is opened would have its number, and what is printed
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for JSON, also one that cannot be taken."""
    words = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in words


def print_json(document: Any) -> None:
    import msgspec

    is_ascii = not (sys.stdout.encoding or "ascii").lower().startswith("utf")
    sys.stdout.write(as_json(msgspec.to_builtins(document), ascii_only=is_ascii) + "\n")


def print_json_line(document: Any) -> None:
    """As one line of many, each a document of its own."""
    is_ascii = not (sys.stdout.encoding or "ascii").lower().startswith("utf")
    sys.stdout.write(as_json(document, ascii_only=is_ascii, indent=None) + "\n")


def note(text: str) -> None:
    """Tell people something that is no result; where that cannot be written, nobody can be told so."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


@contextmanager
def silenced() -> Generator[None]:
    """Have nothing logged: for commands that are started by a program which would show it to somebody else."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


def tell_error(error: WaypostError, as_json: bool) -> int:
    _tell(error.code, str(error), error.retryable, error.details, as_json)
    return error.exit_status


def tell_misuse(error: click.ClickException, as_json: bool) -> int:
    context = getattr(error, "ctx", None)
    # click's own words begin in upper case and end with a full stop; ours go on behind "error: "
    message = error.format_message().rstrip(".")
    message = message[:1].lower() + message[1:]
    hint = "" if context is None or as_json else f" (see {context.command_path} --help)"
    _tell("usage", message + hint, False, {}, as_json)
    return USAGE


def tell_interrupted(as_json: bool, status: int) -> int:
    _tell("interrupted", "interrupted", True, {}, as_json)
    return status


def tell_unavailable(error: OSError, as_json: bool) -> int:
    """What the operating system refused where no part of the library says what that was about."""
    named = isinstance(error.filename, str)
    try:
        if not named:
            print()  # what could not be written may be gone, so that only another try tells
        sys.stdout.flush()
    except OSError as full:
        forget_output()
        note(f"error: standard output cannot be written: {full.strerror}")
        return StoreError.exit_status
    why = error.strerror or str(error) or type(error).__name__
    if not named and isinstance(error, FileNotFoundError) and _is_nowhere():
        why = "the working directory is gone"
    return tell_error(StoreError(f"{error.filename}: {why}" if named else why), as_json)


def _is_nowhere() -> bool:
    try:
        os.getcwd()
    except OSError:
        return True
    return False


def _tell(code: str, message: str, retryable: bool, details: dict[str, object], as_json: bool) -> None:
    if not as_json:
        note(f"error: {escape(message)}")
        return
    import msgspec

    plain = msgspec.to_builtins(details, enc_hook=str)
    print_json({"error": {"code": code, "message": message, "retryable": retryable, "details": plain}})


def forget_output() -> None:
    """Nobody reads standard output any more; keep the interpreter from complaining about that at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# --- what the library logs ---


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        kind = "note" if record.levelno < logging.WARNING else "warning"
        note(f"{kind}: {escape(record.getMessage())}")


@contextmanager
def logged() -> Generator[None]:
    """Show what the library logs, while a command runs."""
    logger, handler = logging.getLogger("waypost"), _Handler()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
