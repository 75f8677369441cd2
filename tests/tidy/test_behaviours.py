"""The contract's sentences and the suite's tests are the same list."""

from __future__ import annotations

from tests.tidy.behaviours import unproved
from tests.tidy.conftest import Tree
from tests.tidy.source import SRC, assert_clean


def test_every_behaviour_has_a_test_and_every_test_a_behaviour() -> None:
    assert_clean(unproved(SRC))


def pair(promises: str, *names: str) -> dict[str, str]:
    return {
        "holdfast/core/driver.py": f'class Driver:\n    """A driver.\n\n{promises}\n    """\n',
        "holdfast/testing/suite.py": "".join(f"def {name}(): ...\n" for name in names),
    }


def test_saboteur_sentence_without_a_test_is_caught(tree: Tree) -> None:
    root = tree(pair("    B01. One.\n    B02. Two.", "test_b01_one", "about_b02"))
    assert ["B02 has no test" in str(v) for v in unproved(root)] == [True]


def test_saboteur_test_without_a_sentence_is_caught(tree: Tree) -> None:
    root = tree(pair("    B01. One.", "test_b01_one", "test_B07_gone"))
    assert ["names B07" in str(v) for v in unproved(root)] == [True]


def test_saboteur_number_used_twice_is_caught(tree: Tree) -> None:
    root = tree(pair("    B01. One.\n    B01. Other.", "test_b01"))
    assert ["2 times" in str(v) for v in unproved(root)] == [True]


def test_saboteur_contract_without_numbers_is_caught(tree: Tree) -> None:
    assert unproved(tree(pair("    One.", "test_one")))


def test_b1_is_not_b10(tree: Tree) -> None:
    root = tree(pair("    B01. One.\n    B010. Ten.", "test_b01_x", "test_tab01_x", "test_b1_row"))
    assert ["B010 has no test" in str(v) for v in unproved(root)] == [True]
