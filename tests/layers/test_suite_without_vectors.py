"""The whole suite on an engine without vectors, as PostgreSQL is without pgvector."""

import msgspec
import pytest

from holdfast.core.capabilities import Capabilities, no
from holdfast.core.clock import Clock
from holdfast.core.driver import Driver
from holdfast.layers.layer import Layer
from holdfast.testing import Harness
from holdfast.testing.memory import MemoryHarness
from holdfast.testing.suite import *  # noqa: F403


class WithoutVectors(Layer):
    """Keeps vectors and does not search them."""

    def offers(self, below: Capabilities) -> Capabilities:
        return msgspec.structs.replace(below, vectors=no("there is no pgvector"))


class Bare(MemoryHarness):
    """The engine in memory, behind it."""

    def open(self, clock: Clock) -> Driver:
        return WithoutVectors(super().open(clock))

    def restore(self, target: str, clock: Clock) -> Driver:
        return WithoutVectors(super().restore(target, clock))


@pytest.fixture
def harness() -> Harness:
    return Bare()
