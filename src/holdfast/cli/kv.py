"""`holdfast kv`: named JSON values."""

from __future__ import annotations

import click

from holdfast.cli import output
from holdfast.cli.command import Noun, opened, paged, settings
from holdfast.cli.consent import confirm, destroys
from holdfast.cli.values import json_of, text_of
from holdfast.core.errors import NotFound
from holdfast.core.visible import visible

COLUMNS = ("key", "value", "version", "?updated_at", "expires_at")


@click.group(cls=Noun, short_help="Named values: any JSON under a key.")
def kv() -> None:
    """Named values: any JSON under a key."""


@kv.command("get")
@click.argument("key")
def get(key: str) -> None:
    """Print the value of KEY: text as it is, everything else as JSON."""
    with opened() as storage:
        entry = storage.kv.entry(key)
    if entry is None:
        raise NotFound("There is no such key.", hint="See: holdfast kv list.")
    if settings().form in ("json", "jsonl"):
        output.emit(entry)
    elif isinstance(entry.value, str):
        shown = visible(entry.value, lines=True) if output.on_terminal() else entry.value
        click.echo(shown)
    else:
        output.emit(entry.value)


@kv.command("set")
@click.argument("key")
@click.argument("value")
@click.option(
    "--as",
    "kind",
    type=click.Choice(["text", "json"]),
    default="text",
    help="What VALUE is.",
    show_default=True,
)
@click.option(
    "--ttl", "ttl_seconds", type=float, metavar="SECONDS", help="Forget it after that long."
)
@click.option(
    "--expected-version",
    type=int,
    metavar="N",
    help="Only if this is its version; 0: only if it is new.",
)
def put(
    key: str, value: str, kind: str, ttl_seconds: float | None, expected_version: int | None
) -> None:
    """Write VALUE under KEY; "-" reads it from standard input."""
    found = json_of("value", value) if kind == "json" else text_of("value", value)
    with opened(create=True) as storage:
        entry = storage.kv.set(
            key, found, ttl_seconds=ttl_seconds, expected_version=expected_version
        )
    output.one(entry, COLUMNS, row=_row)


@kv.command("list")
@click.argument("prefix", default="")
@paged
def list_keys(prefix: str, limit: int, cursor: str | None, everything: bool) -> None:
    """List keys that begin with PREFIX, in their order."""
    with opened() as storage:
        output.pages(
            lambda n, after: storage.kv.list(prefix, limit=n, cursor=after),
            COLUMNS,
            limit=limit,
            cursor=cursor,
            everything=everything,
            row=_row,
        )


@kv.command("delete")
@click.argument("key")
@destroys
def delete(key: str, yes: bool, dry_run: bool) -> None:
    """Remove KEY and its value."""
    with opened() as storage:
        if storage.kv.entry(key) is None:
            raise NotFound("There is no such key.", hint="See: holdfast kv list.")
        if confirm(f"delete the key {key!r}", yes=yes, dry_run=dry_run):
            storage.kv.delete(key)


def _row(entry: object) -> dict[str, object]:
    shown: dict[str, object] = output.plain(entry)
    return {**shown, "version": shown["revision"]}
