"""Fixtures of the conformance suite; loaded by pytest through its entry point.

The test module supplies ``harness``. Time and ids are manual, so no case sleeps or guesses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.driver import Driver
from holdfast.storage import Storage
from holdfast.testing.harness import Harness
from holdfast.testing.stage import START, Stage, runtime

__all__ = ["START", "runtime"]

pytest.register_assert_rewrite("holdfast.testing.suite")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark by which a harness knows which store a case needs."""
    text = "new_store: begins on a store that was never set up; others may get one that is empty"
    config.addinivalue_line("markers", text)


@pytest.fixture
def stage(harness: Harness) -> Iterator[Stage]:
    """The store of the case, and every handle on it; closed after the case."""
    made = Stage(harness)
    yield made
    made.close()


@pytest.fixture
def clock(stage: Stage) -> ManualClock:
    """The time of the case; moves only by ``clock.set``."""
    return stage.clock


@pytest.fixture
def open_driver(stage: Stage) -> Callable[[], Driver]:
    """Opens further instances of the driver on the same store; closed after the case."""
    return stage.open_driver


@pytest.fixture
def driver(stage: Stage) -> Driver:
    """A driver on an empty store, not set up."""
    return stage.open_driver()


@pytest.fixture
def open_storage(stage: Stage) -> Callable[..., Storage]:
    """Opens further handles on the same store, each through its own driver instance."""
    return stage.open_storage


@pytest.fixture
def storage(stage: Stage) -> Storage:
    """A handle on an empty store, bound to tenant "default"."""
    return stage.open_storage()
