"""`holdfast audit`: an append-only log that shows tampering."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import msgspec

from holdfast.cli import output
from holdfast.cli.command import Noun, opened, paged
from holdfast.cli.values import given, json_of, text_of
from holdfast.core.errors import Invalid
from holdfast.stores.audit.records import Anchor
from holdfast.stores.store import Page

LISTED = ("seq", "?at", "?stream", "actor", "action", "subject", "data", "?hash")
VERIFIED = ("ok", "stream", "entries", "first_seq", "last_seq", "anchored_seq", "fault", "?hash")
ANCHOR = ("seq", "hash", "stream", "at", "signature")
STREAM = click.option("--stream", default="main", show_default=True, metavar="NAME")
KEY = click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help="File with the signing key, at least 16 bytes. Also: HOLDFAST_AUDIT_KEY",
)


@click.group(cls=Noun, short_help="An append-only log that shows tampering.")
def audit() -> None:
    """The audit log: entries chained by hash."""


@audit.command("append")
@click.argument("action")
@click.option("--actor", metavar="NAME", help="Who did it.")
@click.option("--subject", metavar="NAME", help="To what.")
@click.option("--data", metavar="JSON", help='Anything beside it; "-" reads it from stdin.')
@STREAM
@click.option("--op-id", metavar="ID", help="A repeat with this id is done once.")
def append(action: str, data: str | None, **fields: Any) -> None:
    """Record that ACTION was done."""
    value = json_of("data", data)
    with opened(create=True) as storage:
        entry = storage.audit.append(action, data=value, **given(**fields))
    output.one(_answer(entry), LISTED)


@audit.command("list")
@click.option("--stream", metavar="NAME")
@click.option("--actor", metavar="NAME")
@click.option("--action", metavar="NAME")
@click.option("--subject", metavar="NAME")
@paged
def list_entries(limit: int, cursor: str | None, everything: bool, **fields: Any) -> None:
    """List entries, newest first."""
    with opened() as storage:

        def page(n: int, after: str | None) -> Any:
            found = storage.audit.list(limit=n, cursor=after, **given(**fields))
            return Page([_answer(entry) for entry in found.items], found.next_cursor)

        output.pages(page, LISTED, limit=limit, cursor=cursor, everything=everything)


@audit.command("verify")
@STREAM
@click.option("--every", is_flag=True, help="Every stream in view.")
@click.option("--anchor", metavar="FILE", help='An anchor to check against; "-" for stdin.')
@KEY
def verify(stream: str, every: bool, anchor: str | None, key_file: Path | None) -> int:
    """Check every entry of a stream. The exit status is 1 when something is wrong.

    Without an anchor, a log that was rewritten as a whole looks sound.
    """
    if every and anchor:
        raise click.UsageError("--every goes without --anchor.")
    kept = None if anchor is None else _anchor(anchor)
    key = None if kept is None else _key(key_file)
    with opened() as storage:
        if every:
            found = list(storage.audit.verify_all())
        else:
            found = [storage.audit.verify(stream, anchor=kept, key=key)]
    told = [{**output.plain(each), "ok": each.ok} for each in found]
    if every:
        output.rows(told, VERIFIED)
    else:
        output.one(told[0], VERIFIED)
    for each in found:
        if each.fault is not None:
            click.echo(f"{each.stream}: {each.fault.kind} at entry {each.fault.seq}", err=True)
    return 0 if all(each.ok for each in found) else 1


@audit.command("anchor")
@STREAM
@KEY
def make_anchor(stream: str, key_file: Path | None) -> None:
    """Print the stream's end as JSON, to be kept outside the store; signed when there is a key."""
    with opened() as storage:
        output.emit(storage.audit.export_anchor(stream, key=_key(key_file)))


def _key(key_file: Path | None) -> bytes | None:
    """The signing key, from a file or the environment; never from the command line."""
    if key_file is not None:
        return key_file.read_bytes().strip()
    held = os.environ.get("HOLDFAST_AUDIT_KEY")
    return held.encode() if held else None


def _anchor(name: str) -> Anchor:
    text = text_of("anchor", "-").encode() if name == "-" else Path(name).read_bytes()
    try:
        return msgspec.json.decode(text, type=Anchor)
    except msgspec.MsgspecError:
        raise Invalid("anchor", expected="what `audit anchor` printed", got="other text") from None


def _answer(entry: Any) -> dict[str, Any]:
    told: dict[str, Any] = output.plain(entry)
    return {**told, "data": entry.data}
