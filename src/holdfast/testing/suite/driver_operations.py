"""Operation ids, backup, expiry and tenants: B18, B19, B33, B35, B40."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.change import (
    ABSENT,
    Change,
    Claim,
    Delete,
    DeleteWhere,
    Edit,
    Patch,
    PatchWhere,
    Put,
)
from holdfast.core.clock import ManualClock
from holdfast.core.driver import Driver
from holdfast.core.errors import IdempotencyMismatch, Invalid, NotFound
from holdfast.core.filter import EVERYTHING, InSelect, eq
from holdfast.core.query import Aggregate, Query, asc
from holdfast.core.scope import EVERY_TENANT
from holdfast.core.search import Search, TextLeg, VectorLeg
from holdfast.testing.harness import Harness
from holdfast.testing.shapes import (
    ACCOUNTS,
    EVENTS,
    JOBS,
    NOON,
    NOTES,
    PAIRS,
    PARENTS,
    SHAPES,
    account,
    event,
    job,
    note,
    put,
    vector,
)
from holdfast.testing.threads import at_once

STEP: list[Change] = [
    Patch(JOBS.name, ("a",), Edit(increment={"tries": 1})),
    put(EVENTS, event("e")),
    Claim(JOBS.name, EVERYTHING, asc("id"), 1, Edit(set={"worker": "w"})),
    DeleteWhere(JOBS.name, eq("id", "b")),
]
"""An operation that would not be the same done twice."""


class TestDriverOperations:
    def test_b18_a_repeat_returns_the_first_outcome_and_does_nothing(
        self, open_driver: Callable[[], Driver]
    ) -> None:
        driver, other = open_driver(), open_driver()
        driver.setup(SHAPES)
        other.setup(SHAPES)
        driver.apply("t", [put(JOBS, job("a")), put(JOBS, job("b"))])
        first = driver.apply("t", STEP, op_id="op")
        driver.apply("t", [Patch(JOBS.name, ("a",), Edit(set={"state": "later"}))])
        driver.apply("t", [put(JOBS, job("b"))])
        assert driver.apply("t", STEP, op_id="op") == first
        assert other.apply("t", STEP, op_id="op") == first
        driver.close()
        again = open_driver()
        again.setup(SHAPES)
        assert again.apply("t", list(STEP), op_id="op") == first
        read = again.get("t", JOBS.name, ("a",))
        assert read == {**job("a"), "tries": 1, "worker": "w", "state": "later", "revision": 4}
        assert again.get("t", JOBS.name, ("b",)) is not None
        assert again.aggregate("t", Aggregate(collection=EVENTS.name)) == [{"count": 1}]

    def test_b18_without_an_id_or_with_another_it_happens_again(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(JOBS, job("a"))])
        more: list[Change] = [Patch(JOBS.name, ("a",), Edit(increment={"tries": 1}))]
        for op_id in ("one", "two", None, None, "one", "ONE", "one "):
            driver.apply("t", more, op_id=op_id)
        read = driver.get("t", JOBS.name, ("a",))
        assert read is not None
        assert read["tries"] == 6

    def test_b18_a_failed_operation_leaves_its_id_unused(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        changes: list[Change] = [Patch(JOBS.name, ("a",), Edit(increment={"tries": 1}))]
        with pytest.raises(NotFound):
            driver.apply("t", changes, op_id="op")
        driver.apply("t", [put(JOBS, job("a"))])
        for _ in range(2):
            assert driver.apply("t", changes, op_id="op")[0].record["tries"] == 1

    def test_b18_of_twins_at_once_one_happens(self, open_driver: Callable[[], Driver]) -> None:
        handles = [open_driver() for _ in range(6)]
        for handle in handles:
            handle.setup(SHAPES)
        handles[0].apply("t", [put(JOBS, job("a")), put(JOBS, job("b"))])
        outcomes = at_once(6, lambda n: handles[n].apply("t", STEP, op_id="op"))
        assert all(outcome == outcomes[0] for outcome in outcomes)
        read = handles[0].get("t", JOBS.name, ("a",))
        assert read is not None
        assert read["tries"] == 1

    def test_b18_the_first_outcome_is_safe_from_the_caller(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        changes: list[Change] = [put(JOBS, job("a"))]
        driver.apply("t", changes, op_id="op")[0].record["state"] = "changed by the caller"
        assert driver.apply("t", changes, op_id="op")[0].record["state"] == "waiting"

    def test_b18_a_body_says_what_a_repeat_has_in_common(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        first = driver.apply("t", [put(JOBS, job("a"))], op_id="op", op_body=b"add")
        again = driver.apply("t", [put(JOBS, job("minted anew"))], op_id="op", op_body=b"add")
        assert again == first
        for changes, body in (([put(JOBS, job("a"))], b"other"), ([put(JOBS, job("a"))], None)):
            with pytest.raises(IdempotencyMismatch):
                driver.apply("t", changes, op_id="op", op_body=body)
        assert len(driver.query("t", Query(collection=JOBS.name)).records) == 1

    def test_b19_a_used_id_with_another_body_is_refused(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(JOBS, job("a"))], op_id="op")
        others: list[list[Change]] = [
            [put(JOBS, job("b"))],
            [put(JOBS, job("a", 1))],
            [Put(JOBS.name, job("a"), ABSENT)],
            [put(JOBS, job("a")), put(JOBS, job("b"))],
            [put(JOBS, job("a")), put(JOBS, job("a"))],
            [Delete(JOBS.name, ("a",))],
            [],
        ]
        for changes in others:
            with pytest.raises(IdempotencyMismatch):
                driver.apply("t", changes, op_id="op")
        found = driver.query("t", Query(collection=JOBS.name)).records
        assert found == [{**job("a"), "revision": 1}]


class TestDriverTenants:
    TENANTS = ("t", "T", "t ", "t%", "t_", "tt", "ü", "u\u0308", "t'--", "🙂", "*")

    def test_b33_the_same_keys_live_apart(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        for n, tenant in enumerate(self.TENANTS):
            changes = [
                Put(PAIRS.name, {"room": "r", "number": 1, "label": tenant}, ABSENT),
                Put(ACCOUNTS.name, account("a", state="live", email="e"), ABSENT),
                Put(EVENTS.name, event("e"), ABSENT),
                *(put(JOBS, job(str(k))) for k in range(n)),
            ]
            outcomes = driver.apply(tenant, changes, op_id="same")
            assert outcomes[2].record["seq"] == outcomes[2].record["number"] == 1
        for n, tenant in enumerate(self.TENANTS):
            read = driver.get(tenant, PAIRS.name, ("r", 1))
            assert read == {"room": "r", "number": 1, "label": tenant, "revision": 1}
            assert len(driver.query(tenant, Query(collection=PAIRS.name)).records) == 1
            assert driver.aggregate(tenant, Aggregate(collection=JOBS.name)) == [{"count": n}]
        assert driver.get("nobody", PAIRS.name, ("r", 1)) is None

    def test_b33_writes_reach_no_other_tenant(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        for tenant in ("t", "u"):
            driver.apply(tenant, [put(JOBS, job(k)) for k in "ab"])
        before = driver.query("u", Query(collection=JOBS.name)).records
        edit = Edit(set={"worker": "w"})
        driver.apply("t", [PatchWhere(JOBS.name, EVERYTHING, edit)])
        assert driver.apply("t", [Claim(JOBS.name, EVERYTHING, (), 9, edit)])[0].count == 2
        driver.apply("t", [Patch(JOBS.name, ("a",), edit), Delete(JOBS.name, ("b",))])
        assert driver.apply("t", [DeleteWhere(JOBS.name, EVERYTHING)])[0].count == 1
        assert driver.query("u", Query(collection=JOBS.name)).records == before
        with pytest.raises(NotFound):
            driver.apply("t", [Patch(JOBS.name, ("a",), edit)])
        assert driver.apply("t", [Delete(JOBS.name, ("a",))])[0].count == 0

    def test_b33_a_subselect_reads_its_own_tenant(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(JOBS, job("a")), put(JOBS, job("b"))])
        driver.apply("u", [put(PARENTS, {"id": "a", "name": ""})])
        driver.apply("t", [put(PARENTS, {"id": "b", "name": ""})])
        driver.apply("u", [put(JOBS, job("b"))])
        held = InSelect("id", PARENTS.name, "id", EVERYTHING)
        twice = InSelect("id", JOBS.name, "id", held)
        for tenant, where, expected in (
            ("t", held, ["b"]),
            ("t", ~held, ["a"]),
            ("t", twice, ["b"]),
            ("u", held | twice, []),
            (EVERY_TENANT, held, ["b"]),
            (EVERY_TENANT, ~held, ["a", "b"]),
            (EVERY_TENANT, twice, ["b"]),
        ):
            query = Query(collection=JOBS.name, filter=where, order=asc("id"))
            assert [r["id"] for r in driver.query(tenant, query).records] == expected

    def test_b33_searches_find_and_weigh_their_own_only(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        alone = [note("a", "apple pie", embedding=vector(1, 0)), note("b", "plum pie crust")]
        driver.apply("t", [put(NOTES, n) for n in alone])
        searches = [Search(collection=NOTES.name, text=TextLeg(terms=("apple", "pie")))] * bool(
            driver.capabilities.full_text
        ) + [
            Search(collection=NOTES.name, vector=VectorLeg(field="embedding", vector=vector(1, 1)))
        ] * bool(driver.capabilities.vectors)
        before = [driver.search("t", search) for search in searches]
        others = [note(str(n), "apple " * n, embedding=vector(1, 1)) for n in range(1, 9)]
        driver.apply("u", [put(NOTES, n) for n in others])
        assert [driver.search("t", search) for search in searches] == before
        assert all(driver.search("v", search).records == {} for search in searches)

    def test_b33_only_the_named_wish_reads_every_tenant(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        for tenant in ("t", "u"):
            driver.apply(tenant, [put(JOBS, job("same")), put(JOBS, job(tenant))])
        query = Query(collection=JOBS.name, order=asc("id"))
        found = driver.query(EVERY_TENANT, query).records
        assert [r["id"] for r in found] == ["same", "same", "t", "u"]
        assert driver.aggregate(EVERY_TENANT, Aggregate(collection=JOBS.name)) == [{"count": 4}]
        for paged in (
            Query(collection=JOBS.name, limit=1),
            Query(collection=JOBS.name, after=("",)),
        ):
            with pytest.raises(Invalid, match="one tenant"):
                driver.query(EVERY_TENANT, paged)
        with pytest.raises(Invalid):
            driver.get(EVERY_TENANT, JOBS.name, ("same",))  # type: ignore[arg-type]
        for changes in ([put(JOBS, job("x"))], [DeleteWhere(JOBS.name, EVERYTHING)]):
            with pytest.raises(Invalid):
                driver.apply(EVERY_TENANT, changes)  # type: ignore[arg-type]
        search = Search(collection=NOTES.name, text=TextLeg(terms=("x",)))
        with pytest.raises(Invalid):
            driver.search(EVERY_TENANT, search)  # type: ignore[arg-type]


class TestDriverUpkeep:
    def test_b35_a_backup_taken_during_writes_opens_whole(
        self, driver: Driver, harness: Harness, clock: ManualClock
    ) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.backup:
            return
        stop = threading.Event()
        driver.apply("t", [put(NOTES, note("n", "kept word"))])

        def work(caller: int) -> None:
            if caller == 0:
                try:
                    driver.backup(str(target))
                finally:
                    stop.set()
            n = 0
            while not stop.is_set():
                pair = [{"room": r, "number": n, "label": None} for r in ("left", "right")]
                driver.apply("t", [put(PAIRS, half) for half in pair])
                n += 1

        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "copy"
            at_once(2, work)
            copy = harness.restore(str(target), clock)
            try:
                copy.setup(SHAPES)
                rows = copy.query("t", Query(collection=PAIRS.name)).records
                halves = {
                    r: {x["number"] for x in rows if x["room"] == r} for r in ("left", "right")
                }
                assert halves["left"] == halves["right"] == set(range(len(rows) // 2))
                assert copy.get("t", NOTES.name, ("n",)) is not None
                if copy.capabilities.integrity:
                    assert copy.maintain("integrity").ok
                copy.apply("t", [put(JOBS, job("writable"))])
            finally:
                copy.close()
        assert driver.get("t", JOBS.name, ("writable",)) is None

    def test_b40_sweep_removes_what_expired_and_only_that(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        instants = {
            "long ago": NOON - timedelta(days=400),
            "just now": NOON - timedelta(microseconds=1),
            "at the instant": NOON,
            "soon": NOON + timedelta(microseconds=1),
            "never": None,
        }
        for tenant in ("t", "u"):
            driver.apply(
                tenant, [put(NOTES, note(k, "word", expires_at=v)) for k, v in instants.items()]
            )
            driver.apply(tenant, [put(JOBS, job("kept"))])
        report = driver.maintain("sweep", now=NOON)
        assert report.ok
        assert report.task == "sweep"
        assert sum(report.counts.values()) == 4
        for tenant in ("t", "u"):
            found = driver.query(tenant, Query(collection=NOTES.name)).records
            assert sorted(r["id"] for r in found) == ["at the instant", "never", "soon"]
            assert driver.get(tenant, JOBS.name, ("kept",)) is not None
            if driver.capabilities.full_text:
                search = Search(collection=NOTES.name, text=TextLeg(terms=("word",)))
                assert len(driver.search(tenant, search).text) == 3
        assert sum(driver.maintain("sweep", now=NOON).counts.values()) == 0

    def test_b40_sweep_with_a_limit_takes_the_oldest(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        hours = {str(n): NOON - timedelta(hours=n) for n in range(1, 6)}
        driver.apply("t", [put(NOTES, note(k, expires_at=v)) for k, v in hours.items()])
        assert sum(driver.maintain("sweep", now=NOON, limit=2).counts.values()) == 2
        found = driver.query("t", Query(collection=NOTES.name)).records
        assert [r["id"] for r in found] == ["1", "2", "3"]

    def test_b40_maintenance_loses_nothing(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(NOTES, note(str(n), f"word {n}")) for n in range(20)])
        driver.apply("t", [DeleteWhere(NOTES.name, eq("id", "7"))])
        before = driver.query("t", Query(collection=NOTES.name, vectors=True)).records
        search = Search(collection=NOTES.name, k=30, text=TextLeg(terms=("word",)))
        hits = driver.search("t", search)
        tasks = ["analyze", "vacuum", "reindex"]
        for task in tasks + ["integrity"] * bool(driver.capabilities.integrity):
            report = driver.maintain(task)  # type: ignore[arg-type]
            assert (report.task, report.ok, report.findings) == (task, True, [])
            assert driver.query("t", Query(collection=NOTES.name, vectors=True)).records == before
            assert driver.search("t", search) == hits

    def test_b40_a_task_that_is_not_understood_is_refused(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(NOTES, note("a", expires_at=NOON))])
        later = NOON + timedelta(days=1)
        wishes: list[tuple[Any, dict[str, Any]]] = [
            ("polish", {}),
            (None, {}),
            ("sweep", {}),
            ("sweep", {"now": "today"}),
            ("sweep", {"now": later.replace(tzinfo=None)}),
            ("sweep", {"now": later, "limit": -1}),
            ("sweep", {"now": later, "tenant": "t"}),
            ("vacuum", {"hard": True}),
        ]
        for task, options in wishes:
            with pytest.raises(Invalid):
                driver.maintain(task, **options)
        assert driver.get("t", NOTES.name, ("a",)) is not None
