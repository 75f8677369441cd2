"""Every case of the suite. An engine's test module imports all of them."""

from holdfast.testing.suite.driver_apply import (
    TestDriverApply,
    TestDriverEdits,
    TestDriverReferences,
)
from holdfast.testing.suite.driver_setup import TestDriverEnds, TestDriverSetup
from holdfast.testing.suite.kv import TestKeyValue

__all__ = [
    "TestDriverApply",
    "TestDriverEdits",
    "TestDriverEnds",
    "TestDriverReferences",
    "TestDriverSetup",
    "TestKeyValue",
]
