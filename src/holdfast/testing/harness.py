"""What an engine tells the suite: how to open it, and how to look behind its back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any

from holdfast.core.clock import Clock
from holdfast.core.collection import Collection
from holdfast.core.driver import Driver
from holdfast.core.filter import Record


class Cannot(Exception):
    """This engine has no way to do that; the reason is the message."""


class Harness(ABC):
    """One empty store for one test. The suite opens it as often as it needs."""

    name: str

    @abstractmethod
    def open(self, clock: Clock) -> Driver:
        """A new driver instance on this harness's store, not set up yet."""

    @abstractmethod
    def plant(self, collection: Collection, tenant: str, record: Record) -> None:
        """Write a whole record, revision included, without the driver, as another program would.

        The store was set up. Full-text and vector indexes need not learn of it.
        """

    @abstractmethod
    def peek(self, collection: Collection, tenant: str) -> list[dict[str, Any]]:
        """The stored rows, read without the driver; raw column values."""

    def url(self) -> str:
        """The URL by which another process opens the same store."""
        raise Cannot("another process cannot reach it")

    def restore(self, target: str, clock: Clock) -> Driver:
        """A driver on the copy that `backup` wrote to ``target``."""
        raise Cannot("there are no copies of it")

    def pause(self) -> AbstractContextManager[None]:
        """Make the engine stop answering until the block ends."""
        raise Cannot("it runs in this process")

    def close(self) -> None:  # noqa: B027 - most engines leave nothing
        """Remove what the test left."""
