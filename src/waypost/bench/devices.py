"""What a path lies on: the file system, its mount, and the device below it, as far as this system tells.

Nothing here is believed beyond what it is for: which speeds are possible, and which words a verdict may use.
"""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

from waypost.store.directory.files import mount_of

IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gpfs", "beegfs", "fuse.sshfs",
     "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "afpfs", "webdav", "davfs"}
)  # fmt: skip
LAYERED = frozenset({"overlay", "overlayfs", "aufs", "unionfs", "fuse-overlayfs", "virtiofs"})

Kind = Literal["memory", "network", "layered", "virtual", "rotating", "flash", "nvme", "unknown"]

_UNSAFE_OPTIONS = ("nobarrier", "barrier=0", "nobarriers")
"""Mount options with which a file system no longer tells the device to empty its cache."""
_EMULATORS = ("qemu", "vmware", "vbox", "virtual", "msft", "google", "amazon", "xen", "nutanix")
"""How vendors and models of devices begin or are called that another computer makes up."""
_MOST_LAYERS = 8


class Device(NamedTuple):
    """`name` is that of the device, such as `nvme0n1`, empty where it cannot be seen; `unsafe_option` is a mount option
    that takes away what a sync promises, or empty.
    """

    file_system: str
    mount_point: str
    kind: Kind
    name: str = ""
    unsafe_option: str = ""


def look(path: str, system: str = "/sys") -> Device:
    """What a path lies on; `system` is where the kernel tells of devices."""
    file_system, point = mount_of(path)
    options = _options(point)
    unsafe = next((option for option in _UNSAFE_OPTIONS if option in options), "")
    if file_system in IN_MEMORY:
        return Device(file_system, point, "memory")
    if file_system in NETWORK:
        return Device(file_system, point, "network")
    if file_system in LAYERED:
        return Device(file_system, point, "layered", "", unsafe)
    number = os.stat(path).st_dev
    kind, name = of_number(os.major(number), os.minor(number), system)
    return Device(file_system, point, kind, name, unsafe)


def of_number(major: int, minor: int, system: str = "/sys") -> tuple[Kind, str]:
    """(kind, name) of a block device; of a partition, a mapped device or an array that of what lies below it."""
    folder = os.path.realpath(f"{system}/dev/block/{major}:{minor}")
    for _ in range(_MOST_LAYERS):
        if os.path.exists(f"{folder}/partition"):
            folder = os.path.dirname(folder)
        below = _names(f"{folder}/slaves")
        if not below:
            break
        folder = os.path.realpath(f"{folder}/slaves/{below[0]}")
    name = os.path.basename(folder)
    if not os.path.isdir(f"{folder}/queue"):
        return "unknown", ""
    return _kind(folder, name), name


def _kind(folder: str, name: str) -> Kind:
    made_by = " ".join(_read(f"{folder}/device/{each}") for each in ("vendor", "model")).lower()
    if name.startswith(("ram", "zram")):
        return "memory"
    if name.startswith("loop"):
        return "layered"
    # a virtual disk says that it turns, or that it does not, as its host likes
    if name.startswith(("vd", "xvd", "nbd", "rbd")) or any(word in made_by for word in _EMULATORS):
        return "virtual"
    if name.startswith("nvme"):
        return "nvme"
    return "rotating" if _read(f"{folder}/queue/rotational") == "1" else "flash"


def _options(point: str) -> set[str]:
    """The options of the mount at a point: those of the mount, and those of the file system."""
    found: set[str] = set()
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            for row in map(str.split, table):
                if row[4].replace("\\040", " ") == point:
                    found = {*row[5].split(","), *row[-1].split(",")}  # the last one mounted there is what is seen
    except OSError:
        pass  # not every system has the table
    return found


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(256).strip()
    except OSError:
        return ""
