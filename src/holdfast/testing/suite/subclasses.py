"""Values of subclasses, as pendulum, pandas, numpy and enumerations make them: B43."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, Final

import pytest

from holdfast.core.change import Edit, Patch, Put
from holdfast.core.clock import CheckedClock, ManualClock
from holdfast.core.driver import Driver
from holdfast.core.errors import Invalid
from holdfast.core.filter import Contains, Filter, JsonPath, Prefix, eq, le
from holdfast.core.query import Query, asc
from holdfast.core.runtime import Runtime
from holdfast.core.scope import Scope
from holdfast.storage import Storage, all_collections
from holdfast.stores.tasks.records import TaskDraft
from holdfast.testing.shapes import NOON, SHAPES, THINGS, thing
from holdfast.testing.stage import runtime


class Word(str):
    """Text."""


class Number(float):
    """A float."""


class Blob(bytes):
    """Bytes."""


class Color(StrEnum):
    """Words of a closed set."""

    RED = "red"


class Rank(IntEnum):
    """Numbers of a closed set."""

    FIRST = 1


class Stamp(datetime):
    """An instant that computes with its own kind only, as those of some libraries do."""

    def __sub__(self, other: Any) -> Any:
        raise TypeError("only with a Stamp")

    def astimezone(self, tz: tzinfo | None = None) -> Stamp:
        raise TypeError("only to a zone of its own")


STAMP: Final = Stamp(2026, 1, 5, 14, tzinfo=timezone(timedelta(hours=2)))
"""NOON, elsewhere."""
GIVEN: Final[dict[str, Any]] = {
    "id": Word("a"),
    "name": Word("n"),
    "note": Word("x" * 600),
    "score": Number(0.5),
    "at": STAMP,
    "maybe_at": Stamp(2026, 1, 5, 12, tzinfo=UTC),
    "blob": Blob(b"b"),
    "tags": [Word("t")],
    "data": MappingProxyType({Word("a"): [Color.RED, Rank.FIRST, Number(0.5), (Word("w"),)]}),
    "maybe_data": Color.RED,
}
PLAIN: Final[dict[str, Any]] = {
    "id": "a",
    "name": "n",
    "note": "x" * 600,
    "score": 0.5,
    "at": NOON,
    "maybe_at": NOON,
    "blob": b"b",
    "tags": ["t"],
    "data": {"a": ["red", 1, 0.5, ["w"]]},
    "maybe_data": "red",
}


class _Stamping:
    """A clock whose instants are of a subclass."""

    def now(self) -> datetime:
        return STAMP


class TestSubclasses:
    def test_b43_a_record_of_them_is_stored_and_given_back_plain(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        put = driver.apply("t", [Put(THINGS.name, {**thing("a"), **GIVEN})])[0].record
        held = driver.get("t", THINGS.name, (Word("a"),))
        assert held is not None
        for told in (put, held):
            assert _shown(told) == _shown({**thing("a"), **PLAIN, "revision": 1})

    def test_b43_an_edit_of_them_is_plain(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        given = {name: value for name, value in GIVEN.items() if name != "id"}
        edits = [Edit(set=given), Edit(maximum={"at": STAMP}, increment={"score": Number(0.0)})]
        driver.apply("t", [Put(THINGS.name, thing("a"))])
        driver.apply("t", [Patch(THINGS.name, ("a",), edit) for edit in edits])
        held = driver.get("t", THINGS.name, ("a",))
        assert held is not None
        assert _shown(held) == _shown({**thing("a"), **PLAIN, "revision": 3})

    @pytest.mark.parametrize(
        "where",
        [
            eq("name", Word("n")),
            eq("at", STAMP),
            le("score", Number(0.5)),
            Prefix("note", Word("xx")),
            Contains("tags", (Word("t"),)),
            JsonPath("data", (Word("a"),), "eq", Word("b")),
        ],
        ids=lambda where: f"{where.__struct_config__.tag} {where.field}",
    )
    def test_b43_a_filter_by_them_finds_what_a_plain_one_finds(
        self, driver: Driver, where: Filter
    ) -> None:
        driver.setup(SHAPES)
        there = {**thing("a"), **PLAIN, "data": {"a": "b"}}
        other = thing("z", name="z", at=NOON + timedelta(hours=1), score=9.0)
        driver.apply("t", [Put(THINGS.name, there), Put(THINGS.name, other)])
        found = driver.query("t", Query(collection=THINGS.name, filter=where, order=asc("id")))
        assert [record["id"] for record in found.records] == ["a"]

    def test_b43_upkeep_takes_an_instant_of_a_subclass(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.maintain("sweep", now=STAMP, limit=None)

    @pytest.mark.parametrize("year, hours", [(1, 14), (9999, -14)])
    def test_b43_an_instant_that_utc_has_no_year_for_is_refused(
        self, driver: Driver, year: int, hours: int
    ) -> None:
        driver.setup(SHAPES)
        month, day = (1, 1) if year == 1 else (12, 31)
        for kind in (datetime, Stamp):
            at = kind(year, month, day, 12, tzinfo=timezone(timedelta(hours=hours)))
            with pytest.raises(Invalid) as refused:
                driver.apply("t", [Put(THINGS.name, thing("a", at=at))])
            assert refused.value.field == "at"


class TestSubclassesInStores:
    def test_b43_what_a_store_answers_is_what_it_kept(self, storage: Storage) -> None:
        memory = storage.memory.remember("Ada was born", said_at=STAMP, speaker=Word("Ada"))
        task = storage.tasks.post(TaskDraft(title="call", due_at=STAMP))
        assert type(memory.said_at) is type(task.due_at) is datetime
        assert memory.said_at == task.due_at == NOON
        assert [m.id for m in storage.memory.list(said_from=STAMP)] == [memory.id]
        assert storage.memory.get(memory.id) == memory
        assert storage.tasks.get(task.id) == task

    @pytest.mark.parametrize(
        ("given", "plain"),
        [
            (Color.RED, "red"),
            (Rank.FIRST, 1),
            (Number(0.5), 0.5),
            ([Color.RED, {Color.RED: Rank.FIRST}], ["red", {"red": 1}]),
        ],
        ids=repr,
    )
    def test_b43_json_of_them_is_plain(self, storage: Storage, given: Any, plain: Any) -> None:
        for told in (storage.kv.set("k", given).value, storage.kv.get("k")):
            assert type(told) is type(plain)
            assert told == plain
        storage.memory.remember("red", metadata={"a": {"b": given}})
        assert storage.memory.list().items[0].metadata == {"a": {"b": plain}}

    def test_b43_a_page_by_them_goes_on(self, storage: Storage) -> None:
        kept = [storage.memory.remember(content).id for content in ("one", "two", "three")]
        early = Stamp(2020, 1, 1, tzinfo=UTC)
        first = storage.memory.list(created_from=early, limit=2)
        rest = storage.memory.list(created_from=early, limit=2, cursor=first.next_cursor)
        assert [m.id for m in (*first, *rest)] == kept[::-1]

    def test_b43_a_clock_of_them_tells_plain_instants(
        self, driver: Driver, clock: ManualClock
    ) -> None:
        driver.setup(all_collections())
        parts = runtime(clock, "id9")
        stamping = Runtime(
            clock=CheckedClock(_Stamping()),
            ids=parts.ids,
            embedder=parts.embedder,
            ranker=parts.ranker,
        )
        storage = Storage(driver, Scope(), stamping)
        memory = storage.memory.remember("kept")
        assert _shown({"at": memory.created_at}) == _shown({"at": NOON})
        assert storage.memory.get(memory.id) == memory
        clock.set(STAMP)
        assert _shown({"at": clock.now()}) == _shown({"at": NOON})


def _classes(value: Any) -> Iterator[type]:
    """The classes of the values in lists and objects, and of keys."""
    yield type(value)
    if isinstance(value, dict | list):
        for held in (*value, *value.values()) if isinstance(value, dict) else value:
            yield from _classes(held)


def _shown(record: dict[str, Any]) -> dict[str, tuple[type, Any]]:
    """The values, each with its class: equal values may be of several."""
    shown: dict[str, tuple[type, Any]] = {}
    for name, value in record.items():
        shown[name] = (type(value), value)
        if isinstance(value, list | dict):
            shown[f"{name} inside"] = (list, [*_classes(value)])
        if isinstance(value, datetime):
            shown[f"{name} zone"] = (tzinfo, value.tzinfo)
    return shown
