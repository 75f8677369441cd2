"""The scratch backend under the shipped suite."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from scratch_backend import ScratchDriver, open_scratch

from holdfast.core.clock import Clock
from holdfast.core.collection import Collection
from holdfast.core.driver import Driver
from holdfast.core.filter import Record
from holdfast.testing import Harness
from holdfast.testing.suite import *  # noqa: F403


class ScratchHarness(Harness):
    """Each test has a store of its own, which all its openers share."""

    name = "scratch"

    def __init__(self) -> None:
        self._url = f"scratch:{uuid4()}"
        self._driver: ScratchDriver | None = None

    def open(self, clock: Clock) -> Driver:
        opened = open_scratch(self._url, clock)
        assert isinstance(opened, ScratchDriver)
        self._driver = opened
        return opened

    def plant(self, collection: Collection, tenant: str, record: Record) -> None:
        self._records(collection, tenant)[collection.key_of(record)] = record

    def peek(self, collection: Collection, tenant: str) -> list[dict[str, Any]]:
        return list(self._records(collection, tenant).values())

    def _records(self, collection: Collection, tenant: str) -> dict[tuple[Any, ...], Record]:
        """Behind the driver's back: the dictionary in which the records are."""
        assert self._driver is not None
        return self._driver.engine._table(tenant, collection.name).records


@pytest.fixture
def harness() -> Harness:
    return ScratchHarness()
