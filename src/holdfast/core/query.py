"""Reading values: pages in a stated order, and aggregates."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cmp_to_key
from typing import Any, Literal

import msgspec

from holdfast.core.filter import EVERYTHING, Filter, Record
from holdfast.core.values import CHECKS


class Order(msgspec.Struct, frozen=True):
    """One sort term. Null sorts before every value; text sorts by code point."""

    field: str
    descending: bool = False


def asc(*fields: str) -> tuple[Order, ...]:
    """Ascending order by these fields."""
    return tuple(Order(name) for name in fields)


def desc(*fields: str) -> tuple[Order, ...]:
    """Descending order by these fields."""
    return tuple(Order(name, True) for name in fields)


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """The matching records in ``order``, ties by key in the direction of the last term.

    ``after`` continues a page: the order and key values of its last record, as ``Rows.last``
    gave them. ``limit`` None means all. Vector fields are read only with ``vectors``.
    With ``fields``, records hold these, those of the key and the order, and the revision alone.
    """

    collection: str
    filter: Filter = EVERYTHING
    order: tuple[Order, ...] = ()
    limit: int | None = None
    after: tuple[Any, ...] | None = None
    vectors: bool = False
    fields: tuple[str, ...] | None = None


class Rows(msgspec.Struct, frozen=True):
    """Records, and the position of the last one when more follow it, else None."""

    records: list[Record]
    last: tuple[Any, ...] | None = None


class Bucket(msgspec.Struct, frozen=True):
    """Group a time field by calendar unit in UTC; the group's value is the unit's first instant."""

    field: str
    unit: Literal["hour", "day", "month"]

    @property
    def name(self) -> str:
        """The column's name in the answer."""
        return f"{self.field}_{self.unit}"


class Measure(msgspec.Struct, frozen=True):
    """A figure per group. ``count`` without a field counts records; others leave nulls out.

    ``sum`` of no values is 0, and Invalid when no field of its kind could hold it: beyond 64 bits,
    or not finite. ``min`` and ``max`` of none are null.
    """

    name: str
    kind: Literal["count", "sum", "min", "max", "distinct"]
    field: str | None = None


def checked_sum(measure: Measure, total: int | float) -> int | float:
    """``total``, or Invalid naming the measure when it is beyond its kind."""
    checked: int | float = CHECKS["float" if isinstance(total, float) else "int"](
        measure.name, total
    )
    return checked


COUNT = Measure("count", "count")


class Aggregate(msgspec.Struct, frozen=True, kw_only=True):
    """Figures per group, sorted by the group's values ascending, null first.

    Without ``group_by`` there is exactly one row, also over no records.
    """

    collection: str
    filter: Filter = EVERYTHING
    group_by: tuple[str | Bucket, ...] = ()
    measures: tuple[Measure, ...] = (COUNT,)


def full_order(order: tuple[Order, ...], key: tuple[str, ...]) -> tuple[Order, ...]:
    """``order`` with the key as its last tie-break, so that it is total."""
    named = {term.field for term in order}
    descending = order[-1].descending if order else False
    return (*order, *(Order(name, descending) for name in key if name not in named))


def position(record: Record, order: tuple[Order, ...]) -> tuple[Any, ...]:
    """A record's place in a total order, to continue after it."""
    return tuple(record[term.field] for term in order)


def compare_positions(
    left: tuple[Any, ...], right: tuple[Any, ...], order: tuple[Order, ...]
) -> int:
    """Negative, zero or positive as ``left`` comes before, with or after ``right``."""
    for one, other, term in zip(left, right, order, strict=True):
        if one == other:
            continue
        before = one is None if one is None or other is None else one < other
        return -1 if before != term.descending else 1
    return 0


def sorted_records(records: Iterable[Record], order: tuple[Order, ...]) -> list[Record]:
    """The records in a total order; the truth that every engine reproduces."""

    def compare(left: Record, right: Record) -> int:
        return compare_positions(position(left, order), position(right, order), order)

    return sorted(records, key=cmp_to_key(compare))
