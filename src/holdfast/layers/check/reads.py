"""Aggregates, searches and maintenance: what they are given is declared and in range."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from holdfast.core.collection import Collection
from holdfast.core.errors import Invalid
from holdfast.core.query import Aggregate, Bucket, Measure
from holdfast.core.scope import NAME_LIMIT
from holdfast.core.search import TextLeg
from holdfast.core.values import check_count, check_float, check_text, check_time
from holdfast.layers.check.expect import expect_list, expect_word
from holdfast.layers.check.filters import ORDERED

K_LIMIT: Final = 1_000
"""Most records that one search leg may ask for."""
TERM_LIMIT: Final = 128
"""Most terms of one search; longer queries keep their first ones, as recall says."""


def check_aggregate(collection: Collection, aggregate: Aggregate) -> None:
    """Groups and measures."""
    _check_groups(collection, aggregate)
    _check_measures(collection, aggregate)


def _check_groups(collection: Collection, aggregate: Aggregate) -> None:
    expect_list("group_by", aggregate.group_by)
    for group in aggregate.group_by:
        if isinstance(group, Bucket):
            expect_word("unit", group.unit, ("hour", "day", "month"))
        name = group.field if isinstance(group, Bucket) else group
        kind = collection.field(name).kind
        if kind not in ORDERED or (isinstance(group, Bucket) and kind != "time"):
            raise Invalid(name, expected="a field that can be grouped so", got=kind)


def _check_measures(collection: Collection, aggregate: Aggregate) -> None:
    expect_list("measures", aggregate.measures)
    names = [g.name if isinstance(g, Bucket) else g for g in aggregate.group_by]
    for measure in aggregate.measures:
        if not isinstance(measure, Measure):
            raise Invalid("measures", expected="a Measure", got=measure)
        expect_word("kind", measure.kind, ("count", "sum", "min", "max", "distinct"))
        names.append(check_text("measure", measure.name, NAME_LIMIT))
        if measure.field is not None:
            kind = collection.field(measure.field).kind
            if kind not in ORDERED or (measure.kind == "sum" and kind not in ("int", "float")):
                raise Invalid(measure.field, expected=f"a field with a {measure.kind}", got=kind)
        elif measure.kind != "count":
            raise Invalid(measure.name, expected="a field to measure", got="none")
    if len(set(names)) < len(names):
        raise Invalid("measures", expected="one name for each column of the answer", got="twins")


def check_text_leg(leg: TextLeg) -> None:
    """Terms, and the constants of BM25."""
    expect_list("terms", leg.terms)
    check_count("terms", len(leg.terms), 0, TERM_LIMIT)
    for term in leg.terms:
        check_text("terms", term)
    expect_word("match", leg.match, ("any", "all"))
    for name, value in (("k1", leg.k1), ("b", leg.b)):
        if check_float(name, value) < 0:
            raise Invalid(name, expected="a number of at least 0", got=str(value))


def check_task(task: object, options: dict[str, Any]) -> dict[str, Any]:
    """The options in canonical form: what each maintenance task must be told, and may be."""
    if not isinstance(task, str) or task not in _TASKS:
        raise Invalid("task", expected=f"one of {', '.join(_TASKS)}", got=repr(task))
    needed, optional = _TASKS[task]
    for name in options.keys() - set(needed) - set(optional):
        raise Invalid(name, expected=f"an option of {task}", got="an unknown option")
    for name in needed:
        if name not in options:
            raise Invalid(name, expected=f"an option that {task} needs", got="none")
    return {
        name: value if value is None and name in optional else _OPTIONS[name](value)
        for name, value in options.items()
    }


_OPTIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "now": lambda value: check_time("now", value),
    "follower": lambda value: check_text("follower", value, NAME_LIMIT),
    "position": lambda value: check_count("position", value, 0, 2**62),
    "limit": lambda value: check_count("limit", value, 0, 2**31),
}
_TASKS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "sweep": (("now",), ("limit",)),
    "follow": (("follower",), ()),
    "unfollow": (("follower",), ()),
    "trim": (("follower", "position"), ()),
    "integrity": ((), ()),
    "analyze": ((), ()),
    "vacuum": ((), ()),
    "reindex": ((), ()),
}
"""Task -> the options that it needs, and those that it may be given."""
