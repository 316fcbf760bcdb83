"""The verdict in words, from figures: what the disk syncs, how close Waypost comes, whether the disk seems to lie.

Software cannot see whether bytes outlast a power cut: only cutting the power shows that. What it can see is a disk that
answers sooner than it could if it did what it was asked. So nothing here says more than "seems", and each suspicion
comes with the figures that it rests on. Times are in microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from waypost.bench.devices import Device
from waypost.bench.goals import AT_MOST_OF_FLOOR, STEPS

Syncing = Literal["seems to sync", "seems to lie", "cannot be told", "is memory"]

MUCH_BYTES = 4 << 20
"""So many bytes are written before a sync of much."""
_FASTEST_BYTES_PER_US = 16_000
"""More than what any one device takes: the four lanes of an NVMe drive carry that at most."""
_MOST_JUDGED_US = 2_000
"""A sync longer than this swings by more than much data takes to go over, so that its growth says nothing."""
_LEAST_US = {"rotating": 1_500, "flash": 40, "nvme": 8}
"""The least that a sync takes where it reaches the medium, or a cache that is kept alive, by kind of device.

A disk of 15,000 turns a minute comes round in 4 ms, half of that on average; a SATA command takes about 50 µs to the
drive and back, one over PCIe about 10 µs.
"""
_NAMES = {"rotating": "a turning disk", "flash": "a flash drive", "nvme": "an NVMe drive"}
_LEAST_ADDED = 1.5
"""How many times as long a write with a sync takes at least as one without, wherever something is asked at all."""
_CLOSE, _RESTLESS = AT_MOST_OF_FLOOR[STEPS], 1.3


@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on; all are medians but `raw_p99_us`."""

    device: Device
    syncs_per_second: float
    growing_per_second: float
    raw_us: float
    """A write and a sync of a frame, in blocks that were written before."""
    raw_p99_us: float
    write_us: float
    """The same write without a sync."""
    little_us: float
    """A sync alone, after one frame was written."""
    much_us: float
    """A sync alone, after `MUCH_BYTES`."""
    to_floor: float
    """How many times as long as the raw sync a durable update takes."""
    unrest: float
    """How many times as long neighbouring turns of the raw sync took as each other."""
    durability: str = "power"


@dataclass(frozen=True)
class Verdict:
    """What is said. `suspicions` are the grounds for "seems to lie", `advice` what to do about them."""

    syncing: Syncing
    sentences: list[str]
    suspicions: list[str]
    advice: list[str]


def judge(evidence: Evidence) -> Verdict:
    """The verdict on figures."""
    is_memory = evidence.device.kind == "memory"
    suspicions = [] if is_memory else find_suspicions(evidence)
    syncing = _syncing(evidence.device, suspicions)
    closeness = [] if is_memory else [_closeness(evidence)]
    sentences = [_speed(evidence), *closeness, _honesty(evidence.device, syncing)]
    if evidence.unrest >= _RESTLESS:
        sentences.append(
            f"Neighbouring turns of the raw sync differed by a factor of {evidence.unrest:.1f}: others were using the "
            "disk or the processors, so measure again when they are done."
        )
    return Verdict(syncing, sentences, suspicions, _advice(evidence.device, syncing))


def find_suspicions(evidence: Evidence) -> list[str]:
    """What speaks for a disk that does not do what a sync asks for, each with its figures."""
    device, found = evidence.device, list[str]()
    if device.unsafe_option:
        found.append(
            f"it is mounted with {device.unsafe_option}: the file system does not tell the device to empty its cache"
        )
    least = _LEAST_US.get(device.kind)
    if least is not None and evidence.raw_us < least:
        found.append(
            f"a sync takes {_time(evidence.raw_us)}, and {_NAMES[device.kind]} needs {_time(least)} at the very least"
        )
    if evidence.raw_us < _LEAST_ADDED * evidence.write_us:
        found.append(
            f"a write with a sync takes {_time(evidence.raw_us)}, one without {_time(evidence.write_us)}: the sync "
            "seems to ask for nothing"
        )
    soonest = evidence.little_us + MUCH_BYTES / _FASTEST_BYTES_PER_US
    if evidence.little_us < _MOST_JUDGED_US and evidence.much_us < soonest:
        found.append(
            f"a sync of {MUCH_BYTES >> 20} MiB takes {_time(evidence.much_us)}, one of a few hundred bytes "
            f"{_time(evidence.little_us)}: it does not grow with what is to be kept"
        )
    return found


def _syncing(device: Device, suspicions: list[str]) -> Syncing:
    if device.kind == "memory":
        return "is memory"
    if suspicions:
        return "seems to lie"
    return "seems to sync" if device.kind in _LEAST_US else "cannot be told"


def _speed(evidence: Evidence) -> str:
    return (
        f"This {'memory' if evidence.device.kind == 'memory' else 'disk'} syncs {evidence.syncs_per_second:,.0f} times "
        f"a second, one after the other (half within {_time(evidence.raw_us)}, 99 % within "
        f"{_time(evidence.raw_p99_us)}); {evidence.growing_per_second:,.0f} times where each makes the file longer."
    )


def _closeness(evidence: Evidence) -> str:
    times = evidence.to_floor
    said = f"A durable step update takes {times:.2f} x as long as a raw sync (goal: at most {_CLOSE:g})"
    if evidence.durability != "power":
        said += f", but at the durability {evidence.durability!r}, which does not wait for the disk"
    elif times <= _CLOSE:
        said += ": Waypost is as close to the disk as it means to be"
    elif evidence.unrest >= _RESTLESS:
        said += ": more than it means to take, on a machine that was busy"
    else:
        said += ": more than it means to take. The faster the disk, the more the processor's share shows"
    return f"{said}."


def _honesty(device: Device, syncing: Syncing) -> str:
    named = f"{device.file_system} on {device.name}" if device.name else device.file_system
    if syncing == "is memory":
        return f"It is memory ({named}): nothing here outlasts the next start of the system, however it is synced."
    if syncing == "seems to lie":
        return f"The disk ({named}) seems to say that bytes are kept before they are."
    if syncing == "seems to sync":
        return f"Nothing speaks against its syncs ({named}, {_NAMES[device.kind]}); only a power cut can prove them."
    below = {
        "virtual": "is made up by another computer, and what that does with a sync",
        "network": "is on a server, and what that does with a sync",
        "layered": "is a layer over others (one of a container goes with the container), and what lies below",
    }.get(device.kind, "does not show its device, and what that does with a sync")
    return f"Nothing speaks against its syncs, but the disk ({named}) {below} cannot be seen from here."


def _advice(device: Device, syncing: Syncing) -> list[str]:
    if syncing == "is memory":
        return ["Keep the store on a disk: name another place with --state or $WAYPOST_STATE."]
    if syncing != "seems to lie":
        return []
    found: list[str] = []
    if device.unsafe_option:
        found.append(f"Mount {device.mount_point} without {device.unsafe_option}.")
    if device.kind in ("rotating", "flash"):
        found.append(
            f"Look at the drive's write cache with `hdparm -W /dev/{device.name}`; `hdparm -W 0 /dev/{device.name}` "
            "turns it off."
        )
    if device.kind in ("rotating", "flash", "nvme"):
        found.append(
            "A drive or controller with power-loss protection (capacitors, a battery) may answer so soon and keep its "
            "word: its data sheet says so."
        )
    if device.kind in ("virtual", "layered", "network"):
        found.append(
            "Ask whoever runs the host or server how it treats flushes (such as a virtual disk's cache mode, which "
            "must not be `unsafe`)."
        )
    found.append(
        "See that nothing stands before the system's fsync (libeatmydata in LD_PRELOAD). Until it is clear, keep a "
        "backup elsewhere: `waypost store backup`."
    )
    return found


def _time(us: float) -> str:
    return f"{us:,.0f} µs" if us < 1_000 else f"{us / 1_000:,.1f} ms"
