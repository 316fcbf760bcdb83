"""Configuration: the presets, which source wins, what is refused, and where the state is."""

from __future__ import annotations

import json
import operator
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waypost.config import PRESETS, Config, Setting, describe, find_location, is_directory, load, load_with_sources
from waypost.errors import InvalidConfiguration

PRESET_TABLE: dict[str, tuple[Any, Any, Any]] = {
    # option: development, production, high_throughput
    "compression.enabled": (False, True, True),
    "compression.algorithm": ("zstd", "zstd", "zstd"),
    "compression.level": (1, 6, 1),
    "compression.threshold": (10240, 1024, 512),
    "compression.chunk_size": (32768, 65536, 131072),
    "performance.max_memory_usage": (128, 512, 1024),
    "performance.max_file_size": (50, 200, 500),
    "performance.batch_size": (25, 100, 200),
    "performance.parallel_operations": (2, 8, 16),
    "reliability.enable_wal": (False, True, True),
    "reliability.sync_frequency": (60000, 10000, 5000),
    "reliability.backup_retention": (3, 20, 10),
    "reliability.checksum_validation": (False, True, False),
    "monitoring.enable_metrics": (True, True, True),
    "monitoring.metrics_interval": (30_000, 15_000, 5_000),
    "monitoring.alert_thresholds.save_time": (2000, 500, 100),
    "monitoring.alert_thresholds.load_time": (1000, 200, 50),
    "monitoring.alert_thresholds.error_rate": (0.1, 0.02, 0.01),
    "monitoring.alert_thresholds.memory_usage": (100, 400, 800),
    "steps.enforce_dependencies": (True, True, True),
    "checkpoints.initial": (True, True, True),
    "checkpoints.pre_step": (False, False, False),
    "checkpoints.post_step": (True, True, True),
    "checkpoints.error": (True, True, True),
    "checkpoints.pause": (True, True, True),
    "hooks.enable_auto_checkpoints": (True, True, True),
    "hooks.checkpoint_frequency": (10, 5, 5),
    "hooks.enable_performance_tracking": (True, True, True),
    "hooks.enable_crash_recovery": (False, True, True),
    "retention.max_checkpoints": (50, 50, 50),
    "retention.min_checkpoints": (5, 5, 5),
    "retention.max_age_days": (30, 30, 30),
    "retention.max_workflow_size": (1024, 1024, 1024),
    "retention.max_store_size": (10_240, 10_240, 10_240),
    "history.max_age_days": (30, 30, 30),
    "security.key_file": ("", "", ""),
    "security.keyring": ("", "", ""),
    "security.redact": ((), (), ()),
    "postgres.pool_size": (4, 10, 20),
    "postgres.lock_timeout": (10_000, 10_000, 10_000),
    "postgres.statement_timeout": (60_000, 60_000, 60_000),
}
NAMES = ("development", "production", "high_throughput")


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with nothing in it, and no variables of ours."""
    for variable in [name for name in os.environ if name.startswith("WAYPOST_")]:
        monkeypatch.delenv(variable)
    here = tmp_path / "project" / "deep" / "er"
    here.mkdir(parents=True)
    # the search for a project ends here, whatever lies above the temporary directory
    (tmp_path / "project" / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    monkeypatch.chdir(here)
    return here


def value_of(loaded: Config, option: str) -> Any:
    return operator.attrgetter(option)(loaded)


def nested(option: str, value: Any) -> dict[str, Any]:
    section, _, name = option.partition(".")
    return {section: nested(name, value) if name else value}


def flat(tables: dict[str, Any], section: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tables.items():
        found.update(flat(value, f"{section}{name}.") if isinstance(value, dict) else {section + name: value})
    return found


def variable_of(option: str) -> str:
    return "WAYPOST_" + option.replace(".", "_").upper()


def refusal(call: Callable[[], Any]) -> InvalidConfiguration:
    with pytest.raises(InvalidConfiguration) as caught:
        call()
    return caught.value


# --- presets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(3), ids=NAMES)
def test_a_preset_has_the_documented_values(number: int) -> None:
    """Each preset gives each option its documented value, and has no option besides."""
    loaded = load(NAMES[number])
    assert loaded == PRESETS[NAMES[number]]
    assert flat(msgspec.to_builtins(loaded)) == {option: values[number] for option, values in PRESET_TABLE.items()}


def test_production_is_the_default() -> None:
    """Who says nothing gets the preset that is safe."""
    assert load() == load("production") == PRESETS["production"]


def test_the_promise_of_durability_follows_the_write_ahead_log() -> None:
    """With the log an acknowledged commit survives the loss of power, without it the end of the process."""
    assert [PRESETS[name].durability for name in NAMES] == ["process", "power", "power"]
    assert load(config={"reliability": {"enable_wal": False}}).durability == "process"


def test_a_configuration_cannot_be_changed() -> None:
    """What was loaded stays as it is, presets included."""
    loaded = load()
    for target in (loaded, *(getattr(loaded, section) for section in loaded.__struct_fields__)):
        for name in target.__struct_fields__:
            with pytest.raises(AttributeError):
                setattr(target, name, None)
    with pytest.raises(TypeError):
        PRESETS["production"] = loaded  # type: ignore[index]


# --- sources ----------------------------------------------------------------------------------------------------------


def write_everywhere(nowhere: Path, options: dict[str, list[int]]) -> dict[str, Any]:
    """Put option values into each source; `options` gives four values per option, for the sources in order."""
    lists = list(options.items())
    tables = [
        "\n".join(f"{name.replace('/', '.')} = {values[n]}" for name, values in lists if values[n]) for n in range(2)
    ]
    (nowhere.parent / "pyproject.toml").write_text(f"[tool.waypost]\n{tables[0]}\n")
    (nowhere / "waypost.toml").write_text(tables[1])
    environment = {variable_of(name): str(values[2]) for name, values in lists if values[2]}
    argument: dict[str, dict[str, Any]] = {}
    for name, values in lists:
        if values[3]:
            argument.setdefault(name.partition(".")[0], {})[name.partition(".")[2]] = values[3]
    return {"config": argument, "directory": nowhere, "environment": environment}


def test_b4_a_later_source_wins_option_by_option(nowhere: Path) -> None:
    """Project file, store file, variables and code override one another in that order, each option for itself."""
    given = write_everywhere(
        nowhere,
        {
            "performance.batch_size": [11, 12, 13, 14],
            "performance.max_file_size": [21, 22, 23, 0],
            "performance.max_memory_usage": [31, 32, 0, 0],
            "performance.parallel_operations": [41, 0, 0, 0],
            "compression.threshold": [51, 0, 0, 54],
            "reliability.sync_frequency": [0, 62, 63, 0],
        },
    )
    loaded, sources = load_with_sources("development", **given)
    found = {option: (value_of(loaded, option), sources[option]) for option in PRESET_TABLE}
    project, store = f"[tool.waypost] in {nowhere.parent / 'pyproject.toml'}", str(nowhere / "waypost.toml")
    assert found == {option: (values[0], "preset development") for option, values in PRESET_TABLE.items()} | {
        "performance.batch_size": (14, "argument"),
        "performance.max_file_size": (23, "WAYPOST_PERFORMANCE_MAX_FILE_SIZE"),
        "performance.max_memory_usage": (32, store),
        "performance.parallel_operations": (41, project),
        "compression.threshold": (54, "argument"),
        "reliability.sync_frequency": (63, "WAYPOST_RELIABILITY_SYNC_FREQUENCY"),
    }


def test_the_description_names_every_option_with_value_and_source() -> None:
    """What `waypost store config` shows is all options, in order, each with where its value came from."""
    loaded = load_with_sources(environment={"WAYPOST_COMPRESSION_LEVEL": "3"})
    rows = describe(loaded)
    assert [row.option for row in rows] == list(PRESET_TABLE)
    assert Setting("compression.level", 3, "WAYPOST_COMPRESSION_LEVEL") in rows
    assert Setting("reliability.enable_wal", True, "preset production") in rows


def test_the_preset_that_code_names_wins_over_the_variable() -> None:
    """WAYPOST_PRESET chooses for programs that leave it open, and for no others."""
    environment = {"WAYPOST_PRESET": "high_throughput"}
    assert load(environment=environment) == PRESETS["high_throughput"]
    assert load("development", environment=environment) == PRESETS["development"]


@pytest.mark.parametrize("source", [{"preset": "prodction"}, {"environment": {"WAYPOST_PRESET": "prodction"}}])
def test_an_unknown_preset_is_refused(source: dict[str, Any]) -> None:
    """A preset that is not there is an error that names those that are."""
    message = str(refusal(lambda: load(**source)))
    assert all(word in message for word in ("prodction", *NAMES, "did you mean production?"))


def test_variables_are_read_from_the_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument the variables are those that the process has when it loads."""
    monkeypatch.setenv("WAYPOST_COMPRESSION_LEVEL", "9")
    assert load().compression.level == 9


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("FALSE", False),
        ("1", True),
        ("0", False),
        ("yes", True),
        ("no", False),
        (" on ", True),
        ("Off", False),
    ],
)
def test_a_variable_can_say_yes_and_no_in_several_ways(text: str, value: bool) -> None:
    """The usual words of shells and containers are understood."""
    assert load(environment={"WAYPOST_RELIABILITY_ENABLE_WAL": text}).reliability.enable_wal is value


@pytest.mark.parametrize("text", ["maybe", "2", "truee", "x", "1.0"])
@pytest.mark.parametrize("option", ["reliability.enable_wal", "compression.algorithm"])
def test_a_variable_that_says_nothing_known_is_refused(option: str, text: str) -> None:
    """What is no value of the option is an error that names the variable."""
    error = refusal(lambda: load(environment={variable_of(option): text}))
    assert error.details["source"] == variable_of(option)
    assert text in str(error)


@pytest.mark.parametrize("text", ["", "-", "3.0", "0x3", "1_0", "३", "3" * 30, "three", "true"])
def test_numbers_in_variables_are_plain_digits(text: str) -> None:
    """A number is digits and perhaps a sign; set to nothing means not set."""
    environment = {"WAYPOST_PERFORMANCE_BATCH_SIZE": text}
    if text:
        refusal(lambda: load(environment=environment))
    else:
        assert load(environment=environment) == PRESETS["production"]
    assert load(environment={"WAYPOST_COMPRESSION_LEVEL": " -3 "}).compression.level == -3


def test_x06_an_unknown_variable_is_refused_and_others_are_left_alone() -> None:
    """A misspelt variable is an error with the nearest name; place, key, and names that are not ours are no options."""
    message = str(refusal(lambda: load(environment={"WAYPOST_COMPRESION_LEVEL": "3"})))
    assert "WAYPOST_COMPRESION_LEVEL" in message
    assert "did you mean WAYPOST_COMPRESSION_LEVEL?" in message
    for name in ("WAYPOST_QQQQQQQQQQQQ", "WAYPOST_BOGUS"):  # the beginning that all share makes none near
        assert "did you mean" not in str(refusal(lambda name=name: load(environment={name: "3"})))
    refusal(lambda: load(environment={"WAYPOST_LEVEL": ""}))
    others = {
        "WAYPOST_STATE": "x",
        "WAYPOST_KEY": "y",
        "WAYPOST_SPOOL": "/s",
        "WAYPOSTAL": "z",
        "PATH": "/bin",
        "waypost_x": "1",
    }
    assert load(environment=others) == PRESETS["production"]


@pytest.mark.parametrize(
    ("unknown", "nearest"),
    [
        ({"compression": {"levl": 3}}, "compression.level"),
        ({"compresion": {"level": 3}}, "compression"),
        ({"level": 3}, "compression.level"),
        ({"compression": {"chunkSize": 65536}}, "compression.chunk_size"),
        ({"compression": {"": 3}}, ""),
        ({"monitoring": {"metrics": True}}, ""),
        ({"monitoring": {"save_time": 3}}, "monitoring.alert_thresholds.save_time"),
        ({"monitoring": {"alert_thresholds": {"savetime": 3}}}, "monitoring.alert_thresholds.save_time"),
        ({"hooks": {"frequency": 3}}, ""),
        ({"retention": {"count": 3}}, ""),
        ({3: {}}, ""),
    ],
)
def test_x06_an_unknown_option_is_refused(unknown: Any, nearest: str) -> None:
    """An option that is not known is an error with the nearest name, never passed over."""
    message = str(refusal(lambda: load(config=unknown)))
    assert message.startswith("unknown option")
    assert "(argument)" in message
    assert (f"did you mean {nearest}?" in message) if nearest else True


def test_where_no_option_of_a_section_is_near_all_are_named() -> None:
    """The section is known, so it is no advice to write it."""
    message = str(refusal(lambda: load(config={"reliability": {"bogus": 1}})))
    assert "did you mean" not in message and ": reliability has enable_wal, " in message


def test_an_option_with_a_dot_in_its_name_is_told_where_to_stand() -> None:
    """A flat name is no option, and the error says what to write."""
    for tables in ({"compression.level": 3}, {"monitoring": {"alert_thresholds.save_time": 3}}):
        message = str(refusal(lambda tables=tables: load(config=tables)))
        assert message.startswith("unknown option")
        assert "table of their section" in message
    refusal(lambda: load(config={"monitoring.alert_thresholds": {"save_time": 3}}))


@pytest.mark.parametrize("file", ["pyproject.toml", "waypost.toml"])
def test_x06_an_unknown_option_in_a_file_names_the_file(file: str, nowhere: Path) -> None:
    """An error about what a file says gives the path of the file."""
    head = "[tool.waypost.compression]" if file == "pyproject.toml" else "[compression]"
    (nowhere / file).write_text(f"{head}\nlevl = 3\n")
    message = str(refusal(lambda: load(directory=nowhere)))
    assert "compression.levl" in message
    assert str(nowhere / file) in message
    assert "did you mean compression.level?" in message


def test_a_whole_configuration_from_code_is_taken_as_it_is(nowhere: Path) -> None:
    """Nothing else is read then, not even what would be an error."""
    (nowhere / "waypost.toml").write_text("not toml")
    (nowhere / "pyproject.toml").write_text("[tool.waypost]\nx = 1")
    given = msgspec.structs.replace(
        PRESETS["development"], steps=msgspec.structs.replace(PRESETS["development"].steps, enforce_dependencies=False)
    )
    loaded, sources = load_with_sources("production", given, nowhere, {"WAYPOST_NO": "1"})
    assert loaded == given
    assert set(sources.values()) == {"argument"}


def test_a_whole_configuration_from_code_is_checked() -> None:
    """A Config is built unchecked, so what it holds is checked when it is given."""
    preset = PRESETS["production"]
    for bad in (
        msgspec.structs.replace(preset, compression=msgspec.structs.replace(preset.compression, level="6")),
        msgspec.structs.replace(preset, compression=None),
        msgspec.structs.replace(preset, steps=preset.compression),
    ):
        refusal(lambda bad=bad: load(config=bad))


# --- what options take ------------------------------------------------------------------------------------------------

BOUNDS: dict[str, tuple[int, int]] = {
    "compression.threshold": (0, 10**12),
    "compression.chunk_size": (4096, 16 * 2**20),
    "performance.max_memory_usage": (1, 10**12),
    "performance.max_file_size": (1, 4095),
    "performance.batch_size": (1, 10_000),
    "performance.parallel_operations": (1, 256),
    "reliability.sync_frequency": (1, 10**12),
    "reliability.backup_retention": (0, 10**12),
    "monitoring.metrics_interval": (10, 3_600_000),
    "monitoring.alert_thresholds.save_time": (1, 10**12),
    "monitoring.alert_thresholds.load_time": (1, 10**12),
    "monitoring.alert_thresholds.memory_usage": (1, 10**12),
    "hooks.checkpoint_frequency": (1, 100_000),
    "retention.max_checkpoints": (1, 100_000),
    "retention.min_checkpoints": (0, 100_000),
    "retention.max_age_days": (1, 36_500),
    "retention.max_workflow_size": (1, 10**12),
    "retention.max_store_size": (1, 10**12),
    "history.max_age_days": (1, 36_500),
    "postgres.pool_size": (1, 1000),
    "postgres.lock_timeout": (1, 3_600_000),
    "postgres.statement_timeout": (1, 3_600_000),
}
LEVELS = {"zstd": (-7, 22), "gzip": (0, 9), "lz4": (0, 16), "brotli": (0, 11), "none": (-7, 22)}


@pytest.mark.parametrize("option", BOUNDS)
def test_x27_numbers_have_bounds(option: str) -> None:
    """The least and the greatest number are taken, one beyond is refused with what is allowed."""
    low, high = BOUNDS[option]
    for value in (low, high):
        assert value_of(load(config=nested(option, value)), option) == value
        assert value_of(load(environment={variable_of(option): str(value)}), option) == value
    for value in (low - 1, high + 1, 10**5000):
        error = refusal(lambda value=value: load(config=nested(option, value)))
        assert option in str(error)
        assert ("<int>" if value == 10**5000 else str(value)) in str(error)
        assert f"from {low} to {high}" in str(error)
        assert error.details["option"] == option


@pytest.mark.parametrize("algorithm", LEVELS)
def test_a_level_is_one_that_the_algorithm_has(algorithm: str) -> None:
    """The range of the level is that of the algorithm, whichever sources the two come from."""
    low, high = LEVELS[algorithm]
    environment = {"WAYPOST_COMPRESSION_ALGORITHM": algorithm}
    for level in (low, high):
        assert load(config=nested("compression.level", level), environment=environment).compression.level == level
    for level in (low - 1, high + 1):
        message = str(
            refusal(lambda level=level: load(config=nested("compression.level", level), environment=environment))
        )
        assert f"compression.level is {level} (argument)" in message
        if -7 <= level <= 22:
            assert f"from {low} to {high} with {algorithm} (set by WAYPOST_COMPRESSION_ALGORITHM)" in message


@pytest.mark.parametrize("algorithm", ["zstd", "gzip", "lz4", "brotli", "none"])
@pytest.mark.parametrize("preset", NAMES)
def test_every_algorithm_takes_the_levels_of_the_presets(algorithm: Any, preset: str) -> None:
    """Changing only the algorithm of a preset is enough."""
    assert load(preset, nested("compression.algorithm", algorithm)).compression.algorithm == algorithm


@pytest.mark.parametrize("option", PRESET_TABLE)
def test_a_value_of_another_kind_is_refused(option: str) -> None:
    """No value is converted: text is no number, a number no boolean, a boolean no number."""
    usual = PRESET_TABLE[option][0]
    for value in (None, [usual], {"a": 1}, 1.0, b"zstd", "6", "true", True, 1, "lzma", float("nan"), object()):
        if isinstance(usual, float) and type(value) is int:
            continue  # 1 is a share as well
        if type(value) is not type(usual) or (value == "lzma" and option == "compression.algorithm"):
            error = refusal(lambda value=value: load(config=nested(option, value)))
            assert option in str(error)
            assert "(argument)" in str(error)
            assert "takes" in str(error)


@pytest.mark.parametrize("path", ["", "/etc/waypost.key", "~/waypost.key"])
def test_a_key_file_is_named_by_a_path_that_leads_to_the_same_for_all(path: str) -> None:
    """An absolute path, or one from the home directory on; one from the working directory is refused."""
    assert load(config=nested("security.key_file", path)).security.key_file == path
    for bad in ("waypost.key", "./waypost.key", "~other/waypost.key", "/a\0b"):
        assert "absolute" in str(refusal(lambda bad=bad: load(config=nested("security.key_file", bad))))


PATTERNS = ("outputs.*.password", 'context.variables["a,b"]')


@pytest.mark.parametrize("given", [list(PATTERNS), PATTERNS])
def test_patterns_are_a_list_and_one_source_gives_all_of_them(given: Any, nowhere: Path) -> None:
    """From code, from a file and, as JSON or parted by commas, from a variable; a later source gives all anew."""
    assert load(config=nested("security.redact", given)).security.redact == PATTERNS
    text = json.dumps(given)
    assert load(environment={"WAYPOST_SECURITY_REDACT": text}).security.redact == PATTERNS
    few = load(environment={"WAYPOST_SECURITY_REDACT": "outputs.*.a, result.*"})
    assert few.security.redact == ("outputs.*.a", "result.*")
    (nowhere / "waypost.toml").write_text(f"security.redact = {text}\n")
    assert load(directory=nowhere, environment={}).security.redact == PATTERNS
    assert load(directory=nowhere, environment={}, config=nested("security.redact", [])).security.redact == ()


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "*",
        "*.password",
        "outputs",
        "output.a",
        "context.user_id",
        "context.*.x",
        "outputs..a",
        "outputs.a[",
        "[0].a",
        'outputs["a',
        'outputs["\\q"]',
        "agents.a",
        "sessions.a.b",
        'outputs.a"b',
        "secrets.a",
        "context.secrets.a",
    ],
)
def test_x06_a_pattern_that_could_never_match_is_refused(pattern: str) -> None:
    """What somebody believes to be redacted is, or the store does not open."""
    error = refusal(lambda: load(config=nested("security.redact", ["outputs.a", pattern])))
    assert error.details["option"] == "security.redact"
    refusal(lambda: load(environment={"WAYPOST_SECURITY_REDACT": json.dumps([pattern])}))


def test_x06_patterns_in_a_variable_that_are_nested_without_end_are_refused(nowhere: Path) -> None:
    """As anything else that is no list of patterns; no JSON is so deep that another error comes of it."""
    error = refusal(lambda: load(environment={"WAYPOST_SECURITY_REDACT": "[" * 100_000}))
    assert error.details["option"] == "security.redact"


@pytest.mark.parametrize(
    "given",
    [
        [],
        "x",
        3,
        {"compression": 3},
        {"compression": None},
        {"compression": [1]},
        {"monitoring": {"alert_thresholds": 3}},
    ],
)
def test_sections_are_tables(given: Any) -> None:
    """What stands where a table of options should be is refused."""
    assert "a table of options" in str(refusal(lambda: load(config=given)))


def test_an_error_does_not_repeat_a_long_value() -> None:
    """However long a wrong value is, the sentence stays readable."""
    assert len(str(refusal(lambda: load(config=nested("compression.algorithm", "x" * 9999))))) < 300
    assert len(str(refusal(lambda: load(config={"x" * 9999: {}})))) < 300


plain_values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.floats(), st.sampled_from(["gzip", "lz4"])
)
nearly = st.dictionaries(
    st.sampled_from(["compression", "performance", "reliability", "steps", "monitoring"]),
    st.one_of(
        plain_values,
        st.dictionaries(st.sampled_from([name.partition(".")[2] for name in PRESET_TABLE] + ["other"]), plain_values),
    ),
)


@given(nearly)
@settings(deadline=None, print_blob=True)
def test_t09_any_configuration_is_taken_whole_or_refused(given: Any) -> None:
    """Either every option that was given has the value that was given, or the error is a documented one."""
    try:
        loaded = load(config=given, environment={})
    except InvalidConfiguration:
        return
    for option, value in flat(given).items():
        assert value_of(loaded, option) == value


# --- files ------------------------------------------------------------------------------------------------------------


def test_only_the_nearest_project_file_counts(nowhere: Path) -> None:
    """The first pyproject.toml upwards is the project; what lies above it is another one's."""
    (nowhere.parent.parent / "pyproject.toml").write_text("[tool.waypost.performance]\nbatch_size = 7\n")
    assert load().performance.batch_size == 7
    (nowhere.parent / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert load().performance.batch_size == 100


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[tool]",
        "[tool.other]\nx = 1",
        "[tool.waypost]",
        "[tool.waypost.compression]",
        "this is not TOML, and not for us",
        "[project]\nname = 'waypost-like'",
    ],
)
def test_a_project_file_without_options_changes_nothing(text: str, nowhere: Path) -> None:
    """A project that says nothing of us is left alone, whatever is wrong with it."""
    (nowhere / "pyproject.toml").write_text(text)
    assert load() == PRESETS["production"]


@pytest.mark.parametrize(
    "data",
    [
        b"[tool.waypost\n",
        b"[tool.waypost]\nx = \xff",
        b"[tool]\nwaypost = 3",
        b"tool = 'waypost'",
        b"[tool.waypost]\ncompression = 3",
        b"[tool.waypost]\ncompression.level = 2024-01-01",
        b"[tool.waypost]\nx = " + b"[" * 10_000,
        b"[tool.waypost]\ncompression.level = " + b"9" * 10_000,
    ],
    ids=lambda data: repr(data[:40]),
)
def test_a_file_that_cannot_be_understood_is_refused_by_name(data: bytes, nowhere: Path) -> None:
    """Whatever is wrong with what a file says to us, the error names the file."""
    (nowhere / "pyproject.toml").write_bytes(data)
    assert str(nowhere / "pyproject.toml") in str(refusal(load))


def test_a_file_that_changed_counts_as_it_is_now(nowhere: Path) -> None:
    """Each load reads the files again, and what one was told is not what the next finds."""
    for size in (7, 9, 7):
        (nowhere / "pyproject.toml").write_text(f"[tool.waypost.performance]\nbatch_size = {size}\n")
        assert load().performance.batch_size == size


def test_a_store_file_is_read_from_the_state_directory_only(nowhere: Path) -> None:
    """`waypost.toml` counts in the directory of the store, which need not be there."""
    (nowhere / "waypost.toml").write_text("compression.level = 9\n")
    assert load().compression.level == 6
    assert load(directory=nowhere).compression.level == 9
    assert load(directory=str(nowhere)).compression.level == 9
    assert load(directory=nowhere / "missing").compression.level == 6
    assert load(directory="memory:").compression.level == 6


def test_a_file_that_cannot_be_read_is_refused(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose options cannot be known is an error and not an empty file."""

    def refuse(*_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    (nowhere / "waypost.toml").write_text("")
    monkeypatch.setattr("builtins.open", refuse)
    message = str(refusal(lambda: load("production", directory=nowhere)))
    assert "cannot be read: Permission denied" in message


def test_a_working_directory_that_is_gone_is_no_project(nowhere: Path) -> None:
    """Who stands in a deleted directory can still open a store by its path."""
    gone = nowhere / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    assert load() == PRESETS["production"]
    assert find_location("/srv/state", {}) == "/srv/state"
    assert "working directory is gone" in str(refusal(lambda: find_location(None, {})))


def test_importing_reads_nothing_and_brings_no_parser(nowhere: Path) -> None:
    """Import has no effect, and the parser for TOML is only loaded for a file that holds something for us."""
    (nowhere / "pyproject.toml").write_text("not toml")
    program = """if True:
        import os, sys, waypost.config as config
        before = sorted(os.listdir())
        config.load(environment={})
        config.find_location(None, {})
        assert "tomllib" not in sys.modules
        assert sorted(os.listdir()) == before
    """
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "WAYPOST_NONSENSE": "1",
    }
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, cwd=nowhere)


# --- the location -----------------------------------------------------------------------------------------------------


def test_the_location_is_the_argument_then_the_variable_then_the_nearest_then_here(nowhere: Path) -> None:
    """The four ways to say where the state is, in their order."""
    environment = {"WAYPOST_STATE": "/srv/of-variable"}
    here = nowhere / ".claude" / "state"
    above = nowhere.parent.parent / ".claude" / "state"
    assert find_location("some/dir", environment) == "some/dir"
    assert find_location(Path("/some/dir"), environment) == "/some/dir"
    assert find_location(None, environment) == "/srv/of-variable"
    assert find_location(None, {"WAYPOST_STATE": ""}) == find_location(None, {}) == str(here)
    assert find_location(None, {}, nowhere.parent) == str(nowhere.parent / ".claude" / "state")
    above.mkdir(parents=True)
    assert find_location(None, {}) == find_location(None, {}, nowhere.parent) == str(above)
    (nowhere / ".claude").mkdir()
    here.write_text("a file is no state directory")
    assert find_location(None, {}) == str(above)
    here.unlink()
    here.mkdir()
    assert find_location(None, {}) == str(here)
    assert find_location(None, {}, nowhere.parent) == str(above)


def test_finding_a_location_makes_nothing(nowhere: Path) -> None:
    """Looking where the state would be leaves the disk as it was."""
    find_location(None, {})
    assert list(nowhere.iterdir()) == []


def test_the_memory_store_has_a_name_of_its_own() -> None:
    """`memory:` passes through, from the argument and from the variable."""
    assert find_location("memory:", {}) == find_location(None, {"WAYPOST_STATE": "memory:"}) == "memory:"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "PostgreSQL"])
def test_a_server_is_a_location_and_no_directory(scheme: str) -> None:
    """A connection string is taken as it is, and no file is looked for there."""
    location = f"{scheme}://me@db/state"
    assert find_location(location, {}) == find_location(None, {"WAYPOST_STATE": location}) == location
    assert not is_directory(location)


@pytest.mark.parametrize("location", ["", "a\0b", "redis://me:canary@x", "file:///srv/state", "s3://bucket"])
def test_what_is_no_location_is_refused(location: str) -> None:
    """Nothing, what no path can hold, and other kinds of store are errors."""
    error = refusal(lambda: find_location(location, {}))
    assert "memory:" in str(error)
    assert "canary" not in str(error) + repr(error.details)


def test_a_directory_may_have_any_other_name() -> None:
    """A name that only looks like an address is a path like any other."""
    for location in ("./postgresql:", "/x/://y", "C:state", "memory", "memory:x", "x y"):
        assert find_location(location, {}) == location


def test_the_options_are_those_of_the_documented_table() -> None:
    """The table that this file checks names every option that there is."""
    assert set(PRESET_TABLE) == set(BOUNDS) | {
        "compression.level",
        *(
            option
            for option, values in PRESET_TABLE.items()
            if not isinstance(values[0], int) or isinstance(values[0], bool)
        ),
    }

    def fields(kind: Any, within: str) -> list[str]:
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            return [within]
        return [name for each in msgspec.structs.fields(kind) for name in fields(each.type, f"{within}.{each.name}")]

    assert [name.removeprefix(".") for name in fields(Config, "")] == list(PRESET_TABLE)
