"""Every error and every command has its place in the documentation."""

from __future__ import annotations

import importlib

import click

from tests.tidy.conftest import Tree
from tests.tidy.documented import errors_without_a_section, undocumented_commands
from tests.tidy.source import REPOSITORY, SRC, assert_clean


def test_every_error_is_documented() -> None:
    assert_clean(errors_without_a_section(SRC, REPOSITORY / "docs" / "errors.md"))


def test_every_command_is_documented() -> None:
    main = importlib.import_module("holdfast.cli").main
    assert isinstance(main, click.Group)
    assert_clean(undocumented_commands(main, REPOSITORY / "docs" / "cli.md"))


def test_saboteur_undocumented_error_is_caught(tree: Tree) -> None:
    root = tree(
        {
            "holdfast/core/errors.py": "class NotFound(Exception): ...\nclass Busy(Exception): ...",
            "docs/errors.md": "## `NotFound`\n\nBusy people read this.\n",
        }
    )
    found = errors_without_a_section(root, root / "docs" / "errors.md")
    assert [v.text for v in found] == ["`Busy` is not in errors.md"]
    assert len(errors_without_a_section(root, root / "docs" / "gone.md")) == 2


def test_saboteur_empty_error_module_is_caught(tree: Tree) -> None:
    root = tree({"holdfast/core/errors.py": "x = 1", "docs/errors.md": ""})
    assert errors_without_a_section(root, root / "docs" / "errors.md")


def sample() -> click.Group:
    leaf = click.Command("add")
    task = click.Group("task", commands={"add": leaf, "add-many": click.Command("add-many")})
    return click.Group("holdfast", commands={"task": task, "demo": click.Command("demo")})


def test_saboteur_undocumented_command_is_caught(tree: Tree) -> None:
    root = tree({"cli.md": "`holdfast demo` and `holdfast task add-many`"})
    found = undocumented_commands(sample(), root / "cli.md")
    assert [v.text for v in found] == ["`holdfast task add` is not described"]
