"""Where a PostgreSQL store is: a connection string as libpq takes it, and the schema in it.

The word `schema` stands among the parameters (`postgresql://host/db?schema=team`) and is taken off before libpq sees
them. What is shown of a location never holds a password.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from waypost.errors import InvalidConfiguration

SCHEMES = ("postgresql", "postgres")
_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_DEFAULT_SCHEMA = "waypost"
_SECRET = ("password", "sslpassword", "scram_client_key", "oauth_client_secret")


class Location(NamedTuple):
    """`conninfo` is for libpq and may hold a password; `shown` is for people."""

    conninfo: str
    schema: str
    shown: str
    secrets: tuple[str, ...]

    def without_secrets(self, text: str) -> str:
        """A message of the driver, without what it may repeat of the connection string."""
        for secret in self.secrets:
            text = text.replace(secret, "…")
        return text


def parse(location: str) -> Location:
    """Raises InvalidConfiguration, which repeats nothing of the location: a password may stand anywhere in it."""
    parameters, schemas = _taken_apart(location)
    if parameters is None:  # raised here, so that what libpq says is not its context
        raise InvalidConfiguration(
            "the location is no connection string that libpq understands: postgresql://user@host:port/database"
        )
    schema = schemas[-1] if schemas else _DEFAULT_SCHEMA
    if not _SCHEMA.fullmatch(schema) or schema.startswith("pg_") or len(schemas) > 1:
        raise InvalidConfiguration(
            "schema=… in the location: a schema is one name of letters, digits and _, at most 63 of them, "
            "that does not begin with pg_"
        )
    secrets = tuple(parameters[name] for name in _SECRET if parameters.get(name))
    parameters.setdefault("application_name", "waypost")
    return Location(make_conninfo("", **parameters), schema, _shown(parameters, schema), secrets)


def _taken_apart(location: str) -> tuple[dict[str, str] | None, list[str]]:
    """What libpq makes of a location, None where that is nothing, and the schemas in it. A + is a + to libpq."""
    try:
        url = urlsplit(location)
        query = url.query.replace("+", "%2B")
        given = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        rest = urlencode([(name, value) for name, value in given if name != "schema"], quote_via=quote)
        found = conninfo_to_dict(urlunsplit(url._replace(query=rest)))
    except (ValueError, psycopg.Error):
        return None, []
    return {name: str(value) for name, value in found.items()}, [value for name, value in given if name == "schema"]


def _shown(parameters: Mapping[str, str], schema: str) -> str:
    host = parameters.get("host") or parameters.get("hostaddr") or ""
    query = [("schema", schema)] if schema != _DEFAULT_SCHEMA else []
    if host.startswith("/"):
        query.append(("host", host))
        host = ""
    user, port = parameters.get("user"), parameters.get("port")
    place = (f"{user}@" if user else "") + host + (f":{port}" if port and host else "")
    if port and not host:
        query.append(("port", str(port)))
    return urlunsplit(("postgresql", place, f"/{parameters.get('dbname') or ''}", urlencode(query, safe="/"), ""))
