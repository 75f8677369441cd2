"""What destroys asks first, and can be rehearsed."""

from __future__ import annotations

import sys

import click

from holdfast.cli import output
from holdfast.cli.command import Command, settings


def confirm(what: str, *, yes: bool, dry_run: bool) -> bool:
    """Whether to go on with what destroys: asked on a terminal, refused elsewhere without --yes."""
    if dry_run:
        rehearsed(what)
        if settings().form in ("json", "jsonl"):
            output.emit({"would": what})
        return False
    if yes:
        return True
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError(f"This would {what}. Repeat it with --yes, or with --dry-run.")
    if click.confirm(f"This will {what}. Go on?", err=True):
        return True
    click.echo("Nothing was changed.", err=True)
    return False


def rehearsed(what: str) -> None:
    """Say what a command would do, beside an answer that tells the details."""
    click.echo(f"Would {what}. Nothing was changed.", err=True)


def destroys(command: Command) -> Command:
    """Add --dry-run and --yes."""
    command = click.option("--yes", "-y", is_flag=True, help="Do it without asking.")(command)
    return click.option("--dry-run", is_flag=True, help="Say what would go, and do nothing.")(
        command
    )
