"""PostgreSQL: the ten hottest shapes through the engine, beside statements written by hand.

The hand-written side is psycopg with its own pool, prepared statements and rows as dictionaries,
connected as a superuser: no tenant is set for it and no row security is checked. The engine does
both, as a role that owns nothing. They take turns call by call on one server and the same tables.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

from bench.measure import Contender, Figures, Goal, Sheet, percentile
from holdfast.core.change import ABSENT, Change, Claim, Edit, Patch, Put, Revision
from holdfast.core.clock import SystemClock
from holdfast.core.filter import eq
from holdfast.core.query import Aggregate, Query, asc, desc
from holdfast.testing.shapes import EVENTS, JOBS, SHAPES, event, job

if TYPE_CHECKING:
    import psycopg
    from psycopg_pool import ConnectionPool

    from holdfast.backends.postgres import PostgresDriver

US: Final = "us"
TENANT: Final = "t"
READS: Final = ("get", "page", "filtered page", "count")
WRITES: Final = (
    "insert", "upsert", "patch", "patch at revision", "claim", "numbered insert",
)  # fmt: skip
WITHIN: Final = 1.2
"""How much longer than by hand a call may take."""
WRITE_WITHIN: Final = 1 / 0.9

_COLUMNS: Final = "id, state, priority, worker, tries, revision"
_PAGE: Final = f"SELECT {_COLUMNS} FROM holdfast.suite_jobs WHERE tenant = %s"

Call = Callable[[int], object]


def sheet(rounds: int, *, quick: bool) -> Sheet:
    """The sheet of all shapes."""
    warm, count = (2, 5) if quick else (150, 700)
    names = [*READS, *WRITES]
    return Sheet(
        name="postgres-shapes",
        title="PostgreSQL: the ten hottest shapes, beside SQL by hand",
        figure=US,
        base="get by hand",
        rounds=rounds,
        together=lambda _: _in_turns(warm, count),
        contenders=tuple(
            contender
            for name in names
            for contender in (
                Contender(f"{name} by hand"),
                Contender(f"holdfast {name}", goals=(_goal(name),)),
            )
        ),
        notes="Lower quartiles, the sides in turns; nothing waits for the disk (fsync is off),"
        " so that the disk hides nothing.",
    )


def _goal(name: str) -> Goal:
    limit = WITHIN if name in READS else WRITE_WITHIN
    return Goal(limit, f"{name} by hand", sense="at most")


def _in_turns(warm: int, count: int) -> dict[str, Figures]:
    times: dict[str, list[float]] = {}
    with _store() as (driver, pool):
        ours, theirs = _ours(driver), _by_hand(pool)
        for name in ours:
            sides = ((f"holdfast {name}", ours[name]), (f"{name} by hand", theirs[name]))
            for number in range(warm + count):
                for side, call in sides if number % 2 else reversed(sides):
                    started = time.perf_counter()
                    call(number)
                    elapsed = time.perf_counter() - started
                    if number >= warm:
                        times.setdefault(side, []).append(elapsed)
    return {side: {US: percentile(held, 0.25) * 1e6} for side, held in times.items()}


@contextmanager
def _store() -> Iterator[tuple[PostgresDriver, ConnectionPool[psycopg.Connection[Any]]]]:
    """A store with some thousand records, its application's driver, and a superuser's pool."""
    from psycopg.rows import dict_row
    from psycopg_pool import ConnectionPool

    from holdfast.backends.postgres import PostgresDriver
    from holdfast.testing.servers.shared import shared_url

    with new_database() as (name, role, url):
        owner = PostgresDriver(shared_url(name), SystemClock())
        owner.setup(SHAPES)
        owner.apply(TENANT, [Put(JOBS.name, job(f"{n:05}", n % 10)) for n in range(5_000)])
        owner.maintain("analyze")
        owner.grant(role, "application")
        owner.close()
        driver = PostgresDriver(url, SystemClock())
        driver.setup(SHAPES, create=False)
        kwargs = {"autocommit": True, "row_factory": dict_row, "prepare_threshold": 1}
        with ConnectionPool(shared_url(name), min_size=1, kwargs=kwargs) as pool:
            yield driver, pool
        driver.close()


@contextmanager
def new_database() -> Iterator[tuple[str, str, str]]:
    """A new database, a role that owns nothing in it, and where that role connects."""
    import psycopg

    from holdfast.testing.servers.shared import shared_url

    name = f"holdfast_bench_{uuid.uuid4().hex[:12]}"
    role = f"{name}_application"
    with psycopg.connect(shared_url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'".encode())
        try:
            own = urlsplit(shared_url(name))
            address = own.netloc.rpartition("@")[2]
            yield name, role, urlunsplit(own._replace(netloc=f"{role}:{role}@{address}"))
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
            connection.execute(f"DROP ROLE {role}".encode())


def _ours(driver: PostgresDriver) -> dict[str, Call]:
    counters = itertools.count()
    newest = Query(collection=JOBS.name, order=desc("id"), limit=20)
    waiting = Query(
        collection=JOBS.name,
        filter=eq("state", "waiting"),
        order=asc("priority"),
        limit=20,
    )
    count = Aggregate(collection=JOBS.name, filter=eq("state", "waiting") & eq("priority", 3))
    edit = Edit(increment={"tries": 1}, set={"worker": "w"})
    take = Edit(set={"worker": "w"}, increment={"tries": 1})
    claim = Claim(JOBS.name, eq("state", "waiting"), asc("priority"), 1, take)
    revisions = {"00002": driver.get(TENANT, JOBS.name, ("00002",))}

    def apply(change: Change) -> Any:
        return driver.apply(TENANT, [change])[0]

    def patch_at(_: int) -> None:
        held = revisions["00002"]
        assert held is not None
        done = apply(Patch(JOBS.name, ("00002",), edit, Revision(held["revision"])))
        revisions["00002"] = done.record

    return {
        "get": lambda n: driver.get(TENANT, JOBS.name, (f"{n:05}",)),
        "page": lambda _: driver.query(TENANT, newest),
        "filtered page": lambda _: driver.query(TENANT, waiting),
        "count": lambda _: driver.aggregate(TENANT, count),
        "insert": lambda _: apply(Put(JOBS.name, _finished(f"o{next(counters)}"), ABSENT)),
        "upsert": lambda _: apply(Put(JOBS.name, job("00001", 9))),
        "patch": lambda _: apply(Patch(JOBS.name, ("00001",), edit)),
        "patch at revision": patch_at,
        "claim": lambda _: apply(claim),
        "numbered insert": lambda _: apply(Put(EVENTS.name, event(f"o{next(counters)}"), ABSENT)),
    }


def _finished(id: str) -> dict[str, Any]:
    return job(id, 5, "done")


_INSERT: Final = (
    "INSERT INTO holdfast.suite_jobs (tenant, id, state, priority, worker, tries, revision)"
    " VALUES (%s, %s, %s, %s, %s, %s, 1)"
)
_UPSERT: Final = (
    _INSERT + " ON CONFLICT (tenant, id) DO UPDATE SET state = excluded.state,"
    " priority = excluded.priority, worker = excluded.worker, tries = excluded.tries,"
    " revision = suite_jobs.revision + 1 RETURNING revision"
)
_PATCH: Final = (
    "UPDATE holdfast.suite_jobs SET tries = tries + %s, worker = %s, revision = revision + 1"
    " WHERE tenant = %s AND id = %s"
)
_CLAIM: Final = (
    "UPDATE holdfast.suite_jobs SET worker = %s, tries = tries + %s, revision = revision + 1"
    " WHERE tenant = %s AND id = (SELECT id FROM holdfast.suite_jobs WHERE tenant = %s"
    " AND state = %s ORDER BY priority NULLS FIRST, id NULLS FIRST LIMIT %s"
    f" FOR NO KEY UPDATE SKIP LOCKED) RETURNING {_COLUMNS}"
)
_NEXT: Final = (
    "INSERT INTO holdfast.holdfast_sequences AS q (tenant, collection, field, per, last)"
    " VALUES (%s, 'suite_events', '{}', %s, 1) ON CONFLICT (tenant, collection, field, per)"
    " DO UPDATE SET last = q.last + 1 RETURNING last"
)
_NUMBERED: Final = (
    f"WITH a AS ({_NEXT.format('by_hand_seq')}), b AS ({_NEXT.format('by_hand_number')})"
    " INSERT INTO holdfast.suite_events (tenant, id, thread, seq, number, body, revision)"
    " VALUES (%s, %s, %s, (SELECT last FROM a), (SELECT last FROM b), %s, 1)"
    " RETURNING seq, number"
)


def _by_hand(pool: ConnectionPool[psycopg.Connection[Any]]) -> dict[str, Call]:
    counters = itertools.count()

    def ask(text: str, *values: Any) -> list[Any]:
        with pool.connection() as connection:
            cursor = connection.execute(text.encode(), values)
            return cursor.fetchall() if cursor.description else []

    revision = ask(f"{_PAGE} AND id = %s", TENANT, "00003")[0]["revision"]
    revisions = {"00003": revision}

    def patch_at(_: int) -> None:
        text = f"{_PATCH} AND revision = %s RETURNING {_COLUMNS}"
        rows = ask(text, 1, "w", TENANT, "00003", revisions["00003"])
        revisions["00003"] = rows[0]["revision"]

    ordered = "ORDER BY priority NULLS FIRST, id NULLS FIRST LIMIT %s"
    last = "ORDER BY id DESC NULLS LAST LIMIT %s"
    count = "SELECT count(*) FROM holdfast.suite_jobs WHERE tenant = %s AND state = %s"
    return {
        "get": lambda n: ask(f"{_PAGE} AND id = %s", TENANT, f"{n:05}"),
        "page": lambda _: ask(f"{_PAGE} {last}", TENANT, 21),
        "filtered page": lambda _: ask(f"{_PAGE} AND state = %s {ordered}", TENANT, "waiting", 21),
        "count": lambda _: ask(f"{count} AND priority = %s", TENANT, "waiting", 3),
        "insert": lambda _: ask(_INSERT, TENANT, f"h{next(counters)}", "done", 5, None, 0),
        "upsert": lambda _: ask(_UPSERT, TENANT, "00004", "waiting", 9, None, 0),
        "patch": lambda _: ask(f"{_PATCH} RETURNING {_COLUMNS}", 1, "w", TENANT, "00004"),
        "patch at revision": patch_at,
        "claim": lambda _: ask(_CLAIM, "w", 1, TENANT, TENANT, "waiting", 1),
        "numbered insert": lambda _: ask(
            _NUMBERED, TENANT, "t", TENANT, "", TENANT, f"h{next(counters)}", "hand", "body"
        ),
    }
