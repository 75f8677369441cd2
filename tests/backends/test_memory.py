"""The memory engine under the whole suite."""

from typing import Any

import pytest

from holdfast.backends.memory import MemoryDriver
from holdfast.core.clock import Clock
from holdfast.core.collection import Collection
from holdfast.core.driver import Driver
from holdfast.core.filter import Record
from holdfast.layers.layer import Layer
from holdfast.testing import Harness
from holdfast.testing.suite import *  # noqa: F403


class _Shared(Layer):
    """A second opener shares the one store that this process has."""

    def close(self) -> None:
        pass


class MemoryHarness(Harness):
    name = "memory"

    def __init__(self) -> None:
        self._driver: MemoryDriver | None = None

    def open(self, clock: Clock) -> Driver:
        self._driver = self._driver or MemoryDriver(clock)
        return _Shared(self._driver)

    def plant(self, collection: Collection, tenant: str, record: Record) -> None:
        assert self._driver is not None
        self._driver._table(tenant, collection.name).records[collection.key_of(record)] = record

    def peek(self, collection: Collection, tenant: str) -> list[dict[str, Any]]:
        assert self._driver is not None
        return list(self._driver._table(tenant, collection.name).records.values())


@pytest.fixture
def harness() -> Harness:
    return MemoryHarness()
