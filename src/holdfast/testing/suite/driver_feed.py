"""The change feed: B31, B32."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from holdfast.core.change import (
    ABSENT,
    Claim,
    Delete,
    DeleteWhere,
    Edit,
    Patch,
    PatchWhere,
    Put,
)
from holdfast.core.driver import Driver, FeedEntry
from holdfast.core.errors import Conflict, NotFound
from holdfast.core.filter import EVERYTHING, eq
from holdfast.core.query import asc
from holdfast.testing.shapes import (
    CHILDREN,
    JOBS,
    LINKS,
    NOON,
    NOTES,
    PARENTS,
    SHAPES,
    job,
    note,
    put,
    vector,
)
from holdfast.testing.threads import at_once

WRITERS = 4
EACH = 15


def _follow(driver: Driver, follower: str = "f") -> int:
    """Begin to follow, and where the follower stands."""
    return driver.maintain("follow", follower=follower).counts["position"]


def _told(entries: list[FeedEntry]) -> list[tuple[Any, ...]]:
    return [(e.tenant, e.collection, e.key, e.revision, e.record is not None) for e in entries]


class TestDriverFeed:
    def test_b31_every_kind_of_change_is_told_once_in_order(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.feed:
            return
        driver.apply("t", [put(JOBS, job("old"))])
        stands = _follow(driver)
        edit = Edit(set={"worker": "w"})
        driver.apply("t", [put(JOBS, job("a"))], op_id="op")
        driver.apply("u", [put(JOBS, job("a"))])
        driver.apply("t", [put(JOBS, job("a"))], op_id="op")
        driver.apply("t", [Patch(JOBS.name, ("a",), edit), Delete(JOBS.name, ("missing",))])
        driver.apply("t", [PatchWhere(JOBS.name, EVERYTHING, edit)])
        driver.apply("t", [Claim(JOBS.name, eq("id", "old"), asc("id"), 1, edit)])
        driver.apply("t", [Delete(JOBS.name, ("a",)), DeleteWhere(JOBS.name, EVERYTHING)])
        with pytest.raises(Conflict):
            driver.apply("u", [put(JOBS, job("b")), Put(JOBS.name, job("a"), ABSENT)])
        entries = driver.feed("f", after=stands, limit=100)
        told = _told(entries)
        told[3:5] = sorted(told[3:5])  # one PatchWhere changed both, in an order of the engine's
        assert told == [
            ("t", JOBS.name, ("a",), 1, True),
            ("u", JOBS.name, ("a",), 1, True),
            ("t", JOBS.name, ("a",), 2, True),
            ("t", JOBS.name, ("a",), 3, True),
            ("t", JOBS.name, ("old",), 2, True),
            ("t", JOBS.name, ("old",), 3, True),
            ("t", JOBS.name, ("a",), 3, False),
            ("t", JOBS.name, ("old",), 3, False),
        ]
        assert [e.op_id for e in entries] == ["op"] + [None] * 7
        assert entries[2].record == {**job("a"), "worker": "w", "revision": 2}
        assert all(entry.at.utcoffset() == timedelta(0) for entry in entries)

    def test_b31_entries_hold_the_record_as_it_became_with_vectors(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.feed:
            return
        stands = _follow(driver)
        driver.apply("t", [put(NOTES, note("a", "word", embedding=vector(1, 2)))])
        driver.apply("t", [Patch(NOTES.name, ("a",), Edit(set={"body": "other"}))])
        first, second = driver.feed("f", after=stands, limit=9)
        assert first.record == note("a", "word", embedding=vector(1, 2)) | {"revision": 1}
        assert second.record == driver.get("t", NOTES.name, ("a",), vectors=True)

    def test_b31_each_entry_holds_the_vector_that_its_change_left(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        if not (driver.capabilities.feed and driver.capabilities.vectors):
            return
        stands = _follow(driver)

        def turned(x: float) -> Edit:
            return Edit(set={"embedding": vector(x, 2)})

        driver.apply(
            "t",
            [
                put(NOTES, note("a", "one", embedding=vector(1, 2))),
                put(NOTES, note("b", "one", embedding=vector(1, 2))),
                Patch(NOTES.name, ("a",), turned(3)),
                put(NOTES, note("a", "two", embedding=vector(4, 2))),
                Patch(NOTES.name, ("a",), Edit(set={"embedding": None})),
            ],
        )
        patch = PatchWhere(NOTES.name, eq("id", "b"), turned(5))
        gone = DeleteWhere(NOTES.name, eq("id", "b"))
        driver.apply("t", [Patch(NOTES.name, ("b",), turned(6)), patch, gone], op_id="op")
        entries = driver.feed("f", after=stands, limit=20)
        assert [(e.key[0], e.record and e.record["embedding"]) for e in entries] == [
            ("a", vector(1, 2)),
            ("b", vector(1, 2)),
            ("a", vector(3, 2)),
            ("a", vector(4, 2)),
            ("a", None),
            ("b", vector(6, 2)),
            ("b", vector(5, 2)),
            ("b", None),
        ]

    def test_b31_what_references_and_expiry_did_is_told_too(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.feed:
            return
        driver.apply("t", [put(PARENTS, {"id": "p", "name": ""})])
        driver.apply("t", [put(CHILDREN, {"id": "c", "parent": "p", "body": ""})])
        driver.apply("t", [put(LINKS, {"id": "l", "parent": "p"})])
        driver.apply("t", [put(NOTES, note("n", expires_at=NOON))])
        stands = _follow(driver)
        driver.apply("t", [Delete(PARENTS.name, ("p",))])
        driver.maintain("sweep", now=NOON + timedelta(days=1))
        assert sorted(_told(driver.feed("f", after=stands, limit=9))) == [
            ("t", CHILDREN.name, ("c",), 1, False),
            ("t", LINKS.name, ("l",), 2, True),
            ("t", NOTES.name, ("n",), 1, False),
            ("t", PARENTS.name, ("p",), 1, False),
        ]

    def test_b31_a_follower_reads_on_from_where_it_stands(
        self, driver: Driver, open_driver: Callable[[], Driver]
    ) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.feed:
            return
        stands = _follow(driver)
        driver.apply("t", [put(JOBS, job(str(n))) for n in range(7)])
        other = open_driver()
        other.setup(SHAPES)
        seen: list[str] = []
        while entries := other.feed("f", after=stands, limit=3):
            assert len(entries) <= 3
            assert other.feed("f", after=stands, limit=3) == entries
            seen.extend(entry.key[0] for entry in entries)
            assert [e.position for e in entries] == sorted({e.position for e in entries})
            assert entries[0].position > stands
            stands = entries[-1].position
            other.maintain("trim", follower="f", position=stands)
        assert seen == [str(n) for n in range(7)]
        assert driver.feed("f", after=stands, limit=0) == []
        assert _follow(driver) == stands

    def test_b31_each_follower_has_its_own_place(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.feed:
            return
        slow, fast = _follow(driver, "slow"), _follow(driver, "fast")
        driver.apply("t", [put(JOBS, job(str(n))) for n in range(4)])
        last = driver.feed("fast", after=fast, limit=9)[-1].position
        driver.maintain("trim", follower="fast", position=last)
        assert len(driver.feed("slow", after=slow, limit=9)) == 4
        assert _follow(driver, "slow") == slow
        driver.maintain("unfollow", follower="slow")
        with pytest.raises(NotFound):
            driver.feed("slow", after=slow, limit=9)
        driver.apply("t", [put(JOBS, job("later"))])
        assert [e.key for e in driver.feed("fast", after=last, limit=9)] == [("later",)]

    def test_b31_nothing_is_skipped_while_many_write(
        self, open_driver: Callable[[], Driver]
    ) -> None:
        handles = [open_driver() for _ in range(WRITERS + 1)]
        for handle in handles:
            handle.setup(SHAPES)
        if not handles[0].capabilities.feed:
            return
        stands = _follow(handles[0])

        finished: list[int] = []

        def work(caller: int) -> list[FeedEntry]:
            entries: list[FeedEntry] = []
            after, over = stands, False
            while caller == WRITERS and not over:
                over = len(finished) == WRITERS
                more = handles[caller].feed("f", after=after, limit=7)
                entries.extend(more)
                after = more[-1].position if more else after
                over = over and not more
            if caller < WRITERS:
                for n in range(EACH):
                    pair = [put(JOBS, job(f"{caller}-{n}")), put(JOBS, job(f"own-{caller}"))]
                    handles[caller].apply("t", pair)
                finished.append(caller)
            return entries

        entries = at_once(WRITERS + 1, work)[WRITERS]
        assert handles[0].feed("f", after=entries[-1].position, limit=9) == []
        wanted = {f"{caller}-{n}" for caller in range(WRITERS) for n in range(EACH)}
        assert {e.key[0] for e in entries} - {f"own-{c}" for c in range(WRITERS)} == wanted
        positions = [entry.position for entry in entries]
        assert positions == sorted(set(positions))
        for caller in range(WRITERS):
            told = [e.revision for e in entries if e.key == (f"own-{caller}",)]
            assert told == list(range(1, EACH + 1))

    def test_b32_nothing_is_kept_while_nobody_follows(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.feed:
            return
        with pytest.raises(NotFound):
            driver.feed("f", after=0, limit=9)
        with pytest.raises(NotFound):
            driver.maintain("trim", follower="f", position=0)
        with pytest.raises(NotFound):
            driver.feed("f", after=0, limit=9)
        driver.apply("t", [put(JOBS, job("a"))])
        _follow(driver)
        assert driver.feed("f", after=0, limit=9) == []
        driver.apply("t", [put(JOBS, job("b"))])
        [entry] = driver.feed("f", after=0, limit=9)
        driver.maintain("unfollow", follower="f")
        driver.apply("t", [put(JOBS, job("c"))])
        stands = _follow(driver)
        assert driver.feed("f", after=0, limit=9) == []
        driver.apply("t", [put(JOBS, job("d"))])
        [later] = driver.feed("f", after=stands, limit=9)
        assert later.position > entry.position

    def test_b32_what_every_follower_has_passed_is_dropped(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.feed:
            return
        stands = _follow(driver)
        driver.apply("t", [put(JOBS, job(str(n))) for n in range(5)])
        entries = driver.feed("f", after=stands, limit=9)
        driver.maintain("trim", follower="f", position=entries[2].position)
        assert driver.feed("f", after=0, limit=9) == entries[3:]
