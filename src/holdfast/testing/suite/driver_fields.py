"""Reading some fields of records instead of all: B42."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from holdfast.core.driver import Driver
from holdfast.core.errors import Invalid
from holdfast.core.filter import Record, ge
from holdfast.core.query import Order, Query, asc, desc
from holdfast.core.search import Search, TextLeg, VectorLeg
from holdfast.testing.harness import Harness
from holdfast.testing.shapes import NOTES, PAIRS, SHAPES, THINGS, note, put, vector
from holdfast.testing.strategies import populated

ORDERS: tuple[tuple[Order, ...], ...] = ((), asc("count"), desc("maybe_at"), asc("revision"))


def _only(record: Record, *names: str) -> Record:
    return {name: value for name, value in record.items() if name in names}


class TestDriverFields:
    def test_b42_query_reads_the_fields_that_it_names(
        self, driver: Driver, harness: Harness
    ) -> None:
        driver.setup(SHAPES)
        records = populated(3, 12)
        driver.apply("t", [put(THINGS, record) for record in records[:6]])
        for record in records[6:]:
            harness.plant(THINGS, "t", {**record, "revision": 1})
        named = [(), *((f.name,) for f in THINGS.fields), ("data", "tags", "revision", "data")]
        for fields, order in itertools.product(named, ORDERS):
            whole = Query(collection=THINGS.name, order=order)
            narrow = Query(collection=THINGS.name, order=order, fields=fields)
            held = ("id", "revision", *fields, *(term.field for term in order))
            assert driver.query("t", narrow).records == [
                _only(record, *held) for record in driver.query("t", whole).records
            ]

    def test_b42_pages_of_some_fields_go_on_where_they_stopped(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        pairs = [
            {"room": room, "number": n, "label": str(n % 3)} for room in "ab" for n in range(5)
        ]
        driver.apply("t", [put(PAIRS, pair) for pair in pairs])
        found: list[Record] = []
        after: tuple[Any, ...] | None = None
        while len(found) <= len(pairs):
            page = Query(
                collection=PAIRS.name, order=desc("label"), limit=3, after=after, fields=()
            )
            rows = driver.query("t", page)
            found += rows.records
            after = rows.last
            if after is None:
                break
        whole = driver.query("t", Query(collection=PAIRS.name, order=desc("label"))).records
        assert found == whole, "the key, the order and the revision are all that a pair has"

    def test_b42_vectors_come_beside_the_fields_that_are_named(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        held = vector(1.0, 0.5)
        driver.apply("t", [put(NOTES, note("a", "plum", embedding=held))])
        query = Query(collection=NOTES.name, fields=("day",), vectors=True)
        [record] = driver.query("t", query).records
        assert record == {"id": "a", "day": 0, "revision": 1, "embedding": held}

    def test_b42_search_reads_the_fields_that_it_names(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        notes = [
            note(f"{n}", "plum " * n, day=n, embedding=vector(1.0, float(n))) for n in range(6)
        ]
        driver.apply("t", [put(NOTES, record) for record in notes])
        legs: dict[str, Any] = {
            "text": TextLeg(terms=("plum",)),
            "vector": VectorLeg(field="embedding", vector=vector(1.0, 0.0)),
        }
        legs = {
            name: leg
            for name, leg in legs.items()
            if (driver.capabilities.full_text if name == "text" else driver.capabilities.vectors)
        }
        for where, fields in itertools.product((ge("day", 0), ge("day", 3)), ((), ("day", "body"))):
            asked = {"collection": NOTES.name, "filter": where, "k": 3, **legs}
            whole = driver.search("t", Search(**asked))
            narrow = driver.search("t", Search(**asked, fields=fields))
            assert (narrow.text, narrow.vector) == (whole.text, whole.vector)
            assert narrow.records == {
                key: _only(record, "id", *fields) for key, record in whole.records.items()
            }

    @pytest.mark.parametrize("fields", [("nothing",), ("id; --",), ("embedding",), (None,), "id"])
    def test_b42_what_is_no_field_is_refused(self, driver: Driver, fields: Any) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(NOTES, note("a"))])
        with pytest.raises(Invalid):
            driver.query("t", Query(collection=NOTES.name, fields=fields))
        leg = TextLeg(terms=("plum",))
        with pytest.raises(Invalid):
            driver.search("t", Search(collection=NOTES.name, text=leg, fields=fields))
