"""Tasks: work that is posted, claimed under a lease, and completed, failed or cancelled.

A claimed task is leased, not removed: when the lease runs out without a word from its holder,
the task is handed out again. So a task is done at least once, not exactly once, and the lease
token is a fencing token: every call of a holder carries it, and once the task has gone to
another holder the old one gets Conflict and can change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from holdfast.core.change import ABSENT, Change, Claim, Edit, Patch, Put
from holdfast.core.change import When as If
from holdfast.core.clock import shifted
from holdfast.core.errors import (
    Ambiguous,
    Conflict,
    IdempotencyMismatch,
    Invalid,
    NotFound,
    kind_of,
)
from holdfast.core.filter import (
    Filter,
    Prefix,
    Record,
    among,
    eq,
    le,
)
from holdfast.core.marks import grouped
from holdfast.core.query import Aggregate, asc
from holdfast.core.search import Search, TextLeg
from holdfast.core.text import analyze
from holdfast.core.values import (
    check_bool,
    check_count,
    check_json,
    check_seconds,
    check_text,
    check_texts,
)
from holdfast.stores.given import check_op_id, instance_of
from holdfast.stores.store import Page, Store, builder
from holdfast.stores.tasks.dependencies import BLOCKERS_LIMIT, TRIES, Dependencies, released_by
from holdfast.stores.tasks.log import TaskLog
from holdfast.stores.tasks.records import (
    COLLECTIONS,
    FINAL,
    PROJECTS,
    STATES,
    TASKS,
    UNFINISHED,
    Task,
    TaskDraft,
    TaskFilter,
    new_task,
)
from holdfast.stores.tasks.upkeep import TaskUpkeep, ended, expiry, requeued, retry_delay_seconds

LEASE_SECONDS: Final = 600.0
"""How long a claim holds without `extend`."""
LEASE_LIMIT: Final = 30 * 86_400
"""Longest lease, in seconds."""
CLAIM_LIMIT: Final = 1_000
PREFIX_MIN: Final = 4
"""Fewest characters by which a task is found."""
SEARCH_TERMS: Final = 128
"""Distinct terms of a search text that count; later ones of a longer text do not."""

_CLAIM_ORDER: Final = asc("rank", "queued_at", "id")

_task = builder(Task)


class TaskHit(msgspec.Struct, frozen=True):
    """A task that a search found, and how well its text fits; comparable within one search."""

    task: Task
    score: float


class Tasks(Store):
    """Tasks of the bound scope."""

    collections = COLLECTIONS

    @property
    def dependencies(self) -> Dependencies:
        """Who waits for whom."""
        return Dependencies(self._driver, self._scope, self._runtime)

    @property
    def upkeep(self) -> TaskUpkeep:
        """Ending expired leases and removing old tasks."""
        return TaskUpkeep(self._driver, self._scope, self._runtime)

    @property
    def log(self) -> TaskLog:
        """What was noted while tasks were worked on."""
        return TaskLog(self._driver, self._scope, self._runtime)

    @grouped
    def post(
        self,
        draft: TaskDraft | str,
        *,
        depends_on: Sequence[str] = (),
        parent_id: str | None = None,
        project_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Task:
        """Add a task from a draft or, for the plainest one, a title.

        With an ``idempotency_key`` that this scope has used before, the first task is returned
        and nothing is added. ``depends_on`` blocks the task until those are completed. Raises
        NotFound for a parent, project or dependency that is not there.
        """
        draft = (
            TaskDraft(title=draft)
            if isinstance(draft, str)
            else instance_of("draft", draft, TaskDraft)
        )
        scope, now = self._scope_fields(), self._now()
        blockers = list(dict.fromkeys(check_texts("depends_on", depends_on)))
        check_count("depends_on", len(blockers), 0, BLOCKERS_LIMIT)
        placed = {"parent_id": parent_id, "project_id": project_id}
        record = new_task(
            draft,
            record_id=self._new_id(),
            scope=scope,
            now=now,
            idempotency_key=idempotency_key,
            **placed,
        )
        if project_id is not None:
            self._require(PROJECTS, project_id)
        if parent_id is not None:
            record["root_id"] = self._require(TASKS, parent_id)["root_id"]
        return self._post(record, blockers)

    @grouped
    def claim(
        self,
        worker: str,
        *,
        limit: int = 1,
        lease_seconds: float = LEASE_SECONDS,
        where: TaskFilter | None = None,
        op_id: str | None = None,
    ) -> Sequence[Task]:
        """Take the next tasks in line that are the worker's or nobody's, at most ``limit``.

        In line are pending tasks whose ``scheduled_at`` has come, by rank, then by place in
        line, then by id; no task goes to two callers. Expired leases are ended first. Each task
        has ``lease_token`` for the calls that follow. A repeat with the same ``op_id`` gives what
        the first call took, so that no claim is lost with its answer.
        """
        lasting = _seconds("lease_seconds", lease_seconds)
        asked = ("tasks.claim", worker, limit, lasting, where)
        check_count("limit", limit, 1, CLAIM_LIMIT)
        now = self._now()
        edit = self._lease(_check_worker(worker), now, lasting)
        chosen = _chosen(where)
        next_in_line = Claim(
            TASKS.name, self._ready(worker, now, chosen), _CLAIM_ORDER, limit, edit
        )
        changes = (*expiry(self._within(TASKS), now), next_in_line)
        outcomes = self._apply(*changes, op_id=op_id, asked=asked)
        return [_task(record) for record in outcomes[-1].records]

    @grouped
    def start(self, task_id: str, worker: str, *, lease_seconds: float = LEASE_SECONDS) -> Task:
        """Take this one task as `claim` would.

        Raises NotFound, and Conflict, with the reason, when it is blocked, finished, taken,
        somebody else's or not due yet.
        """
        now = self._now()
        edit = self._lease(_check_worker(worker), now, _seconds("lease_seconds", lease_seconds))
        record = self._require(TASKS, task_id)
        ready = self._ready(worker, now, None)
        if not ready.matches(record):
            raise _refusal(record, record["blocked_reason"] or "It cannot be started now.")
        return _task(self._apply(Patch(TASKS.name, (task_id,), edit, If(ready)))[0].record)

    @grouped
    def extend(
        self, task_id: str, lease_token: str, *, lease_seconds: float = LEASE_SECONDS
    ) -> Task:
        """Hold the task ``lease_seconds`` from now. Raises Conflict when the lease is lost."""
        now = self._now()
        until = shifted(now, _seconds("lease_seconds", lease_seconds))
        return self._as_holder(
            task_id, lease_token, Edit(set={"lease_until": until, "updated_at": now})
        )

    @grouped
    def complete(
        self,
        task_id: str,
        lease_token: str,
        *,
        result: Any = None,
        metadata: dict[str, Any] | None = None,
        op_id: str | None = None,
    ) -> Task:
        """Finish the task well; tasks that waited for it alone become pending with it.

        ``metadata`` is merged key by key, null removing a key. A repeat with the same ``op_id``
        gives the task as the first call left it. Raises NotFound, and Conflict when the lease is
        lost or the task finished.
        """
        asked = ("tasks.complete", task_id, lease_token, result, metadata)
        now = self._now()
        edit = ended("completed", now, result=check_json("result", result))
        merged = msgspec.structs.replace(edit, merge=_metadata(metadata))
        released = released_by(task_id, now)
        return self._as_holder(task_id, lease_token, merged, *released, op_id=op_id, asked=asked)

    @grouped
    def fail(
        self,
        task_id: str,
        lease_token: str,
        error: str,
        *,
        retry: bool = True,
        metadata: dict[str, Any] | None = None,
        op_id: str | None = None,
    ) -> Task:
        """Report a failed attempt: the task is tried again later, or failed for good.

        It waits ``retry_seconds``, doubled at each further attempt, and then stands behind what
        was posted meanwhile. Without attempts left, or without ``retry``, it is failed. A repeat
        with the same ``op_id`` gives the task as the first call left it. Raises NotFound, and
        Conflict when the lease is lost.
        """
        check_text("error", error)
        check_bool("retry", retry)
        check_op_id(op_id)
        asked, merge = (
            ("tasks.fail", task_id, lease_token, error, retry, metadata),
            _metadata(metadata),
        )
        now = self._now()
        if op_id is None:
            record: Record | None = self._require_held(task_id, lease_token)
        else:
            record = self._get(TASKS, task_id)  # a repeat finds it without its lease, or gone
        if retry and record is not None and record["attempts_left"]:
            delay = retry_delay_seconds(record["attempts"], record["retry_seconds"])
            again = shifted(now, timedelta(seconds=delay))
            edit = requeued(now, scheduled_at=again, queued_at=again, error=error)
        else:
            edit = ended("failed", now, error=error)
        merged = msgspec.structs.replace(edit, merge=merge)
        return self._as_holder(task_id, lease_token, merged, op_id=op_id, asked=asked)

    @grouped
    def release(self, task_id: str, lease_token: str) -> Task:
        """Give the task back untried, to its place in line. Raises Conflict when it is lost."""
        edit = requeued(self._now())
        given_back = {"attempts": -1, "attempts_left": 1}
        return self._as_holder(
            task_id, lease_token, msgspec.structs.replace(edit, increment=given_back)
        )

    @grouped
    def cancel(self, task_id: str, *, reason: str = "") -> Task:
        """Finish a task that nobody needs, in whatever state; a holder's later calls conflict.

        Raises NotFound, and Conflict when the task has finished. Tasks that wait for it stay
        blocked until the dependency is removed.
        """
        edit = ended("cancelled", self._now(), error=check_text("reason", reason))
        record = self._require(TASKS, task_id)
        if record["state"] in FINAL:
            raise _refusal(record)
        unfinished = If(among("state", UNFINISHED))
        return _task(self._apply(Patch(TASKS.name, (task_id,), edit, unfinished))[0].record)

    def get(self, task_id: str) -> Task | None:
        """The task, or None."""
        record = self._get(TASKS, task_id)
        return None if record is None else _task(record)

    def find_by_prefix(self, prefix: str) -> Task:
        """The one task whose id begins so, with at least 4 characters; NotFound or Ambiguous."""
        if len(check_text("prefix", prefix)) < PREFIX_MIN:
            raise Invalid("prefix", expected=f"at least {PREFIX_MIN} characters", got="fewer")
        found = self._all(TASKS, Prefix("id", prefix), order=asc("id"), limit=2)
        if not found:
            raise NotFound("There is no such record in tasks.")
        if len(found) > 1 and found[0]["id"] != prefix:
            raise Ambiguous("Several tasks begin so.", hint="Give more characters.")
        return _task(found[0])

    def list(
        self, where: TaskFilter | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> Page[Task]:
        """Tasks by rank, then by place in line, then by id. `counts` has their totals."""
        chosen = _chosen(where)
        return self._page(TASKS, _task, chosen, order=_CLAIM_ORDER, limit=limit, cursor=cursor)

    def counts(self, where: TaskFilter | None = None) -> dict[str, int]:
        """How many tasks there are in each state, and in ``total``."""
        chosen = self._within(TASKS, _chosen(where))
        by_state = Aggregate(collection=TASKS.name, filter=chosen, group_by=("state",))
        rows = self._driver.aggregate(self._scope.tenant, by_state)
        counts = dict.fromkeys(STATES, 0) | {row["state"]: row["count"] for row in rows}
        return {**counts, "total": sum(counts.values())}

    def search(
        self, text: str, where: TaskFilter | None = None, *, limit: int = 20
    ) -> Sequence[TaskHit]:
        """Tasks whose title or description has words of ``text``, best first, ties by id."""
        check_count("limit", limit, 1, CLAIM_LIMIT)
        chosen = self._within(TASKS, _chosen(where))
        terms = tuple(dict.fromkeys(analyze(check_text("text", text))))[:SEARCH_TERMS]
        if not terms:
            return []
        leg = TextLeg(terms=terms)
        wanted = Search(collection=TASKS.name, filter=chosen, k=limit, text=leg)
        hits = self._driver.search(self._scope.tenant, wanted)
        return [TaskHit(_task(hits.records[hit.key]), hit.score) for hit in hits.text]

    def _post(self, record: Record, blockers: Sequence[str]) -> Task:
        for _ in range(TRIES):
            changes: list[Change] = [Put(TASKS.name, record, ABSENT)]
            if blockers:
                changes += self.dependencies._for_new(record, blockers, record["created_at"])
            try:
                outcomes = self._apply(*changes)
            except Conflict as error:
                if error.context.get("unique") == "idempotency_key":
                    return self._by_key(record["idempotency_key"])
                if not blockers or "reference" in error.context:
                    raise
                continue
            blocked = len(outcomes) > 1 and outcomes[-1].record.get("id") == record["id"]
            return _task(outcomes[-1 if blocked else 0].record)
        raise Conflict("The tasks around this one kept changing.", hint="Try again later.")

    def _by_key(self, idempotency_key: str) -> Task:
        scope = (eq(name, value) for name, value in self._scope_fields().items())
        record = self._first(TASKS, *scope, eq("idempotency_key", idempotency_key))
        if record is None:
            raise Conflict("The first task with this key was removed just now.", hint="Try again.")
        return _task(record)

    def _ready(self, worker: str, now: datetime, chosen: Filter | None) -> Filter:
        return self._within(
            TASKS,
            eq("state", "pending"),
            le("scheduled_at", now),
            among("assignee", (worker, "")),
            chosen,
        )

    def _lease(self, worker: str, now: datetime, lasting: timedelta) -> Edit:
        return Edit(
            set={
                "state": "running",
                "holder": worker,
                "lease_token": self._new_id(),
                "lease_until": shifted(now, lasting),
                "updated_at": now,
            },
            default={"started_at": now},
            increment={"fence": 1, "attempts": 1, "attempts_left": -1},
        )

    def _require_held(self, task_id: str, lease_token: str) -> Record:
        if not check_text("lease_token", lease_token):
            raise Invalid("lease_token", expected="the token of a claim", got="empty text")
        record = self._require(TASKS, task_id)
        if record["state"] != "running":
            raise _refusal(record)
        if record["lease_token"] != lease_token:
            raise Conflict("The lease was lost: the task has gone to another holder.")
        return record

    def _as_holder(
        self,
        task_id: str,
        lease_token: str,
        edit: Edit,
        *others: Change,
        op_id: str | None = None,
        asked: tuple[Any, ...] = (),
    ) -> Task:
        if op_id is None:
            self._require_held(task_id, lease_token)
        # The token is compared and not the clock: work that came late but before anybody else
        # took the task is still the only work on it.
        held = self._within(TASKS, eq("state", "running"), eq("lease_token", lease_token))
        changes = (Patch(TASKS.name, (task_id,), edit, If(held)), *others)
        try:
            return _task(self._apply(*changes, op_id=op_id, asked=asked)[0].record)
        except IdempotencyMismatch:
            raise
        except (Conflict, NotFound):
            self._require_held(task_id, lease_token)  # which says why
            raise


def _chosen(where: TaskFilter | None) -> Filter | None:
    return None if where is None else instance_of("where", where, TaskFilter).parts()


def _refusal(record: Record, reason: str = "") -> Conflict:
    return Conflict(f"The task is {record['state']}.", hint=reason, state=record["state"])


def _metadata(metadata: object) -> dict[str, Any]:
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise Invalid("metadata", expected="a JSON object", got=kind_of(metadata))
    return {"metadata": check_json("metadata", metadata)}


def _check_worker(worker: object) -> str:
    if not check_text("worker", worker):
        raise Invalid("worker", expected="a name", got="empty text")
    return str(worker)


def _seconds(field: str, value: object) -> timedelta:
    return timedelta(seconds=check_seconds(field, value, 0.001, LEASE_LIMIT))
