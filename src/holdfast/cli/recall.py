"""`holdfast remember` and `holdfast recall`: the two commands of the first minute."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from holdfast.cli import output
from holdfast.cli.command import Leaf, opened, settings
from holdfast.cli.values import INSTANT, given, pairs_of, text_of
from holdfast.stores.answer import legs_text
from holdfast.stores.memory import Recollection
from holdfast.stores.memory.explained import explained_text

COLUMNS = ("id", "kind", "content")
TIERS = click.Choice(["working", "episodic", "semantic", "procedural"])
NEAR = click.Choice(["off", "hint", "coalesce", "supersede"])
KINDS = click.Choice(["score", "cosine", "percentile"])
MODES = click.Choice(["hybrid", "vector", "keyword"])

Command = Callable[..., Any]


def narrowing(command: Command) -> Command:
    """Add the options that narrow recall and listings."""
    for name, text in (
        ("tag", "Only with this tag; may be repeated, all must be there."),
        ("kind", "Only of this kind; may be repeated."),
        ("speaker", "Only said by; may be repeated."),
        ("session", "Only of this session; may be repeated."),
        ("source", "Only from this source; may be repeated."),
    ):
        plural = f"{name}s"
        option = click.option(f"--{name}", plural, multiple=True, metavar="NAME", help=text)
        command = option(command)
    return click.option(
        "--meta", multiple=True, metavar="KEY=VALUE", help="Only with this metadata."
    )(command)


def filters_of(fields: dict[str, Any]) -> dict[str, Any]:
    """The filters among the options, as the store takes them."""
    names = ("tags", "kinds", "speakers", "sessions", "sources")
    found = given(**{name: fields.pop(name) for name in names})
    metadata = pairs_of("meta", fields.pop("meta"))
    return {**found, "metadata": metadata} if metadata else found


@click.command(cls=Leaf, short_help="Keep a text in memory.")
@click.argument("text")
@click.option("--kind", metavar="NAME", help="What it is: fact, preference, event, ...")
@click.option("--tag", "tags", multiple=True, metavar="NAME", help="May be repeated.")
@click.option("--tier", type=TIERS, help="How long it lives. Default: semantic")
@click.option("--speaker", metavar="NAME", help="Who said it.")
@click.option("--session", metavar="NAME", help="Where it was said.")
@click.option("--turn", type=int, metavar="N", help="Which turn of the session it was.")
@click.option("--said-at", type=INSTANT, help="When it was said.")
@click.option("--happened-at", type=INSTANT, help="When what it tells of happened.")
@click.option("--valid-from", type=INSTANT, help="Since when it is true.")
@click.option("--valid-to", type=INSTANT, help="When it stops being true.")
@click.option("--source", metavar="NAME", help="Where it comes from.")
@click.option("--importance", type=float, metavar="0..1")
@click.option("--confidence", type=float, metavar="0..1")
@click.option("--ttl", "ttl_seconds", type=float, metavar="SECONDS", help="Forget it after that.")
@click.option("--pin", "pinned", is_flag=True, default=None, help="Keep it from ageing.")
@click.option("--meta", multiple=True, metavar="KEY=VALUE", help="Metadata; may be repeated.")
@click.option("--near-duplicate", type=NEAR, help="What to do when almost the same is there.")
@click.option("--op-id", metavar="ID", help="A repeat with this id is done once.")
def remember(text: str, meta: tuple[str, ...], **fields: Any) -> None:
    """Keep TEXT in memory; "-" reads it from standard input.

    What is remembered already is not kept twice: its memory is the answer.
    """
    content, metadata = text_of("content", text), pairs_of("meta", meta)
    if metadata:
        fields["metadata"] = metadata
    with opened(create=True) as storage:
        memory = storage.memory.remember(content, **given(**fields))
    output.one(memory, COLUMNS)


@click.command(cls=Leaf, short_help="Find what is remembered, best first.")
@click.argument("query")
@click.option("-k", "k", default=10, show_default=True, help="How many, up to 1000.")
@click.option("--mode", type=MODES, default="hybrid", show_default=True)
@click.option("--threshold", type=float, metavar="SCORE", help="Nothing below this score.")
@click.option("--threshold-kind", type=KINDS, default="score", show_default=True)
@click.option("--as-of", type=INSTANT, help="What held at this instant.")
@click.option("--include-archived", is_flag=True, help="Look into the archive too.")
@click.option("--reinforce", is_flag=True, help="Count the results as accessed.")
@click.option("--explain", is_flag=True, help="Say what each stage added, and why rows were cut.")
@narrowing
def recall(
    query: str,
    k: int,
    mode: Any,
    threshold: float | None,
    threshold_kind: Any,
    as_of: datetime | None,
    include_archived: bool,
    reinforce: bool,
    explain: bool,
    **fields: Any,
) -> None:
    """Find what is remembered and answers QUERY, best first."""
    asked = text_of("query", query)
    with opened() as storage:
        found = storage.memory.recall(
            asked,
            k=k,
            mode=mode,
            threshold=threshold,
            threshold_kind=threshold_kind,
            as_of=as_of,
            include_archived=include_archived,
            reinforce=reinforce,
            explain=explain,
            **filters_of(fields),
        )
    show(found, explain=explain)


def show(found: Recollection, *, explain: bool) -> None:
    """Answer with what was recalled."""
    if settings().form == "json":
        output.emit({"items": list(found), "flags": found.flags, "stages": found.stages})
    elif settings().form == "" and output.on_terminal():
        _show_to_person(found, explain=explain)
    else:
        output.rows(found, ("id", "score", "legs", "content"), row=_line)


def _show_to_person(found: Recollection, *, explain: bool) -> None:
    if not found:
        click.echo(found.nothing, err=True)
        return
    click.echo(found.text(output.width()))
    if explain:
        click.echo("\n" + explained_text(found, found.stages))


def _line(item: Any) -> dict[str, Any]:
    if settings().form == "jsonl":
        return output.plain(item)  # type: ignore[no-any-return]
    return {
        "id": item.memory.id,
        "score": f"{item.score:.4f}",
        "legs": legs_text(item.legs),
        "content": item.memory.content,
    }
