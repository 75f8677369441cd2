"""No module imports itself by way of others, not even inside a function or for types alone."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path

from tests.tidy.source import Violation, modules


def circles(root: Path) -> list[Violation]:
    """Every import that closes a circle, with the way around."""
    held = {".".join(module.parts): module for module in modules(root)}
    graph: dict[str, dict[str, int]] = {}
    for name, module in held.items():
        imported = {_module(item.target, held): item.line for item in module.imports}
        graph[name] = {other: line for other, line in imported.items() if other not in ("", name)}
    return [
        Violation(held[way[-2]].shown, graph[way[-2]][way[-1]], f"a circle: {' -> '.join(way)}")
        for way in _closed(graph)
    ]


def _module(target: str, known: Container[str]) -> str:
    """The module that an imported name is in, or is; empty for what is not ours."""
    while target and target not in known:
        target = target.rpartition(".")[0]
    return target


def _closed(graph: dict[str, dict[str, int]]) -> Iterator[list[str]]:
    """The way of every import that leads back to a module that the walk came by."""
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> Iterator[list[str]]:
        for other in sorted(graph[name]):
            if other in way:
                yield [*way[way.index(other) :], other]
            elif other not in done:
                yield from walk(other, [*way, other])
        done.add(name)

    for name in sorted(graph):
        if name not in done:
            yield from walk(name, [name])
