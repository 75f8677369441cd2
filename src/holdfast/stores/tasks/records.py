"""The nouns of the task stores: tasks, what they wait for, their log lines, and projects."""

from collections.abc import Sequence as SequenceOf
from datetime import datetime
from typing import Any, Final, Literal, get_args

import msgspec

from holdfast.core.collection import Collection, Index, Reference, Sequence, Unique
from holdfast.core.errors import Invalid, kind_of
from holdfast.core.filter import Contains, Filter, among, both, eq, ge, lt
from holdfast.core.values import (
    check_count,
    check_keyed_text,
    check_seconds,
    check_texts,
    check_time,
)

TaskState = Literal["pending", "blocked", "running", "completed", "failed", "cancelled"]
Priority = Literal["urgent", "high", "normal", "low"]

STATES: Final[tuple[TaskState, ...]] = get_args(TaskState)
FINAL: Final = ("completed", "failed", "cancelled")
"""States that a task never leaves."""
UNFINISHED: Final = ("pending", "blocked", "running")

RANKS: Final[dict[Priority, int]] = {"urgent": 1, "high": 2, "normal": 3, "low": 4}
"""Stored in place of the name, so that order is a number and rank 1 comes first."""
_PRIORITIES: Final[dict[int, Priority]] = {rank: name for name, rank in RANKS.items()}

ATTEMPTS_LIMIT: Final = 1_000
"""Most attempts that a task may ask for."""
RETRY_LIMIT: Final = 30 * 86_400
"""Longest delay between attempts, in seconds."""

WAITING: Final = "It waits for other tasks."
"""``blocked_reason`` of a task with open dependencies."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of work. It is claimed by one worker at a time, under a lease.

    ``rank`` is the priority as a number, 1 first. ``queued_at`` is its place in line within its
    rank: when it was posted or, after a failed attempt, when it may be tried again.
    ``lease_token`` proves the holder; ``fence`` rises at every claim, for systems outside that
    must tell an older holder from a newer one.
    """

    id: str
    title: str
    description: str
    state: TaskState
    rank: int
    assignee: str
    team: str
    tags: list[str]
    due_at: datetime | None
    scheduled_at: datetime
    queued_at: datetime
    parent_id: str | None
    root_id: str
    project_id: str | None
    idempotency_key: str | None
    open_dependencies: int
    blocked_reason: str
    holder: str
    lease_token: str
    lease_until: datetime | None
    fence: int
    attempts: int
    attempts_left: int
    retry_seconds: float
    error: str
    result: Any
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    agent: str
    user: str
    namespace: str
    revision: int = 0

    @property
    def priority(self) -> Priority:
        """The name of its rank."""
        return _PRIORITIES[self.rank]

    @property
    def finished(self) -> bool:
        """Whether its state is final."""
        return self.state in FINAL


class Dependency(msgspec.Struct, frozen=True, kw_only=True):
    """``task_id`` may not start before ``blocker_id`` is completed; ``open`` until it is."""

    task_id: str
    blocker_id: str
    open: bool
    created_at: datetime
    agent: str
    user: str
    namespace: str
    revision: int = 0


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was noted while a task was worked on; ``seq`` counts from 1 per task."""

    id: str
    task_id: str
    seq: int
    at: datetime
    message: str
    data: Any
    agent: str
    user: str
    namespace: str
    revision: int = 0


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A named set of tasks. ``group`` gathers projects in listings."""

    id: str
    name: str
    description: str
    group: str
    archived: bool
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    agent: str
    user: str
    namespace: str
    revision: int = 0


PROJECTS = Collection.of(
    Project,
    "projects",
    indexes=(Index(("group", "created_at", "id"), serves="projects of a group, oldest first"),),
)

TASKS = Collection.of(
    Task,
    "tasks",
    unique=(Unique("idempotency_key", ("agent", "user", "namespace", "idempotency_key")),),
    indexes=(
        Index(("state", "rank", "queued_at", "id"), serves="claim, and list by state"),
        Index(("rank", "queued_at", "id"), serves="list in claim order"),
        Index(("state", "lease_until"), serves="reclaim of expired leases"),
        Index(("state", "finished_at", "id"), serves="prune, oldest first"),
        Index(("team", "rank", "queued_at", "id"), serves="list of a team"),
        Index(("project_id", "state"), serves="progress of projects"),
        Index(("parent_id",), serves="children of a task"),
        Index(("root_id", "state"), serves="whether a tree of tasks is finished"),
    ),
    references=(
        Reference("parent_id", "tasks", "clear"),
        Reference("project_id", "projects", "restrict"),
    ),
    full_text=("title", "description"),
)

DEPENDENCIES = Collection.of(
    Dependency,
    "task_dependencies",
    key=("task_id", "blocker_id"),
    indexes=(Index(("blocker_id", "open"), serves="who waits for a task"),),
    references=(
        Reference("task_id", "tasks", "cascade"),
        Reference("blocker_id", "tasks", "cascade"),
    ),
)

TASK_LOGS = Collection.of(
    LogLine,
    "task_logs",
    indexes=(Index(("task_id", "seq"), serves="log of a task in order"),),
    sequences=(Sequence("seq", ("task_id",)),),
    references=(Reference("task_id", "tasks", "cascade"),),
)

COLLECTIONS: Final = (PROJECTS, TASKS, DEPENDENCIES, TASK_LOGS)


class TaskDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A task as its poster states it; all else follows. See `Tasks.post` for the fields."""

    title: str
    description: str = ""
    priority: Priority = "normal"
    assignee: str = ""
    team: str = ""
    tags: SequenceOf[str] = ()
    due_at: datetime | None = None
    scheduled_at: datetime | None = None
    attempts_max: int = 3
    retry_seconds: float = 60.0
    metadata: dict[str, Any] = {}


class TaskFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks: every part that is given must hold.

    ``tags`` must all be present; ``due_before`` excludes and ``due_after`` includes its instant;
    ``assignee`` and ``team`` "" ask for unassigned tasks and tasks without a team.
    """

    states: SequenceOf[TaskState] | None = None
    priorities: SequenceOf[Priority] | None = None
    assignee: str | None = None
    team: str | None = None
    parent_id: str | None = None
    project_id: str | None = None
    tags: SequenceOf[str] = ()
    due_before: datetime | None = None
    due_after: datetime | None = None

    def parts(self) -> Filter:
        """The filter of the contract that says the same. Raises Invalid for unknown names."""
        equal = ("assignee", "team", "parent_id", "project_id")
        given = {name: getattr(self, name) for name in equal}
        before, after = self.due_before, self.due_after
        return both(
            None if self.states is None else among("state", map(check_state, self.states)),
            None if self.priorities is None else among("rank", map(rank_of, self.priorities)),
            *(eq(name, check_keyed_text(name, v)) for name, v in given.items() if v is not None),
            Contains("tags", tuple(check_texts("tags", self.tags))) if self.tags else None,
            None if before is None else lt("due_at", check_time("due_before", before)),
            None if after is None else ge("due_at", check_time("due_after", after)),
        )


def rank_of(priority: object) -> int:
    """The number of a priority, 1 for urgent to 4 for low."""
    rank = RANKS.get(priority) if isinstance(priority, str) else None  # type: ignore[call-overload]
    if rank is None:
        raise Invalid("priority", expected=f"one of {', '.join(RANKS)}", got=priority)
    return int(rank)


def check_state(state: object) -> str:
    """One of STATES, or Invalid."""
    if state not in STATES:
        raise Invalid("state", expected=f"one of {', '.join(STATES)}", got=state)
    return str(state)


def new_task(
    draft: TaskDraft, *, record_id: str, scope: dict[str, str], now: datetime, **placed: Any
) -> dict[str, Any]:
    """The checked record of a task that nobody has touched. ``placed`` overrides its fields."""
    if not isinstance(draft, TaskDraft):
        raise Invalid("tasks", expected="a TaskDraft", got=kind_of(draft))
    if not isinstance(draft.metadata, dict):
        raise Invalid("metadata", expected="a JSON object", got=kind_of(draft.metadata))
    if not isinstance(draft.title, str) or not draft.title.strip():
        raise Invalid("title", expected="text that is not blank", got=kind_of(draft.title))
    record = {
        **msgspec.structs.asdict(draft),
        **dict.fromkeys(("parent_id", "project_id", "idempotency_key", "result")),
        **dict.fromkeys(("lease_until", "started_at", "finished_at")),
        **dict.fromkeys(("blocked_reason", "holder", "lease_token", "error"), ""),
        **dict.fromkeys(("open_dependencies", "fence", "attempts"), 0),
        **scope,
        "id": record_id,
        "root_id": record_id,
        "state": "pending",
        "rank": rank_of(draft.priority),
        "scheduled_at": now if draft.scheduled_at is None else draft.scheduled_at,
        "queued_at": now,
        "attempts_left": check_count("attempts_max", draft.attempts_max, 1, ATTEMPTS_LIMIT),
        "retry_seconds": check_seconds("retry_seconds", draft.retry_seconds, 0, RETRY_LIMIT),
        "created_at": now,
        "updated_at": now,
        **placed,
    }
    del record["priority"], record["attempts_max"]
    return TASKS.check_record(record)
