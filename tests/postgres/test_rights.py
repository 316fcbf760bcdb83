"""What other users of the server cannot do, and what the user of the store has to be allowed (X25, X4)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

import waypost
from tests.postgres.acts import ACTS, told
from tests.postgres.conftest import OPTIONS, Opener
from tests.servers import ROLE, Server
from waypost import Waypost
from waypost.errors import InvalidConfiguration, StoreError, StoreReadOnly, StoreUnavailable
from waypost.store.postgres.connections import Connections

ROOT = Path(__file__).parents[2]
APP, LOOKER = "waypost_app", "waypost_looker"

# Functions and operators that fit the calls in `queries.sql` better than the server's own do: who comes in between
# runs what he likes with the rights of who calls (CVE-2018-1058).
DECOYS = """
CREATE SCHEMA IF NOT EXISTS {place};
CREATE FUNCTION {place}.convert_to(text, text) RETURNS bytea LANGUAGE sql AS $$ SELECT {place}.caught()::text::bytea $$;
CREATE FUNCTION {place}.convert_from(bytea, text) RETURNS text LANGUAGE sql AS $$ SELECT {place}.caught()::text $$;
CREATE FUNCTION {place}.times(bigint, interval) RETURNS interval
    LANGUAGE sql AS $$ SELECT {place}.caught() * interval '1 s' $$;
CREATE OPERATOR {place}.* (FUNCTION = {place}.times, LEFTARG = bigint, RIGHTARG = interval);
CREATE FUNCTION {place}.times(numeric, integer) RETURNS numeric LANGUAGE sql AS $$ SELECT {place}.caught()::numeric $$;
CREATE OPERATOR {place}.* (FUNCTION = {place}.times, LEFTARG = numeric, RIGHTARG = integer);
CREATE FUNCTION {place}.sum(bigint) RETURNS bigint LANGUAGE sql AS $$ SELECT {place}.caught()::bigint $$;
CREATE FUNCTION {place}.clock_timestamp() RETURNS timestamptz
    LANGUAGE sql AS $$ SELECT to_timestamp({place}.caught()) $$;
CREATE FUNCTION {place}.octet_length(bytea) RETURNS integer LANGUAGE sql AS $$ SELECT {place}.caught() $$;
CREATE FUNCTION {place}.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT {place}.caught()::text::bytea $$;
"""


@contextmanager
def decoys(server: Server, place: str) -> Iterator[None]:
    """What catches who calls it: it fails with a word."""
    caught = f"""CREATE FUNCTION {place}.caught() RETURNS integer LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'caught by a decoy'; END $$;"""
    text = DECOYS.format(place=place)
    head, rest = text.split(";", 1)
    server.execute(f"{head}; {caught} {rest}")
    try:
        yield
    finally:
        server.execute(
            f"DROP FUNCTION {place}.caught CASCADE; DROP OPERATOR {place}.* (bigint, interval);"
            f"DROP OPERATOR {place}.* (numeric, integer); DROP FUNCTION {place}.convert_to(text, text),"
            f"{place}.convert_from(bytea, text), {place}.times(bigint, interval), {place}.times(numeric, integer),"
            f"{place}.sum(bigint), {place}.clock_timestamp(), {place}.octet_length(bytea),"
            f"{place}.sha256(bytea)"
        )


def everything(wp: Waypost) -> None:
    """All that is written, and what is read, swept and held."""
    for act in ACTS:
        prepared = act.prepare(wp, act.name.replace(" ", "-"))
        said = told(act, wp, act.name.replace(" ", "-"), f"op-{act.name}", prepared)
        assert said.said == "done", (act.name, said.error)
    wp.update_context("update", variables={"secret": "x"}).unwrap()
    wp.erase("update", "context.variables.secret").unwrap()
    checkpoint = wp.create_checkpoint("update").unwrap()
    wp.import_checkpoint(wp.export_checkpoint(checkpoint.id), "update-2").unwrap()
    wp.end_session("start-session").unwrap()
    store = wp.definitions.store
    assert wp.history("update")
    assert store.sweep() >= 0
    assert store.checkpoint_bytes([checkpoint.id]) is not None
    assert list(wp.list_workflows().items)
    assert wp.get_outcome("op-update").repeated


@pytest.fixture(params=["of its own", "of a pooler"])
def connected(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether what is set when a connection begins stays, or has to be set in each transaction."""
    if request.param == "of a pooler":
        look_around = Connections.look_around

        def pooled(self: Connections) -> None:
            look_around(self)
            self.is_pooled = True

        monkeypatch.setattr(Connections, "look_around", pooled)


@pytest.mark.usefixtures("connected")
def test_x25_functions_of_others_are_not_called(server: Server, opened: Opener) -> None:
    """Functions and operators in a schema that is searched come in between nowhere, also when it is searched first."""
    opened()
    with decoys(server, "decoy"):
        server.execute(f"GRANT USAGE ON SCHEMA decoy TO {ROLE}")
        server.execute(f"ALTER ROLE {ROLE} SET search_path = decoy, pg_catalog")
        try:
            everything(opened())
        finally:
            server.execute(f"ALTER ROLE {ROLE} RESET search_path")


def test_x25_the_decoys_catch_who_does_not_look_out(server: Server) -> None:
    """The decoys of these tests do catch, also behind the server's own functions."""
    with decoys(server, "public"), server.connect() as connection:
        with pytest.raises(psycopg.errors.RaiseException, match="caught by a decoy"):
            connection.execute("SELECT convert_to('a' || chr(31), 'UTF8')")
        with pytest.raises(psycopg.errors.RaiseException, match="caught by a decoy"):
            connection.execute("SELECT 3::bigint * interval '1 ms'")


def test_x25_tables_are_made_where_decoys_are_searched_first(server: Server, schema: str, opened: Opener) -> None:
    """Nor is anything of others called, or kept, by who makes the tables."""
    with decoys(server, "decoy"):
        server.execute(f"GRANT USAGE ON SCHEMA decoy TO {ROLE}")
        server.execute(f"ALTER ROLE {ROLE} SET search_path = decoy, pg_catalog")
        try:
            opened()
        finally:
            server.execute(f"ALTER ROLE {ROLE} RESET search_path")
        made = "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef JOIN pg_class c ON c.oid = adrelid"
        kept = server.execute(f"{made} WHERE c.relnamespace = '{schema}'::regnamespace")
        assert kept and not any("decoy" in text for (text,) in kept)


# --- rights ---


def granting(server: Server, schema: str, role: str, *grants: str) -> None:
    server.execute(f"CREATE ROLE {role} LOGIN")
    for grant in grants:
        server.execute(grant.format(schema=schema, role=role))


@contextmanager
def as_role(server: Server, schema: str, role: str, *grants: str) -> Iterator[Waypost]:
    """A handle of a role that has these rights and no others."""
    granting(server, schema, role, *grants)
    try:
        with waypost.open(server.url(schema, user=role), config=OPTIONS) as wp:
            yield wp
    finally:
        server.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def documented(role: str) -> list[str]:
    """The grants of docs/postgres.md, for a role."""
    text = (ROOT / "docs" / "postgres.md").read_text(encoding="utf-8")
    found = re.findall(r"^    (GRANT [^;]+);", text, re.MULTILINE)
    assert len(found) == 3, found
    return [re.sub(r"SCHEMA waypost", "SCHEMA {schema}", each).replace("waypost_app", role) for each in found]


def test_x25_the_rights_that_are_documented_are_enough(server: Server, schema: str, opened: Opener) -> None:
    """A role that has the grants of docs/postgres.md and nothing else can do everything."""
    opened()
    server.execute(f"REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {schema} FROM PUBLIC")
    with as_role(server, schema, APP, *documented(APP)) as wp:
        everything(wp)
        assert wp.definitions.store.listen().wait(0) in (False, True)


def test_x25_who_may_only_look_looks(server: Server, schema: str, opened: Opener) -> None:
    """With SELECT and USAGE all can be read, and a write is refused by the server, in words."""
    wp = opened()
    wp.create_workflow("w", "w", steps=["a"]).unwrap()
    grants = ("GRANT USAGE ON SCHEMA {schema} TO {role}", "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}")
    with as_role(server, schema, LOOKER, *grants) as looking:
        assert looking.load_workflow_state("w").unwrap().step("a").status == "pending"
        assert looking.history("w")
        failed = looking.update_step_status("w", "a", "running")
        assert failed.error is not None
        assert (type(failed.error), failed.status) == (StoreError, "rolled_back")
        assert "this user has no right to do that" in failed.error.message


def test_x25_row_level_security_holds(server: Server, schema: str, opened: Opener) -> None:
    """With a policy for each tenant nobody sees or changes a document of another, by whatever function."""
    wp = opened()
    wp.create_workflow("other-w", "of another", steps=["a"]).unwrap()
    server.execute(f"ALTER TABLE {schema}.documents ENABLE ROW LEVEL SECURITY")
    with as_role(server, schema, APP, *documented(APP)) as tenant:
        own = "id LIKE 'mine-%' OR kind IN ('receiving', 'version')"
        server.execute(f"CREATE POLICY tenant ON {schema}.documents TO {APP} USING ({own})")
        for table in ("parts", "commits"):
            seen = f"EXISTS (SELECT FROM {schema}.documents d WHERE d.doc = {table}.doc)"
            server.execute(f"ALTER TABLE {schema}.{table} ENABLE ROW LEVEL SECURITY")
            server.execute(f"CREATE POLICY tenant ON {schema}.{table} TO {APP} USING ({seen})")
        tenant.create_workflow("mine-w", "mine", steps=["a"]).unwrap()
        tenant.update_step_status("mine-w", "a", "running").unwrap()
        assert [each.id for each in tenant.list_workflows().items] == ["mine-w"]
        assert tenant.load_workflow_state("other-w").error is not None
        failed = tenant.create_workflow("other-w", "taken over")
        assert failed.error is not None and failed.status == "rolled_back"
        assert isinstance(failed.error, StoreError)
        assert tenant.delete_workflow("other-w").error is not None
    assert wp.load_workflow_state("other-w").unwrap().step("a").status == "pending"
    assert wp.load_workflow_state("mine-w").unwrap().step("a").status == "running"


def test_x25_tls_is_asked_for_as_libpq_does(server: Server, schema: str) -> None:
    """`sslmode=require` to a server without TLS is refused, and says so."""
    with pytest.raises(StoreUnavailable, match="server does not support SSL"):
        waypost.open(server.url(schema, loopback=True, sslmode="require"))


# --- statements ---


HOSTILE = [
    'x"; DROP SCHEMA public; --',
    "x'y",
    "a.b",
    "a b",
    "",
    "pg_catalog",
    "ä",
    "x" * 64,
    "1x",
    "x\0y",
    "{schema}",
    "%s",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_x04_a_schema_is_a_plain_name(server: Server, name: str) -> None:
    """What is no plain name is refused before anything is asked of a server."""
    with pytest.raises(InvalidConfiguration, match="schema"):
        waypost.open(server.url("x").replace("schema=x", "schema=" + quote(name)))


IDS = [
    "'; DROP TABLE documents; --",
    '"',
    "%s",
    "%(id)s",
    "{schema}",
    "$1",
    "\\",
    "E'\\''",
    "--",
    "/*",
    "a\nb",
    "ü€😀",
    "a" * 255,
]


@pytest.mark.parametrize("text", IDS)
def test_x04_ids_and_values_are_no_statements(opened: Opener, text: str) -> None:
    """Whatever stands in an id, a name, an agent, an operation id or a value is kept as it is, or refused as input."""
    wp = opened()
    wp.create_workflow("w", text or "x", steps=["a"]).unwrap()
    wp.update_context("w", variables={"v": text}).unwrap()
    assert wp.load_workflow_state("w").unwrap().context.variables["v"] == text
    for act in (
        lambda: wp.create_workflow(text, "x", operation_id="op"),
        lambda: wp.update_step_status("w", "a", "running", agent_id=text),
        lambda: wp.create_checkpoint("w", text, [text]),
        lambda: wp.update_context("w", variables={"n": 1}, operation_id=text),
        lambda: wp.update_context("w", variables={"n": 2}, session_id=text),
    ):
        result = act()
        assert result.error is None or result.error.code in ("invalid_id", "invalid_input", "invalid_value")
    assert wp.load_workflow_state("w").unwrap().context.variables["v"] == text


def test_x04_no_statement_is_put_together_from_values() -> None:
    """Statements stand in files, or as constants: what is filled in there is the name of the schema, as a name."""
    for file in files("waypost.store.postgres").iterdir():
        if not file.name.endswith(".py"):
            continue
        source = file.read_text(encoding="utf-8")
        assert not re.search(r"""execute\(\s*(f["']|["'][^"\n]*["']\s*(%|\+|\.format))""", source), file.name
        formatted = re.findall(r"""\bSQL\(([^)]*)\)""", source)
        assert all(each in ("text", '"LISTEN {}"') for each in formatted), (file.name, formatted)


def test_x22_a_role_that_writes_nothing_reads(server: Server, schema: str, opened: Opener) -> None:
    """Where the server takes no writes for a role, reading goes on, and a write says why not."""
    wp = opened()
    wp.create_workflow("w", "w").unwrap()
    server.execute(f"ALTER ROLE {ROLE} SET default_transaction_read_only = on")
    try:
        handle = opened()
    finally:
        server.execute(f"ALTER ROLE {ROLE} RESET default_transaction_read_only")
    handle.load_workflow_state("w").unwrap()
    failed = handle.delete_workflow("w")
    assert (type(failed.error), failed.status) == (StoreReadOnly, "rolled_back")
