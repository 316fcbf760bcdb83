"""Restoring a backup: all of its documents take the place of all that the store holds, or nothing is changed.

What the backup holds is copied into `temp/`, read back and verified there. Renaming that copy to `restoring` is the
decision; then file after file takes its place, and what was there is kept under `backups/`. Whoever opens the store for
writing carries out a decision that was cut off, before anything else; without the rename nothing has happened. A backup
comes from outside, so nothing in it is believed: names are made from ids and only compared with its own.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import NamedTuple

import msgspec

from waypost.codec.frame import Standing
from waypost.errors import (
    DocumentDamaged,
    InvalidInput,
    LockTimeout,
    Refused,
    StoreError,
    StoreUnavailable,
    WaypostError,
)
from waypost.store.copies import BackedUp, BackedUpFile, Backup, Restored
from waypost.store.directory import checkpoints, claims, decisions, forgotten, loading, register
from waypost.store.directory.backup import MANIFEST, copy, new_file, remove_tree
from waypost.store.directory.compaction import commits
from waypost.store.directory.context import Context
from waypost.store.directory.files import Directory, File, open_path
from waypost.store.directory.layout import FOLDERS, ON_DEMAND, RESTORING, STAGED, SUFFIXES, Layout
from waypost.store.directory.log import LOCK_TIMEOUT_S
from waypost.store.directory.log_check import check_log
from waypost.store.directory.past import LogPast
from waypost.store.kinds import DocumentId, Kind

DECIDED, _PLAN = RESTORING, "plan.json"
_PLACING = ".placing"
_KEPT_IN = re.compile(r"before-restore\.[0-9]{1,9}")
_MANIFEST_MOST = 64 << 20
_SLACK_BYTES = 2 << 20  # what a log may hold beside the frames that its limit counts: fill and a seal
_ALLOWED = frozenset({"FORMAT", ".gitignore", MANIFEST, "temp", checkpoints.FOLDER, *FOLDERS.values()})
# what is there once somebody has opened a backup to look into it; nothing of that is restored
_DERIVED, _EMPTY = "index", (decisions.FOLDER, claims.FOLDER)
_OF_OPENING = {"lease": "file", register.NAME: "file", **dict.fromkeys((_DERIVED, *_EMPTY), "directory")}


class _Plan(NamedTuple):
    """Which files there are afterwards, by folder, and where those of before are kept."""

    files: dict[str, list[str]]
    kept_in: str


# --- looking at a backup ---


def read(path: str, context: Context) -> tuple[Directory, Backup]:
    """What a backup says that it holds, once its names and sizes are what they may be. Raises InvalidInput."""
    source, backup = look(path)
    _check_sizes(source, backup, context)
    return source, backup


def look(path: str) -> tuple[Directory, Backup]:
    """What a directory says that it holds as a backup. Raises InvalidInput for one that is none, StoreNotFound."""
    source = open_path(path)
    file = source.open(MANIFEST) if source.kind(MANIFEST) == "file" else None
    if file is None:
        raise InvalidInput(f"{path} is no backup: it has no {MANIFEST}", path=path)
    if file.identity().size > _MANIFEST_MOST:
        raise InvalidInput(f"{file.name} is too long to be a manifest", path=path)
    try:
        backup = msgspec.json.decode(file.read(_MANIFEST_MOST, 0), type=Backup)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{file.name} cannot be read: {error}", path=path) from error
    _check_names(source, backup)
    return source, backup


def _check_names(source: Directory, backup: Backup) -> None:
    own = ("temp", checkpoints.FOLDER)
    ours = {name: "directory" if name in own else None for name in _ALLOWED}
    _check_only(source, {**ours, **_OF_OPENING}, some=True)
    for name in (_DERIVED, *_EMPTY):
        opened = source.open_directory(name)
        if opened is not None:
            _check_only(opened, dict.fromkeys(opened.names() if name == _DERIVED else (), "file"), some=False)
    kept = source.open_directory(checkpoints.FOLDER)
    names = [each.file for each in backup.checkpoints]
    if not all(name.endswith(checkpoints.SUFFIX) for name in names) or len(set(names)) < len(names):
        raise InvalidInput(f"{source.path}: the names of its checkpoints are not what they may be", path=source.path)
    if kept is not None or names:
        lock = [checkpoints.LOCK] if kept is not None and kept.kind(checkpoints.LOCK) is not None else []
        _check_only(kept or source, dict.fromkeys([*names, *lock], "file"), some=False)
    for kind, name in FOLDERS.items():
        if source.kind(name) != "directory" and (kind not in ON_DEMAND or _holds(backup, kind)):
            raise InvalidInput(f"{source.path}/{name} is no directory", path=source.path)
        listed: dict[str, str | None] = {}
        for each in backup.documents:
            if each.kind == kind:
                expected = _file_name(each)
                if each.file != expected or expected in listed:
                    raise InvalidInput(
                        f"{source.path}: {each.file!r} is not the file of {kind} {each.id!r}", path=source.path
                    )
                listed[expected] = "file"
        folder = source.open_directory(name)
        if folder is not None:
            _check_only(folder, listed, some=False)


def _holds(backup: Backup, kind: Kind) -> bool:
    return any(each.kind == kind for each in backup.documents)


def _file_name(each: BackedUp) -> str:
    try:
        return loading.file_name(DocumentId(each.kind, each.id))
    except UnicodeEncodeError as error:
        raise InvalidInput(f"an id in the backup is no text: {error}") from error


def _check_only(folder: Directory, allowed: dict[str, str | None], *, some: bool) -> None:
    """Whether a directory holds nothing else than what is allowed, each of its kind (`some`: not all of it)."""
    names = folder.names()
    for name in names:
        kind = folder.kind(name)
        if name not in allowed or kind not in ("file", "directory") or allowed[name] not in (None, kind):
            raise InvalidInput(f"{folder.path}/{name} does not belong into a backup", path=folder.path)
    missing = set(allowed) - set(names)
    if missing and not some:
        raise InvalidInput(f"{folder.path}/{min(missing)} is missing from the backup", path=folder.path)


def _check_sizes(source: Directory, backup: Backup, context: Context) -> None:
    total = 0
    listed = [(FOLDERS[each.kind], each) for each in backup.documents]
    for name, each in [*listed, *((checkpoints.FOLDER, each) for each in backup.checkpoints)]:
        folder = source.open_directory(name)
        found = folder.identity(each.file) if folder is not None else None
        if found is None or found.size != each.size_bytes:
            raise InvalidInput(f"{source.path}: {each.file} is not as long as the backup says", path=source.path)
        if each.size_bytes > context.limit_bytes + _SLACK_BYTES:
            raise InvalidInput(
                f"{source.path}: {each.file} has {each.size_bytes:,} bytes, more than performance.max_file_size allows",
                path=source.path,
            )
        total += each.size_bytes
    if total > context.layout.root.free_bytes():
        raise StoreUnavailable(f"there is no room for the {total:,} bytes of {source.path}", errno="ENOSPC")


# --- staging ---


def stage(layout: Layout, context: Context, source: Directory, backup: Backup) -> None:
    """Copy a backup into `temp`, and check every byte of the copy. Raises DocumentDamaged."""
    temp = layout.folder("temp")
    remove_tree(temp, STAGED)  # what a restore left that was cut off before its decision
    temp.make_directory(STAGED)
    staged = temp.open_directory(STAGED)
    assert staged is not None
    for kind, name in FOLDERS.items():
        if kind in ON_DEMAND and not _holds(backup, kind) and layout.existing_documents(kind) is None:
            continue
        staged.make_directory(name)
        target, origin = staged.open_directory(name), source.open_directory(name)
        assert target is not None
        for each in backup.documents:
            if each.kind == kind and origin is not None:
                _stage_one(origin, target, each, context)
        target.sync()
    _stage_checkpoints(layout, staged, source, backup)


def _stage_checkpoints(layout: Layout, staged: Directory, source: Directory, backup: Backup) -> None:
    if not backup.checkpoints and layout.existing(checkpoints.FOLDER) is None:
        return
    staged.make_directory(checkpoints.FOLDER)
    target, origin = staged.open_directory(checkpoints.FOLDER), source.open_directory(checkpoints.FOLDER)
    assert target is not None
    for each in backup.checkpoints:
        if origin is not None:
            _copy(origin, target, each)
    target.sync()


def _copy(origin: Directory, target: Directory, each: BackedUp | BackedUpFile) -> None:
    found, file = origin.open(each.file), new_file(target, each.file)
    if found is None or copy(found, each.size_bytes, file) != each.sha256:
        raise DocumentDamaged(f"{origin.path}/{each.file} is not what the backup says", file=each.file)
    file.sync_all()


def _stage_one(origin: Directory, target: Directory, each: BackedUp, context: Context) -> None:
    _copy(origin, target, each)
    report = check_log(target, each.file, each.kind, context)
    if report.refused:
        raise report.refused[0]
    if report.findings:
        raise DocumentDamaged(f"{origin.path}/{each.file}: {report.findings[0].text}", file=each.file)
    log = context.open_log(target, each.file, write=False)
    if log is None:
        raise _erased(context.layout, each.file)
    standing = loading.read(log, context, DocumentId(each.kind, each.id)).standing
    if (standing.version, standing.commit_id.hex()) != (each.version, each.commit_id):
        raise DocumentDamaged(f"{origin.path}/{each.file} holds another version than the backup says", file=each.file)


def give_up(layout: Layout) -> None:
    """Remove what was staged. Where that cannot be, whoever next opens the store for writing begins with it."""
    with suppress(StoreError):
        remove_tree(layout.folder("temp"), STAGED)


# --- deciding ---


def check_staged(layout: Layout, backup: Backup) -> None:
    """Whether all that was staged is there still: erasing takes copies away. Raises StoreUnavailable."""
    staged = layout.folder("temp").open_directory(STAGED)
    wanted = {name: {each.file for each in backup.documents if each.kind == kind} for kind, name in FOLDERS.items()}
    wanted[checkpoints.FOLDER] = {each.file for each in backup.checkpoints}
    for name, files in wanted.items():
        folder = None if staged is None else staged.open_directory(name)
        gone = files.difference(folder.names() if folder else [])
        if gone:
            raise _erased(layout, min(gone))


def _erased(layout: Layout, file: str) -> StoreUnavailable:
    why = f"{layout.path}: something was erased of what is to be restored while it was copied: restore it again"
    return StoreUnavailable(why, file=file)


def taken_back(layout: Layout, context: Context, backup: Backup) -> list[str]:
    """The ids of documents of which the store holds a commit that what was staged does not: the backup is older, or
    has gone another way since.
    """
    saved = {(each.kind, each.file): each for each in backup.documents}
    lost: list[str] = []
    for kind in FOLDERS:
        there: set[str] = set()
        folder = layout.existing_documents(kind)
        for name in folder.names() if folder else []:
            if not name.endswith(SUFFIXES[kind]):
                continue
            try:
                held = _held(layout, context, kind, name)
            except WaypostError:
                continue  # what cannot be read is no reason to keep what can from its place
            if held is None:
                continue
            identifier, standing = held
            there.add(identifier)
            each = saved.get((kind, name))
            if each is None or not _leads_to(layout, context, each, standing):
                lost.append(identifier)
        lost += _left(context, backup, kind, there)
    return sorted(lost)


def _left(context: Context, backup: Backup, kind: Kind, there: set[str]) -> list[str]:
    """The ids of other documents than those that are there: only checkpoints are left of them, and not all of these
    are in the backup.
    """
    kept = {each.file for each in backup.checkpoints}
    return [
        identifier
        for identifier, names in checkpoints.left(context, kind, there).items()
        if not kept.issuperset(map(checkpoints.file_name, names))
        and forgotten.is_gone(context, DocumentId(kind, identifier))
    ]


def _held(layout: Layout, context: Context, kind: Kind, name: str) -> tuple[str, Standing] | None:
    log = context.open_log(layout.documents(kind), name, write=False)
    if log is None or log.first(log.file.identity().size) is None or log.body is None:
        return None
    standing = loading.read(log, context, DocumentId(kind, log.body.id)).standing
    return (log.body.id, standing) if standing.version else None


def _leads_to(layout: Layout, context: Context, each: BackedUp, held: Standing) -> bool:
    """Whether the history of a document, as it was staged, has the commit that the store is at. The commit's id names
    all before it; how often either file was written anew says nothing.
    """
    if held.version >= each.version:
        return (held.version, held.commit_id.hex()) == (each.version, each.commit_id)
    staged = layout.folder("temp").open_directory(STAGED)
    folder = None if staged is None else staged.open_directory(FOLDERS[each.kind])
    log = None if folder is None else context.open_log(folder, each.file, write=False)
    assert log is not None  # it was staged just now
    document = DocumentId(each.kind, each.id)
    loading.read(log, context, document)
    past = LogPast(context, document, log, each.version)
    if held.version <= past.first:
        return past.dropped_id(held.version) == held.commit_id
    return any(found.header.commit_id == held.commit_id for found in commits(log, log.end))


def check_may_take_back(newer: list[str], backup: Backup, path: str) -> None:
    """Refuse to take commits back without being told to."""
    if newer:
        named = ", ".join(repr(each) for each in newer[:5]) + (", …" if len(newer) > 5 else "")
        raise Refused(
            f"{path} was made {backup.made}, and of {len(newer)} documents the store holds something that is not in it "
            f"({named}), which restoring would take back: say so (allow_older=True, --yes) to go on",
            path=path,
            documents=newer,
        )


def plan(layout: Layout, backup: Backup, path: str, newer: list[str]) -> Restored:
    """Write down durably what is to take the place of what the store holds. Nothing is decided yet."""
    temp, backups = layout.folder("temp"), layout.folder("backups")
    staged = temp.open_directory(STAGED)
    assert staged is not None
    number = 1
    while backups.kind(f"before-restore.{number}") is not None:
        number += 1
    files = {
        name: [each.file for each in backup.documents if each.kind == kind]
        for kind, name in FOLDERS.items()
        if staged.open_directory(name) is not None
    }
    if backup.checkpoints or layout.existing(checkpoints.FOLDER) is not None:
        files[checkpoints.FOLDER] = [each.file for each in backup.checkpoints]
    made = _Plan(files, f"before-restore.{number}")
    file = new_file(staged, _PLAN)
    file.write_all(msgspec.json.encode(made), 0)
    file.sync_all()
    staged.sync()
    return Restored(layout.path, path, len(backup.documents), f"backups/{made.kept_in}", tuple(newer))


def decide(layout: Layout) -> None:
    """Let what was planned take the place of what the store holds, all of it or nothing.

    What fails here leaves open whether it was decided; then whoever next opens the store for writing carries it out.
    """
    layout.folder("temp").move(STAGED, layout.root, DECIDED)
    layout.root.sync()
    finish(layout)


# --- carrying out ---


def is_pending(layout: Layout) -> bool:
    """Whether a restore was decided and not carried out to its end."""
    return layout.root.kind(DECIDED) is not None


def may_be_pending(layout: Layout) -> bool:
    """The same, as far as can be seen."""
    try:
        return is_pending(layout)
    except StoreError:
        return True


def check_plan(layout: Layout) -> None:
    """Read the plan of a restore that is pending, and change nothing. Raises DocumentDamaged."""
    decided = layout.root.open_directory(DECIDED)
    plan_file = decided.open(_PLAN) if decided is not None else None
    if plan_file is not None:
        _read_plan(plan_file)


def finish(layout: Layout) -> bool:
    """Carry out a decision, from wherever it was cut off; whether there was one."""
    decided = layout.root.open_directory(DECIDED)
    if decided is None:
        return False
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while not decided.try_lock():
            if time.monotonic() >= deadline:
                raise LockTimeout(f"another process is restoring {layout.path}", location=layout.path)
            time.sleep(0.01)
        plan_file = decided.open(_PLAN)
        if plan_file is not None:
            _carry_out(layout, decided, _read_plan(plan_file))
            decided.remove(_PLAN)
            decided.sync()
        if is_pending(layout):
            for name in decided.names():  # whose removal was lost with the power, when that of the plan was not
                remove_tree(decided, name)
            layout.root.remove_directory(DECIDED)
            layout.root.sync()
        return True
    finally:
        decided.close()  # whoever looks at the error would hold its lock


def _read_plan(file: File) -> _Plan:
    """What was decided, if it can only be what `decide` writes: names from a damaged file lead anywhere."""
    try:
        plan = msgspec.json.decode(file.read(_MANIFEST_MOST, 0), type=_Plan)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _no_plan(file, str(error)) from error
    if not _KEPT_IN.fullmatch(plan.kept_in) or not plan.files.keys() <= {checkpoints.FOLDER, *FOLDERS.values()}:
        raise _no_plan(file, "it names other places than a restore does")
    return plan


def _no_plan(file: File, reason: str) -> DocumentDamaged:
    return DocumentDamaged(
        f"{file.name}: a restore was decided, and its plan is damaged: {reason}; what it replaces is "
        "where it was, or in backups/",
        file=file.name,
    )


class _Going(NamedTuple):
    """What has to go from one folder of the store, and what comes, as far as that is still to be done."""

    folder: Directory
    names: list[str]
    new: Directory | None


def _going(layout: Layout, decided: Directory, plan: _Plan) -> dict[str, _Going]:
    going: dict[str, _Going] = {}
    pending = layout.root.open_directory(decisions.FOLDER)
    if pending is not None:
        going[decisions.FOLDER] = _Going(pending, pending.names(), None)  # they speak of the logs that go
    for name, files in plan.files.items():
        new, folder, wanted = decided.open_directory(name), layout.folder(name), set(files)
        if new is not None:  # else it was done before it was cut off
            old = set(folder.names()) - {checkpoints.LOCK}
            names = [each for each in old if each not in wanted or _is_to_come(new, folder, each)]
            going[name] = _Going(folder, names, new)
    return going


def _is_to_come(new: Directory, folder: Directory, name: str) -> bool:
    """Whether a new file is there that has not taken its place."""
    coming = new.identity(name)
    return coming is not None and coming != folder.identity(name)


def _carry_out(layout: Layout, decided: Directory, plan: _Plan) -> None:
    """All that goes is kept durably before the first of it goes; what comes keeps the name that it has until its other
    one is durable.
    """
    going = _going(layout, decided, plan)
    _keep(layout, plan.kept_in, going)
    for name, each in going.items():
        for old in each.names:
            if each.new is None or each.new.kind(old) is None:
                each.folder.remove(old)
        for file in each.new.names() if each.new else []:
            if each.new and not file.endswith(_PLACING) and _is_to_come(each.new, each.folder, file):
                each.new.link(file, each.new, file + _PLACING)  # which is there already where it was cut off here
                each.new.move(file + _PLACING, each.folder, file)
        each.folder.sync()
        remove_tree(decided, name)


def _keep(layout: Layout, kept_in: str, going: dict[str, _Going]) -> None:
    backups = layout.folder("backups")
    backups.make_directory(kept_in)
    kept = backups.open_directory(kept_in)
    assert kept is not None
    for name, each in going.items():
        if not each.names:
            continue
        kept.make_directory(name)
        aside = kept.open_directory(name)
        assert aside is not None
        for old in each.names:
            if each.folder.kind(old) == "file":
                each.folder.link(old, aside, old)
            else:
                each.folder.move(old, aside, old)  # it does not belong there, and cannot have two names
        aside.sync()
    kept.sync()
    backups.sync()
