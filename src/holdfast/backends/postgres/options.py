"""What a PostgreSQL URL says: where the server is, and how it is used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from holdfast.backends.postgres import supabase
from holdfast.backends.segments.cache import CACHE_LIMIT_BYTES
from holdfast.core.errors import Invalid

SCHEMES: Final = ("postgresql", "postgres", "postgresql+psycopg", "postgresql+asyncpg")

_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,40}")
_LIBPQ_DEFAULTS: Final = {
    "application_name": "holdfast",
    "client_encoding": "UTF8",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""So that a peer that is gone without a word is noticed within a minute."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine uses a server; each may stand in the URL's query or be an argument.

    ``prepare`` off is for a transaction pooler that cannot keep prepared statements. A timeout of
    0 means none of ours: the server's own setting holds.

    ``search_cache_bytes`` bounds what searches hold in memory. A tenant's texts are packed when
    ``tail_rows`` of them are fresh; ``maintain("reindex")`` builds a graph (HNSW) for a space of
    which a tenant has ``graph_rows`` vectors, and ``ef_search`` is how wide searches go in it.

    After ``breaker_failures`` failures in a row to reach the server it is not asked for
    ``breaker_seconds``, and calls fail at once. With 0, or with a ``replica``, it is always asked.

    ``replica`` names standbys as host:port, with commas between them, that answer reads. With
    ``read_your_writes`` "own" they do once they show what this handle wrote, with "never" also
    before, and "always" asks the primary alone.
    """

    schema: str = "holdfast"
    pool_size: int = 20
    pool_timeout_seconds: float = 30.0
    connect_timeout_seconds: float = 5.0
    statement_timeout_seconds: float = 0.0
    lock_timeout_seconds: float = 0.0
    prepare: bool = True
    search_cache_bytes: int = CACHE_LIMIT_BYTES
    tail_rows: int = 2_000
    graph_rows: int = 5_000
    ef_search: int = 200
    breaker_failures: int = 5
    breaker_seconds: float = 60.0
    replica: str = ""
    read_your_writes: Literal["own", "always", "never"] = "own"

    def __post_init__(self) -> None:
        if not _SCHEMA.fullmatch(self.schema):
            expected = "1 to 41 lower-case letters, digits and underscores"
            raise Invalid("schema", expected=expected, got=repr(self.schema))
        if not 1 <= self.pool_size <= 1000:
            raise Invalid("pool_size", expected="a number from 1 to 1000", got=str(self.pool_size))
        for name, (low, high) in _WHOLE.items():
            if not low <= getattr(self, name) <= high:
                expected = f"a whole number from {low} to {high}"
                raise Invalid(name, expected=expected, got=repr(getattr(self, name)))
        self.replica_addresses()
        for name in _SECONDS:
            value = getattr(self, name)
            if not 0 <= value <= 86_400:
                raise Invalid(name, expected="seconds from 0 to 86400", got=repr(value))

    def replica_addresses(self) -> tuple[str, str]:
        """The standbys' hosts and ports, as libpq takes several."""
        found = [_ADDRESS.fullmatch(part) for part in self.replica.split(",") if self.replica]
        if any(match is None for match in found):
            expected = "host:port, or several with commas between them"
            raise Invalid("replica", expected=expected, got="something else")
        held = [match for match in found if match]
        hosts = (match["host"].strip("[]") for match in held)
        return ",".join(hosts), ",".join(match["port"] or "5432" for match in held)


_WHOLE: Final = {
    "search_cache_bytes": (0, 1 << 40),
    "tail_rows": (1, 65_536),
    "graph_rows": (1, 1_000_000_000),
    "ef_search": (1, 1_000),
    "breaker_failures": (0, 1_000),
}

_ADDRESS: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[\w.-]+)(:(?P<port>\d{1,5}))?")
_SECONDS: Final = tuple(name for name in Options.__struct_fields__ if name.endswith("_seconds"))
ALLOWED: Final = Options.__struct_fields__


class Target(msgspec.Struct, frozen=True):
    """A server and how to use it. Its ``repr`` holds no password."""

    conninfo: str
    options: Options
    supabase: bool = False
    """Whether end users reach the database beside the application."""

    def __repr__(self) -> str:
        return f"<Target {self.described()} schema={self.options.schema}>"

    def described(self) -> str:
        """Host, port and database, to name the store to people."""
        held = conninfo_to_dict(self.conninfo)
        host, port = held.get("host", "localhost"), held.get("port", "5432")
        return f"{host}:{port}/{held.get('dbname', '')}"


def parse(url: str, given: Mapping[str, Any] | None = None) -> Target:
    """The target of a URL, with options from its query and from ``given``, which goes first."""
    of_supabase = url.partition(":")[0] == supabase.SCHEME
    scheme, _, rest = (supabase.database_url(url) if of_supabase else url).partition("://")
    if scheme not in SCHEMES:
        raise Invalid("url", expected="a postgresql:// URL", got="another")
    try:
        parts = urlsplit(f"postgresql://{rest}")
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise Invalid("url", expected="a postgresql:// URL", got="a malformed one") from None
    ours = {name: value for name, value in query if name in ALLOWED}
    if of_supabase and _port(parts) == supabase.TRANSACTION_POOLER:
        ours = {"prepare": "off", **ours}
    theirs = [(name, value) for name, value in query if name not in ALLOWED]
    bare = urlunsplit(parts._replace(query=urlencode(theirs, quote_via=quote)))
    options = _options({**ours, **(given or {})})
    try:
        held = conninfo_to_dict(bare)
        timeout = str(max(1, round(options.connect_timeout_seconds)))
        defaults = {**_LIBPQ_DEFAULTS, "connect_timeout": timeout}
        if of_supabase:
            defaults["sslmode"] = "require"
        conninfo = make_conninfo(bare, **{k: v for k, v in defaults.items() if k not in held})
    except psycopg.ProgrammingError:
        raise _malformed([name for name, _ in theirs]) from None
    return Target(conninfo, options, of_supabase)


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:  # several hosts, each with its own
        return None


def _malformed(names: list[str]) -> Invalid:
    """Which parameter of the URL nobody knows; never what the URL says, it may hold a password."""
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    for name in names:
        if name not in known:
            return _unknown(name)
    return Invalid("url", expected="a postgresql:// URL", got="a malformed one")


def _unknown(name: str) -> Invalid:
    return Invalid(
        name,
        expected=f"one of {', '.join(ALLOWED)}, or a parameter of libpq",
        got="an unknown option",
    )


def _options(given: Mapping[str, Any]) -> Options:
    for name in given:
        if name not in ALLOWED:
            raise _unknown(name)
    try:
        return msgspec.convert(
            {name: _word(value) for name, value in given.items()}, Options, strict=False
        )
    except msgspec.ValidationError as error:
        found = re.search(r"\$\.(\w+)", str(error))
        name = found[1] if found else "url"
        raise Invalid(name, expected=_expected(str(error)), got="another value") from None


def _expected(said: str) -> str:
    return said.partition(",")[0].removeprefix("Expected ").replace("`", "")


def _word(value: Any) -> Any:
    words = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}
    return words.get(value, value) if isinstance(value, str) else value
