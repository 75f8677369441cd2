"""The memory engine under the whole suite."""

import pytest

from holdfast.testing import Harness
from holdfast.testing.memory import MemoryHarness
from holdfast.testing.suite import *  # noqa: F403


@pytest.fixture
def harness() -> Harness:
    return MemoryHarness()
