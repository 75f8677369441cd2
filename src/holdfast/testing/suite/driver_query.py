"""Filters, orders, pages and aggregates against plain counting: B21-B25."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.change import Delete, DeleteWhere, Edit, PatchWhere, When
from holdfast.core.change import Patch as PatchOne
from holdfast.core.driver import Driver
from holdfast.core.errors import Conflict, Invalid
from holdfast.core.filter import (
    EVERYTHING,
    Compare,
    Contains,
    Filter,
    In,
    InSelect,
    IsNull,
    JsonExists,
    JsonPath,
    Not,
    Or,
    Prefix,
    Record,
    eq,
    ge,
    lt,
)
from holdfast.core.query import Aggregate, Bucket, Measure, Order, Query, asc, desc
from holdfast.testing.harness import Harness
from holdfast.testing.shapes import NOON, PAIRS, SHAPES, THINGS, put, thing
from holdfast.testing.strategies import FACTOR, examples, filters, leaves, paired, populated
from holdfast.testing.threads import at_once

PEOPLE = 45


def _fill(driver: Driver, harness: Harness, records: list[Record]) -> list[Record]:
    """Write half of the records by the driver and half behind its back; as stored."""
    driver.setup(SHAPES)
    half = len(records) // 2
    driver.apply("t", [put(THINGS, record) for record in records[:half]])
    stored = [{**record, "revision": 1} for record in records]
    for record in stored[half:]:
        harness.plant(THINGS, "t", record)
    return stored


def _ids(driver: Driver, where: Filter) -> list[str]:
    query = Query(collection=THINGS.name, filter=where)
    return [record["id"] for record in driver.query("t", query).records]


class TestDriverFilters:
    def test_b21_query_selects_what_the_filters_truth_selects(
        self, driver: Driver, harness: Harness
    ) -> None:
        for world in range(FACTOR):
            pairs = paired(world, 30)
            stored = _fill(driver, harness, populated(world, PEOPLE))
            driver.apply("t", [put(PAIRS, pair) for pair in pairs])
            check = _agreement(driver, stored, pairs)
            examples(120)(given(leaves())(check))()
            examples(120)(given(filters())(check))()
            driver.apply("t", [DeleteWhere(c.name, EVERYTHING) for c in (THINGS, PAIRS)])

    def test_b21_filters_select_alike_in_every_verb(self, driver: Driver, harness: Harness) -> None:
        stored = _fill(driver, harness, populated(7, 20))

        @examples(25)
        @given(filters())
        def check(where: Filter) -> None:
            found = set(_ids(driver, where))
            assert driver.aggregate("t", Aggregate(collection=THINGS.name, filter=where)) == [
                {"count": len(found)}
            ]
            touch = Edit(increment={"count": 0})
            assert driver.apply("t", [PatchWhere(THINGS.name, EVERYTHING, touch)])[0].count == 20
            fits = When(where)
            for record in stored[::5]:
                holds = record["id"] in set(_ids(driver, where))
                change = PatchOne(THINGS.name, (record["id"],), touch, fits)
                if holds:
                    driver.apply("t", [change])
                else:
                    with pytest.raises(Conflict):
                        driver.apply("t", [change])

        # Sums beyond 64 bits are another case's subject.
        driver.apply("t", [PatchWhere(THINGS.name, EVERYTHING, Edit(set={"count": 1}))])
        check()

    @pytest.mark.parametrize("where, expected", [
        (eq("note", "a"), "b"),
        (eq("note", None), "a"),
        (Compare("note", "ne", "a"), "ac"),
        (Not(Compare("note", "ne", "a")), "b"),
        (Not(eq("note", "a")), "ac"),
        (lt("maybe_count", 5), "b"),
        (Not(lt("maybe_count", 5)), "ac"),
        (ge("maybe_count", 5), "c"),
        (In("note", ("a", "A")), "bc"),
        (In("note", ()), ""),
        (Not(In("note", ("a",))), "ac"),
        (IsNull("maybe_data"), "a"),
        (Prefix("name", "x"), "abc"),
        (Prefix("name", "x%"), "b"),
        (Prefix("name", "x_"), "c"),
        (Prefix("name", "X"), ""),
        (Prefix("note", ""), "bc"),
        (Contains("tags", ("p", "q")), "b"),
        (Contains("tags", ("p", "q"), "any"), "bc"),
        (Contains("tags", ()), "abc"),
        (Contains("tags", (), "any"), ""),
        (Contains("maybe_tags", ("p",)), ""),
        (JsonPath("data", ("n",), "eq", 1), "b"),
        (JsonPath("data", ("n",), "eq", True), "c"),
        (JsonPath("data", ("n",), "eq", "1"), "a"),
        (JsonPath("data", ("n",), "ne", 1), "ac"),
        (JsonPath("data", ("n",), "gt", 0), "b"),
        (JsonPath("data", ("n",), "ge", "0"), "a"),
        (JsonPath("data", ("d", "e"), "eq", "deep"), "b"),
        (JsonPath("data", ("d.e",), "eq", "flat"), "c"),
        (JsonExists("data", ("d",)), "b"),
        (JsonExists("data", ("z",)), ""),
        (JsonExists("maybe_data", ("z",)), "b"),
        (Or(()), ""),
        (EVERYTHING, "abc"),
        (Not(EVERYTHING), ""),
        (InSelect("name", PAIRS.name, "label", EVERYTHING), "b"),
        (Not(InSelect("name", PAIRS.name, "label", EVERYTHING)), "ac"),
        (InSelect("name", PAIRS.name, "label", eq("room", "nowhere")), ""),
        (Not(InSelect("note", PAIRS.name, "label", EVERYTHING)), "abc"),
    ])  # fmt: skip
    def test_b21_filters_mean_what_is_written(
        self, driver: Driver, where: Filter, expected: str
    ) -> None:
        driver.setup(SHAPES)
        records = [
            thing("a", name="x", data={"n": "1"}),
            thing("b", name="x%", note="a", maybe_count=4, tags=["q", "p"], maybe_tags=[],
                  data={"n": 1, "d": {"e": "deep"}}, maybe_data={"z": False}),
            thing("c", name="x_", note="A", maybe_count=5, tags=["p"], maybe_tags=["o"],
                  data={"n": True, "d.e": "flat"}, maybe_data={"z": None}),
        ]  # fmt: skip
        driver.apply("t", [put(THINGS, record) for record in records])
        labels = (None, "x%", "other")
        pairs = [{"room": "r", "number": n, "label": label} for n, label in enumerate(labels)]
        driver.apply("t", [put(PAIRS, pair) for pair in pairs])
        assert "".join(_ids(driver, where)) == expected


def _agreement(
    driver: Driver, stored: list[Record], pairs: list[Record]
) -> Callable[[Filter], None]:
    """Whether the engine and the filter's own truth choose the same records."""

    def subselect(_: str, field: str, where: Filter) -> set[Any]:
        return {pair[field] for pair in pairs if where.matches(pair)} - {None}

    def check(where: Filter) -> None:
        assert _ids(driver, where) == [r["id"] for r in stored if where.matches(r, subselect)]

    return check


ORDERED = [f.name for f in THINGS.fields if f.kind not in ("json", "texts", "bytes")]


@st.composite
def _orders(draw: st.DrawFn) -> tuple[Order, ...]:
    names = draw(st.lists(st.sampled_from(ORDERED), max_size=3, unique=True))
    return tuple(Order(name, draw(st.booleans())) for name in names)


def _sorted(records: Iterable[Record], order: tuple[Order, ...], key: str = "id") -> list[Record]:
    """Records in an order, by one stable sort per term from the last to the first."""
    found = list(records)
    last = order[-1].descending if order else False
    for term in reversed((*order, Order(key, last))):
        full = [r for r in found if r[term.field] is not None]
        full.sort(key=lambda r, name=term.field: r[name], reverse=term.descending)  # type: ignore[misc]
        if term.descending:
            # Python's reverse sort is stable as well: equal ones keep their places.
            found = full + [r for r in found if r[term.field] is None]
        else:
            found = [r for r in found if r[term.field] is None] + full
    return found


class TestDriverPages:
    def test_b22_query_sorts_by_the_order_nulls_first_ties_by_key(
        self, driver: Driver, harness: Harness
    ) -> None:
        stored = _fill(driver, harness, populated(1, PEOPLE))

        @examples(80)
        @given(_orders())
        def check(order: tuple[Order, ...]) -> None:
            query = Query(collection=THINGS.name, order=order)
            found = [r["id"] for r in driver.query("t", query).records]
            assert found == [r["id"] for r in _sorted(stored, order)]

        check()

    def test_b22_composite_keys_break_ties_field_by_field(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        keys = [(room, n) for room in ("b", "a", "aa") for n in (10, 9, -1)]
        pairs = [{"room": room, "number": n, "label": "same"} for room, n in keys]
        driver.apply("t", [put(PAIRS, pair) for pair in pairs])
        for order, expected in (
            ((), sorted(keys)),
            (asc("label"), sorted(keys)),
            (desc("label"), sorted(keys, reverse=True)),
            (asc("number"), sorted(keys, key=lambda k: (k[1], k[0]))),
            (desc("number"), sorted(keys, key=lambda k: (k[1], k[0]), reverse=True)),
        ):
            found = driver.query("t", Query(collection=PAIRS.name, order=order)).records
            assert [(r["room"], r["number"]) for r in found] == expected

    def test_b23_pages_meet_every_record_once(self, driver: Driver, harness: Harness) -> None:
        stored = _fill(driver, harness, populated(2, PEOPLE))

        @examples(40)
        @given(_orders(), st.integers(1, 20), filters())
        def check(order: tuple[Order, ...], limit: int, where: Filter) -> None:
            whole = _walk(driver, Query(collection=THINGS.name, order=order, filter=where), limit)
            expected = [r for r in _sorted(stored, order) if r["id"] in set(_ids(driver, where))]
            assert [r["id"] for r in whole] == [r["id"] for r in expected]

        check()

    def test_b23_the_last_position_says_whether_more_follow(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(THINGS, thing(k, count=1)) for k in "abc"])
        for limit, last in ((1, (1, "a")), (2, (1, "b")), (3, None), (4, None), (None, None)):
            query = Query(collection=THINGS.name, order=asc("count"), limit=limit)
            assert driver.query("t", query).last == last

    def test_b23_pages_stay_whole_while_others_write(
        self, open_driver: Callable[[], Driver]
    ) -> None:
        reader, writer = open_driver(), open_driver()
        reader.setup(SHAPES)
        writer.setup(SHAPES)
        stays = {f"stay {n:02}" for n in range(40)}
        records = [thing(id, maybe_count=n % 5 or None) for n, id in enumerate(sorted(stays))]
        reader.apply("t", [put(THINGS, record) for record in records])
        done = threading.Event()

        def work(caller: int) -> list[list[Record]]:
            walks: list[list[Record]] = []
            n = 0
            try:
                while caller == 0 and n < 6:
                    order = (asc, desc)[n % 2]("maybe_count")
                    query = Query(collection=THINGS.name, order=order)
                    walks.append(_walk(reader, query, 3 + n))
                    n += 1
            finally:
                if caller == 0:
                    done.set()
            while caller == 1 and not done.is_set():
                passing = thing(f"pass {n % 9}", maybe_count=n % 6 or None)
                writer.apply("t", [put(THINGS, passing)])
                writer.apply("t", [Delete(THINGS.name, (f"pass {(n + 4) % 9}",))])
                n += 1
            return walks

        for walk in at_once(2, work)[0]:
            seen = [record["id"] for record in walk if record["id"] in stays]
            assert sorted(seen) == sorted(stays)

    def test_b24_limit_zero_returns_nothing(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(THINGS, thing(k)) for k in "ab"])
        rows = driver.query("t", Query(collection=THINGS.name, limit=0))
        assert (rows.records, rows.last) == ([], None)
        rows = driver.query("t", Query(collection=THINGS.name, limit=0, filter=eq("id", "a")))
        assert (rows.records, rows.last) == ([], None)


def _walk(driver: Driver, query: Query, limit: int) -> list[Record]:
    """All pages, one after another."""
    found: list[Record] = []
    after: tuple[Any, ...] | None = None
    while True:
        page = Query(
            collection=query.collection,
            filter=query.filter,
            order=query.order,
            limit=limit,
            after=after,
        )
        rows = driver.query("t", page)
        assert len(rows.records) == limit or rows.last is None
        found.extend(rows.records)
        if rows.last is None:
            return found
        after = rows.last


MEASURES = [
    Measure("n", "count"),
    *(Measure(f"n_{f}", "count", f) for f in ("note", "maybe_score")),
    *(Measure(f"sum_{f}", "sum", f) for f in ("count", "maybe_count", "maybe_score")),
    *(Measure(f"min_{f}", "min", f) for f in ("note", "maybe_count", "maybe_at", "maybe_score")),
    *(Measure(f"max_{f}", "max", f) for f in ("name", "maybe_count", "maybe_at", "score")),
    *(Measure(f"kinds_{f}", "distinct", f) for f in ("note", "maybe_count", "maybe_at", "done")),
]
GROUPS = ["name", "note", "maybe_count", "maybe_done", "maybe_score", "maybe_at",
          *(Bucket("maybe_at", u) for u in ("hour", "day", "month")),
          Bucket("at", "day")]  # fmt: skip


def _group(record: Record, group: str | Bucket) -> Any:
    if isinstance(group, str):
        return record[group]
    at = record[group.field]
    if at is None:
        return None
    parts = {"hour": 4, "day": 3, "month": 2}[group.unit]
    numbers = [at.year, at.month, at.day, at.hour][:parts]
    return datetime(*numbers, *([1] * (3 - parts)), tzinfo=UTC)  # type: ignore[misc]


def _rank(values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Sorts null before everything."""
    return [() if value is None else (value,) for value in values]


def _figure(measure: Measure, records: list[Record]) -> Any:
    if measure.field is None:
        return len(records)
    held = sorted(r[measure.field] for r in records if r[measure.field] is not None)
    if measure.kind == "sum":
        return sum(held)
    if measure.kind in ("min", "max"):
        return held[0 if measure.kind == "min" else -1] if held else None
    return len(held) if measure.kind == "count" else len(set(held))


class TestDriverAggregates:
    def test_b25_aggregate_agrees_with_counting(self, driver: Driver, harness: Harness) -> None:
        stored = _fill(driver, harness, populated(3, PEOPLE, small=True))

        @examples(80)
        @given(
            st.lists(st.sampled_from(GROUPS), max_size=2, unique=True),
            st.lists(st.sampled_from(MEASURES), min_size=1, max_size=4, unique=True),
            st.just(EVERYTHING) | filters(),
        )
        def check(groups: list[str | Bucket], measures: list[Measure], where: Filter) -> None:
            chosen = set(_ids(driver, where))
            asked = Aggregate(
                collection=THINGS.name,
                filter=where,
                group_by=tuple(groups),
                measures=tuple(measures),
            )
            members: dict[tuple[Any, ...], list[Record]] = {} if groups else {(): []}
            for record in stored:
                if record["id"] in chosen:
                    at = tuple(_group(record, group) for group in groups)
                    members.setdefault(at, []).append(record)
            names = [g if isinstance(g, str) else f"{g.field}_{g.unit}" for g in groups]
            expected = [
                {
                    **dict(zip(names, at, strict=True)),
                    **{m.name: _figure(m, records) for m in measures},
                }
                for at, records in sorted(members.items(), key=lambda item: _rank(item[0]))
            ]
            assert driver.aggregate("t", asked) == expected

        check()

    def test_b25_no_records_are_one_row_or_no_groups(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        measures = tuple(MEASURES)
        [row] = driver.aggregate("t", Aggregate(collection=THINGS.name, measures=measures))
        assert row == {m.name: None if m.kind in ("min", "max") else 0 for m in measures}
        asked = Aggregate(collection=THINGS.name, group_by=("name",), measures=measures)
        assert driver.aggregate("t", asked) == []

    def test_b25_a_sum_is_exact_or_refused(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        most = 2**63 - 1
        counts = {"a": most, "b": 5, "c": -5, "d": -most - 1, "e": 1}
        driver.apply("t", [put(THINGS, thing(k, count=n)) for k, n in counts.items()])
        asked = Aggregate(collection=THINGS.name, measures=(Measure("total", "sum", "count"),))
        assert driver.aggregate("t", asked) == [{"total": 0}]
        for chosen, total in (
            (("a", "b", "c"), most),
            (("d", "e"), -most),
            (("c", "d", "b"), ~most),
        ):
            some = msgspec.structs.replace(asked, filter=In("id", chosen))
            assert driver.aggregate("t", some) == [{"total": total}]
        for pair in (("a", "b"), ("c", "d")):
            some = msgspec.structs.replace(asked, filter=In("id", pair))
            with pytest.raises(Invalid, match="total"):
                driver.aggregate("t", some)

    def test_b25_a_sum_that_is_not_finite_is_refused(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(THINGS, thing(k, score=1.7e308)) for k in "ab"])
        asked = Aggregate(collection=THINGS.name, measures=(Measure("total", "sum", "score"),))
        with pytest.raises(Invalid, match="total"):
            driver.aggregate("t", asked)

    def test_b25_figures_keep_their_kind(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(THINGS, thing(k, count=2, score=2.0, done=True)) for k in "ab"])
        measures = (
            Measure("a", "sum", "count"),
            Measure("b", "sum", "score"),
            Measure("c", "min", "score"),
            Measure("d", "max", "at"),
            Measure("e", "max", "done"),
        )
        asked = Aggregate(collection=THINGS.name, group_by=("done",), measures=measures)
        [row] = driver.aggregate("t", asked)
        values = [True, 4, 4.0, 2.0, NOON, True]
        assert [(type(v), v) for v in row.values()] == [(type(v), v) for v in values]
