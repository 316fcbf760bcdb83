"""The hook script: it appends one event to a spool, durably, and is gone (docs/hooks.md, section 2).

    python -I -S /path/to/waypost/_hook.py [--dialect NAME] [--spool DIRECTORY] < event

`_hook.py` loads this file by itself, so it may not import from the package.

An agent waits for it at every step, and starting it is what it costs. So it imports nothing but modules that are
written in C, and looks into nothing that it is given: whoever folds the event in does.

Invariants:

* It ends with 0 and prints nothing on its standard output, whatever it is given and whatever fails. What could not be
  stored is told in one line on standard error; no line means that the event is durable, or that there is no store.
* An event is there as a whole, or was never acknowledged: its file is made anew, locked until it is synced, and summed.
* Of the environment it keeps the variables that are named below, and nothing else.
"""

import binascii
import fcntl
import posix  # the part of `os` that is written in C: the rest takes as long to load as all else here
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal  # `signal` brings `enum` with it

MAGIC = b"waypost-event 1 "
SUFFIX = ".event"
LOCK = "lock"
PAYLOAD_MOST, VALUE_MOST = 8 << 20, 4096
"""Bytes of an event, and of one variable: a longer event is cut, a longer variable left out."""
VARIABLES = ("CLAUDE_PID", "CLAUDE_CODE_SESSION_ID", "CLAUDE_PROJECT_DIR", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_EFFORT")

_STATE = ".claude/state"
_PIECE = 1 << 16
_TRIES = 16
_STOPPED_BY = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM)


class NotStored(Exception):
    """What kept an event from being stored."""


def main(arguments: list[str]) -> None:
    """Store the event of standard input. Raises NotStored, OSError."""
    boot = _text_of("/proc/sys/kernel/random/boot_id")
    arrived_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) if boot else time.time_ns()
    fields = {"dialect": "waypost", "time_us": str(time.time_ns() // 1000), "boot": boot}
    given = None
    for option, value in zip(arguments[::2], arguments[1::2], strict=False):
        if option == "--dialect":
            fields["dialect"] = value
        elif option == "--spool":
            given = value
    _end_when_stopped()
    payload, length, digest = read(0)
    for each in _STOPPED_BY:
        _signal.signal(each, _signal.SIG_IGN)
    place = find_spool(given)
    if place is None:
        return
    fields.update(who())
    fields["length"] = str(length)
    if digest:
        fields["sha256"] = digest
    append(place, boot, arrived_ns, fields, payload)


def _end_when_stopped() -> None:
    """Have a signal end the wait for an event; one that is read is stored."""

    def stop(number: int, frame: object) -> None:
        raise NotStored("it was stopped while it read the event")

    for each in _STOPPED_BY:
        _signal.signal(each, stop)


def read(descriptor: int) -> tuple[bytes, int, str]:
    """All bytes up to the limit, how many there were, and where there were more the SHA-256 of all of them in hex."""
    pieces: list[bytes] = []
    length = 0
    while length <= PAYLOAD_MOST and (piece := posix.read(descriptor, _PIECE)):
        pieces.append(piece)
        length += len(piece)
    payload = b"".join(pieces)
    if length <= PAYLOAD_MOST:
        return payload, length, ""
    digest = _sha256(payload)
    while piece := posix.read(descriptor, _PIECE):
        digest.update(piece)
        length += len(piece)
    return payload[:PAYLOAD_MOST], length, digest.hexdigest()


def _sha256(data: bytes):
    if TYPE_CHECKING:
        from hashlib import sha256
    else:  # which hashlib would take 2 ms to find
        try:
            from _sha2 import sha256
        except ImportError:  # Python 3.11
            from _sha256 import sha256
    return sha256(data)


# --- where to, and from whom ---


def find_spool(given: str | None) -> tuple[str, str] | None:
    """The directory that holds the spool, and the spool's name in it; None where there is no store to speak of."""
    environment = _environment("WAYPOST_SPOOL", "WAYPOST_STATE", "CLAUDE_PROJECT_DIR")
    given = given or environment.get("WAYPOST_SPOOL")
    if given:
        return _split(given)
    state = environment.get("WAYPOST_STATE")
    if state is None:
        project = environment.get("CLAUDE_PROJECT_DIR")
        state = f"{project}/{_STATE}" if project else ""
        if not _is_directory(state):
            state = _upwards(posix.getcwd())
    return (state, "spool") if _is_directory(state) else None


def _split(path: str) -> tuple[str, str]:
    """The directory that holds what a path names, and its name there."""
    if not path.startswith("/"):
        path = f"{posix.getcwd()}/{path}"
    above, _, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        import os

        return os.path.split(os.path.realpath(path))
    return above or "/", name


def _environment(*names: str) -> dict[str, str]:
    """Of some variables those that are set."""
    environment = posix.environ
    return {name: _decoded(environment[key]) for name in names if (key := name.encode()) in environment}


def _decoded(name: bytes) -> str:
    """As `os.fsdecode`."""
    return name.decode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())


def _encoded(name: str) -> bytes:
    """As `os.fsencode`."""
    return name.encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())


def _is_directory(path: str) -> bool:
    """Whether there is a directory; a fault of the disk must not look like a project without a store."""
    try:
        found = posix.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return found.st_mode & 0o170000 == 0o040000


def _upwards(folder: str) -> str:
    while not _is_directory(f"{folder}/{_STATE}"):
        if folder == "/":
            return ""
        folder = folder.rpartition("/")[0] or "/"
    return f"{folder}/{_STATE}"


def who() -> dict[str, str]:
    """The variables that are kept, and what names the agent's process for as long as anyone may remember it."""
    found = _environment(*VARIABLES)
    pid = found.get("CLAUDE_PID", "")
    if pid.isascii() and pid.isdigit():
        found["agent_start"] = _start_ticks(pid)
        found["host"] = f"{posix.uname().nodename}/{_text_of('/etc/machine-id')[:32]}"
        try:
            found["pid_namespace"] = posix.readlink("/proc/self/ns/pid")
        except OSError:
            pass
    return {name: value for name, value in found.items() if len(_encoded(value)) <= VALUE_MOST}


def _start_ticks(pid: str) -> str:
    """When a process began, in clock ticks since boot; empty where that cannot be told, and 0, for an unknown one,
    where proc shows it to other time namespaces otherwise.
    """
    try:
        descriptor = posix.open(f"/proc/{pid}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return ""
    try:
        if _text_of("/proc/self/timens_offsets").split()[4:] not in ([], ["0", "0"]):
            return "0"
        # the program's name may hold blanks and brackets, so count behind the last bracket
        return posix.read(descriptor, 4096).rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""
    finally:
        posix.close(descriptor)


def _text_of(path: str) -> str:
    try:
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return posix.read(descriptor, 256).decode("ascii", "replace").strip()
    except OSError:
        return ""
    finally:
        posix.close(descriptor)


# --- one event ---


def new_name(boot: str, arrived_ns: int) -> str:
    """A name for an event: within one boot they sort by arrival."""
    return f"{boot_in_names(boot)}-{arrived_ns:016x}-{posix.urandom(8).hex()}"


def boot_in_names(boot: str) -> str:
    """What stands for a boot in the names of events; zeros where it is not known."""
    return boot.replace("-", "")[:8] or "0" * 8


def encode(fields: dict[str, str], payload: bytes) -> bytes:
    """The bytes of an event: a line that says what it is, and the payload as it came."""
    header = " ".join([f"{name}={_escaped(value)}" for name, value in fields.items()])
    rest = header.encode() + b"\n" + payload
    return b"%s%08x %s" % (MAGIC, binascii.crc32(rest, binascii.crc32(MAGIC)), rest)


def _escaped(value: str) -> str:
    return "".join([chr(each) if 32 < each < 127 and each != 37 else f"%{each:02x}" for each in _encoded(value)])


def append(place: tuple[str, str], boot: str, arrived_ns: int, fields: dict[str, str], payload: bytes) -> None:
    """Make an event's file, and its name, durable. Raises NotStored, OSError."""
    folder = open_spool(*place)
    for _ in range(_TRIES):
        name = new_name(boot, arrived_ns)
        file = _new_file(folder, name + SUFFIX)
        if file is not None:
            break
    else:
        raise NotStored("its file was taken away again and again")
    try:
        _write(file, encode({"name": name, **fields}, payload))
    except OSError:
        posix.unlink(name + SUFFIX, dir_fd=folder)  # nobody takes part of an event for one, but it would lie there
        raise
    _sync(file)
    _sync(folder)


def open_spool(above: str, name: str) -> int:
    """The spool, made where it is missing; the directory that holds it is never made."""
    flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC
    holder = posix.open(above, flags)
    try:
        folder = posix.open(name, flags | posix.O_NOFOLLOW, dir_fd=holder)
    except FileNotFoundError:
        try:
            posix.mkdir(name, 0o700, dir_fd=holder)
            posix.chmod(name, 0o700, dir_fd=holder)  # whatever the umask took away
        except FileExistsError:
            pass
        folder = posix.open(name, flags | posix.O_NOFOLLOW, dir_fd=holder)
    try:
        posix.stat(LOCK, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        # whoever made the spool may have died before its name was durable; where the lock's file is, it is
        _sync(holder)
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_NOFOLLOW | posix.O_CLOEXEC
        posix.close(posix.open(LOCK, flags, 0o600, dir_fd=folder))
    posix.close(holder)
    return folder


def _new_file(folder: int, name: str) -> int | None:
    """A new file, locked; None where somebody took it away before it was."""
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
    file = posix.open(name, flags, 0o600, dir_fd=folder)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found, ours = posix.stat(name, dir_fd=folder, follow_symlinks=False), posix.fstat(file)
    except (BlockingIOError, FileNotFoundError):
        posix.close(file)
        return None
    if (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino):
        posix.close(file)
        return None
    if ours.st_mode & 0o777 != 0o600:
        posix.fchmod(file, 0o600)
    return file


def _write(file: int, data: bytes) -> None:
    """One write; what a full disk leaves of it is tried again, which tells the reason."""
    written = posix.pwrite(file, data, 0)
    while written < len(data):
        written += posix.pwrite(file, data[written:], written)


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":
        try:  # fsync there leaves data in the drive's cache; not every file system knows the other
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
        except OSError:
            pass
    posix.fsync(descriptor)


def run() -> None:
    """Do it, and end the process."""
    try:
        main(sys.argv[1:])
    except BaseException as error:
        try:
            reason = " ".join(f"{error}".split()) or type(error).__name__
            posix.write(2, f"waypost: the event was not stored: {reason}\n".encode("utf-8", "replace")[:1000])
        except BaseException:
            pass
    # there is nothing to clean up, and the interpreter takes its time for it
    posix._exit(0)  # pyright: ignore[reportPrivateUsage]  # os._exit is this one
