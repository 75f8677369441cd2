"""Fixtures of the conformance suite; loaded by pytest through its entry point.

The test module supplies ``harness``. Time and ids are manual, so no case sleeps or guesses.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.driver import Driver
from holdfast.core.errors import Invalid, Unsupported
from holdfast.storage import Storage
from holdfast.testing.harness import Harness
from holdfast.testing.stage import START, Stage, runtime

__all__ = ["START", "runtime"]

pytest.register_assert_rewrite("holdfast.testing.suite")

UNMET = (Unsupported, Invalid, AssertionError, pytest.fail.Exception, TypeError, LookupError)
"""How a case about vectors ends without any: it is refused, or does not find what it looks for."""


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks of cases that are not for every store or engine."""
    for text in (
        "new_store: begins on a store that was never set up; others may get one that is empty",
        "needs_vectors: about vectors; told as skipped by an engine that says it has none",
    ):
        config.addinivalue_line("markers", text)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Run every case, and skip one about vectors that an engine without them could not pass.

    What an engine raises beside its refusal is a failure, here as elsewhere.
    """
    try:
        return (yield)
    except UNMET:
        stage = pyfuncitem.funcargs.get("stage")
        if pyfuncitem.get_closest_marker("needs_vectors") is None or not isinstance(stage, Stage):
            raise
        lacking = stage.lacks_vectors()
        if lacking is None:
            raise
        pytest.skip(f"no vectors: {lacking}")


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
