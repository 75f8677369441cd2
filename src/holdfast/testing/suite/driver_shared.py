"""Several callers on one store, threads and processes: B14, B16, B20, B38."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from holdfast.core.change import ABSENT, Claim, Delete, Edit, Patch, Put
from holdfast.core.driver import Driver
from holdfast.core.errors import Conflict
from holdfast.core.filter import eq
from holdfast.core.query import Aggregate, Query, asc, desc
from holdfast.testing.harness import Cannot, Harness
from holdfast.testing.processes import Peer, peers_on
from holdfast.testing.shapes import EVENTS, JOBS, PAIRS, PARENTS, SHAPES, event, job, put
from holdfast.testing.threads import at_once

CALLERS = 4
EACH = 12


class TestDriverSequences:
    def test_b14_sequences_count_per_parent_without_gap_or_reuse(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        given = [
            driver.apply("t", [put(EVENTS, event(f"{n}", thread))])[0].record
            for n, thread in enumerate("aabab")
        ]
        assert [r["seq"] for r in given] == [1, 2, 1, 3, 2]
        assert [r["number"] for r in given] == [1, 2, 3, 4, 5]
        driver.apply("t", [Delete(EVENTS.name, ("4",)), Delete(EVENTS.name, ("3",))])
        [one, two] = driver.apply("t", [put(EVENTS, event("x", "a")), put(EVENTS, event("y", "a"))])
        assert [(r.record["seq"], r.record["number"]) for r in (one, two)] == [(4, 6), (5, 7)]

    def test_b14_a_failed_apply_uses_up_no_number(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(EVENTS, event("a"))])
        with pytest.raises(Conflict):
            driver.apply("t", [put(EVENTS, event("b")), Put(EVENTS.name, event("a"), ABSENT)])
        assert driver.apply("t", [put(EVENTS, event("c"))])[0].record["seq"] == 2

    def test_b14_a_record_keeps_its_number_when_it_is_written_again(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        kept = driver.apply("t", [put(EVENTS, event("a"))])[0].record
        driver.apply("t", [put(EVENTS, {**kept, "body": "edited"})])
        driver.apply("t", [Patch(EVENTS.name, ("a",), Edit(set={"body": "again"}))])
        read = driver.get("t", EVENTS.name, ("a",))
        assert read == {**kept, "body": "again", "revision": 3}
        assert driver.apply("t", [put(EVENTS, event("b"))])[0].record["seq"] == 2

    def test_b14_sequences_survive_reopening(self, open_driver: Callable[[], Driver]) -> None:
        first = open_driver()
        first.setup(SHAPES)
        first.apply("t", [put(EVENTS, event("a")), put(EVENTS, event("b"))])
        first.apply("t", [Delete(EVENTS.name, ("b",))])
        first.close()
        again = open_driver()
        again.setup(SHAPES)
        assert again.apply("t", [put(EVENTS, event("c"))])[0].record["seq"] == 3

    def test_b14_sequences_hold_under_concurrent_writers(
        self, open_driver: Callable[[], Driver]
    ) -> None:
        handles = [open_driver() for _ in range(CALLERS)]
        handles[0].setup(SHAPES)
        for handle in handles:
            handle.setup(SHAPES)

        def work(caller: int) -> list[tuple[int, int]]:
            given = []
            for n in range(EACH):
                changes = [put(EVENTS, event(f"{caller}-{n}"))]
                if n % 3 == 2:
                    with suppress(Conflict):
                        spoiler = Put(EVENTS.name, event(f"{caller}-0"), ABSENT)
                        handles[caller].apply("t", [*changes, spoiler])
                record = handles[caller].apply("t", changes)[0].record
                given.append((record["seq"], record["number"]))
            return given

        answers = at_once(CALLERS, work)
        assert all(given == sorted(given) for given in answers)
        numbers = list(range(1, CALLERS * EACH + 1))
        assert sorted(pair for given in answers for pair in given) == [(n, n) for n in numbers]

    def test_b14_sequences_hold_across_processes(self, driver: Driver, harness: Harness) -> None:
        driver.setup(SHAPES)
        with _peers(driver, harness, 3) as peers:
            for n, peer in enumerate(peers):
                peer.start("setup")
                peer.start("number", f"p{n}", EACH)
            answers = [[peer.answer(), peer.answer()][1] for peer in peers]
            given = sorted(tuple(pair) for answer in answers for pair in answer)
            assert given == [(n, n) for n in range(1, len(peers) * EACH + 1)]


class TestDriverClaims:
    def test_b16_claims_come_in_order_with_what_they_became(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(JOBS, job(k, p)) for k, p in (("a", 1), ("b", 3), ("c", 3))])
        driver.apply("t", [put(JOBS, job("z", 9, "done"))])
        edit = Edit(set={"state": "taken", "worker": "w"}, increment={"tries": 1})
        claim = Claim(JOBS.name, eq("state", "waiting"), desc("priority"), 2, edit)
        taken = {"state": "taken", "worker": "w", "tries": 1, "revision": 2}
        assert driver.apply("t", [claim])[0].records == (
            {**job("c", 3), **taken},
            {**job("b", 3), **taken},
        )
        assert driver.apply("t", [claim])[0].records == ({**job("a", 1), **taken},)
        assert driver.apply("t", [claim])[0].count == 0

    def test_b16_no_record_goes_to_two_threads(self, open_driver: Callable[[], Driver]) -> None:
        handles = [open_driver() for _ in range(CALLERS)]
        for handle in handles:
            handle.setup(SHAPES)
        handles[0].apply("t", [put(JOBS, job(f"{n:03}", n % 7)) for n in range(60)])

        def work(caller: int) -> list[tuple[int, str]]:
            taken: list[tuple[int, str]] = []
            edit = Edit(set={"state": "taken", "worker": str(caller)})
            claim = Claim(JOBS.name, eq("state", "waiting"), asc("priority"), caller % 3 + 1, edit)
            while records := handles[caller].apply("t", [claim])[0].records:
                assert {r["worker"] for r in records} == {str(caller)}
                taken.extend((r["priority"], r["id"]) for r in records)
            return taken

        answers = at_once(CALLERS, work)
        assert all(taken == sorted(taken) for taken in answers)
        assert sorted(id for taken in answers for _, id in taken) == [f"{n:03}" for n in range(60)]
        for caller, taken in enumerate(answers):
            query = Query(collection=JOBS.name, filter=eq("worker", str(caller)))
            held = handles[0].query("t", query).records
            assert {r["id"] for r in held} == {id for _, id in taken}

    def test_b16_no_record_goes_to_two_processes(self, driver: Driver, harness: Harness) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(JOBS, job(f"{n:03}", n % 7)) for n in range(60)])
        with _peers(driver, harness, 3) as peers:
            for n, peer in enumerate(peers):
                peer.start("setup")
                peer.start("claim", f"p{n}")
            taken = [[peer.answer(), peer.answer()][1] for peer in peers]
            if peers:
                assert sorted(id for ids in taken for id in ids) == [f"{n:03}" for n in range(60)]


class TestDriverDurability:
    def test_b20_a_write_is_there_for_others_when_it_returns(
        self, driver: Driver, harness: Harness, open_driver: Callable[[], Driver]
    ) -> None:
        other = open_driver()
        driver.setup(SHAPES)
        other.setup(SHAPES)
        for n in range(5):
            driver.apply("t", [put(PAIRS, {"room": "r", "number": n, "label": None})])
            assert other.get("t", PAIRS.name, ("r", n)) is not None
            assert len(harness.peek(PAIRS, "t")) == n + 1
        driver.apply("t", [Delete(PAIRS.name, ("r", 0))])
        assert other.get("t", PAIRS.name, ("r", 0)) is None

    @pytest.mark.new_store  # a server may do what the killed one had sent when the case is over
    def test_b20_what_was_acknowledged_outlives_a_killed_process(
        self, driver: Driver, harness: Harness
    ) -> None:
        driver.setup(SHAPES)
        for life in range(3):
            with _peers(driver, harness, 1) as peers:
                for peer in peers:
                    peer.start("setup")
                    peer.start("write", f"life{life}")
                    assert peer.answer() == "ready"
                    said = [peer.answer() for _ in range(10)] + peer.kill()
                    assert _missing(driver, said) == []
                    driver.apply("t", [put(PARENTS, {"id": f"after{life}", "name": ""})])

    def test_b20_a_frozen_writer_delays_others_and_loses_nothing(
        self, driver: Driver, harness: Harness
    ) -> None:
        driver.setup(SHAPES)
        with _holder(driver, harness) as peers:
            for peer in peers:
                peer.freeze()
                assert driver.get("t", PARENTS.name, ("held",)) is None

                def work(caller: int, peer: Peer = peer) -> None:
                    if caller == 0:
                        driver.apply("t", [put(PARENTS, {"id": "ours", "name": ""})])
                    else:
                        peer.thaw()
                        peer.start("release")

                at_once(2, work)
                assert peer.answer() == "released"
                assert _missing(driver, ["held", "ours"]) == []

    def test_b20_a_killed_writer_leaves_nothing_and_frees_the_store(
        self, driver: Driver, harness: Harness
    ) -> None:
        driver.setup(SHAPES)
        with _holder(driver, harness) as peers:
            for peer in peers:
                peer.kill()
                driver.apply("t", [put(PARENTS, {"id": "ours", "name": ""})])
                assert _missing(driver, ["held", "ours"]) == ["held"]


class TestDriverGroups:
    def test_b38_a_groups_writes_are_there_when_it_ends(
        self, driver: Driver, harness: Harness, open_driver: Callable[[], Driver]
    ) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.shared_commits:
            return
        with driver.group():
            for n in range(4):
                driver.apply("t", [put(JOBS, job(str(n)))], op_id=f"op{n}")
        assert len(harness.peek(JOBS, "t")) == 4
        other = open_driver()
        other.setup(SHAPES)
        assert other.aggregate("t", Aggregate(collection=JOBS.name)) == [{"count": 4}]
        again = other.apply("t", [put(JOBS, job("3"))], op_id="op3")
        assert again[0].record["revision"] == 1

    def test_b38_applies_in_a_group_fail_one_by_one(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.shared_commits:
            return
        driver.apply("t", [put(JOBS, job("taken"))])
        with driver.group():
            with pytest.raises(Conflict):
                driver.apply("t", [put(JOBS, job("first")), Put(JOBS.name, job("taken"), ABSENT)])
            driver.apply("t", [put(JOBS, job("a"))])
            driver.apply("t", [put(JOBS, job("b"))])
            with pytest.raises(Conflict):
                driver.apply("t", [put(JOBS, job("c")), Put(JOBS.name, job("a"), ABSENT)])
            driver.apply("t", [Patch(JOBS.name, ("a",), Edit(increment={"tries": 1}))])
        found = driver.query("t", Query(collection=JOBS.name)).records
        kept = [{**job(key), "revision": 1} for key in ("b", "taken")]
        assert found == [{**job("a"), "tries": 1, "revision": 2}, *kept]

    def test_b38_what_a_group_answered_is_what_it_stored_whoever_failed_between(
        self, driver: Driver
    ) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.shared_commits:
            return
        answered = []
        with driver.group():
            for n in range(6):
                made = [put(EVENTS, event(f"{n}")), put(JOBS, job("counted"))]
                answered.append([o.record for o in driver.apply("t", made, op_id=f"op{n}")])
                if n % 2:
                    late = Put(EVENTS.name, event(f"{n}"), ABSENT)
                    with pytest.raises(Conflict):
                        driver.apply("t", [put(EVENTS, event(f"late{n}")), late], op_id=f"late{n}")
        stored = driver.query("t", Query(collection=EVENTS.name)).records
        assert stored == [made for made, _ in answered]
        assert [made["number"] for made in stored] == [1, 2, 3, 4, 5, 6]
        assert driver.get("t", JOBS.name, ("counted",)) == answered[-1][1]
        again = driver.apply("t", [put(EVENTS, event("0")), put(JOBS, job("counted"))], op_id="op0")
        assert [outcome.record for outcome in again] == answered[0]

    def test_b38_a_group_that_ends_in_an_error_is_whole_or_gone(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.shared_commits:
            return
        with suppress(ZeroDivisionError), driver.group():
            driver.apply("t", [put(JOBS, job("a"))])
            driver.apply("t", [put(JOBS, job("b"))])
            raise ZeroDivisionError
        assert len(driver.query("t", Query(collection=JOBS.name)).records) in (0, 2)
        driver.apply("t", [put(JOBS, job("c"))])
        assert driver.get("t", JOBS.name, ("c",)) is not None

    def test_b38_groups_of_several_threads_do_not_mix(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.shared_commits:
            return
        driver.apply("t", [put(JOBS, job("n"))])

        def work(caller: int) -> None:
            for n in range(3):
                with driver.group():
                    driver.apply("t", [Patch(JOBS.name, ("n",), Edit(increment={"tries": 1}))])
                    with suppress(Conflict):
                        driver.apply("t", [Put(JOBS.name, job("n"), ABSENT)])
                    driver.apply("t", [put(JOBS, job(f"{caller}-{n}"))])

        at_once(CALLERS, work)
        assert len(driver.query("t", Query(collection=JOBS.name)).records) == 1 + 3 * CALLERS
        counter = driver.get("t", JOBS.name, ("n",))
        assert counter is not None
        assert counter["tries"] == 3 * CALLERS


@contextmanager
def _peers(driver: Driver, harness: Harness, count: int) -> Iterator[list[Peer]]:
    """Peers, or none when the engine says that other processes cannot reach its store."""
    if driver.capabilities.multi_process:
        with peers_on(harness.url(), count) as peers:
            yield peers
    else:
        with pytest.raises(Cannot):
            harness.url()
        yield []


@contextmanager
def _holder(driver: Driver, harness: Harness) -> Iterator[list[Peer]]:
    """A peer that holds an unfinished write, or none where there can be no such thing."""
    with _peers(driver, harness, int(bool(driver.capabilities.shared_commits))) as peers:
        for peer in peers:
            peer.start("setup")
            peer.start("hold", "held")
            assert [peer.answer(), peer.answer()] == ["ready", "holding"]
        yield peers


def _missing(driver: Driver, ids: list[str]) -> list[str]:
    return [id for id in ids if driver.get("t", PARENTS.name, (id,)) is None]
