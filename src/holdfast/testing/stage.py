"""One case's store, time and handles: what the fixtures give, also usable without pytest."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from holdfast.core.clock import CountingIds, ManualClock
from holdfast.core.driver import Driver
from holdfast.core.runtime import Runtime
from holdfast.core.scope import Scope
from holdfast.layers.check import Checked
from holdfast.recall.embedders import HashEmbedder
from holdfast.recall.recipe import Recipe
from holdfast.storage import Storage, all_collections
from holdfast.testing.harness import Harness

START: Final = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
"""A Monday at noon, when every case begins."""

EMBEDDER: Final = HashEmbedder(256)
"""As `open` gives it, but narrower; shared, because it remembers the terms that it hashed."""

Wrap = Callable[[Driver], Driver]


class Stage:
    """Opens handles on one harness and closes them all. ``wrap`` goes around each engine."""

    def __init__(self, harness: Harness, wrap: Wrap = Checked) -> None:
        self.harness = harness
        self.clock = ManualClock(START)
        self._wrap = wrap
        self._opened: list[Driver] = []
        self._handles = itertools.count(1)  # also counted by several threads at once

    def open_driver(self) -> Driver:
        """A further handle on the store, not set up."""
        driver = self._wrap(self.harness.open(self.clock))
        self._opened.append(driver)
        return driver

    def open_storage(self, **scope: str) -> Storage:
        """A further storage on the store, through its own driver."""
        prefix = f"id{next(self._handles)}"
        driver = self.open_driver()
        driver.setup(all_collections())
        return Storage(driver, Scope(**scope), runtime(self.clock, prefix))

    def lacks_vectors(self) -> str | None:
        """Why an engine that was opened here has none; None where all have them."""
        offered = [driver.capabilities.vectors for driver in self._opened]
        return next((vectors.reason for vectors in offered if not vectors), None)

    def close(self) -> None:
        """Close every handle, then remove the store."""
        for driver in self._opened:
            driver.close()
        self.harness.close()

    def play(self, case: Callable[..., Any], **arguments: Any) -> None:
        """Run one case of the suite here, with the fixtures that it asks for."""
        given: dict[str, Callable[[], Any]] = {
            "harness": lambda: self.harness,
            "clock": lambda: self.clock,
            "open_driver": lambda: self.open_driver,
            "open_storage": lambda: self.open_storage,
            "driver": self.open_driver,
            "storage": self.open_storage,
        }
        wanted = [name for name in inspect.signature(case).parameters if name in given]
        try:
            case(**{name: given[name]() for name in wanted}, **arguments)
        finally:
            self.close()


def runtime(clock: ManualClock, prefix: str) -> Runtime:
    """Manual time, counted ids, the deterministic embedder and the recipe."""
    return Runtime(clock=clock, ids=CountingIds(prefix), embedder=EMBEDDER, ranker=Recipe())
