"""How long a function and a file may be, and how wide the contract."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.tidy.source import PACKAGE, Module, Violation, modules

FUNCTION_SOFT = 40
FUNCTION_HARD = 70
FILE_HARD = 700
VERBS = 12

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Sized:
    """A function and its length without its docstring."""

    path: str
    line: int
    name: str
    lines: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.name} has {self.lines} lines"


def too_long(root: Path) -> list[Violation]:
    """Functions and files beyond the hard limits; generated files are exempt."""
    functions = [
        Violation(f.path, f.line, f"{f.name} has {f.lines} lines, at most {FUNCTION_HARD}")
        for f in functions_over(root, FUNCTION_HARD)
    ]
    files = [
        Violation(module.shown, 1, f"{count} lines, at most {FILE_HARD}")
        for module in modules(root)
        if not module.generated and (count := len(module.text.splitlines())) > FILE_HARD
    ]
    return functions + files


def functions_over(root: Path, limit: int) -> list[Sized]:
    """Functions longer than a limit, the longest first."""
    found = [f for m in modules(root) if not m.generated for f in _functions(m) if f.lines > limit]
    return sorted(found, key=lambda f: -f.lines)


def _functions(module: Module) -> Iterator[Sized]:
    for node in ast.walk(module.tree):
        if isinstance(node, Function):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1 - _docstring_lines(node)
            yield Sized(module.shown, node.lineno, node.name, lines)


def _docstring_lines(node: Function) -> int:
    if ast.get_docstring(node, clean=False) is None:
        return 0
    first = node.body[0]
    return (first.end_lineno or first.lineno) - first.lineno + 1


def too_many_verbs(root: Path) -> list[Violation]:
    """The contract's breadth: its abstract methods, or all public ones if it is a Protocol."""
    driver = Module(root, root / PACKAGE / "core" / "driver.py")
    found = [n for n in driver.tree.body if isinstance(n, ast.ClassDef) and n.name == "Driver"]
    if not found:
        return [Violation(driver.shown, 1, "there is no class Driver")]
    verbs = verbs_of(found[0])
    if 0 < len(verbs) <= VERBS:
        return []
    text = f"Driver has {len(verbs)} verbs, at least 1 and at most {VERBS}: {', '.join(verbs)}"
    return [Violation(driver.shown, found[0].lineno, text)]


def verbs_of(driver: ast.ClassDef) -> list[str]:
    """Names of the methods that a backend has to supply."""
    is_protocol = any("Protocol" in ast.unparse(base) for base in driver.bases)
    methods = [node for node in driver.body if isinstance(node, Function)]
    return [
        m.name
        for m in methods
        if any("abstract" in ast.unparse(d) for d in m.decorator_list)
        or (is_protocol and not m.name.startswith("_"))
    ]
