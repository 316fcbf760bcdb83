"""The command line: what `waypost` is called with leads to a command, and what goes wrong to a sentence and a status.

Commands load their modules when they are run, so that `waypost --help` stays light.

Exit statuses are stable: 0 done; 1 not all is well (a step failed, something was left, a guarantee does not hold), or a
question was answered with no; 2 the command line, a file or a value cannot be taken; 3 not found; 4 refused by a rule;
5 the store or the system cannot do it; 6 bytes on disk are damaged, or of a format that this release does not read;
130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

INTERRUPTED = 130
_OUTPUT_CLOSED = 141  # what a shell reports of a program that ended because nobody reads its output


def main() -> None:
    """Run the command line of this process, and end the process with its status."""
    sys.exit(call(sys.argv[1:]))


def call(arguments: Sequence[str]) -> int:
    """Run a command line; returns the exit status."""
    from waypost.cli import messages

    messages.prepare_streams()
    as_json = messages.wants_json(arguments)
    with messages.logged():
        try:
            status = _call(arguments, as_json)
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            messages.forget_output()
            return _OUTPUT_CLOSED
        except KeyboardInterrupt:
            return messages.tell_interrupted(as_json, INTERRUPTED)
        except OSError as error:
            return messages.tell_unavailable(error, as_json)


def _call(arguments: Sequence[str], as_json: bool) -> int:
    import click

    from waypost.cli import messages
    from waypost.cli.commands import waypost
    from waypost.errors import WaypostError

    try:
        status = waypost.main(list(arguments), prog_name="waypost", standalone_mode=False)
    except WaypostError as error:
        return messages.tell_error(error, as_json)
    except click.ClickException as error:
        return messages.tell_misuse(error, as_json)
    except click.Abort as error:
        raise KeyboardInterrupt from error
    return status if isinstance(status, int) else 0
