"""By which index the server finds what a collection declares an index for.

A table that is nearly empty is best read whole, and would show no index, however right it is. So
below some thousand rows reading whole and sorting are made dear, and the answer is whether an index
can give what is asked; above, it is whether the planner takes one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.wire import Command, Wire
from holdfast.core.collection import Collection, Index
from holdfast.core.filter import Compare, Filter, both
from holdfast.core.query import Query, desc

if TYPE_CHECKING:
    from holdfast.backends.postgres.internals import Internals

LARGE: Final = 20_000
"""From this many rows on the planner is left to choose."""

_SAMPLES: Final[dict[str, Any]] = {
    "text": "x",
    "int": 1,
    "float": 1.0,
    "bool": True,
    "time": datetime(2026, 1, 1, tzinfo=UTC),
}
_DEAR: Final = "SELECT " + ", ".join(
    f"set_config('enable_{way}', 'off', true)" for way in ("seqscan", "bitmapscan", "sort")
)
_INDEX: Final = re.compile(r"Index (?:Only )?Scan (?:Backward )?using (\S+)")
_BITMAP: Final = re.compile(r"Bitmap Index Scan on (\S+)")


def planned(internals: Internals, wire: Wire, collections: Sequence[Collection]) -> dict[str, str]:
    """By shape of query: the index that serves it, or an empty text where none does."""
    large = _large(internals, wire)
    asked: list[tuple[str, Collection, str, list[Any]]] = []
    for collection in collections:
        if collection.name in large:
            key = [_SAMPLES[collection.by_name[name].kind] for name in collection.key]
            text = internals.planner.get(collection.name, "")
            asked.append((f"{collection.name} by its key", collection, text, ["t", *key]))
        for index in collection.indexes:
            if all(collection.by_name[name].kind in _SAMPLES for name in index.fields):
                said, values = internals.planner.query("t", shape(collection, index))
                name = f"{collection.name} by {', '.join(index.fields)}"
                asked.append((name, collection, said, list(values)))
    served = {}
    for name, collection, text, values in asked:
        commands: list[Command] = [
            ("BEGIN", ()),
            (f"SELECT set_config('holdfast.tenant', {MARK}, true)", ["t"]),
            *([] if collection.name in large else [(_DEAR, ())]),
            (f"EXPLAIN (COSTS OFF) {text}", values),
            ("ROLLBACK", ()),
        ]
        lines = [row[0] for row in wire.rows(wire.run(commands)[-2])]
        served[name] = index_in("\n".join(lines))
    return served


def shape(collection: Collection, index: Index) -> Query:
    """The first field of an index by value and the others as the order; of one, the order alone."""
    ordered = index.fields[1:] or index.fields
    fixed = index.fields[: len(index.fields) - len(ordered)]
    parts: list[Filter] = [
        Compare(name, "eq", _SAMPLES[collection.by_name[name].kind]) for name in fixed
    ]
    where = both(*parts, index.where)
    return Query(collection=collection.name, filter=where, order=desc(*ordered), limit=20)


def index_in(plan: str) -> str:
    """The index that a plan goes by; empty where it reads a table whole, or sorts all of it."""
    if any(line.strip(" ->") == "Sort" for line in plan.splitlines()):
        return ""
    found = _INDEX.search(plan) or _BITMAP.search(plan)
    return found[1].strip('"') if found and "Index Cond: (" in plan else ""


def _large(internals: Internals, wire: Wire) -> set[str]:
    text = (
        "SELECT c.relname::text FROM pg_class AS c JOIN pg_namespace AS n"
        f" ON n.oid = c.relnamespace WHERE n.nspname = {MARK} AND c.reltuples >= {LARGE}"
    )
    schema = internals.pool.target.options.schema
    return {row[0] for row in wire.rows(wire.run([(text, [schema])])[0])}
