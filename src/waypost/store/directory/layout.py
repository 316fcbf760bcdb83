"""Where things are in a store directory, and how an id becomes the name of a file (docs/format.md, section 1).

Encoding is injective and gives names of `[a-z0-9_-]` only, well below 255 bytes, so that no id can
leave its directory, meet another one on a file system that folds case or normal forms, or be a name
that some system reserves.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from hashlib import sha256

from waypost.errors import LockTimeout, StoreNotFound, StoreUnavailable, UnsupportedFormat, UnsupportedPlatform
from waypost.store.directory.files import Directory, File, make_path, open_path, sync_above
from waypost.store.kinds import DocumentId, Kind

FORMAT_TEXT = b"waypost 1\n"
IGNORE_TEXT = b"*\n"
SUFFIXES: dict[Kind, str] = {"workflow": ".state", "session": ".session", "thread": ".thread"}
FOLDERS: dict[Kind, str] = {"workflow": "workflows", "session": "sessions", "thread": "threads"}
ON_DEMAND: frozenset[Kind] = frozenset({"thread"})
"""Of these kinds the folder is made with the first document: earlier releases made stores without it."""
WORKED_IN = ("damaged", "temp", "transactions", "owners", "backups", "spool")
"""The folders that hold no documents, and are there for what is done with them."""
RESTORING = "restoring"
"""What is there while a restore is carried out, or was cut off."""
STAGED = "restore"
"""What is in `temp` while a restore is prepared, or was cut off before it was decided."""
_NEW_TRIES = 16
_LONGEST, _KEPT, _DIGEST = 120, 72, 40
_RESERVED = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]")
_LETTERS = [chr(byte) if re.match(r"[a-z0-9-]", chr(byte)) else f"_{byte:02x}" for byte in range(256)]
_ESCAPED = re.compile(r"_([0-9a-f]{2})")


def encode_id(identifier: str) -> str:
    """The part of a file's name that stands for an id."""
    data = identifier.encode()
    name = "".join([_LETTERS[byte] for byte in data])
    if name.startswith("-"):
        name = f"_2d{name[1:]}"
    if _RESERVED.fullmatch(name):
        name = f"{name[:-1]}_{ord(name[-1]):02x}"
    if len(name) > _LONGEST:
        name = f"{name[:_KEPT]}__{sha256(data).hexdigest()[:_DIGEST]}"
    return name


def names_begin(identifier: str) -> str:
    """What the names begin with that stand for longer ids which begin with this one."""
    longer = encode_id(f"{identifier}\0")
    return longer[: min(len(longer) - len("_00"), _KEPT)]


def decode_id(name: str) -> str | None:
    """The id that a name stands for; None when the name is cut (then only the file knows) or not ours."""
    if "__" in name:
        return None
    data = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name).encode("latin-1", "replace")
    try:
        identifier = data.decode()
    except UnicodeDecodeError:
        return None
    return identifier if identifier and encode_id(identifier) == name else None


def file_name(document: DocumentId) -> str:
    """The name of the log of a document."""
    return encode_id(document.id) + SUFFIXES[document.kind]


def document_id(kind: str, identifier: str) -> DocumentId:
    """The document that a frame names. Raises UnsupportedFormat for a kind that there is not."""
    for known in SUFFIXES:
        if known == kind:
            return DocumentId(known, identifier)
    raise UnsupportedFormat(f"there are no documents of the kind {kind!r}", kind=kind)


class Layout:
    """The open directories of one store."""

    def __init__(self, path: str, root: Directory, *, read_only: bool) -> None:
        self.path = path
        self.root = root
        self.read_only = read_only
        self._folders: dict[str, Directory] = {}
        self.durable: set[str] = set()
        """What is known to keep its name in the store's directory through a power cut."""

    def folder(self, name: str) -> Directory:
        """A directory of the store; made when it is missing and the store may be written to.

        Its name is durable then. Who made it may have died, or failed, before that.
        """
        found = self._folders.get(name) or self.root.open_directory(name)
        if found is None and not self.read_only:
            self.root.make_directory(name)
            found = self.root.open_directory(name)
        if found is None:
            raise StoreNotFound(f"{self.path} has no directory {name}", location=self.path)
        self._folders[name] = found
        if not self.read_only and name not in self.durable:
            self.root.sync()
            self.durable.add(name)
        return found

    def existing(self, name: str) -> Directory | None:
        """A directory of the store; None where it was never needed, or is gone."""
        found = self._folders.get(name) or self.root.open_directory(name)
        if found is not None:
            self._folders[name] = found
        return found

    def see(self, name: str, folder: Directory) -> None:
        """Have a directory looked at by way of another one from now on."""
        self._folders[name] = folder

    def documents(self, kind: Kind) -> Directory:
        """The folder of the logs of a kind, for whoever is about to read or write one of them."""
        return self.folder(FOLDERS[kind])

    def existing_documents(self, kind: Kind) -> Directory | None:
        """The same for whoever only looks; None where there never was a document of that kind."""
        return self.existing(FOLDERS[kind]) if kind in ON_DEMAND else self.documents(kind)

    def readable(self, kind: Kind) -> Directory | None:
        """The same for whoever reads a document, which may be about to be made, where anything may be."""
        return self.existing_documents(kind) if self.read_only else self.documents(kind)

    def close(self) -> None:
        try:
            while self._folders:
                self._folders.popitem()[1].close()
        except BaseException:
            self.close()  # the others, before an interrupt goes on
            raise
        self.root.close()


def open_layout(path: str, *, create: bool, read_only: bool) -> tuple[Layout, bool]:
    """The directories of the store at a path, and whether it was made now.

    Raises StoreNotFound, UnsupportedFormat, UnsupportedPlatform, StoreUnavailable.
    """
    if os.name == "nt":
        raise UnsupportedPlatform(
            "the directory store needs POSIX locks and renames: use Linux, macOS, or WSL on Windows",
            platform=sys.platform,
        )
    if create and not read_only:
        make_path(path)
    root = open_path(path)
    marker = root.open("FORMAT")
    made = marker is None
    if marker is not None:
        _check_format(marker, path)
    elif read_only or not create:
        if _holds_logs(root):
            why = f"{path} looks like a store whose file FORMAT is missing: `waypost store repair` makes it"
            raise StoreNotFound(why, location=path, missing="FORMAT")
        raise StoreNotFound(f"{path} is not a store: it has no FORMAT file", location=path)
    layout = Layout(path, root, read_only=read_only)
    if made:
        _furnish(layout)
    elif not read_only:
        names = root.names()
        root.sync()  # whoever put FORMAT there may have died before doing so
        layout.durable.update(names)
    return layout, made


def _holds_logs(root: Directory) -> bool:
    for kind, name in FOLDERS.items():
        folder = root.open_directory(name) if root.kind(name) == "directory" else None
        if folder is not None and any(each.endswith(SUFFIXES[kind]) for each in folder.names()):
            return True
    return False


def _check_format(marker: File, path: str) -> None:
    text = marker.read(64, 0)
    if text != FORMAT_TEXT:
        shown = text.decode("ascii", "replace").strip()
        raise UnsupportedFormat(
            f"{path} holds a store of format {shown!r}; this release of waypost reads {FORMAT_TEXT.decode().strip()!r}",
            location=path,
        )


def _furnish(layout: Layout) -> None:
    """Make a store out of a directory. Several processes may do so at once; FORMAT comes last."""
    foreign = [name for name in layout.root.names() if name not in _OURS]
    if foreign:
        raise UnsupportedFormat(
            f"{layout.path} holds other files ({', '.join(sorted(foreign)[:3])}) and is not a store",
            location=layout.path,
        )
    # whoever made the directories above may have died before their names were durable; where FORMAT is, they are
    sync_above(layout.path)
    furnished = (folder for kind, folder in FOLDERS.items() if kind not in ON_DEMAND)
    for name in (*furnished, "temp", "transactions"):
        layout.folder(name)
    replace(layout, layout.root, ".gitignore", IGNORE_TEXT)
    replace(layout, layout.root, "FORMAT", FORMAT_TEXT)


_OURS = frozenset(
    {
        *FOLDERS.values(),
        "temp",
        "transactions",
        "checkpoints",
        "backups",
        "damaged",
        "index",
        "owners",
        "spool",
        "checkpoint-index.json",
        "backup.json",
        ".gitignore",
        "FORMAT",
        "lease",
        "waypost.toml",
    }
)


def new_file(layout: Layout) -> tuple[str, File]:
    """A new file in `temp`, locked for as long as it is open, so that nobody takes it for a leftover."""
    folder = layout.folder("temp")
    for _ in range(_NEW_TRIES):
        name = f"{os.urandom(8).hex()}.new"
        file = folder.open(name, write=True, create=True, exclusive=True)
        if file is None:
            continue
        try:
            if file.try_lock() and folder.identity(name) is not None:
                return name, file
        except BaseException:
            file.close()  # at once: while it is locked it is taken for one that is being written
            with suppress(StoreUnavailable):
                folder.remove(name)
            raise
    raise LockTimeout(f"{folder.path}: new files cannot be locked", file=folder.path)


def scratch(layout: Layout) -> File:
    """A new file in `temp` that has lost its name, so that it is gone when it is closed or its process dies."""
    name, file = new_file(layout)
    layout.folder("temp").remove(name)
    return file


def replace(layout: Layout, folder: Directory, name: str, content: bytes) -> None:
    """Put a small file in place, whole or not at all, durably."""
    temporary, file = new_file(layout)
    try:
        file.write_all(content, 0)
        file.sync_all()
        layout.folder("temp").move(temporary, folder, name)
    except BaseException:
        layout.folder("temp").remove(temporary)
        raise
    folder.sync()


def sweep(layout: Layout) -> list[str]:
    """Remove what dead processes were writing in `temp`; returns the names of what held anything.

    An empty one may be of a process that was about to lock it, and takes another name then.
    """
    folder = layout.folder("temp")
    swept: list[str] = []
    for name in folder.names():
        if not name.endswith(".new"):
            continue
        file = folder.open(name, write=True)
        if file is not None and (file.try_lock() or _is_in_place(layout, file)):
            folder.remove(name)
            if file.identity().size:
                swept.append(name)
    return swept


def _is_in_place(layout: Layout, file: File) -> bool:
    """Whether a file that somebody has locked is the lease: its maker died before this name of it was removed.

    The kernel frees the lock of a dead writer, but a lease is locked by all who share it.
    """
    lease = layout.root.identity("lease")
    return lease is not None and lease[:2] == file.identity()[:2]
