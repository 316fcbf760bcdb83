"""The operations that carry sessions from store to store, as requests.

What they need is loaded when one is run: programs that never carry a session do not pay for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO

from waypost.errors import WaypostError
from waypost.operations import Observer, OperationResult, Request
from waypost.requests import Requests
from waypost.session_models import OnClash, SessionExport, SessionImport
from waypost.store import Counters, Progress, Store, read_bundle


def silent(done: int, of: int) -> None:
    """Progress that nobody is told of."""


class _Import(Request[OperationResult[SessionImport]]):
    """An import, reported like any write."""

    def __init__(
        self,
        store: Store,
        operation_id: str | None,
        observer: Observer,
        take: Callable[[str], tuple[SessionImport, bool]],
    ) -> None:
        super().__init__(store, "import_session", operation_id, observer)
        self._take = take

    def run(self) -> OperationResult[SessionImport]:
        try:
            report, repeated = self._take(self.operation_id)
            return self._success(report, Counters(), repeated)
        except WaypostError as error:
            return self.failed(error)


class SessionCarrying(Requests):
    """Those of the operations that export and import sessions; see `definitions`."""

    def export_session(
        self,
        session_id: str,
        to: str | os.PathLike[str] | BinaryIO | None = None,
        *,
        include_history: bool = True,
        sealed: bool = False,
        overwrite: bool = False,
        progress: Progress = silent,
    ) -> Request[bytes | SessionExport]:
        """A session and all workflows that it has written to as one file that stands alone: their versions with ids,
        times and operations, their outputs, and their checkpoints. Given as bytes, or written to a path or a binary
        file piece by piece, and reported. A path that is there is left alone unless told to `overwrite` it.

        Without history the newest version is there, and what checkpoints stand for. With `sealed` all of it is sealed
        with the current key (docs/secrets.md); secrets are sealed in any case. `progress(done, of)` is told of bytes,
        from another thread than the caller's where that awaits.

        Raises SessionNotFound, InvalidInput, DocumentDamaged, StoreUnavailable, VersionConflict, KeyMissing, and where
        something is still to be erased that this handle cannot, StoreReadOnly.
        """

        def export() -> bytes | SessionExport:
            from waypost import bundles

            return bundles.export(
                self.store, session_id, to, self.config, with_history=include_history, overwrite=overwrite,
                sealed=sealed,
                progress=progress,
            )  # fmt: skip

        return self._read("export_session", export)

    def import_session(
        self,
        data: bytes | str | os.PathLike[str] | BinaryIO,
        new_session_id: str | None = None,
        *,
        on_clash: OnClash = "refuse",
        operation_id: str | None = None,
        progress: Progress = silent,
    ) -> Request[OperationResult[SessionImport]]:
        """Take in what was exported (bytes, a path, or a binary file), all of it or nothing. Versions, commit ids and
        times stay what they were; the session is paused unless it has ended, and has another id where one is given.
        What is here already, and holds what comes in, stays as it is, so that importing twice is importing once.

        A workflow or session that is here with another history is refused, imported under another id (`rename`), or
        brought together with what comes in (`merge`): part by part, as one commit on top of what is here.

        Fails with InvalidInput, InvalidId, UnsupportedFormat, DocumentDamaged, DocumentTooLarge, ImportConflict; for
        what is sealed with KeyMissing, SealBroken.
        """

        def take(operation: str) -> tuple[SessionImport, bool]:
            from waypost import bundles, importing

            with bundles.incoming(data, self.store) as given:
                bundle = read_bundle(given.read, given.length, progress, self.config.performance.max_file_size << 20)
                return importing.import_bundle(
                    self.store,
                    bundle,
                    new_session_id,
                    on_clash,
                    operation,
                    self._large_bytes,
                    repeatable=operation_id is not None,
                )

        return _Import(self.store, operation_id, self.observer, take)
