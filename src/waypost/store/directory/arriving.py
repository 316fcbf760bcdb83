"""Versions that are taken in ahead of the commit that adopts them as checkpoints (docs/durability.md, section 8).

Such a version is a file in `temp` that whoever took it in has locked. It is durable before the commit, and counts for
nothing without it: where a document has adopted it, it is moved to its place among the files of checkpoints; where its
maker is gone, and no document has, it is removed. So an import is one commit, and a crash leaves all of it or nothing.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from waypost.codec.frame import new_file_id
from waypost.errors import DocumentDamaged, LockTimeout, WaypostError
from waypost.store.directory import checkpoints, exported, keeping
from waypost.store.directory.checkpoints import ARRIVING, FOLDER, arrival_name, file_name
from waypost.store.directory.compaction import Rewriter
from waypost.store.directory.context import Context
from waypost.store.directory.files import Directory, File
from waypost.store.directory.layout import new_file
from waypost.store.directory.scrubbing import Scrubbed
from waypost.store.kinds import DocumentId
from waypost.store.values import ContentLost
from waypost.store.views import View

_LOG = logging.getLogger("waypost")


class Taken:
    """A version in `temp`, for as long as this holds its lock."""

    def __init__(self, context: Context, file: File, restores: int) -> None:
        self._context = context
        self._file = file
        self._restores = restores

    def __call__(self) -> None:
        """For the work that adopts it. Raises ContentLost where it is gone."""
        if self._restores != self._context.restores:
            raise ContentLost(f"the store was restored after {self._file.name} was taken in")


def take_in(context: Context, version: View, name: str) -> Taken:
    """Write a version as a file that is not among those of checkpoints yet, durably.

    Raises LockTimeout where another is being imported under that name, DocumentTooLarge, StoreUnavailable.
    """
    temp, restores = context.layout.folder("temp"), context.restores
    compressor = context.take_compressor()
    erasures = keeping.erasures_now(context, version.document)
    # as for what was imported before an erasure: its time is that of another clock, and says nothing here
    source = Scrubbed.of(exported.as_source(version, compressor, context.chunk_bytes), erasures, 0)
    temporary, file = new_file(context.layout)
    try:
        out = Rewriter(file, new_file_id(), context.limit_bytes, compressor)
        keeping.put_checkpoint(out, compressor, name, source, None)
        file.sync_all()
        with keeping.alone(context, restores):
            with suppress(DocumentDamaged):
                _settle(context, temp, arrival_name(name))
            _remove_leftover(context, version.document, name, restores)
            _check_is_alike(context, temp, name, version)
            temp.move(temporary, temp, arrival_name(name))
            temp.sync()
    except BaseException:
        file.close()
        raise
    finally:
        temp.remove(temporary)
        context.give_back(compressor)
    return Taken(context, file, restores)


def _remove_leftover(context: Context, document: DocumentId, name: str, restores: int) -> None:
    """Remove the file of an earlier one of that name, which the document had and has no more: whoever looked at the
    document before that may have given it its place since, and it would be read in place of what is adopted now.
    """
    folder = context.layout.folder(FOLDER)
    if folder.identity(file_name(name)) is None:
        return
    names = checkpoints.names_now(context, document, durable=True)
    if name not in names:
        keeping.let_go_alone(context, folder, keeping.Wanted(document, sorted(names), {name}, restores), {name})


def _check_is_alike(context: Context, temp: Directory, name: str, version: View) -> None:
    """Whoever else is importing it, imports the same."""
    there = _readable(context, name)
    if there is not None and (there.document, there.checksum) != (version.document, version.checksum):
        file = f"{temp.path}/{arrival_name(name)}"
        raise LockTimeout(f"{file}: another checkpoint of that id is being imported", file=file)


def _readable(context: Context, name: str) -> View | None:
    try:
        return checkpoints.read_arrival(context, name)
    except DocumentDamaged as error:
        _LOG.warning("%s", error)
        return None


def settle(context: Context) -> None:
    """Give what dead processes took in its place, or remove it. What fails is left as it is."""
    temp = context.layout.folder("temp")
    for name in temp.names():
        if name.endswith(ARRIVING):
            try:
                with keeping.alone(context):
                    _settle(context, temp, name)
            except WaypostError as error:
                _LOG.warning("%s", error)


def _settle(context: Context, temp: Directory, name: str) -> None:
    """One file, with the folder of checkpoints locked; nothing is done while its maker lives."""
    file = temp.open(name, write=True)
    if file is None or not file.try_lock():
        return
    # only now is it sure that no commit will adopt it which has not done so
    layer = checkpoints.read_file(context, temp, name)
    if layer is not None and layer.name in checkpoints.names_now(context, layer.document, durable=True):
        keeping.give_place(context, layer.name)
    else:
        temp.remove(name)
    file.close()
