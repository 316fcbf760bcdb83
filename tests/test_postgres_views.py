"""State in SQL: what the views of a server show is what the API gives, and what must not be shown is not there."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from psycopg.sql import SQL, Identifier

from tests import servers
from tests.conftest import ON_REQUEST, make_config
from tests.seeds import SEED
from tests.test_history_model import ACTION, act
from tests.test_values import PROPERTY, TYPES, nested, stored
from waypost.blocking import Waypost
from waypost.cli import describe
from waypost.codec import values
from waypost.definitions import Definitions
from waypost.errors import WaypostError
from waypost.folding import fold
from waypost.models import StepOwner, Tombstone, WorkflowStep
from waypost.records import ContextRecord, OutputRecord, WorkflowRecord, encode
from waypost.session_records import RecoveryRecord, SessionRecord
from waypost.store import open_store

CONFIG = make_config({"checkpoints": ON_REQUEST, "compression": {"chunk_size": 4096}})
RECORDS: Mapping[str, Any] = {
    "workflow": WorkflowRecord,
    "context": ContextRecord,
    "step": WorkflowStep,
    "owner": StepOwner,
    "output": OutputRecord,
    "tombstone": Tombstone,
    "session": SessionRecord,
    "recovery": RecoveryRecord,
}
NOT_SHOWN = {"session": ["unseen_left"]}
"""What stands behind the fields that views show, and is between Waypost and itself."""
VIEWS = ["named_parts", "newest_outputs", "output_parts", "sessions", "step_parts", "steps", "workflows"]
NOT_THERE = "\N{REPLACEMENT CHARACTER}"


@cache
def known() -> list[servers.Server]:
    """The servers that the views are looked at on: the one of the tests, and this machine's own where there is one."""
    own = servers.installed()
    return [servers.postgres()] + ([] if own is None else [own])


class Seen:
    """A store on a server, and what an SQL user sees of it."""

    def __init__(self, server: servers.Server, url: str) -> None:
        self.server = server
        self.url = url
        self.schema = url.rpartition("schema=")[2]
        self.wp = Waypost(Definitions(open_store(url, CONFIG), CONFIG, verbose=False))
        self.connection = server.connect()

    def ask(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        query = SQL(statement).format(s=Identifier(self.schema))  # pyright: ignore[reportArgumentType]
        return self.connection.execute(query, parameters).fetchall()

    def state(self, workflow_id: str = "w") -> dict[str, Any]:
        ((found,),) = self.ask("SELECT state FROM {s}.workflows WHERE id = %s", workflow_id)
        return found

    def unpack(self, data: bytes) -> list[tuple[Any, ...]]:
        """The value and whether it is null, which JSON's null is not."""
        return self.ask("SELECT v, v IS NULL FROM (SELECT {s}.unpack(%s)) AS f(v)", data)

    def close(self) -> None:
        self.connection.close()
        self.wp.close()


@pytest.fixture(params=[0, 1], ids=["carried", "installed"])
def seen(request: pytest.FixtureRequest) -> Iterator[Seen]:
    if request.param >= len(known()):
        pytest.skip("this machine has no server of its own")
    server = known()[request.param]
    with server.lent() as url:
        made = Seen(server, url)
        yield made
        made.close()


@pytest.fixture(scope="module")
def reader() -> Iterator[Seen]:
    """One for tests that keep nothing."""
    server = servers.postgres()
    with server.lent() as url:
        made = Seen(server, url)
        yield made
        made.close()


# --- values ---


def moment(value: datetime) -> str:
    """As the server shows it: in a named zone with the zone's name, whose rules it may not have."""
    if not isinstance(value.tzinfo, ZoneInfo):
        return value.isoformat()
    bare = value.replace(tzinfo=None, fold=0).isoformat()
    return f"{bare}[{value.tzinfo.key}{', fold 1' if value.fold else ''}]"


def expected(value: Any) -> Any:
    """What `--json` shows, but for what JSON on a server cannot hold or does not know."""
    shown = values._SHOW
    kept = shown[datetime]
    shown[datetime] = moment
    try:
        return without_nul(values.plain(value))
    finally:
        shown[datetime] = kept


def without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", NOT_THERE)
    if isinstance(value, list):
        return [without_nul(each) for each in value]
    if isinstance(value, dict):
        return {without_nul(key).replace("\\u0000", NOT_THERE): without_nul(each) for key, each in value.items()}
    return value


def alike(found: Any, wanted: Any) -> bool:
    """Equal, where a number is a number: JSON on a server knows no floats."""
    if isinstance(wanted, bool) or isinstance(found, bool) or wanted is None:
        return found is wanted
    if isinstance(wanted, float):
        return isinstance(found, int | float) and float(found) == wanted
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(alike, found, wanted))
    if isinstance(wanted, dict):
        return (
            isinstance(found, dict)
            and found.keys() == wanted.keys()
            and all(alike(found[k], wanted[k]) for k in wanted)
        )
    return bool(found == wanted)


def is_ordered(value: Any) -> bool:
    """Whether all sets in it have one order: not those of decimals of which several are no numbers."""
    if isinstance(value, dict):
        return all(is_ordered(each) for pair in value.items() for each in pair)
    if isinstance(value, set):
        return sum(isinstance(each, Decimal) and each.is_nan() for each in value) < 2 and all(map(is_ordered, value))
    return all(map(is_ordered, value)) if isinstance(value, list | tuple) else True


@pytest.mark.parametrize("value", TYPES.values(), ids=TYPES)
def test_each_type_is_shown_as_by_the_command_line(reader: Seen, value: Any) -> None:
    """Every type of the closed set, with its odd members, on its own and in containers."""
    for each in (value, [value], {"a": value}, (1, value), {7: value}):
        assert alike(reader.unpack(values.encode(each))[0][0], expected(each))


@given(value=stored)
@settings(PROPERTY, max_examples=300, suppress_health_check=list(HealthCheck))
def test_any_value_is_shown_as_by_the_command_line(reader: Seen, value: Any) -> None:
    """What `unpack` makes of the bytes of a value is what `--json` prints of it."""
    assume(is_ordered(value))
    wanted = expected(value)
    ((found, is_null),) = reader.unpack(values.encode(value))
    assert not is_null and alike(found, wanted), (found, wanted)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({3, -1, 2**70, 300, -(2**70)}, [-(2**70), -1, 3, 300, 2**70]),
        ({1.5, -2.5, math.inf, 1e16}, [-2.5, 1.5, 1e16, "inf"]),
        ({Decimal("10"), Decimal("9.5"), Decimal("-1E+3")}, ["-1E+3", "9.5", "10"]),
        ({"aa", "b", "é"}, ["aa", "b", "é"]),
        ({b"aa", b"b"}, ["YWE=", "Yg=="]),
    ],
)
def test_sets_of_one_type_are_sorted_by_value(reader: Seen, value: Any, shown: list[Any]) -> None:
    """As on the command line, and not as they are stored, which is by their bytes."""
    assert alike(reader.unpack(values.encode(value))[0][0], shown) and alike(values.plain(value), shown)


def test_floats_are_exact_at_every_exponent(reader: Seen) -> None:
    """The nearest decimals of a float lead back to it, from the smallest to the largest."""
    made = [math.ldexp(fraction, exponent) for exponent in range(-1074, 1024) for fraction in (1.0, 1.7320508075688772)]
    wanted = [each for each in made if math.isfinite(each)] + [5e-324, 2.2250738585072014e-308, 1.7976931348623157e308]
    reader.connection.execute("SET extra_float_digits = 0")  # whatever a user has set
    found = reader.unpack(values.encode(wanted))[0][0]
    assert [float(each) for each in found] == wanted


def test_a_nul_is_shown_as_a_replacement_character(reader: Seen) -> None:
    """Neither text nor jsonb of the server holds one; all around it stays."""
    found = reader.unpack(values.encode({"a\0b": ["\0", "é\0\0ü", {1: "\0"}]}))
    assert found[0][0] == {f"a{NOT_THERE}b": [NOT_THERE, f"é{NOT_THERE * 2}ü", {"1": NOT_THERE}]}


def test_a_decimal_that_is_no_number_is_no_error(reader: Seen) -> None:
    """Whatever text damage has made of it is shown, or null."""
    for text in (b"-.", b".."):
        reader.unpack(values.encode(Decimal("-1")).replace(b"-1", text))


def test_depth_has_a_bound(reader: Seen) -> None:
    """As deep as a value may be it is shown, one level deeper it is null; no nesting of any bytes takes the stack."""
    deepest = values.encode(nested(lambda inner: [inner], values.MAX_DEPTH - 1, []))
    assert reader.unpack(deepest)[0][1] is False
    assert reader.unpack(b"\x91" + deepest) == [(None, True)]
    for hostile in (
        b"\x91" * 200_000,
        b"\x81\xa1a" * 50_000,
        b"\xc7\x03\x05\x93" * 50_000,
        b"\xc9\xff\xff\xff\xff\x03" * 50,
    ):
        assert reader.unpack(hostile) == [(None, True)]


def is_value(data: bytes) -> bool:
    """Whether these bytes are what encoding gives of something."""
    try:
        return values.encode(values.decode(data, inert=True)) == data
    except WaypostError:
        return False


def test_bytes_that_are_no_value_give_null_and_no_error(reader: Seen) -> None:
    """Cut, changed or drawn at random: each is a value to Waypost as well, or null; never an error."""
    print(f"WAYPOST_TEST_SEED={SEED}")
    drawn = random.Random(SEED)
    whole = [values.encode(value) for value in TYPES.values()] + [values.encode([*TYPES.values()][::7])]
    for _ in range(3000):
        data = bytearray(drawn.choice(whole)[:3000])
        for _ in range(drawn.randrange(3)):
            data.insert(drawn.randrange(len(data) + 1), drawn.randrange(256))
        if data and drawn.random() < 0.7:
            data[drawn.randrange(len(data))] = drawn.randrange(256)
        bad = bytes(data[: drawn.randrange(len(data) + 1)]) if drawn.random() < 0.3 else bytes(data)
        ((_, is_null),) = reader.unpack(bad)
        assert not is_null or not is_value(bad), bad
    assert reader.unpack(b"") == [(None, True)]
    assert reader.unpack(values.encode(None)) == [(None, False)]
    for bad in (b"\xa1\xff", b"\xa3\xed\xa0\x80", b"\xa2\xc0\x80", b"\xa4\xf4\x90\x80\x80"):  # no UTF-8
        assert reader.unpack(bad) == [(None, True)]


# --- views ---


def test_fields_have_the_names_of_the_models(reader: Seen) -> None:
    """The names by which SQL knows the fields of records are those of the structs, in their order."""
    for record, kind in RECORDS.items():
        known = reader.ask("SELECT {s}.fields(%s)", record)[0][0]
        assert [*known, *NOT_SHOWN.get(record, [])] == [*kind.__struct_fields__]


def check_against_the_api(seen: Seen) -> None:
    """The rows of workflow w are what the API gives of it."""
    loaded = seen.wp.load_workflow_state("w").unwrap()
    wanted = describe.state(loaded)
    ((version, size, updated, name, status, progress, current, error, start, end, deleted, created),) = seen.ask(
        "SELECT version, size_bytes, updated_at, name, status, progress, current_step, error, start_time, end_time, "
        "deleted_at, created_at FROM {s}.workflows WHERE id = 'w'"
    )
    told = loaded.metadata
    assert (version, size, updated, created) == (told.version, told.size_bytes, told.updated_at, told.created_at)
    folded = loaded.workflow.fold()
    assert (name, status, progress) == (wanted["name"], folded.status, folded.progress)
    assert (current, error, start, end) == (folded.current_step, folded.error, folded.start_time, folded.end_time)
    assert deleted is None
    rows = seen.ask(
        "SELECT id, name, agent_id, status, start_time, end_time, dependencies, parallel, retry_count, max_retries, "
        "error, interruptions, output_version, owner ->> 'pid', output "
        "FROM {s}.steps WHERE workflow_id = 'w' ORDER BY position"
    )
    steps = loaded.workflow.steps
    assert [row[:13] for row in rows] == [
        tuple(getattr(step, field) for field in WorkflowStep.__struct_fields__ if field != "owner") for step in steps
    ]
    assert [row[13] for row in rows] == [None if step.owner is None else str(step.owner.pid) for step in steps]
    assert all(alike(row[14], expected(step.output)) for row, step in zip(rows, steps, strict=True))
    state = seen.state()
    assert [step["id"] for step in state["steps"]] == [step.id for step in steps]
    assert all(step.keys() == {*WorkflowStep.__struct_fields__} for step in state["steps"])
    assert state["agents"].keys() == wanted["agents"].keys()
    for agent, fields in state["agents"].items():
        assert {**fields, "performance": None} == {**wanted["agents"][agent], "performance": None}
    assert state["outputs"].keys() == {*loaded.outputs}
    for step_id, output in state["outputs"].items():
        assert (output["version"], output["checksum"]) == (
            loaded.outputs[step_id].version,
            loaded.outputs[step_id].checksum,
        )
        assert alike(output["value"], expected(loaded.outputs[step_id].output))
    for section in ("configuration", "variables", "features"):
        assert alike(state["context"][section], expected(dict(getattr(loaded.context, section))))


TIMES = st.none() | st.integers(0, 4).map(lambda each: datetime(2026, 1, 1, 0, each, tzinfo=UTC))
STEPS = st.lists(
    st.builds(
        WorkflowStep,
        st.uuids().map(str),
        status=st.sampled_from(["pending", "running", "running", "completed", "failed", "skipped"]),
        start_time=TIMES,
        end_time=TIMES,
        retry_count=st.integers(0, 2),
        max_retries=st.integers(0, 2),
        error=st.none() | st.text("abc", min_size=1),
    ),
    max_size=5,
)


@given(steps=STEPS, paused=st.booleans())
@settings(PROPERTY, max_examples=150, suppress_health_check=list(HealthCheck))
def test_folding_in_sql_is_folding(reader: Seen, steps: list[WorkflowStep], paused: bool) -> None:
    """Status, progress, current step, error and times of any steps are those that `waypost.folding` gives."""
    reader.connection.execute("SET extra_float_digits = 0")  # whatever a user has set
    ((found,),) = reader.ask(
        "SELECT {s}.folded((SELECT array_agg({s}.record(e.data, 'step') ORDER BY e.place) "
        "FROM unnest(%s::bytea[]) WITH ORDINALITY AS e(data, place)), %s)",
        [encode(step) for step in steps],
        paused,
    )
    wanted = fold(steps, paused)
    times = {"start_time": wanted.start_time, "end_time": wanted.end_time}
    for name, time in times.items():
        assert (found.pop(name) is None) == (time is None)
    assert found == {name: getattr(wanted, name) for name in ("status", "progress", "current_step", "error")}


@given(actions=st.lists(ACTION.filter(lambda each: each[0] not in ("compact", "snapshot")), min_size=1, max_size=12))
@settings(PROPERTY, max_examples=25, suppress_health_check=list(HealthCheck))
def test_views_show_what_the_api_gives(reader: Seen, actions: list[tuple[str, Any, Any]]) -> None:
    """After any history of a workflow its row, its steps, status and progress are those that loading it gives."""
    with reader.server.lent() as url:
        made = Seen(reader.server, url)
        made.wp.create_workflow("w", "W", steps=["one", WorkflowStep("two.2", max_retries=2)]).unwrap()
        for action, name, value in actions:
            act(made.wp, action, name, value)
        check_against_the_api(made)
        made.close()


def test_views_show_a_workflow_of_several_pages(seen: Seen) -> None:
    """Steps beyond the first 256 stand in their order."""
    ids = [f"step {number % 7} of {number}" for number in range(600)]
    seen.wp.create_workflow("w", "W", "s1", ids).unwrap()
    seen.wp.update_step_status("w", ids[300], "running", agent_id="scout").unwrap()
    seen.wp.update_step_status("w", ids[3], "completed", {"rows": [1, 2]}).unwrap()
    assert [row[0] for row in seen.ask("SELECT id FROM {s}.steps ORDER BY position")] == ids
    check_against_the_api(seen)


def test_secrets_are_seen_to_be_there_and_never_opened(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret is {"sealed": true} in the state, and nothing of it stands anywhere in a view."""
    monkeypatch.setenv("WAYPOST_KEY", "22" * 32)
    seen.wp.create_workflow("w", "W", steps=["one"]).unwrap()
    seen.wp.update_context("w", secrets={"token": "canary-2f"}, variables={"n": 1}).unwrap()
    context = seen.state()["context"]
    assert (context["secrets"], context["variables"]) == ({"token": {"sealed": True}}, {"n": 1})
    for view in VIEWS:
        if view != "named_parts":  # where the sealed bytes are, as in the table
            rows = seen.ask(f"SELECT v::text FROM {{s}}.{view} v")
            assert "canary" not in repr(rows)


def test_what_was_erased_is_said_to_be(seen: Seen) -> None:
    """A variable, an output and an agent that were erased are {"erased": true}; one given anew is shown again."""
    seen.wp.create_workflow("w", "W", steps=["one", "two"]).unwrap()
    seen.wp.update_step_status("w", "one", "completed", "canary").unwrap()
    seen.wp.update_context("w", variables={"a": "canary", "b": "canary", "n": 1}).unwrap()
    seen.wp.update_agent_state("w", "scout", {"current_task": "canary"}).unwrap()
    for path in ("context.variables.a", "context.variables.b", "outputs.one", "agents.scout"):
        seen.wp.erase("w", path).unwrap()
    seen.wp.update_context("w", variables={"b": 2}).unwrap()
    state = seen.state()
    assert state["context"]["variables"] == {"a": {"erased": True}, "b": 2, "n": 1}
    assert (state["outputs"], state["agents"]) == ({"one": {"value": {"erased": True}}}, {"scout": {"erased": True}})
    assert seen.ask("SELECT id, output FROM {s}.steps ORDER BY id") == [("one", {"erased": True}), ("two", None)]


def test_a_value_in_pieces_is_shown_by_its_size(seen: Seen) -> None:
    """A value longer than a piece is not put together for a row of a view."""
    seen.wp.create_workflow("w", "W", steps=["one"]).unwrap()
    seen.wp.add_step_output("w", "one", io.BytesIO(b"x" * 90_000)).unwrap()
    size = len(values.encode(b"x" * 90_000))
    assert seen.state()["outputs"]["one"]["value"] == {"size_bytes": size}
    assert seen.ask("SELECT output FROM {s}.steps") == [({"size_bytes": size},)]


def test_a_deleted_workflow_is_said_to_be(seen: Seen) -> None:
    """Its row says when, and has nothing of what it was; it has no steps."""
    before = datetime.now(UTC)
    seen.wp.create_workflow("w", "canary", steps=["one"]).unwrap()
    seen.wp.delete_workflow("w").unwrap()
    ((name, status, progress, deleted, state),) = seen.ask(
        "SELECT name, status, progress, deleted_at, state FROM {s}.workflows"
    )
    assert (name, status, progress, state) == (None, None, None, {"deleted": True})
    assert before <= deleted <= datetime.now(UTC)
    assert seen.ask("SELECT * FROM {s}.steps") == []


def test_sessions_are_shown_as_recorded(seen: Seen) -> None:
    """A session has its user, times, environment, preferences and owner, and the workflows that it has announced."""
    session = seen.wp.start_session("ada", session_id="s1", environment={"k": (1, 2)}, preferences={"p": b"x"})
    seen.wp.in_session("s1").create_workflow("w", "W", steps=["one"]).unwrap()
    ((version, user, status, start, end, state),) = seen.ask(
        "SELECT version, user_id, recorded_status, start_time, end_time, state FROM {s}.sessions WHERE id = 's1'"
    )
    assert (user, status, start, end) == ("ada", "active", session.start_time, None)
    assert (state["environment"], state["preferences"], state["touched"]) == ({"k": [1, 2]}, {"p": "eA=="}, ["w"])
    assert state["owner"]["pid"] > 0 and state["number"] >= 1 and version >= 1
    seen.wp.end_session("s1")
    assert seen.ask("SELECT recorded_status, end_time IS NOT NULL FROM {s}.sessions") == [("completed", True)]


# --- who may look ---


def test_a_damaged_value_hides_no_other(seen: Seen) -> None:
    """A part whose bytes are no value is {"unreadable": true}, and all others are shown."""
    seen.wp.create_workflow("w", "W", steps=["one"]).unwrap()
    seen.wp.update_context("w", variables={"a": 1, "b": 2}).unwrap()
    seen.server.execute(
        f"UPDATE {seen.schema}.parts SET value = '\\xc1' WHERE key = convert_to('variable' || chr(31) || 'a', 'UTF8')"
    )
    assert seen.state()["context"]["variables"] == {"a": {"unreadable": True}, "b": 2}


def test_views_run_with_the_rights_of_who_asks(seen: Seen) -> None:
    """Row-level security of the tables holds in the views, and who may not read the tables may not read the views."""
    for workflow_id in ("mine", "yours"):
        seen.wp.create_workflow(workflow_id, "W", steps=["one"]).unwrap()
        seen.wp.update_step_status(workflow_id, "one", "completed", workflow_id).unwrap()
    schema, role = seen.schema, f"looker_{seen.schema}"[:60]
    seen.server.execute(f"CREATE ROLE {role} LOGIN")
    try:
        seen.server.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
        seen.server.execute(f"GRANT SELECT ON {', '.join(f'{schema}.{view}' for view in VIEWS)} TO {role}")
        with seen.server.connect(role) as looker:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                looker.execute(f"SELECT state FROM {schema}.workflows")  # pyright: ignore[reportArgumentType]
            seen.server.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}")
            seen.server.execute(f"ALTER TABLE {schema}.documents ENABLE ROW LEVEL SECURITY")
            seen.server.execute(f"CREATE POLICY only_mine ON {schema}.documents USING (id = 'mine')")
            found = {
                view: looker.execute(f"SELECT {column} FROM {schema}.{view}").fetchall()  # pyright: ignore[reportArgumentType]
                for view, column in {"workflows": "id", "steps": "output"}.items()
            }
        assert found == {"workflows": [("mine",)], "steps": [("mine",)]}
        with pytest.raises(psycopg.errors.Error):
            seen.server.execute(f"UPDATE {schema}.workflows SET version = 7")
    finally:
        seen.server.execute(f"DROP POLICY IF EXISTS only_mine ON {schema}.documents")
        seen.server.execute(f"ALTER TABLE {schema}.documents DISABLE ROW LEVEL SECURITY")
        seen.server.execute(f"DROP OWNED BY {role}")
        seen.server.execute(f"DROP ROLE {role}")


def test_functions_rest_on_no_search_path_and_read_no_table(reader: Seen) -> None:
    """Each pins its search path, and those for values are immutable, strict and may run in parallel workers."""
    rows = reader.ask(
        "SELECT proname, provolatile::text, proisstrict, proparallel::text, proconfig FROM pg_proc "
        "WHERE pronamespace = %s::regnamespace",
        reader.schema,
    )
    assert all("search_path=pg_catalog, pg_temp" in (config or []) for *_, config in rows)
    (unpack,) = [row[1:4] for row in rows if row[0] == "unpack"]
    assert unpack == ("i", True, "s")
    pinned = [row[0] for row in rows if row[1] == "i"]
    assert {"unpack", "readable", "record", "folded", "shown"} <= {*pinned}


def test_values_are_shown_by_parallel_workers(reader: Seen) -> None:
    """Nothing in `unpack` is what a parallel worker may not do."""
    with reader.server.connect() as connection:
        connection.execute(
            "SET debug_parallel_query = on"
            if connection.info.server_version >= 160000
            else "SET force_parallel_mode = on"
        )
        query = SQL("SELECT {s}.unpack(v) FROM (VALUES (%s::bytea), (%s::bytea)) AS f(v)").format(
            s=Identifier(reader.schema)
        )
        assert connection.execute(query, (values.encode({1: [2.5]}), b"\xc1")).fetchall() == [({"1": [2.5]},), (None,)]
