"""Upkeep of tasks: leases that ran out, tasks that finished long ago, and how a task moves on."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from holdfast.core.change import DeleteWhere, Edit, PatchWhere
from holdfast.core.clock import shifted
from holdfast.core.filter import Filter, InSelect, Not, among, both, either, eq, gt, le, not_null
from holdfast.core.query import asc
from holdfast.core.values import check_count, check_seconds
from holdfast.stores.store import Store
from holdfast.stores.tasks.records import DEPENDENCIES, FINAL, RETRY_LIMIT, TASKS, UNFINISHED

RETENTION_SECONDS: Final = 7 * 86_400.0
"""How long finished tasks are kept before `prune` removes them."""
RETRY_CEILING_SECONDS: Final = 3_600.0
"""Doubling delays stop growing here, unless the task's first delay is longer."""


class Reclaimed(msgspec.Struct, frozen=True):
    """How many expired leases were ended: tasks back in line, and tasks without attempts left."""

    requeued: int
    failed: int


class TaskUpkeep(Store):
    """What keeps the tasks of the bound scope in order while nobody looks at one of them."""

    collections = (TASKS, DEPENDENCIES)

    def reclaim(self) -> Reclaimed:
        """End expired leases: back in line, or failed where no attempt is left.

        `claim` does so by itself; this is for those who watch tasks without claiming.
        """
        failed, requeued = self._apply(*expiry(self._within(TASKS), self._now()))
        return Reclaimed(requeued.count, failed.count)

    def prune(self, *, older_than_seconds: float = RETENTION_SECONDS, limit: int = 10_000) -> int:
        """Delete tasks that finished so long ago, oldest first, with children and logs; how many.

        Kept are tasks that an unfinished one waits for, and those with children, unless the
        whole tree has finished, its root so long ago.
        """
        check_count("limit", limit, 1, 1_000_000)
        age = check_seconds("older_than_seconds", older_than_seconds, 0, 1e10)
        old = both(
            among("state", FINAL), le("finished_at", shifted(self._now(), -timedelta(seconds=age)))
        )
        unfinished = among("state", UNFINISHED)
        blocked = both(eq("open", True), InSelect("task_id", TASKS.name, "id", unfinished))
        awaited = InSelect("id", DEPENDENCIES.name, "blocker_id", blocked)
        is_parent = InSelect("id", TASKS.name, "parent_id", not_null("parent_id"))
        old_tree = both(
            InSelect("root_id", TASKS.name, "id", old),
            Not(InSelect("root_id", TASKS.name, "root_id", unfinished)),
        )
        doomed = self._within(TASKS, Not(awaited), either(both(old, Not(is_parent)), old_tree))
        order = asc("finished_at", "id")
        return self._apply(DeleteWhere(TASKS.name, doomed, limit, order))[0].count


def expiry(within: Filter, now: datetime) -> tuple[PatchWhere, PatchWhere]:
    """The changes that end expired leases: first those without attempts left, then the rest."""
    expired = both(within, eq("state", "running"), le("lease_until", now))
    last = both(expired, le("attempts_left", 0))
    rest = both(expired, gt("attempts_left", 0))
    error = "The lease ran out."
    return (
        PatchWhere(TASKS.name, last, ended("failed", now, error=error)),
        PatchWhere(TASKS.name, rest, requeued(now, error=error)),
    )


def retry_delay_seconds(attempt: int, first_seconds: float) -> float:
    """How long to wait after this many attempts: doubling up to a ceiling.

    >>> [retry_delay_seconds(attempt, 60.0) for attempt in (1, 2, 3, 40)]
    [60.0, 120.0, 240.0, 3600.0]
    """
    doubled = first_seconds * 2.0 ** min(attempt - 1, 30)
    return min(doubled, max(first_seconds, RETRY_CEILING_SECONDS), float(RETRY_LIMIT))


def requeued(now: datetime, **changed: Any) -> Edit:
    """The edit back into line."""
    unleased = {"holder": "", "lease_token": "", "lease_until": None, "updated_at": now}
    return Edit(set={"state": "pending", **unleased, **changed})


def ended(state: str, now: datetime, **changed: Any) -> Edit:
    """The edit into a final state. The holder stays named: it says who did it."""
    ended = {"state": state, "finished_at": now, "updated_at": now, "blocked_reason": ""}
    return Edit(set={**ended, "lease_token": "", "lease_until": None, **changed})
