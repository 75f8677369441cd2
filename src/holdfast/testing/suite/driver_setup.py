"""Opening, editions, reading back, capabilities, health and closing: B01-B06, B34, B36, B37."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from holdfast.core.capabilities import Capability
from holdfast.core.change import Delete, Edit, Patch
from holdfast.core.driver import Driver
from holdfast.core.errors import Closed, Conflict, SchemaNewer, Unavailable, Unsupported
from holdfast.core.query import Aggregate, Query, asc
from holdfast.core.search import Search, TextLeg, VectorLeg
from holdfast.storage import all_collections
from holdfast.testing.harness import Cannot, Harness
from holdfast.testing.processes import peers_on
from holdfast.testing.shapes import (
    EDITION_1,
    EDITION_2,
    EDITION_2_STRICT,
    NOON,
    NOTES,
    PAIRS,
    PARENTS,
    SHAPES,
    THINGS,
    note,
    put,
    thing,
    vector,
)
from holdfast.testing.threads import at_once

OPENERS = 6


class TestDriverSetup:
    @pytest.mark.new_store
    def test_b01_setup_creates_what_is_missing_and_repeats_without_change(
        self, driver: Driver, harness: Harness, open_driver: Callable[[], Driver]
    ) -> None:
        driver.setup([PARENTS])
        driver.apply("t", [put(PARENTS, {"id": "p", "name": "kept"})])
        before = harness.peek(PARENTS, "t")
        driver.setup([PARENTS])
        driver.setup(SHAPES)
        open_driver().setup(SHAPES)
        assert harness.peek(PARENTS, "t") == before
        assert driver.query("t", Query(collection=THINGS.name)).records == []

    @pytest.mark.new_store
    def test_b01_store_outlives_its_handle(self, open_driver: Callable[[], Driver]) -> None:
        first = open_driver()
        first.setup(SHAPES)
        first.apply("t", [put(PAIRS, {"room": "r", "number": 1, "label": None})])
        first.close()
        again = open_driver()
        again.setup(SHAPES)
        assert again.get("t", PAIRS.name, ("r", 1)) is not None

    @pytest.mark.new_store
    def test_b01_setup_finds_every_built_in_shape_as_it_left_it(
        self, open_driver: Callable[[], Driver]
    ) -> None:
        open_driver().setup(all_collections())
        again = open_driver()
        again.setup(all_collections())
        found = [again.query("t", Query(collection=c.name)).records for c in all_collections()]
        assert found == [[] for _ in all_collections()]

    @pytest.mark.new_store
    def test_b41_setup_without_create_changes_nothing(
        self, driver: Driver, open_driver: Callable[[], Driver]
    ) -> None:
        with pytest.raises(Unavailable):
            driver.setup(SHAPES, create=False)
        open_driver().setup([EDITION_1])
        for missing in ([EDITION_2], [EDITION_1, PARENTS]):
            with pytest.raises(Unavailable):
                driver.setup(missing, create=False)
        driver.setup([EDITION_1], create=False)
        driver.apply("t", [put(EDITION_1, {"id": "a", "body": "b"})])
        found = open_driver()
        found.setup([EDITION_1], create=False)
        assert found.get("t", EDITION_1.name, ("a",)) is not None

    @pytest.mark.new_store
    def test_b02_setup_by_several_threads_at_once(self, open_driver: Callable[[], Driver]) -> None:
        handles = [open_driver() for _ in range(OPENERS)]
        at_once(OPENERS, lambda n: handles[n].setup(SHAPES))
        for n, handle in enumerate(handles):
            handle.apply("t", [put(PARENTS, {"id": str(n), "name": ""})])
        assert handles[0].aggregate("t", Aggregate(collection=PARENTS.name)) == [{"count": OPENERS}]

    @pytest.mark.new_store
    def test_b02_upgrade_by_several_threads_at_once(
        self, driver: Driver, open_driver: Callable[[], Driver]
    ) -> None:
        driver.setup([EDITION_1])
        driver.apply("t", [put(EDITION_1, {"id": str(n), "body": "b"}) for n in range(20)])
        driver.close()
        handles = [open_driver() for _ in range(OPENERS)]
        at_once(OPENERS, lambda n: handles[n].setup([EDITION_2]))
        found = handles[-1].query("t", Query(collection=EDITION_2.name)).records
        assert [r["label"] for r in found] == ["plain"] * 20

    @pytest.mark.new_store
    def test_b02_setup_by_several_processes_at_once(self, harness: Harness, driver: Driver) -> None:
        if not driver.capabilities.multi_process:
            with pytest.raises(Cannot):
                harness.url()
            return
        with peers_on(harness.url(), 4) as peers:
            for peer in peers:
                peer.start("setup")
            assert [peer.answer() for peer in peers] == ["ready"] * 4
        driver.setup(SHAPES)
        driver.apply("t", [put(PARENTS, {"id": "p", "name": ""})])
        assert driver.get("t", PARENTS.name, ("p",)) is not None

    @pytest.mark.new_store
    def test_b03_setup_refuses_a_newer_edition_and_writes_nothing(
        self, driver: Driver, harness: Harness, open_driver: Callable[[], Driver]
    ) -> None:
        driver.setup([EDITION_2])
        record = {"id": "a", "body": "b", "label": "l", "weight": 2.0, "code": None, "tags": ["x"]}
        driver.apply("t", [put(EDITION_2, record)])
        before = harness.peek(EDITION_2, "t")
        old = open_driver()
        with pytest.raises(SchemaNewer):
            old.setup([EDITION_1])
        with pytest.raises(SchemaNewer):
            old.setup([*SHAPES, EDITION_1])
        assert harness.peek(EDITION_2, "t") == before
        assert driver.get("t", EDITION_2.name, ("a",)) == {**record, "revision": 1}
        open_driver().setup([EDITION_2])

    @pytest.mark.new_store
    def test_b04_setup_brings_an_older_edition_up_and_keeps_records(
        self, driver: Driver, open_driver: Callable[[], Driver]
    ) -> None:
        driver.setup([EDITION_1])
        driver.apply("t", [put(EDITION_1, {"id": k, "body": f"body {k}"}) for k in "ab"])
        driver.apply("t", [Patch(EDITION_1.name, ("b",), Edit(set={"body": "newer"}))])
        driver.close()
        new = open_driver()
        new.setup([EDITION_2])
        filled = {"label": "plain", "weight": 1.5, "code": None, "tags": []}
        assert new.query("t", Query(collection=EDITION_2.name, order=asc("id"))).records == [
            {"id": "a", "body": "body a", **filled, "revision": 1},
            {"id": "b", "body": "newer", **filled, "revision": 2},
        ]
        new.apply("t", [Patch(EDITION_2.name, ("a",), Edit(set={"code": "c"}))])
        with pytest.raises(Conflict) as refused:
            new.apply("t", [Patch(EDITION_2.name, ("b",), Edit(set={"code": "c"}))])
        assert refused.value.context["unique"] == "one_code"

    @pytest.mark.new_store
    def test_a2_a_step_that_fails_leaves_the_earlier_edition_usable(
        self, driver: Driver, open_driver: Callable[[], Driver], harness: Harness
    ) -> None:
        driver.setup([EDITION_1])
        driver.apply("t", [put(EDITION_1, {"id": k, "body": "same"}) for k in "ab"])
        before = harness.peek(EDITION_1, "t")
        new = open_driver()
        with pytest.raises(Conflict) as raised:
            new.setup([*SHAPES, EDITION_2_STRICT])
        assert raised.value.context["unique"] == "one_body"
        assert harness.peek(EDITION_1, "t") == before
        driver.apply("t", [put(EDITION_1, {"id": "c", "body": "same"})])
        again = open_driver()
        again.setup([EDITION_1])
        assert again.get("t", EDITION_1.name, ("c",)) is not None
        again.apply("t", [Delete(EDITION_1.name, (k,)) for k in "bc"])
        new.setup([EDITION_2_STRICT])
        assert new.get("t", EDITION_1.name, ("a",)) == {
            "id": "a",
            "body": "same",
            "label": "plain",
            "revision": 1,
        }

    def test_b05_get_returns_the_record_as_stored_or_none(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        assert driver.get("t", PAIRS.name, ("r", 1)) is None
        [outcome] = driver.apply("t", [put(PAIRS, {"room": "r", "number": 1, "label": "x"})])
        expected = {"room": "r", "number": 1, "label": "x", "revision": 1}
        assert outcome.record == expected
        assert driver.get("t", PAIRS.name, ("r", 1)) == expected
        assert driver.get("t", PAIRS.name, ("r", 2)) is None
        assert driver.get("t", PAIRS.name, ("R", 1)) is None

    def test_b05_what_a_caller_does_to_a_record_stays_with_the_caller(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        given = thing("a", data={"deep": [1]}, tags=["x"])
        driver.apply("t", [put(THINGS, given)])
        given["data"]["deep"].append(2)
        given["tags"].append("y")
        for _ in range(2):
            read = driver.get("t", THINGS.name, ("a",))
            assert read is not None
            assert (read["data"], read["tags"]) == ({"deep": [1]}, ["x"])
            read["data"]["deep"].append(3)
            read["tags"].clear()

    @pytest.mark.parametrize("field, value", [
        *(("name", v) for v in ("", " ", "ü", "u\u0308", "🙂", "\u202eabc", "a'\"\\%_", "\uffff")),
        ("note", "long " * 5_000),
        ("note", "\r\n\t\u2028\x01"),
        *(("count", v) for v in (0, -1, 2**53 + 1, 2**63 - 1, -(2**63))),
        *(("score", v) for v in (0.1, -1e308, 5e-324, 1.7976931348623157e308, 2.0**53, 3.0)),
        *(("done", v) for v in (True, False)),
        *(("maybe_done", v) for v in (True, False)),
        ("at", datetime(1, 1, 1, tzinfo=UTC)),
        ("at", datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("at", datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("at", datetime(2038, 1, 19, 3, 14, 8, 1, tzinfo=UTC)),
        ("at", datetime(2026, 1, 5, 0, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))),
        *(("data", v) for v in (
            True, 0, 1, 1.0, 1.5, -0.5, 2**63 - 1, -(2**63), 1e300, "", "1", "null", [], {},
            [1, [2, [None, True]]], {"a": {"b": [{"c": None}]}}, {"": 1, "a.b": 2, "ü 🙂": 3},
            {"b": 1, "a": 2}, {"$x": "'", "__proto__": {}},
        )),
        *(("blob", v) for v in (b"", b"\x00", b"\xff\xfe", bytes(range(256)) * 40)),
        *(("tags", v) for v in ([], [""], ["a", "a"], ["b", "a"], [",", '"', "[]", "ü", "🙂"])),
    ])  # fmt: skip
    def test_b06_every_kind_of_value_comes_back_as_it_was_put(
        self, driver: Driver, field: str, value: Any
    ) -> None:
        driver.setup(SHAPES)
        [outcome] = driver.apply("t", [put(THINGS, thing("a", **{field: value}))])
        [listed] = driver.query("t", Query(collection=THINGS.name)).records
        for record in (outcome.record, driver.get("t", THINGS.name, ("a",)), listed):
            assert record is not None
            assert _exactly(record[field]) == _exactly(value)
            if isinstance(value, datetime):
                assert record[field].utcoffset() == timedelta(0)

    def test_b06_null_stays_null(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(THINGS, thing("a"))])
        read = driver.get("t", THINGS.name, ("a",))
        assert read == {**thing("a"), "revision": 1}

    def test_b06_vectors_come_back_bit_for_bit_and_only_when_asked_for(
        self, driver: Driver
    ) -> None:
        driver.setup(SHAPES)
        given = vector(0.1, -3.0e38, 1e-40)
        driver.apply("t", [put(NOTES, note("a", embedding=given)), put(NOTES, note("b"))])
        with_vectors = Query(collection=NOTES.name, vectors=True)
        for record in (
            driver.get("t", NOTES.name, ("a",), vectors=True),
            driver.query("t", with_vectors).records[0],
        ):
            assert record is not None
            assert record["embedding"] == given
        bare = driver.get("t", NOTES.name, ("b",), vectors=True)
        assert bare is not None
        assert bare["embedding"] is None
        for record in (
            driver.get("t", NOTES.name, ("a",)),
            *driver.query("t", Query(collection=NOTES.name)).records,
        ):
            assert record is not None
            assert "embedding" not in record


class TestDriverEnds:
    def test_b34_what_is_not_offered_is_refused_by_name(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        uses: dict[str, Callable[[], object]] = {
            "full_text": lambda: driver.search("t", _text("word")),
            "vectors": lambda: driver.search("t", _near()),
            "feed": lambda: driver.maintain("follow", follower="f"),
            "backup": lambda: driver.backup("nowhere"),
            "integrity": lambda: driver.maintain("integrity"),
            "shared_commits": lambda: driver.group().__enter__(),
        }
        offers = {
            name: offered
            for name in msgspec.structs.asdict(driver.capabilities)
            if isinstance(offered := getattr(driver.capabilities, name), Capability)
        }
        assert set(uses) == set(offers) - {"durable", "multi_process"}
        for name, offered in offers.items():
            assert offered or offered.reason, f"{name} is refused without a reason"
        for name, use in uses.items():
            if not offers[name]:
                with pytest.raises(Unsupported) as refused:
                    use()
                assert refused.value.context["capability"] == name
                assert offers[name].reason in str(refused.value)

    def test_b36_health_answers_without_raising(self, driver: Driver) -> None:
        assert driver.health().backend == driver.name
        driver.setup(SHAPES)
        assert driver.health().ok
        driver.close()
        closed = driver.health()
        assert not closed.ok
        assert closed.reason

    def test_b36_health_answers_while_the_engine_does_not(
        self, driver: Driver, harness: Harness
    ) -> None:
        driver.setup(SHAPES)
        try:
            paused = harness.pause()
        except Cannot as reason:
            assert str(reason)
            return
        with paused:
            assert not driver.health().ok
        assert driver.health().ok

    def test_b37_close_repeats_and_later_calls_say_closed(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.close()
        driver.close()
        calls: list[Callable[[], object]] = [
            lambda: driver.setup(SHAPES),
            lambda: driver.get("t", PAIRS.name, ("r", 1)),
            lambda: driver.apply("t", [put(PARENTS, {"id": "p", "name": ""})]),
            lambda: driver.query("t", Query(collection=PAIRS.name)),
            lambda: driver.aggregate("t", Aggregate(collection=PAIRS.name)),
            lambda: driver.search("t", _text("word")),
            lambda: driver.feed("f", after=0, limit=1),
            lambda: driver.maintain("sweep", now=NOON),
            lambda: driver.backup("nowhere"),
            lambda: driver.group().__enter__(),
        ]
        for call in calls:
            with pytest.raises(Closed):
                call()

    def test_b37_closing_one_handle_leaves_the_others(
        self, driver: Driver, open_driver: Callable[[], Driver]
    ) -> None:
        other = open_driver()
        driver.setup(SHAPES)
        other.setup(SHAPES)
        driver.close()
        other.apply("t", [put(PARENTS, {"id": "p", "name": ""})])
        assert other.get("t", PARENTS.name, ("p",)) is not None


def _text(*terms: str) -> Search:
    return Search(collection=NOTES.name, text=TextLeg(terms=terms))


def _near() -> Search:
    return Search(collection=NOTES.name, vector=VectorLeg(field="embedding", vector=vector(1, 2)))


def _exactly(value: Any) -> Any:
    """The value with its types and its order of keys, so that 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return {key: _exactly(held) for key, held in value.items()}
    if isinstance(value, list):
        return [_exactly(held) for held in value]
    return type(value).__name__, value
