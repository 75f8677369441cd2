"""Fixtures of the conformance suite; loaded by pytest through its entry point.

The test module supplies ``harness``. Time and ids are manual, so no case sleeps or guesses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from holdfast.core.clock import CountingIds, ManualClock
from holdfast.core.driver import Driver
from holdfast.core.runtime import Runtime
from holdfast.core.scope import Scope
from holdfast.layers.check import Checked
from holdfast.storage import Storage, all_collections
from holdfast.testing.harness import Harness

START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
"""A Monday at noon, when every case begins."""

pytest.register_assert_rewrite("holdfast.testing.suite")


@pytest.fixture
def clock() -> ManualClock:
    """The time of the case; moves only by ``clock.set``."""
    return ManualClock(START)


@pytest.fixture
def open_driver(harness: Harness, clock: ManualClock) -> Iterator[Callable[[], Driver]]:
    """Opens further instances of the driver on the same store; closed after the case."""
    opened: list[Driver] = []

    def open_one() -> Driver:
        driver = Checked(harness.open(clock))
        opened.append(driver)
        return driver

    yield open_one
    for driver in opened:
        driver.close()
    harness.close()


@pytest.fixture
def driver(open_driver: Callable[[], Driver]) -> Driver:
    """A driver on an empty store, not set up."""
    return open_driver()


@pytest.fixture
def open_storage(open_driver: Callable[[], Driver], clock: ManualClock) -> Callable[..., Storage]:
    """Opens further handles on the same store, each through its own driver instance."""
    opened = 0

    def open_one(**scope: str) -> Storage:
        nonlocal opened
        opened += 1
        driver = open_driver()
        driver.setup(all_collections())
        return Storage(driver, Scope(**scope), runtime(clock, f"id{opened}"))

    return open_one


@pytest.fixture
def storage(open_storage: Callable[..., Storage]) -> Storage:
    """A handle on an empty store, bound to tenant "default"."""
    return open_storage()


def runtime(clock: ManualClock, prefix: str) -> Runtime:
    """Manual time, counted ids, the deterministic embedder."""
    return Runtime(clock=clock, ids=CountingIds(prefix))
