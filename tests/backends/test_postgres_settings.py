"""F36: the same answers whatever a server's settings are, down to order, instants and bytes."""

import pytest

from holdfast.testing import Harness
from holdfast.testing.postgres import PostgresHarness
from holdfast.testing.suite.driver_apply import *  # noqa: F403
from holdfast.testing.suite.driver_query import *  # noqa: F403
from holdfast.testing.suite.driver_search import *  # noqa: F403
from holdfast.testing.suite.driver_setup import *  # noqa: F403

UNUSUAL = {
    "TimeZone": "Asia/Kathmandu",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-2",
    "standard_conforming_strings": "off",
    "backslash_quote": "on",
    "default_transaction_isolation": "repeatable read",
    "search_path": "nowhere",
    "jit": "off",
    "enable_seqscan": "off",
    "plan_cache_mode": "force_generic_plan",
    "row_security": "on",
    "xmlbinary": "hex",
}


@pytest.fixture
def harness(request: pytest.FixtureRequest) -> Harness:
    new = request.node.get_closest_marker("new_store") is not None
    return PostgresHarness(new=new, settings=tuple(UNUSUAL.items()))
