"""`holdfast ingest`: a folder of files becomes documents."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import output
from holdfast.cli.command import Leaf, opened, settings
from holdfast.cli.consent import rehearsed
from holdfast.cli.progress import progress
from holdfast.cli.values import given
from holdfast.core.visible import visible

if TYPE_CHECKING:
    from holdfast.ingest import FolderIngest

Command = Callable[..., Any]

REPORT = (
    "source",
    "created",
    "replaced",
    "amended",
    "unchanged",
    "removed",
    "failed",
    "chunks",
    "run_id",
)


def admitting(command: Command) -> Command:
    """Add the options that say whom a document admits."""
    for name, variable, text in (
        ("--reader", "readers", "Admit this user, and those named so; may be repeated."),
        ("--reader-group", "groups", "Admit the members of this group; may be repeated."),
    ):
        command = click.option(name, variable, multiple=True, metavar="NAME", help=text)(command)
    command = click.option("--public", is_flag=True, help="Admit everybody of the tenant.")(command)
    return click.option("--lock", is_flag=True, help="Admit nobody.")(command)


def access_of(fields: dict[str, Any]) -> dict[str, Any]:
    """``access`` as the options say it; nothing where they do not."""
    readers, groups = list(fields.pop("readers")), list(fields.pop("groups"))
    public, lock = fields.pop("public"), fields.pop("lock")
    if lock and (public or readers or groups):
        raise click.UsageError("--lock admits nobody, and goes with no other reader.")
    if public and not readers and not groups:
        return {"access": None}
    if not (lock or readers or groups):
        return {}
    return {"access": {"public": public, "users": readers, "groups": groups}}


@click.command("ingest", cls=Leaf, short_help="Take a folder of files in as documents.")
@click.argument("folder")
@click.option("--source", metavar="NAME", help="What to call the folder. Default: as it is given")
@click.option("--include", multiple=True, metavar="GLOB", help="Only these; may be repeated.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Not these; may be repeated.")
@click.option("--flat", is_flag=True, help="Leave folders inside FOLDER out.")
@click.option("--hidden", is_flag=True, help="Also what begins with a dot.")
@click.option("--set", "sets", multiple=True, metavar="NAME", help="Put into this set.")
@click.option("--boost", type=float, metavar="FACTOR", help="Weight of what is found there.")
@click.option("--collection", metavar="TAG", help="Put into this collection.")
@admitting
@click.option("--remove-missing", is_flag=True, help="Delete documents whose file is gone.")
@click.option("--moved", is_flag=True, help="The source is the same, at another place.")
@click.option("--chunk-characters", type=int, metavar="N", help="Longest chunk. Default: 500")
@click.option("--chunk-overlap", type=int, metavar="N", help="Most that chunks share. Default: 64")
@click.option("--dry-run", is_flag=True, help="Name the files, and take none in.")
def ingest(folder: str, dry_run: bool, **fields: Any) -> int:
    """Take the Markdown, text, HTML and PDF files of FOLDER in, and of the folders inside it.

    What has not changed since is skipped, so a run that was cut short is simply repeated. A file
    that cannot be read is named on stderr with the reason, and the exit status is then 1.
    """
    from holdfast.ingest import Choice
    from holdfast.ingest.folder import files_of

    choice = Choice(
        include=fields.pop("include"),
        exclude=fields.pop("exclude"),
        recursive=not fields.pop("flat"),
        hidden=fields.pop("hidden"),
    )
    if dry_run:
        items = files_of(folder, choice)
        rehearsed(f"take in {len(items)} files")
        output.rows([{"item": item} for item in items], ("item",))
        return 0
    # The reader of PDF files tells its log of every oddity; what matters comes as an error.
    logging.getLogger("pypdf").addHandler(logging.NullHandler())
    report = _run(folder, choice, fields)
    for failed in report.failed:
        told = visible(f"{os.path.join(folder, failed.item)}: {failed.reason}")
        click.echo(f"not read: {told}", err=True)
    output.one(
        {**report.counts, "source": report.source, "chunks": report.chunks, "run_id": report.run_id}
        | ({"failures": report.failed} if settings().form in ("json", "jsonl") else {}),
        REPORT,
    )
    return 1 if report.failed else 0


def _run(folder: str, choice: Any, fields: dict[str, Any]) -> FolderIngest:
    from holdfast.ingest import ingest_folder
    from holdfast.ingest.folder import files_of
    from holdfast.stores.knowledge import KnowledgePolicy

    sizes = given(**{n: fields.pop(n) for n in ("chunk_characters", "chunk_overlap")})
    stated = access_of(fields)
    stated |= given(**{n: fields.pop(n) for n in ("sets", "boost", "collection")})
    total = len(files_of(folder, choice))  # before a store is made for a folder that is not there
    with opened(create=True) as storage, progress("ingest", total, "files") as advance:
        return ingest_folder(
            storage.knowledge.configured(KnowledgePolicy(**sizes)),
            folder,
            choice=choice,
            stated=stated,
            watch=lambda _, done, total: advance(done, total),
            **fields,
        )
