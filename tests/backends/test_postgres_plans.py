"""How PostgreSQL finds what a collection declares an index for: as the application, by that index.

Tables are empty here and an empty table is best read whole, so reading whole and sorting are made
dear: what is left to see is whether the index can give what is asked, under row security, in order.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from holdfast.backends.postgres import PostgresDriver
from holdfast.core.clock import SystemClock
from holdfast.core.collection import Collection, Index
from holdfast.core.filter import Compare, Filter, both
from holdfast.core.query import Order, Query, asc, desc
from holdfast.storage import all_collections
from holdfast.testing.postgres import PostgresHarness
from holdfast.testing.shapes import NOON, PAIRS, PARENTS

SAMPLES: dict[str, Any] = {"text": "x", "int": 1, "float": 1.0, "bool": True, "time": NOON}
DECLARED = [
    pytest.param(collection, index, id=f"{collection.name}-{'-'.join(index.fields)}")
    for collection in all_collections()
    for index in collection.indexes
]


@pytest.fixture(scope="module")
def driver() -> Iterator[PostgresDriver]:
    harness = PostgresHarness(new=False)
    opened: Any = harness.open(SystemClock())
    opened.setup([*all_collections(), PAIRS, PARENTS])
    yield opened.below
    opened.close()
    harness.close()


def plan(driver: PostgresDriver, query: Query) -> str:
    text, values = driver._planner.query("t", query)
    dear = ", ".join(
        f"set_config('enable_{way}', 'off', true)" for way in ("seqscan", "bitmapscan", "sort")
    )
    with driver._pool.wire() as wire:
        begun = [("BEGIN", ()), (driver._bind_tenant, ("t",)), (f"SELECT {dear}", ())]
        rows = wire.rows(wire.run([*begun, (f"EXPLAIN (COSTS OFF) {text}", values)])[-1])
        wire.run([("ROLLBACK", ())])
    return "\n".join(row[0] for row in rows)


def shape(collection: Collection, index: Index) -> Query:
    """The first field of an index by value and the others as the order; of one, the order alone."""
    ordered = index.fields[1:] or index.fields
    fixed = index.fields[: len(index.fields) - len(ordered)]
    parts: list[Filter] = [
        Compare(name, "eq", SAMPLES[collection.by_name[name].kind]) for name in fixed
    ]
    where = both(*parts, index.where)
    return Query(collection=collection.name, filter=where, order=desc(*ordered), limit=20)


@pytest.mark.parametrize(("collection", "index"), DECLARED)
def test_each_declared_shape_is_served_by_an_index_in_order(
    driver: PostgresDriver, collection: Collection, index: Index
) -> None:
    found = plan(driver, shape(collection, index))
    assert "Index Cond: (" in found
    assert "tenant = 't'" in found[found.index("Index Cond: (") :].splitlines()[0]
    sorts = [line.strip(" ->") for line in found.splitlines() if line.endswith("Sort")]
    assert set(sorts) <= {"Incremental Sort"}, found  # of those that tie but for their key


@pytest.mark.parametrize("order", [asc("room", "number"), desc("room", "number")])
def test_a_page_by_key_is_read_in_order_either_way(
    driver: PostgresDriver, order: tuple[Order, ...]
) -> None:
    query = Query(collection=PAIRS.name, order=order, limit=20, after=("r", 1))
    found = plan(driver, query)
    assert "Index Cond: ((tenant = " in found
    assert "ROW(room, number)" in found
    assert "Sort" not in found


def test_saboteur_an_order_that_no_index_has_is_seen_to_be_sorted(driver: PostgresDriver) -> None:
    query = Query(collection=PARENTS.name, order=desc("name"), limit=20)
    assert "Sort" in plan(driver, query)
