"""Upkeep of a store: sweep, integrity, statistics, followers and their feed, health."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import numpy

from holdfast.backends.postgres import graphs
from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.derived import store_terms
from holdfast.backends.postgres.diagnosis import orphans
from holdfast.backends.postgres.dialect import PostgresDialect
from holdfast.backends.postgres.errors import mapped
from holdfast.backends.postgres.functions import lock_number
from holdfast.backends.postgres.pool import Pool
from holdfast.backends.postgres.schema import packed_table, terms_table
from holdfast.backends.postgres.search import Engine
from holdfast.backends.postgres.transactions import Operation, Transactions
from holdfast.backends.postgres.wire import ConnectionLost, StatementFailed, Wire
from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sql.planner import Planner
from holdfast.backends.sql.rows import decoded
from holdfast.backends.sql.terms import pack
from holdfast.core.change import DeleteWhere
from holdfast.core.clock import Clock
from holdfast.core.collection import REVISION, Collection
from holdfast.core.driver import FeedEntry, Health, Report, Task
from holdfast.core.errors import Corrupt, HoldfastError, NotFound
from holdfast.core.filter import Record, lt
from holdfast.core.query import asc
from holdfast.core.values import Kind, Vector

OPERATION_DAYS: Final = 7
"""How long operation ids are remembered."""
SEARCH_EXTENSIONS: Final = (
    "pg_search",
    "pg_textsearch",
    "pg_tokenizer",
    "vchord",
    "vchord_bm25",
    "vectorscale",
)
"""Other indexes for vectors and BM25: named in the facts of health, and not used."""
HEALTH_SECONDS: Final = 3.0
"""How long health waits for the server."""

_EVERY_TENANT: Final = "SELECT set_config('holdfast.every_tenant', 'on', true)"
_ONE_TENANT: Final = f"SELECT set_config('holdfast.tenant', {MARK}, true)"


@dataclass(frozen=True)
class Desk:
    """What maintenance works with."""

    pool: Pool
    transactions: Transactions
    planner: Planner
    dialect: PostgresDialect
    clock: Clock
    engine: Engine

    def table(self, name: str) -> str:
        """One of the engine's own tables."""
        return f"{self.dialect.schema}.{name}"


# --- expiry


def sweep(desk: Desk, *, now: datetime, limit: int | None = None) -> Report:
    """Delete records whose ttl is before ``now``, and operation ids past their days.

    ``limit`` bounds the records of each collection and tenant, the longest expired first.
    """
    counts: dict[str, int] = {}
    for collection in desk.planner.collections.values():
        if collection.ttl is None:
            continue
        expired = DeleteWhere(collection.name, lt(collection.ttl, now), limit, asc(collection.ttl))
        counts[collection.name] = 0
        where = f"{desk.dialect.table(collection)} WHERE {quoted(collection.ttl)} < {MARK}"
        for tenant in _tenants(desk, where, now):
            done = desk.transactions.apply(Operation(tenant, [expired], None, b""))
            counts[collection.name] += done[0].count
    oldest = desk.clock.now() - timedelta(days=OPERATION_DAYS)
    where = f"{desk.table('holdfast_operations')} WHERE at < {MARK}"
    for tenant in _tenants(desk, where, oldest):
        delete = (f"DELETE FROM {where} AND tenant = {MARK}", [oldest, tenant])
        with desk.pool.wire() as wire:
            wire.run([(_ONE_TENANT, [tenant]), delete])
    return Report("sweep", True, counts)


def _tenants(desk: Desk, where: str, before: datetime) -> list[str]:
    with desk.pool.wire() as wire:
        asked = (f"SELECT DISTINCT tenant FROM {where}", [before])
        return [row[0] for row in wire.rows(wire.run([(_EVERY_TENANT, ()), asked])[1])]


# --- followers


def follow(desk: Desk, *, follower: str) -> Report:
    """Start a feed at the journal's present end; where it stands, if it was there already."""
    followers, journal = desk.table("holdfast_followers"), desk.table("holdfast_journal")
    schema = desk.pool.target.options.schema
    add = (
        f"INSERT INTO {followers} SELECT {MARK}, CASE WHEN is_called THEN last_value ELSE 0 END"
        f" FROM {journal}_position_seq ON CONFLICT DO NOTHING"
    )
    found = f"SELECT position FROM {followers} WHERE name = {MARK}"
    with desk.pool.wire() as wire:
        # Behind the commits under way, so that what they tell comes before this place.
        lock = f"SELECT pg_advisory_xact_lock({lock_number(schema, 'journal')})"
        results = wire.run([(lock, ()), (add, [follower]), (found, [follower])])
        stands = wire.rows(results[2])[0][0]
        # Whoever began to write before this follower was there has ended when this returns.
        wire.run([(f"SELECT pg_advisory_xact_lock({lock_number(schema, 'writers')})", ())])
    return Report("follow", True, {"position": stands})


def unfollow(desk: Desk, *, follower: str) -> Report:
    """Stop a feed; without any, the journal is emptied and off."""
    text = f"DELETE FROM {desk.table('holdfast_followers')} WHERE name = {MARK}"
    with desk.pool.wire() as wire:
        wire.run([(text, [follower])])
        dropped = _drop_passed(desk, wire)
    return Report("unfollow", True, {"dropped": dropped})


def trim(desk: Desk, *, follower: str, position: int) -> Report:
    """Remember how far a follower is, and drop what all have passed."""
    text = f"UPDATE {desk.table('holdfast_followers')} SET position = {MARK} WHERE name = {MARK}"
    with desk.pool.wire() as wire:
        if not wire.run([(text, [position, follower])])[0].command_tuples:
            raise NotFound("There is no such follower.", hint="Register it first.")
        dropped = _drop_passed(desk, wire)
    return Report("trim", True, {"dropped": dropped})


def _drop_passed(desk: Desk, wire: Wire) -> int:
    journal = desk.table("holdfast_journal")
    passed = (
        f"position <= (SELECT coalesce(min(position), 9223372036854775807)"
        f" FROM {desk.table('holdfast_followers')})"
    )
    listed = (f"SELECT DISTINCT tenant FROM {journal} WHERE {passed}", ())
    tenants = [row[0] for row in wire.rows(wire.run([(_EVERY_TENANT, ()), listed])[1])]
    dropped = 0
    for tenant in tenants:
        delete = (f"DELETE FROM {journal} WHERE tenant = {MARK} AND {passed}", [tenant])
        dropped += wire.run([(_ONE_TENANT, [tenant]), delete])[1].command_tuples or 0
    return dropped


def feed(desk: Desk, wire: Wire, *, follower: str, after: int, limit: int) -> list[FeedEntry]:
    """Entries after a position; they are seen in the order of their commits."""
    known = f"SELECT FROM {desk.table('holdfast_followers')} WHERE name = {MARK}"
    entries = (
        "SELECT position, tenant, collection, key, revision, record, vectors, at, op_id"
        f" FROM {desk.table('holdfast_journal')} WHERE position > {MARK}"
        f" ORDER BY position LIMIT {MARK}"
    )
    commands = [(_EVERY_TENANT, ()), (known, [follower]), (entries, [after, limit])]
    results = wire.run(commands)
    if not results[1].ntuples:
        raise NotFound("There is no such follower.", hint="Register it first.")
    return [_entry(desk, row) for row in wire.rows(results[2])]


def _entry(desk: Desk, row: tuple[Any, ...]) -> FeedEntry:
    place, tenant, name, key, revision, told, vectors, at, op_id = row
    collection = desk.planner.collections[name]
    kinds = {f.name: f.kind for f in collection.fields}
    record: Record | None = None
    if told is not None:
        record = {n: _told(kind, told[n]) for n, kind in kinds.items()}
        record[REVISION] = revision
        for field in collection.vectors:
            held = vectors[field]
            record[field] = None if held is None else _told_vector(*held)
    values = [_told(kinds[n], value) for n, value in zip(collection.key, key, strict=True)]
    return FeedEntry(place, tenant, name, tuple(values), revision, record, at, op_id)


def _told(kind: Kind, value: Any) -> Any:
    """A value in the journal's JSON, as its kind is kept."""
    if value is None:
        return None
    read = _TOLD.get(kind)
    return value if read is None else read(value)


_TOLD: Final[dict[Kind, Callable[[Any], Any]]] = {
    "time": lambda value: msgspec.convert(value, datetime).astimezone(UTC),
    "float": float,
    "bytes": lambda value: bytes.fromhex(value[2:]),
}


def _told_vector(space: str, data: str) -> Vector:
    if data.startswith("\\x"):
        return Vector(space, bytes.fromhex(data[2:]))
    return Vector(space, numpy.array(msgspec.json.decode(data), "<f4").tobytes())


# --- the server's own upkeep


def analyze(desk: Desk) -> Report:
    """Refresh what the query planner knows of the data."""
    return _tables(desk, "analyze", "ANALYZE")


def vacuum(desk: Desk) -> Report:
    """Make unused space usable again, beside other writers."""
    return _tables(desk, "vacuum", "VACUUM (ANALYZE)")


def reindex(desk: Desk) -> Report:
    """Pack fresh texts, build every index anew from its table, and then the graphs that are due."""
    counts = {"packed": _pack(desk)}
    report = _tables(desk, "reindex", "REINDEX TABLE CONCURRENTLY", together=False)
    if desk.engine.vectors:
        counts |= graphs.build(desk, desk.engine.vectors, desk.engine.options.graph_rows)
    return msgspec.structs.replace(report, counts={**report.counts, **counts})


def _pack(desk: Desk) -> int:
    """Pack the fresh texts of every tenant that has many; how often that was."""
    count = 0
    for collection in desk.planner.collections.values():
        if not collection.full_text:
            continue
        table = terms_table(desk.dialect, collection)
        text = f"SELECT tenant FROM {table} GROUP BY 1 HAVING count(*) >= {MARK} ORDER BY 1"
        limit = desk.engine.packer.tail_rows
        with desk.pool.wire() as wire:
            rows = wire.rows(wire.run([(_EVERY_TENANT, ()), (text, [limit])])[1])
        packed = sum(desk.engine.packer.run(collection, tenant) for (tenant,) in rows)
        if packed:
            with desk.pool.wire() as wire:
                allowed = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = "
                asked = (f"{allowed}to_regclass({MARK})", [table])
                if wire.rows(wire.run([asked])[0])[0][0]:
                    wire.script(f"VACUUM {table}")  # gives back the room that the texts took
        count += packed
    return count


def _tables(desk: Desk, task: Task, word: str, *, together: bool = True) -> Report:
    """Run a statement on the tables that this role may maintain; the others are told."""
    text = (
        "SELECT c.relname::text, pg_has_role(c.relowner, 'USAGE') OR CASE"
        " WHEN current_setting('server_version_num')::int >= 170000"
        " THEN has_table_privilege(c.oid, 'MAINTAIN') ELSE FALSE END"
        " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        f" WHERE n.nspname = {MARK} AND c.relkind = 'r' ORDER BY 1"
    )
    with desk.pool.wire() as wire:
        rows = wire.rows(wire.run([(text, [desk.pool.target.options.schema])])[0])
        names = [desk.table(quoted(name)) for name, allowed in rows if allowed]
        for listed in [", ".join(names)] if together and names else names:
            wire.script(f"{word} {listed}")
    skipped = len(rows) - len(names)
    findings = []
    if skipped:
        findings.append(f"{skipped} tables belong to another role: connect as the store's owner.")
    return Report(task, not skipped, {"tables": len(names), "skipped": skipped}, findings)


def integrity(desk: Desk) -> Report:
    """Read every record, and compare what was derived from it."""
    counts: dict[str, int] = {}
    findings: list[str] = []
    with desk.pool.wire() as wire:
        wire.run([("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", ()), (_EVERY_TENANT, ())])
        for collection in desk.planner.collections.values():
            counts[collection.name] = _check_rows(desk, wire, collection, findings)
        findings.extend(
            f"{name}: {count} rows belong to no record"
            for name, count in orphans(desk, wire).items()
            if count
        )
        wire.run([("COMMIT", ())])
    return Report("integrity", not findings, counts, findings)


def _check_rows(desk: Desk, wire: Wire, collection: Collection, findings: list[str]) -> int:
    columns = desk.planner.columns(collection.name)
    table = desk.dialect.table(collection)
    text = f"SELECT {columns.listed} FROM {table} AS t0"
    texts = _Texts(desk, wire, collection) if collection.full_text else None
    if texts is not None:
        same, packed = (
            " AND ".join(f"{a}.{n} = t0.{n}" for n in ("tenant", *map(quoted, collection.key)))
            for a in ("k", "p")
        )
        text = (
            f"SELECT {columns.listed}, t0.tenant, p.stamp, k.length, k.terms, k.counts FROM {table}"
            f" AS t0 LEFT JOIN {terms_table(desk.dialect, collection)} AS k ON {same} LEFT JOIN"
            f" {packed_table(desk.dialect, collection)} AS p ON {packed} ORDER BY t0.tenant"
        )
    wire.run([(f"DECLARE holdfast_rows NO SCROLL CURSOR FOR {text}", ())])
    count = 0
    while True:
        result = wire.run([("FETCH 1000 FROM holdfast_rows", ())])[0]
        try:
            rows = wire.rows(result)
        except Corrupt as error:
            findings.append(f"{collection.name}: {error.message}")
            rows = []
        for row in rows:
            _check_row(collection, columns.decode, row, texts, findings)
        count += result.ntuples
        if not result.ntuples:
            break
    wire.run([("CLOSE holdfast_rows", ())])
    return count


class _Texts:
    """What the index holds of records that are read in the order of their tenants."""

    def __init__(self, desk: Desk, wire: Wire, collection: Collection) -> None:
        self._place = wire, desk.dialect, collection
        self._tenant = ""
        self._held: Any = None

    def is_as(self, packed: tuple[int, bytes, bytes] | None, row: tuple[Any, ...]) -> bool:
        """Whether the index holds just this of the record in ``row``: fresh, or in a segment."""
        from holdfast.backends.postgres.packing import Held, unpacked

        tenant, stamp, length, hashes, counts = row[-5:]
        found = None if length is None else unpacked(length, hashes, counts)
        if stamp is not None:
            if self._held is None or self._tenant != tenant:
                self._held, self._tenant = Held(*self._place, tenant), tenant
            if found is not None:
                return False
            found = self._held.get(stamp)
            if found is None:
                return False
        return found == (None if packed is None else unpacked(*packed))


def _check_row(
    collection: Collection,
    decode: Any,
    row: tuple[Any, ...],
    texts: _Texts | None,
    findings: list[str],
) -> None:
    try:
        record = decoded(collection, decode, row)
    except Corrupt as error:
        findings.append(error.message)
        return
    if texts is not None and not texts.is_as(pack(collection, record), row):
        key = collection.key_of(record)
        findings.append(f"{collection.name}: the text index differs from record {key}")


def derive_terms(desk: Desk, wire: Wire, collection: Collection) -> None:
    """Analyse all text of a collection anew, inside the caller's transaction."""
    columns = desk.planner.columns(collection.name)
    text = f"SELECT {columns.listed}, t0.tenant FROM {desk.dialect.table(collection)} AS t0"
    rows = wire.rows(wire.run([(_EVERY_TENANT, ()), (text, ())])[1])
    for row in rows:
        record = decoded(collection, columns.decode, row)
        place = [row[-1], *columns.encode_key(collection.key_of(record))]
        stored = store_terms(desk.dialect, collection, place, record, fresh=False)
        wire.run([(_ONE_TENANT, [row[-1]]), *stored])


def health(desk: Desk, name: str, durability: str) -> Health:
    """Facts about the server; a reason instead of an error."""
    target = desk.pool.target
    facts: dict[str, Any] = {
        "server": target.described(),
        "schema": target.options.schema,
        "durability": durability,
        **desk.pool.counts(),
    }
    text = (
        "SELECT current_setting('server_version'), current_setting('synchronous_commit'),"
        " pg_is_in_recovery(), (SELECT extversion FROM pg_extension WHERE extname = 'vector'),"
        " (SELECT array_agg(extname::text || ' ' || extversion ORDER BY extname) FROM pg_extension"
        f" WHERE extname = ANY({MARK}))"
    )
    try:
        with desk.pool.wire() as wire:
            asked = (text, [list(SEARCH_EXTENSIONS)])
            row = wire.rows(wire.run([asked], seconds=HEALTH_SECONDS)[0])[0]
    except (HoldfastError, ConnectionLost, StatementFailed) as error:
        return Health(False, name, mapped(error).message, facts)
    version, synchronous, replica, extension, others = row
    facts |= {"postgresql": version, "synchronous_commit": synchronous, "replica": replica}
    facts["pgvector"] = extension or "none"
    facts["search_extensions"] = ", ".join(others or ()) or "none"
    facts["packing_error"] = desk.engine.packer.last_error
    return Health(True, name, facts=facts)


TASKS: Final[dict[Task, Callable[..., Report]]] = {
    "sweep": sweep,
    "analyze": analyze,
    "vacuum": vacuum,
    "reindex": reindex,
    "integrity": integrity,
    "follow": follow,
    "unfollow": unfollow,
    "trim": trim,
}
