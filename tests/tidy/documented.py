"""What a user can meet must be in the documentation: every error, every command."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click

from tests.tidy.source import PACKAGE, Module, Violation


def errors_without_a_section(root: Path, page: Path) -> list[Violation]:
    """Public classes of core/errors.py that the page does not name as code."""
    errors = Module(root, root / PACKAGE / "core" / "errors.py")
    classes = [n for n in errors.tree.body if isinstance(n, ast.ClassDef) and n.name[0] != "_"]
    if not classes:
        return [Violation(errors.shown, 1, "there are no error classes")]
    text = _text(page)
    return [
        Violation(errors.shown, node.lineno, f"`{node.name}` is not in {page.name}")
        for node in classes
        if f"`{node.name}`" not in text
    ]


def undocumented_commands(command: click.Command, page: Path) -> list[Violation]:
    """Commands, at any depth, whose full words (`holdfast task add`) the page does not show."""
    text = _text(page)
    return [
        Violation(page.name, 1, f"`{words}` is not described")
        for words in _commands(command, command.name or PACKAGE)
        if not re.search(rf"(?<![\w-]){re.escape(words)}(?![\w-])", text)
    ]


def _commands(command: click.Command, words: str) -> Iterator[str]:
    """The full words of every visible command that does something."""
    if not isinstance(command, click.Group):
        yield words
        return
    for name, child in sorted(command.commands.items()):
        if not child.hidden:
            yield from _commands(child, f"{words} {name}")


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8") if page.exists() else ""
