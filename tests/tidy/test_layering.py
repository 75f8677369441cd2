"""Neither side of the contract knows the other."""

from __future__ import annotations

import pytest

from tests.tidy.conftest import Tree
from tests.tidy.layering import breaches
from tests.tidy.source import PACKAGE, SRC, assert_clean, modules


def test_no_import_crosses_a_line() -> None:
    assert_clean(breaches(SRC))


def test_the_rule_reads_a_tree_that_is_there() -> None:
    assert len(modules(SRC, "core")) > 3, f"nothing of {PACKAGE}.core was read"


SABOTEURS = {
    "core sees a store": ("core/query.py", "from holdfast.stores.tasks import Tasks"),
    "core sees the package": ("core/query.py", "import holdfast"),
    "core sees the front door": ("core/query.py", "from holdfast import open"),
    "a store sees an engine": ("stores/tasks.py", "from holdfast.backends import sqlite"),
    "a store sees it relatively": ("stores/tasks.py", "from ..backends.sqlite import Driver"),
    "a store sees recall": ("stores/memory.py", "import holdfast.recall.fusion"),
    "a store sees native SQL": ("stores/tasks.py", "import sqlite3"),
    "core sees native SQL": ("core/driver.py", "from apsw import Connection"),
    "a backend sees a store": ("backends/memory.py", "from ..stores import tasks"),
    "a backend sees another": ("backends/memory.py", "from holdfast.backends.sqlite import port"),
    "a backend sees it as a name": ("backends/memory.py", "from holdfast.backends import sqlite"),
    "a deep module sees another": ("backends/sqlite/port.py", "from ..memory import Driver"),
    "shared SQL sees an engine": ("backends/sql/planner.py", "from ..sqlite import port"),
    "a layer sees a backend": ("layers/retry.py", "from holdfast.backends.memory import Driver"),
    "recall sees a store": ("recall/fusion.py", "from holdfast.stores.memory import Memory"),
    "storage sees the cli": ("storage.py", "from holdfast.cli import main"),
    "testing sees the cli": ("testing/suite.py", "import holdfast.cli"),
    "one edge sees another": ("server/app.py", "from holdfast.cli import main"),
    "only under TYPE_CHECKING": (
        "core/query.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import holdfast.stores.tasks",
    ),
    "inside a function": ("stores/kv.py", "def f() -> None:\n    import holdfast.backends.memory"),
    "by a string": (
        "stores/kv.py",
        "import importlib\nx = importlib.import_module('holdfast.backends.memory')",
    ),
    "a folder without a place": ("plumbing/pipes.py", "x = 1"),
}


@pytest.mark.parametrize("name", SABOTEURS)
def test_saboteur_is_caught(name: str, tree: Tree) -> None:
    path, text = SABOTEURS[name]
    found = breaches(tree({f"holdfast/{path}": text}))
    assert [violation.path for violation in found] == [f"holdfast/{path}"]


def test_what_is_allowed_passes(tree: Tree) -> None:
    root = tree(
        {
            "holdfast/core/query.py": "from holdfast.core.filters import Filter\nimport time",
            "holdfast/stores/tasks.py": "from ..core import query\nfrom .kv import KV",
            "holdfast/backends/sqlite/port.py": "import apsw\nfrom ..sql import planner\n"
            "from holdfast.backends.sqlite.errors import E\nfrom holdfast.core import query",
            "holdfast/storage.py": "from holdfast.stores import tasks\nimport holdfast.backends",
            "holdfast/cli/__init__.py": "import holdfast\nfrom holdfast.cli.demo import run",
            "holdfast/__main__.py": "from holdfast.cli import main",
        }
    )
    assert not breaches(root)
