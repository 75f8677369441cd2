"""Every case of the suite. An engine's test module imports all of them."""

from holdfast.testing.suite.driver_apply import (
    TestDriverApply,
    TestDriverEdits,
    TestDriverReferences,
)
from holdfast.testing.suite.driver_feed import TestDriverFeed
from holdfast.testing.suite.driver_operations import (
    TestDriverOperations,
    TestDriverTenants,
    TestDriverUpkeep,
)
from holdfast.testing.suite.driver_setup import TestDriverEnds, TestDriverSetup
from holdfast.testing.suite.driver_shared import (
    TestDriverClaims,
    TestDriverDurability,
    TestDriverGroups,
    TestDriverSequences,
)
from holdfast.testing.suite.kv import TestKeyValue

__all__ = [
    "TestDriverApply",
    "TestDriverClaims",
    "TestDriverDurability",
    "TestDriverEdits",
    "TestDriverEnds",
    "TestDriverFeed",
    "TestDriverGroups",
    "TestDriverOperations",
    "TestDriverReferences",
    "TestDriverSequences",
    "TestDriverSetup",
    "TestDriverTenants",
    "TestDriverUpkeep",
    "TestKeyValue",
]
