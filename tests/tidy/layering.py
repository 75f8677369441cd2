"""Which part of the package may import which: the drawing in docs/architecture.md, as data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.tidy.source import PACKAGE, Module, Violation, modules

# A folder may import itself and what stands here. A folder that is missing here fails the check:
# where a new one stands is a decision, not an accident.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "core": frozenset(),
    "stores": frozenset({"core"}),
    "backends": frozenset({"core"}),
    "layers": frozenset({"core"}),
    "recall": frozenset({"core"}),
    "journal": frozenset({"core"}),
    "ingest": frozenset({"core", "stores"}),
    "move": frozenset({"core", "journal"}),
}

# What speaks to users. Nothing imports an edge, except that edge itself.
EDGES = frozenset({"__main__", "cli", "server", "mcp", "integrations", "dashboard"})

# What joins the two sides: the only places that see both stores and engines.
JOINTS = frozenset(
    {"", "open", "shared", "storage", "aio", "calls", "opening", "config", "testing"}
)

# Native engines belong behind the contract.
ENGINES = frozenset({"apsw", "sqlite3", "psycopg", "psycopg_pool", "qdrant_client", "redis"})
SHARED_BY_BACKENDS = frozenset({"sql", "segments"})


def breaches(root: Path) -> list[Violation]:
    """Every import that crosses a line it must not cross."""
    return [violation for module in modules(root) for violation in _of(module)]


def _of(module: Module) -> Iterator[Violation]:
    home = _part(module.parts)
    if home not in MAY_IMPORT and home not in EDGES and home not in JOINTS:
        text = (
            f"{PACKAGE}.{home} has no place in the layering; give it one in {Path(__file__).name}"
        )
        yield Violation(module.shown, 1, text)
    for item in module.imports:
        parts = tuple(item.target.split("."))
        reason = _ours(module.parts, parts) if parts[0] == PACKAGE else _engine(home, parts[0])
        if reason:
            yield Violation(module.shown, item.line, f"imports {item.target}: {reason}")


def _ours(source: tuple[str, ...], target: tuple[str, ...]) -> str:
    """Say why this import within the package is wrong, or nothing."""
    home, other = _part(source), _part(target)
    if other in EDGES:
        return "" if home == other or home == "__main__" else "nothing imports an edge"
    if home not in MAY_IMPORT:
        return ""
    if home != other:
        allowed = ", ".join(sorted(MAY_IMPORT[home] | {home}))
        return "" if other in MAY_IMPORT[home] else f"{home} imports only {allowed}"
    if home == "backends" and not _same_engine(source, target):
        return "a backend imports no other backend"
    return ""


def _same_engine(source: tuple[str, ...], target: tuple[str, ...]) -> bool:
    """`backends/__init__.py` names nothing; an engine sees itself and what all share."""
    own, other = (parts[2] if len(parts) > 2 else "" for parts in (source, target))
    return own == other or other in SHARED_BY_BACKENDS


def _engine(home: str, library: str) -> str:
    guarded = home in MAY_IMPORT and home != "backends"
    return "only backends touch an engine" if guarded and library in ENGINES else ""


def _part(parts: tuple[str, ...]) -> str:
    """The first name below the package; the package itself is the empty name.

    `from holdfast import open` may mean a module or a function; both belong to the joints, and
    any other name imported from the package itself counts as the package.
    """
    if len(parts) < 2:
        return ""
    known = parts[1] in MAY_IMPORT or parts[1] in EDGES or parts[1] in JOINTS
    return parts[1] if known or not parts[1][0].isupper() else ""
