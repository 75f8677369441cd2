"""`holdfast backup` and `holdfast restore`: whole copies of a store."""

from __future__ import annotations

import os

import click

from holdfast.cli import output
from holdfast.cli.command import Leaf, opened, settings
from holdfast.cli.consent import confirm
from holdfast.cli.doctor import is_postgres
from holdfast.cli.progress import watched
from holdfast.core.errors import Unsupported

REPORT = ("target", "bytes", "sha256")


@click.command(cls=Leaf, short_help="Copy the whole store while others write.")
@click.argument("target")
@click.option("--dry-run", is_flag=True, help="Say what would be copied, and do nothing.")
def backup(target: str, dry_run: bool) -> None:
    """Copy the store to TARGET while others write, and print its checksum.

    TARGET is new: a file for a store in a file, and for one in PostgreSQL a folder with a file for
    each table and a manifest of their checksums.
    """
    path = settings().path
    if path is None and not is_postgres(settings().store):
        raise Unsupported("Only a store in a file or in PostgreSQL is backed up by this command.")
    if path is None:
        _backup_folder(target, dry_run=dry_run)
        return
    with opened() as storage:
        size = os.path.getsize(path)
        if dry_run:
            confirm(f"copy {size} bytes to {target}", yes=False, dry_run=True)
            return
        report = watched("backup", f"{target}.partial", size, lambda: storage.backup(target))
    output.one(_told(target, report.counts["bytes"], report.findings), REPORT)


@click.command(cls=Leaf, short_help="Make a store from a backup.")
@click.argument("source")
@click.argument("target", metavar="PATH|URL")
@click.option("--dry-run", is_flag=True, help="Say what would be made, and do nothing.")
def restore(source: str, target: str, dry_run: bool) -> None:
    """Make a store at a new path, or at a PostgreSQL URL, from the backup SOURCE.

    All of SOURCE is checked first. Nothing is ever overwritten: choose a new path, look at it,
    then move it. In PostgreSQL the schema must hold no records; the role in URL will own the
    tables, and `holdfast setup postgres` then lets the application use them.
    """
    if is_postgres(target):
        _restore_folder(source, target, dry_run=dry_run)
        return
    from holdfast.backends.sqlite import maintenance

    if dry_run:
        confirm(f"make a store at {target} from {source}", yes=False, dry_run=True)
        return
    size = os.path.getsize(source) if os.path.isfile(source) else 0
    report = watched(
        "restore", f"{target}.partial", size, lambda: maintenance.restore(source, target)
    )
    output.one(_told(target, report.counts["bytes"], report.findings), REPORT)


def _backup_folder(target: str, *, dry_run: bool) -> None:
    if dry_run:
        confirm(f"copy every table to {target}", yes=False, dry_run=True)
        return
    with opened() as storage:
        report = storage.backup(target)
    output.one(_told(target, _size(target), report.findings), REPORT)


def _restore_folder(source: str, target: str, *, dry_run: bool) -> None:
    from holdfast.backends.postgres import PostgresDriver, backup
    from holdfast.storage import all_collections

    if dry_run:
        rows = sum(table.rows for table in backup.check(source).tables)
        confirm(f"restore {rows} rows from {source}", yes=False, dry_run=True)
        return
    driver = PostgresDriver(target)
    try:
        report = driver.restore(source, all_collections())
    finally:
        driver.close()
    held = {name: count for name, count in report.counts.items() if count}
    output.one({"source": os.path.abspath(source), "rows": held}, ("source", "rows"))


def _size(folder: str) -> int:
    return sum(entry.stat().st_size for entry in os.scandir(folder))


def _told(target: str, size: int, findings: list[str]) -> dict[str, object]:
    return {"target": os.path.abspath(target), "bytes": size, "sha256": findings[0].split()[-1]}
