"""Upkeep of a store: sweep, integrity, statistics, followers and their feed, health."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from holdfast.backends.postgres import graph_building
from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.errors import mapped
from holdfast.backends.postgres.followers import follow, trim, unfollow
from holdfast.backends.postgres.functions import EVERY_TENANT, ONE_TENANT
from holdfast.backends.postgres.integrity import integrity
from holdfast.backends.postgres.internals import Internals
from holdfast.backends.postgres.names import terms_table
from holdfast.backends.postgres.transactions import Operation
from holdfast.backends.postgres.wire import ConnectionLost, StatementFailed
from holdfast.backends.sql.dialect import quoted
from holdfast.core.change import DeleteWhere
from holdfast.core.clock import shifted
from holdfast.core.driver import Health, Report, Task
from holdfast.core.errors import HoldfastError
from holdfast.core.filter import lt
from holdfast.core.query import asc

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

# --- expiry


def sweep(internals: Internals, *, now: datetime, limit: int | None = None) -> Report:
    """Delete records whose ttl is before ``now``, and operation ids past their days.

    ``limit`` bounds the records of each collection and tenant, the longest expired first.
    """
    counts: dict[str, int] = {}
    for collection in internals.planner.collections.values():
        if collection.ttl is None:
            continue
        expired = DeleteWhere(collection.name, lt(collection.ttl, now), limit, asc(collection.ttl))
        counts[collection.name] = 0
        where = f"{internals.dialect.table(collection)} WHERE {quoted(collection.ttl)} < {MARK}"
        for tenant in _tenants(internals, where, now):
            done = internals.transactions.apply(Operation(tenant, [expired], None, b""))
            counts[collection.name] += done[0].count
    oldest = shifted(internals.clock.now(), -timedelta(days=OPERATION_DAYS))
    where = f"{internals.table('holdfast_operations')} WHERE at < {MARK}"
    for tenant in _tenants(internals, where, oldest):
        delete = (f"DELETE FROM {where} AND tenant = {MARK}", [oldest, tenant])
        with internals.pool.wire() as wire:
            wire.run([(ONE_TENANT, [tenant]), delete])
    return Report("sweep", True, counts)


def _tenants(internals: Internals, where: str, before: datetime) -> list[str]:
    with internals.pool.wire() as wire:
        asked = (f"SELECT DISTINCT tenant FROM {where}", [before])
        return [row[0] for row in wire.rows(wire.run([(EVERY_TENANT, ()), asked])[1])]


# --- the server's own upkeep


def analyze(internals: Internals) -> Report:
    """Refresh what the query planner knows of the data."""
    return _tables(internals, "analyze", "ANALYZE")


def vacuum(internals: Internals) -> Report:
    """Make unused space usable again, beside other writers."""
    return _tables(internals, "vacuum", "VACUUM (ANALYZE)")


def reindex(internals: Internals) -> Report:
    """Pack fresh texts, build every index anew from its table, and then the graphs that are due."""
    counts = {"packed": _pack(internals)}
    report = _tables(internals, "reindex", "REINDEX TABLE CONCURRENTLY", together=False)
    if internals.engine.vectors:
        counts |= graph_building.build(
            internals, internals.engine.vectors, internals.engine.options.graph_rows
        )
    return msgspec.structs.replace(report, counts={**report.counts, **counts})


def _pack(internals: Internals) -> int:
    """Pack the fresh texts of every tenant that has many; how often that was."""
    count = 0
    for collection in internals.planner.collections.values():
        if not collection.full_text:
            continue
        table = terms_table(internals.dialect, collection)
        text = f"SELECT tenant FROM {table} GROUP BY 1 HAVING count(*) >= {MARK} ORDER BY 1"
        limit = internals.engine.packer.tail_rows
        with internals.pool.wire() as wire:
            rows = wire.rows(wire.run([(EVERY_TENANT, ()), (text, [limit])])[1])
        packed = sum(internals.engine.packer.run(collection, tenant) for (tenant,) in rows)
        if packed:
            with internals.pool.wire() as wire:
                allowed = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = "
                asked = (f"{allowed}to_regclass({MARK})", [table])
                if wire.rows(wire.run([asked])[0])[0][0]:
                    wire.script(f"VACUUM {table}")  # gives back the room that the texts took
        count += packed
    return count


def _tables(internals: Internals, task: Task, word: str, *, together: bool = True) -> Report:
    """Run a statement on the tables that this role may maintain; the others are told."""
    text = (
        "SELECT c.relname::text, pg_has_role(c.relowner, 'USAGE') OR CASE"
        " WHEN current_setting('server_version_num')::int >= 170000"
        " THEN has_table_privilege(c.oid, 'MAINTAIN') ELSE FALSE END"
        " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        f" WHERE n.nspname = {MARK} AND c.relkind = 'r' ORDER BY 1"
    )
    with internals.pool.wire() as wire:
        rows = wire.rows(wire.run([(text, [internals.pool.target.options.schema])])[0])
        names = [internals.table(quoted(name)) for name, allowed in rows if allowed]
        for listed in [", ".join(names)] if together and names else names:
            wire.script(f"{word} {listed}")
    skipped = len(rows) - len(names)
    findings = []
    if skipped:
        findings.append(f"{skipped} tables belong to another role: connect as the store's owner.")
    return Report(task, not skipped, {"tables": len(names), "skipped": skipped}, findings)


def health(internals: Internals, name: str, durability: str) -> Health:
    """Facts about the server; a reason instead of an error."""
    target = internals.pool.target
    facts: dict[str, Any] = {
        "server": target.described(),
        "schema": target.options.schema,
        "durability": durability,
        **internals.pool.counts(),
    }
    text = (
        "SELECT current_setting('server_version'), current_setting('synchronous_commit'),"
        " pg_is_in_recovery(), (SELECT extversion FROM pg_extension WHERE extname = 'vector'),"
        " (SELECT array_agg(extname::text || ' ' || extversion ORDER BY extname) FROM pg_extension"
        f" WHERE extname = ANY({MARK}))"
    )
    try:
        with internals.pool.wire() as wire:
            asked = (text, [list(SEARCH_EXTENSIONS)])
            row = wire.rows(wire.run([asked], seconds=HEALTH_SECONDS)[0])[0]
    except (HoldfastError, ConnectionLost, StatementFailed) as error:
        return Health(False, name, mapped(error).message, facts)
    version, synchronous, replica, extension, others = row
    facts |= {"postgresql": version, "synchronous_commit": synchronous, "replica": replica}
    facts["pgvector"] = extension or "none"
    facts["search_extensions"] = ", ".join(others or ()) or "none"
    facts["packing_error"] = internals.engine.packer.last_error
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
