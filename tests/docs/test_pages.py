"""What the pages say of the code is looked up in the code."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

import holdfast
from bench.recall import report
from holdfast.core import errors
from holdfast.recall.recipe import Recipe
from tests.tidy.source import REPOSITORY

DOCS = REPOSITORY / "docs"
SOURCE = REPOSITORY / "src" / "holdfast"
PAGES = sorted(DOCS.rglob("*.md"))
PLACE = re.compile(r"`([\w/]+\.py)` · `([\w.]+)`")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
LIMIT = re.compile(r"^\|[^|]+\| *([\d,]+) \| `(holdfast[\w.]+)` \|$", re.MULTILINE)
ARCHITECTURE = (DOCS / "architecture.md").read_text(encoding="utf-8")


def missing_places(text: str) -> list[str]:
    """Functions that a page names and that do not exist."""
    return [f"{path} · {name}" for path, name in PLACE.findall(text) if not defines(path, name)]


def defines(path: str, name: str) -> bool:
    if not (SOURCE / path).exists():
        return False
    nodes: list[ast.stmt] = ast.parse((SOURCE / path).read_text(encoding="utf-8")).body
    for part in name.split("."):
        kinds = (ast.FunctionDef, ast.ClassDef)
        found = [node for node in nodes if isinstance(node, kinds) and node.name == part]
        if not found:
            return False
        nodes = found[0].body
    return True


def broken_links(page: Path) -> list[str]:
    """Relative links of a page that lead nowhere."""
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    return [target for target in targets if not (page.parent / target).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(DOCS).as_posix())
def test_a_page_names_what_exists(page: Path) -> None:
    assert missing_places(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", [*PAGES, *REPOSITORY.glob("*.md")], ids=lambda p: p.name)
def test_a_page_links_to_what_exists(page: Path) -> None:
    assert broken_links(page) == []


def test_saboteur_page_that_names_what_is_gone_is_caught(tmp_path: Path) -> None:
    assert missing_places("`core/driver.py` · `Driver.get`, `stores/kv.py` · `KeyValue.get`") == []
    assert missing_places("`core/driver.py` · `Driver.gett`, `core/gone.py` · `f`") == [
        "core/driver.py · Driver.gett",
        "core/gone.py · f",
    ]
    page = tmp_path / "page.md"
    page.write_text("[one](page.md) [two](gone.md) [three](https://example.org)")
    assert broken_links(page) == ["gone.md"]


def test_the_architecture_names_every_step() -> None:
    assert len(PLACE.findall(ARCHITECTURE)) > 20


def test_every_table_of_a_file_is_in_the_architecture(tmp_path: Path) -> None:
    with holdfast.open(str(tmp_path / "agent.db")) as storage:
        connection = storage.connection()
        text = "SELECT name FROM sqlite_schema WHERE type = 'table'"
        held = {name for (name,) in connection.execute(text)}
        connection.close()
    section = ARCHITECTURE.partition("## The file")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == held


def test_the_limits_are_those_of_the_code() -> None:
    stated = LIMIT.findall(ARCHITECTURE)
    assert len(stated) > 10
    for figure, name in stated:
        module, _, constant = name.rpartition(".")
        assert int(figure.replace(",", "")) == getattr(import_module(module), constant), name


def test_every_folder_of_the_package_is_in_the_architecture() -> None:
    folders = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    files = {path.name for path in SOURCE.glob("*.py")} - {"__init__.py", "__main__.py"}
    section = ARCHITECTURE.partition("## What each folder is for")[2].partition("\n## ")[0]
    named = {line.split("|")[1] for line in section.splitlines() if line.startswith("| `")}
    listed = set(re.findall(r"`([\w.]+)/?`", " ".join(named)))
    assert listed == folders | files


def test_the_recipes_weights_are_those_of_the_code() -> None:
    text = (DOCS / "recall.md").read_text(encoding="utf-8")
    weights = f".{Recipe().text_weight * 10:.0f} for text and .{Recipe().vector_weight * 10:.0f}"
    assert weights in text


def test_the_recall_table_is_that_of_the_kept_results() -> None:
    text = report.PAGE.read_text(encoding="utf-8")
    assert report.page(text, report.kept()) == text, "run python -m bench.report"


def test_saboteur_typed_figure_is_replaced() -> None:
    measured = {"R@5": 0.5, "R@10": 0.6, "nDCG@10": 0.4}
    result = {"data": "locomo_public", "embedder": "hashed", "system": "Plain/hashed", "n": 9}
    result |= {"main": measured, "ci_R@10": [0.55, 0.65], "search_ms_median": 1.25}
    typed = f"above\n{report.START}\n| 99 |\n\n{report.END}\nbelow\n"
    made = report.page(typed, [result])
    assert "99" not in made
    assert "| .600 | .550 to .650 |" in made
    assert made.startswith("above\n")
    assert made.endswith("below\n")


def test_the_table_of_errors_is_that_of_the_code() -> None:
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    kinds = [kind for kind in vars(errors).values() if _is_error(kind)]
    assert len(kinds) > 20
    assert [row for row in map(_error_row, kinds) if row not in text] == []


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, errors.HoldfastError)


def _error_row(kind: type[errors.HoldfastError]) -> str:
    base = kind.__base__
    shown = "" if base in (Exception, errors.HoldfastError) or base is None else base.__name__
    again = "yes" if kind.retryable else "no"
    cells = (f"`{kind.__name__}`", f"`{shown}`" if shown else "", f"`{kind.code}`", again)
    return f"| {' | '.join(cells)} | {kind.exit_status} |"
