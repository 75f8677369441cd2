"""Dependencies: which tasks must be completed before another may start.

A task counts its open dependencies on its own row, in the same apply that changes them, so
claiming never looks beyond the row. Only completing a blocker releases who waits for it: one
that failed or was cancelled keeps them blocked until the dependency is removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from holdfast.core.change import ABSENT, Change, Delete, Edit, Patch, PatchWhere, Put, Revision
from holdfast.core.change import When as If
from holdfast.core.errors import Conflict, Invalid, NotFound, TooLarge
from holdfast.core.filter import Filter, InSelect, Record, among, both, eq, ne
from holdfast.core.query import asc
from holdfast.core.values import check_keyed_text
from holdfast.stores.store import FACTS, Store, builder
from holdfast.stores.tasks.records import DEPENDENCIES, TASKS, WAITING, Task

TRIES: Final = 100
"""How often a change is repeated when tasks around it move."""
GRAPH_LIMIT: Final = 10_000
"""Most tasks that one task may wait for, directly or not."""
BLOCKERS_LIMIT: Final = 1_000
"""Most tasks that one task may wait for directly, when posted."""

_GRAPH: Final = "task_dependencies"
"""The fact that every added dependency rewrites, so that two cannot close a circle together."""

_task = builder(Task)


class Dependencies(Store):
    """Who waits for whom."""

    collections = (TASKS, DEPENDENCIES)

    def add(self, task_id: str, blocker_id: str) -> Task:
        """Let a task that has not started wait for another; adding twice changes nothing.

        Raises NotFound for either, Conflict when the task has started or finished or when the
        blocker waits for it already, directly or through others, and Invalid for itself.
        """
        check_keyed_text("task_id", task_id)
        if task_id == check_keyed_text("blocker_id", blocker_id):
            raise Invalid("blocker_id", expected="another task", got="the task itself")
        for _ in range(TRIES):
            graph = self._driver.get(self._scope.tenant, FACTS.name, (_GRAPH,))
            task, blocker = self._require(TASKS, task_id), self._require(TASKS, blocker_id)
            if self._get(DEPENDENCIES, task_id, blocker_id) is not None:
                return _task(task)
            if task["state"] not in ("pending", "blocked"):
                raise Conflict(f"The task is {task['state']}, so it cannot wait any more.")
            self._refuse_circle(task_id, blocker_id)
            fact = {"id": _GRAPH, "value": 0}
            when = ABSENT if graph is None else Revision(graph["revision"])
            changes = self._adding(task, [blocker], self._now())
            try:
                self._apply(Put(FACTS.name, fact, when), *changes)
            except Conflict:
                continue
            return _task(self._require(TASKS, task_id))
        raise Conflict("The tasks around this one kept changing.", hint="Try again later.")

    def remove(self, task_id: str, blocker_id: str) -> bool:
        """Let a task wait for another no more; whether it did. The last one unblocks it."""
        check_keyed_text("blocker_id", blocker_id)
        for _ in range(TRIES):
            self._require(TASKS, task_id)
            held = self._get(DEPENDENCIES, task_id, blocker_id)
            if held is None:
                return False
            key = (task_id, blocker_id)
            changes: list[Change] = [Delete(DEPENDENCIES.name, key, If(eq("open", held["open"])))]
            if held["open"]:
                one_less = Edit(increment={"open_dependencies": -1})
                changes.append(Patch(TASKS.name, (task_id,), one_less))
                changes.append(_unblock(eq("id", task_id), self._now()))
            try:
                self._apply(*changes)
            except (Conflict, NotFound):
                continue
            return True
        raise Conflict("The tasks around this one kept changing.", hint="Try again later.")

    def blockers(self, task_id: str) -> Sequence[Task]:
        """The tasks that this one waits for or has waited for, in claim order."""
        self._require(TASKS, task_id)
        return self._joined("blocker_id", eq("task_id", task_id))

    def dependents(self, task_id: str) -> Sequence[Task]:
        """The tasks that wait for this one or have waited for it, in claim order."""
        self._require(TASKS, task_id)
        return self._joined("task_id", eq("blocker_id", task_id))

    def _for_new(self, task: Record, blocker_ids: Sequence[str], now: datetime) -> list[Change]:
        """The changes that, behind the Put of a new task, make it wait for others.

        Nothing can wait for a task that is new, so no circle can arise. Raises NotFound.
        """
        found = {r["id"]: r for r in self._all(TASKS, among("id", blocker_ids))}
        blockers = [found.get(wanted) or self._require(TASKS, wanted) for wanted in blocker_ids]
        return self._adding(task, blockers, now)

    def _adding(self, task: Record, blockers: Iterable[Record], now: datetime) -> list[Change]:
        changes: list[Change] = []
        waits = 0
        for blocker in blockers:
            is_open = blocker["state"] != "completed"
            waits += is_open
            dependency = {
                **{part: task[part] for part in ("agent", "user", "namespace")},
                "task_id": task["id"],
                "blocker_id": blocker["id"],
                "open": is_open,
                "created_at": now,
            }
            if is_open:
                # Touched so that completing it in between is a conflict and not a lost release.
                touch = Edit(set={"updated_at": now})
                still_open = If(ne("state", "completed"))
                changes.append(Patch(TASKS.name, (blocker["id"],), touch, still_open))
            changes.append(Put(DEPENDENCIES.name, dependency, ABSENT))
        if waits:
            block = Edit(
                set={"state": "blocked", "blocked_reason": WAITING, "updated_at": now},
                increment={"open_dependencies": waits},
            )
            not_started = If(among("state", ("pending", "blocked")))
            changes.append(Patch(TASKS.name, (task["id"],), block, not_started))
        return changes

    def _refuse_circle(self, task_id: str, blocker_id: str) -> None:
        """Walk all that the blocker waits for, one query per level."""
        seen, level = {blocker_id}, {blocker_id}
        while level:
            waits = both(among("task_id", sorted(level)), eq("open", True))
            # Every edge of the tenant counts: a circle outside this handle's view locks as well.
            query = self._tenant_rows(DEPENDENCIES, waits)
            level = {row["blocker_id"] for row in query} - seen
            seen |= level
            if task_id in level:
                raise Conflict("The tasks would wait for each other.", hint="Break the circle.")
            if len(seen) > GRAPH_LIMIT:
                raise TooLarge(
                    "blocker_id", expected=f"at most {GRAPH_LIMIT} tasks to wait for", got="more"
                )

    def _joined(self, side: str, where: Filter) -> Sequence[Task]:
        joined = InSelect("id", DEPENDENCIES.name, side, where)
        order = asc("rank", "queued_at", "id")
        return [_task(record) for record in self._all(TASKS, joined, order=order)]


def released_by(blocker_id: str, now: datetime) -> tuple[Change, ...]:
    """The changes that, behind the completion of a task, release who waited for it alone."""
    edges = eq("blocker_id", blocker_id)
    waiting = InSelect("id", DEPENDENCIES.name, "task_id", both(edges, eq("open", True)))
    concerned = InSelect("id", DEPENDENCIES.name, "task_id", edges)
    return (
        PatchWhere(TASKS.name, waiting, Edit(increment={"open_dependencies": -1})),
        PatchWhere(DEPENDENCIES.name, both(edges, eq("open", True)), Edit(set={"open": False})),
        _unblock(concerned, now),
    )


def _unblock(which: Filter, now: datetime) -> PatchWhere:
    free = both(which, eq("state", "blocked"), eq("open_dependencies", 0))
    edit = Edit(set={"state": "pending", "blocked_reason": "", "updated_at": now})
    return PatchWhere(TASKS.name, free, edit)
