"""Every row of docs/checklist.md names the tests that prove it, or says why there is none."""

from __future__ import annotations

import pytest

from tests.tidy.conftest import Tree
from tests.tidy.source import REPOSITORY
from tools import generate_checklist
from tools.generate_checklist import PAGE, Proofs, faults, page, proofs

FOUND = proofs(REPOSITORY)
TEXT = (REPOSITORY / PAGE).read_text(encoding="utf-8")


def test_every_row_is_proved_or_says_why_not() -> None:
    assert faults(TEXT, FOUND) == []


def test_the_page_is_fresh() -> None:
    assert page(TEXT, FOUND) == TEXT, "run python tools/generate_checklist.py"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate_checklist, "ELSEWHERE", {})
    monkeypatch.setattr(generate_checklist, "SENTENCES", {})


def collected(tree: Tree) -> Proofs:
    suite = "src/holdfast/testing/suite"
    return proofs(
        tree(
            {
                f"{suite}/driver_x.py": "def test_b11_sentence(): ...\ndef test_a2_row(): ...\n",
                f"{suite}/x.py": "class T:\n    def test_b1_b11_rows(self): ...\n",
                "tests/x/test_x.py": "def test_a2_more(): ...\ndef test_other(): ...\n",
            }
        )
    )


def test_names_say_rows_and_in_the_contract_sentences(tree: Tree) -> None:
    found = collected(tree)
    assert found.sentences == {"B11": ["test_b11_sentence"]}
    assert found.rows == {
        "A2": ["test_a2_row", "tests/x/test_x.py::test_a2_more"],
        "B1": ["test_b1_b11_rows"],
        "B11": ["test_b1_b11_rows"],
    }


def test_the_column_is_made_and_the_rest_kept(tree: Tree, bare: None) -> None:
    text = "intro\n| A2 | what | stale | a remark |\n| C9 | x | stale | not yet: nobody did |\n"
    assert page(text, collected(tree)) == (
        "intro\n"
        "| A2 | what | `test_a2_row`<br>`tests/x/test_x.py::test_a2_more` | a remark |\n"
        "| C9 | x | - | not yet: nobody did |\n"
    )


def test_saboteur_row_without_a_test_is_caught(tree: Tree, bare: None) -> None:
    found = collected(tree)
    for remark in ("", "done", "not yet", "not yet: "):
        assert len(faults(f"| C9 | x | `test_a2_row` | {remark} |", found)) == 1
    assert faults("| C9 | x | - | not yet: nobody did |", found) == []
    assert faults("no table", found) == ["the page has no rows"]


def test_saboteur_name_that_is_gone_is_caught(
    tree: Tree, bare: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "| A2 | x | - | |".replace("| |", "|  |")
    monkeypatch.setattr(generate_checklist, "ELSEWHERE", {"A2": ("tests/x/test_x.py::test_gone",)})
    monkeypatch.setattr(generate_checklist, "SENTENCES", {"A2": ("B99",), "Z1": ("B11",)})
    assert len(faults(text, collected(tree))) == 3
