"""How costs grow is measured and said in words; what runs keep is replaced and compared. No test asks for speed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from benchmarks import chart, compare, kept, peer_sqlite3
from benchmarks.__main__ import main
from benchmarks.report import Sheet
from benchmarks.scaling import command, engine, growth, room
from benchmarks.scaling.dimensions import DIMENSIONS, Thing, measure_sizes
from benchmarks.scaling.site import Amount, Site

import waypost
from waypost import cli
from waypost.bench.turns import Lane, Turn

TINY = Amount(rounds=1, count=1, seconds=0.01, window=0.01)
ROOT = Path(__file__).parent.parent


def curve(figures: dict[int, float], most: float | None = 0, rounds: int = 3) -> growth.Curve:
    """A curve whose operations take so many µs at each size, in every round."""
    lanes = {size: Lane([[Turn([figure], [])] for _ in range(rounds)]) for size, figure in figures.items()}
    return growth.Curve("steps", "update", "time", lanes, most)


# --- slopes ---


@pytest.mark.parametrize(
    ("figures", "most", "words", "verdict"),
    [
        ({10: 5.0, 100: 5.5, 1000: 5.2}, 0, "does not grow", "as it should"),
        ({10: 5.0, 100: 50.0, 1000: 500.0}, 1, "grows as n^1.00", "as it should"),
        ({10: 5.0, 100: 50.0, 1000: 500.0}, 0, "grows as n^1.00", "grows more than it should"),
        ({10: 1.0, 100: 100.0, 1000: 10000.0}, 1, "grows as n^2.00", "grows more than it should"),
        ({10: 50.0, 100: 5.0}, 0, "falls as n^-1.00", "as it should"),
        ({10: 50.0, 100: 500.0}, None, "grows as n^1.00", ""),
        ({10: 50.0}, 0, "one size only", ""),
    ],
)
def test_a_slope_is_said_in_words(figures, most, words, verdict):
    """The exponent of a power is found, and held against the one that is expected."""
    found = curve(figures, most)
    assert (found.words, found.verdict) == (words, verdict)


def test_the_end_of_a_curve_is_told_where_its_beginning_is_flat():
    """A cost of a fixed part and one that grows as the square is found out by its last two sizes."""
    found = curve({size: 1000.0 + size**2 for size in (1, 10, 100, 1000)}, most=1)
    assert found.slope is not None and found.slope < 1.15
    assert found.end == pytest.approx(2, rel=0.05)
    assert found.verdict == "grows more than it should"


def test_one_quiet_round_is_enough_to_accuse_nobody():
    """What grew in some rounds only, as on a disk that others use, is not said to grow."""
    small, large = ([[Turn([figure], [])] for figure in figures] for figures in ((5, 5, 5), (50, 50, 5.5)))
    assert growth.Curve("steps", "update", "time", {10: Lane(small), 100: Lane(large)}, 0).verdict == "as it should"


# --- room ---


def test_sizes_that_do_not_fit_are_left_out_and_named():
    """All sizes that are taken fit together in what is free, and of each other one it is said what it lacks."""
    needs = [(size, room.Need(disk=size, memory=10, files=1)) for size in (100, 10, 1000)]
    sizes, left_out = room.fitting(needs, room.Need(disk=200, memory=1000, files=1000))
    assert sizes == [10, 100]
    assert len(left_out) == 1 and "1,000 was left out" in left_out[0] and "bytes on the disk" in left_out[0]
    sizes, left_out = room.fitting(needs, room.Need(disk=10**6, memory=1000, files=3))
    assert sizes == [10, 100] and "files" in left_out[0]


# --- a run ---


def scale(*words: str) -> Any:
    return command.main(list(words), full=TINY, quick=TINY)


def test_every_dimension_is_measured_and_nothing_is_left_behind(tmp_path, capsys):
    """A run gives each operation at each size, tables, slopes and a chart a dimension, and leaves no store."""
    place = tmp_path / "place"
    place.mkdir()
    wanted = ["steps:100", "workflows:10", "checkpoints:10", "processes:2", "values:10000"]
    words = ["--dir", str(place), "--json", str(tmp_path / "f.json"), "--markdown", str(tmp_path / "f.md")]
    assert scale(*wanted, *words, "--charts", str(tmp_path / "charts")) == 0
    found = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    for curve_ in found["curves"]:
        sizes = [point["size"] for point in curve_["points"]]
        assert sizes == list(DIMENSIONS[curve_["dimension"]].sizes[:2])
        assert all(point["operations"] >= 1 for point in curve_["points"])
        assert curve_["slope"] is not None
    assert {curve_["dimension"] for curve_ in found["curves"]} == set(DIMENSIONS)
    assert os.listdir(place) == []
    printed, table = capsys.readouterr().out, (tmp_path / "f.md").read_text(encoding="utf-8")
    for text in (printed, table):
        assert all(dimension.title in text for dimension in DIMENSIONS.values())
    charts = {name: (tmp_path / "charts" / name).read_text() for name in os.listdir(tmp_path / "charts")}
    assert set(charts) == {f"scale-{name}.svg" for name in DIMENSIONS}
    assert all(ElementTree.fromstring(drawing).tag.endswith("svg") for drawing in charts.values())


@pytest.mark.parametrize("words", [["stepps"], ["steps:5"], ["steps:x"], ["--rounds", "0"], ["steps", "--keep"]])
def test_what_cannot_be_scaled_is_refused(words, capsys):
    """An unknown dimension, a size below the smallest, no round, and keeping a part of a run are errors."""
    with pytest.raises(SystemExit):
        main(["scale", *words])
    assert "error" in capsys.readouterr().err


def test_a_size_that_cannot_be_made_is_named_and_the_others_are_measured(tmp_path):
    """What a store refuses costs its own line of the table, and not the run."""
    notes: list[str] = []
    site = Site(str(tmp_path), TINY, lambda text: None, notes)

    def make(worker: Any, size: int, path: str) -> None:
        worker.ask("make_steps", steps=10)
        worker.ask("use", workflow=engine.WORKFLOW, steps=10)
        if size == 100:
            worker.ask("no_such_thing")

    things = [Thing("update", "update", 0), Thing("nothing", "nothing", 0)]
    (found,) = measure_sizes("steps", things, make, True, site, [10, 100])
    assert found.sizes == [10]
    assert [note.split(":")[1].strip() for note in notes] == ["100 could not be made", "nothing"]


def test_what_is_made_without_syncs_is_all_there(tmp_path):
    """The stores of a run hold what they should, verified; and measuring syncs as always."""
    syncs = os.fsync, os.fdatasync
    made = engine.Engine()
    made.open(str(tmp_path / "s"))
    made.make_steps(20)
    made.use(engine.WORKFLOW, 20)
    made.make_workflows(1, 6)
    made.make_checkpoints(4)
    made.make_value(30_000)
    assert (os.fsync, os.fdatasync) == syncs
    assert len(made.measure("update", 2, 10)["latencies_ns"]) == 2
    made.close()
    with waypost.open(tmp_path / "s") as wp:
        assert wp.list_workflows().total == 6
        assert wp.list_checkpoints(engine.WORKFLOW).total >= 4
        assert len(wp.load_workflow_state(engine.WORKFLOW).unwrap().context.variables["large"]) == 30_000
    assert cli.call(["verify", "--state", str(tmp_path / "s")]) == 0


# --- charts ---


def test_names_in_charts_are_text():
    """What a line, a bar or a title is called is no markup."""
    hostile = "<script>&\"'"
    drawn = [
        chart.lines(hostile, hostile, hostile, [chart.Line(hostile, [(1, 1), (10, 5)], hostile)]),
        chart.bars(hostile, hostile, [chart.Bar(hostile, hostile, 0.5, hostile)]),
    ]
    for drawing in drawn:
        texts = [element.text for element in ElementTree.fromstring(drawing).iter() if element.tag.endswith("text")]
        assert texts.count(hostile) >= 4
        assert "<script>" not in drawing


def test_all_that_are_compared_stand_in_the_legend():
    """Five of them have room beside each other."""
    names = ["SqliteSaver", "Apache Burr", "sqlite3", "PostgresSaver", "DBOS"]
    drawing = chart.bars("t", "across", [chart.Bar("row", name, 2.0, "2 x") for name in names])
    placed = {each.text: float(each.get("x")) for each in ElementTree.fromstring(drawing).iter() if each.text in names}
    assert list(placed) == names
    ends = [placed[name] + 8 * len(name) for name in names]
    assert all(end < start for end, start in zip(ends, [placed[name] for name in names[1:]], strict=False))
    assert ends[-1] <= chart.WIDTH


# --- what is kept ---


def report(kind: kept.Kind, figure: str) -> kept.Report:
    sheet = Sheet("Times", ["row", "what", "took"], [["1", "update", figure]])
    return kept.Report(kind, "A run", {"machine": "here"}, [sheet], ["a note"], {"c.svg": "<svg/>"}, {"figure": figure})


def test_a_kept_run_replaces_the_one_before_it(tmp_path):
    """Figures are kept by version, and tables stand in the section of their kind, once, with all around as it was."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "benchmarks.md"
    begins, ends = "<!-- table begins -->", "<!-- table ends -->"
    page.write_text(f"# Top\n\n{begins}\nnothing yet\n{ends}\n\nbelow\n")
    for figure in ("5 µs", "7 µs"):
        kept.keep(report("table", figure), tmp_path)
    text = page.read_text()
    assert text.startswith(f"# Top\n\n{begins}\n") and text.endswith(f"{ends}\n\nbelow\n")
    assert "7 µs" in text and "5 µs" not in text and "nothing yet" not in text
    assert "(pictures/c.svg)" in text and "\n### A run\n" in text and "- a note\n" in text
    (file,) = (tmp_path / "benchmarks" / "results").iterdir()
    assert file.name == f"{waypost.__version__}.json" and json.loads(file.read_text()) == {"figure": "7 µs"}
    assert (tmp_path / "docs" / "pictures" / "c.svg").read_text() == "<svg/>"
    with pytest.raises(ValueError, match="scale begins"):
        kept.keep(report("scale", "1 µs"), tmp_path)


def test_the_page_has_a_section_for_each_kind():
    """What is kept has its place in the document."""
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for kind in ("table", "scale"):
        assert "9 µs" in kept.with_section(page, report(kind, "9 µs"))


# --- comparing ---


def run(us: float, name: str = "update", floor: float | None = None) -> dict[str, Any]:
    measure = {"row": 1, "name": name, "kind": "time", "waypost": {"median_us": us}, "to_floor": floor, "over_peer": 2}
    return {"measures": [measure]}


@pytest.mark.parametrize(
    ("second", "verdict"),
    [((20, 30, 40), "slower"), ((5, 6, 7), "faster"), ((10, 10, 10.5), "the same"), ((5, 20, 30), "cannot be told")],
)
def test_a_difference_is_told_where_every_run_shows_it(second, verdict):
    """Two commits differ where each pair of runs says so."""
    first = compare.Side("a", [run(10, floor=1.5)] * 3)
    (found,) = compare.compare(first, compare.Side("b", [run(us, floor=1.2) for us in second]))
    assert found.verdict == verdict
    assert (found.to_floor, found.over_peer) == ((1.5, 1.2), (2, 2))


def test_kept_runs_are_compared_and_what_only_one_has_is_named(tmp_path, capsys):
    """Two files of figures give each measure that both have with its ratio."""
    both = {name: tmp_path / name for name in ("a.json", "b.json")}
    both["a.json"].write_text(json.dumps({"measures": [*run(10)["measures"], *run(1, "gone")["measures"]]}))
    both["b.json"].write_text(json.dumps(run(5)))
    assert main(["compare", *map(str, both.values()), "--json", str(tmp_path / "c.json")]) == 0
    (measure,) = json.loads((tmp_path / "c.json").read_text())["measures"]
    assert (measure["name"], measure["ratios"], measure["verdict"]) == ("update", [0.5], "faster")
    printed = capsys.readouterr().out
    assert "0.50 x" in printed and "'gone'" in printed


@pytest.mark.parametrize("content", ["{}", "[]", "no JSON", '{"measures": [1]}'])
def test_a_file_that_is_no_run_is_refused(content, tmp_path, capsys):
    """Whatever else a file holds is told, and no traceback."""
    (tmp_path / "a.json").write_text(content)
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "a.json")]) == 2
    assert "is no run of the benchmarks" in " ".join(capsys.readouterr().err.split())


def test_two_commits_take_turns_in_worktrees_that_are_removed(tmp_path, monkeypatch, capsys):
    """Each commit is measured by its own `make bench`, in alternating order, and no worktree is left."""
    project = tmp_path / "project"
    project.mkdir()
    log = tmp_path / "log"
    body = """bench:\n\t@echo "$(NAME) $(ARGS)" >> LOG\n\t@cp measured.json build/compared.json 2>/dev/null || true\n"""
    git = ["git", "-C", str(project), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    for name, us in (("one", 10), ("two", 30)):
        (project / "Makefile").write_text(f"NAME := {name}\n" + body.replace("LOG", str(log)))
        (project / "measured.json").write_text(json.dumps(run(us)))
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-qm", name], check=True)
    monkeypatch.setattr(compare, "ROOT", project)
    assert main(["compare", "HEAD~1", "HEAD", "--rounds", "2", "--quick", "--rows", "1"]) == 0
    assert "slower" in capsys.readouterr().out
    calls = log.read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["one", "two", "one", "two", "two", "one"]
    assert all("--quick" in call and "--rows 1" in call for call in calls[2:])
    assert len(subprocess.run([*git, "worktree", "list"], capture_output=True, text=True).stdout.splitlines()) == 1
    assert main(["compare", "HEAD", "nobody"]) == 2


# --- peers ---


def test_plain_sqlite3_is_measured_with_full_syncs(tmp_path):
    """What one would write by hand is set to sync each commit, and keeps what it was told."""
    hand = peer_sqlite3.Engine()
    assert "journal_mode=wal, synchronous=FULL" in hand.open(str(tmp_path / "hand.sqlite"))
    hand.use(20)
    hand.create(20)
    assert len(hand.update(3)["latencies_ns"]) == 3
    for whole in (False, True):
        for cold in (False, True):
            assert len(hand.load(whole, cold, 2)["latencies_ns"]) == 2
    hand.close()
