"""`waypost serve`: the store in the browser, on this machine only."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from functools import partial

import click

from waypost.cli import messages
from waypost.cli.invocation import Invocation, options, shown
from waypost.cli.overview import LeftOut
from waypost.cli.text import escape
from waypost.errors import UnsupportedPlatform

_PORT = 8123
_PACKAGES = ("starlette", "uvicorn", "jinja2")


@click.command()
@click.option("--port", default=_PORT, show_default=True, type=click.IntRange(0, 65_535), help="0 takes a free one.")
@click.option("--read-only", is_flag=True, help="Only show: restore and fork nothing.")
@click.option("--no-browser", is_flag=True, help="Do not open the page, only print its address.")
@options
@click.pass_obj
def serve(invocation: Invocation, port: int, read_only: bool, no_browser: bool) -> None:
    """Show the store in the browser, live, until Ctrl-C. It is reached from this machine only, and with the address
    that is printed: it holds a token, made anew at each start.

    It needs the extra: pip install 'waypost[web]'.
    """
    try:
        from waypost.web import server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _PACKAGES:
            raise
        raise UnsupportedPlatform("the page needs more packages: pip install 'waypost[web]'") from error
    with ExitStack() as closing, LeftOut():
        opens = not no_browser and not invocation.json and _has_browser()
        try:
            server.serve(invocation, port, read_only=read_only, ready=partial(_tell, invocation, closing, opens))
        except KeyboardInterrupt:
            pass  # how it is ended


def _tell(invocation: Invocation, closing: ExitStack, opens: bool, address: str) -> None:
    """Say once where the page is; this is the only place where the token is shown."""
    location = shown(invocation.location())
    if invocation.json:
        messages.print_json_line({"address": address, "location": location})
    else:
        print(f"{escape(location)} is shown at\n\n    {address}\n\nCtrl-C ends it.")
    sys.stdout.flush()
    if opens:
        closing.enter_context(_opened(address))


def _has_browser() -> bool:
    """Whether somebody sits here before a screen with windows."""
    has_windows = sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return has_windows and sys.stdout.isatty()


@contextmanager
def _opened(address: str) -> Generator[None]:
    """Have the browser go to an address that stands in a file which only this user can read: what a program is started
    with, everybody on the machine sees.
    """
    import webbrowser
    from tempfile import TemporaryDirectory

    own = os.environ.get("XDG_RUNTIME_DIR") or os.path.expanduser("~")
    try:
        folder = TemporaryDirectory(prefix=".waypost-page-", dir=own)
    except OSError as error:
        messages.note(f"note: the browser was not opened: {error}")
        yield
        return
    with folder as path:
        name = os.path.join(path, "page.html")
        with open(name, "x", encoding="ascii", opener=partial(os.open, mode=0o600)) as file:
            file.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={address}">\n')
        webbrowser.open(f"file://{name}")
        yield
