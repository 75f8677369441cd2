"""Records kept as rows: the same as records, and whole fields of them."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.core.search import Hits, RecordSet

RECORDS: dict[tuple[Any, ...], dict[str, Any]] = {
    ("a",): {"id": "a", "day": 1},
    ("b",): {"id": "b", "day": None},
}


def test_it_is_the_records_that_it_was_made_of() -> None:
    records = RecordSet.of(RECORDS)
    assert records == RECORDS
    assert records[("b",)] == RECORDS[("b",)]
    assert ("c",) not in records
    with pytest.raises(KeyError):
        records[("c",)]


def test_it_may_be_made_of_columns() -> None:
    made = RecordSet([("a",), ("b",)], {"id": ["a", "b"], "day": [1, None]})
    assert made == RECORDS


def test_fields_come_in_the_order_of_the_keys() -> None:
    records = RecordSet.of(RECORDS)
    assert [list(column) for column in records.columns("day", "id")] == [[1, None], ["a", "b"]]
    with pytest.raises(KeyError, match="nothing"):
        records.columns("nothing")


def test_there_may_be_none() -> None:
    assert Hits().records == {}
    assert RecordSet.of({}).columns("id", "day") == [(), ()]
