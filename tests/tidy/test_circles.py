"""Modules can be read from the bottom up: no circle of imports is left."""

from __future__ import annotations

import pytest

from tests.tidy.circles import circles
from tests.tidy.conftest import Tree
from tests.tidy.source import SRC, assert_clean


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert_clean(circles(SRC))


IMPORTS = {
    "directly": "from holdfast.core.b import B",
    "as a module": "from holdfast.core import b",
    "relatively": "from .b import B",
    "inside a function": "def f() -> None:\n    from holdfast.core.b import B",
    "for types alone": "if TYPE_CHECKING:\n    from holdfast.core.b import B",
}


@pytest.mark.parametrize("name", IMPORTS)
def test_saboteur_a_circle_is_caught(name: str, tree: Tree) -> None:
    there = "from holdfast.core.c import C"
    back = "from holdfast.core.a import A"
    texts = {"a": IMPORTS[name], "b": there, "c": back}
    [found] = circles(tree({f"holdfast/core/{n}.py": text for n, text in texts.items()}))
    assert found.path == "holdfast/core/c.py"
    assert found.text.count("->") == 3


def test_what_two_modules_share_is_no_circle(tree: Tree) -> None:
    files = {
        "holdfast/core/a.py": "from holdfast.core.b import B\nfrom holdfast.core.c import C",
        "holdfast/core/b.py": "from holdfast.core.c import C",
        "holdfast/core/c.py": "x = 1",
    }
    assert circles(tree(files)) == []
