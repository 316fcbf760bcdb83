"""The store behind the server: opened anew for each call that reads, and held open once something was to be written,
as long as it is what is at its place.

A claim of a run is a session that this process owns (docs/sessions.md): the kernel knows when it is dead, and what it
still sends after somebody took the run over is refused by the store. All that is written here is written under a claim.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from hashlib import sha256

from waypost.blocking import Waypost
from waypost.cli.invocation import Invocation, Place, Reading, place_of, reading, shown, writing
from waypost.errors import (
    Refused,
    SessionBusy,
    SessionEnded,
    SessionExists,
    SessionFenced,
    SessionNotFound,
    SessionPaused,
    WaypostError,
    WorkflowNotFound,
)
from waypost.mcp.results import Claim
from waypost.models import StepOwner
from waypost.session_models import SessionState

logger = logging.getLogger("waypost")

_LONGEST_RUN_ID = 480
_MOST_ENDED = 1_000
_TRIES = 3


def claim_name(run_id: str, number: int = 1) -> str:
    """The id of the session that stands for the claim of a run; a number for each that was ended for good."""
    name = run_id if len(run_id) <= _LONGEST_RUN_ID else sha256(run_id.encode()).hexdigest()
    return f"mcp-{number}-of-{name}"


class Stores:
    """Where the store is, and this server's hold on it. Safe to use from any thread."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self._writer = ExitStack()
        self._writing: Waypost | None = None
        self._place: tuple[str, Place | None] | None = None
        self._lock = threading.RLock()
        self._claims: dict[str, str] = {}

    @property
    def location(self) -> str:
        """Where the store is, or is to be, as anyone may see it."""
        return shown(self._invocation.location())

    @contextmanager
    def reading(self) -> Generator[Reading]:
        """The store as it is now, which cannot be written to. Raises StoreNotFound."""
        with reading(self._invocation) as store:
            yield store

    def writer(self, *, create: bool = False) -> Waypost:
        """The store to write to, held until the server ends, or another one is in its place. Raises StoreNotFound,
        unless it is to be made.
        """
        with self._lock:
            if self._writing is not None and self._place != self._here():
                self.close()  # what it would take now, nobody would find
            while self._writing is None:
                before = self._here()
                wp = self._writer.enter_context(writing(self._invocation, create=create)).wp
                self._place = self._here()
                if self._place == before or before[1] == ():
                    self._writing = wp
                else:
                    self._writer.close()  # it was put in the place of another just now, or another in its place
            return self._writing

    def _here(self) -> tuple[str, Place | None]:
        location = self._invocation.location()
        return location, place_of(location)

    def close(self) -> None:
        """Let go of the store, and of every claim."""
        with self._lock:
            for run_id in list(self._claims):
                try:
                    self.release(run_id)
                except WaypostError as error:
                    logger.warning("the claim of run %r was not let go of cleanly: %s", run_id, error)
            self._writing = None
            self._writer.close()

    # --- claims ---

    def claim(self, run_id: str, *, take_over: bool = False, anew: bool = False) -> str:
        """Hold a run for writing; the id of the session. Raises SessionBusy while another process does.

        `anew` looks whether a claim that was made before has been lost since; who writes is told of that by the store.
        """
        wp = self.writer()
        with self._lock:
            if anew and run_id in self._claims and claim_of(wp, run_id).state != "this_server":
                del self._claims[run_id]
            if run_id in self._claims and not take_over:
                return self._claims[run_id]
            for number in range(1, _MOST_ENDED):
                name = claim_name(run_id, number)
                if _enter(wp, name, take_over=take_over).status != "completed":
                    self._claims[run_id] = name
                    return name
            raise Refused(f"{_MOST_ENDED} claims of run {run_id!r} were ended for good", run_id=run_id)

    def release(self, run_id: str) -> None:
        """Let go of a run, so that any process may claim it. Of one that is finished, or gone, the claim ends."""
        with self._lock:
            name, wp = self._claims.pop(run_id, None), self._writing
            if name is None or wp is None:
                return
            if _is_over(wp, run_id):
                wp.end_session(name, create_final_checkpoint=False).unwrap()
            else:
                wp.pause_session(name).unwrap()

    @contextmanager
    def claimed(self, run_id: str) -> Generator[tuple[Waypost, str]]:
        """The store to write to, and in whose name. A claim that was taken away is given up, and one that was made for
        a write that fails is let go of.
        """
        wp = self.writer()
        with self._lock:
            is_new = run_id not in self._claims
            name = self.claim(run_id)
        try:
            yield wp, name
        except (SessionFenced, SessionPaused, SessionEnded):
            with self._lock:
                self._claims.pop(run_id, None)
            raise
        except WaypostError:
            if is_new:
                self.release(run_id)
            raise


def _is_over(wp: Waypost, run_id: str) -> bool:
    try:
        return wp.load_workflow_state(run_id).unwrap().workflow.status == "completed"
    except WorkflowNotFound:
        return True
    except WaypostError:
        return False  # a run that cannot be read now may be brought back


def _enter(wp: Waypost, name: str, *, take_over: bool) -> SessionState:
    """Own a session, which is made where there is none."""
    for _ in range(_TRIES):
        try:
            return wp.resume_session(name, take_over=take_over)
        except SessionNotFound:
            try:
                return wp.start_session(session_id=name)
            except SessionExists:
                pass  # another process was faster, and may have let go of it by now
        finally:
            # each write names the claim of its own run
            wp.definitions.session_id = None
    raise SessionBusy(f"other processes claim {name!r} at the same time", session_id=name)


def claim_of(wp: Waypost, run_id: str) -> Claim:
    """Who holds a run, as far as can be seen."""
    for number in range(1, _MOST_ENDED):
        try:
            session = wp.get_session(claim_name(run_id, number))
        except SessionNotFound:
            break
        if session.status == "completed":
            continue
        return _as_claim(session)
    return Claim(state="free")


def _as_claim(session: SessionState) -> Claim:
    evidence = None if session.presence is None else session.presence.evidence
    if session.owner is not None and session.owner == StepOwner.this_process():
        return Claim(state="this_server", session_id=session.session_id, evidence=evidence)
    if session.status == "crashed":
        return Claim(state="dead_owner", session_id=session.session_id, evidence=evidence)
    if session.owner is not None:
        return Claim(state="another_process", session_id=session.session_id, evidence=evidence)
    return Claim(state="free", session_id=session.session_id)
