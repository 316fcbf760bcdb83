"""The Claude Agent SDK's `SessionStore` on a Waypost store: transcripts of sessions and of their subagents.

    async with WaypostSessionStore.open(".claude/state") as sessions:
        options = ClaudeAgentOptions(session_store=sessions)

All methods of the protocol are here, the optional ones too (docs/adapters.md, section 1). The SDK is imported when a
summary is to be made, and by nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, cast

from waypost import blocking, records
from waypost.adapters import items
from waypost.adapters.access import Base, outcome, store_of
from waypost.adapters.pages import KNOWN, SEPARATOR, Item, Row, RowInfo, commit, rows
from waypost.errors import InvalidInput, UnsupportedPlatform
from waypost.store import DocumentId, JointTransaction

_MINE = "claude-agent"
_MAIN = ""
_MOST_ROWS = 16
"""Of so many transcripts it is known which entries they have; of others that is read again."""

Entry = Mapping[str, Any]
Key = Mapping[str, Any]
Fold = Callable[[dict[str, Any] | None, Any, list[Any]], Any]
"""The SDK's `fold_session_summary`: the next summary of a session, of the one before, its key and new entries."""


class WaypostSessionStore:
    """Keeps sessions of the Claude Agent SDK in a store. Fulfils its `SessionStore`.

    An append is one commit, and so one sync: all of its entries are there or none. An entry whose `uuid` is in the
    transcript already is left out. Entries come back equal to what they were, or are refused as InvalidValue.
    """

    def __init__(self, base: Base, *, fold: Fold | None = None) -> None:
        """Keep sessions in an open store, which stays open when this is done with.

        Raises UnsupportedPlatform where the SDK is not installed and no `fold` is given in its place.
        """
        self._store = store_of(base)
        self._fold = fold or _sdk_fold()
        self._rows: dict[tuple[str, str, str], Row] = {}
        self._owned: blocking.Waypost | None = None

    @classmethod
    def open(cls, location: str | os.PathLike[str] | None = None, *, fold: Fold | None = None) -> Self:
        """Open a store for this alone, as `waypost.open` does; for `async with`, or `close` it."""
        made = blocking.open(location)
        try:
            opened = cls(made, fold=fold)
        except BaseException:
            made.close()
            raise
        opened._owned = made
        return opened

    # --- the protocol ---

    async def append(self, key: Key, entries: Sequence[Entry]) -> None:
        """Append a batch of entries to a transcript. Raises InvalidId, InvalidValue, DocumentTooLarge, StoreError."""
        project, session, subpath = _parts(key)
        rows_ = [Item(items.encode(each, "entry", at), _uuid(each, at)) for at, each in enumerate(entries)]
        if rows_:
            fold = partial(self._folded, session, key, entries) if subpath == _MAIN else None
            await outcome(partial(self._row(project, session, subpath).append, rows_, fold))

    async def load(self, key: Key) -> list[Any] | None:
        """All entries of a transcript, in the order in which they were stored; None where there is none."""
        row = self._row(*_parts(key))

        def work() -> list[Any] | None:
            found = row.read()
            return None if found is None else [items.decode(each, "entry") for each in found]

        return await outcome(work)

    async def list_sessions(self, project_key: str) -> list[Any]:
        """The sessions of a project, each with `session_id` and `mtime`: ms since the epoch, of its last commit."""
        found = await outcome(partial(self._infos, project_key))
        return [{"session_id": session, "mtime": info.time_us // 1000} for session, info in found]

    async def list_session_summaries(self, project_key: str) -> list[Any]:
        """The summaries of the sessions of a project, as the SDK has folded them. No transcript is read for that."""
        found = await outcome(partial(self._infos, project_key))
        return [
            {"session_id": session, "mtime": info.time_us // 1000, "data": items.decode(info.note, "summary")}
            for session, info in found
            if info.note is not None
        ]

    async def delete(self, key: Key) -> None:
        """Delete one transcript of a subagent, or a session with all of them: in one commit. What is not there is
        passed over.
        """
        project, session, subpath = _parts(key)
        if subpath != _MAIN:
            await outcome(partial(commit, self._store, self._row(project, session, subpath).clear, "delete"))
            return

        def work(joint: JointTransaction) -> None:
            root = joint.document(_root(project, session))
            for each in [_MAIN, *rows(root)]:
                self._new_row(project, session, each).clear(joint)  # in a thread: what the loop knows is the loop's

        await outcome(partial(commit, self._store, work, "delete"))

    async def list_subkeys(self, key: Key) -> list[str]:
        """The subpaths of the transcripts of a session's subagents."""
        project, session, _ = _parts(key)
        return await outcome(
            lambda: [each for each in rows(self._store.view(_root(project, session))) if each != _MAIN]
        )

    # --- what is around it ---

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await outcome(self.close)

    def close(self) -> None:
        """Close the store where `open` has opened it. May be called twice."""
        if self._owned is not None:
            self._owned.close()

    def __repr__(self) -> str:
        return f"<WaypostSessionStore at {self._store.location}>"

    def _row(self, project: str, session: str, subpath: str) -> Row:
        known = self._rows
        row = known.pop((project, session, subpath), None)
        if row is None:
            row = self._new_row(project, session, subpath)
        known[project, session, subpath] = row
        while len(known) > _MOST_ROWS:
            del known[next(iter(known))]
        return row

    def _new_row(self, project: str, session: str, subpath: str) -> Row:
        listed = (_project(project), KNOWN + session) if subpath == _MAIN else None
        return Row(self._store, _root(project, session), subpath, listed)

    def _folded(self, session: str, key: Key, entries: Sequence[Entry], note: bytes | None, places: list[int]) -> bytes:
        before = None
        if note is not None:
            before = {"session_id": session, "mtime": 0, "data": items.decode(note, "summary")}
        summary = self._fold(before, dict(key), [entries[place] for place in places])
        return items.encode(summary["data"], "summary")

    def _infos(self, project: str) -> list[tuple[str, RowInfo]]:
        document = _project(records.validate_id(project, "project key"))
        sessions = [key.removeprefix(KNOWN) for key in self._store.view(document).keys(KNOWN)]
        infos = ((each, Row(self._store, _root(project, each), _MAIN).info()) for each in sessions)
        return [(session, info) for session, info in infos if info is not None]


def _sdk_fold() -> Fold:
    try:
        from claude_agent_sdk import fold_session_summary  # pyright: ignore
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "claude_agent_sdk":
            raise
        raise UnsupportedPlatform(
            "sessions of the Claude Agent SDK need the SDK: pip install 'waypost[claude-agent]'"
        ) from error
    return cast("Fold", fold_session_summary)


def _project(project: str) -> DocumentId:
    return DocumentId("thread", SEPARATOR.join((_MINE, project)))


def _root(project: str, session: str) -> DocumentId:
    return DocumentId("thread", SEPARATOR.join((_MINE, project, session)))


def _parts(key: Key) -> tuple[str, str, str]:
    """Project, session and subpath of a key. Raises InvalidId, InvalidInput."""
    if not isinstance(key, Mapping) or not {"project_key", "session_id"} <= set(key):  # pyright: ignore
        raise InvalidInput("a session key has a project_key and a session_id")
    unknown = set(key) - {"project_key", "session_id", "subpath"}
    if unknown:
        raise InvalidInput(f"a session key has no field {min(map(repr, unknown))}")
    subpath = key.get("subpath")
    return (
        records.validate_id(key["project_key"], "project key"),
        records.validate_id(key["session_id"], "session id"),
        _MAIN if subpath is None else records.validate_id(subpath, "subpath"),
    )


def _uuid(entry: Entry, at: int) -> str | None:
    if not isinstance(entry, Mapping):  # pyright: ignore
        raise InvalidInput(f"entry {at} is a {type(entry).__name__}, and not an object")
    found = entry.get("uuid")
    return found if isinstance(found, str) and found else None
