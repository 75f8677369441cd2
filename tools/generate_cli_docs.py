"""Write the reference part of docs/cli.md from the command line itself.

    python tools/generate_cli_docs.py           writes the page
    python tools/generate_cli_docs.py --check   exits with 1 when the page is stale

What stands above the mark is written by hand and kept.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from holdfast.cli import main
from holdfast.cli.command import Leaf, shared_options

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
MARK = "<!-- generated from here on by tools/generate_cli_docs.py -->"
NAME = "holdfast"


def page(text: str) -> str:
    """The page with its reference part made anew."""
    above, mark, _ = text.partition(MARK)
    if not mark:
        raise SystemExit(f"{PAGE.name} has no mark: {MARK}")
    return f"{above}{MARK}\n\n" + "\n".join(reference()).rstrip() + "\n"


def reference() -> Iterator[str]:
    """The options of every command, then each command."""
    context = click.Context(main, info_name=NAME)
    yield "## Options of every command"
    yield ""
    yield from _options(shared_options(root=True), context)
    for words, command in _commands(main, NAME):
        yield from _section(words, command)


def _commands(group: click.Group, words: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in sorted(group.commands.items()):
        yield f"{words} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{words} {name}")


def _section(words: str, command: click.Command) -> Iterator[str]:
    depth = "##" if len(words.split()) == 2 else "###"
    context = click.Context(command, info_name=words)
    yield f"{depth} `{words}`"
    yield ""
    yield from _prose(command.help or "")
    if isinstance(command, click.Group):
        return
    pieces = [p.make_metavar(context) for p in command.params if isinstance(p, click.Argument)]
    yield "```text"
    yield " ".join([words, "[OPTIONS]", *pieces])
    yield "```"
    yield ""
    shared = set(command.shared) if isinstance(command, Leaf) else set()
    own = [p for p in command.params if isinstance(p, click.Option) and p not in shared]
    yield from _options(own, context)


def _prose(text: str) -> Iterator[str]:
    """The help text; what is set line by line there stays so."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b"):
            yield from ("```text", *paragraph.splitlines()[1:], "```", "")
        else:
            yield from (paragraph, "")


def _options(parameters: Sequence[click.Parameter], context: click.Context) -> Iterator[str]:
    records = [parameter.get_help_record(context) for parameter in parameters]
    rows = [record for record in records if record is not None]
    if not rows:
        return
    yield "| option | |"
    yield "|---|---|"
    for names, text in rows:
        yield f"| `{_cell(names)}` | {_cell(' '.join(text.split()))} |"
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    held = PAGE.read_text(encoding="utf-8")
    made = page(held)
    if "--check" in sys.argv[1:]:
        if made != held:
            sys.exit("docs/cli.md is stale: run python tools/generate_cli_docs.py")
    else:
        PAGE.write_text(made, encoding="utf-8")
