"""How results read: on a terminal, in a notebook, and with hostile content."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import holdfast
from holdfast.cli.output import _field
from holdfast.cli.recall import _show_to_person
from holdfast.core.visible import bar, visible
from holdfast.stores.memory import Recollection


def recalled(*texts: str) -> Recollection:
    with holdfast.open("memory:") as storage:
        for turn, text in enumerate(texts):
            storage.memory.remember(text, speaker="Ada", session="kitchen", turn=turn)
        return storage.memory.recall(" ".join(texts), k=10)


def test_results_show_bars_legs_and_origin() -> None:
    text = str(recalled("the kettle is on", "the tea is gone"))
    first = text.splitlines()[0]
    assert first.startswith("  1 ████████ ")
    assert "text+vector" in first
    assert "Ada · kitchen #" in first
    assert "    the kettle is on" in text
    assert str(Recollection([])) == "Nothing recalled."


def test_flags_are_shown() -> None:
    assert str(Recollection(list(recalled("a tea")), ("rerank_failed",))).endswith(
        "flags: rerank_failed"
    )


def test_a_notebook_gets_a_table_and_no_markup_from_content() -> None:
    shown = recalled("<script>alert('tea')</script> & more")._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "<meter" in shown


def test_a_line_is_never_wider_than_asked() -> None:
    found = recalled("word " * 200, "x" * 500)
    for width in (60, 80, 120):
        assert max(len(line) for line in found.text(width).splitlines()) <= width


def test_bars_grow_with_the_share() -> None:
    lengths = [len(bar(share / 64).strip()) for share in range(65)]
    assert lengths == sorted(lengths)
    assert (bar(0).strip(), bar(1), bar(2), bar(-1).strip()) == ("", "█" * 8, "█" * 8, "")
    assert bar(1 / 16).strip() == "▌"


@given(st.text(st.characters(), max_size=50))
def test_visible_text_holds_nothing_that_acts(text: str) -> None:
    shown = visible(text)
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in shown)
    assert "\u202e" not in shown


@given(st.text(max_size=50), st.text(max_size=50))
def test_fields_of_a_line_stay_apart(one: str, two: str) -> None:
    line = "\t".join((_field(one), _field(two)))
    assert len(line.split("\t")) == 2
    assert len(line.splitlines()) <= 1
    assert (_field(one) == _field(two)) == (one == two)


def test_an_explained_recall_is_a_table_below_the_results(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with holdfast.open("memory:") as storage:
        storage.memory.remember_many(["the kettle is on", "the tea is gone"])
        found = storage.memory.recall("tea or kettle?", explain=True)
    _show_to_person(found, explain=True)
    shown = capsys.readouterr().out
    for line in ("words    tea kettl", "found    text 2, vector 2 (asked 200 of each)"):
        assert line in shown
    heads = next(line for line in shown.splitlines() if line.lstrip().startswith("score"))
    assert heads.split() == ["score", "text", "vector", "bm25", "cosine"]
    assert max(map(len, shown.splitlines())) <= 80
