"""Hostile and forged input through the contract and the public stores: B39, P5-P7, P9, P16."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.change import (
    Change,
    Claim,
    Delete,
    DeleteWhere,
    Edit,
    Patch,
    PatchWhere,
    Put,
    Revision,
    Scale,
    When,
)
from holdfast.core.driver import Driver
from holdfast.core.errors import Invalid, InvalidCursor, InvalidVector, TooLarge
from holdfast.core.filter import (
    EVERYTHING,
    And,
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
)
from holdfast.core.query import Aggregate, Bucket, Measure, Order, Query, asc
from holdfast.core.search import Search, TextLeg, VectorLeg
from holdfast.core.values import Vector, vector_of
from holdfast.storage import Storage
from holdfast.testing import strategies as hostile
from holdfast.testing.shapes import NOTES, PAIRS, SHAPES, THINGS, note, put, thing, vector

NAN = float("nan")


def _by_field() -> list[Any]:
    """Every field of THINGS with every hostile value of its kind."""
    kinds = {
        "text": hostile.HOSTILE_TEXTS,
        "json": hostile.HOSTILE_JSON,
        "int": hostile.HOSTILE_INTS,
        "float": hostile.HOSTILE_FLOATS,
        "time": hostile.HOSTILE_TIMES,
        "bool": {"0": lambda: 0, "text": lambda: "true"},
        "bytes": {"text": lambda: "x", "a list": lambda: [1]},
        "texts": {
            "text": lambda: "abc",
            "numbers": lambda: [1],
            "null inside": lambda: [None],
            "NUL": lambda: ["\x00"],
            "lone surrogate": lambda: ["a", "\ud800"],
            "too many": lambda: ["a"] * 1025,
            "too long": lambda: ["a" * 513],
        },
    }
    return [
        pytest.param(f.name, build, id=f"{f.name}-{name}")
        for f in THINGS.fields
        for name, build in kinds[f.kind].items()
    ]


def _forged_filters() -> dict[str, Any]:
    deep: Filter = EVERYTHING
    for _ in range(10_000):
        deep = Not(deep)
    nodes: dict[str, Any] = {
        "unknown field": Compare("nope", "eq", 1),
        "SQL as field": Compare("name = '' OR 1=1 --", "eq", "x"),
        "a list as field": Compare(["name"], "eq", "x"),  # type: ignore[arg-type]
        "text for int": Compare("count", "eq", "1"),
        "bool for int": Compare("count", "eq", True),
        "2**63": Compare("count", "eq", 2**63),
        "NaN": Compare("score", "lt", NAN),
        "naive instant": Compare("at", "lt", datetime(2026, 1, 1)),
        "null": Compare("name", "eq", None),  # type: ignore[arg-type]
        "NUL": Compare("name", "lt", "a\x00"),
        "lone surrogate": Compare("note", "eq", "\ud800"),
        "unknown operator": Compare("count", "like", 1),  # type: ignore[arg-type]
        "json compared": Compare("data", "eq", "x"),
        "list compared": Compare("tags", "eq", "x"),
        "bytes ordered": Compare("blob", "lt", b"x"),
        "In of texts for int": In("count", ("1",)),
        "In with null": In("name", (None,)),  # type: ignore[arg-type]
        "In of json": In("data", (1,)),
        "In of a text": In("name", "abc"),  # type: ignore[arg-type]
        "In of too many": In("count", tuple(range(10_001))),
        "IsNull of nothing": IsNull("nope"),
        "IsNull of a vector": InSelect("id", NOTES.name, "id", IsNull("embedding")),
        "Prefix of an int": Prefix("count", "1"),
        "Prefix with NUL": Prefix("name", "\x00"),
        "Prefix by a number": Prefix("name", 1),  # type: ignore[arg-type]
        "Contains in a text": Contains("name", ("a",)),
        "Contains in a mode": Contains("tags", ("a",), "some"),  # type: ignore[arg-type]
        "Contains a number": Contains("tags", (1,)),  # type: ignore[arg-type]
        "Contains a text": Contains("tags", "ab"),  # type: ignore[arg-type]
        "path in a text": JsonPath("name", ("a",), "eq", 1),
        "no path": JsonPath("data", (), "eq", 1),
        "a text as path": JsonPath("data", "ab", "eq", 1),  # type: ignore[arg-type]
        "quote in a path": JsonPath("data", ("a'",), "eq", 1),
        "SQL in a path": JsonPath("data", ("$.a') OR 1=1 --",), "eq", 1),
        "NUL in a path": JsonExists("data", ("a\x00",)),
        "empty key in a path": JsonExists("data", ("",)),
        "long path": JsonExists("data", ("a",) * 17),
        "number in a path": JsonExists("data", (1,)),  # type: ignore[arg-type]
        "path to NaN": JsonPath("data", ("a",), "eq", NAN),
        "path to 2**70": JsonPath("data", ("a",), "eq", 2**70),
        "path to null": JsonPath("data", ("a",), "eq", None),  # type: ignore[arg-type]
        "path to a list": JsonPath("data", ("a",), "eq", [1]),  # type: ignore[arg-type]
        "path by an operator": JsonPath("data", ("a",), "=", 1),  # type: ignore[arg-type]
        "ordered bool": JsonPath("data", ("a",), "lt", True),
        "select from nowhere": InSelect("name", "sqlite_master", "name", EVERYTHING),
        "select nothing": InSelect("name", PAIRS.name, "nope", EVERYTHING),
        "select another kind": InSelect("name", PAIRS.name, "number", EVERYTHING),
        "select into json": InSelect("data", PAIRS.name, "label", EVERYTHING),
        "forged inside a select": InSelect("name", PAIRS.name, "label", IsNull("nope")),
        "forged inside a tree": Or((EVERYTHING, And((Not(IsNull("nope")),)))),
        "too many nodes": Or(tuple(IsNull("note") for _ in range(64))),
        "too deep": deep,
        "a number as node": And((1,)),  # type: ignore[arg-type]
        "no list of parts": And(5),  # type: ignore[arg-type]
        "text": "name = 'x'",
        "nothing": None,
        "an object": {"name": "x"},
    }
    return nodes


FORGED_FILTERS = _forged_filters()

FORGED_EDITS: dict[str, Any] = {
    "null where none may be": Edit(set={"count": None}),
    "unknown field": Edit(set={"nope": 1}),
    "SQL as field": Edit(set={"name = 'x' --": "x"}),
    "the key": Edit(set={"id": "x"}),
    "the revision": Edit(set={"revision": 9}),
    "one field twice": Edit(set={"count": 1}, increment={"count": 1}),
    "increment of text": Edit(increment={"name": 1}),
    "half an int": Edit(increment={"count": 0.5}),
    "a bool as number": Edit(increment={"count": True}),
    "null as number": Edit(increment={"maybe_count": None}),  # type: ignore[dict-item]
    "NaN": Edit(increment={"score": NAN}),
    "infinity": Edit(set={"score": float("inf")}),
    "2**63": Edit(increment={"count": 2**63}),
    "null as default": Edit(default={"maybe_count": None}),
    "maximum of json": Edit(maximum={"data": 1}),
    "maximum of another kind": Edit(maximum={"count": "1"}),
    "minimum of null": Edit(minimum={"maybe_at": None}),
    "append to text": Edit(append={"name": ["a"]}),
    "append a text": Edit(append={"tags": "abc"}),  # type: ignore[dict-item]
    "append a number": Edit(append={"tags": [1]}),  # type: ignore[list-item]
    "append null": Edit(append={"maybe_tags": None}),  # type: ignore[dict-item]
    "merge into text": Edit(merge={"name": {}}),
    "merge a list": Edit(merge={"data": [1]}),  # type: ignore[dict-item]
    "merge NaN": Edit(merge={"data": {"a": NAN}}),
    "merge number keys": Edit(merge={"data": {1: 1}}),  # type: ignore[dict-item]
    "scale of an int": Edit(scale={"count": Scale(2.0)}),
    "scale by a number": Edit(scale={"score": 2.0}),  # type: ignore[dict-item]
    "scale by NaN": Edit(scale={"score": Scale(NAN)}),
    "scale by text": Edit(scale={"score": Scale("2")}),  # type: ignore[arg-type]
    "infinite ceiling": Edit(scale={"score": Scale(1.0, ceiling=float("inf"))}),
    "no edit": None,
    "an object": {"count": 1},
}

BEYOND: dict[str, tuple[dict[str, Any], Edit]] = {
    "64 bits": ({"count": 2**63 - 1}, Edit(increment={"count": 1})),
    "64 bits below": ({"count": -(2**63)}, Edit(increment={"count": -1})),
    "floats": ({"score": 1.7e308}, Edit(increment={"score": 1.7e308})),
    "floats by scale": ({"score": 1e308}, Edit(scale={"score": Scale(10.0)})),
    "a list": ({"tags": [str(n) for n in range(1024)]}, Edit(append={"tags": ["more"]})),
    "an object": (
        {"data": {"a": "x" * 600_000}},
        Edit(merge={"data": {"b": "x" * 600_000}}),
    ),
}


class TestHostileRecords:
    @pytest.mark.parametrize("field, build", _by_field())
    def test_b39_hostile_values_are_refused_and_nothing_is_written(
        self, driver: Driver, field: str, build: Callable[[], Any]
    ) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(THINGS, thing("a"))])
        value = build()
        attempts: list[Change] = [put(THINGS, thing("b") | {field: value})]
        if field != "id":
            attempts.append(Patch(THINGS.name, ("a",), Edit(set={field: value})))
            attempts.append(PatchWhere(THINGS.name, EVERYTHING, Edit(set={field: value})))
            attempts.append(Claim(THINGS.name, EVERYTHING, (), 1, Edit(set={field: value})))
        else:
            attempts.append(Delete(THINGS.name, (value,)))
        for attempt in attempts:
            with pytest.raises(Invalid) as refused:
                driver.apply("t", [put(THINGS, thing("c")), attempt])
            assert refused.value.field.startswith((field, "key"))
            assert not refused.value.retryable
        _assert_untouched(driver)

    @pytest.mark.parametrize(
        "record",
        [
            {},
            {"id": "b"},
            thing("b") | {"nope": 1},
            {k: v for k, v in thing("b").items() if k != "note"} | {"notee": "typo"},
            {k: v for k, v in thing("b").items() if k != "name"},
            thing("b") | {"count": None},
            thing("b") | {1: 2},
            [("id", "b")],
            None,
            "b",
        ],
        ids=repr,
    )
    def test_b39_records_of_another_shape_are_refused(self, driver: Driver, record: Any) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(THINGS, thing("a"))])
        with pytest.raises(Invalid):
            driver.apply("t", [put(THINGS, thing("c")), Put(THINGS.name, record)])
        _assert_untouched(driver)

    def test_b39_limits_are_exact(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        fits = thing("k" * 512, name="n" * 512, tags=["t" * 512] * 1024, data=_levels(64))
        driver.apply("t", [put(THINGS, fits)])
        assert driver.get("t", THINGS.name, ("k" * 512,)) == {**fits, "revision": 1}
        for beyond in (thing("k" * 513), thing("b", name="n" * 513)):
            with pytest.raises(TooLarge):
                driver.apply("t", [put(THINGS, beyond)])
        with pytest.raises(Invalid):
            driver.apply("t", [put(THINGS, thing("b", data=_levels(65)))])

    @pytest.mark.parametrize("text", hostile.FRIENDLY_TEXTS)
    def test_b39_what_only_looks_hostile_is_kept_as_it_is(self, driver: Driver, text: str) -> None:
        driver.setup(SHAPES)
        id = text[:512]
        given = thing(id, note=text, tags=[id], data={text[:100]: [text]})
        driver.apply("t", [put(THINGS, given), put(NOTES, note(id, text))])
        assert driver.get("t", THINGS.name, (id,)) == {**given, "revision": 1}
        for where in (
            Compare("note", "eq", text),
            Prefix("note", text[:3]),
            Contains("tags", (id,)),
            In("id", (id,)),
        ):
            found = driver.query("t", Query(collection=THINGS.name, filter=where)).records
            assert [r["id"] for r in found] == [id]

    def test_b39_normal_forms_stay_two_texts(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        twins = ("é", "e\u0301")
        driver.apply("t", [put(THINGS, thing(id, name=id)) for id in twins])
        for id in twins:
            query = Query(collection=THINGS.name, filter=Compare("name", "eq", id))
            assert [r["id"] for r in driver.query("t", query).records] == [id]

    @pytest.mark.parametrize("tenant", ["", "a\x00", "\ud800", "t" * 257, None, 5, b"t", ["t"]])
    def test_b39_hostile_tenants_are_refused_by_every_verb(
        self, driver: Driver, tenant: Any
    ) -> None:
        driver.setup(SHAPES)
        calls: list[Callable[[], object]] = [
            lambda: driver.apply(tenant, [put(THINGS, thing("b"))]),
            lambda: driver.get(tenant, THINGS.name, ("a",)),
            lambda: driver.query(tenant, Query(collection=THINGS.name)),
            lambda: driver.aggregate(tenant, Aggregate(collection=THINGS.name)),
            lambda: driver.search(tenant, Search(collection=NOTES.name)),
        ]
        for call in calls:
            with pytest.raises(Invalid):
                call()

    @pytest.mark.parametrize("op_id", ["a\x00", "\ud800", "o" * 257, 5, b"op"])
    def test_b39_hostile_operation_ids_are_refused(self, driver: Driver, op_id: Any) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(THINGS, thing("a"))])
        with pytest.raises(Invalid):
            driver.apply("t", [put(THINGS, thing("b"))], op_id=op_id)
        _assert_untouched(driver)


class TestHostileWishes:
    @pytest.mark.parametrize("name", FORGED_FILTERS)
    def test_b39_forged_filters_are_refused_everywhere(self, driver: Driver, name: str) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(THINGS, thing("a"))])
        where, edit = FORGED_FILTERS[name], Edit(set={"count": 1})
        calls: list[Callable[[], object]] = [
            lambda: driver.query("t", Query(collection=THINGS.name, filter=where)),
            lambda: driver.aggregate("t", Aggregate(collection=THINGS.name, filter=where)),
            lambda: driver.search("t", Search(collection=THINGS.name, filter=where)),
            lambda: driver.apply("t", [PatchWhere(THINGS.name, where, edit)]),
            lambda: driver.apply("t", [DeleteWhere(THINGS.name, where)]),
            lambda: driver.apply("t", [Claim(THINGS.name, where, asc("id"), 1, edit)]),
            lambda: driver.apply("t", [Patch(THINGS.name, ("a",), edit, When(where))]),
            lambda: driver.apply("t", [Delete(THINGS.name, ("a",), When(where))]),
        ]
        for call in calls:
            with pytest.raises(Invalid):
                call()
        _assert_untouched(driver)

    @pytest.mark.parametrize("name", FORGED_EDITS)
    def test_b39_forged_edits_are_refused(self, driver: Driver, name: str) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(THINGS, thing("a"))])
        edit = FORGED_EDITS[name]
        attempts: list[Change] = [
            Patch(THINGS.name, ("a",), edit),
            PatchWhere(THINGS.name, EVERYTHING, edit),
            Claim(THINGS.name, EVERYTHING, (), 1, edit),
        ]
        for attempt in attempts:
            with pytest.raises(Invalid):
                driver.apply("t", [put(THINGS, thing("c")), attempt])
        _assert_untouched(driver)

    @pytest.mark.parametrize("name", BEYOND)
    def test_b39_no_edit_leaves_what_a_field_can_hold(self, driver: Driver, name: str) -> None:
        driver.setup(SHAPES)
        held, edit = BEYOND[name]
        driver.apply("t", [put(THINGS, thing("a", **held))])
        before = driver.get("t", THINGS.name, ("a",))
        attempts: list[Change] = [
            Patch(THINGS.name, ("a",), edit),
            PatchWhere(THINGS.name, EVERYTHING, edit),
            Claim(THINGS.name, EVERYTHING, (), 1, edit),
        ]
        for attempt in attempts:
            with pytest.raises(Invalid):
                driver.apply("t", [attempt])
        assert driver.get("t", THINGS.name, ("a",)) == before

    def test_b39_forged_wishes_are_refused(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(THINGS, thing("a"))])
        absent: Any = "absent"
        queries: list[dict[str, Any]] = [
            {"collection": "nope"},
            {"collection": "suite_things; --"},
            {"collection": ["suite_things"]},
            *({"limit": n} for n in (-1, 2**40, 1.5, True, "1")),
            *({"order": asc(f)} for f in ("nope", "data", "tags", "blob", "name DESC", "1")),
            {"order": ("name",)},
            {"order": (Order(["name"]),)},  # type: ignore[arg-type]
            *({"after": p} for p in ((), (1,), ("a", "b"), "a", ("a\x00",), (b"a",))),
        ]
        for wish in queries:
            with pytest.raises(Invalid):
                driver.query("t", Query(**{"collection": THINGS.name, **wish}))
        aggregates: list[dict[str, Any]] = [
            *({"group_by": (g,)} for g in ("nope", "data", "tags", "name, 1")),
            {"group_by": (Bucket("name", "day"),)},
            {"group_by": (Bucket("at", "year"),)},  # type: ignore[arg-type]
            *(
                {"measures": (m,)}
                for m in (
                    Measure("m", "sum"),
                    Measure("m", "sum", "name"),
                    Measure("m", "sum", "nope"),
                    Measure("m", "median", "count"),  # type: ignore[arg-type]
                    Measure("m\x00", "count"),
                    "count",
                )
            ),
            {"measures": (Measure("m", "count"), Measure("m", "min", "count"))},
            {"group_by": ("name",), "measures": (Measure("name", "count"),)},
        ]
        for wish in aggregates:
            with pytest.raises(Invalid):
                driver.aggregate("t", Aggregate(**{"collection": THINGS.name, **wish}))
        changes: list[Any] = [
            Patch(THINGS.name, ("a", "b"), Edit()),
            Patch(THINGS.name, "a", Edit()),  # type: ignore[arg-type]
            Delete(THINGS.name, ()),
            Delete(THINGS.name, ("a",), Revision(-1)),
            Delete(THINGS.name, ("a",), absent),
            DeleteWhere(THINGS.name, EVERYTHING, -1),
            DeleteWhere(THINGS.name, EVERYTHING, 1, asc("data")),
            Claim(THINGS.name, EVERYTHING, asc("nope"), 1, Edit()),
            Claim(THINGS.name, EVERYTHING, (), 10_001, Edit()),
            {"change": "delete"},
            None,
        ]
        for change in changes:
            with pytest.raises(Invalid):
                driver.apply("t", [put(THINGS, thing("c")), change])
        with pytest.raises(Invalid):
            driver.apply("t", put(THINGS, thing("c")))  # type: ignore[arg-type]
        _assert_untouched(driver)

    def test_b39_forged_searches_are_refused(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        near = VectorLeg(field="embedding", vector=vector(1, 0))
        wishes: list[dict[str, Any]] = [{"k": n} for n in (-1, 1_001, True, 1.5)]
        if driver.capabilities.full_text:
            forged: list[Any] = [("a\x00",), ("\ud800",), (1,), "word", ("a",) * 129]
            wishes += [{"text": TextLeg(terms=terms)} for terms in forged]
            wishes += [
                {"text": TextLeg(terms=("a",), match="some")},  # type: ignore[arg-type]
                {"text": TextLeg(terms=("a",), k1=NAN)},
                {"text": TextLeg(terms=("a",), b=-1.0)},
                {"collection": THINGS.name, "text": TextLeg(terms=("a",))},
            ]
        if driver.capabilities.vectors:
            wishes += [{"vector": near, "minimum": NAN}, {"vector": near, "minimum": "0"}]
            wishes += [{"vector": VectorLeg(field="embedding", vector=v)} for v in _torn_vectors()]
        for wish in wishes:
            with pytest.raises(Invalid):
                driver.search("t", Search(**{"collection": NOTES.name, **wish}))


class TestHostileVectors:
    @pytest.mark.parametrize("name", hostile.HOSTILE_VECTORS)
    def test_b39_numbers_that_are_no_vector_are_refused(self, name: str) -> None:
        with pytest.raises((InvalidVector, TooLarge)):
            vector_of("vector", "s1", hostile.HOSTILE_VECTORS[name]())

    def test_b39_vectors_are_checked_again_where_they_are_stored(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(NOTES, note("a"))])
        for torn in _torn_vectors():
            for attempt in (
                put(NOTES, note("b", embedding=torn)),
                Patch(NOTES.name, ("a",), Edit(set={"embedding": torn})),
            ):
                with pytest.raises(Invalid):
                    driver.apply("t", [put(NOTES, note("c")), attempt])
        found = driver.query("t", Query(collection=NOTES.name, vectors=True)).records
        assert found == [note("a") | {"revision": 1}]

    def test_b39_every_form_of_the_same_numbers_is_the_same_vector(self) -> None:
        import numpy

        plain = vector_of("v", "s", [1.0, 2.0])
        forms: list[Any] = [(1, 2), [1, 2.0]]
        forms += [numpy.array([1, 2], kind) for kind in ("f2", "f4", "f8", ">f8", "i8", "u1")]
        assert [vector_of("v", "s", form) for form in forms] == [plain] * len(forms)


class TestHostileKeyValue:
    @pytest.mark.parametrize("name", list(hostile.HOSTILE_JSON))
    def test_p6_hostile_json_is_refused_as_a_value(self, storage: Storage, name: str) -> None:
        storage.kv.set("k", "kept")
        with pytest.raises(Invalid):
            storage.kv.set("k", hostile.HOSTILE_JSON[name]())
        assert storage.kv.get("k") == "kept"

    @pytest.mark.parametrize("name", hostile.HOSTILE_TEXTS)
    def test_p5_hostile_text_is_refused_as_a_key(self, storage: Storage, name: str) -> None:
        key = hostile.HOSTILE_TEXTS[name]()
        for call in (
            lambda: storage.kv.set(key, 1),
            lambda: storage.kv.get(key),
            lambda: storage.kv.delete(key),
        ):
            with pytest.raises(Invalid):
                call()
        assert list(storage.kv.list()) == []

    @pytest.mark.parametrize("text", hostile.FRIENDLY_TEXTS)
    def test_p5_what_only_looks_hostile_is_kept(self, storage: Storage, text: str) -> None:
        key = text[:512]
        storage.kv.set(key, {text: text})
        assert storage.kv.get(key) == {text: text}
        assert [entry.key for entry in storage.kv.list(key[:2])] == [key]

    def test_p9_forged_cursors_are_refused(self, storage: Storage) -> None:
        for n in range(6):
            storage.kv.set(f"k{n}", n)
            storage.scoped(tenant="other").kv.set(f"k{n}", n)
        good = storage.kv.list("k", limit=2).next_cursor
        assert good is not None
        foreign = storage.scoped(tenant="other").kv.list("k", limit=2).next_cursor

        @hostile.examples(30)
        @given(st.integers(0, len(good) - 2), st.characters(), st.text(max_size=9))
        def check(at: int, changed: str, noise: str) -> None:
            for forged in (good[:at], good[:at] + changed + good[at + 1 :], noise, good + noise):
                if forged.rstrip("=") != good:
                    with pytest.raises(InvalidCursor):
                        storage.kv.list("k", limit=2, cursor=forged)

        check()
        for forged in (foreign, "", 5, b"x", [good]):
            with pytest.raises(InvalidCursor):
                storage.kv.list("k", limit=2, cursor=forged)  # type: ignore[arg-type]
        assert [e.key for e in storage.kv.list("k", limit=2, cursor=good)] == ["k2", "k3"]

    @pytest.mark.parametrize("seconds", [0, -1, NAN, float("inf"), True, "1", 1e300])
    def test_p16_a_senseless_lifetime_is_refused(self, storage: Storage, seconds: Any) -> None:
        with pytest.raises(Invalid):
            storage.kv.set("k", 1, ttl_seconds=seconds)
        assert storage.kv.entry("k") is None

    @pytest.mark.parametrize("limit", [0, -1, 1_001, True, 1.5, "1", None])
    def test_p16_a_senseless_limit_is_refused(self, storage: Storage, limit: Any) -> None:
        with pytest.raises(Invalid):
            storage.kv.list(limit=limit)


def _assert_untouched(driver: Driver) -> None:
    """Nothing but the plain record "a" is in THINGS."""
    found = driver.query("t", Query(collection=THINGS.name)).records
    assert found == [{**thing("a"), "revision": 1}]


def _levels(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def _torn_vectors() -> list[Any]:
    """Vector values that no check made."""
    numbers = struct.pack("<2f", 1.0, 0.0)
    return [
        Vector("s1", numbers[:7]),
        Vector("s1", b""),
        Vector("s1", struct.pack("<2f", NAN, 1.0)),
        Vector("s1", struct.pack("<2f", float("inf"), 1.0)),
        Vector("s1", struct.pack("<2f", 0.0, 0.0)),
        Vector("s\x00", numbers),
        Vector("\ud800", numbers),
        Vector(1, numbers),  # type: ignore[arg-type]
        Vector("s1", "ab"),  # type: ignore[arg-type]
        Vector("s1", [1.0, 0.0]),  # type: ignore[arg-type]
        [1.0, 0.0],
        numbers,
    ]
