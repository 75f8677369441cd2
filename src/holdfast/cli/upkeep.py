"""`holdfast backup` and `holdfast restore`: whole copies of a store."""

from __future__ import annotations

import os

import click

from holdfast.cli import output
from holdfast.cli.command import Leaf, confirm, opened, settings
from holdfast.cli.progress import watched
from holdfast.core.errors import Unsupported

REPORT = ("target", "bytes", "sha256")


@click.command(cls=Leaf, short_help="Copy the whole store while others write.")
@click.argument("target")
@click.option("--dry-run", is_flag=True, help="Say what would be copied, and do nothing.")
def backup(target: str, dry_run: bool) -> None:
    """Copy the store to the new file TARGET while others write, and print its checksum."""
    path = settings().path
    if path is None:
        raise Unsupported("Only a store in a file is backed up by this command.")
    with opened() as storage:
        size = os.path.getsize(path)
        if dry_run:
            confirm(f"copy {size} bytes to {target}", yes=False, dry_run=True)
            return
        report = watched("backup", f"{target}.partial", size, lambda: storage.backup(target))
    output.one(_told(target, report.counts["bytes"], report.findings), REPORT)


@click.command(cls=Leaf, short_help="Make a store from a backup.")
@click.argument("source")
@click.argument("target")
@click.option("--dry-run", is_flag=True, help="Say what would be made, and do nothing.")
def restore(source: str, target: str, dry_run: bool) -> None:
    """Make a store at the new path TARGET from the backup SOURCE, after checking every page.

    Nothing is ever overwritten: choose a new path, look at it, then move it.
    """
    from holdfast.backends.sqlite import maintenance

    if dry_run:
        confirm(f"make a store at {target} from {source}", yes=False, dry_run=True)
        return
    size = os.path.getsize(source) if os.path.isfile(source) else 0
    report = watched(
        "restore", f"{target}.partial", size, lambda: maintenance.restore(source, target)
    )
    output.one(_told(target, report.counts["bytes"], report.findings), REPORT)


def _told(target: str, size: int, findings: list[str]) -> dict[str, object]:
    return {"target": os.path.abspath(target), "bytes": size, "sha256": findings[0].split()[-1]}
