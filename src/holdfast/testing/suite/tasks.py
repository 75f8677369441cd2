"""Tasks: I1 to I7, I9, I10, and isolation between the handles of one tenant."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.driver import Driver
from holdfast.core.errors import Ambiguous, Conflict, Invalid, InvalidText, NotFound
from holdfast.storage import Storage
from holdfast.stores.tasks.records import Task, TaskDraft, TaskFilter
from holdfast.stores.tasks.upkeep import Reclaimed
from holdfast.testing.harness import Cannot, Harness
from holdfast.testing.processes import peers_on
from holdfast.testing.races import Counting

DAY = 86_400


def later(clock: ManualClock, seconds: float) -> datetime:
    """Move the clock on and return where it stands."""
    clock.set(clock.now() + timedelta(seconds=seconds))
    return clock.now()


def take(storage: Storage, worker: str = "w") -> Task:
    """The next task in line, claimed."""
    [task] = storage.tasks.claim(worker)
    return task


def stored(storage: Storage, task: Task) -> Task:
    """The task as it is now."""
    found = storage.tasks.get(task.id)
    assert found is not None
    return found


def finished(storage: Storage, title: str = "done") -> Task:
    """A new task that is completed."""
    task = storage.tasks.post(title)
    held = storage.tasks.start(task.id, "w")
    return storage.tasks.complete(task.id, held.lease_token)


def refused(error: type[Exception], *calls: Callable[[], object]) -> None:
    """Each of the calls raises this error."""
    for call in calls:
        with pytest.raises(error):
            call()


class TestTaskList:
    def test_i1_filters_combine_and_totals_precede_the_limit(self, storage: Storage) -> None:
        due = storage.tasks.post("parent").created_at + timedelta(days=1)
        for team in ("red", "blue"):
            for priority in ("low", "urgent"):
                for n in range(2):
                    draft = TaskDraft(
                        title=f"{team} {priority} {n}",
                        priority=priority,
                        team=team,
                        tags=["x", f"n{n}"],
                        due_at=due + timedelta(days=n),
                    )
                    storage.tasks.post(draft)
        red = TaskFilter(team="red")
        page = storage.tasks.list(red, limit=1)
        assert [task.title for task in page] == ["red urgent 0"]
        assert storage.tasks.counts(red)["total"] == 4
        assert storage.tasks.counts()["pending"] == 9
        both = TaskFilter(team="red", priorities=["urgent"], tags=["x", "n1"], due_after=due)
        assert [task.title for task in storage.tasks.list(both)] == ["red urgent 1"]
        before = TaskFilter(team="blue", due_before=due + timedelta(days=1))
        assert {task.title for task in storage.tasks.list(before)} == {
            "blue urgent 0",
            "blue low 0",
        }
        assert storage.tasks.counts(TaskFilter(states=[]))["total"] == 0

    def test_i1_order_is_rank_then_place_then_id_over_all_pages(self, storage: Storage) -> None:
        for priority in ("low", "normal", "urgent", "high"):
            storage.tasks.post(TaskDraft(title=priority, priority=priority))
        seen, cursor = [], None
        while True:
            page = storage.tasks.list(limit=1, cursor=cursor)
            seen += [task.priority for task in page]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == ["urgent", "high", "normal", "low"]

    def test_i1_children_are_listed_by_parent(self, storage: Storage) -> None:
        parent = storage.tasks.post("parent")
        child = storage.tasks.post("child", parent_id=parent.id)
        grandchild = storage.tasks.post("grandchild", parent_id=child.id)
        assert [t.id for t in storage.tasks.list(TaskFilter(parent_id=parent.id))] == [child.id]
        assert grandchild.root_id == parent.id
        with pytest.raises(NotFound):
            storage.tasks.post("orphan", parent_id="nobody")

    def test_i1_idempotency_key_returns_the_first(self, storage: Storage) -> None:
        first = storage.tasks.post("first", idempotency_key="k")
        assert storage.tasks.post("second", idempotency_key="k") == first
        assert storage.tasks.counts()["total"] == 1
        other = storage.scoped(agent="other").tasks.post("theirs", idempotency_key="k")
        assert other.title == "theirs"

    def test_i1_bad_input_is_refused_before_anything_is_written(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        bad: list[dict[str, Any]] = [
            {"title": " "},
            {"title": 1},
            {"title": "t", "priority": "soon"},
            {"title": "t", "attempts_max": 0},
            {"title": "t", "attempts_max": True},
            {"title": "t", "retry_seconds": -1},
            {"title": "t", "retry_seconds": float("nan")},
            {"title": "t", "due_at": clock.now().replace(tzinfo=None)},
            {"title": "t", "metadata": [1]},
            {"title": "t\x00"},
            {"title": "t", "tags": "tag"},
        ]
        for fields in bad:
            with pytest.raises(Invalid):
                storage.tasks.post(TaskDraft(**fields))
        refused(
            Invalid,
            lambda: storage.tasks.claim(""),
            lambda: storage.tasks.claim("w", limit=0),
            lambda: storage.tasks.claim("w", lease_seconds=0),
            lambda: storage.tasks.list(TaskFilter(states=["done"])),  # type: ignore[list-item]
            lambda: storage.tasks.list(TaskFilter(priorities=["soon"])),  # type: ignore[list-item]
            lambda: storage.tasks.list(limit=0),
            lambda: storage.tasks.upkeep.prune(older_than_seconds=-1),
        )
        assert storage.tasks.counts()["total"] == 0

    def test_i7_search_reads_title_and_description(self, storage: Storage) -> None:
        title = storage.tasks.post("Rotate the certificates")
        body = storage.tasks.post(TaskDraft(title="Later", description="certificate expired"))
        storage.tasks.post("Water the plants")
        hits = storage.tasks.search("certificates")
        assert {hit.task.id for hit in hits} == {title.id, body.id}
        assert hits[0].score >= hits[1].score > 0
        assert [h.task.id for h in storage.tasks.search("certificate", limit=1)] == [
            hits[0].task.id
        ]
        none = TaskFilter(states=["completed"])
        assert storage.tasks.search("certificates", none) == []

    def test_i7_hostile_search_text_is_only_text(self, storage: Storage) -> None:
        wanted = storage.tasks.post("drop table tasks")
        for text in ('" OR 1=1 --', "NEAR(a b)", "*", "title:", "(((", "%_", "", "'" * 500):
            assert [hit.task.id for hit in storage.tasks.search(text)] == []
        hostile = "'; DROP TABLE tasks; --"
        assert [hit.task.id for hit in storage.tasks.search(hostile)] == [wanted.id]
        assert len(storage.tasks.search("drop " + " ".join(f"w{n}" for n in range(500)))) == 1
        with pytest.raises(InvalidText):
            storage.tasks.search("a\x00b")

    def test_i9_prefix_of_four_characters_finds_the_only_one(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        storage = open_storage()
        ids = [storage.tasks.post(str(n)).id for n in range(10)]
        assert storage.tasks.find_by_prefix(ids[0]).id == ids[0]
        with pytest.raises(Ambiguous):
            storage.tasks.find_by_prefix(ids[0][:4])
        assert storage.tasks.find_by_prefix(ids[9][:-1]).id == ids[9]
        with pytest.raises(NotFound):
            storage.tasks.find_by_prefix("%%%%")
        with pytest.raises(Invalid):
            storage.tasks.find_by_prefix(ids[0][:3])
        with pytest.raises(NotFound):
            storage.scoped(agent="a").tasks.find_by_prefix(ids[0])


class TestTaskLease:
    def test_i2_claims_by_rank_then_age_then_id(self, storage: Storage, clock: ManualClock) -> None:
        for priority in ("low", "normal", "urgent", "normal", "high"):
            storage.tasks.post(TaskDraft(title=priority, priority=priority))
            later(clock, 1)
        taken = [take(storage) for _ in range(5)]
        assert [t.priority for t in taken] == ["urgent", "high", "normal", "normal", "low"]
        assert taken[2].created_at < taken[3].created_at
        assert storage.tasks.claim("w") == []

    def test_i2_only_mine_or_unassigned_and_not_before_its_time(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        soon = clock.now() + timedelta(seconds=10)
        storage.tasks.post(TaskDraft(title="theirs", assignee="other", priority="urgent"))
        storage.tasks.post(TaskDraft(title="later", scheduled_at=soon, priority="high"))
        storage.tasks.post(TaskDraft(title="mine", assignee="w", team="red"))
        storage.tasks.post(TaskDraft(title="anybody's"))
        red = TaskFilter(team="red")
        assert [t.title for t in storage.tasks.claim("w", limit=9, where=red)] == ["mine"]
        assert [t.title for t in storage.tasks.claim("w", limit=9)] == ["anybody's"]
        later(clock, 10)
        assert [t.title for t in storage.tasks.claim("w", limit=9)] == ["later"]
        assert [t.title for t in storage.tasks.claim("other", limit=9)] == ["theirs"]

    def test_i2_sixteen_claimers_take_each_of_hundred_once(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        handles = [open_storage() for _ in range(4)]
        for n in range(100):
            handles[0].tasks.post(str(n))
        taken: list[str] = []

        def work(worker: int) -> None:
            while claimed := handles[worker % 4].tasks.claim(f"w{worker}", limit=3):
                taken.extend(task.id for task in claimed)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == len(set(taken)) == 100

    def test_i2_sixteen_claimers_in_two_processes_take_each_of_hundred_once(
        self, harness: Harness, storage: Storage, driver: Driver
    ) -> None:
        if not driver.capabilities.multi_process:
            with pytest.raises(Cannot):
                harness.url()
            return
        posted = {storage.tasks.post(str(n)).id for n in range(100)}
        with peers_on(harness.url(), 2) as peers:
            for n, peer in enumerate(peers):
                peer.start("claim tasks", f"process {n}", 8)
            taken = [id for peer in peers for id in peer.answer()]
        assert len(taken) == 100
        assert set(taken) == posted

    def test_i3_lease_has_token_and_end_and_is_extended(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        storage.tasks.post("t")
        held = take(storage)
        assert held.lease_until == clock.now() + timedelta(seconds=600)
        assert (held.state, held.holder, held.attempts, held.fence) == ("running", "w", 1, 1)
        later(clock, 500)
        extended = storage.tasks.extend(held.id, held.lease_token)
        assert extended.lease_until == clock.now() + timedelta(seconds=600)
        later(clock, 500)
        assert storage.tasks.claim("thief") == []
        with pytest.raises(Conflict):
            storage.tasks.extend(held.id, "another token")

    def test_i3_expired_lease_goes_to_another_and_the_stale_holder_conflicts(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        storage.tasks.post("t")
        stale = take(storage, "slow")
        later(clock, 600)
        held = take(storage, "fast")
        assert (held.id, held.attempts, held.fence) == (stale.id, 2, 2)
        assert held.lease_token != stale.lease_token
        tasks, token = storage.tasks, stale.lease_token
        refused(
            Conflict,
            lambda: tasks.extend(stale.id, token),
            lambda: tasks.complete(stale.id, token, result="stale"),
            lambda: tasks.fail(stale.id, token, "stale"),
            lambda: tasks.release(stale.id, token),
        )
        assert storage.tasks.get(held.id) == held

    def test_i3_reclaimed_is_pending_and_fails_without_attempts(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        storage.tasks.post(TaskDraft(title="last", attempts_max=1))
        storage.tasks.post("more")
        last, more = storage.tasks.claim("w", limit=2)
        later(clock, 599)
        assert storage.tasks.upkeep.reclaim() == Reclaimed(0, 0)
        later(clock, 1)
        assert storage.tasks.upkeep.reclaim() == Reclaimed(requeued=1, failed=1)
        requeued, failed = stored(storage, more), stored(storage, last)
        assert (requeued.state, requeued.holder, requeued.lease_until) == ("pending", "", None)
        assert (failed.state, failed.error, failed.finished_at) == (
            "failed",
            "The lease ran out.",
            clock.now(),
        )
        with pytest.raises(Conflict):
            storage.tasks.complete(more.id, more.lease_token)

    def test_i3_late_work_counts_while_nobody_else_took_the_task(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        storage.tasks.post("t")
        held = take(storage)
        later(clock, 10_000)
        assert storage.tasks.complete(held.id, held.lease_token).state == "completed"

    def test_i3_a_token_of_another_task_opens_nothing(self, storage: Storage) -> None:
        storage.tasks.post("one")
        storage.tasks.post("two")
        one, two = take(storage), take(storage)
        with pytest.raises(Conflict):
            storage.tasks.complete(one.id, two.lease_token)
        with pytest.raises(Invalid):
            storage.tasks.complete(one.id, "")

    def test_i3_released_task_keeps_its_place_and_its_attempts(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        storage.tasks.post("first")
        later(clock, 1)
        storage.tasks.post("second")
        held = take(storage)
        back = storage.tasks.release(held.id, held.lease_token)
        assert (back.state, back.attempts, back.attempts_left) == ("pending", 0, 3)
        again = take(storage)
        assert (again.id, again.fence) == (held.id, 2)

    def test_i3_start_takes_the_named_task_only_when_it_is_ready(self, storage: Storage) -> None:
        storage.tasks.post(TaskDraft(title="first", priority="urgent"))
        task = storage.tasks.post("named")
        assert storage.tasks.start(task.id, "w").holder == "w"
        with pytest.raises(Conflict):
            storage.tasks.start(task.id, "thief")
        theirs = storage.tasks.post(TaskDraft(title="theirs", assignee="other"))
        with pytest.raises(Conflict):
            storage.tasks.start(theirs.id, "w")


class TestTaskEnds:
    def test_i4_complete_stamps_and_merges(self, storage: Storage, clock: ManualClock) -> None:
        storage.tasks.post(TaskDraft(title="t", metadata={"a": 1, "b": {"c": 2}, "d": 3}))
        held = take(storage)
        now = later(clock, 5)
        merged = {"b": 4, "d": None, "e": [5]}
        done = storage.tasks.complete(held.id, held.lease_token, result=[1], metadata=merged)
        assert (done.state, done.result, done.finished) == ("completed", [1], True)
        assert done.metadata == {"a": 1, "b": 4, "e": [5]}
        assert (done.finished_at, done.updated_at, done.lease_until) == (now, now, None)
        assert (done.holder, done.started_at) == ("w", held.started_at)

    def test_i4_final_states_are_final(self, storage: Storage) -> None:
        for end in ("complete", "fail", "cancel"):
            task = storage.tasks.post(end)
            token = storage.tasks.start(task.id, "w").lease_token
            if end == "complete":
                storage.tasks.complete(task.id, token)
            elif end == "fail":
                storage.tasks.fail(task.id, token, "no", retry=False)
            else:
                storage.tasks.cancel(task.id, reason="not needed")
            ended = storage.tasks.get(task.id)
            calls: list[Callable[[], object]] = [
                lambda t_id=task.id, token=token: storage.tasks.complete(t_id, token),  # type: ignore[misc]
                lambda t_id=task.id, token=token: storage.tasks.fail(t_id, token, "x"),  # type: ignore[misc]
                lambda t_id=task.id, token=token: storage.tasks.extend(t_id, token),  # type: ignore[misc]
                lambda t_id=task.id, token=token: storage.tasks.release(t_id, token),  # type: ignore[misc]
                lambda t_id=task.id: storage.tasks.cancel(t_id),  # type: ignore[misc]
                lambda t_id=task.id: storage.tasks.start(t_id, "w"),  # type: ignore[misc]
            ]
            for call in calls:
                with pytest.raises(Conflict):
                    call()
            assert storage.tasks.get(task.id) == ended

    def test_i4_missing_is_not_found(self, storage: Storage) -> None:
        tasks = storage.tasks
        assert tasks.get("x") is None
        refused(
            NotFound,
            lambda: tasks.complete("x", "t"),
            lambda: tasks.fail("x", "t", "e"),
            lambda: tasks.extend("x", "t"),
            lambda: tasks.release("x", "t"),
            lambda: tasks.cancel("x"),
            lambda: tasks.start("x", "w"),
            lambda: tasks.log.append("x", "m"),
            lambda: tasks.log.list("x"),
            lambda: tasks.dependencies.add("x", "y"),
            lambda: tasks.dependencies.remove("x", "y"),
            lambda: tasks.dependencies.blockers("x"),
            lambda: tasks.dependencies.dependents("x"),
        )

    def test_i4_one_of_two_ends_wins(self, open_storage: Callable[..., Storage]) -> None:
        one, two = open_storage(), open_storage()
        for _ in range(20):
            task = one.tasks.post("t")
            token = one.tasks.start(task.id, "w").lease_token
            won: list[str] = []

            def end(name: str, call: Callable[[], Task], won: list[str] = won) -> None:
                try:
                    call()
                except Conflict:
                    return
                won.append(name)

            ends: list[tuple[str, Callable[[], Task]]] = [
                ("completed", lambda one_id=task.id, t=token: one.tasks.complete(one_id, t)),  # type: ignore[misc]
                ("cancelled", lambda one_id=task.id: two.tasks.cancel(one_id)),  # type: ignore[misc]
            ]
            threads = [threading.Thread(target=end, args=pair) for pair in ends]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert won == [stored(one, task).state]

    def test_i5_failed_attempts_wait_longer_each_time(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        storage.tasks.post(TaskDraft(title="t", attempts_max=3, retry_seconds=10))
        waits = []
        for _ in range(2):
            held = take(storage)
            failed = storage.tasks.fail(held.id, held.lease_token, "no luck")
            waits.append((failed.scheduled_at - clock.now()).total_seconds())
            assert (failed.state, failed.error) == ("pending", "no luck")
            assert storage.tasks.claim("w") == []
            clock.set(failed.scheduled_at)
        assert waits == [10, 20]
        held = take(storage)
        dead = storage.tasks.fail(held.id, held.lease_token, "no luck")
        assert (dead.state, dead.finished_at, dead.attempts) == ("failed", clock.now(), 3)

    def test_i5_a_retry_does_not_overtake_newer_work_of_its_rank(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        storage.tasks.post(TaskDraft(title="retried", retry_seconds=10))
        held = take(storage)
        storage.tasks.fail(held.id, held.lease_token, "no luck")
        later(clock, 5)
        storage.tasks.post("newer")
        later(clock, 10)
        storage.tasks.post("newest")
        storage.tasks.post(TaskDraft(title="lower", priority="low"))
        titles = [task.title for task in storage.tasks.claim("w", limit=9)]
        assert titles == ["newer", "retried", "newest", "lower"]


class TestTaskDependencies:
    def test_i6_blocked_until_the_last_dependency_is_completed(self, storage: Storage) -> None:
        one, two, done = (storage.tasks.post(n) for n in ("one", "two", "done"))
        storage.tasks.complete(done.id, storage.tasks.start(done.id, "w").lease_token)
        task = storage.tasks.post("t", depends_on=[one.id, two.id, done.id, one.id])
        assert (task.state, task.open_dependencies) == ("blocked", 2)
        assert task.blocked_reason == "It waits for other tasks."
        with pytest.raises(Conflict, match="It waits for other tasks"):
            storage.tasks.start(task.id, "w")
        for blocker, state in ((one, "blocked"), (two, "pending")):
            held = storage.tasks.start(blocker.id, "w")
            storage.tasks.complete(blocker.id, held.lease_token)
            assert stored(storage, task).state == state
        freed = stored(storage, task)
        assert (freed.open_dependencies, freed.blocked_reason) == (0, "")
        assert take(storage).id == task.id
        blockers = storage.tasks.dependencies.blockers(task.id)
        assert {t.id for t in blockers} == {one.id, two.id, done.id}
        assert [t.id for t in storage.tasks.dependencies.dependents(one.id)] == [task.id]

    def test_i6_a_task_costs_the_same_behind_one_and_behind_many(self, storage: Storage) -> None:
        counting = Counting(storage._driver)
        tasks = Storage(counting, storage.scope, storage._runtime).tasks
        costs = []
        for count in (1, 40):
            blockers = [storage.tasks.post(f"{count} {n}").id for n in range(count)]
            counting.calls.clear()
            task = tasks.post("t", depends_on=blockers)
            assert len(tasks.dependencies.blockers(task.id)) == count
            assert len(tasks.dependencies.dependents(blockers[0])) == 1
            costs.append(list(counting.calls))
        assert costs[0] == costs[1]

    def test_i6_all_dependencies_done_means_pending(self, storage: Storage) -> None:
        done = finished(storage)
        task = storage.tasks.post("t", depends_on=[done.id])
        assert (task.state, task.open_dependencies) == ("pending", 0)

    def test_i6_missing_dependency_adds_nothing(self, storage: Storage) -> None:
        one = storage.tasks.post("one")
        with pytest.raises(NotFound):
            storage.tasks.post("t", depends_on=[one.id, "nobody"])
        assert storage.tasks.counts()["total"] == 1
        assert storage.tasks.dependencies.dependents(one.id) == []

    def test_i6_circles_are_refused(self, storage: Storage) -> None:
        first = storage.tasks.post("first")
        middle = storage.tasks.post("middle", depends_on=[first.id])
        last = storage.tasks.post("last", depends_on=[middle.id])
        for blocker in (middle, last):
            with pytest.raises(Conflict):
                storage.tasks.dependencies.add(first.id, blocker.id)
        with pytest.raises(Invalid):
            storage.tasks.dependencies.add(first.id, first.id)
        assert stored(storage, first).state == "pending"

    def test_i6_two_that_would_close_a_circle_together_do_not(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        handles = [open_storage(), open_storage()]
        for _ in range(10):
            one, two = (handles[0].tasks.post(name) for name in ("one", "two"))
            refused: list[Conflict] = []

            def add(handle: Storage, a: str, b: str, into: list[Conflict] = refused) -> None:
                try:
                    handle.tasks.dependencies.add(a, b)
                except Conflict as error:
                    into.append(error)

            threads = [
                threading.Thread(target=add, args=(handles[0], one.id, two.id)),
                threading.Thread(target=add, args=(handles[1], two.id, one.id)),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            states = {stored(handles[0], task).state for task in (one, two)}
            assert (len(refused), states) == (1, {"pending", "blocked"})

    def test_i6_added_and_removed_later(self, storage: Storage) -> None:
        one, task = storage.tasks.post("one"), storage.tasks.post("t")
        add, remove = storage.tasks.dependencies.add, storage.tasks.dependencies.remove
        assert add(task.id, one.id).state == "blocked"
        assert add(task.id, one.id).open_dependencies == 1
        assert remove(task.id, one.id) is True
        assert remove(task.id, one.id) is False
        freed = stored(storage, task)
        assert (freed.state, freed.open_dependencies) == ("pending", 0)
        storage.tasks.start(task.id, "w")
        with pytest.raises(Conflict):
            add(task.id, one.id)

    def test_i6_failed_blocker_keeps_its_dependents_blocked(self, storage: Storage) -> None:
        one = storage.tasks.post("one")
        task = storage.tasks.post("t", depends_on=[one.id])
        storage.tasks.cancel(one.id)
        assert stored(storage, task).state == "blocked"
        storage.tasks.dependencies.remove(task.id, one.id)
        assert stored(storage, task).state == "pending"

    def test_i6_no_release_is_lost_between_post_and_complete(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        one, two = open_storage(), open_storage()
        for _ in range(20):
            blocker = one.tasks.post("blocker")
            token = one.tasks.start(blocker.id, "w").lease_token
            posted: list[Task] = []

            def post(id: str = blocker.id, into: list[Task] = posted) -> None:
                into.append(two.tasks.post("t", depends_on=[id]))

            thread = threading.Thread(target=post)
            thread.start()
            one.tasks.complete(blocker.id, token)
            thread.join()
            task = stored(one, posted[0])
            assert (task.state, task.open_dependencies) == ("pending", 0)


class TestTaskUpkeep:
    def test_i10_finished_tasks_go_after_a_week_with_their_logs(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        old = finished(storage, "old")
        lines = [storage.tasks.log.append(old.id, f"line {n}").seq for n in range(3)]
        assert lines == [1, 2, 3]
        open_task = storage.tasks.post("open")
        later(clock, 7 * DAY - 1)
        assert storage.tasks.upkeep.prune() == 0
        later(clock, 1)
        fresh = finished(storage, "fresh")
        assert storage.tasks.upkeep.prune() == 1
        assert {task.id for task in storage.tasks.list()} == {open_task.id, fresh.id}
        with pytest.raises(NotFound):
            storage.tasks.log.list(old.id)
        assert storage.tasks.upkeep.prune(older_than_seconds=0) == 1

    def test_i10_a_tree_goes_whole_and_only_when_all_of_it_is_finished(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        root = storage.tasks.post("root")
        child = storage.tasks.post("child", parent_id=root.id)
        leaf = storage.tasks.post("leaf", parent_id=child.id)
        for task in (root, child):
            storage.tasks.complete(task.id, storage.tasks.start(task.id, "w").lease_token)
        later(clock, 8 * DAY)
        assert storage.tasks.upkeep.prune() == 0
        storage.tasks.cancel(leaf.id)
        assert storage.tasks.upkeep.prune() == 3

    def test_i10_what_an_unfinished_task_waits_for_stays(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        failed = storage.tasks.post("failed")
        waiting = storage.tasks.post("waiting", depends_on=[failed.id])
        storage.tasks.cancel(failed.id)
        later(clock, 8 * DAY)
        assert storage.tasks.upkeep.prune() == 0
        storage.tasks.cancel(waiting.id)
        assert storage.tasks.upkeep.prune() == 1

    def test_i10_prune_takes_the_oldest_first(self, storage: Storage, clock: ManualClock) -> None:
        ids = []
        for _ in range(3):
            ids.append(finished(storage).id)
            later(clock, 1)
        assert storage.tasks.upkeep.prune(older_than_seconds=0, limit=2) == 2
        assert [task.id for task in storage.tasks.list()] == ids[2:]


class TestTaskScope:
    def test_b3_a_bound_handle_meets_its_own_tasks_only(self, storage: Storage) -> None:
        mine, other = storage.with_agent("mine"), storage.with_agent("other")
        task = other.tasks.post("secret", idempotency_key="k")
        token = other.tasks.start(task.id, "w").lease_token
        refused(
            NotFound,
            lambda: mine.tasks.complete(task.id, token),
            lambda: mine.tasks.cancel(task.id),
            lambda: mine.tasks.post("t", parent_id=task.id),
            lambda: mine.tasks.post("t", depends_on=[task.id]),
        )
        assert mine.tasks.get(task.id) is None
        assert mine.tasks.claim("w", limit=9) == []
        assert mine.tasks.search("secret") == []
        assert mine.tasks.counts()["total"] == 0
        assert stored(other, task).state == "running"
        assert stored(storage, task).agent == "other"

    def test_b3_claim_and_upkeep_leave_other_leases_alone(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        mine, other = storage.with_agent("mine"), storage.with_agent("other")
        other.tasks.post("theirs")
        held = take(other)
        done = finished(other)
        later(clock, 8 * DAY)
        assert mine.tasks.claim("w") == []
        assert mine.tasks.upkeep.reclaim() == Reclaimed(0, 0)
        assert mine.tasks.upkeep.prune() == 0
        assert other.tasks.get(held.id) == held
        assert other.tasks.get(done.id) == done
