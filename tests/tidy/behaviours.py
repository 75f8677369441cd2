"""Each numbered sentence of the contract is the name of a test, and each such test has one."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

from tests.tidy.source import PACKAGE, Module, Violation, modules

SENTENCE = re.compile(r"^\s*B(\d+)\.\s+\S", re.MULTILINE)
# At least two digits, so that a row of a table called B1 is not taken for a behaviour.
TESTED = re.compile(r"(?:^|_)b(\d{2,})(?=_|$)", re.IGNORECASE)

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def unproved(root: Path) -> list[Violation]:
    """Sentences without a test, tests without a sentence, and numbers used twice."""
    driver = Module(root, root / PACKAGE / "core" / "driver.py")
    promised = Counter(promises(driver))
    tested = set(tests(root))
    if not promised:
        return [Violation(driver.shown, 1, "no numbered behaviours (`B01. ...`) in its docstrings")]
    texts = [
        *(f"B{n} is written {times} times" for n, times in promised.items() if times > 1),
        *(f"B{n} has no test in {PACKAGE}.testing" for n in sorted(set(promised) - tested)),
        *(f"a test names B{n}, which the contract lacks" for n in sorted(tested - set(promised))),
    ]
    return [Violation(driver.shown, 1, text) for text in texts]


def promises(driver: Module) -> list[str]:
    """Numbers in the docstrings of the contract, as written (`01`)."""
    texts = [
        ast.get_docstring(node) or ""
        for node in ast.walk(driver.tree)
        if isinstance(node, Documented)
    ]
    return [number for text in texts for number in SENTENCE.findall(text)]


def tests(root: Path) -> list[str]:
    """Numbers in the names of the shipped suite's tests."""
    return [
        number
        for module in modules(root, "testing")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.name.startswith("test")
        for number in TESTED.findall(node.name)
    ]
