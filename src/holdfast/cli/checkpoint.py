"""`holdfast checkpoint`: saved states of agents."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli import output
from holdfast.cli.command import Noun, opened, paged, settings
from holdfast.cli.consent import confirm, destroys
from holdfast.core.errors import NotFound
from holdfast.core.files import owned

COLUMNS = ("id", "session_id", "iteration", "sequence", "size", "saved_at", "?agent")
MISSING = "There is no such checkpoint."
SEE = "See: holdfast checkpoint list."


@click.group(cls=Noun, short_help="Saved states of agents, step by step.")
def checkpoint() -> None:
    """Saved states of agents, step by step."""


@checkpoint.command("list")
@click.option("--session", "session_id", metavar="NAME", help="Of this session only.")
@paged
def list_checkpoints(
    session_id: str | None, limit: int, cursor: str | None, everything: bool
) -> None:
    """List checkpoints, newest first; of all sessions unless one is named."""
    with opened() as storage:
        output.pages(
            lambda n, after: storage.checkpoints.list(session_id=session_id, limit=n, cursor=after),
            COLUMNS,
            limit=limit,
            cursor=cursor,
            everything=everything,
        )


@checkpoint.command("get")
@click.argument("checkpoint_id", metavar="ID")
@click.option(
    "--output", "target", type=click.Path(dir_okay=False, path_type=Path), help="Write there."
)
def get(checkpoint_id: str, target: Path | None) -> None:
    """Write the state of ID to standard output, byte for byte; --json says what is known of it."""
    with opened() as storage:
        found = storage.checkpoints.load(checkpoint_id)
    if found is None:
        raise NotFound(MISSING, hint=SEE)
    if target is not None:
        with open(target, "wb", opener=owned) as file:
            file.write(found.state)
    elif settings().form in ("json", "jsonl"):
        output.emit(found)
    else:
        click.echo(found.state, nl=False)


@checkpoint.command("fork")
@click.argument("checkpoint_id", metavar="ID")
@click.argument("session_id", metavar="SESSION")
def fork(checkpoint_id: str, session_id: str) -> None:
    """Begin SESSION with the state of ID; the two share its bytes."""
    with opened() as storage:
        made = storage.checkpoints.fork(checkpoint_id, session_id=session_id)
    output.one(made, COLUMNS)


@checkpoint.command("prune")
@click.option("--keep", type=int, required=True, metavar="N", help="How many of the newest stay.")
@click.option("--session", "session_id", default="", metavar="NAME", help="Of this session.")
@destroys
def prune(keep: int, session_id: str, yes: bool, dry_run: bool) -> None:
    """Remove a session's checkpoints but the newest; of the session without a name by default."""
    question = f"delete all checkpoints of session {session_id!r} but the newest {keep}"
    with opened() as storage:
        if confirm(question, yes=yes, dry_run=dry_run):
            output.emit({"deleted": storage.checkpoints.prune(keep=keep, session_id=session_id)})


@checkpoint.command("delete")
@click.argument("checkpoint_id", metavar="ID")
@destroys
def delete(checkpoint_id: str, yes: bool, dry_run: bool) -> None:
    """Remove the checkpoint ID; others keep what they share with it."""
    with opened() as storage:
        if storage.checkpoints.load(checkpoint_id) is None:
            raise NotFound(MISSING, hint=SEE)
        if confirm(f"delete the checkpoint {checkpoint_id!r}", yes=yes, dry_run=dry_run):
            storage.checkpoints.delete(checkpoint_id)


@checkpoint.command("stats")
def stats() -> None:
    """Tell how many there are, how large their states are, and what these take."""
    with opened() as storage:
        output.emit(storage.checkpoints.stats())
