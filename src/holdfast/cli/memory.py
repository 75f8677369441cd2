"""`holdfast memory`: what was remembered, one by one and as a whole."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from holdfast.cli import output
from holdfast.cli.command import Noun, opened, paged
from holdfast.cli.consent import confirm, destroys
from holdfast.cli.progress import progress
from holdfast.cli.recall import COLUMNS, filters_of, narrowing
from holdfast.cli.values import INSTANT, text_of
from holdfast.core.errors import NotFound
from holdfast.storage import Storage
from holdfast.stores.memory.hygiene import CATEGORIES

LISTED = ("id", "?kind", "?speaker", "content", "?created_at")
_DETAILS = (
    "id content kind type tier tags speaker session turn said_at happened_at source trust"
    " confidence importance significance valid_from valid_to expires_at pinned superseded_by"
    " contradicted_by similar_to access_count last_accessed_at metadata space agent user namespace"
    " created_at updated_at"
)
DETAILS = tuple(_DETAILS.split())
EVENTS = ("?id", "at", "memory_id", "action", "by", "detail")
SORTS = click.Choice(
    ["created_at", "updated_at", "last_accessed_at", "said_at", "importance", "confidence"]
)
BY = click.option("--by", metavar="NAME", help="Who decided it.")


@click.group(cls=Noun, short_help="What was remembered, one by one.")
def memory() -> None:
    """Memories, named by their id or an unambiguous beginning of it."""


@memory.command("list")
@click.option("--sort", type=SORTS, default="created_at", show_default=True)
@click.option("--ascending", is_flag=True, help="Smallest or oldest first.")
@click.option("--closed", is_flag=True, help="Also superseded, expired and no longer valid ones.")
@narrowing
@paged
def list_memories(
    sort: Any,
    ascending: bool,
    closed: bool,
    limit: int,
    cursor: str | None,
    everything: bool,
    **fields: Any,
) -> None:
    """List memories, newest first unless sorted otherwise."""
    filters = filters_of(fields)
    with opened() as storage:
        output.pages(
            lambda n, after: storage.memory.list(
                sort=sort,
                descending=not ascending,
                include_closed=closed,
                limit=n,
                cursor=after,
                **filters,
            ),
            LISTED,
            limit=limit,
            cursor=cursor,
            everything=everything,
        )


@memory.command("get")
@click.argument("id")
def get(id: str) -> None:
    """Show the memory with this ID, also a closed or archived one."""
    with opened() as storage:
        memory_id = found(storage, id)
        held = storage.memory.get(memory_id)
    if held is None:
        raise _missing()
    output.one(held, DETAILS)


@memory.command("correct")
@click.argument("id")
@click.argument("text")
@BY
def correct(id: str, text: str, by: str | None) -> None:
    """Put TEXT in the place of what was wrong; the old memory stays on record."""
    content = text_of("content", text)
    with opened() as storage:
        made = storage.memory.correct(found(storage, id), content, by=by)
    output.one(made, COLUMNS)


@memory.command("supersede")
@click.argument("id")
@click.argument("successor_id")
@click.option("--at", type=INSTANT, help="Since when. Default: now")
@BY
def supersede(id: str, successor_id: str, at: datetime | None, by: str | None) -> None:
    """Close the memory ID in favour of another; recall as of an earlier time still finds it."""
    with opened() as storage:
        old, new = found(storage, id), found(storage, successor_id)
        output.one(storage.memory.history.supersede(old, new, at=at, by=by), DETAILS)


@memory.command("contradict")
@click.argument("id")
@click.option("--by", metavar="NAME", required=True, help="Who or what says so.")
@click.option("--confidence", default=0.1, show_default=True, metavar="0..1")
def contradict(id: str, by: str, confidence: float) -> None:
    """Close the memory ID as wrong."""
    with opened() as storage:
        held = found(storage, id)
        output.one(storage.memory.history.contradict(held, by=by, confidence=confidence), DETAILS)


@memory.command("forget")
@click.argument("id")
def forget(id: str) -> None:
    """Take the memory ID out of every search; `memory restore` brings it back."""
    with opened() as storage:
        if not storage.memory.forget(found(storage, id)):
            raise _missing()
        output.note("Forgotten. holdfast memory restore brings it back.")


@memory.command("restore")
@click.argument("id")
@BY
def restore(id: str, by: str | None) -> None:
    """Open a forgotten, superseded or contradicted memory again; needs the whole ID."""
    with opened() as storage:
        output.one(storage.memory.history.restore(id, by=by), COLUMNS)


@memory.command("delete")
@click.argument("id")
@destroys
def delete(id: str, yes: bool, dry_run: bool) -> None:
    """Remove the memory ID for good, with its vectors."""
    with opened() as storage:
        memory_id = found(storage, id)
        if confirm(f"delete the memory {memory_id} for good", yes=yes, dry_run=dry_run):
            storage.memory.delete(memory_id)


@memory.command("pin")
@click.argument("id")
@BY
def pin(id: str, by: str | None) -> None:
    """Keep the memory ID from expiry, eviction, merging and decay."""
    with opened() as storage:
        output.one(storage.memory.pin(found(storage, id), by=by), COLUMNS)


@memory.command("unpin")
@click.argument("id")
def unpin(id: str) -> None:
    """Let the memory ID age again."""
    with opened() as storage:
        output.one(storage.memory.unpin(found(storage, id)), COLUMNS)


@memory.command("history")
@click.argument("id", required=False)
@paged
def history(id: str | None, limit: int, cursor: str | None, everything: bool) -> None:
    """List what was decided about the memory ID, or about all, oldest first."""
    with opened() as storage:
        about = None if id is None else found(storage, id)
        output.pages(
            lambda n, after: storage.memory.history.events(about, limit=n, cursor=after),
            EVENTS,
            limit=limit,
            cursor=cursor,
            everything=everything,
        )


@memory.command("stats")
def stats() -> None:
    """Count memories by state, tier, kind and namespace."""
    with opened() as storage:
        figures = storage.memory.stats()
        waiting = storage.memory.repair.stats()
    told = {**output.plain(figures), "repair": output.plain(waiting)}
    names = ("total", "live", "states", "tiers", "kinds", "types", "namespaces", "repair")
    output.one(told, (*names, "last_write_at"))


@memory.command("repair")
@click.option("--limit", default=1_000, show_default=True, help="Most memories to embed.")
def repair(limit: int) -> None:
    """Make the vectors that are missing, of memories whose embedding failed."""
    with opened() as storage:
        done = 0
        if storage.memory.spaces.active() is not None:
            storage.memory.spaces.stragglers()
        while done < limit:
            made = storage.memory.repair.run(limit=min(100, limit - done))
            if not made:
                break
            done += made
    output.one({"repaired": done}, ("repaired",))


@memory.command("reembed")
@click.option("--keep-old", is_flag=True, help="Keep the old vectors, for a quick way back.")
@click.option("--drop-old", is_flag=True, help="Only let go of old vectors that were kept.")
@click.option("--cancel", is_flag=True, help="Only give up a move that was not finished.")
@click.option("--batch", default=100, show_default=True, help="Memories per step, up to 1000.")
def reembed(keep_old: bool, drop_old: bool, cancel: bool, batch: int) -> None:
    """Move all of the tenant's memories to the model that --embedder names, while they are in use.

    Searches stay on the old vectors until every memory has its new one. What was interrupted goes
    on where it was. Afterwards every program must open the store with the new model.
    """
    with opened() as storage:
        spaces = storage.memory.spaces
        if cancel or drop_old:
            done = {"cancelled": cancel and spaces.cancel(), "dropped": drop_old and spaces.drop()}
            output.one(done, tuple(done))
            return
        with progress("Embedding", None, "memories") as advance:
            told = spaces.reembed(
                keep_old=keep_old,
                batch=batch,
                on_progress=lambda p: advance(p.done, p.done + p.left),
            )
        strayed = spaces.stragglers()
        kept = spaces.kept()
        shown = {
            "space": told.id,
            "kept": None if kept is None else kept.id,
            "queued_for_repair": strayed,
        }
    output.one(shown, tuple(shown))


@memory.command("calibrate")
@click.option("--sample", default=1_000, show_default=True, help="Memories to compare, 10 to 5000.")
def calibrate(sample: int) -> None:
    """Compare memories at random, so that recall takes a threshold as a percentile."""
    with opened() as storage:
        found = storage.memory.spaces.calibrate(sample=sample)
    shown = {"space": found.space, "memories": found.memories}
    shown |= {f"at_{p}": round(found.cosine_at(p), 4) for p in (50, 90, 95, 99)}
    output.one(shown, tuple(shown))


@memory.command("hygiene")
@click.argument("category", required=False, type=click.Choice(CATEGORIES))
@click.option("--clean", is_flag=True, help="Forget what the category has; pinned ones stay.")
@click.option("--limit", default=100, show_default=True, help="How many, up to 1000.")
@click.option("--cursor", help="Go on after an earlier page.")
@destroys
def hygiene(
    category: Any, clean: bool, limit: int, cursor: str | None, yes: bool, dry_run: bool
) -> None:
    """Count what does no good, by category; list the memories of CATEGORY, or forget them.

    Without CATEGORY it reads every memory for each category. What was cleaned comes back by
    `memory restore`, until it is purged.
    """
    with opened() as storage:
        held = storage.memory.hygiene
        if category is None:
            report = held.measure()
            counts = [
                {"category": name, **output.plain(one)} for name, one in report.categories.items()
            ]
            output.rows(counts, ("category", "count", "share", "pinned"))
        elif clean:
            tried = held.clean(category, limit=limit)
            what = f"forget {tried.count} memories ({category}) and spare {tried.spared} pinned"
            if confirm(what, yes=yes, dry_run=dry_run):
                done = held.clean(category, dry_run=False, limit=limit)
                output.one(done, ("category", "count", "spared"))
        else:
            output.pages(
                lambda n, after: held.list(category, limit=n, cursor=after),
                ("id", "score", "?other", "content"),
                limit=limit,
                cursor=cursor,
                everything=False,
                row=_finding,
            )


@memory.command("purge")
@click.option("--older-than-days", type=float, default=30.0, show_default=True, metavar="DAYS")
@destroys
def purge(older_than_days: float, yes: bool, dry_run: bool) -> None:
    """Delete for good what expired, and what was forgotten or superseded longer ago than that."""
    with opened() as storage:
        states = storage.memory.stats().states
        what = (
            f"delete {states['expired']} expired memories and those among {states['forgotten']}"
            f" forgotten and {states['superseded']} superseded ones that have been so for over"
            f" {older_than_days:g} days"
        )
        if not confirm(what, yes=yes, dry_run=dry_run):
            return
        lifecycle = storage.memory.lifecycle
        counts = {
            "expired": lifecycle.sweep(),
            "closed": lifecycle.purge(older_than_seconds=older_than_days * 86_400),
        }
    output.one(counts, ("expired", "closed"))


def found(storage: Storage, given: str) -> str:
    """The whole id of the one memory that ``given`` names or begins."""
    if storage.memory.get(given) is not None:
        return given
    held = storage.memory.find_by_prefix(given)
    if held is None:
        raise _missing()
    return held.id


def _finding(one: Any) -> dict[str, Any]:
    return {
        "id": one.memory.id,
        "score": round(one.score, 3),
        "other": one.other,
        "content": one.memory.content,
    }


def _missing() -> NotFound:
    return NotFound("There is no such memory.", hint="See: holdfast memory list.")
