"""`waypost store bench`: it leaves nothing behind, counts what it says, and its verdict follows from figures."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import waypost
from waypost import cli
from waypost.bench import devices, measuring, trial
from waypost.bench.devices import Device
from waypost.bench.turns import Lane, Turn
from waypost.bench.verdict import MUCH_BYTES, Evidence, judge

COMMAND = [sys.executable, "-m", "waypost", "store", "bench"]
NVME = Device("ext4", "/", "nvme", "nvme0n1")


def evidence(device: Device = NVME, **figures: Any) -> Evidence:
    """Figures of an honest drive; what is given is otherwise."""
    honest: dict[str, Any] = {
        "syncs_per_second": 9_000,
        "growing_per_second": 5_000,
        "raw_us": 110.0,
        "raw_p99_us": 400.0,
        "write_us": 3.0,
        "little_us": 105.0,
        "much_us": 1_900.0,
        "to_floor": 1.12,
        "unrest": 1.05,
    }
    return Evidence(device=device, **{**honest, **figures})


def left_in(place: Path) -> list[str]:
    return [name for name in os.listdir(place) if name.startswith(trial.PREFIX)]


# --- a run ---


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One short run beside a store, with what the store's files held before and after."""
    place = tmp_path_factory.mktemp("bench")
    with waypost.open(place / "state") as wp:
        wp.create_workflow("w", "W", steps=["a"]).unwrap()
    (place / "pyproject.toml").write_text("[tool.waypost.reliability]\nenable_wal = false\n")
    before = contents(place)
    command = [*COMMAND, "--state", str(place / "state"), "--seconds", "1", "--json"]
    environment = {**os.environ, "WAYPOST_PRESET": "development"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=place, env=environment)
    return {"done": done, "found": json.loads(done.stdout), "before": before, "after": contents(place), "place": place}


def contents(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_a_run_leaves_nothing_and_touches_no_store(run: dict[str, Any]) -> None:
    """The folder lies beside the store and is gone at the end; the store is byte for byte what it was."""
    assert os.path.dirname(run["found"]["folder"]) == str(run["place"])
    assert run["after"] == run["before"] and left_in(run["place"]) == []
    assert "measuring in" in run["done"].stderr


def test_every_row_has_its_figures(run: dict[str, Any]) -> None:
    """The document has each row, in order, with counts, times and what they are held against."""
    found = run["found"]
    keys = ["raw", "growing", "update", "checkpointed", "threads", "processes", "load_lazily", "load_whole", "restore"]
    assert [row["key"] for row in found["rows"]] == keys
    for row in found["rows"]:
        assert row["operations"] >= 2 and row["per_second"] > 0 and 0 < row["p50_us"] <= row["p99_us"], row
        assert (row["to_raw_sync"] is None) == row["key"].startswith("load")
    rows = {row["key"]: row for row in found["rows"]}
    assert rows["raw"]["to_raw_sync"] == 1 and rows["update"]["to_raw_sync"] > 0
    if found["device"]["kind"] != "memory":
        assert [rows[key]["goal"]["limit"] for key in ("update", "checkpointed")] == [1.35, 1.1]
    assert found["rounds"] == 2 and found["frame_bytes"] > 100
    assert set(found["verdict"]) == {"syncing", "sentences", "suspicions", "advice"}
    is_bad = found["verdict"]["syncing"] in ("seems to lie", "is memory")
    assert run["done"].returncode == (1 if is_bad else 0)


@pytest.mark.skipif(sys.platform == "darwin", reason="syncs are not told from other calls there")
def test_syncs_are_counted_as_they_are_made(run: dict[str, Any]) -> None:
    """A raw sync is one; an update has one of its own, and threads that commit together share theirs."""
    each = {row["key"]: row["syncs_each"] for row in run["found"]["rows"]}
    assert each["raw"] == each["growing"] == 1
    assert 1 <= each["update"] < 2 and 1 <= each["checkpointed"] < 2
    assert 0 < each["threads"] <= 2 and each["processes"] >= 1
    assert each["load_whole"] is None


@pytest.mark.skipif(sys.platform == "darwin", reason="syncs are not told from other calls there")
def test_each_call_counts_once_also_of_threads(tmp_path: Path) -> None:
    """Calls of both kinds are counted, from all threads, and still made; nothing is counted before it begins."""
    program = f"""
import os, threading
from waypost.bench import counting
file = os.open({str(tmp_path / "file")!r}, os.O_RDWR | os.O_CREAT)
os.fsync(file)
assert counting.since(0) is None
counting.begin(); counting.begin()
threads = [threading.Thread(target=os.fdatasync, args=(file,)) for _ in range(5)]
for thread in threads: thread.start()
for thread in threads: thread.join()
os.fsync(file)
try: os.fsync(999)
except OSError: print("refused", counting.so_far(), counting.since(2))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "refused 7 5\n"


def test_options_of_the_project_are_not_measured(run: dict[str, Any]) -> None:
    """What pyproject.toml and the environment say of the project's store does not reach the one that is measured."""
    assert run["found"]["evidence"]["durability"] == "power"


# --- however it ends ---


def start(place: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """A run that would take long, and the folder it works in."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may have it ignored
    process = subprocess.Popen([*COMMAND, "--dir", str(place), "--seconds", "600"], stderr=subprocess.DEVNULL)
    ends = time.monotonic() + 30
    while time.monotonic() < ends and not list(place.glob(f"{trial.PREFIX}*/kept/FORMAT")):
        assert process.poll() is None
        time.sleep(0.01)
    (name,) = left_in(place)
    return process, place / name


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C ends it with 130, its processes, and its folder."""
    process, _ = start(tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert os.listdir(tmp_path) == []


def test_what_a_killed_run_has_left_goes_with_the_next(tmp_path: Path) -> None:
    """The folder of a run that is alive stays; once that is killed, whoever measures there next takes it away."""
    process, folder = start(tmp_path)
    assert trial.sweep(str(tmp_path)) == [] and folder.is_dir()
    assert (folder / ".gitignore").read_text() == "*\n"
    process.kill()
    process.wait()
    ends = time.monotonic() + 30
    while left_in(tmp_path) and time.monotonic() < ends:  # its processes end by themselves, and may write until then
        with trial.folder_in(str(tmp_path)):
            pass
    assert os.listdir(tmp_path) == []


def test_only_what_is_ours_is_swept(tmp_path: Path) -> None:
    """A link, a file of such a name, and folders of other names stay, and nothing that a link leads to is removed."""
    for folder in ("other", f"{trial.PREFIX}dead"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "precious").write_text("x")
    (tmp_path / f"{trial.PREFIX}link").symlink_to(tmp_path / "other")
    (tmp_path / f"{trial.PREFIX}dead" / "link").symlink_to(tmp_path / "other")
    (tmp_path / f"{trial.PREFIX}file").write_text("x")
    assert trial.sweep(str(tmp_path)) == [f"{trial.PREFIX}dead"]
    assert sorted(os.listdir(tmp_path)) == [f"{trial.PREFIX}file", f"{trial.PREFIX}link", "other"]
    assert (tmp_path / "other" / "precious").read_text() == "x"


def test_the_folder_goes_with_an_error(tmp_path: Path) -> None:
    """Whatever ends the measuring, the folder is removed."""

    def fail() -> None:
        with trial.folder_in(str(tmp_path)) as folder:
            (Path(folder) / "file").write_text("x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert os.listdir(tmp_path) == []


# --- where ---


def test_the_place_is_on_the_file_system_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the store, or the nearest directory above one that is not there; inside where it is a mount of its own."""
    assert trial.place_for(str(tmp_path / "a" / "b" / "state")) == str(tmp_path)
    store = tmp_path / "store"
    (store / "temp").mkdir(parents=True)
    assert trial.place_for(str(store)) == str(tmp_path)
    stat = os.stat

    def other_device(path: Any, **options: Any) -> Any:
        found = stat(path, **options)
        return os.stat_result([*found[:2], 12_345, *found[3:]]) if str(path) == str(store) else found

    monkeypatch.setattr(trial.os, "stat", other_device)
    assert trial.place_for(str(store)) == str(store / "temp")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--dir", "nowhere"], 2, "there is no directory 'nowhere' to measure in"),
        (["--seconds", "0"], 2, "invalid value for '--seconds'"),
        (["--state", "postgresql://ann:hush@localhost/x"], 2, "the store is on a server: name a directory with --dir"),
        (["--state", "memory:"], 2, "a store in memory ends with its process"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    """One sentence says what is wrong, and never the password of a location."""
    assert cli.call(["store", "bench", *arguments]) == status
    told = capsys.readouterr().err
    assert message in told and "hush" not in told


def test_a_place_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file system that is mounted read-only is refused, with the reason and the way out."""

    def refuse(path: str, mode: int = 0o777) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(trial.os, "mkdir", refuse)
    assert cli.call(["store", "bench", "--dir", str(tmp_path)]) == 5
    assert f"cannot measure in {tmp_path}: Read-only file system; name another" in capsys.readouterr().err


def test_a_place_without_room_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Too little room is told before anything is made."""
    monkeypatch.setattr(trial, "_free", lambda place: 5_000)
    assert cli.call(["store", "bench", "--dir", str(tmp_path), "--json"]) == 5
    error = json.loads(capsys.readouterr().out)["error"]
    assert "5,000 bytes free" in error["message"] and os.listdir(tmp_path) == []


def test_a_worker_that_fails_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong in a process of the run ends it with the reason, and leaves nothing."""
    monkeypatch.setattr(measuring, "_WORKFLOW", "no\0name")
    with pytest.raises(waypost.StoreUnavailable, match=r"measuring in .* went wrong: .*InvalidId"):
        measuring.measure(str(tmp_path), 0.1, steps=20)
    assert os.listdir(tmp_path) == []


# --- devices ---


def make_device(system: Path, name: str, number: str, *, rotational: str = "0", model: str = "") -> Path:
    folder = system / "devices" / name
    (folder / "queue").mkdir(parents=True)
    (folder / "queue" / "rotational").write_text(f"{rotational}\n")
    (folder / "device").mkdir()
    (folder / "device" / "model").write_text(f"{model}\n")
    (system / "dev" / "block").mkdir(parents=True, exist_ok=True)
    (system / "dev" / "block" / number).symlink_to(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "rotational", "model", "kind"),
    [
        ("nvme0n1", "0", "Samsung SSD 990", "nvme"),
        ("nvme1n1", "0", "Amazon Elastic Block Store", "virtual"),
        ("sda", "1", "WDC WD40EFRX", "rotating"),
        ("sdb", "0", "Crucial MX500", "flash"),
        ("sdc", "1", "QEMU HARDDISK", "virtual"),
        ("vda", "1", "", "virtual"),
        ("loop3", "0", "", "layered"),
        ("zram0", "0", "", "memory"),
    ],
)
def test_devices_are_told_by_what_the_kernel_says(
    tmp_path: Path, name: str, rotational: str, model: str, kind: str
) -> None:
    """The kind of a device is what limits its speed; what a virtual one says of itself is not believed."""
    make_device(tmp_path, name, "8:0", rotational=rotational, model=model)
    assert devices.of_number(8, 0, str(tmp_path)) == (kind, name)


def test_a_partition_and_a_mapped_device_are_what_lies_below(tmp_path: Path) -> None:
    """Through a mapped device and a partition the drive is found; a number that nobody knows is unknown."""
    drive = make_device(tmp_path, "sda", "8:0", rotational="1")
    (drive / "sda2").mkdir()
    (drive / "sda2" / "partition").write_text("2\n")
    mapped = make_device(tmp_path, "dm-0", "253:0")
    (mapped / "slaves").mkdir()
    (mapped / "slaves" / "sda2").symlink_to(drive / "sda2")
    assert devices.of_number(253, 0, str(tmp_path)) == ("rotating", "sda")
    assert devices.of_number(0, 44, str(tmp_path)) == ("unknown", "")


@pytest.mark.parametrize(
    ("file_system", "kind"), [("tmpfs", "memory"), ("nfs4", "network"), ("overlay", "layered"), ("ext4", "unknown")]
)
def test_file_systems_are_told_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_system: str, kind: str
) -> None:
    """Memory, servers and layers are known by the name of the file system, whatever device they show."""
    monkeypatch.setattr(devices, "mount_of", lambda path: (file_system, "/no/such/mount"))
    assert devices.look(str(tmp_path), str(tmp_path / "no-system")) == Device(file_system, "/no/such/mount", kind)


# --- the verdict ---


def test_an_honest_disk_is_not_accused() -> None:
    """Nothing is suspected, and all the same it is said that only a power cut proves it."""
    verdict = judge(evidence())
    assert (verdict.syncing, verdict.suspicions, verdict.advice) == ("seems to sync", [], [])
    said = " ".join(verdict.sentences)
    assert "This disk syncs 9,000 times a second" in said and "half within 110 µs" in said
    assert "1.12 x as long as a raw sync (goal: at most 1.35): Waypost is as close" in said
    assert "only a power cut can prove" in said


@pytest.mark.parametrize(
    ("figures", "device", "suspicion", "advice"),
    [
        (
            {"raw_us": 150.0},
            Device("ext4", "/", "rotating", "sda"),
            "a sync takes 150 µs, and a turning disk needs 1.5 ms",
            "hdparm -W /dev/sda",
        ),
        ({"raw_us": 20.0}, Device("xfs", "/", "flash", "sdb"), "a flash drive needs 40 µs", "power-loss protection"),
        ({"raw_us": 6.0}, NVME, "a sync takes 6 µs, and an NVMe drive needs 8 µs", "power-loss protection"),
        ({"write_us": 100.0}, NVME, "the sync seems to ask for nothing", "libeatmydata"),
        (
            {"much_us": 120.0},
            Device("ext4", "/", "virtual", "vda"),
            "a sync of 4 MiB takes 120 µs, one of a few hundred bytes 105 µs",
            "cache mode",
        ),
        (
            {},
            Device("ext4", "/data", "nvme", "nvme0n1", "nobarrier"),
            "mounted with nobarrier",
            "Mount /data without nobarrier",
        ),
    ],
)
def test_a_disk_that_lies_is_suspected_with_figures(
    figures: dict[str, float], device: Device, suspicion: str, advice: str
) -> None:
    """Each way of answering too soon is found alone, named with its figures, and comes with what to do."""
    verdict = judge(evidence(device, **figures))
    assert verdict.syncing == "seems to lie"
    assert len(verdict.suspicions) == 1 and suspicion in verdict.suspicions[0]
    assert advice in " ".join(verdict.advice) and "waypost store backup" in " ".join(verdict.advice)
    assert "seems to say that bytes are kept before they are" in " ".join(verdict.sentences)


@pytest.mark.parametrize(
    "figures",
    [
        {"raw_us": 8_300.0, "little_us": 8_200.0, "much_us": 8_150.0, "device": Device("ext4", "/", "rotating", "sda")},
        {"raw_us": 5_000.0, "little_us": 5_000.0, "much_us": 4_900.0, "device": Device("ext4", "/", "flash", "sda")},
        {"raw_us": 12.0, "little_us": 10.0, "write_us": 3.0, "much_us": 10.0 + MUCH_BYTES / 16_000},
    ],
)
def test_slow_and_very_fast_disks_are_not_accused(figures: dict[str, Any]) -> None:
    """A slow sync swings by more than much data takes to go over; and the fastest that can be is still possible."""
    assert judge(evidence(**figures)).suspicions == []


@pytest.mark.parametrize(
    ("device", "said"),
    [
        (Device("ext4", "/", "virtual", "vda"), "(ext4 on vda) is made up by another computer"),
        (Device("overlay", "/", "layered"), "one of a container goes with the container"),
        (Device("nfs4", "/", "network"), "is on a server"),
        (Device("btrfs", "/", "unknown"), "does not show its device"),
    ],
)
def test_what_cannot_be_seen_is_not_vouched_for(device: Device, said: str) -> None:
    """Of a disk behind another computer or layer no more is said than that nothing speaks against it."""
    verdict = judge(evidence(device))
    assert (verdict.syncing, verdict.suspicions) == ("cannot be told", [])
    assert said in verdict.sentences[-1] and "Nothing speaks against its syncs" in verdict.sentences[-1]


def test_memory_is_told_by_name() -> None:
    """Of memory it is said that nothing lasts; it is no lie, and there is no disk to be close to."""
    verdict = judge(evidence(Device("tmpfs", "/dev/shm", "memory"), raw_us=1.0, much_us=2.0, to_floor=90.0))
    assert (verdict.syncing, verdict.suspicions) == ("is memory", [])
    said = " ".join(verdict.sentences)
    assert "It is memory (tmpfs)" in said and "raw sync (goal" not in said
    assert verdict.advice == ["Keep the store on a disk: name another place with --state or $WAYPOST_STATE."]


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"to_floor": 1.36}, "more than it means to take. The faster the disk"),
        ({"to_floor": 1.36, "unrest": 1.3}, "on a machine that was busy"),
        ({"to_floor": 0.4, "durability": "process"}, "which does not wait for the disk"),
        ({"unrest": 1.3}, "differed by a factor of 1.3"),
    ],
)
def test_closeness_is_told_with_what_clouds_it(figures: dict[str, Any], said: str) -> None:
    """A figure beyond the goal, a busy machine and a weaker promise are said as what they are."""
    assert said in " ".join(judge(evidence(**figures)).sentences)
    assert said not in " ".join(judge(evidence()).sentences)


def test_syncs_of_a_lane_are_counted_over_all_its_turns() -> None:
    """Syncs for each operation; not known where one turn did not count."""
    assert Lane([[Turn([1.0] * 4, [], 2)], [Turn([1.0] * 4, [], 6)]]).syncs_each == 1
    assert Lane([[Turn([1.0], [], 2)], [Turn([1.0], [])]]).syncs_each is None


def test_the_table_and_the_verdict_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """People get a table, in which each row says what it is held against, and the verdict below it."""
    from waypost.cli import bench

    lane = Lane([[Turn([100.0, 200.0], [5.0], 2)]])
    row = measuring.Row("raw", "raw sync, blocks written before", lane, 1.0)
    found = measuring.Found("/x/y", NVME, 2, 1.0, 900, [row], evidence(raw_us=6.0))
    bench._show(found, judge(found.evidence))
    printed = capsys.readouterr().out
    assert "/x/y: ext4 on nvme0n1" in printed and "of the raw sync" in printed
    assert re.search(r"raw sync, blocks written before +5 +150 µs +200 µs +1\.00 x +1\.00", printed)
    assert "seems to say that bytes are kept" in printed and "needs 8 µs at the very least." in printed
