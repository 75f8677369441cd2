"""Stores: what records mean, written once. None of them knows an engine.

To add one, write its file and add its line to STORES (docs/add-a-store.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from holdfast.core.collection import Collection
    from holdfast.stores.store import Store


class BuiltIn(NamedTuple):
    """Where a store is written, and which module has its ``COLLECTIONS``.

    Opening needs the shapes of all stores, and few processes the verbs of all: so each is
    imported when it is first used, and a store of many verbs keeps its shapes apart from them.
    """

    module: str
    name: str
    shapes: str


class BuiltIns(Mapping[str, "type[Store]"]):
    """The built-in stores by name, imported one by one."""

    def __init__(self, places: Mapping[str, BuiltIn]) -> None:
        self._places = places

    def __getitem__(self, name: str) -> type[Store]:
        place = self._places[name]
        kind: type[Store] = getattr(import_module(place.module), place.name)
        return kind

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def has(self, kind: type[Store]) -> bool:
        """Whether it is one of them; imports none."""
        written = (kind.__module__, kind.__qualname__)
        return any(written == place[:2] for place in self._places.values())

    def collections(self) -> dict[str, Collection]:
        """Every shape of theirs by its name."""
        modules = dict.fromkeys(place.shapes for place in self._places.values())
        return {c.name: c for module in modules for c in import_module(module).COLLECTIONS}


def _built_in(path: str, name: str, shapes: str = "") -> BuiltIn:
    module = f"{__name__}.{path}"
    return BuiltIn(module, name, f"{__name__}.{shapes}" if shapes else module)


STORES: Final = BuiltIns(
    {
        "audit": _built_in("audit.audit", "Audit", "audit.records"),
        "checkpoints": _built_in("checkpoints.checkpoints", "Checkpoints", "checkpoints.records"),
        "conversations": _built_in(
            "conversations.conversations", "Conversations", "conversations.records"
        ),
        "knowledge": _built_in("knowledge.knowledge", "Knowledge", "knowledge.records"),
        "kv": _built_in("kv", "KeyValue"),
        "memory": _built_in("memory.memories", "Memories", "memory.records"),
        "projects": _built_in("tasks.projects", "Projects", "tasks.records"),
        "rooms": _built_in("rooms", "Rooms"),
        "tasks": _built_in("tasks.tasks", "Tasks", "tasks.records"),
        "sessions": _built_in("sessions.sessions", "Sessions", "sessions.records"),
        "tool_events": _built_in("tool_events", "ToolEvents"),
    }
)
"""Attribute of Storage -> its store."""
