"""Graphs are built where some tenant has grown big, and dropped with their space."""

from __future__ import annotations

from typing import Any, Final

from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.dialect import literal
from holdfast.backends.postgres.functions import EVERY_TENANT, lock_number
from holdfast.backends.postgres.graphs import GRAPH_WIDTH_LIMIT, direction, graph_name, graph_prefix
from holdfast.backends.postgres.internals import Internals
from holdfast.backends.postgres.names import vector_table
from holdfast.backends.postgres.wire import Wire
from holdfast.backends.sql.dialect import quoted
from holdfast.core.collection import Collection

_CONNECTIONS: Final = 16
_CONSTRUCTION: Final = 128
"""With 64, some vectors of a hundred thousand in clusters could not be reached at all, however wide
a search went; building takes about twice as long with this."""


_ROOM: Final = (
    "SELECT set_config('max_parallel_maintenance_workers', '0', false),"
    " set_config('maintenance_work_mem', greatest(268435456,"
    " pg_size_bytes(current_setting('maintenance_work_mem'))) / 1024 || 'kB', false)"
)
"""A graph is built far faster where it fits into memory. Workers would ask for as much shared
memory, of which a container may have little."""


def build(internals: Internals, vectors: str, graph_rows: int) -> dict[str, int]:
    """Build the graphs that are missing and drop those of spaces that are no more.

    One process at a time; another one finds nothing to do. The connection is the owner's.
    """
    counts = {"graphs_built": 0, "graphs_dropped": 0}
    claim = lock_number(internals.pool.target.options.schema, "graphs")
    # Held by a transaction that reads nothing, for which no build waits; a session's lock would be
    # another client's behind a pooler.
    holding, building = internals.pool.connect(), internals.pool.connect()
    try:
        holding.run([("BEGIN ISOLATION LEVEL READ COMMITTED", ())])
        taken = holding.run([(f"SELECT pg_try_advisory_xact_lock({claim})", ())])[0]
        # Takes the place of the portal of that answer, whose snapshot every build would wait for.
        holding.script("SELECT")
        if holding.rows(taken)[0][0]:
            for collection in internals.planner.collections.values():
                for field in collection.vectors:
                    _tend(internals, building, collection, field, vectors, graph_rows, counts)
    finally:
        building.close()
        holding.close()
    return counts


def _tend(
    internals: Internals,
    wire: Wire,
    collection: Collection,
    field: str,
    vectors: str,
    graph_rows: int,
    counts: dict[str, int],
) -> None:
    table = vector_table(internals.dialect, collection, field)
    owned = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass($?)"
    if not wire.rows(wire.run([(owned, [table])])[0])[0][0]:
        return
    wanted = {}
    for space, width in _kinds(wire, table, vectors, graph_rows):
        wanted[graph_name(internals.dialect, collection, field, space, width)] = space, width
    held = _held(internals, wire, collection, field)
    for name, (space, valid) in held.items():
        # A broken one is of a build that died: nobody else builds now.
        if not valid or not _has_space(wire, table, space):
            wire.script(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            counts["graphs_dropped"] += 1
    for name, (space, width) in wanted.items():
        if name in held and held[name][1]:
            continue
        wire.run([(_ROOM, ())])
        bare = name.partition(".")[2]
        # The space as a comment, by which an index is known to be of no use any more.
        wire.script(
            f"CREATE INDEX CONCURRENTLY {bare} ON {table} USING hnsw"
            f" ({direction(vectors, 'data', width)} {quoted(vectors)}.halfvec_cosine_ops)"
            f" WITH (m = {_CONNECTIONS}, ef_construction = {_CONSTRUCTION})"
            f" WHERE space = {literal(space)} AND {quoted(vectors)}.vector_dims(data) = {width}"
            " AND NOT extreme"
        )
        wire.script(f"COMMENT ON INDEX {name} IS {literal(space)}")
        counts["graphs_built"] += 1


def _kinds(wire: Wire, table: str, vectors: str, graph_rows: int) -> list[tuple[str, int]]:
    """Spaces in which a tenant has many vectors, and their widths."""
    text = (
        f"SELECT DISTINCT big.space, {quoted(vectors)}.vector_dims(one.data) FROM"
        f" (SELECT tenant, space FROM {table} GROUP BY 1, 2 HAVING count(*) >= {MARK}) AS big,"
        f" LATERAL (SELECT data FROM {table} AS v WHERE v.tenant = big.tenant"
        " AND v.space = big.space LIMIT 1) AS one ORDER BY 1, 2"
    )
    rows = wire.rows(wire.run([(EVERY_TENANT, ()), (text, [graph_rows])])[1])
    return [(space, width) for space, width in rows if width <= GRAPH_WIDTH_LIMIT]


def _held(
    internals: Internals, wire: Wire, collection: Collection, field: str
) -> dict[str, tuple[str, bool]]:
    """Graphs by name: the space of each, and whether it is complete."""
    prefix = graph_prefix(collection, field)
    text = (
        "SELECT c.relname::text, coalesce(obj_description(c.oid, 'pg_class'), ''), i.indisvalid"
        " FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid"
        f" JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = {MARK}"
        f" AND left(c.relname::text, {len(prefix)}) = {MARK} ORDER BY 1"
    )
    values: list[Any] = [internals.pool.target.options.schema, prefix]
    rows = wire.rows(wire.run([(text, values)])[0])
    return {internals.table(quoted(name)): (space, valid) for name, space, valid in rows}


def _has_space(wire: Wire, table: str, space: str) -> bool:
    # An uncommented one is of a build that died just before its comment; it is kept.
    if not space:
        return True
    text = f"SELECT EXISTS (SELECT FROM {table} WHERE space = {MARK})"
    return bool(wire.rows(wire.run([(EVERY_TENANT, ()), (text, [space])])[1])[0][0])
