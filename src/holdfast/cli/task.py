"""`holdfast task`: work that is posted, claimed under a lease, and finished."""

from __future__ import annotations

from typing import Any

import click

from holdfast.cli import output
from holdfast.cli.command import Noun, opened, paged
from holdfast.cli.values import INSTANT, given, json_of, pairs_of
from holdfast.core.errors import NotFound
from holdfast.storage import Storage
from holdfast.stores.store import Page
from holdfast.stores.tasks.records import TaskDraft, TaskFilter

LISTED = ("id", "state", "?priority", "title", "?assignee", "?holder", "?due_at")
CLAIMED = ("id", "lease_token", "title", "?lease_until", "?attempts")
_DETAILS = (
    "id title description state priority assignee team tags due_at scheduled_at blocked_reason"
    " holder lease_until attempts attempts_left error result metadata parent_id project_id"
    " created_at started_at finished_at agent user namespace"
)
DETAILS = tuple(_DETAILS.split())
PRIORITIES = click.Choice(["urgent", "high", "normal", "low"])
STATES = click.Choice(["pending", "blocked", "running", "completed", "failed", "cancelled"])
LEASE = click.option(
    "--lease",
    "lease_token",
    envvar="HOLDFAST_LEASE",
    show_envvar=True,
    required=True,
    metavar="TOKEN",
    help="The token that the claim gave.",
)


@click.group(cls=Noun, short_help="Work: posted, claimed under a lease, finished.")
def task() -> None:
    """Tasks, named by their id or an unambiguous beginning of it."""


@task.command("add")
@click.argument("title")
@click.option("--description", metavar="TEXT")
@click.option("--priority", type=PRIORITIES, default="normal", show_default=True)
@click.option("--assignee", metavar="NAME", help="The only worker that may claim it.")
@click.option("--team", metavar="NAME")
@click.option("--tag", "tags", multiple=True, metavar="NAME", help="May be repeated.")
@click.option("--due", "due_at", type=INSTANT)
@click.option("--not-before", "scheduled_at", type=INSTANT, help="When it may be claimed first.")
@click.option("--attempts", "attempts_max", type=int, metavar="N", help="Default: 3")
@click.option("--meta", multiple=True, metavar="KEY=VALUE", help="Metadata; may be repeated.")
@click.option("--after", "depends_on", multiple=True, metavar="ID", help="Wait for this task.")
@click.option("--parent", "parent_id", metavar="ID")
@click.option("--project", "project_id", metavar="ID")
@click.option("--key", "idempotency_key", help="A repeat with this key adds nothing.")
def add(title: str, meta: tuple[str, ...], **fields: Any) -> None:
    """Post a task."""
    placed = {name: fields.pop(name) for name in ("parent_id", "project_id", "idempotency_key")}
    depends_on = fields.pop("depends_on")
    draft = TaskDraft(title=title, metadata=pairs_of("meta", meta), **given(**fields))
    with opened(create=True) as storage:
        blockers = [found(storage, blocker) for blocker in depends_on]
        if placed["parent_id"] is not None:
            placed["parent_id"] = found(storage, placed["parent_id"])
        output.one(_answer(storage.tasks.post(draft, depends_on=blockers, **placed)), LISTED)


@task.command("list")
@click.option("--state", "states", type=STATES, multiple=True, help="May be repeated.")
@click.option("--priority", "priorities", type=PRIORITIES, multiple=True, help="May be repeated.")
@click.option("--assignee", metavar="NAME")
@click.option("--team", metavar="NAME")
@click.option("--project", "project_id", metavar="ID")
@click.option("--tag", "tags", multiple=True, metavar="NAME", help="May be repeated.")
@paged
def list_tasks(limit: int, cursor: str | None, everything: bool, **fields: Any) -> None:
    """List tasks in the order in which they are claimed."""
    where = TaskFilter(**given(**fields))
    with opened() as storage:
        output.pages(
            lambda n, after: _answers(storage.tasks.list(where, limit=n, cursor=after)),
            LISTED,
            limit=limit,
            cursor=cursor,
            everything=everything,
        )


@task.command("counts")
def counts() -> None:
    """Count tasks by state."""
    with opened() as storage:
        figures = storage.tasks.counts()
    output.one(figures, tuple(figures))


@task.command("show")
@click.argument("id")
def show(id: str) -> None:
    """Show the task with this ID."""
    with opened() as storage:
        output.one(_answer(storage.tasks.get(found(storage, id))), DETAILS)


@task.command("claim")
@click.option("--worker", required=True, metavar="NAME", help="Who is going to do it.")
@click.option("--lease-seconds", default=600.0, show_default=True, help="How long it is held.")
@click.option("--limit", default=1, show_default=True, help="Most tasks, up to 1000.")
@click.option("--id", "task_id", metavar="ID", help="This one, and no other.")
def claim(worker: str, lease_seconds: float, limit: int, task_id: str | None) -> None:
    """Take the next tasks in line, with the lease token that finishing them asks for.

    The exit status is 3 when there is none to take.
    """
    with opened() as storage:
        if task_id is None:
            taken = storage.tasks.claim(worker, limit=limit, lease_seconds=lease_seconds)
        else:
            one = found(storage, task_id)
            taken = [storage.tasks.start(one, worker, lease_seconds=lease_seconds)]
    if not taken:
        raise NotFound("There is no task to take.", hint="See: holdfast task list.")
    output.rows([_answer(each, token=True) for each in taken], CLAIMED)


@task.command("extend")
@click.argument("id")
@LEASE
@click.option("--lease-seconds", default=600.0, show_default=True, help="How long from now.")
def extend(id: str, lease_token: str, lease_seconds: float) -> None:
    """Hold the task ID for longer."""
    with opened() as storage:
        held = storage.tasks.extend(found(storage, id), lease_token, lease_seconds=lease_seconds)
        output.one(_answer(held), (*LISTED, "lease_until"))


@task.command("complete")
@click.argument("id")
@LEASE
@click.option("--result", metavar="JSON", help='What came out; "-" reads it from stdin.')
def complete(id: str, lease_token: str, result: str | None) -> None:
    """Finish the task ID well; tasks that waited for it alone may begin."""
    value = json_of("result", result)
    with opened() as storage:
        held = storage.tasks.complete(found(storage, id), lease_token, result=value)
        output.one(_answer(held), LISTED)


@task.command("fail")
@click.argument("id")
@LEASE
@click.option("--error", required=True, metavar="TEXT", help="What went wrong.")
@click.option("--no-retry", is_flag=True, help="Fail it for good, whatever attempts are left.")
def fail(id: str, lease_token: str, error: str, no_retry: bool) -> None:
    """Report a failed attempt at the task ID; it is tried again later while attempts are left."""
    with opened() as storage:
        held = storage.tasks.fail(found(storage, id), lease_token, error, retry=not no_retry)
        output.one(_answer(held), (*LISTED, "scheduled_at"))


@task.command("release")
@click.argument("id")
@LEASE
def release(id: str, lease_token: str) -> None:
    """Give the task ID back untried."""
    with opened() as storage:
        output.one(_answer(storage.tasks.release(found(storage, id), lease_token)), LISTED)


@task.command("cancel")
@click.argument("id")
@click.option("--reason", default="", metavar="TEXT")
def cancel(id: str, reason: str) -> None:
    """Finish a task that nobody needs."""
    with opened() as storage:
        output.one(_answer(storage.tasks.cancel(found(storage, id), reason=reason)), LISTED)


@task.command("search")
@click.argument("text")
@click.option("--limit", default=20, show_default=True)
def search(text: str, limit: int) -> None:
    """Find tasks by the words of their title and description, best first."""
    with opened() as storage:
        hits = storage.tasks.search(text, limit=limit)
    told = [{**_answer(hit.task), "score": round(hit.score, 3)} for hit in hits]
    output.rows(told, (*LISTED, "score"))


def found(storage: Storage, given: str) -> str:
    """The whole id of the one task that ``given`` names or begins."""
    if storage.tasks.get(given) is not None:
        return given
    return storage.tasks.find_by_prefix(given).id


def _answer(task: Any, *, token: bool = False) -> dict[str, Any]:
    """A task as it is shown: with the name of its priority; the token goes to its claimer only."""
    told: dict[str, Any] = {**output.plain(task), "priority": task.priority}
    if not token:
        del told["lease_token"]
    return told


def _answers(page: Any) -> Page[dict[str, Any]]:
    return Page([_answer(task) for task in page.items], page.next_cursor)
