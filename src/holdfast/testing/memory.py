"""The memory engine's harness; also the shortest example of one."""

from __future__ import annotations

from typing import Any

from holdfast.backends.memory import MemoryDriver
from holdfast.core.clock import Clock
from holdfast.core.collection import Collection
from holdfast.core.driver import Driver
from holdfast.core.filter import Record
from holdfast.layers.layer import Layer
from holdfast.testing.harness import Harness


class _Shared(Layer):
    """A second opener shares the one store that this process has."""

    def close(self) -> None:
        pass


class MemoryHarness(Harness):
    """All openers share one engine. ``engine`` may be a subclass: a saboteur, say."""

    name = "memory"

    def __init__(self, engine: type[MemoryDriver] = MemoryDriver) -> None:
        self._engine = engine
        self._driver: MemoryDriver | None = None

    def open(self, clock: Clock) -> Driver:
        self._driver = self._driver or self._engine(clock)
        return _Shared(self._driver)

    def plant(self, collection: Collection, tenant: str, record: Record) -> None:
        assert self._driver is not None
        self._driver._table(tenant, collection.name).put(collection.key_of(record), record, None)

    def peek(self, collection: Collection, tenant: str) -> list[dict[str, Any]]:
        assert self._driver is not None
        return list(self._driver._table(tenant, collection.name).records.values())
