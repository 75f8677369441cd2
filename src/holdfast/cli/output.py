"""Answers on stdout: a table on a terminal, tab-separated lines in a pipe, JSON when asked for.

Stored text is not trusted with the terminal: what would move its cursor, ring its bell or turn its
writing around is shown as an escape instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from holdfast.cli.command import settings
from holdfast.core.visible import visible
from holdfast.stores.store import Page

if TYPE_CHECKING:
    from rich.console import Console

Columns = Sequence[str]
"""Names of the fields shown; the first is the one that --quiet gives.

A name that begins with "?" is left out of a table on a narrow terminal.
"""

WIDE_TEXT: Final = frozenset(
    ("text", "content", "title", "value", "description", "key", "subject", "data", "detail", "tags")
)
"""Fields that may take several lines of a table; the others keep to one."""
_WIDE: Final = 110
"""Columns of a terminal from which on tables show everything."""
_CELL: Final = 300
"""Most characters of a cell in a table on a terminal; lines and JSON are never cut."""


def on_terminal() -> bool:
    """Whether the answer goes to a person's screen."""
    return sys.stdout is not None and sys.stdout.isatty()


def plain(value: object) -> Any:
    """The value as JSON's kinds."""
    return msgspec.to_builtins(value, str_keys=True)


def json_text(value: object, *, indent: bool = False) -> str:
    """The value as JSON; text keeps its own script."""
    encoded = msgspec.json.encode(value)
    return (msgspec.json.format(encoded, indent=2) if indent else encoded).decode()


def emit(value: object) -> None:
    """Print a JSON document, spread over lines where a person reads it."""
    click.echo(json_text(value, indent=settings().form != "jsonl" and on_terminal()))


def one(record: object, columns: Columns, *, row: Callable[[Any], Any] | None = None) -> None:
    """Answer with one record: its fields below each other, or in one line of a pipe."""
    form = settings().form
    if form in ("json", "jsonl"):
        emit(record)
    elif form == "ids" or not on_terminal():
        rows([record], columns, row=row)
    else:
        _details(plain(row(record) if row else record), columns)


def rows(
    records: Iterable[object], columns: Columns, *, row: Callable[[Any], Any] | None = None
) -> None:
    """Answer with records, streamed unless a table must know them all."""
    form = settings().form
    if form == "json":
        emit({"items": list(records)})
        return
    if form == "jsonl":
        for record in records:
            click.echo(json_text(record))
        return
    shown = (plain(row(record) if row else record) for record in records)
    names = [name.lstrip("?") for name in columns]
    if form == "ids":
        for each in shown:
            click.echo(_field(each.get(names[0])))
    elif on_terminal():
        _listing(list(shown), columns)
    else:
        for each in shown:
            click.echo("\t".join(_field(each.get(name)) for name in names))


def pages(
    page: Callable[[int, str | None], Page[Any]],
    columns: Columns,
    *,
    limit: int,
    cursor: str | None,
    everything: bool,
    row: Callable[[Any], Any] | None = None,
) -> None:
    """Answer with a page, and say on stderr how to go on; or with all of them."""
    if everything:
        rows(_every(page, cursor), columns, row=row)
        return
    found = page(limit, cursor)
    if settings().form == "json":
        emit({"items": found.items, "next_cursor": found.next_cursor})
        return
    rows(found.items, columns, row=row)
    if found.next_cursor is not None:
        click.echo(f"There is more: --all, or --cursor {found.next_cursor}", err=True)


def _every(page: Callable[[int, str | None], Page[Any]], cursor: str | None) -> Iterator[Any]:
    while True:
        found = page(500, cursor)
        yield from found.items
        cursor = found.next_cursor
        if cursor is None:
            return


def width() -> int:
    """Columns of the screen."""
    from shutil import get_terminal_size

    return get_terminal_size().columns


def note(text: str) -> None:
    """Say something about the answer, on stderr, where a person reads along."""
    if settings().form == "" and sys.stderr is not None and sys.stderr.isatty():
        click.echo(text, err=True)


def _field(value: object) -> str:
    """A value in a line of its own: no tab and no line's end in it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return visible(value.replace("\\", "\\\\"))
    if isinstance(value, bool | dict | list):
        return visible(json_text(value))
    return str(value)


def _cell(value: object) -> str:
    if isinstance(value, str) and value[10:11] == "T":
        value = _short_instant(value)
    text = "" if value is None else value if isinstance(value, str) else json_text(value)
    text = visible(text, lines=True)
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"


def _short_instant(text: str) -> str:
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text


def _says(value: object) -> bool:
    return value is not None and value not in ("", [], {})


def _details(record: dict[str, Any], columns: Columns) -> None:
    """One record on a terminal: what it says, field by field."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name in (name.lstrip("?") for name in columns):
        if _says(record.get(name)):
            table.add_row(name.replace("_", " "), Text(_cell(_in_words(record[name]))))
    _console().print(table)


def _in_words(value: object) -> object:
    """A flat object as "name value, name value"; counts of nothing are left out."""
    if not isinstance(value, dict) or any(isinstance(each, dict | list) for each in value.values()):
        return value
    told = {name or "(none)": each for name, each in value.items()}
    if all(type(each) is int for each in told.values()):
        told = {name: each for name, each in told.items() if each}
    return ", ".join(f"{name} {each}" for name, each in told.items() if each is not None) or "none"


def _listing(lines: list[dict[str, Any]], columns: Columns) -> None:
    """Records on a terminal, without the columns that say nothing in any of them."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if not lines:
        click.echo("Nothing found.", err=True)
        return
    console = _console()
    wide = console.width >= _WIDE
    names = [name.lstrip("?") for name in columns if wide or not name.startswith("?")]
    names = [name for name in names if any(_says(line.get(name)) for line in lines)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        short = name == "id" or name.endswith(("_id", "_at")) or name not in WIDE_TEXT
        title = name.removesuffix("_at").replace("_", " ")
        table.add_column(
            title, no_wrap=short, overflow="fold", style="cyan" if name == "id" else ""
        )
    for line in lines:
        table.add_row(*(Text(_cell(line.get(name))) for name in names))
    console.print(table)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)
