"""The verbs on docs/stores/*.md are those of the stores, in the stores' own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.stores import STORES
from tools.generate_store_docs import PAGES, page, stores_without_page, tables

HELD = {path: path.read_text(encoding="utf-8") for path in sorted(PAGES.glob("*.md"))}
LINES = 12


@pytest.mark.parametrize("path", HELD, ids=lambda path: path.stem)
def test_a_page_is_fresh(path: Path) -> None:
    text = HELD[path]
    assert page(text) == text, "run python tools/generate_store_docs.py"


def test_every_store_has_a_page() -> None:
    assert stores_without_page(list(HELD.values())) == []
    assert stores_without_page(["<!-- verbs of storage.kv -->\n<!-- end of verbs -->"]) == sorted(
        STORES.keys() - {"kv"}
    )


@pytest.mark.parametrize("path", HELD, ids=lambda path: path.stem)
def test_a_page_says_what_is_promised_and_what_not(path: Path) -> None:
    text = HELD[path]
    assert [part for part in ("**Promised.**", "**Not promised.**") if part not in text] == []
    block = text.partition("```python\n")[2].partition("```")[0]
    assert 0 < len(block.splitlines()) <= LINES + 2, "the example is short"


def test_saboteur_stale_page_is_caught() -> None:
    stale = "one\n<!-- verbs of storage.kv -->\n| `gone()` | x |\n<!-- end of verbs -->\ntwo\n"
    fresh = page(stale)
    assert "gone" not in fresh
    assert "| `set(key, value, ...)` | Write the value and return the entry. |" in fresh
    assert fresh.startswith("one\n")
    assert fresh.endswith("two\n")


def test_facets_have_their_own_tables() -> None:
    text = tables("memory")
    assert "| `storage.memory.lifecycle` | " in text
    assert "| `sweep(...)` | Delete expired memories" in text
    assert "access_changes" not in text
