"""What the source must not use: hidden clocks and chance, code from data, empty names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.tidy.source import Module, Violation, modules

# The contract and the stores get their clock and their ids handed in, so that a test can stand
# still or jump. core/clock.py is the one place where the real ones are made.
INJECTED = (
    "time.",
    "random.",
    "secrets.",
    "uuid.uuid",
    "uuid.getnode",
    "uuid_utils.",
    "os.urandom",
    "os.getrandom",
    "asyncio.sleep",
    "numpy.random",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
)
CLOCK = "holdfast/core/clock.py"

# What starts and stops other programs has to wait for them.
WAITS_FOR_PROGRAMS = "holdfast/testing/servers/"

# Bytes from a database must never become code.
CODE_FROM_DATA = frozenset(
    {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle"}
)
EVALUATORS = frozenset({"eval", "exec"})

# Names that say nothing about what a thing is.
EMPTY_NAMES = frozenset({"manager", "helper", "util", "utility", "common"})


def hidden_inputs(root: Path) -> list[Violation]:
    """Clock, chance and sleep in core and stores, called or passed on."""
    return [
        Violation(module.shown, node.lineno, f"{name} must be injected")
        for module in modules(root, "core", "stores")
        if module.shown != CLOCK
        for node, name in _used(module)
        if name.startswith(INJECTED)
    ]


def sleeping_cases(root: Path) -> list[Violation]:
    """Sleep and real time in the shipped suite: a case that waits for time is slow and guesses."""
    return [
        Violation(module.shown, node.lineno, f"{name}: a case moves its clock by hand")
        for module in modules(root, "testing")
        if not module.shown.startswith(WAITS_FOR_PROGRAMS)
        for node, name in _used(module)
        if name.startswith(("time.", "asyncio.sleep"))
    ]


def _used(module: Module) -> Iterator[tuple[ast.expr, str]]:
    """Each expression that reads an imported thing, once, with its full dotted name."""
    inner = {id(n.value) for n in ast.walk(module.tree) if isinstance(n, ast.Attribute)}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name | ast.Attribute) and id(node) not in inner:
            yield node, module.meaning(node)


def code_from_data(root: Path) -> list[Violation]:
    """Serializers that run code, evaluators, and numpy's door to pickle."""
    return [violation for module in modules(root) for violation in _code_from_data(module)]


def _code_from_data(module: Module) -> Iterator[Violation]:
    for item in module.imports:
        if item.target.partition(".")[0] in CODE_FROM_DATA:
            yield Violation(module.shown, item.line, f"{item.target} turns stored bytes into code")
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in EVALUATORS:
            yield Violation(module.shown, node.lineno, f"{node.func.id}() runs text as code")
        for keyword in node.keywords:
            off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            if keyword.arg == "allow_pickle" and not off:
                yield Violation(module.shown, node.lineno, "allow_pickle opens a door to pickle")


def bare_excepts(root: Path) -> list[Violation]:
    """`except:` also swallows the interrupt of a person who wants to stop."""
    return [
        Violation(module.shown, node.lineno, "bare except")
        for module in modules(root)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]


def empty_names(root: Path) -> list[Violation]:
    """Classes, modules and folders whose name would fit anything."""
    return [violation for module in modules(root) for violation in _empty_names(module)]


def _empty_names(module: Module) -> Iterator[Violation]:
    if words(module.parts[-1]) & EMPTY_NAMES:
        yield Violation(module.shown, 1, f"module name {module.parts[-1]} says nothing")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef) and words(node.name) & EMPTY_NAMES:
            yield Violation(module.shown, node.lineno, f"class name {node.name} says nothing")


def words(name: str) -> set[str]:
    """The words of a name, in the singular: `SQLHelpers` and `sql_helpers` are sql, helper."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    singular = (re.sub(r"(?<=[^s])s$", "", p.lower()) for p in parts)
    return {"utility" if word == "utilitie" else word for word in singular}
