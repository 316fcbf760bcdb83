"""A document and its checkpoints: which it has, where each of them is found, and when their files are seen to.

A version that a checkpoint stands for is in its file, or in the history of the log, or in both. What is noted here of
checkpoints that were made and removed only spares looking for them; whatever becomes of it, log and files tell it too.
"""

from __future__ import annotations

import logging
from itertools import chain, islice, takewhile

from waypost.codec.bodies import Extent
from waypost.errors import DocumentDamaged, StoreUnavailable, UnsupportedFormat, WaypostError
from waypost.store.contract import ADOPTED, CHECKPOINT
from waypost.store.directory import checkpoints, keeping, loading
from waypost.store.directory.batch import Prepared
from waypost.store.directory.context import Context
from waypost.store.directory.opened import OpenDocument
from waypost.store.directory.state import DocumentState
from waypost.store.kinds import DocumentId
from waypost.store.views import View

_LOG = logging.getLogger("waypost")
_MOST_NOTED = 256


class CheckpointedDocument(OpenDocument):
    """An open document that knows its checkpoints."""

    def __init__(self, context: Context, identifier: DocumentId) -> None:
        super().__init__(context, identifier)
        self._made: dict[str, int] = {}
        """Versions of the last checkpoints that this process has made."""
        self._gone: set[str] = set()
        self.keeping_is_due = False
        """Whether checkpoints were made or removed since their files were seen to."""
        self.keeping_is_put_off = False
        """Whether upkeep knows of it, and sees to it once it is time, so that nobody has to ask for it."""
        self.keep_again_at: float | None = None
        """From when on the newest checkpoint is written out again; None until there is one to write."""

    @property
    def is_to_keep(self) -> bool:
        """Whether checkpoints are to be written out now: where commits wait for syncs. Elsewhere all is synced now and
        then, and checkpoints with it.
        """
        return self.keeping_is_due and self._context.durable and not self.keeping_is_put_off

    def note_removed(self, prepared: Prepared, state: DocumentState) -> None:
        body = prepared.body
        gone = set(checkpoints.names_in(state.view()) if body.cleared else checkpoints.names_among(body.removed))
        gone -= {*checkpoints.names_among(body.puts)}
        if gone:
            self._gone |= gone
            self.keeping_is_due = True

    def note_made(self, prepared: Prepared, state: DocumentState) -> None:
        for key in prepared.body.puts:
            if key.startswith(CHECKPOINT):
                self._made[key.removeprefix(CHECKPOINT)] = state.standing.version
            self.keeping_is_due |= key.startswith((ADOPTED, CHECKPOINT))
        while len(self._made) > _MOST_NOTED:
            del self._made[next(iter(self._made))]

    def forget(self) -> None:
        super().forget()
        if self._state is None:  # another file may have other versions of these numbers
            self._made.clear()

    def checkpoint(self, name: str) -> View | None:
        """The version whose commit put a checkpoint; None where the document has none of that name."""
        view = self._view_of_log()
        if view is None:
            return self._kept(name)
        if not checkpoints.has(view, name):
            return None
        with self.lock:
            version = self._made.get(name) or self._current().version_that_put(CHECKPOINT + name)
            made = self._made_before_snapshot(name) if version is None else self._recent(version)
        if made is not None:
            return made
        amiss: WaypostError | None = None
        # what is in none of them was written out, and taken from history, between the first look and the last
        for look in (self._kept, self._checkpoint_in_log, self._arrived, self._kept):
            try:
                found = look(name)
            except (DocumentDamaged, UnsupportedFormat) as error:
                amiss = amiss or error  # another may have it
                continue
            if found is not None:
                return found
        if self._has_checkpoint(name):
            file = f"{checkpoints.FOLDER}/{checkpoints.file_name(name)}"
            why = f"checkpoint {name!r} has no file, nor does history reach back to it"
            raise amiss or DocumentDamaged(why, file=file)
        return None

    def _made_before_snapshot(self, name: str) -> View | None:
        """The version of a checkpoint that was made a moment before the newest snapshot; None for others, and where
        its file may hold what the log has lost.
        """
        state, log = self._current(), self._log
        if log is None or not log.end or log.poisoned is not None:
            return None
        try:
            longer = loading.read_from_before(log, state, self._context, CHECKPOINT + name)
            version = None if longer is None else longer.version_that_put(CHECKPOINT + name)
            made = None if longer is None or version is None else longer.earlier(version)
            if longer is None or made is None:
                return None
            # bytes that the newest version does not have are not known to be whole; the file has its own
            has_own_blocks = any(isinstance(made.part(key), Extent) for key in made.differing(longer.view()))
            return None if has_own_blocks else made
        except (DocumentDamaged, UnsupportedFormat, StoreUnavailable) as error:
            self._warn_once("a checkpoint is looked for in its file: %s", error)
            return None

    def checkpoints(self) -> list[str]:
        """The names of the checkpoints of the document, by their files where the log is lost."""
        view = self._view_of_log()
        return checkpoints.names_of(self._context, self.id) if view is None else checkpoints.names_in(view)

    def _view_of_log(self) -> View | None:
        """The newest version; None where there is no log, or none that can be read."""
        try:
            view = self.view(durable=False)
        except (DocumentDamaged, UnsupportedFormat) as error:
            self._warn_once("its checkpoints are looked for without its log: %s", error)
            return None
        return view if view.version else None

    def _warn_once(self, text: str, error: WaypostError) -> None:
        """Log why something is done the longer way, which is asked for again and again."""
        said = self.id, text % error
        if said not in self._context.told:
            self._context.told.add(said)
            _LOG.warning("%s %r: %s", self.id.kind, self.id.id, said[1])

    def _has_checkpoint(self, name: str) -> bool:
        return checkpoints.has(self.view(durable=False), name)

    def _kept(self, name: str) -> View | None:
        kept = checkpoints.read(self._context, name)
        return kept if kept is not None and kept.document == self.id else None

    def _arrived(self, name: str) -> View | None:
        arrived = checkpoints.read_arrival(self._context, name)
        return arrived if arrived is not None and arrived.document == self.id else None

    def _checkpoint_in_log(self, name: str) -> View | None:
        return next((view for some in self._checkpoints_in_log([name]) for _, view in some), None)

    def keep_checkpoints(self, *, newest_only: bool, dropping: int | None = None) -> None:
        """Give the checkpoints of the document their files, and let go of those that are gone.

        Where history is shortened next, `dropping` is how much of it has gone already: then what it tells of is put in
        order as well.
        """
        restores = self._context.restores
        with self.lock:
            self.keeping_is_due = False
            gone, self._gone = self._gone, set()  # before the view, which must not be older than what is gone from it
        try:
            if not gone and not self._may_have_checkpoints(dropping):
                return
            view = self.view(durable=True)
            self.sync()  # what is kept must not be ahead of the log, also where commits are told of before their sync
            if dropping is not None:
                gone |= self.once_there(dropping)
            wanted = keeping.Wanted(self.id, checkpoints.names_in(view), gone, restores)
            keeping.write_missing(self._context, wanted, self._checkpoints_in_log, newest_only=newest_only)
            if dropping is not None:
                self._mend_checkpoints(wanted, dropping)
                keeping.make_durable(self._context)
        except BaseException:
            self._gone |= gone
            raise
        try:
            keeping.let_go(self._context, wanted)
        except WaypostError as error:  # then they go later, and nothing has to wait for that
            _LOG.warning("%s %r: files of checkpoints were not removed: %s", self.id.kind, self.id.id, error)
            self._gone |= gone

    def _may_have_checkpoints(self, dropping: int | None) -> bool:
        """Whether there is anything to see to; a document that never had a checkpoint costs no sync."""
        if dropping is not None and self._context.layout.existing(checkpoints.FOLDER) is not None:
            return True
        return checkpoints.has_any(self.view(durable=False))

    def once_there(self, dropped: int) -> set[str]:
        """All checkpoints that the document had in its history, be it that whoever removed one died."""
        log = self._log
        if log is None or self._context.layout.existing(checkpoints.FOLDER) is None:
            return set()
        return keeping.once_there(log, self.view_at(dropped))

    def _mend_checkpoints(self, wanted: keeping.Wanted, dropped: int) -> None:
        """Write those again that cannot be read, for as long as history has them."""
        damaged = keeping.unreadable(self._context, wanted.names, dropped)
        if damaged:
            keeping.write_out(self._context, wanted, self._checkpoints_in_log(damaged), anew=True)

    def _checkpoints_in_log(self, names: list[str]) -> keeping.Rounds:
        """Those checkpoints of the document that history reaches back to, in the order in which they were made."""
        found = {name: self._made[name] for name in names if name in self._made}
        amiss: DocumentDamaged | None = None
        if len(found) < len(names):
            with self.lock:
                missing, log = self.missing(), self._log
            if missing:  # it was made by a commit that was decided on, and is still to be written
                log, _ = loading.load(self._context.apart(), self.id, decided=missing)
            if log is not None and log.end:
                try:
                    found.update(keeping.find_versions(log, [name for name in names if name not in found]))
                except DocumentDamaged as error:
                    amiss = error  # those that were made here can be had all the same
        named: dict[int, list[str]] = {}
        for name, version in found.items():
            named.setdefault(version, []).append(name)
        yield from self._rounds(dict(sorted(named.items())))
        if amiss is not None:
            raise amiss

    def _rounds(self, named: dict[int, list[str]]) -> keeping.Rounds:
        """Versions in rising order: the log is read once for all but those of the last commits, which are at hand.

        These are all taken before their round is given: each is asked for with the document's lock, and whoever goes
        through a round has what others wait for with that lock. The rest is read version by version, without it.
        """
        wanted = list(named)
        far = [] if len(wanted) == 1 else list(takewhile(lambda version: not self._is_at_hand(version), wanted))
        if far:
            missing = self.missing()
            read = loading.versions(self._context.apart(keeping.CACHE_BYTES), self.id, far, decided=missing)
            rest = ((name, view) for view in read for name in named[view.version])
            for first in rest:
                yield chain([first], islice(rest, keeping.AT_A_TIME - 1))
        views = ((version, self.view_at(version)) for version in wanted[len(far) :])
        near = ((name, view) for version, view in views if view is not None for name in named[version])
        while taken := list(islice(near, keeping.AT_A_TIME)):
            yield taken

    def _is_at_hand(self, version: int) -> bool:
        with self.lock:
            return self._current().earlier(version) is not None

    def keep_checkpoints_if_possible(self) -> None:
        """Before closing. What has no file stands in the log, and gets one from whoever writes to it next."""
        try:
            self.keep_checkpoints(newest_only=False)
        except (WaypostError, OSError) as error:
            _LOG.warning("%s %r: checkpoints were not written out: %s", self.id.kind, self.id.id, error)

    def sync(self) -> None:
        """Sync what was appended so far (for stores that acknowledge before the sync)."""
        log = self._log
        if log is not None and log.poisoned is None and self._wrote:
            log.sync_to(log.end)
